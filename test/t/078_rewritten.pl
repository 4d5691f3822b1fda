# Tables that are written anew on the primary (VACUUM FULL, CLUSTER, REINDEX), and a standby that says nothing of its
# snapshots: what they still see is gone, and what is newer looks old to them, without a conflict that would
# end them.  An older snapshot has its own answers or is refused as too old; a new one has those of the primary.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = adclick_node('primary', allows_streaming => 1, 'autovacuum' => 'off', 'hot_standby_feedback' => 'off', 'adclick.raw_retention' => "'90d'",
	'adclick.watermark' => "'0s'", 'max_standby_streaming_delay' => "'5s'");
$primary->start;
adclick_database($primary, 'clicks', by_hand => 1);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

sub sql { return $primary->safe_psql('clicks', $_[0]) }

my $hour = sql(q{SELECT date_trunc('hour', now()) - interval '3 hours'});
my %faces = (
	count => 'SELECT adclick.ad_click_count_between(1, $$-infinity$$, $$infinity$$)',
	top => 'SELECT string_agg(ad_id || $$ $$ || click_count, $$, $$ ORDER BY rank) FROM adclick.top_n_ads_between(30, $$-infinity$$, $$infinity$$)',
	advertiser => 'SELECT string_agg(ad_id || $$ $$ || click_count, $$, $$ ORDER BY rank) FROM adclick.top_n_ads_between(30, $$-infinity$$, $$infinity$$, $${"advertiser_id": [1, 2, 3]}$$)',
	users => 'SELECT adclick.unique_users_between(1, $$-infinity$$, $$infinity$$)',
	address => 'SELECT adclick.ad_click_count_between(1, $$-infinity$$, $$infinity$$, $${"ip": "0.0.0.0/0"}$$)',
	series => 'SELECT md5(string_agg(s::text, $$ $$)) FROM adclick.click_series(1, $$' . $hour . '$$, timestamptz $$' . $hour . '$$ + interval $$6 hours$$, $$1 hour$$) s',
	minutes => 'SELECT md5(string_agg(x::text, $$ $$ ORDER BY x)) FROM (SELECT ad_id, click_minute, sum(click_count) FROM adclick.ad_click_counts GROUP BY 1, 2) x',
	countries => 'SELECT string_agg(x::text, $$ $$ ORDER BY x) FROM (SELECT country, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1) x',
	days => 'SELECT sum(click_count) FROM adclick.ad_click_counts_daily',
	log => 'SELECT md5(string_agg(l::text, $$ $$ ORDER BY l)) FROM (SELECT verdict, count(*), sum(ad_id) FROM adclick.click_log GROUP BY 1) l',
	discarded => 'SELECT md5(string_agg(d::text, $$ $$ ORDER BY d)) FROM (SELECT reason, count(*) FROM adclick.discarded_clicks GROUP BY 1) d',
	status => 'SELECT (clicks_taken, clicks_counted, duplicates)::text FROM adclick.status',
	books => 'SELECT balanced FROM adclick.check_ledger()');
# what a face says to a snapshot, or that it is refused as too old for it
sql(q{
	CREATE FUNCTION said(question text) RETURNS text LANGUAGE plpgsql STABLE AS $$
	DECLARE
		answer text;
	BEGIN
		EXECUTE question INTO answer;
		RETURN coalesce(answer, 'none');
	EXCEPTION WHEN SQLSTATE '72000' THEN
		RETURN 'too old';
	END $$});

sub said
{
	my ($session) = @_;

	return { map { $_ => $session->("SELECT said(\$question\$$faces{$_}\$question\$)") } keys %faces };
}

sub said_now
{
	my ($node) = @_;

	return said(sub { return $node->safe_psql('clicks', $_[0]) });
}

my %refused;

# A snapshot from before the tables are written anew, taken before anything is locked: of the standby, of which
# the primary knows nothing; or of the primary.
sub rewritten
{
	my ($rewriting, $node) = @_;
	$node //= $standby;

	sql('SELECT oracle.send_clicks(400, $$2 hours$$), oracle.send_copies(20)');
	$primary->wait_for_catchup($standby);
	my $expected = said_now($primary);
	my $old = $node->background_psql('clicks', on_error_stop => 0);
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	sql('SELECT counted FROM adclick.tick()');
	sql($rewriting);
	$primary->wait_for_catchup($standby);
	# at once, as any page that the primary cleans up is a conflict; who was in its way for some seconds is thrown out
	my $answers = said(sub { return (eval { scalar $old->query($_[0]) }) // 'thrown out' });
	my @wrong = map { "$_: $answers->{$_}, not $expected->{$_}" }
	  grep { $answers->{$_} ne $expected->{$_} && $answers->{$_} !~ /^(too old|thrown out|)$/ } sort keys %faces;
	is("@wrong", '', "$rewriting: an older snapshot sees what it saw, or nothing");
	is_deeply(said_now($standby), said_now($primary), 'a new one of the standby sees what one of the primary does');
	$refused{$rewriting} = join ' ', grep { $answers->{$_} eq 'too old' } sort keys %faces;
	note("$rewriting: $_ is $answers->{$_}") foreach sort keys %faces;
	eval { $old->quit };
	return;
}

rewritten('VACUUM FULL adclick.clicks', $primary);
is($refused{'VACUUM FULL adclick.clicks'}, '', 'none of the primary is too old');
for (1 .. 20)
{
	rewritten('VACUUM FULL adclick.clicks');
	last if $refused{'VACUUM FULL adclick.clicks'} ne '';    # else it was thrown out
}
like($refused{'VACUUM FULL adclick.clicks'}, qr/count.*days.*log.*top/, 'too old for what asks for unread clicks');
rewritten('REINDEX TABLE adclick_internal.runs; REINDEX TABLE adclick_internal.segments; REINDEX TABLE adclick_internal.deltas');
my @tables = split /\n/, sql('SELECT relation FROM adclick.storage ORDER BY 1');
for my $table (grep { /(clicks|filters|runs|deltas|segments|state|most_clicked_ads|(ledger|people|discarded)_0)$/ } @tables)
{
	rewritten("VACUUM FULL $table");
}
rewritten('VACUUM FULL adclick.ads');
rewritten('CLUSTER adclick_internal.runs USING runs_pkey');
rewritten('VACUUM FULL');
cmp_ok(scalar(grep { $_ ne '' } values %refused), '>=', 3, 'others are too old, too');

# What does not write them anew is no reason.
rewritten('GRANT SELECT ON adclick.filters TO PUBLIC; ALTER TABLE adclick.clicks SET (autovacuum_vacuum_threshold = 40000)');
is($refused{'GRANT SELECT ON adclick.filters TO PUBLIC; ALTER TABLE adclick.clicks SET (autovacuum_vacuum_threshold = 40000)'}, '', 'nothing is too old for other changes');

done_testing();
