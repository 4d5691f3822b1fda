/*-------------------------------------------------------------------------
 *
 * dedup.c
 *	  The set of click keys already seen, a hash table per dedup bucket.
 *
 * The region is a DedupSet, a ChunkInfo for each chunk, and then the chunks of
 * 64 kB, named by their number.  A chunk is a leaf (a hash table of its own with
 * linear probing), a page of a bucket's directory, or free.
 *
 * A key's hash chooses its leaf by the low bits and its first slot in the leaf
 * by the high ones.  A bucket of depth d has a directory of 2^d leaf numbers,
 * in pages of 2^14; a bucket of depth 0 has one leaf and no directory.  A leaf
 * of depth l is shared by all 2^(d-l) entries whose low l bits are the same.
 * A full leaf is split in two by the next bit, and the directory doubles when
 * the leaf's depth was the directory's.
 *
 * Clients choose the keys.  The hash is SipHash with a secret seed, so that
 * they cannot choose which leaf fills up.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "dedup.h"
#include "siphash.h"

#include <string.h>

#define CHUNK_BYTES 65536
#define LEAF_SLOTS 2730
#define LEAF_FULL (LEAF_SLOTS * 85 / 100)

/* A page of the directory fills a chunk (smaller ones are for tests). */
#ifndef PAGE_DEPTH
#define PAGE_DEPTH 14
#endif
#define PAGE_ENTRIES (1 << PAGE_DEPTH)
#define MAX_PAGES 64
#define MAX_DEPTH (PAGE_DEPTH + 6)	/* 6 = log2(MAX_PAGES) */

#define NO_CHUNK UINT32_MAX

/* Leaves gone through in one step of forgetting: 4 MB (fewer are for tests). */
#ifndef FORGET_LEAVES
#define FORGET_LEAVES 64
#endif

/* Ticks that no caller uses: an empty slot, and a key that was forgotten. */
#define TICK_EMPTY 0
#define TICK_FORGOTTEN UINT64_MAX

/* Heads of the lists that find a bucket; a power of two. */
#define BUCKET_LISTS 2048

typedef struct Entry
{
	DedupKey	key;
	uint64_t	tick;
} Entry;

typedef union Chunk
{
	Entry		slot[LEAF_SLOTS];	/* of a leaf */
	uint32_t	leaf[PAGE_ENTRIES]; /* of a page of a directory */
	char		bytes[CHUNK_BYTES];
} Chunk;

/*
 * What there is to know of a chunk.  Not in the chunk itself: side by side they
 * stay in the processor's cache, and adding a key costs one access less.
 */
typedef struct ChunkInfo
{
	uint32_t	depth;			/* of a leaf */
	union
	{
		uint32_t	nused;		/* of a leaf: slots not empty */
		uint32_t	next_free;	/* of a free chunk */
	}			u;
} ChunkInfo;

typedef struct Bucket
{
	int64_t		number;
	uint32_t	space;
	DedupBucket next;			/* in the same list */
	uint64_t	nkeys;			/* forgotten ones not counted */
	uint32_t	nchunks;
	uint32_t	depth;
	uint32_t	root;			/* the leaf of a bucket of depth 0 */
	uint32_t	npages;
	uint32_t	page[MAX_PAGES];	/* the directory of a deeper one */
} Bucket;

typedef struct Space
{
	uint32_t	id;
	int64_t		floor;
	uint64_t	last_used;		/* 0: not in use */
} Space;

struct DedupSet
{
	uint64_t	seed[2];
	uint64_t	clock;			/* counts uses, for last_used */
	uint64_t	dropped;
	size_t		chunks_offset;	/* of the first chunk, in bytes */
	uint32_t	nchunks;
	uint32_t	nfresh;			/* chunks from this one on were never used */
	uint32_t	first_free;
	uint64_t	last_used[DEDUP_MAX_BUCKETS];	/* 0: not in use */
	Bucket		bucket[DEDUP_MAX_BUCKETS];
	DedupBucket list[BUCKET_LISTS];
	Space		space[DEDUP_MAX_SPACES];
	Chunk		scratch;		/* a leaf being split */
};

#define CACHE_LINE 64

static inline uint64_t
hash_words(const DedupSet *set, uint64_t first, uint64_t second)
{
	return siphash(set->seed, first, second);
}

/*
 * These two, and others below, take a set that they do not change and return a
 * place in it that the caller may change.
 */
