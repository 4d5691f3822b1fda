/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  What to merge next.
 *
 * See plan.h.  A round has some steps, each of which merges some runs, in this order:
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
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/adclick.h"
#include "late.h"
#include "plan.h"

/* A minute is rewritten when its deltas have this part of its facts; an hour, when late ones have. */
#define WORTHWHILE_PART 4
#define WORTHWHILE_LATE_PART 8

/* Facts of closed minutes that are carried along, at most. */
#define CARRIED_FACTS (128 * 1024)

/* Fresh deltas are merged when there are more, so that queries have few to look at. */
#define MAX_DELTAS 24

/* Bounds of one merge beside that of its minutes: deltas read, and facts of hours or days written, give or take one of these. */
#define MERGE_DELTAS 128
#define MERGE_FINAL_FACTS (16 * 1024 * 1024)

/* What was left as it is is looked at again after this, in ms. */
#define REMEMBERED_TIME (5 * 60 * 1000)

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

static Merge *
new_merge(const Planning *p, FactOrder order)
{
	Merge	   *m = palloc0(sizeof(Merge));

	m->order = order;
	m->settled = p->settled;
	return m;
}

static Merge *
merge_deltas(const Planning *p, const StoreRun *deltas, int ndeltas)
{
	Merge	   *m = new_merge(p, deltas->order);

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

/* Choose the minutes to write. */
static void
plan_minutes(const Planning *p, Merge *m)
{
	int64		carried = 0;
	int			npending;
	StorePending *pending = store_get_pending_minutes(m->runs, m->ndeltas, p->settled, p->closed, p->left_out,
													  &npending);

	qsort(pending, npending, sizeof(StorePending), by_pending);
	for (int i = 0; i < npending; i++)
		carried += pending[i].pending;

	for (int i = 0; i < npending && m->ntargets < MERGE_MINUTES; i++)
	{
		const StorePending *minute = &pending[i];

		if (!p->everything && carried <= CARRIED_FACTS &&
			minute->pending < minute->compacted / WORTHWHILE_PART)
			continue;
		carried -= minute->pending;
		add_target(m, minute->first, minute->first + 1, false);
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
leaving_before(const Planning *p, FactOrder order)
{
	return p->leaving[order == ORDER_DAY];
}

/* Choose the hours or days to write. */
static void
plan_finals(const Planning *p, Merge *m)
{
	int			npending;
	StorePending *pending = m->order == ORDER_DAY ?
		store_get_pending_days(m->runs, m->ndeltas, p->left_out, &npending) :
		store_get_pending_hours(m->runs, m->ndeltas, p->settled, p->left_out, &npending);
	int			n = 0;

	for (int i = 0; i < npending; i++)
		if (pending[i].first < leaving_before(p, m->order) ||
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
plan_fresh(const Planning *p)
{
	int			ndeltas;
	StoreRun   *deltas = store_get_deltas(ORDER_AD, p->settled, MERGE_DELTAS, p->left_out, &ndeltas);
	Merge	   *m;

	if (ndeltas == 0)
		return NULL;
	m = merge_deltas(p, deltas, ndeltas);
	plan_minutes(p, m);
	if (m->ntargets == 0 && ndeltas <= MAX_DELTAS && !p->everything)
		return NULL;
	plan_finals(p, m);
	if (m->ntargets == 0 && ndeltas <= MAX_DELTAS)
		return NULL;
	add_final_runs(m);
	return m;
}

/* The runs of minutes of a settled hour, or NULL. */
static Merge *
plan_settled(const Planning *p)
{
	Merge	   *m = new_merge(p, ORDER_AD);
	int64		first;

	if (!p->everything && looked_at.hours_before == p->settled)
		return NULL;
	looked_at.hours_from = Min(looked_at.hours_from, p->settled);
	m->runs = store_get_settled(looked_at.hours_from, p->settled, p->left_out, &m->nruns);
	if (m->nruns == 0 && p->everything)
		m->runs = store_get_settled(FIRST_MINUTE, p->settled, p->left_out, &m->nruns);
	if (m->nruns == 0)
	{
		looked_at.hours_from = looked_at.hours_before = p->settled;
		return NULL;
	}
	first = hour_of(m->runs[0].first_minute);
	looked_at.hours_from = first;
	add_target(m, first, first + MINS_PER_HOUR, false);
	return m;
}

/* Whether these late deltas have been looked at before. */
static bool
were_looked_at(const Planning *p, const StoreRun *late, int nlate)
{
	bool		of_days = late->order == ORDER_DAY;

	return looked_at.nlate[of_days] == nlate && looked_at.newest_late[of_days] == late[nlate - 1].run_id &&
		looked_at.late_before[of_days] == p->settled;
}

/*
 * Late deltas that should be merged, or NULL.  What is due for hours or days that are damaged,
 * or hours that are still minutes, goes nowhere: then only tiers are merged, and not the
 * whole pile with each delta that comes to it.
 */
static Merge *
plan_waiting(const Planning *p, StoreRun *late, int nlate)
{
	const StoreRun *chosen;
	int			next = 0;
	int			n;
	int64		newest;

	if (nlate == 0 || (!p->everything && were_looked_at(p, late, nlate)))
		return NULL;
	newest = late[nlate - 1].run_id;
	late_sort(late, nlate);
	while ((n = late_choose(late, nlate, leaving_before(p, late->order), p->left_out, &next, &chosen)) > 0)
	{
		Merge	   *m = merge_deltas(p, chosen, n);

		plan_finals(p, m);
		if (m->ntargets == 0 && !p->everything)
		{
			n = late_choose_tier(chosen, n, &chosen);
			if (n == 0)
				continue;
			m = merge_deltas(p, chosen, n);
		}
		add_final_runs(m);
		if (m->ntargets > 0 || m->ndeltas > 1)
			return m;
	}
	if (!p->everything)
	{
		bool		of_days = late->order == ORDER_DAY;

		looked_at.nlate[of_days] = nlate;
		looked_at.newest_late[of_days] = newest;
		looked_at.late_before[of_days] = p->settled;
	}
	return NULL;
}

static Merge *
plan_late(const Planning *p)
{
	int			nlate;
	StoreRun   *late = store_get_late(ORDER_AD, p->settled, p->left_out, &nlate);

	return plan_waiting(p, late, nlate);
}

static Merge *
plan_late_of_days(const Planning *p)
{
	int			nlate;
	StoreRun   *late = store_get_late(ORDER_DAY, LAST_MINUTE, p->left_out, &nlate);

	return plan_waiting(p, late, nlate);
}

/* The final runs of a day that is to get a run of its own, or NULL. */
static Merge *
plan_day(const Planning *p)
{
	int64		before = day_of(p->settled);
	Merge	   *m;
	int64		day;

	if (!p->everything && looked_at.days_before == before)
		return NULL;
	looked_at.days_from = Min(looked_at.days_from, before);
	day = store_get_unmade_day(p->everything ? FIRST_MINUTE : looked_at.days_from, before, p->left_out);
	if (day == LAST_MINUTE)
	{
		looked_at.days_from = looked_at.days_before = before;
		return NULL;
	}
	looked_at.days_from = day;
	m = new_merge(p, ORDER_AD);
	m->makes_day = true;
	m->runs = store_get_finals(day, day + MINS_PER_DAY - 1, &m->nruns);
	add_target(m, day, day + MINS_PER_DAY, false);
	return m;
}

const PlanStep plan_steps[PLAN_STEPS] = {plan_settled, plan_fresh, plan_late, plan_late_of_days, plan_day};

void
plan_look_again(const Merge *m)
{
	looked_at.nlate[false] = looked_at.nlate[true] = 0;
	for (int i = 0; i < m->ntargets; i++)
		if (!m->targets[i].is_delta)
		{
			looked_at.days_from = Min(looked_at.days_from, day_of(m->targets[i].first));
			looked_at.days_before = PG_INT64_MIN;
		}
}

void
plan_forget(void)
{
	looked_at = (LookedAt) {NOTHING_LOOKED_AT, .since = steady_ms()};
}

void
plan_forget_in_time(void)
{
	if (steady_ms() - looked_at.since > REMEMBERED_TIME)
		plan_forget();
}
