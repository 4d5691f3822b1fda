/*-------------------------------------------------------------------------
 *
 * xacts.c
 *	  Sets of transactions.
 *
 * See xacts.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/compat.h"
#include "xacts.h"

/* The text form is the documented one: xmin:xmax:xip,xip,... */
Xacts *
xacts_from_datum(Datum snapshot)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(pg_snapshot_out, snapshot));
	Xacts	   *xacts = palloc0(sizeof(Xacts));
	char	   *at;
	int			room = 1;

	for (at = text; *at; at++)
		room += *at == ',';
	xacts->running = palloc(sizeof(uint64) * (room + 1));
	xacts->xmin = strtou64(text, &at, 10);
	xacts->xmax = strtou64(at + 1, &at, 10);
	while (*at && at[1])
		xacts->running[xacts->nrunning++] = strtou64(at + 1, &at, 10);
	pfree(text);
	return xacts;
}

Datum
xacts_to_datum(const Xacts *xacts)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, UINT64_FORMAT ":" UINT64_FORMAT ":", xacts->xmin, xacts->xmax);
	for (int i = 0; i < xacts->nrunning; i++)
		appendStringInfo(&text, "%s" UINT64_FORMAT, i ? "," : "", xacts->running[i]);
	return DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(text.data));
}

Xacts *
xacts_current(void)
{
	Xacts	   *xacts;
	uint64		own = U64FromFullTransactionId(GetTopFullTransactionIdIfAny());
	int			at;

	xacts = xacts_from_datum(DirectFunctionCall1(pg_current_snapshot, (Datum) 0));
	if (own == 0 || !xacts_see(xacts, own))
		return xacts;

	/* A snapshot does not list its own transaction among the running ones. */
	for (at = xacts->nrunning; at > 0 && xacts->running[at - 1] > own; at--)
		xacts->running[at] = xacts->running[at - 1];
	xacts->running[at] = own;
	xacts->nrunning++;
	xacts->xmin = Min(xacts->xmin, own);
	return xacts;
}

/* Index of the first running transaction at or above xid. */
static int
first_running(const Xacts *xacts, uint64 xid)
{
	int			low = 0;
	int			high = xacts->nrunning;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (xacts->running[middle] < xid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
xacts_see_running(const Xacts *xacts, uint64 xid)
{
	int			at = first_running(xacts, xid);

	return at == xacts->nrunning || xacts->running[at] != xid;
}

bool
xacts_see_all(const Xacts *xacts, uint64 first, uint64 last)
{
	int			at;

	if (last < xacts->xmin)
		return true;
	if (last >= xacts->xmax)
		return false;
	at = first_running(xacts, first);
	return at == xacts->nrunning || xacts->running[at] > last;
}

bool
xacts_see_any(const Xacts *xacts, uint64 first, uint64 last)
{
	if (first >= xacts->xmax)
		return false;
	last = Min(last, xacts->xmax - 1);
	if (last - first >= (uint64) xacts->nrunning)
		return true;			/* more than can be running */
	for (uint64 xid = first; xid <= last; xid++)
		if (xacts_see(xacts, xid))
			return true;
	return false;
}
