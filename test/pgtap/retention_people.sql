-- Retention of what is found by user and by address: it goes in time, up to a minute that
-- each question knows; counts by ad, the ledger and the books stay, and nothing comes back.

\set ON_ERROR_STOP on

-- Facts by user and by address that there are, and those that the clicks of the log make.
CREATE FUNCTION stored(sort_order int) RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, user_id bigint, ip inet, clicks bigint)
LANGUAGE sql STABLE AS $$
SELECT f.ad_id, f.click_minute, d.country, d.region, d.device, f.user_id, f.ip, sum(f.click_count)::bigint
FROM adclick_internal.facts(sort_order) f JOIN adclick.filters d USING (filter_id) GROUP BY 1, 2, 3, 4, 5, 6, 7
$$;
CREATE FUNCTION expected(sort_order int) RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, user_id bigint, ip inet, clicks bigint)
LANGUAGE sql STABLE AS $$
SELECT c.ad_id, c.minute, c.country, c.region, c.device, c.user_id, CASE sort_order WHEN 2 THEN c.ip END, count(*)
FROM oracle.clicks(true) c WHERE CASE sort_order WHEN 1 THEN c.user_id IS NOT NULL ELSE c.ip IS NOT NULL END GROUP BY 1, 2, 3, 4, 5, 6, 7
$$;

CREATE FUNCTION line() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(people_dropped_until, '-infinity') FROM adclick_internal.state $$;

-- Behind the line all is there; up to it nothing that was not.
CREATE FUNCTION wrong_facts() RETURNS TABLE (what text, fact text) LANGUAGE sql STABLE AS $$
SELECT d.what || ' ' || o, d.fact FROM generate_series(1, 2) o CROSS JOIN LATERAL (
	SELECT 'missing' AS what, m::text AS fact FROM (SELECT * FROM expected(o) WHERE minute > (SELECT line()) EXCEPT ALL SELECT * FROM stored(o)) m
	UNION ALL
	SELECT 'too much', m::text FROM (SELECT * FROM stored(o) WHERE minute > (SELECT line()) EXCEPT ALL SELECT * FROM expected(o)) m) d
$$;

-- Questions of all kinds, whose windows begin before, at and behind the line: those with wrong answers.
CREATE FUNCTION wrong_answers(questions int) RETURNS TABLE (question text, expected text, answer text) LANGUAGE plpgsql AS $$
DECLARE
	line CONSTANT timestamptz := line();
	refusal CONSTANT text := format('refused: Ask from %s on, or without user_id and ip.', line + interval '1 minute');
	kind record;
	c record;
	since timestamptz;
	until timestamptz;
	refused int := 0;
	answered int := 0;
