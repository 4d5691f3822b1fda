# What hours wait for: late clicks for an hour that is settled after another one; and runs
# that are damaged, which keep nothing else from its hour.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# With so long a watermark event time is that of the clicks.
my $node = adclick_node('main', 'adclick.watermark' => "'1h'", 'adclick.raw_retention' => "'100d'", 'autovacuum' => 'off');

$node->start;
adclick_database($node, 'clicks');
my $start = $node->safe_psql('clicks', q{SELECT date_trunc('hour', now(), 'UTC') - interval '60 hours'});
my $final = 'sort_order = 0 AND NOT is_delta';
my $deltas = 'sort_order = 0 AND is_delta';

# In one transaction, so many clicks in each minute of parts of time: from and to, in minutes after the start.
sub send_minutes
{
	my @parts = @_;

	$node->safe_psql('clicks', 'INSERT INTO adclick.clicks (click_id, ad_id, user_id, clicked_at) ' . join(' UNION ALL ', map {
		"SELECT NULL::uuid, floor(random() * 100000)::bigint, i, timestamptz '$start' + m * interval '1 minute' FROM generate_series($_->[0], $_->[1] - 1) m, generate_series(1, $_->[2]) i"
	} @parts));
	drained($node, 'clicks');
	return;
}

# The hours after the start that have a run, and those that have runs of minutes: hour, and how many.
sub hours
{
	return $node->safe_psql('clicks', qq{
		SELECT string_agg(hour || CASE WHEN n = 1 AND is_hour THEN '' ELSE ' in ' || n END, ', ' ORDER BY hour)
		FROM (SELECT (extract(epoch FROM first_minute - timestamptz '$start') / 3600)::int - CASE WHEN first_minute = last_minute
				AND extract(minute FROM first_minute) >= 30 THEN 1 ELSE 0 END AS hour, first_minute < last_minute AS is_hour, count(*) AS n
			FROM adclick_internal.runs WHERE $final GROUP BY 1, 2) h});
}

# Of the hours before one, something waits for these, and soon for no other: what comes late is looked at now and then.
sub waiting_is
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($before, $expected, $name) = @_;

	ok($node->poll_query_until('clicks', qq{
		SELECT coalesce(string_agg(DISTINCT h, ', ' ORDER BY h), '') FROM (SELECT floor(extract(epoch FROM m - timestamptz '$start') / 3600)::text AS h
		FROM adclick_internal.runs, unnest(minutes) m WHERE $deltas AND m < timestamptz '$start' + $before * interval '1 hour') x}, $expected), $name);
	return;
}

sub minutes_written
{
	my ($n) = @_;

	$node->poll_query_until('clicks', "SELECT count(*) = $n FROM adclick_internal.runs WHERE $final AND first_minute = last_minute")
	  or diag(hours());
	compacted($node, 'clicks');
	return;
}

sub counts_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	is($node->safe_psql('clicks', 'SELECT md5(string_agg(format($$%s %s$$, click_minute, n), $$,$$ ORDER BY click_minute)) FROM (SELECT click_minute, sum(click_count) AS n FROM adclick.ad_click_counts GROUP BY 1) x'),
		$node->safe_psql('clicks', q{SELECT md5(string_agg(format($$%s %s$$, m, n), $$,$$ ORDER BY m)) FROM (SELECT date_trunc('minute', clicked_at) AS m, count(*) AS n FROM adclick.click_log GROUP BY 1) x}),
		"$name: clicks by minute");
	lists_ok($node, 'clicks', $name);
	return;
}

# Two hours of minutes, the second of which still goes on.
send_minutes([0, 120, 20]);
send_minutes([170, 171, 1]);
minutes_written(110);
# Both are settled at once, and the second one has late clicks that are worth it.
send_minutes([60, 110, 20], [240, 271, 5]);
compacted($node, 'clicks');
is(hours(), '0, 1, 2 in 1', 'hours that are settled at once');
waiting_is(2, '', 'what came late for the second one does not wait');
counts_ok('settled at once');
send_minutes([600, 720, 5]);
compacted($node, 'clicks');
is(hours(), '0, 1, 2, 4, 10 in 59', 'hours that are settled later');

