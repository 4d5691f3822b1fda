/*-------------------------------------------------------------------------
 *
 * follow.c
 *	  Which files on disk are those that were read before, whatever became of them.
 *
 * See follow.h.  A file is known by its inode, if that still has what was read of it
 * (content.h); whatever it is called.  If it has not, what was read may be in another
 * file: a copy, made before the file was truncated or removed, or what gzip made of it.
 * Reading goes on there; and in the file begins a new content.
 *
 * A copy must not be read while there is what it is a copy of.  One that is seen then
 * gets a row of its own, so that it is known later.  One that is made after files were
 * looked for has all that is read of them in this round: no file is read further than it
 * was long before they were looked for once more.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/adclick.h"
#include "follow.h"

typedef struct Follower
{
	LogFiles   *files;
	DiskFiles	before;			/* looked for first, ... */
	DiskFiles	found;			/* ... and once more, with those that meet the pattern no longer */
	bool	   *claimed;		/* of those found: it is one that is known */
	int32		last_number;
} Follower;

static LogFile *
add_file(Follower *f, const StoreLogFile *row)
{
	LogFiles   *files = f->files;
	LogFile    *file = palloc0(sizeof(LogFile));

	if (files->n == files->room)
	{
		files->room = Max(64, files->room * 2);
		files->files = files->files ? repalloc_huge(files->files, sizeof(LogFile *) * files->room) :
			palloc(sizeof(LogFile *) * files->room);
	}
	files->files[files->n++] = file;
	file->row = *row;
	f->last_number = Max(f->last_number, row->number);
	return file;
}

static void
load(Follower *f)
{
	int			n;
	StoreLogFile *rows = store_get_log_files(f->files->source->name, &n);

	for (int i = 0; i < n; i++)
		(void) add_file(f, &rows[i]);
}

static void
note_problem(LogFiles *files, const char *problem)
{
	if (files->problem == NULL)
		files->problem = problem;
}

static bool
looks_the_same(const LogFile *file, const DiskFile *disk)
{
	return file->row.size == disk->size && file->row.modified_at == disk->modified_at;
}

static void
put_in_place(LogFile *file, const DiskFile *disk)
{
	file->has_place = true;
	file->disk = *disk;
	file->limit = disk->size;
}

/* Whether all files are as they were, and no others are there: then nothing is to be found out. */
static bool
are_as_before(Follower *f)
{
	int			n = 0;

	for (int i = 0; i < f->files->n; i++)
	{
		LogFile    *file = f->files->files[i];
		DiskFile   *disk;

		if (file->row.is_gone)
			continue;
		disk = disk_search(&f->before, file->row.device, file->row.inode);
		if (disk == NULL || !looks_the_same(file, disk) || strcmp(disk->path, file->row.path) != 0)
			return false;
		put_in_place(file, disk);
		n++;
	}
	for (int i = 0; i < f->before.n; i++)
		n += f->before.files[i].size == 0;
	return n == f->before.n;
}

/* Files that are known, and meet the pattern no longer, or never did. */
static void
find_renamed(Follower *f)
{
	int			n = f->files->n;

	for (int i = 0; i < n; i++)
	{
		const StoreLogFile *row = &f->files->files[i]->row;
		DiskFile	disk;

		CHECK_FOR_INTERRUPTS();
		if (!row->is_gone && disk_search(&f->found, row->device, row->inode) == NULL &&
			disk_search_directory(row->path, row->device, row->inode, &disk))
			disk_add(&f->found, &disk);
	}
}

/* Whether the file at an inode still has what was read of it; true as well if that cannot be told now. */
static bool
still_has(Follower *f, LogFile *file, const DiskFile *disk)
{
	const char *problem = NULL;
	Content    *content;
	bool		result;

	if (looks_the_same(file, disk))
		return true;
	content = content_open(disk, &problem);
	if (content == NULL)
	{
		if (problem)
			note_problem(f->files, problem);
		f->files->undecided |= problem == NULL;
		file->limit = 0;
		return true;
	}
	/* its inode may have been given to what gzip made of it */
	result = content->compressed == file->row.compressed && content_resume(content, &file->row);
	(void) content_close(content);
	return result;
}

