-- Who may do what: every right there is stands in this list, so that a new object
-- without a decision fails; and default privileges decide nothing.

SELECT no_plan();

-- Made again by an owner who gives everything new to one role, and nothing to PUBLIC.
DROP EXTENSION adclick;
CREATE ROLE tap_favourite;
CREATE ROLE tap_asker;
CREATE ROLE tap_member;
CREATE ROLE tap_definer;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO tap_favourite WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO tap_favourite;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO tap_favourite;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO tap_favourite;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO tap_favourite;
CREATE EXTENSION adclick;

-- All rights of others than the owner.
CREATE VIEW rights AS
WITH ours AS (
	SELECT oid FROM pg_namespace WHERE nspname IN ('adclick', 'adclick_internal')
), acls AS (
	SELECT oid::regclass::text AS object, relowner AS owner, relacl AS acl,
		acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner) AS builtin
	FROM pg_class WHERE relnamespace IN (TABLE ours) AND relkind NOT IN ('i', 'I', 'c')
	UNION ALL
	SELECT attrelid::regclass || '.' || attname, relowner, attacl, NULL
	FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace IN (TABLE ours)
	UNION ALL
	SELECT oid::regprocedure::text, proowner, proacl, acldefault('f', proowner) FROM pg_proc WHERE pronamespace IN (TABLE ours)
	UNION ALL
	SELECT t.oid::regtype::text, typowner, typacl, acldefault('T', typowner)
	FROM pg_type t JOIN pg_class c ON c.oid = typrelid WHERE typnamespace IN (TABLE ours) AND relkind = 'c'
	UNION ALL
	SELECT nspname, nspowner, nspacl, acldefault('n', nspowner) FROM pg_namespace WHERE oid IN (TABLE ours)
	UNION ALL
	SELECT fdwname, fdwowner, fdwacl, acldefault('F', fdwowner) FROM pg_foreign_data_wrapper WHERE fdwname ~ '^adclick'
	UNION ALL
	SELECT srvname, srvowner, srvacl, acldefault('S', srvowner) FROM pg_foreign_server WHERE srvname ~ '^adclick'
)
SELECT object::text COLLATE "C", CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END COLLATE "C" AS grantee,
	privilege_type COLLATE "C" AS privilege
FROM acls CROSS JOIN aclexplode(coalesce(acl, builtin)) WHERE grantee <> owner;

CREATE TABLE decided (object text COLLATE "C", grantee text COLLATE "C", privilege text COLLATE "C");
INSERT INTO decided
SELECT function::regprocedure::text, 'PUBLIC', 'EXECUTE'
FROM unnest('{
	"adclick.ad_click_count(bigint, int, jsonb)",
	"adclick.ad_click_count_between(bigint, timestamptz, timestamptz, jsonb)",
	"adclick.top_n_ads(int, int, jsonb)",
	"adclick.top_n_ads_between(int, timestamptz, timestamptz, jsonb)",
	"adclick.explain_top_n(int, int, jsonb)",
	"adclick.explain_top_n_between(int, timestamptz, timestamptz, jsonb)",
	"adclick.click_series(bigint, timestamptz, timestamptz, interval, jsonb)",
	"adclick.breakdown(bigint, int, text, jsonb)",
	"adclick.breakdown_between(bigint, timestamptz, timestamptz, text, jsonb)",
	"adclick.advertiser_click_count(bigint, int, jsonb)",
	"adclick.advertiser_click_count_between(bigint, timestamptz, timestamptz, jsonb)",
	"adclick.unique_users(bigint, int, jsonb)",
	"adclick.unique_users_between(bigint, timestamptz, timestamptz, jsonb)",
	"adclick_internal.progress()", "adclick_internal.workers()", "adclick_internal.ledger_clicks()", "adclick_internal.open_writer()",
	"adclick_internal.examine()", "adclick_internal.worker(boolean)", "adclick_internal.judge()"}'::text[]) function;
INSERT INTO decided VALUES ('adclick.ad_click', 'PUBLIC', 'USAGE'), ('adclick', 'adclick_reader', 'USAGE'),
	('adclick', 'adclick_owner', 'USAGE'), ('adclick_internal', 'adclick_owner', 'USAGE');
