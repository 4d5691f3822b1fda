-- Questions write nothing, and hold to the snapshot of the transaction.
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id) SELECT 1 + (i > 6)::int FROM generate_series(1, 10) i;

BEGIN TRANSACTION READ ONLY;
SELECT adclick.ad_click_count(1, 5);
SELECT * FROM adclick.top_n_ads(5, 5);
SELECT adclick.unique_users(1, 5), adclick.advertiser_click_count(7, 5), adclick.ad_click_count(1, 5, '{"ip": "::/0"}');
SELECT * FROM adclick.breakdown(1, 5, 'country');
SELECT lag_rows FROM adclick.status;
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xact;
COMMIT;
SELECT counted FROM adclick.tick();
BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT adclick.ad_click_count(1, 5);
SELECT * FROM adclick.top_n_ads(5, 5);
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xact;
COMMIT;

-- A round with nothing to do writes nothing.
BEGIN;
SELECT * FROM adclick.tick();
SELECT pg_current_xact_id_if_assigned() IS NULL AS no_xact;
COMMIT;

-- Clicks of the own transaction count for it at once, and for a tick when it has committed.
BEGIN;
INSERT INTO adclick.clicks (click_id, ad_id) VALUES ('00000000-0000-4000-8000-000000000001', 1), ('00000000-0000-4000-8000-000000000001', 1);
SELECT adclick.ad_click_count(1, 5);
SELECT rows_read FROM adclick.tick();
SAVEPOINT s;
INSERT INTO adclick.clicks (ad_id) VALUES (1);
SELECT adclick.ad_click_count(1, 5);
ROLLBACK TO s;
SELECT adclick.ad_click_count(1, 5);
COMMIT;
SELECT adclick.ad_click_count(1, 5);
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT adclick.ad_click_count(1, 5);

-- A cursor holds to its snapshot.
BEGIN;
DECLARE c CURSOR FOR SELECT i, adclick.ad_click_count(1, 5) FROM generate_series(1, 2) i;
INSERT INTO adclick.clicks (ad_id) VALUES (1);
FETCH c;
FETCH c;
SELECT adclick.ad_click_count(1, 5);
COMMIT;

-- Temporary objects and a hostile search_path are not looked at.
BEGIN;
CREATE SCHEMA evil;
CREATE TABLE evil.state AS SELECT * FROM adclick_internal.state WHERE false;
CREATE FUNCTION evil.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT -1::bigint';
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
CREATE TEMP TABLE clicks (ad_id bigint);
CREATE TEMP TABLE pg_class (relname name);
SET LOCAL search_path = pg_temp, evil, adclick_internal, adclick, pg_catalog;
CREATE TABLE evil.ads AS SELECT ad_id, 7::bigint AS advertiser_id FROM generate_series(1, 2) ad_id;
CREATE TEMP TABLE gaps (minute timestamptz);
INSERT INTO gaps VALUES (date_trunc('minute', now()));
SELECT adclick.ad_click_count(1::bigint, 5);
SELECT ad_id, click_count FROM adclick.top_n_ads(5, 5, '{"country": "unknown"}');
SELECT adclick.unique_users(1::bigint, 5), adclick.advertiser_click_count(7::bigint, 5), adclick.ad_click_count(1::bigint, 5, '{"ip": "::/0"}');
SELECT value, click_count FROM adclick.breakdown(1::bigint, 5, 'country');
ROLLBACK;

-- In parallel mode
SELECT name AS parallel FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') \gset
SET :parallel = on;
SELECT adclick.ad_click_count(1, 5);
SELECT * FROM adclick.top_n_ads(5, 5);
SELECT adclick.unique_users(1, 5), adclick.ad_click_count(1, 5, '{"user_id": 1}');
RESET :parallel;

-- As a prepared statement, planned generically, with the answer of each execution
SET plan_cache_mode = force_generic_plan;
PREPARE q (bigint, int, jsonb) AS SELECT adclick.ad_click_count($1, $2, $3);
EXECUTE q (1, 5, '{}');
INSERT INTO adclick.clicks (ad_id) VALUES (1);
EXECUTE q (1, 5, '{}');
EXECUTE q (2, 5, '{"device": "unknown"}');
DEALLOCATE q;
RESET plan_cache_mode;

DROP EXTENSION adclick CASCADE;
