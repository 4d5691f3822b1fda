/*-------------------------------------------------------------------------
 *
 * damaged.h
 *	  Runs that cannot be read, and are left out when others are merged.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_DAMAGED_H
#define ADCLICK_DAMAGED_H

#include "postgres.h"

#include "plan.h"
#include "store/store.h"

/* Those that the rounds of this process leave out. */
extern const StoreLeftOut *damaged_runs(void);

/* When merging has failed: read all that would be merged, and see which cannot be. */
extern void damaged_find(const Planning *p);

/* After some minutes they are tried again: whether there were any. */
extern bool damaged_forget_in_time(void);

#endif							/* ADCLICK_DAMAGED_H */
