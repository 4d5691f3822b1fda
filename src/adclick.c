/*-------------------------------------------------------------------------
 *
 * adclick.c
 *	  The module: what happens when it is loaded, and the small SQL functions.
 *

 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "adclick.h"
#include "compact.h"
#include "compat.h"
#include "definitions.h"
#include "facts.h"
#include "partitions.h"
#include "privileges.h"
#include "seen.h"
#include "shmem.h"
#include "store.h"
#include "tail.h"
#include "tick.h"
#include "utility.h"
#include "worker.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(adclick_refuse_change);
PG_FUNCTION_INFO_V1(adclick_new_click_id);
PG_FUNCTION_INFO_V1(adclick_arrival_time);
PG_FUNCTION_INFO_V1(adclick_current_xact);
PG_FUNCTION_INFO_V1(adclick_workers);

void		_PG_init(void);

static void
check_for_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("adclick must be loaded when the server starts"),
				 errdetail("It keeps workers and shared memory."),
				 errhint("Add adclick to shared_preload_libraries in postgresql.conf and restart the server.")));
	facts_pause = check_for_interrupts;
	guc_define();
	shmem_install();
	store_install();
	seen_install();
	utility_install();
	worker_register_launcher();
}

Datum
adclick_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as a trigger")));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the click log is append-only"),
			 errdetail("%s is not allowed on adclick.clicks.",
					   TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? "UPDATE" :
					   TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE" : "TRUNCATE"),
			 errhint("To be rid of old clicks, drop their partition.")));
	return (Datum) 0;
}

Datum
adclick_new_click_id(PG_FUNCTION_ARGS)
{
	return gen_random_uuid(fcinfo);
}

Datum
adclick_arrival_time(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(GetCurrentTimestamp());
}

Datum
adclick_current_xact(PG_FUNCTION_ARGS)
{
	PG_RETURN_FULLTRANSACTIONID(GetTopFullTransactionId());
}

/*
 * Called by the install script, where new tables would become members of the
 * extension: their rows would then not be dumped.
 */
static Datum
make_partitions(FunctionCallInfo fcinfo, Oid asker)
{
	bool		creating = creating_extension;
	int			made = 0;

	creating_extension = false;
	PG_TRY();
	{
		made = partitions_make();
	}
	PG_FINALLY();
	{
		creating_extension = creating;
	}
	PG_END_TRY();
	PG_RETURN_INT32(made);
}

static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

#define ST_SORT sort_values
#define ST_ELEMENT_TYPE int64
#define ST_COMPARE(a, b) ((*(a) > *(b)) - (*(a) < *(b)))
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

int
sort_unique_int64(int64 *values, int n)
{
	if (n < 2)
		return n;
	sort_values(values, n);
	return (int) qunique(values, n, sizeof(int64), compare_int64);
}

ErrorData *
attempt(void (*inside) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		inside(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

const uint64 *
process_seed(void)
{
	static uint64 seed[2];
	static bool made = false;

	if (!made && !pg_strong_random(seed, sizeof(seed)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random seed")));
	made = true;
	return seed;
}

void
prevent_read_only(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
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
	rows = tail_rows(&state, &oldest);
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

SQL_FUNCTION_AS_OWNER(make_partitions);
SQL_FUNCTION_AS_OWNER(tick);
SQL_FUNCTION_AS_OWNER(compact);
SQL_FUNCTION_AS_OWNER(progress);
