# One chore that fails stops no other: it is rolled back, told, and tried again.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('chores');

$node->start;
adclick_database($node, 'clicks');
send_clicks($node, 'clicks', 2000);
exact_ok($node, 'clicks', 'before');

# The compactor waits for who has its lock, however long that takes: only its rounds of retention, which came
# before, give up after five seconds.
my $owner = $node->background_psql('clicks', on_error_stop => 1);
$owner->query_safe(q{BEGIN; SELECT adclick.add_filter('{"country": "CA"}')});
$node->safe_psql('clicks', q{INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT i, now() - i * interval '1 minute' FROM generate_series(1, 60) i});
ok($node->poll_query_until('clicks', q{
	SELECT errors > 0 OR EXISTS (SELECT FROM pg_locks WHERE pid = compactor_pid AND waitstart < clock_timestamp() - interval '6 seconds')
	FROM adclick.status}), 'a lock that the compactor needs is held for long');
is($node->safe_psql('clicks', 'SELECT errors, last_error FROM adclick.status'), '0|', 'that is no error');
$owner->query_safe('ROLLBACK');
$owner->quit;
exact_ok($node, 'clicks', 'after a long wait');

# Keys of old windows are not loaded: a click there is looked for among the stored ones.
$node->restart;
workers_ready($node, 'clicks');
drained($node, 'clicks');
quiet_workers($node, 'clicks');
my $aggregator = $node->safe_psql('clicks', 'SELECT aggregator_pid FROM adclick.status');
my $compactor = $node->safe_psql('clicks', 'SELECT compactor_pid FROM adclick.status');
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at) SELECT gen_random_uuid(), 7, now() - interval '3 hours' FROM generate_series(1, 10);
	SELECT adclick.tick()});
send_clicks($node, 'clicks', 1000);
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT i, now() - interval '10 minutes' FROM generate_series(1, 100) i;
	INSERT INTO adclick.clicks (ad_id) SELECT i FROM generate_series(1, 100) i;
	SELECT adclick.tick()});

# Every delta is damaged, or lacks a segment, but for keys: nothing can be merged.
$node->safe_psql('clicks', q{
	CREATE TABLE undamaged (LIKE adclick_internal.deltas INCLUDING STORAGE);
	INSERT INTO undamaged SELECT * FROM adclick_internal.deltas WHERE run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order < 3);
	CREATE TABLE undamaged_minutes (LIKE adclick_internal.segments INCLUDING STORAGE);
	DELETE FROM adclick_internal.deltas WHERE number = 0 AND run_id % 2 = 0 AND run_id IN (SELECT run_id FROM undamaged);
	UPDATE adclick_internal.deltas SET data = set_byte(data, 0, 255) WHERE run_id % 2 = 1 AND run_id IN (SELECT run_id FROM undamaged)});
wake_workers($node);
ok($node->poll_query_until('clicks', q{SELECT coalesce(last_error LIKE 'compaction: %segment%', false) FROM adclick.status}),
	'the status tells which chore fails, and why');
send_clicks($node, 'clicks', 500);
ok($node->poll_query_until('clicks', 'SELECT lag_rows = 0 FROM adclick.status'), 'and ticks go on');
conserved_ok($node, 'clicks', 'while compaction fails');
is($node->safe_psql('clicks', 'SELECT aggregator_pid, compactor_pid FROM adclick.status'), "$aggregator|$compactor",
	'in the same processes');

# Nor are the damaged deltas in the way of others.
my $left = q{SELECT count(*), count(*) FILTER (WHERE run_id % 2 = 0) > 0 FROM (SELECT DISTINCT run_id FROM undamaged) u JOIN adclick_internal.runs USING (run_id)};
my $damaged = $node->safe_psql('clicks', $left);
like($damaged, qr/^[0-9]+\|t$/, 'segments are missing');
my $t = $node->safe_psql('clicks', q{SELECT date_trunc('minute', now() - interval '30 minutes')});
my $pending = q{SELECT count(*) FROM adclick_internal.runs r, unnest(minutes) m
	WHERE sort_order = 0 AND is_delta AND m BETWEEN '%s' AND timestamptz '%s' + interval '5 minutes'};
