/*-------------------------------------------------------------------------
 *
 * test_segment.c
 *	  Segments come back as they were, and damaged ones do no harm.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "../../src/core/segment.h"
#include "tap.h"

static Facts
new_facts(int ncolumns, size_t capacity)
{
	Facts		facts;

	facts_init(&facts, ncolumns, capacity, malloc(facts_memory(ncolumns, capacity)));
	return facts;
}

static void
free_facts(Facts *facts)
{
	free(facts->key[0]);
}

static void
combine(Facts *facts)
{
	void	   *scratch = malloc(facts_scratch(facts->ncolumns, facts->n));

	facts_combine(facts, scratch);
	free(scratch);
}

/* Whether the keys ascend strictly and no count is 0. */
static bool
well_formed(const Facts *facts)
{
	for (size_t i = 0; i < facts->n; i++)
	{
		int			c = 0;

		if (facts->count[i] == 0)
			return false;
		if (i == 0)
			continue;
		while (c < facts->ncolumns && facts->key[c][i] == facts->key[c][i - 1])
			c++;
		if (c == facts->ncolumns || facts->key[c][i] < facts->key[c][i - 1])
			return false;
	}
	return true;
}

static bool
same(const Facts *a, const Facts *b)
{
	bool		equal = a->n == b->n && memcmp(a->count, b->count, a->n * sizeof(uint64_t)) == 0;

	for (int c = 0; equal && c < a->ncolumns; c++)
		equal = memcmp(a->key[c], b->key[c], a->n * sizeof(uint64_t)) == 0;
	return equal;
}

/* A heap copy of exactly the segment's length, so ASan sees any overread. */
static SegmentStatus
decode_copy(const uint8_t *data, size_t length, Facts *facts)
{
	uint8_t    *copy = malloc(length + 1);
	SegmentStatus status;

	memcpy(copy + 1, data, length);
	status = segment_decode(copy + 1, length, facts);
	free(copy);
	return status;
}

/* The columns asked for alone must come out the same, and no other be touched. */
static bool
decodes_columns(const uint8_t *data, size_t length, const Facts *expected, size_t at)
{
	bool		right = true;
	unsigned	sets = 1U << expected->ncolumns;

	/* all sets of columns, or some of very many */
	for (unsigned i = 0; i < sets && i < 256; i++)
	{
		unsigned	columns = sets <= 256 ? i : (unsigned) next_random() % sets;
		Facts		facts = new_facts(expected->ncolumns, SEGMENT_MAX_FACTS);
		Facts		asked = facts;

		for (int c = 0; c < facts.ncolumns; c++)
			if ((columns & (1U << c)) == 0)
				asked.key[c] = NULL;
		right &= segment_decode_columns(data, length, columns, &asked) == SEGMENT_OK;
		for (int c = 0; right && c < facts.ncolumns; c++)
			if ((columns & (1U << c)) != 0)
				right &= memcmp(facts.key[c], expected->key[c] + at, asked.n * sizeof(uint64_t)) == 0;
		right &= memcmp(facts.count, expected->count + at, asked.n * sizeof(uint64_t)) == 0;
		free_facts(&facts);
	}
	return right;
}

/* A value that one fact has, or none, looked for in each column: all of the segment's facts, or none. */
static bool
decodes_where(const uint8_t *data, size_t length, const Facts *expected, size_t at, size_t n)
{
	Facts		facts = new_facts(expected->ncolumns, SEGMENT_MAX_FACTS);
	unsigned	columns = (1U << facts.ncolumns) - 1;
	bool		right = true;

	for (int c = 0; c < facts.ncolumns; c++)
		for (int i = 0; i < 3; i++)
		{
			uint64_t	value = expected->key[c][at + next_random() % n] + (i == 2 ? next_random() % 3 : 0);
			bool		there = false;

			for (size_t f = at; f < at + n; f++)
				there |= expected->key[c][f] == value;
			right &= segment_decode_where(data, length, columns, c, value, &facts) == SEGMENT_OK &&
				facts.n == (there ? n : 0) &&
				memcmp(facts.count, expected->count + at, facts.n * sizeof(uint64_t)) == 0;
			for (int k = 0; right && k < facts.ncolumns; k++)
				right = memcmp(facts.key[k], expected->key[k] + at, facts.n * sizeof(uint64_t)) == 0;
		}
	free_facts(&facts);
	return right;
}

