-- Clicks that are redirected: adclick.click(), what it refuses, and impressions, signed and
-- judged here once more by plain SQL.

SELECT no_plan();
SELECT oracle.witness() AS witnessed \gset

CREATE FUNCTION state_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END $$;

--
-- Addresses
--

SELECT is(state_of(format('INSERT INTO adclick.ads (ad_id, redirect_url) VALUES (1000000 + %s, %L)', nr, url)), 'none', 'taken: ' || url)
FROM unnest('{https://a,http://a,https://shoes.example,https://shoes.example/,http://shoes.example:8080/sale?x=1&y[]=2#top,
	https://xn--bcher-kva.example/b%C3%BCcher,https://shoes.example?q=a@b,https://shoes.example/~me/@you;v=1,https://203.0.113.7/,
	"https://[2001:db8::1]:443/x",https://shop_1.shoes.example./,http://shoes.example#,https://shoes.example/a//b/../c}'::text[]) WITH ORDINALITY u (url, nr);
SELECT is(state_of(format('INSERT INTO adclick.ads (ad_id, redirect_url) VALUES (2000000 + %s, %L)', nr, url)), '23514', 'refused: ' || to_json(url))
FROM unnest(ARRAY['', ' ', 'shoes.example', '/sale', '//evil.example', '\\evil.example', 'https:', 'https:/', 'https://', 'https:///evil.example', 'https:evil.example',
	'javascript:alert(1)', 'JavaScript:alert(1)', ' javascript:alert(1)', E'java\nscript:alert(1)', 'data:text/html,x', 'vbscript:x', 'file:///etc/passwd', 'ftp://shoes.example/',
	'HTTPS//shoes.example', 'httpss://shoes.example/', 'xhttps://shoes.example/', 'https://shoes.example@evil.example/', 'https://user:secret@evil.example/', 'https://shoes.example%40evil.example/',
	'https://shoes.example:80@evil.example', 'https://shoes.example:port/', 'https://shoes.example:/', 'https://shoes.example:123456/', 'https://[::1', 'https://[]/', 'https://[x]/', 'https://-shoes.example', 'https://.example',
	'https://shoes.example\@evil.example', 'https:\\evil.example', 'https:/\evil.example', 'https://shoes.example/a\b', 'https://shoes.example/a b', 'https://shoes.example/a+' || chr(127),
	E'https://shoes.example/\r\nSet-Cookie: a=b', E'https://shoes.example/\n', E'https://shoes.example\n', E'\nhttps://shoes.example/', E'https://shoes.example/\nhttps://shoes.example/', E'https://shoes.example/\t', E'https://shoes.example/\r', E'https://shoes.example/\x0b',
	E'https://shoes.example/\x01', E'https://shoes.example/\x1b[0m', 'https://shoes.example/"onclick=', 'https://shoes.example/''x', 'https://shoes.example/<b>', 'https://shoes.example/`x`', 'https://shoes.example/{x}', 'https://shoes.example/a|b', 'https://shoes.example/^',
	E'https://shoes.example/\u00e9', E'https://b\u00fccher.example/', E'https://shoes.example/\u2028', E'https://shoes.example/\u0085', E'https://shoes.example\uff0fevil', E'https://shoes.example/\u00a0', E'https://\u202eelpmaxe.live',
	'https://shoes.example/' || repeat('x', 2048 - 21)]) WITH ORDINALITY u (url, nr);
SELECT is(state_of(format('INSERT INTO adclick.ads (ad_id, redirect_url) VALUES (3000000, %L)', 'https://shoes.example/' || repeat('x', 2048 - 22))), 'none', '2048 bytes');
SELECT is(state_of($$UPDATE adclick.ads SET redirect_url = 'javascript:1' WHERE ad_id = 3000000$$), '23514', 'nor by UPDATE');
-- Each byte there is, where it could do harm.
SELECT is(string_agg(chr(i), '' ORDER BY i), '!#$%&()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~', 'bytes taken in a path')
FROM generate_series(1, 255) i
WHERE state_of(format('INSERT INTO adclick.ads (ad_id, redirect_url) VALUES (4000000 + %s, %L)', i, 'https://shoes.example/' || chr(i) || 'x')) = 'none';
SELECT is(string_agg(chr(i), '' ORDER BY i), '-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz', 'and in a name')
FROM generate_series(1, 255) i
WHERE chr(i) NOT IN ('/', '?', '#') AND state_of(format('INSERT INTO adclick.ads (ad_id, redirect_url) VALUES (5000000 + %s, %L)', i, 'https://shoes' || chr(i) || 'example')) = 'none';
SELECT is((active, created_at = statement_timestamp())::text, '(t,f)', 'an ad is active') FROM adclick.ads WHERE ad_id = 3000000;
DELETE FROM adclick.ads;

INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url, active) SELECT n, n % 7, 'https://shop.example/' || n, n < 90 FROM generate_series(1, 99) n;
INSERT INTO adclick.ads (ad_id) VALUES (-1);

