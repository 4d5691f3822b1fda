# Ads with a dedup_by of their own, under load: workers, kills and a crash, a standby, prepared
# transactions, and a dump.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = adclick_node('primary', allows_streaming => 1, 'restart_after_crash' => 'on', 'max_prepared_transactions' => 10);
$primary->start;
adclick_database($primary, 'clicks', witness => 1);
my $SET = q{UPDATE adclick.ads SET dedup_by = CASE ad_id % 3 WHEN 0 THEN 'user_and_ad' WHEN 1 THEN 'click_id' END WHERE ad_id BETWEEN 1 AND 900};
$primary->safe_psql('clicks', $SET);
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

sub sql { return $primary->safe_psql('clicks', $_[0]) }

# A time in a window of its own, which no minute of this test is in.
my $at = sql(q{SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') - interval '55 minutes'});

# Clicks of so many users, six each, on an ad; their ids are made of the name, so that they can come again.
sub burst
{
	my ($database, $ad, $users, $name) = @_;

	$primary->safe_psql($database, qq{INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id)
		SELECT md5('$name $ad ' || i)::uuid, $ad, '$at', i % $users FROM generate_series(1, 6 * $users) i});
	return;
}

# The clicks that some ads have, as a question tells.
sub counts
{
	my ($node, $database, @ads) = @_;

	return join ' ', map { $node->safe_psql($database, "SELECT adclick.ad_click_count_between($_, '-infinity', 'infinity')") } @ads;
}

#
# Under load: whoever is killed
#

my $writers = writers_start($primary, 'clicks', 2, rows => 100);
for my $round (1 .. 3)
{
	my ($aggregator, $compactor) = workers_ready($primary, 'clicks');

	kill_process($primary, $aggregator);
	workers_ready($primary, 'clicks');
	conserved_ok($primary, 'clicks', "killed, round $round");
}
$primary->stop('immediate');
$primary->start;
workers_ready($primary, 'clicks');
writers_stop($writers);
send_copies($primary, 'clicks', 300);
exact_ok($primary, 'clicks', 'after kills and a crash');
cmp_ok(sql(q{SELECT count(*) FROM adclick.click_log JOIN adclick.ads USING (ad_id) WHERE dedup_by = 'user_and_ad' AND verdict = 'duplicate'}), '>', 0, 'some were clicks of one user');
$primary->wait_for_catchup($standby);
answers_ok($standby, 'clicks', 'on the standby');
verdicts_ok($standby, 'clicks', 'on the standby');

#
# The tail, and what memory does not have any more
#

my @ads = (2001, 2002, 2003);
sql(q{INSERT INTO adclick.ads (ad_id, dedup_by) VALUES (2001, 'user_and_ad'), (2002, 'click_id'), (2003, NULL) ON CONFLICT (ad_id) DO UPDATE SET dedup_by = excluded.dedup_by});
sub counts_are
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($expected, $name) = @_;

	is(counts($primary, 'clicks', @ads), $expected, $name);
	$primary->wait_for_catchup($standby);
	is(counts($standby, 'clicks', @ads), $expected, "$name, on the standby");
	return;
}

my $before = counts($primary, 'clicks', @ads);
is($before, '0 0 0', 'no clicks yet');
quiet_workers($primary, 'clicks');
burst('clicks', $_, 5, 'first') for @ads;
counts_are('5 30 30', 'in the tail');
wake_workers($primary);
drained($primary, 'clicks');
counts_are('5 30 30', 'taken');
for my $mode ('fast', 'immediate')
{
	$primary->stop($mode);
	$primary->start;
	quiet_workers($primary, 'clicks');
	burst('clicks', $_, 5, 'first') for @ads;
	burst('clicks', 2001, 6, $mode);
	counts_are('6 30 30', "copies after a restart, $mode");
	wake_workers($primary);
	drained($primary, 'clicks');
	counts_are('6 30 30', "copies after a restart, $mode, taken");
}

