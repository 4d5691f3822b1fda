-- The oracle: what adclick should answer, by plain SQL over adclick.click_log.
--
-- Of equal clicks any may be the one that counts, so the copies in test data are
-- exact: same ad, same minute, same dimensions, same user and address.

CREATE SCHEMA oracle;

CREATE FUNCTION oracle.setting(name text) RETURNS numeric
	LANGUAGE sql STABLE AS
$$ SELECT setting::numeric FROM pg_settings WHERE pg_settings.name = 'adclick.' || setting.name $$;

CREATE FUNCTION oracle.dimension(value text) RETURNS text
	LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN coalesce(value, '') = '' THEN 'unknown' WHEN octet_length(value) > 64 THEN 'other' ELSE value END $$;

-- The address without the network that stands with it.
CREATE FUNCTION oracle.host(ip inet) RETURNS inet
	LANGUAGE sql IMMUTABLE AS
$$ SELECT set_masklen(ip, CASE family(ip) WHEN 4 THEN 32 ELSE 128 END) $$;

-- Seconds since 1970 inside a version-7 id, NULL of another.
CREATE FUNCTION oracle.id_time(id uuid) RETURNS numeric
	LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN get_byte(uuid_send(id), 6) >> 4 = 7 AND get_byte(uuid_send(id), 8) >> 6 = 2
	THEN ('x' || encode(substr(uuid_send(id), 1, 6), 'hex'))::bit(48)::bigint / 1000.0 END $$;

-- What an id says that adclick.click() gave to a click whose token it refused; NULL of another.
CREATE FUNCTION oracle.id_fault(id uuid) RETURNS text
	LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN id BETWEEN '6164636c-6963-8001-0000-000000000000' AND '6164636c-6963-8001-ffff-ffffffffffff' THEN 'forged impression'
	WHEN id BETWEEN '6164636c-6963-8002-0000-000000000000' AND '6164636c-6963-8002-ffff-ffffffffffff' THEN 'expired impression' END $$;

-- The dedup bucket of a time in seconds since 1970.
CREATE FUNCTION oracle.bucket(epoch numeric, dedup_window numeric) RETURNS numeric
	LANGUAGE sql IMMUTABLE AS
$$ SELECT floor((epoch - 946684800) / dedup_window) $$;

-- Every click with what it should be judged by: why it cannot count ("fault", NULL if
-- its id and its time are such as it can have), its key and its bucket.  OFFSET: what is
-- named again in the next step is not computed again.
CREATE FUNCTION oracle.judged()
	RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, user_id bigint, ip inet,
		key text, bucket numeric, fault text, verdict text)
	LANGUAGE sql STABLE AS $$
WITH settings AS MATERIALIZED (
	SELECT oracle.setting('dedup_window') AS dedup_window,
		make_interval(secs => oracle.setting('future_tolerance')::float8) AS ahead,
		make_interval(mins => oracle.setting('raw_retention')::int) AS behind,
		(SELECT setting FROM pg_settings WHERE name = 'adclick.dedup_by') AS dedup_by
), timed AS (
	SELECT c.*, s.dedup_window, coalesce(a.dedup_by, s.dedup_by) AS dedup_by, coalesce(c.clicked_at, c.received_at) AS at,
		CASE WHEN oracle.id_fault(c.click_id) IS NOT NULL THEN oracle.id_fault(c.click_id)
			WHEN coalesce(c.clicked_at, c.received_at) >= c.received_at + s.ahead + interval '1 ms' THEN 'in the future'
			WHEN coalesce(c.clicked_at, c.received_at) < c.received_at - s.behind THEN 'too old' END AS fault
	FROM adclick.click_log c CROSS JOIN settings s LEFT JOIN adclick.ads a USING (ad_id)
	OFFSET 0
), told AS (
	SELECT t.*, CASE WHEN fault IS NULL THEN extract(epoch FROM t.at) END AS epoch,
		CASE WHEN fault IS NULL THEN oracle.id_time(t.click_id) END AS inside
	FROM timed t
	OFFSET 0
)
SELECT t.ad_id, CASE WHEN fault IS NULL THEN date_trunc('minute', t.at, 'UTC') END, oracle.dimension(t.country),
	oracle.dimension(t.region), oracle.dimension(t.device), t.user_id, oracle.host(t.ip),
	CASE WHEN fault IS NULL THEN CASE t.dedup_by WHEN 'click_id' THEN t.click_id::text ELSE t.user_id || '/' || t.ad_id END END,
	oracle.bucket(CASE WHEN t.dedup_by = 'click_id' AND t.inside BETWEEN t.epoch - 86400 AND t.epoch + 86400 THEN t.inside ELSE t.epoch END, t.dedup_window),
	t.fault, t.verdict
