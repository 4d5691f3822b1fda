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
 * The other orders have the minute within the key, and so need no run a
 * minute: their deltas are merged into one final run, which is never merged
 * again.
 *
 * After a failure each run is read alone.  Those that cannot be read are left out
 * for some minutes: deltas stay as they are, and the facts of a minute whose run
 * is damaged are carried along.
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

#include "accumulate.h"
#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "compact.h"
#include "lists.h"
#include "read/slices.h"
#include "store/store.h"

/* A minute is rewritten when its deltas have this part of its facts. */
#define WORTHWHILE_PART 4

/* Facts of closed minutes that are carried along, at most. */
#define CARRIED_FACTS (128 * 1024)

/*
 * Deltas of order ad are merged when there are more, so that queries have few to
 * look at.  Those of the other orders are merged once, whenever minutes close, if
 * there are not too many before.
 */
#define MAX_DELTAS 24
#define MAX_OTHER_DELTAS 64

/* Bounds of one round: runs read, and minutes written, at a time. */
#define ROUND_DELTAS 128
#define ROUND_MINUTES 60

/* Places of the table from minutes to writers, a power of two above them. */
#define MINUTE_PLACES 256

/* A run that could not be read is tried again after this, in ms. */
#define DAMAGED_TIME (5 * 60 * 1000)

/* Those runs, and since when they are left out. */
static StoreLeftOut damaged;
static int64 damaged_at;		/* by steady_ms() */

typedef struct Compaction
{
	MemoryContext context;
	CompactResult *result;
	StoreState	state;

	int			nminutes;		/* minutes to write, ascending */
	int64	   *minutes;
	StoreWriter **writers;		/* one for each, and one for all other facts */
	uint8		places[MINUTE_PLACES];	/* by minute, or after it: which writer */
	Facts		sorted;			/* a batch, by writer */
} Compaction;

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

/* Most facts first; of equals the newest, as questions are about the last minutes. */
static int
by_pending(const void *a, const void *b)
{
	const StorePending *x = a;
	const StorePending *y = b;

	if (x->pending != y->pending)
		return (x->pending < y->pending) - (x->pending > y->pending);
	return (x->minute < y->minute) - (x->minute > y->minute);
}

/* Choose the minutes to write. */
static void
plan_minutes(Compaction *c, bool everything)
{
	int64		closed_before = minute_of(event_time(&c->state) - adclick_watermark * USECS_PER_SEC);
	int64		carried = 0;
	int			npending;
	StorePending *pending = store_get_pending(&damaged, &npending);

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
	c->nminutes = sort_unique_int64(c->minutes, c->nminutes);
}

/* The deltas to merge, oldest first; the others are for another round. */
static StoreRun *
plan_deltas(Compaction *c, FactOrder order, int *ndeltas)
{
	StoreRun   *deltas = store_get_deltas(order, ROUND_DELTAS + 1, &damaged, ndeltas);

	if (*ndeltas > ROUND_DELTAS)
	{
		*ndeltas = ROUND_DELTAS;
		c->result->more = true;
	}
	return deltas;
}

/* The runs to merge: deltas, and what the chosen minutes have. */
static StoreRun *
plan_runs(Compaction *c, int *nruns, int *ndeltas)
{
	StoreRun   *runs = plan_deltas(c, ORDER_AD, ndeltas);
	int			n = *ndeltas;

	runs = repalloc(runs, sizeof(StoreRun) * (n + ROUND_MINUTES + 1));
	for (int i = 0; i < c->nminutes; i++)
		n += store_get_minute(c->minutes[i], &runs[n]);
	*nruns = n;
	return runs;
}

/*
 * Where a minute stands in the table, or would.  Minutes of one time have places
 * of their own; chosen ones share them, but there are few.  What it takes does not
 * grow with the time between them.
 */
static inline uint8
place_of(const Compaction *c, int64 minute)
{
	uint8		place = (uint64) minute % MINUTE_PLACES;

	while (c->places[place] != c->nminutes && c->minutes[c->places[place]] != minute)
		place++;
	return place;
}

