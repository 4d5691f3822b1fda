/*-------------------------------------------------------------------------
 *
 * compact.c
 *	  Compaction.
 *
 * A round merges the delta runs.  Facts of minutes that are closed go to one run
 * a minute, together with what that minute had; all other facts go to one new
 * delta.  A minute is closed when event time has passed its end by the
 * watermark.
 *
 * Late clicks of closed minutes are few, and rewriting a minute for each would
 * cost more than all the rest: they are carried along in the delta until they
 * are a quarter of what the minute has, or too many are carried.
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
#include "utils/timestamp.h"

#include "adclick.h"
#include "click.h"
#include "compact.h"
#include "filters.h"
#include "seen.h"
#include "slices.h"
#include "store.h"

/* A minute is rewritten when its deltas have this part of its facts. */
#define WORTHWHILE_PART 4

/* Facts of closed minutes that are carried along, at most. */
#define CARRIED_FACTS (1024 * 1024)

/* Deltas are merged when there are more, so that queries have few to look at. */
#define MAX_DELTAS 24

/* Bounds of one round: runs read, and minutes written, at a time. */
#define ROUND_DELTAS 128
#define ROUND_MINUTES 60

typedef struct Compaction
{
	CompactResult *result;
	StoreState	state;

	int			nminutes;		/* minutes to write, ascending */
	int64	   *minutes;
	StoreWriter **writers;		/* one for each */
	StoreWriter *leftover;		/* for all other facts */

	MemoryContext late_context;	/* of the bucket being decided */
	Facts		late;			/* clicks that were queued and are new */
	StoreSink  *discarded;		/* for those that are not */
} Compaction;

static void
decide_late(TupleTableSlot *slot, const Click *click, bool duplicate, void *arg)
{
	Compaction *c = arg;
	Facts	   *late = &c->late;
	Dimensions	dimensions;

	if (duplicate)
	{
		store_discard(c->discarded, slot, CLICK_DUPLICATE);
		c->result->late_duplicates++;
		return;
	}
	if (late->n == late->capacity)
	{
		Facts		larger;

		facts_init(&larger, FACT_COLUMNS, 2 * late->capacity,
				   MemoryContextAllocHuge(c->late_context,
										  facts_memory(FACT_COLUMNS, 2 * late->capacity)));
		for (int i = 0; i < FACT_COLUMNS; i++)
			memcpy(larger.key[i], late->key[i], sizeof(uint64_t) * late->n);
		memcpy(larger.count, late->count, sizeof(uint64_t) * late->n);
		larger.n = late->n;
		*late = larger;
	}
	dimensions_read(slot, &dimensions);
	late->key[FACT_AD][late->n] = facts_from_int64(click->ad_id);
	late->key[FACT_MINUTE][late->n] = facts_from_int64(minute_of(click->at));
	late->key[FACT_FILTER][late->n] = filters_make(&dimensions);
	late->count[late->n++] = 1;
	c->result->late_counted++;
}

/* Decide the queued clicks of one bucket; the new ones become a delta. */
static void
compact_bucket(Compaction *c, int64 bucket)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick late",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	StoreWriter *writer = store_writer_begin(true);

	c->late_context = context;
	facts_init(&c->late, FACT_COLUMNS, 1024, palloc(facts_memory(FACT_COLUMNS, 1024)));
	c->discarded = store_discard_begin();
	seen_each_late(&c->state, bucket, decide_late, c);
	store_sink_end(c->discarded);
	if (c->late.n > 0)
		facts_combine(&c->late, MemoryContextAllocHuge(context, facts_scratch(FACT_COLUMNS, c->late.n)));
	store_writer_add(writer, &c->late, 0, c->late.n);
	store_writer_end(writer);
	store_delete_queued(bucket);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

/*
 * Where event time stands: at the newest click of the last tick, so that a
 * replay at any speed closes its minutes in order; or, if clicks have stopped
 * coming, at the clock.
 */
static TimestampTz
event_time(const StoreState *state)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz patience = adclick_watermark * USECS_PER_SEC;

	if (state->event_time == DT_NOBEGIN || now - state->ticked_at > patience)
		return now;
	return state->event_time;
}

static int
by_pending(const void *a, const void *b)
{
	int64		x = ((const StorePending *) a)->pending;
	int64		y = ((const StorePending *) b)->pending;

	return (x < y) - (x > y);
}

