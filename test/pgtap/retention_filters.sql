-- Combinations of country, region and device end when no stored click has them any more, whatever
-- retention drops and in whatever order; those in use stay, all answers are exact, and there is
-- room for new ones.

\set ON_ERROR_STOP on
SET timezone = 'UTC';
SET client_min_messages = error;

-- The first minute of a day, counted from today; the test may go on past midnight.
CREATE TABLE today AS SELECT date_trunc('day', now(), 'UTC') AS day;
CREATE FUNCTION day(n int) RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT day + n * interval '24 hours' FROM today $$;

-- The clicks that count, as this test knows them: whatever has been dropped since.
CREATE TABLE truth (click_id uuid PRIMARY KEY, ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet, country text, region text, device text, minute timestamptz);

-- And the combinations there should be, of what ticks have taken; in the other one, with what waits.
CREATE TABLE known (country text, region text, device text, last_day date, PRIMARY KEY (country, region, device));
CREATE TABLE waiting (LIKE known);

CREATE VIEW lines AS
SELECT coalesce(minutes_dropped_until, '-infinity') AS minutes, coalesce(days_dropped_until, '-infinity') AS days, coalesce(people_dropped_until, '-infinity') AS people, coalesce(dropped_until, '-infinity') AS ledger
FROM adclick_internal.state;

-- Clicks that may be of a day that was dropped: then they do not count, and bring no combination.
CREATE FUNCTION put(clicks truth[]) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM unnest(clicks);
INSERT INTO waiting SELECT country, region, device, (clicked_at AT TIME ZONE 'UTC')::date FROM unnest(clicks), lines
WHERE date_trunc('minute', clicked_at) > minutes AND date_bin('10 minutes', clicked_at, '2000-01-01') > ledger;
INSERT INTO truth SELECT c.* FROM unnest(clicks) c, lines
WHERE c.minute > minutes AND date_bin('10 minutes', c.clicked_at, '2000-01-01') > ledger ON CONFLICT DO NOTHING;
$$;

-- A few combinations that all days have, and garbage, some of which comes again.
CREATE FUNCTION send(n int, garbage int, first_day int, last_day int) RETURNS void LANGUAGE sql AS $$
SELECT put(array_agg(ROW(gen_random_uuid(), a, at, u, '10.0.0.0'::inet + u % 7, CASE WHEN g THEN 'G' || floor(power(random(), 2) * 300) ELSE 'C' || a % 3 END,
	CASE WHEN g THEN 'x' ELSE 'R' || u % 2 END, 'D' || u % 2, date_trunc('minute', at, 'UTC'))::truth))
FROM (SELECT 1 + floor(random() * 9)::bigint AS a, 1 + floor(random() * 30)::bigint AS u, random() * 100 < garbage AS g,
	date_trunc('second', day(first_day) + power(random(), 1.5) * (day(last_day + 1) - day(first_day))) AS at FROM generate_series(1, n)) r
$$;

-- Copies of clicks that are known, or once were.
CREATE FUNCTION send_copies(n int) RETURNS void LANGUAGE sql AS $$
SELECT put(array_agg(t)) FROM (SELECT t FROM truth t ORDER BY random() LIMIT n) t
$$;

CREATE FUNCTION tick() RETURNS bigint LANGUAGE sql AS $$
INSERT INTO known SELECT country, region, device, max(last_day) FROM waiting GROUP BY 1, 2, 3
ON CONFLICT (country, region, device) DO UPDATE SET last_day = greatest(known.last_day, excluded.last_day);
DELETE FROM waiting;
SELECT rows_read FROM adclick.tick()
$$;

-- A newer click, so that what is older is closed.
CREATE FUNCTION close_day(n int) RETURNS bigint LANGUAGE sql AS $$
SELECT put(ARRAY[ROW(gen_random_uuid(), 1, day(n + 1) - interval '1 second', 1, '10.0.0.1', 'C1', 'R1', 'D1', day(n + 1) - interval '1 minute')::truth]);
SELECT tick()
$$;

-- Counts made anew, of all hours whose clicks are there; and what came back.
CREATE FUNCTION recompute() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	hour timestamptz;
BEGIN
	PERFORM adclick.recompute(CASE WHEN isfinite(greatest(minutes, ledger)) THEN date_trunc('hour', greatest(minutes, ledger)) + interval '1 hour' ELSE '-infinity' END, 'infinity') FROM lines;
	FOR hour IN SELECT DISTINCT h.hour FROM adclick.restored_hours h, lines WHERE h.hour > minutes AND adclick_internal.is_restored(h.hour) LOOP
		PERFORM adclick.recompute(hour, hour + interval '1 hour');
	END LOOP;
