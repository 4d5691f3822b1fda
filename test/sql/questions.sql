-- Users, addresses, advertisers and the other questions on a handful of clicks: in the
-- tail, after a tick, after compaction.  (counts.sql has windows, dimensions and the top.)
CREATE EXTENSION adclick;
SET timezone = 'UTC';

-- Half an hour ago, at the start of a dedup bucket.
SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') - interval '30 minutes' AS t \gset

CREATE TABLE data (ad_id bigint, minute int, user_id bigint, ip inet, country text, device text, clicks int);
INSERT INTO data VALUES
	(1, 0, 501, '203.0.113.7', 'CA', 'mobile', 3),
	(1, 0, 501, '203.0.113.7', 'US', 'mobile', 1),
	(1, 0, 502, '203.0.113.7', 'CA', 'desktop', 2),
	(1, 1, 501, '203.0.113.9', 'CA', 'mobile', 1),
	(1, 5, 503, '2001:db8::17', NULL, 'tablet', 2),
	-- an address is that of the host, whatever network stands with it
	(2, 0, 501, '203.0.113.7/24', 'CA', 'mobile', 4),
	(2, 2, 503, '2001:db8::17/32', 'DE', 'mobile', 1),
	(2, 2, NULL, '198.51.100.20', 'DE', 'mobile', 5),
	(2, 3, 504, NULL, 'DE', NULL, 6),
	(3, 3, NULL, NULL, 'DE', 'mobile', 7),
	-- the same 128 bits, or 32, in the other family
	(4, 4, 601, '::203.0.113.7', 'FR', 'mobile', 1),
	(4, 4, 601, '::ffff:203.0.113.7', 'FR', 'mobile', 1),
	(4, 4, 601, '::', 'FR', 'mobile', 1),
	(4, 4, 601, '0.0.0.0', 'FR', 'mobile', 1),
	(4, 4, 601, 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'FR', 'mobile', 1),
	(4, 4, 601, '255.255.255.255', 'FR', 'mobile', 1),
	-- on both sides of 2^63 and 2^64 in an address
	(5, 4, 0, '2001:db8:0:0:7fff:ffff:ffff:ffff', 'FR', 'mobile', 1),
	(5, 4, -1, '2001:db8:0:0:8000::', 'FR', 'mobile', 1),
	(5, 4, 9223372036854775807, '2001:db8:0:1::', 'FR', 'mobile', 1),
	(5, 4, -9223372036854775808, '8000::', 'FR', 'mobile', 1),
	(6, 20, 501, '203.0.113.7', 'CA', 'mobile', 1);
INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url, website) VALUES
	(1, 7, 'https://example.com/1', 'example.com'), (2, 7, NULL, NULL), (3, 8, NULL, NULL), (4, NULL, NULL, NULL),
	(6, -9223372036854775808, NULL, NULL), (99, 7, NULL, NULL), (100, 9, NULL, NULL);

