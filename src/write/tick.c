/*-------------------------------------------------------------------------
 *
 * tick.c
 *	  A tick: read -> validate -> dedup -> accumulate -> encode -> store.
 *
 * Each step is a pass over the rows of the tick.  A tick takes a bounded number
 * of rows; a larger tail is taken in several, between which the state holds the
 * range of transactions being taken and the place reached in it.
 *
 * It is one transaction: what it writes and how far it has read are committed
 * together or not at all.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "accumulate.h"
#include "base/adclick.h"
#include "log/click.h"
#include "log/log.h"
#include "seen/seen.h"
#include "store/filters.h"
#include "store/store.h"
#include "tick.h"

/*
 * Rows a tick takes; it ends with a whole block.  At about 440 bytes a row in
 * all passes, this bounds its memory at some 120 MB.
 */
#define TICK_ROWS (256 * 1024)
#define TICK_CAPACITY (TICK_ROWS + MaxHeapTuplesPerPage)

typedef struct TickRow
{
	Oid			partition;
	ItemPointerData tid;
	ClickVerdict verdict;
} TickRow;

typedef struct Tick
{
	StoreState	state;
	int64		expected;		/* number of the tick before */
	Snapshot	snapshot;
	TickResult *result;
	TimestampTz newest_click;	/* of the valid ones */

	int			nrows;
	TickRow    *rows;
	FactClick  *clicks;			/* one for each row; set for valid ones */
	size_t		nkeys;
	SeenClick  *keys;			/* of the valid rows that have one */
	size_t		nformer;
	size_t		former_room;
	SeenClick  *former;			/* of the same by former rules */
} Tick;

static bool
anything_to_do(void)
{
	StoreState	state;
	LogReader  *reader;
	bool		found;

	store_push_snapshot();
	store_get_state(&state);
	reader = log_begin(&state.progress, GetActiveSnapshot(), NULL);
	found = log_next(reader) != NULL || store_rules_differ(&state);
	log_end(reader);
	PopActiveSnapshot();
	return found;
}

static void
note_former_keys(Tick *tick, TupleTableSlot *slot, const Click *click)
{
	const ClickRules *rules = &tick->state.rules;
	BucketKey	key;

	for (int i = 0; i < rules->nformer; i++)
	{
		if (!click_former_key(slot, click, &rules->former[i], &key))
			continue;
		if (tick->nformer == tick->former_room)
		{
			tick->former_room = Max(1024, 2 * tick->former_room);
			tick->former = repalloc_huge(tick->former, sizeof(SeenClick) * tick->former_room);
		}
		tick->former[tick->nformer++] = (SeenClick) {key, tick->nrows};
	}
}

static void
read_row(Tick *tick, LogReader *reader, TupleTableSlot *slot)
{
	TickRow    *row = &tick->rows[tick->nrows];
	FactClick  *fact = &tick->clicks[tick->nrows];
	StoreState *state = &tick->state;
	Click		click;

	row->tid = slot->tts_tid;
	row->partition = log_partition(reader);
	row->verdict = click_read(slot, &state->rules, &click);
	if (!TIMESTAMP_NOT_FINITE(click.received_at))
		state->newest_received = Max(state->newest_received, click.received_at);
	if (row->verdict == CLICK_VALID)
	{
		click_to_fact(slot, &click, fact);
		click_to_ledger(slot, &click, &state->rules.dedup, fact);
		filters_count(slot, fact);
		tick->newest_click = Max(tick->newest_click, click.at);
		if (click.has_key)
			tick->keys[tick->nkeys++] = (SeenClick) {click.key, tick->nrows};
		note_former_keys(tick, slot, &click);
	}
	tick->nrows++;
}

