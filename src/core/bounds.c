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
#include "bounds.h"

/* The bits of an entry: mark, minute, clicks. */
#define COUNT_BITS 10
#define MINUTE_BITS 6
#define MOST_CLICKS ((1U << COUNT_BITS) - 1)
#define MINUTES (1 << MINUTE_BITS)

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

/* How many minutes after the floor the entry's is. */
static inline int
age_of(const BoundsLine *line, uint32_t entry)
{
	int			minute = (int) (entry >> COUNT_BITS) % MINUTES;

	return (minute - line->floor % MINUTES - 1 + MINUTES) % MINUTES;
}

static void
raise_floor(BoundsLine *line, int32_t floor)
{
	int			n = 0;

	for (int i = 0; i < BOUNDS_ENTRIES && line->entry[i] != 0; i++)
		if (line->floor + 1 + age_of(line, line->entry[i]) > floor)
			line->entry[n++] = line->entry[i];
	for (; n < BOUNDS_ENTRIES; n++)
		line->entry[n] = 0;
	line->floor = floor;
}

static int32_t
oldest_minute(const BoundsLine *line)
{
	int			age = MINUTES;

	for (int i = 0; i < BOUNDS_ENTRIES; i++)
		age = age_of(line, line->entry[i]) < age ? age_of(line, line->entry[i]) : age;
	return line->floor + 1 + age;
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

uint32_t
bounds_add(const Bounds *bounds, uint64_t hash, int64_t minute)
{
	BoundsLine *line = bounds_line(bounds, hash);
	uint32_t	tag = tag_of(hash, minute);
	int			i;

	if (minute <= line->floor || minute > INT32_MAX)
		return BOUND_UNKNOWN;
	if (minute - line->floor > MINUTES)
		raise_floor(line, (int32_t) minute - MINUTES);
	i = find_entry(line, tag);
	if (i == BOUNDS_ENTRIES)
	{
		int32_t		oldest = oldest_minute(line);

		raise_floor(line, oldest < minute ? oldest : (int32_t) minute);
		if (minute <= line->floor)
			return BOUND_UNKNOWN;
		i = find_entry(line, tag);
	}
	if (line->entry[i] == 0)
		line->entry[i] = tag;
	if ((line->entry[i] & MOST_CLICKS) < MOST_CLICKS)
		line->entry[i]++;
	return clicks_of(line->entry[i]);
}

uint32_t
bounds_get(const Bounds *bounds, uint64_t hash, int64_t minute)
{
	const BoundsLine *line = bounds_line(bounds, hash);
	int			i;

	if (minute <= line->floor || minute > INT32_MAX)
		return BOUND_UNKNOWN;
	if (minute - line->floor > MINUTES)
		return 0;
	i = find_entry(line, tag_of(hash, minute));
	return i < BOUNDS_ENTRIES ? clicks_of(line->entry[i]) : 0;
}
