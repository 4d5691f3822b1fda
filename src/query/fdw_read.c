/*-------------------------------------------------------------------------
 *
 * fdw_read.c
 *	  Reading facts for a scan of the foreign table.
 *
 * Facts are reduced to what is grouped by (in a scan of rows: to the whole key),
 * and combined a batch at a time.  A batch can be handed out once it has all
 * facts of its groups:
 *
 * If ads are grouped by, runs are read in slices of the range of ads, side by
 * side, and each batch is some slices.  If minutes are, too, the window is gone
 * through in chunks, the newest minutes first, so that few runs are open and the
 * first rows come soon.  Otherwise, and if the ads are few, runs are read one
 * after the other, and there is one batch, or one for each chunk.
 *
 * So are runs that are too many to have them all open: then the range of ads is
 * gone through in pieces, and there is a batch for each.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/facts_alloc.h"
#include "base/privileges.h"
#include "core/segment.h"
#include "fdw_scan.h"

/* Final runs read side by side, if the window can be cut: at first, and at most. */
#define FIRST_CHUNK 4
#define LARGEST_CHUNK 64

/* Facts a batch should have, if it can be handed out before the end: likewise. */
#define FIRST_BATCH 1024
#define LARGEST_BATCH (256 * 1024)

/* Segments of the largest run in one piece of the range of ads, if it is read in pieces. */
#define SEGMENTS_IN_PIECE 16

/* Facts there is room for in the first batch, if ads are looked for, and if not. */
#define SMALL_ROOM 1024
#define LARGE_ROOM (64 * 1024)

static int
deltas_then_newest(const void *a, const void *b)
{
	const StoreRun *x = a;
	const StoreRun *y = b;

	if (x->is_delta != y->is_delta)
		return x->is_delta ? -1 : 1;
	return (x->last_minute < y->last_minute) - (x->last_minute > y->last_minute);
}

static int
deltas_then_oldest(const void *a, const void *b)
{
	const StoreRun *x = a;
	const StoreRun *y = b;

	return x->is_delta != y->is_delta ? deltas_then_newest(x, y) : deltas_then_newest(y, x);
}

/* Choose how to read the runs. */
static void
plan_runs(FactScan *scan)
{
	int64		segments = 0;

	qsort(scan->runs, scan->nruns, sizeof(StoreRun),
		  scan->order == OLDEST_FIRST ? deltas_then_oldest : deltas_then_newest);
	for (scan->ndeltas = 0; scan->ndeltas < scan->nruns && scan->runs[scan->ndeltas].is_delta;)
		scan->ndeltas++;
	for (int i = 0; i < scan->nruns; i++)
		segments += scan->runs[i].segments;
	scan->by_probes = scan->range.is_list &&
		(scan->range.nads == 1 || (int64) scan->range.nads * scan->nruns <= segments);
	scan->next_run = scan->ndeltas;
	scan->next_minute = 0;
	scan->from = scan->range.to;
	scan->high = scan->range.high;
	scan->runs_ahead = FIRST_CHUNK;
	scan->chunk = palloc(sizeof(StoreRun) * (scan->nruns + 1));
}

static void
grow_batch(FactScan *scan, size_t capacity)
{
	if (scan->batch.capacity > 0)
		pfree(scan->scratch);
	scan->batch.ncolumns = FACT_COLUMNS;
	facts_enlarge(&scan->batch, capacity, scan->scan_context);
	scan->scratch = MemoryContextAllocHuge(scan->scan_context, facts_scratch(FACT_COLUMNS, capacity));
}

void
fact_read_begin(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->scan_context);

	scan->enough = FIRST_BATCH;
	facts_init(&scan->segment, FACT_COLUMNS, SEGMENT_MAX_FACTS,
			   palloc(facts_memory(FACT_COLUMNS, SEGMENT_MAX_FACTS)));
	plan_runs(scan);
	grow_batch(scan, scan->by_probes ? SMALL_ROOM : LARGE_ROOM);
	MemoryContextSwitchTo(outer);
}

static bool
has_one_minute(const StoreRun *run)
{
	return run->first_minute == run->last_minute;
}

/* The end of the chunk for facts of a run. */
static int64
end_of_chunk(const FactScan *scan, const StoreRun *run)
{
	return run && run->order == ORDER_DAY ? Min(scan->to, scan->days_end) : scan->to;
}

/*
 * Whether minutes of the run's facts have to be looked at; it is NULL for the tail.  If limited, none is
 * judged before a fact has it.
 */
static bool
needs_minutes(const FactScan *scan, const StoreRun *run)
{
	return run == NULL || (scan->limited && scan->minute) ||
		(!has_one_minute(run) &&
		 (scan->minute || run->first_minute < scan->from || run->last_minute >= end_of_chunk(scan, run)));
}

