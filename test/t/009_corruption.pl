# Damaged segments: a question is answered as before or fails with an error that
# names the segment; no number is wrong, and nothing crashes.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main', 'adclick.watermark' => "'0s'");
$node->start;
adclick_database($node, 'clicks');
$node->safe_psql('clicks', q{
	INSERT INTO adclick.clicks (ad_id, clicked_at, country, user_id, ip, click_id)
	SELECT (random() * 3000)::int, date_trunc('minute', now()) - interval '2 minutes' - (i % 3) * interval '1 minute', 'C' || i % 7,
		(random() * 3000)::int, CASE WHEN i % 2 = 0 THEN '10.0.0.0'::inet ELSE '2001:db8::' END + (random() * 3000)::int, NULL
	FROM generate_series(1, 20000) i});
drained($node, 'clicks');
$node->safe_psql('clicks', 'SELECT adclick.compact()');
quiet_workers($node, 'clicks');
for my $n (6000, 100, 100)
{
	send_clicks($node, 'clicks', $n);
	$node->safe_psql('clicks', 'SELECT adclick.tick()');
}
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.segments'), '>', 5, 'there are segments');
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.deltas'), '>', 0, 'there are deltas');
facts_ok($node, 'clicks', 'undamaged');

# Questions, and their answers while nothing is damaged; NULL: it may be any.  Those
# of kind "all" are asked together with those of kind "few", which read every segment
# as well; those of kind "one" are about an ad, user or address each.
$node->safe_psql('clicks', q{
	CREATE TABLE oracle.questions (id int GENERATED ALWAYS AS IDENTITY, kind text, question text, answer text);

	CREATE TABLE oracle.users AS SELECT DISTINCT user_id FROM adclick.click_log WHERE user_id IS NOT NULL;
	CREATE FUNCTION oracle.users() RETURNS jsonb LANGUAGE sql STABLE AS $$
		SELECT jsonb_build_object('user_id', jsonb_agg(user_id)) FROM oracle.users $$;

	INSERT INTO oracle.questions (kind, question) SELECT 'all', replace(q, 'ever', $$'-infinity'::timestamptz, 'infinity'::timestamptz$$)
	FROM unnest(ARRAY[
		-- the order by ad
		'SELECT md5(string_agg(t::text, $$ $$)) FROM adclick.top_n_ads_between(100, ever) t',
		'SELECT md5(string_agg(t::text, $$ $$)) FROM adclick.top_n_ads_between(100, ever, $${"country": "C1"}$$) t',
		'SELECT md5(string_agg(t::text, $$ $$)) FROM adclick.top_n_ads_between(2147483647, ever, $${"country": ["C1", "C2"]}$$) t',
		'SELECT sum(adclick.ad_click_count_between(a, ever)) FROM generate_series(1, 3000, 300) a',
		'SELECT md5(string_agg(t::text, $$ $$ ORDER BY t::text)) FROM adclick.breakdown_between(1, ever, $$country$$) t',
		'SELECT sum(adclick.advertiser_click_count_between(a, ever)) FROM generate_series(1, 3) a',
		'SELECT sum(hashtextextended(t::text, 0)) FROM adclick_internal.facts() t',
		'SELECT sum(click_count) FROM adclick.ad_click_counts',
		'SELECT md5(string_agg(t::text, $$ $$ ORDER BY ad_id)) FROM (SELECT ad_id, sum(click_count) FROM adclick.ad_click_counts GROUP BY ad_id) t',
		'SELECT sum(click_count) FROM adclick.ad_click_counts JOIN adclick.filters USING (filter_id) WHERE country <> $$C1$$',
		-- the order by user: all of them, and some by themselves
		'SELECT md5(string_agg(t::text, $$ $$)) FROM adclick.top_n_ads_between(100, ever, oracle.users()) t',
		'SELECT sum(adclick.ad_click_count_between(1, ever, jsonb_build_object($$user_id$$, u))) FROM generate_series(1, 3000, 300) u',
		'SELECT adclick.unique_users_between(1, ever)',
		-- the order by address
		'SELECT md5(string_agg(t::text, $$ $$)) FROM adclick.top_n_ads_between(100, ever, $${"ip": ["::/0", "0.0.0.0/0"]}$$) t',
		'SELECT sum(adclick.ad_click_count_between(1, ever, jsonb_build_object($$ip$$, $$10.0.0.0$$::inet + i))) FROM generate_series(1, 3000, 300) i']) q;
	UPDATE oracle.questions SET kind = 'few' WHERE question ~ 'GROUP BY ad_id|unique_users|::/0';
	INSERT INTO oracle.questions (kind, question) SELECT 'one', replace(q, 'ever', $$'-infinity'::timestamptz, 'infinity'::timestamptz$$)
	FROM generate_series(0, 3000, 50) i, unnest(ARRAY[
		format('SELECT adclick.ad_click_count_between(%s, ever)', i),
		format('SELECT sum(click_count) FROM adclick.ad_click_counts WHERE ad_id = %s', i),
		format('SELECT count(*) FROM adclick.top_n_ads_between(9, ever, $${"user_id": %s}$$)', i),
		format('SELECT count(*) FROM adclick.top_n_ads_between(9, ever, $${"ip": "%s"}$$)', '10.0.0.0'::inet + i)]) q;

	CREATE FUNCTION oracle.ask(question text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		answer text;
		message text;
		detail text;
	BEGIN
		EXECUTE question INTO answer;
		RETURN coalesce(answer, 'none');
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
		RETURN SQLSTATE || ' ' || message || ' ' || coalesce(detail, '');
	END $$;

	UPDATE oracle.questions SET answer = oracle.ask(question);
	INSERT INTO oracle.questions (kind, question) VALUES
		('all', $$SELECT count(*) FROM adclick.top_n_ads(100, 3)$$), ('all', 'SELECT adclick.compact()');

	-- Damage by a statement, ask, and undo it: each outcome is "ok", "wrong" or SQLSTATE and message.
	CREATE FUNCTION oracle.damage(damage text, kind text DEFAULT 'all') RETURNS SETOF text LANGUAGE plpgsql AS $$
	DECLARE
		q record;
		given text;
		outcomes text[] := '{}';
	BEGIN
		BEGIN
			EXECUTE damage;
			FOR q IN SELECT question, answer FROM oracle.questions WHERE questions.kind = damage.kind OR (questions.kind, damage.kind) = ('few', 'all') ORDER BY id
			LOOP
				given := oracle.ask(q.question);
				outcomes := outcomes || CASE WHEN given ~ '^[0-9A-Z]{5} ' THEN given
					WHEN q.answer IS NULL OR q.answer = given THEN 'ok' ELSE 'wrong: ' || q.question END;
			END LOOP;
			RAISE EXCEPTION USING ERRCODE = 'UNDO1';
		EXCEPTION WHEN SQLSTATE 'UNDO1' THEN NULL;
		END;
		RETURN QUERY SELECT unnest(outcomes);
	END $$;

	-- Let a row of a table of segments change its run, or only its data, with one of another run.
	CREATE FUNCTION oracle.swap(tab regclass, place tid, what text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		other tid;
	BEGIN
		EXECUTE format('SELECT o.ctid FROM %1$s s JOIN adclick_internal.runs r USING (run_id), %1$s o JOIN adclick_internal.runs p USING (run_id)
			WHERE s.ctid = $1 AND o.run_id <> s.run_id AND (p.sort_order, o.number) = (r.sort_order, s.number)
				AND (r.segments > 1 OR p.segments = 1) ORDER BY random() LIMIT 1', tab)
			INTO STRICT other USING place;
		EXECUTE format('UPDATE %1$s s SET %2$s FROM %1$s o WHERE (s.ctid, o.ctid) IN (($1, $2), ($2, $1))', tab,
			CASE what WHEN 'data' THEN 'data = o.data' ELSE 'run_id = - o.run_id' END) USING place, other;
		EXECUTE format('UPDATE %1$s SET run_id = - run_id WHERE run_id < 0', tab);
	END $$});
is($node->safe_psql('clicks', q{SELECT string_agg(answer, ', ') FROM oracle.questions WHERE answer ~ '^[0-9A-Z]{5} '}), '', 'undamaged: all is answered');

# All outcomes of damages, counted.  "errors": how many of them are noticed, all unless
# they may leave a byte as it was; "of": which segments; "damage": a statement other
# than an UPDATE.
sub damages_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $table, $rounds, $expression, %options) = @_;
	my $errors = $options{errors} // $rounds;
	my $of = $options{of} // 'sort_order < 3';    # keys are no question's: see 036
	my $kind = $options{kind} // 'all';
	my $damage = $options{damage} // "UPDATE adclick_internal.$table SET $expression WHERE ctid = %L";
	$damage =~ s/'/''/g;
	my $result = $node->safe_psql('clicks', qq{
		WITH dice AS MATERIALIZED (
			SELECT i, (SELECT s.ctid FROM adclick_internal.$table s JOIN adclick_internal.runs r USING (run_id)
				WHERE i > 0 AND $of ORDER BY random() LIMIT 1) AS place
			FROM generate_series(1, $rounds) i)
		, outcomes AS MATERIALIZED (
			SELECT i, o FROM dice, oracle.damage(format('$damage', place), '$kind') o)
		SELECT count(DISTINCT i) FILTER (WHERE o LIKE 'XX001 %'),
			string_agg(DISTINCT o, E'\\n') FILTER (WHERE o <> 'ok' AND NOT (o LIKE 'XX001 %' AND o ~ 'segment .*[0-9]'))
		FROM outcomes});
	my ($noticed, $wrong) = split /\|/, $result, 2;

	is($wrong, '', "$name: answered as before, or refused with XX001 and the name of the segment");
	cmp_ok($noticed, '>=', $errors, "$name: $noticed of $rounds noticed");
	return;
}

my %lost = (first => 'number = 0', middle => 'number > 0 AND number < segments - 1', last => 'segments > 1 AND number = segments - 1',
	only => 'segments = 1');

# By ad, user and ip: final runs of the latter two lie in a volume.
my %orders_in = (segments => [0], people_0 => [1, 2], deltas => [0 .. 2]);

for my $table ('segments', 'people_0', 'deltas')
{
	my $flip = 'data = (SELECT set_bit(data, b, 1 - get_bit(data, b)) FROM floor(random() * 8 * length(data)) r, CAST(r AS int) b)';

	damages_ok("$table: one bit", $table, 300, $flip, kind => 'few');
	damages_ok("$table: one bit, all questions", $table, 20, $flip);
	damages_ok("$table: another version", $table, 5, 'data = set_byte(data, 0, 1 + get_byte(data, 0))');
	damages_ok("$table: another number of columns", $table, 5, 'data = set_byte(data, 1, 1 + get_byte(data, 1))');
	damages_ok("$table: one byte", $table, 50,
		'data = set_byte(data, (random() * (length(data) - 1))::int, (random() * 255)::int)', kind => 'few', errors => 25);
	damages_ok("$table: one byte of the first 64", $table, 50,
		'data = set_byte(data, (random() * least(63, length(data) - 1))::int, (random() * 255)::int)', kind => 'few', errors => 10);
	damages_ok("$table: bits", $table, 30,
		'data = set_bit(set_bit(data, (random() * least(511, length(data) * 8 - 1))::int, (random())::int), (random() * (length(data) * 8 - 1))::int, (random())::int)',
		kind => 'few', errors => 5);
	damages_ok("$table: cut off", $table, 10, 'data = substr(data, 1, floor(random() * length(data))::int)');
	damages_ok("$table: the front cut off", $table, 5, 'data = substr(data, 2 + (random() * 20)::int)');
	damages_ok("$table: too long", $table, 5, q{data = data || '\x00'::bytea});
	damages_ok("$table: much too long", $table, 2, q{data = data || decode(repeat('00', 3000), 'hex')});
	damages_ok("$table: zeros", $table, 2, q{data = decode(repeat('00', length(data)), 'hex')});
	damages_ok("$table: ones", $table, 2, q{data = decode(repeat('ff', length(data)), 'hex')});
	damages_ok("$table: another first key", $table, 5, 'first_key = first_key # (1 + floor(random() * 1000))::bigint');
	damages_ok("$table: another number", $table, 5, 'number = number + CASE WHEN random() < 0.5 THEN 100 ELSE -100 END');

	# Segments lost: any question about what they had is refused.
	for my $which ($table eq 'deltas' ? qw(first middle last only) : qw(first middle last))
	{
		my $delete = "DELETE FROM adclick_internal.$table WHERE ctid = %L";

		for my $order (@{$orders_in{$table}})
		{
			my $of = "sort_order = $order AND $lost{$which}";

			damages_ok("$table, order $order: the $which lost", $table, 1, undef, damage => $delete, of => $of);
			damages_ok("$table, order $order: the $which lost, probes", $table, 1, undef, damage => $delete, of => $of, kind => 'one',
				errors => $order == 0 ? 1 : 0);
		}
	}
	damages_ok("$table: another first key, probes", $table, 2, 'first_key = first_key # (1 + floor(random() * 100))::bigint', kind => 'one',
		errors => 0);
}

# Segments of each order (by ad, user, ip) alone.
for my $order (0 .. 2)
{
	my $table = $order == 0 ? 'segments' : 'people_0';

	damages_ok("order $order: another version", $table, 5, 'data = set_byte(data, 0, 1 + get_byte(data, 0))', of => "sort_order = $order");
	damages_ok("order $order: one byte of the first 64", $table, 10,
		'data = set_byte(data, (random() * least(63, length(data) - 1))::int, (random() * 255)::int)', of => "sort_order = $order", errors => 1);
}

# Segments that are in each other's run: as they are, or only their bytes.
for my $what ('run', 'data')
{
	damages_ok("segments: swapped $what", 'segments', 5, undef, of => 'sort_order = 0 AND number = 1',
		damage => "SELECT oracle.swap('adclick_internal.segments', %L, '$what')");
	damages_ok("deltas: swapped $what", 'deltas', 5, undef, of => 'sort_order < 3 AND segments = 1',
		damage => "SELECT oracle.swap('adclick_internal.deltas', %L, '$what')");
}

# What a statement that damages does: every question is answered or refused so, or has an
# outcome that is let pass.
sub refused_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($damage, $refused, $name, $let_pass) = @_;
	$let_pass //= '^ok$';

	$damage =~ s/'/''/g;
	is($node->safe_psql('clicks', qq{
		SELECT count(*) FILTER (WHERE o ~ '^$refused') > 0, string_agg(o, E'\\n') FILTER (WHERE o <> 'ok' AND o !~ '^$refused' AND o !~ '$let_pass')
		FROM oracle.damage('$damage') o}),
		't|', $name);
	return;
}

