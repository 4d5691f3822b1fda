-- A user is forgotten: nothing that is stored names him or his addresses any more, all
-- counts but those by user and address are as before, and copies of his clicks still are copies.

\set ON_ERROR_STOP on

-- What a duplicate was a copy of cannot be told any more once its user is forgotten: what is one
-- is checked here by itself, and the oracle reckons with all other clicks.
ALTER FUNCTION oracle.judged() RENAME TO all_judged;
CREATE FUNCTION oracle.judged() RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, user_id bigint, ip inet,
	key text, bucket numeric, fault text, verdict text) LANGUAGE sql STABLE AS $$
SELECT * FROM oracle.all_judged() j WHERE j.verdict IS DISTINCT FROM 'duplicate'
$$;

-- Users whose ids would be known among other bytes, far from each other.
CREATE FUNCTION himself(nr int) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT hashint8extended(nr, 5) $$;
CREATE FUNCTION bytes(nr bigint) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT decode(lpad(to_hex(nr), 16, '0'), 'hex') $$;
CREATE FUNCTION reversed(bytes bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
SELECT string_agg(substr(bytes, i, 1), '' ORDER BY i DESC) FROM generate_series(1, length(bytes)) i
$$;

-- Random clicks, some of them of a user of these, from addresses of his own and of others; and too old ones, and copies.
CREATE FUNCTION send(n int, spread interval, ago interval, first_user int, last_user int) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at - ago, CASE WHEN random() < 0.3 THEN himself(first_user + floor(random() * (1 + last_user - first_user))::int) ELSE user_id END,
	ip, country, region, device
FROM oracle.random_clicks(n, spread) WHERE clicked_at IS NOT NULL;
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country)
SELECT gen_random_uuid(), 4, now() - interval '20 days', himself(u), '10.1.1.1', 'CA' FROM generate_series(first_user, last_user) u;
$$;
CREATE FUNCTION send_copies(n int) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM adclick.click_log
WHERE clicked_at IS NOT NULL AND verdict = 'counted' AND user_id IN (SELECT himself(u) FROM generate_series(0, 40) u) ORDER BY random() LIMIT n
$$;

-- The minutes of a run of the ledger are those of its clicks.
CREATE FUNCTION wrong_directory() RETURNS SETOF bigint LANGUAGE sql STABLE AS $$
SELECT r.run_id FROM adclick_internal.runs r
WHERE sort_order = 3 AND ((SELECT (sum(f), sum(c)) FROM unnest(minute_facts, minute_clicks) u (f, c)) IS DISTINCT FROM (facts::numeric, clicks::numeric)
	OR cardinality(minutes) <> (SELECT count(DISTINCT m) FROM unnest(minutes) m) OR 0 = ANY (minute_facts))
$$;

-- The ledger lies in the first of its volumes, and so does what is kept by user and by address.
CREATE VIEW final_segments AS TABLE adclick_internal.segments UNION ALL TABLE adclick_internal.ledger_0 UNION ALL TABLE adclick_internal.people_0;

-- Where a user still is.
CREATE FUNCTION traces(nr bigint) RETURNS TABLE (place text) LANGUAGE sql STABLE AS $$
SELECT 'log' FROM adclick.click_log WHERE user_id = nr
UNION ALL SELECT 'unread' FROM adclick.clicks WHERE user_id = nr
UNION ALL SELECT 'unpacked' FROM adclick_internal.unpacked_clicks WHERE user_id = nr
UNION ALL SELECT 'difference' FROM adclick.differences WHERE user_id = nr
UNION ALL SELECT 'bad line' FROM adclick.bad_lines WHERE nr::text IN (SELECT unnest(regexp_split_to_array(line || ' ' || reason, '[^0-9-]+')))
UNION ALL SELECT 'order user' FROM adclick_internal.facts(1, '-infinity', 'infinity') WHERE user_id = nr
UNION ALL SELECT 'order ip' FROM adclick_internal.facts(2, '-infinity', 'infinity') WHERE user_id = nr
UNION ALL SELECT 'ledger' FROM adclick_internal.ledger('-infinity', 'infinity') WHERE user_id = nr
UNION ALL SELECT 'key' FROM adclick_internal.ledger('-infinity', 'infinity') WHERE substr(uuid_send(click_key), 1, 8) = bytes(nr)
UNION ALL SELECT 'first key' FROM (TABLE adclick_internal.deltas UNION ALL TABLE final_segments) s JOIN adclick_internal.runs r USING (run_id)
	WHERE first_key = nr AND sort_order = 1
