-- Retention of the ledger: what is old goes from it, and nothing else; counts stay, and what
-- was counted never counts again.

\set ON_ERROR_STOP on

-- The clicks that were counted, as they stand in the log.
CREATE VIEW counted AS
SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device FROM adclick.click_log WHERE verdict = 'counted';

-- All counts there are, by order; with the tail those by ad and minute.
CREATE VIEW counts AS
SELECT 'ad' AS what, ad_id, click_minute, filter_id, NULL::bigint AS user_id, NULL::inet AS ip, sum(click_count) AS clicks FROM adclick_internal.facts(0) GROUP BY 1, 2, 3, 4
UNION ALL SELECT 'user', ad_id, click_minute, filter_id, user_id, NULL, sum(click_count) FROM adclick_internal.facts(1) GROUP BY 1, 2, 3, 4, 5
UNION ALL SELECT 'ip', ad_id, click_minute, filter_id, user_id, ip, sum(click_count) FROM adclick_internal.facts(2) GROUP BY 1, 2, 3, 4, 5, 6
UNION ALL SELECT 'answer', ad_id, NULL, NULL, NULL, NULL, adclick.ad_click_count_between(ad_id, '-infinity', 'infinity') FROM generate_series(1, 50) ad_id;

CREATE VIEW ledger_volumes AS SELECT * FROM adclick_internal.volumes WHERE shelf = 'ledger';

CREATE FUNCTION tick() RETURNS bigint LANGUAGE sql AS $$ SELECT rows_read FROM adclick.tick() $$;

-- Beginnings of the hours, 20 days ago, that the first clicks are of.
CREATE TABLE old_hours AS SELECT date_trunc('hour', now(), 'UTC') - interval '20 days' - n * interval '1 hour' AS hour FROM generate_series(1, 4) n;

CREATE FUNCTION waits(pattern text, name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	result record;
BEGIN
	SELECT * FROM adclick.apply_retention() INTO result;
	RETURN NEXT is(result.volumes_dropped, 0, name || ': none is dropped');
	RETURN NEXT alike(coalesce(result.waits, 'it does not wait'), pattern, name || ': why');
END
$$;

SELECT no_plan();
SELECT setseed(0.55) AS seeded \gset
\set name adclick.raw_retention
\set value 86400
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset

-- Off, as it is from the beginning: nothing is dropped, and there is one volume.
UPDATE ledger_volumes SET opened_at = now() - interval '200 days';
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'off: nothing to do') FROM adclick.apply_retention() a;
SELECT is(count(*), 1::bigint, 'one volume') FROM ledger_volumes;

-- The first clicks, in runs that are final, and a delta.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, (SELECT min(hour) FROM old_hours) + random() * interval '4 hours', user_id, ip, country, region, device
FROM oracle.random_clicks(3000, '4 hours');
SELECT tick(), oracle.compact() \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, country) SELECT gen_random_uuid(), i % 5, hour + interval '7 minutes', i, repeat('x', 70) FROM generate_series(1, 20) i, old_hours;
SELECT tick() \gset
SELECT cmp_ok(count(*), '>', 10::bigint, 'some are unpacked') FROM adclick_internal.unpacked_clicks;
SELECT oracle.compact() \gset
SELECT is_empty('SELECT * FROM adclick_internal.runs WHERE sort_order = 3 AND is_delta', 'all of the ledger is final');
CREATE TABLE first AS TABLE counted;
SELECT cmp_ok(count(*), '>', 2000::bigint, 'the first clicks') FROM first;

-- An order of settings in which duplicates could not be told.
\set name adclick.ledger_retention
\set value 89280
\i test/lib/set.psql
SELECT unnest(ARRAY[is((code, message), ('55000'::text, 'adclick.ledger_retention is too short for adclick.raw_retention'::text), 'too short: ' || detail),
	is(hint, 'Set adclick.ledger_retention to 89295 min or more, or lower adclick.raw_retention.', 'with a hint')])
FROM oracle.refused('SELECT adclick.apply_retention()');
SELECT unnest(ARRAY[is(health, 'warning', 'the health warns'), alike(reason, 'retention of the ledger waits: adclick.ledger_retention is too short for adclick.raw_retention%', 'and says why')]) FROM adclick.health();
SELECT is(count(*), 1::bigint, 'nothing was changed') FROM ledger_volumes;

