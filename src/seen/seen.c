/*-------------------------------------------------------------------------
 *
 * seen.c
 *	  Dedup: judging clicks by the keys in shared memory, and by those stored.
 *
 * A tick numbers the keys it adds.  All numbers above that of the last committed
 * tick are of ticks that were rolled back, however many there were: the next one
 * forgets their keys.  A query takes a key for seen only if its snapshot sees the
 * tick of that number.
 *
 * A transaction that loads keys may have ticked itself, and be rolled back.  So keys
 * are loaded as others see them; those of its own ticks come on top, and bear the
 * number of the last one.  If that one is rolled back alone, to a savepoint, all are
 * loaded again.
 *
 * Memory has keys of two rules only: that in force, and the one of ads with an override,
 * which has the same windows.  Those of former rules, and of buckets that are not in
 * memory, are looked for among the stored ones.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/shmem.h"
#include "keyed.h"
#include "seen.h"

/* Clicks judged while the lock is held. */
#define LOCKED_CLICKS 1024

/* How far ahead keys are fetched into the cache. */
#define PREFETCH_DISTANCE 12

/* Buckets before that of the newest click that are loaded after a restart. */
#define BUCKETS_LOADED 2

/* Of the transaction: it has run a tick, and it has loaded keys after that. */
static bool ticked = false;
static bool loaded_after_tick = false;

/* Handles of the last buckets used; they are valid until a bucket is dropped. */
#define HANDLES 8

typedef struct Handles
{
	uint64		dropped;
	int64		bucket[HANDLES];
	DedupBucket handle[HANDLES];
} Handles;

static void
handles_reset(Handles *handles)
{
	handles->dropped = dedup_dropped(shmem_dedup);
	for (int i = 0; i < HANDLES; i++)
		handles->handle[i] = DEDUP_NO_BUCKET;
}

/*
 * The bucket's handle, or DEDUP_NO_BUCKET if memory has not all of its keys.
 * "make": begin one that has none yet.
 */
static DedupBucket
handle_of(Handles *handles, int64 bucket, bool make)
{
	int			i = (uint64) bucket % HANDLES;

	if (handles->dropped != dedup_dropped(shmem_dedup))
		handles_reset(handles);
	if (handles->handle[i] != DEDUP_NO_BUCKET && handles->bucket[i] == bucket)
		return handles->handle[i];

	handles->bucket[i] = bucket;
	handles->handle[i] = dedup_find(shmem_dedup, MyDatabaseId, bucket);
	if (make && (handles->handle[i] != DEDUP_NO_BUCKET ||
				 bucket > dedup_floor(shmem_dedup, MyDatabaseId)))
		handles->handle[i] = dedup_open(shmem_dedup, MyDatabaseId, bucket);
	if (handles->dropped != dedup_dropped(shmem_dedup))
	{
		DedupBucket opened = handles->handle[i];

		handles_reset(handles);
		handles->handle[i] = opened;
	}
	return handles->handle[i];
}

static SeenVerdict
add_one(Handles *handles, const SeenClick *click, int64 tick)
{
	DedupBucket handle = handle_of(handles, click->key.bucket, true);
	uint64		seen_by;

	if (handle == DEDUP_NO_BUCKET)
		return SEEN_UNKNOWN;
	switch (dedup_add(shmem_dedup, handle, click->key.key, tick, &seen_by))
	{
		case DEDUP_NEW:
			return SEEN_NEW;
		case DEDUP_SEEN:
			return SEEN_DUPLICATE;
		case DEDUP_DROPPED:
			break;
	}
	return SEEN_UNKNOWN;
}

/* Judge by memory, and remember. */
static void
add_to_memory(SeenClick *clicks, size_t n, int64 tick)
{
	Handles		handles;

	for (size_t start = 0; start < n; start += LOCKED_CLICKS)
	{
		size_t		end = Min(start + LOCKED_CLICKS, n);

		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		handles_reset(&handles);
		for (size_t i = start; i < end; i++)
		{
			if (i + PREFETCH_DISTANCE < end)
			{
				SeenClick  *ahead = &clicks[i + PREFETCH_DISTANCE];
				DedupBucket handle = handle_of(&handles, ahead->key.bucket, false);

				if (handle != DEDUP_NO_BUCKET)
					dedup_prefetch(shmem_dedup, handle, ahead->key.key);
			}
			clicks[i].verdict = add_one(&handles, &clicks[i], tick);
		}
		LWLockRelease(shmem->dedup_lock);
	}
}

