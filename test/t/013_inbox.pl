# The inbox: each click is taken once, whatever is done to its table meanwhile; all
# that is not an INSERT is refused; and it does not grow for ever.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Every tick is done by hand, and every VACUUM.
my $node = adclick_node('main', 'adclick.workers' => 'off', 'autovacuum' => 'off', 'max_prepared_transactions' => 5);
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE clicks');
# what the oracle looks at comes and goes
sql('SET check_function_bodies = off;' . slurp_file("$FindBin::RealBin/lib/oracle.sql"));
sql('SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION \'\'');

sub sql { return $node->safe_psql('clicks', $_[0]) }

# An inbox and a log with nothing in them.
sub anew
{
	sql('SET client_min_messages = warning; DROP EXTENSION IF EXISTS adclick CASCADE');
	sql('CREATE EXTENSION adclick; SELECT oracle.make_ads(), oracle.witness()');
	return;
}

# More clicks than a tick takes, a tenth of them copies.
my $file = abs_path(PostgreSQL::Test::Utils::tempdir()) . '/many.csv';
sql(qq{
	COPY (SELECT md5((i - i % 10 / 9)::text)::uuid, (i - i % 10 / 9) % 1000, date_bin('10 minutes', now(), '2000-01-01 00:00Z'),
			('{CA,US}'::text[])[1 + (i - i % 10 / 9) % 2]
		FROM generate_series(1, 280000) i) TO '$file'});
my $COPY = "COPY adclick.clicks (click_id, ad_id, clicked_at, country) FROM '$file'";

# Kill the server, and start it again as soon as no process of it is left.
sub killed
{
	$node->kill9;
	for (1 .. 1000)
	{
		return if $node->start(fail_ok => 1);
		$node->stop('fast', fail_ok => 1);    # what did not get that far
	}
	die 'the server does not start';
}

# A tick of a large range.
sub full_tick_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	is(sql('SELECT rows_read BETWEEN 262144 AND 263000, more FROM adclick.tick()'), 't|t', "$name: a tick, and more to take");
	return;
}

# Verdicts and the log, some of it taken.
sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	conserved_ok($node, 'clicks', $name);
	verdicts_ok($node, 'clicks', $name);
	is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the ledger is balanced");
	return;
}

# The rest is taken: the facts and answers, too.
sub all_taken_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name) = @_;

	sql('DO $$ BEGIN WHILE (SELECT more FROM adclick.tick()) LOOP COMMIT; END LOOP; END $$');
	is(sql('SELECT lag_rows, (SELECT count(*) FROM adclick.clicks) FROM adclick.status'), '0|0', "$name: all is taken");
	right_ok($name);
	answers_ok($node, 'clicks', $name, questions => 1);
	facts_ok($node, 'clicks', $name);
	return;
}

# What a snapshot has of it all.
my $EVER = q{'-infinity'::timestamptz, 'infinity'::timestamptz};
my $SEEN = qq{
	SELECT (SELECT count(*) FROM adclick.clicks), (SELECT lag_rows FROM adclick.status),
		(SELECT string_agg(verdict || ' ' || n, ', ' ORDER BY verdict)
			FROM (SELECT coalesce(verdict, 'not taken') AS verdict, count(*) AS n FROM adclick.click_log GROUP BY 1) v),
		(SELECT string_agg(ad_id || ' ' || click_count, ' ') FROM adclick.top_n_ads_between(10, $EVER)),
		(SELECT sum(click_count) FROM adclick.ad_click_counts)};

#
# Rows that were rolled back, before, among and behind those that were not; readers
# with old snapshots, and VACUUM
#
anew();
sql("BEGIN; $COPY; ROLLBACK");
sql(qq{
	BEGIN;
	INSERT INTO adclick.clicks (ad_id) SELECT 2001 FROM generate_series(1, 100);
	SAVEPOINT s;
	$COPY;
	ROLLBACK TO s;
	$COPY;
	SAVEPOINT s;
	INSERT INTO adclick.clicks (ad_id) SELECT 2002 FROM generate_series(1, 100);
	RELEASE s;
	COMMIT});
