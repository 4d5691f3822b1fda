/*-------------------------------------------------------------------------
 *
 * retention.c
 *	  Dropping what is older than it is kept: from the ledger, of what is found by
 *	  user and by address, and of what is counted by minute and by day (old_days.c); and then
 *	  combinations of dimensions that nothing uses any more (unused_filters.c).
 *
 * Each of the first two is a shelf that is written to one volume after the other (store.h), which is
 * dropped as a whole when it was last written to so long ago.  Facts by ad stay, and so do
 * all counts by ad.
 *
 * What is found by user and address goes in time, as nothing needs it; up to the last
 * minute that was dropped there can be no more questions about users and addresses.
 *
 * The ledger's keys tell duplicates.  So a volume stays as long as a click can arrive
 * that would need one of its keys, whatever the settings are, and whatever the clock has
 * said; and whether it can has nothing to do with when it arrives: clicks of the time up
 * to the last that was dropped are too old, for ticks and for questions.
 *
 * Where hours are reconciled, a volume of the ledger stays until all of its hours were, after their last
 * clicks; and where there is a directory for it, until it is in a file.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "archive.h"
#include "archive_file.h"
#include "base/adclick.h"
#include "base/definitions.h"
#include "base/shmem.h"
#include "inbox/click.h"
#include "old_days.h"
#include "read/tail.h"
#include "retention.h"
#include "unused_filters.h"

/* Volumes in which a shelf is kept, give or take one: there are two tables more. */
#define VOLUMES_KEPT (SHELF_TABLES - 2)

/* How long the clock must not have been set, and how long after a volume the next is dropped, ms. */
#define CLOCK_TRUSTED (MINS_PER_HOUR * SECS_PER_MINUTE * 1000)
#define DROP_PAUSE (MINS_PER_HOUR * SECS_PER_MINUTE * 1000)

/* Days that are dropped at a time by hand, at most: ticks wait for it. */
#define DAYS_BY_HAND 32

/* How long a dropped volume waits for old snapshots. */
#define PATIENCE USECS_PER_HOUR

/* What is due for so long is worth a warning. */
#define OVERDUE USECS_PER_DAY

/* Of each shelf: what it has, how long that is kept, and the setting that this has to be longer than. */
static const struct
{
	const char *what;
	int		   *minutes;		/* 0: for ever */
	const char *too_short;
}			shelves[SHELVES] =
{
	[SHELF_LEDGER] = {
		"the ledger", &adclick_ledger_retention, "adclick.ledger_retention is too short for adclick.raw_retention"
	},
	[SHELF_PEOPLE] = {
		"users and addresses", &adclick_user_and_ip_retention,
		"adclick.user_and_ip_retention is too short for adclick.future_tolerance"
	},
};

static bool
is_on(Shelf shelf)
{
	return *shelves[shelf].minutes > 0;
}

static TimestampTz
retention(Shelf shelf)
{
	return *shelves[shelf].minutes * USECS_PER_MINUTE;
}

int64
retention_volume_time(Shelf shelf)
{
	return is_on(shelf) ? retention(shelf) / VOLUMES_KEPT : PG_INT64_MAX;
}

/* The longest window in which equal keys are duplicates, us. */
static int64
longest_window(const ClickRules *rules)
{
	int64		longest = Max(rules->dedup.window, adclick_dedup_window);

	for (int i = 0; i < rules->nformer; i++)
		longest = Max(longest, rules->former[i].window);
	return longest * USECS_PER_SEC;
}

/*
 * How long after a click was counted another one can arrive that has the same bucket: a
 * bucket begins a day and a window before its click at most, as an id is believed, and a day
 * after it.
 */
static int64
reach(const ClickRules *rules)
{
	return Max(rules->raw_retention, adclick_raw_retention * USECS_PER_MINUTE) +
		Max(rules->future_tolerance, adclick_future_tolerance * USECS_PER_SEC) +
		2 * USECS_PER_DAY + longest_window(rules);
}

/* How long a volume has to be kept, us; of users and addresses, that questions about the last hour have an answer. */
static int64
least_retention(Shelf shelf, const ClickRules *rules)
{
	return shelf == SHELF_LEDGER ? reach(rules) :
		Max(rules->future_tolerance, adclick_future_tolerance * USECS_PER_SEC) + USECS_PER_HOUR;
}

static bool
is_too_short(Shelf shelf, const ClickRules *rules)
{
	return retention(shelf) < least_retention(shelf, rules);
}