static SeenVerdict
judge_one(Handles *handles, const SeenClick *click, int64 tick)
{
	DedupBucket handle = handle_of(handles, click->key.bucket, false);
	uint64		seen_by;

	if (handle == DEDUP_NO_BUCKET)
		return click->key.bucket > dedup_floor(shmem_dedup, MyDatabaseId) ? SEEN_NEW : SEEN_UNKNOWN;
	if (!dedup_lookup(shmem_dedup, handle, click->key.key, &seen_by))
		return SEEN_NEW;
	return seen_by <= (uint64) tick ? SEEN_DUPLICATE : SEEN_NEW;
}

/* Judge a few by memory, as of a state.  It may be dropped, and loaded by another rule, at any time. */
static void
judge_some(SeenClick **clicks, size_t n, const StoreState *state)
{
	DatabaseSlot *slot = shmem_my_slot();
	Handles		handles;
	bool		is_complete;

	CHECK_FOR_INTERRUPTS();
	LWLockAcquire(shmem->dedup_lock, LW_SHARED);
	/* what was loaded later need not have all keys of an older snapshot: users may have been forgotten */
	is_complete = slot->loaded && slot->rule == state->rules.dedup.rule_id &&
		slot->loaded_tick <= state->tick && dedup_has_space(shmem_dedup, MyDatabaseId);
	handles_reset(&handles);
	for (size_t i = 0; i < n; i++)
		clicks[i]->verdict = is_complete ? judge_one(&handles, clicks[i], state->tick) : SEEN_UNKNOWN;
	LWLockRelease(shmem->dedup_lock);
}

static void
judge_by_memory(SeenClick *clicks, size_t n, const StoreState *state)
{
	SeenClick  *some[LOCKED_CLICKS];

	for (size_t start = 0; start < n; start += LOCKED_CLICKS)
	{
		size_t		count = Min(LOCKED_CLICKS, n - start);

		for (size_t i = 0; i < count; i++)
			some[i] = &clicks[start + i];
		judge_some(some, count, state);
	}
}

/*----------
 * Asking the stored keys
 *----------
 */

/* The buckets of which memory does not know all keys, ascending. */
static int64 *
unknown_buckets(const SeenClick *clicks, size_t n, int *count)
{
	int64	   *buckets = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (n + 1));
	size_t		nbuckets = 0;

	for (size_t i = 0; i < n; i++)
		if (clicks[i].verdict == SEEN_UNKNOWN &&
			(nbuckets == 0 || buckets[nbuckets - 1] != clicks[i].key.bucket))
			buckets[nbuckets++] = clicks[i].key.bucket;
	*count = sort_unique_int64(buckets, (int) nbuckets);
	return buckets;
}

/*
 * Of copies of a key among the clicks, in the order of their keys, let the first
 * stand for all; returns how many are left that memory could not judge.  (A bucket
 * can have left memory in between: the first copy may be judged, and not stored yet.)
 */
static size_t
keep_first_copies(SeenClick **clicks, size_t n)
{
	SeenClick  *first = NULL;
	size_t		kept = 0;

	for (size_t i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (first && bucket_key_equal(&first->key, &clicks[i]->key))
		{
			clicks[i]->verdict = SEEN_DUPLICATE;
			continue;
		}
		first = clicks[i];
		if (first->verdict == SEEN_UNKNOWN)
			clicks[kept++] = first;
	}
	return kept;
}

/* Judge what memory could not. */
static void
judge_unknown(SeenClick *clicks, size_t n, bool may_stay_undecided)
{
	int			nbuckets;
	int64	   *buckets = unknown_buckets(clicks, n, &nbuckets);
	SeenClick **asked;
	size_t		nasked = 0;

	if (nbuckets > 0)
	{
		asked = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SeenClick *) * n);
		for (size_t i = 0; i < n; i++)
			if (clicks[i].verdict != SEEN_DUPLICATE &&
				bsearch(&clicks[i].key.bucket, buckets, nbuckets, sizeof(int64), compare_int64) != NULL)
				asked[nasked++] = &clicks[i];
		qsort(asked, nasked, sizeof(SeenClick *), compare_seen_clicks);
		nasked = keep_first_copies(asked, nasked);
		keys_find(asked, nasked, may_stay_undecided);
		for (size_t i = 0; i < nasked; i++)
			if (asked[i]->verdict == SEEN_UNKNOWN)
				asked[i]->verdict = SEEN_NEW;
		pfree(asked);
	}
	pfree(buckets);
}