END
$$;

CREATE FUNCTION forget() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	who bigint := 1 + floor(random() * 30);
BEGIN
	PERFORM adclick.forget_user(who);
	UPDATE truth SET user_id = NULL, ip = NULL WHERE user_id = who;
END
$$;

CREATE FUNCTION age_volumes() RETURNS void LANGUAGE sql AS $$
UPDATE adclick_internal.volumes SET opened_at = opened_at - interval '200 days' WHERE dropped_at IS NULL
$$;

-- Hours of what was dropped, with the combinations of their clicks.
CREATE FUNCTION restore() RETURNS void LANGUAGE sql AS $$
SELECT sum(adclick.restore_clicks(hour, hour + interval '30 hours')) FROM (SELECT DISTINCT date_trunc('hour', minute) AS hour FROM truth, lines WHERE minute <= ledger) h WHERE random() < 0.1;
INSERT INTO known SELECT country, region, device, max((clicked_at AT TIME ZONE 'UTC')::date) FROM truth WHERE date_trunc('hour', minute) IN (SELECT hour FROM adclick.restored_hours) GROUP BY 1, 2, 3
ON CONFLICT (country, region, device) DO UPDATE SET last_day = greatest(known.last_day, excluded.last_day);
$$;

-- Retention by hand; what is known ends when it is before all that is stored.
CREATE FUNCTION applied() RETURNS text LANGUAGE sql AS $$
SELECT format('%s minutes, %s days, %s volumes, %s', minutes_dropped, days_dropped, volumes_dropped, coalesce(waits, 'none waits')) FROM adclick.apply_retention();
DELETE FROM known WHERE last_day < (SELECT (coalesce(min(first_minute), 'infinity') AT TIME ZONE 'UTC')::date FROM adclick_internal.runs);
SELECT ''
$$;

