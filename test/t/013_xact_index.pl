# The aggregator's summaries of the BRIN index on xact hold every row there is
# or will be: compared with what SQL finds on the pages of each range.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = adclick_node('main', 'adclick.tick_interval' => "'10ms'", 'autovacuum' => 'off');
$node->start;
adclick_database($node, 'clicks');

# All clicks of this test arrive in a year that has no partitions.
my $TABLE = 'adclick_internal.clicks_default';
my $INDEX = 'adclick_internal.clicks_default_xact_idx';

$node->safe_psql('clicks', qq{
	CREATE EXTENSION pageinspect;
	CREATE SCHEMA test;

	-- "low" and "high" of a range without rows are NULL.  An empty page has a lower
	-- end of 24 bytes; brin_page_items would show what was its first item.
	CREATE VIEW test.summaries AS
		SELECT i.blknum AS block, i.placeholder,
			(regexp_match(i.value, '{(\\d+) \\.\\. \\d+}'))[1]::bigint AS low,
			(regexp_match(i.value, '{\\d+ \\.\\. (\\d+)}'))[1]::bigint AS high
		FROM generate_series(1, pg_relation_size('$INDEX') / 8192 - 1) page,
			get_raw_page('$INDEX', page::int) raw, brin_page_items(raw, '$INDEX') i
		WHERE brin_page_type(raw) = 'regular' AND i.blknum IS NOT NULL AND (page_header(raw)).lower > 24;

	-- the full ranges, as they are
	CREATE VIEW test.ranges AS
		SELECT block, min(x) AS low, max(x) AS high
		FROM brin_metapage_info(get_raw_page('$INDEX', 0)) meta
			CROSS JOIN generate_series(0, pg_relation_size('$TABLE') / 8192 - pagesperrange, pagesperrange) block
			LEFT JOIN (SELECT (ctid::text::point)[0]::bigint AS at, xact::text::bigint AS x FROM $TABLE) clicks
			ON at / pagesperrange * pagesperrange = block
		GROUP BY block;

	-- clicks of one transaction, eight on a page, some columns NULL in most
	CREATE FUNCTION test.send(n int) RETURNS void LANGUAGE sql AS \$\$
		INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, received_at, device)
		SELECT CASE WHEN i % 2 = 0 THEN gen_random_uuid() END, 1,
			CASE WHEN i % 3 = 0 THEN timestamptz '2001-01-01 UTC' END,
			CASE WHEN i % 5 = 0 THEN i END, '2001-01-01 UTC', repeat('x', 880)
		FROM generate_series(1, n) i \$\$;

	CREATE FUNCTION test.line_pointers() RETURNS smallint[] LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM count(*) FROM $TABLE;	-- prunes
		RETURN array_agg(DISTINCT lp_flags ORDER BY lp_flags)
		FROM generate_series(0, 255) page, heap_page_items(get_raw_page('$TABLE', page));
	END \$\$;

	CREATE FUNCTION test.desummarize() RETURNS void LANGUAGE sql AS
		\$\$ SELECT brin_desummarize_range('$INDEX', block) FROM test.ranges \$\$;
});

# Wait until all full ranges have a summary; compare: "equal" or only "hold".
sub summaries_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($how, $name) = @_;
	my $right = $how eq 'equal' ? '(s.low, s.high) IS NOT DISTINCT FROM (r.low, r.high)'
		: 'r.low IS NULL OR (s.low <= r.low AND s.high >= r.high)';

	$node->poll_query_until('clicks', q{
		SELECT count(*) = count(s.block) AND NOT bool_or(coalesce(placeholder, false))
		FROM test.ranges LEFT JOIN test.summaries s USING (block)})
	  or diag("$name: not summarized");
	is($node->safe_psql('clicks', qq{
		SELECT r, s FROM test.ranges r LEFT JOIN test.summaries s USING (block)
		WHERE ($right) IS NOT TRUE OR s.placeholder}), '', $name);
	return;
}

#
# Many transactions, all committed
#
$node->safe_psql('clicks', q{DO $$ BEGIN FOR i IN 1 .. 120 LOOP PERFORM test.send(40); COMMIT; END LOOP; END $$});
summaries_ok('equal', 'committed transactions');
my ($ranges, $summaries) = split /\|/,
  $node->safe_psql('clicks', 'SELECT (SELECT count(*) FROM test.ranges), (SELECT count(*) FROM test.summaries)');
cmp_ok($ranges, '>=', 4, 'several ranges are full');
is($summaries, $ranges, 'the last range, not full, has no summary');

#
# Transactions that end after their rows have been summarized: some of the rows
# stand among those of others, some fill ranges of their own
#
my @open;
for my $i (1 .. 3)
{
	push @open, $node->background_psql('clicks', on_error_stop => 0);
	$open[-1]->query_safe('BEGIN');
	$open[-1]->query_safe('SELECT test.send(5)');
}
$node->safe_psql('clicks', 'SELECT test.send(1500)');
$open[0]->query_safe('SELECT test.send(2000)');
$open[1]->query_safe('SAVEPOINT a; SELECT test.send(100); SAVEPOINT b; SELECT test.send(1000); ROLLBACK TO b; RELEASE a; SELECT test.send(10)');
$node->safe_psql('clicks', 'SELECT test.send(1500)');
summaries_ok('hold', 'transactions that still run');
$open[0]->query_safe('COMMIT');
$open[1]->query_safe('COMMIT');
$open[2]->query_safe('ROLLBACK');
$_->quit for @open;
summaries_ok('hold', 'and after they have ended');

