/*-------------------------------------------------------------------------
 *
 * own_ads.c
 *	  The ads of who knows some ads only.
 *
 * The views join adclick.ads.  What is planned there belongs to the whole table: estimates, clauses that are
 * evaluated on each of its rows, counters of EXPLAIN ANALYZE.  So where the views are planned for a role
 * that knows some ads only, the planner is told nothing of the table, and given no way to read it but a
 * node that goes through the ads of the role's advertisers.  (A plan of another role's is not run by it:
 * see begin_scope in fdw_scan.c.)
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/plancat.h"
#include "optimizer/restrictinfo.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/snapmgr.h"

#include "base/privileges.h"
#include "own_ads.h"
#include "read/scope.h"
#include "store/store.h"

/* Of the table, as far as the planner knows: so many that it does not look for the clicks of each ad apart. */
#define ANY_PAGES 1000
#define ANY_ADS 100000

static get_relation_info_hook_type next_info_hook;
static get_relation_stats_hook_type next_stats_hook;
static set_rel_pathlist_hook_type next_pathlist_hook;

typedef struct OwnAdsScan
{
	CustomScanState css;
	IdList		advertisers;
	StoreAdScan *ads;			/* NULL: not begun */
} OwnAdsScan;

/*
 * The node
 */

static void
own_ads_begin(CustomScanState *node, EState *estate, int eflags)
{
	OwnAdsScan *scan = (OwnAdsScan *) node;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	PushActiveSnapshot(estate->es_snapshot);
	scope_of(GetUserId(), &scan->advertisers);
	PopActiveSnapshot();
}

static TupleTableSlot *
next_ad(ScanState *node)
{
	OwnAdsScan *scan = (OwnAdsScan *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	HeapTuple	tuple;

	if (scan->ads == NULL)
		scan->ads = store_ads_begin(scan->advertisers.ids, scan->advertisers.n, node->ps.state->es_snapshot);
	ExecClearTuple(slot);
	tuple = store_ads_next(scan->ads);
	if (!HeapTupleIsValid(tuple))
		return slot;
	heap_deform_tuple(tuple, slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
	return ExecStoreVirtualTuple(slot);
}

static bool
recheck_ad(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
own_ads_next(CustomScanState *node)
{
	return ExecScan(&node->ss, next_ad, recheck_ad);
}

static void
own_ads_end(CustomScanState *node)
{
	OwnAdsScan *scan = (OwnAdsScan *) node;

	if (scan->ads)
		store_ads_end(scan->ads);
	scan->ads = NULL;
}

static void
own_ads_again(CustomScanState *node)
{
	own_ads_end(node);
	ExecScanReScan(&node->ss);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "Own Ads",
	.BeginCustomScan = own_ads_begin,
	.ExecCustomScan = own_ads_next,
	.EndCustomScan = own_ads_end,
	.ReScanCustomScan = own_ads_again
};

static Node *
make_state(CustomScan *plan)
{
	OwnAdsScan *scan = (OwnAdsScan *) newNode(sizeof(OwnAdsScan), T_CustomScanState);

	scan->css.methods = &exec_methods;
	return (Node *) scan;
}

static const CustomScanMethods scan_methods = {.CustomName = "Own Ads", .CreateCustomScanState = make_state};

static Plan *
make_plan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist, List *clauses, List *custom_plans)
{
	CustomScan *plan = makeNode(CustomScan);

	plan->scan.plan.targetlist = tlist;
	plan->scan.plan.qual = extract_actual_clauses(clauses, false);
	plan->scan.scanrelid = rel->relid;
	plan->flags = path->flags;
	plan->methods = &scan_methods;
	return &plan->scan.plan;
}

static const CustomPathMethods path_methods = {.CustomName = "Own Ads", .PlanCustomPath = make_plan};

/*
 * Planning
 */

/* Whether it is the table of ads within one of our views, and not for all to know. */
static bool
is_hidden(const RelOptInfo *rel, Oid table)
{
	return rel && OidIsValid(rel->userid) && store_is_ads(table) && rel->userid == privileges_owner() &&
		scope_is_limited(GetUserId());
}

/* What is left is the same whatever ads there are; the key, by which joins that ask for nothing are left out. */
static void
hide_info(PlannerInfo *root, Oid table, bool inhparent, RelOptInfo *rel)
{
	List	   *keys = NIL;
	ListCell   *cell;

	if (next_info_hook)
		next_info_hook(root, table, inhparent, rel);
	if (!is_hidden(rel, table))
		return;
	rel->pages = ANY_PAGES;
	rel->tuples = ANY_ADS;
	rel->allvisfrac = 0;
	rel->statlist = NIL;
	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst_node(IndexOptInfo, cell);

		if (index->unique && index->indexprs == NIL && index->indpred == NIL)
			keys = lappend(keys, index);
	}
	rel->indexlist = keys;
}

/* The relation of a column may stand in a subquery of the one that is estimated. */
static RelOptInfo *
find_rel(PlannerInfo *root, RangeTblEntry *rte)
{
	for (int i = 1; i < root->simple_rel_array_size; i++)
		if (root->simple_rte_array[i] == rte)
			return root->simple_rel_array[i];
	return NULL;
}

static bool
hide_statistics(PlannerInfo *root, RangeTblEntry *rte, AttrNumber column, VariableStatData *found)
{
	if (rte->rtekind == RTE_RELATION && is_hidden(find_rel(root, rte), rte->relid))
		return true;			/* there are none */
	return next_stats_hook && next_stats_hook(root, rte, column, found);
}

static void
replace_paths(PlannerInfo *root, RelOptInfo *rel, Index relid, RangeTblEntry *rte)
{
	CustomPath *path;

	if (next_pathlist_hook)
		next_pathlist_hook(root, rel, relid, rte);
	if (rte->rtekind != RTE_RELATION || !is_hidden(rel, rte->relid) || IS_DUMMY_REL(rel))
		return;
	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, rel->lateral_relids);
	path->path.rows = rel->rows;
	path->path.startup_cost = 0;
	path->path.total_cost = ANY_ADS * cpu_tuple_cost;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	rel->pathlist = NIL;
	rel->partial_pathlist = NIL;
	rel->consider_parallel = false;
	add_path(rel, &path->path);
}

void
own_ads_install(void)
{
	next_info_hook = get_relation_info_hook;
	get_relation_info_hook = hide_info;
	next_stats_hook = get_relation_stats_hook;
	get_relation_stats_hook = hide_statistics;
	next_pathlist_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = replace_paths;
}

/*
 * The view
 */

/* Those that the asker may know of. */
static Datum
own_ads(FunctionCallInfo fcinfo, Oid asker)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	IdList		advertisers;
	StoreAdScan *scan;
	TupleDesc	desc;
	HeapTuple	tuple;
	Datum	   *values;
	bool	   *nulls;

	scope_of(asker, &advertisers);
	InitMaterializedSRF(fcinfo, 0);
	scan = store_ads_begin(advertisers.ids, advertisers.given ? advertisers.n : STORE_ALL_ADS, GetActiveSnapshot());
	desc = store_ads_desc(scan);
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	while (HeapTupleIsValid(tuple = store_ads_next(scan)))
	{
		heap_deform_tuple(tuple, desc, values, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	store_ads_end(scan);
	return (Datum) 0;
}

SQL_FUNCTION_AS_OWNER(own_ads);
