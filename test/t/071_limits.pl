# Limits of a user's clicks, and of those from an address, where workers count: through kills,
# restarts, on a standby, promoted, and out of a dump no minute has more than may be, and none that
# has fewer turned a click away.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickClock;
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $KILLS = 8;

my $primary = adclick_node('primary', allows_streaming => 1, 'restart_after_crash' => 'on',
	'adclick.user_clicks_per_minute' => 2, 'adclick.ip_clicks_per_minute' => 3);
$primary->start;
adclick_database($primary, 'clicks', witness => 1);

sub limits_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $name) = @_;

	is($node->safe_psql('clicks', 'SELECT * FROM oracle.wrong_limits() LIMIT 5'), '', "$name: limits");
	return;
}

# Clicks of a user in a minute; and what became of all of his, whatever copies of them came later.
sub click
{
	my ($node, $database, $user, $n, $minute) = @_;

	$node->safe_psql($database, "INSERT INTO adclick.clicks (ad_id, clicked_at, user_id) SELECT 5, '$minute', $user FROM generate_series(1, $n)");
	return;
}

sub verdicts
{
	my ($node, $database, $user) = @_;

	drained($node, $database);
	return $node->safe_psql($database,
		"SELECT string_agg(verdict || ' ' || n, ', ' ORDER BY verdict) FROM (SELECT verdict, count(DISTINCT click_id) AS n FROM adclick.click_log WHERE user_id = $user AND verdict <> 'duplicate' GROUP BY 1) v");
}

# A minute in which others hardly click: of the last hour.
my $minute = $primary->safe_psql('postgres', "SELECT date_trunc('minute', now()) - interval '50 minutes'");

click($primary, 'clicks', -71, 3, $minute);
is(verdicts($primary, 'clicks', -71), 'counted 2, user limit 1', 'what is set when the server starts holds from the first click on');

#
# Workers that are killed, under load, and the server stopped at once
#
my $writers = writers_start($primary, 'clicks', 2, rows => 100, late => 1);
for my $kill (1 .. $KILLS)
{
	my ($aggregator) = workers_ready($primary, 'clicks');
	my $taken = $primary->safe_psql('clicks', 'SELECT clicks_taken FROM adclick.status');

	$primary->poll_query_until('clicks', "SELECT clicks_taken > $taken + 500 FROM adclick.status") or die 'nothing is taken';
	if ($kill % 4 == 0)
	{
		$primary->stop('immediate');
		$primary->start;
	}
	else
	{
		kill_process($primary, $aggregator);
	}
	limits_ok($primary, "kill $kill, under load");
	conserved_ok($primary, 'clicks', "kill $kill, under load");
}
writers_stop($writers);
workers_ready($primary, 'clicks');
exact_ok($primary, 'clicks', 'after kills');
limits_ok($primary, 'after kills');
for my $verdict ('user_limit', 'address_limit')
{
	cmp_ok($primary->safe_psql('clicks', "SELECT $verdict FROM adclick.status"), '>', 0, "some clicks are over the $verdict");
}
click($primary, 'clicks', -71, 1, $minute);
click($primary, 'clicks', -72, 1, $minute);
is(verdicts($primary, 'clicks', -71), 'counted 2, user limit 2', 'what was counted before is known');

#
# A standby
#
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
quiet_workers($primary, 'clicks');
my $facts = q{SELECT md5(string_agg(f::text, ',' ORDER BY f::text)), sum(click_count) FROM (SELECT ad_id, click_minute, sum(click_count) AS click_count FROM adclick.ad_click_counts GROUP BY 1, 2) f};
for my $round (1 .. 4)
{
	my $before = $primary->safe_psql('clicks', $facts);

	send_clicks($primary, 'clicks', 600, '2 minutes');
	send_copies($primary, 'clicks', 60);
	click($primary, 'clicks', $_, 1, $minute) for -72, -100 - $round;
	$primary->wait_for_catchup($standby);
	my $with_tail = $standby->safe_psql('clicks', $facts);
	isnt($with_tail, $before, "round $round: there is a tail that counts");
	is($with_tail, $primary->safe_psql('clicks', $facts), "round $round: primary and standby agree on it");
	# the first of these ticks is not the end
	$primary->safe_psql('clicks', 'BEGIN; SELECT adclick.tick(); ROLLBACK; SELECT adclick.tick();');
	is($primary->safe_psql('clicks', $facts), $with_tail, "round $round: and the tick counts just that");
	limits_ok($primary, "round $round");
	next if $round != 2;
	$primary->restart;
	quiet_workers($primary, 'clicks');
}
is(verdicts($primary, 'clicks', -72), 'counted 2, user limit 3', 'one by one, through a restart');

# It is promoted, and takes a tail of the old primary.
click($primary, 'clicks', -73, 3, $minute);
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$standby->promote;
wake_workers($standby);
workers_ready($standby, 'clicks');
is(verdicts($standby, 'clicks', -73), 'counted 2, user limit 1', 'promoted: the tail');
click($standby, 'clicks', $_, 1, $minute) for -71, -72;
is(verdicts($standby, 'clicks', -71), 'counted 2, user limit 3', 'promoted: what the old primary counted');
is(verdicts($standby, 'clicks', -72), 'counted 2, user limit 4', 'promoted: what the old primary counted, too');
exact_ok($standby, 'clicks', 'promoted');
limits_ok($standby, 'promoted');

