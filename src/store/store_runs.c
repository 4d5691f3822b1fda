/*-------------------------------------------------------------------------
 *
 * store_runs.c
 *	  The directory of runs: which there are, with what minutes, and taking them out.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "store.h"
#include "store_segments.h"
#include "store_sql.h"

void
store_damaged_run(int64 run_id, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("run " INT64_FORMAT " of \"runs\" is damaged", run_id),
			 errdetail_internal("%s", detail)));
}

/* A final run of order ad is one of a minute or of an hour; order day has whole days, a final run one. */
static bool
has_grain(const StoreRun *run)
{
	if (run->order == ORDER_DAY)
		return run->first_minute == day_of(run->first_minute) && run->last_minute == day_of(run->last_minute) &&
			(run->is_delta || run->first_minute == run->last_minute);
	return run->order != ORDER_AD || run->is_delta || run->first_minute == run->last_minute ||
		(run->first_minute == hour_of(run->first_minute) &&
		 run->last_minute == run->first_minute + MINS_PER_HOUR - 1);
}

/* What a run says of itself must be possible: questions rely on it. */
static bool
is_possible(const StoreRun *run)
{
	return run->first_minute >= FIRST_MINUTE && run->last_minute <= LAST_MINUTE &&
		run->first_minute <= run->last_minute && has_grain(run) &&
		(run->volume >= 0 || run->volume == STORE_RESTORED) == (store_has_shelf(run->order) && !run->is_delta) &&
		run->segments >= 1 && run->facts >= run->segments &&
		run->facts <= run->segments * SEGMENT_MAX_FACTS && run->clicks >= run->facts;
}

/* Run a statement that selects RUN_COLUMNS. */
static StoreRun *
get_unchecked_runs(Statement statement, Datum *values, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	StoreRun   *runs;
	uint64		rows;

	SPI_connect();
	rows = sql_run(statement, values, NULL, true);
	runs = MemoryContextAllocHuge(context, sizeof(StoreRun) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		runs[row].run_id = DatumGetInt64(sql_result(row, 1, 0));
		runs[row].order = (FactOrder) DatumGetInt16(sql_result(row, 2, 0));
		runs[row].is_delta = DatumGetBool(sql_result(row, 3, 0));
		runs[row].first_minute = minute_of(DatumGetTimestampTz(sql_result(row, 4, 0)));
		runs[row].last_minute = minute_of(DatumGetTimestampTz(sql_result(row, 5, 0)));
		runs[row].segments = DatumGetInt32(sql_result(row, 6, 0));
		runs[row].facts = DatumGetInt64(sql_result(row, 7, 0));
		runs[row].clicks = DatumGetInt64(sql_result(row, 8, 0));
		runs[row].volume = DatumGetInt32(sql_result(row, 9, 0));
		if ((int) runs[row].order == SORT_ORDER_RESTORED)
		{
			runs[row].order = ORDER_LEDGER;
			runs[row].volume = STORE_RESTORED;
		}
	}
	SPI_finish();
	*count = (int) rows;
	return runs;
}

void
store_check_run(const StoreRun *run)
{
	if (!is_possible(run))
		store_damaged_run(run->run_id, "Its row in adclick_internal.runs has times or numbers that cannot be.");
}

static StoreRun *
check_runs(StoreRun *runs, const int *count)
{
	for (int i = 0; i < *count; i++)
		store_check_run(&runs[i]);
	return runs;
}

static StoreRun *
get_runs(Statement statement, Datum *values, int *count)
{
	return check_runs(get_unchecked_runs(statement, values, count), count);
}

StoreRun *
store_get_impossible(int *count)
{
	int			nruns;
	StoreRun   *runs = get_unchecked_runs(GET_EVERY_RUN, NULL, &nruns);

	*count = 0;
	for (int i = 0; i < nruns; i++)
		if (!is_possible(&runs[i]))
			runs[(*count)++] = runs[i];
	return runs;
}

