/*-------------------------------------------------------------------------
 *
 * uninstall.h
 *	  DROP EXTENSION deletes no click that was never counted.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_UNINSTALL_H
#define ADCLICK_UNINSTALL_H

#include "postgres.h"

#include "nodes/nodes.h"

/* Refuse a statement that would drop the extension over unread clicks. */
extern void uninstall_check(Node *statement);

#endif							/* ADCLICK_UNINSTALL_H */
