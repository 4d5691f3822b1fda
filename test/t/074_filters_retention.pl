# Combinations of country, region and device end by the workers, as time goes, which the test lets
# pass (lib/AdclickRetention.pm): when minutes, days, users and addresses, and the ledger of their
# time have gone.  Those in use stay, through crashes, also in the middle, on a standby, after a dump, and for
# snapshots from before; there is room for new ones; and who brings clicks back beside a tick has them once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickRetention;
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = retention_node('people', 'people', 'adclick.minute_retention' => "'3d'", 'adclick.day_retention' => "'3d'",
	'adclick.user_and_ip_retention' => "'3d'", 'adclick.ledger_retention' => "'4d'");
sub sql { return $node->safe_psql('clicks', $_[0]) }

$node->append_conf('postgresql.conf', "timezone = 'UTC'");
$node->reload;
sql(q{
	CREATE TABLE sent (ad_id bigint, day timestamptz, country text);
	CREATE FUNCTION send(countries text[]) RETURNS void LANGUAGE sql AS $$
	WITH clicks AS (INSERT INTO adclick.clicks (click_id, ad_id, user_id, ip, country)
		SELECT gen_random_uuid(), i, i, '10.0.0.1', c FROM unnest(countries) WITH ORDINALITY u (c, i) RETURNING ad_id, received_at, country)
	INSERT INTO sent SELECT ad_id, date_trunc('day', received_at), country FROM clicks
	$$;
	CREATE FUNCTION days() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(days_dropped_until, '-infinity') FROM adclick_internal.state $$;

	-- What the days that are kept have by country, by the sums and by a question, and is not what was sent.
	CREATE FUNCTION wrong() RETURNS TABLE (what text, ad_id bigint, day timestamptz, country text, n numeric) LANGUAGE sql STABLE AS $$
	WITH expected AS MATERIALIZED (
		SELECT 'day', ad_id, day, country, count(*)::numeric FROM sent WHERE day > days() GROUP BY 2, 3, 4
		UNION ALL SELECT 'answer', ad_id, NULL, country, count(*) FROM sent WHERE day > days() AND ad_id = 1 GROUP BY 2, 4
	), found AS MATERIALIZED (
		SELECT 'day', ad_id, date_trunc('day', click_minute), country, sum(click_count) FROM adclick_internal.day_rows GROUP BY 2, 3, 4
		UNION ALL SELECT 'answer', 1, NULL, value, click_count
		FROM adclick.breakdown_between(1, CASE WHEN isfinite(days()) THEN days() + interval '1 minute' ELSE '-infinity' END, 'infinity', 'country')
	)
	(TABLE expected EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE expected)
	$$;

	-- Stored facts and clicks whose combination is missing; and combinations that should have ended with what was dropped.
	CREATE FUNCTION missing() RETURNS bigint LANGUAGE sql STABLE AS $$
	SELECT count(*) FROM (SELECT filter_id FROM unnest('{0,1,2,4}'::int[]) o, adclick_internal.facts(o) UNION SELECT filter_id FROM adclick_internal.ledger('-infinity', 'infinity')) f
	WHERE filter_id NOT IN (SELECT filter_id FROM adclick.filters)
	$$;
	CREATE FUNCTION unused() RETURNS bigint LANGUAGE sql STABLE AS $$
	SELECT count(*) FROM adclick.filters WHERE last_day < (SELECT min(first_minute)::date FROM adclick_internal.runs)
	$$;
});

sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($server, $name, $database) = @_;

	$database //= 'clicks';
	is($server->safe_psql($database, 'SELECT * FROM wrong() LIMIT 9'), '', "$name: answers");
	is($server->safe_psql($database, 'SELECT missing()'), '0', "$name: no combination is missing");
	is($server->safe_psql($database, 'SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books are balanced");
	is($server->safe_psql($database, 'SELECT count(*) FROM adclick.click_log WHERE country IS NULL'), '0', "$name: the log");
	return;
}

# A day, with 20 combinations that no other one has, and some that all have.
my $today = 0;
sub live
{
	my (@others) = @_;

	$today++;
	sql(qq{SELECT send(ARRAY(SELECT 'C' || i FROM generate_series(1, 5) i) || ARRAY(SELECT 'G$today-' || i FROM generate_series(1, 20) i) || '{@others}'::text[])});
	drained($node, 'clicks');
	pass_time($DAY);
	becomes('SELECT NOT EXISTS (SELECT FROM adclick_internal.runs WHERE is_delta AND sort_order IN (1, 2, 3))', 'that all is packed');
	return;
}

# Let hours pass until the combinations of a day have ended.
sub ended
{
	my ($day) = @_;
	my $there = "SELECT count(*) FROM adclick.filters WHERE country LIKE 'G$day-%'";

	for (1 .. 100)
	{
		last if sql($there) eq '0';
		pass_time(2 * $HOUR);
		retention_round();
	}
	is(sql($there), '0', "combinations of day $day end");
	return;
}

sql('UPDATE people SET volume = 5');	# tables 0 to 4 are free, see retention_round
pass_time(61 * $MINUTE);
live() for 1 .. 3;
right_ok($node, 'nothing dropped');
is(sql(q{SELECT count(*) FROM adclick.filters WHERE country LIKE 'G%'}), '60', 'all are there');

# Snapshots from before, here and on a standby.
my $standby = retention_standby();

my $ALL = q{SELECT md5(string_agg(f::text, ',' ORDER BY f::text)) FROM (SELECT country, sum(click_count) FROM adclick.clicks_per_minute GROUP BY 1
	UNION ALL SELECT value, click_count FROM adclick.breakdown_between(1, '-infinity', 'infinity', 'country')) f};
my $before = sql($ALL);
my $reader = begin_reader($node);
my $far_reader = begin_reader($standby);

# As days go, their combinations do.
live() for 4 .. 6;
ended(1);
is($reader->query_safe($ALL), $before, 'a snapshot from before sees what it saw');
like($reader->query("SELECT adclick.tick()") . $reader->{stderr}, qr/could not serialize access|another tick came first/, 'and cannot tick');
$reader->quit;
right_ok($node, 'the first day has ended');
is(sql(q{SELECT count(*) FROM adclick.filters WHERE country LIKE 'C%'}), '5', 'those of all days are there');
is(sql('SELECT unused()'), '0', 'and none that nothing uses');
is(sql(q{SELECT combinations FROM adclick.status}), sql('SELECT count(*) FROM adclick.filters WHERE country IS NOT NULL'), 'the status says so');
$node->wait_for_catchup($standby);
right_ok($standby, 'the standby');
is($standby->safe_psql('clicks', 'SELECT count(*), max(filter_id) FROM adclick.filters'), sql('SELECT count(*), max(filter_id) FROM adclick.filters'), 'it has the same ones');
my $said = eval { my $got = $far_reader->query($ALL); $far_reader->{stderr} || $got } // $@;
like($said, qr/conflict with recovery|connection|ended prematurely|^$before$/, 'a snapshot from before, there');
eval { $far_reader->quit };

# A dictionary that is full, until old ones end.
set_conf($node, 'adclick.max_filters' => sql('SELECT combinations FROM adclick.status'));
$node->poll_query_until('clicks', q{SELECT (SELECT setting::bigint FROM pg_settings WHERE name = 'adclick.max_filters') = combinations FROM adclick.status}) or die 'no setting';
$node->safe_psql('clicks', q{SELECT pg_terminate_backend(aggregator_pid, 60000) FROM adclick.status});	# a worker that has the new setting
workers_ready($node, 'clicks');
sql(q{INSERT INTO adclick.clicks (click_id, ad_id, country) SELECT gen_random_uuid(), 77, 'N' || i FROM generate_series(1, 9) i; INSERT INTO sent SELECT 77, date_trunc('day', now()), 'other' FROM generate_series(1, 9)});
drained($node, 'clicks');
right_ok($node, 'full');
like(sql('SELECT reason FROM adclick.health()'), qr/adclick.max_filters is nearly reached/, 'the health warns');
pass_time($DAY);
becomes('SELECT NOT EXISTS (SELECT FROM adclick_internal.runs WHERE is_delta AND sort_order IN (1, 2, 3))', 'that all is packed');
ended(2);
sql(q{SELECT send(ARRAY(SELECT 'N' || i FROM generate_series(1, 9) i))});
right_ok($node, 'room again, in the tail');
drained($node, 'clicks');
is(sql(q{SELECT count(*) FROM adclick.filters WHERE country LIKE 'N%'}), '9', 'new ones are told apart');
right_ok($node, 'room again');
set_conf($node, 'adclick.max_filters' => 10000);
pass_time($DAY);

# Killed in the middle: rows of the dictionary are deleted, but for one that somebody has.
live() for 7 .. 8;
my $holder = $node->background_psql('clicks');
is($holder->query_safe("BEGIN; SELECT count(*) FROM (SELECT FROM adclick.filters WHERE country = 'G$today-20' FOR UPDATE) l"), '1', 'somebody has one');
my $waits = qq{EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = (SELECT compactor_pid FROM adclick.status))
	AND (SELECT count(*) FROM adclick.filters WHERE country LIKE 'G$today-%') = 20};
