/*-------------------------------------------------------------------------
 *
 * inbox.c
 *	  The inbox: reading and taking the clicks that no tick has taken.
 *
 * See inbox.h.  Pages are read directly, as a tick must know of each range whether
 * a row in it can still become visible (map.h).
 *
 * The relation is locked AccessShare only, also to delete: no lock that others take,
 * but for those that replace or drop the table, keeps ticks waiting.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "inbox.h"
#include "map.h"

struct InboxReader
{
	Relation	inbox;
	Snapshot	snapshot;
	InboxMap   *map;			/* or NULL */
	int64		seen;			/* last tick the snapshot sees */
	bool		to_take;
	bool		found;			/* at least one row */
	bool		at_end;
	BlockNumber nblocks;
	BlockNumber next;			/* block to read */
	TransactionId noted;		/* of a row of this range that others may see later, the last such */

	/* the row looked at last, and what came of it: mostly the next ones are of the same transactions */
	TransactionId xmin;
	TransactionId xmax;
	uint16		infomask;		/* before it was looked at */
	bool		visible;
	bool		over;

	/* rows of the block read last that the snapshot sees */
	Buffer		buffer;			/* pinned */
	int			nrows;
	int			at;				/* the next of them */
	OffsetNumber rows[MaxHeapTuplesPerPage];
	HeapTupleData tuple;
	TupleTableSlot *slot;
};

Oid
inbox_relid(void)
{
	return get_relname_relid("clicks", get_namespace_oid(ADCLICK_SCHEMA, false));
}

static InboxMap *
open_map(Relation inbox, int64 seen_tick, InboxPurpose purpose)
{
	switch (purpose)
	{
		case INBOX_TO_ASK:
			return inbox_map(inbox);
		case INBOX_TO_TAKE:
			return inbox_map_to_take(inbox, seen_tick);
		case INBOX_TO_CHECK:
			break;
	}
	return NULL;
}

InboxReader *
inbox_begin(Snapshot snapshot, int64 seen_tick, InboxPurpose purpose)
{
	InboxReader *reader = palloc0(sizeof(InboxReader));

	reader->inbox = definitions_open_inbox();
	definitions_check_rewrite(reader->inbox);
	/* of a serializable transaction: clicks that others insert from here on are a conflict */
	PredicateLockRelation(reader->inbox, snapshot);
	reader->snapshot = snapshot;
	reader->seen = seen_tick;
	reader->to_take = purpose == INBOX_TO_TAKE;
	reader->map = open_map(reader->inbox, seen_tick, purpose);
	reader->nblocks = RelationGetNumberOfBlocks(reader->inbox);
	reader->buffer = InvalidBuffer;
	reader->slot = inbox_make_slot(reader);
	return reader;
}

TupleTableSlot *
inbox_make_slot(const InboxReader *reader)
{
	return MakeSingleTupleTableSlot(RelationGetDescr(reader->inbox), &TTSOpsBufferHeapTuple);
}

static void
set_tuple(InboxReader *reader, Page page, OffsetNumber offset)
{
	ItemId		item = PageGetItemId(page, offset);
	HeapTuple	tuple = &reader->tuple;

	tuple->t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple->t_len = ItemIdGetLength(item);
	tuple->t_tableOid = RelationGetRelid(reader->inbox);
	ItemPointerSet(&tuple->t_self, BufferGetBlockNumber(reader->buffer), offset);
}

/*
 * Whether a row that the snapshot does not see will never be seen by a later one:
 * it was rolled back, or its insertion is seen and so its deletion is, too.  (Of rows of
 * this transaction that is not known: they can be of the command that runs.)
 */
static bool
is_over(const InboxReader *reader, HeapTupleHeader header)
{
	if (HeapTupleHeaderXminInvalid(header))
		return true;
	return HeapTupleHeaderXminFrozen(header) ||
		(HeapTupleHeaderXminCommitted(header) &&
		 !XidInMVCCSnapshot(HeapTupleHeaderGetRawXmin(header), reader->snapshot));
}

/* Who ticks says in the map that the range has a row which can be seen later. */
static void
note_other(InboxReader *reader, HeapTupleHeader header)
{
	TransactionId xid = HeapTupleHeaderGetRawXmin(header);
	BlockNumber block = BufferGetBlockNumber(reader->buffer);

	if (!reader->to_take || reader->map == NULL || xid == reader->noted)
		return;
	reader->noted = xid;
	if (XidInMVCCSnapshot(xid, reader->snapshot) && !TransactionIdIsCurrentTransactionId(xid))
		inbox_map_set_open(reader->map, block, SubTransGetTopmostTransaction(xid));
	else
		inbox_map_set_filled(reader->map, block);
}

