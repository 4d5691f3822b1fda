/*-------------------------------------------------------------------------
 *
 * gather.c
 *	  Finding the facts of some ads, users or addresses, and summing them up.
 *
 * The conditions become ranges of the order's first column.  In each run they
 * are looked for from the last to the first, as the index leads to the last
 * segment that can have a key; ranges that lie in the segment just read need no
 * look-up of their own.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "core/segment.h"
#include "gather.h"
#include "horizon.h"
#include "tail.h"

/* Sums held before equal ones are combined. */
#define FIRST_SUMS 1024

/* Segments that the largest run has in a piece of the range of users: its sums stay in the processor's cache. */
#define SEGMENTS_IN_PIECE 64

/* A range of the first column, both ends included. */
typedef struct KeyRange
{
	uint64		low;
	uint64		high;
} KeyRange;

struct Gathering
{
	MemoryContext context;
	FactOrder	order;
	const Conditions *conditions;
	int			nranges;		/* ascending, apart from each other */
	KeyRange   *ranges;
	int			nroles;
	FactRole	roles[ROLES];
	bool		users_only;		/* clicks without a user are left out */
	bool		one_ad;			/* is looked for, where it does not come first in the order */
	uint64		ad;				/* which, as it stands in the column */

	StoreScan  *scan;			/* of a table, NULL: of none */
	StoreTable	table;
	Facts		segment;		/* the one being read */
	const uint64 *columns[ROLES];	/* of it, where the conditions need them; else NULL */
	int64		end;			/* of the window, for facts of the run */

	uint64		clicks;
	Facts		sums;
	ReadCounts	read;
};

FactOrder
gather_order(const Conditions *conditions, const FactRole *roles, int nroles)
{
	bool		by_user = conditions->users.given;

	for (int i = 0; i < nroles; i++)
		by_user |= roles[i] == ROLE_USER;
	return conditions->has_ips ? ORDER_IP : by_user ? ORDER_USER : ORDER_AD;
}

/* Orders user and ip can be off, or have been. */
static void
require_order(FactOrder order, const Conditions *conditions, const StoreState *state)
{
	int64		minute;

	if (order == ORDER_AD)
		return;
	if (!adclick_user_and_ip_orders)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clicks are not kept by user and by address"),
				 errhint("Set adclick.user_and_ip_orders to on; clicks taken from then on can be found by user_id and ip.")));
	if (conditions->from <= state->people_dropped_until && conditions->from < conditions->to)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clicks of this window are not all kept by user and by address"),
				 errdetail("Those up to %s have been dropped, as adclick.user_and_ip_retention says.",
						   minute_text(state->people_dropped_until)),
				 errhint("Ask from %s on, or without user_id and ip.",
						 minute_text(state->people_dropped_until + 1))));
	if (store_has_gap(conditions->from, conditions->to - 1, &minute))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clicks of this window are not all kept by user and by address"),
				 errdetail("Some of %s were taken while adclick.user_and_ip_orders was off.",
						   minute_text(minute)),
				 errhint("Ask for another window, or without user_id and ip.")));
}

static void
ranges_of_ids(Gathering *g, const IdList *list)
{
	g->nranges = list->n;
	g->ranges = MemoryContextAllocHuge(g->context, sizeof(KeyRange) * (list->n + 1));
	for (int i = 0; i < list->n; i++)
		g->ranges[i].low = g->ranges[i].high = facts_from_int64(list->ids[i]);
}

static int
compare_key_ranges(const void *a, const void *b)
{
	uint64		x = ((const KeyRange *) a)->low;
	uint64		y = ((const KeyRange *) b)->low;

	return (x > y) - (x < y);
}

/* Of both families, they may overlap as ranges of the first column: they are joined. */
static void
ranges_of_ips(Gathering *g)
{
	const Conditions *conditions = g->conditions;

	KeyRange   *all = palloc(sizeof(KeyRange) * (conditions->nips + 1));

	for (int i = 0; i < conditions->nips; i++)
		all[i] = (KeyRange) {conditions->ips[i].first.high, conditions->ips[i].last.high};
	qsort(all, conditions->nips, sizeof(KeyRange), compare_key_ranges);
	g->ranges = palloc(sizeof(KeyRange) * (conditions->nips + 1));
	for (int i = 0; i < conditions->nips; i++)
	{
		KeyRange	range = all[i];
		KeyRange   *last = g->nranges > 0 ? &g->ranges[g->nranges - 1] : NULL;

		if (last && range.low <= last->high)
			last->high = Max(last->high, range.high);
		else
			g->ranges[g->nranges++] = range;
	}
}

