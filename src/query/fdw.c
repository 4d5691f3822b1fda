/*-------------------------------------------------------------------------
 *
 * fdw.c
 *	  Planning of queries over the foreign table of facts.
 *
 * See fdw.h.  A scan gives rows, or, when nothing is left to do for each row but
 * to add up clicks by groups, the sums: an hour of clicks has tens of millions of
 * facts, and making a row of each is what takes the time.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/selfuncs.h"
#include "utils/typcache.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "fdw.h"
#include "read/scope.h"
#include "store/store.h"

/* Costs: of beginning, of a fact read, and of looking for an ad in a run. */
#define STARTUP_COST 10.0
#define FACT_COST 0.0025
#define PROBE_COST 0.5

/* Facts an ad is expected to have: in each run, and as a part of all. */
#define FACTS_OF_AD_IN_RUN 4.0
#define PART_OF_AD 0.005

/* Part of a window that is expected if its bounds are known only at execution. */
#define UNKNOWN_WINDOW 0.1

PG_FUNCTION_INFO_V1(adclick_fact_handler);
PG_FUNCTION_INFO_V1(adclick_fact_validator);

/* RelOptInfo.fdw_private */
typedef struct FactRel
{
	Oid			table;
	List	   *pushed[PUSHED_LISTS];	/* of RestrictInfo */
	bool		all_pushed;		/* none is left to the executor */
	bool		with_days;		/* it has days whose minutes were dropped, too */
	bool		limited;		/* the role that plans knows some ads only */
	StoreSize	size;			/* of the window */
} FactRel;

/* For who knows some ads only the same whatever there is: what others have shows in no plan. */
static const StoreSize any_size = {
	.runs = 24, .facts = 100000, .deltas = 4, .delta_facts = 1000, .minutes = 1440, .hours = 23, .hour_facts = 99000
};

/* Whether the table has days whose minutes were dropped, too; an error if it is none of ours. */
static bool
check_table(Oid table)
{
	Relation	relation = table_open(table, NoLock);
	bool		with_days = definitions_check_facts(relation);

	table_close(relation, NoLock);
	return with_days;
}

/*
 * What clauses are about
 */

/* Which list a clause belongs in; PUSHED_LISTS: it is left to the executor. */
static PushedList
pushed_list_of(RestrictInfo *info, RelOptInfo *rel)
{
	Node	   *clause = (Node *) info->clause;
	RowKey		key;

	if (info->pseudoconstant || !restriction_is_securely_promotable(info, rel) ||
		contain_volatile_functions(clause) || contain_subplans(clause))
		return PUSHED_LISTS;
	switch (row_part_of(clause, rel->relid))
	{
		case PART_AD:
			return row_key_of(clause, rel->relid, &key) ? PUSHED_ADS : PUSHED_LISTS;
		case PART_MINUTE:
			return row_key_of(clause, rel->relid, &key) ? PUSHED_WINDOW : PUSHED_MINUTE;
		case PART_FILTER:
			return PUSHED_FILTER;
		case PART_OTHER:
			break;
	}
	return PUSHED_LISTS;
}

/* Sort clauses into the lists; returns those left to the executor. */
static List *
sort_clauses(List *infos, RelOptInfo *rel, List **pushed)
{
	List	   *others = NIL;
	ListCell   *cell;

	foreach(cell, infos)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);
		PushedList	list = pushed_list_of(info, rel);

		if (list < PUSHED_LISTS)
			pushed[list] = lappend(pushed[list], info);
		else
			others = lappend(others, info);
	}
	return others;
}


/*
 * Estimates
 */

/* The window as far as it is known before execution; and whether it is. */
static bool
plan_window(PlannerInfo *root, RelOptInfo *rel, List *infos, RowRange *range)
{
	bool		known = true;
	ListCell   *cell;

	row_range_all(range);
	foreach(cell, infos)
	{
		RowKey		key;
		Const	   *value;

		if (!row_key_of((Node *) lfirst_node(RestrictInfo, cell)->clause, rel->relid, &key))
			continue;
		value = (Const *) estimate_expression_value(root, (Node *) key.value);
		if (IsA(value, Const))
			row_range_narrow(range, &key, value->constvalue, value->constisnull);
		else
			known = false;
	}
	return known;
}

