/*-------------------------------------------------------------------------
 *
 * tail.c
 *	  The tail, judged for a query's snapshot.
 *
 * A query does what the next tick would do, without leaving a trace: of all
 * copies of a key the first in the inbox stands for the click, and it counts if
 * its key was not seen by a tick that the snapshot sees.  Clicks that are not
 * asked for are only remembered by their key, as they may be first copies.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "inbox/click.h"
#include "inbox/inbox.h"
#include "seen/seen.h"
#include "slices.h"
#include "store/filters.h"
#include "tail.h"

/* Candidates there is room for at first. */
#define FIRST_ROOM 64

/* Of a key: its click is not asked for. */
#define NOT_ASKED_FOR PG_UINT32_MAX

/* Of a key by a former rule: its click has none by the rule in force, and is this candidate. */
#define KEYLESS UINT32_C(0x80000000)

/*
 * A tail can be long, as when workers were off: a click takes its key here, and
 * if it is asked for a fact of the roles, nothing else.
 */
typedef struct Tail
{
	const Conditions *conditions;
	const FactRole *roles;
	const ClickRules *rules;
	size_t		nkeys;			/* keys of all valid clicks, in order of the inbox */
	size_t		nasked;			/* of clicks that are asked for */
	size_t		keys_room;
	SeenClick  *keys;
	size_t		nformer;		/* keys by former rules; "row" is the number of the key, or KEYLESS */
	size_t		former_room;
	SeenClick  *former;
	Facts		candidates;		/* clicks that are asked for; a count of 0: to be judged */
} Tail;

/* Which copy of a candidate's key was met. */
typedef struct FirstCopy
{
	uint32		at;				/* where in the tail one of the copies stands */
	uint32		hash;
	bool		met;
	char		status;
} FirstCopy;

static inline const BucketKey *
key_at(const Tail *tail, uint32 at)
{
	return &tail->keys[at].key;
}

#define SH_PREFIX first_copy
#define SH_ELEMENT_TYPE FirstCopy
#define SH_KEY_TYPE uint32
#define SH_KEY at
#define SH_HASH_KEY(tb, k) bucket_key_hash(key_at((tb)->private_data, k))
#define SH_EQUAL(tb, a, b) bucket_key_equal(key_at((tb)->private_data, a), key_at((tb)->private_data, b))
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
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

/* Note a click that is asked for; returns its number. */
static uint32
add_candidate(Tail *tail, const FactClick *fact, bool counts)
{
	Facts	   *facts = &tail->candidates;

	if (facts->n == facts->capacity)
		facts_enlarge(facts, 2 * facts->capacity, CurrentMemoryContext);
	for (int c = 0; c < facts->ncolumns; c++)
		facts->key[c][facts->n] = fact_value(fact, tail->roles[c]);
	facts->count[facts->n] = counts;
	return (uint32) facts->n++;
}

static void
add_key(SeenClick **keys, size_t *n, size_t *room, const BucketKey *key, uint32 row)
{
	if (*n == *room)
	{
		*room *= 2;
		*keys = repalloc_huge(*keys, sizeof(SeenClick) * *room);
	}
	(*keys)[(*n)++] = (SeenClick) {*key, row};
}

static void
add_former_keys(Tail *tail, TupleTableSlot *slot, const Click *click, uint32 row)
{
	BucketKey	key;

	for (int i = 0; i < tail->rules->nformer; i++)
		if (click_former_key(slot, click, &tail->rules->former[i], &key))
			add_key(&tail->former, &tail->nformer, &tail->former_room, &key, row);
}

static void
add_click(Tail *tail, TupleTableSlot *slot)
{
	Click		click;
	FactClick	fact;
	uint32		row = NOT_ASKED_FOR;

	if (click_read(slot, tail->rules, &click) != CLICK_VALID)
		return;
	if (is_asked_for(tail->conditions, slot, &click, &fact))
		row = add_candidate(tail, &fact, !click.has_key);
	if (click.has_key)
		add_former_keys(tail, slot, &click, (uint32) tail->nkeys);
	else if (row != NOT_ASKED_FOR)
		add_former_keys(tail, slot, &click, row | KEYLESS);
	if (!click.has_key)
		return;
	add_key(&tail->keys, &tail->nkeys, &tail->keys_room, &click.key, row);
	tail->nasked += row != NOT_ASKED_FOR;
}

/* What was counted by a former rule is a duplicate, and no first copy of its key by this one. */
static void
judge_former(Tail *tail)
{
	seen_judge_former(tail->former, tail->nformer, false);
	for (size_t i = 0; i < tail->nformer; i++)
	{
		uint32		row = tail->former[i].row;

		if (tail->former[i].verdict != SEEN_DUPLICATE)
			continue;
		if (row & KEYLESS)
			tail->candidates.count[row & ~KEYLESS] = 0;
		else
		{
			tail->keys[row].verdict = SEEN_DUPLICATE;
			tail->keys[row].row = NOT_ASKED_FOR;
		}
	}
}

