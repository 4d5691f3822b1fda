# What pg_dump has written is restored in every way there is, into the same server and
# another one: the same answers, and counting goes on.  What a dump lacks is told, and where
# clicks are counted its data does not come in.

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
adclick_database($node, 'shop', witness => 1);
my $dir = PostgreSQL::Test::Utils::tempdir();

# Whoever is given a right keeps it.
$node->safe_psql('shop', 'CREATE ROLE billing; GRANT USAGE ON SCHEMA adclick TO billing; GRANT EXECUTE ON FUNCTION adclick.check_ledger() TO billing');

#
# A history: packed hours, late clicks, gaps, filters, two rules, and clicks nobody has taken
#

sub sql { return $node->safe_psql($_[0], $_[1]) }

$node->safe_psql('shop', "SELECT oracle.send_past_clicks(2000, '3 hours', '1 day')");
drained($node, 'shop');
packed($node, 'shop');
send_clicks($node, 'shop', 1000);
drained($node, 'shop');
compacted($node, 'shop');
sql('shop', q{SELECT adclick.add_filter('{"country": "US"}')});
set_conf($node, 'adclick.user_and_ip_orders' => 'off', 'adclick.dedup_window' => "'1h'");
# by hand from here on
$node->safe_psql('postgres', 'ALTER DATABASE shop SET adclick.workers = off');
$node->poll_query_until('shop', 'SELECT workers_alive = 0 FROM adclick.status') or die 'the workers do not leave';
$node->safe_psql('shop', "SELECT oracle.send_past_clicks(300, '3 hours', '1 day')");
sql('shop', 'SELECT adclick.tick()');
set_conf($node, 'adclick.user_and_ip_orders' => 'on');
send_clicks($node, 'shop', 1000);
send_copies($node, 'shop', 100);
sql('shop', 'SELECT adclick.tick()');
sql('shop', "CALL adclick.reconcile('-infinity', 'infinity')");
send_clicks($node, 'shop', 700);
sql('shop', 'INSERT INTO adclick.clicks (ad_id, clicked_at) VALUES (7, NULL)');
send_copies($node, 'shop', 100);
is(sql('shop', 'SELECT count(*) > 0 AND count(*) FILTER (WHERE clicked_at IS NULL) > 0 FROM adclick.clicks'), 't', 'some clicks are not taken');
my $log = q{SELECT md5(string_agg(l::text, ',' ORDER BY l::text)) FROM (SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, verdict FROM adclick.click_log) l};
my $books = q{SELECT md5(string_agg(b::text, ',' ORDER BY b::text)) FROM (TABLE adclick.reconciled_hours) b};
my $facts = q{SELECT md5(string_agg(f::text, ',' ORDER BY f::text)) FROM (SELECT * FROM adclick.clicks_per_minute) f};
my @questions = ($log, $books, $facts, 'SELECT adclick.check_ledger()', 'SELECT count(*), sum(filter_id) FROM adclick.filters',
	q{SELECT string_agg(t::text, ',') FROM adclick.top_n_ads_between(10, '2020-01-01', 'infinity', '{"country": "US"}') t});

sub digest { my ($server, $database) = @_; return join(' ', map { $server->safe_psql($database, $_) } @questions) }

my $expected = digest($node, 'shop');

# Everything but --data-only and --schema-only, made while the history stands still.
sub dump_shop
{
	my ($name, @options) = @_;

	command_ok([ 'pg_dump', '-d', $node->connstr('shop'), '-f', "$dir/$name", @options ], "$name: pg_dump");
	return;
}

# Without workers, so that what comes can be looked at before it is taken.
sub make_database
{
	my ($server, $database) = @_;

	$server->safe_psql('postgres', "CREATE DATABASE $database");
	$server->safe_psql('postgres', "ALTER DATABASE $database SET adclick.workers = off");
	return;
}

sub restore
{
	my ($server, $name, $database, @options) = @_;

	make_database($server, $database);
	command_ok([ 'pg_restore', '-d', $server->connstr($database), @options, "$dir/$name" ], "$database: pg_restore");
	return;
}

