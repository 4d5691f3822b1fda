/*-------------------------------------------------------------------------
 *
 * fuzz_segment.c
 *	  Decoding arbitrary bytes, and encoding arbitrary facts.
 *
 * Every input is tried in two ways: as the bytes of a segment, which must be
 * refused or yield well-formed facts that encode again; and as instructions to
 * build facts, which must come back from their segments as they were.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "../../src/core/segment.h"

/* No more facts than these are built from an input. */
#define MAX_BUILT 4096

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

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
require_well_formed(const Facts *facts)
{
	for (size_t i = 0; i < facts->n; i++)
	{
		int			c = 0;

		require(facts->count[i] > 0);
		if (i == 0)
			continue;
		while (c < facts->ncolumns && facts->key[c][i] == facts->key[c][i - 1])
			c++;
		require(c < facts->ncolumns && facts->key[c][i] > facts->key[c][i - 1]);
	}
}

static void
require_round_trip(const Facts *facts)
{
	Facts		decoded = new_facts(facts->ncolumns, facts->n + SEGMENT_MAX_FACTS);
	size_t		taken = 0;

	for (size_t i = 0; i < facts->n; i += taken)
	{
		uint8_t		bytes[SEGMENT_MAX_BYTES];
		size_t		length = segment_encode(facts, i, taken, bytes, &taken);

		require(length <= SEGMENT_MAX_BYTES && taken > 0);
		require(segment_decode(bytes, length, &decoded) == SEGMENT_OK);
		require(decoded.n == i + taken);
	}
	for (int c = 0; c < facts->ncolumns; c++)
		require(memcmp(facts->key[c], decoded.key[c], facts->n * sizeof(uint64_t)) == 0);
	require(memcmp(facts->count, decoded.count, facts->n * sizeof(uint64_t)) == 0);
	free_facts(&decoded);
}

/* The input as a segment of its own number of columns. */
static void
try_bytes(const uint8_t *data, size_t size)
{
	int			ncolumns = size > 1 && data[1] >= 1 && data[1] <= FACTS_MAX_COLUMNS ? data[1] : 3;
	Facts		facts = new_facts(ncolumns, SEGMENT_MAX_FACTS);
	SegmentStatus status = segment_decode(data, size, &facts);

	require(segment_status_text(status) != NULL);
	if (status == SEGMENT_OK)
	{
		require_well_formed(&facts);
		require_round_trip(&facts);
	}
	else
		require(facts.n == 0);
	segment_decode_columns(data, size, 1, &facts);
	for (size_t i = 1; i < facts.n; i++)
		require(facts.key[0][i] >= facts.key[0][i - 1]);
	if (segment_decode_where(data, size, 1, 0, size > 2 ? data[2] : 0, &facts) == SEGMENT_OK)
		require(facts.n == 0 || facts.key[0][facts_find(&facts, 0, size > 2 ? data[2] : 0)] == (size > 2 ? data[2] : 0));
	free_facts(&facts);
}

/*
 * A value made of up to three bytes of input: a byte's worth of bits, moved up
 * by the other, so that short inputs reach all widths.
 */
static uint64_t
take_value(const uint8_t **data, const uint8_t *end)
{
	uint64_t	value = *data < end ? *(*data)++ : 0;

	if (value < 128)
		return value;
	return (value * UINT64_C(0x0101010101010101)) >> (*data < end ? *(*data)++ % 64 : 0);
}

/* The input as instructions to build facts. */
static void
try_facts(const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size;
	int			ncolumns = size > 0 ? 1 + *data++ % FACTS_MAX_COLUMNS : 1;
	Facts		facts = new_facts(ncolumns, MAX_BUILT);
	void	   *scratch = malloc(facts_scratch(ncolumns, MAX_BUILT));

	while (data < end && facts.n < facts.capacity)
	{
		for (int c = 0; c < ncolumns; c++)
			facts.key[c][facts.n] = take_value(&data, end);
		/* small enough that the sum of all is less than 2^64 */
		facts.count[facts.n++] = 1 + take_value(&data, end) / MAX_BUILT;
	}
	facts_combine(&facts, scratch);
	require_well_formed(&facts);
	require_round_trip(&facts);
	free(scratch);
	free_facts(&facts);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	try_bytes(data, size);
	try_facts(data, size);
	return 0;
}
