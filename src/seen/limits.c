/*-------------------------------------------------------------------------
 *
 * limits.c
 *	  Judging clicks where users and addresses are limited.
 *
 * See limits.h.  A user or an address in a minute is watched if a bound does not prove it to be within
 * its limit; a click, if one of the two is, or if it is a copy of such a click.  So no other click has
 * a key, or a user or address that is watched, in common with a watched one.
 *
 * What was counted before is asked for once for each key and each clicker; then the
 * watched clicks are gone through.
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
#include "counts.h"
#include "keyed.h"
#include "keys.h"
#include "limits.h"
#include "seen.h"

#define FIRST_ROOM 1024

/* Of a click that has no key, or whose user or address is not watched. */
#define NONE PG_UINT32_MAX

/* The "row" of a key by which one of the clicks counts. */
#define COUNTED 1

typedef struct LimitedClick
{
	BucketKey	key;
	bool		has_key;
	bool		left_out;
	bool		watched;		/* its user or address is */
	bool		judged;
	ClickVerdict verdict;		/* if it is */
	uint32		key_number;		/* if it is watched, or a copy of such a click */
	int64		user_id;
	IpAddress	ip;
} LimitedClick;

/* A watched click, by the numbers of what it is judged by. */
typedef struct WatchedClick
{
	size_t		click;
	uint32		key;
	uint32		clickers[CLICKER_KINDS];
} WatchedClick;

/* Hashes of users and addresses in a minute that are watched. */
typedef struct Watched
{
	uint64		hash;
	char		status;
} Watched;

#define SH_PREFIX watch
#define SH_ELEMENT_TYPE Watched
#define SH_KEY_TYPE uint64
#define SH_KEY hash
#define SH_HASH_KEY(tb, k) ((uint32) ((k) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct LimitsJudge
{
	const StoreState *state;
	size_t		nclicks;
	size_t		room;
	LimitedClick *clicks;
	Clickers   *clickers;		/* of each */
	watch_hash *watch;
	size_t		nwatched;
	WatchedClick *watched;
	size_t		nkeys;
	SeenClick  *keys;			/* different ones, of the watched clicks */
	keyed_hash *key_numbers;
	size_t		nexact;
	Clicker    *exact;			/* different ones, that are watched */
	keyed_hash *exact_numbers;
};

LimitsJudge *
limits_begin(const StoreState *state, size_t nclicks)
{
	LimitsJudge *judge = palloc0(sizeof(LimitsJudge));

	judge->state = state;
	judge->room = Max(nclicks, FIRST_ROOM);
	judge->clicks = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(LimitedClick) * judge->room);
	judge->clickers = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clickers) * judge->room);
	judge->watch = watch_create(CurrentMemoryContext, 64, NULL);
	return judge;
}

void
limits_add(LimitsJudge *judge, const BucketKey *key, const FactClick *fact)
{
	LimitedClick *click;

	if (judge->nclicks == judge->room)
	{
		judge->room *= 2;
		judge->clicks = repalloc_huge(judge->clicks, sizeof(LimitedClick) * judge->room);
		judge->clickers = repalloc_huge(judge->clickers, sizeof(Clickers) * judge->room);
	}
	click = &judge->clicks[judge->nclicks];
	click->has_key = key != NULL;
	if (key)
		click->key = *key;
	click->left_out = click->watched = click->judged = false;
	click->key_number = NONE;
	click->user_id = fact->user_id;
	click->ip = fact->ip;
	clickers_of(&judge->clickers[judge->nclicks++], fact, &judge->state->rules);
}

void
limits_leave_out(LimitsJudge *judge, size_t click)
{
	judge->clicks[click].left_out = true;
	memset(judge->clickers[click].hash, 0, sizeof(judge->clickers[click].hash));
}

bool
limits_judged(const LimitsJudge *judge, size_t click, ClickVerdict *verdict)
{
	*verdict = judge->clicks[click].verdict;
	return judge->clicks[click].judged;
}

/*----------
 * Which clicks are watched
 *----------
 */

static inline uint32
limit_of(const LimitsJudge *judge, ClickerKind kind)
{
	return kind == CLICKER_USER ? judge->state->rules.user_limit : judge->state->rules.ip_limit;
}

static inline bool
is_watched(const LimitsJudge *judge, size_t click, ClickerKind kind)
{
	uint64		hash = judge->clickers[click].hash[kind];

	return hash != 0 && judge->watch->members > 0 && watch_lookup(judge->watch, hash) != NULL;
}

