/*-------------------------------------------------------------------------
 *
 * limits.h
 *	  Judging clicks where users and addresses are limited.
 *
 * A click is a duplicate of one that was counted; else it is in excess if as many of its
 * user, or from its address, are counted in its minute as may be; else it counts.  So what becomes of each
 * follows from those before it alone, and not from where a tick ends.  A click that is
 * in excess has no key: it leaves nothing but its row.
 *
 * Nearly all are of users and addresses that are proved to be within the limits (clickers.h):
 * they are judged as if there were none.  The others, and the copies of these clicks, are judged here, one after the other.
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

/* The state is as clicks are judged by; it stays. */
extern LimitsJudge *limits_begin(const StoreState *state);

/*
 * The next valid click: its key, NULL if it has none, and what facts are made of; and whether a question
 * asks for it.
 */
extern void limits_add(LimitsJudge *judge, const BucketKey *key, const FactClick *fact, bool asked);

/*
 * The click of this number, from 0 on, is a copy of one that counts by this id, though its own key is another: of
 * all that were added, in order.
 */
extern void limits_add_id(LimitsJudge *judge, size_t click, const BucketKey *id);

/* The click of this number is known not to count. */
extern void limits_leave_out(LimitsJudge *judge, size_t click);

/*
 * Judge those that have to be judged one after the other, in the active snapshot, with which the state
 * was read: of a tick, where what cannot be read leaves some undecided, or of a question.
 */
extern void limits_tick(LimitsJudge *judge);
extern void limits_ask(LimitsJudge *judge);

/*
 * Whether a click was; else it is within the limits, or nobody asks for it, and its key, which is none of theirs,
 * says whether it counts.
 */
extern bool limits_judged(const LimitsJudge *judge, size_t click, ClickVerdict *verdict);

#endif							/* ADCLICK_LIMITS_H */
