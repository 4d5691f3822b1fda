/*-------------------------------------------------------------------------
 *
 * others.h
 *	  Deltas of orders user, ip and ledger become final runs.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_OTHERS_H
#define ADCLICK_OTHERS_H

#include "postgres.h"

#include "plan.h"
#include "store/store.h"

/* Deltas of one of them, the oldest first, as many as are merged at once. */
extern StoreRun *others_get_deltas(FactOrder order, const StoreLeftOut *left_out, int *ndeltas);

/* Whether there is something to merge though no minute closes. */
extern bool others_are_due(const Planning *p);

/* Merge deltas of all three, if minutes were "closed", or if they are due; how many runs were. */
extern int	others_merge(const Planning *p, bool closed);

#endif							/* ADCLICK_OTHERS_H */
