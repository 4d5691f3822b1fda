/*-------------------------------------------------------------------------
 *
 * test_orders.c
 *	  The columns of each order, against the clicks they are made of.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "../../src/core/orders.h"
#include "tap.h"

#define CLICKS 1000

static FactClick
random_click(void)
{
	FactClick	click = {
		.ad_id = (int64_t) random_bits(64), .minute = (int64_t) random_bits(30) - (1 << 29),
		.filter_id = (int32_t) random_bits(20), .flags = (uint32_t) random_bits(13),
		.clicked_at = (int64_t) random_bits(64), .delay = (int64_t) random_bits(64),
		.key = {random_bits(64), random_bits(64)}, .bucket = (int64_t) random_bits(64),
		.id = {random_bits(64), random_bits(64)}
	};

	click.has_user = next_random() % 4 != 0;
	click.user_id = click.has_user ? (int64_t) random_bits(64) : 0;
	switch (next_random() % 3)
	{
		case 0:
			click.ip = (IpAddress) {random_bits(32), 0, 4};
			break;
		case 1:
			click.ip = (IpAddress) {random_bits(64), random_bits(64), 6};
			break;
		default:
			break;
	}
	return click;
}

/* Every column there is, each of one role. */
static bool
columns_complete(FactOrder order)
{
	unsigned	seen = 0;

	for (int role = 0; role < ROLES; role++)
		if (order_column(order, role) != NO_COLUMN)
			seen += 1U << order_column(order, role);
	return order_columns[order] <= FACTS_MAX_COLUMNS && seen == (1U << order_columns[order]) - 1;
}

/* Whether the order has it. */
static bool
belongs(FactOrder order, const FactClick *click)
{
	return order == ORDER_AD || order == ORDER_LEDGER || order == ORDER_DAY || (order == ORDER_USER && click->has_user) ||
		(order == ORDER_IP && click->ip.family != 0);
}

/* Clicks appended twice, behind each other: each fact says what its click does. */
static bool
appends_clicks(FactOrder order)
{
	static FactClick clicks[CLICKS];
	Facts		facts;
	void	   *memory = malloc(facts_memory(order_columns[order], 2 * CLICKS));
	size_t		n = 0;
	bool		right = true;

	for (int i = 0; i < CLICKS; i++)
		clicks[i] = random_click();
	facts_init(&facts, order_columns[order], 2 * CLICKS, memory);
	order_append(order, clicks, CLICKS, &facts);
	order_append(order, clicks, CLICKS, &facts);
	for (int i = 0; i < 2 * CLICKS; i++)
	{
		const FactClick *click = &clicks[i % CLICKS];

		if (!belongs(order, click))
			continue;
		for (int role = 0; role < ROLES; role++)
			if (order_column(order, role) != NO_COLUMN)
				right &= facts.key[order_column(order, role)][n] == fact_value(click, role);
		right &= facts.count[n++] == 1;
	}
	free(memory);
	return right && n == facts.n && n > CLICKS;
}

/* Unsigned order of the columns is the order of what they say. */
static bool
keeps_order(void)
{
	bool		right = true;

	for (int i = 0; i < CLICKS; i++)
	{
		FactClick	a = random_click();
		FactClick	b = random_click();

		right &= (a.ad_id < b.ad_id) == (fact_value(&a, ROLE_AD) < fact_value(&b, ROLE_AD));
		right &= (a.minute < b.minute) == (fact_value(&a, ROLE_MINUTE) < fact_value(&b, ROLE_MINUTE));
		right &= (a.clicked_at < b.clicked_at) == (fact_value(&a, ROLE_CLICKED_AT) < fact_value(&b, ROLE_CLICKED_AT));
		right &= (a.bucket < b.bucket) == (fact_value(&a, ROLE_BUCKET) < fact_value(&b, ROLE_BUCKET));
		if (a.has_user && b.has_user)
			right &= (a.user_id < b.user_id) == (fact_value(&a, ROLE_USER) < fact_value(&b, ROLE_USER));
	}
	return right;
}

/* Each value that a click has stands in a column of order ledger, and in no other than its own. */
static bool
ledger_is_whole(void)
{
	static const FactRole whole[] = {
		ROLE_AD, ROLE_FILTER, ROLE_USER, ROLE_IP_HIGH, ROLE_IP_LOW, ROLE_KEY_HIGH, ROLE_KEY_LOW, ROLE_BUCKET,
		ROLE_CLICKED_AT, ROLE_DELAY, ROLE_FLAGS, ROLE_ID_HIGH, ROLE_ID_LOW
	};
	const int	nwhole = sizeof(whole) / sizeof(whole[0]);
	const FactClick click = {
		.ad_id = 1, .filter_id = 2, .user_id = 3, .ip = {4, 5, 6}, .key = {7, 8}, .bucket = 9,
		.clicked_at = 10, .delay = 11, .flags = 12, .id = {13, 14}
	};
	bool		right = order_columns[ORDER_LEDGER] == nwhole;

	for (int i = 0; i < nwhole; i++)
	{
		right &= order_column(ORDER_LEDGER, whole[i]) != NO_COLUMN;
		for (int j = 0; j < i; j++)
			right &= fact_value(&click, whole[i]) != fact_value(&click, whole[j]);
	}
	return right;
}

/* What was given for one dimension does not touch the others, nor other flags. */
static bool
dimensions_stand_apart(void)
{
	bool		right = true;

	for (int all = 0; all < 64; all++)
	{
		uint32_t	flags = LEDGER_UNPACKED | LEDGER_HAS_USER;

		for (int d = 0; d < LEDGER_DIMENSIONS; d++)
			flags |= ledger_dimension(d, (DimensionGiven) (all >> 2 * d & 3));
		for (int d = 0; d < LEDGER_DIMENSIONS; d++)
			right &= (int) ledger_dimension_given(flags, d) == (all >> 2 * d & 3);
		right &= (flags & 127) == (LEDGER_UNPACKED | LEDGER_HAS_USER) && ledger_flags_possible(flags);
	}
	return right;
}

/* Of all flags there are, those that contradict each other. */
static bool
refuses_impossible(void)
{
	bool		right = !ledger_flags_possible(LEDGER_ALL_FLAGS + 1) && !ledger_flags_possible(UINT64_MAX);

	for (uint32_t flags = 0; flags <= LEDGER_ALL_FLAGS; flags++)
	{
		bool		folded = false;

		for (int d = 0; d < LEDGER_DIMENSIONS; d++)
			folded |= (flags >> (7 + 2 * d) & 3) == DIMENSION_FOLDED;
		right &= ledger_flags_possible(flags) ==
			((flags & 12) != 12 && (flags & 48) != 48 && (!folded || (flags & 64)));
	}
	return right;
}

int
main(void)
{
	bool		complete = true;
	bool		appended = true;

	for (int order = 0; order < ORDERS; order++)
	{
		complete &= columns_complete(order);
		appended &= appends_clicks(order);
	}
	ok(complete, "each column of an order has one role");
	ok(appended, "facts say what their clicks do; clicks that do not belong are left out");
	ok(keeps_order(), "columns keep the order of values");
	ok(ledger_is_whole(), "order ledger has every value of a click, each in a column");
	ok(dimensions_stand_apart(), "flags say how each dimension was given");
	ok(refuses_impossible(), "flags that contradict each other are impossible");
	return done_testing();
}