/* Choose the minutes to write. */
static void
plan_minutes(Compaction *c, bool everything)
{
	int64		closed_before = minute_of(event_time(&c->state) - adclick_watermark * USECS_PER_SEC);
	int64		carried = 0;
	int			npending;
	StorePending *pending = store_get_pending(&npending);

	qsort(pending, npending, sizeof(StorePending), by_pending);
	for (int i = 0; i < npending; i++)
		if (pending[i].minute < closed_before)
			carried += pending[i].pending;

	c->nminutes = 0;
	c->minutes = palloc(sizeof(int64) * ROUND_MINUTES);
	for (int i = 0; i < npending; i++)
	{
		StorePending *p = &pending[i];

		if (p->minute >= closed_before)
			continue;
		if (!everything && carried <= CARRIED_FACTS &&
			p->pending < p->compacted / WORTHWHILE_PART)
			continue;
		if (c->nminutes == ROUND_MINUTES)
		{
			c->result->more = true;
			break;
		}
		carried -= p->pending;
		c->minutes[c->nminutes++] = p->minute;
	}
	qsort(c->minutes, c->nminutes, sizeof(int64), compare_int64);
}

/* The runs to merge: deltas, oldest first, and what the chosen minutes have. */
static StoreRun *
plan_runs(Compaction *c, int *nruns, int *ndeltas)
{
	StoreRun   *runs = store_get_deltas(ROUND_DELTAS, ndeltas);
	int			n = *ndeltas;

	runs = repalloc(runs, sizeof(StoreRun) * (n + ROUND_MINUTES + 1));
	for (int i = 0; i < c->nminutes; i++)
		n += store_get_minute(c->minutes[i], &runs[n]);
	*nruns = n;
	return runs;
}

static StoreWriter *
writer_for(Compaction *c, int64 minute)
{
	int64	   *found = c->nminutes == 0 ? NULL :
		bsearch(&minute, c->minutes, c->nminutes, sizeof(int64), compare_int64);

	return found ? c->writers[found - c->minutes] : c->leftover;
}

static void
write_merged(const Facts *facts, void *arg)
{
	Compaction *c = arg;
	size_t		start = 0;

	while (start < facts->n)
	{
		uint64		minute = facts->key[FACT_MINUTE][start];
		size_t		end = start + 1;

		while (end < facts->n && facts->key[FACT_MINUTE][end] == minute)
			end++;
		store_writer_add(writer_for(c, facts_to_int64(minute)), facts, start, end - start);
		start = end;
	}
}

static void
merge_runs(Compaction *c, const StoreRun *runs, int nruns)
{
	c->writers = palloc(sizeof(StoreWriter *) * (c->nminutes + 1));
	for (int i = 0; i < c->nminutes; i++)
		c->writers[i] = store_writer_begin(false);
	c->leftover = store_writer_begin(true);

	slices_merge(runs, nruns, write_merged, c);

	for (int i = 0; i < c->nminutes; i++)
		store_writer_end(c->writers[i]);
	store_writer_end(c->leftover);
	store_delete_runs(runs, nruns);
	c->result->runs_merged += nruns;
	c->result->minutes_written += c->nminutes;
}

static bool
anything_to_do(Compaction *c, bool everything)
{
	bool		found;
	int64		bucket;
	int			nruns,
				ndeltas;

	PushActiveSnapshot(GetLatestSnapshot());
	store_get_state(&c->state);
	plan_minutes(c, everything);
	plan_runs(c, &nruns, &ndeltas);
	found = store_first_queued(&bucket) || c->nminutes > 0 || ndeltas > MAX_DELTAS;
	PopActiveSnapshot();
	return found;
}

/* See the world as it is now, with what this transaction did. */
static void
push_snapshot(Compaction *c)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	store_get_state(&c->state);
}

/* Decide late clicks: a bucket in a round, or all of them. */
static void
compact_late(Compaction *c, bool everything)
{
	CompactResult *result = c->result;
	int64		bucket;
	bool		found;
	int			ndone = 0;

	do
	{
		push_snapshot(c);
		found = store_first_queued(&bucket);
		if (found && (everything || ndone == 0))
		{
			filters_refresh();
			compact_bucket(c, bucket);
			ndone++;
		}
		else
			result->more = found;
		if (ndone > 0 && (!found || result->more))
			store_add_late(result->late_counted, result->late_duplicates);
		PopActiveSnapshot();
	} while (found && !result->more);
}

void
compact_run(bool everything, CompactResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick compaction",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Compaction *c = palloc0(sizeof(Compaction));
	StoreRun   *runs;
	int			nruns,
				ndeltas;

	memset(result, 0, sizeof(*result));
	c->result = result;
	if (anything_to_do(c, everything))
	{
		result->more = false;
		store_lock(STORE_LOCK_COMPACTION);
		compact_late(c, everything);

		push_snapshot(c);
		plan_minutes(c, everything);
		runs = plan_runs(c, &nruns, &ndeltas);
		if (c->nminutes > 0 || ndeltas > MAX_DELTAS)
			merge_runs(c, runs, nruns);
		PopActiveSnapshot();
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
