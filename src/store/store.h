/*-------------------------------------------------------------------------
 *
 * store.h
 *	  The tables of the extension: state, runs of segments, what is set aside.
 *
 * The only file that knows their names.  Writers use SQL; readers of segments
 * go to the index and the table directly, in the active snapshot.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_STORE_H
#define ADCLICK_STORE_H

#include "postgres.h"

#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "base/compat.h"
#include "base/definitions.h"
#include "core/orders.h"
#include "core/topn.h"
#include "filters.h"
#include "inbox/click.h"
#include "inbox/impression.h"

/*
 * Only one tick, and only one compaction, runs in a database at a time: the
 * others wait for the lock, until the end of the transaction that holds it.
 * Readers that must load the dedup set take the tick's too, and give it back
 * at once: their transaction may be long.
 */
typedef enum StoreLock
{
	STORE_LOCK_TICK = 1,
	STORE_LOCK_COMPACTION,
	STORE_LOCK_RECONCILIATION,
	STORE_LOCK_ARCHIVE,			/* who writes a volume to a file */
	STORE_LOCK_RESTORED,		/* who brings clicks back from files, or lets them go */
	STORE_LOCK_SOURCES			/* who reads log files */
} StoreLock;

/* Follow transactions: called once, when the module is loaded. */
extern void store_install(void);

extern void store_lock(StoreLock lock);
extern bool store_try_lock(StoreLock lock);
extern void store_unlock(StoreLock lock);

/*
 * Keep DROP EXTENSION out to the end of the transaction; false if the
 * extension is gone.
 */
extern bool store_keep_extension(void);

/* adclick_internal.state */
typedef struct StoreState
{
	int64		tick;			/* of the last tick */
	TimestampTz ticked_at;		/* DT_NOBEGIN: never */
	TimestampTz newest_received;	/* DT_NOBEGIN: nothing received */
	TimestampTz event_time;		/* DT_NOBEGIN: nothing counted */
	int64		rows_read;
	int64		verdicts[CLICK_VERDICTS];	/* of so many of them */
	int64		late;			/* of those counted, that arrived after their minute was to be closed */
	ClickRules	rules;
	int64		highest_bucket; /* of the rule in force that has a key; PG_INT64_MIN: none */
	int64		dropped;		/* of the clicks counted, those that are no longer in the ledger */
	int64		discarded_dropped;	/* of the others, those that are no longer kept */
	int64		dropped_until;	/* last minute in which one was clicked, or its bucket begins; PG_INT64_MIN: none */
	int64		people_dropped_until;	/* last minute of what orders user and ip have dropped; likewise */
	int64		minutes_dropped;	/* of the clicks counted, those of days whose minutes were dropped ... */
	int64		days_dropped;	/* ... and those of days that were dropped as a whole */
	int64		minutes_dropped_until;	/* last minute of such days; likewise */
	int64		days_dropped_until;
} StoreState;

extern void store_get_state(StoreState *state);

/* Whether there is one, and all that belongs to it. */
extern bool store_can_answer(void);

/*
 * A restore: between begin and end the data of a dump comes.  There is no state for anybody
 * (55000) before all tables have come, and no tick or compaction before the end, which
 * is when all is there that the state and the runs speak of; without any data all is as at
 * first.  The text of store_find_missing() is NULL if nothing is missing.
 */
extern bool store_in_restore(void);
extern void store_begin_restore(void);
extern void store_end_restore(void);
extern char *store_find_missing(void);

/* A table's data comes: by one COPY, or some INSERTs.  False if it came by COPY before, or by COPY now and in some way before. */
extern bool store_note_restored(Oid table, bool by_copy);

/* So many tables have come; wait for who brings another one, to the end of the transaction. */
extern int64 store_count_restored(void);
extern void store_await_restorers(void);

/* A dump is begun once more: if some of its data has come, or of another's, nothing more does. */
extern void store_try_restore_again(void);
extern bool store_was_tried_again(void);

/* The error that there is no state, and nothing counted, before all data of a dump has come (55000). */
pg_noreturn extern void store_refuse_in_restore(void);

extern bool store_has_state(void);
extern void store_add_state(void);

/*
 * Replace the state of tick "expected", but for what was dropped; an error if it is no
 * longer that.
 */
extern void store_set_state(const StoreState *state, int64 expected);

