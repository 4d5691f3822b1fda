/*-------------------------------------------------------------------------
 *
 * damaged.c
 *	  Runs that cannot be read, and are left out when others are merged.
 *
 * See damaged.h.  After a failure each run that a step would merge is read alone, each step in
 * a subtransaction.  Runs that cannot be read, or whose rows say what cannot be, are left out
 * for some minutes: deltas stay as they are, and the facts of a minute or an hour whose run is
 * damaged are carried along, merged by tiers alone.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/adclick.h"
#include "damaged.h"
#include "others.h"
#include "read/slices.h"

/* A run that could not be read is tried again after this, in ms. */
#define LEFT_OUT_TIME (5 * 60 * 1000)

static StoreLeftOut damaged;
static int64 damaged_at;		/* by steady_ms() */

const StoreLeftOut *
damaged_runs(void)
{
	return &damaged;
}

static void
pass_by(const Facts *facts, void *arg)
{
}

typedef struct Reading
{
	FactOrder	order;
	const StoreRun *run;
} Reading;

static void
read_through(void *arg)
{
	Reading    *reading = arg;

	slices_merge(reading->order, reading->run, 1, pass_by, NULL);
}

/* Whether what is tried can be done; what ends the round is thrown on. */
static bool
can_be_done(void (*inside) (void *arg), void *arg)
{
	ErrorData  *error = attempt(inside, arg);

	if (error && (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_OUT_OF_MEMORY))
		ThrowErrorData(error);
	return error == NULL;
}

static void
leave_out(const StoreRun *run)
{
	for (int i = 0; i < damaged.n; i++)
		if (damaged.run_ids[i] == run->run_id)
			return;
	damaged.run_ids = damaged.run_ids == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(int64)) :
		repalloc_huge(damaged.run_ids, sizeof(int64) * (damaged.n + 1));
	damaged.run_ids[damaged.n++] = run->run_id;
	damaged_at = steady_ms();
}

static void
leave_out_damaged(FactOrder order, const StoreRun *runs, int nruns)
{
	for (int i = 0; i < nruns; i++)
		if (!can_be_done(read_through, &(Reading) {order, &runs[i]}))
			leave_out(&runs[i]);
}

static void
leave_out_impossible(void)
{
	int			nruns;
	StoreRun   *runs = store_get_impossible(&nruns);

	for (int i = 0; i < nruns; i++)
		leave_out(&runs[i]);
}

/* Where they are looked for: in what a step would merge, or else among the deltas of an order. */
typedef struct Finding
{
	const Planning *planning;
	PlanStep	plan;
	FactOrder	order;
} Finding;

static void
find(void *arg)
{
	const Finding *finding = arg;

	if (finding->plan)
	{
		Merge	   *m = finding->plan(finding->planning);

		if (m)
			leave_out_damaged(m->order, m->runs, m->nruns);
	}
	else
	{
		int			nruns;
		StoreRun   *runs = others_get_deltas(finding->order, &damaged, &nruns);

		leave_out_damaged(finding->order, runs, nruns);
	}
}

void
damaged_find(const Planning *p)
{
	leave_out_impossible();
	for (int i = 0; i < PLAN_STEPS; i++)
		(void) can_be_done(find, &(Finding) {.planning = p, .plan = plan_steps[i]});
	for (FactOrder order = ORDER_USER; order <= ORDER_LEDGER; order++)
		(void) can_be_done(find, &(Finding) {.planning = p, .order = order});
}

bool
damaged_forget_in_time(void)
{
	if (damaged.n == 0 || steady_ms() - damaged_at <= LEFT_OUT_TIME)
		return false;
	damaged.n = 0;
	return true;
}
