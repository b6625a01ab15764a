/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref.c - image references: [domain/]repository[:tag][@digest].
 *
 * The grammar is that of the distribution spec 1.1 (repository names, tags) with the docker convention
 * for the domain: the part before the first slash is one when it holds '.' or ':' or is "localhost".
 * A digest wins over a tag, which is then dropped: the pair would name two things.
 */
#include "oci/stream.h"

#define REF_MAX   384
#define NAME_MAX_ 255
#define TAG_MAX   128

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* Length of the separator at s: one of . _ __ or any run of '-'; 0 if there is none. */
static size_t separator(const char *s)
{
	size_t n = 0;

	if (*s == '.')
		return 1;
	if (*s == '_')
		return s[1] == '_' ? 2 : 1;
	while (s[n] == '-')
		n++;
	return n;
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)* */
static bool repository_ok(const char *s)
{
	if (!is_lower_alnum(*s))
		return false;
	while (*s) {
		size_t sep;

		while (is_lower_alnum(*s))
			s++;
		if (!*s)
			return true;
		sep = *s == '/' ? 1 : separator(s);
		if (sep == 0 || !is_lower_alnum(s[sep]))
			return false;
		s += sep;
	}
	return true;
}

/* [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127} */
static bool tag_ok(const char *s)
{
	size_t i;

	if (!is_alnum(*s) && *s != '_')
		return false;
	for (i = 0; s[i]; i++)
		if (!is_alnum(s[i]) && !strchr("._-", s[i]))
			return false;
	return i <= TAG_MAX;
}

static bool port_ok(const char *s)
{
	uint64_t port;

	return parse_u64(s, &port) == 0 && port > 0 && port <= 65535;
}

static bool ipv6_host_ok(const char *s)
{
	const char *end = strchr(s, ']');
	const char *p;

	if (!end || end == s + 1)
		return false;
	for (p = s + 1; p < end; p++)
		if (!strchr("0123456789abcdefABCDEF:.", *p))
			return false;
	return end[1] == '\0' || (end[1] == ':' && port_ok(end + 2));
}

/* Host name labels of letters, digits and inner hyphens, or a bracketed IPv6 address; then a port. */
static bool domain_ok(const char *s)
{
	if (*s == '[')
		return ipv6_host_ok(s);
	for (;;) {
		if (!is_alnum(*s))
			return false;
		while (is_alnum(*s) ||
		       (*s == '-' && s[strspn(s, "-")] && is_alnum(s[strspn(s, "-")])))
			s++;
		if (!*s)
			return true;
		if (*s == ':')
			return port_ok(s + 1);
		if (*s != '.')
			return false;
		s++;
	}
}

static bool looks_like_domain(const char *s)
{
	return strpbrk(s, ".:[") || !strcmp(s, "localhost");
}

static int bad(struct error **err, const char *s, const char *why)
{
	return error_set(err, ERR_INVALID_ARGUMENT, "invalid image reference \"%.80s\": %s", s,
			 why);
}

/* Cuts "@digest" and ":tag" off name, which keeps [domain/]repository. */
static int split_suffixes(char *name, const char *s, struct oci_ref *out, struct error **err)
{
	char *at = strchr(name, '@');
	char *colon, *slash;

	if (at) {
		*at = '\0';
		if (!oci_digest_check(at + 1))
			return bad(err, s,
				   "the digest must be sha256: and 64 lower-case hex digits");
		out->digest = xstrdup(at + 1);
	}
	colon = strrchr(name, ':');
	slash = strrchr(name, '/');
	if (colon && (!slash || colon > slash)) {
		*colon = '\0';
		if (!tag_ok(colon + 1))
			return bad(err, s, "the tag has characters that are not allowed");
		if (!out->digest)
			out->tag = xstrdup(colon + 1);
	}
	return 0;
}

static void set_names(char *name, const char *default_domain, struct oci_ref *out)
{
	char *slash = strchr(name, '/');
	const char *rest = name;

	if (slash) {
		*slash = '\0';
		if (looks_like_domain(name)) {
			out->domain = xstrdup(name);
			rest = slash + 1;
		} else {
			*slash = '/';
		}
	}
	if (!out->domain)
		out->domain = xstrdup(default_domain);
	if (!strcmp(out->domain, "index.docker.io") ||
	    !strcmp(out->domain, "registry-1.docker.io")) {
		free(out->domain);
		out->domain = xstrdup("docker.io");
	}
	if (!strcmp(out->domain, "docker.io") && !strchr(rest, '/'))
		out->repository = xasprintf("library/%s", rest);
	else
		out->repository = xstrdup(rest);
}

static int parse(const char *s, const char *default_domain, struct oci_ref *out, struct error **err)
{
	CLEANUP_FREE char *name = NULL;

	if (!*s)
		return error_set(err, ERR_INVALID_ARGUMENT, "image reference is empty");
	if (strlen(s) > REF_MAX)
		return bad(err, s, "longer than 384 characters");
	if (digest_hex_check(s))
		return bad(err, s, "a bare image id is not a name");
	name = xstrdup(s);
	if (split_suffixes(name, s, out, err) < 0)
		return -1;
	set_names(name, default_domain, out);
	if (!domain_ok(out->domain))
		return bad(err, s, "the registry's name is not a host name");
	if (!repository_ok(out->repository))
		return bad(err, s,
			   "repository names are lower-case letters, digits and single separators");
	if (strlen(out->domain) + 1 + strlen(out->repository) > NAME_MAX_)
		return bad(err, s, "the name is longer than 255 characters");
	if (!out->tag && !out->digest)
		out->tag = xstrdup("latest");
	return 0;
}

int oci_ref_parse(const char *s, const char *default_domain, struct oci_ref *out,
		  struct error **err)
{
	*out = (struct oci_ref){0};
	if (parse(s, default_domain && *default_domain ? default_domain : "docker.io", out, err) ==
	    0)
		return 0;
	oci_ref_free(out);
	return -1;
}

char *oci_ref_string(const struct oci_ref *r)
{
	return xasprintf("%s/%s%s%s", r->domain, r->repository, r->digest ? "@" : ":",
			 r->digest ? r->digest : r->tag);
}

void oci_ref_free(struct oci_ref *r)
{
	free(r->domain);
	free(r->repository);
	free(r->tag);
	free(r->digest);
	*r = (struct oci_ref){0};
}
