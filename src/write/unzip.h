/*-------------------------------------------------------------------------
 *
 * unzip.h
 *	  What a file of the archive has, uncompressed by gzip.
 *
 * One at a time, as COPY asks its source without saying which one it is.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_UNZIP_H
#define ADCLICK_UNZIP_H

#include "postgres.h"

extern void unzip_begin(const char *path);

/* The next bytes, for COPY; 0 at the end, where it is an error if gzip did not end well. */
extern int	unzip_bytes(void *buffer, int minread, int maxread);

/* All of a file: how many lines it has, as CSV counts them. */
extern int64 unzip_count_lines(const char *path);

#endif							/* ADCLICK_UNZIP_H */
