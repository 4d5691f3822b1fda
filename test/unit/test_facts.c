/*-------------------------------------------------------------------------
 *
 * test_facts.c
 *	  facts_combine against sorting and merging whole rows.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <string.h>

#include "../../src/core/facts.h"
#include "tap.h"

typedef struct Row
{
	uint64_t	key[FACTS_MAX_COLUMNS];
	uint64_t	count;
} Row;

static int
compare_rows(const void *a, const void *b)
{
	const Row  *left = a;
	const Row  *right = b;

	for (int c = 0; c < FACTS_MAX_COLUMNS; c++)
		if (left->key[c] != right->key[c])
			return left->key[c] < right->key[c] ? -1 : 1;
	return 0;
}

static size_t
reference_combine(Row *rows, size_t n)
{
	size_t		out = 0;

	qsort(rows, n, sizeof(Row), compare_rows);
	for (size_t i = 0; i < n; i++)
		if (out > 0 && compare_rows(&rows[out - 1], &rows[i]) == 0)
			rows[out - 1].count += rows[i].count;
		else
			rows[out++] = rows[i];
	return out;
}

static void
to_facts(Facts *facts, const Row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		for (int c = 0; c < facts->ncolumns; c++)
			facts->key[c][i] = rows[i].key[c];
		facts->count[i] = rows[i].count;
	}
	facts->n = n;
}

static bool
same(const Facts *facts, const Row *rows, size_t n)
{
	if (facts->n != n)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		for (int c = 0; c < facts->ncolumns; c++)
			if (facts->key[c][i] != rows[i].key[c])
				return false;
		if (facts->count[i] != rows[i].count)
			return false;
	}
	return true;
}

/* Both arrays have exactly the documented size, so ASan sees any overrun. */
static bool
combines_rightly(int ncolumns, Row *rows, size_t n)
{
	void	   *memory = malloc(facts_memory(ncolumns, n) + 1);
	void	   *scratch = malloc(facts_scratch(ncolumns, n) + 1);
	Facts		facts;
	bool		right;

	facts_init(&facts, ncolumns, n, memory);
	to_facts(&facts, rows, n);
	facts_combine(&facts, scratch);
	n = reference_combine(rows, n);
	right = same(&facts, rows, n);
	/* what is combined stays as it is */
	facts_combine(&facts, scratch);
	right &= same(&facts, rows, n);
	free(scratch);
	free(memory);
	return right;
}

/* Rows of columns with the given bits above a random base. */
static Row *
random_rows(int ncolumns, const int *bits, int count_bits, size_t n)
{
	Row		   *rows = calloc(n + 1, sizeof(Row));

	for (int c = 0; c < ncolumns; c++)
	{
		uint64_t	base = bits[c] == 64 ? 0 : random_bits(64 - (bits[c] == 0)) >> 1 >> bits[c];

		for (size_t i = 0; i < n; i++)
			rows[i].key[c] = base + random_bits(bits[c]);
	}
	for (size_t i = 0; i < n; i++)
		rows[i].count = 1 + random_bits(count_bits);
	return rows;
}

static void
test_widths(int ncolumns)
{
	static const int widths[] = {0, 1, 2, 7, 11, 12, 31, 32, 33, 63, 64};
	static const int count_widths[] = {0, 0, 1, 5, 33, 63};
	static const size_t sizes[] = {0, 1, 2, 3, 17, 300, 3000};
	bool		right = true;
	char		name[80];

	for (int round = 0; round < 60; round++)
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		{
			int			bits[FACTS_MAX_COLUMNS];
			Row		   *rows;

			for (int c = 0; c < ncolumns; c++)
				bits[c] = widths[next_random() % (round % 2 == 0 ? 4 : 11)];
			rows = random_rows(ncolumns, bits, count_widths[next_random() % 6], sizes[s]);
			right &= combines_rightly(ncolumns, rows, sizes[s]);
			free(rows);
		}
	snprintf(name, sizeof(name), "columns of any width, %d of them", ncolumns);
	ok(right, name);
}

/* Every number of words a record can have, in batches small and large. */
static void
test_words(void)
{
	static const size_t sizes[] = {2, 500, 20000};

	for (int words = 1; words <= FACTS_MAX_COLUMNS + 1; words++)
	{
		bool		right = true;
		char		name[80];

		for (size_t s = 0; s < 3; s++)
		{
			int			ncolumns = words > 1 ? words - 1 : 1;
			int			bits[FACTS_MAX_COLUMNS];
			Row		   *rows;

			for (int c = 0; c < ncolumns; c++)
				bits[c] = words > 1 ? 64 : 20;
			rows = random_rows(ncolumns, bits, words > 1 ? 63 : 10, sizes[s]);
			/* equal keys, which so wide columns would never have by chance */
			for (size_t i = 0; i < sizes[s] / 3; i++)
				memcpy(rows[sizes[s] - 1 - i].key, rows[i].key, sizeof(rows[i].key));
			right &= combines_rightly(ncolumns, rows, sizes[s]);
			free(rows);
		}
		snprintf(name, sizeof(name), "records of %d words", words);
		ok(right, name);
	}
}

