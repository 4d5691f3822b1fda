-- Clicks whose dedup bucket has left memory: the tick looks for their keys among the
-- stored ones, and so do questions.

\set ON_ERROR_STOP on

CREATE FUNCTION is_settled(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts(true)', step || ': facts');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_lists()', step || ': lists of most clicked ads');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(40)', step || ': answers');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': rows in the log = counted + duplicates + discarded + tail');
	RETURN NEXT is((SELECT count(*) FROM oracle.clicks(true)) + (SELECT count(*) FROM adclick.discarded_clicks),
		(SELECT clicks_counted + duplicates + discarded FROM adclick.status), step || ': each click taken counts or is discarded');
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
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT is(oracle.lost(), 0::bigint, 'another policy: rows in the log = counted + duplicates + discarded + tail');
\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
INSERT INTO adclick.clicks (ad_id, user_id) VALUES (1, 1);
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT cmp_ok(dedup_keys, '<', 1000::bigint, 'most keys have left memory') FROM adclick.status;

SELECT oracle.send_clicks(3000, '4 hours') AS sent \gset
SELECT oracle.send_copies(300) AS sent \gset
SELECT is_settled('late clicks in the tail');
BEGIN;
SELECT counted > 1000 AS counted FROM adclick.tick() \gset
SELECT ok(:'counted', 'a tick takes them at once');
SELECT is_empty('SELECT * FROM oracle.wrong_answers(20)', 'in its transaction: answers');
ROLLBACK;
SELECT is_settled('rolled back');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_settled('taken');

-- A filter is registered, and more of the same keys
SELECT adclick.add_filter('{"device": "mobile"}') AS mobile \gset
SELECT oracle.send_copies(1000) AS sent \gset
SELECT is_settled('copies of late clicks in the tail');
SELECT duplicates > 0 AS duplicates FROM adclick.tick() \gset
SELECT ok(:'duplicates', 'copies of late clicks are duplicates');
SELECT is_settled('copies of late clicks');
SELECT minutes_written > 0 AS compacted FROM adclick.compact() \gset
SELECT ok(:'compacted', 'compaction');
SELECT oracle.send_copies(500) AS sent \gset
SELECT is_settled('copies after compaction');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_settled('copies after compaction, taken');

SELECT * FROM finish();
