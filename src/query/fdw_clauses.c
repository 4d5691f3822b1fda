/*-------------------------------------------------------------------------
 *
 * fdw_clauses.c
 *	  What clauses over the foreign table of facts are about, and the range of
 *	  facts that keys choose.
 *
 * See fdw.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/adclick.h"
#include "fdw.h"
#include "read/conditions.h"

static int
column_bit(AttrNumber column)
{
	return column - FirstLowInvalidHeapAttributeNumber;
}

RowPart
row_part_of(Node *node, Index relid)
{
	Bitmapset  *columns = NULL;
	RowPart		part = PART_OTHER;
	int			bit = -1;

	pull_varattnos(node, relid, &columns);
	while ((bit = bms_next_member(columns, bit)) >= 0)
	{
		RowPart		of_column = PART_OTHER;

		if (bit == column_bit(ROW_AD))
			of_column = PART_AD;
		else if (bit == column_bit(ROW_MINUTE))
			of_column = PART_MINUTE;
		else if (bit >= column_bit(ROW_FILTER) && bit <= column_bit(ROW_DEVICE))
			of_column = PART_FILTER;
		if (of_column == PART_OTHER || (part != PART_OTHER && part != of_column))
			return PART_OTHER;
		part = of_column;
	}
	return part;
}

/* What the planner was given in place of a column, see fdw.c. */
static Node *
without_label(Node *node)
{
	return IsA(node, RelabelType) ? (Node *) ((RelabelType *) node)->arg : node;
}

static bool
is_text(Node *node, const char *expected)
{
	Const	   *value = (Const *) node;

	return IsA(node, Const) && value->consttype == TEXTOID && !value->constisnull &&
		strcmp(TextDatumGetCString(value->constvalue), expected) == 0;
}

/* How long the hours or days are of which it gives the beginning, in minutes; 0 if it is something else. */
static int64
truncated_to(Node *node)
{
	FuncExpr   *call = (FuncExpr *) node;

	if (!IsA(node, FuncExpr) || call->funcid != F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT || !is_text(lthird(call->args), "UTC"))
		return 0;
	return is_text(linitial(call->args), "hour") ? MINS_PER_HOUR :
		is_text(linitial(call->args), "day") ? MINS_PER_DAY : 0;
}

bool
row_key_column(Node *node, Index relid, RowKey *key)
{
	int64		minutes = truncated_to(node);
	Var		   *var = (Var *) without_label(minutes > 0 ? lsecond(((FuncExpr *) node)->args) : node);

	if (!IsA(var, Var) || (relid != 0 && (Index) var->varno != relid) || var->varlevelsup != 0)
		return false;
	key->column = var->varattno;
	key->minutes = Max(minutes, 1);
	return (var->varattno == ROW_AD && minutes == 0) || var->varattno == ROW_MINUTE;
}

/* Finds a column that is not cut to its day. */
static bool
has_more_than_day(Node *node, void *context)
{
	if (node == NULL || truncated_to(node) == MINS_PER_DAY)
		return false;
	return IsA(node, Var) || expression_tree_walker(node, has_more_than_day, context);
}

bool
row_day_tells(Node *node)
{
	return !has_more_than_day(node, NULL);
}

