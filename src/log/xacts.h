/*-------------------------------------------------------------------------
 *
 * xacts.h
 *	  Sets of transactions: pg_snapshot in a form C can test quickly.
 *
 * The click log is read by pairs of these: what one sees and the other does
 * not.  Transaction ids are 64 bits wide (xid8) and never wrap around.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_XACTS_H
#define ADCLICK_XACTS_H

#include "postgres.h"

typedef struct Xacts
{
	uint64		xmin;			/* everything below has ended */
	uint64		xmax;			/* everything from here on has not begun */
	int			nrunning;
	uint64	   *running;		/* still running between the two, ascending */
} Xacts;

/* From and to a datum of type pg_snapshot; palloc'd. */
extern Xacts *xacts_from_datum(Datum snapshot);
extern Datum xacts_to_datum(const Xacts *xacts);

/*
 * The transactions whose effects the active snapshot sees, without the calling
 * transaction: what it wrote may still be rolled back.
 */
extern Xacts *xacts_current(void);

extern bool xacts_see_running(const Xacts *xacts, uint64 xid);

/* Whether the set has the transaction. */
static inline bool
xacts_see(const Xacts *xacts, uint64 xid)
{
	if (xid < xacts->xmin)
		return true;
	if (xid >= xacts->xmax)
		return false;
	return xacts_see_running(xacts, xid);
}

/* Whether the set has every transaction from first to last. */
extern bool xacts_see_all(const Xacts *xacts, uint64 first, uint64 last);

/* Whether it has any of them; may say yes wrongly if there are very many. */
extern bool xacts_see_any(const Xacts *xacts, uint64 first, uint64 last);

#endif							/* ADCLICK_XACTS_H */
