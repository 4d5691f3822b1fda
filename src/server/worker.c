/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The aggregator, the compactor, and the reader of log files.
 *
 * Each goes through its chores again and again, a transaction each.  A chore that
 * fails is rolled back and tried again, later each time; the others go on.  What
 * ends the process (FATAL, or a failure to start) is the launcher's (launcher.c).
 *
 * They connect without a role and then act as the owner of the tables, a role
 * without any other right (privileges.c), in a context that leaves nothing behind.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/privileges.h"
#include "base/shmem.h"
#include "source/sources.h"
#include "store/store.h"
#include "store/store_sources.h"
#include "worker.h"
#include "write/compact.h"
#include "write/retention.h"
#include "write/tick.h"

/* Longest delay before what failed is tried again. */
#define MAX_BACKOFF_S 60

/* Pause between two looks at what retention has to do, ms. */
#define RETENTION_PAUSE (60 * 1000)

/* A round in which nothing was read is followed by a pause so many times as long. */
#define READER_PAUSES 20

/* Memory a worker does not give back between rounds, in bytes. */
#define KEPT_MEMORY (128 * 1024 * 1024)

static WorkerKind my_kind;
static DatabaseSlot *my_slot = NULL;
static uint32 changes_at_start;

int64
worker_backoff_ms(int failures)
{
	return INT64CONST(1000) * Min(MAX_BACKOFF_S, 1 << Min(failures, 30));
}

static void
detach(int code, Datum arg)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (my_slot->worker_pid[my_kind] == MyProcPid)
	{
		my_slot->worker_pid[my_kind] = 0;
		if (my_slot->at_work[my_kind])
			my_slot->ended_at[my_kind] = steady_ms();
		/* what it found goes with it: there may be no other to find that it is mended */
		my_slot->failed[my_kind] = 0;
		if (my_kind == WORKER_COMPACTOR)
			my_slot->left_out = 0;
	}
	LWLockRelease(shmem->lock);
	shmem_wake_launcher();
}

/* Before connecting: whoever changes what the worker is about to see finds it. */
static void
attach(Oid database)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot = shmem_slot(database, false);
	if (my_slot)
	{
		my_slot->worker_pid[my_kind] = MyProcPid;
		my_slot->at_work[my_kind] = false;
		changes_at_start = my_slot->changes;
	}
	LWLockRelease(shmem->lock);
	if (my_slot == NULL)
		proc_exit(0);			/* the launcher has changed its mind */
	before_shmem_exit(detach, (Datum) 0);
}

static void
round_succeeded(void)
{
	if (my_slot->failures[my_kind] == 0)
		return;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot->failures[my_kind] = 0;
	LWLockRelease(shmem->lock);
}