static inline Chunk *
chunk_at(const DedupSet *set, uint32_t chunk)
{
	return (Chunk *) ((char *) set + set->chunks_offset) + chunk;
}

static inline ChunkInfo *
info_of(const DedupSet *set, uint32_t chunk)
{
	return (ChunkInfo *) (set + 1) + chunk;
}

DedupSet *
dedup_init(void *region, size_t bytes, uint64_t seed)
{
	DedupSet   *set = region;
	size_t		nchunks = (bytes - sizeof(*set) - CACHE_LINE) / (CHUNK_BYTES + sizeof(ChunkInfo));

	if (bytes < DEDUP_MIN_BYTES)
		return NULL;
	memset(set, 0, sizeof(*set));
	set->seed[0] = seed;
	set->seed[1] = ~rotate_left(seed, 29) * UINT64_C(0x9E3779B97F4A7C15);
	set->nchunks = nchunks < NO_CHUNK ? (uint32_t) nchunks : NO_CHUNK - 1;
	set->chunks_offset = (sizeof(*set) + set->nchunks * sizeof(ChunkInfo) + CACHE_LINE - 1) /
		CACHE_LINE * CACHE_LINE;
	set->first_free = NO_CHUNK;
	for (int i = 0; i < BUCKET_LISTS; i++)
		set->list[i] = DEDUP_NO_BUCKET;
	return set;
}

/*----------
 * Spaces
 *----------
 */

static Space *
find_space(const DedupSet *set, uint32_t space)
{
	for (int i = 0; i < DEDUP_MAX_SPACES; i++)
		if (set->space[i].last_used != 0 && set->space[i].id == space)
			return (Space *) &set->space[i];
	return NULL;
}

bool
dedup_has_space(const DedupSet *set, uint32_t space)
{
	return find_space(set, space) != NULL;
}

void
dedup_add_space(DedupSet *set, uint32_t space)
{
	Space	   *oldest = &set->space[0];

	if (dedup_has_space(set, space))
		return;
	for (int i = 1; i < DEDUP_MAX_SPACES; i++)
		if (set->space[i].last_used < oldest->last_used)
			oldest = &set->space[i];
	if (oldest->last_used != 0)
		dedup_drop_space(set, oldest->id);
	oldest->id = space;
	oldest->floor = INT64_MIN;
	oldest->last_used = ++set->clock;
}

int64_t
dedup_floor(const DedupSet *set, uint32_t space)
{
	const Space *known = find_space(set, space);

	return known == NULL ? INT64_MAX : known->floor;
}

void
dedup_raise_floor(DedupSet *set, uint32_t space, int64_t floor)
{
	Space	   *known = find_space(set, space);

	if (known != NULL && known->floor < floor)
		known->floor = floor;
}

/*----------
 * Leaves and their directory
 *----------
 */

/* Where the directory names the leaf of all hashes with these low bits. */
static inline uint32_t *
directory_entry(const DedupSet *set, const Bucket *bucket, uint32_t low_bits)
{
	if (bucket->depth == 0)
		return (uint32_t *) &bucket->root;
	return &chunk_at(set, bucket->page[low_bits >> PAGE_DEPTH])->leaf[low_bits % PAGE_ENTRIES];
}

static inline uint32_t
leaf_of(const DedupSet *set, const Bucket *bucket, uint64_t hash)
{
	uint32_t	low_bits = (uint32_t) hash & (((uint32_t) 1 << bucket->depth) - 1);

	return *directory_entry(set, bucket, low_bits);
}

/*
 * The leaf that the directory names first under these low bits, or NO_CHUNK if
 * it named the leaf under fewer bits already.
 */
static uint32_t
leaf_first_named(const DedupSet *set, const Bucket *bucket, uint32_t low_bits)
{
	uint32_t	leaf = *directory_entry(set, bucket, low_bits);

	return low_bits >> info_of(set, leaf)->depth == 0 ? leaf : NO_CHUNK;
}

static inline uint32_t
first_slot(uint64_t hash)
{
	return (uint32_t) (((hash >> 32) * LEAF_SLOTS) >> 32);
}

/* The key's slot in a leaf, or the empty one where it belongs. */
static inline Entry *
find_slot(const DedupSet *set, uint32_t leaf, DedupKey key, uint64_t hash)
{
	Entry	   *slots = chunk_at(set, leaf)->slot;
	uint32_t	i = first_slot(hash);

	for (;;)
	{
		Entry	   *entry = &slots[i];

		if (entry->tick == TICK_EMPTY ||
			(entry->key.lo == key.lo && entry->key.hi == key.hi))
			return entry;
		i = i + 1 < LEAF_SLOTS ? i + 1 : 0;
	}
}

