/*-------------------------------------------------------------------------
 *
 * status.c
 *	  The SQL functions behind the view adclick.status and adclick.health(), and the
 *	  check of the books.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "base/shmem.h"
#include "read/ledger.h"
#include "read/tail.h"
#include "store/store.h"
#include "store/store_sources.h"
#include "write/retention.h"

/* A reader of log files is missed after this, ms. */
#define MISSING_MS (30 * 1000)

/* Crashes are counted that are no longer ago than this, ms. */
#define CRASHES_WITHIN (60 * 60 * 1000)

PG_FUNCTION_INFO_V1(adclick_workers);
PG_FUNCTION_INFO_V1(adclick_worker);
PG_FUNCTION_INFO_V1(adclick_examine);

static Datum
seconds(int64 ms)
{
	return Float8GetDatum((double) Max(ms, 0) / 1000);
}

/* A second, of the minute that ended last. */
static Datum
clicks_per_second(void)
{
	double		clicks = store_count_clicks(minute_of(GetCurrentTimestamp()) - 1);

	return Float8GetDatum(clicks / SECS_PER_MINUTE);
}

/* The last minute that was dropped, of something; none was: NULL. */
static Datum
horizon_time(int64 dropped_until, bool *isnull)
{
	*isnull = dropped_until == PG_INT64_MIN;
	return TimestampTzGetDatum(*isnull ? 0 : dropped_until * USECS_PER_MINUTE);
}

static Datum
progress(FunctionCallInfo fcinfo, Oid asker)
{
	StoreState	state;
	TimestampTz oldest;
	int64		rows;
	bool		nulls[24];
	Datum		values[24];

	memset(nulls, true, sizeof(nulls));
	/* the status tells the error of the workers then, and the health what is the matter */
	if (!definitions_are_right() || store_in_restore())
		return make_row(fcinfo, values, nulls);
	store_get_state(&state);
	rows = tail_rows(state.tick, INBOX_TO_ASK, &oldest);
	memset(nulls, false, sizeof(nulls));
	values[0] = Int64GetDatum(rows);
	values[1] = TimestampTzGetDatum(oldest);
	nulls[1] = rows == 0;
	values[2] = Int64GetDatum(state.tick);
	values[3] = TimestampTzGetDatum(state.ticked_at);
	nulls[3] = state.ticked_at == DT_NOBEGIN;
	values[4] = Int64GetDatum(state.rows_read);
	values[5] = Int64GetDatum(state.verdicts[CLICK_VALID]);
	values[6] = Int64GetDatum(state.verdicts[CLICK_IN_FUTURE]);
	values[7] = Int64GetDatum(state.verdicts[CLICK_TOO_OLD]);
	values[8] = Int64GetDatum(state.verdicts[CLICK_DUPLICATE]);
	values[9] = Int64GetDatum(state.verdicts[CLICK_UNDECIDED]);
	values[10] = Int64GetDatum(state.verdicts[CLICK_FORGED]);
	values[11] = Int64GetDatum(state.verdicts[CLICK_EXPIRED]);
	values[12] = Int64GetDatum(state.verdicts[CLICK_USER_LIMIT]);
	values[13] = Int64GetDatum(state.verdicts[CLICK_ADDRESS_LIMIT]);
	values[14] = Int64GetDatum(store_count_open_minutes());
	values[15] = Int64GetDatum(store_combinations().n);
	values[16] = Int64GetDatum(state.late);
	values[17] = clicks_per_second();
	values[18] = Int64GetDatum(state.dropped);
	values[19] = horizon_time(state.dropped_until, &nulls[19]);
	values[20] = horizon_time(state.people_dropped_until, &nulls[20]);
	values[21] = Int64GetDatum(state.discarded_dropped);
	values[22] = horizon_time(state.minutes_dropped_until, &nulls[22]);
	values[23] = horizon_time(state.days_dropped_until, &nulls[23]);
	return make_row(fcinfo, values, nulls);
}

/*
 * Every click that was taken is in one place, and in the facts, if the ticks and what
 * came after them did as they should.
 */
static bool
is_balanced(const StoreState *state, const LedgerTotals *ledger, const StoreSetAside *rows)
{
	int64		counted = state->verdicts[CLICK_VALID];
	int64		set_aside = 0;
	int64		dropped = 0;

	for (ClickVerdict verdict = CLICK_VALID + 1; verdict < CLICK_VERDICTS; verdict++)
	{
		if (state->verdicts[verdict] != rows->verdicts[verdict] + rows->dropped[verdict])
			return false;
		set_aside += state->verdicts[verdict];
		dropped += rows->dropped[verdict];
	}
	return rows->unknown == 0 && dropped == state->discarded_dropped && state->rows_read == counted + set_aside &&
		counted == ledger->packed + ledger->unpacked + state->dropped && counted == ledger->facts + state->minutes_dropped &&
		state->minutes_dropped == ledger->days + state->days_dropped &&
		ledger->unpacked == rows->verdicts[CLICK_VALID] && store_count_wrong_days() == 0;
}

