# Advertisers, who know of their own ads alone: while workers count, on a standby, in what is restored from a
# dump, and after their roles are dropped or renamed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $DENIED = qr/42501: permission denied to ask about clicks/;

my $node = adclick_node('main', allows_streaming => 1);
$node->start;
adclick_database($node, 'shop', witness => 1);
my $dir = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql($_[0], $_[1]) }

# Who logs in is who asks.
sub as
{
	my ($server, $database, $role, $statement) = @_;

	return $server->safe_psql($database, $statement, extra_params => [ '-U', $role ]);
}

sub refused
{
	my ($server, $database, $role, $statement, $expected, $name) = @_;
	my ($status, undef, $error) = $server->psql($database, "\\set VERBOSITY verbose\n$statement", extra_params => [ '-U', $role ]);

	like($error, $expected, $name);
	return;
}

my $view = q{SELECT count(*), sum(click_count), md5(string_agg(v::text, ',' ORDER BY ad_id, click_minute, country, region, device)) FROM adclick.clicks_per_minute v};
my $top = q{SELECT string_agg(t::text, ',') FROM adclick.top_n_ads_between(100000, '2020-01-01', 'infinity') t};

# What plain SQL says of the ads of some advertisers.
sub expected
{
	my ($server, $database, @advertisers) = @_;
	my $list = join ',', @advertisers;
	my $of = "(SELECT c.minute AS click_minute, c.ad_id, a.advertiser_id, c.country, c.region, c.device, c.clicks AS click_count
		FROM oracle.facts() c JOIN adclick.ads a USING (ad_id) WHERE a.advertiser_id IN ($list))";
	my $rows = $server->safe_psql($database, $view =~ s/adclick\.clicks_per_minute/$of/r);
	my $ranked = $server->safe_psql($database, "SELECT string_agg(format('(%s,%s,%s)', rank, ad_id, n), ',' ORDER BY rank)
		FROM (SELECT ad_id, sum(click_count) AS n, row_number() OVER (ORDER BY sum(click_count) DESC, ad_id) AS rank FROM $of v
			WHERE click_minute >= '2020-01-01' GROUP BY 1) r");

	return "$rows|$ranked";
}

sub told { my ($server, $database, $role) = @_; return join '|', map { as($server, $database, $role, $_) } $view, $top }

sub sees_own
{
	my ($server, $database, $role, $step, @advertisers) = @_;

	is(told($server, $database, $role), expected($server, $database, @advertisers), "$step: $role");
	return;
}

