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
 * For each range of blocks it has a number: 0, or the first tick whose snapshot
 * finds nothing in the range.  Who inserts a row sets the number to 0 after that,
 * and before the commit.  Who ticks sets it to the number of the tick before
 * looking how long the table is and reading the range, and back to 0 if a row in it
 * is left, or is of a transaction that has not ended.  So no order of the two hides a
 * row.  A number that is higher than that of the last tick was left by one that was
 * rolled back, and means 0.
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

#include "base/shmem.h"

/* Blocks of a range: half a megabyte. */
#define INBOX_RANGE_BLOCKS 64

/* The map of this database if it is about the file that the inbox has now, or NULL. */
extern InboxMap *inbox_map(Relation inbox);

/* The same for who ticks after tick "seen", and holds STORE_LOCK_TICK: it is made right first. */
extern InboxMap *inbox_map_to_take(Relation inbox, int64 seen);

/* Whether a snapshot that sees this tick finds nothing in the range of the block. */
extern bool inbox_map_is_empty(InboxMap *map, BlockNumber block, int64 seen);

/* From that tick on. */
extern void inbox_map_set_empty(InboxMap *map, BlockNumber block, int64 tick);

/* There is, or may be, something in it. */
extern void inbox_map_set_filled(InboxMap *map, BlockNumber block);

/* What was found empty for a tick that had nothing to take is empty for the one before, too. */
extern void inbox_map_settle(InboxMap *map, BlockNumber nblocks, int64 tick, int64 seen);

#endif							/* ADCLICK_INBOX_MAP_H */
