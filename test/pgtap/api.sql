-- The shape of what people use: functions, arguments, result types, relations.

SELECT no_plan();

SELECT has_schema('adclick');
SELECT tables_are('adclick', ARRAY['clicks', 'filters', 'most_clicked_ads', 'most_clicked_ads_hourly', 'most_clicked_ads_daily', 'ads', 'advertiser_roles',
	'differences', 'reconciled_hours', 'reconciliations', 'archived_volumes', 'restored_hours', 'bad_lines']);
SELECT views_are('adclick', ARRAY['status', 'storage', 'ad_click_counts', 'ad_click_counts_hourly', 'ad_click_counts_daily', 'clicks_per_minute', 'click_log', 'discarded_clicks', 'own_ads', 'sources']);
SELECT isnt_partitioned('adclick', 'clicks', 'clicks go into one table');
SELECT is((SELECT amname::text FROM pg_am JOIN pg_class c ON c.relam = pg_am.oid WHERE c.oid = 'adclick.clicks'::regclass), 'adclick_inbox', 'of an access method of its own');

SELECT functions_are('adclick', ARRAY['ad_click_count', 'ad_click_count_between', 'top_n_ads', 'top_n_ads_between', 'explain_top_n',
	'explain_top_n_between', 'click_series', 'advertiser_click_count', 'advertiser_click_count_between', 'unique_users',
	'unique_users_between', 'breakdown', 'breakdown_between', 'add_filter', 'drop_filter', 'tick', 'compact', 'recompute', 'apply_retention', 'archive_volume', 'restore_clicks', 'release_clicks', 'forget_user', 'check_ledger', 'health', 'archive_clicks', 'reconcile', 'reconcile_hour', 'begin_restore', 'end_restore',
	'add_source', 'drop_source', 'read_sources', 'schedule', 'unschedule', 'click', 'click_id', 'new_impression', 'rotate_impression_secret']);
-- Drivers send parameters without a type, and tools that map functions skip names that mean several.
SELECT is_empty($$SELECT proname, count(*) FROM pg_proc WHERE pronamespace = 'adclick'::regnamespace GROUP BY 1 HAVING count(*) > 1$$,
	'no function name is overloaded');

