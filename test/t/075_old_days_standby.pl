# Retention of minutes and days, seen from a standby that says nothing of its snapshots: while the
# primary drops, new snapshots there have the answers of the log for what is kept, by whole days where minutes are gone, and refuse
# the rest as the primary does; old ones see what they saw, or end.  Promoted, it goes on.
#
# Rounds are done by hand, so that it is known what has been replayed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = adclick_node('primary', allows_streaming => 1, 'autovacuum' => 'off', 'hot_standby_feedback' => 'off', 'adclick.watermark' => "'0s'",
	'adclick.raw_retention' => "'90d'", 'timezone' => "'UTC'");
$primary->start;
adclick_database($primary, 'clicks', by_hand => 1);

sub sql { return $primary->safe_psql('clicks', $_[0]) }

sql(q{
	CREATE TABLE today AS SELECT date_trunc('day', now()) AS day;
	CREATE FUNCTION day(n int) RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT day + n * interval '1 day' FROM today $$;
	CREATE FUNCTION minutes() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(minutes_dropped_until, '1999-12-31 23:59') FROM adclick_internal.state $$;
	CREATE FUNCTION days() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(days_dropped_until, '1999-12-31 23:59') FROM adclick_internal.state $$;

	-- Clicks of whole days, counted from today.
	CREATE FUNCTION send(n int, first_day int, last_day int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT gen_random_uuid(), greatest(least(ad_id, 40), 1), day(first_day) + random() * (last_day + 1 - first_day) * interval '86399 seconds', user_id, ip, country, region, device
	FROM oracle.random_clicks(n, '1 hour')
	$$;

	-- The clicks that count: those that a tick counted, and unread ones whose minutes are there.  (Each has an id of its own.)
	CREATE VIEW clicks AS
	SELECT ad_id, date_trunc('minute', coalesce(clicked_at, received_at)) AS minute, oracle.dimension(device) AS device FROM adclick.click_log
	WHERE verdict = 'counted' OR verdict IS NULL AND coalesce(clicked_at, received_at) > minutes() + interval '59.999999 seconds';

	-- What a statement gives, or all that its error says.
	CREATE FUNCTION said(statement text) RETURNS text LANGUAGE plpgsql STABLE AS $$
	DECLARE
		answer text;
		code text;
		message text;
		detail text;
		hint text;
	BEGIN
		EXECUTE statement INTO answer;
		RETURN coalesce(answer, 'none');
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RETURN concat_ws(' / ', code, message, detail, hint);
	END
	$$;

	CREATE FUNCTION refusal() RETURNS TABLE (of_days text, of_minutes text) LANGUAGE sql STABLE AS $$
	SELECT format('55000 / clicks of this window are not all kept / Days up to %s have been dropped, as adclick.day_retention says. / Ask from %s on.', days(), days() + interval '1 minute'),
		format('55000 / clicks of this window are not all kept by minute and by hour / Minutes and hours up to %s have been dropped, as adclick.minute_retention says. / Ask from %s on, or by whole days (UTC).',
			minutes(), minutes() + interval '1 minute')
	$$;

	-- Windows between all kinds of times, and what is asked of each: how, and by the clicks of the log.
	CREATE FUNCTION questions() RETURNS TABLE (question text, expected text) LANGUAGE sql STABLE AS $$
	WITH clicks AS MATERIALIZED (TABLE clicks
	), edges AS (
		SELECT unnest(ARRAY['-infinity', day(-61), day(-60) + interval '7 hours', day(-59), day(-49), day(-49) + interval '1 minute', days() + interval '1 minute', minutes() + interval '1 minute',
			minutes() + interval '1 day', minutes(), day(-20), day(-19) - interval '90 minutes', day(1), 'infinity']) AS edge
	), windows AS (
		SELECT DISTINCT f.edge AS since, t.edge AS until FROM edges f JOIN edges t ON f.edge < t.edge
	), asked AS MATERIALIZED (
		SELECT w.*, days() > '2001-01-01' AND since <= days() AS of_days, minutes() > '2001-01-01' AND since <= minutes() AS of_minutes,
			(isfinite(since) AND date_trunc('day', since) <> since OR until <= minutes() AND minutes() > '2001-01-01' AND date_trunc('day', until) <> until) AS cuts
		FROM windows w
	)
	SELECT q.question, CASE WHEN a.of_days THEN r.of_days WHEN a.of_minutes AND (q.by_minute OR cuts) THEN r.of_minutes ELSE coalesce(q.expected, 'none') END
	FROM asked a CROSS JOIN refusal() r CROSS JOIN LATERAL (VALUES
		(false, format('SELECT adclick.ad_click_count_between(3, %L, %L)', since, until), (SELECT count(*)::text FROM clicks WHERE ad_id = 3 AND minute >= since AND minute < until)),
		(false, format($q$SELECT string_agg(ad_id || ' ' || click_count, ',' ORDER BY rank) FROM adclick.top_n_ads_between(5, %L, %L)$q$, since, until),
			(SELECT string_agg(ad_id || ' ' || n, ',' ORDER BY n DESC, ad_id) FROM (SELECT ad_id, count(*) AS n FROM clicks WHERE minute >= since AND minute < until GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5) t)),
		(false, format($q$SELECT string_agg(value || ' ' || click_count, ',' ORDER BY value COLLATE "C") FROM adclick.breakdown_between(3, %L, %L, 'device')$q$, since, until),
			(SELECT string_agg(device || ' ' || n, ',' ORDER BY device COLLATE "C") FROM (SELECT device, count(*) AS n FROM clicks WHERE ad_id = 3 AND minute >= since AND minute < until GROUP BY 1) t)),
		(false, CASE WHEN isfinite(since) AND isfinite(until) THEN format($q$SELECT string_agg("time" || ' ' || click_count, ',' ORDER BY "time") FROM adclick.click_series(3, %L, %L, '1 day') WHERE click_count > 0$q$, since, until) END,
			(SELECT string_agg(t || ' ' || n, ',' ORDER BY t) FROM (SELECT date_bin('1 day', minute, since) AS t, count(*) AS n FROM clicks WHERE ad_id = 3 AND isfinite(since) AND isfinite(until) AND minute >= since AND minute < until GROUP BY 1) s)),
		(true, CASE WHEN isfinite(since) AND isfinite(until) THEN format($q$SELECT string_agg("time" || ' ' || click_count, ',' ORDER BY "time") FROM adclick.click_series(3, %L, %L, '1 hour') WHERE click_count > 0$q$, since, until) END,
			(SELECT string_agg(t || ' ' || n, ',' ORDER BY t) FROM (SELECT date_bin('1 hour', minute, since) AS t, count(*) AS n FROM clicks WHERE ad_id = 3 AND isfinite(since) AND isfinite(until) AND minute >= since AND minute < until GROUP BY 1) s))
		) q (by_minute, question, expected) WHERE q.question IS NOT NULL
	$$;

	CREATE FUNCTION wrong_answers() RETURNS TABLE (question text, expected text, answer text) LANGUAGE sql STABLE AS $$
	SELECT * FROM (SELECT q.question, q.expected, said(q.question) AS answer FROM questions() q) a WHERE a.answer <> a.expected
	$$;

	CREATE FUNCTION wrong_views() RETURNS TABLE (what text, ad_id bigint, at timestamptz, n numeric) LANGUAGE sql STABLE AS $$
	WITH clicks AS MATERIALIZED (TABLE clicks
	), expected AS MATERIALIZED (
		SELECT 'day', ad_id, date_trunc('day', minute), count(*)::numeric FROM clicks WHERE minute > days() GROUP BY 2, 3
		UNION ALL SELECT 'hour', ad_id, date_trunc('hour', minute), count(*) FROM clicks WHERE minute > minutes() GROUP BY 2, 3
		UNION ALL SELECT 'minute', ad_id, minute, count(*) FROM clicks WHERE minute > minutes() GROUP BY 2, 3
		UNION ALL SELECT 'ad', ad_id, NULL, count(*) FROM clicks WHERE minute > days() AND ad_id = 3 GROUP BY 2
	), found AS MATERIALIZED (
		SELECT 'day', ad_id, click_day, sum(click_count) FROM adclick.ad_click_counts_daily GROUP BY 2, 3
		UNION ALL SELECT 'hour', ad_id, click_hour, sum(click_count) FROM adclick.ad_click_counts_hourly GROUP BY 2, 3
		UNION ALL SELECT 'minute', ad_id, click_minute, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 2, 3
		UNION ALL SELECT 'ad', ad_id, NULL, sum(click_count) FROM adclick.ad_click_counts_daily WHERE ad_id = 3 GROUP BY 2
	)
	(TABLE expected EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE expected)
	$$;
});

my $HORIZON = 'SELECT minutes(), days()';
# All that there is to be asked, and what the answers are.
my $ALL = q{SELECT md5(string_agg(question || ' ' || said(question), ',' ORDER BY question)) || (SELECT md5(string_agg(v::text, ',' ORDER BY v::text)) FROM (SELECT click_day, ad_id, sum(click_count) FROM adclick.ad_click_counts_daily GROUP BY 1, 2
	UNION ALL SELECT click_minute, ad_id, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1, 2) v) FROM questions()};

sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($server, $name) = @_;

	is($server->safe_psql('clicks', 'SELECT * FROM wrong_answers() LIMIT 3'), '', "$name: answers and refusals");
	is($server->safe_psql('clicks', 'SELECT * FROM wrong_views() LIMIT 3'), '', "$name: views");
	is($server->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books are balanced");
	return;
}

# A round of everything but retention; minutes are closed by the time of clicks, so one of now comes first.
sub pack_all
{
	my ($server) = @_;

	$server->safe_psql('clicks', q{SELECT adclick.tick(); INSERT INTO adclick.clicks (click_id, ad_id) SELECT gen_random_uuid(), 1});
	$server->safe_psql('clicks', 'SELECT adclick.tick()');
	$server->safe_psql('clicks', 'SELECT oracle.compact()');
	return;
}

sub apply
{
	my ($server, %settings) = @_;

	set_conf($server, %settings);
	$server->poll_query_until('clicks', "SELECT current_setting('$_') = $settings{$_}") or die "$_ is not set" for sort keys %settings;
	$server->safe_psql('clicks', 'SELECT adclick.tick()');	# what is valid is judged by the settings of the last one
	return $server->safe_psql('clicks', q{SELECT minutes_dropped || ' ' || days_dropped || coalesce(' ' || waits, '') FROM adclick.apply_retention()});
}

# Days in groups, far from each other, so that what is due does not depend on the hour.
sql('SELECT send(500, -60, -59), send(300, -50, -49), send(300, -20, -19), send(200, -1, -1)');
pack_all($primary);
sql('SELECT send(60, -20, -19), adclick.tick()');	# deltas, and a tail
sql('SELECT send(40, -20, -19)');

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1");	# who reads is waited for
$standby->start;

sub replayed
{
	my ($name) = @_;

	$primary->wait_for_catchup($standby);
	is($standby->safe_psql('clicks', $HORIZON), sql($HORIZON), "$name: how far the standby knows that is");
	right_ok($standby, $name);
	return;
}

# Sessions of the standby with snapshots of their own, and what they see.
my @readers;

sub begin_reader
{
	my ($name) = @_;
	my $reader = $standby->background_psql('clicks', on_error_stop => 0);

	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	push @readers, { name => $name, session => $reader, saw => $reader->query_safe($ALL) };
	return;
}

sub readers_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	is($_->{session}->query_safe($ALL), $_->{saw}, "$name: a snapshot from $_->{name} sees what it saw") for @readers;
	return;
}

