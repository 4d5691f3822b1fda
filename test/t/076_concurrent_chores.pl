# Retention, archive, restoring, forgetting and counting anew, by several sessions at once, in any
# order, while days pass (lib/AdclickClock.pm): all end, and none by a deadlock unless transactions do two of them.  What a deadlock, or
# the lock timeout of retention, has ended can be done again.  Afterwards counts and books are those of what was sent.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickClock qw(clocked pass_time);
use AdclickTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($HOUR, $SESSIONS, $STATEMENTS) = (3600, 4, 10);

my $archive = PostgreSQL::Test::Utils::tempdir();
my $node = clocked(adclick_node('main', 'autovacuum' => 'off', 'adclick.watermark' => "'0s'", 'deadlock_timeout' => "'50ms'", 'timezone' => "'UTC'",
	'adclick.raw_retention' => "'1h'", 'adclick.ledger_retention' => "'4d'", 'adclick.user_and_ip_retention' => "'2d'",
	'adclick.minute_retention' => "'3d'", 'adclick.day_retention' => "'5d'", 'adclick.archive_directory' => "'$archive'"));
$node->start;
adclick_database($node, 'clicks', by_hand => 1);

sub sql { return $node->safe_psql('clicks', $_[0]) }

sql(q{
	-- All that was sent: each click has an id of its own, and counts.
	CREATE TABLE sent (click_id uuid, ad_id bigint, clicked_at timestamptz);
	CREATE FUNCTION send(n int) RETURNS void LANGUAGE sql AS $$
	WITH c AS (
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
		SELECT gen_random_uuid(), 1 + i % 30, now() - random() * interval '50 minutes', 1 + i % 7, ('10.0.0.' || i % 50)::inet, repeat('x', i % 70), 'r' || i % 3, 'd' || i % 3
		FROM generate_series(1, n) i RETURNING click_id, ad_id, clicked_at
	)
	INSERT INTO sent TABLE c
	$$;

	-- How far minutes and days were dropped.
	CREATE FUNCTION minutes() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(minutes_dropped_until, '-infinity') FROM adclick_internal.state $$;
	CREATE FUNCTION days() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(days_dropped_until, '-infinity') FROM adclick_internal.state $$;

	CREATE FUNCTION wrong_counts() RETURNS TABLE (what text, ad_id bigint, at timestamptz, n numeric) LANGUAGE sql STABLE AS $$
	WITH expected AS MATERIALIZED (
		SELECT 'day', ad_id, date_trunc('day', clicked_at), count(*)::numeric FROM sent WHERE clicked_at >= days() + interval '1 minute' GROUP BY 2, 3
		UNION ALL SELECT 'minute', ad_id, date_trunc('minute', clicked_at), count(*) FROM sent WHERE clicked_at >= minutes() + interval '1 minute' GROUP BY 2, 3
	), found AS MATERIALIZED (
		SELECT 'day', ad_id, click_day, sum(click_count) FROM adclick.ad_click_counts_daily GROUP BY 2, 3
		UNION ALL SELECT 'minute', ad_id, click_minute, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 2, 3
	)
	(TABLE expected EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE expected)
	$$;

	-- Statements, of which each session does some, and what became of them.
	CREATE FUNCTION statement(pairs boolean) RETURNS text LANGUAGE sql VOLATILE AS $$
	WITH dice AS MATERIALIZED (
		SELECT floor(random() * CASE WHEN pairs THEN 22 ELSE 15 END)::int AS kind, 1 + floor(random() * 7)::int AS user_id, 1 + floor(random() * 5)::int AS hours,
			date_trunc('hour', now()) - floor(random() * 120) * interval '1 hour' AS hour
	), parts AS (
		SELECT kind, 'SELECT adclick.apply_retention()' AS retention, format('SELECT adclick.forget_user(%s)', user_id) AS forget,
			format('SELECT adclick.recompute(%L, %L)', hour, hour + hours * interval '1 hour') AS recompute, 'SELECT adclick.archive_volume()' AS archive,
			$q$SELECT adclick.restore_clicks('-infinity', 'infinity')$q$ AS restore, 'SELECT adclick.release_clicks()' AS release
		FROM dice
	)
	SELECT CASE WHEN kind < 4 THEN retention WHEN kind < 6 THEN forget WHEN kind < 8 THEN recompute WHEN kind < 10 THEN archive WHEN kind < 12 THEN restore
		WHEN kind = 12 THEN release WHEN kind = 13 THEN 'SELECT adclick.tick()' WHEN kind = 14 THEN 'SELECT adclick.compact()'
		WHEN kind = 15 THEN retention || ';' || restore WHEN kind = 16 THEN restore || ';' || forget WHEN kind = 17 THEN forget || ';' || archive
		WHEN kind = 18 THEN archive || ';' || retention WHEN kind = 19 THEN recompute || ';' || restore WHEN kind = 20 THEN restore || ';' || recompute
		ELSE 'SELECT adclick.tick();' || recompute END
	FROM parts
	$$;
	CREATE TABLE done (session int, number int, attempt int, statement text, code text, message text, PRIMARY KEY (session, number, attempt));
	CREATE PROCEDURE work(session int, n int, pairs boolean) LANGUAGE plpgsql AS $$
	DECLARE
		what text;
		code text;
		message text;
	BEGIN
		FOR i IN 1 .. n LOOP
			what := statement(pairs);
			FOR attempt IN 1 .. 100 LOOP
				code := 'done';
				BEGIN
					EXECUTE what;
				EXCEPTION WHEN OTHERS THEN
					GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
				END;
				INSERT INTO done VALUES (session, i, attempt, what, code, message);
				COMMIT;
				EXIT WHEN code NOT IN ('40P01', '55P03');
			END LOOP;
		END LOOP;
	END
	$$;
});

