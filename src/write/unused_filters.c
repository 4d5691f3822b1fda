/*-------------------------------------------------------------------------
 *
 * unused_filters.c
 *	  Ending combinations of dimensions that no stored click has any more.
 *
 * See unused_filters.h.  A row of adclick.filters has the last day (UTC) of a click that came with
 * it, and a run its first minute, before which none of its facts lies, in any order.  So what is
 * before the first minute of all runs is used by none of them.  It may be used for longer by a
 * snapshot from before something was dropped, which sees the row as well; and by a click that comes
 * again, which gets a row of its own.
 *
 * With the locks of ticks and compaction, and that of bringing clicks back, nobody writes a run
 * meanwhile that this does not see.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/snapmgr.h"

#include "base/adclick.h"
#include "store/store.h"
#include "unused_filters.h"

/* The first day of which there is a fact; clicks may have come back, or gone again, since the active snapshot was taken. */
static int64
first_day_stored(void)
{
	int64		first = store_get_first_minute();

	store_push_newest();
	first = Min(first, store_get_first_minute());
	PopActiveSnapshot();
	return day_of(first);
}

/* Whether there may be some, without a lock; facts by ad, which mostly are kept longest, are looked at first. */
static bool
some_are_unused(void)
{
	int64		first = store_get_first_last_day();

	return first < LAST_MINUTE && first < store_get_first_day(ORDER_AD) &&
		first < store_get_first_day(ORDER_DAY) && first < first_day_stored();
}

void
unused_filters_end(void)
{
	StoreState	state;
	bool		found;

	CommandCounterIncrement();
	store_push_snapshot();
	found = some_are_unused();
	PopActiveSnapshot();
	if (!found)
		return;
	store_claim_all(&state);
	if (store_try_lock(STORE_LOCK_RESTORED))
		store_end_combinations(first_day_stored());
	PopActiveSnapshot();
}
