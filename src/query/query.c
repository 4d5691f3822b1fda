/*-------------------------------------------------------------------------
 *
 * query.c
 *	  The questions: arguments in, rows out.
 *
 * An answer is segments + deltas + tail, all seen in the caller's snapshot.
 * Each question comes twice: name() with a window of the last minutes, and
 * name_between() with one from/to.  It is answered with the rights of the
 * function's owner; who asks decides what may be asked, and of which ads.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "read/conditions.h"
#include "read/gather.h"
#include "read/horizon.h"
#include "read/rank.h"
#include "read/scope.h"
#include "read/slices.h"
#include "store/store.h"
#include "write/lists.h"

/* Rows that click_series returns at most. */
#define MAX_BUCKETS 1000000

/* The years of a series, 1 to 9999: far enough from the bounds of timestamps and intervals to reckon freely. */
#define SERIES_DAYS INT64CONST(3652059)
#define FIRST_SERIES_TIME (INT64CONST(-730119) * USECS_PER_DAY)
#define LAST_SERIES_TIME (FIRST_SERIES_TIME + SERIES_DAYS * USECS_PER_DAY)

/*
 * The arguments of a question are (subject, minutes, more, filters), or of its
 * twin (subject, "from", "to", more, filters), with so many more.
 */
static bool
has_window(FunctionCallInfo fcinfo, int more)
{
	return PG_NARGS() == 4 + more;
}

/* What the arguments ask for, but for the subject and more; and whether the asker may, in which scope. */
static void
read_arguments(FunctionCallInfo fcinfo, int more, Oid asker, Conditions *conditions, IdList *scope)
{
	memset(conditions, 0, sizeof(*conditions));
	scope_of(asker, scope);
	if (has_window(fcinfo, more))
		conditions_window(conditions, PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2));
	else
		conditions_last_minutes(conditions, PG_GETARG_INT32(1));
	conditions_filters(conditions, PG_GETARG_JSONB_P(PG_NARGS() - 1), scope);
	if (conditions->users.given || conditions->has_ips)
		privileges_require_reader(asker);
}

/* The same of a question about an ad, which is the subject. */
static void
read_arguments_of_ad(FunctionCallInfo fcinfo, int more, Oid asker, Conditions *conditions)
{
	int64		ad_id = PG_GETARG_INT64(0);
	IdList		scope;

	read_arguments(fcinfo, more, asker, conditions, &scope);
	scope_require_ad(&scope, ad_id);
	conditions_ad(conditions, ad_id);
}

static void
put_row(ReturnSetInfo *result, Datum *values)
{
	bool		nulls[16] = {false};

	CHECK_FOR_INTERRUPTS();
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static Datum
count_clicks(const Conditions *conditions)
{
	Gathering  *g = gather(conditions, NULL, 0, false);
	uint64		clicks = gather_clicks(g);

	gather_end(g);
	return Int64GetDatum((int64) clicks);
}

static Datum
ad_click_count(FunctionCallInfo fcinfo, Oid asker)
{
	Conditions	conditions;

	read_arguments_of_ad(fcinfo, 0, asker, &conditions);
	return count_clicks(&conditions);
}

static Datum
advertiser_click_count(FunctionCallInfo fcinfo, Oid asker)
{
	Conditions	conditions;
	IdList		scope;

	read_arguments(fcinfo, 0, asker, &conditions, &scope);
	scope_require_advertiser(&scope, PG_GETARG_INT64(0));
	conditions_advertiser(&conditions, PG_GETARG_INT64(0));
	return count_clicks(&conditions);
}

static Datum
unique_users(FunctionCallInfo fcinfo, Oid asker)
{
	Conditions	conditions;

	privileges_require_reader(asker);
	read_arguments_of_ad(fcinfo, 0, asker, &conditions);
	PG_RETURN_INT64((int64) gather_unique_users(&conditions));
}

/*----------
 * breakdown
 *----------
 */

/* A value of the dimension, and its clicks. */
typedef struct ValueClicks
{
	const char *value;
	int			length;
	uint64		clicks;
} ValueClicks;

static int
compare_values(const void *a, const void *b)
{
	const ValueClicks *x = a;
	const ValueClicks *y = b;
	int			order = memcmp(x->value, y->value, Min(x->length, y->length));

	return order != 0 ? order : x->length - y->length;
}

static int
compare_clicks(const void *a, const void *b)
{
	const ValueClicks *x = a;
	const ValueClicks *y = b;

	return x->clicks != y->clicks ? (x->clicks < y->clicks) - (x->clicks > y->clicks) :
		compare_values(a, b);
}

static int
dimension_argument(text *name)
{
	for (int i = 0; i < DIMENSIONS; i++)
		if (VARSIZE_ANY_EXHDR(name) == strlen(dimension_names[i]) &&
			memcmp(VARDATA_ANY(name), dimension_names[i], VARSIZE_ANY_EXHDR(name)) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown dimension \"%s\"", conditions_shown(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name))),
			 errhint("Dimensions are country, region and device.")));
	return -1;
}