/* All is read in the active snapshot. */
static Datum
check_ledger(FunctionCallInfo fcinfo, Oid asker)
{
	StoreState	state;
	LedgerTotals ledger;
	StoreSetAside rows;
	TimestampTz oldest;
	bool		nulls[8] = {false};
	Datum		values[8];

	store_get_state(&state);
	ledger_count(state.minutes_dropped_until, &ledger);
	store_count_set_aside(&rows);
	values[0] = Int64GetDatum(state.rows_read);
	values[1] = Int64GetDatum(state.verdicts[CLICK_VALID]);
	values[2] = Int64GetDatum(state.verdicts[CLICK_DUPLICATE]);
	values[3] = Int64GetDatum(clicks_discarded(state.verdicts));
	values[4] = Int64GetDatum(tail_rows(state.tick, INBOX_TO_CHECK, &oldest));
	values[5] = Int64GetDatum(ledger.packed + rows.verdicts[CLICK_VALID]);
	values[6] = Int64GetDatum(state.dropped);
	values[7] = BoolGetDatum(is_balanced(&state, &ledger, &rows));
	return make_row(fcinfo, values, nulls);
}

Datum
adclick_workers(PG_FUNCTION_ARGS)
{
	DatabaseSlot *mine = shmem_my_slot();
	DatabaseSlot slot;
	bool		nulls[11];
	Datum		values[11];

	LWLockAcquire(shmem->lock, LW_SHARED);
	slot = *mine;
	LWLockRelease(shmem->lock);

	/* one that only asks whether it is wanted is none */
	for (int kind = 0; kind < WORKER_KINDS; kind++)
		if (!slot.at_work[kind])
			slot.worker_pid[kind] = 0;
	values[0] = Int32GetDatum((slot.worker_pid[WORKER_AGGREGATOR] != 0) +
							  (slot.worker_pid[WORKER_COMPACTOR] != 0) + (slot.worker_pid[WORKER_READER] != 0));
	values[1] = Int32GetDatum(RecoveryInProgress() ? 0 : shmem_workers_wanted(&slot));
	values[2] = Int32GetDatum(slot.worker_pid[WORKER_AGGREGATOR]);
	values[3] = Int32GetDatum(slot.worker_pid[WORKER_COMPACTOR]);
	values[4] = CStringGetTextDatum(slot.last_error);
	values[5] = TimestampTzGetDatum(slot.last_error_at);
	LWLockAcquire(shmem->dedup_lock, LW_SHARED);
	values[6] = Int64GetDatum(dedup_bytes_used(shmem_dedup, MyDatabaseId));
	values[7] = Int64GetDatum(dedup_keys(shmem_dedup, MyDatabaseId));
	LWLockRelease(shmem->dedup_lock);
	values[8] = Int64GetDatum(slot.errors);
	values[9] = seconds(slot.last_tick_ms);
	values[10] = seconds(slot.worst_tick_ms);
	memset(nulls, false, sizeof(nulls));
	nulls[2] = slot.worker_pid[WORKER_AGGREGATOR] == 0;
	nulls[3] = slot.worker_pid[WORKER_COMPACTOR] == 0;
	nulls[4] = nulls[5] = slot.last_error_at == 0;
	nulls[9] = nulls[10] = slot.last_tick_ms == 0;
	return make_row(fcinfo, values, nulls);
}

static Datum
text_of_error(const ErrorData *error)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, error->message ? error->message : "unknown error");
	if (error->detail)
		appendStringInfo(&text, " (%s)", error->detail);
	return CStringGetTextDatum(text.data);
}

/* What adclick.health() asks the tables. */
typedef struct Findings
{
	int64		waiting;
	TimestampTz oldest;
	int64		combinations;
	int64		unreconciled;
	const char *retention;		/* that it waits, and why; NULL: it does not */
	const char *sources;		/* that log files are not read, and why; NULL: they are */
} Findings;

static const char *find_unread_sources(void);

/* As a tick finds them: an error if it cannot work with them. */
static void
look_at_tables(void *arg)
{
	Findings   *findings = arg;
	StoreState	state;
	Caller		caller;

	(void) shmem_my_slot();
	privileges_become_owner(&caller);
	definitions_check();
	store_get_state(&state);
	if (store_in_restore())
		store_refuse_in_restore();
	findings->waiting = tail_rows(state.tick, INBOX_TO_ASK, &findings->oldest);
	findings->combinations = store_combinations().n;
	findings->unreconciled = store_count_unreconciled();
	findings->retention = retention_overdue(&state);
	findings->sources = find_unread_sources();
	privileges_become_caller(&caller);
}

