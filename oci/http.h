/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h - requests over libcurl with the rules a registry client needs: bounded bodies, at most five redirects, never from
 * https to http, and credentials that go to the first origin only. One handle belongs to one thread.
 */
#ifndef OCI_HTTP_H
#define OCI_HTTP_H

#include "oci/registry.h"

struct http;
/* http_new: origin is the URL whose scheme, host and port may see credentials. */
struct http *http_new(struct oci_op *op, const char *origin);
void http_free(struct http *h);
/* http_insecure: the origin's certificate, and only that one, is not looked at. */
void http_insecure(struct http *h, bool on);
/* http_ca_file: the host's certificates, or NULL. */
const char *http_ca_file(void);

struct http_request {
	const char *url;
	const char *method;     /* NULL: GET */
	const char *headers[3]; /* whole lines; NULL where there is none */
	const char *auth;       /* value of Authorization, or NULL */
	struct buf *body; /* either a buffer of at most max bytes, or NULL: the body is dropped, */
	size_t max;
	struct blob_writer *blob; /* or a blob, from where it stands */
	/* With PUT and PATCH: up_size bytes from up_data or, when that is NULL, from offset up_off of up_fd. With POST: a
	 * form of up_size bytes at up_data, which no redirect takes to another origin. */
	const void *up_data;
	int up_fd;
	uint64_t up_off, up_size;
	struct op_item *item;
	bool loopback; /* never through a proxy */
	bool once;     /* registry.c: what fails is not tried again */
};

struct http_result {
	long status;
	bool transient;      /* the failure may pass */
	char *challenge;     /* WWW-Authenticate of the first origin, Bearer preferred */
	char *message;       /* what the first origin says of an error; NULL: nothing */
	char *content_type;  /* without parameters */
	char *location;      /* as an absolute URL, of an answer that is no redirect */
	int64_t range_end;   /* N of "Range: 0-N", -1 if not said */
	int64_t retry_after; /* seconds, 0 if not said */
};
/* http_do: 0 when a final answer came, whatever its status; its body is kept only for 200 and 206. */
int http_do(struct http *h, struct http_request *q, struct http_result *res, struct error **err);
void http_result_free(struct http_result *res);

/* ---- http_text.c: the caller owns the texts, which are short and printable ---- */
/* http_error_text: the first message of an error's body (distribution spec, "error codes"), or NULL. */
char *http_error_text(const char *body, size_t n);
/* http_warning_text: the text of a Warning header that the spec wants shown, or NULL. */
char *http_warning_text(const char *value);
/* http_retry_after: seconds, 0 to 3600, from a number or a date. */
int64_t http_retry_after(const char *value);

struct http_origin {
	bool https;
	char host[256];
	char port[8];
};
/* http_origin_of: fails for other schemes than http and https and for URLs with a user in them; *o is zero then. */
int http_origin_of(const char *url, struct http_origin *o, struct error **err);
/* http_url_query: url with the pairs appended, encoded; pairs with a NULL value are left out. Owned by caller. */
char *http_url_query(const char *url, const char *const (*pairs)[2], size_t n, struct error **err);

#endif
