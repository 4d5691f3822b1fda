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

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonfuncs.h"

#include "base/compat.h"
#include "lines.h"

/* What a line has for a column: a string or a number, or what is neither. */
typedef struct Value
{
	JsonTokenType type;			/* JSON_TOKEN_NULL if there is none */
	char	   *text;
} Value;

typedef struct Parse
{
	JsonLexContext *lex;
	const LineShape *shape;
	unsigned	columns;		/* a bit for each that the line's field is of that is read now */
	bool		is_object;
	Value		values[CLICK_COLUMNS];
} Parse;

/* Of fields of the same name, the last one counts. */
static void
keep_value(Parse *p, JsonTokenType type, char *text)
{
	unsigned	columns = p->lex->lex_level == 1 ? p->columns : 0;

	for (; columns != 0; columns &= columns - 1)
		p->values[pg_rightmost_one_pos32(columns)] = (Value) {type, text};
}

static compat_json_result
object_start(void *state)
{
	Parse	   *p = state;

	if (p->lex->lex_level == 0)
		p->is_object = true;
	keep_value(p, JSON_TOKEN_OBJECT_START, NULL);
	return compat_json_success;
}

static compat_json_result
array_start(void *state)
{
	keep_value(state, JSON_TOKEN_ARRAY_START, NULL);
	return compat_json_success;
}

static compat_json_result
field_start(void *state, char *name, bool isnull)
{
	Parse	   *p = state;

	if (p->lex->lex_level != 1)
		return compat_json_success;
	p->columns = 0;
	for (int i = 0; i < CLICK_COLUMNS; i++)
	{
		const char *wanted = p->shape->names[i];

		/* few names begin alike */
		if (wanted && wanted[0] == name[0] && strcmp(wanted, name) == 0)
			p->columns |= 1 << i;
	}
	return compat_json_success;
}

static compat_json_result
scalar(void *state, char *token, JsonTokenType type)
{
	keep_value(state, type, token);
	return compat_json_success;
}

/* A number as the input functions of integers take it. */
static char *
number_text(char *token)
{
	Datum		number;

	if (strpbrk(token, "eE") == NULL)
		return token;
	number = DirectFunctionCall3(numeric_in, CStringGetDatum(token), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	return DatumGetCString(DirectFunctionCall1(numeric_out, number));
}

/* An empty string is no value, as in CSV: servers that write logs have no other way to say so. */
static char *
text_of(const Value *value, const char *name)
{
	switch (value->type)
	{
		case JSON_TOKEN_NULL:
			return NULL;
		case JSON_TOKEN_STRING:
			return value->text[0] == '\0' ? NULL : value->text;
		case JSON_TOKEN_NUMBER:
			return number_text(value->text);
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					 errmsg("\"%s\" is neither a string nor a number", name)));
	}
	return NULL;
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
server_text(const Line *line, int *length)
{
	char	   *text;

	if (memchr(line->start, '\0', line->length))
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the line has a zero byte")));
	text = pg_any_to_server(line->start, line->length, PG_UTF8);
	*length = text == line->start ? line->length : strlen(text);
	return text;
}

static void
parse_line(Parse *p, const Line *line)
{
	int			length;
	char	   *text = server_text(line, &length);
	JsonSemAction actions = {
		.semstate = p,
		.object_start = object_start,
		.array_start = array_start,
		.object_field_start = field_start,
		.scalar = scalar
	};

	p->lex = compat_json_lexer(text, length);
	for (int i = 0; i < CLICK_COLUMNS; i++)
		p->values[i].type = JSON_TOKEN_NULL;
	pg_parse_json_or_ereport(p->lex, &actions);
	if (!p->is_object)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("the line is no JSON object")));
}

static void
fill_row(const LineShape *shape, LineSink *sink, const Line *line)
{
	Parse		p = {.shape = shape};
	char	   *texts[CLICK_COLUMNS];

	parse_line(&p, line);
	for (int i = 0; i < CLICK_COLUMNS; i++)
		texts[i] = text_of(&p.values[i], shape->names[i]);
	lines_fill_row(shape, sink, texts);
}

void
json_fill(const LineShape *shape, LineSink *sink, const Line *lines, int n, int *done)
{
	for (; *done < n; (*done)++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_blank(&lines[*done]))
			fill_row(shape, sink, &lines[*done]);
	}
}
