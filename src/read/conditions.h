/*-------------------------------------------------------------------------
 *
 * conditions.h
 *	  What a question asks for: a window of minutes, and filters.
 *
 * The checks of arguments are here, with the errors users see.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_CONDITIONS_H
#define ADCLICK_CONDITIONS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "base/adclick.h"
#include "core/orders.h"
#include "store/filters.h"
#include "store/store.h"

/* A range of addresses, both ends included: a network, or one address. */
typedef struct IpRange
{
	IpAddress	first;
	IpAddress	last;
} IpRange;

/* A sorted list of ids, each once; any of them. */
typedef struct IdList
{
	bool		given;			/* whether there is a condition at all */
	int			n;
	int			room;
	int64	   *ids;
} IdList;

/* A sorted list of values of a dimension, each once. */
typedef struct FilterValue
{
	const char *value;
	int			length;
} FilterValue;

typedef struct ValueList
{
	int			n;
	int			room;
	FilterValue *values;
} ValueList;

/* What a filter_id is to conditions on dimensions, as bits: so a loop can put together what it has met. */
#define FILTER_MATCHES 1
#define FILTER_MISSING 2		/* has no row; no stored fact may have it */

typedef struct Conditions
{
	int64		from;			/* first minute */
	int64		to;				/* the minute after the last */
	IdList		ads;
	IdList		users;
	bool		has_ips;
	int			nips;
	int			ips_room;
	IpRange    *ips;			/* any of them; sorted, apart from each other */
	bool		filtered;		/* whether there are conditions on dimensions */
	bool		has_values[DIMENSIONS];
	ValueList	values[DIMENSIONS]; /* any of them */
	uint64		filters_end;	/* above all filter_ids there are */
	uint8	   *matches;		/* by filter_id, 0 .. filters_end: FILTER_MATCHES, FILTER_MISSING or 0 */
} Conditions;

/* The last minutes, the current one included. */
extern void conditions_last_minutes(Conditions *conditions, int32 minutes);

/* From one time up to, not including, another; both on whole minutes. */
extern void conditions_window(Conditions *conditions, TimestampTz from, TimestampTz to);

/* Likewise, both on whole hours. */
extern void conditions_hours(Conditions *conditions, TimestampTz from, TimestampTz to);

/* An error unless the window ends no earlier than it begins. */
extern void conditions_check_order(TimestampTz from, TimestampTz to);

/*
 * What a question's filters say.  Refers to the strings in "filters".  Values that
 * no click counts under, the empty one and those that are too long, match nothing; nor do
 * advertisers that are not in the scope (see scope.h).
 */
extern void conditions_filters(Conditions *conditions, Jsonb *filters, const IdList *scope);

/*
 * Then, of the ads that there are conditions on: only this ad, which is in the scope; the ads
 * of an advertiser, who is; or all ads of the scope.
 */
extern void conditions_ad(Conditions *conditions, int64 ad_id);
extern void conditions_advertiser(Conditions *conditions, int64 advertiser_id);
extern void conditions_scope(Conditions *conditions, const IdList *scope);

/* A value as an error message shows it: not too much of it. */
extern const char *conditions_shown(const char *text, int length);

/* A combination of dimensions to be registered, from the argument of add_filter. */
extern void conditions_read_filter(Jsonb *filter, StoreFilter *dimensions);

/*
 * The combination, if that is all that is asked for: no other conditions, and
 * no more than one value of a dimension.
 */
extern bool conditions_as_filter(const Conditions *conditions, StoreFilter *dimensions);

/* Whether a combination of dimensions is asked for. */
extern bool conditions_match_dimensions(const Conditions *conditions, const Dimensions *dimensions);

extern bool conditions_match_ip(const Conditions *conditions, const IpAddress *ip);

static inline bool
conditions_match_id(const IdList *list, int64 id)
{
	return !list->given ||
		(list->n == 1 ? list->ids[0] == id :
		 bsearch(&id, list->ids, list->n, sizeof(int64), compare_int64) != NULL);
}

/* An error if there is no such filter_id. */
static inline bool
conditions_match_filter(const Conditions *conditions, uint64 filter_id)
{
	uint8		match = conditions->matches[Min(filter_id, conditions->filters_end)];

	if (unlikely(match == FILTER_MISSING))
		filters_refuse_missing(filter_id);
	return match == FILTER_MATCHES;
}

static inline bool
conditions_match_minute(const Conditions *conditions, int64 minute)
{
	return minute >= conditions->from && minute < conditions->to;
}

/* The end of the window for facts of a run: a day that it cuts is not to be had from order day. */
static inline int64
window_end(const Conditions *conditions, const StoreRun *run)
{
	return run->order == ORDER_DAY ? day_of(conditions->to) : conditions->to;
}

/* Whether all facts of a run are in the window. */
static inline bool
run_is_inside(const StoreRun *run, const Conditions *conditions)
{
	return run->first_minute >= conditions->from && run->last_minute < window_end(conditions, run);
}

#endif							/* ADCLICK_CONDITIONS_H */
