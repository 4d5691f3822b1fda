-- The views over counts: every query gives the same as over plain tables made of
-- the log, whatever is pushed down into the scan, in the tail, between ticks and
-- after compaction.

\set ON_ERROR_STOP on

-- plain.facts is made anew at each step; the views over it are those of adclick.
CREATE SCHEMA plain;
CREATE TABLE plain.facts (ad_id bigint, click_minute timestamptz, filter_id int, country text, region text, device text,
	click_count bigint);
CREATE VIEW plain.ad_click_counts AS
	SELECT f.ad_id, a.advertiser_id, f.click_minute, f.filter_id, f.click_count
	FROM plain.facts f LEFT JOIN adclick.ads a USING (ad_id);
CREATE VIEW plain.clicks_per_minute AS
	SELECT f.click_minute, f.ad_id, a.advertiser_id, f.country, f.region, f.device, f.click_count
	FROM plain.facts f LEFT JOIN adclick.ads a USING (ad_id);

INSERT INTO adclick.ads SELECT n, nullif(n % 50, 0), 'https://example.com/' || n, 'example.com' FROM generate_series(1, 1500) n;

CREATE FUNCTION plain.refresh() RETURNS void LANGUAGE sql AS $$
TRUNCATE plain.facts;
INSERT INTO plain.facts
	SELECT f.ad_id, f.minute, d.filter_id, f.country, f.region, f.device, f.clicks
	FROM oracle.facts() f LEFT JOIN adclick.filters d USING (country, region, device)
$$;

