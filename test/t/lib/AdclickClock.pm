# A server whose clocks a test sets: it reads them through clock.c, and nothing else does.

package AdclickClock;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Cwd qw(abs_path);
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(clocked clocks_are pass_time);
our @EXPORT_OK = qw(set_clock);

my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my ($library, $offset) = ("$dir/clock.so", "$dir/offset");
my ($clock, $steady) = (0, 0);

# Let the server of a node, when it starts, read these clocks: all nodes the same ones.
sub clocked
{
	my ($node) = @_;

	unless (-e $library)
	{
		system('cc', '-shared', '-fPIC', '-o', $library, "$FindBin::RealBin/lib/clock.c") == 0 or die 'the clock is not built';
		clocks_are(0, 0);
	}
	return bless $node, 'ClockedCluster';
}

# How far ahead the clock is that anybody can set, and how far the one for delays, in seconds: in one
# write, into the place that the server's processes have mapped.
sub clocks_are
{
	($clock, $steady) = @_;

	open my $file, -e $offset ? '+<' : '>', $offset or die "cannot open $offset: $!";
	syswrite($file, pack 'qq', $clock, $steady) == 16 or die "cannot write $offset: $!";
	close $file;
	return;
}

# So many seconds go by.
sub pass_time
{
	my ($seconds) = @_;

	clocks_are($clock + $seconds, $steady + $seconds);
	return;
}

# Somebody sets the clock, so many seconds ahead.
sub set_clock
{
	my ($seconds) = @_;

	clocks_are($clock + $seconds, $steady);
	return;
}

package ClockedCluster;

our @ISA = ('PostgreSQL::Test::Cluster');

sub start
{
	my ($self, %options) = @_;

	local @ENV{qw(LD_PRELOAD CLOCK_OFFSET_FILE)} = ($library, $offset);
	return $self->SUPER::start(%options);
}

sub restart
{
	my ($self) = @_;

	$self->stop;
	return $self->start;
}

1;
