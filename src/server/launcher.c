/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The launcher: keeps workers in every database that has the extension.
 *
 * It has no database itself.  Of a database it does not know it learns from the
 * aggregator it starts there, which leaves again if there is no extension; it is
 * asked again after some minutes, and only a few at a time, so that databases
 * without it neither take slots nor worker processes from those that have it.
 * CREATE EXTENSION and the end of a worker wake it (utility.c, bgw_notify_pid).
 * A database with the extension that wants no workers (adclick.workers, or a restore
 * under way) keeps its slot, as rounds are done by hand there; it is asked again in the
 * same way, and at once after a reload, ALTER DATABASE or the end of the restore.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/shmem.h"
#include "worker.h"

/* A look at all databases, when nothing wakes the launcher. */
#define LOOK_INTERVAL_MS 10000

/* A database that had no extension, or wanted no workers, is asked again after this, in ms. */
#define ASK_AGAIN_MS (5 * 60 * 1000)

/* So often an aggregator must have failed to start where nothing is known. */
#define ASKED_IN_VAIN 3

/* Databases asked at the same time. */
#define MAX_ASKED 4

/* Databases that had no extension when they were asked last. */
typedef struct Without
{
	Oid			database;
	int64		asked_at;		/* by steady_ms() */
} Without;

static List *without = NIL;

static const struct
{
	const char *type;
	const char *function;
}			kinds[WORKER_KINDS] =
{
	[WORKER_AGGREGATOR] = {"adclick aggregator", "adclick_aggregator_main"},
	[WORKER_COMPACTOR] = {"adclick compactor", "adclick_compactor_main"},
	[WORKER_READER] = {"adclick reader", "adclick_reader_main"},
};

/* Handles of the workers started, by slot. */
static BackgroundWorkerHandle *handles[SHMEM_MAX_DATABASES][WORKER_KINDS];

/* For which database of a slot it was said that there is no room for its workers. */
static Oid	complained_about[SHMEM_MAX_DATABASES];

void
worker_register_launcher(void)
{
	BackgroundWorker worker = {0};

	/* pg_upgrade has the server to itself */
	if (IsBinaryUpgrade)
		return;
	strlcpy(worker.bgw_name, "adclick launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "adclick launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "adclick", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "adclick_launcher_main", sizeof(worker.bgw_function_name));
	RegisterBackgroundWorker(&worker);
}

static void
launcher_exit(int code, Datum arg)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->launcher_latch = NULL;
	LWLockRelease(shmem->lock);
}

/* Whether no worker runs there: ours, or one that a launcher before us started. */
static bool
is_stopped(int i, WorkerKind kind)
{
	pid_t		pid;

	if (handles[i][kind] == NULL)
		return shmem->slots[i].worker_pid[kind] == 0;
	if (GetBackgroundWorkerPid(handles[i][kind], &pid) != BGWH_STOPPED)
		return false;
	pfree(handles[i][kind]);
	handles[i][kind] = NULL;
	return true;
}

static bool
are_stopped(int i)
{
	for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
		if (!is_stopped(i, kind))
			return false;
	return true;
}

static Without *
find_without(Oid database)
{
	ListCell   *cell;

	foreach(cell, without)
		if (((Without *) lfirst(cell))->database == database)
			return lfirst(cell);
	return NULL;
}

static void
note_without(Oid database)
{
	Without    *known = find_without(database);

	if (known == NULL)
	{
		MemoryContext outer = MemoryContextSwitchTo(TopMemoryContext);

		known = palloc(sizeof(Without));
		known->database = database;
		without = lappend(without, known);
		MemoryContextSwitchTo(outer);
	}
	known->asked_at = steady_ms();
}

static void
forget_dropped(List *databases)
{
	ListCell   *cell;

	foreach(cell, without)
		if (!list_member_oid(databases, ((Without *) lfirst(cell))->database))
		{
			pfree(lfirst(cell));
			without = foreach_delete_current(without, cell);
		}
}

/* Nothing to do there, as far as is known: no extension, or no way in to look. */
static bool
is_without(const DatabaseSlot *slot)
{
	return slot->interest == DATABASE_HAS_NONE ||
		(slot->interest == DATABASE_UNKNOWN && !slot->wanted &&
		 slot->failures[WORKER_AGGREGATOR] >= ASKED_IN_VAIN);
}

