/*-------------------------------------------------------------------------
 *
 * clickgen.c
 *	  Prints ad clicks as CSV, for the benchmark and the demo.
 *
 * Same options, same clicks: everything is drawn from one seeded generator.
 * The load is the one of the design: ads by Zipf's law, users mildly skewed,
 * countries x regions x devices skewed, version-7 UUIDs that carry the click's
 * time, some exact duplicates of recent clicks and some late clicks.
 *
 * A user has a home: country, region and addresses hang on the user, not on
 * the click, as they do in life.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NCOUNTRIES		50
#define NREGIONS		8
#define NDEVICES		3
#define PICK_BITS		12		/* resolution of the tables of skewed choices */
#define USECS_PER_SEC	INT64_C(1000000)
#define LATE_USECS		(600 * USECS_PER_SEC)	/* how late a late click can be */
#define RECENT_SECS		3		/* how far back a duplicate's original can be */
#define MAX_RECENT		65536
#define ROW_MAX			192		/* more than the longest row */

#define COLUMNS "click_id,ad_id,clicked_at,user_id,ip,country,region,device"

static const char countries[NCOUNTRIES][3] = {
	"US", "IN", "BR", "GB", "DE", "JP", "FR", "ID", "MX", "CA",
	"IT", "ES", "TR", "KR", "PH", "VN", "PL", "TH", "NL", "AU",
	"AR", "EG", "PK", "NG", "CO", "ZA", "BD", "MY", "SA", "SE",
	"UA", "BE", "RO", "CL", "PE", "CH", "AT", "CZ", "PT", "GR",
	"IL", "HU", "AE", "DK", "FI", "NO", "IE", "SG", "NZ", "KE"
};
static const char *const devices[NDEVICES] = {"mobile", "desktop", "tablet"};
static const double device_weight[NDEVICES] = {0.60, 0.34, 0.06};

typedef struct Click
{
	uint64_t	id_hi;
	uint64_t	id_lo;
	int64_t		time;			/* microseconds since 1970 */
	uint64_t	ad;
	uint64_t	user;
	uint64_t	address;		/* bits the address is made of */
	uint8_t		country;
	uint8_t		region;
	uint8_t		device;
	bool		ipv6;
} Click;

/* Options */
static int64_t nclicks = 1000000;
static double start_secs = 1735689600;	/* 2025-01-01 00:00:00 UTC */
static double rate = 10000;
static uint64_t nads = 10000000;
static uint64_t nusers = 50000000;
static double duplicates = 0.01;
static double late = 0.01;
static uint64_t seed = 1;
static bool pace = false;
static const char *copy_table = NULL;
static int64_t batch = 0;

static volatile sig_atomic_t stop = false;


/*-------------------------------------------------------------------------
 * Random numbers: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
 * number generators, OOPSLA 2014, doi 10.1145/2660193.2660195).
 *-------------------------------------------------------------------------
 */
static uint64_t random_state;

static inline uint64_t
mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static inline uint64_t
random64(void)
{
	return mix64(random_state += UINT64_C(0x9e3779b97f4a7c15));
}

/* in [0, 1) */
static inline double
random_double(void)
{
	return (random64() >> 11) * 0x1.0p-53;
}

/* in [0, n); n below 2^32 */
static inline uint64_t
random_below(uint64_t n)
{
	return ((random64() >> 32) * n) >> 32;
}


/*-------------------------------------------------------------------------
 * Zipf's law with exponent 1, by rejection-inversion: W. Hoermann and
 * G. Derflinger, Rejection-inversion to generate variates from monotone
 * discrete distributions, ACM TOMACS 6(3), 1996, doi 10.1145/235025.235029.
 * With h(x) = 1/x its integral is ln x, and the inverse of that exp x.
 *-------------------------------------------------------------------------
 */
static double zipf_low;			/* H(1.5) - h(1) */
static double zipf_high;		/* H(n + 0.5) */
static double zipf_shortcut;

static void
zipf_init(uint64_t n)
{
	zipf_low = log(1.5) - 1.0;
	zipf_high = log(n + 0.5);
	zipf_shortcut = 2.0 - exp(log(2.5) - 0.5);
}

