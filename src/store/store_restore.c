/*-------------------------------------------------------------------------
 *
 * store_restore.c
 *	  Where the data of a dump is awaited: what goes before it, and whether all has come.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "store.h"
#include "store_sql.h"

bool
store_in_restore(void)
{
	return sql_number(IN_RESTORE, NULL, true) > 0;
}

void
store_begin_restore(void)
{
	sql_write(BEGIN_RESTORE, NULL, NULL);
}

void
store_try_restore_again(void)
{
	sql_write(TRY_AGAIN, NULL, NULL);
}

bool
store_was_tried_again(void)
{
	return sql_number(WAS_TRIED_AGAIN, NULL, true) > 0;
}

int64
store_count_restored(void)
{
	return sql_number(COUNT_RESTORED, NULL, true);
}

void
store_await_restorers(void)
{
	LockRelationOid(get_relname_relid("restored_tables", get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false)), ShareLock);
}

void
store_end_restore(void)
{
	(void) sql_number(SET_SEQUENCES, NULL, false);
	sql_write(END_RESTORE, NULL, NULL);
}

bool
store_note_restored(Oid table, bool by_copy)
{
	Datum		values[2] = {ObjectIdGetDatum(table), BoolGetDatum(by_copy)};

	return sql_write(NOTE_RESTORED, values, NULL) > 0;
}

bool
store_has_state(void)
{
	return sql_number(HAS_STATE, NULL, true) > 0;
}

void
store_add_state(void)
{
	sql_write(ADD_STATE, NULL, NULL);
}

char *
store_find_missing(void)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		missing;
	char	   *said = NULL;

	SPI_connect();
	sql_run(FIND_MISSING, NULL, NULL, true);
	missing = sql_result(0, 1, (Datum) 0);
	if (missing)
		said = MemoryContextStrdup(context, TextDatumGetCString(missing));
	SPI_finish();
	return said;
}
