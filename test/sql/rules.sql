-- Settings that judge clicks are changed: what was counted stays seen.
CREATE EXTENSION adclick;
SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') - interval '10 minutes' AS t \gset
PREPARE send AS INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES ('00000000-0000-4000-8000-000000000001', 1, :'t');
EXECUTE send;
SELECT counted, duplicates FROM adclick.tick();
SELECT highest_bucket AS highest FROM adclick_internal.state \gset

-- Another setting than those of the rule, which keeps its highest bucket.
\set name adclick.future_tolerance
\set value 60
\i test/lib/set.psql
SELECT rows_read FROM adclick.tick();
SELECT rule_id, highest_bucket = :highest AS same FROM adclick_internal.state;
INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (2, :'t'::timestamptz - interval '3 hours');
SELECT counted, duplicates FROM adclick.tick();
SELECT rule_id, highest_bucket = :highest AS same FROM adclick_internal.state;

-- Then those of the rule, there and back.
\set name adclick.dedup_window
\set value 3600
\i test/lib/set.psql
SELECT rows_read FROM adclick.tick();
EXECUTE send;
SELECT adclick.ad_click_count_between(1, timestamptz '-infinity', 'infinity');
SELECT counted, duplicates FROM adclick.tick();
\set value 600
\i test/lib/set.psql
SELECT rows_read FROM adclick.tick();
EXECUTE send;
SELECT adclick.ad_click_count_between(1, timestamptz '-infinity', 'infinity');
SELECT counted, duplicates FROM adclick.tick();
\set name adclick.future_tolerance
\set value 300
\i test/lib/set.psql
SELECT balanced FROM adclick.check_ledger();
DROP EXTENSION adclick;
