# The archive, with what can go wrong: a program that is missing, fails, is killed, or finds the
# disk full; a directory without permission; a server that is killed while it writes or
# reads; a user forgotten meanwhile; a standby; and a dump.  Nothing is dropped that is in no whole file, and
# no half of a file has the name of a whole one.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use File::Path qw(make_path);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $archive = "$dir/arch ive";
my $mode = "$dir/mode";

# A gzip that does as it is told.
sub gzip_does
{
	my ($what) = @_;

	unlink $mode;
	append_to_file($mode, $what);
	return;
}

my ($gzip) = grep { -x } map { "$_/gzip" } split /:/, $ENV{PATH};

make_path("$dir/bin", $archive);
append_to_file("$dir/bin/gzip", <<"EOS");
#!/bin/sh
case \$(cat $mode) in
well) ;;
fail) cat > /dev/null; echo 'it does not want to' >&2; exit 3 ;;
die) $gzip "\$@" | head -c 2000; kill -9 \$\$ ;;
killed) kill -9 \$\$ ;;
nothing) cat > /dev/null; exit 0 ;;
half) head -c 2000 | $gzip "\$@"; cat > /dev/null; exit 0 ;;
full) exec $gzip "\$@" > /dev/full ;;
limited) ulimit -f 1; trap '' XFSZ; exec $gzip "\$@" ;;
missing) exit 127 ;;
wait) touch $dir/waits; while test -e $mode.wait; do sleep 0.1; done ;;
esac
exec $gzip "\$@"
EOS
chmod 0755, "$dir/bin/gzip";
gzip_does('well');
$ENV{PATH} = "$dir/bin:$ENV{PATH}";

my $node = adclick_node('main', allows_streaming => 1, 'restart_after_crash' => 'on', 'adclick.watermark' => "'0s'",
	'adclick.raw_retention' => "'60d'", 'adclick.archive_directory' => "'$archive'");
$node->start;
adclick_database($node, 'clicks');

sub sql { return $node->safe_psql('clicks', $_[0]) }

# Those of the volume that is due.
sub files { return join ' ', sort map { s/.*\///r } glob("'$archive'/*/volume_0*") }

# What the counts are of, and what the log has.
my $COUNTS = q{SELECT md5(string_agg(f::text, ',' ORDER BY f::text)) FROM (
	SELECT ad_id, click_minute, country, region, device, sum(click_count) AS clicks FROM adclick.clicks_per_minute GROUP BY 1, 2, 3, 4, 5) f};
# What volumes have, as contents are told.
my $CONTENTS = q{SELECT md5(string_agg(run_id || ' ' || facts || ' ' || clicks, ',' ORDER BY run_id)) FROM adclick_internal.runs WHERE sort_order = 3 AND volume = 0};
my $LOG = q{SELECT md5(string_agg(c::text, ',' ORDER BY c::text)) FROM adclick.click_log c WHERE verdict = 'counted'};
my $ARCHIVE = 'CALL adclick.archive_clicks()';
my $RESTORE = q{SELECT adclick.restore_clicks('-infinity', 'infinity')};

# Old clicks in volume 0, which is due as soon as copies can no longer arrive.
sql(q{INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT click_id, ad_id, now() - interval '20 days' + random() * interval '3 hours', 1 + user_id % 50, ip, country, region, device
	FROM oracle.random_clicks(20000, '1 hour')});
drained($node, 'clicks');
packed($node, 'clicks');
set_conf($node, 'adclick.raw_retention' => "'1h'", 'adclick.ledger_retention' => "'30d'");
sql(q{UPDATE adclick_internal.volumes SET opened_at = now() - interval '50 days';
	INSERT INTO adclick_internal.volumes SELECT 'ledger', 1, now() - interval '40 days', NULL, NULL, in_future, too_old, duplicates, undecided, forged, expired, user_limit, address_limit FROM adclick_internal.state});
send_clicks($node, 'clicks', 500, '10 minutes');
drained($node, 'clicks');
my ($counts, $log) = (sql($COUNTS), sql($LOG));
my $clicks = sql('SELECT sum(clicks) FROM adclick_internal.runs WHERE sort_order = 3 AND volume = 0');

# Nothing is dropped, nothing is half there, and all is as it was.
sub stays_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	is(sql('SELECT volumes_dropped, waits FROM adclick.apply_retention()'), '0|it has not been archived, see adclick.archive_clicks()', "$name: the volume stays");
	is(files(), '', "$name: no file");
	is(sql('SELECT count(*) FROM adclick.archived_volumes WHERE volume = 0'), '0', "$name: nor in the books");
	return;
}

sub fails_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $pattern) = @_;
	my ($status, undef, $error) = $node->psql('clicks', $ARCHIVE);

	isnt($status, 0, "$name: an error");
	like($error, $pattern, "$name: why");
	like($error, qr/volume 0 of the ledger, file ".*volume_0\.csv\.gz\.unfinished"/, "$name: where");
	stays_ok($name);
	return;
}

