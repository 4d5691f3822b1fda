-- Clicks can only be inserted, by everybody, and by what logical replication applies.
CREATE EXTENSION adclick;
INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 100);
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ' ' || sqlerrm;
END $$;
-- Every way there is.
CREATE FUNCTION ways() RETURNS TABLE (role text, statement text, outcome text) LANGUAGE plpgsql AS $$
BEGIN
	FOREACH role IN ARRAY '{origin,replica,local}'::text[] LOOP
		PERFORM set_config('session_replication_role', role, true);
		FOREACH statement IN ARRAY '{TRUNCATE adclick.clicks,DELETE FROM adclick.clicks,UPDATE adclick.clicks SET ad_id = 2}'::text[] LOOP
			outcome := try(statement);
			RETURN NEXT;
		END LOOP;
	END LOOP;
END $$;
SELECT * FROM ways() ORDER BY 1, 2, 3;
SELECT count(*) AS in_table FROM adclick.clicks;
-- With nothing in it, too.
SELECT counted FROM adclick.tick();
SELECT count(*) AS in_table FROM adclick.clicks;
SELECT * FROM ways() ORDER BY 1, 2, 3;
SELECT count(*) AS in_log FROM adclick.click_log;
-- What speaks does so always.
SELECT tgname, tgenabled = 'A' AS always FROM pg_trigger WHERE tgrelid = 'adclick.clicks'::regclass AND NOT tgisinternal AND tgname <> 'guard_restore';
DROP FUNCTION ways, try;
DROP EXTENSION adclick CASCADE;
