/*-------------------------------------------------------------------------
 *
 * store_sql.c
 *	  The SQL statements behind the tables of the extension.
 *
 * See store_sql.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/definitions.h"
#include "store_sql.h"

#define MAX_PARAMETERS 22

#define RUN_COLUMNS "run_id, sort_order, is_delta, first_minute, last_minute, segments, facts, clicks, coalesce(volume, -1)"

/* A run has facts in no more minutes than this. */
#define MOST_MINUTES "least(facts, (extract(epoch FROM last_minute) - extract(epoch FROM first_minute)) / 60 + 1)"

/* Beginning and last minute of the hour that has a time. */
#define HOUR_OF(time) "date_trunc('hour', " time ", 'UTC')"
#define END_OF(hour) hour " + interval '59 minutes'"

/* Likewise of its day; all this is UTC. */
#define DAY_OF(time) "date_trunc('day', " time ", 'UTC')"

/* And that day as a date. */
#define DATE_OF(time) "(" time " AT TIME ZONE 'UTC')::date"

/* So many that some of them can be added up, whatever a damaged row says. */
#define FACTS(number) "least(" number ", 1000000000000000)::bigint"

/* Of a difference: counts made anew from the ledger have it, too. */
#define OF_LEDGER "what IN ('key', 'duplicate')"

/* Hours that do not begin later miss clicks in the ledger. */
#define DROPPED_UNTIL "coalesce((SELECT dropped_until FROM adclick_internal.state), '-infinity')"

/* Days that end no later have no minutes and hours any more: order ad has nothing of them. */
#define MINUTES_DROPPED_UNTIL "coalesce((SELECT minutes_dropped_until FROM adclick_internal.state), '-infinity')"

/* Of an hour: the ledger has all of its clicks. */
#define IS_WHOLE(hour) "(" hour " > " DROPPED_UNTIL " OR adclick_internal.is_restored(" hour "))"

/* How many lines a file of a volume has: one for each click that differs from others, and rows that stand apart. */
#define LINES "s.facts + (SELECT count(*) FROM adclick_internal.unpacked_clicks u WHERE u.run_id = ANY (s.run_ids))"

/* What each volume has, and by what a change of it is told: a run never gets clicks, and no other one has its number. */
#define STORED_VOLUMES "(SELECT r.volume, min(r.first_minute) AS first_minute, max(r.last_minute) AS last_minute, " FACTS("sum(r.clicks)") " AS clicks," \
	" " FACTS("sum(r.facts)") " AS facts, md5(string_agg(r.run_id || ' ' || r.facts || ' ' || r.clicks, ',' ORDER BY r.run_id)) AS contents," \
	" array_agg(r.run_id) AS run_ids FROM adclick_internal.runs r WHERE r.sort_order = 3 AND NOT r.is_delta GROUP BY r.volume)"

#define ARCHIVED_COLUMNS "volume, first_minute, last_minute, clicks, contents, file, bytes, sha256"

/* Of an hour, the last time it was compared. */
#define UNRECONCILED "(differences > 0 OR problem IS NOT NULL) AND NOT repaired"

/* How long the books of reconciliation have hours that cannot be compared any more. */
#define BOOKS_KEPT "interval '366 days'"

/* They end so long before, but for the last hour up to a time: it says that later ones are to be reconciled before they go. */
#define END_BOOKS(until) \
	"old AS (SELECT l.until - " BOOKS_KEPT " AS before, (SELECT max(hour) FROM adclick.reconciled_hours WHERE hour <= l.until) AS last" \
	" FROM (SELECT " until " AS until) l)," \
	" hours AS (DELETE FROM adclick.reconciled_hours USING old WHERE hour < before AND hour < last)," \
	" differences AS (DELETE FROM adclick.differences USING old WHERE hour < before)," \
	" calls AS (DELETE FROM adclick.reconciliations USING old WHERE started_at < before)"

/* Of volume $1: from now on it is dropped. */
#define NOTE_DROPPED(shelf) \
	"UPDATE adclick_internal.volumes SET dropped_at = clock_timestamp(), dropped_by = pg_current_xact_id()" \
	" WHERE shelf = " shelf " AND volume = $1"

/* Of a call of adclick.reconcile(): which it is, how many hours it has left, the next, and whether that is the last of its day. */
#define NEXT_HOUR \
	"reconciliation_id, (cardinality(hours) - hours_done)::bigint, hours[hours_done + 1]," \
	" coalesce(" DAY_OF("hours[hours_done + 1]") " <> " DAY_OF("hours[hours_done + 2]") ", true)"

#define SELECT_LISTS(table, first) \
	"SELECT " first ", cut_off, most_clicked_ads FROM " table \
	" WHERE filter_id = $1 AND " first " = ANY ($2) ORDER BY " first
/* All there are of some minutes or hours; the filters are named for the sake of the index. */
#define REMOVE_LISTS(table, which) \
	"DELETE FROM " table " WHERE filter_id = ANY (ARRAY(SELECT filter_id FROM adclick.filters" \
	" WHERE country IS NULL OR region IS NULL OR device IS NULL)) AND " which
#define INSERT_LIST(table, first) \
	"INSERT INTO " table " (filter_id, " first ", cut_off, most_clicked_ads)" \
	" SELECT $1, $2, $3, coalesce(" \
	"array_agg(ROW(u.ad_id, u.click_count)::adclick.ad_click ORDER BY u.place), '{}')" \
	" FROM unnest($4, $5) WITH ORDINALITY u (ad_id, click_count, place)"

