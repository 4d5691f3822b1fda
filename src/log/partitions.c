/*-------------------------------------------------------------------------
 *
 * partitions.c
 *	  The hourly partitions of the click log.
 *
 * See partitions.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/compat.h"
#include "base/privileges.h"
#include "partitions.h"
#include "xact_index.h"

/* Hours with a partition made ahead of time, after the current one. */
#define HOURS_AHEAD 3

Oid
partitions_parent(void)
{
	return get_relname_relid("clicks", get_namespace_oid(ADCLICK_SCHEMA, false));
}

Partition *
partitions_after(TimestampTz open_from, int *count)
{
	Relation	parent = table_open(partitions_parent(), AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	Partition  *partitions = palloc(sizeof(Partition) * (desc->nparts + 1));
	int			n = 0;

	for (int i = 0; bounds && i < bounds->ndatums; i++)
	{
		int			index = bounds->indexes[i];	/* of the one that ends here */
		bool		finite = bounds->kind[i][0] == PARTITION_RANGE_DATUM_VALUE;
		TimestampTz upper = finite ? DatumGetTimestampTz(bounds->datums[i][0]) : END_TIMESTAMP - 1;

		if (index >= 0 && upper > open_from)
			partitions[n++] = (Partition) {desc->oids[index], upper};
	}
	if (bounds && partition_bound_has_default(bounds))
		partitions[n++] = (Partition) {desc->oids[bounds->default_index], DT_NOEND};
	table_close(parent, NoLock);
	*count = n;
	return partitions;
}

void
partitions_summarize(TimestampTz open_from)
{
	int			count;
	Partition  *partitions = partitions_after(open_from, &count);

	for (int i = 0; i < count; i++)
	{
		Relation	relation;

		/* Whoever has the lock comes first: VACUUM summarizes, too. */
		if (!ConditionalLockRelationOid(partitions[i].relid, ShareUpdateExclusiveLock))
			continue;
		relation = try_relation_open(partitions[i].relid, NoLock);
		if (relation != NULL)
		{
			xact_index_summarize(relation);
			relation_close(relation, NoLock);
		}
		UnlockRelationOid(partitions[i].relid, ShareUpdateExclusiveLock);
	}
	pfree(partitions);
}

/*
 * Attach with a lock no writer waits for; the default partition is locked, so
 * give up at once if someone uses it, and try again later.
 */
static bool
make_partition(TimestampTz from)
{
	char		name[NAMEDATALEN];
	pg_time_t	unix_time = timestamptz_to_time_t(from);
	struct pg_tm *tm = pg_gmtime(&unix_time);
	Oid			internal = get_namespace_oid(ADCLICK_INTERNAL_SCHEMA, false);
	char	   *statements;

	snprintf(name, sizeof(name), "clicks_%04d%02d%02d%02d",
			 tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday, tm->tm_hour);
	if (OidIsValid(get_relname_relid(name, internal)))
		return false;

	statements = psprintf("CREATE TABLE adclick_internal.%1$s "
						  "(LIKE adclick.clicks INCLUDING DEFAULTS INCLUDING GENERATED) "
						  "WITH (autovacuum_vacuum_insert_threshold = -1); "
						  "COMMENT ON TABLE adclick_internal.%1$s IS 'one hour of the click log'; "
						  "CREATE TRIGGER append_only BEFORE TRUNCATE ON adclick_internal.%1$s "
						  "FOR EACH STATEMENT EXECUTE FUNCTION adclick_internal.refuse_change(); "
						  "ALTER TABLE adclick_internal.%1$s ENABLE ALWAYS TRIGGER append_only; "
						  "ALTER TABLE adclick.clicks ATTACH PARTITION adclick_internal.%1$s "
						  "FOR VALUES FROM (pg_catalog.to_timestamp(%2$lld)) TO (pg_catalog.to_timestamp(%3$lld))",
						  name, (long long) unix_time, (long long) unix_time + SECS_PER_HOUR);
	SPI_connect();
	if (SPI_execute(statements, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not make partition \"%s\"", name);
	SPI_finish();
	CommandCounterIncrement();
	privileges_reset(get_relname_relid(name, internal));
	return true;
}

typedef struct Making
{
	TimestampTz from;			/* where the partition begins */
	int			made;
} Making;

static void
try_partition(void *arg)
{
	static const char *const settings[][2] = {
		{"lock_timeout", "100ms"},
		{"default_tablespace", ""}, /* one set for the database may be none of the owner's */
		{"client_min_messages", "warning"},
	};
	Making	   *making = arg;

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	making->made += make_partition(making->from);
}

int
partitions_make(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Making		making = {floor_div(now, USECS_PER_HOUR) * USECS_PER_HOUR, 0};

	for (int i = 0; i <= HOURS_AHEAD; i++, making.from += USECS_PER_HOUR)
	{
		int			level = NewGUCNestLevel();

		/* One that cannot be made now must not keep the others from it. */
		ErrorData  *error = attempt(try_partition, &making);

		/*
		 * Expected: someone reads the default partition (we try again), or it
		 * holds rows of that hour (it goes on to take them).
		 */
		if (error && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_CHECK_VIOLATION)
			ThrowErrorData(error);
		AtEOXact_GUC(true, level);
	}
	return making.made;
}
