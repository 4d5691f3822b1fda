/*-------------------------------------------------------------------------
 *
 * accumulate.h
 *	  Clicks that count become sorted facts, a run of each order.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_ACCUMULATE_H
#define ADCLICK_ACCUMULATE_H

#include "postgres.h"

#include "core/orders.h"
#include "store/store.h"

/*
 * A run of order user, ip or ledger with so many facts is final: merging it with others
 * would save few probes and cost as much as writing it once more.
 */
#define LARGE_RUN_FACTS (128 * 1024)

/*
 * Write the facts of these clicks, once for each order that is kept; that of the ledger as this run.
 * Orders user and ip get none of minutes up to "people_until", which retention has dropped from them.
 * The clicks change their places.
 */
extern void accumulate_clicks(FactClick *clicks, size_t n, int64 people_until, int64 ledger_run);

/*
 * Write clicks as they stand in order ledger, in any order, as a run of it, and empty them;
 * returns its id, 0 if there are none.  "restored": as one of what came back from files.
 */
extern int64 accumulate_ledger(Facts *clicks, bool restored);

/* Clicks of the ledger that are written together, at most. */
#define LEDGER_BATCH (256 * 1024)

/* Likewise of orders ad, user and ip alone, and without noting minutes that are not in the latter two. */
extern void accumulate_facts(FactClick *clicks, size_t n, int64 people_until);

#endif							/* ADCLICK_ACCUMULATE_H */
