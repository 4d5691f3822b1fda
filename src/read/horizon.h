/*-------------------------------------------------------------------------
 *
 * horizon.h
 *	  How far back counts by ad are kept: what a question may ask for.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_HORIZON_H
#define ADCLICK_HORIZON_H

#include "postgres.h"

#include "store/store.h"

/*
 * An error unless all that minutes from .. before "to" have by ad is kept: by minute, or else
 * by days of which the window has all.
 */
extern void horizon_require(const StoreState *state, int64 from, int64 to, bool by_minute);

#endif							/* ADCLICK_HORIZON_H */
