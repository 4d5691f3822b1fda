/*-------------------------------------------------------------------------
 *
 * columns.c
 *	  What the log's columns are made of, and what guards its rows.
 *
 * The functions that the install script names for adclick.clicks.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(adclick_refuse_change);
PG_FUNCTION_INFO_V1(adclick_new_click_id);
PG_FUNCTION_INFO_V1(adclick_arrival_time);
PG_FUNCTION_INFO_V1(adclick_current_xact);

Datum
adclick_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as a trigger")));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the click log is append-only"),
			 errdetail("%s is not allowed on adclick.clicks.",
					   TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? "UPDATE" :
					   TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE" : "TRUNCATE"),
			 errhint("To be rid of old clicks, drop their partition.")));
	return (Datum) 0;
}

Datum
adclick_new_click_id(PG_FUNCTION_ARGS)
{
	return gen_random_uuid(fcinfo);
}

Datum
adclick_arrival_time(PG_FUNCTION_ARGS)
{
	/*
	 * Before the clock is read: until the transaction has its id, a partition may be
	 * closed, and COPY can wait for a lock between this and the column xact.
	 */
	(void) GetTopFullTransactionId();
	PG_RETURN_TIMESTAMPTZ(GetCurrentTimestamp());
}

Datum
adclick_current_xact(PG_FUNCTION_ARGS)
{
	PG_RETURN_FULLTRANSACTIONID(GetTopFullTransactionId());
}
