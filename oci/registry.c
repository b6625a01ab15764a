/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.c - a repository at a registry: requests until they are answered for good, and those of a pull
 * (distribution spec 1.1).
 *
 * Server errors, 429 and broken transfers are tried again, up to three times, with a pause that doubles and is
 * spread at random; a blob goes on where it broke off. A 401 is answered by token.c.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#include "core/log.h"
#include "core/path.h"
#include "oci/registry_int.h"

#define MAX_CA         (8u << 20)
#define RETRY_MS       300
#define PROGRESS_BYTES (1u << 20)
#define ACCEPT_MANIFEST                                                           \
	"Accept: " MEDIA_OCI_INDEX ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_LIST \
	", " MEDIA_DOCKER_MANIFEST

/* ---- what the configuration says ---- */
int oci_store_registries(struct oci_store *s, const struct oci_registries *o, struct error **err)
{
	const char *ca = o->ca;
	const char *host = http_ca_file();

	if (ca) {
		if (path_read_all(AT_FDCWD, ca, MAX_CA, &s->ca_bundle, err) < 0)
			return error_wrap(err, "registry.ca");
		buf_append(&s->ca_bundle, "\n", 1);
	}
	if (ca && host) {
		CLEANUP_BUF struct buf all = {0};

		if (path_read_all(AT_FDCWD, host, MAX_CA, &all, err) < 0)
			return -1;
		buf_append(&s->ca_bundle, all.data ? all.data : "", all.len);
	}
	s->insecure = o->insecure ? xstrdup(o->insecure) : NULL;
	s->mirrors = o->mirrors ? xstrdup(o->mirrors) : NULL;
	s->internal = o->internal ? xstrdup(o->internal) : NULL;
	s->stall_s = o->stall_s;
	return 0;
}

static bool is_insecure(const struct oci_store *s, const char *domain)
{
	CLEANUP_FREE char *list = xstrdup(s->insecure ? s->insecure : "");
	char *save = NULL, *item;

	for (item = strtok_r(list, ", ", &save); item; item = strtok_r(NULL, ", ", &save))
		if (!strcmp(item, domain))
			return true;
	return false;
}

/* A host of the domain that is served here. */
static bool is_internal(const struct oci_store *s, const char *domain)
{
	size_t n = strcspn(domain, ":"), k = s->internal ? strlen(s->internal) : 0;

	return k && n > k && domain[n - k - 1] == '.' && !strncmp(domain + n - k, s->internal, k);
}

void registry_mirrors(const struct oci_store *s, const char *domain, struct strv *out)
{
	CLEANUP_FREE char *list = xstrdup(s->mirrors ? s->mirrors : "");
	char *save = NULL, *item;
	size_t n = strlen(domain);

	for (item = strtok_r(list, ", ", &save); item; item = strtok_r(NULL, ", ", &save))
		if (!strncmp(item, domain, n) && item[n] == '=')
			strv_add(out, item + n + 1);
}

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
	r->insecure = is_insecure(op->s, ref->domain);
	if ((r->insecure || is_internal(op->s, ref->domain)) &&
	    (!scheme || !strcmp(scheme, "auto")))
		proto = "http";
	r->op = op;
	r->ref.domain = xstrdup(ref->domain);
	r->ref.repository = ref->repository ? xstrdup(ref->repository) : NULL;
	r->api = xasprintf("%s://%s/v2/", proto, host);
	r->base = xasprintf("%s%s", r->api, ref->repository ? ref->repository : "");
	r->https = !strcmp(proto, "https");
	r->loopback = registry_is_loopback(ref->domain);
	pthread_mutex_init(&r->lock, NULL);
	return r;
}

int registry_mirror(struct registry *r, const char *url, struct error **err)
{
	CLEANUP_FREE char *host = NULL;
	size_t n = strlen(url);
	struct http_origin o;

	if (http_origin_of(url, &o, err) < 0)
		return error_wrap(err, "mirror");
	host = xstrdup(strstr(url, "://") + 3);
	host[strcspn(host, "/")] = '\0';
	r->insecure = is_insecure(r->op->s, host);
	while (n && url[n - 1] == '/')
		n--;
	free(r->api);
	free(r->base);
	r->api = xasprintf("%.*s/v2/", (int)n, url);
	r->base = xasprintf("%s%s", r->api, r->ref.repository);
	r->https = o.https;
	r->loopback = registry_is_loopback(o.host);
	return 0;
}

void registry_login(struct registry *r, const char *user, const char *secret)
{
	r->user = user ? xstrdup(user) : NULL;
	r->secret = user ? xstrdup(secret ? secret : "") : NULL;
}

void registry_login_as(struct registry *r, const char *user, const char *secret)
{
	if (user)
		registry_login(r, user, secret);
	else
		credentials_get(r->op->s, r->ref.domain, &r->user, &r->secret);
}

void registry_scope(struct registry *r, const char *repository, const char *actions)
{
	strv_addf(&r->scopes, "repository:%s:%s", repository, actions);
}

static void wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

