/*-------------------------------------------------------------------------
 *
 * rank.c
 *	  Which ads had the most clicks: exact top-N, three ways.
 *
 * Of some users, addresses or ads, all facts are gathered.
 *
 * Without a filter, or with a registered one, the lists kept of each closed
 * minute, settled hour and whole day are merged with what is not in a list: deltas and tail.
 * For a run of an hour of which the window has a part, those of its minutes are taken.
 * An ad that is not in a list can have no more clicks there than were cut off; if no
 * such ad can reach the Nth, the answer is proved.  That is the threshold
 * algorithm of Fagin, Lotem and Naor (Optimal aggregation algorithms for
 * middleware, 2001, doi 10.1145/375551.375567).  Ads that could be among the N, but
 * are not in every list, are counted exactly.
 *
 * Of the deltas, too, only ads matter that are in a list, or have so many clicks
 * in one of them that they could reach the Nth: all others are passed over.
 *
 * Otherwise, and if the proof fails, all runs of the window are scanned.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "core/segment.h"
#include "horizon.h"
#include "rank.h"
#include "slices.h"
#include "tail.h"

/*
 * Ads counted together in a scan, for each run and at most: as many as a slice is
 * likely to have, in a table that stays in the cache.
 */
#define SLICE_ADS_OF_RUN 512
#define SLICE_ADS (16 * 1024)

/*
 * How much of each list is read at first, in ads for each of the N, and at least:
 * mostly that proves the answer; if not, the lists are read whole.
 */
#define FIRST_DEPTH 8
#define FIRST_DEPTH_LEAST 128

/* Ads in no list that are counted in the deltas, at most. */
#define MOST_NOTED 4096

/* Facts that are scanned in the time of one probe. */
#define FACTS_PER_PROBE 1000

/* And of one list; so many lists are read at least, before it is asked which takes longer. */
#define FACTS_PER_LIST 8192
#define FEW_LISTS 256

static const FactRole by_ad[] = {ROLE_AD};

/*----------
 * Scanning
 *----------
 */

typedef struct AdScan
{
	SliceCounts counts;
	Facts	   *sums;			/* where ads counted go, by ad; NULL: they are ranked */
	TopN	   *top;
	size_t		room;			/* of its heap: it grows, as any number may be asked for */
} AdScan;

static void
rank_counted(AdScan *scan)
{
	TopN	   *top = scan->top;
	size_t		needed = Min(top->limit, top->n + scan->counts.nslots);

	if (needed > scan->room)
	{
		scan->room = Min(top->limit, 2 * needed);
		top->heap = repalloc_huge(top->heap, sizeof(AdCount) * scan->room);
	}
	topn_offer_slice(top, &scan->counts);
}

/* Add to the sums: the ads counted come behind those before, as slices ascend. */
static void
sum_up_counted(AdScan *scan)
{
	const SliceCounts *counts = &scan->counts;
	Facts	   *sums = scan->sums;
	Facts		added;

	if (sums->n + counts->nslots > sums->capacity)
		facts_enlarge(sums, 2 * (sums->n + counts->nslots), CurrentMemoryContext);
	added = facts_end(sums);
	for (size_t i = 0; i < counts->nslots; i++)
		if (counts->slots[i].clicks != 0)
		{
			added.key[0][added.n] = counts->slots[i].ad;
			added.count[added.n++] = counts->slots[i].clicks;
		}
	if (!counts->dense)
		facts_sum_up(&added);
	sums->n += added.n;
}

/* Take the ads counted so far. */
static void
take_counted(AdScan *scan)
{
	if (scan->sums)
		sum_up_counted(scan);
	else
		rank_counted(scan);
}

