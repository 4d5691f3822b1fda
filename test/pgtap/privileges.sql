-- Who may do what: every right there is stands in this list, so that a new object
-- without a decision fails; and default privileges decide nothing.

SELECT no_plan();

-- Made again by an owner who gives everything new to one role, and nothing to PUBLIC.
DROP EXTENSION adclick;
CREATE ROLE tap_favourite;
CREATE ROLE tap_asker;
CREATE ROLE tap_member;
CREATE ROLE tap_definer;
CREATE ROLE tap_nobody;
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
	SELECT oid FROM pg_namespace WHERE nspname IN ('adclick', 'adclick_internal', 'adclick_api')
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

/*
 * The matrix: each object there is, and what each role may do with it: SELECT (r), INSERT (a), UPDATE (w), DELETE (d),
 * EXECUTE (X), USAGE (U).  "anybody": who is a member of nothing.
 */
CREATE TABLE matrix (kind text COLLATE "C", objects text[], anybody text, ingest text, advertiser text, reader text, admin text, monitor text);
INSERT INTO matrix VALUES
	('schema', '{adclick}', '', 'U', 'U', 'U', 'U', 'U'),
	('schema', '{adclick_internal}', '', '', '', '', '', ''),
	('schema', '{adclick_api}', '', 'U', 'U', 'U', 'U', ''),
	('wrapper', '{adclick_facts}', '', '', '', '', '', ''),
	('server', '{adclick_facts}', '', '', '', '', '', ''),
	('type', '{adclick.ad_click}', '', '', '', 'U', 'U', ''),
	('type', '{adclick_internal.archived_click}', '', '', '', '', '', ''),
	('table', '{adclick.clicks}', '', 'a', '', '', 'a', ''),
	('table', '{adclick.ad_click_counts,adclick.ad_click_counts_hourly,adclick.ad_click_counts_daily,adclick.clicks_per_minute,adclick.own_ads}', '', '', 'r', 'r', 'r', ''),
	('table', '{adclick.ads}', '', '', '', 'r', 'adrw', ''),
	('table', '{adclick.advertiser_roles}', '', '', '', '', 'adrw', ''),
	('table', '{adclick.filters,adclick.most_clicked_ads,adclick.most_clicked_ads_hourly,adclick.most_clicked_ads_daily,adclick.differences}', '', '', '', 'r', 'r', ''),
	('table', '{adclick.status,adclick.storage,adclick.reconciled_hours,adclick.reconciliations,adclick.archived_volumes,adclick.restored_hours,adclick.sources}', '', '', '', 'r', 'r', 'r'),
	('table', '{adclick.bad_lines}', '', '', '', '', 'dr', ''),
	('table', '{adclick.click_log,adclick.discarded_clicks}', '', '', '', '', 'r', ''),
	('table', '{adclick_internal.awaited_tables,adclick_internal.compaction,adclick_internal.dedup_rules,adclick_internal.deltas,adclick_internal.end_of_dump,
		adclick_internal.day_rows,adclick_internal.fact_rows,adclick_internal.forgotten_users,adclick_internal.gaps,adclick_internal.impression_secrets,adclick_internal.ledger_restored,
		adclick_internal.log_files,adclick_internal.log_sources,adclick_internal.restore,adclick_internal.restored_tables,adclick_internal.runs,adclick_internal.segments,adclick_internal.state,adclick_internal.stored_segments,
		adclick_internal.unpacked_clicks,adclick_internal.volumes}', '', '', '', '', '', ''),
	('table', ARRAY(SELECT format('adclick_internal.%s_%s', shelf, n) FROM unnest('{ledger,people,discarded}'::text[]) shelf, generate_series(0, 31) n), '', '', '', '', '', ''),
	('sequence', '{adclick.filters_filter_id_seq,adclick.reconciliations_reconciliation_id_seq,adclick_internal.dedup_rules_rule_id_seq,adclick_internal.runs_run_id_seq}', '', '', '', '', '', ''),
	('function', '{"adclick.ad_click_count(bigint, int, jsonb)","adclick.ad_click_count_between(bigint, timestamptz, timestamptz, jsonb)",
		"adclick.top_n_ads(int, int, jsonb)","adclick.top_n_ads_between(int, timestamptz, timestamptz, jsonb)",
		"adclick.click_series(bigint, timestamptz, timestamptz, interval, jsonb)","adclick.breakdown(bigint, int, text, jsonb)",
		"adclick.breakdown_between(bigint, timestamptz, timestamptz, text, jsonb)","adclick.advertiser_click_count(bigint, int, jsonb)",
		"adclick.advertiser_click_count_between(bigint, timestamptz, timestamptz, jsonb)"}', '', '', 'X', 'X', 'X', ''),
	('function', '{"adclick.explain_top_n(int, int, jsonb)","adclick.explain_top_n_between(int, timestamptz, timestamptz, jsonb)",
		"adclick.unique_users(bigint, int, jsonb)","adclick.unique_users_between(bigint, timestamptz, timestamptz, jsonb)"}', '', '', '', 'X', 'X', ''),
	('function', '{adclick.health()}', '', '', '', 'X', 'X', 'X'),
	('function', '{"adclick.click(bigint, bigint, inet, text, text, text, text)","adclick.new_impression(bigint, bigint)",
		"adclick.click_id(uuid, timestamptz, bigint, bigint, text)","adclick_api.click(bigint, bigint, text)",adclick_api.sender()}', '', 'X', '', '', 'X', ''),
	('function', '{adclick_api.filters(text),"adclick_api.ad_click_count(bigint, timestamptz, timestamptz, text)","adclick_api.top_n_ads(int, timestamptz, timestamptz, text)",
		"adclick_api.click_series(bigint, timestamptz, timestamptz, interval, text)","adclick_api.breakdown(bigint, timestamptz, timestamptz, text, text)",
		"adclick_api.clicks_per_minute(timestamptz, timestamptz)","adclick_internal.require_minutes(timestamptz, timestamptz)"}', '', '', 'X', 'X', 'X', ''),
	('function', '{adclick.tick(),adclick.compact(),"adclick.recompute(timestamptz, timestamptz)",adclick.apply_retention(),adclick.check_ledger(),adclick.add_filter(jsonb),
		adclick.drop_filter(jsonb),adclick.forget_user(bigint),adclick.rotate_impression_secret(boolean),"adclick.reconcile(timestamptz, timestamptz, boolean, boolean)",
		"adclick.reconcile_hour(timestamptz, timestamptz, boolean, boolean)",adclick.archive_clicks(),adclick.archive_volume(),
		"adclick.restore_clicks(timestamptz, timestamptz)",adclick.release_clicks(),"adclick.add_source(text, text, text, jsonb)",adclick.drop_source(text),adclick.read_sources()}', '', '', '', '', 'X', ''),
	('function', '{adclick.begin_restore(),adclick.end_restore(boolean),adclick.schedule(),adclick.unschedule()}', '', '', '', '', '', ''),
	-- Functions of a view run as the one who reads it; others have no way to call them.
	('function', '{adclick_internal.progress(),adclick_internal.workers(),adclick_internal.ledger_clicks(),adclick_internal.discarded(),adclick_internal.open_writer(),adclick_internal.examine(),
		adclick_internal.worker(boolean),adclick_internal.judge(),adclick_internal.own_ads()}', 'X', 'X', 'X', 'X', 'X', 'X'),
	('function', '{"adclick_internal.agreed_hours(timestamptz, timestamptz)",adclick_internal.archived_clicks(bigint),adclick_internal.fact_handler(),
		"adclick_internal.fact_validator(text[], oid)","adclick_internal.facts(int, timestamptz, timestamptz)","adclick_internal.find_differences(timestamptz, boolean)",
		adclick_internal.find_missing(),adclick_internal.guard_restore(),adclick_internal.has_all_tables(),adclick_internal.has_pg_cron(),adclick_internal.inbox_handler(internal),
		adclick_internal.is_restored(timestamptz),adclick_internal.jobs(),"adclick_internal.ledger(timestamptz, timestamptz)",adclick_internal.make_role(name),
		adclick_internal.refuse_change(),adclick_internal.reset_privileges(),adclick_internal.set_owner()}', '', '', '', '', '', '');

