-- The functions behind the HTTP endpoints, called as PostgREST calls them: what a request says is in
-- request.headers, what is answered in response.status and response.headers. And the ids of clicks that
-- are inserted by who has redirected them himself.

SELECT no_plan();
SELECT setseed(0.5) AS seeded \gset

-- The status and the headers that a call has set, and its answer; NULL where it has set none.
CREATE FUNCTION responded(call text, headers text DEFAULT NULL, OUT status text, OUT sent text, OUT answer text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('request.headers', headers, true);
	EXECUTE call INTO answer;
	status := nullif(current_setting('response.status', true), '');
	sent := nullif(current_setting('response.headers', true), '');
	PERFORM set_config('response.status', NULL, true), set_config('response.headers', NULL, true);
END $$;

SELECT oracle.make_ads() AS made \gset
SELECT oracle.send_clicks(3000, '1 hour') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.send_clicks(1000, '1 hour') AS sent \gset

--
-- Filters
--

SELECT is(adclick_api.filters(text), expected::jsonb, 'filters ' || to_json(text)) FROM (VALUES
	('', '{}'), ('   ', '{}'), ('{}', '{}'), (' {"country": "CA"} ', '{"country": "CA"}'), ('{"device": ["mobile", "tablet"]}', '{"device": ["mobile", "tablet"]}'),
	('COUNTRY=CANADA & DEVICE=MOBILE', '{"country": "CANADA", "device": "MOBILE"}'), ('country=CA', '{"country": "CA"}'), ('Country = CA&region=CA-1', '{"country": "CA", "region": "CA-1"}'),
	('user_id=42', '{"user_id": 42}'), ('USER_ID=-9223372036854775808&ADVERTISER_ID=9007199254740993', '{"user_id": -9223372036854775808, "advertiser_id": 9007199254740993}'),
	('ip=203.0.113.0/24', '{"ip": "203.0.113.0/24"}'), ('ip=2001:db8::/32', '{"ip": "2001:db8::/32"}'), ('region=a=b', '{"region": "a=b"}'), ('country=42', '{"country": "42"}'),
	('region=Île-de-France', '{"region": "Île-de-France"}'), ('region=a "quoted" \one', '{"region": "a \"quoted\" \\one"}'), ('["country"]', '["country"]')) f (text, expected);
SELECT is(state::text, expected, 'refused: ' || to_json(left(text, 60))) FROM (VALUES
	('COUNTRY', '22023', 'filter "COUNTRY" has no name or no value'), ('=CA', '22023', 'filter "=CA" has no name or no value'), ('country=', '22023', 'filter "country=" has no name or no value'),
	('country=CA&', '22023', 'filter "" has no name or no value'), ('&', '22023', 'filter "" has no name or no value'), ('country=CA && device=x', '22023', 'filter "" has no name or no value'),
	('country=CA&COUNTRY=US', '22023', 'filter "country" is there twice'), ('city=Montreal', '22023', 'unknown filter "city"'), ('CLICKS=1', '22023', 'unknown filter "clicks"'),
	('user_id=1e3', '22023', 'filter "user_id" must be an integer or a list of integers'), ('user_id=9223372036854775808', '22023', 'filter "user_id" must be an integer or a list of integers'),
	('user_id=1 OR 1=1', '22023', 'filter "user_id" must be an integer or a list of integers'), ('ip=203.0.113', '22023', 'filter "ip" has no address or network in "203.0.113"'),
	('country=CA; DROP TABLE adclick.clicks', 'none', ''), ('["CA"]', '22023', 'filters must be a JSON object'), ('"CA"', '22023', 'filters must be a JSON object'), ('null', '22023', 'filter "null" has no name or no value'),
	('{', '22P02', 'invalid input syntax for type json'), ('{"country": "CA"} x', '22P02', 'invalid input syntax for type json'), ('{"country": "\u0000"}', '22P05', 'unsupported Unicode escape sequence'),
	('{"country": {"$gt": ""}}', '22023', 'filter "country" must be a string or a list of strings'), ('{"user_id": 1e400}', '22023', 'filter "user_id" must be an integer or a list of integers'),
	(repeat('[', 100000), '54001', 'stack depth limit exceeded'), ('{"__proto__": "x"}', '22023', 'unknown filter "__proto__"')) f (text, code, message),
	LATERAL (SELECT CASE WHEN code = 'none' THEN 'none' ELSE code || ' ' || message END) e (expected),
	LATERAL (SELECT coalesce(r.code || ' ' || r.message, 'none') FROM oracle.refused(format('SELECT adclick_api.ad_click_count(1, ''-infinity'', ''infinity'', %L)', text)) r) s (state);

--
-- Answers, in both forms of filters, by plain SQL
--

CREATE TEMP TABLE clicks AS SELECT c.*, a.advertiser_id FROM oracle.clicks() c LEFT JOIN adclick.ads a USING (ad_id);
CREATE TEMP TABLE asked AS
SELECT i, (SELECT ad_id FROM clicks WHERE i = i ORDER BY random() LIMIT 1) AS ad_id, filters,
	date_trunc('minute', now() - least(random(), random()) * interval '90 minutes') AS "from", date_trunc('minute', now() + random() * interval '10 minutes') AS "to"
FROM generate_series(1, 60) i
CROSS JOIN LATERAL (SELECT coalesce(jsonb_object_agg(key, value), '{}') AS filters
	FROM (SELECT * FROM clicks WHERE i = i ORDER BY random() LIMIT 1) c, jsonb_each(to_jsonb(c))
	WHERE key IN ('country', 'region', 'device', 'user_id', 'ip', 'advertiser_id') AND random() < 0.3 AND value <> 'null' AND value::text !~ '[&\\]|^"\s*"$') f;
-- As people write them.
ALTER TABLE asked ADD written text;
UPDATE asked SET written = (SELECT coalesce(string_agg(upper(key) || '=' || value, ' & '), '') FROM jsonb_each_text(filters));
CREATE VIEW met AS
SELECT a.*, c.ad_id AS clicked, c.minute, c.country FROM asked a JOIN clicks c ON c.minute >= "from" AND c.minute < "to"
	AND oracle.meets(oracle.list(filters -> 'country'), oracle.list(filters -> 'region'), oracle.list(filters -> 'device'), oracle.list(filters -> 'user_id')::bigint[],
		oracle.list(filters -> 'ip')::inet[], oracle.list(filters -> 'advertiser_id')::bigint[], c.country, c.region, c.device, c.user_id, c.ip, c.advertiser_id);
SELECT ok(count(*) > 100 AND count(DISTINCT filters) > 10, 'the questions are about something') FROM met;

SELECT is(answer::text, expected::text, 'clicks of ad ' || ad_id || ', ' || said)
FROM asked a, unnest(ARRAY[filters::text, written]) said,
	LATERAL (SELECT adclick_api.ad_click_count(ad_id, "from", "to", said)) q (answer),
	LATERAL (SELECT json_build_object('adId', ad_id, 'adClickCount', (SELECT count(*) FROM met m WHERE m.i = a.i AND m.clicked = a.ad_id))) e (expected);
SELECT is(adclick_api.top_n_ads(7, "from", "to", said)::jsonb, jsonb_build_object('mostClickedAds', coalesce((
	SELECT jsonb_agg(jsonb_build_object('adId', clicked, 'adClickCount', n) ORDER BY n DESC, clicked)
	FROM (SELECT clicked, count(*) AS n FROM met m WHERE m.i = a.i GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 7) t), '[]')), 'top 7, ' || said)
FROM asked a, unnest(ARRAY[filters::text, written]) said WHERE i <= 30;
SELECT is(adclick_api.breakdown(ad_id, "from", "to", 'country', written)::jsonb, jsonb_build_object('adId', ad_id, 'dimension', 'country', 'breakdown', coalesce((
	SELECT jsonb_agg(jsonb_build_object('value', country, 'adClickCount', n) ORDER BY n DESC, country COLLATE "C")
	FROM (SELECT country, count(*) AS n FROM met m WHERE m.i = a.i AND m.clicked = a.ad_id GROUP BY 1) t), '[]')), 'breakdown, ' || written)
FROM asked a WHERE i <= 20;
SELECT is(adclick_api.click_series(ad_id, "from", "to", '1 minute', written)::jsonb, jsonb_build_object('adId', ad_id, 'clickSeries', coalesce((
	SELECT jsonb_agg(jsonb_build_object('time', t, 'adClickCount', (SELECT count(*) FROM met m WHERE m.i = a.i AND m.clicked = a.ad_id AND m.minute = t)) ORDER BY t)
	FROM generate_series("from", "to" - interval '1 minute', '1 minute') t), '[]')), 'series, ' || written)
FROM asked a WHERE i <= 5;
SELECT is(adclick_api.clicks_per_minute("from", "to")::jsonb, jsonb_build_object('clicksPerMinute', coalesce((
	SELECT jsonb_agg(jsonb_build_object('time', minute, 'adClickCount', n) ORDER BY minute)
	FROM (SELECT minute, count(*) AS n FROM clicks WHERE minute >= "from" AND minute < "to" GROUP BY 1) t), '[]')), 'clicks of each minute')
FROM asked WHERE i <= 5;

SELECT is(adclick_api.ad_click_count(9223372036854775807, '-infinity', 'infinity')::text,
	format('{"adId" : 9223372036854775807, "adClickCount" : %s}', (SELECT count(*) FROM clicks WHERE ad_id = 9223372036854775807)), 'all digits of a large id');
SELECT is(adclick_api.top_n_ads(3, '2001-01-01Z', '2001-01-02Z')::text, '{"mostClickedAds" : []}', 'no clicks, no ads');
SELECT is(adclick_api.ad_click_count(NULL, 'yesterday', 'today')::text, NULL, 'NULL gives NULL');
SELECT is(code || ' ' || message, expected, call) FROM (VALUES
	('top_n_ads(0, ''yesterday'', ''today'')', '22023 n must be at least 1'),
	('top_n_ads(5, ''today'', ''yesterday'')', '22023 "from" must not be later than "to"'),
	('ad_click_count(1, ''yesterday 12:00:30'', ''today'')', '22023 "from" must be a whole minute'),
	('ad_click_count(1, ''nonsense'', ''today'')', '22007 invalid input syntax for type timestamp with time zone: "nonsense"'),
	('breakdown(1, ''yesterday'', ''today'', ''city'')', '22023 unknown dimension "city"'),
	('click_series(1, ''yesterday'', ''today'', ''90 seconds'')', '22023 bucket must be a positive number of whole minutes')) c (call, expected), LATERAL oracle.refused('SELECT adclick_api.' || call);

--
-- Clicks
--

DELETE FROM adclick.ads;
SELECT counted FROM adclick.tick() \gset
INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url, active) VALUES (1, 7, 'https://shop.example/1?a=b&c=%22', true), (2, 8, 'https://shop.example/2', false), (3, NULL, NULL, true);
CREATE ROLE tap_web;
GRANT adclick_ingest TO tap_web;
CREATE ROLE tap_shoes;
GRANT adclick_advertiser TO tap_shoes;
INSERT INTO adclick.advertiser_roles VALUES ('tap_shoes', 7);
CREATE ROLE tap_reader;
GRANT adclick_reader TO tap_reader;
CREATE ROLE tap_anybody;
GRANT USAGE ON SCHEMA oracle TO tap_web;
SET ROLE tap_web;
SELECT is((r.status, r.sent::jsonb, r.answer)::text, ('302', '[{"Location": "https://shop.example/1?a=b&c=%22"}, {"Cache-Control": "no-store"}]'::jsonb, '')::text, 'a redirect that is not to be cached')
FROM responded('SELECT adclick_api.click(1, 501)', '{"x-real-ip": "203.0.113.7", "x-forwarded-for": "198.51.100.1", "x-country": "CA", "x-region": "CA-1", "x-device": "mobile", "user-agent": "x"}') r;
SELECT is(r.status, '302', 'without headers') FROM responded('SELECT adclick_api.click(ad_id => 1)') r;
SELECT is(r.status, '302', 'with empty ones') FROM responded('SELECT adclick_api.click(1)', '{"x-real-ip": "", "x-country": ""}') r;
SELECT is(r.status, '302', 'with an impression') FROM (SELECT adclick.new_impression(1, 502) AS token OFFSET 0) t, responded(format('SELECT adclick_api.click(1, 502, %L)', token)) r;
SELECT is(r.status, '302', 'with a forged one') FROM responded('SELECT adclick_api.click(1, 503, ''forged'')') r;
SELECT is(code || ' ' || message, expected, call) FROM (VALUES
	('click(4)', 'PT404 ad 4 is unknown'), ('click(3)', 'PT404 ad 3 has no redirect_url'), ('click(2)', 'PT410 ad 2 is not active'), ('click(NULL)', '22004 ad_id must not be null')) c (call, expected),
	LATERAL oracle.refused('SELECT adclick_api.' || call);