StoreRun *
store_get_any_runs(FactOrder order, int64 from, int64 to, int *count)
{
	Datum		values[3] = {sql_minute(from), sql_minute(to), Int32GetDatum(order)};

	if (order != ORDER_AD)
		return get_unchecked_runs(GET_RUNS, values, count);
	values[2] = sql_minute(to + MINS_PER_HOUR - 1);
	return get_unchecked_runs(GET_MINUTE_RUNS, values, count);
}

StoreRun *
store_get_restored_runs(int64 from, int64 to, int *count)
{
	Datum		values[3] = {sql_minute(from), sql_minute(to), Int32GetDatum(SORT_ORDER_RESTORED)};

	return get_runs(GET_RUNS, values, count);
}

void
store_get_ledger_run(int64 run_id, StoreRun *run)
{
	Datum		values[1] = {Int64GetDatum(run_id)};
	int			n;
	StoreRun   *runs = get_runs(GET_LEDGER_RUN, values, &n);

	if (n != 1)
		store_damaged_run(run_id, "It is not there.");
	*run = runs[0];
	pfree(runs);
}

StoreRun *
store_get_runs(FactOrder order, int64 from, int64 to, int *count)
{
	return check_runs(store_get_any_runs(order, from, to, count), count);
}

static int
deltas_then_first(const void *a, const void *b)
{
	const StoreRun *x = a;
	const StoreRun *y = b;

	return x->is_delta != y->is_delta ? y->is_delta - x->is_delta : compare_int64(&x->first_minute, &y->first_minute);
}

/* Put runs behind others. */
static StoreRun *
join_runs(StoreRun *runs, int *count, StoreRun *more, int nmore)
{
	runs = repalloc_huge(runs, sizeof(StoreRun) * (*count + nmore + 1));
	memcpy(runs + *count, more, sizeof(StoreRun) * nmore);
	pfree(more);
	*count += nmore;
	return runs;
}

/* Add the final runs of order ad from one minute to another. */
static StoreRun *
join_finals(StoreRun *runs, int *count, int64 from, int64 to)
{
	int			nfinals;
	StoreRun   *finals;

	if (from > to)
		return runs;
	finals = store_get_finals(from, to, &nfinals);
	return join_runs(runs, count, finals, nfinals);
}

StoreRun *
store_get_finals(int64 from, int64 to, int *count)
{
	Datum		values[3] = {sql_minute(from), sql_minute(to), sql_minute(to + MINS_PER_HOUR - 1)};

	return get_runs(GET_FINALS, values, count);
}

StoreRun *
store_get_fewest_runs(int64 from, int64 to, int *count)
{
	int64		first = day_of(from + MINS_PER_DAY - 1);
	int64		last = day_of(to + 1) - MINS_PER_DAY;
	Datum		values[2] = {sql_minute(from), sql_minute(to)};
	StoreRun   *runs;
	StoreRun   *deltas;
	int			ndays;
	int			ndeltas;
	int			nruns;

	if (first > last)
		return store_get_runs(ORDER_AD, from, to, count);
	runs = store_get_runs(ORDER_DAY, first, last, &nruns);
	qsort(runs, nruns, sizeof(StoreRun), deltas_then_first);
	ndays = nruns;
	for (int i = 0; i < ndays; i++)
		if (!runs[i].is_delta)
		{
			int64		day = runs[i].first_minute;

			runs = join_finals(runs, &nruns, from, day - 1);
			from = day + MINS_PER_DAY;
		}
	runs = join_finals(runs, &nruns, from, to);
	deltas = get_runs(GET_AD_DELTAS, values, &ndeltas);
	runs = join_runs(runs, &nruns, deltas, ndeltas);
	*count = nruns;
	return runs;
}

StoreRun *
store_get_key_runs(const int64 *minutes, int nminutes, int *count)
{
	int64	   *times = palloc(sizeof(int64) * nminutes);
	Datum		values[3];

	for (int i = 0; i < nminutes; i++)
		times[i] = DatumGetTimestampTz(sql_minute(minutes[i]));
	values[0] = sql_minute(minutes[0]);
	values[1] = sql_minute(minutes[nminutes - 1]);
	values[2] = sql_array(TIMESTAMPTZOID, times, nminutes);
	return get_runs(GET_KEY_RUNS, values, count);
}

