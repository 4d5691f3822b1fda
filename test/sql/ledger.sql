-- Every click is in adclick.click_log as it was sent, whatever was sent, and in the ledger if it was counted.
CREATE EXTENSION adclick;
SELECT date_trunc('hour', now()) - interval '3 hours' + interval '0.123457 seconds' AS t \gset

-- What is sent, as it arrived; a click says itself what it is to be.
CREATE TABLE sent (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, received_at timestamptz, ip inet,
	country text, region text, device text);
CREATE FUNCTION send(clicks sent[]) RETURNS bigint LANGUAGE sql AS $$
	WITH arrived AS (
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device)
		SELECT click_id, ad_id, clicked_at, user_id, coalesce(received_at, clock_timestamp()), ip, country, region, device
		FROM unnest(clicks)
		RETURNING click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device
	), kept AS (
		INSERT INTO sent TABLE arrived RETURNING 1
	)
	SELECT count(*) FROM kept $$;
CREATE VIEW logged AS SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device FROM adclick.click_log;
CREATE FUNCTION differences() RETURNS TABLE (what text, click text) LANGUAGE sql AS $$
	SELECT 'lost', left(s::text, 200) FROM (TABLE sent EXCEPT ALL TABLE logged) s
	UNION ALL
	SELECT 'made up', left(l::text, 200) FROM (TABLE logged EXCEPT ALL TABLE sent) l $$;
CREATE VIEW verdicts AS SELECT coalesce(verdict, 'unread') AS verdict, count(*) FROM adclick.click_log GROUP BY 1 ORDER BY 1;

