# Clicks that come by other ways than INSERT and COPY of a client: logical
# replication, prepared statements; and clicks whose hour has no partition.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main');
$node->start;
adclick_database($node, 'clicks');

#
# Logical replication from a plain table of the same name
#
my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
$publisher->safe_psql('postgres', q{
	CREATE SCHEMA adclick;
	CREATE TABLE adclick.clicks (click_id uuid DEFAULT gen_random_uuid(), ad_id bigint NOT NULL,
		clicked_at timestamptz DEFAULT now(), user_id bigint, ip inet, country text, region text, device text);
	INSERT INTO adclick.clicks (ad_id, country) SELECT 900001, 'CA' FROM generate_series(1, 1000);
	CREATE PUBLICATION clicks FOR TABLE adclick.clicks WITH (publish = 'insert')});
$node->safe_psql('clicks', "CREATE SUBSCRIPTION clicks CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION clicks");
$node->wait_for_subscription_sync($publisher, 'clicks', 'clicks');
$publisher->safe_psql('postgres', q{
	INSERT INTO adclick.clicks (ad_id, country) SELECT 900001, 'US' FROM generate_series(1, 500);
	INSERT INTO adclick.clicks (ad_id, country, ip) SELECT 900002, '', '2001:db8::1' FROM generate_series(1, 100);
	BEGIN;
	INSERT INTO adclick.clicks (ad_id) SELECT 900003 FROM generate_series(1, 100);
	SAVEPOINT s;
	INSERT INTO adclick.clicks (ad_id) SELECT 900003 FROM generate_series(1, 1000);
	ROLLBACK TO s;
	COMMIT;
	INSERT INTO adclick.clicks SELECT * FROM adclick.clicks WHERE ad_id = 900003});
send_clicks($node, 'clicks', 500);
$publisher->wait_for_catchup('clicks');
is($node->safe_psql('clicks', q{
	SELECT adclick.ad_click_count(900001, 60), adclick.ad_click_count(900001, 60, '{"country": "US"}'),
		adclick.ad_click_count(900002, 60, '{"country": "unknown"}'), adclick.ad_click_count(900003, 60)}),
	'1500|500|100|100', 'logical replication: counted, copies are duplicates');
exact_ok($node, 'clicks', 'logical replication');

# A transaction on the publisher that is large, and streams of small ones.
$publisher->safe_psql('postgres', 'INSERT INTO adclick.clicks (ad_id) SELECT i % 100 FROM generate_series(1, 50000) i');
$publisher->safe_psql('postgres', join ';', map { "INSERT INTO adclick.clicks (ad_id) VALUES ($_)" } 1 .. 300);
$publisher->wait_for_catchup('clicks');
exact_ok($node, 'clicks', 'large and small replicated transactions');
is($node->safe_psql('clicks', 'SELECT count(*) FROM adclick.click_log') >= 52_000, 1, 'all of them came');
$node->safe_psql('clicks', 'DROP SUBSCRIPTION clicks');

# A publication that was made without publish = 'insert' sends TRUNCATE, too.
my $truncated = q{SELECT count(*) FROM adclick.click_log WHERE ad_id = 900004};
$publisher->safe_psql('postgres', q{
	TRUNCATE adclick.clicks;
	DROP PUBLICATION clicks;
	CREATE PUBLICATION clicks FOR TABLE adclick.clicks});
$node->safe_psql('clicks', "CREATE SUBSCRIPTION clicks CONNECTION '" . $publisher->connstr
	. " dbname=postgres' PUBLICATION clicks WITH (disable_on_error = true)");
$node->wait_for_subscription_sync($publisher, 'clicks', 'clicks');
$publisher->safe_psql('postgres', 'INSERT INTO adclick.clicks (ad_id) SELECT 900004 FROM generate_series(1, 100)');
$publisher->wait_for_catchup('clicks');
my $log_start = -s $node->logfile;
$publisher->safe_psql('postgres', q{
	BEGIN;
	INSERT INTO adclick.clicks (ad_id) VALUES (900004);
	TRUNCATE adclick.clicks;
	COMMIT});
ok($node->poll_query_until('clicks', "SELECT NOT subenabled FROM pg_subscription WHERE subname = 'clicks'"),
	'TRUNCATE by logical replication: the subscription has failed');