-- Long enough: another volume is opened, once.
\set value 129600
\i test/lib/set.psql
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'nothing is due') FROM adclick.apply_retention() a;
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'nor again') FROM adclick.apply_retention() a;
SELECT is(array_agg(volume ORDER BY volume), '{0,1}', 'but there are two volumes') FROM ledger_volumes;

-- More clicks: new ones, late ones of an hour of the first, and copies of both.
SELECT oracle.send_clicks(2000, '3 hours') \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, (SELECT max(hour) FROM old_hours) + random() * interval '59 minutes', user_id, ip, country, region, device
FROM oracle.random_clicks(200, '1 hour') WHERE clicked_at IS NOT NULL;
SELECT oracle.send_copies(500) \gset
SELECT tick() \gset
SELECT is_empty('SELECT * FROM oracle.wrong_verdicts()', 'copies of the first are told');
SELECT oracle.compact() \gset
SELECT is(array_agg(DISTINCT volume ORDER BY volume), '{0,1,NULL}', 'runs are in both') FROM adclick_internal.runs WHERE sort_order = 3 OR volume IS NULL;
SELECT is_empty($$SELECT * FROM adclick_internal.runs r WHERE sort_order = 3 AND volume IS NOT NULL AND NOT EXISTS (SELECT FROM adclick_internal.ledger_0 WHERE run_id = r.run_id AND r.volume = 0)
	AND NOT EXISTS (SELECT FROM adclick_internal.ledger_1 WHERE run_id = r.run_id AND r.volume = 1)$$, 'each in its table');
SELECT is(count(*), 0::bigint, 'other final runs are in none') FROM adclick_internal.segments s JOIN adclick_internal.runs r USING (run_id) WHERE sort_order = 3;
CREATE TABLE counts_before AS TABLE counts;
CREATE TABLE counted_before AS TABLE counted;

-- Due, but a copy may arrive.
UPDATE ledger_volumes SET opened_at = now() - interval '100 days' WHERE volume = 1;
SELECT waits('it has clicks up to %, of which copies may still arrive', 'clicks may be as old as those of the volume');
SELECT is(array_agg(volume ORDER BY volume), '{0,1,2}', 'a volume is opened all the same') FROM ledger_volumes;
SELECT alike(reason, 'retention of the ledger waits: it has clicks up to %', 'overdue, the health says so') FROM adclick.health();
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT waits('it has clicks up to %, of which copies may still arrive', 'what waits is judged by the settings before');
SELECT tick() \gset

-- An id tells a time up to a day from the click's, and the bucket may begin a window before that.
CREATE FUNCTION hours_since_last() RETURNS int LANGUAGE sql AS $$
SELECT ceil(extract(epoch FROM now() - max(last_minute)) / 3600)::int FROM adclick_internal.runs WHERE sort_order = 3 AND volume = 0
$$;
SELECT 60 * (hours_since_last() - 12) AS value \gset
\i test/lib/set.psql
SELECT waits('it has clicks up to %, of which copies may still arrive', 'half a day too early');
\set name adclick.dedup_window
\set value 25200
\i test/lib/set.psql
\set name adclick.raw_retention
SELECT 60 * (hours_since_last() - 24 - 4) AS value \gset
\i test/lib/set.psql
SELECT waits('it has clicks up to %, of which copies may still arrive', 'less than a window too early');
SELECT 60 * (hours_since_last() - 24 - 9) AS value \gset
\i test/lib/set.psql
BEGIN;
SELECT is(volumes_dropped, 1, 'a window and a day later it may go') FROM adclick.apply_retention();
ROLLBACK;
\set name adclick.dedup_window
\set value 600
\i test/lib/set.psql
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql

-- The clock went back: nothing is known of how old anything is.
BEGIN;
UPDATE ledger_volumes SET opened_at = now() + interval '1 minute' WHERE volume = 2;
SELECT waits('the clock is behind what it was%', 'a volume opened in the future');
ROLLBACK;

