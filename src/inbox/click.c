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

#include "catalog/pg_type.h"
#include "port/pg_bswap.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/adclick.h"
#include "click.h"
#include "core/siphash.h"

/* A time in an id that lies further than this from the click's is not believed. */
#define ID_TIME_BELIEVED USECS_PER_DAY

#define UNIX_EPOCH_USECS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

const Oid click_column_types[CLICK_COLUMNS] = {
	[CLICK_ID - 1] = UUIDOID,
	[CLICK_AD_ID - 1] = INT8OID,
	[CLICK_CLICKED_AT - 1] = TIMESTAMPTZOID,
	[CLICK_USER_ID - 1] = INT8OID,
	[CLICK_RECEIVED_AT - 1] = TIMESTAMPTZOID,
	[CLICK_IP - 1] = INETOID,
	[CLICK_COUNTRY - 1] = TEXTOID,
	[CLICK_REGION - 1] = TEXTOID,
	[CLICK_DEVICE - 1] = TEXTOID
};

int64
click_bucket(const DedupRule *rule, TimestampTz at)
{
	int64		second = floor_div(at, rule->window * USECS_PER_SEC) * rule->window;

	return second * ((int64) 1 << BUCKET_RULE_BITS) + rule->rule_id;
}

/* RFC 9562: milliseconds since 1970 in the first 48 bits, then the version, and the variant before the second half. */
#define V7_BITS (UINT64CONST(7) << 12)
#define VARIANT_BITS (UINT64CONST(2) << 62)

bool
click_id_time(const DedupKey *id, TimestampTz *at)
{
	*at = (int64) (id->hi >> 16) * USECS_PER_MSEC - UNIX_EPOCH_USECS;
	return (id->hi >> 12 & 0xF) == 7 && id->lo >> 62 == 2;
}

DedupKey
click_new_id(TimestampTz at)
{
	uint64		ms = (uint64) floor_div(at + UNIX_EPOCH_USECS, USECS_PER_MSEC);
	uint64		random[2];

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	return (DedupKey) {ms << 16 | V7_BITS | (random[0] & 0xFFF), VARIANT_BITS | random[1] >> 2};
}

/* First halves of ids of version 8, which are anybody's own: "adclic" in ASCII, and a number. */
#define FORGED_HALF UINT64CONST(0x6164636C69638001)
#define EXPIRED_HALF UINT64CONST(0x6164636C69638002)

DedupKey
click_refused_id(ClickVerdict verdict, const DedupKey *id)
{
	return (DedupKey) {
		verdict == CLICK_FORGED ? FORGED_HALF : EXPIRED_HALF, VARIANT_BITS | (id->lo << 2) >> 2
	};
}

/*
 * The time that chooses the dedup bucket: that inside a version 7 id, so that copies of a
 * click meet in one bucket whatever their clicked_at; else the click's own.  It
 * depends on nothing but the click itself: not on its arrival, which a copy has later.
 */
static TimestampTz
bucket_time(const Click *click, const DedupKey *id)
{
	TimestampTz inside;

	if (!click_id_time(id, &inside))
		return click->at;
	return inside > click->at + ID_TIME_BELIEVED || inside < click->at - ID_TIME_BELIEVED ? click->at : inside;
}

DedupKey
key_of_uuid(Datum uuid)
{
	pg_uuid_t  *id = DatumGetUUIDP(uuid);
	uint64		halves[2];

	memcpy(halves, id->data, sizeof(halves));
	return (DedupKey) {pg_ntoh64(halves[0]), pg_ntoh64(halves[1])};
}

static DedupKey
read_id(TupleTableSlot *slot)
{
	return key_of_uuid(slot->tts_values[CLICK_ID - 1]);
}

Datum
key_to_uuid(const DedupKey *key)
{
	uint64		halves[2] = {pg_hton64(key->hi), pg_hton64(key->lo)};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	memcpy(id->data, halves, sizeof(halves));
	return UUIDPGetDatum(id);
}

