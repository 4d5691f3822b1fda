/*-------------------------------------------------------------------------
 *
 * test_dedup.c
 *	  The set of keys against a plain array that remembers everything.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "../../src/core/dedup.h"
#include "../../src/core/siphash.h"
#include "tap.h"

#define MODEL_SPACES 2
#define MODEL_BUCKETS 12
#define MODEL_KEYS 15000

/* The tick of each key, 0 if not seen. */
typedef struct Model
{
	uint64_t	tick[MODEL_SPACES][MODEL_BUCKETS][MODEL_KEYS];
} Model;

/* Keys that differ in few bits, and each half of which many others share. */
static DedupKey
make_key(uint64_t number)
{
	DedupKey	key = {UINT64_C(0x0190000000007000) + number / 7, (number % 7) << 20};

	return key;
}

static DedupSet *
new_set(size_t bytes)
{
	return dedup_init(malloc(bytes), bytes, 12345);
}

/* Forget in the model what the set says it has dropped. */
static bool
follow_drops(const DedupSet *set, Model *model)
{
	for (uint32_t s = 0; s < MODEL_SPACES; s++)
		for (int b = 0; b < MODEL_BUCKETS; b++)
		{
			bool		any = false;

			if (dedup_find(set, s, b) != DEDUP_NO_BUCKET)
				continue;
			for (int k = 0; k < MODEL_KEYS; k++)
				any |= model->tick[s][b][k] != 0;
			memset(model->tick[s][b], 0, sizeof(model->tick[s][b]));
			if (any && dedup_floor(set, s) < b)
				return false;
		}
	return true;
}

static bool
add_some(DedupSet *set, Model *model, uint64_t tick, int n)
{
	uint32_t	s = (uint32_t) (next_random() % MODEL_SPACES);
	int			b = (int) (next_random() % MODEL_BUCKETS);
	DedupBucket bucket;
	bool		right = true;

	dedup_add_space(set, s);
	bucket = dedup_open(set, s, b);
	if (!follow_drops(set, model))
		return false;
	for (int i = 0; right && i < n; i++)
	{
		int			k = (int) (next_random() % MODEL_KEYS);
		uint64_t	expected = model->tick[s][b][k];
		uint64_t	dropped = dedup_dropped(set);
		uint64_t	seen_by = 0;
		DedupResult result;

		dedup_prefetch(set, bucket, make_key(k));
		right &= dedup_lookup(set, bucket, make_key(k), &seen_by) == (expected != 0) &&
			seen_by == expected;
		result = dedup_add(set, bucket, make_key(k), tick, &seen_by);
		if (result == DEDUP_SEEN)
			right &= expected != 0 && seen_by == expected;
		else
			right &= expected == 0;
		if (result == DEDUP_NEW)
			model->tick[s][b][k] = tick;
		if (dedup_dropped(set) != dropped)
		{
			right &= follow_drops(set, model);
			right &= (dedup_find(set, s, b) == DEDUP_NO_BUCKET) == (result == DEDUP_DROPPED);
			bucket = dedup_open(set, s, b);
		}
	}
	return right;
}

static void
forget(DedupSet *set, Model *model, uint64_t first, uint64_t last)
{
	uint32_t	s = (uint32_t) (next_random() % MODEL_SPACES);
	DedupPlace	at = {0};

	while (dedup_forget_ticks(set, s, first, last, &at))
		 /* go on */ ;
	for (int b = 0; b < MODEL_BUCKETS; b++)
		for (int k = 0; k < MODEL_KEYS; k++)
			if (model->tick[s][b][k] >= first && model->tick[s][b][k] <= last)
				model->tick[s][b][k] = 0;
}

/* The number of keys, and every key, are as the model has them. */
static bool
agrees(const DedupSet *set, const Model *model)
{
	for (uint32_t s = 0; s < MODEL_SPACES; s++)
	{
		uint64_t	n = 0;

		for (int b = 0; b < MODEL_BUCKETS; b++)
		{
			DedupBucket bucket = dedup_find(set, s, b);

			for (int k = 0; k < MODEL_KEYS; k++)
			{
				uint64_t	seen_by = 0;

				n += model->tick[s][b][k] != 0;
				if (bucket != DEDUP_NO_BUCKET)
					dedup_lookup(set, bucket, make_key(k), &seen_by);
				if (seen_by != model->tick[s][b][k])
					return false;
			}
		}
		if (dedup_keys(set, s) != n)
			return false;
	}
	return true;
}

