# examples/rsyslog is right: lines that it ships to a source are each counted once, whichever
# end is killed or stopped, with the file renamed now and then.
#
# test/run unpacks the programs from their Debian packages, where these can be had.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use IPC::Run;
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($rsyslogd) = grep { -x } map { s{/bin$}{/sbin}r . '/rsyslogd' } split /:/, $ENV{PATH};
my ($modules) = $rsyslogd ? glob($rsyslogd =~ s{/sbin/rsyslogd$}{/lib/*/rsyslog}r) : ();

plan skip_all => 'rsyslogd is not there (Debian: rsyslog, rsyslog-relp)' unless $modules && -e "$modules/omrelp.so";

my $seed = $ENV{SHIPPING_SEED} || int rand 1_000_000;
srand $seed;
diag("seed $seed");

my $dir = PostgreSQL::Test::Utils::tempdir();
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $node = adclick_node('main');
my %end;    # the two processes
my $lines = 0;
my $now = strftime('%Y-%m-%dT%H:%M:%S+00:00', gmtime);
my $log;

sub sql { return $node->safe_psql('clicks', $_[0]) }

# The configuration of the examples, but for where things are, and who owns the files.
sub configure
{
	my ($name, %changes) = @_;
	my $text = slurp_file("$FindBin::RealBin/../../examples/rsyslog/$name-clicks.conf");

	foreach my $from (sort keys %changes)
	{
		$text =~ s/\Q$from\E/$changes{$from}/g or die "$name-clicks.conf has no $from";
	}
	append_to_file("$dir/$name.conf", $text);
	return;
}

# As its service does, the shipper begins without what it had in its directory.
sub start
{
	my ($name) = @_;
	local $ENV{LD_LIBRARY_PATH} = $modules =~ s{/rsyslog$}{}r;

	system_or_bail('rm', '-rf', "$dir/ship") if $name eq 'ship';
	mkdir "$dir/ship";
	unlink "$dir/$name.pid";
	$end{$name} = IPC::Run::start([ $rsyslogd, '-n', '-f', "$dir/$name.conf", '-i', "$dir/$name.pid", '-M', $modules ],
		'<', \undef, '&>', "$PostgreSQL::Test::Utils::log_path/$name.log");
	return;
}

sub stop
{
	my ($name, $signal) = @_;

	$end{$name}->signal($signal);
	eval { $end{$name}->finish };
	return;
}

END { my $status = $?; $_->kill_kill foreach values %end; $? = $status }

sub write_lines
{
	for (1 .. 1 + int rand 50)
	{
		$lines++;
		printf $log '{"click_id": "%08x%024x", "ad_id": %d, "clicked_at": "%s", "country": "CA", "user_id": ""}%s', $seed, $lines, $lines, $now, "\n";
	}
	return;
}

sub open_log
{
	open $log, '>>', "$dir/in/clicks.json" or die $!;
	$log->autoflush(1);
	return;
}

sub counted
{
	return $node->poll_query_until('clicks', "SELECT count(*) = $lines FROM adclick.ad_click_counts");
}

mkdir "$dir/$_" foreach 'in', 'out';
configure('ship', '/run/ship-clicks' => "$dir/ship", '/var/log/ads' => "$dir/in", 'database.example.com' => '127.0.0.1', '2514' => $port);
configure('receive', '/var/log/ads' => "$dir/out", '2514' => $port, ' fileOwner="root" fileGroup="postgres"' => '');
foreach my $name ('ship', 'receive')
{
	my $output;
	local $ENV{LD_LIBRARY_PATH} = $modules =~ s{/rsyslog$}{}r;

	mkdir "$dir/ship";
	ok(IPC::Run::run([ $rsyslogd, '-N1', '-f', "$dir/$name.conf", '-M', $modules ], '<', \undef, '>&', \$output), "rsyslogd takes $name.conf")
	  or do { diag($output); done_testing(); exit 1 };
}
$node->start;
adclick_database($node, 'clicks');
sql("SELECT adclick.add_source('shipped', '$dir/out/clicks.json', 'json')");
open_log();
start($_) foreach 'receive', 'ship';
write_lines();
ok(counted(), 'lines are shipped and counted');

foreach my $round (1 .. 12)
{
	my @which = $round % 3 ? ((qw(ship receive))[ $round % 2 ]) : qw(receive ship);

	write_lines() for 1 .. 3;
	stop($_, rand() < 0.5 ? 'KILL' : 'TERM') foreach @which;
	write_lines();
	if ($round % 4 == 0)
	{
		# what is not shipped of the one before that would be gone
		start($_) foreach @which;
		@which = ();
		counted() or die "$lines lines are not counted";
		close $log;
		rename "$dir/in/clicks.json", "$dir/in/clicks.json.1" or die $!;
		open_log();
	}
	start($_) foreach @which;
}
write_lines();
ok(counted(), 'each line is counted') or diag(sql('TABLE adclick.sources'));
drained($node, 'clicks');
is(sql("SELECT count(*), sum(click_count), max(ad_id) FROM adclick.ad_click_counts"), "$lines|$lines|$lines", 'and once');
is(sql("SELECT count(*) FROM adclick.discarded_clicks WHERE reason <> 'duplicate'"), '0', 'others are duplicates');
cmp_ok(sql('SELECT duplicates FROM adclick.status'), '>', 0, 'which there are');
exact_ok($node, 'clicks', 'shipped');

done_testing();