int64
store_last_minute(void)
{
	TimestampTz last;

	SPI_connect();
	sql_run(GET_LAST_MINUTE, NULL, NULL, true);
	last = DatumGetTimestampTz(sql_result(0, 1, TimestampTzGetDatum(DT_NOBEGIN)));
	SPI_finish();
	return last == DT_NOBEGIN ? FIRST_MINUTE : minute_of(last);
}

int64 *
store_get_fact_minutes(int64 from, int64 to, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {sql_minute(from), sql_minute(to)};
	int64	   *minutes;
	uint64		rows;

	SPI_connect();
	rows = sql_run(GET_FACT_MINUTES, values, NULL, true);
	minutes = MemoryContextAllocHuge(context, sizeof(int64) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		TimestampTz minute = DatumGetTimestampTz(sql_result(row, 1, TimestampTzGetDatum(DT_NOBEGIN)));

		if (minute == DT_NOBEGIN)
			store_damaged_run(DatumGetInt64(sql_result(row, 2, 0)), "Its row in adclick_internal.runs misses minutes.");
		minutes[row] = minute_of(minute);
	}
	SPI_finish();
	*count = (int) rows;
	return minutes;
}

/* They must ascend, and together be what the run has. */
static void
check_minutes(const StoreRun *run, const StoreMinute *minutes, int n)
{
	int64		left = run->clicks;
	bool		wrong = false;

	for (int i = 0; i < n; i++)
	{
		wrong |= minutes[i].minute < run->first_minute || minutes[i].minute > run->last_minute ||
			(i > 0 && minutes[i].minute <= minutes[i - 1].minute) ||
			minutes[i].clicks < 1 || minutes[i].clicks > left;
		left -= minutes[i].clicks;
	}
	if (wrong || left != 0)
		store_damaged_run(run->run_id, "Its row in adclick_internal.runs has minutes or clicks that cannot be.");
}

StoreMinute *
store_get_run_minutes(const StoreRun *run, int64 from, int64 to, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[1] = {Int64GetDatum(run->run_id)};
	StoreMinute *minutes;
	int			rows;
	int			n = 0;

	SPI_connect();
	rows = (int) sql_run(GET_RUN_MINUTES, values, NULL, true);
	minutes = MemoryContextAllocHuge(context, sizeof(StoreMinute) * (rows + 1));
	for (int row = 0; row < rows; row++)
		minutes[row] = (StoreMinute) {
			minute_of(DatumGetTimestampTz(sql_result(row, 1, TimestampTzGetDatum(DT_NOBEGIN)))),
			DatumGetInt64(sql_result(row, 2, 0))
		};
	SPI_finish();
	check_minutes(run, minutes, rows);
	for (int i = 0; i < rows; i++)
		if (minutes[i].minute >= from && minutes[i].minute <= to)
			minutes[n++] = minutes[i];
	*count = n;
	return minutes;
}

void
store_get_size(int64 from, int64 to, bool with_days, StoreSize *size)
{
	Datum		values[3] = {sql_minute(from), sql_minute(to), BoolGetDatum(with_days)};

	SPI_connect();
	sql_run(GET_SIZE, values, NULL, true);
	size->runs = DatumGetFloat8(sql_result(0, 1, 0));
	size->facts = DatumGetFloat8(sql_result(0, 2, 0));
	size->deltas = DatumGetFloat8(sql_result(0, 3, 0));
	size->delta_facts = DatumGetFloat8(sql_result(0, 4, 0));
	size->minutes = DatumGetFloat8(sql_result(0, 5, 0));
	size->hours = DatumGetFloat8(sql_result(0, 6, 0));
	size->hour_facts = DatumGetFloat8(sql_result(0, 7, 0));
	SPI_finish();
}

static Datum
left_out_array(const StoreLeftOut *left_out)
{
	return sql_array(INT8OID, left_out->run_ids, left_out->n);
}

