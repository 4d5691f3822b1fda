/*-------------------------------------------------------------------------
 *
 * redirect.c
 *	  The SQL functions for who shows ads and redirects their clicks.
 *
 * adclick.click() is an INSERT by its caller (store_insert_click), and reads besides what the caller
 * need not have a right to read: where the ad leads to, and the secrets of impressions, of
 * which nothing is told but whether one of them signed the token.  adclick.click_id() tells that
 * to who inserts clicks himself, many at a time.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/adclick.h"
#include "base/definitions.h"
#include "base/privileges.h"
#include "inbox/click.h"
#include "inbox/impression.h"
#include "store/store.h"

PG_FUNCTION_INFO_V1(adclick_click);
PG_FUNCTION_INFO_V1(adclick_click_id);
PG_FUNCTION_INFO_V1(adclick_new_impression);

/* SQLSTATEs of our own: of a class that the standard leaves to implementations. */
#define ERRCODE_UNKNOWN_AD MAKE_SQLSTATE('U', 'A', '0', '0', '1')
#define ERRCODE_INACTIVE_AD MAKE_SQLSTATE('U', 'A', '0', '0', '2')
#define ERRCODE_AD_WITHOUT_URL MAKE_SQLSTATE('U', 'A', '0', '0', '3')

/* Arguments of adclick.click() and, the first two, of adclick.new_impression(). */
enum
{
	ARG_AD_ID,
	ARG_USER_ID,
	ARG_IP,
	ARG_COUNTRY,
	ARG_REGION,
	ARG_DEVICE,
	ARG_IMPRESSION
};

/* Arguments of adclick.click_id(). */
enum
{
	ID_ARG_CLICK_ID,
	ID_ARG_CLICKED_AT,
	ID_ARG_AD_ID,
	ID_ARG_USER_ID,
	ID_ARG_IMPRESSION
};

static text *
find_redirect_url(int64 ad_id)
{
	StoreAd		ad;

	if (!store_find_ad(ad_id, &ad))
		ereport(ERROR,
				(errcode(ERRCODE_UNKNOWN_AD),
				 errmsg("ad " INT64_FORMAT " is unknown", ad_id),
				 errhint("Clicks are redirected for ads in adclick.ads.")));
	if (!ad.is_active)
		ereport(ERROR,
				(errcode(ERRCODE_INACTIVE_AD),
				 errmsg("ad " INT64_FORMAT " is not active", ad_id)));
	if (ad.redirect_url == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_AD_WITHOUT_URL),
				 errmsg("ad " INT64_FORMAT " has no redirect_url", ad_id)));
	return ad.redirect_url;
}

/* The ad and user that were passed. */
static Impression
passed_impression(FunctionCallInfo fcinfo)
{
	Impression	impression = {.has_user = !PG_ARGISNULL(ARG_USER_ID)};

	if (PG_ARGISNULL(ARG_AD_ID))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("ad_id must not be null")));
	impression.ad_id = PG_GETARG_INT64(ARG_AD_ID);
	if (impression.has_user)
		impression.user_id = PG_GETARG_INT64(ARG_USER_ID);
	return impression;
}

static int64
expiry(void)
{
	return adclick_impression_expiry * USECS_PER_SEC;
}

/* Also if the impression was issued to nobody in particular. */
static bool
is_signed_by(const ImpressionSecret *secret, const Impression *impression, const ImpressionToken *token)
{
	Impression	of_anybody = *impression;

	of_anybody.has_user = false;
	return impression_is_signed(secret, &of_anybody, token) ||
		(impression->has_user && impression_is_signed(secret, impression, token));
}

/* By the secret in use, or one that was when an impression was issued that has not expired. */
static bool
is_signed(const Impression *impression, const ImpressionToken *token, TimestampTz at)
{
	int			n;
	StoreSecret *secrets = store_get_secrets(&n);

	for (int i = 0; i < n; i++)
		if ((secrets[i].retired_at == DT_NOEND || at <= secrets[i].retired_at + expiry()) &&
			is_signed_by(&secrets[i].secret, impression, token))
			return true;
	return false;
}

/* Standbys, which issue some, need not have the same time. */
static bool
is_expired(const DedupKey *id, TimestampTz at)
{
	TimestampTz issued;

	return !click_id_time(id, &issued) || issued < at - expiry() || issued > at + expiry();
}

