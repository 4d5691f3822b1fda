/*-------------------------------------------------------------------------
 *
 * csv.c
 *	  Lines of CSV, by the server's COPY.
 *
 * See lines.h.  COPY takes lines apart; which of their values are columns of ours, the header
 * says.  It would take what follows a quote that is not closed for a part of the same line, so
 * a line with an odd number of quotes is given to it alone; what follows a carriage return for
 * another line; and it ends at a line that is \.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/copy.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/builtins.h"

#include "lines.h"

/* Whom COPY asks for bytes: it hands over no pointer of ours. */
static const char *feed;
static const char *feed_end;

static int
give_bytes(void *buffer, int minread, int maxread)
{
	int			n = (int) Min(maxread, feed_end - feed);

	memcpy(buffer, feed, n);
	feed += n;
	return n;
}

static CopyFromState
begin_copy(const LineShape *shape, MemoryContext context, const char *bytes, const char *end)
{
	MemoryContext outer = MemoryContextSwitchTo(context);
	List	   *options = list_make2(makeDefElem("format", (Node *) makeString("csv"), -1),
									 makeDefElem("encoding", (Node *) makeString("UTF8"), -1));

	CopyFromState copy;

	feed = bytes;
	feed_end = end;
	copy = BeginCopyFrom(NULL, shape->fields, NULL, NULL, false, give_bytes, NIL, options);
	MemoryContextSwitchTo(outer);
	return copy;
}

static const char *
end_of(const Line *line)
{
	return line->start + line->length + line->has_newline;
}

/* Whether COPY might take it and the next line for one. */
static bool
has_open_quote(const Line *line)
{
	const char *end = line->start + line->length;
	bool		open = false;

	for (const char *quote = line->start; (quote = memchr(quote, '"', end - quote)) != NULL; quote++)
		open = !open;
	return open;
}

/* Whether COPY might take it for two lines. */
static bool
has_carriage_return(const Line *line)
{
	const char *found = memchr(line->start, '\r', line->length);

	return found && found < line->start + line->length - 1;
}

/* How many of the lines COPY can be given together. */
static int
count_together(const Line *lines, int n)
{
	if (has_carriage_return(&lines[0]))
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("the line has a carriage return within")));
	for (int i = 0; i < n; i++)
		if (has_open_quote(&lines[i]) || has_carriage_return(&lines[i]))
			return Max(i, 1);
	return n;
}

/* An empty line is none. */
static bool
is_blank(char *const *fields, int nfields)
{
	return nfields == 0 || (nfields == 1 && fields[0] == NULL);
}

static void
fill_row(const LineShape *shape, LineSink *sink, char *const *fields, int nfields)
{
	char	   *texts[CLICK_COLUMNS];

	if (is_blank(fields, nfields))
		return;
	if (nfields != shape->nfields)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("the line has %d values, and the header %d", nfields, shape->nfields)));
	for (int i = 0; i < CLICK_COLUMNS; i++)
		texts[i] = shape->places[i] < 0 ? NULL : fields[shape->places[i]];
	lines_fill_row(shape, sink, texts);
}

static void
fill_together(const LineShape *shape, LineSink *sink, const Line *lines, int n, int *done)
{
	CopyFromState copy = begin_copy(shape, sink->scratch, lines[0].start, end_of(&lines[n - 1]));
	int			end = *done + n;
	char	  **fields;
	int			nfields;

	while (*done < end && NextCopyFromRawFields(copy, &fields, &nfields))
	{
		CHECK_FOR_INTERRUPTS();
		fill_row(shape, sink, fields, nfields);
		(*done)++;
	}
	EndCopyFrom(copy);
	if (*done < end)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("the line is the mark of the end of a COPY")));
}

void
csv_fill(const LineShape *shape, LineSink *sink, const Line *lines, int n, int *done)
{
	while (*done < n)
		fill_together(shape, sink, &lines[*done], count_together(&lines[*done], n - *done), done);
}

static int
find_name(char *const *fields, int nfields, const char *name)
{
	for (int i = 0; i < nfields; i++)
		if (fields[i] && strcmp(fields[i], name) == 0)
			return i;
	return -1;
}

/* Where our columns are; what the source names must be there. */
static void
find_columns(LineShape *shape, const StoreSource *source, char *const *fields)
{
	for (int i = 0; i < CLICK_COLUMNS; i++)
	{
		const char *name = source->columns[i];

		shape->places[i] = name ? find_name(fields, shape->nfields, name) : -1;
		if (name && shape->places[i] < 0 && (!source->by_same_names || i == CLICK_AD_ID - 1))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("the header has no column \"%s\"", name)));
	}
}

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

void
csv_read_header(LineShape *shape, const StoreSource *source, const char *header, int length)
{
	int			mark = strlen(BYTE_ORDER_MARK);
	CopyFromState copy;
	char	  **fields;

	if (length >= mark && memcmp(header, BYTE_ORDER_MARK, mark) == 0)
	{
		header += mark;
		length -= mark;
	}
	copy = begin_copy(shape, CurrentMemoryContext, header, header + length);
	if (!NextCopyFromRawFields(copy, &fields, &shape->nfields))
		shape->nfields = 0;
	find_columns(shape, source, fields);
	EndCopyFrom(copy);
}
