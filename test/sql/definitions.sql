-- What the owner of a table can change is noticed, named, and stops nothing but what needs it.
CREATE EXTENSION adclick;
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || sqlerrm || ': ' || detail;
END $$;
-- A change, what a tick and a question say of it, and the change undone.
CREATE FUNCTION changed(change text, VARIADIC questions text[] DEFAULT '{"SELECT adclick.tick()", "SELECT adclick.ad_click_count(1, 60)"}')
	RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	said text[];
BEGIN
	BEGIN
		EXECUTE change;
		said := ARRAY(SELECT try(q) FROM unnest(questions) q);
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN NULL;
	END;
	RETURN QUERY SELECT unnest(said);
END $$;
CREATE ROLE regress_other;
INSERT INTO adclick.clicks (ad_id, user_id, country) VALUES (1, 17, 'CA'), (1, 17, 'FR'), (1, 18, 'CA');

-- Columns of the table of clicks, of other tables, of a type.  First the view that uses them has to go.
-- Types are refused at once.
\set alter 'ALTER EXTENSION adclick DROP VIEW adclick.click_log; DROP VIEW adclick.click_log; ALTER TABLE adclick.clicks '
SELECT try(:'alter' || 'ALTER user_id TYPE text');
SELECT try(:'alter' || 'ALTER ad_id TYPE numeric');
SELECT try(:'alter' || 'ALTER country TYPE int USING NULL');
SELECT try(:'alter' || 'ALTER country TYPE varchar(2)');
SELECT changed(:'alter' || 'DROP device');
SELECT try(:'alter' || 'DROP device, ADD device text');
SELECT try('ALTER TABLE adclick.clicks ADD campaign text');
SELECT changed(:'alter' || 'RENAME country TO land');
SELECT changed('ALTER TABLE adclick.filters ALTER filter_id TYPE bigint');
SELECT changed('ALTER TABLE adclick_internal.runs ALTER facts TYPE numeric');
SELECT changed('ALTER TABLE adclick_internal.deltas ALTER data TYPE text USING NULL');
SELECT changed('ALTER TABLE adclick.most_clicked_ads ALTER most_clicked_ads TYPE text[] USING ''{}''');

-- Owners, views, rules, constraints, policies, triggers.
SELECT changed('ALTER TABLE adclick.filters OWNER TO regress_other');
SELECT changed('ALTER TABLE adclick.ads OWNER TO regress_other', 'SELECT adclick.advertiser_click_count(7, 5)');
SELECT changed('ALTER TABLE adclick.ads RENAME TO old; CREATE VIEW adclick.ads AS TABLE adclick.old', 'SELECT adclick.advertiser_click_count(7, 5)');
SELECT changed('ALTER TABLE adclick_internal.runs SET UNLOGGED');
SELECT try('ALTER TABLE adclick.clicks SET UNLOGGED');
SELECT try('ALTER TABLE adclick.clicks SET ACCESS METHOD heap');
SELECT changed('ALTER TABLE adclick.clicks OWNER TO regress_other');
SELECT changed('ALTER TABLE adclick.clicks FORCE ROW LEVEL SECURITY');
SELECT changed('ALTER TABLE adclick.clicks RENAME TO old');
SELECT changed('ALTER TABLE adclick.clicks SET SCHEMA public');
-- The status goes on telling what it can: the error, and who runs.
SELECT changed(change, 'SELECT * FROM adclick.status') FROM unnest(ARRAY['ALTER TABLE adclick.clicks OWNER TO regress_other',
	'ALTER TABLE adclick.clicks REPLICA IDENTITY FULL', 'ALTER TABLE adclick.clicks RENAME user_id TO uid',
	'CREATE TABLE public.heir () INHERITS (adclick.clicks)', 'ALTER TABLE adclick.clicks RENAME TO old',
	'ALTER TABLE adclick_internal.runs SET UNLOGGED']) change;
