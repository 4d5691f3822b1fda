/*-------------------------------------------------------------------------
 *
 * click.h
 *	  One row of the inbox: its columns, whether it is valid, its dedup key.
 *
 * The inbox and the discarded clicks begin with the same nine columns.  A verdict
 * depends on the row and the rules alone, never on the clock, so that it is the
 * same when the row is read again.
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

#include "base/adclick.h"
#include "core/dedup.h"
#include "core/orders.h"

/* Attribute numbers; the ones of fixed width come first. */
enum
{
	CLICK_ID = 1,
	CLICK_AD_ID,
	CLICK_CLICKED_AT,
	CLICK_USER_ID,
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
	/* the keys seen before say these, not click_read */
	CLICK_DUPLICATE,
	CLICK_UNDECIDED,			/* they cannot be read */
	/* of adclick.click(), which was given a token of an impression */
	CLICK_FORGED,
	CLICK_EXPIRED
} ClickVerdict;

#define CLICK_VERDICTS (CLICK_EXPIRED + 1)

/* Of clicks by verdict: those not counted, for another reason than that they are duplicates. */
static inline int64
clicks_discarded(const int64 *verdicts)
{
	return verdicts[CLICK_IN_FUTURE] + verdicts[CLICK_TOO_OLD] + verdicts[CLICK_UNDECIDED] +
		verdicts[CLICK_FORGED] + verdicts[CLICK_EXPIRED];
}

/* What makes two clicks duplicates. */
typedef struct DedupRule
{
	int32		rule_id;		/* 1 .. MAX_RULE_ID */
	DedupPolicy by;
	int64		window;			/* length of its tumbling windows, s */
	int64		last_bucket;	/* of a former rule: no higher one has a key */
	bool		is_forgotten;	/* its keys are those of forgotten users, disguised by ... */
	uint64		secret[4];
} DedupRule;

/* The settings that clicks are judged by: those in force when they are taken. */
typedef struct ClickRules
{
	int64		future_tolerance;	/* us */
	int64		raw_retention;	/* us */
	TimestampTz counted_from;	/* earlier minutes were dropped from the counts; DT_NOBEGIN: none were */
	int64		forgotten;		/* no key in this bucket or a lower one is told any more; PG_INT64_MIN: all are */
	int			nformer;		/* rules whose keys still count */
	DedupRule	dedup;			/* the one in force */
	DedupRule  *former;
} ClickRules;

/*
 * A key in its dedup bucket: the window, by the second in which it begins, and
 * the rule.  Buckets ascend with time.
 */
typedef struct BucketKey
{
	DedupKey	key;
	int64		bucket;
} BucketKey;

#define BUCKET_RULE_BITS 16
#define MAX_RULE_ID ((1 << BUCKET_RULE_BITS) - 1)

/* The rule of buckets in which no key lies: see click_to_ledger. */
#define NO_RULE 0

static inline int64
bucket_second(int64 bucket)
{
	return bucket >> BUCKET_RULE_BITS;
}

static inline int32
bucket_rule(int64 bucket)
{
	return bucket & MAX_RULE_ID;
}

typedef struct Click
{
	int64		ad_id;
	TimestampTz at;				/* event time; the arrival, if it has none */
	TimestampTz received_at;
	bool		has_key;		/* without one it is never a duplicate */
	BucketKey	key;
} Click;

/* For hash tables of this process: clients choose the keys, but not where they lie. */
extern uint32 bucket_key_hash(const BucketKey *key);

static inline bool
bucket_key_equal(const BucketKey *a, const BucketKey *b)
{
	return a->key.hi == b->key.hi && a->key.lo == b->key.lo && a->bucket == b->bucket;
}

#define USECS_PER_MSEC INT64CONST(1000)

/*
 * How long after it was clicked a click arrived, in whole milliseconds of either
 * time, and back.  The arrival has no smaller parts.
 */
static inline int64
click_delay(TimestampTz at, TimestampTz received_at)
{
	return floor_div(received_at, USECS_PER_MSEC) - floor_div(at, USECS_PER_MSEC);
}

/* Of a stored delay, which can be any number: then what comes out is no time. */
static inline TimestampTz
click_arrival(TimestampTz at, int64 delay)
{
	return (TimestampTz) (((uint64) floor_div(at, USECS_PER_MSEC) + (uint64) delay) * (uint64) USECS_PER_MSEC);
}

/* What is in the slot, as far as the columns of fixed width tell. */
extern ClickVerdict click_read(TupleTableSlot *slot, const ClickRules *rules, Click *click);

/* The key of a click in the slot by a former rule; false if it has none that can have been seen. */
extern bool click_former_key(TupleTableSlot *slot, const Click *click, const DedupRule *rule,
							 BucketKey *key);

/*
 * Make a key of user and ad one by which only who has the rule's secret can tell them:
 * the same for each copy.
 */
extern void click_disguise(const DedupRule *rule, DedupKey *key);

/* What facts are made of, but for the filter: the click and the user and address of its row. */
extern void click_to_fact(TupleTableSlot *slot, const Click *click, FactClick *fact);

/* The rest of a click, for order ledger, but for how its dimensions were given. */
extern void click_to_ledger(TupleTableSlot *slot, const Click *click, const DedupRule *rule, FactClick *fact);

/* The three columns of an address; what follows a mask is part of it, the mask is not. */
extern void ip_from_inet(const inet *address, IpAddress *ip);

/* The id that a key was made of, and back. */
extern Datum key_to_uuid(const DedupKey *key);
extern DedupKey key_of_uuid(Datum uuid);

/* A new id, a version 7 UUID of this time; and the time inside one, false if it is of another version. */
extern DedupKey click_new_id(TimestampTz at);
extern bool click_id_time(const DedupKey *id, TimestampTz *at);

/*
 * The id of a click that is to be set aside as CLICK_FORGED or CLICK_EXPIRED, with the second
 * half of that of its impression.  So a row can say of itself that it does not count, and no more.
 */
extern DedupKey click_refused_id(ClickVerdict verdict, const DedupKey *id);

/* The address that they were made of, if it had no mask. */
extern inet *ip_to_inet(const IpAddress *ip);

/* The dedup bucket of a time. */
extern int64 click_bucket(const DedupRule *rule, TimestampTz at);

/* The reason stored with a discarded click. */
extern const char *click_verdict_text(ClickVerdict verdict);

#endif							/* ADCLICK_CLICK_H */
