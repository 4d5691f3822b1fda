/*-------------------------------------------------------------------------
 *
 * store.c
 *	  The tables of the extension.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "store.h"
#include "store_sql.h"

static LOCKTAG
lock_tag(StoreLock lock)
{
	LOCKTAG		tag;

	/* SQL's advisory locks use 1 and 2 as last field */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, lock, 3);
	return tag;
}

void
store_lock(StoreLock lock)
{
	LOCKTAG		tag = lock_tag(lock);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* False if somebody else has it. */
bool
store_try_lock(StoreLock lock)
{
	LOCKTAG		tag = lock_tag(lock);

	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
store_unlock(StoreLock lock)
{
	LOCKTAG		tag = lock_tag(lock);

	LockRelease(&tag, ExclusiveLock, false);
}

static bool
store_locked(StoreLock lock)
{
	LOCKTAG		tag = lock_tag(lock);

	return compat_lock_held_by_me(&tag, ExclusiveLock);
}

/*
 * What is kept outside of the transaction, like seen keys, follows its commit and
 * its abort; a prepared one could have either much later, and keep out all ticks
 * until then.
 */
static void
refuse_prepare(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE &&
		(store_locked(STORE_LOCK_TICK) || store_locked(STORE_LOCK_COMPACTION)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed the counts of adclick"),
				 errdetail("It has run a tick or a compaction, made counts anew, forgotten a user, or registered or dropped a filter."),
				 errhint("Do so in a transaction of its own.")));
}

void
store_install(void)
{
	RegisterXactCallback(refuse_prepare, NULL);
}

bool
store_keep_extension(void)
{
	Oid			extension = get_extension_oid("adclick", true);

	if (!OidIsValid(extension))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	AcceptInvalidationMessages();
	return get_extension_oid("adclick", true) == extension;
}

void
store_push_snapshot(void)
{
	PushActiveSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
}

/* As GetLatestSnapshot, which parallel mode refuses. */
void
store_push_newest(void)
{
	PushActiveSnapshot(GetNonHistoricCatalogSnapshot(InvalidOid));
}

void
store_refuse_in_restore(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("adclick waits for the data of a dump"),
			 errdetail("Nothing is counted before all of it is here. New clicks wait in the inbox."),
			 errhint("The last statement of a dump ends this. After pg_restore --data-only, call adclick.end_restore().")));
}

void
store_claim_compaction(void)
{
	if (store_in_restore())
		store_refuse_in_restore();
	sql_write(CLAIM_COMPACTION, NULL, NULL);
}

static void
another_tick(int64 expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("another tick came first"),
			 errdetail("The state is no longer that of tick " INT64_FORMAT ".", expected)));
}

void
store_claim_tick(const StoreState *state)
{
	StoreState	newest;

	if (store_in_restore())
		store_refuse_in_restore();
	if (!IsolationUsesXactSnapshot())
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	store_get_state(&newest);
	PopActiveSnapshot();
	if (newest.tick != state->tick)
		another_tick(state->tick);
}

void
store_claim_all(StoreState *state)
{
	store_lock(STORE_LOCK_COMPACTION);
	store_lock(STORE_LOCK_TICK);
	store_push_snapshot();
	store_claim_compaction();
	store_get_state(state);
	store_claim_tick(state);
}

static void
take_limits(ClickRules *rules)
{
	rules->future_tolerance = adclick_future_tolerance * USECS_PER_SEC;
	rules->raw_retention = adclick_raw_retention * USECS_PER_MINUTE;
	/* what cannot be counted does not limit */
	rules->user_limit = adclick_user_and_ip_orders ? adclick_user_clicks_per_minute : 0;
	rules->ip_limit = adclick_user_and_ip_orders ? adclick_ip_clicks_per_minute : 0;
}

static DedupPolicy
other_policy(DedupPolicy by)
{
	return by == DEDUP_BY_CLICK_ID ? DEDUP_BY_USER_AND_AD : DEDUP_BY_CLICK_ID;
}

/*
 * What goes with the rule in force: keys of it can lie in any bucket, and the other rule
 * has no number before it is known to have one.
 */
