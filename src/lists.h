/*-------------------------------------------------------------------------
 *
 * lists.h
 *	  The most clicked ads of a minute, made while its run is written.
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

#include "facts.h"
#include "store.h"

/* The filters whose lists are kept, as the active snapshot sees them. */
typedef struct KeptFilters KeptFilters;
extern KeptFilters *lists_kept(void);

/* The lists of one minute: begin, add its facts of order ad, sorted, and store them. */
typedef struct MinuteLists MinuteLists;
extern MinuteLists *lists_begin(const KeptFilters *kept, int64 minute);
extern void lists_add(MinuteLists *lists, const Facts *facts, size_t start, size_t n);
extern void lists_end(MinuteLists *lists);

/* Register a filter, filling in all closed minutes; false if it is registered already. */
extern bool lists_add_filter(const StoreFilter *filter, int32 *filter_id);

/* End it; false if it is not registered. */
extern bool lists_drop_filter(const StoreFilter *filter);

#endif							/* ADCLICK_LISTS_H */