static bool
is_like_last(const InboxReader *reader, HeapTupleHeader header)
{
	return HeapTupleHeaderGetRawXmin(header) == reader->xmin && HeapTupleHeaderGetRawXmax(header) == reader->xmax &&
		(header->t_infomask & HEAP_XACT_MASK) == reader->infomask;
}

/*
 * Whether the snapshot sees the row that reader->tuple is, and whether it is over.  Two
 * of the same transactions are alike, but for those of this one, where commands matter,
 * and if it is serializable, where each is looked at for conflicts.
 */
static void
look_at_row(InboxReader *reader)
{
	HeapTuple	tuple = &reader->tuple;
	HeapTupleHeader header = tuple->t_data;

	if (is_like_last(reader, header))
		return;
	reader->xmin = HeapTupleHeaderGetRawXmin(header);
	reader->xmax = HeapTupleHeaderGetRawXmax(header);
	reader->infomask = header->t_infomask & HEAP_XACT_MASK;
	reader->visible = HeapTupleSatisfiesVisibility(tuple, reader->snapshot, reader->buffer);
	reader->over = !reader->visible && is_over(reader, header);
	HeapCheckForSerializableConflictOut(reader->visible, reader->inbox, tuple, reader->buffer, reader->snapshot);
	if (IsolationIsSerializable() || TransactionIdIsCurrentTransactionId(reader->xmin) ||
		TransactionIdIsCurrentTransactionId(reader->xmax))
		reader->xmin = InvalidTransactionId;
}

/* Note the rows of the page that the snapshot sees. */
static void
find_rows(InboxReader *reader)
{
	Page		page = BufferGetPage(reader->buffer);
	OffsetNumber last = PageGetMaxOffsetNumber(page);

	for (OffsetNumber offset = FirstOffsetNumber; offset <= last; offset++)
	{
		if (!ItemIdIsNormal(PageGetItemId(page, offset)))
			continue;
		set_tuple(reader, page, offset);
		look_at_row(reader);
		if (reader->visible)
			reader->rows[reader->nrows++] = offset;
		else if (!reader->over)
			note_other(reader, reader->tuple.t_data);
	}
}

static void
read_block(InboxReader *reader, BlockNumber block)
{
	CHECK_FOR_INTERRUPTS();
	reader->nrows = reader->at = 0;
	reader->buffer = ReleaseAndReadBuffer(reader->buffer, reader->inbox, block);
	LockBuffer(reader->buffer, BUFFER_LOCK_SHARE);
	find_rows(reader);
	LockBuffer(reader->buffer, BUFFER_LOCK_UNLOCK);
	reader->found |= reader->nrows > 0;
}

/*
 * Whether the range that begins at the next block has to be read.  From here on, who
 * inserts into it says so in the map; what was inserted before is in a block that is
 * there now.
 */
static bool
enter_range(InboxReader *reader)
{
	if (inbox_map_shows_none(reader->map, reader->next, reader->snapshot, reader->seen))
		return false;
	reader->noted = InvalidTransactionId;
	if (reader->to_take)
	{
		inbox_map_set_empty(reader->map, reader->next, reader->seen + 1);
		reader->nblocks = RelationGetNumberOfBlocks(reader->inbox);
	}
	return true;
}

/* Read the next block that can have rows; false at the end. */
static bool
read_next_block(InboxReader *reader)
{
	while (reader->next < reader->nblocks)
	{
		if (reader->map && reader->next % INBOX_RANGE_BLOCKS == 0 && !enter_range(reader))
		{
			reader->next += INBOX_RANGE_BLOCKS;
			continue;
		}
		read_block(reader, reader->next++);
		return true;
	}
	reader->at_end = true;
	return false;
}

TupleTableSlot *
inbox_next(InboxReader *reader)
{
	while (reader->at == reader->nrows)
		if (!read_next_block(reader))
			return NULL;
	set_tuple(reader, BufferGetPage(reader->buffer), reader->rows[reader->at++]);
	return ExecStoreBufferHeapTuple(&reader->tuple, reader->slot, reader->buffer);
}

