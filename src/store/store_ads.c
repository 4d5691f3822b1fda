/*-------------------------------------------------------------------------
 *
 * store_ads.c
 *	  The ads, the clicks that adclick.click() makes of them, which advertisers roles
 *	  are, and what impressions are signed with.
 *
 * See store.h.  Ads are read without SQL: users may give the table what they like, also
 * policies and indexes with functions, which the planner would call.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "store.h"
#include "store_sql.h"

/* Whether this column of an index is this one of theirs, a bigint. */
static bool
is_column(Relation index, int number, AttrNumber column)
{
	return index->rd_index->indnkeyatts > number && index->rd_index->indkey.values[number] == column &&
		index->rd_opfamily[number] == INTEGER_BTREE_FAM_OID;
}

/* An index that begins with these columns ("second" may be InvalidAttrNumber), or InvalidOid. */
static Oid
find_index(Relation ads, AttrNumber first, AttrNumber second)
{
	List	   *indexes = RelationGetIndexList(ads);
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisvalid && is_column(index, 0, first) &&
			(second == InvalidAttrNumber || is_column(index, 1, second)) &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
			found = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
	return found;
}

Relation
store_open_ads(void)
{
	Relation	ads = table_open(get_relname_relid("ads", get_namespace_oid(ADCLICK_SCHEMA, false)), AccessShareLock);

	definitions_check_ads(ads);
	definitions_check_rewrite(ads);
	return ads;
}

/* Those with this value in the column. */
static SysScanDesc
begin_scan(Relation ads, Oid index, Snapshot snapshot, AttrNumber column, int64 value)
{
	ScanKeyData key;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(value));
	return systable_beginscan(ads, index, OidIsValid(index), snapshot, 1, &key);
}

struct StoreAdScan
{
	Relation	ads;
	Oid			index;
	Snapshot	snapshot;
	const int64 *advertisers;
	int			nleft;			/* advertisers that were not looked for yet */
	SysScanDesc scan;			/* of the one before; NULL: of none */
};

StoreAdScan *
store_ads_begin(const int64 *advertisers, int nadvertisers, Snapshot snapshot)
{
	StoreAdScan *scan = palloc(sizeof(StoreAdScan));

	scan->ads = store_open_ads();
	scan->index = find_index(scan->ads, ADS_ADVERTISER_ID, InvalidAttrNumber);
	scan->snapshot = snapshot;
	scan->advertisers = advertisers;
	scan->nleft = nadvertisers;
	scan->scan = nadvertisers == STORE_ALL_ADS ? systable_beginscan(scan->ads, InvalidOid, false, snapshot, 0, NULL) : NULL;
	return scan;
}

HeapTuple
store_ads_next(StoreAdScan *scan)
{
	HeapTuple	tuple = scan->scan ? systable_getnext(scan->scan) : NULL;

	CHECK_FOR_INTERRUPTS();
	while (!HeapTupleIsValid(tuple) && scan->nleft > 0)
	{
		if (scan->scan)
			systable_endscan(scan->scan);
		scan->scan = begin_scan(scan->ads, scan->index, scan->snapshot, ADS_ADVERTISER_ID, scan->advertisers[--scan->nleft]);
		tuple = systable_getnext(scan->scan);
	}
	return tuple;
}

TupleDesc
store_ads_desc(const StoreAdScan *scan)
{
	return RelationGetDescr(scan->ads);
}

void
store_ads_end(StoreAdScan *scan)
{
	if (scan->scan)
		systable_endscan(scan->scan);
	table_close(scan->ads, NoLock);
	pfree(scan);
}

int64 *
store_get_ads(const int64 *advertisers, int nadvertisers, int *count)
{
	StoreAdScan *scan = store_ads_begin(advertisers, nadvertisers, GetActiveSnapshot());
	size_t		room = 64;
	int64	   *found = palloc(sizeof(int64) * room);
	size_t		n = 0;
	HeapTuple	tuple;
	bool		isnull;

	while (HeapTupleIsValid(tuple = store_ads_next(scan)))
	{
		if (n == room)
			found = repalloc_huge(found, sizeof(int64) * (room *= 2));
		found[n++] = DatumGetInt64(heap_getattr(tuple, ADS_AD_ID, store_ads_desc(scan), &isnull));
	}
	store_ads_end(scan);
	*count = sort_unique_int64(found, n);
	return found;
}