UNION ALL SELECT 'bytes' FROM (TABLE adclick_internal.deltas UNION ALL TABLE final_segments) s,
	unnest(ARRAY[bytes(nr), reversed(bytes(nr)), bytes(nr # x'8000000000000000'::bigint), reversed(bytes(nr # x'8000000000000000'::bigint))]) b
	WHERE position(b IN data) > 0 AND nr IN (SELECT himself(u) FROM generate_series(0, 40) u)
UNION ALL SELECT 'statistics' FROM pg_statistic s WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace IN ('adclick'::regnamespace, 'adclick_internal'::regnamespace))
	AND s::text LIKE '%' || nr || '%' AND nr IN (SELECT himself(u) FROM generate_series(0, 40) u)
$$;

-- What the log is to be: his clicks as those of nobody.
CREATE FUNCTION log_without(nr bigint) RETURNS TABLE (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, received_at timestamptz, ip inet,
	country text, region text, device text) LANGUAGE sql STABLE AS $$
SELECT click_id, ad_id, clicked_at, CASE WHEN user_id IS DISTINCT FROM nr THEN user_id END, received_at, CASE WHEN user_id IS DISTINCT FROM nr THEN ip END,
	country, region, device FROM adclick.click_log
$$;
CREATE TABLE log_before (LIKE adclick.click_log);
CREATE TABLE log_expected AS SELECT * FROM log_without(0);
CREATE TABLE facts_expected AS SELECT * FROM oracle.facts();
CREATE TABLE copies (LIKE adclick.click_log);

CREATE FUNCTION stored_facts() RETURNS SETOF facts_expected LANGUAGE sql STABLE AS $$
SELECT ad_id, click_minute, country, region, device, sum(click_count)::bigint
FROM adclick_internal.facts() JOIN adclick.filters USING (filter_id) GROUP BY 1, 2, 3, 4, 5
$$;

CREATE FUNCTION found() RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(what || ' ' || n, ', '), 'nothing')
FROM (SELECT d.what, count(*) AS n FROM (SELECT DISTINCT date_trunc('hour', h + o * interval '1 hour', 'UTC') AS hour
		FROM adclick_internal.runs, unnest(minutes) h, generate_series(-1, 1) o WHERE sort_order IN (0, 3) AND isfinite(h) AND h BETWEEN now() - interval '12 days' AND now() + interval '3 days') hours,
	adclick_internal.find_differences(hour, true) d GROUP BY 1) f
$$;

CREATE FUNCTION is_exact(step text, may_refuse boolean DEFAULT false) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts(true)', step || ': facts');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_lists()', step || ': lists of most clicked ads');
	RETURN NEXT is_empty(format('SELECT * FROM oracle.wrong_answers(25, false, %L)', may_refuse), step || ': answers');
	RETURN NEXT is((SELECT balanced FROM adclick.check_ledger()), true, step || ': the books');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': rows in the log = counted + duplicates + discarded + tail');
	RETURN NEXT is_empty('SELECT wrong_directory()', step || ': the directory of the ledger');
END
$$;

