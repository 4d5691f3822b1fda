/*-------------------------------------------------------------------------
 *
 * merge.h
 *	  Runs of order ad or day become others: of minutes, hours and days, and deltas.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_MERGE_H
#define ADCLICK_MERGE_H

#include "postgres.h"

#include "late.h"
#include "store/store.h"

/* Minutes that one merge writes, at most. */
#define MERGE_MINUTES 60

#define MAX_TARGETS (MERGE_MINUTES + SPAN_PARTS)

/* A run to write: of a minute, of an hour, of a day, or a delta. */
typedef struct Target
{
	int64		first;			/* its first minute */
	int64		end;			/* the one after its last */
	bool		is_delta;
} Target;

/* What to read, and what to write. */
typedef struct Merge
{
	FactOrder	order;			/* ad or day */
	bool		makes_day;		/* the runs stay, and the only target is their day */
	int64		settled;		/* hours before this minute are */
	int			ndeltas;
	int			nruns;			/* the deltas first */
	StoreRun   *runs;
	int			ntargets;		/* ascending */
	Target		targets[MAX_TARGETS];
} Merge;

extern StoreGrain target_grain(const Target *target);

/* Write the targets; what is in none goes to deltas: of settled hours, and of others. */
extern void merge_runs(const Merge *m);

/* Make the lists of those of this grain that were written, in a snapshot that sees them; how many there are. */
extern int	merge_make_lists(const Merge *m, StoreGrain grain);

#endif							/* ADCLICK_MERGE_H */
