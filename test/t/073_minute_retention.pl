# Retention of minutes and days by the workers, as time goes, which the test lets pass
# (lib/AdclickRetention.pm): a day an hour, of which late clicks are folded in before, and none while
# the clock may be wrong.  Questions by whole days have the answers of the log all the time: through crashes, also in
# the middle of a drop, on a standby, after a dump, and for snapshots from before.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickRetention;
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = retention_node('people', 'people', 'adclick.raw_retention' => "'2d'", 'adclick.minute_retention' => "'4d'", 'adclick.day_retention' => "'7d'");
sub sql { return $node->safe_psql('clicks', $_[0]) }

$node->append_conf('postgresql.conf', "timezone = 'UTC'");
$node->reload;
sql(q{
	CREATE FUNCTION minutes() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(minutes_dropped_until, '1999-12-31 23:59') FROM adclick_internal.state $$;
	CREATE FUNCTION days() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(days_dropped_until, '1999-12-31 23:59') FROM adclick_internal.state $$;

	-- How many days of the log should have been dropped by now, and were not.
	CREATE FUNCTION due() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FILTER (WHERE day > minutes() AND day + interval '5 days' <= clock_timestamp()) + count(*) FILTER (WHERE day > days() AND day + interval '8 days' <= clock_timestamp())
	FROM (SELECT DISTINCT date_trunc('day', clicked_at) AS day FROM adclick.click_log WHERE verdict = 'counted') d
	$$;

	-- What views have of each ad and day, or minute, that is kept, and is not what the log has; and answers by days.
	CREATE FUNCTION wrong() RETURNS TABLE (what text, ad_id bigint, at timestamptz, n numeric) LANGUAGE sql STABLE AS $$
	WITH clicks AS MATERIALIZED (SELECT ad_id, minute FROM oracle.clicks() WHERE minute > days()
	), expected AS MATERIALIZED (
		SELECT 'day', ad_id, date_trunc('day', minute), count(*)::numeric FROM clicks GROUP BY 2, 3
		UNION ALL SELECT 'minute', ad_id, minute, count(*) FROM clicks WHERE minute > minutes() GROUP BY 2, 3
		UNION ALL SELECT 'answer', ad_id, '2000-01-01', count(*) FROM clicks GROUP BY 2
		UNION ALL (SELECT 'top', ad_id, '2000-01-01', count(*) FROM clicks GROUP BY 2 ORDER BY 4 DESC, 2 LIMIT 10)
	), found AS MATERIALIZED (
		SELECT 'day', ad_id, click_day, sum(click_count) FROM adclick.ad_click_counts_daily GROUP BY 2, 3
		UNION ALL SELECT 'minute', ad_id, click_minute, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 2, 3
		UNION ALL SELECT 'answer', ad_id, '2000-01-01', adclick.ad_click_count_between(ad_id, days() + interval '1 minute', 'infinity') FROM (SELECT DISTINCT ad_id FROM clicks) a
		UNION ALL SELECT 'top', ad_id, '2000-01-01', click_count FROM adclick.top_n_ads_between(10, days() + interval '1 minute', 'infinity')
	)
	(TABLE expected EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE expected)
	$$;
});

my $MINUTES = 'SELECT minutes()';
my $DAYS = 'SELECT days()';

sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($server, $name, $database) = @_;

	$database //= 'clicks';
	is($server->safe_psql($database, 'SELECT * FROM wrong() LIMIT 9'), '', "$name: views and answers");
	is($server->safe_psql($database, 'SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books are balanced");
	is($server->safe_psql($database, q{SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND first_minute <= minutes() OR sort_order = 4 AND first_minute <= days()}), '0', "$name: nothing is left");
	is($server->safe_psql($database, q{SELECT count(*) FROM adclick_internal.segments s WHERE NOT EXISTS (SELECT FROM adclick_internal.runs r WHERE r.run_id = s.run_id)}), '0', "$name: no segment without a run");
	return if $server->safe_psql($database, q{SELECT minutes() < '2001-01-01'}) eq 't';
	my (undef, undef, $said) = $server->psql($database, q{SELECT adclick.ad_click_count_between(1, minutes() - interval '1 hour', 'infinity')});
	like($said, qr/clicks of this window are not all kept.* up to .* have been dropped, as adclick.(minute|day)_retention says/s, "$name: minutes are refused");
	return;
}

# The workers do all there is, an hour after the other.
sub drop_all_due
{
	for (1 .. 20)
	{
		last if sql('SELECT due()') eq '0';
		pass_time(61 * $MINUTE);
		retention_round();
	}
	is(sql('SELECT due()'), '0', 'no day is due any more');
	return;
}

# A click of the first day comes a day later, for an hour that has many: it waits in a delta.
my $ALL = 'SELECT md5(string_agg(f::text, $$,$$ ORDER BY f::text)) FROM (SELECT * FROM adclick.clicks_per_minute UNION ALL SELECT click_day, ad_id, advertiser_id, filter_id::text, NULL, NULL, click_count FROM adclick.ad_click_counts_daily) f';
sql('UPDATE people SET volume = 5');	# tables 0 to 4 are free, see retention_round
pass_time(61 * $MINUTE);
# the first clicks, of an hour, are of one day, and it is not over when they have been sent
pass_time(180 * $MINUTE) if sql(q{SELECT extract(hour FROM now()) IN (23, 0, 1)}) eq 't';
sql(q{INSERT INTO adclick.clicks (click_id, ad_id) SELECT gen_random_uuid(), i FROM generate_series(1, 40) i});
for my $day (0 .. 3)
{
	send_clicks($node, 'clicks', 300, '1 hour');
	sql(q{INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT gen_random_uuid(), 3, minute FROM (SELECT date_trunc('minute', min(clicked_at)) AS minute FROM adclick.click_log WHERE verdict = 'counted' AND ad_id = 3 AND clicked_at IS NOT NULL) m}) if $day == 1;
	drained($node, 'clicks');
	pass_time($DAY);
	becomes('SELECT bool_or(sort_order = 0 AND NOT is_delta AND first_minute < last_minute) FROM adclick_internal.runs', 'that hours are packed');
}
cmp_ok(sql(q{SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta AND first_minute < now() - interval '3 days'}), '>', 0, 'a late click waits in a delta');
right_ok($node, 'nothing dropped');
is(sql($MINUTES), '1999-12-31 23:59:00+00', 'no day is due');

# A standby, and snapshots here and there from before.
my $standby = retention_standby();

my $before = sql($ALL);
my $reader = begin_reader($node);
my $far_reader = begin_reader($standby);

# Somebody sets the clock: nothing goes until it has gone right for an hour.
set_clock(20 * $DAY);
retention_round();
is(sql($MINUTES), '1999-12-31 23:59:00+00', 'the clock was set: no day goes');
is(sql('SELECT due() > 0'), 't', 'although some seem to be due');
set_clock(-20 * $DAY);
retention_round();
pass_time(61 * $MINUTE);

# Days go one after the other.
pass_time(2 * $DAY);
becomes("SELECT minutes() > '2001-01-01'", 'that a day is dropped');
my $dropped = sql('SELECT minutes(), days()');
retention_round();
is(sql('SELECT minutes(), days()'), $dropped, 'and no other before the next hour');
drop_all_due();
cmp_ok(sql(q{SELECT minutes() > '2001-01-01'}), 'eq', 't', 'minutes were dropped');
is(sql($DAYS), '1999-12-31 23:59:00+00', 'days are there');
is(sql(q{SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta AND first_minute <= minutes()}), '0', 'the late click was folded in');
right_ok($node, 'minutes dropped');
is($reader->query_safe($ALL), $before, 'a snapshot from before sees what it saw');
$reader->quit;

# On the standby.
$node->wait_for_catchup($standby);
right_ok($standby, 'the standby');
is($standby->safe_psql('clicks', $MINUTES), sql($MINUTES), 'it knows how far that is');
my $said = eval { my $got = $far_reader->query($ALL); $far_reader->{stderr} || $got } // $@;
like($said, qr/conflict with recovery|connection|ended prematurely|^$before$/, 'a snapshot from before, there');
eval { $far_reader->quit };

# After a dump, all is as it was, and old clicks stay too old.
command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('clicks'), '-f', $node->basedir . '/dump' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE again');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('again'), $node->basedir . '/dump' ], 'pg_restore');
workers_ready($node, 'again');
right_ok($node, 'restored', 'again');
is($node->safe_psql('again', $MINUTES), sql($MINUTES), 'restored: how far that is');
$node->safe_psql('postgres', 'ALTER DATABASE again SET adclick.workers = off');
$node->safe_psql('postgres', 'DROP DATABASE again WITH (FORCE)');

# Killed in the middle: its runs are deleted, its lists are not, as somebody has one of them.
send_clicks($node, 'clicks', 300, '1 hour');
drained($node, 'clicks');
my $was = sql($MINUTES);
my $holder = $node->background_psql('clicks');
$holder->query_safe('BEGIN; SELECT count(*) FROM (SELECT FROM adclick.most_clicked_ads_hourly FOR UPDATE) l');
pass_time($DAY);
$node->poll_query_until('clicks', q{SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = (SELECT compactor_pid FROM adclick.status))}) or die 'nobody waits';
$node->stop('immediate');
eval { $holder->quit };
$node->start;
workers_ready($node, 'clicks');
right_ok($node, 'killed in the middle');
drop_all_due();
cmp_ok(sql($MINUTES), 'gt', $was, 'then it is dropped');
right_ok($node, 'dropped after that');

