-- What the gateway needs in the database, once: psql -f setup.sql, as a superuser. Run again, it changes nothing.

-- Who the gateway is: it sends clicks and reads where ads lead to, and it may become the roles of tokens,
-- each of which is granted to it: GRANT shoes TO adclick_gateway. (NOINHERIT: it has no right of theirs itself.)
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'adclick_gateway') THEN
		CREATE ROLE adclick_gateway LOGIN NOINHERIT CONNECTION LIMIT 50; -- of three gateways; also when it hangs
	END IF;
END $$;
GRANT USAGE ON SCHEMA adclick TO adclick_gateway;
GRANT INSERT ON adclick.clicks TO adclick_gateway;
GRANT EXECUTE ON FUNCTION adclick.click_id(uuid, timestamptz, bigint, bigint, text) TO adclick_gateway;
GRANT SELECT (ad_id, redirect_url, active) ON adclick.ads TO adclick_gateway;

-- What is said of ads that have changed: their ids, or that any may have. New ones need not be told: the gateway
-- keeps none that it has not found.
CREATE SCHEMA IF NOT EXISTS adclick_gateway;
CREATE OR REPLACE FUNCTION adclick_gateway.notify_ads() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF tg_op = 'TRUNCATE' THEN
		PERFORM pg_notify('adclick_ads', 'all');
	ELSIF (SELECT count(*) FROM (SELECT FROM changed LIMIT 101) c) > 100 THEN
		PERFORM pg_notify('adclick_ads', 'all');
	ELSE
		PERFORM pg_notify('adclick_ads', ad_id::text) FROM changed;
	END IF;
	RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER adclick_gateway_update AFTER UPDATE ON adclick.ads REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION adclick_gateway.notify_ads();
CREATE OR REPLACE TRIGGER adclick_gateway_delete AFTER DELETE ON adclick.ads REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION adclick_gateway.notify_ads();
CREATE OR REPLACE TRIGGER adclick_gateway_truncate AFTER TRUNCATE ON adclick.ads FOR EACH STATEMENT EXECUTE FUNCTION adclick_gateway.notify_ads();
