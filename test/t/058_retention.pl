# Retention of the ledger by the workers: volumes are opened and dropped as time goes, which
# the test lets pass (lib/AdclickRetention.pm), one an hour, and none while the clock may be
# wrong.  All counts stay, through crashes, on a standby, and for snapshots from before,
# which see the clicks that they saw, or an error.

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

my $node = retention_node('ledger', 'ledger_volumes', 'adclick.ledger_retention' => "'3d'");

sub sql { return $node->safe_psql('clicks', $_[0]) }

# What the counts are of, from now on: ad, minute and dimensions.
my $COUNTS = q{SELECT md5(string_agg(f::text, ',' ORDER BY f::text)) FROM (
	SELECT ad_id, click_minute, country, region, device, sum(click_count) AS clicks FROM adclick.clicks_per_minute GROUP BY 1, 2, 3, 4, 5) f};
my $DROPPED = 'SELECT clicks_dropped FROM adclick.status';

# The oldest volume that was not dropped.
my $OLDEST = 'SELECT min(volume) FROM ledger_volumes WHERE dropped_at IS NULL';

sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($server, $expected, $name) = @_;

	is($server->safe_psql('clicks', $COUNTS), $expected, "$name: all counts are as they were");
	is($server->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books are balanced");
	is($server->safe_psql('clicks', q{SELECT clicks_counted - clicks_dropped - (SELECT count(*) FROM adclick.click_log WHERE verdict = 'counted') FROM adclick.status}),
		'0', "$name: the log has what was not dropped");
	return;
}

# Volumes are opened each tenth of a day (three days, in thirty parts), not before an hour has passed since the start.
is(sql('SELECT count(*) FROM ledger_volumes'), '1', 'one volume at first');
sql('UPDATE ledger_volumes SET volume = 5');	# tables 0 to 4 are free, see retention_round
pass_time(61 * $MINUTE);
for my $volume (6 .. 11)
{
	send_clicks($node, 'clicks', 300, '1 hour');
	send_copies($node, 'clicks', 100) if $volume > 6;
	drained($node, 'clicks');
	pass_time(2 * $MINUTE);
	packed($node, 'clicks');
	pass_time(144 * $MINUTE);
	becomes("SELECT max(volume) >= $volume FROM ledger_volumes", 'that a volume is opened');
}
verdicts_ok($node, 'clicks', 'some volumes');
my $counts = sql($COUNTS);
right_ok($node, $counts, 'some volumes');
cmp_ok(sql('SELECT count(DISTINCT volume) FROM adclick_internal.runs WHERE sort_order = 3'), '>=', 5, 'the ledger lies in them');
is(sql($DROPPED), '0', 'none was dropped');

# A standby, and snapshots here and there from before.
my $standby = retention_standby();

my $reader = begin_reader($node);
my $before = $reader->query_safe('SELECT count(*) FROM adclick.click_log');
my $far_reader = begin_reader($standby);

# After three days, one volume goes each hour; what was there is there for who has seen it.
pass_time(3 * $DAY - 10 * $HOUR);
becomes("SELECT dropped_at IS NOT NULL FROM ledger_volumes ORDER BY volume LIMIT 1", 'that a volume is dropped');
my $first = sql($DROPPED);
cmp_ok($first, '>', 0, 'clicks were dropped');
right_ok($node, $counts, 'dropped');
retention_round();
is($reader->query_safe('SELECT count(*) FROM adclick.click_log'), $before, 'a snapshot from before sees them');
is(sql('SELECT count(*) FROM ledger_volumes WHERE dropped_at IS NOT NULL'), '1', 'their table waits');

