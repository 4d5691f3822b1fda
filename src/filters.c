/*-------------------------------------------------------------------------
 *
 * filters.c
 *	  The dictionary of dimension combinations.
 *
 * See filters.h.  Combinations are added by ticks only, one tick at a time, and
 * never changed, so a cached entry is never wrong; it can only be missing, or
 * come from a transaction that was rolled back, which empties the cache.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "adclick.h"
#include "click.h"
#include "filters.h"

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

static uint32
dimensions_hash(const Dimensions *d)
{
	uint32		hash = 0;

	for (int i = 0; i < DIMENSIONS; i++)
		hash = hash_combine(hash, hash_bytes((const unsigned char *) d->value[i], d->length[i]));
	return hash;
}

static bool
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

static MemoryContext cache_context = NULL;
static filter_cache_hash *cache = NULL;
static Oid	cache_extension = InvalidOid;	/* whose filters these are */
static bool fold_reported = false;

void
dimensions_read(TupleTableSlot *slot, Dimensions *dimensions)
{
	slot_getsomeattrs(slot, CLICK_COLUMNS);
	for (int i = 0; i < DIMENSIONS; i++)
	{
		int			column = CLICK_COUNTRY - 1 + i;
		struct varlena *value = (struct varlena *) DatumGetPointer(slot->tts_values[column]);

		if (slot->tts_isnull[column])
			value = NULL;
		else if (VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value))
		{
			/* look at it only if it can be short */
			if (toast_raw_datum_size(PointerGetDatum(value)) - VARHDRSZ > DIMENSION_MAX_LENGTH)
			{
				dimensions->value[i] = OTHER;
				dimensions->length[i] = strlen(OTHER);
				continue;
			}
			value = pg_detoast_datum_packed(value);
		}

		if (value == NULL || VARSIZE_ANY_EXHDR(value) == 0)
		{
			dimensions->value[i] = UNKNOWN;
			dimensions->length[i] = strlen(UNKNOWN);
		}
		else if (VARSIZE_ANY_EXHDR(value) > DIMENSION_MAX_LENGTH)
		{
			dimensions->value[i] = OTHER;
			dimensions->length[i] = strlen(OTHER);
		}
		else
		{
			dimensions->value[i] = VARDATA_ANY(value);
			dimensions->length[i] = VARSIZE_ANY_EXHDR(value);
		}
	}
}

static void
cache_forget(void)
{
	cache = NULL;
	if (cache_context)
		MemoryContextReset(cache_context);
}

static void
forget_on_abort(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT)
		cache_forget();
}

static void
forget_on_subabort(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		cache_forget();
}

static void
cache_add(const Dimensions *dimensions, int32 filter_id)
{
	bool		found;
	FilterEntry *entry = filter_cache_insert(cache, *dimensions, &found);

	entry->filter_id = filter_id;
	if (found)
		return;
	for (int i = 0; i < DIMENSIONS; i++)
	{
		char	   *copy = MemoryContextAlloc(cache_context, dimensions->length[i]);

		memcpy(copy, dimensions->value[i], dimensions->length[i]);
		entry->dimensions.value[i] = copy;
	}
}

static void
cache_load(void)
{
	if (cache_context == NULL)
	{
		cache_context = AllocSetContextCreate(TopMemoryContext, "adclick filters",
											  ALLOCSET_DEFAULT_SIZES);
		RegisterXactCallback(forget_on_abort, NULL);
		RegisterSubXactCallback(forget_on_subabort, NULL);
	}
	cache_forget();
	cache = filter_cache_create(cache_context, 1024, NULL);
	cache_extension = get_extension_oid("adclick", false);

	SPI_connect();
	SPI_execute("SELECT filter_id, country, region, device FROM adclick.filters "
				"WHERE country IS NOT NULL AND region IS NOT NULL AND device IS NOT NULL",
				true, 0);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[row];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Dimensions	dimensions;
		int32		id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));

		for (int i = 0; i < DIMENSIONS; i++)
		{
			char	   *value = SPI_getvalue(tuple, desc, i + 2);

			dimensions.value[i] = value;
			dimensions.length[i] = strlen(value);
		}
		cache_add(&dimensions, id);
	}
	SPI_finish();
}

static int64
count_stored(void)
{
	int64		count;
	bool		isnull;

	SPI_connect();
	SPI_execute("SELECT count(*) FROM adclick.filters "
				"WHERE country IS NOT NULL AND region IS NOT NULL AND device IS NOT NULL",
				true, 0);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return count;
}

void
filters_refresh(void)
{
	if (cache == NULL || cache_extension != get_extension_oid("adclick", true) ||
		cache->members < count_stored())
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
	Oid			types[DIMENSIONS] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[DIMENSIONS];
	bool		isnull;
	int32		id;

	for (int i = 0; i < DIMENSIONS; i++)
		values[i] = PointerGetDatum(cstring_to_text_with_len(dimensions->value[i],
															 dimensions->length[i]));
	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO adclick.filters (country, region, device) "
							  "VALUES ($1, $2, $3) RETURNING filter_id",
							  DIMENSIONS, types, values, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not add a filter");
	id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	cache_add(dimensions, id);
	return id;
}

int32
filters_make(const Dimensions *dimensions)
{
	int32		id = filters_find(dimensions);

	if (id != 0)
		return id;
	if (!dictionary_is_full())
		return insert_filter(dimensions);

	if (!fold_reported)
		ereport(WARNING,
				(errmsg("clicks with new combinations of country, region and device are counted as \"other\""),
				 errdetail("There are %d combinations already.", (int) cache->members),
				 errhint("Raise adclick.max_filters, if they are not mistakes.")));
	fold_reported = true;
	id = filters_find(&all_other);
	return id != 0 ? id : insert_filter(&all_other);
}

int32
filters_foresee(const Dimensions *dimensions)
{
	int32		id = filters_find(dimensions);

	return id == 0 && dictionary_is_full() ? filters_find(&all_other) : id;
}

void
filters_each(filters_callback callback, void *arg)
{
	filter_cache_iterator iterator;
	FilterEntry *entry;

	filter_cache_start_iterate(cache, &iterator);
	while ((entry = filter_cache_iterate(cache, &iterator)) != NULL)
		callback(entry->filter_id, &entry->dimensions, arg);
}
