# Random transactions: ticks, compactions, filters and clicks in every order, ended
# in every way there is.  After each end all answers are the oracle's.
#
# The dice are seeded: a run is always the same but for what the machine makes of
# timeouts.  The last steps before a failure are shown.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @SEEDS = (1 .. 10);
my $STEPS = 40;    # between two restarts
my $SHOWN = 30;    # of them, when one fails

# No room for workers: every round is done by hand.
my $node = adclick_node('main', 'adclick.watermark' => "'0s'", 'max_worker_processes' => 2,
	'max_prepared_transactions' => 20);
$node->start;

# A click is made of a number: copies are exact, and are sent on purpose.  Ads from
# 1000 on have old clicks, whose dedup windows leave memory with a restart; all
# others are in one window, which does not.
my $SETUP = slurp_file("$FindBin::RealBin/lib/oracle.sql") . q{
CREATE TABLE began AS SELECT date_bin('10 minutes', now(), '2000-01-01 00:00Z') - interval '10 minutes' AS t;
SELECT oracle.make_ads(), oracle.witness();

CREATE FUNCTION send(numbers int[]) RETURNS void LANGUAGE sql AS $$
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, device)
	SELECT CASE WHEN kind <> 7 THEN md5(i::text)::uuid END, CASE kind WHEN 6 THEN 1000 ELSE 1 END + i % 7,
		CASE WHEN kind = 6 THEN t - interval '2 hours' - i % 5 * interval '20 minutes'
			WHEN i % 16 = 5 THEN t + interval '1 day' WHEN i % 16 = 13 THEN t - interval '9 days'
			ELSE t + i % 4 * interval '1 minute' END,
		i % 5, '10.0.0.0'::inet + i % 3, ('{CA,US,"",NULL,FR}'::text[])[1 + i % 5], 'D' || i / 50
	FROM began, unnest(numbers) i, LATERAL (SELECT i % 8 AS kind) k
$$;

-- What is wrong in this snapshot.
CREATE FUNCTION wrong(questions int) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY SELECT 'lost: ' || lost FROM oracle.lost() WHERE lost <> 0;
	RETURN QUERY SELECT 'verdict: ' || v FROM oracle.wrong_verdicts() v;
	RETURN QUERY SELECT 'fact: ' || f FROM oracle.wrong_facts(true) f;
	RETURN QUERY SELECT 'answer: ' || a FROM oracle.wrong_answers(questions) a;
END $$;

-- All in pieces that are committed or rolled back by themselves.
CREATE PROCEDURE in_pieces(numbers int[], keep boolean) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM send(numbers);
	PERFORM adclick.tick();
	IF keep THEN COMMIT; ELSE ROLLBACK; END IF;
	PERFORM adclick.tick();
	PERFORM send(numbers);
	PERFORM adclick.compact(), adclick.tick();
	IF keep THEN ROLLBACK; ELSE COMMIT; END IF;
	PERFORM send(numbers[1:2]);
	PERFORM adclick.tick();
END $$;
};

my $state;    # of the dice
my $observer;
my @sessions;
my @history;
my ($ended, $refused);

# A number from 0 to n - 1.
sub dice
{
	my ($n) = @_;

	$state = ($state * 1103515245 + 12345) % 2**31;
	return int($state / 2**31 * $n);
}

sub choose { return $_[ dice(scalar @_) ] }

# Clicks for send(): some of few, so that copies are common.
sub numbers { return "'{" . join(',', map { dice(400) } 0 .. dice(12)) . "}'" }

sub connect_session
{
	my ($name) = @_;
	my $psql = $node->background_psql('clicks', on_error_stop => 0);

	# Who waits for another one here would wait for ever.
	$psql->query_safe("\\set VERBOSITY sqlstate\nSET client_min_messages = error; SET lock_timeout = '50ms'");
	return { name => $name, psql => $psql, pid => $psql->query_safe('SELECT pg_backend_pid()'), savepoints => 0 };
}

