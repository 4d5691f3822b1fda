/*-------------------------------------------------------------------------
 *
 * reconcile.c
 *	  Reconciliation: an hour after the other is compared with the ledger.
 *
 * What is compared is plain SQL (adclick_internal.find_differences): nothing here, and
 * nothing that makes facts, counts anything.  These functions read both sides out, and
 * keep the books of what was compared.  The day is compared with its hours once in each call:
 * with the last of its hours, as all of them have to be read for that.
 *
 * A click of the ledger whose combination has no row is an error: facts that are made anew of it
 * have none either.
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
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "inbox/click.h"
#include "read/conditions.h"
#include "read/ledger.h"
#include "read/slices.h"
#include "store/store.h"
#include "write/recompute.h"

/* Rows of facts or clicks, as they are read. */
typedef struct Rows
{
	ReturnSetInfo *result;
	MemoryContext of_row;		/* in which it is made, reset after each */
	FactOrder	order;
	bool		is_delta;
	Conditions	window;
} Rows;

static void
rows_begin(Rows *rows, FunctionCallInfo fcinfo, TimestampTz from, TimestampTz to)
{
	memset(rows, 0, sizeof(*rows));
	conditions_window(&rows->window, from, to);
	InitMaterializedSRF(fcinfo, 0);
	rows->result = (ReturnSetInfo *) fcinfo->resultinfo;
	rows->of_row = AllocSetContextCreate(CurrentMemoryContext, "adclick row", ALLOCSET_SMALL_SIZES);
}

static void
put_row(Rows *rows, Datum *values, bool *nulls)
{
	CHECK_FOR_INTERRUPTS();
	tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, values, nulls);
	MemoryContextReset(rows->of_row);
}

/* The value of a fact's column; 0 if the order has none. */
static uint64
fact_column(const Rows *rows, const Facts *facts, FactRole role, size_t i)
{
	int			column = order_column(rows->order, role);

	return column == NO_COLUMN ? 0 : facts->key[column][i];
}

static void
return_fact(Rows *rows, const Facts *facts, size_t i)
{
	bool		nulls[7] = {false};
	Datum		values[7];
	int64		minute = facts_to_int64(fact_column(rows, facts, ROLE_MINUTE, i));
	IpAddress	ip = {
		fact_column(rows, facts, ROLE_IP_HIGH, i), fact_column(rows, facts, ROLE_IP_LOW, i),
		(uint8) fact_column(rows, facts, ROLE_IP_FAMILY, i)
	};

	if (minute < rows->window.from || minute >= rows->window.to)
		return;
	values[0] = Int64GetDatum(facts_to_int64(fact_column(rows, facts, ROLE_AD, i)));
	values[1] = TimestampTzGetDatum(minute * USECS_PER_MINUTE);
	values[2] = Int32GetDatum((int32) fact_column(rows, facts, ROLE_FILTER, i));
	values[3] = Int64GetDatum((int64) facts->count[i]);
	values[4] = Int64GetDatum(facts_to_int64(fact_column(rows, facts, ROLE_USER, i)));
	nulls[4] = order_column(rows->order, ROLE_USER) == NO_COLUMN || (rows->order == ORDER_IP && !fact_column(rows, facts, ROLE_HAS_USER, i));
	nulls[5] = rows->order != ORDER_IP;
	values[5] = nulls[5] ? (Datum) 0 : InetPGetDatum(ip_to_inet(&ip));
	values[6] = BoolGetDatum(rows->is_delta);
	put_row(rows, values, nulls);
}

static void
return_facts(const Facts *facts, void *arg)
{
	Rows	   *rows = arg;
	MemoryContext outer = MemoryContextSwitchTo(rows->of_row);

	for (size_t i = 0; i < facts->n; i++)
		return_fact(rows, facts, i);
	MemoryContextSwitchTo(outer);
}

static Datum
facts(FunctionCallInfo fcinfo, Oid asker)
{
	Rows		rows;
	StoreRun   *runs;
	int			nruns;

	rows_begin(&rows, fcinfo, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2));
	if (PG_GETARG_INT32(0) < ORDER_AD || PG_GETARG_INT32(0) >= ORDERS || PG_GETARG_INT32(0) == ORDER_LEDGER)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("order %d has no facts", PG_GETARG_INT32(0))));
	rows.order = PG_GETARG_INT32(0);
	runs = store_get_runs(rows.order, rows.window.from, rows.window.to - 1, &nruns);
	for (int i = 0; i < nruns; i++)
	{
		rows.is_delta = runs[i].is_delta;
		slices_merge(rows.order, &runs[i], 1, return_facts, &rows);
	}
	return (Datum) 0;
}

static void
check_combination(const FactClick *click, uint64 copies, void *arg)
{
	if (conditions_match_minute(arg, click->minute))
		(void) filters_dimensions(click->filter_id);
}

static void
return_click(const FactClick *click, uint64 copies, void *arg)
{
	Rows	   *rows = arg;
	MemoryContext outer = MemoryContextSwitchTo(rows->of_row);
	bool		nulls[9] = {false};
	Datum		values[9];

	check_combination(click, copies, &rows->window);
	values[0] = key_to_uuid(&click->key);
	values[1] = Int32GetDatum(bucket_rule(click->bucket));
	values[2] = TimestampTzGetDatum(bucket_second(click->bucket) * USECS_PER_SEC);
	values[3] = Int64GetDatum(click->ad_id);
	values[4] = TimestampTzGetDatum(click->clicked_at);
	values[5] = Int32GetDatum(click->filter_id);
	values[6] = Int64GetDatum(click->user_id);
	nulls[6] = !click->has_user;
	nulls[7] = click->ip.family == 0;
	values[7] = nulls[7] ? (Datum) 0 : InetPGetDatum(ip_to_inet(&click->ip));
	values[8] = Int64GetDatum((int64) copies);
	put_row(rows, values, nulls);
	MemoryContextSwitchTo(outer);
}

