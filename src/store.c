/*-------------------------------------------------------------------------
 *
 * store.c
 *	  The tables of the extension.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "adclick.h"
#include "compat.h"
#include "store.h"
#include "store_sql.h"

static LOCKTAG
lock_tag(StoreLock lock)
{
	LOCKTAG		tag;

	/* SQL's advisory locks use 1 and 2 as last field */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, lock, 3);
	return tag;
}

void
store_lock(StoreLock lock)
{
	LOCKTAG		tag = lock_tag(lock);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
store_unlock(StoreLock lock)
{
	LOCKTAG		tag = lock_tag(lock);

	LockRelease(&tag, ExclusiveLock, false);
}

static bool
store_locked(StoreLock lock)
{
	LOCKTAG		tag = lock_tag(lock);

	return compat_lock_held_by_me(&tag, ExclusiveLock);
}

/*
 * What is kept outside of the transaction, like seen keys, follows its commit and
 * its abort; a prepared one could have either much later, and keep out all ticks
 * until then.
 */
static void
refuse_prepare(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE &&
		(store_locked(STORE_LOCK_TICK) || store_locked(STORE_LOCK_COMPACTION)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed the counts of adclick"),
				 errdetail("It has run a tick or a compaction, or registered or dropped a filter."),
				 errhint("Do so in a transaction of its own.")));
}

void
store_install(void)
{
	RegisterXactCallback(refuse_prepare, NULL);
}

bool
store_keep_extension(void)
{
	Oid			extension = get_extension_oid("adclick", true);

	if (!OidIsValid(extension))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	AcceptInvalidationMessages();
	return get_extension_oid("adclick", true) == extension;
}

void
store_push_snapshot(void)
{
	PushActiveSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
}

void
store_claim_compaction(void)
{
	store_add_late(0, 0);
}

static void
another_tick(int64 expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("another tick came first"),
			 errdetail("The state is no longer that of tick " INT64_FORMAT ".", expected)));
}

void
store_claim_tick(const StoreState *state)
{
	StoreState	newest;

	if (!IsolationUsesXactSnapshot())
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	store_get_state(&newest);
	PopActiveSnapshot();
	if (newest.tick != state->tick)
		another_tick(state->tick);
}

void
store_get_state(StoreState *state)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi_context;
	Datum		value;

	SPI_connect();
	if (sql_run(GET_STATE, NULL, NULL, true) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the state of adclick is missing"),
				 errdetail("adclick_internal.state has no row.")));
	spi_context = MemoryContextSwitchTo(context);
	state->tick = DatumGetInt64(sql_result(0, 1, 0));
	state->ticked_at = DatumGetTimestampTz(sql_result(0, 2, TimestampTzGetDatum(DT_NOBEGIN)));
	state->progress.taken = xacts_from_datum(sql_result(0, 3, 0));
	value = sql_result(0, 4, (Datum) 0);
	state->progress.taking = value ? xacts_from_datum(value) : NULL;
	state->progress.place.partition = DatumGetTimestampTz(sql_result(0, 5, TimestampTzGetDatum(DT_NOBEGIN)));
	state->progress.place.block = (BlockNumber) DatumGetInt64(sql_result(0, 6, Int64GetDatum(0)));
	state->progress.open_from = DatumGetTimestampTz(sql_result(0, 7, 0));
	state->progress.closing_at = DatumGetTimestampTz(sql_result(0, 8, TimestampTzGetDatum(DT_NOBEGIN)));
	state->progress.closing_xmax = DatumGetUInt64(sql_result(0, 9, UInt64GetDatum(0)));
	state->newest_received = DatumGetTimestampTz(sql_result(0, 10, TimestampTzGetDatum(DT_NOBEGIN)));
	state->event_time = DatumGetTimestampTz(sql_result(0, 11, TimestampTzGetDatum(DT_NOBEGIN)));
	state->rows_read = DatumGetInt64(sql_result(0, 12, 0));
	state->counted = DatumGetInt64(sql_result(0, 13, 0));
	state->duplicates = DatumGetInt64(sql_result(0, 14, 0));
	state->discarded = DatumGetInt64(sql_result(0, 15, 0));
	state->queued = DatumGetInt64(sql_result(0, 16, 0));
	MemoryContextSwitchTo(spi_context);
	SPI_finish();
}