/* Through as many segments as it takes, appended to each other. */
static bool
round_trip(const Facts *facts)
{
	Facts		decoded = new_facts(facts->ncolumns, facts->n + SEGMENT_MAX_FACTS);
	bool		right = true;
	size_t		taken = 0;

	for (size_t i = 0; right && i < facts->n; i += taken)
	{
		uint8_t    *data = malloc(SEGMENT_MAX_BYTES);
		size_t		length = segment_encode(facts, i, taken, data, &taken);

		right = length <= SEGMENT_MAX_BYTES && taken >= 1 && i + taken <= facts->n &&
			decode_copy(data, length, &decoded) == SEGMENT_OK &&
			decoded.n == i + taken && decodes_columns(data, length, facts, i) &&
			decodes_where(data, length, facts, i, taken);
		/* greedy: the next fact of any width would not have fitted */
		if (i + taken < facts->n && taken < SEGMENT_MAX_FACTS)
			right &= length > SEGMENT_MAX_BYTES - 16 ||
				length + taken * facts->ncolumns * 8 > SEGMENT_MAX_BYTES;
		free(data);
	}
	right &= same(facts, &decoded);
	free_facts(&decoded);
	return right;
}

/* Facts of random columns of so many bits below the greatest value. */
static Facts
random_facts(int ncolumns, const int *bits, int count_bits, size_t n)
{
	Facts		facts = new_facts(ncolumns, n);

	for (size_t i = 0; i < n; i++)
	{
		for (int c = 0; c < ncolumns; c++)
			facts.key[c][i] = UINT64_MAX - random_bits(bits[c]);
		facts.count[i] = UINT64_MAX - random_bits(count_bits);
		if (facts.count[i] == 0)
			facts.count[i] = 1;
	}
	facts.n = n;
	combine(&facts);
	/* sums of counts so great wrap around */
	for (size_t i = 0; i < facts.n; i++)
		if (facts.count[i] == 0)
			facts.count[i] = 1;
	return facts;
}

static void
test_widths(void)
{
	static const size_t sizes[] = {1, 2, 7, 8, 9, 100, 3000};
	bool		right = true;

	for (int width = 0; width <= 64; width++)
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
			for (int which = 0; which < 4; which++)
			{
				int			bits[3] = {12, 12, 12};
				Facts		facts;

				if (which < 3)
					bits[which] = width;
				facts = random_facts(3, bits, which == 3 ? width : 3, sizes[s]);
				right &= round_trip(&facts);
				free_facts(&facts);
			}
	ok(right, "values of 0 to 64 bits, in every column");
}

/* Mostly small steps and counts with a few huge ones: these are patched. */
static void
test_outliers(void)
{
	bool		right = true;

	for (int round = 0; round < 300; round++)
	{
		Facts		facts = new_facts(2, 2500);
		int			bits = (int) (next_random() % 64);
		int			rare = 2 + (int) (next_random() % 500);
		uint64_t	key = 0;

		for (size_t i = 0; i < facts.capacity; i++)
		{
			key += 1 + (next_random() % rare == 0 ? random_bits(bits) / 4096 : random_bits(3));
			facts.key[0][i] = key;
			facts.key[1][i] = next_random() % rare == 0 ? random_bits(bits) : 7;
			facts.count[i] = 1 + (next_random() % rare == 0 ? random_bits(bits) : random_bits(1));
		}
		facts.n = facts.capacity;
		right &= round_trip(&facts);
		free_facts(&facts);
	}
	ok(right, "outliers");
}

