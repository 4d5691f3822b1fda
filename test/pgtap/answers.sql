-- Random clicks, and all the answers to them: equal to the oracle's in the tail,
-- between ticks, after all of them, after compaction, and for late clicks again.
-- The log is in no order, and full of copies and of rows nobody should send.

\set ON_ERROR_STOP on

CREATE FUNCTION is_exact(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(40)', step || ': answers of both questions');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': rows in the log = counted + duplicates + discarded + queued + tail');
END
$$;

-- Every click counts, or stands in discarded_clicks for a reason.
CREATE FUNCTION is_accounted(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts()', step || ': facts');
	RETURN NEXT is((SELECT count(*) FROM adclick.discarded_clicks WHERE reason = 'duplicate'),
		(SELECT duplicates FROM adclick.status), step || ': each duplicate stands in discarded_clicks');
	RETURN NEXT is((SELECT count(*) FROM adclick.discarded_clicks WHERE reason <> 'duplicate'),
		(SELECT discarded FROM adclick.status), step || ': and so does each invalid click');
	RETURN NEXT is((SELECT count(*) FROM oracle.clicks()) + (SELECT count(*) FROM adclick.discarded_clicks),
		(SELECT count(*) FROM adclick.clicks), step || ': the others count');
	RETURN NEXT is_empty('SELECT click_id, count(*) FROM adclick.discarded_clicks WHERE reason = ''duplicate'' GROUP BY 1
		EXCEPT SELECT d.click_id, d.n FROM (SELECT click_id, count(*) AS n FROM adclick.discarded_clicks
			WHERE reason = ''duplicate'' GROUP BY 1) d JOIN (SELECT click_id, count(*) AS n FROM adclick.clicks GROUP BY 1) c
			ON c.click_id = d.click_id AND c.n > d.n', step || ': of each duplicate there is a copy that counts');
END
$$;

SELECT no_plan();

SELECT setseed(0.5) AS seeded \gset
SELECT is_exact('nothing');

-- All in the tail
SELECT oracle.send_clicks(5000, '2 hours') AS sent \gset
SELECT oracle.send_copies(50) AS sent \gset
SELECT is_exact('tail');

-- Some taken, some in the tail; copies of both
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_accounted('first tick');
SELECT oracle.send_clicks(5000, '2 hours') AS sent \gset
SELECT oracle.send_copies(200) AS sent \gset
SELECT is_exact('first tick and a tail');

-- A tick between two transactions, one of which was rolled back
BEGIN;
SELECT oracle.send_clicks(500, '10 minutes') AS sent \gset
ROLLBACK;
BEGIN;
SELECT oracle.send_clicks(500, '10 minutes') AS sent \gset
SAVEPOINT s;
SELECT oracle.send_clicks(500, '10 minutes') AS sent \gset
ROLLBACK TO s;
SELECT oracle.send_copies(100) AS sent \gset
SELECT is_exact('own rows, not committed');
COMMIT;
SELECT is_exact('committed');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact('second tick');
SELECT is_accounted('second tick');

-- Many small ticks
SELECT oracle.send_clicks(500, '2 hours') AS sent FROM adclick.tick() \gset
SELECT oracle.send_clicks(500, '2 hours') AS sent FROM adclick.tick() \gset
SELECT oracle.send_clicks(500, '2 hours') AS sent FROM adclick.tick() \gset
SELECT oracle.send_clicks(500, '2 hours') AS sent FROM adclick.tick() \gset
SELECT oracle.send_clicks(500, '2 hours') AS sent FROM adclick.tick() \gset
SELECT oracle.send_clicks(500, '2 hours') AS sent FROM adclick.tick() \gset
SELECT is_exact('small ticks and a tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact('small ticks');

-- Compaction, in rounds
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT cmp_ok(:written, '>', 0, 'compaction wrote minutes');
SELECT is_exact('a round of compaction');
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT is(:written, 0, 'compaction comes to an end');
SELECT cmp_ok(open_minutes, '<', 10::bigint, 'few minutes are open after it') FROM adclick.status;
SELECT is_exact('compacted');
SELECT is_accounted('compacted');

-- Late clicks for minutes that are closed, and copies of compacted clicks
SELECT oracle.send_clicks(5000, '2 hours') AS sent \gset
SELECT oracle.send_copies(500) AS sent \gset
SELECT is_exact('late clicks in the tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact('late clicks taken');
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT is_exact('late clicks in part compacted');
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT is_exact('late clicks compacted');
SELECT is_accounted('late clicks compacted');

SELECT cmp_ok((SELECT count(*) FROM adclick.clicks), '>', 18000::bigint, 'there were many clicks');
SELECT cmp_ok(duplicates, '>', 500::bigint, 'there were duplicates') FROM adclick.status;
SELECT cmp_ok(discarded, '>', 30::bigint, 'there were invalid clicks') FROM adclick.status;

SELECT * FROM finish();
