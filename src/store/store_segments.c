/*-------------------------------------------------------------------------
 *
 * store_segments.c
 *	  The segments of runs: writing and reading them.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/definitions.h"
#include "core/segment.h"
#include "store.h"
#include "store_segments.h"
#include "store_sql.h"

#define WRITER_CAPACITY (2 * SEGMENT_MAX_FACTS)

/* Two rows fit into a page. */
StaticAssertDecl(SizeOfPageHeaderData +
				 2 * (sizeof(ItemIdData) +
					  MAXALIGN(MAXALIGN(SizeofHeapTupleHeader) + 2 * sizeof(int64) + sizeof(int32) +
							   VARHDRSZ + SEGMENT_MAX_BYTES + TRAILER_BYTES)) <= BLCKSZ,
				 "two segments should fit into a page");

static pg_crc32c
checksum(const Place *place, const uint8 *data, size_t length)
{
	uint64		numbers[] = {
		pg_hton64((uint64) place->run_id), pg_hton64((uint64) place->number),
		pg_hton64(place->first_key), pg_hton64(place->next_key)
	};
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, length);
	COMP_CRC32C(crc, numbers, sizeof(numbers));
	FIN_CRC32C(crc);
	return crc;
}

void
segment_put_trailer(const Place *place, struct varlena *segment, size_t length)
{
	uint8	   *data = (uint8 *) VARDATA(segment);
	uint64		next_key = pg_hton64(place->next_key);
	pg_crc32c	crc = pg_hton32(checksum(place, data, length));

	memcpy(data + length, &next_key, sizeof(next_key));
	memcpy(data + length + sizeof(next_key), &crc, sizeof(crc));
	SET_VARSIZE(segment, VARHDRSZ + length + TRAILER_BYTES);
}

/* Read what is behind the bytes of a segment; false if its checksum is another. */
static bool
read_trailer(Place *place, const uint8 *data, size_t length)
{
	pg_crc32c	crc;

	memcpy(&place->next_key, data + length, sizeof(place->next_key));
	place->next_key = pg_ntoh64(place->next_key);
	memcpy(&crc, data + length + sizeof(place->next_key), sizeof(crc));
	return EQ_CRC32C(pg_ntoh32(crc), checksum(place, data, length));
}

struct StoreWriter
{
	MemoryContext context;		/* in which it was begun: batches may come in shorter-lived ones */
	StoreRun	run;
	bool		of_hour;
	bool		opened;
	int			minute_column;
	struct minute_facts_hash *minutes;	/* not of orders user and ip */
	Facts		pending;		/* not yet in a segment */
	size_t		taken;			/* facts of the last segment */
	SqlInserter inserter;		/* open from the first segment on */
	struct varlena *data;
};

/* How many facts and clicks a run has of each minute. */
typedef struct MinuteFacts
{
	int64		minute;
	int64		facts;
	int64		clicks;
	char		status;
} MinuteFacts;

#define SH_PREFIX minute_facts
#define SH_ELEMENT_TYPE MinuteFacts
#define SH_KEY_TYPE int64
#define SH_KEY minute
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

StoreWriter *
store_writer_begin_as(FactOrder order, bool is_delta, int64 run_id)
{
	StoreWriter *writer = palloc0(sizeof(StoreWriter));
	int			ncolumns = order_columns[order];

	writer->context = CurrentMemoryContext;
	writer->run.order = order;
	writer->run.is_delta = is_delta;
	writer->run.run_id = run_id;
	writer->run.volume = NO_VOLUME;
	writer->run.first_minute = PG_INT64_MAX;
	writer->run.last_minute = PG_INT64_MIN;
	writer->minute_column = store_minute_column(order);
	facts_init(&writer->pending, ncolumns, WRITER_CAPACITY,
			   palloc(facts_memory(ncolumns, WRITER_CAPACITY)));
	writer->data = palloc(SEGMENT_DATUM_BYTES);
	if (order != ORDER_USER && order != ORDER_IP)
		writer->minutes = minute_facts_create(CurrentMemoryContext, 16, NULL);
	return writer;
}

StoreWriter *
store_writer_begin(FactOrder order, bool is_delta)
{
	return store_writer_begin_as(order, is_delta, 0);
}

