/*-------------------------------------------------------------------------
 *
 * compact.c
 *	  Compaction.
 *
 * In order ad a round has some steps, each of which merges some runs, in this order:
 *
 * Hours: the runs of the minutes of an hour that is settled become one, an hour a round.
 *
 * Minutes: the fresh deltas are merged.  Facts of minutes that are closed go to one
 * run a minute, together with what that minute had; all others go to one new delta.
 * A minute is closed when event time has passed its end by the watermark.  Late
 * clicks of closed minutes are few, and rewriting a minute for each would cost more
 * than all the rest: they are carried along in the delta until they are a quarter
 * of what the minute has, or too many are carried.
 *
 * Late facts: deltas that have settled hours alone are merged with each other, and
 * with the runs of hours for which they have enough (late.c).  What the fresh deltas
 * have of settled hours becomes such a delta, or goes to its hour.
 *
 * Days: once all hours of a day (UTC) are settled, what its final runs have is summed up as
 * its run of order day, a day a round.  What comes to its final runs later goes to a delta
 * of order day, too, in the same step (days.c).  Those wait for their days as late facts
 * do for their hours.  Both come when nothing else is to be done.  Nothing waits for what retention
 * is about to drop.
 *
 * The other orders have the minute within the key, and so need no run a
 * minute: their deltas are merged into one final run, which is never merged
 * again.
 *
 * After a failure each run that a step would merge is read alone, each step in a
 * subtransaction.  Runs that cannot be read, or whose rows say what cannot be, are left
 * out for some minutes: deltas stay as they are, and the facts of a minute or an hour
 * whose run is damaged are carried along, merged by tiers alone.
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
#include "days.h"
#include "late.h"
#include "lists.h"
#include "old_days.h"
#include "read/slices.h"
#include "store/store.h"

/* A minute is rewritten when its deltas have this part of its facts; an hour, when late ones have. */
#define WORTHWHILE_PART 4
#define WORTHWHILE_LATE_PART 8

/* Facts of closed minutes that are carried along, at most. */
#define CARRIED_FACTS (128 * 1024)

/* An hour is settled when minutes that end so much later are closed, in minutes. */
#define SETTLING_TIME 60

/*
 * Fresh deltas of order ad are merged when there are more, so that queries have few to
 * look at.  Those of the other orders are merged once, whenever minutes close, if
 * there are not too many before.
 */
#define MAX_DELTAS 24
#define MAX_OTHER_DELTAS 64

/* Bounds of one merge: deltas read, minutes written, and facts of hours or days written, give or take one. */
#define MERGE_DELTAS 128
#define MERGE_MINUTES 60
#define MERGE_FINAL_FACTS (16 * 1024 * 1024)

#define MAX_TARGETS (MERGE_MINUTES + SPAN_PARTS)

/* The ways from minutes to writers that are remembered, a power of two. */
#define WAYS 1024

/* A run that could not be read is tried again after this, and what was left is looked at again, in ms. */
#define REMEMBERED_TIME (5 * 60 * 1000)

/* Those runs, and since when they are left out. */
static StoreLeftOut damaged;
static int64 damaged_at;		/* by steady_ms() */

/*
 * What was looked at and left as it is, so that the compactor need not look again each
 * second, or from the oldest hour on for each that is settled, however many there are.
 */
typedef struct LookedAt
{
	int64		hours_from;		/* runs of minutes before this one are only looked for now and then */
	int64		hours_before;	/* hours before this minute have none */
	int64		days_from;		/* likewise days that have no run */
	int64		days_before;
	int64		late_before[2]; /* when this was the first minute not settled ... */
	int			nlate[2];		/* ... there were so many late deltas, none of which was to be merged; 0: not looked at */
	int64		newest_late[2]; /* all three of order ad, and of order day */
	int64		since;			/* by steady_ms() */
} LookedAt;

#define NOTHING_LOOKED_AT \
	.hours_from = FIRST_MINUTE, .hours_before = PG_INT64_MIN, .days_from = FIRST_MINUTE, .days_before = PG_INT64_MIN

