-- What is refused: code, message, detail and hint of every error.
CREATE EXTENSION adclick;
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';

CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', SQLSTATE || ' ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;

-- Numbers
SELECT try('SELECT adclick.ad_click_count(1, 0)');
SELECT try('SELECT adclick.ad_click_count(1, -2147483648)');
SELECT try('SELECT adclick.top_n_ads(0, 5)');
SELECT try('SELECT adclick.top_n_ads(-1, 5)');
SELECT try('SELECT adclick.top_n_ads(1, 0)');
SELECT try($$SELECT adclick.top_n_ads_between(0, timestamptz '-infinity', 'infinity')$$);

-- Windows
SELECT try($$SELECT adclick.ad_click_count_between(1, timestamptz '2026-01-01 00:01Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.top_n_ads_between(1, timestamptz '2026-01-01 00:01Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.ad_click_count_between(1, timestamptz 'infinity', '-infinity')$$);
SELECT try($$SELECT adclick.ad_click_count_between(1, timestamptz '2026-01-01 00:00:30Z', '2026-01-01 00:05Z')$$);
SELECT try($$SELECT adclick.ad_click_count_between(1, timestamptz '2026-01-01 00:00Z', '2026-01-01 00:04:59.999999Z')$$);
SELECT try($$SELECT adclick.top_n_ads_between(1, timestamptz '1999-12-31 23:59:00.000001Z', 'infinity')$$);

-- Filters: unknown keys
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"city": "Ottawa"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"Country": "CA"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"": "CA"}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"country": "CA", "city": "Ottawa"}')$$);
SELECT try($$SELECT adclick.top_n_ads_between(1, timestamptz '-infinity', 'infinity', '{"city": []}')$$);

-- Filters: wrong types
SELECT try($$SELECT adclick.ad_click_count(1, 5, '[]')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '["country", "CA"]')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '"CA"')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, 'null')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '7')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": null}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"region": 7}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"device": true}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": {"is": "CA"}}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": {}}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": ["CA", null]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": ["CA", 7]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": ["CA", ["US"]]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": [[]]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": [{"is": "CA"}]}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"country": false}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"country"}')$$);

-- Filters on users: integers
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": "501"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": 1.5}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": 9223372036854775808}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": -9223372036854775809}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": 1e1000}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": null}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": true}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": {"is": 1}}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": [501, "502"]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": [501, null]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": [[501]]}')$$);
SELECT try($$SELECT adclick.top_n_ads_between(1, timestamptz '-infinity', 'infinity', '{"user_id": 0.1}')$$);

-- Filters on addresses: strings that are one
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": "203.0.113"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": "203.0.113.256"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": "203.0.113.7/33"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": "2001:db8::/129"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": "2001:db8:::1"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": ""}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": "localhost"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": "203.0.113.7 or so"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": 3405803783}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": null}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": {"in": "203.0.113.0/24"}}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": ["203.0.113.7", "nowhere"]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"ip": ["203.0.113.7", 7]}')$$);

-- Filters on advertisers: integers
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"advertiser_id": "7"}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"advertiser_id": 7.5}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"advertiser_id": 9223372036854775808}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"advertiser_id": null}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"advertiser_id": [7, "8"]}')$$);

