# The folders of src/ stand in the order of the data: a file includes files of its own
# folder and of those before, never of one behind.  The core has no server header.

use strict;
use warnings FATAL => 'all';

use FindBin;
use Test::More;

my @FOLDERS = qw(core base inbox store source seen read write query server);
my $src = "$FindBin::RealBin/../../src";
my %place = map { $FOLDERS[$_] => $_ } 0 .. $#FOLDERS;
my $files = 0;

opendir(my $dir, $src) or die "no $src: $!";
is_deeply([ sort grep { !/^\./ && -d "$src/$_" } readdir $dir ], [ sort @FOLDERS ], 'the folders are those told here');
closedir $dir;

foreach my $folder (@FOLDERS)
{
	my @wrong;

	foreach my $path (glob "$src/$folder/*.[ch]")
	{
		open(my $file, '<', $path) or die "$path: $!";
		while (my $line = <$file>)
		{
			my ($included) = $line =~ /^\s*#\s*include\s+"([^"]+)"/ or next;
			my ($other, $name) = $included =~ m{^(?:(\w+)/)?(\w+\.h)$} or next;
			my $is_ours = $other ? -e "$src/$included" : -e "$src/$folder/$name";

			push @wrong, "$path: $included" if $is_ours && $other && $place{$other} >= $place{$folder};
			push @wrong, "$path: $included is no header of the core" if !$is_ours && $folder eq 'core';
		}
		$files++;
	}
	is("@wrong", '', "$folder includes what comes before it");
}
cmp_ok($files, '>', 70, 'all files were looked at');

done_testing();
