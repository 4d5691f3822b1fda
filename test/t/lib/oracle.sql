-- The oracle: what adclick should answer, by plain SQL over adclick.clicks.
--
-- Of equal clicks any may be the one that counts, so the copies in test data are
-- exact: same ad, same minute, same dimensions.

CREATE SCHEMA oracle;

CREATE FUNCTION oracle.setting(name text) RETURNS numeric
	LANGUAGE sql STABLE AS
$$ SELECT setting::numeric FROM pg_settings WHERE pg_settings.name = 'adclick.' || setting.name $$;

CREATE FUNCTION oracle.dimension(value text) RETURNS text
	LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN coalesce(value, '') = '' THEN 'unknown' WHEN octet_length(value) > 64 THEN 'other' ELSE value END $$;

-- Seconds since 1970 inside a version-7 id, NULL of another.
CREATE FUNCTION oracle.id_time(id uuid) RETURNS numeric
	LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN get_byte(uuid_send(id), 6) >> 4 = 7 AND get_byte(uuid_send(id), 8) >> 6 = 2
	THEN ('x' || encode(substr(uuid_send(id), 1, 6), 'hex'))::bit(48)::bigint / 1000.0 END $$;

-- The dedup bucket of a time in seconds since 1970.
CREATE FUNCTION oracle.bucket(epoch numeric, dedup_window numeric) RETURNS numeric
	LANGUAGE sql IMMUTABLE AS
$$ SELECT floor((epoch - 946684800) / dedup_window) $$;

-- The clicks that count, one row each.  "taken_only": of what ticks have taken.
CREATE FUNCTION oracle.clicks(taken_only boolean DEFAULT false)
	RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text)
	LANGUAGE sql STABLE AS $$
WITH settings AS MATERIALIZED (
	SELECT oracle.setting('dedup_window') AS dedup_window,
		make_interval(secs => oracle.setting('future_tolerance')::float8) AS ahead,
		make_interval(mins => oracle.setting('raw_retention')::int) AS behind,
		(SELECT setting FROM pg_settings WHERE name = 'adclick.dedup_by') AS dedup_by
), valid AS (
	SELECT c.*, s.*, coalesce(c.clicked_at, c.received_at) AS at
	FROM adclick.clicks c CROSS JOIN settings s
	WHERE coalesce(c.clicked_at, c.received_at) <= c.received_at + s.ahead
		AND coalesce(c.clicked_at, c.received_at) >= c.received_at - s.behind
		AND (NOT taken_only OR pg_visible_in_snapshot(c.xact, (SELECT taken FROM adclick_internal.state)))
), told AS (
	SELECT v.ad_id, v.at, extract(epoch FROM v.at) AS epoch, v.dedup_by, v.dedup_window,
		v.click_id, v.user_id, oracle.id_time(v.click_id) AS inside,
		extract(epoch FROM v.received_at + v.ahead) AS latest,
		oracle.dimension(v.country) AS country, oracle.dimension(v.region) AS region,
		oracle.dimension(v.device) AS device
	FROM valid v
), keyed AS (
	SELECT t.ad_id, date_trunc('minute', t.at, 'UTC') AS minute, t.country, t.region, t.device,
		CASE t.dedup_by WHEN 'click_id' THEN t.click_id::text ELSE t.user_id || '/' || t.ad_id END AS key,
		oracle.bucket(CASE WHEN t.dedup_by = 'click_id' AND t.inside BETWEEN t.epoch - 86400 AND t.epoch + 86400
			AND t.inside <= t.latest THEN t.inside ELSE t.epoch END, t.dedup_window) AS bucket
	FROM told t
)
SELECT ad_id, minute, country, region, device FROM keyed WHERE key IS NULL
UNION ALL
SELECT min(ad_id), min(minute), min(country), min(region), min(device) FROM keyed WHERE key IS NOT NULL
	GROUP BY key, bucket
$$;

CREATE FUNCTION oracle.facts(taken_only boolean DEFAULT false)
	RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, clicks bigint)
	LANGUAGE sql STABLE AS