# What was sent came with the dump; a trigger on a table of an extension does not.
sub witness_again
{
	my ($server, $database) = @_;

	$server->safe_psql($database, 'CREATE TRIGGER witness AFTER INSERT ON adclick.clicks
		REFERENCING NEW TABLE AS sent FOR EACH STATEMENT EXECUTE FUNCTION oracle.note_sent()');
	return;
}

# The answers are the same while nothing is taken, and right when new clicks and copies of old ones are.
sub restored_ok
{
	my ($server, $database) = @_;

	is(digest($server, $database), $expected, "$database: the same answers");
	is($server->safe_psql($database, q{SELECT has_function_privilege('billing', 'adclick.check_ledger()', 'EXECUTE')}), 't', "$database: and rights");
	witness_again($server, $database);
	send_clicks($server, $database, 500);
	send_copies($server, $database, 300);
	answers_ok($server, $database, "$database: with new clicks", may_refuse => 1);
	$server->safe_psql('postgres', "ALTER DATABASE $database RESET adclick.workers");
	workers_ready($server, $database);
	wake_workers($server);
	exact_ok($server, $database, "$database: taken", may_refuse => 1);
	is($server->safe_psql($database, 'SELECT balanced FROM adclick.check_ledger()'), 't', "$database: the ledger is balanced");
	$server->safe_psql($database, "CALL adclick.reconcile('-infinity', 'infinity')");
	is($server->safe_psql($database, 'SELECT count(*) FROM adclick.differences'), '0', "$database: and agrees with the counts");
	return;
}

dump_shop('plain');
dump_shop('custom', '-Fc');
dump_shop('directory', '-Fd', '-j2');
dump_shop('inserts', '-Fc', '--inserts');

make_database($node, 'from_plain');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain", $node->connstr('from_plain') ], 'from_plain: psql');
restored_ok($node, 'from_plain');
restore($node, 'custom', 'from_custom', '-1');
restored_ok($node, 'from_custom');
restore($node, 'directory', 'from_directory', '-j3');
restored_ok($node, 'from_directory');
restore($node, 'inserts', 'from_inserts');
restored_ok($node, 'from_inserts');

# Another server, that has never heard of its roles; and users who go on clicking meanwhile.
my $other = adclick_node('other', 'adclick.dedup_window' => "'1h'", 'adclick.tick_interval' => "'1h'");
$other->start;
$other->safe_psql('postgres', 'CREATE ROLE billing');
$other->safe_psql('postgres', 'CREATE DATABASE in_steps');
command_ok([ 'pg_restore', '-d', $other->connstr('in_steps'), '--section=pre-data', "$dir/custom" ], 'in_steps: the beginning');
my (undef, undef, $error) = $other->psql('in_steps', "\\set VERBOSITY verbose\nSELECT adclick.ad_click_count(1, 5)");
like($error, qr/55000: adclick waits for the data of a dump/, 'no answers before the data');
(undef, undef, $error) = $other->psql('in_steps', 'SELECT adclick.tick()');
like($error, qr/adclick waits for the data of a dump/, 'and no ticks');
like($other->safe_psql('in_steps', 'SELECT * FROM adclick.health()'), qr/^critical\|.*waits for the data of a dump/, 'the health says so');
is($other->safe_psql('in_steps', 'SELECT lag_rows FROM adclick.status'), '', 'the status says nothing');
$other->safe_psql('in_steps', 'INSERT INTO adclick.clicks (ad_id) VALUES (4711)');
command_ok([ 'pg_restore', '-d', $other->connstr('in_steps'), '--section=data', "$dir/custom" ], 'in_steps: data');
is($other->safe_psql('in_steps', "SELECT adclick.ad_click_count_between(4711, '-infinity', 'infinity')"), '1', 'answers when all data is there');
for my $write ('adclick.tick()', 'adclick.compact()', q{adclick.add_filter('{"country": "FR"}')}, q{adclick.recompute('-infinity', 'infinity')}, 'adclick.forget_user(1)')
{
	(undef, undef, $error) = $other->psql('in_steps', "\\set VERBOSITY verbose\nSELECT $write");
	like($error, qr/55000: adclick waits for the data of a dump/, "but $write waits for the end");
}
$other->poll_query_until('in_steps', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type ~ 'adclick (aggregator|compactor)'")
  or die 'workers run while data is awaited';
command_ok([ 'pg_restore', '-d', $other->connstr('in_steps'), '--section=post-data', "$dir/custom" ], 'in_steps: the end');
is($other->safe_psql('in_steps', "SELECT adclick.ad_click_count_between(4711, '-infinity', 'infinity')"), '1', 'a click that came meanwhile is counted');
workers_ready($other, 'in_steps');
drained($other, 'in_steps');
is($other->safe_psql('in_steps', "SELECT adclick.ad_click_count_between(4711, '-infinity', 'infinity'), adclick.ad_click_count_between(4711, '2020-01-01', 'infinity')"), '1|1', 'and taken');
restore($other, 'custom', 'elsewhere');
restored_ok($other, 'elsewhere');

# A dump is of one moment, whoever writes, takes and packs meanwhile.
adclick_database($node, 'busy', witness => 1);
my $writers = writers_start($node, 'busy', 2, rows => 100);
for my $i (1 .. 4)
{
	$node->poll_query_until('busy', "SELECT clicks_counted > $i * 500 FROM adclick.status") or die 'nothing is counted';
	command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('busy'), '-f', "$dir/busy_$i" ], "busy: pg_dump $i");
}
writers_stop($writers);
for my $i (1 .. 4)
{
	restore($node, "busy_$i", "moment_$i");
	witness_again($node, "moment_$i");
	is($node->safe_psql("moment_$i", 'SELECT * FROM oracle.lost()'), '0', "moment_$i: nothing lost, nothing too much");
	$node->safe_psql("moment_$i", 'DO $$ BEGIN WHILE (SELECT more FROM adclick.tick()) LOOP END LOOP; END $$; SELECT oracle.compact()');
	exact_ok($node, "moment_$i", "moment_$i: taken");
}

