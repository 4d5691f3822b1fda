-- Retention of minutes and of days: what is old goes from the counts by ad, a day at a time.
-- Questions by whole days go on to be exact, those that need what has gone are refused, and
-- nothing comes back.

\set ON_ERROR_STOP on
SET timezone = 'UTC';

-- How far minutes and days have been dropped, as this test knows it.
CREATE TABLE horizon AS SELECT '-infinity'::timestamptz AS minutes, '-infinity'::timestamptz AS days;

-- The first minute of a day, counted from today; the test may go on past midnight.
CREATE TABLE today AS SELECT date_trunc('day', now(), 'UTC') AS day;
CREATE FUNCTION day(n int) RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT day + n * interval '24 hours' FROM today $$;

-- The clicks that count: those that a tick counted, and unread ones whose minutes are there.  (Each has an id of its own.)
CREATE VIEW clicks AS
SELECT c.ad_id, date_trunc('minute', c.clicked_at, 'UTC') AS minute, oracle.dimension(c.country) AS country, oracle.dimension(c.region) AS region,
	oracle.dimension(c.device) AS device, c.user_id, a.advertiser_id
FROM adclick.click_log c LEFT JOIN adclick.ads a USING (ad_id)
WHERE c.verdict = 'counted' OR c.verdict IS NULL AND c.clicked_at > (SELECT minutes FROM horizon) + interval '59.999999 seconds';

CREATE FUNCTION send(n int, first_day int, last_day int) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT gen_random_uuid(), greatest(least(ad_id, 60), 1), day(first_day) + random() * (day(last_day + 1) - day(first_day)), 1 + abs(user_id % 50), ip, country, region, device
FROM oracle.random_clicks(n, '1 hour')
$$;

/*
 * Windows that begin and end everywhere, at days, hours and minutes, before, at and behind both
 * horizons; and for each all kinds of questions, with the buckets of series.
 */
CREATE FUNCTION wrong_answers(windows int) RETURNS TABLE (question text, expected text, answer text) LANGUAGE plpgsql AS $$
DECLARE
	h CONSTANT horizon := (SELECT x FROM horizon x);
	w record;
	kind record;
	of_days CONSTANT text := format('refused: Ask from %s on.', h.days + interval '1 minute');
	of_minutes CONSTANT text := format('refused: Ask from %s on, or by whole days (UTC).', h.minutes + interval '1 minute');
	answered int := 0;
	refused int := 0;
	met CONSTANT text := ' AND minute >= %1$L AND minute < %2$L';
