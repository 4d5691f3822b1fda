/*-------------------------------------------------------------------------
 *
 * disguise.c
 *	  Keys of the clicks of forgotten users.
 *
 * See disguise.h.  A key of user and ad shows both; a click id is of no user.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/adclick.h"
#include "disguise.h"

struct Disguise
{
	const StoreState *state;
	MemoryContext context;
	int			nrules;
	int			room;
	DedupRule  *rules;			/* by which keys were disguised */
};

Disguise *
disguise_begin(const StoreState *state, MemoryContext context)
{
	Disguise   *disguise = MemoryContextAllocZero(context, sizeof(Disguise));

	disguise->state = state;
	disguise->context = context;
	disguise->room = 4;
	disguise->rules = MemoryContextAlloc(context, sizeof(DedupRule) * disguise->room);
	return disguise;
}

static const DedupRule *
rule_of(const ClickRules *rules, int64 bucket)
{
	if (rules->dedup.rule_id == bucket_rule(bucket))
		return &rules->dedup;
	for (int i = 0; i < rules->nformer; i++)
		if (rules->former[i].rule_id == bucket_rule(bucket))
			return &rules->former[i];
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("rule %d is missing in adclick_internal.dedup_rules", bucket_rule(bucket)),
			 errdetail("A click of the user was counted by it.")));
}

/* That by which keys with this window are disguised. */
static DedupRule *
forgotten_rule(Disguise *disguise, int64 window)
{
	for (int i = 0; i < disguise->nrules; i++)
		if (disguise->rules[i].window == window)
			return &disguise->rules[i];
	if (disguise->nrules == disguise->room)
	{
		disguise->room *= 2;
		disguise->rules = repalloc(disguise->rules, sizeof(DedupRule) * disguise->room);
	}
	store_get_forgotten_rule(disguise->state, window, &disguise->rules[disguise->nrules]);
	return &disguise->rules[disguise->nrules++];
}

void
disguise_key(Disguise *disguise, BucketKey *key)
{
	const DedupRule *rule;
	DedupRule  *forgotten;

	if (bucket_rule(key->bucket) == NO_RULE)
		return;
	rule = rule_of(&disguise->state->rules, key->bucket);
	if (rule->by != DEDUP_BY_USER_AND_AD)
		return;
	forgotten = forgotten_rule(disguise, rule->window);
	click_disguise(forgotten, &key->key);
	key->bucket += forgotten->rule_id - rule->rule_id;
	forgotten->last_bucket = Max(forgotten->last_bucket, key->bucket);
}

void
disguise_keep(const Disguise *disguise)
{
	for (int i = 0; i < disguise->nrules; i++)
		store_keep_forgotten_rule(&disguise->rules[i]);
}