/*
 * Free the slots of databases that are not there, or have no extension; returns
 * how many of the latter are put into "had_none".
 */
static int
free_slots(List *databases, Oid *had_none)
{
	int			n = 0;

	for (int i = 0; i < SHMEM_MAX_DATABASES; i++)
	{
		DatabaseSlot *slot = &shmem->slots[i];
		bool		is_there = list_member_oid(databases, slot->database);

		if (!OidIsValid(slot->database) || (is_there && !is_without(slot)) ||
			slot->held_by != 0 || !are_stopped(i))
			continue;
		/* whoever is in a database that lets no more in can still be at work */
		if (!is_there && CountDBBackends(slot->database) > 0)
			continue;
		if (is_there)
			had_none[n++] = slot->database;
		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		dedup_drop_space(shmem_dedup, slot->database);
		LWLockRelease(shmem->dedup_lock);
		slot->database = InvalidOid;
	}
	return n;
}

/* Make slots for databases that are to be asked, a few at a time. */
static void
ask_databases(List *databases)
{
	int64		now = steady_ms();
	ListCell   *cell;
	int			asked = 0;

	for (int i = 0; i < SHMEM_MAX_DATABASES; i++)
		asked += OidIsValid(shmem->slots[i].database) && shmem->slots[i].interest == DATABASE_UNKNOWN;
	foreach(cell, databases)
	{
		Oid			database = lfirst_oid(cell);
		Without    *known = find_without(database);

		if (asked >= MAX_ASKED)
			break;
		if (shmem_slot(database, false) != NULL ||
			(known && now - known->asked_at < ASK_AGAIN_MS))
			continue;
		if (shmem_slot(database, true) == NULL)
			break;
		asked++;
	}
}

static void
update_slots(List *databases)
{
	Oid			had_none[SHMEM_MAX_DATABASES];
	int			n;

	forget_dropped(databases);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	n = free_slots(databases, had_none);
	LWLockRelease(shmem->lock);
	/* not under the lock: it takes memory */
	for (int i = 0; i < n; i++)
		note_without(had_none[i]);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	ask_databases(databases);
	LWLockRelease(shmem->lock);
}

static void
look_at_databases(void)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	List	   *databases = NIL;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		/* a worker in a template would be in the way of CREATE DATABASE */
		if (database->datallowconn && !database->datistemplate && 
			database->datconnlimit != COMPAT_INVALID_CONNECTION_LIMIT)
			databases = lappend_oid(databases, database->oid);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	update_slots(databases);
	CommitTransactionCommand();
}

static bool
start_worker(int i, WorkerKind kind)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %u", kinds[kind].type,
			 shmem->slots[i].database);
	strlcpy(worker.bgw_type, kinds[kind].type, BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "adclick", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, kinds[kind].function, sizeof(worker.bgw_function_name));
	worker.bgw_main_arg = ObjectIdGetDatum(shmem->slots[i].database);
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handles[i][kind]))
		return false;

	/* A failure until the worker says that a round succeeded. */
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->slots[i].failures[kind]++;
	shmem->slots[i].started_at[kind] = steady_ms();
	LWLockRelease(shmem->lock);
	return true;
}

/* Whether a worker should run; "*wait_ms" shrinks to when to look again. */
static bool
is_due(const DatabaseSlot *slot, WorkerKind kind, long *wait_ms)
{
	int64		delay_ms;
	int64		since_ms;

	if (!OidIsValid(slot->database) || slot->interest == DATABASE_HAS_NONE || slot->held_by != 0)
		return false;
	if (slot->interest != DATABASE_HAS_EXTENSION && kind != WORKER_AGGREGATOR)
		return false;
	if (kind == WORKER_READER && !slot->has_sources)
		return false;
	if (shmem_rests(slot))
		delay_ms = ASK_AGAIN_MS;
	else if (slot->failures[kind] == 0)
		return true;
	else
		delay_ms = worker_backoff_ms(slot->failures[kind]);
	since_ms = steady_ms() - slot->started_at[kind];
	if (since_ms >= delay_ms)
		return true;
	*wait_ms = Min(*wait_ms, delay_ms - since_ms);
	return false;
}