void
seen_add(SeenClick *clicks, size_t n, int64 tick)
{
	add_to_memory(clicks, n, tick);
	judge_unknown(clicks, n, true);
}

void
seen_judge_before(SeenClick *keys, size_t n, const StoreState *state, bool may_stay_undecided)
{
	judge_by_memory(keys, n, state);
	judge_unknown(keys, n, may_stay_undecided);
}

void
seen_remember(SeenClick *keys, size_t n, int64 tick)
{
	add_to_memory(keys, n, tick);
}

/*----------
 * Loading
 *----------
 */

/* Whether keys of the bucket's rule are those that memory has. */
static bool
is_remembered(const ClickRules *rules, int64 bucket)
{
	return bucket_rule(bucket) == rules->dedup.rule_id || bucket_rule(bucket) == rules->other.rule_id;
}

/* Keys on their way into memory. */
typedef struct Load
{
	const ClickRules *rules;
	int64		from;			/* first bucket wanted */
	int64		tick;
	size_t		n;
	SeenClick	clicks[LOCKED_CLICKS];
} Load;

static void
load_flush(Load *load)
{
	add_to_memory(load->clicks, load->n, load->tick);
	load->n = 0;
}

static void
load_some(const BucketKey *keys, size_t n, void *arg)
{
	Load	   *load = arg;

	for (size_t i = 0; i < n; i++)
	{
		if (!is_remembered(load->rules, keys[i].bucket))
			continue;
		if (load->n == LOCKED_CLICKS)
			load_flush(load);
		load->clicks[load->n++] = (SeenClick) {keys[i]};
	}
}

/* Load the keys that the active snapshot, which the state was read with, sees. */
static void
load_seen(Load *load, const StoreState *state)
{
	load->tick = state->tick;
	keys_each(load->from, load_some, load);
	load_flush(load);
}

static void
push_snapshot_of_others(void)
{
	PushCopiedSnapshot(GetActiveSnapshot());
	GetActiveSnapshot()->curcid = FirstCommandId;
}

/* Whether others can ask: not while this transaction restores a dump. */
static bool
others_can_ask(void)
{
	bool		result;

	push_snapshot_of_others();
	result = store_can_answer();
	PopActiveSnapshot();
	return result;
}

/* Load the keys that the active snapshot sees but for what this transaction has done. */
static void
load_seen_by_others(Load *load)
{
	StoreState	state;

	if (!others_can_ask())
		return;
	push_snapshot_of_others();
	store_get_state(&state);
	load_seen(load, &state);
	PopActiveSnapshot();
}

/*
 * Load the buckets a fresh click can fall into, and all later ones.  Of older ones
 * nothing is known: the floor says so.
 */
static void
load_keys(StoreState *state)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick load",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	const DedupRule *rule = &state->rules.dedup;
	Load	   *load = palloc0(sizeof(Load));

	load->rules = &state->rules;
	load->from = click_bucket(rule, Min(state->newest_received, GetCurrentTimestamp()) -
							  BUCKETS_LOADED * rule->window * USECS_PER_SEC);
	load_seen_by_others(load);
	if (ticked)
		load_seen(load, state);

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	dedup_raise_floor(shmem_dedup, MyDatabaseId, load->from - 1);
	LWLockRelease(shmem->dedup_lock);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		ticked = loaded_after_tick = false;
}

static void
forget(void)
{
	DatabaseSlot *slot = shmem_my_slot();

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	slot->loaded = false;
	LWLockRelease(shmem->dedup_lock);
}

void
seen_forget(void)
{
	forget();
	ticked = true;
}

/* Keys of a tick that stays may have been loaded with the number of one that does not. */
static void
at_subabort(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && loaded_after_tick)
	{
		forget();
		loaded_after_tick = false;
	}
}

void
seen_install(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subabort, NULL);
}

/* Whether there are keys in memory, of this extension, and by which rule. */
static bool
is_ready(const DatabaseSlot *slot, int32 *rule_id)
{
	Oid			extension = get_extension_oid("adclick", false);
	bool		ready;

	LWLockAcquire(shmem->dedup_lock, LW_SHARED);
	ready = slot->loaded && slot->extension == extension &&
		dedup_has_space(shmem_dedup, MyDatabaseId);
	*rule_id = slot->rule;
	LWLockRelease(shmem->dedup_lock);
	return ready;
}

