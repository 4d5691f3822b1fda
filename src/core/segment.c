/*-------------------------------------------------------------------------
 *
 * segment.c
 *	  The bytes of a segment: a packed, strictly sorted run of facts.
 *
 * All numbers are little-endian on every machine.  A segment is a header, one
 * descriptor for each key column and, as the last, one for the counts, and
 * then the three streams of each of them in the same order, without gaps.
 *
 *	offset	bytes	header
 *	0		1		version of the format, SEGMENT_VERSION
 *	1		1		k, the number of key columns
 *	2		2		n, the number of facts
 *
 *	bytes	descriptor of a column, one after the other
 *	1		bits 0 .. 6: width, bit 7: whether the values are deltas
 *	1		bits 0 .. 6: b, the bytes of the base, bit 7: whether there are patches
 *	b		base, rotated left by a bit: of what has a sign the highest is set
 *	1		with patches: patch width
 *	2		with patches: p, their number
 *
 *	bits				streams of a column, each begins at a whole byte
 *	n * width			the low "width" bits of each value
 *	p * 11				the facts whose value has higher bits, ascending
 *	p * patch width		the higher bits of those values
 *
 * Bits are numbered from the least significant one of each byte.  A value is
 * what the fact's column has above the base, or for deltas above the fact
 * before it (above the base, for the first fact).  Any column that happens to
 * ascend through the whole segment is stored as deltas: the first one always,
 * and the second one too where the first is the same everywhere.  A column of
 * equal values is no more than its base.
 *
 * Patches keep a few large values (the step to an ad far away, the count of a
 * popular ad) from widening all the others: frame of reference with patching,
 * Zukowski et al. 2006, doi 10.1109/ICDE.2006.150.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "segment.h"

#include <string.h>

#define SEGMENT_VERSION 2
#define HEADER_BYTES 4
#define DESCRIPTOR_BYTES 2		/* and the base, and what patches take */
#define PATCHES_BYTES 3
#define DELTA_FLAG 0x80
#define PATCHES_FLAG 0x80
#define MAX_STREAM_COLUMNS (FACTS_MAX_COLUMNS + 1)	/* keys and count */

/* Bits of a patch's position: it must hold SEGMENT_MAX_FACTS - 1. */
#define POSITION_BITS 11

/* SEGMENT_MAX_FACTS itself has one more. */
#define BITS_OF_MAX_FACTS (POSITION_BITS + 1)

/* Values are unpacked by this many: they fill "width" whole bytes. */
#define GROUP 8

/* The widest value that always lies within 8 bytes, whatever bit it begins at. */
#define MAX_LOAD_WIDTH 57

/*
 * Reading the last group of a stream may touch what follows it, up to a whole
 * group and a load.
 */
#define READ_PADDING 80

/* Writing a group may touch what follows the stream: a group, and a store. */
#define WRITE_PADDING 72

/* The encoder is content when it wastes fewer bytes than this. */
#define GOOD_ENOUGH_BYTES 32

/* Where the search for the number of facts begins without a guess. */
#define FIRST_GUESS 256

/* One column of a segment: how its values are packed. */
typedef struct Packing
{
	uint64_t	base;
	bool		delta;
	int			width;
	int			patch_width;
	size_t		npatches;
} Packing;

typedef struct Header
{
	int			ncolumns;
	size_t		n;
	Packing		packing[MAX_STREAM_COLUMNS];
	size_t		offset[MAX_STREAM_COLUMNS]; /* where its streams begin */
} Header;

static inline uint64_t
load64(const uint8_t *in)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t	value;

	memcpy(&value, in, sizeof(value));
	return value;
#else
	uint64_t	value = 0;

	for (int i = 7; i >= 0; i--)
		value = (value << 8) | in[i];
	return value;
#endif
}

static inline void
store64(uint8_t *out, uint64_t value)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	memcpy(out, &value, sizeof(value));
#else
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t) (value >> (8 * i));
#endif
}

/* Store the low bytes of a value. */
static inline void
store_bytes(uint8_t *out, uint64_t value, int nbytes)
{
	for (int i = 0; i < nbytes; i++)
		out[i] = (uint8_t) (value >> (8 * i));
}

static inline uint64_t
load16(const uint8_t *in)
{
	return (uint64_t) in[0] | (uint64_t) in[1] << 8;
}