/* Watch whom the bounds do not prove to be within the limits. */
static void
watch_unproved(LimitsJudge *judge)
{
	bool		found;

	for (size_t i = 0; i < judge->nclicks; i++)
		for (ClickerKind kind = 0; kind < CLICKER_KINDS; kind++)
			if (judge->clickers[i].bound[kind] > limit_of(judge, kind) && judge->clickers[i].hash[kind] != 0)
				watch_insert(judge->watch, judge->clickers[i].hash[kind], &found);
}

/* The user or the address itself, and not its hash. */
static BucketKey
identity_of(const LimitedClick *click, ClickerKind kind, int64 minute)
{
	if (kind == CLICKER_USER)
		return (BucketKey) {{(uint64) click->user_id, 0}, minute * 8};
	return (BucketKey) {{click->ip.high, click->ip.low}, minute * 8 + click->ip.family};
}

static uint32
number_of_clicker(LimitsJudge *judge, size_t i, ClickerKind kind)
{
	const LimitedClick *click = &judge->clicks[i];
	int64		minute = judge->clickers[i].minute;
	bool		found;
	Keyed	   *keyed;

	if (!is_watched(judge, i, kind))
		return NONE;
	keyed = keyed_insert(judge->exact_numbers, identity_of(click, kind, minute), &found);
	if (!found)
	{
		judge->exact[judge->nexact] = (Clicker) {
			.order = kind == CLICKER_USER ? ORDER_USER : ORDER_IP, .user_id = click->user_id, .ip = click->ip,
			.minute = minute
		};
		keyed->number = judge->nexact++;
	}
	return (uint32) keyed->number;
}

/* Number the keys of clicks whose user or address is watched; returns how many such clicks there are. */
static size_t
number_keys(LimitsJudge *judge)
{
	size_t		n = 0;

	for (size_t i = 0; i < judge->nclicks; i++)
	{
		judge->clicks[i].watched = is_watched(judge, i, CLICKER_USER) || is_watched(judge, i, CLICKER_ADDRESS);
		n += judge->clicks[i].watched;
	}
	judge->keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SeenClick) * n);
	judge->key_numbers = keyed_create(CurrentMemoryContext, n, NULL);
	for (size_t i = 0; i < judge->nclicks; i++)
	{
		LimitedClick *click = &judge->clicks[i];
		bool		found;
		Keyed	   *keyed;

		if (!click->watched || !click->has_key)
			continue;
		keyed = keyed_insert(judge->key_numbers, click->key, &found);
		if (!found)
		{
			keyed->number = judge->nkeys;
			judge->keys[judge->nkeys++] = (SeenClick) {click->key};
		}
		click->key_number = (uint32) keyed->number;
	}
	return n;
}

/* The number of its key, if that is one of a watched user or address. */
static bool
is_copy(const LimitsJudge *judge, LimitedClick *click)
{
	Keyed	   *keyed = click->has_key ? keyed_lookup(judge->key_numbers, click->key) : NULL;

	if (keyed)
		click->key_number = (uint32) keyed->number;
	return keyed != NULL;
}

/* Make a list of the watched clicks, in order. */
static void
list_watched(LimitsJudge *judge)
{
	size_t		n = number_keys(judge);

	judge->watched = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(WatchedClick) * judge->nclicks);
	judge->exact = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clicker) * n * CLICKER_KINDS);
	judge->exact_numbers = keyed_create(CurrentMemoryContext, judge->watch->members, NULL);
	for (size_t i = 0; i < judge->nclicks; i++)
	{
		LimitedClick *click = &judge->clicks[i];

		CHECK_FOR_INTERRUPTS();
		if (click->left_out || !(click->watched || is_copy(judge, click)))
			continue;
		judge->watched[judge->nwatched++] = (WatchedClick) {
			i, click->key_number,
			{number_of_clicker(judge, i, CLICKER_USER), number_of_clicker(judge, i, CLICKER_ADDRESS)}
		};
	}
}

/*----------
 * Judging them
 *----------
 */

/*
 * Minutes with gaps limit nobody, nor do those that orders user and ip have dropped:
 * what is counted of a user there cannot be told.
 */
