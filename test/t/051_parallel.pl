# Questions and views in a query with a parallel plan, while the keys are not loaded:
# after a restart, and after a change of the settings they were made with; all expressions
# compiled, where the server can do so.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('parallel', 'jit' => 'on', 'jit_above_cost' => 0);

$node->start;
adclick_database($node, 'clicks');
send_clicks($node, 'clicks', 1000);
exact_ok($node, 'clicks', 'before');
$node->safe_psql('clicks', 'CREATE TABLE large AS SELECT i FROM generate_series(1, 100000) i');
$node->safe_psql('clicks', 'ANALYZE large');

my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;';
like($node->safe_psql('clicks', "$parallel EXPLAIN SELECT count(*), adclick.ad_click_count(900, 60) FROM large"),
	qr/Gather/, 'the plan is parallel');

# Every question is asked as the first one that needs the keys.
for my $question ('adclick.ad_click_count(900, 60)', '(SELECT click_count FROM adclick.top_n_ads(100000, 60) WHERE ad_id = 900)',
	'(SELECT sum(click_count) FROM adclick.clicks_per_minute WHERE ad_id = 900)')
{
	$node->restart;
	workers_ready($node, 'clicks');
	quiet_workers($node, 'clicks');
	my $before = $node->safe_psql('clicks', 'SELECT adclick.ad_click_count(900, 60)');
	$node->safe_psql('clicks', 'INSERT INTO adclick.clicks (click_id, ad_id) VALUES (gen_random_uuid(), 900)');
	is($node->safe_psql('clicks', "$parallel SELECT count(*), $question FROM large"), '100000|' . ($before + 1), $question);
	set_conf($node, 'adclick.dedup_window' => "'9min'");
	$node->poll_query_until('clicks', "SELECT setting = '540' FROM pg_settings WHERE name = 'adclick.dedup_window'");
	is($node->safe_psql('clicks', "$parallel SELECT count(*), $question FROM large"), '100000|' . ($before + 1), "$question, after a reload");
	set_conf($node, 'adclick.dedup_window' => "'10min'");
	wake_workers($node);
}

done_testing();
