/*-------------------------------------------------------------------------
 *
 * privileges.h
 *	  The role that does the work; who asks, and who may.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_PRIVILEGES_H
#define ADCLICK_PRIVILEGES_H

#include "fmgr.h"
#include "nodes/pg_list.h"

/*
 * The role that owns what the extension is made of, that its workers run as, and
 * that may do nothing else.  An error if it is missing.
 */
extern Oid	privileges_owner(void);

/* Who was at work before the owner. */
typedef struct Caller
{
	Oid			user;
	int			security;
	int			guc_level;
} Caller;

/*
 * Act as the owner, with a safe search_path and in a context that keeps from the
 * caller what code of others could leave behind; and as the caller again.  After an
 * error the end of the (sub)transaction does that.
 */
extern void privileges_become_owner(Caller *caller);
extern void privileges_become_caller(const Caller *caller);

/* The inside of an SQL function: "asker" is the role that called it. */
typedef Datum (*AsOwner) (FunctionCallInfo fcinfo, Oid asker);

/* The search_path is left to the function's own SET clause. */
extern Datum privileges_as_owner(FunctionCallInfo fcinfo, AsOwner inside);

/* The SQL function adclick_NAME runs NAME as the owner; SECURITY DEFINER would hide who asks. */
#define SQL_FUNCTION_AS_OWNER(name) \
	PG_FUNCTION_INFO_V1(adclick_##name); \
	Datum \
	adclick_##name(PG_FUNCTION_ARGS) \
	{ \
		return privileges_as_owner(fcinfo, name); \
	} \
	extern Datum adclick_##name(PG_FUNCTION_ARGS)

/* An error unless the role may ask about single users and addresses. */
extern void privileges_require_reader(Oid asker);

/* Whether the role may know the clicks of all ads: a reader, or who may read all tables. */
extern bool privileges_see_all_ads(Oid role);

/* The names of the roles whose rights a role has, its own included. */
extern List *privileges_roles_of(Oid role);

/* An error unless the role may read the view adclick.click_log; or for a part of it, adclick.discarded_clicks. */
extern void privileges_require_click_log(Oid asker);
extern void privileges_require_discarded(Oid asker);

/* An error unless the role may have the server write, or read, files: a member of the server's role for it. */
extern void privileges_require_files(Oid asker, Oid role);

/* All rights on a table of ours become its owner's alone, whatever the default privileges are. */
extern void privileges_reset(Oid table);

#endif							/* ADCLICK_PRIVILEGES_H */
