/*-------------------------------------------------------------------------
 *
 * store_sql.h
 *	  The SQL statements behind the tables of the extension.
 *
 * Private to the store: its files share them.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_STORE_SQL_H
#define ADCLICK_STORE_SQL_H

#include "postgres.h"

#include "executor/executor.h"
#include "executor/spi.h"
#include "utils/rel.h"

#include "store.h"

/* Statements are prepared once in a process. */
typedef enum Statement
{
	GET_STATE,
	SET_STATE,
	GET_FORMER_RULES,
	FIND_RULE,
	ADD_RULE,
	RETIRE_RULE,
	IN_RESTORE,
	BEGIN_RESTORE,
	TRY_AGAIN,
	WAS_TRIED_AGAIN,
	COUNT_RESTORED,
	END_RESTORE,
	NOTE_RESTORED,
	SET_SEQUENCES,
	HAS_STATE,
	ADD_STATE,
	FIND_MISSING,
	FIND_FORGOTTEN_RULE,
	ADD_FORGOTTEN_RULE,
	KEEP_FORGOTTEN_RULE,
	FORGET_SECRET,
	FORGET_UNPACKED,
	FORGET_DIFFERENCES,
	FORGET_BAD_LINES,
	CLAIM_COMPACTION,
	COUNT_LEDGER,
	COUNT_UNPACKED,
	COUNT_OPEN_MINUTES,
	COUNT_CLICKS,
	GET_MINUTE_RUNS,
	GET_AD_DELTAS,
	GET_FINALS,
	GET_RUNS,
	GET_KEY_RUNS,
	GET_LAST_MINUTE,
	GET_FACT_MINUTES,
	GET_SIZE,
	GET_RUN_MINUTES,
	GET_DELTAS,
	GET_LATE,
	GET_SETTLED,
	GET_EVERY_RUN,
	GET_FINAL_RUNS,
	GET_HOURS_BEFORE,
	GET_UNMADE_DAY,
	GET_MADE_DAYS,
	COUNT_WRONG_DAYS,
	GET_LAST_HOUR,
	GET_FINAL,
	COUNT_FINAL_FACTS,
	GET_PENDING_MINUTES,
	GET_PENDING_HOURS,
	GET_PENDING_DAYS,
	DELETE_DELTAS,
	DELETE_SEGMENTS,
	DELETE_RUNS,
	TAKE_FROM_RUN,
	NEXT_RUN,
	ADD_RUN,
	MOVE_UNPACKED,
	GET_RUN,
	ADD_GAPS,
	ADD_ALL_GAPS,
	DELETE_GAPS,
	GET_GAP,
	GET_GAPS,
	GET_GAPS_OF,
	GET_LISTS,
	GET_HOUR_LISTS,
	GET_DAY_LISTS,
	PUT_LIST,
	PUT_HOUR_LIST,
	PUT_DAY_LIST,
	DELETE_LISTS,
	DELETE_HOUR_LISTS,
	DELETE_DAY_LISTS,
	DELETE_ALL_LISTS,
	DELETE_ALL_HOUR_LISTS,
	DELETE_ALL_DAY_LISTS,
	GET_COMBINATIONS,
	ADD_COMBINATION,
	PUT_LAST_DAYS,
	GET_FIRST_LAST_DAY,
	END_COMBINATIONS,
	GET_FIRST_MINUTE,
	GET_REGISTERED,
	ADD_FILTER,
	FIND_FILTER,
	DROP_FILTER,
	DROP_LISTS,
	DROP_HOUR_LISTS,
	DROP_DAY_LISTS,
	GET_RECONCILIATION,
	BEGIN_RECONCILIATION,
	DELETE_DIFFERENCES,
	FIND_DIFFERENCES,
	COUNT_DIFFERENCES,
	PUT_RECONCILED,
	COUNT_UNRECONCILED,
	GET_UNRECONCILED,
	GET_VOLUME,
	GET_LEDGER_VOLUMES,
	GET_SET_ASIDE_BEFORE,
	OPEN_VOLUME,
	GET_CLOSED_VOLUME,
	DROP_LEDGER,
	DROP_PEOPLE,
	GET_FIRST_DAY,
	COUNT_DELTAS_UNTIL,
	GET_DAY_SUMS,
	NOTE_MINUTES_DROPPED,
	NOTE_DAYS_DROPPED,
	GET_DROPPED,
	DELETE_VOLUME,
	GET_ARCHIVABLE,
	GET_STORED_VOLUME,
	PUT_ARCHIVED,
	GET_RESTORABLE,
	COUNT_LOST,
	GET_FILES,
	PUT_RESTORED,
	RELEASE,
	GET_INCOMPLETE,
	COUNT_FILES,
	GET_FORGOTTEN,
	ADD_FORGOTTEN,
	GET_LEDGER_RUN,
	GET_UNPACKED,
	COUNT_RESTORED_CLICKS,
	GET_SOURCES,
	HAS_SOURCES,
	ADD_SOURCE,
	DROP_SOURCE,
	NOTE_SOURCE,
	GET_LOG_FILES,
	PUT_LOG_FILE,
	DELETE_LOG_FILE,
	DELETE_GONE_FILES,
	COUNT_BAD_LINES,
	PUT_BAD_LINE,
	GET_SOURCE_ERROR,
	RETIRE_SECRET,
	DELETE_SECRETS,
	STATEMENTS
} Statement;

