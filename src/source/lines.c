/*-------------------------------------------------------------------------
 *
 * lines.c
 *	  Lines of log files become clicks in the inbox.
 *
 * See lines.h.  Lines are read many at a time, in a subtransaction that writes nothing; an
 * error ends it, those before it stay, and the line is tried once more alone, as what it
 * ran into may have been its neighbours.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/elog.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "lines.h"
#include "store/store.h"

/* How much of a line, and of an error, is kept, in bytes. */
#define KEPT_LINE 1000
#define KEPT_REASON 500

void
lines_begin(LineShape *shape, const StoreSource *source)
{
	memset(shape, 0, sizeof(*shape));
	shape->is_json = source->is_json;
	shape->fields = store_open_lines();
	for (int i = 0; i < CLICK_COLUMNS; i++)
	{
		Oid			function;

		shape->names[i] = source->columns[i];
		getTypeInputInfo(click_column_types[i], &function, &shape->parameters[i]);
		fmgr_info(function, &shape->input[i]);
	}
}

void
lines_end(LineShape *shape)
{
	relation_close(shape->fields, AccessShareLock);
}

void
lines_fill_row(const LineShape *shape, LineSink *sink, char *const *texts)
{
	TupleTableSlot *slot = inbox_put_slot(sink->inbox, sink->nrows);

	for (int i = 0; i < CLICK_COLUMNS; i++)
	{
		if (texts[i] == NULL)
			continue;
		slot->tts_values[i] = InputFunctionCall((FmgrInfo *) &shape->input[i], texts[i], shape->parameters[i], -1);
		slot->tts_isnull[i] = false;
	}
	if (slot->tts_isnull[CLICK_AD_ID - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("no ad_id")));
	sink->nrows++;
}

void
lines_flush(LineSink *sink)
{
	inbox_put(sink->inbox, sink->nrows);
	sink->lines += sink->nrows;
	sink->nrows = 0;
	MemoryContextReset(sink->batch);
}

/* Bytes as a text: those that are none, and control characters, as \xNN. */
static char *
shown_text(const char *bytes, int n)
{
	int			shown = Min(n, KEPT_LINE);
	char	   *text = palloc(shown * 4 + 1);
	char	   *end = text;

	for (int i = 0; i < shown;)
	{
		int			length = pg_encoding_verifymbchar(GetDatabaseEncoding(), bytes + i, shown - i);
		bool		is_control = length == 1 && (unsigned char) bytes[i] < ' ' && bytes[i] != '\t';

		/* where nothing is checked, what is no ASCII is left to nobody's guess */
		if (GetDatabaseEncoding() == PG_SQL_ASCII && IS_HIGHBIT_SET(bytes[i]))
			length = -1;
		if (length <= 0 || is_control)
		{
			end += sprintf(end, "\\x%02X", (unsigned char) bytes[i++]);
			continue;
		}
		memcpy(end, bytes + i, length);
		end += length;
		i += length;
	}
	*end = '\0';
	return text;
}

void
lines_set_aside(LineSink *sink, const char *bytes, int n, int64 offset, int sqlstate, const char *reason)
{
	StoreBadLine line = {sink->path, offset};

	sink->bad_lines++;
	if (sink->room < 0)
		sink->room = store_room_for_bad_lines(sink->source);
	if (sink->room == 0)
		return;
	sink->room--;
	line.line = shown_text(bytes, n);
	line.sqlstate = unpack_sql_state(sqlstate);
	line.reason = pnstrdup(reason, pg_mbcliplen(reason, strlen(reason), KEPT_REASON));
	store_put_bad_line(sink->source, &line);
}

/* Lines that are read in a subtransaction. */
typedef struct Attempt
{
	const LineShape *shape;
	LineSink   *sink;
	const Line *lines;
	int			n;
	int			done;
} Attempt;

static void
fill(void *arg)
{
	Attempt    *a = arg;
	MemoryContext outer = MemoryContextSwitchTo(a->sink->batch);

	if (a->shape->is_json)
		json_fill(a->shape, a->sink, a->lines, a->n, &a->done);
	else
		csv_fill(a->shape, a->sink, a->lines, a->n, &a->done);
	MemoryContextSwitchTo(outer);
}

/* What a line can be blamed for; anything else ends the round. */
static void
rethrow_unless_of_line(ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	if (category != ERRCODE_DATA_EXCEPTION && category != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION &&
		category != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		ThrowErrorData(error);
}

/* Try so many lines; returns how many became rows (or were empty), and the error at the next one. */
static int
try_lines(const LineShape *shape, LineSink *sink, const Line *lines, int n, ErrorData **error)
{
	Attempt		a = {shape, sink, lines, n};

	sink->scratch = AllocSetContextCreate(sink->batch, "adclick lines", ALLOCSET_DEFAULT_SIZES);
	*error = attempt(fill, &a);
	MemoryContextDelete(sink->scratch);
	if (*error)
		rethrow_unless_of_line(*error);
	return a.done;
}

/* Lines that fit a batch. */
static void
read_batch(const LineShape *shape, LineSink *sink, const Line *lines, int n, const char *bytes, int64 offset)
{
	for (int i = 0; i < n;)
	{
		ErrorData  *error;
		int			done = try_lines(shape, sink, &lines[i], n - i, &error);

		i += done;
		if (error && (done > 0 || i < n - 1))
		{
			FreeErrorData(error);
			i += try_lines(shape, sink, &lines[i], 1, &error);
		}
		if (error)
		{
			lines_set_aside(sink, lines[i].start, lines[i].length, offset + (lines[i].start - bytes), error->sqlerrcode,
							error->message ? error->message : "unknown error");
			i++;
		}
		if (error)
			FreeErrorData(error);
	}
	lines_flush(sink);
}

void
lines_read(const LineShape *shape, LineSink *sink, const char *bytes, int n, int64 offset)
{
	Line	   *lines = palloc(sizeof(Line) * INBOX_BATCH);
	const char *end = bytes + n;
	const char *next = bytes;

	/* a byte order mark */
	if (offset == 0 && n >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0)
		next += 3;
	while (next < end)
	{
		int			count = 0;

		CHECK_FOR_INTERRUPTS();
		while (count < INBOX_BATCH && next < end)
		{
			const char *newline = memchr(next, '\n', end - next);

			lines[count++] = (Line) {next, (int) ((newline ? newline : end) - next), newline != NULL};
			next = newline ? newline + 1 : end;
		}
		read_batch(shape, sink, lines, count, bytes, offset);
	}
	pfree(lines);
}