/* Where a file is by its inode; what is read of it no further than it was at first. */
static void
place(Follower *f, LogFile *file)
{
	DiskFile   *disk = disk_search(&f->found, file->row.device, file->row.inode);
	DiskFile   *before = disk_search(&f->before, file->row.device, file->row.inode);

	if (file->row.is_gone || disk == NULL)
		return;
	put_in_place(file, disk);
	if (before)
		file->limit = Min(file->limit, before->size);
	if (!still_has(f, file, disk))
	{
		file->has_place = false;
		return;
	}
	f->claimed[disk - f->found.files] = true;
	if (strcmp(disk->path, file->row.path) != 0)
	{
		file->row.path = disk->path;
		file->row.rotated = true;
		file->is_changed = true;
	}
}

static LogFile *
find_number(LogFiles *files, int32 number)
{
	for (int i = 0; i < files->n; i++)
		if (files->files[i]->row.number == number && !files->files[i]->is_deleted)
			return files->files[i];
	return NULL;
}

/* A copy has to be compared once more: it becomes a file that is not known. */
static void
disown(Follower *f, LogFile *copy)
{
	copy->is_deleted = true;
	if (copy->has_place)
		f->claimed[disk_search(&f->found, copy->disk.device, copy->disk.inode) - f->found.files] = false;
	copy->has_place = false;
}

/* What was equal has been read, and the rest is its own. */
static void
stand_alone(LogFile *copy)
{
	copy->row.copy_of = 0;
	copy->is_changed = true;
}

static void
check_copies(Follower *f)
{
	for (int i = 0; i < f->files->n; i++)
	{
		LogFile    *copy = f->files->files[i];
		LogFile    *original;

		if (copy->row.copy_of == 0)
			continue;
		original = find_number(f->files, copy->row.copy_of);
		if (original == NULL || (copy->has_place && original->has_place && !looks_the_same(copy, &copy->disk)))
			disown(f, copy);
		else if (!copy->has_place)
			stand_alone(copy);	/* it may come back when the original is not there */
	}
}

/* What was read of a file is in another one from now on. */
static void
move_to(LogFile *file, const DiskFile *disk, bool compressed)
{
	StoreLogFile *row = &file->row;

	row->rotated |= compressed || strcmp(row->path, disk->path) != 0;
	row->path = disk->path;
	row->device = disk->device;
	row->inode = disk->inode;
	row->size = -1;				/* whatever it has, it was not looked at */
	row->modified_at = disk->modified_at;
	row->compressed = compressed;
	row->is_gone = false;
	put_in_place(file, disk);
	file->is_changed = true;
}

/* The copy takes over, if it has all that was read; one that was made before that has not. */
static bool
inherit(LogFile *file, LogFile *copy)
{
	const char *problem = NULL;
	Content    *content = content_open(&copy->disk, &problem);
	bool		result = content && content_resume(content, &file->row);

	if (result)
	{
		move_to(file, &copy->disk, content->compressed);
		copy->is_deleted = true;
	}
	if (content)
		(void) content_close(content);
	return result;
}

/* The longest copy of a file that is no more. */
static LogFile *
find_copy(LogFiles *files, const LogFile *file)
{
	LogFile    *best = NULL;

	for (int i = 0; i < files->n; i++)
	{
		LogFile    *copy = files->files[i];

		if (copy->row.copy_of == file->row.number && !copy->is_deleted && copy->has_place &&
			(best == NULL || copy->disk.size > best->disk.size))
			best = copy;
	}
	return best;
}

static bool
is_lost(const LogFile *file)
{
	return !file->has_place && file->row.copy_of == 0 && file->row.number != 0;
}

static void
let_copies_inherit(Follower *f)
{
	for (int i = 0; i < f->files->n; i++)
	{
		LogFile    *file = f->files->files[i];
		LogFile    *copy;

		while (is_lost(file) && (copy = find_copy(f->files, file)) != NULL)
			if (!inherit(file, copy))
				stand_alone(copy);
	}
}

/* Whether a file has what was read of one that is lost. */
static bool
has_lost(Content *content, const LogFile *file)
{
	const char *problem = NULL;
	Content    *again;
	bool		result;

	if (!content_may_have(content, &file->row))
		return false;
	if (file->row.read_to <= content->nhead)
		return content_head_has(content, &file->row);
	if (!content->compressed)
		return content_resume(content, &file->row);
	again = content_open(&content->file, &problem);
	result = again && content_resume(again, &file->row);
	if (again)
		(void) content_close(again);
	return result;
}

