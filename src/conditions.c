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

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "adclick.h"
#include "conditions.h"

/* Every time there is lies between these, and they can be made times again. */
#define FIRST_MINUTE (-INT64CONST(4000000000))
#define LAST_MINUTE INT64CONST(153000000000)

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

static int64
whole_minute(TimestampTz at, const char *name)
{
	if (TIMESTAMP_IS_NOBEGIN(at))
		return FIRST_MINUTE;
	if (TIMESTAMP_IS_NOEND(at))
		return LAST_MINUTE;
	if (minute_of(at) * USECS_PER_MINUTE != at)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must be a whole minute", name),
				 errdetail("It is %s; clicks are counted by minute.", timestamptz_to_str(at)),
				 errhint("Use date_trunc('minute', ...).")));
	return minute_of(at);
}

void
conditions_window(Conditions *conditions, TimestampTz from, TimestampTz to)
{
	conditions->from = whole_minute(from, "from");
	conditions->to = whole_minute(to, "to");
	if (from > to)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"from\" must not be later than \"to\""),
				 errhint("The window is from \"from\" up to, not including, \"to\".")));
}

static int
dimension_of(JsonbValue *key)
{
	for (int i = 0; i < DIMENSIONS; i++)
		if (key->val.string.len == strlen(dimension_names[i]) &&
			memcmp(key->val.string.val, dimension_names[i], key->val.string.len) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown filter \"%.*s\"", key->val.string.len, key->val.string.val),
			 errhint("Filters are country, region and device.")));
	return -1;
}

static void
add_value(Conditions *conditions, int dimension, JsonbValue *value)
{
	if (value->type != jbvString)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filter \"%s\" must be a string or a list of strings",
						dimension_names[dimension]),
				 errhint("For example {\"country\": \"CA\"} or {\"country\": [\"CA\", \"US\"]}.")));
	conditions->values[dimension] =
		lappend(conditions->values[dimension],
				cstring_to_text_with_len(value->val.string.val, value->val.string.len));
}

static void
read_object(Conditions *conditions, Jsonb *filters)
{
	JsonbIterator *iterator = JsonbIteratorInit(&filters->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	int			dimension = -1;
	int			depth = 0;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_BEGIN_OBJECT:
			case WJB_BEGIN_ARRAY:
				/* deeper than a list in the object, or an object in it */
				if (++depth > 2 || (depth == 2 && token == WJB_BEGIN_OBJECT))
					add_value(conditions, dimension, &(JsonbValue) {.type = jbvNull});
				break;
			case WJB_END_OBJECT:
			case WJB_END_ARRAY:
				depth--;
				break;
			case WJB_KEY:
				dimension = dimension_of(&value);
				conditions->filtered = true;
				conditions->has_values[dimension] = true;
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				add_value(conditions, dimension, &value);
				break;
			default:
				elog(ERROR, "unexpected jsonb token %d", (int) token);
		}
	}
}

static void
find_max_id(int32 filter_id, const Dimensions *dimensions, void *arg)
{
	Conditions *conditions = arg;

	conditions->max_filter_id = Max(conditions->max_filter_id, filter_id);
}

static void
match_id(int32 filter_id, const Dimensions *dimensions, void *arg)
{
	Conditions *conditions = arg;

	conditions->matches[filter_id] = conditions_match_dimensions(conditions, dimensions);
}

void
conditions_filters(Conditions *conditions, Jsonb *filters)
{
	if (!JB_ROOT_IS_OBJECT(filters))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("filters must be a JSON object"),
				 errhint("For example {\"country\": \"CA\", \"device\": \"mobile\"}.")));
	read_object(conditions, filters);
	if (!conditions->filtered)
		return;
	filters_refresh();
	filters_each(find_max_id, conditions);
	conditions->matches = palloc0(sizeof(bool) * (conditions->max_filter_id + 1));
	filters_each(match_id, conditions);
}

static bool
has_value(List *values, const char *value, int length)
{
	ListCell   *cell;

	foreach(cell, values)
	{
		text	   *one = lfirst(cell);

		if (VARSIZE_ANY_EXHDR(one) == length && memcmp(VARDATA_ANY(one), value, length) == 0)
			return true;
	}
	return false;
}

bool
conditions_match_dimensions(const Conditions *conditions, const Dimensions *dimensions)
{
	for (int i = 0; i < DIMENSIONS; i++)
		if (conditions->has_values[i] &&
			!has_value(conditions->values[i], dimensions->value[i], dimensions->length[i]))
			return false;
	return true;
}
