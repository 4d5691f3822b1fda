-- Minutes spread over weeks whose remainders are the same, and some in a row: each is written where it belongs, most of
-- them to hours.  A round writes 60 minutes; the rest stays in deltas.
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id, clicked_at)
SELECT n % 3, now() - n * interval '1024 minutes' FROM generate_series(1, 9) n
UNION ALL SELECT 1, now() - n * interval '1 minute' FROM generate_series(100, 239) n;
SELECT rows_read, counted FROM adclick.tick();
SELECT minutes_written, hours_written >= 9 AS hours FROM adclick.compact();
SELECT * FROM oracle.wrong_facts(true);
SELECT oracle.lost();
SELECT ad, adclick.ad_click_count(ad, 10080) FROM generate_series(0, 2) ad;
-- They are for another round; then days are summed up, and only what is open is left.
SELECT minutes_written < 60 AS few FROM adclick.compact();
SELECT minutes_written, hours_written, days_written > 0 AS days FROM adclick.compact();
SELECT oracle.compact();
SELECT more FROM adclick.compact();
SELECT * FROM oracle.wrong_facts(true);
SELECT ad, adclick.ad_click_count(ad, 10080) FROM generate_series(0, 2) ad;
DROP EXTENSION adclick CASCADE;
