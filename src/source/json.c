/*-------------------------------------------------------------------------
 *
 * json.c
 *	  Lines of JSON: an object each.
 *
 * See lines.h.  The server's parser is bounded by the depth of its stack, and a line by the
 * bytes that are read at once.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "lines.h"

/* An empty string is no value, as in CSV: servers that write logs have no other way to say so. */
static char *
text_of(const JsonbValue *value, const char *name)
{
	switch (value->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return value->val.string.len == 0 ? NULL : pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					 errmsg("\"%s\" is neither a string nor a number", name)));
	}
	return NULL;
}

static void
fill_row(const LineShape *shape, LineSink *sink, Jsonb *object)
{
	char	   *texts[CLICK_COLUMNS];

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("the line is no JSON object")));
	for (int i = 0; i < CLICK_COLUMNS; i++)
	{
		JsonbValue	found;
		const char *name = shape->names[i];

		texts[i] = name && getKeyJsonValueFromContainer(&object->root, name, strlen(name), &found) ?
			text_of(&found, name) : NULL;
	}
	lines_fill_row(shape, sink, texts);
}

static bool
is_blank(const Line *line)
{
	for (int i = 0; i < line->length; i++)
		if (line->start[i] != ' ' && line->start[i] != '\t' && line->start[i] != '\r')
			return false;
	return true;
}

/* A line may have any bytes; JSON is in UTF-8. */
static char *
server_text(const Line *line)
{
	char	   *text = pnstrdup(line->start, line->length);

	if (strlen(text) != line->length)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the line has a zero byte")));
	return pg_any_to_server(text, line->length, PG_UTF8);
}

void
json_fill(const LineShape *shape, LineSink *sink, const Line *lines, int n, int *done)
{
	for (; *done < n; (*done)++)
	{
		const Line *line = &lines[*done];

		CHECK_FOR_INTERRUPTS();
		if (!is_blank(line))
			fill_row(shape, sink, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(server_text(line)))));
	}
}
