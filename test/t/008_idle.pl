# Without clicks the workers leave no trace: no WAL, no transaction ids, no
# snapshot that holds back vacuum.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main',
	'adclick.tick_interval' => "'20ms'",
	'adclick.watermark' => "'0s'",
	'autovacuum' => 'off');
$node->start;
adclick_database($node, 'clicks');
$node->safe_psql('clicks', 'CREATE EXTENSION pg_walinspect');

my $ROUNDS = q{SELECT xact_commit FROM pg_stat_database WHERE datname = 'clicks'};

sub records_while_idle
{
	my ($rounds, $name) = @_;

	# dirty pages and hints of what went before are not the workers' doing
	$node->safe_psql('clicks', 'CHECKPOINT');
	my ($begin, $xmax) = split /\|/, $node->safe_psql('clicks', 'SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())');
	my $from = $node->safe_psql('clicks', $ROUNDS);
	my ($aggregator, $compactor) = workers_ready($node, 'clicks');

	# our own looks are transactions too: less than one for each of theirs
	ok($node->poll_query_until('postgres', "SELECT xact_commit > $from + $rounds FROM pg_stat_database WHERE datname = 'clicks'"),
		"$name: some $rounds rounds go by");
	$node->safe_psql('clicks', 'SELECT 1');
	is($node->safe_psql('clicks', 'SELECT pg_snapshot_xmax(pg_current_snapshot())'), $xmax, "$name: no transaction ids used");
	is(join(',', workers_ready($node, 'clicks')), "$aggregator,$compactor", "$name: by the same workers");

	$node->safe_psql('clicks', 'CHECKPOINT');    # there must be some WAL to read
	# PostgreSQL 15 has a function of its own for that; reading prunes catalogs, and sets hints in them
	my $records = $node->safe_psql('clicks', q{SELECT count(*) FROM pg_proc WHERE proname = 'pg_get_wal_records_info_till_end_of_wal'})
	  ? "pg_get_wal_records_info_till_end_of_wal('$begin')" : "pg_get_wal_records_info('$begin', 'FFFFFFFF/FFFFFFFF')";
	return $node->safe_psql('clicks', qq{
		SELECT string_agg(DISTINCT resource_manager || '/' || record_type, ', ')
		FROM $records
		WHERE NOT (resource_manager = 'Heap2' AND record_type LIKE 'PRUNE%') AND record_type <> 'FPI_FOR_HINT' AND NOT (resource_manager = 'Standby' AND record_type = 'RUNNING_XACTS')
			AND NOT (resource_manager = 'XLOG' AND record_type LIKE 'CHECKPOINT%')});
}

is(records_while_idle(60, 'before the first click'), '', 'before the first click: no WAL');

# of minutes that are over, so that they are compacted at once
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country, device)
	SELECT click_id, ad_id, clicked_at - interval '2 minutes', country, device
	FROM oracle.random_clicks(2000, '2 minutes') WHERE clicked_at IS NOT NULL});
exact_ok($node, 'clicks', 'some clicks');
$node->safe_psql('clicks', 'SELECT adclick.compact()');
$node->poll_query_until('clicks', 'SELECT open_minutes = 0 FROM adclick.status');
is(records_while_idle(60, 'after clicks'), '', 'after clicks: no WAL');

# Late clicks that are carried along must not keep the compactor busy for ever.
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT i, now() - interval '2 minutes' FROM generate_series(1, 2000) i});
drained($node, 'clicks');
$node->poll_query_until('clicks', 'SELECT count(*) = 0 FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta');
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT 1, now() - interval '3 minutes' FROM generate_series(1, 3) i});
drained($node, 'clicks');
is(records_while_idle(60, 'late clicks carried along'), '', 'late clicks carried along: no WAL');

# Discarded clicks and rolled-back ones do not either.
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (1, 'infinity');
	BEGIN; INSERT INTO adclick.clicks (ad_id) VALUES (1); ROLLBACK});
drained($node, 'clicks');
is(records_while_idle(60, 'after odd ones'), '', 'after odd ones: no WAL');

# Between rounds no snapshot is held.
quiet_workers($node, 'clicks');
is($node->safe_psql('clicks', q{
	SELECT count(*), count(backend_xmin), count(backend_xid), count(xact_start) FROM pg_stat_activity
	WHERE backend_type IN ('adclick aggregator', 'adclick compactor', 'adclick launcher')}),
	'3|0|0|0', 'no snapshot, no transaction between rounds');
is($node->safe_psql('clicks', q{
	SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.backend_type LIKE 'adclick %'}),
	'0', 'and no lock');
like($node->safe_psql('clicks', "SELECT string_agg(state, ',') FROM pg_stat_activity WHERE backend_type LIKE 'adclick %'"),
	qr/^idle,idle,idle$/, 'they say they are idle');

done_testing();