INSERT INTO decided SELECT 'adclick.' || name, 'adclick_reader', 'SELECT'
FROM unnest('{ad_click_counts,ad_click_counts_hourly,ad_click_counts_daily,clicks_per_minute,filters,ads,most_clicked_ads,most_clicked_ads_hourly,most_clicked_ads_daily,status,storage,differences,reconciled_hours,reconciliations,archived_volumes,restored_hours,sources}'::text[]) name;
INSERT INTO decided SELECT 'adclick.health()', role, 'EXECUTE' FROM unnest('{adclick_reader,pg_monitor}'::text[]) role;
INSERT INTO decided VALUES ('adclick', 'adclick_ingest', 'USAGE'), ('adclick.clicks', 'adclick_ingest', 'INSERT');
INSERT INTO decided SELECT function::regprocedure::text, 'adclick_ingest', 'EXECUTE'
FROM unnest('{"adclick.click(bigint, bigint, inet, text, text, text, text)","adclick.new_impression(bigint, bigint)"}'::text[]) function;
INSERT INTO decided VALUES ('adclick', 'pg_monitor', 'USAGE'), ('adclick.status', 'pg_monitor', 'SELECT'), ('adclick.storage', 'pg_monitor', 'SELECT'),
	('adclick.reconciled_hours', 'pg_monitor', 'SELECT'), ('adclick.reconciliations', 'pg_monitor', 'SELECT'),
	('adclick.archived_volumes', 'pg_monitor', 'SELECT'), ('adclick.restored_hours', 'pg_monitor', 'SELECT'), ('adclick.sources', 'pg_monitor', 'SELECT');
INSERT INTO decided SELECT function::regprocedure::text, 'adclick_owner', 'EXECUTE' FROM unnest('{"adclick_internal.find_differences(timestamptz, boolean)",
	"adclick_internal.facts(int, timestamptz, timestamptz)","adclick_internal.ledger(timestamptz, timestamptz)",
	"adclick_internal.agreed_hours(timestamptz, timestamptz)","adclick_internal.archived_clicks(bigint)","adclick_internal.is_restored(timestamptz)","adclick.end_restore(boolean)",adclick_internal.find_missing(),adclick_internal.has_all_tables()}'::text[]) function;
SELECT bag_eq('TABLE rights', 'TABLE decided', 'all rights have been decided');

-- The owner reads what it takes.
SELECT lives_ok('SELECT count(*) FROM adclick.clicks', 'the clicks that wait');
SELECT lives_ok('SELECT count(*) FROM adclick.click_log', 'and the whole log');

-- What a role may do with USAGE on the schema alone, and as a member of adclick_reader.
INSERT INTO adclick.clicks (ad_id, user_id, ip) VALUES (5, 42, '203.0.113.77');
GRANT USAGE ON SCHEMA adclick TO tap_asker, tap_definer;
GRANT adclick_reader TO tap_member;
CREATE TABLE personal (question text);
INSERT INTO personal VALUES ('SELECT adclick.unique_users(5, 60)'),
	('SELECT adclick.unique_users_between(5, ''-infinity'', ''infinity'')'),
	('SELECT adclick.ad_click_count(5, 60, ''{"user_id": 42}'')'),
	('SELECT adclick.ad_click_count(5, 60, ''{"ip": "0.0.0.0/1"}'')'),
	('SELECT adclick.ad_click_count(5, 60, ''{"ip": []}'')'),
	('SELECT adclick.ad_click_count_between(5, ''-infinity'', ''infinity'', ''{"user_id": 42, "ip": "203.0.113.0/24"}'')'),
	('SELECT * FROM adclick.top_n_ads(1, 60, ''{"user_id": 42}'')'),
	('SELECT * FROM adclick.top_n_ads_between(1, ''-infinity'', ''infinity'', ''{"ip": "::/0"}'')'),
	('SELECT * FROM adclick.explain_top_n(1, 60, ''{"user_id": [42]}'')'),
	('SELECT * FROM adclick.explain_top_n_between(1, ''-infinity'', ''infinity'', ''{"user_id": 42}'')'),
	('SELECT * FROM adclick.click_series(5, ''yesterday'', ''today'', ''1 hour'', ''{"user_id": 42}'')'),
	('SELECT * FROM adclick.breakdown(5, 60, ''country'', ''{"ip": "203.0.113.77"}'')'),
	('SELECT * FROM adclick.breakdown_between(5, ''-infinity'', ''infinity'', ''country'', ''{"user_id": 42}'')'),
	('SELECT adclick.advertiser_click_count(7, 60, ''{"user_id": 42}'')'),
	('SELECT adclick.advertiser_click_count_between(7, ''-infinity'', ''infinity'', ''{"ip": "::/0"}'')');
GRANT SELECT ON personal TO PUBLIC;

SET ROLE tap_asker;
SELECT throws_ok(question, '42501', 'permission denied to ask about users and addresses', 'refused: ' || question) FROM personal;
SELECT is(adclick.ad_click_count(5, 60), 1::bigint, 'but clicks may be counted');
SELECT is(current_user::text, 'tap_asker', 'a question gives no rights away');
SELECT throws_ok('SELECT * FROM adclick.health()', '42501', 'permission denied for function health', 'the health is not everybody''s');
SELECT throws_ok('SELECT count(*) FROM ' || relation, '42501', NULL, 'no right to read ' || relation)
FROM unnest('{adclick.clicks,adclick.discarded_clicks,adclick.bad_lines,adclick.click_log,adclick.status,adclick.filters,adclick_internal.state}'::text[]) relation;
SELECT throws_ok('SELECT ' || function, '42501', 'permission denied for schema adclick_internal', 'no right to call ' || function)
FROM unnest('{adclick_internal.progress(),adclick_internal.workers(),adclick_internal.facts(),adclick_internal.ledger_clicks(),
	adclick_internal.judge(),adclick_internal.examine(),adclick_internal.worker(false),adclick_internal.open_writer(),
	adclick_internal.reset_privileges()}'::text[]) function;