BEGIN
	CREATE TEMP TABLE all_clicks ON COMMIT DROP AS TABLE clicks;
	FOR w IN
		SELECT i, ad, country, since, until, bucket,
			(isfinite(since) AND date_trunc('day', since) <> since OR until <= h.minutes AND date_trunc('day', until) <> until) AS cuts,
			bucket IN ('1 minute', '1 hour', '7 hours') AS is_fine
		FROM (SELECT i, ad, country, since, CASE WHEN until < since THEN since + floor(random() * 4) * interval '12 hours' ELSE until END AS until, bucket
			FROM (SELECT i, (SELECT ad_id FROM all_clicks OFFSET floor(random() * (SELECT count(*) FROM all_clicks)) * (i + 1) / (i + 1) LIMIT 1) AS ad,
				('{CA,US,NULL}'::text[])[1 + i % 3] AS country,
				CASE WHEN i % 9 = 0 THEN '-infinity'
					WHEN i % 9 < 3 AND isfinite(h.minutes) THEN h.minutes + ('{-1 day,0,1 minute,1 day 1 minute}'::interval[])[1 + i / 9 % 4]
					WHEN i % 9 = 3 AND isfinite(h.days) THEN h.days + ('{0,1 minute,1 day 1 minute}'::interval[])[1 + i / 9 % 3]
					ELSE date_trunc(('{day,day,hour,minute}'::text[])[1 + i / 9 % 4], day(-85) + random() * interval '85 days') END AS since,
				CASE WHEN i % 7 = 0 THEN 'infinity'
					WHEN i % 7 = 1 AND isfinite(h.minutes) THEN h.minutes + ('{0,1 minute,1 day}'::interval[])[1 + i / 7 % 3]
					ELSE date_trunc(('{day,hour,day,minute}'::text[])[1 + i / 7 % 4], day(-85) + random() * interval '90 days') END AS until,
				('{1 minute,1 hour,1 day,7 hours,3 days,1 month}'::interval[])[1 + i % 6] AS bucket
			FROM generate_series(1, windows) i) r) d
	LOOP
		FOR kind IN SELECT * FROM (VALUES
			(false, format('adclick.ad_click_count_between(%L, %L, %L)', w.ad, w.since, w.until), format('count(*) FROM all_clicks WHERE ad_id = %L', w.ad) || met),
			(false, format('adclick.ad_click_count_between(%L, %L, %L, %L)', w.ad, w.since, w.until, jsonb_strip_nulls(jsonb_build_object('country', w.country))),
				format('count(*) FROM all_clicks WHERE ad_id = %L AND country = coalesce(%L, country)', w.ad, w.country) || met),
			(false, format('adclick.advertiser_click_count_between(%L, %L, %L)', w.ad % 40, w.since, w.until), format('count(*) FROM all_clicks WHERE advertiser_id = %L', w.ad % 40) || met),
			(false, format($q$string_agg(ad_id || ' ' || click_count, ',' ORDER BY rank) FROM adclick.top_n_ads_between(5, %L, %L, %L)$q$, w.since, w.until, jsonb_strip_nulls(jsonb_build_object('country', w.country))),
				format($q$string_agg(ad_id || ' ' || n, ',' ORDER BY n DESC, ad_id) FROM (SELECT ad_id, count(*) AS n FROM all_clicks WHERE country = coalesce(%L, country)%s GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5) t$q$, w.country, met)),
			(false, format($q$count(*) FROM adclick.explain_top_n_between(5, %L, %L)$q$, w.since, w.until), '1'),
			(false, format($q$string_agg(ad_id || ' ' || click_count, ',' ORDER BY rank) FROM adclick.top_n_ads_between(9, %L, %L, '{"advertiser_id": [3, 7]}')$q$, w.since, w.until),
				$q$string_agg(ad_id || ' ' || n, ',' ORDER BY n DESC, ad_id) FROM (SELECT ad_id, count(*) AS n FROM all_clicks WHERE advertiser_id IN (3, 7)$q$ || met || $q$ GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 9) t$q$),
			(false, format($q$string_agg(value || ' ' || click_count, ',' ORDER BY value COLLATE "C") FROM adclick.breakdown_between(%L, %L, %L, 'device')$q$, w.ad, w.since, w.until),
				format($q$string_agg(device || ' ' || n, ',' ORDER BY device COLLATE "C") FROM (SELECT device, count(*) AS n FROM all_clicks WHERE ad_id = %L%s GROUP BY 1) t$q$, w.ad, met)),
			(w.is_fine, CASE WHEN isfinite(w.since) AND isfinite(w.until) AND w.since < w.until THEN
				format($q$string_agg("time" || ' ' || click_count, ',' ORDER BY "time") FROM adclick.click_series(%L, %L, %L, %L) WHERE click_count > 0$q$, w.ad, w.since, w.until, w.bucket) END,
				format($q$string_agg(t || ' ' || n, ',' ORDER BY t) FROM (SELECT CASE WHEN %3$L = interval '1 month' THEN %1$L::timestamptz + (SELECT max(m) FROM generate_series(0, 12) m WHERE %1$L::timestamptz + m * interval '1 month' <= minute) * interval '1 month'
					ELSE date_bin(%3$L, minute, %1$L) END AS t, count(*) AS n FROM all_clicks WHERE ad_id = %4$L AND minute >= %1$L AND minute < %2$L GROUP BY 1) x$q$, w.since, w.until, w.bucket, w.ad)),
			(NULL, format('adclick.unique_users_between(%L, %L, %L)', w.ad, w.since, w.until), format('count(DISTINCT user_id) FROM all_clicks WHERE ad_id = %L', w.ad) || met),
			(NULL, format('adclick.ad_click_count_between(%L, %L, %L, %L)', w.ad, w.since, w.until, '{"user_id": [1, 2, 3]}'), format('count(*) FROM all_clicks WHERE ad_id = %L AND user_id IN (1, 2, 3)', w.ad) || met)
			) k (by_minute, asked, by_oracle) WHERE k.asked IS NOT NULL
		LOOP
			question := 'SELECT ' || kind.asked;
			EXECUTE 'SELECT ' || CASE WHEN kind.by_oracle LIKE '%\%1$L%' THEN format(kind.by_oracle, w.since, w.until) ELSE kind.by_oracle END INTO expected;
			expected := coalesce(expected, 'none');
			IF kind.by_minute IS NOT NULL AND w.since < w.until AND isfinite(h.minutes) AND w.since <= h.minutes THEN
				expected := CASE WHEN isfinite(h.days) AND w.since <= h.days THEN of_days WHEN kind.by_minute OR w.cuts THEN of_minutes ELSE expected END;
			END IF;
			answered := answered + (expected NOT LIKE 'refused%')::int;
			refused := refused + (expected LIKE 'refused%')::int;
			answer := coalesce(oracle.answer(question), 'none');
			CONTINUE WHEN answer = expected;
			RETURN NEXT;
		END LOOP;
	END LOOP;
	question := 'refused and answered'; expected := 'both'; answer := refused || ' and ' || answered;
	IF answered = 0 OR (refused = 0) <> (NOT isfinite(h.minutes)) THEN
		RETURN NEXT;
	END IF;
	DROP TABLE all_clicks;
