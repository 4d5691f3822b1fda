/*-------------------------------------------------------------------------
 *
 * gather.h
 *	  Finding the facts of some ads, users or addresses, and summing them up.
 *
 * Of the orders the one is read in which they stand together: a few segments of
 * each run, found by its index.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_GATHER_H
#define ADCLICK_GATHER_H

#include "postgres.h"

#include "conditions.h"
#include "core/facts.h"
#include "core/orders.h"
#include "store/store.h"

/* What was read for an answer. */
typedef struct ReadCounts
{
	int			runs;
	int			probes;			/* of indexes */
	int64		segments;
	int64		facts;
	int64		tail;			/* facts of the tail */
} ReadCounts;

typedef struct Gathering Gathering;

/* The order in which facts that meet the conditions, and tell the roles, are found. */
extern FactOrder gather_order(const Conditions *conditions, const FactRole *roles, int nroles);

/*
 * Gather facts that meet the conditions, in parts: those of some runs of the
 * order (of order ad, also of days), and those of the tail.  Facts are summed up by the roles, no more than
 * FACTS_MAX_COLUMNS of them; without any, clicks are only counted.
 */
extern Gathering *gather_begin(FactOrder order, const Conditions *conditions,
							   const FactRole *roles, int nroles);
extern void gather_run(Gathering *g, const StoreRun *run);
extern void gather_tail(Gathering *g, const StoreState *state);

/* How many clicks there were, and the sorted sums by role; valid to gather_end. */
extern uint64 gather_clicks(const Gathering *g);
extern const Facts *gather_facts(Gathering *g);
extern void gather_read_counts(const Gathering *g, ReadCounts *counts);
extern void gather_end(Gathering *g);

/*
 * All of it: what the runs of the window and the tail have.  The caller ends it.  If not
 * "by_minute", what is of a whole day (UTC) may be said to be of its first minute.
 */
extern Gathering *gather(const Conditions *conditions, const FactRole *roles, int nroles, bool by_minute);

/* How many users have clicks that meet the conditions; in memory that does not grow with them. */
extern uint64 gather_unique_users(const Conditions *conditions);

#endif							/* ADCLICK_GATHER_H */
