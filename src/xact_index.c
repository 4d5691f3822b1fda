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
#include "access/brin_tuple.h"
#include "access/genam.h"
#include "catalog/pg_am.h"
#include "fmgr.h"
#include "storage/bufmgr.h"
#include "utils/xid8.h"

#include "click.h"
#include "compat.h"
#include "xact_index.h"

struct XactIndex
{
	Relation	index;
	BrinDesc   *desc;
	BrinRevmap *map;
	BrinMemTuple *memory;
	BrinTuple  *tuple;
	Size		tuple_size;
	Buffer		buffer;
	BlockNumber pages_per_range;
};

PG_FUNCTION_INFO_V1(adclick_xid8_add_value);

/*
 * Widen a BRIN summary: brin_minmax_add_value for xid8, without a look-up and a
 * call of the comparison for each row, which is a third of summarizing.
 */
Datum
adclick_xid8_add_value(PG_FUNCTION_ARGS)
{
	BrinValues *summary = (BrinValues *) PG_GETARG_POINTER(1);
	Datum		value = PG_GETARG_DATUM(2);
	uint64		xid = U64FromFullTransactionId(DatumGetFullTransactionId(value));

	if (summary->bv_allnulls)
	{
		summary->bv_values[0] = value;
		summary->bv_values[1] = value;
		summary->bv_allnulls = false;
		PG_RETURN_BOOL(true);
	}
	if (xid < U64FromFullTransactionId(DatumGetFullTransactionId(summary->bv_values[0])))
		summary->bv_values[0] = value;
	else if (xid > U64FromFullTransactionId(DatumGetFullTransactionId(summary->bv_values[1])))
		summary->bv_values[1] = value;
	else
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(true);
}

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
			index->rd_index->indkey.values[0] == CLICK_XACT)
			found = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(found))
			break;
	}
	list_free(indexes);
	return found;
}

XactIndex *
xact_index_open(Relation relation)
{
	Oid			relid = find_xact_index(relation);
	XactIndex  *xi;

	if (!OidIsValid(relid))
		return NULL;
	xi = palloc0(sizeof(XactIndex));
	xi->index = index_open(relid, AccessShareLock);
	xi->desc = brin_build_desc(xi->index);
	xi->map = compat_brin_revmap(xi->index, &xi->pages_per_range);
	xi->memory = brin_new_memtuple(xi->desc);
	xi->buffer = InvalidBuffer;
	return xi;
}

void
xact_index_close(XactIndex *xi)
{
	if (BufferIsValid(xi->buffer))
		ReleaseBuffer(xi->buffer);
	brinRevmapTerminate(xi->map);
	brin_free_desc(xi->desc);
	index_close(xi->index, AccessShareLock);
	pfree(xi);
}

Oid
xact_index_relid(const XactIndex *xi)
{
	return RelationGetRelid(xi->index);
}

BlockNumber
xact_index_pages_per_range(const XactIndex *xi)
{
	return xi->pages_per_range;
}

bool
xact_index_range(XactIndex *xi, Snapshot snapshot, BlockNumber block, uint64 *low, uint64 *high)
{
	OffsetNumber offset;
	Size		size;
	BrinTuple  *stored;
	BrinValues *values;

	stored = compat_brin_tuple(xi->map, block, &xi->buffer, &offset, &size,
							   BUFFER_LOCK_SHARE, snapshot);
	if (stored == NULL)
		return false;
	xi->tuple = brin_copy_tuple(stored, size, xi->tuple, &xi->tuple_size);
	LockBuffer(xi->buffer, BUFFER_LOCK_UNLOCK);

	xi->memory = brin_deform_tuple(xi->desc, xi->tuple, xi->memory);
	values = &xi->memory->bt_columns[0];
	if (xi->memory->bt_placeholder || values->bv_allnulls || values->bv_hasnulls)
		return false;
	*low = U64FromFullTransactionId(DatumGetFullTransactionId(values->bv_values[0]));
	*high = U64FromFullTransactionId(DatumGetFullTransactionId(values->bv_values[1]));
	return true;
}