/* The id of a click that has its own one: that of its impression, or one by which it will be set aside. */
static DedupKey
id_of_impression(const Impression *passed, const text *said, const DedupKey *own, TimestampTz at)
{
	ImpressionToken token;
	Impression	impression = *passed;

	if (!impression_read(VARDATA_ANY(said), (int) VARSIZE_ANY_EXHDR(said), &token))
		return click_refused_id(CLICK_FORGED, own);
	impression.id = token.id;
	if (!is_signed(&impression, &token, at))
		return click_refused_id(CLICK_FORGED, &token.id);
	if (is_expired(&token.id, at))
		return click_refused_id(CLICK_EXPIRED, &token.id);
	return token.id;
}

static void
insert_click(FunctionCallInfo fcinfo, const DedupKey *id, TimestampTz at)
{
	Datum		values[STORE_CLICK_VALUES];
	char		nulls[STORE_CLICK_VALUES + 1] = "        ";

	values[0] = key_to_uuid(id);
	values[1] = PG_GETARG_DATUM(ARG_AD_ID);
	values[2] = TimestampTzGetDatum(at);
	for (int i = ARG_USER_ID; i <= ARG_DEVICE; i++)
	{
		values[i + 2] = PG_GETARG_DATUM(i);
		nulls[i + 2] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	store_insert_click(values, nulls);
}

Datum
adclick_click(PG_FUNCTION_ARGS)
{
	TimestampTz at = GetCurrentStatementStartTimestamp();
	Impression	passed;
	DedupKey	id;
	text	   *url;

	prevent_read_only("adclick.click()");
	passed = passed_impression(fcinfo);
	url = find_redirect_url(passed.ad_id);
	id = click_new_id(at);
	if (!PG_ARGISNULL(ARG_IMPRESSION))
		id = id_of_impression(&passed, PG_GETARG_TEXT_PP(ARG_IMPRESSION), &id, at);
	insert_click(fcinfo, &id, at);
	PG_RETURN_TEXT_P(url);
}

/*
 * For who has redirected by himself, and inserts clicks later: the same for the same click, so
 * that one inserted twice counts once.
 */
Datum
adclick_click_id(PG_FUNCTION_ARGS)
{
	Impression	impression = {.has_user = !PG_ARGISNULL(ID_ARG_USER_ID)};
	DedupKey	id;

	if (PG_ARGISNULL(ID_ARG_CLICK_ID) || PG_ARGISNULL(ID_ARG_CLICKED_AT) || PG_ARGISNULL(ID_ARG_AD_ID))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("click_id, clicked_at and ad_id must not be null")));
	if (PG_ARGISNULL(ID_ARG_IMPRESSION))
		PG_RETURN_DATUM(PG_GETARG_DATUM(ID_ARG_CLICK_ID));
	impression.ad_id = PG_GETARG_INT64(ID_ARG_AD_ID);
	if (impression.has_user)
		impression.user_id = PG_GETARG_INT64(ID_ARG_USER_ID);
	id = key_of_uuid(PG_GETARG_DATUM(ID_ARG_CLICK_ID));
	id = id_of_impression(&impression, PG_GETARG_TEXT_PP(ID_ARG_IMPRESSION), &id, PG_GETARG_TIMESTAMPTZ(ID_ARG_CLICKED_AT));
	return key_to_uuid(&id);
}

static const ImpressionSecret *
secret_in_use(void)
{
	int			n;
	StoreSecret *secrets = store_get_secrets(&n);

	for (int i = 0; i < n; i++)
		if (secrets[i].retired_at == DT_NOEND)
			return &secrets[i].secret;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("there is no secret to sign impressions with"),
			 errhint("Call adclick.rotate_impression_secret().")));
	return NULL;
}

Datum
adclick_new_impression(PG_FUNCTION_ARGS)
{
	Impression	impression = passed_impression(fcinfo);
	char		token[IMPRESSION_TOKEN_LENGTH + 1];

	impression.id = click_new_id(GetCurrentTimestamp());
	impression_sign(secret_in_use(), &impression, token);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(token, IMPRESSION_TOKEN_LENGTH));
}

/* Revoked ones go, whenever they were retired; others when nothing signed with them can be valid. */
static Datum
rotate_impression_secret(FunctionCallInfo fcinfo, Oid asker)
{
	bool		revoke = PG_GETARG_BOOL(0);
	ImpressionSecret secret;
	int			level;

	prevent_read_only("adclick.rotate_impression_secret()");
	if (!pg_strong_random(secret.bytes, sizeof(secret.bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not make a secret to sign impressions with")));
	level = definitions_begin_writes();
	store_rotate_secret(&secret, revoke ? DT_NOEND : GetCurrentTimestamp() - expiry());
	definitions_end_writes(level);
	PG_RETURN_VOID();
}

SQL_FUNCTION_AS_OWNER(rotate_impression_secret);
