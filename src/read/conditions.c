/*-------------------------------------------------------------------------
 *
 * conditions.c
 *	  Window and filters of a question.
 *
 * See conditions.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/socket.h>

#include "access/xact.h"
#include "lib/qunique.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "conditions.h"
#include "inbox/click.h"
#include "store/store.h"

void
conditions_last_minutes(Conditions *conditions, int32 minutes)
{
	int64		current = minute_of(GetCurrentStatementStartTimestamp());

	if (minutes < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of minutes must be at least 1"),
				 errdetail("It is %d.", minutes),
				 errhint("1 is the current minute alone.")));
	conditions->from = current - minutes + 1;
	conditions->to = current + 1;
}

/* The minute of a bound of a window. */
static int64
bound_minute(TimestampTz at)
{
	if (TIMESTAMP_IS_NOBEGIN(at))
		return FIRST_MINUTE;
	if (TIMESTAMP_IS_NOEND(at))
		return LAST_MINUTE;
	return minute_of(at);
}

static int64
whole_minute(TimestampTz at, const char *name)
{
	int64		minute = bound_minute(at);

	if (!TIMESTAMP_NOT_FINITE(at) && minute * USECS_PER_MINUTE != at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must be a whole minute", name),
				 errdetail("It is %s; clicks are counted by minute.", timestamptz_to_str(at)),
				 errhint("Use date_trunc('minute', ...).")));
	return minute;
}

static int64
whole_hour(TimestampTz at, const char *name)
{
	int64		minute = bound_minute(at);

	if (!TIMESTAMP_NOT_FINITE(at) && hour_of(minute) * USECS_PER_MINUTE != at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must be a whole hour", name),
				 errdetail("It is %s; hours are those of UTC.", timestamptz_to_str(at)),
				 errhint("Use date_trunc('hour', ..., 'UTC').")));
	return minute;
}

void
conditions_check_order(TimestampTz from, TimestampTz to)
{
	if (from > to)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"from\" must not be later than \"to\""),
				 errhint("The window is from \"from\" up to, not including, \"to\".")));
}

void
conditions_window(Conditions *conditions, TimestampTz from, TimestampTz to)
{
	conditions->from = whole_minute(from, "from");
	conditions->to = whole_minute(to, "to");
	conditions_check_order(from, to);
}

void
conditions_hours(Conditions *conditions, TimestampTz from, TimestampTz to)
{
	conditions->from = whole_hour(from, "from");
	conditions->to = whole_hour(to, "to");
	conditions_check_order(from, to);
}

/*
 * The most values all lists of a question may have together: sorting them and
 * looking them up stays below a second.
 */
#define MAX_FILTER_VALUES 100000

/* How much of a wrong text an error shows, in bytes. */
#define SHOWN_LENGTH 100

/* The keys of the argument "filters". */
typedef enum FilterKey
{
	KEY_DIMENSION,				/* and those up to ... */
	KEY_USER = DIMENSIONS,
	KEY_IP,
	KEY_ADVERTISER
} FilterKey;

static const struct
{
	const char *name;
	enum jbvType type;
	const char *what;			/* for the error about another type */
	const char *example;
}			filter_keys[] =
{
	{"country", jbvString, "a string or a list of strings", "{\"country\": \"CA\"} or {\"country\": [\"CA\", \"US\"]}"},
	{"region", jbvString, "a string or a list of strings", "{\"region\": \"ON\"} or {\"region\": [\"ON\", \"QC\"]}"},
	{"device", jbvString, "a string or a list of strings", "{\"device\": \"mobile\"} or {\"device\": [\"mobile\", \"tablet\"]}"},
	[KEY_USER] = {"user_id", jbvNumeric, "an integer or a list of integers", "{\"user_id\": 42} or {\"user_id\": [42, 43]}"},
	[KEY_IP] = {"ip", jbvString, "an address, a network, or a list of them", "{\"ip\": \"203.0.113.7\"} or {\"ip\": [\"203.0.113.0/24\", \"2001:db8::/32\"]}"},
	[KEY_ADVERTISER] = {"advertiser_id", jbvNumeric, "an integer or a list of integers", "{\"advertiser_id\": 7} or {\"advertiser_id\": [7, 8]}"},
};

const char *
conditions_shown(const char *text, int length)
{
	if (length <= SHOWN_LENGTH)
		return pnstrdup(text, length);
	return psprintf("%.*s...", pg_mbcliplen(text, length, SHOWN_LENGTH), text);
}

