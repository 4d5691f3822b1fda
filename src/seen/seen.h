/*-------------------------------------------------------------------------
 *
 * seen.h
 *	  The keys of clicks already seen, in this database: dedup in shared memory.
 *
 * A bucket whose keys are all in memory decides a click at once.  For one that
 * left memory, or was not loaded after a restart, the stored keys are asked.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SEEN_H
#define ADCLICK_SEEN_H

#include "postgres.h"

#include "keys.h"
#include "store/store.h"

/* Follow transactions: called once, when the module is loaded. */
extern void seen_install(void);

/* Know no key: those stored become others.  Who calls holds STORE_LOCK_TICK to the end. */
extern void seen_forget(void);

/*
 * Make the keys of this database ready, loading them if need be, for a tick, which
 * holds STORE_LOCK_TICK.  The active snapshot must be the one the state was read
 * with.
 */
extern void seen_prepare_tick(StoreState *state);

/* The number for the tick about to run; keys of one that failed are forgotten. */
extern int64 seen_begin_tick(const StoreState *state);

/* Judge clicks in order, and remember the new ones for the tick.  Some may stay undecided. */
extern void seen_add(SeenClick *clicks, size_t n, int64 tick);

/*
 * Judge clicks as of the active snapshot, with which the state was read; none of
 * them is a copy of another.  Remembers nothing.
 */
extern void seen_judge(SeenClick *clicks, size_t n, const StoreState *state);

/*
 * The same without counting any: judge different keys by what was counted before, as of the
 * active snapshot, with which the state was read; and remember those of a tick that count.
 * Questions have the memory made ready before.
 */
extern void seen_prepare_question(void);
extern void seen_judge_before(SeenClick *keys, size_t n, const StoreState *state, bool may_stay_undecided);
extern void seen_remember(SeenClick *keys, size_t n, int64 tick);

/* A click by a key of another rule than its own. */
typedef struct FormerClick
{
	SeenClick	click;
	uint32		before;			/* how many clicks before it have a key by their own rule */
} FormerClick;

/* Some of them, several of one click perhaps. */
typedef struct FormerClicks
{
	size_t		n;
	size_t		room;
	bool		met_other;		/* a click by id, where the rule in force is another */
	FormerClick *clicks;
} FormerClicks;

/* Note all such keys of a click in the slot. */
extern void seen_note_former(FormerClicks *former, TupleTableSlot *slot, const Click *click,
							 const ClickRules *rules, uint32 row, size_t before);

/*
 * Which of them does the active snapshot, with which the state was read, see as counted?
 * Others stay SEEN_UNKNOWN.  "in_tick": memory was prepared for it, and some may stay undecided.
 */
extern void seen_judge_former(FormerClicks *former, const StoreState *state, bool in_tick);

/* Whether it is not known to be counted, and this is an id by which another click may be counted beside it. */
extern bool seen_may_be_beside(const FormerClick *former, const ClickRules *rules);

/*
 * Which of those come after a click that has their key by its own rule?  "keys" are the
 * clicks by these, in order; those whose verdict is known are none.  (Not where clicks are limited, see limits.h:
 * one that has the key may be in excess.)
 */
extern void seen_judge_beside(FormerClicks *former, const SeenClick *keys, size_t nkeys, const ClickRules *rules);

#endif							/* ADCLICK_SEEN_H */
