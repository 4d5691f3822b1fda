# adclick.health() raises each alarm when its cause is there, ends it when it is gone, and
# raises none where all is well; and what adclick.status counts outlives the server.
#
# Time is made to pass by setting the clocks ahead (lib/clock.c).

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickClock qw(clocked pass_time set_clock);
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $HEALTH = 'SELECT health, reason FROM adclick.health()';
my $WORKERS_OFF = 'adclick.workers is off: rounds are done by hand';
my $NO_TICK = 'adclick.workers is off, and no tick was made by hand for';
my $STANDBY = 'this is a standby: the workers run on its primary';

my $node = clocked(adclick_node('main', allows_streaming => 1, 'adclick.watermark' => "'0s'", 'autovacuum' => 'off',
	'max_prepared_transactions' => 5, 'restart_after_crash' => 'on'));

$node->start;

sub sql { return $node->safe_psql('clicks', $_[0]) }

sub becomes
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($health, $reason, $name) = @_;

	ok($node->poll_query_until('clicks', qq{SELECT health ~ '^($health)\$' AND coalesce(reason, '') ~ '$reason' FROM adclick.health()}), $name)
	  or diag(sql($HEALTH), sql('SELECT status FROM adclick.status'));
	return;
}

sub is_now
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($expected, $name) = @_;

	is(sql($HEALTH), $expected, $name);
	return;
}

# Let both limits be in force, 0: none.
sub limits_become
{
	my ($clicks) = @_;

	set_conf($node, 'adclick.user_clicks_per_minute' => $clicks, 'adclick.ip_clicks_per_minute' => $clicks);
	$node->poll_query_until('clicks', "SELECT user_clicks_per_minute = $clicks AND ip_clicks_per_minute = $clicks FROM adclick_internal.state")
	  or die 'the limits do not come into force';
	return;
}

# The launcher starts no workers until it gets CONT.  While it waits it holds no lock.
sub stop_launcher
{
	my $launcher;
	my $stopped = 0;

	until ($stopped)
	{
		kill 'CONT', $launcher if $launcher;
		$node->poll_query_until('clicks', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'adclick launcher' AND wait_event_type = 'Extension'})
		  or die 'the launcher does not wait';
		$launcher = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'adclick launcher'});
		kill 'STOP', $launcher or die "cannot stop process $launcher";
		$stopped = sql("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $launcher") eq 't';
	}
	return $launcher;
}

# The worker ends, and no other is started.
sub end_worker
{
	my ($kind) = @_;
	my $launcher = stop_launcher();

	is(sql("SELECT pg_terminate_backend(${kind}_pid, 60000) FROM adclick_internal.workers()"), 't', "the $kind ends");
	return $launcher;
}

#
# All is well
#
$node->safe_psql('postgres', 'CREATE DATABASE clicks');
my $launcher = stop_launcher();
sql('CREATE EXTENSION adclick');
is_now('ok|', 'ok in a fresh database, before there are workers');
pass_time(31);
becomes('critical', '^the aggregator has not run for 3. s; the compactor has not run for 3. s$', 'but not if they do not come');
kill 'CONT', $launcher;
sql(slurp_file("$FindBin::RealBin/lib/oracle.sql"));
workers_ready($node, 'clicks');
is_now('ok|', 'ok with workers');
send_clicks($node, 'clicks', 500);
drained($node, 'clicks');
is_now('ok|', 'ok with clicks');
$node->restart;
is_now('ok|', 'ok right after a restart');
workers_ready($node, 'clicks');
pass_time(3 * 86400);
becomes('ok', '^$', 'ok after days without clicks');

# Who reads the status, or watches the server, may ask.
sql('CREATE ROLE reader LOGIN IN ROLE adclick_reader; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE nobody LOGIN');
is($node->safe_psql('clicks', $HEALTH, extra_params => [ '-U', $_ ]), 'ok|', "$_ may ask") foreach qw(reader watcher);
like(($node->psql('clicks', $HEALTH, extra_params => [ '-U', 'nobody' ]))[2], qr/permission denied/, 'nobody else may');

