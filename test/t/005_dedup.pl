# Dedup beyond memory, beyond restarts and against hostile times: everything is
# exact.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main', 'adclick.dedup_memory' => "'1MB'", 'adclick.tick_interval' => "'50ms'");
$node->start;
adclick_database($node, 'clicks');

# Clicks with ids, spread evenly from .. to (intervals before now).
sub backfill
{
	my ($n, $from, $to) = @_;
	$node->safe_psql('clicks', qq{
		INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, country)
		SELECT i % 500, now() - interval '$from' + i * (interval '$from' - interval '$to') / $n, i % 3000, 'CA'
		FROM generate_series(1, $n) i});
	return;
}

# Copies of n clicks, oldest or newest first.
sub copies
{
	my ($n, $order) = @_;
	$node->safe_psql('clicks', qq{
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
		SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device
		FROM adclick.click_log WHERE click_id IS NOT NULL AND clicked_at IS NOT NULL AND isfinite(clicked_at)
		ORDER BY clicked_at $order LIMIT $n});
	return;
}

#
# More keys than memory holds
#
backfill(8_000, '9 minutes', '1 minute');
exact_ok($node, 'clicks', 'keys that fit');
for my $round (1 .. 3)
{
	backfill(25_000, '50 minutes', '0');
	drained($node, 'clicks');    # so that copies meet windows that have left memory
	copies(500, 'ASC');
	copies(500, 'DESC');
}
cmp_ok($node->safe_psql('clicks', 'SELECT dedup_bytes FROM adclick.status'), '<=', 1024 * 1024, 'memory is bounded');
exact_ok($node, 'clicks', 'more keys than memory holds');
cmp_ok($node->safe_psql('clicks', 'SELECT clicks_counted - dedup_keys FROM adclick.status'), '>', 30_000, 'most keys have left memory');

# One dedup bucket alone does not fit.
backfill(40_000, '3 minutes', '1 minute');
copies(2000, 'DESC');
exact_ok($node, 'clicks', 'a bucket that does not fit');
copies(2000, 'DESC');
exact_ok($node, 'clicks', 'copies into a bucket that did not fit');

#
# Backfill of old clicks, copies across restarts
#
backfill(5_000, '20 hours', '2 hours');
copies(500, 'ASC');
drained($node, 'clicks');
$node->restart;
copies(500, 'ASC');
backfill(5_000, '20 hours', '2 hours');
exact_ok($node, 'clicks', 'backfill of hours, and copies after a restart');
backfill(2_000, '6 days', '1 day');
copies(300, 'ASC');
$node->stop('immediate');
$node->start;
workers_ready($node, 'clicks');
copies(300, 'ASC');
exact_ok($node, 'clicks', 'backfill of days, a crash, and copies after it');

# Copies of late clicks, in ticks of their own and in one.
quiet_workers($node, 'clicks');
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT gen_random_uuid(), 900000 + i, date_trunc('minute', now() - interval '30 hours' - i * interval '1 minute')
	FROM generate_series(1, 100) i});
my $copy = 'INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT click_id, ad_id, clicked_at FROM adclick.click_log WHERE ad_id > 900000';
my $tick = 'SELECT counted, duplicates FROM adclick.tick()';
$node->safe_psql('clicks', $copy);
is($node->safe_psql('clicks', $tick), '100|100', 'copies of late clicks in one tick');
$node->safe_psql('clicks', $copy);
is($node->safe_psql('clicks', $tick), '0|200', 'in the next one');
$node->safe_psql('clicks', 'SELECT adclick.compact()');
$node->safe_psql('clicks', $copy);
is($node->safe_psql('clicks', $tick), '0|400', 'and after a compaction');
wake_workers($node, '50ms');
exact_ok($node, 'clicks', 'copies of late clicks');

#
# Fresh clicks stay fresh: of a bucket that had no click before the restart, too
#
set_conf($node, 'adclick.dedup_window' => "'1min'");
$node->restart;
workers_ready($node, 'clicks');
quiet_workers($node, 'clicks');
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT 910001, now() + interval '2 minutes' FROM generate_series(1, 100)});
is($node->safe_psql('clicks', "SELECT adclick.ad_click_count_between(910001, timestamptz '-infinity', 'infinity')"),
	'100', 'clicks of a new bucket after a restart are counted');
$node->safe_psql('clicks', 'SELECT adclick.tick()');
wake_workers($node, '50ms');
exact_ok($node, 'clicks', 'a window of one minute');
set_conf($node, 'adclick.dedup_window' => "'10min'");
$node->restart;

#
# Hostile times
#
$node->safe_psql('clicks', 'DROP EXTENSION adclick CASCADE');
adclick_again();
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT CASE i % 3 WHEN 0 THEN gen_random_uuid()
			WHEN 1 THEN oracle.uuid_v7(now() - random() * interval '8 days')
			ELSE oracle.uuid_v7(now() + (random() - 0.5) * interval '20 years') END,
		i % 50, date_trunc('minute', now() - random() * interval '6 days 23 hours')
	FROM generate_series(1, 4000) i});
copies(1000, 'ASC');
send_clicks($node, 'clicks', 3000, '6 days');
exact_ok($node, 'clicks', 'times spread over days');
copies(1000, 'DESC');
exact_ok($node, 'clicks', 'copies of them');

