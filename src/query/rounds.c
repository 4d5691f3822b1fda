/*-------------------------------------------------------------------------
 *
 * rounds.c
 *	  The SQL functions for one round by hand, for the check of the books, and for the status.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "base/shmem.h"
#include "read/ledger.h"
#include "read/tail.h"
#include "store/store.h"
#include "write/compact.h"
#include "write/tick.h"

PG_FUNCTION_INFO_V1(adclick_workers);

static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static Datum
tick(FunctionCallInfo fcinfo, Oid asker)
{
	TickResult	r;
	int			level;
	bool		nulls[6] = {false};
	Datum		values[6];

	prevent_read_only("adclick.tick()");
	level = definitions_begin_writes();
	tick_run(&r);
	definitions_end_writes(level);
	nulls[0] = r.tick == 0;
	values[0] = Int64GetDatum(r.tick);
	values[1] = Int64GetDatum(r.rows_read);
	values[2] = Int64GetDatum(r.counted);
	values[3] = Int64GetDatum(r.duplicates);
	values[4] = Int64GetDatum(r.discarded);
	values[5] = BoolGetDatum(r.more);
	return make_row(fcinfo, values, nulls);
}

static Datum
compact(FunctionCallInfo fcinfo, Oid asker)
{
	CompactResult r;
	int			level;
	bool		nulls[3] = {false};
	Datum		values[3];

	prevent_read_only("adclick.compact()");
	level = definitions_begin_writes();
	compact_run(true, &r);
	definitions_end_writes(level);
	values[0] = Int32GetDatum(r.runs_merged);
	values[1] = Int32GetDatum(r.minutes_written);
	values[2] = BoolGetDatum(r.more);
	return make_row(fcinfo, values, nulls);
}

static Datum
progress(FunctionCallInfo fcinfo, Oid asker)
{
	StoreState	state;
	TimestampTz oldest;
	int64		rows;
	bool		nulls[9];
	Datum		values[9];

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
	values[4] = Int64GetDatum(state.counted);
	values[5] = Int64GetDatum(state.duplicates);
	values[6] = Int64GetDatum(state.discarded);
	values[7] = Int64GetDatum(store_count_open_minutes());
	values[8] = Int64GetDatum(store_count_combinations());
	return make_row(fcinfo, values, nulls);
}

/*
 * Every click that was taken is in one place, and in the facts, if the ticks and what
 * came after them did as they should.
 */
static bool
is_balanced(const StoreState *state, const LedgerTotals *ledger, const StoreSetAside *rows)
{
	return state->rows_read == state->counted + state->duplicates + state->discarded &&
		state->counted == ledger->packed + ledger->unpacked && state->counted == ledger->facts &&
		ledger->unpacked == rows->unpacked &&
		state->duplicates == rows->duplicates && state->discarded == rows->discarded;
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
	values[1] = Int64GetDatum(state.counted);
	values[2] = Int64GetDatum(state.duplicates);
	values[3] = Int64GetDatum(state.discarded);
	values[4] = Int64GetDatum(tail_rows(&state, INBOX_TO_CHECK, &oldest));
	values[5] = Int64GetDatum(ledger.packed + rows.unpacked);
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

SQL_FUNCTION_AS_OWNER(tick);
SQL_FUNCTION_AS_OWNER(compact);
SQL_FUNCTION_AS_OWNER(progress);
SQL_FUNCTION_AS_OWNER(check_ledger);
