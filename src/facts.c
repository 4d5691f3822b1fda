/*-------------------------------------------------------------------------
 *
 * facts.c
 *	  Sorting and merging a batch of facts.
 *
 * Real batches use far fewer bits than their columns have: ads of one range,
 * minutes of one hour, some thousand filters, small counts.  So each fact is
 * first packed into a record of as few 64-bit words as its bits need (mostly
 * one), the count in the lowest bits and the first key column in the highest.
 * A radix sort, least significant digit first, then moves those records only,
 * and merging compares words instead of columns.
 *
 * Words of a record go from the least to the most significant one.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "facts.h"

#include <string.h>

/* The widest digit; its histogram stays in the first-level cache. */
#define DIGIT_BITS_MAX 11

/* Below this many facts, clearing wide histograms costs more than it saves. */
#define DIGIT_BITS_SMALL 8
#define SMALL_BATCH 8192

/* Facts packed or unpacked column by column while they stay in the cache. */
#define BLOCK_FACTS 512

#define WORD_BITS 64

/* Where the values of one column, or the counts, lie in a record. */
typedef struct Field
{
	uint64_t	min;			/* stored is value - min */
	int			bits;			/* 0 when all values are equal */
	int			shift;			/* lowest bit, counted from word 0 */
} Field;

typedef struct Layout
{
	int			nwords;			/* words of a record */
	int			nfields;		/* key columns and, as the last, the count */
	int			total_bits;
	uint64_t	key_mask;		/* the bits of word 0 that are not count */
	Field		field[FACTS_MAX_COLUMNS + 1];
} Layout;

size_t
facts_memory(int ncolumns, size_t capacity)
{
	return ((size_t) ncolumns + 1) * capacity * sizeof(uint64_t);
}

void
facts_init(Facts *facts, int ncolumns, size_t capacity, void *memory)
{
	uint64_t   *next = memory;

	memset(facts, 0, sizeof(*facts));
	facts->ncolumns = ncolumns;
	facts->capacity = capacity;
	for (int i = 0; i < ncolumns; i++)
	{
		facts->key[i] = next;
		next += capacity;
	}
	facts->count = next;
}

/* The widest digits a key of so many bits is sorted by. */
static int
digit_width(int key_bits, size_t n)
{
	int			widest = n < SMALL_BATCH ? DIGIT_BITS_SMALL : DIGIT_BITS_MAX;
	int			ndigits = (key_bits + widest - 1) / widest;

	return ndigits == 0 ? 1 : (key_bits + ndigits - 1) / ndigits;
}

size_t
facts_scratch(int ncolumns, size_t n)
{
	size_t		records = ((size_t) ncolumns + 1) * n * sizeof(uint64_t);
	int			widest = n < SMALL_BATCH ? DIGIT_BITS_SMALL : DIGIT_BITS_MAX;
	size_t		ndigits = ((size_t) ncolumns * WORD_BITS + widest - 1) / widest;

	/* the records before and after a pass, and a histogram for each digit */
	return 2 * records + (ndigits << widest) * sizeof(uint32_t);
}

static int
bit_length(uint64_t value)
{
	return value == 0 ? 0 : WORD_BITS - __builtin_clzll(value);
}

/* Values of a field: a key column or, after the last of them, the counts. */
static uint64_t *
field_values(const Facts *facts, int field)
{
	return field < facts->ncolumns ? facts->key[field] : facts->count;
}

static void
measure_field(Field *field, const uint64_t *values, size_t n)
{
	uint64_t	min = values[0];
	uint64_t	max = values[0];

	for (size_t i = 1; i < n; i++)
	{
		min = values[i] < min ? values[i] : min;
		max = values[i] > max ? values[i] : max;
	}
	field->min = min;
	field->bits = bit_length(max - min);
}

static void
plan_layout(Layout *layout, const Facts *facts)
{
	int			shift = 0;
	int			count_bits;

	layout->nfields = facts->ncolumns + 1;
	for (int f = layout->nfields - 1; f >= 0; f--)
	{
		Field	   *field = &layout->field[f];

		measure_field(field, field_values(facts, f), facts->n);
		field->shift = shift;
		shift += field->bits;
	}
	layout->total_bits = shift;
	layout->nwords = shift == 0 ? 1 : (shift + WORD_BITS - 1) / WORD_BITS;
	count_bits = layout->field[layout->nfields - 1].bits;
	layout->key_mask = count_bits == WORD_BITS ? 0 : ~UINT64_C(0) << count_bits;
}

