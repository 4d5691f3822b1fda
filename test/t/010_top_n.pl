# Top-N by the lists of most clicked ads: over random windows of data that suit
# the lists and data that are made against them, the answer is that of GROUP BY
# ... ORDER BY count DESC, ad_id LIMIT N, and explain_top_n tells how it was found.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $WINDOWS = 1200;
my $MINUTES = 30;

# The same seed gives the same data and questions.
my $seed = $ENV{ADCLICK_SEED} // int rand 1_000_000;
note("ADCLICK_SEED=$seed");

# No room for workers beside the launcher: every round is done by hand.
my $node = adclick_node('main', 'max_worker_processes' => 2, 'adclick.watermark' => "'0s'");
$node->start;

#
# Data: the clicks of $MINUTES minutes as SQL, "m" being the minute, in rows (ad_id, m)
#
my %clicks = (
	# no ad stands out: lists prove little
	uniform => {
		kept => 20,
		sql => "SELECT floor(random() * 300)::bigint, floor(random() * $MINUTES)::int FROM generate_series(1, 6000)"
	},
	# few ads have most clicks: lists prove much
	zipf => {
		kept => 12,
		sql => "SELECT floor(exp(random() * ln(3000)))::bigint, floor(random() * $MINUTES)::int FROM generate_series(1, 6000)"
	},
	# the best ads are in most lists, but not in all: some have to be counted
	gaps => {
		kept => 30,
		largest => 20,
		sql => q{
			SELECT 100 + floor(random() * 2000)::bigint, floor(random() * 6)::int FROM generate_series(1, 24000)
			UNION ALL
			SELECT ad, m FROM generate_series(0, 5) m, generate_series(1, 20) ad,
				generate_series(1, CASE WHEN ad % 4 = 0 AND m = ad % 5 THEN 1 ELSE 30 + 10 * ad END)}
	},
	# ties at the end of every list, and at every place of every answer
	ties => {
		kept => 8,
		sql => qq{
			SELECT ad, m FROM generate_series(0, $MINUTES - 1) m, generate_series(-30, 30) ad,
				generate_series(1, CASE WHEN ad % 2 = 0 THEN 4 ELSE 5 END)}
	},
	# ads that are just behind the lists of all minutes, and first of the whole;
	# the others tie with them once, or have one click more in one minute
	rotating => {
		kept => 5,
		sql => qq{
			SELECT ad, m FROM generate_series(0, $MINUTES - 1) m, unnest('{1,2,3,9001,9002,9003}'::bigint[]) ad, generate_series(1, 6)
			UNION ALL
			SELECT 1000 + m / 2 * 5 + i, m FROM generate_series(0, $MINUTES - 1) m, generate_series(0, 4) i, generate_series(1, 6 + m % 2)}
	},
	# less ads than a list has places, in some minutes only
	sparse => {
		kept => 10,
		sql => qq{
			SELECT floor(random() * 12)::bigint, m FROM generate_series(0, $MINUTES - 1, 3) m, generate_series(1, m)}
	});

