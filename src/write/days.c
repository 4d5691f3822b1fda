/*-------------------------------------------------------------------------
 *
 * days.c
 *	  Order day: what final runs of order ad have of whole days, summed up by day.
 *
 * See days.h.  All facts of an ad are at hand together, as slices are of ads, so runs of any
 * number of minutes are summed up without being merged by minute before.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "days.h"
#include "read/slices.h"

/* Facts that are summed up together, give or take a slice. */
#define SUMMED_FACTS (256 * 1024)

typedef struct Summing
{
	const DayPart *parts;		/* of which facts are taken, ... */
	int			nparts;
	int64		day;			/* ... or, if there are none, the day that all are of */
	Facts		facts;			/* of ads that are at hand */
	StoreWriter *writer;
} Summing;

/* The day of a minute, if it is one of the parts. */
static bool
find_day(const Summing *summing, int64 minute, int64 *day)
{
	int			low = 0;
	int			high = summing->nparts;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (summing->parts[middle].end <= minute)
			low = middle + 1;
		else
			high = middle;
	}
	*day = day_of(minute);
	return low < summing->nparts && summing->parts[low].first <= minute;
}

static void
add_facts(Summing *summing, const SlicePart *from)
{
	Facts	   *facts = &summing->facts;
	int64		day = summing->day;

	if (facts->n + from->n > facts->capacity)
		facts_enlarge(facts, 2 * (facts->n + from->n), CurrentMemoryContext);
	for (size_t i = from->start; i < from->start + from->n; i++)
	{
		if (summing->nparts > 0 && !find_day(summing, facts_to_int64(from->facts->key[FACT_MINUTE][i]), &day))
			continue;
		facts->key[FACT_AD][facts->n] = from->facts->key[FACT_AD][i];
		facts->key[FACT_MINUTE][facts->n] = facts_from_int64(day);
		facts->key[FACT_FILTER][facts->n] = from->facts->key[FACT_FILTER][i];
		facts->count[facts->n++] = from->facts->count[i];
	}
}

static void
write_sums(Summing *summing)
{
	if (summing->facts.n == 0)
		return;
	facts_sum_up(&summing->facts);
	store_writer_add(summing->writer, &summing->facts, 0, summing->facts.n);
	summing->facts.n = 0;
}

/* Sum up runs, all of which can be open together, and end the writer. */
static void
sum_up(Summing *summing, const StoreRun *runs, int nruns)
{
	unsigned   *columns = palloc(sizeof(unsigned) * nruns);
	Slices	   *slices;
	const SlicePart *parts;
	int			nparts;

	for (int i = 0; i < nruns; i++)
		columns[i] = 1 << FACT_AD | (summing->nparts > 0 ? 1 << FACT_MINUTE : 0) | 1 << FACT_FILTER;
	facts_init(&summing->facts, FACT_COLUMNS, SUMMED_FACTS,
			   MemoryContextAllocHuge(CurrentMemoryContext, facts_memory(FACT_COLUMNS, SUMMED_FACTS)));
	slices = slices_begin_range(ORDER_AD, runs, nruns, columns, NULL, 0, PG_UINT64_MAX);
	while ((parts = slices_next(slices, &nparts)) != NULL)
	{
		for (int i = 0; i < nparts; i++)
			add_facts(summing, &parts[i]);
		if (summing->facts.n >= SUMMED_FACTS)
			write_sums(summing);
	}
	slices_end(slices);
	write_sums(summing);
	store_writer_end(summing->writer);
}

static void
sum_up_apart(Summing *summing, const StoreRun *runs, int nruns)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick days", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);

	sum_up(summing, runs, nruns);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

void
days_make(int64 day, const StoreRun *finals, int nfinals)
{
	Summing		summing = {.day = day, .writer = store_writer_begin_final(GRAIN_DAY)};

	sum_up_apart(&summing, finals, nfinals);
}

void
days_add(const StoreRun *deltas, int ndeltas, const DayPart *parts, int nparts)
{
	Summing		summing = {.parts = parts, .nparts = nparts, .writer = store_writer_begin(ORDER_DAY, true)};

	sum_up_apart(&summing, deltas, ndeltas);
}
