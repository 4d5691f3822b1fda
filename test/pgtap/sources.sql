-- Log files: the clicks that got in are those that an independent parse of the same lines
-- takes, each once, whatever becomes of the files; other lines are set aside.

\set ON_ERROR_STOP on
SET client_min_messages = error;

CREATE TABLE place AS SELECT '/tmp/adclick logs ' || gen_random_uuid() AS directory;
SELECT directory FROM place \gset

CREATE FUNCTION sh(command text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (SELECT 1 WHERE false) TO PROGRAM %L', format('cd ''%s'' && ', (SELECT directory FROM place)) || command);
END
$$;
SELECT format('mkdir "%s"', directory) AS command FROM place \gset
COPY (SELECT 1 WHERE false) TO PROGRAM :'command';

CREATE FUNCTION place_of(file text) RETURNS text LANGUAGE sql AS $$ SELECT directory || '/' || file FROM place $$;

CREATE FUNCTION append(file text, bytes bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (SELECT %L) TO PROGRAM %L', translate(encode(bytes, 'base64'), E'\n', ''), format('base64 -d >> ''%s''', place_of(file)));
END
$$;
CREATE FUNCTION append(file text, line text) RETURNS void LANGUAGE sql AS $$ SELECT append(file, convert_to(line, 'UTF8')) $$;

-- Read all there is; returns how many clicks came.
CREATE FUNCTION read_all() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result record;
	total bigint := 0;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		SELECT * INTO result FROM adclick.read_sources();
		total := total + result.lines;
		IF NOT result.more THEN
			RETURN total;
		END IF;
	END LOOP;
	RAISE EXCEPTION 'there is always more';
END
$$;

SELECT no_plan();
SELECT random() AS seed \gset
SELECT diag('seed ' || :'seed');
SELECT setseed(:seed) AS seeded \gset

--
-- Adding and dropping
--

SELECT throws_ok($$SELECT adclick.add_source('', '/tmp/x')$$, '22023', 'the name of a source must have 1 to 63 bytes');
SELECT throws_ok($$SELECT adclick.add_source('a', 'x')$$, '22023', 'the path of a source must be absolute');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x', 'xml')$$, '22023', 'the format of a source must be csv or json');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x', 'csv', '[]')$$, '22023', 'columns must be a JSON object');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x', 'csv', '"ad_id"')$$, '22023', 'columns must be a JSON object');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x', 'csv', '{"ad_id": 1}')$$, '22023', 'the name of column "ad_id" in the files must be a string');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x', 'csv', '{"ad_id": "ad", "city": "c"}')$$, '42703', 'adclick.clicks has no column "city" that a file can have');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x', 'csv', '{"ad_id": "ad", "received_at": "c"}')$$, '42703', 'adclick.clicks has no column "received_at" that a file can have');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x', 'csv', '{"country": "c"}')$$, '22023', 'columns must say what ad_id is called');
SELECT throws_ok($$SELECT adclick.drop_source('a')$$, '42704', 'source "a" does not exist');
SELECT lives_ok($$SELECT adclick.add_source('a', '/tmp/x')$$, 'a source');
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/y')$$, '42710', 'source "a" already exists');
SELECT results_eq('SELECT name, path, format, columns, added_by, files, bytes_read, lines, last_error FROM adclick.sources',
	$$VALUES ('a', '/tmp/x', 'csv', '{}'::jsonb, 'postgres', 0::bigint, 0::bigint, 0::bigint, NULL)$$, 'is shown');
SELECT is((SELECT r FROM adclick.read_sources() r)::text, '(0,0,f)', 'no file meets it');
SELECT lives_ok($$SELECT adclick.drop_source('a')$$, 'and dropped');
SELECT is_empty('TABLE adclick.sources', 'for good');

CREATE ROLE tap_adder;
GRANT USAGE ON SCHEMA adclick TO tap_adder;
GRANT EXECUTE ON FUNCTION adclick.add_source(text, text, text, jsonb) TO tap_adder;
DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %s TO tap_adder', (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pgtap')); END $$;
SET ROLE tap_adder;
SELECT throws_ok($$SELECT adclick.add_source('a', '/tmp/x')$$, '42501', 'permission denied to have the server read log files');
RESET ROLE;
GRANT pg_read_server_files TO tap_adder;
SELECT format('SELECT adclick.add_source(%L, %L)', 'role', place_of('role.log')) AS add \gset
SET ROLE tap_adder;
SELECT lives_ok(:'add', 'who may read files of the server may add a source');
RESET ROLE;
SELECT append('role.log', E'ad_id\n7\n') \gset
SELECT is(read_all(), 1::bigint, 'which is read');
REVOKE pg_read_server_files FROM tap_adder;
SELECT append('role.log', E'7\n') \gset
SELECT is(read_all(), 0::bigint, 'as long as the role may');
SELECT is(last_error, 'role "tap_adder", who added it, may not read files of the server', 'and else it says so') FROM adclick.sources;
SELECT is(health || ': ' || split_part(reason, '; ', 1), 'warning: source "role" is not read: role "tap_adder", who added it, may not read files of the server', 'as the health does')
FROM adclick.health();
GRANT pg_read_server_files TO tap_adder;
SELECT is(read_all(), 1::bigint, 'it is read again');
SELECT is(last_error, NULL, 'and has no error') FROM adclick.sources;
SELECT adclick.drop_source('role') \gset
SELECT is_empty('TABLE adclick_internal.log_files', 'what was known of its files goes with it');
DROP OWNED BY tap_adder;
DROP ROLE tap_adder;
SELECT throws_ok('SELECT adclick.read_sources() FROM set_config(''transaction_read_only'', ''on'', true)', '25006', NULL, 'not in a read-only transaction');

--
-- CSV: random lines, hostile ones among them, in pieces
--

-- A line of CSV apart, as RFC 4180 has it, and quotes anywhere; NULL if a quote is not closed.
CREATE FUNCTION csv_values(line text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	result text[] := '{}';
	field text := '';
	quoted boolean := false;
	was_quoted boolean := false;
	c text;
	i int := 1;
BEGIN
	WHILE i <= length(line) LOOP
		c := substr(line, i, 1);
		IF quoted AND c = '"' AND substr(line, i + 1, 1) = '"' THEN
			field := field || '"';
			i := i + 1;
		ELSIF c = '"' THEN
			quoted := NOT quoted;
			was_quoted := true;
		ELSIF c = ',' AND NOT quoted THEN
			result := result || CASE WHEN field = '' AND NOT was_quoted THEN NULL ELSE field END;
			field := '';
			was_quoted := false;
		ELSE
			field := field || c;
		END IF;
		i := i + 1;
	END LOOP;
	IF quoted THEN
		RETURN NULL;
	END IF;
	RETURN result || CASE WHEN field = '' AND NOT was_quoted THEN NULL ELSE field END;
END
$$;

CREATE TYPE seen AS (ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet, country text, region text, device text, click_id uuid);

-- What a line is: a click, nothing (NULL), or an error.
CREATE FUNCTION csv_click(bytes bytea, OUT click seen, OUT is_bad boolean) LANGUAGE plpgsql AS $$
DECLARE
	line text;
	v text[];
BEGIN
	is_bad := false;
	IF bytes = '' OR bytes = '\x0d' THEN
		RETURN;
	END IF;
	is_bad := true;
	IF position('\x00'::bytea IN bytes) > 0 THEN
		RETURN;
	END IF;
	line := convert_from(bytes, 'UTF8');
	IF right(line, 1) = E'\r' THEN
		line := left(line, -1);
	END IF;
	IF position(E'\r' IN line) > 0 OR line = '\.' THEN
		RETURN;
	END IF;
	v := csv_values(line);
	IF v IS NULL OR cardinality(v) <> 9 OR v[2] IS NULL THEN
		RETURN;
	END IF;
	-- agent, ad, at, who, from, c, r, d, id
	click := ROW(v[2]::bigint, v[3]::timestamptz AT TIME ZONE 'UTC' AT TIME ZONE 'UTC', v[4]::bigint, v[5]::inet, v[6], v[7], v[8], v[9]::uuid)::seen;
	is_bad := false;
EXCEPTION WHEN data_exception THEN
	RETURN;
END
$$;

-- Each with an ad of its own, so that none is taken for another.
CREATE FUNCTION csv_line(n int) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	at text := to_char(timestamp '2026-03-01' + random() * interval '20 days', 'YYYY-MM-DD HH24:MI:SS.US') || (ARRAY['', '+00', 'Z', '+05:30'])[1 + floor(random() * 4)];
	line text := format('%s,%s,%s,%s,%s,%s,%s,%s,%s',
		(ARRAY['agent', '"a, ""quoted"" one"', '', '"', 'é', 'a "part" of it'])[CASE WHEN random() < 0.97 THEN 1 + floor(random() * 3) ELSE 4 + floor(random() * 3) END],
		n, at, CASE WHEN random() < 0.8 THEN floor(random() * 100)::text END,
		(ARRAY['203.0.113.7', '2001:db8::1', '10.0.0.0/8', ''])[1 + floor(random() * 4)],
		(ARRAY['CA', '"US"', '""', 'Île "de" France', ''])[1 + floor(random() * 5)], CASE WHEN random() < 0.3 THEN 'ON' END,
		(ARRAY['mobile', '"a, b"', repeat('long ', 80)])[CASE WHEN random() < 0.99 THEN 1 + floor(random() * 2) ELSE 3 END],
		CASE WHEN random() < 0.5 THEN gen_random_uuid()::text END);
BEGIN
	IF random() < 0.85 THEN
		RETURN convert_to(line, 'UTF8');
	END IF;
	CASE floor(random() * 17)::int
		WHEN 0 THEN RETURN '';
		WHEN 1 THEN RETURN '\x0d';
		WHEN 2 THEN RETURN convert_to('\.', 'UTF8');
		WHEN 3 THEN RETURN convert_to(line || E'\r', 'UTF8');
		WHEN 4 THEN RETURN convert_to(line || ',', 'UTF8');
		WHEN 5 THEN RETURN convert_to('only one', 'UTF8');
		WHEN 6 THEN RETURN convert_to(line, 'UTF8') || '\xff';
		WHEN 7 THEN RETURN convert_to(line, 'UTF8') || '\x00';
		WHEN 8 THEN RETURN '\xc3' || convert_to(line, 'UTF8');
		WHEN 9 THEN RETURN convert_to(replace(line, at, '2026-02-30'), 'UTF8');
		WHEN 10 THEN RETURN convert_to(replace(line, n || ',', '99999999999999999999,'), 'UTF8');
		WHEN 11 THEN RETURN convert_to(replace(line, n || ',', ','), 'UTF8');
		WHEN 12 THEN RETURN convert_to('"' || line, 'UTF8');
		WHEN 13 THEN RETURN convert_to(replace(line, ',', E'\r'), 'UTF8');
		WHEN 14 THEN RETURN convert_to(replace(line, at, at || '; DROP TABLE adclick.clicks'), 'UTF8');
		WHEN 15 THEN RETURN convert_to('\.' || line, 'UTF8');
		ELSE RETURN convert_to(line, 'UTF8') || convert_to(E'\t"', 'UTF8');
	END CASE;
END
$$;

CREATE TABLE lines (n int PRIMARY KEY, bytes bytea, starts bigint, click seen, is_bad boolean);
CREATE VIEW got AS
	SELECT ad_id, clicked_at, user_id, ip, country, region, device, click_id FROM adclick.clicks;
CREATE VIEW expected AS
	SELECT (click).ad_id, (click).clicked_at, (click).user_id, (click).ip, (click).country, (click).region, (click).device, (click).click_id
	FROM lines WHERE click IS DISTINCT FROM NULL AND (click).ad_id IS NOT NULL;
-- an id that the line has not is given by the inbox
CREATE FUNCTION clicks_ok(name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT is((SELECT count(*) FROM got), (SELECT count(*) FROM expected), name || ': so many clicks');
	RETURN NEXT is_empty('SELECT ad_id, clicked_at, user_id, ip, country, region, device FROM got EXCEPT ALL SELECT ad_id, clicked_at, user_id, ip, country, region, device FROM expected', name || ': no other ones');
	RETURN NEXT is_empty('SELECT ad_id, click_id FROM expected WHERE click_id IS NOT NULL EXCEPT ALL SELECT ad_id, click_id FROM got', name || ': with their ids');
END
$$;

SET timezone = 'UTC';
CREATE FUNCTION make_lines(first int, n int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO lines SELECT i, csv_line(i) FROM generate_series(first, first + n - 1) i;
	UPDATE lines l SET (click, is_bad) = (SELECT c.click, c.is_bad FROM csv_click(l.bytes) c) WHERE is_bad IS NULL
$$;
SELECT make_lines(1, 3000) \gset
UPDATE lines l SET starts = p.starts FROM (SELECT n, length(convert_to(E'agent,ad,at,who,from,c,r,d,id\n', 'UTF8')) + coalesce(sum(length(bytes) + 1) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS starts FROM lines) p WHERE p.n = l.n;
SELECT cmp_ok(count(*), '>', 150::bigint, 'lines that are no clicks') FROM lines WHERE is_bad;
SELECT cmp_ok(count(*), '>', 2000::bigint, 'and many that are') FROM expected;
TRUNCATE place;
INSERT INTO place VALUES (:'directory');
CREATE TABLE csv_file AS SELECT convert_to(E'agent,ad,at,who,from,c,r,d,id\n', 'UTF8') || string_agg(bytes || '\x0a', '' ORDER BY n) AS bytes FROM lines;

SELECT adclick.add_source('csv', place_of('clicks.csv'), 'csv',
	'{"ad_id": "ad", "clicked_at": "at", "user_id": "who", "ip": "from", "country": "c", "region": "r", "device": "d", "click_id": "id"}') \gset
DELETE FROM adclick.bad_lines;
SELECT adclick.tick() \gset
-- in pieces that end anywhere, some of a byte
DO $$
DECLARE
	all_bytes bytea := (SELECT bytes FROM csv_file);
	at int := 1;
	n int;
BEGIN
	WHILE at <= length(all_bytes) LOOP
		n := CASE WHEN at < 60 OR random() < 0.1 THEN 1 + random() * 20 ELSE random() * 40000 END;
		PERFORM append('clicks.csv', substr(all_bytes, at, n)), adclick.read_sources();
		at := at + n;
	END LOOP;
END
$$;
SELECT clicks_ok('CSV in pieces');
SELECT is((SELECT row(s.lines, s.bad_lines, s.bytes_read, s.bytes_waiting, s.last_error)::text FROM adclick.sources s),
	(SELECT row((SELECT count(*) FROM expected), (SELECT count(*) FROM lines WHERE is_bad), length(bytes), 0, NULL)::text FROM csv_file), 'the source says so');
SELECT bag_eq('SELECT byte_offset FROM adclick.bad_lines', 'SELECT starts FROM lines WHERE is_bad', 'bad lines by their places');
SELECT is_empty($$SELECT * FROM adclick.bad_lines WHERE sqlstate !~ '^(22|23)' OR reason = ''$$, 'with an error each');
SELECT is((SELECT count(*) FROM adclick.bad_lines WHERE line LIKE '\\xC3%'), (SELECT count(*) FROM lines WHERE is_bad AND substr(bytes, 1, 1) = '\xc3' AND substr(bytes, 2, 1) <> '\xa9'),
	'bytes that are no text are shown');
SELECT cmp_ok((SELECT count(*) FROM adclick.bad_lines WHERE line LIKE '%' || shown), '>', 0::bigint, 'such as ' || shown) FROM unnest('{"\\\\xFF","\\\\x00"}'::text[]) shown;

-- The same bytes in one go, and under a name of their own: read once more.
SELECT adclick.tick() \gset
SELECT append('again.csv', bytes) FROM csv_file \gset
SELECT adclick.add_source('again', place_of('again.csv'), 'csv',
	'{"ad_id": "ad", "clicked_at": "at", "user_id": "who", "ip": "from", "country": "c", "region": "r", "device": "d", "click_id": "id"}') \gset
SELECT read_all() AS n \gset
SELECT clicks_ok('CSV in one go');
SELECT bag_eq($$SELECT byte_offset, line, sqlstate, reason FROM adclick.bad_lines WHERE source = 'again'$$,
	$$SELECT byte_offset, line, sqlstate, reason FROM adclick.bad_lines WHERE source = 'csv'$$, 'the same bad lines');
SELECT is(read_all(), 0::bigint, 'nothing twice');
SELECT adclick.drop_source('csv'), adclick.drop_source('again') \gset
SELECT is_empty('TABLE adclick.bad_lines', 'bad lines go with their sources');
SELECT adclick.tick() \gset

--
-- JSON lines
--

CREATE FUNCTION json_value_of(o json, name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE json_typeof(o -> name)
		WHEN 'number' THEN CASE WHEN o ->> name ~* 'e' THEN (o ->> name)::numeric::text ELSE o ->> name END
		WHEN 'string' THEN nullif(o ->> name, '')
		WHEN 'null' THEN NULL
		ELSE (o ->> name)::uuid::text END
	WHERE o -> name IS NOT NULL
$$;
CREATE FUNCTION json_click(bytes bytea, OUT click seen, OUT is_bad boolean) LANGUAGE plpgsql AS $$
DECLARE
	o json;
BEGIN
	is_bad := false;
	IF bytes = '' THEN
		RETURN;
	END IF;
	is_bad := true;
	IF position('\x00'::bytea IN bytes) > 0 THEN
		RETURN;
	END IF;
	o := convert_from(CASE substr(bytes, 1, 3) WHEN '\xefbbbf'::bytea THEN substr(bytes, 4) ELSE bytes END, 'UTF8')::json;
	IF json_typeof(o) <> 'object' OR json_value_of(o, 'ad') IS NULL THEN
		RETURN;
	END IF;
	click := ROW(json_value_of(o, 'ad')::bigint, json_value_of(o, 'at')::timestamptz, json_value_of(o, 'user_id')::bigint, json_value_of(o, 'ip')::inet, NULL, NULL, NULL, NULL)::seen;
	is_bad := false;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
	RETURN;
END
$$;
CREATE FUNCTION json_line(n int) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	line text := jsonb_build_object('ad', n, 'at', timestamptz '2026-03-01' + random() * interval '20 days', 'user_id', CASE WHEN random() < 0.7 THEN floor(random() * 100) END,
		'ip', CASE WHEN random() < 0.7 THEN '203.0.113.' || floor(random() * 256) END, 'country', 'not mapped', 'other', '{"ad": [1, "two"]}'::jsonb)::text;
BEGIN
	IF n = 1 THEN
		RETURN '\xefbbbf'::bytea || convert_to(line, 'UTF8');
	END IF;
	IF random() < 0.8 THEN
		RETURN convert_to(line, 'UTF8');
	END IF;
	CASE floor(random() * 27)::int
		WHEN 18 THEN RETURN convert_to(format('{"ad": %s.5e1, "user_id": 12e-1}', n), 'UTF8');
		WHEN 19 THEN RETURN convert_to(format('{"ad": %s5e-1, "user_id": 1.5E1, "ip": "2001:\u0064b8::%s"}', n, n), 'UTF8');
		WHEN 20 THEN RETURN convert_to(format('{"ad": %s, "other": 1e999999999, "ip": null, "at": null}', n), 'UTF8');
		WHEN 21 THEN RETURN convert_to(format('{"ad": [1], "ad": %s, "user_id": 5, "user_id": null}', n), 'UTF8');
		WHEN 22 THEN RETURN convert_to(format('{"ad": %s, "user_id": [], "at": "now"}', n), 'UTF8');
		WHEN 23 THEN RETURN convert_to(format('{"\u0061d": %s, "": 1, "x": {"ad": 1, "y": [{"user_id": 7}]}, "user_id": -0}', n), 'UTF8');
		WHEN 24 THEN RETURN convert_to(CASE n % 4 WHEN 0 THEN 'null' WHEN 1 THEN '"ad"' WHEN 2 THEN '5' ELSE '[{"ad": 5}]' END, 'UTF8');
		WHEN 25 THEN RETURN convert_to('{"ad": 5, "ip": tru}', 'UTF8');
		WHEN 26 THEN RETURN convert_to('{"ad": 5, "ip": "' || chr(7) || '"}', 'UTF8');
		WHEN 16 THEN RETURN convert_to(format('{"ad": %s, "at": "2026-03-01 00:00Z", "user_id": "", "ip": ""}', n), 'UTF8');
		WHEN 17 THEN RETURN convert_to('{"ad": ""}', 'UTF8');
		WHEN 0 THEN RETURN '';
		WHEN 1 THEN RETURN convert_to(left(line, -1), 'UTF8');
		WHEN 2 THEN RETURN convert_to('[' || line || ']', 'UTF8');
		WHEN 3 THEN RETURN convert_to(repeat('[', 100000), 'UTF8');
		WHEN 4 THEN RETURN convert_to(repeat('{"ad":', 50000), 'UTF8');
		WHEN 5 THEN RETURN convert_to('{"ad": 1e400}', 'UTF8');
		WHEN 6 THEN RETURN convert_to('{"ad": {"ad": 1}}', 'UTF8');
		WHEN 7 THEN RETURN convert_to('{"ad": true}', 'UTF8');
		WHEN 8 THEN RETURN convert_to('{"AD": 5}', 'UTF8');
		WHEN 9 THEN RETURN convert_to('{"ad": 5, "ip": "\u0000"}', 'UTF8');
		WHEN 10 THEN RETURN convert_to('{"ad": 5, "ip": "\ud800"}', 'UTF8');
		WHEN 11 THEN RETURN convert_to(line || ' ' || line, 'UTF8');
		WHEN 12 THEN RETURN convert_to(line, 'UTF8') || '\x00';
		WHEN 13 THEN RETURN '\xff' || convert_to(line, 'UTF8');
		WHEN 14 THEN RETURN convert_to(format('{"ad": "x", "ad": "%s"}', n), 'UTF8');
		ELSE RETURN convert_to(line || E' \r', 'UTF8');
	END CASE;
END
$$;
TRUNCATE lines;
INSERT INTO lines SELECT i, json_line(i) FROM generate_series(1, 1500) i;
UPDATE lines l SET (click, is_bad) = (SELECT c.click, c.is_bad FROM json_click(l.bytes) c);
SELECT cmp_ok(count(*), '>', 100::bigint, 'JSON that is no click') FROM lines WHERE is_bad;
SELECT adclick.add_source('json', place_of('*.json'), 'json', '{"ad_id": "ad", "clicked_at": "at", "user_id": "user_id", "ip": "ip"}') \gset
DO $$
DECLARE
	all_bytes bytea := (SELECT string_agg(bytes || '\x0a', '' ORDER BY n) FROM lines);
	at int := 1;
	n int;
BEGIN
	WHILE at <= length(all_bytes) LOOP
		n := 1 + random() * 800000;
		PERFORM append('clicks.json', substr(all_bytes, at, n)), adclick.read_sources();
		at := at + n;
	END LOOP;
END
$$;
SELECT clicks_ok('JSON in pieces');
SELECT is((SELECT count(*) FROM adclick.bad_lines), (SELECT count(*) FROM lines WHERE is_bad), 'bad lines are set aside');
SELECT adclick.drop_source('json'), adclick.tick() \gset

-- The same names on both sides.
SELECT adclick.add_source('json', place_of('same'), 'json'), append('same', E'{"ad_id": 4, "click_id": "00000000-0000-0000-0000-000000000004", "received_at": "nonsense", "device": "tv"}') \gset
SELECT is(read_all(), 0::bigint, 'a line without its end waits');
SELECT append('same', E'\n') \gset
SELECT is(read_all(), 1::bigint, 'until it comes');
SELECT results_eq('SELECT ad_id, click_id, device FROM adclick.clicks', $$VALUES (4::bigint, '00000000-0000-0000-0000-000000000004'::uuid, 'tv')$$, 'and when it arrived no file says');
SELECT adclick.drop_source('json'), adclick.tick() \gset

--
-- What becomes of files.  Each line has an ad of its own.
--

CREATE SEQUENCE ads START 100000;
CREATE TABLE written (ad_id bigint);
-- Write clicks to a file, with a header if it is new.
CREATE FUNCTION log_clicks(file text, n int DEFAULT 3) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	text text;
BEGIN
	WITH new AS (INSERT INTO written SELECT nextval('ads') FROM generate_series(1, n) RETURNING ad_id)
	SELECT string_agg(ad_id || E',a line that is as long as the others\n', '') INTO text FROM new;
	EXECUTE format('COPY (SELECT %L) TO PROGRAM %L', translate(encode(convert_to(text, 'UTF8'), 'base64'), E'\n', ''),
		format('test -s ''%1$s'' || echo ad_id,text > ''%1$s''; base64 -d >> ''%1$s''', place_of(file)));