static void
test_shapes(void)
{
	bool		right = true;
	Facts		facts;

	for (int ncolumns = 1; ncolumns <= FACTS_MAX_COLUMNS; ncolumns++)
		for (int bits = 0; bits <= 64; bits += 8)
		{
			int			all_bits[FACTS_MAX_COLUMNS];

			for (int c = 0; c < ncolumns; c++)
				all_bits[c] = bits;
			facts = random_facts(ncolumns, all_bits, bits, 500);
			right &= round_trip(&facts);
			free_facts(&facts);
		}
	ok(right, "any number of columns");

	facts = new_facts(2, 4);
	facts.key[0][0] = 0;
	facts.key[1][0] = UINT64_MAX;
	facts.key[0][1] = UINT64_MAX;
	facts.key[1][1] = 0;
	facts.key[0][2] = UINT64_MAX;
	facts.key[1][2] = UINT64_MAX;
	facts.count[0] = UINT64_MAX;
	facts.count[1] = 1;
	facts.count[2] = UINT64_MAX;
	facts.n = 3;
	ok(round_trip(&facts), "the least and the greatest values");
	free_facts(&facts);

	facts = new_facts(1, 10000);
	for (size_t i = 0; i < facts.capacity; i++)
	{
		facts.key[0][i] = i;
		facts.count[i] = 1;
	}
	facts.n = facts.capacity;
	ok(round_trip(&facts), "no more than SEGMENT_MAX_FACTS in a segment");
	free_facts(&facts);
}

/* Facts as they are: ads far apart, one minute, few filters, small counts. */
static Facts
usual_facts(size_t n)
{
	Facts		facts = new_facts(3, n);

	for (size_t i = 0; i < n; i++)
	{
		facts.key[0][i] = facts_from_int64((int64_t) (next_random() % (n * 20)));
		facts.key[1][i] = facts_from_int64(29000000);
		facts.key[2][i] = facts_from_int64((int64_t) random_bits((int) (next_random() % 11)));
		facts.count[i] = 1 + (next_random() % 50 == 0 ? random_bits(8) : 0);
	}
	facts.n = n;
	combine(&facts);
	return facts;
}

static void
test_density(void)
{
	Facts		facts = usual_facts(100000);
	size_t		total = 0;
	size_t		taken = 0;

	for (size_t i = 0; i < facts.n; i += taken)
	{
		uint8_t		data[SEGMENT_MAX_BYTES];
		size_t		length = segment_encode(&facts, i, taken, data, &taken);

		total += length;
		if (i + taken < facts.n && length < SEGMENT_MAX_BYTES - 64)
			total += SEGMENT_MAX_BYTES;
	}
	ok(total < facts.n * 26 / 10, "usual facts take no more than 2.6 bytes each");
	free_facts(&facts);
}

/*
 * Facts whose columns start to descend, or reach a new least value, somewhere
 * about where a segment ends.
 */
static Facts
changing_facts(size_t n)
{
	Facts		facts = new_facts(3, n);
	size_t		change = 1 + next_random() % n;
	int			bits = (int) (next_random() % 30);

	for (size_t i = 0; i < n; i++)
	{
		facts.key[0][i] = 1000 + i / 3;
		facts.key[1][i] = i < change ? 500 + i : 500 + i % 3 + random_bits(bits) * 3;
		facts.key[2][i] = i == change ? 3 : 1000 + random_bits(bits / 3);
		facts.count[i] = i < change ? 7 : 5 + random_bits(2);
	}
	facts.n = n;
	combine(&facts);
	return facts;
}

