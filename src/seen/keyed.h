/*-------------------------------------------------------------------------
 *
 * keyed.h
 *	  A hash table of this process: a number for each key in its bucket.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_KEYED_H
#define ADCLICK_KEYED_H

#include "postgres.h"

#include "inbox/click.h"

typedef struct Keyed
{
	BucketKey	key;
	uint64		number;
	uint32		hash;
	char		status;
} Keyed;

#define SH_PREFIX keyed
#define SH_ELEMENT_TYPE Keyed
#define SH_KEY_TYPE BucketKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) bucket_key_hash(&(k))
#define SH_EQUAL(tb, a, b) bucket_key_equal(&(a), &(b))
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#endif							/* ADCLICK_KEYED_H */