/* Count a slice, taking the ads counted so far if it does not fit with them. */
static void
scan_slice(AdScan *scan, const SlicePart *parts, int nparts)
{
	SliceCounts *counts = &scan->counts;
	uint64		first = PG_UINT64_MAX;
	uint64		last = 0;
	size_t		n = 0;

	for (int i = 0; i < nparts; i++)
	{
		const uint64 *ads = parts[i].facts->key[FACT_AD] + parts[i].start;

		first = Min(first, ads[0]);
		last = Max(last, ads[parts[i].n - 1]);
		n += parts[i].n;
	}
	if (!slice_counts_fit(counts, last, n))
	{
		take_counted(scan);
		slice_counts_reset(counts, first, last, n);
		if (!slice_counts_fit(counts, last, n))
		{
			pfree(counts->slots);
			slice_counts_init(counts, n, counts->multiplier,
							  MemoryContextAllocHuge(CurrentMemoryContext, slice_counts_memory(n)));
			slice_counts_reset(counts, first, last, n);
		}
	}
	for (int i = 0; i < nparts; i++)
		slice_counts_add(counts, parts[i].facts->key[FACT_AD] + parts[i].start,
						 parts[i].facts->count + parts[i].start, parts[i].n);
}

/* Count the facts of some runs, and more in memory. */
static void
scan_runs(AdScan *scan, const Conditions *conditions, const StoreRun *runs, int nruns, const Facts *more)
{
	Slices	   *slices = slices_begin_picking(runs, nruns, conditions, more);
	const SlicePart *parts;
	int			nparts;

	slice_counts_reset(&scan->counts, 0, PG_UINT64_MAX, 0);
	while ((parts = slices_next(slices, &nparts)) != NULL)
		scan_slice(scan, parts, nparts);
	slices_end(slices);
	take_counted(scan);
}

/* What some runs, and the sums so far, say together of each ad. */
static Facts *
sum_up_runs(AdScan *scan, const Conditions *conditions, const StoreRun *runs, int nruns, const Facts *more)
{
	Facts	   *sums = palloc(sizeof(Facts));

	facts_init(sums, 1, 1, palloc(facts_memory(1, 1)));
	scan->sums = sums;
	scan_runs(scan, conditions, runs, nruns, more);
	scan->sums = NULL;
	return sums;
}

/*
 * Rank by all facts of the runs, and the tail.  All facts of an ad must be at hand
 * together; as only so many runs should be open, all but the last of them are summed
 * up by ad before, some at a time.
 */
static void
rank_by_scan(int32 n, const Conditions *conditions, const StoreRun *runs, int nruns,
			 const Facts *tail, Ranking *ranking)
{
	AdScan		scan = {.top = &ranking->top};
	size_t		slice_ads = Min((size_t) SLICE_ADS_OF_RUN * (nruns + 1), SLICE_ADS);
	const Facts *more = tail;
	int			nsummed = 0;

	for (int i = 0; i < nruns; i++)
	{
		ranking->read.facts += runs[i].facts;
		ranking->read.segments += runs[i].segments;
	}
	ranking->read.runs += nruns;
	topn_init(scan.top, n, palloc(sizeof(AdCount)));
	slice_counts_init(&scan.counts, slice_ads, process_seed()[0], palloc(slice_counts_memory(slice_ads)));
	for (; nruns - nsummed > MAX_OPEN_RUNS; nsummed += MAX_OPEN_RUNS)
	{
		Facts	   *sums = sum_up_runs(&scan, conditions, runs + nsummed, MAX_OPEN_RUNS, more);

		pfree(more->key[0]);
		more = sums;
	}
	scan_runs(&scan, conditions, runs + nsummed, nruns - nsummed, more);
	topn_finish(scan.top);
	ranking->way = "scan";
}

/*----------
 * Kept lists
 *----------
 */

/* An ad that can be among the N best. */
typedef struct Candidate
{
	uint64		ad;
	uint64		clicks;			/* as far as they are known */
	uint64		missing;		/* what it can have besides */
} Candidate;