# Some hours of clicks, packed and reconciled.
sub half_a_day
{
	sql('SELECT send(200)');
	sql('SELECT adclick.tick()');
	pass_time(12 * $HOUR);
	sql('SELECT send(50)');
	sql('SELECT adclick.tick()');
	sql('SELECT oracle.compact()');
	return;
}

sub reconcile { return sql(q{CALL adclick.reconcile('-infinity', 'infinity', only_changed => true)}) }

sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	is(sql('SELECT * FROM wrong_counts() LIMIT 5'), '', "$name: counts are those of what was sent");
	is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books are balanced");
	is(sql('SELECT * FROM adclick_internal.find_missing() LIMIT 5'), '', "$name: nothing is missing");
	is(sql(q{SELECT count(*) FROM (SELECT run_id FROM adclick_internal.segments UNION SELECT run_id FROM adclick_internal.deltas UNION SELECT run_id FROM adclick_internal.ledger_restored) s
		WHERE run_id NOT IN (SELECT run_id FROM adclick_internal.runs)}), '0', "$name: no segment without a run");
	is(sql(q{SELECT count(*) FROM adclick.archived_volumes WHERE dropped_at IS NOT NULL AND file IS NULL}), '0', "$name: nothing was dropped that is in no file");
	return;
}

# From the sixth day on all of it goes.
for (1 .. 10)
{
	half_a_day();
	reconcile();
	sql('CALL adclick.archive_clicks()');
	sql('SELECT adclick.apply_retention()');
}
is(sql('SELECT minutes() > days()'), 't', 'some minutes have gone');
right_ok('before');

my $seed = $ENV{ADCLICK_TEST_SEED} // int rand 1_000_000;
diag("seed $seed");
for my $round (1 .. 5)
{
	my $pairs = $round > 2;
	my @sessions;

	half_a_day();
	sql('TRUNCATE done');
	for my $session (1 .. $SESSIONS)
	{
		push @sessions, IPC::Run::start([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('clicks'), '-c', 'SET client_min_messages = error',
			'-c', sprintf('SELECT setseed(%s)', (($seed * 31 + $round * 7 + $session) % 1000) / 1000), '-c', "CALL work($session, $STATEMENTS, " . ($pairs ? 'true' : 'false') . ')' ],
			'>', '/dev/null', '2>', \my $errors, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	}
	pass_time(3 * $HOUR);
	reconcile();
	ok((eval { $_->finish } // 0), "round $round: a session ends") || diag(sql(q{SELECT pid, wait_event, pg_blocking_pids(pid), query FROM pg_stat_activity WHERE datname = 'clicks'})) for @sessions;
	is(sql('SELECT count(DISTINCT (session, number)) FROM done'), $SESSIONS * $STATEMENTS, "round $round: all were done");
	is(sql(q{SELECT DISTINCT code, message, statement FROM (SELECT DISTINCT ON (session, number) * FROM done ORDER BY session, number, attempt DESC) d
		WHERE code <> 'done' AND message NOT IN ('the ledger of adclick no longer has all clicks of these hours', 'adclick no longer has the minutes of these hours', 'clicks of the user may be in a dropped volume that is in use')}),
		'', "round $round: in the end without an error, or with one that says what has gone");
	is(sql(q{SELECT * FROM done WHERE code = '40P01'}), '', "round $round: no deadlock") || diag(slurp_file($node->logfile) =~ /(deadlock detected.*?STATEMENT: [^\n]*)/sg) unless $pairs;
	note(sql(q{SELECT code, count(*), string_agg(DISTINCT CASE WHEN code IN ('40P01', '55P03') THEN regexp_replace(statement, '\(.*?\)', '', 'g') END, ', ') FROM done GROUP BY 1 ORDER BY 1}));
	right_ok("round $round");
}

# All of it once more, by one session: each click that was sent is in the log again, once, and names nobody who was forgotten.
# (What was counted anew waits for a compaction; twice, as a day may end in between.)
my $waits;
for (1 .. 2)
{
	half_a_day();
	reconcile();
	sql('CALL adclick.archive_clicks()');
	$waits = sql('SELECT waits FROM adclick.apply_retention()');
	last if $waits eq '';
}
is($waits, '', 'nothing waits');
sql('SELECT adclick.apply_retention()');
is(sql(q{SELECT dropped_until > '-infinity' FROM adclick_internal.state}), 't', 'clicks of the ledger were dropped');
sql('SELECT adclick.forget_user(3)');
sql(q{SELECT adclick.restore_clicks('-infinity', 'infinity')});
is(sql(q{SELECT count(*) FROM ((SELECT click_id, ad_id, clicked_at FROM adclick.click_log EXCEPT ALL TABLE sent) UNION ALL (TABLE sent EXCEPT ALL SELECT click_id, ad_id, clicked_at FROM adclick.click_log)) d}),
	'0', 'the log has what was sent');
is(sql(q{SELECT count(*) FROM adclick.click_log WHERE user_id = 3 UNION ALL SELECT count(*) FROM adclick_internal.facts(1) WHERE user_id = 3}), "0\n0", 'nobody who was forgotten is named');
sql(q{CALL adclick.reconcile('-infinity', 'infinity')});
is(sql('SELECT count(*) FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL'), '0', 'no differences');
right_ok('in the end');
is(sql('SELECT health FROM adclick.health()'), 'ok', 'all is well');
$node->stop;

done_testing();
