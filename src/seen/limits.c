/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  Judging clicks one after the other where users and addresses are limited.
 *
 * See limits.h.  What was counted before is asked for at once, for each key and each
 * clicker one time; then the clicks are gone through.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "clickers.h"
#include "keyed.h"
#include "keys.h"
#include "limits.h"
#include "seen.h"

#define FIRST_ROOM 1024

/* Of a click that has no key, no user or no address. */
#define NONE PG_UINT32_MAX

/* The "row" of a key by which one of the clicks counts. */
#define COUNTED 1

/* A click, by the numbers of what it is judged by. */
typedef struct LimitedClick
{
	uint32		key;
	uint32		user;
	uint32		address;
	ClickVerdict verdict;
} LimitedClick;

struct LimitsJudge
{
	const StoreState *state;
	size_t		nclicks;
	size_t		clicks_room;
	LimitedClick *clicks;
	size_t		nkeys;
	size_t		keys_room;
	SeenClick  *keys;			/* different ones */
	keyed_hash *key_numbers;
	size_t		nclickers;
	size_t		clickers_room;
	Clicker    *clickers;
	keyed_hash *clicker_numbers;
};

LimitsJudge *
limits_begin(const StoreState *state, int nclicks)
{
	LimitsJudge *judge = palloc0(sizeof(LimitsJudge));
	int			room = Max(nclicks, FIRST_ROOM);

	judge->state = state;
	judge->clicks_room = judge->keys_room = judge->clickers_room = room;
	judge->clicks = palloc(sizeof(LimitedClick) * room);
	judge->keys = palloc(sizeof(SeenClick) * room);
	judge->clickers = palloc(sizeof(Clicker) * room);
	judge->key_numbers = keyed_create(CurrentMemoryContext, room, NULL);
	judge->clicker_numbers = keyed_create(CurrentMemoryContext, room, NULL);
	return judge;
}

/* Room for one more. */
static void *
make_room(void *values, size_t n, size_t *room, size_t size)
{
	if (n < *room)
		return values;
	*room *= 2;
	return repalloc_huge(values, size * *room);
}

static uint32
number_of_key(LimitsJudge *judge, const BucketKey *key)
{
	bool		found;
	Keyed	   *keyed;

	if (key == NULL)
		return NONE;
	keyed = keyed_insert(judge->key_numbers, *key, &found);
	if (!found)
	{
		judge->keys = make_room(judge->keys, judge->nkeys, &judge->keys_room, sizeof(SeenClick));
		judge->keys[judge->nkeys] = (SeenClick) {*key};
		keyed->number = judge->nkeys++;
	}
	return (uint32) keyed->number;
}

static uint32
number_of_clicker(LimitsJudge *judge, const Clicker *clicker)
{
	bool		found;
	Keyed	   *keyed = keyed_insert(judge->clicker_numbers, clicker->hash, &found);

	if (!found)
	{
		judge->clickers = make_room(judge->clickers, judge->nclickers, &judge->clickers_room, sizeof(Clicker));
		judge->clickers[judge->nclickers] = *clicker;
		keyed->number = judge->nclickers++;
	}
	return (uint32) keyed->number;
}

static uint32
number_of_user(LimitsJudge *judge, const FactClick *fact)
{
	Clicker		clicker;

	if (!fact->has_user || judge->state->rules.user_limit == 0)
		return NONE;
	clicker_of_user(&clicker, fact->user_id, fact->minute);
	return number_of_clicker(judge, &clicker);
}

static uint32
number_of_address(LimitsJudge *judge, const FactClick *fact)
{
	Clicker		clicker;

	if (fact->ip.family == 0 || judge->state->rules.ip_limit == 0)
		return NONE;
	clicker_of_address(&clicker, &fact->ip, fact->minute);
	return number_of_clicker(judge, &clicker);
}

void
limits_add(LimitsJudge *judge, const BucketKey *key, const FactClick *fact)
{
	judge->clicks = make_room(judge->clicks, judge->nclicks, &judge->clicks_room, sizeof(LimitedClick));
	judge->clicks[judge->nclicks++] = (LimitedClick) {
		number_of_key(judge, key), number_of_user(judge, fact), number_of_address(judge, fact), CLICK_VALID
	};
}

void
limits_set(LimitsJudge *judge, size_t click, ClickVerdict verdict)
{
	judge->clicks[click].verdict = verdict;
}

ClickVerdict
limits_verdict(const LimitsJudge *judge, size_t click)
{
	return judge->clicks[click].verdict;
}

/*
 * Minutes with gaps limit nobody, nor do those that orders user and ip have dropped:
 * what is counted of a user there cannot be told.
 */