static void
test_order_of_input(void)
{
	size_t		n = 10000;
	Row		   *rows = calloc(n, sizeof(Row));

	for (size_t i = 0; i < n; i++)
	{
		rows[i].key[0] = i / 3;
		rows[i].key[1] = i / 2 % 2;
		rows[i].count = i + 1;
	}
	ok(combines_rightly(2, rows, n), "sorted input");
	for (size_t i = 0; i < n; i++)
	{
		rows[i].key[0] = n - i / 3;
		rows[i].key[1] = 1 - i / 2 % 2;
		rows[i].count = 1;
	}
	ok(combines_rightly(2, rows, n), "input in descending order");
	for (size_t i = 0; i < n; i++)
	{
		rows[i].key[0] = rows[i].key[1] = UINT64_MAX;
		rows[i].count = 7;
	}
	ok(combines_rightly(2, rows, n), "input of one key");
	for (size_t i = 0; i < n; i++)
	{
		rows[i].key[0] = i % 2 == 0 ? UINT64_MAX : 0;
		rows[i].key[1] = i % 3 == 0 ? UINT64_MAX : 0;
		rows[i].count = i % 5 == 0 ? UINT64_C(1) << 63 : 0;
	}
	ok(combines_rightly(2, rows, n), "the least and the greatest values");
	free(rows);
}

/* What makes a row of an input, given how many rows there are. */
typedef void (*make_row) (Row *row, int ncolumns, size_t i, size_t n);

static void
make_ascending(Row *row, int ncolumns, size_t i, size_t n)
{
	(void) n;
	for (int c = 0; c < ncolumns; c++)
		row->key[c] = i >> 2 * (ncolumns - 1 - c);
}

static void
make_descending(Row *row, int ncolumns, size_t i, size_t n)
{
	make_ascending(row, ncolumns, n - 1 - i, n);
}

/* Some ascending runs, one after the other. */
static void
make_runs(Row *row, int ncolumns, size_t i, size_t n)
{
	size_t		length = n / 7 + 1;

	make_ascending(row, ncolumns, i % length * 7 + i / length % 3, n);
}

/* All keys made of two values: huge groups of equal ones. */
static void
make_two_values(Row *row, int ncolumns, size_t i, size_t n)
{
	(void) i;
	(void) n;
	for (int c = 0; c < ncolumns; c++)
		row->key[c] = next_random() % 2 == 0 ? 0 : UINT64_MAX;
}

/* Only the last column differs, after all the bits of the others. */
static void
make_late_difference(Row *row, int ncolumns, size_t i, size_t n)
{
	(void) n;
	for (int c = 0; c < ncolumns; c++)
		row->key[c] = i == 0 ? 0 : UINT64_MAX / 2;
	row->key[ncolumns - 1] = random_bits(30);
}

/* Groups of about the size where the way of sorting changes. */
static void
make_small_groups(Row *row, int ncolumns, size_t i, size_t n)
{
	(void) i;
	for (int c = 0; c < ncolumns; c++)
		row->key[c] = next_random();
	row->key[0] = (next_random() % (n / 24 + 1)) << 44 | random_bits(44);
	if (ncolumns > 1)
		row->key[0] &= ~UINT64_C(0) << 44;
}

/* Each level of groups has one that is nearly all of it. */
static void
make_nested(Row *row, int ncolumns, size_t i, size_t n)
{
	(void) i;
	(void) n;
	for (int c = 0; c < ncolumns; c++)
		row->key[c] = random_bits(next_random() % 16 == 0 ? 64 : 3);
}

/* Addresses: of version 4 with 32 bits, of version 6 with all bits. */
static void
make_addresses(Row *row, int ncolumns, size_t i, size_t n)
{
	bool		is_v6 = i % 10 == 0;

	(void) n;
	for (int c = 0; c < ncolumns; c++)
		row->key[c] = random_bits(5 + 4 * c);
	row->key[0] = is_v6 ? UINT64_C(0x20010db800000000) + random_bits(20) : random_bits(32);
	if (ncolumns > 1)
		row->key[1] = is_v6 ? next_random() : 0;
}

static void
test_input(const char *name, make_row make)
{
	static const size_t sizes[] = {24, 25, 26, 100, 5000, 40000};
	bool		right = true;

	for (int ncolumns = 1; ncolumns <= FACTS_MAX_COLUMNS; ncolumns++)
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		{
			size_t		n = sizes[s];
			Row		   *rows = calloc(n, sizeof(Row));

			for (size_t i = 0; i < n; i++)
			{
				make(&rows[i], ncolumns, i, n);
				rows[i].count = 1 + random_bits((int) (s % 3) * 10);
			}
			right &= combines_rightly(ncolumns, rows, n);
			free(rows);
		}
	ok(right, name);
}

/*----------
 * Pauses
 *----------
 */

static size_t pauses;
static size_t leave_at;
static jmp_buf way_out;