#
# A worker that does not run
#
for my $kind ('aggregator', 'compactor')
{
	$launcher = end_worker($kind);
	is_now('ok|', "no $kind: it may come back at once");
	pass_time(31);
	becomes('critical', "^the $kind has not run for 3. s\$", "no $kind for half a minute");
	kill 'CONT', $launcher;
	becomes('ok', '^$', "the $kind is back");
}
# Not one that was away before the launcher could look.
$launcher = end_worker('aggregator');
pass_time(31);
kill 'CONT', $launcher;
workers_ready($node, 'clicks');
is_now('ok|', 'the aggregator was away');

# No room for it: the reason is told.
$node->stop;
# for the two launchers
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 2);
$node->start;
sql('SELECT * FROM adclick_internal.workers()');
$node->reload;
$node->poll_query_until('clicks', q{SELECT last_error LIKE 'could not start %' FROM adclick_internal.workers()}) or die 'no worker is missing';
pass_time(31);
becomes('critical', '^the aggregator has not run for \d+ s: could not start the adclick aggregator of database "clicks": all worker processes are in use .*; the compactor has not run for',
	'no worker processes left');
$node->stop;
$node->adjust_conf('postgresql.conf', 'max_worker_processes', 24);
$node->start;
workers_ready($node, 'clicks');
is_now('ok|', 'with enough of them');

#
# Clicks that wait
#
quiet_workers($node, 'clicks');
sql('INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 10)');
set_clock(7200);
cmp_ok(sql('SELECT lag_seconds FROM adclick.status'), '>', 7000, 'clicks that arrived long ago, as of a long transaction');
is_now('ok|', 'are not late for a tick that has not come');
my ($aggregator) = workers_ready($node, 'clicks');
kill 'STOP', $aggregator;
wake_workers($node);
pass_time(61);
becomes('warning', '^clicks are not taken: 10 wait, for 6. s$', 'an aggregator that stands still');
pass_time(240);
becomes('critical', '^the aggregator has made no round for 30. s; clicks are not taken: 10 wait, for 30. s$', 'for five minutes');
kill 'CONT', $aggregator;
drained($node, 'clicks');
becomes('ok', '^$', 'the aggregator goes on');
quiet_workers($node, 'clicks');
my (undef, $compactor) = workers_ready($node, 'clicks');
kill 'STOP', $compactor;
wake_workers($node);
pass_time(301);
becomes('warning', '^the compactor has made no round for 30. s$', 'a compactor that stands still');
kill 'CONT', $compactor;
becomes('ok', '^$', 'the compactor goes on');

#
# Rounds that fail
#
my $errors = sql('SELECT errors FROM adclick.status');
# among the random ones there may be copies
sql(q{DELETE FROM adclick_internal.discarded_0; CREATE UNIQUE INDEX one_reason ON adclick_internal.discarded_0 (ad_id, user_id);
	INSERT INTO adclick.clicks (ad_id, user_id, clicked_at) SELECT 4711, 1, 'infinity' FROM generate_series(1, 2)});
becomes('critical', '^the aggregator fails: tick: duplicate key value violates unique constraint "one_reason"$', 'ticks that fail');
cmp_ok(sql('SELECT errors FROM adclick.status'), '>=', $errors + 2, 'errors are counted');
sql('ALTER DATABASE clicks SET adclick.workers = off');
becomes('ok', "^$WORKERS_OFF\$", 'no longer when there are to be no workers');
sql('ALTER DATABASE clicks RESET adclick.workers');
becomes('critical', '^the aggregator fails: ', 'and again when there are');
sql('DROP INDEX adclick_internal.one_reason');
pass_time(60);
drained($node, 'clicks');
becomes('ok', '^$', 'ticks go on');

sql(q{DELETE FROM adclick.most_clicked_ads; CREATE UNIQUE INDEX one_minute ON adclick.most_clicked_ads (filter_id);
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT 1, now() - i * interval '1 minute' FROM generate_series(2, 5) i});
becomes('warning', '^the compactor fails: compaction: duplicate key value violates unique constraint "one_minute"$', 'compactions that fail');
sql('DROP INDEX adclick.one_minute');
pass_time(60);
becomes('ok', '^$', 'compactions go on');