# The snapshot keeps its table for an hour, and no longer.
my $volume = sql('SELECT min(volume) FROM ledger_volumes');
pass_time(61 * $MINUTE);
becomes("SELECT NOT EXISTS (SELECT FROM ledger_volumes WHERE volume = $volume)", 'an empty table');
cmp_ok(sql("SELECT pg_relation_size('adclick_internal.ledger_$volume')"), '==', 0, 'its table is empty');
$reader->query("SELECT count(*) FROM adclick.click_log");
like($reader->{stderr}, qr/snapshot too old for the ledger of adclick/, 'a snapshot from before gets an error');
$reader->quit;
$reader = begin_reader($node);
is($reader->query_safe($COUNTS), $counts, 'counts need no ledger');
$reader->quit;

# One an hour.
retention_round();
my $second = sql($OLDEST);
cmp_ok(sql($DROPPED), '>', $first, 'an hour later the next one goes');
pass_time(6 * $HOUR);
becomes("SELECT ($OLDEST) > $second", 'that a third volume is dropped');
my $third = sql($OLDEST);
retention_round();
is(sql($OLDEST), $third, 'none within the hour, although one is due');
right_ok($node, $counts, 'three volumes');

# On the standby: from before the drop, an end of the query or an error; else what is right.
$node->wait_for_catchup($standby);
right_ok($standby, $counts, 'the standby');
is($standby->safe_psql('clicks', $OLDEST), $third, 'it knows what was dropped');
my $said = eval { $far_reader->query('SELECT count(*) FROM adclick.click_log'); $far_reader->{stderr} } // $@;
like($said, qr/snapshot too old for the ledger|conflict with recovery|connection|ended prematurely/, 'a snapshot from before, there');
eval { $far_reader->quit };

# The clock is set: none goes for an hour, though it says that all are older than they may be.
pass_time(2 * $HOUR);
becomes("SELECT ($OLDEST) > $third", 'that a fourth volume is dropped');
my $fourth = sql($OLDEST);
set_clock(2 * $DAY);
retention_round();
pass_time(57 * $MINUTE);
my $volumes = sql('SELECT max(volume) FROM ledger_volumes');
retention_round();
is(sql($OLDEST), $fourth, 'the clock was set: none is dropped');
is(sql('SELECT max(volume) FROM ledger_volumes'), $volumes, 'nor opened');
pass_time(5 * $MINUTE);
becomes("SELECT ($OLDEST) > $fourth", 'that a fifth volume is dropped');
pass('an hour later they are');

# It is set back: the volume opened meanwhile is of the future.
my $fifth = sql($OLDEST);
send_clicks($node, 'clicks', 300, '1 hour');
drained($node, 'clicks');
$counts = sql($COUNTS);
becomes("SELECT max(volume) > $volumes FROM ledger_volumes", 'that a volume is opened');
set_clock(-2 * $DAY);
retention_round();
pass_time(61 * $MINUTE);
retention_round();
is(sql($OLDEST), $fifth, 'the clock was set back: none is dropped');
right_ok($node, $counts, 'the clock was set');
pass_time(2 * $DAY);

# The server is killed while they go.
for my $round (1 .. 6)
{
	my $was = sql($DROPPED);

	send_clicks($node, 'clicks', 200, '1 hour');
	drained($node, 'clicks');
	$counts = sql($COUNTS);
	pass_time(5 * $HOUR);
	usleep(int rand 1_500_000);
	$node->stop('immediate');
	$node->start;
	workers_ready($node, 'clicks');
	right_ok($node, $counts, "killed, $round");
	cmp_ok(sql($DROPPED), '>=', $was, "what was dropped stays so, $round");
}
my $last = sql('SELECT max(volume) FROM ledger_volumes');
retention_round();
pass_time(144 * $MINUTE);
becomes("SELECT max(volume) > $last FROM ledger_volumes", 'that a volume is opened after a restart');
my $now = sql($OLDEST);
pass_time(4 * $DAY);
becomes("SELECT ($OLDEST) > $now", 'that a volume is dropped after a restart');
right_ok($node, $counts, 'in the end');
is(sql('SELECT health FROM adclick.health()'), 'ok', 'all is well');
$node->wait_for_catchup($standby);
right_ok($standby, $counts, 'the standby in the end');
$standby->stop;
$node->stop;

done_testing();