/* Where the search begins decides the facts of a segment, never how they are packed. */
static void
test_guess(void)
{
	static const size_t guesses[] = {1, 2, 100, 700, 1500, SEGMENT_MAX_FACTS, SIZE_MAX};
	bool		right = true;
	size_t		compared = 0;

	for (int round = 0; round < 100; round++)
	{
		Facts		facts = changing_facts(1 + next_random() % 2500);
		Facts		decoded = new_facts(3, SEGMENT_MAX_FACTS);

		for (size_t g = 0; g < sizeof(guesses) / sizeof(guesses[0]); g++)
		{
			uint8_t		data[SEGMENT_MAX_BYTES];
			uint8_t		again[SEGMENT_MAX_BYTES];
			size_t		taken;
			size_t		taken_again;
			size_t		length = segment_encode(&facts, 0, guesses[g], data, &taken);

			decoded.n = 0;
			right &= decode_copy(data, length, &decoded) == SEGMENT_OK && decoded.n == taken;
			segment_encode(&facts, 0, taken, again, &taken_again);
			if (taken_again == taken)
			{
				right &= memcmp(data, again, length) == 0;
				compared++;
			}
		}
		free_facts(&decoded);
		free_facts(&facts);
	}
	ok(right && compared > 600, "a segment depends on its facts alone");
}

/* A decoded segment is well-formed, or facts->n is as it was. */
static bool
harmless(const uint8_t *data, size_t length, Facts *facts)
{
	SegmentStatus status;

	facts->n = 0;
	status = decode_copy(data, length, facts);
	if (segment_status_text(status) == NULL)
		return false;
	return status == SEGMENT_OK ? well_formed(facts) : facts->n == 0;
}

static void
test_damage(void)
{
	Facts		facts = usual_facts(4000);
	Facts		decoded = new_facts(3, SEGMENT_MAX_FACTS);
	uint8_t		data[SEGMENT_MAX_BYTES + 1];
	bool		right = true;
	bool		found = true;
	size_t		taken = 0;
	size_t		length;

	for (size_t i = 0; i < facts.n; i += taken)
	{
		length = segment_encode(&facts, i, taken, data, &taken);
		for (size_t shorter = 0; shorter < length; shorter++)
			right &= decode_copy(data, shorter, &decoded) != SEGMENT_OK;
		data[length] = 0;
		right &= decode_copy(data, length + 1, &decoded) == SEGMENT_BAD_LENGTH;
		for (size_t bit = 0; bit < length * 8; bit++)
		{
			data[bit / 8] ^= (uint8_t) (1 << bit % 8);
			found &= harmless(data, length, &decoded);
			data[bit / 8] ^= (uint8_t) (1 << bit % 8);
		}
	}
	ok(right, "a segment too short or too long is refused");
	ok(found, "a flipped bit never yields facts out of order");

	right = true;
	for (int round = 0; round < 20000; round++)
	{
		length = next_random() % sizeof(data);
		for (size_t i = 0; i < length; i++)
			data[i] = (uint8_t) (i >= 4 && i < 14 && round % 2 == 0 ? 0 : next_random());
		data[0] = 2;
		data[1] = 3;
		right &= harmless(data, length, &decoded);
	}
	ok(right, "random bytes do no harm");
	free_facts(&decoded);
	free_facts(&facts);
}

/*
 * Stored segments outlive versions of the program: these bytes must decode to
 * these facts forever.
 */
