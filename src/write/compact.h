/*-------------------------------------------------------------------------
 *
 * compact.h
 *	  Compaction: deltas become minutes, minutes hours, and hours days as well.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_COMPACT_H
#define ADCLICK_COMPACT_H

#include "postgres.h"

typedef struct CompactResult
{
	int32		runs_merged;	/* runs read and replaced */
	int32		minutes_written;
	int32		hours_written;
	int32		days_written;
	bool		more;			/* there is work left for another round */
} CompactResult;

/*
 * A round, in the current transaction.  "everything": fold in every late click of
 * closed minutes, not only where it is worth it.
 */
extern void compact_run(bool everything, CompactResult *result);

/*
 * When merging has failed: find the runs that cannot be read, so that the rounds
 * of this process go on without them.
 */
extern void compact_find_damaged(void);

/* How many runs the rounds of this process leave out for that. */
extern int	compact_left_out(void);

#endif							/* ADCLICK_COMPACT_H */
