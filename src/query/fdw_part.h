/*-------------------------------------------------------------------------
 *
 * fdw_part.h
 *	  What a scan of the foreign table asks of one part of the key.
 *
 * Clauses about the minute, or about the filter, are evaluated once for each
 * minute or filter, and so are the expressions to group by: equal values get
 * the same group number, which then stands for them in facts.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FDW_PART_H
#define ADCLICK_FDW_PART_H

#include "postgres.h"

#include "nodes/execnodes.h"

typedef struct Part Part;

/*
 * "row": where the columns are put before part_judge.  "entries": a target
 * entry for each expression to group by.
 */
extern Part *part_begin(PlanState *parent, TupleTableSlot *row, List *quals, List *entries);

/* Forget all groups. */
extern void part_again(Part *part);

#define PART_REJECTED (-1)

/* The group of the row, or PART_REJECTED if it fails a clause. */
extern int32 part_judge(Part *part);

/* Put a group's values where its target entries say. */
extern void part_put(const Part *part, int32 group, TupleTableSlot *slot);

#endif							/* ADCLICK_FDW_PART_H */
