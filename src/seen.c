/*-------------------------------------------------------------------------
 *
 * seen.c
 *	  Dedup in shared memory: judging, loading from the log, deciding late clicks.
 *
 * A tick numbers the keys it adds.  All numbers above that of the last committed
 * tick are of ticks that were rolled back, however many there were: the next one
 * forgets their keys.  A query takes a key for seen only if its snapshot sees the
 * tick of that number.
 *
 * A transaction that loads keys may have ticked itself, or decided late clicks,
 * and be rolled back.  So keys are loaded as others see them; those of its own
 * ticks come on top, and bear the number of the last one.  If that one is rolled
 * back alone, to a savepoint, all are loaded again.
 *
 * Whether a late click is new is decided by counting: the log holds every copy
 * of a key that was taken, the queue those not decided yet.  If the log has
 * more, one was decided before, and so counted; if not, none was.  A key that
 * waits in the queue while its bucket is in memory has the mark KEY_QUEUED
 * there, and its further copies go to the queue too, so that this stays true.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "adclick.h"
#include "seen.h"
#include "shmem.h"

/* Clicks judged while the lock is held. */
#define LOCKED_CLICKS 1024

/* How far ahead keys are fetched into the cache. */
#define PREFETCH_DISTANCE 12

/* Buckets before that of the newest click that are loaded after a restart. */
#define BUCKETS_LOADED 2

/* Instead of a tick's number: waits in the queue of late clicks. */
#define KEY_QUEUED (PG_UINT64_MAX - 1)

/* Of the transaction: it has run a tick, and it has loaded keys after that. */
static bool ticked = false;
static bool loaded_after_tick = false;

/* Handles of the last buckets used; they are valid until a bucket is dropped. */
#define HANDLES 8

typedef struct Handles
{
	uint64		dropped;
	int64		bucket[HANDLES];
	DedupBucket handle[HANDLES];
} Handles;

static void
handles_reset(Handles *handles)
{
	handles->dropped = dedup_dropped(shmem_dedup);
	for (int i = 0; i < HANDLES; i++)
		handles->handle[i] = DEDUP_NO_BUCKET;
}

/*
 * The bucket's handle, or DEDUP_NO_BUCKET if memory has not all of its keys.
 * "make": begin one that has none yet.
 */
static DedupBucket
handle_of(Handles *handles, int64 bucket, bool make)
{
	int			i = (uint64) bucket % HANDLES;

	if (handles->dropped != dedup_dropped(shmem_dedup))
		handles_reset(handles);
	if (handles->handle[i] != DEDUP_NO_BUCKET && handles->bucket[i] == bucket)
		return handles->handle[i];

	handles->bucket[i] = bucket;
	handles->handle[i] = dedup_find(shmem_dedup, MyDatabaseId, bucket);
	if (make && (handles->handle[i] != DEDUP_NO_BUCKET ||
				 bucket > dedup_floor(shmem_dedup, MyDatabaseId)))
		handles->handle[i] = dedup_open(shmem_dedup, MyDatabaseId, bucket);
	if (handles->dropped != dedup_dropped(shmem_dedup))
	{
		DedupBucket opened = handles->handle[i];

		handles_reset(handles);
		handles->handle[i] = opened;
	}
	return handles->handle[i];
}

static SeenVerdict
add_one(Handles *handles, const SeenClick *click, int64 tick)
{
	DedupBucket handle = handle_of(handles, click->key.bucket, true);
	uint64		seen_by;

	if (handle == DEDUP_NO_BUCKET)
		return SEEN_LATE;
	switch (dedup_add(shmem_dedup, handle, click->key.key, tick, &seen_by))
	{
		case DEDUP_NEW:
			return SEEN_NEW;
		case DEDUP_SEEN:
			return seen_by == KEY_QUEUED ? SEEN_LATE : SEEN_DUPLICATE;
		case DEDUP_DROPPED:
			break;
	}
	return SEEN_LATE;
}