/* The rank drawn: 1 is the most frequent. */
static inline uint64_t
zipf(uint64_t n)
{
	for (;;)
	{
		double		u = zipf_high + random_double() * (zipf_low - zipf_high);
		double		x = exp(u);
		double		k = floor(x + 0.5);

		if (k < 1)
			k = 1;
		else if (k > n)
			k = n;
		if (k - x <= zipf_shortcut || u >= log(k + 0.5) - 1.0 / k)
			return (uint64_t) k;
	}
}


/*-------------------------------------------------------------------------
 * A permutation of [0, n): invertible steps on the next power of two, walked
 * until the result is below n again (cycle walking).
 *-------------------------------------------------------------------------
 */
typedef struct Permutation
{
	uint64_t	n;
	uint64_t	mask;
	int			shift;
} Permutation;

static Permutation ad_ids;
static Permutation user_ids;

static void
permutation_init(Permutation *p, uint64_t n)
{
	int			bits = 1;

	while ((UINT64_C(1) << bits) < n)
		bits++;
	p->n = n;
	p->mask = (UINT64_C(1) << bits) - 1;
	p->shift = bits / 2 + 1;
}

static inline uint64_t
permute(const Permutation *p, uint64_t x)
{
	do
	{
		x = (x * UINT64_C(0x9e3779b97f4a7c15) + 1) & p->mask;
		x ^= x >> p->shift;
		x = (x * UINT64_C(0xbf58476d1ce4e5b9) + 1) & p->mask;
		x ^= x >> p->shift;
		x = (x * UINT64_C(0x94d049bb133111eb) + 1) & p->mask;
		x ^= x >> p->shift;
	} while (x >= p->n);
	return x;
}

/* Ads and users are numbered from 1. */
static inline uint64_t
ad_of_rank(uint64_t rank)
{
	return permute(&ad_ids, rank - 1) + 1;
}

static inline uint64_t
user_of_rank(uint64_t rank)
{
	return permute(&user_ids, rank - 1) + 1;
}


/*-------------------------------------------------------------------------
 * Skewed choices among a few: a table that random bits index.
 *-------------------------------------------------------------------------
 */
static uint8_t country_pick[1 << PICK_BITS];
static uint8_t region_pick[1 << PICK_BITS];
static uint8_t device_pick[1 << PICK_BITS];

/* weight NULL: 1, 1/2, 1/3, ... */
static void
pick_init(uint8_t *pick, int n, const double *weight)
{
	double		total = 0;
	double		sum = 0;
	int			filled = 0;

	for (int i = 0; i < n; i++)
		total += weight ? weight[i] : 1.0 / (i + 1);
	for (int i = 0; i < n; i++)
	{
		sum += weight ? weight[i] : 1.0 / (i + 1);
		while (filled < sum / total * (1 << PICK_BITS) - 0.5)
			pick[filled++] = i;
	}
	while (filled < 1 << PICK_BITS)
		pick[filled++] = n - 1;
}

#define PICK(table, bits) ((table)[(bits) & ((1 << PICK_BITS) - 1)])


/*-------------------------------------------------------------------------
 * Clicks
 *-------------------------------------------------------------------------
 */

/*
 * Where the click comes from, given user and device: about three users share
 * a home; on the move everyone is alone.
 */
static void
locate(Click *click)
{
	uint64_t	home = mix64(click->user / 3 + UINT64_C(0x632be59bd9b4e019));

	click->country = PICK(country_pick, home);
	click->region = PICK(region_pick, home >> PICK_BITS);
	click->ipv6 = (home >> 24) % 10 == 0;
	click->address = click->device == 0 ? mix64(click->user) : mix64(home);
}