# A snapshot of the primary keeps rows there that the standby's may see, until it ends.
my $keeper = $primary->background_psql('clicks');
$keeper->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
replayed('nothing dropped');
begin_reader('before all');

# It is in the middle of a view.
my $cursor = $standby->background_psql('clicks');
my $rows = $standby->safe_psql('clicks', 'SELECT count(*) FROM adclick.clicks_per_minute');
$cursor->query_safe('BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT * FROM adclick.clicks_per_minute; MOVE 10 FROM c');

# Minutes go, in a transaction that is open while all up to it is replayed.
is(apply($primary, 'adclick.raw_retention' => "'30d'", 'adclick.minute_retention' => "'55d'"), '2 0', 'minutes of the first days go');
replayed('minutes dropped');
readers_ok('minutes dropped');
begin_reader('between two drops');

my $dropper = $primary->background_psql('clicks');
set_conf($primary, 'adclick.minute_retention' => "'40d'");
$primary->poll_query_until('clicks', q{SELECT current_setting('adclick.minute_retention') = '40d'}) or die 'not set';
is($dropper->query_safe(q{BEGIN; SELECT minutes_dropped FROM adclick.apply_retention()}), '2', 'others are about to go');
sql('SELECT pg_switch_wal()');
replayed('an open transaction');
readers_ok('an open transaction');
$dropper->query_safe('ROLLBACK');
replayed('rolled back');
$dropper->query_safe(q{BEGIN; SELECT FROM adclick.apply_retention(); COMMIT});
$dropper->quit;
replayed('committed');
readers_ok('committed');