static void
refuse_too_short(Shelf shelf, const ClickRules *rules)
{
	int			least = (int) ((least_retention(shelf, rules) + USECS_PER_MINUTE - 1) / USECS_PER_MINUTE);

	if (is_too_short(shelf, rules))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg_internal("%s", shelves[shelf].too_short),
				 shelf == SHELF_LEDGER ?
				 errdetail("The ledger is kept for %d min, and tells duplicates that may arrive for %d min: adclick.raw_retention, adclick.future_tolerance, the longest dedup window and two days.",
						   adclick_ledger_retention, least) :
				 errdetail("Clicks can be found by user and by address for %d min, and may be ahead of their arrival: with an hour, %d min.",
						   adclick_user_and_ip_retention, least),
				 shelf == SHELF_LEDGER ?
				 errhint("Set adclick.ledger_retention to %d min or more, or lower adclick.raw_retention.", least) :
				 errhint("Set adclick.user_and_ip_retention to %d min or more, or lower adclick.future_tolerance.", least)));
}

/* The last minute that no click which may still arrive, or waits in the inbox, has anything to do with. */
static int64
last_forgettable(const StoreState *state, TimestampTz now)
{
	return minute_of(tail_oldest_valid(state, now) - USECS_PER_DAY - longest_window(&state->rules)) - 1;
}

static bool
is_due(const StoreVolume *volume, TimestampTz now)
{
	return is_on(volume->shelf) && volume->closed_at + retention(volume->shelf) <= now;
}

/* Why a volume that is due stays; NULL: it can go. */
static const char *
why_kept(const StoreVolume *volume, const StoreState *state, TimestampTz now)
{
	TimestampTz hour;
	TimestampTz opened_at;

	(void) store_current_volume(volume->shelf, &opened_at);
	if (is_too_short(volume->shelf, &state->rules))
		return shelves[volume->shelf].too_short;
	if (opened_at > now)
		return "the clock is behind what it was when the last volume was opened";
	if (volume->shelf != SHELF_LEDGER || volume->last_minute == PG_INT64_MIN)
		return NULL;
	if (volume->last_minute > last_forgettable(state, now))
		return psprintf("it has clicks up to %s, of which copies may still arrive",
						minute_text(volume->last_minute));
	hour = store_get_unreconciled(volume->first_minute, volume->last_minute);
	if (hour != DT_NOEND)
		return psprintf("the hour from %s on has not been reconciled since it got its last clicks, or differs",
						timestamptz_to_str(hour));
	if (archive_is_on() && !archive_has(volume->volume))
		return "it has not been archived, see adclick.archive_clicks()";
	return NULL;
}

/* Drop the volumes that are due, no more than "limit"; returns how many. */
static int
drop_volumes(Shelf shelf, const StoreState *state, int limit, RetentionResult *result)
{
	TimestampTz now = GetCurrentTimestamp();
	StoreVolume volume;
	int			dropped = 0;

	while (dropped < limit && store_get_closed_volume(shelf, &volume) && is_due(&volume, now))
	{
		const char *waits = why_kept(&volume, state, now);

		CHECK_FOR_INTERRUPTS();
		if (waits)
		{
			result->waits = waits;
			break;
		}
		result->clicks += store_drop_volume(&volume);
		dropped++;
		CommandCounterIncrement();
		PopActiveSnapshot();
		store_push_snapshot();
	}
	return dropped;
}

/* The last one has been written to for its part of the time. */
static void
open_volume(Shelf shelf, TimestampTz now)
{
	TimestampTz opened_at;

	(void) store_current_volume(shelf, &opened_at);
	if (opened_at <= now && now - opened_at >= retention_volume_time(shelf) && store_open_volume(shelf))
		CommandCounterIncrement();
}

/*
 * With both locks nobody writes to a volume: who began to, before the next one was
 * opened, has ended.
 */
static int
drop(Shelf shelf, int limit, RetentionResult *result)
{
	StoreState	state;
	int			dropped;

	store_claim_all(&state);
	open_volume(shelf, GetCurrentTimestamp());
	PopActiveSnapshot();
	store_push_snapshot();
	dropped = drop_volumes(shelf, &state, limit, result);
	PopActiveSnapshot();
	return dropped;
}

