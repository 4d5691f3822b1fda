/*-------------------------------------------------------------------------
 *
 * clickers.h
 *	  How many counted clicks users and addresses have in a minute: in shared memory.
 *
 * A cache of what counts.h finds, up to the limits in force.  It lies in the dedup set, in
 * a space of its own: the n-th counted click of a clicker is a key there, in the bucket of
 * its minute, with the number of its tick.  So that a tick is rolled back, that a bucket is dropped for
 * want of room, and what an older snapshot sees of it are the same as for the keys
 * of clicks.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_CLICKERS_H
#define ADCLICK_CLICKERS_H

#include "postgres.h"

#include "counts.h"
#include "store/store.h"

/* Make those known that memory can tell, as of a state. */
extern void clickers_recall(Clicker *clickers, size_t n, const StoreState *state);

/* Remember what a tick has added. */
extern void clickers_remember(const Clicker *clickers, size_t n, int64 tick);

/*
 * Begin with none in memory; load what the active snapshot sees from a minute on, once more
 * perhaps, as of a tick; and say that this is all.
 */
extern void clickers_begin(const ClickRules *rules, int64 floor);
extern void clickers_load(const ClickRules *rules, int64 from, int64 tick);
extern void clickers_loaded(int64 tick);

/* From now on nothing can be told. */
extern void clickers_forget(void);

/* Of minutes up to this one that are not in memory nothing is known. */
extern void clickers_raise_floor(int64 minute);

/* Whether memory counts up to these limits, and knows no minute of which the store has not all. */
extern bool clickers_are_ready(const ClickRules *rules);

#endif							/* ADCLICK_CLICKERS_H */
