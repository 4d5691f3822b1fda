/*-------------------------------------------------------------------------
 *
 * put.c
 *	  Putting clicks into the inbox without SQL.
 *
 * See put.h.  Its access method says when they arrived, and gives ids, as for any
 * INSERT (method.c).
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "storage/lmgr.h"

#include "base/definitions.h"
#include "click.h"
#include "put.h"

struct InboxWriter
{
	Relation	inbox;
	TupleTableSlot *slots[INBOX_BATCH];
};

InboxWriter *
inbox_put_begin(void)
{
	InboxWriter *writer = palloc0(sizeof(InboxWriter));

	writer->inbox = definitions_open_inbox();
	/* as an INSERT: who keeps writers out, keeps us out */
	LockRelation(writer->inbox, RowExclusiveLock);
	/* all of them now: in a subtransaction they would not outlive it */
	for (int i = 0; i < INBOX_BATCH; i++)
		writer->slots[i] = table_slot_create(writer->inbox, NULL);
	return writer;
}

TupleTableSlot *
inbox_put_slot(InboxWriter *writer, int n)
{
	TupleTableSlot *slot = ExecClearTuple(writer->slots[n]);

	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return slot;
}

void
inbox_put(InboxWriter *writer, int n)
{
	for (int i = 0; i < n; i++)
		ExecStoreVirtualTuple(writer->slots[i]);
	if (n > 0)
		table_multi_insert(writer->inbox, writer->slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < n; i++)
		ExecClearTuple(writer->slots[i]);
}

void
inbox_put_end(InboxWriter *writer)
{
	for (int i = 0; i < INBOX_BATCH; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	relation_close(writer->inbox, NoLock);
	pfree(writer);
}