/* A list, and the run with the facts that it represents. */
typedef struct Listed
{
	StoreList	list;
	StoreRun	run;
} Listed;

typedef struct Lists
{
	int			nlisted;
	Listed	   *listed;
	int			nruns;			/* those without lists */
	StoreRun   *runs;
	uint64		cut_off;		/* sum over all lists */
	bool		whole;			/* no list has more than was read of it */
} Lists;

/* The lists that a run may have: of the whole, or of the minutes that the window has of it. */
typedef struct Wanted
{
	StoreRun	run;
	StoreGrain	grain;
	int			n;
	int64	   *firsts;
} Wanted;

static Wanted
lists_wanted(const StoreRun *run, const Conditions *conditions)
{
	Wanted		wanted = {*run, GRAIN_MINUTE};
	StoreMinute *minutes;

	if (run->is_delta)
		return wanted;
	if (run_is_inside(run, conditions))
	{
		wanted.grain = store_grain(run);
		wanted.n = 1;
		wanted.firsts = palloc(sizeof(int64));
		wanted.firsts[0] = run->first_minute;
		return wanted;
	}
	minutes = store_get_run_minutes(run, conditions->from, conditions->to - 1, &wanted.n);
	wanted.firsts = palloc(sizeof(int64) * (wanted.n + 1));
	for (int i = 0; i < wanted.n; i++)
		wanted.firsts[i] = minutes[i].minute;
	return wanted;
}

/* The lists of a grain that are wanted. */
static StoreList *
get_wanted(const Wanted *wanted, int nwanted, StoreGrain grain, int32 filter_id, int64 depth, int *nlists)
{
	int64	   *firsts;
	int			n = 0;

	for (int i = 0; i < nwanted; i++)
		n += wanted[i].grain == grain ? wanted[i].n : 0;
	firsts = palloc(sizeof(int64) * (n + 1));
	n = 0;
	for (int i = 0; i < nwanted; i++)
		for (int j = 0; j < wanted[i].n && wanted[i].grain == grain; j++)
			firsts[n++] = wanted[i].firsts[j];
	return store_get_lists(grain, filter_id, firsts, n, depth, nlists);
}

static int
compare_lists(const void *a, const void *b)
{
	return compare_int64(&((const StoreList *) a)->first, &((const StoreList *) b)->first);
}

/*
 * Take the lists of a run, if all are there that should be.  Of an hour that the window
 * cuts, it may have no minute with a fact.
 */
static bool
match_run(Lists *lists, const Wanted *wanted, const StoreList *stored, int nstored)
{
	Listed	   *listed = &lists->listed[lists->nlisted];

	for (int i = 0; i < wanted->n; i++)
	{
		const StoreList *list = bsearch(&(StoreList) {.first = wanted->firsts[i]}, stored, nstored,
										sizeof(StoreList), compare_lists);

		if (list == NULL)
			return false;
		listed[i] = (Listed) {*list, wanted->run};
	}
	lists->nlisted += wanted->n;
	return !wanted->run.is_delta;
}

/* Get the lists of a filter that there are for some runs, their best ads down to "depth". */
static void
get_lists(Lists *lists, const Conditions *conditions, int32 filter_id, int64 depth,
		  const StoreRun *runs, int nruns)
{
	Wanted	   *wanted = palloc(sizeof(Wanted) * (nruns + 1));
	StoreList  *stored[GRAINS];
	int			nstored[GRAINS];
	int			nwanted = 0;

	for (int i = 0; i < nruns; i++)
	{
		wanted[i] = lists_wanted(&runs[i], conditions);
		nwanted += wanted[i].n;
	}
	for (StoreGrain grain = GRAIN_MINUTE; grain < GRAINS; grain++)
		stored[grain] = get_wanted(wanted, nruns, grain, filter_id, depth, &nstored[grain]);
	lists->listed = palloc(sizeof(Listed) * (nwanted + 1));
	lists->runs = palloc(sizeof(StoreRun) * (nruns + 1));
	for (int i = 0; i < nruns; i++)
		if (!match_run(lists, &wanted[i], stored[wanted[i].grain], nstored[wanted[i].grain]))
			lists->runs[lists->nruns++] = runs[i];
	lists->whole = true;
	for (int i = 0; i < lists->nlisted; i++)
	{
		lists->cut_off += lists->listed[i].list.cut_off;
		lists->whole &= lists->listed[i].list.n < depth;
	}
}

