# make demo with files of one's own: what it reads, what it shows, and what it
# refuses.  It installs into the copy of the server that all tests use.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = abs_path("$FindBin::RealBin/../..");
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my $sample = $ENV{ADCLICK_SAMPLE} // "$root/../shared/data/talkingdata_sample.csv";

$ENV{PG_CONFIG} = `pg_config --bindir` =~ s/\s+\z//r . '/pg_config';

sub stop_demo { return system('make', '-s', '-C', $root, 'demo-stop') }

END { my $status = $?; stop_demo() if $root; $? = $status }

# A file of these lines.
sub csv
{
	my $file = "$dir/clicks.csv";

	open my $out, '>', $file or die "$file: $!";
	print $out map { "$_\n" } @_;
	close $out;
	return $file;
}

# Run the demo; returns whether it succeeded, and what it said.
sub demo
{
	my @arguments = @_;
	my ($output, $ok) = ('');

	$ok = IPC::Run::run([ 'make', '-s', '-C', $root, 'demo', @arguments ],
		'<', '/dev/null', '>&', \$output, IPC::Run::timeout(300));
	return ($ok, $output);
}

sub refused
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($name, $message, @arguments) = @_;
	my ($ok, $output) = demo(@arguments);

	ok(!$ok, "$name: fails");
	like($output, $message, "$name: says why");
	unlike($output, qr/Building/, "$name: before anything is built");
	return;
}

sub ask
{
	my ($sql) = @_;
	my $answer;

	IPC::Run::run([ 'psql', '-XAtq', '-h', "$root/demo.tmp", '-U', 'demo', '-d', 'demo', '-c', $sql ], '>', \$answer)
	  or die "no answer to $sql";
	chomp $answer;
	return $answer;
}

refused('unknown columns', qr/unknown columns: "campaign", "colour"\n/, 'CLICKS=' . csv('campaign,ad_id,colour', '1,2,3'));
refused('unknown columns in COLUMNS', qr/unknown columns: "ad" \(not in the file\), "color"\n/,
	'CLICKS=' . csv('campaign,colour', '1,2'), 'COLUMNS=ad=ad_id,colour=color');
refused('two columns as one', qr/more than one column is read as ad_id/,
	'CLICKS=' . csv('ad_id,app', '1,2'), 'COLUMNS=ad_id,app=ad_id');
refused('no ad', qr/no column "ad_id"/, 'CLICKS=' . csv('country,device', 'CA,mobile'));
refused('an empty file', qr/no clicks/, 'CLICKS=' . csv());
refused('a header alone', qr/no clicks/, 'CLICKS=' . csv('ad_id,country'));
refused('COLUMNS without a file', qr/COLUMNS is for CLICKS/, 'COLUMNS=app=ad_id');

# On a terminal each screen is drawn over the one before.
my $bad = csv('ad_id,country', '1,CA', 'x1,CA');
my $terminal = '';
ok(!IPC::Run::run([ 'script', '-qec', "make -s -C '$root' demo CLICKS='$bad'", '/dev/null' ],
		'<', '/dev/null', '>&', \$terminal, IPC::Run::timeout(300)),
	'a wrong value: fails');
like($terminal =~ s/.*\e\[J//sr, qr/"x1"\s+CONTEXT: .* line 3, column ad_id: .*no click of it was taken/s,
	'a wrong value: the error is below the last screen');
ok(!-e "$root/demo.tmp", 'a wrong value: no server is left');

# One click, by names that need quotes; what is not mapped is left out.
my ($ok, $output) = demo(
	'CLICKS=' . csv("\xef\xbb\xbfApp,\"click,time\",\"Device name\",ip,Land", '7,2026-01-01 00:00:30+00,"a,b",87540,CA'),
	'COLUMNS=app=ad_id, Device Name=device, LAND=country');
ok($ok, 'COLUMNS: succeeds') or diag($output);
like($output, qr/^top ad in CA: 7, 1 click$/m, '1 click');
unlike($output, qr/\b1 (clicks|duplicates)/, 'no 1 clicks');
is(ask(q{SELECT ad_id, device, country, clicked_at <> '2026-01-01 00:00:30+00', ip IS NULL FROM adclick.click_log}), '7|a,b|CA|t|t',
	'COLUMNS: what is mapped is read');

SKIP:
{
	skip 'no sample: set ADCLICK_SAMPLE to talkingdata_sample.csv', 3 unless -r $sample;

	open my $in, '<', $sample or die "$sample: $!";
	my %column = do { my @names = split /,/, <$in> =~ s/\s+\z//r; map { $names[$_] => $_ } 0 .. $#names };
	my (%clicks, %minutes);
	while (<$in>)
	{
		my @fields = split /,/;
		$clicks{ $fields[ $column{app} ] }++;
		$minutes{ $fields[ $column{click_time} ] }++;
	}
	my @top = (sort { $clicks{$b} <=> $clicks{$a} || $a <=> $b } keys %clicks)[ 0 .. 9 ];

	($ok, $output) = demo("CLICKS=$sample", 'COLUMNS=app=ad_id,click_time=clicked_at');
	ok($ok, 'real clicks: succeeds') or diag($output);
	is(join(' ', map { s/,//gr } $output =~ /^ +\d+ +(\d+ +[\d,]+)  /mg) =~ s/ +/ /gr,
		join(' ', map { "$_ $clicks{$_}" } @top), 'real clicks: the ten ads of the file');
	is(ask('SELECT count(DISTINCT clicked_at) FROM adclick.click_log'), scalar keys %minutes, 'real clicks: their minutes');
}

is(stop_demo(), 0, 'the server is stopped');
ok(!-e "$root/demo.tmp", 'its files are removed');

done_testing();
