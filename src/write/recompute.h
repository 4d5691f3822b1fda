/*-------------------------------------------------------------------------
 *
 * recompute.h
 *	  Facts made anew from the ledger.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_RECOMPUTE_H
#define ADCLICK_RECOMPUTE_H

#include "postgres.h"

/*
 * Make the facts of minutes from .. to (included) anew, in the current transaction:
 * whole hours, or to FIRST_MINUTE or the one before LAST_MINUTE, which is all there is
 * on that side.  Returns how many clicks they have.
 */
extern int64 recompute_minutes(int64 from, int64 to);

#endif							/* ADCLICK_RECOMPUTE_H */