static void
test_model(size_t bytes, const char *name)
{
	DedupSet   *set = new_set(bytes);
	Model	   *model = calloc(1, sizeof(Model));
	bool		right = true;

	for (uint64_t tick = 1; right && tick <= 400; tick++)
	{
		right &= add_some(set, model, tick, 1500);
		if (tick % 7 == 0)
			forget(set, model, tick - next_random() % 3, tick - next_random() % 2);
		if (tick % 90 == 0)
		{
			dedup_drop_space(set, 1);
			memset(model->tick[1], 0, sizeof(model->tick[1]));
			right &= dedup_bytes_used(set, 1) == 0 && dedup_floor(set, 1) == INT64_MAX;
		}
		if (tick % 20 == 0)
			right &= follow_drops(set, model) && agrees(set, model);
		right &= dedup_bytes_used(set, 0) + dedup_bytes_used(set, 1) <= bytes;
	}
	ok(right, name);
	free(model);
	free(set);
}

static void
test_small_region(void)
{
	void	   *region = malloc(DEDUP_MIN_BYTES);

	ok(dedup_init(region, DEDUP_MIN_BYTES - 1, 0) == NULL, "a region too small is refused");
	ok(dedup_init(region, DEDUP_MIN_BYTES, 0) != NULL, "the smallest region is taken");
	free(region);
}

/* n - 1 keys fit into one bucket, are all there, and the next one drops it. */
static bool
refill(DedupSet *set, uint64_t n)
{
	DedupBucket bucket = dedup_open(set, 5, 0);
	bool		right = true;
	uint64_t	seen_by;

	for (uint64_t i = 0; i < n - 1; i++)
		right &= dedup_add(set, bucket, make_key(i), 1, &seen_by) == DEDUP_NEW;
	for (uint64_t i = 0; i < n - 1; i++)
		right &= dedup_lookup(set, bucket, make_key(i), &seen_by);
	return right && dedup_add(set, bucket, make_key(n - 1), 1, &seen_by) == DEDUP_DROPPED;
}

/* One bucket grows through many leaves and directory pages, and loses nothing. */
static void
test_large_bucket(void)
{
	DedupSet   *set = new_set((size_t) 8 << 20);
	bool		right = true;
	uint64_t	n = 100000;
	uint64_t	seen_by;
	DedupBucket bucket;

	dedup_add_space(set, 5);
	bucket = dedup_open(set, 5, -3);
	for (uint64_t i = 0; i < n; i++)
		right &= dedup_add(set, bucket, make_key(i), i + 1, &seen_by) == DEDUP_NEW;
	for (uint64_t i = 0; i < n; i++)
		right &= dedup_add(set, bucket, make_key(i), 1, &seen_by) == DEDUP_SEEN && seen_by == i + 1;
	right &= !dedup_lookup(set, bucket, make_key(n), &seen_by);
	ok(right, "a large bucket keeps every key");
	ok(dedup_keys(set, 5) == n && dedup_bytes_used(set, 5) < n * 80, "its size is told");
	ok(dedup_dropped(set) == 0 && dedup_floor(set, 5) == INT64_MIN, "nothing was dropped");

	/* fill it up: the only bucket there is must go itself */
	for (; dedup_dropped(set) == 0; n++)
		right = dedup_add(set, bucket, make_key(n), 1, &seen_by) == DEDUP_DROPPED;
	ok(right && dedup_find(set, 5, -3) == DEDUP_NO_BUCKET, "a bucket without room is dropped");
	ok(dedup_floor(set, 5) == -3, "the floor rises to it");
	ok(dedup_bytes_used(set, 5) == 0, "its memory is free");
	ok(refill(set, n) && refill(set, n), "all of its memory can be used again");
	free(set);
}