like(slurp_file($node->logfile, $log_start), qr/ERROR:  the click log is append-only/, 'and says why');
is($node->safe_psql('clicks', $truncated), '100', 'the log has all clicks');
exact_ok($node, 'clicks', 'TRUNCATE by logical replication');
$node->safe_psql('clicks', 'DROP SUBSCRIPTION clicks');

#
# Prepared statements
#
my $script = PostgreSQL::Test::Utils::tempdir() . '/insert.sql';
append_to_file($script, q{\set ad random(910000, 910010)
INSERT INTO adclick.clicks (ad_id, country, user_id) VALUES (:ad, 'CA', :client_id);
});
$node->command_ok([ 'pgbench', '-n', '-M', 'prepared', '-c', 4, '-j', 2, '-t', 500, '-f', $script, 'clicks' ],
	'single INSERTs by prepared statements');
is($node->safe_psql('clicks', 'SELECT sum(adclick.ad_click_count(a, 60)) FROM generate_series(910000, 910010) a'),
	'2000', 'all counted');
exact_ok($node, 'clicks', 'prepared statements');

#
# Partitions
#
my $PARTITIONS = q{
	SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	WHERE i.inhparent = 'adclick.clicks'::regclass AND c.relname <> 'clicks_default'};
cmp_ok($node->safe_psql('clicks', $PARTITIONS), '>=', 4, 'partitions are made ahead');
is($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.clicks_default'), '0', 'the net is empty');
my $DROP = q{
	DO $$
	DECLARE p regclass;
	BEGIN
		FOR p IN SELECT inhrelid::regclass FROM pg_inherits
			WHERE inhparent = 'adclick.clicks'::regclass AND inhrelid <> 'adclick_internal.clicks_default'::regclass
		LOOP
			EXECUTE format('DROP TABLE %s', p);
		END LOOP;
	END $$};
$node->safe_psql('clicks', 'DROP EXTENSION adclick CASCADE; CREATE EXTENSION adclick');
workers_ready($node, 'clicks');
quiet_workers($node, 'clicks');
$node->safe_psql('clicks', $DROP);
is($node->safe_psql('clicks', $PARTITIONS), '0', 'no partition but the default one');
send_clicks($node, 'clicks', 1000);
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.clicks_default'), '>=', 1000, 'clicks fall into the net');
answers_ok($node, 'clicks', 'the tail in the net');

# It holds clicks of this hour, whose partition cannot be made; the later ones can.
is($node->safe_psql('clicks', 'SELECT adclick_internal.make_partitions()'), '3', 'the other partitions are made');
wake_workers($node);
send_clicks($node, 'clicks', 1000);
exact_ok($node, 'clicks', 'clicks in the net');
send_copies($node, 'clicks', 100);
exact_ok($node, 'clicks', 'copies of clicks in the net');
$node->restart;
workers_ready($node, 'clicks');
send_copies($node, 'clicks', 100);
send_clicks($node, 'clicks', 500);
exact_ok($node, 'clicks', 'the net after a restart');

# The worker makes them by itself when it starts.
$node->safe_psql('clicks', 'DROP EXTENSION adclick CASCADE; CREATE EXTENSION adclick');
$node->safe_psql('clicks', $DROP);
my ($aggregator) = workers_ready($node, 'clicks');
$node->safe_psql('clicks', "SELECT pg_terminate_backend($aggregator, 60000)");
ok($node->poll_query_until('clicks', $PARTITIONS, '4'), 'the aggregator makes partitions');
send_clicks($node, 'clicks', 1000);
exact_ok($node, 'clicks', 'partitions made again');

# Past hours: a partition is detached or dropped as raw data goes, counts stay.
my $kept = $node->safe_psql('clicks', "SELECT sum(click_count) FROM adclick.top_n_ads_between(100000, timestamptz '-infinity', 'infinity')");
$node->safe_psql('clicks', $DROP);
is($node->safe_psql('clicks', "SELECT sum(click_count) FROM adclick.top_n_ads_between(100000, timestamptz '-infinity', 'infinity')"),
	$kept, 'raw data dropped: the counts stay');

done_testing();
