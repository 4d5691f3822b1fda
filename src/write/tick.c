/*-------------------------------------------------------------------------
 *
 * tick.c
 *	  A tick: read -> validate -> dedup -> accumulate -> encode -> store.
 *
 * Each step is a pass over the rows of the tick.  A tick takes a bounded number
 * of rows; a larger tail is taken in several.
 *
 * It is one transaction: that rows are counted and that they leave the inbox is
 * committed together or not at all.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "accumulate.h"
#include "base/adclick.h"
#include "base/shmem.h"
#include "inbox/click.h"
#include "inbox/inbox.h"
#include "seen/clickers.h"
#include "seen/limits.h"
#include "seen/seen.h"
#include "store/filters.h"
#include "store/store.h"
#include "tick.h"

/*
 * Rows a tick takes.  At about 440 bytes a row in all passes, this bounds its
 * memory at some 120 MB; with overrides, or former rules, at some 30 MB more.
 */
#define TICK_ROWS (256 * 1024)

typedef struct Tick
{
	StoreState	state;
	int64		expected;		/* number of the tick before */
	InboxReader *inbox;
	TickResult *result;
	TimestampTz newest_click;	/* of the valid ones */

	int			nrows;
	ItemPointerData *tids;		/* of each row: where it is, ... */
	ClickVerdict *verdicts;
	FactClick  *clicks;			/* ... and if it is valid, what facts are made of */
	size_t		nkeys;
	SeenClick  *keys;			/* of the valid rows that have one */
	FormerClicks former;		/* of the same by other rules */
	StoreOverrides *overrides;
} Tick;

/* The rule that the click in the slot is judged by.  It gets a number when first one is. */
static const DedupRule *
rule_of(Tick *tick, TupleTableSlot *slot)
{
	bool		isnull;
	const DedupRule *rule = store_rule_of(tick->overrides, DatumGetInt64(slot_getattr(slot, CLICK_AD_ID, &isnull)));

	if (rule->rule_id == UNNUMBERED_RULE)
		store_number_rule(&tick->state);
	return rule;
}

static void
read_row(Tick *tick, TupleTableSlot *slot)
{
	FactClick  *fact = &tick->clicks[tick->nrows];
	StoreState *state = &tick->state;
	Click		click;
	ClickVerdict verdict = click_read(slot, &state->rules, rule_of(tick, slot), &click);

	state->newest_received = Max(state->newest_received, click.received_at);
	if (verdict == CLICK_VALID)
	{
		click_to_fact(slot, &click, fact);
		click_to_ledger(slot, &click, fact);
		filters_count(slot, fact);
		tick->newest_click = Max(tick->newest_click, click.at);
		seen_note_former(&tick->former, slot, &click, &state->rules, tick->nrows, tick->nkeys);
		if (click.has_key)
			tick->keys[tick->nkeys++] = (SeenClick) {click.key, tick->nrows};
	}
	tick->tids[tick->nrows] = slot->tts_tid;
	tick->verdicts[tick->nrows++] = verdict;
}

/* Read and validate, the row in the slot first. */
static void
read_rows(Tick *tick, TupleTableSlot *slot)
{
	tick->overrides = store_overrides_begin(&tick->state.rules);
	for (; slot != NULL && tick->nrows < TICK_ROWS; slot = inbox_next(tick->inbox))
		read_row(tick, slot);
	store_overrides_end(tick->overrides);
	filters_keep_days();
	tick->result->more = slot != NULL;
}

static ClickVerdict
verdict_of(SeenVerdict verdict)
{
	switch (verdict)
	{
		case SEEN_DUPLICATE:
			return CLICK_DUPLICATE;
		case SEEN_UNDECIDED:
			return CLICK_UNDECIDED;
		default:
			return CLICK_VALID;
	}
}

/* Take over what is known of clicks by other rules. */
static void
follow_former(Tick *tick)
{
	for (size_t i = 0; i < tick->former.n; i++)
	{
		SeenClick  *click = &tick->former.clicks[i].click;

		if (click->verdict != SEEN_UNKNOWN)
			tick->verdicts[click->row] = verdict_of(click->verdict);
	}
}

