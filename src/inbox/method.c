/*-------------------------------------------------------------------------
 *
 * method.c
 *	  The access method of the inbox: a heap into which rows are only put.
 *
 * It stores rows as the server's heap does, which does all the work.  What differs:
 *
 * - It says when a click arrived, whatever the client says, and gives an id to one
 *	 that has none: a default could be overridden, and costs a call for each row.
 * - It tells the map (map.h) where rows were put.
 * - Nobody updates, deletes or locks a row, or truncates the table; ticks have a way of
 *	 their own (inbox.c).
 * - It has no indexes.
 *
 * See "Table Access Method Interface Definition" in the server's manual.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "click.h"
#include "inbox.h"
#include "map.h"

PG_FUNCTION_INFO_V1(adclick_inbox_handler);
PG_FUNCTION_INFO_V1(adclick_refuse_change);

static const TableAmRoutine *heap;

/* What is stamped must be there: the table may have been altered. */
static void
check_columns(Relation relation)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = 0; i < CLICK_COLUMNS; i++)
		if (i >= desc->natts || TupleDescAttr(desc, i)->attisdropped ||
			TupleDescAttr(desc, i)->atttypid != click_column_types[i])
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("access method \"%s\" stores clicks only", INBOX_AM),
					 errdetail("Column %d should be of type %s.", i + 1, format_type_be(click_column_types[i]))));
}

static void
refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("clicks can only be inserted"),
			 errdetail("%s is not allowed on adclick.clicks.", what),
			 errhint("Ticks take them from there; adclick.click_log has all of them.")));
}

/*
 * A table is filled, be it with nothing: the new one that ALTER TABLE makes, to take the
 * inbox's place.  Older snapshots would see none of its rows.  (VACUUM FULL keeps what
 * they see, and does not come by here.)
 */
static void
refuse_rewriting(Relation relation, int options)
{
	if (OidIsValid(relation->rd_rel->relrewrite))
		refuse("An ALTER TABLE that writes all rows anew");
}

/* Whether the table, if it is there, is of this access method. */
static bool
is_inbox(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			method;

	if (!HeapTupleIsValid(tuple))
		return false;
	method = ((Form_pg_class) GETSTRUCT(tuple))->relam;
	ReleaseSysCache(tuple);
	return definitions_is_inbox_method(method);
}

/*
 * What the methods are not asked about: it would be filled as a table of another kind,
 * or have columns that the ledger has not, now or when its parent or its type gets some,
 * and lose what is in them.
 */
static const char *
harm_of(const AlterTableCmd *command)
{
	switch (command->subtype)
	{
		case AT_SetAccessMethod:
			return "SET ACCESS METHOD";
		case AT_AddColumn:
			return "ADD COLUMN";
		case AT_AddInherit:
			return "INHERIT";
		case AT_AttachPartition:
			return "ATTACH PARTITION";
		case AT_AddOf:
			return "OF";
		default:
			return NULL;
	}
}

/* The table that a part of ALTER TABLE changes. */
static const RangeVar *
altered(const AlterTableStmt *alter, const AlterTableCmd *command)
{
	return command->subtype == AT_AttachPartition ? castNode(PartitionCmd, command->def)->name : alter->relation;
}

void
inbox_check_statement(Node *statement)
{
	AlterTableStmt *alter = (AlterTableStmt *) statement;
	ListCell   *cell;

	if (!IsA(statement, AlterTableStmt))
		return;
	foreach(cell, alter->cmds)
	{
		const AlterTableCmd *command = lfirst(cell);
		const char *harm = harm_of(command);

		if (harm && is_inbox(RangeVarGetRelid(altered(alter, command), NoLock, true)))
			refuse(harm);
	}
}

/* The time in whole milliseconds: the ledger has no more of it (click_delay). */
static TimestampTz
arrival_time(void)
{
	TimestampTz now = GetCurrentTimestamp();

	return now - now % USECS_PER_MSEC;
}

/* A dump has clicks that arrived before; who else says so is not believed. */
static bool
keeps_arrivals(void)
{
	return in_dump() && has_privs_of_role(GetUserId(), privileges_owner());
}

static TimestampTz
arrived_at(const TupleTableSlot *slot, TimestampTz now)
{
	TimestampTz said = DatumGetTimestampTz(slot->tts_values[CLICK_RECEIVED_AT - 1]);

	if (slot->tts_isnull[CLICK_RECEIVED_AT - 1] || TIMESTAMP_NOT_FINITE(said) || !keeps_arrivals())
		return now;
	return Min(now, said - said % USECS_PER_MSEC);
}

/* Say when a click arrived, and what its id is if it has none: then "new_id" keeps it. */
static void
stamp(TupleTableSlot *slot, TimestampTz now, pg_uuid_t *new_id)
{
	slot_getallattrs(slot);
	if (slot->tts_isnull[CLICK_ID - 1])
	{
		Datum		random = DirectFunctionCall1(gen_random_uuid, (Datum) 0);

		*new_id = *DatumGetUUIDP(random);
		pfree(DatumGetPointer(random));
		slot->tts_values[CLICK_ID - 1] = UUIDPGetDatum(new_id);
		slot->tts_isnull[CLICK_ID - 1] = false;
	}
	slot->tts_values[CLICK_RECEIVED_AT - 1] = TimestampTzGetDatum(arrived_at(slot, now));
	slot->tts_isnull[CLICK_RECEIVED_AT - 1] = false;

	/* the heap would take the row as it was formed before */
	if (TTS_IS_BUFFERTUPLE(slot) && ((BufferHeapTupleTableSlot *) slot)->base.tuple != NULL)
		ExecForceStoreHeapTuple(heap_form_tuple(slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull),
								slot, true);
}

