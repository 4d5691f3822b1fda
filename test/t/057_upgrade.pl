# pg_upgrade, ALTER EXTENSION UPDATE, and recovery into the middle of a tick: nothing is
# lost, nothing counted again, and counting goes on.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('old', allows_streaming => 1);
$node->append_conf('postgresql.conf', "archive_mode = on\narchive_command = 'cp \"%p\" \"" . $node->archive_dir . "/%f\"'");
$node->start;
adclick_database($node, 'shop', witness => 1);

sub sql { return $node->safe_psql('shop', $_[0]) }

$node->safe_psql('shop', "SELECT oracle.send_past_clicks(1000, '3 hours', '1 day')");
send_clicks($node, 'shop', 1000);
exact_ok($node, 'shop', 'before');
quiet_workers($node, 'shop');

#
# A moment at which a tick has written all, and not committed
#

$node->backup('base');
send_clicks($node, 'shop', 500);
my $target = sql(q{
	BEGIN;
	SELECT FROM adclick.tick();
	SELECT FROM adclick.compact();
	-- a record behind theirs, to stop at
	SELECT pg_logical_emit_message(false, 'adclick', 'here');
	COMMIT;
	SELECT pg_switch_wal() IS NULL});
($target) = $target =~ m{([0-9A-F]+/[0-9A-F]+)} or die 'no place in the WAL';
send_clicks($node, 'shop', 100);
my $recovered = PostgreSQL::Test::Cluster->new('recovered');
$recovered->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
set_conf_file($recovered, recovery_target_lsn => "'$target'", recovery_target_action => 'promote',
	'adclick.tick_interval' => "'1h'", archive_mode => 'off');
$recovered->start;
$recovered->poll_query_until('shop', 'SELECT NOT pg_is_in_recovery()') or die 'it is not promoted';
is($recovered->safe_psql('shop', 'SELECT * FROM oracle.lost()'), '0', 'recovered to the middle of a tick: nothing lost, nothing too much');
workers_ready($recovered, 'shop');
wake_workers($recovered);
exact_ok($recovered, 'shop', 'and taken');
is($recovered->safe_psql('shop', 'SELECT clicks_taken FROM adclick.status'),
	$recovered->safe_psql('shop', 'SELECT count(*) FROM oracle.sent'), 'what the tick had taken is taken once');
$recovered->stop;

#
# A newer version of the extension
#

append_to_file($node->config_data('--sharedir') . '/extension/adclick--1.0--1.1.sql', <<'EOS');
CREATE TABLE adclick.campaigns (campaign_id bigint PRIMARY KEY, ad_ids bigint[] NOT NULL);
SELECT adclick_internal.set_owner();
SELECT pg_catalog.pg_extension_config_dump('adclick.campaigns', '');
CREATE FUNCTION adclick.clicks_counted() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT counted FROM adclick_internal.state; END;
EOS
wake_workers($node);
my $writers = writers_start($node, 'shop', 1, rows => 100);
my $counted = sql('SELECT clicks_counted FROM adclick.status');
# It waits for no writer that is open, and none of them for it.
my $open = $node->background_psql('shop');
$open->query_safe('BEGIN; INSERT INTO adclick.clicks (ad_id) VALUES (1)');
sql(q{SET lock_timeout = '60s'; ALTER EXTENSION adclick UPDATE TO '1.1'});
$open->query_safe('COMMIT');
$open->quit;
$node->poll_query_until('shop', "SELECT clicks_counted > $counted + 500 FROM adclick.status") or die 'nothing is counted';
writers_stop($writers);
exact_ok($node, 'shop', 'updated while clicks come');
is(sql('SELECT adclick.clicks_counted() = clicks_counted FROM adclick.status'), 't', 'what the newer version brings');
is(sql(q{SELECT relowner::regrole FROM pg_class WHERE oid = 'adclick.campaigns'::regclass}), 'adclick_owner', 'its tables have our owner');
sql(q{DROP FUNCTION IF EXISTS adclick.nothing(); ALTER EXTENSION adclick DROP TABLE adclick.campaigns; ALTER EXTENSION adclick DROP FUNCTION adclick.clicks_counted();
	DROP TABLE adclick.campaigns; DROP FUNCTION adclick.clicks_counted()});
unlink($node->config_data('--sharedir') . '/extension/adclick--1.0--1.1.sql');

#
# pg_upgrade, of a server to the same version: all that it does to the catalogs and the files
#

send_clicks($node, 'shop', 500);
$node->stop;
my $new = adclick_node('new');
my $bin = $node->config_data('--bindir');
my ($data, $new_data) = ($node->data_dir, $new->data_dir);
my $sockets = PostgreSQL::Test::Utils::tempdir_short();
{
	local $ENV{PGHOST} = $sockets;
	chdir(PostgreSQL::Test::Utils::tempdir());
	command_ok([ 'pg_upgrade', '--no-sync', '-d', $data, '-D', $new_data, '-b', $bin, '-B', $bin, '-s', $sockets, '-p', $node->port, '-P', $new->port ],
		'pg_upgrade');
}
$new->start;
is($new->safe_psql('shop', 'SELECT * FROM oracle.lost()'), '0', 'upgraded: nothing lost, nothing too much');
workers_ready($new, 'shop');
send_copies($new, 'shop', 300);
send_clicks($new, 'shop', 500);
exact_ok($new, 'shop', 'upgraded: goes on');
is($new->safe_psql('shop', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'the ledger is balanced');
$new->safe_psql('shop', 'CREATE TABLE mine (a int); DROP TABLE mine');
my (undef, undef, $error) = $new->psql('shop', 'CREATE TABLE mine (a int) USING adclick_inbox');
like($error, qr/access method "adclick_inbox" is for adclick.clicks alone/, 'and the inbox is guarded as before');
done_testing();

# Of a server that does not run yet.
sub set_conf_file
{
	my ($server, %settings) = @_;

	$server->append_conf('postgresql.conf', "$_ = $settings{$_}") for sort keys %settings;
	return;
}