static unsigned
columns_needed(const FactScan *scan, const StoreRun *run)
{
	return 1 << FACT_AD | (needs_minutes(scan, run) ? 1 << FACT_MINUTE : 0) |
		(scan->filter ? 1 << FACT_FILTER : 0);
}

/* Make room for n more facts in the batch, by combining those there are, or growing. */
static void
make_room(FactScan *scan, size_t n)
{
	if (scan->batch.n + n <= scan->batch.capacity)
		return;
	facts_combine(&scan->batch, scan->scratch);
	if (scan->batch.n + n > scan->batch.capacity / 2)
		grow_batch(scan, 2 * Max(scan->batch.capacity, scan->batch.n + n));
}

/* Facts of the same group often follow each other. */
static inline void
add_group(FactScan *scan, uint64 ad, int32 minute_group, int32 filter_group, uint64 count)
{
	Facts	   *batch = &scan->batch;
	size_t		last = batch->n - 1;

	if (!scan->by_ad)
		ad = 0;
	if (batch->n > 0 && batch->key[FACT_AD][last] == ad &&
		batch->key[FACT_MINUTE][last] == (uint64) minute_group &&
		batch->key[FACT_FILTER][last] == (uint64) filter_group)
	{
		batch->count[last] += count;
		return;
	}
	batch->key[FACT_AD][batch->n] = ad;
	batch->key[FACT_MINUTE][batch->n] = minute_group;
	batch->key[FACT_FILTER][batch->n] = filter_group;
	batch->count[batch->n++] = count;
}

/* Add facts of a run, or of the tail if it is NULL, to the batch. */
static void
add_facts(FactScan *scan, const StoreRun *run, const Facts *facts, size_t start, size_t n)
{
	bool		each_minute = needs_minutes(scan, run);
	bool		each_ad = scan->range.is_list && !scan->by_probes;
	int32		minute_group = each_minute ? 0 : group_of_minute(scan, run->first_minute);
	int64		end = end_of_chunk(scan, run);

	CHECK_FOR_INTERRUPTS();		/* not in the loop, which it would make half as slow again */
	make_room(scan, n);
	if (run != NULL)
		scan->counts.facts += n;
	for (size_t i = start; i < start + n; i++)
	{
		int32		filter_group;

		if (each_ad && !row_range_has_ad(&scan->range, facts_to_int64(facts->key[FACT_AD][i])))
			continue;
		if (each_minute)
		{
			int64		minute = facts_to_int64(facts->key[FACT_MINUTE][i]);

			if (minute < scan->from || minute >= end)
				continue;
			minute_group = group_of_minute(scan, minute);
			if (minute_group == PART_REJECTED)
				continue;
		}
		filter_group = scan->filter ? group_of_filter(scan, facts->key[FACT_FILTER][i]) : 0;
		if (filter_group == PART_REJECTED)
			continue;
		add_group(scan, facts->key[FACT_AD][i], minute_group, filter_group, facts->count[i]);
	}
}

/* Add those facts that lie in a range of ads. */
static void
add_range(FactScan *scan, const StoreRun *run, const Facts *facts, uint64 low, uint64 high)
{
	size_t		start = facts_find(facts, 0, low);
	size_t		end = facts_find_above(facts, start, high);

	add_facts(scan, run, facts, start, end - start);
}

/* Read a range of ads in one run, or in the tail. */
static void
read_range(FactScan *scan, StoreScan *store, const StoreRun *run, int64 low_ad, int64 high_ad)
{
	uint64		low = facts_from_int64(low_ad);
	uint64		high = facts_from_int64(high_ad);

	CHECK_FOR_INTERRUPTS();
	if (run == NULL)
	{
		add_range(scan, NULL, scan->tail, low, high);
		return;
	}
	store_scan_range(store, run, low, high);
	while (store_scan_previous(store, columns_needed(scan, run), &scan->segment))
	{
		scan->counts.segments++;
		add_range(scan, run, &scan->segment, low, high);
	}
}

static void
read_run(FactScan *scan, StoreScan *store, const StoreRun *run)
{
	if (!scan->by_probes)
		read_range(scan, store, run, scan->low, scan->high);
	else
		for (int i = 0; i < scan->range.nads; i++)
			read_range(scan, store, run, scan->range.ads[i], scan->range.ads[i]);
}

/* Whether the clicks of the run, or of its minutes, are the answer, as they stand in the directory. */
static bool
is_total_known(const FactScan *scan, const StoreRun *run)
{
	return !scan->by_ad && scan->filter == NULL && (has_one_minute(run) || !run->is_delta) &&
		row_range_has_all_ads(&scan->range);
}

