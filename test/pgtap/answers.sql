-- Random clicks, and all the answers to them: equal to the oracle's in the tail,
-- between ticks, after all of them, after compaction, and for late clicks again.
-- The log is in no order, and full of copies and of rows nobody should send.
-- Filters come and go meanwhile, and so do the orders by user and by address.

\set ON_ERROR_STOP on

CREATE FUNCTION is_exact(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(40)', step || ': answers to all questions');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': clicks in the log = counted + duplicates + discarded + tail');
END
$$;

-- Every click counts, or stands in discarded_clicks for a reason.
CREATE FUNCTION is_accounted(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts()', step || ': facts');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_lists()', step || ': lists of most clicked ads');
	RETURN NEXT is((SELECT count(*) FROM adclick.discarded_clicks WHERE reason = 'duplicate'),
		(SELECT duplicates FROM adclick.status), step || ': each duplicate stands in discarded_clicks');
	RETURN NEXT is((SELECT count(*) FROM adclick.discarded_clicks WHERE reason <> 'duplicate'),
		(SELECT discarded FROM adclick.status), step || ': and so does each invalid click');
	RETURN NEXT is((SELECT count(*) FROM oracle.clicks()) + (SELECT count(*) FROM adclick.discarded_clicks),
		(SELECT count(*) FROM adclick.click_log), step || ': the others count');
	RETURN NEXT bag_eq('SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, reason FROM adclick.discarded_clicks',
		'SELECT * FROM adclick.click_log WHERE verdict <> ''counted''', step || ': and the log says the same of each');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_verdicts()', step || ': verdicts');
	RETURN NEXT is_empty('SELECT click_id, count(*) FROM adclick.discarded_clicks WHERE reason = ''duplicate'' GROUP BY 1
		EXCEPT SELECT d.click_id, d.n FROM (SELECT click_id, count(*) AS n FROM adclick.discarded_clicks
			WHERE reason = ''duplicate'' GROUP BY 1) d JOIN (SELECT click_id, count(*) AS n FROM adclick.click_log GROUP BY 1) c
			ON c.click_id = d.click_id AND c.n > d.n', step || ': of each duplicate there is a copy that counts');
END
$$;

SELECT no_plan();

-- Lists that do not hold all ads, so that proofs succeed and fail
\set name adclick.top_ads_kept
\set value 10
\i test/lib/set.psql

SELECT setseed(0.5) AS seeded \gset
SELECT oracle.witness() AS witnessed \gset
SELECT is_exact('nothing');
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset

-- All in the tail
SELECT oracle.send_clicks(5000, '2 hours') AS sent \gset
SELECT oracle.send_copies(50) AS sent \gset
SELECT is_exact('tail');

-- Advertisers, from now on
SELECT oracle.make_ads() AS made \gset
SELECT is_exact('tail, advertisers');

-- Some taken, some in the tail; copies of both
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_accounted('first tick');
SELECT oracle.send_clicks(5000, '2 hours') AS sent \gset
SELECT oracle.send_copies(200) AS sent \gset
SELECT is_exact('first tick and a tail');
SELECT adclick.add_filter('{"country": "US", "device": "mobile"}') AS us_mobile \gset

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
SELECT adclick.add_filter('{"region": "ON"}') AS ontario \gset
SELECT is_exact('a filter for minutes that are compacted');
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT is(:written, 0, 'compaction comes to an end');
SELECT cmp_ok(open_minutes, '<', 10::bigint, 'few minutes are open after it') FROM adclick.status;
SELECT is_exact('compacted');
SELECT is_accounted('compacted');
-- Hours that are settled by now came late as a whole, and their minutes have none: of the last hour there are.
SELECT cmp_ok(count(DISTINCT click_minute), '>', 30::bigint, 'there are lists of filter ' || f)
FROM unnest(ARRAY[0, :ca, :us_mobile, :ontario]) f LEFT JOIN adclick.most_clicked_ads ON filter_id = f
GROUP BY f;

SELECT cmp_ok(count(DISTINCT click_hour), '>', 0::bigint, 'there are lists of hours of filter ' || f)
FROM unnest(ARRAY[0, :ca, :us_mobile, :ontario]) f LEFT JOIN adclick.most_clicked_ads_hourly ON filter_id = f
GROUP BY f;

-- A filter is dropped, with its lists; a new one has them for all minutes.
SELECT adclick.drop_filter('{"country": "CA"}') AS dropped \gset
SELECT is((SELECT count(*) FROM adclick.most_clicked_ads WHERE filter_id = :ca), 0::bigint, 'no lists of a dropped filter');
SELECT is((SELECT count(*) FROM adclick.most_clicked_ads_hourly WHERE filter_id = :ca), 0::bigint, 'no lists of hours either');
SELECT is((SELECT count(*) FROM adclick.filters WHERE country = 'CA' AND region IS NULL AND device IS NULL), 0::bigint,
	'and no row in filters');
SELECT adclick.add_filter('{"device": "unknown"}') AS no_device \gset
SELECT is_exact('filters dropped and added');
SELECT is_accounted('filters dropped and added');

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

--
-- Without the orders by user and by address, for a while
--
CREATE FUNCTION of_user("from" timestamptz, minutes int, filters jsonb DEFAULT '{"user_id": 1}') RETURNS text
	LANGUAGE sql STABLE AS $$
SELECT oracle.answer(format('SELECT adclick.ad_click_count_between(800001, %L, %L, %L)', "from", "from" + minutes * interval '1 minute', filters))
$$;

-- All but questions about users and addresses is exact; those are, or are refused.
CREATE FUNCTION is_exact_or_refused(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(40, false, true)', step || ': answers to all questions');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': clicks in the log = counted + duplicates + discarded + tail');
END
$$;

-- Three minutes, far from all other clicks: taken before, while they are off, and after.
SELECT date_trunc('minute', now()) - interval '6 hours' AS before, date_trunc('minute', now()) - interval '5 hours' AS meanwhile,
	date_trunc('minute', now()) - interval '4 hours' AS after \gset
CREATE FUNCTION send_to(at timestamptz) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip)
SELECT NULL, 800001, at, i, '203.0.113.0'::inet + i FROM generate_series(1, 5) i
$$;
SELECT send_to(:'before') AS sent \gset
SELECT counted FROM adclick.tick() \gset

\set name adclick.user_and_ip_orders
\set value off
\i test/lib/set.psql
SELECT matches(of_user(:'before', 1), '^refused: .', 'off: a question about a user is refused');
SELECT matches(of_user(:'before', 1, '{"ip": "203.0.113.0/24"}'), '^refused: .', 'off: and about addresses');
SELECT throws_ok($$SELECT adclick.unique_users(1, 60)$$, '55000', NULL, 'off: and for unique users');
SELECT is(of_user(:'before', 1, '{"country": "unknown"}'), '5', 'off: any other is answered');
SELECT send_to(:'meanwhile') AS sent \gset
SELECT oracle.send_clicks(2000, '2 hours') AS sent \gset
SELECT is_exact_or_refused('off, a tail');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_exact_or_refused('off, taken');
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT is_exact_or_refused('off, compacted');
SELECT oracle.send_clicks(2000, '2 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT send_to(:'meanwhile') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset

\set value on
\i test/lib/set.psql
CREATE FUNCTION is_partial(step text, before timestamptz, meanwhile timestamptz, after timestamptz, clicks int)
	RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is(of_user(before, 1), '1', step || ': a user, before');
	RETURN NEXT is(of_user(before, 60), '1', step || ': up to the minute that lacks users');
	RETURN NEXT matches(of_user(before, 61), '^refused: .', step || ': not further');
	RETURN NEXT matches(of_user(meanwhile, 1), '^refused: .', step || ': nor within');
	RETURN NEXT matches(of_user(meanwhile, 1, '{"ip": "203.0.113.1"}'), '^refused: .', step || ': an address within');
	RETURN NEXT is(of_user(meanwhile + interval '1 minute', 59), '0', step || ': after it');
	RETURN NEXT is(of_user(after, 1), (clicks / 5)::text, step || ': in the last minute');
	RETURN NEXT is(of_user(after, 1, '{"ip": "203.0.113.0/30"}'), (clicks / 5 * 3)::text, step || ': addresses in the last minute');
	RETURN NEXT is(of_user(meanwhile, 1, '{}'), '15', step || ': all clicks within');
	RETURN QUERY SELECT * FROM is_exact_or_refused(step);
END
$$;
SELECT send_to(:'meanwhile') AS sent \gset
SELECT send_to(:'after') AS sent \gset
SELECT is_partial('on again, a tail', :'before', :'meanwhile', :'after', 5);
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is_partial('on again, taken', :'before', :'meanwhile', :'after', 5);
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT is_partial('on again, compacted', :'before', :'meanwhile', :'after', 5);
SELECT send_to(:'after') AS sent \gset
SELECT oracle.send_clicks(2000, '1 minute') AS sent \gset
SELECT is_partial('on again, going on', :'before', :'meanwhile', :'after', 10);
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT minutes_written AS written FROM adclick.compact() \gset
SELECT is_partial('on again, compacted again', :'before', :'meanwhile', :'after', 10);
SELECT is_accounted('on again');

SELECT cmp_ok((SELECT count(*) FROM adclick.click_log), '>', 18000::bigint, 'there were many clicks');
SELECT cmp_ok(duplicates, '>', 500::bigint, 'there were duplicates') FROM adclick.status;
SELECT cmp_ok(discarded, '>', 30::bigint, 'there were invalid clicks') FROM adclick.status;

SELECT * FROM finish();