SELECT is((SELECT code FROM oracle.refused(format('SELECT responded(''SELECT adclick_api.click(1)'', %L)', headers))), code, 'headers ' || headers) FROM (VALUES
	('{"x-real-ip": "nobody"}', '22P02'), ('{"x-real-ip": "1.2.3.4, 5.6.7.8"}', '22P02'), ('no json', '22P02'), ('{"x-real-ip": "203.0.113.7"}', NULL)) h (headers, code);
RESET ROLE;
SELECT results_eq('SELECT user_id, ip, country, region, device FROM adclick.clicks ORDER BY user_id NULLS LAST, ip', $$VALUES (501::bigint, '203.0.113.7'::inet, 'CA', 'CA-1', 'mobile'), (502, NULL, NULL, NULL, NULL),
	(503, NULL, NULL, NULL, NULL), (NULL, '203.0.113.7', NULL, NULL, NULL), (NULL, NULL, NULL, NULL, NULL), (NULL, NULL, '', NULL, NULL)$$, 'the address is that of the header alone, and an error leaves no click');
SELECT is((counted, duplicates, discarded)::text, '(5,0,1)', 'the forged one is set aside') FROM adclick.tick();

-- What it sets ends with the transaction.
SELECT adclick_api.click(1) IS NULL AS clicked \gset
SELECT is(current_setting('response.status', true), '', 'the next request has no status yet');