static inline uint64_t
low_bits(int width)
{
	return width == 0 ? 0 : ~UINT64_C(0) >> (64 - width);
}

static inline size_t
stream_bytes(size_t nvalues, int width)
{
	return (nvalues * width + 7) / 8;
}

static inline uint64_t
rotate_left(uint64_t value)
{
	return value << 1 | value >> 63;
}

static inline uint64_t
rotate_right(uint64_t value)
{
	return value >> 1 | value << 63;
}

/* How many bytes of it are stored: without the zeros at its high end. */
static inline int
base_bytes(const Packing *packing)
{
	uint64_t	base = rotate_left(packing->base);

	return base == 0 ? 0 : 8 - __builtin_clzll(base) / 8;
}

static inline size_t
descriptor_bytes(const Packing *packing)
{
	return DESCRIPTOR_BYTES + base_bytes(packing) + (packing->npatches > 0 ? PATCHES_BYTES : 0);
}

static inline size_t
packing_bytes(const Packing *packing, size_t n)
{
	return stream_bytes(n, packing->width) +
		stream_bytes(packing->npatches, POSITION_BITS) +
		stream_bytes(packing->npatches, packing->patch_width);
}

/* Value number i of a stream; reads up to 9 bytes from its first one. */
static inline uint64_t
read_value(const uint8_t *in, size_t i, int width)
{
	size_t		bit = i * width;
	const uint8_t *byte = in + bit / 8;
	int			shift = bit % 8;
	uint64_t	value = load64(byte) >> shift;

	if (shift + width > 64)
		value |= (uint64_t) byte[8] << (64 - shift);
	return value & low_bits(width);
}

/*----------
 * Planning a segment
 *----------
 */

/* Counters of the same bit length, so that not each waits for the one before. */
#define LANES 4

/* Where no value is less than the one before it. */
#define NO_DESCENT SIZE_MAX

/*
 * What is known of a column's first n values.  It depends on these alone, but
 * moving to a nearby n costs no more than the values in between, mostly.
 */
typedef struct ColumnPlan
{
	const uint64_t *values;
	size_t		n;
	size_t		least_at;		/* the first of the least values */
	size_t		descent;		/* the first value less than the one before it */
	bool		ascending;
	uint16_t	lengths[65][LANES]; /* how many values have each bit length */
	Packing		packing;
} ColumnPlan;

typedef struct Plan
{
	int			ncolumns;		/* keys and count */
	size_t		n;
	ColumnPlan	column[MAX_STREAM_COLUMNS];
} Plan;

/* Without a branch: whether a step is 0 cannot be predicted. */
static inline int
bit_length(uint64_t value)
{
	return 64 - __builtin_clzll(value | 1) - (value == 0);
}

/* What is stored for the values from "start" up to "end". */
static inline void
residuals(const uint64_t *values, bool deltas, uint64_t base, size_t start, size_t end,
		  uint64_t *out)
{
	if (!deltas)
	{
		for (size_t i = start; i < end; i++)
			out[i - start] = values[i] - base;
		return;
	}
	if (start == 0 && start < end)
	{
		*out++ = values[0] - base;
		start = 1;
	}
	for (size_t i = start; i < end; i++)
		out[i - start] = values[i] - values[i - 1];
}

/* Know the first value only. */
static void
restart_plan(ColumnPlan *plan)
{
	plan->n = 1;
	plan->least_at = 0;
	plan->descent = NO_DESCENT;
	plan->ascending = true;
	plan->packing.base = plan->values[0];
	memset(plan->lengths, 0, sizeof(plan->lengths));
	plan->lengths[0][0] = 1;
}

/* Find the least value and the first descent among the first n values. */
static void
survey_values(ColumnPlan *plan, size_t n)
{
	const uint64_t *values = plan->values;
	size_t		i = plan->n;
	uint64_t	least = values[plan->least_at];

	if (plan->descent == NO_DESCENT)
	{
		while (i < n && values[i] >= values[i - 1])
			i++;
		if (i < n)
			plan->descent = i;
	}
	for (; i < n; i++)
		if (values[i] < least)
		{
			least = values[i];
			plan->least_at = i;
		}
}