-- Some hours are reconciled: those before the first of them are from when none were, others have to be.
BEGIN;
SELECT adclick.reconcile_hour(date_trunc('hour', now(), 'UTC') - interval '1 hour', date_trunc('hour', now(), 'UTC')) \gset
SELECT is(volumes_dropped, 1, 'an hour of today') FROM adclick.apply_retention();
ROLLBACK;
SELECT adclick.reconcile_hour(min(hour), min(hour) + interval '1 minute') FROM old_hours \gset
SELECT waits('the hour from %' || (SELECT min(hour) + interval '1 hour' FROM old_hours) || '% on has not been reconciled%', 'the first of them');
CALL adclick.reconcile('-infinity', 'infinity', only_changed => true);
SELECT is(hours[1], (SELECT min(hour) + interval '1 hour' FROM old_hours), 'what was reconciled is not, again') FROM adclick.reconciliations WHERE only_changed;
SELECT is_empty('SELECT * FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL', 'no differences');
SELECT is(adclick.reconcile_hour('-infinity', 'infinity', only_changed => true), false, 'nothing has changed');
SELECT is(hours, '{}', 'no hour is left') FROM adclick.reconciliations ORDER BY reconciliation_id DESC LIMIT 1;
-- one gets a click more, and one differs
\set value 86400
\i test/lib/set.psql
SELECT tick() \gset
INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT 7, max(hour) + interval '30 minutes' FROM old_hours;
SELECT tick() \gset
\set value 60
\i test/lib/set.psql
SELECT tick() \gset
SELECT waits('the hour from %' || (SELECT max(hour) FROM old_hours) || '% on has not been reconciled%', 'an hour with a late click');
SELECT adclick.reconcile_hour('-infinity', 'infinity', only_changed => true) \gset
SELECT is(hours, ARRAY(SELECT max(hour) FROM old_hours), 'it is reconciled again') FROM adclick.reconciliations ORDER BY reconciliation_id DESC LIMIT 1;
BEGIN;
UPDATE adclick.reconciled_hours SET differences = 1 WHERE hour = (SELECT max(hour) FROM old_hours);
SELECT waits('the hour from %' || (SELECT max(hour) FROM old_hours) || '%, or differs', 'an hour that differs');
UPDATE adclick.reconciled_hours SET repaired = true WHERE hour = (SELECT max(hour) FROM old_hours);
SELECT is(volumes_dropped, 1, 'an hour that was repaired') FROM adclick.apply_retention();
ROLLBACK;

-- The books of reconciliation end a year after the ledger, but for the last hour in them.
CREATE VIEW books AS SELECT 'hour' AS book, hour FROM adclick.reconciled_hours UNION ALL SELECT 'difference', hour FROM adclick.differences
UNION ALL SELECT 'call', started_at FROM adclick.reconciliations;
CREATE FUNCTION keep_books(VARIADIC days int[]) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.reconciled_hours SELECT date_trunc('hour', now(), 'UTC') - d * interval '1 day', now(), 1, 0, false, NULL FROM unnest(days) d;
INSERT INTO adclick.differences SELECT date_trunc('hour', now(), 'UTC') - d * interval '1 day', 'ad', NULL, d, NULL, NULL, NULL, 1, 2 FROM unnest(days) d;
INSERT INTO adclick.reconciliations (since, until, repair, only_changed, started_at, finished_at, hours, hours_done, clicks, differences)
SELECT '-infinity', 'infinity', false, false, now() - d * interval '1 day', now(), '{}', 0, 0, 0 FROM unnest(days) d;
$$;
BEGIN;
CREATE TABLE books_before AS TABLE books;
SELECT keep_books(380) AS kept \gset
INSERT INTO books_before TABLE books;
SELECT keep_books(400, 500) AS kept \gset
SELECT is(volumes_dropped, 1, 'a volume is dropped') FROM adclick.apply_retention();
SELECT is_empty('SELECT DISTINCT * FROM books_before EXCEPT SELECT * FROM books', 'what is no older than a year before its end stays in the books');
SELECT is_empty('SELECT * FROM books EXCEPT SELECT * FROM books_before', 'what is older goes');
ROLLBACK;
BEGIN;
DELETE FROM adclick.reconciled_hours;
SELECT keep_books(400, 500) AS kept \gset
UPDATE adclick_internal.state SET dropped_until = now();
SELECT is(volumes_dropped, 1, 'a volume of hours that need not be reconciled') FROM adclick.apply_retention();
SELECT is(array_agg(hour), ARRAY[date_trunc('hour', now(), 'UTC') - interval '400 days'], 'the last hour in the books stays') FROM adclick.reconciled_hours;
ROLLBACK;

