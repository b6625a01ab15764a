/* SPDX-License-Identifier: Apache-2.0 */
/* oci_mock_push.h - a registry that takes pushes, over oci_mock.h, and the images that go there. */
#ifndef TESTS_OCI_MOCK_PUSH_H
#define TESTS_OCI_MOCK_PUSH_H

#include "tests/unit/oci_mock.h"

#define BASIC "Authorization: Basic dXNlcjpwYXNzd29yZC1LSw==" /* user:password-KK */
#define USER  "user"
#define PASS  "password-KK"

/* What a registry has got. One test at a time. */
static struct {
	struct buf sessions[16];
	unsigned n_sessions;
	struct fx_blob blobs[16];
	unsigned n_blobs;
	unsigned patches, puts, manifests, asked, ranged, tokens, mounts;
	char scopes[2048];  /* the last token's query */
	size_t break_at;    /* the first PATCH of more ends after so many bytes */
	bool lie;           /* a session says it has got more than there is */
	bool want_basic;    /* 401 without it */
	const char *bearer; /* 401 without this token */
	const char *location, *token_to;
	bool leaked;
	bool dangling; /* a manifest or index named what was not there yet */
} reg;

UNUSED static void reg_reset(void)
{
	unsigned i;

	for (i = 0; i < reg.n_sessions; i++)
		buf_free(&reg.sessions[i]);
	for (i = 0; i < reg.n_blobs; i++)
		buf_free(&reg.blobs[i].data);
	memset(&reg, 0, sizeof(reg));
}

UNUSED static struct fx_blob *reg_blob(const char *digest)
{
	unsigned i;

	for (i = 0; i < reg.n_blobs; i++)
		if (!strncmp(reg.blobs[i].digest, digest, OCI_DIGEST_LEN))
			return &reg.blobs[i];
	return NULL;
}

UNUSED static const char *reg_store(const struct buf *b)
{
	struct fx_blob *to = &reg.blobs[reg.n_blobs++];

	assert_true(reg.n_blobs <= ARRAY_SIZE(reg.blobs));
	buf_append(&to->data, b->data ? b->data : "", b->len);
	digest_of(to->data.data, to->data.len, to->digest);
	return to->digest;
}

UNUSED static bool all_there(const struct buf *doc)
{
	const char *at = doc->data;

	while ((at = strstr(at, "\"digest\":\""))) {
		at += 10;
		if (!reg_blob(at))
			return false;
	}
	return true;
}

UNUSED static void say_session(struct mock_request *r, const char *status, unsigned i)
{
	size_t len = reg.lie && !strcmp(r->method, "GET") ? 1u << 30 : reg.sessions[i].len;
	CLEANUP_FREE char *head =
		xasprintf("Location: %s/v2/r/up/%u?_state=x%%2F\r\nRange: 0-%zu\r\n",
			  reg.location ? reg.location : "", i, len ? len - 1 : 0);

	mock_reply(r, status, head, "", 0);
}

UNUSED static bool on_patch(struct mock_request *r, unsigned i)
{
	const char *range = strcasestr(r->text, "Content-Range: ");
	size_t max = SIZE_MAX;

	reg.patches++;
	if (range) {
		reg.ranged++;
		assert_int_equal(strtoul(range + 15, NULL, 10), reg.sessions[i].len);
	}
	if (reg.break_at) {
		CLEANUP_FREE char *text = NULL;
		const char *at = strcasestr(r->text, "\r\nContent-Length:");

		if (strtoul(at + 17, NULL, 10) > reg.break_at) {
			max = reg.break_at;
			reg.break_at = 0;
		}
	}
	mock_body(r, max, &reg.sessions[i]);
	if (max == SIZE_MAX)
		say_session(r, "202 Accepted", i);
	return true;
}

UNUSED static bool on_upload(struct mock_request *r)
{
	const char *id = strstr(r->path, "/up/"), *digest = strstr(r->path, "digest=sha256");
	unsigned i = (unsigned)atoi(id + 4);

	if (!strcmp(r->method, "PATCH"))
		return on_patch(r, i);
	if (!strcmp(r->method, "GET")) {
		reg.asked++;
		say_session(r, "204 No Content", i);
		return true;
	}
	reg.puts++;
	assert_non_null(digest);
	assert_true(mock_is(r, "_state=x%2F"));
	/* "sha256%3A<hex>" or "sha256:<hex>" */
	if (!strncmp(digest_hex(reg_store(&reg.sessions[i])),
		     digest + (digest[13] == '%' ? 16 : 14), OCI_HEX_LEN))
		mock_reply(r, "201 Created", "", "", 0);
	else
		mock_reply(r, "400 Bad Request", "", "", 0);
	return true;
}

UNUSED static bool refuses(struct mock *m, struct mock_request *r)
{
	CLEANUP_FREE char *want = NULL, *head = NULL;

	if (reg.want_basic && !mock_has_header(r, BASIC "\r\n")) {
		mock_reply(r, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "", 0);
		return true;
	}
	if (!reg.bearer)
		return false;
	want = xasprintf("Authorization: Bearer %s\r\n", reg.bearer);
	if (mock_has_header(r, want))
		return false;
	head = xasprintf(
		"WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"s\","
		"scope=\"repository:r:pull\"\r\n",
		m->port);
	mock_reply(r, "401 Unauthorized", head, "", 0);
	return true;
}