#
# Out of a dump
#
my $dir = PostgreSQL::Test::Utils::tempdir();
click($standby, 'clicks', -74, 1, $minute);
drained($standby, 'clicks');
$standby->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", '-d', $standby->connstr('clicks') ], 'a dump');
$standby->safe_psql('postgres', 'CREATE DATABASE again');
$standby->command_ok([ 'pg_restore', '-d', $standby->connstr('again'), "$dir/dump" ], 'it is restored');
workers_ready($standby, 'again');
is($standby->safe_psql('again', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'restored: nothing is missing');
is($standby->safe_psql('again', 'SELECT user_clicks_per_minute, ip_clicks_per_minute FROM adclick_internal.state'), '2|3', 'restored: what is in force');
click($standby, 'again', -74, 2, $minute);
is(verdicts($standby, 'again', -74), 'counted 2, user limit 1', 'restored: what was counted before is known');

#
# A change comes into force with a tick, without a restart; and off again
#
set_conf($standby, 'adclick.user_clicks_per_minute' => 4);
$standby->poll_query_until('clicks', 'SELECT user_clicks_per_minute = 4 FROM adclick_internal.state') or die 'the limit does not come into force';
click($standby, 'clicks', -72, 5, $minute);
is(verdicts($standby, 'clicks', -72), 'counted 4, user limit 7', 'a higher limit');
set_conf($standby, 'adclick.user_clicks_per_minute' => 0, 'adclick.ip_clicks_per_minute' => 0);
$standby->poll_query_until('clicks', 'SELECT user_clicks_per_minute = 0 AND ip_clicks_per_minute = 0 FROM adclick_internal.state') or die 'the limits stay in force';
click($standby, 'clicks', -72, 5, $minute);
is(verdicts($standby, 'clicks', -72), 'counted 9, user limit 7', 'no limit');
is($standby->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'all is in balance');
$standby->stop;

#
# A clock that jumps, ticks that come to nothing, clicks that are held back, and less memory for bounds than there are users
# and addresses in a minute: questions say before what is counted, and limits are kept.
#
my $jumping = clocked(adclick_node('jumping', 'adclick.dedup_memory' => "'1MB'", 'max_prepared_transactions' => 5,
	'adclick.user_clicks_per_minute' => 2, 'adclick.ip_clicks_per_minute' => 3));
$jumping->start;
adclick_database($jumping, 'clicks', witness => 1);
quiet_workers($jumping, 'clicks');
my ($HOUR, $DAY) = (3600, 86400);
my ($step, $first) = (0);
for my $seconds (0, 3 * $HOUR, -2 * $HOUR, 20 * $DAY, 0, -$DAY, 60)
{
	my $name = "off by $seconds s";

	clocks_are($seconds, 0);
	if (++$step == 6)
	{
		$jumping->restart;
		quiet_workers($jumping, 'clicks');
		$name .= ', after a restart';
	}
	my $now = $jumping->safe_psql('clicks', "SELECT date_trunc('minute', now()) - interval '2 minutes'");
	$first //= $now;
	# 64 kB have room for 14,336 users and addresses, of all minutes
	my $many = $step % 3 == 1 ? 16_000 : 2_000;
	my $same = qq{INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip)
		SELECT i % 7, m, i * 7919 % 501, '10.0.0.0'::inet + i * 31 % 307 FROM generate_series(1, 300) i, (VALUES ('$now'::timestamptz), ('$first')) v (m)};
	$jumping->safe_psql('clicks', qq{
		INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip)
		SELECT i % 7, '$now', i * 7919 % 11003, '10.0.0.0'::inet + i * 31 % 7001 FROM generate_series(1, $many) i;
		$same;
		BEGIN; $same; PREPARE TRANSACTION 'held'});
	send_clicks($jumping, 'clicks', 200, '3 minutes');
	send_copies($jumping, 'clicks', 50);
	for my $what ('what is not held back', 'what was held back')
	{
		my $before = $jumping->safe_psql('clicks', $facts);

		$jumping->safe_psql('clicks', 'BEGIN; SELECT adclick.tick(); ROLLBACK');
		is($jumping->safe_psql('clicks', $facts), $before, "$name: $what, after a tick that came to nothing");
		$jumping->safe_psql('clicks', 'SELECT adclick.tick()');
		is($jumping->safe_psql('clicks', $facts), $before, "$name: $what, after one that is committed");
		$jumping->safe_psql('clicks', ($step % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED 'held'; $same") if $what =~ /not/;
	}
	is($jumping->safe_psql('clicks', 'SELECT lag_rows FROM adclick.status'), '0', "$name: all is taken");
	limits_ok($jumping, $name);
	conserved_ok($jumping, 'clicks', $name);
	$jumping->safe_psql('clicks', 'SELECT oracle.compact()') if $step == 4;
}
exact_ok($jumping, 'clicks', 'after all jumps', questions => 6);
for my $verdict ('user_limit', 'address_limit')
{
	cmp_ok($jumping->safe_psql('clicks', "SELECT $verdict FROM adclick.status"), '>', 300, "after all jumps: many clicks are over the $verdict");
}
is($jumping->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'after all jumps: the ledger is in balance');
$jumping->stop;

done_testing();
