/*-------------------------------------------------------------------------
 *
 * utility.h
 *	  Statements of others that concern the workers.
 *

 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_UTILITY_H
#define ADCLICK_UTILITY_H

extern void utility_install(void);

#endif							/* ADCLICK_UTILITY_H */
