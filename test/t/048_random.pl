# A random run: several sessions send clicks of every kind, in transactions of every
# kind, while workers count them and all else goes on that a server has: VACUUM,
# compaction, other settings, restarts, and kill -9 of the server and of workers.
#
# What was sent and acknowledged is kept here, outside of the server.  A commit whose
# acknowledgment was lost is looked up by the first click of its transaction, which is
# like no other.  After every few steps, all in one snapshot: the log has what was sent
# and nothing else; each click has the verdict it should have by the settings in force
# when it arrived; facts, lists, views and answers are those of what counts; and the
# ledger and the status agree.  Readers with an old snapshot see what they saw.
#
# Settings that judge clicks are changed while no writer is open and nothing waits in
# the inbox, and nothing is sent until the ticks have them: so each click has one era,
# by its arrival.  The clock is not set, as that would make arrivals of two eras one (049 does).
#
# The dice are seeded: the same seed is the same run but for what clocks and the order
# of processes make of it.  Longer ones by hand: RANDOM_STEPS, RANDOM_SEED.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use AdclickTest;
use Cwd qw(abs_path);
use List::Util qw(sum);
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $STEPS = $ENV{RANDOM_STEPS} // 150;
my $SEED = $ENV{RANDOM_SEED} // 1;
my $BETWEEN_CHECKS = 5;
my $SHOWN = 40;    # of the last actions, when one fails
my $WRITERS = 5;
my $READERS = 3;

# What each round of the deck has.
my %DECK = (
	write => 30, resolve => 3, open_reader => 3, ask_reader => 4,
	vacuum => 2, vacuum_full => 2, compact => 2, tick => 1, hold_ticks => 2, let_ticks => 2, filter => 2, settings => 2,
	restart_fast => 1, restart_immediate => 1, kill_server => 1, end_worker => 1, kill_worker => 1, lose_client => 3);

my $HOUR = 3600;
my $DAY = 24 * $HOUR;

local $SIG{PIPE} = 'IGNORE';

