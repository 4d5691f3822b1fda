-- The extension comes and goes, and serves roles that are not superuser.
CREATE EXTENSION adclick;
CREATE EXTENSION adclick;
CREATE EXTENSION IF NOT EXISTS adclick;
SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') AS t \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES ('00000000-0000-4000-8000-000000000001', 1, :'t');
SELECT tick IS NOT NULL AS ticked, counted FROM adclick.tick();
SELECT adclick.ad_click_count(1, 60);

-- It leaves nothing behind, and begins anew: the click of before is none to the new one.
DROP EXTENSION adclick;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'adclick%';
CREATE EXTENSION adclick;
SELECT adclick.ad_click_count(1, 60);
SELECT lag_rows, clicks_counted, duplicates, discarded, open_minutes, workers_alive FROM adclick.status;
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES ('00000000-0000-4000-8000-000000000001', 1, :'t');
SELECT adclick.ad_click_count(1, 60);
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT adclick.ad_click_count(1, 60);

-- In one transaction, rolled back
BEGIN;
DROP EXTENSION adclick;
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id) VALUES (1);
SELECT adclick.ad_click_count(1, 60);
ROLLBACK;
SELECT adclick.ad_click_count(1, 60);
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES ('00000000-0000-4000-8000-000000000001', 1, :'t');
SELECT rows_read, counted, duplicates FROM adclick.tick();

-- It is not relocatable, and its schema is its own.
ALTER EXTENSION adclick SET SCHEMA public;
SELECT extrelocatable FROM pg_extension WHERE extname = 'adclick';

--
-- Roles
--
CREATE ROLE regress_writer;
CREATE ROLE regress_reader;
CREATE ROLE regress_stranger;
GRANT USAGE ON SCHEMA adclick TO regress_writer, regress_reader;
GRANT INSERT (click_id, ad_id, clicked_at, user_id, ip, country, region, device) ON adclick.clicks TO regress_writer;
GRANT SELECT ON adclick.filters, adclick.most_clicked_ads, adclick.status TO regress_reader;
-- Of advertiser 7, as long as he is no reader.
GRANT adclick_advertiser TO regress_reader;
INSERT INTO adclick.advertiser_roles VALUES ('regress_reader', 7);
GRANT SELECT, INSERT, UPDATE, DELETE ON adclick.ads TO regress_writer;

SET ROLE regress_writer;
INSERT INTO adclick.clicks (ad_id) VALUES (2), (2);
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	VALUES (gen_random_uuid(), 2, now(), 1, '::1', 'CA', 'ON', 'mobile');
COPY adclick.clicks (ad_id, country) FROM stdin;
2	CA
\.
-- No one says when a click arrived, or reads others.
INSERT INTO adclick.clicks TABLE adclick.clicks;
INSERT INTO adclick.clicks (ad_id, received_at) VALUES (2, '2000-01-01');
INSERT INTO adclick.clicks (ad_id) VALUES (2) RETURNING ad_id;
SELECT count(*) FROM adclick.clicks;
UPDATE adclick.clicks SET ad_id = 3;
DELETE FROM adclick.clicks;
TRUNCATE adclick.clicks;
SELECT count(*) FROM adclick_internal.state;
SELECT adclick.tick();
SELECT adclick.compact();
SELECT adclick.add_filter('{"country": "CA"}');
SELECT adclick.drop_filter('{"country": "CA"}');
SELECT * FROM adclick_internal.facts();
SELECT count(*) FROM adclick.discarded_clicks;
SELECT count(*) FROM adclick.click_log;
SELECT count(*) FROM adclick.most_clicked_ads;
INSERT INTO adclick.ads (ad_id, advertiser_id) VALUES (2, 7), (1, 8);
UPDATE adclick.ads SET website = 'example.com';
DELETE FROM adclick.ads WHERE ad_id = 1;
RESET ROLE;

