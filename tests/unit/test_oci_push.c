// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_push.c - pushes and logins against registries good and bad; attack class K: uploads that break off, sessions that lie,
 * and everybody who would like to see a password.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "core/state.h"
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

/* Requests of test_retries. */
enum { STUMBLE_POST, STUMBLE_PATCH, STUMBLE_CLOSE, STUMBLE_MANIFEST, STUMBLE_TOKEN, STUMBLES };
static unsigned stumbled[STUMBLES];

static void reg_reset(void)
{
	unsigned i;

	for (i = 0; i < reg.n_sessions; i++)
		buf_free(&reg.sessions[i]);
	for (i = 0; i < reg.n_blobs; i++)
		buf_free(&reg.blobs[i].data);
	memset(&reg, 0, sizeof(reg));
}

static struct fx_blob *reg_blob(const char *digest)
{
	unsigned i;

	for (i = 0; i < reg.n_blobs; i++)
		if (!strncmp(reg.blobs[i].digest, digest, OCI_DIGEST_LEN))
			return &reg.blobs[i];
	return NULL;
}

static const char *reg_store(const struct buf *b)
{
	struct fx_blob *to = &reg.blobs[reg.n_blobs++];

	assert_true(reg.n_blobs <= ARRAY_SIZE(reg.blobs));
	buf_append(&to->data, b->data ? b->data : "", b->len);
	digest_of(to->data.data, to->data.len, to->digest);
	return to->digest;
}

static bool all_there(const struct buf *doc)
{
	const char *at = doc->data;

	while ((at = strstr(at, "\"digest\":\""))) {
		at += 10;
		if (!reg_blob(at))
			return false;
	}
	return true;
}

static void say_session(struct mock_request *r, const char *status, unsigned i)
{
	size_t len = reg.lie && !strcmp(r->method, "GET") ? 1u << 30 : reg.sessions[i].len;
	CLEANUP_FREE char *head =
		xasprintf("Location: %s/v2/r/up/%u?_state=x%%2F\r\nRange: 0-%zu\r\n",
			  reg.location ? reg.location : "", i, len ? len - 1 : 0);

	mock_reply(r, status, head, "", 0);
}

static bool on_patch(struct mock_request *r, unsigned i)
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

static bool on_upload(struct mock_request *r)
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

static bool refuses(struct mock *m, struct mock_request *r)
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

static bool on_token(struct mock_request *r)
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

static bool registry_hook(struct mock *m, struct mock_request *r)
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
static bool stranger(struct mock *m, struct mock_request *r)
{
	reg.leaked = reg.leaked || strcasestr(r->text, "Authorization:");
	if (mock_is(r, "/token")) {
		mock_reply(r, "200 OK", "", "{\"token\": \"t\"}", 14);
		return true;
	}
	return mock_is(r, "/up/") && on_upload(r);
}

/* Loads what is in the fixture: the image or index with that digest, under the name that is pushed here. */
static void store_doc(struct mock *m, struct fx *f, const char *type, const char *digest)
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

static void store_image(struct mock *m, struct fx *f, struct fx_image *im)
{
	fx_make(f, im);
	store_doc(m, f, MEDIA_OCI_MANIFEST, im->manifest);
}

static int push_to(struct mock *m, const char *repository, bool as_user, struct error **err)
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

static int push(struct mock *m, bool as_user, struct error **err)
{
	return push_to(m, "r", as_user, err);
}

static void assert_pushed(struct mock *m, struct fx_image *im, bool as_user)
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

static void test_plain(void **state)
{
	struct fx_image im = {.text = "hello", .noise = 300000};
	struct mock m = {0};

	store_image(&m, *state, &im);
	assert_pushed(&m, &im, false);
	assert_int_equal(reg.patches, 2);
	assert_int_equal(reg.ranged, 0);
	assert_pushed(&m, &im, false);
	assert_int_equal(reg.patches, 2); /* it was all there */
	assert_int_equal(reg.manifests, 2);
	mock_stop(&m);
}

static void test_k_upload_breaks_off(void **state)
{
	struct fx_image im = {.text = "hello", .noise = 300000};
	struct mock m = {0};

	store_image(&m, *state, &im);
	reg.break_at = 100000;
	assert_pushed(&m, &im, false);
	assert_int_equal(reg.asked, 1);
	assert_int_equal(reg.ranged, 1); /* the rest, not all again */
	assert_int_equal(reg.n_sessions, 2);
	mock_stop(&m);
}

