/*-------------------------------------------------------------------------
 *
 * store_edit.c
 *	  Taking facts out of a run where it stands.
 *
 * See store.h.  Segments that have such facts are written anew with what is left of
 * them, as many as there were: so their numbers stay, and no other segment has to be
 * touched.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/facts_alloc.h"
#include "store_segments.h"
#include "store_sql.h"

/* Segments that are written anew together: those of one first column, and their neighbours. */
#define MAX_GROUP 64

/* One of them. */
typedef struct Member
{
	Place		before;			/* as it stands */
	Place		place;			/* as it will */
	size_t		had;			/* facts it has ... */
	size_t		has;			/* ... and will have */
	bool		changes;		/* it is written anew */
	struct varlena *data;
} Member;

typedef struct SegmentGroup
{
	int			n;
	Member		members[MAX_GROUP];
	Facts		facts;			/* of all members */
	Facts		rest;			/* what is left of them */
	bool	   *gone;			/* of each of the facts */
} SegmentGroup;

typedef struct Edit
{
	MemoryContext context;		/* of a group: reset after each */
	StoreRun   *run;
	store_takes takes;
	store_taken taken;
	void	   *arg;
	SegmentGroup *group;

	/* of order ledger, whose directory says so: minutes and clicks of each fact that went */
	size_t		ngone;
	size_t		room;
	int64	   *minutes;
	int64	   *clicks;
	int64		facts_gone;
	int64		clicks_gone;
} Edit;

static void
init_facts(Facts *facts, FactOrder order, size_t capacity)
{
	facts_init(facts, order_columns[order], capacity,
			   MemoryContextAllocHuge(CurrentMemoryContext, facts_memory(order_columns[order], capacity)));
}

/* Read the segments that can have facts with this first column; false if they are too many. */
static bool
read_group(Edit *edit, uint64 first_column)
{
	SegmentGroup *group = edit->group;
	StoreScan  *scan = store_scan_begin(store_table(edit->run));
	Facts		segment;
	bool		fits = true;

	group->n = 0;
	init_facts(&group->facts, edit->run->order, 2 * SEGMENT_MAX_FACTS);
	init_facts(&segment, edit->run->order, SEGMENT_MAX_FACTS);
	store_scan_run(scan, edit->run, first_column, first_column);
	while (store_scan_next(scan, STORE_WHOLE_KEY, &segment))
	{
		if (group->n == MAX_GROUP)
		{
			fits = false;
			break;
		}
		if (group->facts.n + segment.n > group->facts.capacity)
			facts_enlarge(&group->facts, 2 * group->facts.capacity, CurrentMemoryContext);
		facts_append(&group->facts, &segment, 0, segment.n);
		group->members[group->n++] = (Member) {.before = *segment_place(scan), .had = segment.n};
	}
	store_scan_end(scan);
	return fits;
}

/* Part what goes from what is left; false if all is left. */
static bool
part_facts(Edit *edit)
{
	SegmentGroup *group = edit->group;
	size_t		i = 0;
	bool		any = false;

	init_facts(&group->rest, edit->run->order, group->facts.n);
	group->gone = palloc(sizeof(bool) * group->facts.n);
	for (int m = 0; m < group->n; m++)
	{
		Member	   *member = &group->members[m];

		for (size_t end = i + member->had; i < end; i++)
		{
			group->gone[i] = edit->takes(&group->facts, i, edit->arg);
			member->changes |= group->gone[i];
			member->has += !group->gone[i];
			if (!group->gone[i])
				facts_append(&group->rest, &group->facts, i, 1);
		}
		any |= member->changes;
	}
	return any;
}

/* Encode the next facts of the rest, no more than "n"; returns how many were. */
static size_t
encode(const SegmentGroup *group, Member *member, size_t start, size_t n)
{
	Facts		part = group->rest;
	size_t		size;
	size_t		taken;

	part.n = start + n;
	if (member->data == NULL)
		member->data = palloc(SEGMENT_DATUM_BYTES);
	size = segment_encode(&part, start, n, (uint8_t *) VARDATA(member->data), &taken);
	SET_VARSIZE(member->data, VARHDRSZ + size);
	return taken;
}

/* Each member keeps its own facts. */
static bool
encode_each(SegmentGroup *group)
{
	size_t		start = 0;

	for (int m = 0; m < group->n; m++)
	{
		Member	   *member = &group->members[m];

		if (member->has == 0 || (member->changes && encode(group, member, start, member->has) < member->has))
			return false;
		start += member->has;
	}
	return true;
}

/* Or the first ones get as many as fit, but one for each of the others. */
static bool
encode_together(SegmentGroup *group)
{
	size_t		start = 0;

	if (group->rest.n < group->n)
		return false;
	for (int m = 0; m < group->n; m++)
	{
		Member	   *member = &group->members[m];

		member->changes = true;
		member->has = encode(group, member, start, group->rest.n - start - (group->n - m - 1));
		start += member->has;
	}
	return start == group->rest.n;
}

/* Where the members stand then: number and run stay, and the next one of the last. */
static void
place_members(SegmentGroup *group)
{
	size_t		start = 0;

	for (int m = 0; m < group->n; m++)
	{
		Member	   *member = &group->members[m];

		member->place = member->before;
		member->place.first_key = group->rest.key[0][start];
		start += member->has;
		if (m + 1 < group->n)
			member->place.next_key = group->rest.key[0][start];
	}
}