static LookedAt looked_at = {NOTHING_LOOKED_AT};

typedef struct Compaction
{
	MemoryContext context;
	CompactResult *result;
	bool		everything;		/* as in compact_run */
	int64		closed;			/* minutes before this one are closed ... */
	int64		settled;		/* ... and hours before this minute are settled */
	int64		leaving[2];		/* of order ad, and day: nothing before this minute is to wait in deltas */
} Compaction;

/* A run to write: of a minute, of an hour, of a day, or a delta. */
typedef struct Target
{
	int64		first;			/* its first minute */
	int64		end;			/* the one after its last */
	bool		is_delta;
	StoreWriter *writer;
} Target;

/* The target of a minute's facts. */
typedef struct Way
{
	int64		minute;
	int			target;
} Way;

typedef struct Merge
{
	MemoryContext context;
	FactOrder	order;			/* ad or day */
	bool		makes_day;		/* the runs stay, and the only target is their day */
	int64		settled;
	int			ndeltas;
	int			nruns;			/* the deltas first */
	StoreRun   *runs;
	int			ntargets;		/* ascending; behind them the deltas for other facts: settled, not settled */
	Target		targets[MAX_TARGETS + 2];
	Way			ways[WAYS];		/* by minute */
	Facts		sorted;			/* a batch, by target */
	uint8	   *target_of;		/* for each of its facts before */
} Merge;

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
	return (x->first < y->first) - (x->first > y->first);
}

/*----------
 * What to merge
 *----------
 */

static Merge *
new_merge(const Compaction *c, FactOrder order)
{
	Merge	   *m = palloc0(sizeof(Merge));

	m->context = c->context;
	m->order = order;
	m->settled = c->settled;
	return m;
}

static Merge *
merge_deltas(const Compaction *c, const StoreRun *deltas, int ndeltas)
{
	Merge	   *m = new_merge(c, deltas->order);

	m->ndeltas = m->nruns = Min(ndeltas, MERGE_DELTAS);
	m->runs = palloc(sizeof(StoreRun) * (m->ndeltas + MAX_TARGETS));
	memcpy(m->runs, deltas, sizeof(StoreRun) * m->ndeltas);
	return m;
}

static void
add_target(Merge *m, int64 first, int64 end, bool is_delta)
{
	m->targets[m->ntargets++] = (Target) {.first = first, .end = end, .is_delta = is_delta};
}

static StoreGrain
target_grain(const Target *target)
{
	int64		minutes = target->end - target->first;

	return minutes == MINS_PER_DAY ? GRAIN_DAY : minutes == MINS_PER_HOUR ? GRAIN_HOUR : GRAIN_MINUTE;
}

/* Choose the minutes to write. */
static void
plan_minutes(const Compaction *c, Merge *m)
{
	int64		carried = 0;
	int			npending;
	StorePending *pending = store_get_pending_minutes(m->runs, m->ndeltas, c->settled, c->closed, &damaged,
													  &npending);

	qsort(pending, npending, sizeof(StorePending), by_pending);
	for (int i = 0; i < npending; i++)
		carried += pending[i].pending;

	for (int i = 0; i < npending && m->ntargets < MERGE_MINUTES; i++)
	{
		StorePending *p = &pending[i];

		if (!c->everything && carried <= CARRIED_FACTS &&
			p->pending < p->compacted / WORTHWHILE_PART)
			continue;
		carried -= p->pending;
		add_target(m, p->first, p->first + 1, false);
	}
}

/* Write these hours or days; if that becomes too much, only part the rest from each other. */
static void
add_finals(Merge *m, const StorePending *finals, int nfinals)
{
	int64		minutes = grain_minutes(m->order == ORDER_DAY ? GRAIN_DAY : GRAIN_HOUR);
	int64		facts = 0;

	for (int i = 0; i < nfinals; i++)
	{
		add_target(m, finals[i].first, finals[i].first + minutes, facts > MERGE_FINAL_FACTS);
		facts += finals[i].pending + finals[i].compacted;
	}
}