/* Begin with no key, or if they cannot be loaded with no knowledge of any. */
static void
empty_memory(const StoreState *state, int64 floor)
{
	DatabaseSlot *slot = shmem_my_slot();
	Oid			extension = get_extension_oid("adclick", false);

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	dedup_drop_space(shmem_dedup, MyDatabaseId);
	dedup_add_space(shmem_dedup, MyDatabaseId);
	dedup_raise_floor(shmem_dedup, MyDatabaseId, floor);
	slot->loaded = slot->user_bounded = slot->ip_bounded = false;
	slot->extension = extension;
	slot->rule = state->rules.dedup.rule_id;
	slot->attempt = state->tick;
	LWLockRelease(shmem->dedup_lock);
}

static void
attempt_load(void *arg)
{
	load_keys(arg);
}

/*
 * If keys are damaged, go on without.  (Not for questions, which can be in parallel
 * plans, where nothing can be attempted.)
 */
static void
load_what_can_be_read(StoreState *state)
{
	ErrorData  *error = attempt(attempt_load, state);

	if (error && !keys_are_damaged(error))
		ThrowErrorData(error);
	if (error)
		empty_memory(state, keys_highest_bucket());
}

static void
prepare(StoreState *state, void (*load) (StoreState *state))
{
	DatabaseSlot *slot = shmem_my_slot();
	int32		rule_id;

	if (is_ready(slot, &rule_id) && rule_id == state->rules.dedup.rule_id)
		return;

	empty_memory(state, PG_INT64_MIN);
	if (state->newest_received != DT_NOBEGIN)
		load(state);
	loaded_after_tick = ticked;

	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	slot->loaded_tick = state->tick;
	slot->loaded = true;
	LWLockRelease(shmem->dedup_lock);
}

void
seen_prepare_tick(StoreState *state)
{
	prepare(state, load_what_can_be_read);
}

/*
 * Have keys in memory for questions.  They may be of another rule than this one's
 * snapshot sees in force: of a tick that goes on, which is not waited for.
 */
void
seen_prepare_question(void)
{
	StoreState	state;
	Snapshot	newest;
	int32		rule_id;

	/* a standby has no memory: its state is that of the primary, and no tick runs here */
	if (RecoveryInProgress() || is_ready(shmem_my_slot(), &rule_id))
		return;
	store_lock(STORE_LOCK_TICK);
	/* as GetLatestSnapshot, which parallel mode refuses */
	newest = RegisterSnapshot(GetNonHistoricCatalogSnapshot(InvalidOid));
	PushActiveSnapshot(newest);
	/* what only this transaction sees does not get into memory: it asks the stored keys */
	if (others_can_ask())
	{
		store_get_state(&state);
		prepare(&state, load_keys);
	}
	PopActiveSnapshot();
	UnregisterSnapshot(newest);
	store_unlock(STORE_LOCK_TICK);
}

void
seen_judge(SeenClick *clicks, size_t n, const StoreState *state)
{
	if (n == 0)
		return;
	seen_prepare_question();
	judge_by_memory(clicks, n, state);
	judge_unknown(clicks, n, false);
}

/*----------
 * Keys of other rules than the click's own
 *----------
 */

void
seen_note_former(FormerClicks *former, TupleTableSlot *slot, const Click *click, const ClickRules *rules, uint32 row,
				 size_t before)
{
	BucketKey	key;
	int			last = rules->nformer + former->met_other;

	if (click->rule == &rules->other && click->rule->by == DEDUP_BY_CLICK_ID)
		former->met_other = true;
	for (int i = 0; i <= last; i++)
	{
		if (!click_former_key(slot, click, rules, i, &key))
			continue;
		if (former->n == former->room)
		{
			former->room = Max(1024, 2 * former->room);
			former->clicks = former->clicks ? repalloc_huge(former->clicks, sizeof(FormerClick) * former->room) :
				palloc(sizeof(FormerClick) * former->room);
		}
		former->clicks[former->n++] = (FormerClick) {{key, row}, (uint32) before};
	}
}

