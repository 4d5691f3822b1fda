/*-------------------------------------------------------------------------
 *
 * bounds.h
 *	  Upper bounds of how many clicks somebody has in a minute.
 *
 * Who that is, is a hash; what is told of it is never too low, and too high only where two
 * hashes agree in their place and their mark, or a place is full.  A table of fixed size that only
 * forgets: a line of it that is full drops its oldest minute, and of minutes that it
 * has dropped it tells nothing.  So there is nothing to be aged or emptied.  Those for whom the
 * minute that is left has no room are counted together.
 *
 * A line is a line of the processor's cache: who adds or asks waits for memory once.
 *
 * Pure memory: no server headers, no locks; the caller serialises writers
 * against everybody, readers may run side by side.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_BOUNDS_H
#define ADCLICK_BOUNDS_H

#include <stddef.h>
#include <stdint.h>

/* Nothing can be told. */
#define BOUND_UNKNOWN UINT32_MAX

#define BOUNDS_ENTRIES 14

/* An entry has a mark of the hash, the last bits of its minute, and its clicks; 0: it is free, and so are those behind it. */
typedef struct BoundsLine
{
	int32_t		floor;			/* nothing is known of this minute and those before it */
	uint32_t	rest;			/* an entry without a mark, of all of its minute that have none; 0: there are none */
	uint32_t	entry[BOUNDS_ENTRIES];
} BoundsLine;

typedef struct Bounds
{
	uint32_t	nlines;
	BoundsLine *lines;
} Bounds;

/*
 * So many bytes of zeros, at a multiple of the size of a line, as a table that knows that there are no clicks in
 * minutes after 0.  Of others, and of those that no int32 holds, nothing is ever known.
 */
static inline Bounds
bounds_of(void *memory, size_t bytes)
{
	size_t		nlines = bytes / sizeof(BoundsLine);
	Bounds		bounds = {nlines < UINT32_MAX ? (uint32_t) nlines : UINT32_MAX, memory};

	return bounds;
}

/* Bring a line into the cache: call some hashes ahead. */
extern void bounds_prefetch(const Bounds *bounds, uint64_t hash);

/* Add a click; returns the bound with it.  The hash is of the minute, too. */
extern uint32_t bounds_add(const Bounds *bounds, uint64_t hash, int64_t minute);

extern uint32_t bounds_get(const Bounds *bounds, uint64_t hash, int64_t minute);

#endif							/* ADCLICK_BOUNDS_H */
