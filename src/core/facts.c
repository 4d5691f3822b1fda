/*-------------------------------------------------------------------------
 *
 * facts.c
 *	  Sorting and merging a batch of facts.
 *
 * Real batches use far fewer bits than their columns have: ads of one range,
 * minutes of one hour, some thousand filters, small counts.  So each fact is
 * first packed into a record of as few 64-bit words as its bits need, the count
 * in the lowest bits and the first key column in the highest.  Merging then
 * compares words instead of columns.
 *
 * What is sorted are single words.  Where records are one word, these are the
 * records; otherwise each has leading bits of a record's key and, below them,
 * the record's number.  A radix sort puts them in order of so many leading bits
 * that few are equal in them.  The groups that are get sorted by themselves,
 * small ones by insertion, others by the same procedure from the first bit on
 * in which they differ.
 *
 * Words of a record go from the least to the most significant one.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "facts.h"

#include <string.h>

/* The widest digit; the histogram of one stays in the first-level cache. */
#define DIGIT_BITS_MAX 11

/* So many bits more than number a group's records are sorted at a time. */
#define SPARE_BITS 3

/* Groups of no more than this are sorted by insertion. */
#define SMALL_GROUP 24

/* Facts packed or unpacked column by column while they stay in the cache. */
#define BLOCK_FACTS 512

/* Records fetched into the cache before merging needs them. */
#define RECORDS_AHEAD 24

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

void		(*facts_pause) (void) = NULL;

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

void
facts_append(Facts *facts, const Facts *from, size_t start, size_t n)
{
	if (n == 0)
		return;
	for (int i = 0; i < facts->ncolumns; i++)
		memcpy(facts->key[i] + facts->n, from->key[i] + start, n * sizeof(uint64_t));
	memcpy(facts->count + facts->n, from->count + start, n * sizeof(uint64_t));
	facts->n += n;
}

void
facts_grow(Facts *facts, size_t capacity, void *memory)
{
	Facts		larger;

	facts_init(&larger, facts->ncolumns, capacity, memory);
	facts_append(&larger, facts, 0, facts->n);
	*facts = larger;
}

Facts
facts_end(const Facts *facts)
{
	Facts		end = *facts;

	for (int i = 0; i < facts->ncolumns; i++)
		end.key[i] += facts->n;
	end.count += facts->n;
	end.capacity -= facts->n;
	end.n = 0;
	return end;
}

void
facts_drop(Facts *facts, size_t n)
{
	facts->n -= n;
	if (facts->n == 0 || n == 0)
		return;
	for (int i = 0; i < facts->ncolumns; i++)
		memmove(facts->key[i], facts->key[i] + n, facts->n * sizeof(uint64_t));
	memmove(facts->count, facts->count + n, facts->n * sizeof(uint64_t));
}

size_t
facts_scratch(int ncolumns, size_t n)
{
	/* the records, and a word for each before and after a pass */
	return ((size_t) ncolumns + 1 + 2) * n * sizeof(uint64_t);
}

static int
bit_length(uint64_t value)
{
	return value == 0 ? 0 : WORD_BITS - __builtin_clzll(value);
}

