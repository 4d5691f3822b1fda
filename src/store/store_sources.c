/*-------------------------------------------------------------------------
 *
 * store_sources.c
 *	  The tables of log files.
 *
 * See store_sources.h.  What is written comes with clicks that are put into the inbox, so it
 * must see what an earlier round has written: in a REPEATABLE READ transaction an
 * update of what changed since fails (40001), as that of a tick does.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "store.h"
#include "store_sources.h"
#include "store_sql.h"

/* Of each source; more are only counted. */
#define BAD_LINES_KEPT 10000

/* Sees what earlier statements of this round have written, and no more of others than the round does. */
static uint64
write_on(Statement statement, Datum *values, const char *nulls)
{
	uint64		rows;

	CommandCounterIncrement();
	PushCopiedSnapshot(GetActiveSnapshot());
	UpdateActiveSnapshotCommandId();
	rows = sql_write(statement, values, nulls);
	PopActiveSnapshot();
	return rows;
}

/* A text of the row-th result, in a context; NULL if it is. */
static char *
text_result(MemoryContext context, uint64 row, int column)
{
	Datum		value = sql_result(row, column, PointerGetDatum(NULL));

	return DatumGetPointer(value) == NULL ? NULL : MemoryContextStrdup(context, TextDatumGetCString(value));
}

/* The names of a source's columns, as the statement lists them: in the order of ours. */
static void
read_columns(StoreSource *source, MemoryContext context, Datum names)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < CLICK_COLUMNS && i < n; i++)
		source->columns[i] = nulls[i] ? NULL : MemoryContextStrdup(context, TextDatumGetCString(values[i]));
}

StoreSource *
store_get_sources(int *count)
{
	MemoryContext context = CurrentMemoryContext;
	StoreSource *sources;

	SPI_connect();
	*count = (int) sql_run(GET_SOURCES, NULL, NULL, true);
	sources = MemoryContextAllocZero(context, sizeof(StoreSource) * (*count + 1));
	for (int i = 0; i < *count; i++)
	{
		StoreSource *source = &sources[i];

		source->name = text_result(context, i, 1);
		source->path = text_result(context, i, 2);
		source->is_json = DatumGetBool(sql_result(i, 3, 0));
		source->by_same_names = DatumGetBool(sql_result(i, 4, 0));
		read_columns(source, context, sql_result(i, 5, PointerGetDatum(construct_empty_array(TEXTOID))));
		source->added_by = text_result(context, i, 6);
		source->bytes_waiting = DatumGetInt64(sql_result(i, 7, 0));
		source->last_error = text_result(context, i, 8);
	}
	SPI_finish();
	return sources;
}

bool
store_has_sources(void)
{
	bool		found;

	SPI_connect();
	found = sql_run(HAS_SOURCES, NULL, NULL, true) > 0;
	SPI_finish();
	return found;
}

void
store_add_source(const StoreSource *source, Jsonb *columns)
{
	Datum		values[5] = {
		CStringGetTextDatum(source->name), CStringGetTextDatum(source->path),
		CStringGetTextDatum(source->is_json ? "json" : "csv"), JsonbPGetDatum(columns),
		CStringGetTextDatum(source->added_by)
	};

	if (write_on(ADD_SOURCE, values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("source \"%s\" already exists", source->name),
				 errhint("To read other files by this name, drop it by adclick.drop_source().")));
}

bool
store_drop_source(const char *name)
{
	Datum		values[1] = {CStringGetTextDatum(name)};

	return write_on(DROP_SOURCE, values, NULL) > 0;
}

void
store_note_source(const StoreSource *source, int64 lines, int64 bad_lines, int64 bytes_waiting,
				  const char *error)
{
	Datum		values[5] = {
		CStringGetTextDatum(source->name), Int64GetDatum(lines), Int64GetDatum(bad_lines),
		Int64GetDatum(bytes_waiting), error ? CStringGetTextDatum(error) : (Datum) 0
	};
	bool		same_error = error && source->last_error ? strcmp(error, source->last_error) == 0 :
		error == source->last_error;

	/* a round that finds nothing new leaves no trace */
	if (lines > 0 || bad_lines > 0 || bytes_waiting != source->bytes_waiting || !same_error)
		write_on(NOTE_SOURCE, values, error ? NULL : "    n");
}

