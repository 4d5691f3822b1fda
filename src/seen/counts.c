/*-------------------------------------------------------------------------
 *
 * counts.c
 *	  How many counted clicks users and addresses have in a minute: as stored.
 *
 * See counts.h.  A run is searched for those alone whose minutes lie within its own, so
 * late clicks cost what they are and the runs that have their minutes.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "base/shmem.h"
#include "core/segment.h"
#include "core/siphash.h"
#include "counts.h"
#include "keys.h"
#include "store/store.h"

/* The hash of 128 bits is taken for the user or the address, as no client can choose it. */
static void
set_hash(Clicker *clicker, uint64 first, uint64 second, int64 minute)
{
	const uint64 *seed = shmem->clicker_seed;

	clicker->hash.key = (DedupKey) {
		siphash(&seed[0], first, second) + clicker->ip.family, siphash(&seed[2], first, second)
	};
	clicker->hash.bucket = minute;
}

void
clicker_of_user(Clicker *clicker, int64 user_id, int64 minute)
{
	*clicker = (Clicker) {.user_id = user_id};
	set_hash(clicker, (uint64) user_id, 0, minute);
}

void
clicker_of_address(Clicker *clicker, const IpAddress *ip, int64 minute)
{
	*clicker = (Clicker) {.ip = *ip};
	set_hash(clicker, ip->high, ip->low, minute);
}

/* The columns of an order by which a clicker is found: the first ones, the minute last. */
static int
key_columns(FactOrder order)
{
	return order_column(order, ROLE_MINUTE) + 1;
}

static uint64
key_column(const Clicker *clicker, int column)
{
	if (clicker->ip.family == 0)
		return column == 0 ? facts_from_int64(clicker->user_id) : facts_from_int64(clicker_minute(clicker));
	switch (column)
	{
		case 0:
			return clicker->ip.high;
		case 1:
			return clicker->ip.low;
		case 2:
			return clicker->ip.family;
		default:
			return facts_from_int64(clicker_minute(clicker));
	}
}

static int
compare_minutes(const void *a, const void *b)
{
	int64		x = clicker_minute(*(Clicker *const *) a);
	int64		y = clicker_minute(*(Clicker *const *) b);

	return (x > y) - (x < y);
}

/* Of the same order. */
static int
compare_clickers(const void *a, const void *b)
{
	const Clicker *x = *(Clicker *const *) a;
	const Clicker *y = *(Clicker *const *) b;

	for (int c = 0; c < key_columns(clicker_order(x)); c++)
		if (key_column(x, c) != key_column(y, c))
			return key_column(x, c) < key_column(y, c) ? -1 : 1;
	return 0;
}

/* Reading a run. */
typedef struct CountReader
{
	FactOrder	order;
	MemoryContext context;
	StoreScan  *scan;
	Facts		segment;		/* the one read last */
	bool		alone;			/* it was the only one that could have the first column asked for */
	bool		is_last;		/* of the run; else ... */
	uint64		next;			/* ... with this first column the next one begins */
} CountReader;

