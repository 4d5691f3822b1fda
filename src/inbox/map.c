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

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "map.h"

static inline uint64
make_word(int64 tick, TransactionId xid)
{
	return (uint64) (uint32) tick << 32 | xid;
}

static inline TransactionId
xid_of(uint64 word)
{
	return (TransactionId) word;
}

static inline bool
is_later(uint64 word, int64 seen)
{
	return (int32) ((uint32) (word >> 32) - (uint32) seen) > 0;
}

/* NULL beyond the end of the map: such ranges are always read. */
static pg_atomic_uint64 *
word_of(InboxMap *map, BlockNumber block)
{
	BlockNumber range = block / INBOX_RANGE_BLOCKS;

	return range < SHMEM_INBOX_RANGES ? &map->words[range] : NULL;
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
		if (other_file || is_later(pg_atomic_read_u64(&map->words[i]), seen))
			pg_atomic_write_u64(&map->words[i], 0);
	pg_write_barrier();
	pg_atomic_write_u32(&map->file, compat_file_of(inbox));
	return map;
}

/*
 * Whether the snapshot sees nothing of the transaction because that has not ended, or
 * begun, and that is all there is to know: of a serializable one it is a conflict.  One
 * that seems to be yet to come for everybody is so old that its number comes again.
 */
static bool
is_open(TransactionId xid, Snapshot snapshot)
{
	if (IsolationIsSerializable() || TransactionIdIsCurrentTransactionId(xid))
		return false;
	if (!TransactionIdPrecedes(xid, snapshot->xmax))
		return TransactionIdPrecedes(xid, ReadNextTransactionId());
	return XidInMVCCSnapshot(xid, snapshot);
}

bool
inbox_map_shows_none(InboxMap *map, BlockNumber block, Snapshot snapshot, int64 seen)
{
	pg_atomic_uint64 *range = word_of(map, block);
	uint64		word = range ? pg_atomic_read_u64(range) : 0;

	if (word == 0 || is_later(word, seen))
		return false;
	return !TransactionIdIsValid(xid_of(word)) || is_open(xid_of(word), snapshot);
}

void
inbox_map_set_empty(InboxMap *map, BlockNumber block, int64 tick)
{
	pg_atomic_uint64 *range = word_of(map, block);

	if (range)
		pg_atomic_exchange_u64(range, make_word(tick, InvalidTransactionId));	/* a barrier: before the range is read */
}

void
inbox_map_set_open(InboxMap *map, BlockNumber block, TransactionId xid)
{
	pg_atomic_uint64 *range = word_of(map, block);
	uint64		word;

	pg_memory_barrier();		/* after the row is there */
	if (range == NULL)
		return;
	word = pg_atomic_read_u64(range);
	while (word != 0 && xid_of(word) != xid)
		if (pg_atomic_compare_exchange_u64(range, &word, TransactionIdIsValid(xid_of(word)) ? 0 : word | xid))
			break;
}

void
inbox_map_set_filled(InboxMap *map, BlockNumber block)
{
	pg_atomic_uint64 *range = word_of(map, block);

	if (range)
		pg_atomic_write_u64(range, 0);
}

/* Who inserts may change the word meanwhile. */
static void
settle(pg_atomic_uint64 *range, int64 tick, int64 seen)
{
	uint64		word = pg_atomic_read_u64(range);

	while (word != 0 && word >> 32 == (uint32) tick)
		if (pg_atomic_compare_exchange_u64(range, &word, make_word(seen, xid_of(word))))
			break;
}

void
inbox_map_settle(InboxMap *map, BlockNumber nblocks, int64 tick, int64 seen)
{
	for (BlockNumber block = 0; block < nblocks; block += INBOX_RANGE_BLOCKS)
	{
		pg_atomic_uint64 *range = word_of(map, block);

		if (range == NULL)
			break;
		settle(range, tick, seen);
	}
}