$$ SELECT c.*, count(*) FROM oracle.clicks(taken_only) c GROUP BY 1, 2, 3, 4, 5 $$;

-- Differences between the stored facts and the oracle's; none if all is taken.
CREATE FUNCTION oracle.wrong_facts(taken_only boolean DEFAULT false)
	RETURNS TABLE (who text, ad_id bigint, minute timestamptz, country text, region text, device text, clicks bigint)
	LANGUAGE sql STABLE AS $$
WITH expected AS MATERIALIZED (
	SELECT * FROM oracle.facts(taken_only)
), stored AS MATERIALIZED (
	SELECT f.ad_id, f.click_minute, d.country, d.region, d.device, f.click_count
	FROM adclick_internal.facts() f LEFT JOIN adclick.filters d USING (filter_id)
)
(SELECT 'expected', * FROM (TABLE expected EXCEPT ALL TABLE stored) e)
UNION ALL
(SELECT 'stored', * FROM (TABLE stored EXCEPT ALL TABLE expected) s)
$$;

-- Rows of the log that are in no account, 0 at any instant.
CREATE FUNCTION oracle.lost() RETURNS bigint
	LANGUAGE sql STABLE AS $$
SELECT (SELECT count(*) FROM adclick.clicks) - clicks_counted - duplicates - discarded - queued - lag_rows
FROM adclick.status
$$;

-- Whether dimensions meet the filters of a question.
CREATE FUNCTION oracle.meets(filters jsonb, country text, region text, device text) RETURNS boolean
	LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce(filters->'country' ? country, true) AND coalesce(filters->'region' ? region, true)
	AND coalesce(filters->'device' ? device, true)
$$;

/*
 * Ask both questions at random, with all kinds of windows and filters, in one
 * snapshot with the oracle; returns the answers that are wrong.
 */
CREATE FUNCTION oracle.wrong_answers(questions int, taken_only boolean DEFAULT false)
	RETURNS TABLE (question text, expected text, answer text)
	LANGUAGE sql STABLE AS $$
