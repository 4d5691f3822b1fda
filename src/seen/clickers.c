/*-------------------------------------------------------------------------
 *
 * clickers.c
 *	  How many counted clicks users and addresses have in a minute: in shared memory.
 *
 * See clickers.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/adclick.h"
#include "base/shmem.h"
#include "clickers.h"
#include "keyed.h"
#include "seen.h"

/* Clickers gone through while the lock is held. */
#define LOCKED_CLICKERS 1024

/* How far ahead their first keys are fetched into the cache. */
#define PREFETCH_DISTANCE 12

/* Keys handed on together. */
#define BATCH_KEYS 4096

static uint64
my_space(void)
{
	return shmem_clicker_space(MyDatabaseId);
}

/* The key of the n-th counted click, from 1 on. */
static inline DedupKey
nth_key(const BucketKey *hash, int32 n)
{
	return (DedupKey) {hash->key.hi, hash->key.lo + (uint64) n};
}

static inline bool
has_nth(DedupBucket bucket, const Clicker *clicker, int32 n, int64 tick)
{
	uint64		seen_by;

	return dedup_lookup(shmem_dedup, bucket, nth_key(&clicker->hash, n), &seen_by) && seen_by <= (uint64) tick;
}

/* How many there are up to the limit: most clickers have none. */
static int32
count_clicks(DedupBucket bucket, const Clicker *clicker, int32 limit, int64 tick)
{
	int64		has = 0;
	int64		lacks = 1;

	while (lacks <= limit && has_nth(bucket, clicker, (int32) lacks, tick))
	{
		has = lacks;
		lacks = has < limit ? Min(2 * has, limit) : limit + 1;
	}
	while (lacks - has > 1)
	{
		int64		middle = has + (lacks - has) / 2;

		if (has_nth(bucket, clicker, (int32) middle, tick))
			has = middle;
		else
			lacks = middle;
	}
	return (int32) has;
}

/* A minute's bucket; most clickers have that of the one before. */
typedef struct LastBucket
{
	int64		minute;
	DedupBucket bucket;
} LastBucket;

static inline DedupBucket
find_bucket(LastBucket *last, const Clicker *clicker)
{
	if (last->minute != clicker_minute(clicker))
		*last = (LastBucket) {
			clicker_minute(clicker), dedup_find(shmem_dedup, my_space(), clicker_minute(clicker))
		};
	return last->bucket;
}

static void
prefetch(LastBucket *last, const Clicker *clicker)
{
	DedupBucket bucket = find_bucket(last, clicker);

	if (bucket != DEDUP_NO_BUCKET)
		dedup_prefetch(shmem_dedup, bucket, nth_key(&clicker->hash, 1));
}

static void
recall(LastBucket *last, Clicker *clicker, const StoreState *state)
{
	DedupBucket bucket = find_bucket(last, clicker);

	if (bucket != DEDUP_NO_BUCKET)
		clicker->clicks = count_clicks(bucket, clicker, clicker_limit(clicker, &state->rules), state->tick);
	else if (clicker_minute(clicker) <= dedup_floor(shmem_dedup, my_space()))
		return;
	clicker->state = COUNT_KNOWN;
}

/* Whether memory, which may be loaded by other limits at any time, has what a state sees.  The caller holds the lock. */
static bool
is_complete(const DatabaseSlot *slot, const StoreState *state)
{
	return slot->counted && slot->user_limit == state->rules.user_limit && slot->ip_limit == state->rules.ip_limit &&
		slot->counted_tick <= state->tick && dedup_has_space(shmem_dedup, my_space());
}

static void
recall_some(Clicker *clickers, size_t n, const StoreState *state)
{
	LastBucket	last = {PG_INT64_MIN, DEDUP_NO_BUCKET};

	for (size_t i = 0; i < n; i++)
	{
		if (i + PREFETCH_DISTANCE < n)
			prefetch(&last, &clickers[i + PREFETCH_DISTANCE]);
		if (clickers[i].state == COUNT_UNKNOWN)
			recall(&last, &clickers[i], state);
	}
}

void
clickers_recall(Clicker *clickers, size_t n, const StoreState *state)
{
	DatabaseSlot *slot = shmem_my_slot();

	for (size_t start = 0; start < n; start += LOCKED_CLICKERS)
	{
		size_t		end = Min(start + LOCKED_CLICKERS, n);

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_SHARED);
		if (is_complete(slot, state))
			recall_some(clickers + start, end - start, state);
		LWLockRelease(shmem->dedup_lock);
	}
}