static void
make_ranges(Gathering *g)
{
	const IdList *list = g->order == ORDER_USER ? &g->conditions->users : &g->conditions->ads;

	if (g->order == ORDER_IP)
		ranges_of_ips(g);
	else if (list->given)
		ranges_of_ids(g, list);
	else
	{
		g->nranges = 1;
		g->ranges = palloc(sizeof(KeyRange));
		g->ranges[0] = (KeyRange) {0, PG_UINT64_MAX};
	}
}

Gathering *
gather_begin(FactOrder order, const Conditions *conditions, const FactRole *roles, int nroles)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick gathering",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Gathering  *g = palloc0(sizeof(Gathering));

	g->context = context;
	g->order = order;
	g->conditions = conditions;
	g->nroles = nroles;
	memcpy(g->roles, roles, sizeof(FactRole) * nroles);
	g->users_only = conditions->users.given;
	for (int i = 0; i < nroles; i++)
		g->users_only |= roles[i] == ROLE_USER;
	g->one_ad = order != ORDER_AD && conditions->ads.given && conditions->ads.n == 1;
	if (g->one_ad)
		g->ad = facts_from_int64(conditions->ads.ids[0]);
	make_ranges(g);
	facts_init(&g->segment, order_columns[order], SEGMENT_MAX_FACTS,
			   palloc(facts_memory(order_columns[order], SEGMENT_MAX_FACTS)));
	if (nroles > 0)
		facts_init(&g->sums, nroles, FIRST_SUMS, palloc(facts_memory(nroles, FIRST_SUMS)));
	MemoryContextSwitchTo(outer);
	return g;
}

/* Of the table that has a run: one after the other, as runs come by where they lie. */
static StoreScan *
scan_of(Gathering *g, const StoreRun *run)
{
	MemoryContext outer;

	if (g->scan && g->table == store_table(run))
		return g->scan;
	if (g->scan)
		store_scan_end(g->scan);
	outer = MemoryContextSwitchTo(g->context);
	g->table = store_table(run);
	g->scan = store_scan_begin(g->table);
	MemoryContextSwitchTo(outer);
	return g->scan;
}

/* Have a column of the segments decoded, if the order has it. */
static unsigned
use_column(Gathering *g, FactRole role, bool checked)
{
	int			column = order_column(g->order, role);

	if (column == NO_COLUMN)
		return 0;
	if (checked)
		g->columns[role] = g->segment.key[column];
	return 1U << column;
}

/* Which columns to decode for a run, as bits, and which of them to check. */
static unsigned
choose_columns(Gathering *g, const StoreRun *run)
{
	const Conditions *conditions = g->conditions;
	unsigned	bits = 1;		/* the first one, always */

	memset(g->columns, 0, sizeof(g->columns));
	if (!run_is_inside(run, conditions))
		bits |= use_column(g, ROLE_MINUTE, true);
	if (conditions->ads.given && g->order != ORDER_AD)
		bits |= use_column(g, ROLE_AD, true);
	if (conditions->filtered)
		bits |= use_column(g, ROLE_FILTER, true);
	if (g->users_only && g->order == ORDER_IP)
		bits |= use_column(g, ROLE_USER, true) | use_column(g, ROLE_HAS_USER, true);
	if (g->order == ORDER_IP)
		bits |= use_column(g, ROLE_IP_HIGH, true) | use_column(g, ROLE_IP_LOW, true) |
			use_column(g, ROLE_IP_FAMILY, true);
	for (int i = 0; i < g->nroles; i++)
		bits |= use_column(g, g->roles[i], false);
	return bits;
}

