-- What was not counted goes with the volume of the ledger that was written to meanwhile: what
-- is shown, by the test's own notes; the books, which stay true of each reason; and that nobody
-- who reads it keeps a table from being emptied that he does not need.

\set ON_ERROR_STOP on

CREATE VIEW ledger_volumes AS SELECT * FROM adclick_internal.volumes WHERE shelf = 'ledger';

-- What has been set aside, with the volume of that time.
CREATE TABLE notes (era int, LIKE adclick.discarded_clicks);
CREATE VIEW kept AS SELECT * FROM notes WHERE era >= (SELECT min(volume) FROM ledger_volumes WHERE dropped_at IS NULL);
CREATE VIEW gone AS SELECT * FROM notes EXCEPT ALL TABLE kept;

-- What ticks say that they set aside; what is there, in the tables that the volumes have.
CREATE TABLE said (volume int, duplicates bigint, discarded bigint);
CREATE FUNCTION rows_of(volume int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM adclick_internal.discarded_%s', volume % 32) INTO n;
	RETURN n;
END
$$;
CREATE FUNCTION size_of(volume int) RETURNS bigint LANGUAGE sql AS $$ SELECT pg_relation_size(format('adclick_internal.discarded_%s', volume % 32)) $$;

CREATE FUNCTION tick() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	t record;
	n bigint := 0;
BEGIN
	LOOP
		SELECT * FROM adclick.tick() INTO t;
		n := n + t.rows_read;
		INSERT INTO said SELECT max(volume), t.duplicates, t.discarded FROM ledger_volumes;
		EXIT WHEN NOT t.more;
	END LOOP;
	RETURN n;
END
$$;

-- Clicks of some hours, so many days ago, and what does not count, for each reason that can be made; taken, in some ticks, and packed.
CREATE FUNCTION pass_era(days_ago int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR round IN 1 .. 2 LOOP
		PERFORM oracle.send_past_clicks(300 + (random() * 300)::int, '3 hours', days_ago * interval '1 day');
		PERFORM oracle.send_copies(20 + (random() * 100)::int);
		PERFORM tick();
		PERFORM oracle.send_copies(20 + (random() * 100)::int);
		INSERT INTO adclick.clicks (ad_id, clicked_at, user_id) SELECT 3, now() - interval '100 days', i FROM generate_series(1, 1 + (random() * 9)::int) i;
		INSERT INTO adclick.clicks (ad_id, clicked_at, ip) SELECT 3, now() + interval '20 days', '10.1.2.3' FROM generate_series(1, 1 + (random() * 9)::int) i;
		INSERT INTO adclick.clicks (click_id, ad_id, country) SELECT overlay(gen_random_uuid()::text PLACING '6164636c-6963-8001' FROM 1)::uuid, 3, repeat(md5(i::text), 100) FROM generate_series(1, 1 + (random() * 9)::int) i;
		INSERT INTO adclick.clicks (click_id, ad_id) SELECT overlay(gen_random_uuid()::text PLACING '6164636c-6963-8002' FROM 1)::uuid, 3 FROM generate_series(1, 1 + (random() * 9)::int) i;
		PERFORM tick();
	END LOOP;
	PERFORM oracle.compact();
	INSERT INTO notes SELECT (SELECT max(volume) FROM ledger_volumes), d.* FROM (TABLE adclick.discarded_clicks
		EXCEPT ALL SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, reason, discarded_at FROM notes) d;
END
$$;

CREATE VIEW noted AS SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, reason, discarded_at FROM kept;
CREATE VIEW in_log AS SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, verdict FROM adclick.click_log WHERE verdict <> 'counted';
CREATE VIEW noted_of_log AS SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, reason FROM kept;

-- The numbers of the status, by reason, and those of what is shown and what has gone.
CREATE VIEW stated AS SELECT u.* FROM adclick.status, LATERAL (VALUES ('in the future', in_future), ('too old', too_old), ('duplicate', duplicates), ('undecided', undecided),
	('forged impression', forged), ('expired impression', expired), ('user limit', user_limit), ('address limit', address_limit)) u (reason, n) WHERE n > 0;
CREATE VIEW shown AS SELECT reason, sum(n)::bigint AS n FROM (SELECT reason, count(*) AS n FROM adclick.discarded_clicks GROUP BY 1 UNION ALL SELECT reason, count(*) FROM gone GROUP BY 1) s GROUP BY 1;

CREATE FUNCTION is_right(name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is_empty(oracle.differs('adclick.discarded_clicks', 'noted'), name || ': what is shown');
	RETURN NEXT is_empty(oracle.differs('in_log', 'noted_of_log'), name || ': in the log');
	RETURN NEXT is_empty(oracle.differs('stated', 'shown'), name || ': the numbers by reason');
	RETURN NEXT is((SELECT discarded_dropped FROM adclick.status), (SELECT count(*) FROM gone), name || ': so many have gone');
	RETURN NEXT is(taken, counted + (SELECT count(*) FROM notes), name || ': all that was taken') FROM adclick.check_ledger();
	RETURN NEXT is(balanced, true, name || ': the books') FROM adclick.check_ledger();
	RETURN NEXT is_empty('SELECT * FROM adclick_internal.find_missing()', name || ': nothing is missing');
END
$$;

-- A volume becomes so old that it can be dropped.
CREATE FUNCTION age(closed int) RETURNS void LANGUAGE sql AS $$
UPDATE ledger_volumes SET opened_at = now() - interval '11 days' + volume * interval '1 minute' WHERE volume <= closed + 1
$$;

SELECT no_plan();
\set name adclick.raw_retention
\set value 86400
\i test/lib/set.psql
SELECT tick() \gset

-- Kept for ever, in the volume there is; its number, near the last table, is that of an old database.
UPDATE ledger_volumes SET volume = 62, opened_at = now() - interval '40 days';
SELECT pass_era(25) \gset
SELECT is((volumes_dropped, waits), (0, NULL::text), 'off: nothing goes') FROM adclick.apply_retention();
SELECT is(rows_of(62), (SELECT count(*) FROM notes), 'off: all is in the table of the volume');
SELECT cmp_ok(count(DISTINCT reason), '=', 5::bigint, 'of five reasons') FROM notes;
SELECT is_right('off');

-- On: some volumes.
\set name adclick.ledger_retention
\set value 129600
\i test/lib/set.psql
SELECT adclick.apply_retention() AS applied \gset
SELECT is(max(volume), 63, 'a volume is opened') FROM ledger_volumes;
SELECT pass_era(22) \gset
UPDATE ledger_volumes SET opened_at = now() - interval '20 days' WHERE volume = 63;
SELECT adclick.apply_retention() AS applied \gset
SELECT is(max(volume), 64, 'another one') FROM ledger_volumes;
SELECT pass_era(19) \gset
UPDATE ledger_volumes SET opened_at = now() - interval '10 days' WHERE volume = 64;
SELECT adclick.apply_retention() AS applied \gset
SELECT is(max(volume), 65, 'a third one') FROM ledger_volumes;
SELECT pass_era(16) \gset
SELECT is(rows_of(volume), (SELECT sum(duplicates + discarded)::bigint FROM said s WHERE s.volume = v.volume), 'what ticks say is in the table of volume ' || volume) FROM ledger_volumes v;
SELECT is_right('four volumes');
CALL adclick.reconcile('-infinity', 'infinity');
SELECT is_empty('SELECT * FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL', 'four volumes: no differences');

-- Nothing that is missing, or there twice, goes unnoticed; and what the books of volumes have lost goes on to be shown.
CREATE FUNCTION balanced_after(statement text, OUT balanced boolean, OUT shown bigint) LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE statement;
		SELECT c.balanced INTO balanced FROM adclick.check_ledger() c;
		SELECT count(*) INTO shown FROM adclick.discarded_clicks;
		RAISE EXCEPTION USING ERRCODE = 'XXXXX';
	EXCEPTION WHEN SQLSTATE 'XXXXX' THEN
	END;
END
$$;
SELECT is(balanced, true, 'the books are balanced if nothing is done') FROM balanced_after('SELECT 1');
SELECT is(balanced, false, 'not after ' || statement)
FROM unnest(ARRAY['DELETE FROM adclick_internal.discarded_30 WHERE ctid = (SELECT min(ctid) FROM adclick_internal.discarded_30)',
	'DELETE FROM adclick_internal.discarded_1 WHERE ctid = (SELECT max(ctid) FROM adclick_internal.discarded_1)',
	'INSERT INTO adclick_internal.discarded_9 SELECT * FROM adclick_internal.discarded_31 LIMIT 1',
	'UPDATE adclick_internal.discarded_0 SET reason = ''too old'' WHERE reason = ''duplicate''',
	'DELETE FROM ledger_volumes WHERE volume = 62', 'DELETE FROM ledger_volumes WHERE volume <= 64',
	'UPDATE ledger_volumes SET dropped_at = now(), dropped_by = ''3'' WHERE volume = 62',
	'UPDATE ledger_volumes SET in_future = 1, too_old = -1, duplicates = 0, undecided = 0, forged = 0, expired = 0, user_limit = 0, address_limit = 0 WHERE volume = 62',
	'UPDATE ledger_volumes SET in_future = 1, too_old = 0, duplicates = 0, undecided = 0, forged = 0, expired = 0, user_limit = 0, address_limit = 0 WHERE volume = 62',
	'UPDATE adclick_internal.state SET discarded_dropped = discarded_dropped + 1']) statement, balanced_after(statement);
SELECT is(shown, (SELECT count(*) FROM notes), 'shown all the same: ' || statement)
FROM unnest(ARRAY['DELETE FROM ledger_volumes WHERE volume = 62', 'DELETE FROM ledger_volumes']) statement, balanced_after(statement);

-- The first volume goes: at once from what is shown, later from its table.
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT tick() \gset
UPDATE ledger_volumes SET opened_at = now() - interval '9 days' + volume * interval '1 minute' WHERE volume IN (63, 64);
\set name adclick.ledger_retention
\set value 14400
\i test/lib/set.psql
SELECT is((volumes_dropped, volumes_emptied, waits), (0, 0, NULL::text), 'none is due') FROM adclick.apply_retention();
SELECT age(62) \gset
SELECT is((volumes_dropped, volumes_emptied, waits), (1, 0, NULL::text), 'one is') FROM adclick.apply_retention();
SELECT is((count(*) > 0, count(DISTINCT reason)), (true, 5::bigint), 'what was set aside with it') FROM gone;
SELECT is(rows_of(62), (SELECT count(*) FROM gone), 'is in its table: others may see it');
SELECT is_right('dropped');
SELECT is((volumes_dropped, volumes_emptied, waits), (0, 1, NULL::text), 'now none does') FROM adclick.apply_retention();
SELECT is(size_of(62), 0::bigint, 'its table is empty');
SELECT is_right('emptied');
SELECT is(health, 'ok', 'all is well') FROM adclick.health();

-- Hours that are whole agree with the ledger, though copies of their clicks may have gone.
CALL adclick.reconcile('-infinity', 'infinity');
SELECT is_empty('SELECT * FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL', 'no differences');
DELETE FROM adclick.reconciled_hours;

-- Copies of what has gone are too old, and go with the volume of now.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT click_id, ad_id, clicked_at FROM gone WHERE reason = 'duplicate';
SELECT is(tick(), (SELECT count(*) FROM gone WHERE reason = 'duplicate'), 'copies come again');
INSERT INTO notes SELECT 65, d.* FROM adclick.discarded_clicks d WHERE discarded_at = (SELECT max(discarded_at) FROM adclick.discarded_clicks);
SELECT is(count(*), (SELECT count(*) FROM gone WHERE reason = 'duplicate'), 'they are too old') FROM notes WHERE discarded_at = (SELECT max(discarded_at) FROM notes) AND reason = 'too old';
SELECT is_right('copies of what has gone');

-- Who reads what is shown, later than the drop, uses no table that was dropped; who reads that, or what it keeps apart, does.
SELECT age(63) \gset
SELECT is(volumes_dropped, 1, 'the second volume is dropped') FROM adclick.apply_retention();
CREATE FUNCTION apart(volume int) RETURNS text LANGUAGE sql AS $$ SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = format('adclick_internal.discarded_%s', volume % 32)::regclass $$;
SELECT apart(63) \gset
BEGIN;
SELECT count(*) AS read FROM adclick_internal.discarded_31 \gset
PREPARE TRANSACTION 'reader of the table';
SELECT is(volumes_emptied, 0, 'somebody reads its table') FROM adclick.apply_retention();
SELECT is_right('in use');
CREATE TABLE a_user AS SELECT user_id FROM gone WHERE user_id > 100 LIMIT 1;
SELECT is(code, '55006', 'nobody is forgotten meanwhile: ' || message) FROM a_user, oracle.refused(format('SELECT adclick.forget_user(%s)', user_id));
ROLLBACK PREPARED 'reader of the table';
BEGIN;
CREATE TEMP TABLE as_dropped ON COMMIT DROP AS SELECT * FROM ledger_volumes WHERE volume = 63;
UPDATE ledger_volumes SET dropped_at = NULL, dropped_by = NULL WHERE volume = 63;
DECLARE reader CURSOR FOR SELECT * FROM adclick.discarded_clicks;
MOVE reader;
UPDATE ledger_volumes v SET dropped_at = d.dropped_at, dropped_by = d.dropped_by FROM as_dropped d WHERE v.volume = 63;
SELECT is(volumes_emptied, 0, 'a cursor of this session, from before it was dropped, reads its table') FROM adclick.apply_retention();
SELECT is(code, '55006', 'nor is anybody forgotten beside it: ' || message) FROM a_user, oracle.refused(format('SELECT adclick.forget_user(%s)', user_id));
COMMIT;
BEGIN;
SELECT count(*) AS read FROM :apart \gset
PREPARE TRANSACTION 'reader of long texts';
SELECT is(volumes_emptied, 0, 'somebody reads its long texts') FROM adclick.apply_retention();
ROLLBACK PREPARED 'reader of long texts';
BEGIN;
SELECT (SELECT count(*) FROM adclick.discarded_clicks) + (SELECT count(*) FROM adclick.click_log) + (SELECT taken FROM adclick.check_ledger()) AS read \gset
PREPARE TRANSACTION 'reader of what is shown';
SELECT is(volumes_emptied, 1, 'somebody reads what is shown') FROM adclick.apply_retention();
ROLLBACK PREPARED 'reader of what is shown';
SELECT is(size_of(63) + pg_relation_size(apart(63)), 0::bigint, 'its table is empty, and what it kept apart');
SELECT is_right('emptied in spite of a reader');

-- A user is forgotten: in all volumes that are there, and in the table of one that was dropped.
SELECT age(64) \gset
SELECT is(volumes_dropped, 1, 'the third volume is dropped') FROM adclick.apply_retention();
SELECT is(max(volume), 66, 'one is opened') FROM ledger_volumes;
\set name adclick.raw_retention
\set value 7200
\i test/lib/set.psql
SELECT tick() \gset
SELECT pass_era(2) \gset
SELECT is(array_agg(volume ORDER BY volume), '{65,66}', 'two volumes are there, and the table of none else') FROM ledger_volumes WHERE dropped_at IS NULL;
DELETE FROM a_user;
INSERT INTO a_user SELECT k.user_id FROM kept k WHERE user_id BETWEEN 1 AND 2 AND era = 65 AND reason = 'too old' LIMIT 1;
SELECT is(bool_and(n > 0), true, 'he is in both') FROM (SELECT (SELECT count(*) FROM kept WHERE user_id = u.user_id AND era = v) AS n FROM a_user u, generate_series(65, 66) v) s;
SELECT count(*) AS his FROM adclick.click_log WHERE user_id = (SELECT user_id FROM a_user) \gset
SELECT is(adclick.forget_user(user_id), :his::bigint, 'he is forgotten') FROM a_user;
UPDATE notes SET user_id = NULL, ip = NULL WHERE user_id = (SELECT user_id FROM a_user) AND era >= 65;
SELECT is_right('forgotten');
SELECT is_empty(format('SELECT 1 FROM adclick_internal.discarded_%s WHERE user_id = (SELECT user_id FROM a_user)', n), 'he is not in table ' || n) FROM unnest('{0, 1, 2, 30, 31}'::int[]) n;

-- Rows come as they are asked for, from where one is now, and as often as one asks.
SELECT is((SELECT count(*) FROM (SELECT FROM adclick.discarded_clicks LIMIT 3) d), 3::bigint, 'some rows');
SELECT is(sum(n)::bigint, (SELECT count(*) FROM kept WHERE ad_id BETWEEN 1 AND 5), 'for each of some ads')
FROM (SELECT (SELECT count(*) FROM adclick.discarded_clicks d WHERE d.ad_id = a) AS n FROM generate_series(1, 5) a) s;
SELECT is(count(ad_id), 5::bigint, 'one of each') FROM (SELECT (SELECT ad_id FROM adclick.discarded_clicks d WHERE d.ad_id >= a LIMIT 1) FROM generate_series(1, 5) a) s;
BEGIN;
DECLARE c CURSOR FOR SELECT reason FROM adclick.discarded_clicks;
MOVE 7 IN c;
SAVEPOINT s;
MOVE 7 IN c;
ROLLBACK TO s;
CREATE FUNCTION rest() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	c CONSTANT refcursor := 'c';
	n bigint;
BEGIN
	MOVE FORWARD ALL IN c;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
SELECT is(rest(), (SELECT count(*) - 14 FROM kept), 'by a cursor');
COMMIT;

-- A number that no volume can have.
BEGIN;
UPDATE adclick_internal.volumes SET volume = -5 WHERE shelf = 'ledger' AND volume = (SELECT max(volume) FROM ledger_volumes);
SELECT is((code, message), ('XX001'::text, 'the volumes of adclick are damaged'::text), 'damaged books: ' || statement)
FROM unnest('{TABLE adclick.discarded_clicks, SELECT adclick.check_ledger()}'::text[]) statement, oracle.refused(statement);
ROLLBACK;

-- Who may read it: who has SELECT on it, or on the log, which has it too; nobody else, also by the function behind it.
CREATE ROLE tap_auditor;
CREATE ROLE tap_logger;
CREATE ROLE tap_nobody;
GRANT USAGE ON SCHEMA adclick, oracle TO tap_auditor, tap_logger, tap_nobody;
GRANT USAGE ON SCHEMA adclick_internal TO tap_nobody;
GRANT SELECT ON adclick.discarded_clicks TO tap_auditor;
GRANT SELECT ON adclick.click_log TO tap_logger;
CREATE VIEW through AS TABLE adclick.discarded_clicks;
GRANT SELECT ON through TO tap_nobody;
SELECT count(*) AS kept FROM kept \gset
SET ROLE tap_auditor;
SELECT is(count(*), :kept::bigint, 'SELECT on it') FROM adclick.discarded_clicks;
SELECT is((code, message), ('42501'::text, 'permission denied for view click_log'::text), 'is none on the log') FROM oracle.refused('TABLE adclick.click_log');
SET ROLE tap_logger;
SELECT is(count(*), :kept::bigint, 'SELECT on the log') FROM adclick.click_log WHERE verdict <> 'counted';
SELECT is((code, message), ('42501'::text, 'permission denied for view discarded_clicks'::text), 'is none on it') FROM oracle.refused('TABLE adclick.discarded_clicks');
SET ROLE tap_nobody;
SELECT is((code, message), ('42501'::text, 'permission denied for view discarded_clicks'::text), 'without: ' || statement)
FROM unnest('{TABLE adclick.discarded_clicks, SELECT * FROM adclick_internal.discarded(), SELECT adclick_internal.discarded(), TABLE through}'::text[]) statement, oracle.refused(statement);
RESET ROLE;

ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf() AS reloaded \gset
SELECT * FROM finish();