static void
free_chunk(DedupSet *set, uint32_t chunk)
{
	info_of(set, chunk)->u.next_free = set->first_free;
	set->first_free = chunk;
}

/*----------
 * Buckets
 *----------
 */

static DedupBucket *
list_of(const DedupSet *set, uint32_t space, int64_t number)
{
	uint64_t	hash = hash_words(set, space, (uint64_t) number);

	return (DedupBucket *) &set->list[hash & (BUCKET_LISTS - 1)];
}

DedupBucket
dedup_find(const DedupSet *set, uint32_t space, int64_t bucket)
{
	DedupBucket b = *list_of(set, space, bucket);

	while (b != DEDUP_NO_BUCKET &&
		   (set->bucket[b].number != bucket || set->bucket[b].space != space))
		b = set->bucket[b].next;
	return b;
}

static void
unlink_bucket(DedupSet *set, DedupBucket b)
{
	const Bucket *bucket = &set->bucket[b];
	DedupBucket *link = list_of(set, bucket->space, bucket->number);

	while (*link != b)
		link = &set->bucket[*link].next;
	*link = bucket->next;
}

/* Give back a bucket and its chunks. */
static void
free_bucket(DedupSet *set, DedupBucket b)
{
	Bucket	   *bucket = &set->bucket[b];

	/* downwards: a leaf is freed where it is named for the last time */
	for (uint32_t i = (uint32_t) 1 << bucket->depth; i-- > 0;)
	{
		uint32_t	leaf = leaf_first_named(set, bucket, i);

		if (leaf != NO_CHUNK)
			free_chunk(set, leaf);
	}
	for (uint32_t p = 0; p < bucket->npages; p++)
		free_chunk(set, bucket->page[p]);
	unlink_bucket(set, b);
	set->last_used[b] = 0;
}

/* Drop a bucket for want of room: from now on nothing is known of its keys. */
static void
drop_bucket(DedupSet *set, DedupBucket b)
{
	dedup_raise_floor(set, set->bucket[b].space, set->bucket[b].number);
	free_bucket(set, b);
	set->dropped++;
}

/* The bucket in use, but for "except", that was not used for the longest time. */
static DedupBucket
oldest_bucket(const DedupSet *set, DedupBucket except)
{
	DedupBucket oldest = DEDUP_NO_BUCKET;

	for (DedupBucket b = 0; b < DEDUP_MAX_BUCKETS; b++)
		if (set->last_used[b] != 0 && b != except &&
			(oldest == DEDUP_NO_BUCKET || set->last_used[b] < set->last_used[oldest]))
			oldest = b;
	return oldest;
}

/*
 * Take a chunk for bucket b, if need be by dropping another bucket.  NO_CHUNK
 * when there is no other.
 */
static uint32_t
take_chunk(DedupSet *set, DedupBucket b)
{
	uint32_t	chunk;

	if (set->first_free == NO_CHUNK && set->nfresh == set->nchunks)
	{
		DedupBucket oldest = oldest_bucket(set, b);

		if (oldest == DEDUP_NO_BUCKET)
			return NO_CHUNK;
		drop_bucket(set, oldest);
	}
	if (set->first_free != NO_CHUNK)
	{
		chunk = set->first_free;
		set->first_free = info_of(set, chunk)->u.next_free;
	}
	else
		chunk = set->nfresh++;
	set->bucket[b].nchunks++;
	return chunk;
}

static void
empty_leaf(DedupSet *set, uint32_t leaf, uint32_t depth)
{
	memset(chunk_at(set, leaf), 0, CHUNK_BYTES);
	info_of(set, leaf)->depth = depth;
	info_of(set, leaf)->u.nused = 0;
}

/* Take a chunk as an empty leaf. */
static uint32_t
take_leaf(DedupSet *set, DedupBucket b, uint32_t depth)
{
	uint32_t	chunk = take_chunk(set, b);

	if (chunk != NO_CHUNK)
		empty_leaf(set, chunk, depth);
	return chunk;
}

