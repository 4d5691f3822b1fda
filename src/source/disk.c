/*-------------------------------------------------------------------------
 *
 * disk.c
 *	  Log files as they lie on disk.
 *
 * See disk.h.  Files come and go while they are looked for: what is not there any more was
 * not there.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <glob.h>
#include <sys/stat.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "disk.h"

bool
disk_look(const char *path, DiskFile *file)
{
	struct stat status;

	if (stat(path, &status) != 0 || !S_ISREG(status.st_mode))
		return false;
	*file = (DiskFile) {
		path, (int64) status.st_dev, (int64) status.st_ino, status.st_size,
		(int64) status.st_mtim.tv_sec * INT64CONST(1000000000) + status.st_mtim.tv_nsec
	};
	return true;
}

static int
compare_files(const void *a, const void *b)
{
	const DiskFile *x = a;
	const DiskFile *y = b;

	if (x->device != y->device)
		return x->device < y->device ? -1 : 1;
	return (x->inode > y->inode) - (x->inode < y->inode);
}

static void
append(DiskFiles *files, const DiskFile *file)
{
	if (files->n == files->room)
	{
		files->room = Max(64, files->room * 2);
		files->files = files->files ? repalloc_huge(files->files, sizeof(DiskFile) * files->room) :
			palloc(sizeof(DiskFile) * files->room);
	}
	files->files[files->n++] = *file;
}

static int
compare_paths(const void *a, const void *b)
{
	int			result = compare_files(a, b);

	return result != 0 ? result : strcmp(((const DiskFile *) a)->path, ((const DiskFile *) b)->path);
}

/* Several paths may lead to one file: the first one stays. */
static void
sort(DiskFiles *files)
{
	int			n = 0;

	if (files->n > 1)
		qsort(files->files, files->n, sizeof(DiskFile), compare_paths);
	for (int i = 0; i < files->n; i++)
		if (n == 0 || compare_files(&files->files[n - 1], &files->files[i]) != 0)
			files->files[n++] = files->files[i];
	files->n = n;
}

void
disk_add(DiskFiles *files, const DiskFile *file)
{
	append(files, file);
	sort(files);
}

static void
look_at_each(const glob_t *found, DiskFiles *files)
{
	for (size_t i = 0; i < found->gl_pathc; i++)
	{
		DiskFile	file;

		CHECK_FOR_INTERRUPTS();
		if (!disk_look(found->gl_pathv[i], &file))
			continue;
		file.path = pstrdup(file.path);
		append(files, &file);
	}
	sort(files);
}

void
disk_check(const char *pattern)
{
	size_t		literal = strcspn(pattern, "*?[\\");
	bool		is_literal = pattern[literal] == '\0';
	char	   *directory = pnstrdup(pattern, literal);
	char	   *slash = strrchr(directory, '/');
	struct stat status;

	slash[slash == directory ? 1 : 0] = '\0';
	if (access(directory, is_literal ? X_OK : R_OK | X_OK) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read directory \"%s\": %m", directory)));
	if (is_literal && stat(pattern, &status) == 0 && S_ISDIR(status.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a directory", pattern),
				 errhint("Choose a pattern that its files meet, such as \"%s/*\".", pattern)));
}

void
disk_find(const char *pattern, DiskFiles *files)
{
	glob_t		found;
	int			result = glob(pattern, 0, NULL, &found);

	memset(files, 0, sizeof(*files));
	if (result == GLOB_NOSPACE)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for the files that meet \"%s\"", pattern)));
	if (result != 0)
		return;					/* none, or a directory that cannot be read */
	PG_TRY();
	{
		if (found.gl_pathc > DISK_MAX_FILES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many files meet \"%s\"", pattern),
					 errdetail("There are %zu, and no more than %d are looked at.", found.gl_pathc, DISK_MAX_FILES),
					 errhint("Move old files to another directory, or choose a narrower pattern.")));
		look_at_each(&found, files);
	}
	PG_FINALLY();
	{
		globfree(&found);
	}
	PG_END_TRY();
}

DiskFile *
disk_search(const DiskFiles *files, int64 device, int64 inode)
{
	DiskFile	wanted = {NULL, device, inode};

	return files->n == 0 ? NULL : bsearch(&wanted, files->files, files->n, sizeof(DiskFile), compare_files);
}

static char *
directory_of(const char *path)
{
	char	   *directory = pstrdup(path);

	get_parent_directory(directory);
	return directory;
}

bool
disk_search_directory(const char *path, int64 device, int64 inode, DiskFile *file)
{
	char	   *name = directory_of(path);
	DIR		   *directory = AllocateDir(name);
	struct dirent *entry;
	bool		found = false;

	while (directory && !found && (entry = ReadDirExtended(directory, name, DEBUG1)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if ((int64) entry->d_ino != inode)
			continue;
		found = disk_look(psprintf("%s/%s", name, entry->d_name), file) &&
			file->device == device && file->inode == inode;
	}
	if (directory)
		FreeDir(directory);
	return found;
}

/*
 * A pattern for the names that a file may get when it is rotated: what follows its name
 * but for a number at the end, which may become another one.
 */
static char *
pattern_of_successors(const char *path)
{
	const char *end = path + strlen(path);
	char	   *pattern = palloc(strlen(path) * 2 + 2);
	char	   *next = pattern;

	while (end[-1] >= '0' && end[-1] <= '9')
		end--;
	for (const char *c = path; c < end; c++)
	{
		/* what glob() would not take for itself */
		if (strchr("*?[\\", *c))
			*next++ = '\\';
		*next++ = *c;
	}
	strcpy(next, "*");
	return pattern;
}

void
disk_find_successors(const char *path, DiskFiles *files)
{
	disk_find(pattern_of_successors(path), files);
}