static void test_k_session_lies(void **state)
{
	struct fx_image im = {.text = "hello", .noise = 300000};
	struct mock m = {0};

	store_image(&m, *state, &im);
	reg.break_at = 100000;
	reg.lie = true;
	assert_pushed(&m, &im, false);
	assert_int_equal(reg.n_sessions, 3); /* begun once more */
	mock_stop(&m);
}

static bool no_place(struct mock *m, struct mock_request *r)
{
	if (strcmp(r->method, "POST"))
		return registry_hook(m, r);
	mock_reply(r, "202 Accepted", m->other ? "Location: file:///etc/passwd\r\n" : "", "", 0);
	return true;
}

static void test_k_no_place_to_upload(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct error *e = NULL;
	struct mock m = {0};

	store_image(&m, *state, &im);
	m.hook = no_place;
	assert_int_equal(push(&m, false, &e), -1);
	fx_assert_error(e, "names no place to upload");
	e = NULL;
	m.other = 1;
	assert_int_equal(push(&m, false, &e), -1);
	fx_assert_error(e, "upload");
	assert_int_equal(reg.manifests, 0);
	mock_stop(&m);
}

static void test_basic(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct error *e = NULL;
	struct mock m = {0};

	store_image(&m, *state, &im);
	reg.want_basic = true;
	assert_int_equal(push(&m, false, &e), -1);
	fx_assert_error(e, "container registry login");
	assert_pushed(&m, &im, true);
	mock_stop(&m);
}

static void test_bearer(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0};

	store_image(&m, *state, &im);
	reg.bearer = "first";
	assert_pushed(&m, &im, true);
	assert_int_equal(reg.tokens, 1);
	assert_pushed(&m, &im, true);
	assert_int_equal(reg.tokens, 1); /* kept */
	reg.bearer = "second";           /* the first is refused from now on */
	assert_pushed(&m, &im, true);
	assert_int_equal(reg.tokens, 2);
	mock_stop(&m);
}

static void tag_again(struct mock *m, const char *repository)
{
	CLEANUP_FREE char *from = xasprintf("127.0.0.1:%d/r:t", m->port);
	CLEANUP_FREE char *to = xasprintf("127.0.0.1:%d/%s:t", m->port, repository);
	struct error *e = NULL;

	if (oci_tag(m->f->store, from, to, &e) < 0)
		fail_msg("%s", error_text(e));
}

static void assert_pulled(struct mock *m, const char *user)
{
	CLEANUP_FREE char *ref = xasprintf("127.0.0.1:%d/r:t", m->port);
	struct oci_pull_opts o = {.scheme = "auto", .user = user, .secret = PASS};
	struct json_object *image = NULL;
	struct error *e = NULL;

	if (oci_pull(m->f->store, ref, &o, NULL, &image, &e) < 0)
		fail_msg("%s", error_text(e));
	json_object_put(image);
}