void
inbox_fetch(InboxReader *reader, ItemPointer tid, TupleTableSlot *slot)
{
	if (!table_tuple_fetch_row_version(reader->inbox, tid, reader->snapshot, slot))
		elog(ERROR, "click (%u,%u) is gone", ItemPointerGetBlockNumber(tid),
			 ItemPointerGetOffsetNumber(tid));
	slot_getallattrs(slot);
}

void
inbox_end(InboxReader *reader)
{
	if (reader->to_take && reader->map)
	{
		/* the row returned last was perhaps not taken */
		if (!reader->at_end)
			inbox_map_set_filled(reader->map, reader->next - 1);
		else if (!reader->found)
			inbox_map_settle(reader->map, reader->nblocks, reader->seen + 1, reader->seen);
	}
	ExecDropSingleTupleTableSlot(reader->slot);
	if (BufferIsValid(reader->buffer))
		ReleaseBuffer(reader->buffer);
	table_close(reader->inbox, NoLock);
	pfree(reader);
}

/*----------
 * Taking rows
 *----------
 */

/*
 * Rows that need more than their header changed: toasted ones, those of this
 * transaction, those that someone has locked.
 */
static bool
is_plain(HeapTupleHeader header)
{
	return (header->t_infomask & HEAP_XMAX_INVALID) && !(header->t_infomask & HEAP_HASEXTERNAL) &&
		!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(header));
}

/* As heap_delete does it. */
static void
mark_deleted(HeapTupleHeader header, TransactionId xid, CommandId cid)
{
	header->t_infomask &= ~(HEAP_XMAX_BITS | HEAP_MOVED);
	header->t_infomask2 |= HEAP_KEYS_UPDATED;
	HeapTupleHeaderClearHotUpdated(header);
	HeapTupleHeaderSetXmax(header, xid);
	HeapTupleHeaderSetCmax(header, cid, false);
}

static HeapTupleHeader
header_at(Page page, const ItemPointerData *tid)
{
	return (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, ItemPointerGetOffsetNumber(tid)));
}

/* Delete rows of a page in one go, with one record of WAL; false if that cannot be done. */
static bool
delete_page(Relation inbox, const ItemPointerData *tids, size_t n, TransactionId xid, CommandId cid)
{
	Buffer		buffer = ReadBuffer(inbox, ItemPointerGetBlockNumber(tids));
	GenericXLogState *state;
	Page		page;
	bool		plain;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	plain = !PageIsAllVisible(page);	/* else its bit of the visibility map must go, too */
	for (size_t i = 0; i < n && plain; i++)
		plain = is_plain(header_at(page, &tids[i]));
	if (plain)
	{
		state = GenericXLogStart(inbox);
		page = GenericXLogRegisterBuffer(state, buffer, 0);
		for (size_t i = 0; i < n; i++)
			mark_deleted(header_at(page, &tids[i]), xid, cid);
		PageSetPrunable(page, xid);
		GenericXLogFinish(state);
		for (size_t i = 0; i < n; i++)
			pgstat_count_heap_delete(inbox);
	}
	UnlockReleaseBuffer(buffer);
	return plain;
}

static void
delete_row(Relation inbox, const ItemPointerData *tid, CommandId cid)
{
	ItemPointerData copy = *tid;
	TM_FailureData failure;

	if (heap_delete(inbox, &copy, cid, InvalidSnapshot, true, &failure, false) != TM_Ok)
		elog(ERROR, "click (%u,%u) was deleted by someone else", ItemPointerGetBlockNumber(tid),
			 ItemPointerGetOffsetNumber(tid));
}

void
inbox_take(InboxReader *reader, const ItemPointerData *tids, size_t n)
{
	TransactionId xid = GetCurrentTransactionId();
	CommandId	cid = GetCurrentCommandId(true);
	size_t		end;

	CheckForSerializableConflictIn(reader->inbox, NULL, InvalidBlockNumber);
	for (size_t start = 0; start < n; start = end)
	{
		CHECK_FOR_INTERRUPTS();
		for (end = start + 1; end < n; end++)
			if (ItemPointerGetBlockNumber(&tids[end]) != ItemPointerGetBlockNumber(&tids[start]))
				break;
		if (delete_page(reader->inbox, &tids[start], end - start, xid, cid))
			continue;
		for (size_t i = start; i < end; i++)
			delete_row(reader->inbox, &tids[i], cid);
	}
}
