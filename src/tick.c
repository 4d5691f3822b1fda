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
#include "adclick.h"
#include "click.h"
#include "filters.h"
#include "log.h"
#include "seen.h"
#include "store.h"
#include "tick.h"

/*
 * Rows a tick takes; it ends with a whole block.  At about 300 bytes a row in
 * all passes, this bounds its memory at some 80 MB.
 */
#define TICK_ROWS (256 * 1024)
#define TICK_CAPACITY (TICK_ROWS + MaxHeapTuplesPerPage)

/* Blocks between two rows of one extent, at most. */
#define EXTENT_GAP 128

typedef struct TickRow
{
	int32		extent;			/* the extent it lies in */
	ItemPointerData tid;
	ClickVerdict verdict;
} TickRow;

typedef struct Tick
{
	StoreState	state;
	int64		expected;		/* number of the tick before */
	Snapshot	snapshot;
	TickResult *result;

	int			nrows;
	TickRow    *rows;
	FactClick  *clicks;			/* one for each row; set for valid ones */
	size_t		nkeys;
	SeenClick  *keys;			/* of the valid rows that have one */
	int			nextents;
	StoreExtent *extents;
} Tick;

static bool
anything_to_read(void)
{
	StoreState	state;
	LogReader  *reader;
	bool		found;

	store_push_snapshot();
	store_get_state(&state);
	reader = log_begin(&state.progress, GetActiveSnapshot(), NULL);
	found = log_next(reader) != NULL;
	log_end(reader);
	PopActiveSnapshot();
	return found;
}

/* Note where the row stands, for the way back to it. */
static int
extent_of(Tick *tick, LogReader *reader)
{
	Oid			partition = log_partition(reader);
	BlockNumber block = log_place(reader).block;
	StoreExtent *last = tick->nextents > 0 ? &tick->extents[tick->nextents - 1] : NULL;

	if (last == NULL || last->partition != partition || block > last->last + EXTENT_GAP)
	{
		/* room for 2^n extents, doubled when they are used up */
		if ((tick->nextents & (tick->nextents - 1)) == 0)
			tick->extents = repalloc(tick->extents,
									 sizeof(StoreExtent) * Max(1, 2 * tick->nextents));
		last = &tick->extents[tick->nextents++];
		*last = (StoreExtent) {partition, log_filenode(partition), block, block};
	}
	last->last = block;
	return tick->nextents - 1;
}

static void
read_row(Tick *tick, LogReader *reader, TupleTableSlot *slot)
{
	TickRow    *row = &tick->rows[tick->nrows];
	FactClick  *fact = &tick->clicks[tick->nrows];
	StoreState *state = &tick->state;
	Click		click;
	Dimensions	dimensions;

	row->tid = slot->tts_tid;
	row->extent = extent_of(tick, reader);
	row->verdict = click_read(slot, &click);
	if (!TIMESTAMP_NOT_FINITE(click.received_at))
		state->newest_received = Max(state->newest_received, click.received_at);
	if (row->verdict == CLICK_VALID)
	{
		click_to_fact(slot, &click, fact);
		dimensions_read(slot, &dimensions);
		fact->filter_id = filters_make(&dimensions);
		state->event_time = Max(state->event_time, click.at);
		if (click.has_key)
			tick->keys[tick->nkeys++] = (SeenClick) {{click.key, click.bucket}, tick->nrows};
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

/* Store each extent with the dedup buckets found in it. */
static void
store_extents(Tick *tick)
{
	int64	   *buckets = palloc(sizeof(int64) * (tick->nkeys + 1));
	size_t		key = 0;

	for (int i = 0; i < tick->nextents; i++)
	{
		int			n = 0;

		for (; key < tick->nkeys && tick->rows[tick->keys[key].row].extent == i; key++)
			if (n == 0 || buckets[n - 1] != tick->keys[key].key.bucket)
				buckets[n++] = tick->keys[key].key.bucket;
		if (n == 0)
			continue;
		n = sort_unique_int64(buckets, n);
		store_add_extent(tick->state.tick, &tick->extents[i], buckets, n);
	}
	pfree(buckets);
}

static void
dedup_rows(Tick *tick)
{
	TupleTableSlot *slot = log_make_slot();
	StoreSink  *queue = store_queue_begin();

	seen_add(tick->keys, tick->nkeys, tick->state.tick);
	for (size_t i = 0; i < tick->nkeys; i++)
	{
		SeenClick  *key = &tick->keys[i];
		TickRow    *row = &tick->rows[key->row];

		CHECK_FOR_INTERRUPTS();
		if (key->verdict == SEEN_NEW)
			continue;
		row->verdict = CLICK_DUPLICATE;
		if (key->verdict == SEEN_LATE)
		{
			log_fetch(tick->extents[row->extent].partition, &row->tid, tick->snapshot, slot);
			store_queue(queue, slot, key->key.bucket);
			row->verdict = CLICK_LATE;
		}
	}
	store_sink_end(queue);
	ExecDropSingleTupleTableSlot(slot);
}

static void
discard_rows(Tick *tick)
{
	TupleTableSlot *slot = log_make_slot();
	StoreSink  *discarded = store_discard_begin();
	TickResult *result = tick->result;

	for (int i = 0; i < tick->nrows; i++)
	{
		TickRow    *row = &tick->rows[i];

		CHECK_FOR_INTERRUPTS();
		switch (row->verdict)
		{
			case CLICK_VALID:
				result->counted++;
				continue;
			case CLICK_LATE:
				result->queued++;
				continue;
			case CLICK_DUPLICATE:
				result->duplicates++;
				break;
			default:
				result->discarded++;
				break;
		}
		log_fetch(tick->extents[row->extent].partition, &row->tid, tick->snapshot, slot);
		store_discard(discarded, slot, row->verdict);
	}
	store_sink_end(discarded);
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

	result->tick = state->tick;
	result->rows_read = tick->nrows;
	if (result->rows_read != result->counted + result->duplicates + result->discarded + result->queued)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("a tick does not add up"),
				 errdetail("Of " INT64_FORMAT " clicks read, " INT64_FORMAT " were counted, " INT64_FORMAT
						   " duplicates, " INT64_FORMAT " discarded and " INT64_FORMAT " queued.",
						   result->rows_read, result->counted, result->duplicates,
						   result->discarded, result->queued)));
	state->ticked_at = GetCurrentTimestamp();
	state->event_time = Min(state->event_time, state->ticked_at);
	state->rows_read += result->rows_read;
	state->counted += result->counted;
	state->duplicates += result->duplicates;
	state->discarded += result->discarded;
	state->queued += result->queued;
	store_set_state(state, tick->expected);
}

void
tick_run(TickResult *result)
{
	MemoryContext context;
	MemoryContext outer;
	Tick	   *tick;

	memset(result, 0, sizeof(*result));
	if (!anything_to_read())
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
	tick->extents = palloc(sizeof(StoreExtent));
	store_get_state(&tick->state);
	tick->expected = tick->state.tick;
	store_claim_tick(&tick->state);

	seen_prepare_tick(&tick->state);
	tick->state.tick = seen_begin_tick(&tick->state);
	tick->state.event_time = DT_NOBEGIN;
	filters_refresh();
	read_rows(tick);
	if (tick->nrows > 0)
	{
		dedup_rows(tick);
		discard_rows(tick);
		store_facts(tick);
		store_extents(tick);
		store_progress(tick);
	}
	PopActiveSnapshot();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