#
# Damage
#
quiet_workers($node, 'clicks');
sql(q{INSERT INTO adclick.clicks (ad_id) SELECT i FROM generate_series(1, 100) i;
	SELECT adclick.tick();
	CREATE TABLE undamaged AS SELECT d.* FROM adclick_internal.deltas d JOIN adclick_internal.runs USING (run_id) WHERE sort_order = 0;
	UPDATE adclick_internal.deltas d SET data = set_byte(d.data, 9, 255 - get_byte(d.data, 9)) FROM undamaged u WHERE u.run_id = d.run_id});
wake_workers($node);
pass_time(120);
becomes('critical', '^damaged runs are left out of compaction: ', 'a damaged run');
sql(q{UPDATE adclick_internal.deltas d SET data = u.data FROM undamaged u WHERE (u.run_id, u.number) = (d.run_id, d.number)});
pass_time(301);
becomes('ok', '^$', 'it is mended');

my $keys = 'run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order = 3)';
quiet_workers($node, 'clicks');
sql(qq{
	CREATE TABLE copies AS SELECT click_id, ad_id, clicked_at FROM adclick.click_log
		WHERE verdict = 'counted' AND click_id IS NOT NULL AND clicked_at IS NOT NULL LIMIT 10;
	CREATE TABLE undamaged_keys AS SELECT run_id, number, data FROM adclick_internal.deltas WHERE $keys
		UNION ALL SELECT run_id, number, data FROM adclick_internal.ledger_0 WHERE $keys});
sql("UPDATE adclick_internal.$_ SET data = set_byte(data, 5, 255 - get_byte(data, 5)) WHERE $keys") foreach qw(deltas ledger_0);
$node->restart;
workers_ready($node, 'clicks');
sql('INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) TABLE copies');
wake_workers($node);
becomes('warning|critical', 'clicks were set aside as undecided \d+ s ago: keys, or counts of users and addresses, are damaged', 'keys that cannot be read');
sql("UPDATE adclick_internal.$_ d SET data = u.data FROM undamaged_keys u WHERE (u.run_id, u.number) = (d.run_id, d.number)") foreach qw(deltas ledger_0);
pass_time(3600);
becomes('ok', '^$', 'an hour later');

