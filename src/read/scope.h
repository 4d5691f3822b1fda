/*-------------------------------------------------------------------------
 *
 * scope.h
 *	  Whose clicks a role may know.
 *
 * Readers know those of all ads.  An advertiser knows those of his own: which one a
 * role is, is said by the rows of adclick.advertiser_roles that name it, or a role whose
 * rights it has.  That is looked up whenever it matters, and nothing of it is kept.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_SCOPE_H
#define ADCLICK_SCOPE_H

#include "postgres.h"

#include "conditions.h"

/* Whether the role, if it may know anything, knows the clicks of some ads only. */
extern bool scope_is_limited(Oid role);

/*
 * The advertisers whose ads the role may know of, in the active snapshot; not "given": all
 * ads, also those of none.  An error if it is neither a reader nor an advertiser.
 */
extern void scope_of(Oid role, IdList *advertisers);

/* Whether an ad is in the scope, as the active snapshot sees it. */
extern bool scope_has_ad(const IdList *scope, int64 ad_id);

/* An error, the same whether there is such an ad or advertiser or not, unless it is in the scope. */
extern void scope_require_ad(const IdList *scope, int64 ad_id);
extern void scope_require_advertiser(const IdList *scope, int64 advertiser_id);

#endif							/* ADCLICK_SCOPE_H */
