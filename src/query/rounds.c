/*-------------------------------------------------------------------------
 *
 * rounds.c
 *	  The SQL functions for one round by hand, of ticks, compaction or retention, for
 *	  counting hours anew, and for forgetting a user.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "base/shmem.h"
#include "read/conditions.h"
#include "write/compact.h"
#include "write/forget.h"
#include "write/recompute.h"
#include "write/retention.h"
#include "write/tick.h"

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
	shmem_note_round();
	definitions_end_writes(level);
	nulls[0] = r.tick == 0;
	values[0] = Int64GetDatum(r.tick);
	values[1] = Int64GetDatum(r.rows_read);
	values[2] = Int64GetDatum(r.verdicts[CLICK_VALID]);
	values[3] = Int64GetDatum(r.verdicts[CLICK_DUPLICATE]);
	values[4] = Int64GetDatum(clicks_discarded(r.verdicts));
	values[5] = BoolGetDatum(r.more);
	return make_row(fcinfo, values, nulls);
}

static Datum
compact(FunctionCallInfo fcinfo, Oid asker)
{
	CompactResult r;
	int			level;
	bool		nulls[5] = {false};
	Datum		values[5];

	prevent_read_only("adclick.compact()");
	level = definitions_begin_writes();
	compact_run(true, &r);
	definitions_end_writes(level);
	values[0] = Int32GetDatum(r.runs_merged);
	values[1] = Int32GetDatum(r.minutes_written);
	values[2] = Int32GetDatum(r.hours_written);
	values[3] = Int32GetDatum(r.days_written);
	values[4] = BoolGetDatum(r.more);
	return make_row(fcinfo, values, nulls);
}

static Datum
recompute(FunctionCallInfo fcinfo, Oid asker)
{
	Conditions	hours;
	int			level;
	int64		clicks;

	prevent_read_only("adclick.recompute()");
	conditions_hours(&hours, PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_TIMESTAMPTZ(1));
	level = definitions_begin_writes();
	clicks = recompute_minutes(hours.from, hours.to - 1);
	definitions_end_writes(level);
	PG_RETURN_INT64(clicks);
}

static Datum
apply_retention(FunctionCallInfo fcinfo, Oid asker)
{
	RetentionResult r;
	int			level;
	bool		nulls[6] = {false};
	Datum		values[6];

	prevent_read_only("adclick.apply_retention()");
	level = definitions_begin_writes();
	retention_apply(true, &r);
	definitions_end_writes(level);
	values[0] = Int64GetDatum(r.clicks);
	values[1] = Int32GetDatum(r.dropped);
	values[2] = Int32GetDatum(r.emptied);
	values[3] = Int32GetDatum(r.minutes_dropped);
	values[4] = Int32GetDatum(r.days_dropped);
	nulls[5] = r.waits == NULL;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(r.waits);
	return make_row(fcinfo, values, nulls);
}

static Datum
forget(FunctionCallInfo fcinfo, Oid asker)
{
	int			level;
	int64		clicks;

	prevent_read_only("adclick.forget_user()");
	level = definitions_begin_writes();
	clicks = forget_user(PG_GETARG_INT64(0));
	definitions_end_writes(level);
	PG_RETURN_INT64(clicks);
}

SQL_FUNCTION_AS_OWNER(tick);
SQL_FUNCTION_AS_OWNER(compact);
SQL_FUNCTION_AS_OWNER(recompute);
SQL_FUNCTION_AS_OWNER(apply_retention);
SQL_FUNCTION_AS_OWNER(forget);