-- Operators and functions of the session's search_path do no harm, and what belongs to the INSERT sees that path.
CREATE SCHEMA tap_hostile;
CREATE FUNCTION tap_hostile.harm(json, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'harm was done'; END $$;
CREATE OPERATOR tap_hostile.->> (LEFTARG = json, RIGHTARG = text, FUNCTION = tap_hostile.harm);
CREATE FUNCTION tap_hostile.json_build_object(VARIADIC "any") RETURNS json LANGUAGE internal AS 'json_build_object';
CREATE FUNCTION tap_hostile.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'harm was done'; END $$;
GRANT USAGE ON SCHEMA tap_hostile TO PUBLIC;
SET search_path = tap_hostile, pg_catalog, public;
SET ROLE tap_web;
SELECT lives_ok('SELECT adclick_api.click(1)', 'a click');
SET ROLE tap_reader;
SELECT lives_ok($$SELECT adclick_api.ad_click_count(1, '-infinity', 'infinity', 'country=CA')$$, 'a question');
RESET ROLE;
RESET search_path;

--
-- Who may
--

SELECT bag_eq($$SELECT role, oid::regprocedure::text FROM pg_proc, unnest('{tap_web,tap_shoes,tap_reader,tap_anybody}'::name[]) role
	WHERE pronamespace = 'adclick_api'::regnamespace AND has_function_privilege(role, oid, 'EXECUTE') AND has_schema_privilege(role, pronamespace, 'USAGE')$$,
	$$SELECT role, oid::regprocedure::text FROM pg_proc, unnest('{tap_web,tap_shoes,tap_reader}'::name[]) role
	WHERE pronamespace = 'adclick_api'::regnamespace AND (role = 'tap_web') = (proname IN ('click', 'sender'))$$, 'who sends clicks clicks, who asks asks');
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'adclick_api'::regnamespace AND prosecdef$$, 'each with the rights of who calls');
SET ROLE tap_shoes;
SELECT is(adclick_api.ad_click_count(1, '-infinity', 'infinity') ->> 'adId', '1', 'an advertiser asks about his ad');
SELECT throws_ok($$SELECT adclick_api.ad_click_count(2, '-infinity', 'infinity')$$, '42501', 'permission denied to ask about this ad', 'and about no other');
SELECT throws_ok($$SELECT adclick_api.click_series(2, 'yesterday', 'today', '1 hour')$$, '42501', 'permission denied to ask about this ad', 'nor over time');
SELECT throws_ok($$SELECT adclick_api.breakdown(2, 'yesterday', 'today', 'country')$$, '42501', 'permission denied to ask about this ad', 'nor by country');
SELECT throws_ok($$SELECT adclick_api.ad_click_count(1, 'yesterday', 'today', 'user_id=501')$$, '42501', NULL, 'nor about users');
SELECT is(jsonb_path_query_array(adclick_api.top_n_ads(5, '-infinity', 'infinity')::jsonb, '$.mostClickedAds[*].adId'), '[1]', 'nor are others ranked');
SELECT throws_ok('SELECT adclick_api.click(1)', '42501', 'permission denied for function click', 'nor does he click');
RESET ROLE;
SELECT is((SELECT sum((m ->> 'adClickCount')::int) FROM json_array_elements(adclick_api.clicks_per_minute('-infinity', 'infinity') -> 'clicksPerMinute') m), (SELECT count(*) FROM oracle.clicks()), 'a reader sees all');

