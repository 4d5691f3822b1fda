/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  What to merge next, of orders ad and day.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_PLAN_H
#define ADCLICK_PLAN_H

#include "postgres.h"

#include "merge.h"
#include "store/store.h"

/* What steps are planned by. */
typedef struct Planning
{
	bool		everything;		/* as in compact_run */
	int64		closed;			/* minutes before this one are closed ... */
	int64		settled;		/* ... and hours before this minute are settled */
	int64		leaving[2];		/* of order ad, and day: nothing before this minute is to wait in deltas */
	const StoreLeftOut *left_out;
} Planning;

/* A step of a round: what it merges, or NULL. */
typedef Merge *(*PlanStep) (const Planning *p);

/* The steps, in their order; those of days only where none before had anything to do. */
#define PLAN_STEPS 5
#define FIRST_STEP_OF_DAYS 3

extern const PlanStep plan_steps[PLAN_STEPS];

/* A merge was made: what had been left as it is may have somewhere to go to now. */
extern void plan_look_again(const Merge *m);

/* Look at all anew. */
extern void plan_forget(void);

/* The same, if it was long ago. */
extern void plan_forget_in_time(void);

#endif							/* ADCLICK_PLAN_H */