stays_ok('at first');
my $FAILED = qr/program "exec gzip -n?[cd]c? .*" failed\nDETAIL:/;
my $LOST = qr/program "exec gzip -nc .*" has not written what it was given/;
my $HINT = qr/HINT:  The server log has what the program said\. Nothing/;
for my $way (['missing', qr/$FAILED  command not found/], ['fail', qr/$FAILED  child process exited with exit code 3/], ['die', qr/$FAILED  child process was terminated by signal 9/],
	['killed', qr/$FAILED  child process was terminated by signal 9/], ['full', qr/$FAILED  child process exited with exit code 1/], ['limited', qr/$FAILED  child process exited with exit code 1/],
	['nothing', qr/$FAILED  It ended without having written anything/], ['half', qr/$LOST/])
{
	gzip_does($way->[0]);
	fails_ok("gzip: $way->[0]", qr/$way->[1].*$HINT is dropped that has not been archived/s);
}
like(slurp_file($node->logfile), qr/it does not want to/, 'the log has what it said');
gzip_does('well');
my ($subdirectory) = glob("'$archive'/*");
chmod 0555, $subdirectory;
SKIP:
{
	skip 'root may write everywhere', 6 if $> == 0;
	fails_ok('no permission', qr/could not create file ".*": Permission denied/);
}
chmod 0755, $subdirectory;
rename $archive, "$archive.away";
my (undef, undef, $error) = $node->psql('clicks', $ARCHIVE);
like($error, qr/could not find adclick\.archive_directory ".*": No such file or directory/, 'no directory');
rename "$archive.away", $archive;
stays_ok('no directory');

# A session of its own, whose end nobody waits for yet, and what it says of errors.
my $said;
sub psql_starts
{
	my ($statement) = @_;

	return IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('clicks'), '-v', 'VERBOSITY=sqlstate', '-c', $statement ], '>', '/dev/null', '2>', \$said);
}

# Let it wait in the middle of a file, meanwhile do something, and go on.
sub meanwhile
{
	my ($statement, $do) = @_;
	my $session;

	unlink "$dir/waits";
	append_to_file("$mode.wait", '');
	gzip_does('wait');
	$session = psql_starts($statement);
	for (my $end = time + $PostgreSQL::Test::Utils::timeout_default; !-e "$dir/waits"; select undef, undef, undef, 0.05)
	{
		die "gzip is not begun: $statement" if time > $end;
	}
	$do->();
	gzip_does('well');
	unlink "$mode.wait";
	$session->finish;
	return;
}

