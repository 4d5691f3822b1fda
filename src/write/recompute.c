/*-------------------------------------------------------------------------
 *
 * recompute.c
 *	  Facts made anew from the ledger.
 *
 * What orders ad, user and ip have of some hours is taken out, and what the ledger has
 * of them is put into deltas, which compaction packs as it packs those of ticks.  Runs
 * with minutes of these hours alone go unread, so that damaged ones can be replaced;
 * others are written anew with what is left of them.  What retention has dropped from
 * orders user and ip does not come back.  Days that are touched lose their runs of order
 * day, which compaction makes anew of hours.
 *
 * It is a compaction to all others.  Ticks go on: a click that one counts meanwhile is
 * neither among the facts nor in the ledger of our snapshot.
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
#include "read/ledger.h"
#include "read/slices.h"
#include "recompute.h"
#include "store/store.h"

/* Clicks that become facts at a time: as many as a tick takes. */
#define BATCH_CLICKS (256 * 1024)

typedef struct Recount
{
	int64		from;			/* minutes it is about */
	int64		to;
	int64		people_until;	/* retention has dropped orders user and ip up to here */
	int64		clicks;			/* counted so far */
	size_t		nbatch;
	FactClick  *batch;
} Recount;

/* A run that is written anew. */
typedef struct Rest
{
	const Recount *recount;
	FactOrder	order;
	StoreWriter *writer;
} Rest;

/*
 * What is in no gap any more is in all orders.  A tick that has yet to see that these
 * are on may rely on a gap that is there: let the one under way end before our
 * snapshot; a later one adds the gap again, and for that waits for us.
 */
static void
delete_gaps(const Recount *r)
{
	StoreState	state;

	PopActiveSnapshot();
	store_lock(STORE_LOCK_TICK);
	store_push_snapshot();
	store_get_state(&state);
	store_claim_tick(&state);
	store_delete_gaps(r->from, r->to);
	store_unlock(STORE_LOCK_TICK);
}

/* Days whose minutes were dropped would be lost: what is counted anew has minutes. */
static void
check_minutes(const Recount *r, const StoreState *state)
{
	if (r->from <= state->minutes_dropped_until)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("adclick no longer has the minutes of these hours"),
				 errdetail("Those up to %s have been dropped, as adclick.minute_retention says.",
						   minute_text(state->minutes_dropped_until)),
				 errhint("Hours from %s on can be counted anew.",
						 minute_text(state->minutes_dropped_until + 1))));
}

/* What is missing in the ledger would be lost from the counts, too. */
static void
check_ledger(const Recount *r, const StoreState *state)
{
	int64		clicks = store_count_ledger();

	if (store_get_incomplete(r->from, r->to) != DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the ledger of adclick no longer has all clicks of these hours"),
				 errdetail("It has dropped clicks up to %s, as adclick.ledger_retention says.",
						   minute_text(state->dropped_until)),
				 errhint("Hours from %s on can be counted anew, and others when adclick.restore_clicks() has brought back what was dropped of them.",
						 minute_text(hour_of(state->dropped_until) + MINS_PER_HOUR))));
	if (clicks + state->dropped != state->verdicts[CLICK_VALID])
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the ledger of adclick is not complete"),
				 errdetail("It has %lld clicks, and %lld were counted.", (long long) clicks,
						   (long long) (state->verdicts[CLICK_VALID] - state->dropped)),
				 errhint("Counts made of it would be wrong: restore a backup.")));
}

/* Leaves the snapshot active that all is read by. */
static void
begin(Recount *r)
{
	StoreState	state;
	int64		minute;

	store_lock(STORE_LOCK_COMPACTION);
	CommandCounterIncrement();
	store_push_snapshot();
	store_claim_compaction();
	if (adclick_user_and_ip_orders && store_has_gap(r->from, r->to, &minute))
		delete_gaps(r);
	store_get_state(&state);
	check_minutes(r, &state);
	check_ledger(r, &state);
	r->people_until = state.people_dropped_until;
}

static bool
has_possible_minutes(const StoreRun *run)
{
	return run->first_minute >= FIRST_MINUTE && run->last_minute <= LAST_MINUTE && run->first_minute <= run->last_minute;
}

/* Whether a run has no other minutes; where all there is goes, it may say of itself what it will. */
static bool
is_inside(const Recount *r, const StoreRun *run)
{
	if (r->from == FIRST_MINUTE && r->to == LAST_MINUTE)
		return true;
	return has_possible_minutes(run) && run->first_minute >= r->from && run->last_minute <= r->to;
}

