# pg_cron reconciles what it is told by adclick.schedule(), and no longer after
# adclick.unschedule(); where it is missing, the error says how to do without.

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
adclick_database($node, 'clicks', witness => 1);
my $JOBS = 'SELECT string_agg(jobname || \' \' || schedule, \', \' ORDER BY jobname) FROM cron.job';

sub sql { return $node->safe_psql('clicks', $_[0]) }

sub schedule_fails
{
	my ($name) = @_;
	my ($status, undef, $error) = $node->psql('clicks', "\\set VERBOSITY verbose\nSELECT * FROM adclick.schedule()");

	like($error, qr/55000: pg_cron is not installed in this database/, $name);
	like($error, qr/SELECT cron\.schedule_in_database\('adclick: archive', '40 1 \* \* \*', 'CALL adclick\.archive_clicks\(\)', 'clicks'\); SELECT cron\.schedule_in_database\('adclick: reconcile', '10 2 \* \* \*', 'CALL adclick\.reconcile\(.*', 'clicks'\)/, "$name: the hint has the command");
	return;
}

schedule_fails('without pg_cron');
is(sql('SELECT adclick.unschedule()'), '', 'there is nothing to end');

# What only looks like it is not called.
sql(q{CREATE SCHEMA cron;
	CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE sql AS 'SELECT 1 / 0';
	CREATE TABLE cron.job (jobid bigint, jobname text, username name)});
schedule_fails('with a schema of that name');
is(sql('SELECT adclick.unschedule()'), '', 'nor is there something to end');
sql('DROP SCHEMA cron CASCADE');

if (sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'}) == 0)
{
	note('pg_cron is not installed on this machine: the rest is skipped');
	done_testing();
	exit;
}
$node->append_conf('postgresql.conf', <<'EOS');
shared_preload_libraries = 'adclick, pg_cron'
cron.database_name = 'clicks'
cron.use_background_workers = on
EOS
$node->restart;
sql('CREATE EXTENSION pg_cron');
like(sql('SELECT * FROM adclick.schedule()'), qr/^adclick: archive\|40 1 \* \* \*\|CALL adclick\.archive_clicks\(\)\nadclick: reconcile\|10 2 \* \* \*\|CALL adclick\.reconcile/, 'scheduled');
is(sql($JOBS), 'adclick: archive 40 1 * * *, adclick: reconcile 10 2 * * *', 'a job');
sql('SELECT * FROM adclick.schedule()');
is(sql($JOBS), 'adclick: archive 40 1 * * *, adclick: reconcile 10 2 * * *', 'the same again is the same');

# It runs, at once, as nobody waits until two.
send_clicks($node, 'clicks', 3000, '48 hours');
drained($node, 'clicks');
sql(q{SELECT cron.alter_job(jobid, schedule := '* * * * *') FROM cron.job});
$node->poll_query_until('clicks', 'SELECT count(*) > 0 FROM adclick.reconciliations WHERE finished_at IS NOT NULL')
  or die 'pg_cron does not reconcile';
is(sql(q{SELECT since = '-infinity' AND until = date_trunc('day', started_at, 'UTC') AND only_changed AND NOT repair
		AND hours_done = 24 AND clicks > 0 FROM adclick.reconciliations ORDER BY reconciliation_id LIMIT 1}), 't', 'yesterday is reconciled');
is(sql('SELECT count(*), sum(differences), count(problem) FROM adclick.reconciled_hours'), '24|0|0', 'and right');

sql('SELECT adclick.unschedule()');
is(sql($JOBS), '', 'unscheduled');
sql('SELECT adclick.unschedule()');
exact_ok($node, 'clicks', 'at the end');

done_testing();