static Datum
ledger(FunctionCallInfo fcinfo, Oid asker)
{
	Rows		rows;

	rows_begin(&rows, fcinfo, PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_TIMESTAMPTZ(1));
	filters_refresh();
	ledger_each_click(rows.window.from, rows.window.to - 1, return_click, &rows);
	return (Datum) 0;
}

/* An hour being reconciled. */
typedef struct Comparison
{
	TimestampTz hour;
	bool		with_day;		/* its day is compared with its hours, too */
	StoreReconciled *result;
} Comparison;

static void
compare(void *arg)
{
	Comparison *comparison = arg;

	store_find_differences(comparison->hour, comparison->with_day, comparison->result);
}

/* Recomputing takes the sums of the day away, and its lists, and what was wrong with them would seem repaired. */
static void
check_combinations(const Comparison *comparison)
{
	int64		minute = minute_of(comparison->hour);
	Conditions	window = {.from = minute, .to = minute + MINS_PER_HOUR};

	if (comparison->with_day)
	{
		window.from = day_of(minute);
		window.to = window.from + MINS_PER_DAY;
	}
	filters_refresh();
	ledger_each_click(window.from, window.to - 1, check_combination, &window);
}

static void
repair(void *arg)
{
	Comparison *comparison = arg;
	int64		minute = minute_of(comparison->hour);
	int64		clicks;
	int64		left;

	check_combinations(comparison);
	clicks = recompute_minutes(minute, minute + MINS_PER_HOUR - 1);
	left = store_count_differences(comparison->hour, comparison->with_day);
	if (left > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("its counts could not be made anew, differences are left: %lld", (long long) left),
				 errhint("Recompute from -infinity to infinity.")));
	comparison->result->clicks = clicks;
	comparison->result->repaired = comparison->result->of_ledger == 0;
}

/* What is stored there cannot be, or not be reckoned with: said, it keeps no other hour from being compared. */
static bool
is_of_data(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_DATA_CORRUPTED ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION;
}

static void
try(void (*step) (void *arg), Comparison *comparison)
{
	ErrorData  *error = attempt(step, comparison);

	if (error && !is_of_data(error))
		ThrowErrorData(error);
	if (error)
		comparison->result->problem = error->hint ? psprintf("%s (%s)", error->message, error->hint) : error->message;
}

/* Hours that are left out, as nothing is there to compare them with. */
static void
say_dropped(TimestampTz from, TimestampTz to)
{
	StoreState	state;

	store_get_state(&state);
	if (store_get_incomplete(minute_of(from), minute_of(to - 1)) != DT_NOEND)
		ereport(NOTICE,
				(errmsg("hours up to %s are not compared, unless they were restored: the ledger no longer has all of their clicks",
						minute_text(hour_of(state.dropped_until)))));
	if (minute_of(from) <= state.minutes_dropped_until)
		ereport(NOTICE,
				(errmsg("hours up to %s are not compared: their minutes have been dropped",
						minute_text(hour_of(state.minutes_dropped_until)))));
}

/* Whether there is something of an hour on both sides. */
static bool
can_be_compared(int64 minute)
{
	StoreState	state;

	store_get_state(&state);
	return minute > state.minutes_dropped_until && store_get_incomplete(minute, minute + MINS_PER_HOUR - 1) == DT_NOEND;
}

static void
reconcile(TimestampTz hour, bool ends_day, bool to_repair, StoreReconciled *result)
{
	Comparison	comparison = {hour, ends_day, result};

	/* dropped, or released, since the call began: what was found before stands */
	result->is_left_out = !can_be_compared(minute_of(hour));
	if (result->is_left_out)
		return;
	store_delete_differences(hour);
	try(compare, &comparison);
	if (to_repair && (result->differences > result->of_ledger || result->problem))
	{
		result->problem = NULL;
		try(repair, &comparison);
	}
	if (to_repair && result->of_ledger > 0 && !result->problem)
		result->problem = "clicks of the ledger are wrong themselves, see adclick.differences";
}

static Datum
reconcile_hour(FunctionCallInfo fcinfo, Oid asker)
{
	TimestampTz from = PG_GETARG_TIMESTAMPTZ(0);
	TimestampTz to = PG_GETARG_TIMESTAMPTZ(1);
	StoreReconciliation r;
	StoreReconciled result = {0};
	int			level;

	prevent_read_only("adclick.reconcile()");
	conditions_check_order(from, to);
	(void) store_keep_extension();	/* or DROP EXTENSION and this wait for each other */
	level = definitions_begin_writes();
	store_lock(STORE_LOCK_RECONCILIATION);
	store_get_reconciliation(from, to, PG_GETARG_BOOL(2), PG_GETARG_BOOL(3), &r);
	if (r.is_new && from < to)
		say_dropped(from, to);
	if (r.hours_left > 0)
	{
		reconcile(r.hour, r.ends_day, PG_GETARG_BOOL(2), &result);
		store_put_reconciled(&r, &result);
	}
	definitions_end_writes(level);
	PG_RETURN_BOOL(r.hours_left > 1);
}

SQL_FUNCTION_AS_OWNER(facts);
SQL_FUNCTION_AS_OWNER(ledger);
SQL_FUNCTION_AS_OWNER(reconcile_hour);