static void
reader_begin(CountReader *reader, const StoreRun *run)
{
	MemoryContext outer;
	int			ncolumns = order_columns[run->order];

	reader->order = run->order;
	reader->context = AllocSetContextCreate(CurrentMemoryContext, "adclick counts", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(reader->context);
	facts_init(&reader->segment, ncolumns, SEGMENT_MAX_FACTS, palloc(facts_memory(ncolumns, SEGMENT_MAX_FACTS)));
	reader->scan = store_scan_begin(store_table(run));
	reader->alone = false;
	MemoryContextSwitchTo(outer);
}

static void
reader_end(CountReader *reader)
{
	store_scan_end(reader->scan);
	MemoryContextDelete(reader->context);
}

static unsigned
decoded(FactOrder order)
{
	return (1U << key_columns(order)) - 1;
}

static int
compare_to_fact(const Clicker *clicker, const Facts *segment, size_t i, int ncolumns)
{
	for (int c = 0; c < ncolumns; c++)
	{
		uint64		value = key_column(clicker, c);

		if (value != segment->key[c][i])
			return value < segment->key[c][i] ? -1 : 1;
	}
	return 0;
}

/* Add what the segment has of a clicker. */
static void
add_clicks(const CountReader *reader, Clicker *clicker, int32 limit)
{
	const Facts *segment = &reader->segment;
	int			ncolumns = key_columns(reader->order);
	size_t		low = facts_find(segment, 0, key_column(clicker, 0));
	size_t		high = segment->n;

	while (low < high)
	{
		size_t		middle = low + (high - low) / 2;

		if (compare_to_fact(clicker, segment, middle, ncolumns) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < segment->n && clicker->clicks < limit && compare_to_fact(clicker, segment, low, ncolumns) == 0; low++)
		clicker->clicks = (int32) Min((uint64) limit, (uint64) clicker->clicks + segment->count[low]);
}

/* Clickers of one run that are looked for, in the order of its columns, as an argument of attempt(). */
typedef struct CountSearch
{
	const StoreRun *run;
	const ClickRules *rules;
	Clicker   **clickers;
	size_t		n;
} CountSearch;

/* How many of the clickers, from the first on, have the same first column. */
static size_t
group_size(Clicker **clickers, size_t n)
{
	size_t		size = 1;

	while (size < n && key_column(clickers[size], 0) == key_column(clickers[0], 0))
		size++;
	return size;
}

static void
add_group(const CountReader *reader, const CountSearch *search, Clicker **group, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_clicks(reader, group[i], clicker_limit(group[i], search->rules));
}

/* Whether no other segment of the run than the one read last can have this first column. */
static bool
lies_within(const CountReader *reader, uint64 first)
{
	return reader->alone && reader->segment.key[0][0] < first && (reader->is_last || first < reader->next);
}

/* Read the segments that can have a first column. */
static void
read_group(CountReader *reader, const CountSearch *search, Clicker **group, size_t n)
{
	uint64		first = key_column(group[0], 0);
	int			nread = 0;

	store_scan_range(reader->scan, search->run, first, first);
	for (; store_scan_previous(reader->scan, decoded(reader->order), &reader->segment); nread++)
	{
		CHECK_FOR_INTERRUPTS();
		if (nread == 0)
			reader->is_last = !store_scan_follows(reader->scan, &reader->next);
		add_group(reader, search, group, n);
	}
	reader->alone = nread == 1;
}

static void
search(void *arg)
{
	const CountSearch *search = arg;
	CountReader reader;
	size_t		n;

	reader_begin(&reader, search->run);
	for (size_t start = 0; start < search->n; start += n)
	{
		Clicker   **group = &search->clickers[start];

		CHECK_FOR_INTERRUPTS();
		n = group_size(group, search->n - start);
		if (lies_within(&reader, key_column(group[0], 0)))
			add_group(&reader, search, group, n);
		else
			read_group(&reader, search, group, n);
	}
	reader_end(&reader);
}

/* Search, and say whether the run could be read: then what was added of it before is taken back. */
static bool
try_search(CountSearch *one)
{
	int32	   *before = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * one->n);
	ErrorData  *error;

	for (size_t i = 0; i < one->n; i++)
		before[i] = one->clickers[i]->clicks;
	error = attempt(search, one);
	if (error && !keys_are_damaged(error))
		ThrowErrorData(error);
	for (size_t i = 0; error && i < one->n; i++)
		one->clickers[i]->clicks = before[i];
	pfree(before);
	return error == NULL;
}

/* Where the run is damaged, those stay undecided that need what is damaged. */
static void
search_what_can_be_read(CountSearch *all)
{
	size_t		n;

	if (try_search(all))
		return;
	for (size_t start = 0; start < all->n; start += n)
	{
		CountSearch one = {all->run, all->rules, &all->clickers[start]};

		n = one.n = group_size(one.clickers, all->n - start);
		if (!try_search(&one))
			for (size_t i = 0; i < n; i++)
				one.clickers[i]->state = COUNT_UNDECIDED;
	}
}

/* Of clickers in the order of their minutes, the first whose minute is not before this one. */
static size_t
find_minute(Clicker **clickers, size_t n, int64 minute)
{
	size_t		low = 0;

	while (low < n)
	{
		size_t		middle = low + (n - low) / 2;

		if (clicker_minute(clickers[middle]) < minute)
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}

void
counts_find(FactOrder order, Clicker **clickers, size_t n, const ClickRules *rules, bool may_stay_undecided)
{
	StoreRun   *runs;
	Clicker   **some;
	int			nruns;

	if (n == 0)
		return;
	qsort(clickers, n, sizeof(Clicker *), compare_minutes);
	runs = store_get_runs(order, clicker_minute(clickers[0]), clicker_minute(clickers[n - 1]), &nruns);
	some = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clicker *) * n);
	for (int i = 0; i < nruns; i++)
	{
		size_t		start = find_minute(clickers, n, runs[i].first_minute);
		CountSearch all = {&runs[i], rules, some, find_minute(clickers, n, runs[i].last_minute + 1) - start};

		CHECK_FOR_INTERRUPTS();
		if (all.n == 0)
			continue;
		memcpy(some, &clickers[start], sizeof(Clicker *) * all.n);
		qsort(some, all.n, sizeof(Clicker *), compare_clickers);
		if (may_stay_undecided)
			search_what_can_be_read(&all);
		else
			search(&all);
	}
	for (size_t i = 0; i < n; i++)
		if (clickers[i]->state == COUNT_UNKNOWN || clickers[i]->clicks >= clicker_limit(clickers[i], rules))
			clickers[i]->state = COUNT_KNOWN;
	pfree(some);
	pfree(runs);
}

