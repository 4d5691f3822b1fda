-- The first test makes the database ready for the others, of isolation too: no workers, so that
-- every round is done by hand, and the oracle.
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET adclick.workers = off', current_database()); END $$;
-- What it looks at comes and goes with each test.
SET check_function_bodies = off;
\set ECHO none
\i test/t/lib/oracle.sql
