-- Ads with a dedup_by of their own: random clicks, few users and ads, while overrides and
-- settings change between ticks in every direction, against plain SQL that judges one click after
-- the other in the order in which ticks take them; and questions about the tail.

\set ON_ERROR_STOP on

-- What was sent, in order; each has an address of its own, by which it is known in the log.
CREATE TABLE sent (nr bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint);

CREATE FUNCTION address(nr bigint) RETURNS inet LANGUAGE sql IMMUTABLE AS $$ SELECT '10.0.0.0'::inet + nr $$;

-- The setting that ticks have taken over.
CREATE TABLE in_force (dedup_by text, dedup_window numeric, user_limit numeric DEFAULT 0);

-- Of each click the verdict, and the keys that were counted; "tail": as the next tick would say.
CREATE TABLE verdicts (nr bigint PRIMARY KEY, verdict text, tail boolean);
CREATE TABLE counted (dedup_by text, dedup_window numeric, key text, bucket numeric, tail boolean);
CREATE INDEX ON counted (key);

CREATE FUNCTION key_of(by text, click sent) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE by WHEN 'click_id' THEN click.click_id::text ELSE click.user_id || '/' || click.ad_id END $$;

CREATE FUNCTION bucket_of(by text, width numeric, click sent) RETURNS numeric LANGUAGE sql STABLE AS $$
SELECT oracle.bucket(CASE WHEN by = 'click_id' AND inside BETWEEN epoch - 86400 AND epoch + 86400 THEN inside ELSE epoch END, width)
FROM (SELECT extract(epoch FROM click.clicked_at) AS epoch, oracle.id_time(click.click_id) AS inside) t
$$;

/*
 * A click is a copy of one that was counted before if it has its key by the rule it was counted by; else it is in
 * excess if as many of its user are counted in its minute as may be.
 */
CREATE FUNCTION judge() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	click sent;
	own text;
	width numeric := (SELECT dedup_window FROM in_force);
	most numeric := (SELECT user_limit FROM in_force);
	is_copy boolean;
	is_over boolean;
BEGIN
	DELETE FROM verdicts WHERE tail;
	DELETE FROM counted WHERE tail;
	FOR click IN SELECT * FROM sent WHERE nr NOT IN (SELECT nr FROM verdicts) ORDER BY nr LOOP
		own := coalesce((SELECT a.dedup_by FROM adclick.ads a WHERE a.ad_id = click.ad_id), (SELECT dedup_by FROM in_force));
		is_copy := EXISTS (SELECT FROM counted c WHERE c.key IN (click.click_id::text, click.user_id || '/' || click.ad_id)
			AND c.key = key_of(c.dedup_by, click) AND c.bucket = bucket_of(c.dedup_by, c.dedup_window, click));
		is_over := most > 0 AND (SELECT count(*) FROM sent s JOIN verdicts v USING (nr) WHERE v.verdict = 'counted' AND s.user_id = click.user_id
			AND date_trunc('minute', s.clicked_at) = date_trunc('minute', click.clicked_at)) >= most;
		INSERT INTO verdicts VALUES (click.nr, CASE WHEN is_copy THEN 'duplicate' WHEN is_over THEN 'user limit' ELSE 'counted' END, true);
		IF NOT is_copy AND NOT is_over AND key_of(own, click) IS NOT NULL THEN
			INSERT INTO counted VALUES (own, width, key_of(own, click), bucket_of(own, width, click), true);
		END IF;
	END LOOP;
END
$$;

/*
 * Clicks of few users on twelve ads: of the last twenty minutes and, some, of hours ago; a quarter repeats
 * the id of a click before, most as it was, some at another time, by another user or on another ad.
 */
