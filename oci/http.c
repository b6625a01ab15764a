/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.c - requests through libcurl, redirects followed by hand.
 *
 * Redirects are not left to libcurl: each hop is parsed, checked and counted here, so that a registry
 * cannot send a client from https to http, to another protocol, or let it show its credentials to
 * another host. The body of an answer that is no 200 or 206 is read only to the end of its first 64 KiB.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <strings.h>

#include "core/path.h"
#include "core/version.h"
#include "oci/http.h"

#define MAX_REDIRECTS    5
#define MAX_ERROR_BODY   (64u << 10)
#define MAX_HEADER_VALUE 8192
#define CONNECT_MS       15000L
#define SLOW_BYTES       1024L /* a second: a transfer below that for the store's stall_s is given up */
#define MAX_WARNINGS     8
#define MAX_SAID         8192u   /* of the body of an error */
#define SMALL_MS         120000L /* a whole manifest or token */
#define COMMIT_MS        600000L /* a registry may hash a blob before it answers */

struct http {
	struct oci_op *op;
	CURL *curl;
	char *origin;
	bool insecure;
	uint64_t warned[MAX_WARNINGS]; /* hashes of the warnings shown */
	size_t n_warned;
	char errbuf[CURL_ERROR_SIZE];
};

/* One hop. */
struct hop {
	struct http *h;
	struct http_request *q;
	struct http_result *res;
	char *location;
	uint64_t sent;
	bool home;           /* at the first origin */
	int64_t range_start; /* from Content-Range, -1 if there is none */
	bool started;        /* body bytes of a 200 or 206 have come */
	size_t discarded;
	bool enough;     /* we ended the transfer ourselves */
	struct buf said; /* the beginning of what came with an error */
	struct error *err;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static const char *ca_file;

static void curl_setup(void)
{
	static const char *const usual[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/ca-bundle.pem",
		"/etc/ssl/cert.pem",
	};
	const char *asked = getenv("SSL_CERT_FILE");
	size_t i;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort(); /* out of memory, or OpenSSL without entropy */
	if (asked && *asked) {
		ca_file = xstrdup(asked);
		return;
	}
	for (i = 0; i < ARRAY_SIZE(usual) && !ca_file; i++)
		if (access(usual[i], R_OK) == 0)
			ca_file = usual[i];
}

const char *http_ca_file(void)
{
	pthread_once(&curl_once, curl_setup);
	return ca_file;
}

void http_insecure(struct http *h, bool on)
{
	h->insecure = on;
}

struct http *http_new(struct oci_op *op, const char *origin)
{
	struct http *h = xcalloc(1, sizeof(*h));

	pthread_once(&curl_once, curl_setup);
	h->op = op;
	h->origin = xstrdup(origin);
	h->curl = curl_easy_init();
	if (!h->curl)
		abort();
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->curl);
	free(h->origin);
	free(h);
}

void http_result_free(struct http_result *res)
{
	free(res->challenge);
	free(res->message);
	free(res->content_type);
	free(res->location);
	*res = (struct http_result){.range_end = -1};
}

/* ---- URLs ---- */
static int url_part(CURLU *u, CURLUPart part, unsigned flags, char *out, size_t size)
{
	char *s = NULL;
	int n;

	if (curl_url_get(u, part, &s, flags) != CURLUE_OK)
		return -1;
	n = snprintf(out, size, "%s", s);
	curl_free(s);
	return n > 0 && (size_t)n < size ? 0 : -1;
}

int http_origin_of(const char *url, struct http_origin *o, struct error **err)
{
	CURLU *u = curl_url();
	char scheme[16] = "";
	int rc = -1;

	*o = (struct http_origin){0};
	if (u && curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
	    url_part(u, CURLUPART_SCHEME, 0, scheme, sizeof(scheme)) == 0 &&
	    url_part(u, CURLUPART_HOST, 0, o->host, sizeof(o->host)) == 0 &&
	    url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, o->port, sizeof(o->port)) == 0)
		rc = 0;
	curl_url_cleanup(u);
	if (rc < 0 || (strcmp(scheme, "http") && strcmp(scheme, "https"))) {
		*o = (struct http_origin){0}; /* not half of a long name */
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "URL \"%.100s\" is not plain http or https", url);
	}
	o->https = !strcmp(scheme, "https");
	return 0;
}