static void
free_unlimited(LimitsJudge *judge)
{
	int64	   *minutes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (judge->nclickers + 1));
	int			nminutes = 0;
	int			ngaps;
	int64	   *gaps;

	for (size_t i = 0; i < judge->nclickers; i++)
		if (nminutes == 0 || minutes[nminutes - 1] != clicker_minute(&judge->clickers[i]))
			minutes[nminutes++] = clicker_minute(&judge->clickers[i]);
	nminutes = sort_unique_int64(minutes, nminutes);
	gaps = store_get_gaps_of(minutes, nminutes, &ngaps);
	for (size_t i = 0; i < judge->nclickers; i++)
	{
		int64		minute = clicker_minute(&judge->clickers[i]);

		if (minute <= judge->state->people_dropped_until ||
			(ngaps > 0 && bsearch(&minute, gaps, ngaps, sizeof(int64), compare_int64) != NULL))
			judge->clickers[i].state = COUNT_UNLIMITED;
	}
	pfree(minutes);
	pfree(gaps);
}

/* Ask the store for what memory could not tell. */
static void
find_unknown(LimitsJudge *judge, FactOrder order, bool may_stay_undecided)
{
	Clicker   **unknown = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clicker *) * (judge->nclickers + 1));
	size_t		n = 0;

	for (size_t i = 0; i < judge->nclickers; i++)
		if (judge->clickers[i].state == COUNT_UNKNOWN && clicker_order(&judge->clickers[i]) == order)
			unknown[n++] = &judge->clickers[i];
	counts_find(order, unknown, n, &judge->state->rules, may_stay_undecided);
	pfree(unknown);
}

static void
count_before(LimitsJudge *judge, bool may_stay_undecided)
{
	if (judge->nclickers == 0)
		return;
	free_unlimited(judge);
	clickers_recall(judge->clickers, judge->nclickers, judge->state);
	find_unknown(judge, ORDER_USER, may_stay_undecided);
	find_unknown(judge, ORDER_IP, may_stay_undecided);
}

/* The clicker, NULL for none. */
static inline Clicker *
clicker_at(const LimitsJudge *judge, uint32 number)
{
	return number == NONE ? NULL : &judge->clickers[number];
}

static inline bool
is_full(const LimitsJudge *judge, const Clicker *clicker)
{
	return clicker && clicker->state == COUNT_KNOWN &&
		clicker->clicks + clicker->added >= clicker_limit(clicker, &judge->state->rules);
}

static inline bool
is_undecided(const Clicker *clicker)
{
	return clicker && clicker->state == COUNT_UNDECIDED;
}

static ClickVerdict
judge_click(LimitsJudge *judge, const LimitedClick *click)
{
	SeenClick  *key = click->key == NONE ? NULL : &judge->keys[click->key];
	Clicker    *user = clicker_at(judge, click->user);
	Clicker    *address = clicker_at(judge, click->address);

	if (key && (key->verdict == SEEN_DUPLICATE || key->row == COUNTED))
		return CLICK_DUPLICATE;
	if (key && key->verdict == SEEN_UNDECIDED)
		return CLICK_UNDECIDED;
	if (is_full(judge, user))
		return CLICK_USER_LIMIT;
	if (is_full(judge, address))
		return CLICK_ADDRESS_LIMIT;
	if (is_undecided(user) || is_undecided(address))
		return CLICK_UNDECIDED;
	if (key)
		key->row = COUNTED;
	if (user && user->state == COUNT_KNOWN)
		user->added++;
	if (address && address->state == COUNT_KNOWN)
		address->added++;
	return CLICK_VALID;
}

static void
judge_all(LimitsJudge *judge, bool may_stay_undecided)
{
	seen_judge_before(judge->keys, judge->nkeys, judge->state, may_stay_undecided);
	count_before(judge, may_stay_undecided);
	for (size_t i = 0; i < judge->nclicks; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (judge->clicks[i].verdict == CLICK_VALID)
			judge->clicks[i].verdict = judge_click(judge, &judge->clicks[i]);
	}
}

void
limits_ask(LimitsJudge *judge)
{
	seen_prepare_question();
	judge_all(judge, false);
}

void
limits_tick(LimitsJudge *judge)
{
	size_t		n = 0;

	judge_all(judge, true);
	for (size_t i = 0; i < judge->nkeys; i++)
		if (judge->keys[i].row == COUNTED)
			judge->keys[n++] = judge->keys[i];
	seen_remember(MyDatabaseId, judge->keys, n, judge->state->tick);
	clickers_remember(judge->clickers, judge->nclickers, judge->state->tick);
}
