# Real clicks: the public sample of the TalkingData AdTracking challenge, 100,000
# clicks of four days in 2017, where the file is at hand.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = $ENV{ADCLICK_ROOT} // "$FindBin::RealBin/../..";
my $file = $ENV{ADCLICK_SAMPLE} // "$root/../shared/data/talkingdata_sample.csv";
plan skip_all => 'no sample: set ADCLICK_SAMPLE to talkingdata_sample.csv' unless -r $file;

# click_time is UTC and has no seconds; an ad is an app on a channel; a user is
# what the challenge takes for one.  One file for ids made up, one without.
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
open my $in, '<', $file or die "$file: $!";
my %column = do { my @names = split /,/, <$in> =~ s/\s+\z//r; map { $names[$_] => $_ } 0 .. $#names };
open my $out, '>', "$dir/clicks.csv" or die $!;
my $lines = 0;
while (my $line = <$in>)
{
	my @field = split /,/, $line =~ s/\s+\z//r;
	my ($ip, $app, $device, $os, $channel, $time) = @field[ @column{qw(ip app device os channel click_time)} ];

	print $out join(',', $app * 1_000_000 + $channel, "${time}+00", "$ip/$device/$os",
		join('.', 10, $ip >> 16 & 255, $ip >> 8 & 255, $ip & 255), $device), "\n";
	$lines++;
}
close $out;

my $node = adclick_node('main', 'adclick.raw_retention' => "'3650d'");
$node->start;
adclick_database($node, 'clicks');
$node->safe_psql('clicks', 'CREATE TABLE sample (ad_id bigint, clicked_at timestamptz, who text, ip inet, device text)');
$node->safe_psql('clicks', "COPY sample FROM '$dir/clicks.csv' (FORMAT csv)");
is($node->safe_psql('clicks', 'SELECT count(*) FROM sample'), $lines, "$lines clicks read");

$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, device)
	SELECT NULL, ad_id, clicked_at, hashtextextended(who, 0), ip, device FROM sample});
answers_ok($node, 'clicks', 'while it is counted');
counted_is($node, 'clicks', $lines, 'without ids: every click counts');
exact_ok($node, 'clicks', 'without ids', questions => 60);
is($node->safe_psql('clicks', q{
	SELECT string_agg(ad_id || ' ' || click_count, ', ' ORDER BY rank) FROM adclick.top_n_ads_between(10, timestamptz '2017-11-07', '2017-11-08')}),
	$node->safe_psql('clicks', q{
	SELECT string_agg(ad_id || ' ' || n, ', ' ORDER BY n DESC, ad_id)
	FROM (SELECT ad_id, count(*) AS n FROM sample WHERE clicked_at >= '2017-11-07' AND clicked_at < '2017-11-08'
		GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10) t}), 'the ten ads of a day, straight from the sample');

# With ids, and every twentieth row sent twice: days back, so that keys are not in memory.
$node->safe_psql('clicks', q{
	CREATE TABLE named AS SELECT gen_random_uuid() AS id, s.* FROM sample s;
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, device)
	SELECT id, ad_id, clicked_at, hashtextextended(who, 0), ip, device FROM named;
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, device)
	SELECT id, ad_id, clicked_at, hashtextextended(who, 0), ip, device FROM named TABLESAMPLE SYSTEM (5)});
counted_is($node, 'clicks', 2 * $lines, 'with ids: every click counts once more');
exact_ok($node, 'clicks', 'with ids', questions => 60);
$node->safe_psql('clicks', 'SELECT adclick.compact()');
exact_ok($node, 'clicks', 'compacted', questions => 60);

done_testing();
