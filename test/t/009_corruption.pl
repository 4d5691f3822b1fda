# Damaged segments: a question is answered or fails with an error that names the
# segment; nothing crashes.

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
send_clicks($node, 'clicks', 3000);
$node->safe_psql('clicks', 'SELECT adclick.tick()');
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.segments'), '>', 5, 'there are segments');
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM adclick_internal.deltas'), '>', 0, 'there are deltas');
facts_ok($node, 'clicks', 'undamaged');

# Damage one segment by a given statement, ask everything, and undo it: returns
# the outcome of each question as "ok" or SQLSTATE and message.
$node->safe_psql('clicks', q{
	CREATE FUNCTION oracle.ask(question text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		message text;
		detail text;
	BEGIN
		EXECUTE question;
		RETURN 'ok';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
		RETURN SQLSTATE || ' ' || message || ' ' || coalesce(detail, '');
	END $$;

	CREATE FUNCTION oracle.users() RETURNS jsonb LANGUAGE sql STABLE AS $$
		SELECT jsonb_build_object('user_id', jsonb_agg(DISTINCT user_id)) FROM adclick.clicks WHERE user_id IS NOT NULL $$;

	CREATE FUNCTION oracle.damage(damage text) RETURNS SETOF text LANGUAGE plpgsql AS $$
	DECLARE
		question text;
		outcomes text[] := '{}';
	BEGIN
		BEGIN
			EXECUTE damage;
			FOREACH question IN ARRAY ARRAY[
				-- the order by ad
				'SELECT count(*) FROM adclick.top_n_ads_between(100, ''-infinity''::timestamptz, ''infinity''::timestamptz)',
				'SELECT count(*) FROM adclick.top_n_ads_between(100, ''-infinity''::timestamptz, ''infinity''::timestamptz, ''{"country": "C1"}'')',
				'SELECT count(*) FROM adclick.top_n_ads_between(2147483647, ''-infinity''::timestamptz, ''infinity''::timestamptz, ''{"country": ["C1", "C2"]}'')',
				'SELECT count(*) FROM adclick.top_n_ads(100, 3)',
				'SELECT sum(adclick.ad_click_count_between(a, ''-infinity''::timestamptz, ''infinity''::timestamptz)) FROM generate_series(1, 3000, 150) a',
				'SELECT count(*) FROM adclick.breakdown_between(1, ''-infinity''::timestamptz, ''infinity''::timestamptz, ''country'')',
				'SELECT sum(adclick.advertiser_click_count_between(a, ''-infinity''::timestamptz, ''infinity''::timestamptz)) FROM generate_series(1, 3) a',
				'SELECT count(*) FROM adclick_internal.facts()',
				'SELECT sum(click_count) FROM adclick.ad_click_counts',
				'SELECT count(*) FROM adclick.ad_click_counts JOIN adclick.filters USING (filter_id) WHERE country <> ''C1''',
				-- the order by user: all of them, and some by themselves
				'SELECT count(*) FROM adclick.top_n_ads_between(100, ''-infinity''::timestamptz, ''infinity''::timestamptz, oracle.users())',
				'SELECT sum(adclick.ad_click_count_between(1, ''-infinity''::timestamptz, ''infinity''::timestamptz, jsonb_build_object(''user_id'', u))) FROM generate_series(1, 3000, 150) u',
				'SELECT adclick.unique_users_between(1, ''-infinity''::timestamptz, ''infinity''::timestamptz)',
				-- the order by address
				'SELECT count(*) FROM adclick.top_n_ads_between(100, ''-infinity''::timestamptz, ''infinity''::timestamptz, ''{"ip": ["::/0", "0.0.0.0/0"]}'')',
				'SELECT sum(adclick.ad_click_count_between(1, ''-infinity''::timestamptz, ''infinity''::timestamptz, jsonb_build_object(''ip'', ''10.0.0.0''::inet + i))) FROM generate_series(1, 3000, 150) i',
				'SELECT adclick.compact()']
			LOOP
				outcomes := outcomes || oracle.ask(question);
			END LOOP;
			RAISE EXCEPTION USING ERRCODE = 'UNDO1';
		EXCEPTION WHEN SQLSTATE 'UNDO1' THEN NULL;
		END;
		RETURN QUERY SELECT unnest(outcomes);
	END $$});

# All outcomes of damages, counted: good ones, and those that should not be.  "errors":
# of damage that is always found; a byte like another makes other values, no error.
sub damages_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $table, $rounds, $expression, %options) = @_;
	my $errors = $options{errors} // 0;
	my $of = $options{of} // 'true';
	$expression =~ s/'/''/g;
	my $result = $node->safe_psql('clicks', qq{
		WITH dice AS MATERIALIZED (
			SELECT i, (SELECT ctid FROM adclick_internal.$table WHERE i > 0 AND $of ORDER BY random() LIMIT 1) AS place
			FROM generate_series(1, $rounds) i)
		, outcomes AS MATERIALIZED (
			SELECT i, o FROM dice, oracle.damage(format(
				'UPDATE adclick_internal.$table SET $expression WHERE ctid = %L', place)) o)
		SELECT count(*) FILTER (WHERE o = 'ok') > 0,
			count(*) FILTER (WHERE o LIKE 'XX001 %'),
			string_agg(DISTINCT o, E'\\n') FILTER (WHERE o <> 'ok' AND NOT (o LIKE 'XX001 %' AND o ~ 'segment .*[0-9]|^XX001 filter -?[0-9]+ is missing'))
		FROM outcomes});
	my ($answers, $refused, $wrong) = split /\|/, $result, 3;

	is($wrong, '', "$name: answered, or refused with XX001 and the name of the segment or filter");
	cmp_ok($refused, '>=', $errors, "$name: $refused refused");
	return;
}

