/*-------------------------------------------------------------------------
 *
 * store_archive.c
 *	  The books of the archive: which volumes are in files, which hours came back from
 *	  there, and who must not come back with them.
 *
 * See store.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "core/siphash.h"
#include "store.h"
#include "store_sql.h"

#define SECRET_WORDS 4

/* A text of the row-th result, in a context; NULL if it is. */
static char *
text_result(MemoryContext context, uint64 row, int column)
{
	Datum		value = sql_result(row, column, PointerGetDatum(NULL));

	return DatumGetPointer(value) == NULL ? NULL : MemoryContextStrdup(context, TextDatumGetCString(value));
}

/* Times of the row-th result, as minutes. */
static int64 *
get_hours(MemoryContext context, uint64 row, int column, int *count)
{
	ArrayType  *array = DatumGetArrayTypeP(sql_result(row, column, PointerGetDatum(construct_empty_array(TIMESTAMPTZOID))));
	TimestampTz *times = (TimestampTz *) ARR_DATA_PTR(array);
	int64	   *hours;

	*count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	hours = MemoryContextAllocHuge(context, sizeof(int64) * (*count + 1));
	for (int i = 0; i < *count; i++)
		hours[i] = minute_of(times[i]);
	return hours;
}

/* Run a statement that selects volumes. */
static StoreArchived *
get_volumes(Statement statement, Datum *values, int *count)
{
	MemoryContext context = CurrentMemoryContext;
	StoreArchived *volumes;

	SPI_connect();
	*count = (int) sql_run(statement, values, NULL, true);
	volumes = MemoryContextAllocZero(context, sizeof(StoreArchived) * (*count + 1));
	for (int i = 0; i < *count; i++)
	{
		StoreArchived *volume = &volumes[i];

		volume->volume = DatumGetInt32(sql_result(i, 1, 0));
		volume->first_minute = minute_of(DatumGetTimestampTz(sql_result(i, 2, 0)));
		volume->last_minute = minute_of(DatumGetTimestampTz(sql_result(i, 3, 0)));
		volume->clicks = DatumGetInt64(sql_result(i, 4, 0));
		volume->contents = text_result(context, i, 5);
		volume->file = text_result(context, i, 6);
		volume->bytes = DatumGetInt64(sql_result(i, 7, 0));
		volume->sha256 = text_result(context, i, 8);
		volume->lines = DatumGetInt64(sql_result(i, 9, 0));
		if (statement == GET_RESTORABLE)
		{
			volume->hours = get_hours(context, i, 10, &volume->nhours);
			volume->restored = get_hours(context, i, 11, &volume->nrestored);
		}
	}
	SPI_finish();
	return volumes;
}

StoreArchived *
store_get_archivable(int *count)
{
	return get_volumes(GET_ARCHIVABLE, NULL, count);
}

StoreArchived *
store_get_stored_volume(int32 volume)
{
	Datum		values[1] = {Int32GetDatum(volume)};
	int			n;
	StoreArchived *stored = get_volumes(GET_STORED_VOLUME, values, &n);

	return n > 0 ? stored : NULL;
}

void
store_put_archived(const StoreArchived *archived)
{
	Datum		values[8] = {
		Int32GetDatum(archived->volume), sql_minute(archived->first_minute), sql_minute(archived->last_minute),
		Int64GetDatum(archived->clicks), CStringGetTextDatum(archived->contents), CStringGetTextDatum(archived->file),
		Int64GetDatum(archived->bytes), CStringGetTextDatum(archived->sha256)
	};

	sql_write(PUT_ARCHIVED, values, NULL);
}

StoreArchived *
store_get_restorable(int64 from, int64 to, int *count)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};

	return get_volumes(GET_RESTORABLE, values, count);
}

bool
store_has_lost(int64 from, int64 to)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};

	return sql_number(COUNT_LOST, values, true) > 0;
}

char *
store_get_files(const int64 *minutes, int nminutes)
{
	MemoryContext context = CurrentMemoryContext;
	int64	   *times = MemoryContextAllocHuge(context, sizeof(int64) * (nminutes + 1));
	Datum		values[1];
	char	   *files;

	for (int i = 0; i < nminutes; i++)
		times[i] = minutes[i] * USECS_PER_MINUTE;
	values[0] = sql_array(TIMESTAMPTZOID, times, nminutes);
	SPI_connect();
	sql_run(GET_FILES, values, NULL, true);
	files = text_result(context, 0, 1);
	SPI_finish();
	return files;
}

void
store_put_restored(const StoreArchived *archived, const int64 *clicks)
{
	int64	   *times = palloc(sizeof(int64) * (archived->nhours + 1));
	Datum		values[3];

	for (int i = 0; i < archived->nhours; i++)
		times[i] = archived->hours[i] * USECS_PER_MINUTE;
	values[0] = Int32GetDatum(archived->volume);
	values[1] = sql_array(TIMESTAMPTZOID, times, archived->nhours);
	values[2] = sql_array(INT8OID, clicks, archived->nhours);
	sql_write(PUT_RESTORED, values, NULL);
	pfree(times);
}

/* Rows are fetched some at a time: of new combinations beyond the limit there can be many. */
#define ROWS_FETCHED 1000

/* Those that were fetched; false if there were none. */
static bool
call_for_rows(store_row_callback callback, void *arg)
{
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		Datum		values[CLICK_COLUMNS];
		bool		nulls[CLICK_COLUMNS];

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < CLICK_COLUMNS; i++)
			values[i] = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, i + 1, &nulls[i]);
		callback(values, nulls, arg);
	}
	return SPI_processed > 0;
}

