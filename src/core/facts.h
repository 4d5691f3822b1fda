/*-------------------------------------------------------------------------
 *
 * facts.h
 *	  A batch of facts in columns, and the one way they are sorted and merged.
 *
 * A fact is a key of up to FACTS_MAX_COLUMNS unsigned 64-bit columns and a
 * click count.  The columns of order "ad" are (ad, minute, filter); signed
 * values are stored with their sign bit flipped (facts_from_int64), so that
 * unsigned order is the order of the values.
 *
 * Pure memory: no server headers, so that it is unit-tested and fuzzed outside
 * a server.  The caller owns every array.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FACTS_H
#define ADCLICK_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FACTS_MAX_COLUMNS 13

typedef struct Facts
{
	int			ncolumns;		/* key columns in use, 1 .. FACTS_MAX_COLUMNS */
	size_t		n;				/* facts held */
	size_t		capacity;		/* facts each array has room for */
	uint64_t   *key[FACTS_MAX_COLUMNS];
	uint64_t   *count;
} Facts;

/* Bytes of memory facts_init needs for a batch of this shape. */
extern size_t facts_memory(int ncolumns, size_t capacity);

/* Lay an empty batch out in memory of facts_memory() bytes, 8-aligned. */
extern void facts_init(Facts *facts, int ncolumns, size_t capacity, void *memory);

/* Move the batch to larger memory, of facts_memory() bytes; the old is the caller's to free. */
extern void facts_grow(Facts *facts, size_t capacity, void *memory);

/* Append n facts of another batch of this shape, from "start" on; there is room. */
extern void facts_append(Facts *facts, const Facts *from, size_t start, size_t n);

/* The arrays of a batch from its end on, as an empty batch of their own. */
extern Facts facts_end(const Facts *facts);

/* Drop the first n facts; the others move to the front. */
extern void facts_drop(Facts *facts, size_t n);

/*
 * Called now and then by what goes through very many values, so that it can be
 * cancelled: it may leave by longjmp.  What was worked on is then garbage.
 */
extern void (*facts_pause) (void);

/* How many values are gone through between two pauses. */
#define FACTS_BETWEEN_PAUSES 65536

/* Where the loop that has come to "start" of n values should pause next, or end. */
static inline size_t
facts_until_pause(size_t start, size_t n)
{
	if (n - start <= FACTS_BETWEEN_PAUSES)
		return n;
	if (facts_pause)
		facts_pause();
	return start + FACTS_BETWEEN_PAUSES;
}

/* Bytes of scratch memory facts_combine needs for n facts of this shape. */
extern size_t facts_scratch(int ncolumns, size_t n);

/*
 * Sort the facts by their key, first column first, ascending, and merge facts
 * of equal keys into one with the sum of their counts.  Afterwards keys are
 * strictly ascending and facts->n is the number of distinct keys.  At most
 * UINT32_MAX facts.
 */
extern void facts_combine(Facts *facts, void *scratch);

/* The first fact from "start" on whose first column is not below the bound. */
static inline size_t
facts_find(const Facts *facts, size_t start, uint64_t bound)
{
	size_t		end = facts->n;

	while (start < end)
	{
		size_t		middle = start + (end - start) / 2;

		if (facts->key[0][middle] < bound)
			start = middle + 1;
		else
			end = middle;
	}
	return start;
}

/* The first fact from "start" on whose first column is above the bound. */
static inline size_t
facts_find_above(const Facts *facts, size_t start, uint64_t bound)
{
	return bound == UINT64_MAX ? facts->n : facts_find(facts, start, bound + 1);
}

/* Order-preserving maps between signed values and column values. */
static inline uint64_t
facts_from_int64(int64_t value)
{
	return (uint64_t) value ^ (UINT64_C(1) << 63);
}

static inline int64_t
facts_to_int64(uint64_t column)
{
	return (int64_t) (column ^ (UINT64_C(1) << 63));
}

#endif							/* ADCLICK_FACTS_H */
