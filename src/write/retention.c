/*-------------------------------------------------------------------------
 *
 * retention.c
 *	  Dropping from the ledger what is older than it is kept.
 *
 * The ledger is written to one volume after the other (store.h), which is dropped as a
 * whole when it was last written to so long ago.  Facts stay, and so do all counts.
 *
 * The ledger's keys tell duplicates.  So a volume stays as long as a click can arrive
 * that would need one of its keys, whatever the settings are, and whatever the clock has
 * said; and whether it can has nothing to do with when it arrives: clicks of the time up
 * to the last that was dropped are too old, for ticks and for questions.
 *
 * Where hours are reconciled, a volume stays until all of its hours were, after their last
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
#include "read/tail.h"
#include "retention.h"

/* Volumes in which the ledger is kept, give or take one: there are two tables more. */
#define VOLUMES_KEPT (LEDGER_TABLES - 2)

/* How long the clock must not have been set, and how long after a volume the next is dropped, ms. */
#define CLOCK_TRUSTED (MINS_PER_HOUR * SECS_PER_MINUTE * 1000)
#define DROP_PAUSE (MINS_PER_HOUR * SECS_PER_MINUTE * 1000)

/* How long a dropped volume waits for old snapshots. */
#define PATIENCE USECS_PER_HOUR

/* What is due for so long is worth a warning. */
#define OVERDUE USECS_PER_DAY

static TimestampTz
retention(void)
{
	return adclick_ledger_retention * USECS_PER_MINUTE;
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

static bool
is_too_short(const ClickRules *rules)
{
	return retention() < reach(rules);
}

static void
refuse_too_short(const ClickRules *rules)
{
	int			least = (int) ((reach(rules) + USECS_PER_MINUTE - 1) / USECS_PER_MINUTE);

	if (is_too_short(rules))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("adclick.ledger_retention is too short for adclick.raw_retention"),
				 errdetail("The ledger is kept for %d min, and tells duplicates that may arrive for %d min: adclick.raw_retention, adclick.future_tolerance, the longest dedup window and two days.",
						   adclick_ledger_retention, least),
				 errhint("Set adclick.ledger_retention to %d min or more, or lower adclick.raw_retention.", least)));
}

/* The last minute that no click which may still arrive, or waits in the inbox, has anything to do with. */
static int64
last_forgettable(const StoreState *state, TimestampTz now)
{
	const ClickRules *rules = &state->rules;
	TimestampTz received_at;
	TimestampTz oldest;

	if (tail_rows(state->tick, INBOX_TO_ASK, &received_at) == 0)
		received_at = now;
	oldest = Min(received_at, now) - Max(rules->raw_retention, adclick_raw_retention * USECS_PER_MINUTE);
	return minute_of(oldest - USECS_PER_DAY - longest_window(rules)) - 1;
}

static bool
is_due(const StoreVolume *volume, TimestampTz now)
{
	return adclick_ledger_retention > 0 && volume->closed_at + retention() <= now;
}

/* Why a volume that is due stays; NULL: it can go. */
static const char *
why_kept(const StoreVolume *volume, const StoreState *state, TimestampTz now)
{
	TimestampTz hour;
	TimestampTz opened_at;

	(void) store_current_volume(&opened_at);
	if (is_too_short(&state->rules))
		return "adclick.ledger_retention is too short for adclick.raw_retention";
	if (opened_at > now)
		return "the clock is behind what it was when the last volume was opened";
	if (volume->last_minute == PG_INT64_MIN)
		return NULL;
	if (volume->last_minute > last_forgettable(state, now))
		return psprintf("it has clicks up to %s, of which copies may still arrive",
						timestamptz_to_str(volume->last_minute * USECS_PER_MINUTE));
	hour = store_get_unreconciled(volume->first_minute, volume->last_minute);
	if (hour != DT_NOEND)
		return psprintf("the hour from %s on has not been reconciled since it got its last clicks, or differs",
						timestamptz_to_str(hour));
	if (archive_is_on() && !archive_has(volume->volume))
		return "it has not been archived, see adclick.archive_clicks()";
	return NULL;
}

/* Drop the volumes that are due, no more than "limit". */
static void
drop_volumes(const StoreState *state, int limit, RetentionResult *result)
{
	TimestampTz now = GetCurrentTimestamp();
	StoreVolume volume;

	while (result->dropped < limit && store_get_closed_volume(&volume) && is_due(&volume, now))
	{
		CHECK_FOR_INTERRUPTS();
		result->waits = why_kept(&volume, state, now);
		if (result->waits)
			return;
		result->clicks += store_drop_volume(&volume);
		result->dropped++;
		CommandCounterIncrement();
		PopActiveSnapshot();
		store_push_snapshot();
	}
}

/* The last one has been written to for its part of the time. */
static void
open_volume(TimestampTz now)
{
	TimestampTz opened_at;

	(void) store_current_volume(&opened_at);
	if (opened_at <= now && now - opened_at >= retention() / VOLUMES_KEPT && store_open_volume())
		CommandCounterIncrement();
}

/*
 * With both locks nobody writes to the ledger: who began to, before the next volume was
 * opened, has ended.
 */
static void
drop(int limit, RetentionResult *result)
{
	StoreState	state;

	store_lock(STORE_LOCK_COMPACTION);
	store_lock(STORE_LOCK_TICK);
	store_push_snapshot();
	store_claim_compaction();
	store_get_state(&state);
	store_claim_tick(&state);
	open_volume(GetCurrentTimestamp());
	PopActiveSnapshot();
	store_push_snapshot();
	drop_volumes(&state, limit, result);
	PopActiveSnapshot();
}

/* Whether there may be something to drop, or a volume to open: without a lock. */
static bool
anything_to_do(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz opened_at;
	StoreVolume volume;

	(void) store_current_volume(&opened_at);
	return now - opened_at >= retention() / VOLUMES_KEPT || (store_get_closed_volume(&volume) && is_due(&volume, now));
}

/* Whether no volume was dropped for an hour; "last_at" is 0 if none ever was. */
static bool
may_drop(int64 last_at)
{
	return last_at == 0 || steady_ms() - last_at >= DROP_PAUSE;
}

/* Settings that do not go together are an error by hand, and else something that the health says. */
static bool
has_work(bool by_hand)
{
	StoreState	state;
	bool		has;

	if (adclick_ledger_retention == 0)
		return false;
	store_push_snapshot();
	store_get_state(&state);
	if (by_hand)
		refuse_too_short(&state.rules);
	has = !is_too_short(&state.rules) && anything_to_do();
	PopActiveSnapshot();
	return has;
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
	static int64 last_at = 0;
	bool		clock_is_trusted = shmem_watch_clock() >= CLOCK_TRUSTED;

	memset(result, 0, sizeof(*result));
	empty_volumes(result);
	if (!has_work(by_hand) || !(by_hand || clock_is_trusted))
		return;
	drop(by_hand ? LEDGER_TABLES : may_drop(last_at), result);
	if (result->dropped > 0)
		last_at = steady_ms();
}

const char *
retention_overdue(const StoreState *state)
{
	TimestampTz now = GetCurrentTimestamp();
	StoreVolume volume;

	if (adclick_ledger_retention > 0 && is_too_short(&state->rules))
		return "adclick.ledger_retention is too short for adclick.raw_retention";
	if (store_dropped_since() < now - OVERDUE)
		return "a transaction uses the table of a volume that was dropped";
	if (store_get_closed_volume(&volume) && is_due(&volume, now - OVERDUE))
		return why_kept(&volume, state, now);
	return NULL;
}