/* A bucket's place in the set: an unused one, else the oldest one's. */
static DedupBucket
take_bucket(DedupSet *set)
{
	DedupBucket b;

	for (b = 0; b < DEDUP_MAX_BUCKETS; b++)
		if (set->last_used[b] == 0)
			return b;
	b = oldest_bucket(set, DEDUP_NO_BUCKET);
	drop_bucket(set, b);
	return b;
}

static DedupBucket
make_bucket(DedupSet *set, uint32_t space, int64_t number)
{
	DedupBucket b = take_bucket(set);
	Bucket	   *bucket = &set->bucket[b];
	DedupBucket *list = list_of(set, space, number);

	memset(bucket, 0, sizeof(*bucket));
	bucket->number = number;
	bucket->space = space;
	/* cannot fail: other buckets are dropped, and there is no room but theirs */
	bucket->root = take_leaf(set, b, 0);
	/* only now: a bucket dropped to make room may have been in the same list */
	bucket->next = *list;
	*list = b;
	return b;
}

DedupBucket
dedup_open(DedupSet *set, uint32_t space, int64_t bucket)
{
	Space	   *known = find_space(set, space);
	DedupBucket b = dedup_find(set, space, bucket);

	if (known == NULL)
		return DEDUP_NO_BUCKET;
	if (b == DEDUP_NO_BUCKET)
		b = make_bucket(set, space, bucket);
	set->last_used[b] = known->last_used = ++set->clock;
	return b;
}

/*----------
 * Growing
 *----------
 */

/*
 * Make the directory of a bucket twice as long.  False if there is no room; the
 * bucket then owns some pages too many, and is to be dropped.
 */
static bool
double_directory(DedupSet *set, DedupBucket b)
{
	Bucket	   *bucket = &set->bucket[b];
	uint32_t	n = (uint32_t) 1 << bucket->depth;

	if (bucket->depth == MAX_DEPTH)
		return false;
	while (bucket->npages * PAGE_ENTRIES < 2 * n)
	{
		uint32_t	page = take_chunk(set, b);

		if (page == NO_CHUNK)
			return false;
		bucket->page[bucket->npages++] = page;
	}
	bucket->depth++;
	if (n == 1)
		*directory_entry(set, bucket, 0) = bucket->root;
	for (uint32_t i = 0; i < n; i++)
		*directory_entry(set, bucket, n + i) = *directory_entry(set, bucket, i);
	return true;
}

/* Put the keys of the scratch leaf into these two, by the bit of their hash. */
static void
distribute_keys(DedupSet *set, uint32_t zero, uint32_t one, uint64_t bit)
{
	for (int i = 0; i < LEAF_SLOTS; i++)
	{
		const Entry *entry = &set->scratch.slot[i];
		uint64_t	hash;
		uint32_t	leaf;

		if (entry->tick == TICK_EMPTY || entry->tick == TICK_FORGOTTEN)
			continue;
		hash = hash_words(set, entry->key.hi, entry->key.lo);
		leaf = (hash & bit) != 0 ? one : zero;
		*find_slot(set, leaf, entry->key, hash) = *entry;
		info_of(set, leaf)->u.nused++;
	}
}

/*
 * Split the leaf of this hash in two.  False if there is no room; the bucket is
 * then to be dropped.
 */
static bool
split_leaf(DedupSet *set, DedupBucket b, uint64_t hash)
{
	Bucket	   *bucket = &set->bucket[b];
	uint32_t	leaf = leaf_of(set, bucket, hash);
	uint32_t	depth = info_of(set, leaf)->depth;
	uint32_t	bit = (uint32_t) 1 << depth;
	uint32_t	other;

	if (depth == bucket->depth && !double_directory(set, b))
		return false;
	other = take_leaf(set, b, depth + 1);
	if (other == NO_CHUNK)
		return false;
	set->scratch = *chunk_at(set, leaf);
	empty_leaf(set, leaf, depth + 1);
	distribute_keys(set, leaf, other, bit);
	for (uint32_t i = ((uint32_t) hash & (bit - 1)) | bit; i >> bucket->depth == 0; i += 2 * bit)
		*directory_entry(set, bucket, i) = other;
	return true;
}

/*----------
 * Keys
 *----------
 */

void
dedup_prefetch(const DedupSet *set, DedupBucket bucket, DedupKey key)
{
	uint64_t	hash = hash_words(set, key.hi, key.lo);
	uint32_t	leaf = leaf_of(set, &set->bucket[bucket], hash);
	const Entry *entry = &chunk_at(set, leaf)->slot[first_slot(hash)];

	/* for writing, and what probing reaches next too */
	__builtin_prefetch(entry, 1);
	__builtin_prefetch(entry + 2, 1);
}