#
# Rows that are gone: ranges with nothing in them, and all kinds of line pointers
#
$node->safe_psql('clicks', q{
	BEGIN; SELECT test.send(4000); ROLLBACK;
	SELECT test.send(100)});
summaries_ok('hold', 'rows rolled back');
$node->safe_psql('clicks', "VACUUM (FREEZE) $TABLE; SELECT test.desummarize()");
summaries_ok('equal', 'rows rolled back and vacuumed');
cmp_ok($node->safe_psql('clicks', 'SELECT count(*) FROM test.summaries WHERE low IS NULL'),
	'>=', 2, 'some ranges have no rows');

$node->safe_psql('clicks', qq{
	ALTER TABLE $TABLE DISABLE TRIGGER ALL;
	DELETE FROM $TABLE WHERE (ctid::text::point)[1] = 2});
for (1 .. 100)
{
	# a tick can still see the deleted rows
	$node->safe_psql('clicks', "VACUUM $TABLE");
	last if $node->safe_psql('clicks', 'SELECT 0 = ANY (test.line_pointers())') eq 't';
}
# (with a trigger for it, an update would make xact anew, and no redirected pointers)
$node->safe_psql('clicks', qq{
	DROP TRIGGER append_only_row ON adclick.clicks;
	ALTER TABLE $TABLE DISABLE TRIGGER ALL;
	BEGIN;
	UPDATE $TABLE SET country = 'XX' WHERE (ctid::text::point)[1] = 3 AND (ctid::text::point)[0]::int % 2 = 0;
	DELETE FROM $TABLE WHERE (ctid::text::point)[1] = 4 AND (ctid::text::point)[0]::int % 2 = 0;
	COMMIT});
$node->poll_query_until('clicks', q{SELECT test.line_pointers() = '{0,1,2,3}'})
  or diag('line pointers: ' . $node->safe_psql('clicks', 'SELECT test.line_pointers()'));
$node->safe_psql('clicks', 'SELECT test.desummarize()');
summaries_ok('hold', 'unused, redirected and dead line pointers');

#
# What is left of a summarizing that failed: a placeholder.  Made by the server's
# own, which fails at the first row, while the aggregator is locked out.
#
is($node->safe_psql('clicks', qq{
	BEGIN;
	LOCK TABLE $TABLE IN SHARE UPDATE EXCLUSIVE MODE;
	CREATE OR REPLACE FUNCTION adclick_internal.xid8_add_value(internal, internal, internal, internal)
		RETURNS boolean AS 'internal_in' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;
	DO \$\$
	BEGIN
		PERFORM brin_desummarize_range('$INDEX', 0);
		PERFORM brin_summarize_range('$INDEX', 0);
	EXCEPTION WHEN feature_not_supported THEN NULL;
	END \$\$;
	SELECT block FROM test.summaries WHERE placeholder;
	ROLLBACK}), '0', 'a placeholder is left behind');
summaries_ok('hold', 'a placeholder that was left behind is replaced');

#
# Rows that come while their range is being read.  The range is large, to give
# time; the row comes when a placeholder is seen, onto a page near the range's
# begin.  Its transaction is (said to be) older than all others: if it is lost,
# no later row hides that.
#
$node->safe_psql('clicks', qq{
	ALTER INDEX $INDEX SET (pages_per_range = 2048);
	REINDEX INDEX $INDEX;
	ALTER TABLE $TABLE DISABLE TRIGGER ALL;
	TRUNCATE $TABLE;
	BEGIN;
	INSERT INTO $TABLE (ad_id, received_at) SELECT 1, '2001-01-01 UTC' FROM generate_series(1, 5000);
	ROLLBACK;
	INSERT INTO $TABLE (ad_id, received_at) SELECT 1, '2001-01-01 UTC' FROM generate_series(1, 200000);
	VACUUM $TABLE;

	CREATE PROCEDURE test.race(rounds int, INOUT met int, INOUT lost int) LANGUAGE plpgsql AS \$\$
	DECLARE
		summary record;
		was_placeholder boolean;
		xact bigint;
		inserted tid;
	BEGIN
		met := 0;
		lost := 0;
		FOR i IN 1 .. 1000 LOOP	-- until the last page has no more room
			INSERT INTO $TABLE (ad_id, received_at) VALUES (1, '2001-01-01 UTC') RETURNING ctid INTO inserted;
			EXIT WHEN (inserted::text::point)[0] < 64;
		END LOOP;
		FOR i IN 1 .. rounds LOOP
			PERFORM brin_desummarize_range('$INDEX', 0);
			LOOP
				SELECT * INTO summary FROM test.summaries WHERE block = 0;
				EXIT WHEN FOUND;
			END LOOP;
			was_placeholder := summary.placeholder;
			INSERT INTO $TABLE AS c (ad_id, received_at) VALUES (1, '2001-01-01 UTC') RETURNING c.xact::text::bigint INTO xact;
			COMMIT;
			met := met + was_placeholder::int;
			LOOP
				SELECT * INTO summary FROM test.summaries WHERE block = 0;
				EXIT WHEN NOT summary.placeholder;
			END LOOP;
			lost := lost + (summary.high < xact)::int;
		END LOOP;
	END \$\$});
my ($met, $lost) = split /\|/, $node->safe_psql('clicks', 'CALL test.race(40, NULL, NULL)');
note("$met of 40 clicks met a placeholder");
cmp_ok($met, '>', 0, 'clicks came while their range was being read');
is($lost, 0, 'and are in its summary');
summaries_ok('hold', 'clicks inserted while summarizing');

done_testing();