-- The same questions again and again.
CREATE FUNCTION ask(t timestamptz) RETURNS TABLE (question text, answer text) LANGUAGE sql AS $$
	SELECT format('ad %s, %s to %s %s', ad, "from", "to", filters), adclick.ad_click_count_between(ad, t + "from" * interval '1 minute', t + "to" * interval '1 minute', filters)::text
	FROM (VALUES (1, 0, 30, '{"user_id": 501}'::jsonb),
		(1, 0, 1, '{"user_id": 501}'),
		(1, 1, 30, '{"user_id": 501}'),
		(1, 0, 30, '{"user_id": [501, 502]}'),
		(1, 0, 30, '{"user_id": [501, 501, 777]}'),
		(1, 0, 30, '{"user_id": 777}'),
		(1, 0, 30, '{"user_id": []}'),
		(1, 0, 30, '{"user_id": 5.01e2}'),
		(1, 0, 30, '{"user_id": 501, "country": "CA"}'),
		(1, 0, 30, '{"user_id": 501, "country": "CA", "device": ["mobile", "tablet"], "ip": "203.0.113.7"}'),
		(1, 0, 30, '{"user_id": 502, "ip": "203.0.113.9"}'),
		(1, 0, 30, '{"ip": "203.0.113.7"}'),
		(1, 0, 30, '{"ip": "203.0.113.7/32"}'),
		(1, 0, 30, '{"ip": ["203.0.113.7", "203.0.113.9"]}'),
		(1, 0, 30, '{"ip": ["203.0.113.7", "203.0.113.0/24", "203.0.0.0/16"]}'),
		(1, 0, 30, '{"ip": ["203.0.113.7", "2001:db8::/32"]}'),
		(1, 0, 30, '{"ip": "203.0.113.8/31"}'),
		(1, 0, 30, '{"ip": "203.0.113.200/24"}'),
		(1, 0, 30, '{"ip": "0.0.0.0/0"}'),
		(1, 0, 30, '{"ip": "::/0"}'),
		(1, 0, 30, '{"ip": ["::/0", "0.0.0.0/0"]}'),
		(1, 0, 30, '{"ip": "2001:DB8:0::0017"}'),
		(1, 0, 30, '{"ip": []}'),
		(1, 0, 30, '{"advertiser_id": 7}'),
		(1, 0, 30, '{"advertiser_id": 8}'),
		(1, 0, 30, '{"advertiser_id": [8, 7], "user_id": 501}'),
		(1, 0, 30, '{"advertiser_id": []}'),
		(2, 0, 30, '{"ip": "203.0.113.7"}'),
		(2, 0, 30, '{"ip": "203.0.113.0/24"}'),
		(2, 0, 30, '{"ip": "2001:db8::17"}'),
		(2, 0, 30, '{"ip": "0.0.0.0/0"}'),
		(2, 0, 30, '{"user_id": 504}'),
		(2, 0, 30, '{"user_id": 504, "ip": "::/0"}'),
		(3, 0, 30, '{"ip": ["::/0", "0.0.0.0/0"]}'),
		(3, 0, 30, '{"device": "mobile"}'),
		(4, 0, 30, '{"ip": "203.0.113.7"}'),
		(4, 0, 30, '{"ip": "::203.0.113.7"}'),
		(4, 0, 30, '{"ip": "::/96"}'),
		(4, 0, 30, '{"ip": "::ffff:0.0.0.0/96"}'),
		(4, 0, 30, '{"ip": "255.255.255.255"}'),
		(4, 0, 30, '{"ip": "128.0.0.0/1"}'),
		(4, 0, 30, '{"ip": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}'),
		(4, 0, 30, '{"ip": "::/0"}'),
		(4, 0, 30, '{"advertiser_id": 7}'),
		(5, 0, 30, '{"ip": "2001:db8::/64"}'),
		(5, 0, 30, '{"ip": "2001:db8::/65"}'),
		(5, 0, 30, '{"ip": "2001:db8:0:0:8000::/65"}'),
		(5, 0, 30, '{"ip": "2001:db8::/63"}'),
		(5, 0, 30, '{"ip": "8000::/1"}'),
		(5, 0, 30, '{"user_id": 0}'),
		(5, 0, 30, '{"user_id": -1}'),
		(5, 0, 30, '{"user_id": [9223372036854775807, -9223372036854775808]}')) q(ad, "from", "to", filters)
	UNION ALL
	SELECT 'top ' || n || ' ' || filters, (SELECT string_agg(rank || ': ' || ad_id || ' ' || click_count, ', ')
		FROM adclick.top_n_ads_between(n, t, t + interval '30 minutes', filters))
	FROM (VALUES (9, '{"user_id": 501}'::jsonb),
		(1, '{"user_id": 501}'),
		(9, '{"user_id": [501, 503, 503]}'),
		(9, '{"user_id": 501, "country": ["CA", "US"], "ip": "203.0.113.0/28"}'),
		(9, '{"ip": "203.0.113.7"}'),
		(9, '{"ip": "0.0.0.0/0"}'),
		(9, '{"ip": ["::/0", "203.0.113.9", "203.0.113.9/32"]}'),
		(9, '{"advertiser_id": 7}'),
		(9, '{"advertiser_id": [7, 8, 7]}'),
		(9, '{"advertiser_id": 7, "country": "DE"}'),
		(9, '{"advertiser_id": 7, "user_id": 503}'),
		(9, '{"advertiser_id": 12345}'),
		(9, '{"advertiser_id": -9223372036854775808}')) q(n, filters)
	UNION ALL
	SELECT format('series by %s to %s %s', bucket, "to", filters), (SELECT string_agg(extract(epoch FROM "time" - t)::int / 60 || ': ' || click_count, ', ')
		FROM adclick.click_series(1, t - interval '1 minute', t + "to" * interval '1 minute', bucket, filters))
	FROM (VALUES (interval '1 minute', 7, '{}'::jsonb),
		('2 minutes', 7, '{}'),
		('1 hour', 7, '{}'),
		('5 minutes', 30, '{"user_id": 501}'),
		('3 minutes', 7, '{"ip": "2001:db8::/32"}'),
		('10 minutes', 29, '{"country": "nowhere"}'),
		('1 minute', -1, '{}')) q(bucket, "to", filters)
	UNION ALL
	SELECT 'advertiser ' || advertiser || ' ' || filters, adclick.advertiser_click_count_between(advertiser, t, t + interval '30 minutes', filters)::text
	FROM (VALUES (7, '{}'::jsonb), (8, '{}'), (9, '{}'), (12345, '{}'), (-9223372036854775808, '{}'), (7, '{"country": "DE"}'),
		(7, '{"user_id": 503}'), (7, '{"ip": "203.0.113.7"}'), (7, '{"advertiser_id": 7}'), (7, '{"advertiser_id": 8}')) q(advertiser, filters)
	UNION ALL
	SELECT 'users of ' || ad || ' ' || filters, adclick.unique_users_between(ad, t, t + interval '30 minutes', filters)::text
	FROM (VALUES (1, '{}'::jsonb), (2, '{}'), (3, '{}'), (4, '{}'), (5, '{}'), (12345, '{}'), (1, '{"country": "CA"}'),
		(1, '{"ip": "203.0.113.7"}'), (1, '{"user_id": [501, 503, 504]}'), (1, '{"advertiser_id": 8}')) q(ad, filters)
	UNION ALL
	SELECT 'ad ' || ad || ' by ' || dimension || ' ' || filters, (SELECT string_agg(value || ' ' || click_count, ', ')
		FROM adclick.breakdown_between(ad, t, t + interval '30 minutes', dimension, filters))
	FROM (VALUES (1, 'country', '{}'::jsonb), (1, 'region', '{}'), (1, 'device', '{}'), (2, 'device', '{}'), (5, 'country', '{}'),
		(12345, 'country', '{}'), (1, 'country', '{"country": "CA"}'), (1, 'device', '{"user_id": 501}'),
		(1, 'country', '{"ip": "203.0.113.7"}'), (1, 'country', '{"advertiser_id": 8}')) q(ad, dimension, filters)
	UNION ALL
	VALUES ('an hour: clicks of a user', adclick.ad_click_count(1, 60, '{"user_id": 501}')::text),
		('an hour: advertiser', adclick.advertiser_click_count(7, 60)::text),
		('an hour: users', adclick.unique_users(1, 60)::text),
		('an hour: by country', (SELECT string_agg(value || ' ' || click_count, ', ') FROM adclick.breakdown(1, 60, 'country'))),
		('this minute: users', adclick.unique_users(1, 1)::text),
		('ever: users', adclick.unique_users_between(1, timestamptz '-infinity', 'infinity')::text),
		('ever: advertiser', adclick.advertiser_click_count_between(7, timestamptz '-infinity', 'infinity', '{"ip": "203.0.113.0/24"}')::text),
		('ever: by device', (SELECT string_agg(value || ' ' || click_count, ', ')
			FROM adclick.breakdown_between(1, timestamptz '-infinity', 'infinity', 'device', '{"user_id": 501}')))
