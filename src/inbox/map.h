/*-------------------------------------------------------------------------
 *
 * map.h
 *	  Which parts of the inbox can have rows that no tick has taken.
 *
 * Rows that were taken stay where they are until VACUUM comes; this map, in shared
 * memory, keeps readers from going through them again and again.  It makes reading
 * quick and nothing else: where there is no map, as on a standby, or after a
 * restart, all of the inbox is read.
 *
 * For each range of blocks it has a word: 0, or a tick and a transaction.  A snapshot
 * that sees the tick finds nothing in the range but perhaps rows of the transaction,
 * and so nothing at all while it sees that one as not ended, or if there is none.  So a
 * large COPY is not read by everybody until it commits.
 *
 * Who inserts a row puts its transaction there after that, and before the commit, or 0
 * if there is another.  Who ticks puts the tick there, without a transaction, before
 * looking how long the table is and reading the range; then, as who inserts does, the
 * transactions of rows that have not ended, and 0 if a row is left.  So no order of the
 * two hides a row.  A tick that is later than the last one was rolled back, and its word
 * means 0.
 *
 * Ticks are compared by their last 32 bits.  A word that is 2^31 ticks old seems to be
 * of a later one, and the next tick makes it 0.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_INBOX_MAP_H
#define ADCLICK_INBOX_MAP_H

#include "postgres.h"

#include "storage/block.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "base/shmem.h"

/* Blocks of a range: half a megabyte. */
#define INBOX_RANGE_BLOCKS 64

/* The map of this database if it is about the file that the inbox has now, or NULL. */
extern InboxMap *inbox_map(Relation inbox);

/* The same for who ticks after tick "seen", and holds STORE_LOCK_TICK: it is made right first. */
extern InboxMap *inbox_map_to_take(Relation inbox, int64 seen);

/* Whether the snapshot, which sees this tick, finds nothing in the range of the block. */
extern bool inbox_map_shows_none(InboxMap *map, BlockNumber block, Snapshot snapshot, int64 seen);

/* From that tick on there is nothing in it. */
extern void inbox_map_set_empty(InboxMap *map, BlockNumber block, int64 tick);

/* There is a row of a transaction that has not ended: not of a subtransaction. */
extern void inbox_map_set_open(InboxMap *map, BlockNumber block, TransactionId xid);

/* There is, or may be, something in it. */
extern void inbox_map_set_filled(InboxMap *map, BlockNumber block);

/* What was found empty for a tick that had nothing to take is empty for the one before, too. */
extern void inbox_map_settle(InboxMap *map, BlockNumber nblocks, int64 tick, int64 seen);

#endif							/* ADCLICK_INBOX_MAP_H */
