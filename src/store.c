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

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/dest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "adclick.h"
#include "compat.h"
#include "segment.h"
#include "store.h"

/* Statements are prepared once in a process. */
typedef enum Statement
{
	GET_STATE,
	SET_STATE,
	ADD_LATE,
	ADD_EXTENT,
	GET_EXTENTS,
	EACH_QUEUED,
	DELETE_QUEUED,
	FIRST_QUEUED,
	GET_RUNS,
	GET_DELTAS,
	GET_MINUTE,
	GET_PENDING,
	DELETE_DELTAS,
	DELETE_SEGMENTS,
	DELETE_RUNS,
	NEXT_RUN,
	ADD_RUN,
	ADD_DELTA,
	ADD_SEGMENT,
	STATEMENTS
} Statement;

#define MAX_PARAMETERS 18

#define CLICK_COLUMN_NAMES "click_id, ad_id, clicked_at, user_id, xact, received_at, ip, country, region, device"

#define RUN_COLUMNS "run_id, is_delta, first_minute, last_minute, segments, facts, clicks"

static const struct
{
	const char *text;
	int			nparameters;
	Oid			types[MAX_PARAMETERS];
}			statements[STATEMENTS] =
{
	[GET_STATE] = {
		"SELECT tick, ticked_at, taken, taking, at_partition, at_block, open_from, closing_at,"
		" closing_xmax, newest_received, event_time, rows_read, counted, duplicates, discarded, queued"
		" FROM adclick_internal.state", 0
	},
	[SET_STATE] = {
		"UPDATE adclick_internal.state SET tick = $1, ticked_at = $2, taken = $3, taking = $4,"
		" at_partition = $5, at_block = $6, open_from = $7, closing_at = $8, closing_xmax = $9,"
		" newest_received = $10, event_time = $11, rows_read = $12, counted = $13, duplicates = $14,"
		" discarded = $15, queued = $16 WHERE tick = $17", 17,
		{INT8OID, TIMESTAMPTZOID, PG_SNAPSHOTOID, PG_SNAPSHOTOID, TIMESTAMPTZOID, INT8OID,
			TIMESTAMPTZOID, TIMESTAMPTZOID, XID8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}
	},
	[ADD_LATE] = {
		"UPDATE adclick_internal.late_state SET counted = counted + $1, duplicates = duplicates + $2",
		2, {INT8OID, INT8OID}
	},
	[ADD_EXTENT] = {
		"INSERT INTO adclick_internal.extents VALUES ($1, $2, $3, $4, $5, $6)",
		6, {INT8OID, OIDOID, OIDOID, INT8OID, INT8OID, INT8ARRAYOID}
	},
	[GET_EXTENTS] = {
		"SELECT partition, filenode, first_block, last_block FROM adclick_internal.extents e"
		" WHERE EXISTS (SELECT FROM unnest(e.buckets) b WHERE b BETWEEN $1 AND $2)"
		" ORDER BY partition, filenode, first_block", 2, {INT8OID, INT8OID}
	},
	[EACH_QUEUED] = {
		"SELECT " CLICK_COLUMN_NAMES " FROM adclick_internal.late_clicks"
		" WHERE bucket BETWEEN $1 AND $2 ORDER BY bucket, received_at", 2, {INT8OID, INT8OID}
	},
	[DELETE_QUEUED] = {
		"DELETE FROM adclick_internal.late_clicks WHERE bucket = $1", 1, {INT8OID}
	},
	[FIRST_QUEUED] = {
		"SELECT min(bucket) FROM adclick_internal.late_clicks", 0
	},
	[GET_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs WHERE is_delta AND last_minute >= $1 AND first_minute <= $2"
		" UNION ALL"
		" SELECT " RUN_COLUMNS " FROM adclick_internal.runs WHERE NOT is_delta AND last_minute >= $1 AND last_minute <= $2",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_DELTAS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs WHERE is_delta ORDER BY run_id LIMIT $1",
		1, {INT8OID}
	},
	[GET_MINUTE] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs WHERE NOT is_delta AND last_minute = $1",
		1, {TIMESTAMPTZOID}
	},
	[GET_PENDING] = {
		"SELECT u.minute, sum(u.facts)::bigint, coalesce(max(r.facts), 0)"
		" FROM adclick_internal.runs d"
		" CROSS JOIN unnest(d.minutes, d.minute_facts) u (minute, facts)"
		" LEFT JOIN adclick_internal.runs r ON NOT r.is_delta AND r.last_minute = u.minute"
		" WHERE d.is_delta GROUP BY u.minute", 0
	},
	[DELETE_DELTAS] = {
		"DELETE FROM adclick_internal.deltas WHERE run_id = ANY ($1)", 1, {INT8ARRAYOID}
	},
	[DELETE_SEGMENTS] = {
		"DELETE FROM adclick_internal.segments WHERE run_id = ANY ($1)", 1, {INT8ARRAYOID}
	},
	[DELETE_RUNS] = {
		"DELETE FROM adclick_internal.runs WHERE run_id = ANY ($1)", 1, {INT8ARRAYOID}
	},
	[NEXT_RUN] = {
		"SELECT nextval('adclick_internal.runs_run_id_seq')", 0
	},
	[ADD_RUN] = {
		"INSERT INTO adclick_internal.runs OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		9, {INT8OID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT8OID, INT8OID,
			TIMESTAMPTZARRAYOID, INT8ARRAYOID}
	},
	[ADD_DELTA] = {
		"INSERT INTO adclick_internal.deltas VALUES ($1, $2, $3, $4)",
		4, {INT8OID, INT8OID, INT4OID, BYTEAOID}
	},
	[ADD_SEGMENT] = {
		"INSERT INTO adclick_internal.segments VALUES ($1, $2, $3, $4)",
		4, {INT8OID, INT8OID, INT4OID, BYTEAOID}
	},
};

