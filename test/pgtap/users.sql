-- Unique users of so many clicks that they are counted in pieces of the range of users: ids of all sizes and signs, one
-- user with more clicks than a piece has, clicks without a user; in the tail, in deltas, in final runs and in all of them.

\set ON_ERROR_STOP on

CREATE TABLE sent (ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet, country text);

-- Of ad 1 a third, of the others the less the higher their number; no click has a copy.
CREATE FUNCTION send(clicks int) RETURNS bigint LANGUAGE sql AS $$
WITH new AS (
	INSERT INTO sent
	SELECT CASE WHEN i % 3 = 0 THEN 1 ELSE floor(exp(random() * ln(5000))) END, now() - random() * interval '150 minutes',
		CASE WHEN i % 4 = 0 THEN 7 WHEN i % 101 = 0 THEN NULL WHEN i % 103 = 0 THEN '9223372036854775807'::bigint WHEN i % 107 = 0 THEN '-9223372036854775808'::bigint
			WHEN i % 10 <> 1 THEN floor(random() * 20000)::bigint ELSE ((random() - 0.5) * 1.8e19)::bigint END,
		'10.0.0.0'::inet + i % 5000, 'C' || i % 5
	FROM generate_series(1, clicks) i RETURNING *
), inserted AS (
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country) SELECT NULL, * FROM new RETURNING 1
)
SELECT count(*) FROM inserted
$$;

CREATE FUNCTION wrong_users() RETURNS TABLE (ad bigint, "from" timestamptz, "to" timestamptz, filters jsonb, expected bigint, answer bigint)
	LANGUAGE sql STABLE SET work_mem = '64MB' AS $$
SELECT * FROM (
	SELECT ad, "from", "to", jsonb_strip_nulls(jsonb_build_object('country', f.country, 'user_id', f.user_id, 'ip', f.ip)),
		(SELECT count(DISTINCT user_id) FROM sent s WHERE s.ad_id = ad AND clicked_at >= "from" AND clicked_at < "to"
			AND (f.country IS NULL OR s.country = f.country) AND (f.user_id IS NULL OR s.user_id = ANY (f.user_id)) AND (f.ip IS NULL OR s.ip <<= f.ip)) AS expected,
		adclick.unique_users_between(ad, "from", "to", jsonb_strip_nulls(jsonb_build_object('country', f.country, 'user_id', f.user_id, 'ip', f.ip))) AS answer
	FROM unnest('{1, 2, 3, 20, 4000, 6000}'::bigint[]) ad,
		(VALUES ('-infinity'::timestamptz, 'infinity'::timestamptz), (date_trunc('minute', now()) - interval '100 minutes', date_trunc('minute', now()) - interval '33 minutes')) w ("from", "to"),
		(VALUES (NULL, NULL::bigint[], NULL::inet), ('C3', NULL, NULL), (NULL, '{7, 9223372036854775807, 12}', NULL), (NULL, NULL, '10.0.0.0/21'), ('C1', '{7, 13, 14}', '10.0.0.0/20')) f (country, user_id, ip)) x
WHERE expected <> answer
$$;

SELECT no_plan();

SELECT send(3000) AS sent \gset
SELECT is_empty('SELECT * FROM wrong_users()', 'a tail');
SELECT counted FROM adclick.tick() \gset
SELECT is_empty('SELECT * FROM wrong_users()', 'taken');

SELECT send(150000) AS sent \gset
SELECT adclick.tick() IS NOT NULL AS ticked \gset
SELECT is_empty('SELECT * FROM wrong_users()', 'many, in deltas');
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT cmp_ok(max(segments), '>=', 80, 'a run of many pieces') FROM adclick_internal.runs WHERE sort_order = 1;
SELECT is_empty('SELECT * FROM wrong_users()', 'many, compacted');

SELECT send(20000) AS sent \gset
SELECT adclick.tick() IS NOT NULL AS ticked \gset
SELECT send(3000) AS sent \gset
SELECT is_empty('SELECT * FROM wrong_users()', 'runs, deltas and a tail');
SELECT isnt(adclick.unique_users_between(1, '-infinity', 'infinity'), 0::bigint, 'there are some');
SELECT * FROM finish();
