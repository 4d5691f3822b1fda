/*-------------------------------------------------------------------------
 *
 * content.c
 *	  What is in a log file.
 *
 * See content.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "base/adclick.h"
#include "content.h"

#define PIECE (256 * 1024)

static void
refuse_reading(const Content *content)
{
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not read file \"%s\": %m", content->file.path)));
}

/* Bytes of the file as it lies there. */
static int
read_at(const Content *content, char *buffer, int n, int64 at)
{
	int			done = 0;

	while (done < n)
	{
		ssize_t		got = pread(content->fd, buffer + done, n - done, at + done);

		CHECK_FOR_INTERRUPTS();
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			refuse_reading(content);
		if (got == 0)
			break;
		done += got;
	}
	return done;
}

static int
read_pipe(const Content *content, char *buffer, int n)
{
	size_t		got = fread(buffer, 1, n, content->pipe);

	CHECK_FOR_INTERRUPTS();
	if (got == 0 && ferror(content->pipe))
		refuse_reading(content);
	return (int) got;
}

/*
 * Not one that would make us wait, should a pipe have come in its place.  If it was
 * truncated, it has fewer bytes than when it was found.
 */
static int
open_file(DiskFile *file, const char **problem)
{
	int			fd = OpenTransientFile(file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | PG_BINARY);
	struct stat status;

	if (fd < 0 && errno != ENOENT)
		*problem = psprintf("could not open file \"%s\": %s", file->path, strerror(errno));
	if (fd < 0)
		return -1;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
		(int64) status.st_dev == file->device && (int64) status.st_ino == file->inode)
	{
		file->size = Min(file->size, status.st_size);
		return fd;
	}
	CloseTransientFile(fd);
	return -1;
}

