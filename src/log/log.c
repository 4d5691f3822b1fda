/*-------------------------------------------------------------------------
 *
 * log.c
 *	  Finding and reading the unread rows of the click log.
 *
 * Which rows are unread is decided by transactions (xacts.h), never by a cursor
 * over ids or times, so nothing a long or late transaction commits is skipped.
 * Where they can be is told by the BRIN index on xact: a range of blocks is left
 * out only if its summary says that every transaction in it has been taken.  A
 * range without a summary is read.
 *
 * The scan goes to the index and the table directly: which way to take must not
 * depend on the planner, and the row's columns are used where they lie.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "click.h"
#include "log.h"
#include "partitions.h"
#include "xact_index.h"

/*
 * A partition is closed no sooner than this after its end, so that a clock set
 * back by less does not put rows into a closed one.
 */
#define CLOSING_DELAY (5 * USECS_PER_MINUTE)

/* A run of blocks to read, both ends included. */
typedef struct Span
{
	BlockNumber first;
	BlockNumber last;
} Span;

struct LogReader
{
	const LogProgress *progress;
	Snapshot	snapshot;
	const Xacts *upto;
	const Xacts *ended;			/* those that can have visible rows; NULL: unknown */

	int			npartitions;
	Partition  *partitions;
	int			at_partition;	/* the one being read */
	Relation	relation;		/* open while its spans are read */
	int			nspans;
	Span	   *spans;
	int			next_span;
	TableScanDesc scan;
	TupleTableSlot *slot;
};

/* Whether a range of blocks can be left out. */
static bool
range_is_read(LogReader *reader, XactIndex *xi, LogPlace last)
{
	const LogProgress *progress = reader->progress;
	uint64		low,
				high;

	if (!xact_index_range(xi, reader->snapshot,
						  last.block - last.block % xact_index_pages_per_range(xi), &low, &high))
		return false;
	if (reader->ended && !xacts_see_any(reader->ended, low, high))
		return true;			/* all of a transaction that still runs */
	return xacts_see_all(progress->taken, low, high) ||
		(progress->taking && log_place_before(last, progress->place) &&
		 xacts_see_all(progress->taking, low, high));
}

static void
add_span(LogReader *reader, BlockNumber first, BlockNumber last)
{
	if (reader->nspans > 0 && reader->spans[reader->nspans - 1].last + 1 == first)
		reader->spans[reader->nspans - 1].last = last;
	else
	{
		if ((reader->nspans & (reader->nspans - 1)) == 0)
			reader->spans = repalloc(reader->spans,
									 sizeof(Span) * Max(1, 2 * reader->nspans));
		reader->spans[reader->nspans++] = (Span) {first, last};
	}
}

/* Find the spans of blocks of the open partition that can hold unread rows. */
static void
plan_spans(LogReader *reader)
{
	TimestampTz upper = reader->partitions[reader->at_partition].upper;
	BlockNumber nblocks = RelationGetNumberOfBlocks(reader->relation);
	BlockNumber block = 0;
	XactIndex  *xi;

	reader->nspans = 0;
	reader->next_span = 0;

	/* A tick of a range taken in several goes on where the last one ended. */
	if (reader->upto && reader->progress->taking && upper <= reader->progress->place.partition)
		block = upper == reader->progress->place.partition ?
			reader->progress->place.block : nblocks;
	if (block >= nblocks)
		return;

	xi = xact_index_open(reader->relation);
	if (xi == NULL)
	{
		add_span(reader, block, nblocks - 1);
		return;
	}
	while (block < nblocks)
	{
		BlockNumber next = (block / xact_index_pages_per_range(xi) + 1) * xact_index_pages_per_range(xi);
		BlockNumber last = Min(next, nblocks) - 1;

		CHECK_FOR_INTERRUPTS();
		if (!range_is_read(reader, xi, (LogPlace) {upper, last}))
			add_span(reader, block, last);
		block = last + 1;
	}
	xact_index_close(xi);
}

static void
open_span(LogReader *reader)
{
	Span		span = reader->spans[reader->next_span++];
	ItemPointerData first,
				last;

	ItemPointerSet(&first, span.first, FirstOffsetNumber);
	ItemPointerSet(&last, span.last, MaxOffsetNumber);
	if (reader->slot == NULL)
		reader->slot = table_slot_create(reader->relation, NULL);
	if (reader->scan == NULL)
		reader->scan = table_beginscan_tidrange(reader->relation, reader->snapshot,
												&first, &last);
	else
		table_rescan_tidrange(reader->scan, &first, &last);
}

static void
close_partition(LogReader *reader)
{
	if (reader->scan)
		table_endscan(reader->scan);
	if (reader->slot)
		ExecDropSingleTupleTableSlot(reader->slot);
	reader->scan = NULL;
	reader->slot = NULL;
	if (reader->relation)
		table_close(reader->relation, NoLock);
	reader->relation = NULL;
}

