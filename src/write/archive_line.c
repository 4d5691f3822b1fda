/*-------------------------------------------------------------------------
 *
 * archive_line.c
 *	  A line of an archived file: a click of the ledger, as text and back.
 *
 * See archive_line.h.  The first columns are those of the log, for who reads the file; the
 * others give back what the ledger had.  Numbers of filters are not among them: texts mean
 * the same everywhere.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/socket.h>

#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "archive_line.h"
#include "base/adclick.h"
#include "read/ledger.h"
#include "store/filters.h"
#include "store/store.h"

/* As many copies as a run can say to have, with some room: their sum does not overflow. */
#define MOST_COPIES INT64CONST(1000000000000000)

static const char *const kinds[] = {
	[LINE_IS_CLICK] = "click",
	[LINE_IS_COUNTED] = "counted",
	[LINE_IS_ARRIVED] = "arrived"
};

static Datum
kind_text(LineKind kind)
{
	return CStringGetTextDatum(kinds[kind]);
}

pg_noreturn static void
refuse(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("a line of the file cannot be"),
			 errdetail_internal("%s", detail)));
}

void
line_of_click(const FactClick *click, uint64 copies, Datum *values, bool *nulls)
{
	const Dimensions *filter = filters_dimensions(click->filter_id);
	Datum	   *row = values + LINE_CLICK - 1;	/* by the numbers of the inbox's columns */
	bool	   *row_nulls = nulls + LINE_CLICK - 1;
	const DedupKey *id = (click->flags & LEDGER_ID_IS_KEY) ? &click->key : &click->id;
	TimestampTz received_at = click_arrival(click->clicked_at, click->delay);

	if (!IS_VALID_TIMESTAMP(received_at))
		refuse("It arrived at a time that cannot be.");
	memset(nulls, false, sizeof(bool) * LINE_COLUMNS);
	values[LINE_KIND] = kind_text((click->flags & LEDGER_UNPACKED) ? LINE_IS_COUNTED : LINE_IS_CLICK);
	row[CLICK_ID] = key_to_uuid(id);
	row_nulls[CLICK_ID] = !(click->flags & (LEDGER_ID_IS_KEY | LEDGER_ID_APART));
	row[CLICK_AD_ID] = Int64GetDatum(click->ad_id);
	row[CLICK_CLICKED_AT] = TimestampTzGetDatum(click->clicked_at);
	row_nulls[CLICK_CLICKED_AT] = !(click->flags & LEDGER_HAS_CLICKED_AT);
	row[CLICK_USER_ID] = Int64GetDatum(click->user_id);
	row_nulls[CLICK_USER_ID] = !click->has_user;
	row[CLICK_RECEIVED_AT] = TimestampTzGetDatum(received_at);
	row[CLICK_IP] = InetPGetDatum(ip_to_inet(&click->ip));
	row_nulls[CLICK_IP] = click->ip.family == 0;
	ledger_dimensions(filter, click->flags, &row[CLICK_COUNTRY], &row_nulls[CLICK_COUNTRY]);
	values[LINE_COPIES] = Int64GetDatum((int64) copies);
	for (int d = 0; d < DIMENSIONS; d++)
		values[LINE_COUNTED + d] = PointerGetDatum(cstring_to_text_with_len(filter->value[d], filter->length[d]));
	/* what stands there already is not said twice: it would be a quarter of the file */
	values[LINE_KEY] = key_to_uuid(&click->key);
	nulls[LINE_KEY] = (click->flags & LEDGER_ID_IS_KEY) != 0;
	values[LINE_BUCKET] = Int64GetDatum(click->bucket);
	values[LINE_EVENT_TIME] = TimestampTzGetDatum(click->clicked_at);
	nulls[LINE_EVENT_TIME] = (click->flags & LEDGER_HAS_CLICKED_AT) != 0;
	values[LINE_DELAY] = Int64GetDatum(click->delay);
	values[LINE_FLAGS] = Int32GetDatum((int32) click->flags);
}

void
line_of_row(Datum *values, bool *nulls)
{
	values[LINE_KIND] = kind_text(LINE_IS_ARRIVED);
	nulls[LINE_KIND] = false;
	for (int i = LINE_COPIES; i < LINE_COLUMNS; i++)
		nulls[i] = true;
}

LineKind
line_kind(const Datum *values, const bool *nulls)
{
	char	   *name = nulls[LINE_KIND] ? NULL : TextDatumGetCString(values[LINE_KIND]);

	for (LineKind kind = 0; name && kind < lengthof(kinds); kind++)
		if (strcmp(name, kinds[kind]) == 0)
			return kind;
	refuse("It is of no kind that there is.");
}

/* A time whose minute can be reckoned with. */
static TimestampTz
time_of(Datum value)
{
	TimestampTz time = DatumGetTimestampTz(value);

	if (!IS_VALID_TIMESTAMP(time))
		refuse("It has a time that cannot be.");
	return time;
}

