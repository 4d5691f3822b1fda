# A history of hours, as the workers make it: late clicks cost what they are, and not
# what the hours have that they belong to; an hour that is damaged stops no other.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $DAYS = 40;
my $HOURS = 24 * $DAYS;
my $node = adclick_node('main', 'adclick.watermark' => "'0s'", 'adclick.raw_retention' => "'100d'", 'autovacuum' => 'off');

$node->start;
adclick_database($node, 'clicks');
my $end = $node->safe_psql('clicks', q{SELECT date_trunc('hour', now()) - interval '3 hours'});

# Clicks in each of so many steps before the end, each at random within its own.
sub send_history
{
	my ($steps, $step, $ads) = @_;

	$node->safe_psql('clicks', qq{
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country)
		SELECT NULL, floor(random() * $ads), timestamptz '$end' - (i - random()) * interval '$step', 'C' || i % 5 FROM generate_series(1, $steps) i});
	return;
}

# Wait until the compactor has nothing more to do; returns how many rounds it has made.
sub rounds_made
{
	drained($node, 'clicks');
	compacted($node, 'clicks');
	return $node->safe_psql('clicks', 'SELECT rounds FROM adclick_internal.compaction');
}

# Counts by ad, of all time and of a window that cuts hours, are those of the log.
sub counts_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;
	my ($from, $to) = ("timestamptz '$end' - interval '17 days 5 hours 7 minutes'", "timestamptz '$end' - interval '55 hours 11 minutes'");

	is($node->safe_psql('clicks', 'SELECT count(*), sum(click_count), sum(click_count * ad_id) FROM (SELECT ad_id, sum(click_count) AS click_count FROM adclick.ad_click_counts GROUP BY 1) x'),
		$node->safe_psql('clicks', 'SELECT count(DISTINCT ad_id), count(*), sum(ad_id) FROM adclick.click_log'), "$name: clicks by ad");
	is($node->safe_psql('clicks', 'SELECT md5(string_agg(format($$%s %s$$, click_minute, n), $$,$$ ORDER BY click_minute)) FROM (SELECT click_minute, sum(click_count) AS n FROM adclick.ad_click_counts GROUP BY 1) x'),
		$node->safe_psql('clicks', q{SELECT md5(string_agg(format($$%s %s$$, m, n), $$,$$ ORDER BY m)) FROM (SELECT date_trunc('minute', clicked_at) AS m, count(*) AS n FROM adclick.click_log GROUP BY 1) x}),
		"$name: clicks by minute");
	for my $country (undef, 'C3')
	{
		is($node->safe_psql('clicks', "SELECT string_agg(ad_id || ' ' || click_count, ', ' ORDER BY rank) FROM adclick.top_n_ads_between(50, $from, $to, '" . ($country ? qq{{"country": "$country"}} : '{}') . "')"),
			$node->safe_psql('clicks', "SELECT string_agg(ad_id || ' ' || n, ', ' ORDER BY n DESC, ad_id) FROM (SELECT ad_id, count(*) AS n FROM adclick.click_log WHERE clicked_at >= $from AND clicked_at < $to"
				. ($country ? " AND country = '$country'" : '') . ' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50) x'),
			"$name: top N" . ($country ? ' of a country' : ''));
	}
	return;
}

my $hours = 'sort_order = 0 AND NOT is_delta AND first_minute < last_minute';
my $deltas = 'sort_order = 0 AND is_delta';

# A backfill, in the order of time.
send_history(40 * $HOURS, '90 seconds', 1000);
my $rounds = rounds_made();
note("$rounds rounds");
is($node->safe_psql('clicks', "SELECT count(*) FILTER (WHERE $hours), count(*) FILTER (WHERE $hours) = count(*) FILTER (WHERE sort_order = 0 AND NOT is_delta) FROM adclick_internal.runs"),
	"$HOURS|t", 'a run of each hour');
counts_ok('a backfill');
lists_ok($node, 'clicks', 'a backfill');

