/*-------------------------------------------------------------------------
 *
 * tail.h
 *	  The tail: committed clicks no tick has taken, judged for a query's snapshot.
 *

 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_TAIL_H
#define ADCLICK_TAIL_H

#include "postgres.h"

#include "conditions.h"
#include "core/facts.h"
#include "inbox/inbox.h"
#include "store/store.h"

/*
 * What the next tick would count of the tail, where it meets the conditions:
 * facts with a column for each of the roles, sorted.
 */
extern Facts *tail_facts(const StoreState *state, const Conditions *conditions,
						 const FactRole *roles, int nroles);

/* How many rows the tail has after a tick, duplicates and all, and when the oldest arrived. */
extern int64 tail_rows(int64 tick, InboxPurpose purpose, TimestampTz *oldest);

/* No click that was clicked before can still count, neither one that waits nor one that arrives. */
extern TimestampTz tail_oldest_valid(const StoreState *state, TimestampTz now);

#endif							/* ADCLICK_TAIL_H */