sql("BEGIN; $COPY; ROLLBACK");
is(sql('SELECT lag_rows, (SELECT count(*) FROM adclick.clicks) FROM adclick.status'), '280200|280200', 'what was committed waits');

my @readers;
my @seen;
for my $round (1 .. 2)
{
	push @readers, $node->background_psql('clicks', on_error_stop => 0);
	$readers[-1]->set_query_timer_restart;
	$readers[-1]->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY');
	push @seen, $readers[-1]->query_safe($SEEN);
	if ($round == 1) { full_tick_ok("round $round with readers") } else { sql('SELECT adclick.tick()') }
	sql($round == 1 ? 'VACUUM (FREEZE) adclick.clicks' : 'VACUUM adclick.clicks');
	is($readers[$_]->query_safe($SEEN), $seen[$_], "reader @{[ $_ + 1 ]} sees in round $round what it saw") for 0 .. $#readers;
	right_ok("round $round with readers");
}
is($readers[0]->query_safe('SELECT oracle.lost(), count(v) FROM oracle.wrong_verdicts() v'), '0|0', 'the log of an old snapshot is right');
$_->quit for @readers;
sql('VACUUM adclick.clicks');
all_taken_ok('with readers');

#
# The table is written anew between ticks, and the server killed
#
anew();
sql($COPY);
sql('VACUUM FULL adclick.clicks');
full_tick_ok('rewritten');
sql('VACUUM FULL adclick.clicks');
right_ok('VACUUM FULL between ticks');
killed();
right_ok('killed between ticks');
sql('ALTER TABLE adclick.clicks SET TABLESPACE elsewhere');
right_ok('in another tablespace between ticks');
sql('INSERT INTO adclick.clicks (ad_id) SELECT 2003 FROM generate_series(1, 100); VACUUM FULL adclick.clicks');
all_taken_ok('rewritten');
sql('VACUUM FULL adclick.clicks');
is(sql(q{SELECT pg_relation_size('adclick.clicks')}), '0', 'a table without clicks is empty');

# Killed while a tick has not committed, and one that was rolled back in part.
sql("INSERT INTO adclick.clicks (click_id, ad_id) SELECT md5(i::text)::uuid, 2004 FROM generate_series(280001, 281000) i");
my $ticker = $node->background_psql('clicks', on_error_stop => 0);
$ticker->query_safe('BEGIN');
is($ticker->query_safe('SELECT rows_read FROM adclick.tick()'), '1000', 'a tick that does not commit');
killed();
is(sql('SELECT lag_rows FROM adclick.status'), '1000', 'has taken nothing when the server is back');
sql('VACUUM adclick.clicks');
is(sql(q{
	BEGIN;
	SAVEPOINT s;
	SELECT rows_read FROM adclick.tick();
	ROLLBACK TO s;
	INSERT INTO adclick.clicks (ad_id) SELECT 2004 FROM generate_series(1, 10);
	SELECT rows_read FROM adclick.tick();
	INSERT INTO adclick.clicks (ad_id) SELECT 2004 FROM generate_series(1, 100);
	COMMIT}), "1000\n1010", 'one rolled back to a savepoint has taken nothing, either');
is(sql('SELECT lag_rows FROM adclick.status'), '100', 'what came behind it waits');
sql('VACUUM adclick.clicks');
all_taken_ok('rolled back');
eval { $ticker->quit };

#
# Texts that do not fit a page, in rows that VACUUM has seen, and that it has not
#
my $LONG = q{
	INSERT INTO adclick.clicks (ad_id, country, region)
	SELECT 2005, (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 1000) n), 'R' FROM generate_series(1, 50) i};
sql("$LONG; VACUUM (FREEZE) adclick.clicks; $LONG");
right_ok('long texts');
sql('VACUUM FULL adclick.clicks');
right_ok('long texts, rewritten');
all_taken_ok('long texts');
is(sql(q{SELECT count(*), min(length(country)), count(DISTINCT country) FROM adclick.click_log WHERE ad_id = 2005}), '100|32000|50',
	'the log has them whole');

