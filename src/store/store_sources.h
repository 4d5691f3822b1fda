/*-------------------------------------------------------------------------
 *
 * store_sources.h
 *	  The tables of log files: the sources, how far each file is read, and lines that
 *	  are no clicks.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_STORE_SOURCES_H
#define ADCLICK_STORE_SOURCES_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "inbox/click.h"

typedef struct StoreSource
{
	const char *name;
	const char *path;			/* a pattern of glob() */
	bool		is_json;
	bool		by_same_names;		/* whichever columns of ours a file has */
	const char *columns[CLICK_COLUMNS]; /* what each is called in the files; NULL: it is not there */
	const char *added_by;
	int64		bytes_waiting;
	const char *last_error;		/* NULL: none */
} StoreSource;

/* What was read of a file; the columns of the table tell what they are. */
typedef struct StoreLogFile
{
	int32		number;			/* within the source; 0: it is not stored */
	const char *path;
	int64		device;
	int64		inode;
	int64		size;
	int64		modified_at;
	bool		compressed;
	bool		rotated;
	int64		read_to;
	bool		in_line;
	pg_uuid_t	begin_hash;
	pg_uuid_t	end_hash;
	int32		copy_of;		/* 0: it is none */
	bool		is_gone;
	int64		lines;
	int64		bad_lines;
} StoreLogFile;

typedef struct StoreBadLine
{
	const char *path;
	int64		offset;
	const char *line;
	const char *sqlstate;
	const char *reason;
} StoreBadLine;

/* All of them, by name. */
extern StoreSource *store_get_sources(int *count);
extern bool store_has_sources(void);

/* An error if there is one of this name. */
extern void store_add_source(const StoreSource *source, Jsonb *columns);

/* With all that is known of its files; false if there is none. */
extern bool store_drop_source(const char *name);

/* What the round found: so many clicks and bad lines more, so many bytes left, an error or none. */
extern void store_note_source(const StoreSource *source, int64 lines, int64 bad_lines, int64 bytes_waiting,
							  const char *error);

/* Those of a source by number, those that are gone included; put one, a new one by the next number there is. */
extern StoreLogFile *store_get_log_files(const char *source, int *count);
extern void store_put_log_file(const char *source, const StoreLogFile *file);
extern void store_delete_log_file(const char *source, int32 number);

/* Forget files that have been gone for longer than a click may be late: lines of theirs count no more, should they come back. */
extern void store_delete_gone_files(const char *source);

/* How many bad lines there still is room for; put one there. */
extern int64 store_room_for_bad_lines(const char *source);
extern void store_put_bad_line(const char *source, const StoreBadLine *line);

/* Which source is not read, and why; NULL: all are. */
extern char *store_get_source_error(void);

#endif							/* ADCLICK_STORE_SOURCES_H */
