/*-------------------------------------------------------------------------
 *
 * counts.c
 *	  How many counted clicks users and addresses have in a minute: as stored.
 *
 * See counts.h.  Those asked for are sorted as facts are, and merged with each run that has
 * some of their minutes.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "core/segment.h"
#include "counts.h"
#include "keys.h"
#include "store/store.h"

/* Clickers looked for in a run, as an argument of attempt(). */
typedef struct CountSearch
{
	const StoreRun *run;
	const ClickRules *rules;
	Clicker   **clickers;
	const Facts *asked;			/* the first columns of the order; the count is the number of the clicker */
	size_t		start;			/* these of them */
	size_t		end;
	Facts		segment;		/* the one read last */
} CountSearch;

/* The columns of an order by which a clicker is found: the first ones, the minute last. */
static int
key_columns(FactOrder order)
{
	return order_column(order, ROLE_MINUTE) + 1;
}

static void
ask_for(FactOrder order, Clicker **clickers, size_t n, Facts *asked)
{
	facts_init(asked, key_columns(order), n,
			   MemoryContextAllocHuge(CurrentMemoryContext, facts_memory(key_columns(order), n)));
	for (size_t i = 0; i < n; i++)
	{
		const Clicker *clicker = clickers[i];
		int			c = 0;

		if (order == ORDER_USER)
			asked->key[c++][i] = facts_from_int64(clicker->user_id);
		else
		{
			asked->key[c++][i] = clicker->ip.high;
			asked->key[c++][i] = clicker->ip.low;
			asked->key[c++][i] = clicker->ip.family;
		}
		asked->key[c][i] = facts_from_int64(clicker->minute);
		asked->count[i] = i;
	}
	asked->n = n;
	facts_sum_up(asked);
}

/* The first from i on whose minute the run can have. */
static inline size_t
skip_other_minutes(const CountSearch *search, size_t i)
{
	const uint64 *minutes = search->asked->key[search->asked->ncolumns - 1];
	uint64		first = facts_from_int64(search->run->first_minute);
	uint64		last = facts_from_int64(search->run->last_minute);

	while (i < search->end && (minutes[i] < first || minutes[i] > last))
		i++;
	return i;
}

/* How a fact stands to a clicker. */
static inline int
compare_fact(const CountSearch *search, size_t fact, size_t i)
{
	const Facts *asked = search->asked;

	for (int c = 0; c < asked->ncolumns; c++)
		if (search->segment.key[c][fact] != asked->key[c][i])
			return search->segment.key[c][fact] < asked->key[c][i] ? -1 : 1;
	return 0;
}

static inline void
add_clicks(const CountSearch *search, size_t fact, size_t i)
{
	Clicker    *clicker = search->clickers[search->asked->count[i]];
	uint64		limit = clicker_limit(clicker, search->rules);

	clicker->clicks = (int32) Min(limit, (uint64) clicker->clicks + Min(limit, search->segment.count[fact]));
}

/* Add what the segment has of clickers from i on; returns the first of which there can be more behind it. */
static size_t
add_segment(const CountSearch *search, size_t i)
{
	size_t		fact = 0;

	for (; i < search->end; i = skip_other_minutes(search, i + 1))
	{
		int			order = -1;

		fact = facts_find(&search->segment, fact, search->asked->key[0][i]);
		while (fact < search->segment.n && (order = compare_fact(search, fact, i)) <= 0)
		{
			if (order == 0)
				add_clicks(search, fact, i);
			fact++;
		}
		if (fact == search->segment.n)
			return i;
	}
	return i;
}

/* Whether the next segment of the run is not worth reading for what comes next: few are asked for. */
static bool
lies_beyond(const CountSearch *search, const StoreScan *scan, size_t i)
{
	uint64		next;

	return (int64) (search->end - search->start) < search->run->segments &&
		store_scan_follows(scan, &next) && next < search->asked->key[0][i];
}

/* What comes next is jumped to once: where it should lie, all is read. */
static void
search_run(CountSearch *search, StoreScan *scan)
{
	unsigned	columns = (1U << search->asked->ncolumns) - 1;
	size_t		i = skip_other_minutes(search, search->start);

	while (i < search->end)
	{
		size_t		target = i;

		store_scan_run(scan, search->run, search->asked->key[0][i], PG_UINT64_MAX);
		do
		{
			CHECK_FOR_INTERRUPTS();
			if (!store_scan_next(scan, columns, &search->segment))
				return;
			i = add_segment(search, i);
		} while (i < search->end && (i == target || !lies_beyond(search, scan, i)));
	}
}

static void
search(void *arg)
{
	CountSearch *search = arg;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick counts", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	int			ncolumns = order_columns[search->run->order];
	StoreScan  *scan;

	facts_init(&search->segment, ncolumns, SEGMENT_MAX_FACTS, palloc(facts_memory(ncolumns, SEGMENT_MAX_FACTS)));
	scan = store_scan_begin(store_table(search->run));
	search_run(search, scan);
	store_scan_end(scan);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

/* Search, and say whether the run could be read: then what was added of it before is taken back. */
static bool
try_search(CountSearch *one)
{
	size_t		n = one->end - one->start;
	int32	   *before = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * n);
	ErrorData  *error;

	for (size_t i = 0; i < n; i++)
		before[i] = one->clickers[one->asked->count[one->start + i]]->clicks;
	error = attempt(search, one);
	if (error && !keys_are_damaged(error))
		ThrowErrorData(error);
	for (size_t i = 0; error && i < n; i++)
		one->clickers[one->asked->count[one->start + i]]->clicks = before[i];
	pfree(before);
	return error == NULL;
}

/* Where the run is damaged, those stay undecided that need what is damaged. */
static void
search_what_can_be_read(CountSearch *all)
{
	const uint64 *first = all->asked->key[0];
	size_t		n;

	if (try_search(all))
		return;
	for (size_t start = all->start; start < all->end; start += n)
	{
		CountSearch one = *all;

		for (n = 1; start + n < all->end && first[start + n] == first[start];)
			n++;
		one.start = start;
		one.end = start + n;
		if (!try_search(&one))
			for (size_t i = start; i < one.end; i++)
				all->clickers[all->asked->count[i]]->state = COUNT_UNDECIDED;
	}
}

/* The runs that have some of their minutes. */
static StoreRun *
get_runs(FactOrder order, Clicker **clickers, size_t n, int *nruns)
{
	int64		first = LAST_MINUTE;
	int64		last = FIRST_MINUTE;

	for (size_t i = 0; i < n; i++)
	{
		first = Min(first, clickers[i]->minute);
		last = Max(last, clickers[i]->minute);
	}
	return store_get_runs(order, first, last, nruns);
}

void
counts_find(FactOrder order, Clicker **clickers, size_t n, const ClickRules *rules, bool may_stay_undecided)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick asked", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Facts		asked;
	StoreRun   *runs;
	int			nruns = 0;

	if (n > 0)
	{
		ask_for(order, clickers, n, &asked);
		runs = get_runs(order, clickers, n, &nruns);
	}
	for (int i = 0; i < nruns; i++)
	{
		CountSearch all = {&runs[i], rules, clickers, &asked, 0, n};

		if (may_stay_undecided)
			search_what_can_be_read(&all);
		else
			search(&all);
	}
	for (size_t i = 0; i < n; i++)
		if (clickers[i]->state == COUNT_UNKNOWN || clickers[i]->clicks >= clicker_limit(clickers[i], rules))
			clickers[i]->state = COUNT_KNOWN;
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
