/*-------------------------------------------------------------------------
 *
 * forget.h
 *	  A user is forgotten: his clicks become clicks of nobody.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_FORGET_H
#define ADCLICK_FORGET_H

#include "postgres.h"

/*
 * Take a user and his addresses off all clicks that were committed before, in the
 * current transaction.  Returns how many there were: counted and discarded ones.
 */
extern int64 forget_user(int64 user_id);

#endif							/* ADCLICK_FORGET_H */