/* What lists and tail say together of each ad; and some more ads, of which they say nothing. */
static Facts *
merge_lists(const Lists *lists, const Facts *tail, const uint64 *more, size_t nmore)
{
	Facts	   *sums = palloc(sizeof(Facts));
	size_t		n = tail->n + nmore;

	for (int i = 0; i < lists->nlisted; i++)
		n += lists->listed[i].list.n;
	facts_init(sums, 1, n + 1, MemoryContextAllocHuge(CurrentMemoryContext, facts_memory(1, n + 1)));
	facts_append(sums, tail, 0, tail->n);
	for (size_t i = 0; i < nmore; i++)
	{
		sums->key[0][sums->n] = more[i];
		sums->count[sums->n++] = 0;
	}
	for (int i = 0; i < lists->nlisted; i++)
	{
		const StoreList *list = &lists->listed[i].list;

		CHECK_FOR_INTERRUPTS();
		for (size_t j = 0; j < list->n; j++)
		{
			sums->key[0][sums->n] = list->ads[j].ad;
			sums->count[sums->n++] = list->ads[j].clicks;
		}
	}
	facts_sum_up(sums);
	return sums;
}

/* The n best of sums by ad. */
static void
rank_sums(TopN *top, size_t n, const Facts *sums)
{
	topn_init(top, n, MemoryContextAllocHuge(CurrentMemoryContext,
											 sizeof(AdCount) * Min(n, sums->n + 1)));
	for (size_t i = 0; i < sums->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		topn_offer(top, sums->key[0][i], sums->count[i]);
	}
}

/* The clicks of the nth best; 0 if there are fewer ads. */
static uint64
nth_clicks(const Facts *sums, size_t n)
{
	TopN		top;
	uint64		clicks;

	if (sums->n < n)
		return 0;
	rank_sums(&top, n, sums);
	clicks = top.heap[0].clicks;	/* the worst of those kept is first */
	pfree(top.heap);
	return clicks;
}

/* Adding the runs without a list to the sums by ad. */
typedef struct Counting
{
	const Conditions *conditions;
	Facts	   *sums;
	size_t		at;				/* where in them the run being read has come to */
	uint64		limit;			/* ads with so many clicks in a run are noted ... */
	size_t		nnoted;			/* ... if they are not among the sums */
	uint64		noted[MOST_NOTED];
	Facts		segment;
	Facts		picked;
} Counting;

/* All clicks of an ad in a run.  Ads come in ascending order. */
static inline void
count_ad(Counting *c, uint64 ad, uint64 clicks)
{
	Facts	   *sums = c->sums;

	while (c->at < sums->n && sums->key[0][c->at] < ad)
		c->at++;
	if (c->at < sums->n && sums->key[0][c->at] == ad)
		sums->count[c->at] += clicks;
	else if (clicks >= c->limit && c->nnoted < MOST_NOTED)
		c->noted[c->nnoted++] = ad;
}

static void
count_run(Counting *c, StoreScan *scan, const StoreRun *run)
{
	unsigned	columns = slices_columns_picked(run, c->conditions);
	uint64		ad = 0;
	uint64		clicks = 0;

	c->at = 0;
	store_scan_run(scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(scan, columns, &c->segment))
	{
		Facts	   *facts = &c->segment;

		if (columns != 1 << FACT_AD)
		{
			facts = &c->picked;
			facts->n = slices_pick_facts(c->conditions, run, &c->segment,
										 facts->key[0], facts->count);
		}
		for (size_t i = 0; i < facts->n; i++)
		{
			if (facts->key[0][i] != ad)
			{
				if (clicks > 0)
					count_ad(c, ad, clicks);
				ad = facts->key[0][i];
				clicks = 0;
			}
			clicks += facts->count[i];
		}
	}
	if (clicks > 0)
		count_ad(c, ad, clicks);
}