/* Count the bit lengths of values from "start" up to "end", or take them back. */
static void
count_lengths(ColumnPlan *plan, size_t start, size_t end, int change)
{
	uint64_t	residual[SEGMENT_MAX_FACTS];

	if (plan->ascending && plan->values[end - 1] == plan->values[start > 0 ? start - 1 : 0])
	{
		/* all equal */
		plan->lengths[0][0] += (uint16_t) (change * (int) (end - start));
		return;
	}
	residuals(plan->values, plan->ascending, plan->packing.base, start, end, residual);
	for (size_t i = 0; i < end - start; i++)
		plan->lengths[bit_length(residual[i])][i % LANES] += (uint16_t) change;
}

/* Choose the width: every wider value costs a patch. */
static void
choose_width(ColumnPlan *plan)
{
	Packing    *packing = &plan->packing;
	int			longest = 64;
	size_t		longer = 0;
	size_t		best;
	uint16_t	lengths[65];

	for (int length = 0; length <= 64; length++)
		lengths[length] = (uint16_t) (plan->lengths[length][0] + plan->lengths[length][1] +
									  plan->lengths[length][2] + plan->lengths[length][3]);
	while (longest > 0 && lengths[longest] == 0)
		longest--;
	packing->width = longest;
	packing->npatches = 0;
	best = plan->n * longest;
	for (int width = longest - 1; width >= 0; width--)
	{
		size_t		bits;

		longer += lengths[width + 1];
		bits = plan->n * width + longer * (POSITION_BITS + longest - width);
		if (bits < best)
		{
			best = bits;
			packing->width = width;
			packing->npatches = longer;
		}
	}
	packing->patch_width = packing->npatches > 0 ? longest - packing->width : 0;
}

static void
plan_column(ColumnPlan *plan, size_t n)
{
	uint64_t	base;
	bool		ascending;

	if (plan->least_at >= n || (plan->descent != NO_DESCENT && plan->descent >= n))
		restart_plan(plan);
	base = plan->packing.base;
	ascending = plan->ascending;
	survey_values(plan, n);
	plan->packing.base = plan->values[plan->least_at];
	plan->ascending = plan->descent == NO_DESCENT;
	if (plan->packing.base != base || plan->ascending != ascending)
	{
		memset(plan->lengths, 0, sizeof(plan->lengths));
		plan->n = 0;
	}
	if (n > plan->n)
		count_lengths(plan, plan->n, n, 1);
	else if (n < plan->n)
		count_lengths(plan, n, plan->n, -1);
	plan->n = n;
	plan->packing.delta = plan->ascending && plan->values[n - 1] > plan->packing.base;
	choose_width(plan);
}

/* Plan a segment of n facts; returns its size in bytes. */
static size_t
plan_segment(Plan *plan, size_t n)
{
	size_t		bytes = HEADER_BYTES;

	plan->n = n;
	for (int c = 0; c < plan->ncolumns; c++)
	{
		plan_column(&plan->column[c], n);
		bytes += descriptor_bytes(&plan->column[c].packing) + packing_bytes(&plan->column[c].packing, n);
	}
	return bytes;
}

static void
begin_plan(Plan *plan, const Facts *facts, size_t start)
{
	plan->ncolumns = facts->ncolumns + 1;
	for (int c = 0; c < plan->ncolumns; c++)
	{
		plan->column[c].values = (c < facts->ncolumns ? facts->key[c] : facts->count) + start;
		restart_plan(&plan->column[c]);
	}
}

/*
 * Plan a segment of about as many facts as fit, of "most" at most: look for the
 * number by its average size, and every other time by halving, which bounds the
 * search.
 */
static size_t
plan_fitting_segment(Plan *plan, size_t most, size_t guess)
{
	size_t		fits = 0;
	size_t		too_many = most + 1;
	size_t		n = most < guess ? most : guess;
	bool		halve = false;

	for (;;)
	{
		size_t		bytes = plan_segment(plan, n);

		if (bytes > SEGMENT_MAX_BYTES)
			too_many = n;
		else if (n == most || n + 1 == too_many ||
				 bytes > SEGMENT_MAX_BYTES - GOOD_ENOUGH_BYTES)
			return bytes;
		else
			fits = n;
		n = halve ? (fits + too_many) / 2 :
			n * (SEGMENT_MAX_BYTES - GOOD_ENOUGH_BYTES / 2) / bytes;
		n = n <= fits ? fits + 1 : n;
		n = n >= too_many ? too_many - 1 : n;
		halve = !halve;
	}
}

