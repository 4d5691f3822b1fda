# Transactions of all kinds: a click is counted once it is committed, and once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main', 'max_prepared_transactions' => 10);
$node->start;
adclick_database($node, 'clicks', witness => 1);

my $ALWAYS = q{timestamptz '-infinity', timestamptz 'infinity'};

sub count_of
{
	my ($ad) = @_;
	return $node->safe_psql('clicks', "SELECT adclick.ad_click_count_between($ad, $ALWAYS)");
}

# n clicks of an ad, as a statement
sub clicks
{
	my ($ad, $n) = @_;
	return "INSERT INTO adclick.clicks (ad_id) SELECT $ad FROM generate_series(1, $n);";
}

#
# Rollbacks and savepoints
#
$node->safe_psql('clicks', 'BEGIN;' . clicks(900001, 10) . 'ROLLBACK');
is(count_of(900001), '0', 'rolled back: not counted');
$node->safe_psql('clicks',
	    'BEGIN;' . clicks(900002, 1) . 'SAVEPOINT a;' . clicks(900002, 10) . 'ROLLBACK TO a;' . clicks(900002, 100)
	  . 'SAVEPOINT b;' . clicks(900002, 1000) . 'SAVEPOINT c;' . clicks(900002, 10000)
	  . 'ROLLBACK TO c; RELEASE b; COMMIT');
is(count_of(900002), '1101', 'savepoints: what was kept is counted at once');
drained($node, 'clicks');
is(count_of(900002), '1101', 'savepoints: and after the tick');

$node->safe_psql('clicks', q{
	DO $$
	BEGIN
		FOR i IN 1 .. 500 LOOP
			BEGIN
				INSERT INTO adclick.clicks (ad_id) VALUES (900003);
				IF i % 5 = 0 THEN RAISE EXCEPTION 'no'; END IF;
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
		END LOOP;
	END $$});
is(count_of(900003), '400', 'hundreds of subtransactions, a fifth of them rolled back');
exact_ok($node, 'clicks', 'rollbacks and savepoints');

#
# A writer that stays open, with more subtransactions than a snapshot lists
#
my $open = $node->background_psql('clicks', on_error_stop => 0);
$open->set_query_timer_restart;
$open->query_safe('BEGIN');
my $pid = $open->query_safe('SELECT pg_backend_pid()');
$open->query_safe(clicks(900004, 5));
$open->query_safe(q{
	DO $$
	BEGIN
		FOR i IN 1 .. 100 LOOP
			BEGIN
				INSERT INTO adclick.clicks (ad_id) VALUES (900004);
				INSERT INTO adclick.clicks (ad_id, click_id, clicked_at)
					VALUES (900004, '00000000-0000-4000-8000-000000000004', '2000-01-01'::timestamptz + (now() - '2000-01-01'));
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
		END LOOP;
	END $$});
is($open->query_safe("SELECT adclick.ad_click_count_between(900004, $ALWAYS)"), '106',
	'its own uncommitted clicks are in its own answer');
is(count_of(900004), '0', 'and in no other');
is($open->query_safe("SELECT click_count FROM adclick.top_n_ads_between(100000, $ALWAYS) WHERE ad_id = 900004"),
	'106', 'the same with top_n_ads');
for my $i (1 .. 5)
{
	send_clicks($node, 'clicks', 300);
	drained($node, 'clicks');
}
facts_ok($node, 'clicks', 'others are taken while a writer stays open');
answers_ok($node, 'clicks', 'others are taken while a writer stays open');
is($open->query_safe("SELECT adclick.ad_click_count_between(900004, $ALWAYS)"), '106', 'its own answer is still the same');
is($node->safe_psql('clicks', 'SELECT open_writer_pid, open_writer_prepared IS NULL, open_writer_since < now() FROM adclick.status'),
	"$pid|t|t", 'status names the open writer');
$open->query_safe('SAVEPOINT s');
$open->query_safe(clicks(900004, 7));
$open->query_safe('ROLLBACK TO s');
$open->query_safe(clicks(900004, 1));
$open->query_safe('COMMIT');
is(count_of(900004), '107', 'counted from its commit');
exact_ok($node, 'clicks', 'the open writer committed');
is(count_of(900004), '107', 'counted once');
is($node->safe_psql('clicks', 'SELECT open_writer_pid IS NULL FROM adclick.status'), 't', 'no open writer any more');

# Under REPEATABLE READ the answer stays as it was, ticks or not.
$open->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY');
my $first = $open->query_safe("SELECT adclick.ad_click_count_between(900004, $ALWAYS)");
$node->safe_psql('clicks', clicks(900004, 50));
is($open->query_safe("SELECT adclick.ad_click_count_between(900004, $ALWAYS)"), $first, 'repeatable read: the tail of later is not seen');
drained($node, 'clicks');
$node->safe_psql('clicks', 'SELECT adclick.compact()');
is($open->query_safe("SELECT adclick.ad_click_count_between(900004, $ALWAYS)"), $first, 'nor what ticks and compaction made of it');
is($open->query_safe('SELECT count(*) FROM oracle.wrong_answers(24)'), '0', 'all answers are those of the old snapshot');
is($open->query_safe('SELECT oracle.lost(), count(v) FROM oracle.wrong_verdicts() v'), '0|0', 'and so is the log');
$open->query_safe('COMMIT');
is($open->query_safe("SELECT adclick.ad_click_count_between(900004, $ALWAYS)"), '157', 'afterwards it is');

