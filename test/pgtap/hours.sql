-- Hours: minutes become one run, late clicks come to it, and no answer is another for it,
-- whatever part of the hour it is about.

\set ON_ERROR_STOP on

CREATE FUNCTION start() RETURNS timestamptz LANGUAGE sql STABLE AS $$
SELECT date_trunc('hour', min(minute), 'UTC') FROM oracle.clicks()
$$;

-- Windows that cut hours, asked about all clicks, a registered filter and another one, and an ad.
CREATE FUNCTION wrong_windows(n int) RETURNS TABLE ("from" timestamptz, "to" timestamptz, filter text, expected text, answer text)
	LANGUAGE sql STABLE SET work_mem = '64MB' AS $$
WITH clicks AS MATERIALIZED (SELECT ad_id, minute, country FROM oracle.clicks()
), bounds AS MATERIALIZED (
	SELECT min(minute) AS low, extract(epoch FROM now() - min(minute)) / 60 AS span FROM clicks
), windows AS MATERIALIZED (
	SELECT i, low + make_interval(mins => (span * a)::int) AS "from", low + make_interval(mins => (span * (a + (1 - a) * b))::int + 1) AS "to",
		('{NULL,CA,US}'::text[])[1 + i % 3] AS country
	FROM (SELECT i, random() AS a, random() AS b FROM generate_series(1, n) i) w, bounds
), asked AS (
	SELECT "from", "to", i, country, CASE WHEN country IS NULL THEN '{}' ELSE jsonb_build_object('country', country) END AS filter FROM windows
), answers AS (
	SELECT "from", "to", filter,
		(SELECT string_agg(ad_id || ': ' || n, ', ' ORDER BY n DESC, ad_id) FROM (
			SELECT ad_id, count(*) AS n FROM clicks c WHERE minute >= "from" AND minute < "to" AND (a.country IS NULL OR c.country = a.country)
			GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1 + i % 20) x)
		|| (SELECT format(' of %s of %s', count(*) FILTER (WHERE a.country IS NULL OR c.country = a.country), count(*))
			FROM clicks c WHERE minute >= "from" AND minute < "to") AS expected,
		(SELECT string_agg(ad_id || ': ' || click_count, ', ' ORDER BY rank)
			FROM adclick.top_n_ads_between(1 + i % 20, "from", "to", filter))
		|| (SELECT ' of ' || coalesce(sum(click_count), 0) FROM adclick.clicks_per_minute v
			WHERE click_minute >= "from" AND click_minute < "to" AND (a.country IS NULL OR v.country = a.country))
		|| (SELECT ' of ' || coalesce(sum(click_count), 0) FROM adclick.ad_click_counts WHERE click_minute >= "from" AND click_minute < "to") AS answer
	FROM asked a
)
SELECT "from", "to", filter::text, expected, answer FROM answers WHERE expected IS DISTINCT FROM answer
$$;

-- Every minute and every ad, from the views, in whatever way they are read.
CREATE FUNCTION wrong_rows() RETURNS TABLE (what text, which text) LANGUAGE sql STABLE SET work_mem = '64MB' AS $$
WITH minutes AS MATERIALIZED (SELECT minute, count(*) FROM oracle.clicks() GROUP BY 1),
	ads AS MATERIALIZED (SELECT ad_id, minute, count(*) FROM oracle.clicks() GROUP BY 1, 2)
SELECT 'minutes', x::text FROM ((TABLE minutes EXCEPT SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1)
	UNION ALL (SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1 EXCEPT TABLE minutes)) x
UNION ALL
SELECT 'series', x::text FROM (
	SELECT "time", click_count FROM (SELECT ad_id FROM ads GROUP BY 1 ORDER BY sum(count) DESC LIMIT 1) a,
		adclick.click_series(ad_id, start(), date_trunc('minute', now()) + interval '1 minute', '1 minute') WHERE click_count > 0
	EXCEPT SELECT minute, count FROM ads WHERE ad_id = (SELECT ad_id FROM ads GROUP BY 1 ORDER BY sum(count) DESC LIMIT 1)) x