/*
 * Of the rule of ads with an override: give it its number, that it had before or a new one; and
 * write down its last bucket, as a tick has a key in a higher one.
 */
extern void store_number_rule(StoreState *state);
extern void store_keep_other_rule(const StoreState *state);

/* Whether the settings are no longer those of the state; make them so. */
extern bool store_rules_differ(const StoreState *state);
extern void store_follow_settings(StoreState *state);

/*
 * The rule of disguised keys with this window: one that is not long in use, or a new
 * one; what it is to be when some were written; and, once no copy of theirs can arrive,
 * the end of its secret.
 */
extern void store_get_forgotten_rule(const StoreState *state, int64 window, DedupRule *rule);
extern void store_keep_forgotten_rule(const DedupRule *rule);
extern void store_forget_secrets(const StoreState *state);

/* The user's rows of unpacked clicks, which a run has from now on (0: they stay with theirs). */
extern void store_forget_unpacked(int64 user_id, int64 run_id);

/* Take a user and his addresses off what else was set aside; returns how many clicks were discarded ones. */
extern int64 store_forget_set_aside(int64 user_id);

/*
 * Make active the snapshot that a round reads and changes: the newest, or in a
 * REPEATABLE READ or SERIALIZABLE transaction its only one, so that questions
 * after the round see no more than those before.  The latter can be too old.  Or the newest
 * in any case.
 * With the lock held these two make sure it is not, or fail as other updates do
 * (40001): a tick comes after every other tick, a compaction (and what changes
 * the filters) after every other one.
 */
extern void store_push_snapshot(void);
extern void store_push_newest(void);
extern void store_claim_tick(const StoreState *state);
extern void store_claim_compaction(void);

/* Both locks, both claims, and the state: beside nothing that writes counts.  Its snapshot is left active. */
extern void store_claim_all(StoreState *state);

/* How many minutes behind those of the final runs have facts in deltas of order ad. */
extern int64 store_count_open_minutes(void);

/* How many clicks runs of order ad have in a minute. */
extern double store_count_clicks(int64 minute);

/*
 * Set rows aside: beside the volume of the ledger that is written to, or valid ones, which order ledger
 * has no columns for, into adclick_internal.unpacked_clicks, with the run that has their keys.  The slot has the inbox's
 * columns.  Triggers people put on the tables do not fire: workers run no code of
 * users.
 */
typedef struct StoreSink StoreSink;
extern StoreSink *store_set_aside_begin(int64 ledger_run);
extern void store_set_aside(StoreSink *sink, TupleTableSlot *slot, ClickVerdict verdict);
extern void store_set_aside_end(StoreSink *sink);

/* How many rows there are of each verdict, and of none that there is; and how many are no longer kept. */
typedef struct StoreSetAside
{
	int64		verdicts[CLICK_VERDICTS];
	int64		dropped[CLICK_VERDICTS];
	int64		unknown;
} StoreSetAside;

extern void store_count_set_aside(StoreSetAside *rows);

/*
 * Read the clicks that were not counted, one after the other: as the active snapshot sees
 * them, all that it sees or the error that it is too old (72000).
 */
typedef struct StoreDiscarded StoreDiscarded;
extern StoreDiscarded *store_discarded_begin(void);
extern TupleTableSlot *store_discarded_next(StoreDiscarded *discarded);
extern void store_discarded_end(StoreDiscarded *discarded);

/*
 * Runs.  A run of order ad that is no delta has the facts of one closed minute, or
 * of one settled hour, and then no other has any of that hour; one of order day those of a
 * whole day; those of other orders have any minutes.  Minutes of order day are the first of a
 * day.  Minutes of order ledger are those in which a bucket begins, or a
 * click was clicked.
 */
typedef struct StoreRun
{
	int64		run_id;
	FactOrder	order;
	bool		is_delta;
	int64		first_minute;
	int64		last_minute;
	int64		segments;
	int64		facts;
	int64		clicks;
	int32		volume;			/* of final runs but those of order ad; STORE_RESTORED; else NO_VOLUME */
} StoreRun;

#define NO_VOLUME (-1)

/* What a final run of order ad or day has, and a list is of. */
typedef enum StoreGrain
{
	GRAIN_MINUTE,
	GRAIN_HOUR,
	GRAIN_DAY,
	GRAINS
} StoreGrain;