# It is cancelled; the server is killed.
meanwhile($ARCHIVE, sub {
	sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL adclick.archive%'});
	gzip_does('well');
	unlink "$mode.wait";
	$node->poll_query_until('clicks', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'CALL adclick.archive%' AND state = 'active'}) or die 'it is not cancelled';
});
stays_ok('cancelled');
is($said, "ERROR:  57014\n", 'and so it says, whatever comes of the program');
meanwhile($ARCHIVE, sub {
	is(sql('SELECT rows_read > 0 FROM adclick.tick()') . sql('SELECT oracle.compact()'), 'f', 'ticks and compaction go on meanwhile');
	$node->stop('immediate');
});
$node->start;
workers_ready($node, 'clicks');
is(files() =~ s/volume_0\.csv\.gz\.unfinished//r, '', 'killed: what is left has no name of its own');
is(sql('SELECT count(*) FROM adclick.archived_volumes WHERE volume = 0'), '0', 'killed: nothing in the books');

# A user is forgotten while it is written: he is in no file.
my $name = sql(q{SELECT user_id FROM adclick.click_log WHERE verdict = 'counted' AND clicked_at < now() - interval '2 days' AND user_id IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC LIMIT 1});
# (one call: the procedure would come back to the volume in any case)
meanwhile('SELECT adclick.archive_volume()', sub { sql("SELECT adclick.forget_user($name)") });
is(files(), 'volume_0.csv.gz volume_0.json', 'a file, and what it is of');
is(sql('SELECT contents FROM adclick.archived_volumes WHERE volume = 0'), sql($CONTENTS), 'it has what the volume has');
my ($file) = glob("'$archive'/*/volume_0.csv.gz");
my ($named) = run_command([ 'sh', '-c', "$gzip -dc < '$file' | cut -d, -f5 | grep -cx $name; true" ]);
is($named, '0', 'he is not in it');
($counts, $log) = (sql($COUNTS), sql($LOG));
$clicks = sql('SELECT sum(clicks) FROM adclick_internal.runs WHERE sort_order = 3 AND volume = 0');

# It goes.
is(sql('SELECT dropped, volumes_dropped FROM adclick.apply_retention()'), "$clicks|1", 'now it is dropped');
sql('SELECT adclick.apply_retention()');
my $log_after = sql($LOG);
isnt($log_after, $log, 'its clicks are gone');
is(sql($COUNTS), $counts, 'all counts are as they were');

# A standby neither writes nor restores; it shows what came back.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
for my $statement ($ARCHIVE, $RESTORE, 'SELECT adclick.release_clicks()')
{
	my (undef, undef, $refusal) = $standby->psql('clicks', $statement);

	like($refusal, qr/cannot execute adclick\.\w+\(\) during recovery|cannot execute .* in a read-only transaction/, "on a standby: $statement");
}

# While clicks come back: they fail, are killed, and come in the end.
for my $way (['missing', 'command not found'], ['fail', 'child process exited with exit code 3'], ['die', 'child process was terminated by signal 9'],
	['killed', 'child process was terminated by signal 9'], ['nothing', 'It ended without having written anything'])
{
	my $what = $way->[0];

	gzip_does($what);
	my (undef, undef, $refusal) = $node->psql('clicks', $RESTORE);

	like($refusal, qr/$FAILED  $way->[1].*$HINT was restored\..*volume 0 of the ledger, file ".*volume_0\.csv\.gz"/s, "restoring, gzip: $what");
	is(sql('SELECT count(*) FROM adclick.restored_hours') . sql('SELECT count(*) FROM adclick_internal.runs WHERE sort_order = 5'), '00', "restoring, gzip: $what: nothing comes");
}
meanwhile($RESTORE, sub {
	sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT adclick.restore%'});
	$node->poll_query_until('clicks', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE 'SELECT adclick.restore%' AND state = 'active'}) or die 'it is not cancelled';
});
is($said, "ERROR:  57014\n", 'restoring is cancelled');
meanwhile($RESTORE, sub { $node->stop('immediate') });
$node->start;
workers_ready($node, 'clicks');
is(sql($LOG), $log_after, 'killed: nothing came back');
is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', 'killed: the books are balanced');
is(sql($RESTORE), $clicks, 'all comes back');
is(sql($LOG), $log, 'the log is as it was');
is(sql($COUNTS), $counts, 'all counts are as they were');
is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', 'the books are balanced');
sql(q{CALL adclick.reconcile('-infinity', 'infinity')});
is(sql('SELECT count(*) FROM adclick.reconciled_hours WHERE differences > 0 OR problem IS NOT NULL'), '0', 'no differences');
is(sql('SELECT count(*) > 2 FROM adclick.reconciled_hours h JOIN adclick.restored_hours USING (hour)'), 't', 'of what came back, too');
$node->wait_for_catchup($standby);
is($standby->safe_psql('clicks', $LOG), $log, 'a standby shows it');
$standby->stop;

# Somebody is forgotten while clicks come back: one waits for the other, and his name is gone.
sql('SELECT adclick.release_clicks()');
$name = sql(q{SELECT user_id FROM adclick_internal.facts(1) WHERE click_minute < now() - interval '2 days' GROUP BY 1 ORDER BY count(*) DESC LIMIT 1});
my $forgetting;
meanwhile($RESTORE, sub {
	$forgetting = psql_starts("SELECT adclick.forget_user($name)");
	$node->poll_query_until('clicks', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}) or die 'it does not wait';
});
$forgetting->finish;
is(sql(qq{SELECT count(*) FROM adclick.click_log WHERE user_id = $name}), '0', 'forgotten meanwhile');
is(sql('SELECT count(*) FROM adclick.restored_hours'), '0', 'what came was released');
is(sql($RESTORE), $clicks, 'it comes back');
is(sql(qq{SELECT count(*) FROM adclick.click_log WHERE user_id = $name}), '0', 'without him');
is(sql(q{SELECT count(*) FROM generate_series(0, 60) n, adclick_internal.find_differences(date_trunc('hour', now(), 'UTC') - interval '19 days' - n * interval '1 hour', true)}), '0', 'no differences');

# A dump has what came back, and the books of the files, which may be read where it is restored.
$log = sql($LOG);
$node->command_ok([ 'pg_dump', '-d', $node->connstr('clicks'), '-f', "$dir/dump.sql" ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('other'), '-f', "$dir/dump.sql" ], 'restored');
is($node->safe_psql('other', $LOG), $log, 'the log of a dump');
is($node->safe_psql('other', 'SELECT adclick.release_clicks()'), $clicks, 'it is released there');
is($node->safe_psql('other', $RESTORE), $clicks, 'and comes back');
is($node->safe_psql('other', $LOG), $log, 'the log is as it was');
is($node->safe_psql('other', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'the books are balanced');
is(sql($COUNTS), $counts, 'all counts are as they were, in the end');
$node->stop;

done_testing();