BEGIN
	CREATE TEMP TABLE all_clicks ON COMMIT DROP AS SELECT row_number() OVER (ORDER BY random()) AS nr, k.* FROM oracle.clicks() k WHERE k.user_id IS NOT NULL AND k.ip IS NOT NULL;
	CREATE TEMP TABLE everything ON COMMIT DROP AS SELECT * FROM oracle.clicks();
	FOR i IN 1 .. questions LOOP
		SELECT * INTO c FROM all_clicks a WHERE a.nr = i;
		since := CASE WHEN i % 6 = 0 THEN '-infinity' WHEN i % 6 < 3 AND isfinite(line) THEN line + (i / 6 % 5 - 2) * interval '1 minute'
			WHEN i % 6 = 3 THEN c.minute ELSE c.minute - floor(random() * 300) * interval '1 minute' END;
		until := CASE WHEN i % 7 = 0 THEN 'infinity' WHEN i % 7 = 1 AND isfinite(since) THEN since WHEN isfinite(since) THEN since + floor(random() * 600) * interval '1 minute'
			ELSE c.minute + interval '1 minute' END;
		FOR kind IN SELECT * FROM (VALUES
			(true, format('adclick.ad_click_count_between(%L, %L, %L, %L)', c.ad_id, since, until, jsonb_build_object('user_id', c.user_id)),
				format('count(*) FROM everything e WHERE ad_id = %L AND user_id = %L', c.ad_id, c.user_id)),
			(true, format('adclick.ad_click_count_between(%L, %L, %L, %L)', c.ad_id, since, until, jsonb_build_object('ip', set_masklen(c.ip, 12)::text)),
				format('count(*) FROM everything e WHERE ad_id = %L AND ip <<= set_masklen(%L::inet, 12)', c.ad_id, c.ip)),
			(true, format('adclick.unique_users_between(%L, %L, %L)', c.ad_id, since, until),
				format('count(DISTINCT user_id) FROM everything e WHERE ad_id = %L', c.ad_id)),
			(true, format($q$string_agg(ad_id || ' ' || click_count, ',' ORDER BY rank) FROM adclick.top_n_ads_between(1000, %L, %L, %L)$q$, since, until, jsonb_build_object('user_id', c.user_id)),
				format($q$string_agg(ad_id || ' ' || n, ',' ORDER BY n DESC, ad_id) FROM (SELECT ad_id, count(*) AS n FROM everything e WHERE user_id = %L%%s GROUP BY 1) t$q$, c.user_id)),
			(true, format($q$string_agg(value || ' ' || click_count, ',' ORDER BY value) FROM adclick.breakdown_between(%L, %L, %L, 'device', %L)$q$, c.ad_id, since, until, jsonb_build_object('user_id', c.user_id)),
				format($q$string_agg(device || ' ' || n, ',' ORDER BY device) FROM (SELECT device, count(*) AS n FROM everything e WHERE ad_id = %L AND user_id = %L%%s GROUP BY 1) t$q$, c.ad_id, c.user_id)),
			(true, CASE WHEN isfinite(since) AND isfinite(until) AND since < until THEN format($q$nullif(sum(click_count), 0) FROM adclick.click_series(%L, %L, %L, '1 minute', %L)$q$, c.ad_id, since, until, jsonb_build_object('user_id', c.user_id)) END,
				format('nullif(count(*), 0) FROM everything e WHERE ad_id = %L AND user_id = %L', c.ad_id, c.user_id)),
			(false, format('adclick.ad_click_count_between(%L, %L, %L)', c.ad_id, since, until), format('count(*) FROM everything e WHERE ad_id = %L', c.ad_id))
			) k (of_people, asked, by_oracle) WHERE k.asked IS NOT NULL
		LOOP
			question := 'SELECT ' || kind.asked;
			IF kind.of_people AND line > '-infinity' AND since <= line AND since < until THEN
				expected := refusal;
				refused := refused + 1;
			ELSE
				EXECUTE 'SELECT ' || CASE WHEN kind.by_oracle LIKE '%\%s%' THEN format(kind.by_oracle, format(' AND minute >= %L AND minute < %L', since, until))
					ELSE kind.by_oracle || format(' AND minute >= %L AND minute < %L', since, until) END INTO expected;
				expected := coalesce(expected, 'none');
				answered := answered + 1;
			END IF;
			answer := coalesce(oracle.answer(question), 'none');
			CONTINUE WHEN answer = expected;
			RETURN NEXT;
		END LOOP;
	END LOOP;
	-- both have to be met
	question := 'refused and answered'; expected := 'both'; answer := refused || ' and ' || answered;
	IF answered = 0 OR (refused = 0) <> (NOT isfinite(line)) THEN
		RETURN NEXT;
	END IF;
	DROP TABLE all_clicks, everything;
END
$$;

