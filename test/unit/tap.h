/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  What the unit tests share: results in the Test Anything Protocol, and
 *	  random numbers that are the same in every run.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_TAP_H
#define ADCLICK_TAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int	tap_tests = 0;
static int	tap_failures = 0;

static inline void
ok(bool passed, const char *name)
{
	tap_tests++;
	if (!passed)
		tap_failures++;
	printf("%sok %d - %s\n", passed ? "" : "not ", tap_tests, name);
}

/* The exit code of main. */
static inline int
done_testing(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures == 0 ? 0 : 1;
}

/* splitmix64 */
static inline uint64_t
next_random(void)
{
	static uint64_t state = 20260101;
	uint64_t	z = (state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* A random number of at most so many bits, 0 .. 64. */
static inline uint64_t
random_bits(int bits)
{
	return bits == 0 ? 0 : next_random() >> (64 - bits);
}

#endif							/* ADCLICK_TAP_H */
