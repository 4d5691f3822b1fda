/* sql/adclick--1.0.sql */

-- complain if the script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION adclick" to load this file. \quit

-- Made here and not by the control file, so that DROP EXTENSION drops it.
CREATE SCHEMA adclick;
COMMENT ON SCHEMA adclick IS 'exact counts of ad clicks: the inbox, the questions, all clicks with their verdicts, and the status';

CREATE SCHEMA adclick_internal;
COMMENT ON SCHEMA adclick_internal IS 'inside of the extension adclick: segments and state; nothing here is meant for users';

/*
 * The first C function: creating it loads the library, which refuses to be
 * loaded other than by shared_preload_libraries, before anything else is made.
 */
CREATE FUNCTION adclick_internal.refuse_change() RETURNS trigger
	AS 'MODULE_PATHNAME', 'adclick_refuse_change' LANGUAGE C;
COMMENT ON FUNCTION adclick_internal.refuse_change() IS 'trigger: clicks can only be inserted';

--
-- The inbox
--

CREATE FUNCTION adclick_internal.inbox_handler(internal) RETURNS table_am_handler
	AS 'MODULE_PATHNAME', 'adclick_inbox_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION adclick_internal.inbox_handler(internal) IS 'access method of adclick.clicks: a heap into which rows are only put';

CREATE ACCESS METHOD adclick_inbox TYPE TABLE HANDLER adclick_internal.inbox_handler;
COMMENT ON ACCESS METHOD adclick_inbox IS 'for adclick.clicks alone: a heap into which rows are only put';

/*
 * The columns of fixed width stand first, so that a reader finds them without
 * walking over the others.  VACUUM makes room for the next clicks where ticks have
 * taken some; it need not wait for more of them than a few seconds bring.
 */
CREATE TABLE adclick.clicks (
	click_id uuid,
	ad_id bigint NOT NULL,
	clicked_at timestamptz DEFAULT statement_timestamp(),
	user_id bigint,
	received_at timestamptz,
	ip inet,
	country text,
	region text,
	device text
) USING adclick_inbox WITH (
	autovacuum_vacuum_threshold = 50000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1,
	autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_threshold = 2000000000, vacuum_truncate = off
);
-- Only inserts can be published.
ALTER TABLE adclick.clicks REPLICA IDENTITY NOTHING;

-- Statistics would go on to name users that are forgotten.
ALTER TABLE adclick.clicks ALTER user_id SET STATISTICS 0, ALTER ip SET STATISTICS 0;

COMMENT ON TABLE adclick.clicks IS 'the inbox: insert clicks here; a tick takes them, and adclick.click_log keeps them';
COMMENT ON COLUMN adclick.clicks.click_id IS 'id of the click or of its impression, the same for every copy of it; one without gets a random one, and is never a duplicate';
COMMENT ON COLUMN adclick.clicks.ad_id IS 'the ad that was clicked';
COMMENT ON COLUMN adclick.clicks.clicked_at IS 'when it was clicked (event time); default: now';
COMMENT ON COLUMN adclick.clicks.user_id IS 'who clicked';
COMMENT ON COLUMN adclick.clicks.received_at IS 'when the row arrived; what clients say is overwritten';
COMMENT ON COLUMN adclick.clicks.ip IS 'address the click came from, IPv4 or IPv6';
COMMENT ON COLUMN adclick.clicks.country IS 'country of the click; empty or missing counts as unknown';
COMMENT ON COLUMN adclick.clicks.region IS 'region of the click; empty or missing counts as unknown';
COMMENT ON COLUMN adclick.clicks.device IS 'kind of device; empty or missing counts as unknown';

-- The access method refuses it where there are rows; this speaks also where there are none.
CREATE TRIGGER insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON adclick.clicks
	FOR EACH STATEMENT EXECUTE FUNCTION adclick_internal.refuse_change();
-- Also for what logical replication applies.
ALTER TABLE adclick.clicks ENABLE ALWAYS TRIGGER insert_only;

--
-- What ticks write
--

CREATE TABLE adclick.filters (
	filter_id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	country text,
	region text,
	device text,
	last_day date,
	UNIQUE NULLS NOT DISTINCT (country, region, device)
);
COMMENT ON TABLE adclick.filters IS 'combinations of country, region and device: those that clicks came with, and, with NULL for any, those registered by adclick.add_filter()';
COMMENT ON COLUMN adclick.filters.filter_id IS 'short name of the combination, as long as it is here; 0: any click';
COMMENT ON COLUMN adclick.filters.country IS 'country, ''unknown'' for clicks without, ''other'' beyond the limits; NULL = any';
COMMENT ON COLUMN adclick.filters.region IS 'region, ''unknown'' for clicks without, ''other'' beyond the limits; NULL = any';
COMMENT ON COLUMN adclick.filters.device IS 'device, ''unknown'' for clicks without, ''other'' beyond the limits; NULL = any';
COMMENT ON COLUMN adclick.filters.last_day IS 'the last day (UTC) of a click that came with it: when retention has dropped all that is stored of that day and earlier ones, the row goes, too; NULL: it stays, as registered ones do';

-- Any click: its top-N is always kept.
INSERT INTO adclick.filters (filter_id) OVERRIDING SYSTEM VALUE VALUES (0);

