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
		.filter_id = (int32_t) random_bits(20)
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
		if (order_column[order][role] != NO_COLUMN)
			seen += 1U << order_column[order][role];
	return order_columns[order] <= FACTS_MAX_COLUMNS && seen == (1U << order_columns[order]) - 1;
}

/* Order key is not made of these clicks. */
static bool
belongs(FactOrder order, const FactClick *click)
{
	return order == ORDER_AD || (order == ORDER_USER && click->has_user) ||
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
			if (order_column[order][role] != NO_COLUMN)
				right &= facts.key[order_column[order][role]][n] == fact_value(click, role);
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
		if (a.has_user && b.has_user)
			right &= (a.user_id < b.user_id) == (fact_value(&a, ROLE_USER) < fact_value(&b, ROLE_USER));
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
		appended &= order == ORDER_KEY || appends_clicks(order);
	}
	ok(complete, "each column of an order has one role");
	ok(appended, "facts say what their clicks do; clicks that do not belong are left out");
	ok(keeps_order(), "columns keep the order of values");
	return done_testing();
}