FROM told t
$$;

-- The clicks that count, one row each: of a key in a bucket the copy that is said to be
-- counted, any while there is none.  "taken_only": of what ticks have taken.
CREATE FUNCTION oracle.clicks(taken_only boolean DEFAULT false)
	RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, user_id bigint, ip inet)
	LANGUAGE sql STABLE AS $$
SELECT ad_id, minute, country, region, device, user_id, ip
FROM (SELECT j.*, row_number() OVER (PARTITION BY key, bucket ORDER BY (verdict = 'counted') DESC NULLS LAST) AS nr
	FROM oracle.judged() j WHERE fault IS NULL AND (NOT taken_only OR verdict IS NOT NULL)
		AND (verdict IS NULL OR verdict NOT IN ('user limit', 'address limit'))) c
WHERE nr = 1 OR key IS NULL
$$;

-- The limits, by what a click is judged as that is over one.
CREATE FUNCTION oracle.limits() RETURNS TABLE (reason text, most numeric)
	LANGUAGE sql STABLE AS
$$ VALUES ('user limit', oracle.setting('user_clicks_per_minute')), ('address limit', oracle.setting('ip_clicks_per_minute')) $$;

/*
 * Limits that were not kept, if they have always been what they are: of a user, or an
 * address, more are counted in a minute; or fewer, although others are said to be too many.
 */
CREATE FUNCTION oracle.wrong_limits()
	RETURNS TABLE (wrong text, who text, minute timestamptz, counted bigint)
	LANGUAGE sql STABLE AS $$
WITH limits AS MATERIALIZED (
	SELECT * FROM oracle.limits()
), clickers AS MATERIALIZED (
	SELECT l.reason, CASE l.reason WHEN 'user limit' THEN j.user_id::text ELSE host(j.ip) END AS who, j.minute, l.most,
		count(*) FILTER (WHERE j.verdict = 'counted') AS counted, count(*) FILTER (WHERE j.verdict = l.reason) AS too_many
	FROM oracle.judged() j CROSS JOIN limits l
	WHERE fault IS NULL GROUP BY 1, 2, 3, 4
)
SELECT reason || ' is ' || most, who, minute, counted FROM clickers
WHERE who IS NULL AND too_many > 0 OR most = 0 AND too_many > 0
	OR who IS NOT NULL AND most > 0 AND (counted > most OR too_many > 0 AND counted < most)
$$;

/*
 * Verdicts that cannot be: another than its fault of a click whose time it cannot
 * have; a fault, or none there is, of a valid one; of a key in a bucket two counted
 * copies, or none although others are said to be copies of it.
 * "may_be_undecided": stored keys were damaged, so that it could not be told of some.
 */
CREATE FUNCTION oracle.wrong_verdicts(may_be_undecided boolean DEFAULT false)
	RETURNS TABLE (wrong text, key text, bucket numeric, verdicts text)
	LANGUAGE sql STABLE AS $$
WITH judged AS MATERIALIZED (
	SELECT * FROM oracle.judged()
), limits AS MATERIALIZED (
	SELECT reason FROM oracle.limits() WHERE most > 0
)
SELECT 'it is ' || coalesce(fault, 'valid'), key, bucket, verdict FROM judged
WHERE verdict IS NOT NULL
	AND CASE WHEN fault IS NOT NULL THEN verdict <> fault
		WHEN verdict IN (SELECT reason FROM limits) THEN false
		WHEN key IS NULL THEN verdict <> 'counted'
		ELSE NOT (verdict IN ('counted', 'duplicate') OR verdict = 'undecided' AND may_be_undecided) END
UNION ALL
SELECT count(*) FILTER (WHERE verdict = 'counted') || ' copies are counted', key, bucket, string_agg(coalesce(verdict, 'not taken'), ', ')
FROM judged WHERE fault IS NULL AND key IS NOT NULL
GROUP BY key, bucket
HAVING count(*) FILTER (WHERE verdict = 'counted') > 1
	OR count(*) FILTER (WHERE verdict = 'counted') = 0 AND bool_or(verdict = 'duplicate')