#
# Half of a dump
#

sub fails_like
{
	my ($database, $statement, $pattern, $name) = @_;
	my (undef, undef, $message) = $node->psql($database, "\\set VERBOSITY verbose\n$statement");

	like($message, $pattern, $name);
	return;
}

# Without data nothing was counted.
dump_shop('schema', '-Fc', '--schema-only');
restore($node, 'schema', 'schema_only');
sql('schema_only', 'INSERT INTO adclick.clicks (ad_id) VALUES (1)');
is(sql('schema_only', 'SELECT tick.tick, counted FROM adclick.tick()'), '1|1', 'the schema alone: counting begins');
restore($node, 'custom', 'schema_of_all', '--schema-only');
is(sql('schema_of_all', 'SELECT tick FROM adclick_internal.state'), '0', 'the same of a dump that has data');
fails_like('schema_only', 'SELECT adclick.begin_restore()', qr/55000: this database has data of adclick already/, 'where clicks are counted no dump is awaited');

# The data alone: where it is awaited.
dump_shop('data', '-Fc', '--data-only', '-n', 'adclick', '-n', 'adclick_internal', '-e', 'adclick');
make_database($node, 'data_only');
sql('data_only', 'CREATE EXTENSION adclick; INSERT INTO adclick.clicks (ad_id) VALUES (4711)');
command_fails_like([ 'pg_restore', '-d', $node->connstr('data_only'), "$dir/data" ],
	qr/no data of a dump is awaited for table "runs"/, 'data_only: not awaited');
is(sql('data_only', q{SELECT (SELECT count(*) FROM adclick_internal.runs) + (SELECT count(*) FROM adclick_internal.segments) + (SELECT count(*) FROM adclick.filters)}),
	'1', 'and does not come in');