void
store_each_unpacked(int64 run_id, store_row_callback callback, void *arg)
{
	Datum		values[1] = {Int64GetDatum(run_id)};
	Portal		portal;
	bool		found;

	SPI_connect();
	portal = SPI_cursor_open(NULL, sql_plan(GET_UNPACKED), values, NULL, true);
	definitions_check_rewrites();
	do
	{
		SPI_cursor_fetch(portal, true, ROWS_FETCHED);
		found = call_for_rows(callback, arg);
		SPI_freetuptable(SPI_tuptable);
	} while (found);
	SPI_cursor_close(portal);
	SPI_finish();
}

char *
store_archived_query(int32 volume)
{
	return psprintf("SELECT c.* FROM (SELECT run_id FROM adclick_internal.runs WHERE sort_order = 3 AND NOT is_delta AND volume = %d ORDER BY run_id) r"
					" CROSS JOIN LATERAL adclick_internal.archived_clicks(r.run_id) c", volume);
}

Relation
store_open_lines(void)
{
	definitions_check();
	return relation_open(get_relname_relid("archived_click", get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false)), AccessShareLock);
}

/* Whatever the active snapshot sees: who is forgotten must not stay there. */
int64
store_release(void)
{
	int64		clicks;

	store_push_newest();
	clicks = sql_number(COUNT_RESTORED_CLICKS, NULL, true);
	sql_write(RELEASE, NULL, NULL);
	PopActiveSnapshot();
	return clicks;
}

TimestampTz
store_get_incomplete(int64 from, int64 to)
{
	Datum		values[2] = {sql_minute(from), sql_minute(to)};

	return sql_time(GET_INCOMPLETE, values);
}

typedef struct ForgottenUser
{
	DedupKey	hash;
	int32		last_volume;	/* that has clicks from before he was forgotten */
} ForgottenUser;

struct StoreForgotten
{
	int			n;
	ForgottenUser *users;		/* by hash */
	uint64		secret[SECRET_WORDS];
};

static DedupKey
hash_user(const uint64 *secret, int64 user_id)
{
	return (DedupKey) {
		siphash(&secret[0], (uint64) user_id, 0), siphash(&secret[2], (uint64) user_id, 0)
	};
}

static int
compare_hashes(const void *a, const void *b)
{
	const DedupKey *x = &((const ForgottenUser *) a)->hash;
	const DedupKey *y = &((const ForgottenUser *) b)->hash;

	if (x->hi != y->hi)
		return x->hi < y->hi ? -1 : 1;
	return (x->lo > y->lo) - (x->lo < y->lo);
}

StoreForgotten *
store_get_forgotten(void)
{
	MemoryContext context = CurrentMemoryContext;
	StoreForgotten *forgotten = palloc0(sizeof(StoreForgotten));

	store_push_newest();
	SPI_connect();
	forgotten->n = (int) sql_run(GET_FORGOTTEN, NULL, NULL, true);
	forgotten->users = MemoryContextAllocHuge(context, sizeof(ForgottenUser) * (forgotten->n + 1));
	for (int i = 0; i < forgotten->n; i++)
	{
		bytea	   *secret = DatumGetByteaPP(sql_result(i, 2, 0));

		if (VARSIZE_ANY_EXHDR(secret) != sizeof(forgotten->secret) ||
			(i > 0 && memcmp(forgotten->secret, VARDATA_ANY(secret), sizeof(forgotten->secret)) != 0))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("adclick_internal.forgotten_users is damaged"),
					 errdetail("All rows should have the same secret, of %d bytes.", (int) sizeof(forgotten->secret))));
		memcpy(forgotten->secret, VARDATA_ANY(secret), sizeof(forgotten->secret));
		forgotten->users[i].hash = key_of_uuid(sql_result(i, 1, 0));
		forgotten->users[i].last_volume = DatumGetInt32(sql_result(i, 3, 0));
	}
	SPI_finish();
	PopActiveSnapshot();
	if (forgotten->n > 0)
		qsort(forgotten->users, forgotten->n, sizeof(ForgottenUser), compare_hashes);
	else if (!pg_strong_random(forgotten->secret, sizeof(forgotten->secret)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not make a secret for forgotten users")));
	return forgotten;
}

bool
store_is_forgotten(const StoreForgotten *forgotten, int64 user_id, int32 volume)
{
	ForgottenUser wanted;
	const ForgottenUser *found;

	if (forgotten->n == 0)
		return false;
	wanted.hash = hash_user(forgotten->secret, user_id);
	found = bsearch(&wanted, forgotten->users, forgotten->n, sizeof(ForgottenUser), compare_hashes);
	return found && volume <= found->last_volume;
}

void
store_note_forgotten(int64 user_id)
{
	StoreForgotten *forgotten;
	DedupKey	hash;
	bytea	   *secret = palloc(VARHDRSZ + sizeof(forgotten->secret));
	Datum		values[2];

	if (sql_number(COUNT_FILES, NULL, true) == 0)
		return;
	forgotten = store_get_forgotten();
	hash = hash_user(forgotten->secret, user_id);
	SET_VARSIZE(secret, VARHDRSZ + sizeof(forgotten->secret));
	memcpy(VARDATA(secret), forgotten->secret, sizeof(forgotten->secret));
	values[0] = key_to_uuid(&hash);
	values[1] = PointerGetDatum(secret);
	sql_write(ADD_FORGOTTEN, values, NULL);
}
