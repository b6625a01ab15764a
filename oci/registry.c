/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.c - what a pull asks of a registry, over the HTTP of http.c: tokens, retries, and the two
 * kinds of request (distribution spec 1.1, "pull").
 *
 * A registry that answers 401 names a token service; the anonymous token it gives is kept for the pull and sent
 * to the registry's own origin only. Server errors, 429 and broken transfers are tried again, up to
 * three times, with a pause that doubles and is spread at random; a blob goes on where it broke off.
 */
#include <stdio.h>
#include <time.h>

#include "core/log.h"
#include "oci/http.h"

#define RETRIES      3
#define RETRY_MS     300
#define RETRY_MAX_MS 30000
#define TOKEN_BYTES  (1u << 20)
#define ACCEPT_MANIFEST                                                           \
	"Accept: " MEDIA_OCI_INDEX ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_LIST \
	", " MEDIA_DOCKER_MANIFEST

struct registry {
	struct oci_op *op;
	struct oci_ref ref;
	char *base; /* "https://registry-1.docker.io/v2/library/alpine" */
	bool https;
	bool loopback;
	pthread_mutex_t lock;
	char *token; /* under lock; NULL: none needed so far */
};

struct registry_conn {
	struct registry *r;
	struct http *http;
};

struct registry *registry_new(struct oci_op *op, const struct oci_ref *ref, const char *scheme,
			      struct error **err)
{
	const char *host = strcmp(ref->domain, "docker.io") ? ref->domain : "registry-1.docker.io";
	const char *proto = registry_scheme(ref->domain, scheme ? scheme : "auto");
	struct registry *r;

