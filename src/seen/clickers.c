/*-------------------------------------------------------------------------
 *
 * clickers.c
 *	  Upper bounds of the clicks of users and addresses in a minute: in shared memory.
 *
 * See clickers.h.  They are bounds in minutes of which nothing was stored when the first
 * tick added to them, and as long as each tick does.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/shmem.h"
#include "clickers.h"
#include "core/siphash.h"

/* Clicks gone through while the lock is held. */
#define LOCKED_CLICKS 1024

/* How far ahead their lines are fetched into the cache. */
#define PREFETCH_DISTANCE 12

#define GOLDEN UINT64CONST(0x9E3779B97F4A7C15)

/* The secret keeps clients from choosing who shares a line, and databases share the table. */
static inline uint64
hash_of(uint64 first, uint64 second, uint8 family, int64 minute)
{
	uint64		hash = siphash(shmem->clicker_seed, first, second) + family;

	hash = (hash ^ ((uint64) minute ^ (uint64) MyDatabaseId << 32) * GOLDEN) * GOLDEN;
	return (hash ^ hash >> 32) | 1;
}

void
clickers_of(Clickers *clickers, int64 minute, const int64 *user_id, const IpAddress *ip, const ClickRules *rules)
{
	clickers->minute = minute;
	clickers->hash[CLICKER_USER] = user_id && rules->user_limit > 0 ? hash_of((uint64) *user_id, 0, 0, minute) : 0;
	clickers->hash[CLICKER_ADDRESS] = ip->family != 0 && rules->ip_limit > 0 ?
		hash_of(ip->high, ip->low, ip->family, minute) : 0;
}

static bool
follows(const DatabaseSlot *slot, const ClickRules *rules)
{
	return slot->user_bounded == (rules->user_limit > 0) && slot->ip_bounded == (rules->ip_limit > 0);
}

void
clickers_follow(const StoreState *state)
{
	DatabaseSlot *slot = shmem_my_slot();
	bool		done;
	int64		last;

	LWLockAcquire(shmem->dedup_lock, LW_SHARED);
	done = follows(slot, &state->rules);
	LWLockRelease(shmem->dedup_lock);
	if (done)
		return;
	last = store_last_minute();
	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	slot->user_bounded = state->rules.user_limit > 0;
	slot->ip_bounded = state->rules.ip_limit > 0;
	slot->bounded_tick = state->tick;
	slot->bounded_from = last + 1;
	LWLockRelease(shmem->dedup_lock);
}

/* Of minutes before "from" nothing is known.  The caller holds the lock. */
static inline void
set_bounds(Clickers *clickers, size_t n, int64 from, uint32_t (*bound) (const Bounds *bounds, uint64_t hash, int64_t minute))
{
	for (size_t i = 0; i < n; i++)
		for (ClickerKind kind = 0; kind < CLICKER_KINDS; kind++)
		{
			Clickers   *click = &clickers[i];

			if (i + PREFETCH_DISTANCE < n)
				bounds_prefetch(&shmem_bounds, clickers[i + PREFETCH_DISTANCE].hash[kind]);
			click->bound[kind] = click->hash[kind] == 0 ? 0 : click->minute < from ? BOUND_UNKNOWN :
				bound(&shmem_bounds, click->hash[kind], click->minute);
		}
}

void
clickers_add(Clickers *clickers, size_t n)
{
	DatabaseSlot *slot = shmem_my_slot();

	for (size_t start = 0; start < n; start += LOCKED_CLICKS)
	{
		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		set_bounds(clickers + start, Min(n - start, LOCKED_CLICKS), slot->bounded_from, bounds_add);
		LWLockRelease(shmem->dedup_lock);
	}
}

/*
 * The first minute of which the bounds hold for a state.  For older ones than that which the first tick has left they
 * do not: what they see of a user may have been forgotten since.
 */
static int64
first_bounded(const DatabaseSlot *slot, const StoreState *state)
{
	return follows(slot, &state->rules) && slot->bounded_tick <= state->tick ? slot->bounded_from : PG_INT64_MAX;
}

void
clickers_ask(Clickers *clickers, size_t n, const StoreState *state)
{
	DatabaseSlot *slot = shmem_my_slot();

	for (size_t start = 0; start < n; start += LOCKED_CLICKS)
	{
		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_SHARED);
		set_bounds(clickers + start, Min(n - start, LOCKED_CLICKS), first_bounded(slot, state), bounds_get);
		LWLockRelease(shmem->dedup_lock);
	}
}