static void
add_total(FactScan *scan, int64 minute, int64 clicks)
{
	int32		group = group_of_minute(scan, minute);

	if (group != PART_REJECTED)
		add_group(scan, 0, group, 0, clicks);
}

/* The minutes that the window has of a run: read as the owner, while groups are judged as the caller. */
static StoreMinute *
get_minutes(const FactScan *scan, const StoreRun *run, int *n)
{
	Caller		caller;
	StoreMinute *minutes;

	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	privileges_become_owner(&caller);
	minutes = store_get_run_minutes(run, scan->from, scan->to - 1, n);
	privileges_become_caller(&caller);
	PopActiveSnapshot();
	return minutes;
}

/* Add what the directory says of the run. */
static void
add_totals(FactScan *scan, const StoreRun *run)
{
	StoreMinute *minutes;
	int			n;

	scan->counts.totals++;
	make_room(scan, MINS_PER_HOUR);
	if (!needs_minutes(scan, run))
	{
		add_total(scan, run->first_minute, run->clicks);
		return;
	}
	minutes = get_minutes(scan, run, &n);
	for (int i = 0; i < n; i++)
		add_total(scan, minutes[i].minute, minutes[i].clicks);
	pfree(minutes);
}

static StoreScan *
begin_store_scan(FactScan *scan, bool is_delta)
{
	StoreScan  *store;

	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	store = store_scan_begin(is_delta ? STORE_DELTAS : STORE_FINAL);
	PopActiveSnapshot();
	return store;
}

/*
 * The last ad of the next piece of the range, so that the largest run of the chunk
 * has some segments in it.
 */
static int64
end_of_piece(FactScan *scan)
{
	const StoreRun *largest = store_largest_run(scan->chunk, scan->nchunk);
	StoreScan  *store = begin_store_scan(scan, largest->is_delta);
	uint64		end = store_scan_piece(store, largest, SEGMENTS_IN_PIECE, facts_from_int64(scan->low), facts_from_int64(scan->range.high));

	store_scan_end(store);
	return facts_to_int64(end);
}

/* Go on in the range of ads; false at its end. */
static bool
next_piece(FactScan *scan)
{
	if (scan->high == scan->range.high)
		return false;
	scan->low = scan->high + 1;
	scan->high = end_of_piece(scan);
	return true;
}

/* Begin with the range of ads: as a whole, if the runs can be open together or are few. */
static void
first_piece(FactScan *scan)
{
	scan->low = scan->range.low;
	scan->high = scan->range.high;
	scan->in_turn = scan->by_probes || !scan->by_ad || scan->nchunk > MAX_OPEN_RUNS;
	if (scan->in_turn && scan->by_ad && !scan->by_probes)
		scan->high = end_of_piece(scan);
}

/* Read all runs of the chunk, one after the other. */
static void
read_in_turn(FactScan *scan)
{
	StoreScan  *stores[2] = {begin_store_scan(scan, false), begin_store_scan(scan, true)};

	for (int i = 0; i < scan->nchunk; i++)
	{
		const StoreRun *run = &scan->chunk[i];

		CHECK_FOR_INTERRUPTS();
		if (is_total_known(scan, run))
			add_totals(scan, run);
		else
		{
			read_run(scan, stores[run->is_delta], run);
			scan->counts.runs += scan->low == scan->range.low;
		}
	}
	store_scan_end(stores[0]);
	store_scan_end(stores[1]);
	read_run(scan, NULL, NULL);
}

/* Open all runs of the chunk, to read them in slices. */
static void
begin_slices(FactScan *scan)
{
	unsigned   *columns = palloc(sizeof(unsigned) * (scan->nchunk + 1));

	for (int i = 0; i < scan->nchunk; i++)
		columns[i] = columns_needed(scan, &scan->chunk[i]);
	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	scan->slices = slices_begin_range(ORDER_AD, scan->chunk, scan->nchunk, columns, scan->tail,
									  facts_from_int64(scan->range.low),
									  facts_from_int64(scan->range.high));
	PopActiveSnapshot();
	scan->counts.runs += scan->nchunk;
	scan->counts.segments += slices_segments(scan->slices);
}

/* Read slices until there is enough for a batch. */
static void
read_slices(FactScan *scan)
{
	const SlicePart *parts;
	int			nparts;

	while (scan->batch.n < scan->enough)
	{
		int64		before = slices_segments(scan->slices);

		parts = slices_next(scan->slices, &nparts);
		scan->counts.segments += slices_segments(scan->slices) - before;
		if (parts == NULL)
		{
			slices_end(scan->slices);
			scan->slices = NULL;
			break;
		}
		for (int i = 0; i < nparts; i++)
			add_facts(scan, parts[i].run, parts[i].facts, parts[i].start, parts[i].n);
	}
	scan->enough = Min(2 * scan->enough, LARGEST_BATCH);
}

