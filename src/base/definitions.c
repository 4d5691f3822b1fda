/*-------------------------------------------------------------------------
 *
 * definitions.c
 *	  Whether the tables of the extension still are what its code takes them for.
 *
 * See definitions.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "adclick.h"
#include "compat.h"
#include "definitions.h"
#include "privileges.h"

#define MAX_COLUMNS 30

/* Instead of a type: an array of adclick.ad_click. */
#define AD_CLICKS InvalidOid

typedef struct Column
{
	const char *name;			/* NULL: no more columns */
	Oid			type;
} Column;

typedef struct Definition
{
	const char *schema;
	const char *name;
	char		kind;			/* pg_class.relkind */
	bool		for_users;		/* who may add to it: no statement of ours writes it */
	Column		columns[MAX_COLUMNS + 1];
} Definition;

#define CLICK_COLUMNS \
	{"click_id", UUIDOID}, {"ad_id", INT8OID}, {"clicked_at", TIMESTAMPTZOID}, {"user_id", INT8OID}, \
	{"received_at", TIMESTAMPTZOID}, {"ip", INETOID}, {"country", TEXTOID}, {"region", TEXTOID}, {"device", TEXTOID}

#define SEGMENT_COLUMNS \
	{"run_id", INT8OID}, {"first_key", INT8OID}, {"number", INT4OID}, {"data", BYTEAOID}

/* What a line of an archived file has: see write/archive_line.c. */
#define ARCHIVED_CLICK_COLUMNS \
	{"line", TEXTOID}, CLICK_COLUMNS, {"copies", INT8OID}, {"counted_country", TEXTOID}, {"counted_region", TEXTOID}, \
	{"counted_device", TEXTOID}, {"key", UUIDOID}, {"bucket", INT8OID}, {"event_time", TIMESTAMPTZOID}, \
	{"delay", INT8OID}, {"flags", INT4OID}

/* Who inserts has its defaults, constraints and triggers to bear; ticks read and take rows without SQL. */
static const Definition inbox_definition = {
	ADCLICK_SCHEMA, "clicks", RELKIND_RELATION, true, {CLICK_COLUMNS}
};

/* Users have it to themselves but for the columns that are read without SQL. */
static const Definition ads_definition = {
	ADCLICK_SCHEMA, "ads", RELKIND_RELATION, true, {
		{"ad_id", INT8OID}, {"advertiser_id", INT8OID}, {"redirect_url", TEXTOID}, {"website", TEXTOID}, {"active", BOOLOID},
		{"dedup_by", TEXTOID}
	}
};

static const Definition facts_definition = {
	ADCLICK_INTERNAL_SCHEMA, "fact_rows", RELKIND_FOREIGN_TABLE, false, {
		{"ad_id", INT8OID}, {"click_minute", TIMESTAMPTZOID}, {"filter_id", INT4OID},
		{"country", TEXTOID}, {"region", TEXTOID}, {"device", TEXTOID}, {"click_count", INT8OID}
	}
};

/* The same columns. */
#define DAY_ROWS "day_rows"

/* A table of volumes, which one is told by the code: a lock on all would be in the way of one being truncated. */
static const Definition volume_definition = {
	ADCLICK_INTERNAL_SCHEMA, NULL, RELKIND_RELATION, false, {SEGMENT_COLUMNS}
};

static const Definition discarded_definition = {
	ADCLICK_INTERNAL_SCHEMA, NULL, RELKIND_RELATION, false, {CLICK_COLUMNS, {"reason", TEXTOID}, {"discarded_at", TIMESTAMPTZOID}}
};

const char *const definitions_shelves[] = {"ledger", "people"};

