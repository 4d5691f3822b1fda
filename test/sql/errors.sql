-- What is refused: code, message, detail and hint of every error.
CREATE EXTENSION adclick;
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';

CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(E'\n  ', SQLSTATE || ' ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;

-- Numbers
SELECT try('SELECT adclick.ad_click_count(1, 0)');
SELECT try('SELECT adclick.ad_click_count(1, -2147483648)');
SELECT try('SELECT adclick.top_n_ads(0, 5)');
SELECT try('SELECT adclick.top_n_ads(-1, 5)');
SELECT try('SELECT adclick.top_n_ads(1, 0)');
SELECT try($$SELECT adclick.top_n_ads(0, timestamptz '-infinity', 'infinity')$$);

-- Windows
SELECT try($$SELECT adclick.ad_click_count(1, timestamptz '2026-01-01 00:01Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.top_n_ads(1, timestamptz '2026-01-01 00:01Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.ad_click_count(1, timestamptz 'infinity', '-infinity')$$);
SELECT try($$SELECT adclick.ad_click_count(1, timestamptz '2026-01-01 00:00:30Z', '2026-01-01 00:05Z')$$);
SELECT try($$SELECT adclick.ad_click_count(1, timestamptz '2026-01-01 00:00Z', '2026-01-01 00:04:59.999999Z')$$);
SELECT try($$SELECT adclick.top_n_ads(1, timestamptz '1999-12-31 23:59:00.000001Z', 'infinity')$$);

-- Filters: unknown keys
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"city": "Ottawa"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"Country": "CA"}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"": "CA"}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"country": "CA", "city": "Ottawa"}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, timestamptz '-infinity', 'infinity', '{"city": []}')$$);

-- Filters: wrong types
SELECT try($$SELECT adclick.ad_click_count(1, 5, '[]')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '["country", "CA"]')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '"CA"')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, 'null')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '7')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": null}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"region": 7}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"device": true}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": {"is": "CA"}}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": {}}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": ["CA", null]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": ["CA", 7]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": ["CA", ["US"]]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": [[]]}')$$);
SELECT try($$SELECT adclick.ad_click_count(1, 5, '{"country": [{"is": "CA"}]}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"country": false}')$$);
SELECT try($$SELECT adclick.top_n_ads(1, 5, '{"country"}')$$);

-- What is no error
SELECT try('SELECT adclick.ad_click_count(1, 1)');
SELECT try('SELECT adclick.ad_click_count(1, 2147483647)');
SELECT try('SELECT adclick.top_n_ads(2147483647, 2147483647)');
SELECT try($$SELECT adclick.ad_click_count(1, timestamptz '2026-01-01 00:00Z', '2026-01-01 00:00Z')$$);
SELECT try($$SELECT adclick.ad_click_count(1, timestamptz '4713-01-01 00:00Z BC', '294276-12-31 23:59Z')$$);
SELECT try($$SELECT adclick.top_n_ads(1, timestamptz '-infinity', 'infinity', '{"country": [], "region": "", "device": ["\u00e9"]}')$$);

-- NULL is answered by NULL, or by no row
SELECT adclick.ad_click_count(NULL, 5) IS NULL, adclick.ad_click_count(1, NULL) IS NULL,
	adclick.ad_click_count(1, 5, NULL) IS NULL, adclick.ad_click_count(1, NULL, timestamptz 'infinity') IS NULL;
SELECT count(*) FROM adclick.top_n_ads(NULL, 5);

-- The log is append-only, whether a row is there or not, in the parent and in a partition
SELECT try('UPDATE adclick.clicks SET ad_id = 2');
SELECT try('DELETE FROM adclick.clicks');
SELECT try('TRUNCATE adclick.clicks');
INSERT INTO adclick.clicks (ad_id) VALUES (1);
SELECT tableoid::regclass AS partition FROM adclick.clicks \gset
SELECT try('UPDATE adclick.clicks SET ad_id = 2');
SELECT try('DELETE FROM adclick.clicks WHERE ad_id = 1');
SELECT try('TRUNCATE adclick.clicks');
SELECT try('UPDATE ' || :'partition' || ' SET ad_id = 2');
SELECT try('DELETE FROM ' || :'partition');
SELECT try('TRUNCATE ' || :'partition');
SELECT try('TRUNCATE adclick_internal.clicks_default');
SELECT try($$INSERT INTO adclick.clicks (ad_id, click_id) VALUES (1, 'not a uuid')$$);
SELECT try('MERGE INTO adclick.clicks c USING (VALUES (1)) v(ad) ON c.ad_id = v.ad WHEN MATCHED THEN DELETE');
SELECT count(*) FROM adclick.clicks;

-- Of a click's columns only ad_id is obligatory
SELECT try('INSERT INTO adclick.clicks (user_id) VALUES (1)') LIKE '23502 null value in column "ad_id"%';
SELECT try('INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	VALUES (NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL)');

-- Rounds by hand write
BEGIN TRANSACTION READ ONLY;
SELECT adclick.tick();
ROLLBACK;
BEGIN TRANSACTION READ ONLY;
SELECT adclick.compact();
ROLLBACK;

-- Settings
SELECT try('SET adclick.dedup_window = ''10min''');
SELECT try('SET adclick.dedup_memory = ''1GB''');
SELECT try('SET adclick.no_such_setting = 1');
SELECT try('SELECT adclick_internal.refuse_change()');

DROP FUNCTION try;
DROP EXTENSION adclick;