# Late clicks of what has minutes, packed; of what has none.
sql('SELECT send(50, -20, -19)');
$primary->wait_for_catchup($standby);
right_ok($standby, 'late clicks in the tail');
my $counted = sql(q{SELECT counted FROM adclick.tick()});
cmp_ok($counted, '>=', 50, 'late clicks count');
sql(q{INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT gen_random_uuid(), 3, day(-60) + i * interval '1 hour' FROM generate_series(1, 30) i});
$primary->wait_for_catchup($standby);
is($standby->safe_psql('clicks', q{SELECT count(*) FROM adclick.clicks}), '30', 'clicks of days without minutes wait');
is($standby->safe_psql('clicks', q{SELECT adclick.ad_click_count_between(3, '-infinity', 'infinity')}), sql(q{SELECT count(*) FROM adclick.click_log WHERE verdict = 'counted' AND ad_id = 3}), 'and do not count');
is(sql('SELECT counted, discarded FROM adclick.tick()'), '0|30', 'a tick agrees');
pack_all($primary);
replayed('packed');
readers_ok('packed');

# Days go.
is(apply($primary, 'adclick.day_retention' => "'55d'"), '0 2', 'the first days go');
replayed('days dropped');
readers_ok('days dropped');
is($cursor->query_safe('MOVE ALL FROM c; SELECT 1'), '1', 'the cursor goes on');
is($cursor->query_safe(q{COMMIT; SELECT 1}), '1', 'to its end');
$cursor->quit;

