# What the TAP tests share: servers with adclick, clicks, and the oracle.
#
# The oracle (oracle.sql) computes by plain SQL over adclick.click_log what
# the extension should answer.  It is installed into the schema "oracle" of a test
# database, and the same SQL serves every test.

package AdclickTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(
  adclick_node adclick_database
  workers_ready quiet_workers wake_workers kill_process set_conf
  send_clicks send_copies drained compacted packed
  answers_ok facts_ok lists_ok verdicts_ok conserved_ok exact_ok counted_is
  writers_start writers_stop
);

# Where the server lets nobody in, psql may end before it has read the question: that is no
# reason for a test to end, which waits for the server.
{
	no warnings 'redefine';

	my $poll_query_until = \&PostgreSQL::Test::Cluster::poll_query_until;

	*PostgreSQL::Test::Cluster::poll_query_until = sub {
		my @arguments = @_;
		my $end = time + $PostgreSQL::Test::Utils::timeout_default;
		my $answer;

		until (eval { $answer = $poll_query_until->(@arguments); 1 })
		{
			die $@ if $@ !~ /Broken pipe/ || time > $end;
		}
		return $answer;
	};
}

our $COLUMNS = 'click_id, ad_id, clicked_at, user_id, ip, country, region, device';

# A server with adclick preloaded, initialised but not started.
sub adclick_node
{
	my ($name, %settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => delete $settings{allows_streaming} // 0);
	%settings = (
		'shared_preload_libraries' => "'adclick'",
		'adclick.tick_interval' => "'20ms'",
		'adclick.dedup_memory' => "'32MB'",
		# compiling queries that are asked once would take a third of the tests' time
		'jit' => 'off',
		'max_worker_processes' => 24,
		'log_min_messages' => 'warning',
		'log_statement' => "'none'",
		%settings);
	$node->append_conf('postgresql.conf', "$_ = $settings{$_}") for sort keys %settings;
	return $node;
}

# A database with the extension, the oracle and some ads, its workers at work;
# "witness": what is sent is noted and compared with the log.  "by_hand": without workers.
sub adclick_database
{
	my ($node, $database, %options) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database") unless $database eq 'postgres';
	$node->safe_psql('postgres', "ALTER DATABASE $database SET adclick.workers = off") if $options{by_hand};
	$node->safe_psql($database, 'CREATE EXTENSION adclick');
	$node->safe_psql($database, slurp_file("$FindBin::RealBin/lib/oracle.sql"));
	$node->safe_psql($database, 'SELECT oracle.make_ads()');
	$node->safe_psql($database, 'SELECT oracle.witness()') if $options{witness};
	workers_ready($node, $database) unless $options{by_hand};
	return;
}

# Wait until the aggregator and the compactor run, whether a reader does or not; returns their process ids.
sub workers_ready
{
	my ($node, $database) = @_;

	$node->poll_query_until($database, 'SELECT aggregator_pid IS NOT NULL AND compactor_pid IS NOT NULL FROM adclick_internal.workers()')
	  or die "the workers of $database do not run";
	return split /\|/,
	  $node->safe_psql($database, 'SELECT aggregator_pid, compactor_pid FROM adclick_internal.workers()');
}

sub set_conf
{
	my ($node, %settings) = @_;

	for my $name (sort keys %settings)
	{
		$node->adjust_conf('postgresql.conf', $name, undef);
		$node->append_conf('postgresql.conf', "$name = $settings{$name}");
	}
	$node->reload;
	return;
}

# Let the workers sleep, so that rounds are done by hand only.
sub quiet_workers
{
	my ($node, $database) = @_;
	my ($aggregator, $compactor) = workers_ready($node, $database);

	# Those who read the old setting are replaced; who waits has done its round.
	set_conf($node, 'adclick.tick_interval' => "'1h'");
	$node->safe_psql($database, "SELECT pg_terminate_backend(p, 60000) FROM unnest('{$aggregator,$compactor}'::int[]) p");
	$node->poll_query_until($database, qq{
		SELECT count(*) = 2 FROM pg_stat_activity a, adclick_internal.workers() w
		WHERE a.pid IN (w.aggregator_pid, w.compactor_pid) AND a.wait_event_type = 'Extension'
			AND a.pid NOT IN ($aggregator, $compactor)})
	  or die "the workers of $database do not get quiet";
	return;
}

sub wake_workers
{
	my ($node, $interval) = @_;

	set_conf($node, 'adclick.tick_interval' => "'" . ($interval // '20ms') . "'");
	return;
}

# Kill a process of the server, and wait until that has restarted. Until then the dead one is still among its
# processes; who asks something meanwhile may be let in and thrown out again. Returns how many were killed.
sub kill_process
{
	my ($node, $pid) = @_;
	my $killed = kill 'KILL', $pid;

	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'the server does not come back';
	return $killed;
}

# Insert random clicks, hostile ones and copies among them.
sub send_clicks
{
	my ($node, $database, $n, $spread) = @_;

	$spread //= '5 minutes';
	$node->safe_psql($database, "SELECT oracle.send_clicks($n, '$spread')");
	return;
}

# Send copies of clicks that are in the log.
sub send_copies
{
	my ($node, $database, $n) = @_;

	$node->safe_psql($database, "SELECT oracle.send_copies($n)");
	return;
}

# Wait until every click has been taken and decided.
sub drained
{
	my ($node, $database) = @_;

	$node->poll_query_until($database, 'SELECT lag_rows = 0 FROM adclick.status')
	  or diag('not drained: ' . $node->safe_psql($database, 'SELECT status FROM adclick.status'));
	return;
}

# Wait until a round of the compactor that begins from now on leaves nothing to do.
sub compacted
{
	my ($node, $database) = @_;
	my $begun = Time::HiRes::time();

	while (1)
	{
		my $passed = Time::HiRes::time() - $begun;

		last if $node->safe_psql($database, 'SELECT behind FROM adclick_internal.worker(true)') + 0.1 < $passed;
		die 'the compactor does not come to an end' if $passed > $PostgreSQL::Test::Utils::timeout_default;
	}
	return;
}

# Have all deltas folded in, also those that the compactor lets wait for more.
sub packed
{
	my ($node, $database) = @_;

	$node->poll_query_until($database, 'SELECT NOT EXISTS (SELECT FROM adclick_internal.runs WHERE is_delta) FROM adclick.compact()')
	  or die 'not all deltas can be folded in';
	return;
}

# All questions, asked at random, are answered as the oracle does, at any time, on a
# standby too; "may_refuse": those about users and addresses may be refused.
sub answers_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $database, $name, %options) = @_;
	my $questions = $options{questions} // 24;
	my $may_refuse = $options{may_refuse} ? 'true' : 'false';

	is($node->safe_psql($database, "SELECT * FROM oracle.wrong_answers($questions, false, $may_refuse) LIMIT 5"),
		'', "$name: answers to all questions");
	return;
}

# All facts, when everything has been taken.
sub facts_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $database, $name) = @_;

	is($node->safe_psql($database, 'SELECT * FROM oracle.wrong_facts() LIMIT 5'), '', "$name: facts");
	return;
}

