-- Advertisers know of their own ads alone: every question and view answers each role as plain SQL over the
-- log of its ads does, and nothing else that they can do tells of others.

SELECT no_plan();
SET plan_cache_mode = auto;

--
-- Ads, advertisers, roles and clicks at random
--

CREATE SCHEMA plain;
GRANT USAGE ON SCHEMA plain TO PUBLIC;

-- Hours that are past, whatever the time is, and the same ones however long the test takes.
SELECT format('CREATE FUNCTION plain.start() RETURNS timestamptz LANGUAGE sql STABLE AS $f$ SELECT timestamptz %L $f$',
	date_trunc('hour', now(), 'UTC') - interval '30 hours') \gexec

-- Of advertisers 1 to 7 and of none; 8 has what no other one has; those from 91 on are unknown, and clicked all the same.
INSERT INTO adclick.ads (ad_id, advertiser_id) SELECT n, nullif(floor(random() * 8)::int, 0) FROM generate_series(1, 80) n;
INSERT INTO adclick.ads (ad_id, advertiser_id) SELECT n, 8 FROM generate_series(81, 90) n;
INSERT INTO adclick.ads (ad_id, advertiser_id) SELECT n, n - 200 FROM generate_series(201, 207) n;

CREATE FUNCTION plain.send(n int) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, country, region, device)
SELECT CASE WHEN random() < 0.1 THEN 200 + ceil(random() * 7) ELSE ceil(random() * random() * 100) END, plain.start() + random() * interval '28 hours',
	random() * 50, (ARRAY['CA', 'US', 'DE'])[ceil(random() * 3)], (ARRAY['ON', 'QC'])[ceil(random() * 2)], (ARRAY['mobile', 'desktop'])[ceil(random() * 2)]
FROM generate_series(1, n)
UNION ALL
SELECT 80 + ceil(random() * 10), plain.start() - interval '1 hour' + floor(random() * 20) * interval '1 minute', 4711, 'Foreign', 'Foreign', 'Foreign'
FROM generate_series(1, n / 20)
$$;

CREATE TABLE plain.scopes (role name PRIMARY KEY, advertisers bigint[]);
INSERT INTO plain.scopes VALUES ('tap_one', '{1}'), ('tap_two', '{2}'), ('tap_agency', '{3,4,5}'), ('tap_both', '{1,2,6}'), ('tap_team_member', '{7}'),
	('tap_none', '{99}'), ('tap_reader', NULL), ('tap_admin', NULL), ('tap_all_data', NULL);

CREATE ROLE tap_one IN ROLE adclick_advertiser;
CREATE ROLE tap_two IN ROLE adclick_advertiser;
CREATE ROLE tap_agency IN ROLE adclick_advertiser;
CREATE ROLE tap_both IN ROLE tap_one, tap_two;
CREATE ROLE tap_team IN ROLE adclick_advertiser;
CREATE ROLE tap_team_part IN ROLE tap_team;
CREATE ROLE tap_team_member IN ROLE tap_team_part;
CREATE ROLE tap_none IN ROLE adclick_advertiser;
CREATE ROLE tap_unnamed IN ROLE adclick_advertiser;
CREATE ROLE tap_outside;
CREATE ROLE tap_noinherit NOINHERIT IN ROLE tap_one;
CREATE ROLE tap_reader IN ROLE adclick_reader;
CREATE ROLE tap_admin IN ROLE adclick_admin;
CREATE ROLE tap_all_data IN ROLE pg_read_all_data, adclick_advertiser;

-- The admin says who is who.
SET ROLE tap_admin;
INSERT INTO adclick.advertiser_roles VALUES ('tap_one', 1), ('tap_two', 2), ('tap_agency', 3), ('tap_agency', 4), ('tap_agency', 5), ('tap_both', 6),
	('tap_team', 7), ('tap_none', 99), ('tap_outside', 1), ('tap_gone', 3), ('public', 1), ('tap_reader', 1);
RESET ROLE;

/*
 * The answer of a query to a role: its rows, or the error.
 */
