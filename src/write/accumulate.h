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

/*
 * A run of order user or ip with so many facts is final: merging it with others
 * would save few probes and cost as much as writing it once more.
 */
#define LARGE_RUN_FACTS (128 * 1024)

/*
 * Write the facts of these clicks, once for each order that is kept; that of the ledger as this run.
 * Orders user and ip get none of minutes up to "people_until", which retention has dropped from them.
 * The clicks change their places.
 */
extern void accumulate_clicks(FactClick *clicks, size_t n, int64 people_until, int64 ledger_run);

/* Likewise of orders ad, user and ip alone, and without noting minutes that are not in the latter two. */
extern void accumulate_facts(FactClick *clicks, size_t n, int64 people_until);

#endif							/* ADCLICK_ACCUMULATE_H */