# Numbers from which sizes could be computed, in the directory of runs and in the ids of filters.
for my $damage ('facts = 4611686018427387904', 'facts = -1', 'facts = segments - 1', 'segments = 0', 'segments = 2147483647, facts = 1',
	'clicks = 0', 'clicks = -9223372036854775808', q{last_minute = 'infinity'}, q{first_minute = '-infinity'},
	q{first_minute = last_minute + interval '1 minute'})
{
	refused_ok("UPDATE adclick_internal.runs SET $damage", 'XX001 run [0-9]+ of "runs" is damaged', "runs: $damage");
}
# Numbers that can be, but are not so, cost nothing, and those of segments are noticed.
for my $damage ('segments = 2147483647, facts = 4398046509056, clicks = 4398046509056', 'segments = segments + 1, facts = facts + 1, clicks = clicks + 1')
{
	refused_ok("UPDATE adclick_internal.runs SET $damage", 'XX001 segment [0-9]+ of run [0-9]+ is missing', "runs: $damage", '^wrong');
}
# Clicks that can be answer for whole minutes; the check of the books looks what the segments have.
(undef, undef, my $refused) = $node->psql('clicks', q{\set VERBOSITY verbose
BEGIN;
UPDATE adclick_internal.runs SET clicks = clicks + 1 WHERE sort_order IN (0, 3);
SELECT balanced FROM adclick.check_ledger()});
like($refused, qr/ERROR:  XX001: run [0-9]+ of "runs" is damaged/, 'runs: another number of clicks');
# The state, and the rules.
for my $damage ('tick = -1', 'rows_read = -1', 'raw_retention = 0', 'raw_retention = NULL', 'future_tolerance = -1', 'future_tolerance = 9223372036854775807',
	'rule_id = 77', 'rule_id = NULL')
{
	refused_ok("UPDATE adclick_internal.state SET $damage", 'XX001 (the state of adclick|rule 77 .*) is damaged', "state: $damage");
}
for my $damage ('UPDATE adclick_internal.dedup_rules SET dedup_window = 0', 'DELETE FROM adclick_internal.dedup_rules',
	'INSERT INTO adclick_internal.dedup_rules (by_user_and_ad, dedup_window, last_bucket) VALUES (true, 0, 0)')
{
	refused_ok($damage, 'XX001 rule [0-9]+ .* is damaged', $damage);
}

