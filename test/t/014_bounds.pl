# What a question takes does not grow with the number of runs in its window, nor
# beyond the tail it reads: many settled hours, many deltas, a long tail, and a
# server with very few buffers.  Nor does what a compaction takes grow with filters
# times minutes, or with the clicks of one user.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# No room for workers beside the launcher: every round is done by hand.  A page
# pinned for each run would take more buffers than there are.
my $node = adclick_node('main', 'max_worker_processes' => 2, 'adclick.watermark' => "'0s'", 'shared_buffers' => "'1MB'",
	'adclick.raw_retention' => "'90d'");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE clicks');
$node->safe_psql('clicks', 'CREATE EXTENSION adclick');
$node->safe_psql('clicks', slurp_file("$FindBin::RealBin/lib/oracle.sql"));
$node->safe_psql('clicks', 'SELECT oracle.make_ads()');

my $HOURS = 700;
my $newest = $node->safe_psql('clicks', "SELECT date_trunc('minute', now()) - interval '2 minutes'");

# Clicks of random ads, each in a minute of so many hours, the newest and those before, or older ones.
sub send_random
{
	my ($hours, $n, $ads, $before) = @_;

	$before //= 0;

	$node->safe_psql('clicks', qq{
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
		SELECT NULL, floor(random() * $ads), timestamptz '$newest' - ($before + i % $hours) * interval '1 hour',
			floor(random() * 1000), '203.0.113.7', 'C' || i % 7, 'R', 'd' || i % 2
		FROM generate_series(1, $n) i});
	return;
}

# The memory a statement takes beyond the most a session had before, in kB: shared pages of
# the inbox, which count once they are read, are not meant.
sub memory_taken
{
	my ($database, $statement) = @_;
	my $inbox = 'DO $$ BEGIN PERFORM count(*) FROM adclick.clicks; END $$';
	my $peak = q{SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s*([0-9]+) kB')};
	my ($before, undef, $after) = split /\n/, $node->safe_psql($database, "$inbox; $peak; $statement; $peak");

	return $after - $before;
}

# The stored counts by ad, asked in several ways, are those of the log.
sub counts_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, @what) = @_;
	my $by_ad = 'SELECT ad_id, count(*)::bigint AS n FROM adclick.click_log';
	my $log = 'SELECT ad_id, count(*)::bigint, row_number() OVER (ORDER BY count(*) DESC, ad_id) FROM adclick.click_log';
	my %asked = (
		'top N by a scan' => ["$log WHERE country IN ('C1', 'C2') GROUP BY 1", q{
			SELECT ad_id, click_count AS count, rank::bigint FROM adclick.top_n_ads_between(2147483647, '-infinity'::timestamptz, 'infinity'::timestamptz,
				'{"country": ["C1", "C2"]}')}],
		'clicks by ad' => ["$by_ad GROUP BY 1", 'SELECT ad_id, sum(click_count)::bigint FROM adclick.ad_click_counts GROUP BY 1'],
		'clicks by ad, of some ads' => ["$by_ad WHERE ad_id BETWEEN 100 AND 15000 GROUP BY 1",
			'SELECT ad_id, sum(click_count)::bigint FROM adclick.ad_click_counts WHERE ad_id BETWEEN 100 AND 15000 GROUP BY 1'],
		'clicks by ad and minute' => ["SELECT ad_id, date_trunc('minute', clicked_at), count(*)::bigint FROM adclick.click_log GROUP BY 1, 2",
			'SELECT ad_id, click_minute, sum(click_count)::bigint FROM adclick.ad_click_counts GROUP BY 1, 2'],
		'clicks by ad and country' => ['SELECT ad_id, country, count(*)::bigint FROM adclick.click_log GROUP BY 1, 2',
			'SELECT ad_id, country, sum(click_count)::bigint FROM adclick.ad_click_counts JOIN adclick.filters USING (filter_id) GROUP BY 1, 2'],
		'rows' => ['SELECT count(*)::bigint FROM adclick.click_log', 'SELECT sum(click_count)::bigint FROM adclick.ad_click_counts']);

	for my $what (@what ? @what : sort keys %asked)
	{
		my ($expected, $answer) = @{ $asked{$what} };

		is($node->safe_psql('clicks', "SET work_mem = '64MB'; SELECT count(*), md5(string_agg(x::text, ' ' ORDER BY x)) FROM ($answer) x"),
			$node->safe_psql('clicks', "SET work_mem = '64MB'; SELECT count(*), md5(string_agg(x::text, ' ' ORDER BY x)) FROM ($expected) x"),
			"$name: $what");
	}
	return;
}