static const Definition definitions[] = {
	{ADCLICK_SCHEMA, "filters", RELKIND_RELATION, false, {
			{"filter_id", INT4OID}, {"country", TEXTOID}, {"region", TEXTOID}, {"device", TEXTOID}, {"last_day", DATEOID}
	}},
	{ADCLICK_SCHEMA, "most_clicked_ads", RELKIND_RELATION, false, {
			{"click_minute", TIMESTAMPTZOID}, {"filter_id", INT4OID}, {"most_clicked_ads", AD_CLICKS},
			{"cut_off", INT8OID}
	}},
	{ADCLICK_SCHEMA, "most_clicked_ads_hourly", RELKIND_RELATION, false, {
			{"click_hour", TIMESTAMPTZOID}, {"filter_id", INT4OID}, {"most_clicked_ads", AD_CLICKS},
			{"cut_off", INT8OID}
	}},
	{ADCLICK_SCHEMA, "most_clicked_ads_daily", RELKIND_RELATION, false, {
			{"click_day", TIMESTAMPTZOID}, {"filter_id", INT4OID}, {"most_clicked_ads", AD_CLICKS},
			{"cut_off", INT8OID}
	}},
	{ADCLICK_SCHEMA, "ad_click", RELKIND_COMPOSITE_TYPE, false, {
			{"ad_id", INT8OID}, {"click_count", INT8OID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "state", RELKIND_RELATION, false, {
			{"only_row", BOOLOID}, {"tick", INT8OID}, {"ticked_at", TIMESTAMPTZOID},
			{"newest_received", TIMESTAMPTZOID}, {"event_time", TIMESTAMPTZOID}, {"rows_read", INT8OID},
			{"counted", INT8OID}, {"in_future", INT8OID}, {"too_old", INT8OID}, {"duplicates", INT8OID},
			{"undecided", INT8OID}, {"forged", INT8OID}, {"expired", INT8OID}, {"user_limit", INT8OID}, {"address_limit", INT8OID}, {"rule_id", INT4OID},
			{"future_tolerance", INT8OID}, {"raw_retention", INT8OID},
			{"highest_bucket", INT8OID}, {"late", INT8OID}, {"dropped", INT8OID},
			{"discarded_dropped", INT8OID}, {"dropped_until", TIMESTAMPTZOID}, {"people_dropped_until", TIMESTAMPTZOID},
			{"user_clicks_per_minute", INT4OID}, {"ip_clicks_per_minute", INT4OID},
			{"minutes_dropped", INT8OID}, {"days_dropped", INT8OID},
			{"minutes_dropped_until", TIMESTAMPTZOID}, {"days_dropped_until", TIMESTAMPTZOID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "restore", RELKIND_RELATION, false, {{"started_at", TIMESTAMPTZOID}, {"tried_again", BOOLOID}}},
	{ADCLICK_INTERNAL_SCHEMA, "restored_tables", RELKIND_RELATION, false, {{"relation", REGCLASSOID}, {"by_copy", BOOLOID}}},
	{ADCLICK_INTERNAL_SCHEMA, "dedup_rules", RELKIND_RELATION, false, {
			{"rule_id", INT4OID}, {"by_user_and_ad", BOOLOID}, {"dedup_window", INT4OID}, {"last_bucket", INT8OID},
			{"forgotten_since", TIMESTAMPTZOID}, {"secret", BYTEAOID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "impression_secrets", RELKIND_RELATION, false, {
			{"made_at", TIMESTAMPTZOID}, {"secret", BYTEAOID}, {"retired_at", TIMESTAMPTZOID}
	}},
	{ADCLICK_SCHEMA, "advertiser_roles", RELKIND_RELATION, false, {{"role_name", NAMEOID}, {"advertiser_id", INT8OID}}},
	{ADCLICK_INTERNAL_SCHEMA, "compaction", RELKIND_RELATION, false, {{"only_row", BOOLOID}, {"rounds", INT8OID}}},
	{ADCLICK_INTERNAL_SCHEMA, "runs", RELKIND_RELATION, false, {
			{"run_id", INT8OID}, {"sort_order", INT2OID}, {"is_delta", BOOLOID}, {"first_minute", TIMESTAMPTZOID},
			{"last_minute", TIMESTAMPTZOID}, {"segments", INT4OID}, {"facts", INT8OID}, {"clicks", INT8OID},
			{"minutes", TIMESTAMPTZARRAYOID}, {"minute_facts", INT8ARRAYOID}, {"minute_clicks", INT8ARRAYOID},
			{"volume", INT4OID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "deltas", RELKIND_RELATION, false, {SEGMENT_COLUMNS}},
	{ADCLICK_INTERNAL_SCHEMA, "segments", RELKIND_RELATION, false, {SEGMENT_COLUMNS}},
	{ADCLICK_INTERNAL_SCHEMA, "ledger_restored", RELKIND_RELATION, false, {SEGMENT_COLUMNS}},
	{ADCLICK_INTERNAL_SCHEMA, "forgotten_users", RELKIND_RELATION, false, {
			{"hash", UUIDOID}, {"secret", BYTEAOID}, {"last_volume", INT4OID}
	}},
	{ADCLICK_SCHEMA, "archived_volumes", RELKIND_RELATION, false, {
			{"volume", INT4OID}, {"first_minute", TIMESTAMPTZOID}, {"last_minute", TIMESTAMPTZOID}, {"clicks", INT8OID},
			{"contents", TEXTOID}, {"file", TEXTOID}, {"bytes", INT8OID}, {"sha256", TEXTOID},
			{"archived_at", TIMESTAMPTZOID}, {"dropped_at", TIMESTAMPTZOID}
	}},
	{ADCLICK_SCHEMA, "restored_hours", RELKIND_RELATION, false, {
			{"hour", TIMESTAMPTZOID}, {"volume", INT4OID}, {"clicks", INT8OID}, {"restored_at", TIMESTAMPTZOID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "archived_click", RELKIND_COMPOSITE_TYPE, false, {ARCHIVED_CLICK_COLUMNS}},
	{ADCLICK_INTERNAL_SCHEMA, "volumes", RELKIND_RELATION, false, {
			{"shelf", TEXTOID}, {"volume", INT4OID}, {"opened_at", TIMESTAMPTZOID}, {"dropped_at", TIMESTAMPTZOID},
			{"dropped_by", XID8OID}, {"in_future", INT8OID}, {"too_old", INT8OID}, {"duplicates", INT8OID},
			{"undecided", INT8OID}, {"forged", INT8OID}, {"expired", INT8OID}, {"user_limit", INT8OID}, {"address_limit", INT8OID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "unpacked_clicks", RELKIND_RELATION, false, {CLICK_COLUMNS, {"run_id", INT8OID}}},
	{ADCLICK_INTERNAL_SCHEMA, "gaps", RELKIND_RELATION, false, {{"minute", TIMESTAMPTZOID}}},
	{ADCLICK_SCHEMA, "differences", RELKIND_RELATION, false, {
			{"hour", TIMESTAMPTZOID}, {"what", TEXTOID}, {"click_minute", TIMESTAMPTZOID}, {"ad_id", INT8OID},
			{"filter_id", INT4OID}, {"user_id", INT8OID}, {"ip", INETOID}, {"expected", INT8OID}, {"stored", INT8OID}
	}},
	{ADCLICK_SCHEMA, "reconciled_hours", RELKIND_RELATION, false, {
			{"hour", TIMESTAMPTZOID}, {"reconciled_at", TIMESTAMPTZOID}, {"clicks", INT8OID}, {"differences", INT8OID},
			{"repaired", BOOLOID}, {"problem", TEXTOID}
	}},
	{ADCLICK_SCHEMA, "reconciliations", RELKIND_RELATION, false, {
			{"reconciliation_id", INT8OID}, {"since", TIMESTAMPTZOID}, {"until", TIMESTAMPTZOID}, {"repair", BOOLOID},
			{"only_changed", BOOLOID}, {"started_at", TIMESTAMPTZOID}, {"finished_at", TIMESTAMPTZOID}, {"hours", TIMESTAMPTZARRAYOID},
			{"hours_done", INT4OID}, {"clicks", INT8OID}, {"differences", INT8OID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "log_sources", RELKIND_RELATION, false, {
			{"name", TEXTOID}, {"path", TEXTOID}, {"format", TEXTOID}, {"columns", JSONBOID}, {"added_by", TEXTOID},
			{"added_at", TIMESTAMPTZOID}, {"lines", INT8OID}, {"bad_lines", INT8OID}, {"bytes_waiting", INT8OID},
			{"last_read_at", TIMESTAMPTZOID}, {"last_error", TEXTOID}, {"last_error_at", TIMESTAMPTZOID}
	}},
	{ADCLICK_INTERNAL_SCHEMA, "log_files", RELKIND_RELATION, false, {
			{"source", TEXTOID}, {"file", INT4OID}, {"path", TEXTOID}, {"device", INT8OID}, {"inode", INT8OID}, {"size", INT8OID},
			{"modified_at", INT8OID}, {"compressed", BOOLOID}, {"rotated", BOOLOID}, {"read_to", INT8OID}, {"in_line", BOOLOID},
			{"begin_hash", UUIDOID}, {"end_hash", UUIDOID}, {"copy_of", INT4OID}, {"gone_at", TIMESTAMPTZOID},
			{"lines", INT8OID}, {"bad_lines", INT8OID}
	}},
	{ADCLICK_SCHEMA, "bad_lines", RELKIND_RELATION, false, {
			{"source", TEXTOID}, {"file", TEXTOID}, {"byte_offset", INT8OID}, {"line", TEXTOID}, {"sqlstate", TEXTOID},
			{"reason", TEXTOID}, {"set_aside_at", TIMESTAMPTZOID}
	}},
};

/* Those looked at last; how often one of them has changed; how often when all were found right. */
static Oid	checked[lengthof(definitions)];
static List *indexes[lengthof(definitions)];	/* of them, Oids */
static uint64 changes = 1;
static uint64 right_at = 0;

/* Of volumes: those that were found right, and did not change since; how often any table may have. */
static Oid	right_volumes[ALL_VOLUME_TABLES];
static uint64 invalidations = 0;

/* A difference: the relation, and what is wrong with it. */
typedef struct Difference
{
	const char *relation;		/* NULL: none */
	const char *detail;
} Difference;

static Difference
difference(Relation relation, const char *detail)
{
	return (Difference) {
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
								   RelationGetRelationName(relation)), detail
	};
}

static const Difference no_difference = {NULL, NULL};

static void
refuse(Difference difference)
{
	if (difference.relation)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" of adclick has been altered", difference.relation),
				 errdetail_internal("%s", difference.detail),
				 errhint("Undo the change. No click is lost meanwhile.")));
}

static Oid
expected_type(const Column *column)
{
	Oid			ad_click;

	if (column->type != AD_CLICKS)
		return column->type;
	ad_click = get_relname_relid("ad_click", get_namespace_oid(ADCLICK_SCHEMA, false));
	return get_array_type(get_rel_type_id(ad_click));
}

static Difference
check_other_columns(Relation relation, int first)
{
	TupleDesc	desc = RelationGetDescr(relation);

	for (int i = first; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			return difference(relation, psprintf("It should have no column \"%s\".",
									  NameStr(TupleDescAttr(desc, i)->attname)));
	return no_difference;
}

static Difference
check_columns(Relation relation, const Definition *definition)
{
	TupleDesc	desc = RelationGetDescr(relation);
	const Column *column = definition->columns;

	for (int i = 0; column->name != NULL; i++, column++)
	{
		Form_pg_attribute attribute = i < desc->natts ? TupleDescAttr(desc, i) : NULL;
		Oid			type = expected_type(column);

		if (attribute == NULL || attribute->attisdropped ||
			strcmp(NameStr(attribute->attname), column->name) != 0)
			return difference(relation, psprintf("Column %d should be \"%s\" of type %s.",
									  i + 1, column->name, format_type_be(type)));
		if (attribute->atttypid != type || attribute->atttypmod != -1)
			return difference(relation, psprintf("Column \"%s\" should be of type %s, not %s.",
									  column->name, format_type_be(type),
									  format_type_with_typemod(attribute->atttypid, attribute->atttypmod)));
		/* segments are read where they lie */
		if (type == BYTEAOID && attribute->attstorage != TYPSTORAGE_PLAIN)
			return difference(relation, psprintf("The storage of column \"%s\" should be PLAIN.", column->name));
		if (attribute->attgenerated != '\0')
			return difference(relation, psprintf("Column \"%s\" should not be generated.", column->name));
	}
	return definition->for_users ? no_difference : check_other_columns(relation, column - definition->columns);
}

/* Keys that a user's function makes, or compares. */
static Difference
check_index(Relation relation, Oid index_id)
{
	Relation	index = index_open(index_id, AccessShareLock);
	Difference	found = no_difference;

	/* not by RelationGetIndexExpressions, which evaluates what seems constant */
	if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL) ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		found = difference(relation, psprintf("Index \"%s\" should have no expressions and no condition.",
								   RelationGetRelationName(index)));
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		if (index->rd_opfamily[i] >= FirstNormalObjectId)
			found = difference(relation, psprintf("Index \"%s\" should use the server's operator classes.",
									   RelationGetRelationName(index)));
	index_close(index, AccessShareLock);	/* or the table of a volume could not be truncated */
	return found;
}

static Difference
check_indexes(Relation relation)
{
	List	   *indexes = RelationGetIndexList(relation);
	Difference	found = no_difference;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		found = check_index(relation, lfirst_oid(cell));
		if (found.relation)
			break;
	}
	return found;
}

/* A trigger that fires although session_replication_role is replica. */
static Difference
check_triggers(Relation relation)
{
	TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (!trigger->tgisinternal && (trigger->tgenabled == TRIGGER_FIRES_ALWAYS ||
									   trigger->tgenabled == TRIGGER_FIRES_ON_REPLICA))
			return difference(relation, psprintf("Trigger \"%s\" should not be enabled always or for replicas.",
									  trigger->tgname));
	}
	return no_difference;
}

#define NO_HEIRS "No table should inherit from it."
#define NO_FORCED_ROW_SECURITY "It should not force row security."

static bool
has_heirs(Relation relation)
{
	return relation->rd_rel->relhassubclass &&
		find_inheritance_children(RelationGetRelid(relation), NoLock) != NIL;
}

static Difference
check_relation(Relation relation, const Definition *definition, Oid owner)
{
	TupleConstr *constraints = RelationGetDescr(relation)->constr;
	Difference	found;

	if (relation->rd_rel->relkind != definition->kind)
		return difference(relation, "It should be another kind of relation.");
	if (relation->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		return difference(relation, "It should be neither unlogged nor temporary.");
	if (relation->rd_rel->relowner != owner)
		return difference(relation, psprintf("Its owner should be %s, not %s.",
								  GetUserNameFromId(owner, false),
								  GetUserNameFromId(relation->rd_rel->relowner, false)));
	found = check_columns(relation, definition);
	if (found.relation || definition->kind != RELKIND_RELATION || definition->for_users)
		return found;
	if (relation->rd_rules != NULL)
		return difference(relation, "It should have no rules.");
	if (relation->rd_rel->relforcerowsecurity)
		return difference(relation, NO_FORCED_ROW_SECURITY);
	if (has_heirs(relation))
		return difference(relation, NO_HEIRS);
	if (constraints && constraints->num_check > 0)
		return difference(relation, "It should have no CHECK constraints.");
	if (constraints && constraints->num_defval > 0)
		return difference(relation, "Its columns should have no defaults.");
	if (RelationGetStatExtList(relation) != NIL)
		return difference(relation, "It should have no extended statistics.");
	found = check_triggers(relation);
	return found.relation ? found : check_indexes(relation);
}

static void
forget_checked(Datum arg, Oid relid)
{
	for (int i = 0; i < lengthof(checked); i++)
		if (checked[i] == relid || !OidIsValid(relid))
		{
			changes++;
			break;
		}
	invalidations++;
	for (int i = 0; i < ALL_VOLUME_TABLES; i++)
		if (right_volumes[i] == relid || !OidIsValid(relid))
			right_volumes[i] = InvalidOid;
}

/* NULL, and a difference, if it is missing. */
static Relation
open_relation(const Definition *definition, Difference *found)
{
	Oid			relid = get_relname_relid(definition->name, get_namespace_oid(definition->schema, false));
	Relation	relation = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;

	*found = no_difference;
	if (relation == NULL)
		*found = (Difference) {
			quote_qualified_identifier(definition->schema, definition->name), "It is missing."
		};
	return relation;
}

static void
remember_indexes(int i, Relation relation)
{
	MemoryContext outer = MemoryContextSwitchTo(TopMemoryContext);

	list_free(indexes[i]);
	indexes[i] = NIL;
	indexes[i] = RelationGetIndexList(relation);
	MemoryContextSwitchTo(outer);
}

static Difference
check_one(int i, Oid owner)
{
	Difference	found;
	Relation	relation = open_relation(&definitions[i], &found);

	if (relation == NULL)
		return found;
	checked[i] = RelationGetRelid(relation);
	remember_indexes(i, relation);
	found = check_relation(relation, &definitions[i], owner);
	relation_close(relation, NoLock);
	return found;
}

static void
follow_changes(void)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(forget_checked, (Datum) 0);
	registered = true;
}

static Difference
check_all(void)
{
	Difference	found = no_difference;
	uint64		before;
	Oid			owner;

	follow_changes();
	if (right_at == changes)
		return found;
	owner = privileges_owner();
	before = changes;
	for (int i = 0; i < lengthof(definitions) && found.relation == NULL; i++)
		found = check_one(i, owner);
	if (found.relation == NULL)
		right_at = before;		/* unless one has changed meanwhile */
	return found;
}

void
definitions_check(void)
{
	refuse(check_all());
}

/* Which file the relation had for the snapshot; none, if it was not there or cannot be told any more. */
static Oid
file_for(Oid relid, Snapshot snapshot)
{
	Relation	pg_class = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			file;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(pg_class, ClassOidIndexId, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	file = HeapTupleIsValid(tuple) ? ((Form_pg_class) GETSTRUCT(tuple))->relfilenode : InvalidOid;
	systable_endscan(scan);
	table_close(pg_class, AccessShareLock);
	return file;
}

/*
 * The transaction that last changed what the catalog says of a relation stands there also once it is frozen.
 * If it is so old that the number may have come round, it can look like one after the snapshot: then that one
 * is refused, while a new one is older than no transaction.
 */
static void
check_file(Oid relid, Snapshot snapshot)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	TransactionId xid;
	Oid			file;

	if (!HeapTupleIsValid(tuple))
		return;
	xid = HeapTupleHeaderGetRawXmin(tuple->t_data);
	file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	if (TransactionIdIsNormal(xid) && TransactionIdPrecedes(xid, ReadNextTransactionId()) &&
		XidInMVCCSnapshot(xid, snapshot) && file_for(relid, snapshot) != file)
		ereport(ERROR,
				(errcode(ERRCODE_SNAPSHOT_TOO_OLD),
				 errmsg("snapshot too old for adclick"),
				 errdetail("\"%s\" has been written anew on the primary since, as by VACUUM FULL, and may lack rows that the snapshot sees.",
						   get_rel_name(relid)),
				 errhint("Ask again in a new transaction.")));
}

static void
check_files(Oid table, const List *its_indexes, Snapshot snapshot)
{
	ListCell   *cell;

	check_file(table, snapshot);
	foreach(cell, its_indexes)
		check_file(lfirst_oid(cell), snapshot);
}

static bool
asks_standby(void)
{
	return ActiveSnapshotSet() && GetActiveSnapshot()->takenDuringRecovery;
}

void
definitions_check_rewrite(Relation relation)
{
	List	   *its_indexes;

	if (!asks_standby())
		return;
	its_indexes = RelationGetIndexList(relation);
	check_files(RelationGetRelid(relation), its_indexes, GetActiveSnapshot());
	list_free(its_indexes);
}

void
definitions_check_rewrites(void)
{
	if (!asks_standby())
		return;
	AcceptInvalidationMessages();
	definitions_check();
	for (int i = 0; i < lengthof(definitions); i++)
		check_files(checked[i], indexes[i], GetActiveSnapshot());
	check_file(get_relname_relid(inbox_definition.name, get_namespace_oid(inbox_definition.schema, false)), GetActiveSnapshot());
}

char *
definitions_volume_table(int number)
{
	return psprintf("%s_%d", number < VOLUME_TABLES ? definitions_shelves[number / SHELF_TABLES] : "discarded",
					number % SHELF_TABLES);
}

Relation
definitions_open_volume(int number, LOCKMODE mode)
{
	char	   *name = definitions_volume_table(number);
	Oid			relid = get_relname_relid(name, get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false));
	Relation	relation = OidIsValid(relid) ? try_relation_open(relid, mode) : NULL;

	follow_changes();
	if (relation == NULL)
		refuse((Difference) {quote_qualified_identifier(ADCLICK_INTERNAL_SCHEMA, name), "It is missing."});
	if (right_volumes[number] != relid)
	{
		uint64		before = invalidations;

		refuse(check_relation(relation, number < VOLUME_TABLES ? &volume_definition : &discarded_definition,
							  privileges_owner()));
		if (before == invalidations)
			right_volumes[number] = relid;	/* nothing has changed meanwhile */
	}
	pfree(name);
	return relation;
}

bool
definitions_is_inbox_method(Oid method)
{
	char	   *name = get_am_name(method);

	return name && strcmp(name, INBOX_AM) == 0;
}

static Difference
check_inbox(Relation relation)
{
	if (!definitions_is_inbox_method(relation->rd_rel->relam))
		return difference(relation, psprintf("Its access method should be %s.", INBOX_AM));
	if (has_heirs(relation))
		return difference(relation, NO_HEIRS);
	/* the view of all clicks would lack some */
	if (relation->rd_rel->relforcerowsecurity)
		return difference(relation, NO_FORCED_ROW_SECURITY);
	/* what a tick deletes is nobody else's business */
	if (relation->rd_rel->relreplident != REPLICA_IDENTITY_NOTHING)
		return difference(relation, "Its replica identity should be NOTHING.");
	return check_relation(relation, &inbox_definition, privileges_owner());
}

Relation
definitions_open_inbox(void)
{
	Difference	found;
	Relation	relation = open_relation(&inbox_definition, &found);

	refuse(relation ? check_inbox(relation) : found);
	return relation;
}

static Difference
find_ads_altered(void)
{
	Difference	found;
	Relation	relation = open_relation(&ads_definition, &found);

	if (relation == NULL)
		return found;
	found = check_relation(relation, &ads_definition, privileges_owner());
	relation_close(relation, AccessShareLock);
	return found;
}

/* All that a tick reads and writes. */
bool
definitions_are_right(void)
{
	Difference	found = check_all();
	Relation	relation;

	if (found.relation == NULL)
		found = find_ads_altered();
	if (found.relation)
		return false;
	relation = open_relation(&inbox_definition, &found);
	if (relation == NULL)
		return false;
	found = check_inbox(relation);
	relation_close(relation, AccessShareLock);
	return found.relation == NULL;
}

void
definitions_check_ads(Relation relation)
{
	refuse(check_relation(relation, &ads_definition, privileges_owner()));
}

bool
definitions_check_facts(Relation relation)
{
	bool		with_days = strcmp(RelationGetRelationName(relation), DAY_ROWS) == 0;

	if (RelationGetNamespace(relation) != get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, true) ||
		(!with_days && strcmp(RelationGetRelationName(relation), facts_definition.name) != 0))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION),
				 errmsg("foreign table \"%s\" cannot be read through server adclick_facts",
						RelationGetRelationName(relation)),
				 errhint("Read the views adclick.ad_click_counts and adclick.clicks_per_minute.")));
	refuse(check_relation(relation, &facts_definition, privileges_owner()));
	return with_days;
}

int
definitions_begin_writes(void)
{
	int			level = NewGUCNestLevel();

	if (SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		(void) set_config_option("session_replication_role", "replica", PGC_SUSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
definitions_end_writes(int level)
{
	AtEOXact_GUC(true, level);
}
