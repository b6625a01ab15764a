// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_digest.c - digests. Hostile: strings that are nearly one (they become file names), and content that is hashed in
 * pieces of any size and must hash the same.
 */
#include "oci/stream.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char whole[OCI_DIGEST_LEN + 1], parts[OCI_DIGEST_LEN + 1];
	struct digest *d = digest_new();
	struct fz f = {data, size};
	char *s = fz_string(&f);
	size_t i;

	if (oci_digest_check(s)) {
		FUZZ_CHECK(strlen(s) == OCI_DIGEST_LEN && !strncmp(s, "sha256:", 7));
		for (i = 7; s[i]; i++)
			FUZZ_CHECK((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f'));
		FUZZ_CHECK(digest_hex_check(digest_hex(s)));
	}
	free(s);
	digest_of(data, size, whole);
	FUZZ_CHECK(oci_digest_check(whole));
	for (i = 0; i < size;) {
		size_t n = MIN((size_t)data[i] + 1, size - i);

		digest_update(d, data + i, n);
		i += n;
	}
	digest_final(d, parts);
	FUZZ_CHECK(!strcmp(whole, parts));
	digest_free(d);
	return 0;
}