/* There is no room for the worker: say it in the log and in the database's status, once. */
static void
complain(int i, WorkerKind kind)
{
	DatabaseSlot *slot = &shmem->slots[i];
	char	   *name;
	char		message[SHMEM_ERROR_LENGTH];

	if (complained_about[i] == slot->database)
		return;
	complained_about[i] = slot->database;
	StartTransactionCommand();
	name = get_database_name(slot->database);
	snprintf(message, sizeof(message), "could not start the %s of database \"%s\"",
			 kinds[kind].type, name ? name : "");
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("%s", message),
			 errdetail("All worker processes are in use."),
			 errhint("Raise max_worker_processes; each database with the extension needs two, and one more if it reads log files.")));
	CommitTransactionCommand();
	strlcat(message, ": all worker processes are in use (max_worker_processes)", sizeof(message));
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	strlcpy(slot->last_error, message, SHMEM_ERROR_LENGTH);
	slot->last_error_at = GetCurrentTimestamp();
	LWLockRelease(shmem->lock);
}

/* One that is only asked makes room for others to be asked. */
static void
give_way(DatabaseSlot *slot)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (slot->interest == DATABASE_UNKNOWN && !slot->wanted)
		slot->interest = DATABASE_HAS_NONE;
	LWLockRelease(shmem->lock);
}

/* Start what a slot lacks. */
static void
start_workers_of(int i, long *wait_ms)
{
	DatabaseSlot *slot = &shmem->slots[i];
	bool		lacking = false;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	/* who kept the workers out may be gone without a word */
	if (slot->held_by != 0 && BackendPidGetProc(slot->held_by) == NULL)
		slot->held_by = 0;
	LWLockRelease(shmem->lock);

	for (WorkerKind kind = 0; kind < WORKER_KINDS; kind++)
	{
		if (!is_stopped(i, kind) || !is_due(slot, kind, wait_ms) || start_worker(i, kind))
			continue;
		give_way(slot);
		if (slot->interest != DATABASE_HAS_NONE && !shmem_rests(slot))
			complain(i, kind);
		lacking = true;
	}
	if (!lacking)
		complained_about[i] = InvalidOid;
}

/* Those known to have the extension first: the others are only asked. */
static long
start_workers(void)
{
	long		wait_ms = LOOK_INTERVAL_MS;

	for (int i = 0; i < SHMEM_MAX_DATABASES; i++)
		if (shmem->slots[i].interest == DATABASE_HAS_EXTENSION)
			start_workers_of(i, &wait_ms);
	for (int i = 0; i < SHMEM_MAX_DATABASES; i++)
		if (shmem->slots[i].interest != DATABASE_HAS_EXTENSION)
			start_workers_of(i, &wait_ms);
	return wait_ms;
}

/* Settings have changed, adclick.workers perhaps. */
static void
settings_changed(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (int i = 0; i < SHMEM_MAX_DATABASES; i++)
		if (OidIsValid(shmem->slots[i].database))
			shmem_ask_again(&shmem->slots[i]);
	LWLockRelease(shmem->lock);
}

/* Before the server let a launcher start, as a standby does not, workers were not missing. */
static void
await_first_workers(void)
{
	for (int i = 0; i < SHMEM_MAX_DATABASES; i++)
		if (shmem->slots[i].started_at[WORKER_AGGREGATOR] == 0)
			shmem->slots[i].asked_at = steady_ms();
}

void
adclick_launcher_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->launcher_latch = MyLatch;
	await_first_workers();
	LWLockRelease(shmem->lock);
	before_shmem_exit(launcher_exit, (Datum) 0);

	for (;;)
	{
		long		wait_ms;

		pgstat_report_activity(STATE_RUNNING, "looking at databases");
		look_at_databases();
		MemoryContextSwitchTo(TopMemoryContext);
		wait_ms = start_workers();
		pgstat_report_activity(STATE_IDLE, NULL);

		if (!ConfigReloadPending)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 wait_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			settings_changed();
		}
	}
}