/*----------
 * Encoding
 *----------
 */

/* Appends values of any width to a stream. */
typedef struct BitWriter
{
	uint8_t    *out;
	uint64_t	pending;		/* bits not yet a whole byte */
	int			npending;		/* 0 .. 7 */
} BitWriter;

/* Append up to 56 bits; touches the 7 bytes after them. */
static inline void
write_bits(BitWriter *writer, uint64_t bits, int nbits)
{
	writer->pending |= bits << writer->npending;
	writer->npending += nbits;
	store64(writer->out, writer->pending);
	writer->out += writer->npending / 8;
	writer->pending >>= writer->npending / 8 * 8;
	writer->npending %= 8;
}

/* Pack n values in whole groups, so many at a time as have 56 bits at most. */
static inline void
pack_together(BitWriter *writer, const uint64_t *values, size_t n, int width, int together)
{
	for (size_t i = 0; i < n; i += GROUP)
		for (int j = 0; j < GROUP; j += together)
		{
			uint64_t	bits = values[i + j];

			for (int k = 1; k < together; k++)
				bits |= values[i + j + k] << k * width;
			write_bits(writer, bits, together * width);
		}
}

/*
 * Pack a stream of n values, with zeros after them up to a whole group.
 * Returns its end.
 */
static uint8_t *
pack(uint8_t *out, const uint64_t *values, size_t n, int width)
{
	BitWriter	writer = {out, 0, 0};

	if (width <= 7)
		pack_together(&writer, values, n, width, 8);
	else if (width <= 14)
		pack_together(&writer, values, n, width, 4);
	else if (width <= 28)
		pack_together(&writer, values, n, width, 2);
	else if (width <= 56)
		pack_together(&writer, values, n, width, 1);
	else
		for (size_t i = 0; i < n; i++)
		{
			write_bits(&writer, values[i] & low_bits(32), 32);
			write_bits(&writer, values[i] >> 32, width - 32);
		}
	return out + stream_bytes(n, width);
}

static inline void
end_with_zeros(uint64_t *values, size_t n)
{
	memset(values + n, 0, (GROUP - 1) * sizeof(uint64_t));
}

/* Returns its end. */
static uint8_t *
write_descriptor(uint8_t *out, const Packing *packing)
{
	int			nbytes = base_bytes(packing);

	*out++ = (uint8_t) (packing->width | (packing->delta ? DELTA_FLAG : 0));
	*out++ = (uint8_t) (nbytes | (packing->npatches > 0 ? PATCHES_FLAG : 0));
	store_bytes(out, rotate_left(packing->base), nbytes);
	out += nbytes;
	if (packing->npatches == 0)
		return out;
	*out = (uint8_t) packing->patch_width;
	store_bytes(out + 1, packing->npatches, 2);
	return out + PATCHES_BYTES;
}

/* Write a column's streams; returns their end. */
static uint8_t *
write_streams(uint8_t *out, const ColumnPlan *plan)
{
	const Packing *packing = &plan->packing;
	uint64_t	mask = low_bits(packing->width);
	uint64_t	low[SEGMENT_MAX_FACTS + GROUP];
	uint64_t	position[SEGMENT_MAX_FACTS + GROUP];
	uint64_t	high[SEGMENT_MAX_FACTS + GROUP];
	size_t		npatches = 0;

	if (packing_bytes(packing, plan->n) == 0)
		return out;
	residuals(plan->values, packing->delta, packing->base, 0, plan->n, low);
	for (size_t i = 0; packing->npatches > 0 && i < plan->n; i++)
	{
		position[npatches] = i;
		high[npatches] = low[i] >> packing->width;
		npatches += low[i] > mask;
		low[i] &= mask;
	}
	end_with_zeros(low, plan->n);
	end_with_zeros(position, npatches);
	end_with_zeros(high, npatches);
	out = pack(out, low, plan->n, packing->width);
	out = pack(out, position, npatches, POSITION_BITS);
	return pack(out, high, npatches, packing->patch_width);
}

