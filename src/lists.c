/*-------------------------------------------------------------------------
 *
 * lists.c
 *	  The most clicked ads of each closed minute: making and keeping the lists.
 *
 * A list holds the ads with the most clicks in its minute's run, ties going to
 * the smaller ad, and the largest count that was cut off: what any other ad can
 * have at most.  rank.c answers from them.
 *
 * Registering a filter and compaction take the same lock, so each closed minute
 * has a list of each registered filter.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "adclick.h"
#include "conditions.h"
#include "filters.h"
#include "lists.h"
#include "segment.h"
#include "slices.h"

/* Minutes read in one go when a filter is filled in. */
#define FILL_MINUTES 100

struct KeptFilters
{
	int			n;
	int32	   *ids;
	Conditions *conditions;		/* of filter 0 there are none */
};

struct MinuteLists
{
	const KeptFilters *kept;
	int64		minute;
	uint64		ad;				/* the one being counted */
	uint64	   *clicks;			/* of it, for each filter */
	TopN	   *tops;			/* one more than the list has: that is cut off */
};

static KeptFilters *
kept_filters(const StoreFilter *filters, int n)
{
	KeptFilters *kept = palloc(sizeof(KeptFilters));

	filters_refresh();
	kept->n = n;
	kept->ids = palloc(sizeof(int32) * (n + 1));
	kept->conditions = palloc0(sizeof(Conditions) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		kept->ids[i] = filters[i].filter_id;
		conditions_of_filter(&kept->conditions[i], &filters[i]);
	}
	return kept;
}

KeptFilters *
lists_kept(void)
{
	int			n;
	StoreFilter *filters = store_get_registered(&n);

	return kept_filters(filters, n);
}

MinuteLists *
lists_begin(const KeptFilters *kept, int64 minute)
{
	MinuteLists *lists = palloc(sizeof(MinuteLists));
	size_t		limit = (size_t) adclick_top_ads_kept + 1;

	lists->kept = kept;
	lists->minute = minute;
	lists->ad = 0;
	lists->clicks = palloc0(sizeof(uint64) * kept->n);
	lists->tops = palloc(sizeof(TopN) * kept->n);
	for (int k = 0; k < kept->n; k++)
		topn_init(&lists->tops[k], limit, palloc(sizeof(AdCount) * limit));
	return lists;
}

/* All facts of the ad have been added. */
static void
offer_ad(MinuteLists *lists)
{
	CHECK_FOR_INTERRUPTS();
	for (int k = 0; k < lists->kept->n; k++)
	{
		if (lists->clicks[k] > 0)
			topn_offer(&lists->tops[k], lists->ad, lists->clicks[k]);
		lists->clicks[k] = 0;
	}
}

void
lists_add(MinuteLists *lists, const Facts *facts, size_t start, size_t n)
{
	const KeptFilters *kept = lists->kept;

	for (size_t i = start; i < start + n; i++)
	{
		if (facts->key[FACT_AD][i] != lists->ad)
		{
			offer_ad(lists);
			lists->ad = facts->key[FACT_AD][i];
		}
		for (int k = 0; k < kept->n; k++)
			if (!kept->conditions[k].filtered ||
				conditions_match_filter(&kept->conditions[k], facts->key[FACT_FILTER][i]))
				lists->clicks[k] += facts->count[i];
	}
}

void
lists_end(MinuteLists *lists)
{
	offer_ad(lists);
	for (int k = 0; k < lists->kept->n; k++)
	{
		TopN	   *top = &lists->tops[k];
		StoreList	list = {.minute = lists->minute, .ads = top->heap};

		topn_finish(top);
		list.n = Min(top->n, top->limit - 1);
		list.cut_off = top->n > list.n ? top->heap[list.n].clicks : 0;
		store_put_list(lists->kept->ids[k], &list);
		pfree(top->heap);
	}
	pfree(lists->tops);
	pfree(lists->clicks);
	pfree(lists);
}

/* Make the lists of a minute from its run. */
static void
fill_minute(const KeptFilters *kept, StoreScan *scan, const StoreRun *run, Facts *facts)
{
	MinuteLists *lists = lists_begin(kept, run->first_minute);
	uint64		first_key;
	const uint8 *data;
	size_t		length;

	store_scan_run(scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(scan, &first_key, &data, &length))
	{
		SegmentStatus status = segment_decode_columns(data, length,
													  1 << FACT_AD | 1 << FACT_FILTER, facts);

		CHECK_FOR_INTERRUPTS();
		if (status != SEGMENT_OK)
			store_scan_corrupt(scan, segment_status_text(status));
		lists_add(lists, facts, 0, facts->n);
	}
	lists_end(lists);
}

/* Make the lists of all closed minutes. */
static void
fill_minutes(const KeptFilters *kept)
{
	Facts		facts;
	StoreScan  *scan = store_scan_begin(false);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick lists of minutes",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer;
	int64		after = FIRST_MINUTE;
	StoreRun   *runs;
	int			n;

	facts_init(&facts, FACT_COLUMNS, SEGMENT_MAX_FACTS,
			   palloc(facts_memory(FACT_COLUMNS, SEGMENT_MAX_FACTS)));
	outer = MemoryContextSwitchTo(context);
	do
	{
		runs = store_get_minutes(after, FILL_MINUTES, &n);
		for (int i = 0; i < n; i++)
			fill_minute(kept, scan, &runs[i], &facts);
		if (n > 0)
			after = runs[n - 1].first_minute;
		MemoryContextReset(context);
	} while (n == FILL_MINUTES);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	store_scan_end(scan);
}

bool
lists_add_filter(const StoreFilter *filter, int32 *filter_id)
{
	StoreFilter added = *filter;

	store_lock(STORE_LOCK_COMPACTION);
	store_push_snapshot();
	store_claim_compaction();
	added.filter_id = store_add_filter(filter);
	if (added.filter_id != 0)
		fill_minutes(kept_filters(&added, 1));
	*filter_id = added.filter_id != 0 ? added.filter_id : store_find_filter(filter);
	PopActiveSnapshot();
	return added.filter_id != 0;
}

bool
lists_drop_filter(const StoreFilter *filter)
{
	int32		filter_id;

	store_lock(STORE_LOCK_COMPACTION);
	store_push_snapshot();
	store_claim_compaction();
	filter_id = store_find_filter(filter);
	if (filter_id != 0)
		store_drop_filter(filter_id);
	PopActiveSnapshot();
	return filter_id != 0;
}