void
seen_add(SeenClick *clicks, size_t n, int64 tick)
{
	Handles		handles;

	for (size_t start = 0; start < n; start += LOCKED_CLICKS)
	{
		size_t		end = Min(start + LOCKED_CLICKS, n);

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		handles_reset(&handles);
		for (size_t i = start; i < end; i++)
		{
			if (i + PREFETCH_DISTANCE < end)
			{
				SeenClick  *ahead = &clicks[i + PREFETCH_DISTANCE];
				DedupBucket handle = handle_of(&handles, ahead->key.bucket, false);

				if (handle != DEDUP_NO_BUCKET)
					dedup_prefetch(shmem_dedup, handle, ahead->key.key);
			}
			clicks[i].verdict = add_one(&handles, &clicks[i], tick);
		}
		LWLockRelease(shmem->dedup_lock);
	}
}

void
seen_judge(SeenClick *clicks, size_t n, int64 tick)
{
	Handles		handles;

	for (size_t start = 0; start < n; start += LOCKED_CLICKS)
	{
		size_t		end = Min(start + LOCKED_CLICKS, n);

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_SHARED);
		handles_reset(&handles);
		for (size_t i = start; i < end; i++)
		{
			DedupBucket handle = handle_of(&handles, clicks[i].key.bucket, false);
			uint64		seen_by;

			if (handle == DEDUP_NO_BUCKET)
				clicks[i].verdict = clicks[i].key.bucket > dedup_floor(shmem_dedup, MyDatabaseId) ?
					SEEN_NEW : SEEN_LATE;
			else if (!dedup_lookup(shmem_dedup, handle, clicks[i].key.key, &seen_by))
				clicks[i].verdict = SEEN_NEW;
			else if (seen_by == KEY_QUEUED)
				clicks[i].verdict = SEEN_LATE;
			else
				clicks[i].verdict = seen_by <= (uint64) tick ? SEEN_DUPLICATE : SEEN_NEW;
		}
		LWLockRelease(shmem->dedup_lock);
	}
}

/* Copies of a key: in the queue, and in the part of the log that was taken. */
typedef struct KeyCopies
{
	BucketKey	key;
	uint32		queued;
	uint32		logged;
	bool		decided;
	char		status;
} KeyCopies;

#define SH_PREFIX key_copies
#define SH_ELEMENT_TYPE KeyCopies
#define SH_KEY_TYPE BucketKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) bucket_key_hash(&(k))
#define SH_EQUAL(tb, a, b) bucket_key_equal(&(a), &(b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static BucketKey
key_of(const Click *click)
{
	return (BucketKey) {click->key, click->bucket};
}

typedef struct LogPass
{
	const StoreState *state;
	int64		from;			/* buckets wanted */
	int64		to;
	void		(*row) (const Click *click, void *arg);
	void	   *arg;
} LogPass;

/* Call back for every valid click of the wanted buckets that was taken. */
static void
each_taken(const LogPass *pass)
{
	int			nextents;
	StoreExtent *extents = store_get_extents(pass->from, pass->to, &nextents);

	for (int i = 0; i < nextents; i++)
	{
		StoreExtent *e = &extents[i];
		LogReader  *reader = log_begin_taken(&pass->state->progress, GetActiveSnapshot(),
											 e->partition, e->filenode, e->first, e->last);
		TupleTableSlot *slot;

		while ((slot = log_next(reader)) != NULL)
		{
			Click		click;

			if (click_read(slot, &click) == CLICK_VALID && click.has_key &&
				click.bucket >= pass->from && click.bucket <= pass->to)
				pass->row(&click, pass->arg);
		}
		log_end(reader);
	}
	pfree(extents);
}