$$;

CREATE FUNCTION oracle.facts(taken_only boolean DEFAULT false)
	RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, clicks bigint)
	LANGUAGE sql STABLE AS
$$ SELECT ad_id, minute, country, region, device, count(*) FROM oracle.clicks(taken_only) GROUP BY 1, 2, 3, 4, 5 $$;

-- Differences between the stored facts and the oracle's; none if all is taken.
CREATE FUNCTION oracle.wrong_facts(taken_only boolean DEFAULT false)
	RETURNS TABLE (who text, ad_id bigint, minute timestamptz, country text, region text, device text, clicks bigint)
	LANGUAGE sql STABLE AS $$
WITH expected AS MATERIALIZED (
	SELECT * FROM oracle.facts(taken_only)
), stored AS MATERIALIZED (
	SELECT f.ad_id, f.click_minute, d.country, d.region, d.device, f.clicks
	FROM (SELECT ad_id, click_minute, filter_id, sum(click_count)::bigint AS clicks FROM adclick_internal.facts() GROUP BY 1, 2, 3) f
	LEFT JOIN adclick.filters d USING (filter_id)
)
(SELECT 'expected', * FROM (TABLE expected EXCEPT ALL TABLE stored) e)
UNION ALL
(SELECT 'stored', * FROM (TABLE stored EXCEPT ALL TABLE expected) s)
$$;

-- Days (UTC) in order day that do not have just what their final runs of order ad have, or are no days.
CREATE FUNCTION oracle.wrong_days() RETURNS TABLE (who text, day timestamptz, ad_id bigint, filter_id int, clicks numeric)
	LANGUAGE sql STABLE AS $$
WITH made AS MATERIALIZED (
	SELECT last_minute AS day FROM adclick_internal.runs WHERE sort_order = 4 AND NOT is_delta
), hours AS MATERIALIZED (
	SELECT date_trunc('day', click_minute, 'UTC') AS day, ad_id, filter_id, sum(click_count) AS clicks
	FROM adclick_internal.facts(0) WHERE NOT is_delta AND date_trunc('day', click_minute, 'UTC') IN (TABLE made) GROUP BY 1, 2, 3
), days AS MATERIALIZED (
	SELECT click_minute AS day, ad_id, filter_id, sum(click_count) AS clicks FROM adclick_internal.facts(4) GROUP BY 1, 2, 3
)
(SELECT 'of hours', * FROM (TABLE hours EXCEPT ALL TABLE days) h)
UNION ALL
(SELECT 'of days', * FROM (TABLE days EXCEPT ALL TABLE hours) d)
UNION ALL
SELECT 'two runs', day, NULL, NULL, count(*) FROM made GROUP BY 2 HAVING count(*) > 1
$$;

/*
 * A witness of its own of what is sent: a trigger, which notes each click in the
 * transaction that brings it.  (What logical replication applies it does not see.)
 */
CREATE TABLE oracle.sent (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet,
	country text, region text, device text);

CREATE FUNCTION oracle.note_sent() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO oracle.sent SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM sent;
	RETURN NULL;
END $$;

CREATE FUNCTION oracle.witness() RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE oracle.sent;
	CREATE TRIGGER witness AFTER INSERT ON adclick.clicks
		REFERENCING NEW TABLE AS sent FOR EACH STATEMENT EXECUTE FUNCTION oracle.note_sent();
	ALTER TABLE adclick.clicks ENABLE ALWAYS TRIGGER witness;
END $$;

-- Clicks that were sent and are not in the log, and the other way round; none without a witness.
CREATE FUNCTION oracle.wrong_log()
	RETURNS TABLE (who text, click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet,
		country text, region text, device text)
	LANGUAGE sql STABLE AS $$
SELECT CASE WHEN sum(n) > 0 THEN 'sent' ELSE 'in the log' END, click_id, ad_id, clicked_at, user_id, ip, country, region, device
FROM (SELECT 1 AS n, * FROM oracle.sent
	UNION ALL SELECT -1, click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM adclick.click_log) c
WHERE EXISTS (SELECT FROM pg_trigger WHERE tgname = 'witness' AND tgrelid = to_regclass('adclick.clicks'))
GROUP BY click_id, ad_id, clicked_at, user_id, ip, country, region, device
HAVING sum(n) <> 0
$$;