/* What keeps its facts may have to say another next one. */
static bool
encode_neighbours(SegmentGroup *group)
{
	size_t		start = 0;

	for (int m = 0; m < group->n; m++)
	{
		Member	   *member = &group->members[m];

		if (!member->changes && member->place.next_key != member->before.next_key)
		{
			member->changes = true;
			if (encode(group, member, start, member->has) < member->has)
				return false;
		}
		start += member->has;
	}
	return true;
}

static void
replace(const Edit *edit, Member *member)
{
	const char *statement = "UPDATE adclick_internal.%s SET first_key = $4, data = $5"
		" WHERE run_id = $1 AND first_key = $2 AND number = $3";
	Oid			types[5] = {INT8OID, INT8OID, INT4OID, INT8OID, BYTEAOID};
	Datum		values[5] = {
		Int64GetDatum(member->before.run_id), Int64GetDatum(facts_to_int64(member->before.first_key)),
		Int32GetDatum((int32) member->before.number), Int64GetDatum(facts_to_int64(member->place.first_key)),
		PointerGetDatum(member->data)
	};

	CHECK_FOR_INTERRUPTS();
	segment_put_trailer(&member->place, member->data, VARSIZE(member->data) - VARHDRSZ);
	if (sql_write_segments(store_table(edit->run), statement, 5, types, values) != 1)
		elog(ERROR, "a segment to be replaced is gone");
}

/* What the directory must know of a fact that goes. */
static void
note(Edit *edit, const Facts *facts, size_t i)
{
	edit->facts_gone++;
	edit->clicks_gone += (int64) facts->count[i];
	if (edit->run->order != ORDER_LEDGER)
		return;
	if (edit->ngone == edit->room)
	{
		edit->room *= 2;
		edit->minutes = repalloc_huge(edit->minutes, sizeof(int64) * edit->room);
		edit->clicks = repalloc_huge(edit->clicks, sizeof(int64) * edit->room);
	}
	edit->minutes[edit->ngone] = store_minute(ORDER_LEDGER, facts->key[store_minute_column(ORDER_LEDGER)][i]) * USECS_PER_MINUTE;
	edit->clicks[edit->ngone++] = (int64) facts->count[i];
}

static void
write_group(Edit *edit)
{
	SegmentGroup *group = edit->group;

	for (size_t i = 0; i < group->facts.n; i++)
		if (group->gone[i])
		{
			note(edit, &group->facts, i);
			edit->taken(&group->facts, i, edit->arg);
		}
	for (int m = 0; m < group->n; m++)
		if (group->members[m].changes)
			replace(edit, &group->members[m]);
	/* the next group sees what this one has become */
	CommandCounterIncrement();
	UpdateActiveSnapshotCommandId();
}

/* Whether there is nothing, or the rest fits where all was. */
static bool
edit_group(Edit *edit, uint64 first_column)
{
	SegmentGroup *group = edit->group;

	if (!read_group(edit, first_column))
		return false;
	if (!part_facts(edit))
		return true;
	if (!encode_each(group) && !encode_together(group))
		return false;
	place_members(group);
	if (!encode_neighbours(group))
		return false;
	write_group(edit);
	return true;
}

/* Whether facts with this first column lie behind the group. */
static bool
lies_behind(const Edit *edit, uint64 first_column)
{
	const SegmentGroup *group = edit->group;
	const Place *last;

	if (group->n == 0)
		return true;
	last = &group->members[group->n - 1].before;
	return last->number + 1 < edit->run->segments && first_column >= last->next_key;
}

static bool
edit_groups(Edit *edit, const int64 *first_columns, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		uint64		first_column = facts_from_int64(first_columns[i]);
		MemoryContext outer;
		bool		fits;

		if (!lies_behind(edit, first_column))
			continue;
		outer = MemoryContextSwitchTo(edit->context);
		fits = edit_group(edit, first_column);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(edit->context);
		if (!fits)
			return false;
	}
	return true;
}

static void
put_run(Edit *edit)
{
	Datum		values[5] = {
		Int64GetDatum(edit->run->run_id), Int64GetDatum(edit->facts_gone), Int64GetDatum(edit->clicks_gone),
		sql_array(TIMESTAMPTZOID, edit->minutes, (int) edit->ngone), sql_array(INT8OID, edit->clicks, (int) edit->ngone)
	};

	if (sql_write(TAKE_FROM_RUN, values, NULL) != 1)
		elog(ERROR, "a run to be changed is gone");
}

bool
store_take_out(StoreRun *run, const int64 *first_columns, size_t n, store_takes takes, store_taken taken, void *arg)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "adclick edit", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Edit		edit = {
		.run = run, .takes = takes, .taken = taken, .arg = arg, .room = 1024,
		.context = AllocSetContextCreate(context, "adclick edit group", ALLOCSET_DEFAULT_SIZES)
	};
	bool		fits;

	edit.group = palloc0(sizeof(SegmentGroup));
	edit.minutes = palloc(sizeof(int64) * edit.room);
	edit.clicks = palloc(sizeof(int64) * edit.room);
	fits = edit_groups(&edit, first_columns, n);
	run->facts -= edit.facts_gone;
	run->clicks -= edit.clicks_gone;
	if (fits && edit.facts_gone > 0)
		put_run(&edit);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
	return fits;
}