# The server is killed while they go, with clicks of now and of yesterday.
for my $round (1 .. 4)
{
	my ($minutes, $days) = (sql($MINUTES), sql($DAYS));

	send_clicks($node, 'clicks', 200, '1 hour');
	sql(q{SELECT oracle.send_past_clicks(100, '1 hour', '1 day')});
	drained($node, 'clicks');
	pass_time($DAY);
	usleep(int rand 1_500_000);
	$node->stop('immediate');
	$node->start;
	workers_ready($node, 'clicks');
	right_ok($node, "killed, $round");
	cmp_ok(sql($MINUTES), 'ge', $minutes, "minutes do not come back, $round");
	cmp_ok(sql($DAYS), 'ge', $days, "nor do days, $round");
}
drop_all_due();
cmp_ok(sql(q{SELECT days() > '2001-01-01' AND minutes() > days()}), 'eq', 't', 'days were dropped, too, behind minutes');
right_ok($node, 'days dropped');
is(sql('SELECT health FROM adclick.health()'), 'ok', 'all is well');
$node->wait_for_catchup($standby);
right_ok($standby, 'the standby in the end');
$standby->stop;

# A click that waits in the inbox keeps its day.
$node->safe_psql('postgres', 'ALTER DATABASE clicks SET adclick.workers = off');
$node->restart;
sql('SELECT oracle.compact()');
sql('INSERT INTO adclick.clicks (click_id, ad_id) SELECT gen_random_uuid(), 8');
my $day = sql(q{SELECT date_trunc('day', received_at) FROM adclick.clicks});
pass_time(6 * $DAY);
like(sql('SELECT waits FROM adclick.apply_retention()'), qr/^clicks of the day from .* on may still arrive, or wait in adclick\.clicks$/, 'a click waits');
cmp_ok(sql($MINUTES), 'lt', $day, 'its day was not dropped');
is(sql('SELECT counted FROM adclick.tick()'), '1', 'it counts');
right_ok($node, 'a click that has waited');
sql('SELECT oracle.compact()');
is(sql('SELECT waits FROM adclick.apply_retention()'), '', 'then its day goes');
cmp_ok(sql($MINUTES), 'gt', $day, 'it has gone');
right_ok($node, 'it is gone');