static bool same_origin(const struct http_origin *a, const struct http_origin *b)
{
	return a->https == b->https && !strcasecmp(a->host, b->host) && !strcmp(a->port, b->port);
}

char *http_url_query(const char *url, const char *const (*pairs)[2], size_t n, struct error **err)
{
	CURLU *u = curl_url();
	char *out = NULL, *s = NULL;
	CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	size_t i;

	for (i = 0; i < n && rc == CURLUE_OK; i++) {
		CLEANUP_FREE char *kv = NULL;

		if (!pairs[i][1])
			continue;
		kv = xasprintf("%s=%s", pairs[i][0], pairs[i][1]);
		rc = curl_url_set(u, CURLUPART_QUERY, kv, CURLU_APPENDQUERY | CURLU_URLENCODE);
	}
	if (rc == CURLUE_OK)
		rc = curl_url_get(u, CURLUPART_URL, &s, 0);
	if (rc == CURLUE_OK)
		out = xstrdup(s);
	else
		error_set(err, ERR_INVALID_ARGUMENT, "URL \"%.100s\": %s", url,
			  curl_url_strerror(rc));
	curl_free(s);
	curl_url_cleanup(u);
	return out;
}

/* Where a redirect at `from` leads to. */
static char *resolve_location(const char *from, const char *location, struct error **err)
{
	CURLU *u = curl_url();
	char *out = NULL, *s = NULL;

	if (curl_url_set(u, CURLUPART_URL, from, 0) == CURLUE_OK &&
	    curl_url_set(u, CURLUPART_URL, location, CURLU_DISALLOW_USER) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &s, 0) == CURLUE_OK)
		out = xstrdup(s);
	else
		error_set(err, ERR_INVALID_ARGUMENT, "redirected to an invalid URL");
	curl_free(s);
	curl_url_cleanup(u);
	return out;
}

