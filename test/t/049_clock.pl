# The machine's clock is wrong, is set while all goes on, and is set right again: no
# click is lost, none counts twice, and nothing waits for a time that comes again.
#
# The server reads its clock through lib/clock.c, which adds what a file says.  Each
# step of it has clicks with and without a time, by version-7 and random ids, copies of
# those before, and transactions that stay open or prepared over steps.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickClock;
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = clocked(adclick_node('main', 'adclick.watermark' => "'0s'", 'adclick.raw_retention' => "'7d'",
	'max_prepared_transactions' => 20, 'autovacuum' => 'off'));
my $real = time;

$node->start;
adclick_database($node, 'clicks', witness => 1);

sub sql { return $node->safe_psql('clicks', $_[0]) }

# Set the clock of the running server.
sub set_clock
{
	my ($seconds) = @_;

	clocks_are($seconds, 0);
	cmp_ok(abs(sql('SELECT extract(epoch FROM clock_timestamp())') - time - $seconds), '<', 1800, "the clock is off by $seconds s");
	return;
}

# Clicks by the server's clock and by the real one; and all kinds of them.
sub send_all_kinds
{
	sql(qq{
		INSERT INTO adclick.clicks (ad_id) SELECT 4001 FROM generate_series(1, 10);
		INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT 4002, to_timestamp($real) FROM generate_series(1, 10);
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT oracle.uuid_v7(to_timestamp($real)), 4003, to_timestamp($real) FROM generate_series(1, 10);
		SELECT oracle.send_clicks(300, '10 minutes');
		SELECT oracle.send_copies(100)});
	return;
}

my ($HOUR, $DAY) = (3600, 86400);
my $held;

for my $seconds (0, 3 * $HOUR, -2 * $HOUR, 40 * $DAY, 0, -40 * $DAY, $HOUR / 2, 400 * $DAY, 5)
{
	my $name = "off by $seconds s";

	set_clock($seconds);
	send_all_kinds();
	my $open = $node->background_psql('clicks');
	$open->query_safe("BEGIN; INSERT INTO adclick.clicks (ad_id) SELECT 4004 FROM generate_series(1, 10)");
	exact_ok($node, 'clicks', $name, questions => 6);

	# what was left open, or prepared, at the last step
	if ($held)
	{
		$held->query_safe('COMMIT');
		$held->quit;
		sql(q{COMMIT PREPARED 'held'});
	}
	sql(q{BEGIN; INSERT INTO adclick.clicks (ad_id) SELECT 4005 FROM generate_series(1, 10); PREPARE TRANSACTION 'held'});
	$held = $open;
	exact_ok($node, 'clicks', "$name, what was held back", questions => 6);
}

# A click that seems to come from the future has waited for no time yet.
set_clock($DAY);
quiet_workers($node, 'clicks');
sql('INSERT INTO adclick.clicks (ad_id) VALUES (4007)');
set_clock(0);
is(sql('SELECT lag_rows, lag_seconds FROM adclick.status'), '1|0', 'one that waits from the future on');
wake_workers($node);

# Something fails while the clock is ahead: when it is set right, nobody waits until then.
set_clock(10 * $DAY);
sql('ALTER TABLE adclick_internal.state RENAME COLUMN event_time TO time_of_event');
sql('INSERT INTO adclick.clicks (ad_id) VALUES (4006)');
$node->poll_query_until('clicks', q{SELECT failure ~ '^tick: relation' FROM adclick_internal.worker(false)}) or die 'nothing fails';
is(sql("SELECT last_error_at > now() - interval '1 hour' FROM adclick.status"), 't', 'rounds fail while the clock is ahead');
set_clock(0);
sql('ALTER TABLE adclick_internal.state RENAME COLUMN time_of_event TO event_time');
exact_ok($node, 'clicks', 'a failure while the clock was ahead', questions => 6);

# The same over a restart, with the clock set meanwhile.
for my $seconds (-20 * $DAY, 20 * $DAY, 0)
{
	clocks_are($seconds, 0);
	$node->restart;
	workers_ready($node, 'clicks');
	send_all_kinds();
	exact_ok($node, 'clicks', "a restart, off by $seconds s", questions => 6);
}
$held->quit;
sql(q{COMMIT PREPARED 'held'});
exact_ok($node, 'clicks', 'in the end', questions => 6);
is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', 'the ledger is balanced');
is(sql(q{SELECT string_agg(n::text, ' ' ORDER BY ad_id) FROM (
	SELECT ad_id, count(*) AS n FROM adclick.click_log WHERE ad_id IN (4001, 4004, 4005, 4006) AND verdict = 'counted' GROUP BY 1) c}),
	'120 80 90 1', 'what has no time of its own counts, whatever the clock says');

# The last times there are, in the year 294276.
set_clock(9_223_371_331_200 + 946_684_800 - time - 60);
sql('INSERT INTO adclick.clicks (ad_id) VALUES (4008), (4008)');
for my $name ('in the tail', 'taken by a tick')
{
	is(sql(q{
		SELECT adclick.ad_click_count_between(4008, '-infinity', 'infinity'), (SELECT click_count FROM adclick.top_n_ads_between(1, date_trunc('hour', now()), 'infinity')),
			(SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = 4008)}), '2|2|2', "the end of time, $name");
	drained($node, 'clicks');
}
is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', 'the ledger is balanced at the end of time');
$node->stop;

done_testing();
