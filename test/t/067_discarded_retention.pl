# What was not counted ends with the ledger of its time, by the workers, as time goes, which the
# test lets pass (lib/AdclickRetention.pm).  It is shown whole, less what was dropped as a whole, and
# the books say so: through crashes, also between the two steps of a drop, on a standby, from
# a dump, and for snapshots from before, which see what they saw, or an error.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickRetention;
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = retention_node('ledger', 'ledger_volumes', 'adclick.ledger_retention' => "'3d'");
sub sql { return $node->safe_psql('clicks', $_[0]) }

# What was set aside, by the test's own notes, with the volume of that time.
sql(q{
	CREATE TABLE notes (era int, LIKE adclick.discarded_clicks);
	CREATE VIEW of_notes AS SELECT click_id, ad_id, clicked_at, user_id, received_at, ip, country, region, device, reason, discarded_at
		FROM notes WHERE era >= (SELECT min(volume) FROM ledger_volumes WHERE dropped_at IS NULL)});

my $OLDEST = 'SELECT min(volume) FROM ledger_volumes WHERE dropped_at IS NULL';
my $SHOWN = 'SELECT count(*) FROM adclick.discarded_clicks';

sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($server, $name, $database) = (@_, 'clicks');

	is($server->safe_psql($database, q{
		SELECT count(*) FROM ((TABLE of_notes EXCEPT ALL TABLE adclick.discarded_clicks) UNION ALL (TABLE adclick.discarded_clicks EXCEPT ALL TABLE of_notes)) d}),
		'0', "$name: what is shown");
	is($server->safe_psql($database, q{
		SELECT discarded_dropped - (SELECT count(*) FROM notes) + (SELECT count(*) FROM of_notes), duplicates + discarded - (SELECT count(*) FROM notes) FROM adclick.status}),
		'0|0', "$name: the status");
	is($server->safe_psql($database, 'SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books are balanced");
	is($server->safe_psql($database, 'SELECT * FROM adclick_internal.find_missing()'), '', "$name: nothing is missing");
	return;
}

# What ticks have set aside since; the volume has been the same.
sub note_set_aside
{
	sql(q{INSERT INTO notes SELECT (SELECT max(volume) FROM ledger_volumes), d.* FROM adclick.discarded_clicks d WHERE discarded_at > coalesce((SELECT max(discarded_at) FROM notes), '-infinity')});
	return;
}

# Volumes are opened each tenth of a day; no time passes while clicks come.
sql('UPDATE ledger_volumes SET volume = 5');	# tables 0 to 4 are free, see retention_round
pass_time(61 * $MINUTE);
for my $volume (6 .. 11)
{
	send_clicks($node, 'clicks', 200, '30 minutes');
	drained($node, 'clicks');
	send_copies($node, 'clicks', 50);
	sql(q{INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT i, now() - interval '50 days' FROM generate_series(1, 5) i});
	drained($node, 'clicks');
	note_set_aside();
	pass_time(2 * $MINUTE);
	packed($node, 'clicks');
	pass_time(144 * $MINUTE);
	becomes("SELECT max(volume) >= $volume FROM ledger_volumes", 'that a volume is opened');
}
cmp_ok(sql('SELECT count(DISTINCT era) FROM notes'), '>=', 5, 'there are some in each volume');
right_ok($node, 'some volumes');

# A standby, and snapshots here and there from before.
my $standby = retention_standby();

my $reader = begin_reader($node);
my $before = sql($SHOWN);
my $far_reader = begin_reader($standby);

# After three days one volume goes each hour; what was there is there for who has seen it.
pass_time(3 * $DAY - 10 * $HOUR);
becomes("SELECT dropped_at IS NOT NULL FROM ledger_volumes ORDER BY volume LIMIT 1", 'that a volume is dropped');
right_ok($node, 'dropped');
cmp_ok(sql($SHOWN), '<', $before, 'some have gone');
retention_round();
my $volume = sql('SELECT min(volume) FROM ledger_volumes');
cmp_ok(sql("SELECT pg_relation_size('adclick_internal.discarded_$volume')"), '>', 0, 'their table waits');
is($reader->query_safe($SHOWN), $before, 'a snapshot from before sees them');

# The snapshot keeps its table for an hour, and no longer.
pass_time(61 * $MINUTE);
becomes("SELECT NOT EXISTS (SELECT FROM ledger_volumes WHERE volume = $volume)", 'an empty table');
is(sql("SELECT pg_relation_size('adclick_internal.discarded_$volume')"), '0', 'its table is empty');
$reader->query($SHOWN);
like($reader->{stderr}, qr/snapshot too old for adclick\.discarded_clicks/, 'a snapshot from before gets an error, and no smaller number');
$reader->quit;
right_ok($node, 'emptied');
is(sql(q{SELECT coalesce(sum(n_tup_del + n_tup_upd + n_dead_tup), 0) FROM pg_stat_user_tables WHERE relname ~ '^discarded_'}), '0', 'no dead rows');

# On the standby: from before the drop, an end of the query or an error; else what is right.
$node->wait_for_catchup($standby);
right_ok($standby, 'the standby');
my $said = eval { my $got = $far_reader->query($SHOWN); $far_reader->{stderr} || $got } // $@;
like($said, qr/snapshot too old for adclick\.discarded_clicks|conflict with recovery|connection|ended prematurely|^$before$/, 'a snapshot from before, there');
eval { $far_reader->quit };

# Killed between the two steps: somebody reads the table, so that it cannot be emptied.
my $third = sql($OLDEST);
$reader = $node->background_psql('clicks');
$reader->query_safe("BEGIN; SELECT count(*) FROM adclick_internal.discarded_$third");
pass_time(6 * $HOUR);
becomes("SELECT ($OLDEST) > $third", 'that a third volume is dropped');
retention_round();
is(sql("SELECT count(*) FROM ledger_volumes WHERE volume = $third AND dropped_at IS NOT NULL"), '1', 'its table is in use');
cmp_ok(sql("SELECT count(*) FROM adclick_internal.discarded_$third"), '>', 0, 'and has its rows');
right_ok($node, 'in use');

# A dump of that has the rows of the table, and who restores it the same as is shown here.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
command_ok([ 'pg_dump', '-Fc', '-d', $node->connstr('clicks'), '-f', $dump ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE again; ALTER DATABASE again SET adclick.workers = off');
command_ok([ 'pg_restore', '-d', $node->connstr('again'), $dump ], 'pg_restore');
cmp_ok($node->safe_psql('again', "SELECT count(*) FROM adclick_internal.discarded_$third"), '>', 0, 'the rows of the table come, too');
right_ok($node, 'restored', 'again');
$node->safe_psql('again', 'SELECT adclick.apply_retention()');
is($node->safe_psql('again', "SELECT count(*) FROM adclick_internal.discarded_$third"), '0', 'its table is emptied, as no other server is waited for');
right_ok($node, 'restored and emptied', 'again');

$node->stop('immediate');
eval { $reader->quit };
$node->start;
workers_ready($node, 'clicks');
right_ok($node, 'killed between the steps');
pass_time($MINUTE + 1);
becomes("SELECT NOT EXISTS (SELECT FROM ledger_volumes WHERE volume = $third)", 'an empty table');
is(sql("SELECT pg_relation_size('adclick_internal.discarded_$third')"), '0', 'the table is emptied then');
right_ok($node, 'emptied after that');
is(sql('SELECT health FROM adclick.health()'), 'ok', 'all is well');
$node->wait_for_catchup($standby);
right_ok($standby, 'the standby in the end');
$standby->stop;
$node->stop;

done_testing();