-- The signatures; questions are strict and stable, and for readers.
CREATE TEMP TABLE signatures (function regprocedure, arguments text, result text, is_question boolean);
INSERT INTO signatures VALUES
	('adclick.ad_click_count(bigint, int, jsonb)', 'ad_id bigint, minutes integer, filters jsonb DEFAULT ''{}''::jsonb', 'bigint', true),
	('adclick.ad_click_count_between(bigint, timestamptz, timestamptz, jsonb)',
		'ad_id bigint, "from" timestamp with time zone, "to" timestamp with time zone, filters jsonb DEFAULT ''{}''::jsonb', 'bigint', true),
	('adclick.top_n_ads(int, int, jsonb)', 'n integer, minutes integer, filters jsonb DEFAULT ''{}''::jsonb',
		'TABLE(rank integer, ad_id bigint, click_count bigint)', true),
	('adclick.top_n_ads_between(int, timestamptz, timestamptz, jsonb)',
		'n integer, "from" timestamp with time zone, "to" timestamp with time zone, filters jsonb DEFAULT ''{}''::jsonb',
		'TABLE(rank integer, ad_id bigint, click_count bigint)', true),
	('adclick.explain_top_n(int, int, jsonb)', 'n integer, minutes integer, filters jsonb DEFAULT ''{}''::jsonb',
		'TABLE(way text, lists integer, cut_off bigint, nth_count bigint, candidates integer, probes integer, runs integer, '
		'segments bigint, facts bigint, tail bigint)', true),
	('adclick.explain_top_n_between(int, timestamptz, timestamptz, jsonb)',
		'n integer, "from" timestamp with time zone, "to" timestamp with time zone, filters jsonb DEFAULT ''{}''::jsonb',
		'TABLE(way text, lists integer, cut_off bigint, nth_count bigint, candidates integer, probes integer, runs integer, '
		'segments bigint, facts bigint, tail bigint)', true),
	('adclick.click_series(bigint, timestamptz, timestamptz, interval, jsonb)',
		'ad_id bigint, "from" timestamp with time zone, "to" timestamp with time zone, bucket interval, filters jsonb DEFAULT ''{}''::jsonb',
		'TABLE("time" timestamp with time zone, click_count bigint)', true),
	('adclick.advertiser_click_count(bigint, int, jsonb)', 'advertiser_id bigint, minutes integer, filters jsonb DEFAULT ''{}''::jsonb',
		'bigint', true),
	('adclick.advertiser_click_count_between(bigint, timestamptz, timestamptz, jsonb)',
		'advertiser_id bigint, "from" timestamp with time zone, "to" timestamp with time zone, filters jsonb DEFAULT ''{}''::jsonb',
		'bigint', true),
	('adclick.unique_users(bigint, int, jsonb)', 'ad_id bigint, minutes integer, filters jsonb DEFAULT ''{}''::jsonb', 'bigint', true),
	('adclick.unique_users_between(bigint, timestamptz, timestamptz, jsonb)',
		'ad_id bigint, "from" timestamp with time zone, "to" timestamp with time zone, filters jsonb DEFAULT ''{}''::jsonb', 'bigint', true),
	('adclick.breakdown(bigint, int, text, jsonb)', 'ad_id bigint, minutes integer, dimension text, filters jsonb DEFAULT ''{}''::jsonb',
		'TABLE(value text, click_count bigint)', true),
	('adclick.breakdown_between(bigint, timestamptz, timestamptz, text, jsonb)',
		'ad_id bigint, "from" timestamp with time zone, "to" timestamp with time zone, dimension text, filters jsonb DEFAULT ''{}''::jsonb',
		'TABLE(value text, click_count bigint)', true),
	('adclick.add_filter(jsonb)', 'filter jsonb', 'integer', false),
	('adclick.drop_filter(jsonb)', 'filter jsonb', 'void', false),
	('adclick.recompute(timestamptz, timestamptz)', '"from" timestamp with time zone, "to" timestamp with time zone', 'bigint', false),
	('adclick.forget_user(bigint)', 'user_id bigint', 'bigint', false),
	('adclick.click(bigint, bigint, inet, text, text, text, text)',
		'ad_id bigint, user_id bigint, ip inet, country text, region text, device text, impression text DEFAULT NULL::text', 'text', false),
	('adclick.click_id(uuid, timestamptz, bigint, bigint, text)',
		'click_id uuid, clicked_at timestamp with time zone, ad_id bigint, user_id bigint, impression text', 'uuid', false),
	('adclick.new_impression(bigint, bigint)', 'ad_id bigint, user_id bigint DEFAULT NULL::bigint', 'text', false),
	('adclick.rotate_impression_secret(boolean)', 'revoke boolean DEFAULT false', 'void', false),
	('adclick.archive_volume()', '', 'boolean', false),
	('adclick.restore_clicks(timestamptz, timestamptz)', '"from" timestamp with time zone, "to" timestamp with time zone', 'bigint', false),
	('adclick.release_clicks()', '', 'bigint', false),
	('adclick.add_source(text, text, text, jsonb)', 'name text, path text, format text DEFAULT ''csv''::text, columns jsonb DEFAULT ''{}''::jsonb', 'void', false),
	('adclick.drop_source(text)', 'name text', 'void', false),
	('adclick.begin_restore()', '', 'void', false),
	('adclick.end_restore(boolean)', 'incomplete boolean DEFAULT false', 'void', false);
SELECT is(pg_get_function_arguments(function), arguments, 'arguments of ' || function) FROM signatures;
SELECT is(pg_get_function_result(function), result, 'result of ' || function) FROM signatures;
SELECT ok(provolatile = 's' AND proisstrict AND NOT prosecdef AND proparallel = 'r', function || ' is stable, strict and knows its caller')
FROM signatures JOIN pg_proc ON oid = function WHERE is_question;
SELECT is(has_function_privilege('adclick_reader', function, 'EXECUTE'), is_question, 'who may run ' || function) FROM signatures;
SELECT is(array_agg(function::oid ORDER BY function::oid), array_agg(oid ORDER BY oid), 'and there are no others')
FROM signatures FULL JOIN (SELECT * FROM pg_proc WHERE pronamespace = 'adclick'::regnamespace
	AND proname NOT IN ('tick', 'compact', 'read_sources', 'apply_retention', 'check_ledger', 'health', 'archive_clicks', 'reconcile', 'reconcile_hour', 'schedule', 'unschedule')) p ON oid = function;
