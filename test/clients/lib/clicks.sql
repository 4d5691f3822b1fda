-- What all clients look at: clicks of the last hour, some packed, some taken by
-- a tick, some in the tail.  No two of them have the same id and none is late or
-- hostile, so that the right answers are plain counts over adclick.click_log.

CREATE EXTENSION adclick;

INSERT INTO adclick.ads (ad_id, advertiser_id, redirect_url, website)
	SELECT i, i % 7, 'https://shop.example/' || i, 'site' || i % 11 || '.example'
	FROM generate_series(1001, 1080) i;

-- Made by i alone, not at random: the same every time.
CREATE FUNCTION pg_temp.clicks(n int, first_minute int, last_minute int)
	RETURNS TABLE (ad_id bigint, clicked_at timestamptz, user_id bigint, ip inet, country text, region text, device text)
	LANGUAGE sql AS $$
SELECT 1001 + (i * i % 97) * (i % 3) % 97,
	date_trunc('minute', now()) - interval '1 minute' * (last_minute + i % (first_minute - last_minute + 1))
		+ interval '0.5 seconds' * (i % 100),
	nullif(i % 50, 0), '203.0.113.0'::inet + i % 20,
	('{CA,CA,US,FR,NULL}'::text[])[1 + i % 5], ('{QC,ON,Île-de-France}'::text[])[1 + i % 3],
	('{mobile,desktop}'::text[])[1 + i % 2]
FROM generate_series(1, n) i
$$;

SELECT adclick.add_filter('{"country": "CA"}');

INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT * FROM pg_temp.clicks(3000, 40, 21);
SELECT adclick.tick();
SELECT adclick.compact();

INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT * FROM pg_temp.clicks(1000, 20, 11);
SELECT adclick.tick();

INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT * FROM pg_temp.clicks(500, 10, 1);

-- Who sends the clicks, and may look at them to check the answers.
CREATE ROLE shop LOGIN PASSWORD 'sends clicks';
GRANT USAGE ON SCHEMA adclick TO shop;
GRANT INSERT (click_id, ad_id, clicked_at, user_id, ip, country, region, device) ON adclick.clicks TO shop;
GRANT SELECT ON adclick.click_log TO shop;
