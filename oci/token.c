/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token.c - proving to a registry who asks: Basic, and Bearer tokens from the service it names.
 *
 * The name and password go to the registry itself when it wants Basic, and to the token service it names when it wants
 * Bearer; never over http when the registry speaks https, never to where either redirects to, never into a log or an
 * error. Tokens are kept by the service's URL, which holds the scope, and by user, until shortly before they expire;
 * one that was refused is dropped.
 */
#include <stdio.h>
#include <strings.h>

#include "oci/registry_int.h"

#define TOKEN_BYTES    (1u << 20)
#define TOKEN_MIN_LIFE 60 /* seconds, what a service that says nothing means */
#define TOKEN_MAX_LIFE 3600
#define TOKEN_MARGIN   10
#define CACHE_SLOTS    32

static struct cached {
	char *key, *token;
	uint64_t until_us;
} cache[CACHE_SLOTS]; /* under cache_lock */
static size_t cache_next;
static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- the cache ---- */
static void slot_clear(struct cached *s)
{
	free(s->key);
	free(s->token);
	*s = (struct cached){0};
}

/* A token that is still good and is not `refused`; the caller owns it. */
static char *cache_get(const char *key, const char *refused)
{
	char *token = NULL;
	size_t i;

	pthread_mutex_lock(&cache_lock);
	for (i = 0; i < CACHE_SLOTS; i++) {
		struct cached *s = &cache[i];

		if (!str_eq(s->key, key))
			continue;
		if (s->until_us <= time_mono_us() || str_eq(s->token, refused))
			slot_clear(s);
		else
			token = xstrdup(s->token);
		break;
	}
	pthread_mutex_unlock(&cache_lock);
	return token;
}

static void cache_put(const char *key, const char *token, int64_t life_s)
{
	struct cached *s = NULL;
	size_t i;

	pthread_mutex_lock(&cache_lock);
	for (i = 0; i < CACHE_SLOTS && !s; i++)
		if (str_eq(cache[i].key, key))
			s = &cache[i];
	if (!s)
		s = &cache[cache_next++ % CACHE_SLOTS];
	slot_clear(s);
	s->key = xstrdup(key);
	s->token = xstrdup(token);
	s->until_us = time_mono_us() + (uint64_t)(life_s - TOKEN_MARGIN) * 1000000;
	pthread_mutex_unlock(&cache_lock);
}

/* ---- what is sent ---- */
/* Goes into a header line: visible ASCII only. */
static bool token_ok(const char *s)
{
	size_t i;

	for (i = 0; s[i]; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return i > 0;
}

static char *base64(const char *s)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = strlen(s), i, o = 0;
	char *out = xmalloc((n + 2) / 3 * 4 + 1);

	for (i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)(unsigned char)s[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)(unsigned char)s[i + 1] << 8;
		if (i + 2 < n)
			v |= (unsigned char)s[i + 2];
		out[o++] = digits[v >> 18];
		out[o++] = digits[v >> 12 & 63];
		out[o++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
		out[o++] = i + 2 < n ? digits[v & 63] : '=';
	}
	out[o] = '\0';
	return out;
}

/* NULL for an anonymous registry. */
static char *basic_auth(const struct registry *r)
{
	CLEANUP_FREE char *pair = NULL, *code = NULL;

	if (!r->user)
		return NULL;
	pair = xasprintf("%s:%s", r->user, r->secret);
	code = base64(pair);
	explicit_bzero(pair, strlen(pair));
	return xasprintf("Basic %s", code);
}

int registry_denied(struct registry *r, struct error **err)
{
	if (r->user)
		return error_set(err, ERR_INVALID_STATE,
				 "%s refuses these credentials, or they do not suffice",
				 r->ref.domain);
	return error_set(err, ERR_INVALID_STATE,
			 "access denied, or no such repository; `container registry login %s` "
			 "stores credentials",
			 r->ref.domain);
}

/* ---- Bearer ---- */
static char *token_url(const struct registry *r, const struct auth_challenge *ch,
		       struct error **err)
{
	CLEANUP_FREE char *scope = NULL;
	const char *query[16][2] = {{"service", ch->service}, {"scope", ch->scope}};
	size_t i, n = 2;
	struct http_origin o;

	if (r->scopes.n) {
		for (n = 1, i = 0; i < r->scopes.n && n < ARRAY_SIZE(query); i++, n++) {
			query[n][0] = "scope";
			query[n][1] = r->scopes.v[i];
		}
	} else if (!ch->scope && r->ref.repository) {
		scope = xasprintf("repository:%s:pull", r->ref.repository);
		query[1][1] = scope;
	}
	if (http_origin_of(ch->realm, &o, err) < 0) {
		error_wrap(err, "token service");
		return NULL;
	}
	if (r->https && !o.https) {
		error_set(err, ERR_INVALID_ARGUMENT,
			  "token service: refused to go from https to http");
		return NULL;
	}
	return http_url_query(ch->realm, query, n, err);
}