$pending =~ s/%s/$t/g;

sub send_to_minutes
{
	$node->safe_psql('clicks', qq{
		INSERT INTO adclick.clicks (ad_id, clicked_at)
		SELECT i, timestamptz '$t' + i % 5 * interval '1 minute' FROM generate_series(1, 1000) i; SELECT adclick.tick()});
	return;
}

send_to_minutes();
wake_workers($node);
ok($node->poll_query_until('clicks', "SELECT ($pending) = 0"), 'new deltas are merged');
is($node->safe_psql('clicks', $left), $damaged, 'without the damaged ones');

# Nor is a damaged minute in the way of other minutes.
my $minute = $node->safe_psql('clicks', qq{SELECT run_id FROM adclick_internal.runs WHERE sort_order = 0 AND NOT is_delta AND last_minute = '$t'});
$node->safe_psql('clicks', qq{
	INSERT INTO undamaged_minutes SELECT * FROM adclick_internal.segments WHERE run_id = $minute;
	DELETE FROM adclick_internal.segments WHERE run_id = $minute});
send_to_minutes();
wake_workers($node);
ok($node->poll_query_until('clicks', qq{
	SELECT count(*) = 5 AND bool_and(is_carried = (m = '$t')) FROM (
		SELECT m, bool_or(is_delta) AS is_carried FROM adclick_internal.runs r, unnest(minutes) m
		WHERE sort_order = 0 AND m >= '$t' AND m < timestamptz '$t' + interval '5 minutes'
			AND run_id NOT IN (SELECT run_id FROM undamaged) GROUP BY m) minutes}),
	'other minutes are written, its new clicks are carried along');
isnt(($node->psql('clicks', "SELECT adclick.ad_click_count_between(5, '$t', timestamptz '$t' + interval '1 minute')"))[0], 0, 'it is not answered');
is($node->safe_psql('clicks', qq{SELECT adclick.ad_click_count_between(6, timestamptz '$t' + interval '1 minute', timestamptz '$t' + interval '2 minutes')}),
	'2', 'others are');

# Mended, they are merged like others; a new compactor knows nothing of their damage.
$node->safe_psql('clicks', q{
	INSERT INTO adclick_internal.deltas SELECT * FROM undamaged ON CONFLICT (run_id, first_key, number) DO UPDATE SET data = excluded.data;
	INSERT INTO adclick_internal.segments SELECT * FROM undamaged_minutes});
exact_ok($node, 'clicks', 'mended');
$node->safe_psql('clicks', 'SELECT pg_terminate_backend(compactor_pid) FROM adclick.status');
ok($node->poll_query_until('clicks', q{
	SELECT NOT EXISTS (SELECT FROM undamaged u JOIN adclick_internal.runs r USING (run_id) WHERE is_delta)}), 'compaction has caught up');
lists_ok($node, 'clicks', 'mended');

# A server where PUBLIC has no right to the types of the columns: clicks are counted all the
# same, or wait until it has, and the status tells.
adclick_database($node, 'hardened');
$node->safe_psql('hardened', 'REVOKE USAGE ON TYPE uuid, inet, timestamptz, text FROM PUBLIC');
$node->safe_psql('hardened', 'SELECT pg_terminate_backend(p, 60000) FROM adclick_internal.workers(), unnest(ARRAY[aggregator_pid, compactor_pid]) p');
workers_ready($node, 'hardened');
send_clicks($node, 'hardened', 1000);
exact_ok($node, 'hardened', 'without rights to types');
$node->safe_psql('hardened', 'GRANT USAGE ON TYPE uuid, inet, timestamptz, text TO PUBLIC');

$node->safe_psql('hardened', 'REVOKE USAGE ON SCHEMA pg_catalog FROM PUBLIC');
send_clicks($node, 'hardened', 1000);
ok($node->poll_query_until('hardened', q{SELECT last_error LIKE '%: permission denied for schema pg_catalog' FROM adclick_internal.workers()}),
	'the status tells that the role lacks a schema');