size_t
segment_encode(const Facts *facts, size_t start, size_t guess, uint8_t *out, size_t *taken)
{
	size_t		left = facts->n - start;
	size_t		most = left < SEGMENT_MAX_FACTS ? left : SEGMENT_MAX_FACTS;
	uint8_t		data[SEGMENT_MAX_BYTES + WRITE_PADDING];
	uint8_t    *end = data + HEADER_BYTES;
	Plan		plan;
	size_t		bytes;

	begin_plan(&plan, facts, start);
	bytes = plan_fitting_segment(&plan, most, guess > 0 ? guess : FIRST_GUESS);
	data[0] = SEGMENT_VERSION;
	data[1] = (uint8_t) facts->ncolumns;
	store_bytes(data + 2, plan.n, 2);
	for (int c = 0; c < plan.ncolumns; c++)
		end = write_descriptor(end, &plan.column[c].packing);
	for (int c = 0; c < plan.ncolumns; c++)
		end = write_streams(end, &plan.column[c]);
	memcpy(out, data, bytes);
	*taken = plan.n;
	return bytes;
}

/*----------
 * Decoding
 *----------
 */

static inline uint64_t
load_bytes(const uint8_t *in, int nbytes)
{
	uint64_t	value = 0;

	for (int i = 0; i < nbytes; i++)
		value |= (uint64_t) in[i] << (8 * i);
	return value;
}

/* Read a descriptor; "left" bytes are there, *bytes is what it takes. */
static SegmentStatus
read_descriptor(const uint8_t *in, size_t left, size_t n, Packing *packing, size_t *bytes)
{
	size_t		nbytes;			/* of the base */
	bool		patched;

	if (left < DESCRIPTOR_BYTES)
		return SEGMENT_BAD_LENGTH;
	nbytes = in[1] & ~PATCHES_FLAG;
	patched = (in[1] & PATCHES_FLAG) != 0;
	*bytes = DESCRIPTOR_BYTES + nbytes + (patched ? PATCHES_BYTES : 0);
	if (nbytes > sizeof(uint64_t))
		return SEGMENT_BAD_WIDTH;
	if (left < *bytes)
		return SEGMENT_BAD_LENGTH;
	packing->delta = (in[0] & DELTA_FLAG) != 0;
	packing->width = in[0] & ~DELTA_FLAG;
	packing->base = rotate_right(load_bytes(in + DESCRIPTOR_BYTES, (int) nbytes));
	packing->patch_width = patched ? in[*bytes - PATCHES_BYTES] : 0;
	packing->npatches = patched ? load16(in + *bytes - 2) : 0;
	if (packing->width + packing->patch_width > 64)
		return SEGMENT_BAD_WIDTH;
	if ((packing->patch_width > 0) != (packing->npatches > 0))
		return SEGMENT_BAD_WIDTH;
	if (packing->npatches > n)
		return SEGMENT_BAD_COUNT;
	return SEGMENT_OK;
}

/* Read and check everything but the streams. */
static SegmentStatus
read_header(const uint8_t *data, size_t length, Header *header)
{
	size_t		offset;

	if (length < HEADER_BYTES || length > SEGMENT_MAX_BYTES)
		return SEGMENT_BAD_LENGTH;
	if (data[0] != SEGMENT_VERSION)
		return SEGMENT_BAD_VERSION;
	header->ncolumns = data[1];
	header->n = load16(data + 2);
	if (header->ncolumns < 1 || header->ncolumns > FACTS_MAX_COLUMNS ||
		header->n < 1 || header->n > SEGMENT_MAX_FACTS)
		return SEGMENT_BAD_COUNT;
	offset = HEADER_BYTES;
	for (int c = 0; c <= header->ncolumns; c++)
	{
		size_t		bytes;
		SegmentStatus status = read_descriptor(data + offset, length - offset, header->n, &header->packing[c],
											   &bytes);

		if (status != SEGMENT_OK)
			return status;
		offset += bytes;
	}
	for (int c = 0; c <= header->ncolumns; c++)
	{
		header->offset[c] = offset;
		offset += packing_bytes(&header->packing[c], header->n);
	}
	if (offset != length)
		return SEGMENT_BAD_LENGTH;
	/* the first column ascends by construction, and no count can be 0 */
	if (!header->packing[0].delta && packing_bytes(&header->packing[0], header->n) > 0)
		return SEGMENT_BAD_ORDER;
	if (header->packing[header->ncolumns].base == 0)
		return SEGMENT_BAD_COUNT;
	return SEGMENT_OK;
}