$node->safe_psql('postgres', 'CREATE DATABASE clicks');
$node->safe_psql('clicks', 'CREATE EXTENSION adclick');
$node->safe_psql('clicks', slurp_file("$FindBin::RealBin/lib/oracle.sql"));
$node->safe_psql('clicks', q{
	-- What was asked, and what was answered.
	CREATE TABLE oracle.asked (data text, question text, filters jsonb, expected text, answer text, explained jsonb, nth bigint);

	-- Ask for the top of random windows, mostly of few ads, 100,000 at times.
	CREATE FUNCTION oracle.ask_top_n(questions int, largest int, data text) RETURNS void LANGUAGE sql
		SET work_mem = '64MB' SET jit = off AS $$
	WITH facts AS MATERIALIZED (
		SELECT c.ad_id, date_trunc('minute', clicked_at) AS minute, country, device, user_id, ip, advertiser_id, count(*) AS clicks
		FROM adclick.click_log c LEFT JOIN adclick.ads USING (ad_id) GROUP BY 1, 2, 3, 4, 5, 6, 7
	), bounds AS MATERIALIZED (
		SELECT min(minute) AS low, (extract(epoch FROM max(minute) - min(minute)) / 60)::int AS minutes FROM facts
	), dice AS MATERIALIZED (
		SELECT i, random() AS a, random() AS b, random() AS c, random() AS d, floor(random() * 16) AS kind,
			floor(random() * 42) AS who
		FROM generate_series(1, questions) i
	), asked AS MATERIALIZED (
		SELECT i, CASE WHEN a < 0.05 THEN 100000 ELSE 1 + floor(a * a * a * largest)::int END AS n,
			CASE WHEN b < 0.05 THEN '-infinity' ELSE low + (floor(b * (minutes + 4)) - 2) * interval '1 minute' END AS "from",
			CASE WHEN c < 0.05 THEN 'infinity'
				ELSE low + (floor(greatest(b, c) * (minutes + 4)) - 1) * interval '1 minute' END AS "to",
			CASE WHEN kind < 5 THEN '{}'
				WHEN kind < 7 THEN '{"country": "CA"}'
				WHEN kind < 8 THEN '{"device": ["mobile"]}'
				WHEN kind < 9 THEN '{"country": "US"}'
				WHEN kind < 10 THEN '{"country": ["US", "CA"], "device": "mobile"}'
				WHEN kind < 11 THEN jsonb_build_object('user_id', who)
				WHEN kind < 12 THEN jsonb_build_object('ip', '10.0.0.0'::inet + who::int)
				WHEN kind < 13 THEN jsonb_build_object('ip', set_masklen('10.0.0.0'::inet + who::int, 28), 'country', 'CA')
				WHEN kind < 15 THEN jsonb_build_object('advertiser_id', floor(who / 6))
				ELSE jsonb_build_object('advertiser_id', jsonb_build_array(1, floor(who / 6)), 'country', 'CA')
			END::jsonb AS filters
		FROM dice CROSS JOIN bounds
	), filtered AS MATERIALIZED (
		SELECT *, oracle.list(filters->'country') AS countries, oracle.list(filters->'device') AS devices,
			oracle.list(filters->'user_id')::bigint[] AS users, oracle.list(filters->'ip')::inet[] AS networks,
			oracle.list(filters->'advertiser_id')::bigint[] AS advertisers
		FROM asked
	), by_ad AS MATERIALIZED (
		SELECT i, ad_id, sum(clicks)::bigint AS clicks
		FROM filtered q JOIN facts f ON minute >= "from" AND minute < "to" AND (filters = '{}'
				OR oracle.meets(countries, NULL, devices, users, networks, advertisers, country, NULL, device, user_id, ip, advertiser_id))
		GROUP BY 1, 2
	), expected AS MATERIALIZED (
		SELECT i, n, filters, format('%s, %L, %L, %L', n, "from", "to", filters) AS arguments,
			coalesce((SELECT string_agg(ad_id || ' ' || clicks, ', ' ORDER BY clicks DESC, ad_id) FROM
				(SELECT ad_id, clicks FROM by_ad b WHERE b.i = q.i ORDER BY clicks DESC, ad_id LIMIT n) t), '') AS expected,
			(SELECT clicks FROM by_ad b WHERE b.i = q.i ORDER BY clicks DESC, ad_id LIMIT 1 OFFSET n - 1) AS nth
		FROM asked q
	)
	INSERT INTO oracle.asked
	SELECT data, arguments, filters, expected,
		coalesce(oracle.answer(format('SELECT string_agg(ad_id || '' '' || click_count, '', '') FROM adclick.top_n_ads_between(%s)', arguments)), ''),
		oracle.answer(format('SELECT to_jsonb(e) FROM adclick.explain_top_n_between(%s) e', arguments))::jsonb, nth
	FROM expected
	$$});

my $start = $node->safe_psql('clicks', "SELECT date_trunc('minute', now()) - interval '@{[ $MINUTES + 10 ]} minutes'");

# A statement that inserts clicks, all or some of them, with random dimensions,
# users and addresses; none is a duplicate.
sub send_sql
{
	my ($clicks, $which) = @_;

	return qq{
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
		SELECT NULL, ad_id, timestamptz '$start' + m * interval '1 minute', nullif(floor(random() * 40), 0),
			nullif('10.0.0.0'::inet + floor(random() * 40)::int, '10.0.0.0'),
			(ARRAY['CA', 'CA', 'US', 'DE'])[1 + floor(random() * 4)::int], 'r' || floor(random() * 3),
			(ARRAY['mobile', 'desktop'])[1 + floor(random() * 2)::int]
		FROM ($clicks) c (ad_id, m) WHERE $which};
}

sub keep_ads
{
	my ($kept) = @_;

	set_conf($node, 'adclick.top_ads_kept' => $kept);
	$node->poll_query_until('clicks', "SELECT setting = '$kept' FROM pg_settings WHERE name = 'adclick.top_ads_kept'");
	return;
}

# One session does it all: the seed is the session's.
sub ask
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $largest, @before) = @_;
	my $questions = int($WINDOWS / keys(%clicks) / 4);

	$node->safe_psql('clicks', join(";\n", 'SELECT setseed(' . $seed++ % 1_000_000 / 1_000_000 . ')', @before,
		"SELECT oracle.ask_top_n($questions, $largest, '$name')"));
	is($node->safe_psql('clicks', qq{
		SELECT question, expected, answer, explained FROM oracle.asked
		WHERE data = '$name' AND expected IS DISTINCT FROM answer LIMIT 3}),
		'', "$name: the top of $questions windows");
	return;
}

