/*-------------------------------------------------------------------------
 *
 * adclick.h
 *	  Units, settings and entry points shared by all server-side files.
 *
 * Times are TimestampTz (microseconds since 2000-01-01 UTC).  A minute is the
 * number of whole minutes since then, negative before.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_H
#define ADCLICK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

#define ADCLICK_SCHEMA "adclick"
#define INBOX_AM "adclick_inbox"	/* access method of adclick.clicks */
#define ADCLICK_INTERNAL_SCHEMA "adclick_internal"
#define ADCLICK_API_SCHEMA "adclick_api"

/* settings, see guc.c */
typedef enum DedupPolicy
{
	DEDUP_BY_CLICK_ID,			/* one click per click_id and dedup bucket */
	DEDUP_BY_USER_AND_AD		/* one click per user, ad and dedup bucket */
} DedupPolicy;

extern int	adclick_dedup_memory;	/* MB */
extern int	adclick_dedup_window;	/* s */
extern int	adclick_dedup_by;	/* DedupPolicy */
extern int	adclick_watermark;	/* s */
extern int	adclick_tick_interval;	/* ms */
extern int	adclick_max_filters;
extern int	adclick_future_tolerance;	/* s */
extern int	adclick_raw_retention;	/* min */
extern int	adclick_ledger_retention;	/* min; 0: for ever */
extern int	adclick_user_and_ip_retention;	/* likewise */
extern int	adclick_minute_retention;	/* likewise */
extern int	adclick_day_retention;	/* likewise */
extern char *adclick_archive_directory;	/* empty: nothing is archived */
extern int	adclick_impression_expiry;	/* s */
extern bool adclick_user_and_ip_orders;
extern int	adclick_user_clicks_per_minute;
extern int	adclick_ip_clicks_per_minute;

/* The highest value of the two. */
#define MAX_CLICKS_PER_MINUTE 1000000
extern int	adclick_top_ads_kept;
extern bool adclick_workers_on;

extern void guc_define(void);

/* A secret of this process, for hash tables of what clients choose: two words. */
extern const uint64 *process_seed(void);

/* When a minute begins, as text for messages; allocated. */
extern char *minute_text(int64 minute);

/* The time in ms on a clock that nobody can set, the same in all processes: for delays. */
extern int64 steady_ms(void);

/* What a function returns that has several OUT arguments. */
extern Datum make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls);

/* Whether this session runs what pg_dump has written: no one else turns check_function_bodies off. */
extern bool in_dump(void);

/* A function writes: say so before it starts. */
extern void prevent_read_only(const char *function);

/* A path as one word of the shell. */
extern char *shell_word(const char *path);

/* floor(a / b) for b > 0, also when a is negative */
static inline int64
floor_div(int64 a, int64 b)
{
	return a / b - (a % b < 0);
}

/* For bsearch. */
static inline int
compare_int64(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return (x > y) - (x < y);
}

/* Sort ids or minutes, however many, and leave each once; returns how many are left. */
extern int	sort_unique_int64(int64 *values, int n);

/*
 * Call a function in a subtransaction of its own.  Returns NULL, or the error that
 * it raised and that was rolled back.
 */
extern ErrorData *attempt(void (*inside) (void *arg), void *arg);

/* Every time there is lies between these minutes, before the last one. */
#define FIRST_MINUTE (-INT64CONST(4000000000))
#define LAST_MINUTE (END_TIMESTAMP / USECS_PER_MINUTE)

static inline int64
minute_of(TimestampTz at)
{
	return floor_div(at, USECS_PER_MINUTE);
}

/* The first minute of the hour (UTC) that has this one. */
static inline int64
hour_of(int64 minute)
{
	return floor_div(minute, MINS_PER_HOUR) * MINS_PER_HOUR;
}

#define MINS_PER_DAY (HOURS_PER_DAY * MINS_PER_HOUR)

/* Likewise of the day (UTC). */
static inline int64
day_of(int64 minute)
{
	return floor_div(minute, MINS_PER_DAY) * MINS_PER_DAY;
}

#endif							/* ADCLICK_H */
