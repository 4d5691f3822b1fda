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

#include "core/orders.h"
#include "store/filters.h"
#include "store/store.h"

/*
 * What came back from files is there as if it had never gone, but not for ledger_count.
 *
 * Call back for each click that the active snapshot sees as counted and whose columns
 * are all in the ledger, with the columns of the inbox.  They are valid during the call.
 */
typedef void (*ledger_callback) (Datum *values, bool *nulls, void *arg);
extern void ledger_each(ledger_callback callback, void *arg);

/*
 * Call back for each click, with all columns or not, that was clicked in minutes from ..
 * to (included) or has a dedup bucket that begins in them, as facts are made of it;
 * "copies": how many there are that are alike in everything.
 */
typedef void (*ledger_click_callback) (const FactClick *click, uint64 copies, void *arg);
extern void ledger_each_click(int64 from, int64 to, ledger_click_callback callback, void *arg);

/* Likewise for each of a run. */
extern void ledger_each_of_run(const StoreRun *run, ledger_click_callback callback, void *arg);

/* Country, region and device as they were given: the texts of the filter, or what they stand for. */
extern void ledger_dimensions(const Dimensions *filter, uint64 flags, Datum *values, bool *nulls);

/* How many clicks it sees as stored. */
typedef struct LedgerTotals
{
	int64		facts;			/* in order ad */
	int64		days;			/* in order day, of days that it should not have */
	int64		packed;			/* in order ledger, with all columns ... */
	int64		unpacked;		/* ... and with a row elsewhere */
} LedgerTotals;

extern void ledger_count(int64 minutes_dropped_until, LedgerTotals *totals);

#endif							/* ADCLICK_LEDGER_H */