$keeper->quit;

# A standby that is killed begins anew from its last restart point.
sql('CHECKPOINT');
$primary->wait_for_catchup($standby);
eval { $_->{session}->quit } for @readers;
@readers = ();
$standby->stop('immediate');
$standby->start;
replayed('killed');

# What is vacuumed away ends the snapshots that see it, and gives them no other answer: these are not waited for.
begin_reader('before VACUUM');
set_conf($standby, 'max_standby_streaming_delay' => "'3s'");
is(apply($primary, 'adclick.minute_retention' => "'31d'", 'adclick.raw_retention' => "'25d'", 'adclick.day_retention' => "'45d'"), '0 2', 'more days go');
sql('VACUUM');
$primary->wait_for_catchup($standby);
set_conf($standby, 'max_standby_streaming_delay' => -1);
replayed('vacuumed');
my $reader = $readers[0]->{session};
my $said = eval { my $got = $reader->query($ALL); $reader->{stderr} || $got } // $@;
like($said, qr/conflict with recovery|connection|ended prematurely|^\Q$readers[0]->{saw}\E$/, 'a snapshot from before');
eval { $reader->quit };

# Promoted, it goes on: clicks, late ones, days that go, and the books.
sql('SELECT send(30, -20, -19)');
$primary->wait_for_catchup($standby);
my $horizon = sql($HORIZON);
$primary->stop('immediate');
$standby->promote;
$standby->poll_query_until('clicks', 'SELECT NOT pg_is_in_recovery()') or die 'it is not promoted';
is($standby->safe_psql('clicks', $HORIZON), $horizon, 'promoted: how far that is');
right_ok($standby, 'promoted');
cmp_ok($standby->safe_psql('clicks', 'SELECT counted FROM adclick.tick()'), '>=', 30, 'promoted: the tail counts');
$standby->safe_psql('clicks', q{INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT gen_random_uuid(), 3, day(-49) + i * interval '1 hour' FROM generate_series(1, 20) i});
is($standby->safe_psql('clicks', 'SELECT counted, discarded FROM adclick.tick()'), '0|20', 'promoted: nothing comes to days that have gone');
pack_all($standby);
right_ok($standby, 'promoted, packed');
is(apply($standby, 'adclick.raw_retention' => "'10d'", 'adclick.minute_retention' => "'15d'", 'adclick.day_retention' => "'45d'"), '2 0', 'promoted: more minutes go');
right_ok($standby, 'promoted, dropped');
is(apply($standby, 'adclick.day_retention' => "'15d'"), '0 2', 'promoted: more days go');
right_ok($standby, 'promoted, days dropped');
$standby->safe_psql('clicks', q{CALL adclick.reconcile('-infinity', 'infinity')});
is($standby->safe_psql('clicks', 'SELECT count(*) FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL'), '0', 'promoted: no differences');

# The workers take over.
$standby->safe_psql('postgres', 'ALTER DATABASE clicks RESET adclick.workers');
workers_ready($standby, 'clicks');
send_clicks($standby, 'clicks', 300, '1 hour');
drained($standby, 'clicks');
right_ok($standby, 'promoted, with workers');
is($standby->safe_psql('clicks', 'SELECT health FROM adclick.health()'), 'ok', 'all is well');
$standby->stop;

done_testing();
