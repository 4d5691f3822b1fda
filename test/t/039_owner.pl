# Workers and questions act as a role without rights, and run no code of others,
# wherever in the tables it hides: it is not called, or the table is refused.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# the server's own ANALYZE would compute what is hidden in an index
my $node = adclick_node('owner', 'autovacuum' => 'off');

$node->start;
adclick_database($node, 'clicks');
send_clicks($node, 'clicks', 1000);
exact_ok($node, 'clicks', 'before');

# A sequence keeps the call of a payload also if it is rolled back.
$node->safe_psql('clicks', q{
	CREATE SEQUENCE called;
	GRANT ALL ON SEQUENCE called TO PUBLIC;
	CREATE FUNCTION payload() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
		$$ BEGIN PERFORM nextval('public.called'); RETURN true; END $$;
	CREATE FUNCTION payload(anyelement) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
		$$ BEGIN PERFORM nextval('public.called'); RETURN 1; END $$;
	CREATE FUNCTION equal(int8, int8) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
		$$ BEGIN PERFORM nextval('public.called'); RETURN true; END $$;
	CREATE FUNCTION by_trigger() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM nextval('public.called'); RETURN coalesce(new, old); END $$;
	CREATE FUNCTION compared(int8, int8) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
		$$ BEGIN PERFORM nextval('public.called'); RETURN btint8cmp($1, $2); END $$;
	CREATE OPERATOR CLASS payload_ops FOR TYPE int8 USING btree AS
		OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compared(int8, int8);
	CREATE DOMAIN checked AS text CHECK (payload());
	CREATE TABLE referenced (id int PRIMARY KEY)});

my $round = 0;

sub called
{
	return $node->safe_psql('clicks', 'SELECT is_called FROM public.called');
}

# Everything that reads or writes our tables, by workers and by hand; errors are expected.
sub use_all
{
	my ($views) = @_;
	my $begun = $node->safe_psql('clicks', 'SELECT clock_timestamp()');

	$round++;
	$node->psql('clicks', qq{
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, country)
		SELECT md5('$round ' || i % 90)::uuid, i, now() - i % 3 * interval '10 minutes', 'X$round'
		FROM generate_series(1, 100) i;
		SELECT adclick.tick();
		SELECT adclick.compact();
		SELECT adclick.add_filter('{"device": "mobile"}');
		SELECT adclick.drop_filter('{"device": "mobile"}');
		SELECT adclick.ad_click_count(5, 60);
		SELECT adclick.advertiser_click_count(1, 60);
		SELECT adclick.top_n_ads(5, 60, '{"country": "X1", "advertiser_id": [1, 2]}');
		SELECT adclick.top_n_ads(5, 60, '{"user_id": 5}');
		$views}, on_error_stop => 0);
	wake_workers($node);
	# where a tick cannot set anything aside, clicks wait
	$node->poll_query_until('clicks', qq{
		SELECT coalesce(lag_rows, 0) = 0 OR (last_error_at > '$begun' AND strpos(last_error, 'discarded_0" of adclick has been altered') > 0)
		FROM adclick.status}) or die 'the workers do not work';
	return;
}

sub hidden_in
{
	my ($place, $hide, $undo) = @_;

	$node->safe_psql('clicks', "$hide; SELECT setval('public.called', 1, false)");

	# A view runs what the owner of its tables has hidden in them, like any view: not asked of ads.
	use_all($hide =~ /adclick\.ads/ ? '' : q{
		SELECT sum(click_count) FROM adclick.clicks_per_minute GROUP BY country;
		SELECT count(*) FROM adclick.ad_click_counts WHERE ad_id = 5});
	is(called(), 'f', "$place: not called");
	$node->safe_psql('clicks', "$undo; SELECT adclick.tick()");
	return;
}

# The trap works.
$node->safe_psql('clicks', 'CREATE TABLE trap (n int CHECK (payload())); INSERT INTO trap VALUES (1); DROP TABLE trap');
is(called(), 't', 'a payload that runs is noticed');