/* How many ads the keys choose; 0 if they do not name them. */
static double
count_ads(PlannerInfo *root, RelOptInfo *rel, List *infos)
{
	double		ads = 0;
	ListCell   *cell;

	foreach(cell, infos)
	{
		RowKey		key;

		if (!row_key_of((Node *) lfirst_node(RestrictInfo, cell)->clause, rel->relid, &key) ||
			key.strategy != BTEqualStrategyNumber)
			continue;
		if (!key.is_list)
			return 1;
		ads = Max(1, compat_array_length(root, (Node *) key.value));
	}
	return ads;
}

/* The part of the window that minutes given by a join choose. */
static double
join_window(RelOptInfo *rel, List *infos)
{
	FactRel    *fact_rel = rel->fdw_private;
	double		part = 1;
	ListCell   *cell;

	foreach(cell, infos)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);
		RowKey		key;

		if (list_member_ptr(fact_rel->pushed[PUSHED_WINDOW], info) ||
			!row_key_of((Node *) info->clause, rel->relid, &key))
			continue;
		if (key.strategy == BTEqualStrategyNumber)
			return 1 / Max(fact_rel->size.runs, 1);
		part *= UNKNOWN_WINDOW;
	}
	return part;
}

/* Rows of a scan with these clauses, some perhaps of a join, and what reading costs. */
static double
estimate_scan(PlannerInfo *root, RelOptInfo *rel, List *infos, Cost *cost)
{
	FactRel    *fact_rel = rel->fdw_private;
	List	   *pushed[PUSHED_LISTS] = {NIL};
	List	   *others = sort_clauses(infos, rel, pushed);
	double		ads = count_ads(root, rel, pushed[PUSHED_ADS]);
	double		part = join_window(rel, pushed[PUSHED_WINDOW]);
	double		facts = fact_rel->size.facts * part;
	double		probes = ads * fact_rel->size.runs * part;

	if (ads > 0)
		facts = Min(facts * Min(ads * PART_OF_AD, 1), probes * FACTS_OF_AD_IN_RUN);
	else
		facts *= clauselist_selectivity(root, pushed[PUSHED_ADS], rel->relid, JOIN_INNER, NULL);
	*cost = STARTUP_COST + probes * PROBE_COST + facts * FACT_COST;

	others = list_concat(others, pushed[PUSHED_MINUTE]);
	others = list_concat(others, pushed[PUSHED_FILTER]);
	return clamp_row_est(facts * clauselist_selectivity(root, others, rel->relid, JOIN_INNER, NULL));
}

/* What it costs to look for a minute in the deltas: each does, if they come in order. */
static Cost
cost_of_minute(PlannerInfo *root, RelOptInfo *rel)
{
	FactRel    *fact_rel = rel->fdw_private;
	double		ads = count_ads(root, rel, fact_rel->pushed[PUSHED_ADS]);

	return PROBE_COST + (ads > 0 ? ads * fact_rel->size.deltas * PROBE_COST :
						 fact_rel->size.delta_facts * FACT_COST);
}

/* And in the runs of hours: each but the first minute of an hour, as that is counted already. */
static Cost
cost_of_hours(PlannerInfo *root, RelOptInfo *rel)
{
	FactRel    *fact_rel = rel->fdw_private;
	const StoreSize *size = &fact_rel->size;
	double		ads = count_ads(root, rel, fact_rel->pushed[PUSHED_ADS]);

	return ads > 0 ? ads * Min(size->hours * (MINS_PER_HOUR - 1), size->hour_facts) * PROBE_COST :
		size->hour_facts * (MINS_PER_HOUR - 1) * FACT_COST;
}

