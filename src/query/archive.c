/*-------------------------------------------------------------------------
 *
 * archive.c
 *	  The SQL functions that write clicks to files, and bring them back.
 *
 * Files are written and read by the server, for whoever may have it do so.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "read/conditions.h"
#include "read/ledger.h"
#include "store/filters.h"
#include "store/store.h"
#include "write/archive.h"
#include "write/archive_line.h"

/* Lines of a file, as they are made. */
typedef struct Lines
{
	ReturnSetInfo *result;
	MemoryContext of_line;		/* reset after each */
} Lines;

static void
put_line(Lines *lines, Datum *values, bool *nulls)
{
	CHECK_FOR_INTERRUPTS();
	tuplestore_putvalues(lines->result->setResult, lines->result->setDesc, values, nulls);
	MemoryContextReset(lines->of_line);
}

static void
put_click(const FactClick *click, uint64 copies, void *arg)
{
	Lines	   *lines = arg;
	MemoryContext outer = MemoryContextSwitchTo(lines->of_line);
	Datum		values[LINE_COLUMNS];
	bool		nulls[LINE_COLUMNS];

	line_of_click(click, copies, values, nulls);
	put_line(lines, values, nulls);
	MemoryContextSwitchTo(outer);
}

static void
put_row(const Datum *row, const bool *row_nulls, void *arg)
{
	Lines	   *lines = arg;
	MemoryContext outer = MemoryContextSwitchTo(lines->of_line);
	Datum		values[LINE_COLUMNS];
	bool		nulls[LINE_COLUMNS];

	memcpy(&values[LINE_CLICK], row, sizeof(Datum) * CLICK_COLUMNS);
	memcpy(&nulls[LINE_CLICK], row_nulls, sizeof(bool) * CLICK_COLUMNS);
	line_of_row(values, nulls);
	put_line(lines, values, nulls);
	MemoryContextSwitchTo(outer);
}

static Datum
archived_clicks(FunctionCallInfo fcinfo, Oid asker)
{
	Lines		lines = {(ReturnSetInfo *) fcinfo->resultinfo};
	StoreRun	run;

	InitMaterializedSRF(fcinfo, 0);
	lines.of_line = AllocSetContextCreate(CurrentMemoryContext, "adclick line", ALLOCSET_SMALL_SIZES);
	filters_refresh();
	store_get_ledger_run(PG_GETARG_INT64(0), &run);
	ledger_each_of_run(&run, put_click, &lines);
	store_each_unpacked(run.run_id, put_row, &lines);
	return (Datum) 0;
}

static Datum
archive_volume(FunctionCallInfo fcinfo, Oid asker)
{
	int			level;
	bool		found;

	prevent_read_only("adclick.archive_clicks()");
	privileges_require_files(asker, ROLE_PG_WRITE_SERVER_FILES);
	(void) store_keep_extension();
	level = definitions_begin_writes();
	found = archive_next_volume();
	definitions_end_writes(level);
	PG_RETURN_BOOL(found);
}

static Datum
restore_clicks(FunctionCallInfo fcinfo, Oid asker)
{
	Conditions	hours;
	int			level;
	int64		clicks = 0;

	prevent_read_only("adclick.restore_clicks()");
	privileges_require_files(asker, ROLE_PG_READ_SERVER_FILES);
	conditions_hours(&hours, PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_TIMESTAMPTZ(1));
	level = definitions_begin_writes();
	if (hours.from < hours.to)
		clicks = restored_bring_back(hours.from, hours.to - 1);
	definitions_end_writes(level);
	PG_RETURN_INT64(clicks);
}

static Datum
release_clicks(FunctionCallInfo fcinfo, Oid asker)
{
	int			level;
	int64		clicks;

	prevent_read_only("adclick.release_clicks()");
	level = definitions_begin_writes();
	clicks = restored_release();
	definitions_end_writes(level);
	PG_RETURN_INT64(clicks);
}

SQL_FUNCTION_AS_OWNER(archived_clicks);
SQL_FUNCTION_AS_OWNER(archive_volume);
SQL_FUNCTION_AS_OWNER(restore_clicks);
SQL_FUNCTION_AS_OWNER(release_clicks);
