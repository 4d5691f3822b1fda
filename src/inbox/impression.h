/*-------------------------------------------------------------------------
 *
 * impression.h
 *	  The token of an impression: its id, and a signature of what it was issued for.
 *
 * 48 bytes in base64url, without padding: the id, a version 7 UUID which becomes that of
 * the click, and the HMAC-SHA256 of id, ad and user.  Ad and user are not in it: who
 * sends the click says them, and another one has another signature.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_IMPRESSION_H
#define ADCLICK_IMPRESSION_H

#include "postgres.h"

#include "common/sha2.h"

#include "core/dedup.h"

#define IMPRESSION_SECRET_BYTES 32
#define IMPRESSION_ID_BYTES 16
#define IMPRESSION_BYTES (IMPRESSION_ID_BYTES + PG_SHA256_DIGEST_LENGTH)
#define IMPRESSION_TOKEN_LENGTH (IMPRESSION_BYTES / 3 * 4)

typedef struct ImpressionSecret
{
	unsigned char bytes[IMPRESSION_SECRET_BYTES];
} ImpressionSecret;

/* What is signed. */
typedef struct Impression
{
	DedupKey	id;
	int64		ad_id;
	bool		has_user;
	int64		user_id;
} Impression;

/* Make the token, and a zero byte behind it. */
extern void impression_sign(const ImpressionSecret *secret, const Impression *impression,
							char token[IMPRESSION_TOKEN_LENGTH + 1]);

/* A token, read: what it says it is. */
typedef struct ImpressionToken
{
	DedupKey	id;
	unsigned char signature[PG_SHA256_DIGEST_LENGTH];
} ImpressionToken;

/* False if it is none. */
extern bool impression_read(const char *text, int length, ImpressionToken *token);

/* Whether its signature is that of the impression by this secret. */
extern bool impression_is_signed(const ImpressionSecret *secret, const Impression *impression,
								 const ImpressionToken *token);

#endif							/* ADCLICK_IMPRESSION_H */
