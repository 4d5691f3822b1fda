/*-------------------------------------------------------------------------
 *
 * segment.h
 *	  The bytes of a segment: a packed, strictly sorted run of facts.
 *
 * This is the only place that knows the format; see segment.c for the layout.
 * Pure memory: no server headers.  Stored bytes are never trusted: decoding
 * checks version, lengths, counts and order before it returns a fact.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SEGMENT_H
#define ADCLICK_SEGMENT_H

#include "facts.h"

/*
 * The largest segment in bytes.  Two heap tuples of this size, with their header,
 * the other columns of the segments table and what the store adds, fill a page of
 * 8 kB.
 */
#define SEGMENT_MAX_BYTES 4020

/* The most facts one segment holds, whatever their width. */
#define SEGMENT_MAX_FACTS 2048

typedef enum SegmentStatus
{
	SEGMENT_OK = 0,
	SEGMENT_BAD_VERSION,		/* written by a version we do not know */
	SEGMENT_BAD_LENGTH,			/* fewer or more bytes than the header says */
	SEGMENT_BAD_COUNT,			/* no facts, too many, or too many columns */
	SEGMENT_BAD_WIDTH,			/* a bit width out of range */
	SEGMENT_BAD_ORDER			/* keys not strictly ascending, or overflowing */
} SegmentStatus;

/*
 * Encode as many facts as fit (give or take a few) from facts[start ..) into
 * out, which has room for SEGMENT_MAX_BYTES.  The facts must be strictly
 * ascending and every count at least 1.  Returns the bytes written and sets
 * *taken to the number of facts encoded, at least 1.  The search for it begins
 * at "guess": best what the segment before took, 0 for none.
 */
extern size_t segment_encode(const Facts *facts, size_t start, size_t guess,
							 uint8_t *out, size_t *taken);

/*
 * Decode a whole segment, appending its facts to *facts, which must have the
 * segment's number of columns and room for SEGMENT_MAX_FACTS more.  Checks the
 * order of all columns.  On any status but SEGMENT_OK facts->n is unchanged.
 */
extern SegmentStatus segment_decode(const uint8_t *data, size_t length, Facts *facts);

/*
 * Decode only the key columns whose bit is set in "columns" (bit 0: the first),
 * and the counts, into the arrays of *facts, from its start: facts->n becomes
 * the number of facts of the segment and the arrays of other columns are not
 * touched.  facts->ncolumns is the segment's number of columns all the same, and
 * the arrays have room for SEGMENT_MAX_FACTS.  The order is checked for the
 * first column only (not strictly: equal values may follow each other).  For
 * readers that need no more than, say, the ad and the count.
 */
extern SegmentStatus segment_decode_columns(const uint8_t *data, size_t length,
											unsigned columns, Facts *facts);

/*
 * The same of a segment that has the value in this column, which must be among
 * "columns"; of others nothing else is decoded, and facts->n becomes 0.
 */
extern SegmentStatus segment_decode_where(const uint8_t *data, size_t length, unsigned columns,
										  int column, uint64_t value, Facts *facts);

/* A short English phrase for an error detail. */
extern const char *segment_status_text(SegmentStatus status);

#endif							/* ADCLICK_SEGMENT_H */