refused_ok('UPDATE adclick_internal.runs SET segments = segments - 1 WHERE segments > 1 AND facts <= (segments - 1) * 2048', 'XX001 segment \([0-9]+,[0-9]+\) of .* is damaged',
	'runs: segments too few');
for my $id (2147483647, 268435456, -1)
{
	refused_ok("INSERT INTO adclick.filters OVERRIDING SYSTEM VALUE VALUES ($id, 'a', 'b', 'c')",
		"XX001 filter $id in adclick.filters is damaged", "filters: $id");
}

# Lists of most clicked ads.
for my $damage ('most_clicked_ads[1] = NULL', 'most_clicked_ads[1].click_count = NULL', 'most_clicked_ads[2].click_count = -1',
	'most_clicked_ads[1].ad_id = NULL', 'cut_off = -1', 'cut_off = 9223372036854775807', q{most_clicked_ads = ''{}'', cut_off = 1})
{
	is($node->safe_psql('clicks', qq{
		SELECT string_agg(DISTINCT left(o, 55), ', ')
		FROM oracle.damage('UPDATE adclick.most_clicked_ads SET $damage') o WHERE o <> 'ok'}),
		'XX001 a list in adclick.most_clicked_ads is damaged The', "lists: $damage");
}

# Damage that stays: the worker does not crash the server either, and says so.
my $sent = $node->safe_psql('clicks', 'SELECT count(*) FROM adclick.click_log');
$node->safe_psql('clicks', 'UPDATE adclick_internal.deltas SET data = set_byte(data, 0, 255)');
my (undef, undef, $error) = $node->psql('clicks', q{\set VERBOSITY verbose
SELECT * FROM adclick.top_n_ads_between(1, timestamptz '-infinity', 'infinity')});
like($error, qr/ERROR:  XX001: .*segment/, 'damage that stays: refused');
(undef, undef, $error) = $node->psql('clicks', q{\set VERBOSITY verbose
SELECT adclick.compact()});
like($error, qr/ERROR:  XX001: .*segment/, 'damage that stays: compaction refuses');

wake_workers($node);
ok($node->poll_query_until('clicks', q{SELECT coalesce(last_error LIKE '%segment%', false) FROM adclick.status}),
	'damage that stays: status tells') or diag($node->safe_psql('clicks', 'SELECT last_error FROM adclick.status'));
ok($node->poll_query_until('clicks', 'SELECT aggregator_pid IS NOT NULL FROM adclick.status'),
	'damage that stays: ticks go on');
is($node->safe_psql('clicks', 'SELECT clicks_counted + duplicates + discarded + lag_rows FROM adclick.status'), $sent,
	'damage that stays: each click is in an account');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server is up');
unlike(slurp_file($node->logfile), qr/was terminated by signal|PANIC|TRAP/, 'and never crashed');

done_testing();
