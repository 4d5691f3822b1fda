# Partitions of the log are closed, not looked at again, when no more clicks can come
# into them: whoever is still open, and whatever the clock was before.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# No room for workers: every round is done by hand.
my $node = adclick_node('main', 'max_worker_processes' => 2, 'max_prepared_transactions' => 5);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE clicks');
$node->safe_psql('clicks', 'CREATE EXTENSION adclick');
$node->safe_psql('clicks', slurp_file("$FindBin::RealBin/lib/oracle.sql"));

# An hour that is over, with a partition of its own.
$node->safe_psql('clicks', q{
	CREATE TABLE hour AS SELECT date_trunc('hour', now(), 'UTC') - interval '3 hours' AS t;
	SELECT format('CREATE TABLE adclick_internal.past PARTITION OF adclick.clicks FOR VALUES FROM (%L) TO (%L)', t, t + interval '1 hour') FROM hour
	\gexec
	ALTER TABLE adclick_internal.past OWNER TO adclick_owner;
	CREATE FUNCTION send(ad bigint, n int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO adclick.clicks (ad_id, clicked_at, received_at) SELECT ad, t, t FROM hour, generate_series(1, n) $$});

sub is_open { return $node->safe_psql('clicks', 'SELECT open_from <= t FROM adclick_internal.state, hour') }

# Who waits between its arrival and its row has an id, which partitions are closed by.
my $holder = $node->background_psql('clicks');
$holder->query_safe(q{BEGIN; DO $$ DECLARE leaf regclass; BEGIN FOR leaf IN SELECT relid FROM pg_partition_tree('adclick.clicks') WHERE isleaf
	LOOP EXECUTE format('LOCK TABLE ONLY %s IN SHARE MODE', leaf); END LOOP; END $$});
my $writer = $node->background_psql('clicks');
$writer->query_until(qr/begun/, q{
	\echo begun
	COPY adclick.clicks (ad_id) FROM PROGRAM 'echo 11';
});
$node->poll_query_until('clicks', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%FROM PROGRAM%' AND wait_event_type = 'Lock'})
  or die 'COPY does not wait';
is($node->safe_psql('clicks', q{SELECT backend_xid IS NOT NULL FROM pg_stat_activity WHERE query LIKE '%FROM PROGRAM%' AND wait_event_type = 'Lock'}),
	't', 'a COPY that waits for its partition has an id');
$holder->query_safe('COMMIT');
$_->quit for $holder, $writer;

# A writer that begins while a range is taken in several ticks.
$node->safe_psql('clicks', 'INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 270000)');
is($node->safe_psql('clicks', 'SELECT more FROM adclick.tick()'), 't', 'a range takes several ticks');
$node->safe_psql('clicks', q{BEGIN; SELECT send(2, 100); PREPARE TRANSACTION 'open'});
is($node->safe_psql('clicks', 'SELECT more FROM adclick.tick()'), 'f', 'the range is taken');
for my $ad (3, 4, 5)
{
	$node->safe_psql('clicks', "SELECT send($ad, 10); SELECT adclick.tick()");
}
is(is_open(), 't', 'not closed: a transaction that was open then may have written into it');
$node->safe_psql('clicks', q{COMMIT PREPARED 'open'});
answers_ok($node, 'clicks', 'committed late', questions => 2);
$node->safe_psql('clicks', 'SELECT adclick.tick()');
exact_by_hand('committed late, and taken');

# With nobody open it is closed.
for my $ad (6, 7)
{
	$node->safe_psql('clicks', "INSERT INTO adclick.clicks (ad_id) SELECT $ad FROM generate_series(1, 10); SELECT adclick.tick()");
}
is(is_open(), 'f', 'closed in the end');

# The clock was ahead, and is set right.
$node->safe_psql('clicks', q{UPDATE adclick_internal.state SET open_from = date_trunc('hour', now(), 'UTC') + interval '3 hours'});
$node->safe_psql('clicks', 'INSERT INTO adclick.clicks (ad_id) SELECT 8 FROM generate_series(1, 100)');
is($node->safe_psql('clicks', 'SELECT lag_rows FROM adclick.status'), '100', 'a clock set back: clicks are in the tail');
answers_ok($node, 'clicks', 'a clock set back', questions => 2);
is($node->safe_psql('clicks', 'SELECT counted FROM adclick.tick()'), '100', 'and taken');
is($node->safe_psql('clicks', 'SELECT open_from < now() FROM adclick_internal.state'), 't', 'partitions are open again');
exact_by_hand('a clock set back');

# Half of a range is taken, and the partition of the rest is dropped: ticks go on.
$node->safe_psql('clicks', 'INSERT INTO adclick.clicks (ad_id) SELECT 9 FROM generate_series(1, 263000)');
$node->safe_psql('clicks', 'SELECT send(9, 1000)');
$node->safe_psql('clicks', q{
	SELECT more FROM adclick.tick();
	SELECT format('DROP TABLE %s', relid) FROM pg_partition_tree('adclick.clicks') WHERE isleaf AND relid <> 'adclick_internal.clicks_default'::regclass
	\gexec
	INSERT INTO adclick.clicks (ad_id) SELECT 10 FROM generate_series(1, 5);
	DO $$ BEGIN WHILE (SELECT more FROM adclick.tick()) LOOP END LOOP; END $$});
is($node->safe_psql('clicks', "SELECT adclick.ad_click_count_between(10, '-infinity', 'infinity'), lag_rows FROM adclick.status"), '5|0',
	'the rest of a range was dropped: ticks go on');

sub exact_by_hand
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	conserved_ok($node, 'clicks', $name);
	facts_ok($node, 'clicks', $name);
	answers_ok($node, 'clicks', $name, questions => 2);
	return;
}

done_testing();
