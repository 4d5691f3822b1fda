-- Days: hours of whole days are summed up by day, late clicks come to both, and no answer is
-- another for it, wherever its window begins and ends.

\set ON_ERROR_STOP on
SET timezone = 'UTC';

-- Windows that begin and end at minutes, hours or days, asked about all clicks, a registered filter and another one.
CREATE FUNCTION wrong_windows(n int) RETURNS TABLE (question text, "from" timestamptz, "to" timestamptz, filter text, expected text, answer text)
	LANGUAGE sql STABLE SET work_mem = '64MB' SET jit = off AS $$
WITH clicks AS MATERIALIZED (SELECT ad_id, minute, country, device FROM oracle.clicks()
), bounds AS MATERIALIZED (
	SELECT min(minute) AS low, extract(epoch FROM now() - min(minute)) / 60 AS span, mode() WITHIN GROUP (ORDER BY ad_id) AS hot FROM clicks
), dice AS MATERIALIZED (
	SELECT i, random() AS a, random() AS b, ('{minute,hour,day}'::text[])[1 + floor(random() * 3)] AS u, ('{minute,hour,day}'::text[])[1 + floor(random() * 3)] AS v,
		('{NULL,CA,US}'::text[])[1 + i % 3] AS country FROM generate_series(1, n) i
), asked AS (
	SELECT i, country, CASE WHEN country IS NULL THEN '{}' ELSE jsonb_build_object('country', country) END AS filter, CASE WHEN i % 2 = 0 THEN hot ELSE i END AS ad,
		date_trunc(u, low + make_interval(mins => (span * (a - 0.05))::int)) AS "from",
		date_trunc(v, low + make_interval(mins => (span * (a + (1.1 - a) * b))::int)) + interval '1 day' AS "to"
	FROM dice, bounds
), met AS MATERIALIZED (
	SELECT a.i, a.ad, c.* FROM asked a JOIN clicks c ON c.minute >= a."from" AND c.minute < a."to" AND (a.country IS NULL OR c.country = a.country)
), answers AS (
	SELECT 'top', a.*,
		(SELECT string_agg(ad_id || ': ' || n, ', ' ORDER BY n DESC, ad_id)
			FROM (SELECT ad_id, count(*) AS n FROM met m WHERE m.i = a.i GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1 + a.i % 20) x) AS expected,
		(SELECT string_agg(ad_id || ': ' || click_count, ', ' ORDER BY rank) FROM adclick.top_n_ads_between(1 + i % 20, "from", "to", filter)) AS answer
	FROM asked a
	UNION ALL
	SELECT 'count', a.*, (SELECT count(*) FROM met m WHERE m.i = a.i AND ad_id = a.ad)::text, adclick.ad_click_count_between(ad, "from", "to", filter)::text FROM asked a
	UNION ALL
	SELECT 'breakdown', a.*, (SELECT string_agg(device || n, ', ' ORDER BY n DESC, device COLLATE "C") FROM (SELECT device, count(*) AS n FROM met m WHERE m.i = a.i AND ad_id = a.ad GROUP BY 1) x),
		(SELECT string_agg(value || click_count, ', ') FROM adclick.breakdown_between(ad, "from", "to", 'device', filter)) FROM asked a
	UNION ALL
	SELECT 'series', a.*, (SELECT string_agg(t || ' ' || n, ', ' ORDER BY t) FROM (SELECT t, (SELECT count(*) FROM met m WHERE m.i = a.i AND ad_id = a.ad AND minute >= t AND minute < t + interval '1 day') AS n
			FROM generate_series(a."from", a."to" - interval '1 minute', '1 day') t) x),
		(SELECT string_agg("time" || ' ' || click_count, ', ' ORDER BY "time") FROM adclick.click_series(ad, "from", "to", '1 day', filter)) FROM asked a
	UNION ALL
	SELECT 'sum', a.*, (SELECT count(*) FROM met m WHERE m.i = a.i)::text,
		(SELECT coalesce(sum(click_count), 0) FROM adclick.clicks_per_minute v WHERE click_minute >= "from" AND click_minute < "to" AND (a.country IS NULL OR v.country = a.country))::text FROM asked a
	UNION ALL
	SELECT 'by ' || unit, a.*, (SELECT md5(string_agg(t || ' ' || n, ', ' ORDER BY t)) FROM (SELECT date_trunc(unit, minute) AS t, count(*) AS n FROM met m WHERE m.i = a.i GROUP BY 1) x),
		(SELECT md5(string_agg(t || ' ' || n, ', ' ORDER BY t)) FROM (
			SELECT date_trunc('day', click_minute, 'UTC') AS t, sum(click_count) AS n FROM adclick.clicks_per_minute v
			WHERE unit = 'day' AND click_minute >= "from" AND click_minute < "to" AND (a.country IS NULL OR v.country = a.country) GROUP BY 1
			UNION ALL
			SELECT date_trunc('hour', click_minute, 'UTC'), sum(click_count) FROM adclick.clicks_per_minute v
			WHERE unit = 'hour' AND click_minute >= "from" AND click_minute < "to" AND (a.country IS NULL OR v.country = a.country) GROUP BY 1) x)
	FROM asked a, unnest('{hour,day}'::text[]) unit
	UNION ALL
	SELECT 'rows by ' || unit, a.*, (SELECT md5(string_agg(x::text, ', ' ORDER BY x)) FROM (SELECT ad_id, date_trunc(unit, minute) AS t, count(*) AS n FROM clicks WHERE date_trunc(unit, minute) >= "from" AND date_trunc(unit, minute) < "to"
			AND (a.country IS NULL OR clicks.country = a.country) GROUP BY 1, 2) x),
		(SELECT md5(string_agg(x::text, ', ' ORDER BY x)) FROM (
			SELECT ad_id, click_hour, sum(click_count)::bigint FROM adclick.ad_click_counts_hourly WHERE unit = 'hour' AND click_hour >= "from" AND click_hour < "to"
				AND (a.country IS NULL OR filter_id IN (SELECT filter_id FROM adclick.filters f WHERE f.country = a.country)) GROUP BY 1, 2
			UNION ALL
			SELECT ad_id, click_day, sum(click_count)::bigint FROM adclick.ad_click_counts_daily WHERE unit = 'day' AND click_day >= "from" AND click_day < "to"
				AND (a.country IS NULL OR filter_id IN (SELECT filter_id FROM adclick.filters f WHERE f.country = a.country)) GROUP BY 1, 2) x)
	FROM asked a, unnest('{hour,day}'::text[]) unit WHERE a.country IS NULL OR NOT EXISTS (SELECT FROM adclick.clicks)	-- which may have filters that are new
)
SELECT answers."?column?", "from", "to", filter::text, expected, answer FROM answers WHERE expected IS DISTINCT FROM answer
$$;

