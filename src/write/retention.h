/*-------------------------------------------------------------------------
 *
 * retention.h
 *	  Dropping what is older than it is kept: from the ledger, of what is found by
 *	  user and by address, and of what is counted by minute and by day.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_RETENTION_H
#define ADCLICK_RETENTION_H

#include "postgres.h"

#include "store/store.h"

typedef struct RetentionResult
{
	int64		clicks;			/* dropped from the ledger */
	int			dropped;		/* volumes whose runs were deleted */
	int			emptied;		/* volumes whose tables were truncated */
	int			minutes_dropped;	/* days whose minutes were deleted */
	int			days_dropped;	/* days whose sums were deleted */
	const char *waits;			/* why no other one was dropped; NULL: none is due */
} RetentionResult;

/*
 * A round, in the current transaction.  By hand it drops all volumes that are due, and many days; if not, of each
 * shelf one volume an hour at most, and one day, and it neither drops nor opens any until the clock has not been
 * set for an hour.
 */
extern void retention_apply(bool by_hand, RetentionResult *result);

/* That a volume is still there that should have been dropped or emptied long ago, and why; NULL: none is. */
extern const char *retention_overdue(const StoreState *state);

/* How long a volume of the shelf is written to, us; PG_INT64_MAX: for ever. */
extern int64 retention_volume_time(Shelf shelf);

#endif							/* ADCLICK_RETENTION_H */
