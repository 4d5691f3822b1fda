# Clicks that come by other ways than INSERT and COPY of a client: logical
# replication, prepared statements; and what is left where they come in.

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
like(slurp_file($node->logfile, $log_start), qr/ERROR:  clicks can only be inserted/, 'and says why');
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
# The table they come into is emptied by ticks, counts and log stay
#
my $kept = q{SELECT sum(click_count), (SELECT count(*) FROM adclick.click_log), (SELECT count(*) FROM adclick.clicks)
	FROM adclick.top_n_ads_between(100000, timestamptz '-infinity', 'infinity')};
my $before = $node->safe_psql('clicks', $kept);
like($before, qr/^\d+\|\d+\|0$/, 'nothing is left in the table');
$node->safe_psql('clicks', 'VACUUM FULL adclick.clicks');
is($node->safe_psql('clicks', $kept), $before, 'the counts stay, and so does the log');
$node->restart;
workers_ready($node, 'clicks');
is($node->safe_psql('clicks', $kept), $before, 'after a restart, too');
quiet_workers($node, 'clicks');
send_clicks($node, 'clicks', 1000);
send_copies($node, 'clicks', 100);
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM adclick.clicks'), '>=', 1000, 'clicks wait there for a tick');
answers_ok($node, 'clicks', 'clicks that wait');
# an open reader of the table is in nobody's way
my $reader = $node->background_psql('clicks');
$reader->query_safe('BEGIN');
my $waiting = $reader->query_safe('SELECT count(*) FROM adclick.clicks');
wake_workers($node);
exact_ok($node, 'clicks', 'clicks that waited');
is($reader->query_safe('SELECT count(*) FROM adclick.clicks'), '0', "the $waiting rows are gone for one who reads on");
$reader->query_safe('COMMIT');
$reader->quit;

done_testing();
