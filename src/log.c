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

#include "access/brin_internal.h"
#include "access/brin_tuple.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "adclick.h"
#include "click.h"
#include "compat.h"
#include "log.h"

/* Hours with a partition made ahead of time, after the current one. */
#define HOURS_AHEAD 3

/*
 * A partition is closed no sooner than this after its end, so that a clock set
 * back by less does not put rows into a closed one.
 */
#define CLOSING_DELAY (5 * USECS_PER_MINUTE)

typedef struct Partition
{
	Oid			relid;
	TimestampTz upper;
} Partition;

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
	bool		want_taken;		/* read what was taken, not what is unread */

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

/* One BRIN index on xact, opened. */
typedef struct XactIndex
{
	Relation	index;
	BrinDesc   *desc;
	BrinRevmap *map;
	BrinMemTuple *memory;
	BrinTuple  *tuple;
	Size		tuple_size;
	Buffer		buffer;
	BlockNumber pages_per_range;
} XactIndex;

static Oid
log_relid(void)
{
	return get_relname_relid("clicks", get_namespace_oid(ADCLICK_SCHEMA, false));
}

/* The partitions that are not closed, in order; the default partition last. */
static Partition *
open_partitions(TimestampTz open_from, int *count)
{
	Relation	parent = table_open(log_relid(), AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	Partition  *partitions = palloc(sizeof(Partition) * (desc->nparts + 1));
	int			n = 0;

	for (int i = 0; bounds && i < bounds->ndatums; i++)
	{
		int			index = bounds->indexes[i];	/* of the one that ends here */
		bool		finite = bounds->kind[i][0] == PARTITION_RANGE_DATUM_VALUE;
		TimestampTz upper = finite ? DatumGetTimestampTz(bounds->datums[i][0]) : DT_NOEND - 1;

		if (index >= 0 && upper > open_from)
			partitions[n++] = (Partition) {desc->oids[index], upper};
	}
	if (bounds && partition_bound_has_default(bounds))
		partitions[n++] = (Partition) {desc->oids[bounds->default_index], DT_NOEND};
	table_close(parent, NoLock);
	*count = n;
	return partitions;
}

static Oid
find_xact_index(Relation relation)
{
	List	   *indexes = RelationGetIndexList(relation);
	Oid			found = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_rel->relam == BRIN_AM_OID && index->rd_index->indisvalid &&
			index->rd_index->indnatts == 1 &&
			index->rd_index->indkey.values[0] == CLICK_XACT)
			found = RelationGetRelid(index);
		index_close(index, AccessShareLock);
		if (OidIsValid(found))
			break;
	}
	list_free(indexes);
	return found;
}

static XactIndex *
xact_index_open(Relation relation)
{
	Oid			relid = find_xact_index(relation);
	XactIndex  *xi;

	if (!OidIsValid(relid))
		return NULL;
	xi = palloc0(sizeof(XactIndex));
	xi->index = index_open(relid, AccessShareLock);
	xi->desc = brin_build_desc(xi->index);
	xi->map = compat_brin_revmap(xi->index, &xi->pages_per_range);
	xi->memory = brin_new_memtuple(xi->desc);
	xi->buffer = InvalidBuffer;
	return xi;
}

static void
xact_index_close(XactIndex *xi)
{
	if (BufferIsValid(xi->buffer))
		ReleaseBuffer(xi->buffer);
	brinRevmapTerminate(xi->map);
	brin_free_desc(xi->desc);
	index_close(xi->index, AccessShareLock);
	pfree(xi);
}

/*
 * The smallest and largest transaction in the range that begins at this block;
 * false if there is no summary to rely on.
 */
static bool
xact_index_range(XactIndex *xi, Snapshot snapshot, BlockNumber block, uint64 *low, uint64 *high)
{
	OffsetNumber offset;
	Size		size;
	BrinTuple  *stored;
	BrinValues *values;

	stored = compat_brin_tuple(xi->map, block, &xi->buffer, &offset, &size,
							   BUFFER_LOCK_SHARE, snapshot);
	if (stored == NULL)
		return false;
	xi->tuple = brin_copy_tuple(stored, size, xi->tuple, &xi->tuple_size);
	LockBuffer(xi->buffer, BUFFER_LOCK_UNLOCK);

	xi->memory = brin_deform_tuple(xi->desc, xi->tuple, xi->memory);
	values = &xi->memory->bt_columns[0];
	if (xi->memory->bt_placeholder || values->bv_allnulls || values->bv_hasnulls)
		return false;
	*low = U64FromFullTransactionId(DatumGetFullTransactionId(values->bv_values[0]));
	*high = U64FromFullTransactionId(DatumGetFullTransactionId(values->bv_values[1]));
	return true;
}

