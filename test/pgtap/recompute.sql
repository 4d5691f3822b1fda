-- Counts of some hours, or of all, are made anew from the ledger: whatever state they were in,
-- every answer is right afterwards, and compaction packs them again.

\set ON_ERROR_STOP on

-- The beginning of the hour so many hours before this one, however long the test takes.
CREATE TABLE this_hour AS SELECT date_trunc('hour', now(), 'UTC') AS first;
CREATE FUNCTION hour(ago int) RETURNS timestamptz LANGUAGE sql STABLE AS $$
SELECT first - ago * interval '1 hour' FROM this_hour
$$;

CREATE FUNCTION clicks_in("from" timestamptz, "to" timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
SELECT count(*) FROM oracle.clicks(true) WHERE minute >= "from" AND minute < "to"
$$;

-- How many clicks each order has, and should have: of minutes that are no gaps, all with a user or an address.
CREATE FUNCTION wrong_orders() RETURNS TABLE (sort_order int, expected bigint, stored numeric) LANGUAGE sql STABLE AS $$
SELECT sort_order, expected, coalesce((SELECT sum(clicks) FROM adclick_internal.runs r WHERE r.sort_order = o.sort_order), 0)
FROM (SELECT count(*) AS ad, count(user_id) AS "user", count(ip) AS ip FROM oracle.clicks(true)) c,
	LATERAL (VALUES (0, ad), (1, "user"), (2, ip)) o (sort_order, expected)
WHERE expected IS DISTINCT FROM (SELECT coalesce(sum(clicks), 0) FROM adclick_internal.runs r WHERE r.sort_order = o.sort_order)
$$;

-- An hour has one run, or its minutes have.
CREATE VIEW wrong_hours AS
SELECT h.run_id AS hour, m.run_id AS other
FROM adclick_internal.runs h JOIN adclick_internal.runs m ON m.last_minute BETWEEN h.first_minute AND h.last_minute AND m.run_id <> h.run_id
WHERE h.sort_order = 0 AND m.sort_order = 0 AND NOT h.is_delta AND NOT m.is_delta;

CREATE FUNCTION is_stored(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_facts(true)', step || ': facts');
	RETURN NEXT is_empty('SELECT * FROM wrong_orders()', step || ': orders');
	RETURN NEXT is_empty('SELECT * FROM wrong_hours', step || ': hours');
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_lists()', step || ': lists of most clicked ads');
END
$$;

CREATE FUNCTION is_exact(step text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT * FROM is_stored(step);
	RETURN NEXT is_empty('SELECT * FROM oracle.wrong_answers(30)', step || ': answers');
	RETURN NEXT is((SELECT balanced FROM adclick.check_ledger()), true, step || ': the books');
	RETURN NEXT is(oracle.lost(), 0::bigint, step || ': rows in the log = counted + duplicates + discarded + tail');
END
$$;

-- Runs that are packed, and the lists of hours and minutes that there are.
CREATE VIEW packed AS
SELECT CASE WHEN first_minute < last_minute THEN 'hour' ELSE 'minute' END AS what, first_minute AS first, 0 AS filter_id
FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta
UNION ALL
SELECT 'list of an hour', click_hour, filter_id FROM adclick.most_clicked_ads_hourly;

CREATE TABLE packed_before (LIKE packed);

-- What was packed and no longer is; minutes may have become an hour.
CREATE VIEW unpacked AS
SELECT * FROM packed_before b WHERE NOT EXISTS (SELECT FROM packed p WHERE (p.what, p.first, p.filter_id) = (b.what, b.first, b.filter_id)
	OR (b.what, p.what, p.first) = ('minute', 'hour', date_trunc('hour', b.first, 'UTC')));

SELECT no_plan();
SELECT setseed(0.35) AS seeded \gset
\set name adclick.top_ads_kept
\set value 20
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset

-- Nothing yet.
SELECT is(adclick.recompute('-infinity', 'infinity'), 0::bigint, 'no clicks');
SELECT oracle.witness() AS witnessed \gset

-- Hours, minutes, and clicks that no tick has taken.
SELECT oracle.send_past_clicks(4000, '8 hours', '0') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('before');
INSERT INTO packed_before TABLE packed;
SELECT ok(count(DISTINCT what) = 3, 'there are hours and minutes') FROM packed_before;
CREATE TABLE runs_before AS SELECT * FROM adclick_internal.runs;
SELECT oracle.send_past_clicks(300, '8 hours', '0') AS sent \gset
SELECT is(adclick.recompute(hour(6), hour(4)), clicks_in(hour(6), hour(4)), 'two hours: their clicks');
SELECT is_exact('two hours');
SELECT is_empty($$SELECT * FROM packed WHERE first >= hour(6) AND first < hour(4)$$, 'nothing packed is left of them');
SELECT is_empty($$SELECT * FROM adclick.most_clicked_ads WHERE click_minute >= hour(6) AND click_minute < hour(4)$$, 'nor lists of their minutes');
SELECT is_empty($$SELECT * FROM runs_before WHERE sort_order = 3 OR (sort_order = 0 AND NOT (first_minute >= hour(6) AND last_minute < hour(4)))
	EXCEPT SELECT * FROM adclick_internal.runs$$, 'the ledger, and what is packed of other hours, is as it was');
SELECT isnt_empty($$SELECT * FROM runs_before b WHERE sort_order = 1 AND NOT is_delta
	AND NOT EXISTS (SELECT FROM adclick_internal.runs r WHERE r.run_id = b.run_id)$$, 'runs with other hours are written anew');
SELECT is(count(*), (SELECT count(*) FROM runs_before WHERE sort_order IN (1, 2) AND NOT is_delta), 'as what they were')
FROM adclick_internal.runs WHERE sort_order IN (1, 2) AND NOT is_delta;
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('two hours, compacted');
SELECT is_empty('TABLE unpacked', 'all that was packed is again');

-- The last hours, whose minutes are runs, and all.
SELECT is(adclick.recompute(hour(1), hour(-2)), clicks_in(hour(1), 'infinity'), 'the last hours: their clicks');
SELECT is_empty($$SELECT * FROM packed WHERE first >= hour(1)$$, 'nothing packed is left of them');
SELECT is_exact('the last hours');
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('the last hours, compacted');
SELECT is_empty('TABLE unpacked', 'all that was packed is again: minutes, too');
SELECT is(adclick.recompute('-infinity', 'infinity'), (SELECT clicks_counted FROM adclick.status), 'all clicks');
SELECT is_exact('all');
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('all, compacted');
SELECT is_empty('TABLE unpacked', 'all that was packed is again, of all');
SELECT is(adclick.recompute(hour(3), hour(3)), 0::bigint, 'nothing is no hours');
SELECT is(adclick.recompute('-infinity', hour(5)), clicks_in('-infinity', hour(5)), 'from the beginning');
SELECT is(adclick.recompute(hour(3), 'infinity'), clicks_in(hour(3), 'infinity'), 'to the end');
SELECT is_exact('from the beginning, and to the end');

-- With a tick in one transaction, twice, and rolled back.
BEGIN;
SELECT counted > 0 AS counted FROM adclick.tick() \gset
SELECT is(adclick.recompute(hour(7), hour(2)), clicks_in(hour(7), hour(2)), 'after a tick in one transaction');
SELECT is(adclick.recompute(hour(5), hour(1)), clicks_in(hour(5), hour(1)), 'and again');
SELECT is_exact('a tick before it');
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('a tick before it, and a compaction behind');
ROLLBACK;
SELECT is_exact('rolled back');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(adclick.recompute(hour(7), hour(2)), clicks_in(hour(7), hour(2)), 'in one snapshot');
SELECT is(adclick.recompute(hour(5), hour(1)), clicks_in(hour(5), hour(1)), 'and again');
SELECT is_exact('in one snapshot');
COMMIT;
SELECT is_exact('of one snapshot');
-- It may end anywhere.
DO $$
BEGIN
	FOR i IN 1 .. 8 LOOP
		BEGIN
			PERFORM set_config('statement_timeout', i * 2 || 'ms', true);
			PERFORM adclick.recompute('-infinity', 'infinity');
			RAISE EXCEPTION 'not cancelled' USING ERRCODE = 'P0099';
		EXCEPTION WHEN query_canceled OR SQLSTATE 'P0099' THEN
			NULL;
		END;
	END LOOP;
END
$$;
SELECT is_exact('ended early');

-- Late clicks wait in deltas of many hours, of which some are made anew.
SELECT oracle.send_past_clicks(1000, '7 hours', '0') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.send_past_clicks(1000, '40 hours', '9 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT isnt_empty($$SELECT * FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta AND first_minute < hour(6) AND last_minute >= hour(2)$$,
	'deltas of many hours');
SELECT is(adclick.recompute(hour(5), hour(3)), clicks_in(hour(5), hour(3)), 'late clicks: some hours');
SELECT is_exact('late clicks: some hours');
SELECT is(adclick.recompute(hour(30), hour(4)), clicks_in(hour(30), hour(4)), 'late clicks: more hours');
SELECT is_exact('late clicks: more hours');
SELECT oracle.send_past_clicks(500, '50 hours', '0') AS sent \gset
SELECT oracle.send_copies(300) AS sent \gset
SELECT counted, duplicates FROM adclick.tick() \gset
SELECT cmp_ok(:duplicates, '>=', 300, 'copies of what was counted are duplicates');
SELECT is_exact('late clicks, and copies');
SELECT is(adclick.recompute(hour(20), hour(3)), clicks_in(hour(20), hour(3)), 'late clicks, and copies: some hours');
SELECT oracle.compact() AS compacted \gset
SELECT is_exact('late clicks, compacted');
-- The newest click of the last tick may be some minutes old, so the last minutes need not be closed now, nor the last hour settled that was before.
SELECT is_empty($$SELECT * FROM unpacked WHERE what <> 'minute' AND first < hour(2)$$, 'hours that were packed are again, with late clicks');

-- Damage: some answer is wrong or refused, and right once the hours are made anew.
CREATE FUNCTION damaged(question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	wrong boolean;
BEGIN
	EXECUTE format('SELECT count(x::text) > 0 FROM (%s) x', question) INTO wrong;
	RETURN CASE WHEN wrong THEN 'wrong' ELSE 'right' END;
EXCEPTION WHEN data_corrupted THEN
	RETURN 'refused';
END
$$;
CREATE FUNCTION is_mended(damage text, "from" timestamptz, "to" timestamptz, shown text,
	question text DEFAULT 'SELECT * FROM oracle.wrong_facts(true)') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	changed bigint;
BEGIN
	EXECUTE damage;
	GET DIAGNOSTICS changed = ROW_COUNT;
	RETURN NEXT cmp_ok(changed, '>', 0::bigint, damage);
	RETURN NEXT is(damaged(question), shown, 'it shows: ' || damage);
	RETURN NEXT is(adclick.recompute("from", "to"), clicks_in("from", "to"), 'made anew: ' || damage);
	RETURN QUERY SELECT is_exact('mended: ' || damage);
	PERFORM oracle.compact();
	RETURN QUERY SELECT is_stored('mended and compacted: ' || damage);
END
$$;
SELECT format('sort_order = 0 AND NOT is_delta AND first_minute >= %L AND last_minute < %L', hour(7), hour(4)) AS some,
	'run_id IN (SELECT run_id FROM adclick_internal.runs WHERE ' AS of \gset
SELECT format('%L', :'of' || :'some' || ')') AS of_some, format('%L', 'SELECT sum(click_count) FROM adclick.clicks_per_minute WHERE click_minute >= hour(7) AND click_minute < hour(4) HAVING sum(click_count) <> clicks_in(hour(7), hour(4))') AS sum \gset
SELECT is_mended('DELETE FROM adclick_internal.runs WHERE ' || :'some', hour(7), hour(4), 'wrong');
SELECT is_mended('DELETE FROM adclick_internal.segments WHERE number = 0 AND ' || :of_some, hour(7), hour(4), 'refused');
SELECT is_mended('UPDATE adclick_internal.segments SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE ' || :of_some, hour(7), hour(4), 'refused');
SELECT is_mended('UPDATE adclick_internal.runs SET clicks = clicks + 1 WHERE ' || :'some', hour(7), hour(4), 'wrong', :sum);
SELECT is_mended('UPDATE adclick_internal.runs SET minutes = NULL, minute_facts = NULL, minute_clicks = NULL WHERE ' || :'some', hour(7), hour(4), 'refused',
	'SELECT min(click_minute) FROM adclick.ad_click_counts');
SELECT is_mended('UPDATE adclick_internal.runs SET segments = 0 WHERE ' || :'some', hour(7), hour(4), 'refused');
SELECT is_mended('UPDATE adclick_internal.runs SET last_minute = last_minute - interval ''1 minute'' WHERE ' || :'some', hour(7), hour(4), 'refused');
SELECT is_mended('UPDATE adclick.most_clicked_ads_hourly SET most_clicked_ads[1].click_count = 1000000 WHERE click_hour >= hour(8)', hour(8), hour(0), 'wrong', 'SELECT * FROM oracle.wrong_lists()');
SELECT is_mended('UPDATE adclick.most_clicked_ads SET cut_off = -1', '-infinity', 'infinity', 'refused',
	'SELECT adclick.top_n_ads_between(1, click_minute, click_minute + interval ''1 minute'') FROM (SELECT click_minute FROM adclick.most_clicked_ads WHERE filter_id = 0 ORDER BY 1 DESC LIMIT 60) m');
SELECT is_mended('UPDATE adclick_internal.runs SET last_minute = ''infinity'' WHERE ' || :'some', '-infinity', 'infinity', 'refused');
SELECT is_mended('DELETE FROM adclick_internal.runs WHERE sort_order < 3', '-infinity', 'infinity', 'wrong');
SELECT is_mended('UPDATE adclick_internal.runs SET facts = -1, first_minute = ''-infinity'' WHERE sort_order < 3', '-infinity', 'infinity', 'refused');
SELECT is_mended('UPDATE adclick_internal.runs SET sort_order = 1 WHERE sort_order = 2', '-infinity', 'infinity', 'refused', 'SELECT adclick.unique_users_between(1, ''-infinity'', ''infinity'')');

-- Some runs have minutes of other hours: if such a one is damaged, the error says which hours have them all.
CREATE FUNCTION refused("from" timestamptz, "to" timestamptz, OUT code text, OUT message text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM adclick.recompute("from", "to");
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
END
$$;
SELECT oracle.send_past_clicks(2000, '3 hours', '2 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT max(run_id) AS delta FROM adclick_internal.runs WHERE sort_order = 1 AND is_delta \gset
SELECT date_trunc('hour', first_minute, 'UTC') AS first, date_trunc('hour', last_minute, 'UTC') + interval '1 hour' AS "end"
FROM adclick_internal.runs WHERE run_id = :delta \gset
SELECT cmp_ok(timestamptz :'end' - :'first', '>=', interval '3 hours', 'a delta of some hours');
UPDATE adclick_internal.deltas SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id = :delta;
SELECT is((code, hint), ('XX001'::text, format('Recompute from %s to %s: that has all minutes of the run.', timestamptz :'first', timestamptz :'end')), 'one hour: ' || message)
FROM refused(timestamptz :'first' + interval '1 hour', timestamptz :'first' + interval '2 hours');
SELECT is(damaged('SELECT adclick.unique_users_between(1, ''-infinity'', ''infinity'')'), 'refused', 'it is as it was');
SELECT is(adclick.recompute(:'first', :'end'), clicks_in(:'first', :'end'), 'the hours that the hint says');
SELECT is_exact('a delta of some hours mended');
SELECT max(run_id) AS delta FROM adclick_internal.runs WHERE sort_order = 1 \gset
UPDATE adclick_internal.runs SET first_minute = '-infinity' WHERE run_id = :delta;
SELECT is(hint, 'Recompute from -infinity to infinity: that has all minutes of the run.', 'times that cannot be: ' || message)
FROM refused(hour(4), hour(3));
UPDATE adclick_internal.runs SET first_minute = last_minute - interval '100 minutes', segments = 0 WHERE run_id = :delta;
SELECT alike(hint, 'Recompute from 2% to 2%: that has all minutes of the run.', 'numbers that cannot be: ' || message)
FROM adclick_internal.runs, refused(date_trunc('hour', first_minute, 'UTC'), date_trunc('hour', first_minute, 'UTC') + interval '1 hour') WHERE run_id = :delta;
SELECT is(adclick.recompute('-infinity', 'infinity'), clicks_in('-infinity', 'infinity'), 'and all');
SELECT is_exact('times and numbers that cannot be, mended');
-- Without the ledger nothing is changed.
BEGIN;
UPDATE adclick_internal.ledger_0 SET data = set_byte(data, 20, 255 - get_byte(data, 20));
SELECT is((code, hint), ('XX001'::text, ''::text), 'a damaged ledger: ' || message) FROM refused('-infinity', 'infinity');
SELECT is(sum(click_count), (SELECT clicks_counted FROM adclick.status)::numeric, 'the counts are there') FROM adclick.ad_click_counts;
ROLLBACK;
SELECT is_exact('a damaged ledger, rolled back');

-- Minutes that are not in orders user and ip.
\set name adclick.user_and_ip_orders
\set value off
\i test/lib/set.psql
SELECT oracle.send_past_clicks(1000, '2 hours', '3 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
CREATE TABLE gaps_before AS TABLE adclick_internal.gaps;
SELECT isnt_empty('TABLE gaps_before', 'gaps');
SELECT is(adclick.recompute(hour(7), hour(4)), clicks_in(hour(7), hour(4)), 'orders are off');
SELECT set_eq('TABLE adclick_internal.gaps', $$TABLE gaps_before
	UNION SELECT minute FROM oracle.clicks(true) WHERE minute >= hour(7) AND minute < hour(4)$$, 'the minutes with clicks are gaps');
SELECT is_empty($$SELECT * FROM adclick_internal.runs WHERE sort_order IN (1, 2) AND first_minute >= hour(7) AND last_minute < hour(4)$$, 'and in no other order');
SELECT is_empty('SELECT * FROM oracle.wrong_answers(60, false, true)', 'orders are off: answers');
SELECT is_empty('SELECT * FROM oracle.wrong_facts(true)', 'orders are off: facts');
SELECT oracle.compact() AS compacted \gset
SELECT is_empty('SELECT * FROM oracle.wrong_answers(60, false, true)', 'orders are off, compacted: answers');
\set value on
\i test/lib/set.psql
SELECT is_empty('SELECT * FROM oracle.wrong_answers(60, false, true)', 'orders are on again: answers');
SELECT cmp_ok(adclick.recompute(hour(5), hour(4)), '>', 0::bigint, 'an hour is made anew');
SELECT set_eq('TABLE adclick_internal.gaps', $$SELECT minute FROM gaps_before WHERE minute < hour(5) OR minute >= hour(4)
	UNION SELECT minute FROM oracle.clicks(true) WHERE minute >= hour(7) AND minute < hour(5)$$, 'its gaps are closed');
SELECT is_empty('SELECT * FROM oracle.wrong_answers(60, false, true)', 'an hour is made anew: answers');
SELECT isnt(oracle.answer(format('SELECT adclick.unique_users_between(1, %L, %L)', hour(5), hour(4))), NULL, 'it can be asked about users');
SELECT unalike(oracle.answer(format('SELECT adclick.unique_users_between(1, %L, %L)', hour(5), hour(4))), 'refused%', 'and is answered');
SELECT cmp_ok(adclick.recompute('-infinity', 'infinity'), '>', 0::bigint, 'all is made anew');
SELECT is_empty('TABLE adclick_internal.gaps', 'all gaps are closed');
SELECT is_exact('gaps closed');

-- Clicks of which many are alike in everything: none of them has a key.
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
CREATE FUNCTION send_alike(n int) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, ip) SELECT md5('alike')::uuid, 4000, hour(4) + interval '7 minutes', '192.0.2.1' FROM generate_series(1, n)
$$;
SELECT send_alike(20000) AS sent \gset
SELECT counted FROM adclick.tick() \gset
SELECT is(:counted, 20000, 'clicks that are alike count all');
SELECT cmp_ok(facts, '<', clicks, 'and some are one row of the ledger') FROM adclick_internal.runs WHERE sort_order = 3 ORDER BY run_id DESC LIMIT 1;
SELECT is(adclick.recompute(hour(4), hour(3)), (SELECT sum(click_count)::bigint FROM adclick.ad_click_counts WHERE click_minute >= hour(4) AND click_minute < hour(3)),
	'clicks that are alike');
SELECT is(adclick.ad_click_count_between(4000, hour(4), hour(3)), 20000::bigint, 'all of them are counted');
SELECT is(adclick.ad_click_count_between(4000, hour(4), hour(3), '{"ip": "192.0.2.1"}'), 20000::bigint, 'by address, too');
SELECT is((SELECT balanced FROM adclick.check_ledger()), true, 'clicks that are alike: the books');
\set value click_id
\i test/lib/set.psql
SELECT tick IS NULL AS followed FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT is(adclick.ad_click_count_between(4000, hour(4), hour(3)), 20000::bigint, 'clicks that are alike, compacted');

SELECT * FROM finish();
