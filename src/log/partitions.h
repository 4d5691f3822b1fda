/*-------------------------------------------------------------------------
 *
 * partitions.h
 *	  The hourly partitions of the click log.
 *
 * Making them ahead of time, and which of them may hold unread rows.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_PARTITIONS_H
#define ADCLICK_PARTITIONS_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct Partition
{
	Oid			relid;
	TimestampTz upper;			/* DT_NOEND: the default partition */
} Partition;

/* The click log itself. */
extern Oid	partitions_parent(void);

/* Those that end after a time, in order; the default partition last. */
extern Partition *partitions_after(TimestampTz open_from, int *count);

/* Make the partitions of this hour and the next ones; returns how many are new. */
extern int	partitions_make(void);

/* Summarize full ranges of their indexes on xact, where no one is in the way. */
extern void partitions_summarize(TimestampTz open_from);

#endif							/* ADCLICK_PARTITIONS_H */
