# Run tests that speak TAP: harness.pl COUNTS HOW TEST...
#
# HOW tells what a test is: a program of test/unit, a directory to make "check"
# in, an SQL file of test/pgtap, a Perl file of test/t, a client of test/clients,
# or a file of test/http.  Writes the numbers of tests passed and failed to the file
# COUNTS; a file that fails otherwise than by a test, as by a wrong plan or its
# exit code, counts as one failed test.

use strict;
use warnings FATAL => 'all';

use File::Temp;
use TAP::Harness;

my ($counts, $how, @tests) = @ARGV;

my %command = (
	program => sub { return ["test/unit/bin/$_[0]"] },
	make => sub { return [ 'make', '-s', '-C', "test/$_[0]", 'check' ] },
	perl => sub { return [ $^X, "test/t/$_[0].pl" ] },
	# Debian's Python has Debian's packages, another may come first
	client => sub {
		return [ $_[0] =~ /\.java$/ ? ('java', '-cp', '/usr/share/java/postgresql.jar')
			: $_[0] =~ /\.js$/ ? 'node' : '/usr/bin/python3', "test/clients/$_[0]" ];
	},
	http => sub { return [ 'node', '--test-reporter=./test/http/lib/tap.js', "test/http/$_[0]" ] },
	sql => sub { return [ 'bash', 'test/run', '--pgtap', $_[0] ] });

# Perl and SQL files have servers of their own, so as many run at a time as there are processors.
my %path = (perl => 'test/t/%s.pl', sql => 'test/pgtap/%s.sql');
chomp(my $jobs = $path{$how} ? `nproc` : 1);
# Perl files wait for servers that start and workers that sleep: two more keep all processors busy.
$jobs += 2 if $how eq 'perl';
# As a rule the largest take longest: begun last, one would be left alone.
@tests = sort { -s sprintf($path{$how}, $b) <=> -s sprintf($path{$how}, $a) } @tests if $jobs > 1;

# What is kept, packed and answered by whole days (UTC) is another when one ends in the middle of a file.
sub await_new_day
{
	my $left = 86400 - time % 86400;

	sleep $left if $left < 180;
	return;
}

my $dump = File::Temp->newdir;
$ENV{PERL_TEST_HARNESS_DUMP_TAP} = "$dump";

my $harness = TAP::Harness->new({ exec => sub { await_new_day(); return $command{$how}->($_[1]) }, timer => 1, jobs => $jobs });
my $results = $harness->runtests(@tests);
my ($passed, $failed) = (0, 0);

foreach my $test ($results->descriptions)
{
	my ($result) = $results->parsers($test);
	my $bad = $result->failed;

	$passed += $result->passed;
	$failed += $bad > 0 ? $bad : $result->has_problems ? 1 : 0;
	next unless $result->has_problems;

	# what it said about the failures, and its last words
	print "# FAILED: $test\n", map { "# $_\n" } $result->parse_errors;
	open my $tap, '<', "$dump/$test" or next;
	my @lines = <$tap>;
	my $failure = 0;
	foreach my $i (0 .. $#lines)
	{
		$failure = $lines[$i] =~ /^not ok/ || ($failure && $lines[$i] =~ /^\s*#/);
		print $lines[$i] if $failure || $i > $#lines - 5;
	}
	next unless $how eq 'perl';
	print_end($_) foreach glob "$ENV{TESTLOGDIR}/regress_log_$test $ENV{TESTLOGDIR}/${test}_*.log";
}

open my $file, '>', $counts or die "cannot write $counts: $!";
print $file "$passed $failed\n";
close $file;

sub print_end
{
	my ($name) = @_;
	my @last;

	open my $log, '<', $name or return;
	while (my $line = <$log>)
	{
		push @last, $line;
		shift @last if @last > 12;
	}
	print "# the end of $name:\n", @last;
	return;
}