WITH facts AS MATERIALIZED (
	SELECT row_number() OVER () AS nr, f.* FROM oracle.facts(taken_only) f
), bounds AS MATERIALIZED (
	SELECT count(*) AS n, coalesce(min(minute), date_trunc('minute', now())) AS low,
		coalesce(max(minute), date_trunc('minute', now())) AS high,
		date_trunc('minute', statement_timestamp(), 'UTC') AS this
	FROM facts
), dice AS MATERIALIZED (
	SELECT i, random() AS a, random() AS b, random() AS c, random() AS d, random() AS e, random() AS f
	FROM generate_series(1, questions) i
), windows AS MATERIALIZED (
	SELECT dice.*, bounds.*,
		1 + floor(a * n) AS nr1, 1 + floor(b * n) AS nr2,
		CASE WHEN c < 0.1 THEN 100000 ELSE 1 + (f * 20)::int END AS top,
		CASE WHEN i % 4 = 0 THEN 1 + (d * 30)::int END AS minutes,
		CASE i % 4
			WHEN 0 THEN this - (d * 30)::int * interval '1 minute'
			WHEN 1 THEN '-infinity'
			WHEN 2 THEN high - (d * 10)::int * interval '1 minute'
			WHEN 3 THEN low + ((d * 1.2 - 0.1) * extract(epoch FROM high - low) / 60)::int * interval '1 minute'
		END AS "from",
		CASE i % 4
			WHEN 0 THEN this + interval '1 minute'
			WHEN 1 THEN CASE WHEN d < 0.5 THEN 'infinity' ELSE high END
			WHEN 2 THEN high + interval '1 minute'
			WHEN 3 THEN low + ((d * 1.2 - 0.1) * extract(epoch FROM high - low) / 60)::int * interval '1 minute'
				+ (e * 60)::int * interval '1 minute'
		END AS "to"
	FROM dice CROSS JOIN bounds
), asked AS MATERIALIZED (
	SELECT w.*, CASE WHEN a < 0.1 THEN (a * 1e10)::bigint ELSE coalesce(f1.ad_id, 0) END AS ad,
		CASE floor(e * 10)
			WHEN 0 THEN jsonb_build_object('country', coalesce(f1.country, 'CA'))
			WHEN 1 THEN jsonb_build_object('device', coalesce(f2.device, 'mobile'))
			WHEN 2 THEN jsonb_build_object('country', coalesce(f1.country, 'CA'), 'region', coalesce(f1.region, 'ON'))
			WHEN 3 THEN jsonb_build_object('country', jsonb_build_array(coalesce(f1.country, 'US'), coalesce(f2.country, 'CA'), 'XX'))
			WHEN 4 THEN jsonb_build_object('country', coalesce(f1.country, 'CA'), 'region', coalesce(f1.region, 'ON'), 'device', coalesce(f1.device, ''))
			WHEN 5 THEN jsonb_build_object('region', jsonb_build_array('nowhere', coalesce(f2.region, 'ON')), 'device', coalesce(f1.device, ''))
			WHEN 6 THEN CASE WHEN f < 0.5 THEN '{"country": []}'::jsonb ELSE '{"device": "nothing"}' END
			ELSE '{}'
		END AS filters
	FROM windows w LEFT JOIN facts f1 ON f1.nr = w.nr1 LEFT JOIN facts f2 ON f2.nr = w.nr2
), by_ad AS MATERIALIZED (
	SELECT q.i, q.ad, q.top, f.ad_id, sum(f.clicks)::bigint AS clicks
	FROM asked q JOIN facts f ON f.minute >= q."from" AND f.minute < q."to"
		AND (q.filters = '{}' OR oracle.meets(q.filters, f.country, f.region, f.device))
	GROUP BY 1, 2, 3, 4
), ranked AS MATERIALIZED (
	SELECT *, row_number() OVER (PARTITION BY i ORDER BY clicks DESC, ad_id) AS rank FROM by_ad
), answers AS (
	SELECT format('ad_click_count(%s, %L, %L, %L)', ad, "from", "to", filters) AS question,
		coalesce((SELECT clicks FROM by_ad b WHERE b.i = q.i AND b.ad_id = q.ad), 0)::text AS expected,
		CASE WHEN minutes IS NULL THEN adclick.ad_click_count(ad, "from", "to", filters)
			ELSE adclick.ad_click_count(ad, minutes, filters) END::text AS answer
	FROM asked q
	UNION ALL
	SELECT format('top_n_ads(%s, %L, %L, %L)', top, "from", "to", filters),
		coalesce((SELECT string_agg(format('%s: %s %s', r.rank, r.ad_id, r.clicks), ', ' ORDER BY r.rank)
			FROM ranked r WHERE r.i = q.i AND r.rank <= q.top), ''),
		coalesce(CASE WHEN minutes IS NULL
			THEN (SELECT string_agg(format('%s: %s %s', t.rank, t.ad_id, t.click_count), ', ' ORDER BY t.rank)
				FROM adclick.top_n_ads(q.top, q."from", q."to", q.filters) t)
			ELSE (SELECT string_agg(format('%s: %s %s', t.rank, t.ad_id, t.click_count), ', ' ORDER BY t.rank)
				FROM adclick.top_n_ads(q.top, q.minutes, q.filters) t) END, '')
	FROM asked q
)
SELECT question, left(expected, 2000), left(answer, 2000) FROM answers WHERE expected IS DISTINCT FROM answer
$$;

--
-- Clicks
--

CREATE FUNCTION oracle.uuid_v7(at timestamptz) RETURNS uuid
	LANGUAGE sql VOLATILE AS $$
SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
	|| substr(id, 14, 3) || substr(id, 17))::uuid
FROM replace(gen_random_uuid()::text, '-', '') id
$$;

/*
 * Random clicks of the last "spread" of time: skewed ads, random, version-7 and
 * missing ids, 1 % exact copies, 1 % late by up to ten minutes, 2 % hostile.
 * "late": some so late, by the time in their id, that they have to be queued.
 */