# Each place in each table: those that ticks, compaction and filters write, and the ads.
sub places
{
	my ($table) = @_;
	my ($schema) = $table =~ /(.*)\./;
	my $trigger = "CREATE TRIGGER hidden BEFORE INSERT OR UPDATE OR DELETE ON $table FOR EACH ROW EXECUTE FUNCTION by_trigger()";

	return (
		['trigger', $trigger, "DROP TRIGGER hidden ON $table"],
		['trigger that fires always', "$trigger; ALTER TABLE $table ENABLE ALWAYS TRIGGER hidden", "DROP TRIGGER hidden ON $table"],
		['CHECK', "ALTER TABLE $table ADD CONSTRAINT hidden CHECK (payload()) NOT VALID", "ALTER TABLE $table DROP CONSTRAINT hidden"],
		['default', "ALTER TABLE $table ADD hidden int; ALTER TABLE $table ALTER hidden SET DEFAULT payload(1)",
			"ALTER TABLE $table DROP hidden"],
		['generated column', "ALTER TABLE $table ADD hidden int GENERATED ALWAYS AS (payload(1)) STORED", "ALTER TABLE $table DROP hidden"],
		['index expression', "CREATE INDEX hidden ON $table ((payload(1)))", "DROP INDEX $schema.hidden"],
		['index condition', "CREATE INDEX hidden ON $table ((1)) WHERE payload()", "DROP INDEX $schema.hidden"],
		['statistics', "CREATE STATISTICS hidden ON (payload(1)), (payload(2)) FROM $table", 'DROP STATISTICS hidden'],
		['rule', "CREATE RULE hidden AS ON INSERT TO $table DO ALSO SELECT payload()", "DROP RULE hidden ON $table"],
		['policy', "CREATE POLICY hidden ON $table USING (payload()) WITH CHECK (payload()); ALTER TABLE $table ENABLE ROW LEVEL SECURITY",
			"DROP POLICY hidden ON $table; ALTER TABLE $table DISABLE ROW LEVEL SECURITY"],
		['forced policy', "CREATE POLICY hidden ON $table USING (payload()) WITH CHECK (payload());
			ALTER TABLE $table ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
			"DROP POLICY hidden ON $table; ALTER TABLE $table DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY"],
		['child table', "CREATE TABLE hidden (CHECK (payload())) INHERITS ($table)", 'DROP TABLE hidden']);
}

for my $table (qw(adclick.filters adclick_internal.runs adclick.ads))
{
	hidden_in("$_->[0] of $table", $_->[1], $_->[2]) for places($table);
	exact_ok($node, 'clicks', "after all that in $table");
}
for my $table (qw(adclick.most_clicked_ads adclick_internal.discarded_0 adclick_internal.state adclick_internal.compaction
	adclick_internal.deltas adclick_internal.segments adclick_internal.ledger_0 adclick_internal.people_0 adclick_internal.volumes adclick_internal.dedup_rules adclick_internal.gaps adclick_internal.unpacked_clicks))
{
	hidden_in("$_->[0] of $table", $_->[1], $_->[2]) for grep { $_->[0] =~ /^(trigger|index expression|forced policy)$/ } places($table);
}
exact_ok($node, 'clicks', 'after all that in other tables');

