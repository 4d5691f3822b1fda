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

/* Clicks lie in chunks: a tail tells only at its end how long it is. */
#define CHUNK_CLICKS 1024

/* Of a click that has no key, or whose user or address is not watched. */
#define NONE PG_UINT32_MAX

/* The "row" of a key by which one of the clicks counts. */
#define COUNTED 1

typedef struct LimitedClick
{
	BucketKey	key;
	int64		minute;
	int64		user_id;
	uint64		ip_high;
	uint64		ip_low;
	uint8		ip_family;
	uint8		verdict;		/* if it is judged */
	bool		has_key;
	bool		has_user;
	bool		asked;			/* or perhaps a copy of one that is */
	bool		left_out;
	bool		watched;		/* its user or address is */
	bool		judged;
} LimitedClick;

/* The id of a click whose own key is another. */
typedef struct IdBeside
{
	size_t		click;
	BucketKey	id;
} IdBeside;

/* A watched click, by the numbers of what it is judged by. */
typedef struct WatchedClick
{
	size_t		click;
	uint32		key;
	uint32		id;				/* of a key, too */
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
	LimitedClick **chunks;
	size_t		nids;
	size_t		ids_room;
	IdBeside   *ids;
	bool		all_watched;	/* some click has such an id in common with another one's key */
	Clickers   *clickers;		/* of each */
	watch_hash *watch;
	size_t		nwatched;
	WatchedClick *watched;
	size_t		nkeys;
	SeenClick  *keys;			/* different ones, of the watched clicks */
	keyed_hash *key_numbers;
	uint32	   *key_of;			/* of each click that is watched, or a copy of such a one: the number of its key */
	size_t		nexact;
	Clicker    *exact;			/* different ones, that are watched */
	keyed_hash *exact_numbers;
};

LimitsJudge *
limits_begin(const StoreState *state)
{
	LimitsJudge *judge = palloc0(sizeof(LimitsJudge));

	judge->state = state;
	judge->watch = watch_create(CurrentMemoryContext, 64, NULL);
	return judge;
}

static inline LimitedClick *
click_at(const LimitsJudge *judge, size_t i)
{
	return &judge->chunks[i / CHUNK_CLICKS][i % CHUNK_CLICKS];
}

static void
add_chunk(LimitsJudge *judge)
{
	size_t		n = judge->room / CHUNK_CLICKS;
	LimitedClick *chunk = palloc(sizeof(LimitedClick) * CHUNK_CLICKS);

	judge->chunks = n == 0 ? palloc(sizeof(chunk)) : repalloc_huge(judge->chunks, sizeof(chunk) * (n + 1));
	judge->chunks[n] = chunk;
	judge->room += CHUNK_CLICKS;
}

void
limits_add(LimitsJudge *judge, const BucketKey *key, const FactClick *fact, bool asked)
{
	if (judge->nclicks == judge->room)
		add_chunk(judge);
	*click_at(judge, judge->nclicks++) = (LimitedClick) {
		.key = key ? *key : (BucketKey) {{0, 0}, 0},
		.minute = fact->minute,
		.user_id = fact->user_id,
		.ip_high = fact->ip.high,
		.ip_low = fact->ip.low,
		.ip_family = fact->ip.family,
		.has_key = key != NULL,
		.has_user = fact->has_user,
		.asked = asked
	};
}

void
limits_add_id(LimitsJudge *judge, size_t click, const BucketKey *id)
{
	if (judge->nids == judge->ids_room)
	{
		judge->ids_room = Max(256, 2 * judge->ids_room);
		judge->ids = judge->ids ? repalloc_huge(judge->ids, sizeof(IdBeside) * judge->ids_room) :
			palloc(sizeof(IdBeside) * judge->ids_room);
	}
	judge->ids[judge->nids++] = (IdBeside) {click, *id};
}

void
limits_leave_out(LimitsJudge *judge, size_t click)
{
	click_at(judge, click)->left_out = true;
}

