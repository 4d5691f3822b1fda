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

/* Clicks whose columns are appended while they stay in the first-level cache. */
#define BLOCK_CLICKS 128

const int	order_columns[ORDERS] = {
	[ORDER_AD] = 3,
	[ORDER_USER] = 4,
	[ORDER_IP] = 8,
	[ORDER_LEDGER] = 13,
	[ORDER_DAY] = 3
};

#define COLUMN(n) ((n) + 1)

const uint8_t order_places[ORDERS][ROLES] = {
	[ORDER_AD] = {
		[ROLE_AD] = COLUMN(0),
		[ROLE_MINUTE] = COLUMN(1),
		[ROLE_FILTER] = COLUMN(2)
	},
	[ORDER_USER] = {
		[ROLE_USER] = COLUMN(0),
		[ROLE_MINUTE] = COLUMN(1),
		[ROLE_AD] = COLUMN(2),
		[ROLE_FILTER] = COLUMN(3)
	},
	[ORDER_IP] = {
		[ROLE_IP_HIGH] = COLUMN(0),
		[ROLE_IP_LOW] = COLUMN(1),
		[ROLE_IP_FAMILY] = COLUMN(2),
		[ROLE_MINUTE] = COLUMN(3),
		[ROLE_USER] = COLUMN(4),
		[ROLE_HAS_USER] = COLUMN(5),
		[ROLE_AD] = COLUMN(6),
		[ROLE_FILTER] = COLUMN(7)
	},
	[ORDER_LEDGER] = {
		[ROLE_KEY_HIGH] = COLUMN(0),
		[ROLE_KEY_LOW] = COLUMN(1),
		[ROLE_BUCKET] = COLUMN(2),
		[ROLE_CLICKED_AT] = COLUMN(3),
		[ROLE_DELAY] = COLUMN(4),
		[ROLE_AD] = COLUMN(5),
		[ROLE_USER] = COLUMN(6),
		[ROLE_IP_HIGH] = COLUMN(7),
		[ROLE_IP_LOW] = COLUMN(8),
		[ROLE_FILTER] = COLUMN(9),
		[ROLE_FLAGS] = COLUMN(10),
		[ROLE_ID_HIGH] = COLUMN(11),
		[ROLE_ID_LOW] = COLUMN(12)
	},
	[ORDER_DAY] = {
		[ROLE_AD] = COLUMN(0),
		[ROLE_MINUTE] = COLUMN(1),
		[ROLE_FILTER] = COLUMN(2)
	}
};

bool
ledger_flags_possible(uint64_t flags)
{
	if (flags > LEDGER_ALL_FLAGS ||
		((flags & LEDGER_ID_IS_KEY) && (flags & LEDGER_ID_APART)) ||
		((flags & LEDGER_IPV4) && (flags & LEDGER_IPV6)))
		return false;
	for (int d = 0; d < LEDGER_DIMENSIONS; d++)
		if (ledger_dimension_given(flags, d) == DIMENSION_FOLDED && !(flags & LEDGER_UNPACKED))
			return false;
	return true;
}

static inline bool
has_click(FactOrder order, const FactClick *click)
{
	switch (order)
	{
		case ORDER_USER:
			return click->has_user;
		case ORDER_IP:
			return click->ip.family != 0;
		default:
			return true;
	}
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

static void
append_block(FactOrder order, const FactClick *clicks, size_t n, Facts *facts)
{
	size_t		added = 0;

#define APPEND(role) \
	if (order_column(order, role) != NO_COLUMN) \
		added = append_column(order, role, clicks, n, \
							  facts->key[order_column(order, role)] + facts->n)

	APPEND(ROLE_AD);
	APPEND(ROLE_MINUTE);
	APPEND(ROLE_FILTER);
	APPEND(ROLE_USER);
	APPEND(ROLE_HAS_USER);
	APPEND(ROLE_IP_HIGH);
	APPEND(ROLE_IP_LOW);
	APPEND(ROLE_IP_FAMILY);
	APPEND(ROLE_KEY_HIGH);
	APPEND(ROLE_KEY_LOW);
	APPEND(ROLE_BUCKET);
	APPEND(ROLE_CLICKED_AT);
	APPEND(ROLE_DELAY);
	APPEND(ROLE_FLAGS);
	APPEND(ROLE_ID_HIGH);
	APPEND(ROLE_ID_LOW);
#undef APPEND
	for (size_t i = 0; i < added; i++)
		facts->count[facts->n + i] = 1;
	facts->n += added;
}

void
order_append(FactOrder order, const FactClick *clicks, size_t n, Facts *facts)
{
	for (size_t start = 0; start < n; start += BLOCK_CLICKS)
		append_block(order, clicks + start, n - start < BLOCK_CLICKS ? n - start : BLOCK_CLICKS, facts);
}