/* Forgetting many keys goes in steps, between which others can ask, and other spaces be used. */
static void
test_forgetting(void)
{
	DedupSet   *set = new_set((size_t) 64 << 20);
	DedupPlace	at = {0};
	bool		right = true;
	uint64_t	n = 60000;
	uint64_t	seen_by;
	int			steps = 1;

	for (uint32_t space = 1; space <= 2; space++)
	{
		dedup_add_space(set, space);
		for (uint64_t i = 0; i < n; i++)
			dedup_add(set, dedup_open(set, space, (int64_t) (i % 3)), make_key(i), i + 1, &seen_by);
	}
	for (; dedup_forget_ticks(set, 1, 1, n / 2, &at); steps++)
	{
		uint64_t	more = n + (uint64_t) steps;

		right &= dedup_lookup(set, dedup_find(set, 1, (int64_t) ((n - 1) % 3)), make_key(n - 1), &seen_by);
		right &= dedup_add(set, dedup_open(set, 2, 0), make_key(more), 1, &seen_by) == DEDUP_NEW;
	}
	for (uint64_t i = 0; i < n; i++)
		right &= dedup_lookup(set, dedup_find(set, 1, (int64_t) (i % 3)), make_key(i), &seen_by) == (i >= n / 2);
	ok(right && steps >= 8, "forgetting goes in steps");
	ok(dedup_keys(set, 1) == n / 2 && dedup_keys(set, 2) == n + (uint64_t) steps - 1,
	   "and forgets what it should, of its space");
	free(set);
}

/* A bucket that grows drops others, even ones that were used after it. */
static void
test_growing(void)
{
	DedupSet   *set = new_set((size_t) 2 << 20);
	DedupBucket bucket;
	uint64_t	n = 0;
	uint64_t	seen_by;
	bool		right = true;

	dedup_add_space(set, 1);
	bucket = dedup_open(set, 1, 1);
	dedup_open(set, 1, 2);
	dedup_open(set, 1, 3);
	while (dedup_dropped(set) < 2)
		right &= dedup_add(set, bucket, make_key(n++), 1, &seen_by) == DEDUP_NEW;
	right &= dedup_find(set, 1, 1) == bucket && dedup_keys(set, 1) == n;
	right &= dedup_find(set, 1, 2) == DEDUP_NO_BUCKET && dedup_floor(set, 1) == 3;
	ok(right, "a bucket that grows is the last to be dropped");
	free(set);
}

/* The directory's length is bounded; what cannot grow any more is dropped. */
static void
test_depth_limit(void)
{
	DedupSet   *set = new_set((size_t) 96 << 20);
	DedupResult result = DEDUP_NEW;
	uint64_t	n = 0;
	uint64_t	seen_by;
	DedupBucket bucket;

	dedup_add_space(set, 1);
	bucket = dedup_open(set, 1, 1);
	while (result == DEDUP_NEW && n < 2000000)
		result = dedup_add(set, bucket, make_key(n++), 1, &seen_by);
	ok(result == DEDUP_DROPPED && n > 200000 && dedup_floor(set, 1) == 1,
	   "a bucket as deep as can be is dropped");
	free(set);
}

static void
test_least_recently_used(void)
{
	DedupSet   *set = new_set((size_t) 128 << 20);
	bool		right = true;

	dedup_add_space(set, 1);
	for (int64_t b = 0; b < DEDUP_MAX_BUCKETS; b++)
		dedup_open(set, 1, b * 10);
	right &= dedup_dropped(set) == 0;
	dedup_open(set, 1, 0);
	dedup_open(set, 1, 77777);
	right &= dedup_dropped(set) == 1;
	right &= dedup_find(set, 1, 0) != DEDUP_NO_BUCKET;
	right &= dedup_find(set, 1, 10) == DEDUP_NO_BUCKET;
	right &= dedup_find(set, 1, 20) != DEDUP_NO_BUCKET;
	right &= dedup_floor(set, 1) == 10;
	ok(right, "of too many buckets the least recently used is dropped");

	dedup_raise_floor(set, 1, 500);
	dedup_raise_floor(set, 1, 400);
	ok(dedup_floor(set, 1) == 500, "a floor only rises");
	free(set);
}