static void
follow_rule(ClickRules *rules)
{
	rules->dedup.last_bucket = PG_INT64_MAX;
	rules->other = (DedupRule) {
		UNNUMBERED_RULE, other_policy(rules->dedup.by), rules->dedup.window, PG_INT64_MIN
	};
}

/* The rules of the settings, under an id. */
static void
rules_of_settings(ClickRules *rules, int32 rule_id)
{
	take_limits(rules);
	rules->dedup = (DedupRule) {rule_id, adclick_dedup_by, adclick_dedup_window};
	follow_rule(rules);
}

static void
check_rule(const DedupRule *rule)
{
	if (rule->rule_id < 1 || rule->rule_id > MAX_RULE_ID || rule->window < 1 || rule->window > SECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("rule %d in adclick_internal.dedup_rules is damaged", rule->rule_id),
				 errdetail("Its window is " INT64_FORMAT " seconds, 0 if the row is missing.", rule->window)));
}

/* The secret of a rule of disguised keys; others have none. */
static void
read_secret(DedupRule *rule, Datum secret)
{
	bytea	   *bytes = (bytea *) DatumGetPointer(secret);

	rule->is_forgotten = bytes != NULL;
	if (bytes == NULL)
		return;
	bytes = DatumGetByteaPP(secret);
	if (VARSIZE_ANY_EXHDR(bytes) != sizeof(rule->secret))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("rule %d in adclick_internal.dedup_rules is damaged", rule->rule_id),
				 errdetail("Its secret should have %d bytes.", (int) sizeof(rule->secret))));
	memcpy(rule->secret, VARDATA_ANY(bytes), sizeof(rule->secret));
}

/* The rules but for the one in force that have keys. */
static void
get_former_rules(ClickRules *rules, MemoryContext context)
{
	Datum		values[1] = {Int32GetDatum(rules->dedup.rule_id)};
	int			n = (int) sql_run(GET_FORMER_RULES, values, NULL, true);

	rules->former = MemoryContextAlloc(context, sizeof(DedupRule) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		rules->former[i] = (DedupRule) {
			DatumGetInt32(sql_result(i, 1, 0)),
			DatumGetBool(sql_result(i, 2, 0)) ? DEDUP_BY_USER_AND_AD : DEDUP_BY_CLICK_ID,
			DatumGetInt32(sql_result(i, 3, 0)),
			DatumGetInt64(sql_result(i, 4, 0))
		};
		read_secret(&rules->former[i], sql_result(i, 5, PointerGetDatum(NULL)));
		check_rule(&rules->former[i]);
		if (rules->former[i].by == rules->other.by && rules->former[i].window == rules->other.window &&
			!rules->former[i].is_forgotten)
			rules->other = rules->former[i];
	}
	rules->nformer = n;
}

/* A minute of the state's row. */
static int64
state_minute(int column)
{
	TimestampTz at = DatumGetTimestampTz(sql_result(0, column, TimestampTzGetDatum(DT_NOBEGIN)));

	return at == DT_NOBEGIN ? PG_INT64_MIN : minute_of(at);
}

/* The highest bucket that begins in or before a minute. */
static int64
forgotten_until(int64 minute)
{
	return minute == PG_INT64_MIN ? PG_INT64_MIN :
		facts_to_int64(store_minute_value(ORDER_LEDGER, minute + 1)) - 1;
}

/* The first time after a minute. */
static TimestampTz
counted_from(int64 dropped_until)
{
	return dropped_until == PG_INT64_MIN ? DT_NOBEGIN : (dropped_until + 1) * USECS_PER_MINUTE;
}

