/*-------------------------------------------------------------------------
 *
 * follow.h
 *	  Which files on disk are those that were read before, whatever became of them.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FOLLOW_H
#define ADCLICK_FOLLOW_H

#include "postgres.h"

#include "content.h"
#include "disk.h"
#include "store/store_sources.h"

/* A file that is known, or new: number 0. */
typedef struct LogFile
{
	StoreLogFile row;
	bool		has_place;		/* "disk" has what was read of it */
	DiskFile	disk;
	int64		limit;			/* it is not read beyond this in this round */
	bool		is_changed;		/* the row is to be stored */
	bool		is_deleted;
	int			nhead;			/* of a new one: its first bytes, to compare others with */
	char	   *head;
} LogFile;

typedef struct LogFiles
{
	const StoreSource *source;
	LogFile   **files;
	int			n;
	int			room;
	int64		bytes_waiting;	/* of files that have not been decided on */
	bool		undecided;		/* another round will know more */
	const char *problem;		/* a file that could not be opened; NULL: none */
} LogFiles;

/* Find the files of a source, and what became of those that were read. */
extern void follow_files(LogFiles *files);

/* Store what was found about those that were not read further. */
extern void follow_store(LogFiles *files, LogFile *file);

#endif							/* ADCLICK_FOLLOW_H */