/*
 * Unpack n values, adding the base to each; writes whole groups.  Inlined with
 * a constant width, all the offsets, shifts and the mask are constants.
 */
static inline void
unpack_loads(const uint8_t *in, size_t n, int width, uint64_t base, uint64_t *out)
{
	uint64_t	mask = low_bits(width);

#define UNPACK(k) \
	out[k] = base + ((load64(in + (k) * width / 8) >> ((k) * width % 8)) & mask)

	for (size_t i = 0; i < n; i += GROUP)
	{
		UNPACK(0);
		UNPACK(1);
		UNPACK(2);
		UNPACK(3);
		UNPACK(4);
		UNPACK(5);
		UNPACK(6);
		UNPACK(7);
		in += width;
		out += GROUP;
	}
#undef UNPACK
}

static void
unpack(const uint8_t *in, size_t n, int width, uint64_t base, uint64_t *out)
{
#define WIDTH(w) case w: unpack_loads(in, n, w, base, out); break
	switch (width)
	{
		case 0:
			for (size_t i = 0; i < n; i++)
				out[i] = base;
			break;
			WIDTH(1);
			WIDTH(2);
			WIDTH(3);
			WIDTH(4);
			WIDTH(5);
			WIDTH(6);
			WIDTH(7);
			WIDTH(8);
			WIDTH(9);
			WIDTH(10);
			WIDTH(11);
			WIDTH(12);
			WIDTH(13);
			WIDTH(14);
			WIDTH(15);
			WIDTH(16);
			WIDTH(17);
			WIDTH(18);
			WIDTH(19);
			WIDTH(20);
			WIDTH(21);
			WIDTH(22);
			WIDTH(23);
			WIDTH(24);
			WIDTH(25);
			WIDTH(26);
			WIDTH(27);
			WIDTH(28);
			WIDTH(29);
			WIDTH(30);
			WIDTH(31);
			WIDTH(32);
		default:
			if (width <= MAX_LOAD_WIDTH)
				unpack_loads(in, n, width, base, out);
			else
				for (size_t i = 0; i < n; i++)
					out[i] = base + read_value(in, i, width);
	}
#undef WIDTH
}

/* Add the higher bits of the values that have them. */
static bool
apply_patches(const uint8_t *in, const Packing *packing, size_t n, uint64_t *values)
{
	uint64_t	position[SEGMENT_MAX_FACTS];
	uint64_t	high[SEGMENT_MAX_FACTS];
	uint64_t	next = 0;		/* the least position allowed */

	unpack(in, packing->npatches, POSITION_BITS, 0, position);
	in += stream_bytes(packing->npatches, POSITION_BITS);
	unpack(in, packing->npatches, packing->patch_width, 0, high);
	for (size_t i = 0; i < packing->npatches; i++)
	{
		if (position[i] < next || position[i] >= n)
			return false;
		values[position[i]] += high[i] << packing->width;
		next = position[i] + 1;
	}
	return true;
}

/* Whether the base and so many of the widest values have a sum below 2^64. */
static bool
cannot_wrap(const Packing *packing, size_t nvalues)
{
	int			bits = packing->width + packing->patch_width;

	return bits <= 64 - BITS_OF_MAX_FACTS &&
		packing->base <= UINT64_MAX - low_bits(bits) * nvalues;
}

/* Turn deltas into values; false if they overflow. */
static bool
sum_deltas(const Packing *packing, size_t n, uint64_t *values)
{
	uint64_t	sum = packing->base;
	bool		overflow = false;

	if (cannot_wrap(packing, n))
	{
		for (size_t i = 0; i < n; i++)
			values[i] = sum += values[i];
		return true;
	}
	for (size_t i = 0; i < n; i++)
	{
		overflow |= values[i] > UINT64_MAX - sum;
		values[i] = sum += values[i];
	}
	return !overflow;
}

/* Whether no value wrapped when the base was added. */
static bool
none_wrapped(const Packing *packing, size_t n, const uint64_t *values)
{
	if (cannot_wrap(packing, 1))
		return true;
	for (size_t i = 0; i < n; i++)
		if (values[i] < packing->base)
			return false;
	return true;
}