CREATE FUNCTION found() RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(what || ' ' || n, ', '), 'nothing')
FROM (SELECT d.what, count(*) AS n FROM (SELECT DISTINCT date_trunc('hour', h + o * interval '1 hour', 'UTC') AS hour
		FROM adclick_internal.runs, unnest(minutes) h, generate_series(-1, 1) o WHERE sort_order IN (0, 3) AND isfinite(h) AND h BETWEEN now() - interval '50 days' AND now() + interval '3 days') hours,
	adclick_internal.find_differences(hour, true) d GROUP BY 1) f
$$;

CREATE FUNCTION is_right(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM wrong_answers(40)', step || ': questions by user and address have answers behind the line, and up to it a refusal');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(20, false, true)', step || ': all other questions, too');
	RETURN NEXT is_empty('SELECT * FROM wrong_facts()', step || ': facts by user and by address');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts(true)', step || ': facts by ad');
	RETURN NEXT is(found(), 'nothing', step || ': differences');
	RETURN NEXT is((SELECT balanced FROM adclick.check_ledger()), true, step || ': the books');
END
$$;

CREATE FUNCTION send(n int, ago interval) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT gen_random_uuid(), ad_id, date_trunc('hour', now(), 'UTC') - ago + random() * interval '4 hours', 1 + abs(user_id % 50), ip, country, region, device
FROM oracle.random_clicks(n, '4 hours') WHERE clicked_at IS NOT NULL
$$;

CREATE VIEW people AS SELECT * FROM adclick_internal.volumes WHERE shelf = 'people';

SELECT no_plan();
SELECT setseed(0.65) AS seeded \gset
\set name adclick.raw_retention
\set value 86400
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset

-- Off, as it is from the beginning.
UPDATE people SET opened_at = now() - interval '200 days';
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'off: nothing to do') FROM adclick.apply_retention() a;
SELECT send(2500, '20 days') AS sent \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT gen_random_uuid(), 5, date_trunc('hour', now(), 'UTC') - interval '20 days' + i * interval '20 minutes', 4711 + i % 2, '10.9.9.9' FROM generate_series(1, 9) i;
SELECT tick AS ticked, oracle.compact() AS compacted FROM adclick.tick() \gset
SELECT is_empty('SELECT * FROM adclick_internal.runs WHERE sort_order IN (1, 2) AND (is_delta OR volume IS DISTINCT FROM 0)', 'final runs of orders user and ip are in the first volume');
SELECT is((SELECT count(*) FROM adclick_internal.people_0), (SELECT sum(segments) FROM adclick_internal.runs WHERE sort_order IN (1, 2)), 'in its table');
SELECT is_empty('SELECT * FROM adclick_internal.segments s JOIN adclick_internal.runs r USING (run_id) WHERE sort_order NOT IN (0, 4)', 'and those of order ad are in none');
SELECT is_right('off');

-- Settings that do not go together.
\set name adclick.user_and_ip_retention
\set value 64
\i test/lib/set.psql
SELECT unnest(ARRAY[is((code, message), ('55000'::text, 'adclick.user_and_ip_retention is too short for adclick.future_tolerance'::text), 'too short: ' || detail),
	is(hint, 'Set adclick.user_and_ip_retention to 65 min or more, or lower adclick.future_tolerance.', 'with a hint')])
FROM oracle.refused('SELECT adclick.apply_retention()');
SELECT unnest(ARRAY[is(health, 'warning', 'the health warns'),
	alike(reason, 'retention of users and addresses waits: adclick.user_and_ip_retention is too short for adclick.future_tolerance%', 'and says why')]) FROM adclick.health();

-- It is shorter than late clicks are taken, and the ledger is kept for ever: both may be.
\set value 14400
\i test/lib/set.psql
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'nothing is due') FROM adclick.apply_retention() a;
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'nor again') FROM adclick.apply_retention() a;
SELECT is(array_agg(shelf || volume ORDER BY shelf, volume), '{ledger0,people0,people1}', 'a volume was opened, once') FROM adclick_internal.volumes;
SELECT send(1500, '3 hours'), send(300, '20 days') \gset
SELECT tick AS ticked, oracle.compact() AS compacted FROM adclick.tick() \gset
SELECT is(array_agg(DISTINCT volume ORDER BY volume), '{0,1}', 'runs are in both') FROM adclick_internal.runs WHERE sort_order IN (1, 2);
SELECT send(200, '1 hour') AS unread \gset
SELECT is_right('nothing dropped');

