# What is written once is frozen once: VACUUM comes to new pages of the volumes soon, by
# itself, and a forced one later, of which the server makes one to be safe from a
# wraparound of transaction ids, finds nothing to read.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Clicks that make more than a thousand segments: random ids cannot be packed.
my $CLICKS = 250_000;

my $node = adclick_node('main', 'adclick.watermark' => "'0s'",
	'autovacuum' => 'off', 'autovacuum_naptime' => "'1s'", 'log_autovacuum_min_duration' => 0);
$node->start;
adclick_database($node, 'clicks');

sub sql { return $node->safe_psql('clicks', $_[0]) }

# What VACUUM says that it has read of a table.
sub pages_scanned
{
	my ($options, $table) = @_;
	my ($status, undef, $said) = $node->psql('clicks', "VACUUM ($options, VERBOSE) adclick_internal.$table");

	die "VACUUM says nothing: $said" unless $status == 0 && $said =~ /pages: \d+ removed, (\d+) remain, (\d+) scanned/;
	return ($1, $2);
}

sub vacuumed
{
	my ($table) = @_;

	$node->poll_query_until('clicks', qq{
		SELECT autovacuum_count + autoanalyze_count > 0 AND n_ins_since_vacuum < 1000 AND relallvisible >= 0.9 * relpages AND relpages > 400
		FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = relid WHERE relid = 'adclick_internal.$table'::regclass})
	  or die "no VACUUM comes to $table: " . sql("SELECT s FROM pg_stat_user_tables s WHERE relid = 'adclick_internal.$table'::regclass");
	return;
}

sql("INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip) SELECT gen_random_uuid(), i % 100, now() - interval '3 hours', (random() * 1e18)::bigint, '::'::inet + (random() * 1e18)::bigint FROM generate_series(1, $CLICKS) i");
drained($node, 'clicks');
compacted($node, 'clicks');
is(sql("SELECT sum(clicks) FROM adclick_internal.runs WHERE sort_order = 3 AND volume = 0"), $CLICKS, 'the ledger is written');

# Workers do not wait for WAL to be flushed; before it is, a page is frozen but not marked as all-visible.
sql('CREATE TABLE flushed ()');
set_conf($node, 'autovacuum' => 'on');

# Of a table, once VACUUM has come to it.
sub frozen_ok
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($table) = @_;

	vacuumed($table);
	my ($pages, $scanned) = pages_scanned('FREEZE', $table);
	cmp_ok($pages, '>', 400, "$table: there are $pages pages");
	cmp_ok($scanned, '<=', 1 + $pages / 100, "$table: a forced VACUUM reads $scanned of them");
	return $pages;
}

my %pages = map { $_ => frozen_ok($_) } qw(ledger_0 people_0);

# The server's own, to prevent wraparound, does so as well.
sql("ALTER TABLE adclick_internal.$_ SET (autovacuum_freeze_max_age = 100000, autovacuum_freeze_table_age = 0)") for keys %pages;
sql('DO $$ BEGIN FOR i IN 1 .. 100000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$');
for my $table (sort keys %pages)
{
	$node->poll_query_until('clicks', "SELECT age(relfrozenxid) < 100000 FROM pg_class WHERE oid = 'adclick_internal.$table'::regclass") or die 'no VACUUM to prevent wraparound';
	my ($said) = slurp_file($node->logfile) =~ /automatic aggressive vacuum to prevent wraparound of table "clicks\.adclick_internal\.$table"[^\n]*\n[^\n]*pages: (.*?)\n/;
	like($said, qr/scanned/, "$table: the server's own: $said");
	my ($read) = $said =~ /(\d+) scanned/;
	cmp_ok($read, '<=', 1 + $pages{$table} / 100, "$table: it reads next to nothing");
}

$node->stop;

done_testing();