static bool
decode_column(const uint8_t *in, const Packing *packing, size_t n, uint64_t *values)
{
	unpack(in, n, packing->width, packing->delta ? 0 : packing->base, values);
	if (packing->npatches > 0 &&
		!apply_patches(in + stream_bytes(n, packing->width), packing, n, values))
		return false;
	return packing->delta ? sum_deltas(packing, n, values) : none_wrapped(packing, n, values);
}

/*
 * Decode the columns whose bit is set, that of the counts after the last key
 * column's, into the arrays from index "at" on.  Sets *n to the number of facts.
 */
static SegmentStatus
decode_at(const uint8_t *data, size_t length, unsigned columns, const Facts *facts,
		  size_t at, size_t *n)
{
	uint8_t		padded[SEGMENT_MAX_BYTES + READ_PADDING];
	Header		header;
	SegmentStatus status = read_header(data, length, &header);

	if (status != SEGMENT_OK)
		return status;
	if (header.ncolumns != facts->ncolumns)
		return SEGMENT_BAD_COUNT;
	memcpy(padded, data, length);
	memset(padded + length, 0, READ_PADDING);
	for (int c = 0; c <= header.ncolumns; c++)
	{
		uint64_t   *values = c < header.ncolumns ? facts->key[c] : facts->count;

		if ((columns & (1U << c)) != 0 &&
			!decode_column(padded + header.offset[c], &header.packing[c], header.n,
						   values + at))
			return SEGMENT_BAD_ORDER;
	}
	*n = header.n;
	return SEGMENT_OK;
}

/*
 * Whether fact i comes strictly after the one before it.  Without branches:
 * which column decides is as good as random.
 */
static inline bool
after_previous(const Facts *facts, size_t i)
{
	bool		after = false;

	for (int c = facts->ncolumns - 1; c >= 0; c--)
	{
		uint64_t	value = facts->key[c][i];
		uint64_t	previous = facts->key[c][i - 1];

		after = (value > previous) | ((value == previous) & after);
	}
	return after;
}

static inline unsigned
counts_column(const Facts *facts)
{
	return 1U << facts->ncolumns;
}

SegmentStatus
segment_decode(const uint8_t *data, size_t length, Facts *facts)
{
	unsigned	all_columns = counts_column(facts) | (counts_column(facts) - 1);
	size_t		n;
	SegmentStatus status = decode_at(data, length, all_columns, facts, facts->n, &n);

	if (status != SEGMENT_OK)
		return status;
	for (size_t i = facts->n + 1; i < facts->n + n; i++)
		if (!after_previous(facts, i))
			return SEGMENT_BAD_ORDER;
	facts->n += n;
	return SEGMENT_OK;
}

SegmentStatus
segment_decode_columns(const uint8_t *data, size_t length, unsigned columns, Facts *facts)
{
	size_t		n;
	SegmentStatus status = decode_at(data, length, columns | counts_column(facts), facts, 0, &n);

	if (status == SEGMENT_OK)
		facts->n = n;
	return status;
}

SegmentStatus
segment_decode_where(const uint8_t *data, size_t length, unsigned columns,
					 int column, uint64_t value, Facts *facts)
{
	const uint64_t *values = facts->key[column];
	size_t		n;
	size_t		i = 0;
	SegmentStatus status = decode_at(data, length, 1U << column, facts, 0, &n);

	if (status != SEGMENT_OK)
		return status;
	facts->n = 0;
	while (i < n && values[i] != value)
		i++;
	return i == n ? SEGMENT_OK : segment_decode_columns(data, length, columns & ~(1U << column), facts);
}

const char *
segment_status_text(SegmentStatus status)
{
	switch (status)
	{
		case SEGMENT_OK:
			return "no error";
		case SEGMENT_BAD_VERSION:
			return "unknown format version";
		case SEGMENT_BAD_LENGTH:
			return "length does not match the header";
		case SEGMENT_BAD_COUNT:
			return "impossible number of facts, columns, patches or clicks";
		case SEGMENT_BAD_WIDTH:
			return "impossible bit width";
		case SEGMENT_BAD_ORDER:
			return "facts out of order or out of range";
	}
	return "unknown error";
}
