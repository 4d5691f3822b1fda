/*-------------------------------------------------------------------------
 *
 * orders.c
 *	  The orders in which facts are kept.
 *
 * See orders.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "orders.h"

const int	order_columns[ORDERS] = {
	[ORDER_AD] = 3,
	[ORDER_USER] = 4,
	[ORDER_IP] = 8,
	[ORDER_KEY] = 3
};

const int	order_column[ORDERS][ROLES] = {
	[ORDER_AD] = {
		[ROLE_AD] = 0,
		[ROLE_MINUTE] = 1,
		[ROLE_FILTER] = 2,
		[ROLE_USER] = NO_COLUMN,
		[ROLE_HAS_USER] = NO_COLUMN,
		[ROLE_IP_HIGH] = NO_COLUMN,
		[ROLE_IP_LOW] = NO_COLUMN,
		[ROLE_IP_FAMILY] = NO_COLUMN,
		[ROLE_KEY_HIGH] = NO_COLUMN,
		[ROLE_KEY_LOW] = NO_COLUMN,
		[ROLE_BUCKET] = NO_COLUMN
	},
	[ORDER_USER] = {
		[ROLE_USER] = 0,
		[ROLE_MINUTE] = 1,
		[ROLE_AD] = 2,
		[ROLE_FILTER] = 3,
		[ROLE_HAS_USER] = NO_COLUMN,
		[ROLE_IP_HIGH] = NO_COLUMN,
		[ROLE_IP_LOW] = NO_COLUMN,
		[ROLE_IP_FAMILY] = NO_COLUMN,
		[ROLE_KEY_HIGH] = NO_COLUMN,
		[ROLE_KEY_LOW] = NO_COLUMN,
		[ROLE_BUCKET] = NO_COLUMN
	},
	[ORDER_IP] = {
		[ROLE_IP_HIGH] = 0,
		[ROLE_IP_LOW] = 1,
		[ROLE_IP_FAMILY] = 2,
		[ROLE_MINUTE] = 3,
		[ROLE_USER] = 4,
		[ROLE_HAS_USER] = 5,
		[ROLE_AD] = 6,
		[ROLE_FILTER] = 7,
		[ROLE_KEY_HIGH] = NO_COLUMN,
		[ROLE_KEY_LOW] = NO_COLUMN,
		[ROLE_BUCKET] = NO_COLUMN
	},
	[ORDER_KEY] = {
		[ROLE_AD] = NO_COLUMN,
		[ROLE_MINUTE] = NO_COLUMN,
		[ROLE_FILTER] = NO_COLUMN,
		[ROLE_USER] = NO_COLUMN,
		[ROLE_HAS_USER] = NO_COLUMN,
		[ROLE_IP_HIGH] = NO_COLUMN,
		[ROLE_IP_LOW] = NO_COLUMN,
		[ROLE_IP_FAMILY] = NO_COLUMN,
		[ROLE_KEY_HIGH] = 0,
		[ROLE_KEY_LOW] = 1,
		[ROLE_BUCKET] = 2
	}
};

static inline bool
has_click(FactOrder order, const FactClick *click)
{
	return order == ORDER_AD ||
		(order == ORDER_USER ? click->has_user : click->ip.family != 0);
}

/* One column, for all clicks; inlined with a constant role. */
static inline size_t
append_column(FactOrder order, FactRole role, const FactClick *clicks, size_t n, uint64_t *values)
{
	size_t		added = 0;

	for (size_t i = 0; i < n; i++)
	{
		values[added] = fact_value(&clicks[i], role);
		added += has_click(order, &clicks[i]);
	}
	return added;
}

void
order_append(FactOrder order, const FactClick *clicks, size_t n, Facts *facts)
{
	size_t		added = 0;

#define APPEND(role) \
	if (order_column[order][role] != NO_COLUMN) \
		added = append_column(order, role, clicks, n, \
							  facts->key[order_column[order][role]] + facts->n)

	APPEND(ROLE_AD);
	APPEND(ROLE_MINUTE);
	APPEND(ROLE_FILTER);
	APPEND(ROLE_USER);
	APPEND(ROLE_HAS_USER);
	APPEND(ROLE_IP_HIGH);
	APPEND(ROLE_IP_LOW);
	APPEND(ROLE_IP_FAMILY);
#undef APPEND
	for (size_t i = 0; i < added; i++)
		facts->count[facts->n + i] = 1;
	facts->n += added;
}
