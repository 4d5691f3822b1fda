/*-------------------------------------------------------------------------
 *
 * scope.c
 *	  Whose clicks a role may know.
 *
 * See scope.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/privileges.h"
#include "scope.h"
#include "store/store.h"

bool
scope_is_limited(Oid role)
{
	return !privileges_see_all_ads(role);
}

void
scope_of(Oid role, IdList *advertisers)
{
	memset(advertisers, 0, sizeof(*advertisers));
	if (!scope_is_limited(role))
		return;
	advertisers->given = true;
	advertisers->ids = store_get_advertisers(privileges_roles_of(role), &advertisers->n);
	if (advertisers->n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to ask about clicks"),
				 errdetail("Role \"%s\" is neither a member of adclick_reader nor an advertiser in adclick.advertiser_roles.",
						   GetUserNameFromId(role, false)),
				 errhint("GRANT adclick_reader TO %s. Or, to let it know of one advertiser's ads alone, GRANT adclick_advertiser "
						 "and INSERT INTO adclick.advertiser_roles.",
						 quote_identifier(GetUserNameFromId(role, false)))));
}

bool
scope_has_ad(const IdList *scope, int64 ad_id)
{
	for (int i = 0; i < scope->n; i++)
		if (store_has_ad(scope->ids[i], ad_id))
			return true;
	return !scope->given;
}

void
scope_require_ad(const IdList *scope, int64 ad_id)
{
	if (scope_has_ad(scope, ad_id))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to ask about this ad"),
			 errdetail("Ad " INT64_FORMAT " is none of the advertiser's.", ad_id),
			 errhint("Those that are stand in adclick.own_ads.")));
}

void
scope_require_advertiser(const IdList *scope, int64 advertiser_id)
{
	if (conditions_match_id(scope, advertiser_id))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to ask about this advertiser"),
			 errdetail("Advertiser " INT64_FORMAT " is another one.", advertiser_id),
			 errhint("Ads that may be asked about stand in adclick.own_ads.")));
}