static void
return_breakdown(FunctionCallInfo fcinfo, const Conditions *conditions, int dimension)
{
	static const FactRole by_filter[] = {ROLE_FILTER};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Gathering  *g = gather(conditions, by_filter, lengthof(by_filter), false);
	const Facts *sums = gather_facts(g);
	ValueClicks *values = palloc(sizeof(ValueClicks) * (sums->n + 1));
	int			n = 0;

	for (size_t i = 0; i < sums->n; i++)
	{
		const Dimensions *dimensions = filters_dimensions((int32) sums->key[0][i]);

		values[i] = (ValueClicks) {
			dimensions->value[dimension], dimensions->length[dimension], sums->count[i]
		};
	}
	qsort(values, sums->n, sizeof(ValueClicks), compare_values);
	for (size_t i = 0; i < sums->n; i++)
	{
		if (n > 0 && compare_values(&values[n - 1], &values[i]) == 0)
			values[n - 1].clicks += values[i].clicks;
		else
			values[n++] = values[i];
	}
	qsort(values, n, sizeof(ValueClicks), compare_clicks);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
		put_row(result, (Datum[]) {
			PointerGetDatum(cstring_to_text_with_len(values[i].value, values[i].length)),
			Int64GetDatum((int64) values[i].clicks)
		});
	gather_end(g);
}

static Datum
breakdown(FunctionCallInfo fcinfo, Oid asker)
{
	Conditions	conditions;
	int			dimension = dimension_argument(PG_GETARG_TEXT_PP(has_window(fcinfo, 1) ? 3 : 2));

	read_arguments_of_ad(fcinfo, 1, asker, &conditions);
	return_breakdown(fcinfo, &conditions, dimension);
	return (Datum) 0;
}

/*----------
 * click_series
 *----------
 */

static void
refuse_bucket(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("bucket must be a positive number of whole minutes"),
			 errdetail_internal("%s", detail),
			 errhint("For example '5 minutes', '1 hour', '1 day' or '1 month'.")));
}

static void
check_series_time(TimestampTz at, const char *name)
{
	if (at < FIRST_SERIES_TIME || at > LAST_SERIES_TIME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" of a series must be in the years 1 to 9999", name),
				 errdetail("It is %s.", timestamptz_to_str(at))));
}

/* No bucket has to be longer than all windows. */
static Interval
bounded_bucket(const Interval *bucket)
{
	return (Interval) {
		.time = Min(bucket->time, (SERIES_DAYS + 1) * USECS_PER_DAY),
		.day = Min(bucket->day, SERIES_DAYS + 1),
		.month = Min(bucket->month, MONTHS_PER_YEAR * 10000)
	};
}

/*
 * Where the buckets begin, as minutes, and the end of the last.  A bucket of days
 * or months follows the calendar of the session's time zone, as timestamptz +
 * interval does; each is counted from the first, so that the 31st comes back.
 */
