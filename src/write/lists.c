/*-------------------------------------------------------------------------
 *
 * lists.c
 *	  The most clicked ads of each closed minute, settled hour and whole day: making and keeping the lists.
 *
 * A list holds the ads with the most clicks in one run, ties going to
 * the smaller ad, and the largest count that was cut off: what any other ad can
 * have at most.  rank.c answers from them.  Ads that have just as many are left out, too: that
 * they are named would prove nothing, and where clicks are few they are most of the list.
 *
 * Registering a filter and compaction take the same lock, so each final run
 * has a list of each registered filter, unless it has facts of combinations without a row.
 *
 * The lists of minutes stay when the runs of an hour become one: a window that has
 * a part of the hour is answered from them.  Once late facts are merged into the hour
 * they would be wrong, and go; then such a part is read from the run.  To make sixty
 * lists for each would cost more than all else that is done for late facts.  After a day they
 * go, too, as they take more than all other lists and are seldom asked for; but for hours
 * that are too large to be read for a few of their minutes.
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

/* Runs looked up in one go when a filter is filled in. */
#define FILL_RUNS 100

/* Hours before a day ago whose minutes still have lists, at most: when an hour has become a run, of one more. */
#define OLD_HOURS HOURS_PER_DAY

/* An hour with no more facts than this is read in some 10 ms. */
#define FACTS_SOON_READ (1024 * 1024)

/* The filter_id of "no filter" */
#define ALL_CLICKS 0

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

/* The lists of one run. */
typedef struct RunLists
{
	MemoryContext context;
	const KeptFilters *kept;
	uint64		ad;				/* the one being counted */
	bool		lacks_rows;		/* there are facts of combinations without one */
	int			ncounted;
	int		   *counted;		/* the filters that have clicks of it */
	FilterList *lists;
} RunLists;

/* Making lists, run by run: no more than those of one are in memory. */
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
	maker->scan = store_scan_begin(STORE_FINAL);
	facts_init(&maker->segment, FACT_COLUMNS, SEGMENT_MAX_FACTS,
			   palloc(facts_memory(FACT_COLUMNS, SEGMENT_MAX_FACTS)));
}

static void
end(Maker *maker)
{
	store_scan_end(maker->scan);
}

