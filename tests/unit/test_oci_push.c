// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_oci_push.c - pushes to registries good and bad; attack class K: uploads that break off, sessions that lie,
 * and everybody who would like to see a password.
 */
#include "tests/unit/oci_mock_push.h"

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

/* Requests of test_retries. */
enum { STUMBLE_POST, STUMBLE_PATCH, STUMBLE_CLOSE, STUMBLE_MANIFEST, STUMBLE_TOKEN, STUMBLES };
static unsigned stumbled[STUMBLES];

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
		cmocka_unit_test_setup_teardown(test_no_scope, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_registry_talks, fx_setup, fx_teardown),
	};
	int rc;

	alarm(120);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	reg_reset();
	return rc;
}