hidden_in('operator class', 'CREATE INDEX hidden ON adclick_internal.deltas (run_id payload_ops)', 'DROP INDEX adclick_internal.hidden');
hidden_in('operator class of ads', 'CREATE INDEX hidden ON adclick.ads (advertiser_id payload_ops)', 'DROP INDEX adclick.hidden');
hidden_in('domain', 'ALTER TABLE adclick.filters ALTER country TYPE checked', 'ALTER TABLE adclick.filters ALTER country TYPE text');
hidden_in('view', 'ALTER TABLE adclick.ads RENAME TO kept; CREATE VIEW adclick.ads AS SELECT ad_id, advertiser_id, redirect_url, website
	FROM adclick.kept WHERE payload()', 'DROP VIEW adclick.ads; ALTER TABLE adclick.kept RENAME TO ads');
hidden_in('foreign key', 'ALTER TABLE adclick.filters ADD hidden int REFERENCES referenced;
	CREATE TRIGGER hidden BEFORE UPDATE ON referenced FOR EACH ROW EXECUTE FUNCTION by_trigger()',
	'ALTER TABLE adclick.filters DROP hidden; DROP TRIGGER hidden ON referenced');
hidden_in('key of another table', 'CREATE TABLE hidden (id int REFERENCES adclick.filters ON DELETE CASCADE);
	CREATE TRIGGER hidden BEFORE DELETE ON hidden FOR EACH ROW EXECUTE FUNCTION by_trigger()', 'DROP TABLE hidden');
hidden_in('operators and functions earlier in the path', q{
	CREATE SCHEMA first;
	CREATE OPERATOR first.= (FUNCTION = equal, LEFTARG = int8, RIGHTARG = int8);
	CREATE OPERATOR first.<= (FUNCTION = equal, LEFTARG = int8, RIGHTARG = int8);
	CREATE FUNCTION first.unnest(int8[]) RETURNS SETOF int8 LANGUAGE sql AS 'SELECT public.payload(1)';
	CREATE FUNCTION first.min(int8) RETURNS bigint LANGUAGE sql AS 'SELECT public.payload(1)';
	ALTER DATABASE clicks SET search_path = first, pg_catalog;
	SELECT pg_terminate_backend(aggregator_pid), pg_terminate_backend(compactor_pid) FROM adclick_internal.workers()},
	'ALTER DATABASE clicks RESET search_path; DROP SCHEMA first CASCADE');
hidden_in('event trigger', q{
	CREATE FUNCTION by_event() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.called'); END $$;
	CREATE EVENT TRIGGER hidden ON ddl_command_end EXECUTE FUNCTION by_event();
	SELECT pg_terminate_backend(aggregator_pid) FROM adclick_internal.workers()},
	'DROP EVENT TRIGGER hidden; DROP FUNCTION by_event');

# An event trigger would show who a worker is, but they change no definition; what the
# role may not do, a worker may not.
$node->safe_psql('clicks', q{
	CREATE TABLE seen (login text, role text, command text);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION by_event() RETURNS event_trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen VALUES (session_user, current_user, tg_tag);
	END $$;
	CREATE EVENT TRIGGER hidden ON ddl_command_end EXECUTE FUNCTION by_event();
	ALTER EVENT TRIGGER hidden ENABLE ALWAYS;
	SELECT pg_terminate_backend(p, 60000) FROM adclick_internal.workers(), unnest(ARRAY[aggregator_pid, compactor_pid]) p});
workers_ready($node, 'clicks');
use_all('');
is($node->safe_psql('clicks', 'SELECT * FROM seen'), '', 'workers and rounds by hand change no definition');
$node->safe_psql('clicks', 'DROP EVENT TRIGGER hidden; REVOKE INSERT ON adclick_internal.runs FROM adclick_owner');
send_clicks($node, 'clicks', 100);
ok($node->poll_query_until('clicks', q{SELECT last_error LIKE '%: permission denied for table runs' FROM adclick_internal.workers()}),
	'a worker is no superuser');
$node->safe_psql('clicks', 'GRANT INSERT ON adclick_internal.runs TO adclick_owner');
exact_ok($node, 'clicks', 'with its right again');
is($node->safe_psql('clicks', q{SELECT DISTINCT relowner::regrole FROM pg_class
	WHERE relnamespace IN ('adclick'::regnamespace, 'adclick_internal'::regnamespace)}), 'adclick_owner', 'all tables are of that role');
is($node->safe_psql('clicks', q{SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication OR rolbypassrls
		OR EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) FROM pg_roles r WHERE rolname = 'adclick_owner'}), 'f',
	'which has no attribute and is no member of others');

# Without the role nothing works, and the status of the server tells it; with it, on it goes.
$node->safe_psql('clicks', 'ALTER ROLE adclick_owner RENAME TO renamed');
send_clicks($node, 'clicks', 100);
ok($node->poll_query_until('clicks', q{SELECT last_error LIKE '%: role "adclick_owner" does not exist' FROM adclick_internal.workers()}),
	'workers say that their role is missing');
$node->safe_psql('clicks', 'ALTER ROLE renamed RENAME TO adclick_owner');
exact_ok($node, 'clicks', 'with the role again');

# Powers that it is given later are noticed: nothing is done with them.
$node->safe_psql('clicks', 'ALTER ROLE adclick_owner SUPERUSER');
send_clicks($node, 'clicks', 100);
ok($node->poll_query_until('clicks', q{SELECT last_error LIKE '%: role "adclick_owner" may do more than adclick needs' FROM adclick_internal.workers()}),
	'workers say that their role has powers');
my ($status, undef, $error) = $node->psql('clicks', 'SELECT adclick.ad_click_count(5, 60)');
like($error, qr/role "adclick_owner" may do more than adclick needs/, 'no question is answered by it');
$node->safe_psql('clicks', 'ALTER ROLE adclick_owner NOSUPERUSER');
exact_ok($node, 'clicks', 'without powers again');

# Of a role that someone has made before, and prepared, nothing is made.
$node->safe_psql('clicks', 'DROP EXTENSION adclick CASCADE; CREATE ROLE eve');

sub refused
{
	my ($prepare, $undo, $expected) = @_;

	$node->safe_psql('clicks', $prepare);
	($status, undef, $error) = $node->psql('clicks', 'CREATE EXTENSION adclick');
	like($error, $expected, "refused: $prepare");
	$node->safe_psql('clicks', $undo);
	return;
}

for my $attribute (qw(SUPERUSER CREATEROLE CREATEDB REPLICATION BYPASSRLS))
{
	refused("ALTER ROLE $_ $attribute", "ALTER ROLE $_ NO$attribute", qr/role "$_" may do more than adclick needs/)
		for qw(adclick_owner adclick_reader adclick_ingest adclick_advertiser adclick_admin);
}
refused("ALTER ROLE $_ LOGIN", "ALTER ROLE $_ NOLOGIN", qr/role "$_" exists and serves others.*It may log in\./s)
	for qw(adclick_owner adclick_reader adclick_ingest adclick_advertiser adclick_admin);
refused('GRANT adclick_owner TO eve, postgres', 'REVOKE adclick_owner FROM eve, postgres', qr/Its members are eve, postgres\./);
refused('GRANT pg_read_all_data, eve TO adclick_owner', 'REVOKE pg_read_all_data, eve FROM adclick_owner',
	qr/It is a member of eve, pg_read_all_data\./);
refused('ALTER ROLE adclick_owner SET search_path = public', 'ALTER ROLE adclick_owner RESET ALL', qr/It has settings: search_path\./);
refused('ALTER ROLE adclick_owner IN DATABASE clicks SET jit = off', 'ALTER ROLE adclick_owner IN DATABASE clicks RESET ALL',
	qr/It has settings: jit\./);
refused('ALTER ROLE adclick_owner LOGIN; ALTER ROLE adclick_owner SET jit = on; GRANT adclick_owner TO eve',
	'ALTER ROLE adclick_owner NOLOGIN; ALTER ROLE adclick_owner RESET ALL; REVOKE adclick_owner FROM eve',
	qr/It may log in\. Its members are eve\. It has settings: jit\./);

# Who has been made a reader is one in all databases, and what readers may do besides is not our business.
$node->safe_psql('clicks', 'GRANT adclick_reader TO eve; GRANT pg_read_all_stats TO adclick_reader; CREATE EXTENSION adclick');
ok(workers_ready($node, 'clicks'), 'roles without all that are taken');

done_testing();
