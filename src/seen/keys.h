/*-------------------------------------------------------------------------
 *
 * keys.h
 *	  The stored keys of all clicks that were counted: finding some, reading many.
 *
 * They are the first columns of order ledger, written by each tick with its counts
 * and seen by whoever sees these: so what they say is exact in any snapshot, after
 * any restart, and on a standby.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_KEYS_H
#define ADCLICK_KEYS_H

#include "postgres.h"

#include "inbox/click.h"

typedef enum SeenVerdict
{
	SEEN_UNKNOWN,				/* memory cannot tell */
	SEEN_NEW,
	SEEN_DUPLICATE,
	SEEN_UNDECIDED				/* what is stored cannot be read */
} SeenVerdict;

/* A click to be judged, and the verdict. */
typedef struct SeenClick
{
	BucketKey	key;
	uint32		row;			/* the caller's number for it */
	SeenVerdict verdict;
} SeenClick;

/* By key, and of equal ones the first in the array. */
extern int	compare_seen_clicks(const void *a, const void *b);

/*
 * Of clicks in the order of their keys, make those duplicates whose key the active
 * snapshot sees as counted.  Damaged keys are an error, or leave those clicks
 * undecided that need them.
 */
extern void keys_find(SeenClick **clicks, size_t n, bool may_stay_undecided);

/* Whether an error is about keys that cannot be read. */
extern bool keys_are_damaged(const ErrorData *error);

/* Call back for the keys in buckets of "from" or later that the active snapshot sees, some at a time. */
typedef void (*keys_callback) (const BucketKey *keys, size_t n, void *arg);
extern void keys_each(int64 from, keys_callback callback, void *arg);

/* No stored key lies in a higher bucket. */
extern int64 keys_highest_bucket(void);

#endif							/* ADCLICK_KEYS_H */