static void
test_spaces(void)
{
	DedupSet   *set = new_set(DEDUP_MIN_BYTES);
	bool		right = true;

	ok(dedup_floor(set, 9) == INT64_MAX && !dedup_has_space(set, 9), "of an unknown space nothing is known");
	ok(dedup_open(set, 9, 1) == DEDUP_NO_BUCKET, "an unknown space has no buckets");
	dedup_raise_floor(set, 9, 1);
	ok(!dedup_has_space(set, 9), "raising a floor does not make a space known");
	dedup_add_space(set, 9);
	ok(dedup_has_space(set, 9) && dedup_floor(set, 9) == INT64_MIN, "a space begins without a floor");
	dedup_raise_floor(set, 9, 3);
	dedup_add_space(set, 9);
	ok(dedup_floor(set, 9) == 3, "adding a space again changes nothing");

	dedup_open(set, 9, 4);
	for (uint32_t s = 100; s < 100 + DEDUP_MAX_SPACES - 1; s++)
		dedup_add_space(set, s);
	right &= dedup_has_space(set, 9);
	dedup_open(set, 9, 4);
	dedup_add_space(set, 1000);
	right &= dedup_has_space(set, 9) && !dedup_has_space(set, 100) && dedup_has_space(set, 101);
	ok(right, "of too many spaces the least recently used is dropped");
	for (uint32_t s = 2000; s < 2000 + DEDUP_MAX_SPACES; s++)
		dedup_add_space(set, s);
	ok(dedup_floor(set, 9) == INT64_MAX && dedup_find(set, 9, 4) == DEDUP_NO_BUCKET,
	   "and all its buckets with it");
	free(set);
}

/* The memory that these keys take in a set of this seed. */
static size_t
bytes_of(const DedupKey *keys, int n, uint64_t seed)
{
	size_t		bytes = (size_t) 64 << 20;
	DedupSet   *set = dedup_init(malloc(bytes), bytes, seed);
	DedupBucket bucket;
	uint64_t	seen_by;
	size_t		used;

	dedup_add_space(set, 1);
	bucket = dedup_open(set, 1, 1);
	for (int i = 0; i < n; i++)
		dedup_add(set, bucket, keys[i], 1, &seen_by);
	used = dedup_bytes_used(set, 1);
	free(set);
	return used;
}

/* Keys made to fall into one leaf under a known seed do not under another. */
static void
test_collisions(void)
{
	enum {KEYS = 6000, SAME_BITS = 6};
	const uint64_t seed = 42;
	const uint64_t seeds[2] = {seed, ~rotate_left(seed, 29) * UINT64_C(0x9E3779B97F4A7C15)};	/* as dedup_init */
	DedupKey   *colliding = malloc(sizeof(DedupKey) * KEYS);
	DedupKey   *others = malloc(sizeof(DedupKey) * KEYS);
	bool		right = true;
	int			n = 0;

	for (uint64_t number = 0; n < KEYS; number++)
	{
		DedupKey	key = make_key(number);

		if (number < KEYS)
			others[number] = key;
		if (siphash(seeds, key.hi, key.lo) % (1 << SAME_BITS) == 0)
			colliding[n++] = key;
	}
	for (int i = 0; i < 20; i++)
	{
		uint64_t	random = next_random();

		right &= bytes_of(colliding, KEYS, random) <= 2 * bytes_of(others, KEYS, random);
	}
	ok(right && bytes_of(colliding, KEYS, seed) > 3 * bytes_of(others, KEYS, seed),
	   "keys made to collide under a known seed take no more room under random ones");
	free(others);
	free(colliding);
}

int
main(void)
{
	test_small_region();
	test_model(DEDUP_MIN_BYTES, "a full region against the model");
	test_model((size_t) 64 << 20, "an ample region against the model");
	test_large_bucket();
	test_forgetting();
	test_growing();
	test_depth_limit();
	test_least_recently_used();
	test_spaces();
	test_collisions();
	return done_testing();
}
