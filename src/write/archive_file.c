/*-------------------------------------------------------------------------
 *
 * archive_file.c
 *	  The files of the archive: where they lie, how they are made safe, how they are told.
 *
 * See archive_file.h.  Each database of each server has a directory of its own below
 * adclick.archive_directory, and each timeline: who recovers to another past overwrites no
 * file of the one that was.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "common/cryptohash.h"
#include "common/file_perm.h"
#include "common/sha2.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "archive_file.h"
#include "base/adclick.h"

/* Of files and what stands beside them; another one would have other columns or another format. */
#define ARCHIVE_VERSION 1

#define READ_BYTES (256 * 1024)

bool
archive_is_on(void)
{
	return adclick_archive_directory[0] != '\0';
}

char *
archive_file_name(int32 volume)
{
	return psprintf(UINT64_FORMAT "_%u_%u/volume_%d.csv.gz", GetSystemIdentifier(), MyDatabaseId,
					GetWALInsertionTimeLine(), volume);
}

char *
archive_path(const char *file)
{
	if (!archive_is_on())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("adclick.archive_directory is not set"),
				 errhint("Set it to the directory that has the files of the archive.")));
	if (is_absolute_path(file) || path_contains_parent_reference(file))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a file of the archive lies outside of its directory"),
				 errdetail("adclick.archived_volumes has the name \"%s\".", file)));
	return psprintf("%s/%s", adclick_archive_directory, file);
}

char *
archive_unfinished(const char *path)
{
	return psprintf("%s.unfinished", path);
}

static void
check_directory(void)
{
	struct stat status;

	if (stat(adclick_archive_directory, &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not find adclick.archive_directory \"%s\": %m", adclick_archive_directory),
				 errhint("Make it, for the operating system's user that the server runs as, or set another one.")));
	if (!S_ISDIR(status.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("adclick.archive_directory \"%s\" is not a directory", adclick_archive_directory)));
}

/* The program would say only on its way to the server log that it may not write there. */
static void
check_writable(const char *path)
{
	int			fd = OpenTransientFile(path, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);

	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", path)));
	if (CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not close file \"%s\": %m", path)));
}

void
archive_prepare(const char *file)
{
	char	   *path = archive_path(file);
	char	   *directory = pstrdup(path);

	check_directory();
	get_parent_directory(directory);
	if (MakePGDirectory(directory) == 0)
		fsync_fname(adclick_archive_directory, true);
	else if (errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", directory)));
	check_writable(archive_unfinished(path));
}

bool
archive_is_there(const char *file, int64 bytes)
{
	struct stat status;

	return stat(archive_path(file), &status) == 0 && S_ISREG(status.st_mode) && status.st_size == bytes;
}

static void
refuse_checksum(pg_cryptohash_ctx *checksum)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("could not compute a checksum: %s", pg_cryptohash_error(checksum))));
}

/* One that is not a file, but a pipe perhaps, might never end. */
static int
open_file(const char *path)
{
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (!S_ISREG(status.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a regular file", path)));
	return fd;
}

static void
write_copy(File copy, const uint8 *data, ssize_t n, int64 at)
{
	if (FileWrite(copy, (char *) data, n, at, WAIT_EVENT_COPY_FILE_WRITE) != n)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", FilePathName(copy))));
}

/* All of an open file; returns its bytes. */
static int64
add_file(pg_cryptohash_ctx *checksum, int fd, const char *path, File copy)
{
	uint8	   *buffer = palloc(READ_BYTES);
	int64		bytes = 0;
	ssize_t		n;

	while ((n = read(fd, buffer, READ_BYTES)) != 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read file \"%s\": %m", path)));
		if (pg_cryptohash_update(checksum, buffer, n) < 0)
			refuse_checksum(checksum);
		if (copy >= 0)
			write_copy(copy, buffer, n, bytes);
		bytes += n;
	}
	pfree(buffer);
	return bytes;
}

void
archive_measure(const char *path, File copy, int64 *bytes, char **sha256)
{
	pg_cryptohash_ctx *checksum = pg_cryptohash_create(PG_SHA256);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	int			fd = open_file(path);

	if (checksum == NULL || pg_cryptohash_init(checksum) < 0)
		refuse_checksum(checksum);
	*bytes = add_file(checksum, fd, path, copy);
	if (pg_cryptohash_final(checksum, digest, sizeof(digest)) < 0)
		refuse_checksum(checksum);
	pg_cryptohash_free(checksum);
	CloseTransientFile(fd);
	*sha256 = palloc0(2 * sizeof(digest) + 1);
	(void) hex_encode((const char *) digest, sizeof(digest), *sha256);
}

/* What a file is of, for who has nothing but the files. */
static char *
manifest(const StoreArchived *archived)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "{\"version\": %d, \"system_identifier\": \"" UINT64_FORMAT "\", \"database\": ",
					 ARCHIVE_VERSION, GetSystemIdentifier());
	escape_json(&text, get_database_name(MyDatabaseId));
	appendStringInfo(&text, ", \"volume\": %d, \"first_minute\": \"%s\"", archived->volume,
					 timestamptz_to_str(archived->first_minute * USECS_PER_MINUTE));
	appendStringInfo(&text, ", \"last_minute\": \"%s\", \"clicks\": %lld, \"lines\": %lld",
					 timestamptz_to_str(archived->last_minute * USECS_PER_MINUTE),
					 (long long) archived->clicks, (long long) archived->lines);
	appendStringInfo(&text, ", \"file\": \"%s\", \"format\": \"csv with header\", \"compression\": \"gzip\", \"encoding\": \"%s\"",
					 last_dir_separator(archived->file) + 1, GetDatabaseEncodingName());
	appendStringInfo(&text, ", \"bytes\": %lld, \"sha256\": \"%s\"}\n", (long long) archived->bytes, archived->sha256);
	return text.data;
}

static void
write_file(const char *path, const char *text)
{
	FILE	   *file = AllocateFile(path, PG_BINARY_W);

	if (file == NULL || fwrite(text, strlen(text), 1, file) != 1 || FreeFile(file) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", path)));
}

void
archive_publish(const StoreArchived *archived, const char *unfinished)
{
	char	   *path = archive_path(archived->file);
	char	   *beside = psprintf("%.*s.json", (int) (strlen(path) - strlen(".csv.gz")), path);

	(void) durable_rename(unfinished, path, ERROR);
	write_file(archive_unfinished(beside), manifest(archived));
	(void) durable_rename(archive_unfinished(beside), beside, ERROR);
}

char *
archive_compress_command(const char *path)
{
	return psprintf("exec gzip -nc > %s", shell_word(path));
}

char *
archive_uncompress_command(const char *path)
{
	return psprintf("exec gzip -dc < %s", shell_word(path));
}

/* A file with other columns than ours is none of ours. */
List *
archive_copy_options(bool reading)
{
	return list_make3(makeDefElem("format", (Node *) makeString("csv"), -1),
					  makeDefElem("header", (Node *) makeString(reading ? "match" : "true"), -1),
					  makeDefElem("encoding", (Node *) makeString(pstrdup(GetDatabaseEncodingName())), -1));
}
