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

/* Follow transactions: called once, when the module is loaded. */
extern void restore_install(void);

/* A dump has made the extension, and its data comes next. */
extern void restore_begin(void);

#endif							/* ADCLICK_RESTORE_H */