$$;

INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, device)
SELECT NULL, ad_id, :'t'::timestamptz + minute * interval '1 minute' + i * interval '5 seconds', user_id, ip, country, device
FROM data, generate_series(1, clicks) i;

\pset null '(null)'
SELECT * FROM ask(:'t');
CREATE TABLE first_answers AS SELECT * FROM ask(:'t');

-- After a tick
SELECT counted FROM adclick.tick();
(TABLE first_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE first_answers);

-- After compaction
SELECT minutes_written FROM adclick.compact();
(TABLE first_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE first_answers);

-- All of them once more: in the tail, after a tick, after compaction
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, device)
SELECT NULL, ad_id, :'t'::timestamptz + minute * interval '1 minute' + i * interval '5 seconds', user_id, ip, country, device
FROM data, generate_series(1, clicks) i
WHERE ad_id <= 2;
CREATE TABLE second_answers AS SELECT * FROM ask(:'t');
SELECT f.question, f.answer AS first, s.answer AS second
FROM first_answers f JOIN second_answers s USING (question) WHERE f.answer IS DISTINCT FROM s.answer;
SELECT counted FROM adclick.tick();
(TABLE second_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE second_answers);
SELECT minutes_written > 0 AS written FROM adclick.compact();
(TABLE second_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE second_answers);