bool
limits_judged(const LimitsJudge *judge, size_t click, ClickVerdict *verdict)
{
	*verdict = click_at(judge, click)->verdict;
	return click_at(judge, click)->judged;
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

static inline IpAddress
ip_of(const LimitedClick *click)
{
	return (IpAddress) {click->ip_high, click->ip_low, click->ip_family};
}

static void
set_clickers(const LimitsJudge *judge, const LimitedClick *click, Clickers *clickers)
{
	if (click->left_out)
		memset(clickers, 0, sizeof(Clickers));
	else
	{
		IpAddress	ip = ip_of(click);

		clickers_of(clickers, click->minute, click->has_user ? &click->user_id : NULL, &ip, &judge->state->rules);
	}
}

static void
set_all_clickers(LimitsJudge *judge)
{
	judge->clickers = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clickers) * judge->nclicks);
	for (size_t i = 0; i < judge->nclicks; i++)
		set_clickers(judge, click_at(judge, i), &judge->clickers[i]);
}

static inline bool
is_unproved(const LimitsJudge *judge, const Clickers *clickers, ClickerKind kind)
{
	return clickers->hash[kind] != 0 && clickers->bound[kind] > limit_of(judge, kind);
}

/* Watch whom the bounds do not prove to be within the limits. */
static void
watch_unproved(LimitsJudge *judge)
{
	bool		found;

	for (size_t i = 0; i < judge->nclicks; i++)
		for (ClickerKind kind = 0; kind < CLICKER_KINDS; kind++)
			if (is_unproved(judge, &judge->clickers[i], kind))
				watch_insert(judge->watch, judge->clickers[i].hash[kind], &found);
}

/*
 * Where a click can be a copy by an id of one that is counted beside it, what becomes of it is known only after
 * that one, and to find who else waits for it in turn is more than to judge all.
 */
static void
watch_ids(LimitsJudge *judge)
{
	keyed_hash *ids;
	bool		found;

	if (judge->nids == 0)
		return;
	ids = keyed_create(CurrentMemoryContext, judge->nids, NULL);
	for (size_t i = 0; i < judge->nids; i++)
		keyed_insert(ids, judge->ids[i].id, &found);
	for (size_t i = 0; i < judge->nclicks && !judge->all_watched; i++)
	{
		const LimitedClick *click = click_at(judge, i);

		CHECK_FOR_INTERRUPTS();
		judge->all_watched = click->has_key && !click->left_out && keyed_lookup(ids, click->key) != NULL;
	}
	keyed_destroy(ids);
}

/* The user or the address itself, and not its hash. */
static BucketKey
identity_of(const LimitedClick *click, ClickerKind kind)
{
	if (kind == CLICKER_USER)
		return (BucketKey) {{(uint64) click->user_id, 0}, click->minute * 8};
	return (BucketKey) {{click->ip_high, click->ip_low}, click->minute * 8 + click->ip_family};
}

static uint32
number_of_clicker(LimitsJudge *judge, size_t i, ClickerKind kind)
{
	const LimitedClick *click = click_at(judge, i);
	bool		found;
	Keyed	   *keyed;

	if (!is_watched(judge, i, kind))
		return NONE;
	keyed = keyed_insert(judge->exact_numbers, identity_of(click, kind), &found);
	if (!found)
	{
		judge->exact[judge->nexact] = (Clicker) {
			.order = kind == CLICKER_USER ? ORDER_USER : ORDER_IP, .user_id = click->user_id, .ip = ip_of(click),
			.minute = click->minute
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
		click_at(judge, i)->watched = judge->all_watched || is_watched(judge, i, CLICKER_USER) ||
			is_watched(judge, i, CLICKER_ADDRESS);
		n += click_at(judge, i)->watched;
	}
	judge->keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SeenClick) * n);
	judge->key_numbers = keyed_create(CurrentMemoryContext, n, NULL);
	judge->key_of = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint32) * judge->nclicks);
	for (size_t i = 0; i < judge->nclicks; i++)
	{
		LimitedClick *click = click_at(judge, i);
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
		judge->key_of[i] = (uint32) keyed->number;
	}
	return n;
}