CREATE FUNCTION plain.ask(role name, query text, ordered boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE format('SELECT count(*) || coalesce(string_agg(x::text, E''\n'' %s), '''') FROM (%s) x', CASE WHEN ordered THEN '' ELSE 'ORDER BY x::text COLLATE "C"' END, query) INTO answer;
	PERFORM set_config('role', 'none', true);
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	PERFORM set_config('role', 'none', true);
	RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

CREATE TABLE plain.clicks (ad_id bigint, advertiser_id bigint, click_minute timestamptz, filter_id int, country text, region text, device text);
CREATE FUNCTION plain.refresh() RETURNS void LANGUAGE sql AS $$
TRUNCATE plain.clicks;
INSERT INTO plain.clicks
	SELECT c.ad_id, a.advertiser_id, c.minute, d.filter_id, c.country, c.region, c.device
	FROM oracle.clicks() c LEFT JOIN adclick.ads a USING (ad_id) LEFT JOIN adclick.filters d USING (country, region, device);
$$;

--
-- Questions
--

CREATE TABLE plain.dimensions (name text);
INSERT INTO plain.dimensions VALUES ('country'), ('region'), ('device');

/*
 * Questions at random, of each role, with what plain SQL says: over clicks of its scope, or that it is refused.
 */
CREATE FUNCTION plain.wrong_answers(n int) RETURNS TABLE (role name, question text, expected text, answer text) LANGUAGE sql AS $$
WITH dice AS MATERIALIZED (
	SELECT i, s.role, s.advertisers, CASE WHEN random() < 0.1 THEN 4711 ELSE ceil(random() * 100)::bigint END AS ad, ceil(random() * 9)::bigint AS advertiser,
		plain.start() + floor(random() * 1500) * interval '1 minute' AS f, floor(random() * 1500) * interval '1 minute' AS length, ceil(random() * 30)::int AS top,
		CASE WHEN random() < 0.3 THEN (ARRAY['CA', 'US', 'Foreign'])[ceil(random() * 3)] END AS country,
		CASE WHEN random() < 0.3 THEN ARRAY[ceil(random() * 9), ceil(random() * 9), 1, 4]::bigint[] END AS of
	FROM plain.scopes s, generate_series(1, n) i
), asked AS MATERIALIZED (
	SELECT d.*, format('%L, %L', f, f + length) AS span, jsonb_strip_nulls(jsonb_build_object('country', country, 'advertiser_id', of))::text AS filters,
		advertisers IS NULL OR coalesce((SELECT a.advertiser_id = ANY (d.advertisers) FROM adclick.ads a WHERE a.ad_id = d.ad), false) AS may_ask,
		advertisers IS NULL OR advertiser = ANY (advertisers) AS may_ask_advertiser
	FROM dice d
), met AS MATERIALIZED (
	SELECT q.i, q.role, c.* FROM asked q JOIN plain.clicks c ON c.click_minute >= q.f AND c.click_minute < q.f + q.length
		AND (q.country IS NULL OR c.country = q.country) AND (q.of IS NULL OR c.advertiser_id = ANY (q.of))
		AND (q.advertisers IS NULL OR c.advertiser_id = ANY (q.advertisers))
), expected AS (
	SELECT role, format('SELECT adclick.ad_click_count_between(%s, %s, %L)', ad, span, filters) AS question,
		CASE WHEN may_ask THEN format('1(%s)', (SELECT count(*) FROM met m WHERE m.i = q.i AND m.role = q.role AND m.ad_id = q.ad))
			ELSE '42501: permission denied to ask about this ad' END AS expected
	FROM asked q
	UNION ALL
	SELECT role, format('SELECT rank, ad_id, click_count FROM adclick.top_n_ads_between(%s, %s, %L)', top, span, filters),
		(SELECT count(*) || coalesce(string_agg(format('(%s,%s,%s)', r.rank, r.ad_id, r.n), E'\n' ORDER BY r.rank), '')
		FROM (SELECT ad_id, count(*) AS n, row_number() OVER (ORDER BY count(*) DESC, ad_id) AS rank FROM met m WHERE m.i = q.i AND m.role = q.role GROUP BY 1) r WHERE r.rank <= q.top)
	FROM asked q
	UNION ALL
	SELECT role, format('SELECT adclick.advertiser_click_count_between(%s, %s, %L)', advertiser, span, filters),
		CASE WHEN may_ask_advertiser THEN format('1(%s)', (SELECT count(*) FROM met m WHERE m.i = q.i AND m.role = q.role AND m.advertiser_id = q.advertiser))
			ELSE '42501: permission denied to ask about this advertiser' END
	FROM asked q
	UNION ALL
	SELECT role, format('SELECT value, click_count FROM adclick.breakdown_between(%s, %s, ''device'', %L)', ad, span, filters),
		CASE WHEN may_ask THEN (SELECT count(*) || coalesce(string_agg(format('(%s,%s)', b.device, b.n), E'\n' ORDER BY b.n DESC, b.device), '')
			FROM (SELECT device, count(*) AS n FROM met m WHERE m.i = q.i AND m.role = q.role AND m.ad_id = q.ad GROUP BY 1) b)
			ELSE '42501: permission denied to ask about this ad' END
	FROM asked q
	UNION ALL
	SELECT role, format('SELECT click_count FROM adclick.click_series(%s, %s, ''10 days'', %L)', ad, span, filters),
		CASE WHEN may_ask THEN CASE WHEN length = interval '0' THEN '0' ELSE format('1(%s)', (SELECT count(*) FROM met m WHERE m.i = q.i AND m.role = q.role AND m.ad_id = q.ad)) END
			ELSE '42501: permission denied to ask about this ad' END
	FROM asked q
)
SELECT role, question, expected, answer
FROM (SELECT e.*, plain.ask(e.role, e.question, true) AS answer FROM expected e OFFSET 0) a WHERE answer IS DISTINCT FROM expected
$$;

--
-- Views: the same queries over the clicks of the scope
--

CREATE FUNCTION plain.source(view text, advertisers bigint[]) RETURNS text LANGUAGE sql AS $$
SELECT format('(SELECT %s, count(*) AS click_count FROM plain.clicks WHERE %s GROUP BY %s)', columns,
	CASE WHEN advertisers IS NULL THEN 'true' ELSE format('advertiser_id = ANY (%L)', advertisers) END,
	regexp_replace(columns, ' AS \w+', '', 'g') || CASE view WHEN 'ad_click_counts' THEN ', country, region, device' ELSE '' END)
FROM (VALUES ('ad_click_counts', 'ad_id, advertiser_id, click_minute, filter_id'), ('clicks_per_minute', 'click_minute, ad_id, advertiser_id, country, region, device'),
	('ad_click_counts_hourly', 'ad_id, advertiser_id, date_trunc(''hour'', click_minute, ''UTC'') AS click_hour, filter_id'),
	('ad_click_counts_daily', 'ad_id, advertiser_id, date_trunc(''day'', click_minute, ''UTC'') AS click_day, filter_id')) v (name, columns) WHERE name = view
$$;

CREATE FUNCTION plain.over_scope(asked text, advertisers bigint[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	view text;
BEGIN
	FOREACH view IN ARRAY '{ad_click_counts_hourly,ad_click_counts_daily,ad_click_counts,clicks_per_minute}'::text[] LOOP
		asked := replace(asked, 'adclick.' || view, plain.source(view, advertisers));
	END LOOP;
	RETURN asked;
END $$;

CREATE TABLE plain.queries (query text);
INSERT INTO plain.queries VALUES
	('SELECT * FROM adclick.ad_click_counts c'), ('SELECT * FROM adclick.clicks_per_minute c'),
	('SELECT * FROM adclick.ad_click_counts_hourly c'), ('SELECT * FROM adclick.ad_click_counts_daily c'),
	('SELECT sum(click_count), count(*) FROM adclick.clicks_per_minute c'), ('SELECT sum(click_count) FROM adclick.ad_click_counts c'),
	('SELECT click_minute, sum(click_count) FROM adclick.ad_click_counts c GROUP BY 1'), ('SELECT country, device, sum(click_count) FROM adclick.clicks_per_minute c GROUP BY 1, 2'),
	('SELECT date_trunc($$day$$, click_minute, $$UTC$$), sum(click_count) FROM adclick.clicks_per_minute c GROUP BY 1'),
	('SELECT click_day, sum(click_count) FROM adclick.ad_click_counts_daily c GROUP BY 1'), ('SELECT click_hour, ad_id, sum(click_count) FROM adclick.ad_click_counts_hourly c GROUP BY 1, 2'),
	('SELECT ad_id, sum(click_count) FROM adclick.clicks_per_minute c GROUP BY 1'), ('SELECT advertiser_id, sum(click_count) FROM adclick.ad_click_counts c GROUP BY 1'),
	('SELECT min(click_minute), max(click_minute) FROM adclick.clicks_per_minute c'), ('SELECT max(click_minute) FROM adclick.ad_click_counts c WHERE filter_id IS NULL'),
	('SELECT count(DISTINCT ad_id), min(ad_id), max(advertiser_id) FROM adclick.ad_click_counts_hourly c'),
	('SELECT DISTINCT click_minute FROM (SELECT click_minute FROM adclick.clicks_per_minute c ORDER BY click_minute LIMIT 30) x'),
	('SELECT DISTINCT click_minute FROM (SELECT click_minute FROM adclick.clicks_per_minute c ORDER BY click_minute DESC LIMIT 30) x'),
	('SELECT sum(click_count) FROM adclick.clicks_per_minute c WHERE country = $$Foreign$$'), ('SELECT * FROM adclick.clicks_per_minute c WHERE advertiser_id = 2'),
	('SELECT * FROM adclick.clicks_per_minute c WHERE advertiser_id IS NULL'), ('SELECT * FROM adclick.clicks_per_minute c WHERE advertiser_id > 3 AND click_minute > now() - interval $$20 hours$$'),
	('SELECT * FROM adclick.ad_click_counts c WHERE ad_id = 201'), ('SELECT * FROM adclick.ad_click_counts c WHERE ad_id IN (201, 202, 203, 204, 85, 95, 4711)'),
	('SELECT sum(click_count) FROM adclick.ad_click_counts c WHERE ad_id BETWEEN 20 AND 90'), ('SELECT sum(click_count) FROM adclick.ad_click_counts c WHERE ad_id % 3 = 1 AND extract(minute FROM click_minute) < 20'),
	('SELECT extract(hour FROM click_minute), region, sum(click_count) FROM adclick.clicks_per_minute c GROUP BY 1, 2'),
	('SELECT n, (SELECT sum(click_count) FROM adclick.ad_click_counts c WHERE ad_id = n) FROM generate_series(195, 210) n'),
	('SELECT n, s FROM generate_series(1, 9) n, LATERAL (SELECT sum(click_count) AS s FROM adclick.clicks_per_minute c WHERE advertiser_id = n) x'),
	('SELECT c.ad_id, d.click_count FROM adclick.ad_click_counts_daily c JOIN adclick.ad_click_counts d USING (ad_id, filter_id) WHERE ad_id > 200'),
	('SELECT c.ad_id, e.n FROM adclick.ad_click_counts_daily c RIGHT JOIN generate_series(201, 208) e (n) ON e.n = c.ad_id');

CREATE FUNCTION plain.wrong_views() RETURNS TABLE (role name, query text, expected text, answer text) LANGUAGE sql AS $$
SELECT role, query, left(expected, 500), left(answer, 500)
FROM (SELECT s.role, q.query, plain.ask('none', plain.over_scope(q.query, s.advertisers)) AS expected, plain.ask(s.role, q.query) AS answer
	FROM plain.scopes s, plain.queries q OFFSET 0) x
WHERE answer IS DISTINCT FROM expected OR expected ~ '^[0-9A-Z]{5}: '
$$;

CREATE FUNCTION plain.is_right(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM plain.refresh();
	RETURN NEXT is_empty('SELECT * FROM plain.wrong_answers(10)', step || ': questions of each role');
	RETURN NEXT is_empty('SELECT * FROM plain.wrong_views()', step || ': views of each role');
END $$;

SELECT plain.send(1500) AS sent \gset
SELECT plain.is_right('in the tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT plain.is_right('in a delta');
SELECT more IS NOT NULL AS merged FROM adclick.compact() \gset
SELECT plain.send(300) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT plain.send(300) AS sent \gset
SELECT plain.is_right('in each place');
SELECT oracle.compact() AS merged \gset
SELECT plain.is_right('compacted, and in the tail');
SELECT isnt(plain.ask(role, 'SELECT sum(click_count) FROM adclick.clicks_per_minute'), '1()', role || ' has clicks') FROM plain.scopes WHERE role <> 'tap_none';
SELECT is(plain.ask('tap_none', 'TABLE adclick.clicks_per_minute'), '0', 'one without ads has none');
SELECT is(plain.ask('tap_none', 'SELECT * FROM adclick.top_n_ads_between(10, $$-infinity$$, $$infinity$$)'), '0', 'and no top-N');

--
-- Ads
--

SELECT is(plain.ask(role, 'SELECT ad_id, advertiser_id, redirect_url, website, active, dedup_by FROM adclick.own_ads'),
	plain.ask('none', 'SELECT ad_id, advertiser_id, redirect_url, website, active, dedup_by FROM adclick.ads'
		|| CASE WHEN advertisers IS NULL THEN '' ELSE format(' WHERE advertiser_id = ANY (%L)', advertisers) END), role || ' reads its ads')
FROM plain.scopes;

--
-- Who asks nothing
--

GRANT USAGE ON SCHEMA oracle TO PUBLIC;

CREATE TABLE plain.all_questions (question text);
INSERT INTO plain.all_questions VALUES ('SELECT adclick.ad_click_count(AD, 60)'), ('SELECT adclick.ad_click_count_between(AD, ''-infinity'', ''infinity'')'),
	('SELECT * FROM adclick.click_series(AD, ''yesterday'', ''today'', ''1 hour'')'), ('SELECT * FROM adclick.breakdown(AD, 60, ''country'')'),
	('SELECT * FROM adclick.breakdown_between(AD, ''-infinity'', ''infinity'', ''region'', ''{"device": "mobile"}'')'),
	('SELECT adclick.advertiser_click_count(ADVERTISER, 60)'), ('SELECT adclick.advertiser_click_count_between(ADVERTISER, ''-infinity'', ''infinity'', ''{"country": "CA"}'')'),
	('SELECT * FROM adclick.top_n_ads(5, 60)'), ('SELECT * FROM adclick.top_n_ads_between(5, ''-infinity'', ''infinity'')'),
	('TABLE adclick.ad_click_counts'), ('TABLE adclick.ad_click_counts_hourly'), ('TABLE adclick.ad_click_counts_daily'), ('TABLE adclick.clicks_per_minute'), ('TABLE adclick.own_ads');
GRANT SELECT ON ALL TABLES IN SCHEMA plain TO PUBLIC;
CREATE VIEW plain.asked AS SELECT replace(replace(question, 'ADVERTISER', '1'), 'AD', '201') AS question FROM plain.all_questions;

SELECT is(plain.ask('tap_unnamed', question), '42501: permission denied to ask about clicks', 'an advertiser without a name: ' || question) FROM plain.asked;
SET ROLE tap_unnamed;
SELECT results_eq($$SELECT code, detail, hint FROM oracle.refused('SELECT adclick.ad_click_count(1, 1)')$$,
	$$VALUES ('42501', 'Role "tap_unnamed" is neither a member of adclick_reader nor an advertiser in adclick.advertiser_roles.',
		'GRANT adclick_reader TO tap_unnamed. Or, to let it know of one advertiser''s ads alone, GRANT adclick_advertiser and INSERT INTO adclick.advertiser_roles.')$$, 'who is told what is missing');
RESET ROLE;
SELECT matches(plain.ask(role, question), '^42501: permission denied for (schema|view|function) ', role || ': ' || question)
FROM plain.asked, unnest('{tap_outside,tap_noinherit}'::name[]) role;
-- Rights on a view or a function alone make nobody a reader.
GRANT USAGE ON SCHEMA adclick TO tap_outside;
GRANT SELECT ON adclick.clicks_per_minute TO tap_outside;
GRANT EXECUTE ON FUNCTION adclick.ad_click_count(bigint, int, jsonb) TO tap_outside;
DELETE FROM adclick.advertiser_roles WHERE role_name = 'tap_outside';
SELECT is(plain.ask('tap_outside', query), '42501: permission denied to ask about clicks', 'refused: ' || query)
FROM unnest('{TABLE adclick.clicks_per_minute,"SELECT adclick.ad_click_count(201, 60)"}'::text[]) query;
INSERT INTO adclick.advertiser_roles VALUES ('tap_outside', 1);
SELECT is(plain.ask('tap_outside', 'SELECT sum(click_count) FROM adclick.clicks_per_minute'), plain.ask('tap_one', 'SELECT sum(click_count) FROM adclick.clicks_per_minute'),
	'but with one that says who it is, it has the answers of those');

-- Who is a member, but has its rights by SET ROLE alone, has them then.
GRANT USAGE ON SCHEMA adclick TO tap_noinherit;
GRANT SELECT ON adclick.clicks_per_minute TO tap_noinherit;
SELECT is(plain.ask('tap_noinherit', 'TABLE adclick.clicks_per_minute'), '42501: permission denied to ask about clicks', 'a member that does not inherit');

-- By SET ROLE alone one becomes who one may be.
CREATE FUNCTION plain.becomes(one name, other name) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', one);
	EXECUTE format('SET LOCAL ROLE %I', other);
	RESET SESSION AUTHORIZATION;
	RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
	RETURN false;
END $$;
SELECT is(plain.becomes('tap_one', role), false, 'tap_one does not become ' || role) FROM unnest('{tap_two,tap_both,tap_reader,tap_admin,adclick_owner,adclick_reader,adclick_admin}'::name[]) role;
SELECT is(plain.becomes('tap_both', 'tap_two'), true, 'but tap_both does, being one');
SELECT is(plain.ask('tap_one', statement), '42501: permission denied for table advertiser_roles', 'nor is it written: ' || statement)
FROM unnest('{TABLE adclick.advertiser_roles}'::text[]) statement;
SET ROLE tap_one;
SELECT throws_ok(statement, '42501', 'permission denied for table advertiser_roles', 'refused: ' || statement)
FROM unnest(ARRAY['INSERT INTO adclick.advertiser_roles VALUES (''tap_one'', 2)', 'UPDATE adclick.advertiser_roles SET advertiser_id = 2', 'DELETE FROM adclick.advertiser_roles',
	'LOCK TABLE adclick.advertiser_roles', 'SELECT advertiser_id FROM adclick.advertiser_roles']) statement;
SELECT throws_ok('SELECT * FROM ' || what, '42501', NULL, 'refused: ' || what)
FROM unnest('{adclick_internal.own_ads(),adclick_internal.fact_rows,adclick_internal.day_rows,adclick.ads,adclick.filters,adclick.most_clicked_ads,adclick.most_clicked_ads_hourly,adclick.most_clicked_ads_daily,
	adclick.status,adclick.storage,adclick.health(),adclick.differences,adclick.click_log,adclick.clicks,adclick.discarded_clicks,"adclick.explain_top_n(1, 1)","adclick.unique_users(201, 60)"}'::text[]) what;
SELECT throws_ok(question, '42501', 'permission denied to ask about users and addresses', 'refused: ' || question)
FROM unnest(ARRAY['SELECT adclick.ad_click_count(201, 60, ''{"user_id": 1}'')', 'SELECT * FROM adclick.top_n_ads(1, 60, ''{"ip": "::/0"}'')']) question;
RESET ROLE;

--
-- What errors tell
--

-- Of an ad, or an advertiser, that is another's, of none, or not there at all: the same, but for its number.
CREATE FUNCTION plain.error_of(role name, question text, number bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	error record;
BEGIN
	PERFORM set_config('role', role, true);
	SELECT * INTO error FROM oracle.refused(question);
	PERFORM set_config('role', 'none', true);
	RETURN row(error.code, error.message, replace(error.detail, number::text, 'N'), error.hint)::text;
END $$;
INSERT INTO adclick.ads (ad_id, advertiser_id) VALUES (300, NULL);
SELECT is(count(DISTINCT e), 1::bigint, 'one error, whatever ad it is: ' || question) FROM plain.all_questions,
	LATERAL (SELECT plain.error_of('tap_one', replace(replace(question, 'ADVERTISER', n::text), 'AD', n::text), n) AS e
		FROM unnest('{202,208,300,91,9223372036854775807,-1,85,2,8,4711}'::bigint[]) n
		WHERE question ~ 'ADVERTISER' OR n > 80 OR n < 0) x
WHERE question ~ 'AD' GROUP BY question;
SELECT is(min(plain.error_of('tap_one', replace(question, 'AD', n::text), n)), '(42501,"permission denied to ask about this ad","Ad N is none of the advertiser''s.","Those that are stand in adclick.own_ads.")', 'which is: ' || question)
FROM plain.all_questions, unnest('{202,208}'::bigint[]) n WHERE question ~ '[(]AD,' GROUP BY question;
SELECT is(min(plain.error_of('tap_one', replace(question, 'ADVERTISER', n::text), n)), '(42501,"permission denied to ask about this advertiser","Advertiser N is another one.","Ads that may be asked about stand in adclick.own_ads.")', 'and: ' || question)
FROM plain.all_questions, unnest('{2222,99}'::bigint[]) n WHERE question ~ 'ADVERTISER' GROUP BY question;

-- Nor is there another one in what the server counts of what was read, which anybody can see.
CREATE FUNCTION plain.read_of_ads() RETURNS bigint[] LANGUAGE sql AS $$
SELECT array_agg(ARRAY[pg_stat_get_xact_numscans(o), pg_stat_get_xact_tuples_returned(o), pg_stat_get_xact_tuples_fetched(o)] ORDER BY o)
FROM (SELECT 'adclick.ads'::regclass AS o UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = 'adclick.ads'::regclass) r
$$;
CREATE FUNCTION plain.read_for(question text, number bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint[] := plain.read_of_ads();
BEGIN
	PERFORM plain.error_of('tap_one', replace(question, 'AD', number::text), number);
	RETURN (SELECT string_agg((a - b)::text, ' ' ORDER BY nr) FROM unnest(plain.read_of_ads(), before) WITH ORDINALITY AS u (a, b, nr));
END $$;
SELECT isnt(plain.read_for('SELECT adclick.ad_click_count(AD, 60)', 201), plain.read_for('SELECT adclick.ad_click_count(AD, 60)', 202), 'an own ad is read');
SELECT is(count(DISTINCT plain.read_for(question, n)), 1::bigint, 'as much is read for an ad of another as for none: ' || question)
FROM unnest(ARRAY['SELECT adclick.ad_click_count(AD, 60)', 'SELECT * FROM adclick.clicks_per_minute WHERE ad_id = AD', 'SELECT * FROM adclick.breakdown(AD, 60, ''country'')']) question,
	unnest('{202,208,300,9223372036854775807}'::bigint[]) n GROUP BY question;

--
-- What functions and operators of one's own are given
--

CREATE SCHEMA AUTHORIZATION tap_one;
SET ROLE tap_one;
CREATE FUNCTION tap_one.leak(value anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT COST 0.0000001 AS
	$$ BEGIN PERFORM set_config('tap.seen', current_setting('tap.seen', true) || '|' || value, false); RETURN true; END $$;
CREATE FUNCTION tap_one.leaked(value anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE STRICT COST 0.0000001 AS
	$$ BEGIN PERFORM set_config('tap.seen', current_setting('tap.seen', true) || '|' || value, false); RETURN value; END $$;
CREATE FUNCTION tap_one.leak2(value bigint, other bigint) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT COST 0.0000001 AS
	$$ BEGIN PERFORM set_config('tap.seen', current_setting('tap.seen', true) || '|' || value || '|' || other, false); RETURN value = other; END $$;
CREATE OPERATOR tap_one.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = tap_one.leak2, RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
RESET ROLE;
CREATE VIEW plain.own AS SELECT * FROM plain.clicks WHERE advertiser_id = 1;
CREATE FUNCTION plain.is_tight(query text, constants text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	seen text;
BEGIN
	PERFORM set_config('tap.seen', '', false);
	PERFORM set_config('role', 'tap_one', true);
	BEGIN
		EXECUTE 'SELECT count(x::text) FROM (' || query || ') x';
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING '%: %', SQLERRM, query;
	END;
	PERFORM set_config('role', 'none', true);
	seen := current_setting('tap.seen');
	RETURN NEXT isnt(seen, '', 'is called: ' || query);
	RETURN NEXT is((SELECT array_agg(DISTINCT v ORDER BY v) FROM unnest(string_to_array(ltrim(seen, '|'), '|')) v
		WHERE v <> ALL (constants) AND v NOT IN (SELECT unnest(ARRAY['ad ' || ad_id, 'advertiser ' || advertiser_id, ad_id::text, advertiser_id::text, click_minute::text, filter_id::text, country, region, device, click_count::text,
			date_trunc('hour', click_minute, 'UTC')::text, date_trunc('day', click_minute, 'UTC')::text]) FROM
				(SELECT *, count(*) OVER (PARTITION BY ad_id, click_minute, filter_id, country, region, device) AS click_count FROM plain.own) o)
			AND v NOT IN (SELECT count(*)::text FROM plain.own GROUP BY ad_id, filter_id, date_trunc('hour', click_minute, 'UTC'))
			AND v NOT IN (SELECT count(*)::text FROM plain.own GROUP BY ad_id, filter_id, date_trunc('day', click_minute, 'UTC'))),
		NULL::text[], 'and given nothing of others: ' || query);
END $$;
-- Clicks in minutes and of filters that only others have, in all places where clicks are.
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS merged \gset
SELECT plain.send(400) AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT plain.send(400) AS sent \gset
SELECT plain.refresh() AS refreshed \gset
CREATE TABLE plain.leaks (query text);
INSERT INTO plain.leaks
SELECT replace(q, 'VIEW', view) FROM unnest('{adclick.clicks_per_minute,adclick.ad_click_counts}'::text[]) view, unnest(ARRAY[
	'SELECT * FROM VIEW WHERE tap_one.leak(ad_id)', 'SELECT * FROM VIEW WHERE tap_one.leak(''ad '' || ad_id)', 'SELECT * FROM VIEW WHERE tap_one.leak(''advertiser '' || advertiser_id)',
	'SELECT tap_one.leaked(''advertiser '' || advertiser_id), sum(click_count) FROM VIEW WHERE tap_one.leak(''advertiser '' || advertiser_id) GROUP BY 1', 'SELECT * FROM VIEW WHERE tap_one.leak(click_minute)', 'SELECT * FROM VIEW WHERE tap_one.leak(advertiser_id)',
	'SELECT * FROM VIEW WHERE tap_one.leak(click_count)', 'SELECT * FROM VIEW WHERE tap_one.leak(click_minute) AND tap_one.leak(ad_id) AND click_count > 0',
	'SELECT sum(click_count) FROM VIEW WHERE tap_one.leak(click_minute)', 'SELECT click_minute, sum(click_count) FROM VIEW WHERE tap_one.leak(click_minute) GROUP BY 1',
	'SELECT tap_one.leaked(click_minute), sum(click_count) FROM VIEW GROUP BY 1', 'SELECT min(click_minute), max(click_minute) FROM VIEW WHERE tap_one.leak(click_minute)',
	'SELECT max(tap_one.leaked(click_minute)) FROM VIEW', 'SELECT tap_one.leaked(ad_id), sum(click_count) FROM VIEW GROUP BY 1',
	'SELECT tap_one.leaked(advertiser_id), sum(click_count) FROM VIEW GROUP BY 1', 'SELECT sum(click_count) FILTER (WHERE tap_one.leak(ad_id)) FROM VIEW',
	'SELECT ad_id FROM VIEW GROUP BY 1 HAVING tap_one.leak(ad_id)',
	'SELECT * FROM (SELECT * FROM VIEW WHERE tap_one.leak(click_minute) ORDER BY click_minute LIMIT 2000) x', 'SELECT * FROM (SELECT * FROM VIEW WHERE tap_one.leak(click_minute) ORDER BY click_minute DESC LIMIT 2000) x',
	'SELECT DISTINCT tap_one.leaked(advertiser_id) FROM VIEW ORDER BY 1', 'SELECT * FROM VIEW WHERE click_minute < now() - interval ''20 hours'' AND tap_one.leak(click_minute)',
	'SELECT * FROM VIEW a WHERE EXISTS (SELECT FROM VIEW b WHERE tap_one.leak(b.click_minute) AND b.ad_id = a.ad_id)',
	'SELECT * FROM generate_series(201, 203) n, LATERAL (SELECT * FROM VIEW WHERE ad_id = n AND tap_one.leak(click_minute)) x',
	'SELECT * FROM VIEW WHERE CASE WHEN tap_one.leak(click_minute) THEN ad_id END > 0']) q
UNION ALL
SELECT q FROM unnest(ARRAY[
	'SELECT * FROM adclick.clicks_per_minute WHERE tap_one.leak(country)', 'SELECT * FROM adclick.clicks_per_minute WHERE tap_one.leak(device) AND tap_one.leak(click_minute)',
	'SELECT sum(click_count) FROM adclick.clicks_per_minute WHERE tap_one.leak(region)', 'SELECT tap_one.leaked(country), sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1',
	'SELECT tap_one.leaked(country), tap_one.leaked(click_minute), sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1, 2',
	'SELECT min(click_minute) FROM adclick.clicks_per_minute WHERE tap_one.leak(country)', 'SELECT * FROM adclick.ad_click_counts WHERE tap_one.leak(filter_id)',
	'SELECT filter_id, sum(click_count) FROM adclick.ad_click_counts WHERE tap_one.leak(filter_id) GROUP BY 1',
	'SELECT * FROM adclick.ad_click_counts_hourly WHERE tap_one.leak(click_hour) AND tap_one.leak(filter_id)', 'SELECT * FROM adclick.ad_click_counts_daily WHERE tap_one.leak(click_day)',
	'SELECT tap_one.leaked(click_day), sum(click_count) FROM adclick.ad_click_counts_daily GROUP BY 1', 'SELECT click_hour FROM adclick.ad_click_counts_hourly WHERE tap_one.leak(advertiser_id)',
	'SELECT ad_id FROM adclick.ad_click_counts_daily GROUP BY 1 HAVING tap_one.leak(ad_id)']) q;
SELECT plain.is_tight(query) FROM plain.leaks;
SELECT plain.is_tight(format('SELECT * FROM %s WHERE %s OPERATOR(tap_one.=) 202', view, x), '{202}')
FROM unnest('{adclick.clicks_per_minute,adclick.ad_click_counts}'::text[]) view, unnest('{ad_id,advertiser_id,click_count}'::text[]) x;
-- What is in adclick.ads alone.
CREATE VIEW plain.own_ads AS SELECT * FROM adclick.ads WHERE advertiser_id = 1;
CREATE FUNCTION plain.seen_of_ads(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('tap.seen', '', false);
	PERFORM set_config('role', 'tap_one', true);
	EXECUTE 'SELECT count(*) FROM (' || query || ') x';
	PERFORM set_config('role', 'none', true);
	RETURN (SELECT string_agg(DISTINCT v, ',') FROM unnest(string_to_array(ltrim(current_setting('tap.seen'), '|'), '|')) v);
END $$;
SELECT is(plain.seen_of_ads('SELECT * FROM adclick.own_ads WHERE tap_one.leak(advertiser_id)'), '1', 'own_ads');
SELECT is(plain.seen_of_ads('SELECT * FROM adclick.own_ads a JOIN adclick.clicks_per_minute c USING (advertiser_id) WHERE tap_one.leak(c.advertiser_id)'), '1', 'and a join with it');

-- Errors that tell the value: there is none for what only others have.
SELECT is(plain.ask('tap_one', query), '1(0)', 'no error: ' || query) FROM unnest(ARRAY[
	'SELECT count(*) FROM adclick.clicks_per_minute WHERE 1 / CASE WHEN country = $$Foreign$$ THEN 0 ELSE 1 END > 1', 'SELECT count(*) FROM adclick.clicks_per_minute WHERE 1 / (ad_id - 202) > 1',
	'SELECT count(*) FROM adclick.clicks_per_minute WHERE 1 / (advertiser_id - 2) > 1', 'SELECT count(*) FROM adclick.clicks_per_minute WHERE 1 / (advertiser_id - 8) > 1',
	'SELECT count(*) FROM adclick.ad_click_counts WHERE 1 / CASE WHEN click_minute < plain.start() THEN 0 ELSE 1 END > 1',
	'SELECT count(*) FROM adclick.own_ads WHERE 1 / (advertiser_id - 2) > 1']) query;
SELECT matches(plain.ask('tap_reader', 'SELECT count(*) FROM adclick.clicks_per_minute WHERE 1 / (ad_id - 202) > 1'), '^22012', 'a reader meets it');

--
-- What EXPLAIN and the statistics tell
--

CREATE TABLE plain.plans (query text, plan text);
CREATE FUNCTION plain.explain(options text, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
BEGIN
	PERFORM set_config('role', 'tap_one', true);
	FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
		plan := plan || line || E'\n';
	END LOOP;
	PERFORM set_config('role', 'none', true);
	RETURN plan;
END $$;
SET jit = off;
CREATE VIEW plain.explained AS
	SELECT options || ' ' || query AS query, plain.explain(options, query) AS plan
	FROM unnest('{"COSTS, VERBOSE","ANALYZE, COSTS, TIMING off, SUMMARY off, BUFFERS off"}'::text[]) options,
		(SELECT query FROM plain.queries UNION ALL SELECT 'SELECT * FROM adclick.clicks_per_minute WHERE advertiser_id = ' || n FROM generate_series(1, 9) n
		UNION ALL SELECT 'SELECT * FROM adclick.ad_click_counts_hourly WHERE ad_id < ' || n FROM generate_series(1, 90, 10) n
		UNION ALL SELECT 'SELECT * FROM adclick.clicks_per_minute WHERE advertiser_id % 3 = 1 AND country = ''Foreign'''
		UNION ALL SELECT 'SELECT x, count(*) FROM (SELECT advertiser_id AS x FROM adclick.clicks_per_minute OFFSET 0) s GROUP BY 1'
		UNION ALL SELECT 'SELECT * FROM (SELECT advertiser_id AS x FROM adclick.ad_click_counts_daily OFFSET 0) s WHERE x > 1'
		UNION ALL SELECT 'SELECT * FROM adclick.clicks_per_minute JOIN adclick.own_ads USING (ad_id)') q;
-- Sizes of hash tables are those of own rows.
ANALYZE adclick.ads;
INSERT INTO plain.plans SELECT * FROM plain.explained;
INSERT INTO adclick.ads (ad_id, advertiser_id) SELECT 1000 + n, CASE WHEN n % 3 = 0 THEN 2 ELSE n % 1000 + 2 END FROM generate_series(1, 3000) n;
INSERT INTO adclick.clicks (ad_id, clicked_at, country) SELECT 1000 + ceil(random() * 3000), plain.start() + random() * interval '25 hours', 'Foreign' FROM generate_series(1, 3000);
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS merged \gset
INSERT INTO adclick.clicks (ad_id, clicked_at, country) SELECT 1000 + ceil(random() * 3000), plain.start() + random() * interval '25 hours', 'Foreign too' FROM generate_series(1, 3000);
CREATE STATISTICS plain.of_ads ON advertiser_id, ad_id FROM adclick.ads;
ANALYZE adclick.ads;
SELECT is_empty('SELECT query, o.plan, n.plan FROM plain.plans o JOIN plain.explained n USING (query) WHERE o.plan <> n.plan', 'EXPLAIN says the same, whatever others have');
SELECT is_empty('SELECT * FROM plain.plans WHERE plan ~ ''Runs|Segments|Facts|Tail|(rows=3000)''', 'without what was read');
SELECT cmp_ok(count(*), '>', 80::bigint, 'of many') FROM plain.plans;
SELECT is(plain.ask('tap_one', 'SELECT * FROM pg_stats WHERE schemaname ~ $$^adclick$$'), '0', 'no statistics of columns are for advertisers');
SELECT is(plain.ask('tap_one', 'SELECT * FROM pg_stats_ext WHERE tablename = $$ads$$'), '0', 'nor others');
SELECT plain.refresh() AS refreshed \gset
SELECT is_empty('SELECT * FROM plain.wrong_views()', 'with many ads: views of each role');
DROP STATISTICS plain.of_ads;

--
-- Who asks is the current user when it is run, and who that is told by the table as it is then
--

CREATE VIEW plain.sums AS SELECT s.role, plain.ask('none', plain.over_scope('SELECT sum(click_count) FROM adclick.clicks_per_minute c', s.advertisers)) AS expected FROM plain.scopes s;
-- NULL for one who has no clicks, as tap_none may not have
CREATE TABLE plain.totals AS SELECT role, nullif(regexp_replace(expected, '^1[(](.*)[)]$', '\1'), '')::numeric AS total FROM plain.sums;
GRANT SELECT ON plain.totals TO PUBLIC;
CREATE FUNCTION plain.total(of name) RETURNS numeric LANGUAGE sql AS $$ SELECT total FROM plain.totals WHERE role = of $$;

PREPARE total AS SELECT sum(click_count) FROM adclick.clicks_per_minute;
PREPARE by_advertiser AS SELECT advertiser_id, sum(click_count) FROM adclick.clicks_per_minute WHERE tap_one.leak(advertiser_id) GROUP BY 1;
PREPARE top AS SELECT sum(click_count) FROM adclick.top_n_ads_between(100000, '-infinity', 'infinity');
-- A plan of other rights may be refused once.
CREATE FUNCTION plain.run_again(statement text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	answer numeric;
BEGIN
	FOR i IN 1 .. 2 LOOP
		BEGIN
			EXECUTE statement INTO answer;
			RETURN answer;
		EXCEPTION WHEN serialization_failure THEN
			NULL;
		END;
	END LOOP;
END $$;
SET plan_cache_mode = force_generic_plan;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_reader'$$, 'prepared, run by a superuser');
SELECT set_config('tap.seen', '', false) AS nothing \gset
SELECT lives_ok('EXECUTE by_advertiser', 'and by a plan that reads all ads');
SELECT lives_ok('EXECUTE top', 'and a question');
SET ROLE tap_one;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_one'$$, 'by tap_one');
SELECT set_config('tap.seen', '', false) AS nothing \gset
SELECT is(count(*), 1::bigint, 'one advertiser') FROM (SELECT adclick.advertiser_click_count_between(1, '-infinity', 'infinity')) x;
SELECT lives_ok('EXECUTE by_advertiser', 'whose ads are others');
SELECT is(array_agg(DISTINCT v), '{1}', 'and whose function sees no other') FROM unnest(string_to_array(ltrim(current_setting('tap.seen'), '|'), '|')) v;
SELECT results_eq('EXECUTE top', $$SELECT total FROM plain.totals WHERE role = 'tap_one'$$, 'a question by tap_one');
SET ROLE tap_both;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_both'$$, 'by tap_both');
SELECT results_eq('EXECUTE top', $$SELECT total FROM plain.totals WHERE role = 'tap_both'$$, 'a question by tap_both');
SET ROLE tap_unnamed;
SELECT throws_ok('EXECUTE total', '42501', 'permission denied to ask about clicks', 'by one who may not');
SET ROLE tap_reader;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_reader'$$, 'by a reader');
RESET ROLE;
-- The role stays, its rights change.
GRANT adclick_advertiser TO tap_reader;
SET ROLE tap_reader;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_reader'$$, 'by a reader who is an advertiser, too');
RESET ROLE;
REVOKE adclick_reader FROM tap_reader;
SET ROLE tap_reader;
SELECT is(plain.run_again('EXECUTE total'), plain.total('tap_one'), 'no more: he is advertiser 1');
RESET ROLE;
GRANT adclick_reader TO tap_reader;
SET ROLE tap_reader;
SELECT is(plain.run_again('EXECUTE total'), plain.total('tap_reader'), 'again a reader');
RESET ROLE;
REVOKE adclick_advertiser FROM tap_reader;
-- The table changes.
SET ROLE tap_one;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_one'$$, 'before a change');
RESET ROLE;
BEGIN;
INSERT INTO adclick.advertiser_roles VALUES ('tap_one', 2), ('tap_one', 6);
SET ROLE tap_one;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_both'$$, 'a row more');
SELECT results_eq('EXECUTE top', $$SELECT total FROM plain.totals WHERE role = 'tap_both'$$, 'in questions');
ROLLBACK;
SET ROLE tap_one;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_one'$$, 'rolled back');
RESET ROLE;
BEGIN;
UPDATE adclick.ads SET advertiser_id = 1 WHERE advertiser_id IN (2, 6);
SET ROLE tap_one;
SELECT results_eq('EXECUTE total', $$SELECT total FROM plain.totals WHERE role = 'tap_both'$$, 'ads that change hands');
ROLLBACK;
DELETE FROM adclick.advertiser_roles WHERE role_name = 'tap_one';
SET ROLE tap_one;
SELECT throws_ok('EXECUTE total', '42501', 'permission denied to ask about clicks', 'a row less');
SELECT throws_ok('EXECUTE top', '42501', 'permission denied to ask about clicks', 'in questions');
RESET ROLE;
INSERT INTO adclick.advertiser_roles VALUES ('tap_one', 1);
RESET plan_cache_mode;

-- A function in SQL is planned once for a query, whoever runs it then.
CREATE FUNCTION plain.in_sql() RETURNS numeric LANGUAGE sql AS $$ SELECT sum(click_count) FROM adclick.clicks_per_minute $$;
CREATE FUNCTION plain.as_both(one name, other name) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT max(total) FILTER (WHERE became = other) FROM (SELECT set_config('role', role, true) AS became, plain.in_sql() AS total FROM unnest(ARRAY[one, other]) role OFFSET 0) x);
EXCEPTION WHEN serialization_failure THEN
	RETURN SQLERRM;
END $$;
SELECT is(plain.as_both('none', 'tap_one') IN (plain.total('tap_one')::text, 'the rights of role "tap_one" have changed since the statement was planned'), true, 'a plan of a superuser''s, run by an advertiser');
SELECT is(plain.as_both('tap_one', 'tap_two'), plain.total('tap_two')::text, 'one of another advertiser''s');
CREATE OR REPLACE FUNCTION plain.in_sql() RETURNS numeric LANGUAGE sql AS $$ SELECT sum(click_count) FROM adclick.clicks_per_minute WHERE tap_one.leak(current_user || ' ' || advertiser_id) $$;
SELECT set_config('tap.seen', '', false) AS nothing, plain.as_both('none', 'tap_one') AS tried \gset
SELECT is_empty($$SELECT v FROM unnest(string_to_array(current_setting('tap.seen'), '|')) v WHERE v LIKE 'tap_one %' AND v <> 'tap_one 1'$$, 'whose function sees no other ads in a plan of a superuser''s');

-- A cursor is its opener's.
BEGIN;
SET LOCAL ROLE tap_one;
DECLARE ones CURSOR FOR SELECT sum(click_count) FROM adclick.clicks_per_minute;
RESET ROLE;
SELECT results_eq('FETCH ones', $$SELECT total FROM plain.totals WHERE role = 'tap_one'$$, 'a cursor of an advertiser, fetched by a superuser');
DECLARE alls CURSOR FOR SELECT sum(click_count) FROM adclick.clicks_per_minute;
SET LOCAL ROLE tap_one;
SELECT results_eq('FETCH alls', $$SELECT total FROM plain.totals WHERE role = 'tap_reader'$$, 'and the other way round');
COMMIT;

-- Functions with the rights of their owners, and views over views.
CREATE FUNCTION plain.by_definer() RETURNS numeric LANGUAGE plpgsql SECURITY DEFINER AS
	$$ BEGIN RETURN (SELECT sum(click_count) FROM adclick.clicks_per_minute) + 0 * (SELECT count(*) FROM adclick.top_n_ads_between(1, '-infinity', 'infinity')); END $$;
ALTER FUNCTION plain.by_definer() OWNER TO tap_one;
SELECT is(plain.by_definer(), plain.total('tap_one'), 'a superuser through an advertiser''s function');
SET ROLE tap_two;
SELECT is(plain.by_definer(), plain.total('tap_one'), 'another advertiser through it');
RESET ROLE;
GRANT CREATE ON SCHEMA plain TO tap_reader;
ALTER FUNCTION plain.by_definer() OWNER TO tap_reader;
SET ROLE tap_one;
SELECT is(plain.by_definer(), plain.total('tap_reader'), 'an advertiser through a reader''s function, which is the reader''s to give');
RESET ROLE;
SET ROLE tap_reader;
CREATE VIEW plain.of_reader AS SELECT * FROM adclick.clicks_per_minute;
CREATE VIEW plain.of_reader_again WITH (security_barrier) AS SELECT * FROM plain.of_reader;
GRANT SELECT ON plain.of_reader, plain.of_reader_again TO PUBLIC;
RESET ROLE;
SELECT is(plain.ask(t.role, 'SELECT sum(click_count) FROM ' || view), format('1(%s)', t.total), t.role || ' through a view of a reader''s: ' || view)
FROM plain.totals t, unnest('{plain.of_reader,plain.of_reader_again}'::text[]) view WHERE t.role <> 'tap_none';
SELECT is(plain.ask('tap_outside', 'SELECT sum(click_count) FROM plain.of_reader'), plain.ask('tap_one', 'SELECT sum(click_count) FROM plain.of_reader'), 'as does who may not read what is behind it');
SELECT plain.is_tight('SELECT * FROM ' || view || ' WHERE tap_one.leak(advertiser_id) AND tap_one.leak(click_minute)') FROM unnest('{plain.of_reader,plain.of_reader_again}'::text[]) view;
CREATE MATERIALIZED VIEW plain.kept AS SELECT sum(click_count) AS total FROM adclick.clicks_per_minute;
ALTER MATERIALIZED VIEW plain.kept OWNER TO tap_one;
REFRESH MATERIALIZED VIEW plain.kept;
SELECT is(total, plain.total('tap_one'), 'a materialized view is refreshed as its owner') FROM plain.kept;

-- Names that stand before ours.
SET ROLE tap_one;
CREATE TABLE tap_one.ads (ad_id bigint, advertiser_id bigint);
CREATE TABLE tap_one.advertiser_roles (role_name name, advertiser_id bigint);
INSERT INTO tap_one.advertiser_roles VALUES ('tap_one', 2);
CREATE TEMP TABLE ads AS SELECT n AS ad_id, 1::bigint AS advertiser_id FROM generate_series(1, 300) n;
CREATE TEMP TABLE advertiser_roles AS SELECT 'tap_one'::name AS role_name, 2::bigint AS advertiser_id;
SET search_path = pg_temp, tap_one, adclick, pg_catalog;
SELECT pg_catalog.sum(click_count) AS in_view FROM adclick.clicks_per_minute \gset
SELECT pg_catalog.sum(click_count) AS in_question FROM adclick.top_n_ads_between(100000, '-infinity', 'infinity') \gset
RESET search_path;
RESET ROLE;
SELECT is(:in_view::numeric, plain.total('tap_one'), 'search_path');
SELECT is(:in_question::numeric, plain.total('tap_one'), 'of questions');

--
-- Roles that are dropped or renamed
--

ALTER ROLE tap_two RENAME TO tap_other;
SELECT is(plain.ask('tap_other', 'TABLE adclick.clicks_per_minute'), '42501: permission denied to ask about clicks', 'renamed: no advertiser');
SELECT isnt(plain.ask('tap_both', 'TABLE adclick.clicks_per_minute'), plain.ask('tap_one', 'TABLE adclick.clicks_per_minute'), 'its members keep what they are themselves');
ALTER ROLE tap_other RENAME TO tap_two;
SELECT is(plain.ask('tap_two', 'SELECT sum(click_count) FROM adclick.clicks_per_minute'), format('1(%s)', plain.total('tap_two')), 'and back');
REVOKE tap_team FROM tap_team_part;
SELECT matches(plain.ask('tap_team_member', 'TABLE adclick.clicks_per_minute'), '^42501', 'no longer in the team');

DROP SCHEMA tap_one CASCADE;
DROP TABLE pg_temp.ads, pg_temp.advertiser_roles;
DROP SCHEMA plain CASCADE;
DROP OWNED BY tap_one, tap_two, tap_agency, tap_both, tap_team, tap_team_part, tap_team_member, tap_none, tap_unnamed, tap_outside, tap_noinherit, tap_reader, tap_admin, tap_all_data;
DROP ROLE tap_one, tap_two, tap_agency, tap_both, tap_team, tap_team_part, tap_team_member, tap_none, tap_unnamed, tap_outside, tap_noinherit, tap_reader, tap_admin, tap_all_data;

SELECT * FROM finish();
