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

/* By attribute number, less one. */
extern const Oid click_column_types[CLICK_COLUMNS];

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
	CLICK_EXPIRED,
	/* there are as many counted ones of its minute as may be */
	CLICK_USER_LIMIT,
	CLICK_ADDRESS_LIMIT
} ClickVerdict;

#define CLICK_VERDICTS (CLICK_ADDRESS_LIMIT + 1)

/* Of clicks by verdict: those not counted, for another reason than that they are duplicates. */
static inline int64
clicks_discarded(const int64 *verdicts)
{
	return verdicts[CLICK_IN_FUTURE] + verdicts[CLICK_TOO_OLD] + verdicts[CLICK_UNDECIDED] +
		verdicts[CLICK_FORGED] + verdicts[CLICK_EXPIRED] + verdicts[CLICK_USER_LIMIT] + verdicts[CLICK_ADDRESS_LIMIT];
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
	int32		user_limit;		/* clicks of a user that count in a minute; 0: any number */
	int32		ip_limit;		/* likewise of an address */
	TimestampTz counted_from;	/* earlier minutes were dropped from the counts; DT_NOBEGIN: none were */
	int64		forgotten;		/* no key in this bucket or a lower one is told any more; PG_INT64_MIN: all are */
	int			nformer;		/* rules whose keys still count */
	DedupRule	dedup;			/* the one in force */
	DedupRule	other;			/* of ads with an override: by the other policy, with the same window */
	DedupRule  *former;			/* "other" is one of them once it has keys */
} ClickRules;

static inline bool
clicks_are_limited(const ClickRules *rules)
{
	return rules->user_limit > 0 || rules->ip_limit > 0;
}

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
#define RULE_MASK ((1 << BUCKET_RULE_BITS) - 1)

/* Of a rule that has no number yet, so that nothing that is stored equals its keys. */
#define UNNUMBERED_RULE RULE_MASK
#define MAX_RULE_ID (UNNUMBERED_RULE - 1)

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
	return bucket & RULE_MASK;
}

typedef struct Click
{
	int64		ad_id;
	TimestampTz at;				/* event time; the arrival, if it has none */
	TimestampTz received_at;
	const DedupRule *rule;		/* that it is judged by */
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

/* What is in the slot, as far as the columns of fixed width tell; "rule" is the one for its ad. */
extern ClickVerdict click_read(TupleTableSlot *slot, const ClickRules *rules, const DedupRule *rule, Click *click);

/*
 * The key of a click in the slot by another rule than its own: the former one of this number,
 * or of number nformer the one in force.  False if it has none that can have been seen.  And of
 * number nformer + 1 the other one, where nothing was counted by it yet: only beside the click.
 */
extern bool click_former_key(TupleTableSlot *slot, const Click *click, const ClickRules *rules, int number,
							 BucketKey *key);

/*
 * Make a key of user and ad one by which only who has the rule's secret can tell them:
 * the same for each copy.
 */
extern void click_disguise(const DedupRule *rule, DedupKey *key);

/* What facts are made of, but for the filter: the click and the user and address of its row. */
extern void click_to_fact(TupleTableSlot *slot, const Click *click, FactClick *fact);

/* The rest of a click, for order ledger, but for how its dimensions were given. */
extern void click_to_ledger(TupleTableSlot *slot, const Click *click, FactClick *fact);

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
