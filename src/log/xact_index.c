/*-------------------------------------------------------------------------
 *
 * xact_index.c
 *	  The BRIN index on xact of one partition.
 *
 * See xact_index.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/brin_internal.h"
#include "access/brin_pageops.h"
#include "access/brin_tuple.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "click.h"
#include "xact_index.h"

struct XactIndex
{
	Relation	index;
	LOCKMODE	lock;
	BrinDesc   *desc;
	BrinRevmap *map;
	BlockNumber pages_per_range;

	/* The summary fetched last: a copy, its place, and what it says. */
	BrinTuple  *tuple;
	Size		tuple_size;
	Size		tuple_room;
	Buffer		buffer;			/* pinned */
	OffsetNumber offset;
	BrinMemTuple *memory;
};

/* The smallest and largest transaction of some rows; low > high: no rows. */
typedef struct XactSpan
{
	uint64		low;
	uint64		high;
} XactSpan;

PG_FUNCTION_INFO_V1(adclick_xid8_add_value);

static inline uint64
xact_from_datum(Datum value)
{
	return U64FromFullTransactionId(DatumGetFullTransactionId(value));
}

/*
 * Widen a BRIN summary: brin_minmax_add_value for xid8, without a look-up and a
 * call of the comparison for each row.
 */
static bool
widen(BrinValues *summary, Datum value)
{
	uint64		xact = xact_from_datum(value);

	if (summary->bv_allnulls)
	{
		summary->bv_values[0] = value;
		summary->bv_values[1] = value;
		summary->bv_allnulls = false;
	}
	else if (xact < xact_from_datum(summary->bv_values[0]))
		summary->bv_values[0] = value;
	else if (xact > xact_from_datum(summary->bv_values[1]))
		summary->bv_values[1] = value;
	else
		return false;
	return true;
}

Datum
adclick_xid8_add_value(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(widen((BrinValues *) PG_GETARG_POINTER(1), PG_GETARG_DATUM(2)));
}

/* The index must be one of all rows: a partial one says nothing about the others. */
static Oid
find_xact_index(Relation relation)
{
	List	   *indexes = RelationGetIndexList(relation);
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_rel->relam == BRIN_AM_OID && index->rd_index->indisvalid &&
			index->rd_index->indnatts == 1 &&
			index->rd_index->indkey.values[0] == CLICK_XACT &&
			index->rd_opcintype[0] == XID8OID && RelationGetIndexPredicate(index) == NIL)
			found = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(found))
			break;
	}
	list_free(indexes);
	return found;
}

static XactIndex *
open_index(Relation relation, LOCKMODE lock)
{
	Oid			relid = find_xact_index(relation);
	XactIndex  *xi;

	if (!OidIsValid(relid))
		return NULL;
	xi = palloc0(sizeof(XactIndex));
	xi->index = index_open(relid, lock);
	xi->lock = lock;
	xi->desc = brin_build_desc(xi->index);
	xi->map = compat_brin_revmap(xi->index, &xi->pages_per_range);
	xi->memory = brin_new_memtuple(xi->desc);
	xi->buffer = InvalidBuffer;
	return xi;
}

XactIndex *
xact_index_open(Relation relation)
{
	return open_index(relation, AccessShareLock);
}

void
xact_index_close(XactIndex *xi)
{
	if (BufferIsValid(xi->buffer))
		ReleaseBuffer(xi->buffer);
	brinRevmapTerminate(xi->map);
	brin_free_desc(xi->desc);
	index_close(xi->index, xi->lock);
	pfree(xi);
}

BlockNumber
xact_index_pages_per_range(const XactIndex *xi)
{
	return xi->pages_per_range;
}

/* Fetch the summary of the range that begins at this block; false if there is none. */
static bool
fetch_summary(XactIndex *xi, Snapshot snapshot, BlockNumber block)
{
	BrinTuple  *stored;

	stored = compat_brin_tuple(xi->map, block, &xi->buffer, &xi->offset, &xi->tuple_size,
							   BUFFER_LOCK_SHARE, snapshot);
	if (stored == NULL)
		return false;
	xi->tuple = brin_copy_tuple(stored, xi->tuple_size, xi->tuple, &xi->tuple_room);
	xi->tuple_room = Max(xi->tuple_room, xi->tuple_size);	/* the first copy does not set it */
	LockBuffer(xi->buffer, BUFFER_LOCK_UNLOCK);
	xi->memory = brin_deform_tuple(xi->desc, xi->tuple, xi->memory);
	return true;
}