static void
read_counted(const Datum *values, Dimensions *counted)
{
	for (int d = 0; d < DIMENSIONS; d++)
	{
		text	   *value = DatumGetTextPP(values[LINE_COUNTED + d]);

		counted->value[d] = VARDATA_ANY(value);
		counted->length[d] = VARSIZE_ANY_EXHDR(value);
		if (counted->length[d] == 0 || counted->length[d] > DIMENSION_MAX_LENGTH)
			refuse("It was counted under a combination that cannot be.");
	}
}

static void
read_ip(Datum value, FactClick *click)
{
	inet	   *address = DatumGetInetPP(value);

	if (ip_bits(address) != ip_maxbits(address))
		refuse("It has the address of a network.");
	ip_from_inet(address, &click->ip);
}

/* What the flags say is there, and nothing else. */
static void
check_flags(const FactClick *click, LineKind kind, const bool *nulls)
{
	const bool *row_nulls = nulls + LINE_CLICK - 1;
	uint32		flags = click->flags;
	uint8		family = (flags & LEDGER_IPV4) ? 4 : (flags & LEDGER_IPV6) ? 6 : 0;

	if (!ledger_flags_possible(flags) || ((flags & LEDGER_UNPACKED) != 0) != (kind == LINE_IS_COUNTED) ||
		((flags & LEDGER_HAS_USER) != 0) != click->has_user || family != click->ip.family ||
		((flags & LEDGER_HAS_CLICKED_AT) == 0) != row_nulls[CLICK_CLICKED_AT] ||
		((flags & LEDGER_HAS_CLICKED_AT) != 0) != nulls[LINE_EVENT_TIME] ||
		((flags & (LEDGER_ID_IS_KEY | LEDGER_ID_APART)) == 0) != row_nulls[CLICK_ID] ||
		((flags & LEDGER_ID_IS_KEY) != 0) != nulls[LINE_KEY])
		refuse("It has flags that cannot be.");
}

static void
check_times(const FactClick *click)
{
	int64		begins = store_minute(ORDER_LEDGER, facts_from_int64(click->bucket));
	TimestampTz arrival = click_arrival(click->clicked_at, click->delay);

	if (click->minute - begins > 2 * MINS_PER_HOUR * HOURS_PER_DAY || begins - click->minute > 2 * MINS_PER_HOUR * HOURS_PER_DAY)
		refuse("Its dedup bucket is not of its time.");
	if (!IS_VALID_TIMESTAMP(arrival) || click_delay(click->clicked_at, arrival) != click->delay)
		refuse("It arrived at a time that cannot be.");
}

void
line_to_click(const Datum *values, const bool *nulls, FactClick *click, uint64 *copies, Dimensions *counted)
{
	const Datum *row = values + LINE_CLICK - 1;
	const bool *row_nulls = nulls + LINE_CLICK - 1;
	int64		n;

	for (int i = LINE_COPIES; i < LINE_COLUMNS; i++)
		if (nulls[i] && i != LINE_KEY && i != LINE_EVENT_TIME)
			refuse("It lacks how it was counted.");
	if (row_nulls[CLICK_AD_ID])
		refuse("It has no ad.");
	n = DatumGetInt64(values[LINE_COPIES]);
	if (n < 1 || n > MOST_COPIES)
		refuse("It has a number of copies that cannot be.");
	*copies = (uint64) n;
	memset(click, 0, sizeof(*click));
	click->ad_id = DatumGetInt64(row[CLICK_AD_ID]);
	click->has_user = !row_nulls[CLICK_USER_ID];
	click->user_id = click->has_user ? DatumGetInt64(row[CLICK_USER_ID]) : 0;
	if (!row_nulls[CLICK_IP])
		read_ip(row[CLICK_IP], click);
	read_counted(values, counted);
	click->flags = (uint32) DatumGetInt32(values[LINE_FLAGS]);
	click->delay = DatumGetInt64(values[LINE_DELAY]);
	click->bucket = DatumGetInt64(values[LINE_BUCKET]);
	check_flags(click, line_kind(values, nulls), nulls);
	click->clicked_at = time_of(nulls[LINE_EVENT_TIME] ? row[CLICK_CLICKED_AT] : values[LINE_EVENT_TIME]);
	click->minute = minute_of(click->clicked_at);
	click->key = key_of_uuid(nulls[LINE_KEY] ? row[CLICK_ID] : values[LINE_KEY]);
	if (click->flags & LEDGER_ID_APART)
		click->id = key_of_uuid(row[CLICK_ID]);
	check_times(click);
}

int64
line_row_minute(const Datum *values, const bool *nulls)
{
	int			column = LINE_CLICK - 1 + (nulls[LINE_CLICK - 1 + CLICK_CLICKED_AT] ? CLICK_RECEIVED_AT : CLICK_CLICKED_AT);

	if (nulls[column] || nulls[LINE_CLICK - 1 + CLICK_AD_ID])
		refuse("It has no time, or no ad.");
	return minute_of(time_of(values[column]));
}
