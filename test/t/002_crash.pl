# kill -9 of the workers and immediate shutdowns at random moments, under load:
# afterwards every click that was committed is counted once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $KILLS = 54;
my $KILLS_A_ROUND = 9;

my $node = adclick_node('main',
	'restart_after_crash' => 'on',
	'adclick.tick_interval' => "'10ms'",
	'adclick.watermark' => "'0s'",
	'shared_buffers' => "'64MB'");
$node->start;
adclick_database($node, 'clicks', witness => 1);

my @kinds = ('aggregator', 'compactor', 'launcher');
my %killed = map { $_ => 0 } @kinds;

# Process id of a worker, once it runs; the server may still be recovering.
sub pid_of
{
	my ($kind) = @_;
	my $pid = '';
	my $attempts = 0;

	until ($pid =~ /^\d+$/)
	{
		die "no $kind" if $attempts++ > 3000;
		# psql may be gone before it reads the query: that is an error of the pipe
		eval {
			$node->psql('postgres',
				"SELECT pid FROM pg_stat_activity WHERE backend_type = 'adclick $kind' ORDER BY backend_start DESC LIMIT 1",
				stdout => \$pid, stderr => \my $ignored);
		};
		$pid //= '';
		usleep(10_000) if $pid !~ /^\d+$/;
	}
	return $pid;
}

sub kill_one
{
	my ($kind) = @_;
	my $pid = pid_of($kind);

	# not waiting for anything: this is what makes the moment a random one
	usleep(int rand 120_000);
	$killed{$kind} += kill_process($node, $pid);
	return;
}

my $kills = 0;
for (my $round = 1; $kills < $KILLS; $round++)
{
	my $writers = writers_start($node, 'clicks', 3, rows => 150, late => $round % 2 == 0);

	for (1 .. $KILLS_A_ROUND)
	{
		kill_one($kinds[ $kills++ % 3 ]);
		next if $kills % 4;
		pid_of('aggregator');
		conserved_ok($node, 'clicks', "after $kills kills, under load");
		verdicts_ok($node, 'clicks', "after $kills kills, under load");
		answers_ok($node, 'clicks', "after $kills kills, under load", questions => 8)
		  if $round % 2;
	}
	if ($round % 2 == 0)
	{
		usleep(int rand 100_000);
		$node->stop('immediate');
		$node->start;
		pass("immediate shutdown in round $round");
	}
	writers_stop($writers);
	exact_ok($node, 'clicks', "round $round, $kills kills");
}
cmp_ok($killed{$_}, '>=', $KILLS / 3, "$killed{$_} kills of the $_") for @kinds;
cmp_ok($node->safe_psql('clicks', 'SELECT duplicates FROM adclick.status'), '>', 0, 'there were duplicates');

# What was counted before a restart is known after it.
my $id = '0190a0b0-0000-4000-8000-00000000abcd';
my $send = "INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES ('$id', 900077, date_trunc('minute', now()))";
my $copy = "INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT click_id, ad_id, clicked_at FROM adclick.click_log WHERE click_id = '$id' LIMIT 1";
$node->safe_psql('clicks', $send);
drained($node, 'clicks');
my $before = $node->safe_psql('clicks', 'SELECT clicks_counted, duplicates FROM adclick.status');
for my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	$node->safe_psql('clicks', $copy);
	is($node->safe_psql('clicks', "SELECT adclick.ad_click_count_between(900077, timestamptz '-infinity', timestamptz 'infinity')"),
		$node->safe_psql('clicks', "SELECT count(DISTINCT coalesce(click_id, gen_random_uuid())) FROM adclick.click_log WHERE ad_id = 900077"),
		"a copy sent after a restart ($mode) is a duplicate at once");
	drained($node, 'clicks');
}
my ($counted, $duplicates) = split /\|/, $before;
is($node->safe_psql('clicks', 'SELECT clicks_counted, duplicates FROM adclick.status'),
	$counted . '|' . ($duplicates + 2), 'and set aside as such');
exact_ok($node, 'clicks', 'at the end');

done_testing();