/* The click that arrives at "time". */
static void
make_click(Click *click, int64_t time)
{
	uint64_t	bits = random64();
	double		u;

	if (random_double() < late)
		time -= random_below(LATE_USECS);

	click->time = time;
	click->id_hi = ((uint64_t) (time / 1000) << 16) | 0x7000 | (bits & 0xfff);
	click->id_lo = (UINT64_C(2) << 62) | (random64() >> 2);
	click->ad = ad_of_rank(zipf(nads));
	click->device = PICK(device_pick, bits >> 12);

	/* density falls with the square root: the first 1 % make 10 % */
	u = random_double();
	click->user = user_of_rank((uint64_t) (u * u * nusers) + 1);
	locate(click);
}


/*-------------------------------------------------------------------------
 * Printing
 *-------------------------------------------------------------------------
 */
static char outbuf[1 << 18];
static size_t outlen = 0;

static void
flush(void)
{
	size_t		done = 0;

	while (done < outlen)
	{
		ssize_t		n = write(STDOUT_FILENO, outbuf + done, outlen - done);

		if (n >= 0)
			done += n;
		else if (errno != EINTR)
		{
			if (errno == EPIPE)
				exit(0);
			perror("clickgen: could not write");
			exit(1);
		}
	}
	outlen = 0;
}

static inline char *
put_string(char *p, const char *s)
{
	while (*s)
		*p++ = *s++;
	return p;
}

static inline char *
put_number(char *p, uint64_t n)
{
	char		digits[20];
	int			i = sizeof(digits);

	do
		digits[--i] = '0' + n % 10;
	while ((n /= 10) > 0);
	memcpy(p, digits + i, sizeof(digits) - i);
	return p + sizeof(digits) - i;
}

/* exactly "width" digits */
static inline char *
put_digits(char *p, uint64_t n, int width)
{
	for (int i = width; i-- > 0; n /= 10)
		p[i] = '0' + n % 10;
	return p + width;
}

static inline char *
put_hex(char *p, uint64_t n, int width)
{
	for (int i = width; i-- > 0; n >>= 4)
		p[i] = "0123456789abcdef"[n & 15];
	return p + width;
}

/* hexadecimal without leading zeros: a group of an IPv6 address */
static inline char *
put_group(char *p, unsigned n)
{
	return put_hex(p, n, n < 0x10 ? 1 : n < 0x100 ? 2 : n < 0x1000 ? 3 : 4);
}

static inline char *
put_uuid(char *p, uint64_t hi, uint64_t lo)
{
	p = put_hex(p, hi >> 32, 8);
	*p++ = '-';
	p = put_hex(p, hi >> 16, 4);
	*p++ = '-';
	p = put_hex(p, hi, 4);
	*p++ = '-';
	p = put_hex(p, lo >> 48, 4);
	*p++ = '-';
	return put_hex(p, lo, 12);
}

static inline char *
put_time(char *p, int64_t usecs)
{
	static time_t last_second = -1;
	static char text[20];		/* of the last second */
	time_t		second = usecs / USECS_PER_SEC;

	if (second != last_second)
	{
		struct tm	tm;

		gmtime_r(&second, &tm);
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
		last_second = second;
	}
	memcpy(p, text, 19);
	p[19] = '.';
	p = put_digits(p + 20, usecs % USECS_PER_SEC, 6);
	return put_string(p, "+00");
}

static inline char *
put_address(char *p, uint64_t bits, bool ipv6)
{
	if (ipv6)
	{
		p = put_string(p, "2a0");
		p = put_hex(p, bits >> 60, 1);
		*p++ = ':';
		p = put_group(p, (bits >> 44 & 0xfff) + 1);
		*p++ = ':';
		p = put_group(p, bits >> 28 & 0xffff);
		*p++ = ':';
		p = put_group(p, bits >> 12 & 0xff00);
		p = put_string(p, "::");
		return put_group(p, (bits & 0xfff) + 1);
	}
	p = put_number(p, 1 + (bits >> 24 & 0xff) % 223);
	*p++ = '.';
	p = put_number(p, bits >> 16 & 0xff);
	*p++ = '.';
	p = put_number(p, bits >> 8 & 0xff);
	*p++ = '.';
	return put_number(p, bits & 0xff);
}

