/*-------------------------------------------------------------------------
 *
 * slices.c
 *	  Going through many runs at once.
 *
 * See slices.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/facts_alloc.h"
#include "core/segment.h"
#include "slices.h"

/* Facts of each run loaded at a time, if they are picked. */
#define PICKED_AHEAD 256

/* Facts in memory that a slice has, about, beside those of runs. */
#define MEMORY_FACTS 8192

/* Facts sorted and combined together by slices_merge. */
#define MERGE_FACTS (256 * 1024)

typedef struct Cursor
{
	const StoreRun *run;
	unsigned	columns;		/* to decode, as bits */
	StoreScan  *scan;
	Facts		facts;			/* of the segments being consumed */
	size_t		position;		/* first not consumed */
	bool		more;			/* there is a next segment ... */
	uint64		limit;			/* ... which begins with this key */
	size_t		enough;			/* load more when fewer facts are at hand */
	bool		begun;			/* a segment has been decoded ... */
	uint64		last[FACTS_MAX_COLUMNS];	/* ... whose last fact has this key */
	uint64		clicks_left;	/* of the run, behind what was decoded */
	bool		picks;			/* only facts that meet the conditions */
} Cursor;

struct Slices
{
	MemoryContext context;
	int			ncolumns;		/* of the order's keys */
	uint64		low;			/* range of first columns to go through */
	uint64		high;
	bool		by_key;			/* all columns are decoded, and a slice ends with any key */
	const Conditions *conditions;	/* of cursors that pick */
	Facts		decoded;		/* what they pick from */
	int			ncursors;
	Cursor	   *cursors;
	SlicePart  *parts;
	int64		segments;		/* decoded so far */
};

/* Some fact names a filter_id that has no row: an error if it is of the window. */
static void
refuse_missing(const Conditions *conditions, const StoreRun *run, const Facts *facts)
{
	bool		inside = run_is_inside(run, conditions);
	int64		end = window_end(conditions, run);

	for (size_t i = 0; i < facts->n; i++)
	{
		int64		minute = inside ? conditions->from : facts_to_int64(facts->key[FACT_MINUTE][i]);

		if (minute >= conditions->from && minute < end)
			(void) conditions_match_filter(conditions, facts->key[FACT_FILTER][i]);
	}
}

/*
 * Without branches, as they could not be predicted, and with all that is looked at
 * in local variables: this is the innermost loop of a scan.  So what was met of filters
 * is only put together, and looked at when all have been passed.
 */
size_t
slices_pick_facts(const Conditions *conditions, const StoreRun *run, const Facts *facts,
				  uint64 *restrict ads, uint64 *restrict clicks)
{
	const uint64 *ad = facts->key[FACT_AD];
	const uint64 *minute = facts->key[FACT_MINUTE];
	const uint64 *filter = facts->key[FACT_FILTER];
	const uint64 *count = facts->count;
	const uint8 *matches = conditions->matches;
	uint64		filters_end = conditions->filters_end;
	uint64		from = facts_from_int64(conditions->from);
	uint64		to = facts_from_int64(window_end(conditions, run));
	size_t		nfacts = facts->n;
	size_t		n = 0;
	unsigned	met = 0;

#define PICK(in_window, match) \
	for (size_t i = 0; i < nfacts; i++) \
	{ \
		unsigned	found = (match); \
		ads[n] = ad[i]; \
		clicks[n] = count[i]; \
		n += found & FILTER_MATCHES & (in_window); \
		met |= found; \
	}
#define IN_WINDOW ((unsigned) ((minute[i] >= from) & (minute[i] < to)))
#define MATCH matches[Min(filter[i], filters_end)]

	if (run_is_inside(run, conditions))
		PICK(1, MATCH)
	else if (!conditions->filtered)
		PICK(IN_WINDOW, FILTER_MATCHES)
	else
		PICK(IN_WINDOW, MATCH)

#undef PICK
#undef IN_WINDOW
#undef MATCH
	if (met & FILTER_MISSING)
		refuse_missing(conditions, run, facts);
	return n;
}