DedupResult
dedup_add(DedupSet *set, DedupBucket bucket, DedupKey key, uint64_t tick,
		  uint64_t *seen_by)
{
	uint64_t	hash = hash_words(set, key.hi, key.lo);
	uint32_t	leaf = leaf_of(set, &set->bucket[bucket], hash);
	Entry	   *entry = find_slot(set, leaf, key, hash);

	while (entry->tick == TICK_EMPTY && info_of(set, leaf)->u.nused >= LEAF_FULL)
	{
		if (!split_leaf(set, bucket, hash))
		{
			drop_bucket(set, bucket);
			return DEDUP_DROPPED;
		}
		leaf = leaf_of(set, &set->bucket[bucket], hash);
		entry = find_slot(set, leaf, key, hash);
	}
	if (entry->tick == TICK_EMPTY)
	{
		entry->key = key;
		info_of(set, leaf)->u.nused++;
	}
	else if (entry->tick != TICK_FORGOTTEN)
	{
		*seen_by = entry->tick;
		return DEDUP_SEEN;
	}
	entry->tick = tick;
	set->bucket[bucket].nkeys++;
	return DEDUP_NEW;
}

bool
dedup_lookup(const DedupSet *set, DedupBucket bucket, DedupKey key, uint64_t *seen_by)
{
	uint64_t	hash = hash_words(set, key.hi, key.lo);
	uint32_t	leaf = leaf_of(set, &set->bucket[bucket], hash);
	const Entry *entry = find_slot(set, leaf, key, hash);

	if (entry->tick == TICK_EMPTY || entry->tick == TICK_FORGOTTEN)
		return false;
	*seen_by = entry->tick;
	return true;
}

static void
forget_in_leaf(Bucket *bucket, Entry *slots, uint64_t first, uint64_t last)
{
	for (int i = 0; i < LEAF_SLOTS; i++)
		if (slots[i].tick >= first && slots[i].tick <= last)
		{
			/* the key stays, because others may have been placed behind it */
			slots[i].tick = TICK_FORGOTTEN;
			bucket->nkeys--;
		}
}

/*----------
 * Whole spaces
 *----------
 */

static inline bool
in_space(const DedupSet *set, DedupBucket b, uint32_t space)
{
	return set->last_used[b] != 0 && set->bucket[b].space == space;
}

bool
dedup_forget_ticks(DedupSet *set, uint32_t space, uint64_t first, uint64_t last, DedupPlace *at)
{
	int			nleaves = 0;

	for (; at->bucket < DEDUP_MAX_BUCKETS; at->bucket++, at->entry = 0)
	{
		Bucket	   *bucket = &set->bucket[at->bucket];

		if (!in_space(set, at->bucket, space))
			continue;
		for (; at->entry >> bucket->depth == 0; at->entry++)
		{
			uint32_t	leaf = leaf_first_named(set, bucket, at->entry);

			if (leaf == NO_CHUNK)
				continue;
			if (nleaves++ == FORGET_LEAVES)
				return true;
			forget_in_leaf(bucket, chunk_at(set, leaf)->slot, first, last);
		}
	}
	return false;
}

void
dedup_drop_space(DedupSet *set, uint32_t space)
{
	Space	   *known = find_space(set, space);

	if (known == NULL)
		return;
	for (DedupBucket b = 0; b < DEDUP_MAX_BUCKETS; b++)
		if (in_space(set, b, space))
			free_bucket(set, b);
	known->last_used = 0;
}

/*----------
 * Figures
 *----------
 */

uint64_t
dedup_dropped(const DedupSet *set)
{
	return set->dropped;
}

size_t
dedup_bytes_used(const DedupSet *set, uint32_t space)
{
	size_t		nchunks = 0;

	for (DedupBucket b = 0; b < DEDUP_MAX_BUCKETS; b++)
		if (in_space(set, b, space))
			nchunks += set->bucket[b].nchunks;
	return nchunks * CHUNK_BYTES;
}

uint64_t
dedup_keys(const DedupSet *set, uint32_t space)
{
	uint64_t	nkeys = 0;

	for (DedupBucket b = 0; b < DEDUP_MAX_BUCKETS; b++)
		if (in_space(set, b, space))
			nkeys += set->bucket[b].nkeys;
	return nkeys;
}