/* Of what the window has, the part expected if its bounds are not known. */
static void
shrink_size(StoreSize *size)
{
	size->runs *= UNKNOWN_WINDOW;
	size->facts *= UNKNOWN_WINDOW;
	size->deltas *= UNKNOWN_WINDOW;
	size->delta_facts *= UNKNOWN_WINDOW;
	size->minutes *= UNKNOWN_WINDOW;
	size->hours *= UNKNOWN_WINDOW;
	size->hour_facts *= UNKNOWN_WINDOW;
}

static void
fact_get_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid table)
{
	FactRel    *fact_rel = palloc0(sizeof(FactRel));
	RowRange	range;
	bool		known;
	Caller		caller;
	Cost		cost;

	fact_rel->with_days = check_table(table);
	fact_rel->table = table;
	fact_rel->all_pushed = sort_clauses(rel->baserestrictinfo, rel, fact_rel->pushed) == NIL;
	fact_rel->limited = scope_is_limited(GetUserId());
	known = plan_window(root, rel, fact_rel->pushed[PUSHED_WINDOW], &range);
	if (fact_rel->limited)
		fact_rel->size = any_size;
	else if (!row_range_is_empty(&range))
	{
		privileges_become_owner(&caller);
		store_get_size(range.from, range.to - 1, fact_rel->with_days, &fact_rel->size);
		privileges_become_caller(&caller);
	}
	if (!known)
		shrink_size(&fact_rel->size);
	rel->fdw_private = fact_rel;
	rel->tuples = Max(fact_rel->size.facts, 1);
	rel->rows = estimate_scan(root, rel, rel->baserestrictinfo, &cost);
}


/*
 * Paths
 */

static bool
is_on_key_column(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *class,
				 EquivalenceMember *member, void *arg)
{
	RowKey		key;

	return row_key_column((Node *) member->em_expr, rel->relid, &key);
}

static void
add_scan_path(PlannerInfo *root, RelOptInfo *rel, double rows, Cost cost, Relids outer)
{
	add_path(rel, (Path *) compat_foreignscan_path(root, rel, rows, STARTUP_COST,
												   cost + rows * cpu_tuple_cost, NIL, outer,
												   list_make1_int(ANY_ORDER)));
}

/*
 * A path that gives the minutes in order, one after the other, if the query asks
 * for that: so that LIMIT ends it soon.
 */
static void
add_ordered_path(PlannerInfo *root, RelOptInfo *rel, Cost cost, MinuteOrder order)
{
	FactRel    *fact_rel = rel->fdw_private;
	TypeCacheEntry *type = lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	Var		   *minute = makeVar(rel->relid, ROW_MINUTE, TIMESTAMPTZOID, -1, InvalidOid, 0);
	List	   *pathkeys = compat_expression_pathkey(root, (Expr *) minute,
													 order == OLDEST_FIRST ? type->lt_opr : type->gt_opr,
													 rel);
	Cost		each = cost_of_minute(root, rel);

	if (pathkeys == NIL || root->query_pathkeys == NIL ||
		linitial(pathkeys) != linitial(root->query_pathkeys))
		return;
	add_path(rel, (Path *) compat_foreignscan_path(root, rel, rel->rows, STARTUP_COST + each,
												   cost + fact_rel->size.minutes * each + cost_of_hours(root, rel) +
												   rel->rows * cpu_tuple_cost,
												   pathkeys, NULL, list_make1_int(order)));
}

/* A path for each set of relations that join clauses get an ad or minute from. */
static void
add_join_paths(PlannerInfo *root, RelOptInfo *rel)
{
	List	   *infos = NIL;
	List	   *done = NIL;
	ListCell   *cell;

	if (rel->has_eclass_joins)
		infos = generate_implied_equalities_for_column(root, rel, is_on_key_column, NULL,
													   rel->lateral_referencers);
	foreach(cell, rel->joininfo)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);
		PushedList	list;

		if (!join_clause_is_movable_to(info, rel))
			continue;
		list = pushed_list_of(info, rel);
		if (list == PUSHED_ADS || list == PUSHED_WINDOW)
			infos = lappend(infos, info);
	}

	foreach(cell, infos)
	{
		RestrictInfo *info = lfirst_node(RestrictInfo, cell);
		Relids		outer = bms_union(info->clause_relids, rel->lateral_relids);
		ParamPathInfo *param;
		Cost		cost;
		ListCell   *other;
		bool		seen = false;

		outer = bms_del_member(outer, rel->relid);
		foreach(other, done)
			seen |= bms_equal(lfirst(other), outer);
		if (seen || bms_is_empty(outer))
			continue;
		done = lappend(done, outer);
		param = get_baserel_parampathinfo(root, rel, outer);
		param->ppi_rows = estimate_scan(root, rel, list_concat_copy(rel->baserestrictinfo,
																	 param->ppi_clauses), &cost);
		add_scan_path(root, rel, param->ppi_rows, cost, outer);
	}
}

