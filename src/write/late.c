/*-------------------------------------------------------------------------
 *
 * late.c
 *	  Where late facts wait, and when they go on to their hours.
 *
 * Facts of settled hours wait in deltas until they are many, beside what their
 * hours have: a buffer tree over time (Arge, The buffer tree, 1995), whose nodes are
 * spans.  Which span a delta belongs to is told by its first and last minute, so
 * the tree is nowhere stored.  In each span deltas are merged in tiers, as in a
 * log-structured merge tree; and as soon as all of them, or one, have so much that
 * at least half of it goes on.  Deltas of order day wait for their days in the same way.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "base/adclick.h"
#include "late.h"

/* So many deltas of a tier are merged; each is of a tier about as large as they together. */
#define TIER_RUNS 4

/* Deltas are merged when they have this part of the facts of final runs between their ends. */
#define DUE_PART 4

/* Hours are numbered from so many before the epoch, so that none is negative. */
#define HOURS_BEFORE (UINT64CONST(1) << (6 * SPAN_BITS))

StaticAssertDecl(-FIRST_MINUTE / MINS_PER_HOUR < HOURS_BEFORE, "every hour should have a number");

static uint64
hour_number(int64 minute)
{
	return (uint64) floor_div(minute, MINS_PER_HOUR) + HOURS_BEFORE;
}

Span
span_of(int64 first, int64 last)
{
	uint64		differing = hour_number(first) ^ hour_number(last);
	int			level = differing == 0 ? 0 : pg_leftmost_one_pos64(differing) / SPAN_BITS + 1;

	return (Span) {level, hour_number(first) >> (level * SPAN_BITS)};
}

Span
span_part(Span span, int64 minute)
{
	return (Span) {span.level - 1, hour_number(minute) >> ((span.level - 1) * SPAN_BITS)};
}

static int64
first_minute(int level, uint64 number)
{
	return (int64) ((number << (level * SPAN_BITS)) - HOURS_BEFORE) * MINS_PER_HOUR;
}

int64
span_first(Span span)
{
	return first_minute(span.level, span.number);
}

int64
span_end(Span span)
{
	return first_minute(span.level, span.number + 1);
}

static Span
span_of_run(const StoreRun *run)
{
	return span_of(run->first_minute, run->last_minute);
}

static int
tier(const StoreRun *run)
{
	return pg_leftmost_one_pos64(run->facts) / pg_ceil_log2_32(TIER_RUNS);
}

static int
compare_spans(Span x, Span y)
{
	if (x.level != y.level)
		return x.level < y.level ? 1 : -1;
	return (x.number > y.number) - (x.number < y.number);
}

/* The largest spans first, as what they have goes on to smaller ones. */
static int
by_span_and_tier(const void *a, const void *b)
{
	int			order = compare_spans(span_of_run(a), span_of_run(b));

	return order != 0 ? order : tier(a) - tier(b);
}

void
late_sort(StoreRun *runs, int nruns)
{
	qsort(runs, nruns, sizeof(StoreRun), by_span_and_tier);
}

/* Whether deltas have so many facts that enough of them are worth it to go on. */
static bool
is_due(const StoreRun *runs, int nruns, const StoreLeftOut *left_out)
{
	int64		first = runs->first_minute;
	int64		last = runs->last_minute;
	int64		facts = 0;

	for (int i = 0; i < nruns; i++)
	{
		first = Min(first, runs[i].first_minute);
		last = Max(last, runs[i].last_minute);
		facts += runs[i].facts;
	}
	return facts >= store_count_final_facts(runs->order, first, hour_of(last) + MINS_PER_HOUR - 1, left_out) / DUE_PART;
}

/* How many deltas from the first one on are of its span; and of its tier, too. */
static int
count_alike(const StoreRun *runs, int nruns, bool same_tier)
{
	int			n = 0;

	while (n < nruns && compare_spans(span_of_run(&runs[n]), span_of_run(runs)) == 0 &&
		   (!same_tier || tier(&runs[n]) == tier(runs)))
		n++;
	return n;
}

int
late_choose_tier(const StoreRun *runs, int nruns, const StoreRun **chosen)
{
	int			of_tier;

	for (int i = 0; i < nruns; i += of_tier)
	{
		*chosen = &runs[i];
		of_tier = count_alike(*chosen, nruns - i, true);
		if (of_tier >= TIER_RUNS)
			return of_tier;
	}
	return 0;
}

/* Of deltas of a span, those that should be merged; returns how many. */
static int
choose_of_span(const StoreRun *runs, int nruns, const StoreLeftOut *left_out, const StoreRun **chosen)
{
	int			of_tier;

	*chosen = runs;
	if (is_due(runs, nruns, left_out))
		return nruns;
	of_tier = late_choose_tier(runs, nruns, chosen);
	if (of_tier > 0)
		return of_tier;
	for (int i = 0; i < nruns; i++)
	{
		*chosen = &runs[i];
		if (is_due(*chosen, 1, left_out))
			return 1;
	}
	return 0;
}

static bool
has_before(const StoreRun *runs, int nruns, int64 minute)
{
	for (int i = 0; i < nruns; i++)
		if (runs[i].first_minute < minute)
			return true;
	return false;
}

int
late_choose(const StoreRun *runs, int nruns, int64 leaving, const StoreLeftOut *left_out, int *next,
			const StoreRun **chosen)
{
	while (*next < nruns)
	{
		const StoreRun *first = &runs[*next];
		int			of_span = count_alike(first, nruns - *next, false);
		int			n;

		*next += of_span;
		*chosen = first;
		n = has_before(first, of_span, leaving) ? of_span : choose_of_span(first, of_span, left_out, chosen);
		if (n > 0)
			return n;
	}
	return 0;
}
