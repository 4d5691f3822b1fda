/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  The clicks that were counted, read back from order ledger.
 *
 * See ledger.h.  Runs are read one after the other: nobody needs clicks in the order
 * of their keys.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "core/segment.h"
#include "inbox/click.h"
#include "ledger.h"
#include "store/filters.h"
#include "store/store.h"

/* Reading all runs of an order. */
typedef struct Reader
{
	MemoryContext context;
	MemoryContext of_segment;	/* reset after each */
	FactOrder	order;
	StoreScan  *scan;			/* of the run being read */
	Facts		segment;
	LedgerTotals *totals;		/* of add_totals */
	ledger_callback callback;	/* of return_clicks */
	ledger_click_callback click_callback;	/* of pick_clicks */
	int64		from;			/* minutes it is about */
	int64		to;
	void	   *arg;
} Reader;

static inline uint64
value_at(const Reader *reader, FactRole role, size_t i)
{
	return reader->segment.key[order_column(ORDER_LEDGER, role)][i];
}

/* What cannot be was written by someone: the checksum of the segment is right. */
static uint64
flags_at(const Reader *reader, size_t i)
{
	uint64		flags = value_at(reader, ROLE_FLAGS, i);

	if (!ledger_flags_possible(flags))
		store_scan_corrupt(reader->scan, "it has flags that cannot be");
	if (!(flags & LEDGER_HAS_USER) && value_at(reader, ROLE_USER, i) != facts_from_int64(0))
		store_scan_corrupt(reader->scan, "it has the user of a click without one");
	if (!(flags & (LEDGER_IPV4 | LEDGER_IPV6)) && (value_at(reader, ROLE_IP_HIGH, i) | value_at(reader, ROLE_IP_LOW, i)) != 0)
		store_scan_corrupt(reader->scan, "it has the address of a click without one");
	return flags;
}

static TimestampTz
check_time(const Reader *reader, TimestampTz time)
{
	if (!IS_VALID_TIMESTAMP(time))
		store_scan_corrupt(reader->scan, "it has a time that cannot be");
	return time;
}

static Datum
id_at(const Reader *reader, uint64 flags, size_t i)
{
	bool		is_key = (flags & LEDGER_ID_IS_KEY) != 0;
	DedupKey	id = {
		value_at(reader, is_key ? ROLE_KEY_HIGH : ROLE_ID_HIGH, i),
		value_at(reader, is_key ? ROLE_KEY_LOW : ROLE_ID_LOW, i)
	};

	return key_to_uuid(&id);
}

static IpAddress
ip_at(const Reader *reader, uint64 flags, size_t i)
{
	return (IpAddress) {
		value_at(reader, ROLE_IP_HIGH, i), value_at(reader, ROLE_IP_LOW, i),
		flags & LEDGER_IPV4 ? 4 : flags & LEDGER_IPV6 ? 6 : 0
	};
}

void
ledger_dimensions(const Dimensions *filter, uint64 flags, Datum *values, bool *nulls)
{
	for (int d = 0; d < DIMENSIONS; d++)
	{
		DimensionGiven given = ledger_dimension_given(flags, d);

		nulls[d] = given == DIMENSION_NULL;
		values[d] = PointerGetDatum(cstring_to_text_with_len(filter->value[d],
															 given == DIMENSION_TEXT ? filter->length[d] : 0));
	}
}

