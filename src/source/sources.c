/*-------------------------------------------------------------------------
 *
 * sources.c
 *	  A round of the reader.
 *
 * See sources.h.  Each source is read in a subtransaction, and each file in one within: what
 * fails there is rolled back with what it put into the inbox, and the others go on.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/adclick.h"
#include "content.h"
#include "follow.h"
#include "lines.h"
#include "sources.h"
#include "store/store.h"

/* What a round reads of a source, and of a file of it, in bytes. */
#define SOURCE_BYTES (64 * 1024 * 1024)
#define FILE_BYTES (16 * 1024 * 1024)

/* A bad line costs as much as so many bytes. */
#define BAD_LINE_BYTES 1000

/* A finished file has its last line whole, if it was not written to for so long, in ns. */
#define SETTLED_NS (INT64CONST(10) * 1000 * 1000 * 1000)

typedef struct Reading
{
	const StoreSource *source;
	LogFiles	files;
	LineShape	shape;
	LineSink	sink;
	char	   *chunk;			/* LINES_CHUNK bytes; NULL: nothing was read yet */
	int64		budget;			/* bytes that may be read */
	bool		progress;		/* some were */

	/* the file that is read */
	LogFile    *file;
	Content    *content;
	int64		limit;			/* of bytes of it */
	int64		until;			/* it is read no further than about this */
	size_t		have;			/* bytes of the chunk that were fetched and not consumed */
	bool		at_limit;		/* there are no more */
} Reading;

/* Whether a file that gets no more has had time to. */
static bool
is_settled(const LogFile *file)
{
	struct timespec now;

	if (!file->row.rotated)
		return false;
	if (file->row.compressed)
		return true;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64) now.tv_sec * INT64CONST(1000000000) + now.tv_nsec - file->disk.modified_at > SETTLED_NS;
}

static bool
has_more(const LogFile *file)
{
	if (!file->has_place || file->is_deleted || file->row.copy_of != 0)
		return false;
	if (file->row.compressed)
		return file->limit > 0 && file->row.size != file->disk.size;
	return file->row.read_to < file->limit &&
		(is_settled(file) || file->row.size != file->limit || file->row.modified_at != file->disk.modified_at);
}

static void
consume(Reading *r, int n)
{
	content_consume(r->content, r->chunk, n);
	r->have -= n;
	memmove(r->chunk, r->chunk + n, r->have);
}

/* Fill the chunk. */
static void
fetch(Reading *r)
{
	while (r->have < LINES_CHUNK && !r->at_limit)
	{
		int			n = content_fetch(r->content, r->chunk + r->have, LINES_CHUNK - r->have, r->limit);

		r->have += n;
		r->at_limit = n == 0;
	}
}

/* The last newline of the chunk and what is before it, in bytes; 0: there is none. */
static int
whole_lines(const Reading *r)
{
	const char *newline = memrchr(r->chunk, '\n', r->have);

	return newline ? (int) (newline - r->chunk) + 1 : 0;
}

