/*-------------------------------------------------------------------------
 *
 * fdw_scan.c
 *	  Scans of the foreign table of facts.
 *
 * See fdw.h.  Facts are read, reduced to what is grouped by (in a scan of rows:
 * to the whole key), and combined a batch at a time.  A batch can be handed out
 * once it has all facts of its groups:
 *
 * If ads are grouped by, runs are read in slices of the range of ads, side by
 * side, and each batch is some slices.  If minutes are, too, the window is gone
 * through in chunks, the newest minutes first, so that few runs are open and the
 * first rows come soon.  Otherwise, and if the ads are few, runs are read one
 * after the other, and there is one batch, or one for each chunk.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "adclick.h"
#include "conditions.h"
#include "fdw.h"
#include "fdw_part.h"
#include "filters.h"
#include "segment.h"
#include "slices.h"
#include "store.h"
#include "tail.h"

/* Minute runs read side by side, if the window can be cut: at first, and at most. */
#define FIRST_CHUNK 4
#define LARGEST_CHUNK 64

/* Facts a batch should have, if it can be handed out before the end: likewise. */
#define FIRST_BATCH 1024
#define LARGEST_BATCH (256 * 1024)

/* Facts there is room for in the first batch, if ads are looked for, and if not. */
#define SMALL_ROOM 1024
#define LARGE_ROOM (64 * 1024)

#define NOT_JUDGED (-2)

typedef struct KeyState
{
	RowKey		key;
	ExprState  *value;
} KeyState;

/* A combination of dimensions, as the columns of the table. */
typedef struct FilterValues
{
	bool		known;
	bool		has_id;			/* not if only the tail has it */
	Datum		values[DIMENSIONS];
	int32		group;
} FilterValues;

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

typedef struct FactScan
{
	ForeignScanState *node;
	MemoryContext context;		/* to the end of the query */
	Oid			table;
	int			nkeys;
	KeyState   *keys;
	ExprContext *econtext;		/* of the keys */
	TupleTableSlot *row;		/* of the table, for clauses about a part */
	Part	   *minute;			/* NULL: nothing is asked of it */
	Part	   *filter;
	bool		by_ad;
	bool		by_minute;
	bool		is_total;		/* one sum, not by groups */
	AttrNumber	clicks_column;	/* 0: not asked for */
	AttrNumber	sum_column;
	FactScanCounts counts;

	/* the same in all scans of the query, as its snapshot is */
	bool		prepared;
	StoreState	state;
	Facts	   *tail;
	bool		tail_is_whole;	/* or of the range of the first scan */
	int			nstored;		/* filters below are stored, others the tail's */
	int			nfilters;
	FilterValues *filters;		/* by id, provisional ones behind */

	/* one scan */
	MemoryContext scan_context;
	bool		begun;
	bool		finished;
	RowRange	range;
	bool		in_turn;		/* runs are read one after the other */
	bool		by_probes;		/* by looking for each ad */
	int			nruns;
	StoreRun   *runs;
	int			ndeltas;		/* they come first, then minutes, the newest first */
	int			next_run;		/* minutes from here on are still to be read */
	struct minute_group_hash *minute_groups;
	int64		last_minute;	/* the one looked for last, and its group */
	int32		last_group;

	/* a chunk of the window */
	int64		from;
	int64		to;
	int			minutes_ahead;	/* minute runs to take next time */
	int			nchunk;
	StoreRun   *chunk;
	Slices	   *slices;

	/* a batch of groups: ad, group of the minute, group of the filter */
	Facts		batch;
	void	   *scratch;
	size_t		enough;			/* facts it should have */
	size_t		position;		/* first not handed out */
	Facts		segment;		/* being read */
} FactScan;


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

		tlist = lappend(tlist, makeTargetEntry((Expr *) makeVar(1, i + 1, column->atttypid, column->atttypmod,
																 column->attcollation, 0),
											   i + 1, NULL, false));
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
	for (RowPart part = PART_MINUTE; part <= PART_FILTER; part++)
		if (quals[part] != NIL || groups[part] != NIL)
			*parts[part] = part_begin(&scan->node->ss.ps, scan->row, quals[part], groups[part]);
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
	scan->table = linitial_oid(plan->fdw_private);
	table = table_open(scan->table, NoLock);
	scan->row = ExecInitExtraTupleSlot(node->ss.ps.state, CreateTupleDescCopy(RelationGetDescr(table)),
									   &TTSOpsVirtual);
	table_close(table, NoLock);
	scan->econtext = CreateExprContext(node->ss.ps.state);
	scan->keys = palloc(sizeof(KeyState) * (list_length(ads) + list_length(window) + 1));
	begin_keys(scan, ads);
	begin_keys(scan, window);
	begin_groups(scan, plan->fdw_scan_tlist ? plan->fdw_scan_tlist :
				 columns_of(scan->row->tts_tupleDescriptor), plan->fdw_exprs);
	scan->scan_context = AllocSetContextCreate(CurrentMemoryContext, "adclick fact scan",
											   ALLOCSET_DEFAULT_SIZES);
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
	if (scan->range.is_list)
	{
		scan->range.low = scan->range.ads[0];
		scan->range.high = scan->range.ads[scan->range.nads - 1];
	}
	else if (scan->range.low == scan->range.high)
	{
		scan->range.is_list = true;
		scan->range.nads = 1;
		scan->range.ads = &scan->range.low;
	}
}

