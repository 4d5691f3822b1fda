# One chore that fails stops no other: it is rolled back, told, and tried again.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('chores');

$node->start;
adclick_database($node, 'clicks');
send_clicks($node, 'clicks', 2000);
exact_ok($node, 'clicks', 'before');

# Keys of old windows are not loaded: a click there is queued.
$node->restart;
workers_ready($node, 'clicks');
drained($node, 'clicks');
quiet_workers($node, 'clicks');
my $aggregator = $node->safe_psql('clicks', 'SELECT aggregator_pid FROM adclick.status');
my $compactor = $node->safe_psql('clicks', 'SELECT compactor_pid FROM adclick.status');
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT gen_random_uuid(), 7, now() - interval '3 hours' FROM generate_series(1, 10);
	SELECT adclick.tick()});
is($node->safe_psql('clicks', 'SELECT queued FROM adclick.status'), '10', 'late clicks wait');
send_clicks($node, 'clicks', 1000);
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT i, now() - interval '10 minutes' FROM generate_series(1, 100) i;
	INSERT INTO adclick.clicks (ad_id) SELECT i FROM generate_series(1, 100) i;
	SELECT adclick.tick()});

# Every delta is damaged: nothing can be merged.
$node->safe_psql('clicks', q{
	CREATE TABLE undamaged AS SELECT run_id, first_key, number, get_byte(data, 0) AS byte FROM adclick_internal.deltas;
	UPDATE adclick_internal.deltas SET data = set_byte(data, 0, 255)});
wake_workers($node);
ok($node->poll_query_until('clicks', q{SELECT coalesce(last_error LIKE 'compaction: %segment%', false) FROM adclick.status}),
	'the status tells which chore fails, and why');
ok($node->poll_query_until('clicks', 'SELECT queued = 0 FROM adclick.status'), 'late clicks are decided all the same');
send_clicks($node, 'clicks', 500);
ok($node->poll_query_until('clicks', 'SELECT lag_rows = 0 FROM adclick.status'), 'and ticks go on');
conserved_ok($node, 'clicks', 'while compaction fails');
is($node->safe_psql('clicks', 'SELECT aggregator_pid, compactor_pid FROM adclick.status'), "$aggregator|$compactor",
	'in the same processes');

# Mended, compaction goes on by itself.
$node->safe_psql('clicks', q{
	UPDATE adclick_internal.deltas d SET data = set_byte(data, 0, byte) FROM undamaged u
	WHERE (d.run_id, d.first_key, d.number) = (u.run_id, u.first_key, u.number)});
exact_ok($node, 'clicks', 'mended');
ok($node->poll_query_until('clicks', q{
	SELECT NOT EXISTS (SELECT FROM undamaged u JOIN adclick_internal.runs r USING (run_id))}), 'compaction has caught up');
lists_ok($node, 'clicks', 'mended');

done_testing();
