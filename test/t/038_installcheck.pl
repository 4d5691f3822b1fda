# make installcheck in a server like a user's: nothing is set but the preloading, a
# database with clicks has its workers, and no transaction can be prepared.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('stock');

$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'adclick'");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION adclick');
my @workers = workers_ready($node, 'shop');

# In a copy, as others may write their results here; those that look at rounds by hand, at the status, and at prepared transactions.
my $copy = PostgreSQL::Test::Utils::tempdir();
system_or_bail('cp', '-R', qw(Makefile expected test), $copy);
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	foreach my $time ('once', 'again')
	{
		command_ok([ 'make', '-s', '-C', $copy, "PG_CONFIG=$ENV{PG_CONFIG}", 'installcheck',
				'REGRESS=setup extension readonly two_phase', 'ISOLATION=prepared tick_tick' ],
			"make installcheck $time")
		  or diag(map { -e $_ ? slurp_file($_) : () } "$copy/regression.diffs", "$copy/output_iso/regression.diffs");
	}
}

is_deeply([ workers_ready($node, 'shop') ], \@workers, 'the workers of another database are left alone');
is($node->safe_psql('shop', 'SELECT last_error FROM adclick.status'), '', 'and had no error');

done_testing();
