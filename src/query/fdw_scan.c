/*-------------------------------------------------------------------------
 *
 * fdw_scan.c
 *	  Scans of the foreign table of facts.
 *
 * See fdw.h and fdw_scan.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "fdw_scan.h"
#include "read/conditions.h"
#include "read/scope.h"
#include "read/tail.h"

/* Ads that are looked for one by one, whether they are in the scope, rather than to read all that are. */
#define FEW_ADS 64

typedef struct MinuteGroup
{
	int64		minute;
	int32		group;
	char		status;
} MinuteGroup;

#define SH_PREFIX minute_group
#define SH_ELEMENT_TYPE MinuteGroup
#define SH_KEY_TYPE int64
#define SH_KEY minute
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"


/*
 * Beginning
 */

/* What the scan gives, in a scan of rows: the columns of the table. */
static List *
columns_of(TupleDesc desc)
{
	List	   *tlist = NIL;

	for (int i = 0; i < ROW_COLUMNS; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		Var		   *var = makeVar(1, i + 1, column->atttypid, column->atttypmod, column->attcollation, 0);

		tlist = lappend(tlist, makeTargetEntry((Expr *) var, i + 1, NULL, false));
	}
	return tlist;
}

static void
begin_keys(FactScan *scan, List *clauses)
{
	ListCell   *cell;

	foreach(cell, clauses)
	{
		KeyState   *state = &scan->keys[scan->nkeys++];

		if (!row_key_of(lfirst(cell), 0, &state->key))
			elog(ERROR, "a clause planned as a key is none");
		state->value = ExecInitExpr(state->key.value, &scan->node->ss.ps);
	}
}

static bool
day_tells_all(List *exprs)
{
	ListCell   *cell;

	foreach(cell, exprs)
	{
		Node	   *node = lfirst(cell);

		if (!row_day_tells(IsA(node, TargetEntry) ? (Node *) ((TargetEntry *) node)->expr : node))
			return false;
	}
	return true;
}

/* Sort what is grouped by into the parts of the key. */
static void
begin_groups(FactScan *scan, List *tlist, List *exprs)
{
	Index		relid = ((Var *) linitial_node(TargetEntry, tlist)->expr)->varno;
	List	   *quals[] = {
		[PART_MINUTE] = list_nth(exprs, PUSHED_MINUTE), [PART_FILTER] = list_nth(exprs, PUSHED_FILTER)
	};
	List	   *groups[] = {[PART_MINUTE] = NIL, [PART_FILTER] = NIL};
	Part	  **parts[] = {[PART_MINUTE] = &scan->minute, [PART_FILTER] = &scan->filter};
	ListCell   *cell;

	scan->is_total = true;
	foreach(cell, tlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		RowPart		part;

		if (entry->resjunk)
			continue;
		if (IsA(entry->expr, Aggref))
		{
			scan->sum_column = entry->resno;
			continue;
		}
		scan->is_total = false;
		part = row_part_of((Node *) entry->expr, relid);
		if (part == PART_AD)
			scan->by_ad = true;
		else if (part == PART_OTHER)
			scan->clicks_column = entry->resno;
		else
			groups[part] = lappend(groups[part], entry);
		if (entry->resno == ROW_MINUTE)
			scan->by_minute = true;
	}
	scan->by_day = day_tells_all(quals[PART_MINUTE]) && day_tells_all(groups[PART_MINUTE]);
	for (RowPart part = PART_MINUTE; part <= PART_FILTER; part++)
		if (quals[part] != NIL || groups[part] != NIL)
			*parts[part] = part_begin(&scan->node->ss.ps, scan->row, quals[part], groups[part]);
}

/*
 * Whose clicks the scan gives is up to the role that runs it, now.  A plan has no part in that, but
 * what it does beside the scan, and its estimates, must have been made for such a role.
 */