/* What the header says; returns how long it is, 0 if it is not there yet. */
static int
read_header(Reading *r)
{
	const Content *content = r->content;
	const char *newline = memchr(content->head, '\n', content->nhead);

	if (newline == NULL && content->nhead < CONTENT_HEAD)
		return 0;
	if (newline == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the header is longer than %d bytes", CONTENT_HEAD)));
	csv_read_header(&r->shape, r->source, content->head, (int) (newline - content->head) + 1);
	return (int) (newline - content->head) + 1;
}

/* The end of a line that is too long, whose beginning was set aside. */
static void
skip_line(Reading *r)
{
	const char *newline = memchr(r->chunk, '\n', r->have);

	r->file->row.in_line = newline == NULL && !(r->at_limit && is_settled(r->file));
	consume(r, newline ? (int) (newline - r->chunk) + 1 : (int) r->have);
}

/* Read lines; a last one that is not whole if the file is finished.  Returns whether there can be more. */
static bool
read_chunk(Reading *r)
{
	int64		offset = r->content->at;
	int			n;

	CHECK_FOR_INTERRUPTS();
	fetch(r);
	if (r->have > 0 && r->file->row.in_line)
	{
		skip_line(r);
		return true;
	}
	n = whole_lines(r);
	if (n == 0 && r->have == LINES_CHUNK)
	{
		lines_set_aside(&r->sink, r->chunk, r->have, offset, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
						psprintf("the line is longer than %d bytes", LINES_CHUNK));
		r->file->row.in_line = true;
		consume(r, r->have);
		return true;
	}
	if (n == 0 && r->at_limit && is_settled(r->file))
		n = (int) r->have;
	if (n == 0)
		return false;
	lines_read(&r->shape, &r->sink, r->chunk, n, offset);
	consume(r, n);
	return true;
}

/* Go to where the file was read to; false if nothing can be read of it now. */
static bool
begin_content(Reading *r)
{
	LogFile    *file = r->file;
	int			header;

	/* what gzip has not finished, or nobody can read, puts nothing into the inbox that would be rolled back */
	if (r->content->compressed && !content_is_whole(&file->disk))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("gzip cannot read it")));
	/* what became of it the next round will find out */
	if (file->row.read_to > 0 && !content_resume(r->content, &file->row))
		return false;
	if (r->source->is_json)
		return true;
	header = read_header(r);
	if (header == 0)
		return false;
	if (file->row.read_to == 0)
		content_consume(r->content, r->chunk, content_fetch(r->content, r->chunk, header, header));
	return true;
}

/* What was read is stored, if it is still what is there. */
static void
end_content(Reading *r)
{
	LogFile    *file = r->file;
	bool		compressed = r->content->compressed;

	if (!content_is_intact(r->content))
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("it was truncated while it was read")));
	if (r->content->at != file->row.read_to || file->row.number != 0)
		file->is_changed = true;
	content_note(r->content, &file->row);
	file->row.size = compressed ? file->disk.size : r->at_limit ? r->limit : r->content->at;
	file->row.modified_at = file->disk.modified_at;
	(void) content_close(r->content);
}

static void
read_content(Reading *r)
{
	LineSink   *sink = &r->sink;
	LogFile    *file = r->file;
	int64		lines = sink->lines;
	int64		bad_lines = sink->bad_lines;

	if (!begin_content(r))
	{
		(void) content_close(r->content);
		return;
	}
	/* gzip cannot go on in the middle, so what it has compressed is read at once */
	while (read_chunk(r) && (file->row.compressed ||
							 r->content->at + (sink->bad_lines - bad_lines) * BAD_LINE_BYTES < r->until))
		;
	file->row.lines += sink->lines - lines;
	file->row.bad_lines += sink->bad_lines - bad_lines;
	r->budget -= r->content->at - file->row.read_to + (sink->bad_lines - bad_lines) * BAD_LINE_BYTES;
	end_content(r);
	follow_store(&r->files, file);
}

/* What is needed to read anything. */
static void
get_ready(Reading *r)
{
	if (r->chunk)
		return;
	r->chunk = palloc(LINES_CHUNK);
	lines_begin(&r->shape, r->source);
	r->sink = (LineSink) {
		r->source->name, .inbox = inbox_put_begin(), .room = -1,
			.batch = AllocSetContextCreate(CurrentMemoryContext, "adclick lines", ALLOCSET_DEFAULT_SIZES)
	};
}

static void
read_file(void *arg)
{
	Reading    *r = arg;
	const char *problem = NULL;

	r->content = content_open(&r->file->disk, &problem);
	if (problem && r->files.problem == NULL)
		r->files.problem = problem;
	if (r->content == NULL)
		return;
	r->sink.path = r->file->row.path;
	r->have = 0;
	r->at_limit = false;
	r->limit = Min(r->file->limit, r->content->file.size);
	r->until = r->file->row.read_to + Min(FILE_BYTES, r->budget);
	read_content(r);
}