--
-- Clicks without an impression
--

SELECT is(adclick.click(5, 501, '203.0.113.7', 'CA', 'CA-1', 'mobile'), 'https://shop.example/5', 'where it leads to');
SELECT is(adclick.click(6, NULL, NULL, NULL, NULL, NULL, NULL), 'https://shop.example/6', 'nothing is known but the ad');
SELECT is(adclick.click(7, user_id => 502, ip => '2001:db8::1', country => '', region => 'x', device => NULL), 'https://shop.example/7', 'by names');
SELECT bag_eq('SELECT ad_id, user_id, ip, country, region, device FROM adclick.clicks', $$VALUES
	(5::bigint, 501::bigint, '203.0.113.7'::inet, 'CA', 'CA-1', 'mobile'), (6, NULL, NULL, NULL, NULL, NULL), (7, 502, '2001:db8::1', '', 'x', NULL)$$, 'as they were passed');
SELECT is_empty($$SELECT click_id, clicked_at FROM adclick.clicks
	WHERE oracle.id_time(click_id) IS DISTINCT FROM floor(extract(epoch FROM clicked_at) * 1000) / 1000
		OR clicked_at > clock_timestamp() OR clicked_at < clock_timestamp() - interval '1 minute' OR received_at < clicked_at - interval '1 ms'$$,
	'each has an id of version 7 with its time');
CREATE TEMP TABLE ids AS SELECT adclick.click(5, n, NULL, NULL, NULL, NULL) FROM generate_series(1, 1000) n;
SELECT is(count(DISTINCT click_id)::int, 1003, 'of its own') FROM adclick.clicks;
SELECT is((SELECT count(*) FROM adclick.clicks WHERE clicked_at = statement_timestamp()), 0::bigint, 'clicked when the statement began')
FROM adclick.click(8, NULL, NULL, NULL, NULL, NULL);
SELECT is((counted, duplicates, discarded)::text, '(1004,0,0)', 'all count') FROM adclick.tick();

-- What is none, and leaves no click.
SELECT throws_ok('SELECT adclick.click(100, 1, NULL, NULL, NULL, NULL)', 'UA001', 'ad 100 is unknown', 'an unknown ad');
SELECT throws_ok('SELECT adclick.click(95, 1, NULL, NULL, NULL, NULL)', 'UA002', 'ad 95 is not active', 'one that is not active');
SELECT throws_ok('SELECT adclick.click(-1, 1, NULL, NULL, NULL, NULL)', 'UA003', 'ad -1 has no redirect_url', 'one that leads nowhere');
SELECT throws_ok('SELECT adclick.click(NULL, 1, NULL, NULL, NULL, NULL)', '22004', 'ad_id must not be null', 'none at all');
SELECT throws_ok('SELECT adclick.click(100, 1, NULL, NULL, NULL, NULL, ''x'')', 'UA001', 'ad 100 is unknown', 'an unknown ad, and a forged impression');
SELECT throws_ok('SELECT adclick.new_impression(NULL)', '22004', 'ad_id must not be null', 'an impression of none');
BEGIN READ ONLY;
SELECT throws_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, NULL)', '25006', 'cannot execute adclick.click() in a read-only transaction', 'in a transaction that only reads');
SELECT throws_ok('SELECT adclick.rotate_impression_secret()', '25006', 'cannot execute adclick.rotate_impression_secret() in a read-only transaction', 'nor is a secret changed there');
SELECT is(length(adclick.new_impression(5)), 64, 'but an impression can be issued');
ROLLBACK;
SELECT is_empty('TABLE adclick.clicks', 'no click is left of all that');

-- Of a transaction that is rolled back, or of a part of it, nothing remains.
BEGIN;
SELECT adclick.click(5, 1, NULL, NULL, NULL, NULL) AS url \gset
SAVEPOINT s;
SELECT adclick.click(6, 1, NULL, NULL, NULL, NULL) AS url \gset
ROLLBACK TO s;
SELECT is(array_agg(ad_id), '{5}', 'a savepoint') FROM adclick.clicks;
ROLLBACK;
SELECT is_empty('TABLE adclick.clicks', 'a transaction');
BEGIN;
UPDATE adclick.ads SET active = false WHERE ad_id = 5;
SELECT throws_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, NULL)', 'UA002', NULL, 'what this transaction did to the ad holds');
INSERT INTO adclick.ads (ad_id, redirect_url) VALUES (101, 'https://new.example');
SELECT is(adclick.click(101, 1, NULL, NULL, NULL, NULL), 'https://new.example', 'also a new one');
ROLLBACK;

-- Those that are sent in bulk may be on ads that are put here later.
INSERT INTO adclick.clicks (ad_id) VALUES (4711), (95);
SELECT is((counted, duplicates, discarded)::text, '(2,0,0)', 'unknown ads count') FROM adclick.tick();

