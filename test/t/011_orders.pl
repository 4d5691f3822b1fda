# The orders by user and by address, and filters, through restarts, crashes, a
# standby, and beside writers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main',
	'allows_streaming' => 1,
	'restart_after_crash' => 'on',
	'adclick.watermark' => "'0s'");
$node->start;
adclick_database($node, 'clicks');
add_filter('{"country": "CA"}');

sub add_filter
{
	my ($filter) = @_;
	return $node->safe_psql('clicks', "SELECT adclick.add_filter('$filter')");
}

# Until all sessions and workers have a setting, ticks may go by either value.
sub set_orders
{
	my ($value) = @_;

	quiet_workers($node, 'clicks');
	set_conf($node, 'adclick.user_and_ip_orders' => $value);
	$node->poll_query_until('clicks', "SELECT setting = '$value' FROM pg_settings WHERE name = 'adclick.user_and_ip_orders'");
	return;
}

# The answer to a question about a user in the minutes of a time, or "refused".
sub user_clicks
{
	my ($server, $at, $minutes) = @_;

	return $server->safe_psql('clicks', qq{
		SELECT regexp_replace(oracle.answer(format('SELECT adclick.ad_click_count_between(900001, %L, %L, %L)', t, t + interval '$minutes minutes',
			'{"user_id": 7}')), '^refused: .*', 'refused') FROM (SELECT timestamptz '$at' AS t) x});
}

# Clicks for a tail to be asked about: none so late that its window is not in memory
# after a restart, as those show only once the compactor has decided them.
sub send_tail
{
	$node->safe_psql('clicks', "SELECT oracle.send_clicks(1000, '5 minutes', false)");
	return;
}

# A click of user 7 in a minute that has no others.
sub send_one
{
	my ($at) = @_;

	$node->safe_psql('clicks', "INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) VALUES (NULL, 900001, '$at', 7, '203.0.113.7')");
	return;
}

my ($early, $later, $last) = split /\|/, $node->safe_psql('clicks', q{
	SELECT m - interval '5 hours', m - interval '4 hours', m - interval '3 hours' FROM (SELECT date_trunc('minute', now()) AS m) x});

#
# Restarts
#
send_one($early);
send_clicks($node, 'clicks', 2000);
exact_ok($node, 'clicks', 'orders on');
for my $mode ('fast', 'immediate')
{
	quiet_workers($node, 'clicks');
	send_tail();
	$node->stop($mode);
	$node->start;
	workers_ready($node, 'clicks');
	answers_ok($node, 'clicks', "restarted ($mode) with a tail");
	wake_workers($node);
	exact_ok($node, 'clicks', "restarted ($mode)");
}

#
# kill -9 of the workers, under load
#
my $writers = writers_start($node, 'clicks', 2, rows => 150);
for my $kind ('aggregator', 'compactor')
{
	my ($aggregator, $compactor) = workers_ready($node, 'clicks');
	my $pid = $kind eq 'aggregator' ? $aggregator : $compactor;

	is(kill_process($node, $pid), 1, "the $kind is killed");
	workers_ready($node, 'clicks');
	answers_ok($node, 'clicks', "the $kind killed, under load", questions => 12);
}

#
# Filters come and go while clicks do
#
my %added;
for my $filter ('{"device": "mobile"}', '{"country": "US", "region": "ON"}', '{"country": "nowhere"}')
{
	$added{$filter} = add_filter($filter);
	answers_ok($node, 'clicks', "added $filter, under load", questions => 12);
	lists_ok($node, 'clicks', "added $filter, under load");
}
is(add_filter('{"device": "mobile"}'), $added{'{"device": "mobile"}'}, 'added again: the same filter');
$node->safe_psql('clicks', q{SELECT adclick.drop_filter('{"device": "mobile"}')});
answers_ok($node, 'clicks', 'a filter dropped, under load', questions => 12);
writers_stop($writers);
exact_ok($node, 'clicks', 'filters came and went');
$node->safe_psql('clicks', 'SELECT adclick.compact()');
exact_ok($node, 'clicks', 'filters came and went, compacted');
is($node->safe_psql('clicks', qq{
	SELECT count(*) FROM adclick.most_clicked_ads WHERE filter_id = $added{'{"device": "mobile"}'}}), '0', 'a dropped filter has no lists');