static Datum
run_array(const StoreRun *runs, int count)
{
	int64	   *ids = palloc(sizeof(int64) * (count + 1));

	for (int i = 0; i < count; i++)
		ids[i] = runs[i].run_id;
	return sql_array(INT8OID, ids, count);
}

StoreRun *
store_get_deltas(FactOrder order, int64 from, int limit, const StoreLeftOut *left_out, int *count)
{
	Datum		values[4] = {
		Int32GetDatum(order), Int64GetDatum(limit), left_out_array(left_out), sql_minute(from)
	};

	return get_runs(GET_DELTAS, values, count);
}

StoreRun *
store_get_late(FactOrder order, int64 from, const StoreLeftOut *left_out, int *count)
{
	Datum		values[3] = {sql_minute(from), left_out_array(left_out), Int32GetDatum(order)};

	return get_runs(GET_LATE, values, count);
}

StoreRun *
store_get_settled(int64 from, int64 before, const StoreLeftOut *left_out, int *count)
{
	Datum		values[3] = {sql_minute(before), left_out_array(left_out), sql_minute(from)};
	StoreRun   *runs = get_runs(GET_SETTLED, values, count);

	while (*count > 0 && hour_of(runs[*count - 1].first_minute) != hour_of(runs[0].first_minute))
		--*count;
	return runs;
}

StoreRun *
store_get_final_runs(FactOrder order, int64 after, int limit, int *count)
{
	Datum		values[3] = {sql_minute(after), Int64GetDatum(limit), Int32GetDatum(order)};

	return get_runs(GET_FINAL_RUNS, values, count);
}

StoreRun *
store_get_hours_before(int64 before, int limit, int *count)
{
	Datum		values[2] = {sql_minute(before), Int64GetDatum(limit)};

	return get_runs(GET_HOURS_BEFORE, values, count);
}

int64
store_get_unmade_day(int64 from, int64 before, const StoreLeftOut *left_out)
{
	Datum		values[3] = {sql_minute(from), sql_minute(before), left_out_array(left_out)};
	TimestampTz day = sql_time(GET_UNMADE_DAY, values);

	return day == DT_NOEND ? LAST_MINUTE : minute_of(day);
}

int64 *
store_get_made_days(const int64 *days, int ndays, int *count)
{
	int64	   *made = palloc(sizeof(int64) * (ndays + 1));
	Datum		values[1];

	for (int i = 0; i < ndays; i++)
		made[i] = days[i] * USECS_PER_MINUTE;
	values[0] = sql_array(TIMESTAMPTZOID, made, ndays);
	SPI_connect();
	*count = (int) sql_run(GET_MADE_DAYS, values, NULL, true);
	for (int i = 0; i < *count; i++)
		made[i] = minute_of(DatumGetTimestampTz(sql_result(i, 1, 0)));
	SPI_finish();
	return made;
}

int64
store_count_wrong_days(void)
{
	return sql_number(COUNT_WRONG_DAYS, NULL, true);
}

int64
store_end_of_hours(int64 before)
{
	Datum		values[1] = {sql_minute(before)};
	int64		end = FIRST_MINUTE;

	SPI_connect();
	if (sql_run(GET_LAST_HOUR, values, NULL, true) > 0)
		end = minute_of(DatumGetTimestampTz(sql_result(0, 1, 0))) + 1;
	SPI_finish();
	return end;
}

int
store_get_final(int64 first, StoreGrain grain, StoreRun *run)
{
	Datum		values[3] = {
		sql_minute(first), sql_minute(grain == GRAIN_DAY ? first : first + grain_minutes(grain) - 1),
		Int32GetDatum(grain == GRAIN_DAY ? ORDER_DAY : ORDER_AD)
	};
	int			count;
	StoreRun   *runs = get_runs(GET_FINAL, values, &count);

	if (count > 0)
		*run = runs[0];
	return count > 0;
}

int64
store_count_final_facts(FactOrder order, int64 from, int64 to, const StoreLeftOut *left_out)
{
	Datum		values[4] = {sql_minute(from), sql_minute(to), left_out_array(left_out), Int32GetDatum(order)};

	return sql_number(COUNT_FINAL_FACTS, values, true);
}

