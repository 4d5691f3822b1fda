# examples/prometheus is right: prometheus-postgres-exporter, with the queries there, gives what adclick
# counts; promtool takes the alerts, and each of them fires when it should.
#
# test/run unpacks both programs from their Debian packages, where these can be had.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use HTTP::Tiny;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $EXAMPLES = "$FindBin::RealBin/../../examples/prometheus";
my $QUERIES = "$EXAMPLES/queries.yaml";

foreach my $program ('prometheus-postgres-exporter', 'promtool')
{
	plan skip_all => "$program is not there (Debian: prometheus-postgres-exporter, prometheus)"
	  unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

command_ok([ 'promtool', 'check', 'rules', "$EXAMPLES/alerts.yaml" ], 'promtool takes the alerts');
command_ok([ 'promtool', 'test', 'rules', "$FindBin::RealBin/../lib/alerts_test.yaml" ], 'each alert fires when it should');

my $node = adclick_node('main', 'adclick.max_filters' => 500);

$node->start;
adclick_database($node, 'clicks');
$node->safe_psql('clicks', 'CREATE ROLE exporter LOGIN; GRANT pg_monitor, adclick_reader TO exporter');
send_clicks($node, 'clicks', 1000, '2 minutes');
send_copies($node, 'clicks', 50);
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT 4711, date_trunc('minute', now()) + i * interval '1 minute' FROM generate_series(-1, 1) i, generate_series(1, 600)});
drained($node, 'clicks');

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $log = "$PostgreSQL::Test::Utils::log_path/exporter.log";
my $exporter;
{
	local $ENV{DATA_SOURCE_NAME} = sprintf 'host=%s port=%d dbname=clicks user=exporter sslmode=disable', $node->host, $node->port;
	$exporter = IPC::Run::start([ 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$port",
			"--extend.query-path=$QUERIES" ], '<', \undef, '&>', $log);
}
END { $exporter->kill_kill if $exporter }

# The exporter's metrics, by name and labels without the server's.
sub metrics
{
	my $http = HTTP::Tiny->new(timeout => $PostgreSQL::Test::Utils::timeout_default);
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	my $answer = $http->get("http://127.0.0.1:$port/metrics");

	# until it listens
	until ($answer->{success} || time > $end)
	{
		usleep(50_000);
		$answer = $http->get("http://127.0.0.1:$port/metrics");
	}
	die "the exporter does not answer: $answer->{content}" . slurp_file($log) unless $answer->{success};
	my %metrics = $answer->{content} =~ /^(\w+(?:\{.*\})?) (\S+)$/mg;
	return map { s/,?server="[^"]*"//r => $metrics{$_} } keys %metrics;
}

# Numbers of the status, at a time at which nothing happens.
sub status_is
{
	my ($metrics, $metric, $column) = @_;

	cmp_ok($metrics->{"adclick_$metric\{datname=\"clicks\"}"} // 'missing', '==',
		$node->safe_psql('clicks', "SELECT coalesce($column, 0) FROM adclick.status"), "$metric is $column");
	return;
}

my %metrics = metrics();
is(join(' ', map { $metrics{$_} } grep { /^pg_exporter_user_queries_load_error/ } keys %metrics), '0', 'the queries are loaded')
  or diag(slurp_file($log));
status_is(\%metrics, @$_) foreach [ qw(lag_rows lag_rows) ], [ qw(ticks_total last_tick) ], [ qw(last_tick_seconds last_tick_seconds) ],
  [ qw(worst_tick_seconds worst_tick_seconds) ], [ qw(clicks_taken_total clicks_taken) ], [ qw(clicks_counted_total clicks_counted) ],
  [ qw(clicks_late_total late_clicks) ], [ qw(clicks_duplicate_total duplicates) ], [ qw(clicks_in_future_total in_future) ],
  [ qw(clicks_too_old_total too_old) ], [ qw(clicks_undecided_total undecided) ],
  [ qw(clicks_forged_total forged) ], [ qw(clicks_expired_total expired) ], [ qw(clicks_user_limit_total user_limit) ],
  [ qw(clicks_address_limit_total address_limit) ], [ qw(combinations combinations) ],
  [ qw(errors_total errors) ], [ qw(workers_alive workers_alive) ], [ qw(dedup_bytes dedup_bytes) ], [ qw(dedup_keys dedup_keys) ];
is($metrics{'adclick_max_combinations{datname="clicks"}'}, 500, 'max_combinations');
is($metrics{'adclick_workers_wanted{datname="clicks"}'}, 2, 'workers_wanted');
is($metrics{'adclick_tick_interval_seconds{datname="clicks"}'}, 0.02, 'tick_interval_seconds');
is($metrics{'adclick_open_writer_seconds{datname="clicks"}'}, 0, 'no open writer');
is($metrics{'adclick_health_level{datname="clicks"}'}, 0, 'the health is ok');
is($metrics{'adclick_reconciliation_hours_that_differ{datname="clicks"}'}, 0, 'no hour differs');
is($metrics{'adclick_reconciliation_seconds_since{datname="clicks"}'}, 0, 'none was compared');
cmp_ok($metrics{'adclick_clicks_per_second{datname="clicks"}'}, '>=', 10, 'clicks_per_second');
cmp_ok($metrics{'adclick_hot_ads_clicks_per_second{ad_id="4711",datname="clicks"}'} // 0, '>=', 10, 'the hottest ad');
cmp_ok(scalar(grep { /^adclick_hot_ads/ } keys %metrics), '<=', 10, 'ten hot ads at most');
cmp_ok($metrics{'adclick_storage_bytes{datname="clicks",relation="adclick_internal.deltas"}'}, '>', 0, 'bytes of a relation');
is(scalar(grep { /^adclick_storage_bytes/ } keys %metrics), $node->safe_psql('clicks', 'SELECT count(*) FROM adclick.storage'), 'of each');

# All metrics that the alerts name are there.
my %names = map { s/\{.*//r => 1 } keys %metrics;
is(join(' ', grep { !$names{$_} } map { /\b(adclick_\w+)/g } grep { /^ *expr:/ } split /\n/, slurp_file("$EXAMPLES/alerts.yaml")),
	'', 'the alerts name no others');

# An alarm, and a writer
my $session = $node->background_psql('clicks');
$session->query_safe('BEGIN; INSERT INTO adclick.clicks (ad_id) VALUES (1)');
$node->safe_psql('clicks', 'ALTER TABLE adclick_internal.gaps ADD extra int');
%metrics = metrics();
is($metrics{'adclick_health_level{datname="clicks"}'}, 2, 'the health is critical');
cmp_ok($metrics{'adclick_open_writer_seconds{datname="clicks"}'}, '>', 0, 'an open writer');
$node->safe_psql('clicks', 'ALTER TABLE adclick_internal.gaps DROP extra');
$node->safe_psql('clicks', q{DELETE FROM adclick_internal.runs WHERE sort_order = 1; CALL adclick.reconcile('-infinity', 'infinity')});
%metrics = metrics();
cmp_ok($metrics{'adclick_reconciliation_hours_that_differ{datname="clicks"}'}, '>', 0, 'hours differ');
cmp_ok($metrics{'adclick_reconciliation_hours{datname="clicks"}'}, '>=', $metrics{'adclick_reconciliation_hours_that_differ{datname="clicks"}'}, 'of those compared');
cmp_ok($metrics{'adclick_reconciliation_seconds_since{datname="clicks"}'}, '>', 0, 'a moment ago');
$session->quit;

$exporter->signal('TERM');
$exporter->finish;
undef $exporter;
done_testing();