/* Part what these hours or days have into deltas of smaller spans. */
static void
add_spans(Merge *m, const StorePending *finals, int nfinals)
{
	Span		all = span_of(finals[0].first, finals[nfinals - 1].first);
	int64		end = PG_INT64_MIN;

	for (int i = 0; i < nfinals && finals[i].first < m->settled; i++)
	{
		Span		part = span_part(all, finals[i].first);

		if (finals[i].first < end)
			continue;
		end = Min(span_end(part), m->settled);
		add_target(m, span_first(part), end, true);
	}
}

static int64
leaving_before(const Compaction *c, FactOrder order)
{
	return c->leaving[order == ORDER_DAY];
}

/* Choose the hours or days to write. */
static void
plan_finals(const Compaction *c, Merge *m)
{
	int			npending;
	StorePending *pending = m->order == ORDER_DAY ?
		store_get_pending_days(m->runs, m->ndeltas, &damaged, &npending) :
		store_get_pending_hours(m->runs, m->ndeltas, c->settled, &damaged, &npending);
	int			n = 0;

	for (int i = 0; i < npending; i++)
		if (pending[i].first < leaving_before(c, m->order) ||
			pending[i].pending >= pending[i].compacted / WORTHWHILE_LATE_PART)
			pending[n++] = pending[i];
	if (n <= SPAN_PARTS)
		add_finals(m, pending, n);
	else
		add_spans(m, pending, n);
}

static int
by_first(const void *a, const void *b)
{
	return compare_int64(&((const Target *) a)->first, &((const Target *) b)->first);
}

/* Targets are chosen: what minutes, hours and days have is merged, too. */
static void
add_final_runs(Merge *m)
{
	qsort(m->targets, m->ntargets, sizeof(Target), by_first);
	for (int i = 0; i < m->ntargets; i++)
		if (!m->targets[i].is_delta)
			m->nruns += store_get_final(m->targets[i].first, target_grain(&m->targets[i]), &m->runs[m->nruns]);
}

/*
 * Fresh deltas, if minutes close, or if they are too many; NULL if not.  What they have
 * of settled hours is no reason, unless everything is to be folded in.
 */
static Merge *
plan_fresh(const Compaction *c)
{
	int			ndeltas;
	StoreRun   *deltas = store_get_deltas(ORDER_AD, c->settled, MERGE_DELTAS, &damaged, &ndeltas);
	Merge	   *m;

	if (ndeltas == 0)
		return NULL;
	m = merge_deltas(c, deltas, ndeltas);
	plan_minutes(c, m);
	if (m->ntargets == 0 && ndeltas <= MAX_DELTAS && !c->everything)
		return NULL;
	plan_finals(c, m);
	if (m->ntargets == 0 && ndeltas <= MAX_DELTAS)
		return NULL;
	add_final_runs(m);
	return m;
}

/* The runs of minutes of a settled hour, or NULL. */
static Merge *
plan_settled(const Compaction *c)
{
	Merge	   *m = new_merge(c, ORDER_AD);
	int64		first;

	if (!c->everything && looked_at.hours_before == c->settled)
		return NULL;
	looked_at.hours_from = Min(looked_at.hours_from, c->settled);
	m->runs = store_get_settled(looked_at.hours_from, c->settled, &damaged, &m->nruns);
	if (m->nruns == 0 && c->everything)
		m->runs = store_get_settled(FIRST_MINUTE, c->settled, &damaged, &m->nruns);
	if (m->nruns == 0)
	{
		looked_at.hours_from = looked_at.hours_before = c->settled;
		return NULL;
	}
	first = hour_of(m->runs[0].first_minute);
	looked_at.hours_from = first;
	add_target(m, first, first + MINS_PER_HOUR, false);
	return m;
}

/* Whether these late deltas have been looked at before. */
static bool
were_looked_at(const Compaction *c, const StoreRun *late, int nlate)
{
	bool		of_days = late->order == ORDER_DAY;

	return looked_at.nlate[of_days] == nlate && looked_at.newest_late[of_days] == late[nlate - 1].run_id &&
		looked_at.late_before[of_days] == c->settled;
}