send_random($HOURS, 10 * $HOURS, 20000);
# segments of full size in many hours
send_random(300, 240_000, 1_000_000_000_000);
send_random(1, 60_000, 20000);
$node->safe_psql('clicks', 'DO $$ BEGIN WHILE (SELECT more FROM adclick.tick()) LOOP COMMIT; END LOOP; END $$');
$node->safe_psql('clicks', 'DO $$ BEGIN WHILE (SELECT more FROM adclick.compact()) LOOP COMMIT; END LOOP; END $$');
is($node->safe_psql('clicks', 'SELECT count(*), max(segments) > 16 FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta'),
	"$HOURS|t", 'a run of each hour, one of them large');
counts_ok('settled hours');
is($node->safe_psql('clicks', "SELECT way FROM adclick.explain_top_n_between(10, '-infinity', 'infinity')"), 'scan',
	'lists of more ads than there are facts are not read');

# While a scan goes on, as the contexts of this process tell.
cmp_ok($node->safe_psql('clicks', q{
	SELECT (SELECT sum(total_bytes) / 1024 FROM pg_backend_memory_contexts WHERE name LIKE 'adclick %' AND ad_id IS NOT NULL)
	FROM (SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1 LIMIT 1 OFFSET 10) x}),
	'<', 16 * 1024, 'a scan by ad takes some MB, in kB');

# Deltas that no compaction has merged.
$node->safe_psql('clicks', qq{
	DO \$\$
	BEGIN
		FOR i IN 1 .. 300 LOOP
			INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, country, device)
			SELECT NULL, floor(random() * 20000), timestamptz '$newest' - n * i % $HOURS * interval '1 hour', n, 'C' || n % 7, 'd'
			FROM generate_series(1, 20) n;
			COMMIT;
			PERFORM adclick.tick();
			COMMIT;
		END LOOP;
	END \$\$});
