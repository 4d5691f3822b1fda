# Deltas of orders user, ip and ledger wait until they are worth a final run: those of a time become
# one when minutes close; many facts become final.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# With so long a watermark event time is that of the clicks.
my $node = adclick_node('main', 'adclick.watermark' => "'1h'", 'adclick.raw_retention' => "'100d'", 'autovacuum' => 'off');

$node->start;
adclick_database($node, 'clicks');
my $start = $node->safe_psql('clicks', q{SELECT date_trunc('hour', now(), 'UTC') - interval '60 hours'});
my $minute = 0;

# Some ticks of the next minutes, so many clicks each.
sub send_ticks
{
	my ($ticks, $clicks) = @_;

	for (1 .. $ticks)
	{
		$node->safe_psql('clicks', qq{INSERT INTO adclick.clicks (ad_id, user_id, ip, clicked_at)
			SELECT floor(random() * 1000), floor(random() * 5000), inet '10.0.0.0' + floor(random() * 5000)::int, timestamptz '$start' + $minute * interval '1 minute'
			FROM generate_series(1, $clicks)});
		drained($node, 'clicks');
		$minute++;
	}
	return;
}

# The minutes before are closed by clicks of two hours later.
sub close_minutes
{
	$minute += 120;
	send_ticks(1, 100);
	compacted($node, 'clicks');
	return;
}

# Deltas and final runs are so many in each of the three orders, and no click is missing.
sub runs_are
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($deltas, $final, $name) = @_;

	is($node->safe_psql('clicks', q{
		SELECT string_agg(DISTINCT deltas || ' ' || final, ', ') FROM (SELECT count(*) FILTER (WHERE is_delta) AS deltas, count(*) FILTER (WHERE NOT is_delta) AS final
		FROM adclick_internal.runs WHERE sort_order IN (1, 2, 3) GROUP BY sort_order) x}), "$deltas $final", "$name: $deltas deltas and $final final runs");
	is($node->safe_psql('clicks', q{
		SELECT string_agg(DISTINCT clicks::text, ', ') FROM (SELECT sum(clicks) AS clicks FROM adclick_internal.runs WHERE sort_order < 4 GROUP BY sort_order) x}),
		$node->safe_psql('clicks', 'SELECT clicks_counted FROM adclick.status'), "$name: each order has all clicks");
	return;
}

sub answers_are_right
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	is($node->safe_psql('clicks', qq{
		SELECT count(*) FROM (SELECT user_id, count(*) FROM adclick.click_log WHERE ad_id = 7 AND user_id < 50 GROUP BY 1) l
		WHERE count <> adclick.ad_click_count_between(7, '$start', timestamptz '$start' + interval '3 days', jsonb_build_object('user_id', user_id))}), '0', "$name: counts by user");
	is($node->safe_psql('clicks', qq{
		SELECT count(*) FROM (SELECT ip, count(*) FROM adclick.click_log WHERE ad_id = 7 AND ip << '10.0.0.0/26' GROUP BY 1) l
		WHERE count <> adclick.ad_click_count_between(7, '$start', timestamptz '$start' + interval '3 days', jsonb_build_object('ip', ip))}), '0', "$name: counts by address");
	is($node->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books");
	return;
}

send_ticks(3, 1000);
close_minutes();
runs_are(1, 0, 'minutes closed');
answers_are_right('minutes closed');
send_ticks(3, 1000);
close_minutes();
runs_are(2, 0, 'more of them');
$node->restart;
send_ticks(1, 1000);
close_minutes();
runs_are(1, 0, 'after a restart');
answers_are_right('after a restart');

# So many that they are not written once more.
send_ticks(3, 100_000);
close_minutes();
runs_are(0, 1, 'many at once');
answers_are_right('many at once');

# No more in each time than can wait, a million together.
for my $round (1 .. 8)
{
	send_ticks(1, 120_000);
	close_minutes();
	runs_are($round, 1, "many, part $round");
}
send_ticks(1, 120_000);
close_minutes();
runs_are(0, 2, 'a million');

# By hand all is folded in, once no minute is open any more.
send_ticks(2, 1000);
close_minutes();
runs_are(1, 2, 'a few again');
$node->safe_psql('clicks', 'SELECT adclick.compact()');
runs_are(1, 2, 'by hand, while a minute is open');
set_conf($node, 'adclick.watermark' => "'0s'");
packed($node, 'clicks');
runs_are(0, 3, 'by hand');
answers_are_right('by hand');

done_testing();