CREATE FUNCTION is_forgotten(step text, nr bigint, may_refuse boolean DEFAULT false) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	named bigint;
BEGIN
	DELETE FROM log_before; DELETE FROM log_expected; DELETE FROM facts_expected; DELETE FROM copies;
	INSERT INTO log_before SELECT * FROM adclick.click_log;
	INSERT INTO log_expected SELECT * FROM log_without(nr);
	INSERT INTO facts_expected SELECT * FROM oracle.facts();
	INSERT INTO copies SELECT * FROM log_before WHERE user_id = nr AND (verdict = 'counted' OR verdict IS NULL AND clicked_at BETWEEN now() - interval '6 days' AND now());
	SELECT count(*) INTO named FROM log_before WHERE user_id = nr;
	ANALYZE adclick.clicks, adclick_internal.discarded_0, adclick.differences, adclick_internal.unpacked_clicks, adclick_internal.deltas, adclick_internal.segments, adclick_internal.ledger_0, adclick_internal.people_0;
	RETURN NEXT cmp_ok(named, '>', 0::bigint, step || ': he clicked');
	RETURN NEXT is(adclick.forget_user(nr), named, step || ': all his clicks');
	RETURN NEXT is_empty(format('SELECT * FROM traces(%s)', nr), step || ': no trace is left');
	RETURN NEXT is_empty('(TABLE log_expected EXCEPT ALL SELECT * FROM log_without(0)) UNION ALL (SELECT * FROM log_without(0) EXCEPT ALL TABLE log_expected)',
		step || ': his clicks are of nobody, and all others as they were');
	RETURN NEXT is_empty('(TABLE facts_expected EXCEPT ALL SELECT * FROM stored_facts()) UNION ALL (SELECT * FROM stored_facts() EXCEPT ALL TABLE facts_expected)',
		step || ': counts are as they were');
	RETURN NEXT is(oracle.answer(format('SELECT sum(adclick.ad_click_count_between(a, ''-infinity'', ''infinity'', ''{"user_id": %s}'')) FROM generate_series(1, 30) a', nr)),
		CASE WHEN may_refuse THEN oracle.answer(format('SELECT sum(adclick.ad_click_count_between(a, ''-infinity'', ''infinity'', ''{"user_id": %s}'')) FROM generate_series(1, 30) a', nr)) ELSE '0' END,
		step || ': none of his');
	RETURN QUERY SELECT * FROM is_exact(step, may_refuse);
	RETURN NEXT is(found(), 'nothing', step || ': differences');
	RETURN NEXT is(adclick.forget_user(nr), 0::bigint, step || ': once more');
END
$$;

-- Copies of what was forgotten are none that count, whether a tick or a question says so.
CREATE FUNCTION are_copies(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	counted_before bigint := (SELECT clicks_counted FROM adclick.status);
	r record;
BEGIN
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM copies;
	RETURN NEXT cmp_ok((SELECT count(*) FROM copies), '>', 0::bigint, step || ': there are copies');
	RETURN NEXT is((SELECT sum(click_count)::bigint FROM adclick.ad_click_counts), counted_before, step || ': a question counts no copy');
	SELECT * INTO r FROM adclick.tick();
	RETURN NEXT is((r.counted, r.duplicates), (0::bigint, (SELECT count(*) FROM copies)), step || ': nor does a tick');
	RETURN NEXT is(found(), 'nothing', step || ': copies that came later are no difference');
	RETURN NEXT is(adclick.forget_user((SELECT user_id FROM copies LIMIT 1)), (SELECT count(*) FROM copies), step || ': the copies named him again');
	RETURN NEXT is_empty(format('SELECT * FROM traces(%s)', (SELECT user_id FROM copies LIMIT 1)), step || ': no trace is left of them');
	RETURN NEXT is(found(), 'nothing', step || ': copies of nobody are no difference');
END
$$;

SELECT no_plan();
SELECT setseed(0.45) AS seeded \gset
\set name adclick.top_ads_kept
\set value 20
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset

SELECT is(adclick.forget_user(NULL), NULL, 'nobody in particular');
SELECT is(adclick.forget_user(1), 0::bigint, 'there are no clicks');

-- By click id: deltas, hours and minutes, and clicks that no tick has taken.
SELECT send(3000, '8 hours', '0', 1, 8) AS sent \gset
SELECT is_forgotten('unread', himself(1));
SELECT are_copies('unread');
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('unread, compacted');
SELECT is_forgotten('compacted', himself(2));
SELECT are_copies('compacted');
SELECT send(1000, '40 hours', '3 hours', 3, 8) AS sent \gset
SELECT send_copies(200) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT send(300, '30 hours', '0', 3, 8) AS sent \gset
SELECT is_forgotten('late', himself(3));
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('late, compacted');
SELECT is_forgotten('late, compacted', himself(4));
SELECT are_copies('late, compacted');

-- Segments are replaced where they stand: runs of others are the same rows as before.
SELECT send(6000, '3 hours', '0', 5, 8) AS sent \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT gen_random_uuid(), i, now() - i * interval '10 minutes', himself(10), '2001:db8::10' FROM generate_series(1, 5) i;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
CREATE TABLE runs_before AS TABLE adclick_internal.runs;
CREATE TABLE segments_before AS TABLE final_segments;
SELECT is_forgotten('few clicks', himself(10));
SELECT is_empty('SELECT run_id FROM runs_before EXCEPT SELECT run_id FROM adclick_internal.runs', 'no run was written anew for few clicks');
SELECT cmp_ok(count(*), '<=', 25::bigint, 'but only the segments that have them') FROM (SELECT * FROM segments_before EXCEPT SELECT * FROM final_segments) s;

-- Ids whose time is far from the click's stand in runs that have no other bucket.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT oracle.uuid_v7(now() - interval '20 hours'), 5, now(), himself(11), '10.4.4.4';
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT oracle.uuid_v7(now() + interval '20 hours'), 6, now(), himself(11), '10.4.4.5';
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_forgotten('ids of other times', himself(11));
SELECT are_copies('ids of other times');

-- One of whom whole segments are, and whole runs.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip)
SELECT gen_random_uuid(), i, now() - (i % 100) * interval '1 minute', himself(12), '2001:db8::'::inet + i * i::bigint * 4711 FROM generate_series(1, 6000) i;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT send(500, '3 hours', '0', 12, 12) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT 1, now(), himself(12), '10.9.9.9';
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_forgotten('many clicks', himself(12));
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('many clicks, compacted');
SELECT is_forgotten('the largest id', 9223372036854775807);
SELECT is_forgotten('the smallest id', -9223372036854775808);
SELECT is_forgotten('a negative id', -1);