/* ---- callbacks ---- */
static long status_of(struct hop *hop)
{
	long status = 0;

	curl_easy_getinfo(hop->h->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

/* Copies the value of "name: value\r\n" to a new string; NULL when it is another header. */
static char *header_value(const char *line, size_t n, const char *name)
{
	size_t len = strlen(name);

	if (n <= len || strncasecmp(line, name, len) || line[len] != ':')
		return NULL;
	for (line += len + 1, n -= len + 1; n && (*line == ' ' || *line == '\t'); line++)
		n--;
	while (n && strchr(" \t\r\n", line[n - 1]))
		n--;
	return memchr(line, '\0', n) ? NULL : xstrndup(line, MIN(n, (size_t)MAX_HEADER_VALUE));
}

static void take_challenge(struct http_result *res, char *value)
{
	struct auth_challenge ch;

	if (auth_challenge_parse(value, &ch) == 0) {
		auth_challenge_free(&ch);
		free(res->challenge);
		res->challenge = NULL;
	}
	if (res->challenge)
		free(value);
	else
		res->challenge = value;
}

/* Each warning once for each connection. */
static void show_warning(struct hop *hop, const char *value)
{
	CLEANUP_FREE char *text = hop->home ? http_warning_text(value) : NULL;
	struct http *h = hop->h;
	uint64_t hash = 14695981039346656037u; /* FNV-1a */
	const char *p;
	size_t i;

	if (!text)
		return;
	for (p = text; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211u;
	for (i = 0; i < h->n_warned; i++)
		if (h->warned[i] == hash)
			return;
	if (h->n_warned == MAX_WARNINGS)
		return;
	h->warned[h->n_warned++] = hash;
	op_message(h->op, "warning", "The registry says: %s", text);
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct hop *hop = arg;
	char *v;

	n *= size;
	if ((v = header_value(p, n, "Location"))) {
		free(hop->location);
		hop->location = v;
	} else if ((v = header_value(p, n, "WWW-Authenticate"))) {
		/* Who we are is no business of where a redirect led to, nor is whom to tell. */
		if (hop->home)
			take_challenge(hop->res, v);
		else
			free(v);
	} else if ((v = header_value(p, n, "Warning"))) {
		show_warning(hop, v);
		free(v);
	} else if ((v = header_value(p, n, "Content-Type"))) {
		v[strcspn(v, "; \t")] = '\0';
		free(hop->res->content_type);
		hop->res->content_type = v;
	} else if ((v = header_value(p, n, "Retry-After"))) {
		hop->res->retry_after = http_retry_after(v);
		free(v);
	} else if ((v = header_value(p, n, "Content-Range"))) {
		unsigned long long start;

		if (sscanf(v, "bytes %llu-", &start) == 1)
			hop->range_start = (int64_t)MIN(start, (unsigned long long)INT64_MAX);
		free(v);
	} else if ((v = header_value(p, n, "Range"))) { /* what an upload has got so far */
		const char *dash = strchr(v, '-');

		if (!dash || parse_i64(dash + 1, &hop->res->range_end) < 0)
			hop->res->range_end = -1;
		free(v);
	}
	return n;
}

/* The first bytes of a blob: do they continue ours, or start over? */
static int begin_blob(struct hop *hop, long status)
{
	struct blob_writer *w = hop->q->blob;

	hop->started = true;
	if (status == 206) {
		if (hop->range_start != (int64_t)w->size)
			return error_set(&hop->err, ERR_INVALID_ARGUMENT,
					 "the answer starts at another byte than asked for");
		return 0;
	}
	return w->size ? blob_writer_restart(w, &hop->err) : 0;
}

static int keep_body(struct hop *hop, const char *p, size_t n, long status)
{
	struct http_request *q = hop->q;

	if (!q->blob) {
		if (n > q->max - q->body->len)
			return error_set(&hop->err, ERR_INVALID_ARGUMENT,
					 "answer is larger than %zu MiB", q->max >> 20);
		buf_append(q->body, p, n);
		return 0;
	}
	if (!hop->started && begin_blob(hop, status) < 0)
		return -1;
	if (blob_writer_add(q->blob, p, n, &hop->err) < 0)
		return -1;
	if (q->item)
		op_item_at(q->item, q->blob->size);
	return 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct hop *hop = arg;
	long status = status_of(hop);

	n *= size;
	if ((status == 200 && (hop->q->body || hop->q->blob)) ||
	    (status == 206 && hop->q->blob && hop->q->blob->size))
		return keep_body(hop, p, n, status) < 0 ? 0 : n;
	if (status >= 400 && hop->home)
		buf_append(&hop->said, p, MIN(n, MAX_SAID - hop->said.len));
	hop->discarded += n;
	if (hop->discarded <= MAX_ERROR_BODY)
		return n;
	hop->enough = true;
	return 0;
}

static size_t on_send(char *p, size_t size, size_t n, void *arg)
{
	struct hop *hop = arg;
	struct http_request *q = hop->q;

	n = (size_t)MIN((uint64_t)n * size, q->up_size - hop->sent);
	if (q->up_data)
		memcpy(p, (const char *)q->up_data + hop->sent, n);
	else if (fd_pread_full(q->up_fd, p, n, (off_t)(q->up_off + hop->sent), &hop->err) < 0)
		return CURL_READFUNC_ABORT;
	hop->sent += n;
	if (q->item && !q->up_data)
		op_item_at(q->item, q->up_off + hop->sent);
	return n;
}

/* Over a connection that turned out to be dead the body is sent once more. */
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
	struct hop *hop = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > hop->q->up_size)
		return CURL_SEEKFUNC_FAIL;
	hop->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int on_tick(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
		   curl_off_t ulnow)
{
	struct hop *hop = arg;

	return op_check(hop->h->op, hop->err ? NULL : &hop->err) < 0;
}

/* ---- one hop ---- */
static bool is_upload(const struct http_request *q)
{
	return str_eq(q->method, "PUT") || str_eq(q->method, "PATCH");
}

static void set_method(CURL *c, struct hop *hop)
{
	struct http_request *q = hop->q;

	if (str_eq(q->method, "HEAD"))
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	if (str_eq(q->method, "POST")) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->up_data ? q->up_data : "");
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)q->up_size);
	}
	if (!is_upload(q))
		return;
	curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, on_send);
	curl_easy_setopt(c, CURLOPT_READDATA, hop);
	curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_rewind);
	curl_easy_setopt(c, CURLOPT_SEEKDATA, hop);
	curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->up_size);
	curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
}