# Returns the output and, if it failed, the SQLSTATE.
sub run_in
{
	my ($session, $sql) = @_;
	my $psql = $session->{psql};

	$psql->{stderr} = '';
	my $output = $psql->query($sql);
	my ($error) = $psql->{stderr} =~ /ERROR:  (\w{5})/;

	$session->{failed} = 1 if $error;
	push @history, "$session->{name}: $sql" . ($error ? "  -- $error" : '');
	return ($output, $error // '');
}

# It did as it should: "$allowed" are SQLSTATEs that may come.
sub outcome_ok
{
	my ($sql, $error, $allowed) = @_;

	return 1 if $error eq '' || $error =~ /^($allowed)$/;
	fail("$sql: SQLSTATE $error");
	return 0;
}

# Locks that others hold, and serializable transactions.
my $CONFLICTS = '55P03|40001|40P01|25P02';

sub check
{
	my ($session, $questions) = @_;
	my ($wrong, $error) = run_in($session, "SELECT wrong($questions)");

	fail("$session->{name} is told what is wrong: $wrong") if $wrong ne '';
	return outcome_ok('questions', $error, $CONFLICTS) && $wrong eq '';
}

sub begin
{
	my ($session) = @_;

	run_in($session, 'BEGIN ISOLATION LEVEL ' . choose('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'));
	@{$session}{qw(open failed savepoints)} = (1, 0, 0);
	return 1;
}

# Ended: what others see is right.
sub end
{
	my ($session, $sql, $allowed) = @_;
	my (undef, $error) = run_in($session, $sql);

	@{$session}{qw(open failed savepoints)} = (0, 0, 0);
	$ended++;
	return outcome_ok($sql, $error, $allowed) && check($observer, 3);
}

# Refused if it has ticked or compacted, whose locks it then holds, and only then.
sub prepare
{
	my ($session) = @_;
	my ($locks) = run_in($session, q{SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'});

	$refused++ if $locks > 0;
	return end($session, "PREPARE TRANSACTION '$session->{name} $ended'", '40001') if $locks == 0;
	return end($session, "PREPARE TRANSACTION '$session->{name} $ended'", '0A000|40001')
	  && ($history[-2] =~ /0A000|40001/ || fail('prepared, though it holds locks') && 0);
}

my %steps = (
	send => sub { return 'SELECT send(' . numbers() . ')' },
	tick => sub { return join '; ', ('SELECT adclick.tick()') x choose(1, 1, 2, 3) },
	compact => sub { return 'SELECT adclick.compact()' },
	add_filter => sub { return sprintf(q{SELECT adclick.add_filter('{"country": "%s"}')}, choose('CA', 'US', 'unknown')) },
	drop_filter => sub { return sprintf(q{SELECT adclick.drop_filter('{"country": "%s"}')}, choose('CA', 'US', 'unknown')) },
	caught => sub {
		my ($first, $second) = (choose('tick', 'compact'), choose('tick', 'compact', 'tick'));
		return 'DO $$ BEGIN PERFORM send(' . numbers() . "); PERFORM adclick.$first(); BEGIN PERFORM adclick.$second(); "
		  . 'PERFORM 1 / ' . choose(0, 1) . '; EXCEPTION WHEN division_by_zero THEN PERFORM send(' . numbers() . '), adclick.tick(); END; '
		  . 'PERFORM 1 / ' . choose(0, 1) . '; EXCEPTION WHEN division_by_zero THEN PERFORM send(' . numbers() . '); END $$';
	},
	timeout => sub {
		return "SET statement_timeout = '" . choose(1, 2, 5, 20)
		  . "ms';\nSELECT send(" . numbers() . '); SELECT adclick.tick(); SELECT adclick.compact() FROM generate_series(1, 3), LATERAL adclick.tick()';
	});

# Some steps more often than others.
my @ANYWHERE = (('send') x 4, ('tick') x 4, 'compact', 'compact', 'add_filter', 'drop_filter', 'caught', 'caught', 'timeout');

sub change
{
	my ($session, $step) = @_;
	my $sql = $steps{$step}->();
	my (undef, $error) = run_in($session, $sql);

	# which a timeout can hit, too
	while ($step eq 'timeout' && (run_in($session, 'RESET statement_timeout'))[1] eq '57014') { }
	return outcome_ok($sql, $error, $CONFLICTS . '|57014|42704');
}

sub savepoint
{
	my ($session) = @_;

	run_in($session, 'SAVEPOINT s' . ++$session->{savepoints});
	return 1;
}

# Back to a savepoint, or on without it.
sub leave_savepoint
{
	my ($session, $how) = @_;
	my $n = 1 + dice($session->{savepoints});

	run_in($session, "$how s$n");
	$session->{savepoints} = $how eq 'RELEASE' ? $n - 1 : $n;
	$session->{failed} = 0 if $how eq 'ROLLBACK TO';
	return 1;
}

sub step_inside
{
	my ($session) = @_;
	my $dice = dice(20);

	return leave_savepoint($session, 'ROLLBACK TO') if $session->{savepoints} && $dice < ($session->{failed} ? 14 : 3);
	return end($session, 'ROLLBACK', '') if $session->{failed} || $dice == 4;
	return end($session, 'COMMIT', '40001') if $dice == 5;
	return prepare($session) if $dice == 6;
	return savepoint($session) if $dice < 9;
	return leave_savepoint($session, 'RELEASE') if $session->{savepoints} && $dice == 9;
	return check($session, 3) if $dice < 12;
	return change($session, choose(@ANYWHERE));
}

sub step_outside
{
	my ($session) = @_;
	my $dice = dice(10);

	return begin($session) if $dice < 6;
	return end($session, sprintf('CALL in_pieces(%s, %s)', numbers(), choose('true', 'false')), $CONFLICTS) if $dice == 6;
	return resolve(choose('COMMIT', 'ROLLBACK')) if $dice == 7;
	return change($session, choose(@ANYWHERE)) && check($observer, 3);
}

# End a prepared transaction, if there is one.
sub resolve
{
	my ($how) = @_;
	my ($gid) = run_in($observer, 'SELECT min(gid) FROM pg_prepared_xacts');

	return 1 if $gid eq '';
	return end($observer, "$how PREPARED '$gid'", '');
}

sub terminate
{
	my ($session) = @_;

	run_in($observer, "SELECT pg_terminate_backend($session->{pid}, 60000)");
	$session->{psql}->quit;
	$session = connect_session($session->{name});
	$_ = $_->{name} eq $session->{name} ? $session : $_ foreach @sessions;
	$ended++;
	return check($observer, 3);
}

# Another setting, of which ticks take notice: copies are copies by any.
sub change_window
{
	my $window = choose(300, 600, 900, 86400);

	set_conf($node, 'adclick.dedup_window' => "'$window s'");
	push @history, "adclick.dedup_window = $window s";
	return check($observer, 5);
}

sub step
{
	my $session = choose(@sessions);

	return terminate($session) if dice(40) == 0;
	return change_window() if dice(50) == 0;
	return $session->{open} ? step_inside($session) : step_outside($session);
}

sub connect_all
{
	@sessions = map { connect_session($_) } qw(a b c);
	$observer = connect_session('observer');
	return;
}

# Whatever is open is lost.
sub interrupt_all
{
	my ($mode) = @_;

	$node->stop($mode);
	$_->{psql}->quit foreach @sessions, $observer;
	$node->start;
	push @history, "restart: $mode";
	connect_all();
	return check($observer, 5);
}

# All that is open or waits is ended, one way or the other.
sub settle
{
	my $ok = 1;

	$ok &&= !$_->{open} || end($_, choose('COMMIT', 'ROLLBACK'), '40001') foreach @sessions;
	while ($ok && $node->safe_psql('clicks', 'SELECT count(*) FROM pg_prepared_xacts') > 0)
	{
		$ok = resolve(choose('COMMIT', 'ROLLBACK'));
	}
	$node->safe_psql('clicks', 'SELECT adclick.tick(); SELECT adclick.compact()');
	return $ok;
}

foreach my $seed (@SEEDS)
{
	my $ok = 1;

	$state = $seed;
	($ended, $refused) = (0, 0);
	@history = ();
	$node->safe_psql('postgres', 'CREATE DATABASE clicks');
	$node->safe_psql('clicks', 'CREATE EXTENSION adclick');
	$node->safe_psql('clicks', $SETUP);
	connect_all();
	foreach my $interruption ('fast', 'immediate', '')
	{
		for (my $i = 0; $ok && $i < $STEPS; $i++)
		{
			$ok = step();
		}
		$ok &&= interrupt_all($interruption) if $interruption;
	}
	$ok &&= settle();
	diag(join "\n", "seed $seed, the last steps:", splice @history, -$SHOWN) unless $ok;
	ok($ok, "seed $seed: right after each of $ended ends of transactions, $refused preparations refused");
	is($node->safe_psql('clicks', 'SELECT lag_rows FROM adclick.status'), '0', "seed $seed: all taken");
	conserved_ok($node, 'clicks', "seed $seed");
	facts_ok($node, 'clicks', "seed $seed");
	lists_ok($node, 'clicks', "seed $seed");
	answers_ok($node, 'clicks', "seed $seed");
	$_->{psql}->quit foreach @sessions, $observer;
	$node->safe_psql('clicks', q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'clicks' AND pid <> pg_backend_pid()});
	$node->safe_psql('postgres', 'DROP DATABASE clicks');
}

done_testing();