END
$$;
CREATE FUNCTION once_ok(name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM read_all();
	RETURN NEXT bag_eq('SELECT ad_id FROM adclick.clicks', 'TABLE written', name || ': each line once');
	RETURN NEXT is_empty('SELECT name, last_error FROM adclick.sources WHERE last_error IS NOT NULL', name || ': no error');
	RETURN NEXT is_empty('TABLE adclick.bad_lines', name || ': no bad line');
END
$$;
CREATE FUNCTION begin_files(pattern text) RETURNS void LANGUAGE sql AS $$
	SELECT sh('rm -rf ./*');
	TRUNCATE written;
	SELECT adclick.tick();
	SELECT adclick.drop_source(name) FROM adclick.sources;
	SELECT adclick.add_source('log', place_of(pattern));
$$;

CREATE FUNCTION rotations_ok(pattern text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	lines int;
BEGIN
	FOREACH lines IN ARRAY '{1, 3, 100}'::int[] LOOP
		PERFORM begin_files(pattern), log_clicks('log', lines);
		RETURN QUERY SELECT once_ok(format('%s, %s lines', pattern, lines));
		-- renamed with something unread, and written to after that
		PERFORM log_clicks('log'), sh('mv log log.1'), log_clicks('log'), log_clicks('log.1');
		RETURN QUERY SELECT once_ok(pattern || ', renamed');
		PERFORM sh('mv log.1 log.2; mv log log.1'), log_clicks('log.1'), log_clicks('log.2');
		RETURN QUERY SELECT once_ok(pattern || ', renamed, without a new one');
		PERFORM log_clicks('log', lines);
		RETURN QUERY SELECT once_ok(pattern || ', and then there is one');
		-- copied and truncated, with something unread
		PERFORM log_clicks('log'), sh('cp log log.0; : > log'), log_clicks('log', lines);
		RETURN QUERY SELECT once_ok(pattern || ', copied and truncated');
		-- a copy that is seen before the file is truncated
		PERFORM log_clicks('log', lines), sh('cp log log.3');
		RETURN QUERY SELECT once_ok(pattern || ', copied');
		PERFORM log_clicks('log'), sh('cp log log.3');
		RETURN QUERY SELECT once_ok(pattern || ', copied again');
		PERFORM log_clicks('log'), sh('cp log log.3; : > log');
		RETURN QUERY SELECT once_ok(pattern || ', and truncated to nothing');
		PERFORM log_clicks('log', lines);
		RETURN QUERY SELECT once_ok(pattern || ', and written to');
		-- compressed, with something unread
		PERFORM log_clicks('log'), sh('mv log log.4; gzip log.4');
		RETURN QUERY SELECT once_ok(pattern || ', renamed and compressed');
		PERFORM sh('gzip log.0'), log_clicks('log', lines);
		RETURN QUERY SELECT once_ok(pattern || ', an older one compressed');
		PERFORM sh('mv log.4.gz log.5.gz; gzip -k log');
		RETURN QUERY SELECT once_ok(pattern || ', renamed, and compressed beside itself');
		PERFORM log_clicks('log'), sh('rm log.gz; gzip log'), log_clicks('log');
		RETURN QUERY SELECT once_ok(pattern || ', and without itself');
		PERFORM sh('gunzip log.5.gz; gunzip log.0.gz');
		RETURN QUERY SELECT once_ok(pattern || ', uncompressed');
		-- gone, and back again under another inode
		PERFORM sh('mkdir -p other; mv log other');
		RETURN QUERY SELECT once_ok(pattern || ', gone');
		PERFORM sh('cp other/log log; cp log log.7; rm other/log'), log_clicks('log');
		RETURN QUERY SELECT once_ok(pattern || ', and back');
		-- another content under the same name, and the same inode
		PERFORM sh('cat log > other/log; head -c 10 /dev/zero > log; : > log'), log_clicks('log', lines + 10);
		RETURN QUERY SELECT once_ok(pattern || ', the same inode');
		PERFORM sh('rm log log.7'), log_clicks('log', lines);
		RETURN QUERY SELECT once_ok(pattern || ', removed and made anew');
	END LOOP;
END
$$;
SELECT rotations_ok('log');
SELECT rotations_ok('log*');

-- What was read of a file that is no more is remembered, whatever shorter copies of it there are, such as a header alone.
SELECT begin_files('log*') \gset
SELECT log_clicks('log.one'), sh('head -n 1 log.one > log.two') \gset
SELECT once_ok('a header beside a file');
SELECT sh('gzip log.one') \gset
SELECT once_ok('which is compressed');
SELECT log_clicks('log.two') \gset
SELECT once_ok('and one with lines of its own');
SELECT sh('cp log.two log.three'), log_clicks('log.two') \gset
SELECT once_ok('a copy, which is shorter then');
SELECT sh('mkdir other; mv log.two other'), log_clicks('log.three') \gset
SELECT once_ok('a copy goes on by itself when the file has gone');
SELECT sh('cp other/log.two log.four'), log_clicks('log.four') \gset
SELECT once_ok('and so does the file when it is back');

-- Of a file that was seen with nothing but a beginning, and is gone, and of one that is there, a copy that is longer than both.
SELECT begin_files('log*') \gset
SELECT log_clicks('log') \gset
SELECT once_ok('a file');
SELECT sh('cp log log.1') \gset
SELECT once_ok('and a copy');
SELECT sh('mkdir other; mv log.1 other'), log_clicks('log'), sh('cp log log.2'), log_clicks('log'), sh('gzip -c log > z; rm log; mv z log.3.gz') \gset
SELECT once_ok('a longer copy, and all of it compressed');
SELECT sh('mv other/log.1 log.4') \gset
SELECT once_ok('the copy is back');

-- What gzip has made of a file has got its inode, of which there is none but by a name that it had before.
SELECT begin_files('log*') \gset
SELECT log_clicks('log') \gset
SELECT once_ok('a file that will be compressed');
SELECT log_clicks('log'), sh('gzip -c log > z; cat z > log; mv log log.gz; rm z') \gset
SELECT once_ok('in place');

-- Files in any order of what can become of them, with rounds between or not.
CREATE FUNCTION ls(pattern text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS listed (file text);
	TRUNCATE listed;
	EXECUTE format('COPY listed FROM PROGRAM %L', format('cd ''%s'' && ls -d %s 2> /dev/null || true', (SELECT directory FROM place), pattern));
	RETURN QUERY SELECT file FROM listed ORDER BY random();
END
$$;
-- Writers go on with what was renamed, and never write to copies; and no copy comes back that was away: what it is of may be gone then.
CREATE FUNCTION history_ok(n int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	steps text[] := '{}';
	written_to text[] := '{log}';
	command text;
	file text;
BEGIN
	PERFORM begin_files('log*'), sh('mkdir other');
	FOR i IN 1 .. n LOOP
		IF random() < 0.6 THEN
			file := written_to[1 + floor(random() * cardinality(written_to))];
			PERFORM log_clicks(file, 1 + floor(random() * 3)::int);
			steps := steps || ('lines in ' || file);
		END IF;
		file := (SELECT ls FROM ls('log*') WHERE ls !~ 'gz$' LIMIT 1);
		command := CASE floor(random() * 10)
			WHEN 0 THEN 'test -e log || echo ad_id,text > log'
			WHEN 1 THEN 'mv ' || file || ' log.' || i
			WHEN 2 THEN 'cp ' || file || ' log.' || i
			WHEN 3 THEN 'cp ' || file || ' log.' || i || '; : > ' || file
			WHEN 4 THEN 'test -e ' || file || '.gz || gzip ' || file
			WHEN 5 THEN 'gzip -c ' || file || ' > other/z; rm ' || file || '; mv other/z log.' || i || '.gz'
			WHEN 6 THEN 'mv ' || CASE WHEN file = ANY (written_to) THEN file END || ' other/' || i
			WHEN 7 THEN (ARRAY['cp ', 'mv '])[1 + floor(random() * 2)] || (SELECT ls FROM ls('other/*') LIMIT 1) || ' log.' || i
		END;
		IF command IS NOT NULL THEN
			PERFORM sh(command);
			steps := steps || command;
			IF command ~ '^mv log' AND file = ANY (written_to) THEN
				written_to := array_replace(written_to, file, 'log.' || i);
			END IF;
			written_to := text 'log' || ARRAY(SELECT w FROM unnest(written_to) w WHERE w <> 'log' AND w IN (SELECT ls FROM ls('log*')));
		END IF;
		IF random() < 0.6 THEN
			PERFORM read_all();
			steps := steps || text 'read';
		END IF;
	END LOOP;
	-- what is elsewhere comes back
	PERFORM sh(format('mv %s log.%s', ls, regexp_replace(ls, '.*/', 'back'))) FROM ls('other/*');
	PERFORM read_all();
	IF EXISTS ((SELECT ad_id FROM adclick.clicks EXCEPT ALL TABLE written) UNION ALL (TABLE written EXCEPT ALL SELECT ad_id FROM adclick.clicks))
		OR EXISTS (SELECT FROM adclick.bad_lines) OR EXISTS (SELECT FROM adclick.sources WHERE last_error IS NOT NULL) THEN
		RETURN NEXT fail(array_to_string(steps, '; ') || ': ' || (SELECT count(*) FROM (SELECT ad_id FROM adclick.clicks EXCEPT ALL TABLE written) x)
			|| ' too often, lacking ' || (SELECT count(*) FROM (TABLE written EXCEPT ALL SELECT ad_id FROM adclick.clicks) x));
	END IF;
END
$$;
CREATE FUNCTION histories_ok(n int) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		RETURN QUERY SELECT history_ok(12);
	END LOOP;
	RETURN NEXT pass(n || ' histories of files');
END
$$;
SELECT histories_ok(20);

-- Another content that begins with the same kilobyte.
SELECT begin_files('log') \gset
SELECT sh('(printf ad_id,; head -c 2000 /dev/zero | tr ''\0'' x; echo) > log'), log_clicks('log', 5) \gset
SELECT once_ok('a long header');
SELECT sh('head -n 1 log > header; cat header > log'), log_clicks('log', 10) \gset
SELECT once_ok('and the same in front of others');

-- A header alone is like any other; what follows is not.
SELECT begin_files('log*') \gset
SELECT sh('echo ad_id,text > log1; cp log1 log2; cp log1 log3') \gset
SELECT once_ok('three headers');
SELECT log_clicks('log2') \gset
SELECT once_ok('a line behind one');
SELECT log_clicks('log3'), log_clicks('log1') \gset
SELECT once_ok('and behind the others');

-- Links lead to one file.
SELECT begin_files('*log') \gset
SELECT log_clicks('log'), sh('ln -s log a.log; ln log hard.log; ln -s nowhere b.log; ln -s c.log c.log') \gset
SELECT once_ok('links');

-- The last line of a file that was rotated away is taken, once nobody has written for a while.
SELECT begin_files('log') \gset
SELECT log_clicks('log', 1), append('log', '77,without an end') \gset
SELECT once_ok('a last line');
SELECT sh('touch -d ''1 hour ago'' log') \gset
SELECT once_ok('which nobody writes to, where it is');
SELECT sh('mv log log.1; touch log.1') \gset
SELECT once_ok('a moment later');
SELECT sh('touch -d ''1 minute ago'' log.1') \gset
INSERT INTO written VALUES (77);
SELECT once_ok('a minute later');
SELECT append('log.1', E'\n') \gset
SELECT once_ok('its newline came late');
SELECT begin_files('log') \gset
INSERT INTO written VALUES (78);
SELECT log_clicks('log', 1), append('log', '78,without an end'), sh('mv log x; gzip x; mv x.gz log') \gset
SELECT once_ok('of a compressed one');

-- A line that is too long is passed by, in as many pieces as it comes, and nothing is kept of it but its beginning.
SELECT begin_files('log') \gset
SELECT log_clicks('log'), sh('head -c 3000000 /dev/zero | tr ''\0'' x >> log') \gset
SELECT read_all() AS n \gset
SELECT results_eq('SELECT sqlstate, length(line), reason FROM adclick.bad_lines', $$VALUES ('54000', 1000, 'the line is longer than 1048576 bytes')$$, 'a long line is set aside');
DELETE FROM adclick.bad_lines;
SELECT sh('head -c 3000000 /dev/zero | tr ''\0'' x >> log') \gset
SELECT once_ok('more of it');
SELECT append('log', E'end\n'), log_clicks('log') \gset
SELECT once_ok('and behind it');
SELECT is(bad_lines, 1::bigint, 'which was one line') FROM adclick.sources;

-- What is no file harms none that is.
SELECT begin_files('log*') \gset
SELECT log_clicks('log'), sh('mkdir log.d; mkfifo log.fifo; ln -s /dev/zero log.zero; ln -s /dev/null log.null; : > log.empty; head -c 5 /dev/zero > log.zeroes'),
	append('log.text', E'ad_id'), append('log.gz', '\x1f8b0800') \gset
SELECT once_ok('other things');
SELECT is(files, 1::bigint, 'are no files of the source') FROM adclick.sources;

-- Files that cannot be read are told of; the others are read.
CREATE FUNCTION problem_is(expected text, name text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM read_all();
	RETURN NEXT is((SELECT replace(last_error, (SELECT directory FROM place), '') FROM adclick.sources), expected, name || ': is told');
	RETURN NEXT bag_eq('SELECT ad_id FROM adclick.clicks', 'TABLE written', name || ': others are read');
END
$$;
SELECT begin_files('log*') \gset
SELECT log_clicks('log'), append('log.other', E'ad,text\n1,2\n') \gset
SELECT problem_is('file "/log.other": the header has no column "ad_id"', 'a header without the ad');
SELECT sh('rm log.other'), log_clicks('log') \gset
SELECT once_ok('when it is gone');
SELECT sh('head -c 10000 /dev/zero | tr ''\0'' x > log.other') \gset
SELECT problem_is('file "/log.other": the header is longer than 8192 bytes', 'no header');
SELECT sh('rm log.other'), sh('gzip -c log | head -c 60 > log.gz') \gset
SELECT once_ok('half a compressed copy');
SELECT sh('(cat log; echo 5,x; seq 1 10000 | md5sum) | gzip -c | head -c 100 > log.gz'), log_clicks('log') \gset
SELECT problem_is('file "/log.gz": gzip cannot read it', 'half of another one');
SELECT adclick.drop_source('log'), adclick.add_source('log', place_of('log*'), 'csv', '{"ad_id": "ad_id", "country": "land"}') \gset
SELECT sh('rm log.gz') \gset
SELECT problem_is('file "/log": the header has no column "land"', 'a header without a column that was named');

-- Where a directory cannot be read, nothing is known of its files.
SELECT begin_files('d/log*') \gset
SELECT sh('mkdir d'), log_clicks('d/log') \gset
SELECT once_ok('a directory');
SELECT sh('mv d e') \gset
SELECT problem_is('could not read directory "/d": No such file or directory', 'a missing directory');
SELECT is(count(*), 1::bigint, 'its files are not gone') FROM adclick_internal.log_files WHERE gone_at IS NULL;
SELECT sh('mv e d'), log_clicks('d/log') \gset
SELECT once_ok('back again');
SELECT adclick.drop_source('log'), adclick.add_source('log', place_of('d')) \gset
SELECT problem_is('"/d" is a directory', 'a directory for a path');

-- A transaction sees its own source, and what is rolled back is read again.
SELECT begin_files('log') \gset
SELECT log_clicks('log') \gset
BEGIN;
SELECT is(lines, 3::bigint, 'read') FROM adclick.read_sources();
ROLLBACK;
SELECT once_ok('and rolled back');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT log_clicks('log') \gset
SELECT once_ok('in REPEATABLE READ');
SELECT log_clicks('log') \gset
SELECT once_ok('twice');
COMMIT;

-- Triggers, defaults and constraints of users do not run.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'code of a user'; END $$;
CREATE FUNCTION refuse_default() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'code of a user'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON adclick.clicks FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE adclick.clicks ALTER country SET DEFAULT refuse_default();
SELECT log_clicks('log') \gset
SELECT once_ok('a trigger of a user');
DROP TRIGGER refuse ON adclick.clicks;
ALTER TABLE adclick.clicks ALTER country DROP DEFAULT;

-- No more than so many bad lines are kept, and none stops the stream.
SELECT begin_files('log') \gset
SELECT log_clicks('log'), sh('seq 1 25000 | sed s/$/,x,y/ >> log'), log_clicks('log') \gset
SELECT read_all() AS n \gset
SELECT is((SELECT count(*) FROM adclick.bad_lines), 10000::bigint, 'bad lines that are kept');
SELECT is(bad_lines, 25000::bigint, 'and counted') FROM adclick.sources;
SELECT bag_eq('SELECT ad_id FROM adclick.clicks', 'TABLE written', 'and good ones are read');

-- Many files.
SELECT begin_files('d/*') \gset
SELECT sh('mkdir d; for i in $(seq 1 300); do printf ''ad_id\n%s\n'' $((i + 200000)) > d/$i; done') \gset
INSERT INTO written SELECT i + 200000 FROM generate_series(1, 300) i;
SELECT once_ok('many files');
SELECT is(files, 300::bigint, 'all of them') FROM adclick.sources;
SELECT sh('for i in $(seq 1 300); do echo $((i + 300000)) >> d/$i; mv d/$i d/x$i; done') \gset
INSERT INTO written SELECT i + 300000 FROM generate_series(1, 300) i;
SELECT once_ok('all grown and renamed');

-- All that was put was counted.
SELECT adclick.tick() \gset
SELECT ok(balanced, 'the books balance') FROM adclick.check_ledger();

SELECT sh(format('rm -rf ''%s''', directory)) FROM place \gset
SELECT * FROM finish();