static int
compare_keys(const Facts *facts, size_t i, const uint64 *key)
{
	for (int c = 0; c < facts->ncolumns; c++)
		if (facts->key[c][i] != key[c])
			return facts->key[c][i] < key[c] ? -1 : 1;
	return 0;
}

/* The first fact from "start" on whose key is above this one. */
static size_t
find_above(const Facts *facts, size_t start, const uint64 *key)
{
	size_t		end = facts->n;

	while (start < end)
	{
		size_t		middle = start + (end - start) / 2;

		if (compare_keys(facts, middle, key) <= 0)
			start = middle + 1;
		else
			end = middle;
	}
	return start;
}

/* A segment has been decoded: note its last key, after a look at its first one. */
static void
note_keys(const Slices *slices, Cursor *cursor, const Facts *decoded)
{
	if (decoded->key[0][0] < cursor->last[0] ||
		(slices->by_key && cursor->begun && compare_keys(decoded, 0, cursor->last) <= 0))
		store_scan_corrupt(cursor->scan, "it does not come after the one before");
	cursor->begun = true;
	for (int c = 0; c < (slices->by_key ? slices->ncolumns : 1); c++)
		cursor->last[c] = decoded->key[c][decoded->n - 1];
}

/*
 * Facts that are merged become part of another run: there must not be more of them
 * than the directory of runs says, or its row of that one would be damaged.
 */
static void
check_facts(Cursor *cursor, const Facts *decoded)
{
	const StoreRun *run = cursor->run;
	const uint64 *minute = decoded->key[store_minute_column(run->order)];
	const uint64 *count = decoded->count;
	uint64		first = store_minute_value(run->order, run->first_minute);
	uint64		end = store_minute_value(run->order, run->last_minute + 1);
	uint64		left = cursor->clicks_left;
	bool		wrong = false;

	for (size_t i = 0; i < decoded->n; i++)
	{
		wrong |= (minute[i] < first) | (minute[i] >= end) | (count[i] > left);
		left -= count[i];
	}
	if (wrong)
		store_scan_corrupt(cursor->scan, "it has more clicks than its run, or of other minutes");
	cursor->clicks_left = left;
}

/* Decode the next segment behind what is there. */
static void
load_segment(Slices *slices, Cursor *cursor)
{
	Facts	   *facts = &cursor->facts;
	size_t		before = facts->n;
	Facts		tail;
	Facts	   *decoded = cursor->picks ? &slices->decoded : &tail;

	if (facts->capacity - before < SEGMENT_MAX_FACTS)
		facts_enlarge(facts, Max(2 * facts->capacity, SEGMENT_MAX_FACTS), slices->context);
	tail = facts_end(facts);
	cursor->more = store_scan_next(cursor->scan, cursor->columns, decoded);
	if (!cursor->more)
		return;
	note_keys(slices, cursor, decoded);
	if (slices->by_key)
		check_facts(cursor, decoded);
	slices->segments++;
	cursor->enough = cursor->picks ? PICKED_AHEAD / 2 : Max(decoded->n / 2, 1);
	facts->n += cursor->picks ?
		slices_pick_facts(slices->conditions, cursor->run, decoded, tail.key[FACT_AD], tail.count) :
		decoded->n;
	cursor->more = store_scan_follows(cursor->scan, &cursor->limit) && cursor->limit <= slices->high;
	if (!cursor->more)
		facts->n = facts_find_above(facts, 0, slices->high);
}

/*
 * Have facts of the next segment at hand, or where few facts are picked, of as many
 * segments as it takes.
 */
static void
load_facts(Slices *slices, Cursor *cursor)
{
	facts_drop(&cursor->facts, cursor->position);
	cursor->position = 0;
	do
	{
		CHECK_FOR_INTERRUPTS();
		load_segment(slices, cursor);
	} while (cursor->more && cursor->picks && cursor->facts.n < PICKED_AHEAD);
}

