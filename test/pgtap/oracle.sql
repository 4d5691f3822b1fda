-- The oracle notices what may not be in the log: each kind of wrong verdict, clicks
-- that are missing and clicks that nobody sent.

SELECT no_plan();

SELECT oracle.witness() AS witnessed \gset
CREATE FUNCTION send(keys text, at timestamptz DEFAULT date_bin('10 minutes', now(), '2000-01-01 00:00Z')) RETURNS void LANGUAGE sql AS $$
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id)
	SELECT CASE WHEN key <> '-' THEN md5(key)::uuid END, ascii(key), at, nr FROM regexp_split_to_table(keys, '') WITH ORDINALITY k (key, nr)
$$;
SELECT send('aaab') AS sent, send('--') AS two, send('e', now() - interval '8 days') AS old, send('f', now() + interval '1 day') AS ahead \gset
SELECT is((counted, duplicates, discarded)::text, '(4,2,2)', 'taken') FROM adclick.tick();
SELECT send('acc') AS sent \gset

-- In place of the log a table of the same rows, which can be changed.
CREATE TABLE log AS SELECT * FROM adclick.click_log;
ALTER VIEW adclick.click_log RENAME TO true_log;
CREATE VIEW adclick.click_log AS TABLE log;
CREATE FUNCTION noticed(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	changed bigint;
	said text;
BEGIN
	EXECUTE change;
	GET DIAGNOSTICS changed = ROW_COUNT;
	said := concat_ws(' ', CASE WHEN changed = 0 THEN 'nothing changed' END,
		CASE WHEN EXISTS (SELECT FROM oracle.wrong_verdicts()) THEN 'verdicts' END,
		CASE WHEN EXISTS (SELECT FROM oracle.wrong_log()) THEN 'log' END,
		CASE WHEN oracle.lost() <> 0 THEN 'lost' END,
		CASE WHEN EXISTS (SELECT FROM oracle.wrong_facts(true)) THEN 'facts' END);
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	RETURN said;
END $$;

SELECT is(noticed('UPDATE log SET ad_id = ad_id'), '', 'the log is right');
SELECT is(noticed(change), said, change) FROM (VALUES
	-- verdicts
	($$UPDATE log SET verdict = 'duplicate' WHERE ad_id = ascii('b')$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'duplicate' WHERE ad_id = ascii('a') AND verdict = 'counted'$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'counted' WHERE ad_id = ascii('a') AND verdict = 'duplicate'$$, 'verdicts lost'),
	($$UPDATE log SET verdict = CASE WHEN ad_id = ascii('b') THEN 'duplicate' ELSE 'counted' END
		WHERE ad_id = ascii('b') OR ad_id = ascii('a') AND user_id = (SELECT min(user_id) FROM log WHERE ad_id = ascii('a') AND verdict = 'duplicate')$$,
		'verdicts'),
	($$UPDATE log SET verdict = 'too old' WHERE ad_id = ascii('b')$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'undecided' WHERE ad_id = ascii('b')$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'forgotten' WHERE ad_id = ascii('b')$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'duplicate' WHERE ad_id = ascii('-') AND user_id = 1$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'in the future' WHERE ad_id = ascii('e')$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'counted' WHERE ad_id = ascii('e')$$, 'verdicts lost'),
	($$UPDATE log SET verdict = 'too old' WHERE ad_id = ascii('f')$$, 'verdicts lost'),
	($$UPDATE log SET verdict = NULL WHERE ad_id = ascii('b')$$, 'lost facts'),
	($$UPDATE log SET verdict = 'counted' WHERE ad_id = ascii('c') AND user_id = 2$$, 'lost facts'),
	($$UPDATE log SET verdict = 'duplicate' WHERE ad_id = ascii('c') AND user_id = 2$$, 'verdicts lost facts'),
	-- clicks
	($$DELETE FROM log WHERE ad_id = ascii('b')$$, 'log lost facts'),
	($$DELETE FROM log WHERE ad_id = ascii('a') AND verdict = 'duplicate' AND user_id = (SELECT max(user_id) FROM log WHERE verdict = 'duplicate')$$, 'log lost'),
	($$DELETE FROM log WHERE ad_id = ascii('e')$$, 'log lost'),
	($$DELETE FROM log WHERE ad_id = ascii('c') AND user_id = 2$$, 'log lost'),
	($$INSERT INTO log SELECT * FROM log WHERE ad_id = ascii('c') AND user_id = 2$$, 'log lost'),
	($$INSERT INTO log SELECT * FROM log WHERE ad_id = ascii('b')$$, 'verdicts log lost'),
	($$UPDATE log SET country = 'CA' WHERE ad_id = ascii('b')$$, 'log lost facts'),
	($$UPDATE log SET user_id = 99 WHERE ad_id = ascii('b')$$, 'log lost')) c (change, said);

-- Answers are those of the copy that is counted.
SELECT is(noticed($$UPDATE log SET country = 'CA' WHERE ad_id = ascii('a') AND verdict = 'counted'$$), 'log lost facts', 'facts are those of the counted copy');
SELECT is(noticed($$UPDATE log SET country = 'CA' WHERE ad_id = ascii('a') AND verdict = 'duplicate'$$), 'log lost', 'and of no other');

-- The true log again: of copies that differ, users among them, it tells which count.
DROP VIEW adclick.click_log;
ALTER VIEW adclick.true_log RENAME TO click_log;
SELECT is(counted, 1::bigint, 'the rest is taken') FROM adclick.tick();
SELECT is_empty('SELECT * FROM oracle.wrong_answers(40)', 'answers are those of the log');
SELECT is_empty('SELECT * FROM oracle.wrong_verdicts()', 'verdicts are right');
SELECT is(oracle.lost(), 0::bigint, 'nothing is lost');

SELECT * FROM finish();
