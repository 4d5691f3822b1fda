/*-------------------------------------------------------------------------
 *
 * accumulate.c
 *	  Clicks that count become sorted facts, a run of each order.
 *
 * See accumulate.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "accumulate.h"
#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "store/store.h"

/* Make and write the facts of an order; "run_id" as in store_writer_begin_as. */
static void
write_order(FactOrder order, const FactClick *clicks, size_t n, int64 run_id)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick accumulate",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	int			ncolumns = order_columns[order];
	Facts		facts;
	StoreWriter *writer;

	facts_init(&facts, ncolumns, n, MemoryContextAllocHuge(context, facts_memory(ncolumns, n)));
	order_append(order, clicks, n, &facts);
	if (facts.n > 0)
	{
		facts_sum_up(&facts);
		writer = store_writer_begin_as(order, order == ORDER_AD || facts.n < LARGE_RUN_FACTS, run_id);
		store_writer_add(writer, &facts, 0, facts.n);
		store_writer_end(writer);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

/* These clicks will not be found by user or address: remember their minutes. */
static void
note_gaps(const FactClick *clicks, size_t n)
{
	int64	   *minutes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * n);
	size_t		nminutes = 0;

	for (size_t i = 0; i < n; i++)
		if (nminutes == 0 || minutes[nminutes - 1] != clicks[i].minute)
			minutes[nminutes++] = clicks[i].minute;
	store_add_gaps(minutes, sort_unique_int64(minutes, (int) nminutes));
	pfree(minutes);
}

/* Put the clicks behind a minute first; returns how many there are. */
static size_t
put_first(FactClick *clicks, size_t n, int64 minute)
{
	size_t		nfirst = 0;

	if (minute == PG_INT64_MIN)
		return n;
	for (size_t i = 0; i < n; i++)
		if (clicks[i].minute > minute)
		{
			FactClick	click = clicks[nfirst];

			clicks[nfirst++] = clicks[i];
			clicks[i] = click;
		}
	return nfirst;
}

void
accumulate_facts(FactClick *clicks, size_t n, int64 people_until)
{
	write_order(ORDER_AD, clicks, n, 0);
	if (adclick_user_and_ip_orders)
	{
		size_t		npeople = put_first(clicks, n, people_until);

		write_order(ORDER_USER, clicks, npeople, 0);
		write_order(ORDER_IP, clicks, npeople, 0);
	}
}

int64
accumulate_ledger(Facts *clicks, bool restored)
{
	StoreWriter *writer;
	int64		run_id;

	if (clicks->n == 0)
		return 0;
	facts_sum_up(clicks);
	run_id = store_new_run();
	writer = restored ? store_writer_begin_restored(run_id) :
		store_writer_begin_as(ORDER_LEDGER, clicks->n < LARGE_RUN_FACTS, run_id);
	store_writer_add(writer, clicks, 0, clicks->n);
	store_writer_end(writer);
	clicks->n = 0;
	return run_id;
}

void
accumulate_clicks(FactClick *clicks, size_t n, int64 people_until, int64 ledger_run)
{
	if (n == 0)
		return;
	accumulate_facts(clicks, n, people_until);
	if (!adclick_user_and_ip_orders)
		note_gaps(clicks, put_first(clicks, n, people_until));
	write_order(ORDER_LEDGER, clicks, n, ledger_run);
}
