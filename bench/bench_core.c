/*-------------------------------------------------------------------------
 *
 * bench_core.c
 *	  Times the pure-memory core on realistic clicks.
 *
 * Clicks on 10 million ads (Zipf 1.0, popularity independent of the ad's
 * number) with 1,200 skewed filters, by 50 million mildly skewed users, nine of
 * ten over IPv4.  Order ad has one minute of them, as after compaction, the
 * others a tick of some dozens of minutes.
 *
 * Times are the processor's.  Of several rounds the fastest counts, as the
 * others were disturbed.  Build with "make -C bench"; "bench_core user combine"
 * runs only what its arguments name.
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

#include "../src/core/dedup.h"
#include "../src/core/facts.h"
#include "../src/core/segment.h"
#include "../src/core/topn.h"

#define ADS 10000000
#define FILTERS 1200
#define USERS 50000000
#define MINUTES 36
#define FIRST_MINUTE INT64_C(29500000)
#define CLICKS 600000
#define BATCH 262144
#define RUNS 8
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

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e9 + (double) t.tv_nsec;
}

/* An order of facts: its key, and what a reader decodes of it. */
typedef struct Order
{
	const char *name;
	int			ncolumns;
	size_t		clicks;			/* in the facts that are encoded */
	unsigned	some_columns;	/* these and the counts */
	void		(*make_key) (uint64_t *key, const uint32_t *ad_of_rank);
} Order;

static uint64_t
random_ad(const uint32_t *ad_of_rank)
{
	return facts_from_int64(1 + ad_of_rank[zipf(ADS)]);
}

static uint64_t
random_minute(void)
{
	return facts_from_int64(FIRST_MINUTE + (int64_t) (next_random() % MINUTES));
}

/* Four of five clicks on filters by Zipf, the others on any. */
static uint64_t
random_filter(void)
{
	return facts_from_int64(next_random() % 5 > 0 ? zipf(FILTERS) :
							(int64_t) (next_random() % FILTERS));
}

static uint64_t
random_user(void)
{
	return facts_from_int64(1 + (int64_t) (pow(uniform(), 1.5) * USERS));
}

static double
least(double a, double b)
{
	return a < b ? a : b;
}

static void
make_ad_key(uint64_t *key, const uint32_t *ad_of_rank)
{
	key[0] = random_ad(ad_of_rank);
	key[1] = facts_from_int64(FIRST_MINUTE);
	key[2] = random_filter();
}

static void
make_user_key(uint64_t *key, const uint32_t *ad_of_rank)
{
	key[0] = random_user();
	key[1] = random_minute();
	key[2] = random_ad(ad_of_rank);
	key[3] = random_filter();
}

static void
make_ip_key(uint64_t *key, const uint32_t *ad_of_rank)
{
	bool		is_v6 = next_random() % 10 == 0;
	bool		has_user = next_random() % 10 > 0;

	key[0] = is_v6 ? UINT64_C(0x20010db800000000) | next_random() >> 48 : next_random() >> 32;
	key[1] = is_v6 ? next_random() : 0;
	key[2] = is_v6 ? 6 : 4;
	key[3] = random_minute();
	key[4] = has_user ? random_user() : facts_from_int64(0);
	key[5] = has_user;
	key[6] = random_ad(ad_of_rank);
	key[7] = random_filter();
}

static const Order orders[] = {
	{"ad", 3, CLICKS, 1 << 0 | 1 << 2, make_ad_key},
	{"user", 4, BATCH, 1 << 0 | 1 << 2, make_user_key},
	{"ip", 8, BATCH, 1 << 0 | 1 << 6, make_ip_key},
};

static void
add_clicks(Facts *facts, size_t n, const Order *order, const uint32_t *ad_of_rank)
{
	for (size_t end = facts->n + n; facts->n < end; facts->n++)
	{
		uint64_t	key[FACTS_MAX_COLUMNS];

		order->make_key(key, ad_of_rank);
		for (int c = 0; c < order->ncolumns; c++)
			facts->key[c][facts->n] = key[c];
		facts->count[facts->n] = 1;
	}
}

/* Sorted runs, one after the other, as a compaction lays them. */
static void
add_sorted_runs(Facts *facts, const Order *order, const uint32_t *ad_of_rank, void *scratch)
{
	for (int run = 0; run < RUNS; run++)
	{
		Facts		part = *facts;

		for (int c = 0; c < order->ncolumns; c++)
			part.key[c] += facts->n;
		part.count += facts->n;
		part.n = 0;
		add_clicks(&part, BATCH / RUNS, order, ad_of_rank);
		facts_combine(&part, scratch);
		facts->n += part.n;
	}
}

