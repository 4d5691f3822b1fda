/*-------------------------------------------------------------------------
 *
 * horizon.c
 *	  How far back counts by ad are kept: what a question may ask for.
 *
 * See horizon.h.  The state that the snapshot sees says it, as it sees the runs.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"


#include "base/adclick.h"
#include "horizon.h"

/* Whether a window has all minutes of the days that it has of those up to a minute, which ends one. */
static bool
has_whole_days(int64 from, int64 to, int64 until)
{
	return (from == FIRST_MINUTE || day_of(from) == from) && (to > until || day_of(to) == to);
}

void
horizon_require(const StoreState *state, int64 from, int64 to, bool by_minute)
{
	if (from >= to || from > state->minutes_dropped_until)
		return;
	if (from <= state->days_dropped_until)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clicks of this window are not all kept"),
				 errdetail("Days up to %s have been dropped, as adclick.day_retention says.", minute_text(state->days_dropped_until)),
				 errhint("Ask from %s on.", minute_text(state->days_dropped_until + 1))));
	if (by_minute || !has_whole_days(from, to, state->minutes_dropped_until))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clicks of this window are not all kept by minute and by hour"),
				 errdetail("Minutes and hours up to %s have been dropped, as adclick.minute_retention says.",
						   minute_text(state->minutes_dropped_until)),
				 errhint("Ask from %s on, or by whole days (UTC).", minute_text(state->minutes_dropped_until + 1))));
}
