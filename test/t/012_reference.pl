# docs/reference.md tells the truth: each example on it is run, in the order of the
# page and in one session, and prints what stands there; each error in its tables
# is raised; and each function, column, setting and right there is stands on it, once.
#
# With --write the outputs on the page are replaced by those of this run.  That takes
# an installed extension, a user other than root, and what test/run sets for kind tap:
#   pgxs=/usr/lib/postgresql/15/lib/pgxs
#   PATH=/usr/lib/postgresql/15/bin:$PATH PERL5LIB=$pgxs/src/test/perl TESTDATADIR=/tmp/reference \
#   PG_REGRESS=$pgxs/src/test/regress/pg_regress perl test/t/012_reference.pl --write
#
# On the page, SQL to be run is
# - a block that starts with ```sql, of which only errors matter,
# - an indented block as psql shows it, input behind a prompt and then its output,
# - the last column of a table of errors; the others are its SQLSTATE and message.

use strict;
use warnings FATAL => 'all';

use FindBin;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $PAGE = "$FindBin::RealBin/../../docs/reference.md";
my $ERRORS = '| SQLSTATE | error | for example |';
my $END_OF_OUTPUT = '-- end of output --';

my $write = grep { $_ eq '--write' } @ARGV;
my $text = slurp_file($PAGE);
my @lines = split /\n/, $text, -1;

# No room for workers beside the two launchers: rounds are done by hand.  Settings
# are left alone, as the page tells their defaults.
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'adclick'\nmax_worker_processes = 2");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE shop');

# On the way "yesterday" must not become another day, nor this minute be closed.
sleep 1 while time % 60 >= 40;

my @examples = examples();
run_examples();
if ($write)
{
	splice @lines, $_->{line}, $_->{count}, @{ $_->{output} } foreach reverse @examples;
	open my $file, '>', $PAGE or die "$PAGE: $!";
	print $file join("\n", @lines);
	close $file;
	note("$PAGE written");
}
foreach my $example (@examples)
{
	my @page = @lines[ $example->{line} .. $example->{line} + $example->{count} - 1 ];

	unlike($example->{printed}, qr/^ERROR/m, $example->{name}) if $example->{kind} eq 'block';
	is(join("\n", @{ $example->{output} }), join("\n", @page), $example->{name})
	  if $example->{kind} ne 'block' && !$write;
}