-- Rows that a query over the views and the same over plain.* do not have in common.
CREATE FUNCTION plain.differences(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	plain_query text := replace(query, 'adclick.ad_click_counts', 'plain.ad_click_counts');
	n bigint;
BEGIN
	plain_query := replace(plain_query, 'adclick.clicks_per_minute', 'plain.clicks_per_minute');
	EXECUTE format('WITH a AS MATERIALIZED (%s), b AS MATERIALIZED (%s)
		SELECT count(*) FROM ((TABLE a EXCEPT ALL TABLE b) UNION ALL (TABLE b EXCEPT ALL TABLE a)) d', query, plain_query) INTO n;
	RETURN n;
END
$$;

CREATE FUNCTION plain.is_equal(query text, step text) RETURNS text LANGUAGE sql AS
$$ SELECT is(plain.differences(query), 0::bigint, step || ': ' || regexp_replace(query, '\s+', ' ', 'g')) $$;

CREATE FUNCTION plain.any_of(choices text[]) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;

CREATE FUNCTION plain.random_ad() RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT CASE WHEN random() < 0.1 THEN plain.any_of('{0,-1,9223372036854775807,-9223372036854775808,100000}')
	ELSE floor(exp(random() * ln(2000)))::text END
$$;

CREATE FUNCTION plain.random_time() RETURNS text LANGUAGE sql VOLATILE AS $$
SELECT CASE floor(random() * 9)
	WHEN 0 THEN format('%L::timestamptz', now() - random() * interval '2 hours')
	WHEN 1 THEN format('date_trunc(''minute'', now()) - interval ''%s minutes''', floor(random() * 120))
	WHEN 2 THEN format('(now() - interval ''%s seconds'')::timestamp', floor(random() * 7200))
	WHEN 3 THEN plain.any_of('{current_date,''-infinity'',''infinity'',timestamp ''infinity''}')
	WHEN 4 THEN format('to_timestamp(%s)', floor(extract(epoch FROM now()) / 60) * 60 - floor(random() * 120) * 60)
	ELSE format('%L', date_trunc('minute', now() - random() * interval '2 hours'))
END
$$;

CREATE FUNCTION plain.random_condition(with_dimensions boolean) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	op text := plain.any_of('{<,<=,=,>=,>}');
	dimension text := plain.any_of('{country,region,device}');
	value text := CASE WHEN random() < 0.1 THEN plain.any_of('{unknown,other,XX}') ELSE
		(SELECT CASE dimension WHEN 'country' THEN country WHEN 'region' THEN region ELSE device END
		FROM plain.facts ORDER BY random() LIMIT 1) END;
	filter text := coalesce((SELECT filter_id FROM plain.facts ORDER BY random() LIMIT 1), 1)::text;
BEGIN
	CASE floor(random() * 6)
	WHEN 0 THEN
		RETURN format(plain.any_of(ARRAY['ad_id %2$s %1$s', '%1$s %2$s ad_id', 'ad_id = %1$s', 'ad_id IN (%1$s, %3$s, %4$s)',
			'ad_id BETWEEN %1$s AND %3$s', 'ad_id = ANY (ARRAY[%1$s, NULL, %3$s, %3$s]::bigint[])', 'ad_id <> %1$s',
			'ad_id = 7::smallint', 'ad_id = ANY (''{1,5,3}''::smallint[])', 'ad_id = ANY (''{}''::int[])', 'ad_id = NULL::int',
			'ad_id = %1$s::numeric', 'ad_id %% 2 = 0', 'ad_id NOT IN (%1$s, %3$s)', 'ad_id IN (SELECT ad_id FROM adclick.ads WHERE advertiser_id = 3)',
			'(ad_id = %1$s OR click_count > 1)', 'ad_id IN (SELECT generate_series(1, 40))']),
			plain.random_ad(), op, plain.random_ad(), plain.random_ad());
	WHEN 1, 2 THEN
		RETURN format(plain.any_of(ARRAY['click_minute %2$s %1$s', 'click_minute >= %1$s', 'click_minute < %1$s', '%1$s %2$s click_minute',
			'click_minute BETWEEN %1$s AND %3$s', 'click_minute IN (%1$s, %3$s)', 'extract(minute FROM click_minute) %% 2 = 1',
			'(click_minute < %1$s OR click_minute > %3$s)', 'click_minute <> %1$s', 'date_trunc(''hour'', click_minute) %2$s %1$s']),
			plain.random_time(), op, plain.random_time());
	WHEN 3, 4 THEN
		IF NOT with_dimensions THEN
			RETURN format(plain.any_of('{filter_id %2$s %1$s,filter_id = %1$s,"filter_id IN (%1$s, 2, 3)",filter_id <> %1$s,
				filter_id IS NULL,filter_id %% 2 = 0,filter_id = 3::bigint,"coalesce(filter_id, 0) < 9"}'), filter, op);
		END IF;
		RETURN format(plain.any_of(ARRAY['%1$s = %2$L', '%1$s IN (%2$L, ''unknown'')', '%1$s <> %2$L', '%1$s %3$s %2$L COLLATE "C"',
			'lower(%1$s) = lower(%2$L)', '%1$s LIKE ''%%A%%''', '(country = ''CA'' OR device = %2$L)', 'country < region',
			'%1$s IS NOT NULL', 'length(%1$s) > 2', '%1$s = NULL', '%1$s = ANY (ARRAY[%2$L, NULL])', 'country || device <> ''CAmobile''']),
			dimension, value, op);
	WHEN 5 THEN
		RETURN plain.any_of(ARRAY['click_count > 1', 'click_count > ad_id', 'true', 'random() < 2', 'advertiser_id = 7',
			'advertiser_id IS NULL', 'advertiser_id < 5', 'advertiser_id IN (2, 4, 8)',
			'ad_id IN (SELECT a.ad_id FROM adclick.ads a WHERE a.advertiser_id < 3)', 'now() > ''2000-01-01''']);
	END CASE;
END
$$;

-- Rows of the query in the order of their minutes, each with whether it breaks it: never, if all is well.
CREATE FUNCTION plain.in_order(query text, direction text) RETURNS text LANGUAGE sql AS $$
SELECT format('SELECT *, coalesce(click_minute %s lag(click_minute) OVER (), false) AS is_misplaced FROM (%s ORDER BY click_minute %s OFFSET 0) o',
	CASE direction WHEN 'ASC' THEN '<' ELSE '>' END, query, direction)
$$;

CREATE FUNCTION plain.random_query() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	with_dimensions boolean := random() < 0.5;
	relation text := CASE WHEN with_dimensions THEN 'adclick.clicks_per_minute' ELSE 'adclick.ad_click_counts' END;
	conditions text := coalesce((SELECT string_agg(plain.random_condition(with_dimensions), ' AND ')
		FROM generate_series(1, floor(random() * 4)::int)), 'true');
	keys text[] := CASE WHEN with_dimensions THEN '{country,region,device,length(device),country || region}'::text[]
		ELSE '{filter_id,filter_id % 3}' END || '{ad_id,click_minute,"date_trunc(''hour'', click_minute)",extract(minute FROM click_minute)}';
	groups text := (SELECT string_agg(key, ', ') FROM unnest(keys) key WHERE random() < 0.3);
	others text := plain.any_of('{"","","","",", count(*)",", max(click_count)",", sum(click_count) FILTER (WHERE ad_id > 3)",", sum(click_count + 1)"}');
BEGIN
	CASE floor(random() * 7)
	WHEN 0 THEN
		RETURN format('SELECT * FROM %s WHERE %s', relation, conditions);
	WHEN 4 THEN
		RETURN plain.in_order(format('SELECT * FROM %s WHERE %s', relation, conditions), plain.any_of('{ASC,DESC}'));
	WHEN 5 THEN
		RETURN format('SELECT click_minute FROM %s WHERE %s ORDER BY click_minute %s LIMIT %s OFFSET %s', relation, conditions,
			plain.any_of('{"",DESC}'), floor(exp(random() * 6)), plain.any_of('{0,0,7}'));
	WHEN 6 THEN
		RETURN format('SELECT %s FROM %s WHERE %s%s', plain.any_of('{min(click_minute),max(click_minute),
			"min(click_minute), max(click_minute)","max(click_minute) - min(click_minute), now() - max(click_minute)","max(DISTINCT click_minute)",
			"max(click_minute), count(*)","max(click_minute), sum(click_count)","max(click_minute) FILTER (WHERE ad_id > 3)"}'),
			relation, conditions, plain.any_of('{"",""," HAVING min(click_minute) < now() - interval ''1 hour''"}'));
	WHEN 1 THEN
		RETURN format('SELECT sum(click_count)%s FROM %s WHERE %s', others, relation, conditions);
	ELSE
		RETURN format('SELECT %1$s%2$s FROM %3$s WHERE %4$s GROUP BY %5$s%6$s', coalesce(groups || ', ', ''),
			'sum(click_count)' || others, relation, conditions, coalesce(groups, '()'),
			plain.any_of('{"",""," HAVING sum(click_count) > 3"}'));
	END CASE;
END
$$;

-- Queries that are wrong, of some random ones.
CREATE FUNCTION plain.wrong_queries(queries int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	query text;
BEGIN
	FOR i IN 1 .. queries LOOP
		query := plain.random_query();
		IF plain.differences(query) <> 0 THEN
			RETURN NEXT query;
		END IF;
	END LOOP;
EXCEPTION WHEN OTHERS THEN
	RAISE EXCEPTION '% in %', SQLERRM, query;
END
$$;

-- The shapes people and tools write.
CREATE TABLE plain.shapes (nr int GENERATED ALWAYS AS IDENTITY, query text);
INSERT INTO plain.shapes (query) VALUES
	('SELECT * FROM adclick.ad_click_counts'),
	('SELECT * FROM adclick.clicks_per_minute'),
	('SELECT count(*) FROM adclick.ad_click_counts'),
	('SELECT DISTINCT ad_id FROM adclick.ad_click_counts'),
	('SELECT DISTINCT country, device FROM adclick.clicks_per_minute'),
	('SELECT ad_id, click_minute FROM adclick.ad_click_counts GROUP BY 1, 2'),
	('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = -5'),
	('SELECT coalesce(sum(click_count), 0)::bigint / 2 FROM adclick.ad_click_counts WHERE ad_id < 10'),
	('SELECT ad_id / 2, round(sum(click_count) / 3, 2), sum(click_count) FROM adclick.ad_click_counts GROUP BY ad_id HAVING sum(click_count) BETWEEN 2 AND 50'),
	('SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 7'),
	('SELECT click_minute, country, sum(click_count) FROM adclick.clicks_per_minute GROUP BY ROLLUP (click_minute, country)'),
	('SELECT country, sum(DISTINCT click_count), avg(click_count), count(DISTINCT ad_id) FROM adclick.clicks_per_minute GROUP BY 1'),
	('SELECT country, sum(click_count), sum(sum(click_count)) OVER (ORDER BY country) FROM adclick.clicks_per_minute GROUP BY 1'),
	('SELECT ad_id, click_minute, rank() OVER (PARTITION BY ad_id ORDER BY click_count, click_minute, filter_id) FROM adclick.ad_click_counts WHERE ad_id < 20'),
	('SELECT advertiser_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1'),
	('SELECT ad_id, advertiser_id, sum(click_count) FROM adclick.ad_click_counts WHERE advertiser_id = 3 GROUP BY 1, 2'),
	('SELECT f.country, sum(c.click_count) FROM adclick.ad_click_counts c JOIN adclick.filters f USING (filter_id) GROUP BY 1'),
	('SELECT c.*, f.* FROM adclick.ad_click_counts c LEFT JOIN adclick.filters f USING (filter_id)'),
	('SELECT a.website, c.click_minute, c.click_count FROM adclick.ads a JOIN adclick.ad_click_counts c USING (ad_id) WHERE a.ad_id IN (3, 5, 8)'),
	('SELECT a.ad_id, sum(c.click_count) FROM adclick.ads a LEFT JOIN adclick.clicks_per_minute c ON c.ad_id = a.ad_id AND c.country = ''CA'' GROUP BY 1'),
	('SELECT a.ad_id FROM adclick.ads a WHERE NOT EXISTS (SELECT FROM adclick.ad_click_counts c WHERE c.ad_id = a.ad_id)'),
	('SELECT a.ad_id FROM adclick.ads a WHERE EXISTS (SELECT FROM adclick.ad_click_counts c WHERE c.ad_id = a.ad_id AND c.click_count > 2)'),
	('SELECT * FROM adclick.ad_click_counts a JOIN adclick.ad_click_counts b USING (ad_id, click_minute) WHERE a.filter_id < b.filter_id'),
	('SELECT a.ad_id, a.click_count - b.click_count FROM adclick.clicks_per_minute a FULL JOIN adclick.clicks_per_minute b
		ON a.ad_id = b.ad_id AND a.click_minute = b.click_minute + interval ''1 minute'' AND a.country = b.country'),
	('SELECT m, s.sum FROM generate_series(date_trunc(''minute'', now()) - interval ''20 minutes'', now(), interval ''1 minute'') m,
		LATERAL (SELECT sum(click_count) FROM adclick.ad_click_counts WHERE click_minute = m) s'),
	('SELECT n, s.* FROM generate_series(-1, 12) n, LATERAL (SELECT country, sum(click_count) FROM adclick.clicks_per_minute WHERE ad_id = n GROUP BY 1) s'),
	('SELECT n, (SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = n AND filter_id <> n) FROM generate_series(1, 30) n'),
	('SELECT n, (SELECT count(*) FROM adclick.clicks_per_minute WHERE ad_id = n AND device = CASE WHEN n % 2 = 0 THEN ''mobile'' ELSE ''tablet'' END) FROM generate_series(1, 30) n'),
	('SELECT n, (SELECT sum(click_count) FROM adclick.ad_click_counts WHERE click_minute > now() - n * interval ''5 minutes'') FROM generate_series(1, 20) n'),
	('SELECT n, (SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = nullif(n, 3)) FROM generate_series(1, 5) n'),
	('WITH c AS MATERIALIZED (SELECT * FROM adclick.ad_click_counts WHERE ad_id < 50) SELECT x.ad_id, y.click_count FROM c x JOIN c y USING (click_minute)'),
	('SELECT ad_id, sum FROM (SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY ad_id) s WHERE sum > 20 AND ad_id > 3'),
	('SELECT ad_id FROM adclick.ad_click_counts WHERE click_count > 2 UNION SELECT ad_id FROM adclick.clicks_per_minute WHERE country = ''FR'''),
	('SELECT c.click_count, c::text FROM adclick.ad_click_counts c WHERE ad_id = 2'),
	('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = (SELECT max(ad_id) FROM adclick.ads WHERE advertiser_id = 1)'),
	('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = ANY (ARRAY(SELECT ad_id FROM adclick.ads WHERE advertiser_id = 1))'),
	('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE (SELECT false)'),
	('SELECT * FROM adclick.ad_click_counts WHERE ad_id = 2 AND ad_id IN (1, 3) AND ad_id < 8'),
	('SELECT date_trunc(''hour'', click_minute), sum(click_count) FROM adclick.ad_click_counts WHERE date_trunc(''hour'', click_minute) < now() GROUP BY 1'),
	('SELECT * FROM adclick.ad_click_counts WHERE click_minute < date ''5000000-01-01'' AND click_minute > ''4714-11-24 BC''::date'),
	('SELECT ''x'' AS x, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1'),
	('SELECT min(click_minute), max(click_minute) FROM adclick.clicks_per_minute'),
	('SELECT min(click_minute) FROM adclick.ad_click_counts WHERE click_minute > now() - interval ''1 hour'''),
	('SELECT max(click_minute) FROM adclick.ad_click_counts WHERE click_minute < now() - interval ''1 hour'''),
	('SELECT max(click_minute) FROM adclick.clicks_per_minute WHERE country = ''CA'' AND ad_id IN (1, 2, 3) HAVING min(click_minute) IS NOT NULL'),
	('SELECT max(click_minute), min(click_minute) FROM adclick.clicks_per_minute WHERE extract(minute FROM click_minute) % 2 = 1'),
	('SELECT max(click_minute), min(ad_id), min(click_minute) FROM adclick.clicks_per_minute'),
	('SELECT ad_id, max(click_minute) FROM adclick.clicks_per_minute GROUP BY 1'),
	('SELECT click_minute FROM adclick.clicks_per_minute GROUP BY 1'),
	('SELECT date_trunc(''hour'', click_minute) FROM adclick.clicks_per_minute WHERE extract(minute FROM click_minute) % 2 = 1 GROUP BY 1'),
	('SELECT DISTINCT click_minute FROM adclick.clicks_per_minute'),
	('SELECT n, s.* FROM generate_series(1, 20) n, LATERAL (SELECT min(click_minute), max(click_minute) FROM adclick.ad_click_counts
		WHERE click_minute < now() - n * interval ''7 minutes'') s'),
	('SELECT n, s.* FROM generate_series(1, 20) n, LATERAL (SELECT click_minute FROM adclick.ad_click_counts
		WHERE click_minute < now() - n * interval ''7 minutes'' AND click_count <> n ORDER BY click_minute DESC LIMIT n) s'),
	('SELECT n, (SELECT click_minute FROM adclick.clicks_per_minute WHERE ad_id = n AND country > ''B'' ORDER BY click_minute LIMIT 1) FROM generate_series(0, 20) n'),
	('SELECT click_minute, ad_id FROM adclick.ad_click_counts ORDER BY click_minute DESC, ad_id LIMIT 50'),
	('SELECT click_minute, ad_id, click_count FROM adclick.clicks_per_minute ORDER BY click_minute, ad_id DESC, click_count LIMIT 50 OFFSET 3'),
	('SELECT click_minute, sum(click_count) FROM adclick.clicks_per_minute WHERE click_count > 1 GROUP BY 1 ORDER BY 1 DESC LIMIT 5'),
	('SELECT click_minute, advertiser_id FROM adclick.clicks_per_minute WHERE advertiser_id = 7 ORDER BY click_minute DESC LIMIT 1'),
	('SELECT a.click_minute FROM adclick.ad_click_counts a JOIN adclick.ad_click_counts b USING (click_minute, ad_id) ORDER BY 1 DESC LIMIT 9'),
	('SELECT a.ad_id, c.click_minute FROM adclick.ads a LEFT JOIN adclick.ad_click_counts c ON c.ad_id = a.ad_id AND c.click_count > 1 ORDER BY 2 DESC, 1 LIMIT 2000'),
	('SELECT upper(country), sum(click_count) FROM adclick.clicks_per_minute GROUP BY upper(country), region'),
	('SELECT country COLLATE "C", sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1 ORDER BY 1');

INSERT INTO plain.shapes (query)
SELECT plain.in_order('SELECT * FROM adclick.' || relation || conditions, direction)
FROM unnest('{ASC,DESC}'::text[]) direction, (VALUES
	('ad_click_counts', ''), ('clicks_per_minute', ' WHERE ad_id IN (1, 2, 3)'), ('clicks_per_minute', ' WHERE country = ''CA'' AND click_count > 1'),
	('ad_click_counts', ' WHERE click_minute BETWEEN now() - interval ''50 minutes'' AND now() - interval ''10 minutes'' AND extract(minute FROM click_minute) % 3 = 1')
) c (relation, conditions);

CREATE FUNCTION plain.is_exact(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM plain.refresh();
	RETURN NEXT is_empty('SELECT * FROM plain.wrong_queries(40)', step || ': random queries');
	RETURN NEXT is_empty('SELECT query FROM plain.shapes WHERE plain.differences(query) <> 0', step || ': shapes of queries');
END
$$;

SELECT no_plan();

SELECT setseed(0.3) AS seeded \gset
SELECT plain.is_exact('nothing');

SELECT oracle.send_clicks(1500, '2 hours', false) AS sent \gset
SELECT plain.is_exact('tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT plain.is_exact('taken');
-- a combination that no tick has taken, in the tail
INSERT INTO adclick.clicks (ad_id, country, region, device)
SELECT n % 5, 'New ' || n % 3, NULL, 'new' FROM generate_series(1, 20) n;
SELECT oracle.send_clicks(1000, '30 minutes', false) AS sent \gset
SELECT plain.is_exact('a tail with new filters');
SELECT plain.refresh() AS refreshed \gset
SELECT cmp_ok(count(*), '>', 0::bigint, 'new combinations have no filter_id yet') FROM adclick.ad_click_counts WHERE filter_id IS NULL;
SELECT minutes_written AS written FROM adclick.tick(), adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT plain.is_exact('compacted');
SELECT oracle.send_clicks(1000, '2 hours', false) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.send_clicks(500, '2 hours', false) AS sent \gset
SELECT plain.is_exact('late clicks, in deltas and in the tail');
SELECT is(count(*), 0::bigint, 'after a tick each has its filter_id') FROM adclick.ad_click_counts
WHERE filter_id IS NULL AND ad_id IN (SELECT ad_id FROM plain.facts WHERE device = 'new') AND filter_id IN (SELECT filter_id FROM adclick.filters WHERE device = 'new');

-- Plans of every kind
SELECT count(set_config(name, '0', false)) AS n FROM pg_settings
WHERE name IN ('parallel_setup_cost', 'parallel_tuple_cost', 'min_parallel_table_scan_size', 'enable_hashjoin', 'enable_mergejoin') \gset
SELECT plain.is_exact('nested loops');
SELECT count(set_config(name, 'on', false)) AS n FROM pg_settings WHERE name IN ('enable_hashjoin', 'enable_mergejoin') \gset
SELECT count(set_config(name, CASE WHEN name LIKE 'enable%' THEN 'off' ELSE 'on' END, false)) AS n FROM pg_settings
WHERE name IN ('enable_nestloop', 'enable_material', 'force_parallel_mode', 'debug_parallel_query') \gset
SELECT plain.is_exact('parallel plans, and no nested loops');
RESET ALL;
SELECT count(set_config(name, 'off', false)) AS n FROM pg_settings WHERE name IN ('enable_sort', 'enable_incremental_sort', 'enable_hashagg', 'jit') \gset
SELECT plain.is_exact('minutes in order, without sorting');
RESET ALL;

-- Joins look for the ads of the other side, and do not read everything
CREATE FUNCTION plain.plan_of(query text, options text DEFAULT 'COSTS OFF') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	lines text := '';
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
		lines := lines || line || E'\n';
	END LOOP;
	RETURN lines;
END
$$;

CREATE FUNCTION plain.counter(query text, name text) RETURNS bigint LANGUAGE sql AS $$
SELECT sum((m[1])::bigint) FROM regexp_matches(plain.plan_of(query, 'ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF'), name || ': (\d+)', 'g') m
$$;

SET cpu_tuple_cost = 10;
SELECT count(set_config(name, 'off', false)) AS n FROM pg_settings WHERE name IN ('enable_hashjoin', 'enable_mergejoin') \gset
SELECT cmp_ok(plain.counter('SELECT sum(c.click_count) FROM adclick.ads a JOIN adclick.ad_click_counts c USING (ad_id) WHERE a.ad_id BETWEEN 500 AND 505', 'Facts Read'),
	'<', 300::bigint, 'a join with a few ads reads a few facts');
SELECT cmp_ok(plain.counter('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE advertiser_id = 7', 'Facts Read'),
	'<', (SELECT count(*) / 2 FROM plain.facts), 'so does a condition on the advertiser');
RESET ALL;
SELECT cmp_ok(plain.counter('SELECT * FROM adclick.ad_click_counts LIMIT 1', 'Runs Read'), '<', 12::bigint, 'LIMIT opens few runs');
SELECT cmp_ok(plain.counter('SELECT * FROM adclick.ad_click_counts', 'Runs Read'), '>', 60::bigint, 'of many');
SELECT cmp_ok(plain.counter('SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts WHERE click_minute < now() - interval ''30 minutes'' GROUP BY 1', 'Runs Read'),
	'<=', (SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta), 'totals of whole minutes come from the directory of runs');
SELECT cmp_ok(plain.counter('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = 3 AND click_minute BETWEEN now() - interval ''60 minutes'' AND now() - interval ''50 minutes''', 'Runs Read'),
	'<=', 11 + (SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta), 'a window opens its runs only');

-- The first and last minute, and the rows of a few, without reading all the others
CREATE FUNCTION plain.has_lines(query text, lines text[], counters text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT alike(plain.plan_of(query), '%' || array_to_string(lines, '%') || '%', 'plan of ' || query);
	RETURN QUERY SELECT is(plain.counter(query, counter), 0::bigint, counter || ' of ' || query) FROM unnest(counters) counter;
END
$$;
SELECT plain.has_lines('SELECT ' || columns || ' FROM adclick.clicks_per_minute' || conditions, '{Aggregate,"Grouped By: click_minute"}', '{Runs Read,Segments Read,Facts Read}')
FROM unnest('{"min(click_minute), max(click_minute)",min(click_minute),max(click_minute)}'::text[]) columns,
	unnest('{""," WHERE click_minute < now() - interval ''1 hour''"," WHERE extract(minute FROM click_minute) % 2 = 1"}'::text[]) conditions;
SELECT plain.has_lines('SELECT click_minute FROM adclick.clicks_per_minute GROUP BY 1', '{"Grouped By: click_minute"}', '{Runs Read,Segments Read,Facts Read}');
SELECT plain.has_lines('SELECT max(click_minute) FROM adclick.clicks_per_minute WHERE country = ''CA''', '{Aggregate,"Grouped By: click_minute"}', '{}');
SELECT unalike(plain.plan_of('SELECT ' || columns || ' FROM adclick.clicks_per_minute' || conditions), '%Grouped By%', 'not pushed: ' || columns || conditions)
FROM (VALUES ('max(click_minute), count(*)', ''), ('max(click_minute), min(ad_id)', ''), ('max(click_minute) FILTER (WHERE ad_id > 1)', ''),
	('max(click_minute + interval ''1 hour'')', ''), ('max(click_minute)', ' WHERE click_count > 1'), ('max(click_minute)', ' GROUP BY ad_id')) c (columns, conditions);
SELECT plain.has_lines(format('SELECT * FROM adclick.clicks_per_minute%s ORDER BY click_minute%s LIMIT 3', conditions, direction),
	ARRAY['Limit', 'Foreign Scan', 'Minutes: ' || name || ' first'], '{}')
FROM (VALUES ('', 'oldest'), (' DESC', 'newest')) d (direction, name),
	unnest('{""," WHERE click_minute < now() - interval ''1 hour''"," WHERE click_count < 9"}'::text[]) conditions;
SELECT cmp_ok(plain.counter('SELECT * FROM adclick.clicks_per_minute ORDER BY click_minute' || direction || ' LIMIT 1', 'Runs Read'),
	'<=', 1 + (SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta), 'ORDER BY' || direction || ' LIMIT reads a minute, and the deltas')
FROM unnest('{""," DESC"}'::text[]) direction;
SELECT unalike(plain.plan_of('SELECT ad_id, click_count FROM adclick.ad_click_counts ORDER BY ' || key || ' LIMIT 3'), '%Minutes:%', 'in another order: ' || key)
FROM unnest('{ad_id,"ad_id, click_minute",click_count,"click_minute DESC NULLS LAST","date_trunc(''hour'', click_minute)"}'::text[]) key;
BEGIN;
UPDATE adclick_internal.runs SET minutes = minutes[2:] WHERE sort_order = 0;
SELECT throws_like(query, 'run % of "runs" is damaged', query || ': minutes that are missing')
FROM unnest('{SELECT max(click_minute) FROM adclick.ad_click_counts,SELECT * FROM adclick.ad_click_counts ORDER BY click_minute LIMIT 1}'::text[]) query;
ROLLBACK;

-- What EXPLAIN ANALYZE says was read
SELECT is(plain.counter(query, 'Runs From Directory') + plain.counter(query, 'Runs Read'), n, 'runs of a total')
FROM (VALUES ('SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1')) q(query),
	(SELECT count(*) AS n FROM adclick_internal.runs WHERE sort_order = 0) r;
-- Chunks of the window each look into the deltas.
SELECT cmp_ok(plain.counter('SELECT * FROM adclick.ad_click_counts', 'Segments Read'), '>=', sum(segments)::bigint, 'segments of rows')
FROM adclick_internal.runs WHERE sort_order = 0;
SELECT cmp_ok(plain.counter('SELECT * FROM adclick.ad_click_counts', 'Facts Read'), '>=', sum(facts)::bigint, 'facts of rows')
FROM adclick_internal.runs WHERE sort_order = 0;
-- A day (UTC) that has a run answers for its hours, at some times of the day.
CREATE VIEW fewest_runs AS SELECT * FROM adclick_internal.runs r WHERE sort_order = 4 OR (sort_order = 0 AND (is_delta OR NOT EXISTS
	(SELECT FROM adclick_internal.runs d WHERE d.sort_order = 4 AND NOT d.is_delta AND d.last_minute = date_trunc('day', r.last_minute, 'UTC'))));
SELECT is(plain.counter(query, 'Segments Read'), n, 'segments of ' || query)
FROM unnest(ARRAY['SELECT filter_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1',
		'SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1']) query,
	(SELECT sum(segments)::bigint AS n FROM fewest_runs) r;
SELECT is(plain.counter(query, 'Facts Read'), n, 'facts of ' || query)
FROM unnest(ARRAY['SELECT filter_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1',
		'SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1']) query,
	(SELECT sum(facts)::bigint AS n FROM fewest_runs) r;
BEGIN;
SELECT plain.counter('SELECT sum(click_count) FROM adclick.ad_click_counts', 'Tail Facts') AS tail \gset
INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT -11 - i % 2, now() FROM generate_series(1, 10) i;
SELECT is(plain.counter('SELECT sum(click_count) FROM adclick.ad_click_counts', 'Tail Facts'), :tail + 2::bigint, 'facts of the tail');
ROLLBACK;

-- What EXPLAIN says is pushed
SELECT is(plain.plan_of('SELECT ad_id, click_minute, filter_id, click_count FROM adclick.ad_click_counts
	WHERE ad_id BETWEEN 3 AND 5 AND click_minute >= date_trunc(''hour'', now()) AND filter_id IN (1, 2)'),
'Foreign Scan on fact_rows f
  Ads: (ad_id >= 3) AND (ad_id <= 5)
  Window: (click_minute >= date_trunc(''hour''::text, now()))
  Filters: (filter_id = ANY (''{1,2}''::integer[]))
', 'EXPLAIN of rows');
SELECT is(plain.plan_of('SELECT country, date_trunc(''hour'', click_minute), sum(click_count) FROM adclick.clicks_per_minute
	WHERE ad_id = ANY (''{1,2}'') AND country <> ''CA'' GROUP BY 1, 2 HAVING sum(click_count) > 1'),
'Foreign Scan
  Filter: ((sum(click_count)) > ''1''::numeric)
  Relations: Aggregate on (adclick_internal.fact_rows)
  Grouped By: country, date_trunc(''hour''::text, click_minute)
  Ads: (ad_id = ANY (''{1,2}''::bigint[]))
  Filters: (country <> ''CA''::text)
', 'EXPLAIN of sums by groups');
SELECT is(plain.plan_of('SELECT sum(click_count) FROM adclick.ad_click_counts'), E'Foreign Scan\n  Relations: Aggregate on (adclick_internal.fact_rows)\n  Grouped By: ()\n', 'EXPLAIN of one sum');
SELECT is(plain.plan_of('SELECT count(click_count) FROM adclick.ad_click_counts WHERE click_count > 1 AND ad_id = 1'),
E'Aggregate\n  ->  Foreign Scan on fact_rows f\n        Filter: (click_count > 1)\n        Ads: (ad_id = 1)\n', 'EXPLAIN of what is not pushed');
SELECT unalike(plain.plan_of(query), '%Grouped By%', 'not pushed: ' || query)
FROM unnest(ARRAY['SELECT sum(click_count) FROM adclick.ad_click_counts WHERE click_count > 1',
	'SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id % 2 = 0',
	'SELECT sum(click_count) FILTER (WHERE ad_id > 1) FROM adclick.ad_click_counts',
	'SELECT sum(DISTINCT click_count) FROM adclick.ad_click_counts',
	'SELECT sum(click_count), count(*) FROM adclick.ad_click_counts',
	'SELECT sum(click_count) FROM adclick.ad_click_counts WHERE random() < 2',
	'SELECT ad_id, filter_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY GROUPING SETS (1, 2)',
	'SELECT advertiser_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1',
	'SELECT ad_id + filter_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1']) query;

-- Prepared statements, with plans for any values
SET plan_cache_mode = force_generic_plan;
PREPARE rows (bigint, timestamptz, text[]) AS
	SELECT ad_id, click_minute, country, click_count FROM adclick.clicks_per_minute WHERE ad_id = $1 AND click_minute >= $2 AND country = ANY ($3);
PREPARE sums (bigint[], interval) AS
	SELECT country, sum(click_count) FROM adclick.clicks_per_minute WHERE ad_id = ANY ($1) AND click_minute > now() - $2 GROUP BY 1;
SELECT results_eq(format('EXECUTE rows (%s, now() - interval ''1 hour'', ''{CA,US}'')', ad),
	format('SELECT ad_id, click_minute, country, click_count FROM plain.facts WHERE ad_id = %s AND click_minute >= now() - interval ''1 hour''
		AND country IN (''CA'', ''US'') AND false', ad), 'no rows of ad ' || ad)
FROM unnest('{-7,NULL}'::bigint[]) ad WHERE ad IS NOT NULL;
SELECT bag_eq(format('EXECUTE rows (%s, now() - interval ''1 hour'', ''{CA,US}'')', ad),
	format('SELECT ad_id, click_minute, country, click_count FROM plain.facts WHERE ad_id = %s AND click_minute >= now() - interval ''1 hour''
		AND country IN (''CA'', ''US'')', ad), 'generic plan, rows of ad ' || ad)
FROM unnest('{1,2,9}'::bigint[]) ad;
SELECT bag_eq(format('EXECUTE sums (%L, ''40 minutes'')', ads),
	format('SELECT country, sum(click_count) FROM plain.facts WHERE ad_id = ANY (%L::bigint[]) AND click_minute > now() - interval ''40 minutes'' GROUP BY 1', ads),
	'generic plan, sums of ads ' || ads)
FROM unnest(ARRAY['{1,2,9}', '{}', '{5}', '{NULL,4}']) ads;
SELECT is_empty('EXECUTE rows (NULL, now(), ''{CA}'')', 'NULL chooses nothing');
SELECT is_empty('EXECUTE sums (NULL, ''1 hour'')', 'a NULL list neither');
RESET plan_cache_mode;

-- Cursors: to and fro, past a savepoint, and in the snapshot they were opened in
CREATE TABLE plain.fetched (ad_id bigint, click_minute timestamptz, country text, region text, device text, click_count bigint);
CREATE FUNCTION plain.fetch(of_cursor refcursor, n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR i IN 1 .. n LOOP
		FETCH of_cursor INTO r;
		EXIT WHEN NOT FOUND;
		INSERT INTO plain.fetched VALUES (r.ad_id, r.click_minute, r.country, r.region, r.device, r.click_count);
	END LOOP;
END
$$;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM adclick.clicks_per_minute;
SELECT plain.fetch('c', 1) AS fetched \gset
INSERT INTO adclick.clicks (ad_id, country) VALUES (1, 'after the cursor');
SAVEPOINT s;
SELECT plain.fetch('c', 100) AS fetched \gset
ROLLBACK TO s;
SELECT plain.fetch('c', 1000000) AS fetched \gset
SELECT is_empty('SELECT * FROM plain.fetched EXCEPT ALL SELECT ad_id, click_minute, country, region, device, click_count FROM plain.facts',
	'a cursor gives rows once, in its snapshot, over a savepoint rolled back');
SELECT is((SELECT count(*) FROM plain.fetched), (SELECT count(*) - 100 FROM plain.facts), 'and all of them');
ROLLBACK;

BEGIN;
SELECT click_minute AS newest FROM plain.facts ORDER BY click_minute DESC LIMIT 1 \gset
DECLARE c SCROLL CURSOR FOR SELECT click_minute FROM adclick.clicks_per_minute ORDER BY click_minute DESC;
SELECT results_eq('FETCH 3 c', 'SELECT click_minute FROM plain.facts ORDER BY 1 DESC LIMIT 3', 'a cursor over the newest minutes');
INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (1, now() + interval '1 minute');
SELECT results_eq('FETCH 300 c', 'SELECT click_minute FROM plain.facts ORDER BY 1 DESC LIMIT 300 OFFSET 3', 'goes on in its snapshot');
SELECT is(max(click_minute), date_trunc('minute', now() + interval '1 minute'), 'own clicks are in the last minute') FROM adclick.clicks_per_minute;
SELECT is(click_minute, date_trunc('minute', now() + interval '1 minute'), 'and come first') FROM
	(SELECT click_minute FROM adclick.clicks_per_minute ORDER BY click_minute DESC LIMIT 1) c;
ROLLBACK;
SELECT is(max(click_minute), :'newest', 'or not, rolled back') FROM adclick.clicks_per_minute;

BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts WHERE ad_id < 5 AND ad_id > 0 GROUP BY 1 ORDER BY 1;
SELECT results_eq('FETCH ALL c', 'SELECT ad_id, sum(click_count) FROM plain.facts WHERE ad_id BETWEEN 1 AND 4 GROUP BY 1 ORDER BY 1', 'a cursor over sums');
SELECT results_eq('FETCH BACKWARD ALL c', 'SELECT ad_id, sum(click_count) FROM plain.facts WHERE ad_id BETWEEN 1 AND 4 GROUP BY 1 ORDER BY 1 DESC', 'backward');
ROLLBACK;

BEGIN ISOLATION LEVEL REPEATABLE READ;
DECLARE c CURSOR FOR SELECT * FROM adclick.clicks_per_minute;
DECLARE d CURSOR FOR SELECT * FROM adclick.clicks_per_minute WHERE ad_id = 1;
TRUNCATE plain.fetched;
SELECT plain.fetch('c', 10) AS fetched, plain.fetch('d', 10) AS more \gset
SELECT plain.fetch('c', 1000000) AS fetched, plain.fetch('d', 1000000) AS more \gset
SELECT bag_eq('TABLE plain.fetched', 'SELECT f.ad_id, f.click_minute, f.country, f.region, f.device, f.click_count
	FROM plain.facts f, generate_series(1, CASE f.ad_id WHEN 1 THEN 2 ELSE 1 END)', 'two cursors side by side, REPEATABLE READ');
ROLLBACK;

-- Own clicks count before they are committed, and never if they are not
BEGIN;
INSERT INTO adclick.clicks (ad_id, country) SELECT 4711, 'Own' FROM generate_series(1, 5);
SELECT is(sum(click_count), 5::numeric, 'own clicks') FROM adclick.clicks_per_minute WHERE ad_id = 4711 AND country = 'Own';
ROLLBACK;
SELECT is(sum(click_count), NULL, 'rolled back') FROM adclick.clicks_per_minute WHERE country = 'Own';

SELECT lives_ok('SELECT * FROM adclick.ads JOIN adclick.clicks_per_minute c USING (ad_id) WHERE ad_id = 1 FOR UPDATE OF ads', 'ads can be locked beside it');

-- A role that reads the views
CREATE ROLE regress_bi;
GRANT adclick_reader TO regress_bi;
GRANT USAGE, CREATE ON SCHEMA public TO regress_bi;
SELECT sum(click_count) AS expected FROM plain.facts WHERE click_minute > now() - interval '1 hour' AND country >= '' AND ad_id >= 1 \gset
SET ROLE regress_bi;
CREATE FUNCTION public.is_bi(anyelement) RETURNS boolean LANGUAGE plpgsql STABLE AS
$$ BEGIN RETURN current_user = 'regress_bi'; END $$;
CREATE FUNCTION public.trap(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE AS
$$ BEGIN RAISE EXCEPTION 'run by %', current_user; END $$;
CREATE OPERATOR public.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.trap);
CREATE OPERATOR public.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.trap);
SET search_path = public, pg_catalog;
SELECT is(sum(click_count), :expected::numeric, 'sums for a reader, whose operators do no harm') FROM adclick.clicks_per_minute
WHERE click_minute > now() - interval '1 hour' AND country >= '' AND ad_id >= 1;
SELECT is(count(*), 0::bigint, 'conditions are evaluated as the reader') FROM adclick.clicks_per_minute
WHERE NOT public.is_bi(country) OR NOT public.is_bi(click_minute);
SELECT is(sum(click_count), NULL, 'also where they are pushed') FROM adclick.clicks_per_minute
WHERE NOT public.is_bi(country) AND NOT public.is_bi(click_minute);
RESET search_path;
SELECT throws_ok('SELECT * FROM adclick_internal.fact_rows', '42501', NULL, 'the foreign table is not for readers');
SELECT throws_ok('SELECT * FROM adclick_internal.runs', '42501', NULL, 'nor is what stands behind it');
SELECT throws_ok('CREATE FOREIGN TABLE public.mine (ad_id bigint) SERVER adclick_facts', '42501', NULL, 'nor the server');
SELECT throws_ok('CREATE SERVER mine FOREIGN DATA WRAPPER adclick_facts', '42501', NULL, 'nor the wrapper');
RESET ROLE;
SELECT throws_ok('ALTER SERVER adclick_facts OPTIONS (ADD host ''x'')', 'HV00D', NULL, 'there are no options');

-- Read only
SELECT throws_ok('INSERT INTO adclick.ad_click_counts VALUES (1, 1, now(), 1, 1)', '55000', NULL, 'no INSERT');
SELECT throws_ok('UPDATE adclick.ad_click_counts SET click_count = 2', '55000', NULL, 'no UPDATE');
SELECT throws_ok('DELETE FROM adclick.clicks_per_minute', '55000', NULL, 'no DELETE');
SELECT throws_ok('DELETE FROM adclick_internal.fact_rows', '0A000', NULL, 'nor past the view');

-- A scan that would take long is cancelled
CREATE FUNCTION plain.is_cancelled(query text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN false;
EXCEPTION WHEN query_canceled THEN
	RETURN clock_timestamp() < statement_timestamp() + interval '1 minute';
END
$$;
SET statement_timeout = '300ms';
SELECT ok(plain.is_cancelled('SELECT max(s) FROM (SELECT (SELECT sum(click_count) FROM adclick.clicks_per_minute WHERE ad_id > -n AND device > country) AS s
	FROM generate_series(1, 1000000) n) x'), 'sums are cancelled');
SELECT ok(plain.is_cancelled('SELECT count(*) FROM adclick.ad_click_counts a, adclick.ad_click_counts b, adclick.ad_click_counts c'), 'rows are cancelled');
RESET statement_timeout;

-- Behind an ad whose facts fill several segments, which all begin with it
BEGIN;
INSERT INTO adclick.clicks (ad_id, clicked_at, country) SELECT 500001, now() - n % 60 * interval '1 minute', 'C' || n / 60 FROM generate_series(0, 8999) n;
INSERT INTO adclick.clicks (ad_id) VALUES (500002);
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT cmp_ok(max(segments), '>', 3, 'many segments') FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta;
SELECT cmp_ok(plain.counter(query, 'Segments Read'), '<=', plain.counter(query, 'Runs Read') + 2, 'and few of them are read')
FROM (VALUES ('SELECT * FROM adclick.ad_click_counts WHERE ad_id > 500001')) q (query);
SELECT is(adclick.ad_click_count(500002, 5), 1::bigint, 'the one behind');
ROLLBACK;

-- Damage is an error
BEGIN;
UPDATE adclick_internal.segments SET data = set_byte(data, 0, 99);
SELECT throws_ok('SELECT * FROM adclick.ad_click_counts', 'XX001', NULL, 'rows of damaged segments');
SELECT throws_ok('SELECT country, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1', 'XX001', NULL, 'sums of damaged segments');
ROLLBACK;

-- Lists are made run by run, also where what was rolled back has left entries in the index.
SELECT lives_ok('SELECT adclick.add_filter(''{"region": "none"}'')', 'lists, behind what was rolled back');
SELECT lives_ok('SELECT adclick.drop_filter(''{"region": "none"}'')', 'and none any more');

-- A combination without a row: what looks at its counts is an error, if it has to know which it is; all else is answered.
-- "What" is counted in the first minute of an hour, "hole" and "last" ten minutes later each.
CREATE FUNCTION plain.questions(since timestamptz, until timestamptz, filters jsonb) RETURNS SETOF text LANGUAGE sql AS $$
SELECT format('SELECT ' || question, format('%L, %L', since, until), filters, filters || '{"user_id": [0, 1, 2]}', filters || '{"ip": "198.51.100.0/24"}')
FROM unnest(ARRAY['adclick.ad_click_count_between(500100, %s, %L)', 'adclick.ad_click_count_between(500100, %1$s, %4$L)', 'adclick.unique_users_between(500100, %s, %L)',
	'coalesce(sum(click_count), 0) FROM adclick.top_n_ads_between(1000, %s, %L)', 'coalesce(sum(click_count), 0) FROM adclick.top_n_ads_between(1000, %1$s, %3$L)',
	'coalesce(sum(click_count), 0) FROM adclick.breakdown_between(500100, %s, ''device'', %L)',
	'sum(click_count) FROM adclick.click_series(500100, %s, ''1 minute'', %L)']) question
$$;
CREATE FUNCTION plain.answer(question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE question INTO answer;
	RETURN answer;
EXCEPTION WHEN data_corrupted THEN
	GET STACKED DIAGNOSTICS answer = PG_EXCEPTION_DETAIL;
	RETURN SQLERRM || ': ' || answer;
END
$$;
CREATE FUNCTION plain.is_missing(answer text, filter int, description text) RETURNS text LANGUAGE sql AS
$$ SELECT is(answer, format('filter %s is missing: Stored counts name it, but adclick.filters has no such row.', filter), description) $$;
CREATE FUNCTION plain.lacks_rows(step text, hour timestamptz, hole int, last int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	minute CONSTANT interval := '1 minute';
	stop CONSTANT timestamptz := hour + interval '1 hour';
BEGIN
	RETURN QUERY SELECT plain.is_missing(plain.answer(question), filter, step || ': ' || question)
	FROM (VALUES (0, 20, hole), (10, 11, hole), (5, 15, hole), (20, 21, last), (11, 60, last)) w (since, until, filter),
		unnest('{"{\"country\": \"what\"}","{\"country\": [\"what\", \"hole\"], \"device\": \"unknown\"}","{\"region\": []}"}'::jsonb[]) filters,
		plain.questions(hour + since * minute, hour + until * minute, filters) question;
	RETURN NEXT matches(plain.answer(format('SELECT count(*) FROM adclick.top_n_ads_between(1000, %L, %L, ''{"device": "none"}'')', hour, stop)), '^filter \d+ is missing', step || ': either');
	RETURN NEXT matches(plain.answer(format('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= %L AND filter_id > 0', hour)), '^filter \d+ is missing', step || ': a view');
	RETURN QUERY SELECT is(plain.answer(format('SELECT coalesce(sum(click_count), 0) FROM adclick.top_n_ads_between(1000, %L, %L, ''{"country": "what"}'')', hour + since * minute, hour + until * minute)), answer,
		format('%s: the minutes from %s to %s', step, since, until))
	FROM (VALUES (0, 10, '1001'), (0, 1, '1001'), (11, 20, '0'), (21, 60, '0')) w (since, until, answer);
	RETURN NEXT is(adclick.ad_click_count_between(500099, hour, stop, '{"country": "what"}'), 1::bigint, step || ': another ad');
	RETURN NEXT is(adclick.ad_click_count_between(500100, hour, stop), 30::bigint, step || ': without a filter');
	RETURN NEXT is(adclick.unique_users_between(500100, hour, stop), 30::bigint, step || ': its users');
	RETURN NEXT is(adclick.ad_click_count_between(500100, hour, stop, '{"ip": "198.51.100.0/24"}'), 30::bigint, step || ': from some addresses');
	RETURN NEXT is(sum(click_count), 3001::numeric, step || ': all ads') FROM adclick.top_n_ads_between(1000, hour, stop);
	RETURN NEXT is(sum(click_count), 3001::numeric, step || ': all minutes') FROM adclick.clicks_per_minute WHERE click_minute >= hour AND click_minute < stop;
END
$$;
BEGIN;
SELECT date_trunc('hour', now(), 'UTC') - interval '9 hours' AS hour \gset
SELECT adclick.add_filter('{"country": "what"}') AS what \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country)
SELECT 500100 + n / 3 % 100, timestamptz :'hour' + n % 3 * interval '10 minutes', n, '198.51.100.0'::inet + n % 50, (ARRAY['what', 'hole', 'last'])[n % 3 + 1]
FROM generate_series(0, 2999) n
UNION ALL SELECT 500099, :'hour', NULL, NULL, 'what';
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT max(filter_id) FILTER (WHERE country = 'hole') AS hole, max(filter_id) AS last FROM adclick.filters \gset
SELECT is(country, 'last', 'the last one') FROM adclick.filters WHERE filter_id = :last;
SELECT is(plain.answer(question), '0', 'with all rows: ' || question) FROM plain.questions(:'hour', timestamptz :'hour' + interval '1 hour', '{"country": "none"}') question;
SAVEPOINT whole;
DELETE FROM adclick.filters WHERE filter_id IN (:hole, :last);
SELECT plain.lacks_rows('a delta', :'hour', :hole, :last);
ROLLBACK TO whole;
SELECT oracle.compact() AS compacted \gset
DELETE FROM adclick.filters WHERE filter_id IN (:hole, :last);
SELECT plain.lacks_rows('compacted', :'hour', :hole, :last);
-- Lists that were made before are right; of what has no row it cannot be told whose list it is in.
\set query 'SELECT sum(click_count) FROM adclick.top_n_ads_between(10, %L, %L, %L)'
SELECT is(plain.answer(format(:'query', :'hour', timestamptz :'hour' + interval '1 hour', '{"country": "what"}')), '100', 'by its list');
SELECT adclick.recompute(:'hour', timestamptz :'hour' + interval '1 hour') AS clicks, oracle.compact() AS compacted \gset
SELECT is(array_agg(filter_id), '{0}', 'lists that are made then') FROM adclick.most_clicked_ads_hourly WHERE click_hour = :'hour';
SELECT matches(plain.answer(format(:'query', :'hour', timestamptz :'hour' + interval '1 hour', '{"country": "what"}')), '^filter \d+ is missing', 'without a list');
SELECT is(plain.answer(format(:'query', :'hour', timestamptz :'hour' + interval '1 hour', '{}')), '300', 'by that of all clicks');
SELECT adclick.drop_filter('{"country": "what"}'), adclick.add_filter('{"country": "what"}') \gset
SELECT matches(plain.answer(format(:'query', :'hour', timestamptz :'hour' + interval '1 hour', '{"country": "what"}')), '^filter \d+ is missing', 'registered anew');
ROLLBACK;

-- Empty again, as tools see it
SELECT is(sum(click_count), NULL, 'the sum of nothing') FROM adclick.ad_click_counts WHERE click_minute > 'infinity';
SELECT is_empty('SELECT * FROM adclick.ad_click_counts WHERE ad_id > 9223372036854775807', 'no ad is larger');
SELECT is(sum(click_count), (SELECT sum(click_count) FROM plain.facts), 'and all there is') FROM adclick.ad_click_counts
WHERE ad_id <= 9223372036854775807 AND ad_id >= -9223372036854775808 AND click_minute < 'infinity' AND click_minute > '-infinity';

REVOKE ALL ON SCHEMA public FROM regress_bi;
DROP OWNED BY regress_bi;
DROP ROLE regress_bi;

SELECT * FROM finish();
