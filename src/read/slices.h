/*-------------------------------------------------------------------------
 *
 * slices.h
 *	  Going through many runs at once, in slices of the key range.
 *
 * Each run is read segment by segment.  A slice is the range of keys up to where
 * the next segment of some run begins: all facts of that range are at hand, of
 * every run, while no more than a few segments of each are in memory.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SLICES_H
#define ADCLICK_SLICES_H

#include "postgres.h"

#include "conditions.h"
#include "core/facts.h"
#include "store/store.h"

/* Columns of order "ad" and "day", as bits for slices_begin_range and as indexes of keys. */
#define FACT_AD 0
#define FACT_MINUTE 1
#define FACT_FILTER 2
#define FACT_COLUMNS 3

/* The part of a slice that comes from one run: n facts from "start" on. */
typedef struct SlicePart
{
	const StoreRun *run;		/* NULL: the facts in memory */
	const Facts *facts;			/* only the columns asked for are there */
	size_t		start;
	size_t		n;
} SlicePart;

typedef struct Slices Slices;

/*
 * Each open run takes a cursor and some 100 kB: of more than this many, callers
 * read some after the others.
 */
#define MAX_OPEN_RUNS 256

/*
 * Only facts whose first column is in the range, both ends included.  "columns":
 * those to decode, as bits, for each run.  "more": sorted facts in memory to go
 * through with them, or NULL.
 */
extern Slices *slices_begin_range(FactOrder order, const StoreRun *runs, int nruns,
								  const unsigned *columns, const Facts *more,
								  uint64 low, uint64 high);

/*
 * Of runs of order ad and day, only facts in the window that meet the conditions on
 * dimensions; of their columns only the ad is there.
 */
extern Slices *slices_begin_picking(const StoreRun *runs, int nruns,
									const Conditions *conditions, const Facts *more);

/* The columns of a run that this needs, as bits: the ad alone, if all is asked for. */
static inline unsigned
slices_columns_picked(const StoreRun *run, const Conditions *conditions)
{
	return 1 << FACT_AD | (run_is_inside(run, conditions) ? 0 : 1 << FACT_MINUTE) |
		(conditions->filtered ? 1 << FACT_FILTER : 0);
}

/* Pick the facts that are asked for out of a segment of a run; returns how many. */
extern size_t slices_pick_facts(const Conditions *conditions, const StoreRun *run, const Facts *facts,
								uint64 *restrict ads, uint64 *restrict clicks);

/* The parts of the next slice, valid until the next call; NULL at the end. */
extern const SlicePart *slices_next(Slices *slices, int *nparts);
extern void slices_end(Slices *slices);

/* Segments decoded so far. */
extern int64 slices_segments(const Slices *slices);

/*
 * Merge runs: call back with batches of their facts, sorted, each key once over
 * all batches.
 */
typedef void (*slices_emit) (const Facts *facts, void *arg);
extern void slices_merge(FactOrder order, const StoreRun *runs, int nruns, slices_emit emit, void *arg);

#endif							/* ADCLICK_SLICES_H */
