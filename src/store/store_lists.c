/*-------------------------------------------------------------------------
 *
 * store_lists.c
 *	  The tables around top-N: most clicked ads, registered filters; and the minutes
 *	  that are not in every order.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "store.h"
#include "store_sql.h"

/* The times at which minutes begin. */
static Datum
minute_array(const int64 *minutes, int count)
{
	int64	   *times = palloc(sizeof(int64) * (count + 1));
	Datum		array;

	for (int i = 0; i < count; i++)
		times[i] = minutes[i] * USECS_PER_MINUTE;
	array = sql_array(TIMESTAMPTZOID, times, count);
	pfree(times);
	return array;
}

void
store_add_gaps(const int64 *minutes, int count)
{
	Datum		values[1] = {minute_array(minutes, count)};

	sql_write(ADD_GAPS, values, NULL);
}

void
store_delete_gaps(int64 from, int64 to)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};

	sql_write(DELETE_GAPS, values, NULL);
}

void
store_add_all_gaps(int64 from, int64 to)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};

	sql_write(ADD_ALL_GAPS, values, NULL);
}

bool
store_has_gap(int64 from, int64 to, int64 *minute)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};
	TimestampTz found;

	SPI_connect();
	sql_run(GET_GAP, values, NULL, true);
	found = DatumGetTimestampTz(sql_result(0, 1, TimestampTzGetDatum(DT_NOBEGIN)));
	SPI_finish();
	*minute = minute_of(found);
	return found != DT_NOBEGIN;
}

/* The minutes that a statement selects. */
static int64 *
get_gaps(Statement statement, Datum *values, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	int64	   *minutes;
	uint64		rows;

	SPI_connect();
	rows = sql_run(statement, values, NULL, true);
	minutes = MemoryContextAllocHuge(context, sizeof(int64) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
		minutes[row] = minute_of(DatumGetTimestampTz(sql_result(row, 1, 0)));
	SPI_finish();
	*count = (int) rows;
	return minutes;
}

int64 *
store_get_gaps(int *count)
{
	return get_gaps(GET_GAPS, NULL, count);
}

int64 *
store_get_gaps_of(const int64 *minutes, int nminutes, int *count)
{
	Datum		values[1] = {minute_array(minutes, nminutes)};

	return get_gaps(GET_GAPS_OF, values, count);
}

/* The lists of each grain: their table, and what is done with them. */
static const struct
{
	const char *table;
	Statement	get;
	Statement	put;
	Statement	delete;
	Statement	delete_all;
	Statement	drop;
}			lists_of[GRAINS] =
{
	[GRAIN_MINUTE] = {"most_clicked_ads", GET_LISTS, PUT_LIST, DELETE_LISTS, DELETE_ALL_LISTS, DROP_LISTS},
	[GRAIN_HOUR] = {
		"most_clicked_ads_hourly", GET_HOUR_LISTS, PUT_HOUR_LIST, DELETE_HOUR_LISTS, DELETE_ALL_HOUR_LISTS, DROP_HOUR_LISTS
	},
	[GRAIN_DAY] = {
		"most_clicked_ads_daily", GET_DAY_LISTS, PUT_DAY_LIST, DELETE_DAY_LISTS, DELETE_ALL_DAY_LISTS, DROP_DAY_LISTS
	}
};

/* How an ad_click lies in an array: as a row without NULLs. */
#define AD_CLICK_HEADER MAXALIGN(SizeofHeapTupleHeader)
#define AD_CLICK_BYTES (AD_CLICK_HEADER + 2 * sizeof(int64))

/* More do not fit into an array. */
#define MAX_LIST ((int64) (MaxAllocSize / AD_CLICK_BYTES))

static void
damaged_list(const StoreList *list)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("a list in adclick.%s is damaged", lists_of[list->grain].table),
			 errdetail("The one of %s is not an array of ads with their clicks, or more was cut off.",
					   timestamptz_to_str(list->first * USECS_PER_MINUTE))));
}

static bool
read_ad_click(const char *element, AdCount *ad)
{
	HeapTupleHeader row = (HeapTupleHeader) element;
	int64		values[2];

	if (VARATT_IS_EXTENDED(row) || HeapTupleHeaderGetDatumLength(row) != AD_CLICK_BYTES ||
		HeapTupleHeaderGetNatts(row) != lengthof(values) || row->t_hoff != AD_CLICK_HEADER ||
		(row->t_infomask & HEAP_HASNULL) != 0)
		return false;
	memcpy(values, element + AD_CLICK_HEADER, sizeof(values));
	ad->ad = facts_from_int64(values[0]);
	ad->clicks = (uint64) values[1];
	return values[1] > 0;
}

