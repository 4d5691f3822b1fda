# Days, as the workers make them: whatever moment is seen, crashed at or replayed, a day is the
# sum of its hours; late clicks cost what they are, and not what their day has.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $DAYS = 12;
my $node = adclick_node('main', allows_streaming => 1,
	'adclick.watermark' => "'0s'", 'adclick.raw_retention' => "'100d'", 'restart_after_crash' => 'on');

$node->start;
adclick_database($node, 'clicks');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;

# A day that is over by any clock: what is sent ends there.
my $end = $node->safe_psql('clicks', q{SELECT date_trunc('day', now(), 'UTC') - interval '1 day'});

# Clicks at random, of some days before the end.
sub send_history
{
	my ($clicks, $days) = @_;

	$node->safe_psql('clicks', qq{
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country)
		SELECT NULL, floor(exp(random() * ln(2000))), timestamptz '$end' - random() * interval '$days days', 'C' || i % 5 FROM generate_series(1, $clicks) i});
	return;
}

sub settled
{
	drained($node, 'clicks');
	compacted($node, 'clicks');
	return;
}

# Counts of windows that begin and end at days, or not, by all ways there are.
sub windows_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $on) = @_;

	$on //= $node;
	for my $window ([ "timestamptz '$end' - interval '$DAYS days'", "timestamptz '$end'" ], [ "timestamptz '$end' - interval '7 days 5 hours 7 minutes'", "timestamptz '$end' - interval '55 hours 11 minutes'" ])
	{
		my ($from, $to) = @$window;
		my $of = "clicked_at >= $from AND clicked_at < $to";

		is($on->safe_psql('clicks', qq{
				SELECT (SELECT string_agg(ad_id || ' ' || click_count, ', ' ORDER BY rank) FROM adclick.top_n_ads_between(20, $from, $to)),
					(SELECT string_agg(ad_id || ' ' || click_count, ', ' ORDER BY rank) FROM adclick.top_n_ads_between(20, $from, $to, '{"country": "C3"}')),
					(SELECT adclick.ad_click_count_between(1, $from, $to)),
					(SELECT sum(click_count) FROM adclick.ad_click_counts WHERE click_minute >= $from AND click_minute < $to),
					(SELECT md5(string_agg(x::text, ' ' ORDER BY x)) FROM (SELECT date_trunc('day', click_minute, 'UTC'), country, sum(click_count)::bigint
						FROM adclick.clicks_per_minute WHERE click_minute >= $from AND click_minute < $to GROUP BY 1, 2) x)}),
			$on->safe_psql('clicks', qq{
				SELECT (SELECT string_agg(ad_id || ' ' || n, ', ' ORDER BY n DESC, ad_id) FROM (SELECT ad_id, count(*) AS n FROM adclick.click_log WHERE $of GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20) x),
					(SELECT string_agg(ad_id || ' ' || n, ', ' ORDER BY n DESC, ad_id) FROM (SELECT ad_id, count(*) AS n FROM adclick.click_log WHERE $of AND country = 'C3' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20) x),
					(SELECT count(*) FROM adclick.click_log WHERE $of AND ad_id = 1),
					(SELECT count(*) FROM adclick.click_log WHERE $of),
					(SELECT md5(string_agg(x::text, ' ' ORDER BY x)) FROM (SELECT date_trunc('day', clicked_at, 'UTC'), country, count(*) FROM adclick.click_log WHERE $of GROUP BY 1, 2) x)}),
			"$name: $from");
	}
	return;
}