/* From the state's row; before the first tick there are none but the settings. */
static void
get_rules(ClickRules *rules, MemoryContext context)
{
	int32		rule_id = DatumGetInt32(sql_result(0, 15, Int32GetDatum(0)));

	memset(rules, 0, sizeof(*rules));
	rules->counted_from = DT_NOBEGIN;
	rules->forgotten = PG_INT64_MIN;
	rules_of_settings(rules, rule_id);
	if (rule_id == 0)
		return;
	rules->future_tolerance = DatumGetInt64(sql_result(0, 16, 0));
	rules->raw_retention = DatumGetInt64(sql_result(0, 17, 0));
	rules->user_limit = DatumGetInt32(sql_result(0, 28, Int32GetDatum(0)));
	rules->ip_limit = DatumGetInt32(sql_result(0, 29, Int32GetDatum(0)));
	rules->counted_from = counted_from(state_minute(32));
	rules->forgotten = forgotten_until(state_minute(24));
	rules->dedup.by = DatumGetBool(sql_result(0, 19, 0)) ? DEDUP_BY_USER_AND_AD : DEDUP_BY_CLICK_ID;
	rules->dedup.window = DatumGetInt32(sql_result(0, 20, Int32GetDatum(0)));
	check_rule(&rules->dedup);
	follow_rule(rules);
	if (DatumGetInt64(sql_result(0, 21, 0)) > 1)
		get_former_rules(rules, context);
}

static bool
ends_day(int64 minute)
{
	return minute == PG_INT64_MIN || day_of(minute + 1) == minute + 1;
}

/* What cannot be would set all clicks aside, or take them twice. */
static void
check_state(const StoreState *state)
{
	const ClickRules *rules = &state->rules;

	if (state->tick < 0 || state->rows_read < 0 || state->dropped < 0 || state->discarded_dropped < 0 ||
		state->days_dropped < 0 || state->minutes_dropped < state->days_dropped ||
		!ends_day(state->minutes_dropped_until) || !ends_day(state->days_dropped_until) ||
		state->days_dropped_until > state->minutes_dropped_until || (state->tick > 0) != (rules->dedup.rule_id > 0) ||
		rules->future_tolerance < 0 || rules->future_tolerance > USECS_PER_DAY ||
		rules->raw_retention < USECS_PER_HOUR || rules->raw_retention > 3650 * USECS_PER_DAY ||
		rules->user_limit < 0 || rules->user_limit > MAX_CLICKS_PER_MINUTE ||
		rules->ip_limit < 0 || rules->ip_limit > MAX_CLICKS_PER_MINUTE)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the state of adclick is damaged"),
				 errdetail("The row of adclick_internal.state has numbers that cannot be.")));
}

/* Run the statement that selects the state; false if there is none, or not all that belongs to it. */
static bool
find_state(void)
{
	return sql_run(GET_STATE, NULL, NULL, true) == 1 && !DatumGetBool(sql_result(0, 25, BoolGetDatum(false)));
}

bool
store_can_answer(void)
{
	bool		found;

	SPI_connect();
	found = find_state();
	SPI_finish();
	return found;
}

void
store_get_state(StoreState *state)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi_context;

	SPI_connect();
	if (!find_state())
	{
		if (store_in_restore())
			store_refuse_in_restore();
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the state of adclick is missing"),
				 errdetail("adclick_internal.state should have one row.")));
	}
	spi_context = MemoryContextSwitchTo(context);
	state->tick = DatumGetInt64(sql_result(0, 1, 0));
	state->ticked_at = DatumGetTimestampTz(sql_result(0, 2, TimestampTzGetDatum(DT_NOBEGIN)));
	state->newest_received = DatumGetTimestampTz(sql_result(0, 3, TimestampTzGetDatum(DT_NOBEGIN)));
	state->event_time = DatumGetTimestampTz(sql_result(0, 4, TimestampTzGetDatum(DT_NOBEGIN)));
	state->rows_read = DatumGetInt64(sql_result(0, 5, 0));
	for (int i = 0; i < CLICK_VERDICTS; i++)
		state->verdicts[i] = DatumGetInt64(sql_result(0, 6 + i, 0));
	state->highest_bucket = DatumGetInt64(sql_result(0, 18, Int64GetDatum(PG_INT64_MIN)));
	state->late = DatumGetInt64(sql_result(0, 22, 0));
	state->dropped = DatumGetInt64(sql_result(0, 23, 0));
	state->dropped_until = state_minute(24);
	state->people_dropped_until = state_minute(26);
	state->discarded_dropped = DatumGetInt64(sql_result(0, 27, 0));
	state->minutes_dropped = DatumGetInt64(sql_result(0, 30, 0));
	state->days_dropped = DatumGetInt64(sql_result(0, 31, 0));
	state->minutes_dropped_until = state_minute(32);
	state->days_dropped_until = state_minute(33);
	MemoryContextSwitchTo(spi_context);
	get_rules(&state->rules, context);
	check_state(state);
	SPI_finish();
}