/*
 * Read the first ads of a list, and so no more of its bytes than need be: the
 * array is stored as it is, and its elements are all of the same length.
 */
static void
read_list(uint64 row, int64 depth, StoreList *list, MemoryContext context)
{
	int64		most = Min(depth, MAX_LIST) + 1;	/* one more tells what is cut off */
	ArrayType  *array = (ArrayType *) PG_DETOAST_DATUM_SLICE(sql_result(row, 3, 0), 0,
															 ARR_OVERHEAD_NONULLS(1) - VARHDRSZ +
															 most * AD_CLICK_BYTES);
	size_t		size = VARSIZE(array);
	size_t		n;

	list->first = minute_of(DatumGetTimestampTz(sql_result(row, 1, 0)));
	list->cut_off = (uint64) DatumGetInt64(sql_result(row, 2, 0));
	list->n = 0;
	if (size < sizeof(ArrayType) || ARR_HASNULL(array) ||
		(ARR_NDIM(array) == 0 && list->cut_off != 0))
		damaged_list(list);
	if (ARR_NDIM(array) == 0)
		return;
	n = size < ARR_OVERHEAD_NONULLS(1) ? 0 : (size - ARR_OVERHEAD_NONULLS(1)) / AD_CLICK_BYTES;
	if (ARR_NDIM(array) != 1 || n < 1 || n != Min(most, ARR_DIMS(array)[0]))
		damaged_list(list);
	list->ads = MemoryContextAlloc(context, sizeof(AdCount) * n);
	for (size_t i = 0; i < n; i++)
		if (!read_ad_click(ARR_DATA_PTR(array) + i * AD_CLICK_BYTES, &list->ads[i]))
			damaged_list(list);
	if (list->cut_off > list->ads[n - 1].clicks)
		damaged_list(list);
	list->n = Min(depth, n);
	if (list->n < n)
		list->cut_off = list->ads[list->n].clicks;
	pfree(array);
}

StoreList *
store_get_lists(StoreGrain grain, int32 filter_id, const int64 *firsts, int nfirsts, int64 depth, int *count)
{
	Datum		values[2] = {Int32GetDatum(filter_id), minute_array(firsts, nfirsts)};
	MemoryContext context = CurrentMemoryContext;
	StoreList  *lists;
	uint64		rows;

	SPI_connect();
	rows = sql_run(lists_of[grain].get, values, NULL, true);
	lists = MemoryContextAlloc(context, sizeof(StoreList) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		lists[row].grain = grain;
		read_list(row, depth, &lists[row], context);
	}
	SPI_finish();
	*count = (int) rows;
	return lists;
}

void
store_put_list(int32 filter_id, const StoreList *list)
{
	int64	   *ads = palloc(sizeof(int64) * (list->n + 1));
	int64	   *clicks = palloc(sizeof(int64) * (list->n + 1));
	Datum		values[5] = {
		Int32GetDatum(filter_id), sql_minute(list->first), Int64GetDatum((int64) list->cut_off)
	};

	for (size_t i = 0; i < list->n; i++)
	{
		ads[i] = facts_to_int64(list->ads[i].ad);
		clicks[i] = (int64) list->ads[i].clicks;
	}
	values[3] = sql_array(INT8OID, ads, (int) list->n);
	values[4] = sql_array(INT8OID, clicks, (int) list->n);
	sql_write(lists_of[list->grain].put, values, NULL);
	pfree(ads);
	pfree(clicks);
	pfree(DatumGetPointer(values[3]));
	pfree(DatumGetPointer(values[4]));
}

void
store_delete_lists(StoreGrain grain, const int64 *firsts, int count)
{
	Datum		values[1] = {minute_array(firsts, count)};

	sql_write(lists_of[grain].delete, values, NULL);
}

void
store_delete_all_lists(StoreGrain grain, int64 from, int64 to)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};

	sql_write(lists_of[grain].delete_all, values, NULL);
}

StoreFilter *
store_get_registered(int *count)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi_context;
	StoreFilter *filters;
	uint64		rows;

	SPI_connect();
	rows = sql_run(GET_REGISTERED, NULL, NULL, true);
	spi_context = MemoryContextSwitchTo(context);
	filters = palloc(sizeof(StoreFilter) * (rows + 1));
	for (uint64 row = 0; row < rows; row++)
	{
		filters[row].filter_id = DatumGetInt32(sql_result(row, 1, 0));
		for (int i = 0; i < DIMENSIONS; i++)
		{
			Datum		value = sql_result(row, 2 + i, 0);

			filters[row].values[i] = value ? TextDatumGetCString(value) : NULL;
		}
	}
	MemoryContextSwitchTo(spi_context);
	SPI_finish();
	*count = (int) rows;
	return filters;
}

