/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Shared memory: request, set-up, slots.
 *
 * See shmem.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "adclick.h"
#include "compat.h"
#include "shmem.h"

/* A clock that goes another way than that which nobody sets by more than this has been set, ms. */
#define CLOCK_STEP 10000

Shmem	   *shmem = NULL;
DedupSet   *shmem_dedup = NULL;
Bounds		shmem_bounds;
static InboxMap *inbox_maps = NULL; /* one for each slot */

/* Of the postmaster, which outlives the crash of another process, as shared memory does not: that it was made, and when it was made anew. */
static bool was_made = false;
static int64 crashed_at[SHMEM_CRASHES];
static int	crashes = 0;

static shmem_startup_hook_type previous_startup_hook = NULL;
static shmem_request_hook_type previous_request_hook = NULL;

#define INBOX_MAPS_BYTES (sizeof(InboxMap) * SHMEM_MAX_DATABASES)

static Size
dedup_bytes(void)
{
	return (Size) adclick_dedup_memory * 1024 * 1024;
}

/* Without limits they are never touched. */
static Size
bounds_bytes(void)
{
	return dedup_bytes() / 16;
}

static void
shmem_ask(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(add_size(MAXALIGN(sizeof(Shmem)), dedup_bytes()));
	RequestAddinShmemSpace(add_size(bounds_bytes(), PG_CACHE_LINE_SIZE));
	RequestAddinShmemSpace(INBOX_MAPS_BYTES);
	RequestNamedLWLockTranche("adclick", 2);
}

/* Shared memory is made: in a server that starts, and after each crash. */
static void
note_crash(void)
{
	if (was_made)
		crashed_at[crashes++ % SHMEM_CRASHES] = steady_ms();
	was_made = true;
}

static void
shmem_start(void)
{
	bool		found;
	uint64		seed;
	uint64		clicker_seed[2];

	if (previous_startup_hook)
		previous_startup_hook();
	if (!pg_strong_random(&seed, sizeof(seed)) || !pg_strong_random(clicker_seed, sizeof(clicker_seed)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random seed")));

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shmem = ShmemInitStruct("adclick", sizeof(Shmem), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche("adclick");

		memset(shmem, 0, sizeof(Shmem));
		shmem->lock = &locks[0].lock;
		shmem->dedup_lock = &locks[1].lock;
		memcpy(shmem->clicker_seed, clicker_seed, sizeof(clicker_seed));
		note_crash();
		memcpy(shmem->crashed_at, crashed_at, sizeof(crashed_at));
	}
	shmem_dedup = ShmemInitStruct("adclick dedup", dedup_bytes(), &found);
	if (!found)
		dedup_init(shmem_dedup, dedup_bytes(), seed);
	shmem_bounds = bounds_of(ShmemInitStruct("adclick bounds", bounds_bytes(), &found), bounds_bytes());
	inbox_maps = ShmemInitStruct("adclick inbox maps", INBOX_MAPS_BYTES, &found);
	LWLockRelease(AddinShmemInitLock);
}

void
shmem_install(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_ask;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_start;
}

InboxMap *
shmem_inbox_map(const DatabaseSlot *slot)
{
	return &inbox_maps[slot - shmem->slots];
}

static void
init_inbox_map(InboxMap *map)
{
	pg_atomic_init_u32(&map->file, 0);
	for (int i = 0; i < SHMEM_INBOX_RANGES; i++)
		pg_atomic_init_u64(&map->words[i], 0);
}

static void
init_slot(DatabaseSlot *slot, Oid database)
{
	memset(slot, 0, sizeof(DatabaseSlot));
	init_inbox_map(shmem_inbox_map(slot));
	slot->database = database;
	slot->asked_at = steady_ms();
}

DatabaseSlot *
shmem_slot(Oid database, bool make)
{
	DatabaseSlot *unused = NULL;

	for (int i = 0; i < SHMEM_MAX_DATABASES; i++)
	{
		DatabaseSlot *slot = &shmem->slots[i];

		if (slot->database == database)
			return slot;
		if (slot->database == InvalidOid && unused == NULL)
			unused = slot;
	}
	if (!make || unused == NULL)
		return NULL;
	init_slot(unused, database);
	return unused;
}

void
shmem_forget(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot = shmem_slot(database, false);
	if (slot)
	{
		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		dedup_drop_space(shmem_dedup, database);
		LWLockRelease(shmem->dedup_lock);
		init_slot(slot, database);
	}
	LWLockRelease(shmem->lock);
}

void
shmem_clear_history(DatabaseSlot *slot)
{
	slot->last_error_at = 0;
	slot->last_error[0] = '\0';
	slot->errors = 0;
	for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
		slot->failed[kind] = 0;
	slot->left_out = 0;
	slot->last_tick_ms = slot->worst_tick_ms = 0;
	slot->undecided_at = 0;
}

void
shmem_want_workers(DatabaseSlot *slot)
{
	if (slot->interest != DATABASE_UNKNOWN)
		slot->asked_at = steady_ms();
	slot->interest = DATABASE_UNKNOWN;
	slot->wanted = true;
	slot->changes++;
}

DatabaseSlot *
shmem_my_slot(void)
{
	DatabaseSlot *slot;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot = shmem_slot(MyDatabaseId, true);
	if (slot && (slot->interest == DATABASE_UNKNOWN || slot->interest == DATABASE_HAS_NONE))
		shmem_want_workers(slot);
	LWLockRelease(shmem->lock);
	if (slot == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases use adclick"),
				 errdetail("At most %d databases of a server can have the extension.",
						   SHMEM_MAX_DATABASES)));
	return slot;
}

void
shmem_ask_again(DatabaseSlot *slot)
{
	slot->changes++;
	if (!shmem_rests(slot))
		return;
	slot->interest = DATABASE_UNKNOWN;
	slot->asked_at = steady_ms();
}

void
shmem_note_tick(int64 ms, int64 worst_ms, bool undecided)
{
	DatabaseSlot *slot = shmem_my_slot();

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->last_tick_ms = ms;
	slot->worst_tick_ms = Max(slot->worst_tick_ms, worst_ms);
	if (undecided)
		slot->undecided_at = steady_ms();
	LWLockRelease(shmem->lock);
}

void
shmem_note_round(void)
{
	DatabaseSlot *slot = shmem_my_slot();

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (shmem_rests(slot))
		slot->round_at[WORKER_AGGREGATOR] = steady_ms();
	LWLockRelease(shmem->lock);
}

int64
shmem_watch_clock(void)
{
	DatabaseSlot *slot = shmem_my_slot();
	int64		now = steady_ms();
	int64		offset = GetCurrentTimestamp() / 1000 - now;
	int64		since;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (slot->clock_set_at == 0 || offset > slot->clock_offset + CLOCK_STEP || offset < slot->clock_offset - CLOCK_STEP)
		slot->clock_set_at = now;
	slot->clock_offset = offset;
	since = slot->clock_set_at;
	LWLockRelease(shmem->lock);
	return now - since;
}

/* What nobody changes while shared memory is there needs no lock. */
int
shmem_crashes(int64 ms)
{
	int			n = 0;

	for (int i = 0; i < SHMEM_CRASHES; i++)
		n += shmem->crashed_at[i] != 0 && steady_ms() - shmem->crashed_at[i] < ms;
	return n;
}

void
shmem_wake_launcher(void)
{
	Latch	   *latch;

	LWLockAcquire(shmem->lock, LW_SHARED);
	latch = shmem->launcher_latch;
	if (latch)
		SetLatch(latch);
	LWLockRelease(shmem->lock);
}