void
store_set_state(const StoreState *state, int64 expected)
{
	Datum		values[22] = {
		Int64GetDatum(state->tick), TimestampTzGetDatum(state->ticked_at),
		TimestampTzGetDatum(state->newest_received), TimestampTzGetDatum(state->event_time),
		Int64GetDatum(state->rows_read), Int64GetDatum(state->verdicts[CLICK_VALID]),
		Int64GetDatum(state->verdicts[CLICK_IN_FUTURE]), Int64GetDatum(state->verdicts[CLICK_TOO_OLD]),
		Int64GetDatum(state->verdicts[CLICK_DUPLICATE]), Int64GetDatum(state->verdicts[CLICK_UNDECIDED]),
		Int64GetDatum(state->verdicts[CLICK_FORGED]), Int64GetDatum(state->verdicts[CLICK_EXPIRED]),
		Int32GetDatum(state->rules.dedup.rule_id), Int64GetDatum(state->rules.future_tolerance),
		Int64GetDatum(state->rules.raw_retention), Int64GetDatum(state->highest_bucket),
		Int64GetDatum(state->late), Int64GetDatum(state->verdicts[CLICK_USER_LIMIT]),
		Int64GetDatum(state->verdicts[CLICK_ADDRESS_LIMIT]), Int32GetDatum(state->rules.user_limit),
		Int32GetDatum(state->rules.ip_limit), Int64GetDatum(expected)
	};
	char		nulls[] = "                      ";

	nulls[1] = state->ticked_at == DT_NOBEGIN ? 'n' : ' ';
	nulls[2] = state->newest_received == DT_NOBEGIN ? 'n' : ' ';
	nulls[15] = state->highest_bucket == PG_INT64_MIN ? 'n' : ' ';
	if (sql_write(SET_STATE, values, nulls) != 1)
		another_tick(expected);
}

bool
store_rules_differ(const StoreState *state)
{
	const ClickRules *rules = &state->rules;
	ClickRules	wanted;

	rules_of_settings(&wanted, rules->dedup.rule_id);
	return rules->dedup.rule_id == 0 || rules->dedup.by != wanted.dedup.by ||
		rules->dedup.window != wanted.dedup.window ||
		rules->future_tolerance != wanted.future_tolerance || rules->raw_retention != wanted.raw_retention ||
		rules->user_limit != wanted.user_limit || rules->ip_limit != wanted.ip_limit;
}

static void
check_rule_id(int32 rule_id)
{
	if (rule_id < 1 || rule_id > MAX_RULE_ID)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("adclick.dedup_by and adclick.dedup_window have been changed too often"),
				 errdetail("At most %d different pairs of values can be remembered.", MAX_RULE_ID)));
}

/* A rule as it was known before, or new: its number, and its last bucket, PG_INT64_MIN if it has none. */
static void
find_rule(DedupRule *rule)
{
	Datum		values[2] = {
		BoolGetDatum(rule->by == DEDUP_BY_USER_AND_AD), Int32GetDatum((int32) rule->window)
	};

	SPI_connect();
	if (sql_run(FIND_RULE, values, NULL, true) == 0 && sql_run(ADD_RULE, values, NULL, false) != 1)
		elog(ERROR, "could not add a rule to adclick_internal.dedup_rules");
	rule->rule_id = DatumGetInt32(sql_result(0, 1, 0));
	rule->last_bucket = DatumGetInt64(sql_result(0, 2, Int64GetDatum(PG_INT64_MIN)));
	SPI_finish();
	check_rule_id(rule->rule_id);
}

void
store_number_rule(StoreState *state)
{
	find_rule(&state->rules.other);
}