/*
 * Add the runs without a list to the sums, and note ads that have "limit" clicks
 * in one of them without being among the sums.
 */
static void
count_unlisted(Counting *c, const Lists *lists, Facts *sums, uint64 limit, ReadCounts *read)
{
	StoreScan  *scans[2] = {store_scan_begin(STORE_FINAL), store_scan_begin(STORE_DELTAS)};

	c->sums = sums;
	c->limit = limit;
	for (int i = 0; i < lists->nruns; i++)
	{
		const StoreRun *run = &lists->runs[i];

		count_run(c, scans[run->is_delta], run);
		read->runs++;
		read->segments += run->segments;
		read->facts += run->facts;
	}
	store_scan_end(scans[false]);
	store_scan_end(scans[true]);
}

/*
 * What lists, tail and deltas say of all ads that can be among the n best as far as
 * deltas tell; NULL if ads that are not in them can have as many clicks as the nth.
 *
 * An ad that is in no list has at most what was cut off and its clicks in the runs
 * without a list.  To reach the nth it must have its share of the difference in at
 * least one of those runs.
 */
static Facts *
sum_up(const Lists *lists, const Conditions *conditions, const Facts *tail, int32 n, ReadCounts *read)
{
	Facts	   *sums = merge_lists(lists, tail, NULL, 0);
	uint64		nth = nth_clicks(sums, n);
	Counting   *c = palloc0(sizeof(Counting));

	if (nth <= lists->cut_off)
		return NULL;
	c->conditions = conditions;
	facts_init(&c->segment, FACT_COLUMNS, SEGMENT_MAX_FACTS,
			   palloc(facts_memory(FACT_COLUMNS, SEGMENT_MAX_FACTS)));
	facts_init(&c->picked, 1, SEGMENT_MAX_FACTS, palloc(facts_memory(1, SEGMENT_MAX_FACTS)));
	count_unlisted(c, lists, sums, (nth - lists->cut_off - 1) / (lists->nruns + 1) + 1, read);
	if (c->nnoted == MOST_NOTED)
		return NULL;
	if (c->nnoted > 0)
	{
		sums = merge_lists(lists, tail, c->noted, c->nnoted);
		count_unlisted(c, lists, sums, PG_UINT64_MAX, read);
	}
	return sums;
}

static int
compare_candidates(const void *a, const void *b)
{
	uint64		x = ((const Candidate *) a)->ad;
	uint64		y = ((const Candidate *) b)->ad;

	return (x > y) - (x < y);
}

static Candidate *
find_candidate(Candidate *candidates, int n, uint64 ad)
{
	return bsearch(&(Candidate) {.ad = ad}, candidates, n, sizeof(Candidate), compare_candidates);
}

/*
 * The ads that can be among the n best: those whose known clicks and all that was
 * cut off reach the nth.
 */
static Candidate *
choose_candidates(const Lists *lists, const Facts *sums, uint64 nth, int *ncandidates)
{
	Candidate  *candidates = MemoryContextAllocHuge(CurrentMemoryContext,
													sizeof(Candidate) * (sums->n + 1));

	*ncandidates = 0;
	for (size_t i = 0; i < sums->n; i++)
		if (sums->count[i] + lists->cut_off >= nth)
			candidates[(*ncandidates)++] = (Candidate) {
				sums->key[0][i], sums->count[i], lists->cut_off
			};
	for (int i = 0; i < lists->nlisted; i++)
	{
		const StoreList *list = &lists->listed[i].list;

		CHECK_FOR_INTERRUPTS();
		for (size_t j = 0; j < list->n && list->cut_off > 0; j++)
		{
			Candidate  *c = find_candidate(candidates, *ncandidates, list->ads[j].ad);

			if (c)
				c->missing -= list->cut_off;
		}
	}
	return candidates;
}

