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
static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

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

static bool is_identity(const struct registry *r)
{
	return str_eq(r->user, OCI_IDENTITY);
}

/* NULL for an anonymous registry. */
static char *basic_auth(const struct registry *r)
{
	CLEANUP_FREE char *pair = NULL, *code = NULL;

	if (!r->user || is_identity(r))
		return NULL;
	pair = xasprintf("%s:%s", r->user, r->secret);
	code = base64(pair);
	explicit_bzero(pair, strlen(pair));
	return xasprintf("Basic %s", code);
}

/* A registry that repeats what it was sent does not get it into a log. */
static bool has_secret(const char *text, const char *secret)
{
	const char *at = secret ? strchr(secret, ' ') : NULL; /* behind "Bearer" or "Basic" */

	if (at)
		secret = at + 1;
	return secret && *secret && strstr(text, secret);
}

char *registry_said(struct registry *r, const struct http_result *res)
{
	CLEANUP_FREE char *auth = NULL, *basic = basic_auth(r);

	if (!res->message)
		return xstrdup("");
	pthread_mutex_lock(&r->lock);
	auth = r->auth ? xstrdup(r->auth) : NULL;
	pthread_mutex_unlock(&r->lock);
	if (has_secret(res->message, auth) || has_secret(res->message, basic) ||
	    (r->secret && *r->secret && strstr(res->message, r->secret)))
		return xstrdup("");
	return xasprintf(": %s", res->message);
}

int registry_denied(struct registry *r, const char *said, struct error **err)
{
	if (r->user)
		return error_set(err, ERR_INVALID_STATE,
				 "%s refuses these credentials, or they do not suffice%s",
				 r->ref.domain, said);
	return error_set(err, ERR_INVALID_STATE,
			 "access denied, or no such repository; `container registry login %s` "
			 "stores credentials%s",
			 r->ref.domain, said);
}

/* ---- Bearer ---- */
/* What a token is asked for where we name nothing ourselves: what the challenge says, else to pull. The caller owns it; NULL: nothing. */
static char *challenge_scope(const struct registry *r, const struct auth_challenge *ch)
{
	if (ch->scope)
		return xstrdup(ch->scope);
	return r->ref.repository ? xasprintf("repository:%s:pull", r->ref.repository) : NULL;
}

static char *token_url(const struct registry *r, const struct auth_challenge *ch,
		       struct error **err)
{
	CLEANUP_FREE char *scope = challenge_scope(r, ch);
	const char *query[16][2] = {{"service", ch->service}, {"scope", scope}};
	size_t i, n = 2;
	struct http_origin o;

	if (r->scopes.n)
		n = 1;
	for (i = 0; i < r->scopes.n && n < ARRAY_SIZE(query); i++, n++) {
		query[n][0] = "scope";
		query[n][1] = r->scopes.v[i];
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

/* What of a token service's failure may pass. */
static bool service_again(const struct http_result *res, int rc)
{
	return rc < 0 ? res->transient : res->status == 429 || res->status >= 500;
}

static int ask_service(struct registry_conn *c, struct http *service, struct http_request *q,
		       struct http_result *res, struct error **err)
{
	int attempt;

	for (attempt = 0;; attempt++) {
		struct error *why = NULL;
		int rc = http_do(service, q, res, &why);

		if (!service_again(res, rc) || attempt >= REGISTRY_RETRIES ||
		    res->retry_after > REGISTRY_PATIENCE_S) {
			if (rc < 0)
				error_move(err, why);
			return rc < 0 ? error_wrap(err, "token service") : 0;
		}
		error_free(why);
		if (registry_pause(c, attempt, res->retry_after, err) < 0)
			return -1;
	}
}

static int fetch_token(struct registry_conn *c, const struct http_request *what, char **token,
		       int64_t *life, struct error **err)
{
	CLEANUP_BUF struct buf body = {0};
	CLEANUP_FREE char *auth = basic_auth(c->r), *said = NULL;
	struct http *service = http_new(c->r->op, what->url);
	struct http_request q = *what;
	struct http_origin o, home;
	struct http_result res = {0};
	int rc;

	if (http_origin_of(q.url, &o, NULL) == 0 && http_origin_of(c->r->api, &home, NULL) == 0 &&
	    !strcmp(o.host, home.host))
		http_insecure(service, c->r->insecure);
	q.auth = auth;
	q.body = &body;
	q.max = TOKEN_BYTES;
	q.loopback = c->r->loopback;
	rc = ask_service(c, service, &q, &res, err);
	said = registry_said(c->r, &res);
	if (rc == 0 && (res.status == 401 || res.status == 403 || res.status == 400))
		rc = registry_denied(c->r, said, err);
	else if (rc == 0 && res.status != 200)
		rc = error_set(err, ERR_INTERNAL, "token service answered %ld%s", res.status, said);
	else if (rc == 0)
		rc = parse_token(&body, token, life, err);
	if (body.data)
		explicit_bzero(body.data, body.len);
	wipe(STEAL(auth));
	http_result_free(&res);
	http_free(service);
	return rc;
}

/* With an identity token the service is sent a form (the registry's "OAuth2 token" flow), else it is asked as it said. */
static int fetch_by_identity(struct registry_conn *c, const struct auth_challenge *ch, char **token,
			     int64_t *life, struct error **err)
{
	CLEANUP_BUF struct buf scopes = {0};
	CLEANUP_FREE char *as_url = NULL, *scope = challenge_scope(c->r, ch);
	const char *pairs[][2] = {
		{"grant_type", "refresh_token"}, {"client_id", "container"},
		{"service", ch->service},        {"scope", NULL},
		{"refresh_token", c->r->secret},
	};
	struct http_request q = {.url = ch->realm, .method = "POST"};
	size_t i;
	int rc;

	for (i = 0; i < c->r->scopes.n; i++)
		buf_printf(&scopes, "%s%s", i ? " " : "", c->r->scopes.v[i]);
	pairs[3][1] = scopes.len ? scopes.data : scope;
	as_url = http_url_query("http://form/", pairs, ARRAY_SIZE(pairs), err);
	if (!as_url)
		return -1;
	q.up_data = strchr(as_url, '?') + 1;
	q.up_size = strlen(q.up_data);
	rc = fetch_token(c, &q, token, life, err);
	explicit_bzero(as_url, strlen(as_url));
	return rc;
}

/* Whose token it is, and for what: a token is given only to who shows the same password. */
static char *cache_key(const struct registry *r, const char *url)
{
	char digest[OCI_DIGEST_LEN + 1] = "";

	if (r->user)
		digest_of(r->secret, strlen(r->secret), digest);
	return xasprintf("%s\n%s\n%s\n%s", r->api, url, r->user ? r->user : "", digest);
}

static int bearer_auth(struct registry_conn *c, const struct auth_challenge *ch, const char *used,
		       char **auth, struct error **err)
{
	const char *refused = used && str_prefix(used, "Bearer ") ? used + 7 : NULL;
	CLEANUP_FREE char *url = token_url(c->r, ch, err), *key = NULL, *token = NULL;
	struct http_request q = {.url = url};
	int64_t life = 0;

	if (!url)
		return -1;
	key = cache_key(c->r, url);
	/* With a password that is being tried out, a token from before proves nothing. */
	token = c->r->ref.repository ? cache_get(key, refused) : NULL;
	if (!token) {
		if (is_identity(c->r) ? fetch_by_identity(c, ch, &token, &life, err) < 0
				      : fetch_token(c, &q, &token, &life, err) < 0)
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
		return registry_denied(c->r, "", err);
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