is($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta'), '300', 'many deltas');
counts_ok('many deltas', 'top N by a scan', 'clicks by ad', 'clicks by ad and minute');

$node->safe_psql('clicks', 'DO $$ BEGIN WHILE (SELECT more FROM adclick.compact()) LOOP COMMIT; END LOOP; END $$');
is($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 0 AND is_delta'), '0', 'compaction tells how long it takes');
counts_ok('many deltas compacted', 'clicks by ad and minute');

# A long tail, of which a question takes less memory than it is on disk.
send_random(600, 230_000, 20000, $HOURS);
$node->safe_psql('clicks', 'ANALYZE adclick.clicks');
counts_ok('a long tail', 'top N by a scan', 'clicks by ad');

SKIP:
{
	skip 'no /proc here', 1 unless -r '/proc/self/status';

	my $taken = memory_taken('clicks',
		"SELECT count(*) FROM adclick.top_n_ads_between(10, '-infinity', timestamptz '$newest' - interval '@{[ $HOURS - 1 ]} hours')");
	$node->safe_psql('clicks', 'CREATE TABLE tail AS SELECT * FROM adclick.click_log WHERE verdict IS NULL');
	my $tail = $node->safe_psql('clicks', q{SELECT pg_relation_size('tail') / 1024});

	note("$tail kB of tail, $taken kB taken");
	cmp_ok($taken, '<', $tail, 'a question about the tail takes less than the tail, in kB');
}

# A round of compaction, with many registered filters; of minutes that are all too new to be settled.
my $MINUTES = 50;
my $latest = $node->safe_psql('clicks', "SELECT date_trunc('minute', now()) - interval '2 minutes'");
$node->safe_psql('postgres', 'CREATE DATABASE filters');
$node->safe_psql('filters', 'CREATE EXTENSION adclick');
$node->safe_psql('filters', slurp_file("$FindBin::RealBin/lib/oracle.sql"));
$node->safe_psql('filters', q{
	SELECT count(adclick.add_filter(jsonb_build_object('country', 'C' || i % 50, 'device', 'd' || i / 50))) FROM generate_series(0, 1999) i;
	SELECT adclick.add_filter('{"region": "r"}')});
$node->safe_psql('filters', qq{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country, region, device)
	SELECT NULL, floor(random() * 30), timestamptz '$latest' - i % $MINUTES * interval '1 minute', 'C' || i % 53, substr('rs', i % 3, 1), 'd' || i % 37
	FROM generate_series(1, 3000) i;
	SELECT adclick.tick()});

SKIP:
{
	skip 'no /proc here', 1 unless -r '/proc/self/status';

	my $taken = memory_taken('filters', 'SELECT minutes_written FROM adclick.compact()');

	note("$taken kB taken");
	cmp_ok($taken, '<', 64 * 1024, "compaction of $MINUTES minutes for 2000 filters, in kB");
}
is($node->safe_psql('filters', 'SELECT minutes_written, more FROM adclick.compact()'), '0|f', 'which was all');
is($node->safe_psql('filters', 'SELECT count(*), count(DISTINCT click_minute) FROM adclick.most_clicked_ads'), $MINUTES * 2002 . "|$MINUTES", 'a list of each minute and filter');
facts_ok($node, 'filters', 'many filters');
lists_ok($node, 'filters', 'many filters');

# And with a million clicks of one user from one address.
$node->safe_psql('postgres', 'CREATE DATABASE one_user');
$node->safe_psql('one_user', 'CREATE EXTENSION adclick');
$node->safe_psql('one_user', qq{
	DO \$\$
	BEGIN
		FOR i IN 1 .. 10 LOOP
			INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip)
			SELECT NULL, random() * 100000, timestamptz '$newest' - i * n % 20 * interval '1 minute', 7, '192.0.2.7' FROM generate_series(1, 100000) n;
			COMMIT;
			PERFORM adclick.tick();
			COMMIT;
		END LOOP;
	END \$\$});

SKIP:
{
	skip 'no /proc here', 1 unless -r '/proc/self/status';

	my $taken = memory_taken('one_user', 'SELECT minutes_written FROM adclick.compact()');

	note("$taken kB taken");
	cmp_ok($taken, '<', 96 * 1024, 'compaction of the clicks of one user, in kB');
}
is($node->safe_psql('one_user', 'SELECT sort_order, bool_or(is_delta), sum(clicks) FROM adclick_internal.runs GROUP BY 1 ORDER BY 1'),
	"0|f|1000000\n1|f|1000000\n2|f|1000000\n3|f|1000000", 'all of them are in final runs');
for my $filter ('{"user_id": 7}', '{"ip": "192.0.2.0/24"}')
{
	is($node->safe_psql('one_user', qq{
		SELECT ad, adclick.ad_click_count_between(ad, '-infinity', timestamptz '$newest' - interval '2 minutes', '$filter') FROM generate_series(100, 140) ad}),
		$node->safe_psql('one_user', qq{
		SELECT ad, count(c) FROM generate_series(100, 140) ad
			LEFT JOIN adclick.click_log c ON ad_id = ad AND clicked_at < timestamptz '$newest' - interval '2 minutes' GROUP BY 1 ORDER BY 1}),
		"and found by $filter");
}

done_testing();