# Again two of them; in the first one, a run that says what cannot be, and so do two older hours.
send_minutes([1200, 1320, 20]);
send_minutes([1370, 1371, 1]);
minutes_written(110);
is(hours(), '0, 1, 2, 4, 10, 11, 20 in 60, 21 in 50', 'minutes of two hours');
$node->safe_psql('clicks', qq{
	CREATE TABLE kept AS SELECT run_id, facts, clicks FROM adclick_internal.runs;
	UPDATE adclick_internal.runs SET clicks = facts - 1 WHERE $final AND first_minute = timestamptz '$start' + interval '20 hours 7 minutes';
	UPDATE adclick_internal.runs SET facts = 9000000000000000000, clicks = 9000000000000000000 WHERE $final AND first_minute >= timestamptz '$start' + interval '10 hours' AND first_minute < timestamptz '$start' + interval '12 hours'});
my $newest = $node->safe_psql('clicks', 'SELECT max(run_id) FROM adclick_internal.runs');
send_minutes([0, 120, 10], [600, 720, 10], [1200, 1320, 10], [1800, 1920, 5]);
ok($node->poll_query_until('clicks', "SELECT count(*) = 1 FROM adclick_internal.runs WHERE $final AND first_minute = timestamptz '$start' + interval '30 hours' AND first_minute = last_minute"),
	'minutes are written beside damaged hours') or diag($node->safe_psql('clicks', 'SELECT last_error FROM adclick.status'));
compacted($node, 'clicks');
is(hours(), '0, 1, 2, 4, 10, 11, 20 in 60, 21, 22, 30 in 59', 'and hours');
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $final AND run_id > $newest AND first_minute < timestamptz '$start' + interval '2 hours'"), '2',
	'late clicks reach the others');
waiting_is(30, '10, 11, 20', 'and wait for these');
like($node->safe_psql('clicks', 'SELECT last_error FROM adclick.status'), qr/^compaction: run [0-9]+ of "runs" is damaged/, 'the status tells of it');

# More for them is not merged with what waits already.
my $pile = $node->safe_psql('clicks', "SELECT run_id FROM adclick_internal.runs WHERE $deltas ORDER BY facts DESC LIMIT 1");
for my $n (1 .. 2)
{
	send_minutes([600, 601, 1], [1200, 1201, 1], [1920, 1921, 1]);
	send_minutes([1921 + 2 * $n, 1923 + 2 * $n, 1]);
	compacted($node, 'clicks');
	is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE run_id = $pile"), '1', 'a large delta is left as it is');
}

# Mended.
$node->safe_psql('clicks', 'UPDATE adclick_internal.runs r SET facts = k.facts, clicks = k.clicks FROM kept k WHERE k.run_id = r.run_id');
$node->safe_psql('clicks', 'SELECT pg_terminate_backend(compactor_pid) FROM adclick.status');
ok($node->poll_query_until('clicks', "SELECT count(*) = 9 FROM adclick_internal.runs WHERE $final AND first_minute < last_minute"), 'mended, the minutes become an hour');
compacted($node, 'clicks');
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE run_id = $pile"), '0', 'and what waited is merged');
counts_ok('mended');

# Old clicks that come alone, in hours that had none, are no reason to merge what waits.
send_minutes([0, 120, 1], [2000, 2001, 1]);
compacted($node, 'clicks');
$pile = $node->safe_psql('clicks', "SELECT run_id FROM adclick_internal.runs WHERE $deltas AND last_minute < timestamptz '$start' + interval '2 hours'");
waiting_is(2, '0, 1', 'late clicks wait');
cmp_ok($node->safe_psql('clicks', 'SELECT open_minutes FROM adclick.status'), '<', 20, 'and their minutes are not open');
for my $minute (-600, -480)
{
	send_minutes([ $minute, $minute + 1, 1 ]);
	compacted($node, 'clicks');
}
like(hours(), qr/^-10, -8, 0, 1, /, 'older clicks alone have hours of their own');
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE run_id = $pile"), '1', 'and what waits is left as it is');
counts_ok('old clicks alone');
conserved_ok($node, 'clicks', 'in the end');

done_testing();