$node->safe_psql('postgres', 'DROP DATABASE data_only');
make_database($node, 'data_only');
sql('data_only', 'CREATE EXTENSION adclick');
sql('data_only', slurp_file("$FindBin::RealBin/lib/oracle.sql"));
sql('data_only', 'SELECT adclick.tick(), adclick.begin_restore(), adclick.begin_restore()');
command_ok([ 'pg_restore', '-d', $node->connstr('data_only'), "$dir/data" ], 'data_only: awaited');
fails_like('data_only', 'SELECT adclick.tick()', qr/adclick waits for the data of a dump/, 'until it is said to be all');
sql('data_only', 'SELECT adclick.end_restore()');
is(digest($node, 'data_only'), $expected, 'data_only: the same answers');
send_copies($node, 'data_only', 300);
sql('data_only', 'SELECT adclick.tick()');
verdicts_ok($node, 'data_only', 'data_only: keys that were in memory before are not taken for all');
is(sql('data_only', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'data_only: the ledger is balanced');
sql('data_only', 'REFRESH MATERIALIZED VIEW adclick_internal.end_of_dump; SELECT adclick.end_restore()');
is(sql('data_only', 'SELECT balanced FROM adclick.check_ledger()'), 't', 'what is called again does nothing');

# Each table that is missing is missed: if it was to come by COPY, also one without rows or
# that nothing else tells of.
sub restore_without
{
	my ($dump, $table, $pattern) = @_;
	my $list = `pg_restore -l $dir/$dump`;
	my $less = $list =~ s/^(?=[^\n]* TABLE DATA $table )/;/mr;

	(my $database = "without $table") =~ s/ /_/g;
	isnt($less, $list, "$table is in the dump");
	append_to_file("$dir/$database", $less);
	make_database($node, $database);
	command_fails_like([ 'pg_restore', '-d', $node->connstr($database), '-L', "$dir/$database", "$dir/$dump" ],
		qr/the data of the dump is not complete\n.*$pattern/, "$database: told");
	fails_like($database, 'SELECT adclick.end_restore()', qr/55000: the data of the dump is not complete/, "$database: told again");
	return;
}

restore_without('custom', "adclick $_", qr/The data of adclick\.$_ has not come/) for qw(clicks filters ads);
restore_without('custom', "adclick_internal $_", qr/The data of adclick_internal\.$_ has not come/) for qw(unpacked_clicks gaps ledger_31 people_31 discarded_31);
my %missing = (
	'adclick_internal segments' => qr/Of \d+ runs \d+ do not have as many segments/,
	'adclick_internal deltas' => qr/Of \d+ runs \d+ do not have as many segments/,
	'adclick_internal ledger_0' => qr/Of \d+ runs \d+ do not have as many segments/,
	'adclick_internal people_0' => qr/Of \d+ runs \d+ do not have as many segments/,
	'adclick_internal volumes' => qr/There are no volumes of the ledger.*There are no volumes of users and addresses/,
	'adclick_internal runs' => qr/Runs of order ad have 0 of \d+ clicks\. Runs of order ledger have 0 of/,
	'adclick_internal state' => qr/There is no state/,
	'adclick_internal dedup_rules' => qr/Rule 2 of duplicates is not there/,
	'adclick_internal discarded_0' => qr/adclick\.discarded_clicks has 0 of \d+ clicks/);
restore_without('inserts', $_, $missing{$_}) for sort keys %missing;
fails_like('without_adclick_internal_discarded_0', 'DROP EXTENSION adclick', qr/2BP01: cannot drop extension adclick because its inbox/, 'clicks that are not counted are kept');
sql('without_adclick_internal_discarded_0', 'SELECT adclick.end_restore(true)');
is(sql('without_adclick_internal_discarded_0', 'SELECT sum(click_count) FROM adclick.ad_click_counts'), sql('shop', 'SELECT sum(click_count) FROM adclick.ad_click_counts'),
	'what is here can be taken all the same');
fails_like('without_adclick_internal_state', 'SELECT adclick.end_restore(true)', qr/55000: the data of the dump is not complete/, 'but not without a state');
sql('without_adclick_internal_state', 'DROP EXTENSION adclick CASCADE; CREATE EXTENSION adclick');
is(sql('without_adclick_internal_state', 'SELECT rows_read FROM adclick.tick()'), '0', 'or all be begun anew');

# A restore that ended too early, and again: of which dump a table is, and whether all of it, nobody
# knows, so nothing more comes before all is begun anew.
make_database($node, 'again');
my $script = slurp_file("$dir/plain");
append_to_file("$dir/half", substr($script, 0, index($script, 'COPY adclick_internal.runs ')));
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/half", $node->connstr('again') ], 'again: a half');
isnt(sql('again', 'SELECT count(*) FROM adclick.clicks'), '0', 'again: unread clicks are there');
command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('again'), '-f', "$dir/of_half" ], 'of_half: pg_dump');
make_database($node, 'of_half');
command_fails_like([ 'pg_restore', '-d', $node->connstr('of_half'), "$dir/of_half" ], qr/There is no state\..*The dump is of a database that had not got all data of another one/,
	'of_half: a dump of a half');
