/*-------------------------------------------------------------------------
 *
 * log.h
 *	  The click log: which rows are unread, and reading them.
 *
 * A reader returns the committed rows that no tick has taken, in the order in
 * which ticks take them: by partition, then by place in it.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_LOG_H
#define ADCLICK_LOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "storage/block.h"
#include "utils/snapshot.h"

#include "xacts.h"

/* A place in the log: a partition, named by its upper bound, and a block. */
typedef struct LogPlace
{
	TimestampTz partition;		/* DT_NOEND: the default partition */
	BlockNumber block;
} LogPlace;

/* How far ticks have read. */
typedef struct LogProgress
{
	Xacts	   *taken;			/* all their rows have been read */
	Xacts	   *taking;			/* and theirs before "place"; or NULL */
	LogPlace	place;
	TimestampTz open_from;		/* partitions ending at or before it are done */
	TimestampTz closing_at;		/* becomes open_from ... */
	uint64		closing_xmax;	/* ... when all before this are taken; 0: unset */
} LogProgress;

typedef struct LogReader LogReader;

/*
 * Begin to read what is visible in the snapshot and unread.  "upto" bounds the
 * transactions read, NULL for no bound but the snapshot's.
 */
extern LogReader *log_begin(const LogProgress *progress, Snapshot snapshot, const Xacts *upto);

/* The next row or NULL; valid until the next call. */
extern TupleTableSlot *log_next(LogReader *reader);

/* The place and the partition of the last row returned. */
extern LogPlace log_place(const LogReader *reader);
extern Oid	log_partition(const LogReader *reader);
extern void log_end(LogReader *reader);

/* Copy a row at a place where a reader found it; the slot has the log's columns. */
extern void log_fetch(Oid partition, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot);

/* A slot for log_fetch. */
extern TupleTableSlot *log_make_slot(void);

/* Everything up to "taking" has been read: move on, and see what can be closed. */
extern void log_advance(LogProgress *progress, TimestampTz now);

static inline bool
log_place_before(LogPlace a, LogPlace b)
{
	return a.partition < b.partition || (a.partition == b.partition && a.block < b.block);
}

#endif							/* ADCLICK_LOG_H */