#
# Prepared transactions
#
my $copied = "INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) VALUES ('00000000-0000-4000-8000-000000000005', 900005, date_trunc('minute', now()));";
$node->safe_psql('clicks', 'BEGIN;' . clicks(900005, 20) . $copied . 'SAVEPOINT s;' . clicks(900005, 300) . 'ROLLBACK TO s;' . "PREPARE TRANSACTION 'kept'");
$node->safe_psql('clicks', 'BEGIN;' . clicks(900005, 4000) . "PREPARE TRANSACTION 'dropped'");
send_clicks($node, 'clicks', 300);
drained($node, 'clicks');
is(count_of(900005), '0', 'prepared: not counted');
is($node->safe_psql('clicks', 'SELECT open_writer_pid IS NULL, open_writer_prepared FROM adclick.status'),
	't|kept', 'prepared: status names it');
$open->quit;
$node->restart;
workers_ready($node, 'clicks');
send_clicks($node, 'clicks', 300);
drained($node, 'clicks');
is(count_of(900005), '0', 'prepared: not counted after a restart');
is($node->safe_psql('clicks', 'SELECT open_writer_prepared FROM adclick.status'), 'kept', 'prepared: status still names it');
$node->safe_psql('clicks', "ROLLBACK PREPARED 'dropped'");
$node->safe_psql('clicks', "COMMIT PREPARED 'kept'");
is(count_of(900005), '21', 'prepared: counted from its commit');
$node->safe_psql('clicks', q{INSERT INTO adclick.clicks (click_id, ad_id, clicked_at)
	SELECT click_id, ad_id, clicked_at FROM adclick.click_log WHERE click_id = '00000000-0000-4000-8000-000000000005'});
is(count_of(900005), '21', 'prepared: a copy of it is a duplicate');
exact_ok($node, 'clicks', 'prepared transactions');
is(count_of(900005), '21', 'prepared: counted once');
is($node->safe_psql('clicks', 'SELECT open_writer_prepared IS NULL FROM adclick.status'), 't', 'prepared: none left');

#
# A tail larger than one tick
#
quiet_workers($node, 'clicks');
my $file = abs_path(PostgreSQL::Test::Utils::tempdir()) . "/many.csv";
$node->safe_psql('clicks', qq{
	COPY (SELECT CASE WHEN i % 3 = 0 THEN ('00000000-0000-4000-8000-' || lpad((i - i % 30)::text, 12, '0'))::uuid END,
			CASE WHEN i % 3 = 0 THEN 1 ELSE i % 1000 END, date_trunc('minute', now()) - CASE WHEN i % 3 = 0 THEN '1 minute' ELSE (i % 5) * interval '1 minute' END,
			CASE WHEN i % 3 <> 0 THEN (array['CA', 'US'])[1 + i % 2] END
		FROM generate_series(1, 300000) i) TO '$file'});
my $late = $node->background_psql('clicks', on_error_stop => 0);
$late->set_query_timer_restart;
$late->query_safe('BEGIN;' . clicks(900006, 3));
$node->safe_psql('clicks', "COPY adclick.clicks (click_id, ad_id, clicked_at, country) FROM '$file'");
answers_ok($node, 'clicks', '300,000 in the tail', questions => 8);
is($node->safe_psql('clicks', 'SELECT rows_read BETWEEN 262144 AND 263000, more FROM adclick.tick()'), 't|t', 'a tick has a bound');
answers_ok($node, 'clicks', 'after a tick', questions => 8);
conserved_ok($node, 'clicks', 'after a tick');
verdicts_ok($node, 'clicks', 'after a tick');
$late->query_safe('COMMIT');
$node->safe_psql('clicks', clicks(900006, 4));
is(count_of(900006), '7', 'what is committed between is counted');

# A restart between: the range goes on where it was.
$late->quit;
$node->stop('immediate');
$node->start;
workers_ready($node, 'clicks');
wake_workers($node);
drained($node, 'clicks');
is(count_of(900006), '7', 'and after the last');
exact_ok($node, 'clicks', 'a tail larger than one tick', questions => 8);

# The same with the workers at work, and others writing.
my $writers = writers_start($node, 'clicks', 1, rows => 100);
$node->safe_psql('clicks', "COPY adclick.clicks (click_id, ad_id, clicked_at, country) FROM '$file'");
conserved_ok($node, 'clicks', 'a large tail while others write');
writers_stop($writers);
exact_ok($node, 'clicks', 'a large tail while others write', questions => 8);

done_testing();