# Copies whose clicked_at differs meet by the time in their id; others by clicked_at.
$node->safe_psql('clicks', q{
	WITH t AS MATERIALIZED (
		SELECT date_trunc('hour', now()) - interval '2 hours' AS hour)
	, v7 AS MATERIALIZED (SELECT oracle.uuid_v7(hour) AS near, oracle.uuid_v7(hour - interval '30 hours') AS far, gen_random_uuid() AS v4, hour FROM t)
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT near, 920001, hour + m * interval '1 minute' FROM v7, generate_series(0, 59) m
	UNION ALL SELECT far, 920002, hour + m * interval '1 minute' FROM v7, generate_series(0, 59) m
	UNION ALL SELECT v4, 920003, hour + m * interval '1 minute' FROM v7, generate_series(0, 59) m
	UNION ALL SELECT NULL, 920004, hour + m * interval '1 minute' FROM v7, generate_series(0, 59) m});
drained($node, 'clicks');
is($node->safe_psql('clicks', q{
	SELECT string_agg(adclick.ad_click_count_between(a, timestamptz '-infinity', 'infinity')::text, ' ' ORDER BY a)
	FROM generate_series(920001, 920004) a}), '1 6 6 60',
	'the time in a version-7 id chooses the bucket, unless it is far from the click');
conserved_ok($node, 'clicks', 'version-7 ids');

# The key of a click says nothing of when a copy arrives, nor of the tolerance of the day:
# the time in this id is ahead of the arrival by more than that.
$node->safe_psql('clicks', q{
	WITH c AS MATERIALIZED (SELECT oracle.uuid_v7(now() + interval '1 hour') AS id, date_trunc('minute', now()) AS t)
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT id, 925001, t + d * interval '1 minute' FROM c, generate_series(-30, 0, 30) d});
drained($node, 'clicks');
is($node->safe_psql('clicks', "SELECT adclick.ad_click_count_between(925001, timestamptz '-infinity', 'infinity')"), '1',
	'copies of an id that is ahead of their arrival');

#
# Arrival times that clients claim
#
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, received_at, clicked_at) VALUES
		(930001, '2001-01-01', '2001-01-01'), (930001, '9999-01-01', '9998-12-31 23:59'), (930001, '9999-01-01', NULL),
		(930001, '2001-01-01', now())});
send_copies($node, 'clicks', 100);
drained($node, 'clicks');
$node->restart;
workers_ready($node, 'clicks');
send_copies($node, 'clicks', 100);
send_clicks($node, 'clicks', 300);
drained($node, 'clicks');
is($node->safe_psql('clicks', "SELECT adclick.ad_click_count_between(930001, timestamptz '-infinity', 'infinity')"),
	'2', 'arrivals claimed: clicks are judged by the real one');
# (the copies sent can be of these)
is($node->safe_psql('clicks', "SELECT string_agg(DISTINCT verdict, ', ') FROM adclick.click_log WHERE ad_id = 930001 AND verdict <> 'duplicate'"),
	'counted, in the future, too old', 'arrivals claimed: verdicts');
exact_ok($node, 'clicks', 'arrivals claimed');

#
# One click per user and ad
#
$node->safe_psql('clicks', 'DROP EXTENSION adclick CASCADE');
set_conf($node, 'adclick.dedup_by' => 'user_and_ad');
$node->restart;
adclick_again();
my $users = q{
	INSERT INTO adclick.clicks (ad_id, user_id, clicked_at, country)
	SELECT i % 20, nullif(i % 500, 0), date_trunc('hour', now()) - (i % 500) * interval '10 minutes', 'CA'
	FROM generate_series(1, 20000) i};
$node->safe_psql('clicks', $users);
exact_ok($node, 'clicks', 'one click per user and ad');
$node->restart;
$node->safe_psql('clicks', $users);
exact_ok($node, 'clicks', 'one click per user and ad, again after a restart');
cmp_ok($node->safe_psql('clicks', 'SELECT duplicates FROM adclick.status'), '>', 10_000, 'it had work to do');

# Another policy, and another window, from now on: what was counted stays.
my $counted = $node->safe_psql('clicks', 'SELECT clicks_counted FROM adclick.status');
set_conf($node, 'adclick.dedup_by' => 'click_id', 'adclick.dedup_window' => "'1h'");
quiet_workers($node, 'clicks');
# A tick follows the settings.
wake_workers($node, '50ms');
$node->poll_query_until('clicks', 'SELECT NOT by_user_and_ad AND dedup_window = 3600 FROM adclick_internal.dedup_rules JOIN adclick_internal.state USING (rule_id)')
	or die 'no tick follows the settings';
$node->safe_psql('clicks', q{
	WITH new AS MATERIALIZED (SELECT gen_random_uuid() AS id, i FROM generate_series(1, 100) i)
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT id, 940001, date_trunc('hour', now() - interval '1 hour') + m * interval '20 minutes' FROM new, generate_series(0, 2) m});
drained($node, 'clicks');
is($node->safe_psql('clicks', "SELECT clicks_counted - $counted FROM adclick.status"), '100', 'a window of an hour, from now on');
conserved_ok($node, 'clicks', 'after changes of the settings');

sub adclick_again
{
	$node->safe_psql('clicks', 'CREATE EXTENSION adclick');
	workers_ready($node, 'clicks');
	return;
}

done_testing();