/* Transfers of blobs may take any time as long as they move; all else has a limit. */
static void set_limits(struct http *h, const struct http_request *q)
{
	CURL *c = h->curl;

	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	if (str_eq(q->method, "PUT")) {
		curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, COMMIT_MS);
		return;
	}
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)h->op->s->stall_s);
	if (!q->blob && !is_upload(q))
		curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, SMALL_MS);
}

static void set_trust(struct http *h, bool home)
{
	const struct buf *own = &h->op->s->ca_bundle;
	struct curl_blob blob = {.data = own->data, .len = own->len, .flags = CURL_BLOB_NOCOPY};

	if (own->len)
		curl_easy_setopt(h->curl, CURLOPT_CAINFO_BLOB, &blob);
	else if (ca_file)
		curl_easy_setopt(h->curl, CURLOPT_CAINFO, ca_file);
	if (h->insecure && home) {
		curl_easy_setopt(h->curl, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(h->curl, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static void set_options(struct http *h, struct hop *hop, const char *url,
			struct curl_slist *headers)
{
	CURL *c = h->curl;
	struct http_request *q = hop->q;

	curl_easy_reset(c);
	h->errbuf[0] = '\0';
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->errbuf);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	set_method(c, hop);
	set_limits(h, q);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, hop);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, hop);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, hop);
	if (q->loopback)
		curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	set_trust(h, hop->home);
	if (q->blob && q->blob->size) {
		char range[32];

		snprintf(range, sizeof(range), "%llu-", (unsigned long long)q->blob->size);
		curl_easy_setopt(c, CURLOPT_RANGE, range);
	}
}

static struct curl_slist *make_headers(const struct http_request *q, bool with_auth)
{
	CLEANUP_FREE char *agent = xasprintf("User-Agent: container/%s", version_release);
	CLEANUP_FREE char *auth = NULL;
	struct curl_slist *l = curl_slist_append(NULL, agent);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(q->headers); i++)
		if (q->headers[i])
			l = curl_slist_append(l, q->headers[i]);
	if (is_upload(q))
		l = curl_slist_append(l, "Expect:");
	if (with_auth) {
		auth = xasprintf("Authorization: %s", q->auth);
		l = curl_slist_append(l, auth);
	}
	return l;
}

/* What libcurl says, in our words. */
static int transport_error(struct hop *hop, CURLcode rc, const struct http_origin *to,
			   struct error **err)
{
	struct http *h = hop->h;
	long sys = 0;

	curl_easy_getinfo(h->curl, CURLINFO_OS_ERRNO, &sys);
	hop->res->transient = true;
	switch (rc) {
	case CURLE_COULDNT_RESOLVE_HOST:
		hop->res->transient = false;
		return error_set(err, ERR_NOT_FOUND, "host %s is not known", to->host);
	case CURLE_COULDNT_CONNECT:
		hop->res->transient = sys != ECONNREFUSED;
		if (sys)
			return error_sys(err, (int)sys, "connect to %s port %s", to->host,
					 to->port);
		return error_set(err, ERR_INTERNAL, "connect to %s port %s failed", to->host,
				 to->port);
	case CURLE_OPERATION_TIMEDOUT:
		return error_set(err, ERR_TIMEOUT, "%s does not answer in time", to->host);
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		hop->res->transient = false;
		return error_set(err, ERR_INTERNAL, "TLS: %s%s",
				 h->errbuf[0] ? h->errbuf : curl_easy_strerror(rc),
				 ca_file ? "" : " (no CA certificates found; set SSL_CERT_FILE)");
	case CURLE_OUT_OF_MEMORY: /* malloc() does not fail here: one of libcurl's own bounds */
		hop->res->transient = false;
		return error_set(err, ERR_INVALID_ARGUMENT, "the answer's header is too large");
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		hop->res->transient = false;
		/* fall through */
	default:
		return error_set(err, ERR_INTERNAL, "%s",
				 h->errbuf[0] ? h->errbuf : curl_easy_strerror(rc));
	}
}