	if (!proto) {
		error_set(err, ERR_INVALID_ARGUMENT, "scheme \"%.20s\" is not auto, http or https",
			  scheme);
		return NULL;
	}
	r = xcalloc(1, sizeof(*r));
	r->op = op;
	r->ref.domain = xstrdup(ref->domain);
	r->ref.repository = xstrdup(ref->repository);
	r->base = xasprintf("%s://%s/v2/%s", proto, host, ref->repository);
	r->https = !strcmp(proto, "https");
	r->loopback = registry_is_loopback(ref->domain);
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

void registry_free(struct registry *r)
{
	if (!r)
		return;
	oci_ref_free(&r->ref);
	free(r->base);
	free(r->token);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

struct registry_conn *registry_conn_new(struct registry *r)
{
	struct registry_conn *c = xcalloc(1, sizeof(*c));

	c->r = r;
	c->http = http_new(r->op, r->base);
	return c;
}

void registry_conn_free(struct registry_conn *c)
{
	if (!c)
		return;
	http_free(c->http);
	free(c);
}

/* ---- tokens ---- */
/* Goes into a header line: visible ASCII only. */
static bool token_ok(const char *s)
{
	size_t i;

	for (i = 0; s[i]; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return i > 0;
}

static char *token_url(const struct registry *r, const struct auth_challenge *ch,
		       struct error **err)
{
	CLEANUP_FREE char *scope = NULL;
	const char *query[][2] = {{"service", ch->service}, {"scope", ch->scope}};
	struct http_origin o;

	if (!ch->scope) {
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
	return http_url_query(ch->realm, query, ARRAY_SIZE(query), err);
}

static int parse_token(const struct buf *body, char **token, struct error **err)
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
	return 0;
}

static int fetch_token(struct registry_conn *c, const char *challenge, char **token,
		       struct error **err)
{
	CLEANUP_BUF struct buf body = {0};
	CLEANUP_FREE char *url = NULL;
	struct http_request q = {.body = &body, .max = TOKEN_BYTES, .loopback = c->r->loopback};
	struct auth_challenge ch;
	struct http_result res = {0};
	int rc;

	if (!challenge || auth_challenge_parse(challenge, &ch) < 0)
		return error_set(err, ERR_UNSUPPORTED,
				 "the registry wants credentials; logging in is not supported yet");
	url = token_url(c->r, &ch, err);
	auth_challenge_free(&ch);
	if (!url)
		return -1;
	q.url = url;
	rc = http_get(c->http, &q, &res, err);
	if (rc < 0)
		error_wrap(err, "token service");
	else if (res.status == 401 || res.status == 403)
		rc = error_set(
			err, ERR_UNSUPPORTED,
			"access denied, or no such repository (logging in is not supported yet)");
	else if (res.status != 200)
		rc = error_set(err, ERR_INTERNAL, "token service answered %ld", res.status);
	else
		rc = parse_token(&body, token, err);
	http_result_free(&res);
	return rc;
}

/* After a 401: another thread may have got a token meanwhile; else get one. */
static int renew_token(struct registry_conn *c, const char *used, const char *challenge,
		       struct error **err)
{
	struct registry *r = c->r;
	char *token = NULL;
	int rc = 0;

	pthread_mutex_lock(&r->lock);
	if (str_eq(used, r->token)) {
		rc = fetch_token(c, challenge, &token, err);
		if (rc == 0) {
			free(r->token);
			r->token = token;
		}
	}
	pthread_mutex_unlock(&r->lock);
	return rc;
}

/* ---- requests ---- */
static int pause_before_retry(struct registry_conn *c, int attempt, int64_t retry_after_s,
			      struct error **err)
{
	struct timespec tick = {.tv_nsec = 50000000};
	int64_t ms = (int64_t)RETRY_MS << attempt;
	uint32_t noise;

	random_bytes(&noise, sizeof(noise));
	ms += noise % (uint32_t)ms;
	if (retry_after_s > 0)
		ms = MAX(ms, retry_after_s * 1000);
	for (ms = MIN(ms, RETRY_MAX_MS); ms > 0; ms -= 50) {
		if (op_check(c->r->op, err) < 0)
			return -1;
		nanosleep(&tick, NULL);
	}
	return 0;
}

static int status_error(struct registry_conn *c, long status, struct error **err)
{
	switch (status) {
	case 401:
	case 403:
		return error_set(
			err, ERR_UNSUPPORTED,
			"access denied, or no such repository (logging in is not supported yet)");
	case 404:
		return error_set(err, ERR_NOT_FOUND, "not found at %s", c->r->ref.domain);
	case 429:
		return error_set(err, ERR_INTERNAL, "%s refuses more requests for now (429)",
				 c->r->ref.domain);
	default:
		return error_set(err, ERR_INTERNAL, "%s answered %ld", c->r->ref.domain, status);
	}
}

static bool try_again(const struct http_result *res, int rc)
{
	if (rc < 0)
		return res->transient;
	return res->status == 429 || res->status == 416 ||
	       (res->status >= 500 && res->status != 501 && res->status != 505);
}

static void note_retry(const struct error *why)
{
	CLEANUP_FREE char *text = error_text(why);

	log_warn("trying again: %s", text);
}

/* One request until it is answered for good. On success res has status 200 or 206. */
static int fetch(struct registry_conn *c, struct http_request *q, struct http_result *res,
		 struct error **err)
{
	int attempt = 0, auths = 0;

	for (;;) {
		CLEANUP_FREE char *token = NULL;
		struct error *why = NULL;
		int rc;

		pthread_mutex_lock(&c->r->lock);
		token = c->r->token ? xstrdup(c->r->token) : NULL;
		pthread_mutex_unlock(&c->r->lock);
		q->token = token;
		http_result_free(res);
		if (op_check(c->r->op, err) < 0)
			return -1;
		rc = http_get(c->http, q, res, &why);
		q->token = NULL;
		if (rc == 0 && (res->status == 200 || res->status == 206))
			return 0;
		if (rc == 0 && res->status == 401 && auths++ < 2) {
			if (renew_token(c, token, res->challenge, err) < 0)
				return -1;
			continue;
		}
		if (rc == 0 && res->status == 416 && q->blob && q->blob->size &&
		    blob_writer_restart(q->blob, err) < 0)
			return -1;
		if (rc == 0)
			status_error(c, res->status, &why);
		if (!try_again(res, rc) || attempt >= RETRIES)
			return error_move(err, why);
		note_retry(why);
		error_free(why);
		if (pause_before_retry(c, attempt++, res->retry_after, err) < 0)
			return -1;
	}
}

int registry_manifest(struct registry_conn *c, const char *reference, struct buf *body, char **type,
		      struct error **err)
{
	CLEANUP_FREE char *url = xasprintf("%s/manifests/%s", c->r->base, reference);
	struct http_request q = {
		.url = url,
		.accept = ACCEPT_MANIFEST,
		.body = body,
		.max = OCI_MAX_MANIFEST,
		.loopback = c->r->loopback,
	};
	struct http_result res = {0};
	int rc = fetch(c, &q, &res, err);

	if (rc == 0)
		*type = STEAL(res.content_type);
	http_result_free(&res);
	return rc;
}

int registry_blob(struct registry_conn *c, const char *digest, struct blob_writer *w,
		  struct op_item *item, struct error **err)
{
	CLEANUP_FREE char *url = xasprintf("%s/blobs/%s", c->r->base, digest);
	struct http_request q = {.url = url, .blob = w, .item = item, .loopback = c->r->loopback};
	struct http_result res = {0};
	int rc = fetch(c, &q, &res, err);

	http_result_free(&res);
	return rc < 0 ? error_wrap(err, "blob %.19s", digest) : 0;
}
