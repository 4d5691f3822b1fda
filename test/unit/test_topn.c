/*-------------------------------------------------------------------------
 *
 * test_topn.c
 *	  Counting by ad and the N best, against plain sorting.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "../../src/core/facts.h"
#include "../../src/core/topn.h"
#include "tap.h"

static int
compare_best_first(const void *a, const void *b)
{
	const AdCount *left = a;
	const AdCount *right = b;

	if (left->clicks != right->clicks)
		return left->clicks > right->clicks ? -1 : 1;
	return left->ad < right->ad ? -1 : left->ad > right->ad;
}

static int
compare_ads(const void *a, const void *b)
{
	uint64_t	left = *(const uint64_t *) a;
	uint64_t	right = *(const uint64_t *) b;

	return left < right ? -1 : left > right;
}

static bool
same(const TopN *top, const AdCount *expected, size_t n)
{
	if (top->n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (top->heap[i].ad != expected[i].ad || top->heap[i].clicks != expected[i].clicks)
			return false;
	return true;
}

/* n offers of so few different counts that most are ties. */
static bool
keeps_best(size_t n, size_t limit, uint64_t counts)
{
	AdCount    *offers = malloc((n + 1) * sizeof(AdCount));
	AdCount    *memory = malloc(limit * sizeof(AdCount));
	TopN		top;
	bool		right;

	topn_init(&top, limit, memory);
	for (size_t i = 0; i < n; i++)
	{
		offers[i].ad = (i * 7919) % n;
		offers[i].clicks = 1 + next_random() % counts;
		topn_offer(&top, offers[i].ad, offers[i].clicks);
	}
	topn_finish(&top);
	qsort(offers, n, sizeof(AdCount), compare_best_first);
	right = same(&top, offers, n < limit ? n : limit);
	free(memory);
	free(offers);
	return right;
}

static void
test_topn(void)
{
	static const size_t sizes[] = {0, 1, 2, 3, 10, 100, 5000};
	static const size_t limits[] = {1, 2, 3, 10, 100, 1000};
	bool		many = true;
	bool		ties = true;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		for (size_t l = 0; l < sizeof(limits) / sizeof(limits[0]); l++)
		{
			many &= keeps_best(sizes[s], limits[l], UINT64_MAX - 1);
			ties &= keeps_best(sizes[s], limits[l], 3);
		}
	ok(many, "the best of many counts");
	ok(ties, "ties go to the smaller ad");
}

static size_t pauses;

static void
count_pause(void)
{
	pauses++;
}

/* Sorting very many can be cancelled. */
static void
test_pauses(void)
{
	size_t		n = 5 * FACTS_BETWEEN_PAUSES;
	AdCount    *memory = malloc(n * sizeof(AdCount));
	TopN		top;

	topn_init(&top, n, memory);
	for (size_t i = 0; i < n; i++)
		topn_offer(&top, i, 1 + next_random() % 1000);
	facts_pause = count_pause;
	topn_finish(&top);
	facts_pause = NULL;
	ok(pauses == 4, "ranking many ads pauses");
	free(memory);
}

