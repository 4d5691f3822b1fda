/*-------------------------------------------------------------------------
 *
 * privileges.h
 *	  Who asks, and who may.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_PRIVILEGES_H
#define ADCLICK_PRIVILEGES_H

#include "fmgr.h"

/* The inside of an SQL function: "asker" is the role that called it. */
typedef Datum (*AsOwner) (FunctionCallInfo fcinfo, Oid asker);

/*
 * Run the inside of an SQL function with the rights of the function's owner.
 * SECURITY DEFINER would hide who asks.
 */
extern Datum privileges_as_owner(FunctionCallInfo fcinfo, AsOwner inside);

/* An error unless the role may ask about single users and addresses. */
extern void privileges_require_reader(Oid asker);

/* All rights on a table of ours become its owner's alone, whatever the default privileges are. */
extern void privileges_reset(Oid table);

#endif							/* ADCLICK_PRIVILEGES_H */