/* A writer for each minute, and the way from a minute to it. */
static void
begin_minutes(Compaction *c)
{
	c->writers = palloc(sizeof(StoreWriter *) * (c->nminutes + 1));
	memset(c->places, c->nminutes, sizeof(c->places));
	for (int i = 0; i < c->nminutes; i++)
	{
		c->places[place_of(c, c->minutes[i])] = i;
		c->writers[i] = store_writer_begin(ORDER_AD, false);
	}
	c->writers[c->nminutes] = store_writer_begin(ORDER_AD, true);
}

/* Which writer takes facts of a minute. */
static inline int
writer_of(const Compaction *c, int64 minute)
{
	if (c->nminutes == 0 || minute < c->minutes[0] || minute > c->minutes[c->nminutes - 1])
		return c->nminutes;
	return c->places[place_of(c, minute)];
}

/* Sort a batch by writer, keeping the order within each; "end" is where each ends. */
static void
sort_by_writer(Compaction *c, const Facts *facts, size_t *end)
{
	Facts	   *sorted = &c->sorted;
	size_t		next = 0;

	sorted->ncolumns = facts->ncolumns;
	sorted->n = 0;
	if (sorted->capacity < facts->n)
		facts_enlarge(sorted, facts->n, c->context);
	memset(end, 0, sizeof(size_t) * (c->nminutes + 1));
	for (size_t i = 0; i < facts->n; i++)
		end[writer_of(c, facts_to_int64(facts->key[FACT_MINUTE][i]))]++;
	for (int w = 0; w <= c->nminutes; w++)
	{
		size_t		n = end[w];

		end[w] = next;
		next += n;
	}
	for (size_t i = 0; i < facts->n; i++)
	{
		size_t		at = end[writer_of(c, facts_to_int64(facts->key[FACT_MINUTE][i]))]++;

		for (int column = 0; column < facts->ncolumns; column++)
			sorted->key[column][at] = facts->key[column][i];
		sorted->count[at] = facts->count[i];
	}
	sorted->n = facts->n;
}

static void
write_merged(const Facts *facts, void *arg)
{
	Compaction *c = arg;
	size_t		end[ROUND_MINUTES + 1];
	size_t		start = 0;

	sort_by_writer(c, facts, end);
	for (int w = 0; w <= c->nminutes; w++)
	{
		store_writer_add(c->writers[w], &c->sorted, start, end[w] - start);
		start = end[w];
	}
}

/* Merge runs of order ad: into the minutes chosen, and a delta of the rest. */
static void
merge_minutes(Compaction *c, const StoreRun *runs, int nruns)
{
	begin_minutes(c);
	slices_merge(ORDER_AD, runs, nruns, write_merged, c);
	for (int i = 0; i <= c->nminutes; i++)
		store_writer_end(c->writers[i]);
	store_delete_runs(runs, nruns);
	c->result->runs_merged += nruns;
	c->result->minutes_written += c->nminutes;
}

static void
write_other(const Facts *facts, void *arg)
{
	store_writer_add(arg, facts, 0, facts->n);
}

/* Merge the deltas of another order: once minutes close, or if there are many. */
static void
merge_other(Compaction *c, FactOrder order)
{
	int			nruns;
	StoreRun   *runs = plan_deltas(c, order, &nruns);
	StoreWriter *writer;
	int64		facts = 0;

	if (nruns == 0 || (c->nminutes == 0 && nruns <= MAX_OTHER_DELTAS))
		return;
	for (int i = 0; i < nruns; i++)
		facts += runs[i].facts;
	writer = store_writer_begin(order, c->nminutes == 0 && facts < LARGE_RUN_FACTS);
	slices_merge(order, runs, nruns, write_other, writer);
	store_writer_end(writer);
	store_delete_runs(runs, nruns);
	c->result->runs_merged += nruns;
}

