/*-------------------------------------------------------------------------
 *
 * click_log.c
 *	  The SQL function behind the view adclick.click_log.
 *
 * A view reads its tables with the rights of its owner, but calls functions as the one
 * who asks: whether this one may be called depends on who that is.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/tuplestore.h"

#include "base/privileges.h"
#include "read/ledger.h"

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

SQL_FUNCTION_AS_OWNER(ledger_clicks);