StoreLogFile *
store_get_log_files(const char *source, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[1] = {CStringGetTextDatum(source)};
	StoreLogFile *files;

	SPI_connect();
	*count = (int) sql_run(GET_LOG_FILES, values, NULL, true);
	files = MemoryContextAllocHuge(context, sizeof(StoreLogFile) * (*count + 1));
	for (int i = 0; i < *count; i++)
	{
		StoreLogFile *file = &files[i];

		CHECK_FOR_INTERRUPTS();
		file->number = DatumGetInt32(sql_result(i, 1, 0));
		file->path = text_result(context, i, 2);
		file->device = DatumGetInt64(sql_result(i, 3, 0));
		file->inode = DatumGetInt64(sql_result(i, 4, 0));
		file->size = DatumGetInt64(sql_result(i, 5, 0));
		file->modified_at = DatumGetInt64(sql_result(i, 6, 0));
		file->compressed = DatumGetBool(sql_result(i, 7, 0));
		file->rotated = DatumGetBool(sql_result(i, 8, 0));
		file->read_to = DatumGetInt64(sql_result(i, 9, 0));
		file->in_line = DatumGetBool(sql_result(i, 10, 0));
		file->begin_hash = *DatumGetUUIDP(sql_result(i, 11, 0));
		file->end_hash = *DatumGetUUIDP(sql_result(i, 12, 0));
		file->copy_of = DatumGetInt32(sql_result(i, 13, Int32GetDatum(0)));
		file->is_gone = DatumGetBool(sql_result(i, 14, 0));
		file->lines = DatumGetInt64(sql_result(i, 15, 0));
		file->bad_lines = DatumGetInt64(sql_result(i, 16, 0));
	}
	SPI_finish();
	return files;
}

void
store_put_log_file(const char *source, const StoreLogFile *file)
{
	Datum		values[17] = {
		CStringGetTextDatum(source), Int32GetDatum(file->number), CStringGetTextDatum(file->path),
		Int64GetDatum(file->device), Int64GetDatum(file->inode), Int64GetDatum(file->size),
		Int64GetDatum(file->modified_at), BoolGetDatum(file->compressed), BoolGetDatum(file->rotated),
		Int64GetDatum(file->read_to), BoolGetDatum(file->in_line), UUIDPGetDatum(&file->begin_hash),
		UUIDPGetDatum(&file->end_hash), Int32GetDatum(file->copy_of), BoolGetDatum(file->is_gone),
		Int64GetDatum(file->lines), Int64GetDatum(file->bad_lines)
	};

	write_on(PUT_LOG_FILE, values, NULL);
}

void
store_delete_log_file(const char *source, int32 number)
{
	Datum		values[2] = {CStringGetTextDatum(source), Int32GetDatum(number)};

	write_on(DELETE_LOG_FILE, values, NULL);
}

void
store_delete_gone_files(const char *source)
{
	Datum		values[2] = {CStringGetTextDatum(source), Int32GetDatum(adclick_raw_retention)};

	write_on(DELETE_GONE_FILES, values, NULL);
}

int64
store_room_for_bad_lines(const char *source)
{
	Datum		values[1] = {CStringGetTextDatum(source)};

	return Max(0, BAD_LINES_KEPT - sql_number(COUNT_BAD_LINES, values, true));
}

void
store_put_bad_line(const char *source, const StoreBadLine *line)
{
	Datum		values[6] = {
		CStringGetTextDatum(source), CStringGetTextDatum(line->path), Int64GetDatum(line->offset),
		CStringGetTextDatum(line->line), CStringGetTextDatum(line->sqlstate), CStringGetTextDatum(line->reason)
	};

	write_on(PUT_BAD_LINE, values, NULL);
}

char *
store_get_source_error(void)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *error = NULL;

	SPI_connect();
	if (sql_run(GET_SOURCE_ERROR, NULL, NULL, true) > 0)
		error = text_result(context, 0, 1);
	SPI_finish();
	return error;
}
