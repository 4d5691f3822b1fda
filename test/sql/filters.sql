-- The dictionary of combinations is bounded; beyond the bound clicks count as "other".
CREATE EXTENSION adclick;
\set name adclick.max_filters
\set value 4
\i test/lib/set.psql
SHOW adclick.max_filters;

INSERT INTO adclick.clicks (ad_id, country, device)
SELECT i % 3, 'C' || i, 'mobile' FROM generate_series(1, 4) i;
SELECT counted FROM adclick.tick();
SELECT country, region, device FROM adclick.filters ORDER BY filter_id;

-- Two of these are new, and the last is among the first four.
INSERT INTO adclick.clicks (ad_id, country, device) VALUES (1, 'C5', 'mobile'), (1, 'C6', 'tablet'), (2, 'C2', 'mobile');
SELECT counted FROM adclick.tick();
SELECT country, region, device FROM adclick.filters ORDER BY filter_id;
SELECT country, device, sum(click_count) AS click_count FROM adclick_internal.facts() JOIN adclick.filters USING (filter_id)
GROUP BY 1, 2 ORDER BY 1, 2, 3;
SELECT adclick.ad_click_count(1, 5) AS ad, adclick.ad_click_count(1, 5, '{"country": "other"}') AS other,
	adclick.ad_click_count(1, 5, '{"country": "C5"}') AS c5, adclick.ad_click_count(1, 5, '{"device": "mobile"}') AS mobile;

-- The status tells that there are as many as the setting allows, and "other".
SELECT combinations FROM adclick.status;

-- In the tail they count where the next tick will put them.
INSERT INTO adclick.clicks (ad_id, country, device) VALUES (1, 'C5', 'mobile'), (1, 'C7', 'tablet'), (1, 'C1', 'mobile');
SELECT adclick.ad_click_count(1, 5) AS ad, adclick.ad_click_count(1, 5, '{"country": "other"}') AS other,
	adclick.ad_click_count(1, 5, '{"country": "C5"}') AS c5, adclick.ad_click_count(1, 5, '{"device": "mobile"}') AS mobile;
SELECT counted FROM adclick.tick();
SELECT adclick.ad_click_count(1, 5) AS ad, adclick.ad_click_count(1, 5, '{"country": "other"}') AS other,
	adclick.ad_click_count(1, 5, '{"country": "C5"}') AS c5, adclick.ad_click_count(1, 5, '{"device": "mobile"}') AS mobile;

-- A higher bound takes effect at once, and what was folded stays so.
\set value 10000
\i test/lib/set.psql
INSERT INTO adclick.clicks (ad_id, country, device) VALUES (1, 'C5', 'mobile');
SELECT counted FROM adclick.tick();
SELECT adclick.ad_click_count(1, 5) AS ad, adclick.ad_click_count(1, 5, '{"country": "other"}') AS other,
	adclick.ad_click_count(1, 5, '{"country": "C5"}') AS c5;

-- A combination made by a tick that was rolled back is not there.
BEGIN;
INSERT INTO adclick.clicks (ad_id, country) VALUES (9, 'never');
COMMIT;
BEGIN;
SELECT counted FROM adclick.tick();
SELECT count(*) FROM adclick.filters WHERE country = 'never';
ROLLBACK;
SELECT count(*) FROM adclick.filters WHERE country = 'never';
SELECT adclick.ad_click_count(9, 5, '{"country": "never"}');
SELECT counted FROM adclick.tick();
SELECT count(*) FROM adclick.filters WHERE country = 'never';
SELECT adclick.ad_click_count(9, 5, '{"country": "never"}');

-- No click counts under the empty value, nor under one that is too long: they match nothing, also beside a registered filter.
SELECT adclick.add_filter('{"device": "mobile"}') > 0 AS added;
SELECT adclick.ad_click_count(1, 5, '{"device": "mobile", "country": ""}') AS empty,
	adclick.ad_click_count(1, 5, '{"device": "mobile", "country": []}') AS none,
	adclick.ad_click_count(1, 5, jsonb_build_object('country', repeat('C', 65))) AS too_long,
	adclick.ad_click_count(1, 5, '{"device": ["mobile", "", "mobile"]}') = adclick.ad_click_count(1, 5, '{"device": "mobile"}') AS same;
SELECT count(*) FROM adclick.top_n_ads(3, 5, '{"device": "mobile", "country": ""}');
SELECT count(*) FROM adclick.top_n_ads(3, 5, '{"device": "mobile", "region": ["", ""]}');
SELECT count(*) > 0 AS found, count(*) = (SELECT count(*) FROM adclick.top_n_ads(3, 5, '{"device": ["", "mobile"]}')) AS same
FROM adclick.top_n_ads(3, 5, '{"device": "mobile"}');
SELECT count(*) FROM adclick.clicks_per_minute WHERE country = '';

-- Long lists: of networks within each other, of any values, and too long ones.
INSERT INTO adclick.clicks (ad_id, ip) VALUES (20, '10.1.2.3'), (20, '10.1.2.3'), (20, '10.200.0.1'), (20, '2001:db8::1'), (20, '::ffff:10.1.2.3');
SELECT adclick.ad_click_count(20, 5, '{"ip": ["10.1.2.3", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3"]}') AS two,
	adclick.ad_click_count(20, 5, '{"ip": ["2001:db8::/32", "::/0", "10.200.0.0/13", "10.200.0.1"]}') AS three,
	adclick.ad_click_count(20, 5, '{"ip": ["11.0.0.0/8", "9.0.0.0/8", "2001:db9::/32"]}') AS none,
	adclick.ad_click_count(20, 5, jsonb_build_object('ip', (SELECT jsonb_agg(text(inet '10.0.0.0' + i * 7919)) FROM generate_series(0, 50000) i) || '"10.1.2.3"')) AS two,
	adclick.ad_click_count(1, 5, jsonb_build_object('country', (SELECT jsonb_agg('C' || i) FROM generate_series(1, 100000) i))) AS all;
SELECT adclick.ad_click_count(1, 5, jsonb_build_object('country', (SELECT jsonb_agg('C' || i) FROM generate_series(1, 100001) i)));
SELECT adclick.ad_click_count(1, 5, jsonb_build_object('ip', repeat('1', 200)));
SELECT adclick.ad_click_count(1, 5, jsonb_build_object(repeat('é', 200), 1));

-- Each filter has been made once.
SELECT country, region, device, count(*) FROM adclick.filters GROUP BY 1, 2, 3 HAVING count(*) > 1;
SELECT oracle.lost();
DROP EXTENSION adclick CASCADE;
ALTER SYSTEM RESET adclick.max_filters;
SELECT pg_reload_conf();