# An override ends, another begins; and the setting becomes another.
sql(q{UPDATE adclick.ads SET dedup_by = CASE ad_id WHEN 2001 THEN 'click_id' ELSE 'user_and_ad' END WHERE ad_id IN (2001, 2003)});
burst('clicks', $_, 5, 'first') for @ads;
burst('clicks', $_, 7, 'second') for @ads;
drained($primary, 'clicks');
# of 2001 the users 0 to 5 had clicked; of 2003 none had by user and ad
counts_are('12 72 37', 'other overrides');
set_conf($primary, 'adclick.dedup_by' => 'user_and_ad');
$primary->poll_query_until('clicks', 'SELECT by_user_and_ad FROM adclick_internal.state JOIN adclick_internal.dedup_rules USING (rule_id)') or die 'the ticks do not follow';
sql(q{UPDATE adclick.ads SET dedup_by = NULL WHERE ad_id IN (2001, 2003)});
burst('clicks', $_, 7, 'second') for @ads;
burst('clicks', $_, 8, 'third') for @ads;
drained($primary, 'clicks');
# of 2001 user 6 was counted by click id, so his next one is the first by user and ad
counts_are('14 120 38', 'another setting');
set_conf($primary, 'adclick.dedup_by' => 'click_id');
$primary->poll_query_until('clicks', 'SELECT NOT by_user_and_ad FROM adclick_internal.state JOIN adclick_internal.dedup_rules USING (rule_id)') or die 'the ticks do not follow';
is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', 'the books');

#
# A prepared transaction changes an override, and counts from its commit
#

sql(q{INSERT INTO adclick.ads (ad_id) VALUES (2010)});
sql(q{BEGIN; UPDATE adclick.ads SET dedup_by = 'user_and_ad' WHERE ad_id = 2010; PREPARE TRANSACTION 'change'});
burst('clicks', 2010, 2, 'prepared');
drained($primary, 'clicks');
is(counts($primary, 'clicks', 2010), '12', 'a change that is prepared is none');
$primary->restart;
sql(q{COMMIT PREPARED 'change'});
burst('clicks', 2010, 3, 'prepared');
burst('clicks', 2010, 3, 'after');
drained($primary, 'clicks');
# ids "prepared" 13 to 18 are new, of users 0 to 2
is(counts($primary, 'clicks', 2010), '15', 'it is one from its commit');

#
# A dump has the overrides, and the keys by both rules
#

quiet_workers($primary, 'clicks');
burst('clicks', $_, 9, 'dumped') for @ads;
my $questions = q{SELECT md5(string_agg(c::text, ',' ORDER BY c::text)) FROM adclick.clicks_per_minute c};
my $all = counts($primary, 'clicks', @ads, 2010) . ' ' . sql($questions);
for my $format ('plain', 'custom')
{
	my $file = PostgreSQL::Test::Utils::tempdir() . "/$format";
	my $database = "restored_$format";

	command_ok([ 'pg_dump', '-F', $format, '-f', $file, '-d', $primary->connstr('clicks') ], "$format: pg_dump");
	$primary->safe_psql('postgres', "CREATE DATABASE $database");
	$primary->safe_psql('postgres', "ALTER DATABASE $database SET adclick.workers = off");
	command_ok($format eq 'plain' ? [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $primary->connstr($database), '-f', $file, '-o', '/dev/null' ] :
			[ 'pg_restore', '-d', $primary->connstr($database), $file ], "$format: restored");
	is($primary->safe_psql($database, 'SELECT count(*) FROM adclick.ads WHERE dedup_by IS NOT NULL'), sql('SELECT count(*) FROM adclick.ads WHERE dedup_by IS NOT NULL'), "$format: the overrides");
	is(counts($primary, $database, @ads, 2010) . ' ' . $primary->safe_psql($database, $questions), $all, "$format: the same answers");
	# all that was sent comes once more, and one new user
	burst($database, 2010, 3, $_) for 'prepared', 'after';
	for my $ad (@ads)
	{
		burst($database, $ad, $_->[0], $_->[1]) for [ 5, 'first' ], [ 7, 'second' ], [ 8, 'third' ], [ 9, 'dumped' ];
	}
	is(counts($primary, $database, @ads, 2010) . ' ' . $primary->safe_psql($database, $questions), $all, "$format: copies count no more");
	$primary->safe_psql($database, 'SELECT adclick.tick()');
	is(counts($primary, $database, @ads, 2010) . ' ' . $primary->safe_psql($database, $questions), $all, "$format: nor when they are taken");
	burst($database, 2010, 4, 'new');
	is(counts($primary, $database, 2010), '16', "$format: a new user counts, once");
	$primary->safe_psql($database, 'SELECT adclick.tick()');
	is(counts($primary, $database, 2010), '16', "$format: and when he is taken");
	is($primary->safe_psql($database, 'SELECT balanced FROM adclick.check_ledger()'), 't', "$format: the books");
}

done_testing();