/*
 * Late deltas that should be merged, or NULL.  What is due for hours or days that are damaged,
 * or hours that are still minutes, goes nowhere: then only tiers are merged, and not the
 * whole pile with each delta that comes to it.
 */
static Merge *
plan_waiting(const Compaction *c, StoreRun *late, int nlate)
{
	const StoreRun *chosen;
	int			next = 0;
	int			n;
	int64		newest;

	if (nlate == 0 || (!c->everything && were_looked_at(c, late, nlate)))
		return NULL;
	newest = late[nlate - 1].run_id;
	late_sort(late, nlate);
	while ((n = late_choose(late, nlate, leaving_before(c, late->order), &damaged, &next, &chosen)) > 0)
	{
		Merge	   *m = merge_deltas(c, chosen, n);

		plan_finals(c, m);
		if (m->ntargets == 0 && !c->everything)
		{
			n = late_choose_tier(chosen, n, &chosen);
			if (n == 0)
				continue;
			m = merge_deltas(c, chosen, n);
		}
		add_final_runs(m);
		if (m->ntargets > 0 || m->ndeltas > 1)
			return m;
	}
	if (!c->everything)
	{
		bool		of_days = late->order == ORDER_DAY;

		looked_at.nlate[of_days] = nlate;
		looked_at.newest_late[of_days] = newest;
		looked_at.late_before[of_days] = c->settled;
	}
	return NULL;
}

static Merge *
plan_late(const Compaction *c)
{
	int			nlate;
	StoreRun   *late = store_get_late(ORDER_AD, c->settled, &damaged, &nlate);

	return plan_waiting(c, late, nlate);
}

static Merge *
plan_late_of_days(const Compaction *c)
{
	int			nlate;
	StoreRun   *late = store_get_late(ORDER_DAY, LAST_MINUTE, &damaged, &nlate);

	return plan_waiting(c, late, nlate);
}

/* The final runs of a day that is to get a run of its own, or NULL. */
static Merge *
plan_day(const Compaction *c)
{
	int64		before = day_of(c->settled);
	Merge	   *m;
	int64		day;

	if (!c->everything && looked_at.days_before == before)
		return NULL;
	looked_at.days_from = Min(looked_at.days_from, before);
	day = store_get_unmade_day(c->everything ? FIRST_MINUTE : looked_at.days_from, before, &damaged);
	if (day == LAST_MINUTE)
	{
		looked_at.days_from = looked_at.days_before = before;
		return NULL;
	}
	looked_at.days_from = day;
	m = new_merge(c, ORDER_AD);
	m->makes_day = true;
	m->runs = store_get_finals(day, day + MINS_PER_DAY - 1, &m->nruns);
	add_target(m, day, day + MINS_PER_DAY, false);
	return m;
}

/* The steps, in their order; those from here on only where none before had anything to do. */
static Merge *(*const steps[]) (const Compaction *) = {plan_settled, plan_fresh, plan_late, plan_late_of_days, plan_day};

#define FIRST_STEP_OF_DAYS 3

/*----------
 * Merging
 *----------
 */

static void
begin_targets(Merge *m)
{
	add_target(m, PG_INT64_MIN, m->settled, true);
	add_target(m, m->settled, PG_INT64_MAX, true);
	for (int i = 0; i < m->ntargets; i++)
	{
		Target	   *target = &m->targets[i];

		target->writer = target->is_delta ? store_writer_begin(m->order, true) :
			store_writer_begin_final(target_grain(target));
	}
	for (int i = 0; i < WAYS; i++)
		m->ways[i].minute = PG_INT64_MAX;
}

/* Which target takes facts of a minute. */
static int
find_target(const Merge *m, int64 minute)
{
	int			low = 0;
	int			high = m->ntargets - 2;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (m->targets[middle].end <= minute)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < m->ntargets - 2 && m->targets[low].first <= minute)
		return low;
	return m->ntargets - 2 + (minute >= m->settled);
}

static inline int
target_of(Merge *m, int64 minute)
{
	Way		   *way = &m->ways[(uint64) minute % WAYS];

	if (way->minute != minute)
		*way = (Way) {minute, find_target(m, minute)};
	return way->target;
}