-- Without the key, which users may drop, and with what an index, a policy or a rule of theirs may do.
CREATE FUNCTION harm(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE EXCEPTION 'harm was done'; END $$;
BEGIN;
ALTER TABLE adclick.ads DROP CONSTRAINT ads_pkey CASCADE;
SELECT is(adclick.click(5, 1, NULL, NULL, NULL, NULL), 'https://shop.example/5', 'ads without an index');
ROLLBACK;
BEGIN;
CREATE POLICY harm ON adclick.ads USING (harm(ad_id) > 0);
ALTER TABLE adclick.ads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT is(adclick.click(5, 1, NULL, NULL, NULL, NULL), 'https://shop.example/5', 'a policy on ads is not asked');
ROLLBACK;
BEGIN;
ALTER TABLE adclick.ads ALTER active TYPE text;
SELECT throws_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, NULL)', '55000', 'relation "adclick.ads" of adclick has been altered', 'an altered table is told');
ROLLBACK;
SELECT is_empty('TABLE adclick.clicks', 'and no click is left');

--
-- An INSERT of the caller
--

CREATE ROLE tap_shop;
CREATE ROLE tap_nobody;
CREATE ROLE tap_all_data IN ROLE pg_read_all_data;
GRANT adclick_ingest TO tap_shop;
CREATE SCHEMA tap_shop;
GRANT USAGE ON SCHEMA tap_shop TO tap_shop;
CREATE TABLE tap_shop.noted (who text, path text, depth int, ad bigint);
GRANT INSERT ON tap_shop.noted TO tap_shop;
CREATE FUNCTION tap_shop.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO noted VALUES (current_user, current_setting('search_path'), pg_trigger_depth(), new.ad_id);
	RETURN CASE WHEN new.ad_id <> 9 THEN new END;
END $$;
CREATE TRIGGER note BEFORE INSERT ON adclick.clicks FOR EACH ROW EXECUTE FUNCTION tap_shop.note();
SET search_path = tap_shop, public;
SET ROLE tap_shop;
INSERT INTO adclick.clicks (ad_id) VALUES (5), (9);
SELECT is(adclick.click(5, 1, NULL, NULL, NULL, NULL), 'https://shop.example/5', 'a click of a member of adclick_ingest');
SELECT is(adclick.click(9, 1, NULL, NULL, NULL, NULL), 'https://shop.example/9', 'one that a trigger keeps out');
SELECT is(current_setting('search_path'), 'tap_shop, public', 'the search_path stays');
RESET ROLE;
RESET search_path;
SELECT results_eq('SELECT DISTINCT who, path, depth FROM tap_shop.noted', $$VALUES ('tap_shop', 'tap_shop, public', 1)$$, 'triggers run as the caller, as for INSERT');
SELECT is(array_agg(ad ORDER BY ad), '{5,5,9,9}', 'for each click') FROM tap_shop.noted;
SELECT is(array_agg(ad_id), '{5,5}', 'what they keep out is not there') FROM adclick.clicks;
DROP TRIGGER note ON adclick.clicks;
BEGIN;
CREATE POLICY mobile ON adclick.clicks FOR INSERT WITH CHECK (device = 'mobile');
ALTER TABLE adclick.clicks ENABLE ROW LEVEL SECURITY;
SET ROLE tap_shop;
SELECT lives_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, ''mobile'')', 'a policy that is met');
SELECT throws_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, ''tv'')', '42501', NULL, 'and one that is not');
ROLLBACK;

-- A grant is not enough where the other is missing.
GRANT USAGE ON SCHEMA adclick TO tap_nobody;
GRANT INSERT ON adclick.clicks TO tap_nobody;
SET ROLE tap_nobody;
SELECT throws_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, NULL)', '42501', 'permission denied for function click', 'who may only INSERT');
SELECT throws_ok('SELECT adclick.new_impression(5)', '42501', 'permission denied for function new_impression', 'issues no impressions');
RESET ROLE;
REVOKE INSERT ON adclick.clicks FROM tap_nobody;
GRANT EXECUTE ON FUNCTION adclick.click(bigint, bigint, inet, text, text, text, text) TO tap_nobody;
SET ROLE tap_nobody;
SELECT throws_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, NULL)', '42501', 'permission denied for table clicks', 'who may only call');
RESET ROLE;

