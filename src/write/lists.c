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

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/adclick.h"
#include "core/segment.h"
#include "kept.h"
#include "lists.h"
#include "read/slices.h"

/* Minutes looked up in one go when a filter is filled in. */
#define FILL_MINUTES 100

/* The first ads of a list that is being made have room at once. */
#define FIRST_ADS 16

/* The list of one filter. */
typedef struct FilterList
{
	uint64		clicks;			/* of the ad being counted */
	bool		counted;		/* it has facts of that ad */
	size_t		room;			/* of the heap: a rare filter takes little memory */
	TopN		top;			/* one more than the list has: that is cut off */
} FilterList;

/* The lists of one minute. */
typedef struct MinuteLists
{
	MemoryContext context;
	const KeptFilters *kept;
	uint64		ad;				/* the one being counted */
	int			ncounted;
	int		   *counted;		/* the filters that have clicks of it */
	FilterList *lists;
} MinuteLists;

/* Making lists, minute by minute: no more than those of one are in memory. */
typedef struct Maker
{
	KeptFilters *kept;
	StoreScan  *scan;
	Facts		segment;
} Maker;

static void
begin(Maker *maker, const StoreFilter *filters, int n)
{
	maker->kept = kept_filters(filters, n);
	maker->scan = store_scan_begin(false);
	facts_init(&maker->segment, FACT_COLUMNS, SEGMENT_MAX_FACTS,
			   palloc(facts_memory(FACT_COLUMNS, SEGMENT_MAX_FACTS)));
}

static void
end(Maker *maker)
{
	store_scan_end(maker->scan);
}

static MinuteLists *
begin_minute(const KeptFilters *kept)
{
	MinuteLists *lists = palloc0(sizeof(MinuteLists));

	lists->context = CurrentMemoryContext;
	lists->kept = kept;
	lists->counted = palloc(sizeof(int) * (kept->n + 1));
	lists->lists = palloc0(sizeof(FilterList) * (kept->n + 1));
	for (int k = 0; k < kept->n; k++)
		topn_init(&lists->lists[k].top, (size_t) adclick_top_ads_kept + 1, NULL);
	return lists;
}

static void
enlarge(FilterList *list)
{
	TopN	   *top = &list->top;

	list->room = Min(Max(2 * list->room, FIRST_ADS), top->limit);
	top->heap = top->heap ? repalloc(top->heap, sizeof(AdCount) * list->room) :
		palloc(sizeof(AdCount) * list->room);
}

/* All facts of the ad have been added. */
static void
offer_ad(MinuteLists *lists)
{
	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < lists->ncounted; i++)
	{
		FilterList *list = &lists->lists[lists->counted[i]];

		if (list->top.n == list->room && list->room < list->top.limit)
			enlarge(list);
		if (list->clicks > 0)
			topn_offer(&list->top, lists->ad, list->clicks);
		list->clicks = 0;
		list->counted = false;
	}
	lists->ncounted = 0;
}

static void
add_segment(MinuteLists *lists, const Facts *facts)
{
	for (size_t i = 0; i < facts->n; i++)
	{
		const KeptMet *met = kept_met(lists->kept, facts->key[FACT_FILTER][i]);

		if (facts->key[FACT_AD][i] != lists->ad)
		{
			offer_ad(lists);
			lists->ad = facts->key[FACT_AD][i];
		}
		for (int j = 0; j < met->n; j++)
		{
			FilterList *list = &lists->lists[met->filter[j]];

			if (!list->counted)
				lists->counted[lists->ncounted++] = met->filter[j];
			list->counted = true;
			list->clicks += facts->count[i];
		}
	}
}

static void
put_lists(MinuteLists *lists, int64 minute)
{
	offer_ad(lists);
	for (int k = 0; k < lists->kept->n; k++)
	{
		TopN	   *top = &lists->lists[k].top;
		StoreList	list = {.minute = minute, .ads = top->heap};

		CHECK_FOR_INTERRUPTS();
		topn_finish(top);
		list.n = Min(top->n, top->limit - 1);
		list.cut_off = top->n > list.n ? top->heap[list.n].clicks : 0;
		store_put_list(lists->kept->ids[k], &list);
	}
}

/* Make the lists of a minute from its run. */
static void
make_minute(Maker *maker, const StoreRun *run)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick lists of a minute",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	MinuteLists *lists = begin_minute(maker->kept);

	store_scan_run(maker->scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(maker->scan, 1 << FACT_AD | 1 << FACT_FILTER, &maker->segment))
		add_segment(lists, &maker->segment);
	put_lists(lists, run->first_minute);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

void
lists_make(const int64 *minutes, int n)
{
	Maker		maker;
	int			nfilters;
	StoreFilter *filters = store_get_registered(&nfilters);
	StoreRun	run;

	begin(&maker, filters, nfilters);
	store_delete_lists(minutes, n);
	for (int i = 0; i < n; i++)
		if (store_get_minute(minutes[i], &run) > 0)
			make_minute(&maker, &run);
	end(&maker);
}

/* Make the lists of a filter, of all closed minutes. */
static void
fill_minutes(const StoreFilter *filter)
{
	Maker		maker;
	int64		after = FIRST_MINUTE;
	StoreRun   *runs;
	int			n;

	begin(&maker, filter, 1);
	do
	{
		runs = store_get_minutes(after, FILL_MINUTES, &n);
		for (int i = 0; i < n; i++)
			make_minute(&maker, &runs[i]);
		if (n > 0)
			after = runs[n - 1].first_minute;
		pfree(runs);
	} while (n == FILL_MINUTES);
	end(&maker);
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
		fill_minutes(&added);
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