void registry_free(struct registry *r)
{
	if (!r)
		return;
	oci_ref_free(&r->ref);
	free(r->base);
	free(r->api);
	free(r->user);
	wipe(r->secret);
	wipe(r->auth);
	strv_free(&r->scopes);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

struct registry_conn *registry_conn_new(struct registry *r)
{
	struct registry_conn *c = xcalloc(1, sizeof(*c));

	c->r = r;
	c->http = http_new(r->op, r->api);
	http_insecure(c->http, r->insecure);
	return c;
}

void registry_conn_free(struct registry_conn *c)
{
	if (!c)
		return;
	http_free(c->http);
	free(c);
}

/* ---- requests ---- */
int registry_pause(struct registry_conn *c, int attempt, int64_t retry_after_s, struct error **err)
{
	struct timespec tick = {.tv_nsec = 50000000};
	int64_t ms = (int64_t)RETRY_MS << attempt;
	uint32_t noise;

	random_bytes(&noise, sizeof(noise));
	ms += noise % (uint32_t)ms;
	if (retry_after_s > 0)
		ms = MAX(ms, retry_after_s * 1000);
	for (ms = MIN(ms, REGISTRY_PATIENCE_S * 1000); ms > 0; ms -= 50) {
		if (op_check(c->r->op, err) < 0)
			return -1;
		nanosleep(&tick, NULL);
	}
	return 0;
}

static int status_error(struct registry_conn *c, const struct http_result *res, struct error **err)
{
	CLEANUP_FREE char *said = registry_said(c->r, res);

	switch (res->status) {
	case 401:
	case 403:
		return registry_denied(c->r, said, err);
	case 404:
		return error_set(err, ERR_NOT_FOUND, "not found at %s%s", c->r->ref.domain, said);
	case 429:
		if (res->retry_after)
			return error_set(err, ERR_INTERNAL,
					 "%s refuses more requests for the next %lld s (429)%s",
					 c->r->ref.domain, (long long)res->retry_after, said);
		return error_set(err, ERR_INTERNAL, "%s refuses more requests for now (429)%s",
				 c->r->ref.domain, said);
	default:
		return error_set(err, ERR_INTERNAL, "%s answered %ld%s", c->r->ref.domain,
				 res->status, said);
	}
}

static bool try_again(const struct http_request *q, const struct http_result *res, int rc)
{
	/* Who is to come back much later rather hears of it. */
	if (q->once || res->retry_after > REGISTRY_PATIENCE_S)
		return false;
	if (rc < 0)
		return res->transient;
	return res->status == 429 || (res->status == 416 && q->blob) ||
	       (res->status >= 500 && res->status != 501 && res->status != 505);
}

static void note_retry(const struct error *why)
{
	CLEANUP_FREE char *text = error_text(why);

	log_warn("trying again: %s", text);
}

/* Without the query: an upload's holds what nobody else should know. */
static void note_answer(const struct http_request *q, const struct http_result *res, int rc)
{
	log_debug("%s %.*s: %ld%s", q->method ? q->method : "GET", (int)strcspn(q->url, "?"),
		  q->url, res->status, rc < 0 ? ", broken off" : "");
}

int registry_request(struct registry_conn *c, struct http_request *q, struct http_result *res,
		     struct error **err)
{
	uint64_t had = q->blob ? q->blob->size : 0;
	int attempt = 0, auths = 0;

	for (;;) {
		CLEANUP_FREE char *auth = NULL;
		struct error *why = NULL;
		int rc;

		pthread_mutex_lock(&c->r->lock);
		auth = c->r->auth ? xstrdup(c->r->auth) : NULL;
		pthread_mutex_unlock(&c->r->lock);
		q->auth = auth;
		http_result_free(res);
		if (op_check(c->r->op, err) < 0)
			return -1;
		rc = http_do(c->http, q, res, &why);
		q->auth = NULL;
		note_answer(q, res, rc);
		if (rc == 0 && res->status >= 200 && res->status < 300)
			return 0;
		if (rc == 0 && res->status == 401 && auths++ < 2) {
			if (registry_renew_auth(c, auth, res->challenge, err) < 0)
				return -1;
			continue;
		}
		if (rc == 0 && res->status == 416 && q->blob && q->blob->size &&
		    blob_writer_restart(q->blob, err) < 0)
			return -1;
		if (rc == 0)
			status_error(c, res, &why);
		if (!try_again(q, res, rc) || attempt >= REGISTRY_RETRIES)
			return error_move(err, why);
		note_retry(why);
		error_free(why);
		/* What gets on in spite of it all is not given up. */
		if (q->blob && q->blob->size >= had + PROGRESS_BYTES)
			attempt = 0;
		had = q->blob ? q->blob->size : 0;
		if (registry_pause(c, attempt++, res->retry_after, err) < 0)
			return -1;
	}
}

/* A request whose answer is a body: 200, or 206 for the rest of one. */
static int fetch(struct registry_conn *c, struct http_request *q, struct http_result *res,
		 struct error **err)
{
	if (registry_request(c, q, res, err) < 0)
		return -1;
	if (res->status == 200 || res->status == 206)
		return 0;
	return status_error(c, res, err);
}

int registry_ping(struct registry_conn *c, struct error **err)
{
	struct http_request q = {.url = c->r->api, .loopback = c->r->loopback};
	struct http_result res = {0};
	int rc = fetch(c, &q, &res, err);

	http_result_free(&res);
	return rc;
}

int registry_manifest(struct registry_conn *c, const char *reference, struct buf *body, char **type,
		      struct error **err)
{
	CLEANUP_FREE char *url = xasprintf("%s/manifests/%s", c->r->base, reference);
	struct http_request q = {
		.url = url,
		.headers = {ACCEPT_MANIFEST},
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
