/*-------------------------------------------------------------------------
 *
 * click.h
 *	  One row of the click log: its columns, whether it is valid, its dedup key.
 *
 * The log, the queue of late clicks and the discarded clicks begin with the
 * same ten columns.  A verdict depends on the row and the settings alone, never
 * on the clock, so that it is the same when the row is read again.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_CLICK_H
#define ADCLICK_CLICK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/inet.h"

#include "dedup.h"
#include "orders.h"

/* Attribute numbers; the ones of fixed width come first. */
enum
{
	CLICK_ID = 1,
	CLICK_AD_ID,
	CLICK_CLICKED_AT,
	CLICK_USER_ID,
	CLICK_XACT,
	CLICK_RECEIVED_AT,
	CLICK_IP,
	CLICK_COUNTRY,
	CLICK_REGION,
	CLICK_DEVICE,
	CLICK_COLUMNS = CLICK_DEVICE
};

typedef enum ClickVerdict
{
	CLICK_VALID,
	CLICK_IN_FUTURE,
	CLICK_TOO_OLD,
	/* the dedup set says these, not click_read */
	CLICK_DUPLICATE,
	CLICK_LATE					/* to be decided by the compactor */
} ClickVerdict;

typedef struct Click
{
	int64		ad_id;
	TimestampTz at;				/* event time; the arrival, if it has none */
	TimestampTz received_at;
	bool		has_key;		/* without one it is never a duplicate */
	DedupKey	key;
	int64		bucket;			/* dedup bucket */
} Click;

/* A key in its bucket. */
typedef struct BucketKey
{
	DedupKey	key;
	int64		bucket;
} BucketKey;

/* For hash tables of this process: clients choose the keys, but not where they lie. */
extern uint32 bucket_key_hash(const BucketKey *key);

static inline bool
bucket_key_equal(const BucketKey *a, const BucketKey *b)
{
	return a->key.hi == b->key.hi && a->key.lo == b->key.lo && a->bucket == b->bucket;
}

/* What is in the slot, as far as the columns of fixed width tell. */
extern ClickVerdict click_read(TupleTableSlot *slot, Click *click);

/* What facts are made of, but for the filter: the click and the user and address of its row. */
extern void click_to_fact(TupleTableSlot *slot, const Click *click, FactClick *fact);

/* The three columns of an address; what follows a mask is part of it, the mask is not. */
extern void ip_from_inet(const inet *address, IpAddress *ip);

/* The dedup bucket of a time. */
extern int64 click_bucket(TimestampTz at);

/* The reason stored with a discarded click. */
extern const char *click_verdict_text(ClickVerdict verdict);

#endif							/* ADCLICK_CLICK_H */