CREATE FUNCTION oracle.random_clicks(n int, spread interval, late boolean DEFAULT true)
	RETURNS TABLE (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet,
		country text, region text, device text)
	LANGUAGE sql VOLATILE AS $$
WITH dice AS MATERIALIZED (
	SELECT i, (random() * 1000)::int AS kind, random() AS a, random() AS b, random() AS c, random() AS d,
		clock_timestamp() - random() * spread - CASE WHEN random() < 0.01 THEN random() * interval '10 minutes' ELSE '0' END AS at
	FROM generate_series(1, n) i
), made AS MATERIALIZED (
	SELECT CASE
			WHEN kind = 1 THEN oracle.uuid_v7(at - interval '3 days')
			WHEN kind = 2 THEN oracle.uuid_v7(at + interval '2 hours')
			WHEN kind = 3 THEN oracle.uuid_v7(at - CASE WHEN late THEN interval '2 hours' ELSE '2 days' END)
			WHEN kind = 4 THEN oracle.uuid_v7('9999-12-31')
			WHEN kind BETWEEN 5 AND 10 OR kind > 950 THEN NULL
			WHEN kind > 500 THEN oracle.uuid_v7(at)
			ELSE gen_random_uuid()
		END AS click_id,
		CASE kind WHEN 11 THEN 9223372036854775807 WHEN 12 THEN -9223372036854775808 WHEN 13 THEN 0
			ELSE floor(exp(a * ln(2000)))::bigint END AS ad_id,
		CASE WHEN kind BETWEEN 5 AND 10 THEN NULL
			WHEN kind = 14 THEN 'infinity' WHEN kind = 15 THEN '-infinity'
			WHEN kind = 16 THEN '9999-12-31 23:59:59+00' WHEN kind = 17 THEN '0044-03-15 12:00:00+00 BC'
			WHEN kind = 18 THEN at + interval '1 day' WHEN kind = 19 THEN at - interval '8 days'
			ELSE at END AS clicked_at,
		CASE WHEN b > 0.02 THEN (b * 1e6)::bigint END AS user_id,
		CASE WHEN c < 0.1 THEN NULL WHEN c < 0.5 THEN '10.0.0.0'::inet + (c * 1e6)::bigint
			ELSE '2001:db8::'::inet + (c * 1e6)::bigint END AS ip,
		CASE WHEN kind = 20 THEN repeat('x', 65) WHEN kind = 21 THEN repeat('ß', 32) WHEN kind = 22 THEN repeat('y', 100000)
			WHEN kind = 23 THEN 'other' WHEN kind = 24 THEN ''
			ELSE ('{CA,US,DE,FR,JP,BR,IN,NULL}'::text[])[1 + floor(power(c, 2) * 8)::int] END AS country,
		CASE WHEN kind = 25 THEN E'\u00e9\u0001"''\\' ELSE ('{ON,QC,NY,BE,"",NULL}'::text[])[1 + floor(d * 6)::int] END AS region,
		('{mobile,desktop,tablet,NULL}'::text[])[1 + floor(power(b, 3) * 4)::int] AS device,
		i % 100 = 0 AND (kind NOT BETWEEN 5 AND 10) AS copied, d
	FROM dice
)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device
FROM (SELECT * FROM made UNION ALL SELECT * FROM made WHERE copied AND click_id IS NOT NULL) m
ORDER BY d
$$;

CREATE FUNCTION oracle.send_clicks(n int, spread interval, late boolean DEFAULT true) RETURNS void
	LANGUAGE sql VOLATILE AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT * FROM oracle.random_clicks(n, spread, late)
$$;

-- Exact copies of clicks in the log.
CREATE FUNCTION oracle.send_copies(n int) RETURNS void
	LANGUAGE sql VOLATILE AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device
FROM adclick.clicks TABLESAMPLE SYSTEM (10) WHERE click_id IS NOT NULL AND clicked_at IS NOT NULL
ORDER BY random() LIMIT n
$$;