END
$$;

-- Views: by minute and by hour all of the minutes that are there, by day all of the days, however it is asked.
CREATE FUNCTION wrong_views() RETURNS TABLE (question text, expected text, answer text) LANGUAGE plpgsql AS $$
DECLARE
	h CONSTANT horizon := (SELECT x FROM horizon x);
	has_tail CONSTANT boolean := EXISTS (SELECT FROM adclick.clicks);
	v record;
	k record;
BEGIN
	CREATE TEMP TABLE all_clicks ON COMMIT DROP AS TABLE clicks;
	FOR v IN SELECT * FROM (VALUES
		('adclick.ad_click_counts', 'click_minute', 'minute', h.minutes), ('adclick.clicks_per_minute', 'click_minute', 'minute', h.minutes),
		('adclick.ad_click_counts_hourly', 'click_hour', 'hour', h.minutes), ('adclick.ad_click_counts_daily', 'click_day', 'day', h.days)) v (view, time, unit, until)
	LOOP
		FOR k IN SELECT * FROM (VALUES
			('sum(click_count)::text', 'count(*)::text', 'true', 'true'),
			('sum(click_count)::text', 'nullif(count(*), 0)::text', 'ad_id = 3', 'ad_id = 3'),
			('sum(click_count)::text', 'nullif(count(*), 0)::text', 'advertiser_id IN (3, 7)', 'advertiser_id IN (3, 7)'),
			('sum(click_count)::text', 'nullif(count(*), 0)::text', format('%1$s >= %2$L AND %1$s < %3$L', v.time, day(-75), day(-45)), format('t >= %L AND t < %L', day(-75), day(-45))),
			('sum(click_count)::text', 'nullif(count(*), 0)::text', format('%s > %L', v.time, day(-79)), format('t > %L', day(-79))),
			('sum(click_count)::text', 'nullif(count(*), 0)::text', format('%s <= %L', v.time, h.minutes), format('t <= %L', h.minutes)),
			('sum(click_count)::text', 'nullif(count(*), 0)::text', format('%s + interval ''0'' > %L', v.time, day(-79)), format('t > %L', day(-79))),
			-- what is not left to the scan: it gives rows, or its sums are looked at
			('sum(click_count)::text', 'count(*)::text', 'ad_id % 1 = 0', 'true'),
			('sum(click_count)::text', 'nullif(count(*), 0)::text', format('ad_id %% 1 = 0 AND %1$s >= %2$L AND %1$s < %3$L', v.time, day(-75), day(-15)), format('t >= %L AND t < %L', day(-75), day(-15))),
			('sum(click_count)::text', 'count(*)::text', 'click_count + random() > 0', 'true'),
			('sum(click_count) FILTER (WHERE ad_id > 5)::text', 'count(*) FILTER (WHERE ad_id > 5)::text', 'true', 'true'),
			(format('min(%s)::text', v.time), 'min(t)::text', 'true', 'true'),
			(format('max(%s)::text', v.time), 'max(t)::text', 'true', 'true'),
			(format('count(DISTINCT %s)::text', v.time), 'count(DISTINCT t)::text', 'true', 'true'),
			(format('md5(string_agg(%s::text, '','' ORDER BY %1$s, ad_id, click_count))', '(' || v.time || ', ad_id, click_count)'), NULL, 'true', 'true')
			) k (asked, by_oracle, clause, by_oracle_clause)
		LOOP
			IF k.by_oracle IS NOT NULL THEN
				question := format('SELECT %s FROM %s WHERE %s', k.asked, v.view, k.clause);
				EXECUTE format('SELECT %s FROM (SELECT *, date_trunc(%L, minute, ''UTC'') AS t FROM all_clicks) c WHERE t > %L AND %s', k.by_oracle, v.unit, v.until, k.by_oracle_clause) INTO expected;
			ELSE
				-- rows as they are, the first ones of an order
				CONTINUE WHEN has_tail;
				question := format($q$SELECT md5(string_agg(r::text, ',' ORDER BY r)) FROM (SELECT %s, ad_id, sum(click_count)::bigint AS n FROM (SELECT * FROM %s ORDER BY %1$s, ad_id OFFSET 0) s GROUP BY 1, 2) r$q$, v.time, v.view);
				EXECUTE format($q$SELECT md5(string_agg(r::text, ',' ORDER BY r)) FROM (SELECT date_trunc(%L, minute, 'UTC') AS t, ad_id, count(*) AS n FROM all_clicks WHERE minute > %L GROUP BY 1, 2) r$q$, v.unit, v.until) INTO expected;
			END IF;
			EXECUTE question INTO answer;
			IF answer IS DISTINCT FROM expected THEN
				RETURN NEXT;
			END IF;
		END LOOP;
		-- the first and the last rows in order of time
		question := format('SELECT string_agg(%s::text, '','') FROM (SELECT %1$s FROM %s ORDER BY %1$s LIMIT 1) a', v.time, v.view);
		EXECUTE format('SELECT date_trunc(%L, min(minute), ''UTC'')::text FROM all_clicks WHERE minute > %L', v.unit, v.until) INTO expected;
		EXECUTE question INTO answer;
		IF answer IS DISTINCT FROM expected THEN
			RETURN NEXT;
		END IF;
	END LOOP;
	DROP TABLE all_clicks;
