/*-------------------------------------------------------------------------
 *
 * topn.h
 *	  Counting by ad within a slice of the key range, and keeping the N best.
 *
 * Two small pure-memory pieces without server headers: SliceCounts, a table from
 * ad to clicks that fits the processor's cache, and TopN, a bounded heap.  Ties go to the smaller ad.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_TOPN_H
#define ADCLICK_TOPN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ads are column values (facts_from_int64): unsigned order is their order */
typedef struct AdCount
{
	uint64_t	ad;
	uint64_t	clicks;
} AdCount;

typedef struct SliceCounts
{
	size_t		nslots;			/* a power of two, at least twice max_ads */
	int			shift;			/* 64 - log2(nslots), for hashing */
	uint64_t	multiplier;		/* odd, random: clients choose the ads */
	bool		dense;			/* slots by distance from base, not by hash */
	uint64_t	base;
	size_t		n;				/* distinct ads held, if not dense */
	AdCount    *slots;			/* clicks = 0: empty */
} SliceCounts;

extern size_t slice_counts_memory(size_t max_ads);
extern void slice_counts_init(SliceCounts *counts, size_t max_ads, uint64_t seed, void *memory);

/*
 * Empty it, for ads of which the first batch of n facts lies between "first" and
 * "last".  If the batch fills a good part of that range, and the range is no longer
 * than the table, each ad has its own slot: that is the case where ids are given
 * out one by one, and needs no hashing.
 */
extern void slice_counts_reset(SliceCounts *counts, uint64_t first, uint64_t last, size_t n);

/*
 * Whether n more facts, of ads up to "last", fit: in a dense table the range
 * is what counts, in a hash table max_ads.
 */
extern bool slice_counts_fit(const SliceCounts *counts, uint64_t last, size_t n);

/*
 * Add facts[0 .. n): ads[i] has counts[i] >= 1 more clicks.  The ads come
 * sorted (equal ones side by side), and fit.
 */
extern void slice_counts_add(SliceCounts *counts, const uint64_t *ads,
							 const uint64_t *clicks, size_t n);

typedef struct TopN
{
	size_t		n;				/* held */
	size_t		limit;			/* the N of top N, at least 1 */
	AdCount    *heap;			/* room for limit, or for all ads offered; the worst kept is first */
} TopN;

extern void topn_init(TopN *top, size_t limit, AdCount *memory);
extern void topn_offer(TopN *top, uint64_t ad, uint64_t clicks);

/* Offer every ad of a slice. */
extern void topn_offer_slice(TopN *top, const SliceCounts *counts);

/* Sort what is held, the most clicks first, ties by ascending ad. */
extern void topn_finish(TopN *top);

#endif							/* ADCLICK_TOPN_H */