/* Read and validate; moves the progress to where reading stopped. */
static void
read_rows(Tick *tick)
{
	LogProgress *progress = &tick->state.progress;
	LogReader  *reader;
	TupleTableSlot *slot;
	LogPlace	last = {DT_NOBEGIN, 0};

	if (progress->taking == NULL)
	{
		progress->taking = xacts_current();
		progress->place = last;
	}
	reader = log_begin(progress, tick->snapshot, progress->taking);
	while ((slot = log_next(reader)) != NULL)
	{
		LogPlace	place = log_place(reader);

		if (tick->nrows >= TICK_ROWS && log_place_before(last, place))
		{
			tick->result->more = true;
			last = place;
			break;
		}
		last = place;
		read_row(tick, reader, slot);
	}
	log_end(reader);

	if (tick->result->more)
		progress->place = last;
	else
		log_advance(progress, GetCurrentTimestamp());
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

/* What was counted by a former rule is a duplicate, too, whatever its key by this one. */
static void
dedup_former(Tick *tick)
{
	size_t		n = 0;

	seen_judge_former(tick->former, tick->nformer, true);
	for (size_t i = 0; i < tick->nformer; i++)
		if (tick->former[i].verdict != SEEN_UNKNOWN)
			tick->rows[tick->former[i].row].verdict = verdict_of(tick->former[i].verdict);
	for (size_t i = 0; i < tick->nkeys; i++)
		if (tick->rows[tick->keys[i].row].verdict == CLICK_VALID)
			tick->keys[n++] = tick->keys[i];
	tick->nkeys = n;
}

static void
dedup_rows(Tick *tick)
{
	StoreState *state = &tick->state;

	if (tick->nformer > 0)
		dedup_former(tick);
	seen_add(tick->keys, tick->nkeys, state->tick);
	for (size_t i = 0; i < tick->nkeys; i++)
	{
		SeenClick  *key = &tick->keys[i];
		TickRow    *row = &tick->rows[key->row];

		row->verdict = verdict_of(key->verdict);
		if (key->verdict == SEEN_NEW)
			state->highest_bucket = Max(state->highest_bucket, key->key.bucket);
	}
}

/* Put what was not counted, and what order ledger has no columns for, where it stays whole. */
static void
set_aside_rows(Tick *tick)
{
	TupleTableSlot *slot = log_make_slot();
	StoreSink  *sink = store_set_aside_begin();
	TickResult *result = tick->result;

	for (int i = 0; i < tick->nrows; i++)
	{
		TickRow    *row = &tick->rows[i];

		CHECK_FOR_INTERRUPTS();
		switch (row->verdict)
		{
			case CLICK_VALID:
				result->counted++;
				if ((tick->clicks[i].flags & LEDGER_UNPACKED) == 0)
					continue;
				break;
			case CLICK_DUPLICATE:
				result->duplicates++;
				break;
			default:
				result->discarded++;
				break;
		}
		log_fetch(row->partition, &row->tid, tick->snapshot, slot);
		store_set_aside(sink, slot, row->verdict);
	}
	store_set_aside_end(sink);
	ExecDropSingleTupleTableSlot(slot);
}

/* Accumulate what counts into sorted facts, and store them. */
static void
store_facts(Tick *tick)
{
	size_t		n = 0;

	for (int i = 0; i < tick->nrows; i++)
		if (tick->rows[i].verdict == CLICK_VALID)
			tick->clicks[n++] = tick->clicks[i];
	accumulate_clicks(tick->clicks, n);
}

static void
store_progress(Tick *tick)
{
	StoreState *state = &tick->state;
	TickResult *result = tick->result;

	if (tick->nrows > 0)
		result->tick = state->tick;
	result->rows_read = tick->nrows;
	if (result->rows_read != result->counted + result->duplicates + result->discarded)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("a tick does not add up"),
				 errdetail("Of " INT64_FORMAT " clicks read, " INT64_FORMAT " were counted, " INT64_FORMAT
						   " duplicates and " INT64_FORMAT " discarded.",
						   result->rows_read, result->counted, result->duplicates, result->discarded)));
	if (tick->nrows > 0)
	{
		state->ticked_at = GetCurrentTimestamp();
		state->event_time = Min(tick->newest_click, state->ticked_at);
	}
	state->rows_read += result->rows_read;
	state->counted += result->counted;
	state->duplicates += result->duplicates;
	state->discarded += result->discarded;
	/* for what comes next: a range that is taken in several ticks is judged in one way */
	if (!result->more && store_rules_differ(state))
		store_follow_settings(state);
	store_set_state(state, tick->expected);
}

void
tick_run(TickResult *result)
{
	MemoryContext context;
	MemoryContext outer;
	Tick	   *tick;
	bool		is_first;
	bool		went_on;

	memset(result, 0, sizeof(*result));
	if (!anything_to_do())
		return;
	store_lock(STORE_LOCK_TICK);

	context = AllocSetContextCreate(CurrentMemoryContext, "adclick tick", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(context);
	store_push_snapshot();
	tick = palloc0(sizeof(Tick));
	tick->result = result;
	tick->snapshot = GetActiveSnapshot();
	tick->rows = palloc(sizeof(TickRow) * TICK_CAPACITY);
	tick->clicks = palloc(sizeof(FactClick) * TICK_CAPACITY);
	tick->keys = palloc(sizeof(SeenClick) * TICK_CAPACITY);
	tick->former = palloc(sizeof(SeenClick));
	store_get_state(&tick->state);
	tick->expected = tick->state.tick;
	store_claim_tick(&tick->state);
	is_first = tick->state.rules.dedup.rule_id == 0;
	if (is_first)
		store_follow_settings(&tick->state);

	/* what was left of its range may be gone: then it ends here */
	went_on = tick->state.progress.taking != NULL;
	seen_prepare_tick(&tick->state);
	tick->state.tick = seen_begin_tick(&tick->state);
	tick->newest_click = DT_NOBEGIN;
	filters_refresh();
	read_rows(tick);
	if (tick->nrows > 0)
	{
		dedup_rows(tick);
		set_aside_rows(tick);
		store_facts(tick);
	}
	if (tick->nrows > 0 || is_first || went_on || store_rules_differ(&tick->state))
		store_progress(tick);
	if (tick->nrows == 0 && went_on)
		result->more = true;
	PopActiveSnapshot();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
