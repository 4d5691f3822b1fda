/*-------------------------------------------------------------------------
 *
 * topn.c
 *	  Counting by ad within a slice of the key range, and keeping the N best.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "facts.h"
#include "topn.h"

#include <string.h>

/* A range is dense if it has no more ads than this for each fact. */
#define DENSE_RANGE 2

static size_t
slots_for(size_t max_ads)
{
	size_t		nslots = 2;

	while (nslots < 2 * max_ads)
		nslots *= 2;
	return nslots;
}

size_t
slice_counts_memory(size_t max_ads)
{
	return slots_for(max_ads) * sizeof(AdCount);
}

void
slice_counts_init(SliceCounts *counts, size_t max_ads, uint64_t seed, void *memory)
{
	counts->multiplier = seed | 1;
	counts->nslots = slots_for(max_ads);
	counts->shift = 64 - __builtin_ctzll(counts->nslots);
	counts->slots = memory;
	slice_counts_reset(counts, 0, UINT64_MAX, 0);
}

void
slice_counts_reset(SliceCounts *counts, uint64_t first, uint64_t last, size_t n)
{
	counts->n = 0;
	counts->dense = last - first < counts->nslots && (last - first) / DENSE_RANGE <= n;
	counts->base = first;
	memset(counts->slots, 0, counts->nslots * sizeof(AdCount));
}

bool
slice_counts_fit(const SliceCounts *counts, uint64_t last, size_t n)
{
	if (counts->dense)
		return last - counts->base < counts->nslots;
	return counts->n + n <= counts->nslots / 2;
}

/*
 * Multiplicative hashing with a random odd factor: any two ads share a slot with
 * a probability of no more than 2 / nslots (Dietzfelbinger et al. 1997, doi
 * 10.1006/jagm.1997.0873), whoever chose the ads.
 */
static inline AdCount *
slot_of(SliceCounts *counts, uint64_t ad)
{
	size_t		i = (size_t) ((ad * counts->multiplier) >> counts->shift);

	while (counts->slots[i].clicks != 0 && counts->slots[i].ad != ad)
		i = (i + 1) & (counts->nslots - 1);
	return &counts->slots[i];
}

/* Without a branch: whether an ad is new cannot be predicted, and costs most. */
static void
add_dense(SliceCounts *counts, const uint64_t *ads, const uint64_t *clicks, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		AdCount    *slot = &counts->slots[ads[i] - counts->base];

		slot->ad = ads[i];
		slot->clicks += clicks[i];
	}
}

static void
add_hashed(SliceCounts *counts, const uint64_t *ads, const uint64_t *clicks, size_t n)
{
	size_t		i = 0;

	while (i < n)
	{
		uint64_t	ad = ads[i];
		uint64_t	sum = clicks[i];
		AdCount    *slot;

		for (i++; i < n && ads[i] == ad; i++)
			sum += clicks[i];
		slot = slot_of(counts, ad);
		if (slot->clicks == 0)
			counts->n++;
		slot->ad = ad;
		slot->clicks += sum;
	}
}

void
slice_counts_add(SliceCounts *counts, const uint64_t *ads, const uint64_t *clicks,
				 size_t n)
{
	if (counts->dense)
		add_dense(counts, ads, clicks, n);
	else
		add_hashed(counts, ads, clicks, n);
}

void
topn_init(TopN *top, size_t limit, AdCount *memory)
{
	top->n = 0;
	top->limit = limit;
	top->heap = memory;
}

static inline bool
worse(AdCount a, AdCount b)
{
	return a.clicks < b.clicks || (a.clicks == b.clicks && a.ad > b.ad);
}

/* Place item at the root or below, in a heap of n, moving worse ones up. */
static void
sift_down(AdCount *heap, size_t n, AdCount item)
{
	size_t		i = 0;

	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child + 1 < n && worse(heap[child + 1], heap[child]))
			child++;
		if (child >= n || !worse(heap[child], item))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = item;
}

/* Place item at the end of a heap of n or above, moving better ones down. */
static void
sift_up(AdCount *heap, size_t n, AdCount item)
{
	size_t		i = n;

	while (i > 0 && worse(item, heap[(i - 1) / 2]))
	{
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = item;
}

void
topn_offer(TopN *top, uint64_t ad, uint64_t clicks)
{
	AdCount		item = {ad, clicks};

	if (top->n < top->limit)
		sift_up(top->heap, top->n++, item);
	else if (worse(top->heap[0], item))
		sift_down(top->heap, top->n, item);
}

void
topn_offer_slice(TopN *top, const SliceCounts *counts)
{
	for (size_t i = 0; i < counts->nslots; i++)
		if (counts->slots[i].clicks != 0 &&
			(top->n < top->limit || counts->slots[i].clicks >= top->heap[0].clicks))
			topn_offer(top, counts->slots[i].ad, counts->slots[i].clicks);
}

void
topn_finish(TopN *top)
{
	/* heap sort: the worst of the rest goes to the end of the rest */
	for (size_t done = 0, end; done < top->n;)
		for (end = facts_until_pause(done, top->n); done < end; done++)
		{
			size_t		n = top->n - done;
			AdCount		worst = top->heap[0];

			sift_down(top->heap, n - 1, top->heap[n - 1]);
			top->heap[n - 1] = worst;
		}
}
