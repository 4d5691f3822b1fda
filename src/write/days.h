/*-------------------------------------------------------------------------
 *
 * days.h
 *	  Order day: what final runs of order ad have of whole days, summed up by day.
 *
 * A day has in order day, in its run and in deltas, exactly what its final runs of order
 * ad have, if it has a run there at all.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_DAYS_H
#define ADCLICK_DAYS_H

#include "postgres.h"

#include "store/store.h"

/* Make the run of a day of its final runs of order ad. */
extern void days_make(int64 day, const StoreRun *finals, int nfinals);

/* Minutes of a day. */
typedef struct DayPart
{
	int64		first;
	int64		end;			/* the one after the last */
} DayPart;

/*
 * What deltas of order ad have in minutes that get them into their final runs: the days that
 * have a run get it in a delta.  "parts" ascend.
 */
extern void days_add(const StoreRun *deltas, int ndeltas, const DayPart *parts, int nparts);

#endif							/* ADCLICK_DAYS_H */
