/*-------------------------------------------------------------------------
 *
 * privileges.c
 *	  The role that does the work; who asks, and who may.
 *
 * Tables belong to a role that may do nothing else.  What runs SQL on them acts as
 * it, so that code someone may have hidden in them could do no more than that.
 *
 * Rights are given and taken by name: ALTER DEFAULT PRIVILEGES, of whoever makes
 * an object, must not decide who reads clicks.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "adclick.h"
#include "privileges.h"

#define OWNER_ROLE "adclick_owner"
#define READER_ROLE "adclick_reader"

PG_FUNCTION_INFO_V1(adclick_make_role);
PG_FUNCTION_INFO_V1(adclick_set_owner);
PG_FUNCTION_INFO_V1(adclick_reset_privileges);

/* A role that may do more than what it was granted is one that no work is done as. */
static void
refuse_powers(Form_pg_authid role)
{
	if (role->rolsuper || role->rolcreaterole || role->rolcreatedb || role->rolreplication || role->rolbypassrls)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" may do more than adclick needs", NameStr(role->rolname)),
				 errhint("ALTER ROLE %s NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS.",
						 quote_identifier(NameStr(role->rolname)))));
}

Oid
privileges_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(OWNER_ROLE));
	Form_pg_authid role;
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", OWNER_ROLE),
				 errdetail("It owns the tables of adclick, and the workers run as it."),
				 errhint("If it was renamed, give it its name again.")));
	role = (Form_pg_authid) GETSTRUCT(tuple);
	refuse_powers(role);
	owner = role->oid;
	ReleaseSysCache(tuple);
	return owner;
}

static void
switch_to_owner(Oid *user, int *security)
{
	GetUserIdAndSecContext(user, security);
	SetUserIdAndSecContext(privileges_owner(),
						   *security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

void
privileges_become_owner(Caller *caller)
{
	switch_to_owner(&caller->user, &caller->security);
	caller->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
privileges_become_caller(const Caller *caller)
{
	AtEOXact_GUC(false, caller->guc_level);
	SetUserIdAndSecContext(caller->user, caller->security);
}

Datum
privileges_as_owner(FunctionCallInfo fcinfo, AsOwner inside)
{
	Oid			asker;
	int			security;
	Datum		result;

	switch_to_owner(&asker, &security);
	result = inside(fcinfo, asker);
	SetUserIdAndSecContext(asker, security);
	return result;
}

void
privileges_require_reader(Oid asker)
{
	Oid			reader = get_role_oid(READER_ROLE, true);

	if (superuser_arg(asker) || (OidIsValid(reader) && has_privs_of_role(asker, reader)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to ask about users and addresses"),
			 errdetail("Filters on user_id and ip, and unique users, are for members of the role %s.", READER_ROLE),
			 errhint("GRANT %s TO %s.", READER_ROLE, quote_identifier(GetUserNameFromId(asker, false)))));
}

bool
privileges_see_all_ads(Oid role)
{
	Oid			reader = get_role_oid(READER_ROLE, true);

	return superuser_arg(role) || (OidIsValid(reader) && has_privs_of_role(role, reader)) ||
		has_privs_of_role(role, ROLE_PG_READ_ALL_DATA);
}

/* All that it is a member of, however, and of these those whose rights it has without SET ROLE. */
List *
privileges_roles_of(Oid role)
{
	List	   *roles = list_make1_oid(role);
	List	   *names = NIL;
	ListCell   *cell;

	foreach(cell, roles)
	{
		CatCList   *memberships = SearchSysCacheList1(AUTHMEMMEMROLE, ObjectIdGetDatum(lfirst_oid(cell)));

		for (int i = 0; i < memberships->n_members; i++)
			roles = list_append_unique_oid(roles, ((Form_pg_auth_members) GETSTRUCT(&memberships->members[i]->tuple))->roleid);
		ReleaseSysCacheList(memberships);
	}
	foreach(cell, roles)
	{
		char	   *name = GetUserNameFromId(lfirst_oid(cell), true);

		if (name && has_privs_of_role(role, lfirst_oid(cell)))
			names = lappend(names, name);
	}
	return names;
}

static bool
may_read(Oid asker, const char *name)
{
	Oid			view = get_relname_relid(name, get_namespace_oid(ADCLICK_SCHEMA, false));

	return OidIsValid(view) && pg_class_aclcheck(view, asker, ACL_SELECT) == ACLCHECK_OK;
}

void
privileges_require_click_log(Oid asker)
{
	if (!may_read(asker, "click_log"))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, "click_log");
}

void
privileges_require_discarded(Oid asker)
{
	if (!may_read(asker, "discarded_clicks") && !may_read(asker, "click_log"))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, "discarded_clicks");
}

void
privileges_require_files(Oid asker, Oid role)
{
	if (!has_privs_of_role(asker, role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to have the server use files of the archive"),
				 errhint("GRANT %s TO %s.", GetUserNameFromId(role, false), quote_identifier(GetUserNameFromId(asker, false)))));
}

/*
 * Statements that leave a table of ours ($1, or 0 for everything we have) to its
 * owner alone: they take the rights of all others, and give the owner all.
 */
static const char *const reset_statements =
	"WITH ours AS ("
	" SELECT oid FROM pg_namespace WHERE nspname IN ('" ADCLICK_SCHEMA "', '" ADCLICK_INTERNAL_SCHEMA "', '" ADCLICK_API_SCHEMA "')"
	"), objects AS ("
	" SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, oid::regclass::text AS name,"
	"  relowner AS owner, relacl AS acl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", relowner) AS builtin"
	" FROM pg_class WHERE relnamespace IN (TABLE ours) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND $1 IN (0, oid)"
	" UNION ALL"
	" SELECT 'ROUTINE', oid::regprocedure::text, proowner, proacl, acldefault('f', proowner)"
	" FROM pg_proc WHERE pronamespace IN (TABLE ours) AND $1 = 0"
	" UNION ALL"
	" SELECT 'TYPE', oid::regtype::text, typowner, typacl, acldefault('T', typowner)"
	" FROM pg_type t WHERE typnamespace IN (TABLE ours) AND $1 = 0"
	"  AND EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid AND relkind = 'c')"
	" UNION ALL"
	" SELECT 'SCHEMA', quote_ident(nspname), nspowner, nspacl, acldefault('n', nspowner)"
	" FROM pg_namespace WHERE oid IN (TABLE ours) AND $1 = 0"
	")"
	" SELECT DISTINCT format('REVOKE ALL ON %s %s FROM %s CASCADE', kind, name,"
	"  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)"
	" FROM objects CROSS JOIN aclexplode(coalesce(acl, builtin)) WHERE grantee <> owner"
	" UNION ALL"
	" SELECT format('GRANT ALL ON %s %s TO %I', kind, name, pg_get_userbyid(owner)) FROM objects";

