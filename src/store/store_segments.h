/*-------------------------------------------------------------------------
 *
 * store_segments.h
 *	  The rows that segments stand in.
 *
 * Private to the store: for what reads and writes them.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_STORE_SEGMENTS_H
#define ADCLICK_STORE_SEGMENTS_H

#include "postgres.h"

#include "port/pg_crc32c.h"

#include "core/segment.h"
#include "store.h"

/* What stands in adclick_internal.runs for the order of runs whose clicks came back from files. */
#define SORT_ORDER_RESTORED 5

/* Attribute numbers of the segments' tables and of their index. */
#define SEGMENT_RUN_ID 1
#define SEGMENT_FIRST_KEY 2
#define SEGMENT_NUMBER 3
#define SEGMENT_DATA 4

/*
 * The column "data" has the bytes of the segment and then, in network byte order,
 *
 *	bytes
 *	8		first key of the run's next segment; of the last one, all bits set
 *	4		CRC-32C of the segment's bytes and of what stands in a Place
 *
 * So a segment is known to be that one, and its neighbours in the run as well: a
 * reader that goes from one to the next notices any that is missing.
 */
#define TRAILER_BYTES (sizeof(uint64) + sizeof(pg_crc32c))

/* Memory for the largest value of it. */
#define SEGMENT_DATUM_BYTES (VARHDRSZ + SEGMENT_MAX_BYTES + TRAILER_BYTES)

/* Where a segment stands. */
typedef struct Place
{
	int64		run_id;
	int64		number;			/* in its run, from 0 on */
	uint64		first_key;
	uint64		next_key;		/* of the segment after it */
} Place;

/* Put the trailer behind the bytes of a segment, "length" of them. */
extern void segment_put_trailer(const Place *place, struct varlena *segment, size_t length);

/* Where the segment that was returned last stands. */
extern const Place *segment_place(const StoreScan *scan);

#endif							/* ADCLICK_STORE_SEGMENTS_H */