SELECT ok(provolatile = 'v' AND NOT proisstrict AND NOT prosecdef, proname || ' is volatile, and takes NULLs')
FROM pg_proc WHERE oid IN ('adclick.click(bigint, bigint, inet, text, text, text, text)'::regprocedure, 'adclick.new_impression(bigint, bigint)'::regprocedure,
	'adclick.click_id(uuid, timestamptz, bigint, bigint, text)'::regprocedure);
-- For PostgREST: questions can be asked by GET, as they write nothing.
SELECT functions_are('adclick_api', ARRAY['sender', 'click', 'filters', 'ad_click_count', 'top_n_ads', 'click_series', 'breakdown', 'clicks_per_minute']);
SELECT is_empty($$SELECT proname, count(*) FROM pg_proc WHERE pronamespace = 'adclick_api'::regnamespace GROUP BY 1 HAVING count(*) > 1$$, 'one of each');
SELECT is((provolatile, proisstrict, prosecdef, proretset, pg_get_function_result(oid))::text, '(s,t,f,f,json)', 'adclick_api.' || proname || ' is a question')
FROM pg_proc WHERE pronamespace = 'adclick_api'::regnamespace AND proname NOT IN ('sender', 'click', 'filters');
SELECT volatility_is('adclick_api', 'click', ARRAY['bigint', 'bigint', 'text'], 'volatile');

SELECT volatility_is('adclick', 'tick', ARRAY[]::name[], 'volatile');
SELECT volatility_is('adclick', 'forget_user', ARRAY['bigint'], 'volatile');
SELECT volatility_is('adclick', 'recompute', ARRAY['timestamp with time zone', 'timestamp with time zone'], 'volatile');
SELECT volatility_is('adclick', 'apply_retention', ARRAY[]::name[], 'volatile');
SELECT volatility_is('adclick', 'check_ledger', ARRAY[]::name[], 'stable');
SELECT columns_are('adclick', 'click_log', ARRAY['click_id', 'ad_id', 'clicked_at', 'user_id', 'received_at', 'ip', 'country', 'region',
	'device', 'verdict']);

SELECT columns_are('adclick', 'clicks', ARRAY['click_id', 'ad_id', 'clicked_at', 'user_id', 'ip', 'country', 'region',
	'device', 'received_at']);
SELECT col_type_is('adclick', 'clicks', 'click_id', 'uuid', 'adclick.clicks.click_id is uuid');
SELECT col_type_is('adclick', 'clicks', 'ad_id', 'bigint', 'adclick.clicks.ad_id is bigint');
SELECT col_type_is('adclick', 'clicks', 'clicked_at', 'timestamp with time zone', 'adclick.clicks.clicked_at is timestamp with time zone');
SELECT col_type_is('adclick', 'clicks', 'user_id', 'bigint', 'adclick.clicks.user_id is bigint');
SELECT col_type_is('adclick', 'clicks', 'ip', 'inet', 'adclick.clicks.ip is inet');
SELECT col_type_is('adclick', 'clicks', 'country', 'text', 'adclick.clicks.country is text');
SELECT col_type_is('adclick', 'clicks', 'received_at', 'timestamp with time zone', 'adclick.clicks.received_at is timestamp with time zone');
SELECT col_not_null('adclick', 'clicks', 'ad_id', 'adclick.clicks.ad_id is obligatory');
SELECT col_is_null('adclick', 'clicks', 'click_id', 'adclick.clicks.click_id may be missing');
SELECT col_is_null('adclick', 'clicks', 'clicked_at', 'adclick.clicks.clicked_at may be missing');
SELECT col_has_default('adclick', 'clicks', 'clicked_at', 'adclick.clicks.clicked_at has a default');