-- It goes: the first clicks, and nothing else.
DELETE FROM counts_before;
INSERT INTO counts_before TABLE counts;
DELETE FROM counted_before;
INSERT INTO counted_before TABLE counted;
SELECT is((dropped, volumes_dropped, volumes_emptied, waits), ((SELECT count(*) FROM first), 1, 0, NULL::text), 'the first volume is dropped') FROM adclick.apply_retention();
SELECT is_empty(oracle.differs('counts_before', 'counts'), 'all counts are as they were');
CREATE VIEW lost AS TABLE counted_before EXCEPT ALL TABLE counted;
SELECT is_empty(oracle.differs('lost', 'first'), 'the log has lost the first clicks');
SELECT is_empty('TABLE counted EXCEPT ALL TABLE counted_before', 'and has got none');
SELECT is((dropped, balanced), ((SELECT count(*) FROM first), true), 'the books are balanced') FROM adclick.check_ledger();
SELECT is((clicks_dropped, clicks_counted), ((SELECT count(*) FROM first), (SELECT sum(clicks)::bigint FROM adclick_internal.runs WHERE sort_order = 0)), 'the status says so') FROM adclick.status;
SELECT ok(dropped_until >= (SELECT date_trunc('minute', max(clicked_at)) FROM first) AND dropped_until <= (SELECT max(clicked_at) + interval '1 day' FROM first), 'and up to when') FROM adclick.status;
SELECT cmp_ok(pg_relation_size('adclick_internal.ledger_0'), '>', 0::bigint, 'its table is there: others may see it');
-- the session itself is in the middle of reading it
BEGIN;
DECLARE reader CURSOR FOR SELECT * FROM adclick_internal.ledger_0;
MOVE reader;
SELECT is((volumes_emptied, waits), (0, NULL::text), 'a cursor reads its table') FROM adclick.apply_retention();
COMMIT;
SELECT is((dropped, volumes_dropped, volumes_emptied, waits), (0::bigint, 0, 1, NULL::text), 'now none does') FROM adclick.apply_retention();
SELECT is(pg_total_relation_size('adclick_internal.ledger_0') <= 8192 + 16384, true, 'it is empty');
SELECT is(array_agg(volume ORDER BY volume), '{1,2}', 'the volume is gone') FROM ledger_volumes;
SELECT is(health, 'ok', 'all is well') FROM adclick.health();
SELECT is_empty(oracle.differs('counts_before', 'counts'), 'all counts are as they were, still');
SELECT cmp_ok(count(*), '<', (SELECT count(*) FROM first WHERE octet_length(country) > 64), 'unpacked ones have gone with it') FROM adclick_internal.unpacked_clicks;

-- What comes again, or for the first time, of the time that was dropped is too old, whatever is set now; for questions, too.
\set value 86400
\i test/lib/set.psql
SELECT tick() \gset
CREATE TABLE sent (LIKE adclick.clicks);
INSERT INTO sent SELECT click_id, ad_id, clicked_at, user_id, NULL, ip, country, region, device FROM first WHERE click_id IS NOT NULL AND clicked_at IS NOT NULL LIMIT 300;
INSERT INTO sent SELECT gen_random_uuid(), 3, clicked_at, 5, NULL, ip, country, region, device FROM first WHERE clicked_at IS NOT NULL LIMIT 30;
CREATE TABLE discarded_before AS SELECT reason, count(*) FROM adclick.discarded_clicks GROUP BY 1;
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device) SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM sent;
SELECT is_empty(oracle.differs('counts_before', 'counts'), 'in the tail, they do not count');
SELECT is((counted, duplicates, discarded), (0::bigint, 0::bigint, (SELECT count(*) FROM sent)), 'a tick sets them aside') FROM adclick.tick();
SELECT is((SELECT count(*) FROM adclick.discarded_clicks WHERE reason = 'too old') - (SELECT coalesce(max(count), 0) FROM discarded_before WHERE reason = 'too old'), (SELECT count(*) FROM sent), 'as too old');
SELECT is_empty(oracle.differs('counts_before', 'counts'), 'and all counts are as they were');
-- what is kept is told, and what has no key can be no copy
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM counted WHERE click_id IS NOT NULL AND clicked_at > now() - interval '1 day' LIMIT 300;
SELECT is_empty(oracle.differs('counts_before', 'counts'), 'copies of what is kept, in the tail');
SELECT is((rows_read, duplicates), (300::bigint, 300::bigint), 'they are duplicates') FROM adclick.tick();
-- another rule: what has no key by it may have had one by that of before
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT click_id, ad_id, clicked_at FROM first WHERE click_id IS NOT NULL AND clicked_at IS NOT NULL LIMIT 20;
SELECT is_empty(oracle.differs('counts_before', 'counts'), 'keys of a former rule, in the tail');
SELECT is((rows_read, discarded), (20::bigint, 20::bigint), 'they are too old') FROM adclick.tick();
\set value click_id
\i test/lib/set.psql
SELECT tick() \gset
SELECT is(balanced, true, 'the books are balanced') FROM adclick.check_ledger();

