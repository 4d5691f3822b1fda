/*-------------------------------------------------------------------------
 *
 * restore.h
 *	  The data of a dump.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_RESTORE_H
#define ADCLICK_RESTORE_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* Follow transactions: called once, when the module is loaded. */
extern void restore_install(void);

/* A dump has made the extension, and its data comes next. */
extern void restore_begin(void);

/* The same where the extension is already. */
extern void restore_begin_again(void);

/*
 * Statements that shall do nothing: what --disable-triggers does to the guards of our
 * tables; and the end of a dump in pg_upgrade, which puts files under tables: there REFRESH would
 * want a file of its own, and fail.
 */
extern bool restore_passes_over(Node *statement);

#endif							/* ADCLICK_RESTORE_H */