static void
begin_scope(FactScan *scan, bool planned_limited)
{
	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	scope_of(GetUserId(), &scan->scope);
	PopActiveSnapshot();
	scan->limited = scan->scope.given;
	if (scan->limited == planned_limited)
		return;
	ResetPlanCache();
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the rights of role \"%s\" have changed since the statement was planned", GetUserNameFromId(GetUserId(), false)),
			 errhint("Run it again.")));
}

void
fact_scan_begin(ForeignScanState *node, int eflags)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	FactScan   *scan = palloc0(sizeof(FactScan));
	List	   *ads = list_nth(plan->fdw_exprs, PUSHED_ADS);
	List	   *window = list_nth(plan->fdw_exprs, PUSHED_WINDOW);
	Relation	table;

	node->fdw_state = scan;
	scan->node = node;
	scan->context = CurrentMemoryContext;
	scan->order = linitial_int(list_nth(plan->fdw_private, PRIVATE_ORDER));
	table = table_open(linitial_oid(list_nth(plan->fdw_private, PRIVATE_TABLE)), NoLock);
	scan->with_days = definitions_check_facts(table);
	scan->row = ExecInitExtraTupleSlot(node->ss.ps.state, CreateTupleDescCopy(RelationGetDescr(table)),
									   &TTSOpsVirtual);
	table_close(table, NoLock);
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		begin_scope(scan, linitial_int(list_nth(plan->fdw_private, PRIVATE_LIMITED)));
	scan->econtext = CreateExprContext(node->ss.ps.state);
	scan->keys = palloc(sizeof(KeyState) * (list_length(ads) + list_length(window) + 1));
	begin_keys(scan, ads);
	begin_keys(scan, window);
	begin_groups(scan, plan->fdw_scan_tlist ? plan->fdw_scan_tlist :
				 columns_of(scan->row->tts_tupleDescriptor), plan->fdw_exprs);
	scan->scan_context = AllocSetContextCreate(CurrentMemoryContext, "adclick fact scan",
											   ALLOCSET_DEFAULT_SIZES);
}

static void
load_own_ads(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->context);

	if (!scan->own.given)
		scan->own.ids = store_get_ads(scan->scope.ids, scan->scope.n, &scan->own.n);
	scan->own.given = true;
	MemoryContextSwitchTo(outer);
}

/* Of ads that are named, those that the asker may know of. */
static void
keep_own_of_few(FactScan *scan)
{
	RowRange   *range = &scan->range;
	int			nkept = 0;

	for (int i = 0; i < range->nads; i++)
		if (scope_has_ad(&scan->scope, range->ads[i]))
			range->ads[nkept++] = range->ads[i];
	range->nads = nkept;
}

/* Of the range, the ads that the asker may know of. */
static void
keep_own_ads(FactScan *scan)
{
	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	if (!scan->own.given && scan->range.is_list && scan->range.nads <= FEW_ADS)
		keep_own_of_few(scan);
	else
	{
		load_own_ads(scan);
		row_range_keep(&scan->range, scan->own.ids, scan->own.n);
	}
	PopActiveSnapshot();
}

/* The range that the keys choose, with the values they have now. */
static void
evaluate_keys(FactScan *scan)
{
	row_range_all(&scan->range);
	ResetExprContext(scan->econtext);
	for (int i = 0; i < scan->nkeys && !row_range_is_empty(&scan->range); i++)
	{
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext(scan->keys[i].value, scan->econtext, &isnull);

		row_range_narrow(&scan->range, &scan->keys[i].key, value, isnull);
	}
	if (row_range_is_empty(&scan->range))
		return;
	if (!scan->range.is_list && scan->range.low == scan->range.high)
	{
		scan->range.is_list = true;
		scan->range.nads = 1;
		scan->range.ads = palloc(sizeof(int64));
		scan->range.ads[0] = scan->range.low;
	}
	if (scan->limited)
		keep_own_ads(scan);
	if (!scan->range.is_list || scan->range.nads == 0)
		return;
	scan->range.low = scan->range.ads[0];
	scan->range.high = scan->range.ads[scan->range.nads - 1];
}