/* Of several, the one of which most was read: others are beginnings of it, such as a header alone. */
static LogFile *
find_lost(LogFiles *files, Content *content)
{
	LogFile    *best = NULL;

	for (int i = 0; i < files->n; i++)
	{
		LogFile    *file = files->files[i];

		CHECK_FOR_INTERRUPTS();
		if (is_lost(file) && (best == NULL || file->row.read_to > best->row.read_to) && has_lost(content, file))
			best = file;
	}
	return best;
}

typedef enum Likeness
{
	ANOTHER,
	A_COPY,						/* all of it is the beginning of the other one */
	LONGER,						/* the other one is the beginning of it */
	NOT_TOLD
} Likeness;

/* False as well if one of them cannot be read now: then it is "told" no longer. */
static bool
begins_with(const DiskFile *whole, const DiskFile *beginning, bool *told)
{
	const char *problem = NULL;
	Content    *x = content_open(beginning, &problem);
	Content    *y = content_open(whole, &problem);
	bool		result = x && y && content_is_prefix(x, y);

	*told &= x && y;
	if (x)
		(void) content_close(x);
	if (y)
		(void) content_close(y);
	return result;
}

/* What a file is to one that is there; not told if that changes meanwhile. */
static Likeness
compare_with(const DiskFile *disk, const LogFile *file)
{
	const char *problem = NULL;
	Content    *guard = content_open(&file->disk, &problem);
	Likeness	likeness = ANOTHER;
	bool		told = guard && (file->row.number == 0 || content_resume(guard, &file->row));

	if (told && begins_with(&file->disk, disk, &told))
		likeness = A_COPY;
	else if (told && begins_with(disk, &file->disk, &told))
		likeness = LONGER;
	if (!told || (likeness != A_COPY && !content_is_intact(guard)))
		likeness = NOT_TOLD;
	if (guard)
		(void) content_close(guard);
	return likeness;
}

static bool
may_be_copy(Content *content, const LogFile *file)
{
	if (!file->has_place || file->row.copy_of != 0 || file->is_deleted)
		return false;
	if (file->row.number != 0)
		return content_may_have(content, &file->row);
	return memcmp(content->head, file->head, Min(content->nhead, file->nhead)) == 0;
}

/* A row by which a copy is known when it has to take over: what was "read" of it is what it has. */
static void
add_copy(Follower *f, Content *content, const LogFile *original)
{
	StoreLogFile row = {.number = ++f->last_number, .path = content->file.path, .copy_of = original->row.number};
	LogFile    *copy;

	(void) content_go(content, content->compressed ? PG_INT64_MAX : content->file.size);
	content_note(content, &row);
	copy = add_file(f, &row);
	move_to(copy, &content->file, content->compressed);
	copy->row.size = content->file.size;
}

static void
add_new(Follower *f, Content *content)
{
	StoreLogFile row = {.path = content->file.path};
	LogFile    *file = add_file(f, &row);
	DiskFile   *before = disk_search(&f->before, content->file.device, content->file.inode);

	move_to(file, &content->file, content->compressed);
	file->limit = before ? Min(before->size, content->file.size) : 0;
	f->files->undecided |= before == NULL;
	file->nhead = Min(content->nhead, 1024);
	file->head = palloc(file->nhead);
	memcpy(file->head, content->head, file->nhead);
}

/* What was read most of goes on there: a lost one, or one that is its beginning.  The others are copies, as the next round will see. */
static void
take_over(Follower *f, Content *content, LogFile *lost, List *beginnings)
{
	LogFile    *known = lost;
	ListCell   *cell;

	foreach(cell, beginnings)
	{
		LogFile    *file = lfirst(cell);

		if (known == NULL || file->row.read_to > known->row.read_to)
			known = file;
	}
	foreach(cell, beginnings)
		if (lfirst(cell) != known)
			disown(f, lfirst(cell));
	f->files->undecided |= beginnings != NIL;
	move_to(known, &content->file, content->compressed);
}

/*
 * What a file is that is not known by its inode.  If one that is known is its beginning,
 * it takes over, as it may have what was never read; the other one is a copy then.  Others are
 * left until the "last" time, when all those have their places; returns whether this one was not.
 */
