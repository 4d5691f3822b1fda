# Retention of what is found by user and by address, by the workers, as time goes, which the
# test lets pass (lib/AdclickRetention.pm).  Questions up to the line are refused, all others have
# the answers of the log: through crashes, also between the two steps of a drop, on a standby,
# and for snapshots from before, which see what they saw, or an error.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickRetention;
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = retention_node('people', 'people', 'adclick.user_and_ip_retention' => "'3d'");
sub sql { return $node->safe_psql('clicks', $_[0]) }

sql(q{
	CREATE FUNCTION line() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT coalesce(people_dropped_until, '2000-01-01') FROM adclick_internal.state $$;

	-- Of each ad, the users that clicked it behind the line: by a question, and by the log.
	CREATE FUNCTION wrong_answers() RETURNS TABLE (ad_id bigint, expected bigint, answer bigint) LANGUAGE sql STABLE AS $$
	SELECT c.ad_id, count(DISTINCT user_id) FILTER (WHERE minute > line), adclick.unique_users_between(c.ad_id, line + interval '1 minute', 'infinity')
	FROM oracle.clicks() c CROSS JOIN (SELECT line()) l (line) GROUP BY c.ad_id, line
	HAVING count(DISTINCT user_id) FILTER (WHERE minute > line) <> adclick.unique_users_between(c.ad_id, line + interval '1 minute', 'infinity')
	$$;

	-- Facts by user and address behind the line that are in another number than the log makes.
	CREATE FUNCTION wrong_facts() RETURNS bigint LANGUAGE sql STABLE AS $$
	WITH clicks AS MATERIALIZED (
		SELECT * FROM oracle.clicks(true) WHERE minute > (SELECT line())
	), stored AS MATERIALIZED (
		SELECT o, f.ad_id, f.click_minute, f.user_id, f.ip, sum(f.click_count)::bigint
		FROM generate_series(1, 2) o CROSS JOIN LATERAL adclick_internal.facts(o) f WHERE f.click_minute > (SELECT line()) GROUP BY 1, 2, 3, 4, 5
	), expected AS MATERIALIZED (
		SELECT 1, ad_id, minute, user_id, NULL::inet, count(*) FROM clicks WHERE user_id IS NOT NULL GROUP BY 2, 3, 4
		UNION ALL SELECT 2, ad_id, minute, user_id, ip, count(*) FROM clicks WHERE ip IS NOT NULL GROUP BY 2, 3, 4, 5
	)
	SELECT count(*) FROM ((TABLE stored EXCEPT ALL TABLE expected) UNION ALL (TABLE expected EXCEPT ALL TABLE stored)) d
	$$;
});

# What the counts by ad are of, from now on.
my $COUNTS = q{SELECT md5(string_agg(f::text, ',' ORDER BY f::text)) FROM (
	SELECT ad_id, click_minute, country, region, device, sum(click_count) AS clicks FROM adclick.clicks_per_minute GROUP BY 1, 2, 3, 4, 5) f};
my $LINE = 'SELECT line()';

# The oldest volume that was not dropped.
my $OLDEST = 'SELECT min(volume) FROM people WHERE dropped_at IS NULL';

sub right_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($server, $expected, $name) = @_;

	is($server->safe_psql('clicks', $COUNTS), $expected, "$name: counts by ad are as they were");
	is($server->safe_psql('clicks', 'SELECT * FROM wrong_answers()'), '', "$name: answers behind the line");
	is($server->safe_psql('clicks', 'SELECT wrong_facts()'), '0', "$name: facts behind the line");
	is($server->safe_psql('clicks', 'SELECT balanced FROM adclick.check_ledger()'), 't', "$name: the books are balanced");
	return if $server->safe_psql('clicks', q{SELECT line() < '2001-01-01'}) eq 't';
	my (undef, undef, $said) = $server->psql('clicks', q{SELECT adclick.unique_users_between(1, line(), line() + interval '1 minute') });
	like($said, qr/clicks of this window are not all kept by user and by address.*Those up to .* have been dropped.*Ask from .* on/s, "$name: at the line they are refused");
	return;
}

# Volumes are opened each tenth of a day (three days, in thirty parts), not before an hour has passed since the start.
is(sql('SELECT count(*) FROM people'), '1', 'one volume at first');
sql('UPDATE people SET volume = 5');	# tables 0 to 4 are free, see retention_round
pass_time(61 * $MINUTE);
for my $volume (6 .. 11)
{
	send_clicks($node, 'clicks', 300, '1 hour');
	drained($node, 'clicks');
	pass_time(2 * $MINUTE);
	packed($node, 'clicks');
	pass_time(144 * $MINUTE);
	becomes("SELECT max(volume) >= $volume FROM people", 'that a volume is opened');
}
my $counts = sql($COUNTS);
right_ok($node, $counts, 'some volumes');
cmp_ok(sql('SELECT count(DISTINCT volume) FROM adclick_internal.runs WHERE sort_order IN (1, 2)'), '>=', 5, 'what is found by user and address lies in them');
is(sql(q{SELECT count(*) FROM adclick_internal.volumes WHERE shelf = 'ledger'}), '1', 'the ledger has one volume');

