/*-------------------------------------------------------------------------
 *
 * bench_core.c
 *	  Times the pure-memory core on one realistic minute of clicks.
 *
 * 600,000 clicks on 10 million ads (Zipf 1.0, popularity independent of the
 * ad's number) with 1,200 skewed filters.  Build with "make -C bench".
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#define _POSIX_C_SOURCE 199309L

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/dedup.h"
#include "../src/facts.h"
#include "../src/segment.h"
#include "../src/topn.h"

#define ADS 10000000
#define FILTERS 1200
#define CLICKS 600000
#define BATCH 300000
#define ROUNDS 10
#define DEDUP_KEYS 6000000
#define DEDUP_BYTES ((size_t) 1 << 30)

static uint64_t random_state = 42;

/* splitmix64 */
static uint64_t
next_random(void)
{
	uint64_t	z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static double
uniform(void)
{
	return (double) (next_random() >> 11) / 9007199254740992.0;
}

/* A rank from 0 to n - 1 with probability about 1 / (rank + 1). */
static uint32_t
zipf(uint32_t n)
{
	uint32_t	rank = (uint32_t) exp(uniform() * log((double) n + 1)) - 1;

	return rank < n ? rank : n - 1;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec * 1e9 + (double) t.tv_nsec;
}

static void
make_clicks(Facts *facts, size_t n, const uint32_t *ad_of_rank)
{
	for (size_t i = 0; i < n; i++)
	{
		/* four of five clicks on filters by Zipf, the others on any */
		uint64_t	filter = next_random() % 5 > 0 ? zipf(FILTERS) : next_random() % FILTERS;

		facts->key[0][i] = facts_from_int64(1 + ad_of_rank[zipf(ADS)]);
		facts->key[1][i] = facts_from_int64(INT64_C(29500000));
		facts->key[2][i] = facts_from_int64((int64_t) filter);
		facts->count[i] = 1;
	}
	facts->n = n;
}

static void
bench_combine(Facts *facts, const uint32_t *ad_of_rank)
{
	void	   *scratch = malloc(facts_scratch(3, CLICKS));
	double		spent = 0;
	double		sorted = 0;

	for (int round = 0; round < ROUNDS; round++)
	{
		double		start;
		size_t		n;

		make_clicks(facts, BATCH, ad_of_rank);
		start = now();
		facts_combine(facts, scratch);
		spent += now() - start;
		n = facts->n;
		start = now();
		facts_combine(facts, scratch);
		sorted += (now() - start) / (double) n;
	}
	printf("combine      %6.1f ns a fact, %.1f when sorted already\n",
		   spent / ROUNDS / BATCH, sorted / ROUNDS);
	make_clicks(facts, CLICKS, ad_of_rank);
	facts_combine(facts, scratch);
	printf("%d clicks are %zu facts\n", CLICKS, facts->n);
	free(scratch);
}

static void
bench_segments(const Facts *facts)
{
	size_t		max_segments = facts->n / 100;
	uint8_t    *bytes = malloc(max_segments * SEGMENT_MAX_BYTES);
	size_t	   *length = malloc(max_segments * sizeof(size_t));
	size_t		nsegments = 0;
	size_t		total = 0;
	size_t		taken;
	uint64_t	check = 0;
	Facts		decoded;
	void	   *memory = malloc(facts_memory(3, SEGMENT_MAX_FACTS));
	double		start = now();

	for (size_t i = 0; i < facts->n; i += taken)
	{
		length[nsegments] = segment_encode(facts, i, bytes + nsegments * SEGMENT_MAX_BYTES,
										   &taken);
		total += length[nsegments++];
	}
	printf("encode       %6.1f ns a fact, %.3f bytes a fact, %.0f facts a segment\n",
		   (now() - start) / (double) facts->n, (double) total / (double) facts->n,
		   (double) facts->n / (double) nsegments);

	facts_init(&decoded, 3, SEGMENT_MAX_FACTS, memory);
	start = now();
	for (int round = 0; round < ROUNDS; round++)
		for (size_t s = 0; s < nsegments; s++)
		{
			decoded.n = 0;
			check += segment_decode(bytes + s * SEGMENT_MAX_BYTES, length[s], &decoded);
		}
	printf("decode all   %6.2f ns a fact\n", (now() - start) / ROUNDS / (double) facts->n);
	start = now();
	for (int round = 0; round < ROUNDS; round++)
		for (size_t s = 0; s < nsegments; s++)
			check += segment_decode_columns(bytes + s * SEGMENT_MAX_BYTES, length[s], 1,
											&decoded);
	printf("decode two   %6.2f ns a fact\n", (now() - start) / ROUNDS / (double) facts->n);
	if (check != 0)
		abort();
	free(memory);
	free(length);
	free(bytes);
}

/* Slices of 2^14 ads, each counted ROUNDS times, as from ROUNDS minutes. */
static void
bench_topn(const Facts *facts)
{
	SliceCounts counts;
	TopN		top;
	AdCount		best[100];
	void	   *memory = malloc(slice_counts_memory(16384));
	size_t		end;
	double		start = now();

	slice_counts_init(&counts, 16384, memory);
	topn_init(&top, 100, best);
	for (size_t i = 0; i < facts->n; i = end)
	{
		end = i + 16384 < facts->n ? i + 16384 : facts->n;
		slice_counts_reset(&counts, facts->key[0][i], facts->key[0][end - 1], end - i);
		for (int round = 0; round < ROUNDS; round++)
			slice_counts_add(&counts, facts->key[0] + i, facts->count + i, end - i);
		topn_offer_slice(&top, &counts);
	}
	topn_finish(&top);
	printf("top-n        %6.2f ns a fact\n", (now() - start) / ROUNDS / (double) facts->n);
	free(memory);
}

static void
bench_dedup(void)
{
	void	   *region = malloc(DEDUP_BYTES);
	DedupKey   *keys = malloc(DEDUP_KEYS * sizeof(DedupKey));
	DedupSet   *set = dedup_init(region, DEDUP_BYTES, next_random());
	DedupBucket bucket;
	double		start;

	for (size_t i = 0; i < DEDUP_KEYS; i++)
	{
		/* as in a version-7 UUID: the milliseconds, then random bits */
		keys[i].hi = (UINT64_C(1900000000000) + i / 10) << 16 | (next_random() & 0xFFFF);
		keys[i].lo = next_random();
	}
	dedup_add_space(set, 1);
	bucket = dedup_open(set, 1, 7);
	start = now();
	for (size_t i = 0; i < DEDUP_KEYS; i++)
	{
		uint64_t	seen_by;

		if (i + 12 < DEDUP_KEYS)
			dedup_prefetch(set, bucket, keys[i + 12]);
		if (dedup_add(set, bucket, keys[i], 1 + i / 10000, &seen_by) != DEDUP_NEW)
			abort();
	}
	printf("dedup add    %6.1f ns a new key, %zu MB for %d keys\n",
		   (now() - start) / DEDUP_KEYS, dedup_bytes_used(set, 1) >> 20, DEDUP_KEYS);
	start = now();
	for (size_t i = 0; i < DEDUP_KEYS; i++)
	{
		uint64_t	seen_by;

		if (i + 12 < DEDUP_KEYS)
			dedup_prefetch(set, bucket, keys[i + 12]);
		if (dedup_add(set, bucket, keys[i], 9, &seen_by) != DEDUP_SEEN)
			abort();
	}
	printf("dedup add    %6.1f ns a key seen\n", (now() - start) / DEDUP_KEYS);
	free(keys);
	free(region);
}

int
main(void)
{
	uint32_t   *ad_of_rank = malloc(ADS * sizeof(uint32_t));
	void	   *memory = malloc(facts_memory(3, CLICKS));
	Facts		facts;

	for (uint32_t i = 0; i < ADS; i++)
	{
		uint32_t	j = (uint32_t) (next_random() % (i + 1));

		ad_of_rank[i] = ad_of_rank[j];
		ad_of_rank[j] = i;
	}
	facts_init(&facts, 3, CLICKS, memory);
	bench_combine(&facts, ad_of_rank);
	bench_segments(&facts);
	bench_topn(&facts);
	bench_dedup();
	free(memory);
	free(ad_of_rank);
	return 0;
}