static void
return_click(const Reader *reader, uint64 flags, size_t i)
{
	Datum		values[CLICK_COLUMNS];
	bool		nulls[CLICK_COLUMNS] = {false};
	TimestampTz at = check_time(reader, facts_to_int64(value_at(reader, ROLE_CLICKED_AT, i)));
	IpAddress	ip = ip_at(reader, flags, i);

	values[CLICK_ID - 1] = id_at(reader, flags, i);
	nulls[CLICK_ID - 1] = !(flags & (LEDGER_ID_IS_KEY | LEDGER_ID_APART));
	values[CLICK_AD_ID - 1] = Int64GetDatum(facts_to_int64(value_at(reader, ROLE_AD, i)));
	values[CLICK_CLICKED_AT - 1] = TimestampTzGetDatum(at);
	nulls[CLICK_CLICKED_AT - 1] = !(flags & LEDGER_HAS_CLICKED_AT);
	values[CLICK_USER_ID - 1] = Int64GetDatum(facts_to_int64(value_at(reader, ROLE_USER, i)));
	nulls[CLICK_USER_ID - 1] = !(flags & LEDGER_HAS_USER);
	values[CLICK_RECEIVED_AT - 1] = TimestampTzGetDatum(
		check_time(reader, click_arrival(at, facts_to_int64(value_at(reader, ROLE_DELAY, i)))));
	values[CLICK_IP - 1] = InetPGetDatum(ip_to_inet(&ip));
	nulls[CLICK_IP - 1] = ip.family == 0;
	ledger_dimensions(filters_dimensions((int32) value_at(reader, ROLE_FILTER, i)), flags,
					  &values[CLICK_COUNTRY - 1], &nulls[CLICK_COUNTRY - 1]);
	for (uint64 copies = reader->segment.count[i]; copies > 0; copies--)
	{
		CHECK_FOR_INTERRUPTS();
		reader->callback(values, nulls, reader->arg);
	}
}

static void
return_clicks(Reader *reader)
{
	for (size_t i = 0; i < reader->segment.n; i++)
	{
		uint64		flags = flags_at(reader, i);

		if (!(flags & LEDGER_UNPACKED))
			return_click(reader, flags, i);
	}
}

static FactClick
click_at(const Reader *reader, TimestampTz at, uint64 flags, size_t i)
{
	return (FactClick) {
		.ad_id = facts_to_int64(value_at(reader, ROLE_AD, i)),
		.minute = minute_of(at),
		.user_id = facts_to_int64(value_at(reader, ROLE_USER, i)),
		.ip = ip_at(reader, flags, i),
		.filter_id = (int32) value_at(reader, ROLE_FILTER, i),
		.has_user = (flags & LEDGER_HAS_USER) != 0,
		.flags = (uint32) flags,
		.clicked_at = at,
		.delay = facts_to_int64(value_at(reader, ROLE_DELAY, i)),
		.key = {value_at(reader, ROLE_KEY_HIGH, i), value_at(reader, ROLE_KEY_LOW, i)},
		.bucket = facts_to_int64(value_at(reader, ROLE_BUCKET, i)),
		.id = {value_at(reader, ROLE_ID_HIGH, i), value_at(reader, ROLE_ID_LOW, i)}
	};
}

static inline bool
is_asked_for(const Reader *reader, int64 minute)
{
	return minute >= reader->from && minute <= reader->to;
}

/* Most are of other minutes: they are not put together. */
static void
pick_clicks(Reader *reader)
{
	for (size_t i = 0; i < reader->segment.n; i++)
	{
		uint64		flags = flags_at(reader, i);
		TimestampTz at = check_time(reader, facts_to_int64(value_at(reader, ROLE_CLICKED_AT, i)));

		if (is_asked_for(reader, minute_of(at)) ||
			is_asked_for(reader, store_minute(ORDER_LEDGER, value_at(reader, ROLE_BUCKET, i))))
		{
			FactClick	click = click_at(reader, at, flags, i);

			reader->click_callback(&click, reader->segment.count[i], reader->arg);
		}
	}
}

static void
add_totals(Reader *reader)
{
	LedgerTotals *totals = reader->totals;

	for (size_t i = 0; i < reader->segment.n; i++)
	{
		int64		clicks = (int64) reader->segment.count[i];

		if (reader->order == ORDER_DAY)
		{
			/* of others, the directory has them by day */
			if (facts_to_int64(reader->segment.key[store_minute_column(ORDER_DAY)][i]) <= reader->to)
				totals->days += clicks;
		}
		else if (reader->order == ORDER_AD)
			totals->facts += clicks;
		else if (flags_at(reader, i) & LEDGER_UNPACKED)
			totals->unpacked += clicks;
		else
			totals->packed += clicks;
	}
}