# A standby, and snapshots here and there from before.
my $standby = retention_standby();

my $ALL_USERS = q{SELECT sum(adclick.unique_users_between(ad, '-infinity', 'infinity')) FROM generate_series(1, 20) ad};

my $reader = begin_reader($node);
my $before = $reader->query_safe($ALL_USERS);
cmp_ok($before, '>', 20, "there are users: $before");
my $far_reader = begin_reader($standby);

# After three days, one volume goes each hour; what was there is there for who has seen it.
pass_time(3 * $DAY - 10 * $HOUR);
becomes("SELECT dropped_at IS NOT NULL FROM people ORDER BY volume LIMIT 1", 'that a volume is dropped');
my $line = sql($LINE);
right_ok($node, $counts, 'dropped');
is(sql('SELECT clicks_dropped FROM adclick.status'), '0', 'the ledger has all');
retention_round();
is($reader->query_safe($ALL_USERS), $before, 'a snapshot from before sees them');
is(sql('SELECT count(*) FROM people WHERE dropped_at IS NOT NULL'), '1', 'their table waits');

# The snapshot keeps its table for an hour, and no longer.
my $volume = sql('SELECT min(volume) FROM people');
pass_time(61 * $MINUTE);
becomes("SELECT NOT EXISTS (SELECT FROM people WHERE volume = $volume)", 'an empty table');
is(sql("SELECT pg_relation_size('adclick_internal.people_$volume')"), '0', 'its table is empty');
$reader->query($ALL_USERS);
like($reader->{stderr}, qr/snapshot too old for clicks by user and by address/, 'a snapshot from before gets an error, and no smaller number');
$reader->quit;
$reader = begin_reader($node);
is($reader->query_safe($COUNTS), $counts, 'counts by ad need none of it');
$reader->quit;

# One an hour.
retention_round();
my $second = sql($OLDEST);
cmp_ok(sql("SELECT line() > '$line'"), 'eq', 't', 'an hour later the next one goes');
retention_round();
is(sql($OLDEST), $second, 'none within the hour, although one is due') if sql("SELECT count(*) FROM people WHERE opened_at < now() - interval '3 days'") > 1;
right_ok($node, $counts, 'two volumes');

# Nothing was deleted for VACUUM to come for, but the rows of runs.
is(sql(q{SELECT coalesce(sum(n_tup_del + n_tup_upd + n_dead_tup), 0) FROM pg_stat_user_tables WHERE schemaname = 'adclick_internal' AND relname ~ '^people_'}), '0', 'no dead rows');

# On the standby: from before the drop, an end of the query or an error; else what is right.
$node->wait_for_catchup($standby);
right_ok($standby, $counts, 'the standby');
is($standby->safe_psql('clicks', $LINE), sql($LINE), 'it knows the line');
my $said = eval { my $got = $far_reader->query($ALL_USERS); $far_reader->{stderr} || $got } // $@;
like($said, qr/snapshot too old for clicks by user|conflict with recovery|connection|ended prematurely|^$before$/, 'a snapshot from before, there');
eval { $far_reader->quit };

# Killed between the two steps: somebody reads the table, so that it cannot be emptied.
my $third = sql($OLDEST);
$reader = $node->background_psql('clicks');
$reader->query_safe("BEGIN; SELECT count(*) FROM adclick_internal.people_$third");
pass_time(6 * $HOUR);
becomes("SELECT ($OLDEST) > $third", 'that a third volume is dropped');
retention_round();
is(sql("SELECT count(*) FROM people WHERE volume = $third AND dropped_at IS NOT NULL"), '1', 'its table is in use');
right_ok($node, $counts, 'in use');
$line = sql($LINE);
$node->stop('immediate');
eval { $reader->quit };
$node->start;
workers_ready($node, 'clicks');
is(sql($LINE), $line, 'killed between the steps: the line is where it was');
right_ok($node, $counts, 'killed between the steps');
pass_time($MINUTE + 1);
becomes("SELECT NOT EXISTS (SELECT FROM people WHERE volume = $third)", 'an empty table');
is(sql("SELECT pg_relation_size('adclick_internal.people_$third')"), '0', 'the table is emptied then');
right_ok($node, $counts, 'emptied after that');

# The server is killed while they go, with clicks that come for the time that is gone.
for my $round (1 .. 4)
{
	my $was = sql($LINE);

	send_clicks($node, 'clicks', 200, '1 hour');
	drained($node, 'clicks');
	$counts = sql($COUNTS);
	pass_time(5 * $HOUR);
	usleep(int rand 1_500_000);
	$node->stop('immediate');
	$node->start;
	workers_ready($node, 'clicks');
	right_ok($node, $counts, "killed, $round");
	is(sql("SELECT line() >= '$was'"), 't', "the line does not go back, $round");
}
is(sql('SELECT health FROM adclick.health()'), 'ok', 'all is well');
$node->wait_for_catchup($standby);
right_ok($standby, $counts, 'the standby in the end');
$standby->stop;
$node->stop;

done_testing();
