/*-------------------------------------------------------------------------
 *
 * old_days.c
 *	  Dropping minutes, and days, of facts by ad that are older than they are kept.
 *
 * See old_days.h.  What order ad has of a day (UTC), its minutes and hours, goes as a whole, and what
 * order day has of it stays, which is the same by day.  Later that goes, too.  Up to the last
 * minute that was dropped no click counts any more, whatever the settings are then: so nothing comes to
 * a day behind its sums.
 *
 * A day stays as long as a click of it can still be valid, as one of its facts is in a delta, as its
 * sums are not what its hours have, and, where hours are reconciled, until its hours were.
 * Compaction folds in what deltas have of days that are due.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "old_days.h"
#include "read/tail.h"

#define MINUTES_TOO_SHORT "adclick.minute_retention is too short for adclick.raw_retention"
#define DAYS_TOO_SHORT "adclick.day_retention is too short for adclick.minute_retention"

/* How long they are kept, min; 0: for ever. */
static int
retention(FactOrder order)
{
	return order == ORDER_AD ? adclick_minute_retention : adclick_day_retention;
}

/* How long minutes have to be kept: as long as clicks may come to them, and a day, in which they are summed up and reconciled. */
static int
least_minutes(const ClickRules *rules)
{
	int64		late = Max(rules->raw_retention, adclick_raw_retention * USECS_PER_MINUTE);
	int64		ahead = Max(rules->future_tolerance, adclick_future_tolerance * USECS_PER_SEC);

	return (int) ((late + ahead + USECS_PER_DAY + USECS_PER_MINUTE - 1) / USECS_PER_MINUTE);
}

/* That the settings do not go together; NULL: they do. */
static const char *
too_short(FactOrder order, const ClickRules *rules)
{
	if (order == ORDER_AD)
		return adclick_minute_retention < least_minutes(rules) ? MINUTES_TOO_SHORT : NULL;
	return adclick_minute_retention == 0 || adclick_day_retention < adclick_minute_retention ? DAYS_TOO_SHORT : NULL;
}

void
old_days_refuse(FactOrder order, const ClickRules *rules)
{
	const char *problem = retention(order) > 0 ? too_short(order, rules) : NULL;

	if (problem == NULL)
		return;
	if (order == ORDER_AD)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_internal("%s", problem),
				 errdetail("Minutes are kept for %d min, and needed for %d min: adclick.raw_retention, adclick.future_tolerance and a day.",
						   adclick_minute_retention, least_minutes(rules)),
				 errhint("Set adclick.minute_retention to %d min or more, or lower adclick.raw_retention.", least_minutes(rules))));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg_internal("%s", problem),
			 adclick_minute_retention == 0 ?
			 errdetail("Days are kept for %d min, and their minutes for ever.", adclick_day_retention) :
			 errdetail("Days are kept for %d min, and their minutes for %d min.", adclick_day_retention, adclick_minute_retention),
			 adclick_minute_retention == 0 ?
			 errhint("Set adclick.minute_retention to %d min or less.", adclick_day_retention) :
			 errhint("Set adclick.day_retention to %d min or more, or lower adclick.minute_retention.", adclick_minute_retention)));
}

int64
old_days_kept_from(FactOrder order, TimestampTz now)
{
	int			minutes = retention(order);

	return minutes == 0 ? FIRST_MINUTE : Max(day_of(minute_of(now) - minutes), FIRST_MINUTE);
}

/* The first day that there is, if it is due; LAST_MINUTE if not. */
static int64
first_due(FactOrder order, TimestampTz now)
{
	int64		day = store_get_first_day(order);

	return day < old_days_kept_from(order, now) ? day : LAST_MINUTE;
}

/* Why minutes of a day stay that are due. */
static const char *
why_minutes_kept(int64 day, const StoreState *state, TimestampTz now)
{
	int64		last = day + MINS_PER_DAY - 1;
	int64		of_hours;
	int64		of_day;
	TimestampTz hour;

	if (last >= minute_of(tail_oldest_valid(state, now)))
		return psprintf("clicks of the day from %s on may still arrive, or wait in adclick.clicks", minute_text(day));
	if (!store_get_day_sums(day, &of_hours, &of_day))
		return psprintf("the day from %s on has not been summed up", minute_text(day));
	if (of_hours != of_day)
		return psprintf("the sums of the day from %s on are not those of its hours, see adclick.reconcile()", minute_text(day));
	hour = store_get_unreconciled(day, last);
	if (hour != DT_NOEND)
		return psprintf("the hour from %s on has not been reconciled since it got its last clicks, or differs",
						timestamptz_to_str(hour));
	return NULL;
}

/* Why a day that is due stays; NULL: it can go. */
static const char *
why_kept(FactOrder order, int64 day, const StoreState *state, TimestampTz now)
{
	const char *problem = too_short(order, &state->rules);

	if (problem)
		return problem;
	if (state->ticked_at > now)
		return "the clock is behind what it was at the last tick";
	if (store_has_deltas_until(order, day + MINS_PER_DAY - 1))
		return psprintf("late clicks of the day from %s on, or of earlier ones, have not been packed", minute_text(day));
	if (order == ORDER_AD)
		return why_minutes_kept(day, state, now);
	return day > state->minutes_dropped_until ? psprintf("the day from %s on still has minutes", minute_text(day)) : NULL;
}

static int
drop_days(FactOrder order, int limit, const char **waits)
{
	TimestampTz now = GetCurrentTimestamp();
	int			dropped = 0;
	int64		day;

	while ((day = first_due(order, now)) != LAST_MINUTE)
	{
		StoreState	state;

		CHECK_FOR_INTERRUPTS();
		store_get_state(&state);
		*waits = dropped < limit ? why_kept(order, day, &state, now) :
			"more days are due than are dropped at a time";
		if (*waits)
			break;
		store_drop_day(order, day);
		dropped++;
		CommandCounterIncrement();
		PopActiveSnapshot();
		store_push_snapshot();
	}
	return dropped;
}

int
old_days_drop(FactOrder order, int limit, const char **waits)
{
	StoreState	state;
	TimestampTz now = GetCurrentTimestamp();
	bool		found;
	int			dropped;

	*waits = NULL;
	if (retention(order) == 0)
		return 0;
	store_push_snapshot();
	found = first_due(order, now) != LAST_MINUTE;
	PopActiveSnapshot();
	if (!found)
		return 0;
	store_claim_all(&state);
	dropped = drop_days(order, limit, waits);
	PopActiveSnapshot();
	return dropped;
}

const char *
old_days_overdue(FactOrder order, const StoreState *state, TimestampTz now)
{
	const char *problem = retention(order) > 0 ? too_short(order, &state->rules) : NULL;
	int64		day;

	if (retention(order) == 0 || problem)
		return problem;
	day = first_due(order, now - USECS_PER_DAY);
	return day == LAST_MINUTE ? NULL : why_kept(order, day, state, now);
}
