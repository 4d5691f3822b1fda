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
SELECT country, device, click_count FROM adclick_internal.facts() JOIN adclick.filters USING (filter_id) ORDER BY 1, 2, 3;
SELECT adclick.ad_click_count(1, 5) AS ad, adclick.ad_click_count(1, 5, '{"country": "other"}') AS other,
	adclick.ad_click_count(1, 5, '{"country": "C5"}') AS c5, adclick.ad_click_count(1, 5, '{"device": "mobile"}') AS mobile;

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

-- Each filter has been made once.
SELECT country, region, device, count(*) FROM adclick.filters GROUP BY 1, 2, 3 HAVING count(*) > 1;
SELECT oracle.lost();
DROP EXTENSION adclick;