static inline int64
grain_minutes(StoreGrain grain)
{
	return grain == GRAIN_DAY ? MINS_PER_DAY : grain == GRAIN_HOUR ? MINS_PER_HOUR : 1;
}

/* Of a run of an hour, first_minute and last_minute are those of the hour; of a day both are its first. */
static inline StoreGrain
store_grain(const StoreRun *run)
{
	if (run->order == ORDER_DAY)
		return GRAIN_DAY;
	return run->first_minute < run->last_minute ? GRAIN_HOUR : GRAIN_MINUTE;
}

/* The column by which minutes of an order's runs are told: of order ledger, the bucket. */
static inline int
store_minute_column(FactOrder order)
{
	return order_column(order, order == ORDER_LEDGER ? ROLE_BUCKET : ROLE_MINUTE);
}

/* The minute that a value of it says; of a bucket, that in which it begins. */
static inline int64
store_minute(FactOrder order, uint64 value)
{
	return order == ORDER_LEDGER ? floor_div(bucket_second(facts_to_int64(value)), SECS_PER_MINUTE) :
		facts_to_int64(value);
}

/* The lowest value of a minute. */
static inline uint64
store_minute_value(FactOrder order, int64 minute)
{
	return facts_from_int64(order == ORDER_LEDGER ? (minute * SECS_PER_MINUTE) * ((int64) 1 << BUCKET_RULE_BITS) : minute);
}

/* No fact lies in a later minute, whatever its order; FIRST_MINUTE if there is none. */
extern int64 store_last_minute(void);

/* The runs with one of the minutes from .. to (included), deltas first. */
extern StoreRun *store_get_runs(FactOrder order, int64 from, int64 to, int *count);

/*
 * Those of order ad, but for the days (UTC) of which the window has all minutes: final runs
 * of such a day give way to the one of order day, if there is one, and its deltas.  A day
 * has the facts of its final runs of order ad, in any snapshot, so each fact is in one place; but
 * of deltas of order day only days that the window has all of are asked for.
 */
extern StoreRun *store_get_fewest_runs(int64 from, int64 to, int *count);

/* The same as store_get_runs, whatever they say of themselves; and an error if that cannot be (XX001). */
extern StoreRun *store_get_any_runs(FactOrder order, int64 from, int64 to, int *count);
extern void store_check_run(const StoreRun *run);

/*
 * Those with clicks that came back from files.  All other functions pass them by: what has
 * been dropped tells no duplicates any more, and is none of what the ledger should have.
 */
extern StoreRun *store_get_restored_runs(int64 from, int64 to, int *count);

/* A run of a volume. */
extern void store_get_ledger_run(int64 run_id, StoreRun *run);

/* Those of order ledger that have a bucket beginning in one of these minutes, ascending. */
extern StoreRun *store_get_key_runs(const int64 *minutes, int nminutes, int *count);

/* Whether there is such a run now, whatever the active snapshot sees. */
extern bool store_has_run(int64 run_id);

/* How many clicks runs of order ledger say they have. */
extern int64 store_count_ledger(void);

/* The minutes in which they have facts, of order ad, ascending. */
extern int64 *store_get_fact_minutes(int64 from, int64 to, int *count);

/* A minute of a run, and its clicks there. */
typedef struct StoreMinute
{
	int64		minute;
	int64		clicks;
} StoreMinute;

/* The minutes from .. to (included) in which a run of order ad has facts, ascending. */
extern StoreMinute *store_get_run_minutes(const StoreRun *run, int64 from, int64 to, int *count);

/* How much there is of order ad in minutes from .. to. */
typedef struct StoreSize
{
	double		runs;
	double		facts;
	double		deltas;			/* of the runs */
	double		delta_facts;	/* of the facts */
	double		minutes;		/* no fewer than there are */
	double		hours;			/* of the runs, those of hours */
	double		hour_facts;		/* and their facts */
} StoreSize;

/* "with_days": and of order day, of those whose minutes were dropped. */
extern void store_get_size(int64 from, int64 to, bool with_days, StoreSize *size);

/* Runs that a compaction leaves alone. */
typedef struct StoreLeftOut
{
	int64	   *run_ids;
	int			n;
} StoreLeftOut;