static void
note_filter(int32 index, const Dimensions *dimensions, void *arg)
{
	FactScan   *scan = arg;
	FilterValues *values;

	if (index >= scan->nfilters)
	{
		int			nfilters = Max(index + 1, 2 * scan->nfilters);

		scan->filters = scan->filters == NULL ? palloc(sizeof(FilterValues) * nfilters) :
			repalloc_huge(scan->filters, sizeof(FilterValues) * nfilters);
		memset(scan->filters + scan->nfilters, 0, sizeof(FilterValues) * (nfilters - scan->nfilters));
		scan->nfilters = nfilters;
	}
	values = &scan->filters[index];
	if (values->known)
		return;
	values->known = true;
	values->has_id = scan->nstored == 0;
	for (int i = 0; i < DIMENSIONS; i++)
		values->values[i] = PointerGetDatum(cstring_to_text_with_len(dimensions->value[i],
																	 dimensions->length[i]));
}

/* All filters there are; those of the tail that have no id yet get places behind. */
static void
load_filters(FactScan *scan)
{
	if (scan->nstored == 0)
	{
		filters_refresh();
		filters_each(note_filter, scan);
		scan->nstored = scan->nfilters + 1;
	}
	for (size_t i = 0; i < scan->tail->n; i++)
	{
		int32		id = (int32) scan->tail->key[FACT_FILTER][i];

		if (filter_is_provisional(id))
		{
			int32		index = scan->nstored + id - FIRST_PROVISIONAL_FILTER;

			note_filter(index, filters_dimensions(id), scan);
			scan->tail->key[FACT_FILTER][i] = index;
		}
	}
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
		conditions.ads = (IdList) {scan->range.is_list, scan->range.nads, scan->range.ads};
	}
	else
		scan->tail_is_whole = true;
	scan->tail = tail_facts(&scan->state, &conditions, roles, FACT_COLUMNS);
	if (scan->filter)
		load_filters(scan);
}

static int
deltas_then_newest(const void *a, const void *b)
{
	const StoreRun *x = a;
	const StoreRun *y = b;

	if (x->is_delta != y->is_delta)
		return x->is_delta ? -1 : 1;
	return (x->last_minute < y->last_minute) - (x->last_minute > y->last_minute);
}

/* Everything that is read in the query's snapshot and as the owner. */
static void
load(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->context);
	UserBefore	before;

	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	owner_begin(scan->table, &before);
	if (!scan->prepared)
		store_get_state(&scan->state);
	scan->prepared = true;
	load_tail(scan);
	MemoryContextSwitchTo(scan->scan_context);
	scan->runs = store_get_runs(ORDER_AD, scan->range.from, scan->range.to - 1, &scan->nruns);
	owner_end(&before);
	PopActiveSnapshot();
	MemoryContextSwitchTo(outer);
}

/* Choose how to read the runs. */
static void
plan_runs(FactScan *scan)
{
	int64		segments = 0;

	qsort(scan->runs, scan->nruns, sizeof(StoreRun), deltas_then_newest);
	for (scan->ndeltas = 0; scan->ndeltas < scan->nruns && scan->runs[scan->ndeltas].is_delta;)
		scan->ndeltas++;
	for (int i = 0; i < scan->nruns; i++)
		segments += scan->runs[i].segments;
	scan->by_probes = scan->range.is_list &&
		(scan->range.nads == 1 || (int64) scan->range.nads * scan->nruns <= segments);
	scan->in_turn = scan->by_probes || !scan->by_ad;
	scan->next_run = scan->ndeltas;
	scan->from = scan->range.to;
	scan->minutes_ahead = FIRST_CHUNK;
	scan->chunk = palloc(sizeof(StoreRun) * (scan->nruns + 1));
}