static void
fact_get_paths(PlannerInfo *root, RelOptInfo *rel, Oid table)
{
	Cost		cost;

	(void) estimate_scan(root, rel, rel->baserestrictinfo, &cost);
	add_scan_path(root, rel, rel->rows, cost, rel->lateral_relids);
	if (bms_is_empty(rel->lateral_relids) && !((FactRel *) rel->fdw_private)->with_days)
	{
		add_ordered_path(root, rel, cost, OLDEST_FIRST);
		add_ordered_path(root, rel, cost, NEWEST_FIRST);
	}
	add_join_paths(root, rel);
}


/*
 * Sums by groups
 */

static bool
is_sum_of_clicks(Aggref *aggref, Index relid)
{
	Var		   *var;

	if (aggref->aggfnoid != F_SUM_INT8 || aggref->aggdistinct != NIL || aggref->aggorder != NIL ||
		aggref->aggfilter != NULL || aggref->aggsplit != AGGSPLIT_SIMPLE || aggref->agglevelsup != 0)
		return false;
	var = (Var *) linitial_node(TargetEntry, aggref->args)->expr;
	return IsA(var, Var) && (Index) var->varno == relid && var->varattno == ROW_CLICKS;
}

static bool
has_exec_param(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) && ((Param *) node)->paramkind == PARAM_EXEC)
		return true;
	return expression_tree_walker(node, has_exec_param, context);
}

/* Whether the scan can group by it: it is about one part of the key, and can be hashed. */
static bool
can_group_by(Expr *expr, SortGroupClause *group, Index relid)
{
	TypeCacheEntry *type = lookup_type_cache(exprType((Node *) expr),
											 TYPECACHE_HASH_PROC | TYPECACHE_EQ_OPR);
	RowPart		part = row_part_of((Node *) expr, relid);

	return part != PART_OTHER && (part != PART_AD || IsA(expr, Var)) &&
		OidIsValid(type->hash_proc) && type->eq_opr == group->eqop &&
		!contain_volatile_functions((Node *) expr) && !contain_subplans((Node *) expr) &&
		!has_exec_param((Node *) expr, NULL);
}

typedef struct ComputableContext
{
	List	   *tlist;
	Index		relid;
} ComputableContext;

/* Finds what cannot be computed from the groups and the sum. */
static bool
not_computable(Node *node, ComputableContext *context)
{
	ListCell   *cell;

	if (node == NULL)
		return false;
	foreach(cell, context->tlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!entry->resjunk && equal(entry->expr, node))
			return false;
	}
	if (IsA(node, Aggref) || IsA(node, Var) || IsA(node, PlaceHolderVar))
		return true;
	return expression_tree_walker(node, not_computable, context);
}

/* The columns of the table, as long as none is grouped by. */
static List *
junk_columns(Index relid, Oid table)
{
	List	   *tlist = NIL;

	for (AttrNumber column = 1; column <= ROW_COLUMNS; column++)
	{
		Oid			type,
					collation;
		int32		typmod;

		Var		   *var;

		get_atttypetypmodcoll(table, column, &type, &typmod, &collation);
		var = makeVar(relid, column, type, typmod, collation, 0);
		tlist = lappend(tlist, makeTargetEntry((Expr *) var, column,
											   get_attname(table, column, false), true));
	}
	return tlist;
}