static void
enlarge_sorted(Merge *m, const Facts *facts)
{
	m->sorted.ncolumns = facts->ncolumns;
	facts_enlarge(&m->sorted, facts->n, m->context);
	if (m->target_of)
		pfree(m->target_of);
	m->target_of = MemoryContextAllocHuge(m->context, facts->n);
}

/* Sort a batch by target, keeping the order within each; "end" is where each ends. */
static void
sort_by_target(Merge *m, const Facts *facts, size_t *end)
{
	Facts	   *sorted = &m->sorted;
	size_t		next = 0;

	if (sorted->capacity < facts->n)
		enlarge_sorted(m, facts);
	memset(end, 0, sizeof(size_t) * m->ntargets);
	for (size_t i = 0; i < facts->n; i++)
		end[m->target_of[i] = target_of(m, facts_to_int64(facts->key[FACT_MINUTE][i]))]++;
	for (int t = 0; t < m->ntargets; t++)
	{
		size_t		n = end[t];

		end[t] = next;
		next += n;
	}
	for (size_t i = 0; i < facts->n; i++)
	{
		size_t		at = end[m->target_of[i]]++;

		for (int column = 0; column < facts->ncolumns; column++)
			sorted->key[column][at] = facts->key[column][i];
		sorted->count[at] = facts->count[i];
	}
	sorted->n = facts->n;
}

static void
write_merged(const Facts *facts, void *arg)
{
	Merge	   *m = arg;
	size_t		end[MAX_TARGETS + 2];
	size_t		start = 0;

	sort_by_target(m, facts, end);
	for (int t = 0; t < m->ntargets; t++)
	{
		store_writer_add(m->targets[t].writer, &m->sorted, start, end[t] - start);
		start = end[t];
	}
}

/* What deltas bring to minutes and hours of days that have a run, comes to these days. */
static void
add_to_days(const Merge *m)
{
	int64		days[MAX_TARGETS];
	DayPart		parts[MAX_TARGETS];
	int			n = 0;
	int			nparts = 0;
	int			nmade;
	int64	   *made;

	for (int i = 0; i < m->ntargets; i++)
		if (!m->targets[i].is_delta)
			days[n++] = day_of(m->targets[i].first);
	made = store_get_made_days(days, n, &nmade);
	for (int i = 0; i < m->ntargets; i++)
	{
		const Target *target = &m->targets[i];
		int64		day = day_of(target->first);

		if (!target->is_delta && bsearch(&day, made, nmade, sizeof(int64), compare_int64) != NULL)
			parts[nparts++] = (DayPart) {target->first, target->end};
	}
	if (nparts > 0)
		days_add(m->runs, m->ndeltas, parts, nparts);
}

/* Merge runs into the targets chosen, and what is in none into deltas. */
static void
merge_runs(Compaction *c, Merge *m)
{
	if (m->order == ORDER_AD && m->ndeltas > 0)
		add_to_days(m);
	begin_targets(m);
	slices_merge(m->order, m->runs, m->nruns, write_merged, m);
	for (int i = 0; i < m->ntargets; i++)
		store_writer_end(m->targets[i].writer);
	store_delete_runs(m->runs, m->nruns);
	c->result->runs_merged += m->nruns;
}

/*
 * Make the lists of what was written; those of the minutes of an hour hold as long as it has
 * no late facts, and for a day.
 */
static void
make_lists(Compaction *c, const Merge *m, StoreGrain grain)
{
	int32	   *written[GRAINS] = {&c->result->minutes_written, &c->result->hours_written, &c->result->days_written};
	int64		firsts[MAX_TARGETS];
	int			n = 0;

	for (int i = 0; i < m->ntargets; i++)
		if (!m->targets[i].is_delta && target_grain(&m->targets[i]) == grain)
			firsts[n++] = m->targets[i].first;
	if (n == 0)
		return;
	if (grain == GRAIN_HOUR && m->ndeltas > 0)
		lists_delete_minutes(firsts, n);
	else if (grain == GRAIN_HOUR)
		lists_delete_old_minutes(firsts[0]);
	lists_make(grain, firsts, n);
	*written[grain] += n;
}

