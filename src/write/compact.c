/*-------------------------------------------------------------------------
 *
 * compact.c
 *	  Compaction.
 *
 * A round goes through some steps in orders ad and day: plan.c says what to merge, and merge.c
 * does so.  What others.c has to merge comes behind them.
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

#include "base/adclick.h"
#include "compact.h"
#include "damaged.h"
#include "days.h"
#include "old_days.h"
#include "others.h"
#include "plan.h"
#include "store/store.h"

/* An hour is settled when minutes that end so much later are closed, in minutes. */
#define SETTLING_TIME 60

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
push_snapshot(Planning *p)
{
	StoreState	state;

	CommandCounterIncrement();
	store_push_snapshot();
	store_get_state(&state);
	p->closed = closed_at(event_time(&state));
	p->leaving[0] = p->everything ? PG_INT64_MAX : old_days_kept_from(ORDER_AD, GetCurrentTimestamp());
	p->leaving[1] = p->everything ? PG_INT64_MAX : old_days_kept_from(ORDER_DAY, GetCurrentTimestamp());
	p->settled = Max(settled_with(p->closed), store_end_of_hours(settled_with(closed_at(GetCurrentTimestamp()))));
}

/* A step of the round, if there is something to do. */
static void
run_step(Planning *p, PlanStep plan, CompactResult *result)
{
	int32	   *written[GRAINS] = {&result->minutes_written, &result->hours_written, &result->days_written};
	Merge	   *m;

	push_snapshot(p);
	m = plan(p);
	if (m && m->makes_day)
		days_make(m->targets[0].first, m->runs, m->nruns);
	else if (m)
	{
		merge_runs(m);
		result->runs_merged += m->nruns;
	}
	PopActiveSnapshot();
	if (m)
	{
		plan_look_again(m);
		push_snapshot(p);		/* that sees the new runs */
		for (StoreGrain grain = GRAIN_MINUTE; grain < GRAINS; grain++)
			*written[grain] += merge_make_lists(m, grain);
		PopActiveSnapshot();
	}
}

static bool
anything_to_do(Planning *p)
{
	bool		found = false;

	push_snapshot(p);
	for (int i = 0; i < PLAN_STEPS && !found; i++)
		found = plan_steps[i] (p) != NULL;
	found = found || others_are_due(p);
	PopActiveSnapshot();
	return found;
}

/* Merge what there is to merge, of all orders. */
static void
compact_runs(Planning *p, CompactResult *result)
{
	for (int i = 0; i < PLAN_STEPS; i++)
		if (i < FIRST_STEP_OF_DAYS || result->runs_merged == 0)
			run_step(p, plan_steps[i], result);
	push_snapshot(p);
	result->runs_merged += others_merge(p, result->minutes_written + result->hours_written > 0);
	PopActiveSnapshot();
}

void
compact_find_damaged(void)
{
	Planning	p = {.left_out = damaged_runs()};

	plan_forget();				/* what failed may have thought to leave nothing */
	push_snapshot(&p);
	damaged_find(&p);
	PopActiveSnapshot();
}

int
compact_left_out(void)
{
	return damaged_runs()->n;
}

void
compact_run(bool everything, CompactResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick compaction",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Planning	p = {.everything = everything, .left_out = damaged_runs()};

	memset(result, 0, sizeof(*result));
	if (damaged_forget_in_time())
		plan_forget();
	plan_forget_in_time();
	if (anything_to_do(&p))
	{
		store_lock(STORE_LOCK_COMPACTION);
		store_push_snapshot();
		store_claim_compaction();
		PopActiveSnapshot();
		compact_runs(&p, result);
		result->more = anything_to_do(&p);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
