/*-------------------------------------------------------------------------
 *
 * old_days.h
 *	  Dropping minutes, and days, of facts by ad that are older than they are kept.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_OLD_DAYS_H
#define ADCLICK_OLD_DAYS_H

#include "postgres.h"

#include "store/store.h"

/*
 * Of order ad, or day: the first minute of the first day that is kept by the settings, so that
 * all before are due; FIRST_MINUTE if none ever is.
 */
extern int64 old_days_kept_from(FactOrder order, TimestampTz now);

/* An error if the settings do not go together. */
extern void old_days_refuse(FactOrder order, const ClickRules *rules);

/*
 * Drop days that are due, no more than "limit"; returns how many.  "waits" is why no other one
 * was dropped, unless none is due.
 */
extern int	old_days_drop(FactOrder order, int limit, const char **waits);

/* Why a day is still there that should have been dropped a day ago; NULL: none is. */
extern const char *old_days_overdue(FactOrder order, const StoreState *state, TimestampTz now);

#endif							/* ADCLICK_OLD_DAYS_H */
