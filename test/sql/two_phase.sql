-- Clicks of prepared transactions count when they commit; rounds cannot be prepared.
SELECT current_setting('max_prepared_transactions') = '0' AS none_prepared \gset
\if :none_prepared
\quit
\endif
CREATE EXTENSION adclick;
BEGIN;
INSERT INTO adclick.clicks (ad_id) VALUES (3);
PREPARE TRANSACTION 'adclick regress';
INSERT INTO adclick.clicks (ad_id) VALUES (3), (3);
SELECT adclick.ad_click_count(3, 5);
SELECT lag_rows, open_writer_prepared, open_writer_pid FROM adclick.status;
SELECT rows_read, counted FROM adclick.tick();
COMMIT PREPARED 'adclick regress';
SELECT adclick.ad_click_count(3, 5);
SELECT rows_read, counted FROM adclick.tick();
SELECT adclick.ad_click_count(3, 5);

-- A transaction that has changed the counts cannot be prepared.
INSERT INTO adclick.clicks (ad_id, country) VALUES (2, 'CA');
BEGIN;
SELECT rows_read FROM adclick.tick();
PREPARE TRANSACTION 'adclick tick';
SELECT * FROM adclick.breakdown(2, 60, 'country');
SELECT country, click_count FROM adclick.clicks_per_minute WHERE ad_id = 2;
BEGIN;
SELECT adclick.add_filter('{"country": "CA"}') > 0 AS added;
PREPARE TRANSACTION 'adclick filter';
BEGIN;
SAVEPOINT undone;
SELECT rows_read FROM adclick.tick();
ROLLBACK TO undone;
INSERT INTO adclick.clicks (ad_id, country) VALUES (2, 'FR');
PREPARE TRANSACTION 'adclick clicks';
SELECT * FROM adclick.breakdown(2, 60, 'country');
SELECT rows_read FROM adclick.tick();
COMMIT PREPARED 'adclick clicks';
SELECT * FROM adclick.breakdown(2, 60, 'country');
SELECT rows_read FROM adclick.tick();
SELECT * FROM adclick.breakdown(2, 60, 'country');
SELECT * FROM oracle.wrong_facts();
SELECT oracle.lost();
DROP EXTENSION adclick;
