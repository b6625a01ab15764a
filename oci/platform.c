/* SPDX-License-Identifier: Apache-2.0 */
/*
 * platform.c - os/architecture[/variant], and which of an index's manifests answers a request.
 *
 * Architectures go by their Go names; the aliases of uname(1) are folded. The base variant of an
 * architecture may be left out (OCI image index, "variant"): amd64 means v1, arm64 v8, arm v7.
 */
#include "oci/manifest.h"

static const struct {
	const char *alias, *arch, *variant;
} aliases[] = {
	{"x86_64", "amd64", ""}, {"x86-64", "amd64", ""}, {"aarch64", "arm64", ""},
	{"i386", "386", ""},     {"i686", "386", ""},     {"armhf", "arm", "v7"},
	{"armel", "arm", "v6"},
};

static const struct {
	const char *arch, *variant;
} base_variants[] = {{"amd64", "v1"}, {"arm64", "v8"}, {"arm", "v7"}};

void oci_platform_host(struct oci_platform *p)
{
	*p = (struct oci_platform){.os = "linux", .arch = "amd64"};
}

static bool word_ok(const char *s, size_t n)
{
	size_t i;

	if (n == 0 || n >= sizeof(((struct oci_platform *)0)->os))
		return false;
	for (i = 0; i < n; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-",
			    s[i]))
			return false;
	return true;
}

void platform_normalise(struct oci_platform *p)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(aliases); i++) {
		if (strcmp(p->arch, aliases[i].alias))
			continue;
		strcpy(p->arch, aliases[i].arch);
		if (!p->variant[0])
			strcpy(p->variant, aliases[i].variant);
	}
	for (i = 0; i < ARRAY_SIZE(base_variants); i++)
		if (!strcmp(p->arch, base_variants[i].arch) &&
		    !strcmp(p->variant, base_variants[i].variant))
			p->variant[0] = '\0';
}

int oci_platform_parse(const char *s, struct oci_platform *p, struct error **err)
{
	char *fields[] = {p->os, p->arch, p->variant};
	const char *at = s;
	size_t i;

	*p = (struct oci_platform){0};
	for (i = 0; i < 3; i++) {
		size_t n = strcspn(at, "/");

		if (!word_ok(at, n))
			break;
		memcpy(fields[i], at, n);
		at += n;
		if (!*at)
			break;
		at++;
	}
	if (*at || !p->os[0] || !p->arch[0])
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid platform \"%.80s\": expected os/arch[/variant]", s);
	platform_normalise(p);
	return 0;
}

static void field(struct json_object *o, const char *key, char out[32])
{
	const char *s = json_str(o, key, "");

	if (word_ok(s, strlen(s)))
		strcpy(out, s);
}

void platform_from_json(struct json_object *o, struct oci_platform *p)
{
	*p = (struct oci_platform){0};
	field(o, "os", p->os);
	field(o, "architecture", p->arch);
	field(o, "variant", p->variant);
	platform_normalise(p);
}

struct json_object *platform_to_json(const struct oci_platform *p)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "os", p->os);
	json_set_str(o, "architecture", p->arch);
	json_set_str(o, "variant", p->variant[0] ? p->variant : NULL);
	return o;
}

bool platform_eq(const struct oci_platform *a, const struct oci_platform *b)
{
	return !strcmp(a->os, b->os) && !strcmp(a->arch, b->arch) &&
	       !strcmp(a->variant, b->variant);
}

char *platform_string(const struct oci_platform *p)
{
	return xasprintf("%s/%s%s%s", p->os[0] ? p->os : "unknown",
			 p->arch[0] ? p->arch : "unknown", p->variant[0] ? "/" : "", p->variant);
}