StoreWriter *
store_writer_begin_final(StoreGrain grain)
{
	StoreWriter *writer = store_writer_begin(grain == GRAIN_DAY ? ORDER_DAY : ORDER_AD, false);

	writer->of_hour = grain == GRAIN_HOUR;
	return writer;
}

StoreWriter *
store_writer_begin_restored(int64 run_id)
{
	StoreWriter *writer = store_writer_begin_as(ORDER_LEDGER, false, run_id);

	writer->run.volume = STORE_RESTORED;
	return writer;
}

StoreWriter *
store_writer_begin_instead(const StoreRun *run, int64 run_id)
{
	StoreWriter *writer = store_writer_begin_as(run->order, run->is_delta, run_id);

	writer->run.volume = run->volume;
	return writer;
}

static Relation
open_table(StoreTable table, LOCKMODE mode)
{
	definitions_check();
	if (table >= 0)
		return definitions_open_volume(table, mode);
	return table_open(get_relname_relid(store_table_name(table), get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false)), mode);
}

/* The run has a fact: it gets an id, and its table is opened. */
static void
writer_open(StoreWriter *writer)
{
	MemoryContext outer = MemoryContextSwitchTo(writer->context);
	StoreRun   *run = &writer->run;
	TimestampTz opened_at;

	if (run->run_id == 0)
		run->run_id = store_new_run();
	if (store_has_shelf(run->order) && !run->is_delta && run->volume == NO_VOLUME)
		run->volume = store_current_volume(store_shelf(run->order), &opened_at);
	sql_insert_into(&writer->inserter, open_table(store_table(run), RowExclusiveLock));
	writer->opened = true;
	MemoryContextSwitchTo(outer);
}

static void
write_segment(StoreWriter *writer, uint64 first_key, uint64 next_key, size_t size)
{
	TupleTableSlot *slot = writer->inserter.slot;
	Place		place = {writer->run.run_id, writer->run.segments++, first_key, next_key};

	segment_put_trailer(&place, writer->data, size);
	memset(slot->tts_isnull, false, sizeof(bool) * SEGMENT_DATA);
	slot->tts_values[SEGMENT_RUN_ID - 1] = Int64GetDatum(place.run_id);
	slot->tts_values[SEGMENT_FIRST_KEY - 1] = Int64GetDatum(facts_to_int64(first_key));
	slot->tts_values[SEGMENT_NUMBER - 1] = Int32GetDatum((int32) place.number);
	slot->tts_values[SEGMENT_DATA - 1] = PointerGetDatum(writer->data);
	sql_insert_put(&writer->inserter);
}

/*
 * Write segments until no more than "keep" facts are pending: 0 at the end of the
 * run, before that so many that the first of the next segment is among them.
 */
static void
writer_flush(StoreWriter *writer, size_t keep)
{
	Facts	   *pending = &writer->pending;
	size_t		start = 0;

	if (!writer->opened && pending->n > 0)
		writer_open(writer);
	while (pending->n - start > keep)
	{
		size_t		size = segment_encode(pending, start, writer->taken,
										  (uint8_t *) VARDATA(writer->data), &writer->taken);
		size_t		next = start + writer->taken;

		CHECK_FOR_INTERRUPTS();
		write_segment(writer, pending->key[0][start],
					  next < pending->n ? pending->key[0][next] : PG_UINT64_MAX, size);
		start = next;
	}
	facts_drop(pending, start);
}

static MinuteFacts *
count_minute(StoreWriter *writer, int64 minute)
{
	bool		found;
	MinuteFacts *entry = minute_facts_insert(writer->minutes, minute, &found);

	if (!found)
		entry->facts = entry->clicks = 0;
	return entry;
}

/* The least and the greatest of some values. */
static void
find_bounds(const uint64 *values, size_t n, uint64 *first, uint64 *last)
{
	*first = PG_UINT64_MAX;
	*last = 0;
	for (size_t i = 0; i < n; i++)
	{
		*first = Min(*first, values[i]);
		*last = Max(*last, values[i]);
	}
}

static void
note_bounds(StoreRun *run, int64 first_minute, int64 last_minute)
{
	run->first_minute = Min(run->first_minute, first_minute);
	run->last_minute = Max(run->last_minute, last_minute);
}

