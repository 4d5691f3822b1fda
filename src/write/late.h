/*-------------------------------------------------------------------------
 *
 * late.h
 *	  Where late facts wait, and when they go on to their hours.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_LATE_H
#define ADCLICK_LATE_H

#include "postgres.h"

#include "store/store.h"

/* 64^level hours that begin at a multiple of that. */
typedef struct Span
{
	int			level;
	uint64		number;
} Span;

/* So many spans of a level are one of the next. */
#define SPAN_BITS 6
#define SPAN_PARTS (1 << SPAN_BITS)

/* The smallest one that has both minutes; and its part that has a minute. */
extern Span span_of(int64 first, int64 last);
extern Span span_part(Span span, int64 minute);

/* Its first minute, and the one after its last. */
extern int64 span_first(Span span);
extern int64 span_end(Span span);

/* Sort deltas by span, those of one by tier. */
extern void late_sort(StoreRun *runs, int nruns);

/*
 * Of deltas so sorted, the next ones from *next on that should be merged together:
 * of a span: all, a tier, or one.  Returns how many, 0 at the end; *next is then
 * behind them.  All of a span that has something before minute "leaving", where nothing is to wait
 * any more.
 */
extern int	late_choose(const StoreRun *runs, int nruns, int64 leaving, const StoreLeftOut *left_out,
						int *next, const StoreRun **chosen);

/* Of those chosen, if none of their facts can go on: only what a tier is merged for. */
extern int	late_choose_tier(const StoreRun *runs, int nruns, const StoreRun **chosen);

#endif							/* ADCLICK_LATE_H */