static RunLists *
begin_run(const KeptFilters *kept)
{
	RunLists *lists = palloc0(sizeof(RunLists));

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
offer_ad(RunLists *lists)
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

static inline void
add_fact(RunLists *lists, const Facts *facts, size_t i)
{
	const KeptMet *met = kept_met(lists->kept, facts->key[FACT_FILTER][i]);

	if (facts->key[FACT_AD][i] != lists->ad)
	{
		offer_ad(lists);
		lists->ad = facts->key[FACT_AD][i];
	}
	lists->lacks_rows |= met == &lists->kept->missing;
	for (int j = 0; j < met->n; j++)
	{
		FilterList *list = &lists->lists[met->filter[j]];

		if (!list->counted)
			lists->counted[lists->ncounted++] = met->filter[j];
		list->counted = true;
		list->clicks += facts->count[i];
	}
}

/*
 * Where a combination has no row, it cannot be told which lists its clicks belong in: without a list, questions
 * look at the facts, and say so.
 */
static void
put_lists(RunLists *lists, StoreGrain grain, int64 first)
{
	offer_ad(lists);
	for (int k = 0; k < lists->kept->n; k++)
	{
		TopN	   *top = &lists->lists[k].top;
		StoreList	list = {.grain = grain, .first = first, .ads = top->heap};

		CHECK_FOR_INTERRUPTS();
		if (lists->lacks_rows && lists->kept->ids[k] != ALL_CLICKS)
			continue;
		topn_finish(top);
		list.n = Min(top->n, top->limit - 1);
		list.cut_off = top->n > list.n ? top->heap[list.n].clicks : 0;
		while (list.n > 1 && list.ads[list.n - 1].clicks == list.cut_off)
			list.n--;
		store_put_list(lists->kept->ids[k], &list);
	}
}

/* Make the lists of a run, from all its facts. */
static void
make_run(Maker *maker, const StoreRun *run)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick lists of a run",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	RunLists   *lists = begin_run(maker->kept);

	store_scan_run(maker->scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(maker->scan, 1 << FACT_AD | 1 << FACT_FILTER, &maker->segment))
		for (size_t i = 0; i < maker->segment.n; i++)
			add_fact(lists, &maker->segment, i);
	put_lists(lists, store_grain(run), run->first_minute);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

/* Make the lists of the minutes of an hour from its run: for few filters, as all are in memory. */
static void
make_minutes(Maker *maker, const StoreRun *run)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick lists of minutes",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	RunLists   *lists[MINS_PER_HOUR] = {NULL};

	store_scan_run(maker->scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(maker->scan, STORE_WHOLE_KEY, &maker->segment))
		for (size_t i = 0; i < maker->segment.n; i++)
		{
			int64		minute = facts_to_int64(maker->segment.key[FACT_MINUTE][i]) - run->first_minute;

			if (minute < 0 || minute >= MINS_PER_HOUR)
				store_scan_corrupt(maker->scan, "it has facts of other hours");
			if (lists[minute] == NULL)
				lists[minute] = begin_run(maker->kept);
			add_fact(lists[minute], &maker->segment, i);
		}
	for (int minute = 0; minute < MINS_PER_HOUR; minute++)
		if (lists[minute])
			put_lists(lists[minute], GRAIN_MINUTE, run->first_minute + minute);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

void
lists_make(StoreGrain grain, const int64 *firsts, int n)
{
	Maker		maker;
	int			nfilters;
	StoreFilter *filters = store_get_registered(&nfilters);
	StoreRun	run;

	begin(&maker, filters, nfilters);
	store_delete_lists(grain, firsts, n);
	for (int i = 0; i < n; i++)
		if (store_get_final(firsts[i], grain, &run) > 0)
			make_run(&maker, &run);
	end(&maker);
}

void
lists_delete_minutes(const int64 *hours, int n)
{
	int64	   *minutes = palloc(sizeof(int64) * n * MINS_PER_HOUR);

	for (int i = 0; i < n * MINS_PER_HOUR; i++)
		minutes[i] = hours[i / MINS_PER_HOUR] + i % MINS_PER_HOUR;
	store_delete_lists(GRAIN_MINUTE, minutes, n * MINS_PER_HOUR);
	pfree(minutes);
}

void
lists_delete_old_minutes(int64 hour)
{
	int			nruns;
	StoreRun   *runs = store_get_hours_before(hour + MINS_PER_HOUR - MINS_PER_DAY, OLD_HOURS, &nruns);

	/* in as few ranges as there are, as most of them have no lists */
	for (int i = 0; i < nruns; i++)
	{
		int64		last = runs[i].last_minute;

		if (runs[i].facts > FACTS_SOON_READ)
			continue;
		while (i + 1 < nruns && runs[i + 1].facts <= FACTS_SOON_READ)
			i++;
		store_delete_all_lists(GRAIN_MINUTE, runs[i].first_minute, last);
	}
}

/* Whether the minutes of an hour have lists: of all filters or of none. */
static bool
minutes_have_lists(const StoreRun *run)
{
	int64		minutes[MINS_PER_HOUR];
	int			nlists;

	for (int i = 0; i < MINS_PER_HOUR; i++)
		minutes[i] = run->first_minute + i;
	(void) store_get_lists(GRAIN_MINUTE, 0, minutes, MINS_PER_HOUR, 1, &nlists);
	return nlists > 0;
}

/* Make the lists of a filter, of all final runs of order ad or day. */
static void
fill_runs(const StoreFilter *filter, FactOrder order)
{
	Maker		maker;
	int64		after = FIRST_MINUTE;
	StoreRun   *runs;
	int			n;

	begin(&maker, filter, 1);
	do
	{
		runs = store_get_final_runs(order, after, FILL_RUNS, &n);
		for (int i = 0; i < n; i++)
		{
			make_run(&maker, &runs[i]);
			if (store_grain(&runs[i]) == GRAIN_HOUR && minutes_have_lists(&runs[i]))
				make_minutes(&maker, &runs[i]);
		}
		if (n > 0)
			after = runs[n - 1].last_minute;
		pfree(runs);
	} while (n == FILL_RUNS);
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
	{
		fill_runs(&added, ORDER_AD);
		fill_runs(&added, ORDER_DAY);
	}
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