UNION ALL
SELECT 'ads', x::text FROM (TABLE ads EXCEPT SELECT ad_id, click_minute, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1, 2) x
$$;

CREATE FUNCTION is_exact(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts(true)', step || ': facts');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_lists()', step || ': lists of most clicked ads');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(30)', step || ': answers');
	RETURN NEXT is_empty('SELECT * FROM wrong_windows(30)', step || ': windows that cut hours');
	RETURN NEXT is_empty('SELECT * FROM wrong_rows()', step || ': rows');
	RETURN NEXT is((SELECT balanced FROM adclick.check_ledger()), true, step || ': the books');
END
$$;

CREATE VIEW runs AS
SELECT count(*) FILTER (WHERE NOT is_delta AND first_minute < last_minute) AS hours,
	count(*) FILTER (WHERE NOT is_delta AND first_minute = last_minute) AS minutes, count(*) FILTER (WHERE is_delta) AS deltas
FROM adclick_internal.runs WHERE sort_order = 0;

SELECT no_plan();
SELECT setseed(0.75) AS seeded \gset
-- Short lists: not every ad is in them.
\set name adclick.top_ads_kept
\set value 20
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset

-- As clicks come: minutes first, then their hours.
SELECT oracle.send_past_clicks(3000, '2 hours', '6 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT cmp_ok(minutes, '>=', 59::bigint, 'runs of minutes') FROM runs;
SELECT is_exact('minutes');
-- Of whole hours: what is still open belongs to the next one.
CREATE TABLE minute_lists AS SELECT click_minute, filter_id FROM adclick.most_clicked_ads
WHERE click_minute < (SELECT date_trunc('hour', max(click_minute) + interval '1 minute', 'UTC') FROM adclick.most_clicked_ads);
SELECT isnt_empty('TABLE minute_lists', 'lists of minutes');
SELECT oracle.send_past_clicks(3000, '3 hours', '0') AS sent \gset
SELECT is_exact('a tail over them');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
BEGIN;
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('compacted, to be rolled back');
ROLLBACK;
SELECT is_exact('rolled back');
SELECT oracle.compact() AS compacted \gset
SELECT cmp_ok(hours, '>=', 4::bigint, 'runs of hours') FROM runs;
SELECT cmp_ok(minutes, '<=', 121::bigint, 'few of minutes are left') FROM runs;
SELECT cmp_ok(deltas, '<=', 1::bigint, 'and one delta') FROM runs;
SELECT is(count(*), 0::bigint, 'an hour has a run, or its minutes have')
FROM adclick_internal.runs h JOIN adclick_internal.runs m ON m.last_minute BETWEEN h.first_minute AND h.last_minute AND m.run_id <> h.run_id
WHERE h.sort_order = 0 AND m.sort_order = 0 AND NOT h.is_delta AND NOT m.is_delta;
SELECT is_exact('hours');
SELECT is_empty('SELECT click_minute, filter_id FROM minute_lists EXCEPT SELECT click_minute, filter_id FROM adclick.most_clicked_ads',
	'the lists of the minutes of hours are kept');
SELECT is(way, 'lists', 'parts of hours are answered from them')
FROM (SELECT min(click_minute) AS first, max(click_minute) AS last FROM minute_lists) m,
	adclick.explain_top_n_between(1, first + interval '7 minutes', last, '{"country": "CA"}');
SELECT cmp_ok(runs, '<=', 130, 'a question opens a run for each hour, and some for minutes')
FROM adclick.explain_top_n_between(1, '-infinity', 'infinity', '{"region": "ON"}');

SELECT cmp_ok(count(*) FILTER (WHERE way = 'lists and probes'), '>', 0::bigint, 'some are proved by lists of hours and minutes, and by looking for ads that they have not')
FROM generate_series(1, 20) n, adclick.explain_top_n_between(n, '-infinity', 'infinity');

-- A member of adclick_reader, who may read no table behind the views, is answered the same.
CREATE FUNCTION ask(question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SELECT count(*) || string_agg(x::text, E''\n'' ORDER BY x::text) FROM (%s) x', question) INTO answer;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
CREATE TABLE asked AS
WITH w AS (SELECT format('%L::timestamptz', start() + interval '7 minutes') AS f, format('%L::timestamptz', date_trunc('hour', now()) - interval '67 minutes') AS t)
SELECT replace(replace(q, 'LOW', f), 'HIGH', t) AS question, NULL AS answer
FROM w, unnest('{adclick.ad_click_counts,adclick.clicks_per_minute}'::text[]) view, unnest(ARRAY[
	format('SELECT sum(click_count) FROM %s', view),
	format('SELECT sum(click_count) FROM %s WHERE click_minute >= LOW AND click_minute < HIGH', view),
	format('SELECT click_minute, sum(click_count) FROM %s GROUP BY 1', view),
	format('SELECT click_minute, sum(click_count) FROM %s WHERE click_minute >= LOW AND click_minute < HIGH GROUP BY 1', view),
	format('SELECT date_trunc($$hour$$, click_minute), sum(click_count) FROM %s GROUP BY 1', view),
	format('SELECT date_trunc($$hour$$, click_minute), extract(minute FROM click_minute)::int %% 7, sum(click_count) FROM %s WHERE click_minute < HIGH GROUP BY 1, 2', view),
	format('SELECT sum(click_count) FROM %s WHERE extract(minute FROM click_minute) = 30', view),
	format('SELECT min(click_minute), max(click_minute), count(DISTINCT click_minute) FROM %s WHERE click_minute >= LOW', view),
	format('SELECT click_minute, ad_id, click_count FROM %s WHERE click_minute >= LOW AND click_minute < HIGH', view),
	format('SELECT DISTINCT click_minute FROM (SELECT click_minute FROM %s WHERE click_minute >= LOW ORDER BY click_minute LIMIT 50) x', view),
	format('SELECT DISTINCT click_minute FROM (SELECT click_minute FROM %s WHERE click_minute < HIGH ORDER BY click_minute DESC LIMIT 50) x', view),
	format('SELECT ad_id, sum(click_count) FROM %s WHERE click_minute >= LOW GROUP BY 1', view),
	format('SELECT click_minute, sum(click_count) FROM %s WHERE ad_id = 1 AND click_minute >= LOW GROUP BY 1', view),
	format('SELECT advertiser_id, sum(click_count) FROM %s WHERE click_minute < HIGH GROUP BY 1', view),
	format('SELECT n, sum(click_count) FROM generate_series(1, 20) n, LATERAL (SELECT click_count FROM %s WHERE click_minute < HIGH - n * interval $$13 minutes$$) x GROUP BY 1', view)]) q
UNION ALL
SELECT replace(replace(q, 'LOW', f), 'HIGH', t), NULL
FROM w, unnest(ARRAY[
	'SELECT country, device, sum(click_count) FROM adclick.clicks_per_minute WHERE click_minute >= LOW GROUP BY 1, 2',
	'SELECT click_minute, sum(click_count) FROM adclick.clicks_per_minute WHERE country = $$CA$$ AND click_minute < HIGH GROUP BY 1',
	'SELECT filter_id, sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= LOW GROUP BY 1',
	'SELECT filter_id, click_hour, cut_off FROM adclick.most_clicked_ads_hourly',
	'SELECT filter_id, click_minute, cut_off FROM adclick.most_clicked_ads',
	'SELECT adclick.ad_click_count_between(1, LOW, HIGH)']
	|| ARRAY(SELECT format(q, filter) FROM unnest(ARRAY['{}', '{"country": "CA"}', '{"region": "ON"}', '{"user_id": [1, 2, 3]}', '{"ip": "10.0.0.0/16"}']) filter,
		unnest(ARRAY['SELECT * FROM adclick.top_n_ads_between(7, LOW, HIGH, %L)', 'SELECT * FROM adclick.explain_top_n_between(7, LOW, HIGH, %L)',
			'SELECT * FROM adclick.click_series(1, LOW, HIGH, $$10 minutes$$, %L)', 'SELECT * FROM adclick.breakdown_between(1, LOW, HIGH, $$device$$, %L)',
			'SELECT adclick.ad_click_count_between(1, LOW, HIGH, %L)', 'SELECT adclick.advertiser_click_count_between(1, LOW, HIGH, %L)',
			'SELECT adclick.unique_users_between(1, LOW, HIGH, %L)']) q)) q;
UPDATE asked SET answer = ask(question);
SELECT is_empty('SELECT * FROM asked WHERE answer ~ ''^[0-9A-Z]{5} '' OR answer IS NULL', 'all is answered');
GRANT SELECT ON asked TO PUBLIC;
CREATE ROLE tap_reader IN ROLE adclick_reader;
SET ROLE tap_reader;
SELECT is(ask(question), answer, 'a reader is answered: ' || question) FROM asked;
RESET ROLE;
DROP ROLE tap_reader;

-- A filter of hours that are there.
SELECT adclick.add_filter('{"device": "mobile"}') AS mobile \gset
SELECT is((SELECT count(*) FROM adclick.most_clicked_ads_hourly WHERE filter_id = :mobile),
	(SELECT count(*) FROM adclick.most_clicked_ads_hourly WHERE filter_id = 0), 'a filter added has lists of hours');
SELECT is_exact('a filter added');

-- Late clicks: in the tail, in deltas, merged; and a filter in between.
SELECT oracle.send_past_clicks(1500, '5 hours', '3 hours') AS sent \gset
SELECT is_exact('late clicks in the tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact('late clicks in deltas');
SELECT adclick.add_filter('{"country": "US"}') AS us \gset
SELECT is_exact('a filter between');
-- It may end anywhere.
DO $$
BEGIN
	FOR i IN 1 .. 12 LOOP
		BEGIN
			PERFORM set_config('statement_timeout', i * 2 || 'ms', true);
			PERFORM oracle.compact();
			RAISE EXCEPTION 'not cancelled' USING ERRCODE = 'P0099';
		EXCEPTION WHEN query_canceled OR SQLSTATE 'P0099' THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT is_exact('compaction ended early');
SELECT hours_written > 0 AS written FROM adclick.compact() \gset
SELECT ok(:'written', 'late clicks are merged into hours');
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('late clicks merged');
SELECT cmp_ok(deltas, '<=', 1::bigint, 'nothing late is left') FROM runs;
SELECT is((SELECT hours_written FROM adclick.compact()), 0, 'and nothing to do');

-- A backfill of many hours, more than are written at a time, and some more in them.
SELECT oracle.send_past_clicks(4000, '150 hours', '9 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact('a backfill in deltas');
SELECT more FROM adclick.compact() \gset
SELECT ok(:'more', 'it takes more than a round');
SELECT is_exact('a backfill, a round later');
SELECT oracle.compact() AS compacted \gset
SELECT cmp_ok(hours, '>', 120::bigint, 'hours of a backfill') FROM runs;
SELECT is_exact('a backfill in hours');

-- Where a window has none of the facts of an hour that it cuts, that hour is not read.
SELECT h.first_minute AS hour FROM adclick_internal.runs h JOIN adclick_internal.runs next
	ON next.sort_order = 0 AND NOT next.is_delta AND next.last_minute = h.last_minute + interval '1 hour'
WHERE h.sort_order = 0 AND NOT h.is_delta AND h.first_minute < h.last_minute AND h.last_minute <> ALL (h.minutes)
	AND NOT EXISTS (SELECT FROM adclick_internal.runs d WHERE d.sort_order = 0 AND d.is_delta AND d.last_minute >= h.first_minute AND d.first_minute <= next.last_minute)
ORDER BY next.clicks DESC LIMIT 1 \gset
SELECT is(way LIKE 'lists%' AND runs = 0 AND lists = 1, true, 'an hour without facts in the window is left out: ' || e)
FROM adclick.explain_top_n_between(1, timestamptz :'hour' + interval '59 minutes', timestamptz :'hour' + interval '2 hours') e;
SELECT is_empty(format('SELECT * FROM adclick.top_n_ads_between(1, %L, %L)', timestamptz :'hour' + interval '59 minutes', timestamptz :'hour' + interval '1 hour'),
	'nor is there anything to rank');
SELECT oracle.send_past_clicks(500, '150 hours', '9 hours') AS sent \gset
SELECT oracle.send_copies(300) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact('late clicks for a backfill');
SELECT adclick.drop_filter('{"country": "CA"}') AS dropped \gset
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('all of them');

-- An hour that is damaged: what needs it is refused, everything else is answered.
SELECT first_minute AS hour, run_id FROM adclick_internal.runs
WHERE sort_order = 0 AND NOT is_delta AND first_minute < last_minute ORDER BY clicks DESC LIMIT 1 \gset
BEGIN;
UPDATE adclick_internal.segments SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id = :run_id;
SELECT throws_like(format('SELECT adclick.ad_click_count_between(1, %L, %L)', timestamptz :'hour' + interval '59 minutes', timestamptz :'hour' + interval '60 minutes'),
	'segment % is damaged', 'its last minute');
SELECT throws_like(format('SELECT * FROM adclick.top_n_ads_between(10, %L, %L, ''{"country": ["CA", "US"]}'')', timestamptz :'hour' - interval '1 minutes', timestamptz :'hour' + interval '1 minute'),
	'segment % is damaged', 'its first minute');
SELECT lives_ok(format('SELECT * FROM adclick.top_n_ads_between(10, %L, %L, ''{"country": ["CA", "US"]}'')', timestamptz :'hour' + interval '60 minutes', timestamptz :'hour' + interval '200 minutes'),
	'the hours after it');
SELECT lives_ok(format('SELECT * FROM adclick.top_n_ads_between(10, %L, %L, ''{"country": ["CA", "US"]}'')', timestamptz :'hour' - interval '200 minutes', timestamptz :'hour'),
	'the hours before');
ROLLBACK;
CREATE FUNCTION damage(change text, query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'UPDATE adclick_internal.runs SET ' || change || ' WHERE sort_order = 0 AND NOT is_delta AND first_minute < last_minute';
	EXECUTE query;
	RAISE EXCEPTION 'nothing noticed';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT alike(damage(change, 'SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1'), 'XX001 run % of "runs" is damaged', change)
FROM unnest('{"first_minute = first_minute + interval ''1 minute''","last_minute = last_minute - interval ''1 minute''",
	"last_minute = last_minute + interval ''1 hour''","first_minute = first_minute + interval ''30 minutes'', last_minute = last_minute + interval ''30 minutes''"}'::text[]) change;
SELECT alike(damage(change, 'SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1'), 'XX001 run % of "runs" is damaged', change)
FROM unnest('{"minutes = minutes[2:]","minute_clicks = minute_clicks[2:]","minute_clicks = NULL","minute_clicks[1] = minute_clicks[1] + 1","clicks = clicks + 1",
	"minutes[2] = minutes[1]","minutes[1] = NULL","minutes = NULL, minute_facts = NULL, minute_clicks = NULL"}'::text[]) change;
SELECT alike(damage('minutes[2] = minutes[1]', format('SELECT * FROM adclick.top_n_ads_between(1, %L, %L)', start() + interval '1 minute', start() + interval '40 hours')),
	'XX001 run % of "runs" is damaged', 'a minute twice, and its list');
SELECT alike(damage(change, query), 'XX001 run % of "runs" is damaged', change || ': ' || query)
FROM unnest('{"minutes = minutes[2:]","minutes = NULL, minute_facts = NULL, minute_clicks = NULL","minutes = ''{}'', minute_facts = ''{}'', minute_clicks = ''{}''"}'::text[]) change,
	unnest('{"SELECT min(click_minute) FROM adclick.ad_click_counts","SELECT max(click_minute) FROM adclick.ad_click_counts",
		"SELECT click_minute FROM adclick.ad_click_counts ORDER BY click_minute LIMIT 10"}'::text[]) query;
SELECT is_exact('in the end');
\set value 1000
\i test/lib/set.psql

SELECT * FROM finish();
