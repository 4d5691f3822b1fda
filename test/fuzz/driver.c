/*-------------------------------------------------------------------------
 *
 * driver.c
 *	  Runs a fuzz target without libFuzzer: random mutations of a small corpus
 *	  of valid segments, the same in every run.
 *
 * Knows nothing of what the program does with its inputs, so it finds less
 * than libFuzzer, but it needs no more than a C compiler.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/core/segment.h"
#include "../unit/tap.h"

#define ITERATIONS 30000
#define CORPUS 32
#define MAX_INPUT (SEGMENT_MAX_BYTES + 64)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input
{
	size_t		size;
	uint8_t		data[MAX_INPUT];
} Input;

/* A segment of any shape. */
static void
make_segment(Input *input)
{
	int			ncolumns = 1 + (int) (next_random() % FACTS_MAX_COLUMNS);
	size_t		n = 1 + next_random() % 300;
	Facts		facts;
	void	   *memory = malloc(facts_memory(ncolumns, n));
	void	   *scratch = malloc(facts_scratch(ncolumns, n));
	size_t		taken = 0;

	facts_init(&facts, ncolumns, n, memory);
	for (int c = 0; c < ncolumns; c++)
	{
		int			bits = (int) (next_random() % 65);

		for (size_t i = 0; i < n; i++)
			facts.key[c][i] = random_bits(next_random() % 20 == 0 ? bits : bits / 4);
	}
	for (size_t i = 0; i < n; i++)
		facts.count[i] = 1 + random_bits((int) (next_random() % 20));
	facts.n = n;
	facts_combine(&facts, scratch);
	input->size = segment_encode(&facts, 0, 0, input->data, &taken);
	free(scratch);
	free(memory);
}

/* Change one thing, mostly near the beginning, where the header is. */
static void
mutate(Input *input)
{
	size_t		range = next_random() % 2 == 0 && input->size > 64 ? 64 : input->size;
	size_t		at = range == 0 ? 0 : next_random() % range;

	switch (next_random() % 6)
	{
		case 0:
			input->data[at] ^= (uint8_t) (1 << next_random() % 8);
			break;
		case 1:
			input->data[at] = (uint8_t) next_random();
			break;
		case 2:
			input->data[at] = next_random() % 2 == 0 ? 0 : 0xff;
			break;
		case 3:
			input->size = at;
			break;
		case 4:
			for (; input->size < MAX_INPUT && next_random() % 16 != 0; input->size++)
				input->data[input->size] = (uint8_t) next_random();
			break;
		default:
			/* repeat a stretch, overwriting what follows */
			for (size_t i = at; i + 8 < input->size && i < at + 8; i++)
				input->data[i + 8] = input->data[i];
	}
}

/* In memory of exactly its size, so that ASan sees any overread. */
static void
run(const Input *input)
{
	uint8_t    *copy = malloc(input->size + 1);

	memcpy(copy + 1, input->data, input->size);
	LLVMFuzzerTestOneInput(copy + 1, input->size);
	free(copy);
}

int
main(void)
{
	Input	   *corpus = calloc(CORPUS, sizeof(Input));

	for (int i = 0; i < CORPUS; i++)
	{
		make_segment(&corpus[i]);
		run(&corpus[i]);
	}
	ok(true, "the corpus");
	for (int i = 0; i < ITERATIONS; i++)
	{
		Input		input = corpus[next_random() % CORPUS];

		for (uint64_t changes = 1 + next_random() % 4; changes > 0; changes--)
			mutate(&input);
		run(&input);
	}
	/* a failure would have aborted the program */
	ok(true, "mutations of the corpus");
	free(corpus);
	return done_testing();
}
