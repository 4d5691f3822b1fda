# Log files are read exactly once: files grow, in pieces that end anywhere, are renamed, copied and truncated,
# and compressed, while the reader, other processes and the server are killed.
#
# Each line has an ad of its own, so that a line that is lost or comes twice is told by its count; every
# other one has a click id.  Some lines are no clicks.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $STEPS = 700;
my $KILL_EVERY = 35;
my @KINDS = ('reader', 'reader', 'aggregator', 'server');

my $seed = $ENV{SOURCES_SEED} || int rand 1_000_000;
srand $seed;
diag("seed $seed");

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = adclick_node('main', 'restart_after_crash' => 'on', 'adclick.tick_interval' => "'10ms'", 'shared_buffers' => "'64MB'");

sub sql { return $node->safe_psql('clicks', $_[0]) }

# A log: its pattern tells whether names after rotation meet it.
my @logs = map { { name => $_->[0], pattern => $_->[1], format => $_->[2], handle => undef, rest => '', old => [], number => 0, lines => 0 } }
  [ 'wide.csv', 'wide.csv*', 'csv' ], [ 'narrow.csv', 'narrow.csv', 'csv' ], [ 'wide.json', 'wide.json*', 'json' ], [ 'narrow.json', 'narrow.json', 'json' ];
my ($ad, $bad) = (0, 0);
my (%done, %killed);

sub path { return "$dir/$_[0]" }

sub open_log
{
	my ($log) = @_;

	open($log->{handle}, '>>', path($log->{name})) or die $!;
	$log->{handle}->autoflush(1);
	print { $log->{handle} } "click_id,ad_id,clicked_at,country\n" if $log->{format} eq 'csv';
	return;
}

sub line_of
{
	my ($log) = @_;
	my $id = $ad % 2 ? sprintf('%08x-0000-4000-8000-%012x', $seed, $ad) : undef;
	my @now = gmtime;
	my $now = sprintf '%04d-%02d-%02d %02d:%02d:%02d', $now[5] + 1900, $now[4] + 1, @now[ 3, 2, 1, 0 ];

	$log->{lines}++;
	if (rand() < 0.03)
	{
		$bad++;
		return $log->{format} eq 'csv' ? ",bad$bad,$now,\"CA\n" : "{\"ad_id\": \"bad$bad\n";
	}
	$ad++;
	return sprintf("%s,%d,%s,%s\n", $id // '', $ad, $now, 'CA') if $log->{format} eq 'csv';
	return sprintf("{\"ad_id\": %d, \"clicked_at\": \"%s\"%s}\n", $ad, $now, defined $id ? ", \"click_id\": \"$id\"" : '');
}

# Write some lines, and perhaps only a part of the last one: its rest comes with the next.
sub grow
{
	my ($log, $whole) = @_;
	my $text = $log->{rest};

	return if $log->{copied};
	$text .= line_of($log) for 1 .. 1 + int rand 30;
	$log->{rest} = '';
	$log->{rest} = substr($text, -(1 + int rand 20), 20, '') if !$whole && rand() < 0.4;
	print { $log->{handle} } $text;
	return;
}

# Under a pattern that only the first name meets, a content must have been seen there.
sub await_seen
{
	my ($log) = @_;

	return if $log->{pattern} =~ /\*/;
	grow($log, 1);
	$node->poll_query_until('clicks', "SELECT lines + bad_lines = $log->{lines} FROM adclick.sources WHERE name = '$log->{name}'")
	  or die "$log->{name} is not read: " . sql("SELECT $log->{lines}, s FROM adclick.sources s WHERE name = '$log->{name}'");
	grow($log, 1);
	return;
}

# Renamed, and written to under its new name before it is let go.
sub rotate
{
	my ($log) = @_;
	my $new = "$log->{name}." . ++$log->{number};

	return if $log->{copied};
	await_seen($log);
	rename path($log->{name}), path($new) or die $!;
	grow($log, 1);
	close $log->{handle};
	push @{ $log->{old} }, $new;
	open_log($log);
	$done{rotate}++;
	return;
}

sub copy
{
	my ($log) = @_;

	return if $log->{copied};
	await_seen($log);
	grow($log, 1);
	$log->{copied} = "$log->{name}." . ++$log->{number};
	system_or_bail('cp', path($log->{name}), path($log->{copied}));
	truncate_log($log) if rand() < 0.5;
	return;
}

sub truncate_log
{
	my ($log) = @_;

	return if !$log->{copied};
	truncate $log->{handle}, 0 or die $!;
	print { $log->{handle} } "click_id,ad_id,clicked_at,country\n" if $log->{format} eq 'csv';
	push @{ $log->{old} }, delete $log->{copied};
	$done{truncate}++;
	return;
}

sub compress
{
	my ($log) = @_;
	my $old = shift @{ $log->{old} };

	return if !defined $old;
	system_or_bail('gzip', path($old));
	$done{compress}++;
	rename path("$old.gz"), path("$log->{name}." . ++$log->{number} . '.gz') or die $! if rand() < 0.5;
	return;
}

# At some instant while what was written just now is read.
sub kill_one
{
	my ($kind) = @_;
	my $pid;

	if ($kind eq 'server')
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'adclick $kind'") or die "no $kind";
		$pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'adclick $kind'");
		grow($_) for @logs;
		select undef, undef, undef, rand 0.03;
		kill_process($node, $pid) if $pid;
	}
	$killed{$kind}++;
	return;
}