sql('ALTER TABLE adclick_internal.runs RENAME TO mislaid');
like(sql($HEALTH), qr/^critical\|the tables cannot be read: relation "adclick_internal.runs" of adclick has been altered \(It is missing\.\)/, 'a table is missing');
sql('ALTER TABLE adclick_internal.mislaid RENAME TO runs');
pass_time(60);
becomes('ok', '^$', 'it is there again');
sql('ALTER TABLE adclick.clicks REPLICA IDENTITY FULL');
like(sql($HEALTH), qr/^critical\|the tables cannot be read: relation "adclick.clicks" of adclick has been altered \(Its replica identity/, 'the inbox is altered');
sql('ALTER TABLE adclick.clicks REPLICA IDENTITY NOTHING');
sql('BEGIN; CREATE TABLE state AS TABLE adclick_internal.state; UPDATE adclick_internal.state SET tick = -1; COMMIT');
isnt($node->psql('clicks', 'TABLE adclick.status'), 0, 'the state is damaged: the status fails');
like(sql($HEALTH), qr/^critical\|the tables cannot be read: the state of adclick is damaged/, 'but not the health');
sql('UPDATE adclick_internal.state SET tick = s.tick FROM state s');
sql('ALTER ROLE adclick_owner SUPERUSER');
like(sql($HEALTH), qr/^critical\|the tables cannot be read: role "adclick_owner" may do more than adclick needs/, 'the role has powers');
sql('ALTER ROLE adclick_owner NOSUPERUSER');
pass_time(60);
becomes('ok', '^$', 'all as it was');

my $session = $node->background_psql('clicks');
$session->query_safe('BEGIN; LOCK TABLE adclick.clicks IN ACCESS EXCLUSIVE MODE');
is_now('warning|the tables cannot be read: canceling statement due to lock timeout', 'a lock that keeps everybody out');
$session->query_safe('COMMIT');
becomes('ok', '^$', 'the lock is gone');

#
# Writers that do not end
#
$session->query_safe('BEGIN; INSERT INTO adclick.clicks (ad_id) VALUES (1)');
my $writer = $session->query_safe('SELECT pg_backend_pid()');
pass_time(3500);
becomes('ok', '^$', 'a writer at work');
pass_time(101);
becomes('warning', "^a writer of clicks has not ended for 36.. s: process $writer\$", 'a writer that does not end');
$session->query_safe("PREPARE TRANSACTION 'left'");
becomes('ok', '^$', 'it is prepared');
pass_time(3601);
becomes('warning', '^a writer of clicks has not ended for 36.. s: prepared transaction left$', 'and left so');
sql("COMMIT PREPARED 'left'");
drained($node, 'clicks');
becomes('ok', '^$', 'it has ended');
$session->quit;

#
# Combinations
#
my $combinations = sql('SELECT combinations FROM adclick.status');
set_conf($node, 'adclick.max_filters' => $combinations);
becomes('warning', "^adclick.max_filters is nearly reached: $combinations of $combinations combinations\$", 'too many combinations');
set_conf($node, 'adclick.max_filters' => 10 * $combinations);
becomes('ok', '^$', 'more are allowed');

#
# No workers, by intention
#
sql('ALTER DATABASE clicks SET adclick.workers = off');
becomes('ok', "^$WORKERS_OFF\$", 'adclick.workers is off');
sql('INSERT INTO adclick.clicks (ad_id) VALUES (1)');
pass_time(290);
is_now("ok|$WORKERS_OFF", 'clicks wait');
pass_time(20);
like(sql($HEALTH), qr/^warning\|clicks are not taken: 1 wait, for 3\d\d s; \Q$NO_TICK\E 3\d\d s$/, 'for more than five minutes, and nobody makes a tick');
is(sql('SELECT counted FROM adclick.tick()'), '1', 'somebody does');
is_now("ok|$WORKERS_OFF", 'nothing waits');
pass_time(310);
like(sql($HEALTH), qr/^warning\|\Q$NO_TICK\E 3\d\d s$/, 'without clicks as well: nobody has made a tick');
is(sql('SELECT counted FROM adclick.tick()'), '0', 'somebody does, again');
is_now("ok|$WORKERS_OFF", 'that is a round');
$node->restart;
is_now("ok|$WORKERS_OFF", 'nor does it matter right after a restart');
pass_time(310);
like(sql($HEALTH), qr/^warning\|\Q$NO_TICK\E 3\d\d s$/, 'but it does later');
$launcher = stop_launcher();
sql('ALTER DATABASE clicks RESET adclick.workers');
is_now('ok|', 'no alarm while they come back');
kill 'CONT', $launcher;
drained($node, 'clicks');
becomes('ok', '^$', 'adclick.workers is on again');

#
# An extension made anew has no history
#
$node->safe_psql('postgres', 'CREATE DATABASE anew');
$node->safe_psql('anew', 'CREATE EXTENSION adclick');
workers_ready($node, 'anew');
$node->safe_psql('anew', 'ALTER TABLE adclick_internal.gaps ADD extra int; INSERT INTO adclick.clicks (ad_id) VALUES (1)');
ok($node->poll_query_until('anew', 'SELECT errors > 1 FROM adclick_internal.workers()'), 'ticks fail');
$node->safe_psql('anew', 'DROP EXTENSION adclick CASCADE');
$node->safe_psql('anew', 'CREATE EXTENSION adclick');
is($node->safe_psql('anew', 'SELECT health, reason, errors, last_error IS NULL FROM adclick.health(), adclick.status'), 'ok||0|t', 'not after CREATE EXTENSION');
$node->safe_psql('postgres', 'DROP DATABASE anew');

#
# A standby, before and after it is promoted
#
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is($standby->safe_psql('clicks', $HEALTH), "ok|$STANDBY", 'a standby is well');
quiet_workers($node, 'clicks');
sql('INSERT INTO adclick.clicks (ad_id) VALUES (1)');
$node->wait_for_catchup($standby);
is($standby->safe_psql('clicks', 'SELECT health, reason, lag_rows FROM adclick.health(), adclick.status'), "ok|$STANDBY|1",
	'with clicks that wait for the primary');
$standby->promote;
my $seen = $standby->safe_psql('clicks', $HEALTH);
like($seen, qr/^ok\|/, 'promoted: no alarm');
workers_ready($standby, 'clicks');
is($standby->safe_psql('clicks', $HEALTH), 'ok|', 'promoted, with workers');
$standby->stop;

# One that was asked for its status only, and has much to do: it cannot tick.
$standby = clocked(PostgreSQL::Test::Cluster->new('asked'));
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
sql(q{BEGIN; LOCK TABLE adclick_internal.runs IN SHARE MODE; PREPARE TRANSACTION 'held'; INSERT INTO adclick.clicks (ad_id) VALUES (1)});
$node->wait_for_catchup($standby);
is($standby->safe_psql('clicks', 'SELECT workers_wanted, lag_rows > 0 FROM adclick.status'), '0|t', 'a standby wants no workers');
pass_time(400);
$standby->promote;
workers_ready($standby, 'clicks');
is($standby->safe_psql('clicks', 'SELECT health, reason, lag_rows > 0 FROM adclick.health(), adclick.status'), 'ok||t', 'promoted with a backlog');
$standby->stop;
sql("ROLLBACK PREPARED 'held'");

#
# Counters outlive the server
#
wake_workers($node);
sql(q{INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (1, now() - interval '1 hour'), (1, 'infinity'), (1, '-infinity');
	INSERT INTO adclick.clicks (click_id, ad_id) VALUES ('6164636c-6963-8001-8000-000000000001', 1), ('6164636c-6963-8002-8000-000000000002', 1)});
send_copies($node, 'clicks', 20);
drained($node, 'clicks');
limits_become(1);
sql(q{INSERT INTO adclick.clicks (ad_id, clicked_at, user_id, ip) SELECT 1, now() - interval '1 hour', u, ip::inet FROM (VALUES (7001, NULL), (NULL, '10.70.0.1')) v (u, ip), generate_series(1, 2)});
drained($node, 'clicks');
limits_become(0);
my $counters = 'SELECT clicks_taken, clicks_counted, late_clicks, duplicates, discarded, in_future, too_old, undecided, forged, expired, user_limit, address_limit FROM adclick.status';
# what a crash takes back is taken again, with the same verdicts
my $before = sql($counters);
like($before, qr/^([1-9]\d*\|){11}[1-9]\d*$/, 'there is something of everything');
($aggregator) = workers_ready($node, 'clicks');
kill_process($node, $aggregator) or die "cannot kill process $aggregator";
ok($node->poll_query_until('clicks', "SELECT aggregator_pid <> $aggregator FROM adclick_internal.workers()"), 'another aggregator runs');
drained($node, 'clicks');
is(sql($counters), $before, 'counters after kill -9');
becomes('ok', '^$', 'ok after kill -9');

#
# A worker that is killed again and again: each time all is well soon
#
for my $crash (2 .. 4)
{
	pass_time(28);
	($aggregator) = workers_ready($node, 'clicks');
	kill_process($node, $aggregator) or die "cannot kill process $aggregator";
	ok($node->poll_query_until('clicks', "SELECT aggregator_pid <> $aggregator FROM adclick_internal.workers()"), "killed, $crash");
	becomes(@{ $crash < 3 ? [ 'ok', '^$' ] : [ 'warning', "^the server crashed $crash times in the last hour, and went on: its log says which process ended\$" ] }, "crashed, $crash");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE $$adclick%$$') > 0, 1, 'workers run');
pass_time(3530);
becomes('warning', '^the server crashed 3 times in the last hour', 'the first one is an hour ago');
pass_time(28);
becomes('ok', '^$', 'the second one, too');
pass_time(60);
$node->restart;
becomes('ok', '^$', 'a restart is no crash');

#
# Not loaded
#
$node->stop;
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->start;
is_now('critical|adclick is not loaded: add it to shared_preload_libraries and restart the server', 'the library is not loaded');
isnt($node->psql('clicks', 'TABLE adclick.status'), 0, 'where the status fails');
$node->stop;

done_testing();