/* The oldest deltas with a fact in minute "from" or later, no more than "limit". */
extern StoreRun *store_get_deltas(FactOrder order, int64 from, int limit, const StoreLeftOut *left_out,
								  int *count);

/* All deltas of order ad or day without one, the oldest first. */
extern StoreRun *store_get_late(FactOrder order, int64 from, const StoreLeftOut *left_out, int *count);

/* The runs of the minutes of the oldest hour in minutes from .. before that still has them. */
extern StoreRun *store_get_settled(int64 from, int64 before, const StoreLeftOut *left_out, int *count);

/* The end of the last hour that has a run, of those that end by minute "before"; FIRST_MINUTE if there is none. */
extern int64 store_end_of_hours(int64 before);

/*
 * The first day in minutes from .. before that has final runs of order ad, and none of order
 * day; LAST_MINUTE if there is none.  Not one with a run that is left out.
 */
extern int64 store_get_unmade_day(int64 from, int64 before, const StoreLeftOut *left_out);

/* The final runs of order ad that end in minutes from .. to. */
extern StoreRun *store_get_finals(int64 from, int64 to, int *count);

/* Which of these days have a run of order day, ascending. */
extern int64 *store_get_made_days(const int64 *days, int ndays, int *count);

/* How many days have other clicks in order day than their final runs of order ad. */
extern int64 store_count_wrong_days(void);

/* The run of the minute, hour or day that begins with "first": 0 or 1. */
extern int	store_get_final(int64 first, StoreGrain grain, StoreRun *run);

/* How many facts final runs of order ad or day have, of those that end in minutes from .. to. */
extern int64 store_count_final_facts(FactOrder order, int64 from, int64 to, const StoreLeftOut *left_out);

/* The runs of all orders that say of themselves what cannot be: who else meets one gets an error (XX001). */
extern StoreRun *store_get_impossible(int *count);

/* Error about what the directory says of a run (XX001). */
pg_noreturn extern void store_damaged_run(int64 run_id, const char *detail);

extern void store_delete_runs(const StoreRun *runs, int count);

/* Rows set aside with these runs go with another one, into which they were merged. */
extern void store_move_unpacked(const StoreRun *runs, int count, int64 run_id);

/* A minute, an hour or a day that has facts in deltas. */
typedef struct StorePending
{
	int64		first;			/* its first minute */
	int64		pending;		/* facts in deltas */
	int64		compacted;		/* facts in its own run */
} StorePending;

/*
 * What some deltas have for closed minutes from minute "settled" on, but for hours that
 * have a run; and for hours that have one, or end before it.  Ascending, and without those
 * whose run is left out, and hours that still have runs of minutes.
 */
extern StorePending *store_get_pending_minutes(const StoreRun *deltas, int ndeltas, int64 settled, int64 closed,
											   const StoreLeftOut *left_out, int *count);
extern StorePending *store_get_pending_hours(const StoreRun *deltas, int ndeltas, int64 settled,
											 const StoreLeftOut *left_out, int *count);

/* What deltas of order day have for days whose run is not left out, ascending. */
extern StorePending *store_get_pending_days(const StoreRun *deltas, int ndeltas,
											const StoreLeftOut *left_out, int *count);

/* On which shelf final runs of an order lie; those of orders ad and day are on none. */
static inline bool
store_has_shelf(FactOrder order)
{
	return order != ORDER_AD && order != ORDER_DAY;
}

static inline Shelf
store_shelf(FactOrder order)
{
	return order == ORDER_LEDGER ? SHELF_LEDGER : SHELF_PEOPLE;
}

/* Where the segments of a run are: the number of a table of volumes (see definitions.h), or one of these. */
typedef int32 StoreTable;

#define STORE_FINAL (-1)
#define STORE_DELTAS (-2)
#define STORE_RESTORED (-3)		/* clicks of the ledger that came back from files */

static inline StoreTable
store_volume_table(Shelf shelf, int32 volume)
{
	return shelf * SHELF_TABLES + volume % SHELF_TABLES;
}

/* Where clicks are set aside while a volume of the ledger is written to. */
static inline StoreTable
store_discarded_table(int32 volume)
{
	return VOLUME_TABLES + volume % SHELF_TABLES;
}

static inline StoreTable
store_table(const StoreRun *run)
{
	if (run->is_delta)
		return STORE_DELTAS;
	return run->volume == NO_VOLUME ? STORE_FINAL : store_volume_table(store_shelf(run->order), run->volume);
}

