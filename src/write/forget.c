/*-------------------------------------------------------------------------
 *
 * forget.c
 *	  A user is forgotten: his clicks become clicks of nobody.
 *
 * Order user says in which minutes he clicked, the ledger's runs that have these minutes
 * have his clicks and his addresses, and these find him in order ip.  Of the time that
 * retention has dropped from order user, all of the ledger and of order ip is read.  His facts are
 * taken out of orders user and ip; his clicks out of the ledger, and what is left of
 * them, without user and address, becomes a new run of it.  Order ad knows no users.
 *
 * It is a compaction to all others.  Ticks go on until all that was stored when it began
 * is done; then, with their lock, unread clicks are taken, and what came meanwhile is
 * done likewise: those are few runs.
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

#include "accumulate.h"
#include "archive.h"
#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "core/segment.h"
#include "disguise.h"
#include "forget.h"
#include "read/slices.h"
#include "seen/seen.h"
#include "store/store.h"
#include "tick.h"

/* A run is probed for some values if it has this many times as many segments; else it is read. */
#define SEGMENTS_FOR_PROBES 4

/* Numbers, as facts_to_int64 has them of a column. */
typedef struct Numbers
{
	MemoryContext context;
	int			n;
	int			room;
	int64	   *values;
} Numbers;

typedef struct Forgetting
{
	MemoryContext context;
	MemoryContext of_run;		/* reset after each */
	uint64		user;			/* as it stands in a column */
	FactOrder	order;			/* of the run that is read */
	StoreState	state;
	int64		clicks;			/* of the ledger, so far */

	/* of the runs there are, those that have been done: by order, ascending */
	Numbers		done[ORDERS];

	/* what was found of him in the runs that had not */
	Numbers		minutes;
	bool		is_complete;	/* all of them are known: there are no gaps */
	bool		is_whole;		/* and the ledger has them all: none was dropped */
	int64		expected;		/* clicks of order user, of minutes whose clicks the ledger has, ... */
	int64		found;			/* ... and of the ledger */
	Numbers		all_minutes;	/* of all runs so far */
	Numbers		addresses;

	Facts		anonymous;		/* his clicks, to be written */
	Facts		unpacked;		/* those that have a row elsewhere, which names their run */
	Disguise   *disguise;		/* of their keys */
} Forgetting;

static void
add_number(Numbers *numbers, int64 value)
{
	if (numbers->n > 0 && numbers->values[numbers->n - 1] == value)
		return;
	if (numbers->room == 0)
	{
		numbers->room = 64;
		numbers->values = MemoryContextAlloc(numbers->context, sizeof(int64) * numbers->room);
	}
	else if (numbers->n == numbers->room)
	{
		numbers->room *= 2;
		numbers->values = repalloc_huge(numbers->values, sizeof(int64) * numbers->room);
	}
	numbers->values[numbers->n++] = value;
}

static void
sort_numbers(Numbers *numbers)
{
	numbers->n = sort_unique_int64(numbers->values, numbers->n);
}

static inline uint64
column_of(const Facts *facts, FactOrder order, FactRole role, size_t i)
{
	return facts->key[order_column(order, role)][i];
}

static inline int64
user_id(const Forgetting *f)
{
	return facts_to_int64(f->user);
}

/* Whether a fact is one of his: 0 stands where there is no user. */
static bool
is_his(const Facts *facts, size_t i, void *arg)
{
	const Forgetting *f = arg;

	if (column_of(facts, f->order, ROLE_USER, i) != f->user)
		return false;
	switch (f->order)
	{
		case ORDER_IP:
			return column_of(facts, ORDER_IP, ROLE_HAS_USER, i) != 0;
		case ORDER_LEDGER:
			return (column_of(facts, ORDER_LEDGER, ROLE_FLAGS, i) & LEDGER_HAS_USER) != 0;
		default:
			return true;
	}
}

/*----------
 * Finding
 *----------
 */

