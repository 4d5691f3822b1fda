/*-------------------------------------------------------------------------
 *
 * common.c
 *	  Small things that many files need.
 *
 * See adclick.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "funcapi.h"
#include "lib/qunique.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "adclick.h"

#define ST_SORT sort_values
#define ST_ELEMENT_TYPE int64
#define ST_COMPARE(a, b) ((*(a) > *(b)) - (*(a) < *(b)))
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

int
sort_unique_int64(int64 *values, int n)
{
	if (n < 2)
		return n;
	sort_values(values, n);
	return (int) qunique(values, n, sizeof(int64), compare_int64);
}

ErrorData *
attempt(void (*inside) (void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		inside(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

const uint64 *
process_seed(void)
{
	static uint64 seed[2];
	static bool made = false;

	if (!made && !pg_strong_random(seed, sizeof(seed)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random seed")));
	made = true;
	return seed;
}

char *
minute_text(int64 minute)
{
	return pstrdup(timestamptz_to_str(minute * USECS_PER_MINUTE));
}

int64
steady_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

bool
in_dump(void)
{
	return !check_function_bodies;
}

char *
shell_word(const char *path)
{
	StringInfoData word;

	initStringInfo(&word);
	appendStringInfoChar(&word, '\'');
	for (const char *c = path; *c; c++)
		if (*c == '\'')
			appendStringInfoString(&word, "'\\''");
		else
			appendStringInfoChar(&word, *c);
	appendStringInfoChar(&word, '\'');
	return word.data;
}

Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

void
prevent_read_only(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
}
