# adclick.workers keeps the workers out of one database, or of all, and lets them in again.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('workers_off');

$node->start;
adclick_database($node, $_) foreach qw(busy paused);

sub no_workers
{
	my ($database, $name) = @_;

	ok($node->poll_query_until($database, 'SELECT workers_alive = 0 FROM adclick.status'), $name);
	return;
}

# The launcher has looked at all databases since: one that is new has got its workers.
sub launcher_has_looked
{
	my ($database) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION adclick');
	workers_ready($node, $database);
	$node->safe_psql('postgres', "DROP DATABASE $database");
	return;
}

# Off in a database: its workers end, those of another do not.
my @busy = workers_ready($node, 'busy');
my @paused = workers_ready($node, 'paused');
$node->safe_psql('postgres', 'BEGIN; ALTER DATABASE paused SET adclick.workers = off; ROLLBACK');
launcher_has_looked('look_1');
is_deeply([ workers_ready($node, 'paused') ], \@paused, 'the workers stay when the setting is rolled back');
$node->safe_psql('postgres', 'ALTER DATABASE paused SET adclick.workers = off');
no_workers('paused', 'no workers in a database with adclick.workers = off');
is_deeply([ workers_ready($node, 'busy') ], \@busy, 'another database keeps its own');

# All is done by hand there, and keys seen by hand are not forgotten.
my $hand = 'SELECT sum(counted), sum(duplicates) FROM adclick.tick()';
$node->safe_psql('paused', 'SELECT adclick.tick()');
$node->safe_psql('paused', "INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT md5(i::text)::uuid, 1, date_bin('10 minutes', now(), '2000-01-01Z') FROM generate_series(1, 10) i");
is($node->safe_psql('paused', $hand), '10|0', 'a tick by hand');
launcher_has_looked('look_2');
is($node->safe_psql('paused', 'SELECT workers_alive, lag_rows, dedup_keys, last_error IS NULL FROM adclick.status'), '0|0|10|t',
	'the workers stay out');
$node->safe_psql('paused', "INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT click_id, ad_id, clicked_at FROM adclick.click_log LIMIT 4");
is($node->safe_psql('paused', $hand), '0|4', 'copies are known by the next tick by hand');
$node->safe_psql('paused', 'SELECT adclick.compact()');
conserved_ok($node, 'paused', 'by hand');
facts_ok($node, 'paused', 'by hand');

# A setting that is there before the extension.
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
$node->safe_psql('postgres', 'ALTER DATABASE fresh SET adclick.workers = off');
$node->safe_psql('fresh', 'CREATE EXTENSION adclick');
launcher_has_looked('look_3');
no_workers('fresh', 'nor when the setting was there before the extension');

# The server is started with it.
$node->restart;
workers_ready($node, 'busy');
launcher_has_looked('look_4');
no_workers($_, "nor in $_ after a restart") foreach qw(paused fresh);

# On again
send_clicks($node, 'paused', 500);
$node->safe_psql('postgres', 'ALTER DATABASE paused RESET adclick.workers');
workers_ready($node, 'paused');
exact_ok($node, 'paused', 'after the workers came back');
$node->safe_psql('postgres', 'ALTER DATABASE fresh RESET ALL');
workers_ready($node, 'fresh');
pass('RESET ALL lets them in, too');

# For the whole server
set_conf($node, 'adclick.workers' => 'off');
no_workers($_, "no workers in $_ after a reload with off") foreach qw(busy paused fresh);
send_clicks($node, 'busy', 500);
set_conf($node, 'adclick.workers' => 'on');
workers_ready($node, $_) foreach qw(busy paused fresh);
exact_ok($node, 'busy', 'after a reload with on');

# Reloads in a row, while workers still come or go after the one before
set_conf($node, 'adclick.workers' => $_) foreach qw(off on off on);
workers_ready($node, $_) foreach qw(busy paused fresh);
pass('reloads in a row');

# One of its own is stronger than the server's.
set_conf($node, 'adclick.workers' => 'off');
no_workers('busy', 'off for the server');
$node->safe_psql('postgres', 'ALTER DATABASE paused SET adclick.workers = on');
workers_ready($node, 'paused');
no_workers('busy', 'on in a database of a server with off');

# Nothing is in the way of dropping such a database.
$node->safe_psql('postgres', 'DROP DATABASE busy');
pass('DROP DATABASE');

done_testing();