static List *
add_group(List *tlist, Expr *expr)
{
	if (IsA(expr, Var))
	{
		list_nth_node(TargetEntry, tlist, ((Var *) expr)->varattno - 1)->resjunk = false;
		return tlist;
	}
	return lappend(tlist, makeTargetEntry(expr, list_length(tlist) + 1, NULL, false));
}

/*
 * What the scan gives for the query: see fdw.h.  NIL if it cannot give all that
 * is asked for.
 */
static List *
plan_sums(PlannerInfo *root, Index relid, Oid table, PathTarget *target, List *having)
{
	List	   *tlist = junk_columns(relid, table);
	List	   *needed = list_concat_copy(target->exprs, having);
	ComputableContext context = {.relid = relid};
	ListCell   *cell;
	int			i = 0;

	foreach(cell, target->exprs)
	{
		Expr	   *expr = lfirst(cell);
		Index		ref = get_pathtarget_sortgroupref(target, i++);
		SortGroupClause *group = ref == 0 ? NULL :
			get_sortgroupref_clause_noerr(ref, root->parse->groupClause);

		if (group == NULL)
			continue;
		if (!can_group_by(expr, group, relid))
			return NIL;
		tlist = add_group(tlist, expr);
	}
	foreach(cell, pull_var_clause((Node *) needed, PVC_INCLUDE_AGGREGATES |
								  PVC_RECURSE_WINDOWFUNCS | PVC_INCLUDE_PLACEHOLDERS))
	{
		if (!IsA(lfirst(cell), Aggref))
			continue;
		if (!is_sum_of_clicks(lfirst(cell), relid))
			return NIL;
		if (!tlist_member(lfirst(cell), tlist))
			tlist = add_group(tlist, lfirst(cell));
	}
	context.tlist = tlist;
	return not_computable((Node *) needed, &context) ? NIL : tlist;
}

static bool
is_extreme_minute(Aggref *aggref, Index relid)
{
	Var		   *var;

	if ((aggref->aggfnoid != F_MIN_TIMESTAMPTZ && aggref->aggfnoid != F_MAX_TIMESTAMPTZ) ||
		aggref->aggfilter != NULL || aggref->agglevelsup != 0)
		return false;
	var = (Var *) linitial_node(TargetEntry, aggref->args)->expr;
	return IsA(var, Var) && (Index) var->varno == relid && var->varattno == ROW_MINUTE;
}

/* Whether nothing is asked for but the first minute, the last, or both. */
static bool
asks_for_extremes(PlannerInfo *root, Index relid, PathTarget *target, List *having)
{
	List	   *parts = pull_var_clause((Node *) list_concat_copy(target->exprs, having),
										PVC_INCLUDE_AGGREGATES | PVC_RECURSE_WINDOWFUNCS |
										PVC_INCLUDE_PLACEHOLDERS);
	ListCell   *cell;

	foreach(cell, parts)
		if (!IsA(lfirst(cell), Aggref) || !is_extreme_minute(lfirst(cell), relid))
			return false;
	return parts != NIL && root->parse->groupClause == NIL;
}

/*
 * The extremes of the minutes there are, each of which the scan gives once: rows
 * that cost nothing beside the facts, if those have to be read.
 */
static void
add_extremes_path(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, Cost cost, List *having)
{
	FactRel    *fact_rel = input->fdw_private;
	List	   *tlist = junk_columns(input->relid, fact_rel->table);
	TargetEntry *minute = list_nth_node(TargetEntry, tlist, ROW_MINUTE - 1);
	PathTarget *target = create_empty_pathtarget();
	double		rows = clamp_row_est(Min(fact_rel->size.minutes, input->rows));
	bool		minutes_only = fact_rel->pushed[PUSHED_ADS] == NIL && fact_rel->pushed[PUSHED_FILTER] == NIL;
	AggClauseCosts costs = {0};
	Path	   *path;

	minute->resjunk = false;
	add_column_to_pathtarget(target, minute->expr, 0);
	if (minutes_only)
		cost = STARTUP_COST + rows * cpu_tuple_cost;
	path = (Path *) compat_foreign_upper_path(root, output, target, rows, STARTUP_COST, cost,
											  list_make2(tlist, NIL));
	get_agg_clause_costs(root, AGGSPLIT_SIMPLE, &costs);
	add_path(output, (Path *) create_agg_path(root, output, path, output->reltarget, AGG_PLAIN,
											  AGGSPLIT_SIMPLE, NIL, having, &costs, 1));
}

