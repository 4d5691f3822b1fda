/*-------------------------------------------------------------------------
 *
 * siphash.h
 *	  A hash with a secret seed, for keys that clients choose.
 *
 * Who does not know the seed cannot find keys that fall into one slot, and so
 * cannot choose what a look-up costs.  Pure memory: no server headers.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SIPHASH_H
#define ADCLICK_SIPHASH_H

#include <stdint.h>

static inline uint64_t
rotate_left(uint64_t value, int bits)
{
	return (value << bits) | (value >> (64 - bits));
}

static inline void
sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate_left(v[1], 13) ^ v[0];
	v[0] = rotate_left(v[0], 32);
	v[2] += v[3];
	v[3] = rotate_left(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate_left(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate_left(v[1], 17) ^ v[2];
	v[2] = rotate_left(v[2], 32);
}

/*
 * SipHash-1-3 (Aumasson and Bernstein 2012) of exactly two words, without the
 * block of the length, which is always the same.
 */
static inline uint64_t
siphash(const uint64_t seed[2], uint64_t first, uint64_t second)
{
	uint64_t	v[4] = {
		seed[0] ^ UINT64_C(0x736f6d6570736575),
		seed[1] ^ UINT64_C(0x646f72616e646f6d),
		seed[0] ^ UINT64_C(0x6c7967656e657261),
		seed[1] ^ UINT64_C(0x7465646279746573)
	};

	v[3] ^= first;
	sip_round(v);
	v[0] ^= first;
	v[3] ^= second;
	sip_round(v);
	v[0] ^= second;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif							/* ADCLICK_SIPHASH_H */