static uint64_t
low_bits(int nbits)
{
	return nbits == 0 ? 0 : ~UINT64_C(0) >> (WORD_BITS - nbits);
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

	for (size_t i = 0, end; i < n;)
		for (end = facts_until_pause(i, n); i < end; i++)
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
	layout->key_mask = ~low_bits(count_bits);
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
	for (size_t start = 0, end; start < facts->n;)
		for (end = facts_until_pause(start, facts->n); start < end; start += BLOCK_FACTS)
		{
			size_t		n = end - start < BLOCK_FACTS ? end - start : BLOCK_FACTS;
			uint64_t   *block = records + start * nwords;

			memset(block, 0, n * nwords * sizeof(uint64_t));
			for (int f = 0; f < layout->nfields; f++)
				if (layout->field[f].bits > 0)
					pack_field(&layout->field[f], field_values(facts, f) + start, n,
							   block, nwords);
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
	for (size_t i = 1, end; i < n;)
		for (end = facts_until_pause(i, n); i < end; i++)
			if (key_less(records + i * nwords, records + (i - 1) * nwords, key_mask, nwords))
				return false;
	return true;
}

/*----------
 * Sorting
 *----------
 */

/* What the words that are sorted stand for. */
typedef struct Sorter
{
	const uint64_t *records;
	int			nwords;			/* of a record */
	uint64_t	key_mask;		/* as in the layout */
	int			lowest_bit;		/* of the words: below are counts or numbers */
	uint64_t	number_mask;	/* the bits below */
} Sorter;

static inline const uint64_t *
record_of(const Sorter *sorter, uint64_t word)
{
	return sorter->records + (size_t) (word & sorter->number_mask) * sorter->nwords;
}

static inline bool
word_less(const Sorter *sorter, uint64_t a, uint64_t b)
{
	if (sorter->nwords == 1 || (a ^ b) >> sorter->lowest_bit != 0)
		return a < b;
	return key_less(record_of(sorter, a), record_of(sorter, b), sorter->key_mask,
					sorter->nwords);
}

static void
insertion_sort(const Sorter *sorter, uint64_t *words, size_t n)
{
	for (size_t i = 1; i < n; i++)
	{
		uint64_t	word = words[i];
		size_t		j = i;

		for (; j > 0 && word_less(sorter, word, words[j - 1]); j--)
			words[j] = words[j - 1];
		words[j] = word;
	}
}

/* How many bits of the key are up to the first that is not the same in all. */
static int
differing_bits(const Sorter *sorter, const uint64_t *words, size_t n)
{
	uint64_t	difference = 0;

	if (sorter->nwords == 1)
	{
		for (size_t i = 1, end; i < n;)
			for (end = facts_until_pause(i, n); i < end; i++)
				difference |= words[i] ^ words[0];
		return bit_length(difference & sorter->key_mask);
	}
	for (int w = sorter->nwords - 1; w >= 0; w--)
	{
		uint64_t	first = record_of(sorter, words[0])[w];

		for (size_t i = 1, end; i < n;)
			for (end = facts_until_pause(i, n); i < end; i++)
				difference |= record_of(sorter, words[i])[w] ^ first;
		if (w == 0)
			difference &= sorter->key_mask;
		if (difference != 0)
			return w * WORD_BITS + bit_length(difference);
	}
	return 0;
}

/* Fill the words above the numbers with the highest of the records' lowest "nbits" bits. */
static void
take_leading_bits(const Sorter *sorter, uint64_t *words, size_t n, int nbits)
{
	int			w = (nbits - 1) / WORD_BITS;
	int			used = nbits - w * WORD_BITS;

	for (size_t i = 0, end; i < n;)
		for (end = facts_until_pause(i, n); i < end; i++)
		{
			const uint64_t *record = record_of(sorter, words[i]);
			uint64_t	leading = record[w] << (WORD_BITS - used);

			if (used < WORD_BITS && w > 0)
				leading |= record[w - 1] >> used;
			words[i] = (leading & ~sorter->number_mask) | (words[i] & sorter->number_mask);
		}
}

/* One stable pass; the histogram becomes the place of each digit's words. */
static void
sort_pass(const uint64_t *from, uint64_t *to, size_t n, int shift, uint64_t mask,
		  uint32_t *histogram)
{
	uint32_t	place = 0;

	for (uint64_t d = 0; d <= mask; d++)
	{
		uint32_t	words = histogram[d];

		histogram[d] = place;
		place += words;
	}
	for (size_t i = 0, end; i < n;)
		for (end = facts_until_pause(i, n); i < end; i++)
			to[histogram[(from[i] >> shift) & mask]++] = from[i];
}

/* Sort by two digits of so many bits, the lower one from bit "low" on. */
static void
sort_two_digits(uint64_t *words, uint64_t *other, size_t n, int low, int width)
{
	uint32_t	lower[1 << DIGIT_BITS_MAX];
	uint32_t	upper[1 << DIGIT_BITS_MAX];
	uint64_t	mask = low_bits(width);

	memset(lower, 0, sizeof(uint32_t) << width);
	memset(upper, 0, sizeof(uint32_t) << width);
	for (size_t i = 0, end; i < n;)
		for (end = facts_until_pause(i, n); i < end; i++)
		{
			lower[(words[i] >> low) & mask]++;
			upper[(words[i] >> low >> width) & mask]++;
		}
	sort_pass(words, other, n, low, mask, lower);
	sort_pass(other, words, n, low + width, mask, upper);
}

/*
 * Sort the words, equal from bit "end" on, by so many of the bits below it that
 * few are equal in all of them, or by all if these are not many more.  Returns
 * the lowest bit sorted by.
 */
static int
sort_leading_bits(const Sorter *sorter, uint64_t *words, uint64_t *other, size_t n, int end)
{
	int			nbits = end - sorter->lowest_bit;
	int			width = (bit_length(n) + SPARE_BITS + 1) / 2;
	int			ndigits;
	int			lowest;

	width = width < DIGIT_BITS_MAX ? width : DIGIT_BITS_MAX;
	ndigits = nbits > 2 * width && nbits <= 4 * width ? 4 : 2;
	if (nbits < ndigits * width)
		width = (nbits + ndigits - 1) / ndigits;
	lowest = end > ndigits * width ? end - ndigits * width : 0;
	for (int d = 0; d < ndigits; d += 2)
		sort_two_digits(words, other, n, lowest + d * width, width);
	return lowest;
}

/* Sort the words by the keys of their records. */
static void
sort_words(const Sorter *sorter, uint64_t *words, uint64_t *other, size_t n)
{
	int			nbits;
	int			lowest;
	size_t		pause = 0;
	size_t		end;

	if (n <= SMALL_GROUP)
	{
		insertion_sort(sorter, words, n);
		return;
	}
	nbits = differing_bits(sorter, words, n);
	if (nbits == 0)
		return;
	if (sorter->nwords > 1)
	{
		take_leading_bits(sorter, words, n, nbits);
		nbits = WORD_BITS;
	}
	lowest = sort_leading_bits(sorter, words, other, n, nbits);
	if (sorter->nwords == 1 && lowest <= sorter->lowest_bit)
		return;

	for (size_t start = 0; start < n; start = end)
	{
		if (start >= pause)
			pause = facts_until_pause(start, n);
		end = start + 1;
		while (end < n && words[end] >> lowest == words[start] >> lowest)
			end++;
		sort_words(sorter, words + start, other + start, end - start);
	}
}

/*----------
 * Merging
 *----------
 */

static inline void
unpack_block(const Layout *layout, Facts *facts, size_t start, size_t n,
			 const uint64_t *block, int nwords)
{
	/* where all values are equal they are in place already */
	for (int f = 0; f < facts->ncolumns; f++)
		if (layout->field[f].bits > 0)
			unpack_field(&layout->field[f], facts->key[f] + start, n, block, nwords);
}

static inline const uint64_t *
record_at(const Sorter *sorter, const uint64_t *words, size_t i, int nwords)
{
	return nwords == 1 ? &words[i] :
		sorter->records + (size_t) (words[i] & sorter->number_mask) * nwords;
}

/* Write one fact for each run of equal keys among the records in order. */
static inline void
merge_records(const Layout *layout, const Sorter *sorter, const uint64_t *words,
			  Facts *facts, int nwords)
{
	uint64_t	block[BLOCK_FACTS * (FACTS_MAX_COLUMNS + 1)];
	uint64_t	count_min = layout->field[layout->nfields - 1].min;
	const uint64_t *previous = NULL;
	uint64_t	sum = 0;
	size_t		written = 0;	/* facts before those in the block */
	size_t		n = 0;			/* facts in the block */
	size_t		pause = 0;

	for (size_t i = 0; i < facts->n; i++)
	{
		const uint64_t *record = record_at(sorter, words, i, nwords);
		uint64_t	count = count_min + (record[0] & ~layout->key_mask);
		bool		is_new = i == 0 || !key_equal(record, previous, layout->key_mask, nwords);

		if (i == pause)
			pause = facts_until_pause(i, facts->n);
		if (nwords > 1 && i + RECORDS_AHEAD < facts->n)
			__builtin_prefetch(record_at(sorter, words, i + RECORDS_AHEAD, nwords));
		if (is_new && n == BLOCK_FACTS)
		{
			unpack_block(layout, facts, written, n, block, nwords);
			written += n;
			n = 0;
		}
		/* no branches here: whether a key is new is as good as random */
		n += is_new;
		sum = is_new ? count : sum + count;
		facts->count[written + n - 1] = sum;
		for (int w = 0; w < nwords; w++)
			block[(n - 1) * nwords + w] = record[w];
		previous = record;
	}
	unpack_block(layout, facts, written, n, block, nwords);
	facts->n = written + n;
}

static inline void
combine_records(const Layout *layout, Facts *facts, uint64_t *scratch, int nwords)
{
	uint64_t   *records = scratch;
	uint64_t   *words = nwords == 1 ? records : records + facts->n * nwords;
	int			lowest_bit = nwords == 1 ? layout->field[layout->nfields - 1].bits :
		bit_length(facts->n - 1);
	Sorter		sorter = {records, nwords, layout->key_mask, lowest_bit, low_bits(lowest_bit)};

	pack_records(layout, facts, records, nwords);
	if (nwords > 1)
		for (size_t i = 0; i < facts->n; i++)
			words[i] = i;
	if (!records_sorted(records, facts->n, layout->key_mask, nwords))
		sort_words(&sorter, words, words + facts->n, facts->n);
	merge_records(layout, &sorter, words, facts, nwords);
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