static void
grow_batch(FactScan *scan, size_t capacity)
{
	Facts		larger;

	facts_init(&larger, FACT_COLUMNS, capacity,
			   MemoryContextAllocHuge(scan->scan_context, facts_memory(FACT_COLUMNS, capacity)));
	if (scan->batch.capacity > 0)
	{
		for (int c = 0; c < FACT_COLUMNS; c++)
			memcpy(larger.key[c], scan->batch.key[c], sizeof(uint64_t) * scan->batch.n);
		memcpy(larger.count, scan->batch.count, sizeof(uint64_t) * scan->batch.n);
		larger.n = scan->batch.n;
		pfree(scan->batch.key[0]);
		pfree(scan->scratch);
	}
	scan->batch = larger;
	scan->scratch = MemoryContextAllocHuge(scan->scan_context, facts_scratch(FACT_COLUMNS, capacity));
}

static void
begin_range(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->scan_context);

	scan->begun = true;
	scan->finished = false;
	scan->enough = FIRST_BATCH;
	scan->position = 0;
	memset(&scan->batch, 0, sizeof(Facts));
	facts_init(&scan->segment, FACT_COLUMNS, SEGMENT_MAX_FACTS,
			   palloc(facts_memory(FACT_COLUMNS, SEGMENT_MAX_FACTS)));
	scan->minute_groups = minute_group_create(scan->scan_context, 64, NULL);
	scan->last_group = NOT_JUDGED;
	scan->nruns = 0;
	evaluate_keys(scan);
	if (row_range_is_empty(&scan->range))
		scan->from = scan->range.from;
	else
	{
		load(scan);
		plan_runs(scan);
		grow_batch(scan, scan->by_probes ? SMALL_ROOM : LARGE_ROOM);
	}
	for (int i = 0; i < scan->nfilters; i++)
		scan->filters[i].group = NOT_JUDGED;
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

static int32
judge_minute(FactScan *scan, int64 minute)
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

static inline int32
group_of_minute(FactScan *scan, int64 minute)
{
	if (scan->minute == NULL)
		return 0;
	if (scan->last_group != NOT_JUDGED && scan->last_minute == minute)
		return scan->last_group;
	return judge_minute(scan, minute);
}

static int32
judge_filter(FactScan *scan, uint64 filter)
{
	FilterValues *values;

	if (filter >= (uint64) scan->nfilters || !scan->filters[filter].known)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("filter " UINT64_FORMAT " is missing", filter),
				 errdetail("Stored counts name it, but adclick.filters has no such row.")));
	values = &scan->filters[filter];
	clear_row(scan);
	scan->row->tts_values[ROW_FILTER - 1] = Int32GetDatum((int32) filter);
	scan->row->tts_isnull[ROW_FILTER - 1] = !values->has_id;
	for (int i = 0; i < DIMENSIONS; i++)
	{
		scan->row->tts_values[ROW_COUNTRY - 1 + i] = values->values[i];
		scan->row->tts_isnull[ROW_COUNTRY - 1 + i] = false;
	}
	ExecStoreVirtualTuple(scan->row);
	values->group = part_judge(scan->filter);
	return values->group;
}

static inline int32
group_of_filter(FactScan *scan, uint64 filter)
{
	if (scan->filter == NULL)
		return 0;
	if (filter < (uint64) scan->nfilters && scan->filters[filter].group != NOT_JUDGED)
		return scan->filters[filter].group;
	return judge_filter(scan, filter);
}


/*
 * Reading
 */

static bool
has_one_minute(const StoreRun *run)
{
	return run->first_minute == run->last_minute;
}

/* Whether minutes of the run's facts have to be looked at; it is NULL for the tail. */
static bool
needs_minutes(const FactScan *scan, const StoreRun *run)
{
	return run == NULL ||
		(!has_one_minute(run) &&
		 (scan->minute || run->first_minute < scan->from || run->last_minute >= scan->to));
}

static unsigned
columns_needed(const FactScan *scan, const StoreRun *run)
{
	return 1 << FACT_AD | (needs_minutes(scan, run) ? 1 << FACT_MINUTE : 0) |
		(scan->filter ? 1 << FACT_FILTER : 0);
}