static void
print_click(const Click *click)
{
	char	   *p;

	if (outlen + ROW_MAX > sizeof(outbuf))
		flush();
	p = outbuf + outlen;

	p = put_uuid(p, click->id_hi, click->id_lo);
	*p++ = ',';
	p = put_number(p, click->ad);
	*p++ = ',';
	p = put_time(p, click->time);
	*p++ = ',';
	p = put_number(p, click->user);
	*p++ = ',';
	p = put_address(p, click->address, click->ipv6);
	*p++ = ',';
	p = put_string(p, countries[click->country]);
	*p++ = ',';
	p = put_string(p, countries[click->country]);
	*p++ = '-';
	*p++ = '1' + click->region;
	*p++ = ',';
	p = put_string(p, devices[click->device]);
	*p++ = '\n';

	outlen = p - outbuf;
}

/* A user's id, and the address of his clicks on the move. */
static void
print_user(uint64_t user)
{
	Click		click = {.user = user, .device = 0};
	char	   *p;

	locate(&click);
	p = put_number(outbuf, user);
	*p++ = ' ';
	p = put_address(p, click.address, click.ipv6);
	*p++ = '\n';
	outlen = p - outbuf;
	flush();
}

static void
print_line(const char *format, const char *argument)
{
	if (outlen + 1024 > sizeof(outbuf))
		flush();
	outlen += snprintf(outbuf + outlen, 1024, format, argument);
}


/*-------------------------------------------------------------------------
 * The stream
 *-------------------------------------------------------------------------
 */
static void
handle_stop(int signo)
{
	(void) signo;
	stop = true;
}

/* Sleep until the wall clock shows "usecs", or a signal asks to stop. */
static void
wait_until(int64_t usecs)
{
	struct timespec until;

	until.tv_sec = usecs / USECS_PER_SEC;
	until.tv_nsec = usecs % USECS_PER_SEC * 1000;
	while (!stop &&
		   clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL) == EINTR)
		 /* try again */ ;
}

static void
generate(void)
{
	Click	   *recent;
	uint64_t	nrecent = 1;
	int64_t		start = (int64_t) (start_secs * USECS_PER_SEC);
	double		step = USECS_PER_SEC / rate;

	while (nrecent < rate * RECENT_SECS && nrecent < MAX_RECENT)
		nrecent *= 2;
	recent = malloc(nrecent * sizeof(Click));
	if (recent == NULL)
	{
		fputs("clickgen: out of memory\n", stderr);
		exit(1);
	}

	for (int64_t i = 0; nclicks == 0 || i < nclicks; i++)
	{
		Click	   *click = &recent[i & (nrecent - 1)];

		if (batch > 0 && i % batch == 0)
		{
			/* a batch is let go when its last click is due */
			if (pace)
			{
				flush();
				wait_until(start + (int64_t) ((i + batch) * step));
			}
			if (stop)
				break;
			if (copy_table)
				print_line("COPY %s (" COLUMNS ") FROM STDIN (FORMAT csv);\n",
						   copy_table);
		}

		if (i > 0 && random_double() < duplicates)
			*click = recent[random_below((uint64_t) i < nrecent ?
										 (uint64_t) i : nrecent)];
		else
			make_click(click, start + (int64_t) ((i + random_double()) * step));
		print_click(click);

		if (copy_table && ((i + 1) % batch == 0 || i + 1 == nclicks))
			print_line("%s", "\\.\n");
	}
	flush();
	free(recent);
}

static void
usage(void)
{
	puts("clickgen prints ad clicks as CSV: " COLUMNS "\n"
		 "\n"
		 "  --clicks=N       rows to print, 0 = endless (1000000)\n"
		 "  --start=SECONDS  time of the first click, since 1970 (2025-01-01)\n"
		 "  --rate=N         clicks per second of click time (10000)\n"
		 "  --ads=N          ads, by Zipf's law (10000000)\n"
		 "  --users=N        users, mildly skewed (50000000)\n"
		 "  --duplicates=P   part of rows that repeat a recent one (0.01)\n"
		 "  --late=P         part of clicks up to 10 minutes late (0.01)\n"
		 "  --seed=N         same seed, same clicks (1)\n"
		 "  --copy=TABLE     print psql input: a COPY into TABLE per batch\n"
		 "  --batch=N        rows per batch (a tenth of a second of clicks)\n"
		 "  --pace           print each batch when the clock reaches its time;\n"
		 "                   what lies in the past comes at once\n"
		 "  --ad-of-rank=N   print only the id of the ad of that rank, and exit\n"
		 "  --user-of-rank=N print only the id of the user of that rank, and the\n"
		 "                   address of his clicks with device \"mobile\"\n"
		 "\n"
		 "SIGTERM and SIGINT end the output at the end of a batch.");
}

