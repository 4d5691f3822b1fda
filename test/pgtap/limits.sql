-- Limits of a user's clicks, and of those from an address, in a minute: each verdict is what
-- plain SQL makes of the clicks before, in the order in which ticks took them.

\set ON_ERROR_STOP on

-- Whatever a test before this one has left: the first ticks have no limits.
ALTER SYSTEM RESET ALL;
\set name adclick.user_clicks_per_minute
\set value 0
\i test/lib/set.psql
\set name adclick.ip_clicks_per_minute
\i test/lib/set.psql

/*
 * What ticks took, in the order of the inbox, as they were sent, with the rules in force; clicks
 * are told by clicked_at, which no two have in common.  "known": all that was counted in its minute
 * could be told by user and address.
 */
CREATE TABLE taken (seq bigint GENERATED ALWAYS AS IDENTITY, click_id uuid, ad_id bigint, clicked_at timestamptz PRIMARY KEY, received_at timestamptz,
	user_id bigint, ip inet, by_user_and_ad boolean, user_limit int, ip_limit int, known boolean);
CREATE TABLE forgotten (seq bigint, user_id bigint);

-- Numbers for clicked_at, each once.
CREATE SEQUENCE micros;

CREATE FUNCTION send(n int, far boolean) RETURNS void LANGUAGE sql AS $$
WITH dice AS MATERIALIZED (
	SELECT random() AS a, random() AS b, random() AS c, random() AS d, random() AS e FROM generate_series(1, n)
), copied AS MATERIALIZED (
	SELECT click_id, ad_id, user_id, ip, row_number() OVER (ORDER BY random()) AS nr FROM taken WHERE click_id IS NOT NULL
), made AS MATERIALIZED (
	SELECT row_number() OVER () AS nr, date_trunc('minute', now(), 'UTC') - floor(a * a * 6)::int * interval '1 minute'
			- CASE WHEN far AND b < 0.3 THEN floor(b * 20) * interval '1 day' ELSE '0' END + nextval('micros') * interval '1 microsecond' AS at,
		CASE WHEN b < 0.7 THEN gen_random_uuid() WHEN b < 0.9 THEN oracle.uuid_v7(now()) END AS click_id,
		floor(c * 40)::int AS ad_id, CASE WHEN d < 0.85 THEN floor(d * 7)::int END AS user_id,
		(ARRAY['10.0.0.1', '10.0.0.2', '10.0.0.2/8', '2001:db8::1', '2001:db8::2', '::a00:1', NULL, NULL])[1 + floor(e * 8)::int]::inet AS ip, random() AS f
	FROM dice
)
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip)
SELECT click_id, ad_id, at, user_id, ip FROM (
	SELECT click_id, ad_id, at, user_id, ip, f FROM made
	UNION ALL
	-- copies of those, and of some that were sent before, with other users and addresses as well
	SELECT click_id, ad_id, at - (at - date_trunc('minute', at, 'UTC')) + nextval('micros') * interval '1 microsecond', CASE WHEN c < 0.5 THEN user_id ELSE 1 END, ip, random()
	FROM (SELECT m.*, random() AS c FROM made m WHERE f < 0.15 AND click_id IS NOT NULL) m
	UNION ALL
	SELECT c.click_id, c.ad_id, m.at - (m.at - date_trunc('minute', m.at, 'UTC')) + nextval('micros') * interval '1 microsecond', c.user_id, c.ip, random()
	FROM made m JOIN copied c USING (nr) WHERE m.f < 0.15) s
ORDER BY f
$$;

CREATE FUNCTION note_tail() RETURNS void LANGUAGE sql AS $$
INSERT INTO taken (click_id, ad_id, clicked_at, received_at, user_id, ip, by_user_and_ad, user_limit, ip_limit, known)
SELECT c.click_id, c.ad_id, c.clicked_at, c.received_at, c.user_id, oracle.host(c.ip), r.by_user_and_ad, s.user_clicks_per_minute, s.ip_clicks_per_minute,
	date_trunc('minute', c.clicked_at, 'UTC') > coalesce(s.people_dropped_until, '-infinity') AND date_trunc('minute', c.clicked_at, 'UTC') NOT IN (TABLE adclick_internal.gaps)