#
# The oracle: as in oracle.sql, but that each click is judged by the settings in force
# when it arrived (which is known to the millisecond), and by what was counted under
# former ones.
#
my $ERAS = q{
CREATE TABLE oracle.eras (era int, since timestamptz, until timestamptz, rule int, by_user boolean, dedup_window numeric,
	ahead interval, behind interval);

CREATE FUNCTION oracle.key(by_user boolean, click_id uuid, user_id bigint, ad_id bigint) RETURNS text
	LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN by_user THEN user_id || '/' || ad_id ELSE click_id::text END $$;

CREATE FUNCTION oracle.bucket_of(by_user boolean, inside numeric, epoch numeric, dedup_window numeric) RETURNS numeric
	LANGUAGE sql IMMUTABLE AS
$$ SELECT oracle.bucket(CASE WHEN NOT by_user AND inside BETWEEN epoch - 86400 AND epoch + 86400 THEN inside ELSE epoch END, dedup_window) $$;

-- Every click with what it is judged by.
DROP FUNCTION oracle.judged();
CREATE FUNCTION oracle.judged()
	RETURNS TABLE (nr bigint, era int, rule int, ad_id bigint, minute timestamptz, country text, region text, device text,
		user_id bigint, ip inet, click_id uuid, epoch numeric, inside numeric, key text, bucket numeric, fault text, verdict text)
	LANGUAGE sql STABLE AS $$
WITH timed AS (
	SELECT c.*, e.era, e.rule, e.by_user, e.dedup_window, c.clicked_at AS at,
		CASE WHEN c.clicked_at >= c.received_at + e.ahead + interval '1 ms' THEN 'in the future'
			WHEN c.clicked_at < c.received_at - e.behind THEN 'too old' END AS fault
	FROM (SELECT click_id, ad_id, coalesce(clicked_at, received_at) AS clicked_at, user_id, received_at, ip, country, region, device,
			verdict, row_number() OVER () AS nr FROM adclick.click_log) c
	LEFT JOIN oracle.eras e ON c.received_at >= e.since AND c.received_at < e.until
), told AS (
	SELECT t.*, CASE WHEN fault IS NULL THEN extract(epoch FROM t.at) END AS epoch,
		CASE WHEN fault IS NULL THEN oracle.id_time(t.click_id) END AS inside
	FROM timed t
)
SELECT nr, era, rule, ad_id, CASE WHEN fault IS NULL THEN date_trunc('minute', at, 'UTC') END, oracle.dimension(country),
	oracle.dimension(region), oracle.dimension(device), user_id, oracle.host(ip), click_id, epoch, inside,
	CASE WHEN fault IS NULL THEN oracle.key(by_user, click_id, user_id, ad_id) END,
	oracle.bucket_of(by_user, inside, epoch, dedup_window), fault, verdict
FROM told
$$;

-- And whether it is a copy of one that was counted under another rule before.
CREATE FUNCTION oracle.known()
	RETURNS TABLE (nr bigint, era int, rule int, ad_id bigint, minute timestamptz, country text, region text, device text,
		user_id bigint, ip inet, key text, bucket numeric, fault text, verdict text, is_former boolean)
	LANGUAGE sql STABLE SET work_mem = '64MB' SET jit = off SET enable_nestloop = off AS $$
WITH judged AS MATERIALIZED (
	SELECT * FROM oracle.judged()
), rules AS MATERIALIZED (
	SELECT rule, by_user, dedup_window, min(era) AS first_era FROM oracle.eras GROUP BY 1, 2, 3
), former AS MATERIALIZED (
	SELECT DISTINCT j.nr
	FROM (SELECT j.nr, j.era, r.rule, oracle.key(r.by_user, j.click_id, j.user_id, j.ad_id) AS key,
			oracle.bucket_of(r.by_user, j.inside, j.epoch, r.dedup_window) AS bucket
		FROM judged j JOIN rules r ON r.rule <> j.rule AND r.first_era < j.era WHERE j.fault IS NULL) j
	JOIN (SELECT rule, key, bucket, min(era) AS era FROM judged WHERE verdict = 'counted' GROUP BY 1, 2, 3) c USING (rule, key, bucket)
	WHERE c.era < j.era
)
SELECT j.nr, era, rule, ad_id, minute, country, region, device, user_id, ip, key, bucket, fault, verdict, f.nr IS NOT NULL
FROM judged j LEFT JOIN former f USING (nr)
$$;

-- What has not been taken and would count, if it is no copy of another such one.
CREATE FUNCTION oracle.waiting()
	RETURNS TABLE (rule int, key text, bucket numeric, ad_id bigint, minute timestamptz, country text, region text, device text,
		user_id bigint, ip inet)
	LANGUAGE sql STABLE SET jit = off SET enable_nestloop = off AS $$
WITH known AS MATERIALIZED (
	SELECT * FROM oracle.known()
), counted AS MATERIALIZED (
	SELECT DISTINCT rule, key, bucket FROM known WHERE verdict = 'counted'
)
SELECT k.rule, key, k.bucket, ad_id, minute, country, region, device, user_id, ip
FROM known k LEFT JOIN counted c USING (rule, key, bucket)
WHERE EXISTS (SELECT FROM adclick.clicks)    -- else nothing of this is computed
	AND k.verdict IS NULL AND k.fault IS NULL AND NOT k.is_former AND c.rule IS NULL
$$;

CREATE OR REPLACE FUNCTION oracle.clicks(taken_only boolean DEFAULT false)
	RETURNS TABLE (ad_id bigint, minute timestamptz, country text, region text, device text, user_id bigint, ip inet)
	LANGUAGE sql STABLE AS $$
SELECT ad_id, date_trunc('minute', coalesce(clicked_at, received_at), 'UTC'), oracle.dimension(country), oracle.dimension(region),
	oracle.dimension(device), user_id, oracle.host(ip) FROM adclick.click_log WHERE verdict = 'counted'
UNION ALL
SELECT ad_id, minute, country, region, device, user_id, ip
FROM (SELECT w.*, row_number() OVER (PARTITION BY rule, key, bucket) AS nr FROM oracle.waiting() w WHERE NOT taken_only) w
WHERE nr = 1 OR key IS NULL
$$;

-- Copies that wait and are not the same: which of them will count, nobody can say.
CREATE FUNCTION oracle.ambiguous() RETURNS boolean
	LANGUAGE sql STABLE AS $$
SELECT EXISTS (SELECT FROM (SELECT DISTINCT w.* FROM oracle.waiting() w WHERE key IS NOT NULL) w GROUP BY rule, key, bucket HAVING count(*) > 1)
$$;

CREATE OR REPLACE FUNCTION oracle.wrong_verdicts(may_be_undecided boolean DEFAULT false)
	RETURNS TABLE (wrong text, key text, bucket numeric, verdicts text)
	LANGUAGE sql STABLE SET jit = off AS $$
WITH known AS MATERIALIZED (
	SELECT * FROM oracle.known()
)
SELECT CASE WHEN era IS NULL THEN 'it is of no era' WHEN is_former THEN 'it is known from former settings' ELSE 'it is ' || coalesce(fault, 'valid') END,
	key, bucket, verdict
FROM known
WHERE era IS NULL OR verdict IS NOT NULL
	AND CASE WHEN fault IS NOT NULL THEN verdict <> fault
		WHEN is_former THEN verdict <> 'duplicate'
		WHEN key IS NULL THEN verdict <> 'counted'
		ELSE verdict NOT IN ('counted', 'duplicate') END
UNION ALL
SELECT count(*) FILTER (WHERE verdict = 'counted') || ' copies are counted', key, bucket, string_agg(coalesce(verdict, 'not taken'), ', ')
FROM known WHERE fault IS NULL AND key IS NOT NULL AND NOT is_former
GROUP BY rule, key, bucket
HAVING count(*) FILTER (WHERE verdict = 'counted') > 1
	OR count(*) FILTER (WHERE verdict = 'counted') = 0 AND bool_or(verdict = 'duplicate')
$$;

-- What the table and the view for BI tools say, against each other.
CREATE FUNCTION oracle.wrong_view()
	RETURNS TABLE (who text, ad_id bigint, minute timestamptz, country text, region text, device text, clicks bigint)
	LANGUAGE sql STABLE SET jit = off AS $$
WITH expected AS MATERIALIZED (
	SELECT * FROM oracle.facts()
), viewed AS MATERIALIZED (
	SELECT ad_id, click_minute, country, region, device, sum(click_count)::bigint FROM adclick.clicks_per_minute GROUP BY 1, 2, 3, 4, 5
)
(SELECT 'expected', * FROM (TABLE expected EXCEPT ALL TABLE viewed) e)
UNION ALL
(SELECT 'viewed', * FROM (TABLE viewed EXCEPT ALL TABLE expected) v)
$$;

-- The orders by user and by address, whole: ads of all users there are, and of all addresses.
CREATE FUNCTION oracle.wrong_orders() RETURNS TABLE (who text, by text, ad_id bigint, clicks bigint)
	LANGUAGE sql STABLE SET jit = off AS $$
WITH clicks AS MATERIALIZED (
	SELECT * FROM oracle.clicks()
), expected AS MATERIALIZED (
	SELECT 'user', ad_id, count(*) FROM clicks WHERE user_id IS NOT NULL GROUP BY 2
	UNION ALL
	SELECT 'ip', ad_id, count(*) FROM clicks WHERE ip IS NOT NULL GROUP BY 2
), answered AS MATERIALIZED (
	SELECT 'user', ad_id, click_count FROM adclick.top_n_ads_between(100000, '-infinity', 'infinity',
		(SELECT jsonb_build_object('user_id', coalesce(jsonb_agg(DISTINCT user_id), '[]')) FROM clicks WHERE user_id IS NOT NULL))
	UNION ALL
	SELECT 'ip', ad_id, click_count FROM adclick.top_n_ads_between(100000, '-infinity', 'infinity', '{"ip": ["0.0.0.0/0", "::/0"]}')
)
(SELECT 'expected', * FROM (TABLE expected EXCEPT ALL TABLE answered) e)
UNION ALL
(SELECT 'answered', * FROM (TABLE answered EXCEPT ALL TABLE expected) a)
$$;
};