fails_like('again', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT adclick.end_restore()', qr/data of the dump is not complete/, 'again: it has not come to its end');
command_fails_like([ 'pg_restore', '--clean', '--if-exists', '-d', $node->connstr('again'), "$dir/custom" ],
	qr/table "runs" takes no more data of a dump/, 'again: nothing more comes');
fails_like('again', 'SELECT adclick.ad_click_count(1, 5)', qr/adclick waits for the data of a dump/, 'again: nothing is answered');
fails_like('again', 'SELECT adclick.end_restore()', qr/Restoring was tried again before its end/, 'again: it does not end');
sql('again', 'DROP EXTENSION adclick CASCADE');
command_ok([ 'pg_restore', '--clean', '--if-exists', '-d', $node->connstr('again'), "$dir/custom" ], 'again: anew');
is(digest($node, 'again'), $expected, 'again: the same answers');
restored_ok($node, 'again');

# Who brings data is waited for, and a question in the same transaction leaves no half knowledge of keys.
make_database($node, 'slow');
sql('slow', 'CREATE EXTENSION adclick; SELECT adclick.begin_restore()');
my $bringer = $node->background_psql('slow');
$bringer->query_safe('SET check_function_bodies = off; BEGIN; INSERT INTO adclick.clicks (ad_id) VALUES (1)');
fails_like('slow', "SET lock_timeout = '100ms'; SELECT adclick.end_restore()", qr/55P03/, 'slow: data that is under way is waited for');
$bringer->query_safe('ROLLBACK');
$bringer->quit;
command_ok([ 'pg_dump', '-d', $node->connstr('shop'), '-f', "$dir/data.sql", '--data-only', '-n', 'adclick', '-n', 'adclick_internal', '-e', 'adclick' ], 'slow: pg_dump');
my $sum = q{SELECT sum(click_count) FROM adclick.top_n_ads_between(100000, '-infinity', 'infinity')};
my $truth = sql('shop', $sum);
append_to_file("$dir/slow.sql", "BEGIN;\n" . slurp_file("$dir/data.sql") . "\n$sum;\nCOMMIT;\n");
my ($out) = run_command([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/slow.sql", $node->connstr('slow') ]);
like($out, qr/^$truth$/m, 'slow: a question in the transaction that brings the data');
is(sql('slow', $sum), $truth, 'slow: and one after it');
like(sql('slow', 'SELECT * FROM adclick.health()'), qr/^critical\|.*waits for the data of a dump/, 'slow: the end is missing');
sql('slow', 'SELECT adclick.end_restore()');
is(sql('slow', $sum), $truth, 'slow: and after the end');

# Over a database that counts: nothing of the dump comes in, and nothing stops.
make_database($node, 'live');
sql('live', 'CREATE EXTENSION adclick');
sql('live', slurp_file("$FindBin::RealBin/lib/oracle.sql"));
send_clicks($node, 'live', 500);
sql('live', 'SELECT adclick.tick(); SELECT oracle.compact()');
send_clicks($node, 'live', 100);
command_fails_like([ 'pg_restore', @$_, '-d', $node->connstr('live'), "$dir/custom" ], qr/no data of a dump is awaited for table "runs"/, "over another, with @$_")
	for [ '--no-owner' ], [ '--clean', '--if-exists' ], [ '--data-only', '--disable-triggers' ];
is(sql('live', 'SELECT * FROM oracle.lost()'), '0', 'live: nothing lost, nothing too much');
$node->safe_psql('postgres', 'ALTER DATABASE live RESET adclick.workers');
workers_ready($node, 'live');
exact_ok($node, 'live', 'live: goes on');

# What users have made of the counts is made again, wherever it stands in the dump.
sql('shop', q{CREATE SCHEMA aaa; CREATE MATERIALIZED VIEW aaa.top AS SELECT * FROM adclick.top_n_ads_between(10, '-infinity', 'infinity');
	CREATE MATERIALIZED VIEW public.counts AS SELECT sum(click_count) AS clicks FROM adclick.ad_click_counts});
dump_shop('views', '-Fc');
for my $way (['-j3'], ['-1'], ['-e'])
{
	(my $database = "views$way->[0]") =~ s/-/_/;

	restore($node, 'views', $database, @$way);
	is(sql($database, q{SELECT count(*), (SELECT clicks FROM public.counts) FROM aaa.top}), sql('shop', q{SELECT count(*), (SELECT clicks FROM public.counts) FROM aaa.top}),
		"$database: with views of users");
}

# --disable-triggers switches off nothing of ours.
make_database($node, 'untriggered');
sql('untriggered', 'CREATE EXTENSION adclick; SELECT adclick.begin_restore()');
command_ok([ 'pg_restore', '--disable-triggers', '-d', $node->connstr('untriggered'), "$dir/data" ], 'untriggered: pg_restore');
sql('untriggered', 'SELECT adclick.end_restore()');
is(digest($node, 'untriggered'), $expected, 'untriggered: the same answers');
is(sql('untriggered', q{SELECT tgenabled FROM pg_trigger WHERE tgname = 'insert_only'}), 'A', 'and the same triggers');

# In a template nobody works, so it is one.
$node->safe_psql('template1', 'CREATE EXTENSION adclick; INSERT INTO adclick.clicks (ad_id) VALUES (1)');
$node->poll_query_until('template1', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'template1' AND backend_type LIKE 'adclick%'}) or die 'workers stay';
$node->safe_psql('postgres', 'CREATE DATABASE of_template');
workers_ready($node, 'of_template');
drained($node, 'of_template');
is(sql('of_template', 'SELECT clicks_counted FROM adclick.status'), '1', 'a database of a template with the extension');
$node->safe_psql('template1', 'DROP EXTENSION adclick CASCADE');

# Where a part of the ledger was dropped, and its table waits for who may still read it.
set_conf($node, 'adclick.raw_retention' => "'60d'");
make_database($node, 'old');
sql('old', 'CREATE EXTENSION adclick');
sql('old', slurp_file("$FindBin::RealBin/lib/oracle.sql"));
sql('old', q{SELECT oracle.send_past_clicks(500, '1 hour', '20 days'); SELECT adclick.tick(); SELECT oracle.compact()});
set_conf($node, 'adclick.raw_retention' => "'1d'", 'adclick.ledger_retention' => "'10d'", 'adclick.user_and_ip_retention' => "'10d'");
sql('old', q{SELECT adclick.tick(); UPDATE adclick_internal.volumes SET opened_at = now() - interval '40 days'});
sql('old', q{SELECT adclick.apply_retention(); UPDATE adclick_internal.volumes SET opened_at = now() - interval '15 days' WHERE volume = 1});
send_clicks($node, 'old', 300);
sql('old', 'SELECT adclick.tick(); SELECT oracle.compact()');
my $reader = $node->background_psql('old');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM adclick.click_log');
is(sql('old', 'SELECT volumes_dropped FROM adclick.apply_retention()'), '2', 'a volume of each shelf is dropped');
command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('old'), '-f', "$dir/old" ], 'old: pg_dump');
$expected = digest($node, 'old');
restore($other, 'old', 'old_again');
my $users = q{SELECT people_dropped_until, (SELECT sum(adclick.unique_users_between(a, people_dropped_until + interval '1 minute', 'infinity')) FROM generate_series(1, 50) a) FROM adclick.status};
is($other->safe_psql('old_again', $users), sql('old', $users), 'old_again: the line of users and addresses, and those behind it');
fails_like('old', q{SELECT adclick.unique_users_between(1, '-infinity', 'infinity')}, qr/55000: clicks of this window are not all kept/, 'old: before it they are refused');
my (undef, undef, $refusal) = $other->psql('old_again', q{SELECT adclick.unique_users_between(1, '-infinity', 'infinity')});
like($refusal, qr/Those up to .* have been dropped/, 'old_again: likewise');
is(digest($other, 'old_again'), $expected, 'old_again: the same answers');
is($other->safe_psql('old_again', 'SELECT dropped > 0 AND balanced FROM adclick.check_ledger()'), 't', 'old_again: and what was dropped');
$reader->quit;
is($other->safe_psql('old_again', 'SELECT volumes_emptied FROM adclick.apply_retention()'), '2', 'old_again: their tables wait for nobody of the other server');
$other->safe_psql('old_again', q{INSERT INTO adclick.clicks (ad_id) VALUES (1)});
is($other->safe_psql('old_again', 'SELECT counted FROM adclick.tick()'), '1', 'old_again: goes on');

# Nobody else says when a click arrived.
my $arrived = 'SELECT received_at > clock_timestamp() - interval \'1 hour\' FROM adclick.clicks WHERE ad_id = -815';
my $claim = "INSERT INTO adclick.clicks (ad_id, received_at) VALUES (-815, '2020-01-01')";
sql('postgres', 'CREATE ROLE writer LOGIN');
sql('shop', 'GRANT USAGE ON SCHEMA adclick TO writer; GRANT INSERT ON adclick.clicks TO writer');
sql('shop', "SET check_function_bodies = off; SET SESSION AUTHORIZATION writer; $claim");
sql('shop', $claim);
is(sql('shop', $arrived), "t\nt", 'only a dump says when a click arrived');
done_testing();
