/*-------------------------------------------------------------------------
 *
 * archive_file.h
 *	  The files of the archive: where they lie, how they are made safe, how they are told.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_ARCHIVE_FILE_H
#define ADCLICK_ARCHIVE_FILE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/fd.h"

#include "store/store.h"

/* Whether adclick.archive_directory is set. */
extern bool archive_is_on(void);

/* The name of a volume's file, below the directory; and of any file its path, or an error. */
extern char *archive_file_name(int32 volume);
extern char *archive_path(const char *file);

/* What a file is called until it is whole. */
extern char *archive_unfinished(const char *path);

/* Make sure that there can be files: an error says why not. */
extern void archive_prepare(const char *file);

/* Whether there is a file of this size. */
extern bool archive_is_there(const char *file, int64 bytes);

/* Read a file, and say how large it is and what its checksum is, in hexadecimal digits; and copy it, unless "copy" is -1. */
extern void archive_measure(const char *path, File copy, int64 *bytes, char **sha256);

/* Give a file that is whole its name, and write beside it what it is of. */
extern void archive_publish(const StoreArchived *archived, const char *unfinished);

/* The programs that compress and uncompress; and how COPY writes and reads. */
extern char *archive_compress_command(const char *path);
extern char *archive_uncompress_command(const char *path);
extern List *archive_copy_options(bool reading);

#endif							/* ADCLICK_ARCHIVE_FILE_H */