/* Keys on their way into memory. */
typedef struct Batch
{
	int64		tick;
	size_t		n;
	SeenClick	keys[BATCH_KEYS];
} Batch;

static void
flush(Batch *batch)
{
	seen_remember(my_space(), batch->keys, batch->n, batch->tick);
	batch->n = 0;
}

/* A clicker's clicks behind the first so many, up to so many. */
static void
add_clicks(Batch *batch, const BucketKey *hash, int32 from, int32 to)
{
	for (int32 n = from + 1; n <= to; n++)
	{
		if (batch->n == BATCH_KEYS)
			flush(batch);
		batch->keys[batch->n++] = (SeenClick) {{nth_key(hash, n), hash->bucket}};
	}
}

void
clickers_remember(const Clicker *clickers, size_t n, int64 tick)
{
	Batch	   *batch = palloc(sizeof(Batch));

	batch->n = 0;
	batch->tick = tick;
	for (size_t i = 0; i < n; i++)
		add_clicks(batch, &clickers[i].hash, clickers[i].clicks, clickers[i].clicks + clickers[i].added);
	flush(batch);
	pfree(batch);
}

static void
sum_up(const Clicker *clicker, uint64 clicks, void *arg)
{
	bool		found;
	Keyed	   *sum = keyed_insert(arg, clicker->hash, &found);

	sum->number = found ? sum->number + clicks : clicks;
}

/* Of an order, as it is stored in minutes from .. on. */
static void
load_order(FactOrder order, int32 limit, int64 from, int64 tick)
{
	keyed_hash *sums = keyed_create(CurrentMemoryContext, 1024, NULL);
	Batch	   *batch = palloc(sizeof(Batch));
	keyed_iterator iterator;
	Keyed	   *sum;

	batch->n = 0;
	batch->tick = tick;
	counts_each(order, from, sum_up, sums);
	keyed_start_iterate(sums, &iterator);
	while ((sum = keyed_iterate(sums, &iterator)) != NULL)
		add_clicks(batch, &sum->key, 0, (int32) Min(sum->number, (uint64) limit));
	flush(batch);
	pfree(batch);
	keyed_destroy(sums);
}

void
clickers_load(const ClickRules *rules, int64 from, int64 tick)
{
	if (rules->user_limit > 0)
		load_order(ORDER_USER, rules->user_limit, from, tick);
	if (rules->ip_limit > 0)
		load_order(ORDER_IP, rules->ip_limit, from, tick);
}

void
clickers_forget(void)
{
	DatabaseSlot *slot = shmem_my_slot();

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	slot->counted = false;
	LWLockRelease(shmem->dedup_lock);
}

void
clickers_loaded(int64 tick)
{
	DatabaseSlot *slot = shmem_my_slot();

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	slot->counted = true;
	slot->counted_tick = tick;
	LWLockRelease(shmem->dedup_lock);
}

void
clickers_begin(const ClickRules *rules, int64 floor)
{
	DatabaseSlot *slot = shmem_my_slot();

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	dedup_drop_space(shmem_dedup, my_space());
	if (clicks_are_limited(rules))
	{
		dedup_add_space(shmem_dedup, my_space());
		dedup_raise_floor(shmem_dedup, my_space(), floor);
	}
	slot->counted = false;
	slot->user_limit = rules->user_limit;
	slot->ip_limit = rules->ip_limit;
	LWLockRelease(shmem->dedup_lock);
}

void
clickers_raise_floor(int64 minute)
{
	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	dedup_raise_floor(shmem_dedup, my_space(), minute);
	LWLockRelease(shmem->dedup_lock);
}

/* A floor below gaps: there may be some that came since, and memory has what was counted before. */
bool
clickers_are_ready(const ClickRules *rules)
{
	DatabaseSlot *slot = shmem_my_slot();
	bool		ready;
	int64		floor;

	LWLockAcquire(shmem->dedup_lock, LW_SHARED);
	ready = slot->counted && slot->user_limit == rules->user_limit && slot->ip_limit == rules->ip_limit;
	floor = dedup_floor(shmem_dedup, my_space());
	ready &= !clicks_are_limited(rules) || dedup_has_space(shmem_dedup, my_space());
	LWLockRelease(shmem->dedup_lock);
	return ready && (!clicks_are_limited(rules) || store_last_gap() <= floor);
}
