-- What the demo shows.  Variables: span, the arguments that make the window;
-- between, the end of the names of questions that take it; its words; bar, the character bars are made of.
-- First line: figures for the script; all others are shown as they are.

SELECT clicks_counted + duplicates + discarded, clicks_counted, duplicates, discarded,
	lag_rows, round(lag_seconds::numeric, 1),
	(SELECT coalesce(sum(tuples_processed), 0) FROM pg_stat_progress_copy WHERE datname = current_database()),
	regexp_replace(coalesce(last_error, ''), '\s+', ' ', 'g')
FROM adclick.status;

\set number '''FM999,999,999,999,999'''
-- 1 click, 2 clicks
\set clicks 'to_char(click_count, ' :number ') || CASE click_count WHEN 1 THEN $$ click$$ ELSE $$ clicks$$ END'

SELECT format(E'\ntop 10 ads, %s', :'words');
SELECT lpad(rank::text, 4) || lpad(ad_id::text, 21) || lpad(to_char(click_count, :number), 14) || '  '
	|| repeat(:'bar', ceil(30 * click_count / max(click_count) OVER ())::int)
FROM adclick.top_n_ads:between(10, :span)
ORDER BY rank;

-- a country and a device that clicks came with, to show filters
SELECT coalesce((SELECT country FROM adclick.filters WHERE country <> 'unknown' ORDER BY filter_id LIMIT 1), '') AS country,
	coalesce((SELECT device FROM adclick.filters WHERE device <> 'unknown' ORDER BY filter_id LIMIT 1), '') AS device
\gset

SELECT '';
SELECT format('top ad in %s: %s, %s', :'country', ad_id, :clicks)
FROM adclick.top_n_ads:between(1, :span, jsonb_build_object('country', :'country'))
WHERE :'country' <> '';

SELECT format('ad %s: %s', ad_id, :clicks)
	|| CASE WHEN :'device' <> '' THEN format(', %s of them on device "%s"', to_char(adclick.ad_click_count:between(ad_id, :span,
		jsonb_build_object('device', :'device')), :number), :'device') ELSE '' END
FROM (SELECT ad_id, adclick.ad_click_count:between(ad_id, :span) AS click_count FROM adclick.top_n_ads:between(3, :span) WHERE rank = 3) t;