/* Whether there may be something to drop, or a volume to open: without a lock. */
static bool
anything_to_do(Shelf shelf)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz opened_at;
	StoreVolume volume;

	(void) store_current_volume(shelf, &opened_at);
	return now - opened_at >= retention_volume_time(shelf) ||
		(store_get_closed_volume(shelf, &volume) && is_due(&volume, now));
}

/* Whether no volume was dropped for an hour; "last_at" is 0 if none ever was. */
static bool
may_drop(int64 last_at)
{
	return last_at == 0 || steady_ms() - last_at >= DROP_PAUSE;
}

static void
refuse_days(FactOrder order)
{
	StoreState	state;

	store_push_snapshot();
	store_get_state(&state);
	old_days_refuse(order, &state.rules);
	PopActiveSnapshot();
}

/* Settings that do not go together are an error by hand, and else something that the health says. */
static bool
has_work(Shelf shelf, bool by_hand)
{
	StoreState	state;
	bool		has;

	if (!is_on(shelf))
		return false;
	store_push_snapshot();
	store_get_state(&state);
	if (by_hand)
		refuse_too_short(shelf, &state.rules);
	has = !is_too_short(shelf, &state.rules) && anything_to_do(shelf);
	PopActiveSnapshot();
	return has;
}

/* Of days of facts, the minutes, or what sums them up. */
static int
drop_days(FactOrder order, bool by_hand, RetentionResult *result)
{
	static int64 last_at[2];	/* by steady_ms(): of minutes, and of days */
	int64	   *last = &last_at[order == ORDER_DAY];
	const char *waits;
	int			dropped;

	if (by_hand)
		refuse_days(order);
	else if (!may_drop(*last))
		return 0;
	dropped = old_days_drop(order, by_hand ? DAYS_BY_HAND : 1, &waits);
	if (dropped > 0)
		*last = steady_ms();
	if (result->waits == NULL)
		result->waits = waits;	/* days wait for their minutes */
	return dropped;
}

/* Tables of volumes dropped before this transaction. */
static void
empty_volumes(RetentionResult *result)
{
	store_push_snapshot();
	result->emptied = store_empty_volumes(GetCurrentTimestamp() - PATIENCE);
	PopActiveSnapshot();
}

void
retention_apply(bool by_hand, RetentionResult *result)
{
	static int64 last_at[SHELVES];
	bool		clock_is_trusted = shmem_watch_clock() >= CLOCK_TRUSTED;

	memset(result, 0, sizeof(*result));
	for (Shelf shelf = 0; shelf < SHELVES; shelf++)
	{
		int			dropped;

		if (!has_work(shelf, by_hand) || !(by_hand || clock_is_trusted))
			continue;
		dropped = drop(shelf, by_hand ? SHELF_TABLES : may_drop(last_at[shelf]), result);
		if (dropped > 0)
			last_at[shelf] = steady_ms();
		result->dropped += dropped;
	}
	if (by_hand || clock_is_trusted)
	{
		result->minutes_dropped = drop_days(ORDER_AD, by_hand, result);
		result->days_dropped = drop_days(ORDER_DAY, by_hand, result);
	}
	if (by_hand || result->dropped + result->minutes_dropped + result->days_dropped > 0)
		unused_filters_end();
	/* at the end: who holds the lock of a table waits for no other */
	empty_volumes(result);
}

/* Why a shelf has what should be gone; NULL: it has not. */
static const char *
why_overdue(Shelf shelf, const StoreState *state, TimestampTz now)
{
	StoreVolume volume;

	if (!is_on(shelf))
		return NULL;
	if (is_too_short(shelf, &state->rules))
		return shelves[shelf].too_short;
	if (store_get_closed_volume(shelf, &volume) && is_due(&volume, now - OVERDUE))
		return why_kept(&volume, state, now);
	return NULL;
}

const char *
retention_overdue(const StoreState *state)
{
	TimestampTz now = GetCurrentTimestamp();
	const char *why;

	for (Shelf shelf = 0; shelf < SHELVES; shelf++)
	{
		why = why_overdue(shelf, state, now);
		if (why)
			return psprintf("retention of %s waits: %s", shelves[shelf].what, why);
	}
	why = old_days_overdue(ORDER_AD, state, now);
	if (why)
		return psprintf("retention of minutes waits: %s", why);
	why = old_days_overdue(ORDER_DAY, state, now);
	if (why)
		return psprintf("retention of days waits: %s", why);
	if (store_dropped_since() < now - OVERDUE)
		return "retention waits: the table of a volume that was dropped has not been emptied";
	return NULL;
}
