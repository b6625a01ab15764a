// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_auth.c - a registry's WWW-Authenticate value. Hostile: quotes, escapes, lists of challenges, endless words. */
#include "oci/registry.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	struct auth_challenge c;
	char *s = fz_string(&f);

	if (auth_challenge_parse(s, &c) == 0) {
		FUZZ_CHECK(c.realm && *c.realm && strlen(c.realm) <= strlen(s));
		FUZZ_CHECK(!c.service || strlen(c.service) <= strlen(s));
		FUZZ_CHECK(!c.scope || strlen(c.scope) <= strlen(s));
		auth_challenge_free(&c);
	} else {
		FUZZ_CHECK(!c.realm && !c.service && !c.scope);
	}
	(void)registry_is_loopback(s);
	(void)registry_scheme(s, "auto");
	free(s);
	return 0;
}
