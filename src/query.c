/*-------------------------------------------------------------------------
 *
 * query.c
 *	  The two questions, and every fact.
 *
 * An answer is segments + deltas + tail, all seen in the caller's snapshot.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "adclick.h"
#include "compat.h"
#include "conditions.h"
#include "segment.h"
#include "slices.h"
#include "store.h"
#include "tail.h"
#include "topn.h"

/* Ads counted together in top-N: a table of this size stays in the cache. */
#define SLICE_ADS (16 * 1024)

PG_FUNCTION_INFO_V1(adclick_ad_click_count_minutes);
PG_FUNCTION_INFO_V1(adclick_ad_click_count_window);
PG_FUNCTION_INFO_V1(adclick_top_n_ads_minutes);
PG_FUNCTION_INFO_V1(adclick_top_n_ads_window);
PG_FUNCTION_INFO_V1(adclick_facts);

/* Whether all facts of a run are in the window. */
static bool
is_inside(const StoreRun *run, const Conditions *conditions)
{
	return run->first_minute >= conditions->from && run->last_minute < conditions->to;
}

/* The columns a question needs to look at, as bits. */
static unsigned
columns_needed(const Conditions *conditions, bool inside)
{
	return 1 << FACT_AD | (inside ? 0 : 1 << FACT_MINUTE) |
		(conditions->filtered ? 1 << FACT_FILTER : 0);
}

/* Whether fact i of a run meets the conditions. */
static inline bool
is_asked_for(const Facts *facts, size_t i, const Conditions *conditions, bool inside)
{
	return (inside ||
			conditions_match_minute(conditions, facts_to_int64(facts->key[FACT_MINUTE][i]))) &&
		(!conditions->filtered ||
		 conditions_match_filter(conditions, facts->key[FACT_FILTER][i]));
}

/* Clicks of an ad in one run. */
static int64
count_in_run(StoreScan *scan, const StoreRun *run, uint64 ad, const Conditions *conditions, Facts *facts)
{
	bool		inside = is_inside(run, conditions);
	const uint8 *data;
	size_t		length;
	int64		count = 0;

	store_scan_key(scan, run->run_id, ad);
	while (store_scan_previous(scan, &data, &length))
	{
		SegmentStatus status = segment_decode_columns(data, length,
													  columns_needed(conditions, inside), facts);

		if (status != SEGMENT_OK)
			store_scan_corrupt(scan, segment_status_text(status));
		for (size_t i = facts_find(facts, 0, ad); i < facts->n && facts->key[FACT_AD][i] == ad; i++)
			if (is_asked_for(facts, i, conditions, inside))
				count += facts->count[i];
	}
	return count;
}

static int64
ad_click_count(int64 ad_id, const Conditions *conditions)
{
	StoreState	state;
	StoreScan  *scans[2];		/* minutes, deltas */
	StoreRun   *runs;
	int			nruns;
	Facts		facts;
	Facts	   *tail;
	int64		count = 0;

	store_get_state(&state);
	runs = store_get_runs(conditions->from, conditions->to - 1, &nruns);
	facts_init(&facts, FACT_COLUMNS, SEGMENT_MAX_FACTS,
			   palloc(facts_memory(FACT_COLUMNS, SEGMENT_MAX_FACTS)));
	scans[0] = store_scan_begin(false);
	scans[1] = store_scan_begin(true);
	for (int i = 0; i < nruns; i++)
	{
		CHECK_FOR_INTERRUPTS();
		count += count_in_run(scans[runs[i].is_delta], &runs[i], facts_from_int64(ad_id),
							  conditions, &facts);
	}
	store_scan_end(scans[0]);
	store_scan_end(scans[1]);

	tail = tail_facts(&state, conditions, &ad_id);
	for (size_t i = 0; i < tail->n; i++)
		count += tail->count[i];
	return count;
}

typedef struct Ranking
{
	const Conditions *conditions;
	SliceCounts counts;
	size_t		capacity;		/* facts of a slice there is room for */
	TopN		top;
	uint64	   *ads;			/* facts of a part that are asked for */
	uint64	   *clicks;
} Ranking;

static void
rank_grow(Ranking *ranking, size_t capacity)
{
	ranking->capacity = capacity;
	slice_counts_init(&ranking->counts, capacity,
					  MemoryContextAllocHuge(CurrentMemoryContext, slice_counts_memory(capacity)));
	ranking->ads = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint64) * capacity);
	ranking->clicks = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint64) * capacity);
}

/* Make sure a slice fits, ranking the ads counted so far if it does not. */
static void
rank_make_room(Ranking *ranking, const SlicePart *parts, int nparts)
{
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
	if (n <= ranking->capacity && slice_counts_fit(&ranking->counts, last, n))
		return;
	topn_offer_slice(&ranking->top, &ranking->counts);
	if (n > ranking->capacity)
		rank_grow(ranking, n);
	slice_counts_reset(&ranking->counts, first, last);
}