/* Its name, in the internal schema. */
extern const char *store_table_name(StoreTable table);

/* An id for a run that is to be written. */
extern int64 store_new_run(void);

/*
 * Write a run: begin, add sorted facts (columns of the order) in one or more
 * ascending batches, end.  A run without facts is not written.
 */
typedef struct StoreWriter StoreWriter;
extern StoreWriter *store_writer_begin(FactOrder order, bool is_delta);

/* Under an id of store_new_run; 0: its own. */
extern StoreWriter *store_writer_begin_as(FactOrder order, bool is_delta, int64 run_id);
extern StoreWriter *store_writer_begin_final(StoreGrain grain);

/* Of order ledger, with clicks that came back from a file. */
extern StoreWriter *store_writer_begin_restored(int64 run_id);

/* In the place of a run that is deleted: a delta as that one is, or in its volume. */
extern StoreWriter *store_writer_begin_instead(const StoreRun *run, int64 run_id);
extern void store_writer_add(StoreWriter *writer, const Facts *facts, size_t start, size_t n);
extern void store_writer_end(StoreWriter *writer);

/*
 * Read the segments of a run in key order: the one way to do so.  No page stays
 * pinned in between.  A segment that is not what its checksum says, is missing or
 * belongs to another run is an error (XX001); or, if the run's volume has been dropped since
 * the snapshot was taken, the error that says that it is too old (72000).
 */
typedef struct StoreScan StoreScan;
extern StoreScan *store_scan_begin(StoreTable table);

/* Before the first segment of a run that can hold first columns low .. high; that may be read, and its page pinned, until it is handed over. */
extern void store_scan_run(StoreScan *scan, const StoreRun *run, uint64 low, uint64 high);

/* All columns, with their order checked in full. */
#define STORE_WHOLE_KEY PG_UINT32_MAX

/*
 * Decode these columns of the next of them into the arrays of facts, from their
 * start, as segment_decode_columns does; the first column must be among them.
 * False at the end.  Without "facts" it is only read and checked.
 */
extern bool store_scan_next(StoreScan *scan, unsigned columns, Facts *facts);

/* Whether another segment of the run follows the one returned, and its first key. */
extern bool store_scan_follows(const StoreScan *scan, uint64 *first_key);

/* Of some runs, at least one, that with the most segments. */
extern const StoreRun *store_largest_run(const StoreRun *runs, int n);

/* Where a piece of that range ends in which the run has so many segments, the last one included; or "high". */
extern uint64 store_scan_piece(StoreScan *scan, const StoreRun *run, int segments, uint64 low, uint64 high);

/*
 * Those that can hold first columns low .. high, instead, in descending order:
 * call store_scan_previous until it returns false.
 */
extern void store_scan_range(StoreScan *scan, const StoreRun *run, uint64 low, uint64 high);
extern bool store_scan_previous(StoreScan *scan, unsigned columns, Facts *facts);

/* Of this range, segments without a fact that has the value in the column, which is decoded, are passed over. */
extern void store_scan_where(StoreScan *scan, int column, uint64 value);
extern void store_scan_end(StoreScan *scan);

/*
 * Take facts out of a run where it stands: of those with one of these first columns,
 * as facts_to_int64 has them, ascending, the ones that "takes" says; each that goes is
 * handed to "taken".  The active snapshot sees the change.  False if the rest does not
 * fit: then the run has to be written anew without those that are still there.
 */
typedef bool (*store_takes) (const Facts *facts, size_t i, void *arg);
typedef void (*store_taken) (const Facts *facts, size_t i, void *arg);
extern bool store_take_out(StoreRun *run, const int64 *first_columns, size_t n,
						   store_takes takes, store_taken taken, void *arg);

/* Error about the segment last returned: its facts cannot be. */
pg_noreturn extern void store_scan_corrupt(StoreScan *scan, const char *what);

/*
 * Minutes with clicks that were counted while orders user and ip were off, and
 * so are not in them.
 */
extern void store_add_gaps(const int64 *minutes, int count);
extern void store_delete_gaps(int64 from, int64 to);

/* All minutes from .. to (included) with a fact in order ad. */
extern void store_add_all_gaps(int64 from, int64 to);
extern bool store_has_gap(int64 from, int64 to, int64 *minute);
extern int64 *store_get_gaps(int *count);

