/*-------------------------------------------------------------------------
 *
 * orders.h
 *	  The orders in which facts are kept, and which column of a key is what.
 *
 *	order	key columns
 *	ad		ad, minute, filter
 *	user	user, minute, ad, filter
 *	ip		ip high, ip low, ip family, minute, user, has user, ad, filter
 *	ledger	key high, key low, bucket, clicked at, delay, ad, user, ip high,
 *			ip low, filter, flags, id high, id low
 *	day		ad, minute, filter: the minute is the first of a day (UTC)
 *
 * Order ledger has each click that was counted, whole.  By its dedup key, which comes
 * first, it is the memory of what was seen; all columns together, with the flags
 * and the filter's texts, give back the row that was sent.
 *
 * Order day has what order ad has of whole days, summed up by day.  Its facts look like
 * those of one minute of the day, so who is asked about whole days reads either.
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

#include "dedup.h"
#include "facts.h"

typedef enum FactOrder
{
	ORDER_AD,
	ORDER_USER,
	ORDER_IP,
	ORDER_LEDGER,
	ORDER_DAY,
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
	ROLE_CLICKED_AT,
	ROLE_DELAY,
	ROLE_FLAGS,
	ROLE_ID_HIGH,
	ROLE_ID_LOW,
	ROLES
} FactRole;

/* How many key columns an order has, and which is which: from 1, 0 if it has not. */
extern const int order_columns[ORDERS];
extern const uint8_t order_places[ORDERS][ROLES];

#define NO_COLUMN (-1)

/* The column with this role, or NO_COLUMN. */
static inline int
order_column(FactOrder order, FactRole role)
{
	return order_places[order][role] - 1;
}

/* 4 or 6; 0: the click has no address */
typedef struct IpAddress
{
	uint64_t	high;
	uint64_t	low;
	uint8_t		family;
} IpAddress;

/* What the values of a click in order ledger do not say themselves. */
typedef enum LedgerFlags
{
	LEDGER_HAS_USER = 1 << 0,
	LEDGER_HAS_CLICKED_AT = 1 << 1, /* else its arrival stands there */
	LEDGER_ID_IS_KEY = 1 << 2,
	LEDGER_ID_APART = 1 << 3,	/* the key is another, and the id has columns of its own */
	LEDGER_IPV4 = 1 << 4,
	LEDGER_IPV6 = 1 << 5,
	LEDGER_UNPACKED = 1 << 6	/* the row stands elsewhere: here are its key and what was counted */
} LedgerFlags;

/* From here on two bits for each dimension: how it was given. */
#define LEDGER_DIMENSIONS_SHIFT 7
#define LEDGER_DIMENSIONS 3
#define LEDGER_ALL_FLAGS ((1U << (LEDGER_DIMENSIONS_SHIFT + 2 * LEDGER_DIMENSIONS)) - 1)

typedef enum DimensionGiven
{
	DIMENSION_NULL,
	DIMENSION_EMPTY,
	DIMENSION_TEXT,				/* as the filter says */
	DIMENSION_FOLDED			/* the filter has "other" instead: only of what is unpacked */
} DimensionGiven;

static inline uint32_t
ledger_dimension(int dimension, DimensionGiven given)
{
	return (uint32_t) given << (LEDGER_DIMENSIONS_SHIFT + 2 * dimension);
}

static inline DimensionGiven
ledger_dimension_given(uint64_t flags, int dimension)
{
	return (DimensionGiven) (flags >> (LEDGER_DIMENSIONS_SHIFT + 2 * dimension) & 3);
}

/* Whether a click can have them. */
extern bool ledger_flags_possible(uint64_t flags);

/* One click that counts, as the facts of all orders are made of it. */
typedef struct FactClick
{
	int64_t		ad_id;
	int64_t		minute;
	int64_t		user_id;		/* 0 if it has none */
	IpAddress	ip;
	int32_t		filter_id;
	bool		has_user;

	/* of order ledger alone */
	uint32_t	flags;
	int64_t		clicked_at;
	int64_t		delay;			/* until it arrived, whole milliseconds */
	DedupKey	key;
	int64_t		bucket;
	DedupKey	id;				/* if it stands apart from the key */
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
			return facts_from_int64(click->user_id);
		case ROLE_HAS_USER:
			return click->has_user;
		case ROLE_IP_HIGH:
			return click->ip.high;
		case ROLE_IP_LOW:
			return click->ip.low;
		case ROLE_IP_FAMILY:
			return click->ip.family;
		case ROLE_KEY_HIGH:
			return click->key.hi;
		case ROLE_KEY_LOW:
			return click->key.lo;
		case ROLE_BUCKET:
			return facts_from_int64(click->bucket);
		case ROLE_CLICKED_AT:
			return facts_from_int64(click->clicked_at);
		case ROLE_DELAY:
			return facts_from_int64(click->delay);
		case ROLE_FLAGS:
			return click->flags;
		case ROLE_ID_HIGH:
			return click->id.hi;
		case ROLE_ID_LOW:
			return click->id.lo;
		case ROLES:
			break;
	}
	return 0;
}

/* Append those clicks that belong in the order, not sorted; there is room for all. */
extern void order_append(FactOrder order, const FactClick *clicks, size_t n, Facts *facts);

#endif							/* ADCLICK_ORDERS_H */