/* The key by a rule; false if the click has none. */
static bool
read_key(TupleTableSlot *slot, const Click *click, const DedupRule *rule, BucketKey *key)
{
	if (rule->by == DEDUP_BY_USER_AND_AD)
	{
		if (slot->tts_isnull[CLICK_USER_ID - 1])
			return false;
		key->key.hi = (uint64) DatumGetInt64(slot->tts_values[CLICK_USER_ID - 1]);
		key->key.lo = (uint64) click->ad_id;
		key->bucket = click_bucket(rule, click->at);
		return true;
	}
	if (slot->tts_isnull[CLICK_ID - 1])
		return false;
	key->key = read_id(slot);
	key->bucket = click_bucket(rule, bucket_time(click, &key->key));
	return true;
}

/*
 * Whether the ledger no longer has all keys that could tell whether it is a copy of a
 * click that was counted.
 */
static bool
is_forgotten(TupleTableSlot *slot, const Click *click, const ClickRules *rules)
{
	BucketKey	key;

	if (rules->forgotten == PG_INT64_MIN)
		return false;
	if (click->has_key && click->key.bucket <= rules->forgotten)
		return true;
	for (int i = 0; i <= rules->nformer; i++)
		if (click_former_key(slot, click, rules, i, &key) && key.bucket <= rules->forgotten)
			return true;
	return false;
}

/* What its id says of itself. */
static ClickVerdict
said_by_id(TupleTableSlot *slot)
{
	if (slot->tts_isnull[CLICK_ID - 1])
		return CLICK_VALID;
	switch (read_id(slot).hi)
	{
		case FORGED_HALF:
			return CLICK_FORGED;
		case EXPIRED_HALF:
			return CLICK_EXPIRED;
		default:
			return CLICK_VALID;
	}
}

ClickVerdict
click_read(TupleTableSlot *slot, const ClickRules *rules, const DedupRule *rule, Click *click)
{
	ClickVerdict said;

	slot_getsomeattrs(slot, CLICK_RECEIVED_AT);
	click->ad_id = DatumGetInt64(slot->tts_values[CLICK_AD_ID - 1]);
	click->received_at = DatumGetTimestampTz(slot->tts_values[CLICK_RECEIVED_AT - 1]);
	click->at = slot->tts_isnull[CLICK_CLICKED_AT - 1] ? click->received_at :
		DatumGetTimestampTz(slot->tts_values[CLICK_CLICKED_AT - 1]);

	said = said_by_id(slot);
	if (said != CLICK_VALID)
		return said;
	/* the arrival is known to the millisecond */
	if (click->at >= click->received_at + USECS_PER_MSEC + rules->future_tolerance)
		return CLICK_IN_FUTURE;
	if (click->at < click->received_at - rules->raw_retention || click->at < rules->counted_from)
		return CLICK_TOO_OLD;
	click->rule = rule;
	click->has_key = read_key(slot, click, rule, &click->key);
	return is_forgotten(slot, click, rules) ? CLICK_TOO_OLD : CLICK_VALID;
}

bool
click_former_key(TupleTableSlot *slot, const Click *click, const ClickRules *rules, int number,
				 BucketKey *key)
{
	const DedupRule *rule = number < rules->nformer ? &rules->former[number] :
		number == rules->nformer ? &rules->dedup : &rules->other;

	if (rule->rule_id == click->rule->rule_id || !read_key(slot, click, rule, key) ||
		(key->bucket > rule->last_bucket) != (number > rules->nformer))
		return false;
	if (rule->is_forgotten)
		click_disguise(rule, &key->key);
	return true;
}

