# Workers run in every database that has the extension, however it came there and
# whatever other databases do.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('databases');

$node->append_conf('postgresql.conf', "max_worker_processes = 16\nmax_connections = 20");
$node->start;

# More databases without the extension than there are slots come first.
$node->safe_psql('postgres', "CREATE DATABASE without_$_ STRATEGY wal_log") foreach 1 .. 70;
$node->restart;
adclick_database($node, 'late');
workers_ready($node, 'late');
send_clicks($node, 'late', 500);
exact_ok($node, 'late', 'after 70 databases without the extension');

# Connections forbidden and allowed again, with the workers ended meanwhile.
my ($aggregator, $compactor) = workers_ready($node, 'late');
$node->safe_psql('postgres', 'ALTER DATABASE late ALLOW_CONNECTIONS false');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(p, 60000) FROM unnest('{$aggregator,$compactor}'::int[]) p");
$node->safe_psql('postgres', 'ALTER DATABASE late ALLOW_CONNECTIONS true');
workers_ready($node, 'late');
send_clicks($node, 'late', 500);
exact_ok($node, 'late', 'after connections were allowed again');

# Made by a block of code, and once more where it is.
$node->safe_psql('without_1', "DO \$\$ BEGIN EXECUTE 'CREATE EXTENSION IF NOT EXISTS adclick'; END \$\$");
workers_ready($node, 'without_1');
$node->safe_psql('without_1', 'CREATE EXTENSION IF NOT EXISTS adclick');
workers_ready($node, 'without_1');
pass('CREATE EXTENSION IF NOT EXISTS');

# A copy of a database that has it.
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE late');
workers_ready($node, 'copied');
send_clicks($node, 'copied', 500);
exact_ok($node, 'copied', 'in a copy of the database');

# A copy takes the place of a database, its oid included, before the launcher has looked:
# what was known of the former is not taken for true of it.
sub without_workers { $node->safe_psql('postgres', "ALTER DATABASE $_[0] SET adclick.workers = off"); return }

my $ID = '00000000-0000-4000-8000-000000000001';
my $count = q{SELECT adclick.ad_click_count_between(1, '-infinity', 'infinity'), lag_rows FROM adclick.status};
$node->safe_psql('postgres', 'CREATE DATABASE place');
without_workers('place');
$node->safe_psql('place', 'CREATE EXTENSION adclick; INSERT INTO adclick.clicks (ad_id) VALUES (1)');
$node->safe_psql('place', 'SELECT adclick.tick()') for 1 .. 2;
$node->safe_psql('postgres', 'CREATE DATABASE other TEMPLATE place');
without_workers('other');
# it has ticked more often than the other will have when its place is taken
$node->safe_psql('other', 'INSERT INTO adclick.clicks (ad_id) VALUES (3); SELECT adclick.tick()') for 1 .. 3;
$node->safe_psql('other', 'INSERT INTO adclick.clicks (ad_id) VALUES (1)');
$node->safe_psql('place', "INSERT INTO adclick.clicks (ad_id, click_id) VALUES (2, '$ID'); SELECT adclick.tick()");
my $oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'place'});
# it is started again a second later
$node->safe_psql('postgres', qq{
	SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'adclick launcher';
	DROP DATABASE place;
	CREATE DATABASE place TEMPLATE other OID $oid});
without_workers('place');
is($node->safe_psql('place', $count), '2|1', 'a copy in the place of a database: clicks are seen');
$node->safe_psql('place', "INSERT INTO adclick.clicks (ad_id, click_id) VALUES (2, '$ID')");
is($node->safe_psql('place', 'SELECT counted, duplicates FROM adclick.tick()'), '2|0', 'and taken, and none is known from there');
is($node->safe_psql('place', $count), '2|0', 'and counted');

# No worker process is left: the status and the log say so, and the log names the database.
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
my $before = -s $node->logfile;
$node->restart;
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'adclick launcher'"), 'the launcher runs');
my ($said) = grep {
	$node->poll_query_until($_, q{
		SELECT workers_alive > 0 OR last_error LIKE 'could not start the % of database "%": all worker processes are in use%'
		FROM adclick.status});
	$node->safe_psql($_, 'SELECT coalesce(last_error, \'\') FROM adclick.status') ne ''
} qw(late without_1 copied);
isnt($said, undef, 'the status of a database without workers says why');
like(slurp_file($node->logfile, $before), qr/WARNING:  could not start the adclick (aggregator|compactor) of database "$said"/,
	'and so does the log');

done_testing();
