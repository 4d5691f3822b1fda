-- The two questions on a handful of clicks: in the tail, after a tick, after compaction.
CREATE EXTENSION adclick;

-- Half an hour ago, at the start of a dedup bucket.
SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') - interval '30 minutes' AS t \gset

-- Nothing there
SELECT adclick.ad_click_count(1, 60), adclick.ad_click_count_between(1, timestamptz '-infinity', 'infinity');
SELECT * FROM adclick.top_n_ads(3, 60);
SELECT * FROM adclick.tick();
SELECT * FROM adclick.compact();

-- The minute that stands in the column "minute", and how often the click comes.
CREATE TABLE data (ad_id bigint, minute int, country text, region text, device text, clicks int);
INSERT INTO data VALUES
	(1, 0, 'CA', 'ON', 'mobile', 4),
	(1, 0, 'CA', 'QC', 'mobile', 2),
	(1, 1, 'US', 'NY', 'desktop', 1),
	(1, 5, 'CA', 'ON', 'mobile', 3),
	(2, 0, 'CA', 'ON', 'desktop', 6),
	(2, 3, 'FR', NULL, 'tablet', 1),
	(3, 2, 'US', '', 'mobile', 10),
	(-7, 2, 'US', NULL, 'mobile', 10),
	(9223372036854775807, 4, 'DE', 'BE', NULL, 2),
	(-9223372036854775808, 4, 'DE', 'BE', '', 2),
	(0, 4, 'ca', 'ON ', 'mobile', 1),
	(5, 20, 'CA', 'ON', 'mobile', 1);

-- The same questions again and again.
CREATE FUNCTION ask(t timestamptz) RETURNS TABLE (question text, answer text) LANGUAGE sql AS $$
	VALUES ('ad 1, an hour', adclick.ad_click_count(1, 60)::text),
		('ad 1, a year', adclick.ad_click_count(1, 525600)::text),
		('ad 1, this minute', adclick.ad_click_count(1, 1)::text),
		('ad 1, ever', adclick.ad_click_count_between(1, timestamptz '-infinity', 'infinity')::text),
		('ad 1, minute 0', adclick.ad_click_count_between(1, t, t + interval '1 minute')::text),
		('ad 1, minute 0 to 4', adclick.ad_click_count_between(1, t, t + interval '5 minutes')::text),
		('ad 1, minute 1 to 5', adclick.ad_click_count_between(1, t + interval '1 minute', t + interval '6 minutes')::text),
		('ad 1, empty window', adclick.ad_click_count_between(1, t, t)::text),
		('ad 1, CA', adclick.ad_click_count(1, 60, '{"country": "CA"}')::text),
		('ad 1, CA ON', adclick.ad_click_count(1, 60, '{"country": "CA", "region": "ON"}')::text),
		('ad 1, CA ON mobile', adclick.ad_click_count(1, 60, '{"country": "CA", "region": "ON", "device": "mobile"}')::text),
		('ad 1, CA ON tablet', adclick.ad_click_count(1, 60, '{"country": "CA", "region": "ON", "device": "tablet"}')::text),
		('ad 1, ON or NY', adclick.ad_click_count(1, 60, '{"region": ["ON", "NY", "nowhere"]}')::text),
		('ad 1, CA twice', adclick.ad_click_count(1, 60, '{"country": ["CA", "CA"]}')::text),
		('ad 1, none of no country', adclick.ad_click_count(1, 60, '{"country": []}')::text),
		('ad 1, mobile in minute 5', adclick.ad_click_count_between(1, t + interval '5 minutes', t + interval '6 minutes', '{"device": "mobile"}')::text),
		('ad 0, ca is not CA', adclick.ad_click_count(0, 60, '{"country": "CA"}')::text),
		('ad 0, ca', adclick.ad_click_count(0, 60, '{"country": "ca", "region": "ON "}')::text),
		('ad 2, unknown region', adclick.ad_click_count(2, 60, '{"region": "unknown"}')::text),
		('ad 3, empty is unknown', adclick.ad_click_count(3, 60, '{"region": "unknown"}')::text),
		('ad 3, empty is not empty', adclick.ad_click_count(3, 60, '{"region": ""}')::text),
		('largest ad', adclick.ad_click_count(9223372036854775807, 60)::text),
		('smallest ad', adclick.ad_click_count(-9223372036854775808, 60, '{"device": "unknown"}')::text),
		('no such ad', adclick.ad_click_count(4, 60)::text)
	UNION ALL
	SELECT 'top ' || question, (SELECT string_agg(rank || ': ' || ad_id || ' ' || click_count, ', ' ORDER BY rank)
		FROM adclick.top_n_ads_between(n, t + "from" * interval '1 minute', t + "to" * interval '1 minute', filters))
	FROM (VALUES ('3', 3, 0, 30, '{}'::jsonb),
		('1 of a tie', 1, 2, 3, '{}'),
		('10, a tie goes to the smaller ad', 10, 2, 5, '{}'),
		('100', 100, -1000, 30, '{}'),
		('3, CA', 3, 0, 30, '{"country": "CA"}'),
		('3, mobile or tablet', 3, 0, 30, '{"device": ["mobile", "tablet"]}'),
		('3, unknown device', 3, 0, 30, '{"device": "unknown"}'),
		('3, CA ON mobile', 3, 0, 6, '{"country": "CA", "region": "ON", "device": "mobile"}'),
		('3, nowhere', 3, 0, 30, '{"country": "XX"}'),
		('3, empty window', 3, 30, 30, '{}'),
		('3, quiet minute', 3, 10, 15, '{}')) q(question, n, "from", "to", filters)