/* Which of these minutes, ascending, are such ones, ascending. */
extern int64 *store_get_gaps_of(const int64 *minutes, int nminutes, int *count);

/*
 * adclick.most_clicked_ads and, for hours and days, its like with _hourly and _daily: the
 * ads with the most clicks, for "no filter" and for each registered filter.
 */
typedef struct StoreList
{
	StoreGrain	grain;
	int64		first;			/* its first minute */
	uint64		cut_off;		/* the most clicks of an ad that is not in it */
	size_t		n;
	AdCount    *ads;			/* best first */
} StoreList;

/*
 * The lists of a filter for some minutes, hours or days, by their first minutes, in their
 * order, their best ads down to "depth": the rest is cut off.
 */
extern StoreList *store_get_lists(StoreGrain grain, int32 filter_id, const int64 *firsts, int nfirsts,
								  int64 depth, int *count);
extern void store_put_list(int32 filter_id, const StoreList *list);
extern void store_delete_lists(StoreGrain grain, const int64 *firsts, int count);

/* All that begin in minutes from .. to (included). */
extern void store_delete_all_lists(StoreGrain grain, int64 from, int64 to);

typedef struct StoreFilter
{
	int32		filter_id;
	char	   *values[DIMENSIONS]; /* NULL: any */
} StoreFilter;

/*
 * Combinations of dimensions that clicks came with, as the active snapshot sees them, and the last
 * minute of the last day of such a click.
 */
typedef void (*store_combination_callback) (const StoreFilter *filter, int64 used_until);

extern void store_each_combination(store_combination_callback callback);

/* How many there are, and which: the sum of the hashes of their ids. */
typedef struct StoreCombinations
{
	int64		n;
	uint64		ids;
} StoreCombinations;

extern StoreCombinations store_combinations(void);

static inline uint64
store_id_hash(int32 filter_id)
{
	return DatumGetUInt64(hash_uint32_extended((uint32) filter_id, 0));
}

/*
 * Add one, of three texts, with the day (its first minute) of its first click; returns its id.  If
 * somebody else has added it, which is waited for, it is that one.
 */
extern int32 store_add_combination(Datum *values, int64 day);

/* There were clicks of these days with them. */
extern void store_put_last_days(const int64 *filter_ids, const int64 *days, int n);

/* The first day that is the last one of a combination; LAST_MINUTE: there is none.  And end those whose last day is before one. */
extern int64 store_get_first_last_day(void);
extern void store_end_combinations(int64 day);

/* The first minute that is in any run; LAST_MINUTE: there is none. */
extern int64 store_get_first_minute(void);

/* The filters whose lists are kept: 0 ("no filter") and registered ones. */
extern StoreFilter *store_get_registered(int *count);

/* The id of a filter with these dimensions, 0 if there is none. */
extern int32 store_find_filter(const StoreFilter *filter);

/* Register it; 0 if it is there already.  And end it, with its lists. */
extern int32 store_add_filter(const StoreFilter *filter);
extern void store_drop_filter(int32 filter_id);

/* The final runs of order ad or day that end after a minute, in their order. */
extern StoreRun *store_get_final_runs(FactOrder order, int64 after, int limit, int *count);

/* The last hours that have a run, of those that end before a minute, the newest first. */
extern StoreRun *store_get_hours_before(int64 before, int limit, int *count);

/* A call of adclick.reconcile(), and its next hour. */
typedef struct StoreReconciliation
{
	int64		id;
	int64		hours_left;
	TimestampTz hour;			/* if there is one left */
	bool		ends_day;		/* it is the last of its day */
	bool		is_new;
} StoreReconciliation;

/*
 * The one of this range that has not come to its end, or a new one.  "only_changed":
 * without hours that have agreed and got no clicks since.
 */
extern void store_get_reconciliation(TimestampTz since, TimestampTz until, bool repair, bool only_changed,
									 StoreReconciliation *r);

/* What came of an hour. */
typedef struct StoreReconciled
{
	int64		clicks;
	int64		differences;
	int64		of_ledger;		/* of them, those that the ledger itself has */
	bool		repaired;
	const char *problem;		/* NULL: none */
	bool		is_left_out;	/* there was nothing to compare it with */
} StoreReconciled;

