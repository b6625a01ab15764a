/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry_push.c - the requests of a push (distribution spec 1.1, "push").
 *
 * A blob is mounted from a neighbouring repository when the registry can, else uploaded: POST opens a session, PATCH
 * sends, PUT closes it under the digest. A PATCH that breaks off is not started over: the session is asked how far it
 * came, and the next PATCH sends the rest. A session's URL may be on another host; credentials do not go there.
 */
#include <stdio.h>

#include "core/log.h"
#include "oci/registry_int.h"

#define OCTETS "Content-Type: application/octet-stream"

/* An upload under way. */
struct upload {
	struct registry_conn *c;
	const struct oci_desc *d;
	int fd;
	char *url; /* of the session */
	uint64_t done;
	struct op_item *item;
};

int registry_has(struct registry_conn *c, const char *kind, const struct oci_desc *d,
		 struct error **err)
{
	CLEANUP_FREE char *url = xasprintf("%s/%s/%s", c->r->base, kind, d->digest);
	CLEANUP_FREE char *accept = xasprintf("Accept: %s", d->media_type);
	struct http_request q = {.url = url, .method = "HEAD", .loopback = c->r->loopback};
	struct http_result res = {0};
	struct error *why = NULL;
	int rc;

	if (!strcmp(kind, "manifests"))
		q.headers[0] = accept;
	rc = registry_request(c, &q, &res, &why);
	http_result_free(&res);
	if (rc == 0)
		return 1;
	if (why->code != ERR_NOT_FOUND)
		return error_move(err, why);
	error_free(why);
	return 0;
}

/* Where the session goes on, from an answer. */
static int take_location(struct upload *u, struct http_result *res, struct error **err)
{
	struct http_origin o;

	if (!res->location)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the registry names no place to upload");
	if (http_origin_of(res->location, &o, err) < 0)
		return error_wrap(err, "upload");
	if (u->c->r->https && !o.https)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "upload: refused to go from https to http");
	free(u->url);
	u->url = STEAL(res->location);
	return 0;
}

/* 1: the blob is there already, mounted; 0: a session is open. */
static int open_session(struct upload *u, const char *from, struct error **err)
{
	CLEANUP_FREE char *root = xasprintf("%s/blobs/uploads/", u->c->r->base), *url = NULL;
	const char *query[][2] = {{"mount", from ? u->d->digest : NULL}, {"from", from}};
	struct http_request q = {.method = "POST", .loopback = u->c->r->loopback};
	struct http_result res = {0};
	int rc;

	url = http_url_query(root, query, ARRAY_SIZE(query), err);
	if (!url)
		return -1;
	q.url = url;
	rc = registry_request(u->c, &q, &res, err);
	if (rc == 0 && from && res.status == 201)
		rc = 1;
	else if (rc == 0)
		rc = take_location(u, &res, err);
	http_result_free(&res);
	u->done = 0;
	return rc;
}

/* Sends what is left. */
static int send_rest(struct upload *u, int64_t *retry_after, bool *transient, struct error **err)
{
	CLEANUP_FREE char *range =
		xasprintf("Content-Range: %llu-%llu", (unsigned long long)u->done,
			  (unsigned long long)u->d->size - 1);
	struct http_request q = {
		.url = u->url,
		.method = "PATCH",
		/* Not every registry takes a range where there is nothing to say. */
		.headers = {OCTETS, u->done ? range : NULL},
		.up_fd = u->fd,
		.up_off = u->done,
		.up_size = u->d->size - u->done,
		.item = u->item,
		.loopback = u->c->r->loopback,
		.once = true,
	};
	struct http_result res = {0};
	int rc = registry_request(u->c, &q, &res, err);

	if (rc == 0)
		rc = take_location(u, &res, err);
	if (rc == 0)
		u->done = u->d->size;
	*transient = rc < 0 &&
		     (res.transient || res.status == 416 || res.status == 429 || res.status >= 500);
	*retry_after = res.retry_after;
	http_result_free(&res);
	return rc;
}