/* Whether fact i of the segment meets the conditions that its key range does not. */
static inline bool
is_asked_for(const Gathering *g, size_t i)
{
	const Conditions *conditions = g->conditions;
	const uint64 *const *columns = g->columns;

	if (columns[ROLE_MINUTE] && (facts_to_int64(columns[ROLE_MINUTE][i]) < conditions->from ||
								 facts_to_int64(columns[ROLE_MINUTE][i]) >= g->end))
		return false;
	if (columns[ROLE_AD] &&
		!conditions_match_id(&conditions->ads, facts_to_int64(columns[ROLE_AD][i])))
		return false;
	if (columns[ROLE_FILTER] && !conditions_match_filter(conditions, columns[ROLE_FILTER][i]))
		return false;
	if (columns[ROLE_USER] &&
		(columns[ROLE_HAS_USER][i] == 0 ||
		 !conditions_match_id(&conditions->users, facts_to_int64(columns[ROLE_USER][i]))))
		return false;
	return !columns[ROLE_IP_FAMILY] ||
		conditions_match_ip(conditions, &(IpAddress) {
			columns[ROLE_IP_HIGH][i], columns[ROLE_IP_LOW][i], (uint8) columns[ROLE_IP_FAMILY][i]
		});
}

/* Of one ad, if that is looked for: without a branch, as each fact may be of any. */
static size_t
pick_facts(const Gathering *g, size_t start, size_t end, uint16 *picked)
{
	const uint64 *ads = g->columns[ROLE_AD];
	size_t		n = 0;

	if (!g->one_ad)
		for (size_t i = start; i < end; i++)
			picked[n++] = i;
	else
		for (size_t i = start; i < end; i++)
		{
			picked[n] = i;
			n += ads[i] == g->ad;
		}
	return n;
}

/* Make room for more sums: by combining equal ones, if that helps enough. */
static void
make_room(Gathering *g, size_t n)
{
	Facts	   *sums = &g->sums;

	facts_sum_up(sums);
	if (sums->n + n > sums->capacity / 2)
		facts_enlarge(sums, 2 * (sums->n + n), g->context);
}

/* Take what the segment has of a range. */
static void
take_range(Gathering *g, const KeyRange *range)
{
	Facts	   *segment = &g->segment;
	Facts	   *sums = &g->sums;
	size_t		start = facts_find(segment, 0, range->low);
	size_t		end = facts_find_above(segment, start, range->high);
	uint16		picked[SEGMENT_MAX_FACTS];
	size_t		npicked;

	if (g->nroles > 0 && sums->n + (end - start) > sums->capacity)
		make_room(g, end - start);
	g->read.facts += end - start;
	npicked = pick_facts(g, start, end, picked);
	for (size_t p = 0; p < npicked; p++)
	{
		size_t		i = picked[p];

		if (!is_asked_for(g, i))
			continue;
		g->clicks += segment->count[i];
		if (g->nroles == 0)
			continue;
		for (int c = 0; c < g->nroles; c++)
			sums->key[c][sums->n] = segment->key[order_column(g->order, g->roles[c])][i];
		sums->count[sums->n++] = segment->count[i];
	}
}

void
gather_run(Gathering *g, const StoreRun *run)
{
	StoreScan  *scan = scan_of(g, run);
	unsigned	columns = choose_columns(g, run);
	int			r = g->nranges - 1;

	g->end = window_end(g->conditions, run);
	g->read.runs++;
	while (r >= 0)
	{
		const KeyRange *range = &g->ranges[r];
		bool		found = false;

		g->read.probes++;
		store_scan_range(scan, run, range->low, range->high);
		if (g->one_ad && g->nranges == 1)
			store_scan_where(scan, order_column(g->order, ROLE_AD), g->ad);
		while (store_scan_previous(scan, columns, &g->segment))
		{
			found = true;
			g->read.segments++;
			take_range(g, range);
		}
		if (!found)
			return;				/* the run begins behind it */

		/* Ranges that begin in this segment end in it: the next has what is above. */
		while (--r >= 0 && g->ranges[r].low > g->segment.key[0][0])
		{
			CHECK_FOR_INTERRUPTS();
			take_range(g, &g->ranges[r]);
		}
	}
}

void
gather_tail(Gathering *g, const StoreState *state)
{
	FactRole	roles[ROLES + 1];
	int			nroles = g->nroles;
	MemoryContext outer = MemoryContextSwitchTo(g->context);
	Facts	   *tail;

	memcpy(roles, g->roles, sizeof(FactRole) * nroles);
	roles[nroles++] = ROLE_HAS_USER;
	tail = tail_facts(state, g->conditions, roles, nroles);
	g->read.tail += tail->n;
	if (g->nroles > 0 && g->sums.n + tail->n > g->sums.capacity)
		make_room(g, tail->n);
	for (size_t i = 0; i < tail->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (g->users_only && tail->key[nroles - 1][i] == 0)
			continue;
		g->clicks += tail->count[i];
		if (g->nroles == 0)
			continue;
		for (int c = 0; c < g->nroles; c++)
			g->sums.key[c][g->sums.n] = tail->key[c][i];
		g->sums.count[g->sums.n++] = tail->count[i];
	}
	MemoryContextSwitchTo(outer);
}