static void
read_run(Reader *reader, const StoreRun *run, void (*each_segment) (Reader *reader))
{
	int64		clicks = 0;

	reader->scan = store_scan_begin(store_table(run));
	store_scan_run(reader->scan, run, 0, PG_UINT64_MAX);
	while (store_scan_next(reader->scan, STORE_WHOLE_KEY, &reader->segment))
	{
		MemoryContextSwitchTo(reader->of_segment);
		each_segment(reader);
		for (size_t i = 0; i < reader->segment.n; i++)
			clicks += (int64) reader->segment.count[i];
		MemoryContextSwitchTo(reader->context);
		MemoryContextReset(reader->of_segment);
	}
	store_scan_end(reader->scan);
	if (clicks != run->clicks)
		store_damaged_run(run->run_id, "Its row in adclick_internal.runs has another number of clicks than its segments.");
}

/* Go through all segments of some runs of an order. */
static void
read_runs(Reader *reader, FactOrder order, const StoreRun *runs, int nruns, void (*each_segment) (Reader *reader))
{
	MemoryContext outer = CurrentMemoryContext;

	reader->order = order;
	reader->context = AllocSetContextCreate(outer, "adclick ledger", ALLOCSET_DEFAULT_SIZES);
	reader->of_segment = AllocSetContextCreate(reader->context, "adclick ledger segment", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(reader->context);
	facts_init(&reader->segment, order_columns[order], SEGMENT_MAX_FACTS,
			   palloc(facts_memory(order_columns[order], SEGMENT_MAX_FACTS)));
	for (int i = 0; i < nruns; i++)
		read_run(reader, &runs[i], each_segment);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(reader->context);
}

/* Those that have one of these minutes. */
static void
read_order(Reader *reader, FactOrder order, int64 from, int64 to, void (*each_segment) (Reader *reader))
{
	int			nruns;
	StoreRun   *runs = store_get_runs(order, from, to, &nruns);

	read_runs(reader, order, runs, nruns, each_segment);
	pfree(runs);
}

/* Those of order ledger, and of it what came back from files. */
static void
read_ledger(Reader *reader, int64 from, int64 to, void (*each_segment) (Reader *reader))
{
	int			nruns;
	StoreRun   *runs = store_get_restored_runs(from, to, &nruns);

	read_order(reader, ORDER_LEDGER, from, to, each_segment);
	read_runs(reader, ORDER_LEDGER, runs, nruns, each_segment);
	pfree(runs);
}

void
ledger_each(ledger_callback callback, void *arg)
{
	Reader		reader = {.callback = callback, .arg = arg};

	filters_refresh();
	read_ledger(&reader, FIRST_MINUTE, LAST_MINUTE, return_clicks);
}

void
ledger_each_click(int64 from, int64 to, ledger_click_callback callback, void *arg)
{
	Reader		reader = {.click_callback = callback, .from = from, .to = to, .arg = arg};

	read_ledger(&reader, from, to, pick_clicks);
}

void
ledger_each_of_run(const StoreRun *run, ledger_click_callback callback, void *arg)
{
	Reader		reader = {.click_callback = callback, .from = FIRST_MINUTE, .to = LAST_MINUTE, .arg = arg};

	read_runs(&reader, ORDER_LEDGER, run, 1, pick_clicks);
}

void
ledger_count(int64 minutes_dropped_until, LedgerTotals *totals)
{
	Reader		reader = {.totals = totals, .to = minutes_dropped_until};

	memset(totals, 0, sizeof(*totals));
	read_order(&reader, ORDER_AD, FIRST_MINUTE, LAST_MINUTE, add_totals);
	read_order(&reader, ORDER_DAY, FIRST_MINUTE, LAST_MINUTE, add_totals);
	read_order(&reader, ORDER_LEDGER, FIRST_MINUTE, LAST_MINUTE, add_totals);
}