/* The columns that is_his and note_found look at, and the first. */
static unsigned
columns_to_find(FactOrder order)
{
	static const FactRole roles[] = {ROLE_USER, ROLE_HAS_USER, ROLE_FLAGS, ROLE_IP_HIGH, ROLE_MINUTE, ROLE_CLICKED_AT};
	unsigned	columns = 1;

	for (int i = 0; i < lengthof(roles); i++)
		if (order_column(order, roles[i]) != NO_COLUMN)
			columns |= 1U << order_column(order, roles[i]);
	return columns;
}

/* Whether both order user and the ledger have what there was in a minute. */
static bool
is_told(const Forgetting *f, int64 minute)
{
	return minute > f->state.dropped_until && minute > f->state.people_dropped_until;
}

static void
note_found(Forgetting *f, const Facts *facts, size_t i)
{
	if (f->order == ORDER_USER)
	{
		int64		minute = facts_to_int64(column_of(facts, ORDER_USER, ROLE_MINUTE, i));

		if (is_told(f, minute))
			f->expected += (int64) facts->count[i];
		if (minute <= f->state.dropped_until)
			f->is_whole = false;
		add_number(&f->minutes, minute);
	}
	if (f->order == ORDER_LEDGER)
	{
		if (is_told(f, minute_of(facts_to_int64(column_of(facts, ORDER_LEDGER, ROLE_CLICKED_AT, i)))))
			f->found += (int64) facts->count[i];
		if (column_of(facts, ORDER_LEDGER, ROLE_FLAGS, i) & (LEDGER_IPV4 | LEDGER_IPV6))
			add_number(&f->addresses, facts_to_int64(column_of(facts, ORDER_LEDGER, ROLE_IP_HIGH, i)));
	}
}

/* Read a run from one first column to another, and note under which of them he stands. */
static void
find_between(Forgetting *f, StoreScan *scan, const StoreRun *run, uint64 low, uint64 high, Facts *segment, Numbers *found)
{
	store_scan_run(scan, run, low, high);
	while (store_scan_next(scan, columns_to_find(run->order), segment))
		for (size_t i = 0; i < segment->n; i++)
			if (segment->key[0][i] >= low && segment->key[0][i] <= high && is_his(segment, i, f))
			{
				note_found(f, segment, i);
				add_number(found, facts_to_int64(segment->key[0][i]));
			}
}

/* The first columns of his facts in a run, ascending: some of "candidates", if there are any. */
static Numbers
find(Forgetting *f, const StoreRun *run, const Numbers *candidates)
{
	Numbers		found = {.context = f->of_run};
	StoreScan  *scan = store_scan_begin(store_table(run));
	Facts		segment;
	int			ncolumns = order_columns[run->order];

	f->order = run->order;
	facts_init(&segment, ncolumns, SEGMENT_MAX_FACTS, palloc(facts_memory(ncolumns, SEGMENT_MAX_FACTS)));
	if (candidates == NULL || candidates->n * SEGMENTS_FOR_PROBES > run->segments)
		find_between(f, scan, run, 0, PG_UINT64_MAX, &segment, &found);
	else
		for (int i = 0; i < candidates->n; i++)
		{
			uint64		value = facts_from_int64(candidates->values[i]);

			find_between(f, scan, run, value, value, &segment, &found);
		}
	store_scan_end(scan);
	return found;
}

/*----------
 * Clicks of nobody
 *----------
 */

/* A key of user and ad shows both; a click id is of no user. */
static void
disguise(Forgetting *f, Facts *facts, size_t i)
{
	uint64	   *high = &facts->key[order_column(ORDER_LEDGER, ROLE_KEY_HIGH)][i];
	uint64	   *low = &facts->key[order_column(ORDER_LEDGER, ROLE_KEY_LOW)][i];
	uint64	   *bucket = &facts->key[order_column(ORDER_LEDGER, ROLE_BUCKET)][i];
	BucketKey	key = {{*high, *low}, facts_to_int64(*bucket)};

	disguise_key(f->disguise, &key);
	*high = key.key.hi;
	*low = key.key.lo;
	*bucket = facts_from_int64(key.bucket);
}