# The lists of most clicked ads of the compacted minutes.
sub lists_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $database, $name) = @_;

	is($node->safe_psql($database, 'SELECT * FROM oracle.wrong_lists() LIMIT 5'), '', "$name: lists of most clicked ads");
	return;
}

# What the log says became of each click, at any time; "may_be_undecided": stored keys
# were damaged.
sub verdicts_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $database, $name, %options) = @_;
	my $undecided = $options{may_be_undecided} ? 'true' : 'false';

	is($node->safe_psql($database, "SELECT * FROM oracle.wrong_verdicts($undecided) LIMIT 5"), '', "$name: verdicts");
	return;
}

# The clicks of each verdict in the log = counted, duplicates, discarded, tail, in one snapshot;
# with a witness they are those that were sent.
sub conserved_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $database, $name) = @_;

	is($node->safe_psql($database, 'SELECT * FROM oracle.lost()'), '0', "$name: nothing lost, nothing too much");
	return;
}

# Everything together, after the dust has settled.
sub exact_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $database, $name, %options) = @_;

	drained($node, $database);
	conserved_ok($node, $database, $name);
	verdicts_ok($node, $database, $name, %options);
	facts_ok($node, $database, $name);
	lists_ok($node, $database, $name);
	answers_ok($node, $database, $name, %options);
	return;
}

# Clicks counted by ticks and the compactor, after the dust has settled.
sub counted_is
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($node, $database, $expected, $name) = @_;

	drained($node, $database);
	is($node->safe_psql($database, 'SELECT clicks_counted FROM adclick.status'), $expected, $name);
	return;
}

# Writers that go on until they are stopped, through crashes and all: a batch is
# sent again until it is acknowledged, so what was in doubt comes twice.
sub writers_start
{
	my ($node, $database, $n, %options) = @_;
	my $rows = $options{rows} // 300;
	my $late = $options{late} ? 'true' : 'false';
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $psql = 'psql -X -q -v ON_ERROR_STOP=1 -d "' . $node->connstr($database) . '"';
	my %writers = (stop => "$dir/stop", handles => []);

	for my $i (1 .. $n)
	{
		my $batch = "$dir/batch.$i";
		my $script = "$dir/writer.$i.sh";

		append_to_file($script, <<"EOS");
exec >/dev/null 2>&1
while test ! -e $dir/stop; do
	$psql -c "\\copy (SELECT * FROM oracle.random_clicks($rows, '2 minutes', $late)) TO '$batch'" || continue
	until $psql -c "\\copy adclick.clicks ($COLUMNS) FROM '$batch'"; do
		test -e $dir/stop && exit 0
	done
	$psql <<'SQL'
SELECT oracle.send_clicks($rows / 3, '2 minutes', $late);
BEGIN;
SELECT oracle.send_clicks($rows / 10, '2 minutes', $late);
SAVEPOINT s;
SELECT oracle.send_clicks($rows / 10, '2 minutes', $late);
ROLLBACK TO s;
SELECT oracle.send_copies($rows / 50);
COMMIT;
SELECT oracle.send_clicks(1, '1 second', $late) FROM generate_series(1, 5);
SQL
done
exit 0
EOS
		push @{ $writers{handles} }, IPC::Run::start([ 'sh', $script ]);
	}
	return \%writers;
}

sub writers_stop
{
	my ($writers) = @_;

	append_to_file($writers->{stop}, '');
	IPC::Run::finish($_) for @{ $writers->{handles} };
	return;
}

1;
