/*-------------------------------------------------------------------------
 *
 * filters.c
 *	  The dictionary of dimension combinations.
 *
 * See filters.h.  Combinations are added by ticks, and by who brings clicks back
 * from files, and end when no click uses them.  An id never stands for another
 * combination; so the cache is right for a snapshot that sees the same ids, and
 * read anew for any other one, as it is after a rollback.  Combinations only the
 * tail has are kept beside them, under provisional ids, to the end of the transaction.
 *
 * What a row has besides is the last day of a click that came with it.  Cached
 * days are never later than stored ones, so of many clicks of a day the first one
 * has it written, and all others compare a number.
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
#include "utils/snapmgr.h"

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
	bool		is_later;		/* than its row says */
	int32		filter_id;
	int64		used_until;		/* the last minute of the last day of a click with it */
	uint64		foreseen_by;	/* if it is foreseen: the last tail that has it */
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
static uint64 tails = 0;		/* read so far, of each refresh one */
static int	nnew = 0;			/* that the last one has */

/*
 * An entry may be of a transaction, or part of one, that was rolled back.  Until
 * the next refresh the cache stays: an error caught by others, in the midst of a
 * tick, must not take it away.
 */
static bool cache_is_stale = false;

static Oid	cache_extension = InvalidOid;	/* whose filters these are */
static uint64 cached_ids = 0;	/* a hash of their ids, as the store has it */
static int	nlater = 0;			/* whose last day is to be written */
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

static int64
end_of_day(int64 minute)
{
	return day_of(minute) + MINS_PER_DAY - 1;
}

/* Enter a combination into the tables of them. */
static FilterEntry *
add_entry(filter_cache_hash *table, filter_ids_hash *ids, MemoryContext context,
		  const Dimensions *dimensions, int32 filter_id)
{
	bool		found;
	FilterEntry *entry = filter_cache_insert(table, *dimensions, &found);

	entry->filter_id = filter_id;
	entry->is_later = false;
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
cache_add(const Dimensions *dimensions, int32 filter_id, int64 used_until)
{
	if (filter_id < 1 || filter_is_provisional(filter_id))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("filter %d in adclick.filters is damaged", filter_id),
				 errdetail("Its filter_id must be from 1 to %d.", FIRST_PROVISIONAL_FILTER - 1)));
	add_entry(cache, by_id, cache_context, dimensions, filter_id)->used_until = used_until;
	cached_ids += store_id_hash(filter_id);
}

static void
cache_row(const StoreFilter *filter, int64 used_until)
{
	Dimensions	dimensions;

	for (int i = 0; i < DIMENSIONS; i++)
	{
		dimensions.value[i] = filter->values[i];
		dimensions.length[i] = strlen(filter->values[i]);
	}
	cache_add(&dimensions, filter->filter_id, used_until);
}

static bool
dictionary_is_full(void)
{
	return cache->members >= adclick_max_filters;
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
	cached_ids = 0;
	nlater = 0;

	store_each_combination(cache_row);
	fold_reported = fold_reported && dictionary_is_full();
}

/* Whether the snapshot sees what is cached, and nothing else. */
static bool
cache_is_right(void)
{
	StoreCombinations seen = store_combinations();

	return seen.n == cache->members && seen.ids == cached_ids;
}