static void
count_queued(TupleTableSlot *slot, void *arg)
{
	key_copies_hash *copies = arg;
	Click		click;

	if (click_read(slot, &click) == CLICK_VALID && click.has_key)
	{
		bool		found;
		KeyCopies  *entry = key_copies_insert(copies, key_of(&click), &found);

		if (!found)
		{
			entry->queued = 0;
			entry->logged = 0;
			entry->decided = false;
		}
		entry->queued++;
	}
}

static key_copies_hash *
read_queue(int64 from, int64 to)
{
	key_copies_hash *copies = key_copies_create(CurrentMemoryContext, 1024, NULL);

	store_each_queued(from, to, count_queued, copies);
	return copies;
}

static void
count_logged(const Click *click, void *arg)
{
	KeyCopies  *entry = key_copies_lookup((key_copies_hash *) arg, key_of(click));

	if (entry)
		entry->logged++;
}

/* Keys on their way from the log into memory. */
typedef struct Load
{
	key_copies_hash *queued;
	int64		from;			/* first bucket wanted */
	int64		tick;
	int64		highest;		/* bucket that has a key */
	size_t		n;
	SeenClick	clicks[LOCKED_CLICKS];
} Load;

static void
load_flush(Load *load)
{
	seen_add(load->clicks, load->n, load->tick);
	load->n = 0;
}

static void
load_click(const Click *click, void *arg)
{
	Load	   *load = arg;
	KeyCopies  *entry = key_copies_lookup(load->queued, key_of(click));

	load->highest = Max(load->highest, click->bucket);
	if (entry)
	{
		entry->logged++;
		return;
	}
	if (load->n == LOCKED_CLICKS)
		load_flush(load);
	load->clicks[load->n++] = (SeenClick) {key_of(click)};
}

/* Keys that wait in the queue: seen if one of their copies was decided before. */
static void
load_queued(Load *load)
{
	key_copies_iterator iterator;
	KeyCopies  *entry;

	key_copies_start_iterate(load->queued, &iterator);
	while ((entry = key_copies_iterate(load->queued, &iterator)) != NULL)
	{
		SeenClick	click = {entry->key};

		seen_add(&click, 1, entry->logged > entry->queued ? load->tick : KEY_QUEUED);
	}
}

/* Load the keys that the active snapshot, which the state was read with, sees. */
static void
load_seen(Load *load, const StoreState *state)
{
	load->tick = state->tick;
	load->queued = read_queue(load->from, PG_INT64_MAX);
	each_taken(&(LogPass) {state, load->from, PG_INT64_MAX, load_click, load});
	load_flush(load);
	load_queued(load);
}

/* Load the keys that the active snapshot sees but for what this transaction has done. */
static void
load_seen_by_others(Load *load)
{
	StoreState	state;

	PushCopiedSnapshot(GetActiveSnapshot());
	GetActiveSnapshot()->curcid = FirstCommandId;
	store_get_state(&state);
	load_seen(load, &state);
	PopActiveSnapshot();
}

/*
 * Load the buckets a fresh click can fall into.  Of older ones nothing is
 * known: the floor says so.  It is no higher than the last bucket with a key,
 * as those above it are complete without one.
 */
static void
load_keys(const StoreState *state)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick load",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Load	   *load = palloc0(sizeof(Load));

	load->from = click_bucket(state->newest_received) - BUCKETS_LOADED;
	load->highest = load->from - 1;
	load_seen_by_others(load);
	if (ticked)
		load_seen(load, state);

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	dedup_raise_floor(shmem_dedup, MyDatabaseId, load->highest);
	LWLockRelease(shmem->dedup_lock);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		ticked = loaded_after_tick = false;
}

/* Keys of a tick that stays may have been loaded with the number of one that does not. */
static void
at_subabort(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && loaded_after_tick)
	{
		DatabaseSlot *slot = shmem_my_slot();

		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		slot->loaded = false;
		LWLockRelease(shmem->dedup_lock);
		loaded_after_tick = false;
	}
}

void
seen_install(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subabort, NULL);
}