static FilterKey
key_of(JsonbValue *key)
{
	for (int i = 0; i < lengthof(filter_keys); i++)
		if (key->val.string.len == strlen(filter_keys[i].name) &&
			memcmp(key->val.string.val, filter_keys[i].name, key->val.string.len) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown filter \"%s\"", conditions_shown(key->val.string.val, key->val.string.len)),
			 errhint("Filters are country, region, device, user_id, ip and advertiser_id.")));
	return KEY_DIMENSION;
}

static void
wrong_value(FilterKey key)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("filter \"%s\" must be %s", filter_keys[key].name, filter_keys[key].what),
			 errhint("For example %s.", filter_keys[key].example)));
}

/* Room for one more in an array that is still to grow. */
#define MAKE_ROOM(array, n, room) \
	do { \
		if ((n) == (room)) \
		{ \
			(room) = Max(16, 2 * (room)); \
			(array) = (array) ? repalloc((array), sizeof(*(array)) * (room)) : \
				palloc(sizeof(*(array)) * (room)); \
		} \
	} while (0)

static void
add_id(IdList *list, FilterKey key, Numeric number)
{
	Datum		value = NumericGetDatum(number);
	Datum		whole = DirectFunctionCall2(numeric_trunc, value, Int32GetDatum(0));

	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, value, whole)) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, value,
										 NumericGetDatum(int64_to_numeric(PG_INT64_MIN)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, value,
										 NumericGetDatum(int64_to_numeric(PG_INT64_MAX)))))
		wrong_value(key);
	MAKE_ROOM(list->ids, list->n, list->room);
	list->ids[list->n++] = DatumGetInt64(DirectFunctionCall1(numeric_int8, value));
}

/* The bits of a half address that are not of the network, given how many are. */
static uint64
host_bits(int network_bits, int first_bit, int nbits)
{
	int			fixed = Max(0, Min(nbits, network_bits - first_bit));

	return fixed == nbits ? 0 : (nbits - fixed == 64 ? ~UINT64CONST(0) :
								 (UINT64CONST(1) << (nbits - fixed)) - 1);
}

/* An address or a network, in the notation of type inet. */
static void
add_ip(Conditions *conditions, const char *text, int length)
{
	char		string[SHOWN_LENGTH];
	bool		is_v6 = memchr(text, ':', length) != NULL;
	inet		address = {0};
	IpRange    *range;
	int			bits = -1;
	uint64		high_bits,
				low_bits;

	address.inet_data.family = is_v6 ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	if (length < SHOWN_LENGTH)
	{
		memcpy(string, text, length);
		string[length] = '\0';
		bits = pg_inet_net_pton(address.inet_data.family, string, address.inet_data.ipaddr, -1);
	}
	if (bits < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filter \"ip\" has no address or network in \"%s\"", conditions_shown(text, length)),
				 errhint("For example %s.", filter_keys[KEY_IP].example)));
	SET_INET_VARSIZE(&address);

	MAKE_ROOM(conditions->ips, conditions->nips, conditions->ips_room);
	range = &conditions->ips[conditions->nips++];
	ip_from_inet(&address, &range->first);
	range->last = range->first;
	high_bits = is_v6 ? host_bits(bits, 0, 64) : host_bits(bits, 0, 32);
	low_bits = is_v6 ? host_bits(bits, 64, 64) : 0;
	range->first.high &= ~high_bits;
	range->first.low &= ~low_bits;
	range->last.high |= high_bits;
	range->last.low |= low_bits;
}

static void
add_value(Conditions *conditions, IdList *advertisers, FilterKey key, JsonbValue *value)
{
	if (value->type != filter_keys[key].type)
		wrong_value(key);
	if (key == KEY_USER)
		add_id(&conditions->users, key, value->val.numeric);
	else if (key == KEY_ADVERTISER)
		add_id(advertisers, key, value->val.numeric);
	else if (key == KEY_IP)
		add_ip(conditions, value->val.string.val, value->val.string.len);
	else
	{
		ValueList  *list = &conditions->values[key];

		MAKE_ROOM(list->values, list->n, list->room);
		list->values[list->n++] = (FilterValue) {value->val.string.val, value->val.string.len};
	}
}

/* There is a condition of this kind, even if its list of values is empty. */
static void
note_key(Conditions *conditions, IdList *advertisers, FilterKey key)
{
	if (key == KEY_USER)
		conditions->users.given = true;
	else if (key == KEY_ADVERTISER)
		advertisers->given = true;
	else if (key == KEY_IP)
		conditions->has_ips = true;
	else
		conditions->filtered = conditions->has_values[key] = true;
}