/* Judge those of the rules that memory has. */
static void
remember_former(FormerClicks *former, const StoreState *state, bool in_tick)
{
	SeenClick  *some[LOCKED_CLICKS];
	size_t		n = 0;
	bool		prepared = in_tick || RecoveryInProgress();

	for (size_t i = 0; i < former->n; i++)
	{
		if (!is_remembered(&state->rules, former->clicks[i].click.key.bucket))
			continue;
		if (!prepared)
			seen_prepare_question();
		prepared = true;
		some[n++] = &former->clicks[i].click;
		if (n < LOCKED_CLICKS)
			continue;
		judge_some(some, n, state);
		n = 0;
	}
	if (n > 0)
		judge_some(some, n, state);
}

void
seen_judge_former(FormerClicks *former, const StoreState *state, bool in_tick)
{
	SeenClick **asked = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SeenClick *) * (former->n + 1));
	size_t		n = 0;

	remember_former(former, state, in_tick);
	for (size_t i = 0; i < former->n; i++)
	{
		SeenClick  *click = &former->clicks[i].click;

		if (click->verdict == SEEN_UNKNOWN)
			asked[n++] = click;
		else if (click->verdict == SEEN_NEW)
			click->verdict = SEEN_UNKNOWN;
	}
	qsort(asked, n, sizeof(SeenClick *), compare_seen_clicks);
	keys_find(asked, n, in_tick);
	pfree(asked);
}

/* The rule in force that is by id, if there is one. */
static int32
rule_by_id(const ClickRules *rules)
{
	return rules->dedup.by == DEDUP_BY_CLICK_ID ? rules->dedup.rule_id : rules->other.rule_id;
}

/*
 * Only an id can have been counted beside by its own rule: a key of user and ad is of one ad,
 * whose clicks are all judged by one rule.
 */
bool
seen_may_be_beside(const FormerClick *former, const ClickRules *rules)
{
	return former->click.verdict == SEEN_UNKNOWN && bucket_rule(former->click.key.bucket) == rule_by_id(rules);
}

/* Ids that are looked for, with how many clicks come before the first that has one by its own rule. */
static keyed_hash *
collect_ids(const FormerClicks *former, const ClickRules *rules)
{
	keyed_hash *ids = NULL;
	bool		found;

	for (size_t i = 0; i < former->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!seen_may_be_beside(&former->clicks[i], rules))
			continue;
		if (ids == NULL)
			ids = keyed_create(CurrentMemoryContext, 256, NULL);
		keyed_insert(ids, former->clicks[i].click.key, &found)->number = PG_UINT64_MAX;
	}
	return ids;
}

void
seen_judge_beside(FormerClicks *former, const SeenClick *keys, size_t nkeys, const ClickRules *rules)
{
	int32		rule_id = rule_by_id(rules);
	keyed_hash *ids = collect_ids(former, rules);
	Keyed	   *beside;

	if (ids == NULL)
		return;
	for (size_t i = 0; i < nkeys; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (keys[i].verdict == SEEN_UNKNOWN && bucket_rule(keys[i].key.bucket) == rule_id &&
			(beside = keyed_lookup(ids, keys[i].key)) != NULL)
			beside->number = Min(beside->number, i);
	}
	for (size_t i = 0; i < former->n; i++)
	{
		SeenClick  *click = &former->clicks[i].click;

		if (click->verdict == SEEN_UNKNOWN && (beside = keyed_lookup(ids, click->key)) != NULL &&
			beside->number < former->clicks[i].before)
			click->verdict = SEEN_DUPLICATE;
	}
	keyed_destroy(ids);
}

/*
 * Forget the keys of all ticks after this one: they were rolled back.  The lock is
 * given away between the steps, as all who ask need it; who ticks holds that of ticks.
 */
static void
forget_ticks_after(int64 tick)
{
	DatabaseSlot *slot = shmem_my_slot();
	DedupPlace	at = {0};
	bool		more;

	do
	{
		CHECK_FOR_INTERRUPTS();
		LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
		more = slot->attempt > (uint64) tick &&
			dedup_forget_ticks(shmem_dedup, MyDatabaseId, tick + 1, slot->attempt, &at);
		LWLockRelease(shmem->dedup_lock);
	} while (more);
}

int64
seen_begin_tick(const StoreState *state)
{
	DatabaseSlot *slot = shmem_my_slot();
	int64		tick;

	forget_ticks_after(state->tick);
	LWLockAcquire(shmem->dedup_lock, LW_EXCLUSIVE);
	tick = Max((int64) slot->attempt, state->tick) + 1;
	slot->attempt = tick;
	LWLockRelease(shmem->dedup_lock);
	ticked = true;
	return tick;
}