my %times;
$times{$_}++ for $text =~ /^#+ .+/mg;
is(join(', ', grep { $times{$_} > 1 } sort keys %times), '', 'no heading stands twice');
all_listed('functions', [ functions() ],
	map { s/\n {8,}/ /gr } $text =~ /^    (adclick(?:_api)?\.\w+\(.*(?:\n {8}.*)*)/mg);
all_listed('columns', [ columns() ], page_columns());
all_listed('settings', [ settings() ], $text =~ /^(\| `adclick\.\w+` \| .*? \| .*? \| .*? \| (?:reload|restart|ALTER DATABASE or reload) \|)/mg);

all_listed('rights', [ rights() ], $text =~ /^(\| `adclick(?:_api)?\.\w+(?:\(\))?`(?: \| [-A-Z, ]+){5} \|)$/mg);

done_testing();

# What is to be run, with the lines its output takes on the page.
sub examples
{
	my @found;

	for (my $i = 0; $i < @lines; $i++)
	{
		if ($lines[$i] eq '```sql')
		{
			my $sql = '';

			$sql .= "$lines[$i]\n" while $lines[++$i] ne '```';
			push @found, { kind => 'block', sql => $sql, line => $i, count => 0 };
		}
		elsif ($lines[$i] =~ /^    shop=# (.*)/)
		{
			my $sql = "$1\n";
			my $count = 0;

			$sql .= "$1\n" while $lines[ $i + 1 ] =~ /^    shop[-('"]# (.*)/ && ++$i;
			# a row may be empty
			$count++ while join("\n", @lines[ $i + 1 + $count .. $#lines ]) =~ /^\n?    (?!shop=#)/;
			push @found, { kind => 'session', sql => $sql, line => $i + 1, count => $count };
			$i += $count;
		}
		elsif ($lines[$i] eq $ERRORS)
		{
			for ($i += 2; $lines[$i] =~ /\| `(.*)` \|$/; $i++)
			{
				push @found, { kind => 'error', statement => $1, line => $i, count => 1 };
				$found[-1]{sql} = "\\set VERBOSITY verbose\n$1;\n\\set VERBOSITY default\n";
			}
		}
	}
	$_->{name} = "line $_->{line}: " . ($_->{statement} // $_->{sql} =~ s/\n.*//sr) foreach @found;
	return @found;
}

sub run_examples
{
	my $session = '';
	my $printed;

	foreach my $example (@examples)
	{
		my $reloads = $example->{sql} =~ /pg_reload_conf/;

		$session .= "SELECT pg_conf_load_time() AS loaded \\gset\n" if $reloads;
		$session .= $example->{sql};
		$session .= wait_for_reload() if $reloads;
		$session .= "\\echo '$END_OF_OUTPUT'\n";
	}
	IPC::Run::run([ 'psql', '-X', '-d', $node->connstr('shop') ], '<', \$session, '>&', \$printed)
	  or die "psql failed: $printed";
	$printed =~ s/[ \t]+$//mg;

	my @printed = split /^\Q$END_OF_OUTPUT\E\n/m, $printed, -1;
	die "psql printed: $printed" unless @printed == @examples + 1;
	foreach my $example (@examples)
	{
		$example->{printed} = (shift @printed) =~ s/\n+\z//r;
		$example->{output} = [ output_lines($example) ];
	}
	return;
}

# What is to stand on the page.
sub output_lines
{
	my ($example) = @_;

	return () if $example->{kind} eq 'block';
	return map { "    $_" =~ s/ +$//r } split /\n/, $example->{printed} if $example->{kind} eq 'session';
	my ($code, $message) = $example->{printed} =~ /^ERROR:  (\w{5}): (.*)/m;
	return sprintf '| %s | %s | `%s` |', $code // 'none', $message // 'no error', $example->{statement};
}

# A session takes new settings between two statements.
sub wait_for_reload
{
	return "\\o /dev/null\n"
	  . "SELECT pg_sleep(0.05) WHERE pg_conf_load_time() = :'loaded';\n" x (20 * $PostgreSQL::Test::Utils::timeout_default)
	  . "\\o\n";
}

# What there is and what is on the page are the same.
sub all_listed
{
	my ($what, $there, @page) = @_;
	my %is_there = map { $_ => 1 } @$there;
	my %on_page = map { $_ => 1 } @page;

	is(join("\n", grep { !$on_page{$_} } @$there), '', "all $what are on the page");
	is(join("\n", grep { !$is_there{$_} } @page), '', "all $what on the page are there");
	return;
}

# The rows of a query, types written as on the page.
sub rows
{
	my ($sql) = @_;
	my $rows = $node->safe_psql('shop', $sql);

	$rows =~ s/timestamp with time zone/timestamptz/g;
	$rows =~ s/\binteger\b/int/g;
	$rows =~ s/'::jsonb/'/g;
	return split /\n/, $rows;
}

sub functions
{
	return rows(q{
		SELECT format('%s.%s(%s)%s', pronamespace::regnamespace, proname, pg_get_function_arguments(oid), ' RETURNS ' || pg_get_function_result(oid))
		FROM pg_proc WHERE pronamespace IN ('adclick'::regnamespace, 'adclick_api'::regnamespace)});
}

# Relations have a heading each, and a table of their columns below.
sub page_columns
{
	my @columns;
	my $relation;

	foreach (@lines)
	{
		$relation = /^### `adclick\.(\w+)`$/ ? $1 : undef if /^#/;
		push @columns, "$relation.$1 $2" if $relation && /^\| `(\w+)` \| (.*?) \|/;
	}
	return @columns;
}

sub columns
{
	return rows(q{
		SELECT format('%s.%s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod))
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'adclick'::regnamespace AND c.relkind NOT IN ('i', 'I', 'S')});
}

# Unit, default, range and how a new value is taken.
sub settings
{
	return rows(q{
		SELECT format('| `%s` | %s | %s | %s | %s |', name, unit, current_setting(name),
			CASE vartype WHEN 'integer' THEN min_val || ' to ' || max_val
				WHEN 'bool' THEN 'on, off' WHEN 'string' THEN 'a directory' ELSE array_to_string(enumvals, ', ') END,
			CASE context WHEN 'sighup' THEN 'reload' WHEN 'postmaster' THEN 'restart'
				WHEN 'superuser' THEN 'ALTER DATABASE or reload' END)
		FROM pg_settings WHERE name LIKE 'adclick.%'});
}

# What each role may do with each object.
sub rights
{
	return rows(q{
		SELECT format('| `%s` | %s |', name, string_agg(coalesce(rights, '-'), ' | ' ORDER BY place))
		FROM (SELECT name, place, string_agg(privilege, ', ' ORDER BY nr) FILTER (WHERE CASE is_function
				WHEN true THEN has_function_privilege(role, oid, privilege) ELSE has_table_privilege(role, oid, privilege) END) AS rights
			FROM (SELECT oid, 'adclick.' || relname AS name, false AS is_function FROM pg_class WHERE relnamespace = 'adclick'::regnamespace AND relkind IN ('r', 'v')
				UNION ALL SELECT oid, format('%s.%s()', pronamespace::regnamespace, proname), true FROM pg_proc WHERE pronamespace IN ('adclick'::regnamespace, 'adclick_api'::regnamespace)) o
			JOIN (VALUES (false, 'SELECT', 1), (false, 'INSERT', 2), (false, 'UPDATE', 3), (false, 'DELETE', 4), (true, 'EXECUTE', 5)) p (is_function, privilege, nr) USING (is_function)
			CROSS JOIN unnest('{adclick_ingest,adclick_advertiser,adclick_reader,adclick_admin,pg_monitor}'::name[]) WITH ORDINALITY r (role, place)
			GROUP BY 1, 2) x GROUP BY name ORDER BY name COLLATE "C"});
}
