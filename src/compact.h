/*-------------------------------------------------------------------------
 *
 * compact.h
 *	  Compaction: queued late clicks are decided, deltas become minutes.
 *

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
	int64		late_counted;	/* late clicks that were new */
	int64		late_duplicates;
	int32		runs_merged;	/* runs read and replaced */
	int32		minutes_written;
	bool		more;			/* there is work left for another round */
} CompactResult;

/* The parts of a round; the compactor does each in a transaction of its own. */
typedef enum CompactPart
{
	COMPACT_LATE = 1,			/* decide late clicks */
	COMPACT_RUNS = 2,			/* merge runs */
	COMPACT_ALL = COMPACT_LATE | COMPACT_RUNS
} CompactPart;

/*
 * A round, or a part of it, in the current transaction.  "everything": fold in
 * every late click of closed minutes, not only where it is worth it.
 */
extern void compact_run(CompactPart parts, bool everything, CompactResult *result);

/*
 * When merging has failed: find the runs that cannot be read, so that the rounds
 * of this process go on without them.
 */
extern void compact_find_damaged(void);

#endif							/* ADCLICK_COMPACT_H */