void
click_disguise(const DedupRule *rule, DedupKey *key)
{
	*key = (DedupKey) {
		siphash(&rule->secret[0], key->hi, key->lo), siphash(&rule->secret[2], key->hi, key->lo)
	};
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

inet *
ip_to_inet(const IpAddress *ip)
{
	inet	   *address = palloc0(sizeof(inet));
	uint64		halves[2] = {pg_hton64(ip->high), pg_hton64(ip->low)};
	uint32		word = pg_hton32((uint32) ip->high);

	ip_family(address) = ip->family == 4 ? PGSQL_AF_INET : PGSQL_AF_INET6;
	ip_bits(address) = ip_maxbits(address);
	if (ip->family == 4)
		memcpy(ip_addr(address), &word, sizeof(word));
	else
		memcpy(ip_addr(address), halves, sizeof(halves));
	SET_INET_VARSIZE(address);
	return address;
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

/*
 * Where a click without a key stands in order ledger: by its id, if it has one.  Its
 * bucket has the number of no rule, so that nothing that is looked for equals it; but
 * it begins when those of other clicks do, so that the minutes of runs need not tell
 * such clicks from others.  Those without an id lie apart from the keys of user 0
 * or an id of zeros, which would otherwise be looked for among all of them.
 */
static BucketKey
keyless_place(TupleTableSlot *slot, const Click *click)
{
	DedupRule	none = {.rule_id = NO_RULE, .window = click->rule->window};
	DedupKey	lowest_user = {(uint64) PG_INT64_MIN, 0};

	return (BucketKey) {
		slot->tts_isnull[CLICK_ID - 1] ? lowest_user : read_id(slot), click_bucket(&none, click->at)
	};
}

/* Write the id, unless it is the key. */
static uint32
id_to_ledger(TupleTableSlot *slot, FactClick *fact)
{
	DedupKey	id;

	fact->id = (DedupKey) {0, 0};
	if (slot->tts_isnull[CLICK_ID - 1])
		return 0;
	id = read_id(slot);
	if (id.hi == fact->key.hi && id.lo == fact->key.lo)
		return LEDGER_ID_IS_KEY;
	fact->id = id;
	return LEDGER_ID_APART;
}

/* An address with a mask that is not the whole is one of a network: there are no columns for it. */
static uint32
ip_flags(TupleTableSlot *slot)
{
	inet	   *address;

	if (slot->tts_isnull[CLICK_IP - 1])
		return 0;
	address = DatumGetInetPP(slot->tts_values[CLICK_IP - 1]);
	return (ip_family(address) == PGSQL_AF_INET ? LEDGER_IPV4 : LEDGER_IPV6) |
		(ip_bits(address) == ip_maxbits(address) ? 0 : LEDGER_UNPACKED);
}

void
click_to_ledger(TupleTableSlot *slot, const Click *click, FactClick *fact)
{
	BucketKey	place = click->has_key ? click->key : keyless_place(slot, click);

	fact->clicked_at = click->at;
	fact->delay = click_delay(click->at, click->received_at);
	fact->key = place.key;
	fact->bucket = place.bucket;
	fact->flags = id_to_ledger(slot, fact) | ip_flags(slot);
	if (click_arrival(click->at, fact->delay) != click->received_at)
		fact->flags |= LEDGER_UNPACKED;
	if (fact->has_user)
		fact->flags |= LEDGER_HAS_USER;
	if (!slot->tts_isnull[CLICK_CLICKED_AT - 1])
		fact->flags |= LEDGER_HAS_CLICKED_AT;
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
			break;
		case CLICK_IN_FUTURE:
			return "in the future";
		case CLICK_TOO_OLD:
			return "too old";
		case CLICK_DUPLICATE:
			return "duplicate";
		case CLICK_UNDECIDED:
			return "undecided";
		case CLICK_FORGED:
			return "forged impression";
		case CLICK_EXPIRED:
			return "expired impression";
		case CLICK_USER_LIMIT:
			return "user limit";
		case CLICK_ADDRESS_LIMIT:
			return "address limit";
	}
	elog(ERROR, "click verdict %d has no reason", (int) verdict);
	return NULL;
}