bool
xact_index_range(XactIndex *xi, Snapshot snapshot, BlockNumber block, uint64 *low, uint64 *high)
{
	BrinValues *values;

	if (!fetch_summary(xi, snapshot, block) || BrinTupleIsPlaceholder(xi->tuple))
		return false;
	values = &xi->memory->bt_columns[0];
	if (values->bv_allnulls || values->bv_hasnulls)
		return false;
	*low = xact_from_datum(values->bv_values[0]);
	*high = xact_from_datum(values->bv_values[1]);
	return true;
}

/*
 * From here on, whoever inserts into the range widens this.  What was inserted
 * before is on the pages when they are read after this.
 */
static void
insert_placeholder(XactIndex *xi, BlockNumber block)
{
	Size		size;
	BrinTuple  *placeholder = brin_form_placeholder_tuple(xi->desc, block, &size);

	(void) brin_doinsert(xi->index, xi->pages_per_range, xi->map, &xi->buffer, block,
						 placeholder, size);
	brin_free_tuple(placeholder);
}

/*
 * Read all rows of a page, whatever their visibility: those of a transaction
 * that still runs will be there when it ends.  No ring of buffers: the page has
 * just been read by a tick, or will be by the next one.
 */
static void
read_page(Relation relation, BlockNumber block, XactSpan *found)
{
	Buffer		buffer = ReadBuffer(relation, block);
	Page		page = BufferGetPage(buffer);
	OffsetNumber last;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	last = PageGetMaxOffsetNumber(page);	/* 0 if the page is new */

	/* The last row comes first on the page; in order of address it takes half the time. */
	for (OffsetNumber offset = last; offset >= FirstOffsetNumber; offset--)
	{
		ItemId		item = PageGetItemId(page, offset);
		HeapTupleData tuple;
		uint64		xact;
		bool		is_null;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		/* generated, never NULL; a NULL would be 0, which makes the span too wide */
		xact = xact_from_datum(heap_getattr(&tuple, CLICK_XACT, RelationGetDescr(relation), &is_null));
		found->low = Min(found->low, xact);
		found->high = Max(found->high, xact);
	}
	UnlockReleaseBuffer(buffer);
}

/*
 * Put the summary fetched last back, widened and no longer a placeholder; false
 * if someone else has widened it since.
 */
static bool
replace_placeholder(XactIndex *xi, BlockNumber block, const XactSpan *found)
{
	BrinValues *values = &xi->memory->bt_columns[0];
	BrinTuple  *summary;
	Size		size;
	bool		replaced;

	if (found->low <= found->high)
	{
		widen(values, FullTransactionIdGetDatum(FullTransactionIdFromU64(found->low)));
		widen(values, FullTransactionIdGetDatum(FullTransactionIdFromU64(found->high)));
		xi->memory->bt_empty_range = false;
	}
	xi->memory->bt_placeholder = false;
	summary = brin_form_tuple(xi->desc, block, xi->memory, &size);
	replaced = brin_doupdate(xi->index, xi->pages_per_range, xi->map, block,
							 xi->buffer, xi->offset, xi->tuple, xi->tuple_size, summary, size,
							 brin_can_do_samepage_update(xi->buffer, xi->tuple_size, size));
	brin_free_tuple(summary);
	return replaced;
}

/* A placeholder found here was left by someone who did not come to the end. */
static void
summarize_range(XactIndex *xi, Relation relation, BlockNumber block)
{
	XactSpan	found = {PG_UINT64_MAX, 0};

	if (!fetch_summary(xi, NULL, block))
		insert_placeholder(xi, block);
	else if (!BrinTupleIsPlaceholder(xi->tuple))
		return;
	for (BlockNumber i = 0; i < xi->pages_per_range; i++)
	{
		CHECK_FOR_INTERRUPTS();
		read_page(relation, block + i, &found);
	}
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!fetch_summary(xi, NULL, block))
			elog(ERROR, "the placeholder of block %u in index \"%s\" is gone",
				 block, RelationGetRelationName(xi->index));
	} while (!replace_placeholder(xi, block, &found));
}

void
xact_index_summarize(Relation relation)
{
	XactIndex  *xi;
	BlockNumber nblocks;

	if (relation->rd_rel->relam != HEAP_TABLE_AM_OID)
		return;					/* we read heap pages */
	xi = open_index(relation, RowExclusiveLock);
	if (xi == NULL)
		return;
	nblocks = RelationGetNumberOfBlocks(relation);
	for (BlockNumber block = 0; block + xi->pages_per_range <= nblocks; block += xi->pages_per_range)
		summarize_range(xi, relation, block);
	xact_index_close(xi);
}