void
store_set_state(const StoreState *state, int64 expected)
{
	const LogProgress *progress = &state->progress;
	Datum		values[17];
	char		nulls[18];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(state->tick);
	values[1] = TimestampTzGetDatum(state->ticked_at);
	values[2] = xacts_to_datum(progress->taken);
	values[3] = progress->taking ? xacts_to_datum(progress->taking) : (Datum) 0;
	values[4] = TimestampTzGetDatum(progress->place.partition);
	values[5] = Int64GetDatum(progress->place.block);
	if (progress->taking == NULL)
		nulls[3] = nulls[4] = nulls[5] = 'n';
	values[6] = TimestampTzGetDatum(progress->open_from);
	values[7] = TimestampTzGetDatum(progress->closing_at);
	values[8] = UInt64GetDatum(progress->closing_xmax);
	if (progress->closing_xmax == 0)
		nulls[7] = nulls[8] = 'n';
	values[9] = TimestampTzGetDatum(state->newest_received);
	nulls[9] = state->newest_received == DT_NOBEGIN ? 'n' : ' ';
	values[10] = TimestampTzGetDatum(state->event_time);
	nulls[10] = state->event_time == DT_NOBEGIN ? 'n' : ' ';
	values[11] = Int64GetDatum(state->rows_read);
	values[12] = Int64GetDatum(state->counted);
	values[13] = Int64GetDatum(state->duplicates);
	values[14] = Int64GetDatum(state->discarded);
	values[15] = Int64GetDatum(state->queued);
	values[16] = Int64GetDatum(expected);

	if (sql_write(SET_STATE, values, nulls) != 1)
		another_tick(expected);
}

void
store_add_late(int64 counted, int64 duplicates)
{
	Datum		values[2] = {Int64GetDatum(counted), Int64GetDatum(duplicates)};

	sql_write(ADD_LATE, values, NULL);
}

void
store_get_backlog(StoreBacklog *backlog)
{
	SPI_connect();
	if (sql_run(GET_BACKLOG, NULL, NULL, true) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the state of adclick is missing"),
				 errdetail("adclick_internal.late_state should have one row.")));
	backlog->late_counted = DatumGetInt64(sql_result(0, 1, 0));
	backlog->late_duplicates = DatumGetInt64(sql_result(0, 2, 0));
	backlog->open_minutes = DatumGetInt64(sql_result(0, 3, 0));
	SPI_finish();
}

void
store_add_extent(int64 tick, const StoreExtent *extent, const int64 *buckets, int nbuckets)
{
	Datum		values[6] = {
		Int64GetDatum(tick),
		ObjectIdGetDatum(extent->partition),
		ObjectIdGetDatum(extent->filenode),
		Int64GetDatum(extent->first),
		Int64GetDatum(extent->last),
		sql_array(INT8OID, buckets, nbuckets)
	};

	sql_write(ADD_EXTENT, values, NULL);
}

StoreExtent *
store_get_extents(int64 from, int64 to, int *count)
{
	Datum		values[2] = {Int64GetDatum(from), Int64GetDatum(to)};
	MemoryContext context = CurrentMemoryContext;
	StoreExtent *extents;
	int			n = 0;
	uint64		rows;

	SPI_connect();
	rows = sql_run(GET_EXTENTS, values, NULL, true);
	extents = MemoryContextAlloc(context, sizeof(StoreExtent) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		StoreExtent next = {
			DatumGetObjectId(sql_result(row, 1, 0)),
			DatumGetObjectId(sql_result(row, 2, 0)),
			(BlockNumber) DatumGetInt64(sql_result(row, 3, 0)),
			(BlockNumber) DatumGetInt64(sql_result(row, 4, 0))
		};
		StoreExtent *last = n > 0 ? &extents[n - 1] : NULL;

		if (last && last->partition == next.partition && last->filenode == next.filenode &&
			next.first <= last->last + 1)
			last->last = Max(last->last, next.last);
		else
			extents[n++] = next;
	}
	SPI_finish();
	*count = n;
	return extents;
}

