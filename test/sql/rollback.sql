-- Ticks that are rolled back, in any number and way, leave nothing behind.
CREATE EXTENSION adclick;

CREATE VIEW checked AS SELECT (SELECT count(*) FROM oracle.wrong_facts(true)) AS wrong, oracle.lost(),
	clicks_counted, duplicates, lag_rows, adclick.ad_click_count(1, 60) AS answer FROM adclick.status;

-- More than one tick takes, so that a loop drains the backlog.
INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 270000);
BEGIN;
SELECT rows_read > 200000 AS full, more FROM adclick.tick();
SELECT rows_read > 0 AS rest, more FROM adclick.tick();
SELECT * FROM checked;
ROLLBACK;
SELECT * FROM checked;
DO $$
BEGIN
	WHILE (SELECT more FROM adclick.tick()) LOOP END LOOP;
	RAISE division_by_zero;
END $$;
SELECT * FROM checked;
DO $$ BEGIN WHILE (SELECT more FROM adclick.tick()) LOOP END LOOP; END $$;
SELECT * FROM checked;

-- Savepoints, of which some are rolled back; the keys of a copy tell whether they are known.
CREATE TABLE began AS SELECT now() AS t;
CREATE FUNCTION send(keys text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT md5(key)::uuid, 2, t FROM began, regexp_split_to_table(keys, '') key
$$;
SELECT send('ab');
BEGIN;
SAVEPOINT one;
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT send('bc');
SAVEPOINT two;
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT rows_read FROM adclick.compact() c, LATERAL adclick.tick();
ROLLBACK TO one;
SELECT adclick.ad_click_count(2, 1440) AS two;
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT send('abd');
RELEASE one;
SELECT adclick.ad_click_count(2, 1440) AS three;
SELECT rows_read, counted, duplicates FROM adclick.tick();
COMMIT;
SELECT send('abcde');
SELECT adclick.ad_click_count(2, 1440) AS five;
SELECT rows_read, counted, duplicates FROM adclick.tick();
SELECT * FROM checked;

-- Procedures that commit and roll back.
CREATE PROCEDURE half() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM send('fg');
	COMMIT;
	PERFORM adclick.tick();
	ROLLBACK;
	PERFORM send('gh');
	PERFORM adclick.tick();
	COMMIT;
	BEGIN
		PERFORM send('hi');
		PERFORM adclick.tick();
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		PERFORM send('i');
	END;
	PERFORM adclick.tick();
END $$;
CALL half();
SELECT adclick.ad_click_count(2, 1440) AS nine;
SELECT * FROM checked;

-- New combinations of dimensions, rolled back and made again.
INSERT INTO adclick.clicks (ad_id, country) VALUES (3, 'CA');
BEGIN;
SELECT rows_read FROM adclick.tick();
ROLLBACK;
SELECT rows_read FROM adclick.tick();
SELECT * FROM adclick.breakdown(3, 60, 'country');
SELECT country, click_count FROM adclick.clicks_per_minute WHERE ad_id = 3;
INSERT INTO adclick.clicks (ad_id, country) VALUES (3, 'FR');
DO $$ BEGIN PERFORM adclick.tick(); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$;
SELECT * FROM adclick.breakdown(3, 60, 'country');
SELECT rows_read FROM adclick.tick();
SELECT * FROM adclick.breakdown(3, 60, 'country');
SELECT * FROM checked;

-- An error that code of others catches in the midst of a tick.
CREATE TABLE public.audit (x int CHECK (x < 0));
CREATE FUNCTION public.audited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	BEGIN INSERT INTO public.audit VALUES (1); EXCEPTION WHEN check_violation THEN NULL; END;
	RETURN new;
END $$;
CREATE TRIGGER audit AFTER INSERT ON adclick.filters FOR EACH ROW EXECUTE FUNCTION public.audited();
INSERT INTO adclick.clicks (ad_id, country) VALUES (4, 'DE'), (4, 'IT'), (4, 'DE');
SELECT rows_read FROM adclick.tick();
SELECT * FROM adclick.breakdown(4, 60, 'country');
SELECT * FROM checked;

DROP PROCEDURE half;
DROP FUNCTION send;
DROP TABLE began;
DROP VIEW checked;
DROP EXTENSION adclick CASCADE;
DROP TABLE public.audit;
DROP FUNCTION public.audited;