#
# Clicks in each place where they can be
#
sql('postgres', 'CREATE ROLE shoes LOGIN IN ROLE adclick_advertiser; CREATE ROLE tea LOGIN IN ROLE adclick_advertiser;
	CREATE ROLE agency LOGIN IN ROLE shoes, tea; CREATE ROLE runs_it LOGIN IN ROLE adclick_admin');
as($node, 'shop', 'runs_it', q{INSERT INTO adclick.advertiser_roles VALUES ('shoes', 7), ('shoes', 17), ('tea', 8), ('agency', 9)});
send_clicks($node, 'shop', 4000);
drained($node, 'shop');
sql('shop', 'SELECT oracle.compact()');
send_clicks($node, 'shop', 1000);
drained($node, 'shop');
quiet_workers($node, 'shop');
send_clicks($node, 'shop', 1000);

sub all_see_own
{
	my ($server, $database, $step) = @_;

	sees_own($server, $database, 'shoes', $step, 7, 17);
	sees_own($server, $database, 'tea', $step, 8);
	sees_own($server, $database, 'agency', $step, 7, 8, 9, 17);
	refused($server, $database, 'tea', 'SELECT adclick.advertiser_click_count(7, 60)', qr/42501: permission denied to ask about this advertiser/, "$step: tea is not shoes");
	return;
}

all_see_own($node, 'shop', 'on the primary');
is(sql('shop', 'SELECT * FROM adclick.health()'), 'ok|', 'the health is what it was');

#
# By the admin, who is no superuser
#
is(as($node, 'shop', 'runs_it', $_) ne '', 1, "the admin: $_")
	for 'SELECT adclick.tick()', 'SELECT adclick.compact()', 'SELECT adclick.check_ledger()', q{SELECT adclick.add_filter('{"country": "CA"}')},
	q{SELECT adclick.recompute(date_trunc('hour', now() - interval '3 hours', 'UTC'), date_trunc('hour', now() - interval '2 hours', 'UTC'))},
	'SELECT adclick.apply_retention()', 'SELECT adclick.forget_user(-4711)', 'SELECT health FROM adclick.health()', 'SELECT count(*) FROM adclick.click_log',
	'SELECT adclick.release_clicks()', 'SELECT adclick.ad_click_count(1, 60)', 'SELECT adclick.unique_users(1, 60)';
as($node, 'shop', 'runs_it', "CALL adclick.reconcile('-infinity', 'infinity')");
as($node, 'shop', 'runs_it', 'SELECT adclick.rotate_impression_secret()');
as($node, 'shop', 'runs_it', q{INSERT INTO adclick.ads (ad_id, advertiser_id) VALUES (900001, 8); UPDATE adclick.ads SET website = 'x' WHERE ad_id = 900001; DELETE FROM adclick.ads WHERE ad_id = 900001});
as($node, 'shop', 'runs_it', q{SELECT adclick.drop_filter('{"country": "CA"}')});
refused($node, 'shop', 'runs_it', $_->[0], $_->[1], "not the admin: $_->[0]")
	for [ 'SELECT adclick.begin_restore()', qr/42501: permission denied for function begin_restore/ ], [ 'SELECT adclick.schedule()', qr/42501: permission denied for function schedule/ ],
	[ 'DROP EXTENSION adclick', qr/42501/ ], [ 'SELECT adclick.archive_volume()', qr/42501: permission denied to have the server use files|55000/ ],
	[ 'DELETE FROM adclick.reconciled_hours', qr/42501/ ], [ 'TABLE adclick_internal.state', qr/42501/ ], [ 'SET ROLE adclick_owner', qr/42501/ ];
all_see_own($node, 'shop', 'after what the admin did');

#
# On a standby, which follows
#
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
send_clicks($node, 'shop', 500);
$node->wait_for_catchup($standby);
all_see_own($standby, 'shop', 'on a standby');
as($node, 'shop', 'runs_it', q{DELETE FROM adclick.advertiser_roles WHERE role_name = 'tea'});
$node->wait_for_catchup($standby);
refused($standby, 'shop', 'tea', $view, $DENIED, 'on a standby: no row any more');
as($node, 'shop', 'runs_it', q{INSERT INTO adclick.advertiser_roles VALUES ('tea', 9)});
$node->wait_for_catchup($standby);
sees_own($standby, 'shop', 'tea', 'on a standby, another advertiser', 9);
as($node, 'shop', 'runs_it', q{UPDATE adclick.advertiser_roles SET advertiser_id = 8 WHERE role_name = 'tea'});
$standby->stop;

#
# Restored: advertisers are known by name, also where their roles are made later
#
sql('shop', 'SELECT adclick.tick()');
for my $format ('c', 'p')
{
	command_ok([ 'pg_dump', "-F$format", '-d', $node->connstr('shop'), '-f', "$dir/$format" ], "pg_dump -F$format");
}
sub make_database { $_[0]->safe_psql('postgres', "CREATE DATABASE $_[1]"); $_[0]->safe_psql('postgres', "ALTER DATABASE $_[1] SET adclick.workers = off"); return }
make_database($node, 'restored');
command_ok([ 'pg_restore', '-d', $node->connstr('restored'), "$dir/c" ], 'restored here');
all_see_own($node, 'restored', 'restored');
is(sql('restored', 'SELECT count(*) FROM adclick.advertiser_roles'), sql('shop', 'SELECT count(*) FROM adclick.advertiser_roles'), 'all rows came');

my $other = adclick_node('other');
$other->start;
make_database($other, 'elsewhere');
command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('elsewhere'), '-f', "$dir/p" ], 'and in a server that has no such roles');
$other->safe_psql('elsewhere', 'CREATE ROLE shoes LOGIN; CREATE ROLE tea LOGIN IN ROLE adclick_advertiser; CREATE ROLE agency LOGIN IN ROLE shoes, tea');
refused($other, 'elsewhere', 'shoes', $view, qr/42501: permission denied for schema adclick/, 'who is no member there');
$other->safe_psql('elsewhere', 'GRANT adclick_advertiser TO shoes');
all_see_own($other, 'elsewhere', 'elsewhere');

#
# Roles that come and go
#
sql('shop', 'ALTER ROLE tea RENAME TO coffee');
refused($node, 'shop', 'coffee', $_, $DENIED, "renamed: $_") for $view, $top, 'TABLE adclick.own_ads', 'SELECT adclick.ad_click_count(1, 5)';
sql('shop', 'CREATE ROLE tea LOGIN');
refused($node, 'shop', 'tea', $view, qr/42501: permission denied for schema adclick/, 'one of the name is no member by it');
sql('shop', 'DROP ROLE tea; ALTER ROLE coffee RENAME TO tea');
all_see_own($node, 'shop', 'by its name again');
sql('shop', 'DROP ROLE shoes');
sees_own($node, 'shop', 'agency', 'without a role that it was a member of', 8, 9);

# A session that is under way, and prepared all: what it may know ends at once.
my $session = $node->background_psql('shop', on_error_stop => 0, extra_params => [ '-U', 'tea' ]);
$session->query("PREPARE p AS $view");
is($session->query('EXECUTE p'), as($node, 'shop', 'tea', $view), 'a prepared statement');
as($node, 'shop', 'runs_it', q{INSERT INTO adclick.advertiser_roles VALUES ('tea', 7)});
is($session->query('EXECUTE p'), as($node, 'shop', 'tea', $view), 'knows of a new row');
isnt($session->query('EXECUTE p'), '', 'and has clicks');
as($node, 'shop', 'runs_it', q{DELETE FROM adclick.advertiser_roles WHERE role_name = 'tea'});
is($session->query('EXECUTE p'), '', 'and of a deleted one');
like($session->{stderr}, qr/permission denied to ask about clicks/, 'which is an error');
$session->quit;

wake_workers($node);
drained($node, 'shop');
exact_ok($node, 'shop', 'in the end');

done_testing();