-- All that a member may do, and nothing else.
SET ROLE tap_shop;
SELECT lives_ok('SELECT adclick.click(5, 1, NULL, NULL, NULL, NULL, adclick.new_impression(5))', 'impressions and clicks');
SELECT lives_ok('INSERT INTO adclick.clicks (ad_id) VALUES (4711)', 'INSERT');
RESET ROLE;
SELECT is_empty($$SELECT c.oid::regclass, p.privilege
	FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p (privilege)
	WHERE relnamespace IN ('adclick'::regnamespace, 'adclick_internal'::regnamespace) AND relkind IN ('r', 'v', 'm', 'f')
		AND (c.oid <> 'adclick.clicks'::regclass OR privilege <> 'INSERT')
		AND CASE WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege('tap_shop', c.oid, privilege) ELSE has_table_privilege('tap_shop', c.oid, privilege) END$$,
	'no other right on a relation');
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'adclick'::regnamespace AND has_function_privilege('tap_shop', oid, 'EXECUTE')
	AND proname NOT IN ('click', 'click_id', 'new_impression') AND NOT EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)$$, 'no function that is not everybody''s');
SELECT is((has_schema_privilege('tap_shop', 'adclick_internal', 'USAGE'), has_schema_privilege('tap_shop', 'adclick', 'CREATE'))::text, '(f,f)', 'no schema');
SET ROLE tap_shop;
SELECT throws_ok('SELECT * FROM ' || relation, '42501', NULL, 'cannot read ' || relation)
FROM unnest('{adclick.clicks,adclick.ads,adclick.discarded_clicks,adclick.click_log,adclick_internal.impression_secrets}'::text[]) relation;
SELECT throws_ok('SELECT adclick.rotate_impression_secret(true)', '42501', 'permission denied for function rotate_impression_secret', 'cannot change the secret');
SELECT throws_ok('INSERT INTO adclick.ads (ad_id) VALUES (7)', '42501', NULL, 'cannot add ads');
RESET ROLE;
SET ROLE tap_all_data;
SELECT is_empty('TABLE adclick_internal.impression_secrets', 'who may read all tables reads no secret');
SELECT isnt_empty('TABLE adclick.ads', 'but other tables');
RESET ROLE;
SELECT is((SELECT counted FROM adclick.tick()), 4::bigint, 'taken');

--
-- Impressions
--

