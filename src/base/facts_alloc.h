/*-------------------------------------------------------------------------
 *
 * facts_alloc.h
 *	  The memory of facts, from the server's contexts.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FACTS_ALLOC_H
#define ADCLICK_FACTS_ALLOC_H

#include "postgres.h"

#include "core/facts.h"

/*
 * Larger arrays, from this context, with what the old ones hold; those, if there
 * are any, are freed.
 */
extern void facts_enlarge(Facts *facts, size_t capacity, MemoryContext context);

/* facts_combine with scratch memory of its own. */
extern void facts_sum_up(Facts *facts);

#endif							/* ADCLICK_FACTS_ALLOC_H */