/* Note which minutes the facts are of: but for orders user and ip, how many of each. */
static void
note_minutes(StoreWriter *writer, const uint64 *values, const uint64 *clicks, size_t n)
{
	StoreRun   *run = &writer->run;
	uint64		first;
	uint64		last;
	MinuteFacts *entry = NULL;

	find_bounds(values, n, &first, &last);
	note_bounds(run, store_minute(run->order, first), store_minute(run->order, last));
	for (size_t i = 0; writer->minutes && i < n; i++)
	{
		int64		minute = store_minute(run->order, values[i]);

		if (entry == NULL || entry->minute != minute)
			entry = count_minute(writer, minute);
		entry->facts++;
		entry->clicks += clicks[i];
	}
}

/* A bucket can begin in another minute than its click was clicked in. */
static void
note_times(StoreRun *run, const uint64 *clicked_at, size_t n)
{
	uint64		first;
	uint64		last;

	find_bounds(clicked_at, n, &first, &last);
	note_bounds(run, minute_of(facts_to_int64(first)), minute_of(facts_to_int64(last)));
}

void
store_writer_add(StoreWriter *writer, const Facts *facts, size_t start, size_t n)
{
	Facts	   *pending = &writer->pending;

	while (n > 0)
	{
		size_t		part;

		if (pending->n == pending->capacity)
			writer_flush(writer, SEGMENT_MAX_FACTS);
		part = Min(n, pending->capacity - pending->n);
		facts_append(pending, facts, start, part);
		note_minutes(writer, facts->key[writer->minute_column] + start, facts->count + start, part);
		if (writer->run.order == ORDER_LEDGER)
			note_times(&writer->run, facts->key[order_column(ORDER_LEDGER, ROLE_CLICKED_AT)] + start, part);
		for (size_t i = start; i < start + part; i++)
			writer->run.clicks += facts->count[i];
		writer->run.facts += part;
		start += part;
		n -= part;
	}
}

/* The arrays "minutes", "minute_facts" and "minute_clicks" of a run. */
static void
minute_arrays(StoreWriter *writer, Datum arrays[3])
{
	int			n = writer->minutes->members;
	int64	   *times = palloc(sizeof(int64) * n);
	int64	   *facts = palloc(sizeof(int64) * n);
	int64	   *clicks = palloc(sizeof(int64) * n);
	minute_facts_iterator iterator;
	MinuteFacts *entry;

	minute_facts_start_iterate(writer->minutes, &iterator);
	for (int i = 0; (entry = minute_facts_iterate(writer->minutes, &iterator)) != NULL; i++)
	{
		times[i] = entry->minute * USECS_PER_MINUTE;
		facts[i] = entry->facts;
		clicks[i] = entry->clicks;
	}
	arrays[0] = sql_array(TIMESTAMPTZOID, times, n);
	arrays[1] = sql_array(INT8OID, facts, n);
	arrays[2] = sql_array(INT8OID, clicks, n);
}

void
store_writer_end(StoreWriter *writer)
{
	StoreRun   *run = &writer->run;
	bool		is_restored = run->volume == STORE_RESTORED;

	writer_flush(writer, 0);
	if (writer->of_hour && run->facts > 0)
	{
		run->first_minute = hour_of(run->first_minute);
		run->last_minute = run->first_minute + MINS_PER_HOUR - 1;
	}
	if (run->facts > 0)
	{
		Datum		values[12] = {
			Int64GetDatum(run->run_id), Int32GetDatum(is_restored ? SORT_ORDER_RESTORED : run->order), BoolGetDatum(run->is_delta),
			sql_minute(run->first_minute), sql_minute(run->last_minute),
			Int32GetDatum(run->segments), Int64GetDatum(run->facts), Int64GetDatum(run->clicks)
		};

		sql_insert_end(&writer->inserter);
		if (writer->minutes)
			minute_arrays(writer, &values[8]);
		values[11] = Int32GetDatum(is_restored ? NO_VOLUME : run->volume);
		sql_write(ADD_RUN, values, writer->minutes ? NULL : "        nnn ");
	}
	if (writer->minutes)
		minute_facts_destroy(writer->minutes);
	pfree(writer->pending.key[0]);
	pfree(writer->data);
	pfree(writer);
}

/* A segment in the index's order: valid until the next one is read, but for its place. */
typedef struct StoredSegment
{
	Place		place;			/* number NO_SEGMENT: none has been read */
	const uint8 *data;
	size_t		length;
} StoredSegment;

