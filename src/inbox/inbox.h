/*-------------------------------------------------------------------------
 *
 * inbox.h
 *	  The inbox, adclick.clicks: reading the clicks that no tick has taken.
 *
 * A tick deletes the rows that it takes, in the transaction that counts them.  So
 * what a snapshot sees in the inbox is the tail of that snapshot: whatever was
 * rolled back, rewritten by VACUUM FULL, restored, or is seen on a standby.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_INBOX_H
#define ADCLICK_INBOX_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/nodes.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

typedef struct InboxReader InboxReader;

extern Oid	inbox_relid(void);

typedef enum InboxPurpose
{
	INBOX_TO_ASK,
	INBOX_TO_TAKE,				/* rows can be taken */
	INBOX_TO_CHECK				/* the map is not trusted */
} InboxPurpose;

/*
 * Begin to read what the snapshot sees; "seen_tick" is the last tick whose state it
 * sees.  To take rows, that must be the last there is, and the caller holds
 * STORE_LOCK_TICK.
 */
extern InboxReader *inbox_begin(Snapshot snapshot, int64 seen_tick, InboxPurpose purpose);

/* The next row or NULL; valid until the next call. */
extern TupleTableSlot *inbox_next(InboxReader *reader);

/* Read a row once more, into a slot of inbox_make_slot(). */
extern void inbox_fetch(InboxReader *reader, ItemPointer tid, TupleTableSlot *slot);
extern TupleTableSlot *inbox_make_slot(const InboxReader *reader);

/* Delete these rows, in the order in which they were read. */
extern void inbox_take(InboxReader *reader, const ItemPointerData *tids, size_t n);

extern void inbox_end(InboxReader *reader);

/* An error if the statement would give the inbox another access method, or more columns, now or later. */
extern void inbox_check_statement(Node *statement);

#endif							/* ADCLICK_INBOX_H */