static void
free_unlimited(LimitsJudge *judge)
{
	int64	   *minutes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (judge->nexact + 1));
	int			nminutes = 0;
	int			ngaps;
	int64	   *gaps;

	for (size_t i = 0; i < judge->nexact; i++)
		if (nminutes == 0 || minutes[nminutes - 1] != judge->exact[i].minute)
			minutes[nminutes++] = judge->exact[i].minute;
	nminutes = sort_unique_int64(minutes, nminutes);
	gaps = store_get_gaps_of(minutes, nminutes, &ngaps);
	for (size_t i = 0; i < judge->nexact; i++)
	{
		int64		minute = judge->exact[i].minute;

		if (minute <= judge->state->people_dropped_until ||
			(ngaps > 0 && bsearch(&minute, gaps, ngaps, sizeof(int64), compare_int64) != NULL))
			judge->exact[i].state = COUNT_UNLIMITED;
	}
	pfree(minutes);
	pfree(gaps);
}

static void
find_counts(LimitsJudge *judge, FactOrder order, bool may_stay_undecided)
{
	Clicker   **asked = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clicker *) * (judge->nexact + 1));
	size_t		n = 0;

	for (size_t i = 0; i < judge->nexact; i++)
		if (judge->exact[i].state == COUNT_UNKNOWN && judge->exact[i].order == order)
			asked[n++] = &judge->exact[i];
	counts_find(order, asked, n, &judge->state->rules, may_stay_undecided);
	pfree(asked);
}

/* The clicker, NULL for none. */
static inline Clicker *
clicker_at(const LimitsJudge *judge, uint32 number)
{
	return number == NONE ? NULL : &judge->exact[number];
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
judge_click(LimitsJudge *judge, const WatchedClick *click)
{
	SeenClick  *key = click->key == NONE ? NULL : &judge->keys[click->key];
	Clicker    *user = clicker_at(judge, click->clickers[CLICKER_USER]);
	Clicker    *address = clicker_at(judge, click->clickers[CLICKER_ADDRESS]);

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
	if (user)
		user->added++;
	if (address)
		address->added++;
	return CLICK_VALID;
}

static void
judge_watched(LimitsJudge *judge, bool may_stay_undecided)
{
	seen_judge_before(judge->keys, judge->nkeys, judge->state, may_stay_undecided);
	free_unlimited(judge);
	find_counts(judge, ORDER_USER, may_stay_undecided);
	find_counts(judge, ORDER_IP, may_stay_undecided);
	for (size_t i = 0; i < judge->nwatched; i++)
	{
		LimitedClick *click = &judge->clicks[judge->watched[i].click];

		CHECK_FOR_INTERRUPTS();
		click->verdict = judge_click(judge, &judge->watched[i]);
		click->judged = true;
	}
}

void
limits_tick(LimitsJudge *judge)
{
	size_t		n = 0;

	clickers_add(judge->clickers, judge->nclicks);
	watch_unproved(judge);
	if (judge->watch->members == 0)
		return;
	list_watched(judge);
	judge_watched(judge, true);
	for (size_t i = 0; i < judge->nkeys; i++)
		if (judge->keys[i].row == COUNTED)
			judge->keys[n++] = judge->keys[i];
	seen_remember(judge->keys, n, judge->state->tick);
}

/* To what is counted, add what comes before each in the question itself. */
static void
add_own(LimitsJudge *judge)
{
	size_t		bytes = sizeof(BoundsLine) * (judge->nclicks / 2 + 64);
	Bounds		own = bounds_of(MemoryContextAllocExtended(CurrentMemoryContext, bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO), bytes);

	for (size_t i = 0; i < judge->nclicks; i++)
		for (ClickerKind kind = 0; kind < CLICKER_KINDS; kind++)
		{
			Clickers   *clickers = &judge->clickers[i];
			uint64		bound = clickers->bound[kind];

			if (clickers->hash[kind] == 0)
				continue;
			bound += bounds_add(&own, clickers->hash[kind], clickers->minute);
			clickers->bound[kind] = (uint32) Min(bound, BOUND_UNKNOWN);
		}
	pfree(own.lines);
}

void
limits_ask(LimitsJudge *judge)
{
	clickers_ask(judge->clickers, judge->nclicks, judge->state);
	add_own(judge);
	watch_unproved(judge);
	if (judge->watch->members == 0)
		return;
	seen_prepare_question();
	list_watched(judge);
	judge_watched(judge, false);
}