SELECT columns_are('adclick', 'filters', ARRAY['filter_id', 'country', 'region', 'device', 'last_day']);
SELECT col_is_pk('adclick', 'filters', 'filter_id', 'adclick.filters.filter_id is the key');
SELECT results_eq('SELECT * FROM adclick.filters', $$VALUES (0, NULL::text, NULL::text, NULL::text, NULL::date)$$, 'filter 0 is none');

SELECT has_type('adclick', 'ad_click', 'adclick.ad_click is a type');
SELECT columns_are('adclick', 'ad_click', ARRAY['ad_id', 'click_count']);
SELECT columns_are('adclick', 'most_clicked_ads', ARRAY['click_minute', 'filter_id', 'most_clicked_ads', 'cut_off']);
SELECT columns_are('adclick', 'most_clicked_ads_hourly', ARRAY['click_hour', 'filter_id', 'most_clicked_ads', 'cut_off']);
SELECT col_is_pk('adclick', 'most_clicked_ads_hourly', ARRAY['filter_id', 'click_hour'], 'filter and hour are the key');
SELECT columns_are('adclick', 'most_clicked_ads_daily', ARRAY['click_day', 'filter_id', 'most_clicked_ads', 'cut_off']);
SELECT col_is_pk('adclick', 'most_clicked_ads_daily', ARRAY['filter_id', 'click_day'], 'filter and day are the key');
SELECT columns_are('adclick', 'ad_click_counts_hourly', ARRAY['ad_id', 'advertiser_id', 'click_hour', 'filter_id', 'click_count']);
SELECT columns_are('adclick', 'ad_click_counts_daily', ARRAY['ad_id', 'advertiser_id', 'click_day', 'filter_id', 'click_count']);
SELECT col_is_pk('adclick', 'most_clicked_ads', ARRAY['filter_id', 'click_minute'], 'filter and minute are the key');
SELECT col_type_is('adclick', 'most_clicked_ads', 'click_minute', 'timestamp with time zone', 'adclick.most_clicked_ads.click_minute is timestamptz');
SELECT col_type_is('adclick', 'most_clicked_ads', 'most_clicked_ads', 'adclick.ad_click[]', 'adclick.most_clicked_ads.most_clicked_ads is ad_click[]');
SELECT col_type_is('adclick', 'most_clicked_ads', 'cut_off', 'bigint', 'adclick.most_clicked_ads.cut_off is bigint');
SELECT columns_are('adclick', 'ads', ARRAY['ad_id', 'advertiser_id', 'redirect_url', 'website', 'active', 'dedup_by', 'created_at']);
SELECT columns_are('adclick', 'advertiser_roles', ARRAY['role_name', 'advertiser_id']);
SELECT col_is_pk('adclick', 'advertiser_roles', ARRAY['role_name', 'advertiser_id'], 'a role is an advertiser once');
SELECT col_type_is('adclick', 'advertiser_roles', 'role_name', 'name', 'adclick.advertiser_roles.role_name is a name');
SELECT columns_are('adclick', 'own_ads', ARRAY['ad_id', 'advertiser_id', 'redirect_url', 'website', 'active', 'dedup_by']);
SELECT col_is_pk('adclick', 'ads', 'ad_id', 'adclick.ads.ad_id is the key');
SELECT col_type_is('adclick', 'ads', 'advertiser_id', 'bigint', 'adclick.ads.advertiser_id is bigint');
SELECT col_is_null('adclick', 'ads', 'advertiser_id', 'adclick.ads.advertiser_id may be missing');
SELECT columns_are('adclick', 'click_log', ARRAY['click_id', 'ad_id', 'clicked_at', 'user_id', 'received_at', 'ip', 'country', 'region',
	'device', 'verdict']);
SELECT col_type_is('adclick', 'click_log', 'verdict', 'text', 'adclick.click_log.verdict is text');
SELECT columns_are('adclick', 'discarded_clicks', ARRAY['click_id', 'ad_id', 'clicked_at', 'user_id', 'received_at', 'ip', 'country',
	'region', 'device', 'reason', 'discarded_at']);
