/*-------------------------------------------------------------------------
 *
 * orders.h
 *	  The orders in which facts are kept, and which column of a key is what.
 *
 *	order	key columns
 *	ad		ad, minute, filter
 *	user	user, minute, ad, filter
 *	ip		ip high, ip low, ip family, minute, user, has user, ad, filter
 *	key		key high, key low, bucket
 *
 * Order key has the dedup key of each click that was counted, and nothing else: the
 * memory of what was seen.
 *
 * Clicks without a user are not in order user, clicks without an address not in
 * order ip.  The user stands in order ip, not the address in order user: that
 * answers for both together, too, and takes fewer bytes.
 *
 * An address is three columns.  IPv4: high is the address, low 0; IPv6: high and
 * low are its halves.  So a network is one range of the first column, and IPv4
 * addresses, which fill the lowest 2^32 values, are packed in few bits.  The
 * family keeps an IPv6 address that begins with 32 zero bits apart.
 *
 * Pure memory: no server headers.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_ORDERS_H
#define ADCLICK_ORDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "facts.h"

typedef enum FactOrder
{
	ORDER_AD,
	ORDER_USER,
	ORDER_IP,
	ORDER_KEY,
	ORDERS
} FactOrder;

/* What a column of a key says. */
typedef enum FactRole
{
	ROLE_AD,
	ROLE_MINUTE,
	ROLE_FILTER,
	ROLE_USER,
	ROLE_HAS_USER,
	ROLE_IP_HIGH,
	ROLE_IP_LOW,
	ROLE_IP_FAMILY,
	ROLE_KEY_HIGH,
	ROLE_KEY_LOW,
	ROLE_BUCKET,
	ROLES
} FactRole;

#define NO_COLUMN (-1)

/* How many key columns an order has, and which is which: NO_COLUMN if it has not. */
extern const int order_columns[ORDERS];
extern const int order_column[ORDERS][ROLES];

/* 4 or 6; 0: the click has no address */
typedef struct IpAddress
{
	uint64_t	high;
	uint64_t	low;
	uint8_t		family;
} IpAddress;

/* One click that counts, as the facts of all orders are made of it. */
typedef struct FactClick
{
	int64_t		ad_id;
	int64_t		minute;
	int64_t		user_id;
	IpAddress	ip;
	int32_t		filter_id;
	bool		has_user;
} FactClick;

/* What a column of this role says of the click. */
static inline uint64_t
fact_value(const FactClick *click, FactRole role)
{
	switch (role)
	{
		case ROLE_AD:
			return facts_from_int64(click->ad_id);
		case ROLE_MINUTE:
			return facts_from_int64(click->minute);
		case ROLE_FILTER:
			return (uint64_t) click->filter_id;
		case ROLE_USER:
			return click->has_user ? facts_from_int64(click->user_id) : 0;
		case ROLE_HAS_USER:
			return click->has_user;
		case ROLE_IP_HIGH:
			return click->ip.high;
		case ROLE_IP_LOW:
			return click->ip.low;
		case ROLE_IP_FAMILY:
			return click->ip.family;
		case ROLE_KEY_HIGH:
		case ROLE_KEY_LOW:
		case ROLE_BUCKET:
		case ROLES:
			break;
	}
	return 0;
}

/* Append those clicks that belong in order ad, user or ip, not sorted; there is room for all. */
extern void order_append(FactOrder order, const FactClick *clicks, size_t n, Facts *facts);

#endif							/* ADCLICK_ORDERS_H */