static bool
recognise(Follower *f, Content *content, bool last)
{
	LogFile    *known = find_lost(f->files, content);
	int			n = f->files->n;
	List	   *beginnings = NIL;

	for (int i = 0; i < n; i++)
	{
		LogFile    *file = f->files->files[i];
		Likeness	likeness = may_be_copy(content, file) ? compare_with(&content->file, file) : ANOTHER;

		CHECK_FOR_INTERRUPTS();
		if (likeness == A_COPY && file->row.number != 0)
		{
			add_copy(f, content, file);
			return true;
		}
		/* of one of which nothing was read it is told when something was */
		if (likeness == NOT_TOLD || (likeness != ANOTHER && file->row.number == 0))
		{
			f->files->undecided = true;
			return true;
		}
		if (likeness == LONGER)
			beginnings = lappend(beginnings, file);
	}
	if (known || beginnings != NIL)
	{
		take_over(f, content, known, beginnings);
		return true;
	}
	if (last)
		add_new(f, content);
	return last;
}

static int
compare_sizes(const void *a, const void *b)
{
	const DiskFile *x = *(const DiskFile *const *) a;
	const DiskFile *y = *(const DiskFile *const *) b;

	if (x->size != y->size)
		return x->size > y->size ? -1 : 1;
	return strcmp(x->path, y->path);
}

static void
recognise_each(Follower *f, const DiskFile **unknown, int n, bool last)
{
	for (int i = 0; i < n; i++)
	{
		const char *problem = NULL;
		Content    *content;

		CHECK_FOR_INTERRUPTS();
		if (f->claimed[unknown[i] - f->found.files])
			continue;
		content = content_open(unknown[i], &problem);
		if (problem)
			note_problem(f->files, problem);
		if (content == NULL)
			continue;
		if (content->nhead > 0)
			f->claimed[unknown[i] - f->found.files] = recognise(f, content, last);
		(void) content_close(content);
	}
}

/* The longest first, so that of two alike the longer one is not taken for another file. */
static void
recognise_all(Follower *f)
{
	const DiskFile **unknown = palloc(sizeof(DiskFile *) * (f->found.n + 1));
	int			n = 0;

	for (int i = 0; i < f->found.n; i++)
		if (!f->claimed[i] && f->found.files[i].size > 0)
			unknown[n++] = &f->found.files[i];
	qsort(unknown, n, sizeof(DiskFile *), compare_sizes);
	recognise_each(f, unknown, n, false);
	recognise_each(f, unknown, n, true);
}

/* A copy of a file that is no more, which meets no pattern. */
static bool
find_successor(Follower *f, LogFile *file)
{
	DiskFiles	successors;

	disk_find_successors(file->row.path, &successors);
	for (int i = 0; i < successors.n; i++)
	{
		const char *problem = NULL;
		Content    *content;
		bool		found;

		if (disk_search(&f->found, successors.files[i].device, successors.files[i].inode))
			continue;
		content = content_open(&successors.files[i], &problem);
		found = content && has_lost(content, file);
		if (found)
			move_to(file, &content->file, content->compressed);
		if (content)
			(void) content_close(content);
		if (found)
			return true;
	}
	return false;
}

static void
give_up_lost(Follower *f)
{
	for (int i = 0; i < f->files->n; i++)
	{
		LogFile    *file = f->files->files[i];

		CHECK_FOR_INTERRUPTS();
		if (!is_lost(file) || file->row.is_gone || find_successor(f, file))
			continue;
		file->row.is_gone = true;
		file->is_changed = true;
	}
}

void
follow_files(LogFiles *files)
{
	Follower	f = {files};

	disk_check(files->source->path);
	disk_find(files->source->path, &f.before);
	load(&f);
	if (are_as_before(&f))
		return;
	disk_find(files->source->path, &f.found);
	find_renamed(&f);
	f.claimed = palloc0(sizeof(bool) * (f.found.n + 1));
	for (int i = 0; i < files->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		files->files[i]->has_place = false;
		place(&f, files->files[i]);
	}
	check_copies(&f);
	let_copies_inherit(&f);
	recognise_all(&f);
	give_up_lost(&f);
}

void
follow_store(LogFiles *files, LogFile *file)
{
	int32		last = 0;

	if (file->is_deleted && file->row.number != 0)
		store_delete_log_file(files->source->name, file->row.number);
	else if (file->is_changed && !file->is_deleted && (file->row.number != 0 || file->row.read_to > 0))
	{
		for (int i = 0; i < files->n && file->row.number == 0; i++)
			last = Max(last, files->files[i]->row.number);
		if (file->row.number == 0)
			file->row.number = last + 1;
		store_put_log_file(files->source->name, &file->row);
	}
	file->is_changed = file->is_deleted = false;
}