my $seen = 'f';
for (1 .. 100)
{
	pass_time(2 * $HOUR);
	retention_round($waits);
	$seen = sql("SELECT $waits");	# it gives up after a while, and tries again
	last if $seen eq 't';
}
is($seen, 't', 'it waits, and nobody sees it');
$node->stop('immediate');
eval { $holder->quit };
$node->start;
workers_ready($node, 'clicks');
is(sql("SELECT count(*) FROM adclick.filters WHERE country LIKE 'G$today-%'"), '20', 'killed in the middle: all are there');
right_ok($node, 'killed in the middle');
ended($today);
right_ok($node, 'ended after that');

# After a dump the dictionary is the same, days included.
my $DICTIONARY = q{SELECT md5(string_agg(f::text, ',' ORDER BY filter_id)) FROM adclick.filters f};
$node->safe_psql('postgres', 'ALTER DATABASE clicks SET adclick.workers = off');
$node->restart;
command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('clicks'), '-f', $node->basedir . '/dump' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->safe_psql('postgres', 'ALTER DATABASE again SET adclick.workers = off');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('again'), $node->basedir . '/dump' ], 'pg_restore');
is($node->safe_psql('again', $DICTIONARY), sql($DICTIONARY), 'restored: the dictionary');
right_ok($node, 'restored', 'again');
$node->wait_for_catchup($standby);
right_ok($standby, 'the standby in the end');
$standby->stop;

# Clicks come back from a file, with combinations that ended, while a tick has one of them.
my $archive = PostgreSQL::Test::Utils::tempdir();
set_conf($node, 'adclick.archive_directory' => "'$archive'");
sql(q{SELECT send(ARRAY(SELECT 'B' || i FROM generate_series(1, 20) i)); SELECT adclick.tick()});
for (1 .. 2)
{
	pass_time($DAY);
	sql('SELECT oracle.compact(); SELECT adclick.apply_retention()');
}
pass_time(9 * $DAY);
sql('CALL adclick.archive_clicks()');
sql('SELECT adclick.apply_retention()') for 1 .. 3;
sql(q{INSERT INTO adclick.clicks (ad_id, country) VALUES (1, 'C1'); SELECT adclick.tick()});
is(sql(q{SELECT count(*) FROM adclick.filters WHERE country ~ '^[GB]'}), '0', 'all of old days have ended');
for (['ROLLBACK', 'B1'], ['COMMIT', 'B2'])
{
	my ($end, $country) = @$_;
	my ($restorer, $ticker) = map { $node->background_psql('clicks', on_error_stop => 0) } 1 .. 2;

	$restorer->query_safe('SET client_min_messages = error');
	cmp_ok($restorer->query_safe(q{BEGIN; SELECT adclick.restore_clicks('-infinity', 'infinity')}), '>=', 20, "$end: clicks come back");
	sql("INSERT INTO adclick.clicks (ad_id, country) VALUES (1, '$country'), (1, 'new')");
	$ticker->query_until(qr/begun/, "\\echo begun\nSELECT counted FROM adclick.tick();\n");
	$node->poll_query_until('clicks', 'SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)') or die 'nobody waits';
	$restorer->query_safe($end);
	$restorer->quit;
	like($ticker->query(q{SELECT 'ticked'}), qr/ticked/, "$end: a tick waits for that");
	is($ticker->{stderr}, '', "$end: and succeeds");
	$ticker->quit;
	is(sql('SELECT missing()'), '0', "$end: no combination is missing");
	is(sql("SELECT count(*), bool_and(last_day > now() - interval '2 days') FROM adclick.filters WHERE country = '$country'"), '1|t', "$end: it is there once, of the later day");
	cmp_ok(sql(q{SELECT count(*) FROM adclick.filters WHERE country LIKE 'B%'}), '==', $end eq 'COMMIT' ? 20 : 1, "$end: with the others, or without");
	is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', "$end: the books are balanced");
}
sql('SELECT adclick.apply_retention()');
is(sql('SELECT missing()'), '0', 'what came back keeps them');
sql('SELECT adclick.release_clicks(); SELECT adclick.apply_retention()');
is(sql(q{SELECT string_agg(country, ' ' ORDER BY country) FROM adclick.filters WHERE country ~ '^[GB]'}), 'B1 B2', 'released, they end, but for those that were clicked again');
$node->stop;

done_testing();