static const struct
{
	const char *text;
	int			nparameters;
	Oid			types[MAX_PARAMETERS];
}			statements[STATEMENTS] =
{
	[GET_STATE] = {
		"SELECT tick, ticked_at, newest_received, event_time, rows_read,"
		" counted, in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit,"
		" s.rule_id, future_tolerance, raw_retention, highest_bucket, by_user_and_ad, dedup_window,"
		" (SELECT count(*) FROM adclick_internal.dedup_rules), late, dropped, dropped_until, CASE WHEN EXISTS (SELECT FROM adclick_internal.restore) THEN NOT adclick_internal.has_all_tables() ELSE false END,"
		" people_dropped_until, discarded_dropped, user_clicks_per_minute, ip_clicks_per_minute, minutes_dropped, days_dropped, minutes_dropped_until, days_dropped_until"
		" FROM adclick_internal.state s LEFT JOIN adclick_internal.dedup_rules r ON r.rule_id = s.rule_id", 0
	},
	[SET_STATE] = {
		"UPDATE adclick_internal.state SET tick = $1, ticked_at = $2, newest_received = $3, event_time = $4,"
		" rows_read = $5, counted = $6, in_future = $7, too_old = $8, duplicates = $9, undecided = $10,"
		" forged = $11, expired = $12, rule_id = $13, future_tolerance = $14, raw_retention = $15, highest_bucket = $16, late = $17,"
		" user_limit = $18, address_limit = $19, user_clicks_per_minute = $20, ip_clicks_per_minute = $21"
		" WHERE tick = $22", 22,
		{INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
		INT8OID, INT8OID, INT8OID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT4OID, INT4OID, INT8OID}
	},
	[GET_FORMER_RULES] = {
		"SELECT rule_id, by_user_and_ad, dedup_window, last_bucket, secret FROM adclick_internal.dedup_rules"
		" WHERE rule_id <> $1 AND last_bucket IS NOT NULL AND (forgotten_since IS NULL OR secret IS NOT NULL) ORDER BY rule_id", 1, {INT4OID}
	},
	[FIND_RULE] = {
		"SELECT rule_id, last_bucket FROM adclick_internal.dedup_rules"
		" WHERE by_user_and_ad = $1 AND dedup_window = $2 AND forgotten_since IS NULL", 2, {BOOLOID, INT4OID}
	},
	[ADD_RULE] = {
		"INSERT INTO adclick_internal.dedup_rules (by_user_and_ad, dedup_window) VALUES ($1, $2)"
		" RETURNING rule_id, last_bucket", 2, {BOOLOID, INT4OID}
	},
	[RETIRE_RULE] = {
		"UPDATE adclick_internal.dedup_rules SET last_bucket = $2 WHERE rule_id = $1", 2, {INT4OID, INT8OID}
	},
	[IN_RESTORE] = {
		"SELECT count(*) FROM adclick_internal.restore", 0
	},
	/* what comes brings its own */
	[BEGIN_RESTORE] = {
		"WITH state AS (DELETE FROM adclick_internal.state), rules AS (DELETE FROM adclick_internal.dedup_rules),"
		" volumes AS (DELETE FROM adclick_internal.volumes), books AS (DELETE FROM adclick.reconciliations)"
		" INSERT INTO adclick_internal.restore SELECT clock_timestamp(), false", 0
	},
	[TRY_AGAIN] = {
		"UPDATE adclick_internal.restore SET tried_again = true WHERE EXISTS (SELECT FROM adclick_internal.restored_tables)", 0
	},
	[WAS_TRIED_AGAIN] = {
		"SELECT count(*) FROM adclick_internal.restore WHERE tried_again", 0
	},
	[COUNT_RESTORED] = {
		"SELECT count(*) FROM adclick_internal.restored_tables", 0
	},
	/* no transaction of another server is waited for */
	[END_RESTORE] = {
		"WITH volumes AS (UPDATE adclick_internal.volumes SET dropped_by = pg_current_xact_id() WHERE dropped_by IS NOT NULL),"
		" tables AS (DELETE FROM adclick_internal.restored_tables)"
		" DELETE FROM adclick_internal.restore", 0
	},
	[NOTE_RESTORED] = {
		"INSERT INTO adclick_internal.restored_tables AS t (relation, by_copy) VALUES ($1, $2)"
		" ON CONFLICT (relation) DO UPDATE SET by_copy = false WHERE NOT $2 AND NOT t.by_copy", 2, {OIDOID, BOOLOID}
	},
	[SET_SEQUENCES] = {
		"SELECT setval('adclick.filters_filter_id_seq', (SELECT coalesce(max(filter_id), 0) + 1 FROM adclick.filters), false),"
		" setval('adclick.reconciliations_reconciliation_id_seq', (SELECT coalesce(max(reconciliation_id), 0) + 1 FROM adclick.reconciliations), false),"
		" setval('adclick_internal.dedup_rules_rule_id_seq', (SELECT coalesce(max(rule_id), 0) + 1 FROM adclick_internal.dedup_rules), false),"
		" setval('adclick_internal.runs_run_id_seq', (SELECT coalesce(max(run_id), 0) + 1 FROM adclick_internal.runs), false)", 0
	},
	[HAS_STATE] = {
		"SELECT count(*) FROM adclick_internal.state", 0
	},
	[ADD_STATE] = {
		"WITH volume AS (INSERT INTO adclick_internal.volumes (shelf, volume, opened_at)"
		" VALUES ('ledger', 0, clock_timestamp()), ('people', 0, clock_timestamp()))"
		" INSERT INTO adclick_internal.state (only_row, tick, rows_read, counted, in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit, late, dropped, discarded_dropped, minutes_dropped, days_dropped)"
		" VALUES (true, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)", 0
	},
	[FIND_MISSING] = {
		"SELECT string_agg(missing, ' ') FROM adclick_internal.find_missing() missing", 0
	},
	[FIND_FORGOTTEN_RULE] = {
		"SELECT rule_id, secret, last_bucket FROM adclick_internal.dedup_rules WHERE dedup_window = $1"
		" AND forgotten_since > statement_timestamp() - $2 * interval '1 microsecond' AND secret IS NOT NULL ORDER BY rule_id DESC LIMIT 1",
		2, {INT4OID, INT8OID}
	},
	[ADD_FORGOTTEN_RULE] = {
		"INSERT INTO adclick_internal.dedup_rules (by_user_and_ad, dedup_window, forgotten_since, secret)"
		" VALUES (true, $1, statement_timestamp(), $2) RETURNING rule_id", 2, {INT4OID, BYTEAOID}
	},
	/* a tick may have thrown the secret away meanwhile */
	[KEEP_FORGOTTEN_RULE] = {
		"UPDATE adclick_internal.dedup_rules SET last_bucket = greatest(last_bucket, $2), secret = $3 WHERE rule_id = $1",
		3, {INT4OID, INT8OID, BYTEAOID}
	},
	[FORGET_SECRET] = {
		"UPDATE adclick_internal.dedup_rules SET secret = NULL WHERE rule_id = $1", 1, {INT4OID}
	},
	[FORGET_UNPACKED] = {
		"UPDATE adclick_internal.unpacked_clicks SET user_id = NULL, ip = NULL, run_id = coalesce(nullif($2, 0), run_id)"
		" WHERE user_id = $1", 2, {INT8OID, INT8OID}
	},
	[FORGET_DIFFERENCES] = {
		"UPDATE adclick.differences SET user_id = NULL, ip = NULL WHERE user_id = $1", 1, {INT8OID}
	},
	/* nobody knows which of its numbers was to be the user */
	[FORGET_BAD_LINES] = {
		"DELETE FROM adclick.bad_lines WHERE concat_ws(' ', line, reason) ~ ('(?<![0-9])' || $1 || '(?![0-9])')", 1, {INT8OID}
	},
	[CLAIM_COMPACTION] = {
		"UPDATE adclick_internal.compaction SET rounds = rounds + 1", 0
	},
	[COUNT_LEDGER] = {
		"SELECT coalesce(sum(" FACTS("clicks") "), 0)::bigint FROM adclick_internal.runs WHERE sort_order = 3", 0
	},
	[COUNT_UNPACKED] = {
		"SELECT count(*) FROM adclick_internal.unpacked_clicks WHERE run_id <> 0", 0
	},
	[COUNT_OPEN_MINUTES] = {
		"SELECT count(DISTINCT m) FROM (SELECT last_minute FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta"
		" UNION ALL SELECT '-infinity' ORDER BY 1 DESC LIMIT 1) f, adclick_internal.runs d, unnest(d.minutes) m"
		" WHERE d.sort_order = 0 AND d.is_delta AND d.last_minute > f.last_minute AND m > f.last_minute", 0
	},
	/* as the index has it */
	[COUNT_CLICKS] = {
		"SELECT sum(u.clicks)::float8 FROM adclick_internal.runs, unnest(minutes, minute_clicks) u (minute, clicks)"
		" WHERE sort_order = 0 AND is_delta IN (false, true) AND last_minute >= $1 AND first_minute <= $1 AND u.minute = $1",
		1, {TIMESTAMPTZOID}
	},
	/* final ones are found by where they end: no later than an hour behind the window */
	[GET_MINUTE_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = 0 AND is_delta AND last_minute >= $1 AND first_minute <= $2"
		" UNION ALL"
		" SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = 0 AND NOT is_delta AND last_minute >= $1 AND last_minute <= $3 AND first_minute <= $2",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_AD_DELTAS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = 0 AND is_delta AND last_minute >= $1 AND first_minute <= $2", 2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_FINALS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = 0 AND NOT is_delta AND last_minute >= $1 AND last_minute <= $3 AND first_minute <= $2",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = $3 AND is_delta AND last_minute >= $1 AND first_minute <= $2"
		" UNION ALL"
		" SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = $3 AND NOT is_delta AND last_minute >= $1 AND first_minute <= $2",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	},
	[GET_KEY_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = 3 AND last_minute >= $1 AND first_minute <= $2 AND minutes && $3",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID}
	},
	[GET_LAST_MINUTE] = {
		"SELECT max(last) FROM unnest('{0,1,2}'::int[]) o, unnest('{t,f}'::bool[]) d,"
		" LATERAL (SELECT max(last_minute) AS last FROM adclick_internal.runs WHERE sort_order = o AND is_delta = d) r", 0
	},
	/* NULL for runs that say none, or too few */
	[GET_FACT_MINUTES] = {
		"SELECT u.minute, min(run_id) FROM adclick_internal.runs"
		" LEFT JOIN LATERAL unnest(minutes, minute_facts) u (minute, facts) ON true"
		" WHERE sort_order = 0 AND last_minute >= $1 AND first_minute <= $2"
		" AND (u.minute BETWEEN $1 AND $2 OR u.minute IS NULL) GROUP BY u.minute ORDER BY u.minute",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_SIZE] = {
		"SELECT count(*)::float8, coalesce(sum(facts::float8), 0),"
		" (count(*) FILTER (WHERE is_delta))::float8,"
		" coalesce(sum(facts::float8) FILTER (WHERE is_delta), 0),"
		" (coalesce(sum(" MOST_MINUTES ") FILTER (WHERE NOT is_delta), 0)"
		" + coalesce(max(" MOST_MINUTES ") FILTER (WHERE is_delta), 0))::float8,"
		" (count(*) FILTER (WHERE NOT is_delta AND first_minute < last_minute))::float8,"
		" coalesce(sum(facts::float8) FILTER (WHERE NOT is_delta AND first_minute < last_minute), 0)"
		" FROM adclick_internal.runs"
		" WHERE sort_order IN (0, 4) AND last_minute >= $1 AND first_minute <= $2"
		" AND (sort_order = 0 OR ($3 AND last_minute <= " MINUTES_DROPPED_UNTIL "))",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID}
	},
	[GET_RUN_MINUTES] = {
		"SELECT u.minute, u.clicks FROM adclick_internal.runs, unnest(minutes, minute_clicks) u (minute, clicks)"
		" WHERE run_id = $1 ORDER BY u.minute",
		1, {INT8OID}
	},
	[GET_DELTAS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs WHERE sort_order = $1 AND is_delta"
		" AND last_minute >= $4 AND run_id <> ALL ($3) ORDER BY run_id LIMIT $2",
		4, {INT4OID, INT8OID, INT8ARRAYOID, TIMESTAMPTZOID}
	},
	[GET_LATE] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs WHERE sort_order = $3 AND is_delta"
		" AND last_minute < $1 AND run_id <> ALL ($2) ORDER BY run_id",
		3, {TIMESTAMPTZOID, INT8ARRAYOID, INT4OID}
	},
	/* no hour has more than the limit, so the first one is whole */
	[GET_SETTLED] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs r"
		" WHERE sort_order = 0 AND NOT is_delta AND last_minute >= $3 AND last_minute < $1 AND first_minute = last_minute"
		" AND NOT EXISTS (SELECT FROM adclick_internal.runs o WHERE o.run_id = ANY ($2)"
		" AND o.sort_order = 0 AND NOT o.is_delta"
		" AND " HOUR_OF("o.last_minute") " = " HOUR_OF("r.last_minute") ") ORDER BY last_minute LIMIT 60",
		3, {TIMESTAMPTZOID, INT8ARRAYOID, TIMESTAMPTZOID}
	},
	[GET_EVERY_RUN] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs", 0
	},
	[GET_FINAL_RUNS] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = $3 AND NOT is_delta AND last_minute > $1 ORDER BY last_minute LIMIT $2",
		3, {TIMESTAMPTZOID, INT8OID, INT4OID}
	},
	[GET_HOURS_BEFORE] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = 0 AND NOT is_delta AND last_minute < $1 AND first_minute < last_minute ORDER BY last_minute DESC LIMIT $2",
		2, {TIMESTAMPTZOID, INT8OID}
	},
	/* hashed: there may be thousands of days */
	[GET_UNMADE_DAY] = {
		"SELECT min(day) FROM (SELECT DISTINCT " DAY_OF("last_minute") " AS day FROM adclick_internal.runs"
		" WHERE sort_order = 0 AND NOT is_delta AND last_minute >= $1 AND last_minute < $2) r"
		" WHERE day NOT IN (SELECT last_minute FROM adclick_internal.runs WHERE sort_order = 4 AND NOT is_delta)"
		" AND day NOT IN (SELECT " DAY_OF("last_minute") " FROM adclick_internal.runs WHERE run_id = ANY ($3) AND sort_order = 0 AND NOT is_delta)",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID}
	},
	[GET_MADE_DAYS] = {
		"SELECT last_minute FROM adclick_internal.runs WHERE sort_order = 4 AND NOT is_delta AND last_minute = ANY ($1) ORDER BY 1",
		1, {TIMESTAMPTZARRAYOID}
	},
	[COUNT_WRONG_DAYS] = {
		"SELECT count(*) FROM (SELECT u.minute AS day, sum(" FACTS("u.clicks") ") AS clicks"
		" FROM adclick_internal.runs, unnest(minutes, minute_clicks) u (minute, clicks) WHERE sort_order = 4 GROUP BY 1) d"
		" FULL JOIN (SELECT last_minute AS day FROM adclick_internal.runs WHERE sort_order = 4 AND NOT is_delta) m USING (day)"
		" LEFT JOIN (SELECT " DAY_OF("last_minute") " AS day, sum(" FACTS("clicks") ") AS clicks"
		" FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta GROUP BY 1) f USING (day)"
		" WHERE day > " MINUTES_DROPPED_UNTIL " AND (m.day IS NULL OR d.clicks IS DISTINCT FROM f.clicks)", 0
	},
	[GET_LAST_HOUR] = {
		"SELECT last_minute FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta AND last_minute < $1"
		" AND first_minute < last_minute ORDER BY last_minute DESC LIMIT 1", 1, {TIMESTAMPTZOID}
	},
	[GET_FINAL] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs"
		" WHERE sort_order = $3 AND NOT is_delta AND first_minute = $1 AND last_minute = $2",
		3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	},
	[COUNT_FINAL_FACTS] = {
		"SELECT " FACTS("coalesce(sum(facts), 0)") " FROM adclick_internal.runs"
		" WHERE sort_order = $4 AND NOT is_delta AND last_minute BETWEEN $1 AND $2 AND run_id <> ALL ($3)",
		4, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID, INT4OID}
	},
	[GET_PENDING_MINUTES] = {
		"SELECT p.minute, p.facts, " FACTS("coalesce(r.facts, 0)") " FROM"
		" (SELECT u.minute, " FACTS("sum(u.facts)") " AS facts FROM adclick_internal.runs d,"
		" unnest(d.minutes, d.minute_facts) u (minute, facts) WHERE d.run_id = ANY ($1) AND u.minute >= $2 AND u.minute < $4 GROUP BY 1) p"
		" LEFT JOIN adclick_internal.runs r ON r.sort_order = 0 AND NOT r.is_delta"
		" AND r.last_minute BETWEEN p.minute AND " END_OF(HOUR_OF("p.minute")) " AND r.first_minute <= p.minute"
		" WHERE r.run_id IS NULL OR (r.first_minute = r.last_minute AND r.run_id <> ALL ($3)) ORDER BY 1",
		4, {INT8ARRAYOID, TIMESTAMPTZOID, INT8ARRAYOID, TIMESTAMPTZOID}
	},
	/* not for hours that have any other final run: of a minute, or a damaged one; asked so that the index is used */
	[GET_PENDING_HOURS] = {
		"SELECT p.hour, p.facts, " FACTS("coalesce(r.facts, 0)") " FROM"
		" (SELECT " HOUR_OF("u.minute") " AS hour, " FACTS("sum(u.facts)") " AS facts FROM adclick_internal.runs d,"
		" unnest(d.minutes, d.minute_facts) u (minute, facts) WHERE d.run_id = ANY ($1) GROUP BY 1) p"
		" LEFT JOIN adclick_internal.runs r ON r.sort_order = 0 AND NOT r.is_delta"
		" AND r.last_minute = " END_OF("p.hour") " AND r.first_minute = p.hour"
		" WHERE (p.hour < $2 OR r.run_id IS NOT NULL) AND (r.run_id IS NULL OR r.run_id <> ALL ($3))"
		" AND 0 = (SELECT count(*) FROM adclick_internal.runs m WHERE m.sort_order = 0 AND NOT m.is_delta"
		" AND m.last_minute BETWEEN p.hour AND " END_OF("p.hour")
		" AND (m.last_minute <> " END_OF("p.hour") " OR m.first_minute <> p.hour)) ORDER BY 1",
		3, {INT8ARRAYOID, TIMESTAMPTZOID, INT8ARRAYOID}
	},
	/* what has no day to go to is damage, and stays */
	[GET_PENDING_DAYS] = {
		"SELECT p.day, p.facts, " FACTS("r.facts") " FROM"
		" (SELECT u.minute AS day, " FACTS("sum(u.facts)") " AS facts FROM adclick_internal.runs d,"
		" unnest(d.minutes, d.minute_facts) u (minute, facts) WHERE d.run_id = ANY ($1) GROUP BY 1) p"
		" JOIN adclick_internal.runs r ON r.sort_order = 4 AND NOT r.is_delta AND r.last_minute = p.day AND r.run_id <> ALL ($2) ORDER BY 1",
		2, {INT8ARRAYOID, INT8ARRAYOID}
	},
	[DELETE_DELTAS] = {
		"DELETE FROM adclick_internal.deltas WHERE run_id = ANY ($1)", 1, {INT8ARRAYOID}
	},
	[DELETE_SEGMENTS] = {
		"DELETE FROM adclick_internal.segments WHERE run_id = ANY ($1)", 1, {INT8ARRAYOID}
	},
	[DELETE_RUNS] = {
		"DELETE FROM adclick_internal.runs WHERE run_id = ANY ($1)", 1, {INT8ARRAYOID}
	},
	/* minutes that have nothing left go; of orders without them there are none */
	[TAKE_FROM_RUN] = {
		"UPDATE adclick_internal.runs SET facts = facts - $2, clicks = clicks - $3, (minutes, minute_facts, minute_clicks) ="
		" (SELECT array_agg(u.minute), array_agg(u.facts - coalesce(t.facts, 0)), array_agg(u.clicks - coalesce(t.clicks, 0))"
		" FROM unnest(minutes, minute_facts, minute_clicks) u (minute, facts, clicks) LEFT JOIN"
		" (SELECT g.minute, count(*) AS facts, " FACTS("sum(g.clicks)") " AS clicks FROM unnest($4, $5) g (minute, clicks) GROUP BY 1) t"
		" ON t.minute = u.minute WHERE u.facts > coalesce(t.facts, 0)) WHERE run_id = $1",
		5, {INT8OID, INT8OID, INT8OID, TIMESTAMPTZARRAYOID, INT8ARRAYOID}
	},
	[NEXT_RUN] = {
		"SELECT nextval('adclick_internal.runs_run_id_seq')", 0
	},
	[ADD_RUN] = {
		"INSERT INTO adclick_internal.runs OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, nullif($12, -1))",
		12, {INT8OID, INT4OID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT8OID, INT8OID,
			TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT4OID}
	},
	[MOVE_UNPACKED] = {
		"UPDATE adclick_internal.unpacked_clicks SET run_id = $2 WHERE run_id = ANY ($1)", 2, {INT8ARRAYOID, INT8OID}
	},
	[GET_RUN] = {
		"SELECT run_id FROM adclick_internal.runs WHERE run_id = $1", 1, {INT8OID}
	},
	[ADD_GAPS] = {
		"INSERT INTO adclick_internal.gaps SELECT unnest($1) ON CONFLICT DO NOTHING",
		1, {TIMESTAMPTZARRAYOID}
	},
	/* in the order in which a tick adds them, so that the two wait for each other in one direction */
	[ADD_ALL_GAPS] = {
		"INSERT INTO adclick_internal.gaps SELECT DISTINCT m FROM adclick_internal.runs, unnest(minutes) m"
		" WHERE sort_order = 0 AND last_minute >= $1 AND first_minute <= $2 AND m BETWEEN $1 AND $2"
		" ORDER BY m ON CONFLICT DO NOTHING",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[DELETE_GAPS] = {
		"DELETE FROM adclick_internal.gaps WHERE minute BETWEEN $1 AND $2",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_GAP] = {
		"SELECT min(minute) FROM adclick_internal.gaps WHERE minute BETWEEN $1 AND $2",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_GAPS] = {
		"SELECT minute FROM adclick_internal.gaps", 0
	},
	[GET_GAPS_OF] = {
		"SELECT minute FROM adclick_internal.gaps WHERE minute = ANY ($1) ORDER BY minute", 1, {TIMESTAMPTZARRAYOID}
	},
	[GET_LISTS] = {
		SELECT_LISTS("adclick.most_clicked_ads", "click_minute"), 2, {INT4OID, TIMESTAMPTZARRAYOID}
	},
	[GET_HOUR_LISTS] = {
		SELECT_LISTS("adclick.most_clicked_ads_hourly", "click_hour"), 2, {INT4OID, TIMESTAMPTZARRAYOID}
	},
	[GET_DAY_LISTS] = {
		SELECT_LISTS("adclick.most_clicked_ads_daily", "click_day"), 2, {INT4OID, TIMESTAMPTZARRAYOID}
	},
	[PUT_LIST] = {
		INSERT_LIST("adclick.most_clicked_ads", "click_minute"),
		5, {INT4OID, TIMESTAMPTZOID, INT8OID, INT8ARRAYOID, INT8ARRAYOID}
	},
	[PUT_HOUR_LIST] = {
		INSERT_LIST("adclick.most_clicked_ads_hourly", "click_hour"),
		5, {INT4OID, TIMESTAMPTZOID, INT8OID, INT8ARRAYOID, INT8ARRAYOID}
	},
	[PUT_DAY_LIST] = {
		INSERT_LIST("adclick.most_clicked_ads_daily", "click_day"),
		5, {INT4OID, TIMESTAMPTZOID, INT8OID, INT8ARRAYOID, INT8ARRAYOID}
	},
	[DELETE_LISTS] = {
		REMOVE_LISTS("adclick.most_clicked_ads", "click_minute = ANY ($1)"), 1, {TIMESTAMPTZARRAYOID}
	},
	[DELETE_HOUR_LISTS] = {
		REMOVE_LISTS("adclick.most_clicked_ads_hourly", "click_hour = ANY ($1)"), 1, {TIMESTAMPTZARRAYOID}
	},
	[DELETE_DAY_LISTS] = {
		REMOVE_LISTS("adclick.most_clicked_ads_daily", "click_day = ANY ($1)"), 1, {TIMESTAMPTZARRAYOID}
	},
	[DELETE_ALL_LISTS] = {
		REMOVE_LISTS("adclick.most_clicked_ads", "click_minute BETWEEN $1 AND $2"), 2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[DELETE_ALL_HOUR_LISTS] = {
		REMOVE_LISTS("adclick.most_clicked_ads_hourly", "click_hour BETWEEN $1 AND $2"), 2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[DELETE_ALL_DAY_LISTS] = {
		REMOVE_LISTS("adclick.most_clicked_ads_daily", "click_day BETWEEN $1 AND $2"), 2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_COMBINATIONS] = {
		"SELECT filter_id, country, region, device, last_day FROM adclick.filters"
		" WHERE country IS NOT NULL AND region IS NOT NULL AND device IS NOT NULL", 0
	},
	[ADD_COMBINATION] = {
		"INSERT INTO adclick.filters AS f (country, region, device, last_day) VALUES ($1, $2, $3, " DATE_OF("$4") ")"
		" ON CONFLICT (country, region, device) DO UPDATE SET last_day = greatest(f.last_day, excluded.last_day) RETURNING filter_id",
		4, {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	},
	[PUT_LAST_DAYS] = {
		"UPDATE adclick.filters f SET last_day = " DATE_OF("u.day") " FROM unnest($1, $2) u (filter_id, day)"
		" WHERE f.filter_id = u.filter_id AND f.last_day < " DATE_OF("u.day"), 2, {INT8ARRAYOID, TIMESTAMPTZARRAYOID}
	},
	[GET_FIRST_LAST_DAY] = {
		"SELECT min(last_day)::timestamp AT TIME ZONE 'UTC' FROM adclick.filters", 0
	},
	/* a tick of an older snapshot, which still sees them, fails: the state is another one */
	[END_COMBINATIONS] = {
		"WITH ended AS (DELETE FROM adclick.filters WHERE last_day < " DATE_OF("$1") " RETURNING filter_id)"
		" UPDATE adclick_internal.state SET tick = tick WHERE EXISTS (SELECT FROM ended)", 1, {TIMESTAMPTZOID}
	},
	[GET_FIRST_MINUTE] = {
		"SELECT min(first_minute) FROM adclick_internal.runs", 0
	},
	[GET_REGISTERED] = {
		"SELECT filter_id, country, region, device FROM adclick.filters"
		" WHERE country IS NULL OR region IS NULL OR device IS NULL ORDER BY filter_id", 0
	},
	[ADD_FILTER] = {
		"INSERT INTO adclick.filters (country, region, device) VALUES ($1, $2, $3)"
		" ON CONFLICT DO NOTHING RETURNING filter_id",
		3, {TEXTOID, TEXTOID, TEXTOID}
	},
	[FIND_FILTER] = {
		"SELECT filter_id FROM adclick.filters WHERE country IS NOT DISTINCT FROM $1"
		" AND region IS NOT DISTINCT FROM $2 AND device IS NOT DISTINCT FROM $3",
		3, {TEXTOID, TEXTOID, TEXTOID}
	},
	[DROP_FILTER] = {
		"DELETE FROM adclick.filters WHERE filter_id = $1", 1, {INT4OID}
	},
	[DROP_LISTS] = {
		"DELETE FROM adclick.most_clicked_ads WHERE filter_id = $1", 1, {INT4OID}
	},
	[DROP_HOUR_LISTS] = {
		"DELETE FROM adclick.most_clicked_ads_hourly WHERE filter_id = $1", 1, {INT4OID}
	},
	[DROP_DAY_LISTS] = {
		"DELETE FROM adclick.most_clicked_ads_daily WHERE filter_id = $1", 1, {INT4OID}
	},
	[GET_RECONCILIATION] = {
		"SELECT " NEXT_HOUR " FROM adclick.reconciliations"
		" WHERE since = $1 AND until = $2 AND repair = $3 AND only_changed = $4 AND finished_at IS NULL AND started_at > clock_timestamp() - interval '12 hours'"
		" ORDER BY reconciliation_id DESC LIMIT 1",
		4, {TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, BOOLOID}
	},
	/*
	 * Hours that have facts; or can have clicks of the ledger, as a dedup bucket begins no
	 * later than a day after its click, and no earlier than two before; and those of which
	 * something was found that need not be there any more.  Not those whose clicks the
	 * ledger no longer has all.  Of changed ones, none from before the first that was ever
	 * reconciled; the first time, those of the last day.
	 */
	[BEGIN_RECONCILIATION] = {
		"INSERT INTO adclick.reconciliations (since, until, repair, only_changed, started_at, finished_at, hours, hours_done, clicks, differences)"
		" SELECT $1, $2, $3, $4, clock_timestamp(), CASE WHEN cardinality(h.hours) = 0 THEN clock_timestamp() END, h.hours, 0, 0, 0"
		" FROM (SELECT ARRAY(SELECT hour FROM (SELECT " HOUR_OF("m") " AS hour FROM adclick_internal.runs, unnest(minutes) m"
		" WHERE sort_order = 0 AND is_delta IN (false, true) AND last_minute >= " HOUR_OF("$1") " AND " HOUR_OF("first_minute") " < $2"
		" UNION SELECT b.hour + n * interval '1 hour' FROM (SELECT DISTINCT " HOUR_OF("m") " AS hour FROM adclick_internal.runs, unnest(minutes) m"
		" WHERE sort_order = 3 AND is_delta IN (false, true) AND last_minute >= " HOUR_OF("$1") " - interval '49 hours'"
		" AND first_minute < $2 + interval '25 hours' AND m BETWEEN '4700-01-01 BC' AND '294276-12-01') b, generate_series(-24, 48) n"
		" UNION SELECT hour FROM adclick.reconciled_hours WHERE " UNRECONCILED ") u"
		" WHERE hour >= " HOUR_OF("$1") " AND hour < $2 AND $1 < $2 AND " IS_WHOLE("hour") " AND hour > " MINUTES_DROPPED_UNTIL
		" AND (NOT $4 OR hour >= coalesce((SELECT min(hour) FROM adclick.reconciled_hours), $2 - interval '24 hours')"
		" AND hour NOT IN (SELECT adclick_internal.agreed_hours($1, $2))) ORDER BY hour) AS hours) h"
		" RETURNING " NEXT_HOUR,
		4, {TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, BOOLOID}
	},
	[DELETE_DIFFERENCES] = {
		"DELETE FROM adclick.differences WHERE hour = $1", 1, {TIMESTAMPTZOID}
	},
	/* the clicks are those of the directory, which is compared, too */
	[FIND_DIFFERENCES] = {
		"WITH found AS MATERIALIZED (SELECT * FROM adclick_internal.find_differences($1, $2)),"
		" noted AS (INSERT INTO adclick.differences"
		" SELECT $1, f.what, f.click_minute, f.ad_id, f.filter_id, f.user_id, f.ip, f.expected, f.stored"
		" FROM (SELECT *, row_number() OVER (PARTITION BY what) AS nr FROM found) f WHERE nr <= 1000)"
		" SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM found WHERE " OF_LEDGER "),"
		" (SELECT coalesce(sum(u.clicks), 0)::bigint FROM adclick_internal.runs, unnest(minutes, minute_clicks) u (minute, clicks)"
		" WHERE sort_order = 0 AND is_delta IN (false, true) AND last_minute >= $1 AND first_minute < $1 + interval '1 hour'"
		" AND u.minute >= $1 AND u.minute < $1 + interval '1 hour')",
		2, {TIMESTAMPTZOID, BOOLOID}
	},
	[COUNT_DIFFERENCES] = {
		"SELECT count(*) FROM adclick_internal.find_differences($1, $2) WHERE NOT " OF_LEDGER, 2, {TIMESTAMPTZOID, BOOLOID}
	},
	[PUT_RECONCILED] = {
		"WITH done AS (UPDATE adclick.reconciliations SET hours_done = hours_done + 1, clicks = clicks + $3,"
		" differences = differences + $4,"
		" finished_at = CASE WHEN hours_done + 1 >= cardinality(hours) THEN clock_timestamp() END WHERE reconciliation_id = $1)"
		" INSERT INTO adclick.reconciled_hours (hour, reconciled_at, clicks, differences, repaired, problem)"
		" SELECT $2, clock_timestamp(), $3, $4, $5, $6 WHERE NOT $7 ON CONFLICT (hour) DO UPDATE SET reconciled_at = excluded.reconciled_at,"
		" clicks = excluded.clicks, differences = excluded.differences, repaired = excluded.repaired, problem = excluded.problem",
		7, {INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, BOOLOID, TEXTOID, BOOLOID}
	},
	[COUNT_UNRECONCILED] = {
		"SELECT count(*) FROM adclick.reconciled_hours WHERE " UNRECONCILED " AND " IS_WHOLE("hour") " AND hour > " MINUTES_DROPPED_UNTIL, 0
	},
	[GET_UNRECONCILED] = {
		"SELECT min(h.hour) FROM (SELECT " HOUR_OF("m") " AS hour FROM adclick_internal.runs, unnest(minutes) m"
		" WHERE sort_order = 0 AND is_delta IN (false, true) AND last_minute >= $1 AND first_minute <= $2"
		" UNION SELECT hour FROM adclick.reconciled_hours) h"
		" WHERE h.hour >= " HOUR_OF("$1") " AND h.hour <= $2 AND h.hour > greatest(" DROPPED_UNTIL ", " MINUTES_DROPPED_UNTIL ")"
		" AND h.hour >= (SELECT min(hour) FROM adclick.reconciled_hours)"
		" AND h.hour NOT IN (SELECT adclick_internal.agreed_hours(" HOUR_OF("$1") ", $2 + interval '1 minute'))",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_VOLUME] = {
		"SELECT volume, opened_at FROM adclick_internal.volumes WHERE shelf = $1 ORDER BY volume DESC LIMIT 1", 1, {TEXTOID}
	},
	[GET_LEDGER_VOLUMES] = {
		"SELECT volume, dropped_at IS NOT NULL FROM adclick_internal.volumes WHERE shelf = 'ledger'", 0
	},
	/* by verdict */
	[GET_SET_ASIDE_BEFORE] = {
		"SELECT in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit FROM adclick_internal.volumes"
		" WHERE shelf = 'ledger' AND dropped_at IS NULL ORDER BY volume LIMIT 1", 0
	},
	/* unless its table is that of another one */
	[OPEN_VOLUME] = {
		"INSERT INTO adclick_internal.volumes (shelf, volume, opened_at, in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit)"
		" SELECT $1, last.volume + 1, clock_timestamp(), s.in_future, s.too_old, s.duplicates, s.undecided, s.forged, s.expired, s.user_limit, s.address_limit"
		" FROM adclick_internal.state s, (SELECT max(volume) AS volume FROM adclick_internal.volumes WHERE shelf = $1) last WHERE NOT EXISTS"
		" (SELECT FROM adclick_internal.volumes o WHERE o.shelf = $1 AND o.volume % 32 = (last.volume + 1) % 32)", 1, {TEXTOID}
	},
	[GET_CLOSED_VOLUME] = {
		"SELECT v.volume, v.closed_at, min(r.first_minute), max(r.last_minute)"
		" FROM (SELECT volume, dropped_at, lead(opened_at) OVER (ORDER BY volume) AS closed_at FROM adclick_internal.volumes WHERE shelf = $1) v"
		" LEFT JOIN adclick_internal.runs r ON r.volume = v.volume AND (r.sort_order = 3) = ($1 = 'ledger')"
		" WHERE v.dropped_at IS NULL AND v.closed_at IS NOT NULL GROUP BY v.volume, v.closed_at ORDER BY v.volume LIMIT 1", 1, {TEXTOID}
	},
	/*
	 * What is in its file stays there, if it is what the volume had.  What was set aside before the next
	 * volume has gone.
	 */
	[DROP_LEDGER] = {
		"WITH dropped AS (DELETE FROM adclick_internal.runs WHERE volume = $1 AND sort_order = 3 RETURNING run_id, clicks, first_minute, last_minute),"
		" unpacked AS (DELETE FROM adclick_internal.unpacked_clicks WHERE run_id IN (SELECT run_id FROM dropped)),"
		" noted AS (" NOTE_DROPPED("'ledger'") "),"
		" sums AS (SELECT coalesce(sum(" FACTS("clicks") "), 0)::bigint AS clicks, min(first_minute) AS since, max(last_minute) AS until FROM dropped),"
		" archived AS (INSERT INTO adclick.archived_volumes AS a (volume, first_minute, last_minute, clicks, dropped_at)"
		" SELECT $1, since, until, clicks, clock_timestamp() FROM sums WHERE until IS NOT NULL ON CONFLICT (volume) DO UPDATE"
		" SET first_minute = excluded.first_minute, last_minute = excluded.last_minute, clicks = excluded.clicks, dropped_at = excluded.dropped_at,"
		" file = CASE WHEN a.contents = (SELECT s.contents FROM " STORED_VOLUMES " s WHERE s.volume = $1) THEN a.file END),"
		" " END_BOOKS("(SELECT until FROM sums)")
		" UPDATE adclick_internal.state s SET dropped = s.dropped + d.clicks, dropped_until = greatest(s.dropped_until, d.until),"
		" discarded_dropped = greatest(s.discarded_dropped, (SELECT n.in_future + n.too_old + n.duplicates + n.undecided + n.forged + n.expired + n.user_limit + n.address_limit"
		" FROM adclick_internal.volumes n WHERE n.shelf = 'ledger' AND n.volume > $1 ORDER BY n.volume LIMIT 1))"
		" FROM sums d RETURNING d.clicks", 1, {INT4OID}
	},
	/* what cannot be asked for any more needs no gaps, and names nobody */
	[DROP_PEOPLE] = {
		"WITH dropped AS (DELETE FROM adclick_internal.runs WHERE volume = $1 AND sort_order IN (1, 2) RETURNING last_minute),"
		" noted AS (" NOTE_DROPPED("'people'") "),"
		" line AS (SELECT max(last_minute) AS until FROM dropped),"
		" gaps AS (DELETE FROM adclick_internal.gaps WHERE minute <= (SELECT until FROM line)),"
		" differences AS (UPDATE adclick.differences SET user_id = NULL, ip = NULL"
		" WHERE click_minute <= (SELECT until FROM line) AND (user_id IS NOT NULL OR ip IS NOT NULL))"
		" UPDATE adclick_internal.state s SET people_dropped_until = greatest(s.people_dropped_until, l.until)"
		" FROM line l RETURNING 0::bigint", 1, {INT4OID}
	},
	[GET_FIRST_DAY] = {
		"SELECT " DAY_OF("least((SELECT min(last_minute) FROM adclick_internal.runs WHERE sort_order = $1 AND NOT is_delta),"
		" (SELECT min(first_minute) FROM adclick_internal.runs WHERE sort_order = $1 AND is_delta))"), 1, {INT4OID}
	},
	[COUNT_DELTAS_UNTIL] = {
		"SELECT count(*) FROM adclick_internal.runs WHERE sort_order = $1 AND is_delta AND first_minute <= $2", 2, {INT4OID, TIMESTAMPTZOID}
	},
	/* of day $1, whose last minute is $2: whether there is one; what its hours have, and it */
	[GET_DAY_SUMS] = {
		"SELECT EXISTS (SELECT FROM adclick_internal.runs WHERE sort_order = 4 AND NOT is_delta AND last_minute = $1),"
		" (SELECT coalesce(sum(" FACTS("clicks") "), 0)::bigint FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta AND last_minute BETWEEN $1 AND $2),"
		" (SELECT coalesce(sum(" FACTS("u.clicks") "), 0)::bigint FROM adclick_internal.runs, unnest(minutes, minute_clicks) u (minute, clicks)"
		" WHERE sort_order = 4 AND is_delta IN (false, true) AND last_minute >= $1 AND first_minute <= $1 AND u.minute = $1)",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[NOTE_MINUTES_DROPPED] = {
		"WITH " END_BOOKS("$2") " UPDATE adclick_internal.state SET minutes_dropped = minutes_dropped + $1, minutes_dropped_until = $2",
		2, {INT8OID, TIMESTAMPTZOID}
	},
	[NOTE_DAYS_DROPPED] = {
		"UPDATE adclick_internal.state SET days_dropped = days_dropped + $1, days_dropped_until = $2", 2, {INT8OID, TIMESTAMPTZOID}
	},
	[GET_DROPPED] = {
		"SELECT shelf = 'ledger', volume, dropped_at, dropped_by FROM adclick_internal.volumes WHERE dropped_at IS NOT NULL ORDER BY dropped_at, shelf, volume", 0
	},
	[DELETE_VOLUME] = {
		"DELETE FROM adclick_internal.volumes WHERE shelf = $1 AND volume = $2", 2, {TEXTOID, INT4OID}
	},
	[GET_ARCHIVABLE] = {
		"SELECT s.volume, s.first_minute, s.last_minute, s.clicks, s.contents, CASE WHEN a.contents = s.contents THEN a.file END, a.bytes, a.sha256, " LINES
		" FROM " STORED_VOLUMES " s JOIN adclick_internal.volumes v ON v.volume = s.volume AND v.shelf = 'ledger' LEFT JOIN adclick.archived_volumes a ON a.volume = s.volume"
		" WHERE v.dropped_at IS NULL AND s.volume < (SELECT max(volume) FROM adclick_internal.volumes WHERE shelf = 'ledger') ORDER BY s.volume", 0
	},
	[GET_STORED_VOLUME] = {
		"SELECT s.volume, s.first_minute, s.last_minute, s.clicks, s.contents, CASE WHEN a.contents = s.contents THEN a.file END, a.bytes, a.sha256, " LINES
		" FROM " STORED_VOLUMES " s LEFT JOIN adclick.archived_volumes a USING (volume) WHERE s.volume = $1", 1, {INT4OID}
	},
	[PUT_ARCHIVED] = {
		"INSERT INTO adclick.archived_volumes (" ARCHIVED_COLUMNS ", archived_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp())"
		" ON CONFLICT (volume) DO UPDATE SET first_minute = excluded.first_minute, last_minute = excluded.last_minute, clicks = excluded.clicks,"
		" contents = excluded.contents, file = excluded.file, bytes = excluded.bytes, sha256 = excluded.sha256, archived_at = excluded.archived_at",
		8, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTOID, INT8OID, TEXTOID}
	},
	[GET_RESTORABLE] = {
		"SELECT " ARCHIVED_COLUMNS ", NULL::bigint, hours, ARRAY(SELECT hour FROM adclick.restored_hours r WHERE r.volume = a.volume ORDER BY hour) FROM adclick.archived_volumes a CROSS JOIN LATERAL (SELECT ARRAY(SELECT h FROM generate_series("
		"greatest(" HOUR_OF("$1") ", " HOUR_OF("a.first_minute") "), least($2, a.last_minute), interval '1 hour') h"
		" WHERE NOT EXISTS (SELECT FROM adclick.restored_hours r WHERE r.hour = h AND r.volume = a.volume) ORDER BY h) AS hours) m"
		" WHERE dropped_at IS NOT NULL AND file IS NOT NULL AND last_minute >= $1 AND first_minute <= $2 AND cardinality(hours) > 0 ORDER BY volume",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[COUNT_LOST] = {
		"SELECT count(*) FROM adclick.archived_volumes WHERE dropped_at IS NOT NULL AND file IS NULL AND last_minute >= $1 AND first_minute <= $2",
		2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[GET_FILES] = {
		"SELECT string_agg(file, ', ' ORDER BY volume) FROM adclick.archived_volumes a WHERE file IS NOT NULL"
		" AND EXISTS (SELECT FROM unnest($1) m WHERE m BETWEEN a.first_minute AND a.last_minute)", 1, {TIMESTAMPTZARRAYOID}
	},
	[PUT_RESTORED] = {
		"INSERT INTO adclick.restored_hours (hour, volume, clicks, restored_at) SELECT h.hour, $1, h.clicks, clock_timestamp()"
		" FROM unnest($2, $3) h (hour, clicks)", 3, {INT4OID, TIMESTAMPTZARRAYOID, INT8ARRAYOID}
	},
	[RELEASE] = {
		"WITH runs AS (DELETE FROM adclick_internal.runs WHERE sort_order = 5),"
		" segments AS (DELETE FROM adclick_internal.ledger_restored),"
		" unpacked AS (DELETE FROM adclick_internal.unpacked_clicks WHERE run_id = 0)"
		" DELETE FROM adclick.restored_hours", 0
	},
	[COUNT_RESTORED_CLICKS] = {
		"SELECT coalesce(sum(clicks), 0)::bigint FROM adclick.restored_hours", 0
	},
	[GET_UNPACKED] = {
		"SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device FROM adclick_internal.unpacked_clicks WHERE run_id = $1", 1, {INT8OID}
	},
	[GET_INCOMPLETE] = {
		"SELECT min(h) FROM adclick_internal.state s, generate_series(greatest(" HOUR_OF("$1") ", " HOUR_OF("(SELECT least(min(first_minute), s.dropped_until)"
		" FROM adclick.archived_volumes WHERE dropped_at IS NOT NULL)") "), least($2, s.dropped_until), interval '1 hour') h"
		" WHERE s.dropped_until IS NOT NULL AND NOT adclick_internal.is_restored(h)", 2, {TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[COUNT_FILES] = {
		"SELECT count(*) FROM adclick.archived_volumes WHERE dropped_at IS NOT NULL AND file IS NOT NULL", 0
	},
	[GET_FORGOTTEN] = {
		"SELECT hash, secret, last_volume FROM adclick_internal.forgotten_users", 0
	},
	[ADD_FORGOTTEN] = {
		"INSERT INTO adclick_internal.forgotten_users SELECT $1, $2, max(volume) FROM adclick.archived_volumes WHERE dropped_at IS NOT NULL"
		" ON CONFLICT (hash) DO UPDATE SET last_volume = excluded.last_volume", 2, {UUIDOID, BYTEAOID}
	},
	[GET_LEDGER_RUN] = {
		"SELECT " RUN_COLUMNS " FROM adclick_internal.runs WHERE run_id = $1 AND sort_order = 3", 1, {INT8OID}
	},
	[GET_SOURCES] = {
		"SELECT name, path, format = 'json', columns = '{}', ARRAY(SELECT CASE WHEN columns = '{}' THEN nullif(c.name, 'received_at') ELSE columns ->> c.name END FROM unnest('{click_id, ad_id, clicked_at, user_id, received_at,"
		" ip, country, region, device}'::text[]) WITH ORDINALITY c (name, place) ORDER BY c.place), added_by, bytes_waiting, last_error"
		" FROM adclick_internal.log_sources s ORDER BY name", 0
	},
	[HAS_SOURCES] = {
		"SELECT FROM adclick_internal.log_sources LIMIT 1", 0
	},
	[ADD_SOURCE] = {
		"INSERT INTO adclick_internal.log_sources (name, path, format, columns, added_by, added_at, lines, bad_lines, bytes_waiting)"
		" VALUES ($1, $2, $3, $4, $5, clock_timestamp(), 0, 0, 0) ON CONFLICT DO NOTHING",
		5, {TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}
	},
	[DROP_SOURCE] = {
		"WITH files AS (DELETE FROM adclick_internal.log_files WHERE source = $1),"
		" bad_lines AS (DELETE FROM adclick.bad_lines WHERE source = $1)"
		" DELETE FROM adclick_internal.log_sources WHERE name = $1", 1, {TEXTOID}
	},
	[NOTE_SOURCE] = {
		"UPDATE adclick_internal.log_sources SET lines = lines + $2, bad_lines = bad_lines + $3, bytes_waiting = $4,"
		" last_read_at = CASE WHEN $2 + $3 > 0 THEN clock_timestamp() ELSE last_read_at END, last_error = $5,"
		" last_error_at = CASE WHEN $5 IS NULL THEN NULL WHEN last_error = $5 THEN last_error_at ELSE clock_timestamp() END WHERE name = $1",
		5, {TEXTOID, INT8OID, INT8OID, INT8OID, TEXTOID}
	},
	[GET_LOG_FILES] = {
		"SELECT file, path, device, inode, size, modified_at, compressed, rotated, read_to, in_line, begin_hash, end_hash, copy_of,"
		" gone_at IS NOT NULL, lines, bad_lines FROM adclick_internal.log_files WHERE source = $1 ORDER BY file", 1, {TEXTOID}
	},
	[PUT_LOG_FILE] = {
		"INSERT INTO adclick_internal.log_files AS f (source, file, path, device, inode, size, modified_at, compressed, rotated, read_to, in_line,"
		" begin_hash, end_hash, copy_of, gone_at, lines, bad_lines)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, nullif($14, 0), CASE WHEN $15 THEN clock_timestamp() END, $16, $17)"
		" ON CONFLICT (source, file) DO UPDATE SET path = excluded.path, device = excluded.device, inode = excluded.inode, size = excluded.size,"
		" modified_at = excluded.modified_at, compressed = excluded.compressed, rotated = excluded.rotated, read_to = excluded.read_to,"
		" in_line = excluded.in_line, begin_hash = excluded.begin_hash, end_hash = excluded.end_hash, copy_of = excluded.copy_of,"
		" gone_at = excluded.gone_at, lines = excluded.lines, bad_lines = excluded.bad_lines", 17,
		{TEXTOID, INT4OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, BOOLOID, BOOLOID, INT8OID, BOOLOID, UUIDOID, UUIDOID, INT4OID, BOOLOID,
		INT8OID, INT8OID}
	},
	[DELETE_LOG_FILE] = {
		"DELETE FROM adclick_internal.log_files WHERE source = $1 AND file = $2", 2, {TEXTOID, INT4OID}
	},
	[DELETE_GONE_FILES] = {
		"DELETE FROM adclick_internal.log_files WHERE source = $1 AND gone_at < clock_timestamp() - $2 * interval '1 minute'", 2, {TEXTOID, INT4OID}
	},
	[COUNT_BAD_LINES] = {
		"SELECT count(*) FROM adclick.bad_lines WHERE source = $1", 1, {TEXTOID}
	},
	[PUT_BAD_LINE] = {
		"INSERT INTO adclick.bad_lines (source, file, byte_offset, line, sqlstate, reason, set_aside_at) VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())",
		6, {TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID}
	},
	[GET_SOURCE_ERROR] = {
		"SELECT format('source \"%s\" is not read: %s', name, last_error) FROM adclick_internal.log_sources WHERE last_error IS NOT NULL ORDER BY name LIMIT 1", 0
	},
	[RETIRE_SECRET] = {
		"UPDATE adclick_internal.impression_secrets SET retired_at = $1 WHERE retired_at IS NULL", 1, {TIMESTAMPTZOID}
	},
	[DELETE_SECRETS] = {
		"DELETE FROM adclick_internal.impression_secrets WHERE retired_at < $1", 1, {TIMESTAMPTZOID}
	},
};

SPIPlanPtr
sql_plan(Statement statement)
{
	static SPIPlanPtr plans[STATEMENTS];

	definitions_check();
	if (plans[statement] == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statements[statement].text,
									   statements[statement].nparameters,
									   (Oid *) statements[statement].types);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", statements[statement].text,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[statement] = plan;
	}
	return plans[statement];
}

uint64
sql_run(Statement statement, Datum *values, const char *nulls, bool read_only)
{
	int			result = SPI_execute_plan(sql_plan(statement), values, nulls, read_only, 0);
	uint64		rows;

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statements[statement].text,
			 SPI_result_code_string(result));
	rows = SPI_processed;
	definitions_check_rewrites();	/* now that the tables are locked */
	return rows;
}

/* Between SPI_connect and SPI_finish; "plan" may be NULL, as its text could not be prepared. */
static uint64
write_by_plan(SPIPlanPtr plan, const char *text, Datum *values, const char *nulls)
{
	if (plan == NULL ||
		SPI_execute_snapshot(plan, values, nulls, GetActiveSnapshot(), InvalidSnapshot, false, true, 0) < 0)
		elog(ERROR, "could not run \"%s\": %s", text, SPI_result_code_string(SPI_result));
	return SPI_processed;
}

uint64
sql_write(Statement statement, Datum *values, const char *nulls)
{
	uint64		rows;

	SPI_connect();
	rows = write_by_plan(sql_plan(statement), statements[statement].text, values, nulls);
	SPI_finish();
	return rows;
}

uint64
sql_write_segments(StoreTable table, const char *statement, int n, Oid *types, Datum *values)
{
	char	   *text = psprintf(statement, store_table_name(table));
	uint64		rows;

	definitions_check();
	SPI_connect();
	rows = write_by_plan(SPI_prepare(text, n, types), text, values, NULL);
	SPI_finish();
	pfree(text);
	return rows;
}

Datum
sql_result(uint64 row, int column, Datum or_else)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? or_else : value;
}

int64
sql_number(Statement statement, Datum *values, bool read_only)
{
	int64		number;

	SPI_connect();
	sql_run(statement, values, NULL, read_only);
	number = DatumGetInt64(sql_result(0, 1, Int64GetDatum(0)));
	SPI_finish();
	return number;
}

TimestampTz
sql_time(Statement statement, Datum *values)
{
	TimestampTz at;

	SPI_connect();
	sql_run(statement, values, NULL, true);
	at = DatumGetTimestampTz(sql_result(0, 1, TimestampTzGetDatum(DT_NOEND)));
	SPI_finish();
	return at;
}

Datum
sql_array(Oid type, const int64 *values, int count)
{
	Datum	   *datums = palloc(sizeof(Datum) * (count + 1));
	ArrayType  *array;

	for (int i = 0; i < count; i++)
		datums[i] = Int64GetDatum(values[i]);
	array = construct_array(datums, count, type, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
	pfree(datums);
	return PointerGetDatum(array);
}

void
sql_insert_begin(SqlInserter *inserter, const char *schema, const char *table)
{
	definitions_check();
	sql_insert_into(inserter, table_open(get_relname_relid(table, get_namespace_oid(schema, false)),
										 RowExclusiveLock));
}

void
sql_insert_into(SqlInserter *inserter, Relation relation)
{
	memset(inserter, 0, sizeof(SqlInserter));
	inserter->relation = relation;
	inserter->estate = CreateExecutorState();
	inserter->info = makeNode(ResultRelInfo);
	InitResultRelInfo(inserter->info, inserter->relation, 1, NULL, 0);
	inserter->info->ri_TrigDesc = NULL;
	ExecOpenIndices(inserter->info, false);
	inserter->slot = inserter->waiting[0] = table_slot_create(inserter->relation, NULL);
	ExecClearTuple(inserter->slot);
}

/* Write the rows that wait. */
static void
write_waiting(SqlInserter *inserter)
{
	MemoryContext outer = MemoryContextSwitchTo(GetPerTupleMemoryContext(inserter->estate));

	if (inserter->nwaiting > 0)
		table_multi_insert(inserter->relation, inserter->waiting, inserter->nwaiting, GetCurrentCommandId(true), 0, NULL);
	MemoryContextSwitchTo(outer);
	ResetPerTupleExprContext(inserter->estate);
	inserter->nwaiting = 0;
}

/* Let the row wait, and have a slot for the next one. */
static void
wait_with(SqlInserter *inserter)
{
	ExecMaterializeSlot(inserter->slot);
	if (++inserter->nwaiting == SQL_INSERTS_WAITING)
		write_waiting(inserter);
	if (inserter->waiting[inserter->nwaiting] == NULL)
		inserter->waiting[inserter->nwaiting] = table_slot_create(inserter->relation, NULL);
	inserter->slot = inserter->waiting[inserter->nwaiting];
	ExecClearTuple(inserter->slot);
}

void
sql_insert_put(SqlInserter *inserter)
{
	TupleTableSlot *slot = inserter->slot;

	ExecStoreVirtualTuple(slot);
	if (inserter->info->ri_NumIndices == 0)
	{
		wait_with(inserter);
		return;
	}
	simple_table_tuple_insert(inserter->relation, slot);
	list_free(compat_insert_index_tuples(inserter->info, slot, inserter->estate));
	ResetPerTupleExprContext(inserter->estate);
	ExecClearTuple(slot);
}

void
sql_insert_end(SqlInserter *inserter)
{
	write_waiting(inserter);
	for (int i = 0; i < SQL_INSERTS_WAITING && inserter->waiting[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(inserter->waiting[i]);
	ExecCloseIndices(inserter->info);
	FreeExecutorState(inserter->estate);
	table_close(inserter->relation, NoLock);
}
