/*-------------------------------------------------------------------------
 *
 * bounds.c
 *	  Upper bounds of how many clicks somebody has in a minute.
 *
 * All entries of a line are of the MINUTES minutes behind its floor, so the last bits
 * of a minute tell which one it is.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include <stdbool.h>

#include "bounds.h"

/* The bits of an entry: mark, minute, clicks. */
#define COUNT_BITS 10
#define MINUTE_BITS 6
#define MOST_CLICKS ((1U << COUNT_BITS) - 1)
#define MINUTES (1 << MINUTE_BITS)

static inline BoundsLine *
line_of(const Bounds *bounds, uint64_t hash)
{
	return &bounds->lines[((hash >> 32) * bounds->nlines) >> 32];
}

void
bounds_prefetch(const Bounds *bounds, uint64_t hash)
{
	__builtin_prefetch(line_of(bounds, hash), 1);
}

/* An entry without clicks. */
static inline uint32_t
tag_of(uint64_t hash, int64_t minute)
{
	return ((uint32_t) hash << (COUNT_BITS + MINUTE_BITS)) | ((uint32_t) (minute % MINUTES) << COUNT_BITS);
}

/* Once there are as many as can be counted, there may be more. */
static inline uint32_t
clicks_of(uint32_t entry)
{
	uint32_t	clicks = entry & MOST_CLICKS;

	return clicks < MOST_CLICKS ? clicks : BOUND_UNKNOWN;
}

/* A free one becomes one of this tag. */
static inline uint32_t
add_click(uint32_t *entry, uint32_t tag)
{
	if (*entry == 0)
		*entry = tag;
	if ((*entry & MOST_CLICKS) < MOST_CLICKS)
		++*entry;
	return clicks_of(*entry);
}

/* The minute of an entry that is not free. */
static inline int64_t
minute_of(const BoundsLine *line, uint32_t entry)
{
	uint32_t	after = ((entry >> COUNT_BITS) - (uint32_t) line->floor - 1) % MINUTES;

	return (int64_t) line->floor + 1 + after;
}

static void
raise_floor(BoundsLine *line, int64_t floor)
{
	int			n = 0;

	for (int i = 0; i < BOUNDS_ENTRIES && line->entry[i] != 0; i++)
		if (minute_of(line, line->entry[i]) > floor)
			line->entry[n++] = line->entry[i];
	for (; n < BOUNDS_ENTRIES; n++)
		line->entry[n] = 0;
	if (line->rest != 0 && minute_of(line, line->rest) <= floor)
		line->rest = 0;
	line->floor = (int32_t) floor;
}

/* Of a full line. */
static int64_t
oldest_minute(const BoundsLine *line)
{
	int64_t		oldest = INT64_MAX;

	for (int i = 0; i < BOUNDS_ENTRIES; i++)
		if (minute_of(line, line->entry[i]) < oldest)
			oldest = minute_of(line, line->entry[i]);
	return oldest;
}

static inline bool
in_rest(const BoundsLine *line, int64_t minute)
{
	return line->rest != 0 && minute_of(line, line->rest) == minute;
}

/* Where the entry is, or the first free one; BOUNDS_ENTRIES: neither is there. */
static inline int
find_entry(const BoundsLine *line, uint32_t tag)
{
	int			i = 0;

	while (i < BOUNDS_ENTRIES && line->entry[i] != 0 && (line->entry[i] ^ tag) > MOST_CLICKS)
		i++;
	return i;
}

/* Make room in a full line for one more of a minute; false if there is none, as the rest is of a later one. */
static bool
make_room(BoundsLine *line, int64_t minute)
{
	int64_t		oldest = oldest_minute(line);

	if (oldest < minute)
		raise_floor(line, oldest);
	else if (line->rest != 0)
		raise_floor(line, minute_of(line, line->rest) < minute ? minute_of(line, line->rest) : minute);
	return line->floor < minute;
}

uint32_t
bounds_add(const Bounds *bounds, uint64_t hash, int64_t minute)
{
	BoundsLine *line = line_of(bounds, hash);
	uint32_t	tag = tag_of(hash, minute);
	int			i;

	if (minute <= line->floor || minute > INT32_MAX)
		return BOUND_UNKNOWN;
	if (minute - line->floor > MINUTES)
		raise_floor(line, minute - MINUTES);
	i = find_entry(line, tag);
	if (i == BOUNDS_ENTRIES && !in_rest(line, minute))
	{
		if (!make_room(line, minute))
			return BOUND_UNKNOWN;
		i = find_entry(line, tag);
	}
	/* a line with a rest is full: none of its minutes is before that of the rest */
	if (i < BOUNDS_ENTRIES)
		return add_click(&line->entry[i], tag);
	return add_click(&line->rest, tag % (1U << (COUNT_BITS + MINUTE_BITS)));
}

uint32_t
bounds_get(const Bounds *bounds, uint64_t hash, int64_t minute)
{
	const BoundsLine *line = line_of(bounds, hash);
	int			i;

	if (minute <= line->floor || minute > INT32_MAX)
		return BOUND_UNKNOWN;
	if (minute - line->floor > MINUTES)
		return 0;
	i = find_entry(line, tag_of(hash, minute));
	if (i < BOUNDS_ENTRIES && line->entry[i] != 0)
		return clicks_of(line->entry[i]);
	return in_rest(line, minute) ? clicks_of(line->rest) : 0;
}