/* After a break: how far did it come? -1: the session is no more. */
static int ask_session(struct upload *u)
{
	struct http_request q = {.url = u->url, .loopback = u->c->r->loopback, .once = true};
	struct http_result res = {0};
	int rc = registry_request(u->c, &q, &res, NULL);

	if (rc == 0 && res.range_end >= -1 && (uint64_t)(res.range_end + 1) <= u->d->size) {
		/* "0-0" is what an empty session says too. */
		u->done = res.range_end > 0 ? (uint64_t)res.range_end + 1 : 0;
		if (res.location)
			rc = take_location(u, &res, NULL);
	} else {
		rc = -1;
	}
	http_result_free(&res);
	return rc;
}

/* Asked again when the answer was lost, a registry that had closed it knows no such session: our caller looks whether the blob is there. */
static int close_session(struct upload *u, struct error **err)
{
	const char *query[][2] = {{"digest", u->d->digest}};
	CLEANUP_FREE char *url = http_url_query(u->url, query, 1, err);
	struct http_request q = {.url = url,
				 .method = "PUT",
				 .headers = {OCTETS},
				 .up_data = "",
				 .loopback = u->c->r->loopback};
	struct http_result res = {0};
	int rc = url ? registry_request(u->c, &q, &res, err) : -1;

	if (rc == 0 && res.status != 201 && res.status != 204)
		rc = error_set(err, ERR_INTERNAL, "closing the upload was answered with %ld",
			       res.status);
	http_result_free(&res);
	return rc;
}

static int upload_run(struct upload *u, struct error **err)
{
	int attempt = 0;

	while (u->done < u->d->size) {
		struct error *why = NULL;
		int64_t retry_after;
		bool transient;
		CLEANUP_FREE char *text = NULL;

		if (send_rest(u, &retry_after, &transient, &why) == 0)
			break;
		if (!transient || attempt >= REGISTRY_RETRIES)
			return error_move(err, why);
		text = error_text(why);
		log_warn("trying again: %s", text);
		error_free(why);
		if (registry_pause(u->c, attempt++, retry_after, err) < 0)
			return -1;
		if (ask_session(u) < 0 && open_session(u, NULL, err) < 0)
			return -1;
	}
	return close_session(u, err);
}

int registry_put_blob(struct registry_conn *c, const struct oci_desc *d, int fd, const char *from,
		      struct op_item *item, bool *mounted, struct error **err)
{
	struct upload u = {.c = c, .d = d, .fd = fd, .item = item};
	struct error *why = NULL;
	int rc = open_session(&u, from, &why);

	*mounted = rc == 1;
	if (rc == 0)
		rc = upload_run(&u, &why);
	/* Whatever went wrong at the end: what counts is whether it is there. */
	if (rc < 0 && why->code != ERR_CANCELLED && registry_has(c, "blobs", d, NULL) == 1)
		rc = 1;
	free(u.url);
	if (rc < 0) {
		error_move(err, why);
		return error_wrap(err, "blob %.19s", d->digest);
	}
	error_free(why);
	return 0;
}

int registry_put_manifest(struct registry_conn *c, const char *reference, const char *type,
			  const void *p, size_t n, struct error **err)
{
	CLEANUP_FREE char *url = xasprintf("%s/manifests/%s", c->r->base, reference);
	CLEANUP_FREE char *header = xasprintf("Content-Type: %s", type);
	struct http_request q = {.url = url,
				 .method = "PUT",
				 .headers = {header},
				 .up_data = p,
				 .up_size = n,
				 .loopback = c->r->loopback};
	struct http_result res = {0};
	int rc = registry_request(c, &q, &res, err);

	http_result_free(&res);
	return rc < 0 ? error_wrap(err, "manifest %.40s", reference) : 0;
}
