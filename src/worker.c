/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The aggregator and the compactor.
 *
 * Each is a loop of rounds, a transaction each.  An error ends the process with
 * code 1; the launcher starts another, later each time it fails (launcher.c).
 *
 * They connect without a role and then act as the owner of the extension, whose
 * role need not be allowed to log in, in a context that keeps user code out.
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
#include "access/table.h"
#include "access/genam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "adclick.h"
#include "compact.h"
#include "compat.h"
#include "definitions.h"
#include "partitions.h"
#include "shmem.h"
#include "store.h"
#include "tick.h"
#include "worker.h"

/* Time between two looks at the partitions of the log. */
#define PARTITIONS_INTERVAL_MS 60000

/* Memory a worker does not give back between rounds, in bytes. */
#define KEPT_MEMORY (128 * 1024 * 1024)

static WorkerKind my_kind;
static DatabaseSlot *my_slot = NULL;
static uint32 created_at_start;

static void
detach(int code, Datum arg)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (my_slot->worker_pid[my_kind] == MyProcPid)
		my_slot->worker_pid[my_kind] = 0;
	LWLockRelease(shmem->lock);
	shmem_wake_launcher();
}

static void
attach(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot = shmem_slot(MyDatabaseId, false);
	if (my_slot == NULL)
		proc_exit(0);			/* the launcher has changed its mind */
	my_slot->worker_pid[my_kind] = MyProcPid;
	created_at_start = my_slot->created;
	LWLockRelease(shmem->lock);
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

/* Unless CREATE EXTENSION has come since this worker started: then what it saw is old. */
static void
set_interest(DatabaseInterest interest)
{
	bool		news;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	news = my_slot->interest != interest && (interest != DATABASE_HAS_NONE || my_slot->created == created_at_start);
	if (news)
		my_slot->interest = interest;
	LWLockRelease(shmem->lock);
	if (news)
		shmem_wake_launcher();
}

static void
remember_error(void)
{
	ErrorData  *error;

	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	LWLockReleaseAll();
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	strlcpy(my_slot->last_error, error->message ? error->message : "", SHMEM_ERROR_LENGTH);
	my_slot->last_error_at = GetCurrentTimestamp();
	LWLockRelease(shmem->lock);
}

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
}

/* Leave for good: the database has no extension (any more). */
static void
leave(void)
{
	CommitTransactionCommand();
	round_succeeded();
	set_interest(DATABASE_HAS_NONE);
	proc_exit(0);
}

/* Whatever is set for the database, a round works under these. */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"session_replication_role", "replica"},	/* no triggers of users */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"synchronous_commit", "off"},	/* what is lost is taken again */
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

static void
start_worker(WorkerKind kind, Oid database)
{
	Oid			owner;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	my_kind = kind;
	attach();
	pin_settings();

#ifdef __GLIBC__
	/* Keep the memory of a tick for the next one: getting it costs a tenth. */
	mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
	mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif

	begin_transaction();
	owner = definitions_owner();
	if (!OidIsValid(owner))
		leave();
	CommitTransactionCommand();
	SetUserIdAndSecContext(owner, SECURITY_RESTRICTED_OPERATION);
	set_interest(DATABASE_HAS_EXTENSION);
}

/* One transaction of a worker; returns whether there is more to do at once. */
typedef bool (*worker_round) (void);

static bool
run_round(worker_round round, const char *activity)
{
	bool		more;

	begin_transaction();
	pgstat_report_activity(STATE_RUNNING, activity);
	if (!store_keep_extension())
		leave();
	more = round();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
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
summarize_round(void)
{
	StoreState	state;

	PushActiveSnapshot(GetTransactionSnapshot());
	store_get_state(&state);
	partitions_summarize(state.progress.open_from);
	PopActiveSnapshot();
	return false;
}

static bool
partitions_round(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	partitions_make();
	PopActiveSnapshot();
	return false;
}

static bool
aggregator_round(void)
{
	static TimestampTz partitions_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		more;

	if (TimestampDifferenceExceeds(partitions_at, now, PARTITIONS_INTERVAL_MS))
	{
		run_round(partitions_round, "making partitions of the click log");
		partitions_at = now;
	}
	more = run_round(tick_round, "tick");
	run_round(summarize_round, "summarizing the click log");
	return more;
}

static bool
compact_round(void)
{
	CompactResult result;

	compact_run(false, &result);
	return result.more;
}

static bool
compactor_round(void)
{
	return run_round(compact_round, "compaction");
}

static void
worker_loop(worker_round round)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "adclick round",
												  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		bool		more = false;

		PG_TRY();
		{
			MemoryContextSwitchTo(context);
			more = round();
			MemoryContextReset(context);
		}
		PG_CATCH();
		{
			remember_error();
			PG_RE_THROW();
		}
		PG_END_TRY();
		round_succeeded();

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 more ? 0 : adclick_tick_interval, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

void
adclick_aggregator_main(Datum arg)
{
	start_worker(WORKER_AGGREGATOR, DatumGetObjectId(arg));
	worker_loop(aggregator_round);
}

void
adclick_compactor_main(Datum arg)
{
	start_worker(WORKER_COMPACTOR, DatumGetObjectId(arg));
	worker_loop(compactor_round);
}
