-- What is not counted, why, and what no click can do: stop a tick.
CREATE EXTENSION adclick;
SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') - interval '30 minutes' AS t \gset

-- Times no click can have; the tolerances count from the arrival of each.
INSERT INTO adclick.clicks (ad_id, clicked_at, country) VALUES
	(1, 'infinity', 'infinity'),
	(1, '-infinity', '-infinity'),
	(1, '9999-12-31 23:59:59Z', 'year 9999'),
	(1, '294276-12-31 23:59:59.999999Z', 'the last time'),
	(1, '4713-01-01 00:00Z BC', 'the first time'),
	(1, '1969-12-31 23:59:59Z', 'before 1970'),
	(1, clock_timestamp() + interval '6 minutes', 'six minutes ahead'),
	(1, clock_timestamp() - interval '7 days 1 minute', 'more than a week ago'),
	(2, clock_timestamp() + interval '4 minutes', 'four minutes ahead'),
	(2, clock_timestamp() - interval '6 days 23 hours', 'nearly a week ago'),
	(2, NULL, 'no time'),
	(2, now(), 'now');
SELECT adclick.ad_click_count_between(1, timestamptz '-infinity', 'infinity'), adclick.ad_click_count_between(2, timestamptz '-infinity', 'infinity'),
	adclick.ad_click_count(2, 2);
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
SELECT ad_id, country, reason FROM adclick.discarded_clicks ORDER BY reason, country COLLATE "C";
SELECT adclick.ad_click_count_between(1, timestamptz '-infinity', 'infinity'), adclick.ad_click_count_between(2, timestamptz '-infinity', 'infinity');
-- The arrival of a click without a time is its time.
SELECT country, count(*) FROM adclick_internal.facts() JOIN adclick.filters USING (filter_id) GROUP BY 1 ORDER BY 1;

-- Discarded clicks stand there as they arrived.
SELECT count(*) FROM (SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, reason
	FROM adclick.discarded_clicks INTERSECT ALL TABLE adclick.click_log) c;
SELECT * FROM oracle.wrong_verdicts();

-- Duplicates: the same click_id within one bucket of ten minutes; one of them stands.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) VALUES
	('00000000-0000-4000-8000-000000000001', 10, :'t'::timestamptz, 1),
	('00000000-0000-4000-8000-000000000001', 10, :'t'::timestamptz, 2),
	('00000000-0000-4000-8000-000000000001', 10, :'t'::timestamptz + interval '9:59.999999', 3),
	('00000000-0000-4000-8000-000000000001', 10, :'t'::timestamptz + interval '10 minutes', 4),
	('00000000-0000-4000-8000-000000000001', 10, :'t'::timestamptz - interval '0.000001 s', 5),
	('00000000-0000-4000-8000-000000000001', 11, :'t'::timestamptz, 6),
	('00000000-0000-4000-8000-000000000002', 10, :'t'::timestamptz, 7),
	(NULL, 12, :'t'::timestamptz, 8),
	(NULL, 12, :'t'::timestamptz, 8),
	(DEFAULT, 12, :'t'::timestamptz, 8),
	(DEFAULT, 12, :'t'::timestamptz, 8);
SELECT ad / 12 AS ad_12, sum(adclick.ad_click_count_between(ad, timestamptz '-infinity', 'infinity')) FROM generate_series(10, 12) ad GROUP BY 1 ORDER BY 1;
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
SELECT ad / 12 AS ad_12, sum(adclick.ad_click_count_between(ad, timestamptz '-infinity', 'infinity')) FROM generate_series(10, 12) ad GROUP BY 1 ORDER BY 1;
-- Of users 1, 2, 3 and 6 one is counted, in the log and in the answers.
SELECT count(*), count(*) FILTER (WHERE verdict = 'counted') AS counted, count(*) FILTER (WHERE verdict = 'duplicate') AS duplicates,
	bool_and(adclick.ad_click_count_between(ad_id, timestamptz '-infinity', 'infinity', jsonb_build_object('user_id', user_id)) = (verdict = 'counted')::int) AS answered
FROM adclick.click_log WHERE user_id IN (1, 2, 3, 6);
SELECT user_id, verdict FROM adclick.click_log WHERE ad_id IN (10, 12) AND user_id NOT IN (1, 2, 3, 6) ORDER BY 1;

