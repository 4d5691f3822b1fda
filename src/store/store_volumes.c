/*-------------------------------------------------------------------------
 *
 * store_volumes.c
 *	  The volumes of a shelf: opening, dropping and emptying them.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "store.h"
#include "store_sql.h"

/* As column shelf of the volumes has it. */
static Datum
shelf_name(Shelf shelf)
{
	return CStringGetTextDatum(definitions_shelves[shelf]);
}

int32
store_volume_number(Datum value)
{
	int32		volume = DatumGetInt32(value);

	if (volume < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the volumes of adclick are damaged"),
				 errdetail("A row of adclick_internal.volumes has the number %d.", volume)));
	return volume;
}

int32
store_current_volume(Shelf shelf, TimestampTz *opened_at)
{
	Datum		values[1] = {shelf_name(shelf)};
	int32		volume;

	store_push_newest();
	SPI_connect();
	if (sql_run(GET_VOLUME, values, NULL, true) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the volumes of adclick are missing"),
				 errdetail("adclick_internal.volumes should have a row of shelf \"%s\".", definitions_shelves[shelf])));
	volume = store_volume_number(sql_result(0, 1, Int32GetDatum(NO_VOLUME)));
	*opened_at = DatumGetTimestampTz(sql_result(0, 2, TimestampTzGetDatum(DT_NOEND)));
	SPI_finish();
	PopActiveSnapshot();
	return volume;
}

bool
store_open_volume(Shelf shelf)
{
	Datum		values[1] = {shelf_name(shelf)};

	return sql_write(OPEN_VOLUME, values, NULL) > 0;
}

bool
store_get_closed_volume(Shelf shelf, StoreVolume *volume)
{
	Datum		values[1] = {shelf_name(shelf)};
	bool		found;

	SPI_connect();
	found = sql_run(GET_CLOSED_VOLUME, values, NULL, true) > 0;
	if (found)
	{
		TimestampTz first = DatumGetTimestampTz(sql_result(0, 3, TimestampTzGetDatum(DT_NOEND)));
		TimestampTz last = DatumGetTimestampTz(sql_result(0, 4, TimestampTzGetDatum(DT_NOBEGIN)));

		volume->shelf = shelf;
		volume->volume = store_volume_number(sql_result(0, 1, 0));
		volume->closed_at = DatumGetTimestampTz(sql_result(0, 2, 0));
		volume->first_minute = first == DT_NOEND ? PG_INT64_MAX : minute_of(first);
		volume->last_minute = last == DT_NOBEGIN ? PG_INT64_MIN : minute_of(last);
	}
	SPI_finish();
	return found;
}

int64
store_drop_volume(const StoreVolume *volume)
{
	Datum		values[1] = {Int32GetDatum(volume->volume)};

	return sql_number(volume->shelf == SHELF_LEDGER ? DROP_LEDGER : DROP_PEOPLE, values, false);
}

/* A volume that was dropped, and still has its table. */
typedef struct Dropped
{
	Shelf		shelf;
	int32		volume;
	TimestampTz at;
	FullTransactionId by;
} Dropped;

static Dropped *
get_dropped(int *count)
{
	MemoryContext context = CurrentMemoryContext;
	Dropped    *dropped;

	SPI_connect();
	*count = (int) sql_run(GET_DROPPED, NULL, NULL, true);
	dropped = MemoryContextAlloc(context, sizeof(Dropped) * (*count + 1));
	for (int i = 0; i < *count; i++)
		dropped[i] = (Dropped) {
			DatumGetBool(sql_result(i, 1, 0)) ? SHELF_LEDGER : SHELF_PEOPLE,
			store_volume_number(sql_result(i, 2, 0)), DatumGetTimestampTz(sql_result(i, 3, 0)),
			DatumGetFullTransactionId(sql_result(i, 4, FullTransactionIdGetDatum(FirstNormalFullTransactionId)))
		};
	SPI_finish();
	return dropped;
}

TimestampTz
store_dropped_since(void)
{
	int			count;
	Dropped    *dropped = get_dropped(&count);

	return count > 0 ? dropped[0].at : DT_NOEND;
}

/* Whether no snapshot can see the runs of a volume any more. */
static bool
is_seen_by_none(const Dropped *dropped, Relation relation)
{
	return TransactionIdPrecedes(XidFromFullTransactionId(dropped->by), GetOldestNonRemovableTransactionId(relation));
}

static void
truncate_table(const char *name)
{
	SPI_connect();
	if (SPI_execute(psprintf("TRUNCATE " ADCLICK_INTERNAL_SCHEMA ".%s", name), false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not truncate \"%s\"", name);
	SPI_finish();
}

/*
 * Lock a table of a dropped volume, with what is stored apart, so that it can be truncated:
 * if nobody uses it, as nobody shall have to queue behind us; nor a query of this session, a cursor
 * perhaps, whom no lock keeps out, and TRUNCATE would refuse.
 */
static bool
lock_table(const Dropped *dropped, StoreTable table, TimestampTz before)
{
	Relation	relation = definitions_open_volume(table, AccessShareLock);
	Oid			apart = relation->rd_rel->reltoastrelid;
	bool		alone = relation->rd_refcnt == 1;
	bool		can_go;

	can_go = alone && (dropped->at < before || is_seen_by_none(dropped, relation)) &&
		ConditionalLockRelation(relation, AccessExclusiveLock) &&
		(!OidIsValid(apart) || ConditionalLockRelationOid(apart, AccessExclusiveLock));
	relation_close(relation, AccessShareLock);
	return can_go;
}

static bool
empty_volume(const Dropped *dropped, TimestampTz before)
{
	Datum		values[2] = {shelf_name(dropped->shelf), Int32GetDatum(dropped->volume)};
	StoreTable	tables[2] = {store_volume_table(dropped->shelf, dropped->volume), store_discarded_table(dropped->volume)};
	int			ntables = dropped->shelf == SHELF_LEDGER ? 2 : 1;

	for (int i = 0; i < ntables; i++)
		if (!lock_table(dropped, tables[i], before))
			return false;
	/* somebody may have done so before we had the locks, and another volume be written to the tables since */
	if (sql_write(DELETE_VOLUME, values, NULL) == 0)
		return false;
	for (int i = 0; i < ntables; i++)
		truncate_table(store_table_name(tables[i]));
	return true;
}

int
store_empty_volumes(TimestampTz before)
{
	int			count;
	int			emptied = 0;
	Dropped    *dropped = get_dropped(&count);

	for (int i = 0; i < count; i++)
		emptied += empty_volume(&dropped[i], before);
	return emptied;
}

bool
store_has_run(int64 run_id)
{
	Datum		values[1] = {Int64GetDatum(run_id)};
	bool		has;

	store_push_newest();
	SPI_connect();
	has = sql_run(GET_RUN, values, NULL, true) > 0;
	SPI_finish();
	PopActiveSnapshot();
	return has;
}