#define NO_SEGMENT (-1)

struct StoreScan
{
	Relation	heap;
	Relation	index;
	IndexScanDesc scan;
	MemoryContext context;		/* the scan's, whatever the caller's is */
	Snapshot	snapshot;		/* a reference of our own: scans outlive the active snapshot */
	TupleTableSlot *slot;
	ItemPointerData tid;		/* of the segment last returned */
	StoredSegment segment;		/* likewise */
	StoreTable	table;
	int64		run_id;
	int64		segments;		/* the run has */
	uint64		low;			/* of the range looked for */
	uint64		high;
	int			where_column;	/* of segments to be handed over, or NO_COLUMN: of all */
	uint64		where_value;
	bool		has_read;		/* a segment that is to be handed over first */
	bool		done;
};

/* Another index may have got the name. */
static void
check_key_index(Relation index, Relation heap)
{
	const int16 *columns = index->rd_index->indkey.values;

	if (index->rd_index->indrelid == RelationGetRelid(heap) && index->rd_index->indnkeyatts == SEGMENT_NUMBER &&
		columns[0] == SEGMENT_RUN_ID && columns[1] == SEGMENT_FIRST_KEY && columns[2] == SEGMENT_NUMBER &&
		index->rd_indoption[0] == 0 && index->rd_indoption[1] == 0 && index->rd_indoption[2] == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("index \"%s\" of adclick has been altered", RelationGetRelationName(index)),
			 errdetail("Its columns should be run_id, first_key and number of table \"%s\", ascending.",
					   RelationGetRelationName(heap))));
}

static Relation
open_key_index(Relation heap)
{
	char	   *name = psprintf("%s_key_idx", RelationGetRelationName(heap));
	Oid			relid = get_relname_relid(name, RelationGetNamespace(heap));
	Relation	index;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" of adclick is missing", name),
				 errhint("Create it again: unique, on run_id, first_key and number of table \"%s\".",
						 RelationGetRelationName(heap))));
	index = index_open(relid, AccessShareLock);
	check_key_index(index, heap);
	pfree(name);
	return index;
}

StoreScan *
store_scan_begin(StoreTable table)
{
	StoreScan  *scan = palloc0(sizeof(StoreScan));

	scan->context = CurrentMemoryContext;
	scan->table = table;
	scan->heap = open_table(table, AccessShareLock);
	definitions_check_rewrite(scan->heap);
	scan->index = open_key_index(scan->heap);
	scan->slot = table_slot_create(scan->heap, NULL);
	scan->snapshot = RegisterSnapshot(GetActiveSnapshot());
	scan->scan = compat_index_beginscan(scan->heap, scan->index, scan->snapshot, 2);
	return scan;
}

static void
begin_run(StoreScan *scan, const StoreRun *run, uint64 low, uint64 high)
{
	scan->run_id = run->run_id;
	scan->segments = run->segments;
	scan->low = low;
	scan->high = high;
	scan->segment.place.number = NO_SEGMENT;
	scan->where_column = NO_COLUMN;
	scan->has_read = false;
	scan->done = false;
}

static void
rescan(StoreScan *scan, StrategyNumber strategy, RegProcedure procedure, uint64 key)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], SEGMENT_RUN_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(scan->run_id));
	ScanKeyInit(&keys[1], SEGMENT_FIRST_KEY, strategy, procedure, Int64GetDatum(facts_to_int64(key)));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* The bytes of a segment, without its trailer. */
static void
read_data(StoreScan *scan, StoredSegment *segment)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(scan->slot->tts_values[SEGMENT_DATA - 1]);
	size_t		length;

	if (VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value))
		store_scan_corrupt(scan, "it is not stored in line");
	length = VARSIZE_ANY_EXHDR(value);
	if (length < TRAILER_BYTES || length > SEGMENT_MAX_BYTES + TRAILER_BYTES)
		store_scan_corrupt(scan, "its length is out of range");
	segment->data = (const uint8 *) VARDATA_ANY(value);
	segment->length = length - TRAILER_BYTES;
}