static void
count_pause(void)
{
	if (++pauses == leave_at)
		longjmp(way_out, 1);
}

/* How many pauses combining takes, or that it was left at one. */
static size_t
combine_with_pauses(Facts *facts, void *scratch, size_t leave)
{
	pauses = 0;
	leave_at = leave;
	facts_pause = count_pause;
	if (setjmp(way_out) == 0)
		facts_combine(facts, scratch);
	facts_pause = NULL;
	return pauses;
}

/* Each pass over the facts pauses, and sorting can be left there. */
static bool
pauses_often(make_row make, int ncolumns)
{
	size_t		n = 5 * FACTS_BETWEEN_PAUSES;
	Row		   *rows = calloc(n, sizeof(Row));
	void	   *memory = malloc(facts_memory(ncolumns, n));
	void	   *scratch = malloc(facts_scratch(ncolumns, n));
	Facts		facts;
	size_t		all;
	bool		right = true;

	for (size_t i = 0; i < n; i++)
		make(&rows[i], ncolumns, i, n);
	facts_init(&facts, ncolumns, n, memory);
	to_facts(&facts, rows, n);
	all = combine_with_pauses(&facts, scratch, 0);
	/* measuring each column and the counts, packing, looking at the order, merging */
	right &= all >= 4 * ((size_t) ncolumns + 4);
	for (size_t leave = 1; leave <= all; leave += all / 7 + 1)
	{
		to_facts(&facts, rows, n);
		right &= combine_with_pauses(&facts, scratch, leave) == leave;
	}
	free(scratch);
	free(memory);
	free(rows);
	return right;
}

static void
test_pauses(void)
{
	Row			row = {.count = 1};
	Facts		one;
	uint64_t	memory[2 * 2];
	uint64_t	scratch[8];

	ok(pauses_often(make_nested, 3) && pauses_often(make_nested, 1) &&
	   pauses_often(make_small_groups, 4) && pauses_often(make_two_values, 3) &&
	   pauses_often(make_ascending, 2) && pauses_often(make_late_difference, 8),
	   "combining many facts pauses in each pass, and can be left there");
	facts_init(&one, 1, 1, memory);
	to_facts(&one, &row, 1);
	ok(combine_with_pauses(&one, scratch, 0) == 0, "combining few does not");
}

static void
test_signed(void)
{
	ok(facts_from_int64(INT64_MIN) == 0 && facts_from_int64(INT64_MAX) == UINT64_MAX &&
	   facts_from_int64(-1) < facts_from_int64(0), "signed values keep their order");
	ok(facts_to_int64(facts_from_int64(-42)) == -42, "signed values come back");
}

/* A batch that is appended to, grown and dropped from holds what is left, in its order. */
static bool
moves_facts(int ncolumns)
{
	enum {TOTAL = 1000};
	void	   *source_memory = malloc(facts_memory(ncolumns, TOTAL));
	void	   *memory = NULL;
	Facts		source;
	Facts		batch = {.ncolumns = ncolumns};
	size_t		appended = 0;
	size_t		dropped = 0;
	bool		right = true;

	facts_init(&source, ncolumns, TOTAL, source_memory);
	for (source.n = 0; source.n < TOTAL; source.n++)
	{
		for (int c = 0; c < ncolumns; c++)
			source.key[c][source.n] = random_bits(64);
		source.count[source.n] = random_bits(20);
	}
	while (appended < TOTAL)
	{
		size_t		n = 1 + next_random() % 50;
		size_t		drop;

		n = n > TOTAL - appended ? TOTAL - appended : n;
		if (batch.n + n > batch.capacity)
		{
			void	   *larger = malloc(facts_memory(ncolumns, batch.n + n));

			facts_grow(&batch, batch.n + n, larger);
			free(memory);
			memory = larger;
		}
		facts_append(&batch, &source, appended, n);
		appended += n;
		drop = next_random() % (batch.n + 1);
		facts_drop(&batch, drop);
		dropped += drop;
		right &= batch.n == appended - dropped;
		for (size_t i = 0; i < batch.n; i++)
		{
			for (int c = 0; c < ncolumns; c++)
				right &= batch.key[c][i] == source.key[c][dropped + i];
			right &= batch.count[i] == source.count[dropped + i];
		}
	}
	free(memory);
	free(source_memory);
	return right;
}

int
main(void)
{
	for (int ncolumns = 1; ncolumns <= FACTS_MAX_COLUMNS; ncolumns++)
		test_widths(ncolumns);
	test_words();
	test_order_of_input();
	test_input("ascending keys", make_ascending);
	test_input("descending keys", make_descending);
	test_input("sorted runs", make_runs);
	test_input("huge groups of equal keys", make_two_values);
	test_input("keys that differ in their last bits only", make_late_difference);
	test_input("groups of some dozens", make_small_groups);
	test_input("groups within groups", make_nested);
	test_input("addresses of both versions", make_addresses);
	test_pauses();
	test_signed();
	ok(moves_facts(1) && moves_facts(FACTS_MAX_COLUMNS), "facts appended, moved and dropped");
	return done_testing();
}
