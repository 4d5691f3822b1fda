# adclick.click() with workers, through crashes, on a standby and beside open snapshots; and the
# secrets of impressions: replicated, but in no dump and in no log.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main', allows_streaming => 1, 'fsync' => 'on', 'log_statement' => "'all'", 'log_min_duration_statement' => 0,
	'log_parameter_max_length' => -1, 'log_parameter_max_length_on_error' => -1, 'debug_print_parse' => 'off', 'log_min_error_statement' => 'debug5',
	'session_preload_libraries' => "'auto_explain'", 'auto_explain.log_min_duration' => 0, 'auto_explain.log_nested_statements' => 'on',
	'auto_explain.log_verbose' => 'on');

$node->start;
adclick_database($node, 'shop', witness => 1);
my $dir = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql('shop', $_[0]) }

# A click of user 7 on ad 1, with a token; where it leads to.
sub click
{
	my ($server, $database, $token) = @_;

	return $server->safe_psql($database, "SELECT adclick.click(1, 7, '203.0.113.7', 'CA', 'CA-1', 'mobile', '$token')");
}

# What became of the clicks on ad 1 so far, once all are taken: counted, duplicates, forged and expired.
sub fate
{
	my ($server, $database) = @_;

	drained($server, $database);
	return $server->safe_psql($database, q{SELECT count(*) FILTER (WHERE verdict = 'counted'), count(*) FILTER (WHERE verdict = 'duplicate'),
		count(*) FILTER (WHERE verdict = 'forged impression'), count(*) FILTER (WHERE verdict = 'expired impression') FROM adclick.click_log WHERE ad_id = 1});
}

my $URL = 'https://example.com/to/1';

#
# Workers, many clients, crashes
#

# Each client shows an ad, and clicks on it twice; one in ten tells of another one.  (pgbench puts
# a variable into the text as it is, so the token comes with its quotes.)
my $script = "$dir/clicks";
append_to_file($script, <<'EOS');
\set ad random(1001, 1008)
\set who random(1, 1000000)
\set other :ad + (random(1, 10) / 10)
SELECT quote_literal(adclick.new_impression(:ad, :who)) AS token \gset
SELECT adclick.click(:other, :who, NULL, 'CA', NULL, NULL, :token);
SELECT adclick.click(:ad, :who, NULL, 'CA', NULL, NULL, :token);
SELECT adclick.click(:ad, :who, NULL, 'CA', NULL, NULL, :token);
EOS
my @pgbench = ('pgbench', '-n', '-c', 4, '-f', $script, '-h', $node->host, '-p', $node->port, 'shop');

$node->command_ok([ @pgbench, '-t', 100 ], 'clients');
exact_ok($node, 'shop', 'clients');
is(sql(q{SELECT count(*) FILTER (WHERE reason = 'forged impression') = (SELECT forged FROM adclick.status), count(*) FILTER (WHERE reason = 'duplicate') >= 400, count(*) FILTER (WHERE reason = 'forged impression') > 0
	FROM adclick.discarded_clicks}), 't|t|t', 'second clicks are duplicates, clicks on other ads forged');
for my $round (1 .. 2)
{
	my $clients = IPC::Run::start([ @pgbench, '-T', 600 ], '<', \undef, '&>', "$dir/pgbench.$round");
	my $before = sql('SELECT clicks_taken FROM adclick.status');

	$node->poll_query_until('shop', "SELECT clicks_taken > $before + 200 FROM adclick.status") or die 'no clicks are taken';
	$node->stop('immediate');
	$clients->finish;
	$node->start;
	workers_ready($node, 'shop');
	exact_ok($node, 'shop', "crash $round");
	is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', "crash $round: the books are balanced");
}

# A token outlives the server it was issued by.
my $token = sql('SELECT adclick.new_impression(1, 7)');
$node->stop('immediate');
$node->start;
is(click($node, 'shop', $token), $URL, 'after a crash');
is(fate($node, 'shop'), '1|0|0|0', 'it counts');

#
# Snapshots
#

my $session = $node->background_psql('shop');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql('SELECT adclick.rotate_impression_secret()');
$token = sql('SELECT adclick.new_impression(1, 7)');
is($session->query_safe("SELECT adclick.click(1, 7, NULL, NULL, NULL, NULL, '$token')"), $URL, 'a snapshot from before the secret');
$session->query_safe('COMMIT');
is(fate($node, 'shop'), '2|0|0|0', 'does not make the impression a forged one');
$session->query_safe('BEGIN; SELECT adclick.rotate_impression_secret(true)');
$token = sql('SELECT adclick.new_impression(1, 7)');
is(click($node, 'shop', $token), $URL, 'a secret that is about to be revoked');
is(fate($node, 'shop'), '3|0|0|0', 'holds until then');
$session->query_safe('COMMIT');
click($node, 'shop', $token);
is(fate($node, 'shop'), '3|0|1|0', 'and no longer');
$session->query_safe('BEGIN; SELECT adclick.click(1, 7, NULL, NULL, NULL, NULL)');
$session->query_safe('ROLLBACK');
is(fate($node, 'shop'), '3|0|1|0', 'what is rolled back is not there');
$session->quit;
$node->safe_psql('shop', qq{BEGIN; SELECT adclick.click(1, 7, NULL, NULL, NULL, NULL, adclick.new_impression(1)); SAVEPOINT s; SELECT adclick.click(1, 7, NULL, NULL, NULL, NULL);
	ROLLBACK TO s; COMMIT});