/* Errors that are about a file or a source; others end the round. */
static void
rethrow_unless_local(ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	if (category == ERRCODE_OPERATOR_INTERVENTION || category == ERRCODE_TRANSACTION_ROLLBACK ||
		category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		ThrowErrorData(error);
}

static void
try_file(Reading *r, LogFile *file)
{
	LogFile		before = *file;
	LineSink	sink;
	ErrorData  *error;

	get_ready(r);
	sink = r->sink;
	r->file = file;
	error = attempt(read_file, r);
	if (error == NULL)
	{
		r->progress |= file->row.read_to != before.row.read_to;
		if (file->row.read_to == before.row.read_to)
			file->limit = 0;	/* there is no whole line: not once more in this round */
		return;
	}
	rethrow_unless_local(error);
	r->sink = sink;
	MemoryContextReset(r->sink.batch);
	*file = before;
	file->limit = 0;
	if (r->files.problem == NULL)
		r->files.problem = psprintf("file \"%s\": %s", file->disk.path, error->message ? error->message : "unknown error");
}

/* Bytes that are still to be read; of one that is compressed, as it lies there. */
static int64
bytes_waiting(const LogFile *file)
{
	if (!file->has_place || file->row.copy_of != 0 || file->is_deleted)
		return 0;
	if (file->row.compressed)
		return file->row.size == file->disk.size ? 0 : file->disk.size;
	return Max(0, file->disk.size - file->row.read_to);
}

/* Not always the same one first: another may have more than all that is read in a round. */
static void
read_files(Reading *r, SourcesResult *result)
{
	static uint32 turn = 0;
	int			n = r->files.n;

	turn++;
	r->budget = SOURCE_BYTES;
	for (int i = 0; i < n; i++)
	{
		LogFile    *file = r->files.files[(i + turn) % n];

		CHECK_FOR_INTERRUPTS();
		if (!has_more(file))
			continue;
		if (r->budget > 0)
			try_file(r, file);
		result->more |= has_more(file);
	}
}

static void
refuse_without_right(const StoreSource *source)
{
	Oid			role = get_role_oid(source->added_by, true);

	if (!OidIsValid(role) || !has_privs_of_role(role, ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\", who added it, may not read files of the server", source->added_by)));
}

typedef struct Work
{
	const StoreSource *source;
	SourcesResult result;
} Work;

static void
read_source(void *arg)
{
	Work	   *work = arg;
	Reading		r = {work->source, {work->source}};
	SourcesResult *result = &work->result;
	int64		waiting = 0;
	bool		forgets = false;

	refuse_without_right(work->source);
	follow_files(&r.files);
	read_files(&r, result);
	for (int i = 0; i < r.files.n; i++)
	{
		LogFile    *file = r.files.files[i];

		CHECK_FOR_INTERRUPTS();
		waiting += bytes_waiting(file);
		forgets |= file->row.is_gone;
		follow_store(&r.files, file);
	}
	if (forgets)
		store_delete_gone_files(work->source->name);
	if (r.chunk)
	{
		result->lines = r.sink.lines;
		result->bad_lines = r.sink.bad_lines;
		result->more |= r.files.undecided && r.progress;
		inbox_put_end(r.sink.inbox);
		lines_end(&r.shape);
	}
	store_note_source(work->source, result->lines, result->bad_lines, waiting, r.files.problem);
}

/* For the log, once. */
static void
say_problem(const StoreSource *source, const char *problem)
{
	if (problem && (source->last_error == NULL || strcmp(source->last_error, problem) != 0))
		ereport(WARNING,
				(errmsg("log source \"%s\" cannot be read", source->name),
				 errdetail_internal("%s", problem)));
}

static void
try_source(const StoreSource *source, SourcesResult *total)
{
	Work		work = {source};
	ErrorData  *error = attempt(read_source, &work);

	if (error)
	{
		rethrow_unless_local(error);
		say_problem(source, error->message);
		store_note_source(source, 0, 0, source->bytes_waiting, error->message ? error->message : "unknown error");
		return;
	}
	total->lines += work.result.lines;
	total->bad_lines += work.result.bad_lines;
	total->more |= work.result.more;
}

/* Texts mean the same whatever is set. */
static int
pin_formats(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("datestyle", "ISO, YMD", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("timezone", "UTC", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
sources_read(SourcesResult *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick sources", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	StoreSource *sources;
	int			n;
	int			level = pin_formats();

	memset(result, 0, sizeof(*result));
	store_lock(STORE_LOCK_SOURCES);
	store_push_snapshot();
	if (store_in_restore())
		store_refuse_in_restore();
	sources = store_get_sources(&n);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		try_source(&sources[i], result);
	}
	PopActiveSnapshot();
	AtEOXact_GUC(true, level);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}