static void
rank_part(Ranking *ranking, const SlicePart *part)
{
	const Conditions *conditions = ranking->conditions;
	const Facts *facts = part->facts;
	bool		inside = part->run == NULL || is_inside(part->run, conditions);
	size_t		n = 0;

	/* the tail comes without what is not asked for */
	if (part->run == NULL || (inside && !conditions->filtered))
	{
		slice_counts_add(&ranking->counts, facts->key[FACT_AD] + part->start,
						 facts->count + part->start, part->n);
		return;
	}
	for (size_t i = part->start; i < part->start + part->n; i++)
	{
		ranking->ads[n] = facts->key[FACT_AD][i];
		ranking->clicks[n] = facts->count[i];
		n += is_asked_for(facts, i, conditions, inside);
	}
	slice_counts_add(&ranking->counts, ranking->ads, ranking->clicks, n);
}

static void
top_n_ads(int32 n, const Conditions *conditions, TopN *top)
{
	StoreState	state;
	StoreRun   *runs;
	int			nruns;
	Facts	   *tail;
	Slices	   *slices;
	const SlicePart *parts;
	int			nparts;
	unsigned   *columns;
	int64		facts = 0;
	Ranking		ranking = {.conditions = conditions};

	store_get_state(&state);
	runs = store_get_runs(conditions->from, conditions->to - 1, &nruns);
	tail = tail_facts(&state, conditions, NULL);
	columns = palloc(sizeof(unsigned) * (nruns + 1));
	for (int i = 0; i < nruns; i++)
	{
		columns[i] = columns_needed(conditions, is_inside(&runs[i], conditions));
		facts += runs[i].facts;
	}

	topn_init(&ranking.top, Min((int64) n, facts + (int64) tail->n + 1),
			  MemoryContextAllocHuge(CurrentMemoryContext,
									 sizeof(AdCount) * Min((int64) n, facts + (int64) tail->n + 1)));
	rank_grow(&ranking, SLICE_ADS);
	slices = slices_begin(runs, nruns, columns, tail);
	while ((parts = slices_next(slices, &nparts)) != NULL)
	{
		rank_make_room(&ranking, parts, nparts);
		for (int i = 0; i < nparts; i++)
			rank_part(&ranking, &parts[i]);
	}
	slices_end(slices);
	topn_offer_slice(&ranking.top, &ranking.counts);
	topn_finish(&ranking.top);
	*top = ranking.top;
}

Datum
adclick_ad_click_count_minutes(PG_FUNCTION_ARGS)
{
	Conditions	conditions = {0};

	conditions_last_minutes(&conditions, PG_GETARG_INT32(1));
	conditions_filters(&conditions, PG_GETARG_JSONB_P(2));
	PG_RETURN_INT64(ad_click_count(PG_GETARG_INT64(0), &conditions));
}

Datum
adclick_ad_click_count_window(PG_FUNCTION_ARGS)
{
	Conditions	conditions = {0};

	conditions_window(&conditions, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2));
	conditions_filters(&conditions, PG_GETARG_JSONB_P(3));
	PG_RETURN_INT64(ad_click_count(PG_GETARG_INT64(0), &conditions));
}

/* The work behind top_n_ads: rows into the result set. */
static void
return_top_n(FunctionCallInfo fcinfo, int32 n, const Conditions *conditions)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TopN		top;

	if (n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be at least 1"),
				 errdetail("It is %d.", n),
				 errhint("10 asks for the ten ads with the most clicks.")));
	InitMaterializedSRF(fcinfo, 0);
	top_n_ads(n, conditions, &top);
	for (size_t i = 0; i < top.n; i++)
	{
		Datum		values[3] = {
			Int32GetDatum((int32) i + 1),
			Int64GetDatum(facts_to_int64(top.heap[i].ad)),
			Int64GetDatum((int64) top.heap[i].clicks)
		};
		bool		nulls[3] = {false, false, false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

Datum
adclick_top_n_ads_minutes(PG_FUNCTION_ARGS)
{
	Conditions	conditions = {0};

	conditions_last_minutes(&conditions, PG_GETARG_INT32(1));
	conditions_filters(&conditions, PG_GETARG_JSONB_P(2));
	return_top_n(fcinfo, PG_GETARG_INT32(0), &conditions);
	return (Datum) 0;
}

Datum
adclick_top_n_ads_window(PG_FUNCTION_ARGS)
{
	Conditions	conditions = {0};

	conditions_window(&conditions, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2));
	conditions_filters(&conditions, PG_GETARG_JSONB_P(3));
	return_top_n(fcinfo, PG_GETARG_INT32(0), &conditions);
	return (Datum) 0;
}

static void
return_facts(const Facts *facts, void *arg)
{
	ReturnSetInfo *result = arg;

	for (size_t i = 0; i < facts->n; i++)
	{
		Datum		values[4] = {
			Int64GetDatum(facts_to_int64(facts->key[FACT_AD][i])),
			TimestampTzGetDatum(facts_to_int64(facts->key[FACT_MINUTE][i]) * USECS_PER_MINUTE),
			Int32GetDatum((int32) facts->key[FACT_FILTER][i]),
			Int64GetDatum((int64) facts->count[i])
		};
		bool		nulls[4] = {false, false, false, false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

Datum
adclick_facts(PG_FUNCTION_ARGS)
{
	Conditions	conditions = {0};
	StoreRun   *runs;
	int			nruns;

	conditions_window(&conditions, DT_NOBEGIN, DT_NOEND);
	InitMaterializedSRF(fcinfo, 0);
	runs = store_get_runs(conditions.from, conditions.to - 1, &nruns);
	slices_merge(runs, nruns, return_facts, fcinfo->resultinfo);
	return (Datum) 0;
}
