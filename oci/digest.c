/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - SHA-256 content digests, the only algorithm the store speaks. */
#include <openssl/evp.h>

#include "oci/stream.h"

struct digest {
	EVP_MD_CTX *ctx;
};

/* Out of memory is the only way these can fail; that ends the process as xmalloc() does. */
static void must(int ok)
{
	if (ok != 1)
		abort();
}

struct digest *digest_new(void)
{
	struct digest *d = xcalloc(1, sizeof(*d));

	d->ctx = EVP_MD_CTX_new();
	must(d->ctx != NULL);
	digest_reset(d);
	return d;
}

void digest_reset(struct digest *d)
{
	must(EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL));
}

void digest_update(struct digest *d, const void *p, size_t n)
{
	must(EVP_DigestUpdate(d->ctx, p, n));
}

void digest_final(struct digest *d, char out[OCI_DIGEST_LEN + 1])
{
	unsigned char md[EVP_MAX_MD_SIZE];

	must(EVP_DigestFinal_ex(d->ctx, md, NULL));
	memcpy(out, "sha256:", 7);
	hex_encode(md, 32, out + 7);
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

void digest_of(const void *p, size_t n, char out[OCI_DIGEST_LEN + 1])
{
	CLEANUP_DIGEST struct digest *d = digest_new();

	digest_update(d, p, n);
	digest_final(d, out);
}

bool digest_hex_check(const char *hex)
{
	size_t i;

	for (i = 0; i < OCI_HEX_LEN; i++)
		if (!((hex[i] >= '0' && hex[i] <= '9') || (hex[i] >= 'a' && hex[i] <= 'f')))
			return false;
	return hex[OCI_HEX_LEN] == '\0';
}

bool oci_digest_check(const char *digest)
{
	return digest && str_prefix(digest, "sha256:") && digest_hex_check(digest_hex(digest));
}