-- In one transaction with other work, and rolled back.
CREATE TABLE log_kept AS SELECT * FROM adclick.click_log;
BEGIN;
SELECT cmp_ok(adclick.forget_user(himself(5)), '>', 0::bigint, 'forgotten');
SELECT is_empty(format('SELECT * FROM traces(%s)', himself(5)), 'no trace is left within the transaction');
ROLLBACK;
SELECT is_empty('(TABLE log_kept EXCEPT ALL SELECT * FROM adclick.click_log) UNION ALL (SELECT * FROM adclick.click_log EXCEPT ALL TABLE log_kept)', 'rolled back');
SELECT is_exact('rolled back');
BEGIN;
SELECT send(200, '1 hour', '0', 5, 6) AS sent \gset
SELECT is_forgotten('in one transaction', himself(5));
SELECT is_forgotten('and another one', himself(6));
COMMIT;
SELECT is_exact('committed');

-- Differences name users.
INSERT INTO adclick.differences VALUES (date_trunc('hour', now(), 'UTC'), 'user', date_trunc('hour', now(), 'UTC'), 1, 0, himself(7), '10.0.0.1', 1, 0);
SELECT is_forgotten('a difference', himself(7));
SELECT is(count(*), 1::bigint, 'the difference is still one') FROM adclick.differences WHERE user_id IS NULL AND ip IS NULL AND what = 'user';
DELETE FROM adclick.differences;

-- Lines of log files that were no clicks name whom nobody knows.
INSERT INTO adclick.bad_lines (source, file, byte_offset, line, sqlstate, reason, set_aside_at)
SELECT 'web', '/var/log/ads/clicks', n, line, '22P02', 'no click' || what, now()
FROM (VALUES (1, format('1001,%s,yesterdy', himself(7)), ''), (2, format('{"ad": 1, "user": "%s', himself(7)), ''), (3, himself(7)::text, ''), (4, 'too long', ': ' || himself(7)),
	(5, format('1001,1%s,%s1', himself(7), himself(7)), ''), (6, '1001,,', ''), (7, format('1001,%s,never', himself(8)), '')) l (n, line, what);
INSERT INTO adclick.clicks (ad_id, user_id) VALUES (1, himself(7));
SELECT is_forgotten('bad lines', himself(7));
SELECT results_eq('SELECT byte_offset FROM adclick.bad_lines ORDER BY 1', 'VALUES (5::bigint), (6), (7)', 'those of others stay');
DELETE FROM adclick.bad_lines;

-- Clicks that orders user and ip do not have.
\set name adclick.user_and_ip_orders
\set value off
\i test/lib/set.psql
SELECT send(1000, '20 hours', '0', 20, 24) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_forgotten('gaps', himself(20), true);
SELECT are_copies('gaps');
SELECT send(500, '10 hours', '0', 20, 24) AS sent \gset
\set value on
\i test/lib/set.psql
SELECT is_forgotten('gaps and a tail', himself(21), true);
SELECT oracle.compact() AS compacted \gset
SELECT send(500, '10 hours', '0', 22, 24) AS sent \gset
SELECT is_forgotten('gaps, and none', himself(22), true);
SELECT cmp_ok(adclick.recompute('-infinity', 'infinity'), '>', 0::bigint, 'all is made anew');
SELECT is_forgotten('no gaps any more', himself(23));