-- Clicks of the log that are in no account, or in another than their verdict's, or not as they
-- were sent: 0 at any instant.
CREATE FUNCTION oracle.lost() RETURNS bigint
	LANGUAGE sql STABLE AS $$
SELECT (SELECT count(*) FROM oracle.wrong_log()) + abs(l.taken - s.clicks_taken) + abs(l.counted - s.clicks_counted) + abs(l.duplicates - s.duplicates)
	+ abs(l.others - s.discarded) + abs(l.in_future - s.in_future) + abs(l.too_old - s.too_old) + abs(l.undecided - s.undecided)
	+ abs(l.forged - s.forged) + abs(l.expired - s.expired)
	+ abs(l.user_limit - s.user_limit) + abs(l.address_limit - s.address_limit) + abs(l.tail - s.lag_rows)
FROM adclick.status s, (
	SELECT count(verdict) AS taken, count(*) FILTER (WHERE verdict = 'counted') AS counted, count(*) FILTER (WHERE verdict = 'duplicate') AS duplicates,
		count(*) FILTER (WHERE verdict = 'in the future') AS in_future, count(*) FILTER (WHERE verdict = 'too old') AS too_old,
		count(*) FILTER (WHERE verdict = 'undecided') AS undecided,
		count(*) FILTER (WHERE verdict = 'forged impression') AS forged, count(*) FILTER (WHERE verdict = 'expired impression') AS expired,
		count(*) FILTER (WHERE verdict = 'user limit') AS user_limit, count(*) FILTER (WHERE verdict = 'address limit') AS address_limit,
		count(*) FILTER (WHERE verdict NOT IN ('counted', 'duplicate')) AS others, count(*) FILTER (WHERE verdict IS NULL) AS tail
	FROM adclick.click_log) l
$$;

--
-- Questions
--

-- One or more values of a filter as a list; NULL for no filter.
CREATE FUNCTION oracle.list(value jsonb) RETURNS text[]
	LANGUAGE sql IMMUTABLE AS $$