bool
store_is_ads(Oid table)
{
	char	   *name = get_rel_name(table);

	return name && strcmp(name, "ads") == 0 && get_rel_namespace(table) == get_namespace_oid(ADCLICK_SCHEMA, true);
}

bool
store_find_ad(int64 ad_id, StoreAd *ad)
{
	Relation	ads = store_open_ads();
	SysScanDesc scan = begin_scan(ads, find_index(ads, ADS_AD_ID, InvalidAttrNumber), GetActiveSnapshot(), ADS_AD_ID, ad_id);
	HeapTuple	tuple = systable_getnext(scan);
	bool		isnull;

	if (HeapTupleIsValid(tuple))
	{
		Datum		url = heap_getattr(tuple, ADS_REDIRECT_URL, RelationGetDescr(ads), &isnull);

		ad->redirect_url = isnull ? NULL : DatumGetTextPCopy(url);
		ad->is_active = DatumGetBool(heap_getattr(tuple, ADS_ACTIVE, RelationGetDescr(ads), &isnull)) && !isnull;
	}
	systable_endscan(scan);
	table_close(ads, NoLock);
	return HeapTupleIsValid(tuple);
}

bool
store_has_ad(int64 advertiser_id, int64 ad_id)
{
	Relation	ads = store_open_ads();
	ScanKeyData keys[2];
	SysScanDesc scan;
	Oid			index = find_index(ads, ADS_ADVERTISER_ID, ADS_AD_ID);
	bool		found;

	ScanKeyInit(&keys[0], ADS_ADVERTISER_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(advertiser_id));
	ScanKeyInit(&keys[1], ADS_AD_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(ad_id));
	scan = systable_beginscan(ads, index, OidIsValid(index), GetActiveSnapshot(), 2, keys);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(ads, NoLock);
	return found;
}

/*
 * By SQL, as the caller: he needs the right to INSERT, and defaults, triggers and policies
 * are those of an INSERT of his.  It names all that it uses with the schema, so the
 * search_path can be the session's, as their functions expect.
 */
void
store_insert_click(Datum *values, const char *nulls)
{
	static const char *const text = "INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
	static Oid	types[STORE_CLICK_VALUES] = {
		UUIDOID, INT8OID, TIMESTAMPTZOID, INT8OID, INETOID, TEXTOID, TEXTOID, TEXTOID
	};
	static SPIPlanPtr plan = NULL;

	SPI_connect();
	if (plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare(text, STORE_CLICK_VALUES, types);

		if (made == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
		SPI_keepplan(made);
		plan = made;
	}
	if (SPI_execute_plan(plan, values, nulls, false, 0) < 0)
		elog(ERROR, "could not run \"%s\": %s", text, SPI_result_code_string(SPI_result));
	SPI_finish();
}

/*----------
 * Which advertisers roles are
 *----------
 */

#define ROLES_ROLE_NAME 1
#define ROLES_ADVERTISER_ID 2

int64 *
store_get_advertisers(List *roles, int *count)
{
	Relation	table;
	Oid			index;
	int			room = 4;
	int64	   *found = palloc(sizeof(int64) * room);
	size_t		n = 0;
	ListCell   *cell;

	definitions_check();
	table = table_open(get_relname_relid("advertiser_roles", get_namespace_oid(ADCLICK_SCHEMA, false)), AccessShareLock);
	index = compat_primary_key(table);
	foreach(cell, roles)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;
		bool		isnull;

		ScanKeyInit(&key, ROLES_ROLE_NAME, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(lfirst(cell)));
		scan = systable_beginscan(table, index, OidIsValid(index), GetActiveSnapshot(), 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			CHECK_FOR_INTERRUPTS();
			if (n == room)
				found = repalloc(found, sizeof(int64) * (room *= 2));
			found[n++] = DatumGetInt64(heap_getattr(tuple, ROLES_ADVERTISER_ID, RelationGetDescr(table), &isnull));
		}
		systable_endscan(scan);
	}
	table_close(table, NoLock);
	*count = sort_unique_int64(found, n);
	return found;
}