END
$$;

-- What is stored: nothing up to the horizons, and behind them all; days as the clicks are, in each filter.
CREATE FUNCTION wrong_store() RETURNS TABLE (what text, found text) LANGUAGE sql AS $$
WITH h AS (SELECT * FROM horizon), c AS MATERIALIZED (
	SELECT c.ad_id, date_trunc('minute', c.clicked_at, 'UTC') AS minute, oracle.dimension(c.country) AS country, oracle.dimension(c.region) AS region, oracle.dimension(c.device) AS device
	FROM adclick.click_log c WHERE c.verdict = 'counted'
), days AS MATERIALIZED (
	SELECT f.ad_id, f.click_minute, d.country, d.region, d.device, sum(f.click_count)::bigint FROM adclick_internal.facts(4) f JOIN adclick.filters d USING (filter_id), h WHERE f.click_minute <= h.minutes GROUP BY 1, 2, 3, 4, 5
), expected AS MATERIALIZED (
	SELECT ad_id, date_trunc('day', minute, 'UTC'), country, region, device, count(*) FROM c, h WHERE minute > h.days AND minute <= h.minutes GROUP BY 1, 2, 3, 4, 5
), minutes AS MATERIALIZED (
	SELECT f.ad_id, f.click_minute, d.country, d.region, d.device, sum(f.click_count)::bigint FROM adclick_internal.facts(0) f JOIN adclick.filters d USING (filter_id) GROUP BY 1, 2, 3, 4, 5
), expected_minutes AS MATERIALIZED (
	SELECT ad_id, minute, country, region, device, count(*) FROM c, h WHERE minute > h.minutes GROUP BY 1, 2, 3, 4, 5
)
SELECT 'day', x::text FROM ((TABLE days EXCEPT ALL TABLE expected) UNION ALL (TABLE expected EXCEPT ALL TABLE days)) x
UNION ALL SELECT 'minute', x::text FROM ((TABLE minutes EXCEPT ALL TABLE expected_minutes) UNION ALL (TABLE expected_minutes EXCEPT ALL TABLE minutes)) x
UNION ALL SELECT 'run', run_id::text FROM adclick_internal.runs, h WHERE sort_order = 0 AND first_minute <= h.minutes OR sort_order = 4 AND first_minute <= h.days
UNION ALL SELECT 'segment', run_id::text FROM (SELECT run_id FROM adclick_internal.segments UNION SELECT run_id FROM adclick_internal.deltas) s WHERE run_id NOT IN (SELECT run_id FROM adclick_internal.runs)
UNION ALL SELECT 'list', click_minute::text FROM adclick.most_clicked_ads, h WHERE click_minute <= h.minutes
UNION ALL SELECT 'hourly list', click_hour::text FROM adclick.most_clicked_ads_hourly, h WHERE click_hour <= h.minutes
UNION ALL SELECT 'daily list', click_day::text FROM adclick.most_clicked_ads_daily, h WHERE click_day <= h.days
UNION ALL SELECT 'missing', m FROM adclick_internal.find_missing() m
UNION ALL SELECT 'state', s::text FROM adclick_internal.state s, h WHERE (coalesce(minutes_dropped_until, '-infinity'), coalesce(days_dropped_until, '-infinity')) <> (h.minutes, h.days)
	OR minutes_dropped <> (SELECT count(*) FROM c WHERE minute <= h.minutes) OR days_dropped <> (SELECT count(*) FROM c WHERE minute <= h.days)
UNION ALL SELECT 'status', s::text FROM adclick.status s, h WHERE (coalesce(minutes_dropped_until, '-infinity'), coalesce(days_dropped_until, '-infinity')) <> (h.minutes, h.days)
UNION ALL SELECT 'books', b::text FROM adclick.check_ledger() b WHERE NOT balanced
UNION ALL SELECT 'differences', d::text FROM h, generate_series(greatest(h.minutes + interval '1 minute', day(-85)), day(0), '24 hours') day, unnest(ARRAY[day + interval '7 hours', day + interval '23 hours']) hour,
	adclick_internal.find_differences(hour, hour = day + interval '23 hours') d WHERE EXISTS (SELECT FROM c WHERE minute >= day AND minute < day + interval '24 hours')