struct StoreSink
{
	SqlInserter inserter;
};

/* Ready to insert into a table whose columns begin with those of the log. */
static StoreSink *
sink_begin(const char *schema, const char *table)
{
	StoreSink  *sink = palloc(sizeof(StoreSink));

	sql_insert_begin(&sink->inserter, schema, table);
	return sink;
}

/* Insert the ten columns of a click, and up to two more values. */
static void
sink_put(StoreSink *sink, TupleTableSlot *click, Datum first, Datum second)
{
	TupleTableSlot *slot = sink->inserter.slot;

	slot_getsomeattrs(click, CLICK_COLUMNS);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	memcpy(slot->tts_values, click->tts_values, sizeof(Datum) * CLICK_COLUMNS);
	memcpy(slot->tts_isnull, click->tts_isnull, sizeof(bool) * CLICK_COLUMNS);
	slot->tts_values[CLICK_COLUMNS] = first;
	slot->tts_isnull[CLICK_COLUMNS] = false;
	if (slot->tts_tupleDescriptor->natts > CLICK_COLUMNS + 1)
	{
		slot->tts_values[CLICK_COLUMNS + 1] = second;
		slot->tts_isnull[CLICK_COLUMNS + 1] = false;
	}
	sql_insert_put(&sink->inserter);
}

StoreSink *
store_discard_begin(void)
{
	return sink_begin(ADCLICK_SCHEMA, "discarded_clicks");
}

void
store_discard(StoreSink *sink, TupleTableSlot *slot, ClickVerdict verdict)
{
	Datum		reason = CStringGetTextDatum(click_verdict_text(verdict));

	sink_put(sink, slot, reason, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	pfree(DatumGetPointer(reason));
}

StoreSink *
store_queue_begin(void)
{
	return sink_begin(ADCLICK_INTERNAL_SCHEMA, "late_clicks");
}

void
store_queue(StoreSink *sink, TupleTableSlot *slot, int64 bucket)
{
	sink_put(sink, slot, Int64GetDatum(bucket), (Datum) 0);
}

void
store_sink_end(StoreSink *sink)
{
	sql_insert_end(&sink->inserter);
	pfree(sink);
}

/* A destination that hands each row over as it comes from the executor. */
typedef struct RowReceiver
{
	DestReceiver dest;
	store_row_callback callback;
	void	   *arg;
} RowReceiver;

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *receiver = (RowReceiver *) self;

	receiver->callback(slot, receiver->arg);
	return true;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
receiver_done(DestReceiver *self)
{
}

void
store_each_queued(int64 from, int64 to, store_row_callback callback, void *arg)
{
	RowReceiver receiver = {
		{receive_row, receiver_startup, receiver_done, receiver_done, DestNone}, callback, arg
	};
	Datum		values[2] = {Int64GetDatum(from), Int64GetDatum(to)};
	SPIExecuteOptions options = {0};
	ParamListInfo parameters = makeParamList(2);

	for (int i = 0; i < 2; i++)
		parameters->params[i] = (ParamExternData) {
			values[i], false, PARAM_FLAG_CONST, INT8OID
		};
	options.params = parameters;
	options.read_only = true;
	options.dest = &receiver.dest;
	SPI_connect();
	if (SPI_execute_plan_extended(sql_plan(EACH_QUEUED), &options) < 0)
		elog(ERROR, "could not read the queue of late clicks");
	SPI_finish();
}

/*
 * What the active snapshot sees, and no more: a tick may have queued another
 * click of the bucket meanwhile.
 */
void
store_delete_queued(int64 bucket)
{
	Datum		values[1] = {Int64GetDatum(bucket)};

	SPI_connect();
	if (SPI_execute_snapshot(sql_plan(DELETE_QUEUED), values, NULL, GetActiveSnapshot(),
							 InvalidSnapshot, false, true, 0) < 0)
		elog(ERROR, "could not take late clicks off the queue");
	SPI_finish();
}

bool
store_first_queued(int64 *bucket)
{
	bool		isnull;

	SPI_connect();
	sql_run(FIRST_QUEUED, NULL, NULL, true);
	*bucket = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return !isnull;
}