RESET ROLE;

SET ROLE tap_member;
SELECT lives_ok(question, 'a member asks: ' || question) FROM personal;
SELECT is(adclick.ad_click_count(5, 60, '{"user_id": 42, "ip": "203.0.113.64/26"}'), 1::bigint, 'and is answered');
SELECT lives_ok('TABLE ' || relation, 'a member reads ' || relation)
FROM unnest('{adclick.ad_click_counts,adclick.ad_click_counts_hourly,adclick.ad_click_counts_daily,adclick.clicks_per_minute,adclick.filters,adclick.ads,adclick.most_clicked_ads,adclick.most_clicked_ads_hourly,adclick.most_clicked_ads_daily,adclick.status,adclick.storage,adclick.differences,adclick.reconciled_hours,adclick.reconciliations,adclick.archived_volumes,adclick.restored_hours,adclick.sources}'::text[]) relation;
SELECT is(health, 'ok', 'and is told the health') FROM adclick.health();
SELECT isnt((SELECT workers_alive FROM adclick.status), NULL, 'the status has what the workers say');
SELECT throws_ok('SELECT count(*) FROM ' || relation, '42501', NULL, 'no right to read ' || relation)
FROM unnest('{adclick.clicks,adclick.discarded_clicks,adclick.click_log,adclick_internal.unpacked_clicks,
	adclick_internal.state}'::text[]) relation;
RESET ROLE;

-- Every click, for who was granted the view; its functions refuse all others, also those who may call them.
SELECT adclick.tick();
INSERT INTO adclick.clicks (ad_id, user_id, ip) VALUES (6, 43, '203.0.113.78');
GRANT SELECT ON adclick.click_log TO tap_asker;
GRANT USAGE ON SCHEMA adclick_internal TO tap_member;
CREATE VIEW through AS TABLE adclick.click_log;
GRANT SELECT ON through TO tap_member;
SET ROLE tap_asker;
SELECT bag_eq('SELECT ad_id, user_id, ip, verdict FROM adclick.click_log',
	$$VALUES (5::bigint, 42::bigint, '203.0.113.77'::inet, 'counted'), (6, 43, '203.0.113.78', NULL)$$, 'who was granted the log reads it');
SELECT throws_ok('SELECT adclick.check_ledger()', '42501', 'permission denied for function check_ledger', 'but may not check it');
SELECT throws_ok('SELECT adclick.forget_user(42)', '42501', 'permission denied for function forget_user', 'nor have anybody forgotten');
SET ROLE tap_member;
SELECT throws_ok('SELECT count(*) FROM ' || what, '42501', 'permission denied for view click_log', 'refused: ' || what)
FROM unnest('{adclick.click_log,adclick_internal.ledger_clicks(),through}'::text[]) what;
RESET ROLE;
DROP VIEW through;
REVOKE SELECT ON adclick.click_log FROM tap_asker;
REVOKE USAGE ON SCHEMA adclick_internal FROM tap_member;

-- The one who asks is the one whose rights the call has: not the one who logged in,
-- nor the one of SET ROLE, within a function with the rights of its owner.
CREATE FUNCTION by_definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS
	$$ SELECT adclick.ad_click_count(5, 60, '{"user_id": 42}') $$;
ALTER FUNCTION by_definer() OWNER TO tap_definer;
GRANT EXECUTE ON FUNCTION by_definer() TO tap_member, tap_asker;
SELECT throws_ok('SELECT by_definer()', '42501', 'permission denied to ask about users and addresses', 'a superuser through one without the right');
SET ROLE tap_member;
SELECT throws_ok('SELECT by_definer()', '42501', 'permission denied to ask about users and addresses', 'a member through one without the right');
RESET ROLE;
ALTER FUNCTION by_definer() OWNER TO tap_member;
SET ROLE tap_asker;
SELECT is(by_definer(), 1::bigint, 'one without the right through a member');
RESET ROLE;

-- Made again in a server that has the role.
DROP FUNCTION by_definer();
DROP EXTENSION adclick CASCADE;
SELECT has_role(role) FROM unnest('{adclick_reader,adclick_ingest}'::name[]) role;
SELECT lives_ok('CREATE EXTENSION adclick', 'the role is there already');
SELECT bag_eq('TABLE rights', 'TABLE decided', 'the same rights again');

DROP OWNED BY tap_favourite, tap_asker, tap_member, tap_definer;
DROP ROLE tap_favourite, tap_asker, tap_member, tap_definer;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO PUBLIC;
SELECT * FROM finish();
