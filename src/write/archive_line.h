/*-------------------------------------------------------------------------
 *
 * archive_line.h
 *	  A line of an archived file: a click of the ledger, as text and back.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_ARCHIVE_LINE_H
#define ADCLICK_ARCHIVE_LINE_H

#include "postgres.h"

#include "core/orders.h"
#include "inbox/click.h"
#include "store/filters.h"

/* Columns of adclick_internal.archived_click; those of the inbox begin with LINE_CLICK. */
enum
{
	LINE_KIND,
	LINE_CLICK,
	LINE_COPIES = LINE_CLICK + CLICK_COLUMNS,
	LINE_COUNTED,				/* country, region, device that it was counted under */
	LINE_KEY = LINE_COUNTED + 3,
	LINE_BUCKET,
	LINE_EVENT_TIME,
	LINE_DELAY,
	LINE_FLAGS,
	LINE_COLUMNS
};

/* What a line is of. */
typedef enum LineKind
{
	LINE_IS_CLICK,				/* all of a click */
	LINE_IS_COUNTED,			/* of one whose row stands apart: only how it was counted */
	LINE_IS_ARRIVED				/* such a row */
} LineKind;

/* The values of a line: of a click, or of a row whose columns of the inbox are there. */
extern void line_of_click(const FactClick *click, uint64 copies, Datum *values, bool *nulls);
extern void line_of_row(Datum *values, bool *nulls);

/*
 * And back; what cannot be is an error (XX001).  The combination it was counted under stands in the
 * line, and gets its number elsewhere.  Of a row only its minute is read.
 */
extern LineKind line_kind(const Datum *values, const bool *nulls);
extern void line_to_click(const Datum *values, const bool *nulls, FactClick *click, uint64 *copies, Dimensions *counted);
extern int64 line_row_minute(const Datum *values, const bool *nulls);

#endif							/* ADCLICK_ARCHIVE_LINE_H */