UNUSED static bool on_token(struct mock_request *r)
{
	CLEANUP_FREE char *body = NULL, *head = NULL;

	reg.tokens++;
	snprintf(reg.scopes, sizeof(reg.scopes), "%s", r->path);
	if (reg.token_to) {
		head = xasprintf("Location: %s/token\r\n", reg.token_to);
		mock_reply(r, "307 Temporary Redirect", head, "", 0);
		return true;
	}
	if (!mock_has_header(r, BASIC "\r\n") || !mock_is(r, "service=s")) {
		mock_reply(r, "401 Unauthorized", "", "", 0);
		return true;
	}
	body = xasprintf("{\"token\": \"%s\", \"expires_in\": 300}", reg.bearer);
	mock_reply(r, "200 OK", "", body, strlen(body));
	return true;
}

UNUSED static bool registry_hook(struct mock *m, struct mock_request *r)
{
	CLEANUP_BUF struct buf body = {0};

	if (mock_is(r, "/token"))
		return on_token(r);
	if (refuses(m, r))
		return true;
	if (!strcmp(r->method, "HEAD")) {
		const char *d = strstr(r->path, "sha256:");

		mock_reply(r, d && reg_blob(d) ? "200 OK" : "404 Not Found", "", "", 0);
		return true;
	}
	if (!strcmp(r->method, "POST")) {
		reg.mounts += mock_is(r, "mount=sha256") && mock_is(r, "from=r");
		assert_true(reg.n_sessions < ARRAY_SIZE(reg.sessions));
		say_session(r, "202 Accepted", reg.n_sessions++);
		return true;
	}
	if (mock_is(r, "/up/"))
		return on_upload(r);
	if (!strcmp(r->method, "PUT") && mock_is(r, "/manifests/")) {
		reg.manifests++;
		mock_body(r, SIZE_MAX, &body);
		reg.dangling = reg.dangling || !all_there(&body);
		reg_store(&body);
		mock_reply(r, "201 Created", "", "", 0);
		return true;
	}
	if (!strcmp(r->path, "/v2/")) {
		mock_reply(r, "200 OK", "", "{}", 2);
		return true;
	}
	return false;
}

/* Another host: it must never see who we are. */
UNUSED static bool stranger(struct mock *m, struct mock_request *r)
{
	reg.leaked = reg.leaked || strcasestr(r->text, "Authorization:");
	if (mock_is(r, "/token")) {
		mock_reply(r, "200 OK", "", "{\"token\": \"t\"}", 14);
		return true;
	}
	return mock_is(r, "/up/") && on_upload(r);
}

/* Loads what is in the fixture: the image or index with that digest, under the name that is pushed here. */
UNUSED static void store_doc(struct mock *m, struct fx *f, const char *type, const char *digest)
{
	CLEANUP_FREE char *name = NULL;
	CLEANUP_BUF struct buf tar = {0}, entries = {0};
	CLEANUP_CLOSE int fd = -1;
	struct json_object *images;
	struct error *e = NULL;

	reg_reset();
	m->hook = registry_hook;
	mock_start(m, f);
	name = xasprintf("127.0.0.1:%d/r:t", m->port);
	fx_entry(&entries, type, digest, fx_size(f, digest), NULL, name);
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	fd = fx_memfd(&tar);
	if (oci_load(f->store, fd, false, NULL, &images, &e) < 0)
		fail_msg("%s", error_text(e));
	json_object_put(images);
}

UNUSED static void store_image(struct mock *m, struct fx *f, struct fx_image *im)
{
	fx_make(f, im);
	store_doc(m, f, MEDIA_OCI_MANIFEST, im->manifest);
}

UNUSED static int push_to(struct mock *m, const char *repository, bool as_user, struct error **err)
{
	CLEANUP_FREE char *ref = xasprintf("127.0.0.1:%d/%s:t", m->port, repository);
	struct oci_push_opts o = {.scheme = "auto"};
	struct json_object *out = NULL;
	int rc;

	if (as_user) {
		o.user = USER;
		o.secret = PASS;
	}
	rc = oci_push(m->f->store, ref, &o, NULL, &out, err);
	json_object_put(out);
	assert_int_equal(fx_count(m->f->store->ingest), 0);
	return rc;
}

UNUSED static int push(struct mock *m, bool as_user, struct error **err)
{
	return push_to(m, "r", as_user, err);
}

UNUSED static void assert_pushed(struct mock *m, struct fx_image *im, bool as_user)
{
	struct error *e = NULL;

	if (push(m, as_user, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_non_null(reg_blob(im->layer));
	assert_non_null(reg_blob(im->config));
	assert_non_null(reg_blob(im->manifest));
	assert_false(reg.leaked);
	assert_false(reg.dangling);
}

UNUSED static void tag_again(struct mock *m, const char *repository)
{
	CLEANUP_FREE char *from = xasprintf("127.0.0.1:%d/r:t", m->port);
	CLEANUP_FREE char *to = xasprintf("127.0.0.1:%d/%s:t", m->port, repository);
	struct error *e = NULL;

	if (oci_tag(m->f->store, from, to, &e) < 0)
		fail_msg("%s", error_text(e));
}

UNUSED static void assert_pulled(struct mock *m, const char *user)
{
	CLEANUP_FREE char *ref = xasprintf("127.0.0.1:%d/r:t", m->port);
	struct oci_pull_opts o = {.scheme = "auto", .user = user, .secret = PASS};
	struct json_object *image = NULL;
	struct error *e = NULL;

	if (oci_pull(m->f->store, ref, &o, NULL, &image, &e) < 0)
		fail_msg("%s", error_text(e));
	json_object_put(image);
}

#endif