int64
store_count_ledger(void)
{
	return sql_number(COUNT_LEDGER, NULL, true);
}

/* Run a statement that selects a first minute, and facts in deltas and in its run. */
static StorePending *
get_pending(Statement statement, Datum *values, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	StorePending *pending;
	uint64		rows;

	SPI_connect();
	rows = sql_run(statement, values, NULL, true);
	pending = MemoryContextAllocHuge(context, sizeof(StorePending) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		pending[row].first = minute_of(DatumGetTimestampTz(sql_result(row, 1, 0)));
		pending[row].pending = DatumGetInt64(sql_result(row, 2, 0));
		pending[row].compacted = DatumGetInt64(sql_result(row, 3, 0));
	}
	SPI_finish();
	*count = (int) rows;
	return pending;
}

StorePending *
store_get_pending_minutes(const StoreRun *deltas, int ndeltas, int64 settled, int64 closed,
						  const StoreLeftOut *left_out, int *count)
{
	Datum		values[4] = {
		run_array(deltas, ndeltas), sql_minute(settled), left_out_array(left_out), sql_minute(closed)
	};

	return get_pending(GET_PENDING_MINUTES, values, count);
}

StorePending *
store_get_pending_hours(const StoreRun *deltas, int ndeltas, int64 settled,
						const StoreLeftOut *left_out, int *count)
{
	Datum		values[3] = {run_array(deltas, ndeltas), sql_minute(settled), left_out_array(left_out)};

	return get_pending(GET_PENDING_HOURS, values, count);
}

StorePending *
store_get_pending_days(const StoreRun *deltas, int ndeltas, const StoreLeftOut *left_out, int *count)
{
	Datum		values[2] = {run_array(deltas, ndeltas), left_out_array(left_out)};

	return get_pending(GET_PENDING_DAYS, values, count);
}

/* Those that lie in a table of volumes: compaction leaves them alone. */
static void
delete_from_table(StoreTable table, const StoreRun *runs, int count)
{
	Oid			types[1] = {INT8ARRAYOID};
	int64	   *ids = palloc(sizeof(int64) * (count + 1));
	int			n = 0;
	Datum		values[1];

	for (int i = 0; i < count; i++)
		if (store_table(&runs[i]) == table)
			ids[n++] = runs[i].run_id;
	values[0] = sql_array(INT8OID, ids, n);
	if (n > 0)
		sql_write_segments(table, "DELETE FROM adclick_internal.%s WHERE run_id = ANY ($1)", 1, types, values);
	pfree(ids);
}

static void
delete_from_volumes(const StoreRun *runs, int count)
{
	bool		in_use[VOLUME_TABLES] = {false};

	for (int i = 0; i < count; i++)
		if (runs[i].volume >= 0 && store_table(&runs[i]) >= 0)
			in_use[store_table(&runs[i])] = true;
	for (StoreTable table = 0; table < VOLUME_TABLES; table++)
		if (in_use[table])
			delete_from_table(table, runs, count);
}

void
store_delete_runs(const StoreRun *runs, int count)
{
	Datum		values[1] = {run_array(runs, count)};

	sql_write(DELETE_DELTAS, values, NULL);
	sql_write(DELETE_SEGMENTS, values, NULL);
	delete_from_volumes(runs, count);
	if (sql_write(DELETE_RUNS, values, NULL) != (uint64) count)
		elog(ERROR, "a run to be replaced is gone");
}

const char *
store_table_name(StoreTable table)
{
	if (table >= 0)
		return definitions_volume_table(table);
	return table == STORE_DELTAS ? "deltas" : table == STORE_RESTORED ? "ledger_restored" : "segments";
}

void
store_move_unpacked(const StoreRun *runs, int count, int64 run_id)
{
	Datum		values[2] = {run_array(runs, count), Int64GetDatum(run_id)};

	sql_write(MOVE_UNPACKED, values, NULL);
}

int64
store_new_run(void)
{
	return sql_number(NEXT_RUN, NULL, false);
}