uint64
gather_clicks(const Gathering *g)
{
	return g->clicks;
}

const Facts *
gather_facts(Gathering *g)
{
	facts_sum_up(&g->sums);
	return &g->sums;
}

void
gather_read_counts(const Gathering *g, ReadCounts *counts)
{
	*counts = g->read;
}

void
gather_end(Gathering *g)
{
	if (g->scan)
		store_scan_end(g->scan);
	MemoryContextDelete(g->context);
}

/* The runs of the window, and the state that they are of: an error if there should be more. */
static StoreRun *
get_runs(FactOrder order, const Conditions *conditions, bool by_minute, StoreState *state, int *nruns)
{
	store_get_state(state);
	require_order(order, conditions, state);
	if (order == ORDER_AD)
		horizon_require(state, conditions->from, conditions->to, by_minute);
	return order == ORDER_AD && !by_minute ? store_get_fewest_runs(conditions->from, conditions->to - 1, nruns) :
		store_get_runs(order, conditions->from, conditions->to - 1, nruns);
}

Gathering *
gather(const Conditions *conditions, const FactRole *roles, int nroles, bool by_minute)
{
	FactOrder	order = gather_order(conditions, roles, nroles);
	StoreState	state;
	int			nruns;
	StoreRun   *runs = get_runs(order, conditions, by_minute, &state, &nruns);
	Gathering  *g = gather_begin(order, conditions, roles, nroles);

	for (int i = 0; i < nruns; i++)
		gather_run(g, &runs[i]);
	gather_tail(g, &state);
	return g;
}

/* Where the piece of the range of users from "low" on ends. */
static uint64
end_of_piece(Gathering *g, const StoreRun *runs, int nruns, uint64 low)
{
	const StoreRun *largest;

	if (nruns == 0)
		return PG_UINT64_MAX;
	largest = store_largest_run(runs, nruns);
	return store_scan_piece(scan_of(g, largest), largest, SEGMENTS_IN_PIECE, low, PG_UINT64_MAX);
}

/* Put those of the tail into the sums that lie in the range. */
static void
take_tail(Gathering *g, const Facts *tail, const KeyRange *range)
{
	size_t		start = facts_find(tail, 0, range->low);
	size_t		end = facts_find_above(tail, start, range->high);

	if (g->sums.n + (end - start) > g->sums.capacity)
		make_room(g, end - start);
	facts_append(&g->sums, tail, start, end - start);
}

/* Of order user, a piece of the range of users after the other. */
static uint64
count_users_in_pieces(Gathering *g, const StoreState *state, const StoreRun *runs, int nruns)
{
	KeyRange   *range = &g->ranges[0];
	uint64		users = 0;
	Facts		tail;

	gather_tail(g, state);
	facts_sum_up(&g->sums);
	facts_init(&tail, g->nroles, g->sums.n + 1,
			   MemoryContextAllocHuge(g->context, facts_memory(g->nroles, g->sums.n + 1)));
	facts_append(&tail, &g->sums, 0, g->sums.n);
	for (;;)
	{
		range->high = end_of_piece(g, runs, nruns, range->low);
		g->sums.n = 0;
		take_tail(g, &tail, range);
		for (int i = 0; i < nruns; i++)
			gather_run(g, &runs[i]);
		users += gather_facts(g)->n;
		if (range->high == PG_UINT64_MAX)
			return users;
		range->low = range->high + 1;
	}
}

uint64
gather_unique_users(const Conditions *conditions)
{
	static const FactRole by_user[] = {ROLE_USER};
	FactOrder	order = gather_order(conditions, by_user, lengthof(by_user));
	StoreState	state;
	int			nruns;
	StoreRun   *runs;
	Gathering  *g;
	uint64		users;

	if (order == ORDER_USER && !conditions->users.given)
	{
		runs = get_runs(order, conditions, true, &state, &nruns);
		g = gather_begin(order, conditions, by_user, lengthof(by_user));
		users = count_users_in_pieces(g, &state, runs, nruns);
	}
	else
	{
		g = gather(conditions, by_user, lengthof(by_user), true);
		users = gather_facts(g)->n;
	}
	gather_end(g);
	return users;
}