/*
 * Run a statement between SPI_connect and SPI_finish; returns how many rows it
 * has.  "nulls" as in SPI_execute_plan.
 */
extern uint64 sql_run(Statement statement, Datum *values, const char *nulls, bool read_only);

/*
 * Run a statement that only writes, on its own.  It sees what the active snapshot
 * sees, which may be newer than the transaction's: what was read is what changes.
 */
extern uint64 sql_write(Statement statement, Datum *values, const char *nulls);

/*
 * The same with a statement about one of the tables of segments, where %s stands for its
 * name: those of volumes have no statements of their own.
 */
extern uint64 sql_write_segments(StoreTable table, const char *statement, int n, Oid *types, Datum *values);

/* A value of the row-th result; or_else if it is NULL. */
extern Datum sql_result(uint64 row, int column, Datum or_else);

/* The table that clicks are set aside in now, open: see store_discarded.c. */
extern Relation store_open_discarded(void);

/* adclick.ads, open to be read, and its columns that are. */
extern Relation store_open_ads(void);

#define ADS_AD_ID 1
#define ADS_ADVERTISER_ID 2
#define ADS_REDIRECT_URL 3
#define ADS_ACTIVE 5
#define ADS_DEDUP_BY 6

/* The user's clicks there become clicks of nobody: returns how many. */
extern int64 store_forget_discarded(int64 user_id);

extern SPIPlanPtr sql_plan(Statement statement);

/*
 * The time at which a minute begins; an infinity where no time can be, as what
 * prints parameters (auto_explain, log_parameter_max_length) wants valid ones.
 */
static inline Datum
sql_minute(int64 minute)
{
	if (minute <= MIN_TIMESTAMP / USECS_PER_MINUTE)
		return TimestampTzGetDatum(DT_NOBEGIN);
	if (minute >= END_TIMESTAMP / USECS_PER_MINUTE)
		return TimestampTzGetDatum(DT_NOEND);
	return TimestampTzGetDatum(minute * USECS_PER_MINUTE);
}

/* The number that a statement selects, 0 if it is NULL; "read_only" as in sql_run. */
extern int64 sql_number(Statement statement, Datum *values, bool read_only);

/* The time that a statement selects, DT_NOEND if it is NULL. */
extern TimestampTz sql_time(Statement statement, Datum *values);

/* An array of bigint or timestamptz. */
extern Datum sql_array(Oid type, const int64 *values, int count);

/*
 * Insert rows into a table without SQL: at a third of its cost, and without
 * firing triggers people put on it, as workers run no code of users.  Fill
 * slot->tts_values and tts_isnull, then put it.  Without indexes they are
 * written some at a time.
 */
#define SQL_INSERTS_WAITING 64

typedef struct SqlInserter
{
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *info;
	TupleTableSlot *slot;		/* for the next row */
	int			nwaiting;
	TupleTableSlot *waiting[SQL_INSERTS_WAITING];	/* rows that are put, then slots made, or NULL */
} SqlInserter;

extern void sql_insert_begin(SqlInserter *inserter, const char *schema, const char *table);

/* Into a table that is open. */
extern void sql_insert_into(SqlInserter *inserter, Relation relation);
extern void sql_insert_put(SqlInserter *inserter);
extern void sql_insert_end(SqlInserter *inserter);

#endif							/* ADCLICK_STORE_SQL_H */