-- What has_*_privilege() says, whichever way a role has it.
CREATE TABLE possible (kind text COLLATE "C", privilege text COLLATE "C", letter text);
INSERT INTO possible VALUES ('table', 'SELECT', 'r'), ('table', 'INSERT', 'a'), ('table', 'UPDATE', 'w'), ('table', 'DELETE', 'd'), ('table', 'TRUNCATE', 'D'),
	('table', 'REFERENCES', 'x'), ('table', 'TRIGGER', 't'), ('sequence', 'SELECT', 'r'), ('sequence', 'UPDATE', 'w'), ('sequence', 'USAGE', 'U'), ('function', 'EXECUTE', 'X'),
	('type', 'USAGE', 'U'), ('schema', 'USAGE', 'U'), ('schema', 'CREATE', 'C'), ('wrapper', 'USAGE', 'U'), ('server', 'USAGE', 'U');
CREATE VIEW effective AS
WITH ours AS (
	SELECT oid FROM pg_namespace WHERE nspname IN ('adclick', 'adclick_internal', 'adclick_api')
), objects AS (
	SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, oid, oid::regclass::text AS object
	FROM pg_class WHERE relnamespace IN (TABLE ours) AND relkind NOT IN ('i', 'I', 'c')
	UNION ALL SELECT 'function', oid, oid::regprocedure::text FROM pg_proc WHERE pronamespace IN (TABLE ours)
	UNION ALL SELECT 'type', t.oid, t.oid::regtype::text FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
		WHERE typnamespace IN (TABLE ours) AND typcategory <> 'A' AND (relkind = 'c' OR typrelid = 0)
	UNION ALL SELECT 'schema', oid, nspname FROM pg_namespace WHERE oid IN (TABLE ours)
	UNION ALL SELECT 'wrapper', oid, fdwname FROM pg_foreign_data_wrapper WHERE fdwname ~ '^adclick'
	UNION ALL SELECT 'server', oid, srvname FROM pg_foreign_server WHERE srvname ~ '^adclick'
)
SELECT kind COLLATE "C" AS kind, object COLLATE "C" AS object, role, coalesce(string_agg(letter, '' ORDER BY letter) FILTER (WHERE CASE kind
	WHEN 'table' THEN CASE WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege(role, oid, privilege) ELSE has_table_privilege(role, oid, privilege) END
	WHEN 'sequence' THEN has_sequence_privilege(role, oid, privilege) WHEN 'function' THEN has_function_privilege(role, oid, privilege)
	WHEN 'type' THEN has_type_privilege(role, oid, privilege) WHEN 'schema' THEN has_schema_privilege(role, oid, privilege)
	WHEN 'wrapper' THEN has_foreign_data_wrapper_privilege(role, oid, privilege) ELSE has_server_privilege(role, oid, privilege) END), '') AS rights