/* Put the values of one field into records that have zeros there. */
static inline void
pack_field(const Field *field, const uint64_t *values, size_t n,
		   uint64_t *records, int nwords)
{
	uint64_t   *word = records + field->shift / WORD_BITS;
	int			bit = field->shift % WORD_BITS;

	for (size_t i = 0; i < n; i++)
		word[i * nwords] |= (values[i] - field->min) << bit;
	if (bit + field->bits > WORD_BITS)
		for (size_t i = 0; i < n; i++)
			word[i * nwords + 1] |= (values[i] - field->min) >> (WORD_BITS - bit);
}

static inline void
unpack_field(const Field *field, uint64_t *values, size_t n,
			 const uint64_t *records, int nwords)
{
	const uint64_t *word = records + field->shift / WORD_BITS;
	int			bit = field->shift % WORD_BITS;
	uint64_t	mask = ~UINT64_C(0) >> (WORD_BITS - field->bits);

	if (bit + field->bits <= WORD_BITS)
		for (size_t i = 0; i < n; i++)
			values[i] = field->min + ((word[i * nwords] >> bit) & mask);
	else
		for (size_t i = 0; i < n; i++)
			values[i] = field->min + (((word[i * nwords] >> bit) |
									   (word[i * nwords + 1] << (WORD_BITS - bit))) & mask);
}

static inline void
pack_records(const Layout *layout, const Facts *facts, uint64_t *records, int nwords)
{
	for (size_t start = 0; start < facts->n; start += BLOCK_FACTS)
	{
		size_t		left = facts->n - start;
		size_t		n = left < BLOCK_FACTS ? left : BLOCK_FACTS;
		uint64_t   *block = records + start * nwords;

		memset(block, 0, n * nwords * sizeof(uint64_t));
		for (int f = 0; f < layout->nfields; f++)
			if (layout->field[f].bits > 0)
				pack_field(&layout->field[f], field_values(facts, f) + start, n,
						   block, nwords);
	}
}

/* Read the key columns back; the counts were read by merge_records. */
static inline void
unpack_keys(const Layout *layout, Facts *facts, const uint64_t *records, int nwords)
{
	for (size_t start = 0; start < facts->n; start += BLOCK_FACTS)
	{
		size_t		left = facts->n - start;
		size_t		n = left < BLOCK_FACTS ? left : BLOCK_FACTS;
		const uint64_t *block = records + start * nwords;

		/* where all values are equal they are in place already */
		for (int f = 0; f < facts->ncolumns; f++)
			if (layout->field[f].bits > 0)
				unpack_field(&layout->field[f], facts->key[f] + start, n, block, nwords);
	}
}

static inline bool
key_less(const uint64_t *a, const uint64_t *b, uint64_t key_mask, int nwords)
{
	for (int w = nwords - 1; w > 0; w--)
		if (a[w] != b[w])
			return a[w] < b[w];
	return (a[0] & key_mask) < (b[0] & key_mask);
}

static inline bool
key_equal(const uint64_t *a, const uint64_t *b, uint64_t key_mask, int nwords)
{
	uint64_t	difference = (a[0] ^ b[0]) & key_mask;

	for (int w = 1; w < nwords; w++)
		difference |= a[w] ^ b[w];
	return difference == 0;
}

static inline bool
records_sorted(const uint64_t *records, size_t n, uint64_t key_mask, int nwords)
{
	for (size_t i = 1; i < n; i++)
		if (key_less(records + i * nwords, records + (i - 1) * nwords, key_mask, nwords))
			return false;
	return true;
}

static inline size_t
digit_at(const uint64_t *record, int shift, uint64_t mask, int nwords)
{
	int			word = shift / WORD_BITS;
	int			bit = shift % WORD_BITS;
	uint64_t	value = record[word] >> bit;

	/* shifted in two steps, because a shift by all 64 bits is undefined */
	if (word + 1 < nwords)
		value |= (record[word + 1] << 1) << (WORD_BITS - 1 - bit);
	return (size_t) (value & mask);
}