-- The bounds of days compared in each way, in the view of days and in that of hours.
CREATE FUNCTION wrong_bounds() RETURNS TABLE (unit text, op text, bound timestamptz, expected text, answer text) LANGUAGE plpgsql STABLE AS $$
BEGIN
	FOR unit, op, bound IN
		SELECT u, o, b FROM unnest('{hour,day}'::text[]) u, unnest('{<,<=,=,>=,>}'::text[]) o,
			unnest(ARRAY[date_trunc('day', now()) - interval '2 days', date_trunc('day', now()) - interval '47 hours', date_trunc('day', now()) - interval '50 hours 1 minute', '-infinity', 'infinity']) b
	LOOP
		EXECUTE format('SELECT count(*) FROM oracle.clicks() WHERE date_trunc(%L, minute) %s %L', unit, op, bound) INTO expected;
		EXECUTE format('SELECT coalesce(sum(click_count), 0) FROM adclick.ad_click_counts_%s WHERE click_%s %s %L', CASE unit WHEN 'day' THEN 'daily' ELSE 'hourly' END, unit, op, bound) INTO answer;
		IF expected <> answer THEN
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;

CREATE FUNCTION is_exact(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts(true)', step || ': facts');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_days()', step || ': days are the sums of their hours');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_lists()', step || ': lists of most clicked ads');
	RETURN NEXT is_empty('SELECT * FROM wrong_windows(5)', step || ': windows that cut days');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(4)', step || ': answers');
	RETURN NEXT is((SELECT balanced FROM adclick.check_ledger()), true, step || ': the books');
END
$$;