/* A click that went out of the ledger comes back without user and address. */
static void
make_anonymous(Forgetting *f, const Facts *facts, size_t i)
{
	bool		is_unpacked = (column_of(facts, ORDER_LEDGER, ROLE_FLAGS, i) & LEDGER_UNPACKED) != 0;
	Facts	   *anonymous = is_unpacked ? &f->unpacked : &f->anonymous;
	size_t		at;

	if (anonymous->n == LEDGER_BATCH && !is_unpacked)
		(void) accumulate_ledger(anonymous, false);
	if (anonymous->n == anonymous->capacity)
		facts_enlarge(anonymous, Max(1024, 2 * anonymous->capacity), f->context);
	at = anonymous->n;
	facts_append(anonymous, facts, i, 1);
	anonymous->key[order_column(ORDER_LEDGER, ROLE_USER)][at] = facts_from_int64(0);
	anonymous->key[order_column(ORDER_LEDGER, ROLE_IP_HIGH)][at] = 0;
	anonymous->key[order_column(ORDER_LEDGER, ROLE_IP_LOW)][at] = 0;
	anonymous->key[order_column(ORDER_LEDGER, ROLE_FLAGS)][at] &= ~(uint64) (LEDGER_HAS_USER | LEDGER_IPV4 | LEDGER_IPV6);
	disguise(f, anonymous, at);
	f->clicks += (int64) facts->count[i];
}

/*----------
 * Taking out
 *----------
 */

static void
taken(const Facts *facts, size_t i, void *arg)
{
	Forgetting *f = arg;

	if (f->order == ORDER_LEDGER)
		make_anonymous(f, facts, i);
}

/* A run that is written anew. */
typedef struct Rest
{
	Forgetting *forgetting;
	StoreWriter *writer;
} Rest;

static void
write_rest(const Facts *facts, void *arg)
{
	const Rest *rest = arg;
	size_t		start = 0;

	for (size_t i = 0; i < facts->n; i++)
		if (is_his(facts, i, rest->forgetting))
		{
			taken(facts, i, rest->forgetting);
			store_writer_add(rest->writer, facts, start, i - start);
			start = i + 1;
		}
	store_writer_add(rest->writer, facts, start, facts->n - start);
}

static void
rewrite(Forgetting *f, const StoreRun *run)
{
	int64		run_id = store_new_run();
	Rest		rest = {f, store_writer_begin_instead(run, run_id)};

	slices_merge(run->order, run, 1, write_rest, &rest);
	store_writer_end(rest.writer);
	if (run->order == ORDER_LEDGER)
		store_move_unpacked(run, 1, run_id);
	store_delete_runs(run, 1);
}

/* Who repairs what is damaged has to know what it is of. */
static void
say_remedy(void *arg)
{
	const StoreRun *run = arg;

	if (geterrcode() != ERRCODE_DATA_CORRUPTED)
		return;
	if (run->order == ORDER_LEDGER)
		errhint("That is the ledger, and nobody is forgotten in part: restore a backup.");
	else
		errhint("Make the counts anew first: SELECT adclick.recompute('-infinity', 'infinity').");
}

/* Take what is his out of a run. */
static void
erase(Forgetting *f, StoreRun *run, const Numbers *candidates)
{
	ErrorContextCallback callback = {error_context_stack, say_remedy, run};
	MemoryContext outer = MemoryContextSwitchTo(f->of_run);
	Numbers		found;

	CHECK_FOR_INTERRUPTS();
	error_context_stack = &callback;
	store_check_run(run);
	found = find(f, run, candidates);
	if (found.n > 0 && !store_take_out(run, found.values, found.n, is_his, taken, f))
		rewrite(f, run);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(outer);
	MemoryContextReset(f->of_run);
}

/*----------
 * All of it
 *----------
 */

static bool
is_done(const Forgetting *f, const StoreRun *run)
{
	const Numbers *done = &f->done[run->order];

	return done->n > 0 && bsearch(&run->run_id, done->values, done->n, sizeof(int64), compare_int64) != NULL;
}

/* The runs of an order that have not been done. */
static StoreRun *
runs_to_do(const Forgetting *f, FactOrder order, int *count)
{
	int			nruns;
	StoreRun   *runs = store_get_any_runs(order, FIRST_MINUTE, LAST_MINUTE, &nruns);

	*count = 0;
	for (int i = 0; i < nruns; i++)
		if (!is_done(f, &runs[i]))
			runs[(*count)++] = runs[i];
	return runs;
}