sub days_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $on) = @_;

	is(($on // $node)->safe_psql('clicks', 'SELECT * FROM oracle.wrong_days() LIMIT 5'), '', "$name: days are the sums of their hours");
	return;
}

my $days = 'sort_order = 4 AND NOT is_delta';
my $deltas = 'sort_order = 4 AND is_delta';
my $made = "SELECT count(*) FROM adclick_internal.runs WHERE $days";

# A backfill
send_history(60_000, $DAYS);
settled();
is($node->safe_psql('clicks', $made), $DAYS, 'a run of each day');
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $deltas"), '0', 'made once its hours were written');
days_ok('a backfill');
lists_ok($node, 'clicks', 'a backfill');
windows_ok('a backfill');

# Late clicks, ever more: in whatever moment, a day is the sum of its hours.
my $newest = $node->safe_psql('clicks', 'SELECT max(run_id) FROM adclick_internal.runs');
send_history(100, $DAYS);
settled();
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $days AND run_id > $newest"), '0', 'few late clicks write no day anew');
my $wrong = 0;
for my $i (1 .. 12)
{
	send_history(600 * $i, $i % 3 == 0 ? 2 : $DAYS);
	for (1 .. 3)
	{
		$wrong += $node->safe_psql('clicks', 'SELECT count(*) FROM oracle.wrong_days()');
	}
	windows_ok("late clicks, $i") if $i % 4 == 0;
	settled() if $i % 3 == 0;
}
is($wrong, 0, 'while late clicks come, a day is the sum of its hours in any snapshot');
settled();
cmp_ok($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $deltas"), '<=', 8, 'and few of them wait');
cmp_ok($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $days AND run_id > $newest"), '>=', $DAYS / 2, 'many late clicks are merged with their days');
is($node->safe_psql('clicks', "SELECT coalesce(sum(facts) FILTER (WHERE $deltas), 0) <= sum(facts) FILTER (WHERE $days) / 3 FROM adclick_internal.runs"), 't', 'what waits is a part of what there is');
days_ok('late clicks');
lists_ok($node, 'clicks', 'late clicks');
windows_ok('late clicks');
is($node->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'the books');

# The standby has all of it.
$node->wait_for_catchup($standby);
is($standby->safe_psql('clicks', $made), $DAYS, 'days on the standby');
days_ok('on the standby', $standby);
windows_ok('on the standby', $standby);

# All days are taken out and made again, by a compactor that is killed at it.
for my $i (1 .. 5)
{
	$node->safe_psql('clicks', "SELECT adclick.recompute(timestamptz '$end' - interval '$DAYS days', timestamptz '$end')");
	send_history(300, $DAYS);
	# how far it gets is no matter: sometimes into the days
	usleep(200_000 * $i);
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'adclick compactor' AND datname = 'clicks'");
	kill_process($node, $pid) if $pid;
	days_ok("crash $i");
	windows_ok("crash $i") if $i % 2 == 0;
}
settled();
is($node->safe_psql('clicks', $made), $DAYS, 'all days are there again');
days_ok('after crashes');
facts_ok($node, 'clicks', 'after crashes');
lists_ok($node, 'clicks', 'after crashes');
windows_ok('after crashes');
$node->stop('immediate');
$node->start;
settled();
days_ok('after a restart');
windows_ok('after a restart');

# A damaged day stops nothing else: its hours get their late clicks, and so does every other day.
my ($day, $run_id) = split /\|/, $node->safe_psql('clicks', "SELECT last_minute, run_id FROM adclick_internal.runs WHERE $days ORDER BY last_minute OFFSET 5 LIMIT 1");
$node->safe_psql('clicks', "UPDATE adclick_internal.segments SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id = $run_id");
$newest = $node->safe_psql('clicks', 'SELECT max(run_id) FROM adclick_internal.runs');
for (1 .. 2)
{
	send_history(40_000, $DAYS);
	drained($node, 'clicks');
}
ok($node->poll_query_until('clicks', "SELECT count(*) >= $DAYS - 1 FROM adclick_internal.runs WHERE $days AND run_id > $newest"), 'days beside a damaged one are written');
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $days AND run_id = $run_id"), '1', 'which is left as it is');
like($node->safe_psql('clicks', 'SELECT last_error FROM adclick.status'), qr/^compaction: segment .* is damaged/, 'the status tells of it');
$node->safe_psql('clicks', "SELECT adclick.recompute(timestamptz '$day', timestamptz '$day' + interval '1 hour')");
ok($node->poll_query_until('clicks', "SELECT count(*) = $DAYS FROM adclick_internal.runs WHERE $days AND run_id <> $run_id"), 'an hour made anew brings the day back');
settled();
days_ok('mended');
windows_ok('mended');
$node->wait_for_catchup($standby);
$standby->promote;
is($standby->safe_psql('clicks', $made), $DAYS, 'days of who is promoted');
windows_ok('promoted', $standby);

done_testing();
