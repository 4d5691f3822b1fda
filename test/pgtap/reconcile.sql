-- Reconciliation: what is right has no differences, and each way in which stored numbers
-- can be wrong is found where it is, and nowhere else.

\set ON_ERROR_STOP on

-- What is found in all hours there are: kinds of differences, and how often.  To change the role, as each call
-- does otherwise, has everything planned again.
CREATE FUNCTION found() RETURNS text LANGUAGE plpgsql SET session_replication_role = replica AS $$
BEGIN
	WHILE adclick.reconcile_hour('-infinity', 'infinity') LOOP END LOOP;
	RETURN coalesce((SELECT string_agg(what || ' ' || n, ', ' ORDER BY what) FROM (SELECT what, count(*) AS n FROM adclick.differences GROUP BY 1) d), 'nothing');
END
$$;

SELECT no_plan();
SELECT setseed(0.25) AS seeded \gset
-- Its memory is bounded, whatever is set for who calls it (docs/performance.md).
SELECT is(ARRAY(SELECT c FROM pg_proc, unnest(proconfig) c WHERE oid = 'adclick_internal.find_differences(timestamptz, boolean)'::regprocedure AND c ~ 'mem' ORDER BY c),
	'{hash_mem_multiplier=1,work_mem=24MB}', 'the memory of a step');
-- Short lists: not every ad is in them.
\set name adclick.top_ads_kept
\set value 20
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset
SELECT adclick.add_filter('{"country": "CA"}') AS ca \gset