#
# When a click arrived, nobody else says
#
my $before = sql(q{SELECT date_trunc('milliseconds', clock_timestamp())});
sql(q{
	INSERT INTO adclick.clicks (ad_id, received_at) VALUES (2006, '2001-01-01'), (2006, '9999-01-01'), (2006, 'infinity'), (2006, '-infinity'), (2006, NULL);
	INSERT INTO adclick.clicks (ad_id, clicked_at, received_at) VALUES (2007, '2001-01-01', '2001-01-01'), (2007, '9999-01-01', '9999-01-01');
	CREATE TABLE claims AS SELECT 2006::bigint AS ad_id, timestamptz '2001-01-01' AS received_at FROM generate_series(1, 1000);
	INSERT INTO adclick.clicks (ad_id, received_at) TABLE claims});
sql("COPY claims TO '$file.claims'; COPY adclick.clicks (ad_id, received_at) FROM '$file.claims'");
is(sql("SELECT count(*), count(*) FILTER (WHERE received_at BETWEEN '$before' AND clock_timestamp()) FROM adclick.clicks"), '2007|2007',
	'a click arrived when it came, whatever is claimed');
is(sql("SELECT adclick.ad_click_count_between(2006, $EVER), adclick.ad_click_count_between(2007, $EVER)"), '2005|0', 'and is judged by that');
all_taken_ok('arrivals claimed');
is(sql(q{SELECT string_agg(verdict, ', ' ORDER BY verdict) FROM adclick.click_log WHERE ad_id = 2007}), 'in the future, too old', 'by ticks, too');
is(sql("SELECT count(*) FROM adclick.click_log WHERE ad_id IN (2006, 2007) AND received_at BETWEEN '$before' AND clock_timestamp()"), '2007',
	'the log has the real arrivals');

#
# What is refused: with clicks in it and without, to superusers, and to replication
#
sub refused_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($statement, $error, $name) = @_;
	my (undef, undef, $stderr) = $node->psql('clicks', "BEGIN; $statement; COMMIT");

	like($stderr, qr/ERROR:  $error/, $name // $statement);
	return;
}

for my $rows (0, 100)
{
	sql("INSERT INTO adclick.clicks (ad_id) SELECT 2008 FROM generate_series(1, $rows)");
	for my $role (qw(origin replica local))
	{
		for my $statement ('UPDATE adclick.clicks SET ad_id = 2', 'DELETE FROM adclick.clicks', 'TRUNCATE adclick.clicks',
			'WITH gone AS (DELETE FROM adclick.clicks RETURNING 1) SELECT count(*) FROM gone',
			'MERGE INTO adclick.clicks c USING (VALUES (2008)) v(ad) ON c.ad_id = v.ad WHEN MATCHED THEN DELETE')
		{
			my ($what) = $statement =~ /(UPDATE|DELETE|TRUNCATE)/;

			refused_ok("SET LOCAL session_replication_role = $role; $statement",
				"clicks can only be inserted\nDETAIL:  $what is not allowed on adclick.clicks\\.", "$role, $rows rows: $statement");
		}
	}
}
for my $statement ('UPDATE adclick.clicks SET ad_id = 2', 'DELETE FROM adclick.clicks', 'TRUNCATE adclick.clicks')
{
	refused_ok("ALTER TABLE adclick.clicks DISABLE TRIGGER ALL; $statement", 'clicks can only be inserted', "without triggers: $statement");
}
for my $lock ('UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE')
{
	refused_ok("SELECT ad_id FROM adclick.clicks FOR $lock", "clicks can only be inserted\nDETAIL:  Locking rows", "FOR $lock");
}
for my $index ('CREATE INDEX ON adclick.clicks (ad_id)', 'CREATE INDEX ON adclick.clicks USING brin (received_at)',
	'CREATE INDEX ON adclick.clicks USING hash (ad_id)', 'CREATE UNIQUE INDEX ON adclick.clicks (click_id)',
	'ALTER TABLE adclick.clicks ADD PRIMARY KEY (click_id)', 'ALTER TABLE adclick.clicks ADD UNIQUE (click_id)')
{
	refused_ok($index, "clicks can only be inserted\nDETAIL:  An index is not allowed on adclick.clicks\\.", $index);
}
refused_ok('INSERT INTO adclick.clicks (ad_id) VALUES (1) ON CONFLICT (click_id) DO NOTHING', 'there is no unique or exclusion constraint');
sql('INSERT INTO adclick.clicks (ad_id) VALUES (2008) ON CONFLICT DO NOTHING');
is(sql('SELECT count(*) FROM adclick.clicks'), '101', 'all that has changed nothing');

