/*-------------------------------------------------------------------------
 *
 * filters.c
 *	  The dictionary of dimension combinations.
 *
 * See filters.h.  Combinations are added by ticks only, one tick at a time, and
 * never changed, so a cached entry is never wrong; it can only be missing, or
 * come from a transaction that was rolled back, after which it is read anew.
 * Combinations only the tail has are kept beside them, under provisional ids, to
 * the end of the transaction.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/adclick.h"
#include "filters.h"
#include "inbox/click.h"
#include "store.h"

#define UNKNOWN "unknown"
#define OTHER "other"

const char *const dimension_names[DIMENSIONS] = {"country", "region", "device"};

typedef struct FilterEntry
{
	Dimensions	dimensions;		/* the key; NULL values: a lookup that has none */
	uint32		hash;
	char		status;
	int32		filter_id;
} FilterEntry;

uint32
dimensions_hash(const Dimensions *d)
{
	uint32		hash = 0;

	for (int i = 0; i < DIMENSIONS; i++)
		hash = hash_combine(hash, (uint32) hash_bytes_extended((const unsigned char *) d->value[i],
															   d->length[i], process_seed()[i % 2]));
	return hash;
}

bool
dimensions_equal(const Dimensions *a, const Dimensions *b)
{
	for (int i = 0; i < DIMENSIONS; i++)
		if (a->length[i] != b->length[i] ||
			memcmp(a->value[i], b->value[i], a->length[i]) != 0)
			return false;
	return true;
}

#define SH_PREFIX filter_cache
#define SH_ELEMENT_TYPE FilterEntry
#define SH_KEY_TYPE Dimensions
#define SH_KEY dimensions
#define SH_HASH_KEY(tb, key) dimensions_hash(&(key))
#define SH_EQUAL(tb, a, b) dimensions_equal(&(a), &(b))
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct IdEntry
{
	int32		filter_id;
	char		status;
	Dimensions	dimensions;
} IdEntry;

/* Not an array: one id that is damaged must not make it huge. */
#define SH_PREFIX filter_ids
#define SH_ELEMENT_TYPE IdEntry
#define SH_KEY_TYPE int32
#define SH_KEY filter_id
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static MemoryContext cache_context = NULL;
static filter_cache_hash *cache = NULL;
static filter_ids_hash *by_id = NULL;	/* the same, by filter_id */

/* What only the tail has, until the end of the transaction */
static MemoryContext foreseen_context = NULL;
static filter_cache_hash *foreseen = NULL;
static filter_ids_hash *foreseen_by_id = NULL;

/*
 * An entry may be of a transaction, or part of one, that was rolled back.  Until
 * the next refresh the cache stays: an error caught by others, in the midst of a
 * tick, must not take it away.
 */
static bool cache_is_stale = false;

static Oid	cache_extension = InvalidOid;	/* whose filters these are */
static bool fold_reported = false;

static void
set_dimension(Dimensions *dimensions, int i, const char *value, size_t length)
{
	dimensions->value[i] = value;
	dimensions->length[i] = (int) length;
}

/* One of them, as it is counted. */
static DimensionGiven
read_dimension(Datum datum, Dimensions *dimensions, int i)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(datum);
	bool		is_short = true;

	if (VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value))
	{
		/* look at it only if it can be short */
		is_short = toast_raw_datum_size(datum) - VARHDRSZ <= DIMENSION_MAX_LENGTH;
		if (is_short)
			value = pg_detoast_datum_packed(value);
	}
	if (!is_short || VARSIZE_ANY_EXHDR(value) > DIMENSION_MAX_LENGTH)
	{
		set_dimension(dimensions, i, OTHER, strlen(OTHER));
		return DIMENSION_FOLDED;
	}
	if (VARSIZE_ANY_EXHDR(value) == 0)
	{
		set_dimension(dimensions, i, UNKNOWN, strlen(UNKNOWN));
		return DIMENSION_EMPTY;
	}
	set_dimension(dimensions, i, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	return DIMENSION_TEXT;
}

uint32
dimensions_read(TupleTableSlot *slot, Dimensions *dimensions)
{
	uint32		flags = 0;

	slot_getsomeattrs(slot, CLICK_COLUMNS);
	for (int i = 0; i < DIMENSIONS; i++)
	{
		int			column = CLICK_COUNTRY - 1 + i;
		DimensionGiven given = DIMENSION_NULL;

		if (slot->tts_isnull[column])
			set_dimension(dimensions, i, UNKNOWN, strlen(UNKNOWN));
		else
			given = read_dimension(slot->tts_values[column], dimensions, i);
		flags |= ledger_dimension(i, given);
		if (given == DIMENSION_FOLDED)
			flags |= LEDGER_UNPACKED;
	}
	return flags;
}

static void
cache_forget(void)
{
	cache = NULL;
	by_id = NULL;
	if (cache_context)
		MemoryContextReset(cache_context);
}

/* Ticks will make ids for what was foreseen. */
static void
forget_foreseen(void)
{
	foreseen = NULL;
	foreseen_by_id = NULL;
	if (foreseen_context)
		MemoryContextReset(foreseen_context);
}

static void
forget_at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		cache_is_stale = true;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		forget_foreseen();
}

static void
forget_on_subabort(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		cache_is_stale = true;
}

