# The workers: where they run, what ends them, and what they stand in the way of.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node;

# The workers there are, as "type@database", sorted.
my $WORKERS = q{
	SELECT coalesce(string_agg(replace(backend_type, 'adclick ', '') || coalesce('@' || datname, ''), ' '
		ORDER BY datname, backend_type), '')
	FROM pg_stat_activity WHERE backend_type IN ('adclick launcher', 'adclick aggregator', 'adclick compactor')};

sub workers_are
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($expected, $name) = @_;

	ok($node->poll_query_until('postgres', $WORKERS, $expected), $name)
	  or diag('there are: ' . $node->safe_psql('postgres', $WORKERS));
	return;
}

sub both
{
	return join ' ', (map { "aggregator\@$_ compactor\@$_" } @_), 'launcher';
}

#
# Without shared_preload_libraries
#
{
	my $bare = PostgreSQL::Test::Cluster->new('bare');
	$bare->init;
	$bare->start;

	my (undef, undef, $error) = $bare->psql('postgres', 'CREATE EXTENSION adclick');
	like($error, qr/ERROR:  adclick must be loaded when the server starts/, 'not preloaded: CREATE EXTENSION fails');
	like($error, qr/HINT:  Add adclick to shared_preload_libraries/, 'not preloaded: the hint says what to set');
	is($bare->safe_psql('postgres', "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'adclick%'"),
		'0', 'not preloaded: nothing is left behind');
	$bare->stop;
}

$node = adclick_node('main');
$node->start;

#
# Where they run
#
workers_are('launcher', 'no extension anywhere: the launcher alone');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
adclick_database($node, 'one');
workers_are(both('one'), 'workers in the database with the extension');
adclick_database($node, 'two');
workers_are(both('one', 'two'), 'and in a second one, not in the one without');

send_clicks($node, 'one', 1000);
send_clicks($node, 'two', 500);
exact_ok($node, 'one', 'counted by themselves in the first');
exact_ok($node, 'two', 'counted by themselves in the second');
is($node->safe_psql('one', 'SELECT workers_alive FROM adclick.status'), '2', 'status says they are alive');
is($node->safe_psql('one', 'SELECT last_error IS NULL AND last_error_at IS NULL FROM adclick.status'),
	't', 'status has no error to tell');

# A rolled-back CREATE EXTENSION, and one beside a failing statement.
$node->safe_psql('plain', 'BEGIN; CREATE EXTENSION adclick; ROLLBACK');
workers_are(both('one', 'two'), 'rolled-back CREATE EXTENSION: no workers');

#
# Settings
#
quiet_workers($node, 'one');
send_clicks($node, 'one', 100);
isnt($node->safe_psql('one', 'SELECT lag_rows FROM adclick.status'), '0', 'a long tick_interval: the tail stays');
answers_ok($node, 'one', 'the tail is counted in answers');
wake_workers($node, '50ms');
exact_ok($node, 'one', 'a short tick_interval, reloaded: the tail is taken');

#
# Their ends
#
for my $kind ('launcher', 'aggregator', 'compactor')
{
	my $pids = $node->safe_psql('postgres',
		"SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE backend_type = 'adclick $kind'");
	is($node->safe_psql('postgres',
			"SELECT bool_and(pg_terminate_backend(p, 60000)) FROM unnest('{$pids}'::int[]) p"),
		't', "$kind: ends when it is terminated");
	ok($node->poll_query_until('postgres', qq{
		SELECT count(*) >= 1 FROM pg_stat_activity
		WHERE backend_type = 'adclick $kind' AND pid NOT IN ($pids)}), "$kind: comes back");
	send_clicks($node, 'one', 200);
	exact_ok($node, 'one', "$kind back");
	workers_are(both('one', 'two'), "$kind: one of each, no more");
}

#
# Statements that need the database for themselves, under load
#
my $writers = writers_start($node, 'two', 2);
$node->poll_query_until('two', 'SELECT clicks_counted > 2000 FROM adclick.status');
for my $round (1 .. 3)
{
	$node->safe_psql('two', 'DROP EXTENSION adclick CASCADE');
	pass("DROP EXTENSION under load, round $round");
	workers_are(both('one'), 'its workers leave');
	$node->safe_psql('two', 'CREATE EXTENSION adclick');
	workers_are(both('one', 'two'), 'and come back with the extension');
	$node->poll_query_until('two', 'SELECT clicks_counted > 500 FROM adclick.status');
	conserved_ok($node, 'two', "round $round under load");
}
writers_stop($writers);
exact_ok($node, 'two', 'extension made again');
$node->safe_psql('two', 'DROP EXTENSION adclick CASCADE; CREATE EXTENSION adclick');
is($node->safe_psql('two', 'SELECT clicks_counted, duplicates, discarded FROM adclick.status'),
	'0|0|0', 'made again: counts from zero');
