/*-------------------------------------------------------------------------
 *
 * lines.h
 *	  Lines of log files become clicks in the inbox, or are set aside with the reason.
 *
 * A line ends with a newline: a quoted value of CSV has none, so that a broken line
 * harms no other one.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_LINES_H
#define ADCLICK_LINES_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/rel.h"

#include "inbox/click.h"
#include "inbox/put.h"
#include "store/store_sources.h"

/* Bytes that are read at once; a longer line is set aside. */
#define LINES_CHUNK (1024 * 1024)

/* A line, without its newline. */
typedef struct Line
{
	const char *start;
	int			length;
	bool		has_newline;	/* it follows */
} Line;

/* How the lines of a file are to be read. */
typedef struct LineShape
{
	bool		is_json;
	const char *names[CLICK_COLUMNS];	/* of JSON; NULL: not there */
	int			places[CLICK_COLUMNS];	/* of CSV, from 0; -1: not there */
	int			nfields;		/* of CSV */
	Relation	fields;			/* what COPY wants to know of, and is not used for more */
	FmgrInfo	input[CLICK_COLUMNS];
	Oid			parameters[CLICK_COLUMNS];
} LineShape;

/* Where they go. */
typedef struct LineSink
{
	const char *source;
	const char *path;
	InboxWriter *inbox;
	MemoryContext batch;		/* reset when one was put */
	MemoryContext scratch;		/* of the lines that are tried */
	int			nrows;			/* of the batch, so far */
	int64		lines;			/* that became clicks */
	int64		bad_lines;
	int64		room;			/* for bad lines that are kept; -1: not asked yet */
} LineSink;

/* The shape of a source's files; of CSV but for what each header says. */
extern void lines_begin(LineShape *shape, const StoreSource *source);
extern void lines_end(LineShape *shape);

/* The header of a CSV file: an error if it lacks a column. */
extern void csv_read_header(LineShape *shape, const StoreSource *source, const char *header, int length);

/* Read lines that begin at this place of the file, each with its newline but perhaps the last one. */
extern void lines_read(const LineShape *shape, LineSink *sink, const char *bytes, int n, int64 offset);

/* Put what is left of the last batch. */
extern void lines_flush(LineSink *sink);

/* Set a line aside whose beginning this is. */
extern void lines_set_aside(LineSink *sink, const char *bytes, int n, int64 offset, int sqlstate, const char *reason);

/*
 * Fill rows of the sink from lines, one after the other: raises an error at the first one that
 * is no click, with "*done" lines before it.  (csv.c, json.c)
 */
extern void csv_fill(const LineShape *shape, LineSink *sink, const Line *lines, int n, int *done);
extern void json_fill(const LineShape *shape, LineSink *sink, const Line *lines, int n, int *done);

/* The next row of the batch, of texts; NULL: no value. */
extern void lines_fill_row(const LineShape *shape, LineSink *sink, char *const *texts);

#endif							/* ADCLICK_LINES_H */