/* Whether a range of blocks can be left out. */
static bool
range_is_read(LogReader *reader, XactIndex *xi, LogPlace last)
{
	const LogProgress *progress = reader->progress;
	uint64		low,
				high;

	if (!xact_index_range(xi, reader->snapshot,
						  last.block - last.block % xi->pages_per_range, &low, &high))
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
		BlockNumber next = (block / xi->pages_per_range + 1) * xi->pages_per_range;
		BlockNumber last = Min(next, nblocks) - 1;

		CHECK_FOR_INTERRUPTS();
		if (!range_is_read(reader, xi, (LogPlace) {upper, last}))
			add_span(reader, block, last);
		block = last + 1;
	}
	xact_index_close(xi);
}

static void
check_columns(Relation relation)
{
	TupleDesc	desc = RelationGetDescr(relation);
	static const char *const names[CLICK_COLUMNS] = {
		"click_id", "ad_id", "clicked_at", "user_id", "xact",
		"received_at", "ip", "country", "region", "device"
	};

	for (int i = 0; i < CLICK_COLUMNS; i++)
		if (i >= desc->natts || strcmp(NameStr(TupleDescAttr(desc, i)->attname), names[i]) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					 errmsg("partition \"%s\" of the click log has other columns than the log",
							RelationGetRelationName(relation)),
					 errdetail("Column %d should be \"%s\".", i + 1, names[i]),
					 errhint("Detach the partition, and copy its rows into adclick.clicks.")));
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
		plan_spans(reader);
		if (reader->nspans > 0)
		{
			check_columns(reader->relation);
			return true;
		}
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

	if (reader->want_taken)
		return taken;
	return !taken && (reader->upto == NULL || xacts_see(reader->upto, xid));
}

static LogReader *
make_reader(const LogProgress *progress, Snapshot snapshot)
{
	LogReader  *reader = palloc0(sizeof(LogReader));

	reader->progress = progress;
	reader->snapshot = snapshot;
	reader->spans = palloc(sizeof(Span));
	reader->at_partition = -1;
	return reader;
}

LogReader *
log_begin(const LogProgress *progress, Snapshot snapshot, const Xacts *upto)
{
	LogReader  *reader = make_reader(progress, snapshot);

	reader->upto = upto;
	reader->ended = upto;
	if (upto == NULL && !RecoveryInProgress() && !FullTransactionIdIsValid(GetTopFullTransactionIdIfAny()))
		reader->ended = xacts_current();
	reader->partitions = open_partitions(progress->open_from, &reader->npartitions);
	return reader;
}

