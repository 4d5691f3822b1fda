/*-------------------------------------------------------------------------
 *
 * merge.c
 *	  Merging runs into others.
 *
 * See merge.h.  Facts come from the merge sorted by ad, in batches; each batch is sorted by
 * the runs that its minutes go to.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "days.h"
#include "lists.h"
#include "merge.h"
#include "read/slices.h"

/* The ways from minutes to writers that are remembered, a power of two. */
#define WAYS 1024

/* The target of a minute's facts. */
typedef struct Way
{
	int64		minute;
	int			target;
} Way;

/* Behind the targets come the deltas for other facts: settled, not settled. */
typedef struct Writing
{
	const Merge *merge;
	MemoryContext context;
	int			nwriters;
	StoreWriter *writers[MAX_TARGETS + 2];
	Way			ways[WAYS];		/* by minute */
	Facts		sorted;			/* a batch, by target */
	uint8	   *target_of;		/* for each of its facts before */
} Writing;

StoreGrain
target_grain(const Target *target)
{
	int64		minutes = target->end - target->first;

	return minutes == MINS_PER_DAY ? GRAIN_DAY : minutes == MINS_PER_HOUR ? GRAIN_HOUR : GRAIN_MINUTE;
}

static Writing *
begin_writing(const Merge *m)
{
	Writing    *w = palloc0(sizeof(Writing));

	w->merge = m;
	w->context = CurrentMemoryContext;
	w->nwriters = m->ntargets + 2;
	for (int i = 0; i < w->nwriters; i++)
		w->writers[i] = i >= m->ntargets || m->targets[i].is_delta ? store_writer_begin(m->order, true) :
			store_writer_begin_final(target_grain(&m->targets[i]));
	for (int i = 0; i < WAYS; i++)
		w->ways[i].minute = PG_INT64_MAX;
	return w;
}

/* Which target takes facts of a minute. */
static int
find_target(const Merge *m, int64 minute)
{
	int			low = 0;
	int			high = m->ntargets;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (m->targets[middle].end <= minute)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < m->ntargets && m->targets[low].first <= minute)
		return low;
	return m->ntargets + (minute >= m->settled);
}

static inline int
target_of(Writing *w, int64 minute)
{
	Way		   *way = &w->ways[(uint64) minute % WAYS];

	if (way->minute != minute)
		*way = (Way) {minute, find_target(w->merge, minute)};
	return way->target;
}

static void
enlarge_sorted(Writing *w, const Facts *facts)
{
	w->sorted.ncolumns = facts->ncolumns;
	facts_enlarge(&w->sorted, facts->n, w->context);
	if (w->target_of)
		pfree(w->target_of);
	w->target_of = MemoryContextAllocHuge(w->context, facts->n);
}

/* Sort a batch by target, keeping the order within each; "end" is where each ends. */
static void
sort_by_target(Writing *w, const Facts *facts, size_t *end)
{
	Facts	   *sorted = &w->sorted;
	size_t		next = 0;

	if (sorted->capacity < facts->n)
		enlarge_sorted(w, facts);
	memset(end, 0, sizeof(size_t) * w->nwriters);
	for (size_t i = 0; i < facts->n; i++)
		end[w->target_of[i] = target_of(w, facts_to_int64(facts->key[FACT_MINUTE][i]))]++;
	for (int t = 0; t < w->nwriters; t++)
	{
		size_t		n = end[t];

		end[t] = next;
		next += n;
	}
	for (size_t i = 0; i < facts->n; i++)
	{
		size_t		at = end[w->target_of[i]]++;

		for (int column = 0; column < facts->ncolumns; column++)
			sorted->key[column][at] = facts->key[column][i];
		sorted->count[at] = facts->count[i];
	}
	sorted->n = facts->n;
}

static void
write_merged(const Facts *facts, void *arg)
{
	Writing    *w = arg;
	size_t		end[MAX_TARGETS + 2];
	size_t		start = 0;

	sort_by_target(w, facts, end);
	for (int t = 0; t < w->nwriters; t++)
	{
		store_writer_add(w->writers[t], &w->sorted, start, end[t] - start);
		start = end[t];
	}
}

/* What deltas bring to minutes and hours of days that have a run, comes to these days. */
static void
add_to_days(const Merge *m)
{
	int64		days[MAX_TARGETS];
	DayPart		parts[MAX_TARGETS];
	int			n = 0;
	int			nparts = 0;
	int			nmade;
	int64	   *made;

	for (int i = 0; i < m->ntargets; i++)
		if (!m->targets[i].is_delta)
			days[n++] = day_of(m->targets[i].first);
	made = store_get_made_days(days, n, &nmade);
	for (int i = 0; i < m->ntargets; i++)
	{
		const Target *target = &m->targets[i];
		int64		day = day_of(target->first);

		if (!target->is_delta && bsearch(&day, made, nmade, sizeof(int64), compare_int64) != NULL)
			parts[nparts++] = (DayPart) {target->first, target->end};
	}
	if (nparts > 0)
		days_add(m->runs, m->ndeltas, parts, nparts);
}

void
merge_runs(const Merge *m)
{
	Writing    *w;

	if (m->order == ORDER_AD && m->ndeltas > 0)
		add_to_days(m);
	w = begin_writing(m);
	slices_merge(m->order, m->runs, m->nruns, write_merged, w);
	for (int i = 0; i < w->nwriters; i++)
		store_writer_end(w->writers[i]);
	store_delete_runs(m->runs, m->nruns);
}

/* Those of the minutes of an hour hold as long as it has no late facts, and for a day. */
int
merge_make_lists(const Merge *m, StoreGrain grain)
{
	int64		firsts[MAX_TARGETS];
	int			n = 0;

	for (int i = 0; i < m->ntargets; i++)
		if (!m->targets[i].is_delta && target_grain(&m->targets[i]) == grain)
			firsts[n++] = m->targets[i].first;
	if (n == 0)
		return 0;
	if (grain == GRAIN_HOUR && m->ndeltas > 0)
		lists_delete_minutes(firsts, n);
	else if (grain == GRAIN_HOUR)
		lists_delete_old_minutes(firsts[0]);
	lists_make(grain, firsts, n);
	return n;
}