static void
read_object(Conditions *conditions, IdList *advertisers, Jsonb *filters)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	FilterKey	key = KEY_DIMENSION;
	int			depth = 0;
	int			nvalues = 0;

	if (!JB_ROOT_IS_OBJECT(filters))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filters must be a JSON object"),
				 errhint("For example {\"country\": \"CA\", \"device\": \"mobile\"}.")));
	iterator = JsonbIteratorInit(&filters->root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		switch (token)
		{
			case WJB_BEGIN_OBJECT:
			case WJB_BEGIN_ARRAY:
				/* deeper than a list in the object, or an object in it */
				if (++depth > 2 || (depth == 2 && token == WJB_BEGIN_OBJECT))
					wrong_value(key);
				break;
			case WJB_END_OBJECT:
			case WJB_END_ARRAY:
				depth--;
				break;
			case WJB_KEY:
				key = key_of(&value);
				note_key(conditions, advertisers, key);
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				if (++nvalues > MAX_FILTER_VALUES)
					ereport(ERROR,
							(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							 errmsg("too many values in filters"),
							 errdetail("There may be %d.", MAX_FILTER_VALUES),
							 errhint("Ask in several parts.")));
				add_value(conditions, advertisers, key, &value);
				break;
			default:
				elog(ERROR, "unexpected jsonb token %d", (int) token);
		}
	}
}

static void
find_end(int32 filter_id, const Dimensions *dimensions, void *arg)
{
	Conditions *conditions = arg;

	conditions->filters_end = Max(conditions->filters_end, (uint64) filter_id + 1);
}

static void
match_id(int32 filter_id, const Dimensions *dimensions, void *arg)
{
	Conditions *conditions = arg;

	conditions->matches[filter_id] = conditions_match_dimensions(conditions, dimensions) ? FILTER_MATCHES : 0;
}

/* Which filter_ids meet the conditions on dimensions. */
static void
find_matches(Conditions *conditions)
{
	if (!conditions->filtered)
		return;
	filters_refresh();
	filters_each(find_end, conditions);
	conditions->matches = palloc(conditions->filters_end + 1);
	memset(conditions->matches, FILTER_MISSING, conditions->filters_end + 1);
	filters_each(match_id, conditions);
}

static void
sort_ids(IdList *list)
{
	list->n = sort_unique_int64(list->ids, list->n);
}

/* By length first: only equality matters. */
static int
compare_values(const void *a, const void *b)
{
	const FilterValue *x = a;
	const FilterValue *y = b;

	if (x->length != y->length)
		return x->length - y->length;
	return memcmp(x->value, y->value, x->length);
}

static void
sort_values(ValueList *list)
{
	int			n = 0;

	for (int i = 0; i < list->n; i++)
		if (list->values[i].length > 0 && list->values[i].length <= DIMENSION_MAX_LENGTH)
			list->values[n++] = list->values[i];
	list->n = n;
	if (n < 2)
		return;
	qsort(list->values, n, sizeof(FilterValue), compare_values);
	list->n = (int) qunique(list->values, n, sizeof(FilterValue), compare_values);
}

static int
compare_ips(const IpAddress *x, const IpAddress *y)
{
	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	if (x->high != y->high)
		return x->high < y->high ? -1 : 1;
	return (x->low > y->low) - (x->low < y->low);
}

/* A network before those within it. */
static int
compare_ranges(const void *a, const void *b)
{
	const IpRange *x = a;
	const IpRange *y = b;
	int			order = compare_ips(&x->first, &y->first);

	return order != 0 ? order : compare_ips(&y->last, &x->last);
}

/* Networks are within each other or apart: the outermost say it all. */
static void
sort_ips(Conditions *conditions)
{
	int			n = 0;

	if (conditions->nips < 2)
		return;
	qsort(conditions->ips, conditions->nips, sizeof(IpRange), compare_ranges);
	for (int i = 0; i < conditions->nips; i++)
		if (n == 0 || compare_ips(&conditions->ips[i].first, &conditions->ips[n - 1].last) > 0)
			conditions->ips[n++] = conditions->ips[i];
	conditions->nips = n;
}

/* Only ads of these advertisers. */
static void
restrict_to_advertisers(Conditions *conditions, const IdList *advertisers)
{
	if (!advertisers->given)
		return;
	conditions->ads.given = true;
	conditions->ads.ids = store_get_ads(advertisers->ids, advertisers->n, &conditions->ads.n);
}

/* Those of both lists, if both are given. */
static void
keep_in_scope(IdList *advertisers, const IdList *scope)
{
	int			n = 0;

	for (int i = 0; i < advertisers->n; i++)
		if (conditions_match_id(scope, advertisers->ids[i]))
			advertisers->ids[n++] = advertisers->ids[i];
	advertisers->n = n;
}

