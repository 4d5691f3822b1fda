/*-------------------------------------------------------------------------
 *
 * impression.c
 *	  Signing impressions, and telling whether one was signed.
 *
 * See impression.h.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hmac.h"
#include "port/pg_bswap.h"

#include "impression.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static unsigned char *
put_word(unsigned char *to, uint64 word)
{
	word = pg_hton64(word);
	memcpy(to, &word, sizeof(word));
	return to + sizeof(word);
}

static uint64
get_word(const unsigned char *from)
{
	uint64		word;

	memcpy(&word, from, sizeof(word));
	return pg_ntoh64(word);
}

/* The bytes that are signed: always as many, each at its place. */
#define SIGNED_BYTES (IMPRESSION_ID_BYTES + 2 * sizeof(uint64) + 1)

static void
sign(const ImpressionSecret *secret, const Impression *impression, unsigned char *signature)
{
	unsigned char bytes[SIGNED_BYTES];
	unsigned char *at = bytes;
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);

	at = put_word(at, impression->id.hi);
	at = put_word(at, impression->id.lo);
	at = put_word(at, (uint64) impression->ad_id);
	at = put_word(at, impression->has_user ? (uint64) impression->user_id : 0);
	*at = impression->has_user;
	if (hmac == NULL || pg_hmac_init(hmac, secret->bytes, sizeof(secret->bytes)) < 0 ||
		pg_hmac_update(hmac, bytes, sizeof(bytes)) < 0 ||
		pg_hmac_final(hmac, signature, PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not sign an impression: %s", pg_hmac_error(hmac))));
	pg_hmac_free(hmac);
}

void
impression_sign(const ImpressionSecret *secret, const Impression *impression,
				char token[IMPRESSION_TOKEN_LENGTH + 1])
{
	unsigned char bytes[IMPRESSION_BYTES];

	(void) put_word(put_word(bytes, impression->id.hi), impression->id.lo);
	sign(secret, impression, bytes + IMPRESSION_ID_BYTES);
	for (int i = 0; i < IMPRESSION_BYTES; i += 3)
	{
		uint32		three = (uint32) bytes[i] << 16 | (uint32) bytes[i + 1] << 8 | bytes[i + 2];

		for (int shift = 18; shift >= 0; shift -= 6)
			*token++ = alphabet[three >> shift & 0x3F];
	}
	*token = '\0';
}

bool
impression_read(const char *text, int length, ImpressionToken *token)
{
	unsigned char bytes[IMPRESSION_BYTES];

	if (length != IMPRESSION_TOKEN_LENGTH)
		return false;
	for (int i = 0; i < IMPRESSION_BYTES; i += 3, text += 4)
	{
		uint32		three = 0;

		for (int c = 0; c < 4; c++)
		{
			const char *at = memchr(alphabet, text[c], sizeof(alphabet) - 1);

			if (at == NULL)
				return false;
			three = three << 6 | (uint32) (at - alphabet);
		}
		bytes[i] = three >> 16;
		bytes[i + 1] = three >> 8;
		bytes[i + 2] = three;
	}
	token->id = (DedupKey) {get_word(bytes), get_word(bytes + sizeof(uint64))};
	memcpy(token->signature, bytes + IMPRESSION_ID_BYTES, sizeof(token->signature));
	return true;
}

/* How long it takes tells nothing of where they differ. */
static bool
is_equal(const unsigned char *a, const unsigned char *b, int n)
{
	volatile unsigned char differences = 0;

	for (int i = 0; i < n; i++)
		differences |= a[i] ^ b[i];
	return differences == 0;
}

bool
impression_is_signed(const ImpressionSecret *secret, const Impression *impression, const ImpressionToken *token)
{
	unsigned char signature[PG_SHA256_DIGEST_LENGTH];

	sign(secret, impression, signature);
	return is_equal(signature, token->signature, sizeof(signature));
}
