# A user is forgotten under load, on a primary and its standby, through a crash in the
# middle of it; and no file of the tables names him afterwards.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use File::Find;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# An id that would be known among other bytes, in binary as in text.
my $user = 6827701533637762570;
my $hunted = qr/\Q${\ pack('q<', $user)}\E|\Q${\ pack('q>', $user)}\E|\Q${\ pack('Q>', $user ^ (1 << 63))}\E|$user/;

my $primary = adclick_node('primary', allows_streaming => 1, 'restart_after_crash' => 'on', 'autovacuum' => 'off');
$primary->start;
adclick_database($primary, 'clicks');

# His clicks among those of others: counted, set aside, and with what the ledger has no columns for.
sub send_his
{
	my ($database, $n, $ad) = @_;

	$ad //= 0;

	$primary->safe_psql($database, qq{
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country)
		SELECT gen_random_uuid(), $ad + i % 20, now() - i * interval '1 second', $user, inet '203.0.113.99', CASE WHEN i % 10 = 0 THEN repeat('x', 70) ELSE 'CA' END
		FROM generate_series(1, $n) i
		UNION ALL SELECT gen_random_uuid(), 1, now() - interval '20 days', $user, '203.0.113.99', 'CA'
		UNION ALL SELECT gen_random_uuid(), 1, now(), $user, '203.0.113.99/24', 'CA'});
	return;
}

# Where he is, as SQL sees it.
sub traces
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, qq{
		SELECT concat_ws(' ', (SELECT count(*) FROM adclick.click_log WHERE user_id = $user),
			(SELECT coalesce(sum(click_count), 0) FROM adclick_internal.facts(1, '-infinity', 'infinity') WHERE user_id = $user),
			(SELECT coalesce(sum(click_count), 0) FROM adclick_internal.facts(2, '-infinity', 'infinity') WHERE user_id = $user),
			(SELECT count(*) FROM adclick.click_log WHERE host(ip) = '203.0.113.99'),
			(SELECT count(*) FROM adclick_internal.ledger('-infinity', 'infinity') WHERE substr(uuid_send(click_key), 1, 8) = decode(to_hex($user), 'hex')))});
}

# The files of a database in which he is found, by the relations they are of.
sub files_with_him
{
	my ($node, $database) = @_;
	my $oid = $node->safe_psql('postgres', "SELECT oid FROM pg_database WHERE datname = '$database'");
	my @found;

	$node->safe_psql($database, 'CHECKPOINT');
	find(sub {
		push @found, $_ if -f && slurp_file($_) =~ $hunted;
	}, $node->data_dir . "/base/$oid");
	return join(', ', map { /^(\d+)/ ? $node->safe_psql($database, "SELECT '$_ of ' || coalesce(pg_filenode_relation(0, $1)::text, 'nothing')") : $_ } @found);
}

# With their indexes: neither row nor key is left behind on a page.
sub write_anew
{
	my ($database) = @_;

	$primary->safe_psql($database, "VACUUM FULL $_") for split /\n/, $primary->safe_psql($database, 'SELECT relation FROM adclick.storage');
	return;
}

send_clicks($primary, 'clicks', 3000);
send_his('clicks', 200);
drained($primary, 'clicks');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
like(traces($primary, 'clicks'), qr/^\d+ 201 201 \d+ 0$/, 'he clicked');
isnt(files_with_him($primary, 'clicks'), '', 'files name him');

# While clicks come, are taken and packed.  Copies of his clicks would bring him back: there are none,
# and what keeps from them does not name him either.
my $hash = $primary->safe_psql('clicks', "SELECT hashint8extended($user, 0)");
$primary->safe_psql('clicks', qq{
	CREATE OR REPLACE FUNCTION oracle.send_copies(n int) RETURNS void LANGUAGE sql VOLATILE AS \$\$
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device
	FROM adclick.click_log WHERE click_id IS NOT NULL AND clicked_at IS NOT NULL AND hashint8extended(user_id, 0) IS DISTINCT FROM $hash
	ORDER BY random() LIMIT n
	\$\$});
wake_workers($primary, '20ms');
my $writers = writers_start($primary, 'clicks', 2, rows => 100);
for my $round (1 .. 4)
{
	send_his('clicks', 100);
	cmp_ok($primary->safe_psql('clicks', "SELECT adclick.forget_user($user)"), '>=', 102, "under load, round $round: clicks are made anonymous");
	is(traces($primary, 'clicks'), '0 0 0 0 0', "under load, round $round: no trace is left");
	conserved_ok($primary, 'clicks', "under load, round $round");
	$primary->wait_for_catchup($standby);
	is(traces($standby, 'clicks'), '0 0 0 0 0', "under load, round $round: nor on the standby");
	answers_ok($standby, 'clicks', "under load, round $round, on the standby", questions => 8);
}
writers_stop($writers);
exact_ok($primary, 'clicks', 'forgotten');
is($primary->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'the books');

# A crash when all that was stored is done, and what a tick has taken meanwhile is waited for.
send_his('clicks', 100);
drained($primary, 'clicks');
quiet_workers($primary, 'clicks');
my $tick = $primary->background_psql('clicks');
send_his('clicks', 1);
my $before = traces($primary, 'clicks');
$tick->query_safe('BEGIN');
$tick->query_safe('SELECT adclick.tick()');
my $forget = IPC::Run::start([ 'psql', '-X', '-d', $primary->connstr('clicks'), '-c', "SELECT adclick.forget_user($user)" ],
	'>', \my $output, '2>', \my $error);