SELECT CASE jsonb_typeof(value) WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(value))
	ELSE ARRAY[value #>> '{}'] END
WHERE value IS NOT NULL
$$;

-- An address, or a network around it.
CREATE FUNCTION oracle.random_network(ip inet) RETURNS text
	LANGUAGE sql VOLATILE AS $$
SELECT CASE WHEN dice < 0.3 THEN host(ip) WHEN dice < 0.4 THEN text(oracle.host(ip))
	WHEN dice < 0.7 THEN text(set_masklen(ip, length)) ELSE text(network(set_masklen(ip, length))) END
FROM (SELECT random() AS dice, floor(random() * (1 + masklen(oracle.host(ip))))::int AS length) d
$$;

-- A value or values for a filter, mostly those of two clicks.
CREATE FUNCTION oracle.random_values(key text, one jsonb, other jsonb) RETURNS jsonb
	LANGUAGE sql VOLATILE AS $$
SELECT CASE floor(random() * 14)
	WHEN 0 THEN nobody
	WHEN 1 THEN '[]'
	WHEN 2 THEN jsonb_build_array(nobody, a)
	WHEN 3 THEN jsonb_build_array(a, a, b)
	WHEN 4 THEN jsonb_build_array(b, a)
	WHEN 5 THEN jsonb_build_array(a)
	WHEN 6 THEN CASE WHEN key IN ('country', 'region', 'device') THEN '""'::jsonb ELSE a END
	WHEN 7 THEN CASE WHEN key IN ('country', 'region', 'device') THEN jsonb_build_array('', repeat('x', 65), a) ELSE a END
	ELSE a END
FROM (SELECT to_jsonb(CASE key WHEN 'ip' THEN '192.0.2.0/24' ELSE 'nowhere' END) AS text, to_jsonb(4711000) AS number) n
CROSS JOIN LATERAL (SELECT CASE WHEN key IN ('user_id', 'advertiser_id') THEN number ELSE text END AS nobody) x
CROSS JOIN LATERAL (SELECT coalesce(CASE key WHEN 'ip' THEN to_jsonb(oracle.random_network((one #>> '{}')::inet))
		ELSE nullif(one, 'null') END, nobody) AS a,
	coalesce(CASE key WHEN 'ip' THEN to_jsonb(oracle.random_network((other #>> '{}')::inet))
		ELSE nullif(other, 'null') END, nobody) AS b) y
$$;

-- Filters for a question: none, on dimensions, on a user, an address, an advertiser, on several of them.
CREATE FUNCTION oracle.random_filters(one jsonb, other jsonb) RETURNS jsonb
	LANGUAGE sql VOLATILE AS $$
SELECT coalesce(jsonb_object_agg(key, oracle.random_values(key, one->key, other->key)), '{}')
FROM (SELECT floor(random() * 12) AS kind) d,
	unnest('{country,region,device,user_id,ip,advertiser_id}'::text[]) key
WHERE CASE WHEN kind < 2 THEN false
	WHEN kind < 5 THEN key IN ('country', 'region', 'device') AND random() < 0.5
	WHEN kind < 7 THEN key = 'user_id'
	WHEN kind < 9 THEN key = 'ip'
	WHEN kind < 10 THEN key = 'advertiser_id'
	ELSE random() < 0.4 END
$$;

-- Whether a click meets the filters of a question; NULL for no filter.
CREATE FUNCTION oracle.meets(countries text[], regions text[], devices text[], users bigint[], networks inet[],
	advertisers bigint[], country text, region text, device text, user_id bigint, ip inet, advertiser_id bigint)
	RETURNS boolean
	LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce((countries IS NULL OR country = ANY (countries)) AND (regions IS NULL OR region = ANY (regions))
	AND (devices IS NULL OR device = ANY (devices)) AND (users IS NULL OR user_id = ANY (users))
	AND (networks IS NULL OR ip <<= ANY (networks)) AND (advertisers IS NULL OR advertiser_id = ANY (advertisers)), false)
$$;

-- The answer to a question, or that users and addresses were not kept.
CREATE FUNCTION oracle.answer(question text) RETURNS text
	LANGUAGE plpgsql STABLE AS $$
DECLARE
	answer text;
	hint text;
BEGIN
	EXECUTE question INTO answer;
	RETURN answer;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN 'refused: ' || hint;
END
$$;

/*
 * Ask all questions at random, with all kinds of windows and filters, in one
 * snapshot with the oracle; returns those whose answers are wrong.  Each time
 * it is ad_click_count, top_n_ads and one of the others.  "may_refuse":
 * questions about users and addresses may be refused, with a hint.
 */
CREATE FUNCTION oracle.wrong_answers(questions int, taken_only boolean DEFAULT false, may_refuse boolean DEFAULT false)
	RETURNS TABLE (question text, expected text, answer text)
	LANGUAGE sql STABLE SET work_mem = '64MB' SET jit = off AS $$
WITH clicks AS MATERIALIZED (
	SELECT row_number() OVER () AS nr, c.*, a.advertiser_id
	FROM oracle.clicks(taken_only) c LEFT JOIN adclick.ads a USING (ad_id)
), bounds AS MATERIALIZED (
	SELECT count(*) AS n, coalesce(min(minute), date_trunc('minute', now())) AS low,
		coalesce(max(minute), date_trunc('minute', now())) AS high,
		date_trunc('minute', statement_timestamp(), 'UTC') AS this
	FROM clicks
), dice AS MATERIALIZED (
	SELECT i, random() AS a, random() AS b, random() AS c, random() AS d, random() AS e, random() AS f,
		floor(random() * 4) AS other, floor(random() * 6)::int AS size, floor(random() * 3)::int AS dimension
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
), filtered AS MATERIALIZED (
	SELECT w.*, CASE WHEN a < 0.1 THEN (a * 1e10)::bigint ELSE coalesce(one.ad_id, 0) END AS ad,
		coalesce(one.advertiser_id, 4711000) AS advertiser,
		(ARRAY['country', 'region', 'device'])[1 + w.dimension] AS by,
		-- the series, bounded
		CASE WHEN isfinite("from") THEN "from" ELSE low - interval '3 minutes' END AS start,
		CASE WHEN isfinite("to") THEN "to" ELSE high + interval '1 minute' END AS stop,
		oracle.random_filters(to_jsonb(one), to_jsonb(other)) AS filters
	FROM windows w LEFT JOIN clicks one ON one.nr = w.nr1 LEFT JOIN clicks other ON other.nr = w.nr2
), asked AS MATERIALIZED (
	SELECT f.*, oracle.list(filters->'country') AS countries, oracle.list(filters->'region') AS regions,
		oracle.list(filters->'device') AS devices, oracle.list(filters->'user_id')::bigint[] AS users,
		oracle.list(filters->'ip')::inet[] AS networks, oracle.list(filters->'advertiser_id')::bigint[] AS advertisers,
		bucket, ARRAY(SELECT t FROM generate_series(start, stop, bucket) t WHERE t < stop) AS buckets,
		CASE WHEN minutes IS NULL THEN '_between' ELSE '' END AS form,
		coalesce(minutes::text, format('%L, %L', "from", "to")) AS span
	FROM filtered f CROSS JOIN LATERAL (SELECT CASE WHEN stop - start > interval '1 day' THEN '1 day'
		ELSE ('{1 minute,1 minute,5 minutes,7 minutes,1 hour,1 month}'::interval[])[1 + size] END AS bucket) b
), by_ad AS MATERIALIZED (
	SELECT q.i, c.ad_id, c.advertiser_id, count(*) AS clicks
	FROM asked q JOIN clicks c ON c.minute >= q."from" AND c.minute < q."to"
		AND (q.filters = '{}' OR oracle.meets(q.countries, q.regions, q.devices, q.users, q.networks, q.advertisers,
			c.country, c.region, c.device, c.user_id, c.ip, c.advertiser_id))
	GROUP BY 1, 2, 3
), ranked AS MATERIALIZED (
	SELECT *, row_number() OVER (PARTITION BY i ORDER BY clicks DESC, ad_id) AS rank FROM by_ad
), of_ad AS MATERIALIZED (
	SELECT q.i, c.user_id, width_bucket(c.minute, q.buckets) AS bucket,
		CASE q.by WHEN 'country' THEN c.country WHEN 'region' THEN c.region ELSE c.device END AS value,
		c.minute >= start AND c.minute < stop AS in_series
	FROM asked q JOIN clicks c ON c.ad_id = q.ad AND c.minute >= q."from" AND c.minute < q."to"
		AND oracle.meets(q.countries, q.regions, q.devices, q.users, q.networks, q.advertisers,
			c.country, c.region, c.device, c.user_id, c.ip, c.advertiser_id)
), expected AS (
	SELECT format('SELECT adclick.ad_click_count%s(%L, %s, %L)', form, ad, span, filters) AS question, filters ?| '{user_id,ip}' AS of_users,
		coalesce((SELECT clicks FROM by_ad b WHERE b.i = q.i AND b.ad_id = q.ad), 0)::text AS expected
	FROM asked q
	UNION ALL
	SELECT format('SELECT string_agg(rank || '': '' || ad_id || '' '' || click_count, '', '') FROM adclick.top_n_ads%s(%s, %s, %L)',
			form, top, span, filters), filters ?| '{user_id,ip}',
		(SELECT string_agg(r.rank || ': ' || r.ad_id || ' ' || r.clicks, ', ' ORDER BY r.rank)
			FROM ranked r WHERE r.i = q.i AND r.rank <= q.top)
	FROM asked q
	UNION ALL
	SELECT format('SELECT adclick.advertiser_click_count%s(%L, %s, %L)', form, advertiser, span, filters), filters ?| '{user_id,ip}',
		coalesce((SELECT sum(clicks) FROM by_ad b WHERE b.i = q.i AND b.advertiser_id = q.advertiser), 0)::text
	FROM asked q WHERE other = 0
	UNION ALL
	SELECT format('SELECT adclick.unique_users%s(%L, %s, %L)', form, ad, span, filters), true,
		(SELECT count(DISTINCT user_id) FROM of_ad u WHERE u.i = q.i)::text
	FROM asked q WHERE other = 1
	UNION ALL
	SELECT format('SELECT string_agg(value || '' '' || click_count, '', '') FROM adclick.breakdown%s(%L, %s, %L, %L)',
			form, ad, span, q.by, filters), filters ?| '{user_id,ip}',
		(SELECT string_agg(value || ' ' || n, ', ' ORDER BY n DESC, value COLLATE "C")
			FROM (SELECT value, count(*) AS n FROM of_ad v WHERE v.i = q.i GROUP BY 1) v)
	FROM asked q WHERE other = 2
	UNION ALL
	SELECT format('SELECT string_agg("time" || '' '' || click_count, '', '') FROM adclick.click_series(%L, %L, %L, %L, %L)',
			ad, start, stop, bucket, filters), filters ?| '{user_id,ip}',
		(SELECT string_agg(t || ' ' || coalesce(n, 0), ', ' ORDER BY k)
			FROM unnest(buckets) WITH ORDINALITY b (t, k) LEFT JOIN
				(SELECT s.bucket AS k, count(*) AS n FROM of_ad s WHERE s.i = q.i AND s.in_series GROUP BY 1) s USING (k))
	FROM asked q WHERE other = 3
), answers AS MATERIALIZED (
	SELECT *, oracle.answer(question) AS answer FROM expected
)
SELECT question, left(expected, 2000), left(answer, 2000) FROM answers
WHERE expected IS DISTINCT FROM answer AND NOT (may_refuse AND of_users AND answer LIKE 'refused: _%')
$$;

/*
 * Differences between adclick.most_clicked_ads and its like of hours and days and plain SQL,
 * for the minutes, hours and days that are wholly compacted.  Minutes of an hour that has become
 * one run need not have lists.  "ads_kept" is the length of the lists.
 */
CREATE FUNCTION oracle.wrong_lists(ads_kept int DEFAULT oracle.setting('top_ads_kept'))
	RETURNS TABLE (who text, click_minute timestamptz, filter_id int, ads text, cut_off bigint)
	LANGUAGE sql STABLE SET work_mem = '64MB' SET jit = off AS $$
WITH minutes AS MATERIALIZED (
	SELECT m AS minute, date_trunc('hour', m, 'UTC') AS hour, date_trunc('day', m, 'UTC') AS day,
		bool_or(NOT is_delta AND first_minute < last_minute) AS in_hour, bool_or(is_delta) AS pending
	FROM adclick_internal.runs, unnest(minutes) m WHERE sort_order = 0 GROUP BY 1
), compacted AS MATERIALIZED (
	SELECT 'minute' AS grain, minute AS first, in_hour, minute FROM minutes WHERE NOT pending
	UNION ALL
	SELECT 'hour', hour, false, minute FROM minutes
		JOIN (SELECT hour FROM minutes GROUP BY 1 HAVING bool_and(in_hour AND NOT pending)) h USING (hour)
	UNION ALL
	SELECT 'day', day, false, minute FROM minutes JOIN (SELECT day FROM minutes GROUP BY 1 HAVING bool_and(NOT pending)) d USING (day)
	WHERE EXISTS (SELECT FROM adclick_internal.runs WHERE sort_order = 4 AND NOT is_delta AND last_minute = day)
		AND NOT EXISTS (SELECT FROM adclick_internal.runs WHERE sort_order = 4 AND is_delta AND day = ANY (minutes))
), kept AS MATERIALIZED (
	SELECT * FROM adclick.filters WHERE country IS NULL OR region IS NULL OR device IS NULL
), ranked AS MATERIALIZED (
	SELECT c.grain, c.first, f.filter_id, ad_id, count(*) AS clicks,
		row_number() OVER (PARTITION BY c.grain, c.first, f.filter_id ORDER BY count(*) DESC, ad_id) AS rank
	FROM oracle.clicks(true) JOIN compacted c USING (minute) JOIN kept f
		ON coalesce(f.country = clicks.country, true) AND coalesce(f.region = clicks.region, true)
			AND coalesce(f.device = clicks.device, true)
	GROUP BY 1, 2, 3, 4
), lists AS MATERIALIZED (
	SELECT 'minute' AS grain, click_minute AS first, filter_id, most_clicked_ads, cut_off FROM adclick.most_clicked_ads
	UNION ALL
	SELECT 'hour', click_hour, filter_id, most_clicked_ads, cut_off FROM adclick.most_clicked_ads_hourly
	UNION ALL
	SELECT 'day', click_day, filter_id, most_clicked_ads, cut_off FROM adclick.most_clicked_ads_daily
), expected AS MATERIALIZED (
	SELECT grain, first, filter_id,
		string_agg(ad_id || ' ' || clicks, ', ' ORDER BY rank) FILTER (WHERE rank = 1 OR (rank <= ads_kept AND clicks > coalesce(most, 0))), coalesce(most, 0) AS coalesce
	FROM (SELECT DISTINCT grain, first, in_hour FROM compacted) c CROSS JOIN kept LEFT JOIN ranked USING (grain, first, filter_id)
		LEFT JOIN (SELECT grain, first, filter_id, max(clicks) AS most FROM ranked WHERE rank > ads_kept GROUP BY 1, 2, 3) beyond USING (grain, first, filter_id)
		LEFT JOIN lists l USING (grain, first, filter_id)
	WHERE NOT in_hour OR l.cut_off IS NOT NULL GROUP BY 1, 2, 3, most
), stored AS MATERIALIZED (
	SELECT grain, first, l.filter_id, (SELECT string_agg(ad_id || ' ' || click_count, ', ') FROM unnest(l.most_clicked_ads)),
		l.cut_off
	FROM lists l JOIN (SELECT DISTINCT grain, first FROM compacted) c USING (grain, first)
)
(SELECT 'expected ' || grain, first, filter_id, e.string_agg, e.coalesce FROM (TABLE expected EXCEPT ALL TABLE stored) e)
UNION ALL
(SELECT 'stored ' || grain, first, filter_id, s.string_agg, s.cut_off FROM (TABLE stored EXCEPT ALL TABLE expected) s)
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
 * Random clicks of the last "spread" of time: skewed ads, users and addresses,
 * random, version-7 and missing ids, 1 % exact copies, 1 % late by up to ten
 * minutes, 3 % hostile.
 * "late": some so late, by the time in their id, that their keys are not in memory.
 */
CREATE FUNCTION oracle.random_clicks(n int, spread interval, late boolean DEFAULT true)
	RETURNS TABLE (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet,
		country text, region text, device text)
	LANGUAGE sql VOLATILE AS $$
WITH dice AS MATERIALIZED (
	SELECT i, (random() * 1000)::int AS kind, random() AS a, random() AS b, random() AS c, random() AS d,
		random() AS e, random() AS f,
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
		CASE WHEN kind = 26 THEN 9223372036854775807 WHEN kind = 27 THEN -9223372036854775808 WHEN kind = 28 THEN -1
			WHEN e > 0.02 THEN floor(exp(e * ln(20000)))::bigint END AS user_id,
		CASE WHEN kind = 29 THEN '0.0.0.0' WHEN kind = 30 THEN '255.255.255.255' WHEN kind = 31 THEN '::'
			WHEN kind = 32 THEN 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' WHEN kind = 33 THEN '::ffff:10.0.0.1'
			WHEN kind = 34 THEN '10.0.0.7/8' WHEN kind = 35 THEN '2001:db8::7/32'
			WHEN f < 0.1 THEN NULL
			WHEN f < 0.6 THEN '10.0.0.0'::inet + floor(exp((f - 0.1) * 2 * ln(2 ^ 24)))::bigint
			ELSE '2001:db8::'::inet + floor(exp((f - 0.6) * 2.5 * ln(2 ^ 63)))::bigint END AS ip,
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

-- The same, but that they ended so long ago.
CREATE FUNCTION oracle.send_past_clicks(n int, spread interval, ago interval) RETURNS void
	LANGUAGE sql VOLATILE AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at - ago, user_id, ip, country, region, device FROM oracle.random_clicks(n, spread) WHERE clicked_at IS NOT NULL
$$;

-- A query of what one of two relations has and the other has not.
CREATE FUNCTION oracle.differs(one text, other text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT format('(TABLE %1$s EXCEPT ALL TABLE %2$s) UNION ALL (TABLE %2$s EXCEPT ALL TABLE %1$s)', one, other)
$$;

-- What the error of a statement says.
CREATE FUNCTION oracle.refused(statement text, OUT code text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END
$$;

-- Rounds of compaction until there is nothing left.
CREATE FUNCTION oracle.compact() RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	WHILE (SELECT more FROM adclick.compact()) LOOP END LOOP;
END
$$;

-- Exact copies of clicks in the log.
CREATE FUNCTION oracle.send_copies(n int) RETURNS void
	LANGUAGE sql VOLATILE AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device
FROM adclick.click_log WHERE click_id IS NOT NULL AND clicked_at IS NOT NULL
ORDER BY random() LIMIT n
$$;

-- Advertisers: of some ads that are clicked and some that are not, the same every time.
CREATE FUNCTION oracle.make_ads() RETURNS void
	LANGUAGE sql VOLATILE AS $$
INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url, website)
SELECT i, CASE WHEN i % 50 <> 0 THEN i % 40 END, 'https://example.com/to/' || i, 'example.com'
FROM generate_series(1, 3000) i
WHERE i % 10 <> 0 OR i % 50 = 0
UNION ALL
VALUES (9223372036854775807, 7, NULL, NULL), (-9223372036854775808, -9223372036854775808, NULL, NULL)
ON CONFLICT DO NOTHING
$$;
