/*-------------------------------------------------------------------------
 *
 * definitions.h
 *	  Whether the tables of the extension still are what its code takes them for.
 *
 * Who owns a table can change its columns, give it rules, constraints and
 * triggers, or put a view in its place.  The code reads values by their types, and
 * its statements would run what functions the definitions call; so it looks before
 * it uses them: once, and again whenever one of the tables has changed.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_DEFINITIONS_H
#define ADCLICK_DEFINITIONS_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/relcache.h"

/*
 * Raise an error that names the first difference, if there is one, in any table
 * that internal statements read or write.
 */
extern void definitions_check(void);

/*
 * What is dropped as it gets old lies on a shelf, in volumes that have SHELF_TABLES tables
 * in turn: the ledger in ledger_0 and so on, what is kept by user and address in people_0.
 * What is set aside while a volume of the ledger is written to goes with it, and lies in
 * discarded_0 and so on.  They are numbered through.  Open one, with the same check.
 */
typedef enum Shelf
{
	SHELF_LEDGER,
	SHELF_PEOPLE,
	SHELVES
} Shelf;

#define SHELF_TABLES 32
#define VOLUME_TABLES (SHELVES * SHELF_TABLES)
#define ALL_VOLUME_TABLES (VOLUME_TABLES + SHELF_TABLES)

extern const char *const definitions_shelves[SHELVES];
extern char *definitions_volume_table(int number);
extern Relation definitions_open_volume(int number, LOCKMODE mode);

/*
 * An error (72000) if the table, or an index of it, has been written anew since the snapshot
 * was taken on a standby; the snapshot is the active one.  VACUUM FULL, CLUSTER and REINDEX keep what the
 * primary's snapshots see; of a standby's they know nothing, and no conflict stops it, unlike VACUUM: rows that
 * were deleted since are gone, and newer ones look old.  To be called with the table locked.
 */
extern void definitions_check_rewrite(Relation relation);

/* The same for all tables that internal statements or the view of all clicks read, those that are not locked included. */
extern void definitions_check_rewrites(void);

/* Open the inbox, which is read and emptied without SQL, with the same check and a share lock. */
extern Relation definitions_open_inbox(void);

/* Whether this is the access method of the inbox. */
extern bool definitions_is_inbox_method(Oid method);

/* Whether there is no difference, in those and in the inbox. */
extern bool definitions_are_right(void);

/* The same for adclick.ads. */
extern void definitions_check_ads(Relation relation);

/*
 * The same for the foreign tables behind the views; no other can be read.  Returns whether it is the
 * one that has days whose minutes were dropped, too.
 */
extern bool definitions_check_facts(Relation relation);

/*
 * Between these, statements fire no triggers of users.  An error in between ends
 * it, too.
 */
extern int	definitions_begin_writes(void);
extern void definitions_end_writes(int level);

#endif							/* ADCLICK_DEFINITIONS_H */
