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
#include "facts.h"
#include "store.h"

/*
 * The facts of the tail that meet the conditions, sorted: what the next tick
 * would count.  If "ad_id" is given, of that ad only.  None on a standby, which
 * has no set of seen keys.
 */
extern Facts *tail_facts(const StoreState *state, const Conditions *conditions, const int64 *ad_id);

/* How many rows the tail has, duplicates and all, and when the oldest arrived. */
extern int64 tail_rows(const StoreState *state, TimestampTz *oldest);

#endif							/* ADCLICK_TAIL_H */