send_clicks($node, 'two', 500);
exact_ok($node, 'two', 'counts from zero');

$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE two');
workers_are(both('copied', 'one', 'two'), 'CREATE DATABASE TEMPLATE goes through; the copy has workers');
send_clicks($node, 'copied', 500);
send_copies($node, 'copied', 20);
send_clicks($node, 'two', 300);
exact_ok($node, 'copied', 'copied database');
exact_ok($node, 'two', 'template');

$node->safe_psql('postgres', 'ALTER DATABASE copied RENAME TO renamed');
workers_are(both('one', 'renamed', 'two'), 'ALTER DATABASE RENAME goes through');
send_clicks($node, 'renamed', 500);
exact_ok($node, 'renamed', 'renamed database');

$node->safe_psql('postgres', 'DROP DATABASE renamed');
workers_are(both('one', 'two'), 'DROP DATABASE goes through');

# One that cannot go through lets the workers back in.
my $session = $node->background_psql('two');
my ($status) = $node->psql('postgres', 'DROP DATABASE two');
isnt($status, 0, 'DROP DATABASE fails while someone is connected');
$session->quit;
workers_are(both('one', 'two'), 'and the workers are back');
send_clicks($node, 'two', 200);
exact_ok($node, 'two', 'after a failed DROP DATABASE');

# Someone who may not drop it does not stop its workers.
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
my $before = join ',', workers_ready($node, 'two');
$node->psql('postgres', 'DROP DATABASE two', extra_params => [ '-U', 'stranger' ]);
is(join(',', workers_ready($node, 'two')), $before, 'a stranger cannot stop workers by DROP DATABASE');

#
# An owner who cannot log in
#
$node->safe_psql('postgres', q{
	CREATE ROLE keeper SUPERUSER NOLOGIN;
	CREATE DATABASE kept});
$node->safe_psql('kept', 'SET ROLE keeper; CREATE EXTENSION adclick');
$node->safe_psql('kept', slurp_file("$FindBin::RealBin/lib/oracle.sql"));
workers_ready($node, 'kept');
send_clicks($node, 'kept', 1000);
exact_ok($node, 'kept', 'owner without LOGIN');

# Nor is any role but the owner obeyed: an owner without superuser rights will do.
$node->safe_psql('kept', 'ALTER ROLE keeper NOSUPERUSER');
my ($aggregator, $compactor) = workers_ready($node, 'kept');
$node->safe_psql('kept', "SELECT pg_terminate_backend(p, 60000) FROM unnest('{$aggregator,$compactor}'::int[]) p");
workers_ready($node, 'kept');
send_clicks($node, 'kept', 1000);
exact_ok($node, 'kept', 'owner without SUPERUSER');
is($node->safe_psql('kept', q{
	SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'adclick %' AND wait_event_type = 'Lock'}),
	'0', 'nobody waits for a lock');
$node->safe_psql('postgres', 'DROP DATABASE kept');

#
# Errors
#
my $log_before = -s $node->logfile;
$node->safe_psql('one', 'ALTER TABLE adclick_internal.runs RENAME TO mislaid');
send_clicks($node, 'one', 300);
ok($node->poll_query_until('one', q{
	SELECT coalesce(last_error LIKE '%adclick_internal.runs%', false) AND last_error_at > now() - interval '1 minute'
	FROM adclick.status}), 'status shows the error');

# The third start of a worker that fails comes 2 + 4 seconds after the first.
ok($node->poll_query_until('one', q{SELECT last_error_at > pg_postmaster_start_time() FROM adclick.status}), 'and when');
my @errors;
my $attempts = 0;
while ($attempts++ < 1800)
{
	@errors = slurp_file($node->logfile, $log_before) =~
	  /^\S+ (\d+:\d+:[\d.]+) .*ERROR:  relation "adclick_internal.runs" of adclick has been altered/mg;
	last if @errors >= 5;
	# each look costs a round trip, which is the pause between two
	$node->safe_psql('one', "SELECT pg_sleep(0.1)");
}
my @at = map { my ($h, $m, $s) = split /:/; $h * 3600 + $m * 60 + $s } @errors;
cmp_ok(scalar(@at), '>=', 5, 'the workers try again');
my $span = $at[4] - $at[0];
$span += 86400 if $span < 0;
cmp_ok($span, '>', 1.5, 'but back off: two workers do not fail five times at once');
like($node->safe_psql('postgres', $WORKERS), qr/aggregator\@two compactor\@two launcher/,
	'the workers of the other database go on');

$node->safe_psql('one', 'ALTER TABLE adclick_internal.mislaid RENAME TO runs');
exact_ok($node, 'one', 'recovered from the error');
workers_are(both('one', 'two'), 'all workers are back');

done_testing();