is(fate($node, 'shop'), '4|0|1|0', 'nor a part of a transaction');

#
# A standby
#

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my ($status, undef, $error) = $standby->psql('shop', "\\set VERBOSITY verbose\nSELECT adclick.click(1, 7, NULL, NULL, NULL, NULL)");
like($error, qr/ERROR:  25006: cannot execute adclick\.click\(\) in a read-only transaction/, 'a standby records no clicks');
($status, undef, $error) = $standby->psql('shop', 'SELECT adclick.rotate_impression_secret()');
like($error, qr/cannot execute adclick\.rotate_impression_secret\(\) in a read-only transaction/, 'and makes no secrets');
$token = $standby->safe_psql('shop', 'SELECT adclick.new_impression(1, 7)');
is(click($node, 'shop', $token), $URL, 'but it issues impressions');
is(fate($node, 'shop'), '5|0|1|0', 'that the primary knows');
sql('SELECT adclick.rotate_impression_secret(true)');
$node->wait_for_catchup($standby);
$token = $standby->safe_psql('shop', 'SELECT adclick.new_impression(1, 7)');
is(click($node, 'shop', $token), $URL, 'also with another secret');
is(fate($node, 'shop'), '6|0|1|0', 'once it is replicated');
$standby->stop;

#
# A dump
#

# Some that no tick has taken, refused ones among them.
$node->safe_psql('postgres', 'ALTER DATABASE shop SET adclick.workers = off');
$node->poll_query_until('shop', 'SELECT workers_alive = 0 FROM adclick.status') or die 'the workers do not leave';
click($node, 'shop', $_) for ('x', $token, sql('SELECT adclick.new_impression(1, 7)'));
$token = sql('SELECT adclick.new_impression(1, 7)');
my @secrets = split /\n/, sql('SELECT encode(secret, format) FROM adclick_internal.impression_secrets, unnest($${hex,base64,escape}$$::text[]) format');
my @dumps = map { my $name = "$dir/dump.$_->[0]"; command_ok([ 'pg_dump', '-d', $node->connstr('shop'), '-f', $name, @{ $_->[1] } ], "pg_dump @{ $_->[1] }"); $name }
	([ plain => [] ], [ inserts => ['--inserts'] ], [ custom => [ '-Fc', '-Z0' ] ]);
unlike(slurp_file($_), qr/\Q$secrets[0]\E|COPY adclick_internal\.impression_secrets|INSERT INTO adclick_internal\.impression_secrets/, "no secret in $_") foreach @dumps;

for my $kind (qw(plain custom))
{
	my $database = "from_$kind";

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	if ($kind eq 'plain')
	{
		$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.$kind", $node->connstr($database) ], "restored: $kind");
	}
	else
	{
		command_ok([ 'pg_restore', '-d', $node->connstr($database), "$dir/dump.$kind" ], "restored: $kind");
	}
	workers_ready($node, $database);
	# seven were counted, and what waited is taken now: forged, a duplicate, and one that counts
	is(fate($node, $database), '7|1|2|0', "$kind: clicks that waited are judged as they were recorded");
	exact_ok($node, $database, $kind);
	is($node->safe_psql($database, 'SELECT count(*), count(retired_at) FROM adclick_internal.impression_secrets'), '1|0', "$kind: there is a secret");
	unlike($node->safe_psql($database, 'SELECT encode(secret, $$hex$$) FROM adclick_internal.impression_secrets'), qr/\Q$secrets[0]\E/, "$kind: another one");
	is(click($node, $database, $token), $URL, "$kind: an impression of before is redirected");
	is(fate($node, $database), '7|1|3|0', "$kind: and forged");
	click($node, $database, $node->safe_psql($database, 'SELECT adclick.new_impression(1, 7)'));
	is(fate($node, $database), '8|1|3|0', "$kind: new ones count");
	is($node->safe_psql($database, 'SET ROLE pg_read_all_data; SELECT count(*) FROM adclick_internal.impression_secrets'), '0', "$kind: nobody reads it");
}

# Statements that are logged do not have it.
sql('SELECT adclick.rotate_impression_secret()');
my $secret = sql('SELECT encode(secret, $$hex$$) FROM adclick_internal.impression_secrets WHERE retired_at IS NULL');
my $log = slurp_file($node->logfile);
like($log, qr/UPDATE adclick_internal\.impression_secrets SET retired_at/, 'nested statements are logged');
unlike($log, qr/\Q$secret\E/, 'but no secret');

done_testing();