/* Compare an hour with the ledger, and perhaps its day with the day's hours: count the differences, and note them; and forget those of the last time. */
extern void store_delete_differences(TimestampTz hour);
extern void store_find_differences(TimestampTz hour, bool with_day, StoreReconciled *result);

/* The same, but only count those that the ledger does not have itself. */
extern int64 store_count_differences(TimestampTz hour, bool with_day);

/* It is done. */
extern void store_put_reconciled(const StoreReconciliation *r, const StoreReconciled *result);

/* The hours in which something was found, the last time, that was not repaired. */
extern int64 store_count_unreconciled(void);

/*
 * Final runs on a shelf lie in volumes, the last of which is written to.  Each has a
 * table, of which there are SHELF_TABLES; one of the ledger has another one, for what was
 * set aside meanwhile.  It is dropped in two steps: its runs are deleted, so that snapshots taken before still read it; and when there are none of
 * those, its table is truncated.
 */
typedef struct StoreVolume
{
	Shelf		shelf;
	int32		volume;
	TimestampTz closed_at;		/* since when it is no longer written to, but by who has begun before */
	int64		first_minute;	/* of its runs */
	int64		last_minute;	/* PG_INT64_MIN: it has no runs */
} StoreVolume;

/* A number as adclick_internal.volumes has it, or an error if none can be so. */
extern int32 store_volume_number(Datum value);

/* The volume to write to, whatever the active snapshot sees, and since when. */
extern int32 store_current_volume(Shelf shelf, TimestampTz *opened_at);

/* Open the next one; false if there is no table for it. */
extern bool store_open_volume(Shelf shelf);

/* The first volume that has neither been dropped nor is written to; false if there is none. */
extern bool store_get_closed_volume(Shelf shelf, StoreVolume *volume);

/* Delete its runs, and note in the state what they had: returns how many clicks of the ledger. */
extern int64 store_drop_volume(const StoreVolume *volume);

/*
 * Truncate the tables of dropped volumes that no snapshot needs, or that were dropped
 * before a time; not those that are in use.  Returns how many.
 */
extern int store_empty_volumes(TimestampTz before);

/* When the first one was dropped that still has its table; DT_NOEND: none. */
extern TimestampTz store_dropped_since(void);

/*
 * Days (UTC) of facts by ad: first their minutes and hours are dropped, order ad, while order day
 * keeps the sums; and then those.  The first day of which an order has anything; LAST_MINUTE: none.
 */
extern int64 store_get_first_day(FactOrder order);

/* Whether deltas of the order have something up to a minute. */
extern bool store_has_deltas_until(FactOrder order, int64 minute);

/* The clicks that the hours of a day have in final runs, and that the day has; false if it has no run. */
extern bool store_get_day_sums(int64 day, int64 *of_hours, int64 *of_day);

/* Delete what order ad, or day, has of the day in final runs, with its lists, and note it in the state. */
extern void store_drop_day(FactOrder order, int64 day);

/*
 * The first hour with clicks, in minutes from .. to, that has not agreed with the ledger
 * since it got its last ones; DT_NOEND: none, or nothing was ever reconciled.
 */
extern TimestampTz store_get_unreconciled(int64 from, int64 to);

/* What a volume has, and the file that it was written to. */
typedef struct StoreArchived
{
	int32		volume;
	int64		first_minute;
	int64		last_minute;
	int64		clicks;
	int64		lines;			/* that a file of it should have: of volumes that are there */
	char	   *contents;		/* by which a change is told: of volumes that are there */
	char	   *file;			/* below the directory; NULL: none, or one of other contents */
	int64		bytes;
	char	   *sha256;
	int			nhours;			/* of it that are to be restored, as minutes, ascending */
	int64	   *hours;
	int			nrestored;		/* and those that are back */
	int64	   *restored;
} StoreArchived;

/* The volumes that have clicks and are closed, but not dropped; and one of them, NULL if it has gone. */
extern StoreArchived *store_get_archivable(int *count);
extern StoreArchived *store_get_stored_volume(int32 volume);
extern void store_put_archived(const StoreArchived *archived);

/* The query whose rows are the lines of a volume's file; and what says their columns, open. */
extern char *store_archived_query(int32 volume);
extern Relation store_open_lines(void);