-- By user and ad, where the key is the user.  The oracle knows one rule at a time.
DROP VIEW final_segments;
DROP EXTENSION adclick;
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
CREATE EXTENSION adclick;
CREATE VIEW final_segments AS TABLE adclick_internal.segments UNION ALL TABLE adclick_internal.ledger_0 UNION ALL TABLE adclick_internal.people_0;
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset
SELECT send(2000, '8 hours', '0', 24, 30) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
-- the oracle cannot know which of those alike is to be taken: so these are not
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country) SELECT 500000 + i, now(), himself(24 + i % 3), '10.3.3.3', 'CA' FROM generate_series(1, 20) i;
SELECT is_forgotten('by user and ad', himself(24));
SELECT are_copies('by user and ad');
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('by user and ad, compacted');
SELECT is_forgotten('by user and ad, compacted', himself(25));
SELECT are_copies('by user and ad, compacted');
SELECT is(count(*), 1::bigint, 'one secret serves for both') FROM adclick_internal.dedup_rules WHERE secret IS NOT NULL;
-- New clicks of his are new ones, by whatever key they are not copies.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT gen_random_uuid(), 999999, now(), himself(25), '10.2.2.2';
SELECT counted FROM adclick.tick() \gset
SELECT is(:counted, 1, 'a new click of his counts');
SELECT is(adclick.forget_user(himself(25)), 1::bigint, 'and can be forgotten again');

-- Rolled back to a savepoint, after which a tick goes on with the keys as they were; and some users in one statement.
BEGIN;
SAVEPOINT s;
SELECT cmp_ok(adclick.forget_user(himself(28)), '>', 0::bigint, 'forgotten within a savepoint');
ROLLBACK TO s;
SELECT count(*) AS sent FROM adclick.click_log WHERE user_id = himself(28) AND verdict = 'counted' \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id) SELECT ad_id, clicked_at, user_id FROM adclick.click_log WHERE user_id = himself(28) AND verdict = 'counted';
SELECT counted, duplicates FROM adclick.tick() \gset
SELECT is(:'counted' || ' ' || :'duplicates', '0 ' || :'sent', 'rolled back to the savepoint: copies are duplicates');
SELECT is(count(adclick.forget_user(himself(u))), 2::bigint, 'some users in one statement') FROM generate_series(28, 29) u;
SELECT is_empty(format('SELECT * FROM traces(%s)', himself(u)), 'some users: no trace is left') FROM generate_series(28, 29) u;
SELECT is(found(), 'nothing', 'some users: differences');
COMMIT;
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'some users: the books');

-- Other windows, and rules that are no longer in force.
\set name adclick.dedup_window
\set value 60
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT send(1000, '8 hours', '0', 26, 30) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT send(500, '8 hours', '0', 26, 30) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
CREATE TABLE log_then AS SELECT * FROM adclick.click_log;
SELECT cmp_ok(adclick.forget_user(himself(26)), '>', 0::bigint, 'three rules');
SELECT is_empty(format('SELECT * FROM traces(%s)', himself(26)), 'three rules: no trace is left');
SELECT is(found(), 'nothing', 'three rules: differences');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'three rules: the books');
SELECT is(array_agg(DISTINCT rule_id IS NOT NULL), '{t}', 'each key is of a rule') FROM adclick_internal.ledger('-infinity', 'infinity') l LEFT JOIN adclick_internal.dedup_rules USING (rule_id) WHERE l.rule_id > 0;
SELECT is(count(*), 2::bigint, 'a secret for each window') FROM adclick_internal.dedup_rules WHERE secret IS NOT NULL;
DELETE FROM copies;
INSERT INTO copies SELECT * FROM log_then WHERE user_id = himself(26) AND verdict = 'counted';
SELECT are_copies('three rules');

-- A secret goes once no copy can arrive: its keys stay, and are nobody's.
SELECT count(*) AS secrets FROM adclick_internal.dedup_rules WHERE secret IS NOT NULL \gset
UPDATE adclick_internal.dedup_rules SET last_bucket = last_bucket - 9 * 86400 * 65536::bigint WHERE secret IS NOT NULL AND dedup_window = 60;
INSERT INTO adclick.clicks (ad_id) VALUES (1);
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is(count(*), :secrets - 1::bigint, 'a secret is thrown away once it is of no use') FROM adclick_internal.dedup_rules WHERE secret IS NOT NULL;
SELECT is(found(), 'nothing', 'keys without a secret: differences');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'keys without a secret: the books');

