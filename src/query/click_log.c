/*-------------------------------------------------------------------------
 *
 * click_log.c
 *	  The SQL functions behind the views adclick.click_log and adclick.discarded_clicks.
 *
 * A view reads its tables with the rights of its owner, but calls functions as the one
 * who asks: whether this one may be called depends on who that is.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/tuplestore.h"

#include "base/privileges.h"
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

SQL_FUNCTION_AS_OWNER(ledger_clicks);

PG_FUNCTION_INFO_V1(adclick_discarded);

/* Whoever asks for some rows only ends it before its end. */
static void
end_discarded(Datum discarded)
{
	store_discarded_end((StoreDiscarded *) DatumGetPointer(discarded));
}

/* Only this is the owner's work: what follows reads on in tables that are open. */
static StoreDiscarded *
begin_discarded(void)
{
	StoreDiscarded *discarded;
	Caller		caller;

	privileges_require_discarded(GetUserId());
	privileges_become_owner(&caller);
	discarded = store_discarded_begin();
	privileges_become_caller(&caller);
	return discarded;
}

static void
begin_rows(FunctionCallInfo fcinfo)
{
	FuncCallContext *call = SRF_FIRSTCALL_INIT();
	MemoryContext outer = MemoryContextSwitchTo(call->multi_call_memory_ctx);
	ExprContext *expressions = ((ReturnSetInfo *) fcinfo->resultinfo)->econtext;

	if (get_call_result_type(fcinfo, NULL, &call->tuple_desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	call->user_fctx = begin_discarded();
	RegisterExprContextCallback(expressions, end_discarded, PointerGetDatum(call->user_fctx));
	MemoryContextSwitchTo(outer);
}

/* A row at a time, so that who asks for ten of many has them at once, and nothing is collected. */
Datum
adclick_discarded(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	MemoryContext outer;
	TupleTableSlot *slot;
	HeapTuple	tuple;

	if (SRF_IS_FIRSTCALL())
		begin_rows(fcinfo);
	call = SRF_PERCALL_SETUP();
	outer = MemoryContextSwitchTo(call->multi_call_memory_ctx);
	slot = store_discarded_next(call->user_fctx);
	MemoryContextSwitchTo(outer);
	if (slot == NULL)
	{
		UnregisterExprContextCallback(((ReturnSetInfo *) fcinfo->resultinfo)->econtext, end_discarded,
									  PointerGetDatum(call->user_fctx));
		store_discarded_end(call->user_fctx);
		SRF_RETURN_DONE(call);
	}
	tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
	SRF_RETURN_NEXT(call, heap_copy_tuple_as_datum(tuple, call->tuple_desc));
}