-- One row, updated by each tick.
CREATE TABLE adclick_internal.state (
	only_row boolean PRIMARY KEY,
	tick bigint NOT NULL,
	ticked_at timestamptz,
	newest_received timestamptz,
	event_time timestamptz,
	rows_read bigint NOT NULL,
	counted bigint NOT NULL,
	in_future bigint NOT NULL,
	too_old bigint NOT NULL,
	duplicates bigint NOT NULL,
	undecided bigint NOT NULL,
	forged bigint NOT NULL,
	expired bigint NOT NULL,
	user_limit bigint NOT NULL,
	address_limit bigint NOT NULL,
	rule_id int,
	future_tolerance bigint,
	raw_retention bigint,
	highest_bucket bigint,
	late bigint NOT NULL,
	dropped bigint NOT NULL,
	discarded_dropped bigint NOT NULL,
	dropped_until timestamptz,
	people_dropped_until timestamptz,
	user_clicks_per_minute int,
	ip_clicks_per_minute int,
	minutes_dropped bigint NOT NULL,
	days_dropped bigint NOT NULL,
	minutes_dropped_until timestamptz,
	days_dropped_until timestamptz
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE adclick_internal.state IS 'how far the ticks have come: one row, updated by each tick';
COMMENT ON COLUMN adclick_internal.state.tick IS 'number of the last tick';
COMMENT ON COLUMN adclick_internal.state.newest_received IS 'latest received_at taken so far';
COMMENT ON COLUMN adclick_internal.state.event_time IS 'latest clicked_at of the last tick';
COMMENT ON COLUMN adclick_internal.state.rule_id IS 'rule that tells duplicates in what the next tick takes; NULL: no tick yet';
COMMENT ON COLUMN adclick_internal.state.future_tolerance IS 'adclick.future_tolerance for what the next tick takes, in microseconds';
COMMENT ON COLUMN adclick_internal.state.raw_retention IS 'adclick.raw_retention for what the next tick takes, in microseconds';
COMMENT ON COLUMN adclick_internal.state.user_clicks_per_minute IS 'adclick.user_clicks_per_minute for what the next tick takes, 0 if users do not limit it';
COMMENT ON COLUMN adclick_internal.state.ip_clicks_per_minute IS 'adclick.ip_clicks_per_minute for what the next tick takes, 0 if addresses do not limit it';
COMMENT ON COLUMN adclick_internal.state.highest_bucket IS 'highest bucket of the rule with a counted click';
COMMENT ON COLUMN adclick_internal.state.late IS 'of the clicks counted, those that arrived later than adclick.watermark after the end of their minute';
COMMENT ON COLUMN adclick_internal.state.dropped IS 'of the clicks counted, those that retention has dropped from the ledger';
COMMENT ON COLUMN adclick_internal.state.discarded_dropped IS 'of the clicks set aside, those that went with volumes of the ledger';
COMMENT ON COLUMN adclick_internal.state.dropped_until IS 'the last minute in which one of them was clicked, or its dedup bucket begins; NULL: none was dropped';
COMMENT ON COLUMN adclick_internal.state.people_dropped_until IS 'the last minute of what retention has dropped from orders user and ip: up to it nobody can ask by user or address; NULL: nothing was dropped';
COMMENT ON COLUMN adclick_internal.state.minutes_dropped IS 'of the clicks counted, those of days of which retention has dropped minutes and hours';
COMMENT ON COLUMN adclick_internal.state.days_dropped IS 'of them, those of days that it has dropped as a whole';
COMMENT ON COLUMN adclick_internal.state.minutes_dropped_until IS 'the last minute of days (UTC) of which minutes and hours were dropped: up to it no click counts any more, and order ad has nothing; NULL: none were';
COMMENT ON COLUMN adclick_internal.state.days_dropped_until IS 'the last minute of days that were dropped as a whole: up to it order day has nothing; NULL: none was';

INSERT INTO adclick_internal.state (only_row, tick, rows_read, counted, in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit, late, dropped, discarded_dropped, minutes_dropped, days_dropped)
	VALUES (true, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE adclick_internal.restore (
	started_at timestamptz PRIMARY KEY,
	tried_again boolean NOT NULL
);
COMMENT ON TABLE adclick_internal.restore IS 'one row while the data of a dump is awaited: nothing is counted then; more, if that dump is of a database where it was like this';
COMMENT ON COLUMN adclick_internal.restore.tried_again IS 'another dump, or the same once more, was begun before the end: what has come may be of both, and nothing more comes';

CREATE TABLE adclick_internal.restored_tables (
	relation regclass PRIMARY KEY,
	by_copy boolean NOT NULL
);
COMMENT ON TABLE adclick_internal.restored_tables IS 'tables whose data has come, of the dump whose data is awaited';
COMMENT ON COLUMN adclick_internal.restored_tables.by_copy IS 'by one COPY, so all of it; and not by INSERTs, of which there are none where it has no rows';

CREATE TABLE adclick_internal.dedup_rules (
	rule_id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	by_user_and_ad boolean NOT NULL,
	dedup_window int NOT NULL,
	last_bucket bigint,
	forgotten_since timestamptz,
	secret bytea,
	UNIQUE NULLS NOT DISTINCT (by_user_and_ad, dedup_window, forgotten_since)
);
ALTER TABLE adclick_internal.dedup_rules ALTER secret SET STORAGE PLAIN;
COMMENT ON TABLE adclick_internal.dedup_rules IS 'values of adclick.dedup_by, or of an ad''s own, and of adclick.dedup_window that clicks were judged by: what was counted by one stays seen';
COMMENT ON COLUMN adclick_internal.dedup_rules.forgotten_since IS 'of keys of forgotten users: since when their keys were disguised by this secret';
COMMENT ON COLUMN adclick_internal.dedup_rules.secret IS 'by which a copy of a forgotten user''s click is known; thrown away once none can arrive';
COMMENT ON COLUMN adclick_internal.dedup_rules.by_user_and_ad IS 'whether the key is the user and the ad, and not the id of the click';
COMMENT ON COLUMN adclick_internal.dedup_rules.dedup_window IS 'length of its windows in seconds';
COMMENT ON COLUMN adclick_internal.dedup_rules.last_bucket IS 'the highest bucket with a counted click; of the one in force it stands in adclick_internal.state';

-- What two compactions both change.
CREATE TABLE adclick_internal.compaction (
	only_row boolean PRIMARY KEY,
	rounds bigint NOT NULL
) WITH (fillfactor = 20);
COMMENT ON TABLE adclick_internal.compaction IS 'how often the compactor, or who registers a filter, began to change runs: one row';
INSERT INTO adclick_internal.compaction VALUES (true, 0);

CREATE TABLE adclick_internal.runs (
	run_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	sort_order smallint NOT NULL,
	is_delta boolean NOT NULL,
	first_minute timestamptz NOT NULL,
	last_minute timestamptz NOT NULL,
	segments int NOT NULL,
	facts bigint NOT NULL,
	clicks bigint NOT NULL,
	minutes timestamptz[],
	minute_facts bigint[],
	minute_clicks bigint[],
	volume int
) WITH (autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.1);
CREATE INDEX runs_minute_idx ON adclick_internal.runs (sort_order, is_delta, last_minute);
COMMENT ON TABLE adclick_internal.runs IS 'sorted runs of facts: deltas (from ticks, to be merged) and final ones (of order ad: one for each closed minute, or settled hour, and of order day one for each whole day, from compaction)';
COMMENT ON COLUMN adclick_internal.runs.sort_order IS 'what its facts are sorted by: 0 ad, 1 user, 2 ip, 3 dedup key (the ledger: each click that was counted, whole), 4 ad, summed up by whole days, 5 the ledger again, of clicks that came back from files';
COMMENT ON COLUMN adclick_internal.runs.minutes IS 'of order ad: the minutes with a fact in the run; of order ledger: the minutes in which its buckets begin; of order day: the days, by their first minutes';
COMMENT ON COLUMN adclick_internal.runs.first_minute IS 'the first with a fact; of a run of an hour, that in which it begins; of order ledger, the first in which a bucket begins or a click was clicked; of order day, the first minute of the first day';
COMMENT ON COLUMN adclick_internal.runs.last_minute IS 'the last with a fact; of a run of an hour, its last; of order ledger, the last in which a bucket begins or a click was clicked; of order day, the first minute of the last day';
COMMENT ON COLUMN adclick_internal.runs.minute_facts IS 'how many facts each of them has';
COMMENT ON COLUMN adclick_internal.runs.minute_clicks IS 'how many clicks each of them has';
COMMENT ON COLUMN adclick_internal.runs.volume IS 'of final runs but those of order ad: the volume that has its segments, see adclick_internal.volumes';

CREATE TABLE adclick_internal.deltas (
	run_id bigint NOT NULL,
	first_key bigint NOT NULL,
	number int NOT NULL,
	data bytea NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.1);
ALTER TABLE adclick_internal.deltas ALTER data SET STORAGE PLAIN;
-- A first key may be a user or an address.
ALTER TABLE adclick_internal.deltas ALTER first_key SET STATISTICS 0, ALTER data SET STATISTICS 0;
CREATE UNIQUE INDEX deltas_key_idx ON adclick_internal.deltas (run_id, first_key, number);
ALTER TABLE adclick_internal.deltas REPLICA IDENTITY USING INDEX deltas_key_idx;
COMMENT ON COLUMN adclick_internal.deltas.number IS 'place in the run: an ad with many facts has several segments with the same first key';
COMMENT ON TABLE adclick_internal.deltas IS 'segments of delta runs, short-lived';

CREATE TABLE adclick_internal.segments (
	run_id bigint NOT NULL,
	first_key bigint NOT NULL,
	number int NOT NULL,
	data bytea NOT NULL
) WITH (
	autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_freeze_min_age = 0
);
ALTER TABLE adclick_internal.segments ALTER data SET STORAGE PLAIN;
ALTER TABLE adclick_internal.segments ALTER first_key SET STATISTICS 0, ALTER data SET STATISTICS 0;
CREATE UNIQUE INDEX segments_key_idx ON adclick_internal.segments (run_id, first_key, number);
ALTER TABLE adclick_internal.segments REPLICA IDENTITY USING INDEX segments_key_idx;
COMMENT ON COLUMN adclick_internal.segments.number IS 'place in the run: an ad with many facts has several segments with the same first key';
COMMENT ON TABLE adclick_internal.segments IS 'segments of final runs of order ad';

/*
 * What is dropped as it gets old lies in volumes, one after the other, each in a table of its
 * own, which is truncated when the volume is dropped: the ledger, and what is kept by user
 * and by address.  VACUUM comes soon after rows are written, and freezes their pages once
 * and for all.
 */
DO $$
DECLARE
	shelf text;
	name text;
BEGIN
	FOREACH shelf IN ARRAY '{ledger, people}'::text[] LOOP
		FOR n IN 0 .. 31 LOOP
			name := format('%s_%s', shelf, n);
			EXECUTE format('CREATE TABLE adclick_internal.%s (LIKE adclick_internal.segments INCLUDING COMMENTS INCLUDING STORAGE) WITH (
				autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0)', name);
			EXECUTE format('ALTER TABLE adclick_internal.%s ALTER first_key SET STATISTICS 0, ALTER data SET STATISTICS 0', name);
			EXECUTE format('CREATE UNIQUE INDEX %s_key_idx ON adclick_internal.%1$s (run_id, first_key, number)', name);
			EXECUTE format('ALTER TABLE adclick_internal.%s REPLICA IDENTITY USING INDEX %1$s_key_idx', name);
			EXECUTE format('COMMENT ON TABLE adclick_internal.%s IS %L', name, format('segments of the final runs of %s: of the volumes whose number, divided by 32, leaves %s',
				CASE shelf WHEN 'ledger' THEN 'order ledger' ELSE 'orders user and ip' END, n));
		END LOOP;
	END LOOP;
END
$$;

CREATE TABLE adclick_internal.volumes (
	shelf text NOT NULL,
	volume int NOT NULL,
	opened_at timestamptz NOT NULL,
	dropped_at timestamptz,
	dropped_by xid8,
	in_future bigint,
	too_old bigint,
	duplicates bigint,
	undecided bigint,
	forged bigint,
	expired bigint,
	user_limit bigint,
	address_limit bigint,
	PRIMARY KEY (shelf, volume)
);
COMMENT ON TABLE adclick_internal.volumes IS 'volumes of what is dropped as it gets old, the last of each shelf written to: volume n of the ledger is in table ledger_m, m being n modulo 32';
COMMENT ON COLUMN adclick_internal.volumes.shelf IS 'what it has: ''ledger'', or ''people'', which is final runs of orders user and ip';
COMMENT ON COLUMN adclick_internal.volumes.opened_at IS 'since when it is written to; no longer since another one was opened';
COMMENT ON COLUMN adclick_internal.volumes.dropped_at IS 'when its runs were deleted; its table waits for snapshots that still see them';
COMMENT ON COLUMN adclick_internal.volumes.dropped_by IS 'the transaction that did so';
COMMENT ON COLUMN adclick_internal.volumes.in_future IS 'how many clicks had been set aside as ''in the future'' when it was opened; NULL: none';
COMMENT ON COLUMN adclick_internal.volumes.too_old IS 'how many clicks had been set aside as ''too old'' when it was opened; NULL: none';
COMMENT ON COLUMN adclick_internal.volumes.duplicates IS 'how many clicks had been set aside as ''duplicate'' when it was opened; NULL: none';
COMMENT ON COLUMN adclick_internal.volumes.undecided IS 'how many clicks had been set aside as ''undecided'' when it was opened; NULL: none';
COMMENT ON COLUMN adclick_internal.volumes.forged IS 'how many clicks had been set aside as ''forged impression'' when it was opened; NULL: none';
COMMENT ON COLUMN adclick_internal.volumes.expired IS 'how many clicks had been set aside as ''expired impression'' when it was opened; NULL: none';
COMMENT ON COLUMN adclick_internal.volumes.user_limit IS 'how many clicks had been set aside as ''user limit'' when it was opened; NULL: none';
COMMENT ON COLUMN adclick_internal.volumes.address_limit IS 'how many clicks had been set aside as ''address limit'' when it was opened; NULL: none';
INSERT INTO adclick_internal.volumes (shelf, volume, opened_at) VALUES ('ledger', 0, now()), ('people', 0, now());

/*
 * What is set aside while a volume of the ledger is written to goes when that is dropped, and so
 * lies in a table for each of its tables; an old volume keeps few dead rows, of users forgotten.
 */
DO $$
BEGIN
	FOR n IN 0 .. 31 LOOP
		EXECUTE format('CREATE TABLE adclick_internal.discarded_%s (LIKE adclick.clicks, reason text NOT NULL, discarded_at timestamptz NOT NULL) WITH (
			autovacuum_vacuum_insert_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0)', n);
		EXECUTE format('ALTER TABLE adclick_internal.discarded_%s REPLICA IDENTITY FULL', n);
		EXECUTE format('ALTER TABLE adclick_internal.discarded_%s ALTER user_id SET STATISTICS 0, ALTER ip SET STATISTICS 0', n);
		EXECUTE format('COMMENT ON TABLE adclick_internal.discarded_%s IS %L', n,
			format('clicks that were not counted, set aside while a volume of the ledger was written to whose number, divided by 32, leaves %s', n));
	END LOOP;
END
$$;

/*
 * The archive: volumes that were written to files, or dropped; and the clicks that came back
 * from there.
 */
CREATE TABLE adclick.archived_volumes (
	volume int PRIMARY KEY,
	first_minute timestamptz NOT NULL,
	last_minute timestamptz NOT NULL,
	clicks bigint NOT NULL,
	contents text,
	file text,
	bytes bigint,
	sha256 text,
	archived_at timestamptz,
	dropped_at timestamptz
);
COMMENT ON TABLE adclick.archived_volumes IS 'volumes of the ledger that adclick.archive_clicks() has written to files, and those that adclick.ledger_retention has dropped';
COMMENT ON COLUMN adclick.archived_volumes.volume IS 'number of the volume';
COMMENT ON COLUMN adclick.archived_volumes.first_minute IS 'the first minute in which one of its clicks was clicked, or a dedup window begins';
COMMENT ON COLUMN adclick.archived_volumes.last_minute IS 'the last such minute';
COMMENT ON COLUMN adclick.archived_volumes.clicks IS 'clicks it has, or had';
COMMENT ON COLUMN adclick.archived_volumes.contents IS 'what the file is of: if the volume has something else, as a user was forgotten, it is written anew';
COMMENT ON COLUMN adclick.archived_volumes.file IS 'its file, below adclick.archive_directory; NULL: it was dropped without one';
COMMENT ON COLUMN adclick.archived_volumes.bytes IS 'size of the file';
COMMENT ON COLUMN adclick.archived_volumes.sha256 IS 'SHA-256 of the file';
COMMENT ON COLUMN adclick.archived_volumes.archived_at IS 'when it was written';
COMMENT ON COLUMN adclick.archived_volumes.dropped_at IS 'when the volume was dropped; NULL: it is there';

CREATE TABLE adclick.restored_hours (
	hour timestamptz NOT NULL,
	volume int NOT NULL,
	clicks bigint NOT NULL,
	restored_at timestamptz NOT NULL,
	PRIMARY KEY (hour, volume)
);
COMMENT ON TABLE adclick.restored_hours IS 'hours of dropped volumes that adclick.restore_clicks() has brought back, until adclick.release_clicks() lets them go';
COMMENT ON COLUMN adclick.restored_hours.hour IS 'the hour (UTC)';
COMMENT ON COLUMN adclick.restored_hours.volume IS 'the volume, see adclick.archived_volumes';
COMMENT ON COLUMN adclick.restored_hours.clicks IS 'clicks that came back: those clicked in the hour, or whose dedup window begins in it and that did not come with another hour';
COMMENT ON COLUMN adclick.restored_hours.restored_at IS 'when';

CREATE TABLE adclick_internal.ledger_restored (LIKE adclick_internal.segments INCLUDING COMMENTS INCLUDING STORAGE) WITH (
	autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02,
	autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0, autovacuum_freeze_min_age = 0);
ALTER TABLE adclick_internal.ledger_restored ALTER first_key SET STATISTICS 0, ALTER data SET STATISTICS 0;
CREATE UNIQUE INDEX ledger_restored_key_idx ON adclick_internal.ledger_restored (run_id, first_key, number);
ALTER TABLE adclick_internal.ledger_restored REPLICA IDENTITY USING INDEX ledger_restored_key_idx;
COMMENT ON TABLE adclick_internal.ledger_restored IS 'segments of runs of clicks that came back from files';

CREATE TABLE adclick_internal.forgotten_users (
	hash uuid PRIMARY KEY,
	secret bytea NOT NULL,
	last_volume int NOT NULL
);
ALTER TABLE adclick_internal.forgotten_users ALTER secret SET STORAGE PLAIN;
COMMENT ON TABLE adclick_internal.forgotten_users IS 'users who were forgotten while there were files of dropped volumes, which still name them: they come back from there without a name';
COMMENT ON COLUMN adclick_internal.forgotten_users.hash IS 'of the user id and the secret';
COMMENT ON COLUMN adclick_internal.forgotten_users.secret IS 'the same for all';
COMMENT ON COLUMN adclick_internal.forgotten_users.last_volume IS 'the last volume that had been dropped by then: later ones have what came after';

CREATE FUNCTION adclick_internal.is_restored(hour timestamptz) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM adclick.restored_hours r WHERE r.hour = $1)
		AND NOT EXISTS (SELECT FROM adclick.archived_volumes a WHERE a.dropped_at IS NOT NULL AND a.last_minute >= $1 AND a.first_minute < $1 + interval '1 hour'
			AND NOT EXISTS (SELECT FROM adclick.restored_hours r WHERE r.hour = $1 AND r.volume = a.volume));
END;
COMMENT ON FUNCTION adclick_internal.is_restored(timestamptz) IS 'whether all clicks of an hour that were dropped came back';

CREATE TABLE adclick_internal.unpacked_clicks (
	click_id uuid,
	ad_id bigint NOT NULL,
	clicked_at timestamptz,
	user_id bigint,
	received_at timestamptz,
	ip inet,
	country text,
	region text,
	device text,
	run_id bigint NOT NULL
);
CREATE INDEX unpacked_clicks_run_idx ON adclick_internal.unpacked_clicks (run_id);
ALTER TABLE adclick_internal.unpacked_clicks REPLICA IDENTITY FULL;
ALTER TABLE adclick_internal.unpacked_clicks ALTER user_id SET STATISTICS 0, ALTER ip SET STATISTICS 0;
COMMENT ON TABLE adclick_internal.unpacked_clicks IS 'clicks that were counted and that the columns of the ledger cannot give back: with the address of a network, or a dimension counted as ''other''';
COMMENT ON COLUMN adclick_internal.unpacked_clicks.run_id IS 'the run of order ledger that has its key; 0: it came back from a file';

CREATE TABLE adclick_internal.gaps (
	minute timestamptz PRIMARY KEY
);
COMMENT ON TABLE adclick_internal.gaps IS 'minutes with clicks that were counted while adclick.user_and_ip_orders was off, and so cannot be found by user or address';

--
-- Top-N kept for each closed minute, settled hour and whole day
--

CREATE TYPE adclick.ad_click AS (ad_id bigint, click_count bigint);
COMMENT ON TYPE adclick.ad_click IS 'an ad and how many clicks it had';
COMMENT ON COLUMN adclick.ad_click.ad_id IS 'the ad';
COMMENT ON COLUMN adclick.ad_click.click_count IS 'its clicks';

CREATE TABLE adclick.most_clicked_ads (
	click_minute timestamptz NOT NULL,
	filter_id int NOT NULL,
	most_clicked_ads adclick.ad_click[] NOT NULL,
	cut_off bigint NOT NULL,
	PRIMARY KEY (filter_id, click_minute)
) WITH (toast_tuple_target = 256);
-- A list of many ads is compressed to a fifth, and of its beginning no more is read than is asked for.
ALTER TABLE adclick.most_clicked_ads ALTER most_clicked_ads SET STORAGE MAIN;
COMMENT ON TABLE adclick.most_clicked_ads IS 'the most clicked ads of each closed minute of the last day, of all clicks (filter 0) and of each registered filter; clicks that come late enter when the minute is compacted again';
COMMENT ON COLUMN adclick.most_clicked_ads.click_minute IS 'the minute (UTC)';
COMMENT ON COLUMN adclick.most_clicked_ads.filter_id IS 'the filter, see adclick.filters';
COMMENT ON COLUMN adclick.most_clicked_ads.most_clicked_ads IS 'ads and their clicks in this minute, the most clicks first, of equals the smaller ad_id; adclick.top_ads_kept of them at most, and of several none with as few as one that is cut off';
COMMENT ON COLUMN adclick.most_clicked_ads.cut_off IS 'the most clicks an ad had that is not among them, 0 if all ads are';

CREATE TABLE adclick.most_clicked_ads_hourly (
	click_hour timestamptz NOT NULL,
	filter_id int NOT NULL,
	most_clicked_ads adclick.ad_click[] NOT NULL,
	cut_off bigint NOT NULL,
	PRIMARY KEY (filter_id, click_hour)
) WITH (toast_tuple_target = 256);
ALTER TABLE adclick.most_clicked_ads_hourly ALTER most_clicked_ads SET STORAGE MAIN;
COMMENT ON TABLE adclick.most_clicked_ads_hourly IS 'the most clicked ads of each hour that is settled, an hour after its end, as adclick.most_clicked_ads has them of each minute';
COMMENT ON COLUMN adclick.most_clicked_ads_hourly.click_hour IS 'the hour (UTC)';
COMMENT ON COLUMN adclick.most_clicked_ads_hourly.filter_id IS 'the filter, see adclick.filters';
COMMENT ON COLUMN adclick.most_clicked_ads_hourly.most_clicked_ads IS 'ads and their clicks in this hour, the most clicks first, of equals the smaller ad_id; adclick.top_ads_kept of them at most, and of several none with as few as one that is cut off';
COMMENT ON COLUMN adclick.most_clicked_ads_hourly.cut_off IS 'the most clicks an ad had that is not among them, 0 if all ads are';

CREATE TABLE adclick.most_clicked_ads_daily (
	click_day timestamptz NOT NULL,
	filter_id int NOT NULL,
	most_clicked_ads adclick.ad_click[] NOT NULL,
	cut_off bigint NOT NULL,
	PRIMARY KEY (filter_id, click_day)
) WITH (toast_tuple_target = 256);
ALTER TABLE adclick.most_clicked_ads_daily ALTER most_clicked_ads SET STORAGE MAIN;
COMMENT ON TABLE adclick.most_clicked_ads_daily IS 'the most clicked ads of each day (UTC) whose hours are settled, as adclick.most_clicked_ads has them of each minute';
COMMENT ON COLUMN adclick.most_clicked_ads_daily.click_day IS 'the day (UTC)';
COMMENT ON COLUMN adclick.most_clicked_ads_daily.filter_id IS 'the filter, see adclick.filters';
COMMENT ON COLUMN adclick.most_clicked_ads_daily.most_clicked_ads IS 'ads and their clicks on this day, the most clicks first, of equals the smaller ad_id; adclick.top_ads_kept of them at most, and of several none with as few as one that is cut off';
COMMENT ON COLUMN adclick.most_clicked_ads_daily.cut_off IS 'the most clicks an ad had that is not among them, 0 if all ads are';

/*
 * A browser is sent to these: no other scheme, nothing that could end a header or a
 * quoted attribute, and no name before the host that could be taken for it.
 */
CREATE TABLE adclick.ads (
	ad_id bigint PRIMARY KEY,
	advertiser_id bigint,
	redirect_url text CONSTRAINT redirect_url_is_safe CHECK (octet_length(redirect_url) <= 2048 AND redirect_url COLLATE "C" ~
		'^https?://([A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?#][A-Za-z0-9._~:/?#@!$&()*+,;=%\[\]-]*)?$'),
	website text,
	active boolean NOT NULL DEFAULT true,
	dedup_by text CONSTRAINT dedup_by_is_known CHECK (dedup_by IN ('click_id', 'user_and_ad')),
	created_at timestamptz NOT NULL DEFAULT statement_timestamp()
);
CREATE INDEX ads_advertiser_id_ad_id_idx ON adclick.ads (advertiser_id, ad_id);
CREATE INDEX ads_with_dedup_by_idx ON adclick.ads (ad_id) WHERE dedup_by IS NOT NULL;
COMMENT ON TABLE adclick.ads IS 'your ads: fill it to ask by advertiser, and for adclick.click()';
COMMENT ON COLUMN adclick.ads.ad_id IS 'the ad, as in adclick.clicks';
COMMENT ON COLUMN adclick.ads.advertiser_id IS 'whose ad it is';
COMMENT ON COLUMN adclick.ads.redirect_url IS 'where a click leads to';
COMMENT ON COLUMN adclick.ads.website IS 'where the ad is shown';
COMMENT ON COLUMN adclick.ads.active IS 'whether adclick.click() takes clicks of it';
COMMENT ON COLUMN adclick.ads.dedup_by IS 'what makes two of its clicks duplicates, as in adclick.dedup_by: click_id, or user_and_ad; NULL: what that setting says';
COMMENT ON COLUMN adclick.ads.created_at IS 'when it was put here';
COMMENT ON CONSTRAINT dedup_by_is_known ON adclick.ads IS 'the values of adclick.dedup_by';
COMMENT ON CONSTRAINT redirect_url_is_safe ON adclick.ads IS 'http or https, no user before the host, printable ASCII without spaces, quotes, <, > and \; what else there is has to be percent-encoded';

/*
 * By name, so that dumps have them: a role that is dropped or renamed is no advertiser.
 */
CREATE TABLE adclick.advertiser_roles (
	role_name name,
	advertiser_id bigint,
	PRIMARY KEY (role_name, advertiser_id)
);
COMMENT ON TABLE adclick.advertiser_roles IS 'which advertiser a role is: members of adclick_advertiser know of the ads of the advertisers that their own name, or one of a role whose rights they have, stands with';
COMMENT ON COLUMN adclick.advertiser_roles.role_name IS 'the role';
COMMENT ON COLUMN adclick.advertiser_roles.advertiser_id IS 'an advertiser that it is, see adclick.ads';

CREATE FUNCTION adclick_internal.own_ads()
	RETURNS TABLE (ad_id bigint, advertiser_id bigint, redirect_url text, website text, active boolean, dedup_by text)
	AS 'MODULE_PATHNAME', 'adclick_own_ads' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.own_ads() IS 'the ads whose clicks the asker may know; for adclick.own_ads';

CREATE VIEW adclick.own_ads AS SELECT ad_id, advertiser_id, redirect_url, website, active, dedup_by FROM adclick_internal.own_ads();
COMMENT ON VIEW adclick.own_ads IS 'the ads of adclick.ads that the questions and views answer you about: an advertiser''s own, a reader''s all';
COMMENT ON COLUMN adclick.own_ads.ad_id IS 'as in adclick.ads';
COMMENT ON COLUMN adclick.own_ads.advertiser_id IS 'as in adclick.ads';
COMMENT ON COLUMN adclick.own_ads.redirect_url IS 'as in adclick.ads';
COMMENT ON COLUMN adclick.own_ads.website IS 'as in adclick.ads';
COMMENT ON COLUMN adclick.own_ads.active IS 'as in adclick.ads';
COMMENT ON COLUMN adclick.own_ads.dedup_by IS 'as in adclick.ads';

--
-- Clicks of who redirects them
--

/*
 * Not dumped, so that a copy of the data signs nothing.  Row security without a policy keeps out
 * who may read all tables, such as members of pg_read_all_data.
 */
CREATE TABLE adclick_internal.impression_secrets (
	made_at timestamptz PRIMARY KEY,
	secret bytea NOT NULL,
	retired_at timestamptz
);
ALTER TABLE adclick_internal.impression_secrets ALTER secret SET STORAGE PLAIN, ALTER secret SET STATISTICS 0;
ALTER TABLE adclick_internal.impression_secrets ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE adclick_internal.impression_secrets IS 'what impressions are signed with; in no dump';
COMMENT ON COLUMN adclick_internal.impression_secrets.secret IS 'key of HMAC-SHA256';
COMMENT ON COLUMN adclick_internal.impression_secrets.retired_at IS 'since when nothing is signed with it; NULL: it is in use';

-- As INSERT, it runs what users gave their table as the one who calls it, with the search_path of the session.
CREATE FUNCTION adclick.click(ad_id bigint, user_id bigint, ip inet, country text, region text, device text, impression text DEFAULT NULL)
	RETURNS text
	AS 'MODULE_PATHNAME', 'adclick_click' LANGUAGE C;
COMMENT ON FUNCTION adclick.click(bigint, bigint, inet, text, text, text, text) IS 'record a click on an ad, of an impression if it has one, and return where it leads to';

CREATE FUNCTION adclick.new_impression(ad_id bigint, user_id bigint DEFAULT NULL) RETURNS text
	AS 'MODULE_PATHNAME', 'adclick_new_impression' LANGUAGE C PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.new_impression(bigint, bigint) IS 'a token for an ad that is shown, to a user if one is given: one click with it counts';

CREATE FUNCTION adclick.click_id(click_id uuid, clicked_at timestamptz, ad_id bigint, user_id bigint, impression text) RETURNS uuid
	AS 'MODULE_PATHNAME', 'adclick_click_id' LANGUAGE C PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.click_id(uuid, timestamptz, bigint, bigint, text) IS 'the id to insert a click with that came at this time: that of its impression, if the token is valid, or one by which it is set aside; without a token, its own';

CREATE FUNCTION adclick.rotate_impression_secret(revoke boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_rotate_impression_secret' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.rotate_impression_secret(boolean) IS 'sign impressions with a new secret; those of before stay valid until they expire, unless revoked';

--
-- One round by hand
--

CREATE FUNCTION adclick.tick(OUT tick bigint, OUT rows_read bigint, OUT counted bigint,
		OUT duplicates bigint, OUT discarded bigint, OUT more boolean)
	AS 'MODULE_PATHNAME', 'adclick_tick' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.tick() IS 'take committed clicks from the inbox now, as the aggregator does; more: not all of them fitted one tick';

CREATE FUNCTION adclick.compact(OUT runs_merged int, OUT minutes_written int, OUT hours_written int, OUT days_written int, OUT more boolean)
	AS 'MODULE_PATHNAME', 'adclick_compact' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.compact() IS 'merge deltas into minutes, and minutes into hours, and sum up days, now, as the compactor does, and fold in every late click; more: not all of it fitted one round';

CREATE FUNCTION adclick.recompute("from" timestamptz, "to" timestamptz) RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_recompute' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.recompute(timestamptz, timestamptz) IS 'make the counts of whole hours anew from the ledger, whatever state they are in; returns how many clicks were counted';

CREATE FUNCTION adclick.apply_retention(OUT dropped bigint, OUT volumes_dropped int, OUT volumes_emptied int,
		OUT minutes_dropped int, OUT days_dropped int, OUT waits text)
	AS 'MODULE_PATHNAME', 'adclick_apply_retention' LANGUAGE C
	SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s';
COMMENT ON FUNCTION adclick.apply_retention() IS 'drop what is older than adclick.ledger_retention, adclick.user_and_ip_retention, adclick.minute_retention and adclick.day_retention say, now, as the compactor does; dropped: clicks of the ledger; minutes_dropped: days of which minutes and hours have gone; days_dropped: those that have gone as a whole; waits: why not more. Combinations of country, region and device that nothing has any more go with it';

--
-- The archive
--

CREATE TYPE adclick_internal.archived_click AS (
	line text,
	click_id uuid,
	ad_id bigint,
	clicked_at timestamptz,
	user_id bigint,
	received_at timestamptz,
	ip inet,
	country text,
	region text,
	device text,
	copies bigint,
	counted_country text,
	counted_region text,
	counted_device text,
	key uuid,
	bucket bigint,
	event_time timestamptz,
	delay bigint,
	flags int
);
COMMENT ON TYPE adclick_internal.archived_click IS 'a line of a file of adclick.archive_clicks()';
COMMENT ON COLUMN adclick_internal.archived_click.line IS '''click'': as it arrived, and how it was counted; ''counted'': only how it was counted, as it arrived stands in another line, ''arrived''';
COMMENT ON COLUMN adclick_internal.archived_click.click_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.ad_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.clicked_at IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.user_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.received_at IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.ip IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.country IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.region IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.device IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick_internal.archived_click.copies IS 'how many clicks were the same in everything';
COMMENT ON COLUMN adclick_internal.archived_click.counted_country IS 'the country that it was counted under';
COMMENT ON COLUMN adclick_internal.archived_click.counted_region IS 'the region that it was counted under';
COMMENT ON COLUMN adclick_internal.archived_click.counted_device IS 'the device that it was counted under';
COMMENT ON COLUMN adclick_internal.archived_click.key IS 'its dedup key; NULL: click_id';
COMMENT ON COLUMN adclick_internal.archived_click.bucket IS 'its dedup bucket: the second since 2000 in which the window begins, times 65536, and the rule';
COMMENT ON COLUMN adclick_internal.archived_click.event_time IS 'when it counts, where clicked_at does not say so';
COMMENT ON COLUMN adclick_internal.archived_click.delay IS 'how much later it arrived, in milliseconds';
COMMENT ON COLUMN adclick_internal.archived_click.flags IS 'what its values do not say, see LedgerFlags in the sources';

CREATE FUNCTION adclick_internal.archived_clicks(run_id bigint) RETURNS SETOF adclick_internal.archived_click
	AS 'MODULE_PATHNAME', 'adclick_archived_clicks' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 10000
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.archived_clicks(bigint) IS 'the clicks of a run of the ledger, as a file gets them';

-- Texts in files are the same whatever the settings of who writes them, and of who reads them.
CREATE FUNCTION adclick.archive_volume() RETURNS boolean
	AS 'MODULE_PATHNAME', 'adclick_archive_volume' LANGUAGE C
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET timezone = 'UTC' SET work_mem = '64MB';
COMMENT ON FUNCTION adclick.archive_volume() IS 'write the next volume of the ledger that needs it to a file in adclick.archive_directory; returns whether there was one';

-- A transaction for each volume: what is done stays done.
CREATE PROCEDURE adclick.archive_clicks()
	LANGUAGE plpgsql
AS $$
BEGIN
	WHILE adclick.archive_volume() LOOP
		COMMIT;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE adclick.archive_clicks() IS 'write the clicks of the ledger that are next to be dropped to files in adclick.archive_directory, where they are not yet; see adclick.archived_volumes';

CREATE FUNCTION adclick.restore_clicks("from" timestamptz, "to" timestamptz) RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_restore_clicks' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET timezone = 'UTC';
COMMENT ON FUNCTION adclick.restore_clicks(timestamptz, timestamptz) IS 'bring clicks of whole hours that were dropped back from their files, to be read, compared and counted anew; returns how many came';

CREATE FUNCTION adclick.release_clicks() RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_release_clicks' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.release_clicks() IS 'let all clicks go that adclick.restore_clicks() has brought back; returns how many there were';

CREATE FUNCTION adclick.forget_user(user_id bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_forget' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.forget_user(bigint) IS 'take a user and his addresses off all his clicks, which stay counted; returns how many there were';

CREATE FUNCTION adclick.check_ledger(OUT taken bigint, OUT counted bigint, OUT duplicates bigint,
		OUT discarded bigint, OUT unread bigint, OUT in_ledger bigint, OUT dropped bigint, OUT balanced boolean)
	AS 'MODULE_PATHNAME', 'adclick_check_ledger' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.check_ledger() IS 'compare what the ticks say they did with every click that is stored; balanced: nothing is missing, and nothing is there twice';

--
-- The questions, answered with the rights of their owner (see privileges.c).
-- Those with a window from/to have names of their own: most drivers send
-- parameters without a type, which cannot choose among functions of the same name.
--

CREATE FUNCTION adclick.ad_click_count(ad_id bigint, minutes int, filters jsonb DEFAULT '{}')
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_ad_click_count' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.ad_click_count(bigint, int, jsonb) IS 'clicks of an ad in the last minutes, the current one included';

CREATE FUNCTION adclick.ad_click_count_between(ad_id bigint, "from" timestamptz, "to" timestamptz, filters jsonb DEFAULT '{}')
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_ad_click_count' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.ad_click_count_between(bigint, timestamptz, timestamptz, jsonb) IS 'clicks of an ad from one whole minute up to, not including, another';

CREATE FUNCTION adclick.top_n_ads(n int, minutes int, filters jsonb DEFAULT '{}')
	RETURNS TABLE (rank int, ad_id bigint, click_count bigint)
	AS 'MODULE_PATHNAME', 'adclick_top_n_ads' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 10
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.top_n_ads(int, int, jsonb) IS 'the n ads with the most clicks in the last minutes, the current one included; ties go to the smaller ad_id';

CREATE FUNCTION adclick.top_n_ads_between(n int, "from" timestamptz, "to" timestamptz, filters jsonb DEFAULT '{}')
	RETURNS TABLE (rank int, ad_id bigint, click_count bigint)
	AS 'MODULE_PATHNAME', 'adclick_top_n_ads' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 10
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.top_n_ads_between(int, timestamptz, timestamptz, jsonb) IS 'the n ads with the most clicks from one whole minute up to, not including, another; ties go to the smaller ad_id';

CREATE FUNCTION adclick.explain_top_n(n int, minutes int, filters jsonb DEFAULT '{}')
	RETURNS TABLE (way text, lists int, cut_off bigint, nth_count bigint, candidates int,
		probes int, runs int, segments bigint, facts bigint, tail bigint)
	AS 'MODULE_PATHNAME', 'adclick_explain_top_n' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 1
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.explain_top_n(int, int, jsonb) IS 'how adclick.top_n_ads() answers the same question: which way it takes, and what it reads';

CREATE FUNCTION adclick.explain_top_n_between(n int, "from" timestamptz, "to" timestamptz, filters jsonb DEFAULT '{}')
	RETURNS TABLE (way text, lists int, cut_off bigint, nth_count bigint, candidates int,
		probes int, runs int, segments bigint, facts bigint, tail bigint)
	AS 'MODULE_PATHNAME', 'adclick_explain_top_n' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 1
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.explain_top_n_between(int, timestamptz, timestamptz, jsonb) IS 'how adclick.top_n_ads_between() answers the same question: which way it takes, and what it reads';

CREATE FUNCTION adclick.click_series(ad_id bigint, "from" timestamptz, "to" timestamptz, bucket interval, filters jsonb DEFAULT '{}')
	RETURNS TABLE ("time" timestamptz, click_count bigint)
	AS 'MODULE_PATHNAME', 'adclick_click_series' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 60
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.click_series(bigint, timestamptz, timestamptz, interval, jsonb) IS 'clicks of an ad over time, one row a bucket, the empty ones as 0; the first bucket begins at "from"';

CREATE FUNCTION adclick.breakdown(ad_id bigint, minutes int, dimension text, filters jsonb DEFAULT '{}')
	RETURNS TABLE (value text, click_count bigint)
	AS 'MODULE_PATHNAME', 'adclick_breakdown' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 10
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.breakdown(bigint, int, text, jsonb) IS 'clicks of an ad in the last minutes by country, region or device, most clicks first';

CREATE FUNCTION adclick.breakdown_between(ad_id bigint, "from" timestamptz, "to" timestamptz, dimension text, filters jsonb DEFAULT '{}')
	RETURNS TABLE (value text, click_count bigint)
	AS 'MODULE_PATHNAME', 'adclick_breakdown' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 10
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.breakdown_between(bigint, timestamptz, timestamptz, text, jsonb) IS 'clicks of an ad from one whole minute up to, not including, another by country, region or device, most clicks first';

CREATE FUNCTION adclick.advertiser_click_count(advertiser_id bigint, minutes int, filters jsonb DEFAULT '{}')
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_advertiser_click_count' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.advertiser_click_count(bigint, int, jsonb) IS 'clicks of all ads of an advertiser, see adclick.ads, in the last minutes';

CREATE FUNCTION adclick.advertiser_click_count_between(advertiser_id bigint, "from" timestamptz, "to" timestamptz, filters jsonb DEFAULT '{}')
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_advertiser_click_count' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.advertiser_click_count_between(bigint, timestamptz, timestamptz, jsonb) IS 'clicks of all ads of an advertiser, see adclick.ads, from one whole minute up to, not including, another';

CREATE FUNCTION adclick.unique_users(ad_id bigint, minutes int, filters jsonb DEFAULT '{}')
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_unique_users' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.unique_users(bigint, int, jsonb) IS 'how many different users clicked an ad in the last minutes; clicks without a user do not count';

CREATE FUNCTION adclick.unique_users_between(ad_id bigint, "from" timestamptz, "to" timestamptz, filters jsonb DEFAULT '{}')
	RETURNS bigint
	AS 'MODULE_PATHNAME', 'adclick_unique_users' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.unique_users_between(bigint, timestamptz, timestamptz, jsonb) IS 'how many different users clicked an ad from one whole minute up to, not including, another; clicks without a user do not count';

--
-- Registered filters
--

CREATE FUNCTION adclick.add_filter(filter jsonb) RETURNS int
	AS 'MODULE_PATHNAME', 'adclick_add_filter' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.add_filter(jsonb) IS 'keep the most clicked ads of each minute for a combination of dimensions, also of the minutes stored so far; returns its filter_id';

CREATE FUNCTION adclick.drop_filter(filter jsonb) RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_drop_filter' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.drop_filter(jsonb) IS 'end what adclick.add_filter() began for the same combination';

--
-- The star schema: counts as rows
--

CREATE FUNCTION adclick_internal.fact_handler() RETURNS fdw_handler
	AS 'MODULE_PATHNAME', 'adclick_fact_handler' LANGUAGE C STRICT;
COMMENT ON FUNCTION adclick_internal.fact_handler() IS 'foreign data wrapper over the facts: segments, deltas and tail';

CREATE FUNCTION adclick_internal.fact_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_fact_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION adclick_internal.fact_validator(text[], oid) IS 'the foreign data wrapper over the facts has no options';

CREATE FOREIGN DATA WRAPPER adclick_facts
	HANDLER adclick_internal.fact_handler VALIDATOR adclick_internal.fact_validator;
COMMENT ON FOREIGN DATA WRAPPER adclick_facts IS 'the facts of adclick as rows, for its own views';

CREATE SERVER adclick_facts FOREIGN DATA WRAPPER adclick_facts;
COMMENT ON SERVER adclick_facts IS 'this database';

CREATE FOREIGN TABLE adclick_internal.fact_rows (
	ad_id bigint NOT NULL,
	click_minute timestamptz NOT NULL,
	filter_id int,
	country text NOT NULL,
	region text NOT NULL,
	device text NOT NULL,
	click_count bigint NOT NULL
) SERVER adclick_facts;
COMMENT ON FOREIGN TABLE adclick_internal.fact_rows IS 'one row for each ad, minute and filter that has clicks, the tail included, of minutes that are kept; read it through the views';
COMMENT ON COLUMN adclick_internal.fact_rows.ad_id IS 'the ad';
COMMENT ON COLUMN adclick_internal.fact_rows.click_minute IS 'the minute';
COMMENT ON COLUMN adclick_internal.fact_rows.filter_id IS 'the combination of country, region and device; NULL until the next tick if it is new';
COMMENT ON COLUMN adclick_internal.fact_rows.country IS 'country of the filter';
COMMENT ON COLUMN adclick_internal.fact_rows.region IS 'region of the filter';
COMMENT ON COLUMN adclick_internal.fact_rows.device IS 'device of the filter';
COMMENT ON COLUMN adclick_internal.fact_rows.click_count IS 'clicks, at least 1';

CREATE FOREIGN TABLE adclick_internal.day_rows (
	ad_id bigint NOT NULL,
	click_minute timestamptz NOT NULL,
	filter_id int,
	country text NOT NULL,
	region text NOT NULL,
	device text NOT NULL,
	click_count bigint NOT NULL
) SERVER adclick_facts;
COMMENT ON FOREIGN TABLE adclick_internal.day_rows IS 'the same for who wants to know no more than the day (UTC): with days of which retention has dropped the minutes';
COMMENT ON COLUMN adclick_internal.day_rows.ad_id IS 'the ad';
COMMENT ON COLUMN adclick_internal.day_rows.click_minute IS 'a minute of the day; the first one, if its minutes were dropped';
COMMENT ON COLUMN adclick_internal.day_rows.filter_id IS 'the combination of country, region and device; NULL until the next tick if it is new';
COMMENT ON COLUMN adclick_internal.day_rows.country IS 'country of the filter';
COMMENT ON COLUMN adclick_internal.day_rows.region IS 'region of the filter';
COMMENT ON COLUMN adclick_internal.day_rows.device IS 'device of the filter';
COMMENT ON COLUMN adclick_internal.day_rows.click_count IS 'clicks, at least 1';

CREATE FUNCTION adclick_internal.require_minutes("from" timestamptz, "to" timestamptz) RETURNS boolean
	AS 'MODULE_PATHNAME', 'adclick_require_minutes' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.require_minutes(timestamptz, timestamptz) IS 'true, or the error that minutes of this window were dropped, for who would have fewer from a view';

-- The join with ads is left out of plans that do not ask for advertiser_id: ad_id is its key.
CREATE VIEW adclick.ad_click_counts AS
	SELECT f.ad_id, a.advertiser_id, f.click_minute, f.filter_id, f.click_count
	FROM adclick_internal.fact_rows f LEFT JOIN adclick.ads a ON a.ad_id = f.ad_id;
COMMENT ON VIEW adclick.ad_click_counts IS 'clicks by ad, minute and filter: one row for each that has any, always up to date, but those that adclick.minute_retention has dropped';
COMMENT ON COLUMN adclick.ad_click_counts.ad_id IS 'the ad that was clicked';
COMMENT ON COLUMN adclick.ad_click_counts.advertiser_id IS 'whose ad it is, see adclick.ads; NULL if it is not there';
COMMENT ON COLUMN adclick.ad_click_counts.click_minute IS 'beginning of the minute in which it was clicked';
COMMENT ON COLUMN adclick.ad_click_counts.filter_id IS 'country, region and device, see adclick.filters; NULL for a second or so while the combination is new';
COMMENT ON COLUMN adclick.ad_click_counts.click_count IS 'clicks, at least 1';

CREATE VIEW adclick.ad_click_counts_hourly AS
	SELECT f.ad_id, a.advertiser_id, f.click_hour, f.filter_id, f.click_count
	FROM (SELECT r.ad_id, date_trunc('hour', r.click_minute, 'UTC') AS click_hour, r.filter_id, sum(r.click_count)::bigint AS click_count
		FROM adclick_internal.fact_rows r GROUP BY r.ad_id, date_trunc('hour', r.click_minute, 'UTC'), r.filter_id) f
	LEFT JOIN adclick.ads a ON a.ad_id = f.ad_id;
COMMENT ON VIEW adclick.ad_click_counts_hourly IS 'clicks by ad, hour (UTC) and filter: one row for each that has any, always up to date, but those that adclick.minute_retention has dropped';
COMMENT ON COLUMN adclick.ad_click_counts_hourly.ad_id IS 'the ad that was clicked';
COMMENT ON COLUMN adclick.ad_click_counts_hourly.advertiser_id IS 'whose ad it is, see adclick.ads; NULL if it is not there';
COMMENT ON COLUMN adclick.ad_click_counts_hourly.click_hour IS 'beginning of the hour (UTC) in which it was clicked';
COMMENT ON COLUMN adclick.ad_click_counts_hourly.filter_id IS 'country, region and device, see adclick.filters; NULL for a second or so while the combination is new';
COMMENT ON COLUMN adclick.ad_click_counts_hourly.click_count IS 'clicks, at least 1';

CREATE VIEW adclick.ad_click_counts_daily AS
	SELECT f.ad_id, a.advertiser_id, f.click_day, f.filter_id, f.click_count
	FROM (SELECT r.ad_id, date_trunc('day', r.click_minute, 'UTC') AS click_day, r.filter_id, sum(r.click_count)::bigint AS click_count
		FROM adclick_internal.day_rows r GROUP BY r.ad_id, date_trunc('day', r.click_minute, 'UTC'), r.filter_id) f
	LEFT JOIN adclick.ads a ON a.ad_id = f.ad_id;
COMMENT ON VIEW adclick.ad_click_counts_daily IS 'clicks by ad, day (UTC) and filter: one row for each that has any, always up to date, until adclick.day_retention drops the day';
COMMENT ON COLUMN adclick.ad_click_counts_daily.ad_id IS 'the ad that was clicked';
COMMENT ON COLUMN adclick.ad_click_counts_daily.advertiser_id IS 'whose ad it is, see adclick.ads; NULL if it is not there';
COMMENT ON COLUMN adclick.ad_click_counts_daily.click_day IS 'beginning of the day (UTC) on which it was clicked';
COMMENT ON COLUMN adclick.ad_click_counts_daily.filter_id IS 'country, region and device, see adclick.filters; NULL for a second or so while the combination is new';
COMMENT ON COLUMN adclick.ad_click_counts_daily.click_count IS 'clicks, at least 1';

CREATE VIEW adclick.clicks_per_minute AS
	SELECT f.click_minute, f.ad_id, a.advertiser_id, f.country, f.region, f.device, f.click_count
	FROM adclick_internal.fact_rows f LEFT JOIN adclick.ads a ON a.ad_id = f.ad_id;
COMMENT ON VIEW adclick.clicks_per_minute IS 'clicks by minute, ad, country, region and device: one row for each that has any, always up to date, but those that adclick.minute_retention has dropped';
COMMENT ON COLUMN adclick.clicks_per_minute.click_minute IS 'beginning of the minute';
COMMENT ON COLUMN adclick.clicks_per_minute.ad_id IS 'the ad that was clicked';
COMMENT ON COLUMN adclick.clicks_per_minute.advertiser_id IS 'whose ad it is, see adclick.ads; NULL if it is not there';
COMMENT ON COLUMN adclick.clicks_per_minute.country IS 'country, ''unknown'' for clicks without';
COMMENT ON COLUMN adclick.clicks_per_minute.region IS 'region, ''unknown'' for clicks without';
COMMENT ON COLUMN adclick.clicks_per_minute.device IS 'device, ''unknown'' for clicks without';
COMMENT ON COLUMN adclick.clicks_per_minute.click_count IS 'clicks, at least 1';

--
-- The clicks themselves
--

CREATE FUNCTION adclick_internal.ledger_clicks()
	RETURNS TABLE (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, received_at timestamptz,
		ip inet, country text, region text, device text)
	AS 'MODULE_PATHNAME', 'adclick_ledger_clicks' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 1000000
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.ledger_clicks() IS 'the clicks that were counted, as they arrived, from the ledger; for who may read adclick.click_log';

-- It sets its search_path itself, once: this is called for each row.
CREATE FUNCTION adclick_internal.discarded() RETURNS SETOF adclick_internal.discarded_0
	AS 'MODULE_PATHNAME', 'adclick_discarded' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 1000000;
COMMENT ON FUNCTION adclick_internal.discarded() IS 'the clicks that were not counted, of the volumes that have not been dropped; for who may read adclick.discarded_clicks or adclick.click_log';

-- A function in the list of what is selected returns rows as they are asked for, one in FROM collects them all before.
CREATE VIEW adclick.discarded_clicks AS
	SELECT (d.click).* FROM (SELECT adclick_internal.discarded() AS click) d;
COMMENT ON VIEW adclick.discarded_clicks IS 'clicks that were not counted, as they arrived, with the reason, kept as long as the ledger of their time';
COMMENT ON COLUMN adclick.discarded_clicks.click_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.ad_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.clicked_at IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.user_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.received_at IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.ip IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.country IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.region IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.device IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.discarded_clicks.reason IS '''duplicate'', ''in the future'', ''too old'', ''undecided'' where stored keys are damaged, ''forged impression'', ''expired impression'', ''user limit'' or ''address limit''';
COMMENT ON COLUMN adclick.discarded_clicks.discarded_at IS 'when the tick ran that set it aside';

CREATE VIEW adclick.click_log AS
	SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, 'counted' AS verdict
	FROM adclick_internal.ledger_clicks()
	UNION ALL
	SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, 'counted'
	FROM adclick_internal.unpacked_clicks
	UNION ALL
	SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, reason
	FROM adclick.discarded_clicks
	UNION ALL
	SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, NULL
	FROM adclick.clicks;
COMMENT ON VIEW adclick.click_log IS 'every click that arrived, as it arrived, with the verdict';
COMMENT ON COLUMN adclick.click_log.click_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.ad_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.clicked_at IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.user_id IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.received_at IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.ip IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.country IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.region IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.device IS 'as in adclick.clicks';
COMMENT ON COLUMN adclick.click_log.verdict IS '''counted'', or the reason why not, as in adclick.discarded_clicks; NULL: no tick has taken it';

--
-- Reconciliation: the ledger, counted anew by plain SQL, against what is stored
--

CREATE FUNCTION adclick_internal.facts(sort_order int DEFAULT 0, "from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity')
	RETURNS TABLE (ad_id bigint, click_minute timestamptz, filter_id int, click_count bigint, user_id bigint, ip inet, is_delta boolean)
	AS 'MODULE_PATHNAME', 'adclick_facts' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 1000000
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.facts(int, timestamptz, timestamptz) IS 'the stored facts of order ad (0), user (1), ip (2) or day (4), of one run after the other, without the tail';

CREATE FUNCTION adclick_internal.ledger("from" timestamptz, "to" timestamptz)
	RETURNS TABLE (click_key uuid, rule_id int, bucket_at timestamptz, ad_id bigint, clicked_at timestamptz, filter_id int,
		user_id bigint, ip inet, copies bigint)
	AS 'MODULE_PATHNAME', 'adclick_ledger' LANGUAGE C
	STABLE STRICT PARALLEL RESTRICTED ROWS 1000000
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.ledger(timestamptz, timestamptz) IS 'the clicks of the ledger that were clicked in these minutes, or have a dedup bucket that begins in them';

CREATE TABLE adclick.differences (
	hour timestamptz NOT NULL,
	what text NOT NULL,
	click_minute timestamptz,
	ad_id bigint,
	filter_id int,
	user_id bigint,
	ip inet,
	expected bigint,
	stored bigint
);
CREATE INDEX differences_hour_idx ON adclick.differences (hour);
ALTER TABLE adclick.differences REPLICA IDENTITY FULL;
ALTER TABLE adclick.differences ALTER user_id SET STATISTICS 0, ALTER ip SET STATISTICS 0;
COMMENT ON TABLE adclick.differences IS 'where adclick.reconcile() found that what is stored is not what the ledger says, at most 1000 of each kind in an hour; those of an hour go when it is reconciled again';
COMMENT ON COLUMN adclick.differences.hour IS 'the hour (UTC) that was reconciled';
COMMENT ON COLUMN adclick.differences.what IS 'what differs: ''ad'', ''user'' or ''ip'', facts of this order; ''minute'', the sum of a minute in the directory; ''day'', facts of a day summed up, or, without an ad, their sum in the directory; ''list'', ''hourly list'' or ''daily list'', of most clicked ads; ''key'', a click counted twice; ''duplicate'', a click set aside as one of which no copy is counted';
COMMENT ON COLUMN adclick.differences.click_minute IS 'the minute; of a hourly list its hour, of a day or a daily list the day, of a key the minute in which its dedup bucket begins';
COMMENT ON COLUMN adclick.differences.ad_id IS 'the ad';
COMMENT ON COLUMN adclick.differences.filter_id IS 'the filter, see adclick.filters';
COMMENT ON COLUMN adclick.differences.user_id IS 'the user';
COMMENT ON COLUMN adclick.differences.ip IS 'the address';
COMMENT ON COLUMN adclick.differences.expected IS 'clicks there should be, of a day those that its hours have; of a list NULL';
COMMENT ON COLUMN adclick.differences.stored IS 'clicks there are';

CREATE TABLE adclick.reconciled_hours (
	hour timestamptz PRIMARY KEY,
	reconciled_at timestamptz NOT NULL,
	clicks bigint NOT NULL,
	differences bigint NOT NULL,
	repaired boolean NOT NULL,
	problem text
);
COMMENT ON TABLE adclick.reconciled_hours IS 'hours that adclick.reconcile() has compared with the ledger, and what it found the last time';
COMMENT ON COLUMN adclick.reconciled_hours.hour IS 'the hour (UTC)';
COMMENT ON COLUMN adclick.reconciled_hours.reconciled_at IS 'when it was last reconciled';
COMMENT ON COLUMN adclick.reconciled_hours.clicks IS 'clicks it had then';
COMMENT ON COLUMN adclick.reconciled_hours.differences IS 'how many were found';
COMMENT ON COLUMN adclick.reconciled_hours.repaired IS 'whether its counts were then made anew from the ledger, after which no difference was left';
COMMENT ON COLUMN adclick.reconciled_hours.problem IS 'why it could not be compared, or not repaired';

CREATE TABLE adclick.reconciliations (
	reconciliation_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	since timestamptz NOT NULL,
	until timestamptz NOT NULL,
	repair boolean NOT NULL,
	only_changed boolean NOT NULL,
	started_at timestamptz NOT NULL,
	finished_at timestamptz,
	hours timestamptz[] NOT NULL,
	hours_done int NOT NULL,
	clicks bigint NOT NULL,
	differences bigint NOT NULL
);
COMMENT ON TABLE adclick.reconciliations IS 'calls of adclick.reconcile() and how far they are; one that was interrupted is continued by the same call';
COMMENT ON COLUMN adclick.reconciliations.reconciliation_id IS 'number of the call';
COMMENT ON COLUMN adclick.reconciliations.since IS 'beginning of the range';
COMMENT ON COLUMN adclick.reconciliations.until IS 'end of the range, not included';
COMMENT ON COLUMN adclick.reconciliations.repair IS 'whether differences are repaired';
COMMENT ON COLUMN adclick.reconciliations.only_changed IS 'whether hours are left out that are as they were when last reconciled';
COMMENT ON COLUMN adclick.reconciliations.started_at IS 'when it was called';
COMMENT ON COLUMN adclick.reconciliations.finished_at IS 'when the last hour was done; NULL: it is under way, or was interrupted';
COMMENT ON COLUMN adclick.reconciliations.hours IS 'the hours of the range that could have clicks when it began';
COMMENT ON COLUMN adclick.reconciliations.hours_done IS 'how many of them are done';
COMMENT ON COLUMN adclick.reconciliations.clicks IS 'clicks they have';
COMMENT ON COLUMN adclick.reconciliations.differences IS 'differences found in them';

/*
 * An independent count: no code that makes facts, judges clicks or answers questions
 * has a part in it.  Both sides are read in one snapshot.  What may have millions of rows
 * is hashed, and spills to disk: the planner cannot know how many there are.  Some ten steps keep what they
 * have in memory up to the end, each up to work_mem.  To plan it takes longer than to compare an hour of few clicks:
 * PL/pgSQL keeps the plan.
 */
/*
 * Who a disguised key is of cannot be told: a copy may be one of any click of its ad that
 * has such a key in its bucket.
 */
CREATE FUNCTION adclick_internal.find_differences(hour timestamptz, with_day boolean)
	RETURNS TABLE (what text, click_minute timestamptz, ad_id bigint, filter_id int, user_id bigint, ip inet, expected bigint, stored bigint)
	LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp SET work_mem = '24MB' SET hash_mem_multiplier = 1 SET enable_nestloop = off SET enable_mergejoin = off SET enable_sort = off
	SET enable_hashjoin = on SET enable_hashagg = on SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH read AS MATERIALIZED (
		SELECT * FROM adclick_internal.ledger(hour, hour + interval '1 hour')
	), rules AS MATERIALIZED (
		SELECT d.rule_id, d.by_user_and_ad, d.dedup_window, d.forgotten_since IS NOT NULL AS is_forgotten
		FROM adclick_internal.dedup_rules d WHERE d.forgotten_since IS NULL OR d.rule_id IN (SELECT r.rule_id FROM read r)
	), counted AS (
		SELECT r.ad_id, date_trunc('minute', r.clicked_at, 'UTC') AS minute, r.filter_id, r.user_id, r.ip, least(r.copies, 2147483647)::int AS copies
		FROM read r WHERE r.clicked_at >= hour AND r.clicked_at < hour + interval '1 hour'
	), by_ad AS MATERIALIZED (
		SELECT f.ad_id, f.click_minute AS minute, f.filter_id, least(f.click_count, 2147483647)::int AS clicks, f.is_delta
		FROM adclick_internal.facts(0, hour, hour + interval '1 hour') f
	), final AS (
		SELECT f.ad_id, f.minute, f.filter_id, f.clicks FROM by_ad f WHERE NOT f.is_delta
	), of_ads AS (
		SELECT 'ad' AS what, minute, u.ad_id, u.filter_id, NULL::bigint AS user_id, NULL::inet AS ip, sum(n) AS expected, sum(m) AS stored
		FROM (SELECT c.minute, c.ad_id, c.filter_id, c.copies, 0 FROM counted c
			UNION ALL SELECT f.minute, f.ad_id, f.filter_id, 0, f.clicks FROM by_ad f) u (minute, ad_id, filter_id, n, m)
		GROUP BY u.minute, u.ad_id, u.filter_id HAVING sum(n) <> sum(m)
	), untold AS MATERIALIZED (
		SELECT g.minute FROM adclick_internal.gaps g WHERE g.minute >= hour AND g.minute < hour + interval '1 hour'
		UNION ALL
		SELECT m.minute FROM generate_series(hour, hour + interval '59 minutes', '1 minute') m (minute)
		WHERE m.minute <= (SELECT s.people_dropped_until FROM adclick_internal.state s)
	), of_users AS (
		SELECT 'user', minute, u.ad_id, u.filter_id, u.user_id, NULL::inet, sum(n), sum(m)
		FROM (SELECT c.minute, c.ad_id, c.filter_id, c.user_id, c.copies, 0 FROM counted c WHERE c.user_id IS NOT NULL
			UNION ALL SELECT f.click_minute, f.ad_id, f.filter_id, f.user_id, 0, least(f.click_count, 2147483647)::int
			FROM adclick_internal.facts(1, hour, hour + interval '1 hour') f) u (minute, ad_id, filter_id, user_id, n, m)
		WHERE NOT EXISTS (SELECT FROM untold m WHERE m.minute = u.minute)
		GROUP BY u.minute, u.ad_id, u.filter_id, u.user_id HAVING sum(n) <> sum(m)
	), of_addresses AS (
		SELECT 'ip', minute, u.ad_id, u.filter_id, u.user_id, u.ip, sum(n), sum(m)
		FROM (SELECT c.minute, c.ad_id, c.filter_id, c.user_id, c.ip, c.copies, 0 FROM counted c WHERE c.ip IS NOT NULL
			UNION ALL SELECT f.click_minute, f.ad_id, f.filter_id, f.user_id, f.ip, 0, least(f.click_count, 2147483647)::int
			FROM adclick_internal.facts(2, hour, hour + interval '1 hour') f) u (minute, ad_id, filter_id, user_id, ip, n, m)
		WHERE NOT EXISTS (SELECT FROM untold m WHERE m.minute = u.minute)
		GROUP BY u.minute, u.ad_id, u.filter_id, u.user_id, u.ip HAVING sum(n) <> sum(m)
	), of_minutes AS (
		SELECT 'minute', minute, NULL::bigint, NULL::int, NULL::bigint, NULL::inet, sum(n), sum(m)
		FROM (SELECT c.minute, c.copies, 0 FROM counted c
			UNION ALL SELECT d.minute, 0, least(d.clicks, 2147483647)::int
			FROM adclick_internal.runs r, unnest(r.minutes, r.minute_clicks) d (minute, clicks)
			WHERE r.sort_order = 0 AND r.is_delta IN (false, true) AND r.last_minute >= hour AND r.first_minute < hour + interval '1 hour'
				AND d.minute >= hour AND d.minute < hour + interval '1 hour') u (minute, n, m)
		GROUP BY u.minute HAVING sum(n) <> sum(m)
	), day AS MATERIALIZED (
		SELECT d.first, CASE WHEN with_day THEN d.first + interval '24 hours' ELSE d.first END AS stop,
			EXISTS (SELECT FROM adclick_internal.runs r WHERE r.sort_order = 4 AND NOT r.is_delta AND r.last_minute = d.first) AS made
		FROM (SELECT date_trunc('day', hour, 'UTC') AS first) d
	), of_day AS MATERIALIZED (
		SELECT f.ad_id, f.filter_id, least(f.click_count, 2147483647)::int AS clicks, f.is_delta
		FROM day d CROSS JOIN LATERAL adclick_internal.facts(4, d.first, d.stop) f
	), of_hours AS MATERIALIZED (
		SELECT f.ad_id, f.filter_id, least(f.click_count, 2147483647)::int AS clicks
		FROM day d CROSS JOIN LATERAL adclick_internal.facts(0, d.first, CASE WHEN d.made THEN d.stop ELSE d.first END) f WHERE NOT f.is_delta
	), of_days AS (
		SELECT 'day', d.first, u.ad_id, u.filter_id, NULL::bigint, NULL::inet, sum(n), sum(m)
		FROM (SELECT h.ad_id, h.filter_id, h.clicks, 0 FROM of_hours h
			UNION ALL SELECT f.ad_id, f.filter_id, 0, f.clicks FROM of_day f) u (ad_id, filter_id, n, m) CROSS JOIN day d
		GROUP BY d.first, u.ad_id, u.filter_id HAVING sum(n) <> sum(m)
		UNION ALL
		SELECT 'day', d.first, NULL::bigint, NULL::int, NULL::bigint, NULL::inet, h.clicks, s.clicks
		FROM day d, (SELECT coalesce(sum(clicks), 0) AS clicks FROM of_hours) h,
			(SELECT coalesce(sum(least(u.clicks, 2147483647)::int), 0) AS clicks FROM day, adclick_internal.runs r, unnest(r.minutes, r.minute_clicks) u (minute, clicks)
				WHERE r.sort_order = 4 AND r.is_delta IN (false, true) AND r.last_minute >= day.first AND r.first_minute <= day.first AND u.minute = day.first) s
		WHERE with_day AND s.clicks <> h.clicks
	), of_keys AS (
		SELECT 'key', date_trunc('minute', r.bucket_at, 'UTC'), min(r.ad_id), NULL::int, min(r.user_id), NULL::inet, 1::bigint, sum(least(r.copies, 2147483647)::int)
		FROM read r WHERE r.rule_id > 0 AND r.bucket_at >= hour AND r.bucket_at < hour + interval '1 hour'
		GROUP BY r.click_key, r.rule_id, r.bucket_at HAVING sum(r.copies) > 1
	), set_aside AS (
		SELECT d.ad_id, d.click_id, d.user_id, coalesce(d.clicked_at, d.received_at) AS at,
			CASE WHEN get_byte(uuid_send(d.click_id), 6) >> 4 = 7 AND get_byte(uuid_send(d.click_id), 8) >> 6 = 2
				THEN to_timestamp(('x' || encode(substr(uuid_send(d.click_id), 1, 6), 'hex'))::bit(48)::bigint / 1000.0) END AS id_time
		FROM adclick.discarded_clicks d
		WHERE d.reason = 'duplicate' AND coalesce(d.clicked_at, d.received_at) >= hour AND coalesce(d.clicked_at, d.received_at) < hour + interval '1 hour'
	), copies AS (
		SELECT row_number() OVER () AS nr, s.* FROM set_aside s
	), copy_keys AS (
		SELECT c.nr, c.ad_id, c.user_id, c.at, d.rule_id,
			CASE WHEN d.is_forgotten THEN lpad(to_hex(c.ad_id), 32, '0')::uuid
				WHEN d.by_user_and_ad THEN (lpad(to_hex(c.user_id), 16, '0') || lpad(to_hex(c.ad_id), 16, '0'))::uuid ELSE c.click_id END AS click_key,
			date_bin(make_interval(secs => d.dedup_window),
				CASE WHEN NOT d.by_user_and_ad AND c.id_time BETWEEN c.at - interval '24 hours' AND c.at + interval '24 hours' THEN c.id_time ELSE c.at END,
				timestamptz '2000-01-01 00:00:00+00') AS bucket_at
		FROM copies c CROSS JOIN rules d
	), keys AS (
		SELECT r.rule_id, r.bucket_at, CASE WHEN d.is_forgotten THEN lpad(to_hex(r.ad_id), 32, '0')::uuid ELSE r.click_key END AS click_key
		FROM read r JOIN rules d ON d.rule_id = r.rule_id
	), of_duplicates AS (
		SELECT 'duplicate', date_trunc('minute', k.at, 'UTC'), k.ad_id, NULL::int, k.user_id, NULL::inet, 1::bigint, 0::bigint
		FROM copy_keys k LEFT JOIN keys r ON r.click_key = k.click_key AND r.rule_id = k.rule_id AND r.bucket_at = k.bucket_at
		GROUP BY k.nr, k.at, k.ad_id, k.user_id
		HAVING count(r.click_key) = 0 AND bool_and(k.click_key IS NULL OR k.bucket_at >= hour AND k.bucket_at < hour + interval '1 hour')
	), kept AS MATERIALIZED (
		SELECT k.* FROM adclick.filters k WHERE k.country IS NULL OR k.region IS NULL OR k.device IS NULL
	), met AS MATERIALIZED (
		SELECT k.filter_id AS list, c.filter_id
		FROM kept k JOIN adclick.filters c ON c.country = coalesce(k.country, c.country)
			AND c.region = coalesce(k.region, c.region) AND c.device = coalesce(k.device, c.device)
	), lists AS MATERIALIZED (
		SELECT 'list' AS what, l.click_minute AS first, l.filter_id, l.most_clicked_ads AS ads, l.cut_off
		FROM adclick.most_clicked_ads l
		WHERE l.filter_id = ANY (ARRAY(SELECT k.filter_id FROM kept k)) AND l.click_minute >= hour AND l.click_minute < hour + interval '1 hour'
		UNION ALL
		SELECT 'hourly list', l.click_hour, l.filter_id, l.most_clicked_ads, l.cut_off
		FROM adclick.most_clicked_ads_hourly l
		WHERE l.filter_id = ANY (ARRAY(SELECT k.filter_id FROM kept k)) AND l.click_hour = hour
		UNION ALL
		SELECT 'daily list', l.click_day, l.filter_id, l.most_clicked_ads, l.cut_off
		FROM adclick.most_clicked_ads_daily l
		WHERE l.filter_id = ANY (ARRAY(SELECT k.filter_id FROM kept k)) AND with_day AND l.click_day = (SELECT d.first FROM day d)
	), listed AS MATERIALIZED (
		SELECT l.what, l.first, l.filter_id, a.ad_id, a.click_count AS clicks, a.place
		FROM lists l, unnest(l.ads) WITH ORDINALITY a (ad_id, click_count, place)
	), totals AS (
		SELECT 'list' AS what, f.minute AS first, m.list AS filter_id, f.ad_id, sum(f.clicks) AS clicks
		FROM final f JOIN met m ON m.filter_id = f.filter_id JOIN lists l ON l.what = 'list' AND l.first = f.minute AND l.filter_id = m.list
		GROUP BY f.minute, m.list, f.ad_id
		UNION ALL
		SELECT 'hourly list', l.first, m.list, f.ad_id, sum(f.clicks)
		FROM final f JOIN met m ON m.filter_id = f.filter_id
			JOIN lists l ON l.what = 'hourly list' AND l.filter_id = m.list
		GROUP BY l.first, m.list, f.ad_id
		UNION ALL
		SELECT 'daily list', l.first, m.list, f.ad_id, sum(f.clicks)
		FROM of_day f JOIN met m ON m.filter_id = f.filter_id
			JOIN lists l ON l.what = 'daily list' AND l.filter_id = m.list
		WHERE NOT f.is_delta GROUP BY l.first, m.list, f.ad_id
	), ranked AS (
		SELECT d.what, d.first, d.filter_id,
			count(*) FILTER (WHERE d.clicks = d.total) AS right_ones,
			max(d.total) FILTER (WHERE d.place IS NULL) AS best_other,
			min(d.ad_id) FILTER (WHERE d.place IS NULL AND d.total = d.cut_off) AS first_other
		FROM (SELECT t.what, t.first, t.filter_id, t.ad_id, t.clicks AS total, a.clicks, a.place, l.cut_off
			FROM totals t LEFT JOIN listed a ON a.what = t.what AND a.first = t.first AND a.filter_id = t.filter_id AND a.ad_id = t.ad_id
				JOIN lists l ON l.what = t.what AND l.first = t.first AND l.filter_id = t.filter_id) d
		GROUP BY d.what, d.first, d.filter_id
	), listings AS (
		SELECT e.what, e.first, e.filter_id, max(e.place) AS length, min(e.clicks) AS least,
			(array_agg(e.ad_id ORDER BY e.place DESC))[1] AS last,
			bool_and(e.clicks < e.clicks_before OR e.clicks = e.clicks_before AND e.ad_id > e.ad_before) AS descending
		FROM (SELECT a.*, lag(a.clicks) OVER w AS clicks_before, lag(a.ad_id) OVER w AS ad_before
			FROM listed a WINDOW w AS (PARTITION BY a.what, a.first, a.filter_id ORDER BY a.place)) e
		GROUP BY e.what, e.first, e.filter_id
	), of_lists AS (
		SELECT l.what, l.first, NULL::bigint, l.filter_id, NULL::bigint, NULL::inet, NULL::bigint, NULL::bigint
		FROM lists l LEFT JOIN ranked r ON r.what = l.what AND r.first = l.first AND r.filter_id = l.filter_id
			LEFT JOIN listings e ON e.what = l.what AND e.first = l.first AND e.filter_id = l.filter_id
		WHERE coalesce(r.right_ones, 0) <> coalesce(e.length, 0) OR coalesce(r.best_other, 0) <> l.cut_off OR NOT coalesce(e.descending, true)
			OR l.cut_off > e.least OR (l.cut_off = e.least AND r.first_other < e.last)
	)
	SELECT d.what, d.minute, d.ad_id, d.filter_id, d.user_id, d.ip, d.expected, d.stored
	FROM (SELECT * FROM of_ads UNION ALL SELECT * FROM of_users UNION ALL SELECT * FROM of_addresses
		UNION ALL SELECT * FROM of_minutes UNION ALL SELECT * FROM of_days UNION ALL SELECT * FROM of_keys UNION ALL SELECT * FROM of_duplicates
		UNION ALL SELECT * FROM of_lists) d;
END
$$;
COMMENT ON FUNCTION adclick_internal.find_differences(timestamptz, boolean) IS 'what differs between the ledger and all that is stored of an hour; with_day: and between its day and the hours of that';

/*
 * Clicks only ever come to an hour: if it has as many as when it was compared, it has
 * the same.
 */
CREATE FUNCTION adclick_internal.agreed_hours("from" timestamptz, "to" timestamptz) RETURNS SETOF timestamptz
	LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED ROWS 1000
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT r.hour FROM adclick.reconciled_hours r
	LEFT JOIN (SELECT date_trunc('hour', m.minute, 'UTC') AS hour, sum(m.clicks) AS clicks
		FROM adclick_internal.runs d, unnest(d.minutes, d.minute_clicks) m (minute, clicks)
		WHERE d.sort_order = 0 AND d.is_delta IN (false, true) AND d.last_minute >= "from" AND d.first_minute < "to"
		GROUP BY 1) c ON c.hour = r.hour
	WHERE r.hour >= "from" AND r.hour < "to" AND coalesce(c.clicks, 0) = r.clicks AND (r.repaired OR (r.differences = 0 AND r.problem IS NULL));
END;
COMMENT ON FUNCTION adclick_internal.agreed_hours(timestamptz, timestamptz) IS 'hours that have agreed with the ledger when they were last reconciled, and got no clicks since';

CREATE FUNCTION adclick.reconcile_hour("from" timestamptz, "to" timestamptz, repair boolean DEFAULT false, only_changed boolean DEFAULT false)
	RETURNS boolean
	AS 'MODULE_PATHNAME', 'adclick_reconcile_hour' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.reconcile_hour(timestamptz, timestamptz, boolean, boolean) IS 'compare the next hour of a range with the ledger; returns whether there is another one';

-- A transaction for each hour: what is done stays done.
CREATE PROCEDURE adclick.reconcile("from" timestamptz, "to" timestamptz, repair boolean DEFAULT false, only_changed boolean DEFAULT false)
	LANGUAGE plpgsql
AS $$
BEGIN
	WHILE adclick.reconcile_hour("from", "to", repair, only_changed) LOOP
		COMMIT;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE adclick.reconcile(timestamptz, timestamptz, boolean, boolean) IS 'compare the hours of a range with the ledger, all or those that changed since the last time, and if asked for repair them; see adclick.reconciliations, adclick.reconciled_hours and adclick.differences';

--
-- Log files: sources whose clicks are lines of files that grow
--

CREATE TABLE adclick_internal.log_sources (
	name text PRIMARY KEY,
	path text NOT NULL,
	format text NOT NULL,
	columns jsonb NOT NULL,
	added_by text NOT NULL,
	added_at timestamptz NOT NULL,
	lines bigint NOT NULL,
	bad_lines bigint NOT NULL,
	bytes_waiting bigint NOT NULL,
	last_read_at timestamptz,
	last_error text,
	last_error_at timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE adclick_internal.log_sources IS 'what adclick.add_source() added, and how far it is read: see adclick.sources';

/*
 * What has been read of a file is known by its hashes, whatever it is called now: in the
 * transaction that puts the clicks of some lines into the inbox, "read_to" moves behind them.
 */
CREATE TABLE adclick_internal.log_files (
	source text NOT NULL,
	file int NOT NULL,
	path text NOT NULL,
	device bigint NOT NULL,
	inode bigint NOT NULL,
	size bigint NOT NULL,
	modified_at bigint NOT NULL,
	compressed boolean NOT NULL,
	rotated boolean NOT NULL,
	read_to bigint NOT NULL,
	in_line boolean NOT NULL,
	begin_hash uuid NOT NULL,
	end_hash uuid NOT NULL,
	copy_of int,
	gone_at timestamptz,
	lines bigint NOT NULL,
	bad_lines bigint NOT NULL,
	PRIMARY KEY (source, file)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.1);
COMMENT ON TABLE adclick_internal.log_files IS 'files of sources of which something was read, and how far';
COMMENT ON COLUMN adclick_internal.log_files.path IS 'where it was seen last';
COMMENT ON COLUMN adclick_internal.log_files.size IS 'its bytes when it was seen last';
COMMENT ON COLUMN adclick_internal.log_files.modified_at IS 'when it was modified last, in nanoseconds, by the file system';
COMMENT ON COLUMN adclick_internal.log_files.compressed IS 'whether gzip has compressed it; other positions are those of what it was';
COMMENT ON COLUMN adclick_internal.log_files.rotated IS 'whether it is finished: it has another name than at first, or is a copy of one that is no more';
COMMENT ON COLUMN adclick_internal.log_files.read_to IS 'all before this byte was read; of a copy, of what it is a copy';
COMMENT ON COLUMN adclick_internal.log_files.in_line IS 'whether that is within a line that is too long';
COMMENT ON COLUMN adclick_internal.log_files.begin_hash IS 'of the first bytes that were read, 1024 at most';
COMMENT ON COLUMN adclick_internal.log_files.end_hash IS 'of the last ones';
COMMENT ON COLUMN adclick_internal.log_files.copy_of IS 'the file that this one is a copy of: nothing is read of it while that one is there';
COMMENT ON COLUMN adclick_internal.log_files.gone_at IS 'since when no file has what was read';

CREATE TABLE adclick.bad_lines (
	source text NOT NULL,
	file text NOT NULL,
	byte_offset bigint NOT NULL,
	line text NOT NULL,
	sqlstate text NOT NULL,
	reason text NOT NULL,
	set_aside_at timestamptz NOT NULL
);
CREATE INDEX bad_lines_source_idx ON adclick.bad_lines (source);
ALTER TABLE adclick.bad_lines REPLICA IDENTITY FULL;
ALTER TABLE adclick.bad_lines ALTER line SET STATISTICS 0;
COMMENT ON TABLE adclick.bad_lines IS 'lines of log files that are no clicks, at most 10000 of each source; delete them at will';
COMMENT ON COLUMN adclick.bad_lines.source IS 'the source, see adclick.sources';
COMMENT ON COLUMN adclick.bad_lines.file IS 'the file, by the name that it had';
COMMENT ON COLUMN adclick.bad_lines.byte_offset IS 'where in it the line begins, 0 for the first one; of a compressed file, in what it was';
COMMENT ON COLUMN adclick.bad_lines.line IS 'the line, up to 1000 bytes of it; bytes that are no text are written as \xNN';
COMMENT ON COLUMN adclick.bad_lines.sqlstate IS 'the error''s SQLSTATE';
COMMENT ON COLUMN adclick.bad_lines.reason IS 'the error';
COMMENT ON COLUMN adclick.bad_lines.set_aside_at IS 'when it was read';

CREATE VIEW adclick.sources AS
	SELECT s.name, s.path, s.format, s.columns, s.added_by, s.added_at,
		coalesce(f.files, 0) AS files,
		coalesce(f.bytes, 0)::bigint AS bytes_read,
		s.bytes_waiting,
		s.lines,
		s.bad_lines,
		s.last_read_at,
		s.last_error,
		s.last_error_at
	FROM adclick_internal.log_sources s
	LEFT JOIN (SELECT source, count(*) FILTER (WHERE gone_at IS NULL AND copy_of IS NULL) AS files, sum(read_to) FILTER (WHERE copy_of IS NULL) AS bytes
		FROM adclick_internal.log_files GROUP BY source) f ON f.source = s.name;
COMMENT ON VIEW adclick.sources IS 'log files that clicks are read from, and how far they are read';
COMMENT ON COLUMN adclick.sources.name IS 'name of the source';
COMMENT ON COLUMN adclick.sources.path IS 'the files, by a pattern of the shell perhaps';
COMMENT ON COLUMN adclick.sources.format IS '''csv'' or ''json''';
COMMENT ON COLUMN adclick.sources.columns IS 'columns of adclick.clicks, and what they are called in the files; {}: the same names';
COMMENT ON COLUMN adclick.sources.added_by IS 'who added it: it is read as long as this role may read files of the server';
COMMENT ON COLUMN adclick.sources.added_at IS 'when';
COMMENT ON COLUMN adclick.sources.files IS 'files of which something was read, and that are there; a copy of another one is none';
COMMENT ON COLUMN adclick.sources.bytes_read IS 'bytes that were read of all files, those of the last days that are no more included';
COMMENT ON COLUMN adclick.sources.bytes_waiting IS 'bytes that the files had beyond that when they were looked at last';
COMMENT ON COLUMN adclick.sources.lines IS 'clicks that were put into adclick.clicks';
COMMENT ON COLUMN adclick.sources.bad_lines IS 'lines that are no clicks, see adclick.bad_lines';
COMMENT ON COLUMN adclick.sources.last_read_at IS 'when something was read last';
COMMENT ON COLUMN adclick.sources.last_error IS 'why the source, or one of its files, is not read; NULL: all are';
COMMENT ON COLUMN adclick.sources.last_error_at IS 'since when';

CREATE FUNCTION adclick.add_source(name text, path text, format text DEFAULT 'csv', columns jsonb DEFAULT '{}') RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_add_source' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.add_source(text, text, text, jsonb) IS 'read clicks from files of the server as they grow: an absolute path, a pattern perhaps, of CSV files with a header or of JSON lines';

CREATE FUNCTION adclick.drop_source(name text) RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_drop_source' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.drop_source(text) IS 'read a source no more; its clicks stay, what is known of its files and its bad lines go';

CREATE FUNCTION adclick.read_sources(OUT lines bigint, OUT bad_lines bigint, OUT more boolean)
	AS 'MODULE_PATHNAME', 'adclick_read_sources' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.read_sources() IS 'read what was appended to the files of all sources now, as the reader does; more: not all of it fitted one round';

--
-- Schedule
--

/*
 * What is to be done regularly, and no worker does: volumes are written to files, if there is
 * a directory for them; yesterday (UTC) is reconciled, when most of its late clicks are in,
 * and hours before that got more since they were.
 */
CREATE FUNCTION adclick_internal.jobs() RETURNS TABLE (job_name text, schedule text, command text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT * FROM (VALUES
		('adclick: archive', '40 1 * * *', 'CALL adclick.archive_clicks()'),
		('adclick: reconcile', '10 2 * * *', $$CALL adclick.reconcile('-infinity', date_trunc('day', now(), 'UTC'), only_changed => true)$$)) j;
END;
COMMENT ON FUNCTION adclick_internal.jobs() IS 'what adclick.schedule() has pg_cron do';

-- A schema of that name may be anybody's.
CREATE FUNCTION adclick_internal.has_pg_cron() RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		WHERE e.extname = 'pg_cron' AND d.deptype = 'e' AND d.classid = 'pg_namespace'::regclass AND d.objid = to_regnamespace('cron'));
END;
COMMENT ON FUNCTION adclick_internal.has_pg_cron() IS 'whether pg_cron is installed in this database';

CREATE FUNCTION adclick.schedule() RETURNS TABLE (job_name text, schedule text, command text)
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT adclick_internal.has_pg_cron() THEN
		RAISE EXCEPTION 'pg_cron is not installed in this database' USING
			ERRCODE = 'object_not_in_prerequisite_state',
			HINT = (SELECT format('Where it is installed: %s. Any other scheduler may do the same.',
				string_agg(format('SELECT cron.schedule_in_database(%L, %L, %L, %L)', j.job_name, j.schedule, j.command, current_database()), '; '))
				FROM adclick_internal.jobs() j);
	END IF;
	FOR job_name, schedule, command IN SELECT j.job_name, j.schedule, j.command FROM adclick_internal.jobs() j LOOP
		PERFORM cron.schedule(job_name, schedule, command);
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION adclick.schedule() IS 'have pg_cron do what is to be done regularly; returns its jobs, which are the same however often it is called';

CREATE FUNCTION adclick.unschedule() RETURNS void
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF adclick_internal.has_pg_cron() THEN
		PERFORM cron.unschedule(c.jobid)
		FROM cron.job c JOIN adclick_internal.jobs() j ON j.job_name = c.jobname
		WHERE c.username = current_user;
	END IF;
END
$$;
COMMENT ON FUNCTION adclick.unschedule() IS 'end the jobs of adclick.schedule()';

--
-- Status
--

CREATE FUNCTION adclick_internal.progress(OUT tail_rows bigint, OUT tail_oldest timestamptz, OUT last_tick bigint,
		OUT last_tick_at timestamptz, OUT taken bigint, OUT counted bigint, OUT in_future bigint, OUT too_old bigint,
		OUT duplicates bigint, OUT undecided bigint, OUT forged bigint, OUT expired bigint, OUT user_limit bigint, OUT address_limit bigint, OUT open_minutes bigint, OUT combinations bigint,
		OUT late bigint, OUT clicks_per_second float8, OUT dropped bigint, OUT dropped_until timestamptz,
		OUT people_dropped_until timestamptz, OUT discarded_dropped bigint,
		OUT minutes_dropped_until timestamptz, OUT days_dropped_until timestamptz)
	AS 'MODULE_PATHNAME', 'adclick_progress' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.progress() IS 'how far ticks and compaction are; NULLs while a table of the extension is altered';

CREATE FUNCTION adclick_internal.workers(OUT workers_alive int, OUT workers_wanted int, OUT aggregator_pid int, OUT compactor_pid int,
		OUT last_error text, OUT last_error_at timestamptz, OUT dedup_bytes bigint, OUT dedup_keys bigint,
		OUT errors bigint, OUT last_tick_seconds float8, OUT worst_tick_seconds float8)
	AS 'MODULE_PATHNAME', 'adclick_workers' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION adclick_internal.workers() IS 'the workers of this database, and what they keep in shared memory';

/*
 * Bodies that are parsed here: who calls a function of ours need not have USAGE on the
 * schema of those it calls.
 */
CREATE FUNCTION adclick_internal.open_writer(OUT pid int, OUT prepared text, OUT since timestamptz)
	LANGUAGE sql STABLE PARALLEL RESTRICTED
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT a.pid, p.gid, coalesce(a.xact_start, p.prepared) AS since
	FROM pg_locks k
	LEFT JOIN pg_stat_activity a ON a.pid = k.pid
	LEFT JOIN pg_locks x ON k.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
		AND x.virtualtransaction = k.virtualtransaction
	LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
	WHERE k.locktype = 'relation' AND k.relation = 'adclick.clicks'::regclass
		AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND k.mode = 'RowExclusiveLock' AND k.granted
	ORDER BY since NULLS LAST LIMIT 1;
END;
COMMENT ON FUNCTION adclick_internal.open_writer() IS 'the longest open transaction that has written clicks';

CREATE VIEW adclick.status AS
	SELECT p.tail_rows AS lag_rows,
		CASE WHEN p.tail_rows IS NOT NULL THEN greatest(coalesce(extract(epoch FROM clock_timestamp() - p.tail_oldest), 0), 0)::float8 END AS lag_seconds,
		p.last_tick,
		p.last_tick_at,
		w.last_tick_seconds,
		w.worst_tick_seconds,
		p.clicks_per_second,
		p.taken AS clicks_taken,
		p.counted AS clicks_counted,
		p.late AS late_clicks,
		p.dropped AS clicks_dropped,
		p.discarded_dropped,
		p.dropped_until,
		p.people_dropped_until,
		p.minutes_dropped_until,
		p.days_dropped_until,
		p.duplicates,
		p.in_future + p.too_old + p.undecided + p.forged + p.expired + p.user_limit + p.address_limit AS discarded,
		p.in_future,
		p.too_old,
		p.undecided,
		p.forged,
		p.expired,
		p.user_limit,
		p.address_limit,
		p.open_minutes,
		p.combinations,
		(SELECT max(h.reconciled_at) FROM adclick.reconciled_hours h) AS last_reconciled_at,
		w.errors,
		w.last_error,
		w.last_error_at,
		w.workers_alive,
		w.workers_wanted,
		w.aggregator_pid,
		w.compactor_pid,
		w.dedup_bytes,
		w.dedup_keys,
		b.pid AS open_writer_pid,
		b.prepared AS open_writer_prepared,
		b.since AS open_writer_since
	FROM adclick_internal.progress() p
	CROSS JOIN adclick_internal.workers() w
	CROSS JOIN adclick_internal.open_writer() b;
COMMENT ON VIEW adclick.status IS 'one row: how far the ticks are, what they counted, and who runs';
COMMENT ON COLUMN adclick.status.lag_rows IS 'committed clicks that no tick has taken; NULL, as what follows, while a table of the extension is altered, see last_error';
COMMENT ON COLUMN adclick.status.lag_seconds IS 'age of the oldest of them, 0 if there is none';
COMMENT ON COLUMN adclick.status.last_tick IS 'number of the last tick';
COMMENT ON COLUMN adclick.status.last_tick_at IS 'when one last took clicks';
COMMENT ON COLUMN adclick.status.last_tick_seconds IS 'how long it took, in whole milliseconds and at least one; NULL if none has taken clicks since the server started';
COMMENT ON COLUMN adclick.status.worst_tick_seconds IS 'how long the longest tick since the server started took';
COMMENT ON COLUMN adclick.status.clicks_per_second IS 'clicks that are counted in the last full minute, a second';
COMMENT ON COLUMN adclick.status.clicks_taken IS 'clicks that ticks took since CREATE EXTENSION: those counted, duplicates and discarded';
COMMENT ON COLUMN adclick.status.clicks_counted IS 'of them, those counted';
COMMENT ON COLUMN adclick.status.late_clicks IS 'of them, those that arrived later than adclick.watermark after the end of their minute';
COMMENT ON COLUMN adclick.status.clicks_dropped IS 'of those counted, how many adclick.ledger_retention has dropped from the ledger; they still count';
COMMENT ON COLUMN adclick.status.discarded_dropped IS 'of the duplicates and the discarded, how many have gone from adclick.discarded_clicks with the ledger of their time';
COMMENT ON COLUMN adclick.status.dropped_until IS 'the last minute in which one of them was clicked, or its dedup window begins: up to it the ledger is not whole; NULL if none was dropped';
COMMENT ON COLUMN adclick.status.people_dropped_until IS 'the last minute of what adclick.user_and_ip_retention has dropped: questions about users and addresses are answered from the next one on; NULL if nothing was dropped';
COMMENT ON COLUMN adclick.status.minutes_dropped_until IS 'the last minute of days (UTC) whose minutes and hours adclick.minute_retention has dropped: questions about the time up to it are answered by whole days, and clicks of it are too old; NULL if none were dropped';
COMMENT ON COLUMN adclick.status.days_dropped_until IS 'the last minute of what adclick.day_retention has dropped: questions are answered from the next one on; NULL if nothing was dropped';
COMMENT ON COLUMN adclick.status.duplicates IS 'clicks set aside as duplicates';
COMMENT ON COLUMN adclick.status.discarded IS 'clicks set aside for another reason: in_future, too_old, undecided, forged, expired, user_limit and address_limit';
COMMENT ON COLUMN adclick.status.in_future IS 'clicks set aside because they were clicked further in the future than adclick.future_tolerance';
COMMENT ON COLUMN adclick.status.too_old IS 'clicks set aside because they were clicked longer ago than adclick.raw_retention, or in a time of which retention has dropped what they would need';
COMMENT ON COLUMN adclick.status.undecided IS 'clicks set aside because stored keys that would tell whether they are duplicates are damaged';
COMMENT ON COLUMN adclick.status.forged IS 'clicks set aside because adclick.click() did not know their impression';
COMMENT ON COLUMN adclick.status.expired IS 'clicks set aside because their impression was older than adclick.impression_expiry';
COMMENT ON COLUMN adclick.status.user_limit IS 'clicks set aside because adclick.user_clicks_per_minute of their user were counted in their minute';
COMMENT ON COLUMN adclick.status.address_limit IS 'clicks set aside because adclick.ip_clicks_per_minute from their address were counted in their minute';
COMMENT ON COLUMN adclick.status.open_minutes IS 'minutes behind all packed ones that have facts: those that are open';
COMMENT ON COLUMN adclick.status.combinations IS 'combinations of country, region and device that are told apart; once there are adclick.max_filters, clicks of new ones count as ''other''';
COMMENT ON COLUMN adclick.status.last_reconciled_at IS 'when an hour was last compared with the ledger, see adclick.reconcile(); NULL: never';
COMMENT ON COLUMN adclick.status.errors IS 'rounds of the workers that failed since the server started';
COMMENT ON COLUMN adclick.status.last_error IS 'last error of a worker of this database since the server started';
COMMENT ON COLUMN adclick.status.last_error_at IS 'when that was';
COMMENT ON COLUMN adclick.status.workers_alive IS 'of the aggregator, the compactor and, where there are sources, the reader of log files, how many run: workers_wanted when all is well';
COMMENT ON COLUMN adclick.status.workers_wanted IS 'how many should run: 0 on a standby, where adclick.workers is off, and while the data of a dump is awaited; else 2, or 3 where there are sources';
COMMENT ON COLUMN adclick.status.aggregator_pid IS 'process id of the aggregator, NULL if it does not run';
COMMENT ON COLUMN adclick.status.compactor_pid IS 'process id of the compactor, NULL if it does not run';
COMMENT ON COLUMN adclick.status.dedup_bytes IS 'shared memory in use for click keys';
COMMENT ON COLUMN adclick.status.dedup_keys IS 'click keys held there';
COMMENT ON COLUMN adclick.status.open_writer_pid IS 'process of the longest open transaction that has written clicks; they are taken when it commits';
COMMENT ON COLUMN adclick.status.open_writer_prepared IS 'the same, if it is a prepared transaction: its global id';
COMMENT ON COLUMN adclick.status.open_writer_since IS 'when that transaction began; of another role''s NULL, unless you are a member of pg_read_all_stats';

CREATE VIEW adclick.storage AS
	SELECT format('%I.%I', n.nspname, c.relname) AS relation,
		pg_total_relation_size(c.oid) AS bytes,
		obj_description(c.oid, 'pg_class') AS purpose
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname IN ('adclick', 'adclick_internal') AND c.relkind = 'r';
COMMENT ON VIEW adclick.storage IS 'the tables of the extension, and what they take on disk';
COMMENT ON COLUMN adclick.storage.relation IS 'the table';
COMMENT ON COLUMN adclick.storage.bytes IS 'its size with its indexes and what is stored apart';
COMMENT ON COLUMN adclick.storage.purpose IS 'what it is for';

--
-- Health: what adclick.status says, judged
--

CREATE FUNCTION adclick_internal.examine(OUT problem text, OUT locked boolean, OUT waiting bigint, OUT waiting_seconds float8,
		OUT combinations bigint, OUT unreconciled bigint, OUT retention text, OUT sources text)
	AS 'MODULE_PATHNAME', 'adclick_examine' LANGUAGE C STABLE STRICT PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s';
COMMENT ON FUNCTION adclick_internal.examine() IS 'why the tables cannot be read; or how many clicks wait there, the age of the oldest, how many combinations there are, how many hours do not agree with the ledger, that retention waits and why, and that log files are not read and why';

CREATE FUNCTION adclick_internal.worker(compactor boolean, OUT paused boolean, OUT missing float8, OUT overdue float8,
		OUT behind float8, OUT failed int, OUT failure text, OUT left_out int, OUT undecided float8, OUT said text, OUT crashes int)
	AS 'MODULE_PATHNAME', 'adclick_worker' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION adclick_internal.worker(boolean) IS 'the aggregator or the compactor: for how many seconds it is missing, has made no round, has not done all there was; what failed; and how often the server crashed in the last hour';

-- Level 2 is critical, 1 a warning, 0 only said.
CREATE FUNCTION adclick_internal.judge() RETURNS text[]
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH found AS MATERIALIZED (
		SELECT *,
			CASE WHEN NOT standby THEN CASE WHEN paused THEN waiting_seconds ELSE least(waiting_seconds, behind) END END AS lag
		FROM (SELECT pg_is_in_recovery() AS standby, max_filters.setting::bigint AS max_filters,
				extract(epoch FROM clock_timestamp() - w.since) AS open_for, coalesce('process ' || w.pid, 'prepared transaction ' || w.prepared) AS writer,
				e.problem, e.locked, e.waiting, e.waiting_seconds, e.combinations, e.unreconciled, e.retention, e.sources,
				a.paused, a.missing, a.overdue, a.behind, a.failed, a.failure, a.left_out, a.undecided, a.said, a.crashes,
				c.missing AS c_missing, c.overdue AS c_overdue, c.failed AS c_failed, c.failure AS c_failure, c.said AS c_said
			FROM adclick_internal.examine() e
			CROSS JOIN adclick_internal.worker(false) a
			CROSS JOIN adclick_internal.worker(true) c
			CROSS JOIN adclick_internal.open_writer() w
			CROSS JOIN (SELECT setting FROM pg_settings WHERE name = 'adclick.max_filters') max_filters) f
	), reasons AS (
		SELECT r.* FROM found CROSS JOIN LATERAL (VALUES
			(1, CASE WHEN locked THEN 1 ELSE 2 END, 'the tables cannot be read: ' || problem),
			(2, 2, CASE WHEN missing > 30 THEN
				format('the aggregator has not run for %s s%s', floor(missing), ': ' || said) END),
			(3, 2, CASE WHEN c_missing > 30 THEN
				format('the compactor has not run for %s s%s', floor(c_missing), ': ' || c_said) END),
			(4, 2, CASE WHEN failed > 1 THEN 'the aggregator fails: ' || failure END),
			(5, 2, CASE WHEN overdue > 300 AND NOT paused THEN
				format('the aggregator has made no round for %s s', floor(overdue)) END),
			(6, CASE WHEN lag > 300 AND NOT paused THEN 2 ELSE 1 END,
				CASE WHEN lag > CASE WHEN paused THEN 300 ELSE 60 END THEN
				format('clicks are not taken: %s wait, for %s s', waiting, floor(lag)) END),
			(7, 2, CASE WHEN left_out > 0 THEN
				format('damaged runs are left out of compaction: %s', left_out) END),
			(8, 2, CASE WHEN unreconciled > 0 THEN
				format('hours differ from the ledger, see adclick.reconciled_hours: %s', unreconciled) END),
			(9, 1, CASE WHEN c_failed > 1 THEN 'the compactor fails: ' || c_failure END),
			(10, 1, CASE WHEN c_overdue > 300 THEN
				format('the compactor has made no round for %s s', floor(c_overdue)) END),
			(11, 1, CASE WHEN undecided < 3600 THEN
				format('clicks were set aside as undecided %s s ago: keys, or counts of users and addresses, are damaged', floor(undecided)) END),
			(12, 1, CASE WHEN open_for > 3600 THEN
				format('a writer of clicks has not ended for %s s: %s', floor(open_for), writer) END),
			(13, 1, CASE WHEN combinations >= 0.9 * max_filters THEN
				format('adclick.max_filters is nearly reached: %s of %s combinations', combinations, max_filters) END),
			(14, 1, retention),
			(17, 1, sources),
			(15, 0, CASE WHEN standby THEN 'this is a standby: the workers run on its primary' END),
			(18, 1, CASE WHEN crashes > 2 THEN
				format('the server crashed %s times in the last hour, and went on: its log says which process ended', crashes) END),
			(19, 1, CASE WHEN overdue > 300 AND paused AND NOT standby THEN
				format('adclick.workers is off, and no tick was made by hand for %s s', floor(overdue)) END),
			(16, 0, CASE WHEN paused AND NOT standby AND overdue <= 300 THEN 'adclick.workers is off: rounds are done by hand' END)
		) r (nr, level, reason) WHERE r.reason IS NOT NULL
	)
	SELECT ARRAY[(ARRAY['ok', 'warning', 'critical'])[1 + coalesce(max(level), 0)],
		string_agg(reason, '; ' ORDER BY level DESC, nr)]
	FROM reasons;
END;
COMMENT ON FUNCTION adclick_internal.judge() IS 'what adclick.health() says where the library is loaded';

-- The library is loaded by none of what stands here, but only by what the branch calls.
CREATE FUNCTION adclick.health(OUT health text, OUT reason text)
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT said[1], said[2]
	FROM (SELECT CASE WHEN EXISTS (SELECT FROM pg_settings WHERE name = 'adclick.dedup_memory' AND context = 'postmaster')
			THEN adclick_internal.judge()
			ELSE ARRAY['critical', 'adclick is not loaded: add it to shared_preload_libraries and restart the server'] END AS said
		OFFSET 0) s;
END;
COMMENT ON FUNCTION adclick.health() IS 'whether all is well: ok, warning or critical, and why, the worst reason first';

--
-- Dump and restore
--

CREATE FUNCTION adclick.begin_restore() RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_begin_restore' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.begin_restore() IS 'await the data of a dump, where nothing has been counted: only before pg_restore --data-only, as CREATE EXTENSION of a dump does it itself';

CREATE FUNCTION adclick.end_restore(incomplete boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_end_restore' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick.end_restore(boolean) IS 'all data of the dump is here: go on counting; only after pg_restore --data-only, as a whole dump does it itself; incomplete: even if some is missing';

CREATE FUNCTION adclick_internal.guard_restore() RETURNS trigger
	AS 'MODULE_PATHNAME', 'adclick_guard_restore' LANGUAGE C;
COMMENT ON FUNCTION adclick_internal.guard_restore() IS 'trigger: a dump brings its data only where it is awaited';

DO $$
BEGIN
	EXECUTE (SELECT 'CREATE VIEW adclick_internal.stored_segments AS ' || string_agg('SELECT run_id FROM adclick_internal.' || name, ' UNION ALL ')
		FROM (SELECT unnest('{deltas, segments, ledger_restored}'::text[]) UNION ALL SELECT shelf || n FROM unnest('{ledger_, people_}'::text[]) shelf, generate_series(0, 31) n) t (name));
END
$$;
COMMENT ON VIEW adclick_internal.stored_segments IS 'the run of each segment there is';

/*
 * A dump says nothing of what it has; but if the state came by COPY, so did all tables, even
 * those without rows.
 */
CREATE VIEW adclick_internal.awaited_tables AS
	SELECT t.relation FROM pg_extension, unnest(extconfig) c (oid) JOIN pg_class USING (oid) CROSS JOIN LATERAL (SELECT pg_class.oid::regclass) t (relation)
	WHERE extname = 'adclick' AND relkind = 'r' AND NOT EXISTS (SELECT FROM adclick_internal.restored_tables r WHERE r.relation = t.relation);
COMMENT ON VIEW adclick_internal.awaited_tables IS 'tables that a dump has, and whose data has not come yet';

CREATE FUNCTION adclick_internal.has_all_tables() RETURNS boolean
	LANGUAGE sql STABLE STRICT
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM adclick_internal.restored_tables WHERE relation = 'adclick_internal.state'::regclass AND by_copy)
		AND NOT EXISTS (SELECT FROM adclick_internal.awaited_tables)
		AND NOT EXISTS (SELECT FROM adclick_internal.restore WHERE tried_again);
END;
COMMENT ON FUNCTION adclick_internal.has_all_tables() IS 'whether the data of all tables of a dump has come, each by COPY: then it can be asked';

-- What the state and the runs say there is.  Not every click has a user and an address.
CREATE FUNCTION adclick_internal.find_missing() RETURNS SETOF text
	LANGUAGE sql STABLE STRICT
	SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'There is no state.' WHERE NOT EXISTS (SELECT FROM adclick_internal.state)
		AND (EXISTS (SELECT FROM adclick_internal.restored_tables) OR EXISTS (SELECT FROM adclick_internal.runs)
			OR EXISTS (SELECT FROM adclick_internal.stored_segments) OR EXISTS (SELECT FROM adclick.discarded_clicks))
	UNION ALL
	SELECT 'Restoring was tried again before its end.' WHERE EXISTS (SELECT FROM adclick_internal.restore WHERE tried_again)
	UNION ALL
	SELECT 'The dump is of a database that had not got all data of another one.' WHERE (SELECT count(*) FROM adclick_internal.restore) > 1
	UNION ALL
	SELECT format('The data of %s has not come.', string_agg(a.relation::text, ', ' ORDER BY a.relation::text)) FROM adclick_internal.awaited_tables a
	WHERE EXISTS (SELECT FROM adclick_internal.restored_tables WHERE relation = 'adclick_internal.state'::regclass AND by_copy)
	HAVING count(*) > 0
	UNION ALL
	SELECT format('Rule %s of duplicates is not there.', s.rule_id) FROM adclick_internal.state s
	WHERE s.rule_id IS NOT NULL AND NOT EXISTS (SELECT FROM adclick_internal.dedup_rules r WHERE r.rule_id = s.rule_id)
	UNION ALL
	SELECT format('There are no volumes of %s.', v.what) FROM (VALUES ('ledger', 'the ledger'), ('people', 'users and addresses')) v (shelf, what)
	WHERE EXISTS (SELECT FROM adclick_internal.state) AND v.shelf NOT IN (SELECT w.shelf FROM adclick_internal.volumes w)
	UNION ALL
	SELECT format('Runs of order %s have %s of %s clicks.', o.name, coalesce(r.clicks, 0), o.clicks)
	FROM adclick_internal.state s CROSS JOIN LATERAL (VALUES (0, 'ad', s.counted - s.minutes_dropped), (3, 'ledger', s.counted - s.dropped)) o (sort_order, name, clicks)
	LEFT JOIN (SELECT sort_order, sum(clicks) AS clicks FROM adclick_internal.runs GROUP BY 1) r USING (sort_order)
	WHERE coalesce(r.clicks, 0) <> o.clicks
	UNION ALL
	SELECT format('Days without minutes have %s of %s clicks.', d.clicks, s.minutes_dropped - s.days_dropped)
	FROM adclick_internal.state s CROSS JOIN LATERAL (SELECT coalesce(sum(u.clicks), 0) AS clicks
		FROM adclick_internal.runs r, unnest(r.minutes, r.minute_clicks) u (minute, clicks) WHERE r.sort_order = 4 AND u.minute <= s.minutes_dropped_until) d
	WHERE d.clicks <> s.minutes_dropped - s.days_dropped
	UNION ALL
	SELECT format('Runs of restored clicks have %s of %s clicks.', r.clicks, h.clicks)
	FROM (SELECT coalesce(sum(clicks), 0) AS clicks FROM adclick_internal.runs WHERE sort_order = 5) r,
		(SELECT coalesce(sum(clicks), 0) AS clicks FROM adclick.restored_hours) h
	WHERE r.clicks <> h.clicks
	UNION ALL
	SELECT format('Of %s runs %s do not have as many segments as they say.', count(*), count(*) FILTER (WHERE r.segments <> coalesce(s.segments, 0)))
	FROM adclick_internal.runs r
	LEFT JOIN (SELECT run_id, count(*) AS segments FROM adclick_internal.stored_segments GROUP BY 1) s USING (run_id)
	HAVING count(*) FILTER (WHERE r.segments <> coalesce(s.segments, 0)) > 0
	UNION ALL
	SELECT format('adclick.discarded_clicks has %s of %s clicks.', d.clicks, o.clicks)
	FROM (SELECT in_future + too_old + duplicates + undecided + forged + expired + user_limit + address_limit - discarded_dropped AS clicks FROM adclick_internal.state) o
	CROSS JOIN (SELECT count(*) AS clicks FROM adclick.discarded_clicks) d WHERE d.clicks <> o.clicks;
END;
COMMENT ON FUNCTION adclick_internal.find_missing() IS 'what has not come of the data of a dump';

-- Its REFRESH comes behind all data, from pg_dump.
CREATE MATERIALIZED VIEW adclick_internal.end_of_dump AS SELECT adclick.end_restore()::text AS done WITH NO DATA;
COMMENT ON MATERIALIZED VIEW adclick_internal.end_of_dump IS 'its REFRESH is the last statement of a dump, and calls adclick.end_restore()';
COMMENT ON COLUMN adclick_internal.end_of_dump.done IS 'nothing';

/*
 * All tables are dumped but adclick_internal.compaction and restored_tables, which have no history, and the secrets.
 */
DO $$
DECLARE
	relation regclass;
	for_users CONSTANT regclass[] := '{adclick.clicks, adclick.ads, adclick.advertiser_roles}';
	tables CONSTANT regclass[] := '{adclick.filters, adclick.most_clicked_ads, adclick.most_clicked_ads_hourly,
		adclick.most_clicked_ads_daily, adclick.differences, adclick.reconciled_hours, adclick.reconciliations, adclick.archived_volumes, adclick.restored_hours,
		adclick_internal.ledger_restored, adclick_internal.forgotten_users, adclick_internal.state, adclick_internal.dedup_rules, adclick_internal.runs, adclick_internal.deltas, adclick_internal.segments,
		adclick_internal.unpacked_clicks, adclick_internal.gaps, adclick_internal.volumes, adclick_internal.restore,
		adclick_internal.log_sources, adclick_internal.log_files, adclick.bad_lines}';
	shelves CONSTANT regclass[] := ARRAY(SELECT format('adclick_internal.%s_%s', shelf, n)::regclass FROM unnest('{ledger, people, discarded}'::text[]) shelf, generate_series(0, 31) n);
	-- sequences follow at the end: setval() of a dump would be for whoever is there
	others CONSTANT regclass[] := '{adclick_internal.end_of_dump}';
BEGIN
	FOREACH relation IN ARRAY for_users || tables || shelves || others
	LOOP
		-- the first filter is there already
		PERFORM pg_catalog.pg_extension_config_dump(relation, CASE relation WHEN 'adclick.filters'::regclass THEN 'WHERE filter_id <> 0' ELSE '' END);
	END LOOP;
	FOREACH relation IN ARRAY for_users || tables || shelves
	LOOP
		EXECUTE format('CREATE TRIGGER guard_restore BEFORE INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION adclick_internal.guard_restore()', relation);
	END LOOP;
END
$$;

--
-- HTTP: the endpoints as functions, by the conventions of PostgREST
--

CREATE SCHEMA adclick_api;
COMMENT ON SCHEMA adclick_api IS 'clicks and questions for HTTP: functions as PostgREST calls them, which answer in JSON';

/*
 * Bodies that are parsed here know their operators, whatever the search_path of the session:
 * that stays as it is, for what users gave adclick.clicks.
 */
CREATE FUNCTION adclick_api.sender(OUT ip inet, OUT country text, OUT region text, OUT device text)
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT nullif(h.said ->> 'x-real-ip', '')::inet, h.said ->> 'x-country', h.said ->> 'x-region', h.said ->> 'x-device'
	FROM (SELECT coalesce(nullif(current_setting('request.headers', true), ''), '{}')::json AS said) h;
END;
COMMENT ON FUNCTION adclick_api.sender() IS 'who sent the request, by the headers X-Real-IP, X-Country, X-Region and X-Device: the proxy has to overwrite each of them';

CREATE FUNCTION adclick_api.click(ad_id bigint, user_id bigint DEFAULT NULL, impression text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql
AS $$
DECLARE
	url text;
BEGIN
	SELECT adclick.click(ad_id, user_id, s.ip, s.country, s.region, s.device, impression) INTO url FROM adclick_api.sender() s;
	PERFORM pg_catalog.set_config('response.status', '302', true),
		pg_catalog.set_config('response.headers', pg_catalog.json_build_array(pg_catalog.json_build_object('Location', url),
			pg_catalog.json_build_object('Cache-Control', 'no-store'))::pg_catalog.text, true);
EXCEPTION
	WHEN SQLSTATE 'UA001' OR SQLSTATE 'UA003' THEN
		RAISE SQLSTATE 'PT404' USING MESSAGE = SQLERRM;
	WHEN SQLSTATE 'UA002' THEN
		RAISE SQLSTATE 'PT410' USING MESSAGE = SQLERRM;
END
$$;
COMMENT ON FUNCTION adclick_api.click(bigint, bigint, text) IS 'POST /ads/:id/click: record a click and redirect (302) to where the ad leads to; 404 or 410 if it leads nowhere';

/*
 * What the names mean, and whether values are good, is said by the question.
 */
CREATE FUNCTION adclick_api.filters(filters text) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb := '{}';
	part text;
	name text;
	value text;
BEGIN
	IF filters ~ '^\s*$' THEN
		RETURN result;
	ELSIF filters ~ '^\s*[{["]' THEN
		RETURN filters::jsonb;
	END IF;
	FOREACH part IN ARRAY string_to_array(filters, '&') LOOP
		name := lower(btrim(split_part(part, '=', 1)));
		value := btrim(substr(part, strpos(part, '=') + 1));
		IF strpos(part, '=') = 0 OR name = '' OR value = '' THEN
			RAISE EXCEPTION 'filter "%" has no name or no value', btrim(part) USING
				ERRCODE = 'invalid_parameter_value', HINT = 'Write NAME=VALUE & NAME=VALUE, or a JSON object.';
		ELSIF result ? name THEN
			RAISE EXCEPTION 'filter "%" is there twice', name USING
				ERRCODE = 'invalid_parameter_value', HINT = 'A JSON object takes lists of values.';
		END IF;
		result := result || jsonb_build_object(name,
			CASE WHEN name IN ('user_id', 'advertiser_id') AND value ~ '^-?[0-9]{1,19}$' THEN to_jsonb(value::numeric) ELSE to_jsonb(value) END);
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION adclick_api.filters(text) IS 'filters of a question, written as COUNTRY=CANADA & DEVICE=MOBILE or as JSON';

CREATE FUNCTION adclick_api.ad_click_count(ad_id bigint, "from" timestamptz, "to" timestamptz, filters text DEFAULT '') RETURNS json
	LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT json_build_object('adId', ad_id, 'adClickCount', adclick.ad_click_count_between(ad_id, "from", "to", adclick_api.filters(filters)));
END;
COMMENT ON FUNCTION adclick_api.ad_click_count(bigint, timestamptz, timestamptz, text) IS 'GET /ads/:id/adClickCount: clicks of an ad';

CREATE FUNCTION adclick_api.top_n_ads(n int, "from" timestamptz, "to" timestamptz, filters text DEFAULT '') RETURNS json
	LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT json_build_object('mostClickedAds', coalesce(json_agg(json_build_object('adId', t.ad_id, 'adClickCount', t.click_count) ORDER BY t.rank), '[]'))
	FROM adclick.top_n_ads_between(n, "from", "to", adclick_api.filters(filters)) t;
END;
COMMENT ON FUNCTION adclick_api.top_n_ads(int, timestamptz, timestamptz, text) IS 'GET /ads/topNAds: the n ads with the most clicks';

CREATE FUNCTION adclick_api.click_series(ad_id bigint, "from" timestamptz, "to" timestamptz, bucket interval, filters text DEFAULT '') RETURNS json
	LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT json_build_object('adId', ad_id, 'clickSeries', coalesce(json_agg(json_build_object('time', s."time", 'adClickCount', s.click_count) ORDER BY s."time"), '[]'))
	FROM adclick.click_series(ad_id, "from", "to", bucket, adclick_api.filters(filters)) s;
END;
COMMENT ON FUNCTION adclick_api.click_series(bigint, timestamptz, timestamptz, interval, text) IS 'GET /ads/:id/clickSeries: clicks of an ad over time';

CREATE FUNCTION adclick_api.breakdown(ad_id bigint, "from" timestamptz, "to" timestamptz, dimension text, filters text DEFAULT '') RETURNS json
	LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT json_build_object('adId', ad_id, 'dimension', dimension, 'breakdown',
		coalesce(json_agg(json_build_object('value', b.value, 'adClickCount', b.click_count) ORDER BY b.click_count DESC, b.value COLLATE "C"), '[]'))
	FROM adclick.breakdown_between(ad_id, "from", "to", dimension, adclick_api.filters(filters)) b;
END;
COMMENT ON FUNCTION adclick_api.breakdown(bigint, timestamptz, timestamptz, text, text) IS 'GET /ads/:id/breakdown: clicks of an ad by country, region or device';

CREATE FUNCTION adclick_api.clicks_per_minute("from" timestamptz, "to" timestamptz) RETURNS json
	LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT json_build_object('clicksPerMinute', coalesce((SELECT json_agg(json_build_object('time', m.click_minute, 'adClickCount', m.clicks) ORDER BY m.click_minute)
		FROM (SELECT c.click_minute, sum(c.click_count) AS clicks FROM adclick.clicks_per_minute c
			WHERE c.click_minute >= "from" AND c.click_minute < "to" GROUP BY c.click_minute) m), '[]'))
	FROM adclick_internal.require_minutes("from", "to");
END;
COMMENT ON FUNCTION adclick_api.clicks_per_minute(timestamptz, timestamptz) IS 'GET /ads/clicksPerMinute: clicks of all ads the asker knows, of each minute that has any';

--
-- Owner and privileges: by name, whatever the default privileges of who runs this
--

CREATE FUNCTION adclick_internal.make_role(name name) RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_make_role' LANGUAGE C STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.make_role(name) IS 'make a role that cannot log in, unless the server has it';

CREATE FUNCTION adclick_internal.set_owner() RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_set_owner' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.set_owner() IS 'give all tables and views of the extension to adclick_owner';

CREATE FUNCTION adclick_internal.reset_privileges() RETURNS void
	AS 'MODULE_PATHNAME', 'adclick_reset_privileges' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION adclick_internal.reset_privileges() IS 'take all rights on all objects of the extension from everybody but their owners';

-- Who the tables are of, and the workers run as: a role that may do nothing else.
SELECT adclick_internal.make_role('adclick_owner');
SELECT adclick_internal.set_owner();
SELECT adclick_internal.reset_privileges();
GRANT USAGE ON SCHEMA adclick TO adclick_owner;
GRANT USAGE ON SCHEMA adclick_internal TO adclick_owner;

-- Functions of a view run as the one who reads it.  Without USAGE on their schema nobody calls them in other ways.
GRANT EXECUTE ON FUNCTION adclick_internal.progress(), adclick_internal.workers(), adclick_internal.ledger_clicks(), adclick_internal.discarded(),
	adclick_internal.open_writer(), adclick_internal.examine(), adclick_internal.worker(boolean), adclick_internal.judge(),
	adclick_internal.own_ads() TO PUBLIC;

-- Who may ask about all ads, about users and addresses (see privileges.c), and read all that is no click.
SELECT adclick_internal.make_role('adclick_reader');
GRANT USAGE ON SCHEMA adclick TO adclick_reader;
GRANT EXECUTE ON FUNCTION
	adclick.explain_top_n(int, int, jsonb),
	adclick.explain_top_n_between(int, timestamptz, timestamptz, jsonb),
	adclick.unique_users(bigint, int, jsonb),
	adclick.unique_users_between(bigint, timestamptz, timestamptz, jsonb)
	TO adclick_reader;
GRANT USAGE ON TYPE adclick.ad_click TO adclick_reader;
GRANT SELECT ON adclick.ad_click_counts, adclick.ad_click_counts_hourly, adclick.ad_click_counts_daily, adclick.clicks_per_minute, adclick.filters, adclick.ads,
	adclick.most_clicked_ads, adclick.most_clicked_ads_hourly, adclick.most_clicked_ads_daily, adclick.differences, adclick.reconciled_hours,
	adclick.reconciliations, adclick.archived_volumes, adclick.restored_hours, adclick.status, adclick.storage, adclick.sources TO adclick_reader;
GRANT EXECUTE ON FUNCTION adclick.health() TO adclick_reader;

-- Who knows of his own ads alone (see scope.c): what he asks and reads, readers do, too.
SELECT adclick_internal.make_role('adclick_advertiser');
GRANT USAGE ON SCHEMA adclick TO adclick_advertiser;
GRANT EXECUTE ON FUNCTION
	adclick.ad_click_count(bigint, int, jsonb),
	adclick.ad_click_count_between(bigint, timestamptz, timestamptz, jsonb),
	adclick.top_n_ads(int, int, jsonb),
	adclick.top_n_ads_between(int, timestamptz, timestamptz, jsonb),
	adclick.click_series(bigint, timestamptz, timestamptz, interval, jsonb),
	adclick.breakdown(bigint, int, text, jsonb),
	adclick.breakdown_between(bigint, timestamptz, timestamptz, text, jsonb),
	adclick.advertiser_click_count(bigint, int, jsonb),
	adclick.advertiser_click_count_between(bigint, timestamptz, timestamptz, jsonb)
	TO adclick_advertiser, adclick_reader;
GRANT USAGE ON SCHEMA adclick_api TO adclick_advertiser, adclick_reader;
GRANT EXECUTE ON FUNCTION
	adclick_api.filters(text),
	adclick_api.ad_click_count(bigint, timestamptz, timestamptz, text),
	adclick_api.top_n_ads(int, timestamptz, timestamptz, text),
	adclick_api.click_series(bigint, timestamptz, timestamptz, interval, text),
	adclick_api.breakdown(bigint, timestamptz, timestamptz, text, text),
	adclick_api.clicks_per_minute(timestamptz, timestamptz), adclick_internal.require_minutes(timestamptz, timestamptz)
	TO adclick_advertiser, adclick_reader;
GRANT SELECT ON adclick.ad_click_counts, adclick.ad_click_counts_hourly, adclick.ad_click_counts_daily, adclick.clicks_per_minute, adclick.own_ads
	TO adclick_advertiser, adclick_reader;

-- Who sends clicks and shows ads.
SELECT adclick_internal.make_role('adclick_ingest');
GRANT USAGE ON SCHEMA adclick TO adclick_ingest;
GRANT INSERT ON adclick.clicks TO adclick_ingest;
GRANT EXECUTE ON FUNCTION adclick.click(bigint, bigint, inet, text, text, text, text), adclick.new_impression(bigint, bigint),
	adclick.click_id(uuid, timestamptz, bigint, bigint, text) TO adclick_ingest;
GRANT USAGE ON SCHEMA adclick_api TO adclick_ingest;
GRANT EXECUTE ON FUNCTION adclick_api.sender(), adclick_api.click(bigint, bigint, text) TO adclick_ingest;
SELECT adclick.rotate_impression_secret();

-- Who runs it, and is no superuser: readers and ingest are among what he is.
SELECT adclick_internal.make_role('adclick_admin');
GRANT adclick_reader, adclick_ingest TO adclick_admin;
GRANT INSERT, UPDATE, DELETE ON adclick.ads TO adclick_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON adclick.advertiser_roles TO adclick_admin;
GRANT SELECT ON adclick.click_log, adclick.discarded_clicks TO adclick_admin;
GRANT SELECT, DELETE ON adclick.bad_lines TO adclick_admin;
GRANT EXECUTE ON FUNCTION
	adclick.tick(), adclick.compact(), adclick.recompute(timestamptz, timestamptz), adclick.apply_retention(), adclick.check_ledger(),
	adclick.add_filter(jsonb), adclick.drop_filter(jsonb), adclick.forget_user(bigint), adclick.rotate_impression_secret(boolean),
	adclick.reconcile_hour(timestamptz, timestamptz, boolean, boolean),
	adclick.archive_volume(), adclick.restore_clicks(timestamptz, timestamptz), adclick.release_clicks(),
	adclick.add_source(text, text, text, jsonb), adclick.drop_source(text), adclick.read_sources()
	TO adclick_admin;
GRANT EXECUTE ON PROCEDURE adclick.reconcile(timestamptz, timestamptz, boolean, boolean), adclick.archive_clicks() TO adclick_admin;

-- What the REFRESH of a dump does, as the owner, and what this asks for.
GRANT EXECUTE ON FUNCTION adclick.end_restore(boolean), adclick_internal.find_missing(), adclick_internal.has_all_tables() TO adclick_owner;
REFRESH MATERIALIZED VIEW adclick_internal.end_of_dump;

-- What adclick.reconcile_hour() asks for, as the owner.
GRANT EXECUTE ON FUNCTION adclick_internal.find_differences(timestamptz, boolean),
	adclick_internal.facts(int, timestamptz, timestamptz), adclick_internal.ledger(timestamptz, timestamptz),
	adclick_internal.agreed_hours(timestamptz, timestamptz) TO adclick_owner;

-- What writes files asks for, as the owner; and what asks whether an hour is whole.
GRANT EXECUTE ON FUNCTION adclick_internal.archived_clicks(bigint), adclick_internal.is_restored(timestamptz) TO adclick_owner;

-- Who watches the server need not be one of them.
GRANT USAGE ON SCHEMA adclick TO pg_monitor;
GRANT SELECT ON adclick.status, adclick.storage, adclick.reconciled_hours, adclick.reconciliations, adclick.archived_volumes, adclick.restored_hours, adclick.sources TO pg_monitor;
GRANT EXECUTE ON FUNCTION adclick.health() TO pg_monitor;