-- The clock went back.
UPDATE people SET opened_at = now() - interval '50 days' WHERE volume = 1;
BEGIN;
INSERT INTO adclick_internal.volumes VALUES ('people', 2, now() + interval '1 minute');
SELECT is((volumes_dropped, waits), (0, 'the clock is behind what it was when the last volume was opened'::text), 'a volume opened in the future') FROM adclick.apply_retention();
ROLLBACK;

-- The first volume goes: what was found by user and by address, and nothing else.
CREATE TABLE by_ad AS SELECT * FROM adclick_internal.facts(0);
CREATE VIEW by_ad_now AS SELECT * FROM adclick_internal.facts(0);
CREATE TABLE log AS TABLE adclick.click_log;
CREATE TABLE last_of_first AS SELECT max(last_minute) AS minute FROM adclick_internal.runs WHERE volume = 0 AND sort_order IN (1, 2);
INSERT INTO adclick_internal.gaps SELECT minute + n * interval '1 minute' FROM last_of_first, generate_series(0, 1) n;
INSERT INTO adclick.differences SELECT date_trunc('hour', minute, 'UTC'), 'ip', minute + n * interval '1 minute', 1, 1, 5, '10.0.0.1', 1, 2 FROM last_of_first, generate_series(0, 1) n;
CREATE TABLE runs_before AS TABLE adclick_internal.runs;
SELECT is((dropped, volumes_dropped, volumes_emptied, waits), (0::bigint, 1, 0, NULL::text), 'the first volume is dropped') FROM adclick.apply_retention();
SELECT is_empty('(SELECT * FROM runs_before WHERE sort_order IN (0, 3, 4) OR volume = 1 EXCEPT TABLE adclick_internal.runs) UNION ALL (TABLE adclick_internal.runs EXCEPT SELECT * FROM runs_before WHERE sort_order IN (0, 3, 4) OR volume = 1)', 'its runs have gone, and no others');
SELECT is(people_dropped_until, minute, 'the status says where they ended') FROM last_of_first, adclick.status;
SELECT is((clicks_dropped, dropped_until), (0::bigint, NULL::timestamptz), 'the ledger has dropped nothing') FROM adclick.status;
SELECT is(array_agg(g.minute), ARRAY[(SELECT minute + interval '1 minute' FROM last_of_first)], 'gaps up to there have gone') FROM adclick_internal.gaps g;
DELETE FROM adclick_internal.gaps;
SELECT is(array_agg(d.user_id || ' ' || d.ip ORDER BY click_minute), '{NULL,5 10.0.0.1/32}', 'differences up to there name nobody') FROM adclick.differences d;
DELETE FROM adclick.differences;
SELECT is_empty(oracle.differs('by_ad', 'by_ad_now'), 'counts by ad are as they were');
SELECT is_empty(oracle.differs('log', 'adclick.click_log'), 'so is the log');
SELECT is_right('dropped');
SELECT cmp_ok(count(*), '>', 0::bigint, 'its table is there: others may see it') FROM adclick_internal.people_0;
CREATE FUNCTION emptied() RETURNS int LANGUAGE sql AS $$ SELECT volumes_emptied FROM adclick.apply_retention() $$;
SELECT is(max(emptied()), 0, 'a query over its table calls it') FROM adclick_internal.people_0;
SELECT is((volumes_dropped, volumes_emptied), (0, 1), 'now none does') FROM adclick.apply_retention();
SELECT is(pg_relation_size('adclick_internal.people_0'), 0::bigint, 'it is empty');
SELECT is(array_agg(volume ORDER BY volume), '{1,2}', 'the volume is gone') FROM people;
SELECT is(health, 'ok', 'all is well') FROM adclick.health();
SELECT is_right('emptied');