FROM adclick.clicks c, adclick_internal.state s JOIN adclick_internal.dedup_rules r USING (rule_id)
ORDER BY c.ctid
$$;

-- All that is counted, by ad and minute; and by user.
CREATE FUNCTION answers() RETURNS TABLE (what text, n bigint) LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY SELECT format('%s %s', ad_id, click_minute), sum(click_count)::bigint FROM adclick.ad_click_counts GROUP BY 1 ORDER BY 1;
	FOR u IN 0 .. 3 LOOP
		RETURN QUERY SELECT 'user ' || u, oracle.answer(format('SELECT adclick.ad_click_count(1, 100000, ''{"user_id": %s}'')', u))::bigint;
	END LOOP;
EXCEPTION WHEN invalid_text_representation THEN		-- users and addresses are not kept
	RETURN;
END
$$;

/*
 * Take what waits, and say in what questions before were wrong about it; perhaps first in a tick that is rolled back.
 * It is all one snapshot: now() is the same.
 */
CREATE FUNCTION take(try_before boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before text[];
	rolled_back text;
BEGIN
	before := ARRAY(SELECT format('%s: %s', what, n) FROM answers() ORDER BY 1);
	IF try_before THEN
		BEGIN
			PERFORM adclick.tick();
			RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = 'back';
		EXCEPTION WHEN raise_exception THEN
			GET STACKED DIAGNOSTICS rolled_back = MESSAGE_TEXT;
		END;
	END IF;
	PERFORM note_tail();
	WHILE (SELECT more FROM adclick.tick()) LOOP END LOOP;
	RETURN (SELECT coalesce(string_agg(d::text, ', '), '') FROM (
		(SELECT 'before', unnest(before) EXCEPT SELECT 'before', format('%s: %s', what, n) FROM answers())
		UNION ALL
		(SELECT 'after', format('%s: %s', what, n) FROM answers() EXCEPT SELECT 'after', unnest(before))) d);
END
$$;

CREATE FUNCTION forget(id bigint) RETURNS void LANGUAGE sql AS $$
INSERT INTO forgotten SELECT coalesce(max(seq), 0), id FROM taken;
SELECT adclick.forget_user(id);
$$;

-- The window of a time, by the length that is in force all the time.
SELECT oracle.setting('dedup_window') AS dedup_window \gset
SELECT format('CREATE FUNCTION bucket(at timestamptz) RETURNS numeric LANGUAGE sql STABLE AS $$ SELECT oracle.bucket(extract(epoch FROM at), %s) $$', :dedup_window) \gexec

/*
 * By induction: if each verdict is right where those before it are taken as they are, all are.  What was counted by a rule
 * stays seen by it.
 */
CREATE FUNCTION wrong_verdicts() RETURNS TABLE (seq bigint, expected text, verdict text) LANGUAGE sql STABLE SET enable_nestloop = off AS $$
WITH judged AS MATERIALIZED (
	SELECT t.*, l.verdict, date_trunc('minute', t.clicked_at, 'UTC') AS minute, t.user_id || '/' || t.ad_id AS pair, bucket(t.clicked_at) AS pair_bucket,
		bucket(CASE WHEN to_timestamp(oracle.id_time(t.click_id)::float8) BETWEEN t.clicked_at - interval '1 day' AND t.clicked_at + interval '1 day'
			THEN to_timestamp(oracle.id_time(t.click_id)::float8) ELSE t.clicked_at END) AS id_bucket
	FROM taken t LEFT JOIN adclick.click_log l USING (clicked_at)
), known AS MATERIALIZED (
	SELECT j.*,
		count(*) FILTER (WHERE j.verdict = 'counted' AND NOT by_user_and_ad) OVER (PARTITION BY click_id, id_bucket ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS same_id,
		count(*) FILTER (WHERE j.verdict = 'counted' AND by_user_and_ad) OVER (PARTITION BY pair, pair_bucket ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS same_pair
	FROM judged j
), counted AS MATERIALIZED (
	-- until its user is forgotten, if he is
	SELECT k.seq, k.user_id, k.ip, k.minute, (SELECT min(f.seq) FROM forgotten f WHERE f.user_id = k.user_id AND f.seq >= k.seq) AS until
	FROM known k WHERE k.verdict = 'counted'
), of_user AS (
	SELECT k.seq, count(*) AS n FROM known k JOIN counted c USING (user_id, minute) WHERE c.seq < k.seq AND coalesce(c.until >= k.seq, true) GROUP BY 1
), of_address AS (
	SELECT k.seq, count(*) AS n FROM known k JOIN counted c USING (ip, minute) WHERE c.seq < k.seq AND coalesce(c.until >= k.seq, true) GROUP BY 1
)
SELECT seq, expected, verdict FROM (
	SELECT k.*, CASE WHEN click_id IS NOT NULL AND same_id > 0 OR pair IS NOT NULL AND same_pair > 0 THEN 'duplicate'
		WHEN known AND user_limit > 0 AND u.n >= user_limit THEN 'user limit'
		WHEN known AND ip_limit > 0 AND a.n >= ip_limit THEN 'address limit'
		ELSE 'counted' END AS expected FROM known k LEFT JOIN of_user u USING (seq) LEFT JOIN of_address a USING (seq)) e
WHERE expected IS DISTINCT FROM verdict
$$;

-- The minute that all clicks by hand are told from: the clock goes on.
CREATE TABLE start AS SELECT date_trunc('minute', now(), 'UTC') AS minute;

-- Clicks of a user, or from an address, as copies of nothing; and what becomes of his.
CREATE FUNCTION click(id bigint, ago interval, n int DEFAULT 1, address inet DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip)
SELECT 1, minute - ago + nextval('micros') * interval '1 microsecond', id, address FROM start, generate_series(1, n)
$$;

CREATE FUNCTION verdicts(id bigint) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(verdict || ' ' || n, ', ' ORDER BY verdict) FROM (SELECT verdict, count(*) AS n FROM adclick.click_log WHERE user_id = id GROUP BY 1) v
$$;

SELECT no_plan();
SELECT setseed(0.71) AS seeded \gset
SELECT tick IS NULL AS first FROM adclick.tick() \gset

-- One by one: a change holds for what comes after the next tick.
\set name adclick.user_clicks_per_minute
\set value 2
\i test/lib/set.psql
SELECT click(900, '0', 5), click(900, '1 minute', 5) \gset
SELECT is(take(false), '', 'not in force yet');
SELECT is(verdicts(900), 'counted 10', 'so all count');
SELECT click(900, '0'), click(901, '0', 3), click(901, '1 minute', 1), click(901, '5 days', 3), click(NULL, '0', 5) \gset
SELECT is(take(true), '', 'in force');
SELECT is(verdicts(900), 'counted 10, user limit 1', 'those that were counted without it are counted as well');
SELECT is(verdicts(901), 'counted 5, user limit 2', 'each minute is one of its own, a late one, too');
SELECT is(array_agg(DISTINCT verdict), '{counted}', 'who has no user is not limited') FROM adclick.click_log WHERE user_id IS NULL;
SELECT click(901, '1 minute', 2), click(901, '5 days', 2) \gset
SELECT is(take(false), '', 'one more, and one too many');
SELECT is(verdicts(901), 'counted 6, user limit 5', 'counted are what there were before');

-- Both limits: the user's is what is said.
\set name adclick.ip_clicks_per_minute
\set value 2
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT click(910, '2 minutes', 1, '10.1.1.1'), click(911, '2 minutes', 1, '10.1.1.1/8'), click(912, '2 minutes', 1, '10.1.1.1'), click(910, '2 minutes', 1), click(910, '2 minutes', 1, '10.1.1.1'),
	click(913, '2 minutes', 1, '::a01:101'), click(914, '2 minutes', 1, '10.1.1.2') \gset
SELECT is(take(true), '', 'both');
SELECT is(verdicts(910) || '; ' || verdicts(911) || '; ' || verdicts(912), 'counted 2, user limit 1; counted 1; address limit 1', 'a user, and an address, whatever network it is said to be of');
SELECT is(verdicts(913) || '; ' || verdicts(914), 'counted 1; counted 1', 'others are others');

-- A click in excess has no key: its copy in another minute is none of a click that is counted.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id)
SELECT CASE WHEN i > 2 THEN '0190a0b0-0000-4000-8000-000000000001'::uuid END, 1, date_bin('10 minutes', minute, '2000-01-01 00:00Z') - interval '20 minutes' + CASE WHEN i > 3 THEN interval '1 minute' ELSE '0' END
	+ nextval('micros') * interval '1 microsecond', 920 FROM start, generate_series(1, 5) i;
SELECT is(take(true), '', 'copies of what is in excess');
SELECT is(verdicts(920), 'counted 3, duplicate 1, user limit 1', 'the first that is within the limit counts');

-- Users and addresses of the minute have gone: nobody is limited there.
SELECT click(930, '3 days', 3) \gset
SELECT is(take(false), '', 'three days ago');
SELECT is(verdicts(930), 'counted 2, user limit 1', 'three days ago: limited');
BEGIN;
UPDATE adclick_internal.state SET people_dropped_until = (SELECT minute FROM start) - interval '3 days';
SELECT click(930, '3 days', 3), click(931, '4 days', 3), click(932, '3 days' - interval '1 minute', 3) \gset
SELECT is(take(false), '', 'dropped');
SELECT is(verdicts(930) || '; ' || verdicts(931) || '; ' || verdicts(932), 'counted 5, user limit 1; counted 3; counted 2, user limit 1', 'up to the line nobody is limited');
ROLLBACK;
-- nothing of it is left where a sequence is: clicked_at of what follows are others
DELETE FROM taken WHERE clicked_at NOT IN (SELECT clicked_at FROM adclick.click_log);

-- Who is forgotten begins anew, and so do his addresses.
SELECT click(940, '0', 3, '10.2.2.2') \gset
SELECT is(take(false), '', 'somebody');
SELECT forget(940) \gset
SELECT click(940, '0', 3), click(941, '0', 2, '10.2.2.2') \gset
SELECT is(take(false), '', 'somebody forgotten');
SELECT is(verdicts(940) || '; ' || verdicts(941), 'counted 2, user limit 1; counted 2', 'nobody knows that there was one');

-- Damage: what needs it to be told is set aside, and questions say so.
SELECT click(950, '6 days', 2), click(951, '6 days') \gset
SELECT is(take(false), '', 'six days ago');
SELECT run_id AS run FROM adclick_internal.runs WHERE sort_order = 1 ORDER BY run_id DESC LIMIT 1 \gset
SELECT is(first_minute, (SELECT minute FROM start) - interval '6 days', 'their run') FROM adclick_internal.runs WHERE run_id = :run;
BEGIN;
UPDATE adclick_internal.deltas SET data = set_byte(data, 20, get_byte(data, 20) # 255) WHERE run_id = :run;
SELECT click(950, '6 days'), click(951, '6 days'), click(952, '0', 3) \gset
SELECT is(code, 'XX001', 'a question about them') FROM oracle.refused('SELECT adclick.ad_click_count(1, 5)');
SELECT counted AS damaged FROM adclick.tick() \gset
SELECT is(verdicts(950) || '; ' || verdicts(951) || '; ' || verdicts(952), 'counted 2, undecided 1; counted 1, undecided 1; counted 2, user limit 1', 'undecided are those that need it');
ROLLBACK;

-- A run of which only the end is damaged: what was read of it before is not added twice.
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id) SELECT 1, minute - interval '143 hours', 10000 + i::bigint * 1000003 FROM start, generate_series(0, 5000) i;
SELECT counted AS wide FROM adclick.tick() \gset
SELECT run_id AS run FROM adclick_internal.runs WHERE sort_order = 1 ORDER BY run_id DESC LIMIT 1 \gset
SELECT cmp_ok(count(*), '>', 1::bigint, 'it has some segments') FROM adclick_internal.deltas WHERE run_id = :run;
SELECT 10000 + 5000::bigint * 1000003 AS last \gset
SELECT click(:last - 1, '143 hours', 2) \gset
SELECT counted AS besides FROM adclick.tick() \gset
BEGIN;
UPDATE adclick_internal.deltas SET data = set_byte(data, 20, get_byte(data, 20) # 255) WHERE run_id = :run AND (first_key, number) = (SELECT first_key, number FROM adclick_internal.deltas WHERE run_id = :run ORDER BY 1 DESC, 2 DESC LIMIT 1);
SELECT click(10000, '143 hours', 2), click(:last, '143 hours'), click(:last - 1, '143 hours') \gset
SELECT counted AS damaged FROM adclick.tick() \gset
SELECT is(verdicts(10000) || '; ' || verdicts(:last), 'counted 2, user limit 1; counted 1, undecided 1', 'only who is behind the damage is undecided');
SELECT is(verdicts(:last - 1), 'counted 2, user limit 1', 'and not who is at the limit without it');
ROLLBACK;

-- One user with very many clicks in a minute, and in very many minutes.
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id) SELECT i % 1000, minute, 960 FROM start, generate_series(1, 100000) i;
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id) SELECT i, minute - (1 + i % 10000) * interval '1 minute', 961 FROM start, generate_series(0, 99999) i;
SELECT sum(click_count) AS before FROM adclick.ad_click_counts \gset
DO $$ BEGIN WHILE (SELECT more FROM adclick.tick()) LOOP END LOOP; END $$;
SELECT is(sum(click_count), :before::numeric, 'very many: questions say what ticks count') FROM adclick.ad_click_counts;
SELECT is(verdicts(960) || '; ' || verdicts(961), 'counted 2, user limit 99998; counted 20000, user limit 80000', 'very many: verdicts');
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id) SELECT i, minute - (1 + i) * interval '1 minute', 961 FROM start, generate_series(0, 9999) i;
SELECT counted AS very_many FROM adclick.tick() \gset
SELECT is(verdicts(961), 'counted 20000, user limit 90000', 'very many, once more: none of them is in memory');
SELECT click(961, '5001 minutes') \gset
SELECT counted AS one_of_many FROM adclick.tick() \gset
SELECT is(verdicts(961), 'counted 20000, user limit 90001', 'one of very many minutes');