static void
bench_combine(const Order *order, Facts *facts, const uint32_t *ad_of_rank)
{
	void	   *scratch = malloc(facts_scratch(order->ncolumns, BATCH));
	double		spent[3] = {INFINITY, INFINITY, INFINITY};

	for (int round = 0; round < ROUNDS; round++)
		for (int input = 0; input < 3; input++)
		{
			double		start;
			size_t		n;

			/* the last input is what the one before it left behind */
			if (input < 2)
				facts->n = 0;
			if (input == 0)
				add_clicks(facts, BATCH, order, ad_of_rank);
			else if (input == 1)
				add_sorted_runs(facts, order, ad_of_rank, scratch);
			n = facts->n;
			start = now();
			facts_combine(facts, scratch);
			spent[input] = least(spent[input], (now() - start) / (double) n);
		}
	printf("%-5s combine       %6.1f ns a fact, %.1f of %d sorted runs, %.1f when sorted already\n",
		   order->name, spent[0], spent[1], RUNS, spent[2]);
	free(scratch);
}

static void
time_decoding(const Order *order, const char *what, unsigned columns,
			  const uint8_t *bytes, const size_t *length, size_t nsegments, size_t nfacts)
{
	void	   *memory = malloc(facts_memory(order->ncolumns, SEGMENT_MAX_FACTS));
	Facts		decoded;
	double		spent = INFINITY;

	facts_init(&decoded, order->ncolumns, SEGMENT_MAX_FACTS, memory);
	for (int round = 0; round < ROUNDS; round++)
	{
		double		start = now();

		for (size_t s = 0; s < nsegments; s++)
			if (segment_decode_columns(bytes + s * SEGMENT_MAX_BYTES, length[s], columns,
									   &decoded) != SEGMENT_OK)
				abort();
		spent = least(spent, now() - start);
	}
	printf("%-5s decode %-6s %6.2f ns a fact\n", order->name, what, spent / (double) nfacts);
	free(memory);
}

static void
bench_segments(const Order *order, const Facts *facts)
{
	size_t		max_segments = facts->n / 50;
	uint8_t    *bytes = malloc(max_segments * SEGMENT_MAX_BYTES);
	size_t	   *length = malloc(max_segments * sizeof(size_t));
	size_t		nsegments = 0;
	size_t		total = 0;
	size_t		taken = 0;
	double		spent = INFINITY;

	for (int round = 0; round < ROUNDS; round++)
	{
		double		start = now();

		nsegments = total = 0;
		for (size_t i = 0; i < facts->n; i += taken)
		{
			length[nsegments] = segment_encode(facts, i, taken,
											   bytes + nsegments * SEGMENT_MAX_BYTES, &taken);
			total += length[nsegments++];
		}
		spent = least(spent, now() - start);
	}
	printf("%-5s encode        %6.1f ns a fact, %.3f bytes a fact, %.1f facts a segment\n",
		   order->name, spent / (double) facts->n,
		   (double) total / (double) facts->n, (double) facts->n / (double) nsegments);
	time_decoding(order, "all", (1U << order->ncolumns) - 1, bytes, length, nsegments, facts->n);
	time_decoding(order, "some", order->some_columns, bytes, length, nsegments, facts->n);
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

	slice_counts_init(&counts, 16384, next_random(), memory);
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
	printf("ad    top-n         %6.2f ns a fact\n", (now() - start) / ROUNDS / (double) facts->n);
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
	printf("dedup add          %6.1f ns a new key, %zu MB for %d keys\n",
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
	printf("dedup add          %6.1f ns a key seen\n", (now() - start) / DEDUP_KEYS);
	free(keys);
	free(region);
}

/* Whether the arguments name this; without arguments, everything is run. */
static bool
asked(int argc, char **argv, const char *order, const char *part)
{
	return (argc < 2 || strcmp(argv[1], order) == 0) && (argc < 3 || strcmp(argv[2], part) == 0);
}

static void
bench_order(const Order *order, const uint32_t *ad_of_rank, int argc, char **argv)
{
	void	   *memory = malloc(facts_memory(order->ncolumns, CLICKS));
	void	   *scratch = malloc(facts_scratch(order->ncolumns, CLICKS));
	Facts		facts;

	facts_init(&facts, order->ncolumns, CLICKS, memory);
	if (asked(argc, argv, order->name, "combine"))
		bench_combine(order, &facts, ad_of_rank);
	facts.n = 0;
	add_clicks(&facts, order->clicks, order, ad_of_rank);
	facts_combine(&facts, scratch);
	if (asked(argc, argv, order->name, "segments"))
		bench_segments(order, &facts);
	if (order == &orders[0] && asked(argc, argv, order->name, "topn"))
		bench_topn(&facts);
	free(scratch);
	free(memory);
}

int
main(int argc, char **argv)
{
	uint32_t   *ad_of_rank = malloc(ADS * sizeof(uint32_t));

	for (uint32_t i = 0; i < ADS; i++)
	{
		uint32_t	j = (uint32_t) (next_random() % (i + 1));

		ad_of_rank[i] = ad_of_rank[j];
		ad_of_rank[j] = i;
	}
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
		bench_order(&orders[i], ad_of_rank, argc, argv);
	if (asked(argc, argv, "dedup", "add"))
		bench_dedup();
	free(ad_of_rank);
	return 0;
}