static void
note_done(Forgetting *f, FactOrder order, const StoreRun *runs, int nruns)
{
	for (int i = 0; i < nruns; i++)
		add_number(&f->done[order], runs[i].run_id);
	sort_numbers(&f->done[order]);
}

/* Whether a run can have one of his minutes; of those that were dropped from order user, any may be. */
static bool
is_near(const Forgetting *f, const StoreRun *run)
{
	int			low = 0;
	int			high = f->minutes.n;

	if (run->first_minute <= f->state.people_dropped_until)
		return true;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (f->minutes.values[middle] < run->first_minute)
			low = middle + 1;
		else
			high = middle;
	}
	return low < f->minutes.n && f->minutes.values[low] <= run->last_minute;
}

/* In order user he is one value: that tells his minutes, but for those that are not in it. */
static void
erase_from_users(Forgetting *f)
{
	Numbers		himself = {.context = f->context};
	int			nruns;
	int			ngaps;
	StoreRun   *runs = runs_to_do(f, ORDER_USER, &nruns);
	int64	   *gaps = store_get_gaps(&ngaps);

	add_number(&himself, user_id(f));
	for (int i = 0; i < nruns; i++)
		erase(f, &runs[i], &himself);
	note_done(f, ORDER_USER, runs, nruns);
	for (int i = 0; i < ngaps; i++)
		add_number(&f->minutes, gaps[i]);
	f->is_complete = ngaps == 0 && f->is_whole && f->state.people_dropped_until == PG_INT64_MIN;
	sort_numbers(&f->minutes);
}

static bool
has_found_all(const Forgetting *f)
{
	return f->is_complete && f->found >= f->expected;
}

static void
erase_from_ledger(Forgetting *f)
{
	int			nruns;
	StoreRun   *runs = runs_to_do(f, ORDER_LEDGER, &nruns);

	for (int i = 0; i < nruns && !has_found_all(f); i++)
		if (is_near(f, &runs[i]))
			erase(f, &runs[i], NULL);
	note_done(f, ORDER_LEDGER, runs, nruns);
	if (f->found < f->expected)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the ledger of adclick has not all clicks of the user"),
				 errdetail("It has %lld of the %lld that were counted by user.", (long long) f->found, (long long) f->expected),
				 errhint("His other addresses would stay: reconcile, or restore a backup.")));
	(void) accumulate_ledger(&f->anonymous, false);
	store_forget_unpacked(user_id(f), accumulate_ledger(&f->unpacked, false));
}

/* What retention has dropped from the ledger tells no addresses any more: they are looked for. */
static void
erase_from_addresses(Forgetting *f)
{
	int			nruns;
	StoreRun   *runs = runs_to_do(f, ORDER_IP, &nruns);

	sort_numbers(&f->addresses);
	for (int i = 0; i < nruns && (f->addresses.n > 0 || !f->is_whole); i++)
		if (is_near(f, &runs[i]))
			erase(f, &runs[i], f->is_whole ? &f->addresses : NULL);
	note_done(f, ORDER_IP, runs, nruns);
}

/* Go through all runs that the active snapshot sees and that have not been done. */
static void
erase_from_runs(Forgetting *f)
{
	f->minutes.n = f->addresses.n = 0;
	f->expected = f->found = 0;
	/* what neither order user nor the ledger tells any more can stand under any address */
	f->is_whole = f->state.dropped_until == PG_INT64_MIN || f->state.people_dropped_until == PG_INT64_MIN;
	erase_from_users(f);
	erase_from_ledger(f);
	erase_from_addresses(f);
	for (int i = 0; i < f->minutes.n; i++)
		add_number(&f->all_minutes, f->minutes.values[i]);
}

/* What was committed before goes, also if no tick has taken it. */
static void
take_unread(void)
{
	TickResult	result;

	store_lock(STORE_LOCK_TICK);
	CommandCounterIncrement();
	do
	{
		CHECK_FOR_INTERRUPTS();
		tick_run(&result);
		CommandCounterIncrement();
	} while (result.more);
}

