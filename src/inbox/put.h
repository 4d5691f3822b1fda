/*-------------------------------------------------------------------------
 *
 * put.h
 *	  Putting clicks into the inbox without SQL: many at a time, and no triggers or
 *	  defaults of users run.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_PUT_H
#define ADCLICK_PUT_H

#include "postgres.h"

#include "executor/tuptable.h"

/* Clicks that are put at once. */
#define INBOX_BATCH 1000

typedef struct InboxWriter InboxWriter;

extern InboxWriter *inbox_put_begin(void);

/* A slot to fill the columns of, the n-th of those of a batch. */
extern TupleTableSlot *inbox_put_slot(InboxWriter *writer, int n);

/* Put the first n of them; what their values point to is needed no longer. */
extern void inbox_put(InboxWriter *writer, int n);
extern void inbox_put_end(InboxWriter *writer);

#endif							/* ADCLICK_PUT_H */
