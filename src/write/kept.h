/*-------------------------------------------------------------------------
 *
 * kept.h
 *	  The filters whose lists of most clicked ads are kept, and which of them a
 *	  combination of dimensions meets.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_KEPT_H
#define ADCLICK_KEPT_H

#include "postgres.h"

#include "store/store.h"

/* A filter names some of the dimensions, but not all: so many choices there are. */
#define FILTERS_MET ((1 << DIMENSIONS) - 1)

/* The filters that one combination meets, as indexes of KeptFilters.ids. */
typedef struct KeptMet
{
	int32		combination;	/* the key: its filter_id */
	char		status;
	int			n;
	int			filter[FILTERS_MET];
} KeptMet;

typedef struct KeptFilters
{
	int			n;
	int32	   *ids;			/* in no order */
	struct kept_met_hash *met;
	KeptMet		missing;		/* by a combination that adclick.filters does not have: that of all clicks alone */
} KeptFilters;

/* These filters, each once, and all combinations that the active snapshot sees. */
extern KeptFilters *kept_filters(const StoreFilter *filters, int n);

/* The filters that facts of this filter_id meet; &kept->missing if it cannot be told of all. */
extern const KeptMet *kept_met(const KeptFilters *kept, uint64 combination);

#endif							/* ADCLICK_KEPT_H */