-- At random.
\set rounds 60
\set change true
\i test/lib/limits_round.psql
SELECT is_empty('SELECT * FROM wrong_verdicts()', 'at random: verdicts');
SELECT is(oracle.lost(), 0::bigint, 'at random: no click is lost');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'at random: the ledger is in balance');
SELECT is_empty($$ SELECT * FROM generate_series(date_trunc('hour', now(), 'UTC') - interval '7 hours', now(), '1 hour') h, adclick_internal.find_differences(h, false) $$, 'at random: and agrees with the facts');

-- Minutes of which nothing was stored when the limits came: bounds tell who is within them. They are too high after ticks that
-- are rolled back, and beyond what they count; and too low never.
CREATE FUNCTION send_ahead(n int, first int) RETURNS void LANGUAGE sql AS $$
WITH made AS MATERIALIZED (
	SELECT i, (SELECT minute FROM start) + (first + floor(random() * random() * 4)::int) * interval '1 minute' + nextval('micros') * interval '1 microsecond' AS at,
		CASE WHEN random() < 0.8 THEN gen_random_uuid() END AS click_id, floor(random() * 30)::int AS ad_id, CASE WHEN random() < 0.9 THEN 2000 + floor(random() * 40)::int END AS user_id,
		CASE WHEN random() < 0.8 THEN '10.3.0.0'::inet + floor(random() * 40)::int ELSE (ARRAY['2001:db8::3', '0:a03:1::', NULL])[1 + floor(random() * 3)::int]::inet END AS ip
	FROM generate_series(1, n) i
)
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip)
SELECT click_id, ad_id, at, user_id, ip FROM (
	SELECT * FROM made
	UNION ALL
	SELECT i, at + nextval('micros') * interval '1 microsecond', click_id, ad_id, CASE WHEN i % 3 = 0 THEN 2000 ELSE user_id END, ip FROM made WHERE click_id IS NOT NULL AND random() < 0.3) m