-- An ad of another advertiser from now on
UPDATE adclick.ads SET advertiser_id = 8 WHERE ad_id = 1;
SELECT adclick.advertiser_click_count(7, 60) AS seven, adclick.advertiser_click_count(8, 60) AS eight;
DELETE FROM adclick.ads;
SELECT adclick.advertiser_click_count(7, 60) AS seven, adclick.ad_click_count(1, 60, '{"advertiser_id": 7}') AS ad;

-- NULL is answered by NULL, or by no row
SELECT adclick.advertiser_click_count(NULL, 60), adclick.advertiser_click_count(7, NULL), adclick.advertiser_click_count(7, 60, NULL),
	adclick.unique_users(NULL, 60), adclick.unique_users_between(1, NULL, timestamptz 'infinity');
SELECT * FROM adclick.click_series(1, :'t', :'t', NULL);
SELECT * FROM adclick.click_series(1, :'t', NULL, '1 minute');
SELECT * FROM adclick.breakdown(1, 60, NULL);
SELECT * FROM adclick.breakdown(NULL, 60, 'country');
SELECT * FROM adclick.explain_top_n(NULL, 60);
SELECT adclick.add_filter(NULL), adclick.drop_filter(NULL);

--
-- Series in the calendar of the session
--
SET timezone = 'America/New_York';
SELECT * FROM adclick.click_series(12345, '2026-03-06 00:00', '2026-03-10 00:00', '1 day');
SELECT * FROM adclick.click_series(12345, '2026-10-31 00:00', '2026-11-03 00:00', '1 day');
SELECT * FROM adclick.click_series(12345, '2026-11-01 00:00', '2026-11-01 03:00', '30 minutes');
SELECT * FROM adclick.click_series(12345, '2026-01-01 00:00', '2026-04-15 00:00', '1 month');
SELECT * FROM adclick.click_series(12345, '2026-03-07 12:00', '2026-03-09 12:00', '1 day 1 hour');
SET timezone = 'UTC';
SELECT count(*), max("time") FROM adclick.click_series(12345, '2000-01-01 00:00', '2026-01-01 00:00', '1 week');
SELECT count(*) FROM adclick.click_series(12345, '2025-01-01 00:00', timestamptz '2025-01-01 00:00' + interval '1000000 minutes', '1 minute');
-- Nor does a bucket have to end before the last time there is.
SELECT bucket, count(*), max("time") FROM unnest('{1000 years,178000000 years,2147483647 months,2147483647 days,2147483640 hours,
	178956970 years 7 months 2147483647 days 2147483640 hours}'::interval[]) bucket,
	adclick.click_series(12345, '0001-01-01 00:00Z', '10000-01-01 00:00Z', bucket) GROUP BY 1 ORDER BY 1;