static void
test_format(void)
{
	static const uint8_t stored[] = {
		2, 2, 3, 0,				/* version, columns, facts */
		0x82, 2, 0x14, 0x02,	/* from 266, 2-bit deltas */
		1, 0,					/* from 0, 1 bit */
		0, 0x81, 2, 9, 1, 0,	/* from 1, one patch of 9 bits */
		0x0c,					/* deltas 0, 3, 0 */
		0x05,					/* 1, 0, 1 */
		0x01, 0x00,				/* the patch is for fact 1 */
		0x2c, 0x01				/* 300 */
	};
	Facts		facts = new_facts(2, SEGMENT_MAX_FACTS);
	uint8_t		data[SEGMENT_MAX_BYTES];
	uint8_t		damaged[sizeof(stored)];
	size_t		taken = 0;

	ok(segment_decode(stored, sizeof(stored), &facts) == SEGMENT_OK && facts.n == 3 &&
	   facts.key[0][0] == 266 && facts.key[0][1] == 269 && facts.key[0][2] == 269 &&
	   facts.key[1][0] == 1 && facts.key[1][1] == 0 && facts.key[1][2] == 1 &&
	   facts.count[0] == 1 && facts.count[1] == 301 && facts.count[2] == 1,
	   "version 2 is read");
	ok(segment_encode(&facts, 0, 0, data, &taken) == sizeof(stored) && taken == 3 &&
	   memcmp(data, stored, sizeof(stored)) == 0, "version 2 is written");
	memcpy(damaged, stored, sizeof(stored));
	damaged[0] = 1;
	ok(segment_decode(damaged, sizeof(stored), &facts) == SEGMENT_BAD_VERSION,
	   "another version is refused");
	memcpy(damaged, stored, sizeof(stored));
	damaged[sizeof(stored) - 4] = 3;
	ok(segment_decode(damaged, sizeof(stored), &facts) == SEGMENT_BAD_ORDER,
	   "a patch for a fact that is not there is refused");
	memcpy(damaged, stored, sizeof(stored));
	damaged[5] = 9;
	ok(segment_decode(damaged, sizeof(stored), &facts) == SEGMENT_BAD_WIDTH,
	   "a base of nine bytes is refused");
	damaged[5] = 0;
	damaged[6] = 0x81;
	ok(segment_decode(damaged, 8, &facts) == SEGMENT_BAD_LENGTH,
	   "a descriptor that ends early is refused");
	facts.ncolumns = 1;
	ok(segment_decode(stored, sizeof(stored), &facts) == SEGMENT_BAD_COUNT,
	   "another number of columns is refused");
	facts.ncolumns = 2;
	free_facts(&facts);
}

/* Values that would wrap around make a segment bad, also where none is out of order. */
static void
test_overflow(void)
{
	uint8_t		stored[] = {
		2, 1, 2, 0,
		0x81, 8, 18, 0, 0, 0, 0, 0, 0, 0, /* from 9, 1-bit deltas */
		1, 8, 2, 0, 0, 0, 0, 0, 0, 0,	/* from 1, 1 bit */
		0x02,					/* 9, 10 */
		0x02					/* 1, 2 */
	};
	uint8_t		wide[34] = {
		2, 1, 3, 0,
		0xbf, 1, 18,			/* from 9, 63-bit deltas */
		0, 1, 2
	};
	Facts		facts = new_facts(1, SEGMENT_MAX_FACTS);

	memset(wide + 10, 0xff, sizeof(wide) - 10);

	ok(segment_decode_columns(stored, sizeof(stored), 1, &facts) == SEGMENT_OK &&
	   facts.n == 2 && facts.key[0][1] == 10 && facts.count[1] == 2, "two facts");
	memset(stored + 16, 0xff, 8);
	ok(segment_decode_columns(stored, sizeof(stored), 1, &facts) == SEGMENT_BAD_ORDER,
	   "an overflowing count is refused");
	stored[14] |= 0x80;
	ok(segment_decode_columns(stored, sizeof(stored), 1, &facts) == SEGMENT_BAD_ORDER,
	   "an overflowing count of deltas is refused");
	memset(stored + 16, 0, 8);
	ok(segment_decode_columns(stored, sizeof(stored), 1, &facts) == SEGMENT_BAD_COUNT,
	   "a count of 0 is refused");
	stored[16] = 2;
	memset(stored + 6, 0xff, 8);
	ok(segment_decode_columns(stored, sizeof(stored), 1, &facts) == SEGMENT_BAD_ORDER,
	   "an overflowing key is refused");
	memset(stored + 6, 0, 8);
	stored[4] = 1;
	ok(segment_decode_columns(stored, sizeof(stored), 1, &facts) == SEGMENT_BAD_ORDER,
	   "a first column that is not of deltas is refused");
	ok(segment_decode_columns(wide, sizeof(wide), 1, &facts) == SEGMENT_BAD_ORDER,
	   "overflowing deltas of many bits are refused");
	free_facts(&facts);
}

int
main(void)
{
	test_format();
	test_overflow();
	test_widths();
	test_outliers();
	test_shapes();
	test_density();
	test_guess();
	test_damage();
	return done_testing();
}