ORDER BY random()
$$;

-- As answers(), ad by ad: each of them asks for few of the clicks.
CREATE FUNCTION answers_by_ad() RETURNS bigint[] LANGUAGE sql STABLE AS $$
SELECT array_agg(adclick.ad_click_count_between(ad, '-infinity', 'infinity') ORDER BY ad) FROM generate_series(0, 29) ad
$$;

-- Ticks that come to nothing, as many as that: all in one transaction, or each in one of its own.
CREATE PROCEDURE tick_for_nothing(n int, apart boolean) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		IF apart THEN
			PERFORM adclick.tick();
			ROLLBACK;
		ELSE
			BEGIN
				PERFORM adclick.tick();
				RAISE division_by_zero;
			EXCEPTION WHEN division_by_zero THEN
			END;
		END IF;
	END LOOP;
END
$$;

CREATE PROCEDURE take_ahead(rounds int, first int) LANGUAGE plpgsql AS $$
DECLARE
	before bigint[];
BEGIN
	FOR i IN 1 .. rounds LOOP
		PERFORM send_ahead(20 + i % 4 * 100, first + i / 4);
		before := answers_by_ad();
		COMMIT;
		IF i % 5 = 0 THEN
			CALL tick_for_nothing(i % 3 + 1, i % 2 = 0);
		END IF;
		INSERT INTO wrong_answers SELECT i WHERE take(i % 6 = 1) <> '';
		INSERT INTO wrong_answers SELECT -i WHERE before IS DISTINCT FROM answers_by_ad();
	END LOOP;