/*
 * Where clicks are limited, those that wait are told to be in excess by his clicks before them. So
 * ticks have to wait until all is done.
 */
static void
take_before_erasing(Forgetting *f)
{
	PopActiveSnapshot();
	take_unread();
	store_push_snapshot();
	store_get_state(&f->state);
}

/*
 * The table of a volume that was dropped has his clicks until it is emptied: now, also if
 * an older snapshot would want it, but not if somebody reads it.
 */
static void
empty_dropped_volumes(void)
{
	store_push_snapshot();
	(void) store_empty_volumes(DT_NOEND);
	PopActiveSnapshot();
	CommandCounterIncrement();
	store_push_snapshot();
	if (store_dropped_since() != DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("clicks of the user may be in a dropped volume that is in use"),
				 errdetail("Another transaction, perhaps of pg_dump, has a lock on its table, or a query of this session reads it."),
				 errhint("Forget him when that has ended.")));
	PopActiveSnapshot();
}

/* It counts as a tick, so that others can tell which snapshots are from before it. */
static void
put_state(Forgetting *f)
{
	int64		expected = f->state.tick;

	f->state.tick = seen_begin_tick(&f->state);
	store_set_state(&f->state, expected);
	disguise_keep(f->disguise);
}

/* What came back from files goes first: it comes back without him, if it is wanted. */
static void
release_restored(void)
{
	int64		clicks = restored_release();

	if (clicks > 0)
		ereport(NOTICE,
				(errmsg("restored clicks have been released: %lld", (long long) clicks),
				 errhint("adclick.restore_clicks() brings them back without the user.")));
}

/* Files that he may stand in, all over the archive; those of volumes that are there are out of date now. */
static void
say_files(Forgetting *f)
{
	char	   *files;

	sort_numbers(&f->all_minutes);
	store_push_newest();
	files = store_get_files(f->all_minutes.values, f->all_minutes.n);
	store_note_forgotten(user_id(f));
	PopActiveSnapshot();
	if (files)
		ereport(WARNING,
				(errmsg("files of the archive may name the user: %s", files),
				 errdetail("Those of volumes that were not dropped are written anew by adclick.archive_clicks(). From the others he does not come back by adclick.restore_clicks(), but they name him."),
				 errhint("Delete files that must not name him, and copies of those that are written anew.")));
}

static void
begin(Forgetting *f, int64 user_id)
{
	f->context = AllocSetContextCreate(CurrentMemoryContext, "adclick forget", ALLOCSET_DEFAULT_SIZES);
	f->of_run = AllocSetContextCreate(f->context, "adclick forget run", ALLOCSET_DEFAULT_SIZES);
	f->user = facts_from_int64(user_id);
	f->minutes.context = f->all_minutes.context = f->addresses.context = f->context;
	for (FactOrder order = 0; order < ORDERS; order++)
		f->done[order].context = f->context;
	f->anonymous.ncolumns = f->unpacked.ncolumns = order_columns[ORDER_LEDGER];
	f->disguise = disguise_begin(&f->state, f->context);
}

int64
forget_user(int64 user_id)
{
	Forgetting	f = {0};
	MemoryContext outer = CurrentMemoryContext;
	int64		clicks;

	begin(&f, user_id);
	MemoryContextSwitchTo(f.context);
	release_restored();
	store_lock(STORE_LOCK_COMPACTION);
	CommandCounterIncrement();
	store_push_snapshot();
	store_claim_compaction();
	store_get_state(&f.state);
	if (clicks_are_limited(&f.state.rules))
		take_before_erasing(&f);
	erase_from_runs(&f);
	/* what follows tells copies by it */
	disguise_keep(f.disguise);
	PopActiveSnapshot();

	take_unread();
	empty_dropped_volumes();
	store_push_snapshot();
	store_get_state(&f.state);
	store_claim_tick(&f.state);
	erase_from_runs(&f);
	clicks = f.clicks + store_forget_set_aside(user_id);
	put_state(&f);
	say_files(&f);
	PopActiveSnapshot();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(f.context);
	return clicks;
}
