/*-------------------------------------------------------------------------
 *
 * xact_index.h
 *	  The BRIN index on xact of one partition: which transactions a range of blocks has.
 *
 * Its summaries are read directly: which rows are unread must not depend on the
 * planner, and one look at a range answers for all transactions.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_XACT_INDEX_H
#define ADCLICK_XACT_INDEX_H

#include "postgres.h"

#include "storage/block.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

typedef struct XactIndex XactIndex;

/* NULL if the partition has no such index. */
extern XactIndex *xact_index_open(Relation relation);
extern void xact_index_close(XactIndex *xi);
extern BlockNumber xact_index_pages_per_range(const XactIndex *xi);

/*
 * The smallest and largest transaction in the range that begins at this block;
 * false if there is no summary to rely on.
 */
extern bool xact_index_range(XactIndex *xi, Snapshot snapshot, BlockNumber block,
							 uint64 *low, uint64 *high);

/*
 * Summarize the full ranges of a partition that have no summary.  The caller
 * holds ShareUpdateExclusiveLock on it, as all do who summarize: no two at once.
 *
 * This is brin_summarize_new_values, but reads the pages itself: the general way
 * of building an index takes several times as long.
 */
extern void xact_index_summarize(Relation relation);

#endif							/* ADCLICK_XACT_INDEX_H */