/* Open the next partition that has something to read; false at the end. */
static bool
open_partition(LogReader *reader)
{
	while (++reader->at_partition < reader->npartitions)
	{
		reader->relation = try_relation_open(reader->partitions[reader->at_partition].relid,
											 AccessShareLock);
		if (reader->relation == NULL)
			continue;
		/* of a serializable transaction: clicks that others insert from here on are a conflict */
		PredicateLockRelation(reader->relation, reader->snapshot);
		definitions_check_log(reader->relation);
		plan_spans(reader);
		if (reader->nspans > 0)
			return true;
		close_partition(reader);
	}
	return false;
}

static bool
is_wanted(const LogReader *reader, uint64 xid)
{
	const LogProgress *progress = reader->progress;
	bool		taken = xacts_see(progress->taken, xid) ||
		(progress->taking && xacts_see(progress->taking, xid) &&
		 log_place_before(log_place(reader), progress->place));

	return !taken && (reader->upto == NULL || xacts_see(reader->upto, xid));
}

/* Partitions that end by then can be closed.  A clock that was ahead may have closed later ones. */
static TimestampTz
closing_hour(TimestampTz now)
{
	return floor_div(now - CLOSING_DELAY, USECS_PER_HOUR) * USECS_PER_HOUR;
}

LogReader *
log_begin(const LogProgress *progress, Snapshot snapshot, const Xacts *upto)
{
	LogReader  *reader = palloc0(sizeof(LogReader));

	reader->progress = progress;
	reader->snapshot = snapshot;
	reader->spans = palloc(sizeof(Span));
	reader->at_partition = -1;
	reader->upto = upto;
	reader->ended = upto;
	/* so are clicks that are there, of transactions still running: they must be met */
	if (upto == NULL && !RecoveryInProgress() && !IsolationIsSerializable() &&
		!FullTransactionIdIsValid(GetTopFullTransactionIdIfAny()))
		reader->ended = xacts_current();
	reader->partitions = partitions_after(Min(progress->open_from, closing_hour(GetCurrentTimestamp())),
										  &reader->npartitions);
	return reader;
}

TupleTableSlot *
log_next(LogReader *reader)
{
	for (;;)
	{
		if (reader->scan)
		{
			while (table_scan_getnextslot_tidrange(reader->scan, ForwardScanDirection,
												   reader->slot))
			{
				slot_getsomeattrs(reader->slot, CLICK_XACT);
				if (is_wanted(reader, U64FromFullTransactionId(
								DatumGetFullTransactionId(reader->slot->tts_values[CLICK_XACT - 1]))))
					return reader->slot;
			}
		}
		if (reader->relation && reader->next_span < reader->nspans)
		{
			open_span(reader);
			continue;
		}
		close_partition(reader);
		if (!open_partition(reader))
			return NULL;
	}
}

LogPlace
log_place(const LogReader *reader)
{
	return (LogPlace)
	{
		reader->partitions[reader->at_partition].upper,
			ItemPointerGetBlockNumber(&reader->slot->tts_tid)
	};
}

Oid
log_partition(const LogReader *reader)
{
	return reader->partitions[reader->at_partition].relid;
}

void
log_end(LogReader *reader)
{
	close_partition(reader);
	pfree(reader->spans);
	pfree(reader);
}

TupleTableSlot *
log_make_slot(void)
{
	Relation	parent = table_open(partitions_parent(), AccessShareLock);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(parent)),
													&TTSOpsBufferHeapTuple);

	table_close(parent, NoLock);
	return slot;
}

void
log_fetch(Oid partition, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	Relation	relation = table_open(partition, AccessShareLock);

	if (!table_tuple_fetch_row_version(relation, tid, snapshot, slot))
		elog(ERROR, "click (%u,%u) of partition \"%s\" is gone",
			 ItemPointerGetBlockNumber(tid), ItemPointerGetOffsetNumber(tid),
			 RelationGetRelationName(relation));
	slot_getallattrs(slot);
	table_close(relation, NoLock);
}

/*
 * A row is put into a partition by its arrival, and its transaction had its id by
 * then (adclick_arrival_time sees to that).  So when every transaction that had an id
 * some time after the partition's end has ended and been taken, no more rows can
 * come; unless the clock is set back.
 */
void
log_advance(LogProgress *progress, TimestampTz now)
{
	TimestampTz hour = closing_hour(now);

	progress->taken = progress->taking;
	progress->taking = NULL;
	if (hour < progress->open_from)
	{
		progress->open_from = hour;
		progress->closing_xmax = 0;
	}
	else if (progress->closing_xmax == 0 && hour > progress->open_from)
	{
		progress->closing_at = hour;
		progress->closing_xmax = U64FromFullTransactionId(ReadNextFullTransactionId());
	}
	else if (progress->closing_xmax != 0 && progress->taken->xmin >= progress->closing_xmax)
	{
		progress->open_from = progress->closing_at;
		progress->closing_xmax = 0;
	}
}
