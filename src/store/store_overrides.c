/*-------------------------------------------------------------------------
 *
 * store_overrides.c
 *	  Ads that say themselves what makes two of their clicks duplicates.
 *
 * See store.h.  As ads are read without SQL, and all ads can have an override or one: each ad
 * that is clicked is looked for once, in an index that has only those with an override.  While
 * it has none, nothing is looked for.  Without that index the table is read, once.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opfamily.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "core/siphash.h"
#include "store.h"
#include "store_sql.h"

/* An ad that was looked for. */
typedef struct OverrideEntry
{
	int64		ad_id;
	char		status;
	bool		is_other;		/* its clicks are judged by the other rule */
} OverrideEntry;

/* Clients choose the ads, but not where they lie. */
#define SH_PREFIX override_cache
#define SH_ELEMENT_TYPE OverrideEntry
#define SH_KEY_TYPE int64
#define SH_KEY ad_id
#define SH_HASH_KEY(tb, key) ((uint32) siphash(process_seed(), (uint64) (key), 0))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct StoreOverrides
{
	const ClickRules *rules;
	Snapshot	snapshot;
	bool		is_open;
	Relation	ads;
	Relation	index;			/* NULL: the cache has all that there are */
	IndexScanDesc scan;
	TupleTableSlot *slot;
	bool		is_empty;		/* no ad has an override */
	override_cache_hash *cache;
};

/* Whether the condition of an index is that there is an override.  It is not evaluated: it can be anybody's. */
static bool
has_condition(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	bool		isnull;
	Datum		condition = SysCacheGetAttr(INDEXRELID, tuple, Anum_pg_index_indpred, &isnull);
	NullTest   *test = isnull ? NULL : stringToNode(TextDatumGetCString(condition));

	ReleaseSysCache(tuple);
	return test && IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL && IsA(test->arg, Var) &&
		((Var *) test->arg)->varattno == ADS_DEDUP_BY;
}

/* As the planner asks: an index that was made beside updates can lack what older snapshots see. */
static bool
is_usable(Relation index)
{
	return index->rd_index->indisvalid && index->rd_index->indkey.values[0] == ADS_AD_ID &&
		index->rd_opfamily[0] == INTEGER_BTREE_FAM_OID &&
		(!index->rd_index->indcheckxmin ||
		 TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), TransactionXmin));
}

/* The index, open, or NULL. */
static Relation
open_index(Relation ads)
{
	List	   *indexes = RelationGetIndexList(ads);
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_usable(index) && has_condition(RelationGetRelid(index)))
			return index;
		index_close(index, AccessShareLock);
	}
	return NULL;
}

/* Those that a constraint would have refused stop the counting: what they mean cannot be told. */
static bool
is_other_policy(const StoreOverrides *overrides, Datum value)
{
	const char *name = TextDatumGetCString(value);

	if (strcmp(name, "click_id") == 0)
		return overrides->rules->dedup.by != DEDUP_BY_CLICK_ID;
	if (strcmp(name, "user_and_ad") == 0)
		return overrides->rules->dedup.by != DEDUP_BY_USER_AND_AD;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("a dedup_by in adclick.ads is not one of its values"),
			 errdetail_log("It is \"%s\".", name),
			 errhint("Find it by SELECT ad_id FROM adclick.ads WHERE dedup_by NOT IN ('click_id', 'user_and_ad'). No click is lost meanwhile.")));
}

/* Whether clicks on the ad in the slot are judged by the other rule. */
static bool
read_ad(const StoreOverrides *overrides)
{
	bool		isnull;
	Datum		value = slot_getattr(overrides->slot, ADS_DEDUP_BY, &isnull);

	return !isnull && is_other_policy(overrides, value);
}

static void
read_all(StoreOverrides *overrides)
{
	TableScanDesc scan = table_beginscan(overrides->ads, overrides->snapshot, 0, NULL);
	bool		found;

	while (table_scan_getnextslot(scan, ForwardScanDirection, overrides->slot))
	{
		int64		ad_id;

		CHECK_FOR_INTERRUPTS();
		if (!read_ad(overrides))
			continue;
		ad_id = DatumGetInt64(slot_getattr(overrides->slot, ADS_AD_ID, &found));
		override_cache_insert(overrides->cache, ad_id, &found)->is_other = true;
	}
	table_endscan(scan);
}

/* Whether the index has an entry, be it of a row that nobody sees any more. */
static bool
has_entry(StoreOverrides *overrides)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(PG_INT64_MIN));
	index_rescan(overrides->scan, &key, 1, NULL, 0);
	return index_getnext_tid(overrides->scan, ForwardScanDirection) != NULL;
}

static void
open_overrides(StoreOverrides *overrides)
{
	overrides->is_open = true;
	overrides->ads = store_open_ads();
	overrides->slot = table_slot_create(overrides->ads, NULL);
	overrides->cache = override_cache_create(CurrentMemoryContext, 256, NULL);
	overrides->index = open_index(overrides->ads);
	if (overrides->index == NULL)
	{
		read_all(overrides);
		return;
	}
	overrides->scan = compat_index_beginscan(overrides->ads, overrides->index, overrides->snapshot, 1);
	overrides->is_empty = !has_entry(overrides);
}

StoreOverrides *
store_overrides_begin(const ClickRules *rules)
{
	StoreOverrides *overrides = palloc0(sizeof(StoreOverrides));

	overrides->rules = rules;
	overrides->snapshot = GetActiveSnapshot();
	return overrides;
}

static bool
find_ad(StoreOverrides *overrides, int64 ad_id)
{
	ScanKeyData key;
	bool		found;

	CHECK_FOR_INTERRUPTS();
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(ad_id));
	index_rescan(overrides->scan, &key, 1, NULL, 0);
	found = index_getnext_slot(overrides->scan, ForwardScanDirection, overrides->slot) && read_ad(overrides);
	ExecClearTuple(overrides->slot);
	return found;
}

const DedupRule *
store_rule_of(StoreOverrides *overrides, int64 ad_id)
{
	const ClickRules *rules = overrides->rules;
	OverrideEntry *entry;
	bool		found;

	if (!overrides->is_open)
		open_overrides(overrides);
	if (overrides->is_empty)
		return &rules->dedup;
	if (overrides->index == NULL)
		return override_cache_lookup(overrides->cache, ad_id) ? &rules->other : &rules->dedup;
	entry = override_cache_insert(overrides->cache, ad_id, &found);
	if (!found)
		entry->is_other = find_ad(overrides, ad_id);
	return entry->is_other ? &rules->other : &rules->dedup;
}

void
store_overrides_end(StoreOverrides *overrides)
{
	if (overrides->is_open)
	{
		if (overrides->index)
		{
			index_endscan(overrides->scan);
			index_close(overrides->index, AccessShareLock);
		}
		ExecDropSingleTupleTableSlot(overrides->slot);
		override_cache_destroy(overrides->cache);
		table_close(overrides->ads, NoLock);
	}
	pfree(overrides);
}
