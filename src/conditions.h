/*-------------------------------------------------------------------------
 *
 * conditions.h
 *	  What a question asks for: a window of minutes, and filters on dimensions.
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

#include "filters.h"

typedef struct Conditions
{
	int64		from;			/* first minute */
	int64		to;				/* the minute after the last */
	bool		filtered;		/* whether there are conditions on dimensions */
	bool		has_values[DIMENSIONS];
	List	   *values[DIMENSIONS]; /* of text *: any of them */
	int32		max_filter_id;
	bool	   *matches;		/* by filter_id, 0 .. max_filter_id */
} Conditions;

/* The last minutes, the current one included. */
extern void conditions_last_minutes(Conditions *conditions, int32 minutes);

/* From one time up to, not including, another; both on whole minutes. */
extern void conditions_window(Conditions *conditions, TimestampTz from, TimestampTz to);

extern void conditions_filters(Conditions *conditions, Jsonb *filters);

/* Whether a stored fact, or a click with these dimensions, is asked for. */
extern bool conditions_match_dimensions(const Conditions *conditions, const Dimensions *dimensions);

static inline bool
conditions_match_filter(const Conditions *conditions, uint64 filter_id)
{
	return filter_id <= (uint64) conditions->max_filter_id && conditions->matches[filter_id];
}

static inline bool
conditions_match_minute(const Conditions *conditions, int64 minute)
{
	return minute >= conditions->from && minute < conditions->to;
}

#endif							/* ADCLICK_CONDITIONS_H */