END
$$;
CREATE TABLE wrong_answers (round int);

\set name adclick.future_tolerance
\set value 86400
\i test/lib/set.psql
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql
\set name adclick.user_and_ip_orders
\set value on
\i test/lib/set.psql
-- off, and on again: bounds begin anew behind the last minute that is stored
\set name adclick.user_clicks_per_minute
\set value 0
\i test/lib/set.psql
\set name adclick.ip_clicks_per_minute
\set value 0
\i test/lib/set.psql
SELECT take(false) AS followed \gset
SELECT click(970, interval '-10 minutes', 4, '10.4.0.1') \gset
SELECT is(take(false), '', 'counted while there are no limits');
\set value 5
\i test/lib/set.psql
\set name adclick.user_clicks_per_minute
\set value 4
\i test/lib/set.psql
SELECT take(false) AS followed \gset
SELECT click(970, interval '-10 minutes', 2, '10.4.0.1'), click(971, interval '-10 minutes', 2, '10.4.0.1') \gset
SELECT is(take(false), '', 'then there are');
SELECT is(verdicts(970) || '; ' || verdicts(971), 'counted 4, user limit 2; address limit 1, counted 1', 'of the same minute all are counted');
CALL take_ahead(24, 20);
SELECT is_empty('TABLE wrong_answers', 'ahead: questions say what the tick counts');