/* What has nothing to do with the tables ends the question, too. */
static void
rethrow_unless_found(ErrorData *error)
{
	if (error == NULL || error->sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
		return;					/* there is no slot for this database */
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
		ThrowErrorData(error);
}

/* The error that keeps from reading the tables; or how many clicks wait there, for how long, and combinations. */
Datum
adclick_examine(PG_FUNCTION_ARGS)
{
	Findings	findings;
	bool		nulls[8] = {true, true, true, true, true, true, true, true};
	Datum		values[8];
	ErrorData  *error = attempt(look_at_tables, &findings);

	rethrow_unless_found(error);
	if (error)
	{
		values[0] = text_of_error(error);
		values[1] = BoolGetDatum(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE);
		nulls[0] = nulls[1] = false;
		return make_row(fcinfo, values, nulls);
	}
	memset(nulls + 2, false, 4);
	values[2] = Int64GetDatum(findings.waiting);
	values[3] = seconds(findings.waiting > 0 ? (GetCurrentTimestamp() - findings.oldest) / USECS_PER_MSEC : 0);
	values[4] = Int64GetDatum(findings.combinations);
	values[5] = Int64GetDatum(findings.unreconciled);
	if (findings.retention)
	{
		values[6] = CStringGetTextDatum(findings.retention);
		nulls[6] = false;
	}
	if (findings.sources)
	{
		values[7] = CStringGetTextDatum(findings.sources);
		nulls[7] = false;
	}
	return make_row(fcinfo, values, nulls);
}

/* For how long a worker that should run does not; -1: it does, or should not. */
static int64
missing_ms(const DatabaseSlot *slot, WorkerKind kind)
{
	if (RecoveryInProgress() || shmem_rests(slot) ||
		(slot->worker_pid[kind] != 0 && slot->at_work[kind]))
		return -1;
	return steady_ms() - Max(slot->asked_at, slot->ended_at[kind]);
}

/* How much longer ago that was than the pause between two rounds; at most since workers are wanted. */
static int64
overdue_ms(const DatabaseSlot *slot, int64 at)
{
	return steady_ms() - Max(slot->asked_at, at) - adclick_tick_interval;
}

/* A copy of the slot, if there is one; a standby awaits its workers from now on at the earliest. */
static bool
look_at_slot(DatabaseSlot *slot)
{
	DatabaseSlot *mine;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	mine = shmem_slot(MyDatabaseId, false);
	if (mine && RecoveryInProgress())
		mine->asked_at = steady_ms();
	if (mine)
		*slot = *mine;
	LWLockRelease(shmem->lock);
	return mine != NULL;
}

/* The reader is missing, or a source has an error. */
static const char *
find_unread_sources(void)
{
	DatabaseSlot slot;
	int64		missing;

	if (!store_has_sources())
		return NULL;
	missing = look_at_slot(&slot) && slot.has_sources ? missing_ms(&slot, WORKER_READER) : -1;
	if (missing > MISSING_MS)
		return psprintf("the reader of log files has not run for %lld s", (long long) (missing / 1000));
	return store_get_source_error();
}

/* One of the two workers, by its kind, as adclick.health() judges it; NULLs if there is no slot for them.  Ticks by hand are rounds of an aggregator that is not wanted. */
Datum
adclick_worker(PG_FUNCTION_ARGS)
{
	WorkerKind	kind = PG_GETARG_BOOL(0) ? WORKER_COMPACTOR : WORKER_AGGREGATOR;
	DatabaseSlot slot;
	int64		missing;
	bool		nulls[10] = {true, true, true, true, true, true, true, true, true, false};
	Datum		values[10];

	values[9] = Int32GetDatum(shmem_crashes(CRASHES_WITHIN));
	if (!look_at_slot(&slot))
		return make_row(fcinfo, values, nulls);
	memset(nulls, false, sizeof(nulls));
	missing = missing_ms(&slot, kind);
	values[0] = BoolGetDatum(slot.interest == DATABASE_PAUSED);
	values[1] = seconds(missing);
	nulls[1] = missing < 0;
	values[2] = seconds(overdue_ms(&slot, slot.round_at[kind]));
	nulls[2] = (slot.worker_pid[kind] == 0 || !slot.at_work[kind]) &&
		!(slot.interest == DATABASE_PAUSED && kind == WORKER_AGGREGATOR);
	values[3] = seconds(overdue_ms(&slot, slot.idle_at[kind]));
	values[4] = Int32GetDatum(slot.failed[kind]);
	values[5] = CStringGetTextDatum(slot.failure[kind]);
	nulls[5] = slot.failed[kind] == 0;
	values[6] = Int32GetDatum(slot.left_out);
	values[7] = seconds(steady_ms() - slot.undecided_at);
	nulls[7] = slot.undecided_at == 0;
	values[8] = CStringGetTextDatum(slot.last_error);
	/* about a worker that is missing, if it came since */
	nulls[8] = missing < 0 || slot.last_error_at < GetCurrentTimestamp() - (missing + 1000) * USECS_PER_MSEC;
	return make_row(fcinfo, values, nulls);
}

SQL_FUNCTION_AS_OWNER(progress);
SQL_FUNCTION_AS_OWNER(check_ledger);
