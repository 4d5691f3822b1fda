-- The log is append-only for everybody, and for what logical replication applies.
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 100);
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ' ' || sqlerrm;
END $$;
-- Every way, on the log and on each of its partitions.
CREATE FUNCTION ways() RETURNS TABLE (role text, statement text, relation text, outcome text) LANGUAGE plpgsql AS $$
DECLARE
	relations text[] := ARRAY(SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'adclick.clicks'::regclass);
	filled text[] := ARRAY(SELECT DISTINCT tableoid::regclass::text FROM adclick.clicks);
BEGIN
	FOREACH role IN ARRAY '{origin,replica,local}'::text[] LOOP
		PERFORM set_config('session_replication_role', role, true);
		FOREACH statement IN ARRAY '{TRUNCATE %s,DELETE FROM %s,UPDATE %s SET ad_id = 2}'::text[] LOOP
			FOREACH relation IN ARRAY CASE WHEN statement ~ 'TRUNCATE' THEN relations ELSE filled END || ARRAY['adclick.clicks'] LOOP
				outcome := try(format(statement, relation));
				RETURN NEXT;
			END LOOP;
		END LOOP;
	END LOOP;
END $$;
SELECT role, statement, outcome, count(*) > 1 AS partitions FROM ways() GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT count(*) AS in_log FROM adclick.clicks;
-- Partitions made later, too.
SELECT count(*) > 3 AS partitions, bool_and(tgenabled = 'A') AS always FROM pg_trigger t JOIN pg_inherits i ON tgrelid = inhrelid
WHERE inhparent = 'adclick.clicks'::regclass;
DROP FUNCTION ways, try;
DROP EXTENSION adclick CASCADE;