static void
fact_get_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
					 RelOptInfo *output, void *extra)
{
	FactRel    *fact_rel = input->fdw_private;
	List	   *having;
	List	   *tlist;
	List	   *groups;
	double		rows = 1;
	Cost		cost;

	if (stage != UPPERREL_GROUP_AGG || input->reloptkind != RELOPT_BASEREL || fact_rel == NULL ||
		!fact_rel->all_pushed || root->parse->groupingSets != NIL || output->fdw_private != NULL)
		return;
	having = (List *) ((GroupPathExtraData *) extra)->havingQual;
	(void) estimate_scan(root, input, input->baserestrictinfo, &cost);
	if (!fact_rel->with_days && asks_for_extremes(root, input->relid, output->reltarget, having))
	{
		output->fdw_private = fact_rel;
		add_extremes_path(root, input, output, cost, having);
		return;
	}
	tlist = plan_sums(root, input->relid, fact_rel->table, output->reltarget, having);
	if (tlist == NIL)
		return;
	output->fdw_private = fact_rel;

	groups = get_sortgrouplist_exprs(root->parse->groupClause, root->processed_tlist);
	if (groups != NIL)
		rows = estimate_num_groups(root, groups, input->rows, NULL, NULL);
	add_path(output, (Path *) compat_foreign_upper_path(root, output, output->reltarget, rows,
														STARTUP_COST, cost + rows * cpu_tuple_cost,
														list_make2(tlist, having)));
}


/*
 * The plan
 */

/*
 * The planner puts references to columns of fdw_scan_tlist wherever a part of a
 * clause is equal to one of them.  Clauses are evaluated on columns of the table
 * alone: a relabelling that does nothing keeps what is around them different
 * from what is grouped by.
 */
static Node *
relabel_columns(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = copyObject((Var *) node);

		return (Node *) makeRelabelType((Expr *) var, var->vartype, var->vartypmod, var->varcollid,
										COERCE_IMPLICIT_CAST);
	}
	return expression_tree_mutator(node, relabel_columns, context);
}

static ForeignScan *
fact_get_plan(PlannerInfo *root, RelOptInfo *rel, Oid table, ForeignPath *path, List *target,
			  List *infos, Plan *outer)
{
	FactRel    *fact_rel = rel->fdw_private;
	bool		is_sum = rel->reloptkind == RELOPT_UPPER_REL;
	List	   *pushed[PUSHED_LISTS] = {NIL};
	List	   *others;
	List	   *exprs = NIL;
	List	   *recheck = NIL;
	List	   *tlist = NIL;
	List	   *order = is_sum ? list_make1_int(ANY_ORDER) : path->fdw_private;

	if (is_sum)
	{
		memcpy(pushed, fact_rel->pushed, sizeof(pushed));
		tlist = linitial(path->fdw_private);
		others = lsecond(path->fdw_private);
	}
	else
		others = extract_actual_clauses(sort_clauses(infos, rel, pushed), false);
	for (int i = 0; i < PUSHED_LISTS; i++)
	{
		List	   *clauses = extract_actual_clauses(pushed[i], false);

		if (!is_sum)
			recheck = list_concat(recheck, clauses);
		else if (i != PUSHED_ADS)
			clauses = (List *) relabel_columns((Node *) clauses, NULL);
		exprs = lappend(exprs, clauses);
	}
	root->glob->dependsOnRole = true;	/* another one plans it anew */
	return make_foreignscan(target, others, is_sum ? 0 : rel->relid, exprs,
							list_make3(list_make1_oid(fact_rel->table), order, list_make1_int(fact_rel->limited)),
							tlist, recheck, outer);
}


/*
 * EXPLAIN
 */

