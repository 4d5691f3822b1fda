/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  What the processes of all databases share.
 *
 * A lock, a slot for each database that has the extension, the map of its inbox,
 * the set of click keys (dedup.h), and bounds of clicks of users and addresses (bounds.h).
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SHMEM_H
#define ADCLICK_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#include "core/bounds.h"
#include "core/dedup.h"

/* Databases that can have workers at the same time. */
#define SHMEM_MAX_DATABASES 64

#define SHMEM_ERROR_LENGTH 512

/* Crashes that are remembered. */
#define SHMEM_CRASHES 32

typedef enum WorkerKind
{
	WORKER_AGGREGATOR,
	WORKER_COMPACTOR,
	WORKER_READER,				/* of log files: where there are sources */
	WORKER_KINDS
} WorkerKind;

/* Whether a database wants workers, as far as is known. */
typedef enum DatabaseInterest
{
	DATABASE_UNKNOWN,			/* not looked at since something changed */
	DATABASE_HAS_EXTENSION,
	DATABASE_PAUSED,			/* has the extension, and adclick.workers is off */
	DATABASE_IN_RESTORE,		/* has it, and waits for the data of a dump */
	DATABASE_HAS_NONE
} DatabaseInterest;

typedef struct DatabaseSlot
{
	Oid			database;		/* InvalidOid: free slot */
	DatabaseInterest interest;
	bool		has_sources;	/* of log files, as far as the compactor or the reader knows */
	bool		wanted;			/* someone in it, who has the extension, has asked for workers */
	uint32		changes;		/* how often what a worker had seen may have become old */
	pid_t		held_by;		/* process that keeps workers out (DROP DATABASE), or 0 */
	pid_t		worker_pid[WORKER_KINDS];	/* 0: does not run */
	bool		at_work[WORKER_KINDS];	/* has found that it is wanted */
	int			failures[WORKER_KINDS]; /* starts without a successful round since */
	int64		started_at[WORKER_KINDS];	/* by steady_ms(), as all that are int64 and end in _at */
	TimestampTz last_error_at;
	char		last_error[SHMEM_ERROR_LENGTH];

	/* what status.c tells of the workers, since the server started */
	int64		errors;			/* rounds that failed */
	int64		asked_at;		/* since when workers should run, unless interest says otherwise */
	int64		ended_at[WORKER_KINDS]; /* one that was at work has left */
	int64		round_at[WORKER_KINDS]; /* the last round ended, ... */
	int64		idle_at[WORKER_KINDS];	/* ... the last one began that left nothing to do */
	int			failed[WORKER_KINDS];	/* the last so many rounds failed */
	char		failure[WORKER_KINDS][SHMEM_ERROR_LENGTH];	/* of the last of them */
	int			left_out;		/* runs that cannot be read, or say what cannot be */
	int64		last_tick_ms;	/* of those that took clicks; 0: none has */
	int64		worst_tick_ms;
	int64		clock_set_at;	/* the clock was last found to have been set, or was first looked at; 0: never */
	int64		clock_offset;	/* what it was ahead of steady_ms() then, in ms */
	int64		undecided_at;	/* a tick last set clicks aside as undecided; 0: never */

	/* the dedup set of this database, see seen.c */
	Oid			extension;		/* incarnation the keys belong to */
	bool		loaded;			/* keys are complete above the floor */
	int32		rule;			/* of the keys */
	int64		loaded_tick;	/* keys loaded bear its number, whichever tick added them */
	uint64		attempt;		/* tick that last added keys, committed or not */

	/* of the clicks of users and addresses, see clickers.c */
	bool		user_bounded;	/* each tick has added those of users since ... */
	bool		ip_bounded;		/* or addresses */
	int64		bounded_tick;	/* ... this one, in minutes from ... */
	int64		bounded_from;	/* ... this one on */
} DatabaseSlot;

typedef struct Shmem
{
	LWLock	   *lock;			/* slots; never held while waiting */
	LWLock	   *dedup_lock;		/* the dedup set, and the bounds */
	uint64		clicker_seed[2];	/* for who chooses users and addresses */
	Latch	   *launcher_latch; /* NULL: the launcher does not run */
	int64		crashed_at[SHMEM_CRASHES];	/* the last times that a crash has ended all processes, by steady_ms(); 0: none */
	DatabaseSlot slots[SHMEM_MAX_DATABASES];
} Shmem;

/* Ranges of an inbox that its map knows: 16 GB. */
#define SHMEM_INBOX_RANGES 32768

/* What map.h is about. */
typedef struct InboxMap
{
	pg_atomic_uint32 file;		/* of the inbox; 0: none */
	pg_atomic_uint64 words[SHMEM_INBOX_RANGES];
} InboxMap;

extern Shmem *shmem;
extern DedupSet *shmem_dedup;
extern Bounds shmem_bounds;

extern void shmem_install(void);

/*
 * The slot of a database, made if it has none and "make" is set.  NULL if
 * there is none (or no free one).  The caller holds shmem->lock, exclusively
 * to make one.
 */
extern DatabaseSlot *shmem_slot(Oid database, bool make);

/* The map of the inbox of the slot's database. */
extern InboxMap *shmem_inbox_map(const DatabaseSlot *slot);

/* The slot of this database, for one who has the extension; an error if all are taken. */
extern DatabaseSlot *shmem_my_slot(void);

/*
 * The database is gone, and another that is a copy of it may get its oid, and has the
 * same files and ticks: nothing of what was known of it may outlive it.
 */
extern void shmem_forget(Oid database);

/*
 * What the status tells of the workers begins anew, as what it told was of an extension
 * that is gone.  The caller holds shmem->lock exclusively.
 */
extern void shmem_clear_history(DatabaseSlot *slot);

/* Whether a database that has the extension wants no workers for now. */
static inline bool
shmem_rests(const DatabaseSlot *slot)
{
	return slot->interest == DATABASE_PAUSED || slot->interest == DATABASE_IN_RESTORE;
}

/* How many workers a database should have. */
static inline int
shmem_workers_wanted(const DatabaseSlot *slot)
{
	return shmem_rests(slot) ? 0 : slot->has_sources ? WORKER_KINDS : WORKER_KINDS - 1;
}

/* Someone in it has the extension and wants workers.  The caller holds shmem->lock exclusively. */
extern void shmem_want_workers(DatabaseSlot *slot);

/* adclick.workers may have changed there, or a restore have ended.  The caller holds shmem->lock exclusively. */
extern void shmem_ask_again(DatabaseSlot *slot);

/* A tick of this database has taken clicks, in so many ms, 1 at least; the worst one that was committed with it took so many. */
extern void shmem_note_tick(int64 ms, int64 worst_ms, bool undecided);

/* A tick was made by hand: where workers are not wanted, that is the aggregator's round. */
extern void shmem_note_round(void);

/*
 * For how many ms the clock has not been set, as far as is known: not since someone in
 * this database looked last, and the first look since the server started counts as well.
 */
extern int64 shmem_watch_clock(void);

/* How often a crash of some process has ended all of them in the last so many ms, SHMEM_CRASHES at most. */
extern int	shmem_crashes(int64 ms);

/* Wake the launcher, if it runs. */
extern void shmem_wake_launcher(void);

#endif							/* ADCLICK_SHMEM_H */