/* Whether the keys in memory are of this extension and these settings. */
static bool
is_ready(const DatabaseSlot *slot)
{
	Oid			extension = get_extension_oid("adclick", false);
	bool		ready;

	LWLockAcquire(shmem->dedup_lock, LW_SHARED);
	ready = slot->loaded && slot->extension == extension &&
		slot->window == adclick_dedup_window && slot->policy == adclick_dedup_by &&
		dedup_has_space(shmem_dedup, MyDatabaseId);
	LWLockRelease(shmem->dedup_lock);
	return ready;
}

void
seen_prepare_tick(const StoreState *state)
{
	DatabaseSlot *slot = shmem_my_slot();
	Oid			extension = get_extension_oid("adclick", false);

	if (is_ready(slot))
		return;

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	dedup_drop_space(shmem_dedup, MyDatabaseId);
	dedup_add_space(shmem_dedup, MyDatabaseId);
	slot->loaded = false;
	slot->extension = extension;
	slot->window = adclick_dedup_window;
	slot->policy = adclick_dedup_by;
	slot->attempt = state->tick;
	LWLockRelease(shmem->dedup_lock);

	if (state->newest_received != DT_NOBEGIN)
		load_keys(state);
	loaded_after_tick = ticked;

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	slot->loaded = true;
	LWLockRelease(shmem->dedup_lock);
}

void
seen_prepare_query(void)
{
	StoreState	state;
	Snapshot	newest;

	if (is_ready(shmem_my_slot()))
		return;
	store_lock(STORE_LOCK_TICK);
	/* as GetLatestSnapshot, which parallel mode refuses */
	newest = RegisterSnapshot(GetNonHistoricCatalogSnapshot(InvalidOid));
	PushActiveSnapshot(newest);
	store_get_state(&state);
	seen_prepare_tick(&state);
	PopActiveSnapshot();
	UnregisterSnapshot(newest);
	store_unlock(STORE_LOCK_TICK);
}

/*
 * Forget the keys of all ticks after this one: they were rolled back.  The lock is
 * given away between the steps, as all who ask need it; who ticks holds that of ticks.
 */
static void
forget_ticks_after(int64 tick)
{
	DatabaseSlot *slot = shmem_my_slot();
	DedupPlace	at = {0};
	bool		more;

	do
	{
		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		more = slot->attempt > (uint64) tick &&
			dedup_forget_ticks(shmem_dedup, MyDatabaseId, tick + 1, slot->attempt, &at);
		LWLockRelease(shmem->dedup_lock);
	} while (more);
}

int64
seen_begin_tick(const StoreState *state)
{
	DatabaseSlot *slot = shmem_my_slot();
	int64		tick;

	forget_ticks_after(state->tick);
	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	tick = Max((int64) slot->attempt, state->tick) + 1;
	slot->attempt = tick;
	LWLockRelease(shmem->dedup_lock);
	ticked = true;
	return tick;
}

typedef struct LatePass
{
	key_copies_hash *copies;
	seen_decide decide;
	void	   *arg;
} LatePass;

static void
decide_queued(TupleTableSlot *slot, void *arg)
{
	LatePass   *pass = arg;
	Click		click;
	bool		duplicate = false;

	if (click_read(slot, &click) == CLICK_VALID && click.has_key)
	{
		KeyCopies  *entry = key_copies_lookup(pass->copies, key_of(&click));

		/* without an entry the settings have changed: it is in no other place */
		duplicate = entry && (entry->decided || entry->logged > entry->queued);
		if (entry)
			entry->decided = true;
	}
	pass->decide(slot, &click, duplicate, pass->arg);
}

void
seen_each_late(const StoreState *state, int64 bucket, seen_decide decide, void *arg)
{
	LatePass	pass = {read_queue(bucket, bucket), decide, arg};

	each_taken(&(LogPass) {state, bucket, bucket, count_logged, pass.copies});
	store_each_queued(bucket, bucket, decide_queued, &pass);
	key_copies_destroy(pass.copies);
}
