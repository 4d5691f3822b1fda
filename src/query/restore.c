/*-------------------------------------------------------------------------
 *
 * restore.c
 *	  The data of a dump: from CREATE EXTENSION, or adclick.begin_restore(), to
 *	  adclick.end_restore().
 *
 * pg_dump writes CREATE EXTENSION, then the rows of all our tables, in whatever order and
 * by however many processes they are restored.  Between that nothing may be counted: a tick
 * would have no keys to tell duplicates by, and would give to runs and filters the numbers
 * of those that come.  So where a dump makes the extension, the state it begins with is
 * taken away, and nobody ticks or answers without one.  That all has come is what a
 * materialized view says: REFRESH is the last statement of a dump, and calls end_restore().
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "base/shmem.h"
#include "restore.h"
#include "seen/seen.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(adclick_guard_restore);

/* What this transaction has done. */
static bool ended = false;

static void
refuse_what_is_used(void)
{
	StoreState	state;
	int			nfilters;

	store_get_state(&state);
	(void) store_get_registered(&nfilters);
	/* one: "no filter" */
	if (state.rows_read > 0 || nfilters > 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database has data of adclick already"),
				 errdetail("Clicks have been counted here, or filters been registered."),
				 errhint("Restore into a database without the extension.")));
}

static void
begin(void)
{
	int			level = definitions_begin_writes();

	store_lock(STORE_LOCK_TICK);
	store_lock(STORE_LOCK_COMPACTION);
	CommandCounterIncrement();
	store_push_snapshot();
	if (!store_in_restore())
	{
		refuse_what_is_used();
		seen_forget();
		store_begin_restore();
	}
	PopActiveSnapshot();
	definitions_end_writes(level);
}

static Datum
begin_restore(FunctionCallInfo fcinfo, Oid asker)
{
	prevent_read_only("adclick.begin_restore()");
	begin();
	PG_RETURN_VOID();
}

void
restore_begin(void)
{
	Caller		caller;

	privileges_become_owner(&caller);
	begin();
	privileges_become_caller(&caller);
}

static void
refuse(const char *missing, bool has_state)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the data of the dump is not complete"),
			 errdetail_internal("%s", missing),
			 has_state ?
			 errhint("Restore it again, into a new database. Or call adclick.end_restore(true), which goes on with what is here.") :
			 errhint("Restore it again, into a new database.")));
}

/* Without a state there is nothing to go on with, but of a dump without data nothing is here: then all begins. */
static void
end(bool incomplete)
{
	int			level = definitions_begin_writes();
	bool		has_state = store_has_state();
	char	   *missing = store_find_missing();

	if (missing && !(incomplete && has_state))
		refuse(missing, has_state);
	if (!has_state)
		store_add_state();
	store_end_restore();
	definitions_end_writes(level);
}

/* Also where there is none: REFRESH may be called at any time. */
static Datum
end_restore(FunctionCallInfo fcinfo, Oid asker)
{
	bool		incomplete = PG_GETARG_BOOL(0);

	store_lock(STORE_LOCK_TICK);
	store_lock(STORE_LOCK_COMPACTION);
	CommandCounterIncrement();
	store_push_snapshot();
	if (store_in_restore())
	{
		prevent_read_only("adclick.end_restore()");
		end(incomplete);
		ended = true;
	}
	PopActiveSnapshot();
	PG_RETURN_VOID();
}

/* Workers are wanted again. */
static void
at_commit(XactEvent event, void *arg)
{
	DatabaseSlot *slot;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (ended && event == XACT_EVENT_COMMIT)
	{
		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		slot = shmem_slot(MyDatabaseId, false);
		if (slot)
			shmem_ask_again(slot);
		LWLockRelease(shmem->lock);
		shmem_wake_launcher();
	}
	ended = false;
}

void
restore_install(void)
{
	RegisterXactCallback(at_commit, NULL);
}

/* A dump must not put its runs among others. */
Datum
adclick_guard_restore(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Caller		caller;
	bool		in_restore;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as a trigger")));
	if (!in_dump())
		return (Datum) 0;
	privileges_become_owner(&caller);
	in_restore = store_in_restore();
	privileges_become_caller(&caller);
	if (!in_restore)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no data of a dump is awaited for table \"%s\"", RelationGetRelationName(trigger->tg_relation)),
				 errdetail("Extension adclick was here before the dump."),
				 errhint("Restore into a database without the extension; or before --data-only, call adclick.begin_restore().")));
	return (Datum) 0;
}

SQL_FUNCTION_AS_OWNER(begin_restore);
SQL_FUNCTION_AS_OWNER(end_restore);