$node->safe_psql('hardened', 'GRANT USAGE ON SCHEMA pg_catalog TO adclick_owner');
exact_ok($node, 'hardened', 'with the schema again');

# What PUBLIC has on the database and on languages is not needed.
$node->safe_psql('hardened', q{
	REVOKE ALL ON DATABASE hardened FROM PUBLIC;
	REVOKE USAGE ON LANGUAGE sql, plpgsql FROM PUBLIC;
	REVOKE ALL ON SCHEMA public FROM PUBLIC;
	SELECT pg_terminate_backend(p, 60000) FROM adclick_internal.workers(), unnest(ARRAY[aggregator_pid, compactor_pid]) p});
workers_ready($node, 'hardened');
send_clicks($node, 'hardened', 1000);
exact_ok($node, 'hardened', 'without rights on the database');

#
# Stored keys are damaged: what needs them is set aside, and everything else goes on
#
my $keys = "run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order = 3)";
my $undecided = q{SELECT count(*) FROM adclick.discarded_clicks WHERE reason = 'undecided'};
quiet_workers($node, 'clicks');
$node->safe_psql('clicks', qq{
	CREATE TABLE copies AS SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM adclick.click_log
		WHERE click_id IS NOT NULL AND clicked_at > now() - interval '5 hours' ORDER BY reverse(click_id::text) LIMIT 300;
	CREATE TABLE undamaged_keys AS
		SELECT run_id, first_key, number, get_byte(data, 5) AS byte FROM adclick_internal.deltas WHERE $keys
		UNION ALL SELECT run_id, first_key, number, get_byte(data, 5) FROM adclick_internal.ledger_0 WHERE $keys;
	UPDATE adclick_internal.deltas SET data = set_byte(data, 5, 255 - get_byte(data, 5)) WHERE $keys;
	UPDATE adclick_internal.ledger_0 SET data = set_byte(data, 5, 255 - get_byte(data, 5)) WHERE $keys});
$node->restart;
workers_ready($node, 'clicks');
quiet_workers($node, 'clicks');
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device) TABLE copies;
	INSERT INTO adclick.clicks (ad_id, clicked_at) SELECT 77, now() + interval '4 minutes' FROM generate_series(1, 10)});
is($node->safe_psql('clicks', $undecided), '0', 'none is undecided until a tick');
like(($node->psql('clicks', "SELECT adclick.ad_click_count_between(1, '-infinity', 'infinity')"))[2],
	qr/segment .* is damaged/, 'damaged keys: no answer that needs them');
wake_workers($node);
ok($node->poll_query_until('clicks', 'SELECT lag_rows = 0 FROM adclick.status'), 'damaged keys: ticks go on');
cmp_ok($node->safe_psql('clicks', $undecided), '>', 50, 'what cannot be decided is set aside');
$node->safe_psql('clicks', qq{
	UPDATE adclick_internal.deltas d SET data = set_byte(data, 5, byte) FROM undamaged_keys u
	WHERE (u.run_id, u.first_key, u.number) = (d.run_id, d.first_key, d.number);
	UPDATE adclick_internal.ledger_0 d SET data = set_byte(data, 5, byte) FROM undamaged_keys u
	WHERE (u.run_id, u.first_key, u.number) = (d.run_id, d.first_key, d.number)});
conserved_ok($node, 'clicks', 'mended');
verdicts_ok($node, 'clicks', 'mended', may_be_undecided => 1);
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT click_id, ad_id, clicked_at, user_id, ip, country, region, device FROM adclick.discarded_clicks WHERE reason = 'undecided'});
drained($node, 'clicks');
is($node->safe_psql('clicks', q{SELECT count(*) FROM oracle.clicks()}), $node->safe_psql('clicks', 'SELECT clicks_counted FROM adclick.status'),
	'mended, and sent again: exact');
exact_ok($node, 'clicks', 'after keys were damaged', may_be_undecided => 1);

done_testing();
