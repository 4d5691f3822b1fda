/*-------------------------------------------------------------------------
 *
 * facts_alloc.c
 *	  The memory of facts, from the server's contexts.
 *
 * See facts_alloc.h.  Facts can be more than a gigabyte.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "facts_alloc.h"

void
facts_enlarge(Facts *facts, size_t capacity, MemoryContext context)
{
	void	   *old = facts->capacity > 0 ? facts->key[0] : NULL;

	facts_grow(facts, capacity,
			   MemoryContextAllocHuge(context, facts_memory(facts->ncolumns, capacity)));
	if (old)
		pfree(old);
}

void
facts_sum_up(Facts *facts)
{
	void	   *scratch = MemoryContextAllocHuge(CurrentMemoryContext,
												 facts_scratch(facts->ncolumns, facts->n));

	facts_combine(facts, scratch);
	pfree(scratch);
}