/* The strategy of an operator that compares the column as its order does, or 0. */
static StrategyNumber
strategy_of(Oid operator, AttrNumber column)
{
	Oid			type = column == ROW_AD ? INT8OID : TIMESTAMPTZOID;

	if (!OidIsValid(operator))
		return 0;
	return get_op_opfamily_strategy(operator,
									lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
}

static bool
is_key_type(Oid type, AttrNumber column)
{
	return column == ROW_AD ? type == INT8OID || type == INT4OID || type == INT2OID :
		type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

/* "column op value", or "value op column" */
static bool
comparison_key_of(OpExpr *expr, Index relid, RowKey *key)
{
	Oid			operator = expr->opno;

	if (list_length(expr->args) != 2)
		return false;
	key->is_list = false;
	key->value = lsecond(expr->args);
	if (!row_key_column(linitial(expr->args), relid, key))
	{
		if (!row_key_column(lsecond(expr->args), relid, key))
			return false;
		key->value = linitial(expr->args);
		operator = get_commutator(operator);
	}
	key->strategy = strategy_of(operator, key->column);
	key->type = exprType((Node *) key->value);
	return key->strategy != 0;
}

/* "ad_id = ANY (list)" */
static bool
list_key_of(ScalarArrayOpExpr *expr, Index relid, RowKey *key)
{
	if (!expr->useOr || !row_key_column(linitial(expr->args), relid, key) ||
		key->column != ROW_AD)
		return false;
	key->is_list = true;
	key->value = lsecond(expr->args);
	key->strategy = strategy_of(expr->opno, key->column);
	key->type = get_element_type(exprType((Node *) key->value));
	return key->strategy == BTEqualStrategyNumber;
}

bool
row_key_of(Node *clause, Index relid, RowKey *key)
{
	Bitmapset  *columns = NULL;

	if (IsA(clause, OpExpr) ? !comparison_key_of((OpExpr *) clause, relid, key) :
		!IsA(clause, ScalarArrayOpExpr) || !list_key_of((ScalarArrayOpExpr *) clause, relid, key))
		return false;
	if (relid != 0)
		pull_varattnos((Node *) key->value, relid, &columns);
	return columns == NULL && is_key_type(key->type, key->column);
}

void
row_range_all(RowRange *range)
{
	*range = (RowRange) {
		.from = FIRST_MINUTE, .to = LAST_MINUTE, .low = PG_INT64_MIN, .high = PG_INT64_MAX
	};
}

bool
row_range_is_empty(const RowRange *range)
{
	return range->from >= range->to || range->low > range->high ||
		(range->is_list && range->nads == 0);
}

static void
make_empty(RowRange *range)
{
	range->to = range->from;
}

static int64
ad_of(Datum value, Oid type)
{
	switch (type)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

/* Dates beyond the range of times become infinite, as when they are compared. */
static TimestampTz
time_of(Datum value, Oid type)
{
	int			overflow;

	switch (type)
	{
		case DATEOID:
			return date2timestamptz_opt_overflow(DatumGetDateADT(value), &overflow);
		case TIMESTAMPOID:
			return timestamp2timestamptz_opt_overflow(DatumGetTimestamp(value), &overflow);
		default:
			return DatumGetTimestampTz(value);
	}
}

static void
narrow_ads(RowRange *range, StrategyNumber strategy, int64 ad)
{
	switch (strategy)
	{
		case BTLessStrategyNumber:
			if (ad == PG_INT64_MIN)
				make_empty(range);
			else
				range->high = Min(range->high, ad - 1);
			break;
		case BTLessEqualStrategyNumber:
			range->high = Min(range->high, ad);
			break;
		case BTEqualStrategyNumber:
			range->low = Max(range->low, ad);
			range->high = Min(range->high, ad);
			break;
		case BTGreaterEqualStrategyNumber:
			range->low = Max(range->low, ad);
			break;
		case BTGreaterStrategyNumber:
			if (ad == PG_INT64_MAX)
				make_empty(range);
			else
				range->low = Max(range->low, ad + 1);
			break;
	}
}

/* A minute, or the hour or day that has it, is compared by its beginning. */
static void
narrow_window(RowRange *range, StrategyNumber strategy, int64 minutes, TimestampTz at)
{
	int64		begun = floor_div(minute_of(at), minutes) * minutes;	/* the last one not after it ... */
	bool		whole = begun * USECS_PER_MINUTE == at;
	int64		reached = whole ? begun : begun + minutes;	/* ... and the first not before */

	switch (strategy)
	{
		case BTLessStrategyNumber:
			range->to = Min(range->to, reached);
			break;
		case BTLessEqualStrategyNumber:
			range->to = Min(range->to, begun + minutes);
			break;
		case BTEqualStrategyNumber:
			range->from = Max(range->from, reached);
			range->to = Min(range->to, begun + minutes);
			break;
		case BTGreaterEqualStrategyNumber:
			range->from = Max(range->from, reached);
			break;
		case BTGreaterStrategyNumber:
			range->from = Max(range->from, begun + minutes);
			break;
	}
}

/* Leave out of the list what lies outside of the range. */
static void
trim_list(RowRange *range)
{
	int			nkept = 0;

	for (int i = 0; i < range->nads; i++)
		if (range->ads[i] >= range->low && range->ads[i] <= range->high)
			range->ads[nkept++] = range->ads[i];
	range->nads = nkept;
}

/* The first place in a sorted list at which there is no smaller ad. */
static int
find_place(const int64 *ads, int nads, int64 ad)
{
	int			low = 0;
	int			high = nads;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (ads[middle] < ad)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A scan that comes again and again asks for one ad of many. */
void
row_range_keep(RowRange *range, const int64 *ads, int nads)
{
	int			first = find_place(ads, nads, range->low);
	int			last = first;
	int			nkept = 0;
	int64	   *kept;

	while (last < nads && ads[last] <= range->high)
		last++;
	kept = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (size_t) (last - first + 1));
	for (int i = first; i < last; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (row_range_has_ad(range, ads[i]))
			kept[nkept++] = ads[i];
	}
	range->is_list = true;
	range->ads = kept;
	range->nads = nkept;
}

/* Keep those ads that the list has, too. */
static void
narrow_to_list(RowRange *range, ArrayType *array, Oid type)
{
	int16		length;
	bool		by_value;
	char		align;
	Datum	   *values;
	bool	   *nulls;
	int			nvalues;
	int64	   *ads;
	int			nads = 0;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &values, &nulls, &nvalues);
	ads = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (nvalues + 1));
	for (int i = 0; i < nvalues; i++)
		if (!nulls[i])
			ads[nads++] = ad_of(values[i], type);
	row_range_keep(range, ads, sort_unique_int64(ads, nads));
}

void
row_range_narrow(RowRange *range, const RowKey *key, Datum value, bool isnull)
{
	if (isnull)
		make_empty(range);
	else if (key->is_list)
		narrow_to_list(range, DatumGetArrayTypeP(value), key->type);
	else if (key->column == ROW_AD)
		narrow_ads(range, key->strategy, ad_of(value, key->type));
	else
		narrow_window(range, key->strategy, key->minutes, time_of(value, key->type));
	trim_list(range);
}
