/*-------------------------------------------------------------------------
 *
 * seen.h
 *	  The keys of clicks already seen, in this database: dedup in shared memory.
 *
 * A bucket whose keys are all in memory decides a click at once.  For one that
 * left memory, or was not loaded after a restart, the answer is "late": such
 * clicks wait in a queue for the compactor, which reads the log.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SEEN_H
#define ADCLICK_SEEN_H

#include "postgres.h"

#include "click.h"
#include "store.h"

typedef enum SeenVerdict
{
	SEEN_NEW,
	SEEN_DUPLICATE,
	SEEN_LATE					/* memory cannot tell */
} SeenVerdict;

/* A click to be judged, and the verdict. */
typedef struct SeenClick
{
	BucketKey	key;
	uint32		row;			/* the caller's number for it */
	SeenVerdict verdict;
} SeenClick;

/* Follow transactions: called once, when the module is loaded. */
extern void seen_install(void);

/*
 * Make the keys of this database ready, loading them from the log if need be.
 * For a tick, which holds STORE_LOCK_TICK, and for a query, which does not.
 * The active snapshot must be the one the state was read with.
 */
extern void seen_prepare_tick(const StoreState *state);
extern void seen_prepare_query(void);

/* The number for the tick about to run; keys of one that failed are forgotten. */
extern int64 seen_begin_tick(const StoreState *state);

/* Judge clicks in order, and remember the new ones for the tick. */
extern void seen_add(SeenClick *clicks, size_t n, int64 tick);

/*
 * Judge clicks as of the snapshot that saw "tick" as the last one; none of
 * them is a copy of another.  Remembers nothing.
 */
extern void seen_judge(SeenClick *clicks, size_t n, int64 tick);

/*
 * Decide the queued clicks of a bucket, in order: "decide" is called for each
 * row with whether it is a duplicate.  Reads what the active snapshot sees.
 */
typedef void (*seen_decide) (TupleTableSlot *slot, const Click *click, bool duplicate, void *arg);
extern void seen_each_late(const StoreState *state, int64 bucket, seen_decide decide, void *arg);

#endif							/* ADCLICK_SEEN_H */
