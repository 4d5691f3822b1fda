-- The shape of what people use: functions, arguments, result types, relations.

SELECT plan(45);

SELECT has_schema('adclick');
SELECT tables_are('adclick', ARRAY['clicks', 'discarded_clicks', 'filters']);
SELECT views_are('adclick', ARRAY['status', 'ad_click_counts', 'clicks_per_minute']);
SELECT is_partitioned('adclick', 'clicks', 'the click log is partitioned');

SELECT functions_are('adclick', ARRAY['ad_click_count', 'top_n_ads', 'tick', 'compact']);
SELECT function_returns('adclick', 'ad_click_count', ARRAY['bigint', 'integer', 'jsonb'], 'bigint');
SELECT function_returns('adclick', 'ad_click_count',
	ARRAY['bigint', 'timestamp with time zone', 'timestamp with time zone', 'jsonb'], 'bigint');
SELECT function_returns('adclick', 'top_n_ads', ARRAY['integer', 'integer', 'jsonb'], 'setof record');
SELECT function_returns('adclick', 'top_n_ads',
	ARRAY['integer', 'timestamp with time zone', 'timestamp with time zone', 'jsonb'], 'setof record');
SELECT is(pg_get_function_arguments('adclick.ad_click_count(bigint, int, jsonb)'::regprocedure),
	'ad_id bigint, minutes integer, filters jsonb DEFAULT ''{}''::jsonb', 'arguments of ad_click_count, minutes');
SELECT is(pg_get_function_arguments('adclick.ad_click_count(bigint, timestamptz, timestamptz, jsonb)'::regprocedure),
	'ad_id bigint, "from" timestamp with time zone, "to" timestamp with time zone, filters jsonb DEFAULT ''{}''::jsonb',
	'arguments of ad_click_count, window');
SELECT is(pg_get_function_arguments('adclick.top_n_ads(int, int, jsonb)'::regprocedure),
	'n integer, minutes integer, filters jsonb DEFAULT ''{}''::jsonb', 'arguments of top_n_ads, minutes');
SELECT is(pg_get_function_arguments('adclick.top_n_ads(int, timestamptz, timestamptz, jsonb)'::regprocedure),
	'n integer, "from" timestamp with time zone, "to" timestamp with time zone, filters jsonb DEFAULT ''{}''::jsonb',
	'arguments of top_n_ads, window');
SELECT is(pg_get_function_result('adclick.top_n_ads(int, int, jsonb)'::regprocedure),
	'TABLE(rank integer, ad_id bigint, click_count bigint)', 'columns of top_n_ads');
SELECT volatility_is('adclick', 'ad_click_count', ARRAY['bigint', 'integer', 'jsonb'], 'stable');
SELECT volatility_is('adclick', 'top_n_ads', ARRAY['integer', 'integer', 'jsonb'], 'stable');
SELECT volatility_is('adclick', 'tick', ARRAY[]::name[], 'volatile');
SELECT is_strict('adclick', 'ad_click_count', ARRAY['bigint', 'integer', 'jsonb']);

SELECT columns_are('adclick', 'clicks', ARRAY['click_id', 'ad_id', 'clicked_at', 'user_id', 'ip', 'country', 'region',
	'device', 'received_at', 'xact']);
SELECT col_type_is('adclick', 'clicks', 'click_id', 'uuid', 'adclick.clicks.click_id is uuid');
SELECT col_type_is('adclick', 'clicks', 'ad_id', 'bigint', 'adclick.clicks.ad_id is bigint');
SELECT col_type_is('adclick', 'clicks', 'clicked_at', 'timestamp with time zone', 'adclick.clicks.clicked_at is timestamp with time zone');
SELECT col_type_is('adclick', 'clicks', 'user_id', 'bigint', 'adclick.clicks.user_id is bigint');
SELECT col_type_is('adclick', 'clicks', 'ip', 'inet', 'adclick.clicks.ip is inet');
SELECT col_type_is('adclick', 'clicks', 'country', 'text', 'adclick.clicks.country is text');
SELECT col_type_is('adclick', 'clicks', 'xact', 'xid8', 'adclick.clicks.xact is xid8');
SELECT col_type_is('adclick', 'clicks', 'received_at', 'timestamp with time zone', 'adclick.clicks.received_at is timestamp with time zone');
SELECT col_not_null('adclick', 'clicks', 'ad_id', 'adclick.clicks.ad_id is obligatory');
SELECT col_is_null('adclick', 'clicks', 'click_id', 'adclick.clicks.click_id may be missing');
SELECT col_is_null('adclick', 'clicks', 'clicked_at', 'adclick.clicks.clicked_at may be missing');
SELECT col_has_default('adclick', 'clicks', 'click_id', 'adclick.clicks.click_id has a default');
SELECT col_has_default('adclick', 'clicks', 'clicked_at', 'adclick.clicks.clicked_at has a default');

SELECT columns_are('adclick', 'filters', ARRAY['filter_id', 'country', 'region', 'device']);
SELECT col_is_pk('adclick', 'filters', 'filter_id', 'adclick.filters.filter_id is the key');
SELECT has_column('adclick', 'discarded_clicks', 'reason', 'adclick.discarded_clicks.reason is there');
SELECT has_column('adclick', 'discarded_clicks', 'discarded_at', 'adclick.discarded_clicks.discarded_at is there');
SELECT has_column('adclick', 'status', c, 'adclick.status.' || c || ' is there')
FROM unnest(ARRAY['lag_rows', 'lag_seconds', 'last_tick', 'clicks_counted', 'duplicates', 'discarded',
	'open_minutes', 'last_error', 'workers_alive']) c;

SELECT * FROM finish();