foreach my $name (sort keys %clicks)
{
	my ($kept, $clicks) = @{ $clicks{$name} }{qw(kept sql)};
	my $largest = $clicks{$name}{largest} // 3 * $kept;
	my $some = send_sql($clicks, 'random() < 0.05');

	keep_ads($kept);
	ask("$name, compacted", $largest, 'DROP EXTENSION adclick CASCADE', 'CREATE EXTENSION adclick',
		'INSERT INTO adclick.ads (ad_id, advertiser_id) SELECT i, abs(i) % 8 FROM generate_series(-30, 1200) i',
		q{SELECT adclick.add_filter('{"country": "CA"}')}, send_sql($clicks, 'true'),
		'SELECT adclick.tick()', 'SELECT adclick.compact()', q{SELECT adclick.add_filter('{"device": "mobile"}')});
	lists_ok($node, 'clicks', "$name, compacted");
	ask("$name, deltas", $largest, $some, 'SELECT adclick.tick()');
	ask("$name, tail", $largest, $some);
	keep_ads(2 * $kept);
	ask("$name, another length", $largest, send_sql($clicks, 'm % 3 = 0 AND random() < 0.3'), 'SELECT adclick.tick()', 'SELECT adclick.compact()');
	facts_ok($node, 'clicks', "$name, another length");
}

# An ad that reaches the third place only with all that lists cut off, and takes
# it by its id.
keep_ads(3);
$node->safe_psql('clicks', join(";\n", 'DROP EXTENSION adclick CASCADE', 'CREATE EXTENSION adclick', send_sql(q{
	SELECT ad, m FROM generate_series(0, 20) m,
		(VALUES (0, 50, 12), (0, 51, 11), (0, 1, 10), (1, 50, 12), (1, 51, 11), (1, 70, 13), (1, 1, 3)) v (odd, ad, clicks),
		generate_series(1, clicks)
	WHERE m % 2 = odd}, 'true'), 'SELECT adclick.tick()', 'SELECT adclick.compact()'));
is($node->safe_psql('clicks', qq{
	SELECT string_agg(ad_id || ' ' || click_count, ', '), (SELECT way FROM adclick.explain_top_n_between(3, t, t + interval '20 minutes'))
	FROM (SELECT timestamptz '$start' AS t) x, adclick.top_n_ads_between(3, t, t + interval '20 minutes') GROUP BY t}),
	'50 240, 51 220, 1 130|lists and probes', 'an ad that ties for the last place by clicks of no list');

#
# How the answers were found
#
note($node->safe_psql('clicks', q{
	SELECT data || ': ' || string_agg(format('%s %s', n, way), ', ' ORDER BY n DESC)
	FROM (SELECT data, explained->>'way' AS way, count(*) AS n FROM oracle.asked GROUP BY 1, 2) w GROUP BY data ORDER BY data}));
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM oracle.asked'), '>=', 1000, 'a thousand windows');

for my $way ('lists', 'lists and probes', 'scan', 'user order', 'ip order', 'ads')
{
	cmp_ok($node->safe_psql('clicks', "SELECT count(*) FROM oracle.asked WHERE explained->>'way' = '$way' AND answer <> ''"),
		'>=', 5, "found by: $way");
}
is($node->safe_psql('clicks', q{
	SELECT DISTINCT explained->>'way' FROM oracle.asked
	WHERE explained->>'way' NOT IN ('lists', 'lists and probes', 'scan', 'user order', 'ip order', 'ads')}), '', 'and by no other way');

# What explain_top_n says fits the way and the answer.
sub none_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $condition) = @_;

	is($node->safe_psql('clicks', qq{
		SELECT data, question, nth, explained
		FROM oracle.asked CROSS JOIN LATERAL jsonb_to_record(explained) AS e (way text, lists int, cut_off bigint, nth_count bigint,
			candidates int, probes int, runs int, segments bigint, facts bigint, tail bigint)
		WHERE ($condition) IS NOT FALSE LIMIT 3}),
		'', "explained: $name");
	return;
}

none_ok('counts are not negative', 'least(lists, cut_off, nth_count, candidates, probes, runs, segments, facts, tail) < 0');
none_ok('without user_id no order by user', q{way = 'user order' AND NOT filters ? 'user_id'});
none_ok('without ip no order by address', q{way = 'ip order' AND NOT filters ? 'ip'});
none_ok('without an advertiser no probes of its ads', q{way = 'ads' AND NOT filters ? 'advertiser_id'});
none_ok('an answer by lists has lists', q{way LIKE 'lists%' AND expected <> '' AND lists = 0});
none_ok('an answer by lists has as many candidates as ads', q{way LIKE 'lists%' AND candidates < coalesce(array_length(string_to_array(expected, ','), 1), 0)});
none_ok('a proof has its N-th ad above the cut, or equal to it',
	q{way LIKE 'lists%' AND nth IS NOT NULL AND (nth_count < cut_off OR nth_count <> nth)});
none_ok('lists alone need no probe', q{way = 'lists' AND probes > 0});
none_ok('probes are counted', q{way IN ('lists and probes', 'ads') AND probes = 0 AND expected <> ''});
none_ok('a scan reads segments of runs, and their facts',
	q{way = 'scan' AND (runs = 0) <> (segments = 0) OR way = 'scan' AND (segments = 0) <> (facts = 0)});
none_ok('there is no tail but there', q{data NOT LIKE '%, tail' AND tail > 0});
none_ok('the tail is counted where there is one', q{data LIKE '%, tail' AND question LIKE '% timestamptz ''-infinity'', ''infinity''%' AND filters = '{}' AND tail = 0});

done_testing();
