/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  The stored keys of all clicks that were counted.
 *
 * See keys.h.  Which runs have keys of a bucket is told by the directory of runs,
 * by the minutes in which buckets begin.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "core/segment.h"
#include "keys.h"
#include "store/store.h"

/* The columns of order ledger that are decoded: the first ones. */
#define KEY_HIGH 0
#define KEY_LOW 1
#define KEY_BUCKET 2
#define KEY_COLUMNS (1 << KEY_HIGH | 1 << KEY_LOW | 1 << KEY_BUCKET)

/* Reading a run. */
typedef struct KeyReader
{
	MemoryContext context;
	StoreScan  *scan;
	Facts		segment;		/* the one read last */
	bool		alone;			/* it was the only one that could have the key asked for */
	bool		is_last;		/* of the run; else ... */
	uint64		next;			/* ... with this key the next one begins */
} KeyReader;

static void
reader_begin(KeyReader *reader, const StoreRun *run)
{
	MemoryContext outer;

	reader->context = AllocSetContextCreate(CurrentMemoryContext, "adclick keys", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(reader->context);
	facts_init(&reader->segment, order_columns[ORDER_LEDGER], SEGMENT_MAX_FACTS,
			   palloc(facts_memory(order_columns[ORDER_LEDGER], SEGMENT_MAX_FACTS)));
	reader->scan = store_scan_begin(store_table(run));
	reader->alone = false;
	MemoryContextSwitchTo(outer);
}

static void
reader_end(KeyReader *reader)
{
	store_scan_end(reader->scan);
	MemoryContextDelete(reader->context);
}

static inline BucketKey
key_at(const Facts *segment, size_t i)
{
	return (BucketKey) {
		{segment->key[KEY_HIGH][i], segment->key[KEY_LOW][i]},
		facts_to_int64(segment->key[KEY_BUCKET][i])
	};
}

static inline int
compare_keys(const BucketKey *a, const BucketKey *b)
{
	if (a->key.hi != b->key.hi)
		return a->key.hi < b->key.hi ? -1 : 1;
	if (a->key.lo != b->key.lo)
		return a->key.lo < b->key.lo ? -1 : 1;
	return (a->bucket > b->bucket) - (a->bucket < b->bucket);
}

int
compare_seen_clicks(const void *a, const void *b)
{
	const SeenClick *x = *(SeenClick *const *) a;
	const SeenClick *y = *(SeenClick *const *) b;
	int			order = compare_keys(&x->key, &y->key);

	return order != 0 ? order : (x > y) - (x < y);
}

static bool
segment_has(const Facts *segment, const BucketKey *key)
{
	size_t		low = facts_find(segment, 0, key->key.hi);
	size_t		high = segment->n;

	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;
		BucketKey	found = key_at(segment, middle);
		int			order = compare_keys(&found, key);

		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static void
match(const Facts *segment, SeenClick **clicks, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (segment_has(segment, &clicks[i]->key))
			clicks[i]->verdict = SEEN_DUPLICATE;
}

/*
 * Whether no other segment of the run can have keys of this high half: fresh ids of
 * version 7 lie behind all there are.
 */
static bool
lies_within(const KeyReader *reader, uint64 high)
{
	return reader->alone && reader->segment.key[KEY_HIGH][0] < high && (reader->is_last || high < reader->next);
}

/* Read the segments that can have keys of this high half. */
static void
read_and_match(KeyReader *reader, const StoreRun *run, uint64 high, SeenClick **group, size_t n)
{
	int			nread = 0;

	store_scan_range(reader->scan, run, high, high);
	for (; store_scan_previous(reader->scan, KEY_COLUMNS, &reader->segment); nread++)
	{
		if (nread == 0)
			reader->is_last = !store_scan_follows(reader->scan, &reader->next);
		match(&reader->segment, group, n);
	}
	reader->alone = nread == 1;
}

/* How many of the clicks, from the first on, have the same high half. */
static size_t
group_size(SeenClick **clicks, size_t n)
{
	size_t		size = 1;

	while (size < n && clicks[size]->key.key.hi == clicks[0]->key.key.hi)
		size++;
	return size;
}

/* Some clicks looked for in a run, as an argument of attempt(). */
typedef struct Search
{
	const StoreRun *run;
	SeenClick **clicks;
	size_t		n;
} Search;

static void
search(void *arg)
{
	const Search *search = arg;
	KeyReader	reader;
	size_t		n;

	reader_begin(&reader, search->run);
	for (size_t start = 0; start < search->n; start += n)
	{
		SeenClick **group = &search->clicks[start];
		uint64		high = group[0]->key.key.hi;

		CHECK_FOR_INTERRUPTS();
		n = group_size(group, search->n - start);
		if (lies_within(&reader, high))
			match(&reader.segment, group, n);
		else
			read_and_match(&reader, search->run, high, group, n);
	}
	reader_end(&reader);
}

bool
keys_are_damaged(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_DATA_CORRUPTED || error->sqlerrcode == ERRCODE_INDEX_CORRUPTED ||
		error->sqlerrcode == ERRCODE_IO_ERROR;
}

/* Search, and say whether the run could be read. */
static bool
try_search(Search *one)
{
	ErrorData  *error = attempt(search, one);

	if (error && !keys_are_damaged(error))
		ThrowErrorData(error);
	return error == NULL;
}

/* Where the run is damaged, clicks stay undecided: only those that need what is damaged. */
static void
search_what_can_be_read(Search *all)
{
	size_t		n;

	if (try_search(all))
		return;
	for (size_t start = 0; start < all->n; start += n)
	{
		Search		one = {all->run, &all->clicks[start]};

		n = one.n = group_size(one.clicks, all->n - start);
		if (!try_search(&one))
			for (size_t i = 0; i < n; i++)
				if (one.clicks[i]->verdict != SEEN_DUPLICATE)
					one.clicks[i]->verdict = SEEN_UNDECIDED;
	}
}

void
keys_find(SeenClick **clicks, size_t n, bool may_stay_undecided)
{
	int64	   *minutes;
	StoreRun   *runs;
	int			nruns;

	if (n == 0)
		return;
	minutes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * n);
	for (size_t i = 0; i < n; i++)
		minutes[i] = store_minute(ORDER_LEDGER, facts_from_int64(clicks[i]->key.bucket));
	runs = store_get_key_runs(minutes, sort_unique_int64(minutes, (int) n), &nruns);
	pfree(minutes);
	for (int i = 0; i < nruns; i++)
	{
		Search		all = {&runs[i], clicks, n};

		if (may_stay_undecided)
			search_what_can_be_read(&all);
		else
			search(&all);
	}
	pfree(runs);
}

/* Hand over the keys of a run that are wanted. */
static void
hand_over(const StoreRun *run, int64 from, keys_callback callback, void *arg)
{
	KeyReader	reader;
	BucketKey  *keys = palloc(sizeof(BucketKey) * SEGMENT_MAX_FACTS);

	reader_begin(&reader, run);
	store_scan_run(reader.scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(reader.scan, KEY_COLUMNS, &reader.segment))
	{
		size_t		n = 0;

		for (size_t i = 0; i < reader.segment.n; i++)
		{
			keys[n] = key_at(&reader.segment, i);
			n += keys[n].bucket >= from;
		}
		if (n > 0)
			callback(keys, n, arg);
	}
	reader_end(&reader);
	pfree(keys);
}

void
keys_each(int64 from, keys_callback callback, void *arg)
{
	int			nruns;
	StoreRun   *runs = store_get_runs(ORDER_LEDGER, store_minute(ORDER_LEDGER, facts_from_int64(from)), LAST_MINUTE,
									  &nruns);

	for (int i = 0; i < nruns; i++)
		hand_over(&runs[i], from, callback, arg);
	pfree(runs);
}

int64
keys_highest_bucket(void)
{
	int			nruns;
	StoreRun   *runs = store_get_runs(ORDER_LEDGER, FIRST_MINUTE, LAST_MINUTE, &nruns);
	int64		last = FIRST_MINUTE;

	for (int i = 0; i < nruns; i++)
		last = Max(last, runs[i].last_minute);
	pfree(runs);
	return facts_to_int64(store_minute_value(ORDER_LEDGER, last + 1)) - 1;
}