/* What keeps workers away holds unless it may have changed since this one started. */
static void
set_interest(DatabaseInterest interest)
{
	bool		news;

	if (my_slot->interest == interest)
		return;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	news = interest == DATABASE_HAS_EXTENSION || my_slot->changes == changes_at_start;
	if (news)
		my_slot->interest = interest;
	LWLockRelease(shmem->lock);
	if (news)
		shmem_wake_launcher();
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

/* Leave for good: the database has no extension (any more), or wants no workers for now. */
static void
leave(DatabaseInterest interest)
{
	round_succeeded();
	set_interest(interest);
	proc_exit(0);
}

/* Whatever is set for the database, a round works under these. */
static void
pin_settings(void)
{
	const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"session_replication_role", "replica"},	/* no triggers of users */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		/* what is lost is taken again; but a file that was read may have another name by then, which meets no pattern */
		{"synchronous_commit", my_kind == WORKER_READER ? "local" : "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"row_security", "off"},
		{"jit", "off"},
		{"client_min_messages", "error"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* A worker there would be in the way of CREATE DATABASE. */
static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result = HeapTupleIsValid(tuple) && ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

static void
start_worker(WorkerKind kind, Oid database)
{
	bool		installed;
	bool		wanted;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	my_kind = kind;
	attach(database);
	ProcessConfigFile(PGC_SIGHUP);	/* a reload while the process started may have passed by it */
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pin_settings();

#ifdef __GLIBC__
	/* Keep the memory of a tick for the next one: getting it costs a tenth. */
	mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
	mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif

	begin_transaction();
	installed = OidIsValid(get_extension_oid("adclick", true));
	wanted = adclick_workers_on && !is_template(database);
	CommitTransactionCommand();
	if (!installed)
		leave(DATABASE_HAS_NONE);
	if (!wanted)
		leave(DATABASE_PAUSED);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot->round_at[my_kind] = steady_ms();
	my_slot->at_work[my_kind] = true;
	LWLockRelease(shmem->lock);
}

/* What a worker does in a transaction of its own; returns whether there is more to do at once. */
typedef struct Chore
{
	const char *activity;
	bool		(*run) (void);
	void		(*before_retry) (void); /* to get around what made it fail, or NULL */
	int64		pause;			/* between two rounds, ms; 0: none but that of all chores */
	int			failures;		/* in a row */
	int64		next_at;		/* not before this, by steady_ms() */
} Chore;

/* For good: not as one who could be the superuser again. */
static void
act_as_owner(void)
{
	Oid			owner = privileges_owner();

	SetUserIdAndSecContext(GetUserId(), 0);
	SetSessionAuthorization(owner, false);
	SetUserIdAndSecContext(owner, SECURITY_RESTRICTED_OPERATION);
}

static bool
in_restore(void)
{
	bool		result;

	store_push_snapshot();
	result = store_in_restore();
	PopActiveSnapshot();
	return result;
}

static bool
run_round(Chore *chore)
{
	bool		more;

	begin_transaction();
	pgstat_report_activity(STATE_RUNNING, chore->activity);
	if (!store_keep_extension())
	{
		CommitTransactionCommand();
		leave(DATABASE_HAS_NONE);
	}
	act_as_owner();
	if (in_restore())
	{
		CommitTransactionCommand();
		leave(DATABASE_IN_RESTORE);
	}
	if (chore->failures > 0 && chore->before_retry)
		chore->before_retry();
	more = chore->run();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return more;
}

/* Say it in the status and in the log, and be as before. */
static void
chore_failed(Chore *chore)
{
	ErrorData  *error;

	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	HOLD_INTERRUPTS();
	errcontext("adclick %s", chore->activity);
	EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	pgstat_report_activity(STATE_IDLE, NULL);

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	snprintf(my_slot->last_error, SHMEM_ERROR_LENGTH, "%s: %s", chore->activity,
			 error->message ? error->message : "");
	my_slot->last_error_at = GetCurrentTimestamp();
	my_slot->errors++;
	strlcpy(my_slot->failure[my_kind], my_slot->last_error, SHMEM_ERROR_LENGTH);
	LWLockRelease(shmem->lock);
	FreeErrorData(error);
	chore->failures++;
	chore->next_at = steady_ms() + worker_backoff_ms(chore->failures);
}

static bool
run_chore(Chore *chore)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool more = false;

	if (steady_ms() < chore->next_at)
		return false;
	PG_TRY();
	{
		more = run_round(chore);
		chore->failures = 0;
		chore->next_at = steady_ms() + chore->pause;
	}
	PG_CATCH();
	{
		chore_failed(chore);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return more;
}

static bool
tick_round(void)
{
	TickResult	result;

	tick_run(&result);
	return result.more;
}

static bool
compact_round(void)
{
	CompactResult result;

	compact_run(false, &result);
	return result.more;
}

static bool
retention_round(void)
{
	RetentionResult result;

	/* compaction goes on, whoever has the lock of ticks; PGC_S_OVERRIDE would stay, as the value to go back to */
	(void) set_config_option("lock_timeout", "5s", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	retention_apply(false, &result);
	return false;
}

/* For the launcher: whether there is something to read. */
static void
note_sources(bool has_sources)
{
	bool		news = my_slot->has_sources != has_sources;

	if (!news)
		return;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot->has_sources = has_sources;
	LWLockRelease(shmem->lock);
	shmem_wake_launcher();
}

static bool
sources_round(void)
{
	store_push_snapshot();
	note_sources(store_has_sources());
	PopActiveSnapshot();
	return false;
}

static bool reader_round(void);

static Chore aggregator_chores[] = {
	{"tick", tick_round},
	{NULL}
};

static Chore compactor_chores[] = {
	{"compaction", compact_round, compact_find_damaged},
	{"retention", retention_round, NULL, RETENTION_PAUSE},
	{"look for sources", sources_round},
	{NULL}
};

static Chore reader_chores[] = {
	{"reading of log files", reader_round},
	{NULL}
};

/* Looking for files costs what there are: where there is nothing new, no more than a part of the time. */
static bool
reader_round(void)
{
	SourcesResult result;
	int64		begun = steady_ms();

	(void) sources_round();
	sources_read(&result);
	reader_chores[0].pause = result.lines + result.bad_lines > 0 ? 0 : READER_PAUSES * (steady_ms() - begun);
	return result.more;
}

/* For the status: a round is over that began then; "more": it left something to do. */
static void
note_round(const Chore *chores, int64 begun, bool more)
{
	int			failed = 0;

	for (const Chore *chore = chores; chore->activity != NULL; chore++)
		failed = Max(failed, chore->failures);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot->round_at[my_kind] = steady_ms();
	my_slot->failed[my_kind] = failed;
	if (failed == 0 && !more)
		my_slot->idle_at[my_kind] = begun;
	/* until it is known again: after a failure they are looked for anew */
	if (failed == 0 && my_kind == WORKER_COMPACTOR)
		my_slot->left_out = compact_left_out();
	LWLockRelease(shmem->lock);
}

static void
worker_loop(Chore *chores)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "adclick round",
												  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		bool		more = false;
		int64		begun = steady_ms();

		/* the other worker may have left in between two reloads */
		set_interest(DATABASE_HAS_EXTENSION);
		for (Chore *chore = chores; chore->activity != NULL; chore++)
		{
			MemoryContextSwitchTo(context);
			more |= run_chore(chore);
			MemoryContextReset(context);
		}
		round_succeeded();
		note_round(chores, begun, more);
		if (my_kind == WORKER_READER && !my_slot->has_sources)
			leave(DATABASE_HAS_EXTENSION);

		/* A wait within a chore, as for a page, may have reset the latch of a reload. */
		if (!ConfigReloadPending)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 more ? 0 : adclick_tick_interval, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			if (!adclick_workers_on)
				leave(DATABASE_PAUSED);
		}
	}
}

void
adclick_aggregator_main(Datum arg)
{
	start_worker(WORKER_AGGREGATOR, DatumGetObjectId(arg));
	worker_loop(aggregator_chores);
}

void
adclick_compactor_main(Datum arg)
{
	start_worker(WORKER_COMPACTOR, DatumGetObjectId(arg));
	worker_loop(compactor_chores);
}

void
adclick_reader_main(Datum arg)
{
	start_worker(WORKER_READER, DatumGetObjectId(arg));
	worker_loop(reader_chores);
}