-- Copies of what was counted, and of copies: before and after compaction
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id)
SELECT click_id, ad_id, clicked_at, user_id + 100 FROM adclick.click_log WHERE ad_id IN (10, 11);
SELECT ad / 12 AS ad_12, sum(adclick.ad_click_count_between(ad, timestamptz '-infinity', 'infinity')) FROM generate_series(10, 12) ad GROUP BY 1 ORDER BY 1;
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT minutes_written > 0 AS written FROM adclick.compact();
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id)
SELECT click_id, ad_id, clicked_at, user_id + 200 FROM adclick.click_log WHERE user_id < 100 AND ad_id IN (10, 11);
SELECT ad / 12 AS ad_12, sum(adclick.ad_click_count_between(ad, timestamptz '-infinity', 'infinity')) FROM generate_series(10, 12) ad GROUP BY 1 ORDER BY 1;
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT ad / 12 AS ad_12, sum(adclick.ad_click_count_between(ad, timestamptz '-infinity', 'infinity')) FROM generate_series(10, 12) ad GROUP BY 1 ORDER BY 1;

-- Version-7 ids: the time inside chooses the bucket, whatever clicked_at says ...
SELECT (lpad(to_hex((extract(epoch FROM :'t'::timestamptz) * 1000)::bigint), 12, '0') || '7000800000000000000' || 1)::uuid AS inside,
	(lpad(to_hex((extract(epoch FROM :'t'::timestamptz) * 1000)::bigint - 2 * 86400000), 12, '0') || '7000800000000000000' || 2)::uuid AS long_ago,
	(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint + 2 * 3600000), 12, '0') || '7000800000000000000' || 3)::uuid AS ahead
\gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES
	(:'inside', 20, :'t'::timestamptz - interval '12 hours'),
	(:'inside', 20, :'t'::timestamptz),
	(:'inside', 20, :'t'::timestamptz + interval '15 minutes'),
-- ... unless it is too far away to be believed: more than a day;
	(:'long_ago', 21, :'t'::timestamptz),
	(:'long_ago', 21, :'t'::timestamptz + interval '15 minutes'),
	(:'long_ago', 21, :'t'::timestamptz + interval '16 minutes'),
-- but not for lying ahead of the arrival.
	(:'ahead', 22, :'t'::timestamptz),
	(:'ahead', 22, :'t'::timestamptz + interval '15 minutes'),
	(:'ahead', 22, :'t'::timestamptz + interval '16 minutes');
SELECT ad, adclick.ad_click_count_between(ad, timestamptz '-infinity', 'infinity') FROM generate_series(20, 22) ad;
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
SELECT ad, adclick.ad_click_count_between(ad, timestamptz '-infinity', 'infinity') FROM generate_series(20, 22) ad;

-- Hostile values
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device) VALUES
	(NULL, 30, :'t', NULL, NULL, NULL, NULL, NULL),
	(NULL, 30, :'t', -1, '2001:db8::1', '', '', ''),
	(NULL, 30, :'t', 9223372036854775807, 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128', repeat('x', 10000), repeat('y', 65), repeat('z', 64)),
	(NULL, 30, :'t', -9223372036854775808, '0.0.0.0/0', E'\u00e9\u0001', '''; DROP TABLE clicks; --', 'null'),
	(NULL, 30, :'t', 0, '::', repeat(U&'\00e9', 32), repeat(U&'\00e9', 33), ' '),
	(NULL, 30, :'t', 0, '255.255.255.255', 'other', 'unknown', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i));
SELECT adclick.ad_click_count(30, 60), adclick.ad_click_count(30, 60, '{"country": "unknown", "region": "unknown", "device": "unknown"}') AS unknown,
	adclick.ad_click_count(30, 60, '{"country": "other"}') AS other, adclick.ad_click_count(30, 60, '{"region": "other"}') AS other_region;
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
SELECT adclick.ad_click_count(30, 60), adclick.ad_click_count(30, 60, '{"country": "unknown", "region": "unknown", "device": "unknown"}') AS unknown,
	adclick.ad_click_count(30, 60, '{"country": "other"}') AS other, adclick.ad_click_count(30, 60, '{"region": "other"}') AS other_region;
SELECT left(country, 5) AS country, octet_length(country), left(region, 5) AS region, octet_length(region), left(device, 5) AS device,
	octet_length(device), click_count
FROM adclick_internal.facts() JOIN adclick.filters USING (filter_id) WHERE ad_id = 30 ORDER BY country COLLATE "C", device;

-- The newest click is younger, so their minute can be closed.
INSERT INTO adclick.clicks (ad_id) VALUES (31);
SELECT counted FROM adclick.tick();
SELECT minutes_written > 0 AS written FROM adclick.compact();
SELECT * FROM oracle.wrong_facts();
SELECT * FROM oracle.wrong_verdicts();
SELECT oracle.lost();
DROP EXTENSION adclick CASCADE;
