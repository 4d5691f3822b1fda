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
	FactOrder	order;			/* user or ip */
	int64		user_id;
	IpAddress	ip;
	int64		minute;
	CountState	state;
	int32		clicks;			/* that were counted before; no more than the limit */
	int32		added;			/* and now */
} Clicker;

static inline int32
clicker_limit(const Clicker *clicker, const ClickRules *rules)
{
	return clicker->order == ORDER_USER ? rules->user_limit : rules->ip_limit;
}

/*
 * Count the clicks of different clickers of one order that the active snapshot sees, and make
 * these known.  What is damaged is an error, or leaves those undecided that need it.
 */
extern void counts_find(FactOrder order, Clicker **clickers, size_t n, const ClickRules *rules, bool may_stay_undecided);

#endif							/* ADCLICK_COUNTS_H */