/* Whether this is the first copy of a candidate's key. */
static bool
is_first_copy(first_copy_hash *copies, uint32 at)
{
	FirstCopy  *copy = first_copy_lookup(copies, at);

	if (copy == NULL || copy->met)
		return false;
	copy->met = true;
	return true;
}

/* Keep the keys of candidates that are the first copies; returns how many. */
static size_t
keep_first_copies(Tail *tail)
{
	SeenClick  *keys = tail->keys;
	first_copy_hash *copies = first_copy_create(CurrentMemoryContext, Max(tail->nasked, 256), tail);
	uint64		bloom = 0;		/* of the last bits of the candidates' keys */
	size_t		kept = 0;
	FirstCopy  *copy;
	bool		found;

	for (size_t i = 0; i < tail->nkeys; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (keys[i].row == NOT_ASKED_FOR)
			continue;
		bloom |= UINT64CONST(1) << (keys[i].key.key.lo % 64);
		copy = first_copy_insert(copies, i, &found);
		if (!found)
			copy->met = false;
	}
	for (size_t i = 0; i < tail->nkeys && copies->members > 0; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if ((bloom >> (keys[i].key.key.lo % 64) & 1) == 0 || keys[i].verdict == SEEN_DUPLICATE ||
			!is_first_copy(copies, i))
			keys[i].row = NOT_ASKED_FOR;
	}
	first_copy_destroy(copies);
	for (size_t i = 0; i < tail->nkeys; i++)
		if (keys[i].row != NOT_ASKED_FOR)
			keys[kept++] = keys[i];
	return kept;
}

/* Let those candidates count whose key is new. */
static void
judge_candidates(Tail *tail, const StoreState *state)
{
	size_t		kept;

	if (tail->nformer > 0)
		judge_former(tail);
	kept = keep_first_copies(tail);
	seen_judge(tail->keys, kept, state);
	for (size_t i = 0; i < kept; i++)
		tail->candidates.count[tail->keys[i].row] = tail->keys[i].verdict == SEEN_NEW;
}

/* Drop the candidates that do not count, and sum up the others. */
static void
sum_up_candidates(Facts *facts)
{
	size_t		n = 0;

	for (size_t i = 0; i < facts->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int c = 0; c < facts->ncolumns; c++)
			facts->key[c][n] = facts->key[c][i];
		facts->count[n] = facts->count[i];
		n += facts->count[i] > 0;
	}
	facts->n = n;
	facts_sum_up(facts);
}

Facts *
tail_facts(const StoreState *state, const Conditions *conditions, const FactRole *roles, int nroles)
{
	Facts	   *facts = palloc(sizeof(Facts));
	Tail		tail = {
		.conditions = conditions, .roles = roles, .rules = &state->rules, .keys_room = 1024, .former_room = 1
	};
	InboxReader *reader;
	TupleTableSlot *slot;

	facts_init(&tail.candidates, nroles, FIRST_ROOM, palloc(facts_memory(nroles, FIRST_ROOM)));
	tail.keys = palloc(sizeof(SeenClick) * tail.keys_room);
	tail.former = palloc(sizeof(SeenClick) * tail.former_room);
	filters_refresh();
	reader = inbox_begin(GetActiveSnapshot(), state->tick, INBOX_TO_ASK);
	while ((slot = inbox_next(reader)) != NULL)
		add_click(&tail, slot);
	inbox_end(reader);
	judge_candidates(&tail, state);
	pfree(tail.keys);
	pfree(tail.former);
	sum_up_candidates(&tail.candidates);
	*facts = tail.candidates;
	return facts;
}

int64
tail_rows(int64 tick, InboxPurpose purpose, TimestampTz *oldest)
{
	InboxReader *reader = inbox_begin(GetActiveSnapshot(), tick, purpose);
	TupleTableSlot *slot;
	int64		rows = 0;

	*oldest = DT_NOEND;
	while ((slot = inbox_next(reader)) != NULL)
	{
		bool		isnull;
		TimestampTz received_at = DatumGetTimestampTz(slot_getattr(slot, CLICK_RECEIVED_AT, &isnull));

		*oldest = Min(*oldest, received_at);
		rows++;
	}
	inbox_end(reader);
	return rows;
}

TimestampTz
tail_oldest_valid(const StoreState *state, TimestampTz now)
{
	TimestampTz received_at;

	if (tail_rows(state->tick, INBOX_TO_ASK, &received_at) == 0)
		received_at = now;
	return Min(received_at, now) - Max(state->rules.raw_retention, adclick_raw_retention * USECS_PER_MINUTE);
}