/* The row can be of this tick, which its snapshot does not see. */
void
store_keep_other_rule(const StoreState *state)
{
	const DedupRule *rule = &state->rules.other;
	Datum		values[2] = {Int32GetDatum(rule->rule_id), Int64GetDatum(rule->last_bucket)};

	SPI_connect();
	if (sql_run(RETIRE_RULE, values, NULL, false) != 1)
		elog(ERROR, "rule %d is missing in adclick_internal.dedup_rules", rule->rule_id);
	SPI_finish();
}

/* The rule of the settings, which can be the one that ads with an override had. */
static void
take_rule(StoreState *state)
{
	const DedupRule *other = &state->rules.other;
	DedupRule	rule = {.by = adclick_dedup_by, .window = adclick_dedup_window};

	/* what this tick has written of it is not seen */
	if (other->rule_id != UNNUMBERED_RULE && other->by == rule.by && other->window == rule.window)
		rule = *other;
	else
		find_rule(&rule);
	state->highest_bucket = rule.last_bucket;
	rules_of_settings(&state->rules, rule.rule_id);
}

/* The rule stays the same as long as its own settings do: its highest bucket is in the state. */
void
store_follow_settings(StoreState *state)
{
	const DedupRule *rule = &state->rules.dedup;
	Datum		values[2] = {Int32GetDatum(rule->rule_id), Int64GetDatum(state->highest_bucket)};

	if (rule->rule_id != 0 && rule->by == adclick_dedup_by && rule->window == adclick_dedup_window)
	{
		take_limits(&state->rules);
		return;
	}
	if (state->highest_bucket != PG_INT64_MIN)
		sql_write(RETIRE_RULE, values, NULL);
	take_rule(state);
}

/*
 * A secret is in use for an eighth of the time that a late click is taken, so that clicks
 * have few such rules by which to be looked for; and for no less than a day, as numbers of
 * rules are not used twice.
 */
static int64
use_of_secret(const StoreState *state)
{
	return Max(state->rules.raw_retention / 8, USECS_PER_DAY);
}

/* Bytes of a secret; the caller's context has them. */
static Datum
secret_to_bytea(const DedupRule *rule)
{
	bytea	   *bytes = palloc(VARHDRSZ + sizeof(rule->secret));

	SET_VARSIZE(bytes, VARHDRSZ + sizeof(rule->secret));
	memcpy(VARDATA(bytes), rule->secret, sizeof(rule->secret));
	return PointerGetDatum(bytes);
}