-- What is damaged is said, and nothing is done by half.
CREATE FUNCTION refused(nr bigint, OUT code text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM adclick.forget_user(nr);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END
$$;
SELECT tick AS ticked FROM adclick.tick() \gset
BEGIN;
UPDATE adclick_internal.ledger_0 SET data = set_byte(data, 20, 255 - get_byte(data, 20));
UPDATE adclick_internal.deltas SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order = 3);
SELECT is((code, hint), ('XX001'::text, 'That is the ledger, and nobody is forgotten in part: restore a backup.'::text), 'a damaged ledger: ' || message) FROM refused(himself(27));
SELECT cmp_ok(count(*), '>', 0::bigint, 'he is not forgotten in part') FROM adclick_internal.facts(1, '-infinity', 'infinity') WHERE user_id = himself(27);
ROLLBACK;
BEGIN;
UPDATE adclick_internal.people_0 SET data = set_byte(data, 20, 255 - get_byte(data, 20));
UPDATE adclick_internal.deltas SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order IN (1, 2));
SELECT is((code, hint), ('XX001'::text, 'Make the counts anew first: SELECT adclick.recompute(''-infinity'', ''infinity'').'::text), 'damaged counts: ' || message) FROM refused(himself(27));
SELECT cmp_ok(adclick.recompute('-infinity', 'infinity'), '>', 0::bigint, 'the hint is followed');
SELECT cmp_ok(adclick.forget_user(himself(27)), '>', 0::bigint, 'then he is forgotten');
SELECT is_empty(format('SELECT * FROM traces(%s)', himself(27)), 'and no trace is left');
ROLLBACK;
BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 3;
SELECT is(code, 'XX001', 'no ledger: ' || message) FROM refused(himself(27));
ROLLBACK;
SELECT cmp_ok(adclick.forget_user(himself(27)), '>', 0::bigint, 'at last');
SELECT is_empty(format('SELECT * FROM traces(%s)', himself(27)), 'at last: no trace is left');
SELECT is(found(), 'nothing', 'at last: differences');

-- What retention has dropped from the ledger tells no address any more: all are looked at.  What has
-- come later of the same minutes is still there.
SELECT tick AS ticked FROM adclick.tick() \gset
DROP VIEW final_segments;
DROP EXTENSION adclick;
CREATE EXTENSION adclick;
CREATE VIEW final_segments AS TABLE adclick_internal.segments UNION ALL TABLE adclick_internal.ledger_0 UNION ALL TABLE adclick_internal.people_0;
\set name adclick.raw_retention
\set value 86400
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT send(600, '1 hour', '20 days', 33, 35) AS sent \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) VALUES (3, now() - interval '20 days', himself(33), '10.5.0.0/16');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT cmp_ok(adclick.forget_user(himself(35)), '>', 0::bigint, 'before anything is dropped');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'the books');
UPDATE adclick_internal.volumes SET opened_at = now() - interval '40 days' WHERE shelf = 'ledger';
\set name adclick.ledger_retention
\set value 129600
\i test/lib/set.psql
SELECT volumes_dropped AS dropped FROM adclick.apply_retention() \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT 2, now() - interval '20 days', himself(33), '10.6.6.6' FROM generate_series(1, 3);
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
\set name adclick.raw_retention
\set value 1440
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
\set name adclick.ledger_retention
\set value 14400
\i test/lib/set.psql
UPDATE adclick_internal.volumes SET opened_at = now() - interval '15 days' WHERE shelf = 'ledger' AND volume > 0;
SELECT is(volumes_dropped, 1, 'the first volume is dropped') FROM adclick.apply_retention();
SELECT cmp_ok(count(*), '>', 0::bigint, 'its table waits') FROM adclick_internal.ledger_0;
SELECT cmp_ok(count(*), '>', 10::bigint, 'he has clicks by user that the ledger has not') FROM adclick_internal.facts(1, '-infinity', 'infinity') WHERE user_id = himself(33);
DELETE FROM facts_expected;
INSERT INTO facts_expected SELECT * FROM stored_facts();
BEGIN;
SELECT count(*) AS read FROM adclick_internal.ledger_0 \gset
PREPARE TRANSACTION 'forget_user reader';
SELECT is(code, '55006', 'its table is in use: ' || message) FROM refused(himself(33));
ROLLBACK PREPARED 'forget_user reader';
SELECT count(*) AS in_log FROM adclick.click_log WHERE user_id = himself(33) \gset
SELECT is(adclick.forget_user(himself(33)), :in_log::bigint, 'those of the ledger are told');
SELECT is_empty(format('SELECT * FROM traces(%s)', himself(33)), 'dropped: no trace is left');
SELECT is(count(*), 0::bigint, 'nor any click of the volume that was dropped') FROM adclick_internal.ledger_0;
SELECT is_empty('(TABLE facts_expected EXCEPT ALL SELECT * FROM stored_facts()) UNION ALL (SELECT * FROM stored_facts() EXCEPT ALL TABLE facts_expected)', 'dropped: counts are as they were');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'dropped: the books');
SELECT is_empty('SELECT wrong_directory()', 'dropped: the directory of the ledger');