# Other tables: no inbox.
for my $columns ('n int', 'LIKE adclick.clicks')
{
	my $alone = 'access method "adclick_inbox" is for adclick.clicks alone';

	refused_ok("CREATE TABLE other ($columns) USING adclick_inbox", $alone);
	refused_ok("CREATE TEMP TABLE other ($columns) USING adclick_inbox", $alone);
	refused_ok("CREATE TABLE other ($columns); ALTER TABLE other SET ACCESS METHOD adclick_inbox", $alone);
}
refused_ok('CREATE TABLE other USING adclick_inbox AS SELECT 1 AS n', 'access method "adclick_inbox" is for adclick.clicks alone');
refused_ok('CREATE TABLE heir () INHERITS (adclick.clicks); SELECT adclick.tick()', 'relation "adclick.clicks" of adclick has been altered');
refused_ok('ALTER TABLE adclick.clicks REPLICA IDENTITY FULL; SELECT adclick.tick()', 'relation "adclick.clicks" of adclick has been altered');
# Older snapshots would not see the rows of a table written anew like this.
for my $change ('SET UNLOGGED', 'SET ACCESS METHOD heap')
{
	refused_ok("ALTER TABLE adclick.clicks $change", 'clicks can only be inserted');
}
# And no ledger keeps the values of further columns.
refused_ok("ALTER TABLE adclick.clicks $_", "clicks can only be inserted\nDETAIL:  ADD COLUMN is not allowed")
  for 'ADD COLUMN note text', 'ALTER ad_id SET STATISTICS 0, ADD IF NOT EXISTS note int';
refused_ok('CREATE TABLE parent (ad_id bigint NOT NULL); ALTER TABLE adclick.clicks INHERIT parent', "clicks can only be inserted\nDETAIL:  INHERIT is not allowed");
refused_ok('CREATE TABLE parent (LIKE adclick.clicks) PARTITION BY LIST (ad_id); ALTER TABLE parent ATTACH PARTITION adclick.clicks DEFAULT',
	"clicks can only be inserted\nDETAIL:  ATTACH PARTITION is not allowed");
refused_ok('CREATE TYPE click AS (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, received_at timestamptz, ip inet, country text,
		region text, device text); ALTER TABLE adclick.clicks OF click', "clicks can only be inserted\nDETAIL:  OF is not allowed");
refused_ok('SET search_path = adclick; DO $$ BEGIN ALTER TABLE IF EXISTS clicks SET ACCESS METHOD heap; END $$', 'clicks can only be inserted');

# What an index leaves that cannot be made: clicks go in all the same.
my ($stderr) = ($node->psql('clicks', 'CREATE INDEX CONCURRENTLY stays ON adclick.clicks (ad_id)'))[2];
like($stderr, qr/An index is not allowed/, 'CREATE INDEX CONCURRENTLY');
sql('INSERT INTO adclick.clicks (ad_id) VALUES (2008); DROP INDEX IF EXISTS adclick.stays');
all_taken_ok('refused');

#
# What the map of the inbox must not forget
#

# A row is left where a tick ends, the last of the table.
anew();
refused_ok("ALTER TABLE adclick.clicks $_", 'clicks can only be inserted', "$_, without clicks")
  for 'SET UNLOGGED', 'SET ACCESS METHOD heap';