/* A token is kept for what it was asked for: another action or repository has another. */
static void test_token_scopes(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct error *e = NULL;
	struct mock m = {0};

	store_image(&m, *state, &im);
	m.manifest = im.manifest;
	m.type = MEDIA_OCI_MANIFEST;
	tag_again(&m, "q");
	reg.bearer = "any";
	assert_pushed(&m, &im, true);
	assert_int_equal(reg.tokens, 1);
	assert_non_null(strcasestr(reg.scopes, "scope=repository%3Ar%3Apull%2Cpush"));
	assert_pulled(&m, USER);
	assert_int_equal(reg.tokens, 2);
	assert_non_null(strcasestr(reg.scopes, "scope=repository%3Ar%3Apull"));
	assert_null(strstr(reg.scopes, "push"));
	if (push_to(&m, "q", true, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_int_equal(reg.tokens, 3);
	assert_non_null(strcasestr(reg.scopes, "scope=repository%3Aq%3Apull%2Cpush"));
	/* All three are kept. */
	assert_pushed(&m, &im, true);
	assert_pulled(&m, USER);
	assert_int_equal(push_to(&m, "q", true, NULL), 0);
	assert_int_equal(reg.tokens, 3);
	mock_stop(&m);
}

/* A registry need not mount: it may open a session instead. */
static void test_mount_refused(void **state)
{
	struct fx_image im = {.text = "hello", .noise = 10000};
	struct error *e = NULL;
	struct mock m = {0};

	store_image(&m, *state, &im);
	tag_again(&m, "q");
	if (push_to(&m, "q", false, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_int_equal(reg.mounts, 1); /* the layer */
	assert_int_equal(reg.n_sessions, 2);
	assert_int_equal(reg.patches, 2);
	assert_non_null(reg_blob(im.layer));
	assert_non_null(reg_blob(im.config));
	assert_non_null(reg_blob(im.manifest));
	mock_stop(&m);
}

static int stumble_of(const struct mock_request *r)
{
	if (mock_is(r, "/token"))
		return STUMBLE_TOKEN;
	if (!mock_has_header(r, "Authorization: Bearer "))
		return -1;
	if (!strcmp(r->method, "PUT"))
		return mock_is(r, "/manifests/") ? STUMBLE_MANIFEST : STUMBLE_CLOSE;
	return !strcmp(r->method, "POST")    ? STUMBLE_POST
	       : !strcmp(r->method, "PATCH") ? STUMBLE_PATCH
					     : -1;
}

/* Each kind of request fails twice before it is heard, the token service once. */
static bool stumbles(struct mock *m, struct mock_request *r)
{
	CLEANUP_BUF struct buf body = {0};
	int kind = stumble_of(r);
	unsigned *n = kind < 0 ? NULL : &stumbled[kind];

	if (!n || ++*n > (kind == STUMBLE_TOKEN ? 1 : 2))
		return registry_hook(m, r);
	mock_body(r, SIZE_MAX, &body);
	if (*n == 1)
		mock_reply(r, "503 Service Unavailable", "", "busy", 4);
	else
		mock_reply(r, "429 Too Many Requests", "Retry-After: 1\r\n", "", 0);
	return true;
}

static void test_retries(void **state)
{
	struct fx_image im = {.text = "hello", .noise = 100000};
	uint64_t start = time_mono_us();
	struct mock m = {0};

	store_image(&m, *state, &im);
	memset(stumbled, 0, sizeof(stumbled));
	m.hook = stumbles;
	reg.bearer = "late";
	assert_pushed(&m, &im, true);
	assert_int_equal(stumbled[STUMBLE_POST], 4); /* two blobs */
	assert_true(stumbled[STUMBLE_PATCH] >= 4);
	assert_int_equal(stumbled[STUMBLE_CLOSE], 4);
	assert_int_equal(stumbled[STUMBLE_MANIFEST], 3);
	assert_int_equal(stumbled[STUMBLE_TOKEN], 2);
	assert_int_equal(reg.tokens, 1);
	assert_int_equal(reg.manifests, 1);
	/* Retry-After was heeded, at the least by a blob and then by the manifest. */
	assert_true(time_mono_us() - start >= 2000000);
	mock_stop(&m);
}

static void test_k_upload_elsewhere(void **state)
{
	struct fx_image im = {.text = "hello", .noise = 10000};
	struct mock m = {0}, other = {.hook = stranger};
	CLEANUP_FREE char *to = NULL;

	store_image(&m, *state, &im);
	mock_start(&other, *state);
	to = xasprintf("http://127.0.0.1:%d", other.port);
	reg.want_basic = true;
	reg.location = to;
	assert_pushed(&m, &im, true);
	assert_int_equal(reg.patches, 2);
	mock_stop(&other);
	mock_stop(&m);
}

/* The password goes to the token service that was named, not to where that one sends us. */
static void test_k_token_service_redirects(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0}, other = {.hook = stranger};
	CLEANUP_FREE char *to = NULL;
	struct error *e = NULL;

	store_image(&m, *state, &im);
	mock_start(&other, *state);
	to = xasprintf("http://127.0.0.1:%d", other.port);
	reg.bearer = "never";
	reg.token_to = to;
	assert_int_equal(push(&m, true, &e), -1);
	fx_assert_error(e, "refuses these credentials");
	assert_true(reg.tokens >= 1);
	assert_false(reg.leaked);
	mock_stop(&other);
	mock_stop(&m);
}

static bool blobs_elsewhere(struct mock *m, struct mock_request *r)
{
	CLEANUP_FREE char *head = NULL;

	if (refuses(m, r))
		return true;
	if (!mock_is(r, "/blobs/"))
		return false;
	head = xasprintf("Location: http://127.0.0.1:%d%s\r\n", m->peer->port, r->path);
	mock_reply(r, "307 Temporary Redirect", head, "", 0);
	return true;
}

static void test_k_blobs_elsewhere(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0}, other = {.hook = stranger};
	CLEANUP_FREE char *ref = NULL;
	struct oci_pull_opts o = {.scheme = "auto", .user = USER, .secret = PASS};
	struct json_object *image = NULL, *out = NULL;
	struct error *e = NULL;
	struct fx *f = *state;

	store_image(&m, f, &im);
	m.hook = blobs_elsewhere;
	m.peer = &other;
	m.manifest = im.manifest;
	m.type = MEDIA_OCI_MANIFEST;
	mock_start(&other, f);
	reg.want_basic = true;
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	assert_int_equal(oci_delete(f->store, (const char *const *)&ref, 1, false, NULL, &out, &e),
			 0);
	json_object_put(out);
	if (oci_pull(f->store, ref, &o, NULL, &image, &e) < 0)
		fail_msg("%s", error_text(e));
	json_object_put(image);
	assert_false(reg.leaked);
	mock_stop(&other);
	mock_stop(&m);
}

/* The other host wants to know who we are, and names a token service of its own. */
static bool nosy(struct mock *m, struct mock_request *r)
{
	CLEANUP_FREE char *head =
		xasprintf("WWW-Authenticate: %s realm=\"http://127.0.0.1:%d/token\"\r\n",
			  m->other ? "Basic" : "Bearer", m->port);

	m->count++;
	reg.leaked = reg.leaked || strcasestr(r->text, "Authorization:");
	if (mock_is(r, "/token"))
		reg.tokens++;
	mock_reply(r, "401 Unauthorized", head, "", 0);
	return true;
}

static void test_k_challenge_of_another(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0}, other = {.hook = nosy};
	struct oci_pull_opts o = {.scheme = "auto", .user = USER, .secret = PASS};
	struct json_object *image = NULL, *out = NULL;
	CLEANUP_FREE char *ref = NULL;
	struct fx *f = *state;

	store_image(&m, f, &im);
	m.hook = blobs_elsewhere;
	m.peer = &other;
	m.manifest = im.manifest;
	m.type = MEDIA_OCI_MANIFEST;
	mock_start(&other, f);
	reg.want_basic = true;
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	assert_int_equal(oci_delete(f->store, (const char *const *)&ref, 1, false, NULL, &out,
				    NULL),
			 0);
	json_object_put(out);
	for (other.other = 0; other.other < 2; other.other++) {
		other.count = 0;
		assert_int_equal(oci_pull(f->store, ref, &o, NULL, &image, NULL), -1);
		assert_true(other.count > 0);
		assert_int_equal(reg.tokens, 0);
		assert_false(reg.leaked);
	}
	mock_stop(&other);
	mock_stop(&m);
}

/* A token that one password got is not for who shows another. */
static void test_k_token_of_another(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct oci_push_opts o = {.scheme = "auto", .user = USER, .secret = "wrong"};
	CLEANUP_FREE char *ref = NULL;
	struct json_object *out = NULL;
	struct error *e = NULL;
	struct fx *f = *state;
	struct mock m = {0};

	store_image(&m, f, &im);
	reg.bearer = "mine";
	assert_pushed(&m, &im, true);
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	assert_int_equal(oci_push(f->store, ref, &o, NULL, &out, &e), -1);
	fx_assert_error(e, "refuses these credentials");
	assert_true(reg.tokens >= 2);
	mock_stop(&m);
}

/* An identity token is sent as a form, to the token service only. */
static bool wants_form(struct mock *m, struct mock_request *r)
{
	CLEANUP_BUF struct buf form = {0};
	CLEANUP_FREE char *head = NULL;

	reg.leaked = reg.leaked || strstr(r->text, BASIC);
	if (!mock_is(r, "/token"))
		return registry_hook(m, r);
	reg.tokens++;
	mock_body(r, 4096, &form);
	if (m->peer) {
		head = xasprintf("Location: http://127.0.0.1:%d/token\r\n", m->peer->port);
		mock_reply(r, "307 Temporary Redirect", head, "", 0);
		return true;
	}
	m->count += !strcmp(r->method, "POST") &&
		    mock_has_header(r, "Content-Type: application/x-www-form-urlencoded") &&
		    strstr(form.data, "grant_type=refresh_token&") &&
		    strcasestr(form.data, "&service=s&scope=repository%3Ar%3Apull%2Cpush") &&
		    strstr(form.data, "&refresh_token=" PASS);
	mock_reply(r, "200 OK", "", "{\"access_token\": \"named\"}", 25);
	return true;
}

static void test_identity(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct oci_push_opts o = {.scheme = "auto", .user = OCI_IDENTITY, .secret = PASS};
	struct mock m = {0}, other = {.hook = stranger};
	CLEANUP_FREE char *ref = NULL;
	struct json_object *out = NULL;
	struct error *e = NULL;
	struct fx *f = *state;

	store_image(&m, f, &im);
	m.hook = wants_form;
	reg.bearer = "named";
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	if (oci_push(f->store, ref, &o, NULL, &out, &e) < 0)
		fail_msg("%s", error_text(e));
	json_object_put(out);
	assert_int_equal(m.count, 1);
	assert_int_equal(reg.tokens, 1);
	assert_false(reg.leaked);
	/* Not to where the token service redirects to. */
	mock_start(&other, f);
	m.peer = &other;
	reg.bearer = "new";
	assert_int_equal(oci_push(f->store, ref, &o, NULL, &out, &e), -1);
	fx_assert_error(e, "redirect of a form to another host refused");
	mock_stop(&other);
	mock_stop(&m);
}

/* A challenge may name no scope: then it is to pull this repository, by form as by query. */
static bool names_no_scope(struct mock *m, struct mock_request *r)
{
	CLEANUP_BUF struct buf form = {0};
	CLEANUP_FREE char *head = NULL;

	if (mock_is(r, "/token")) {
		reg.tokens++;
		mock_body(r, 4096, &form);
		/* A scope that goes on ("pull,push") is another. */
		buf_printf(&form, "%s&", form.len ? "" : r->path);
		m->count += strcasestr(form.data, "&scope=repository%3Ar%3Apull&") != NULL;
		mock_reply(r, "200 OK", "", "{\"access_token\": \"named\"}", 25);
		return true;
	}
	if (mock_has_header(r, "Authorization: Bearer named\r\n"))
		return false;
	head = xasprintf("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\","
			 "service=\"s\"\r\n",
			 m->port);
	mock_reply(r, "401 Unauthorized", head, "", 0);
	return true;
}

static void test_no_scope(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0};

	store_image(&m, *state, &im);
	m.hook = names_no_scope;
	m.manifest = im.manifest;
	m.type = MEDIA_OCI_MANIFEST;
	assert_pulled(&m, USER);
	assert_int_equal(reg.tokens, 1);
	assert_int_equal(m.count, 1);
	assert_pulled(&m, OCI_IDENTITY);
	assert_int_equal(reg.tokens, 2);
	assert_int_equal(m.count, 2);
	mock_stop(&m);
}