static void
begin_cursor(Slices *slices, Cursor *cursor, const StoreRun *run, unsigned columns)
{
	const Conditions *conditions = slices->conditions;

	cursor->picks = conditions && columns != 1 << FACT_AD;
	cursor->run = run;
	cursor->clicks_left = (uint64) run->clicks;
	cursor->columns = slices->by_key ? STORE_WHOLE_KEY : columns;
	cursor->facts.ncolumns = slices->ncolumns;
	cursor->scan = store_scan_begin(store_table(run));
	store_scan_run(cursor->scan, run, slices->low, slices->high);
	load_facts(slices, cursor);
	cursor->position = facts_find(&cursor->facts, 0, slices->low);
}

static void
begin_memory(Slices *slices, Cursor *cursor, const Facts *facts)
{
	cursor->facts = *facts;
	cursor->position = facts_find(facts, 0, slices->low);
	cursor->facts.n = facts_find_above(facts, cursor->position, slices->high);
}

/* Without "columns": all of them, by the whole key. */
static Slices *
begin(FactOrder order, const StoreRun *runs, int nruns, const unsigned *columns,
	  const Facts *more, uint64 low, uint64 high, const Conditions *conditions)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick slices",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Slices	   *slices = palloc0(sizeof(Slices));

	slices->context = context;
	slices->ncolumns = order_columns[order];
	slices->low = low;
	slices->high = high;
	slices->by_key = columns == NULL;
	slices->conditions = conditions;
	if (conditions)
		facts_init(&slices->decoded, slices->ncolumns, SEGMENT_MAX_FACTS,
				   palloc(facts_memory(slices->ncolumns, SEGMENT_MAX_FACTS)));
	slices->cursors = palloc0(sizeof(Cursor) * (nruns + 1));
	slices->parts = palloc0(sizeof(SlicePart) * (nruns + 1));
	slices->ncursors = nruns;
	for (int i = 0; i < nruns; i++)
	{
		CHECK_FOR_INTERRUPTS();
		begin_cursor(slices, &slices->cursors[i], &runs[i], columns ? columns[i] : 0);
	}
	if (more)
		begin_memory(slices, &slices->cursors[slices->ncursors++], more);
	MemoryContextSwitchTo(outer);
	return slices;
}

Slices *
slices_begin_range(FactOrder order, const StoreRun *runs, int nruns, const unsigned *columns,
				   const Facts *more, uint64 low, uint64 high)
{
	return begin(order, runs, nruns, columns, more, low, high, NULL);
}

Slices *
slices_begin_picking(const StoreRun *runs, int nruns, const Conditions *conditions,
					 const Facts *more)
{
	unsigned   *columns = palloc(sizeof(unsigned) * (nruns + 1));

	for (int i = 0; i < nruns; i++)
		columns[i] = slices_columns_picked(&runs[i], conditions);
	return begin(ORDER_AD, runs, nruns, columns, more, 0, PG_UINT64_MAX, conditions);
}

/* Where a slice that has begun ends for the sake of facts in memory: with some ad. */
static bool
memory_limit(const Cursor *cursor, uint64 *limit)
{
	const Facts *facts = &cursor->facts;
	size_t		next = cursor->position + MEMORY_FACTS;

	if (cursor->scan || next >= facts->n)
		return false;
	if (facts->key[0][next] == facts->key[0][cursor->position])
		next = facts_find(facts, next, facts->key[0][next] + 1);
	if (next >= facts->n)
		return false;
	*limit = facts->key[0][next];
	return true;
}

/* Have facts at hand, before there are none left: slices are so many times larger. */
static void
refill(Slices *slices, Cursor *cursor)
{
	if (cursor->more && cursor->facts.n - cursor->position < cursor->enough)
		load_facts(slices, cursor);
}

/* Facts up to "end" are the cursor's part of the slice, if there are any. */
static void
take_part(Slices *slices, Cursor *cursor, size_t end, int *nparts)
{
	if (end > cursor->position)
		slices->parts[(*nparts)++] = (SlicePart) {
			cursor->run, &cursor->facts, cursor->position, end - cursor->position
		};
	cursor->position = end;
}