/*----------
 * What impressions are signed with
 *----------
 */

#define SECRETS_MADE_AT 1
#define SECRETS_SECRET 2
#define SECRETS_RETIRED_AT 3
#define SECRETS_COLUMNS SECRETS_RETIRED_AT

static Relation
open_secrets(LOCKMODE mode)
{
	definitions_check();
	return table_open(get_relname_relid("impression_secrets", get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false)), mode);
}

static void
read_secret(StoreSecret *secret, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	bytea	   *bytes = DatumGetByteaPP(heap_getattr(tuple, SECRETS_SECRET, desc, &isnull));
	Datum		retired_at;

	if (VARSIZE_ANY_EXHDR(bytes) != sizeof(secret->secret))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a secret in adclick_internal.impression_secrets is damaged"),
				 errhint("Call adclick.rotate_impression_secret(true).")));
	memcpy(&secret->secret, VARDATA_ANY(bytes), sizeof(secret->secret));
	retired_at = heap_getattr(tuple, SECRETS_RETIRED_AT, desc, &isnull);
	secret->retired_at = isnull ? DT_NOEND : DatumGetTimestampTz(retired_at);
}

/*
 * In the newest snapshot there is: an older transaction may be given an impression that was
 * signed with a newer secret.  They are few, and read one after the other.
 */
StoreSecret *
store_get_secrets(int *count)
{
	Relation	secrets = open_secrets(AccessShareLock);
	SysScanDesc scan = systable_beginscan(secrets, InvalidOid, false, NULL, 0, NULL);
	int			room = 4;
	StoreSecret *found = palloc(sizeof(StoreSecret) * room);
	HeapTuple	tuple;

	*count = 0;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		CHECK_FOR_INTERRUPTS();
		if (*count == room)
			found = repalloc(found, sizeof(StoreSecret) * (room *= 2));
		read_secret(&found[(*count)++], tuple, RelationGetDescr(secrets));
	}
	systable_endscan(scan);
	table_close(secrets, NoLock);
	return found;
}

/* Without SQL: no statement that is logged has it as a parameter. */
static void
insert_secret(TimestampTz now, const ImpressionSecret *secret)
{
	SqlInserter inserter;
	bytea	   *bytes = palloc(VARHDRSZ + sizeof(*secret));

	SET_VARSIZE(bytes, VARHDRSZ + sizeof(*secret));
	memcpy(VARDATA(bytes), secret, sizeof(*secret));
	sql_insert_begin(&inserter, ADCLICK_INTERNAL_SCHEMA, "impression_secrets");
	memset(inserter.slot->tts_isnull, false, sizeof(bool) * SECRETS_COLUMNS);
	inserter.slot->tts_values[SECRETS_MADE_AT - 1] = TimestampTzGetDatum(now);
	inserter.slot->tts_values[SECRETS_SECRET - 1] = PointerGetDatum(bytes);
	inserter.slot->tts_isnull[SECRETS_RETIRED_AT - 1] = true;
	sql_insert_put(&inserter);
	sql_insert_end(&inserter);
}

/* One after the other, so that one secret is in use. */
void
store_rotate_secret(const ImpressionSecret *secret, TimestampTz kept_since)
{
	Relation	secrets = open_secrets(ShareRowExclusiveLock);
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[1] = {TimestampTzGetDatum(now)};
	Datum		bounds[1] = {TimestampTzGetDatum(kept_since)};

	store_push_newest();
	sql_write(RETIRE_SECRET, values, NULL);
	PopActiveSnapshot();
	CommandCounterIncrement();
	store_push_newest();
	sql_write(DELETE_SECRETS, bounds, NULL);
	PopActiveSnapshot();
	insert_secret(now, secret);
	table_close(secrets, NoLock);
}