/* Minutes before this one are closed at a time. */
static int64
closed_at(TimestampTz time)
{
	return minute_of(time - adclick_watermark * USECS_PER_SEC);
}

/* Hours before this minute are settled when the minutes before "closed" are closed. */
static int64
settled_with(int64 closed)
{
	return hour_of(closed - SETTLING_TIME);
}

/*
 * See with what this transaction did.  When event time goes back, as old clicks come
 * alone, hours stay settled: what waits for them would all be fresh.  Not so an hour that
 * comes from a clock that was ahead.
 */
static void
push_snapshot(Compaction *c)
{
	StoreState	state;

	CommandCounterIncrement();
	store_push_snapshot();
	store_get_state(&state);
	c->closed = closed_at(event_time(&state));
	c->leaving[0] = c->everything ? PG_INT64_MAX : old_days_kept_from(ORDER_AD, GetCurrentTimestamp());
	c->leaving[1] = c->everything ? PG_INT64_MAX : old_days_kept_from(ORDER_DAY, GetCurrentTimestamp());
	c->settled = Max(settled_with(c->closed), store_end_of_hours(settled_with(closed_at(GetCurrentTimestamp()))));
}

/* Minutes or hours were written: their days may have no run. */
static void
look_at_days_again(const Merge *m)
{
	for (int i = 0; i < m->ntargets; i++)
		if (!m->targets[i].is_delta)
		{
			looked_at.days_from = Min(looked_at.days_from, day_of(m->targets[i].first));
			looked_at.days_before = PG_INT64_MIN;
		}
}

/* A step of the round, if there is something to do. */
static void
run_step(Compaction *c, Merge *(*plan) (const Compaction *))
{
	Merge	   *m;

	push_snapshot(c);
	m = plan(c);
	if (m && m->makes_day)
		days_make(m->targets[0].first, m->runs, m->nruns);
	else if (m)
		merge_runs(c, m);
	PopActiveSnapshot();
	if (m)
	{
		look_at_days_again(m);
		looked_at.nlate[false] = looked_at.nlate[true] = 0; /* late facts may have somewhere to go to now */
		push_snapshot(c);		/* that sees the new runs */
		for (StoreGrain grain = GRAIN_MINUTE; grain < GRAINS; grain++)
			make_lists(c, m, grain);
		PopActiveSnapshot();
	}
}

static void
write_other(const Facts *facts, void *arg)
{
	store_writer_add(arg, facts, 0, facts->n);
}

static StoreRun *
get_other_deltas(FactOrder order, int *ndeltas)
{
	return store_get_deltas(order, FIRST_MINUTE, MERGE_DELTAS, &damaged, ndeltas);
}

/* Merge the deltas of another order: once minutes close, or if there are many. */
static void
merge_other(Compaction *c, FactOrder order)
{
	bool		closed = c->result->minutes_written + c->result->hours_written > 0;
	int			nruns;
	StoreRun   *runs = get_other_deltas(order, &nruns);
	StoreWriter *writer;
	int64		facts = 0;
	int64		run_id;

	if (nruns == 0 || (!closed && nruns <= MAX_OTHER_DELTAS))
		return;
	for (int i = 0; i < nruns; i++)
		facts += runs[i].facts;
	run_id = store_new_run();
	writer = store_writer_begin_as(order, !closed && facts < LARGE_RUN_FACTS, run_id);
	slices_merge(order, runs, nruns, write_other, writer);
	store_writer_end(writer);
	if (order == ORDER_LEDGER)
		store_move_unpacked(runs, nruns, run_id);
	store_delete_runs(runs, nruns);
	c->result->runs_merged += nruns;
}

static bool
anything_to_do(Compaction *c)
{
	bool		found = false;

	push_snapshot(c);
	for (int i = 0; i < lengthof(steps) && !found; i++)
		found = steps[i] (c) != NULL;
	for (FactOrder order = ORDER_USER; order <= ORDER_LEDGER && !found; order++)
	{
		int			ndeltas;

		(void) get_other_deltas(order, &ndeltas);
		found = ndeltas > MAX_OTHER_DELTAS;
	}
	PopActiveSnapshot();
	return found;
}