# A late click in every twentieth minute: too few to write any hour anew.
my $newest = $node->safe_psql('clicks', 'SELECT max(run_id) FROM adclick_internal.runs');
for (1 .. 2)
{
	send_history(3 * $HOURS, '20 minutes', 1000);
	$rounds = rounds_made();
}
note("$rounds rounds");
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $hours AND run_id > $newest"), '0', 'few late clicks write no hour anew');
cmp_ok($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $deltas"), '<=', 8, 'they are in few deltas');
counts_ok('few late clicks');

# So many that they are worth it: most of them go to their hours, each written once or twice.
for (1 .. 3)
{
	send_history(3 * $HOURS, '20 minutes', 1000);
	$rounds = rounds_made();
}
note("$rounds rounds");
my $written = $node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $hours AND run_id > $newest");
cmp_ok($written, '>', $HOURS / 2, 'many late clicks are merged with their hours');
is($node->safe_psql('clicks', "SELECT sum(facts) FILTER (WHERE $deltas) <= sum(facts) FILTER (WHERE $hours) / 3 FROM adclick_internal.runs"), 't',
	'what waits is a part of what there is');
counts_ok('many late clicks');

# They are not in order, either; and some are in the hours that have just begun.
$node->safe_psql('clicks', qq{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country)
	SELECT NULL, i % 1000, timestamptz '$end' + random() * interval '3 hours' - CASE WHEN i % 3 = 0 THEN random() * interval '$DAYS days' ELSE '0' END, 'C' || i % 5
	FROM generate_series(1, 50000) i});
rounds_made();
counts_ok('clicks at random');
lists_ok($node, 'clicks', 'clicks at random');

# A damaged hour: clicks that come late to it are carried along, others reach their hours.
my ($damaged, $run_id) = split /\|/, $node->safe_psql('clicks', "SELECT first_minute, run_id FROM adclick_internal.runs WHERE $hours ORDER BY last_minute OFFSET 300 LIMIT 1");
$node->safe_psql('clicks', "UPDATE adclick_internal.segments SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id = $run_id");
$newest = $node->safe_psql('clicks', 'SELECT max(run_id) FROM adclick_internal.runs');
$node->safe_psql('clicks', qq{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country)
	SELECT NULL, i % 1000, timestamptz '$damaged' + random() * interval '5 hours', 'C' || i % 5 FROM generate_series(1, 2000) i});
ok($node->poll_query_until('clicks', qq{
	SELECT count(*) = 4 FROM adclick_internal.runs WHERE $hours AND run_id > $newest
		AND first_minute BETWEEN timestamptz '$damaged' + interval '1 hour' AND timestamptz '$damaged' + interval '4 hours'}), 'hours beside a damaged one are written');
like($node->safe_psql('clicks', 'SELECT last_error FROM adclick.status'), qr/^compaction: segment .* is damaged/, 'the status tells of it');
rounds_made();
is($node->safe_psql('clicks', "SELECT run_id FROM adclick_internal.runs WHERE $hours AND first_minute = '$damaged'"), $run_id, 'it is left as it is');
isnt(($node->psql('clicks', "SELECT * FROM adclick.top_n_ads_between(1, '$damaged', timestamptz '$damaged' + interval '1 minute', '{\"country\": \"C1\"}')"))[0], 0, 'and not answered');
$node->safe_psql('clicks', "UPDATE adclick_internal.segments SET data = set_byte(data, 20, 255 - get_byte(data, 20)) WHERE run_id = $run_id");
counts_ok('mended');
$node->safe_psql('clicks', 'SELECT pg_terminate_backend(compactor_pid) FROM adclick.status');
ok($node->poll_query_until('clicks', "SELECT count(*) = 1 FROM adclick_internal.runs WHERE $hours AND first_minute = '$damaged' AND run_id > $run_id"),
	'mended, it is written with what came late');

# By hand all is folded in.
quiet_workers($node, 'clicks');
$node->safe_psql('clicks', 'DO $$ BEGIN WHILE (SELECT more FROM adclick.compact()) LOOP COMMIT; END LOOP; END $$');
is($node->safe_psql('clicks', "SELECT count(*) FROM adclick_internal.runs WHERE $deltas AND last_minute < now() - interval '3 hours'"), '0', 'nothing late is left');
counts_ok('folded in');
lists_ok($node, 'clicks', 'folded in');
conserved_ok($node, 'clicks', 'in the end');

done_testing();