/* Undo relabel_columns. */
static Node *
unlabel_columns(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, RelabelType) && IsA(((RelabelType *) node)->arg, Var) &&
		((RelabelType *) node)->resulttype == exprType((Node *) ((RelabelType *) node)->arg))
		return (Node *) ((RelabelType *) node)->arg;
	return expression_tree_mutator(node, unlabel_columns, context);
}

static void
explain_list(ForeignScanState *node, ExplainState *es, const char *label, List *exprs,
			 const char *joint)
{
	List	   *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, NIL);
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, exprs)
		appendStringInfo(&text, "%s%s", text.len > 0 ? joint : "",
						 deparse_expression(unlabel_columns(lfirst(cell), NULL), context, es->verbose, false));
	ExplainPropertyText(label, text.data, es);
}

/* The expressions a scan of sums groups by. */
static List *
grouped_by(ForeignScan *plan)
{
	List	   *exprs = NIL;
	ListCell   *cell;

	foreach(cell, plan->fdw_scan_tlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!entry->resjunk && !IsA(entry->expr, Aggref))
			exprs = lappend(exprs, entry->expr);
	}
	return exprs;
}

static void
fact_explain(ForeignScanState *node, ExplainState *es)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	const FactScanCounts *counts = fact_scan_counts(node);
	List	   *ads = list_nth(plan->fdw_exprs, PUSHED_ADS);
	List	   *window = list_concat_copy(list_nth(plan->fdw_exprs, PUSHED_WINDOW),
										  list_nth(plan->fdw_exprs, PUSHED_MINUTE));
	List	   *filters = list_nth(plan->fdw_exprs, PUSHED_FILTER);
	MinuteOrder order = linitial_int(list_nth(plan->fdw_private, PRIVATE_ORDER));

	if (plan->fdw_scan_tlist != NIL)
	{
		List	   *groups = grouped_by(plan);
		Oid			table = linitial_oid(list_nth(plan->fdw_private, PRIVATE_TABLE));

		ExplainPropertyText("Relations", psprintf("Aggregate on (%s)",
												  quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
																			 get_rel_name(table))), es);
		if (groups == NIL)
			ExplainPropertyText("Grouped By", "()", es);
		else
			explain_list(node, es, "Grouped By", groups, ", ");
	}
	if (ads != NIL)
		explain_list(node, es, "Ads", ads, " AND ");
	if (window != NIL)
		explain_list(node, es, "Window", window, " AND ");
	if (filters != NIL)
		explain_list(node, es, "Filters", filters, " AND ");
	if (order != ANY_ORDER)
		ExplainPropertyText("Minutes", order == OLDEST_FIRST ? "oldest first" : "newest first", es);
	if (es->analyze && counts)
	{
		ExplainPropertyInteger("Runs Read", NULL, counts->runs, es);
		if (plan->fdw_scan_tlist != NIL)
			ExplainPropertyInteger("Runs From Directory", NULL, counts->totals, es);
		ExplainPropertyInteger("Segments Read", NULL, counts->segments, es);
		ExplainPropertyInteger("Facts Read", NULL, counts->facts, es);
		ExplainPropertyInteger("Tail Facts", NULL, counts->tail, es);
	}
}

Datum
adclick_fact_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = fact_get_rel_size;
	routine->GetForeignPaths = fact_get_paths;
	routine->GetForeignUpperPaths = fact_get_upper_paths;
	routine->GetForeignPlan = fact_get_plan;
	routine->ExplainForeignScan = fact_explain;
	routine->BeginForeignScan = fact_scan_begin;
	routine->IterateForeignScan = fact_scan_next;
	routine->ReScanForeignScan = fact_scan_again;
	routine->EndForeignScan = fact_scan_end;
	PG_RETURN_POINTER(routine);
}

/* adclick_internal.fact_validator(options text[], catalog oid): there are no options. */
Datum
adclick_fact_validator(PG_FUNCTION_ARGS)
{
	ArrayType  *options = PG_GETARG_ARRAYTYPE_P(0);

	if (ArrayGetNItems(ARR_NDIM(options), ARR_DIMS(options)) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("the facts of adclick have no options")));
	PG_RETURN_VOID();
}