/* What a registry says of an error is told, unless it says what it was told in secret. */
static bool talks(struct mock *m, struct mock_request *r)
{
	static const char *const said[] = {"over quota\\u001b[31m", PASS,
					   "dXNlcjpwYXNzd29yZC1LSw==", "abc"};
	CLEANUP_FREE char *body =
		xasprintf("{\"errors\": [{\"code\": \"DENIED\", \"message\": \"no: %s\"}]}",
			  said[m->other]);

	if (!mock_has_header(r, BASIC))
		mock_reply(r, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "", 0);
	else if (!strcmp(r->method, "HEAD"))
		mock_reply(r, "404 Not Found", "", "", 0);
	else
		mock_reply(r, "403 Forbidden", "", body, strlen(body));
	return true;
}

static void test_k_registry_talks(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct error *e = NULL;
	struct mock m = {0};

	store_image(&m, *state, &im);
	m.hook = talks;
	assert_int_equal(push(&m, true, &e), -1);
	fx_assert_error(e, "do not suffice: no: over quota [31m");
	for (m.other = 1; m.other < 3; m.other++) {
		CLEANUP_ERROR struct error *why = NULL;
		CLEANUP_FREE char *text = NULL;

		assert_int_equal(push(&m, true, &why), -1);
		text = error_text(why);
		assert_non_null(strstr(text, "do not suffice"));
		assert_null(strstr(text, "no: "));
	}
	mock_stop(&m);
}

