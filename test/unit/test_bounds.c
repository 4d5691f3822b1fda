/*-------------------------------------------------------------------------
 *
 * test_bounds.c
 *	  Upper bounds of clicks in a minute, against counting each.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "../../src/core/bounds.h"
#include "tap.h"

#define WHO 64
#define SPAN 400
#define START 14000000

/* A hash as callers make it: of a number and a minute. */
static uint64_t
hash_of(uint64_t who, int64_t minute)
{
	uint64_t	z = (who + UINT64_C(1) + ((uint64_t) minute << 20)) * UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 29)) * UINT64_C(0xBF58476D1CE4E5B9);
	return z ^ (z >> 32);
}

/*
 * Clicks of so many in minutes that go on, now and then far back or ahead: no bound is ever too low.
 * "exact": lines have room for all of some minutes, so none is too high, and those are known.
 */
static bool
holds(size_t nlines, int who, int spread, int clicks, bool exact)
{
	BoundsLine *memory = calloc(nlines, sizeof(BoundsLine));
	Bounds		bounds = bounds_of(memory, nlines * sizeof(BoundsLine));
	static uint32_t counts[WHO][SPAN];
	bool		right = true;
	int			newest = 0;

	memset(counts, 0, sizeof(counts));
	for (int i = 0; i < clicks; i++)
	{
		int			now = (int) ((int64_t) i * (SPAN - 100) / clicks);
		int			minute = now + (int) (next_random() % (uint64_t) spread);
		int			w = (int) (next_random() % (uint64_t) who);
		uint64_t	hash;
		uint32_t	got;

		if (!exact && next_random() % 50 == 0)
			minute = (int) (next_random() % SPAN);
		newest = minute > newest ? minute : newest;
		hash = hash_of((uint64_t) w, START + minute);
		if (next_random() % 3 == 0)
		{
			got = bounds_get(&bounds, hash, START + minute);
			right &= got >= counts[w][minute] && (!exact || got == counts[w][minute]);
		}
		got = bounds_add(&bounds, hash, START + minute);
		counts[w][minute]++;
		right &= got >= counts[w][minute] && (!exact || got == counts[w][minute]);
	}
	for (int w = 0; w < WHO; w++)
		for (int minute = 0; minute < SPAN; minute++)
			right &= bounds_get(&bounds, hash_of((uint64_t) w, START + minute), START + minute) >= counts[w][minute];
	free(memory);
	return right;
}

/* The same hash in minutes of which the last bits are the same. */
static bool
tells_minutes(void)
{
	BoundsLine	line = {0};
	Bounds		bounds = bounds_of(&line, sizeof(line));
	bool		right = bounds_add(&bounds, 7, START) == 1 && bounds_add(&bounds, 7, START + 63) == 1;

	right &= bounds_get(&bounds, 7, START + 64) == 0 && bounds_get(&bounds, 7, START - 64) == BOUND_UNKNOWN;
	right &= bounds_add(&bounds, 7, START + 64) == 1 && bounds_get(&bounds, 7, START) == BOUND_UNKNOWN;
	right &= bounds_get(&bounds, 7, START + 63) == 1 && bounds_get(&bounds, 7, START + 64) == 1;
	return right;
}

static bool
saturates(void)
{
	BoundsLine	line = {0};
	Bounds		bounds = bounds_of(&line, sizeof(line));
	bool		right = true;

	for (uint32_t i = 1; i < 1023; i++)
		right &= bounds_add(&bounds, 7, START) == i;
	for (int i = 0; i < 3000; i++)
		right &= bounds_add(&bounds, 7, START) == BOUND_UNKNOWN && bounds_get(&bounds, 7, START) == BOUND_UNKNOWN;
	return right && bounds_get(&bounds, 8, START) == 0 && bounds_get(&bounds, 7, START + 1) == 0;
}

/* Those of one line: the oldest minute goes; for whom there is no room then, they are counted together. */
static bool
drops_oldest(void)
{
	BoundsLine	line = {0};
	Bounds		bounds = bounds_of(&line, sizeof(line));
	bool		right = true;

	for (uint64_t i = 0; i < BOUNDS_ENTRIES; i++)
		right &= bounds_add(&bounds, i, START + (i < 5 ? 1 : 2)) == 1;
	right &= bounds_add(&bounds, 100, START) == 1 && bounds_get(&bounds, 4, START + 1) == 1;
	right &= bounds_add(&bounds, 101, START) == 2 && bounds_get(&bounds, 102, START) == 2;
	right &= bounds_add(&bounds, 100, START - 1) == BOUND_UNKNOWN && bounds_get(&bounds, 100, START) == 2;
	right &= bounds_add(&bounds, 100, START + 3) == 1 && bounds_get(&bounds, 4, START + 1) == BOUND_UNKNOWN;
	for (uint64_t i = 101; i < 105; i++)
		right &= bounds_add(&bounds, i, START + 2) == 1;
	right &= bounds_get(&bounds, 104, START + 2) == 1 && bounds_get(&bounds, 100, START + 3) == 1;
	for (uint32_t i = 105; i < 110; i++)
		right &= bounds_add(&bounds, i, START + 2) == i - 104;
	right &= bounds_add(&bounds, 104, START + 2) == 2 && bounds_get(&bounds, 200, START + 2) == 5 && bounds_get(&bounds, 200, START + 3) == 0;
	/* the rest stays when there is room again */
	right &= bounds_add(&bounds, 1, START + 66) == 1 && bounds_add(&bounds, 1, START + 67) == 1;
	return right && bounds_get(&bounds, 200, START + 2) == BOUND_UNKNOWN && bounds_get(&bounds, 100, START + 3) == BOUND_UNKNOWN;
}