--
-- Ids of clicks that are inserted later, and perhaps twice
--

SELECT throws_ok(format('SELECT adclick.click_id(%s, %s, %s, 1, NULL)', a, b, c), '22004', 'click_id, clicked_at and ad_id must not be null', 'none without ' || what)
FROM (VALUES ('NULL', 'now()', '1', 'id'), ('gen_random_uuid()', 'NULL', '1', 'time'), ('gen_random_uuid()', 'now()', 'NULL', 'ad')) v (a, b, c, what);
SELECT is(adclick.click_id(id, at, 1, 1, NULL), id, 'without a token its own id, ' || at) FROM gen_random_uuid() id, unnest('{now, -infinity, infinity}'::timestamptz[]) at;
CREATE TEMP TABLE shown AS SELECT n AS user_id, adclick.new_impression(1, n) AS token, gen_random_uuid() AS own FROM generate_series(1, 20) n;
SELECT is(count(DISTINCT id)::int, 20, 'the id of the impression, each time') FROM shown, LATERAL (SELECT adclick.click_id(own, now(), 1, user_id, token) AS id FROM generate_series(1, 3)) i
WHERE id::text = regexp_replace(encode(substr(decode(translate(token, '-_', '+/'), 'base64'), 1, 16), 'hex'), '(.{8})(.{4})(.{4})(.{4})', '\1-\2-\3-\4-');
SELECT is(left(adclick.click_id(own, at, ad, who, said)::text, 18), expected, what) FROM shown, LATERAL (VALUES
	(now(), 2, user_id, token, '6164636c-6963-8001', 'another ad'), (now(), 1, user_id + 1, token, '6164636c-6963-8001', 'another user'), (now(), 1, NULL, token, '6164636c-6963-8001', 'no user'),
	(now(), 1, user_id, left(token, 63) || '!', '6164636c-6963-8001', 'no token'), (now(), 1, user_id, '', '6164636c-6963-8001', 'an empty one'),
	(now() + interval '61 minutes', 1, user_id, token, '6164636c-6963-8002', 'too late'), ('infinity', 1, user_id, token, '6164636c-6963-8002', 'at the end of time'),
	('-infinity', 1, user_id, token, '6164636c-6963-8002', 'before it')) c (at, ad, who, said, expected, what) WHERE user_id = 5;