/*
 * Statements that give tables, views and their types to their owner, but those that he
 * has: an update shall lock no table that clicks come to.  Sequences go with their
 * tables; functions and schemas stay with who made the extension.
 */
static const char *const owner_statements =
	"SELECT format('ALTER %s %s OWNER TO " OWNER_ROLE "',"
	"  CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, oid::regclass)"
	" FROM pg_class WHERE relnamespace IN"
	"  (SELECT oid FROM pg_namespace WHERE nspname IN ('" ADCLICK_SCHEMA "', '" ADCLICK_INTERNAL_SCHEMA "'))"
	" AND relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND relowner <> '" OWNER_ROLE "'::regrole";

/* Run the statements that a query makes, which may be about one table ($1). */
static void
run_statements(const char *query, Oid table)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(table)};
	SPITupleTable *rows;
	uint64		n;

	SPI_connect();
	if (SPI_execute_with_args(query, 1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read owners and privileges");
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 row = 0; row < n; row++)
	{
		char	   *statement = SPI_getvalue(rows->vals[row], rows->tupdesc, 1);

		if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not run \"%s\"", statement);
	}
	SPI_finish();
}

void
privileges_reset(Oid table)
{
	run_statements(reset_statements, table);
}

Datum
adclick_set_owner(PG_FUNCTION_ARGS)
{
	run_statements(owner_statements, InvalidOid);
	PG_RETURN_VOID();
}

Datum
adclick_reset_privileges(PG_FUNCTION_ARGS)
{
	privileges_reset(InvalidOid);
	PG_RETURN_VOID();
}

/*
 * What others have to do with a role ($1), in sentences.  The owner's tables are its
 * members', and its rights shall be those that we give it.  Members of the reader
 * are what it is for, also those of another database, and nothing runs as it: what else
 * it may read is up to those who grant it.
 */
static const char *const ties_query =
	"WITH given AS ("
	" SELECT oid, rolcanlogin, rolname = '" OWNER_ROLE "' AS is_owner FROM pg_roles WHERE rolname = $1"
	"), ties (nr, sentence) AS ("
	" SELECT 1, 'It may log in.' FROM given WHERE rolcanlogin"
	" UNION ALL"
	" SELECT 2, 'Its members are ' || string_agg(DISTINCT member::regrole::text, ', ') || '.'"
	" FROM pg_auth_members JOIN given g ON g.oid = roleid WHERE is_owner"
	" UNION ALL"
	" SELECT 3, 'It is a member of ' || string_agg(DISTINCT roleid::regrole::text, ', ') || '.'"
	" FROM pg_auth_members JOIN given g ON g.oid = member WHERE is_owner"
	" UNION ALL"
	" SELECT 4, 'It has settings: ' || string_agg(DISTINCT split_part(setting, '=', 1), ', ') || '.'"
	" FROM pg_db_role_setting JOIN given g ON g.oid = setrole, unnest(setconfig) setting WHERE is_owner"
	")"
	" SELECT string_agg(sentence, ' ' ORDER BY nr) FROM ties";

static void
refuse_ties(const char *name)
{
	Oid			types[1] = {NAMEOID};
	Datum		values[1] = {CStringGetDatum(name)};
	char	   *ties;

	SPI_connect();
	if (SPI_execute_with_args(ties_query, 1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read what role \"%s\" is for", name);
	ties = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (ties)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" exists and serves others than adclick", name),
				 errdetail_internal("%s", ties),
				 errhint("Take that from it by REVOKE and ALTER ROLE; or rename it, if no database has adclick.")));
	SPI_finish();
}

/* Someone may have made it before us, to own what we make. */
static void
refuse_unless_plain(const char *name)
{
	HeapTuple	tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(name));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for role %s", name);
	refuse_powers((Form_pg_authid) GETSTRUCT(tuple));
	ReleaseSysCache(tuple);
	refuse_ties(name);
}

/*
 * Roles belong to the whole server: another database may have made this one, or
 * be about to.
 */
Datum
adclick_make_role(PG_FUNCTION_ARGS)
{
	const char *name = NameStr(*PG_GETARG_NAME(0));
	Relation	roles = table_open(AuthIdRelationId, ShareRowExclusiveLock);

	if (OidIsValid(get_role_oid(name, true)))
		refuse_unless_plain(name);
	else
	{
		SPI_connect();
		if (SPI_execute(psprintf("CREATE ROLE %s NOLOGIN", quote_identifier(name)), false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not make role \"%s\"", name);
		SPI_finish();
	}
	table_close(roles, NoLock);
	PG_RETURN_VOID();
}