FROM objects JOIN possible USING (kind)
	CROSS JOIN unnest('{tap_nobody,adclick_ingest,adclick_advertiser,adclick_reader,adclick_admin,pg_monitor}'::name[]) role
GROUP BY 1, 2, 3;
CREATE VIEW listed AS
SELECT m.kind, (CASE m.kind WHEN 'function' THEN o::regprocedure::text ELSE o END) COLLATE "C" AS object, r.role, r.rights
FROM matrix m, unnest(objects) o, LATERAL (VALUES ('tap_nobody'::name, anybody), ('adclick_ingest', ingest), ('adclick_advertiser', advertiser),
	('adclick_reader', reader), ('adclick_admin', admin), ('pg_monitor', monitor)) r (role, rights);
SELECT bag_eq('TABLE effective', 'TABLE listed', 'each object is in the matrix, and each role has the rights that it says');

-- And so they were granted: the admin's own are those that he has not as a reader, or as one who sends clicks.
CREATE TABLE decided (object text COLLATE "C", grantee text COLLATE "C", privilege text COLLATE "C");
INSERT INTO decided
SELECT l.object, CASE l.role WHEN 'tap_nobody' THEN 'PUBLIC' ELSE l.role::text END, p.privilege
FROM listed l JOIN possible p ON p.kind = l.kind AND strpos(l.rights, p.letter) > 0
WHERE NOT EXISTS (SELECT FROM listed o WHERE o.kind = l.kind AND o.object = l.object AND strpos(o.rights, p.letter) > 0
	AND (o.role = 'tap_nobody' AND l.role <> 'tap_nobody' OR l.role = 'adclick_admin' AND o.role IN ('adclick_reader', 'adclick_ingest')));
-- The owner of the tables owns no function and no schema.
INSERT INTO decided VALUES ('adclick', 'adclick_owner', 'USAGE'), ('adclick_internal', 'adclick_owner', 'USAGE');
INSERT INTO decided SELECT function::regprocedure::text, 'adclick_owner', 'EXECUTE' FROM unnest('{"adclick_internal.find_differences(timestamptz, boolean)",
	"adclick_internal.facts(int, timestamptz, timestamptz)","adclick_internal.ledger(timestamptz, timestamptz)",
	"adclick_internal.agreed_hours(timestamptz, timestamptz)","adclick_internal.archived_clicks(bigint)","adclick_internal.is_restored(timestamptz)","adclick.end_restore(boolean)",adclick_internal.find_missing(),adclick_internal.has_all_tables()}'::text[]) function;
SELECT bag_eq('TABLE rights', 'TABLE decided', 'all rights have been decided');
SELECT bag_eq($$SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members WHERE member::regrole::text ~ '^adclick_'$$,
	$$VALUES ('adclick_reader', 'adclick_admin'), ('adclick_ingest', 'adclick_admin')$$, 'as is who is a member of whom');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname ~ '^adclick_' AND (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)$$, 'no role of ours has a power');

-- The owner reads what it takes.
SELECT lives_ok('SELECT count(*) FROM adclick.clicks', 'the clicks that wait');
SELECT lives_ok('SELECT count(*) FROM adclick.click_log', 'and the whole log');

