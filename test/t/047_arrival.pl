# Clicks are taken whenever they become visible: however long their transaction was
# open, whatever the clock was before, and whatever has become of the table since.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# No room for workers: every round is done by hand.
my $node = adclick_node('main', 'max_worker_processes' => 2, 'max_prepared_transactions' => 5, 'autovacuum' => 'off');
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE clicks');
sql('CREATE EXTENSION adclick');
sql(slurp_file("$FindBin::RealBin/lib/oracle.sql"));
sql('SELECT oracle.witness()');

sub sql { return $node->safe_psql('clicks', $_[0]) }

sub send_to { return "INSERT INTO adclick.clicks (ad_id) SELECT $_[0] FROM generate_series(1, $_[1]);" }

# A writer that waits for the table has not arrived yet; ticks do not wait with it.
sql(send_to(1, 10));
my $holder = $node->background_psql('clicks');
$holder->query_safe('BEGIN; LOCK TABLE adclick.clicks IN SHARE MODE');
my $writer = $node->background_psql('clicks');
$writer->query_until(qr/begun/, q{
	\echo begun
	COPY adclick.clicks (ad_id) FROM PROGRAM 'echo 2';
});
$node->poll_query_until('clicks', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%FROM PROGRAM%' AND wait_event_type = 'Lock'})
  or die 'COPY does not wait';
is(sql('SELECT counted FROM adclick.tick()'), '10', 'a tick while the table is locked against writers');
my $waited = sql(q{SELECT date_trunc('milliseconds', clock_timestamp())});
$holder->query_safe('COMMIT');
$_->quit for $holder, $writer;
is(sql("SELECT count(*) FROM adclick.clicks WHERE received_at >= '$waited'"), '1', 'a click arrives when its row is put');
taken_ok('a writer that waited');

# Writers that are open from before a tick, or from within a range that takes several,
# over more ticks, VACUUM and a crash.
my $open = $node->background_psql('clicks');
$open->set_query_timer_restart;
$open->query_safe('BEGIN;' . send_to(3, 50) . 'SAVEPOINT s;' . send_to(3, 500) . 'ROLLBACK TO s;' . send_to(3, 50));
sql('BEGIN;' . send_to(4, 70) . q{PREPARE TRANSACTION 'before'});
sql(send_to(5, 270000));
is(sql('SELECT more FROM adclick.tick()'), 't', 'a range takes several ticks');
sql('BEGIN;' . send_to(4, 100) . q{PREPARE TRANSACTION 'within'});
$open->query_safe(send_to(3, 50));
is(sql('SELECT more FROM adclick.tick()'), 'f', 'the range is taken');
for my $ad (6 .. 8)
{
	sql(send_to($ad, 10));
	is(sql('SELECT counted FROM adclick.tick()'), '10', "tick of ad $ad while others are open");
	sql('VACUUM adclick.clicks');
}
is(sql('SELECT lag_rows FROM adclick.status'), '0', 'what is not committed is no lag');
$open->query_safe('COMMIT');
$open->quit;
is(sql('SELECT lag_rows FROM adclick.status'), '150', 'committed late');
answers_ok($node, 'clicks', 'committed late', questions => 2);
taken_ok('committed late');
$node->stop('immediate');
$node->start;
sql(q{COMMIT PREPARED 'before'});
is(sql('SELECT lag_rows FROM adclick.status'), '70', 'a prepared transaction, committed after a crash');
taken_ok('prepared before the range');
sql(q{VACUUM adclick.clicks; COMMIT PREPARED 'within'; VACUUM adclick.clicks});
taken_ok('prepared within the range');
is(sql(q{SELECT string_agg(adclick.ad_click_count_between(a, '-infinity', 'infinity')::text, ' ' ORDER BY a) FROM generate_series(1, 8) a}),
	'10 1 150 170 270000 10 10 10', 'each counted once');

# What the ticks remember of the clock, ahead and back: it was set wrong, and right again.
for my $by ('3 hours', '-3 hours', '400 days', '-400 days')
{
	sql(qq{
		UPDATE adclick_internal.state SET ticked_at = now() + interval '$by', newest_received = now() + interval '$by', event_time = now() + interval '$by'});
	sql(send_to(9, 100) . 'INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (9, now() - interval \'2 hours\')');
	is(sql('SELECT lag_rows FROM adclick.status'), '101', "a clock off by $by: clicks are in the tail");
	answers_ok($node, 'clicks', "a clock off by $by", questions => 2);
	is(sql('SELECT counted FROM adclick.tick()'), '101', "a clock off by $by: and taken");
	sql('SELECT adclick.compact()');
	taken_ok("a clock off by $by");
}

# The hour in which a click claims to have arrived is over, or far ahead.
for my $claim (q{now() - interval '3 hours'}, q{now() + interval '3 hours'}, q{'-infinity'}, q{'infinity'})
{
	sql("INSERT INTO adclick.clicks (ad_id, received_at) SELECT 10, $claim FROM generate_series(1, 10)");
	is(sql('SELECT counted FROM adclick.tick()'), '10', "an arrival claimed, $claim: counted");
}
is(sql(q{SELECT count(*) FROM adclick.click_log WHERE ad_id = 10 AND abs(extract(epoch FROM received_at - clicked_at)) < 3600}), '40',
	'and all have arrived when they came');
taken_ok('arrivals claimed');

sub taken_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	sql('DO $$ BEGIN WHILE (SELECT more FROM adclick.tick()) LOOP COMMIT; END LOOP; END $$');
	is(sql('SELECT lag_rows FROM adclick.status'), '0', "$name: taken");
	conserved_ok($node, 'clicks', $name);
	verdicts_ok($node, 'clicks', $name);
	facts_ok($node, 'clicks', $name);
	answers_ok($node, 'clicks', $name, questions => 2);
	return;
}

done_testing();