SELECT has_column('adclick', 'discarded_clicks', 'reason', 'adclick.discarded_clicks.reason is there');
SELECT has_column('adclick', 'discarded_clicks', 'discarded_at', 'adclick.discarded_clicks.discarded_at is there');
SELECT has_column('adclick', 'status', c, 'adclick.status.' || c || ' is there')
FROM unnest(ARRAY['lag_rows', 'lag_seconds', 'last_tick', 'last_tick_seconds', 'worst_tick_seconds', 'clicks_per_second',
	'clicks_taken', 'clicks_counted', 'late_clicks', 'duplicates', 'discarded', 'in_future', 'too_old', 'undecided', 'forged', 'expired', 'user_limit', 'address_limit',
	'clicks_dropped', 'discarded_dropped', 'dropped_until', 'people_dropped_until', 'minutes_dropped_until', 'days_dropped_until', 'open_minutes', 'last_reconciled_at', 'errors', 'last_error', 'workers_alive', 'workers_wanted']) c;
SELECT columns_are('adclick', 'storage', ARRAY['relation', 'bytes', 'purpose']);
SELECT columns_are('adclick', 'differences', ARRAY['hour', 'what', 'click_minute', 'ad_id', 'filter_id', 'user_id', 'ip', 'expected', 'stored']);
SELECT columns_are('adclick', 'reconciled_hours', ARRAY['hour', 'reconciled_at', 'clicks', 'differences', 'repaired', 'problem']);
SELECT col_is_pk('adclick', 'reconciled_hours', 'hour', 'an hour is there once');
SELECT columns_are('adclick', 'reconciliations', ARRAY['reconciliation_id', 'since', 'until', 'repair', 'only_changed', 'started_at', 'finished_at', 'hours', 'hours_done',
	'clicks', 'differences']);
SELECT is_procedure('adclick', 'reconcile', 'adclick.reconcile() is a procedure');
SELECT is_procedure('adclick', 'archive_clicks', 'adclick.archive_clicks() is one');
SELECT columns_are('adclick', 'archived_volumes', ARRAY['volume', 'first_minute', 'last_minute', 'clicks', 'contents', 'file', 'bytes', 'sha256', 'archived_at', 'dropped_at']);
SELECT col_is_pk('adclick', 'archived_volumes', 'volume', 'a volume is there once');
SELECT columns_are('adclick', 'restored_hours', ARRAY['hour', 'volume', 'clicks', 'restored_at']);
SELECT columns_are('adclick', 'sources', ARRAY['name', 'path', 'format', 'columns', 'added_by', 'added_at', 'files', 'bytes_read', 'bytes_waiting', 'lines', 'bad_lines',
	'last_read_at', 'last_error', 'last_error_at']);
SELECT columns_are('adclick', 'bad_lines', ARRAY['source', 'file', 'byte_offset', 'line', 'sqlstate', 'reason', 'set_aside_at']);
SELECT col_is_pk('adclick', 'restored_hours', ARRAY['hour', 'volume'], 'an hour of a volume is there once');
SELECT is(has_function_privilege(role, function, 'EXECUTE'), false, role || ' may not call ' || function)
FROM unnest('{adclick_reader,pg_monitor,pg_read_all_data}'::text[]) role,
	unnest('{"adclick.reconcile(timestamptz, timestamptz, boolean, boolean)","adclick.reconcile_hour(timestamptz, timestamptz, boolean, boolean)",
	"adclick.schedule()","adclick.unschedule()","adclick.archive_clicks()"}'::text[]) function;
SELECT is(pg_get_function_result('adclick.health()'::regprocedure), 'record', 'adclick.health() is a record');
SELECT is(proargnames, '{health,reason}', 'of two texts') FROM pg_proc WHERE oid = 'adclick.health()'::regprocedure;
SELECT volatility_is('adclick', 'health', ARRAY[]::name[], 'stable');
SELECT is(has_function_privilege(role, 'adclick.health()', 'EXECUTE'), may, 'whether ' || role || ' may ask for the health')
FROM (VALUES ('adclick_reader', true), ('pg_monitor', true), ('pg_read_all_data', false)) r (role, may);

SELECT * FROM finish();
