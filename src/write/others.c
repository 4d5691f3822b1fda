/*-------------------------------------------------------------------------
 *
 * others.c
 *	  Deltas of orders user, ip and ledger become final runs.
 *
 * See others.h.  These have the minute, or the bucket, within the key, and so need no run a
 * minute.  A final run is never merged again; the more facts it has, the fewer there are to be
 * looked into, and the closer its keys lie together.  So deltas wait until they are worth one.
 * When minutes close, those that came since the last time become one, so each fact is written
 * three times at most, and where many come, twice.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "accumulate.h"
#include "base/adclick.h"
#include "others.h"
#include "read/slices.h"
#include "retention.h"

/* Fresh deltas, by which questions get slow, before they are merged. */
#define MAX_FRESH 64

/* All deltas, and what is merged at once. */
#define MAX_DELTAS 256

/* Deltas become a final run when they have so many facts; or when fresh ones alone are as large as a tick's final run. */
#define FINAL_FACTS (1024 * 1024)

/* They wait so long at most, us, and no longer than a volume is written to: retention drops final runs. */
#define WAITING_TIME (4 * USECS_PER_HOUR)

/* What this process has merged: the newest delta that was made of fresh ones, as older ones are not fresh. */
static int64 newest_merged[ORDERS];

/* When it last made a final run, or began to wait, by steady_ms(). */
static int64 waiting_since[ORDERS];

/* What there is of an order. */
typedef struct Deltas
{
	StoreRun   *runs;
	int			n;
	int			nfresh;			/* the last ones */
	int64		facts;
	int64		fresh_facts;
	bool		waited;			/* long enough */
} Deltas;

StoreRun *
others_get_deltas(FactOrder order, const StoreLeftOut *left_out, int *ndeltas)
{
	return store_get_deltas(order, FIRST_MINUTE, MAX_DELTAS, left_out, ndeltas);
}

static Deltas
get_deltas(const Planning *p, FactOrder order)
{
	Deltas		d = {0};
	int64		now = steady_ms();

	if (waiting_since[order] == 0)
		waiting_since[order] = now;
	d.runs = others_get_deltas(order, p->left_out, &d.n);
	for (int i = 0; i < d.n; i++)
	{
		bool		is_fresh = d.runs[i].run_id > newest_merged[order];

		d.facts += d.runs[i].facts;
		d.nfresh += is_fresh;
		d.fresh_facts += is_fresh ? d.runs[i].facts : 0;
	}
	d.waited = d.n > 0 && (now - waiting_since[order]) * 1000 > Min(WAITING_TIME, retention_volume_time(store_shelf(order)));
	return d;
}

/* Whether order ad has folded in all that there is. */
static bool
all_is_final(const Planning *p)
{
	int			ndeltas;

	(void) store_get_deltas(ORDER_AD, FIRST_MINUTE, 1, p->left_out, &ndeltas);
	return ndeltas == 0;
}

/* Whether they are due though no minute closes; what is open goes on to wait, whoever asks how often. */
static bool
are_due(const Planning *p, const Deltas *d)
{
	return d->nfresh > MAX_FRESH || d->n == MAX_DELTAS || d->waited || (p->everything && d->n > 0 && all_is_final(p));
}

/* Whether all become a final run. */
static bool
are_final(const Planning *p, const Deltas *d)
{
	return p->everything || d->facts >= FINAL_FACTS || d->fresh_facts >= LARGE_RUN_FACTS || d->n == MAX_DELTAS ||
		d->waited;
}

bool
others_are_due(const Planning *p)
{
	for (FactOrder order = ORDER_USER; order <= ORDER_LEDGER; order++)
	{
		Deltas		d = get_deltas(p, order);

		if (are_due(p, &d))
			return true;
	}
	return false;
}

static void
write_merged(const Facts *facts, void *arg)
{
	store_writer_add(arg, facts, 0, facts->n);
}

static void
become_one(FactOrder order, const StoreRun *runs, int nruns, bool is_delta)
{
	int64		run_id = store_new_run();
	StoreWriter *writer = store_writer_begin_as(order, is_delta, run_id);

	slices_merge(order, runs, nruns, write_merged, writer);
	store_writer_end(writer);
	if (order == ORDER_LEDGER)
		store_move_unpacked(runs, nruns, run_id);
	store_delete_runs(runs, nruns);
	if (is_delta)
		newest_merged[order] = run_id;
	else
		waiting_since[order] = steady_ms();
}

/* Merge what is due of an order; how many runs were. */
static int
merge_order(const Planning *p, FactOrder order, bool closed)
{
	Deltas		d = get_deltas(p, order);

	if (d.n == 0 || (!closed && !are_due(p, &d)))
		return 0;
	if (are_final(p, &d))
	{
		become_one(order, d.runs, d.n, false);
		return d.n;
	}
	if (d.nfresh < 2)
		return 0;
	become_one(order, d.runs + d.n - d.nfresh, d.nfresh, true);
	return d.nfresh;
}

int
others_merge(const Planning *p, bool closed)
{
	int			merged = 0;

	for (FactOrder order = ORDER_USER; order <= ORDER_LEDGER; order++)
		merged += merge_order(p, order, closed);
	return merged;
}
