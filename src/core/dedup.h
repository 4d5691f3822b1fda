/*-------------------------------------------------------------------------
 *
 * dedup.h
 *	  The set of click keys already seen, a hash table per dedup bucket.
 *
 * A key is 128 bits and stored whole: two different clicks are never taken for
 * one.  With each key stands the number of the tick that counted it, so that a
 * query can decide for its own snapshot whether the key was counted before.
 *
 * Buckets belong to a space (a database).  All tables of all spaces live in
 * one region of fixed size (shared memory in the server, malloc in unit
 * tests), cut into chunks; a table grows chunk by chunk (extendible hashing,
 * Fagin et al. 1979, doi 10.1145/320083.320092), and when no chunk is free the
 * least recently used bucket of all spaces is dropped whole.  The region may
 * be mapped at different addresses: it holds no pointers.
 *
 * Pure memory: no server headers, no locks; the caller serialises writers
 * against everybody, readers may run side by side.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_DEDUP_H
#define ADCLICK_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct DedupKey
{
	uint64_t	hi;
	uint64_t	lo;
} DedupKey;

typedef struct DedupSet DedupSet;

/* Handle of a bucket in memory; valid until the next dedup_open or dedup_add. */
typedef int32_t DedupBucket;
#define DEDUP_NO_BUCKET (-1)

typedef enum DedupResult
{
	DEDUP_NEW,					/* the key was not there and is now */
	DEDUP_SEEN,					/* the key was there already */
	DEDUP_DROPPED				/* no room: this very bucket was dropped */
} DedupResult;

/* The smallest region dedup_init takes, in bytes. */
#define DEDUP_MIN_BYTES (1024 * 1024)

/* The most buckets of all spaces together; beyond it the oldest are dropped. */
#define DEDUP_MAX_BUCKETS 1024

/* The most spaces; beyond it the least recently used one is dropped. */
#define DEDUP_MAX_SPACES 64

/*
 * Make the region (8-aligned) an empty set that uses no more than "bytes", or
 * return NULL if that is less than DEDUP_MIN_BYTES.  The seed should be random:
 * clients choose the keys, and must not know where they will lie.
 */
extern DedupSet *dedup_init(void *region, size_t bytes, uint64_t seed);

/*
 * Register a space, empty and with floor INT64_MIN, unless it is registered
 * already.  May drop the least recently used other space, with its floor, so
 * look with dedup_has_space before relying on one registered earlier.
 */
extern void dedup_add_space(DedupSet *set, uint32_t space);
extern bool dedup_has_space(const DedupSet *set, uint32_t space);

/* The bucket's handle, or DEDUP_NO_BUCKET when it is not in memory. */
extern DedupBucket dedup_find(const DedupSet *set, uint32_t space, int64_t bucket);

/*
 * The bucket's handle, making an empty one if it is not in memory (dropping
 * the least recently used one if there is no room).  Marks it as just used.
 * DEDUP_NO_BUCKET when the space is not registered.
 */
extern DedupBucket dedup_open(DedupSet *set, uint32_t space, int64_t bucket);

/* Bring the key's place into the cache: call some keys ahead of dedup_add. */
extern void dedup_prefetch(const DedupSet *set, DedupBucket bucket, DedupKey key);

/*
 * Add a key on behalf of a tick (1 .. UINT64_MAX - 1).  On DEDUP_SEEN *seen_by is set to
 * the tick that added it first.  Other buckets may be dropped to make room;
 * their handles are then invalid, so find a handle again after any DEDUP_NEW.
 * (dedup_dropped() tells whether that happened.)
 */
extern DedupResult dedup_add(DedupSet *set, DedupBucket bucket, DedupKey key,
							 uint64_t tick, uint64_t *seen_by);

/* Whether the key is there; *seen_by as in dedup_add. Changes nothing. */
extern bool dedup_lookup(const DedupSet *set, DedupBucket bucket, DedupKey key,
						 uint64_t *seen_by);

/*
 * The floor of a space: every bucket at or below it that is not in memory may
 * have been there before (it was dropped, or never loaded after a restart), so
 * nothing can be said of its keys.  A bucket above it that is not in memory has
 * never had a key.  Starts at INT64_MIN, rises with each bucket dropped.  Of a
 * space that is not registered nothing is known: its floor is INT64_MAX, and
 * raising it does nothing.
 */
extern int64_t dedup_floor(const DedupSet *set, uint32_t space);
extern void dedup_raise_floor(DedupSet *set, uint32_t space, int64_t floor);

/* How often buckets were dropped for want of room, all spaces. */
extern uint64_t dedup_dropped(const DedupSet *set);

/* How far forgetting has come; all zeros: not begun. */
typedef struct DedupPlace
{
	DedupBucket bucket;
	uint32_t	entry;			/* of its directory */
} DedupPlace;

/*
 * Forget the keys that ticks first .. last added (they were rolled back):
 * afterwards they count as not seen, and can be added anew.  That goes through all
 * keys of the space, so it is done in steps of some megabytes: call it until it
 * returns false.  Meanwhile nobody may add keys to the space.
 */
extern bool dedup_forget_ticks(DedupSet *set, uint32_t space, uint64_t first, uint64_t last,
							   DedupPlace *at);

/* Drop all buckets of a space, its floor and its registration. */
extern void dedup_drop_space(DedupSet *set, uint32_t space);

/* Figures for the status view. */
extern size_t dedup_bytes_used(const DedupSet *set, uint32_t space);
extern uint64_t dedup_keys(const DedupSet *set, uint32_t space);

#endif							/* ADCLICK_DEDUP_H */