-- The other questions
SELECT try('SELECT adclick.advertiser_click_count(7, 0)');
SELECT try($$SELECT adclick.advertiser_click_count_between(7, timestamptz '2026-01-01 00:01Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.advertiser_click_count(7, 5, '{"city": "Ottawa"}')$$);
SELECT try('SELECT adclick.unique_users(1, 0)');
SELECT try($$SELECT adclick.unique_users_between(1, timestamptz '2026-01-01 00:00:30Z', 'infinity')$$);
SELECT try($$SELECT adclick.unique_users(1, 5, '{"user_id": "501"}')$$);
SELECT try($$SELECT adclick.breakdown(1, 5, 'city')$$);
SELECT try($$SELECT adclick.breakdown(1, 5, '')$$);
SELECT try($$SELECT adclick.breakdown(1, 5, 'Country')$$);
SELECT try($$SELECT adclick.breakdown(1, 5, 'user_id')$$);
SELECT try($$SELECT adclick.breakdown(1, 0, 'country')$$);
SELECT try($$SELECT adclick.breakdown_between(1, timestamptz 'infinity', '-infinity', 'country')$$);
SELECT try($$SELECT adclick.breakdown(1, 5, 'country', '[]')$$);
SELECT try('SELECT adclick.explain_top_n(0, 5)');
SELECT try('SELECT adclick.explain_top_n(1, 0)');
SELECT try($$SELECT adclick.explain_top_n_between(1, timestamptz '2026-01-01 00:01Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.explain_top_n(1, 5, '{"city": "Ottawa"}')$$);

-- Series
CREATE FUNCTION try_series("from" timestamptz, "to" timestamptz, bucket interval) RETURNS text LANGUAGE sql AS
$$ SELECT try(format('SELECT adclick.click_series(1, %L, %L, %L)', "from", "to", bucket)) $$;
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00Z', '0');
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00Z', '-1 hour');
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00Z', '30 seconds');
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00Z', '1 minute 0.000001 seconds');
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00Z', '1 month -1 day');
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00Z', '1 day -1440 minutes');
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00Z', '1 day -1 minute');
SELECT try_series('-infinity', '2026-01-02 00:00Z', '1 hour');
SELECT try_series('2026-01-01 00:00Z', 'infinity', '1 hour');
SELECT try_series('2026-01-01 00:00:01Z', '2026-01-02 00:00Z', '1 hour');
SELECT try_series('2026-01-01 00:00Z', '2026-01-02 00:00:59Z', '1 hour');
SELECT try_series('2026-01-02 00:00Z', '2026-01-01 00:00Z', '1 hour');
SELECT try_series('2026-01-01 00:00Z', timestamptz '2026-01-01 00:01Z' + interval '1000000 minutes', '1 minute');
SELECT try_series('0001-01-01 00:00Z', '10000-01-01 00:00Z', '1 minute');
SELECT try_series('4713-01-01 00:00Z BC', '294276-12-31 23:59Z', '1 minute');
SELECT try_series('0001-12-31 23:59Z BC', '2026-01-01 00:00Z', '178000000 years');
SELECT try_series('2026-01-01 00:00Z', '294276-12-31 23:59Z', '178000000 years');
SELECT try_series('2026-01-01 00:00Z', '10000-01-01 00:01Z', '1 month');
SELECT try($$SELECT adclick.click_series(1, '2026-01-01 00:00Z', '2026-01-02 00:00Z', '1 hour', '{"city": "Ottawa"}')$$);
DROP FUNCTION try_series;

-- Registered filters
SELECT try($$SELECT adclick.add_filter('{}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": "CA", "region": "ON", "device": "mobile"}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": ["CA", "US"]}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": ["CA"]}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": []}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": null}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": 7}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": ""}')$$);
SELECT try($$SELECT adclick.add_filter('{"city": "Ottawa"}')$$);
SELECT try($$SELECT adclick.add_filter('{"user_id": 501}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": "CA", "user_id": 501}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": "CA", "ip": "203.0.113.7"}')$$);
SELECT try($$SELECT adclick.add_filter('{"country": "CA", "advertiser_id": 7}')$$);
SELECT try($$SELECT adclick.add_filter('[]')$$);
SELECT try($$SELECT adclick.add_filter('"CA"')$$);
SELECT try(format('SELECT adclick.add_filter(jsonb_build_object(''country'', %L))', repeat('x', 65)));
SELECT try($$SELECT adclick.drop_filter('{"country": "CA"}')$$);
SELECT try($$SELECT adclick.drop_filter('{}')$$);
SELECT try($$SELECT adclick.drop_filter('{"country": "CA", "region": "ON", "device": "mobile"}')$$);
SELECT try($$SELECT adclick.drop_filter('{"city": "Ottawa"}')$$);
SELECT adclick.add_filter('{"country": "CA"}') > 0 AS added;
SELECT adclick.add_filter('{"country": "CA"}') > 0 AS added;
SELECT try($$SELECT adclick.drop_filter('{"country": "CA", "device": "mobile"}')$$);
SELECT try($$SELECT adclick.drop_filter('{"country": "CA"}')$$);
SELECT try($$SELECT adclick.drop_filter('{"country": "CA"}')$$);

-- What is no error
SELECT try('SELECT adclick.ad_click_count(1, 1)');
SELECT try('SELECT adclick.ad_click_count(1, 2147483647)');
SELECT try('SELECT adclick.top_n_ads(2147483647, 2147483647)');
SELECT try($$SELECT adclick.ad_click_count_between(1, timestamptz '2026-01-01 00:00Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.ad_click_count_between(1, timestamptz '4713-01-01 00:00Z BC', '294276-12-31 23:59Z')$$);
SELECT try($$SELECT adclick.top_n_ads_between(1, timestamptz '-infinity', 'infinity', '{"country": [], "region": "", "device": ["\u00e9"]}')$$);

-- NULL is answered by NULL, or by no row
SELECT adclick.ad_click_count(NULL, 5) IS NULL, adclick.ad_click_count(1, NULL) IS NULL,
	adclick.ad_click_count(1, 5, NULL) IS NULL, adclick.ad_click_count_between(1, NULL, timestamptz 'infinity') IS NULL;
SELECT count(*) FROM adclick.top_n_ads(NULL, 5);

-- Clicks can only be inserted, whether a row is there or not
SELECT try('UPDATE adclick.clicks SET ad_id = 2');
SELECT try('DELETE FROM adclick.clicks');
SELECT try('TRUNCATE adclick.clicks');
INSERT INTO adclick.clicks (ad_id) VALUES (1);
SELECT try('UPDATE adclick.clicks SET ad_id = 2');
SELECT try('DELETE FROM adclick.clicks WHERE ad_id = 1');
SELECT try('TRUNCATE adclick.clicks');
SELECT try('SELECT ad_id FROM adclick.clicks FOR UPDATE');
SELECT try('CREATE INDEX ON adclick.clicks (ad_id)');
SELECT try('CREATE TABLE other (n int) USING adclick_inbox');
SELECT try($$INSERT INTO adclick.clicks (ad_id, click_id) VALUES (1, 'not a uuid')$$);
SELECT try('MERGE INTO adclick.clicks c USING (VALUES (1)) v(ad) ON c.ad_id = v.ad WHEN MATCHED THEN DELETE');
SELECT count(*) FROM adclick.clicks;

-- Lists of most clicked ads and the dictionary of filters are not written by hand
CREATE ROLE regress_user;
GRANT USAGE ON SCHEMA adclick TO regress_user;
SET ROLE regress_user;
\set VERBOSITY terse
INSERT INTO adclick.filters (country) VALUES ('CA');
DELETE FROM adclick.most_clicked_ads;
SELECT adclick.add_filter('{"country": "CA"}');
SELECT adclick.drop_filter('{"country": "CA"}');
\set VERBOSITY default
RESET ROLE;
DROP OWNED BY regress_user;
DROP ROLE regress_user;

-- Of a click's columns only ad_id is obligatory
SELECT try('INSERT INTO adclick.clicks (user_id) VALUES (1)') LIKE '23502 null value in column "ad_id"%';
SELECT try('INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	VALUES (NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL)');

-- Without the orders by user and by address
\set name adclick.user_and_ip_orders
\set value off
\i test/lib/set.psql
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": 501}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"ip": "203.0.113.0/24"}')$$);
SELECT try($$SELECT adclick.explain_top_n(1, 5, '{"ip": "203.0.113.0/24"}')$$);
SELECT try($$SELECT adclick.click_series(1, '2026-01-01 00:00Z', '2026-01-02 00:00Z', '1 hour', '{"user_id": 501}')$$);
SELECT try($$SELECT adclick.breakdown(1, 5, 'country', '{"user_id": 501}')$$);
SELECT try($$SELECT adclick.advertiser_click_count(1, 5, '{"user_id": 501, "country": "CA"}')$$);
SELECT try('SELECT adclick.unique_users(1, 5)');
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"country": "CA", "advertiser_id": 7}')$$);
SELECT counted FROM adclick.tick();
\set value on
\i test/lib/set.psql
SELECT regexp_replace(try($$SELECT adclick.ad_click_count(1, 5, '{"user_id": 501}')$$), '\d{4}-\S+ \S+', '(a minute)');
SELECT regexp_replace(try($$SELECT adclick.top_n_ads_between(1, timestamptz '-infinity', 'infinity', '{"ip": "203.0.113.0/24"}')$$), '\d{4}-\S+ \S+', '(a minute)');
SELECT regexp_replace(try('SELECT adclick.unique_users(1, 5)'), '\d{4}-\S+ \S+', '(a minute)');
SELECT try($$SELECT adclick.unique_users_between(1, timestamptz '2026-01-01 00:00Z', '2026-01-02 00:00Z')$$);

-- Hours
SELECT try($$SELECT adclick.recompute('2026-01-01 00:01Z', '2026-01-01 02:00Z')$$);
SELECT try($$SELECT adclick.recompute('2026-01-01 00:00Z', '2026-01-01 02:00:00.000001Z')$$);
SELECT try($$SELECT adclick.recompute('2026-01-01 00:00+05:30', '2026-01-01 02:00+05:30')$$);
SELECT try($$SELECT adclick.recompute('2026-01-01 01:00Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.recompute('infinity', '-infinity')$$);
SELECT try($$SELECT adclick.recompute('4713-01-01 00:00Z BC', '294276-12-31 23:00Z')$$);
SELECT adclick.recompute(NULL, 'infinity') IS NULL AS nothing;

-- Rounds by hand write
BEGIN TRANSACTION READ ONLY;
SELECT adclick.tick();
ROLLBACK;
BEGIN TRANSACTION READ ONLY;
SELECT adclick.compact();
ROLLBACK;
BEGIN TRANSACTION READ ONLY;
SELECT adclick.recompute('-infinity', 'infinity');
ROLLBACK;
BEGIN TRANSACTION READ ONLY;
SELECT adclick.forget_user(1);
ROLLBACK;
BEGIN TRANSACTION READ ONLY;
SELECT adclick.add_filter('{"country": "CA"}');
ROLLBACK;
BEGIN TRANSACTION READ ONLY;
SELECT adclick.drop_filter('{"country": "CA"}');
ROLLBACK;

-- Settings
SELECT try('SET adclick.dedup_window = ''10min''');
SELECT try('SET adclick.dedup_memory = ''1GB''');
SELECT try('SET adclick.user_and_ip_orders = off');
SELECT try('SET adclick.top_ads_kept = 10');
SELECT try('SET adclick.no_such_setting = 1');
SELECT try('SELECT adclick_internal.refuse_change()');

DROP FUNCTION try;
DROP EXTENSION adclick CASCADE;
ALTER SYSTEM RESET adclick.user_and_ip_orders;
SELECT pg_reload_conf();