/* Whether its key is one of a watched user or address. */
static bool
is_copy(LimitsJudge *judge, size_t i)
{
	const LimitedClick *click = click_at(judge, i);
	Keyed	   *keyed = click->has_key ? keyed_lookup(judge->key_numbers, click->key) : NULL;

	if (keyed)
		judge->key_of[i] = (uint32) keyed->number;
	return keyed != NULL;
}

/* The number of the key that is the click's id, though its own one is another; "next" goes along. */
static uint32
number_of_id(const LimitsJudge *judge, size_t click, size_t *next)
{
	Keyed	   *keyed;

	while (*next < judge->nids && judge->ids[*next].click < click)
		(*next)++;
	if (*next == judge->nids || judge->ids[*next].click != click)
		return NONE;
	keyed = keyed_lookup(judge->key_numbers, judge->ids[*next].id);
	return keyed ? (uint32) keyed->number : NONE;
}

/* Make a list of the watched clicks, in order. */
static void
list_watched(LimitsJudge *judge)
{
	size_t		n = number_keys(judge);
	size_t		next_id = 0;

	judge->watched = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(WatchedClick) * judge->nclicks);
	judge->exact = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clicker) * n * CLICKER_KINDS);
	judge->exact_numbers = keyed_create(CurrentMemoryContext, judge->watch->members, NULL);
	for (size_t i = 0; i < judge->nclicks; i++)
	{
		LimitedClick *click = click_at(judge, i);

		CHECK_FOR_INTERRUPTS();
		if (click->left_out || !(click->watched || is_copy(judge, i)))
			continue;
		judge->watched[judge->nwatched++] = (WatchedClick) {
			i, click->has_key ? judge->key_of[i] : NONE, number_of_id(judge, i, &next_id),
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
	if (click->id != NONE && judge->keys[click->id].row == COUNTED)
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
		LimitedClick *click = click_at(judge, judge->watched[i].click);

		CHECK_FOR_INTERRUPTS();
		click->verdict = judge_click(judge, &judge->watched[i]);
		click->judged = true;
	}
}

void
limits_tick(LimitsJudge *judge)
{
	size_t		n = 0;

	set_all_clickers(judge);
	clickers_add(judge->clickers, judge->nclicks);
	watch_unproved(judge);
	watch_ids(judge);
	if (judge->watch->members == 0 && !judge->all_watched)
		return;
	list_watched(judge);
	judge_watched(judge, true);
	for (size_t i = 0; i < judge->nkeys; i++)
		if (judge->keys[i].row == COUNTED)
			judge->keys[n++] = judge->keys[i];
	seen_remember(judge->keys, n, judge->state->tick);
}

/*----------
 * Questions
 *----------
 */

/* Set the bounds of clicks in a question: of what is counted, and of those before each in the question itself. */
static void
ask_bounds(const LimitsJudge *judge, Clickers *clickers, size_t n)
{
	size_t		bytes = sizeof(BoundsLine) * (n / 2 + 64);
	Bounds		own = bounds_of(MemoryContextAllocExtended(CurrentMemoryContext, bytes, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO), bytes);

	clickers_ask(clickers, n, judge->state);
	for (size_t i = 0; i < n; i++)
		for (ClickerKind kind = 0; kind < CLICKER_KINDS; kind++)
		{
			uint64		bound = clickers[i].bound[kind];

			if (clickers[i].hash[kind] == 0)
				continue;
			bound += bounds_add(&own, clickers[i].hash[kind], clickers[i].minute);
			clickers[i].bound[kind] = (uint32) Min(bound, BOUND_UNKNOWN);
		}
	pfree(own.lines);
}