static bool
is_compressed(const Content *content)
{
	unsigned char magic[2];

	return read_at(content, (char *) magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
}

Content *
content_open(const DiskFile *file, const char **problem)
{
	DiskFile	opened = *file;
	int			fd = open_file(&opened, problem);
	Content    *content;

	if (fd < 0)
		return NULL;
	content = palloc0(sizeof(Content));
	content->file = opened;
	content->fd = fd;
	content->compressed = is_compressed(content);
	if (!content->compressed)
	{
		content->nhead = read_at(content, content->head, CONTENT_HEAD, 0);
		return content;
	}
	content->pipe = OpenPipeStream(psprintf("exec gzip -dc < %s 2>/dev/null", shell_word(file->path)), PG_BINARY_R);
	if (content->pipe == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not execute gzip: %m")));
	while (content->nhead < CONTENT_HEAD)
	{
		int			n = read_pipe(content, content->head + content->nhead, CONTENT_HEAD - content->nhead);

		if (n == 0)
			break;
		content->nhead += n;
	}
	return content;
}

bool
content_close(Content *content)
{
	bool		whole = content->pipe == NULL || ClosePipeStream(content->pipe) == 0;

	CloseTransientFile(content->fd);
	pfree(content);
	return whole;
}

int
content_fetch(Content *content, char *buffer, int room, int64 limit)
{
	int			n;

	if (!content->compressed)
		n = read_at(content, buffer, (int) Max(0, Min(room, limit - content->fetched)), content->fetched);
	else if (content->fetched < content->nhead)
	{
		n = Min(room, content->nhead - (int) content->fetched);
		memcpy(buffer, content->head + content->fetched, n);
	}
	else
		n = read_pipe(content, buffer, room);
	content->fetched += n;
	return n;
}

void
content_consume(Content *content, const char *bytes, int n)
{
	int			room = sizeof(content->end);
	int			kept;

	content->at += n;
	if (n >= room)
	{
		memcpy(content->end, bytes + n - room, room);
		content->nend = room;
		return;
	}
	kept = Min(content->nend, room - n);
	memmove(content->end, content->end + content->nend - kept, kept);
	memcpy(content->end + kept, bytes, n);
	content->nend = kept + n;
}

/* Nothing is kept of it. */
bool
content_is_whole(const DiskFile *file)
{
	const char *problem = NULL;
	Content    *content = content_open(file, &problem);
	char	   *buffer = palloc(PIECE);

	while (content && content_fetch(content, buffer, PIECE, PG_INT64_MAX) > 0)
		;
	pfree(buffer);
	return content && content_close(content);
}

static pg_uuid_t
hash_bytes_of(const char *bytes, int n)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	pg_uuid_t	hash;

	if (context == NULL || pg_cryptohash_init(context) < 0 || pg_cryptohash_update(context, (const uint8 *) bytes, n) < 0 ||
		pg_cryptohash_final(context, digest, sizeof(digest)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a hash of a log file")));
	pg_cryptohash_free(context);
	memcpy(hash.data, digest, UUID_LEN);
	return hash;
}

/* How many bytes the hashes of a file are of. */
static int
hashed_bytes(int64 read_to)
{
	return (int) Min(read_to, (int64) sizeof(((Content *) NULL)->end));
}

static bool
same_hash(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN) == 0;
}

bool
content_may_have(Content *content, const StoreLogFile *file)
{
	int			n = hashed_bytes(file->read_to);

	if (content->nhead < n)
		return true;
	/* most files are asked for the same one */
	if (!content->has_hash || content->hashed != n)
		content->hash = hash_bytes_of(content->head, n);
	content->has_hash = true;
	content->hashed = n;
	return same_hash(&content->hash, &file->begin_hash);
}

bool
content_head_has(const Content *content, const StoreLogFile *file)
{
	int			n = hashed_bytes(file->read_to);
	pg_uuid_t	begin = hash_bytes_of(content->head, n);
	pg_uuid_t	end = hash_bytes_of(content->head + file->read_to - n, n);

	return same_hash(&begin, &file->begin_hash) && same_hash(&end, &file->end_hash);
}

/* Fetch and consume up to a place. */
static void
skip_to(Content *content, int64 place)
{
	char	   *buffer = palloc(PIECE);
	int			n;

	while (content->at < place)
	{
		n = content_fetch(content, buffer, (int) Min(PIECE, place - content->at), place);
		if (n == 0)
			break;
		content_consume(content, buffer, n);
	}
	pfree(buffer);
}

bool
content_go(Content *content, int64 place)
{
	if (!content->compressed)
	{
		content->at = content->fetched = place - hashed_bytes(place);
		content->nend = 0;
	}
	skip_to(content, place);
	return content->at == place;
}

bool
content_resume(Content *content, const StoreLogFile *file)
{
	pg_uuid_t	hash;

	if (content->nhead < hashed_bytes(file->read_to) || !content_may_have(content, file) ||
		!content_go(content, file->read_to))
		return false;
	hash = hash_bytes_of(content->end, content->nend);
	return same_hash(&hash, &file->end_hash);
}

void
content_note(const Content *content, StoreLogFile *file)
{
	file->read_to = content->at;
	file->begin_hash = hash_bytes_of(content->head, hashed_bytes(content->at));
	file->end_hash = hash_bytes_of(content->end, content->nend);
}

bool
content_is_intact(const Content *content)
{
	char		bytes[sizeof(content->end)];
	int			n = hashed_bytes(content->at);

	if (content->compressed)
		return true;
	return read_at(content, bytes, n, 0) == n && memcmp(bytes, content->head, n) == 0 &&
		read_at(content, bytes, content->nend, content->at - content->nend) == content->nend &&
		memcmp(bytes, content->end, content->nend) == 0;
}

/* The last bytes that both have are enough, where both can be read anywhere. */
static bool
ends_alike(const Content *content, const Content *of)
{
	char		x[sizeof(content->end)];
	char		y[sizeof(content->end)];
	int			n = hashed_bytes(content->file.size);
	int64		at = content->file.size - n;

	return read_at(content, x, n, at) == n && read_at(of, y, n, at) == n && memcmp(x, y, n) == 0;
}

bool
content_is_prefix(Content *content, Content *of)
{
	char	   *x;
	char	   *y;
	int			n;
	bool		alike = true;

	if (content->nhead > of->nhead || memcmp(content->head, of->head, content->nhead) != 0)
		return false;
	if (!content->compressed && !of->compressed)
		return ends_alike(content, of);
	x = palloc(PIECE);
	y = palloc(PIECE);
	while (alike && (n = content_fetch(content, x, PIECE, PG_INT64_MAX)) > 0)
	{
		int			got = 0;
		int			more = 1;

		while (got < n && more > 0)
			got += more = content_fetch(of, y + got, n - got, PG_INT64_MAX);
		alike = got == n && memcmp(x, y, n) == 0;
	}
	pfree(x);
	pfree(y);
	return alike;
}