sub all_read
{
	my ($name) = @_;

	$node->poll_query_until('clicks', "SELECT sum(lines) + sum(bad_lines) >= $ad + $bad FROM adclick.sources")
	  or diag(sql('SELECT * FROM adclick.sources'));
	drained($node, 'clicks');
	is(sql("SELECT n, coalesce(clicks, 0) FROM generate_series(1, $ad) n FULL JOIN (SELECT ad_id, sum(click_count) AS clicks FROM adclick.ad_click_counts GROUP BY 1) c ON c.ad_id = n
		WHERE clicks IS DISTINCT FROM 1 LIMIT 10"), '', "$name: each line is counted once");
	is(sql("SELECT count(*), count(DISTINCT line) FROM adclick.bad_lines"), "$bad|$bad", "$name: each bad line is set aside once");
	is(sql('SELECT duplicates, discarded FROM adclick.status'), '0|0', "$name: none came twice");
	is(sql('SELECT sum(lines), sum(bad_lines) FROM adclick.sources'), "$ad|$bad", "$name: the sources say so");
	is(sql('SELECT name, last_error FROM adclick.sources WHERE last_error IS NOT NULL'), '', "$name: no error");
	return;
}

$node->start;
adclick_database($node, 'clicks');
is(sql('SELECT workers_alive, workers_wanted FROM adclick.status'), '2|2', 'without sources there is no reader');
open_log($_) for @logs;
sql("SELECT adclick.add_source('$_->{name}', '$dir/$_->{pattern}', '$_->{format}')") for @logs;
$node->poll_query_until('clicks', 'SELECT workers_alive = 3 FROM adclick.status') or die 'no reader';
is(sql('SELECT workers_wanted FROM adclick.status'), '3', 'with them there is one');

for my $step (1 .. $STEPS)
{
	my $log = $logs[ rand @logs ];
	my $what = rand;

	$what < 0.70 ? grow($log) : $what < 0.78 ? rotate($log) : $what < 0.83 ? copy($log) : $what < 0.92 ? truncate_log($log) : compress($log);
	kill_one($KINDS[ ($step / $KILL_EVERY) % @KINDS ]) if $step % $KILL_EVERY == 0;
}
truncate_log($_), grow($_, 1) for @logs;
all_read('at the end');
exact_ok($node, 'clicks', 'at the end');
cmp_ok($done{$_} // 0, '>=', 5, "$_: $done{$_} times") for 'rotate', 'truncate', 'compress';
cmp_ok($killed{$_} // 0, '>=', 3, "$_ was killed $killed{$_} times") for 'reader', 'aggregator', 'server';

# Known files are compressed, and read no more.
foreach my $log (@logs)
{
	compress($log) while @{ $log->{old} };
}
grow($_, 1) for @logs;
all_read('all compressed');

# A restart
$node->restart;
grow($_, 1) for @logs;
all_read('restarted');

# A dump says how far files are read, whatever they were called then.
my $dump = "$dir/dump";
sql("ALTER DATABASE clicks SET adclick.workers = off");
$node->reload;
$node->poll_query_until('clicks', 'SELECT workers_alive = 0 FROM adclick.status') or die 'the workers do not leave';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('clicks') ], 'a dump');
rotate($_) for grep { $_->{pattern} =~ /\*/ } @logs;
grow($_, 1) for @logs;
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $dump ], 'restored');
sql("ALTER DATABASE clicks RESET adclick.workers");
$node->reload;
all_read('where it was dumped');
$node->poll_query_until('restored', "SELECT sum(lines) + sum(bad_lines) >= $ad + $bad FROM adclick.sources");
drained($node, 'restored');
is($node->safe_psql('restored', "SELECT count(*), sum(click_count) FROM adclick.ad_click_counts"), "$ad|$ad", 'restored: each line is counted once');
is($node->safe_psql('restored', 'SELECT duplicates, discarded FROM adclick.status'), '0|0', 'restored: none came twice');

# Who drops the last source needs no reader; nor who drops the extension.
sql('SELECT adclick.drop_source(name) FROM adclick.sources');
$node->poll_query_until('clicks', 'SELECT workers_alive = 2 AND workers_wanted = 2 FROM adclick.status') or die 'the reader stays';
pass('the reader leaves');
$node->safe_psql('restored', 'DROP EXTENSION adclick CASCADE');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'restored' AND backend_type LIKE 'adclick%'"), '0', 'the reader goes with the extension');

done_testing();
