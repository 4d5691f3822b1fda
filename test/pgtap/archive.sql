-- The archive: clicks are written to files before they are dropped, and come back from there
-- as they were; what is no file of ours brings nothing.

\set ON_ERROR_STOP on
SET client_min_messages = error;

-- The clicks that were counted, as they stand in the log.
CREATE VIEW counted AS
SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device FROM adclick.click_log WHERE verdict = 'counted';

CREATE VIEW counts AS
SELECT 'ad' AS what, ad_id, click_minute, filter_id, NULL::bigint AS user_id, NULL::inet AS ip, sum(click_count) AS clicks FROM adclick_internal.facts(0) GROUP BY 1, 2, 3, 4
UNION ALL SELECT 'user', ad_id, click_minute, filter_id, user_id, NULL, sum(click_count) FROM adclick_internal.facts(1) GROUP BY 1, 2, 3, 4, 5
UNION ALL SELECT 'ip', ad_id, click_minute, filter_id, user_id, ip, sum(click_count) FROM adclick_internal.facts(2) GROUP BY 1, 2, 3, 4, 5, 6;

CREATE FUNCTION tick() RETURNS bigint LANGUAGE sql AS $$ SELECT rows_read FROM adclick.tick() $$;

-- Have the server's shell do something.
CREATE FUNCTION sh(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (SELECT 1 WHERE false) TO PROGRAM %L', command);
END
$$;

CREATE TABLE place AS SELECT '/tmp/adclick archive''s ' || gen_random_uuid() AS directory;
SELECT directory AS value FROM place \gset
SELECT format('''%s''', replace(directory, '''', '''\''''')) AS quoted FROM place \gset

CREATE FUNCTION path(of_volume int) RETURNS text LANGUAGE sql AS $$
SELECT directory || '/' || file FROM place, adclick.archived_volumes WHERE volume = of_volume
$$;
CREATE FUNCTION shell_path(of_volume int) RETURNS text LANGUAGE sql AS $$
SELECT format('''%s''', replace(path(of_volume), '''', '''\'''''))
$$;

-- What files have, by plain COPY: one row for each line.
CREATE TABLE lines (line text, click_id text, ad_id text, clicked_at text, user_id text, received_at text, ip text, country text, region text, device text,
	copies int, counted_country text, counted_region text, counted_device text, key uuid, bucket bigint, event_time timestamptz, delay bigint, flags int);
CREATE FUNCTION read_file(volume int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE lines;
	EXECUTE format('COPY lines FROM PROGRAM %L (FORMAT csv, HEADER)', 'gzip -dc < ' || shell_path(volume));
END
$$;

-- All clicks of a file, as they arrived.
CREATE VIEW clicks_of_file AS
SELECT click_id::uuid, ad_id::bigint, clicked_at::timestamptz, user_id::bigint, received_at::timestamptz, ip::inet, country, region, device
FROM lines, generate_series(1, coalesce(copies, 1)) WHERE line <> 'counted';

SELECT no_plan();
SELECT setseed(0.61) AS seeded \gset

-- The setting.
SELECT throws_ok('SET adclick.archive_directory = ''here''', '22023', NULL, 'a relative path');
SELECT throws_ok(format('SET adclick.archive_directory = %L', current_setting('data_directory') || '/archive'), '22023', NULL, 'within the data directory');
SELECT lives_ok('CALL adclick.archive_clicks()', 'without a directory nothing is written');
SELECT is(array_agg(job.command ORDER BY job_name), ARRAY['CALL adclick.archive_clicks()', 'CALL adclick.reconcile(''-infinity'', date_trunc(''day'', now(), ''UTC''), only_changed => true)'], 'what is done each night')
FROM adclick_internal.jobs() job;

\set name adclick.archive_directory
\i test/lib/set.psql
\set name adclick.raw_retention
\set value 86400
\i test/lib/set.psql
SELECT oracle.make_ads() AS made \gset

-- Clicks of old hours, in two volumes: those of the second are of the same hours, and others.
CREATE TABLE hours AS SELECT n, date_trunc('hour', now(), 'UTC') - interval '20 days' + n * interval '1 hour' AS hour FROM generate_series(-4, 4) n;
CREATE FUNCTION hour(n int) RETURNS timestamptz LANGUAGE sql AS $$ SELECT hour FROM hours h WHERE h.n = hour.n $$;
CREATE FUNCTION send(n int, first int, hours int) RETURNS void LANGUAGE sql AS $$
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT CASE WHEN random() < 0.2 THEN oracle.uuid_v7(at + (random() - 0.5) * interval '3 hours') WHEN random() < 0.1 THEN NULL ELSE gen_random_uuid() END,
	ad_id, at, 1 + user_id % 300, ip, country, region, device
FROM (SELECT r.*, hour(first) + random() * hours * interval '59.9 minutes' AS at FROM oracle.random_clicks(n, '1 hour') r) r
$$;
SELECT send(2500, -4, 4), tick() \gset
-- dimensions that the ledger has no columns for
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, country, region) SELECT gen_random_uuid(), i, hour(-2), 8, repeat('é', 33) || i, E'a "quote", \n\\.\n' || i FROM generate_series(1, 30) i;
SELECT tick(), oracle.send_copies(200) \gset
SELECT tick(), oracle.compact() \gset
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT tick(), send(800, -3, 2) \gset
-- alike in everything: without a user they have no key
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT '00000000-0000-0000-0000-000000000009', 9, hour(-3) FROM generate_series(1, 1000);
SELECT tick(), oracle.compact() \gset
SELECT cmp_ok(count(*), '>', 50::bigint, 'duplicates by user and ad') FROM adclick.discarded_clicks WHERE reason = 'duplicate';
SELECT is_empty('SELECT * FROM adclick_internal.runs WHERE sort_order = 3 AND is_delta', 'all of the ledger is final');
CREATE TABLE first AS TABLE counted;
\set name adclick.ledger_retention
\set value 129600
\i test/lib/set.psql
SELECT volumes_dropped FROM adclick.apply_retention() \gset
UPDATE adclick_internal.volumes SET opened_at = now() - interval '200 days';
SELECT volumes_dropped FROM adclick.apply_retention() \gset
\set name adclick.dedup_by
\set value click_id
\i test/lib/set.psql
SELECT tick(), send(1500, -1, 3), tick(), oracle.send_copies(200) \gset
SELECT tick(), oracle.compact() \gset
UPDATE adclick_internal.volumes SET opened_at = now() - interval '180 days' + volume * interval '1 day';
INSERT INTO adclick_internal.volumes SELECT 'ledger', 2, now() - interval '170 days', NULL, NULL, in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit FROM adclick_internal.state;
SELECT oracle.send_clicks(600, '2 hours') \gset
SELECT tick(), oracle.compact() \gset
INSERT INTO adclick_internal.volumes SELECT 'ledger', 3, now(), NULL, NULL, in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit FROM adclick_internal.state;
SELECT is(array_agg(DISTINCT volume), '{0,1,2}', 'three volumes have clicks') FROM adclick_internal.runs WHERE sort_order = 3 AND volume IS NOT NULL;
SELECT adclick.reconcile_hour('-infinity', '-infinity') \gset
DELETE FROM adclick.reconciled_hours;
SELECT is_empty('SELECT d.* FROM hours, adclick_internal.find_differences(hour, true) d', 'no differences at first');

-- Nothing is dropped that is in no file.
\set name adclick.raw_retention
\set value 60
\i test/lib/set.psql
SELECT tick() \gset
CREATE FUNCTION waits_ok(name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	result record;
BEGIN
	SELECT * FROM adclick.apply_retention() INTO result;
	RETURN NEXT is((result.volumes_dropped, result.waits), (0, 'it has not been archived, see adclick.archive_clicks()'::text), name);
END
$$;
SELECT waits_ok('a volume that was not archived stays');
SELECT unnest(ARRAY[is(health, 'warning', 'the health warns'), alike(reason, 'retention of the ledger waits: it has not been archived%', 'and says why')]) FROM adclick.health();

-- No directory; no right to it; a program that fails.
SELECT is((code, message), ('58P01'::text, format('could not find adclick.archive_directory "%s": No such file or directory', directory)), 'no directory')
FROM place, oracle.refused('SELECT adclick.archive_volume()');
SELECT waits_ok('it stays');
CREATE ROLE nobody_archives;
GRANT USAGE ON SCHEMA adclick TO nobody_archives;
SELECT throws_ok('SET ROLE nobody_archives; SELECT adclick.archive_volume()', '42501', 'permission denied for function archive_volume', 'who may not');
GRANT EXECUTE ON PROCEDURE adclick.archive_clicks() TO nobody_archives;
GRANT EXECUTE ON FUNCTION adclick.archive_volume(), adclick.restore_clicks(timestamptz, timestamptz), adclick.release_clicks() TO nobody_archives;
SELECT is((code, message, hint), ('42501'::text, 'permission denied to have the server use files of the archive'::text, 'GRANT pg_write_server_files TO nobody_archives.'::text), 'who may not write files')
FROM oracle.refused('SET ROLE nobody_archives; SELECT adclick.archive_volume()');
SELECT is((code, hint), ('42501'::text, 'GRANT pg_read_server_files TO nobody_archives.'::text), 'who may not read files')
FROM oracle.refused($$SET ROLE nobody_archives; SELECT adclick.restore_clicks('-infinity', 'infinity')$$);
SELECT sh('touch ' || :'quoted') \gset
SELECT is((code, message), ('42809'::text, format('adclick.archive_directory "%s" is not a directory', directory)), 'a file')
FROM place, oracle.refused('SELECT adclick.archive_volume()');
SELECT sh(format('rm %s; mkdir -m 700 %1$s', :'quoted')) \gset
SELECT is_empty('TABLE adclick.archived_volumes', 'the books know nothing');

-- All that is closed is written, once.  Whoever may do no more than that does it, with settings of his own.
GRANT pg_write_server_files TO nobody_archives;
SET ROLE nobody_archives;
SET datestyle = 'German'; SET timezone = 'Asia/Kathmandu'; SET extra_float_digits = -5;
CALL adclick.archive_clicks();
RESET datestyle; RESET timezone; RESET extra_float_digits; RESET ROLE;
SELECT is(array_agg(a.volume ORDER BY a.volume), '{0,1,2}', 'three volumes are in files') FROM adclick.archived_volumes a;
CREATE TABLE books AS TABLE adclick.archived_volumes;
CALL adclick.archive_clicks();
SELECT is_empty(oracle.differs('books', 'adclick.archived_volumes'), 'the same again does nothing');
SELECT is(sha256, encode(sha256(pg_read_binary_file(path(volume))), 'hex'), 'the checksum of ' || volume) FROM adclick.archived_volumes;
SELECT is(bytes, length(pg_read_binary_file(path(volume)))::bigint, 'the size of ' || volume) FROM adclick.archived_volumes;
SELECT is(j - 'lines', jsonb_build_object('version', 1, 'system_identifier', (SELECT system_identifier::text FROM pg_control_system()), 'database', current_database(),
	'volume', volume, 'first_minute', to_char(first_minute AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS+00'), 'last_minute', to_char(last_minute AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS+00'),
	'clicks', clicks, 'file', format('volume_%s.csv.gz', volume), 'format', 'csv with header', 'compression', 'gzip', 'encoding', 'UTF8', 'bytes', bytes, 'sha256', sha256),
	'what stands beside the file of ' || volume)
FROM adclick.archived_volumes, regexp_replace(path(volume), '\.csv\.gz$', '.json') beside, jsonb(pg_read_file(beside)) j;
CREATE TABLE in_files AS SELECT NULL::int AS volume, * FROM clicks_of_file LIMIT 0;
SELECT read_file(0) \gset
INSERT INTO in_files SELECT 0, * FROM clicks_of_file;
SELECT cmp_ok(max(copies), '>=', 2, 'alike clicks are one line') FROM lines;
SELECT cmp_ok(count(*), '>=', 30::bigint, 'some stand apart') FROM lines WHERE line = 'arrived';
SELECT is(count(*), (SELECT count(*) FROM lines WHERE line = 'arrived'), 'each is counted once') FROM lines WHERE line = 'counted';
SELECT is(count(*), (jsonb(pg_read_file(replace(path(0), '.csv.gz', '.json')))->>'lines')::bigint, 'lines') FROM lines;
SELECT read_file(1) \gset
INSERT INTO in_files SELECT 1, * FROM clicks_of_file;
SELECT read_file(2) \gset
INSERT INTO in_files SELECT 2, * FROM clicks_of_file;
CREATE VIEW all_in_files AS SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device FROM in_files;
SELECT is_empty('TABLE all_in_files EXCEPT ALL TABLE counted', 'what is in files is in the log');
SELECT is_empty('SELECT * FROM counted WHERE clicked_at < now() - interval ''2 days'' EXCEPT ALL TABLE all_in_files', 'and the old clicks are in files');

-- A user is forgotten: it is out of date, stays, and is written anew without him.
SELECT user_id AS forgotten FROM first JOIN adclick.discarded_clicks d USING (user_id) WHERE d.reason = 'duplicate' AND user_id NOT IN (7, 8) GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1 \gset
SELECT cmp_ok(adclick.forget_user(:forgotten), '>', 5::bigint, 'a user is forgotten');
SELECT waits_ok('a file that names him is none');
CALL adclick.archive_clicks();
SELECT cmp_ok(count(*), '>=', 1::bigint, 'it was written anew') FROM adclick.archived_volumes a JOIN books b USING (volume) WHERE a.archived_at > b.archived_at;
SELECT read_file(0) \gset
SELECT is_empty(format('SELECT * FROM lines WHERE user_id = %L', :forgotten), 'nobody is named in 0');
SELECT read_file(1) \gset
SELECT is_empty(format('SELECT * FROM lines WHERE user_id = %L', :forgotten), 'nobody is named in 1');
SELECT read_file(2) \gset
SELECT is_empty(format('SELECT * FROM lines WHERE user_id = %L', :forgotten), 'nobody is named in 2');
SELECT is_empty('TABLE adclick_internal.forgotten_users', 'nothing needs to be known of him');

-- A file that is lost before its volume goes is no file; it is written again.
SELECT sh('mv ' || shell_path(0) || ' ' || shell_path(0) || '.lost') \gset
SELECT waits_ok('a file that is gone');
CALL adclick.archive_clicks();
SELECT is(sha256, encode(sha256(pg_read_binary_file(path(0) || '.lost')), 'hex'), 'it is the same again') FROM adclick.archived_volumes WHERE volume = 0;

-- A file of the database that this one was copied from is none: that one may write it anew, without someone who is forgotten there.
CREATE TABLE own_file AS SELECT file FROM adclick.archived_volumes WHERE volume = 0;
SELECT sh(format('cp -r %1$s/%2$s %1$s/1_2_3', :'quoted', split_part(file, '/', 1))) FROM own_file \gset
UPDATE adclick.archived_volumes SET file = '1_2_3/volume_0.csv.gz' WHERE volume = 0;
SELECT waits_ok('a file of another database');
CALL adclick.archive_clicks();
SELECT is(file, (SELECT file FROM own_file), 'it has one of its own again') FROM adclick.archived_volumes WHERE volume = 0;

-- They go.
CREATE TABLE counts_before AS TABLE counts;
CREATE TABLE counted_before AS TABLE counted;
SELECT is((volumes_dropped, waits), (2, NULL::text), 'two volumes are dropped') FROM adclick.apply_retention();
SELECT volumes_emptied FROM adclick.apply_retention() \gset
CREATE TABLE counted_after AS TABLE counted;
CREATE TABLE gone AS TABLE counted_before EXCEPT ALL TABLE counted_after;
TRUNCATE in_files;
SELECT read_file(0) \gset
INSERT INTO in_files SELECT 0, * FROM clicks_of_file;
SELECT read_file(1) \gset
INSERT INTO in_files SELECT 1, * FROM clicks_of_file;
SELECT is_empty(oracle.differs('gone', 'all_in_files'), 'what is gone is in their files, row by row');
SELECT is(count(*), (SELECT sum(clicks)::bigint FROM adclick.archived_volumes WHERE dropped_at IS NOT NULL), 'as many as the books say') FROM gone;

-- What comes of one hour: those clicked in it, and those whose dedup window begins in it.
SELECT is(adclick.restore_clicks(hour(-2), hour(-2)), 0::bigint, 'nothing of nothing');
SELECT throws_ok($$SELECT adclick.restore_clicks(hour(-2), hour(-2) + interval '30 minutes')$$, '22023', NULL, 'half of an hour');
CREATE VIEW of_hours AS SELECT g.*, coalesce(clicked_at, received_at) AS at FROM gone g;
CREATE VIEW restored AS TABLE counted EXCEPT ALL TABLE counted_after;
SELECT adclick.restore_clicks(hour(-2), hour(-1)) AS came \gset
SELECT is(:came::bigint, (SELECT sum(clicks)::bigint FROM adclick.restored_hours), 'an hour comes back');
SELECT is_empty($$SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device FROM of_hours WHERE at >= hour(-2) AND at < hour(-1)
	EXCEPT ALL TABLE restored$$, 'all of it is in the log');
SELECT is_empty($$SELECT * FROM restored WHERE coalesce(clicked_at, received_at) NOT BETWEEN hour(-4) AND hour(1)$$, 'and little else');
SELECT is_empty('TABLE counted EXCEPT ALL TABLE counted_before', 'nothing that was not there');
SELECT is(array_agg(volume ORDER BY volume), '{0,1}', 'from the volumes that have it') FROM adclick.restored_hours WHERE hour = hour(-2) AND clicks > 0;
SELECT ok(adclick_internal.is_restored(hour(-2)) AND NOT adclick_internal.is_restored(hour(-3)), 'the hour is whole, and no other');
CREATE TABLE restored_once AS TABLE restored;
SELECT is(adclick.restore_clicks(hour(-2), hour(-1)), 0::bigint, 'again: it is there');
SELECT is_empty(oracle.differs('restored', 'restored_once'), 'once');
SELECT is((balanced, dropped), (true, (SELECT count(*) FROM gone)), 'the books are balanced') FROM adclick.check_ledger();
SELECT is_empty(oracle.differs('counts', 'counts_before'), 'no count has changed');
SELECT is(health, 'ok', 'all is well') FROM adclick.health();

-- It is compared with what is stored, and only it; what is wrong is found, and counted anew.
CALL adclick.reconcile('-infinity', now() - interval '2 days');
SELECT is(array_agg(hour), ARRAY[hour(-2)], 'it is reconciled') FROM adclick.reconciled_hours, adclick.status WHERE hour <= dropped_until;
SELECT is_empty('SELECT * FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL', 'no differences');
SELECT is((code, message), ('55000'::text, 'the ledger of adclick no longer has all clicks of these hours'::text), 'others are not counted anew') FROM oracle.refused('SELECT adclick.recompute(hour(-3), hour(-2))');
SELECT is((code, message), ('55000'::text, 'the ledger of adclick no longer has all clicks of these hours'::text), 'nor with it') FROM oracle.refused('SELECT adclick.recompute(hour(-3), hour(-1))');
UPDATE adclick_internal.runs SET clicks = clicks + 1, minute_clicks[1] = minute_clicks[1] + 1 WHERE sort_order = 0 AND NOT is_delta AND first_minute = hour(-2);
CALL adclick.reconcile(hour(-2), hour(-1));
SELECT is(differences, 1::bigint, 'damage is found') FROM adclick.reconciled_hours WHERE hour = hour(-2);
SELECT is(health, 'critical', 'the health says so') FROM adclick.health();
CALL adclick.reconcile(hour(-2), hour(-1), repair => true);
SELECT is((repaired, problem), (true, NULL::text), 'and repaired') FROM adclick.reconciled_hours WHERE hour = hour(-2);
SELECT oracle.compact() \gset
SELECT is_empty(oracle.differs('counts', 'counts_before'), 'all counts are as they were');
SELECT is(adclick.recompute(hour(-2), hour(-1)), (SELECT count(*) FROM counted WHERE coalesce(clicked_at, received_at) >= hour(-2) AND coalesce(clicked_at, received_at) < hour(-1)), 'counted anew');
SELECT oracle.compact() \gset
SELECT is_empty(oracle.differs('counts', 'counts_before'), 'they are still');

-- Copies of what came back are too old, as copies of what was dropped are.
\set name adclick.raw_retention
\set value 86400
\i test/lib/set.psql
SELECT tick() \gset
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM restored WHERE click_id IS NOT NULL AND clicked_at IS NOT NULL LIMIT 100;
SELECT is_empty(oracle.differs('counts', 'counts_before'), 'in the tail they do not count');
SELECT is((rows_read, counted, duplicates), (100::bigint, 0::bigint, 0::bigint), 'nor for a tick') FROM adclick.tick();

-- The rest.
SELECT adclick.restore_clicks('-infinity', 'infinity') AS came \gset
SELECT is(sum(clicks)::bigint, (SELECT count(*) FROM gone), 'all of it') FROM adclick.restored_hours;
SELECT is_empty(oracle.differs('counted', 'counted_before'), 'the log is as it was');
SELECT is_empty('SELECT d.* FROM hours, adclick_internal.find_differences(hour, true) d', 'no differences');
SELECT is(adclick.recompute(hour(-4), hour(2)), (SELECT count(*) FROM counted WHERE coalesce(clicked_at, received_at) >= hour(-4) AND coalesce(clicked_at, received_at) < hour(2)), 'all are counted anew');
SELECT oracle.compact() \gset
SELECT is_empty(oracle.differs('counts', 'counts_before'), 'all counts are as they were');
SELECT is_empty('SELECT * FROM adclick_internal.find_missing()', 'a dump of it has all');
SELECT is(balanced, true, 'the books are balanced') FROM adclick.check_ledger();

-- It goes again.
SELECT is(adclick.release_clicks(), (SELECT count(*) FROM gone), 'it is released');
SELECT is_empty(oracle.differs('counted', 'counted_after'), 'and gone');
SELECT is(adclick.release_clicks(), 0::bigint, 'nothing is left');
SELECT is(balanced, true, 'the books are balanced') FROM adclick.check_ledger();

-- Files that are not what they should be: nothing comes.
CREATE FUNCTION brings_nothing(name text, expected_code text, pattern text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	runs bigint := (SELECT count(*) FROM adclick_internal.runs);
	found record;
BEGIN
	SELECT * FROM oracle.refused($q$SELECT adclick.restore_clicks('-infinity', 'infinity')$q$) INTO found;
	RETURN NEXT is(found.code, expected_code, name || ': ' || coalesce(found.message, 'nothing is wrong') || coalesce(' - ' || found.detail, ''));
	RETURN NEXT alike(found.message || ' - ' || found.detail, pattern, name || ': why');
	RETURN NEXT is((SELECT count(*) FROM adclick_internal.runs), runs, name || ': no run');
	RETURN NEXT is_empty('TABLE adclick.restored_hours', name || ': no hour');
	RETURN NEXT is_empty('SELECT * FROM adclick_internal.unpacked_clicks WHERE run_id = 0', name || ': no row');
END
$$;
CREATE FUNCTION put_back() RETURNS void LANGUAGE sql AS $$ SELECT sh(format('cp %s.good %1$s', shell_path(1))) $$;
SELECT sh(format('cp %s %1$s.good', shell_path(1))) \gset
SELECT sh(format('perl -e ''open F, "+<", shift; seek F, 1000, 0; read F, $byte, 1; seek F, 1000, 0; print F ~$byte'' %s', shell_path(1))) \gset
SELECT brings_nothing('a byte', 'XX001', 'file "%volume_1.csv.gz" is not what adclick.archive_clicks() has written%');
SELECT put_back() \gset
SELECT sh(format('head -c 5000 %s.good > %1$s', shell_path(1))) \gset
SELECT brings_nothing('half of a file', 'XX001', 'file % is not what adclick.archive_clicks() has written - It has 5000 bytes%');
SELECT put_back() \gset
SELECT sh(format('printf X >> %s', shell_path(1))) \gset
SELECT brings_nothing('a byte more', 'XX001', 'file % is not what%');
SELECT put_back() \gset
SELECT sh(format('cp %s %s', shell_path(0), shell_path(1))) \gset
SELECT brings_nothing('the file of another volume', 'XX001', 'file % is not what%');
SELECT put_back() \gset
-- swapped, and as long as they should be: gzip passes over zeros behind
SELECT sh(format('cp %s %1$s.good', shell_path(0))), sh(format('truncate -s 400000 %s %s', shell_path(0), shell_path(1))) \gset
CREATE TABLE unpadded AS TABLE adclick.archived_volumes;
UPDATE adclick.archived_volumes SET sha256 = encode(sha256(pg_read_binary_file(path(volume))), 'hex'), bytes = 400000 WHERE volume IN (0, 1);
SELECT cmp_ok(bytes, '<', 400000::bigint, 'the file of ' || volume || ' became longer') FROM unpadded;
SELECT is(adclick.restore_clicks('-infinity', 'infinity'), (SELECT count(*) FROM gone), 'each in its place they bring all');
SELECT adclick.release_clicks() \gset
SELECT sh(format('mv %s %1$s.was; mv %s %1$s; mv %1$s.was %2$s', shell_path(0), shell_path(1))) \gset
SELECT brings_nothing('swapped', 'XX001', 'file "%volume_0.csv.gz" is not what adclick.archive_clicks() has written - It has 400000 bytes with SHA-256 % and should have 400000 with %');
SELECT sh(format('mv %s.good %1$s', shell_path(0))), put_back() \gset
UPDATE adclick.archived_volumes a SET sha256 = u.sha256, bytes = u.bytes FROM unpadded u WHERE u.volume = a.volume;
SELECT sh('rm ' || shell_path(1)) \gset
SELECT brings_nothing('no file', '58P01', 'could not open file %');
SELECT put_back() \gset
-- with books that agree with them
CREATE TABLE good AS TABLE adclick.archived_volumes;
CREATE FUNCTION falsified(name text, script text, code text, pattern text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM sh(format('gzip -dc < %s.good | sed %s | gzip -nc > %1$s', shell_path(1), script));
	UPDATE adclick.archived_volumes SET sha256 = encode(sha256(pg_read_binary_file(path(1))), 'hex'), bytes = length(pg_read_binary_file(path(1))) WHERE volume = 1;
	RETURN QUERY SELECT brings_nothing(name, code, pattern);
	PERFORM put_back();
	UPDATE adclick.archived_volumes a SET sha256 = g.sha256, bytes = g.bytes FROM good g WHERE g.volume = a.volume;
END
$$;
SELECT falsified('other columns', $$'1s/,copies,/,number,/'$$, '22P04', '%');
SELECT falsified('a click less', $$'5d'$$, 'XX001', 'file % has not the clicks that it should have%');
SELECT falsified('a line of another kind', $$'5s/^[a-z]*,/guess,/'$$, 'XX001', '% of no kind that there is%');
SELECT falsified('no click', $$'5s/.*/click,,,,,,,,,,,,,,,,,,/'$$, 'XX001', '% lacks how it was counted%');
SELECT falsified('half a line', $$'5s/,.*//'$$, '22P04', '%');
SELECT falsified('an arrival without a time', $$'5s/.*/arrived,,3,,,,,,,,,,,,,,,,/'$$, 'XX001', '% has no time, or no ad%');
CREATE FUNCTION falsified_line(name text, pattern text, clicked text, user_id text, ip text, copies text, bucket numeric, at text, delay text, flags text, code text DEFAULT 'XX001') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT falsified(name, format('''5s!.*!click,,5,%s,%s,2026-01-01 00:00:00+00,%s,,,,%s,unknown,unknown,unknown,00000000-0000-0000-0000-000000000001,%s,%s,%s,%s!''',
		clicked, user_id, ip, copies, bucket, at, delay, flags), code, pattern);
END
$$;
-- without anything: a bucket of that time, no rule
SELECT extract(epoch FROM timestamptz '2026-01-01 00:00:00+00' - timestamptz '2000-01-01 00:00:00+00')::bigint * 65536 AS bucket \gset
SELECT falsified_line('no copies', '%copies that cannot be%', '', '', '', '0', :bucket, '2026-01-01 00:00:00+00', '0', '0');
SELECT falsified_line('too many copies', '%copies that cannot be%', '', '', '', '9223372036854775807', :bucket, '2026-01-01 00:00:00+00', '0', '0');
SELECT falsified_line('more copies than there are', '%has not the clicks that it should have%', '', '', '', '1000000', :bucket, '2026-01-01 00:00:00+00', '0', '0');
SELECT falsified_line('a user without a flag', '%flags that cannot be%', '', '5', '', '1', :bucket, '2026-01-01 00:00:00+00', '0', '0');
SELECT falsified_line('a flag without a user', '%flags that cannot be%', '', '', '', '1', :bucket, '2026-01-01 00:00:00+00', '0', '1');
SELECT falsified_line('an address of another family', '%flags that cannot be%', '', '', '::1', '1', :bucket, '2026-01-01 00:00:00+00', '0', '16');
SELECT falsified_line('an address of a network', '%address of a network%', '', '', '10.0.0.0\/8', '1', :bucket, '2026-01-01 00:00:00+00', '0', '16');
SELECT falsified_line('an id without an id', '%flags that cannot be%', '', '', '', '1', :bucket, '2026-01-01 00:00:00+00', '0', '8');
SELECT falsified_line('one that stands apart', '%flags that cannot be%', '', '', '', '1', :bucket, '2026-01-01 00:00:00+00', '0', '64');
SELECT falsified_line('no flags that there are', '%flags that cannot be%', '', '', '', '1', :bucket, '2026-01-01 00:00:00+00', '0', '-1');
SELECT falsified_line('never', '%time that cannot be%', '', '', '', '1', :bucket, 'infinity', '0', '0');
SELECT falsified_line('a bucket of another time', '%bucket is not of its time%', '', '', '', '1', 9223372036854775807, '2026-01-01 00:00:00+00', '0', '0');
SELECT falsified_line('an arrival that cannot be', '%arrived at a time that cannot be%', '', '', '', '1', :bucket, '2026-01-01 00:00:00+00', '9223372036854775807', '0');
SELECT falsified_line('no number', '%', '', '', '', '1e3', :bucket, '2026-01-01 00:00:00+00', '0', '0', '22P02');
UPDATE adclick.archived_volumes SET file = '../../etc/passwd' WHERE volume = 1;
SELECT brings_nothing('a name that leads elsewhere', 'XX001', 'a file of the archive lies outside of its directory%');
UPDATE adclick.archived_volumes SET file = (SELECT file FROM good WHERE volume = 1) WHERE volume = 1;
SET adclick.archive_directory = '';
SELECT is(message, 'adclick.archive_directory is not set', 'no directory') FROM oracle.refused($$SELECT adclick.restore_clicks('-infinity', 'infinity')$$);
RESET adclick.archive_directory;

-- Who is forgotten does not come back: neither his name, nor his addresses; his clicks do.
SELECT adclick.restore_clicks(hour(-3), hour(-2)) \gset
SELECT user_id AS forgotten FROM first JOIN adclick.discarded_clicks d USING (user_id) WHERE d.reason = 'duplicate' AND user_id NOT IN (7, 8) GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1 \gset
SELECT count(*) > 3 AS has_some FROM gone WHERE user_id = :forgotten \gset
SELECT ok(:'has_some', 'he has clicks in files');
SELECT adclick.forget_user(:forgotten), adclick.forget_user(8) \gset
SELECT is_empty('TABLE adclick.restored_hours', 'what had been restored was released');
SELECT is_empty('SELECT * FROM adclick_internal.runs WHERE sort_order = 5', 'with its runs');
SELECT is(count(*), 2::bigint, 'it is known that they are forgotten') FROM adclick_internal.forgotten_users;
SELECT is(adclick.restore_clicks('-infinity', 'infinity'), (SELECT count(*) FROM gone), 'all comes back');
CREATE TABLE nameless AS SELECT click_id, ad_id, clicked_at, CASE WHEN user_id NOT IN (8, :forgotten) THEN user_id END AS user_id, received_at,
	CASE WHEN user_id IN (8, :forgotten) THEN NULL ELSE ip END AS ip, country, region, device FROM counted_before;
SELECT is_empty(oracle.differs('counted', 'nameless'), 'without them');
SELECT is_empty(format('SELECT * FROM adclick_internal.ledger(%L, %L) WHERE user_id IN (8, %s) OR click_key::text LIKE %L', '-infinity', 'infinity', :forgotten,
	replace(substr(uuid(lpad(to_hex(:forgotten), 16, '0') || lpad('', 16, '0'))::text, 1, 18), ' ', '') || '%'), 'nor are they in a key');
SELECT is_empty('SELECT d.* FROM hours, adclick_internal.find_differences(hour, true) d', 'no differences: copies are still told');
DROP TABLE counts_before;
CREATE TABLE counts_before AS TABLE counts;
SELECT is(adclick.recompute(hour(-4), hour(2)) > 0, true, 'all is counted anew');
SELECT oracle.compact() \gset
SELECT is_empty(oracle.differs('counts', 'counts_before'), 'and is as it was');
SELECT is(balanced, true, 'the books are balanced') FROM adclick.check_ledger();

-- An hour that more is dropped of is no longer whole, until that is restored, too.
INSERT INTO adclick.archived_volumes (volume, first_minute, last_minute, clicks, dropped_at) VALUES (99, hour(-2), hour(-2), 1, now());
SELECT ok(NOT adclick_internal.is_restored(hour(-2)) AND adclick_internal.is_restored(hour(-3)), 'a volume that was not archived');
SELECT is((code, message), ('55000'::text, 'the ledger of adclick no longer has all clicks of these hours'::text), 'then it is not counted anew') FROM oracle.refused('SELECT adclick.recompute(hour(-2), hour(-1))');
DELETE FROM adclick.archived_volumes WHERE volume = 99;

-- What comes after they were forgotten is theirs, also from a file: as if but the first volume had been dropped by then.
SELECT is(array_agg(last_volume), '{1,1}', 'two volumes had been dropped') FROM adclick_internal.forgotten_users;
UPDATE adclick_internal.forgotten_users SET last_volume = 0;
SELECT adclick.release_clicks() \gset
SELECT adclick.restore_clicks('-infinity', 'infinity') \gset
SELECT is_empty(format('SELECT click_id, user_id, ip FROM in_files WHERE volume = 1 AND user_id IN (8, %s) EXCEPT ALL SELECT click_id, user_id, ip FROM counted', :forgotten), 'then those of the second have their names');
SELECT is(count(*), (SELECT count(*) FROM in_files WHERE volume = 1 AND user_id IN (8, :forgotten)), 'and no others') FROM counted WHERE user_id IN (8, :forgotten);
SELECT cmp_ok(count(*), '>', 0::bigint, 'there are some') FROM in_files WHERE volume = 1 AND user_id IN (8, :forgotten);

-- A pipe is no file.
SELECT adclick.release_clicks() \gset
SELECT sh(format('rm %s && mkfifo %1$s', shell_path(1))) \gset
SELECT is(code, '42809', 'a pipe') FROM oracle.refused('SELECT adclick.restore_clicks(''-infinity'', ''infinity'')');

-- Hours that are let go while they are compared are left out.
SELECT sh(format('rm %s && cp %1$s.good %1$s', shell_path(1))) \gset
SELECT adclick.restore_clicks(hour(-3), hour(-1)), adclick.reconcile_hour(hour(-3), hour(-1)), adclick.release_clicks() \gset
SELECT is(adclick.reconcile_hour(hour(-3), hour(-1)), false, 'an hour that is let go');
SELECT adclick.restore_clicks(hour(-3), hour(-1)) \gset
SELECT is_empty('SELECT * FROM adclick.reconciled_hours WHERE problem IS NOT NULL', 'is no problem');

SELECT sh('rm -r ' || :'quoted') \gset
DROP OWNED BY nobody_archives;
DROP ROLE nobody_archives;
ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf() AS reloaded \gset
SELECT * FROM finish();
