/*-------------------------------------------------------------------------
 *
 * sources.c
 *	  The SQL functions for log files: add, drop and read sources.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "source/sources.h"
#include "store/store.h"
#include "store/store_sources.h"

#define MAX_NAME 63
#define MAX_PATH 4096

/* Those that files can have: when a click arrived is for the inbox to say. */
static const char *const column_names[] = {
	"click_id", "ad_id", "clicked_at", "user_id", "ip", "country", "region", "device"
};

static void
check_name(const char *name)
{
	if (*name == '\0' || strlen(name) > MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a source must have 1 to %d bytes", MAX_NAME)));
}

static void
check_path(const char *path)
{
	if (!is_absolute_path(path) || strlen(path) > MAX_PATH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the path of a source must be absolute"),
				 errdetail("It is \"%s\".", path)));
}

static bool
is_json(const char *format)
{
	if (strcmp(format, "csv") != 0 && strcmp(format, "json") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the format of a source must be csv or json"),
				 errdetail("It is \"%s\".", format)));
	return strcmp(format, "json") == 0;
}

static void
check_column(const char *name, const JsonbValue *value)
{
	for (int i = 0; i < lengthof(column_names); i++)
	{
		if (strcmp(name, column_names[i]) != 0)
			continue;
		if (value->type != jbvString || value->val.string.len == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the name of column \"%s\" in the files must be a string", name),
					 errhint("For example {\"%s\": \"%s\"}.", name, name)));
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("adclick.clicks has no column \"%s\" that a file can have", name),
			 errhint("Columns are click_id, ad_id, clicked_at, user_id, ip, country, region and device.")));
}

/* Each key a column of ours, each value what it is called; without any, all have the same names. */
static void
check_columns(Jsonb *columns)
{
	JsonbIterator *iterator = JsonbIteratorInit(&columns->root);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	bool		has_ad = false;
	bool		has_any = false;

	if (!JB_ROOT_IS_OBJECT(columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns must be a JSON object"),
				 errhint("For example {\"ad_id\": \"ad\", \"clicked_at\": \"time\"}.")));
	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &value, true);
		name = pnstrdup(key.val.string.val, key.val.string.len);
		check_column(name, &value);
		has_any = true;
		has_ad |= strcmp(name, "ad_id") == 0;
	}
	if (has_any && !has_ad)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns must say what ad_id is called")));
}

static void
require_right(Oid asker)
{
	if (!has_privs_of_role(asker, ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to have the server read log files"),
				 errhint("GRANT pg_read_server_files TO %s.", quote_identifier(GetUserNameFromId(asker, false)))));
}

static Datum
add_source(FunctionCallInfo fcinfo, Oid asker)
{
	StoreSource source = {text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1))};
	Jsonb	   *columns = PG_GETARG_JSONB_P(3);
	int			level;

	prevent_read_only("adclick.add_source()");
	require_right(asker);
	check_name(source.name);
	check_path(source.path);
	source.is_json = is_json(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	check_columns(columns);
	source.added_by = GetUserNameFromId(asker, false);
	level = definitions_begin_writes();
	store_push_snapshot();
	store_add_source(&source, columns);
	PopActiveSnapshot();
	definitions_end_writes(level);
	PG_RETURN_VOID();
}

static Datum
drop_source(FunctionCallInfo fcinfo, Oid asker)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			level;
	bool		found;

	prevent_read_only("adclick.drop_source()");
	level = definitions_begin_writes();
	store_lock(STORE_LOCK_SOURCES);
	store_push_snapshot();
	found = store_drop_source(name);
	PopActiveSnapshot();
	definitions_end_writes(level);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" does not exist", name)));
	PG_RETURN_VOID();
}

static Datum
read_sources(FunctionCallInfo fcinfo, Oid asker)
{
	SourcesResult r;
	int			level;
	bool		nulls[3] = {false};
	Datum		values[3];

	prevent_read_only("adclick.read_sources()");
	(void) store_keep_extension();
	level = definitions_begin_writes();
	sources_read(&r);
	definitions_end_writes(level);
	values[0] = Int64GetDatum(r.lines);
	values[1] = Int64GetDatum(r.bad_lines);
	values[2] = BoolGetDatum(r.more);
	return make_row(fcinfo, values, nulls);
}

SQL_FUNCTION_AS_OWNER(add_source);
SQL_FUNCTION_AS_OWNER(drop_source);
SQL_FUNCTION_AS_OWNER(read_sources);