/* Some sorted batches with at most max_ads ads between them. */
static bool
counts_slice(size_t max_ads, size_t batch, uint64_t spread, bool dense)
{
	void	   *memory = malloc(slice_counts_memory(max_ads));
	AdCount    *best = malloc(max_ads * sizeof(AdCount));
	AdCount    *expected = calloc(max_ads, sizeof(AdCount));
	uint64_t   *ads = malloc(batch * sizeof(uint64_t));
	uint64_t   *clicks = malloc(batch * sizeof(uint64_t));
	uint64_t	first_ad = next_random() >> 2;
	uint64_t	last_ad = first_ad + (max_ads - 1) * spread;
	size_t		n = 0;
	SliceCounts counts;
	TopN		top;
	bool		right;

	slice_counts_init(&counts, max_ads, next_random(), memory);
	/* what was counted before the reset must be gone */
	memset(ads, 1, batch * sizeof(uint64_t));
	memset(clicks, 1, batch * sizeof(uint64_t));
	slice_counts_add(&counts, ads, clicks, batch);
	slice_counts_reset(&counts, first_ad, last_ad, dense ? max_ads : 0);
	for (int round = 0; round < 5; round++)
	{
		for (size_t i = 0; i < batch; i++)
			ads[i] = first_ad + next_random() % max_ads * spread;
		qsort(ads, batch, sizeof(uint64_t), compare_ads);
		for (size_t i = 0; i < batch; i++)
		{
			clicks[i] = 1 + next_random() % 3;
			expected[(ads[i] - first_ad) / spread].ad = ads[i];
			expected[(ads[i] - first_ad) / spread].clicks += clicks[i];
		}
		slice_counts_add(&counts, ads, clicks, batch);
	}
	topn_init(&top, max_ads, best);
	topn_offer_slice(&top, &counts);
	topn_finish(&top);
	qsort(expected, max_ads, sizeof(AdCount), compare_best_first);
	while (n < max_ads && expected[n].clicks > 0)
		n++;
	right = counts.dense == (last_ad - first_ad < 2 || (dense && spread == 1)) && slice_counts_fit(&counts, last_ad, 0) &&
		same(&top, expected, n);
	free(clicks);
	free(ads);
	free(expected);
	free(best);
	free(memory);
	return right;
}

/* How many slots adding these ads has passed over: how far they lie from where they belong. */
static size_t
slots_passed(const uint64_t *ads, size_t n, uint64_t seed)
{
	void	   *memory = malloc(slice_counts_memory(n));
	uint64_t   *clicks = malloc(n * sizeof(uint64_t));
	size_t		passed = 0;
	SliceCounts counts;

	for (size_t i = 0; i < n; i++)
		clicks[i] = 1;
	slice_counts_init(&counts, n, seed, memory);
	slice_counts_add(&counts, ads, clicks, n);
	for (size_t i = 0; i < counts.nslots; i++)
		if (counts.slots[i].clicks != 0)
		{
			size_t		home = (size_t) ((counts.slots[i].ad * counts.multiplier) >> counts.shift);

			passed += (i - home) & (counts.nslots - 1);
		}
	free(clicks);
	free(memory);
	return passed;
}

/* Ads made to share a slot under a factor that is known do not under a random one. */
static void
test_collisions(void)
{
	enum {ADS = 2000, SEEDS = 500};
	const uint64_t known = UINT64_C(0x9E3779B97F4A7C15);
	uint64_t	inverse = known;
	uint64_t	ads[ADS];
	size_t		passed = 0;

	/* Newton's iteration doubles the right bits */
	for (int i = 0; i < 6; i++)
		inverse *= 2 - known * inverse;
	for (uint64_t i = 0; i < ADS; i++)
		ads[i] = i * inverse;
	qsort(ads, ADS, sizeof(uint64_t), compare_ads);
	for (int i = 0; i < SEEDS; i++)
		passed += slots_passed(ads, ADS, next_random());
	ok(slots_passed(ads, ADS, known) == (size_t) ADS * (ADS - 1) / 2 && passed < (size_t) 2 * ADS * SEEDS,
	   "ads made to collide under a known factor do not under random ones");
}

int
main(void)
{
	bool		right = true;

	test_topn();
	test_pauses();
	test_collisions();
	for (size_t max_ads = 1; max_ads <= 5000; max_ads = max_ads * 3 + 1)
		for (size_t batch = 1; batch <= 10000; batch *= 10)
			right &= counts_slice(max_ads, batch, 1, true) && counts_slice(max_ads, batch, 1, false) &&
				counts_slice(max_ads, batch, UINT64_C(1) << 40, true);
	ok(right, "clicks counted by ad");
	return done_testing();
}