/* Merge what there is to merge, of all orders. */
static void
compact_runs(Compaction *c)
{
	for (int i = 0; i < lengthof(steps); i++)
		if (i < FIRST_STEP_OF_DAYS || c->result->runs_merged == 0)
			run_step(c, steps[i]);
	push_snapshot(c);
	for (FactOrder order = ORDER_USER; order <= ORDER_LEDGER; order++)
		merge_other(c, order);
	PopActiveSnapshot();
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

/* Whether what is tried can be done; what ends the round is thrown on. */
static bool
can_be_done(void (*inside) (void *arg), void *arg)
{
	ErrorData  *error = attempt(inside, arg);

	if (error && (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_OUT_OF_MEMORY))
		ThrowErrorData(error);
	return error == NULL;
}

static void
leave_out(const StoreRun *run)
{
	for (int i = 0; i < damaged.n; i++)
		if (damaged.run_ids[i] == run->run_id)
			return;
	damaged.run_ids = damaged.run_ids == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(int64)) :
		repalloc_huge(damaged.run_ids, sizeof(int64) * (damaged.n + 1));
	damaged.run_ids[damaged.n++] = run->run_id;
	damaged_at = steady_ms();
}

static void
leave_out_damaged(FactOrder order, const StoreRun *runs, int nruns)
{
	for (int i = 0; i < nruns; i++)
		if (!can_be_done(read_through, &(Reading) {order, &runs[i]}))
			leave_out(&runs[i]);
}

static void
leave_out_impossible(void)
{
	int			nruns;
	StoreRun   *runs = store_get_impossible(&nruns);

	for (int i = 0; i < nruns; i++)
		leave_out(&runs[i]);
}

/* Where damaged runs are looked for: in what a step would merge, or else among the deltas of an order. */
typedef struct Finding
{
	const Compaction *c;
	Merge	   *(*plan) (const Compaction *);
	FactOrder	order;
} Finding;

static void
find_damaged(void *arg)
{
	const Finding *finding = arg;

	if (finding->plan)
	{
		Merge	   *m = finding->plan(finding->c);

		if (m)
			leave_out_damaged(m->order, m->runs, m->nruns);
	}
	else
	{
		int			nruns;
		StoreRun   *runs = get_other_deltas(finding->order, &nruns);

		leave_out_damaged(finding->order, runs, nruns);
	}
}

static void
forget_looked_at(void)
{
	looked_at = (LookedAt) {NOTHING_LOOKED_AT, .since = steady_ms()};
}

static void
forget_in_time(void)
{
	int64		now = steady_ms();

	if (damaged.n > 0 && now - damaged_at > REMEMBERED_TIME)
	{
		damaged.n = 0;
		forget_looked_at();
	}
	if (now - looked_at.since > REMEMBERED_TIME)
		forget_looked_at();
}

void
compact_find_damaged(void)
{
	Compaction	c = {.context = CurrentMemoryContext};

	forget_looked_at();			/* what failed may have thought to leave nothing */
	push_snapshot(&c);
	leave_out_impossible();
	for (int i = 0; i < lengthof(steps); i++)
		(void) can_be_done(find_damaged, &(Finding) {.c = &c, .plan = steps[i]});
	for (FactOrder order = ORDER_USER; order <= ORDER_LEDGER; order++)
		(void) can_be_done(find_damaged, &(Finding) {.c = &c, .order = order});
	PopActiveSnapshot();
}

int
compact_left_out(void)
{
	return damaged.n;
}

void
compact_run(bool everything, CompactResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick compaction",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Compaction	c = {.context = context, .result = result, .everything = everything};

	memset(result, 0, sizeof(*result));
	forget_in_time();
	if (anything_to_do(&c))
	{
		store_lock(STORE_LOCK_COMPACTION);
		store_push_snapshot();
		store_claim_compaction();
		PopActiveSnapshot();
		compact_runs(&c);
		result->more = anything_to_do(&c);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