for my $table ('segments', 'deltas')
{
	damages_ok("$table: another version", $table, 10, 'data = set_byte(data, 0, 1 + get_byte(data, 0))', errors => 10);
	damages_ok("$table: another number of columns", $table, 10, 'data = set_byte(data, 1, 1 + get_byte(data, 1))', errors => 10);
	damages_ok("$table: one byte", $table, 60,
		'data = set_byte(data, (random() * (length(data) - 1))::int, (random() * 255)::int)');
	damages_ok("$table: one byte of the first 64", $table, 50,
		'data = set_byte(data, (random() * 63)::int, (random() * 255)::int)');
	damages_ok("$table: bits", $table, 30,
		'data = set_bit(set_bit(data, (random() * 511)::int, (random())::int), (random() * (length(data) * 8 - 1))::int, (random())::int)');
	damages_ok("$table: cut off", $table, 20, 'data = substr(data, 1, floor(random() * length(data))::int)', errors => 20);
	damages_ok("$table: the front cut off", $table, 10, 'data = substr(data, 2 + (random() * 20)::int)');
	damages_ok("$table: too long", $table, 10, q{data = data || '\x00'::bytea}, errors => 10);
	damages_ok("$table: nothing", $table, 5, q{data = ''}, errors => 5);
	damages_ok("$table: noise", $table, 10,
		q{data = substr(data, 1, 8) || decode(repeat(md5(random()::text), 20), 'hex')});
	damages_ok("$table: zeros", $table, 5, q{data = decode(repeat('00', length(data)), 'hex')}, errors => 5);
	damages_ok("$table: ones", $table, 5, q{data = decode(repeat('ff', length(data)), 'hex')}, errors => 5);
	damages_ok("$table: another first key", $table, 20,
		'first_key = first_key # (random() * 1000)::bigint');
}

# Segments of each order (by ad, user, ip) alone.
for my $order (0 .. 2)
{
	damages_ok("order $order: another version", 'segments', 5, 'data = set_byte(data, 0, 1 + get_byte(data, 0))',
		errors => 5, of => "run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order = $order)");
	damages_ok("order $order: one byte of the first 64", 'segments', 20, 'data = set_byte(data, (random() * 63)::int, (random() * 255)::int)',
		of => "run_id IN (SELECT run_id FROM adclick_internal.runs WHERE sort_order = $order)");
}

# Segments swapped, lost, twice.
damages_ok('segments: of another run', 'segments', 10,
	'data = (SELECT data FROM adclick_internal.segments ORDER BY random() LIMIT 1)');

# What a statement that damages does: every question is answered or refused so.
sub refused_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($damage, $refused, $name) = @_;

	$damage =~ s/'/''/g;
	is($node->safe_psql('clicks', qq{
		SELECT count(*) FILTER (WHERE o ~ '^$refused') > 0, string_agg(o, E'\\n') FILTER (WHERE o <> 'ok' AND o !~ '^$refused')
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
is($node->safe_psql('clicks', q{
	SELECT string_agg(DISTINCT o, ', ') FROM oracle.damage(
		'UPDATE adclick_internal.runs SET segments = 2147483647, facts = 4398046509056, clicks = 4398046509056') o}),
	'ok', 'runs: numbers that can be, but are not so, cost nothing');
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
conserved_ok($node, 'clicks', 'damage that stays');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server is up');
unlike(slurp_file($node->logfile), qr/was terminated by signal|PANIC|TRAP/, 'and never crashed');

done_testing();