static SPIPlanPtr
plan_of(Statement statement)
{
	static SPIPlanPtr plans[STATEMENTS];

	if (plans[statement] == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statements[statement].text,
									   statements[statement].nparameters,
									   (Oid *) statements[statement].types);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", statements[statement].text,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[statement] = plan;
	}
	return plans[statement];
}

/* Run a statement between SPI_connect and SPI_finish; returns the rows. */
static uint64
run(Statement statement, Datum *values, const char *nulls, bool read_only)
{
	int			result = SPI_execute_plan(plan_of(statement), values, nulls, read_only, 0);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statements[statement].text,
			 SPI_result_code_string(result));
	return SPI_processed;
}

/* Run a statement that only writes. */
static uint64
write_rows(Statement statement, Datum *values, const char *nulls)
{
	uint64		rows;

	SPI_connect();
	rows = run(statement, values, nulls, false);
	SPI_finish();
	return rows;
}

/* A value of the row-th result; or_else if it is NULL. */
static Datum
result(uint64 row, int column, Datum or_else)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? or_else : value;
}

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
store_get_state(StoreState *state)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi_context;
	Datum		value;

	SPI_connect();
	if (run(GET_STATE, NULL, NULL, true) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the state of adclick is missing"),
				 errdetail("adclick_internal.state has no row.")));
	spi_context = MemoryContextSwitchTo(context);
	state->tick = DatumGetInt64(result(0, 1, 0));
	state->ticked_at = DatumGetTimestampTz(result(0, 2, TimestampTzGetDatum(DT_NOBEGIN)));
	state->progress.taken = xacts_from_datum(result(0, 3, 0));
	value = result(0, 4, (Datum) 0);
	state->progress.taking = value ? xacts_from_datum(value) : NULL;
	state->progress.place.partition = DatumGetTimestampTz(result(0, 5, TimestampTzGetDatum(DT_NOBEGIN)));
	state->progress.place.block = (BlockNumber) DatumGetInt64(result(0, 6, Int64GetDatum(0)));
	state->progress.open_from = DatumGetTimestampTz(result(0, 7, 0));
	state->progress.closing_at = DatumGetTimestampTz(result(0, 8, TimestampTzGetDatum(DT_NOBEGIN)));
	state->progress.closing_xmax = DatumGetUInt64(result(0, 9, UInt64GetDatum(0)));
	state->newest_received = DatumGetTimestampTz(result(0, 10, TimestampTzGetDatum(DT_NOBEGIN)));
	state->event_time = DatumGetTimestampTz(result(0, 11, TimestampTzGetDatum(DT_NOBEGIN)));
	state->rows_read = DatumGetInt64(result(0, 12, 0));
	state->counted = DatumGetInt64(result(0, 13, 0));
	state->duplicates = DatumGetInt64(result(0, 14, 0));
	state->discarded = DatumGetInt64(result(0, 15, 0));
	state->queued = DatumGetInt64(result(0, 16, 0));
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

	if (write_rows(SET_STATE, values, nulls) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("another tick came first"),
				 errdetail("The state is no longer that of tick " INT64_FORMAT ".", expected)));
}