-- HMAC-SHA256 (RFC 2104) and base64url (RFC 4648), once more.
CREATE FUNCTION padded(key bytea, pad int) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
SELECT string_agg(set_byte('\x00', 0, CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END # pad), '' ORDER BY i) FROM generate_series(0, 63) i
$$;
CREATE FUNCTION hmac(key bytea, said bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
	$$ SELECT sha256(padded(key, 92) || sha256(padded(key, 54) || said)) $$;
SELECT is(hmac('Jefe', 'what do ya want for nothing?'), '\x5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'::bytea, 'the example of RFC 4231');
CREATE FUNCTION token(bytes bytea) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT translate(encode(bytes, 'base64'), E'+/=\n', '-_') $$;
CREATE FUNCTION bytes(token text) RETURNS bytea LANGUAGE sql IMMUTABLE AS
	$$ SELECT decode(translate(token, '-_', '+/'), 'base64') $$;
CREATE FUNCTION signed(secret bytea, id uuid, ad bigint, who bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT token(uuid_send(id) || hmac(secret, uuid_send(id) || int8send(ad) || int8send(coalesce(who, 0)) || CASE WHEN who IS NULL THEN '\x00' ELSE '\x01' END::bytea))
$$;
CREATE FUNCTION secret() RETURNS bytea LANGUAGE sql STABLE AS
	$$ SELECT secret FROM adclick_internal.impression_secrets WHERE retired_at IS NULL $$;
CREATE FUNCTION id_of(token text) RETURNS uuid LANGUAGE sql IMMUTABLE AS
	$$ SELECT encode(substr(bytes(token), 1, 16), 'hex')::uuid $$;
-- What becomes of one click.
CREATE FUNCTION verdict(ad bigint, who bigint, token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	IF adclick.click(ad, who, NULL, 'CA', NULL, NULL, token) IS DISTINCT FROM 'https://shop.example/' || ad THEN
		RAISE EXCEPTION 'it does not lead there';
	END IF;
	SELECT CASE WHEN duplicates = 1 THEN 'duplicate' WHEN counted = 1 THEN 'counted' WHEN discarded = 1 THEN 'discarded' END INTO said FROM adclick.tick();
	IF said = 'discarded' THEN
		SELECT reason INTO said FROM adclick_internal.discarded_0 ORDER BY received_at DESC, ctid DESC LIMIT 1;
	END IF;
	RETURN said;
END $$;

SELECT adclick.new_impression(5, 501) AS token, adclick.new_impression(5) AS anybodys \gset
SELECT is(:'token', signed(secret(), id_of(:'token'), 5, 501), 'a token is what it is said to be');
SELECT is(:'anybodys', signed(secret(), id_of(:'anybodys'), 5, NULL), 'without a user, too');
SELECT ok(token ~ '^[A-Za-z0-9_-]{64}$', 'no character needs care in a URL') FROM adclick.new_impression(5) token;
SELECT ok(abs(oracle.id_time(id_of(:'token')) - extract(epoch FROM clock_timestamp())) < 60, 'it has its time');
SELECT is((length(secret()), count(*))::text, '(32,1)', 'one secret') FROM adclick_internal.impression_secrets;
SELECT is(verdict(5, 501, :'token'), 'counted', 'a click on it');
SELECT is((SELECT count(*)::int FROM adclick.click_log WHERE click_id = id_of(:'token') AND verdict = 'counted' AND ad_id = 5 AND user_id = 501), 1, 'has its id');
SELECT is(verdict(5, 501, :'token'), 'duplicate', 'another one');
SELECT is(verdict(5, 501, :'anybodys'), 'counted', 'whoever clicks what was shown to nobody in particular');
SELECT is(verdict(5, NULL, :'anybodys'), 'duplicate', 'clicks once');
SELECT is(verdict(5, user_id, adclick.new_impression(5, user_id)), 'counted', 'user ' || user_id) FROM unnest('{0,-1,9223372036854775807,-9223372036854775808}'::bigint[]) user_id;
SELECT is(verdict(5, NULL, adclick.new_impression(5)), 'counted', 'nobody');

-- Not the same ad, user, secret or number of bytes.
SELECT is(verdict(6, 501, adclick.new_impression(5, 501)), 'forged impression', 'another ad');
SELECT is(verdict(5, 502, adclick.new_impression(5, 501)), 'forged impression', 'another user');
SELECT is(verdict(5, NULL, adclick.new_impression(5, 501)), 'forged impression', 'no user');
SELECT is(verdict(5, NULL, adclick.new_impression(5, 0)), 'forged impression', 'no user is not user 0');
SELECT is(verdict(5, 0, signed(secret(), oracle.uuid_v7(now()), 5, NULL)), 'counted', 'and user 0 is somebody');
SELECT is(verdict(5, 1, signed(secret() || '\x01', oracle.uuid_v7(now()), 5, 1)), 'forged impression', 'another secret');
SELECT is(verdict(5, 1, signed('\x', oracle.uuid_v7(now()), 5, 1)), 'forged impression', 'none');
SELECT is(verdict(5, 1, forged), 'forged impression', 'no token: ' || left(to_json(forged)::text, 80))
FROM (SELECT adclick.new_impression(5, 1) AS t OFFSET 0) t,
	unnest(ARRAY['', 'x', 'null', id_of(t)::text, t || 'A', t || '=', t || ' ', ' ' || t, E'\n' || t, left(t, 63), left(t, 63) || '=', left(t, 63) || '+', left(t, 63) || '/', left(t, 63) || E'\u00e9',
		left(t, 62) || E'\u00e9', reverse(t), encode(bytes(t), 'hex'), left(t, 22), t || t, repeat('A', 64), repeat('_', 64), repeat(E'\u00e9', 32), repeat('x', 1000000)]) forged;

-- Each bit of it.
CREATE TEMP TABLE flipped AS
SELECT i, token(set_bit(bytes(t), i, 1 - get_bit(bytes(t), i))) AS token FROM (SELECT adclick.new_impression(5, 501) AS t OFFSET 0) t, generate_series(0, 383) i;
SELECT is(count(adclick.click(5, 501, NULL, NULL, NULL, NULL, token))::int, 384, 'tokens with one bit changed are redirected') FROM flipped;
SELECT is((counted, duplicates, discarded)::text, '(0,0,384)', 'and do not count') FROM adclick.tick();
SELECT is(count(*)::int, 384, 'as they are forged') FROM adclick.discarded_clicks WHERE reason = 'forged impression' AND discarded_at = (SELECT max(discarded_at) FROM adclick.discarded_clicks);
SELECT is(verdict(5, 501, token(set_bit(bytes(token), 3, 1 - get_bit(bytes(token), 3)))), 'counted', 'with the bit changed back it counts') FROM flipped WHERE i = 3;

-- What is set aside has the second half of its impression's id.
SELECT adclick.new_impression(5, 501) AS token \gset
SELECT is(verdict(6, 501, :'token'), 'forged impression', 'a forged one');
SELECT is(click_id::text, '6164636c-6963-8001' || substr(id_of(:'token')::text, 19), 'is found by its id') FROM adclick_internal.discarded_0 ORDER BY received_at DESC, ctid DESC LIMIT 1;

-- Age: by the time inside the id, to the millisecond; standbys may be ahead.
\set name adclick.impression_expiry
\set value 100
\i test/lib/set.psql
SELECT is(verdict(5, 1, signed(secret(), oracle.uuid_v7(statement_timestamp() + age), 5, 1)), expected, 'issued ' || age || ' from now')
FROM (VALUES (interval '-100 s', 'expired impression'), ('-100.001 s', 'expired impression'), ('-99.999 s', 'counted'), ('-50 s', 'counted'), ('0 s', 'counted'), ('100 s', 'counted'),
	('100.001 s', 'expired impression'), ('-1 day', 'expired impression'), ('1 day', 'expired impression')) a (age, expected);
SELECT is(verdict(5, 1, signed(secret(), id, 5, 1)), 'expired impression', 'no time: ' || id)
FROM unnest(ARRAY[gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '00000000-0000-7000-8000-000000000000', 'ffffffff-ffff-7fff-bfff-ffffffffffff']) id;
SELECT is(verdict(5, 1, signed(secret(), overlay(oracle.uuid_v7(now())::text PLACING 'f' FROM 20 FOR 1)::uuid, 5, 1)), 'expired impression', 'no variant');
SELECT is(verdict(6, 1, signed(secret(), oracle.uuid_v7(now() - interval '1 day'), 5, 1)), 'forged impression', 'forged and expired: forged');
SELECT oracle.uuid_v7(now() - interval '2 minutes') AS id \gset
SELECT is(verdict(5, 1, signed(secret(), :'id', 5, 1)), 'expired impression', 'an expired one');
SELECT is(click_id::text, '6164636c-6963-8002' || substr(:'id', 19), 'is found by its id') FROM adclick_internal.discarded_0 ORDER BY received_at DESC, ctid DESC LIMIT 1;
\set value 130
\i test/lib/set.psql
SELECT is(verdict(5, 1, signed(secret(), :'id', 5, 1)), 'counted', 'expired or not is told by the setting');
\set value 86400
\i test/lib/set.psql
SELECT is(verdict(5, 1, signed(secret(), id, 5, 1)) || ', ' || verdict(5, 1, signed(secret(), id, 5, 1)), 'counted, duplicate', 'issued ' || age || ' from now, for a day')
FROM (SELECT age, oracle.uuid_v7(statement_timestamp() + age) AS id FROM unnest('{-23 hours 59 minutes,-1 hour,23 hours 59 minutes}'::interval[]) age OFFSET 0) i;

-- A second click is a duplicate however short windows are, and whatever waits for the same tick.
\set value 3600
\i test/lib/set.psql
\set name adclick.dedup_window
\set value 1
\i test/lib/set.psql
SELECT counted FROM adclick.tick() \gset
SELECT oracle.uuid_v7(now() - interval '30 minutes') AS id \gset
SELECT is(verdict(5, 1, signed(secret(), :'id', 5, 1)), 'counted', 'the first click');
SELECT is(verdict(5, 1, signed(secret(), :'id', 5, 1)), 'duplicate', 'the second, in another window');
SELECT count(adclick.click(5, 1, NULL, NULL, NULL, NULL, token)) AS clicks FROM (SELECT adclick.new_impression(5, 1) AS token OFFSET 0) t, generate_series(1, 10) \gset
SELECT is(adclick.ad_click_count(5, 5) - (SELECT count(*) FROM oracle.clicks(true) WHERE ad_id = 5 AND minute > date_trunc('minute', statement_timestamp()) - interval '5 minutes'), 1::bigint, 'an answer counts it once before the tick');
SELECT is((counted, duplicates, discarded)::text, '(1,9,0)', 'the tick, too') FROM adclick.tick();
\set value 600
\i test/lib/set.psql
SELECT counted FROM adclick.tick() \gset

-- By user and ad, it is these that make a duplicate.
\set name adclick.dedup_by
\set value user_and_ad
\i test/lib/set.psql
SELECT counted FROM adclick.tick() \gset
BEGIN;
SELECT count(adclick.click(5, 1001, NULL, NULL, NULL, NULL, adclick.new_impression(5))) AS clicks FROM generate_series(1, 3) \gset
SELECT is((counted, duplicates, discarded)::text, '(1,2,0)', 'one user, three impressions') FROM adclick.tick();
SELECT count(adclick.click(5, NULL, NULL, NULL, NULL, NULL, token)) AS clicks FROM (SELECT adclick.new_impression(5) AS token OFFSET 0) t, generate_series(1, 3) \gset
SELECT is((counted, duplicates, discarded)::text, '(3,0,0)', 'one impression, nobody knows whose clicks') FROM adclick.tick();
SELECT is(verdict(6, 1002, adclick.new_impression(5)), 'forged impression', 'forged all the same');
ROLLBACK;
\set value click_id
\i test/lib/set.psql
SELECT counted FROM adclick.tick() \gset

-- Who sends clicks by INSERT can say of them that they do not count, and nothing else.
INSERT INTO adclick.clicks (click_id, ad_id) VALUES ('6164636c-6963-8001-8000-000000000001', 5), ('6164636c-6963-8002-8000-000000000002', 5), ('6164636c-6963-8001-ffff-ffffffffffff', 5),
	('6164636c-6963-8000-8000-000000000003', 6), ('6164636c-6963-8003-8000-000000000004', 6), ('6164636c-6963-0001-8000-000000000005', 6), ('6164636c-6962-8001-8000-000000000006', 6);
INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES ('6164636c-6963-8001-8000-000000000001', 5, 'infinity'), ('6164636c-6963-8002-8000-000000000001', 5, NULL);
SELECT is(adclick.ad_click_count(5, 1) - (SELECT count(*) FROM oracle.clicks(true) WHERE ad_id = 5 AND minute = date_trunc('minute', statement_timestamp())), 0::bigint, 'nor before the tick');
SELECT is((counted, duplicates, discarded)::text, '(4,0,5)', 'ids that say so, and ids like them') FROM adclick.tick();

--
-- Rotation
--

SELECT adclick.new_impression(5, 501) AS before, adclick.new_impression(5, 501) AS before2, adclick.new_impression(5, 501) AS before3, secret() AS secret \gset
SELECT is(adclick.rotate_impression_secret()::text, '', 'another secret');
SELECT isnt(secret(), :'secret', 'is not the same');
SELECT is((count(*), count(retired_at))::text, '(2,1)', 'beside it') FROM adclick_internal.impression_secrets;
SELECT adclick.new_impression(5, 501) AS after \gset
SELECT is(:'after', signed(secret(), id_of(:'after'), 5, 501), 'it signs what is new');
SELECT is(verdict(5, 501, :'before') || ', ' || verdict(5, 501, :'after'), 'counted, counted', 'both are known');
BEGIN;
SELECT adclick.rotate_impression_secret() AS rotated \gset
SELECT adclick.new_impression(5, 501) AS undone \gset
SELECT is(verdict(5, 501, :'undone'), 'counted', 'in the transaction that rotates');
ROLLBACK;
SELECT is(verdict(5, 501, :'undone'), 'forged impression', 'and is rolled back');
UPDATE adclick_internal.impression_secrets SET retired_at = now() - interval '59 minutes' WHERE retired_at IS NOT NULL;
SELECT is(verdict(5, 501, :'before2'), 'counted', 'until all it signed has expired');
UPDATE adclick_internal.impression_secrets SET retired_at = now() - interval '61 minutes' WHERE retired_at IS NOT NULL;
SELECT is(verdict(5, 501, :'before3'), 'forged impression', 'and no longer');
SELECT adclick.rotate_impression_secret() AS rotated \gset
SELECT is((count(*), count(retired_at), count(*) FILTER (WHERE secret = :'secret'))::text, '(2,1,0)', 'then it goes') FROM adclick_internal.impression_secrets;
SELECT count(adclick.rotate_impression_secret()) AS rotated FROM generate_series(1, 20) \gset
SELECT is((count(*), count(retired_at), count(DISTINCT secret))::text, '(22,21,22)', 'many in an hour') FROM adclick_internal.impression_secrets;
SELECT adclick.new_impression(5, 501) AS before \gset
SELECT is(adclick.rotate_impression_secret(true)::text, '', 'revoked');
SELECT is((count(*), count(retired_at))::text, '(1,0)', 'at once') FROM adclick_internal.impression_secrets;
SELECT is(verdict(5, 501, :'before') || ', ' || verdict(5, 501, adclick.new_impression(5, 501)), 'forged impression, counted', 'what it signed is forged');
BEGIN;
UPDATE adclick_internal.impression_secrets SET secret = '\x00';
SELECT throws_ok('SELECT adclick.new_impression(5)', 'XX001', 'a secret in adclick_internal.impression_secrets is damaged', 'a damaged secret');
ROLLBACK;
BEGIN;
DELETE FROM adclick_internal.impression_secrets;
SELECT throws_ok('SELECT adclick.new_impression(5)', '55000', 'there is no secret to sign impressions with', 'none');
SELECT is(verdict(5, 501, :'after'), 'forged impression', 'by which all are forged');
SELECT is(verdict(5, 501, NULL), 'counted', 'but clicks without one go on');
SELECT adclick.rotate_impression_secret() AS rotated \gset
SELECT is(verdict(5, 501, adclick.new_impression(5, 501)), 'counted', 'until there is one again');
ROLLBACK;
BEGIN;
ALTER TABLE adclick_internal.impression_secrets ADD note text;
SELECT throws_ok('SELECT adclick.new_impression(5)', '55000', 'relation "adclick_internal.impression_secrets" of adclick has been altered', 'an altered table');
ROLLBACK;

--
-- At random: impressions are issued, clicked by whomever, often, forged, and expire; secrets are rotated and revoked; and
-- ticks come between.  What is to become of each click is told by what was done.
--

CREATE TABLE issued (nr int PRIMARY KEY, token text, ad bigint, who bigint, issued_at timestamptz, secret bytea);
CREATE TABLE clicked (nr int, click_id uuid, ad bigint, who bigint, at timestamptz, secrets bytea[], forged boolean);
-- An impression of some time ago, or of now by the function.
CREATE FUNCTION issue(nr int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	ad bigint := 1 + floor(random() * 20);
	who bigint := CASE WHEN random() < 0.6 THEN floor(random() * 30) END;
	at timestamptz := clock_timestamp() - CASE WHEN random() < 0.5 THEN '0 s' WHEN random() < 0.7 THEN random() * interval '50 minutes' ELSE interval '70 minutes' + random() * interval '1 hour' END;
	token text := CASE WHEN at < clock_timestamp() - interval '1 s' THEN signed(secret(), oracle.uuid_v7(at), ad, who) ELSE adclick.new_impression(ad, who) END;
BEGIN
	INSERT INTO issued VALUES (nr, token, ad, who, at, secret());
END $$;
-- A click on one of them, mostly as it was issued.
CREATE FUNCTION click_one(nr int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	i issued;
	ad bigint;
	who bigint;
	bit int := CASE WHEN random() < 0.15 THEN floor(random() * 384) END;
BEGIN
	SELECT * INTO i FROM issued WHERE issued.nr <= click_one.nr ORDER BY random() LIMIT 1;
	ad := CASE WHEN random() < 0.1 THEN 1 + floor(random() * 20) ELSE i.ad END;
	who := CASE WHEN random() < 0.9 AND i.who IS NOT NULL THEN i.who WHEN random() < 0.3 THEN NULL ELSE floor(random() * 30) END;
	PERFORM adclick.click(ad, who, NULL, 'CA', NULL, 'tv', CASE WHEN bit IS NULL THEN i.token ELSE token(set_bit(bytes(i.token), bit, 1 - get_bit(bytes(i.token), bit))) END);
	INSERT INTO clicked VALUES (i.nr, id_of(i.token), ad, who, statement_timestamp(), ARRAY(SELECT s.secret FROM adclick_internal.impression_secrets s), bit IS NOT NULL);
END $$;
CREATE FUNCTION steps(first int, last int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR nr IN first .. last LOOP
		PERFORM issue(nr);
		FOR i IN 1 .. floor(random() * 5)::int LOOP
			PERFORM click_one(nr);
		END LOOP;
		PERFORM CASE WHEN random() < 0.05 THEN adclick.rotate_impression_secret(random() < 0.3) END, CASE WHEN random() < 0.1 THEN (SELECT rows_read FROM adclick.tick()) END;
	END LOOP;
END $$;
SELECT count(steps(1 + 50 * n, 50 + 50 * n)) AS done FROM generate_series(0, 5) n \gset
SELECT counted FROM adclick.tick() \gset
CREATE VIEW expected AS
SELECT c.*, CASE WHEN c.forged OR c.ad <> i.ad OR i.who IS NOT NULL AND c.who IS DISTINCT FROM i.who OR i.secret <> ALL (c.secrets) THEN 'forged impression'
		WHEN i.issued_at < c.at - interval '1 hour' THEN 'expired impression' ELSE 'valid' END AS expected
FROM clicked c JOIN issued i USING (nr);
SELECT is((array_agg(DISTINCT expected ORDER BY expected))::text, '{"expired impression","forged impression",valid}', 'there were some of each kind') FROM expected;
SELECT bag_eq($$SELECT click_id, count(*) FILTER (WHERE verdict = 'counted') AS counted, count(*) FILTER (WHERE verdict = 'duplicate') AS duplicates, count(*) AS clicks FROM adclick.click_log
		WHERE click_id IN (SELECT click_id FROM clicked) GROUP BY 1$$,
	$$SELECT click_id, 1::bigint AS counted, count(*) - 1 AS duplicates, count(*) AS clicks FROM expected WHERE expected = 'valid' GROUP BY 1$$, 'of the valid clicks of an impression one counts');
SELECT bag_eq($$SELECT reason, ad_id, user_id FROM adclick.discarded_clicks WHERE device = 'tv' AND reason LIKE '% impression'$$,
	$$SELECT expected, ad, who FROM expected WHERE expected <> 'valid'$$, 'the others are set aside with the reason');
SELECT is_empty('TABLE adclick.clicks', 'all is taken');
SELECT is_empty('SELECT * FROM oracle.wrong_facts()', 'the counts are those of the clicks that count');
SELECT is(oracle.lost(), 0::bigint, 'each click is in its account, and nobody sent others');
SELECT is((balanced, duplicates > 0, discarded > 0)::text, '(t,t,t)', 'the books are balanced') FROM adclick.check_ledger();
SELECT is((SELECT forged + expired FROM adclick.status), (SELECT count(*) FROM adclick.discarded_clicks WHERE reason LIKE '% impression'), 'the status tells how many');

DROP OWNED BY tap_shop, tap_nobody, tap_all_data;
DROP SCHEMA tap_shop CASCADE;
DROP ROLE tap_shop, tap_nobody, tap_all_data;
SELECT * FROM finish();
