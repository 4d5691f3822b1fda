/*-------------------------------------------------------------------------
 *
 * store_days.c
 *	  Dropping days of facts by ad: their minutes, and what sums them up.
 *
 * See store.h.  Rows are deleted, in the transaction that says so in the state: so a snapshot from
 * before goes on to see them.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/adclick.h"
#include "store.h"
#include "store_segments.h"
#include "store_sql.h"

int64
store_get_first_day(FactOrder order)
{
	Datum		values[1] = {Int32GetDatum(order)};
	TimestampTz day = sql_time(GET_FIRST_DAY, values);

	return day == DT_NOEND ? LAST_MINUTE : minute_of(day);
}

bool
store_has_deltas_until(FactOrder order, int64 minute)
{
	Datum		values[2] = {Int32GetDatum(order), sql_minute(minute)};

	return sql_number(COUNT_DELTAS_UNTIL, values, true) > 0;
}

bool
store_get_day_sums(int64 day, int64 *of_hours, int64 *of_day)
{
	Datum		values[2] = {sql_minute(day), sql_minute(day + MINS_PER_DAY - 1)};
	bool		has_run;

	SPI_connect();
	sql_run(GET_DAY_SUMS, values, NULL, true);
	has_run = DatumGetBool(sql_result(0, 1, BoolGetDatum(false)));
	*of_hours = DatumGetInt64(sql_result(0, 2, 0));
	*of_day = DatumGetInt64(sql_result(0, 3, 0));
	SPI_finish();
	return has_run;
}

void
store_drop_day(FactOrder order, int64 day)
{
	int64		last = day + MINS_PER_DAY - 1;
	int64		clicks = 0;
	int			nruns;
	StoreRun   *runs = store_get_runs(order, day, last, &nruns);
	Datum		values[2];

	for (int i = 0; i < nruns; i++)
		clicks += runs[i].clicks;
	store_delete_runs(runs, nruns);
	if (order == ORDER_DAY)
		store_delete_all_lists(GRAIN_DAY, day, last);
	else
	{
		store_delete_all_lists(GRAIN_MINUTE, day, last);
		store_delete_all_lists(GRAIN_HOUR, day, last);
	}
	values[0] = Int64GetDatum(clicks);
	values[1] = sql_minute(last);
	sql_write(order == ORDER_DAY ? NOTE_DAYS_DROPPED : NOTE_MINUTES_DROPPED, values, NULL);
}