/* An index scan keeps notes for as long as it lasts, of entries that it found dead: not where the caller works. */
static bool
next_slot(StoreScan *scan, ScanDirection direction)
{
	MemoryContext outer = MemoryContextSwitchTo(scan->context);
	bool		found = index_getnext_slot(scan->scan, direction, scan->slot);

	MemoryContextSwitchTo(outer);
	return found;
}

/* Get a segment in either direction: the only place where they are read. */
static bool
next_segment(StoreScan *scan, ScanDirection direction)
{
	StoredSegment *segment = &scan->segment;
	Place	   *place = &segment->place;

	if (!next_slot(scan, direction))
		return false;
	slot_getsomeattrs(scan->slot, SEGMENT_DATA);
	scan->tid = scan->slot->tts_tid;
	place->run_id = scan->run_id;
	place->number = DatumGetInt32(scan->slot->tts_values[SEGMENT_NUMBER - 1]);
	place->first_key = facts_from_int64(DatumGetInt64(scan->slot->tts_values[SEGMENT_FIRST_KEY - 1]));
	read_data(scan, segment);
	if (!read_trailer(place, segment->data, segment->length))
		store_scan_corrupt(scan, "its checksum does not match");
	if (place->number < 0 || place->number >= scan->segments)
		store_scan_corrupt(scan, "its number is out of range");
	return true;
}

/*
 * The table of a dropped volume is truncated, also for snapshots from before; what is
 * missing there and else is damage.  The scan has the table locked.
 */
static void
check_volume(const StoreScan *scan)
{
	if (scan->table < 0 || store_has_run(scan->run_id))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_SNAPSHOT_TOO_OLD),
			 scan->table / SHELF_TABLES == SHELF_LEDGER ?
			 errmsg("snapshot too old for the ledger of adclick") :
			 errmsg("snapshot too old for clicks by user and by address"),
			 scan->table / SHELF_TABLES == SHELF_LEDGER ?
			 errdetail("Clicks that it sees in the ledger have been dropped since, see adclick.ledger_retention.") :
			 errdetail("Clicks that it sees by user and by address have been dropped since, see adclick.user_and_ip_retention."),
			 errhint("Ask again in a new transaction.")));
}

static void
missing_segment(const StoreScan *scan, int64 number)
{
	check_volume(scan);
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("segment " INT64_FORMAT " of run " INT64_FORMAT " is missing in \"%s\"",
					number, scan->run_id, RelationGetRelationName(scan->heap)),
			 errdetail("The run should have " INT64_FORMAT " segments.", scan->segments)));
}

static bool
is_next(const Place *place, const Place *next)
{
	return place->number + 1 == next->number && place->next_key == next->first_key;
}

/*
 * The last segment that begins before the range can reach into it; it is read here, and handed over first.
 * Others that begin with the same key are as many as one of them has facts for, and are not read.
 */
void
store_scan_run(StoreScan *scan, const StoreRun *run, uint64 low, uint64 high)
{
	begin_run(scan, run, low, high);
	if (low > 0)
	{
		rescan(scan, BTLessStrategyNumber, F_INT8LT, low);
		scan->has_read = next_segment(scan, BackwardScanDirection);
	}
	rescan(scan, BTGreaterEqualStrategyNumber, F_INT8GE, low);
}

void
store_scan_range(StoreScan *scan, const StoreRun *run, uint64 low, uint64 high)
{
	begin_run(scan, run, low, high);
	rescan(scan, BTLessEqualStrategyNumber, F_INT8LE, high);
}

static void
decode(StoreScan *scan, unsigned columns, Facts *facts)
{
	const StoredSegment *segment = &scan->segment;
	SegmentStatus status;

	facts->n = 0;
	if (columns == STORE_WHOLE_KEY)
		status = segment_decode(segment->data, segment->length, facts);
	else if (scan->where_column == NO_COLUMN)
		status = segment_decode_columns(segment->data, segment->length, columns, facts);
	else
		status = segment_decode_where(segment->data, segment->length, columns,
									  scan->where_column, scan->where_value, facts);
	if (status != SEGMENT_OK)
		store_scan_corrupt(scan, segment_status_text(status));
	if (facts->n > 0 && facts->key[0][0] != segment->place.first_key)
		store_scan_corrupt(scan, "it does not begin with its first key");
}

