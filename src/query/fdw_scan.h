/*-------------------------------------------------------------------------
 *
 * fdw_scan.h
 *	  A scan of the foreign table of facts: its state.
 *
 * fdw_scan.c begins it, judges minutes and filters, and gives rows; fdw_read.c
 * reads facts into batches of groups.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FDW_SCAN_H
#define ADCLICK_FDW_SCAN_H

#include "postgres.h"

#include "common/hashfn.h"
#include "nodes/execnodes.h"

#include "core/facts.h"
#include "fdw.h"
#include "fdw_part.h"
#include "read/conditions.h"
#include "read/slices.h"
#include "store/filters.h"
#include "store/store.h"

/* Of a minute or filter met for the first time: no group, and not rejected. */
#define NOT_JUDGED (-2)

typedef struct KeyState
{
	RowKey		key;
	ExprState  *value;
} KeyState;

/* A combination of dimensions, as the columns of the table. */
typedef struct FilterValues
{
	int32		filter_id;
	char		status;
	int32		group;
	Datum		values[DIMENSIONS];
} FilterValues;

/* Not an array: one id that is damaged must not make it huge. */
#define SH_PREFIX filter_values
#define SH_ELEMENT_TYPE FilterValues
#define SH_KEY_TYPE int32
#define SH_KEY filter_id
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct FactScan
{
	ForeignScanState *node;
	MemoryContext context;		/* to the end of the query */
	int			nkeys;
	KeyState   *keys;
	ExprContext *econtext;		/* of the keys */
	TupleTableSlot *row;		/* of the table, for clauses about a part */
	Part	   *minute;			/* NULL: nothing is asked of it */
	Part	   *filter;
	bool		by_ad;
	bool		by_minute;
	bool		with_days;		/* the table has days whose minutes were dropped, too */
	bool		by_day;			/* nothing is asked of a minute but what its day (UTC) tells */
	bool		is_total;		/* one sum, not by groups */
	MinuteOrder order;
	AttrNumber	clicks_column;	/* 0: not asked for */
	AttrNumber	sum_column;
	FactScanCounts counts;
	bool		limited;		/* to the ads of the scope, whoever planned it */
	IdList		scope;			/* the advertisers */

	/* the same in all scans of the query, as its snapshot is */
	bool		prepared;
	IdList		own;			/* if limited: the ads of the scope */
	StoreState	state;
	Facts	   *tail;
	bool		tail_is_whole;	/* or of the range of the first scan */
	filter_values_hash *filters;	/* NULL: not loaded */

	/* one scan */
	MemoryContext scan_context;
	bool		begun;
	bool		finished;
	RowRange	range;
	bool		by_probes;		/* by looking for each ad */
	int			nruns;
	StoreRun   *runs;
	int64		days_end;		/* of order day, nothing from this minute on is read */
	int			ndeltas;		/* they come first, then final ones, the newest first */
	int			next_run;		/* final ones from here on are still to be read */
	int			nminutes;
	int64	   *minutes;		/* all that have facts, as scans in order and minutes_only need */
	int			next_minute;	/* those from here on are still to be read */
	bool		minutes_only;	/* which minutes have facts is all that is asked for */
	struct minute_group_hash *minute_groups;
	int64		last_minute;	/* the one looked for last, and its group */
	int32		last_group;

	/* a chunk of the window */
	int64		from;
	int64		to;
	int			runs_ahead;		/* final runs to take next time */
	int			nchunk;
	StoreRun   *chunk;
	bool		in_turn;		/* its runs are read one after the other */
	int64		low;			/* the ads being read, both ends included ... */
	int64		high;			/* ... those above are still to be read in this chunk */
	Slices	   *slices;

	/* a batch of groups: ad, group of the minute, group of the filter */
	Facts		batch;
	void	   *scratch;
	size_t		enough;			/* facts it should have */
	size_t		position;		/* first not handed out */
	Facts		segment;		/* being read */
} FactScan;

/* Evaluate what is asked of a minute or a filter. */
extern int32 fact_scan_judge_minute(FactScan *scan, int64 minute);
extern int32 fact_scan_judge_filter(FactScan *scan, FilterValues *values, uint64 filter);

/* The group of a minute or a filter, PART_REJECTED if it fails a clause. */
static inline int32
group_of_minute(FactScan *scan, int64 minute)
{
	if (scan->minute == NULL)
		return 0;
	if (scan->last_group != NOT_JUDGED && scan->last_minute == minute)
		return scan->last_group;
	return fact_scan_judge_minute(scan, minute);
}

static inline int32
group_of_filter(FactScan *scan, uint64 filter)
{
	FilterValues *values;

	if (scan->filter == NULL)
		return 0;
	values = filter <= PG_INT32_MAX ? filter_values_lookup(scan->filters, (int32) filter) : NULL;
	if (values && values->group != NOT_JUDGED)
		return values->group;
	return fact_scan_judge_filter(scan, values, filter);
}

/* fdw_read.c: begin with the range and its runs; make the next batch, false at the end. */
extern void fact_read_begin(FactScan *scan);
extern bool fact_read_next(FactScan *scan);
extern void fact_read_end(FactScan *scan);

#endif							/* ADCLICK_FDW_SCAN_H */
