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
 * materialized view says: its REFRESH stands behind all data of a dump, and calls
 * end_restore().  REFRESHes of others may come before it, so questions are answered as soon as
 * each table has come by a COPY; that is noted by triggers.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
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

	store_lock(STORE_LOCK_COMPACTION);
	store_lock(STORE_LOCK_TICK);
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

/*
 * What is tried again may be another dump, and of the first one half a table may have come: psql
 * takes the end of a file for that of its data.
 */
void
restore_begin_again(void)
{
	Caller		caller;

	if (!has_privs_of_role(GetUserId(), privileges_owner()))
		return;
	privileges_become_owner(&caller);
	CommandCounterIncrement();
	store_push_snapshot();
	if (store_in_restore())
		store_try_restore_again();
	PopActiveSnapshot();
	privileges_become_caller(&caller);
}

void
restore_begin(void)
{
	Caller		caller;

	ereport(NOTICE,
			(errmsg("adclick waits for the data of a dump"),
			 errdetail("Dumps have check_function_bodies off, as this session has."),
			 errhint("If there is none, call adclick.end_restore().")));

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
	seen_forget();
	definitions_end_writes(level);
}

/* In a REPEATABLE READ transaction tables may have come since its snapshot. */
static void
refuse_old_snapshot(void)
{
	int64		seen = store_count_restored();
	int64		newest;

	PushActiveSnapshot(GetLatestSnapshot());
	newest = store_count_restored();
	PopActiveSnapshot();
	if (newest > seen)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("data of a dump has come since the snapshot was taken")));
}

/* Also where there is none: REFRESH may be called at any time. */
static Datum
end_restore(FunctionCallInfo fcinfo, Oid asker)
{
	bool		incomplete = PG_GETARG_BOOL(0);

	store_lock(STORE_LOCK_COMPACTION);
	store_lock(STORE_LOCK_TICK);
	CommandCounterIncrement();
	store_push_snapshot();
	if (store_in_restore())
	{
		prevent_read_only("adclick.end_restore()");
		store_await_restorers();
		PopActiveSnapshot();
		store_push_snapshot();
		refuse_old_snapshot();
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

/* What a dump has is awaited; only ads are everybody's to load. */
static void
refuse_unawaited(Relation relation)
{
	if (strcmp(RelationGetRelationName(relation), "ads") == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("no data of a dump is awaited for table \"%s\"", RelationGetRelationName(relation)),
			 errdetail("Extension adclick was here before the dump."),
			 errhint("Restore into a database without the extension; or before --data-only, call adclick.begin_restore(). If this is no dump, SET check_function_bodies = on.")));
}

/* A table comes once: what is tried again must not double what has come. */
static void
note_restored(Relation relation)
{
	bool		by_copy = ActivePortal && ActivePortal->commandTag == CMDTAG_COPY;

	if (store_was_tried_again() || !store_note_restored(RelationGetRelid(relation), by_copy))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" takes no more data of a dump", RelationGetRelationName(relation)),
				 errdetail("Restoring was begun before, and did not come to its end."),
				 errhint("DROP EXTENSION adclick CASCADE, and restore the whole dump.")));
}

/*
 * A dump must not put its rows among others.  Nobody but superusers and members of the
 * owner can do that in all our tables; for others, who insert clicks, this is nothing.
 */
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
	if (!in_dump() || !has_privs_of_role(GetUserId(), privileges_owner()))
		return (Datum) 0;
	privileges_become_owner(&caller);
	in_restore = store_in_restore();
	if (in_restore)
		note_restored(trigger->tg_relation);
	privileges_become_caller(&caller);
	if (!in_restore)
		refuse_unawaited(trigger->tg_relation);
	return (Datum) 0;
}

bool
restore_passes_over(Node *statement)
{
	AlterTableStmt *alter = (AlterTableStmt *) statement;
	AlterTableCmd *command;
	Oid			schema;

	if (IsA(statement, RefreshMatViewStmt))
		return IsBinaryUpgrade &&
			RangeVarGetRelid(((RefreshMatViewStmt *) statement)->relation, NoLock, true) ==
			get_relname_relid("end_of_dump", get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, true));
	if (!in_dump() || !IsA(statement, AlterTableStmt) || list_length(alter->cmds) != 1)
		return false;
	command = linitial(alter->cmds);
	if (command->subtype != AT_EnableTrigAll && command->subtype != AT_DisableTrigAll)
		return false;
	schema = get_rel_namespace(RangeVarGetRelid(alter->relation, NoLock, true));
	return OidIsValid(schema) && (schema == get_namespace_oid(ADCLICK_SCHEMA, true) ||
								  schema == get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, true));
}

SQL_FUNCTION_AS_OWNER(begin_restore);
SQL_FUNCTION_AS_OWNER(end_restore);
