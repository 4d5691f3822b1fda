/*-------------------------------------------------------------------------
 *
 * test_siphash.c
 *	  The hash of keys that clients choose.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "../../src/core/siphash.h"
#include "tap.h"

/* SipHash-c-d of whole words, as the paper describes it. */
static uint64_t
siphash_of_words(const uint64_t seed[2], const uint64_t *words, int nwords, int c, int d)
{
	uint64_t	v[4] = {
		seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
		seed[0] ^ UINT64_C(0x6c7967656e657261), seed[1] ^ UINT64_C(0x7465646279746573)
	};

	for (int w = 0; w < nwords; w++)
	{
		v[3] ^= words[w];
		for (int i = 0; i < c; i++)
			sip_round(v);
		v[0] ^= words[w];
	}
	v[2] ^= 0xff;
	for (int i = 0; i < d; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/*
 * Appendix A of the paper: SipHash-2-4 of the bytes 00 .. 0e under the key 00 .. 0f.
 * The last word has the length, 15, as its highest byte.
 */
static void
test_paper(void)
{
	static const uint64_t words[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

	ok(siphash_of_words(words, words, 2, 2, 4) == UINT64_C(0xa129ca6149be45e5), "the rounds are those of the paper");
}

static void
test_variant(void)
{
	bool		right = true;

	for (int i = 0; i < 1000; i++)
	{
		uint64_t	seed[2] = {next_random(), next_random()};
		uint64_t	words[2] = {random_bits(i % 65), next_random()};

		right &= siphash(seed, words[0], words[1]) == siphash_of_words(seed, words, 2, 1, 3);
	}
	ok(right, "one round a word, three at the end");
}

#define SLOTS 4096
#define KEYS 400

/* The most keys in one slot. */
static int
fullest_slot(const uint64_t seed[2], const uint64_t *keys)
{
	int			fullest = 0;
	int			keys_in[SLOTS] = {0};

	for (int i = 0; i < KEYS; i++)
	{
		int			n = ++keys_in[siphash(seed, keys[i], 0) % SLOTS];

		fullest = n > fullest ? n : fullest;
	}
	return fullest;
}

/* Keys found to share a slot under one seed do not under another. */
static void
test_collisions(void)
{
	static const uint64_t known[2] = {1, 2};
	uint64_t	keys[KEYS];
	int			n = 0;
	int			fullest = 0;

	for (uint64_t key = 0; n < KEYS; key++)
		if (siphash(known, key, 0) % SLOTS == 0)
			keys[n++] = key;
	for (int i = 0; i < 1000; i++)
	{
		uint64_t	seed[2] = {next_random(), next_random()};
		int			in_slot = fullest_slot(seed, keys);

		fullest = in_slot > fullest ? in_slot : fullest;
	}
	ok(fullest_slot(known, keys) == KEYS && fullest <= 8, "who does not know the seed finds no colliding keys");
}

int
main(void)
{
	test_paper();
	test_variant();
	test_collisions();
	return done_testing();
}