SET ROLE regress_reader;
SELECT adclick.ad_click_count(2, 5), adclick.ad_click_count(2, 5, '{"country": "CA"}'), adclick.ad_click_count_between(2, timestamptz '-infinity', 'infinity');
SELECT * FROM adclick.top_n_ads(5, 60);
SELECT * FROM adclick.top_n_ads_between(5, timestamptz '-infinity', 'infinity');
SELECT * FROM adclick.top_n_ads(5, 60, '{"advertiser_id": 7}');
SELECT way FROM adclick.explain_top_n(5, 60);
SELECT adclick.advertiser_click_count(7, 60);
SELECT adclick.unique_users(2, 60);
SELECT adclick.ad_click_count(2, 60, '{"user_id": 1, "ip": "::/0"}');
SELECT * FROM adclick.breakdown(2, 60, 'country');
SELECT count(*), sum(click_count) FROM adclick.click_series(2, date_trunc('minute', now()) - interval '1 hour',
	date_trunc('minute', now()) + interval '1 minute', '1 minute');
SELECT lag_rows, clicks_counted, workers_alive FROM adclick.status;
SELECT country FROM adclick.filters ORDER BY filter_id;
SELECT count(*) FROM adclick.most_clicked_ads;
SELECT count(*) FROM adclick.ads;
INSERT INTO adclick.clicks (ad_id) VALUES (2);
SELECT count(*) FROM adclick_internal.segments;
RESET ROLE;
GRANT adclick_reader TO regress_reader;
SET ROLE regress_reader;
SELECT adclick.unique_users(2, 60), adclick.ad_click_count(2, 60, '{"user_id": 1, "ip": "::/0"}');
RESET ROLE;
SELECT rows_read, counted FROM adclick.tick();

SET ROLE regress_stranger;
SELECT adclick.ad_click_count(2, 5);
SELECT adclick.unique_users(2, 5);
SELECT * FROM adclick.status;
RESET ROLE;

DROP OWNED BY regress_writer, regress_reader, regress_stranger;
DROP ROLE regress_writer, regress_reader, regress_stranger;

--
-- Ways for clicks to come in
--
CREATE TABLE other (LIKE adclick.clicks INCLUDING DEFAULTS);
INSERT INTO other (ad_id) VALUES (3), (3);
INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT ad_id, clicked_at FROM other;
PREPARE add (bigint) AS INSERT INTO adclick.clicks (ad_id) VALUES ($1);
EXECUTE add (3);
EXECUTE add (3);
DEALLOCATE add;
BEGIN;
INSERT INTO adclick.clicks (ad_id) VALUES (3);
SAVEPOINT s;
INSERT INTO adclick.clicks (ad_id) VALUES (3);
RELEASE s;
SAVEPOINT s;
INSERT INTO adclick.clicks (ad_id) VALUES (3);
ROLLBACK TO s;
COMMIT;
DO $$ BEGIN
	INSERT INTO adclick.clicks (ad_id) VALUES (3);
	BEGIN
		INSERT INTO adclick.clicks (ad_id) VALUES (3);
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		INSERT INTO adclick.clicks (ad_id) VALUES (3);
	END;
END $$;
SELECT rows_read, counted FROM adclick.tick();
-- When they arrived is not theirs to say; rows that are copied whole get a new time, and an id if they have none.
INSERT INTO adclick.clicks (ad_id, clicked_at, received_at) VALUES (3, '2001-01-01', '2001-01-01'), (3, now(), 'infinity'), (3, now(), '-infinity');
SELECT count(*), count(*) FILTER (WHERE received_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp()) AS just_now FROM adclick.clicks;
CREATE TABLE whole AS TABLE adclick.clicks;
UPDATE whole SET click_id = NULL, received_at = '2001-01-01';
INSERT INTO adclick.clicks TABLE whole;
SELECT count(*), count(*) FILTER (WHERE received_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp()) AS just_now,
	count(DISTINCT click_id) AS ids FROM adclick.clicks;
SELECT adclick.ad_click_count_between(3, timestamptz '-infinity', 'infinity');
SELECT rows_read, counted, discarded FROM adclick.tick();
DO $$ BEGIN PERFORM adclick.compact(); END $$;
SELECT adclick.ad_click_count_between(3, timestamptz '-infinity', 'infinity');
SELECT * FROM oracle.wrong_facts();
SELECT oracle.lost();

DROP TABLE other, whole;
DROP EXTENSION adclick;
