/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  The clicks that were counted, read back from order ledger.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_LEDGER_H
#define ADCLICK_LEDGER_H

#include "postgres.h"

/*
 * Call back for each click that the active snapshot sees as counted and whose columns
 * are all in the ledger, with the columns of the inbox.  They are valid during the call.
 */
typedef void (*ledger_callback) (Datum *values, bool *nulls, void *arg);
extern void ledger_each(ledger_callback callback, void *arg);

/* How many clicks it sees as stored. */
typedef struct LedgerTotals
{
	int64		facts;			/* in order ad */
	int64		packed;			/* in order ledger, with all columns ... */
	int64		unpacked;		/* ... and with a row elsewhere */
} LedgerTotals;

extern void ledger_count(LedgerTotals *totals);

#endif							/* ADCLICK_LEDGER_H */