$$;

CREATE FUNCTION is_right(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM wrong_answers(36)', step || ': questions are answered exactly, or refused');
	RETURN NEXT is_empty('SELECT * FROM wrong_views()', step || ': views have what is kept');
	RETURN NEXT is_empty('SELECT * FROM wrong_store()', step || ': what is stored');
END
$$;

CREATE FUNCTION waits(pattern text, name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	result record;
BEGIN
	SELECT * FROM adclick.apply_retention() INTO result;
	RETURN NEXT is((result.minutes_dropped, result.days_dropped), (0, 0), name || ': none is dropped');
	RETURN NEXT alike(coalesce(result.waits, 'it does not wait'), pattern, name || ': why');
END
$$;

CREATE FUNCTION applied() RETURNS text LANGUAGE sql AS $$
SELECT format('%s minutes, %s days, %s', minutes_dropped, days_dropped, coalesce(waits, 'none waits')) FROM adclick.apply_retention()
$$;

SELECT no_plan();
SELECT setseed(0.73) AS seeded \gset
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
\set name adclick.top_ads_kept
\set value 6
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset

-- Days in some groups, far from each other, so that what is due does not depend on the hour.  Before it is compacted
-- a click of now is taken, as minutes are closed by the time of clicks.
SELECT send(900, -80, -79), send(500, -70, -70), send(900, -60, -59), send(400, -50, -50), send(900, -20, -19), send(500, -1, -1) \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT gen_random_uuid(), 3, at, 5 FROM unnest(ARRAY[day(-80), day(-79) - interval '1 second']) at;
SELECT tick AS ticked FROM adclick.tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id) VALUES (gen_random_uuid(), 1);
SELECT tick AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT cmp_ok(count(*), '>=', 8::bigint, 'days have runs') FROM adclick_internal.runs WHERE sort_order = 4;
SELECT is(applied(), '0 minutes, 0 days, none waits', 'off: nothing to do');
SELECT is_right('off');

-- Settings that do not go together.  (The raw retention of the state is that of the last tick.)
\set name adclick.minute_retention
\set value 131044
\i test/lib/set.psql
SELECT unnest(ARRAY[is((code, message), ('55000'::text, 'adclick.minute_retention is too short for adclick.raw_retention'::text), 'minutes: ' || detail),
	is(hint, 'Set adclick.minute_retention to 131045 min or more, or lower adclick.raw_retention.', 'with a hint')]) FROM oracle.refused('SELECT adclick.apply_retention()');
SELECT unnest(ARRAY[is(health, 'warning', 'the health warns'),
	alike(reason, 'retention of minutes waits: adclick.minute_retention is too short for adclick.raw_retention%', 'and says why')]) FROM adclick.health();
\set name adclick.raw_retention
\set value 43200
\i test/lib/set.psql
SELECT is(code, '55000', 'the rules of the last tick hold, too') FROM oracle.refused('SELECT adclick.apply_retention()');
SELECT tick AS ticked FROM adclick.tick() \gset
\set name adclick.minute_retention
\set value 44645
\i test/lib/set.psql
\set name adclick.day_retention
\set value 44644
\i test/lib/set.psql
SELECT unnest(ARRAY[is((code, message), ('55000'::text, 'adclick.day_retention is too short for adclick.minute_retention'::text), 'days: ' || detail),
	is(hint, 'Set adclick.day_retention to 44645 min or more, or lower adclick.minute_retention.', 'with a hint')]) FROM oracle.refused('SELECT adclick.apply_retention()');
SELECT alike(reason, 'retention of days waits: adclick.day_retention is too short for adclick.minute_retention%', 'the health says so') FROM adclick.health();
\set name adclick.minute_retention
\set value 0
\i test/lib/set.psql
SELECT unnest(ARRAY[is(message, 'adclick.day_retention is too short for adclick.minute_retention', 'days, but minutes for ever: ' || detail),
	is(hint, 'Set adclick.minute_retention to 44644 min or less.', 'with a hint')]) FROM oracle.refused('SELECT adclick.apply_retention()');
\set name adclick.day_retention
\set value 0
\i test/lib/set.psql
SELECT is(count(*), 0::bigint, 'nothing was dropped') FROM adclick_internal.state WHERE minutes_dropped_until IS NOT NULL;

-- 75 days: the first group is due.  What it waits for.
\set name adclick.minute_retention
\set value 108000
\i test/lib/set.psql
BEGIN;
UPDATE adclick_internal.state SET ticked_at = now() + interval '1 minute';
SELECT waits('the clock is behind what it was at the last tick', 'the clock went back');
ROLLBACK;
BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 4 AND last_minute = day(-80);
SELECT waits('the day from % on has not been summed up', 'a day without a run');
ROLLBACK;
BEGIN;
UPDATE adclick_internal.runs SET minute_clicks = ARRAY[minute_clicks[1] + 1] WHERE sort_order = 4 AND last_minute = day(-80);
SELECT waits('the sums of the day from % on are not those of its hours, see adclick.reconcile()', 'other sums');
SELECT alike(reason, 'retention of minutes waits: the sums of the day from %', 'the health says so') FROM adclick.health();
ROLLBACK;
BEGIN;
SELECT adclick.reconcile_hour(day(-80), day(-79)) \gset
SELECT waits('the hour from % on has not been reconciled since it got its last clicks, or differs', 'hours are reconciled');
ROLLBACK;
-- whichever of its hours it is, and though the days would be due as well
\set name adclick.day_retention
\set value 108000
\i test/lib/set.psql
BEGIN;
DO $$ BEGIN WHILE adclick.reconcile_hour(day(-80), day(-78)) LOOP END LOOP; END $$;
SAVEPOINT agreed;
SELECT is(array_agg(DISTINCT hour - date_trunc('day', hour)) @> '{0,23:00}', true, 'clicks in the first and the last hour') FROM adclick.reconciled_hours;
UPDATE adclick.reconciled_hours SET differences = 1 WHERE hour = day(-80);
SELECT waits('the hour from ' || day(-80) || ' on has not been reconciled %', 'the first hour differs');
ROLLBACK TO agreed;
UPDATE adclick.reconciled_hours SET differences = 1 WHERE hour = day(-79) - interval '1 hour';
SELECT waits('the hour from ' || day(-79) - interval '1 hour' || ' on has not been reconciled %', 'the last hour differs');
ROLLBACK TO agreed;
SELECT is(applied(), '2 minutes, 2 days, none waits', 'all agree');
ROLLBACK;
\set value 0
\i test/lib/set.psql

-- A delta of the whole time waits as well: it has a click of the day before the first.
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
\set name adclick.minute_retention
\set value 0
\i test/lib/set.psql
SELECT tick AS ticked FROM adclick.tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT gen_random_uuid(), 3, day(n) + interval '7 hours', 5 FROM unnest('{-81,-80,-70,-60,-2}'::int[]) n;
SELECT counted AS ticked FROM adclick.tick() \gset
\set name adclick.raw_retention
\set value 43200
\i test/lib/set.psql
SELECT tick AS ticked FROM adclick.tick() \gset
\set name adclick.minute_retention
\set value 108000
\i test/lib/set.psql
SELECT waits('late clicks of the day from % on, or of earlier ones, have not been packed', 'a delta');
SELECT is_right('late clicks in a delta');
INSERT INTO adclick.clicks (click_id, ad_id) VALUES (gen_random_uuid(), 1);
SELECT tick AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset

-- Rolled back, as a whole or to a savepoint, nothing is dropped.
BEGIN;
SELECT is(applied(), '3 minutes, 0 days, none waits', 'the first group is dropped');
SELECT throws_like(format('SELECT adclick.ad_click_count_between(3, %L, %L)', day(-80) + interval '1 hour', day(-70)), 'clicks of this window are not all kept by minute and by hour', 'in the transaction as well');
ROLLBACK;
SELECT is_right('rolled back');
BEGIN;
SAVEPOINT before;
SELECT is(applied(), '3 minutes, 0 days, none waits', 'again');
ROLLBACK TO before;
SELECT is_right('rolled back to a savepoint');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM adclick.clicks \gset
SAVEPOINT before;
-- lists of minutes that no compaction has deleted
INSERT INTO adclick.most_clicked_ads SELECT day(n) + interval '7 minutes', l.filter_id, l.most_clicked_ads, l.cut_off
FROM unnest('{-80,-79}'::int[]) n, (SELECT * FROM adclick.most_clicked_ads_hourly ORDER BY click_hour LIMIT 1) l;
SELECT is(applied(), '3 minutes, 0 days, none waits', 'and for good');
RELEASE before;
COMMIT;
UPDATE horizon SET minutes = day(-78) - interval '1 minute';
SELECT is_right('minutes dropped');
SELECT is(applied(), '0 minutes, 0 days, none waits', 'nothing else is due');
SELECT is(health, 'ok', 'all is well') FROM adclick.health();

-- Whole days and what is newer have answers, the rest the error that says why.
SELECT is((code, message, detail, hint), ('55000'::text, 'clicks of this window are not all kept by minute and by hour'::text,
	format('Minutes and hours up to %s have been dropped, as adclick.minute_retention says.', day(-78) - interval '1 minute'), format('Ask from %s on, or by whole days (UTC).', day(-78))), 'the error')
FROM oracle.refused(format('SELECT * FROM adclick.top_n_ads_between(3, %L, %L)', day(-80) + interval '1 minute', day(0)));
SELECT is((code, hint), ('55000'::text, format('Ask from %s on, or by whole days (UTC).', day(-78))), 'by HTTP, too')
FROM oracle.refused(format('SELECT adclick_api.clicks_per_minute(%L, %L)', day(-80), day(0)));
SELECT is((SELECT sum((m->>'adClickCount')::int) FROM json_array_elements(adclick_api.clicks_per_minute(day(-78), day(0))->'clicksPerMinute') m), (SELECT count(*)::bigint FROM clicks WHERE minute >= day(-78) AND minute < day(0)), 'where minutes are there');

-- Clicks of that time are too old from now on, whatever the settings are.
\set name adclick.minute_retention
\set value 0
\i test/lib/set.psql
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
SELECT tick AS ticked FROM adclick.tick() \gset
SELECT count(*) AS n FROM clicks \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT gen_random_uuid(), 3, t, 5 FROM unnest(ARRAY[day(-82), day(-80), day(-78) - interval '1 microsecond', day(-78), day(-70) + interval '3 hours']) t;
SELECT is(count(*) - :n, 2::bigint, 'two of them count') FROM clicks;
SELECT is_right('in the tail');
SELECT is((counted, discarded), (2::bigint, 3::bigint), 'a tick agrees') FROM adclick.tick();
SELECT is(too_old, 3::bigint, 'they are too old') FROM adclick.status;
SELECT is_right('in deltas');

-- Late clicks for days whose minutes are there; a user forgotten; counts made anew.
SELECT send(30, -70, -70), send(30, -60, -50), send(20, -20, -1) \gset
SELECT counted AS ticked FROM adclick.tick() \gset
SELECT is_right('late clicks');
INSERT INTO adclick.clicks (click_id, ad_id) VALUES (gen_random_uuid(), 1);
SELECT tick AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT is_right('late clicks, packed');
SELECT is((code, message, hint), ('55000'::text, 'adclick no longer has the minutes of these hours'::text, format('Hours from %s on can be counted anew.', day(-78))), 'hours without minutes are not counted anew')
FROM oracle.refused(format('SELECT adclick.recompute(%L, %L)', day(-79), day(-78)));
SELECT is(code, '55000', 'nor everything') FROM oracle.refused('SELECT adclick.recompute(''-infinity'', ''infinity'')');
SELECT is(adclick.recompute(day(-78), 'infinity'), (SELECT count(*) FROM clicks WHERE minute >= day(-78)), 'all others are');
SELECT is_right('counted anew');
INSERT INTO adclick.clicks (click_id, ad_id) VALUES (gen_random_uuid(), 1);
SELECT tick AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT is_right('and packed');
SELECT cmp_ok(adclick.forget_user(7), '>', 0::bigint, 'a user is forgotten');
SELECT is_right('forgotten');

-- Reconciliation passes over what has gone.  To change the role, as it does for each hour otherwise, has everything planned again.
SET session_replication_role = replica;
CALL adclick.reconcile('-infinity', 'infinity');
RESET session_replication_role;
SELECT is(hours[1], (SELECT min(date_trunc('hour', minute, 'UTC')) FROM clicks WHERE minute >= day(-78)), 'it begins with the first hour that is there')
FROM (SELECT ARRAY(SELECT u FROM unnest(hours) u WHERE EXISTS (SELECT FROM clicks WHERE minute >= u AND minute < u + interval '1 hour') ORDER BY u) AS hours FROM adclick.reconciliations) r;
SELECT is_empty('SELECT * FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL', 'no differences');
SELECT is_empty('SELECT * FROM adclick.reconciled_hours, horizon WHERE hour <= minutes', 'and no hours without minutes');

-- The next groups go, with hours that agree.  A new click has to be reconciled first.
\set name adclick.raw_retention
\set value 43200
\i test/lib/set.psql
SELECT tick AS ticked FROM adclick.tick() \gset
\set name adclick.minute_retention
\set value 93600
\i test/lib/set.psql
SELECT is(applied(), '2 minutes, 0 days, none waits', '65 days: the second group, and a day of the first that got a click');
UPDATE horizon SET minutes = day(-69) - interval '1 minute';
SELECT is_right('the second group');
SELECT is(adclick.reconcile_hour('-infinity', 'infinity', only_changed => true), false, 'hours that have gone are not to be reconciled again');
SELECT is(hours, '{}', 'none is') FROM adclick.reconciliations ORDER BY reconciliation_id DESC LIMIT 1;
SELECT is(health, 'ok', 'all is well') FROM adclick.health();

-- Days: only those whose minutes have gone.
\set name adclick.day_retention
\set value 108000
\i test/lib/set.psql
SELECT is(applied(), '0 minutes, 4 days, none waits', '75 days: the days of the first group');
UPDATE horizon SET days = day(-77) - interval '1 minute';
SELECT is_right('days dropped');
SELECT is((code, message, detail, hint), ('55000'::text, 'clicks of this window are not all kept'::text,
	format('Days up to %s have been dropped, as adclick.day_retention says.', day(-77) - interval '1 minute'), format('Ask from %s on.', day(-77))), 'the error')
FROM oracle.refused(format('SELECT adclick.ad_click_count_between(3, %L, %L)', day(-79), day(0)));
SELECT is(code, '55000', 'by HTTP') FROM oracle.refused(format('SELECT adclick_api.ad_click_count(3, %L, %L)', day(-79), day(0)));

-- An advertiser has his part of all of it.
CREATE ROLE minutes_advertiser;
GRANT adclick_advertiser TO minutes_advertiser;
INSERT INTO adclick.advertiser_roles VALUES ('minutes_advertiser', 3);
CREATE TABLE his AS SELECT (SELECT count(*) FROM clicks, horizon WHERE advertiser_id = 3 AND minute > days) AS daily, (SELECT count(*) FROM clicks, horizon WHERE advertiser_id = 3 AND minute > minutes) AS by_minute;
GRANT SELECT ON his TO minutes_advertiser;
SET ROLE minutes_advertiser;
CREATE TEMP TABLE found AS SELECT (SELECT sum(click_count) FROM adclick.ad_click_counts_daily) AS daily, (SELECT sum(click_count) FROM adclick.ad_click_counts) AS by_minute,
	(SELECT count(*) FROM adclick.ad_click_counts_daily WHERE random() + click_count > 0) > 0 AS rows;
RESET ROLE;
SELECT is((f.daily, f.by_minute, f.rows), (h.daily::numeric, h.by_minute::numeric, true), 'an advertiser''s views') FROM found f, his h;
DELETE FROM adclick.advertiser_roles;
DROP TABLE his, found;
DROP ROLE minutes_advertiser;

-- All but the newest: what is left is a run and lists for each day.
\set name adclick.minute_retention
\set value 64800
\i test/lib/set.psql
\set name adclick.day_retention
\set value 79200
\i test/lib/set.psql
SET session_replication_role = replica;
CALL adclick.reconcile('-infinity', 'infinity', only_changed => true);
RESET session_replication_role;
SELECT count(DISTINCT date_trunc('day', minute)) FILTER (WHERE minute > minutes AND minute < day(-45)) AS n, count(DISTINCT date_trunc('day', minute)) FILTER (WHERE minute > days AND minute < day(-55)) AS d,
	max(date_trunc('day', minute)) FILTER (WHERE minute < day(-45)) + interval '23:59' AS to_minute, max(date_trunc('day', minute)) FILTER (WHERE minute < day(-55)) + interval '23:59' AS to_day FROM clicks, horizon \gset
SELECT is(applied(), format('%s minutes, %s days, none waits', :n, :d), '45 and 55 days');
UPDATE horizon SET minutes = :'to_minute', days = :'to_day';
SELECT is_right('45 and 55 days');
SELECT is(count(*), (SELECT count(DISTINCT date_trunc('day', minute)) FROM clicks, horizon WHERE minute > days AND minute <= minutes), 'a run for each day, and nothing else')
FROM adclick_internal.runs r, horizon h WHERE r.sort_order IN (0, 4) AND r.last_minute <= h.minutes;

-- More are due than go at a time; late ones arrive for all days that may get some.
\set name adclick.minute_retention
\set value 0
\i test/lib/set.psql
\set name adclick.day_retention
\set value 0
\i test/lib/set.psql
\set name adclick.raw_retention
\set value 129600
\i test/lib/set.psql
SELECT tick AS ticked FROM adclick.tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT gen_random_uuid(), n % 7, day(-5 - n) + n * interval '17 minutes', n FROM generate_series(1, 38) n;
SELECT is(counted, 38::bigint, 'a click of each of many days') FROM adclick.tick();
INSERT INTO adclick.clicks (click_id, ad_id) VALUES (gen_random_uuid(), 1);
SELECT tick AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT tick AS ticked FROM adclick.tick() \gset
SET session_replication_role = replica;
CALL adclick.reconcile('-infinity', 'infinity', only_changed => true);
RESET session_replication_role;
\set name adclick.minute_retention
\set value 4320
\i test/lib/set.psql
SELECT is(applied(), '32 minutes, 0 days, more days are due than are dropped at a time', 'no more than 32 days go at a time');
SELECT is((SELECT min(first_minute) FROM adclick_internal.runs WHERE sort_order = 0) > (SELECT minutes_dropped_until FROM adclick.status), true, 'the first ones');
SELECT is(waits, NULL, 'the others follow') FROM adclick.apply_retention();
UPDATE horizon SET minutes = (SELECT max(date_trunc('day', minute)) + interval '23:59' FROM clicks WHERE minute < day(-3));
SELECT is_right('all old ones');

SELECT * FROM finish();
