/*-------------------------------------------------------------------------
 *
 * disguise.h
 *	  Keys of the clicks of forgotten users.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_DISGUISE_H
#define ADCLICK_DISGUISE_H

#include "postgres.h"

#include "store/store.h"

/* The state's rules are looked at when a key is disguised, and not before. */
typedef struct Disguise Disguise;
extern Disguise *disguise_begin(const StoreState *state, MemoryContext context);

/* Replace a key that shows its user by one that only who has a secret can tell. */
extern void disguise_key(Disguise *disguise, BucketKey *key);

/* Let clicks be looked for by such keys. */
extern void disguise_keep(const Disguise *disguise);

#endif							/* ADCLICK_DISGUISE_H */
