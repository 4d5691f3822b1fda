/*-------------------------------------------------------------------------
 *
 * disk.h
 *	  Log files as they lie on disk: finding them, and what they are told by.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_DISK_H
#define ADCLICK_DISK_H

#include "postgres.h"

/* A regular file. */
typedef struct DiskFile
{
	const char *path;
	int64		device;
	int64		inode;
	int64		size;
	int64		modified_at;	/* ns */
} DiskFile;

/* Files, each once, by device and inode. */
typedef struct DiskFiles
{
	DiskFile   *files;
	int			n;
	int			room;
} DiskFiles;

/* More files than this meet no pattern. */
#define DISK_MAX_FILES 100000

/*
 * An error if the directory that a pattern begins with cannot be read, or is not there: then
 * nothing is known of its files, which may be there as before.
 */
extern void disk_check(const char *pattern);

/* Those that meet a pattern of glob(); links lead to what they point to, and what is no regular file is passed by. */
extern void disk_find(const char *pattern, DiskFiles *files);

/* What is at a path; false if it is no regular file. */
extern bool disk_look(const char *path, DiskFile *file);

/* The file of an inode among them; NULL: it is not there. */
extern DiskFile *disk_search(const DiskFiles *files, int64 device, int64 inode);

/* Likewise in the directory of a path: it may have got another name, which meets no pattern. */
extern bool disk_search_directory(const char *path, int64 device, int64 inode, DiskFile *file);

/* Files that a copy of the one of this path, compressed perhaps, can have become by rotation: "PATH*" in its directory. */
extern void disk_find_successors(const char *path, DiskFiles *files);

extern void disk_add(DiskFiles *files, const DiskFile *file);

#endif							/* ADCLICK_DISK_H */
