-- Windows of thousands of years with a few clicks in them: what a question costs, and what it
-- answers, follows the clicks.
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
CREATE EXTENSION adclick;
INSERT INTO adclick.ads (ad_id, advertiser_id) VALUES (1, 7), (2, 7);
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country)
SELECT 1 + i % 2, now() - i * interval '1 day', i, '10.0.0.1', 'C' || i FROM generate_series(1, 3) i;
SELECT rows_read, counted FROM adclick.tick();
SELECT hours_written FROM adclick.compact();
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country) VALUES (1, now() - interval '4 days', 4, '10.0.0.1', 'C4');
SELECT rows_read, counted FROM adclick.tick();
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country) VALUES (1, now() - interval '5 days', 5, '10.0.0.1', 'C5');

-- a row for each bucket, and no more than a million
SELECT count(*), sum(click_count), count(*) FILTER (WHERE click_count > 0) BETWEEN 1 AND 2 AS in_few
FROM adclick.click_series(1, '0101-01-01', '2101-01-01', '1 month');
SELECT count(*), sum(click_count) FROM adclick.click_series(1, '0101-01-01', '2101-01-01', '1 day');
SELECT count(*), sum(click_count) FROM adclick.click_series(1, '0101-01-01', '2101-01-01', '2000 years');
SELECT count(*), sum(click_count) FROM adclick.click_series(3, '0101-01-01', '2101-01-01', '5 years');
SELECT count(*) FROM adclick.click_series(1, '0101-01-01', '2101-01-01', '1 minute');
SELECT count(*) FROM adclick.click_series(1, '4713-01-01 BC', '294276-01-01', '1 month');
SELECT count(*) FROM adclick.click_series(1, '-infinity', 'infinity', '1 month');

-- every other question, between the first and the last time there is, and before and behind all clicks
CREATE TEMP TABLE windows AS
SELECT * FROM (VALUES ('all', timestamptz '4713-01-01 BC', timestamptz '294276-01-01'), ('open', '-infinity', 'infinity'),
	('before', '4713-01-01 BC', '2001-01-01'), ('behind', '3001-01-01', '294276-01-01')) w ("window", "from", "to");
SELECT "window", adclick.ad_click_count_between(1, "from", "to") AS clicks,
	adclick.ad_click_count_between(1, "from", "to", '{"user_id": [1, 2, 3, 4, 5]}') AS of_users,
	adclick.ad_click_count_between(1, "from", "to", '{"ip": "10.0.0.0/8"}') AS of_addresses,
	adclick.advertiser_click_count_between(7, "from", "to") AS of_advertiser, adclick.unique_users_between(1, "from", "to") AS users,
	(SELECT count(*) FROM adclick.breakdown_between(1, "from", "to", 'country')) AS countries,
	(SELECT string_agg(format('%s: %s', ad_id, click_count), ', ') FROM adclick.top_n_ads_between(10, "from", "to")) AS top,
	(SELECT string_agg(format('%s: %s', ad_id, click_count), ', ')
		FROM adclick.top_n_ads_between(10, "from", "to", '{"country": ["C1", "C2", "C4"]}')) AS top_filtered,
	(SELECT sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= "from" AND click_minute < "to") AS in_view,
	(SELECT count(DISTINCT date_trunc('day', click_minute)) FROM adclick.clicks_per_minute WHERE click_minute >= "from" AND click_minute < "to") AS days
FROM windows;
SELECT adclick.ad_click_count(1, 2147483647), adclick.unique_users(1, 2147483647),
	(SELECT count(*) FROM adclick.top_n_ads(2147483647, 2147483647)) AS top,
	(SELECT count(*) FROM adclick.breakdown(1, 2147483647, 'country')) AS countries;

-- what is read is what is stored, whatever the window
SELECT "window", e.runs <= 4 AS few_runs, e.probes <= 4 AS few_probes, e.segments <= 4 AS few_segments, e.tail
FROM windows, adclick.explain_top_n_between(10, "from", "to", '{"country": ["C1", "C2", "C4"]}') e;
DROP EXTENSION adclick CASCADE;
