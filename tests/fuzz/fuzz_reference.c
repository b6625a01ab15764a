// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_reference.c - image references. Hostile: what a user, a registry or an archive's annotation calls an image. A
 * reference that is taken must be safe in URLs and paths, and its canonical form must mean itself.
 */
#include "oci/registry.h"
#include "tests/fuzz/fuzz.h"

static void part_check(const char *s, const char *more)
{
	size_t i;

	FUZZ_CHECK(*s);
	for (i = 0; s[i]; i++)
		FUZZ_CHECK((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
			   (s[i] >= '0' && s[i] <= '9') || strchr(more, s[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	char *s = fz_string(&f), *dflt = fz_string(&f), *text, *again;
	struct oci_platform p;
	struct oci_ref r, q;

	(void)oci_platform_parse(s, &p, NULL);
	if (oci_ref_parse(s, f.n ? dflt : NULL, &r, NULL) == 0) {
		FUZZ_CHECK(r.domain && r.repository && !r.tag == !!r.digest);
		part_check(r.domain, ".-:[]");
		part_check(r.repository, "._-/");
		FUZZ_CHECK(!strstr(r.repository, "..") && !strstr(r.repository, "//") &&
			   r.repository[0] != '/');
		if (r.tag)
			part_check(r.tag, "._-");
		if (r.digest)
			FUZZ_CHECK(oci_digest_check(r.digest));
		FUZZ_CHECK(registry_scheme(r.domain, "auto"));
		text = oci_ref_string(&r);
		/* A default domain that is no domain to a reader of the short form comes back as a part of the name. */
		if (strpbrk(r.domain, ".:[") || !strcmp(r.domain, "localhost")) {
			FUZZ_CHECK(!oci_ref_parse(text, NULL, &q, NULL));
			again = oci_ref_string(&q);
			FUZZ_CHECK(!strcmp(text, again));
			free(again);
			oci_ref_free(&q);
		}
		free(text);
		oci_ref_free(&r);
	}
	free(s);
	free(dflt);
	return 0;
}
