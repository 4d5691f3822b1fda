/*-------------------------------------------------------------------------
 *
 * fdw_part.c
 *	  What a scan of the foreign table asks of one part of the key.
 *
 * See fdw_part.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "fdw_part.h"

typedef struct PartExpr
{
	ExprState  *state;
	AttrNumber	column;			/* where it goes */
	Oid			collation;
	int16		length;
	bool		by_value;
	FmgrInfo   *hash;
	FmgrInfo   *equal;
} PartExpr;

typedef struct GroupValue
{
	Datum		value;
	bool		isnull;
} GroupValue;

struct Part
{
	TupleTableSlot *row;
	ExprContext *econtext;
	ExprState  *quals;
	int			nexprs;
	PartExpr   *exprs;
	MemoryContext context;		/* of the groups */
	struct group_table_hash *table;
	int32		ngroups;
	int32		room;
	GroupValue **groups;		/* by number; room for one more than there are */
};

typedef struct GroupEntry
{
	int32		group;
	uint32		hash;
	char		status;
} GroupEntry;

static uint32
group_hash(const Part *part, int32 group)
{
	const GroupValue *values = part->groups[group];
	uint32		hash = 0;

	for (int i = 0; i < part->nexprs; i++)
		hash = hash_combine(hash, values[i].isnull ? 0 :
							DatumGetUInt32(FunctionCall1Coll(part->exprs[i].hash, part->exprs[i].collation,
															 values[i].value)));
	return murmurhash32(hash);
}

static bool
group_equal(const Part *part, int32 a, int32 b)
{
	for (int i = 0; i < part->nexprs; i++)
	{
		const GroupValue *x = &part->groups[a][i];
		const GroupValue *y = &part->groups[b][i];

		if (x->isnull != y->isnull ||
			(!x->isnull && !DatumGetBool(FunctionCall2Coll(part->exprs[i].equal, part->exprs[i].collation,
														   x->value, y->value))))
			return false;
	}
	return true;
}

#define SH_PREFIX group_table
#define SH_ELEMENT_TYPE GroupEntry
#define SH_KEY_TYPE int32
#define SH_KEY group
#define SH_HASH_KEY(tb, key) group_hash((tb)->private_data, key)
#define SH_EQUAL(tb, a, b) group_equal((tb)->private_data, a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

Part *
part_begin(PlanState *parent, TupleTableSlot *row, List *quals, List *entries)
{
	Part	   *part = palloc0(sizeof(Part));
	ListCell   *cell;

	part->row = row;
	part->econtext = CreateExprContext(parent->state);
	part->econtext->ecxt_scantuple = row;
	part->quals = ExecInitQual(quals, parent);
	part->exprs = palloc0(sizeof(PartExpr) * (list_length(entries) + 1));
	foreach(cell, entries)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Oid			type = exprType((Node *) entry->expr);
		TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_HASH_PROC_FINFO |
												  TYPECACHE_EQ_OPR_FINFO);
		PartExpr   *expr = &part->exprs[part->nexprs++];

		expr->state = ExecInitExpr(entry->expr, parent);
		expr->column = entry->resno;
		expr->collation = exprCollation((Node *) entry->expr);
		expr->hash = &cache->hash_proc_finfo;
		expr->equal = &cache->eq_opr_finfo;
		get_typlenbyval(type, &expr->length, &expr->by_value);
	}
	part->context = AllocSetContextCreate(CurrentMemoryContext, "adclick groups",
										  ALLOCSET_DEFAULT_SIZES);
	part_again(part);
	return part;
}

void
part_again(Part *part)
{
	MemoryContextReset(part->context);
	part->table = group_table_create(part->context, 64, part);
	part->ngroups = 0;
	part->room = 64;
	part->groups = MemoryContextAlloc(part->context, sizeof(GroupValue *) * part->room);
}

/* Keep the values of a new group, which are in short-lived memory. */
static void
keep_group(Part *part)
{
	MemoryContext outer = MemoryContextSwitchTo(part->context);
	GroupValue *values = palloc(sizeof(GroupValue) * (part->nexprs + 1));

	for (int i = 0; i < part->nexprs; i++)
	{
		values[i] = part->groups[part->ngroups][i];
		if (!values[i].isnull)
			values[i].value = datumCopy(values[i].value, part->exprs[i].by_value, part->exprs[i].length);
	}
	part->groups[part->ngroups++] = values;
	if (part->ngroups == part->room)
	{
		part->room *= 2;
		part->groups = repalloc_huge(part->groups, sizeof(GroupValue *) * part->room);
	}
	MemoryContextSwitchTo(outer);
}

int32
part_judge(Part *part)
{
	MemoryContext outer;
	GroupEntry *entry;
	bool		found;

	ResetExprContext(part->econtext);
	if (!ExecQual(part->quals, part->econtext))
		return PART_REJECTED;

	outer = MemoryContextSwitchTo(part->econtext->ecxt_per_tuple_memory);
	part->groups[part->ngroups] = palloc(sizeof(GroupValue) * (part->nexprs + 1));
	for (int i = 0; i < part->nexprs; i++)
	{
		GroupValue *value = &part->groups[part->ngroups][i];

		value->value = ExecEvalExpr(part->exprs[i].state, part->econtext, &value->isnull);
	}
	entry = group_table_insert(part->table, part->ngroups, &found);
	if (!found)
		keep_group(part);
	MemoryContextSwitchTo(outer);
	return entry->group;
}

void
part_put(const Part *part, int32 group, TupleTableSlot *slot)
{
	for (int i = 0; i < part->nexprs; i++)
	{
		int			at = part->exprs[i].column - 1;

		slot->tts_values[at] = part->groups[group][i].value;
		slot->tts_isnull[at] = part->groups[group][i].isnull;
	}
}