static bool
anything_to_do(Compaction *c, bool everything)
{
	bool		found;
	int			nruns,
				ndeltas;

	store_push_snapshot();
	store_get_state(&c->state);
	plan_minutes(c, everything);
	plan_runs(c, &nruns, &ndeltas);
	found = c->nminutes > 0 || ndeltas > MAX_DELTAS;
	for (FactOrder order = ORDER_AD + 1; order < ORDERS && !found; order++)
	{
		plan_deltas(c, order, &ndeltas);
		found = ndeltas > MAX_OTHER_DELTAS;
	}
	PopActiveSnapshot();
	return found;
}

/* See with what this transaction did. */
static void
push_snapshot(Compaction *c)
{
	CommandCounterIncrement();
	store_push_snapshot();
	store_get_state(&c->state);
}

/* Merge the deltas, of all orders. */
static void
compact_runs(Compaction *c, bool everything)
{
	StoreRun   *runs;
	int			nruns,
				ndeltas;

	push_snapshot(c);
	plan_minutes(c, everything);
	runs = plan_runs(c, &nruns, &ndeltas);
	if (c->nminutes > 0 || ndeltas > MAX_DELTAS)
		merge_minutes(c, runs, nruns);
	for (FactOrder order = ORDER_AD + 1; order < ORDERS; order++)
		merge_other(c, order);
	PopActiveSnapshot();
	if (c->nminutes > 0)
	{
		/* that sees the runs of these minutes */
		push_snapshot(c);
		lists_make(c->minutes, c->nminutes);
		PopActiveSnapshot();
	}
}

static void
pass_by(const Facts *facts, void *arg)
{
}

typedef struct Reading
{
	FactOrder	order;
	const StoreRun *run;
} Reading;

static void
read_through(void *arg)
{
	Reading    *reading = arg;

	slices_merge(reading->order, reading->run, 1, pass_by, NULL);
}

static bool
is_readable(FactOrder order, const StoreRun *run)
{
	ErrorData  *error = attempt(read_through, &(Reading) {order, run});

	if (error && (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_OUT_OF_MEMORY))
		ThrowErrorData(error);
	return error == NULL;
}

static void
leave_out_damaged(FactOrder order, const StoreRun *runs, int nruns)
{
	for (int i = 0; i < nruns; i++)
	{
		if (is_readable(order, &runs[i]))
			continue;
		damaged.run_ids = damaged.run_ids == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(int64)) :
			repalloc_huge(damaged.run_ids, sizeof(int64) * (damaged.n + 1));
		damaged.run_ids[damaged.n++] = runs[i].run_id;
		damaged_at = steady_ms();
	}
}

static void
retry_damaged(void)
{
	if (damaged.n > 0 && steady_ms() - damaged_at > DAMAGED_TIME)
		damaged.n = 0;
}

void
compact_find_damaged(void)
{
	Compaction	c = {0};
	CompactResult result;
	StoreRun   *runs;
	int			nruns,
				ndeltas;

	c.result = &result;
	push_snapshot(&c);
	plan_minutes(&c, false);
	runs = plan_runs(&c, &nruns, &ndeltas);
	leave_out_damaged(ORDER_AD, runs, nruns);
	for (FactOrder order = ORDER_AD + 1; order < ORDERS; order++)
	{
		runs = plan_deltas(&c, order, &nruns);
		leave_out_damaged(order, runs, nruns);
	}
	PopActiveSnapshot();
}

void
compact_run(bool everything, CompactResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick compaction",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Compaction *c = palloc0(sizeof(Compaction));

	memset(result, 0, sizeof(*result));
	c->context = context;
	c->result = result;
	retry_damaged();
	if (anything_to_do(c, everything))
	{
		result->more = false;
		store_lock(STORE_LOCK_COMPACTION);
		store_push_snapshot();
		store_claim_compaction();
		PopActiveSnapshot();
		compact_runs(c, everything);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