-- What comes late for that time is counted, by ad; the same tick has others, too.
CREATE TABLE old_facts AS SELECT 1 AS sort_order, * FROM stored(1) WHERE minute <= (SELECT line()) UNION ALL SELECT 2, * FROM stored(2) WHERE minute <= (SELECT line());
CREATE VIEW old_facts_now AS SELECT 1 AS sort_order, * FROM stored(1) WHERE minute <= (SELECT line()) UNION ALL SELECT 2, * FROM stored(2) WHERE minute <= (SELECT line());
SELECT send(500, '20 days'), send(500, '5 hours'), send(400, '20 days') \gset
SELECT is_right('late clicks in the tail');
SELECT cmp_ok(counted, '>', 1000::bigint, 'a tick takes them') FROM adclick.tick();
SELECT is_empty(oracle.differs('old_facts', 'old_facts_now'), 'none of them is kept by user and address');
SELECT is_right('late clicks');
SELECT oracle.compact() AS compacted \gset
SELECT is_right('late clicks, compacted');

-- Counts made anew do not bring them back, nor let others stay for longer.
SELECT max(run_id) AS last_run, array_agg(run_id ORDER BY run_id) FILTER (WHERE volume = 1 AND first_minute < line() AND last_minute > line() + interval '1 day') AS around_line
FROM adclick_internal.runs WHERE sort_order IN (1, 2) \gset
SELECT is(cardinality(:'around_line'::bigint[]), 2, 'final runs that have the hour and later ones');
SELECT is(adclick.recompute(date_trunc('hour', line(), 'UTC'), date_trunc('hour', line(), 'UTC') + interval '1 hour'), (SELECT count(*) FROM adclick.click_log
	WHERE verdict = 'counted' AND date_trunc('hour', clicked_at, 'UTC') = date_trunc('hour', line(), 'UTC')), 'the hour that has the line is counted anew');
SELECT is_empty('SELECT * FROM old_facts_now EXCEPT SELECT * FROM old_facts', 'nothing comes back');
SELECT is(array_agg(volume), '{1,1}', 'what was written anew stays in its volume') FROM adclick_internal.runs WHERE sort_order IN (1, 2) AND run_id > :last_run AND NOT is_delta;
SELECT is_right('an hour counted anew');
SELECT adclick.recompute('-infinity', 'infinity') AS recomputed \gset
SELECT is_empty('SELECT * FROM old_facts_now', 'nothing is left of the old by user and address');
SELECT is_right('all counted anew');
SELECT oracle.compact() AS compacted \gset
SELECT is_right('all counted anew, compacted');
BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta AND first_minute < line();
DO $$ BEGIN WHILE adclick.reconcile_hour('-infinity', line() + interval '1 hour', repair => true) LOOP END LOOP; END $$;
SELECT is((SELECT bool_or(repaired) FROM adclick.reconciled_hours), true, 'hours are repaired');
SELECT is_empty('SELECT * FROM old_facts_now', 'nothing comes back');
SELECT is_right('repaired');
ROLLBACK;

-- While users and addresses are not kept, no gaps are noted of that time.
\set name adclick.user_and_ip_orders
\set value off
\i test/lib/set.psql
SELECT send(100, '20 days'), send(100, '6 hours') \gset
SELECT tick AS ticked FROM adclick.tick() \gset
SELECT is((count(*) > 10, count(*) FILTER (WHERE minute <= line())), (true, 0::bigint), 'gaps are behind the line') FROM adclick_internal.gaps;
SELECT adclick.recompute('-infinity', 'infinity') AS recomputed \gset
SELECT is((count(*) > 10, count(*) FILTER (WHERE minute <= line())), (true, 0::bigint), 'also of counts made anew') FROM adclick_internal.gaps;
\set value on
\i test/lib/set.psql
SELECT adclick.recompute('-infinity', 'infinity') AS recomputed \gset
SELECT is_empty('SELECT * FROM adclick_internal.gaps', 'they are closed again');
SELECT is_right('kept again');