-- Facts that should not be, or are not: in each order by the texts of their combinations, all of which there are.
CREATE FUNCTION wrong_store() RETURNS TABLE (what text, found text) LANGUAGE sql AS $$
WITH l AS MATERIALIZED (SELECT * FROM lines), facts AS MATERIALIZED (
	SELECT o AS sort_order, f.ad_id, f.click_minute, f.filter_id, f.user_id, f.ip, d.country, d.region, d.device, f.click_count
	FROM unnest('{0,1,2,4}'::int[]) o, adclick_internal.facts(o) f LEFT JOIN adclick.filters d USING (filter_id)
), minutes AS (
	SELECT ad_id, click_minute, country, region, device, sum(click_count)::bigint FROM facts WHERE sort_order = 0 GROUP BY 1, 2, 3, 4, 5
), expected_minutes AS (
	SELECT ad_id, minute, country, region, device, count(*) FROM truth, l WHERE minute > minutes GROUP BY 1, 2, 3, 4, 5
), days AS (
	SELECT ad_id, click_minute, country, region, device, sum(click_count)::bigint FROM facts, l WHERE sort_order = 4 AND click_minute <= minutes GROUP BY 1, 2, 3, 4, 5
), expected_days AS (
	SELECT ad_id, date_trunc('day', minute), country, region, device, count(*) FROM truth, l WHERE minute > days AND minute <= minutes GROUP BY 1, 2, 3, 4, 5
), users AS (
	SELECT ad_id, click_minute, user_id, country, region, device, sum(click_count)::bigint FROM facts, l WHERE sort_order = 1 AND click_minute > people GROUP BY 1, 2, 3, 4, 5, 6
), addresses AS (
	SELECT ad_id, click_minute, user_id, country, region, device, sum(click_count)::bigint FROM facts, l WHERE sort_order = 2 AND click_minute > people GROUP BY 1, 2, 3, 4, 5, 6
), expected_users AS (
	SELECT ad_id, minute, user_id, country, region, device, count(*) FROM truth, l WHERE user_id IS NOT NULL AND minute > people GROUP BY 1, 2, 3, 4, 5, 6
), log AS (
	SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM adclick.click_log WHERE verdict = 'counted' AND clicked_at >= day(-80)
), clicks AS (
	SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM truth WHERE clicked_at >= day(-80)
), combinations AS (
	SELECT country, region, device, last_day FROM adclick.filters WHERE country IS NOT NULL AND region IS NOT NULL AND device IS NOT NULL
)
SELECT 'no combination ' || sort_order, f::text FROM facts f WHERE country IS NULL
UNION ALL SELECT 'no combination in the ledger', c::text FROM adclick_internal.ledger('-infinity', 'infinity') c WHERE filter_id NOT IN (SELECT filter_id FROM adclick.filters)
UNION ALL SELECT 'minute', x::text FROM ((TABLE minutes EXCEPT ALL TABLE expected_minutes) UNION ALL (TABLE expected_minutes EXCEPT ALL TABLE minutes)) x
UNION ALL SELECT 'day', x::text FROM ((TABLE days EXCEPT ALL TABLE expected_days) UNION ALL (TABLE expected_days EXCEPT ALL TABLE days)) x
UNION ALL SELECT 'user', x::text FROM ((TABLE users EXCEPT ALL TABLE expected_users) UNION ALL (TABLE expected_users EXCEPT ALL TABLE users)) x
UNION ALL SELECT 'address', x::text FROM ((TABLE addresses EXCEPT ALL TABLE expected_users) UNION ALL (TABLE expected_users EXCEPT ALL TABLE addresses)) x
UNION ALL SELECT 'in the log', x::text FROM (TABLE log EXCEPT ALL TABLE clicks) x
UNION ALL SELECT 'not in the log', x::text FROM (SELECT c.* FROM clicks c, l WHERE date_bin('10 minutes', clicked_at, '2000-01-01') > ledger EXCEPT ALL TABLE log) x
UNION ALL SELECT 'combination', x::text FROM (TABLE combinations EXCEPT ALL TABLE known) x
UNION ALL SELECT 'ended', x::text FROM (TABLE known EXCEPT ALL TABLE combinations) x
UNION ALL SELECT 'registered', f::text FROM adclick.filters f WHERE (country IS NULL OR region IS NULL OR device IS NULL) AND last_day IS NOT NULL
UNION ALL SELECT 'status', s::text FROM adclick.status s WHERE s.combinations <> (SELECT count(*) FROM known) OR clicks_counted <> (SELECT count(*) FROM truth)
UNION ALL SELECT 'sums of days', d::text FROM oracle.wrong_days() d, l WHERE d.day > minutes
UNION ALL SELECT 'books', b::text FROM adclick.check_ledger() b WHERE NOT balanced
UNION ALL SELECT 'missing', m FROM adclick_internal.find_missing() m
$$;

-- What is behind the lines, asked for in all ways that look at combinations.
CREATE FUNCTION wrong_answers() RETURNS TABLE (what text, found text) LANGUAGE sql AS $$
WITH l AS MATERIALIZED (
	SELECT minutes, days, people, CASE WHEN isfinite(minutes) THEN minutes + interval '1 minute' ELSE '-infinity' END AS since,
		CASE WHEN isfinite(days) THEN days + interval '1 minute' ELSE '-infinity' END AS since_day FROM lines
), by_minute AS (
	SELECT ad_id, click_minute, country, region, device, sum(click_count)::bigint FROM adclick.clicks_per_minute GROUP BY 1, 2, 3, 4, 5
), expected_by_minute AS (
	SELECT ad_id, minute, country, region, device, count(*) FROM truth, l WHERE minute > minutes GROUP BY 1, 2, 3, 4, 5
), by_day AS (
	SELECT ad_id, date_trunc('day', click_minute), country, region, device, sum(click_count)::bigint FROM adclick_internal.day_rows GROUP BY 1, 2, 3, 4, 5
), expected_by_day AS (
	SELECT ad_id, date_trunc('day', minute), country, region, device, count(*) FROM truth, l WHERE minute > days GROUP BY 1, 2, 3, 4, 5
), countries AS MATERIALIZED (
	SELECT DISTINCT country FROM truth WHERE country !~ '[2-9]$' UNION ALL SELECT 'nowhere'
)
SELECT 'by minute', x::text FROM ((TABLE by_minute EXCEPT ALL TABLE expected_by_minute) UNION ALL (TABLE expected_by_minute EXCEPT ALL TABLE by_minute)) x
UNION ALL SELECT 'by day', x::text FROM ((TABLE by_day EXCEPT ALL TABLE expected_by_day) UNION ALL (TABLE expected_by_day EXCEPT ALL TABLE by_day)) x
UNION ALL SELECT 'top ' || country, answer || ' and not ' || expected FROM l, countries c,
	LATERAL (SELECT coalesce(string_agg(ad_id || ' ' || click_count, ',' ORDER BY rank), '') AS answer FROM adclick.top_n_ads_between(4, since_day, 'infinity', jsonb_build_object('country', c.country))) a,
	LATERAL (SELECT coalesce(string_agg(ad_id || ' ' || n, ',' ORDER BY n DESC, ad_id), '') AS expected FROM
		(SELECT ad_id, count(*) AS n FROM truth t WHERE t.country = c.country AND minute > days GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 4) t) e WHERE answer <> expected