/* ---- indexes in indexes ---- */
struct nested {
	struct fx_image amd, arm;
	const char *inner, *outer;
};

static void store_nested(struct mock *m, struct fx *f, struct nested *n)
{
	CLEANUP_BUF struct buf inner = {0}, outer = {0};

	*n = (struct nested){.amd = {.text = "amd"}, .arm = {.text = "arm", .arch = "arm64"}};
	fx_make(f, &n->arm);
	fx_make(f, &n->amd);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, n->arm.manifest, n->arm.manifest_size, "arm64", NULL);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, n->amd.manifest, n->amd.manifest_size, "amd64", NULL);
	n->inner = fx_index(f, inner.data);
	fx_entry(&outer, MEDIA_OCI_INDEX, n->inner, fx_size(f, n->inner), NULL, NULL);
	n->outer = fx_index(f, outer.data);
	store_doc(m, f, MEDIA_OCI_INDEX, n->outer);
}

/* Every document arrives as it is, below before above. */
static void test_nested(void **state)
{
	struct nested n;
	struct mock m = {0};
	unsigned i;

	store_nested(&m, *state, &n);
	assert_pushed(&m, &n.amd, false);
	assert_pushed(&m, &n.arm, false);
	assert_non_null(reg_blob(n.inner));
	assert_string_equal(reg.blobs[7].digest, n.outer); /* the last of the first push */
	for (i = 0; i < 7; i++)
		assert_string_not_equal(reg.blobs[i].digest, n.outer);
	assert_int_equal(reg.n_blobs, 8 + 1); /* the second sends the tagged one only */
	mock_stop(&m);
}

