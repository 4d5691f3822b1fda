-- The peer: the same job in plain SQL, as a careful engineer would write it
-- without an extension.  Run by bench/run on a database of its own.
--
-- A log takes the clicks; peer.roll_up() takes them off it in batches of one
-- transaction each, drops duplicates by a unique index on (click_id, bucket)
-- and adds the rest to a roll-up table by ad, minute and filter.
--
-- It is given every advantage: one worker, clicks read in the order of a
-- sequence (which loses clicks that commit late; adclick does not), only the
-- keys kept for dedup, room on its pages for updates in place, no validation,
-- no audit of duplicates, no crash recovery of its own.

CREATE SCHEMA peer;

CREATE TABLE peer.clicks (
    n          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    click_id   uuid,
    ad_id      bigint,
    clicked_at timestamptz,
    user_id    bigint,
    ip         inet,
    country    text,
    region     text,
    device     text
);

CREATE TABLE peer.filters (
    filter_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    country   text NOT NULL,
    region    text NOT NULL,
    device    text NOT NULL,
    UNIQUE (country, region, device)
);

CREATE TABLE peer.seen (
    click_id uuid        NOT NULL,
    bucket   timestamptz NOT NULL
);

CREATE TABLE peer.ad_click_counts (
    ad_id        bigint      NOT NULL,
    click_minute timestamptz NOT NULL,
    filter_id    integer     NOT NULL,
    click_count  bigint      NOT NULL
) WITH (fillfactor = 90);

-- What is in the log so far, in one go, before the indexes are made: so that
-- the measured part starts with tables and indexes of a realistic size.
CREATE PROCEDURE peer.preload()
LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO peer.filters (country, region, device)
    SELECT DISTINCT country, region, device FROM peer.clicks;

    INSERT INTO peer.seen
    SELECT DISTINCT click_id, date_bin('10 minutes', clicked_at, 'epoch')
    FROM peer.clicks;

    INSERT INTO peer.ad_click_counts
    SELECT c.ad_id, date_trunc('minute', c.clicked_at), f.filter_id, count(*)
    FROM (SELECT DISTINCT ON (click_id) * FROM peer.clicks) c
    JOIN peer.filters f USING (country, region, device)
    GROUP BY 1, 2, 3;
END;

CREATE PROCEDURE peer.make_indexes()
LANGUAGE plpgsql AS $$
BEGIN
    CREATE UNIQUE INDEX seen_key ON peer.seen (click_id, bucket);
    CREATE UNIQUE INDEX ad_click_counts_key
        ON peer.ad_click_counts (ad_id, click_minute, filter_id);
END $$;

-- Roll up the clicks with n in [first, last].
CREATE PROCEDURE peer.roll_up(first bigint, last bigint, batch_size int DEFAULT 10000)
LANGUAGE plpgsql AS $$
DECLARE
    low bigint := first;
BEGIN
    WHILE low <= last LOOP
        INSERT INTO peer.filters (country, region, device)
        SELECT DISTINCT country, region, device
        FROM peer.clicks
        WHERE n BETWEEN low AND least(low + batch_size - 1, last)
        EXCEPT
        SELECT country, region, device FROM peer.filters
        ON CONFLICT DO NOTHING;

        WITH batch AS MATERIALIZED (
            SELECT DISTINCT ON (click_id)
                   click_id, ad_id, clicked_at, country, region, device
            FROM peer.clicks
            WHERE n BETWEEN low AND least(low + batch_size - 1, last)
        ), fresh AS (
            INSERT INTO peer.seen
            SELECT click_id, date_bin('10 minutes', clicked_at, 'epoch')
            FROM batch
            ON CONFLICT (click_id, bucket) DO NOTHING
            RETURNING click_id
        )
        INSERT INTO peer.ad_click_counts AS counts
        SELECT b.ad_id, date_trunc('minute', b.clicked_at), f.filter_id, count(*)
        FROM fresh
        JOIN batch b USING (click_id)
        JOIN peer.filters f USING (country, region, device)
        GROUP BY 1, 2, 3
        ON CONFLICT (ad_id, click_minute, filter_id)
        DO UPDATE SET click_count = counts.click_count + excluded.click_count;
        COMMIT;

        low := low + batch_size;
    END LOOP;
END $$;