/* What was counted by another rule is a duplicate, too, whatever its key by its own. */
static void
dedup_former(Tick *tick)
{
	size_t		n = 0;

	seen_judge_former(&tick->former, &tick->state, true);
	follow_former(tick);
	for (size_t i = 0; i < tick->nkeys; i++)
		if (tick->verdicts[tick->keys[i].row] != CLICK_VALID)
			tick->keys[i].verdict = SEEN_DUPLICATE;
	if (!clicks_are_limited(&tick->state.rules))
	{
		seen_judge_beside(&tick->former, tick->keys, tick->nkeys, &tick->state.rules);
		follow_former(tick);
	}
	for (size_t i = 0; i < tick->nkeys; i++)
		if (tick->verdicts[tick->keys[i].row] == CLICK_VALID)
			tick->keys[n++] = tick->keys[i];
	tick->nkeys = n;
}

/* The highest bucket that has a key of either rule. */
static void
note_bucket(StoreState *state, int64 bucket)
{
	bool		in_force = bucket_rule(bucket) == state->rules.dedup.rule_id;
	int64	   *highest = in_force ? &state->highest_bucket : &state->rules.other.last_bucket;

	*highest = Max(*highest, bucket);
}

/* Hand over the ids of a row by which it may be a copy; "next" goes along with the rows. */
static void
limit_ids(const Tick *tick, LimitsJudge *judge, uint32 row, size_t click, size_t *next)
{
	for (; *next < tick->former.n && tick->former.clicks[*next].click.row <= row; (*next)++)
	{
		const FormerClick *former = &tick->former.clicks[*next];

		if (former->click.row == row && seen_may_be_beside(former, &tick->state.rules))
			limits_add_id(judge, click, &former->click.key);
	}
}

/* Judge the rows of users and addresses that may be at their limits; their keys are judged with them. */
static void
limit_rows(Tick *tick)
{
	StoreState *state = &tick->state;
	LimitsJudge *judge = limits_begin(state);
	size_t		k = 0;
	size_t		nkeys = 0;
	size_t		n = 0;
	size_t		next_former = 0;

	for (int i = 0; i < tick->nrows; i++)
	{
		bool		has_key = k < tick->nkeys && tick->keys[k].row == i;

		if (tick->verdicts[i] == CLICK_VALID)
		{
			limit_ids(tick, judge, i, n++, &next_former);
			limits_add(judge, has_key ? &tick->keys[k].key : NULL, &tick->clicks[i], true);
		}
		k += has_key;
	}
	limits_tick(judge);
	k = n = 0;
	for (int i = 0; i < tick->nrows; i++)
	{
		bool		has_key = k < tick->nkeys && tick->keys[k].row == i;
		ClickVerdict verdict;

		if (tick->verdicts[i] == CLICK_VALID && limits_judged(judge, n++, &verdict))
		{
			tick->verdicts[i] = verdict;
			if (has_key && verdict == CLICK_VALID)
				note_bucket(state, tick->keys[k].key.bucket);
		}
		else if (has_key)
			tick->keys[nkeys++] = tick->keys[k];
		k += has_key;
	}
	tick->nkeys = nkeys;
}

static void
dedup_rows(Tick *tick)
{
	StoreState *state = &tick->state;
	int64		before = state->rules.other.last_bucket;

	if (tick->former.n > 0)
		dedup_former(tick);
	clickers_follow(state);
	if (clicks_are_limited(&state->rules))
		limit_rows(tick);
	seen_add(tick->keys, tick->nkeys, state->tick);
	for (size_t i = 0; i < tick->nkeys; i++)
	{
		SeenClick  *key = &tick->keys[i];

		tick->verdicts[key->row] = verdict_of(key->verdict);
		if (key->verdict == SEEN_NEW)
			note_bucket(state, key->key.bucket);
	}
	if (state->rules.other.last_bucket > before)
		store_keep_other_rule(state);
}

/* Put what was not counted, and what order ledger has no columns for, where it stays whole. */
static void
set_aside_rows(Tick *tick, int64 ledger_run)
{
	TupleTableSlot *slot = inbox_make_slot(tick->inbox);
	StoreSink  *sink = store_set_aside_begin(ledger_run);

	for (int i = 0; i < tick->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		tick->result->verdicts[tick->verdicts[i]]++;
		if (tick->verdicts[i] == CLICK_VALID && (tick->clicks[i].flags & LEDGER_UNPACKED) == 0)
			continue;
		inbox_fetch(tick->inbox, &tick->tids[i], slot);
		store_set_aside(sink, slot, tick->verdicts[i]);
	}
	store_set_aside_end(sink);
	ExecDropSingleTupleTableSlot(slot);
}