static void
note_filter(int32 filter_id, const Dimensions *dimensions, void *arg)
{
	FactScan   *scan = arg;
	bool		found;
	FilterValues *values = filter_values_insert(scan->filters, filter_id, &found);

	if (found)
		return;
	values->group = NOT_JUDGED;
	for (int i = 0; i < DIMENSIONS; i++)
		values->values[i] = PointerGetDatum(cstring_to_text_with_len(dimensions->value[i],
																	 dimensions->length[i]));
}

/* All filters there are, and those of the tail that have no id yet. */
static void
load_filters(FactScan *scan)
{
	if (scan->filters == NULL)
	{
		filters_refresh();
		scan->filters = filter_values_create(CurrentMemoryContext, 1024, NULL);
		filters_each(note_filter, scan);
	}
	for (size_t i = 0; i < scan->tail->n; i++)
	{
		int32		id = (int32) scan->tail->key[FACT_FILTER][i];

		CHECK_FOR_INTERRUPTS();
		if (filter_is_provisional(id))
			note_filter(id, filters_dimensions(id), scan);
	}
}

/* A range may have other values in the clauses on filters than the one before. */
static void
forget_filter_groups(FactScan *scan)
{
	filter_values_iterator iterator;
	FilterValues *values;

	filter_values_start_iterate(scan->filters, &iterator);
	while ((values = filter_values_iterate(scan->filters, &iterator)) != NULL)
		values->group = NOT_JUDGED;
}

/*
 * The first time, only what the range has; a scan that comes again has another
 * range each time, and should not read the tail so often.
 */
static void
load_tail(FactScan *scan)
{
	static const FactRole roles[FACT_COLUMNS] = {ROLE_AD, ROLE_MINUTE, ROLE_FILTER};
	Conditions	conditions = {0};

	if (scan->tail_is_whole)
		return;
	conditions_window(&conditions, DT_NOBEGIN, DT_NOEND);
	if (scan->tail == NULL)
	{
		conditions.from = scan->range.from;
		conditions.to = scan->range.to;
		conditions.ads = (IdList) {.given = scan->range.is_list, .n = scan->range.nads, .ids = scan->range.ads};
	}
	else
	{
		if (scan->limited)
			load_own_ads(scan);
		conditions.ads = scan->own;
		scan->tail_is_whole = true;
	}
	scan->tail = tail_facts(&scan->state, &conditions, roles, FACT_COLUMNS);
	scan->counts.tail += scan->tail->n;
	if (scan->filter)
		load_filters(scan);
}

/* A minute that is left out would go unnoticed.  Of an hour, it need not have the first and the last. */
static void
check_minutes(const FactScan *scan)
{
	for (int i = 0; i < scan->nruns; i++)
	{
		const StoreRun *run = &scan->runs[i];
		int64		ends[] = {run->first_minute, run->last_minute};

		if (!run->is_delta && store_grain(run) == GRAIN_HOUR)
			continue;
		for (int j = 0; j < lengthof(ends); j++)
			if (ends[j] >= scan->range.from && ends[j] < scan->range.to &&
				bsearch(&ends[j], scan->minutes, scan->nminutes, sizeof(int64), compare_int64) == NULL)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("run " INT64_FORMAT " of \"runs\" is damaged", run->run_id),
						 errdetail("Its row in adclick_internal.runs misses minutes.")));
	}
}

/* The minutes of the range that have facts, in runs or in the tail, ascending. */
static void
list_minutes(FactScan *scan)
{
	const Facts *tail = scan->tail;

	scan->minutes = store_get_fact_minutes(scan->range.from, scan->range.to - 1, &scan->nminutes);
	check_minutes(scan);
	scan->minutes = repalloc_huge(scan->minutes, sizeof(int64) * (scan->nminutes + tail->n + 1));
	for (size_t i = 0; i < tail->n; i++)
	{
		int64		minute = facts_to_int64(tail->key[FACT_MINUTE][i]);

		CHECK_FOR_INTERRUPTS();
		if (minute >= scan->range.from && minute < scan->range.to)
			scan->minutes[scan->nminutes++] = minute;
	}
	qsort(scan->minutes, scan->nminutes, sizeof(int64), compare_int64);
	scan->nminutes = qunique(scan->minutes, scan->nminutes, sizeof(int64), compare_int64);
}

