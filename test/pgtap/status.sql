-- What the status counts, what stands on disk, and the health of a database without workers.

\set ON_ERROR_STOP on

SELECT no_plan();
CREATE VIEW counters AS SELECT clicks_taken, clicks_counted, late_clicks, duplicates, in_future, too_old, clicks_per_second FROM adclick.status;

SELECT results_eq('TABLE counters', $$VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::float8)$$, 'nothing yet');
SELECT is(last_tick_seconds, NULL, 'no tick has taken clicks') FROM adclick.status;

-- Late is what arrived when its minute was to be closed, and counts.
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES
	('00000000-0000-4000-8000-000000000001', 1, now() - interval '2 minutes'),
	('00000000-0000-4000-8000-000000000001', 1, now() - interval '2 minutes'),
	('00000000-0000-4000-8000-000000000002', 1, now() - interval '3 days'),
	(NULL, 1, now()), (NULL, 1, NULL), (NULL, 1, now() + interval '2 minutes'),
	(NULL, 1, 'infinity'), (NULL, 1, now() - interval '30 days');
SELECT is(late_clicks, 0::bigint, 'what waits is in no counter') FROM adclick.status;
BEGIN;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
ROLLBACK;
SELECT is(last_tick_seconds, NULL, 'a tick that came to nothing took no time') FROM adclick.status;
BEGIN;
SAVEPOINT before;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
ROLLBACK TO before;
COMMIT;
SELECT is(last_tick_seconds, NULL, 'nor one to a savepoint') FROM adclick.status;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT results_eq('SELECT clicks_taken, clicks_counted, late_clicks, duplicates, in_future, too_old FROM counters',
	'VALUES (8::bigint, 5::bigint, 2::bigint, 1::bigint, 1::bigint, 1::bigint)', 'one verdict for each, and two late');
SELECT ok(last_tick_seconds >= 0.001 AND worst_tick_seconds >= last_tick_seconds, 'the tick took some time') FROM adclick.status;

-- By the setting of the tick.
\set name adclick.watermark
\set value 3600
\i test/lib/set.psql
INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (1, now() - interval '50 minutes'), (1, now() - interval '2 hours');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is(late_clicks, 3::bigint, 'a longer watermark') FROM adclick.status;
BEGIN;
INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (1, now() - interval '1 day');
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is(late_clicks, 4::bigint, 'within a transaction') FROM adclick.status;
ROLLBACK;
SELECT is(late_clicks, 3::bigint, 'that is rolled back') FROM adclick.status;
\set value 0
\i test/lib/set.psql

-- Of the last full minute, whichever that is; before and after compaction.
DROP EXTENSION adclick CASCADE;
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id, clicked_at)
SELECT 1 + i % 3, date_trunc('minute', now()) + m * interval '1 minute' FROM generate_series(1, 300) i, generate_series(-1, 3) m;
SELECT tick IS NOT NULL AS ticked FROM adclick.tick() \gset
SELECT is(clicks_per_second, 5::float8, 'clicks a second') FROM adclick.status;
SELECT minutes_written > 0 AS compacted FROM adclick.compact() \gset
SELECT ok(:'compacted', 'compaction');
SELECT is(clicks_per_second, 5::float8, 'clicks a second, when the minute is packed') FROM adclick.status;
\set value 10
\i test/lib/set.psql

-- Storage
SELECT bag_eq('SELECT relation FROM adclick.storage', $$
	SELECT c.oid::regclass::text FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND c.relkind = 'r'$$, 'all tables of the extension');
SELECT is_empty('SELECT * FROM adclick.storage WHERE purpose IS NULL', 'each has its purpose');
SELECT is(bytes, pg_total_relation_size('adclick_internal.deltas'), 'bytes with indexes') FROM adclick.storage WHERE relation = 'adclick_internal.deltas';

-- Health: rounds by hand are no alarm, and no question about it leaves a trace.
SELECT is(health, 'ok', 'ok without workers') FROM adclick.health();
BEGIN READ ONLY;
SELECT is(health, 'ok', 'in a READ ONLY transaction') FROM adclick.health();
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is(health, 'ok', 'in a SERIALIZABLE one') FROM adclick.health();
COMMIT;
SELECT is((SELECT count(*) FROM adclick.health()), 1::bigint, 'one row');
SET max_parallel_workers_per_gather = 4;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT is(max(h.health), 'ok', 'beside a scan that could be parallel')
FROM (SELECT count(*) FROM adclick_internal.deltas) d CROSS JOIN adclick.health() h;
RESET ALL;

-- What is wrong with the tables is told, and undone with the subtransaction.
BEGIN;
ALTER TABLE adclick_internal.gaps ADD extra int;
SELECT is(split_part(health || ': ' || reason, ';', 1), 'critical: the tables cannot be read: relation "adclick_internal.gaps" of adclick '
	'has been altered (It should have no column "extra".)', 'an altered table') FROM adclick.health();
SELECT is(current_user, session_user, 'the role is the caller''s again');
ROLLBACK;
SELECT is(health, 'ok', 'undone') FROM adclick.health();

-- Whatever stands in the caller's search_path.
CREATE SCHEMA evil;
CREATE FUNCTION evil.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format';
CREATE VIEW evil.pg_settings AS SELECT 'adclick.dedup_memory'::text AS name, 'user'::text AS context, '1'::text AS setting;
SET search_path = evil, pg_catalog, public;
SELECT public.is(health, 'ok', 'search_path') FROM adclick.health();
RESET search_path;

SELECT * FROM finish();