/* Enter a combination into the tables of them. */
static FilterEntry *
add_entry(filter_cache_hash *table, filter_ids_hash *ids, MemoryContext context,
		  const Dimensions *dimensions, int32 filter_id)
{
	bool		found;
	FilterEntry *entry = filter_cache_insert(table, *dimensions, &found);

	entry->filter_id = filter_id;
	for (int i = 0; i < DIMENSIONS && !found; i++)
	{
		char	   *copy = MemoryContextAlloc(context, dimensions->length[i]);

		memcpy(copy, dimensions->value[i], dimensions->length[i]);
		entry->dimensions.value[i] = copy;
	}
	filter_ids_insert(ids, filter_id, &found)->dimensions = entry->dimensions;
	return entry;
}

/* From a stored row, which may be damaged. */
static void
cache_add(const Dimensions *dimensions, int32 filter_id)
{
	if (filter_id < 1 || filter_is_provisional(filter_id))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("filter %d in adclick.filters is damaged", filter_id),
				 errdetail("Its filter_id must be from 1 to %d.", FIRST_PROVISIONAL_FILTER - 1)));
	add_entry(cache, by_id, cache_context, dimensions, filter_id);
}

static void
cache_row(int32 filter_id, char *const *values)
{
	Dimensions	dimensions;

	for (int i = 0; i < DIMENSIONS; i++)
	{
		dimensions.value[i] = values[i];
		dimensions.length[i] = strlen(values[i]);
	}
	cache_add(&dimensions, filter_id);
}

static void
cache_load(void)
{
	if (cache_context == NULL)
	{
		cache_context = AllocSetContextCreate(TopMemoryContext, "adclick filters",
											  ALLOCSET_DEFAULT_SIZES);
		foreseen_context = AllocSetContextCreate(TopMemoryContext, "adclick foreseen filters",
												 ALLOCSET_DEFAULT_SIZES);
		RegisterXactCallback(forget_at_end, NULL);
		RegisterSubXactCallback(forget_on_subabort, NULL);
	}
	cache_forget();
	cache = filter_cache_create(cache_context, 1024, NULL);
	by_id = filter_ids_create(cache_context, 1024, NULL);
	cache_extension = get_extension_oid("adclick", false);
	cache_is_stale = false;

	store_each_combination(cache_row);
}

void
filters_refresh(void)
{
	if (cache == NULL || cache_is_stale || cache_extension != get_extension_oid("adclick", true) ||
		cache->members < store_count_combinations())
		cache_load();
}

int32
filters_find(const Dimensions *dimensions)
{
	FilterEntry *entry = filter_cache_lookup(cache, *dimensions);

	return entry ? entry->filter_id : 0;
}

static const Dimensions all_other = {
	{OTHER, OTHER, OTHER}, {sizeof(OTHER) - 1, sizeof(OTHER) - 1, sizeof(OTHER) - 1}
};

static bool
dictionary_is_full(void)
{
	return cache->members >= adclick_max_filters;
}

static int32
insert_filter(const Dimensions *dimensions)
{
	Datum		values[DIMENSIONS];
	int32		id;

	for (int i = 0; i < DIMENSIONS; i++)
		values[i] = PointerGetDatum(cstring_to_text_with_len(dimensions->value[i],
															 dimensions->length[i]));
	id = store_add_combination(values);
	cache_add(dimensions, id);
	return id;
}

/* The id of "other". */
static int32
fold(void)
{
	int32		id = filters_find(&all_other);

	if (!fold_reported)
		ereport(WARNING,
				(errmsg("clicks with new combinations of country, region and device are counted as \"other\""),
				 errdetail("There are %d combinations already.", (int) cache->members),
				 errhint("Raise adclick.max_filters, if they are not mistakes.")));
	fold_reported = true;
	return id != 0 ? id : insert_filter(&all_other);
}

void
filters_count(TupleTableSlot *slot, FactClick *click)
{
	Dimensions	dimensions;

	click->flags |= dimensions_read(slot, &dimensions);
	click->filter_id = filters_find(&dimensions);
	if (click->filter_id != 0)
		return;
	if (!dictionary_is_full())
		click->filter_id = insert_filter(&dimensions);
	else
	{
		click->filter_id = fold();
		click->flags |= LEDGER_UNPACKED;
	}
}

int32
filters_foresee(const Dimensions *dimensions)
{
	int32		id = filters_find(dimensions);
	uint32		nforeseen = foreseen ? foreseen->members : 0;
	FilterEntry *entry;

	if (id != 0)
		return id;
	if (cache->members + nforeseen >= adclick_max_filters)
	{
		dimensions = &all_other;
		id = filters_find(dimensions);
		if (id != 0)
			return id;
	}
	if (foreseen == NULL)
	{
		foreseen_by_id = filter_ids_create(foreseen_context, 16, NULL);
		foreseen = filter_cache_create(foreseen_context, 16, NULL);
	}
	entry = filter_cache_lookup(foreseen, *dimensions);
	if (entry == NULL)
		entry = add_entry(foreseen, foreseen_by_id, foreseen_context, dimensions,
						  FIRST_PROVISIONAL_FILTER + nforeseen);
	return entry->filter_id;
}

const Dimensions *
filters_dimensions(int32 filter_id)
{
	filter_ids_hash *ids = filter_is_provisional(filter_id) ? foreseen_by_id : by_id;
	IdEntry    *entry = ids ? filter_ids_lookup(ids, filter_id) : NULL;

	if (entry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("filter %d is missing", filter_id),
				 errdetail("Stored counts name it, but adclick.filters has no such row.")));
	return &entry->dimensions;
}

void
filters_each(filters_callback callback, void *arg)
{
	filter_cache_iterator iterator;
	FilterEntry *entry;

	filter_cache_start_iterate(cache, &iterator);
	while ((entry = filter_cache_iterate(cache, &iterator)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		callback(entry->filter_id, &entry->dimensions, arg);
	}
}