-- A user is forgotten whom only the ledger knows by now; one has clicks on both sides.
CREATE FUNCTION traces(nr bigint) RETURNS TABLE (place text) LANGUAGE sql STABLE AS $$
SELECT 'log' FROM adclick.click_log WHERE user_id = nr
UNION ALL SELECT 'order user' FROM adclick_internal.facts(1) WHERE user_id = nr
UNION ALL SELECT 'order ip' FROM adclick_internal.facts(2) WHERE user_id = nr
UNION ALL SELECT 'ledger' FROM adclick_internal.ledger('-infinity', 'infinity') WHERE user_id = nr
$$;
CREATE FUNCTION is_forgotten(nr bigint, step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	named bigint := (SELECT count(*) FROM adclick.click_log WHERE user_id = nr);
BEGIN
	RETURN NEXT cmp_ok(named, '>', 0::bigint, step || ': he clicked');
	RETURN NEXT is(adclick.forget_user(nr), named, step || ': all his clicks');
	RETURN NEXT is_empty(format('SELECT * FROM traces(%s)', nr), step || ': no trace is left');
	RETURN QUERY SELECT * FROM is_right(step);
	RETURN NEXT is(adclick.forget_user(nr), 0::bigint, step || ': once more');
END
$$;
SELECT is_empty('SELECT * FROM adclick_internal.facts(1) WHERE user_id = 4711', 'nobody can find him');
SELECT is_forgotten(4711, 'known to the ledger alone');
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT gen_random_uuid(), 5, now() - i * interval '1 minute', 4712, '10.8.8.8' FROM generate_series(1, 4) i;
SELECT tick AS ticked, oracle.compact() AS compacted FROM adclick.tick() \gset
BEGIN;
DELETE FROM adclick_internal.runs WHERE run_id = (SELECT max(run_id) FROM adclick_internal.runs WHERE sort_order = 3);
SELECT is((code, message), ('XX001'::text, 'the ledger of adclick has not all clicks of the user'::text), 'the ledger lacks new clicks, and has as many old ones: ' || detail) FROM oracle.refused('SELECT adclick.forget_user(4712)');
ROLLBACK;
SELECT is_forgotten(4712, 'known to both');
SELECT is_forgotten(7, 'clicks like all others');

-- Neither order user nor the ledger knows him any more, but order ip does.
SELECT send(10, '20 days') AS sent \gset
SELECT tick AS ticked, oracle.compact() AS compacted FROM adclick.tick() \gset
SELECT is_empty('SELECT * FROM adclick_internal.runs WHERE sort_order = 3 AND is_delta', 'all of the ledger is final');
SELECT max(run_id) AS last_run FROM adclick_internal.runs \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT gen_random_uuid(), 5, date_trunc('hour', now(), 'UTC') - interval '19 days' + i * interval '5 minutes', 4713, '10.7.7.7' FROM generate_series(1, 6) i;
SELECT tick AS ticked, oracle.compact() AS compacted FROM adclick.tick() \gset
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
\set name adclick.ledger_retention
\set value 14400
\i test/lib/set.psql
SELECT is((SELECT count(*) FROM adclick_internal.facts(2) WHERE user_id = 4713), 6::bigint, 'order ip has him');
-- his clicks lie in a volume of the ledger that is due, and by user, too; by address, in the last one
DELETE FROM adclick_internal.volumes;
INSERT INTO adclick_internal.volumes VALUES ('ledger', 31, now() - interval '50 days'), ('ledger', 32, now() - interval '40 days'),
	('people', 1, now() - interval '60 days'), ('people', 2, now() - interval '50 days'), ('people', 3, now() - interval '40 days');
CREATE TABLE of_4713 AS SELECT run_id, sort_order FROM adclick_internal.runs WHERE sort_order IN (2, 3) AND last_minute < now() - interval '18 days'
	AND run_id > :last_run;
SELECT is(array_agg(sort_order ORDER BY sort_order), '{2,3}', 'he has a run of each') FROM of_4713;
UPDATE adclick_internal.runs SET volume = CASE WHEN sort_order IN (1, 2) THEN CASE WHEN run_id IN (SELECT run_id FROM of_4713) THEN 3 ELSE volume END
	WHEN run_id IN (SELECT run_id FROM of_4713) THEN 31 ELSE 32 END WHERE volume IS NOT NULL;
INSERT INTO adclick_internal.people_3 SELECT * FROM adclick_internal.people_2 WHERE run_id IN (SELECT run_id FROM of_4713);
INSERT INTO adclick_internal.ledger_31 SELECT * FROM adclick_internal.ledger_0 WHERE run_id IN (SELECT run_id FROM of_4713);
DELETE FROM adclick_internal.people_2 WHERE run_id IN (SELECT run_id FROM of_4713);
DELETE FROM adclick_internal.ledger_0 WHERE run_id IN (SELECT run_id FROM of_4713);
SELECT is((dropped, volumes_dropped), (6::bigint, 3), 'both are dropped') FROM adclick.apply_retention();
SELECT ok(line() > hour AND dropped_until > hour, 'up to him') FROM adclick.status, (SELECT date_trunc('hour', now(), 'UTC') - interval '19 days') h (hour);
SELECT is((SELECT count(*) FROM adclick_internal.facts(1) WHERE user_id = 4713), 0::bigint, 'order user does not know him');
SELECT is((SELECT count(*) FROM adclick_internal.facts(2) WHERE user_id = 4713), 6::bigint, 'order ip has him still');
-- the table of a dropped volume has to go
BEGIN;
SELECT count(*) AS read FROM adclick_internal.people_1 \gset
PREPARE TRANSACTION 'retention_people reader';
SELECT is((code, message), ('55006'::text, 'clicks of the user may be in a dropped volume that is in use'::text), 'a table is in use') FROM oracle.refused('SELECT adclick.forget_user(4713)');
ROLLBACK PREPARED 'retention_people reader';
SELECT is(adclick.forget_user(4713), 0::bigint, 'the ledger has none of his clicks');
SELECT is_empty('SELECT * FROM traces(4713)', 'no trace is left of him');
SELECT is((SELECT count(*) FROM adclick_internal.people_1), 0::bigint, 'the table is empty');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'the books');

-- All that is due goes at once, and where no table is free the last volume goes on.
ALTER SYSTEM RESET adclick.ledger_retention;
\set name adclick.user_and_ip_retention
\set value 14400
\i test/lib/set.psql
DELETE FROM people;
INSERT INTO adclick_internal.volumes SELECT 'people', v, now() - interval '200 days' + v * interval '1 day' FROM generate_series(3, 33) v;
UPDATE adclick_internal.runs SET volume = 33 WHERE sort_order IN (1, 2) AND volume IS NOT NULL;
SELECT is((dropped, volumes_dropped), (0::bigint, 30), 'thirty of them') FROM adclick.apply_retention();
SELECT is(volumes_emptied, 30, 'and their tables are emptied') FROM adclick.apply_retention();
SELECT is(array_agg(volume ORDER BY volume), '{33,34}', 'two are left') FROM people;
DELETE FROM people;
INSERT INTO adclick_internal.volumes SELECT 'people', v, now() - interval '9 days' FROM generate_series(3, 34) v;
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'no table is free') FROM adclick.apply_retention() a;
SELECT is(max(volume), 34, 'the last volume goes on') FROM people;
ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf() AS reloaded \gset
SELECT * FROM finish();