/* Make room for n more facts in the batch, by combining those there are, or growing. */
static void
make_room(FactScan *scan, size_t n)
{
	if (scan->batch.n + n <= scan->batch.capacity)
		return;
	facts_combine(&scan->batch, scan->scratch);
	if (scan->batch.n + n > scan->batch.capacity / 2)
		grow_batch(scan, 2 * Max(scan->batch.capacity, scan->batch.n + n));
}

static inline void
add_group(FactScan *scan, uint64 ad, int32 minute_group, int32 filter_group, uint64 count)
{
	Facts	   *batch = &scan->batch;

	batch->key[FACT_AD][batch->n] = scan->by_ad ? ad : 0;
	batch->key[FACT_MINUTE][batch->n] = minute_group;
	batch->key[FACT_FILTER][batch->n] = filter_group;
	batch->count[batch->n++] = count;
}

/* Add facts of a run, or of the tail if it is NULL, to the batch. */
static void
add_facts(FactScan *scan, const StoreRun *run, const Facts *facts, size_t start, size_t n)
{
	bool		each_minute = needs_minutes(scan, run);
	bool		each_ad = scan->range.is_list && !scan->by_probes;
	int32		minute_group = each_minute ? 0 : group_of_minute(scan, run->first_minute);

	make_room(scan, n);
	scan->counts.facts += n;
	for (size_t i = start; i < start + n; i++)
	{
		int32		filter_group;

		if (each_minute)
		{
			int64		minute = facts_to_int64(facts->key[FACT_MINUTE][i]);

			if (minute < scan->from || minute >= scan->to)
				continue;
			minute_group = group_of_minute(scan, minute);
			if (minute_group == PART_REJECTED)
				continue;
		}
		if (each_ad && !row_range_has_ad(&scan->range, facts_to_int64(facts->key[FACT_AD][i])))
			continue;
		filter_group = scan->filter ? group_of_filter(scan, facts->key[FACT_FILTER][i]) : 0;
		if (filter_group == PART_REJECTED)
			continue;
		add_group(scan, facts->key[FACT_AD][i], minute_group, filter_group, facts->count[i]);
	}
}

/* Add those facts that lie in a range of ads. */
static void
add_range(FactScan *scan, const StoreRun *run, const Facts *facts, uint64 low, uint64 high)
{
	size_t		start = facts_find(facts, 0, low);
	size_t		end = high == PG_UINT64_MAX ? facts->n : facts_find(facts, start, high + 1);

	add_facts(scan, run, facts, start, end - start);
}

/* Read a range of ads in one run, or in the tail. */
static void
read_range(FactScan *scan, StoreScan *store, const StoreRun *run, int64 low_ad, int64 high_ad)
{
	uint64		low = facts_from_int64(low_ad);
	uint64		high = facts_from_int64(high_ad);
	uint64		first_key;
	const uint8 *data;
	size_t		length;

	CHECK_FOR_INTERRUPTS();
	if (run == NULL)
	{
		add_range(scan, NULL, scan->tail, low, high);
		return;
	}
	store_scan_range(store, run->run_id, low, high);
	while (store_scan_previous(store, &first_key, &data, &length))
	{
		SegmentStatus status = segment_decode_columns(data, length, columns_needed(scan, run),
													  &scan->segment);

		CHECK_FOR_INTERRUPTS();
		if (status != SEGMENT_OK)
			store_scan_corrupt(store, segment_status_text(status));
		add_range(scan, run, &scan->segment, low, high);
	}
}

static void
read_run(FactScan *scan, StoreScan *store, const StoreRun *run)
{
	if (!scan->by_probes)
		read_range(scan, store, run, scan->range.low, scan->range.high);
	else
		for (int i = 0; i < scan->range.nads; i++)
			read_range(scan, store, run, scan->range.ads[i], scan->range.ads[i]);
}

/* Whether the clicks of the whole run are the answer, as they stand in the directory. */
static bool
is_total_known(const FactScan *scan, const StoreRun *run)
{
	return !scan->by_ad && scan->filter == NULL && has_one_minute(run) &&
		scan->range.low == PG_INT64_MIN && scan->range.high == PG_INT64_MAX;
}

