/*-------------------------------------------------------------------------
 *
 * unzip.c
 *	  What a file of the archive has, uncompressed by gzip.
 *
 * See unzip.h.  COPY FROM PROGRAM would look at how gzip ended when all is read, which is too
 * late: what is missing then is an error of its own, about a header or a line.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/fd.h"

#include "archive_file.h"
#include "unzip.h"

#define PIECE (64 * 1024)

static FILE *pipe_of_gzip;		/* NULL: it has ended */
static const char *command;
static bool gave_bytes;

void
unzip_begin(const char *path)
{
	command = archive_uncompress_command(path);
	gave_bytes = false;
	pipe_of_gzip = OpenPipeStream(command, PG_BINARY_R);
	if (pipe_of_gzip == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not execute command \"%s\": %m", command)));
}

/* In the words of COPY. */
static void
end(void)
{
	int			status = ClosePipeStream(pipe_of_gzip);

	pipe_of_gzip = NULL;
	CHECK_FOR_INTERRUPTS();		/* who cancels us ends the program, too */
	if (status == -1)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not close pipe to external command: %m")));
	if (status != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("program \"%s\" failed", command),
				 errdetail_internal("%s", wait_result_to_str(status))));
	if (!gave_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("program \"%s\" failed", command),
				 errdetail("It ended without having written anything.")));
}

int
unzip_bytes(void *buffer, int minread, int maxread)
{
	int			n;

	if (pipe_of_gzip == NULL)
		return 0;
	n = (int) fread(buffer, 1, maxread, pipe_of_gzip);
	if (ferror(pipe_of_gzip))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read from program \"%s\": %m", command)));
	gave_bytes |= n > 0;
	if (n < maxread)
		end();
	return n;
}

int64
unzip_count_lines(const char *path)
{
	char	   *piece = palloc(PIECE);
	int64		lines = 0;
	bool		in_quotes = false;
	int			n;

	unzip_begin(path);
	while ((n = unzip_bytes(piece, 1, PIECE)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
		{
			in_quotes ^= piece[i] == '"';
			lines += piece[i] == '\n' && !in_quotes;
		}
	}
	pfree(piece);
	return lines;
}
