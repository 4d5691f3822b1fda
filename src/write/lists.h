/*-------------------------------------------------------------------------
 *
 * lists.h
 *	  The most clicked ads of closed minutes, settled hours and whole days, made from their runs.
 *
 * There is a list for "no filter" (filter 0) and for each registered filter.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_LISTS_H
#define ADCLICK_LISTS_H

#include "postgres.h"

#include "core/facts.h"
#include "store/store.h"

/* Make the lists of some closed minutes, settled hours or whole days anew, from their runs. */
extern void lists_make(StoreGrain grain, const int64 *firsts, int n);

/* Hours have other facts than the lists of their minutes: these go. */
extern void lists_delete_minutes(const int64 *hours, int n);

/* An hour has become a run: the lists of minutes that are a day older go, where an hour is soon read. */
extern void lists_delete_old_minutes(int64 hour);

/* Register a filter, filling in all of them; false if it is registered already. */
extern bool lists_add_filter(const StoreFilter *filter, int32 *filter_id);

/* End it; false if it is not registered. */
extern bool lists_drop_filter(const StoreFilter *filter);

#endif							/* ADCLICK_LISTS_H */
