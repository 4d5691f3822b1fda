# A standby answers as far as ticks have been replayed, and goes on exactly when
# it is promoted.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = adclick_node('primary', allows_streaming => 1);
$primary->start;
adclick_database($primary, 'clicks', witness => 1);
send_clicks($primary, 'clicks', 3000);
drained($primary, 'clicks');

$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'adclick%'"),
	'0', 'no workers on a standby');
is($standby->safe_psql('clicks', 'SELECT workers_alive, aggregator_pid IS NULL, lag_rows FROM adclick.status'),
	'0|t|0', 'status tells so');

send_clicks($primary, 'clicks', 3000);
send_copies($primary, 'clicks', 100);
$primary->safe_psql('clicks', 'SELECT adclick.compact()');
drained($primary, 'clicks');
$primary->wait_for_catchup($standby);
facts_ok($standby, 'clicks', 'all taken');
answers_ok($standby, 'clicks', 'all taken');
is($standby->safe_psql('clicks', 'BEGIN READ ONLY; SELECT count(*) > 0 FROM adclick.top_n_ads(10, 60); COMMIT'),
	't', 'in a READ ONLY transaction');
is($standby->safe_psql('clicks', "SELECT count(*) FROM (SELECT * FROM adclick.filters WHERE country = 'CA') x") > 0, 1, 'filters can be read');

for my $function ('adclick.tick()', 'adclick.compact()')
{
	my (undef, undef, $error) = $standby->psql('clicks', "SELECT $function");
	like($error, qr/cannot execute \Q$function\E (during recovery|in a read-only transaction)/, "$function is refused");
}

# With the tail: the stored keys tell what is a duplicate there.
quiet_workers($primary, 'clicks');
send_clicks($primary, 'clicks', 1000);
send_copies($primary, 'clicks', 50);
$primary->wait_for_catchup($standby);
answers_ok($standby, 'clicks', 'with a tail');
answers_ok($primary, 'clicks', 'with a tail, on the primary');
is($standby->safe_psql('clicks', 'SELECT lag_rows FROM adclick.status'),
	$primary->safe_psql('clicks', 'SELECT lag_rows FROM adclick.status'), 'the lag is the same');
conserved_ok($standby, 'clicks', 'on the standby');

# Answers while ticks and compaction are being replayed.
wake_workers($primary, '50ms');
my $writers = writers_start($primary, 'clicks', 2, rows => 100);
for my $round (1 .. 5)
{
	$primary->poll_query_until('clicks', 'SELECT count(*) > ' . (5000 + $round * 1000) . ' FROM adclick.click_log');
	answers_ok($standby, 'clicks', "under load, round $round, on the standby", questions => 8);
	verdicts_ok($standby, 'clicks', "under load, round $round, on the standby");
	conserved_ok($standby, 'clicks', "under load, round $round, on the standby");
}

# The primary fails with a tail; the standby is promoted and takes it.
writers_stop($writers);
quiet_workers($primary, 'clicks');
send_clicks($primary, 'clicks', 1000);
my ($id, $ad) = split /\|/, $primary->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (900001, date_trunc('minute', now())) RETURNING click_id, ad_id});
$primary->wait_for_catchup($standby);
my $rows = $primary->safe_psql('clicks', 'SELECT count(*) FROM adclick.click_log');
$primary->stop('immediate');
$standby->promote;
wake_workers($standby);
workers_ready($standby, 'clicks');
pass('promoted: workers start');
is($standby->safe_psql('clicks', 'SELECT count(*) FROM adclick.click_log'), $rows, 'every click is there');
answers_ok($standby, 'clicks', 'promoted');
exact_ok($standby, 'clicks', 'promoted, the tail taken');

# Copies of what the old primary counted, or had in its tail, are duplicates.
$standby->safe_psql('clicks', qq{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT click_id, ad_id, clicked_at FROM adclick.click_log WHERE click_id = '$id'});
is($standby->safe_psql('clicks', "SELECT adclick.ad_click_count_between($ad, timestamptz '-infinity', 'infinity')"),
	'1', 'promoted: a copy of a click of the old primary is a duplicate');
send_copies($standby, 'clicks', 300);
send_clicks($standby, 'clicks', 3000);
exact_ok($standby, 'clicks', 'promoted, going on');

done_testing();