-- Dimensions: each value in each place.
CREATE VIEW texts AS SELECT * FROM unnest(ARRAY[NULL, '', 'unknown', 'other', 'CA', ' ', 'NULL', '''; --', repeat('x', 64), repeat('x', 65),
	repeat('x', 100000), repeat(U&'\00e9', 32), repeat(U&'\00e9', 33), (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i)]) value;
SELECT send(array_agg((gen_random_uuid(), 1, :'t', 2, NULL, NULL,
	CASE place WHEN 1 THEN value ELSE 'c' END, CASE place WHEN 2 THEN value ELSE 'r' END, CASE place WHEN 3 THEN value ELSE 'd' END)::sent))
FROM texts CROSS JOIN generate_series(1, 3) place;
SELECT send(array_agg((gen_random_uuid(), 1, :'t', 2, NULL, NULL, value, value, value)::sent)) FROM texts;
SELECT send(array_agg((gen_random_uuid(), 1, :'t', 2, NULL, NULL, a.value, b.value, NULL)::sent))
FROM texts a CROSS JOIN texts b WHERE length(a.value) < 10 AND length(b.value) < 10;
-- a short value that is compressed beside long ones that are not
SELECT send(array_agg((gen_random_uuid(), 1, :'t', 2, NULL, NULL, long, long, repeat('x', 64))::sent))
FROM (SELECT string_agg(md5(i::text), '') AS long FROM generate_series(1, 47) i) l;

-- Addresses, with a mask or without
SELECT send(array_agg((gen_random_uuid(), 3, :'t', 4, NULL, address, NULL, NULL, NULL)::sent))
FROM unnest('{NULL,0.0.0.0,255.255.255.255,203.0.113.7,203.0.113.7/32,203.0.113.7/31,10.0.0.0/8,10.1.2.3/8,0.0.0.0/0,::,::1,::ffff:1.2.3.4,
	2001:db8::17,2001:db8::17/128,2001:db8::17/127,2001:db8::/32,::/0,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff}'::inet[]) address;

-- Ids, and ads and users at the ends of their range
SELECT send(array_agg((id, 5, :'t', 6, NULL, '203.0.113.7', 'CA', NULL, '')::sent))
FROM unnest('{NULL,00000000-0000-0000-0000-000000000000,7fffffff-ffff-ffff-ffff-ffffffffffff,
	ffffffff-ffff-ffff-ffff-ffffffffffff,019aa9d4-70a0-7c11-8b7e-5f0f3a010001,019aa9d4-70a0-7c11-8b7e-5f0f3a010002}'::uuid[]) id;
SELECT send(array_agg((gen_random_uuid(), ad, :'t', app_user, NULL, '203.0.113.7', 'CA', NULL, '')::sent))
FROM unnest('{-9223372036854775808,-1,0,1,9223372036854775807}'::bigint[]) ad
	CROSS JOIN unnest('{NULL,-9223372036854775808,-1,0,1,9223372036854775807}'::bigint[]) app_user;
SELECT send(array_agg((NULL, ad, :'t', app_user, NULL, '203.0.113.7', 'CA', NULL, '')::sent))
FROM unnest('{-9223372036854775808,-1,0}'::bigint[]) ad CROSS JOIN unnest('{NULL,-9223372036854775808,0}'::bigint[]) app_user;

-- Times; those that cannot be are discarded, and stand in the log all the same.
SELECT send(array_agg((gen_random_uuid(), 7, clicked_at, 8, NULL, '203.0.113.7', 'CA', NULL, '')::sent))
FROM unnest(ARRAY[NULL, 'infinity', '-infinity', '4713-01-01 00:00Z BC', '294276-12-31 23:59:59.999999Z', '1999-12-31 23:59:59.999999Z',
	:'t'::timestamptz + interval '1 us', :'t'::timestamptz - interval '1 us', now() - interval '6 days 23 hours', now() + interval '4 minutes',
	now() + interval '6 minutes']::timestamptz[]) clicked_at;
SELECT send(array_agg((gen_random_uuid(), 7, clicked_at, 8, received_at, NULL, NULL, NULL, NULL)::sent))
FROM unnest('{NULL,2001-01-01 00:00:00.000001Z,1999-12-31 23:59:59.999999Z}'::timestamptz[]) clicked_at
	CROSS JOIN unnest('{2001-01-01 00:00:00.000001Z,1999-12-31 23:59:59.999999Z,infinity,-infinity}'::timestamptz[]) received_at;

-- Copies: with an id one counts; without all of them do, each with an id of its own.
SELECT send(array_agg(('00000000-0000-4000-8000-000000000001', 9, :'t', 10, NULL, NULL, i::text, NULL, NULL)::sent)) FROM generate_series(1, 3) i;
SELECT send(array_agg((NULL, 9, :'t', user_id, :'t', ip, NULL, NULL, device)::sent))
FROM generate_series(1, 5) i CROSS JOIN (VALUES (11, '::1'::inet, 'tv'), (NULL, NULL, NULL), (11, '::1/64', NULL)) c (user_id, ip, device);

TABLE verdicts;
SELECT * FROM differences();
SELECT * FROM adclick.check_ledger();
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
TABLE verdicts;
SELECT * FROM differences();
SELECT * FROM adclick.check_ledger();
-- Few need a row of their own.
SELECT count(*), count(*) FILTER (WHERE masklen(ip) NOT IN (32, 128) OR (family(ip) = 6 AND masklen(ip) = 32)) AS networks
FROM adclick_internal.unpacked_clicks;

-- By user and ad: the id is not the key, and a click without a user has none.
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick();
SELECT send(array_agg((id, 21, :'t', app_user, NULL, '203.0.113.7', 'CA', NULL, '')::sent))
FROM unnest('{019aa9d4-70a0-7c11-8b7e-5f0f3a010003,00000000-0000-0005-0000-000000000015,00000000-0000-0000-0000-000000000000,NULL}'::uuid[]) id
	CROSS JOIN unnest('{NULL,NULL,0,-9223372036854775808}'::bigint[]) app_user;
SELECT send(ARRAY[('00000000-0000-0005-0000-000000000015', 21, :'t', 5, NULL, NULL, NULL, NULL, NULL)]::sent[]);
SELECT send(array_agg((NULL, 22, :'t', NULL, :'t', NULL, NULL, NULL, NULL)::sent)) FROM generate_series(1, 5) i;
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
-- A key is not one of those without: these are where they stand, by this rule and by the other.
SELECT send(ARRAY[(NULL, 0, :'t', -9223372036854775808, NULL, NULL, NULL, NULL, NULL)]::sent[]);
SELECT counted FROM adclick.tick();
\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick();
SELECT send(ARRAY[('80000000-0000-0000-0000-000000000000', 23, :'t', 0, NULL, NULL, NULL, NULL, NULL)]::sent[]);
SELECT counted FROM adclick.tick();
TABLE verdicts;
SELECT * FROM differences();
SELECT * FROM adclick.check_ledger();

-- Combinations beyond the limit: they count as other, and are logged as they are.
\set name adclick.max_filters
\set value 1
\i test/lib/set.psql
SELECT send(array_agg((gen_random_uuid(), 30, :'t', 31, NULL, '203.0.113.7', 'new', value, '')::sent)) FROM texts WHERE length(value) < 10;
SELECT send(ARRAY[(gen_random_uuid(), 30, :'t', 31, NULL, '203.0.113.7', 'other', 'other', 'other'),
	(gen_random_uuid(), 30, :'t', 31, NULL, '203.0.113.7', NULL, 'CA', NULL)]::sent[]);
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
\set value 10000
\i test/lib/set.psql
SELECT country, region, device, click_count FROM adclick_internal.facts() JOIN adclick.filters USING (filter_id) WHERE ad_id = 30 ORDER BY 1, 2, 3;
SELECT * FROM differences();

-- Many, of several ticks; then from runs that were merged.
SELECT send(array_agg((CASE WHEN i % 3 > 0 THEN gen_random_uuid() END, i % 100, :'t'::timestamptz + i * interval '1 s', nullif(i % 1000, 7), NULL,
	'10.0.0.0'::inet + i % 3000, 'C' || i % 7, nullif('R' || i % 5, 'R3'), '')::sent))
FROM generate_series(1, 6000) i;
SELECT counted FROM adclick.tick();
SELECT send(array_agg((click_id, ad_id, clicked_at, user_id, NULL, ip, country, region, device)::sent)) FROM (SELECT * FROM sent WHERE ad_id BETWEEN 40 AND 49) s;
SELECT * FROM differences();
SELECT counted, duplicates FROM adclick.tick();
SELECT * FROM differences();
SELECT send(ARRAY[(gen_random_uuid(), 50, now(), 51, NULL, NULL, NULL, NULL, NULL)]::sent[]);
SELECT counted FROM adclick.tick();
DO $$ BEGIN WHILE (SELECT more FROM adclick.compact()) LOOP END LOOP; END $$;
SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 3;
SELECT * FROM differences();
SELECT taken, counted, duplicates, discarded, unread, in_ledger, balanced FROM adclick.check_ledger();
SELECT verdict, count(*) FROM adclick.click_log GROUP BY 1 ORDER BY 1;

-- In a transaction of its own snapshot, and in one that may not write
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT * FROM differences();
SELECT balanced FROM adclick.check_ledger();
COMMIT;

-- Nothing that is missing, or there twice, goes unnoticed.
CREATE FUNCTION balanced_after(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	answer boolean;
BEGIN
	BEGIN
		EXECUTE statement;
		SELECT balanced INTO answer FROM adclick.check_ledger();
		RAISE EXCEPTION USING ERRCODE = 'XXXXX';
	EXCEPTION WHEN SQLSTATE 'XXXXX' THEN
		RETURN answer;
	END;
END $$;
SELECT statement, balanced_after(statement) FROM unnest(ARRAY['SELECT 1',
	$$DELETE FROM adclick_internal.discarded_0 WHERE ctid = (SELECT min(ctid) FROM adclick_internal.discarded_0 WHERE reason = 'duplicate')$$,
	$$DELETE FROM adclick_internal.discarded_0 WHERE ctid = (SELECT min(ctid) FROM adclick_internal.discarded_0 WHERE reason = 'too old')$$,
	$$UPDATE adclick_internal.discarded_0 SET reason = 'too old' WHERE ctid = (SELECT min(ctid) FROM adclick_internal.discarded_0 WHERE reason = 'duplicate')$$,
	$$UPDATE adclick_internal.discarded_0 SET reason = 'undecided' WHERE ctid = (SELECT min(ctid) FROM adclick_internal.discarded_0 WHERE reason = 'too old')$$,
	$$INSERT INTO adclick_internal.discarded_0 SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, 'dull', now() FROM adclick.click_log LIMIT 1$$,
	'DELETE FROM adclick_internal.unpacked_clicks WHERE ctid = (SELECT min(ctid) FROM adclick_internal.unpacked_clicks)',
	'INSERT INTO adclick_internal.unpacked_clicks SELECT * FROM adclick_internal.unpacked_clicks LIMIT 1',
	'DELETE FROM adclick_internal.runs WHERE run_id = (SELECT min(run_id) FROM adclick_internal.runs WHERE sort_order = 0)',
	'DELETE FROM adclick_internal.runs WHERE run_id = (SELECT min(run_id) FROM adclick_internal.runs WHERE sort_order = 3)',
	'UPDATE adclick_internal.state SET counted = counted + 1, rows_read = rows_read + 1',
	'UPDATE adclick_internal.state SET rows_read = rows_read + 1']) statement;

DROP EXTENSION adclick CASCADE;
DROP VIEW texts;
DROP FUNCTION send, differences, balanced_after;
DROP TABLE sent;
ALTER SYSTEM RESET adclick.dedup_by;
ALTER SYSTEM RESET adclick.max_filters;
SELECT pg_reload_conf();
