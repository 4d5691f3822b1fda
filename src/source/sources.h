/*-------------------------------------------------------------------------
 *
 * sources.h
 *	  A round of the reader: what was appended to log files becomes clicks in the inbox.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SOURCES_H
#define ADCLICK_SOURCES_H

#include "postgres.h"

typedef struct SourcesResult
{
	int64		lines;			/* that became clicks */
	int64		bad_lines;
	bool		more;			/* there is more to be read at once */
} SourcesResult;

/*
 * Read all sources, each a bounded part.  How far they are read is stored in this transaction, as
 * the clicks are.  One that fails is left as it was, and says why in adclick.sources.
 */
extern void sources_read(SourcesResult *result);

#endif							/* ADCLICK_SOURCES_H */
