# Impressions expire by the clock, and one click on each counts whenever it comes: the clock
# is set ahead while windows of duplicates and secrets pass.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickClock;
use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = clocked(adclick_node('main', 'adclick.impression_expiry' => "'1d'", 'adclick.dedup_window' => "'1min'"));
my ($HOUR, $DAY) = (3600, 86400);

$node->start;
adclick_database($node, 'shop', witness => 1);

sub sql { return $node->safe_psql('shop', $_[0]) }
sub issued { return sql('SELECT adclick.new_impression(1, 7)') }

# What becomes of one click.
sub verdict
{
	my ($token) = @_;
	my $before = sql('SELECT clicks_counted, duplicates, forged, expired FROM adclick.status');

	sql("SELECT adclick.click(1, 7, NULL, 'CA', NULL, NULL, '$token')");
	drained($node, 'shop');
	my @before = split /\|/, $before;
	my @after = split /\|/, sql('SELECT clicks_counted, duplicates, forged, expired FROM adclick.status');
	my @names = qw(counted duplicate forged expired);
	return join ' ', map { $names[$_] } grep { $after[$_] > $before[$_] } 0 .. 3;
}

my ($first, $second, $third) = map { issued() } 1 .. 3;
is(verdict($first), 'counted', 'a click');
clocks_are(12 * $HOUR, 0);
is(verdict($first), 'duplicate', 'another one half a day later');
is(verdict($second), 'counted', 'the first one of another impression');
sql('SELECT adclick.rotate_impression_secret()');
clocks_are(23 * $HOUR, 0);
is(verdict($second), 'duplicate', 'the second one of it, when another secret is in use');
is(verdict($third), 'counted', 'the first one of a third one');
clocks_are($DAY + 60, 0);
is(verdict($_), 'expired', 'after a day it has expired') for $first, $second, $third;
clocks_are($DAY + 13 * $HOUR, 0);
is(verdict($third), 'forged', 'and when its secret signed nothing that has not, nobody knows it');

# The clock is set back: what was issued ahead of it is clicked.
my $ahead = issued();
clocks_are($DAY, 0);
is(verdict($ahead), 'counted', 'issued in the future');
is(verdict($ahead), 'duplicate', 'and once');
clocks_are(0, 0);
is(verdict($ahead), 'expired', 'too far in the future');

set_conf($node, 'adclick.impression_expiry' => "'1s'");
$node->poll_query_until('shop', "SELECT setting = '1' FROM pg_settings WHERE name = 'adclick.impression_expiry'") or die 'the setting is not taken';
my $short = issued();
clocks_are(10, 0);
is(verdict($short), 'expired', 'a second is short');
exact_ok($node, 'shop', 'at the end');
is(sql('SELECT balanced FROM adclick.check_ledger()'), 't', 'the books are balanced');

done_testing();
