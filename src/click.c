/*-------------------------------------------------------------------------
 *
 * click.c
 *	  Reading and judging one click.
 *
 * See click.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/socket.h>

#include "port/pg_bswap.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "adclick.h"
#include "click.h"
#include "siphash.h"

/* A time in an id that lies further than this from the click's is not believed. */
#define ID_TIME_BELIEVED USECS_PER_DAY

#define UNIX_EPOCH_USECS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

int64
click_bucket(TimestampTz at)
{
	return floor_div(at, adclick_dedup_window * USECS_PER_SEC);
}

/*
 * The time that chooses the dedup bucket: that inside a version 7 id (RFC
 * 9562, milliseconds since 1970 in its first 48 bits), so that copies of a
 * click meet in one bucket whatever their clicked_at; else the click's own.
 */
static TimestampTz
bucket_time(const Click *click)
{
	bool		is_v7 = (click->key.hi >> 12 & 0xF) == 7 && click->key.lo >> 62 == 2;
	TimestampTz inside;

	if (!is_v7)
		return click->at;
	inside = (int64) (click->key.hi >> 16) * 1000 - UNIX_EPOCH_USECS;
	if (inside > click->at + ID_TIME_BELIEVED || inside < click->at - ID_TIME_BELIEVED ||
		inside > click->received_at + adclick_future_tolerance * USECS_PER_SEC)
		return click->at;
	return inside;
}

static void
read_key(TupleTableSlot *slot, Click *click)
{
	if (adclick_dedup_by == DEDUP_BY_USER_AND_AD)
	{
		click->has_key = !slot->tts_isnull[CLICK_USER_ID - 1];
		if (!click->has_key)
			return;
		click->key.hi = (uint64) DatumGetInt64(slot->tts_values[CLICK_USER_ID - 1]);
		click->key.lo = (uint64) click->ad_id;
		click->bucket = click_bucket(click->at);
		return;
	}

	click->has_key = !slot->tts_isnull[CLICK_ID - 1];
	if (click->has_key)
	{
		pg_uuid_t  *id = DatumGetUUIDP(slot->tts_values[CLICK_ID - 1]);
		uint64		halves[2];

		memcpy(halves, id->data, sizeof(halves));
		click->key.hi = pg_ntoh64(halves[0]);
		click->key.lo = pg_ntoh64(halves[1]);
		click->bucket = click_bucket(bucket_time(click));
	}
}

ClickVerdict
click_read(TupleTableSlot *slot, Click *click)
{
	slot_getsomeattrs(slot, CLICK_RECEIVED_AT);
	click->ad_id = DatumGetInt64(slot->tts_values[CLICK_AD_ID - 1]);
	click->received_at = DatumGetTimestampTz(slot->tts_values[CLICK_RECEIVED_AT - 1]);
	click->at = slot->tts_isnull[CLICK_CLICKED_AT - 1] ? click->received_at :
		DatumGetTimestampTz(slot->tts_values[CLICK_CLICKED_AT - 1]);

	if (TIMESTAMP_NOT_FINITE(click->received_at))
		return CLICK_TOO_OLD;
	if (click->at > click->received_at + adclick_future_tolerance * USECS_PER_SEC)
		return CLICK_IN_FUTURE;
	if (click->at < click->received_at - adclick_raw_retention * USECS_PER_MINUTE)
		return CLICK_TOO_OLD;
	read_key(slot, click);
	return CLICK_VALID;
}

static inline uint64
read_half(const unsigned char *bytes)
{
	uint64		half;

	memcpy(&half, bytes, sizeof(half));
	return pg_ntoh64(half);
}

void
ip_from_inet(const inet *address, IpAddress *ip)
{
	const unsigned char *bytes = ip_addr(address);

	if (ip_family(address) == PGSQL_AF_INET)
	{
		uint32		word;

		memcpy(&word, bytes, sizeof(word));
		*ip = (IpAddress) {.high = pg_ntoh32(word), .family = 4};
	}
	else
		*ip = (IpAddress) {read_half(bytes), read_half(bytes + sizeof(uint64)), 6};
}

void
click_to_fact(TupleTableSlot *slot, const Click *click, FactClick *fact)
{
	slot_getsomeattrs(slot, CLICK_IP);
	fact->ad_id = click->ad_id;
	fact->minute = minute_of(click->at);
	fact->has_user = !slot->tts_isnull[CLICK_USER_ID - 1];
	fact->user_id = fact->has_user ? DatumGetInt64(slot->tts_values[CLICK_USER_ID - 1]) : 0;
	if (slot->tts_isnull[CLICK_IP - 1])
		fact->ip = (IpAddress) {0};
	else
		ip_from_inet(DatumGetInetPP(slot->tts_values[CLICK_IP - 1]), &fact->ip);
}

uint32
bucket_key_hash(const BucketKey *key)
{
	const uint64 *seed = process_seed();

	return (uint32) siphash(seed, siphash(seed, key->key.hi, key->key.lo), (uint64) key->bucket);
}

const char *
click_verdict_text(ClickVerdict verdict)
{
	switch (verdict)
	{
		case CLICK_VALID:
		case CLICK_LATE:
			break;
		case CLICK_IN_FUTURE:
			return "in the future";
		case CLICK_TOO_OLD:
			return "too old";
		case CLICK_DUPLICATE:
			return "duplicate";
	}
	elog(ERROR, "click verdict %d has no reason", (int) verdict);
	return NULL;
}