sql('INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 262145)');
full_tick_ok('one row more');
is(sql('SELECT adclick.ad_click_count(1, 60), lag_rows FROM adclick.status'), '262145|1', 'the one that is left is seen');
all_taken_ok('one row more');

# Clicks come behind the last block, which is full, while a tick has begun and not read.
anew();
sql('INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 1000)');
my $per_page = sql(q{SELECT count(*) FROM adclick.clicks WHERE ctid < '(1,0)'});
anew();
sql("INSERT INTO adclick.clicks (ad_id) SELECT 1 FROM generate_series(1, 90 * $per_page)");
my $locker = $node->background_psql('clicks');
$locker->query_safe('BEGIN; LOCK TABLE adclick.filters');
my $late = $node->background_psql('clicks', on_error_stop => 0);
$late->query_until(qr/begun/, "\\echo begun\nSELECT adclick.tick();\n");
$node->poll_query_until('clicks', q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'adclick.filters'::regclass AND NOT granted})
  or die 'the tick does not wait';
sql('INSERT INTO adclick.clicks (ad_id) SELECT 2 FROM generate_series(1, 1000)');
$_->quit for $locker, $late;
is(sql('SELECT adclick.ad_click_count(1, 60), adclick.ad_click_count(2, 60)'), 90 * $per_page . '|1000', 'what came behind a tick is seen');
all_taken_ok('behind a tick');

# A tick of an old snapshot, which fails, leaves no mark.
sql('INSERT INTO adclick.clicks (ad_id) SELECT 3 FROM generate_series(1, 1000)');
my $old = $node->background_psql('clicks', on_error_stop => 0);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM adclick.clicks');
sql('SELECT adclick.tick(); INSERT INTO adclick.clicks (ad_id) SELECT 4 FROM generate_series(1, 10)');
$old->{stderr} = '';
$old->query('SELECT adclick.tick()');
like($old->{stderr}, qr/another tick came first/, 'a tick of an old snapshot fails');
$old->quit;
is(sql('SELECT adclick.ad_click_count(4, 60), lag_rows FROM adclick.status'), '10|10', 'what it does not see is seen by others');
all_taken_ok('a tick of an old snapshot');

#
# Clicks of transactions that are open: they are passed over, but by who must know of them
#
# By a question, in a session that has asked before.
sub blocks_read
{
	my $question = 'EXPLAIN (ANALYZE, BUFFERS) SELECT adclick.ad_click_count(5, 60);';
	my @buffers = sql("$question $question") =~ /Buffers: (.*)/g;
	my $blocks = 0;

	$blocks += $_ for $buffers[-1] =~ /(?:hit|read)=(\d+)/g;
	note("a question: $buffers[-1]");
	return $blocks;
}

anew();
my $large = $node->background_psql('clicks', on_error_stop => 0);
my $earlier = $node->background_psql('clicks');
$earlier->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$large->query_safe(qq{
	BEGIN;
	INSERT INTO adclick.clicks (ad_id) SELECT 5 FROM generate_series(1, 900 * $per_page);
	SAVEPOINT s;
	INSERT INTO adclick.clicks (ad_id) SELECT 5 FROM generate_series(1, 300 * $per_page)});
cmp_ok(blocks_read(), '>', 1200, 'a question reads the clicks of a large transaction');
is(sql('SELECT rows_read FROM adclick.tick()'), '0', 'and a tick does, and finds none');
cmp_ok(blocks_read(), '<', 100, 'from then on nobody does');
is($large->query_safe('SELECT adclick.ad_click_count(5, 60)'), 1200 * $per_page, 'but the transaction itself');
for my $query ('SELECT adclick.ad_click_count(5, 60)', 'SET LOCAL max_parallel_workers_per_gather = 2; SELECT adclick.ad_click_count(5, 60)')
{
	is($earlier->query_safe($query), '0', 'a snapshot from before');
}
$large->query_safe(qq{
	ROLLBACK TO s;
	INSERT INTO adclick.clicks (ad_id) SELECT 5 FROM generate_series(1, 1000);
	SAVEPOINT s2;
	INSERT INTO adclick.clicks (ad_id) SELECT 5 FROM generate_series(1, 1000)});