SELECT is(count(DISTINCT adclick.click_id(own, now(), 1, 1, 'no token'))::int, 1, 'of what is no token the same, too') FROM shown, generate_series(1, 3) WHERE user_id = 5;
SELECT is(substr(adclick.click_id(own, now(), 1, 1, 'no token')::text, 25), substr(own::text, 25), 'it is found by its own id') FROM shown WHERE user_id = 5;

-- Together and once more, by who may send clicks: each counts once.
SELECT counted FROM adclick.tick() \gset
GRANT SELECT ON shown TO tap_web;
SET ROLE tap_web;
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT adclick.click_id(own, now(), 1, user_id, CASE WHEN user_id <= 15 THEN token END), 1, now(), user_id FROM shown;
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id) SELECT adclick.click_id(own, now() , 1, user_id, CASE WHEN user_id <= 15 THEN token END), 1, now(), user_id FROM shown;
RESET ROLE;
SELECT is((counted, duplicates, discarded)::text, '(20,20,0)', 'what is inserted again is a duplicate') FROM adclick.tick();
SET ROLE tap_shoes;
SELECT throws_ok('SELECT adclick.click_id(gen_random_uuid(), now(), 1, 1, ''x'')', '42501', 'permission denied for function click_id', 'nobody else asks whether a token is good');
RESET ROLE;

SELECT * FROM finish();