/* What of it is for one platform goes alone, under indexes that name only that. */
static void test_nested_platform(void **state)
{
	struct oci_push_opts o = {.scheme = "auto", .platform = "linux/arm64"};
	CLEANUP_FREE char *ref = NULL;
	struct json_object *out = NULL;
	struct error *e = NULL;
	struct nested n;
	struct mock m = {0};

	store_nested(&m, *state, &n);
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	if (oci_push(m.f->store, ref, &o, NULL, &out, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_int_equal(reg.n_blobs, 5);
	assert_non_null(reg_blob(n.arm.layer));
	assert_non_null(reg_blob(n.arm.config));
	assert_non_null(reg_blob(n.arm.manifest));
	assert_non_null(reg_blob(json_str(out, "digest", "")));
	assert_null(reg_blob(n.outer));
	assert_false(reg.dangling);
	json_object_put(out);
	mock_stop(&m);
}

/* Saves an image of f and loads it into a store of its own; the object of what came. */
static struct json_object *save_and_load(struct fx *f, const char *ref, const char *platform,
					 struct fx *other)
{
	struct oci_save_opts o = {.platform = platform};
	struct json_object *names = NULL, *images = NULL;
	CLEANUP_BUF struct buf none = {0};
	CLEANUP_CLOSE int fd = fx_memfd(&none);
	struct error *e = NULL;

	if (oci_save(f->store, &ref, 1, fd, &o, NULL, &names, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	if (oci_load(other->store, fd, false, NULL, &images, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_int_equal(json_object_array_length(images), 1);
	json_object_put(names);
	return images;
}

static void assert_saved(struct fx *f, const char *ref, const char *platform, const char *digest,
			 size_t n_blobs)
{
	CLEANUP_JSON struct json_object *images = NULL;
	struct json_object *im, *descriptor;
	void *state;
	struct fx *other;

	fx_setup(&state);
	other = state;
	images = save_and_load(f, ref, platform, other);
	im = json_object_array_get_idx(images, 0);
	descriptor = json_obj(json_obj(im, "configuration"), "descriptor");
	if (digest)
		assert_string_equal(json_str(descriptor, "digest", ""), digest);
	assert_string_equal(json_str(descriptor, "mediaType", ""), MEDIA_OCI_INDEX);
	assert_int_equal(json_object_array_length(json_arr(im, "variants")), digest ? 2 : 1);
	assert_int_equal(fx_count(other->store->blobs), n_blobs);
	fx_teardown(&state);
}

static void test_nested_save(void **state)
{
	CLEANUP_FREE char *ref = NULL;
	struct nested n;
	struct mock m = {0};

	store_nested(&m, *state, &n);
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	assert_saved(*state, ref, NULL, n.outer, 8);
	assert_saved(*state, ref, "linux/arm64", NULL, 5);
	mock_stop(&m);
}

/* ---- mirrors ---- */
enum { MIRROR_SERVES, MIRROR_WANTS_BASIC, MIRROR_WANTS_TOKEN, MIRRORS };

/* A mirror: `other` says what it wants. Of us it never learns more than that somebody asks. */
static bool mirror_hook(struct mock *m, struct mock_request *r)
{
	static const char token[] = "{\"token\": \"anonymous\"}";
	CLEANUP_FREE char *head = NULL;

	m->count++;
	if (mock_has_header(r, "Authorization: Bearer anonymous\r\n"))
		return false;
	reg.leaked = reg.leaked || strcasestr(r->text, "Authorization:") || mock_is(r, USER);
	if (m->other == MIRROR_SERVES)
		return false;
	if (mock_is(r, "/token")) {
		mock_reply(r, "200 OK", "", token, sizeof(token) - 1);
		return true;
	}
	head = xasprintf("WWW-Authenticate: %s realm=\"http://127.0.0.1:%d/token\"\r\n",
			 m->other == MIRROR_WANTS_BASIC ? "Basic" : "Bearer", m->port);
	mock_reply(r, "401 Unauthorized", head, "", 0);
	return true;
}

static bool counted_registry(struct mock *m, struct mock_request *r)
{
	m->count++;
	return registry_hook(m, r);
}

/* Of two mirrors the first is not there. */
static void set_mirrors(struct mock *m, struct mock *mirror)
{
	struct oci_registries o = {.stall_s = 30};
	CLEANUP_FREE char *list = NULL;
	struct mock gone = {0};

	mock_start(&gone, m->f);
	mock_stop(&gone);
	list = xasprintf("127.0.0.1:%d=http://127.0.0.1:%d, 127.0.0.1:%d=http://127.0.0.1:%d/",
			 m->port, gone.port, m->port, mirror->port);
	o.mirrors = list;
	assert_int_equal(oci_store_registries(m->f->store, &o, NULL), 0);
}

static void keep_login(struct mock *m)
{
	CLEANUP_FREE char *server = xasprintf("127.0.0.1:%d", m->port);
	struct error *e = NULL;

	if (oci_login(m->f->store, server, "auto", USER, PASS, true, NULL, NULL, &e) < 0)
		fail_msg("%s", error_text(e));
}

static void forget_image(struct mock *m)
{
	CLEANUP_FREE char *ref = xasprintf("127.0.0.1:%d/r:t", m->port);
	struct json_object *out = NULL;

	assert_int_equal(oci_delete(m->f->store, (const char *const *)&ref, 1, false, NULL, &out,
				    NULL),
			 0);
	json_object_put(out);
	assert_int_equal(fx_count(m->f->store->blobs), 0);
}

/* Neither the registry's login nor one that is kept for the mirror's host goes to a mirror. */
static void test_k_mirror(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0}, mirror = {.hook = registry_hook};
	int i;

	store_image(&m, *state, &im);
	mock_start(&mirror, *state);
	m.manifest = mirror.manifest = im.manifest;
	m.type = mirror.type = MEDIA_OCI_MANIFEST;
	reg.want_basic = true;
	keep_login(&m);
	keep_login(&mirror);
	set_mirrors(&m, &mirror);
	m.hook = counted_registry;
	mirror.hook = mirror_hook;
	for (i = 0; i < 2 * MIRRORS; i++) {
		mirror.other = i % MIRRORS;
		m.count = mirror.count = 0;
		forget_image(&m);
		/* Once with a login that comes with the call, once with that of the store. */
		assert_pulled(&m, i < MIRRORS ? USER : NULL);
		assert_false(reg.leaked);
		assert_true(mirror.count > 0);
		/* Only what the mirror does not give is asked of the registry. */
		if (mirror.other == MIRROR_WANTS_BASIC)
			assert_true(m.count > 0);
		else
			assert_int_equal(m.count, 0);
	}
	mock_stop(&mirror);
	mock_stop(&m);
}

/* ---- logins ---- */
static void assert_not_on_disk(struct fx *f, const char *secret)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(path_read_all(f->store->root, "credentials", 1 << 20, &b, NULL), 0);
	assert_null(memmem(b.data, b.len, secret, strlen(secret)));
	assert_null(memmem(b.data, b.len, USER, strlen(USER)));
}

static void login_works(struct fx *f, struct mock *m)
{
	CLEANUP_FREE char *server = xasprintf("127.0.0.1:%d", m->port), *user = NULL,
			  *secret = NULL;
	CLEANUP_JSON struct json_object *list = NULL;
	struct error *e = NULL;
	struct stat st;

	reg.want_basic = true;
	assert_int_equal(oci_login(f->store, server, "auto", USER, "wrong", true, NULL, NULL, &e),
			 -1);
	fx_assert_error(e, "refuses these credentials");
	credentials_get(f->store, server, &user, &secret);
	assert_null(user);
	e = NULL;
	if (oci_login(f->store, server, "auto", USER, PASS, true, NULL, NULL, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_not_on_disk(f, PASS);
	assert_int_equal(fstatat(f->store->root, "credentials", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	credentials_get(f->store, server, &user, &secret);
	assert_string_equal(user, USER);
	assert_string_equal(secret, PASS);
	assert_int_equal(oci_logins(f->store, &list, NULL), 0);
	assert_int_equal(json_object_array_length(list), 1);
	assert_null(strstr(json_object_to_json_string(list), PASS));
}

/* Whether this kernel gives a key back. */
static bool have_keyring(void)
{
	long serial = syscall(SYS_add_key, "user", "container:test", "x", (size_t)1, -4);
	char c;

	return serial >= 0 && syscall(SYS_keyctl, 11 /* read */, serial, &c, (size_t)1) == 1;
}

/* The key is in a file exactly where it can be nowhere else. */
static void assert_key_file(struct fx *f, bool want)
{
	struct stat st;

	assert_int_equal(fstatat(f->store->root, "credentials.key", &st, 0), want ? 0 : -1);
	if (!want)
		return;
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 32);
}

static void test_login(void **state)
{
	struct fx_image im = {.text = "hello"};
	CLEANUP_FREE char *server = NULL;
	struct error *e = NULL;
	struct mock m = {0};

	store_image(&m, *state, &im);
	login_works(*state, &m);
	assert_key_file(*state, !have_keyring());
	assert_pushed(&m, &im, false); /* as who is logged in */
	server = xasprintf("http://127.0.0.1:%d/v2/", m.port);
	assert_int_equal(oci_logout(m.f->store, server, NULL), 0);
	assert_int_equal(oci_logout(m.f->store, server, &e), -1);
	fx_assert_error(e, "not logged in");
	mock_stop(&m);
}

static void test_login_key_file(void **state)
{
	struct fx_image im = {.text = "hello"};
	unsigned char key[32];
	struct mock m = {0};

	store_image(&m, *state, &im);
	random_bytes(key, sizeof(key));
	assert_int_equal(state_write_text(m.f->store->root, "credentials.key", key, sizeof(key),
					  0600, NULL),
			 0);
	login_works(*state, &m);
	mock_stop(&m);
}

/* A thread whose kernel has no add_key(2). */
static void *without_keyring(void *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_add_key, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};
	struct mock *m = arg;
	CLEANUP_FREE char *server = xasprintf("127.0.0.1:%d", m->port);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return NULL;
	m->other = 1;
	return oci_login(m->f->store, server, "auto", USER, PASS, true, NULL, NULL, NULL) == 0
		       ? arg
		       : NULL;
}

static void test_login_no_keyring(void **state)
{
	struct fx_image im = {.text = "hello"};
	struct mock m = {0};
	pthread_t t;
	void *done;

	store_image(&m, *state, &im);
	reg.want_basic = true;
	assert_int_equal(pthread_create(&t, NULL, without_keyring, &m), 0);
	pthread_join(t, &done);
	if (!m.other) {
		mock_stop(&m);
		skip(); /* no seccomp here */
	}
	assert_non_null(done);
	assert_key_file(*state, true);
	assert_not_on_disk(*state, PASS);
	assert_pushed(&m, &im, false);
	mock_stop(&m);
}

/* What was changed on disk is noticed, nobody is logged in by it, and the next login sets it right. */
static void test_login_damaged(void **state)
{
	CLEANUP_FREE char *user = NULL, *secret = NULL, *server = NULL;
	struct fx_image im = {.text = "hello"};
	struct json_object *list = NULL;
	struct error *e = NULL;
	struct mock m = {0};
	char c;
	int fd;

	store_image(&m, *state, &im);
	login_works(*state, &m);
	server = xasprintf("127.0.0.1:%d", m.port);
	fd = openat(m.f->store->root, "credentials", O_RDWR);
	assert_int_equal(pread(fd, &c, 1, 40), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, 40), 1);
	close(fd);
	credentials_get(m.f->store, server, &user, &secret);
	assert_null(user);
	assert_int_equal(oci_logins(m.f->store, &list, &e), -1);
	fx_assert_error(e, "damaged");
	assert_int_equal(oci_login(m.f->store, server, "auto", USER, PASS, true, NULL, NULL, NULL),
			 0);
	mock_stop(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_plain, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_upload_breaks_off, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_session_lies, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_no_place_to_upload, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_basic, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_bearer, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_token_scopes, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_mount_refused, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_retries, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_upload_elsewhere, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_token_service_redirects, fx_setup,
						fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_blobs_elsewhere, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_challenge_of_another, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_token_of_another, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_identity, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_nested, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_nested_platform, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_nested_save, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_mirror, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_no_scope, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_registry_talks, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_login, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_login_key_file, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_login_no_keyring, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_login_damaged, fx_setup, fx_teardown),
	};
	int rc;

	alarm(120);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	reg_reset();
	return rc;
}
