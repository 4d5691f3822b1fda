/*-------------------------------------------------------------------------
 *
 * restored.c
 *	  Clicks that were dropped from the ledger come back from files.
 *
 * See archive.h.  They become runs beside the ledger's, which are read with them but
 * tell no duplicates, and are not counted.  A click comes with the hour in which it was
 * clicked, and with that in which its dedup bucket begins, whichever is asked for first: so
 * an hour that came back has what it takes to compare it.
 *
 * Files lie where others may change them: all that are needed are read and compared with
 * their checksums before anything is stored, and each line is checked.  They name users
 * who were forgotten since; of those come only clicks of nobody.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "commands/copy.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "accumulate.h"
#include "archive.h"
#include "archive_file.h"
#include "archive_line.h"
#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "disguise.h"
#include "store/store.h"
#include "unzip.h"

typedef struct Restoring
{
	MemoryContext context;
	MemoryContext of_line;		/* reset after each */
	StoreState	state;
	StoreForgotten *forgotten;
	Disguise   *disguise;		/* of the keys of forgotten users */
	int64		clicks;			/* that came back */

	/* of the volume that is read */
	const StoreArchived *volume;
	int64	   *of_hours;		/* clicks of each of its hours */
	int64		in_file;		/* clicks there */
	Facts		batch;			/* to be written */
	StoreSink  *rows;			/* what stands apart from the ledger */
	TupleTableSlot *row;
} Restoring;

/* The place of the hour of a minute among some; -1: it is none of them. */
static int
find_hour(const int64 *hours, int nhours, int64 minute)
{
	int64		hour = hour_of(minute);
	const int64 *found = nhours == 0 ? NULL : bsearch(&hour, hours, nhours, sizeof(int64), compare_int64);

	return found ? (int) (found - hours) : -1;
}

static void
forget(Restoring *r, FactClick *click)
{
	BucketKey	key = {click->key, click->bucket};

	disguise_key(r->disguise, &key);
	click->key = key.key;
	click->bucket = key.bucket;
	click->has_user = false;
	click->user_id = 0;
	click->ip = (IpAddress) {0};
	click->flags &= ~(LEDGER_HAS_USER | LEDGER_IPV4 | LEDGER_IPV6);
}

static void
keep_click(Restoring *r, FactClick *click, uint64 copies)
{
	if (click->has_user && store_is_forgotten(r->forgotten, click->user_id, r->volume->volume))
		forget(r, click);
	if (r->batch.n == LEDGER_BATCH)
		(void) accumulate_ledger(&r->batch, true);
	order_append(ORDER_LEDGER, click, 1, &r->batch);
	r->batch.count[r->batch.n - 1] = copies;
}

/* If it is of an hour that comes back, and did not come with another one. */
static void
take_click(Restoring *r, const Datum *values, const bool *nulls)
{
	const StoreArchived *volume = r->volume;
	FactClick	click;
	uint64		copies;
	Dimensions	counted;
	int64		begins;
	int			hour;

	line_to_click(values, nulls, &click, &copies, &counted);
	r->in_file += (int64) copies;
	begins = store_minute(ORDER_LEDGER, facts_from_int64(click.bucket));
	if (find_hour(volume->restored, volume->nrestored, click.minute) >= 0 ||
		find_hour(volume->restored, volume->nrestored, begins) >= 0)
		return;
	hour = find_hour(volume->hours, volume->nhours, click.minute);
	if (hour < 0)
		hour = find_hour(volume->hours, volume->nhours, begins);
	if (hour < 0)
		return;
	click.filter_id = filters_count_again(&counted, click.minute);
	keep_click(r, &click, copies);
	r->of_hours[hour] += (int64) copies;
	r->clicks += (int64) copies;
}

/* A row is of the hour in which it was clicked, and of no other. */
static void
take_row(Restoring *r, const Datum *values, const bool *nulls)
{
	TupleTableSlot *row = r->row;

	if (find_hour(r->volume->hours, r->volume->nhours, line_row_minute(values, nulls)) < 0)
		return;
	ExecClearTuple(row);
	memcpy(row->tts_values, &values[LINE_CLICK], sizeof(Datum) * CLICK_COLUMNS);
	memcpy(row->tts_isnull, &nulls[LINE_CLICK], sizeof(bool) * CLICK_COLUMNS);
	if (!row->tts_isnull[CLICK_USER_ID - 1] &&
		store_is_forgotten(r->forgotten, DatumGetInt64(row->tts_values[CLICK_USER_ID - 1]), r->volume->volume))
		row->tts_isnull[CLICK_USER_ID - 1] = row->tts_isnull[CLICK_IP - 1] = true;
	ExecStoreVirtualTuple(row);
	store_set_aside(r->rows, row, CLICK_VALID);
}

static void
take_line(Restoring *r, const Datum *values, const bool *nulls)
{
	if (line_kind(values, nulls) == LINE_IS_ARRIVED)
		take_row(r, values, nulls);
	else
		take_click(r, values, nulls);
}