static int parse_token(const struct buf *body, char **token, int64_t *life, struct error **err)
{
	CLEANUP_JSON struct json_object *o =
		json_parse(body->data ? body->data : "", body->len, err);
	const char *s;

	if (!o)
		return error_wrap(err, "token");
	s = json_str(o, "token", json_str(o, "access_token", NULL));
	if (!s || !token_ok(s))
		return error_set(err, ERR_INVALID_ARGUMENT, "token service gave no usable token");
	*token = xstrdup(s);
	*life = MAX(json_int(o, "expires_in", 0), (int64_t)TOKEN_MIN_LIFE);
	*life = MIN(*life, (int64_t)TOKEN_MAX_LIFE);
	return 0;
}

static int fetch_token(struct registry_conn *c, const char *url, char **token, int64_t *life,
		       struct error **err)
{
	CLEANUP_BUF struct buf body = {0};
	CLEANUP_FREE char *auth = basic_auth(c->r);
	struct http *service = http_new(c->r->op, url);
	struct http_request q = {.url = url,
				 .auth = auth,
				 .body = &body,
				 .max = TOKEN_BYTES,
				 .loopback = c->r->loopback};
	struct http_result res = {0};
	int attempt, rc;

	for (attempt = 0;; attempt++) {
		struct error *why = NULL;

		rc = http_do(service, &q, &res, &why);
		if (rc == 0 && (res.status == 429 || res.status >= 500))
			rc = error_set(&why, ERR_INTERNAL, "answered %ld", res.status);
		if (rc == 0)
			break;
		if (attempt >= REGISTRY_RETRIES || (!res.transient && !res.status) ||
		    registry_pause(c, attempt, res.retry_after, NULL) < 0) {
			error_move(err, why);
			error_wrap(err, "token service");
			break;
		}
		error_free(why);
	}
	if (rc == 0 && (res.status == 401 || res.status == 403 || res.status == 400))
		rc = registry_denied(c->r, err);
	else if (rc == 0 && res.status != 200)
		rc = error_set(err, ERR_INTERNAL, "token service answered %ld", res.status);
	else if (rc == 0)
		rc = parse_token(&body, token, life, err);
	http_result_free(&res);
	http_free(service);
	return rc;
}

static int bearer_auth(struct registry_conn *c, const struct auth_challenge *ch, const char *used,
		       char **auth, struct error **err)
{
	const char *refused = used && str_prefix(used, "Bearer ") ? used + 7 : NULL;
	CLEANUP_FREE char *url = token_url(c->r, ch, err), *key = NULL, *token = NULL;
	int64_t life = 0;

	if (!url)
		return -1;
	key = xasprintf("%s\n%s\n%s", c->r->api, url, c->r->user ? c->r->user : "");
	/* With a password that is being tried out, a token from before proves nothing. */
	token = c->r->ref.repository ? cache_get(key, refused) : NULL;
	if (!token) {
		if (fetch_token(c, url, &token, &life, err) < 0)
			return -1;
		cache_put(key, token, life);
	}
	*auth = xasprintf("Bearer %s", token);
	return 0;
}

static int new_auth(struct registry_conn *c, const char *used, const char *challenge, char **auth,
		    struct error **err)
{
	struct auth_challenge ch;

	if (challenge && auth_challenge_parse(challenge, &ch) == 0) {
		int rc = bearer_auth(c, &ch, used, auth, err);

		auth_challenge_free(&ch);
		return rc;
	}
	if (!challenge || strncasecmp(challenge, "Basic", 5))
		return error_set(err, ERR_UNSUPPORTED,
				 "%s wants a kind of authentication that is not supported",
				 c->r->ref.domain);
	*auth = basic_auth(c->r);
	if (!*auth || str_eq(*auth, used)) {
		free(STEAL(*auth));
		return registry_denied(c->r, err);
	}
	return 0;
}

int registry_renew_auth(struct registry_conn *c, const char *used, const char *challenge,
			struct error **err)
{
	struct registry *r = c->r;
	char *auth = NULL;
	int rc = 0;

	pthread_mutex_lock(&r->lock);
	if (str_eq(used, r->auth)) {
		rc = new_auth(c, used, challenge, &auth, err);
		if (rc == 0) {
			free(r->auth);
			r->auth = auth;
		}
	}
	pthread_mutex_unlock(&r->lock);
	return rc;
}