/* Run a statement on the dimensions of a filter; the id it returns, or 0. */
static int32
filter_statement(Statement statement, const StoreFilter *filter, bool read_only)
{
	Datum		values[DIMENSIONS];
	char		nulls[DIMENSIONS + 1] = "   ";
	int32		id = 0;

	for (int i = 0; i < DIMENSIONS; i++)
	{
		values[i] = filter->values[i] ? CStringGetTextDatum(filter->values[i]) : (Datum) 0;
		nulls[i] = filter->values[i] ? ' ' : 'n';
	}
	SPI_connect();
	if (sql_run(statement, values, nulls, read_only) > 0)
		id = DatumGetInt32(sql_result(0, 1, 0));
	SPI_finish();
	return id;
}

void
store_each_combination(store_combination_callback callback)
{
	uint64		rows;

	SPI_connect();
	rows = sql_run(GET_COMBINATIONS, NULL, NULL, true);
	for (uint64 row = 0; row < rows; row++)
	{
		StoreFilter filter = {DatumGetInt32(sql_result(row, 1, 0))};
		Datum		last_day = sql_result(row, 2 + DIMENSIONS, DateADTGetDatum(DATEVAL_NOEND));

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < DIMENSIONS; i++)
			filter.values[i] = TextDatumGetCString(sql_result(row, 2 + i, 0));
		callback(&filter, ((int64) DatumGetDateADT(last_day) + 1) * MINS_PER_DAY - 1);
	}
	SPI_finish();
}

/* Each question asks this, so without SQL. */
StoreCombinations
store_combinations(void)
{
	StoreCombinations found = {0};
	Relation	relation;
	TupleTableSlot *slot;
	TableScanDesc scan;

	definitions_check();
	relation = table_open(get_relname_relid("filters", get_namespace_oid(ADCLICK_SCHEMA, false)), AccessShareLock);
	slot = table_slot_create(relation, NULL);
	scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		has_null = false;

		for (int i = 0; i < DIMENSIONS; i++)
			has_null |= slot_attisnull(slot, 2 + i);
		if (has_null)
			continue;
		found.n++;
		found.ids += store_id_hash(DatumGetInt32(slot->tts_values[0]));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(relation, AccessShareLock);
	return found;
}

int32
store_add_combination(Datum *values, int64 day)
{
	Datum		row[DIMENSIONS + 1];
	int32		id;

	memcpy(row, values, sizeof(Datum) * DIMENSIONS);
	row[DIMENSIONS] = sql_minute(day);
	SPI_connect();
	if (sql_run(ADD_COMBINATION, row, NULL, false) != 1)
		elog(ERROR, "could not add a combination");
	id = DatumGetInt32(sql_result(0, 1, 0));
	SPI_finish();
	return id;
}

void
store_put_last_days(const int64 *filter_ids, const int64 *days, int n)
{
	Datum		values[2] = {sql_array(INT8OID, filter_ids, n), minute_array(days, n)};

	sql_write(PUT_LAST_DAYS, values, NULL);
	pfree(DatumGetPointer(values[0]));
	pfree(DatumGetPointer(values[1]));
}

/* The minute that a statement selects. */
static int64
minute_or_last(Statement statement)
{
	TimestampTz at = sql_time(statement, NULL);

	return TIMESTAMP_NOT_FINITE(at) ? LAST_MINUTE : minute_of(at);
}

int64
store_get_first_last_day(void)
{
	return minute_or_last(GET_FIRST_LAST_DAY);
}

int64
store_get_first_minute(void)
{
	return minute_or_last(GET_FIRST_MINUTE);
}

void
store_end_combinations(int64 day)
{
	Datum		values[1] = {sql_minute(day)};

	sql_write(END_COMBINATIONS, values, NULL);
}

int32
store_find_filter(const StoreFilter *filter)
{
	return filter_statement(FIND_FILTER, filter, true);
}

int32
store_add_filter(const StoreFilter *filter)
{
	return filter_statement(ADD_FILTER, filter, false);
}

void
store_drop_filter(int32 filter_id)
{
	Datum		values[1] = {Int32GetDatum(filter_id)};

	for (StoreGrain grain = GRAIN_MINUTE; grain < GRAINS; grain++)
		sql_write(lists_of[grain].drop, values, NULL);
	sql_write(DROP_FILTER, values, NULL);
}