LogReader *
log_begin_taken(const LogProgress *progress, Snapshot snapshot, Oid partition,
				Oid filenode, BlockNumber first, BlockNumber last)
{
	LogReader  *reader = make_reader(progress, snapshot);
	int			count;
	Partition  *partitions;
	BlockNumber nblocks;

	reader->want_taken = true;
	partitions = open_partitions(DT_NOBEGIN, &count);
	for (int i = 0; i < count; i++)
		if (partitions[i].relid == partition)
		{
			reader->partitions = &partitions[i];
			reader->npartitions = 1;
		}
	if (reader->npartitions == 0)
		return reader;
	reader->relation = try_relation_open(partition, AccessShareLock);
	if (reader->relation == NULL)
		return reader;
	check_columns(reader->relation);
	reader->at_partition = 0;
	nblocks = RelationGetNumberOfBlocks(reader->relation);
	if (log_filenode(partition) != filenode)
	{
		first = 0;
		last = nblocks;
	}
	if (first < nblocks)
		add_span(reader, first, Min(last, nblocks - 1));
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

Oid
log_filenode(Oid partition)
{
	return DatumGetObjectId(DirectFunctionCall1(pg_relation_filenode,
												ObjectIdGetDatum(partition)));
}

TupleTableSlot *
log_make_slot(void)
{
	Relation	parent = table_open(log_relid(), AccessShareLock);
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
 * A row is put into a partition by its arrival.  Its transaction had its id by
 * then (the default of xact is evaluated first), so once every transaction that
 * had an id some time after the partition's end has ended and been taken, no
 * more rows can come.
 */
void
log_advance(LogProgress *progress, TimestampTz now)
{
	progress->taken = progress->taking;
	progress->taking = NULL;
	if (progress->closing_xmax == 0)
	{
		TimestampTz hour = floor_div(now - CLOSING_DELAY, USECS_PER_HOUR) * USECS_PER_HOUR;

		if (hour > progress->open_from)
		{
			progress->closing_at = hour;
			progress->closing_xmax = progress->taken->xmax;
		}
	}
	else if (progress->taken->xmin >= progress->closing_xmax)
	{
		progress->open_from = progress->closing_at;
		progress->closing_xmax = 0;
	}
}

PG_FUNCTION_INFO_V1(adclick_xid8_add_value);

/*
 * Widen a BRIN summary: brin_minmax_add_value for xid8, without a look-up and a
 * call of the comparison for each row, which is a third of summarizing.
 */
Datum
adclick_xid8_add_value(PG_FUNCTION_ARGS)
{
	BrinValues *summary = (BrinValues *) PG_GETARG_POINTER(1);
	Datum		value = PG_GETARG_DATUM(2);
	uint64		xid = U64FromFullTransactionId(DatumGetFullTransactionId(value));

	if (summary->bv_allnulls)
	{
		summary->bv_values[0] = value;
		summary->bv_values[1] = value;
		summary->bv_allnulls = false;
		PG_RETURN_BOOL(true);
	}
	if (xid < U64FromFullTransactionId(DatumGetFullTransactionId(summary->bv_values[0])))
		summary->bv_values[0] = value;
	else if (xid > U64FromFullTransactionId(DatumGetFullTransactionId(summary->bv_values[1])))
		summary->bv_values[1] = value;
	else
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(true);
}

static void
summarize_partition(Relation relation)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(relation);
	XactIndex  *xi = xact_index_open(relation);
	BlockNumber pages;
	Oid			index;
	uint64		low,
				high;
	int			nranges = 0;
	BlockNumber *ranges;

	if (xi == NULL)
		return;
	pages = xi->pages_per_range;
	index = RelationGetRelid(xi->index);
	ranges = palloc(sizeof(BlockNumber) * (nblocks / pages + 1));
	for (BlockNumber block = 0; block + pages <= nblocks; block += pages)
		if (!xact_index_range(xi, GetActiveSnapshot(), block, &low, &high))
			ranges[nranges++] = block;
	xact_index_close(xi);

	for (int i = 0; i < nranges; i++)
	{
		CHECK_FOR_INTERRUPTS();
		DirectFunctionCall2(brin_summarize_range, ObjectIdGetDatum(index),
							Int64GetDatum(ranges[i]));
	}
	pfree(ranges);
}

void
log_summarize(const LogProgress *progress)
{
	int			count;
	Partition  *partitions = open_partitions(progress->open_from, &count);

	for (int i = 0; i < count; i++)
	{
		Relation	relation;

		/* The lock brin_summarize_range takes; whoever has it comes first. */
		if (!ConditionalLockRelationOid(partitions[i].relid, ShareUpdateExclusiveLock))
			continue;
		relation = try_relation_open(partitions[i].relid, NoLock);
		if (relation != NULL)
		{
			summarize_partition(relation);
			relation_close(relation, NoLock);
		}
		UnlockRelationOid(partitions[i].relid, ShareUpdateExclusiveLock);
	}
	pfree(partitions);
}

/*
 * Attach with a lock no writer waits for; the default partition is locked, so
 * give up at once if someone uses it, and try again later.
 */
static bool
make_partition(TimestampTz from)
{
	char		name[NAMEDATALEN];
	pg_time_t	unix_time = timestamptz_to_time_t(from);
	struct pg_tm *tm = pg_gmtime(&unix_time);
	Oid			internal = get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false);
	char	   *statements;

	snprintf(name, sizeof(name), "clicks_%04d%02d%02d%02d",
			 tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday, tm->tm_hour);
	if (OidIsValid(get_relname_relid(name, internal)))
		return false;

	statements = psprintf("CREATE TABLE adclick_internal.%1$s "
						  "(LIKE adclick.clicks INCLUDING DEFAULTS) "
						  "WITH (autovacuum_vacuum_insert_threshold = -1); "
						  "COMMENT ON TABLE adclick_internal.%1$s IS 'one hour of the click log'; "
						  "CREATE TRIGGER append_only BEFORE TRUNCATE ON adclick_internal.%1$s "
						  "FOR EACH STATEMENT EXECUTE FUNCTION adclick_internal.refuse_change(); "
						  "ALTER TABLE adclick.clicks ATTACH PARTITION adclick_internal.%1$s "
						  "FOR VALUES FROM (to_timestamp(%2$lld)) TO (to_timestamp(%3$lld))",
						  name, (long long) unix_time, (long long) unix_time + SECS_PER_HOUR);
	SPI_connect();
	if (SPI_execute(statements, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not make partition \"%s\"", name);
	SPI_finish();
	return true;
}

int
log_make_partitions(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz hour = floor_div(now, USECS_PER_HOUR) * USECS_PER_HOUR;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int			made = 0;

	for (int i = 0; i <= HOURS_AHEAD; i++)
	{
		int			level = NewGUCNestLevel();

		/* One that cannot be made now must not keep the others from it. */
		BeginInternalSubTransaction(NULL);
		PG_TRY();
		{
			(void) set_config_option("lock_timeout", "100ms", PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, 0, false);
			(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_SAVE, true, 0, false);
			made += make_partition(hour + i * USECS_PER_HOUR);
			ReleaseCurrentSubTransaction();
		}
		PG_CATCH();
		{
			ErrorData  *error;

			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			FlushErrorState();
			RollbackAndReleaseCurrentSubTransaction();

			/*
			 * Expected: someone reads the default partition (we try again),
			 * or it holds rows of that hour (it goes on to take them).
			 */
			if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
				error->sqlerrcode != ERRCODE_CHECK_VIOLATION)
				ThrowErrorData(error);
			FreeErrorData(error);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		AtEOXact_GUC(true, level);
	}
	return made;
}