--
-- Lists of most clicked ads
--
\pset null ''
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset
SELECT adclick.add_filter('{"device": "mobile", "country": "DE"}') AS de_mobile \gset
SELECT adclick.add_filter('{"region": "unknown"}') AS unknown \gset
SELECT adclick.add_filter('{"country": "CA"}') = :ca AS same;
SELECT country, region, device FROM adclick.filters WHERE filter_id = 0 OR country IS NULL OR region IS NULL OR device IS NULL
ORDER BY filter_id;
SELECT round(extract(epoch FROM click_minute - :'t') / 60) AS minute, country, region, device, most_clicked_ads, cut_off
FROM adclick.most_clicked_ads JOIN adclick.filters USING (filter_id) ORDER BY 1, filter_id;
SELECT (most_clicked_ads[1]).ad_id, (most_clicked_ads[1]).click_count, (a).ad_id AS also
FROM adclick.most_clicked_ads, unnest(most_clicked_ads) a WHERE click_minute = :'t' AND filter_id = :ca;
SELECT way, lists, cut_off, nth_count, probes, tail FROM adclick.explain_top_n_between(1, :'t', :'t'::timestamptz + interval '10 minutes', '{"country": "CA"}');
SELECT * FROM adclick.top_n_ads_between(1, :'t', :'t'::timestamptz + interval '10 minutes', '{"country": "CA"}');
SELECT adclick.drop_filter('{"country": "CA"}');
SELECT way, lists > 0 AS lists FROM adclick.explain_top_n_between(1, :'t', :'t'::timestamptz + interval '10 minutes', '{"country": "CA"}');
SELECT * FROM adclick.top_n_ads_between(1, :'t', :'t'::timestamptz + interval '10 minutes', '{"country": "CA"}');
SELECT way FROM adclick.explain_top_n(1, 60, '{"user_id": 501}');
SELECT way FROM adclick.explain_top_n(1, 60, '{"ip": "203.0.113.7"}');
SELECT count(*) AS orphans FROM adclick.most_clicked_ads WHERE filter_id NOT IN (SELECT filter_id FROM adclick.filters);

-- Shorter lists, from the next compaction on
\set name adclick.top_ads_kept
\set value 2
\i test/lib/set.psql
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country)
SELECT NULL, ad, :'t'::timestamptz + interval '6 minutes', 'CA' FROM generate_series(11, 15) ad, generate_series(1, 16 - ad);
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country)
SELECT NULL, ad, :'t'::timestamptz + interval '7 minutes', 'CA' FROM unnest('{15,13,14,11,12}'::bigint[]) ad, generate_series(1, 3);
-- their minutes are over
INSERT INTO adclick.clicks (ad_id) VALUES (6);
SELECT counted FROM adclick.tick();
SELECT minutes_written FROM adclick.compact();
SELECT round(extract(epoch FROM click_minute - :'t') / 60) AS minute, most_clicked_ads, cut_off
FROM adclick.most_clicked_ads WHERE filter_id = 0 AND click_minute >= :'t'::timestamptz + interval '5 minutes' ORDER BY 1;
\set value 1000
\i test/lib/set.psql

SELECT * FROM oracle.wrong_facts();
SELECT oracle.lost();
DROP FUNCTION ask;
DROP TABLE data, first_answers, second_answers;
DROP EXTENSION adclick CASCADE;
ALTER SYSTEM RESET adclick.top_ads_kept;
SELECT pg_reload_conf();