SELECT is(found(), 'nothing', 'no clicks');
SELECT is(count(*), 1::bigint, 'a reconciliation of no hours is finished') FROM adclick.reconciliations WHERE finished_at IS NOT NULL AND hours = '{}';
SELECT oracle.send_past_clicks(2000, '3 hours', '5 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
SELECT oracle.send_past_clicks(2000, '3 hours', '0') AS sent \gset
-- a minute with more ads than its list
INSERT INTO adclick.clicks (ad_id, clicked_at, country) SELECT ad, date_trunc('minute', now()) - interval '5 minutes', 'CA'
FROM generate_series(1, 40) ad, generate_series(1, ad);
-- and one whose ads have a click each
INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT ad, date_trunc('minute', now()) - interval '7 minutes' FROM generate_series(900001, 900040) ad;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.compact() AS compacted \gset
-- late ones and copies, which stay in deltas, and a tail
SELECT oracle.send_past_clicks(60, '7 hours', '0'), oracle.send_copies(200) \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT oracle.send_past_clicks(100, '2 hours', '0'), oracle.send_copies(20) \gset
SELECT cmp_ok(count(*), '>', 0::bigint, 'there are deltas') FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta;
SELECT cmp_ok(count(*), '>', 0::bigint, 'there are copies') FROM adclick.discarded_clicks WHERE reason = 'duplicate';
SELECT cmp_ok(count(*), '>', 100::bigint, 'there are lists of minutes') FROM adclick.most_clicked_ads;
SELECT cmp_ok(count(*), '>', 4::bigint, 'and of hours') FROM adclick.most_clicked_ads_hourly;
SELECT cmp_ok(count(*), '>', 0::bigint, 'of which some are cut off') FROM adclick.most_clicked_ads_hourly WHERE cut_off > 0;

-- By the procedure, interrupted after an hour.
SELECT adclick.reconcile_hour('-infinity', 'infinity') AS more \gset
SELECT is(:'more'::boolean, true, 'there are more hours');
SELECT unnest(ARRAY[is(hours_done, 1, 'one is done'), cmp_ok(cardinality(hours), '>', 5, 'of several')])
FROM adclick.reconciliations WHERE finished_at IS NULL;
CALL adclick.reconcile('-infinity', 'infinity');
SELECT is(array_agg(hours_done = cardinality(hours) AND finished_at >= started_at ORDER BY reconciliation_id), '{t,t}', 'the same call went on with it')
FROM adclick.reconciliations;
SELECT is_empty('SELECT * FROM adclick.differences', 'nothing differs');
SELECT unnest(ARRAY[is(h.clicks, r.clicks::numeric, 'the hours have the clicks of the reconciliation'),
	is(r.clicks, clicks_counted, 'which are those that are counted'), is(h.well, true, 'without a problem')])
FROM (SELECT sum(clicks) AS clicks, bool_and(problem IS NULL AND differences = 0 AND NOT repaired) AS well FROM adclick.reconciled_hours) h,
	(SELECT clicks FROM adclick.reconciliations ORDER BY reconciliation_id DESC LIMIT 1) r, adclick.status;
SELECT is(adclick.reconcile_hour('2026-01-01', '2026-01-01'), false, 'a range that ends where it begins has no hours');
CALL adclick.reconcile(date_trunc('hour', now() - interval '2 hours') + interval '1 second', date_trunc('hour', now() - interval '2 hours') + interval '2 seconds');
SELECT is(hours, ARRAY[date_trunc('hour', since)], 'a second of an hour touches it') FROM adclick.reconciliations ORDER BY reconciliation_id DESC LIMIT 1;
-- One that was interrupted long ago is not continued.
SELECT adclick.reconcile_hour('-infinity', 'infinity') AS more \gset
UPDATE adclick.reconciliations SET started_at = started_at - interval '13 hours' WHERE finished_at IS NULL;
SELECT is(found(), 'nothing', 'all hours again');
SELECT is(count(*), 1::bigint, 'the former call stays interrupted') FROM adclick.reconciliations WHERE finished_at IS NULL;
SELECT is(last_reconciled_at, (SELECT max(reconciled_at) FROM adclick.reconciled_hours), 'the status says when') FROM adclick.status;
SELECT throws_ok($$DO 'BEGIN CALL adclick.reconcile(now() - interval ''1 hour'', now()); END'$$, '2D000', NULL, 'in a transaction there is no commit');
CALL adclick.reconcile(now() - interval '90 minutes', now());
SELECT is(hours, ARRAY(SELECT h FROM generate_series(date_trunc('hour', since, 'UTC'), until - interval '1 us', '1 hour') h), 'the hours that it touches')
FROM adclick.reconciliations ORDER BY reconciliation_id DESC LIMIT 1;
SELECT throws_ok($$CALL adclick.reconcile('2026-01-02', '2026-01-01')$$, '22023', '"from" must not be later than "to"', 'a range that ends before it begins');

-- Each of these is found, and with it what follows from it.
CREATE VIEW hot AS SELECT * FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta AND first_minute < last_minute ORDER BY clicks DESC, run_id LIMIT 1;

BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 0 AND run_id = (SELECT run_id FROM hot);
SELECT matches(found(), '^ad \d+(, day \d+)?, hourly list 2(, list \d+)?, minute \d+$', 'facts of an hour are lost');
SELECT is(sum(expected) - sum(stored), (SELECT sum(expected) - sum(stored) FROM adclick.differences WHERE what = 'ad'), 'and their sums say the same')
FROM adclick.differences WHERE what = 'minute';
SELECT unnest(ARRAY[is(health, 'critical', 'the health says so'), matches(reason, 'hours differ from the ledger, see adclick.reconciled_hours: [12]', 'and why')]) FROM adclick.health();
SELECT is(count(*), 1::bigint, 'one hour has differences, and perhaps the last of its day') FROM adclick.reconciled_hours h WHERE differences > 0
	AND EXISTS (SELECT FROM adclick.differences d WHERE d.hour = h.hour AND what <> 'day');
ROLLBACK;

BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 1 AND NOT is_delta AND run_id = (SELECT min(run_id) FROM adclick_internal.runs WHERE sort_order = 1 AND NOT is_delta);
SELECT matches(found(), '^user \d+$', 'facts by user are lost');
SELECT is(bool_and(stored = 0 AND expected > 0 AND user_id IS NOT NULL AND ip IS NULL), true, 'users are named') FROM adclick.differences;
ROLLBACK;

BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 2 AND is_delta;
SELECT matches(found(), '^ip \d+$', 'facts by address are lost');
ROLLBACK;

BEGIN;
UPDATE adclick_internal.runs SET minute_clicks = array_replace(minute_clicks, minute_clicks[1], minute_clicks[1] + 1) WHERE run_id = (SELECT run_id FROM hot);
SELECT matches(found(), '^minute \d+$', 'the directory has too many clicks');
ROLLBACK;

BEGIN;
DELETE FROM adclick_internal.runs WHERE sort_order = 3 AND run_id = (SELECT run_id FROM adclick_internal.runs WHERE sort_order = 3 ORDER BY clicks DESC LIMIT 1);
SELECT matches(found(), '^ad \d+(, duplicate \d+)?, ip \d+, minute \d+, user \d+$', 'clicks of the ledger are lost');
SELECT is(bool_and(expected < stored), true, 'more is stored than it has') FROM adclick.differences WHERE what = 'ad';
ROLLBACK;

BEGIN;
INSERT INTO adclick_internal.discarded_0 (click_id, ad_id, clicked_at, received_at, reason, discarded_at)
SELECT gen_random_uuid(), 4711, now() - interval '3 hours', now(), 'duplicate', now();
SELECT is(found(), 'duplicate 1', 'a click is set aside as a duplicate of none');
SELECT is(ad_id, 4711::bigint, 'it is named') FROM adclick.differences;
ROLLBACK;

-- A click whose counts are lost, in an hour in which neither a count is left nor its dedup window begins.
BEGIN;
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT oracle.uuid_v7(now() - interval '3 hours'), 4712, now() - interval '26 hours 30 minutes';
SELECT counted AS counted FROM adclick.tick() \gset
DELETE FROM adclick_internal.runs WHERE sort_order < 3 AND run_id = (SELECT max(run_id) FROM adclick_internal.runs WHERE sort_order = 0);
SELECT matches(found(), '^ad \d+, minute \d+$', 'counts of clicks are lost');
SELECT is(sum(expected), 1::numeric, 'also of the one alone') FROM adclick.differences WHERE ad_id = 4712;
ROLLBACK;

-- Lists
CREATE TABLE changes AS SELECT * FROM (VALUES
	('an ad has too many clicks', $$most_clicked_ads[1] = ROW((most_clicked_ads[1]).ad_id, (most_clicked_ads[1]).click_count + 1)::adclick.ad_click$$),
	('an ad is missing', $$most_clicked_ads = most_clicked_ads[2:]$$),
	('the last ads are missing', $$most_clicked_ads = trim_array(most_clicked_ads, 10)$$),
	('an ad is there twice', $$most_clicked_ads = most_clicked_ads[1] || most_clicked_ads$$),
	('two ads are exchanged', $$most_clicked_ads = most_clicked_ads[2] || (most_clicked_ads[1] || most_clicked_ads[3:])$$),
	('another ad is there', $$most_clicked_ads[1] = ROW(4711, (most_clicked_ads[1]).click_count)::adclick.ad_click$$),
	('too much is cut off', $$cut_off = cut_off + 1$$),
	('nothing is cut off', $$cut_off = 0$$)) c (what, change);
CREATE FUNCTION found_in_lists(change text, relation text, first text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text;
BEGIN
	EXECUTE format('UPDATE %s SET %s WHERE %s = (SELECT %3$s FROM %1$s WHERE filter_id = 0 AND cut_off > 0 ORDER BY cut_off DESC, 1 LIMIT 1) AND filter_id = 0',
		relation, change, first);
	found := found();
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	RETURN found;
END
$$;
SELECT is(found_in_lists(change, 'adclick.most_clicked_ads', 'click_minute'), 'list 1', 'list: ' || what) FROM changes;
SELECT is(found_in_lists(change, 'adclick.most_clicked_ads_hourly', 'click_hour'), 'hourly list 1', 'hourly list: ' || what) FROM changes;
BEGIN;
UPDATE adclick.most_clicked_ads SET most_clicked_ads = most_clicked_ads || ROW(900030, 1)::adclick.ad_click
WHERE filter_id = 0 AND cut_off = 1 AND click_minute = (SELECT min(clicked_at) FROM adclick.click_log WHERE ad_id = 900001);
SELECT is(found(), 'list 1', 'of ads with as many clicks the smaller belong in the list');
ROLLBACK;
SELECT is(found_in_lists('filter_id = 0', 'adclick.most_clicked_ads', 'click_minute'), 'nothing', 'nothing is changed');

-- What cannot be read is said, and the other hours are compared.
BEGIN;
UPDATE adclick_internal.runs SET minute_clicks = array_replace(minute_clicks, minute_clicks[1], minute_clicks[1] + 1) WHERE run_id = (SELECT run_id FROM hot);
SELECT matches(found(), '^minute \d+$', 'a difference, before it is damaged');
UPDATE adclick_internal.segments SET data = set_byte(data, 100, get_byte(data, 100) # 1) WHERE run_id = (SELECT run_id FROM hot) AND number = 0;
SELECT is(found(), 'nothing', 'a damaged run');
SELECT unnest(ARRAY[cmp_ok(count(*), '<=', 2::bigint, 'one hour has a problem, and perhaps the last of its day'), matches(min(problem), 'damaged', 'which says what'),
	is(min(hour), (SELECT first_minute FROM hot), 'it is that of the run')])
FROM adclick.reconciled_hours WHERE problem IS NOT NULL;
SELECT is(health, 'critical', 'the health says so') FROM adclick.health();
ROLLBACK;

-- So is a combination that has no row.
BEGIN;
DELETE FROM adclick.filters WHERE country = 'unknown' AND region = 'unknown' AND device = 'unknown' RETURNING filter_id \gset
CREATE TABLE spoilt AS SELECT DISTINCT date_trunc('hour', click_minute, 'UTC') AS hour FROM adclick_internal.facts(0, '-infinity', 'infinity') WHERE filter_id = :filter_id;
SELECT matches(found(), '^(nothing|daily list \d+)$', 'a combination without a row');
SELECT set_eq('SELECT hour FROM adclick.reconciled_hours WHERE problem IS NOT NULL', 'TABLE spoilt', 'hours that have it have a problem');
SELECT unnest(ARRAY[cmp_ok(count(problem), '>', 0::bigint, 'there are some'), is(min(problem), 'filter ' || :filter_id || ' is missing', 'which names it'),
	is(max(problem), min(problem), 'and no other')])
FROM adclick.reconciled_hours;
ROLLBACK;

-- All that can be made anew from the ledger is repaired, and what was found stays noted.
CREATE FUNCTION repaired(damage text, OUT differences text, OUT hours text, OUT health text) LANGUAGE plpgsql SET session_replication_role = replica AS $$
BEGIN
	EXECUTE damage;
	CREATE TABLE before AS SELECT run_id FROM adclick_internal.runs;
	WHILE adclick.reconcile_hour('-infinity', 'infinity', true) LOOP END LOOP;
	differences := (SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM adclick.differences);
	hours := (SELECT string_agg(DISTINCT format('%s %s', CASE WHEN h.differences > 0 THEN 'some' ELSE 'none' END,
			CASE WHEN problem IS NOT NULL THEN 'problem' WHEN repaired THEN 'repaired' END), ', ')
		FROM adclick.reconciled_hours h WHERE h.differences > 0 OR problem IS NOT NULL OR repaired);
	health := (SELECT h.health FROM adclick.health() h);
	IF hours ~ 'problem' AND EXISTS (SELECT run_id FROM adclick_internal.runs EXCEPT TABLE before) THEN
		health := 'what could not be repaired was changed';
	END IF;
	IF hours !~ 'problem' AND (EXISTS (SELECT FROM oracle.wrong_facts(true)) OR EXISTS (SELECT FROM oracle.wrong_answers(12))) THEN
		health := 'not right after the repair';
	END IF;
	-- all of it again
	IF hours !~ 'problem' THEN
		PERFORM oracle.compact();
		IF found() <> 'nothing' OR EXISTS (SELECT FROM oracle.wrong_facts(true)) OR EXISTS (SELECT FROM oracle.wrong_lists()) THEN
			health := 'not right once it is compacted';
		END IF;
	END IF;
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	NULL;
END
$$;
SELECT unnest(ARRAY[matches(coalesce(r.differences, ''), '^' || d.found || '$', 'found: ' || d.what), is(r.hours, d.hours, 'hours: ' || d.what), is(r.health, d.health, 'health: ' || d.what)])
FROM (VALUES
	('an hour without facts', 'DELETE FROM adclick_internal.runs WHERE run_id = (SELECT run_id FROM hot)', 'ad, (day, )?hourly list(, list)?, minute', 'some repaired', 'ok'),
	('deltas lost', 'DELETE FROM adclick_internal.runs WHERE is_delta AND sort_order = 0', 'ad, minute', 'some repaired', 'ok'),
	('users lost', 'DELETE FROM adclick_internal.runs WHERE sort_order = 1', 'user', 'some repaired', 'ok'),
	('addresses lost', 'DELETE FROM adclick_internal.runs WHERE sort_order = 2', 'ip', 'some repaired', 'ok'),
	('everything lost', 'DELETE FROM adclick_internal.runs WHERE sort_order < 3', 'ad, (day, )?hourly list, ip(, list)?, minute, user', 'some repaired', 'ok'),
	('a wrong sum', 'UPDATE adclick_internal.runs SET minute_clicks = array_replace(minute_clicks, minute_clicks[1], minute_clicks[1] + 1) WHERE run_id = (SELECT run_id FROM hot)',
		'minute', 'some repaired', 'ok'),
	('a wrong list', 'UPDATE adclick.most_clicked_ads_hourly SET cut_off = cut_off + 1 WHERE filter_id = 0', 'hourly list', 'some repaired', 'ok'),
	('a damaged hour', 'UPDATE adclick_internal.segments SET data = set_byte(data, 100, get_byte(data, 100) # 1) WHERE run_id = (SELECT run_id FROM hot) AND number = 0',
		'', 'none repaired', 'ok'),
	('a damaged delta', 'UPDATE adclick_internal.deltas SET data = set_byte(data, 40, get_byte(data, 40) # 1) WHERE run_id = (SELECT run_id FROM adclick_internal.runs WHERE is_delta AND sort_order = 0 ORDER BY last_minute - first_minute DESC LIMIT 1) AND number = 0',
		'', 'none problem', 'critical'),
	('a damaged ledger', 'UPDATE adclick_internal.ledger_0 SET data = set_byte(data, 100, get_byte(data, 100) # 1) WHERE run_id = (SELECT min(run_id) FROM adclick_internal.runs WHERE NOT is_delta AND sort_order = 3) AND number = 0',
		'', 'none problem', 'critical'),
	('clicks of the ledger lost', 'DELETE FROM adclick_internal.runs WHERE run_id = (SELECT run_id FROM adclick_internal.runs WHERE sort_order = 3 ORDER BY clicks DESC LIMIT 1)',
		'ad(, duplicate)?, ip, minute, user', 'some problem', 'critical'),
	('a wrong duplicate', 'INSERT INTO adclick_internal.discarded_0 (click_id, ad_id, clicked_at, received_at, reason, discarded_at)
		SELECT gen_random_uuid(), 4711, now() - interval ''3 hours'', now(), ''duplicate'', now()', 'duplicate', 'some problem', 'critical'),
	('an hour that has no clicks any more', 'INSERT INTO adclick.reconciled_hours VALUES (''2001-01-01 00:00Z'', now(), 5, 1, false, NULL)', '', NULL, 'ok')
	) d (what, damage, found, hours, health), repaired(d.damage) r;

SELECT unnest(ARRAY[matches(coalesce(differences, ''), '^(daily list)?$', 'found: a combination without a row'),
	matches(hours, '^none problem(, some problem)?$', 'hours: a combination without a row'), is(health, 'critical', 'health: a combination without a row')])
FROM repaired('DELETE FROM adclick.filters WHERE filter_id = (SELECT min(filter_id) FROM adclick.filters WHERE country = ''CA'' AND region IS NOT NULL)');

-- More than a thousand differences are counted, and not all of them noted, of any kind.
BEGIN;
SELECT oracle.send_past_clicks(3000, '1 hour', '20 hours') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
DELETE FROM adclick_internal.runs WHERE sort_order < 3;
SELECT isnt(found(), 'nothing', 'everything is lost');
SELECT is(bool_and(n <= 1000), true, 'no more than a thousand of a kind and an hour') FROM (SELECT count(*) AS n FROM adclick.differences GROUP BY hour, what) d;
SELECT is(array_agg(DISTINCT what ORDER BY what) @> '{ad,ip,minute,user}', true, 'but of each kind there is') FROM adclick.differences
WHERE hour = (SELECT hour FROM adclick.reconciled_hours ORDER BY differences DESC LIMIT 1);
SELECT cmp_ok(max(differences), '>', 1000::bigint, 'they are counted') FROM adclick.reconciled_hours;
ROLLBACK;

-- Minutes that are not in orders user and ip
\set name adclick.user_and_ip_orders
\set value off
\i test/lib/set.psql
SELECT oracle.send_past_clicks(500, '6 hours', '0') AS sent \gset
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT cmp_ok(count(*), '>', 0::bigint, 'there are gaps') FROM adclick_internal.gaps;
SELECT is(found(), 'nothing', 'users and addresses are not kept');
\set value on
\i test/lib/set.psql

-- By user and ad the same id is no copy of a click without a user.
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT rows_read AS read FROM adclick.tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id) SELECT 'd0000000-0000-4000-8000-00000000000d', 5 FROM generate_series(1, 3);
SELECT counted AS counted FROM adclick.tick() \gset
SELECT is(:counted, 3, 'all of them count');
SELECT is(found(), 'nothing', 'clicks without a key');
\set value click_id
\i test/lib/set.psql
SELECT rows_read AS read FROM adclick.tick() \gset

-- Two ids, whose windows begin in other hours than their clicks.
SELECT is(count(*), 0::bigint, 'nothing is left of all this') FROM adclick.differences;
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
SELECT oracle.uuid_v7(now() - interval '2 hours'), 1, now() - interval '23 hours' FROM generate_series(1, 3)
UNION ALL SELECT oracle.uuid_v7(now() - interval '23 hours'), 2, now() - interval '2 hours';
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
SELECT click_id, ad_id, clicked_at + interval '30 minutes' FROM adclick.clicks, generate_series(1, 2) WHERE click_id IS NOT NULL AND clicked_at < now() - interval '90 minutes';
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is(found(), 'nothing', 'ids of other hours');
SELECT oracle.compact() AS compacted \gset
SELECT is(found(), 'nothing', 'and compacted');

-- A key that was forgotten when its copy came, and is there again: another rule makes memory forget it, too.
-- Not one whose window may begin in another hour, as an id of version 7 says.
CREATE TABLE copy AS SELECT * FROM adclick.click_log
WHERE verdict = 'counted' AND substr(click_id::text, 15, 1) = '4' AND octet_length(country) < 65 AND clicked_at < now() - interval '4 hours' LIMIT 1;
CREATE TABLE forgotten AS SELECT * FROM adclick_internal.runs WHERE sort_order = 3;
DELETE FROM adclick_internal.runs WHERE sort_order = 3;
\set name adclick.dedup_window
\set value 660
\i test/lib/set.psql
SELECT rows_read AS read FROM adclick.tick() \gset
\set value 600
\i test/lib/set.psql
SELECT rows_read AS read FROM adclick.tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM copy;
SELECT rows_read AS read FROM adclick.tick() \gset
INSERT INTO adclick_internal.runs OVERRIDING SYSTEM VALUE TABLE forgotten;
SELECT is(found(), 'key 1', 'a click is counted twice');
SELECT unnest(ARRAY[is(d.ad_id, c.ad_id, 'its ad is named'), is(expected, 1::bigint, 'it should count once'), is(stored, 2::bigint, 'and counts twice')])
FROM adclick.differences d, copy c;
SELECT * FROM finish();