void
filters_refresh(void)
{
	if (cache == NULL || cache_is_stale || cache_extension != get_extension_oid("adclick", true) ||
		!cache_is_right())
		cache_load();
	tails++;
	nnew = 0;
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

static int32
insert_filter(const Dimensions *dimensions, int64 minute)
{
	Datum		values[DIMENSIONS];
	int32		id;

	for (int i = 0; i < DIMENSIONS; i++)
		values[i] = PointerGetDatum(cstring_to_text_with_len(dimensions->value[i],
															 dimensions->length[i]));
	id = store_add_combination(values, day_of(minute));
	cache_add(dimensions, id, end_of_day(minute));
	return id;
}

/* The id of a combination, for a click of this minute; "entry" is what is cached, NULL: nothing. */
static int32
use_filter(FilterEntry *entry, const Dimensions *dimensions, int64 minute)
{
	if (entry == NULL)
		return insert_filter(dimensions, minute);
	if (minute > entry->used_until)
	{
		nlater += !entry->is_later;
		entry->is_later = true;
		entry->used_until = end_of_day(minute);
	}
	return entry->filter_id;
}

static void
report_fold(void)
{
	if (!fold_reported)
		ereport(WARNING,
				(errmsg("clicks with new combinations of country, region and device are counted as \"other\""),
				 errdetail("There are %d combinations already.", (int) cache->members),
				 errhint("Raise adclick.max_filters, if they are not mistakes.")));
	fold_reported = true;
}

void
filters_count(TupleTableSlot *slot, FactClick *click)
{
	Dimensions	dimensions;
	FilterEntry *entry;

	click->flags |= dimensions_read(slot, &dimensions);
	entry = filter_cache_lookup(cache, dimensions);
	if (entry == NULL && dictionary_is_full())
	{
		report_fold();
		click->flags |= LEDGER_UNPACKED;
		dimensions = all_other;
		entry = filter_cache_lookup(cache, dimensions);
	}
	click->filter_id = use_filter(entry, &dimensions, click->minute);
}

int32
filters_count_again(const Dimensions *dimensions, int64 minute)
{
	FilterEntry *entry = filter_cache_lookup(cache, *dimensions);

	if (entry == NULL && dictionary_is_full())
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("these clicks have combinations of country, region and device that have ended, and there is no room for them"),
				 errdetail("There are %d combinations already.", (int) cache->members),
				 errhint("Raise adclick.max_filters.")));
	return use_filter(entry, dimensions, minute);
}

/* The newest snapshot sees them all, also those that a tick has added beside who brings clicks back. */
void
filters_keep_days(void)
{
	filter_cache_iterator iterator;
	FilterEntry *entry;
	int64	   *ids;
	int64	   *days;
	int			n = 0;

	if (nlater == 0)
		return;
	ids = palloc(sizeof(int64) * nlater);
	days = palloc(sizeof(int64) * nlater);
	filter_cache_start_iterate(cache, &iterator);
	while ((entry = filter_cache_iterate(cache, &iterator)) != NULL)
	{
		if (!entry->is_later)
			continue;
		ids[n] = entry->filter_id;
		days[n++] = day_of(entry->used_until);
		entry->is_later = false;
	}
	nlater = 0;
	store_push_newest();
	store_put_last_days(ids, days, n);
	PopActiveSnapshot();
	pfree(ids);
	pfree(days);
}

static FilterEntry *
find_foreseen(const Dimensions *dimensions)
{
	FilterEntry *entry = foreseen ? filter_cache_lookup(foreseen, *dimensions) : NULL;

	return entry && entry->foreseen_by == tails ? entry : NULL;
}

/* It may be there of another tail of this transaction. */
static FilterEntry *
foresee_another(const Dimensions *dimensions)
{
	FilterEntry *entry;

	if (foreseen == NULL)
	{
		foreseen_by_id = filter_ids_create(foreseen_context, 16, NULL);
		foreseen = filter_cache_create(foreseen_context, 16, NULL);
	}
	entry = filter_cache_lookup(foreseen, *dimensions);
	if (entry == NULL)
		entry = add_entry(foreseen, foreseen_by_id, foreseen_context, dimensions,
						  FIRST_PROVISIONAL_FILTER + foreseen->members);
	entry->foreseen_by = tails;
	nnew++;
	return entry;
}

int32
filters_foresee(const Dimensions *dimensions)
{
	int32		id = filters_find(dimensions);
	FilterEntry *entry = id == 0 ? find_foreseen(dimensions) : NULL;

	if (id == 0 && entry == NULL && cache->members + nnew >= adclick_max_filters)
	{
		dimensions = &all_other;
		id = filters_find(dimensions);
		entry = id == 0 ? find_foreseen(dimensions) : NULL;
	}
	if (id != 0)
		return id;
	if (entry == NULL)
		entry = foresee_another(dimensions);
	return entry->filter_id;
}

void
filters_refuse_missing(uint64 filter_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("filter " UINT64_FORMAT " is missing", filter_id),
			 errdetail("Stored counts name it, but adclick.filters has no such row.")));
}

const Dimensions *
filters_dimensions(int32 filter_id)
{
	filter_ids_hash *ids = filter_is_provisional(filter_id) ? foreseen_by_id : by_id;
	IdEntry    *entry = ids ? filter_ids_lookup(ids, filter_id) : NULL;

	if (entry == NULL)
		filters_refuse_missing((uint32) filter_id);
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
