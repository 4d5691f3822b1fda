/*-------------------------------------------------------------------------
 *
 * filters.h
 *	  The dictionary of dimension combinations: (country, region, device) -> id.
 *
 * Kept in adclick.filters; a copy of it is cached in each process that needs it.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FILTERS_H
#define ADCLICK_FILTERS_H

#include "postgres.h"

#include "executor/tuptable.h"

#include "base/compat.h"
#include "core/orders.h"

#define DIMENSIONS 3
#define DIMENSION_MAX_LENGTH 64 /* bytes; longer values count as "other" */

/* The values of one click, normalised: none is empty. Not zero-terminated. */
typedef struct Dimensions
{
	const char *value[DIMENSIONS];
	int			length[DIMENSIONS];
} Dimensions;

extern const char *const dimension_names[DIMENSIONS];

/*
 * From a row of the inbox; the values may point into the slot.  Returns how they were
 * given, as flags of order ledger.
 */
extern uint32 dimensions_read(TupleTableSlot *slot, Dimensions *dimensions);

/* For tables of them. */
extern uint32 dimensions_hash(const Dimensions *d);
extern bool dimensions_equal(const Dimensions *a, const Dimensions *b);

/*
 * Make the cache hold every combination the active snapshot sees.  Call it
 * first in each transaction that uses the functions below.
 */
extern void filters_refresh(void);

/* The id of a combination; 0 if it has none yet. */
extern int32 filters_find(const Dimensions *dimensions);

/*
 * Give the click of a row, whose minute is known, the id under which it is counted: that of its
 * combination, made if need be, or that of "other" when there are adclick.max_filters already; and
 * the flags that tell how its dimensions were given.
 */
extern void filters_count(TupleTableSlot *slot, FactClick *click);

/*
 * The same for a click that was counted before, under a combination that may have ended since:
 * it is an error if there is no room for it.
 */
extern int32 filters_count_again(const Dimensions *dimensions, int64 minute);

/* Write down the last days of what was counted by these two: what is used by nothing since ends. */
extern void filters_keep_days(void);

/*
 * The same id for a click not taken yet.  If a tick would make a new id, it gets a
 * provisional one, good in this process until the end of the transaction.
 */
extern int32 filters_foresee(const Dimensions *dimensions);

/*
 * Ids above all stored ones.  Rollbacks use ids up; ten thousands of full ticks
 * would have to fail to come up to this.
 */
#define FIRST_PROVISIONAL_FILTER 0x10000000

static inline bool
filter_is_provisional(int32 filter_id)
{
	return filter_id >= FIRST_PROVISIONAL_FILTER;
}

/* The combination of an id, provisional or not; an error if there is none. */
extern const Dimensions *filters_dimensions(int32 filter_id);

/* The error that a stored fact names a combination that has no row. */
pg_noreturn extern void filters_refuse_missing(uint64 filter_id);

/* Call back for each combination cached. */
typedef void (*filters_callback) (int32 filter_id, const Dimensions *dimensions, void *arg);
extern void filters_each(filters_callback callback, void *arg);

#endif							/* ADCLICK_FILTERS_H */
