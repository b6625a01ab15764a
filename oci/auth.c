/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.c - what a registry asks for before it answers, and how it is spoken to.
 *
 * A WWW-Authenticate value is a list of challenges, each a scheme and parameters, both separated by
 * commas (RFC 9110 §11.6.1): a word followed by "=" is a parameter, any other starts a new challenge.
 */
#include <arpa/inet.h>
#include <strings.h>

#include "oci/registry.h"

#define PARAM_MAX 4096

static size_t token_len(const char *s)
{
	return strcspn(s, " \t,=\"");
}

/* A quoted-string or token at *s; advances it. NULL when it is not closed or too long. */
static char *take_value(const char **s)
{
	CLEANUP_BUF struct buf b = {0};
	const char *p = *s;
	size_t n;

	if (*p != '"') {
		n = strcspn(p, " \t,");
		*s = p + n;
		return n <= PARAM_MAX ? xstrndup(p, n) : NULL;
	}
	for (p++; *p && *p != '"'; p++) {
		if (*p == '\\' && p[1])
			p++;
		buf_append(&b, p, 1);
	}
	if (*p != '"' || b.len > PARAM_MAX)
		return NULL;
	*s = p + 1;
	return b.data ? STEAL(b.data) : xstrdup("");
}

static void keep(struct auth_challenge *c, const char *name, size_t n, char *value)
{
	char **slot = NULL;

	if (n == 5 && !strncasecmp(name, "realm", n))
		slot = &c->realm;
	else if (n == 7 && !strncasecmp(name, "service", n))
		slot = &c->service;
	else if (n == 5 && !strncasecmp(name, "scope", n))
		slot = &c->scope;
	if (slot && !*slot)
		*slot = value;
	else
		free(value);
}

int auth_challenge_parse(const char *s, struct auth_challenge *out)
{
	bool bearer = false;

	*out = (struct auth_challenge){0};
	for (;;) {
		const char *word;
		size_t n;
		char *value;

		s += strspn(s, " \t,");
		if (!*s)
			break;
		word = s;
		n = token_len(s);
		s += n;
		s += strspn(s, " \t");
		if (n == 0)
			break;
		if (*s != '=') { /* a new challenge; ours is complete if we had one */
			if (out->realm)
				break;
			bearer = n == 6 && !strncasecmp(word, "Bearer", n);
			continue;
		}
		s++;
		s += strspn(s, " \t");
		value = take_value(&s);
		if (!value)
			break;
		if (bearer)
			keep(out, word, n, value);
		else
			free(value);
	}
	if (out->realm && *out->realm)
		return 0;
	auth_challenge_free(out);
	return -1;
}

void auth_challenge_free(struct auth_challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	*c = (struct auth_challenge){0};
}

/* The host of domain without port and brackets. */
static void host_of(const char *domain, char out[256])
{
	const char *start = *domain == '[' ? domain + 1 : domain;
	size_t n = strcspn(start, *domain == '[' ? "]" : ":");

	n = MIN(n, (size_t)255);
	memcpy(out, start, n);
	out[n] = '\0';
}

bool registry_is_loopback(const char *domain)
{
	struct in6_addr v6;
	struct in_addr v4;
	char host[256];

	host_of(domain, host);
	if (!strcasecmp(host, "localhost") || str_suffix(host, ".localhost"))
		return true;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool is_private(const char *domain)
{
	struct in6_addr v6;
	struct in_addr v4;
	char host[256];
	uint32_t a;

	host_of(domain, host);
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LINKLOCAL(&v6) || (v6.s6_addr[0] & 0xfe) == 0xfc;
	if (inet_pton(AF_INET, host, &v4) != 1)
		return false;
	a = ntohl(v4.s_addr);
	return a >> 24 == 10 || a >> 16 == 0xc0a8 || a >> 20 == 0xac1 || a >> 16 == 0xa9fe;
}

const char *registry_scheme(const char *domain, const char *scheme)
{
	if (!strcmp(scheme, "http"))
		return "http";
	if (!strcmp(scheme, "https"))
		return "https";
	if (strcmp(scheme, "auto"))
		return NULL;
	return registry_is_loopback(domain) || is_private(domain) ? "http" : "https";
}
