/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  Judging clicks one after the other where users and addresses are limited.
 *
 * A click is a duplicate of one that was counted; else it is in excess if as many of its
 * user, or from its address, are counted in its minute as may be; else it counts.  So what becomes of each
 * follows from those before it alone, and not from where a tick ends.  A click that is
 * in excess has no key: it leaves nothing but its row.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_LIMITS_H
#define ADCLICK_LIMITS_H

#include "postgres.h"

#include "core/orders.h"
#include "inbox/click.h"
#include "store/store.h"

typedef struct LimitsJudge LimitsJudge;

/* For about so many clicks.  The state is as they are judged by; it stays. */
extern LimitsJudge *limits_begin(const StoreState *state, int nclicks);

/* The next valid click: its key, NULL if it has none, and what facts are made of. */
extern void limits_add(LimitsJudge *judge, const BucketKey *key, const FactClick *fact);

/* The click of this number, from 0 on, is known not to count. */
extern void limits_set(LimitsJudge *judge, size_t click, ClickVerdict verdict);

/*
 * Judge all, in the active snapshot, with which the state was read: for a question, or for a tick, of
 * which what cannot be read leaves clicks undecided, and which is remembered then.
 */
extern void limits_ask(LimitsJudge *judge);
extern void limits_tick(LimitsJudge *judge);
extern ClickVerdict limits_verdict(const LimitsJudge *judge, size_t click);

#endif							/* ADCLICK_LIMITS_H */