static void
note_insert(InboxMap *map, TupleTableSlot *slot)
{
	if (map)
		inbox_map_set_open(map, ItemPointerGetBlockNumber(&slot->tts_tid), GetTopTransactionId());
}

/* Not frozen (COPY FREEZE): an older snapshot would see it. */
#define ALLOWED_OPTIONS(options) ((options) & ~TABLE_INSERT_FROZEN)

static void
insert(Relation relation, TupleTableSlot *slot, CommandId cid, int options, BulkInsertState bistate)
{
	pg_uuid_t	new_id;

	check_columns(relation);
	stamp(slot, arrival_time(), &new_id);
	heap->tuple_insert(relation, slot, cid, ALLOWED_OPTIONS(options), bistate);
	note_insert(inbox_map(relation), slot);
}

static void
insert_many(Relation relation, TupleTableSlot **slots, int n, CommandId cid, int options,
			BulkInsertState bistate)
{
	pg_uuid_t  *new_ids = palloc(sizeof(pg_uuid_t) * n);
	TimestampTz now = arrival_time();
	InboxMap   *map;

	check_columns(relation);
	for (int i = 0; i < n; i++)
		stamp(slots[i], now, &new_ids[i]);
	heap->multi_insert(relation, slots, n, cid, ALLOWED_OPTIONS(options), bistate);
	map = inbox_map(relation);
	for (int i = 0; i < n; i++)
		note_insert(map, slots[i]);
	pfree(new_ids);
}

static void
insert_speculative(Relation relation, TupleTableSlot *slot, CommandId cid, int options,
				   BulkInsertState bistate, uint32 token)
{
	refuse("INSERT with ON CONFLICT");
}

static TM_Result
refuse_delete(Relation relation, ItemPointer tid, CommandId cid, Snapshot snapshot, Snapshot crosscheck,
			  bool wait, TM_FailureData *failure, bool changing_partition)
{
	refuse("DELETE");
	return TM_Ok;
}

static TM_Result
refuse_update(Relation relation, ItemPointer tid, TupleTableSlot *slot, CommandId cid, Snapshot snapshot,
			  Snapshot crosscheck, bool wait, TM_FailureData *failure, LockTupleMode *mode,
			  compat_update_indexes *update_indexes)
{
	refuse("UPDATE");
	return TM_Ok;
}

static TM_Result
refuse_lock(Relation relation, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot, CommandId cid,
			LockTupleMode mode, LockWaitPolicy policy, uint8 flags, TM_FailureData *failure)
{
	refuse("Locking rows");
	return TM_Ok;
}

static double
refuse_index(Relation relation, Relation index, IndexInfo *info, bool allow_sync, bool anyvisible,
			 bool progress, BlockNumber start, BlockNumber n, IndexBuildCallback callback,
			 void *callback_state, TableScanDesc scan)
{
	refuse("An index");
	return 0;
}

/*
 * The inbox, made by CREATE EXTENSION or pg_upgrade, or the table that takes its place
 * when it is written anew: that is known by its name only, yet.
 */
static bool
is_ours(Relation relation)
{
	return creating_extension || IsBinaryUpgrade ||
		(RelationGetNamespace(relation) == get_namespace_oid(ADCLICK_SCHEMA, true) &&
		 strcmp(RelationGetRelationName(relation), psprintf("pg_temp_%u", inbox_relid())) == 0);
}

/* A table that is there already gets a new file by TRUNCATE. */
static void
new_file(Relation relation, const compat_file_locator *file, char persistence,
		 TransactionId *freeze_xid, MultiXactId *min_multi)
{
	if (relation->rd_createSubid == InvalidSubTransactionId)
		refuse("TRUNCATE");
	if (!is_ours(relation))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("access method \"%s\" is for adclick.clicks alone", INBOX_AM)));
	check_columns(relation);
	heap->compat_set_new_file(relation, file, persistence, freeze_xid, min_multi);
}

/* The same where the table, or another TRUNCATE, is of this transaction. */
static void
refuse_truncate(Relation relation)
{
	refuse("TRUNCATE");
}

/* Long texts lie in a table of the usual kind. */
static Oid
toast_method(Relation relation)
{
	return HEAP_TABLE_AM_OID;
}

Datum
adclick_inbox_handler(PG_FUNCTION_ARGS)
{
	static TableAmRoutine inbox;

	heap = GetHeapamTableAmRoutine();
	inbox = *heap;
	inbox.tuple_insert = insert;
	inbox.multi_insert = insert_many;
	inbox.finish_bulk_insert = refuse_rewriting;
	inbox.tuple_insert_speculative = insert_speculative;
	inbox.tuple_delete = refuse_delete;
	inbox.tuple_update = refuse_update;
	inbox.tuple_lock = refuse_lock;
	inbox.index_build_range_scan = refuse_index;
	inbox.compat_set_new_file = new_file;
	inbox.relation_nontransactional_truncate = refuse_truncate;
	inbox.relation_toast_am = toast_method;
	PG_RETURN_POINTER(&inbox);
}

/* The access method refuses all this where there are rows; the trigger does where there are none. */
Datum
adclick_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as a trigger")));
	refuse(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? "UPDATE" :
		   TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? "DELETE" : "TRUNCATE");
	return (Datum) 0;
}
