/*-------------------------------------------------------------------------
 *
 * map.c
 *	  Which parts of the inbox can have rows that no tick has taken.
 *
 * See map.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"

#include "base/compat.h"
#include "map.h"

/* NULL beyond the end of the map: such ranges are always read. */
static pg_atomic_uint64 *
range_of(InboxMap *map, BlockNumber block)
{
	BlockNumber range = block / INBOX_RANGE_BLOCKS;

	return range < SHMEM_INBOX_RANGES ? &map->empty_from[range] : NULL;
}

/*
 * That of this database, whatever file it is about.  On a standby there is none, as
 * who inserts does not tell us.  Nor has a table of this transaction one: until CREATE
 * EXTENSION is committed, the slot may be given to another database.
 */
static InboxMap *
find_map(Relation inbox)
{
	static DatabaseSlot *slot = NULL;

	if (RecoveryInProgress() || inbox->rd_createSubid != InvalidSubTransactionId)
		return NULL;
	if (slot == NULL || slot->database != MyDatabaseId)
	{
		LWLockAcquire(shmem->lock, LW_SHARED);
		slot = shmem_slot(MyDatabaseId, false);
		LWLockRelease(shmem->lock);
	}
	return slot ? shmem_inbox_map(slot) : NULL;
}

InboxMap *
inbox_map(Relation inbox)
{
	InboxMap   *map = find_map(inbox);

	if (map == NULL || pg_atomic_read_u32(&map->file) != compat_file_of(inbox))
		return NULL;
	pg_read_barrier();
	return map;
}

InboxMap *
inbox_map_to_take(Relation inbox, int64 seen)
{
	InboxMap   *map = find_map(inbox);
	bool		other_file;

	if (map == NULL)
		return NULL;
	other_file = pg_atomic_read_u32(&map->file) != compat_file_of(inbox);
	for (int i = 0; i < SHMEM_INBOX_RANGES; i++)
		if (other_file || (int64) pg_atomic_read_u64(&map->empty_from[i]) > seen)
			pg_atomic_write_u64(&map->empty_from[i], 0);
	pg_write_barrier();
	pg_atomic_write_u32(&map->file, compat_file_of(inbox));
	return map;
}

bool
inbox_map_is_empty(InboxMap *map, BlockNumber block, int64 seen)
{
	pg_atomic_uint64 *range = range_of(map, block);
	int64		empty_from = range ? (int64) pg_atomic_read_u64(range) : 0;

	return empty_from > 0 && empty_from <= seen;
}

void
inbox_map_set_empty(InboxMap *map, BlockNumber block, int64 tick)
{
	pg_atomic_uint64 *range = range_of(map, block);

	if (range)
		pg_atomic_exchange_u64(range, (uint64) tick);	/* a barrier: before the range is read */
}

void
inbox_map_set_filled(InboxMap *map, BlockNumber block)
{
	pg_atomic_uint64 *range = range_of(map, block);

	pg_memory_barrier();		/* after the row is there */
	if (range && pg_atomic_read_u64(range) != 0)
		pg_atomic_write_u64(range, 0);
}

void
inbox_map_settle(InboxMap *map, BlockNumber nblocks, int64 tick, int64 seen)
{
	for (BlockNumber block = 0; block < nblocks; block += INBOX_RANGE_BLOCKS)
	{
		pg_atomic_uint64 *range = range_of(map, block);
		uint64		expected = (uint64) tick;

		if (range == NULL)
			break;
		(void) pg_atomic_compare_exchange_u64(range, &expected, (uint64) seen);
	}
}