$primary->poll_query_until('clicks', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%forget_user%' AND pid <> pg_backend_pid()
	AND wait_event_type = 'Lock'}) or die 'it does not wait';
kill_process($primary, $primary->safe_psql('clicks', q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%forget_user%' AND wait_event_type = 'Lock'}));
IPC::Run::finish($forget);
eval { $tick->quit; };
wake_workers($primary, '20ms');
# the worker that comes back may have taken what was unread
drained($primary, 'clicks');
$before =~ s/ \K\d+ \d+/103 103/;
is(traces($primary, 'clicks'), $before, 'after a crash nothing is done by half');
exact_ok($primary, 'clicks', 'after a crash');
cmp_ok($primary->safe_psql('clicks', "SELECT adclick.forget_user($user)"), '>=', 104, 'then he is forgotten');
is(traces($primary, 'clicks'), '0 0 0 0 0', 'and no trace is left');
exact_ok($primary, 'clicks', 'forgotten after a crash');

# No file names him, once what was there is written anew.
write_anew('clicks');
is(files_with_him($primary, 'clicks'), '', 'no file names him');
exact_ok($primary, 'clicks', 'written anew');

# By user and ad the key names him: it is disguised, and known again after a restart, which
# leaves nothing in memory.
set_conf($primary, 'adclick.dedup_by' => 'user_and_ad');
adclick_database($primary, 'keys');
send_clicks($primary, 'keys', 1000);
send_his('keys', 100);
drained($primary, 'keys');
$primary->safe_psql('keys', "CREATE TABLE his AS SELECT * FROM adclick.click_log WHERE user_id = $user AND verdict = 'counted'");
my ($n, $counted) = split /\|/, $primary->safe_psql('keys', 'SELECT (SELECT count(*) FROM his), clicks_counted FROM adclick.status');
cmp_ok($n, '>=', 20, 'he clicked by user and ad');
my $send = 'INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT gen_random_uuid(), ad_id, clicked_at, user_id, ip FROM his';
$primary->safe_psql('keys', "SELECT adclick.forget_user($user)");
like(traces($primary, 'keys'), qr/^0 0 0 0 0$/, 'by user and ad: no trace is left');
for my $mode ('none', 'fast', 'immediate')
{
	$primary->restart if $mode eq 'fast';
	if ($mode eq 'immediate')
	{
		$primary->stop('immediate');
		$primary->start;
	}
	quiet_workers($primary, 'keys');
	$primary->safe_psql('keys', $send);
	is($primary->safe_psql('keys', 'SELECT sum(click_count) FROM adclick.ad_click_counts'), $counted, "restart $mode: copies count no more");
	$primary->wait_for_catchup($standby);
	is($standby->safe_psql('keys', 'SELECT sum(click_count) FROM adclick.ad_click_counts'), $counted, "restart $mode: nor on the standby");
	wake_workers($primary, '20ms');
	drained($primary, 'keys');
	is($primary->safe_psql('keys', 'SELECT clicks_counted FROM adclick.status'), $counted, "restart $mode: nor when they are taken");
}

# An older snapshot sees the key, and a copy that is unread there; memory, loaded again since, has it no more.
send_his('keys', 50, 1000);
drained($primary, 'keys');
quiet_workers($primary, 'keys');
$primary->safe_psql('keys', "TRUNCATE his; INSERT INTO his SELECT * FROM adclick.click_log WHERE user_id = $user AND verdict = 'counted'");
$primary->safe_psql('keys', $send);
my $reader = $primary->background_psql('keys');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
cmp_ok($primary->safe_psql('keys', 'SELECT count(*) FROM his'), '>=', 20, 'there are copies');
my $sum = $reader->query_safe('SELECT sum(click_count) FROM adclick.ad_click_counts');
$primary->safe_psql('keys', "SELECT adclick.forget_user($user)");
for my $window ('60s', '600s')
{
	set_conf($primary, 'adclick.dedup_window' => "'$window'");
	$primary->poll_query_until('keys', "SELECT setting || unit = '$window' FROM pg_settings WHERE name = 'adclick.dedup_window'");
	$primary->safe_psql('keys', 'INSERT INTO adclick.clicks (ad_id) VALUES (1); SELECT adclick.tick()');
}
$primary->safe_psql('keys', 'INSERT INTO adclick.clicks (ad_id) VALUES (1); SELECT adclick.tick()');
is($reader->query_safe('SELECT sum(click_count) FROM adclick.ad_click_counts'), $sum, 'an older snapshot sees what it saw');
$reader->quit;

wake_workers($primary, '20ms');
$primary->safe_psql('keys', "DROP TABLE his; SELECT adclick.forget_user($user)");
write_anew('keys');
is(files_with_him($primary, 'keys'), '', 'by user and ad: no file names him');

# More unread clicks than a tick takes.
quiet_workers($primary, 'keys');
$primary->safe_psql('keys', "INSERT INTO adclick.clicks (ad_id, user_id) SELECT 1, CASE WHEN i = 263000 THEN $user ELSE i END FROM generate_series(1, 263000) i");
is($primary->safe_psql('keys', "SELECT adclick.forget_user($user)"), 1, 'all unread clicks are taken first');
is($primary->safe_psql('keys', 'SELECT lag_rows FROM adclick.status'), 0, 'so that none is left');

done_testing();