-- Who asks for one click is told what those before it leave: of its address, by other users on other ads; and of its copies.
CREATE FUNCTION answers_of(first int, last int) RETURNS text LANGUAGE sql STABLE AS $$
SELECT string_agg(adclick.ad_click_count_between(ad, '-infinity', 'infinity')::text, ' ' ORDER BY ad) FROM generate_series(first, last) ad
$$;

INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip)
SELECT 200100 + i, minute + interval '40 minutes' + nextval('micros') * interval '1 microsecond', 980 + i, '10.5.0.1' FROM start, generate_series(1, 7) i;
SELECT is(answers_of(200101, 200107), '1 1 1 1 1 0 0', 'of others from the address');
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id)
SELECT CASE WHEN i > 4 THEN '0190a0b0-0000-4000-8000-000000000002'::uuid END, 200110 + i, minute + interval '41 minutes' + nextval('micros') * interval '1 microsecond',
	CASE WHEN i < 6 THEN 990 ELSE 985 + i END FROM start, generate_series(1, 7) i;
SELECT is(answers_of(200111, 200117), '1 1 1 1 0 1 0', 'of copies by others');
SELECT is(adclick.ad_click_count_between(200116, '-infinity', 'infinity', '{"user_id": 991}'), 1::bigint, 'of a copy, asked for by user');
SELECT is(take(false), '', 'the tick counts the same');

