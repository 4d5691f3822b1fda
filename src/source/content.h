/*-------------------------------------------------------------------------
 *
 * content.h
 *	  What is in a log file, from one byte to the next; also if gzip has compressed it.
 *
 * What was read of a file is known by hashes of its first and its last bytes, so that
 * it is found again under another name, as a copy, or compressed; and that a
 * file with another content is told, which has its name, or its inode.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_CONTENT_H
#define ADCLICK_CONTENT_H

#include "postgres.h"

#include "disk.h"
#include "store/store_sources.h"

/* First bytes that are at hand: a header must be among them. */
#define CONTENT_HEAD 8192

typedef struct Content
{
	DiskFile	file;
	bool		compressed;
	char		head[CONTENT_HEAD];
	int			nhead;
	int64		at;				/* all before was consumed */

	int			fd;
	FILE	   *pipe;			/* of gzip */
	int64		fetched;		/* all before was fetched */
	bool		at_end;
	char		end[1024];		/* the last bytes that were consumed */
	int			nend;
	bool		has_hash;		/* of the first so many bytes */
	int			hashed;
	pg_uuid_t	hash;
} Content;

/*
 * Open a file that was found; NULL if it is no longer there, or cannot be opened: then
 * "problem" says why.
 */
extern Content *content_open(const DiskFile *file, const char **problem);

/* Go to where a file was read to; false if this one does not have what was read of that. */
extern bool content_resume(Content *content, const StoreLogFile *file);

/* Go to a place, as if all before had been consumed; of a compressed one only forward. False if it has not so much. */
extern bool content_go(Content *content, int64 place);

/* Whether the first bytes are those that were read of a file, as far as both have them: a quick look. */
extern bool content_may_have(Content *content, const StoreLogFile *file);

/* Whether they have all that was read of a file, if it is not more than them. */
extern bool content_head_has(const Content *content, const StoreLogFile *file);

/* Fetch the next bytes, up to "limit" of the whole file; returns how many there are, 0 at the end. */
extern int	content_fetch(Content *content, char *buffer, int room, int64 limit);

/* The next bytes after those consumed before were consumed. */
extern void content_consume(Content *content, const char *bytes, int n);

/* Note in a file what was consumed. */
extern void content_note(const Content *content, StoreLogFile *file);

/* Whether the file still has what was consumed: it was not truncated and written anew meanwhile. */
extern bool content_is_intact(const Content *content);

/* Whether all of it is the beginning of another one. */
extern bool content_is_prefix(Content *content, Content *of);

/* False if gzip did not get to the end of it. */
extern bool content_close(Content *content);

/* Whether gzip can read all of a compressed file. */
extern bool content_is_whole(const DiskFile *file);

#endif							/* ADCLICK_CONTENT_H */