/* A run that is damaged need not be read if none of its facts is to be left. */
static void
say_range(void *arg)
{
	const StoreRun *run = arg;
	TimestampTz from = DT_NOBEGIN;
	TimestampTz to = DT_NOEND;

	if (geterrcode() != ERRCODE_DATA_CORRUPTED)
		return;
	if (has_possible_minutes(run))
	{
		from = hour_of(run->first_minute) * USECS_PER_MINUTE;
		to = (hour_of(run->last_minute) + (run->order == ORDER_DAY ? MINS_PER_DAY : MINS_PER_HOUR)) * USECS_PER_MINUTE;
	}
	errhint("Recompute from %s to %s: that has all minutes of the run.",
			pstrdup(timestamptz_to_str(from)), pstrdup(timestamptz_to_str(to)));
}

static void
write_rest(const Facts *facts, void *arg)
{
	const Rest *rest = arg;
	const uint64 *minute = facts->key[store_minute_column(rest->order)];
	uint64		from = store_minute_value(rest->order, rest->recount->from);
	uint64		to = store_minute_value(rest->order, rest->recount->to);
	size_t		start = 0;

	for (size_t i = 0; i < facts->n; i++)
		if (minute[i] >= from && minute[i] <= to)
		{
			store_writer_add(rest->writer, facts, start, i - start);
			start = i + 1;
		}
	store_writer_add(rest->writer, facts, start, facts->n - start);
}

/* Write a run anew, without the minutes that go. */
static void
rewrite(const Recount *r, const StoreRun *run)
{
	ErrorContextCallback callback = {error_context_stack, say_range, unconstify(StoreRun *, run)};
	Rest		rest = {r, run->order};

	error_context_stack = &callback;
	store_check_run(run);
	rest.writer = store_writer_begin_instead(run, 0);
	slices_merge(run->order, run, 1, write_rest, &rest);
	store_writer_end(rest.writer);
	error_context_stack = callback.previous;
}

static void
take_out(const Recount *r, FactOrder order)
{
	int			nruns;
	StoreRun   *runs = store_get_any_runs(order, r->from, r->to, &nruns);

	for (int i = 0; i < nruns; i++)
		if (!is_inside(r, &runs[i]))
			rewrite(r, &runs[i]);
	store_delete_runs(runs, nruns);
}

/* The days that it touches. */
static Recount
whole_days(const Recount *r)
{
	Recount		days = *r;

	if (r->from > FIRST_MINUTE)
		days.from = day_of(r->from);
	if (r->to < LAST_MINUTE)
		days.to = day_of(r->to) + MINS_PER_DAY - 1;
	return days;
}

static void
write_batch(Recount *r)
{
	if (r->nbatch > 0)
		accumulate_facts(r->batch, r->nbatch, r->people_until);
	r->nbatch = 0;
}

static void
add_click(const FactClick *click, uint64 copies, void *arg)
{
	Recount    *r = arg;

	if (click->minute < r->from || click->minute > r->to)
		return;
	r->clicks += (int64) copies;
	for (; copies > 0; copies--)
	{
		CHECK_FOR_INTERRUPTS();
		r->batch[r->nbatch++] = *click;
		if (r->nbatch == BATCH_CLICKS)
			write_batch(r);
	}
}

static void
put_in(Recount *r)
{
	r->batch = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FactClick) * BATCH_CLICKS);
	ledger_each_click(r->from, r->to, add_click, r);
	write_batch(r);
}

int64
recompute_minutes(int64 from, int64 to)
{
	Recount		r = {.from = from, .to = to < LAST_MINUTE - 1 ? to : LAST_MINUTE};
	Recount		days;
	MemoryContext context;
	MemoryContext outer;

	if (from > to)
		return 0;
	context = AllocSetContextCreate(CurrentMemoryContext, "adclick recompute", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(context);
	begin(&r);
	for (FactOrder order = ORDER_AD; order < ORDER_LEDGER; order++)
		take_out(&r, order);
	days = whole_days(&r);
	take_out(&days, ORDER_DAY);
	store_delete_all_lists(GRAIN_MINUTE, r.from, r.to);
	store_delete_all_lists(GRAIN_HOUR, r.from, r.to);
	store_delete_all_lists(GRAIN_DAY, days.from, days.to);
	put_in(&r);
	/* at the end: a tick with the same gap waits for us from then on */
	if (!adclick_user_and_ip_orders)
		store_add_all_gaps(Max(r.from, r.people_until + 1), r.to);
	PopActiveSnapshot();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	return r.clicks;
}