/* The rest of an earlier minute gives way to that of a later one. */
static bool
gives_way(void)
{
	BoundsLine	line = {0};
	Bounds		bounds = bounds_of(&line, sizeof(line));
	bool		right = true;

	for (uint64_t i = 0; i < BOUNDS_ENTRIES; i++)
		right &= bounds_add(&bounds, i, START + 4) == 1;
	right &= bounds_add(&bounds, 50, START + 3) == 1 && bounds_add(&bounds, 60, START + 4) == 1;
	return right && bounds_get(&bounds, 50, START + 3) == BOUND_UNKNOWN && bounds_get(&bounds, 0, START + 4) == 1 &&
		bounds_get(&bounds, 61, START + 4) == 1;
}

/* Of later minutes, too: once some of a minute have no entry, nobody new gets one. */
static bool
keeps_rest(void)
{
	BoundsLine	line = {0};
	Bounds		bounds = bounds_of(&line, sizeof(line));
	bool		right = true;

	for (uint64_t i = 0; i < BOUNDS_ENTRIES; i++)
		right &= bounds_add(&bounds, i, START + (i < 5 ? 3 : 4)) == 1;
	for (uint32_t i = 1; i <= 3; i++)
		right &= bounds_add(&bounds, 100 + i, START + 3) == i;
	/* a rest of another minute, a later one, then an earlier one */
	for (uint64_t i = 0; i < 5; i++)
		right &= bounds_add(&bounds, 200 + i, START + 4) == 1;
	right &= bounds_get(&bounds, 101, START + 3) == BOUND_UNKNOWN && bounds_add(&bounds, 101, START + 4) == 1;
	right &= bounds_add(&bounds, 1, START + 64 + 4) == 1 && bounds_get(&bounds, 101, START + 4) == BOUND_UNKNOWN;
	return right && bounds_get(&bounds, 1, START + 64 + 4) == 1 && bounds_get(&bounds, 2, START + 64 + 4) == 0;
}

/* Who has the same place and the same mark is taken for the same, and nobody else. */
static bool
shares_marks(void)
{
	BoundsLine	lines[4] = {{0}};
	Bounds		bounds = bounds_of(lines, sizeof(lines));
	uint64_t	hash = UINT64_C(0x4000000000001234);

	return bounds_add(&bounds, hash, START) == 1 && bounds_add(&bounds, hash | UINT64_C(0xFF0000), START) == 2 &&
		bounds_get(&bounds, hash, START) == 2 && bounds_get(&bounds, hash ^ 1, START) == 0 &&
		bounds_get(&bounds, hash ^ UINT64_C(0x8000), START) == 0 && bounds_get(&bounds, hash ^ (UINT64_C(3) << 62), START) == 0;
}

static bool
knows_no_other_times(void)
{
	BoundsLine	line = {0};
	Bounds		bounds = bounds_of(&line, sizeof(line));
	int64_t		other[] = {0, -1, INT64_MIN, (int64_t) INT32_MAX + 1, INT64_MAX};
	bool		right = bounds_add(&bounds, 7, 1) == 1 && bounds_add(&bounds, 7, INT32_MAX) == 1;

	for (int i = 0; i < 5; i++)
		right &= bounds_add(&bounds, 7, other[i]) == BOUND_UNKNOWN && bounds_get(&bounds, 7, other[i]) == BOUND_UNKNOWN;
	return right && bounds_get(&bounds, 7, INT32_MAX) == 1;
}

int
main(void)
{
	ok(holds(4096, WHO, 3, 20000, true), "with room for all, counts");
	ok(holds(16, WHO, 3, 20000, false), "full lines: never too low");
	ok(holds(1, WHO, 70, 20000, false), "one line, many minutes: never too low");
	ok(holds(1, 3, 70, 20000, false), "few in many minutes: never too low");
	ok(holds(7, 20, 1, 200000, false), "many clicks: never too low");
	ok(tells_minutes(), "minutes are told from each other");
	ok(saturates(), "beyond what is counted nothing is known");
	ok(drops_oldest(), "a full line drops its oldest minute");
	ok(gives_way(), "of two rests the later one stays");
	ok(keeps_rest(), "who has no entry stays without");
	ok(shares_marks(), "same place and mark");
	ok(knows_no_other_times(), "minutes out of range");
	return done_testing();
}
