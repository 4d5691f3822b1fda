/*-------------------------------------------------------------------------
 *
 * tick.h
 *	  A tick: one transaction that takes committed clicks from the inbox.
 *

 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_TICK_H
#define ADCLICK_TICK_H

#include "postgres.h"

#include "inbox/click.h"

typedef struct TickResult
{
	int64		tick;			/* its number; 0: there was nothing to take */
	int64		rows_read;
	int64		verdicts[CLICK_VERDICTS];	/* of so many of them */
	bool		more;			/* the tail did not fit one tick */
} TickResult;

extern void tick_install(void);

/* Take what there is, up to a bound, in the current transaction. */
extern void tick_run(TickResult *result);

#endif							/* ADCLICK_TICK_H */