static int64 *
bucket_bounds(TimestampTz from, TimestampTz to, const Interval *bucket, int *nbuckets)
{
	int			room = 64;
	int64	   *bounds = palloc(sizeof(int64) * (room + 1));
	TimestampTz at = from;
	Interval	step = bounded_bucket(bucket);
	int			n = 0;

	if (TIMESTAMP_NOT_FINITE(from) || TIMESTAMP_NOT_FINITE(to))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a series needs a finite \"from\" and \"to\""),
				 errhint("Use top_n_ads or ad_click_count to ask about all time.")));
	check_series_time(from, "from");
	check_series_time(to, "to");
	if (bucket->time % USECS_PER_MINUTE != 0)
		refuse_bucket("Clicks are counted by minute.");
	if (bucket->time < 0 || bucket->day < 0 || bucket->month < 0 ||
		(bucket->time == 0 && bucket->day == 0 && bucket->month == 0))
		refuse_bucket("It does not lead ahead in time.");
	while (at < to)
	{
		Datum		steps;

		CHECK_FOR_INTERRUPTS();
		if (n == MAX_BUCKETS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a series has no more than %d buckets", MAX_BUCKETS),
					 errhint("Use a longer bucket or a shorter window.")));
		if (n == room)
		{
			room *= 2;
			bounds = repalloc(bounds, sizeof(int64) * (room + 1));
		}
		bounds[n++] = minute_of(at);
		steps = DirectFunctionCall2(interval_mul, IntervalPGetDatum(&step), Float8GetDatum(n));
		at = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													 TimestampTzGetDatum(from), steps));
		pfree(DatumGetPointer(steps));
		if (minute_of(at) * USECS_PER_MINUTE != at || minute_of(at) <= bounds[n - 1])
			refuse_bucket("In this time zone its buckets do not begin at whole minutes.");
	}
	bounds[n] = minute_of(to);
	*nbuckets = n;
	return bounds;
}

/* Whether no day (UTC) that lies within the window is parted by two buckets. */
static bool
have_whole_days(const int64 *bounds, int nbuckets)
{
	for (int i = 1; i < nbuckets; i++)
		if (day_of(bounds[i]) != bounds[i])
			return false;
	return true;
}

static Datum
click_series(FunctionCallInfo fcinfo, Oid asker)
{
	static const FactRole by_minute[] = {ROLE_MINUTE};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Conditions	conditions;
	int			nbuckets;
	int64	   *bounds;
	Gathering  *g;
	const Facts *sums;
	size_t		next = 0;

	read_arguments_of_ad(fcinfo, 1, asker, &conditions);
	bounds = bucket_bounds(PG_GETARG_TIMESTAMPTZ(1), PG_GETARG_TIMESTAMPTZ(2),
						   PG_GETARG_INTERVAL_P(3), &nbuckets);
	g = gather(&conditions, by_minute, lengthof(by_minute), !have_whole_days(bounds, nbuckets));
	sums = gather_facts(g);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < nbuckets; i++)
	{
		int64		clicks = 0;

		for (; next < sums->n && facts_to_int64(sums->key[0][next]) < bounds[i + 1]; next++)
			clicks += sums->count[next];
		put_row(result, (Datum[]) {
			TimestampTzGetDatum(bounds[i] * USECS_PER_MINUTE), Int64GetDatum(clicks)
		});
	}
	gather_end(g);
	return (Datum) 0;
}

/*----------
 * top_n_ads
 *----------
 */

/* What is asked of top_n_ads and explain_top_n, ranked. */
static void
rank(FunctionCallInfo fcinfo, Oid asker, Ranking *ranking)
{
	int32		n = PG_GETARG_INT32(0);
	Conditions	conditions;
	IdList		scope;

	read_arguments(fcinfo, 0, asker, &conditions, &scope);
	conditions_scope(&conditions, &scope);
	if (n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("n must be at least 1"),
				 errdetail("It is %d.", n),
				 errhint("10 asks for the ten ads with the most clicks.")));
	rank_ads(n, &conditions, ranking);
}