UNION ALL SELECT 'count ' || country, answer || ' and not ' || expected FROM l, countries c,
	LATERAL (SELECT adclick.ad_click_count_between(3, since, 'infinity', jsonb_build_object('country', c.country)) AS answer) a,
	LATERAL (SELECT count(*) AS expected FROM truth t WHERE t.country = c.country AND ad_id = 3 AND minute > minutes) e WHERE answer <> expected
UNION ALL SELECT 'breakdown ' || ad, answer || ' and not ' || expected FROM l, generate_series(1, 9) ad,
	LATERAL (SELECT string_agg(value || ' ' || click_count, ',' ORDER BY value COLLATE "C") AS answer FROM adclick.breakdown_between(ad, since_day, 'infinity', 'country')) a,
	LATERAL (SELECT string_agg(country || ' ' || n, ',' ORDER BY country COLLATE "C") AS expected FROM (SELECT country, count(*) AS n FROM truth WHERE ad_id = ad AND minute > days GROUP BY 1) t) e
	WHERE answer IS DISTINCT FROM expected
UNION ALL SELECT 'users of ' || ad, answer || ' and not ' || expected FROM l, generate_series(1, 9) ad,
	LATERAL (SELECT oracle.answer(format('SELECT adclick.ad_click_count_between(%s, %L, ''infinity'', ''{"user_id": [1, 2, 3, 4, 5], "country": ["C1", "G1", "G2", "G3"]}'')', ad, greatest(people + interval '1 minute', since))) AS answer) a,
	LATERAL (SELECT count(*) AS expected FROM truth WHERE ad_id = ad AND user_id < 6 AND country IN ('C1', 'G1', 'G2', 'G3') AND minute > greatest(people, minutes)) e
	WHERE answer IS DISTINCT FROM expected::text AND answer NOT LIKE 'refused%'
$$;

