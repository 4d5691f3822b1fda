# Keys that are loaded into memory by a transaction that has changed what they are
# loaded from: it may be rolled back, and others use them meanwhile.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# No room for workers: every round is done by hand.
my $node = adclick_node('main', 'max_worker_processes' => 2);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE clicks');
$node->safe_psql('clicks', 'CREATE EXTENSION adclick');
$node->safe_psql('clicks', slurp_file("$FindBin::RealBin/lib/oracle.sql") . q{
	CREATE TABLE began AS SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') AS t;
	-- a click for each letter; capital ones are of a dedup window before those loaded
	CREATE FUNCTION send(keys text) RETURNS void LANGUAGE sql AS $$
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
		SELECT md5(key)::uuid, ascii(key), CASE WHEN key = upper(key) THEN t - interval '1 hour' ELSE t END
		FROM began, regexp_split_to_table(keys, '') key $$;
	CREATE FUNCTION wrong() RETURNS SETOF text LANGUAGE sql STABLE AS $$
		SELECT 'lost: ' || lost FROM oracle.lost() WHERE lost <> 0
		UNION ALL SELECT 'answer: ' || a FROM oracle.wrong_answers(24) a $$});

# From the first tick on, even without a click, it is not the server that says how clicks are judged.
$node->safe_psql('clicks', 'SELECT adclick.tick()');
is($node->safe_psql('clicks', 'SELECT tick, rule_id FROM adclick_internal.state'), '1|1', 'the first tick puts the settings in force');
is($node->safe_psql('clicks', 'SELECT tick IS NULL FROM adclick.tick()'), 't', 'the next has nothing to do');
is($node->safe_psql('clicks', 'SELECT tick FROM adclick_internal.state'), '1', 'and does nothing');

my $session = session();

sub session { return $node->background_psql('clicks', on_error_stop => 0) }

sub other { return $node->safe_psql('clicks', $_[0]) }

sub right
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	is(other('SELECT wrong()'), '', $name);
	return;
}

# Nothing is in memory afterwards.
sub restart
{
	$node->restart;
	$session->quit;
	$session = session();
	return;
}

# The keys of another setting are loaded by the second tick after it.
sub change_window
{
	my ($window) = @_;
	my $setting = 'SELECT setting FROM pg_settings WHERE name = \'adclick.dedup_window\'';

	set_conf($node, 'adclick.dedup_window' => "'$window s'");
	while ($session->query_safe($setting) ne $window) { }
	$node->poll_query_until('clicks', $setting, $window) or die 'the server does not take the setting';
	return;
}

# The same while transactions are under way: keys of another rule are loaded, and back again.
sub restart_memory
{
	foreach my $window (500, 600)
	{
		change_window($window);
		other('SELECT adclick.tick(); SELECT send(chr(48 + floor(random() * 10)::int)); SELECT adclick.tick()');
	}
	return;
}

# After everything is taken.
sub settled
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	other('SELECT adclick.tick(); SELECT adclick.compact()');
	right("$name: answers, all taken");
	facts_ok($node, 'clicks', $name);
	return;
}

#
# Late clicks: their window is not in memory, and their keys are looked for
#
sub late
{
	my ($key) = @_;

	other('DROP EXTENSION adclick CASCADE; CREATE EXTENSION adclick');
	other("SELECT send('XYZ'); SELECT send('xyz'); SELECT adclick.tick()");
	restart();
	other("SELECT send('${key}X')");
	right("$key: answers after a restart");
	return;
}

late('A');
$session->query_safe('BEGIN; SELECT adclick.tick()');
other("SELECT send('aAY')");
is($session->query_safe('SELECT wrong()'), '', 'a late click is taken: answers in the transaction');
right('a late click is taken: answers to others');
$session->query_safe('ROLLBACK');
right('rolled back: answers');
other("SELECT send('Aax')");
settled('late clicks, rolled back');

late('B');
$session->query_safe('BEGIN; SAVEPOINT s; SELECT adclick.tick()');
other("SELECT send('bB')");
is($session->query_safe('SELECT wrong()'), '', 'in a savepoint: answers');
$session->query_safe('ROLLBACK TO s');
is($session->query_safe('SELECT wrong()'), '', 'in a savepoint, rolled back: answers');
$session->query_safe('SELECT adclick.tick()');
other("SELECT send('BbyZ')");
is($session->query_safe('SELECT wrong()'), '', 'ticked again: answers');
$session->query_safe('COMMIT');
settled('late clicks, a savepoint rolled back');

late('C');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $before = $session->query_safe('SELECT wrong()') . $session->query_safe('SELECT sum(click_count) FROM adclick.ad_click_counts');
other("SELECT adclick.tick(); SELECT send('cC'); SELECT adclick.tick()");
restart_memory();
other("SELECT send('CcZ')");
is($session->query_safe('SELECT wrong()') . $session->query_safe('SELECT sum(click_count) FROM adclick.ad_click_counts'),
	$before, 'keys loaded anew are those of other snapshots: the same answers');
$session->query_safe('COMMIT');
settled('late clicks, committed');

#
# Keys loaded after an own tick
#
other("SELECT send('de'); SELECT adclick.tick()");
foreach my $end ('ROLLBACK', 'COMMIT')
{
	my ($new, $window) = $end eq 'COMMIT' ? ('f', 700) : ('g', 800);

	other("SELECT send('$new')");
	$session->query_safe('BEGIN; SELECT adclick.tick()');
	change_window($window);
	$session->query_safe('SELECT adclick.tick()');
	other("SELECT send('d${new}h')");
	is($session->query_safe('SELECT wrong()'), '', "$end: answers in the transaction");
	right("$end: answers to others meanwhile");
	$session->query_safe($end);
	right("$end: answers afterwards");
	settled("keys loaded after a tick, $end");
}

other("SELECT send('i')");
$session->query_safe('BEGIN; SELECT adclick.tick(); SAVEPOINT s');
other("SELECT send('j')");
$session->query_safe('SELECT adclick.tick()');
change_window(900);
$session->query_safe('SELECT adclick.tick()');
other("SELECT send('dijk')");
$session->query_safe('SELECT adclick.tick()');
is($session->query_safe('SELECT wrong()'), '', 'a savepoint: answers in the transaction');
$session->query_safe('ROLLBACK TO s');
is($session->query_safe('SELECT wrong()'), '', 'a savepoint rolled back: answers in the transaction');
right('a savepoint rolled back: answers to others');
other("SELECT send('dijkl')");
$session->query_safe('SELECT adclick.tick()');
is($session->query_safe('SELECT wrong()'), '', 'ticked again: answers in the transaction');
right('ticked again: answers to others');
$session->query_safe('COMMIT');
settled('keys loaded after ticks, the savepoint rolled back');
$session->quit;

done_testing();