isnt($node->safe_psql('clicks', qq{
	SELECT count(*) FROM adclick.most_clicked_ads WHERE filter_id = $added{'{"country": "US", "region": "ON"}'}}), '0', 'the others have');

#
# A standby
#
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
send_clicks($node, 'clicks', 2000);
drained($node, 'clicks');
$node->safe_psql('clicks', 'SELECT adclick.compact()');
quiet_workers($node, 'clicks');
send_clicks($node, 'clicks', 500);
$node->wait_for_catchup($standby);
answers_ok($standby, 'clicks', 'standby with a tail');
lists_ok($standby, 'clicks', 'standby with a tail');
is(user_clicks($standby, $early, 1), '1', 'standby: clicks of a user');
is($standby->safe_psql('clicks', q{SELECT way FROM adclick.explain_top_n(3, 60, '{"user_id": 1}')}), 'user order',
	'standby: by the order of users');
for my $function (q{adclick.add_filter('{"country": "FR"}')}, q{adclick.drop_filter('{"country": "CA"}')})
{
	my (undef, undef, $error) = $standby->psql('clicks', "SELECT $function");
	like($error, qr/cannot execute \S+ (during recovery|in a read-only transaction)/, "standby: $function is refused");
}
wake_workers($node);
drained($node, 'clicks');

#
# Off, for a while, and a restart meanwhile
#
set_orders('off');
is(user_clicks($node, $early, 1), 'refused', 'off: refused');
send_one($later);
send_tail();
answers_ok($node, 'clicks', 'off, a tail', may_refuse => 1);
wake_workers($node);
drained($node, 'clicks');
quiet_workers($node, 'clicks');
answers_ok($node, 'clicks', 'off, taken', may_refuse => 1);
$node->restart;
workers_ready($node, 'clicks');
answers_ok($node, 'clicks', 'off, restarted', may_refuse => 1);
facts_ok($node, 'clicks', 'off, restarted');

set_orders('on');
send_one($last);
send_clicks($node, 'clicks', 1000, '1 minute');
wake_workers($node);
drained($node, 'clicks');
for my $step ('on again', 'on again, compacted', 'on again, restarted')
{
	is(user_clicks($node, $early, 60), '1', "$step: up to the minute taken without");
	is(user_clicks($node, $early, 61), 'refused', "$step: not with it");
	is(user_clicks($node, $later, 1), 'refused', "$step: nor it alone");
	is(user_clicks($node, $last, 1), '1', "$step: nor is what came later refused");
	answers_ok($node, 'clicks', $step, may_refuse => 1);
	facts_ok($node, 'clicks', $step);
	lists_ok($node, 'clicks', $step);
	$node->safe_psql('clicks', 'SELECT adclick.compact()') if $step eq 'on again';
	$node->restart if $step eq 'on again, compacted';
	workers_ready($node, 'clicks');
}
$node->wait_for_catchup($standby);
is(user_clicks($standby, $early, 60), '1', 'standby: up to the minute taken without');
is(user_clicks($standby, $later, 1), 'refused', 'standby: refused as well');
is(user_clicks($standby, $last, 1), '1', 'standby: answered again');

#
# Never on
#
set_conf($node, 'adclick.user_and_ip_orders' => 'off');
adclick_database($node, 'without');
wake_workers($node);
send_clicks($node, 'without', 2000);
drained($node, 'without');
$node->safe_psql('without', 'SELECT adclick.compact()');
answers_ok($node, 'without', 'never on', may_refuse => 1);
facts_ok($node, 'without', 'never on');
my (undef, undef, $error) = $node->psql('without', q{\set VERBOSITY verbose
SELECT * FROM adclick.top_n_ads(3, 60, '{"ip": "10.0.0.0/8"}')});
like($error, qr/ERROR:  55000: .*\nHINT:  .*adclick\.user_and_ip_orders/s, 'never on: the hint names the setting');

done_testing();