/* It arrived when its minute was to be closed, whenever the tick comes. */
static bool
is_late(const FactClick *click)
{
	return click_arrival(click->clicked_at, click->delay) >
		(click->minute + 1) * USECS_PER_MINUTE + adclick_watermark * USECS_PER_SEC;
}

/* Accumulate what counts into sorted facts, and store them. */
static void
store_facts(Tick *tick, int64 ledger_run)
{
	size_t		n = 0;

	for (int i = 0; i < tick->nrows; i++)
	{
		if (tick->verdicts[i] != CLICK_VALID)
			continue;
		tick->state.late += is_late(&tick->clicks[i]);
		tick->clicks[n++] = tick->clicks[i];
	}
	accumulate_clicks(tick->clicks, n, tick->state.people_dropped_until, ledger_run);
}

static void
store_progress(Tick *tick)
{
	StoreState *state = &tick->state;
	TickResult *result = tick->result;

	if (tick->nrows > 0)
		result->tick = state->tick;
	result->rows_read = tick->nrows;
	if (tick->nrows > 0)
	{
		state->ticked_at = GetCurrentTimestamp();
		state->event_time = Min(tick->newest_click, state->ticked_at);
	}
	state->rows_read += result->rows_read;
	for (int i = 0; i < CLICK_VERDICTS; i++)
		state->verdicts[i] += result->verdicts[i];
	/* for what comes next: what was there before is judged in one way, in however many ticks */
	if (!result->more && store_rules_differ(state))
		store_follow_settings(state);
	store_set_state(state, tick->expected);
	store_forget_secrets(state);
}

/* Get ready to take what there is. */
static void
prepare(Tick *tick)
{
	tick->expected = tick->state.tick;
	if (tick->state.rules.dedup.rule_id == 0)
		store_follow_settings(&tick->state);
	seen_prepare_tick(&tick->state);
	tick->state.tick = seen_begin_tick(&tick->state);
	tick->newest_click = DT_NOBEGIN;
	tick->tids = palloc(sizeof(ItemPointerData) * TICK_ROWS);
	tick->verdicts = palloc(sizeof(ClickVerdict) * TICK_ROWS);
	tick->clicks = palloc(sizeof(FactClick) * TICK_ROWS);
	tick->keys = palloc(sizeof(SeenClick) * TICK_ROWS);
	filters_refresh();
}

static void
take_rows(Tick *tick, TupleTableSlot *first)
{
	prepare(tick);
	read_rows(tick, first);
	if (tick->nrows > 0)
	{
		int64		ledger_run = store_new_run();

		dedup_rows(tick);
		set_aside_rows(tick, ledger_run);
		store_facts(tick, ledger_run);
		inbox_take(tick->inbox, tick->tids, tick->nrows);
	}
	store_progress(tick);
}

/* What ticks of this transaction say of themselves once it is committed. */
static struct
{
	int64		ms;				/* the last one took; 0: there was none */
	int64		worst_ms;
	bool		undecided;
}			noted;

static void
note(int64 ms, bool undecided)
{
	noted.ms = Max(1, ms);
	noted.worst_ms = Max(noted.worst_ms, noted.ms);
	noted.undecided |= undecided;
}

static void
at_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT && noted.ms > 0)
		shmem_note_tick(noted.ms, noted.worst_ms, noted.undecided);
	memset(&noted, 0, sizeof(noted));
}

static void
at_subabort(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		memset(&noted, 0, sizeof(noted));
}

void
tick_install(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subabort, NULL);
}

void
tick_run(TickResult *result)
{
	Tick		tick = {.result = result};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick tick",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	TupleTableSlot *first;
	bool		taking;
	int64		begun;

	memset(result, 0, sizeof(*result));
	store_lock(STORE_LOCK_TICK);
	begun = steady_ms();
	store_push_snapshot();
	store_get_state(&tick.state);
	store_claim_tick(&tick.state);
	tick.inbox = inbox_begin(GetActiveSnapshot(), tick.state.tick, INBOX_TO_TAKE);
	first = inbox_next(tick.inbox);
	taking = first != NULL || store_rules_differ(&tick.state);
	if (taking)
		take_rows(&tick, first);
	inbox_end(tick.inbox);
	PopActiveSnapshot();
	if (!taking)
		store_unlock(STORE_LOCK_TICK);	/* the transaction may be long */
	if (result->rows_read > 0)
		note(steady_ms() - begun, result->verdicts[CLICK_UNDECIDED] > 0);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