sql('INSERT INTO adclick.clicks (ad_id) SELECT 5 FROM generate_series(1, 70)');
is(sql('SELECT adclick.ad_click_count(5, 60)'), '70', 'those of another beside them');
is(sql('SELECT rows_read FROM adclick.tick()'), '70', 'are taken');
cmp_ok(blocks_read(), '<', 100, 'and the rest is passed over again');
my $meanwhile = $node->background_psql('clicks');
$meanwhile->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$large->query_safe('COMMIT');
is(sql('SELECT adclick.ad_click_count(5, 60)'), 900 * $per_page + 2070, 'once it commits they are seen');
is($meanwhile->query_safe('SELECT adclick.ad_click_count(5, 60)'), '70', 'not by a snapshot from before that');
is($earlier->query_safe('SELECT adclick.ad_click_count(5, 60)'), '0', 'nor by an older one');
all_taken_ok('a large transaction');
is($meanwhile->query_safe('SELECT adclick.ad_click_count(5, 60)'), '70', 'nor when they are taken');
$_->quit for $earlier, $meanwhile;

# Two of them, one prepared, and one that is rolled back.
anew();
$large->query_safe("BEGIN; INSERT INTO adclick.clicks (ad_id) SELECT 6 FROM generate_series(1, 20 * $per_page)");
sql('BEGIN; INSERT INTO adclick.clicks (ad_id) SELECT 6 FROM generate_series(1, 300); PREPARE TRANSACTION \'open\'');
$large->query_safe("INSERT INTO adclick.clicks (ad_id) SELECT 6 FROM generate_series(1, 20 * $per_page)");
is(sql('SELECT rows_read FROM adclick.tick()'), '0', 'two transactions are open');
sql('COMMIT PREPARED \'open\'');
is(sql('SELECT adclick.ad_click_count(6, 60)'), '300', 'one has ended');
$large->query_safe('ROLLBACK');
sql('VACUUM adclick.clicks');
sql("INSERT INTO adclick.clicks (ad_id) SELECT 6 FROM generate_series(1, 20 * $per_page)");
is(sql('SELECT adclick.ad_click_count(6, 60)'), 20 * $per_page + 300, 'the room of the other is used again');
all_taken_ok('two transactions');

# What a serializable transaction passes over is a conflict all the same.
$large->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT adclick.ad_click_count(7, 60); INSERT INTO adclick.clicks (ad_id) VALUES (8)');
is(sql('SELECT rows_read FROM adclick.tick()'), '0', 'a serializable transaction is open');
my $other = $node->background_psql('clicks', on_error_stop => 0);
$other->query_safe('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT adclick.ad_click_count(8, 60); INSERT INTO adclick.clicks (ad_id) VALUES (7)');
$_->query('COMMIT') for $large, $other;
like($large->{stderr} . $other->{stderr}, qr/could not serialize access/, 'of two that each miss a click of the other, one fails');
$_->quit for $large, $other;
all_taken_ok('serializable');

#
# Rounds of clicks, some rolled back: their room is used again
#
anew();
my @sizes;
for my $round (1 .. 12)
{
	sql('INSERT INTO adclick.clicks (ad_id) SELECT 2009 FROM generate_series(1, 10000)');
	sql('BEGIN; INSERT INTO adclick.clicks (ad_id) SELECT 2010 FROM generate_series(1, 10000); ROLLBACK');
	is(sql('SELECT counted FROM adclick.tick()'), '10000', "round $round: taken");
	sql('VACUUM adclick.clicks');
	push @sizes, sql(q{SELECT pg_relation_size('adclick.clicks')});
}
note("sizes: @sizes");
cmp_ok($sizes[-1], '<=', 2 * $sizes[0], 'the table does not grow for ever');
all_taken_ok('many rounds');

done_testing();
