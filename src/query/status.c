/*-------------------------------------------------------------------------
 *
 * status.c
 *	  The SQL functions behind the view adclick.status, and the check of the books.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

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

PG_FUNCTION_INFO_V1(adclick_workers);

static Datum
progress(FunctionCallInfo fcinfo, Oid asker)
{
	StoreState	state;
	TimestampTz oldest;
	int64		rows;
	bool		nulls[12];
	Datum		values[12];

	memset(nulls, true, sizeof(nulls));
	/* the status tells the error of the workers then */
	if (!definitions_are_right())
		return make_row(fcinfo, values, nulls);
	store_get_state(&state);
	rows = tail_rows(&state, INBOX_TO_ASK, &oldest);
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
	values[10] = Int64GetDatum(store_count_open_minutes());
	values[11] = Int64GetDatum(store_count_combinations());
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

	for (ClickVerdict verdict = CLICK_VALID + 1; verdict < CLICK_VERDICTS; verdict++)
	{
		if (state->verdicts[verdict] != rows->verdicts[verdict])
			return false;
		set_aside += rows->verdicts[verdict];
	}
	return rows->unknown == 0 && state->rows_read == counted + set_aside &&
		counted == ledger->packed + ledger->unpacked && counted == ledger->facts &&
		ledger->unpacked == rows->verdicts[CLICK_VALID];
}

/* All is read in the active snapshot. */
static Datum
check_ledger(FunctionCallInfo fcinfo, Oid asker)
{
	StoreState	state;
	LedgerTotals ledger;
	StoreSetAside rows;
	TimestampTz oldest;
	bool		nulls[7] = {false};
	Datum		values[7];

	store_get_state(&state);
	ledger_count(&ledger);
	store_count_set_aside(&rows);
	values[0] = Int64GetDatum(state.rows_read);
	values[1] = Int64GetDatum(state.verdicts[CLICK_VALID]);
	values[2] = Int64GetDatum(state.verdicts[CLICK_DUPLICATE]);
	values[3] = Int64GetDatum(clicks_discarded(state.verdicts));
	values[4] = Int64GetDatum(tail_rows(&state, INBOX_TO_CHECK, &oldest));
	values[5] = Int64GetDatum(ledger.packed + rows.verdicts[CLICK_VALID]);
	values[6] = BoolGetDatum(is_balanced(&state, &ledger, &rows));
	return make_row(fcinfo, values, nulls);
}

Datum
adclick_workers(PG_FUNCTION_ARGS)
{
	DatabaseSlot *mine = shmem_my_slot();
	DatabaseSlot slot;
	bool		nulls[7];
	Datum		values[7];

	LWLockAcquire(shmem->lock, LW_SHARED);
	slot = *mine;
	LWLockRelease(shmem->lock);

	/* one that only asks whether it is wanted is none */
	for (int kind = 0; kind < WORKER_KINDS; kind++)
		if (!slot.at_work[kind])
			slot.worker_pid[kind] = 0;
	values[0] = Int32GetDatum((slot.worker_pid[WORKER_AGGREGATOR] != 0) +
							  (slot.worker_pid[WORKER_COMPACTOR] != 0));
	values[1] = Int32GetDatum(slot.worker_pid[WORKER_AGGREGATOR]);
	values[2] = Int32GetDatum(slot.worker_pid[WORKER_COMPACTOR]);
	values[3] = CStringGetTextDatum(slot.last_error);
	values[4] = TimestampTzGetDatum(slot.last_error_at);
	LWLockAcquire(shmem->dedup_lock, LW_SHARED);
	values[5] = Int64GetDatum(dedup_bytes_used(shmem_dedup, MyDatabaseId));
	values[6] = Int64GetDatum(dedup_keys(shmem_dedup, MyDatabaseId));
	LWLockRelease(shmem->dedup_lock);
	memset(nulls, false, sizeof(nulls));
	nulls[1] = slot.worker_pid[WORKER_AGGREGATOR] == 0;
	nulls[2] = slot.worker_pid[WORKER_COMPACTOR] == 0;
	nulls[3] = nulls[4] = slot.last_error_at == 0;
	return make_row(fcinfo, values, nulls);
}

SQL_FUNCTION_AS_OWNER(progress);
SQL_FUNCTION_AS_OWNER(check_ledger);