/* A set of values that may have some that it has not. */
typedef struct Bloom
{
	uint64		bits[64];
} Bloom;

static inline int
bloom_bit(uint64 value)
{
	return (value * UINT64CONST(0x9E3779B97F4A7C15)) >> 52;
}

static inline void
bloom_add(Bloom *bloom, uint64 value)
{
	bloom->bits[bloom_bit(value) / 64] |= UINT64CONST(1) << (bloom_bit(value) % 64);
}

static inline bool
bloom_has(const Bloom *bloom, uint64 value)
{
	return bloom->bits[bloom_bit(value) / 64] >> (bloom_bit(value) % 64) & 1;
}

static inline uint64
key_value(const LimitedClick *click)
{
	return click->key.key.hi ^ click->key.key.lo;
}

/* A click without a user stands for user 0, and so on: then there are some more to be looked at. */
static inline uint64
user_value(const LimitedClick *click)
{
	return (uint64) click->user_id + (uint64) click->minute * 31;
}

static inline uint64
address_value(const LimitedClick *click)
{
	return (click->ip_high ^ click->ip_low) + (uint64) click->minute * 31;
}

/* Ask for what may be a copy of a click that is asked for. */
static void
ask_for_copies(LimitsJudge *judge)
{
	Bloom		keys = {0};

	for (size_t i = 0; i < judge->nclicks; i++)
		if (click_at(judge, i)->asked && click_at(judge, i)->has_key)
			bloom_add(&keys, key_value(click_at(judge, i)));
	for (size_t i = 0; i < judge->nclicks; i++)
		click_at(judge, i)->asked |= click_at(judge, i)->has_key && bloom_has(&keys, key_value(click_at(judge, i)));
}

/* The clicks that may have a user or an address in common with those asked for. */
static size_t *
pick_related(const LimitsJudge *judge, size_t *n)
{
	size_t	   *picked = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(size_t) * judge->nclicks);
	Bloom		users = {0};
	Bloom		addresses = {0};

	*n = 0;
	for (size_t i = 0; i < judge->nclicks; i++)
		if (click_at(judge, i)->asked)
		{
			bloom_add(&users, user_value(click_at(judge, i)));
			bloom_add(&addresses, address_value(click_at(judge, i)));
		}
	for (size_t i = 0; i < judge->nclicks; i++)
		if (bloom_has(&users, user_value(click_at(judge, i))) || bloom_has(&addresses, address_value(click_at(judge, i))))
			picked[(*n)++] = i;
	return picked;
}

/*
 * Whether all that is asked for is within the limits: most questions ask for few of the clicks, and look
 * at few others for that.
 */
static bool
asked_are_within(LimitsJudge *judge)
{
	size_t		n;
	size_t	   *picked;
	Clickers   *clickers;
	bool		within = true;

	ask_for_copies(judge);
	picked = pick_related(judge, &n);
	clickers = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Clickers) * n);
	for (size_t i = 0; i < n; i++)
		set_clickers(judge, click_at(judge, picked[i]), &clickers[i]);
	ask_bounds(judge, clickers, n);
	for (size_t i = 0; i < n && within; i++)
		within = !click_at(judge, picked[i])->asked ||
			(!is_unproved(judge, &clickers[i], CLICKER_USER) && !is_unproved(judge, &clickers[i], CLICKER_ADDRESS));
	pfree(clickers);
	pfree(picked);
	return within;
}

void
limits_ask(LimitsJudge *judge)
{
	seen_prepare_question();
	watch_ids(judge);
	if (!judge->all_watched && asked_are_within(judge))
		return;
	set_all_clickers(judge);
	ask_bounds(judge, judge->clickers, judge->nclicks);
	watch_unproved(judge);
	if (judge->watch->members == 0 && !judge->all_watched)
		return;
	list_watched(judge);
	judge_watched(judge, false);
}