/* All lines of a file, whatever they are of: only at the end it shows whether gzip could read it. */
static void
read_lines(Restoring *r, Relation lines, const char *path)
{
	CopyFromState copy = BeginCopyFrom(NULL, lines, NULL, NULL, false, unzip_bytes, NIL, archive_copy_options(true));
	ErrorContextCallback callback = {error_context_stack, CopyFromErrorCallback, copy};
	Datum		values[LINE_COLUMNS];
	bool		nulls[LINE_COLUMNS];

	unzip_begin(path);
	error_context_stack = &callback;
	MemoryContextSwitchTo(r->of_line);
	while (NextCopyFrom(copy, NULL, values, nulls))
	{
		CHECK_FOR_INTERRUPTS();
		take_line(r, values, nulls);
		MemoryContextReset(r->of_line);
	}
	MemoryContextSwitchTo(r->context);
	error_context_stack = callback.previous;
	EndCopyFrom(copy);
}

static void
check_file(const StoreArchived *volume, File copy)
{
	int64		bytes;
	char	   *sha256;

	archive_measure(archive_path(volume->file), copy, &bytes, &sha256);
	if (bytes != volume->bytes || strcmp(sha256, volume->sha256) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is not what adclick.archive_clicks() has written", volume->file),
				 errdetail("It has %lld bytes with SHA-256 %s, and should have %lld with %s.", (long long) bytes, sha256,
						   (long long) volume->bytes, volume->sha256),
				 errhint("Nothing was restored. Bring the file back from a copy.")));
}

/* Of errors that are raised while it is read. */
static void
say_file(void *arg)
{
	const StoreArchived *volume = arg;

	if (geterrcode() == ERRCODE_EXTERNAL_ROUTINE_EXCEPTION)
		errhint("The server log has what the program said. Nothing was restored.");
	errcontext("volume %d of the ledger, file \"%s\"", volume->volume, volume->file);
}

/* What was checked may be another file when it is read: so it is a copy that nobody else can change. */
static void
read_volume(Restoring *r, const StoreArchived *volume)
{
	Relation	lines = store_open_lines();
	File		copy = OpenTemporaryFile(false);
	ErrorContextCallback callback = {error_context_stack, say_file, unconstify(StoreArchived *, volume)};

	check_file(volume, copy);
	error_context_stack = &callback;
	r->volume = volume;
	r->in_file = 0;
	r->of_hours = palloc0(sizeof(int64) * volume->nhours);
	r->rows = store_set_aside_begin(RESTORED_ROWS);
	r->row = MakeSingleTupleTableSlot(RelationGetDescr(lines), &TTSOpsVirtual);
	read_lines(r, lines, FilePathName(copy));
	error_context_stack = callback.previous;
	FileClose(copy);
	if (r->in_file != volume->clicks)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" has not the clicks that it should have", volume->file),
				 errdetail("It has %lld clicks, and volume %d had %lld.", (long long) r->in_file, volume->volume,
						   (long long) volume->clicks)));
	(void) accumulate_ledger(&r->batch, true);
	store_set_aside_end(r->rows);
	ExecDropSingleTupleTableSlot(r->row);
	relation_close(lines, AccessShareLock);
	store_put_restored(volume, r->of_hours);
	pfree(r->of_hours);
}

static void
begin(Restoring *r)
{
	r->context = AllocSetContextCreate(CurrentMemoryContext, "adclick restored", ALLOCSET_DEFAULT_SIZES);
	r->of_line = AllocSetContextCreate(r->context, "adclick restored line", ALLOCSET_DEFAULT_SIZES);
	(void) store_keep_extension();
	store_lock(STORE_LOCK_RESTORED);
	if (store_in_restore())
		store_refuse_in_restore();
}

/* Those whose file was never written are not whole, whatever comes. */
static void
say_lost(int64 from, int64 to)
{
	if (store_has_lost(from, to))
		ereport(NOTICE,
				(errmsg("some clicks of these hours cannot be restored"),
				 errdetail("They were dropped without having been archived, see adclick.archived_volumes.")));
}

int64
restored_bring_back(int64 from, int64 to)
{
	Restoring	r = {0};
	MemoryContext outer = CurrentMemoryContext;
	StoreArchived *volumes;
	int			n;

	begin(&r);
	MemoryContextSwitchTo(r.context);
	store_push_newest();
	store_get_state(&r.state);
	filters_refresh();
	say_lost(from, to);
	r.forgotten = store_get_forgotten();
	r.disguise = disguise_begin(&r.state, r.context);
	volumes = store_get_restorable(from, to, &n);
	for (int i = 0; i < n; i++)
		check_file(&volumes[i], -1);
	r.batch.ncolumns = order_columns[ORDER_LEDGER];
	facts_enlarge(&r.batch, LEDGER_BATCH, r.context);
	for (int i = 0; i < n; i++)
		read_volume(&r, &volumes[i]);
	filters_keep_days();
	disguise_keep(r.disguise);
	PopActiveSnapshot();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(r.context);
	return r.clicks;
}

int64
restored_release(void)
{
	store_lock(STORE_LOCK_RESTORED);
	return store_release();
}