/* Runs of days whose minutes were dropped, as far as the range has the whole of them. */
static void
add_days(FactScan *scan)
{
	int64		first = day_of(scan->range.from + MINS_PER_DAY - 1);
	int			ndays;
	StoreRun   *days;

	scan->days_end = Min(day_of(scan->range.to), scan->state.minutes_dropped_until + 1);
	if (first >= scan->days_end)
		return;
	days = store_get_runs(ORDER_DAY, first, scan->days_end - 1, &ndays);
	scan->runs = repalloc_huge(scan->runs, sizeof(StoreRun) * (scan->nruns + ndays + 1));
	memcpy(scan->runs + scan->nruns, days, sizeof(StoreRun) * ndays);
	scan->nruns += ndays;
}

/* The runs of the range; and if the minutes have to be known before, these. */
static void
get_runs(FactScan *scan)
{
	bool		list = scan->minutes_only || scan->order != ANY_ORDER;
	int64		from = scan->range.from;
	int64		last = scan->range.to - 1;

	if (scan->by_day && !list)
	{
		/* a day that the range cuts is not to be had from order day */
		scan->days_end = day_of(scan->range.to);
		scan->runs = store_get_fewest_runs(from, last, &scan->nruns);
		return;
	}
	scan->runs = store_get_runs(ORDER_AD, from, last, &scan->nruns);
	if (scan->with_days)
		add_days(scan);
	if (list)
		list_minutes(scan);
}

/* The first time, the state; and leave out what is not there by minute, unless days will do. */
static void
begin_state(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->context);
	Caller		caller;

	if (!scan->prepared)
	{
		PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
		privileges_become_owner(&caller);
		store_get_state(&scan->state);
		privileges_become_caller(&caller);
		PopActiveSnapshot();
	}
	scan->prepared = true;
	MemoryContextSwitchTo(outer);
	if (!scan->with_days && scan->state.minutes_dropped_until >= scan->range.from)
		scan->range.from = scan->state.minutes_dropped_until + 1;
}

/* Everything that is read in the query's snapshot and as the owner. */
static void
load(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->context);
	Caller		caller;

	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	privileges_become_owner(&caller);
	load_tail(scan);
	MemoryContextSwitchTo(scan->scan_context);
	scan->minutes_only = !scan->with_days && !scan->by_ad && scan->filter == NULL && scan->clicks_column == 0 &&
		scan->sum_column == 0 && row_range_has_all_ads(&scan->range);
	get_runs(scan);
	privileges_become_caller(&caller);
	PopActiveSnapshot();
	MemoryContextSwitchTo(outer);
}

static void
begin_range(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->scan_context);

	scan->begun = true;
	scan->finished = false;
	scan->position = 0;
	memset(&scan->batch, 0, sizeof(Facts));
	scan->minute_groups = minute_group_create(scan->scan_context, 64, NULL);
	scan->last_group = NOT_JUDGED;
	evaluate_keys(scan);
	if (!row_range_is_empty(&scan->range))
		begin_state(scan);
	if (row_range_is_empty(&scan->range))
		scan->finished = true;
	else
	{
		load(scan);
		fact_read_begin(scan);
	}
	if (scan->filters)
		forget_filter_groups(scan);
	MemoryContextSwitchTo(outer);
}


/*
 * Groups of minutes and filters
 */

static void
clear_row(FactScan *scan)
{
	ExecClearTuple(scan->row);
	memset(scan->row->tts_isnull, true, sizeof(bool) * ROW_COLUMNS);
}