--
-- What waits is judged as if nobody was forgotten
--

ALTER SYSTEM RESET ALL;
DROP EXTENSION adclick CASCADE;
\set name adclick.raw_retention
\set value 43200
\i test/lib/set.psql
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
CREATE EXTENSION adclick;
-- a copy of a click whose key has left memory, as all have when another rule came into force
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) VALUES (1, now() - interval '20 days', 4, '10.0.0.1');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
\set value user_and_ad
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT 1, clicked_at, 4, '10.0.0.1' FROM adclick.click_log;
SELECT is(adclick.ad_click_count_between(1, '-infinity', 'infinity'), 1::bigint, 'a copy waits');
SELECT is(adclick.forget_user(4), 2::bigint, 'its user is forgotten');
SELECT is(array_agg(verdict ORDER BY verdict), '{counted,duplicate}', 'it was a duplicate') FROM adclick.click_log;
SELECT is(adclick.ad_click_count_between(1, '-infinity', 'infinity'), 1::bigint, 'and the count is as it was');
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT 1, clicked_at, 4, '10.0.0.1' FROM adclick.click_log LIMIT 1;
SELECT is(adclick.ad_click_count_between(1, '-infinity', 'infinity'), 1::bigint, 'also with a copy that comes later');
SELECT is(adclick.forget_user(4), 1::bigint, 'he is forgotten once more');
SELECT is(adclick.ad_click_count_between(1, '-infinity', 'infinity'), 1::bigint, 'and it has not counted');

-- clicks that would be in excess
DROP EXTENSION adclick CASCADE;
\set value click_id
\i test/lib/set.psql
\set name adclick.ip_clicks_per_minute
\set value 1
\i test/lib/set.psql
\set name adclick.user_clicks_per_minute
\set value 2
\i test/lib/set.psql
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip)
VALUES (1, now() - interval '1 day', 4, '10.0.0.1'), (2, now() - interval '1 day', 4, '10.0.0.2'), (3, now() - interval '1 day', 4, '10.0.0.3'), (4, now() - interval '1 day', 5, '10.0.0.1');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT 5, clicked_at, u, ip::inet FROM (SELECT min(clicked_at) AS clicked_at FROM adclick.click_log) l, (VALUES (6, '10.0.0.1'), (4, '10.0.0.4'), (NULL, '10.0.0.2'), (7, '10.0.0.5')) c (u, ip);
CREATE TABLE verdicts_before AS SELECT ad_id, click_id, verdict FROM adclick.click_log WHERE verdict <> 'unread';
SELECT sum(click_count) AS counts_before FROM adclick.ad_click_counts \gset
SELECT is(:counts_before::bigint, 3::bigint, 'some are in excess, some wait');
SELECT is(adclick.forget_user(4), 4::bigint, 'one who has the clicks that they are in excess of is forgotten');
SELECT is(sum(click_count)::bigint, :counts_before::bigint, 'counts are as they were') FROM adclick.ad_click_counts;
SELECT is(array_agg(verdict ORDER BY verdict), '{"address limit","address limit","address limit",counted,counted,counted,"user limit","user limit"}', 'and so are verdicts') FROM adclick.click_log;
ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf() AS reloaded \gset
SELECT * FROM finish();
