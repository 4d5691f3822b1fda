/*-------------------------------------------------------------------------
 *
 * archive.c
 *	  Volumes of the ledger are written to files before they are dropped.
 *
 * See archive.h.  A volume that is closed changes no more, but for users who are
 * forgotten; so it is written without any lock.  In the end it is looked, with the
 * compaction's lock, whether it still has what was written: if not it is written anew,
 * and no file is left that names a user forgotten meanwhile.
 *
 * The server's COPY makes the text, and gzip compresses it.  A file has its name when
 * it was read back and is on disk, and not before; the books know it after that.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "commands/copy.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parse_node.h"
#include "storage/fd.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "archive.h"
#include "archive_file.h"
#include "base/adclick.h"
#include "base/compat.h"
#include "store/store.h"
#include "unzip.h"

/* Of errors that are raised while a volume is written or read. */
typedef struct Place
{
	int32		volume;
	const char *path;
} Place;

static void
say_place(void *arg)
{
	const Place *place = arg;

	if (geterrcode() == ERRCODE_EXTERNAL_ROUTINE_EXCEPTION)
		errhint("The server log has what the program said. Nothing is dropped that has not been archived.");
	errcontext("volume %d of the ledger, file \"%s\"", place->volume, place->path);
}

/* Returns how many lines were written. */
static int64
copy_to_program(const char *query, const char *command)
{
	ParseState *pstate = make_parsestate(NULL);
	CopyToState copy;
	int64		lines;

	pstate->p_sourcetext = query;
	copy = compat_begin_copy_to(pstate, linitial_node(RawStmt, pg_parse_query(query)), command, archive_copy_options(false));
	lines = (int64) DoCopyTo(copy);
	EndCopyTo(copy);
	free_parsestate(pstate);
	return lines;
}

/* A program that ends as if all were well may have written something else, or nothing. */
static void
check_lines(const char *path, int64 lines)
{
	int64		in_file = unzip_count_lines(path) - 1;

	if (in_file != lines)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("program \"%s\" has not written what it was given", archive_compress_command(path)),
				 errdetail("The file has %lld lines, and should have %lld.", (long long) in_file, (long long) lines)));
}

/* Write a volume as one snapshot sees it; NULL if it is not there any more. */
static StoreArchived *
write_file(int32 volume, const char *path)
{
	StoreArchived *archived;
	int64		lines;

	store_push_newest();
	archived = store_get_stored_volume(volume);
	if (archived)
	{
		lines = copy_to_program(store_archived_query(volume), archive_compress_command(path));
		if (lines != archived->lines)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("volume %d of the ledger has not as many clicks as it says", volume),
					 errdetail("The file has %lld lines, and should have %lld.", (long long) lines, (long long) archived->lines)));
	}
	PopActiveSnapshot();
	if (archived)
	{
		check_lines(path, archived->lines);
		fsync_fname(path, false);
		archive_measure(path, -1, &archived->bytes, &archived->sha256);
	}
	return archived;
}

/* With the lock: who is forgotten, or what is dropped, comes before or after. */
static bool
publish(StoreArchived *archived, const char *path)
{
	StoreArchived *now;
	bool		is_same;

	store_lock(STORE_LOCK_COMPACTION);
	store_push_newest();
	now = store_get_stored_volume(archived->volume);
	is_same = now && strcmp(now->contents, archived->contents) == 0;
	if (is_same)
	{
		archive_publish(archived, path);
		store_put_archived(archived);
	}
	PopActiveSnapshot();
	if (!is_same)
		store_unlock(STORE_LOCK_COMPACTION);
	return is_same;
}

static void
write_volume(int32 volume)
{
	char	   *file = archive_file_name(volume);
	char	   *path = archive_unfinished(archive_path(file));
	Place		place = {volume, path};
	ErrorContextCallback callback = {error_context_stack, say_place, &place};
	StoreArchived *archived;
	bool		done = false;

	error_context_stack = &callback;
	archive_prepare(file);
	PG_TRY();
	{
		while (!done && (archived = write_file(volume, path)) != NULL)
		{
			archived->file = file;
			done = publish(archived, path);
		}
	}
	PG_FINALLY();
	{
		/* half of a file, or one of what has changed */
		(void) unlink(path);
		CHECK_FOR_INTERRUPTS(); /* who cancels us ends the program, too, and that failed */
	}
	PG_END_TRY();
	error_context_stack = callback.previous;
}

/*
 * A file of the database that this one is a copy of, or of another timeline, may be written anew there: it
 * is nothing to rely on.
 */
static bool
has_own_file(const StoreArchived *archived)
{
	return archived->file && strcmp(archived->file, archive_file_name(archived->volume)) == 0 &&
		archive_is_there(archived->file, archived->bytes);
}

bool
archive_has(int32 volume)
{
	StoreArchived *archived = store_get_stored_volume(volume);

	return archived && has_own_file(archived);
}

bool
archive_next_volume(void)
{
	int			n;
	StoreArchived *volumes;

	if (!archive_is_on())
	{
		ereport(NOTICE,
				(errmsg("adclick.archive_directory is not set: nothing is archived")));
		return false;
	}
	store_lock(STORE_LOCK_ARCHIVE);
	if (store_in_restore())
		store_refuse_in_restore();
	store_push_newest();
	volumes = store_get_archivable(&n);
	PopActiveSnapshot();
	for (int i = 0; i < n; i++)
		if (!has_own_file(&volumes[i]))
		{
			write_volume(volumes[i].volume);
			return true;
		}
	return false;
}