static bool
is_listed(const StoreList *list, uint64 ad)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->ads[i].ad == ad)
			return true;
	return false;
}

/* Count a candidate in the minutes, hours and days whose lists do not have it. */
static void
probe_candidate(const Lists *lists, const Conditions *conditions, Candidate *c, ReadCounts *read)
{
	Conditions	of_ad = *conditions;
	Gathering  *g;
	ReadCounts	counts;

	conditions_ad(&of_ad, facts_to_int64(c->ad));
	g = gather_begin(ORDER_AD, &of_ad, NULL, 0);
	for (int i = 0; i < lists->nlisted; i++)
	{
		const StoreList *list = &lists->listed[i].list;

		CHECK_FOR_INTERRUPTS();
		if (list->cut_off == 0 || is_listed(list, c->ad))
			continue;
		of_ad.from = list->first;
		of_ad.to = list->first + grain_minutes(list->grain);
		gather_run(g, &lists->listed[i].run);
	}
	c->clicks += gather_clicks(g);
	c->missing = 0;
	gather_read_counts(g, &counts);
	read->probes += counts.probes;
	read->segments += counts.segments;
	read->facts += counts.facts;
	gather_end(g);
}

/* Count all candidates that can still be among the n best; false if it would take too long. */
static bool
decide_candidates(const Lists *lists, const Conditions *conditions, Candidate *candidates,
				  int ncandidates, uint64 nth, ReadCounts *read)
{
	int64		facts = 0;
	int			undecided = 0;

	for (int i = 0; i < lists->nlisted; i++)
		if (i == 0 || lists->listed[i].run.run_id != lists->listed[i - 1].run.run_id)
			facts += lists->listed[i].run.facts;
	for (int i = 0; i < ncandidates; i++)
		undecided += candidates[i].missing > 0 && candidates[i].clicks + candidates[i].missing >= nth;
	if ((int64) undecided * lists->nlisted > facts / FACTS_PER_PROBE + lists->nlisted)
		return false;
	for (int i = 0; i < ncandidates; i++)
		if (candidates[i].missing > 0 && candidates[i].clicks + candidates[i].missing >= nth)
			probe_candidate(lists, conditions, &candidates[i], read);
	return true;
}

/*
 * Rank by the lists of a filter, their best ads down to "depth"; false if that does
 * not prove the answer.  "whole" is then whether the lists have no more than that.
 */
static bool
try_lists(int32 n, const Conditions *conditions, int32 filter_id, int64 depth,
		  const StoreRun *runs, int nruns, const Facts *tail, Ranking *ranking, bool *whole)
{
	Lists		lists = {0};
	Facts	   *sums;
	Candidate  *candidates;
	int			ncandidates;
	uint64		nth;
	TopN		best;

	get_lists(&lists, conditions, filter_id, depth, runs, nruns);
	*whole = lists.whole;
	ranking->lists = lists.nlisted;
	ranking->cut_off = lists.cut_off;
	if (lists.nlisted == 0)
		return false;
	sums = sum_up(&lists, conditions, tail, n, &ranking->read);
	if (sums == NULL)
		return false;
	nth = nth_clicks(sums, n);
	candidates = choose_candidates(&lists, sums, nth, &ncandidates);
	ranking->candidates = ncandidates;
	if (!decide_candidates(&lists, conditions, candidates, ncandidates, nth, &ranking->read))
		return false;

	topn_init(&best, n, MemoryContextAllocHuge(CurrentMemoryContext,
											   sizeof(AdCount) * Min((size_t) n, (size_t) ncandidates + 1)));
	for (int i = 0; i < ncandidates; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (candidates[i].missing == 0)
			topn_offer(&best, candidates[i].ad, candidates[i].clicks);
	}
	topn_finish(&best);
	ranking->top = best;
	ranking->way = ranking->read.probes > 0 ? "lists and probes" : "lists";
	return true;
}

