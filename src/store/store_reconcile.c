/*-------------------------------------------------------------------------
 *
 * store_reconcile.c
 *	  The tables of reconciliation: what was compared with the ledger, and what was found.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store.h"
#include "store_sql.h"

void
store_get_reconciliation(TimestampTz since, TimestampTz until, bool repair, bool only_changed,
						 StoreReconciliation *r)
{
	Datum		values[4] = {
		TimestampTzGetDatum(since), TimestampTzGetDatum(until), BoolGetDatum(repair), BoolGetDatum(only_changed)
	};

	SPI_connect();
	r->is_new = sql_run(GET_RECONCILIATION, values, NULL, false) == 0;
	if (r->is_new)
		sql_run(BEGIN_RECONCILIATION, values, NULL, false);
	r->id = DatumGetInt64(sql_result(0, 1, Int64GetDatum(0)));
	r->hours_left = DatumGetInt64(sql_result(0, 2, Int64GetDatum(0)));
	r->hour = DatumGetTimestampTz(sql_result(0, 3, TimestampTzGetDatum(DT_NOBEGIN)));
	r->ends_day = DatumGetBool(sql_result(0, 4, BoolGetDatum(false)));
	SPI_finish();
}

void
store_delete_differences(TimestampTz hour)
{
	Datum		values[1] = {TimestampTzGetDatum(hour)};

	SPI_connect();
	sql_run(DELETE_DIFFERENCES, values, NULL, false);
	SPI_finish();
}

void
store_find_differences(TimestampTz hour, bool with_day, StoreReconciled *result)
{
	Datum		values[2] = {TimestampTzGetDatum(hour), BoolGetDatum(with_day)};

	SPI_connect();
	sql_run(FIND_DIFFERENCES, values, NULL, false);
	result->differences = DatumGetInt64(sql_result(0, 1, Int64GetDatum(0)));
	result->of_ledger = DatumGetInt64(sql_result(0, 2, Int64GetDatum(0)));
	result->clicks = DatumGetInt64(sql_result(0, 3, Int64GetDatum(0)));
	SPI_finish();
}

/* Sees what was written since the snapshot was taken. */
int64
store_count_differences(TimestampTz hour, bool with_day)
{
	Datum		values[2] = {TimestampTzGetDatum(hour), BoolGetDatum(with_day)};

	return sql_number(COUNT_DIFFERENCES, values, false);
}

void
store_put_reconciled(const StoreReconciliation *r, const StoreReconciled *result)
{
	Datum		values[7] = {
		Int64GetDatum(r->id), TimestampTzGetDatum(r->hour), Int64GetDatum(result->clicks),
		Int64GetDatum(result->differences), BoolGetDatum(result->repaired),
		result->problem ? CStringGetTextDatum(result->problem) : (Datum) 0,
		BoolGetDatum(result->is_left_out)
	};

	SPI_connect();
	sql_run(PUT_RECONCILED, values, result->problem ? NULL : "     n ", false);
	SPI_finish();
}

TimestampTz
store_get_unreconciled(int64 from, int64 to)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};

	return sql_time(GET_UNRECONCILED, values);
}

int64
store_count_unreconciled(void)
{
	return sql_number(COUNT_UNRECONCILED, NULL, true);
}