-- What an advertiser may do, and a member of adclick_reader.
INSERT INTO adclick.clicks (ad_id, user_id, ip) VALUES (5, 42, '203.0.113.77');
GRANT adclick_advertiser TO tap_asker, tap_definer;
INSERT INTO adclick.ads (ad_id, advertiser_id) VALUES (5, 7);
INSERT INTO adclick.advertiser_roles VALUES ('tap_asker', 7), ('tap_definer', 7);
GRANT adclick_reader TO tap_member;
CREATE TABLE personal (question text);
CREATE TABLE readers (question text);
INSERT INTO readers VALUES ('SELECT adclick.unique_users(5, 60)'),
	('SELECT adclick.unique_users_between(5, ''-infinity'', ''infinity'')'), ('SELECT * FROM adclick.explain_top_n(1, 60)'),
	('SELECT * FROM adclick.explain_top_n_between(1, ''-infinity'', ''infinity'')'), ('SELECT * FROM adclick.explain_top_n(1, 60, ''{"user_id": [42]}'')');
INSERT INTO personal VALUES ('SELECT adclick.ad_click_count(5, 60, ''{"user_id": 42}'')'),
	('SELECT adclick.ad_click_count(5, 60, ''{"ip": "0.0.0.0/1"}'')'),
	('SELECT adclick.ad_click_count(5, 60, ''{"ip": []}'')'),
	('SELECT adclick.ad_click_count_between(5, ''-infinity'', ''infinity'', ''{"user_id": 42, "ip": "203.0.113.0/24"}'')'),
	('SELECT * FROM adclick.top_n_ads(1, 60, ''{"user_id": 42}'')'),
	('SELECT * FROM adclick.top_n_ads_between(1, ''-infinity'', ''infinity'', ''{"ip": "::/0"}'')'),
	('SELECT * FROM adclick.click_series(5, ''yesterday'', ''today'', ''1 hour'', ''{"user_id": 42}'')'),
	('SELECT * FROM adclick.breakdown(5, 60, ''country'', ''{"ip": "203.0.113.77"}'')'),
	('SELECT * FROM adclick.breakdown_between(5, ''-infinity'', ''infinity'', ''country'', ''{"user_id": 42}'')'),
	('SELECT adclick.advertiser_click_count(7, 60, ''{"user_id": 42}'')'),
	('SELECT adclick.advertiser_click_count_between(7, ''-infinity'', ''infinity'', ''{"ip": "::/0"}'')');
GRANT SELECT ON personal, readers TO PUBLIC;

SET ROLE tap_asker;
SELECT throws_ok(question, '42501', 'permission denied to ask about users and addresses', 'refused: ' || question) FROM personal;
SELECT throws_like(question, 'permission denied for function %', 'refused: ' || question) FROM readers;
SELECT is(adclick.ad_click_count(5, 60), 1::bigint, 'but clicks may be counted');
SELECT is(current_user::text, 'tap_asker', 'a question gives no rights away');
SELECT throws_ok('SELECT * FROM adclick.health()', '42501', 'permission denied for function health', 'the health is not everybody''s');
SELECT throws_ok('SELECT count(*) FROM ' || relation, '42501', NULL, 'no right to read ' || relation)
FROM unnest('{adclick.clicks,adclick.discarded_clicks,adclick.bad_lines,adclick.click_log,adclick.status,adclick.filters,adclick_internal.state}'::text[]) relation;
SELECT throws_ok('SELECT ' || function, '42501', 'permission denied for schema adclick_internal', 'no right to call ' || function)
FROM unnest('{adclick_internal.progress(),adclick_internal.workers(),adclick_internal.facts(),adclick_internal.ledger_clicks(),adclick_internal.discarded(),
	adclick_internal.judge(),adclick_internal.examine(),adclick_internal.worker(false),adclick_internal.open_writer(),
	adclick_internal.reset_privileges()}'::text[]) function;
RESET ROLE;

SET ROLE tap_member;
SELECT lives_ok(question, 'a member asks: ' || question) FROM (TABLE personal UNION ALL TABLE readers) q;
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
SELECT has_role(role) FROM unnest('{adclick_reader,adclick_ingest,adclick_advertiser,adclick_admin}'::name[]) role;
SELECT lives_ok('CREATE EXTENSION adclick', 'the role is there already');
SELECT bag_eq('TABLE rights', 'TABLE decided', 'the same rights again');

DROP OWNED BY tap_favourite, tap_asker, tap_member, tap_definer;
DROP ROLE tap_favourite, tap_asker, tap_member, tap_definer, tap_nobody;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO PUBLIC;
SELECT * FROM finish();