/* Whether the minute fails a clause, if that may be asked before a fact has it. */
static bool
is_rejected(FactScan *scan, int64 minute)
{
	return !scan->limited && group_of_minute(scan, minute) == PART_REJECTED;
}

/* The next chunk of the window: its bounds, and the runs with facts in it. */
static bool
next_chunk(FactScan *scan)
{
	int			nfinal = scan->nruns - scan->next_run;

	if (scan->from <= scan->range.from)
		return false;
	if (scan->by_ad && scan->by_minute)
		nfinal = Min(nfinal, scan->runs_ahead);
	scan->to = scan->from;
	scan->from = scan->next_run + nfinal == scan->nruns ? scan->range.from :
		scan->runs[scan->next_run + nfinal - 1].first_minute;

	scan->nchunk = 0;
	for (int i = 0; i < scan->next_run + nfinal; i++)
	{
		const StoreRun *run = &scan->runs[i];

		if (i >= scan->ndeltas && i < scan->next_run)
			continue;
		if (run->last_minute < scan->from || run->first_minute >= end_of_chunk(scan, run) ||
			(has_one_minute(run) && is_rejected(scan, run->first_minute)))
			continue;
		scan->chunk[scan->nchunk++] = *run;
	}
	scan->next_run += nfinal;
	scan->runs_ahead = Min(2 * scan->runs_ahead, LARGEST_CHUNK);
	first_piece(scan);
	return true;
}

static int64
take_minute(FactScan *scan)
{
	int			i = scan->next_minute++;

	return scan->minutes[scan->order == NEWEST_FIRST ? scan->nminutes - 1 - i : i];
}

static bool
has_minute(const StoreRun *run, int64 minute)
{
	return run->first_minute <= minute && run->last_minute >= minute;
}

/* Whether minutes, as they come in order, lie behind those of the run. */
static bool
is_passed(const FactScan *scan, const StoreRun *run)
{
	return scan->order == NEWEST_FIRST ? run->first_minute > scan->from : run->last_minute < scan->from;
}

/* The next minute, if they come in order: a chunk of its own. */
static bool
next_minute(FactScan *scan)
{
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (scan->next_minute == scan->nminutes)
			return false;
		scan->from = take_minute(scan);
		scan->to = scan->from + 1;
		scan->nchunk = 0;
		while (scan->next_run < scan->nruns && is_passed(scan, &scan->runs[scan->next_run]))
			scan->next_run++;
		if (scan->next_run < scan->nruns && has_minute(&scan->runs[scan->next_run], scan->from))
			scan->chunk[scan->nchunk++] = scan->runs[scan->next_run];
	} while (is_rejected(scan, scan->from));
	for (int i = 0; i < scan->ndeltas; i++)
		if (has_minute(&scan->runs[i], scan->from))
			scan->chunk[scan->nchunk++] = scan->runs[i];
	first_piece(scan);
	return true;
}

/* The groups of all minutes, without reading their facts. */
static bool
read_minutes(FactScan *scan)
{
	if (scan->next_minute == scan->nminutes)
		return false;
	scan->counts.totals += scan->nruns;
	make_room(scan, scan->nminutes);
	while (scan->next_minute < scan->nminutes)
	{
		int32		group = group_of_minute(scan, take_minute(scan));

		CHECK_FOR_INTERRUPTS();
		if (group != PART_REJECTED)
			add_group(scan, 0, group, 0, 1);
	}
	facts_combine(&scan->batch, scan->scratch);
	return scan->batch.n > 0;
}

/* Read until there is a batch; false at the end. */
static bool
read_batch(FactScan *scan)
{
	if (scan->minutes_only)
		return read_minutes(scan);
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (scan->slices == NULL)
		{
			if (!next_piece(scan) &&
				!(scan->order == ANY_ORDER ? next_chunk(scan) : next_minute(scan)))
				return false;
			if (scan->in_turn)
				read_in_turn(scan);
			else
				begin_slices(scan);
		}
		if (scan->slices)
			read_slices(scan);
	} while (scan->batch.n == 0);
	facts_combine(&scan->batch, scan->scratch);
	return true;
}

/* Index scans allocate as they go on: not in the memory of a row. */
bool
fact_read_next(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->scan_context);
	bool		found;

	scan->position = 0;
	scan->batch.n = 0;
	found = read_batch(scan);
	MemoryContextSwitchTo(outer);
	return found;
}

void
fact_read_end(FactScan *scan)
{
	if (scan->slices)
		slices_end(scan->slices);
	scan->slices = NULL;
}