/* Whether lists take less time, and memory, than all facts. */
static bool
lists_pay(const StoreRun *runs, int nruns)
{
	int64		facts = 0;

	for (int i = 0; i < nruns; i++)
		facts += runs[i].facts;
	return nruns <= FEW_LISTS || facts / FACTS_PER_LIST >= nruns;
}

/* Rank by the best of the lists of a filter, or if need be by all of them. */
static bool
rank_by_lists(int32 n, const Conditions *conditions, int32 filter_id, const StoreRun *runs, int nruns,
			  const Facts *tail, Ranking *ranking)
{
	int64		depth = Max((int64) n * FIRST_DEPTH, FIRST_DEPTH_LEAST);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick lists", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	bool		whole;
	bool		proved = try_lists(n, conditions, filter_id, depth, runs, nruns, tail, ranking, &whole);

	if (!proved && !whole)
	{
		MemoryContextReset(context);
		proved = try_lists(n, conditions, filter_id, PG_INT32_MAX, runs, nruns, tail, ranking, &whole);
	}
	MemoryContextSwitchTo(outer);
	if (!proved)
		MemoryContextDelete(context);
	return proved;
}

/*
 * The filter whose lists tell the answer, or -1.  (One that names all dimensions
 * is no registered one.)
 */
static int32
kept_filter(const Conditions *conditions)
{
	StoreFilter filter;
	int			named = 0;
	int32		filter_id;

	if (!conditions_as_filter(conditions, &filter))
		return -1;
	for (int i = 0; i < DIMENSIONS; i++)
		named += filter.values[i] != NULL;
	if (named == 0)
		return 0;
	filter_id = named < DIMENSIONS ? store_find_filter(&filter) : 0;
	return filter_id > 0 ? filter_id : -1;
}

/* Rank the ads of which all facts can be gathered. */
static void
rank_by_gathering(int32 n, const Conditions *conditions, Ranking *ranking)
{
	static const char *const ways[ORDERS] = {
		[ORDER_AD] = "ads", [ORDER_USER] = "user order", [ORDER_IP] = "ip order"
	};
	Gathering  *g = gather(conditions, by_ad, lengthof(by_ad), false);
	const Facts *sums = gather_facts(g);

	rank_sums(&ranking->top, n, sums);
	topn_finish(&ranking->top);
	gather_read_counts(g, &ranking->read);
	gather_end(g);
	ranking->way = ways[gather_order(conditions, by_ad, lengthof(by_ad))];
}

void
rank_ads(int32 n, const Conditions *conditions, Ranking *ranking)
{
	StoreState	state;
	StoreRun   *runs;
	int			nruns;
	Facts	   *tail;
	int32		filter_id;

	memset(ranking, 0, sizeof(*ranking));
	if (conditions->ads.given || conditions->users.given || conditions->has_ips)
	{
		rank_by_gathering(n, conditions, ranking);
		return;
	}
	store_get_state(&state);
	horizon_require(&state, conditions->from, conditions->to, false);
	runs = store_get_fewest_runs(conditions->from, conditions->to - 1, &nruns);
	tail = tail_facts(&state, conditions, by_ad, lengthof(by_ad));
	filter_id = kept_filter(conditions);
	if (filter_id < 0 || !lists_pay(runs, nruns) || !rank_by_lists(n, conditions, filter_id, runs, nruns, tail, ranking))
		rank_by_scan(n, conditions, runs, nruns, tail, ranking);
	ranking->read.tail = tail->n;
}
