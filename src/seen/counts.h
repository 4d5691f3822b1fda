/*-------------------------------------------------------------------------
 *
 * counts.h
 *	  How many counted clicks users and addresses have in a minute: as stored.
 *
 * They are facts of orders user and ip, written by each tick with its counts: so
 * who sees a click counted sees it here, in any snapshot, after any restart, and on
 * a standby.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_COUNTS_H
#define ADCLICK_COUNTS_H

#include "postgres.h"

#include "core/orders.h"
#include "inbox/click.h"

typedef enum CountState
{
	COUNT_UNKNOWN,				/* not told yet */
	COUNT_KNOWN,
	COUNT_UNLIMITED,			/* not all clicks of the minute can be told by user and address */
	COUNT_UNDECIDED				/* what is stored cannot be read */
} CountState;

/* A user or an address in a minute. */
typedef struct Clicker
{
	BucketKey	hash;			/* of the two, with a secret of the server; its bucket is the minute */
	int64		user_id;
	IpAddress	ip;				/* of family 0: it is the user */
	CountState	state;
	int32		clicks;			/* that were counted before; no more than the limit */
	int32		added;			/* and now */
} Clicker;

static inline int64
clicker_minute(const Clicker *clicker)
{
	return clicker->hash.bucket;
}

static inline FactOrder
clicker_order(const Clicker *clicker)
{
	return clicker->ip.family == 0 ? ORDER_USER : ORDER_IP;
}

static inline int32
clicker_limit(const Clicker *clicker, const ClickRules *rules)
{
	return clicker->ip.family == 0 ? rules->user_limit : rules->ip_limit;
}

extern void clicker_of_user(Clicker *clicker, int64 user_id, int64 minute);
extern void clicker_of_address(Clicker *clicker, const IpAddress *ip, int64 minute);

/*
 * Count the clicks of clickers of one order that the active snapshot sees, and make
 * these known.  What is damaged is an error, or leaves those undecided that need it.  The
 * array changes its order.
 */
extern void counts_find(FactOrder order, Clicker **clickers, size_t n, const ClickRules *rules, bool may_stay_undecided);

/* Call back for each fact of an order in minutes from .. on that the active snapshot sees. */
typedef void (*counts_callback) (const Clicker *clicker, uint64 clicks, void *arg);
extern void counts_each(FactOrder order, int64 from, counts_callback callback, void *arg);

/* No fact of orders user and ip lies in a later minute. */
extern int64 counts_last_minute(void);

#endif							/* ADCLICK_COUNTS_H */