# What cannot be known beforehand is left out: an id that was given, a time by default.
my $LOG = q{
	SELECT CASE WHEN region IN ('no id', 'neither') THEN NULL ELSE click_id END, ad_id,
		CASE WHEN region IN ('no time', 'neither') THEN 'now' WHEN NOT isfinite(clicked_at) THEN clicked_at::text
			ELSE to_char(clicked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"') END,
		user_id, ip, country, region, device
	FROM adclick.click_log};
my $STAMPED_WRONG = q{
	SELECT 'stamped wrong: ' || l FROM adclick.click_log l
	WHERE click_id IS NULL OR received_at IS NULL OR region IN ('no time', 'neither') AND coalesce(clicked_at >= received_at + interval '1 ms', true)};

# All that a snapshot has.
my $EVER = q{'-infinity'::timestamptz, 'infinity'::timestamptz};
my $SEEN = qq{
	SELECT (SELECT sum(hashtextextended(l::text, 0)::numeric) FROM adclick.click_log l), (SELECT count(*) FROM adclick.clicks),
		(SELECT concat_ws(' ', lag_rows, clicks_counted, duplicates, discarded) FROM adclick.status),
		(SELECT md5(string_agg(t::text, ' ')) FROM adclick.top_n_ads_between(1000, $EVER) t),
		(SELECT sum(hashtextextended(concat_ws('|', click_minute, ad_id, country, region, device), 0) * click_count::numeric)
			FROM adclick.clicks_per_minute),
		(SELECT string_agg(b::text, ' ') FROM adclick.breakdown_between(1, $EVER, 'country') b),
		adclick.unique_users_between(1, $EVER), adclick.ad_click_count_between(2, $EVER, '{"ip": ["10.0.0.0/25", "2001:db8::/122"]}'),
		(SELECT concat_ws(' ', counted, duplicates, discarded, unread, balanced) FROM adclick.check_ledger())};

my $node;
my $dir = abs_path(PostgreSQL::Test::Utils::tempdir());
my ($state, $step) = ($SEED, 0);
my ($names, $transactions, $files) = (0, 0, 0);
my @history;
my %done;
my @deck;

my %sent;                # lines of committed clicks, and how many there are of each
my @pool;                # clicks to make copies of, whatever became of them
my (@writers, @readers);
my $ticker;              # has ticked, and goes on to hold the lock: all that comes waits
my %prepared;            # transactions by their gid
my @doubtful;            # whose commit, or preparation, was not acknowledged
my %filters;
my $eras = 0;
my %rules;
my $changing = 0;        # settings: nothing may be sent
my @slots;               # minutes of late clicks
my %setting = (dedup_by => 'click_id', dedup_window => 600, future_tolerance => 300, raw_retention => 10080);

sub sql { return $node->safe_psql('clicks', $_[0]) }

# A number from 0 to n - 1.
sub dice
{
	my ($n) = @_;

	use integer;
	$state = ($state * 25214903917 + 11) & (1 << 48) - 1;
	return ($state >> 16) * $n >> 32;
}

sub choose { return $_[ dice(scalar @_) ] }

# From 0 to n - 1, small ones more often.
sub skewed { return int(exp(dice(1_000_000) / 1_000_000 * log($_[0] + 1))) - 1 }

# What is done, for who reads the output.
sub record
{
	my ($what) = @_;

	push @history, "$step: $what";
	note($history[-1]);
	return;
}

#
# Clicks: lists of columns as COPY writes them, "undef" is NULL
#

sub time_text { return strftime('%Y-%m-%d %H:%M:%S', gmtime $_[0]) . sprintf('.%06d+00', dice(1_000_000)) }

sub hex_digits { return join '', map { sprintf '%04x', dice(65536) } 1 .. $_[0] / 4 }

# The rest of an id, of a version.
sub id_tail
{
	my ($version) = @_;

	return join '-', $version . substr(hex_digits(4), 1), choose(8, 9, 'a', 'b') . substr(hex_digits(4), 1), hex_digits(12);
}

sub random_id { return join '-', hex_digits(8), hex_digits(4), id_tail(4) }

sub version_7_id
{
	my ($second) = @_;
	my $time = sprintf '%012x', $second * 1000 + dice(1000);

	return join '-', substr($time, 0, 8), substr($time, 8), id_tail(7);
}

# When a click was made, in seconds and as text; the former also if it is no time.
sub click_time
{
	my $now = time;
	my $kind = dice(100);
	my $second =
	    $kind < 50 ? $now - dice(180)
	  : $kind < 80 ? choose(@slots) + dice(60)
	  : $kind < 86 ? $now - dice(7 * $DAY)
	  : $kind < 88 ? $now - dice(40 * $DAY)
	  : $kind < 90 ? $now + dice(600)
	  : $kind < 91 ? $now + dice(2 * $DAY)
	  : $kind < 94 ? $now - $setting{raw_retention} * 60 + dice(5) - 2
	  : $kind < 97 ? $now + $setting{future_tolerance} + dice(5) - 2
	  : $now;

	return ($second, undef) if $kind == 97;
	return ($second, choose('infinity', '-infinity', '9999-12-31 23:59:59.000000+00', '0001-01-01 00:00:00.000000+00')) if $kind == 98;
	return ($second, time_text($second));
}

sub random_ip
{
	my $kind = dice(100);

	return undef if $kind < 10;
	return choose('0.0.0.0', '::', '::ffff:10.0.0.1', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff') if $kind == 10;
	return $kind < 60 ? sprintf('10.0.0.%d', skewed(256)) : sprintf('2001:db8::%x', 1 + skewed(5000));
}

sub random_country
{
	my $kind = dice(1000);

	return hex_digits(6000) if $kind == 0;    # too long for a page
	return 'x' x 65 if $kind == 1;
	return "\xc3\x9f" x 32 if $kind == 2;
	return choose('CA', 'CA', 'CA', 'US', 'US', 'DE', '', undef);
}

sub fresh_click
{
	my ($second, $at) = click_time();
	my $kind = dice(100);
	my $id =
	    $kind < 50 ? version_7_id($second)
	  : $kind < 54 ? version_7_id($second + dice(4 * $HOUR) - 2 * $HOUR)
	  : $kind < 56 ? version_7_id($second - 3 * $DAY)
	  : $kind < 57 ? version_7_id(253402300799)
	  : $kind < 88 ? random_id()
	  : undef;
	my $region = !defined $id ? 'no id' : choose('ON', 'QC', 'NY', '', undef, "\xc3\xa9\x01\"'\\");

	return [ $id, skewed(300), $at, dice(20) ? skewed(500) : undef, random_ip(), random_country(), $region,
		choose('mobile', 'mobile', 'desktop', undef) ];
}

# A copy: of the same columns, of such that count the same, or of other ones.
sub copied_click
{
	my ($may_differ) = @_;
	my @copy = @{ @pool > 2000 && dice(2) ? $pool[ -1 - dice(2000) ] : choose(@pool) };
	my $kind = dice(10);

	if ($kind < 3)
	{
		$copy[5] = undef if ($copy[5] // '') eq '';
		$copy[4] .= '/9' if defined $copy[4] && $copy[4] =~ /^[\d.]+$/;
		substr($copy[2], 17, 2) = sprintf '%02d', dice(60) if defined $copy[2] && $copy[0] =~ /^.{14}7/ && $copy[2] =~ /^20/;
	}
	elsif ($kind < 6 && $may_differ)
	{
		$copy[1] = skewed(300) if dice(2);
		$copy[3] = skewed(500) if dice(2);
		$copy[4] = random_ip() if dice(2);
		$copy[5] = random_country() if dice(2);
		$copy[7] = choose('mobile', 'desktop') if dice(2);
		$copy[2] = time_text(time - dice(7200)) if dice(4) == 0;
	}
	return \@copy;
}

# n of them, some of them copies: of ones sent before, or of each other.
sub some_clicks
{
	my ($n) = @_;
	my $copies = choose(0, 5, 20, 60);
	my $may_differ = dice($ticker ? 5 : 2) == 0;
	my @clicks;

	for (1 .. $n)
	{
		my $click = @pool && dice(100) < $copies ? copied_click($may_differ) : fresh_click();

		push @clicks, $click;
		push @pool, $click if defined $click->[0];
	}
	return @clicks;
}

sub line { return join "\t", map { my $v = $_ // '\N'; $v =~ s/\\/\\\\/g if defined; $v } @{ $_[0] } }

# Like no other, and never copied: by it its transaction is known.
sub marker
{
	return [ sprintf('00000000-0000-4000-8000-%012x', ++$transactions), 1, time_text(time), 1, '10.0.0.1', 'CA', 'ON', 'mobile' ];
}

sub quoted { return defined $_[0] ? "'" . ($_[0] =~ s/'/''/gr) . "'" : 'NULL' }

# The statement that sends clicks.
sub insert_of
{
	my ($click) = @_;
	my @columns = split /, /, $AdclickTest::COLUMNS;
	my @given = grep { !($_ == 0 && !defined $click->[0]) } 0 .. 7;

	return "INSERT INTO adclick.clicks (" . join(', ', @columns[@given]) . ') VALUES (' . join(', ', map { quoted($click->[$_]) } @given) . ')';
}

sub copy_of
{
	my $file = "$dir/clicks." . ++$files;

	append_to_file($file, join('', map { line($_) . "\n" } @_));
	return "COPY adclick.clicks ($AdclickTest::COLUMNS) FROM '$file'";
}

# One that leaves its time, or its id too, to the server.
sub insert_of_defaults
{
	my $click = fresh_click();
	my $no_id = dice(2);

	@{$click}[ 0, 2, 6 ] = (undef, 'now', $no_id ? 'neither' : 'no time');
	my $statement = 'INSERT INTO adclick.clicks (' . ($no_id ? '' : 'click_id, ') . 'ad_id, user_id, ip, country, region, device) VALUES (';
	if (!$no_id)
	{
		$click->[0] = random_id();
		$statement .= quoted($click->[0]) . ', ';
	}
	return ($statement . join(', ', map { quoted($_) } @{$click}[ 1, 3 .. 7 ]) . ')', $click);
}

#
# Sessions
#

sub connect_session
{
	my $psql = $node->background_psql('clicks', on_error_stop => 0, wait => 0);

	return { name => 's' . ++$names, psql => $psql, asked => 0 };
}

# Begin a statement; "finish" waits for its end.
sub start
{
	my ($session, $statement) = @_;
	my $psql = $session->{psql};
	my $end = 'end of statement ' . ++$session->{asked};

	$psql->{stdout} = $psql->{stderr} = '';
	$psql->{timeout}->start();
	$psql->{stdin} .= "$statement\n;\n\\echo '$end' :ERROR\n\\warn '$end'\n";
	$session->{end} = qr/$end(?: (\w+))?\n/;
	eval { $psql->{run}->pump_nb };
	return;
}

# Returns the output and the error; the latter is 'lost' if no answer came.
sub finish
{
	my ($session) = @_;
	my $psql = $session->{psql};
	my $end = $session->{end};

	until ($psql->{stdout} =~ $end && $psql->{stderr} =~ $end)
	{
		next if eval { $psql->{run}->pump };
		die $@ if $@ =~ /timeout/;
		return ('', 'lost') unless $psql->{stdout} =~ $end && $psql->{stderr} =~ $end;
	}
	my ($output, $failed) = $psql->{stdout} =~ /(.*?)\n?$end/s;
	my ($error) = $psql->{stderr} =~ /(ERROR:  .*|FATAL:  .*)/;
	# what psql says of a connection that is gone is neither
	record("$session->{name}: no acknowledgment: $psql->{stderr}") if !defined $error && $failed ne 'false';
	return ($output, $error // ($failed eq 'false' ? '' : 'lost'));
}

sub run_in
{
	my ($session, $statement) = @_;

	start($session, $statement);
	return finish($session);
}

# Without any error.
sub run_ok
{
	my ($session, $statement) = @_;
	my ($output, $error) = run_in($session, $statement);

	die "$session->{name}: $statement: $error" if $error ne '';
	return $output;
}

sub close_session
{
	my ($session) = @_;

	eval { $session->{psql}->quit };
	return;
}

#
# Transactions, and what becomes of them
#

sub committed
{
	my ($transaction) = @_;

	$sent{$_}++ for map { line($_) } @{ $transaction->{clicks} };
	return;
}

# What a session waits for has come to an end, or has been lost.
sub settle
{
	my ($session) = @_;
	my ($kind, $transaction) = @{ delete $session->{waits} };
	my (undef, $error) = finish($session);

	die "$session->{name}: $error" if $error =~ /^ERROR/ && $error !~ /could not serialize/;
	if ($error ne '' && $error !~ /^ERROR/) { push @doubtful, [ $kind, $transaction ] }
	elsif ($error ne '') { record("$session->{name}: $error") }
	elsif ($kind eq 'prepare') { $prepared{ $transaction->{gid} } = $transaction }
	elsif ($kind ne 'nothing') { committed($transaction) }
	return $error eq '';
}

sub settle_all
{
	settle($_) for grep { $_->{waits} } @writers;
	return;
}

# Start what commits a transaction; it is waited for now or later.
sub start_to
{
	my ($session, $kind, $statement, $transaction) = @_;

	start($session, $statement);
	$session->{waits} = [ $kind, $transaction ];
	return;
}

# Those that would be committed if all that waits is.
sub waiting { return map { $_->{waits}[1] } grep { $_->{waits} && $_->{waits}[0] ne 'prepare' && $_->{waits}[0] ne 'nothing' } @writers }

sub transaction
{
	my $marker = marker();

	return { marker => $marker, clicks => [ $marker, @_ ], savepoints => [], gid => "gid $transactions" };
}

# In a statement of its own.
sub start_copy
{
	my ($session, $n) = @_;
	my $transaction = transaction(some_clicks($n));

	record("$session->{name}: starts to COPY $n");
	start_to($session, 'commit', copy_of(@{ $transaction->{clicks} }), $transaction);
	return;
}

# Some of these are not waited for.
sub send_alone
{
	my ($session) = @_;

	start_copy($session, choose(1, 1, 10, 500, 1000, 2000, 4000));
	settle($session) unless dice(3) == 0;
	return;
}

sub begin
{
	my ($session) = @_;
	my $level = choose('READ COMMITTED', 'READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
	my $transaction = transaction();

	record("$session->{name}: BEGIN $level");
	run_ok($session, "BEGIN ISOLATION LEVEL $level;" . insert_of($transaction->{marker}));
	$session->{open} = $transaction;
	return;
}

# Whether a statement of an open transaction went well; else it is rolled back.
sub went_well
{
	my ($session, $error) = @_;

	return 1 if $error eq '';
	die "$session->{name}: $error" unless $error =~ /could not serialize/;
	record("$session->{name}: $error; ROLLBACK");
	run_ok($session, 'ROLLBACK');
	delete $session->{open};
	return 0;
}

sub send_inside
{
	my ($session) = @_;
	my $n = choose(1, 1, 1, 2, 300, 2000);
	my @clicks = $n < 3 ? some_clicks($n) : ();
	my $statement = join '; ', map { insert_of($_) } @clicks;

	if ($n == 2)
	{
		my ($defaults, $click) = insert_of_defaults();
		$statement .= ";$defaults";
		push @clicks, $click;
	}
	elsif ($n > 2)
	{
		@clicks = some_clicks($n);
		$statement = copy_of(@clicks);
	}
	record("$session->{name}: sends " . @clicks);
	my (undef, $error) = run_in($session, $statement);
	push @{ $session->{open}{clicks} }, @clicks if went_well($session, $error);
	return;
}

sub savepoint
{
	my ($session) = @_;
	my $savepoints = $session->{open}{savepoints};

	push @$savepoints, scalar @{ $session->{open}{clicks} };
	record("$session->{name}: SAVEPOINT s" . @$savepoints);
	run_ok($session, 'SAVEPOINT s' . @$savepoints);
	return;
}

# Back to a savepoint, or on without it.
sub leave_savepoint
{
	my ($session, $how) = @_;
	my $savepoints = $session->{open}{savepoints};
	my $n = 1 + dice(scalar @$savepoints);

	record("$session->{name}: $how s$n");
	run_ok($session, "$how s$n");
	splice @{ $session->{open}{clicks} }, $savepoints->[ $n - 1 ] if $how eq 'ROLLBACK TO';
	splice @$savepoints, $how eq 'RELEASE' ? $n - 1 : $n;
	return;
}

# What a writer sees within its transaction is right, too.
sub ask_inside
{
	my ($session) = @_;

	record("$session->{name}: asks within its transaction");
	my ($wrong, $error) = run_in($session, q{
		SELECT a FROM (SELECT oracle.ambiguous() AS unclear OFFSET 0) u, oracle.wrong_answers(2) a WHERE NOT unclear LIMIT 5});
	return unless went_well($session, $error);
	fail_with("$session->{name} is answered wrong within its transaction: $wrong") if $wrong ne '';
	return;
}

# "later": it is not waited for.
sub end
{
	my ($session, $how, $later) = @_;
	my $transaction = delete $session->{open};

	record("$session->{name}: $how" . ($later ? ', not waited for' : ''));
	if ($how eq 'ROLLBACK')
	{
		run_ok($session, $how);
		return;
	}
	if ($how eq 'COMMIT') { start_to($session, 'commit', $how, $transaction) }
	else { start_to($session, 'prepare', "PREPARE TRANSACTION '$transaction->{gid}'", $transaction) }
	settle($session) unless $later;
	return;
}

sub write_inside
{
	my ($session) = @_;
	my $dice = dice(20);
	my $has_savepoint = @{ $session->{open}{savepoints} };

	return end($session, 'COMMIT', dice(3) == 0) if $dice < 3;
	return end($session, 'ROLLBACK') if $dice == 3;
	return end($session, 'PREPARE', dice(3) == 0) if $dice < 6;
	return savepoint($session) if $dice < 9;
	return leave_savepoint($session, choose('ROLLBACK TO', 'ROLLBACK TO', 'RELEASE')) if $dice < 13 && $has_savepoint;
	return ask_inside($session) if $dice == 13;
	return send_inside($session);
}

sub do_write
{
	my $session = choose(@writers);

	settle($session) if $session->{waits};
	return write_inside($session) if $session->{open};
	return dice(2) ? begin($session) : send_alone($session);
}

# End a prepared transaction, if there is one.
sub do_resolve
{
	my ($gid) = (sort keys %prepared)[ dice(scalar keys %prepared || 1) ];
	my ($session) = grep { !$_->{open} && !$_->{waits} } @writers;

	return unless defined $gid && $session;
	my $how = choose('COMMIT', 'COMMIT', 'ROLLBACK');
	my $transaction = delete $prepared{$gid};
	record("$session->{name}: $how PREPARED '$gid'");
	if ($how eq 'ROLLBACK')
	{
		run_ok($session, "ROLLBACK PREPARED '$gid'");
		return;
	}
	start_to($session, 'commit prepared', "COMMIT PREPARED '$gid'", $transaction);
	settle($session) unless dice(3) == 0;
	return;
}

# No writer is open any more.
sub end_writers
{
	for my $session (@writers)
	{
		settle($session) if $session->{waits};
		end($session, choose('COMMIT', 'COMMIT', 'ROLLBACK')) if $session->{open};
	}
	while (%prepared)
	{
		do_resolve();
		settle_all();
	}
	do_let_ticks();
	return;
}

# A tick whose transaction stays open.  One before it has loaded the keys: else
# questions would load them, and wait for this one's lock.
sub do_hold_ticks
{
	return if $ticker;
	my $transaction = transaction();
	sql(insert_of($transaction->{marker}));
	committed($transaction);
	drained($node, 'clicks');
	$ticker = connect_session();
	record("$ticker->{name}: BEGIN; adclick.tick()");
	run_ok($ticker, 'BEGIN; SELECT adclick.tick()');
	return;
}

sub do_let_ticks
{
	return unless $ticker;
	my $how = choose('COMMIT', 'ROLLBACK');

	record("$ticker->{name}: $how");
	run_ok($ticker, $how);
	close_session($ticker);
	undef $ticker;
	return;
}

#
# Readers with an old snapshot; what they saw is asked by another one, so that they
# hold no lock on any table
#

sub do_open_reader
{
	return if @readers >= $READERS;
	my $reader = connect_session();
	my $snapshot = run_ok($reader, 'BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT pg_export_snapshot()');

	$reader->{seen} = sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT '$snapshot'; $SEEN; COMMIT");
	push @readers, $reader;
	record("$reader->{name}: reads from now on");
	return;
}

sub do_ask_reader
{
	my $reader = splice @readers, dice(scalar @readers || 1), 1;

	return unless $reader;
	record("$reader->{name}: reads again");
	my $seen = run_ok($reader, $SEEN);
	fail_with("$reader->{name} sees\n$seen\nand saw\n$reader->{seen}") if $seen ne $reader->{seen};
	close_session($reader);
	return;
}

#
# Chores
#

sub do_vacuum
{
	my $vacuum = 'VACUUM ' . choose('', '(FREEZE) ', '(INDEX_CLEANUP OFF) ') . choose('adclick.clicks', 'adclick.clicks', '');

	record($vacuum);
	sql($vacuum);
	return;
}

sub do_vacuum_full
{
	end_writers();
	record('VACUUM FULL adclick.clicks');
	sql('VACUUM FULL adclick.clicks');
	return;
}

sub do_tick
{
	return if $ticker;
	record('adclick.tick()');
	sql('SELECT adclick.tick()');
	return;
}

sub do_compact
{
	record('adclick.compact()');
	sql('DO $$ BEGIN WHILE (SELECT more FROM adclick.compact()) LOOP COMMIT; END LOOP; END $$');
	return;
}

sub do_filter
{
	my $filter = choose('{"country": "CA"}', '{"country": "US", "device": "mobile"}', '{"region": "unknown"}', '{"device": "desktop"}');
	my $function = delete $filters{$filter} ? 'drop_filter' : 'add_filter';

	$filters{$filter} = 1 if $function eq 'add_filter';
	record("adclick.$function('$filter')");
	sql("SELECT adclick.$function('$filter')");
	return;
}

sub begin_era
{
	my $rule = $rules{"$setting{dedup_by} $setting{dedup_window}"} //= keys %rules;
	my $era = $eras++;
	my $now = $era ? sql(q{SELECT date_trunc('milliseconds', clock_timestamp())}) : '-infinity';

	sql(qq{
		UPDATE oracle.eras SET until = '$now' WHERE era = $era - 1;
		INSERT INTO oracle.eras VALUES ($era, '$now', 'infinity', $rule, '$setting{dedup_by}' = 'user_and_ad', $setting{dedup_window},
			'$setting{future_tolerance} s', '$setting{raw_retention} min')});
	return;
}

# While no writer is open, and nothing waits; until the ticks have them.
sub do_settings
{
	my %choices = (
		dedup_by => [ 'click_id', 'click_id', 'user_and_ad' ], dedup_window => [ 7, 60, 600, 3600, 86400 ],
		future_tolerance => [ 0, 300, 86400 ], raw_retention => [ 60, 1440, 10080, 43200 ]);

	end_writers();
	drained($node, 'clicks');
	$setting{$_} = choose(@{ $choices{$_} }) for (sort keys %choices)[ 0 .. 3 ];
	record('settings: ' . join ', ', map { "$_ $setting{$_}" } sort keys %setting);
	sql(qq{
		ALTER SYSTEM SET adclick.dedup_by = '$setting{dedup_by}';
		ALTER SYSTEM SET adclick.dedup_window = '$setting{dedup_window} s';
		ALTER SYSTEM SET adclick.future_tolerance = '$setting{future_tolerance} s';
		ALTER SYSTEM SET adclick.raw_retention = '$setting{raw_retention} min'});
	sql('SELECT pg_reload_conf()');
	$changing = 1;
	choose(\&do_restart_fast, \&do_kill_server)->() if dice(3) == 0;
	$node->poll_query_until('clicks', qq{
		SELECT by_user_and_ad = ('$setting{dedup_by}' = 'user_and_ad') AND dedup_window = $setting{dedup_window}
			AND future_tolerance = $setting{future_tolerance} * 1000000::bigint AND raw_retention = $setting{raw_retention} * 60000000::bigint
		FROM adclick_internal.state JOIN adclick_internal.dedup_rules USING (rule_id)}) or die 'the ticks do not follow the settings';
	begin_era();
	$changing = 0;
	return;
}

#
# Faults
#

# Things are under way when it comes; nothing is waited for.
sub get_busy
{
	return if $changing;
	for my $session (grep { !$_->{waits} } @writers)
	{
		my $dice = dice(5);

		if ($session->{open})
		{
			end($session, choose('COMMIT', 'COMMIT', 'PREPARE'), 1) if $dice < 3;
		}
		elsif ($dice < 2)
		{
			start_copy($session, choose(1, 100, 3000));
		}
		elsif ($dice == 2)
		{
			my $chore = choose('VACUUM adclick.clicks', 'VACUUM FULL adclick.clicks', 'SELECT adclick.tick()', 'SELECT adclick.compact()');

			record("$session->{name}: starts $chore");
			start_to($session, 'nothing', $chore);
		}
	}
	for (grep { $_->{waits} && dice(4) == 0 } @writers)
	{
		record("kill -9 of the client $_->{name}");
		$_->{psql}{run}->signal('KILL');
	}
	# a moment or more
	$node->safe_psql('postgres', 'SELECT 1') for 1 .. dice(4);
	return;
}

# Every session has lost its connection, and what was open is rolled back.
sub connections_lost
{
	for my $session (@writers)
	{
		settle($session) if $session->{waits};
		close_session($session);
	}
	close_session($_) for @readers, $ticker // ();
	@writers = @readers = ();
	undef $ticker;
	return;
}

# What has become of what was not acknowledged?
sub resolve_doubts
{
	my %there = map { $_ => 1 } split /\n/, sql('SELECT gid FROM pg_prepared_xacts');

	for (splice @doubtful)
	{
		my ($kind, $transaction) = @$_;
		next if $kind eq 'nothing';
		my $is_prepared = $there{ $transaction->{gid} };
		my $is_committed = sql("SELECT count(*) FROM adclick.click_log WHERE click_id = '$transaction->{marker}[0]'");

		record("$kind of $transaction->{gid} was in doubt: " . ($is_prepared ? 'prepared' : $is_committed ? 'committed' : 'lost'));
		if ($is_prepared) { $prepared{ $transaction->{gid} } = $transaction }
		elsif ($is_committed) { committed($transaction) }
		elsif ($kind eq 'commit prepared') { fail_with("$transaction->{gid} was prepared, and is gone") }
	}
	delete $there{$_} or fail_with("the prepared transaction $_ is gone") for keys %prepared;
	delete @there{ map { $_->{waits}[1]{gid} } grep { $_->{waits} && $_->{waits}[1] } @writers };
	fail_with("prepared transactions from nowhere: $_") for keys %there;
	return;
}

# The server is back.
sub connect_again
{
	$node->poll_query_until('clicks', 'SELECT true') or die 'the server does not come back';
	resolve_doubts();
	@writers = map { connect_session() } 1 .. $WRITERS;
	return;
}

sub restart
{
	my ($mode) = @_;

	sql(sprintf q{ALTER SYSTEM SET adclick.dedup_memory = '%dMB'}, choose(1, 32));
	get_busy();
	record("stop, $mode");
	$node->stop($mode);
	connections_lost();
	$node->start;
	connect_again();
	return;
}

sub do_restart_fast { return restart('fast') }
sub do_restart_immediate { return restart('immediate') }

# All processes at once, as by the loss of the machine.
sub do_kill_server
{
	my @pids = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');

	get_busy();
	record('kill -9 of the server');
	$node->kill9;
	kill 'KILL', @pids;
	connections_lost();
	for (1 .. 1000)
	{
		last if $node->start(fail_ok => 1);
		$node->stop('fast', fail_ok => 1);    # what did not get that far
	}
	connect_again();
	return;
}

sub some_worker
{
	my $kind = choose('aggregator', 'aggregator', 'compactor', 'launcher');
	my $which = "FROM pg_stat_activity WHERE backend_type = 'adclick $kind'";

	$node->poll_query_until('postgres', "SELECT count(*) > 0 $which") or die "no $kind";
	return ($kind, split /\n/, $node->safe_psql('postgres', "SELECT pid $which LIMIT 1"));
}

# A client is killed that waits for its commit: what comes of that, it is not told.
sub do_lose_client
{
	my ($session) = grep { !$_->{waits} } @writers;

	return unless $session;
	my $pid = run_ok($session, 'SELECT pg_backend_pid()');
	if ($session->{open}) { end($session, choose('COMMIT', 'COMMIT', 'PREPARE'), 1) }
	else { start_copy($session, choose(1, 100, 3000)) }
	$node->safe_psql('postgres', 'SELECT 1') for 1 .. dice(3);
	record("kill -9 of the client $session->{name}");
	$session->{psql}{run}->signal('KILL');
	settle($session);
	close_session($session);
	@writers = ((grep { $_ != $session } @writers), connect_session());
	$node->poll_query_until('clicks', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'the backend does not end';
	resolve_doubts();
	return;
}

sub do_end_worker
{
	my ($kind, $pid) = some_worker();

	record("end of the $kind");
	kill 'TERM', $pid if $pid;
	return;
}

# The server restarts by itself.
sub do_kill_worker
{
	my ($kind, $pid) = some_worker();

	return unless $pid;
	get_busy();
	record("kill -9 of the $kind");
	kill_process($node, $pid);
	connections_lost();
	connect_again();
	return;
}

#
# Checks
#

sub fail_with
{
	my ($what) = @_;

	fail("seed $SEED, step $step");
	diag(join "\n", $what, "seed $SEED, the last steps:", @history > $SHOWN ? @history[ -$SHOWN .. -1 ] : @history);
	done_testing();
	exit 1;
}

# The log as it was sent: what is missing and what is too much.
sub wrong_log
{
	my ($file) = @_;
	my %missing = %sent;
	my (@wrong, %log);

	open my $lines, '<', $file or die "cannot read $file: $!";
	while (my $line = <$lines>)
	{
		chomp $line;
		$log{$line}++;
	}
	close $lines;
	for my $transaction (waiting())
	{
		next unless $log{ line($transaction->{marker}) };
		$missing{ line($_) }++ for @{ $transaction->{clicks} };
	}
	$missing{$_} -= $log{$_} for keys %log;
	for (sort keys %missing)
	{
		push @wrong, "$missing{$_} times missing: $_" if $missing{$_} > 0;
		push @wrong, "@{[ -$missing{$_} ]} times too much: $_" if $missing{$_} < 0;
	}
	return @wrong > 5 ? (@wrong[ 0 .. 4 ], 'and ' . (@wrong - 5) . ' more') : @wrong;
}

# In one snapshot; false if copies wait of which one or another may count.
sub check
{
	my ($name) = @_;
	my $file = "$dir/log." . ++$files;
	my $seed = dice(1000) / 1000;
	my $copy = $LOG =~ s/\s+/ /gr;
	my $out = sql(qq{
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
\\copy ($copy) TO '$file'
SELECT setseed($seed) \\gset
$STAMPED_WRONG;
SELECT 'lost: ' || l FROM oracle.lost() l WHERE l <> 0;
SELECT 'ledger: ' || l FROM adclick.check_ledger() l WHERE NOT balanced;
SELECT 'verdict: ' || v FROM oracle.wrong_verdicts() v LIMIT 5;
SELECT 'fact: ' || f FROM oracle.wrong_facts(true) f LIMIT 5;
SELECT 'list: ' || l FROM oracle.wrong_lists() l LIMIT 5;
SELECT oracle.ambiguous() AS unclear \\gset
\\if :unclear
SELECT 'unclear';
\\else
SELECT 'view: ' || v FROM oracle.wrong_view() v LIMIT 5;
SELECT 'order: ' || o FROM oracle.wrong_orders() o LIMIT 5;
SELECT 'answer: ' || a FROM oracle.wrong_answers(4) a LIMIT 5;
\\endif
SELECT count(*) || ' clicks, verdicts:', string_agg(DISTINCT coalesce(verdict, 'waits'), ', ') FROM adclick.click_log;
COMMIT});
	my @lines = split /\n/, $out;
	my $summary = pop @lines;
	my $unclear = grep { $_ eq 'unclear' } @lines;
	my @wrong = (wrong_log($file), grep { $_ ne 'unclear' } @lines);

	unlink $file;
	fail_with(join "\n", "$name:", @wrong) if @wrong;
	note("$step: $summary" . ($unclear ? ', unclear' : ''));
	$done{unclear}++ if $unclear;
	return !$unclear;
}

# At any moment, then with all taken if that is needed for clear answers.
sub check_now
{
	my ($name) = @_;

	return pass("seed $SEED, step $step: $name") if check($name);
	settle_all();
	do_let_ticks();
	drained($node, 'clicks');
	check($name) or fail_with("$name: copies wait though all is taken");
	return pass("seed $SEED, step $step: $name, all taken");
}

sub do_step
{
	if (!@deck)
	{
		my @cards = map { ($_) x $DECK{$_} } sort keys %DECK;
		push @deck, splice @cards, dice(scalar @cards), 1 while @cards;
	}
	my $what = shift @deck;

	$done{$what}++;
	__PACKAGE__->can("do_$what")->();
	return;
}

# All that is open or waits is ended, one way or the other.
sub finish_all
{
	do_ask_reader() while @readers;
	end_writers();
	drained($node, 'clicks');
	is(sql('SELECT lag_rows, (SELECT count(*) FROM adclick.clicks) FROM adclick.status'), '0|0', 'all is taken');
	check_now('at the end');
	do_compact();
	do_vacuum_full();
	check_now('compacted');
	do_restart_fast();
	end_writers();
	check_now('started anew');
	return;
}

sub run
{
	adclick_database($node, 'clicks');
	# small as the inbox is, it is to be vacuumed now and then
	sql('ALTER TABLE adclick.clicks SET (autovacuum_vacuum_threshold = 1000)');
	sql($ERAS);
	@slots = map { int(time / 60 - dice(7 * 24 * 60)) * 60 } 1 .. 25;
	@writers = map { connect_session() } 1 .. $WRITERS;
	begin_era();
	for ($step = 1; $step <= $STEPS; $step++)
	{
		do_step();
		check_now('right') if $step % $BETWEEN_CHECKS == 0;
	}
	finish_all();
	return;
}

note("seed $SEED, $STEPS steps");
$node = adclick_node('main',
	'adclick.tick_interval' => "'10ms'", 'adclick.watermark' => "'0s'", 'adclick.dedup_memory' => "'1MB'",
	'autovacuum' => 'on', 'autovacuum_naptime' => '1s', 'max_prepared_transactions' => 50, 'restart_after_crash' => 'on',
	'synchronous_commit' => 'on', 'timezone' => "'UTC'", 'shared_buffers' => "'64MB'");
$node->start;
eval { run(); 1 } or fail_with("it died: $@");
note('done: ' . join ', ', map { "$_ $done{$_}" } sort keys %done);
is(join(' ', grep { !$done{$_} } sort keys %DECK), '', 'everything was done') if $STEPS >= sum(values %DECK);
$node->stop;

done_testing();
