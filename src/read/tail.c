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
#include "seen/limits.h"
#include "seen/seen.h"
#include "slices.h"
#include "store/filters.h"
#include "tail.h"

/* Candidates there is room for at first. */
#define FIRST_ROOM 64

/* Of a key: its click is not asked for. */
#define NOT_ASKED_FOR PG_UINT32_MAX

/* Of a key by another rule: its click has none by its own, and is this candidate. */
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
	FormerClicks former;		/* keys by other rules; "row" is the number of the key, or KEYLESS */
	StoreOverrides *overrides;
	LimitsJudge *judge;			/* of all valid clicks, where users and addresses are limited; else NULL */
	size_t		nplaces;		/* ... then "row" of a former key is the number of the click, and this ... */
	size_t		places_room;
	uint32	   *places;			/* ... what it is otherwise; NOT_ASKED_FOR: the click has neither */
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
add_key(Tail *tail, const BucketKey *key, uint32 row)
{
	if (tail->nkeys == tail->keys_room)
	{
		tail->keys_room *= 2;
		tail->keys = repalloc_huge(tail->keys, sizeof(SeenClick) * tail->keys_room);
	}
	tail->keys[tail->nkeys++] = (SeenClick) {*key, row};
}

static const DedupRule *
rule_of(Tail *tail, TupleTableSlot *slot)
{
	bool		isnull;

	return store_rule_of(tail->overrides, DatumGetInt64(slot_getattr(slot, CLICK_AD_ID, &isnull)));
}

/* Each may be one of those that leave no room for another; returns its number. */
static uint32
add_limited_click(Tail *tail, const BucketKey *key, const FactClick *fact, uint32 place, bool asked)
{
	if (tail->nplaces == tail->places_room)
	{
		tail->places_room *= 2;
		tail->places = repalloc_huge(tail->places, sizeof(uint32) * tail->places_room);
	}
	tail->places[tail->nplaces] = place;
	limits_add(tail->judge, key, fact, asked);
	return (uint32) tail->nplaces++;
}

static void
add_click(Tail *tail, TupleTableSlot *slot)
{
	Click		click;
	FactClick	fact;
	uint32		row = NOT_ASKED_FOR;
	uint32		place;

	if (click_read(slot, tail->rules, rule_of(tail, slot), &click) != CLICK_VALID)
		return;
	if (is_asked_for(tail->conditions, slot, &click, &fact))
		row = add_candidate(tail, &fact, !click.has_key);
	else if (tail->judge)
		click_to_fact(slot, &click, &fact);
	place = click.has_key ? (uint32) tail->nkeys : row == NOT_ASKED_FOR ? row : row | KEYLESS;
	if (tail->judge)
		place = add_limited_click(tail, click.has_key ? &click.key : NULL, &fact, place, row != NOT_ASKED_FOR);
	if (place != NOT_ASKED_FOR)
		seen_note_former(&tail->former, slot, &click, tail->rules, place, tail->nkeys);
	if (!click.has_key)
		return;
	add_key(tail, &click.key, row);
	tail->nasked += row != NOT_ASKED_FOR;
}

/* The candidate of a click, or NOT_ASKED_FOR. */
static uint32
candidate_at(const Tail *tail, uint32 place)
{
	if (place == NOT_ASKED_FOR)
		return NOT_ASKED_FOR;
	return place & KEYLESS ? place & ~KEYLESS : tail->keys[place].row;
}

/* A click has been judged: its key is no first copy, and if it is asked for this is its count. */
static void
set_count(Tail *tail, uint32 place, bool counts)
{
	uint32		candidate = candidate_at(tail, place);

	if (candidate != NOT_ASKED_FOR)
		tail->candidates.count[candidate] = counts;
	if (place & KEYLESS)
		return;
	tail->keys[place].verdict = SEEN_DUPLICATE;
	tail->keys[place].row = NOT_ASKED_FOR;
}

/* Take over which clicks are duplicates by other rules. */
static void
follow_former(Tail *tail)
{
	for (size_t i = 0; i < tail->former.n; i++)
	{
		uint32		row = tail->former.clicks[i].click.row;

		if (tail->former.clicks[i].click.verdict != SEEN_DUPLICATE)
			continue;
		if (tail->judge)
			limits_leave_out(tail->judge, row);
		set_count(tail, tail->judge ? tail->places[row] : row, false);
	}
}

/* Hand over the ids by which clicks may be copies. */
static void
limit_ids(Tail *tail)
{
	for (size_t i = 0; i < tail->former.n; i++)
		if (seen_may_be_beside(&tail->former.clicks[i], tail->rules))
			limits_add_id(tail->judge, tail->former.clicks[i].click.row, &tail->former.clicks[i].click.key);
}

/* What was counted by another rule is a duplicate, and no first copy of its key by its own. */
static void
judge_former(Tail *tail, const StoreState *state)
{
	seen_judge_former(&tail->former, state, false);
	follow_former(tail);
	if (tail->judge)
		limit_ids(tail);
	else
	{
		seen_judge_beside(&tail->former, tail->keys, tail->nkeys, tail->rules);
		follow_former(tail);
	}
}

/* Judge the clicks of users and addresses that may be at their limits. */
static void
judge_limited(Tail *tail)
{
	ClickVerdict verdict;

	limits_ask(tail->judge);
	for (size_t i = 0; i < tail->nplaces; i++)
		if (limits_judged(tail->judge, i, &verdict))
			set_count(tail, tail->places[i], verdict == CLICK_VALID);
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

	if (tail->former.n > 0)
		judge_former(tail, state);
	if (tail->judge)
		judge_limited(tail);
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
		.conditions = conditions, .roles = roles, .rules = &state->rules, .keys_room = 1024
	};
	InboxReader *reader;
	TupleTableSlot *slot;

	facts_init(&tail.candidates, nroles, FIRST_ROOM, palloc(facts_memory(nroles, FIRST_ROOM)));
	tail.keys = palloc(sizeof(SeenClick) * tail.keys_room);
	tail.overrides = store_overrides_begin(&state->rules);
	if (clicks_are_limited(&state->rules))
	{
		tail.judge = limits_begin(state);
		tail.places_room = 1024;
		tail.places = palloc(sizeof(uint32) * tail.places_room);
	}
	filters_refresh();
	reader = inbox_begin(GetActiveSnapshot(), state->tick, INBOX_TO_ASK);
	while ((slot = inbox_next(reader)) != NULL)
		add_click(&tail, slot);
	inbox_end(reader);
	store_overrides_end(tail.overrides);
	judge_candidates(&tail, state);
	pfree(tail.keys);
	if (tail.former.clicks)
		pfree(tail.former.clicks);
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