CREATE FUNCTION send(n int) RETURNS void LANGUAGE sql AS $$
WITH dice AS MATERIALIZED (
	SELECT i, random() AS kind, random() AS a, random() AS b, random() AS c,
		date_trunc('milliseconds', clock_timestamp()) - random() * interval '20 minutes' - CASE WHEN random() < 0.1 THEN random() * interval '6 hours' ELSE '0' END AS at
	FROM generate_series(1, n) i
), old AS MATERIALIZED (
	SELECT row_number() OVER () AS place, count(*) OVER () AS all, s.* FROM sent s WHERE click_id IS NOT NULL AND nr > (SELECT coalesce(max(nr), 0) - CASE WHEN random() < 0.5 THEN 600 ELSE 60 END FROM sent)
), made AS (
	SELECT i, CASE WHEN o.nr IS NOT NULL THEN o.click_id WHEN kind < 0.3 THEN NULL WHEN kind < 0.6 THEN oracle.uuid_v7(at) ELSE gen_random_uuid() END,
		CASE WHEN o.nr IS NOT NULL AND (kind < 0.18 OR kind > 0.22) THEN o.ad_id ELSE 1 + (a * 12)::int END,
		CASE WHEN o.nr IS NOT NULL AND (kind < 0.15 OR kind > 0.16) THEN o.clicked_at ELSE at END,
		CASE WHEN o.nr IS NOT NULL AND (kind < 0.16 OR kind > 0.17) THEN o.user_id WHEN b < 0.95 THEN (b * 8)::int END
	FROM dice LEFT JOIN old o ON kind < 0.24 AND place = 1 + floor(c * o.all)
), stored AS (
	INSERT INTO sent (click_id, ad_id, clicked_at, user_id) SELECT click_id, ad_id, clicked_at, user_id
	FROM made m (i, click_id, ad_id, clicked_at, user_id) ORDER BY i RETURNING *
)
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT click_id, ad_id, clicked_at, user_id, address(nr) FROM stored ORDER BY nr
$$;

-- A tick has taken all: it is by these settings, and those that there are now are in force then.
CREATE FUNCTION take_over() RETURNS void LANGUAGE sql AS $$
UPDATE verdicts SET tail = false;
UPDATE counted SET tail = false;
UPDATE in_force SET dedup_by = (SELECT setting FROM pg_settings WHERE name = 'adclick.dedup_by'), dedup_window = oracle.setting('dedup_window'),
	user_limit = oracle.setting('user_clicks_per_minute')
$$;

-- Some ads get another dedup_by, or none; some come, and some go.
CREATE FUNCTION change(share float8) RETURNS void LANGUAGE sql AS $$
DELETE FROM adclick.ads WHERE ad_id <= 12 AND random() < share / 4;
INSERT INTO adclick.ads (ad_id, dedup_by)
SELECT i, (ARRAY['click_id', 'user_and_ad', NULL])[1 + floor(random() * 3)] FROM generate_series(1, 12) i WHERE random() < share
ON CONFLICT (ad_id) DO UPDATE SET dedup_by = excluded.dedup_by
$$;

-- What is expected and not answered, and the other way round, in one snapshot.
CREATE FUNCTION wrong_answers() RETURNS TABLE (who text, ad_id bigint, at timestamptz, user_id bigint, clicks bigint) LANGUAGE sql AS $$
WITH expected AS MATERIALIZED (
	SELECT s.ad_id, date_trunc('minute', s.clicked_at, 'UTC') AS minute, s.user_id, count(*) AS clicks
	FROM sent s JOIN verdicts v USING (nr) WHERE v.verdict = 'counted' GROUP BY 1, 2, 3
), minutes AS (
	SELECT e.ad_id, e.minute, NULL::bigint, sum(e.clicks)::bigint FROM expected e GROUP BY 1, 2
), answered AS (
	SELECT c.ad_id, c.click_minute, NULL::bigint, sum(c.click_count)::bigint FROM adclick.clicks_per_minute c GROUP BY 1, 2
), users AS (
	SELECT i, NULL::timestamptz, u, (SELECT coalesce(sum(e.clicks), 0)::bigint FROM expected e WHERE e.ad_id = i AND e.user_id = u)
	FROM generate_series(1, 13) i, generate_series(0, 8) u
), asked AS (
	SELECT i, NULL::timestamptz, u, adclick.ad_click_count_between(i, '-infinity', 'infinity', jsonb_build_object('user_id', u))
	FROM generate_series(1, 13) i, generate_series(0, 8) u
), of_ads AS (
	SELECT i, NULL::timestamptz, NULL::bigint, (SELECT coalesce(sum(e.clicks), 0)::bigint FROM expected e WHERE e.ad_id = i) FROM generate_series(1, 13) i
), counts AS (
	SELECT i, NULL::timestamptz, NULL::bigint, adclick.ad_click_count_between(i, '-infinity', 'infinity') FROM generate_series(1, 13) i
)
(SELECT 'expected', * FROM (TABLE minutes EXCEPT ALL TABLE answered) d) UNION ALL (SELECT 'answered', * FROM (TABLE answered EXCEPT ALL TABLE minutes) d)
UNION ALL (SELECT 'expected of the user', * FROM (TABLE users EXCEPT ALL TABLE asked) d) UNION ALL (SELECT 'of the user', * FROM (TABLE asked EXCEPT ALL TABLE users) d)
UNION ALL (SELECT 'expected of the ad', * FROM (TABLE of_ads EXCEPT ALL TABLE counts) d) UNION ALL (SELECT 'of the ad', * FROM (TABLE counts EXCEPT ALL TABLE of_ads) d)
$$;

