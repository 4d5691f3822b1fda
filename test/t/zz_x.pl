use strict; use warnings FATAL=>'all';
use FindBin; use lib "$FindBin::RealBin/lib";
use AdclickTest; use PostgreSQL::Test::Cluster; use PostgreSQL::Test::Utils; use Test::More;
my $node = adclick_node('x'); $node->start;
adclick_database($node,'a');
$node->safe_psql('a', "INSERT INTO adclick.clicks(ad_id) SELECT 1"); drained($node,'a'); $node->restart;
$node->safe_psql('a', "INSERT INTO adclick.clicks(ad_id, clicked_at) SELECT 1, now() - interval '30 hours' FROM generate_series(1,10)");
exact_ok($node,'a','late');
done_testing();