/* Hand over the segment that was read, and let go of its page. */
static void
hand_over(StoreScan *scan, unsigned columns, Facts *facts)
{
	CHECK_FOR_INTERRUPTS();
	if (facts)
		decode(scan, columns, facts);
	ExecClearTuple(scan->slot);
	table_index_fetch_reset(scan->scan->xs_heapfetch);
}

bool
store_scan_next(StoreScan *scan, unsigned columns, Facts *facts)
{
	Place		before = scan->segment.place;
	const Place *place = &scan->segment.place;

	if (scan->has_read)
	{
		scan->has_read = false;
		hand_over(scan, columns, facts);
		return true;
	}
	if (!next_segment(scan, ForwardScanDirection))
	{
		if (before.number + 1 != scan->segments)
			missing_segment(scan, before.number + 1);
		return false;
	}
	/* Where none begins before the range, the first is that of the run. */
	if (before.number == NO_SEGMENT ? place->number > 0 : !is_next(&before, place))
		missing_segment(scan, before.number + 1);
	if (place->first_key > scan->high)
		return false;
	hand_over(scan, columns, facts);
	return true;
}

const Place *
segment_place(const StoreScan *scan)
{
	return &scan->segment.place;
}

bool
store_scan_follows(const StoreScan *scan, uint64 *first_key)
{
	const Place *place = &scan->segment.place;

	*first_key = place->next_key;
	return place->number + 1 < scan->segments;
}

const StoreRun *
store_largest_run(const StoreRun *runs, int n)
{
	const StoreRun *largest = &runs[0];

	for (int i = 1; i < n; i++)
		if (runs[i].segments > largest->segments)
			largest = &runs[i];
	return largest;
}

uint64
store_scan_piece(StoreScan *scan, const StoreRun *run, int segments, uint64 low, uint64 high)
{
	uint64		next;
	int			n = 0;

	store_scan_run(scan, run, low, high);
	while (store_scan_next(scan, 0, NULL) && store_scan_follows(scan, &next) && next <= high)
		if (++n >= segments && next > low)
			return next - 1;
	return high;
}

/* None begins in or before the range: then the first of the run begins after it. */
static void
check_first(StoreScan *scan)
{
	rescan(scan, BTGreaterStrategyNumber, F_INT8GT, scan->high);
	if (!next_segment(scan, ForwardScanDirection) || scan->segment.place.number != 0)
		missing_segment(scan, 0);
}

/* Whether the one that was read first is the last that begins in or before the range. */
static bool
is_last_of_range(const StoreScan *scan)
{
	const Place *place = &scan->segment.place;

	return place->number + 1 == scan->segments || place->next_key > scan->high;
}

void
store_scan_where(StoreScan *scan, int column, uint64 value)
{
	scan->where_column = column;
	scan->where_value = value;
}

/* Without a fact if the segment has none that is looked for. */
static bool
previous_segment(StoreScan *scan, unsigned columns, Facts *facts)
{
	Place		after = scan->segment.place;
	const Place *place = &scan->segment.place;

	if (scan->done)
		return false;
	if (!next_segment(scan, BackwardScanDirection))
	{
		if (after.number == NO_SEGMENT)
			check_first(scan);
		else if (after.number > 0)
			missing_segment(scan, after.number - 1);
		return false;
	}
	if (after.number == NO_SEGMENT ? !is_last_of_range(scan) : !is_next(place, &after))
		missing_segment(scan, place->number + 1);
	hand_over(scan, columns, facts);
	/* Of the segments that begin before the range only the last can reach it. */
	scan->done = place->first_key < scan->low;
	return true;
}

bool
store_scan_previous(StoreScan *scan, unsigned columns, Facts *facts)
{
	while (previous_segment(scan, columns, facts))
		if (facts->n > 0)
			return true;
	return false;
}

void
store_scan_corrupt(StoreScan *scan, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("segment (%u,%u) of \"%s\" is damaged",
					ItemPointerGetBlockNumber(&scan->tid), ItemPointerGetOffsetNumber(&scan->tid),
					RelationGetRelationName(scan->heap)),
			 errdetail("Run " INT64_FORMAT ": %s.", scan->run_id, what)));
}

void
store_scan_end(StoreScan *scan)
{
	index_endscan(scan->scan);
	UnregisterSnapshot(scan->snapshot);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->heap, AccessShareLock);
	pfree(scan);
}