static void
add_forgotten_rule(DedupRule *rule)
{
	Datum		values[2];

	if (!pg_strong_random(rule->secret, sizeof(rule->secret)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not make a secret for the keys of forgotten users")));
	values[0] = Int32GetDatum((int32) rule->window);
	values[1] = secret_to_bytea(rule);
	sql_run(ADD_FORGOTTEN_RULE, values, NULL, false);
	rule->rule_id = DatumGetInt32(sql_result(0, 1, 0));
	rule->is_forgotten = true;
}

void
store_get_forgotten_rule(const StoreState *state, int64 window, DedupRule *rule)
{
	Datum		values[2] = {
		Int32GetDatum((int32) window), Int64GetDatum(use_of_secret(state))
	};

	*rule = (DedupRule) {.by = DEDUP_BY_USER_AND_AD, .window = window, .last_bucket = PG_INT64_MIN};
	SPI_connect();
	if (sql_run(FIND_FORGOTTEN_RULE, values, NULL, true) == 0)
		add_forgotten_rule(rule);
	else
	{
		rule->rule_id = DatumGetInt32(sql_result(0, 1, 0));
		read_secret(rule, sql_result(0, 2, PointerGetDatum(NULL)));
	}
	SPI_finish();
	check_rule_id(rule->rule_id);
}

void
store_keep_forgotten_rule(const DedupRule *rule)
{
	Datum		values[3] = {
		Int32GetDatum(rule->rule_id), Int64GetDatum(rule->last_bucket), secret_to_bytea(rule)
	};

	sql_write(KEEP_FORGOTTEN_RULE, values, NULL);
}

/* What can still arrive is told by arrivals, not by the clock: unread clicks may have waited. */
static bool
can_arrive(const StoreState *state, const DedupRule *rule)
{
	int64		retention = Max(state->rules.raw_retention, adclick_raw_retention * USECS_PER_MINUTE);
	int64		end = bucket_second(rule->last_bucket) + rule->window;

	return state->newest_received == DT_NOBEGIN ||
		end > (state->newest_received - retention - USECS_PER_DAY) / USECS_PER_SEC;
}

void
store_forget_secrets(const StoreState *state)
{
	for (int i = 0; i < state->rules.nformer; i++)
	{
		const DedupRule *rule = &state->rules.former[i];
		Datum		values[1] = {Int32GetDatum(rule->rule_id)};

		if (rule->is_forgotten && !can_arrive(state, rule))
			sql_write(FORGET_SECRET, values, NULL);
	}
}

void
store_forget_unpacked(int64 user_id, int64 run_id)
{
	Datum		values[2] = {Int64GetDatum(user_id), Int64GetDatum(run_id)};

	sql_write(FORGET_UNPACKED, values, NULL);
}

int64
store_forget_set_aside(int64 user_id)
{
	Datum		values[1] = {Int64GetDatum(user_id)};

	sql_write(FORGET_DIFFERENCES, values, NULL);
	sql_write(FORGET_BAD_LINES, values, NULL);
	return store_forget_discarded(user_id);
}

int64
store_count_open_minutes(void)
{
	return sql_number(COUNT_OPEN_MINUTES, NULL, true);
}

double
store_count_clicks(int64 minute)
{
	Datum		values[1] = {sql_minute(minute)};
	double		clicks;

	SPI_connect();
	sql_run(COUNT_CLICKS, values, NULL, true);
	clicks = DatumGetFloat8(sql_result(0, 1, Float8GetDatum(0)));
	SPI_finish();
	return clicks;
}

struct StoreSink
{
	SqlInserter discarded;		/* once there are some */
	SqlInserter unpacked;
	int64		ledger_run;
};

StoreSink *
store_set_aside_begin(int64 ledger_run)
{
	StoreSink  *sink = palloc0(sizeof(StoreSink));

	sql_insert_begin(&sink->unpacked, ADCLICK_INTERNAL_SCHEMA, "unpacked_clicks");
	sink->ledger_run = ledger_run;
	return sink;
}

static void
copy_click(TupleTableSlot *slot, const TupleTableSlot *click)
{
	memcpy(slot->tts_values, click->tts_values, sizeof(Datum) * CLICK_COLUMNS);
	memcpy(slot->tts_isnull, click->tts_isnull, sizeof(bool) * CLICK_COLUMNS);
}

static void
discard(SqlInserter *inserter, const TupleTableSlot *click, ClickVerdict verdict)
{
	Datum		reason = CStringGetTextDatum(click_verdict_text(verdict));
	TupleTableSlot *slot;

	if (inserter->relation == NULL)
		sql_insert_into(inserter, store_open_discarded());
	slot = inserter->slot;
	copy_click(slot, click);
	slot->tts_values[CLICK_COLUMNS] = reason;
	slot->tts_isnull[CLICK_COLUMNS] = false;
	slot->tts_values[CLICK_COLUMNS + 1] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	slot->tts_isnull[CLICK_COLUMNS + 1] = false;
	sql_insert_put(inserter);
	pfree(DatumGetPointer(reason));
}

static void
keep_unpacked(SqlInserter *inserter, const TupleTableSlot *click, int64 ledger_run)
{
	TupleTableSlot *slot = inserter->slot;

	copy_click(slot, click);
	slot->tts_values[CLICK_COLUMNS] = Int64GetDatum(ledger_run);
	slot->tts_isnull[CLICK_COLUMNS] = false;
	sql_insert_put(inserter);
}

void
store_set_aside(StoreSink *sink, TupleTableSlot *click, ClickVerdict verdict)
{
	slot_getsomeattrs(click, CLICK_COLUMNS);
	if (verdict == CLICK_VALID)
		keep_unpacked(&sink->unpacked, click, sink->ledger_run);
	else
		discard(&sink->discarded, click, verdict);
}

void
store_set_aside_end(StoreSink *sink)
{
	if (sink->discarded.relation)
		sql_insert_end(&sink->discarded);
	sql_insert_end(&sink->unpacked);
	pfree(sink);
}