const SlicePart *
slices_next(Slices *slices, int *nparts)
{
	*nparts = 0;
	while (*nparts == 0)
	{
		uint64		bound = PG_UINT64_MAX;
		uint64		limit;
		bool		bounded = false;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < slices->ncursors; i++)
		{
			Cursor	   *cursor = &slices->cursors[i];

			refill(slices, cursor);
			limit = cursor->limit;
			if ((cursor->more || memory_limit(cursor, &limit)) && (!bounded || limit < bound))
			{
				bound = limit;
				bounded = true;
			}
		}
		for (int i = 0; i < slices->ncursors; i++)
		{
			Cursor	   *cursor = &slices->cursors[i];

			take_part(slices, cursor,
					  bounded ? facts_find(&cursor->facts, cursor->position, bound) : cursor->facts.n,
					  nparts);
		}
		if (*nparts > 0)
			return slices->parts;
		if (!bounded)
			return NULL;

		/* An ad goes on in the next segment: have both at hand. */
		for (int i = 0; i < slices->ncursors; i++)
			if (slices->cursors[i].more && slices->cursors[i].limit == bound)
				load_facts(slices, &slices->cursors[i]);
	}
	return NULL;
}

/*
 * The next slice if keys are what counts: as far as all runs are at hand.  What is
 * in memory does not grow with the facts of one ad, user or address.
 */
static const SlicePart *
next_by_key(Slices *slices, int *nparts)
{
	const Cursor *least = NULL;

	*nparts = 0;
	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < slices->ncursors; i++)
	{
		Cursor	   *cursor = &slices->cursors[i];

		refill(slices, cursor);
		if (cursor->more && (least == NULL || compare_keys(&least->facts, least->facts.n - 1, cursor->last) > 0))
			least = cursor;
	}
	for (int i = 0; i < slices->ncursors; i++)
	{
		Cursor	   *cursor = &slices->cursors[i];

		take_part(slices, cursor,
				  least ? find_above(&cursor->facts, cursor->position, least->last) : cursor->facts.n,
				  nparts);
	}
	return *nparts > 0 ? slices->parts : NULL;
}

int64
slices_segments(const Slices *slices)
{
	return slices->segments;
}

void
slices_end(Slices *slices)
{
	for (int i = 0; i < slices->ncursors; i++)
		if (slices->cursors[i].scan)
			store_scan_end(slices->cursors[i].scan);
	MemoryContextDelete(slices->context);
}

/* Facts that are sorted and combined together, before they are passed on. */
typedef struct Batch
{
	Facts		facts;
	void	   *scratch;
	slices_emit emit;
	void	   *arg;
} Batch;

static void
enlarge_batch(Batch *batch, size_t capacity)
{
	if (batch->scratch)
		pfree(batch->scratch);
	facts_enlarge(&batch->facts, capacity, CurrentMemoryContext);
	batch->scratch = MemoryContextAllocHuge(CurrentMemoryContext,
											facts_scratch(batch->facts.ncolumns, capacity));
}

static void
emit_batch(Batch *batch)
{
	if (batch->facts.n == 0)
		return;
	facts_combine(&batch->facts, batch->scratch);
	batch->emit(&batch->facts, batch->arg);
	batch->facts.n = 0;
}

static void
add_slice(Batch *batch, const SlicePart *parts, int nparts)
{
	size_t		n = 0;

	for (int i = 0; i < nparts; i++)
		n += parts[i].n;
	if (batch->facts.n + n > batch->facts.capacity)
		emit_batch(batch);
	if (n > batch->facts.capacity)
		enlarge_batch(batch, n);	/* very many runs */
	for (int i = 0; i < nparts; i++)
		facts_append(&batch->facts, parts[i].facts, parts[i].start, parts[i].n);
}

void
slices_merge(FactOrder order, const StoreRun *runs, int nruns, slices_emit emit, void *arg)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick merge",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Slices	   *slices = begin(order, runs, nruns, NULL, NULL, 0, PG_UINT64_MAX, NULL);
	Batch		batch = {.emit = emit, .arg = arg};
	const SlicePart *parts;
	int			nparts;

	batch.facts.ncolumns = order_columns[order];
	enlarge_batch(&batch, MERGE_FACTS);
	while ((parts = next_by_key(slices, &nparts)) != NULL)
		add_slice(&batch, parts, nparts);
	emit_batch(&batch);
	slices_end(slices);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