# A day whose clicks are packed, but for a late one, and that is due; and clicks of now, in a delta.
sub due_day
{
	sql(q{SELECT oracle.send_past_clicks(300, '1 hour', '0'), adclick.tick()});
	sql('SELECT oracle.compact()');
	pass_time($DAY);
	sql(q{INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT gen_random_uuid(), 3, now() - interval '1 day'; SELECT adclick.tick()});
	pass_time(4 * $DAY);
	send_clicks($node, 'clicks', 50, '1 hour');
	sql('SELECT adclick.tick()');
	return;
}

# It does not wait for a compaction that packs late clicks of the day, and comes after it.
due_day();
my $compactor = $node->background_psql('clicks', on_error_stop => 0);
$compactor->query_safe('BEGIN; SELECT oracle.compact()');
my (undef, undef, $timeout) = $node->psql('clicks', 'SELECT adclick.apply_retention()');
like($timeout, qr/lock timeout/, 'a compaction is under way');
$compactor->query_safe('COMMIT');

# A compaction waits for it, whether it is rolled back or not; snapshots from before see what they saw.
my $old = begin_reader($node);
my $last;	# since the last tick
$before = sql($ALL);
for my $end ('ROLLBACK', 'COMMIT')
{
	my $dropper = $node->background_psql('clicks');

	$was = sql($MINUTES);
	send_clicks($node, 'clicks', 50, '1 hour');
	sql('SELECT adclick.tick()');
	send_clicks($node, 'clicks', 5, '1 hour');
	$last = begin_reader($node) if $end eq 'COMMIT';
	like($dropper->query_safe('BEGIN; SELECT minutes_dropped > 0 AS dropped FROM adclick.apply_retention()'), qr/t$/, "$end: minutes go");
	is(sql($MINUTES), $was, "$end: nobody else sees it");
	$compactor->query_until(qr/begun/, "\\echo begun\nSELECT oracle.compact();\n");
	$node->poll_query_until('clicks', 'SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)') or die 'nobody waits';
	sql(q{CALL adclick.reconcile('-infinity', 'infinity')}) if $end eq 'COMMIT';
	$dropper->query_safe($end);
	$dropper->quit;
	$compactor->query_safe('SELECT 1');
	is(sql($MINUTES) gt $was ? 'COMMIT' : 'ROLLBACK', $end, "$end: then all do");
	right_ok($node, "$end beside a compaction");
	is($old->query_safe($ALL), $before, "$end: a snapshot from before sees what it saw");
}
$old->quit;
$compactor->quit;
is(sql('SELECT count(*) FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL'), '0', 'who reconciles beside it finds no differences');
is(sql(q{SELECT adclick.reconcile_hour('-infinity', 'infinity')}), 't', 'and goes on');
is(sql(q{SELECT count(*) FROM adclick.reconciliations r, unnest(hours) hour WHERE finished_at IS NULL AND hour <= minutes()}), '0', 'with what is there');

# In a snapshot from before no round can be made any more.
for my $round ('tick()', 'compact()', q{recompute('-infinity', 'infinity')})
{
	$last->query_safe('SAVEPOINT s');
	$last->query("SELECT adclick.$round");
	like($last->{stderr}, qr/could not serialize access/, "in a snapshot from before: $round");
	$last->{stderr} = '';
	$last->query_safe('ROLLBACK TO s');
}
$last->quit;
sql('SELECT adclick.tick()');
right_ok($node, 'in the end');

# The ledger does not wait for hours that cannot be reconciled any more.
pass_time(6 * $DAY);
sql('SELECT oracle.compact()');
sql(q{CALL adclick.reconcile('-infinity', 'infinity')});
is(sql('SELECT minutes_dropped > 0, waits FROM adclick.apply_retention()'), 't|', 'all minutes go, as all hours were reconciled');
set_conf($node, 'adclick.ledger_retention' => "'7d'");
sql('SELECT adclick.apply_retention()');
pass_time(8 * $DAY);
is(sql('SELECT dropped > 0, waits FROM adclick.apply_retention()'), 't|', 'then the ledger');
is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', 'the books are balanced');
$node->stop;

done_testing();
