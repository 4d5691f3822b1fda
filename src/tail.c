/*-------------------------------------------------------------------------
 *
 * tail.c
 *	  The tail, judged for a query's snapshot.
 *
 * A query does what the next tick would do, without leaving a trace: of all
 * copies of a key the first in the log stands for the click, and it counts if
 * its key was not seen by a tick that the snapshot sees.  Clicks that are not
 * asked for are only remembered by their key, as they may be first copies.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "adclick.h"
#include "click.h"
#include "filters.h"
#include "seen.h"
#include "slices.h"
#include "tail.h"

/* A click of the tail: its key, and the candidate it is, if it is asked for. */
#define NOT_ASKED_FOR PG_UINT32_MAX

typedef struct Candidate
{
	FactClick	click;
	bool		counts;
} Candidate;

typedef struct Tail
{
	const Conditions *conditions;
	size_t		nkeys;			/* keys of all valid clicks, in log order */
	size_t		keys_room;
	SeenClick  *keys;
	size_t		ncandidates;
	size_t		candidates_room;
	Candidate  *candidates;
} Tail;

/* Grow an array to twice its room when it is full. */
#define MAKE_ROOM(array, n, room) \
	do { \
		if ((n) == (room)) \
		{ \
			(room) *= 2; \
			(array) = repalloc_huge((array), sizeof(*(array)) * (room)); \
		} \
	} while (0)

/* Where in the tail the first copy of a candidate's key stands. */
typedef struct FirstCopy
{
	BucketKey	key;
	size_t		position;
	char		status;
} FirstCopy;

#define SH_PREFIX first_copy
#define SH_ELEMENT_TYPE FirstCopy
#define SH_KEY_TYPE BucketKey
#define SH_KEY key
#define SH_HASH_KEY(tb, k) bucket_key_hash(&(k))
#define SH_EQUAL(tb, a, b) bucket_key_equal(&(a), &(b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* The click as facts are made of it, if it meets the conditions. */
static bool
is_asked_for(const Conditions *conditions, TupleTableSlot *slot, const Click *click, FactClick *fact)
{
	Dimensions	dimensions;

	if (!conditions_match_id(&conditions->ads, click->ad_id) ||
		!conditions_match_minute(conditions, minute_of(click->at)))
		return false;
	click_to_fact(slot, click, fact);
	if ((conditions->users.given &&
		 (!fact->has_user || !conditions_match_id(&conditions->users, fact->user_id))) ||
		!conditions_match_ip(conditions, &fact->ip))
		return false;
	dimensions_read(slot, &dimensions);
	fact->filter_id = filters_foresee(&dimensions);
	if (filter_is_provisional(fact->filter_id))
		return conditions_match_dimensions(conditions, filters_dimensions(fact->filter_id));
	return !conditions->filtered || conditions_match_filter(conditions, fact->filter_id);
}

static void
add_click(Tail *tail, TupleTableSlot *slot)
{
	Click		click;
	FactClick	fact;
	uint32		row = NOT_ASKED_FOR;

	if (click_read(slot, &click) != CLICK_VALID)
		return;
	if (is_asked_for(tail->conditions, slot, &click, &fact))
	{
		MAKE_ROOM(tail->candidates, tail->ncandidates, tail->candidates_room);
		row = tail->ncandidates++;
		tail->candidates[row] = (Candidate) {fact, !click.has_key};
	}
	if (click.has_key)
	{
		MAKE_ROOM(tail->keys, tail->nkeys, tail->keys_room);
		tail->keys[tail->nkeys++] = (SeenClick) {{click.key, click.bucket}, row};
	}
}

/* Keep the keys of candidates that are the first copies; returns how many. */
static size_t
keep_first_copies(Tail *tail)
{
	first_copy_hash *firsts = first_copy_create(CurrentMemoryContext, 256, NULL);
	uint64		bloom = 0;		/* of the last bits of the candidates' keys */
	size_t		kept = 0;
	bool		found;

	for (size_t i = 0; i < tail->nkeys; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (tail->keys[i].row != NOT_ASKED_FOR)
		{
			FirstCopy  *first = first_copy_insert(firsts, tail->keys[i].key, &found);

			bloom |= UINT64CONST(1) << (tail->keys[i].key.key.lo % 64);
			if (!found)
				first->position = tail->nkeys;
		}
	}
	for (size_t i = 0; i < tail->nkeys && firsts->members > 0; i++)
	{
		FirstCopy  *first;

		CHECK_FOR_INTERRUPTS();
		if ((bloom >> (tail->keys[i].key.key.lo % 64) & 1) == 0)
			continue;
		first = first_copy_lookup(firsts, tail->keys[i].key);
		if (first == NULL || first->position < i)
			continue;
		first->position = i;
		if (tail->keys[i].row != NOT_ASKED_FOR)
			tail->keys[kept++] = tail->keys[i];
	}
	first_copy_destroy(firsts);
	return kept;
}

static Facts *
candidates_to_facts(Tail *tail, const FactRole *roles, int nroles)
{
	Facts	   *facts = palloc(sizeof(Facts));
	size_t		capacity = tail->ncandidates + 1;

	facts_init(facts, nroles, capacity,
			   MemoryContextAllocHuge(CurrentMemoryContext, facts_memory(nroles, capacity)));
	for (size_t i = 0; i < tail->ncandidates; i++)
	{
		Candidate  *candidate = &tail->candidates[i];

		CHECK_FOR_INTERRUPTS();
		if (!candidate->counts)
			continue;
		for (int c = 0; c < nroles; c++)
			facts->key[c][facts->n] = fact_value(&candidate->click, roles[c]);
		facts->count[facts->n++] = 1;
	}
	if (facts->n > 0)
		facts_combine(facts, MemoryContextAllocHuge(CurrentMemoryContext,
													facts_scratch(nroles, facts->n)));
	return facts;
}

Facts *
tail_facts(const StoreState *state, const Conditions *conditions, const FactRole *roles, int nroles)
{
	Tail		tail = {.conditions = conditions, .keys_room = 1024, .candidates_room = 64};
	LogReader  *reader;
	TupleTableSlot *slot;
	size_t		kept;

	tail.keys = palloc(sizeof(SeenClick) * tail.keys_room);
	tail.candidates = palloc(sizeof(Candidate) * tail.candidates_room);
	if (RecoveryInProgress())
		return candidates_to_facts(&tail, roles, nroles);

	filters_refresh();
	reader = log_begin(&state->progress, GetActiveSnapshot(), NULL);
	while ((slot = log_next(reader)) != NULL)
		add_click(&tail, slot);
	log_end(reader);

	kept = keep_first_copies(&tail);
	if (kept > 0)
	{
		seen_prepare_query();
		seen_judge(tail.keys, kept, state->tick);
	}
	for (size_t i = 0; i < kept; i++)
		tail.candidates[tail.keys[i].row].counts = tail.keys[i].verdict == SEEN_NEW;
	return candidates_to_facts(&tail, roles, nroles);
}

int64
tail_rows(const StoreState *state, TimestampTz *oldest)
{
	LogReader  *reader = log_begin(&state->progress, GetActiveSnapshot(), NULL);
	TupleTableSlot *slot;
	int64		rows = 0;

	*oldest = DT_NOEND;
	while ((slot = log_next(reader)) != NULL)
	{
		Click		click;

		(void) click_read(slot, &click);
		*oldest = Min(*oldest, click.received_at);
		rows++;
	}
	log_end(reader);
	return rows;
}