SELECT changed('CREATE TABLE public.heir () INHERITS (adclick.clicks)');
SELECT changed('ALTER TABLE adclick_internal.deltas ALTER data SET STORAGE EXTENDED');
SELECT changed('DROP INDEX adclick_internal.deltas_key_idx', 'SELECT count(*) FROM adclick.tick()', 'SELECT adclick.ad_click_count(1, 60), adclick.tick(), adclick.ad_click_count(1, 60)');
SELECT changed('CREATE RULE gone AS ON INSERT TO adclick.filters DO INSTEAD NOTHING');
SELECT changed('ALTER TABLE adclick.filters ADD CHECK (random() < 2) NOT VALID');
SELECT changed('ALTER TABLE adclick.filters FORCE ROW LEVEL SECURITY');
CREATE TABLE public.seen_by_trigger (n int);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen_by_trigger VALUES (1); RETURN new; END $$;
SELECT changed('CREATE TRIGGER note BEFORE INSERT ON adclick.filters FOR EACH ROW EXECUTE FUNCTION public.note(); ALTER TABLE adclick.filters ENABLE ALWAYS TRIGGER note');
CREATE TRIGGER note BEFORE INSERT OR UPDATE OR DELETE ON adclick.filters FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note BEFORE INSERT OR UPDATE OR DELETE ON adclick.most_clicked_ads FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note BEFORE INSERT OR UPDATE OR DELETE ON adclick_internal.runs FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note BEFORE INSERT OR UPDATE OR DELETE ON adclick_internal.state FOR EACH ROW EXECUTE FUNCTION public.note();
SELECT rows_read, counted FROM adclick.tick();
SELECT adclick.add_filter('{"country": "CA"}') > 0 AS added;
SELECT minutes_written >= 0 AS compacted FROM adclick.compact();
SELECT adclick.drop_filter('{"country": "CA"}');
SELECT count(*) FROM public.seen_by_trigger;
SHOW session_replication_role;

-- A publication of all tables, deletes and updates included.
SET client_min_messages = error;
CREATE PUBLICATION everything FOR ALL TABLES;
RESET client_min_messages;
INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT n % 5, now() - n % 4 * interval '5 minutes' FROM generate_series(1, 100) n;
SELECT rows_read, counted FROM adclick.tick();
SELECT runs_merged > 0 AS merged FROM adclick.compact();
INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT n % 5, now() - n % 4 * interval '5 minutes' FROM generate_series(1, 100) n;
SELECT rows_read, counted FROM adclick.tick();
SELECT runs_merged > 0 AS merged FROM adclick.compact();
SELECT count(*) AS without_identity FROM pg_class c
WHERE relnamespace IN ('adclick'::regnamespace, 'adclick_internal'::regnamespace) AND relkind = 'r'
	AND relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary);
DROP PUBLICATION everything;

-- Foreign tables of other names and shapes.
CREATE FOREIGN TABLE public.few (ad_id bigint) SERVER adclick_facts;
CREATE FOREIGN TABLE public.texts (ad_id text, click_minute timestamptz, filter_id int, country text, region text, device text,
	click_count bigint) SERVER adclick_facts;
SELECT * FROM public.few;
SELECT country FROM public.texts;
SELECT sum(1) FROM public.texts GROUP BY country;
SELECT changed('ALTER FOREIGN TABLE adclick_internal.fact_rows ALTER country TYPE varchar(2)', 'SELECT * FROM adclick_internal.fact_rows');
SELECT changed('ALTER FOREIGN TABLE adclick_internal.day_rows ALTER country TYPE varchar(2)', 'SELECT * FROM adclick_internal.day_rows');
DROP FOREIGN TABLE public.few, public.texts;

SELECT count(*) AS wrong FROM oracle.wrong_facts();
SELECT oracle.lost();
DROP EXTENSION adclick CASCADE;
DROP ROLE regress_other;
DROP FUNCTION changed, try;
DROP TABLE public.seen_by_trigger;
DROP FUNCTION public.note;