int32
fact_scan_judge_minute(FactScan *scan, int64 minute)
{
	bool		found;
	MinuteGroup *entry = minute_group_insert(scan->minute_groups, minute, &found);

	if (!found)
	{
		clear_row(scan);
		scan->row->tts_values[ROW_MINUTE - 1] = TimestampTzGetDatum(minute * USECS_PER_MINUTE);
		scan->row->tts_isnull[ROW_MINUTE - 1] = false;
		ExecStoreVirtualTuple(scan->row);
		entry->group = part_judge(scan->minute);
	}
	scan->last_minute = minute;
	scan->last_group = entry->group;
	return entry->group;
}

int32
fact_scan_judge_filter(FactScan *scan, FilterValues *values, uint64 filter)
{
	if (values == NULL)
		filters_refuse_missing(filter);
	clear_row(scan);
	scan->row->tts_values[ROW_FILTER - 1] = Int32GetDatum(values->filter_id);
	scan->row->tts_isnull[ROW_FILTER - 1] = filter_is_provisional(values->filter_id);
	for (int i = 0; i < DIMENSIONS; i++)
	{
		scan->row->tts_values[ROW_COUNTRY - 1 + i] = values->values[i];
		scan->row->tts_isnull[ROW_COUNTRY - 1 + i] = false;
	}
	ExecStoreVirtualTuple(scan->row);
	values->group = part_judge(scan->filter);
	return values->group;
}



/*
 * Giving rows
 */

static void
put_row(FactScan *scan, size_t i, TupleTableSlot *slot)
{
	const Facts *batch = &scan->batch;
	int64		count = (int64) batch->count[i];

	if (scan->by_ad)
	{
		slot->tts_values[ROW_AD - 1] = Int64GetDatum(facts_to_int64(batch->key[FACT_AD][i]));
		slot->tts_isnull[ROW_AD - 1] = false;
	}
	if (scan->minute)
		part_put(scan->minute, (int32) batch->key[FACT_MINUTE][i], slot);
	if (scan->filter)
		part_put(scan->filter, (int32) batch->key[FACT_FILTER][i], slot);
	if (scan->clicks_column > 0)
	{
		slot->tts_values[scan->clicks_column - 1] = Int64GetDatum(count);
		slot->tts_isnull[scan->clicks_column - 1] = false;
	}
	if (scan->sum_column > 0)
	{
		slot->tts_values[scan->sum_column - 1] = NumericGetDatum(int64_to_numeric(count));
		slot->tts_isnull[scan->sum_column - 1] = false;
	}
}

static bool
has_row(FactScan *scan)
{
	if (scan->position < scan->batch.n)
		return true;
	if (!scan->finished)
		scan->finished = !fact_read_next(scan);
	return !scan->finished;
}

TupleTableSlot *
fact_scan_next(ForeignScanState *node)
{
	FactScan   *scan = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	bool		is_first = !scan->begun;

	ExecClearTuple(slot);
	if (!scan->begun)
		begin_range(scan);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	if (has_row(scan))
		put_row(scan, scan->position++, slot);
	else if (!scan->is_total || !is_first)
		return slot;
	/* else the sum of nothing, which is NULL */
	return ExecStoreVirtualTuple(slot);
}

static void
end_range(FactScan *scan)
{
	fact_read_end(scan);
	scan->begun = false;
	if (scan->minute)
		part_again(scan->minute);
	if (scan->filter)
		part_again(scan->filter);
	MemoryContextReset(scan->scan_context);
}

void
fact_scan_again(ForeignScanState *node)
{
	end_range(node->fdw_state);
}

void
fact_scan_end(ForeignScanState *node)
{
	end_range(node->fdw_state);
}

const FactScanCounts *
fact_scan_counts(ForeignScanState *node)
{
	FactScan   *scan = node->fdw_state;

	return scan->limited ? NULL : &scan->counts;
}
