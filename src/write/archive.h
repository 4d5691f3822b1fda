/*-------------------------------------------------------------------------
 *
 * archive.h
 *	  Clicks of the ledger are written to files before they are dropped, and come back.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_ARCHIVE_H
#define ADCLICK_ARCHIVE_H

#include "postgres.h"

/*
 * Write the first volume that is closed and has no file of what it has to one; false if
 * there is none.  Nobody waits meanwhile.
 */
extern bool archive_next_volume(void);

/* Whether a volume has a file of what it has. */
extern bool archive_has(int32 volume);

/*
 * Bring back what dropped volumes had of the hours in minutes from .. to (included), from
 * their files; returns how many clicks.
 */
extern int64 restored_bring_back(int64 from, int64 to);

/* Let all that came back go; returns how many clicks. */
extern int64 restored_release(void);

#endif							/* ADCLICK_ARCHIVE_H */