-- Verdicts in the log that are not the expected ones.
CREATE FUNCTION wrong_verdicts() RETURNS TABLE (click sent, expected text, verdict text) LANGUAGE sql AS $$
SELECT s, v.verdict, l.verdict FROM sent s JOIN verdicts v USING (nr) FULL JOIN (SELECT * FROM adclick.click_log) l ON oracle.host(l.ip) = address(nr)
WHERE v.verdict IS DISTINCT FROM l.verdict
$$;

CREATE FUNCTION tail_ok(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM judge();
	RETURN NEXT is_empty('SELECT * FROM wrong_answers()', step || ': answers with the tail');
END
$$;

CREATE FUNCTION taken_ok(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM wrong_verdicts()', step || ': verdicts');
	RETURN NEXT is_empty('SELECT * FROM wrong_answers()', step || ': answers');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': each click is in one account');
	RETURN NEXT is((SELECT balanced FROM adclick.check_ledger()), true, step || ': the books');
END
$$;


-- A tick by hand, and what it is to say; what was committed before is taken in one.
CREATE FUNCTION tick() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM judge();
	PERFORM adclick.tick();
	PERFORM take_over();
END
$$;

-- Who asked before overrides changed, and before the tick that came then, is answered by what was.
CREATE FUNCTION old_snapshot_ok(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	old CURSOR FOR SELECT string_agg(c::text, ' ' ORDER BY c.ad_id) FROM (SELECT ad_id, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1) c;
	expected text;
	answered text;
BEGIN
	PERFORM judge();
	expected := (SELECT string_agg(c::text, ' ' ORDER BY c.ad_id) FROM (SELECT s.ad_id, count(*) FROM sent s JOIN verdicts v USING (nr) WHERE v.verdict = 'counted' GROUP BY 1) c);
	OPEN old;
	PERFORM change(0.7);
	PERFORM tick();
	FETCH old INTO answered;
	CLOSE old;
	RETURN NEXT is(answered, expected, step || ': an old snapshot');
END
$$;

-- Statements that are run one after the other, each in a transaction of its own.
CREATE FUNCTION eras(name text, first int, last int) RETURNS SETOF text LANGUAGE sql AS $$
SELECT statement FROM generate_series(first, last) era,
	LATERAL (SELECT format('%s, era %s', name, era) AS step) s,
	unnest(ARRAY[
		format('DO $d$ BEGIN PERFORM change(%s); PERFORM send(%s); END $d$', (era % 3) / 3.0, 60 + era % 4 * 30),
		format('SELECT tail_ok(%L)', step || ', one tail'),
		'DO $d$ BEGIN PERFORM change(0.4); PERFORM send(50); END $d$',
		format('SELECT tail_ok(%L)', step || ', after a change'),
		'BEGIN',
		'DO $d$ BEGIN PERFORM change(0.7); PERFORM adclick.tick(); END $d$',
		CASE WHEN era % 2 = 0 THEN 'ROLLBACK' ELSE 'ABORT' END,
		format('SELECT tail_ok(%L)', step || ', after a tick that was rolled back'),
		CASE WHEN era % 2 = 0 THEN 'BEGIN ISOLATION LEVEL REPEATABLE READ' ELSE 'BEGIN' END,
		'SAVEPOINT before',
		'DO $d$ BEGIN PERFORM tick(); END $d$',
		CASE WHEN era % 4 = 1 THEN 'ROLLBACK TO before; DO $d$ BEGIN PERFORM change(0.5); PERFORM tick(); END $d$' ELSE 'DO $d$ BEGIN PERFORM tick(); END $d$' END,
		'COMMIT',
		format('SELECT taken_ok(%L)', step),
		'DO $d$ BEGIN PERFORM send(40); END $d$',
		format('SELECT old_snapshot_ok(%L)', step),
		format('SELECT taken_ok(%L)', step || ', after an old snapshot'),
		CASE WHEN era % 3 = 0 THEN 'DO $d$ BEGIN PERFORM oracle.compact(); END $d$' END
	]) WITH ORDINALITY u (statement, place)
WHERE statement IS NOT NULL ORDER BY era, place
$$;

SELECT no_plan();
SELECT extract(epoch FROM clock_timestamp())::bigint % 1000000 AS seed \gset
SELECT diag('seed ' || :seed);
SELECT setseed(:seed / 1000000.0) AS seeded \gset

--
-- Overrides and settings change
--

INSERT INTO in_force VALUES ('click_id', 600);
SELECT send(50) AS sent \gset
SELECT tail_ok('before the first tick');
INSERT INTO adclick.ads (ad_id, dedup_by) VALUES (1, 'user_and_ad'), (2, 'click_id'), (3, NULL);
SELECT tail_ok('before the first tick, with overrides');
SELECT statement FROM eras('by click id', 1, 3) statement \gexec

\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT statement FROM eras('by user and ad', 4, 6) statement \gexec
\set name adclick.dedup_window
\set value 60
\i test/lib/set.psql
SELECT statement FROM eras('by user and ad, other windows', 7, 8) statement \gexec
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql
SELECT statement FROM eras('by click id, other windows', 9, 10) statement \gexec
\set name adclick.dedup_window
\set value 600
\i test/lib/set.psql
SELECT statement FROM eras('as at first', 11, 12) statement \gexec
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT statement FROM eras('and by user and ad', 13, 14) statement \gexec
-- Where users are limited, what is in excess makes no copies, whatever makes them.
\set name adclick.user_clicks_per_minute
\set value 1
\i test/lib/set.psql
SELECT statement FROM eras('limited', 15, 17) statement \gexec
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql
SELECT statement FROM eras('limited, by click id', 18, 20) statement \gexec
SELECT cmp_ok(count(*) FILTER (WHERE verdict = 'user limit'), '>', 20::bigint, 'some were in excess') FROM verdicts;
\set name adclick.user_clicks_per_minute
\set value 0
\i test/lib/set.psql
SELECT statement FROM eras('not limited', 21, 21) statement \gexec
SELECT cmp_ok(count(*) FILTER (WHERE by_user_and_ad AND last_bucket IS NOT NULL), '=', 2::bigint, 'rules by user and ad') FROM adclick_internal.dedup_rules;
SELECT cmp_ok(count(*) FILTER (WHERE verdict = 'duplicate'), '>', 200::bigint, 'there were copies') FROM verdicts;
CALL adclick.reconcile('-infinity', 'infinity');
SELECT is((SELECT sum(differences) FROM adclick.reconciled_hours), 0::numeric, 'the counts agree with the ledger');

-- A user is forgotten: what is a copy of his clicks stays one, by whatever rule they were counted.
CREATE TABLE his AS SELECT click_id, ad_id, clicked_at FROM adclick.click_log
WHERE user_id = 3 AND verdict = 'counted' AND click_id IS NOT NULL AND clicked_at > now() - interval '1 hour';
SELECT adclick.forget_user(3) > 0 AS forgotten \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT click_id, ad_id, clicked_at, 3 FROM his;
SELECT duplicates, counted FROM adclick.tick() \gset
SELECT is((:duplicates, :counted)::text, (SELECT (count(*), 0)::text FROM his), 'copies of a forgotten user''s clicks');
SELECT cmp_ok(count(*), '>', 5::bigint, 'of which there are some') FROM his;
CALL adclick.reconcile('-infinity', 'infinity');
SELECT is((SELECT sum(differences) FROM adclick.reconciled_hours), 0::numeric, 'the counts agree with the ledger, a user forgotten');

--
-- Overrides that stay
--

DROP EXTENSION adclick CASCADE;
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql
CREATE EXTENSION adclick;

CREATE FUNCTION counts_ok(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_verdicts()', step || ': verdicts');
	RETURN NEXT is_empty('(SELECT ad_id, sum(click_count)::bigint FROM adclick.ad_click_counts GROUP BY 1 EXCEPT SELECT ad_id, count(*) FROM oracle.clicks() GROUP BY 1)
		UNION ALL (SELECT ad_id, count(*) FROM oracle.clicks() GROUP BY 1 EXCEPT SELECT ad_id, sum(click_count)::bigint FROM adclick.ad_click_counts GROUP BY 1)', step || ': counts');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': each click is in one account');
END
$$;

SELECT oracle.make_ads() AS made \gset
UPDATE adclick.ads SET dedup_by = CASE ad_id % 3 WHEN 0 THEN 'user_and_ad' WHEN 1 THEN 'click_id' END WHERE ad_id < 1000;
-- the user of most clicks
SELECT oracle.send_clicks(5000, '20 minutes') AS sent \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT gen_random_uuid(), 3 + i % 20, now() - i % 50 * interval '1 minute', i % 7 FROM generate_series(1, 3000) i;
SELECT counts_ok('overrides that stay, in the tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT counts_ok('overrides that stay');
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT gen_random_uuid(), 3 + i % 20, now() - i % 50 * interval '1 minute', i % 7 FROM generate_series(1, 3000) i;
SELECT oracle.send_copies(500) AS sent \gset
SELECT counts_ok('overrides that stay, with a second tail');

-- The index that overrides are found by is only for speed: also one that has another condition, or is not of the ads alone.
CREATE FUNCTION pieces() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(c::text, ' ' ORDER BY c.ad_id) FROM (SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1) c $$;
SELECT pieces() AS with_index \gset
BEGIN;
SET LOCAL client_min_messages = error;
DROP INDEX adclick.ads_with_dedup_by_idx;
SELECT is(pieces(), :'with_index', 'without the index');
CREATE INDEX of_one ON adclick.ads (ad_id) WHERE dedup_by IS NULL;
CREATE INDEX of_some ON adclick.ads (ad_id) WHERE dedup_by = 'click_id';
CREATE INDEX of_two ON adclick.ads (advertiser_id) WHERE dedup_by IS NOT NULL;
CREATE INDEX of_all ON adclick.ads (ad_id);
SELECT is(pieces(), :'with_index', 'with others');
ROLLBACK;
SELECT is(pieces(), :'with_index', 'and with it');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is(pieces(), :'with_index', 'the next tick says the same');
SELECT counts_ok('overrides that stay, second tick');

-- Two impressions of one user in one window are one click, where the ad says so.
INSERT INTO adclick.ads (ad_id, redirect_url, dedup_by) VALUES (5001, 'https://shop.example/', NULL), (5002, 'https://shop.example/', 'user_and_ad');
BEGIN;
SELECT adclick.click(ad, 7, NULL, NULL, NULL, NULL, adclick.new_impression(ad, 7)) AS clicked FROM generate_series(5001, 5002) ad, generate_series(1, 2) \g /dev/null
COMMIT;
SELECT is(array_agg(adclick.ad_click_count(ad, 60) ORDER BY ad), '{2,1}', 'two impressions each') FROM generate_series(5001, 5002) ad;
SELECT counted, duplicates FROM adclick.tick() \gset
SELECT is((:counted, :duplicates)::text, '(3,1)', 'two impressions each, taken');

--
-- What others do to the table
--

SELECT is(r.code || ': ' || r.message, '23514: new row for relation "ads" violates check constraint "dedup_by_is_known"', format('not %L', value))
FROM unnest('{ip,"",user_ad,CLICK_ID,"click_id "}'::text[]) value, oracle.refused(format('UPDATE adclick.ads SET dedup_by = %L WHERE ad_id = 3', value)) r;
INSERT INTO adclick.clicks (click_id, ad_id, user_id) SELECT gen_random_uuid(), 3, 1 FROM generate_series(1, 3);
BEGIN;
ALTER TABLE adclick.ads DROP CONSTRAINT dedup_by_is_known;
UPDATE adclick.ads SET dedup_by = 'ip' WHERE ad_id = 3;
SELECT is(r.code || ': ' || r.message, '55000: a dedup_by in adclick.ads is not one of its values', q)
FROM unnest('{SELECT adclick.tick(),"SELECT adclick.ad_click_count(3, 60)"}'::text[]) q, oracle.refused(q) r;
SELECT is(count(*), 3::bigint, 'the clicks wait') FROM adclick.clicks;
ROLLBACK;
CREATE FUNCTION hidden_condition(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF current_setting('adclick_test.armed', true) = 'on' THEN RAISE EXCEPTION 'run by %', current_user; END IF; RETURN true; END $$;
SET client_min_messages = error;
DROP INDEX adclick.ads_with_dedup_by_idx;
CREATE INDEX hidden_idx ON adclick.ads (ad_id) WHERE dedup_by IS NOT NULL AND hidden_condition('never');
RESET client_min_messages;
BEGIN;
CREATE FUNCTION hidden() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run by %', current_user; END $$;
CREATE FUNCTION hidden_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'run by %', current_user; END $$;
ALTER TABLE adclick.ads ALTER dedup_by SET DEFAULT hidden();
CREATE TRIGGER hidden BEFORE INSERT OR UPDATE OR DELETE ON adclick.ads FOR EACH ROW EXECUTE FUNCTION hidden_trigger();
CREATE POLICY hidden ON adclick.ads USING (hidden() IS NULL);
ALTER TABLE adclick.ads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT count(*) AS expected FROM oracle.clicks() WHERE ad_id = 3 \gset
SET LOCAL adclick_test.armed = on;
-- what the server knows of its condition is forgotten
ALTER INDEX adclick.hidden_idx RENAME TO hidden_again_idx;
SELECT is(adclick.ad_click_count(3, 60), :expected::bigint, 'code of others is not run by a question');
SELECT is(duplicates > 0, true, 'nor by a tick') FROM adclick.tick();
ROLLBACK;
DROP INDEX adclick.hidden_idx;
CREATE INDEX ads_with_dedup_by_idx ON adclick.ads (ad_id) WHERE dedup_by IS NOT NULL;
BEGIN;
SET LOCAL client_min_messages = error;
ALTER TABLE adclick.ads DROP dedup_by CASCADE;
ALTER TABLE adclick.ads ADD dedup_by text GENERATED ALWAYS AS ('user_and_ad') STORED;
SELECT is(r.code || ': ' || r.message || '. ' || r.detail, '55000: relation "adclick.ads" of adclick has been altered. Column 6 should be "dedup_by" of type text.', 'another column')
FROM oracle.refused('SELECT adclick.tick()') r;
ROLLBACK;
BEGIN;
SET LOCAL client_min_messages = error;
CREATE TABLE kept AS SELECT ad_id, advertiser_id, redirect_url, website, active FROM adclick.ads;
ALTER TABLE adclick.ads RENAME TO former_ads;
CREATE TABLE adclick.ads (LIKE kept, dedup_by text GENERATED ALWAYS AS ('user_and_ad') STORED);
ALTER TABLE adclick.ads OWNER TO adclick_owner;
SELECT is(r.code || ': ' || r.message || '. ' || r.detail, '55000: relation "adclick.ads" of adclick has been altered. Column "dedup_by" should not be generated.', 'a generated one')
FROM oracle.refused('SELECT adclick.tick()') r;
ROLLBACK;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT counts_ok('after all that');

--
-- One id on several ads, by several rules
--

-- However long the test takes.
SELECT format('CREATE FUNCTION this_hour() RETURNS timestamptz LANGUAGE sql STABLE AS $f$ SELECT timestamptz %L $f$', date_trunc('hour', now())) \gexec
CREATE FUNCTION send_one(ad bigint, who bigint, hours int DEFAULT 2, id uuid DEFAULT '00000000-0000-4000-8000-000000000001') RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) VALUES (id, ad, this_hour() - hours * interval '1 hour', who)
$$;
-- What becomes of one, as a question foresees it and a tick says it.
CREATE FUNCTION once_more(ad bigint, who bigint, hours int DEFAULT 2, id uuid DEFAULT '00000000-0000-4000-8000-000000000001') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	asked bigint := adclick.ad_click_count(ad, 1440);
	answered bigint;
	counted bigint;
BEGIN
	PERFORM send_one(ad, who, hours, id);
	answered := adclick.ad_click_count(ad, 1440);
	SELECT t.counted INTO counted FROM adclick.tick() t;
	RETURN CASE WHEN counted <> answered - asked THEN 'foreseen wrongly' WHEN counted = 1 THEN 'counted' ELSE 'duplicate' END;
END
$$;
INSERT INTO adclick.ads (ad_id, dedup_by) VALUES (6001, NULL), (6002, 'user_and_ad'), (6003, 'click_id'), (6004, 'user_and_ad');
SELECT is(once_more(6002, 1), 'counted', 'one id: first by user and ad');
SELECT is(once_more(6001, 1), 'counted', 'one id: on another ad, first by id');
SELECT is(once_more(6003, 2), 'duplicate', 'one id: on another ad, by id');
SELECT is(once_more(6002, 2), 'duplicate', 'one id: by user and ad, now that it is counted by id');
SELECT is(once_more(6002, NULL), 'duplicate', 'one id: also of nobody');
UPDATE adclick.ads SET dedup_by = 'user_and_ad' WHERE ad_id = 6001;
SELECT is(once_more(6001, 3), 'duplicate', 'one id: on its own ad, now by user and ad');
SELECT is(once_more(6001, 3, 2, gen_random_uuid()), 'counted', 'another id there');
SELECT is(once_more(6001, 3, 2, gen_random_uuid()), 'duplicate', 'and one more, of the same user');
UPDATE adclick.ads SET dedup_by = NULL WHERE ad_id = 6001;
SELECT is(once_more(6001, 3, 2, gen_random_uuid()), 'duplicate', 'also by id again');
SELECT is(once_more(6001, 4, 2, gen_random_uuid()), 'counted', 'but for another user');

-- In one tick it is as in several: who comes first counts, whichever ads are asked about.
CREATE FUNCTION in_one(id uuid, VARIADIC ads bigint[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	ad bigint;
	answers text;
BEGIN
	-- who comes first is who lies first in the inbox; where a page is full, the next row may have room in an earlier one
	LOOP
		BEGIN
			FOREACH ad IN ARRAY ads LOOP
				PERFORM send_one(abs(ad), NULLIF(sign(ad)::bigint, -1), 3, id);
			END LOOP;
			EXIT WHEN (SELECT array_agg(ad_id ORDER BY c.tableoid, c.ctid) FROM adclick.clicks c WHERE click_id = id) = (SELECT array_agg(abs(a) ORDER BY n) FROM unnest(ads) WITH ORDINALITY u (a, n));
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
	answers := (SELECT string_agg(a || ' ' || adclick.ad_click_count_between(abs(a), this_hour() - interval '3 hours', this_hour() - interval '2 hours'), ', ' ORDER BY n)
		FROM unnest(ads) WITH ORDINALITY u (a, n));
	PERFORM adclick.tick();
	RETURN answers || CASE WHEN answers <> (SELECT string_agg(a || ' ' || adclick.ad_click_count_between(abs(a), this_hour() - interval '3 hours', this_hour() - interval '2 hours'), ', ' ORDER BY n)
		FROM unnest(ads) WITH ORDINALITY u (a, n)) THEN ', foreseen wrongly' ELSE '' END;
END
$$;
INSERT INTO adclick.ads (ad_id, dedup_by) SELECT i, 'user_and_ad' FROM generate_series(6010, 6020) i;
SELECT is(in_one(gen_random_uuid(), 6010, 6101), '6010 1, 6101 1', 'one tick: by user and ad, then by id');
SELECT is(in_one(gen_random_uuid(), 6102, 6011), '6102 1, 6011 0', 'one tick: by id, then by user and ad');
SELECT is(in_one(gen_random_uuid(), 6103, -6012), '6103 1, -6012 0', 'one tick: the same of nobody');
SELECT is(in_one(gen_random_uuid(), -6013, 6104), '-6013 1, 6104 1', 'one tick: nobody first');
SELECT is(in_one(gen_random_uuid(), 6014, 6105, 6015, 6106, -6016), '6014 1, 6105 1, 6015 0, 6106 0, -6016 0', 'one tick: more of them');
-- the first one is none, as it was counted by user and ad before
SELECT is(once_more(6107, 1, 3, gen_random_uuid()), 'counted', 'by id');
INSERT INTO adclick.ads (ad_id, dedup_by) VALUES (6108, 'user_and_ad');
SELECT is(once_more(6108, 1, 3, gen_random_uuid()), 'counted', 'by user and ad');
UPDATE adclick.ads SET dedup_by = NULL WHERE ad_id = 6108;
SELECT is(in_one(gen_random_uuid(), 6108, 6018), '6108 1, 6018 1', 'one tick: what is a copy itself makes no copies');

-- Where users are limited: user 1 has one click in that minute by now.
\set name adclick.user_clicks_per_minute
\set value 1
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
CREATE FUNCTION in_one_limited(id uuid, VARIADIC clicks bigint[][]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	click bigint[];
	answer text;
	ads bigint[] := (SELECT array_agg(clicks[i][1] ORDER BY i) FROM generate_subscripts(clicks, 1) i);
BEGIN
	FOREACH click SLICE 1 IN ARRAY clicks LOOP
		PERFORM send_one(click[1], click[2], 3, id);
	END LOOP;
	answer := (SELECT string_agg(adclick.ad_click_count(ad, 1440)::text, ' ' ORDER BY n) FROM unnest(ads) WITH ORDINALITY u (ad, n));
	PERFORM adclick.tick();
	RETURN answer || CASE WHEN answer <> (SELECT string_agg(adclick.ad_click_count(ad, 1440)::text, ' ' ORDER BY n) FROM unnest(ads) WITH ORDINALITY u (ad, n)) THEN ', foreseen wrongly' ELSE '' END;
END
$$;
INSERT INTO adclick.ads (ad_id, dedup_by) SELECT i, 'user_and_ad' FROM generate_series(6020, 6029) i ON CONFLICT DO NOTHING;
SELECT is(in_one_limited(gen_random_uuid(), VARIADIC '{{6120, 1}, {6020, 12}}'), '0 1', 'limited: what is in excess makes no copies');
SELECT is(in_one_limited(gen_random_uuid(), VARIADIC '{{6121, 13}, {6021, 14}}'), '1 0', 'limited: what counts does');
SELECT is(in_one_limited(gen_random_uuid(), VARIADIC '{{6122, 1}, {6022, 15}, {6123, 16}, {6023, 17}, {6124, 18}}'), '0 1 1 0 0', 'limited: the second by id is the first that counts');
SELECT is(in_one_limited(gen_random_uuid(), VARIADIC '{{6024, 19}, {6125, 20}, {6025, 21}}'), '1 1 0', 'limited: by user and ad first');
\set value 0
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql

-- Other windows, and the other setting.
\set name adclick.dedup_window
\set value 1200
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT is(once_more(6003, 4), 'duplicate', 'one id, other windows: on another ad, by id');
SELECT is(once_more(6006, 4), 'duplicate', 'one id, other windows: on an unknown ad');
SELECT is(once_more(6004, 4), 'duplicate', 'one id, other windows: by user and ad');
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT is(once_more(6003, 5), 'duplicate', 'one id, the other setting: by id');
SELECT is(once_more(6007, 5), 'duplicate', 'one id, the other setting: on an unknown ad');

-- The setting becomes that of overrides in a tick that has counted by it, for the first time or in a higher bucket.
DROP EXTENSION adclick CASCADE;
\set name adclick.dedup_window
\set value 600
\i test/lib/set.psql
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql
CREATE EXTENSION adclick;
INSERT INTO adclick.ads (ad_id, dedup_by) VALUES (6001, 'user_and_ad');
SELECT is(once_more(6002, 1, 9, gen_random_uuid()), 'counted', 'by id');
\set value user_and_ad
\i test/lib/set.psql
SELECT is(once_more(6001, 1, 8, gen_random_uuid()), 'counted', 'in the tick that changes the setting');
SELECT is(once_more(6001, 1, 8, gen_random_uuid()), 'duplicate', 'and after it');
\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
\set value user_and_ad
\i test/lib/set.psql
SELECT is(once_more(6001, 1, 7, gen_random_uuid()), 'counted', 'once more in such a tick');
\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
UPDATE adclick.ads SET dedup_by = NULL;
SELECT is(once_more(6001, 1, 7, gen_random_uuid()), 'duplicate', 'what it counted stays seen');
SELECT is(count(*), 2::bigint, 'there are two rules') FROM adclick_internal.dedup_rules;

-- The same in the first tick that has clicks by id, while the setting is another; and in the first one of a window.
DROP EXTENSION adclick CASCADE;
\set value user_and_ad
\i test/lib/set.psql
CREATE EXTENSION adclick;
SELECT is(once_more(6300, 1, 9, gen_random_uuid()), 'counted', 'by user and ad');
INSERT INTO adclick.ads (ad_id, dedup_by) VALUES (6301, 'click_id'), (6302, 'click_id');
SELECT is(in_one(gen_random_uuid(), 6303, 6301, 6302, 6304, -6305), '6303 1, 6301 1, 6302 0, 6304 0, -6305 0', 'first by id in one tick');
SELECT send_one(6301, 1, 1, 'aaaaaaaa-0000-4000-8000-000000000001'), send_one(6306, 1, 1, 'aaaaaaaa-0000-4000-8000-000000000001') \g /dev/null
SELECT is(adclick.ad_click_count(6301, 1440) || ' ' || adclick.ad_click_count(6306, 1440), '2 0', 'first of a window in one tail');
SELECT counted, duplicates FROM adclick.tick() \gset
SELECT is((:counted, :duplicates)::text, '(1,1)', 'first of a window in one tick');

--
-- Many: 250,000 ads with an override, and a tick with clicks on 50,000 of them
--

\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
INSERT INTO adclick.ads (ad_id, dedup_by) SELECT 10000000 + i, 'user_and_ad' FROM generate_series(1, 250000) i;
INSERT INTO adclick.clicks (click_id, ad_id, user_id) SELECT gen_random_uuid(), 10000000 + i * 5, 1 FROM generate_series(1, 50000) i, generate_series(1, 1 + (i % 10 = 0)::int);
SELECT is(adclick.ad_click_count(10000010 + 5 * 10, 60), 1::bigint, 'many: in the tail');
SELECT counted, duplicates FROM adclick.tick() \gset
SELECT is((:counted, :duplicates)::text, '(50000,5000)', 'many: taken');
UPDATE adclick.ads SET dedup_by = NULL WHERE dedup_by IS NOT NULL;
INSERT INTO adclick.clicks (click_id, ad_id, user_id) SELECT gen_random_uuid(), 20000001, 2 FROM generate_series(1, 2);
SELECT is(adclick.ad_click_count(20000001, 60), 2::bigint, 'many: none is left');
SELECT * FROM finish();
