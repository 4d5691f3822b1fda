-- Clicks whose dedup bucket has left memory: queued by the tick, decided by the
-- compactor, and counted once in the end.

\set ON_ERROR_STOP on

CREATE FUNCTION is_settled(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts()', step || ': facts');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_lists()', step || ': lists of most clicked ads');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(40)', step || ': answers');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': rows in the log = counted + duplicates + discarded + queued + tail');
	RETURN NEXT is((SELECT count(*) FROM oracle.clicks()) + (SELECT count(*) FROM adclick.discarded_clicks),
		(SELECT count(*) FROM adclick.clicks), step || ': each click counts or is discarded');
END
$$;

SELECT no_plan();
SELECT setseed(0.25) AS seeded \gset
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset
SELECT oracle.send_clicks(3000, '4 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_settled('all in memory');

-- Another policy and back again: only the newest buckets are loaded anew.
-- (A question looks at keys if there is a tail.)
INSERT INTO adclick.clicks (ad_id, user_id) VALUES (1, 1);
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT adclick.ad_click_count(1, 10) AS asked \gset
\set value click_id
\i test/lib/set.psql

SELECT oracle.send_clicks(3000, '4 hours') AS sent \gset
SELECT oracle.send_copies(300) AS sent \gset
SELECT queued FROM adclick.tick() \gset
SELECT cmp_ok(:queued, '>', 1000, 'most clicks are queued');
SELECT is(queued, :queued::bigint, 'and the status says so') FROM adclick.status;
SELECT is(oracle.lost(), 0::bigint, 'queued: rows in the log = counted + duplicates + discarded + queued + tail');

-- A filter is registered while they wait
SELECT adclick.add_filter('{"device": "mobile"}') AS mobile \gset

-- More of the same keys while they wait
SELECT oracle.send_copies(300) AS sent \gset
SELECT rows_read FROM adclick.tick() \gset
SELECT is(oracle.lost(), 0::bigint, 'queued again: rows in the log = counted + duplicates + discarded + queued + tail');

-- Not decided in a transaction that is rolled back
BEGIN;
SELECT late_counted FROM adclick.compact() \gset
SELECT cmp_ok(:late_counted, '>', 0, 'compaction decides late clicks');
ROLLBACK;
SELECT is(oracle.lost(), 0::bigint, 'rolled back: rows in the log = counted + duplicates + discarded + queued + tail');

-- Bucket by bucket; one call of compact() need not do them all.
DO $$
DECLARE
	queued bigint;
BEGIN
	FOR i IN 1..100 LOOP
		PERFORM adclick.compact();
		SELECT s.queued INTO queued FROM adclick.status s;
		EXIT WHEN queued = 0;
	END LOOP;
END $$;
SELECT is(queued, 0::bigint, 'the queue is empty') FROM adclick.status;
SELECT is_settled('late clicks decided');

-- Copies of clicks that were counted late, and of all others
SELECT oracle.send_copies(1000) AS sent \gset
SELECT rows_read FROM adclick.tick() \gset
DO $$
DECLARE
	queued bigint;
BEGIN
	FOR i IN 1..100 LOOP
		PERFORM adclick.compact();
		SELECT s.queued INTO queued FROM adclick.status s;
		EXIT WHEN queued = 0;
	END LOOP;
END $$;
SELECT is_settled('copies of late clicks');

SELECT * FROM finish();
