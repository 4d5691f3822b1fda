# Retention by the workers, as time goes: a server whose volumes of a shelf are opened and
# dropped while the test lets time pass (AdclickClock.pm).

package AdclickRetention;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Time::HiRes qw(usleep);
use AdclickClock qw(clocked pass_time set_clock);
use AdclickTest;

our @EXPORT = qw($MINUTE $HOUR $DAY retention_node retention_standby begin_reader pass_time set_clock becomes retention_round);

our ($MINUTE, $HOUR, $DAY) = (60, 3600, 86400);

my ($node, $shelf, $volumes);

# The server, with a database clicks; names of the shelf and of a view there of its volumes; settings, how long they are kept among them.
sub retention_node
{
	my %settings;

	($shelf, $volumes, %settings) = @_;
	$node = clocked(adclick_node('main', allows_streaming => 1,
		'restart_after_crash' => 'on', 'autovacuum' => 'off', 'adclick.watermark' => "'0s'",
		'adclick.raw_retention' => "'1h'", %settings));
	$node->start;
	adclick_database($node, 'clicks');
	$node->safe_psql('clicks', "CREATE VIEW $volumes AS SELECT * FROM adclick_internal.volumes WHERE shelf = '$shelf'");
	return $node;
}

# A standby of it, which does not wait for its questions, but for the moment in which one uses a page.
sub retention_standby
{
	my $standby = PostgreSQL::Test::Cluster->new('standby');

	$node->backup('backup');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = '3s'");
	$standby->start;
	return $standby;
}

# A session that has a snapshot, here or on a standby; what the check of the tables locks it has locked before.
sub begin_reader
{
	my ($server) = @_;
	my $reader = $server->background_psql('clicks', on_error_stop => 0);

	$reader->query_safe('SELECT count(*) FROM adclick.click_log');
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	return $reader;
}

# Wait for something.
sub becomes
{
	my ($query, $what) = @_;

	$node->poll_query_until('clicks', $query)
	  or die "$what does not happen: "
	  . $node->safe_psql('clicks', "SELECT now(), string_agg(v::text, ' ' ORDER BY volume), (SELECT h FROM adclick.health() h) FROM $volumes v");
	return;
}

# A round of retention that begins from now on: it empties the table of a volume that was
# dropped long ago.  Its number is one whose table is free.  Or until something else is the case.
# A round that goes on already is followed by a pause, so time may have to pass twice.
sub retention_round
{
	my ($or) = @_;

	$or //= 'false';
	my $free = $node->safe_psql('clicks', qq{
		INSERT INTO adclick_internal.volumes
		SELECT '$shelf', n, '2000-01-01', '2000-01-01', '3' FROM generate_series(0, 31) n
		WHERE NOT EXISTS (SELECT FROM $volumes WHERE volume % 32 = n) AND n < (SELECT max(volume) FROM $volumes)
		ORDER BY n LIMIT 1 RETURNING volume});
	die 'no table is free' if $free eq '';
	for my $poll (0 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		pass_time($MINUTE + 1) if $poll % 10 == 0;
		return if $node->safe_psql('clicks', "SELECT NOT EXISTS (SELECT FROM $volumes WHERE volume = $free) OR ($or)") eq 't';
		usleep(100_000);
	}
	die 'no round of retention: ' . $node->safe_psql('clicks', 'SELECT h FROM adclick.health() h');
}

1;
