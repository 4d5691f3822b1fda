/*-------------------------------------------------------------------------
 *
 * store_discarded.c
 *	  The clicks that were not counted: which tables have those that a snapshot sees.
 *
 * They lie beside the volumes of the ledger, in a table for each of its tables, and are
 * dropped with them: in one transaction they are no longer shown, in a later one their
 * table is truncated.  Whoever reads them locks no table that may be truncated then but
 * those that his snapshot needs, and while he reads, or none would ever be while somebody does.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/definitions.h"
#include "store.h"
#include "store_sql.h"

/* Of each table: the volume that the active snapshot sees in it, NO_VOLUME: none; and whether it is dropped. */
typedef struct Shown
{
	int32		volumes[SHELF_TABLES];
	bool		dropped[SHELF_TABLES];
} Shown;

static void
get_shown(Shown *shown)
{
	uint64		n;

	for (int table = 0; table < SHELF_TABLES; table++)
		shown->volumes[table] = NO_VOLUME;
	memset(shown->dropped, false, sizeof(shown->dropped));
	SPI_connect();
	n = sql_run(GET_LEDGER_VOLUMES, NULL, NULL, true);
	for (uint64 i = 0; i < n; i++)
	{
		int32		volume = store_volume_number(sql_result(i, 1, 0));

		shown->volumes[volume % SHELF_TABLES] = volume;
		shown->dropped[volume % SHELF_TABLES] |= DatumGetBool(sql_result(i, 2, 0));
	}
	SPI_finish();
}

/* A table of volumes that are no longer there in the newest snapshot may have been truncated. */
static void
check_volumes(const Shown *shown)
{
	Shown		newest;

	store_push_newest();
	get_shown(&newest);
	PopActiveSnapshot();
	for (int table = 0; table < SHELF_TABLES; table++)
		if (shown->volumes[table] != NO_VOLUME && !shown->dropped[table] && newest.volumes[table] != shown->volumes[table])
			ereport(ERROR,
					(errcode(ERRCODE_SNAPSHOT_TOO_OLD),
					 errmsg("snapshot too old for adclick.discarded_clicks"),
					 errdetail("Clicks that it sees there have been dropped since, see adclick.ledger_retention."),
					 errhint("Ask again in a new transaction.")));
}

struct StoreDiscarded
{
	Snapshot	snapshot;
	Relation	relations[SHELF_TABLES];
	int			n;
	int			next;
	TableScanDesc scan;			/* NULL: of none */
	TupleTableSlot *slot;
};

static bool
has_rows(StoreTable table)
{
	Relation	relation = definitions_open_volume(table, AccessShareLock);
	bool		has = RelationGetNumberOfBlocks(relation) > 0;

	table_close(relation, AccessShareLock);
	return has;
}

/* A table that no volume is in has no rows, unless the row of its volume was lost, or is newer than the snapshot: then it shows. */
static bool
is_shown(const Shown *shown, int table)
{
	return !shown->dropped[table] && (shown->volumes[table] != NO_VOLUME || has_rows(store_discarded_table(table)));
}

StoreDiscarded *
store_discarded_begin(void)
{
	StoreDiscarded *d = palloc0(sizeof(StoreDiscarded));
	Shown		shown;

	get_shown(&shown);
	for (int table = 0; table < SHELF_TABLES; table++)
		if (is_shown(&shown, table))
			d->relations[d->n++] = definitions_open_volume(store_discarded_table(table), AccessShareLock);
	check_volumes(&shown);
	for (int i = 0; i < d->n; i++)
		definitions_check_rewrite(d->relations[i]);
	d->snapshot = RegisterSnapshot(GetActiveSnapshot());
	return d;
}

static void
end_scan(StoreDiscarded *d)
{
	if (d->scan == NULL)
		return;
	ExecDropSingleTupleTableSlot(d->slot);
	table_endscan(d->scan);
	d->scan = NULL;
}

TupleTableSlot *
store_discarded_next(StoreDiscarded *d)
{
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (d->scan && table_scan_getnextslot(d->scan, ForwardScanDirection, d->slot))
			return d->slot;
		end_scan(d);
		if (d->next == d->n)
			return NULL;
		d->slot = table_slot_create(d->relations[d->next], NULL);
		d->scan = table_beginscan(d->relations[d->next++], d->snapshot, 0, NULL);
	}
}

void
store_discarded_end(StoreDiscarded *d)
{
	end_scan(d);
	for (int i = 0; i < d->n; i++)
		table_close(d->relations[i], AccessShareLock);
	UnregisterSnapshot(d->snapshot);
	pfree(d);
}

/*
 * A snapshot that still sees the table's last volume, dropped, would not be shown what it
 * writes there: it is as old as one from before another tick.
 */
Relation
store_open_discarded(void)
{
	TimestampTz opened_at;
	int32		volume = store_current_volume(SHELF_LEDGER, &opened_at);
	Shown		shown;

	if (IsolationUsesXactSnapshot())
	{
		get_shown(&shown);
		if (shown.dropped[volume % SHELF_TABLES])
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("snapshot too old for a tick"),
					 errdetail("A volume of the ledger was opened in the place of one that it sees as dropped.")));
	}
	return definitions_open_volume(store_discarded_table(volume), RowExclusiveLock);
}

int64
store_forget_discarded(int64 user_id)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(user_id)};
	int64		clicks = 0;

	for (int table = 0; table < SHELF_TABLES; table++)
		if (has_rows(store_discarded_table(table)))
			clicks += sql_write_segments(store_discarded_table(table),
										 "UPDATE adclick_internal.%s SET user_id = NULL, ip = NULL WHERE user_id = $1", 1, types, values);
	return clicks;
}

/* Where the rows with this reason are counted. */
static int64 *
count_of_reason(StoreSetAside *rows, const char *reason)
{
	for (ClickVerdict verdict = CLICK_VALID + 1; verdict < CLICK_VERDICTS; verdict++)
		if (strcmp(reason, click_verdict_text(verdict)) == 0)
			return &rows->verdicts[verdict];
	return &rows->unknown;
}

static void
count_discarded(StoreSetAside *rows)
{
	StoreDiscarded *d = store_discarded_begin();
	TupleTableSlot *slot;

	while ((slot = store_discarded_next(d)) != NULL)
	{
		bool		isnull;
		char	   *reason = TextDatumGetCString(slot_getattr(slot, CLICK_COLUMNS + 1, &isnull));

		(*count_of_reason(rows, reason))++;
		pfree(reason);
	}
	store_discarded_end(d);
}

/* What had been set aside when the first volume was opened that is there. */
static void
count_dropped(StoreSetAside *rows)
{
	SPI_connect();
	if (sql_run(GET_SET_ASIDE_BEFORE, NULL, NULL, true) > 0)
		for (ClickVerdict verdict = CLICK_VALID + 1; verdict < CLICK_VERDICTS; verdict++)
			rows->dropped[verdict] = DatumGetInt64(sql_result(0, verdict, Int64GetDatum(0)));
	SPI_finish();
}

void
store_count_set_aside(StoreSetAside *rows)
{
	memset(rows, 0, sizeof(*rows));
	rows->verdicts[CLICK_VALID] = sql_number(COUNT_UNPACKED, NULL, true);
	count_discarded(rows);
	count_dropped(rows);
}