static int run_hop(struct http *h, struct hop *hop, const char *url, bool with_auth,
		   const struct http_origin *to, struct error **err)
{
	struct curl_slist *headers = make_headers(hop->q, with_auth);
	CURLcode rc;

	set_options(h, hop, url, headers);
	rc = curl_easy_perform(h->curl);
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(headers);
	hop->res->status = status_of(hop);
	if (hop->err)
		return error_move(err, STEAL(hop->err));
	if (rc != CURLE_OK && !hop->enough)
		return transport_error(hop, rc, to, err);
	return 0;
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Only 307 and 308 say that a request with a body goes elsewhere as it is. */
static int check_redirect(const struct http_request *q, long status, struct error **err)
{
	if (!q->method || !strcmp(q->method, "HEAD") || status == 307 || status == 308)
		return 0;
	return error_set(err, ERR_INVALID_ARGUMENT, "a %s was answered with a redirect (%ld)",
			 q->method, status);
}

/* Where the redirect at *url leads to replaces it, if it may be followed. */
static int next_hop(const struct http_request *q, const struct hop *hop,
		    const struct http_origin *at, char **url, struct error **err)
{
	struct http_origin next;
	char *to;

	if (check_redirect(q, hop->res->status, err) < 0)
		return -1;
	if (!hop->location)
		return error_set(err, ERR_INVALID_ARGUMENT, "redirected to nowhere");
	to = resolve_location(*url, hop->location, err);
	if (!to)
		return -1;
	free(*url);
	*url = to;
	if (http_origin_of(to, &next, err) < 0)
		return error_wrap(err, "redirect");
	if (at->https && !next.https)
		return error_set(err, ERR_INVALID_ARGUMENT, "redirect from https to http refused");
	if (str_eq(q->method, "POST") && q->up_size && !same_origin(at, &next))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "redirect of a form to another host refused");
	return 0;
}

static void hop_free(struct hop *hop)
{
	free(hop->location);
	buf_free(&hop->said);
}

static int follow(struct http *h, struct http_request *q, struct http_result *res, char **url,
		  struct error **err)
{
	struct http_origin first, at;
	int hops;

	if (http_origin_of(h->origin, &first, err) < 0)
		return -1;
	for (hops = 0; hops <= MAX_REDIRECTS; hops++) {
		struct hop hop = {.h = h, .q = q, .res = res, .range_start = -1};
		int rc;

		http_result_free(res);
		if (q->body)
			q->body->len = 0;
		if (http_origin_of(*url, &at, err) < 0)
			return -1;
		hop.home = same_origin(&first, &at);
		rc = run_hop(h, &hop, *url, q->auth && hop.home, &at, err);
		if (rc < 0 || !is_redirect(res->status)) {
			if (rc == 0 && hop.location)
				res->location = resolve_location(*url, hop.location, NULL);
			if (hop.said.len)
				res->message = http_error_text(hop.said.data, hop.said.len);
			hop_free(&hop);
			return rc;
		}
		rc = next_hop(q, &hop, &at, url, err);
		hop_free(&hop);
		if (rc < 0)
			return -1;
	}
	return error_set(err, ERR_INVALID_ARGUMENT, "more than %d redirects", MAX_REDIRECTS);
}

int http_do(struct http *h, struct http_request *q, struct http_result *res, struct error **err)
{
	char *url = xstrdup(q->url);
	int rc = follow(h, q, res, &url, err);

	free(url);
	return rc;
}