/* A number with a lower bound; the error names the option. */
static double
number(const char *option, const char *value, double min)
{
	char	   *end;
	double		n = strtod(value, &end);

	if (end == value || *end != '\0' || !(n >= min))
	{
		fprintf(stderr, "clickgen: --%s must be a number of at least %g\n",
				option, min);
		exit(1);
	}
	return n;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"clicks", required_argument, NULL, 'c'},
		{"start", required_argument, NULL, 's'},
		{"rate", required_argument, NULL, 'r'},
		{"ads", required_argument, NULL, 'a'},
		{"users", required_argument, NULL, 'u'},
		{"duplicates", required_argument, NULL, 'd'},
		{"late", required_argument, NULL, 'l'},
		{"seed", required_argument, NULL, 'e'},
		{"copy", required_argument, NULL, 'C'},
		{"batch", required_argument, NULL, 'b'},
		{"pace", no_argument, NULL, 'p'},
		{"ad-of-rank", required_argument, NULL, 'R'},
		{"user-of-rank", required_argument, NULL, 'U'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	struct sigaction action = {.sa_handler = handle_stop};
	uint64_t	ad_rank = 0;
	uint64_t	user_rank = 0;
	int			index;
	int			c;

	while ((c = getopt_long(argc, argv, "", options, &index)) != -1)
	{
		const char *name = c == '?' ? NULL : options[index].name;

		switch (c)
		{
			case 'c':
				nclicks = number(name, optarg, 0);
				break;
			case 's':
				start_secs = number(name, optarg, 86400);
				break;
			case 'r':
				rate = number(name, optarg, 0.01);
				break;
			case 'a':
				nads = number(name, optarg, 1);
				break;
			case 'u':
				nusers = number(name, optarg, 1);
				break;
			case 'd':
				duplicates = number(name, optarg, 0);
				break;
			case 'l':
				late = number(name, optarg, 0);
				break;
			case 'e':
				seed = number(name, optarg, 0);
				break;
			case 'C':
				copy_table = optarg;
				break;
			case 'b':
				batch = number(name, optarg, 1);
				break;
			case 'p':
				pace = true;
				break;
			case 'R':
				ad_rank = number(name, optarg, 1);
				break;
			case 'U':
				user_rank = number(name, optarg, 1);
				break;
			case 'h':
				usage();
				return 0;
			default:
				fputs("Try \"clickgen --help\".\n", stderr);
				return 1;
		}
	}
	if (optind < argc)
	{
		fprintf(stderr, "clickgen: \"%s\" is not an option\n", argv[optind]);
		return 1;
	}
	if (batch == 0 && (pace || copy_table))
		batch = rate < 10 ? 1 : (int64_t) (rate / 10);

	random_state = mix64(seed + 1);
	zipf_init(nads);
	permutation_init(&ad_ids, nads);
	permutation_init(&user_ids, nusers);
	pick_init(country_pick, NCOUNTRIES, NULL);
	pick_init(region_pick, NREGIONS, NULL);
	pick_init(device_pick, NDEVICES, device_weight);

	if (ad_rank > nads || user_rank > nusers)
	{
		fputs("clickgen: there are not so many ads or users\n", stderr);
		return 1;
	}
	if (ad_rank > 0)
	{
		printf("%llu\n", (unsigned long long) ad_of_rank(ad_rank));
		return 0;
	}
	if (user_rank > 0)
	{
		print_user(user_of_rank(user_rank));
		return 0;
	}

	/* no SA_RESTART: a signal ends the sleep */
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);

	generate();
	return 0;
}