static Datum
top_n_ads(FunctionCallInfo fcinfo, Oid asker)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Ranking		ranking;

	rank(fcinfo, asker, &ranking);
	InitMaterializedSRF(fcinfo, 0);
	for (size_t i = 0; i < ranking.top.n; i++)
		put_row(result, (Datum[]) {
			Int32GetDatum((int32) i + 1),
			Int64GetDatum(facts_to_int64(ranking.top.heap[i].ad)),
			Int64GetDatum((int64) ranking.top.heap[i].clicks)
		});
	return (Datum) 0;
}

static Datum
explain_top_n(FunctionCallInfo fcinfo, Oid asker)
{
	size_t		n = PG_GETARG_INT32(0);
	Ranking		ranking;
	uint64		nth;

	rank(fcinfo, asker, &ranking);
	nth = ranking.top.n >= n ? ranking.top.heap[n - 1].clicks : 0;
	InitMaterializedSRF(fcinfo, 0);
	put_row((ReturnSetInfo *) fcinfo->resultinfo, (Datum[]) {
		CStringGetTextDatum(ranking.way),
		Int32GetDatum(ranking.lists),
		Int64GetDatum((int64) ranking.cut_off),
		Int64GetDatum((int64) nth),
		Int32GetDatum(ranking.candidates),
		Int32GetDatum(ranking.read.probes),
		Int32GetDatum(ranking.read.runs),
		Int64GetDatum(ranking.read.segments),
		Int64GetDatum(ranking.read.facts),
		Int64GetDatum(ranking.read.tail)
	});
	return (Datum) 0;
}

/* That minutes of a window are there: for who reads them from a view. */
static Datum
require_minutes(FunctionCallInfo fcinfo, Oid asker)
{
	TimestampTz from = PG_GETARG_TIMESTAMPTZ(0);
	TimestampTz to = PG_GETARG_TIMESTAMPTZ(1);
	StoreState	state;

	store_get_state(&state);
	if (from < to)
		horizon_require(&state, minute_of(from), minute_of(to - 1) + 1, true);
	PG_RETURN_BOOL(true);
}

/*----------
 * Registered filters
 *----------
 */

static Datum
add_filter(FunctionCallInfo fcinfo, Oid asker)
{
	StoreFilter filter;
	int32		filter_id;
	bool		added;
	int			level;

	prevent_read_only("adclick.add_filter()");
	conditions_read_filter(PG_GETARG_JSONB_P(0), &filter);
	level = definitions_begin_writes();
	added = lists_add_filter(&filter, &filter_id);
	definitions_end_writes(level);
	if (!added)
		ereport(NOTICE,
				(errmsg("this filter is registered already"),
				 errdetail("It has the filter_id %d.", filter_id)));
	PG_RETURN_INT32(filter_id);
}

static Datum
drop_filter(FunctionCallInfo fcinfo, Oid asker)
{
	StoreFilter filter;
	bool		dropped;
	int			level;

	prevent_read_only("adclick.drop_filter()");
	conditions_read_filter(PG_GETARG_JSONB_P(0), &filter);
	level = definitions_begin_writes();
	dropped = lists_drop_filter(&filter);
	definitions_end_writes(level);
	if (!dropped)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("this filter is not registered"),
				 errhint("Registered ones are the rows of adclick.filters with a NULL.")));
	PG_RETURN_VOID();
}

/*----------
 * The SQL functions
 *----------
 */

SQL_FUNCTION_AS_OWNER(ad_click_count);
SQL_FUNCTION_AS_OWNER(advertiser_click_count);
SQL_FUNCTION_AS_OWNER(unique_users);
SQL_FUNCTION_AS_OWNER(breakdown);
SQL_FUNCTION_AS_OWNER(click_series);
SQL_FUNCTION_AS_OWNER(top_n_ads);
SQL_FUNCTION_AS_OWNER(explain_top_n);
SQL_FUNCTION_AS_OWNER(require_minutes);
SQL_FUNCTION_AS_OWNER(add_filter);
SQL_FUNCTION_AS_OWNER(drop_filter);