$$;

INSERT INTO adclick.clicks (ad_id, clicked_at, country, region, device)
SELECT ad_id, :'t'::timestamptz + minute * interval '1 minute' + i * interval '5 seconds', country, region, device
FROM data, generate_series(1, clicks) i;

\pset null '(null)'
SELECT * FROM ask(:'t');
CREATE TABLE first_answers AS SELECT * FROM ask(:'t');
SELECT lag_rows, lag_seconds > 0 AS lags, clicks_counted, open_minutes, last_tick FROM adclick.status;

-- After a tick
SELECT rows_read, counted, duplicates, discarded, more FROM adclick.tick();
(TABLE first_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE first_answers);
SELECT lag_rows, lag_seconds, clicks_counted, open_minutes FROM adclick.status;
SELECT * FROM adclick.tick();

-- After compaction: the newest minute stays open
SELECT runs_merged, minutes_written FROM adclick.compact();
(TABLE first_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE first_answers);
SELECT lag_rows, clicks_counted, open_minutes FROM adclick.status;

-- The same clicks, late, one ad less: in the tail, after a tick, after compaction
INSERT INTO adclick.clicks (ad_id, clicked_at, country, region, device)
SELECT ad_id, :'t'::timestamptz + minute * interval '1 minute' + i * interval '5 seconds', country, region, device
FROM data, generate_series(1, clicks) i
WHERE ad_id <> 3;
CREATE TABLE second_answers AS SELECT * FROM ask(:'t');
SELECT f.question, f.answer AS first, s.answer AS second
FROM first_answers f JOIN second_answers s USING (question) WHERE f.answer IS DISTINCT FROM s.answer;
SELECT counted FROM adclick.tick();
(TABLE second_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE second_answers);
SELECT minutes_written > 0 AS written FROM adclick.compact();
(TABLE second_answers EXCEPT ALL SELECT * FROM ask(:'t')) UNION ALL (SELECT * FROM ask(:'t') EXCEPT ALL TABLE second_answers);

-- The facts
SELECT ad_id, round(extract(epoch FROM click_minute - :'t') / 60) AS minute, country, region, device, click_count
FROM adclick_internal.facts() JOIN adclick.filters USING (filter_id) ORDER BY 1, 2, 3, 4, 5;
SELECT * FROM oracle.wrong_facts();
SELECT oracle.lost();

DROP FUNCTION ask;
DROP TABLE data, first_answers, second_answers;
DROP EXTENSION adclick CASCADE;