/* Read all runs of the chunk, one after the other. */
static void
read_in_turn(FactScan *scan)
{
	StoreScan  *stores[2];

	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	stores[0] = store_scan_begin(false);
	stores[1] = store_scan_begin(true);
	PopActiveSnapshot();
	for (int i = 0; i < scan->nchunk; i++)
	{
		const StoreRun *run = &scan->chunk[i];

		if (is_total_known(scan, run))
		{
			make_room(scan, 1);
			add_group(scan, 0, group_of_minute(scan, run->first_minute), 0, run->clicks);
		}
		else
		{
			read_run(scan, stores[run->is_delta], run);
			scan->counts.runs++;
		}
	}
	store_scan_end(stores[0]);
	store_scan_end(stores[1]);
	read_run(scan, NULL, NULL);
}

/* Open all runs of the chunk, to read them in slices. */
static void
begin_slices(FactScan *scan)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->scan_context);
	unsigned   *columns = palloc(sizeof(unsigned) * (scan->nchunk + 1));

	for (int i = 0; i < scan->nchunk; i++)
		columns[i] = columns_needed(scan, &scan->chunk[i]);
	PushActiveSnapshot(scan->node->ss.ps.state->es_snapshot);
	scan->slices = slices_begin_range(ORDER_AD, scan->chunk, scan->nchunk, columns, scan->tail,
									  facts_from_int64(scan->range.low),
									  facts_from_int64(scan->range.high));
	PopActiveSnapshot();
	scan->counts.runs += scan->nchunk;
	MemoryContextSwitchTo(outer);
}

/* Read slices until there is enough for a batch. */
static void
read_slices(FactScan *scan)
{
	const SlicePart *parts;
	int			nparts;

	while (scan->batch.n < scan->enough)
	{
		parts = slices_next(scan->slices, &nparts);
		if (parts == NULL)
		{
			slices_end(scan->slices);
			scan->slices = NULL;
			break;
		}
		for (int i = 0; i < nparts; i++)
			add_facts(scan, parts[i].run, parts[i].facts, parts[i].start, parts[i].n);
	}
	scan->enough = Min(2 * scan->enough, LARGEST_BATCH);
}

/* The next chunk of the window: its bounds, and the runs with facts in it. */
static bool
next_chunk(FactScan *scan)
{
	int			nminutes = scan->nruns - scan->next_run;

	if (scan->from <= scan->range.from)
		return false;
	if (scan->by_ad && scan->by_minute)
		nminutes = Min(nminutes, scan->minutes_ahead);
	scan->to = scan->from;
	scan->from = scan->next_run + nminutes == scan->nruns ? scan->range.from :
		scan->runs[scan->next_run + nminutes - 1].first_minute;

	scan->nchunk = 0;
	for (int i = 0; i < scan->next_run + nminutes; i++)
	{
		const StoreRun *run = &scan->runs[i];

		if (i >= scan->ndeltas && i < scan->next_run)
			continue;
		if (run->last_minute < scan->from || run->first_minute >= scan->to ||
			(has_one_minute(run) && group_of_minute(scan, run->first_minute) == PART_REJECTED))
			continue;
		scan->chunk[scan->nchunk++] = *run;
	}
	scan->next_run += nminutes;
	scan->minutes_ahead = Min(2 * scan->minutes_ahead, LARGEST_CHUNK);
	return true;
}

/* Make the next batch; false at the end. */
static bool
next_batch(FactScan *scan)
{
	scan->position = 0;
	scan->batch.n = 0;
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (scan->slices == NULL)
		{
			if (!next_chunk(scan))
				return false;
			if (scan->in_turn)
				read_in_turn(scan);
			else
				begin_slices(scan);
		}
		if (scan->slices)
			read_slices(scan);
	} while (scan->batch.n == 0);
	facts_combine(&scan->batch, scan->scratch);
	return true;
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

TupleTableSlot *
fact_scan_next(ForeignScanState *node)
{
	FactScan   *scan = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	bool		is_first = !scan->begun;

	ExecClearTuple(slot);
	if (!scan->begun)
		begin_range(scan);
	if (scan->finished)
		return slot;
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	if (scan->position < scan->batch.n || next_batch(scan))
		put_row(scan, scan->position++, slot);
	else
	{
		scan->finished = true;
		if (!scan->is_total || !is_first)
			return slot;
		/* the sum of nothing is NULL */
	}
	return ExecStoreVirtualTuple(slot);
}

static void
end_range(FactScan *scan)
{
	if (scan->slices)
		slices_end(scan->slices);
	scan->slices = NULL;
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

	return &scan->counts;
}