/* One stable pass; the histogram becomes the place of each digit's records. */
static inline void
sort_pass(const uint64_t *from, uint64_t *to, size_t n, int shift, uint64_t mask,
		  uint32_t *histogram, int nwords)
{
	uint32_t	place = 0;

	for (uint64_t d = 0; d <= mask; d++)
	{
		uint32_t	records = histogram[d];

		histogram[d] = place;
		place += records;
	}
	for (size_t i = 0; i < n; i++)
	{
		const uint64_t *record = from + i * nwords;
		size_t		slot = histogram[digit_at(record, shift, mask, nwords)]++;

		for (int w = 0; w < nwords; w++)
			to[slot * nwords + w] = record[w];
	}
}

/*
 * Sort the records by their key bits.  Returns where they ended up, in records
 * or in other.
 */
static inline uint64_t *
sort_records(const Layout *layout, uint64_t *records, uint64_t *other,
			 uint32_t *histograms, size_t n, int nwords)
{
	int			count_bits = layout->field[layout->nfields - 1].bits;
	int			key_bits = layout->total_bits - count_bits;
	int			width = digit_width(key_bits, n);
	int			ndigits = (key_bits + width - 1) / width;
	uint64_t	mask = (UINT64_C(1) << width) - 1;

	memset(histograms, 0, ((size_t) ndigits << width) * sizeof(uint32_t));
	for (size_t i = 0; i < n; i++)
		for (int d = 0; d < ndigits; d++)
			histograms[((size_t) d << width) +
					   digit_at(records + i * nwords, count_bits + d * width, mask, nwords)]++;

	for (int d = 0; d < ndigits; d++)
	{
		uint32_t   *histogram = histograms + ((size_t) d << width);
		int			shift = count_bits + d * width;
		uint64_t   *sorted = other;

		/* nothing to do where all records have the same digit */
		if (histogram[digit_at(records, shift, mask, nwords)] == n)
			continue;
		sort_pass(records, other, n, shift, mask, histogram, nwords);
		other = records;
		records = sorted;
	}
	return records;
}

/*
 * Keep one record of each run of equal keys, and store the sums of the counts.
 * Returns how many are left.
 */
static inline size_t
merge_records(const Layout *layout, uint64_t *records, size_t n, uint64_t *counts, int nwords)
{
	uint64_t	count_min = layout->field[layout->nfields - 1].min;
	uint64_t	count_mask = ~layout->key_mask;
	size_t		last = 0;

	counts[0] = count_min + (records[0] & count_mask);
	for (size_t i = 1; i < n; i++)
	{
		const uint64_t *record = records + i * nwords;
		uint64_t	count = count_min + (record[0] & count_mask);

		if (key_equal(record, records + last * nwords, layout->key_mask, nwords))
			counts[last] += count;
		else
		{
			last++;
			counts[last] = count;
			for (int w = 0; w < nwords; w++)
				records[last * nwords + w] = record[w];
		}
	}
	return last + 1;
}

static inline void
combine_records(const Layout *layout, Facts *facts, void *scratch, int nwords)
{
	uint64_t   *records = scratch;
	uint64_t   *other = records + facts->n * nwords;
	uint32_t   *histograms = (uint32_t *) (other + facts->n * nwords);

	pack_records(layout, facts, records, nwords);
	if (!records_sorted(records, facts->n, layout->key_mask, nwords))
		records = sort_records(layout, records, other, histograms, facts->n, nwords);
	facts->n = merge_records(layout, records, facts->n, facts->count, nwords);
	unpack_keys(layout, facts, records, nwords);
}

void
facts_combine(Facts *facts, void *scratch)
{
	Layout		layout;

	if (facts->n < 2)
		return;
	plan_layout(&layout, facts);

	/* inlined for the usual sizes, where a constant makes all the difference */
	if (layout.nwords == 1)
		combine_records(&layout, facts, scratch, 1);
	else if (layout.nwords == 2)
		combine_records(&layout, facts, scratch, 2);
	else if (layout.nwords == 3)
		combine_records(&layout, facts, scratch, 3);
	else
		combine_records(&layout, facts, scratch, layout.nwords);
}