void
store_add_late(int64 counted, int64 duplicates)
{
	Datum		values[2] = {Int64GetDatum(counted), Int64GetDatum(duplicates)};

	write_rows(ADD_LATE, values, NULL);
}

/* An array of bigint or timestamptz. */
static Datum
int64_array(Oid type, const int64 *values, int count)
{
	Datum	   *datums = palloc(sizeof(Datum) * (count + 1));

	for (int i = 0; i < count; i++)
		datums[i] = Int64GetDatum(values[i]);
	return PointerGetDatum(construct_array(datums, count, type, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
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
		int64_array(INT8OID, buckets, nbuckets)
	};

	write_rows(ADD_EXTENT, values, NULL);
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
	rows = run(GET_EXTENTS, values, NULL, true);
	extents = MemoryContextAlloc(context, sizeof(StoreExtent) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		StoreExtent next = {
			DatumGetObjectId(result(row, 1, 0)),
			DatumGetObjectId(result(row, 2, 0)),
			(BlockNumber) DatumGetInt64(result(row, 3, 0)),
			(BlockNumber) DatumGetInt64(result(row, 4, 0))
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
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *info;
	TupleTableSlot *slot;
};

/* Ready to insert into a table whose columns begin with those of the log. */
static StoreSink *
sink_begin(const char *schema, const char *table)
{
	StoreSink  *sink = palloc(sizeof(StoreSink));

	sink->relation = table_open(get_relname_relid(table, get_namespace_oid(schema, false)),
								RowExclusiveLock);
	sink->estate = CreateExecutorState();
	sink->info = makeNode(ResultRelInfo);
	InitResultRelInfo(sink->info, sink->relation, 1, NULL, 0);
	sink->info->ri_TrigDesc = NULL;
	ExecOpenIndices(sink->info, false);
	sink->slot = table_slot_create(sink->relation, NULL);
	return sink;
}

/* Insert the ten columns of a click, and up to two more values. */
static void
sink_put(StoreSink *sink, TupleTableSlot *click, Datum first, Datum second)
{
	TupleTableSlot *slot = sink->slot;

	slot_getsomeattrs(click, CLICK_COLUMNS);
	ExecClearTuple(slot);
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
	ExecStoreVirtualTuple(slot);

	simple_table_tuple_insert(sink->relation, slot);
	if (sink->info->ri_NumIndices > 0)
		list_free(compat_insert_index_tuples(sink->info, slot, sink->estate));
	ResetPerTupleExprContext(sink->estate);
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
	ExecDropSingleTupleTableSlot(sink->slot);
	ExecCloseIndices(sink->info);
	FreeExecutorState(sink->estate);
	table_close(sink->relation, NoLock);
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
	if (SPI_execute_plan_extended(plan_of(EACH_QUEUED), &options) < 0)
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
	if (SPI_execute_snapshot(plan_of(DELETE_QUEUED), values, NULL, GetActiveSnapshot(),
							 InvalidSnapshot, false, true, 0) < 0)
		elog(ERROR, "could not take late clicks off the queue");
	SPI_finish();
}

bool
store_first_queued(int64 *bucket)
{
	bool		isnull;

	SPI_connect();
	run(FIRST_QUEUED, NULL, NULL, true);
	*bucket = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return !isnull;
}

static Datum
minute_datum(int64 minute)
{
	return TimestampTzGetDatum(minute * USECS_PER_MINUTE);
}

/* Run a statement that selects RUN_COLUMNS. */
static StoreRun *
get_runs(Statement statement, Datum *values, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	StoreRun   *runs;
	uint64		rows;

	SPI_connect();
	rows = run(statement, values, NULL, true);
	runs = MemoryContextAlloc(context, sizeof(StoreRun) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		runs[row].run_id = DatumGetInt64(result(row, 1, 0));
		runs[row].is_delta = DatumGetBool(result(row, 2, 0));
		runs[row].first_minute = minute_of(DatumGetTimestampTz(result(row, 3, 0)));
		runs[row].last_minute = minute_of(DatumGetTimestampTz(result(row, 4, 0)));
		runs[row].segments = DatumGetInt32(result(row, 5, 0));
		runs[row].facts = DatumGetInt64(result(row, 6, 0));
		runs[row].clicks = DatumGetInt64(result(row, 7, 0));
	}
	SPI_finish();
	*count = (int) rows;
	return runs;
}

StoreRun *
store_get_runs(int64 from, int64 to, int *count)
{
	Datum		values[2] = {minute_datum(from), minute_datum(to)};

	return get_runs(GET_RUNS, values, count);
}

StoreRun *
store_get_deltas(int limit, int *count)
{
	Datum		values[1] = {Int64GetDatum(limit)};

	return get_runs(GET_DELTAS, values, count);
}

int
store_get_minute(int64 minute, StoreRun *run)
{
	Datum		values[1] = {minute_datum(minute)};
	int			count;
	StoreRun   *runs = get_runs(GET_MINUTE, values, &count);

	if (count > 0)
		*run = runs[0];
	return count > 0;
}

StorePending *
store_get_pending(int *count)
{
	MemoryContext context = CurrentMemoryContext;
	StorePending *pending;
	uint64		rows;

	SPI_connect();
	rows = run(GET_PENDING, NULL, NULL, true);
	pending = MemoryContextAlloc(context, sizeof(StorePending) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		pending[row].minute = minute_of(DatumGetTimestampTz(result(row, 1, 0)));
		pending[row].pending = DatumGetInt64(result(row, 2, 0));
		pending[row].compacted = DatumGetInt64(result(row, 3, 0));
	}
	SPI_finish();
	*count = (int) rows;
	return pending;
}

void
store_delete_runs(const StoreRun *runs, int count)
{
	int64	   *ids = palloc(sizeof(int64) * (count + 1));
	Datum		values[1];

	for (int i = 0; i < count; i++)
		ids[i] = runs[i].run_id;
	values[0] = int64_array(INT8OID, ids, count);
	write_rows(DELETE_DELTAS, values, NULL);
	write_rows(DELETE_SEGMENTS, values, NULL);
	if (write_rows(DELETE_RUNS, values, NULL) != (uint64) count)
		elog(ERROR, "a run to be replaced is gone");
}

/* Columns of order "ad". */
#define ORDER_AD_COLUMNS 3
#define WRITER_CAPACITY (2 * SEGMENT_MAX_FACTS)

struct StoreWriter
{
	StoreRun	run;
	struct minute_facts_hash *minutes;
	Facts		pending;		/* not yet in a segment */
	struct varlena *data;
};

/* How many facts a run has of each minute. */
typedef struct MinuteFacts
{
	int64		minute;
	int64		facts;
	char		status;
} MinuteFacts;

#define SH_PREFIX minute_facts
#define SH_ELEMENT_TYPE MinuteFacts
#define SH_KEY_TYPE int64
#define SH_KEY minute
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

StoreWriter *
store_writer_begin(bool is_delta)
{
	StoreWriter *writer = palloc0(sizeof(StoreWriter));

	writer->run.is_delta = is_delta;
	writer->run.first_minute = PG_INT64_MAX;
	writer->run.last_minute = PG_INT64_MIN;
	facts_init(&writer->pending, ORDER_AD_COLUMNS, WRITER_CAPACITY,
			   palloc(facts_memory(ORDER_AD_COLUMNS, WRITER_CAPACITY)));
	writer->data = palloc(VARHDRSZ + SEGMENT_MAX_BYTES);
	writer->minutes = minute_facts_create(CurrentMemoryContext, 16, NULL);
	return writer;
}

static void
writer_take_id(StoreWriter *writer)
{
	SPI_connect();
	run(NEXT_RUN, NULL, NULL, false);
	writer->run.run_id = DatumGetInt64(result(0, 1, 0));
	SPI_finish();
}

/* Write segments until fewer than "keep" facts are pending. */
static void
writer_flush(StoreWriter *writer, size_t keep)
{
	Facts	   *pending = &writer->pending;
	size_t		start = 0;
	size_t		taken = 0;

	if (writer->run.run_id == 0 && pending->n > 0)
		writer_take_id(writer);
	while (pending->n - start > keep)
	{
		Datum		values[4];
		size_t		size = segment_encode(pending, start, taken, (uint8_t *) VARDATA(writer->data),
										  &taken);

		SET_VARSIZE(writer->data, VARHDRSZ + size);
		values[0] = Int64GetDatum(writer->run.run_id);
		values[1] = Int64GetDatum(facts_to_int64(pending->key[0][start]));
		values[2] = Int32GetDatum((int32) writer->run.segments++);
		values[3] = PointerGetDatum(writer->data);
		write_rows(writer->run.is_delta ? ADD_DELTA : ADD_SEGMENT, values, NULL);
		start += taken;
	}
	for (int i = 0; i < pending->ncolumns; i++)
		memmove(pending->key[i], pending->key[i] + start, sizeof(uint64_t) * (pending->n - start));
	memmove(pending->count, pending->count + start, sizeof(uint64_t) * (pending->n - start));
	pending->n -= start;
}

static MinuteFacts *
count_minute(StoreWriter *writer, int64 minute)
{
	bool		found;
	MinuteFacts *entry = minute_facts_insert(writer->minutes, minute, &found);

	if (!found)
	{
		entry->facts = 0;
		writer->run.first_minute = Min(writer->run.first_minute, minute);
		writer->run.last_minute = Max(writer->run.last_minute, minute);
	}
	return entry;
}

void
store_writer_add(StoreWriter *writer, const Facts *facts, size_t start, size_t n)
{
	Facts	   *pending = &writer->pending;
	MinuteFacts *minute_facts = NULL;

	for (size_t i = start; i < start + n; i++)
	{
		int64		minute = facts_to_int64(facts->key[1][i]);

		if (pending->n == pending->capacity)
			writer_flush(writer, SEGMENT_MAX_FACTS);
		for (int c = 0; c < pending->ncolumns; c++)
			pending->key[c][pending->n] = facts->key[c][i];
		pending->count[pending->n++] = facts->count[i];
		if (minute_facts == NULL || minute_facts->minute != minute)
			minute_facts = count_minute(writer, minute);
		minute_facts->facts++;
		writer->run.facts++;
		writer->run.clicks += facts->count[i];
	}
}

void
store_writer_end(StoreWriter *writer)
{
	StoreRun   *run = &writer->run;

	writer_flush(writer, 0);
	if (run->facts > 0)
	{
		int			n = writer->minutes->members;
		int64	   *minutes = palloc(sizeof(int64) * n);
		int64	   *facts = palloc(sizeof(int64) * n);
		minute_facts_iterator iterator;
		MinuteFacts *entry;

		minute_facts_start_iterate(writer->minutes, &iterator);
		for (int i = 0; (entry = minute_facts_iterate(writer->minutes, &iterator)) != NULL; i++)
		{
			minutes[i] = entry->minute * USECS_PER_MINUTE;
			facts[i] = entry->facts;
		}
		write_rows(ADD_RUN, (Datum[9]) {
			Int64GetDatum(run->run_id), BoolGetDatum(run->is_delta),
			minute_datum(run->first_minute), minute_datum(run->last_minute),
			Int32GetDatum(run->segments), Int64GetDatum(run->facts), Int64GetDatum(run->clicks),
			int64_array(TIMESTAMPTZOID, minutes, n), int64_array(INT8OID, facts, n)
		}, NULL);
	}
	minute_facts_destroy(writer->minutes);
	pfree(writer->pending.key[0]);
	pfree(writer->data);
	pfree(writer);
}

/* Attribute numbers of the segments' tables and of their index. */
#define SEGMENT_RUN_ID 1
#define SEGMENT_FIRST_KEY 2
#define SEGMENT_DATA 4

struct StoreScan
{
	Relation	heap;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	int64		run_id;
	uint64		key;			/* looked for by store_scan_key */
	bool		done;
};

StoreScan *
store_scan_begin(bool is_delta)
{
	StoreScan  *scan = palloc0(sizeof(StoreScan));
	Oid			schema = get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false);

	scan->heap = table_open(get_relname_relid(is_delta ? "deltas" : "segments", schema),
							AccessShareLock);
	scan->index = index_open(get_relname_relid(is_delta ? "deltas_key_idx" : "segments_key_idx", schema),
							 AccessShareLock);
	scan->slot = table_slot_create(scan->heap, NULL);
	scan->scan = compat_index_beginscan(scan->heap, scan->index, GetActiveSnapshot(), 2);
	return scan;
}

static void
rescan(StoreScan *scan, int64 run_id, StrategyNumber strategy, RegProcedure procedure, int64 key)
{
	ScanKeyData keys[2];

	scan->run_id = run_id;
	scan->done = false;
	ScanKeyInit(&keys[0], SEGMENT_RUN_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(run_id));
	ScanKeyInit(&keys[1], SEGMENT_FIRST_KEY, strategy, procedure, Int64GetDatum(key));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

void
store_scan_run(StoreScan *scan, int64 run_id)
{
	rescan(scan, run_id, BTGreaterEqualStrategyNumber, F_INT8GE, PG_INT64_MIN);
}

void
store_scan_key(StoreScan *scan, int64 run_id, uint64 key)
{
	scan->key = key;
	rescan(scan, run_id, BTLessEqualStrategyNumber, F_INT8LE, facts_to_int64(key));
}

/* Get a segment in either direction. */
static bool
next_segment(StoreScan *scan, ScanDirection direction,
			 uint64 *first_key, const uint8 **data, size_t *length)
{
	struct varlena *value;

	if (!index_getnext_slot(scan->scan, direction, scan->slot))
		return false;
	slot_getsomeattrs(scan->slot, SEGMENT_DATA);
	*first_key = facts_from_int64(DatumGetInt64(scan->slot->tts_values[SEGMENT_FIRST_KEY - 1]));
	value = (struct varlena *) DatumGetPointer(scan->slot->tts_values[SEGMENT_DATA - 1]);
	if (VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value))
		store_scan_corrupt(scan, "it is not stored in line");
	*data = (const uint8 *) VARDATA_ANY(value);
	*length = VARSIZE_ANY_EXHDR(value);
	return true;
}

bool
store_scan_next(StoreScan *scan, uint64 *first_key, const uint8 **data, size_t *length)
{
	return next_segment(scan, ForwardScanDirection, first_key, data, length);
}

bool
store_scan_previous(StoreScan *scan, const uint8 **data, size_t *length)
{
	uint64		first_key;

	if (scan->done || !next_segment(scan, BackwardScanDirection, &first_key, data, length))
		return false;
	/* Only segments that begin with the key itself can follow one that has it. */
	scan->done = first_key < scan->key;
	return true;
}

void
store_scan_corrupt(StoreScan *scan, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("segment (%u,%u) of \"%s\" is damaged",
					ItemPointerGetBlockNumber(&scan->slot->tts_tid),
					ItemPointerGetOffsetNumber(&scan->slot->tts_tid),
					RelationGetRelationName(scan->heap)),
			 errdetail("Run " INT64_FORMAT ": %s.", scan->run_id, what)));
}

void
store_scan_end(StoreScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->heap, AccessShareLock);
	pfree(scan);
}