/* The rows of a run of the ledger that stand apart from it, with the columns of the inbox. */
typedef void (*store_row_callback) (const Datum *values, const bool *nulls, void *arg);
extern void store_each_unpacked(int64 run_id, store_row_callback callback, void *arg);

/*
 * The dropped volumes with a file that have one of the hours from .. to (included, minutes),
 * with those that were not brought back from it; and whether there are some without a file.
 */
extern StoreArchived *store_get_restorable(int64 from, int64 to, int *count);
extern bool store_has_lost(int64 from, int64 to);

/* The files that may have clicks of one of these minutes, as a list; NULL: none. */
extern char *store_get_files(const int64 *minutes, int nminutes);

/* So many clicks of each of its hours came back. */
extern void store_put_restored(const StoreArchived *archived, const int64 *clicks);

/* The run of rows that came back and stand apart from the ledger: none. */
#define RESTORED_ROWS 0

/* All that came back goes again: returns how many clicks. */
extern int64 store_release(void);

/*
 * The first hour, in minutes from .. to (included), of which the ledger does not have all
 * clicks: neither from the beginning nor restored; DT_NOEND: none.
 */
extern TimestampTz store_get_incomplete(int64 from, int64 to);

/*
 * Files keep the names of users that are forgotten.  So that they do not come back with
 * them, they are noted, by a hash, if there are files; and told, in a volume that had been
 * dropped by then.
 */
typedef struct StoreForgotten StoreForgotten;
extern void store_note_forgotten(int64 user_id);
extern StoreForgotten *store_get_forgotten(void);
extern bool store_is_forgotten(const StoreForgotten *forgotten, int64 user_id, int32 volume);

/* Ads of some advertisers, ascending. */
extern int64 *store_get_ads(const int64 *advertisers, int nadvertisers, int *count);

/*
 * The same, one after the other as they stand in the table; of STORE_ALL_ADS advertisers all ads, also those of
 * none.  A row is valid to the next call.
 */
#define STORE_ALL_ADS (-1)
typedef struct StoreAdScan StoreAdScan;
extern StoreAdScan *store_ads_begin(const int64 *advertisers, int nadvertisers, Snapshot snapshot);
extern HeapTuple store_ads_next(StoreAdScan *scan);
extern TupleDesc store_ads_desc(const StoreAdScan *scan);
extern void store_ads_end(StoreAdScan *scan);

/* Whether it is the table of ads. */
extern bool store_is_ads(Oid table);

/* The advertisers that these roles are said to be, by name, ascending. */
extern int64 *store_get_advertisers(List *roles, int *count);

/* An ad as a click finds it, as the active snapshot sees it; false if there is none of this id. */
typedef struct StoreAd
{
	bool		is_active;
	text	   *redirect_url;	/* NULL: none */
} StoreAd;

extern bool store_find_ad(int64 ad_id, StoreAd *ad);

/*
 * Which of the two rules clicks on an ad are judged by: adclick.ads can say of an ad that it is
 * by another policy than the setting, as the snapshot sees it that is active at the beginning.
 * Ads are only looked for if some have such an override.
 */
typedef struct StoreOverrides StoreOverrides;
extern StoreOverrides *store_overrides_begin(const ClickRules *rules);
extern const DedupRule *store_rule_of(StoreOverrides *overrides, int64 ad_id);
extern void store_overrides_end(StoreOverrides *overrides);

/*
 * Whether an advertiser has an ad.  By a key of both, so that the server's counters of what was read, which anybody
 * can see, are the same for an ad of another one and for none.
 */
extern bool store_has_ad(int64 advertiser_id, int64 ad_id);

/* Insert a click into the inbox: all its columns but the arrival, in their order; "nulls" as in SPI_execute_plan. */
#define STORE_CLICK_VALUES (CLICK_COLUMNS - 1)
extern void store_insert_click(Datum *values, const char *nulls);

/* What impressions are signed with, and were. */
typedef struct StoreSecret
{
	ImpressionSecret secret;
	TimestampTz retired_at;		/* DT_NOEND: it is in use */
} StoreSecret;

extern StoreSecret *store_get_secrets(int *count);

/* Use another one; those retired before "kept_since" go. */
extern void store_rotate_secret(const ImpressionSecret *secret, TimestampTz kept_since);

#endif							/* ADCLICK_STORE_H */