-- Hours whose clicks have gone are not counted anew, nor compared; others are.
SELECT is((code, message), ('55000'::text, 'the ledger of adclick no longer has all clicks of these hours'::text), 'recompute is refused: ' || detail || hint)
FROM old_hours, oracle.refused(format('SELECT adclick.recompute(%L, %L)', hour, hour + interval '1 hour')) ORDER BY hour DESC LIMIT 1;
SELECT is(code, '55000', 'all hours are, too') FROM oracle.refused($$SELECT adclick.recompute('-infinity', 'infinity')$$);
SELECT is(adclick.recompute(whole, 'infinity'), (SELECT count(*) FROM counted WHERE coalesce(clicked_at, received_at) >= whole), 'the others are counted anew')
FROM (SELECT date_trunc('hour', dropped_until, 'UTC') + interval '1 hour' AS whole FROM adclick.status) s;
SELECT is_empty(oracle.differs('counts_before', 'counts'), 'and are right');
CREATE TABLE reconciled_before AS SELECT * FROM adclick.reconciled_hours h WHERE hour IN (SELECT hour FROM old_hours);
CALL adclick.reconcile('-infinity', 'infinity');
SELECT is_empty('SELECT * FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL', 'no differences');
SELECT is_empty('SELECT * FROM reconciled_before EXCEPT SELECT * FROM adclick.reconciled_hours', 'what was found of the old hours stands');
SELECT ok(hours[1] > dropped_until AND cardinality(hours) > 3, 'they were not compared again') FROM adclick.status, adclick.reconciliations ORDER BY reconciliation_id DESC LIMIT 1;
-- dropped while a call is under way
INSERT INTO adclick.reconciliations (since, until, repair, only_changed, started_at, hours, hours_done, clicks, differences)
SELECT '-infinity', '2040-01-01', true, false, now(), ARRAY[max(hour)], 0, 0, 0 FROM old_hours;
SELECT is(adclick.reconcile_hour('-infinity', '2040-01-01', true), false, 'an hour dropped meanwhile');
SELECT is_empty('SELECT * FROM reconciled_before EXCEPT SELECT * FROM adclick.reconciled_hours', 'what was found before stands');
SELECT is(health, 'ok', 'it is no difference') FROM adclick.health();

-- All that is due goes at once; the last volume stays.
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT tick(), oracle.compact() \gset
DELETE FROM adclick.reconciled_hours;
DELETE FROM ledger_volumes;
INSERT INTO adclick_internal.volumes (shelf, volume, opened_at) SELECT 'ledger', v, now() - interval '200 days' + v * interval '1 day' FROM generate_series(3, 33) v;
UPDATE adclick_internal.runs SET volume = 33 WHERE sort_order = 3 AND volume IS NOT NULL;
SELECT is((dropped, volumes_dropped), (0::bigint, 30), 'thirty of them') FROM adclick.apply_retention();
SELECT is(volumes_emptied, 30, 'and their tables are emptied') FROM adclick.apply_retention();
SELECT is(array_agg(volume ORDER BY volume), '{33,34}', 'two are left') FROM ledger_volumes;
-- none is opened whose table is in use
DELETE FROM ledger_volumes;
INSERT INTO adclick_internal.volumes (shelf, volume, opened_at) SELECT 'ledger', v, now() - interval '50 days' FROM generate_series(3, 34) v;
SELECT is(a::record, (0::bigint, 0, 0, 0, 0, NULL::text), 'no table is free') FROM adclick.apply_retention() a;
SELECT is(max(volume), 34, 'the last volume goes on') FROM ledger_volumes;
ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf() AS reloaded \gset
SELECT * FROM finish();
