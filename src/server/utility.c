/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  Statements of others that concern the extension.
 *
 * Some statements need a database for themselves (DROP DATABASE, renaming it,
 * using it as a template): its workers are stopped first and kept out until the
 * statement has ended.  CREATE EXTENSION wakes the launcher when it commits, and in a
 * dump begins a restore (restore.c);
 * ALTER DATABASE ... SET adclick.workers ends the workers, which read it when they
 * start.
 *
 * Others would lose clicks, and are refused (method.c, uninstall.c).
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "inbox/inbox.h"
#include "query/restore.h"
#include "uninstall.h"
#include "utility.h"

/* How long to wait for a worker to end; then the statement has its say. */
#define STOP_TIMEOUT_MS 10000

static ProcessUtility_hook_type previous_hook = NULL;

/* What this transaction has done. */
static bool created_extension = false;
static List *set_databases = NIL;	/* those where adclick.workers was set or reset */

/* The database a statement needs for itself; NULL if none. */
static const char *
database_needed(Node *statement)
{
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			foreach(cell, ((AlterDatabaseStmt *) statement)->options)
				if (strcmp(((DefElem *) lfirst(cell))->defname, "tablespace") == 0)
					return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		case T_CreatedbStmt:
			foreach(cell, ((CreatedbStmt *) statement)->options)
				if (strcmp(((DefElem *) lfirst(cell))->defname, "template") == 0 &&
					((DefElem *) lfirst(cell))->arg != NULL)
					return defGetString(lfirst(cell));
			return NULL;
		default:
			return NULL;
	}
}

static bool
sets_workers(const VariableSetStmt *set)
{
	return set->kind == VAR_RESET_ALL || (set->name && strcmp(set->name, "adclick.workers") == 0);
}

/* Remember what a statement that has been executed means for workers. */
static void
note_statement(Node *node, bool had_extension)
{
	/* with CASCADE, another may have brought it along */
	if (IsA(node, CreateExtensionStmt) && had_extension && in_dump() &&
		strcmp(((CreateExtensionStmt *) node)->extname, "adclick") == 0)
		restore_begin_again();
	else if (IsA(node, CreateExtensionStmt) && !had_extension && OidIsValid(get_extension_oid("adclick", true)))
	{
		created_extension = true;
		if (in_dump())
			restore_begin();
	}
	if (IsA(node, AlterDatabaseSetStmt) && sets_workers(((AlterDatabaseSetStmt *) node)->setstmt))
	{
		MemoryContext outer = MemoryContextSwitchTo(TopTransactionContext);

		set_databases = lappend_oid(set_databases, get_database_oid(((AlterDatabaseSetStmt *) node)->dbname, false));
		MemoryContextSwitchTo(outer);
	}
}

/* Only who may do the statement may stop the workers for it. */
static bool
is_owner(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
	return pg_database_ownercheck(database, GetUserId());
#endif
}

/* Set or clear the hold on a database's workers. */
static void
hold_workers(Oid database, bool hold)
{
	DatabaseSlot *slot;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot = shmem_slot(database, false);
	if (slot && (hold || slot->held_by == MyProcPid))
	{
		slot->held_by = hold ? MyProcPid : 0;
		slot->asked_at = steady_ms();
	}
	LWLockRelease(shmem->lock);
}

/* Tell the workers of a database to end; returns whether all have. */
static bool
stop_workers(Oid database)
{
	DatabaseSlot *slot;
	bool		stopped = true;

	LWLockAcquire(shmem->lock, LW_SHARED);
	slot = shmem_slot(database, false);
	for (int kind = 0; slot && kind < WORKER_KINDS; kind++)
		if (slot->worker_pid[kind] != 0)
		{
			stopped = false;
			kill(slot->worker_pid[kind], SIGTERM);
		}
	LWLockRelease(shmem->lock);
	return stopped;
}

static void
wait_for_workers(Oid database)
{
	for (int waited = 0; !stop_workers(database) && waited < STOP_TIMEOUT_MS; waited += 20)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
call_next(PlannedStmt *statement, const char *text, bool read_only_tree, ProcessUtilityContext context,
		  ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *dest,
		  QueryCompletion *completion)
{
	ProcessUtility_hook_type next = previous_hook ? previous_hook : standard_ProcessUtility;

	next(statement, text, read_only_tree, context, parameters, environment, dest, completion);
}

static void
utility_hook(PlannedStmt *statement, const char *text, bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *dest,
			 QueryCompletion *completion)
{
	Node	   *node = statement->utilityStmt;
	const char *name = database_needed(node);
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;
	bool		had_extension = IsA(node, CreateExtensionStmt) && OidIsValid(get_extension_oid("adclick", true));

	if (restore_passes_over(node))
		return;
	inbox_check_statement(node);
	uninstall_check(node);
	if (!OidIsValid(database) || !is_owner(database))
	{
		call_next(statement, text, read_only_tree, context, parameters, environment, dest, completion);
		note_statement(node, had_extension);
		return;
	}

	hold_workers(database, true);
	PG_TRY();
	{
		wait_for_workers(database);
		call_next(statement, text, read_only_tree, context, parameters, environment, dest, completion);
		if (IsA(node, DropdbStmt))
			shmem_forget(database);
	}
	PG_FINALLY();
	{
		hold_workers(database, false);
		shmem_wake_launcher();
	}
	PG_END_TRY();
}

static void
announce_extension(void)
{
	DatabaseSlot *slot;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot = shmem_slot(MyDatabaseId, true);
	if (slot)
	{
		shmem_clear_history(slot);
		shmem_want_workers(slot);
	}
	LWLockRelease(shmem->lock);
}

/* Workers that are started from now on see the new setting; others end. */
static void
announce_setting(Oid database)
{
	DatabaseSlot *slot;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot = shmem_slot(database, false);
	if (slot)
		shmem_ask_again(slot);
	LWLockRelease(shmem->lock);
	(void) stop_workers(database);
}

static void
at_commit(XactEvent event, void *arg)
{
	ListCell   *cell;

	if (event == XACT_EVENT_PREPARE)
		set_databases = NIL;	/* the memory goes; the launcher asks some time */
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT && (created_extension || set_databases != NIL))
	{
		if (created_extension)
			announce_extension();
		foreach(cell, set_databases)
			announce_setting(lfirst_oid(cell));
		shmem_wake_launcher();
	}
	created_extension = false;
	set_databases = NIL;
}

void
utility_install(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
	RegisterXactCallback(at_commit, NULL);
}