-- One limit is turned on: what was counted without it counts.
SELECT click(972, interval '-50 minutes', 3, '10.4.0.2') \gset
SELECT is(take(false), '', 'within both limits');
\set name adclick.user_clicks_per_minute
\set value 0
\i test/lib/set.psql
SELECT take(false) AS followed \gset
SELECT click(972, interval '-50 minutes', 1), click(973, interval '-51 minutes', 4) \gset
SELECT is(take(false), '', 'without that of users');
\set value 4
\i test/lib/set.psql
SELECT take(false) AS followed \gset
SELECT click(972, interval '-50 minutes', 1), click(973, interval '-51 minutes', 1) \gset
SELECT is(take(false), '', 'with it');
SELECT is(verdicts(972) || '; ' || verdicts(973), 'counted 4, user limit 1; counted 4, user limit 1', 'both are full by what came meanwhile');

-- Many clicks of one: more than a bound counts, and ticks that are rolled back many times.
\set value 1200
\i test/lib/set.psql
SELECT take(false) AS followed \gset
SELECT click(974, interval '-60 minutes', 1100), click(975, interval '-60 minutes', 700) \gset
CALL tick_for_nothing(3, true);
CALL tick_for_nothing(3, false);
SELECT is(take(false), '', 'many');
SELECT click(974, interval '-60 minutes', 101), click(975, interval '-60 minutes', 500) \gset
SELECT is(take(true), '', 'as many as may be, and one more');
SELECT is(verdicts(974) || '; ' || verdicts(975), 'counted 1200, user limit 1; counted 1200', 'many: verdicts');

-- Who was forgotten begins anew, whatever the bounds are; a snapshot from before that still has him.
SELECT click(976, interval '-70 minutes', 1200) \gset
SELECT is(take(false), '', 'somebody ahead');
SELECT forget(976) \gset
SELECT click(976, interval '-70 minutes', 1201) \gset
SELECT is(take(false), '', 'forgotten');
SELECT is(verdicts(976), 'counted 1200, user limit 1', 'and counted anew');
-- of those with very many clicks each would be counted for each
DELETE FROM taken WHERE user_id BETWEEN 974 AND 976;
SELECT is_empty('SELECT * FROM wrong_verdicts()', 'ahead: verdicts');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'ahead: the ledger is in balance');

-- Behind somebody, and behind a network, whose facts fill several segments, which all begin with the same key.
\set name adclick.user_clicks_per_minute
\set value 0
\i test/lib/set.psql
\set name adclick.ip_clicks_per_minute
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT i, minute - interval '80 minutes', 3000, '2001:db8::'::inet + i FROM start, generate_series(1, 9000) i;
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT 1, minute - interval '80 minutes', 3001, 'fd00::1' FROM start;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT cmp_ok(segments, '>', 3, 'many segments') FROM adclick_internal.runs WHERE sort_order IN (1, 2) AND is_delta ORDER BY run_id DESC LIMIT 2;
\set value 1
\i test/lib/set.psql
\set name adclick.user_clicks_per_minute
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip)
SELECT -77, minute - interval '80 minutes', u, ip::inet FROM start, (VALUES (3001, NULL), (NULL, 'fd00::1'), (3002, 'fd00::2')) v (u, ip);
SET statement_timeout = '1min';	-- it ends
BEGIN;
DELETE FROM adclick_internal.deltas WHERE number > 1 AND run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order IN (1, 2) AND segments > 3);
SELECT is(counted || ' ' || discarded, '0 3', 'behind segments that are missing: ticked') FROM adclick.tick();
SELECT is(string_agg(verdict, ', '), 'undecided, undecided, undecided', 'behind segments that are missing: verdicts') FROM adclick.click_log WHERE ad_id = -77;
ROLLBACK;
SELECT is(adclick.ad_click_count_between(-77, '-infinity', 'infinity'), 1::bigint, 'behind many segments: asked');
SELECT is(counted || ' ' || discarded, '1 2', 'behind many segments: ticked') FROM adclick.tick();
RESET statement_timeout;
SELECT is(string_agg(verdict, ', ' ORDER BY verdict), 'address limit, counted, user limit', 'behind many segments: verdicts') FROM adclick.click_log WHERE ad_id = -77;

ALTER SYSTEM RESET ALL;

SELECT * FROM finish();
