/*-------------------------------------------------------------------------
 *
 * fdw.h
 *	  The foreign table of facts, as planner and executor share it.
 *
 * adclick_internal.fact_rows has a row for each fact: an ad, a minute and a
 * filter, with its clicks.  A clause over the table is answered inside the scan
 * if it is about one of the three alone: about the ad by a range or a list, as
 * the segments are sorted by it; about the minute by a window, as runs have
 * their minutes; anything else about the minute or the filter (and its
 * dimensions) by evaluating the clause once for each minute or filter that is
 * met.
 *
 * Who asks may know some ads only (read/scope.h).  Then the scan gives no fact of another one, and evaluates
 * nothing for a minute or filter before such a fact has it: so no clause, wherever it is evaluated, is given
 * what it must not see.  Neither estimates nor counters tell of more.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FDW_H
#define ADCLICK_FDW_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/stratnum.h"
#include "foreign/fdwapi.h"
#include "nodes/primnodes.h"

#include "base/adclick.h"

/* Columns of the table. */
#define ROW_AD 1
#define ROW_MINUTE 2
#define ROW_FILTER 3
#define ROW_COUNTRY 4
#define ROW_REGION 5
#define ROW_DEVICE 6
#define ROW_CLICKS 7
#define ROW_COLUMNS 7

/* What a clause or a grouping expression is about. */
typedef enum RowPart
{
	PART_AD,
	PART_MINUTE,
	PART_FILTER,
	PART_OTHER					/* more than one of them, the clicks, or nothing */
} RowPart;

extern RowPart row_part_of(Node *node, Index relid);

/*
 * Clauses answered inside the scan: the lists of ForeignScan.fdw_exprs.
 *
 * ForeignScan.fdw_scan_tlist is empty in a scan of rows.  In a scan of sums it
 * begins with the columns of the table, so that expressions find them at the
 * same place in both; those not grouped by are junk.  Other expressions grouped
 * by follow, and the sum.
 */
typedef enum PushedList
{
	PUSHED_ADS,					/* keys: the range or list of ads */
	PUSHED_WINDOW,				/* keys: the window of minutes */
	PUSHED_MINUTE,				/* evaluated once for each minute */
	PUSHED_FILTER,				/* evaluated once for each filter */
	PUSHED_LISTS
} PushedList;

/* In which order a scan of rows gives the minutes. */
typedef enum MinuteOrder
{
	ANY_ORDER,
	OLDEST_FIRST,
	NEWEST_FIRST
} MinuteOrder;

/* ForeignScan.fdw_private */
enum
{
	PRIVATE_TABLE,				/* a list of its oid */
	PRIVATE_ORDER,				/* a list of the MinuteOrder */
	PRIVATE_LIMITED				/* a list of whether it was planned for who knows some ads only */
};

/*
 * "column op value", or "column = ANY (value)"; the value is constant in a scan.  The column
 * can stand in date_trunc('hour', .., 'UTC'), or of a day.
 */
typedef struct RowKey
{
	AttrNumber	column;			/* ROW_AD or ROW_MINUTE */
	StrategyNumber strategy;	/* of a btree */
	int64		minutes;		/* of ROW_MINUTE: what is compared begins such a unit (UTC): a minute, hour or day */
	bool		is_list;
	Expr	   *value;
	Oid			type;			/* of the value, or of the elements of the list */
} RowKey;

/* Whether the clause is one; relid 0: of whichever relation. */
extern bool row_key_of(Node *clause, Index relid, RowKey *key);
extern bool row_key_column(Node *node, Index relid, RowKey *key);

/* Whether an expression is the same for all minutes of a day (UTC). */
extern bool row_day_tells(Node *node);

/* The facts that keys choose. */
typedef struct RowRange
{
	int64		from;			/* first minute */
	int64		to;				/* the minute after the last */
	int64		low;			/* first and last ad */
	int64		high;
	bool		is_list;		/* of these ads of the range */
	int			nads;
	int64	   *ads;			/* ascending */
} RowRange;

extern void row_range_all(RowRange *range);
extern bool row_range_is_empty(const RowRange *range);

/* Keep what the key chooses, too.  A list is allocated in the current context. */
extern void row_range_narrow(RowRange *range, const RowKey *key, Datum value, bool isnull);

/* Keep those ads that a sorted list has, too. */
extern void row_range_keep(RowRange *range, const int64 *ads, int nads);

static inline bool
row_range_has_ad(const RowRange *range, int64 ad)
{
	return ad >= range->low && ad <= range->high &&
		(!range->is_list ||
		 bsearch(&ad, range->ads, range->nads, sizeof(int64), compare_int64) != NULL);
}

static inline bool
row_range_has_all_ads(const RowRange *range)
{
	return range->low == PG_INT64_MIN && range->high == PG_INT64_MAX && !range->is_list;
}

/* Counters for EXPLAIN ANALYZE. */
typedef struct FactScanCounts
{
	int64		runs;
	int64		totals;			/* runs whose clicks the directory told */
	int64		segments;
	int64		facts;
	int64		tail;			/* facts made of the tail */
} FactScanCounts;

/* fdw_scan.c */
extern void fact_scan_begin(ForeignScanState *node, int eflags);
extern TupleTableSlot *fact_scan_next(ForeignScanState *node);
extern void fact_scan_again(ForeignScanState *node);
extern void fact_scan_end(ForeignScanState *node);

/* NULL: they would tell of ads that the scan does not give. */
extern const FactScanCounts *fact_scan_counts(ForeignScanState *node);

#endif							/* ADCLICK_FDW_H */