CREATE VIEW days AS SELECT * FROM adclick_internal.runs WHERE sort_order = 4 AND NOT is_delta;
CREATE VIEW day_deltas AS SELECT * FROM adclick_internal.runs WHERE sort_order = 4 AND is_delta;

-- Days that have hours in runs, and are over for two hours, which is when the last one is settled at the latest.
CREATE VIEW settled_days AS
SELECT DISTINCT date_trunc('day', last_minute) AS day FROM adclick_internal.runs
WHERE sort_order = 0 AND NOT is_delta AND first_minute < last_minute AND date_trunc('day', last_minute) < date_trunc('day', now() - interval '3 hours');

SELECT no_plan();
SELECT setseed(0.5) AS seeded \gset
-- Short lists: not every ad is in them.
\set name adclick.top_ads_kept
\set value 20
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset

SELECT oracle.send_past_clicks(4000, '5 days', '0') AS sent \gset
SELECT is_exact('a tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact('deltas');
SELECT is(days_written, 0, 'no day is summed up while hours are written') FROM adclick.compact();
SELECT oracle.compact() AS compacted \gset
SELECT results_eq('SELECT last_minute FROM days WHERE last_minute IN (TABLE settled_days) ORDER BY 1', 'SELECT day FROM settled_days ORDER BY 1', 'each settled day has a run');
SELECT cmp_ok(count(*), '>=', 3::bigint, 'there are some') FROM days;
SELECT is(adclick.compact(), ROW(0, 0, 0, 0, false)::record, 'there is nothing left to do');
SELECT is_exact('days');
SELECT is_empty('SELECT * FROM wrong_bounds()', 'bounds of days and hours');

-- What a long question reads: a run for each day, and hours and minutes at the ends.
SELECT cmp_ok(runs, '<=', 190, 'a scan opens a run for each day, and for hours and minutes outside of them') FROM adclick.explain_top_n_between(5, '-infinity', 'infinity', '{"region": "ON"}');
SELECT is(runs, (SELECT count(*)::int FROM settled_days), 'whole days are read from days alone')
FROM adclick.explain_top_n_between(5, (SELECT min(day) FROM settled_days), (SELECT max(day) + interval '1 day' FROM settled_days), '{"region": "ON"}');
SELECT is(lists, (SELECT count(*)::int FROM settled_days), 'and ranked from a list for each')
FROM adclick.explain_top_n_between(1, (SELECT min(day) FROM settled_days), (SELECT max(day) + interval '1 day' FROM settled_days), '{"country": "CA"}');
CREATE FUNCTION explained(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query;
END
$$;
SELECT is(substring(line FROM '\d+')::int, (SELECT count(*)::int FROM settled_days), 'a view of days reads a run of each: ' || query)
FROM unnest(ARRAY[
	'SELECT ad_id, click_day, click_count FROM adclick.ad_click_counts_daily WHERE click_day >= %1$L AND click_day < %2$L',
	'SELECT click_day, sum(click_count) FROM adclick.ad_click_counts_daily WHERE click_day BETWEEN %1$L AND timestamptz %2$L - interval ''1 day'' GROUP BY 1',
	'SELECT date_trunc(''day'', click_minute, ''UTC''), ad_id, sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= %1$L AND click_minute < %2$L GROUP BY 1, 2',
	'SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= %1$L AND click_minute < %2$L GROUP BY 1',
	'SELECT country, sum(click_count) FROM adclick.clicks_per_minute WHERE click_minute >= %1$L AND click_minute < %2$L AND ad_id < 100 GROUP BY 1']) query,
	explained(format(query, (SELECT min(day) FROM settled_days), (SELECT max(day) + interval '1 day' FROM settled_days))) line
WHERE line LIKE '%Runs Read%';
SELECT cmp_ok(substring(line FROM '\d+')::int, '>', (SELECT count(*)::int FROM settled_days), 'no day can tell: ' || query)
FROM unnest(ARRAY[
	'SELECT date_trunc(''day'', click_minute, ''Asia/Kolkata''), ad_id, sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= %1$L AND click_minute < %2$L GROUP BY 1, 2',
	'SELECT date_trunc(''day'', click_minute, ''UTC''), ad_id, sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= %1$L AND click_minute < %2$L AND extract(minute FROM click_minute) < 30 GROUP BY 1, 2',
	'SELECT ad_id, click_hour, click_count FROM adclick.ad_click_counts_hourly WHERE click_hour >= %1$L AND click_hour < %2$L']) query,
	explained(format(query, (SELECT min(day) FROM settled_days), (SELECT max(day) + interval '1 day' FROM settled_days))) line
WHERE line LIKE '%Runs Read%';
SELECT is_empty('SELECT click_minute FROM adclick.most_clicked_ads WHERE click_minute < date_trunc(''hour'', now()) - interval ''27 hours''', 'lists of minutes are of the last day');

-- A filter of days that are there.
SELECT adclick.add_filter('{"device": "mobile"}') AS mobile \gset
SELECT is((SELECT count(*) FROM adclick.most_clicked_ads_daily WHERE filter_id = :mobile), (SELECT count(*) FROM days), 'a filter added has lists of days');
SELECT is_exact('a filter added');

-- Late clicks of every age, and rounds in between: they come to hours first, with a delta for their days.
CREATE TABLE seen (deltas bigint);
CREATE FUNCTION late_rounds(n int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	more boolean;
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM oracle.send_past_clicks((10 * power(40, random()))::int, CASE WHEN i % 3 = 0 THEN interval '6 hours' ELSE interval '6 days' END, CASE WHEN i % 2 = 0 THEN interval '1 day' ELSE interval '0' END);
		PERFORM oracle.send_copies(20);
		RETURN QUERY SELECT is_exact(format('late clicks in the tail, %s', i));
		PERFORM adclick.tick();
		RETURN QUERY SELECT is_exact(format('late clicks in deltas, %s', i));
		LOOP
			more := (SELECT c.more FROM adclick.compact() c);
			INSERT INTO seen SELECT count(*) FROM day_deltas;
			EXIT WHEN NOT more;
			RETURN QUERY SELECT is_exact(format('a round later, %s', i));
		END LOOP;
		RETURN QUERY SELECT is_exact(format('merged, %s', i));
	END LOOP;
END
$$;
SELECT late_rounds(3);
SELECT cmp_ok(max(deltas), '>', 0::bigint, 'there were deltas of days') FROM seen;
SELECT is_empty('TABLE day_deltas', 'which are merged with their days');

-- As far as late clicks have come to their hours, and to deltas of days.
CREATE FUNCTION compact_to_deltas() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM day_deltas) LOOP
		IF NOT (SELECT more FROM adclick.compact()) THEN
			RAISE EXCEPTION 'no deltas of days';
		END IF;
	END LOOP;
END
$$;

-- What is rolled back leaves nothing.
SELECT oracle.send_past_clicks(300, '5 days', '1 day') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
BEGIN;
SELECT compact_to_deltas() AS compacted \gset
SELECT isnt_empty('TABLE day_deltas', 'a delta of days, to be rolled back');
SELECT is_exact('to be rolled back');
ROLLBACK;
SELECT is_exact('rolled back');

-- An hour made anew takes its day out, until compaction makes it again.
SELECT min(day) + interval '1 day' AS day FROM settled_days \gset
SELECT compact_to_deltas() AS compacted \gset
SELECT isnt_empty('TABLE day_deltas', 'there are deltas of days');
SELECT adclick.recompute(timestamptz :'day' + interval '5 hours', timestamptz :'day' + interval '7 hours') > 0 AS counted \gset
SELECT is_empty(format('SELECT FROM adclick_internal.runs WHERE sort_order = 4 AND %L = ANY (minutes)', :'day'), 'a day that is touched goes');
SELECT is_empty(format('SELECT FROM adclick.most_clicked_ads_daily WHERE click_day = %L', :'day'), 'with its lists');
SELECT is_exact('hours made anew');
SELECT oracle.compact() AS compacted \gset
SELECT isnt_empty(format('SELECT FROM days WHERE last_minute = %L', :'day'), 'and comes again');
SELECT is_exact('a day made anew');

-- What can be wrong with a day is found, and repaired.  To change the role, as each call does otherwise, has
-- everything planned again.
CREATE FUNCTION found("from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity') RETURNS text LANGUAGE plpgsql SET session_replication_role = replica AS $$
BEGIN
	WHILE adclick.reconcile_hour("from", "to") LOOP END LOOP;
	RETURN coalesce((SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM adclick.differences), 'nothing')
		|| coalesce((SELECT '; ' || count(*) || ' problem' FROM adclick.reconciled_hours WHERE problem IS NOT NULL HAVING count(*) > 0), '');
END
$$;
-- Found and repaired where it is, and right after compaction.
CREATE FUNCTION mended(damage text, "from" timestamptz, "to" timestamptz, OUT differences text, OUT repaired text) LANGUAGE plpgsql SET session_replication_role = replica AS $$
BEGIN
	EXECUTE damage;
	differences := found("from", "to");
	WHILE adclick.reconcile_hour("from", "to", true) LOOP END LOOP;
	repaired := found("from", "to");
	PERFORM oracle.compact();
	repaired := repaired || ', ' || found("from", "to");
	IF EXISTS (SELECT FROM oracle.wrong_facts(true)) OR EXISTS (SELECT FROM oracle.wrong_days()) OR EXISTS (SELECT FROM oracle.wrong_lists()) OR EXISTS (SELECT FROM oracle.wrong_answers(5))
		OR NOT (SELECT balanced FROM adclick.check_ledger()) OR (SELECT count(*) FROM days) < 3 THEN
		repaired := 'not right';
	END IF;
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	NULL;
END
$$;
SELECT is(found(), 'nothing', 'nothing is wrong');
CREATE VIEW one AS SELECT * FROM days ORDER BY clicks DESC, run_id LIMIT 1;
SELECT unnest(ARRAY[is(m.differences, d.found, 'found: ' || d.what), is(m.repaired, 'nothing, nothing', 'repaired: ' || d.what)])
FROM (VALUES
	('a day lost', 'DELETE FROM adclick_internal.runs WHERE run_id = (SELECT run_id FROM one)', 'daily list'),
	('an hour lost', 'DELETE FROM adclick_internal.runs h USING one WHERE h.sort_order = 0 AND h.last_minute = one.last_minute + interval ''11 hours 59 minutes''', 'ad, day, hourly list, minute'),
	('its sum in the directory', 'UPDATE adclick_internal.runs SET minute_clicks[1] = minute_clicks[1] + 1 WHERE run_id = (SELECT run_id FROM one)', 'day'),
	('a day without its segments', 'DELETE FROM adclick_internal.segments WHERE run_id = (SELECT run_id FROM one)', 'nothing; 1 problem'),
	('a damaged day', 'UPDATE adclick_internal.segments SET data = set_byte(data, 100, get_byte(data, 100) # 1) WHERE run_id = (SELECT run_id FROM one) AND number = 0', 'nothing; 1 problem'),
	('a list', 'UPDATE adclick.most_clicked_ads_daily SET cut_off = cut_off + 1 WHERE filter_id = 0 AND click_day = (SELECT last_minute FROM one)', 'daily list')) d (what, damage, found),
	one, mended(d.damage, one.last_minute, one.last_minute + interval '1 day') m;
SELECT oracle.send_past_clicks(300, '5 days', '1 day') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT compact_to_deltas() AS compacted \gset
SELECT unnest(ARRAY[is(m.differences, 'day', 'found: deltas of days lost'), is(m.repaired, 'nothing, nothing', 'repaired')])
FROM mended('DELETE FROM adclick_internal.runs WHERE sort_order = 4 AND is_delta', '-infinity', 'infinity') m;
BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 4 AND is_delta;
SELECT is(balanced, false, 'the books are not right without deltas of days') FROM adclick.check_ledger();
ROLLBACK;

-- A day that is damaged: what needs it is refused, the rest is answered.
BEGIN;
UPDATE adclick_internal.segments SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id = (SELECT run_id FROM one);
SELECT throws_like(format('SELECT * FROM adclick.top_n_ads_between(10, %L, %L, ''{"country": ["CA", "US"]}'')', last_minute, last_minute + interval '24 hours'), 'segment % is damaged', 'the day') FROM one;
SELECT lives_ok(format('SELECT * FROM adclick.top_n_ads_between(10, %L, %L, ''{"country": ["CA", "US"]}'')', last_minute, last_minute + interval '23 hours 59 minutes'), 'its hours') FROM one;
SELECT lives_ok(format('SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= %L GROUP BY 1', last_minute), 'and its minutes') FROM one;
ROLLBACK;
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('in the end');
\set value 1000
\i test/lib/set.psql

SELECT * FROM finish();
