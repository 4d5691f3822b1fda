/*-------------------------------------------------------------------------
 *
 * uninstall.c
 *	  DROP EXTENSION deletes no click that was never counted.
 *
 * The inbox goes with the extension.  As with other things that something still
 * depends on, only CASCADE drops it while there are clicks no tick has taken.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/privileges.h"
#include "inbox/inbox.h"
#include "read/tail.h"
#include "store/store.h"
#include "uninstall.h"

static Oid
extension_owner(Oid extension)
{
	Relation	catalog = table_open(ExtensionRelationId, AccessShareLock);
	Oid			owner = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(catalog, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return owner;
}

/* Does the statement drop the extension, and not by CASCADE? */
static bool
drops_extension(Node *statement, Oid extension)
{
	ListCell   *cell;

	if (IsA(statement, DropStmt))
	{
		DropStmt   *drop = (DropStmt *) statement;

		if (drop->removeType == OBJECT_EXTENSION && drop->behavior == DROP_RESTRICT)
			foreach(cell, drop->objects)
				if (strcmp(strVal(lfirst(cell)), "adclick") == 0)
					return true;
	}
	else if (IsA(statement, DropOwnedStmt))
	{
		DropOwnedStmt *drop = (DropOwnedStmt *) statement;

		if (drop->behavior == DROP_RESTRICT)
			foreach(cell, drop->roles)
				if (get_rolespec_oid(lfirst(cell), true) == extension_owner(extension))
					return true;
	}
	return false;
}

void
uninstall_check(Node *statement)
{
	Oid			extension;
	Caller		caller;
	TimestampTz oldest;
	int64		rows;

	if (!IsA(statement, DropStmt) && !IsA(statement, DropOwnedStmt))
		return;
	extension = get_extension_oid("adclick", true);
	if (!OidIsValid(extension) || !drops_extension(statement, extension) ||
		!has_privs_of_role(GetUserId(), extension_owner(extension)))
		return;

	/*
	 * The locks of the statement itself, in its order: no tick and no writer
	 * comes between this and the drop.
	 */
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessExclusiveLock);
	AcceptInvalidationMessages();
	if (get_extension_oid("adclick", true) != extension)
		return;
	LockRelationOid(inbox_relid(), AccessExclusiveLock);

	PushActiveSnapshot(GetLatestSnapshot());
	privileges_become_owner(&caller);
	/* whatever there is of a state: a restore that failed is dropped, too */
	rows = tail_rows(0, INBOX_TO_CHECK, &oldest);
	privileges_become_caller(&caller);
	PopActiveSnapshot();
	if (rows > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop extension adclick because its inbox holds clicks that are not counted yet"),
				 errdetail_plural("%lld click would be deleted, the oldest received at %s.",
								  "%lld clicks would be deleted, the oldest received at %s.",
								  rows, (long long) rows, timestamptz_to_str(oldest)),
				 errhint("Wait until adclick.status.lag_rows is 0, or call adclick.tick(). "
						 "Use CASCADE to delete them and all others.")));
}
