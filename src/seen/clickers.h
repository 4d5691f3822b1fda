/*-------------------------------------------------------------------------
 *
 * clickers.h
 *	  Upper bounds of the clicks of users and addresses in a minute: in shared memory.
 *
 * Nearly every click is of somebody who is far below the limit, and that is proved here
 * at the cost of a look at memory.  Ticks add all that they judge, before they commit, so
 * a bound is never below what a snapshot sees that was taken before it is asked for.
 * It may be above: where ticks were rolled back, clicks did not count, or somebody
 * was forgotten.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_CLICKERS_H
#define ADCLICK_CLICKERS_H

#include "postgres.h"

#include "core/bounds.h"
#include "core/orders.h"
#include "store/store.h"

typedef enum ClickerKind
{
	CLICKER_USER,
	CLICKER_ADDRESS,
	CLICKER_KINDS
} ClickerKind;

/* The user and the address of a click, where they are limited; 0: it has none. */
typedef struct Clickers
{
	int64		minute;
	uint64		hash[CLICKER_KINDS];
	uint32		bound[CLICKER_KINDS];
} Clickers;

/* "user_id": NULL for none. */
extern void clickers_of(Clickers *clickers, int64 minute, const int64 *user_id, const IpAddress *ip,
						const ClickRules *rules);

/* A tick judges by a state, with or without limits. */
extern void clickers_follow(const StoreState *state);

/* Add clicks of that tick, and set their bounds, each as of the clicks up to it. */
extern void clickers_add(Clickers *clickers, size_t n);

/* Set the bounds of what the active snapshot, with which the state was read, sees counted. */
extern void clickers_ask(Clickers *clickers, size_t n, const StoreState *state);

#endif							/* ADCLICK_CLICKERS_H */
