/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  Clocks that a test can set: preloaded into a server (LD_PRELOAD), all of whose
 *	  processes then read the machine's clocks and add the seconds that a file says, as
 *	  two 64-bit numbers, at any moment: for the clock, and for the one that delays are by,
 *	  which nobody sets, and which must not go back.
 *
 * (libfaketime would not do: a process that is forked out of a signal handler while a
 * system call waits, as workers of PostgreSQL 15 are, reads the true clock for ever.)
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offset;

static __attribute__((constructor)) void
map_offset(void)
{
	const char *file = getenv("CLOCK_OFFSET_FILE");
	int			fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
	void	   *page = fd < 0 ? MAP_FAILED : mmap(NULL, 2 * sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);

	if (page == MAP_FAILED)
		abort();
	close(fd);
	offset = page;
}

int
clock_gettime(clockid_t clock, struct timespec *at)
{
	int			result = (int) syscall(SYS_clock_gettime, clock, at);

	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		at->tv_sec += offset[0];
	if (result == 0 && clock == CLOCK_MONOTONIC)
		at->tv_sec += offset[1];
	return result;
}

int
gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	int			result = (int) syscall(SYS_gettimeofday, at, zone);

	if (result == 0)
		at->tv_sec += offset[0];
	return result;
}

time_t
time(time_t *at)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (at)
		*at = now.tv_sec;
	return now.tv_sec;
}
