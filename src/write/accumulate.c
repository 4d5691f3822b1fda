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

/* Make and write the facts of an order. */
typedef struct OrderWriting
{
	MemoryContext context;
	MemoryContext outer;
	FactOrder	order;
	Facts		facts;
} OrderWriting;

static void
begin_order(OrderWriting *writing, FactOrder order, size_t capacity)
{
	int			ncolumns = order_columns[order];

	writing->context = AllocSetContextCreate(CurrentMemoryContext, "adclick accumulate",
											 ALLOCSET_DEFAULT_SIZES);
	writing->outer = MemoryContextSwitchTo(writing->context);
	writing->order = order;
	facts_init(&writing->facts, ncolumns, capacity,
			   MemoryContextAllocHuge(writing->context, facts_memory(ncolumns, capacity)));
}

static void
end_order(OrderWriting *writing)
{
	Facts	   *facts = &writing->facts;
	StoreWriter *writer;

	if (facts->n > 0)
	{
		facts_sum_up(facts);
		writer = store_writer_begin(writing->order, writing->order == ORDER_AD || facts->n < LARGE_RUN_FACTS);
		store_writer_add(writer, facts, 0, facts->n);
		store_writer_end(writer);
	}
	MemoryContextSwitchTo(writing->outer);
	MemoryContextDelete(writing->context);
}

static void
write_order(FactOrder order, const FactClick *clicks, size_t n)
{
	OrderWriting writing;

	begin_order(&writing, order, n);
	order_append(order, clicks, n, &writing.facts);
	end_order(&writing);
}

void
accumulate_keys(const SeenClick *clicks, size_t n)
{
	const int  *column = order_column[ORDER_KEY];
	OrderWriting writing;
	Facts	   *facts = &writing.facts;

	begin_order(&writing, ORDER_KEY, n + 1);
	for (size_t i = 0; i < n; i++)
	{
		if (clicks[i].verdict != SEEN_NEW)
			continue;
		facts->key[column[ROLE_KEY_HIGH]][facts->n] = clicks[i].key.key.hi;
		facts->key[column[ROLE_KEY_LOW]][facts->n] = clicks[i].key.key.lo;
		facts->key[column[ROLE_BUCKET]][facts->n] = facts_from_int64(clicks[i].key.bucket);
		facts->count[facts->n++] = 1;
	}
	end_order(&writing);
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

void
accumulate_clicks(const FactClick *clicks, size_t n)
{
	if (n == 0)
		return;
	write_order(ORDER_AD, clicks, n);
	if (adclick_user_and_ip_orders)
	{
		write_order(ORDER_USER, clicks, n);
		write_order(ORDER_IP, clicks, n);
	}
	else
		note_gaps(clicks, n);
}