/* The clicker of a fact. */
static void
clicker_at(FactOrder order, const Facts *segment, size_t i, Clicker *clicker)
{
	int64		minute = facts_to_int64(segment->key[order_column(order, ROLE_MINUTE)][i]);

	if (order == ORDER_USER)
		clicker_of_user(clicker, facts_to_int64(segment->key[0][i]), minute);
	else
	{
		IpAddress	ip = {segment->key[0][i], segment->key[1][i], (uint8) segment->key[2][i]};

		clicker_of_address(clicker, &ip, minute);
	}
}

/* Hand over the facts of a run that are wanted. */
static void
hand_over(const StoreRun *run, int64 from, counts_callback callback, void *arg)
{
	CountReader reader;
	Clicker		clicker;

	reader_begin(&reader, run);
	store_scan_run(reader.scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(reader.scan, decoded(run->order), &reader.segment))
	{
		CHECK_FOR_INTERRUPTS();
		for (size_t i = 0; i < reader.segment.n; i++)
		{
			clicker_at(run->order, &reader.segment, i, &clicker);
			if (clicker_minute(&clicker) >= from)
				callback(&clicker, reader.segment.count[i], arg);
		}
	}
	reader_end(&reader);
}

void
counts_each(FactOrder order, int64 from, counts_callback callback, void *arg)
{
	int			nruns;
	StoreRun   *runs = store_get_runs(order, from, LAST_MINUTE, &nruns);

	for (int i = 0; i < nruns; i++)
		hand_over(&runs[i], from, callback, arg);
	pfree(runs);
}

int64
counts_last_minute(void)
{
	int64		last = FIRST_MINUTE;

	for (FactOrder order = ORDER_USER; order <= ORDER_IP; order++)
	{
		int			nruns;
		StoreRun   *runs = store_get_runs(order, FIRST_MINUTE, LAST_MINUTE, &nruns);

		for (int i = 0; i < nruns; i++)
			last = Max(last, runs[i].last_minute);
		pfree(runs);
	}
	return last;
}
