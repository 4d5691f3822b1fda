/*-------------------------------------------------------------------------
 *
 * rank.h
 *	  Which ads had the most clicks: exact top-N, three ways.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_RANK_H
#define ADCLICK_RANK_H

#include "postgres.h"

#include "conditions.h"
#include "core/topn.h"
#include "gather.h"

typedef struct Ranking
{
	TopN		top;			/* the answer, best first */
	const char *way;			/* how it was found */
	int			lists;			/* kept lists that were read */
	uint64		cut_off;		/* what an ad in none of them can have in their minutes */
	int			candidates;		/* ads that could be in the answer, by the lists */
	ReadCounts	read;
} Ranking;

/* The n ads with the most clicks that meet the conditions; ties go to the smaller ad. */
extern void rank_ads(int32 n, const Conditions *conditions, Ranking *ranking);

#endif							/* ADCLICK_RANK_H */
