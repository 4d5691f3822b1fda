/*-------------------------------------------------------------------------
 *
 * click_log.c
 *	  The SQL functions behind the view adclick.click_log.
 *
 * A view reads its tables with the rights of its owner, but calls functions as the one
 * who asks: what these return depends on who that is.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "base/privileges.h"
#include "log/click.h"
#include "log/log.h"
#include "read/ledger.h"
#include "store/store.h"

static void
put_click(Datum *values, bool *nulls, void *arg)
{
	ReturnSetInfo *result = arg;

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static Datum
ledger_clicks(FunctionCallInfo fcinfo, Oid asker)
{
	privileges_require_click_log(asker);
	InitMaterializedSRF(fcinfo, 0);
	ledger_each(put_click, fcinfo->resultinfo);
	return (Datum) 0;
}

/* A row of the log, without its transaction. */
static void
put_row_of_log(TupleTableSlot *slot, void *result)
{
	Datum		values[LEDGER_COLUMNS];
	bool		nulls[LEDGER_COLUMNS];
	int			n = 0;

	slot_getsomeattrs(slot, CLICK_COLUMNS);
	for (int column = 1; column <= CLICK_COLUMNS; column++)
	{
		if (column == CLICK_XACT)
			continue;
		values[n] = slot->tts_values[column - 1];
		nulls[n++] = slot->tts_isnull[column - 1];
	}
	put_click(values, nulls, result);
}

static Datum
unread_clicks(FunctionCallInfo fcinfo, Oid asker)
{
	StoreState	state;
	LogReader  *reader;
	TupleTableSlot *slot;

	privileges_require_click_log(asker);
	InitMaterializedSRF(fcinfo, 0);
	store_get_state(&state);
	reader = log_begin(&state.progress, GetActiveSnapshot(), NULL);
	while ((slot = log_next(reader)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		put_row_of_log(slot, fcinfo->resultinfo);
	}
	log_end(reader);
	return (Datum) 0;
}

SQL_FUNCTION_AS_OWNER(ledger_clicks);
SQL_FUNCTION_AS_OWNER(unread_clicks);