void
conditions_filters(Conditions *conditions, Jsonb *filters, const IdList *scope)
{
	IdList		advertisers = {0};

	read_object(conditions, &advertisers, filters);
	sort_ids(&advertisers);
	keep_in_scope(&advertisers, scope);
	sort_ids(&conditions->users);
	for (int i = 0; i < DIMENSIONS; i++)
		sort_values(&conditions->values[i]);
	sort_ips(conditions);
	restrict_to_advertisers(conditions, &advertisers);
	find_matches(conditions);
}

void
conditions_ad(Conditions *conditions, int64 ad_id)
{
	IdList	   *ads = &conditions->ads;
	bool		matches = conditions_match_id(ads, ad_id);

	ads->given = true;
	ads->n = matches ? 1 : 0;
	ads->ids = palloc(sizeof(int64));
	ads->ids[0] = ad_id;
}

void
conditions_scope(Conditions *conditions, const IdList *scope)
{
	if (!conditions->ads.given)
		restrict_to_advertisers(conditions, scope);
}

void
conditions_advertiser(Conditions *conditions, int64 advertiser_id)
{
	Conditions	theirs = {0};
	IdList	   *ads = &conditions->ads;
	int			n = 0;

	restrict_to_advertisers(&theirs, &(IdList) {.given = true, .n = 1, .ids = &advertiser_id});
	for (int i = 0; i < theirs.ads.n; i++)
		if (conditions_match_id(ads, theirs.ads.ids[i]))
			theirs.ads.ids[n++] = theirs.ads.ids[i];
	*ads = (IdList) {.given = true, .n = n, .ids = theirs.ads.ids};
}

bool
conditions_as_filter(const Conditions *conditions, StoreFilter *dimensions)
{
	memset(dimensions, 0, sizeof(*dimensions));
	if (conditions->ads.given || conditions->users.given || conditions->has_ips)
		return false;
	for (int i = 0; i < DIMENSIONS; i++)
	{
		if (!conditions->has_values[i])
			continue;
		if (conditions->values[i].n != 1)
			return false;
		dimensions->values[i] = pnstrdup(conditions->values[i].values[0].value,
										 conditions->values[i].values[0].length);
	}
	return true;
}

void
conditions_read_filter(Jsonb *filter, StoreFilter *dimensions)
{
	Conditions	conditions = {0};
	IdList		advertisers = {0};
	int			given = 0;

	read_object(&conditions, &advertisers, filter);
	for (int i = 0; i < DIMENSIONS; i++)
		given += conditions.has_values[i];
	if (advertisers.given || !conditions_as_filter(&conditions, dimensions))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a registered filter has one value of a dimension"),
				 errdetail("Dimensions are country, region and device."),
				 errhint("For example {\"country\": \"CA\", \"device\": \"mobile\"}.")));
	for (int i = 0; i < DIMENSIONS; i++)
		if (dimensions->values[i] &&
			(dimensions->values[i][0] == '\0' || strlen(dimensions->values[i]) > DIMENSION_MAX_LENGTH))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("no click counts under \"%s\" of %s", dimensions->values[i], dimension_names[i]),
					 errdetail("Empty values count as \"unknown\", those longer than %d bytes as \"other\".",
							   DIMENSION_MAX_LENGTH)));
	if (given == 0 || given == DIMENSIONS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a registered filter must name one or two of country, region and device"),
				 given == 0 ? errdetail("The most clicked ads of all clicks are kept anyway.") :
				 errdetail("All three name a single combination, which is counted as it is.")));
}

static bool
has_value(const ValueList *list, const char *value, int length)
{
	FilterValue wanted = {value, length};

	return bsearch(&wanted, list->values, list->n, sizeof(FilterValue), compare_values) != NULL;
}

bool
conditions_match_dimensions(const Conditions *conditions, const Dimensions *dimensions)
{
	for (int i = 0; i < DIMENSIONS; i++)
		if (conditions->has_values[i] &&
			!has_value(&conditions->values[i], dimensions->value[i], dimensions->length[i]))
			return false;
	return true;
}

bool
conditions_match_ip(const Conditions *conditions, const IpAddress *ip)
{
	int			low = 0;
	int			high = conditions->nips;

	if (!conditions->has_ips)
		return true;
	while (low < high)
	{
		int			middle = (low + high) / 2;
		const IpRange *range = &conditions->ips[middle];

		if (compare_ips(ip, &range->first) < 0)
			high = middle;
		else if (compare_ips(ip, &range->last) > 0)
			low = middle + 1;
		else
			return true;
	}
	return false;
}