CREATE FUNCTION is_right(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM wrong_answers()', step || ': answers');
	RETURN NEXT is_empty('SELECT * FROM wrong_store()', step || ': what is stored');
END
$$;

CREATE FUNCTION sh(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (SELECT 1 WHERE false) TO PROGRAM %L', command);
END
$$;

SELECT no_plan();
SELECT setseed(0.74) AS seeded \gset
SELECT '/tmp/adclick_filters_' || gen_random_uuid() AS directory \gset
SELECT sh(format('mkdir -m 700 %s', :'directory')) \gset
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
SELECT adclick.add_filter('{"country": "C1"}') > 0 AS registered, adclick.add_filter('{"device": "D1"}') > 0 AS another \gset

-- A day of garbage takes all the room.
\set name adclick.max_filters
\set value 40
\i test/lib/set.psql
SELECT tick(), send(60, 0, -80, -79), tick() \gset
SELECT send(300, 100, -81, -81) \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country) SELECT gen_random_uuid(), 7, day(-81) + i * interval '1 minute', 'new ' || i FROM generate_series(1, 50) i;
SELECT tick() \gset
SELECT is(combinations, 41::bigint, 'it is full, but for "other"') FROM adclick.status;
SELECT alike(reason, '%adclick.max_filters is nearly reached: 41 of 40 combinations%', 'the health warns') FROM adclick.health();
-- what came last is counted as another one
UPDATE truth SET country = 'other', region = 'other', device = 'other' WHERE (country, region, device) NOT IN (SELECT country, region, device FROM adclick.filters WHERE country IS NOT NULL AND region IS NOT NULL AND device IS NOT NULL);
INSERT INTO truth SELECT click_id, ad_id, clicked_at, user_id, ip, 'other', 'other', 'other', date_trunc('minute', clicked_at) FROM adclick.click_log WHERE ad_id = 7 AND country LIKE 'new%';
DELETE FROM known;
INSERT INTO known SELECT country, region, device, max((clicked_at AT TIME ZONE 'UTC')::date) FROM truth GROUP BY 1, 2, 3;
SELECT is_empty('SELECT * FROM wrong_answers()', 'full');
SELECT is_empty('SELECT * FROM wrong_store()', 'what is stored');
SELECT close_day(-78), oracle.compact() \gset
SELECT applied() \gset
SELECT is_empty('SELECT * FROM wrong_store()', 'without retention nothing ends');

CREATE VIEW log_now AS SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM adclick.click_log WHERE verdict = 'counted' AND clicked_at < day(-80);
CREATE TABLE log_before AS TABLE log_now;

-- The volumes of that time are closed and archived; a later click has one of its combinations.
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
\set name adclick.user_and_ip_retention
\set value 14400
\i test/lib/set.psql
\set name adclick.ledger_retention
\i test/lib/set.psql
\set name adclick.archive_directory
\set value :directory
\i test/lib/set.psql
SELECT tick(), age_volumes(), applied() \gset
CALL adclick.archive_clicks();
\set name adclick.ledger_retention
\set value 0
\i test/lib/set.psql
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
SELECT tick(), country AS kept FROM (SELECT country FROM truth WHERE country LIKE 'G%' ORDER BY random() LIMIT 1) t \gset
SELECT put(array_agg(ROW(gen_random_uuid(), 3, day(-70), 5, '10.0.0.5', country, region, device, day(-70))::truth)) AS put FROM (SELECT DISTINCT country, region, device FROM truth WHERE country = :'kept' LIMIT 1) t \gset
SELECT tick(), close_day(-69), oracle.compact() \gset
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT tick(), filter_id AS id_before FROM adclick.filters WHERE country = :'kept' AND last_day = day(-70)::date \gset

-- Minutes go, days, what is found by user and the ledger, one after the other: with the last, combinations.
\set name adclick.minute_retention
\set value 108000
\i test/lib/set.psql
SELECT applied() \gset
SELECT is((m.combinations, minutes_dropped_until), (41::bigint, day(-77) - interval '1 minute'), 'without minutes they are used by days') FROM adclick.status m;
\set name adclick.day_retention
\i test/lib/set.psql
SELECT applied() \gset
SELECT is((d.combinations, days_dropped_until), (41::bigint, day(-77) - interval '1 minute'), 'and by what is found by user, and the ledger') FROM adclick.status d;
SELECT is_empty('SELECT * FROM wrong_store()', 'all stay');
SELECT age_volumes(), applied() \gset
SELECT is((p.combinations, people_dropped_until), (41::bigint, day(-77) - interval '1 minute'), 'by the ledger alone') FROM adclick.status p;
\set name adclick.ledger_retention
\set value 14400
\i test/lib/set.psql
BEGIN;
SELECT applied() \gset
SELECT is(combinations, 2::bigint, 'then they end') FROM adclick.status;
ROLLBACK;
SELECT is(combinations, 41::bigint, 'not if that is rolled back') FROM adclick.status;
BEGIN;
SAVEPOINT before;
SELECT applied() \gset
ROLLBACK TO before;
SELECT is_empty('SELECT * FROM wrong_store()', 'or to a savepoint');
SELECT applied() \gset
SELECT is_right('in the transaction');
COMMIT;
SELECT is_right('they end');
SELECT is((l.combinations, dropped_until), (2::bigint, day(-77) - interval '1 minute'), 'with the last that named them') FROM adclick.status l;
SELECT is(health, 'ok', 'the health is content') FROM adclick.health();
SELECT is(filter_id, :id_before, 'one that came again later stays, under its id') FROM adclick.filters WHERE country = :'kept';

-- New ones are told apart, as many as there is room for, and what comes again gets an id of its own.
\set name adclick.ledger_retention
\set value 0
\i test/lib/set.psql
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
SELECT tick(), send(200, 100, -60, -59) \gset
SELECT max(filter_id) AS last_id FROM adclick.filters \gset
\set name adclick.max_filters
SELECT combinations + (SELECT count(*) FROM (SELECT country, region, device FROM waiting EXCEPT SELECT country, region, device FROM known) w) AS value FROM adclick.status \gset
\i test/lib/set.psql
SELECT is_empty('SELECT * FROM wrong_answers()', 'new ones, in the tail');
SELECT tick() \gset
SELECT is_right('new ones');
SELECT is(min(filter_id) > :last_id, true, 'no id is used again') FROM adclick.filters WHERE last_day >= day(-60)::date AND country <> :'kept';

-- What comes back from files needs room for its combinations.
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT tick() \gset
SELECT is((code, message, hint), ('54000'::text, 'these clicks have combinations of country, region and device that have ended, and there is no room for them'::text, 'Raise adclick.max_filters.'::text), 'no room: ' || detail)
FROM oracle.refused($$SELECT adclick.restore_clicks(day(-81), day(-80))$$);
SELECT is_right('nothing came back');
\set name adclick.max_filters
\set value 10000
\i test/lib/set.psql
SELECT is(adclick.restore_clicks(day(-81), day(-80)), (SELECT count(*) FROM truth WHERE minute < day(-80)), 'with room it does');
INSERT INTO known SELECT country, region, device, max((clicked_at AT TIME ZONE 'UTC')::date) FROM truth WHERE minute < day(-80) GROUP BY 1, 2, 3 ON CONFLICT DO NOTHING;
SELECT is_empty('SELECT * FROM wrong_store()', 'brought back');
SELECT is_empty(oracle.differs('log_before', 'log_now'), 'as it was, with texts that count as other');
SELECT applied() \gset
SELECT is_empty('SELECT * FROM wrong_store()', 'what came back is used');
SELECT adclick.release_clicks() \gset
SELECT applied() \gset
SELECT is_right('released');

-- A later day of one that is there, in a tick that is rolled back, is written by the next one.
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
SELECT tick(), put(array_agg(ROW(gen_random_uuid(), 1, day(n), 5, '10.0.0.5', 'C1', 'R1', 'D1', day(n))::truth)) FROM unnest('{-58,-57,-58}'::int[]) n \gset
BEGIN;
SAVEPOINT before;
SELECT counted FROM adclick.tick() \gset
SELECT is(last_day, day(-57)::date, 'a later day') FROM adclick.filters WHERE (country, region, device) = ('C1', 'R1', 'D1');
ROLLBACK TO before;
SELECT counted FROM adclick.tick() \gset
SELECT is(last_day, day(-57)::date, 'rolled back to a savepoint, and again') FROM adclick.filters WHERE (country, region, device) = ('C1', 'R1', 'D1');
ROLLBACK;
BEGIN;
SELECT counted FROM adclick.tick() \gset
ROLLBACK;
SELECT is(last_day < day(-58)::date, true, 'rolled back') FROM adclick.filters WHERE (country, region, device) = ('C1', 'R1', 'D1');
SELECT tick() \gset
SELECT is(last_day, day(-57)::date, 'and again') FROM adclick.filters WHERE (country, region, device) = ('C1', 'R1', 'D1');
SELECT is_right('a later day');
\set value 60
\i test/lib/set.psql
SELECT tick() \gset

-- A table that somebody changed: a combination without a day stays.
BEGIN;
INSERT INTO adclick.filters (country, region, device, last_day) VALUES ('old', 'x', 'x', '2000-01-01'), ('NULL', 'x', 'x', NULL), ('future', 'x', 'x', 'infinity');
SELECT adclick.apply_retention() \gset
SELECT is(array_agg(country ORDER BY country), '{"NULL",future}', 'one that has no day stays') FROM adclick.filters WHERE region = 'x' AND country !~ '^G';
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country, region, device) SELECT gen_random_uuid(), 1, now() - interval '30 minutes', c, 'x', 'x' FROM unnest('{old,"NULL",future}'::text[]) c;
SELECT counted FROM adclick.tick() \gset
SELECT is(array_agg(country || ' ' || coalesce(last_day::text, 'none') ORDER BY country), ARRAY['NULL none', 'future infinity', 'old ' || (now() - interval '30 minutes')::date], 'and remains as it is') FROM adclick.filters WHERE region = 'x' AND country !~ '^G';
ROLLBACK;

-- At random, in time that goes on.
\set rounds 6
\i test/lib/filters_round.psql

SELECT sh('rm -r ' || :'directory') \gset
ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf() AS reloaded \gset
SELECT * FROM finish();
