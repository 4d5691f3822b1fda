/*-------------------------------------------------------------------------
 *
 * kept.c
 *	  The filters whose lists of most clicked ads are kept.
 *
 * See kept.h.  Of the filters that name the same dimensions, a combination meets
 * one at most.  So they are looked up, once for each combination, and neither the
 * time nor the memory this takes grows with filters times combinations.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "kept.h"
#include "store/filters.h"

/* Stands for a dimension that is not named; no text is this byte. */
#define ANY "\0"
#define ANY_LENGTH 1

typedef struct FilterEntry
{
	Dimensions	dimensions;		/* the key */
	uint32		hash;
	char		status;
	int			filter;
} FilterEntry;

#define SH_PREFIX filter_index
#define SH_ELEMENT_TYPE FilterEntry
#define SH_KEY_TYPE Dimensions
#define SH_KEY dimensions
#define SH_HASH_KEY(tb, key) dimensions_hash(&(key))
#define SH_EQUAL(tb, a, b) dimensions_equal(&(a), &(b))
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#define SH_PREFIX kept_met
#define SH_ELEMENT_TYPE KeptMet
#define SH_KEY_TYPE int32
#define SH_KEY combination
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* What kept_filters fills in, and what it looks up. */
typedef struct Matching
{
	KeptFilters *kept;
	filter_index_hash *index;
} Matching;

static Dimensions
dimensions_of(const StoreFilter *filter)
{
	Dimensions	dimensions;

	for (int i = 0; i < DIMENSIONS; i++)
	{
		dimensions.value[i] = filter->values[i] ? filter->values[i] : ANY;
		dimensions.length[i] = filter->values[i] ? strlen(filter->values[i]) : ANY_LENGTH;
	}
	return dimensions;
}

static void
index_filter(const Matching *matching, const StoreFilter *filter)
{
	KeptFilters *kept = matching->kept;
	bool		found;
	FilterEntry *entry = filter_index_insert(matching->index, dimensions_of(filter), &found);

	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("filter %d in adclick.filters is damaged", filter->filter_id),
				 errdetail("It is the same as filter %d.", kept->ids[entry->filter])));
	entry->filter = kept->n;
	kept->ids[kept->n++] = filter->filter_id;
}

/* Look up what is left of a combination if only some of its dimensions matter, as bits. */
static void
match_part(const Matching *matching, const Dimensions *dimensions, int part, KeptMet *met)
{
	Dimensions	named = *dimensions;
	FilterEntry *entry;

	for (int i = 0; i < DIMENSIONS; i++)
		if ((part & 1 << i) == 0)
		{
			named.value[i] = ANY;
			named.length[i] = ANY_LENGTH;
		}
	entry = filter_index_lookup(matching->index, named);
	if (entry)
		met->filter[met->n++] = entry->filter;
}

static void
match_combination(int32 filter_id, const Dimensions *dimensions, void *arg)
{
	const Matching *matching = arg;
	bool		found;
	KeptMet    *met = kept_met_insert(matching->kept->met, filter_id, &found);

	met->n = 0;
	for (int part = 0; part < FILTERS_MET; part++)
		match_part(matching, dimensions, part, met);
}

KeptFilters *
kept_filters(const StoreFilter *filters, int n)
{
	KeptFilters *kept = palloc0(sizeof(KeptFilters));
	Matching	matching = {kept, filter_index_create(CurrentMemoryContext, n, NULL)};

	kept->ids = palloc(sizeof(int32) * (n + 1));
	kept->met = kept_met_create(CurrentMemoryContext, 1024, NULL);
	for (int i = 0; i < n; i++)
		index_filter(&matching, &filters[i]);
	filters_refresh();
	filters_each(match_combination, &matching);
	match_part(&matching, &(Dimensions) {0}, 0, &kept->missing);
	filter_index_destroy(matching.index);
	return kept;
}

const KeptMet *
kept_met(const KeptFilters *kept, uint64 combination)
{
	const KeptMet *met = combination <= PG_INT32_MAX ?
		kept_met_lookup(kept->met, (int32) combination) : NULL;

	return met ? met : &kept->missing;
}
