// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_pull.c - attack class K: registries that lie, stall, redirect and break off. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "tests/unit/oci_mock.h"

static int pull(struct mock *m, const struct oci_progress *p, struct error **err)
{
	CLEANUP_FREE char *ref = xasprintf("127.0.0.1:%d/r:t", m->port);
	struct oci_pull_opts o = {.scheme = "auto"};
	struct json_object *image = NULL;
	int rc = oci_pull(m->f->store, ref, &o, p, &image, err);

	json_object_put(image);
	return rc;
}

static void assert_pulls(struct mock *m)
{
	struct error *e = NULL;

	if (pull(m, NULL, &e) < 0)
		fail_msg("%s", error_text(e));
	assert_int_equal(json_object_object_length(m->f->store->names), 1);
	assert_int_equal(fx_count(m->f->store->ingest), 0);
}

/* Refused, with no name and no temporary file left. */
static void assert_refused(struct mock *m, const char *why)
{
	struct error *e = NULL;

	assert_int_equal(pull(m, NULL, &e), -1);
	fx_assert_error(e, why);
	assert_int_equal(json_object_object_length(m->f->store->names), 0);
	assert_int_equal(fx_count(m->f->store->ingest), 0);
}

static void serve_image(struct mock *m, struct fx *f, struct fx_image *im)
{
	fx_make(f, im);
	m->manifest = im->manifest;
	m->type = MEDIA_OCI_MANIFEST;
	mock_start(m, f);
}

static void test_plain(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 100000};
	struct mock m = {0};

	serve_image(&m, f, &im);
	assert_pulls(&m);
	assert_int_equal(fx_count(f->store->blobs), 3);
	assert_int_equal(fx_count(f->store->layers), 1);
	assert_int_equal(fx_count(f->store->rootfs), 1);
	mock_stop(&m);
}

/* Counts what is asked for of attestations: blobs 0 to 5 are theirs. */
static bool sees_attestations(struct mock *m, struct mock_request *r)
{
	size_t i;

	for (i = 0; i < 6; i++)
		m->count += mock_is(r, m->f->blobs[i].digest);
	return false;
}

static void test_platforms(void **state)
{
	struct fx *f = *state;
	struct fx_image amd = {.text = "amd"}, arm = {.text = "arm", .arch = "arm64"};
	struct fx_image unknown = {.text = "unknown"}, marked = {.text = "marked"};
	CLEANUP_BUF struct buf entries = {0}, outer = {0};
	CLEANUP_FREE char *ref = NULL;
	struct oci_pull_opts o = {.scheme = "auto", .platform = "linux/s390x"};
	struct json_object *image = NULL;
	struct error *e = NULL;
	struct mock m = {.hook = sees_attestations, .type = MEDIA_OCI_INDEX};
	const char *inner;

	fx_make(f, &unknown);
	fx_make(f, &marked);
	fx_make(f, &arm);
	fx_make(f, &amd);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, arm.manifest, arm.manifest_size, "arm64", NULL);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, amd.manifest, amd.manifest_size, NULL, NULL);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, unknown.manifest, unknown.manifest_size, "unknown",
		 NULL);
	/* Only the annotation tells. */
	fx_entry(&entries, MEDIA_OCI_MANIFEST, marked.manifest, marked.manifest_size, NULL, NULL);
	entries.data[--entries.len] = '\0';
	buf_puts(&entries, ",\"annotations\":{\"vnd.docker.reference.type\":"
			   "\"attestation-manifest\"}}");
	inner = fx_index(f, entries.data);
	fx_entry(&outer, MEDIA_OCI_INDEX, inner, fx_size(f, inner), NULL, NULL);
	m.manifest = fx_index(f, outer.data);
	mock_start(&m, f);
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	assert_int_equal(oci_pull(f->store, ref, &o, NULL, &image, &e), -1);
	fx_assert_error(
		e, "no content for platform linux/s390x (available: linux/arm64, linux/amd64)");
	assert_pulls(&m);
	assert_true(blob_exists(f->store, -1, amd.layer, NULL));
	assert_false(blob_exists(f->store, -1, arm.manifest, NULL));
	o = (struct oci_pull_opts){.all_platforms = true, .scheme = "http"};
	assert_int_equal(oci_pull(f->store, ref, &o, NULL, &image, NULL), 0);
	assert_int_equal(json_object_array_length(json_arr(image, "variants")), 2);
	json_object_put(image);
	assert_true(blob_exists(f->store, -1, arm.layer, NULL));
	mock_stop(&m);
	assert_int_equal(m.count, 0);
	assert_false(blob_exists(f->store, -1, unknown.manifest, NULL));
	assert_false(blob_exists(f->store, -1, marked.manifest, NULL));
}

static void test_nested_too_deep(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {.type = MEDIA_OCI_INDEX};
	CLEANUP_BUF struct buf leaf = {0};
	const char *at;
	int i;

	fx_make(f, &im);
	fx_entry(&leaf, MEDIA_OCI_MANIFEST, im.manifest, im.manifest_size, "amd64", NULL);
	at = fx_index(f, leaf.data);
	for (i = 0; i < OCI_MAX_DEPTH; i++) {
		CLEANUP_BUF struct buf b = {0};

		fx_entry(&b, MEDIA_OCI_INDEX, at, fx_size(f, at), NULL, NULL);
		at = fx_index(f, b.data);
	}
	m.manifest = at;
	mock_start(&m, f);
	assert_refused(&m, "nested deeper");
	mock_stop(&m);
}

static void test_nested_bomb(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct oci_pull_opts o = {.scheme = "auto", .all_platforms = true};
	struct mock m = {.type = MEDIA_OCI_INDEX};
	CLEANUP_FREE char *ref = NULL;
	struct json_object *image = NULL;
	struct error *e = NULL;

	fx_make(f, &im);
	m.manifest = fx_bomb(f, &im);
	mock_start(&m, f);
	assert_refused(&m, "larger than 24 MiB together");
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	assert_int_equal(oci_pull(f->store, ref, &o, NULL, &image, &e), -1);
	fx_assert_error(e, "larger than 24 MiB together");
	mock_stop(&m);
}

static void test_confused_documents(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {0};
	const struct fx_blob *b;
	CLEANUP_BUF struct buf both = {0};

	serve_image(&m, f, &im);
	m.type = MEDIA_OCI_INDEX; /* the header says index, the body is a manifest */
	assert_refused(&m, "manifest");
	m.type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
	assert_refused(&m, "manifest");
	m.type = MEDIA_OCI_MANIFEST;
	b = fx_get(f, im.manifest);
	buf_append(&both, b->data.data, b->data.len - 1);
	buf_puts(&both, ",\"manifests\":[]}");
	m.manifest = fx_put(f, both.data, both.len);
	assert_refused(&m, "index and a manifest at once");
	mock_stop(&m);
	assert_int_equal(fx_count(f->store->blobs), 0);
}

/* Each blob in turn is not what its digest says. */
static void test_digest_mismatch(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_BUF struct buf entries = {0};
	struct mock m = {.type = MEDIA_OCI_INDEX};
	const char *victims[3];
	size_t i;

	fx_make(f, &im);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im.manifest, im.manifest_size, "amd64", NULL);
	m.manifest = fx_index(f, entries.data);
	mock_start(&m, f);
	victims[0] = im.manifest;
	victims[1] = im.config;
	victims[2] = im.layer;
	for (i = 0; i < 3; i++) {
		char *p = fx_get(f, victims[i])->data.data;
		size_t at = fx_size(f, victims[i]) / 2;

		p[at] ^= 1;
		assert_refused(&m, "digest mismatch");
		assert_false(blob_exists(f->store, -1, victims[i], NULL));
		p[at] ^= 1;
	}
	assert_pulls(&m);
	mock_stop(&m);
}

static void test_digest_reference(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct oci_pull_opts o = {.scheme = "auto"};
	CLEANUP_FREE char *ref = NULL;
	struct json_object *image = NULL;
	struct error *e = NULL;
	struct mock m = {0};

	serve_image(&m, f, &im);
	ref = xasprintf("127.0.0.1:%d/r@%s", m.port, im.manifest);
	fx_get(f, im.manifest)->data.data[2] ^= 1;
	assert_int_equal(oci_pull(f->store, ref, &o, NULL, &image, &e), -1);
	fx_assert_error(e, "digest mismatch");
	fx_get(f, im.manifest)->data.data[2] ^= 1;
	assert_int_equal(oci_pull(f->store, ref, &o, NULL, &image, NULL), 0);
	assert_string_equal(json_str(json_obj(image, "configuration"), "name", ""), ref);
	json_object_put(image);
	mock_stop(&m);
}

static bool endless(struct mock *m, struct mock_request *r)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
	static char junk[65536];
	int i;

	if (!mock_is(r, m->count ? "/blobs/" : "/manifests/"))
		return false;
	mock_send(r, head, sizeof(head) - 1);
	for (i = 0; i < 4096; i++) { /* 256 MiB, if the client lets it */
		if (send(r->fd, junk, sizeof(junk), MSG_NOSIGNAL) <= 0)
			break;
		m->other = i;
	}
	return true;
}

static void test_endless_bodies(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {.hook = endless};

	serve_image(&m, f, &im);
	assert_refused(&m, "larger than 4 MiB");
	assert_true(m.other < 1024);
	m.count = 1;
	assert_refused(&m, "more than the");
	mock_stop(&m);
	assert_true(m.other < 1024);
}

/* Less than promised, by length, by chunks, and by a lie in the header. */
static bool short_blob(struct mock *m, struct mock_request *r)
{
	static const char *const answers[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: "
		"close\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes "
		"0-2/9\r\n"
		"Connection: close\r\n\r\nabc",
	};

	if (!mock_is(r, "/blobs/"))
		return false;
	mock_send(r, answers[m->count], strlen(answers[m->count]));
	return true;
}

static void test_short_bodies(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {.hook = short_blob};

	serve_image(&m, f, &im);
	for (m.count = 0; m.count < 4; m.count++)
		assert_refused(&m, "size mismatch");
	mock_stop(&m);
}

/* Breaks every transfer of the layer in the middle; goes on where asked to. */
static bool breaks_off(struct mock *m, struct mock_request *r)
{
	struct fx_blob *b = &m->f->blobs[0];
	const char *range = strstr(r->text, "Range: bytes=");
	size_t from = range ? strtoul(range + 13, NULL, 10) : 0;
	CLEANUP_FREE char *head = NULL;

	if (!mock_is(r, b->digest))
		return false;
	m->count++;
	if (range)
		m->other++;
	head = xasprintf("HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %zu\r\n"
			 "Content-Range: bytes %zu-%zu/%zu\r\n\r\n",
			 from ? "206 Partial Content" : "200 OK", b->data.len - from, from,
			 b->data.len - 1, b->data.len);
	mock_send(r, head, strlen(head));
	mock_send(r, b->data.data + from,
		  MIN(b->data.len - from, m->peer ? 1200000 : b->data.len * 2 / 5));
	return true;
}

static void test_resume(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 500000};
	struct mock m = {.hook = breaks_off};

	serve_image(&m, f, &im);
	assert_pulls(&m);
	assert_int_equal(m.count, 3);
	assert_int_equal(m.other, 2);
	mock_stop(&m);
}

/* A transfer that breaks more often than one may fail, but gets on. */
static void test_resume_often(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 6000000};
	struct mock m = {.hook = breaks_off};

	m.peer = &m;
	serve_image(&m, f, &im);
	assert_pulls(&m);
	assert_true(m.count > 4);
	assert_int_equal(m.other, m.count - 1);
	mock_stop(&m);
}

/* Asked to go on, the server starts over, or elsewhere. */
static bool ignores_range(struct mock *m, struct mock_request *r)
{
	struct fx_blob *b = &m->f->blobs[0];
	CLEANUP_FREE char *head = NULL;

	if (!mock_is(r, b->digest))
		return false;
	if (m->count++ == 0) {
		head = xasprintf("HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", b->data.len);
		mock_send(r, head, strlen(head));
		mock_send(r, b->data.data, b->data.len / 2);
		return true;
	}
	if (!m->other)
		return false;
	head = xasprintf("HTTP/1.1 206 Partial Content\r\nContent-Length: %zu\r\n"
			 "Content-Range: bytes 1-2/3\r\nConnection: close\r\n\r\n",
			 b->data.len);
	mock_send(r, head, strlen(head));
	mock_send(r, b->data.data, b->data.len);
	return true;
}

static void test_range_ignored(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 500000};
	struct mock m = {.hook = ignores_range, .other = 1};

	serve_image(&m, f, &im);
	assert_refused(&m, "another byte");
	m.count = m.other = 0;
	assert_pulls(&m);
	mock_stop(&m);
}

static bool overloaded(struct mock *m, struct mock_request *r)
{
	if (m->count >= 2)
		return false;
	if (m->count++ == 0)
		mock_reply(r, "503 Service Unavailable", "", "busy", 4);
	else
		mock_reply(r, "429 Too Many Requests", "Retry-After: 1\r\n", "", 0);
	return true;
}

static bool always_500(struct mock *m, struct mock_request *r)
{
	m->count++;
	mock_reply(r, "500 Internal Server Error", "", "", 0);
	return true;
}

static void test_retries(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {.hook = overloaded};
	uint64_t start = time_mono_us();

	serve_image(&m, f, &im);
	assert_pulls(&m);
	assert_int_equal(m.count, 2);
	assert_true(time_mono_us() - start >= 1000000); /* Retry-After was heeded */
	m.hook = always_500;
	m.count = 0;
	{
		struct error *e = NULL;

		assert_int_equal(pull(&m, NULL, &e), -1);
		fx_assert_error(e, "answered 500");
	}
	assert_int_equal(m.count, 4);
	mock_stop(&m);
}

/* ---- tokens and redirects ---- */
/* Wants a token for everything under /v2/; count: tokens given, other: wrong things seen. */
static bool wants_token(struct mock *m, struct mock_request *r)
{
	CLEANUP_FREE char *challenge = NULL;

	if (mock_is(r, "/token")) {
		m->count++;
		if (mock_has_header(r, "Authorization:") || !strcasestr(r->path, "service=s%26x") ||
		    !strcasestr(r->path, "scope=repository%3Ar%3Apull"))
			m->other++;
		mock_reply(r, "200 OK", "", "{\"token\":\"secret1\"}", 19);
		return true;
	}
	if (mock_has_header(r, "Authorization: Bearer secret1\r\n")) {
		if (!m->peer || !mock_is(r, "/blobs/"))
			return false;
		challenge =
			xasprintf("Location: http://127.0.0.1:%d%s\r\n", m->peer->port, r->path);
		mock_reply(r, "307 Temporary Redirect", challenge, "", 0);
		return true;
	}
	challenge = xasprintf("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\","
			      "service=\"s&x\"\r\n",
			      m->port);
	mock_reply(r, "401 Unauthorized", challenge, "", 0);
	return true;
}

/* Another host: counts what it should never see. */
static bool sees_no_secrets(struct mock *m, struct mock_request *r)
{
	m->count++;
	if (mock_has_header(r, "Authorization") || strstr(r->text, "secret1"))
		m->other++;
	return false;
}

static void test_token(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock cdn = {.hook = sees_no_secrets};
	struct mock m = {.hook = wants_token, .peer = &cdn};

	mock_start(&cdn, f);
	serve_image(&m, f, &im);
	assert_pulls(&m);
	assert_int_equal(m.count, 1); /* one token for the whole pull */
	assert_int_equal(m.other, 0);
	assert_int_equal(cdn.count, 2); /* config and layer came from there */
	assert_int_equal(cdn.other, 0);
	mock_stop(&m);
	mock_stop(&cdn);
}

static bool never_satisfied(struct mock *m, struct mock_request *r)
{
	CLEANUP_FREE char *challenge = NULL;

	m->count++;
	if (mock_is(r, "/token")) {
		mock_reply(r, "200 OK", "", "{\"access_token\":\"abc\"}", 22);
		return true;
	}
	challenge = xasprintf("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\"\r\n",
			      m->port);
	mock_reply(r, "401 Unauthorized", challenge, "", 0);
	return true;
}

static bool evil_token(struct mock *m, struct mock_request *r)
{
	static const char *const bodies[] = {"{\"token\":\"a\\r\\nX-Evil: 1\"}",
					     "{\"token\":\"\"}",
					     "{}",
					     "[]",
					     "",
					     "{\"token\":7}"};

	if (!mock_is(r, "/token"))
		return never_satisfied(m, r);
	mock_reply(r, "200 OK", "", bodies[m->other], strlen(bodies[m->other]));
	return true;
}

static bool basic_only(struct mock *m, struct mock_request *r)
{
	mock_reply(r, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "", 0);
	return true;
}

static bool odd_realm(struct mock *m, struct mock_request *r)
{
	static const char *const realms[] = {"file:///etc/passwd", "gopher://127.0.0.1/x",
					     "relative", "http://user:pw@127.0.0.1/x"};
	CLEANUP_FREE char *challenge =
		xasprintf("WWW-Authenticate: Bearer realm=\"%s\"\r\n", realms[m->other]);

	mock_reply(r, "401 Unauthorized", challenge, "", 0);
	return true;
}

static void test_bad_auth(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {.hook = never_satisfied};

	serve_image(&m, f, &im);
	assert_refused(&m, "access denied");
	assert_true(m.count < 10);
	m.hook = evil_token;
	for (m.other = 0; m.other < 6; m.other++)
		assert_refused(&m, "token");
	m.hook = basic_only;
	assert_refused(&m, "access denied");
	m.hook = odd_realm;
	for (m.other = 0; m.other < 4; m.other++)
		assert_refused(&m, "token service");
	mock_stop(&m);
}

static bool redirects(struct mock *m, struct mock_request *r)
{
	static const char *const to[] = {"file:///etc/passwd", "ftp://127.0.0.1/x", "",
					 "http://u:p@127.0.0.1/", "gopher://127.0.0.1:1/_x"};
	CLEANUP_FREE char *head = NULL;

	if (m->other < 0) /* round and round */
		head = xasprintf("Location: /v2/r/manifests/%d\r\n", m->count++);
	else
		head = xasprintf("Location: %s\r\n", to[m->other]);
	mock_reply(r, "302 Found", head, "", 0);
	return true;
}

static void test_redirects(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {.hook = redirects, .other = -1};

	serve_image(&m, f, &im);
	assert_refused(&m, "more than 5 redirects");
	assert_int_equal(m.count, 6);
	for (m.other = 0; m.other < 5; m.other++) {
		struct error *e = NULL;

		assert_int_equal(pull(&m, NULL, &e), -1);
		error_free(e);
	}
	mock_stop(&m);
	fx_assert_empty(f);
}

/* ---- what the image itself may do wrong ---- */
static void test_bad_image(void **state)
{
	struct fx *f = *state;
	struct fx_image diff = {
		.text = "a",
		.diff_id =
			"sha256:1111111111111111111111111111111111111111111111111111111111111111"};
	struct fx_image foreign = {
		.text = "b",
		.layer_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"};
	struct mock m = {0};

	serve_image(&m, f, &diff);
	assert_refused(&m, "diffID mismatch");
	assert_int_equal(fx_count(f->store->layers), 0);
	fx_make(f, &foreign);
	m.manifest = foreign.manifest;
	assert_refused(&m, "foreign layers");
	assert_false(blob_exists(f->store, -1, foreign.layer, NULL));
	mock_stop(&m);
}

static void test_nobody_there(void **state)
{
	struct fx *f = *state;
	struct oci_pull_opts o = {.scheme = "auto"};
	struct json_object *image;
	CLEANUP_FREE char *ref = NULL;
	struct error *e = NULL;
	struct mock m = {0};

	mock_start(&m, f);
	mock_stop(&m); /* the port is free again */
	ref = xasprintf("127.0.0.1:%d/r", m.port);
	assert_int_equal(oci_pull(f->store, ref, &o, NULL, &image, &e), -1);
	fx_assert_error(e, ": Connection refused");
}

static bool stalls(struct mock *m, struct mock_request *r)
{
	struct timespec t = {.tv_sec = 1};

	m->count = 1;
	nanosleep(&t, NULL);
	return true;
}

static bool after_request(void *arg)
{
	return ((struct mock *)arg)->count;
}

static void test_cancel(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct mock m = {.hook = stalls};
	struct oci_progress p = {.arg = &m, .cancelled = after_request};
	struct error *e = NULL;

	serve_image(&m, f, &im);
	assert_int_equal(pull(&m, &p, &e), -1);
	assert_int_equal(e->code, ERR_CANCELLED);
	error_free(e);
	mock_stop(&m);
	fx_assert_empty(f);
}

/* A store on a file system of 2 MiB, in a mount namespace of its own. */
/* ---- the pipeline ---- */
/* Whether a layer is being unpacked: something has been written to its data. */
static bool unpacking(struct fx *f)
{
	int fd = openat(f->store->ingest, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fdopendir(fd);
	struct dirent *e;
	bool found = false;

	while ((e = readdir(d)) && !found) {
		CLEANUP_FREE char *path = xasprintf("%s/data.tmp", e->d_name);
		struct stat st;

		found = str_prefix(e->d_name, "tree-") &&
			fstatat(f->store->ingest, path, &st, 0) == 0 && st.st_size > 0;
	}
	closedir(d);
	return found;
}

/* Sends a layer but for its end, which waits until the unpacker has written something. */
static bool waits_for_unpacking(struct mock *m, struct mock_request *r)
{
	struct fx_blob *b = &m->f->blobs[0];
	CLEANUP_FREE char *head = NULL;
	int i;

	if (!mock_is(r, b->digest))
		return false;
	head = xasprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
			 b->data.len);
	mock_send(r, head, strlen(head));
	mock_send(r, b->data.data, b->data.len - 1000);
	for (i = 0; i < 1000 && !unpacking(m->f); i++)
		usleep(20000);
	m->other = unpacking(m->f);
	mock_send(r, b->data.data + b->data.len - 1000, 1000);
	return true;
}

static void test_unpacks_along(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 3 << 20};
	struct mock m = {.hook = waits_for_unpacking};

	serve_image(&m, f, &im);
	assert_pulls(&m);
	assert_true(m.other);
	mock_stop(&m);
}

/* The same tar in another gzip of the same length: unpacking finds nothing wrong, the digest does. */
static bool repacks(struct mock *m, struct mock_request *r)
{
	struct fx_blob *b = &m->f->blobs[0];

	if (!mock_is(r, b->digest))
		return false;
	b->data.data[4] ^= 1; /* the header's time */
	mock_reply(r, "200 OK", "", b->data.data, b->data.len);
	b->data.data[4] ^= 1;
	return true;
}

static void test_digest_decides(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 300000};
	struct mock m = {.hook = repacks};

	serve_image(&m, f, &im);
	assert_refused(&m, "digest mismatch");
	assert_int_equal(fx_count(f->store->layers), 0);
	m.hook = NULL;
	assert_pulls(&m);
	mock_stop(&m);
}

/* Counts what is fetched of the layer; the first waits, half sent, until the other registry has been asked for the image. */
static bool counts(struct mock *m, struct mock_request *r)
{
	struct fx_blob *b = &m->f->blobs[0];
	CLEANUP_FREE char *head = NULL;
	int i;

	if (mock_is(r, "/manifests/t"))
		m->other++;
	if (!mock_is(r, b->digest))
		return false;
	m->count++;
	head = xasprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
			 b->data.len);
	mock_send(r, head, strlen(head));
	mock_send(r, b->data.data, b->data.len / 2);
	for (i = 0; i < 1000 && !m->peer->other; i++)
		usleep(20000);
	usleep(300000); /* the other gets to the layer, or asks for it */
	mock_send(r, b->data.data + b->data.len / 2, b->data.len - b->data.len / 2);
	return true;
}

static void *pull_thread(void *arg)
{
	return pull(arg, NULL, NULL) == 0 ? arg : NULL;
}

static void test_shared_download(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 1 << 20};
	struct mock a = {.hook = counts}, b = {.hook = counts};
	pthread_t t[2];
	void *ok;

	a.peer = &b;
	b.peer = &a;
	serve_image(&a, f, &im);
	b.manifest = a.manifest;
	b.type = a.type;
	mock_start(&b, f);
	assert_int_equal(pthread_create(&t[0], NULL, pull_thread, &a), 0);
	assert_int_equal(pthread_create(&t[1], NULL, pull_thread, &b), 0);
	pthread_join(t[0], &ok);
	assert_non_null(ok);
	pthread_join(t[1], &ok);
	assert_non_null(ok);
	assert_int_equal(a.other + b.other, 2);
	assert_int_equal(a.count + b.count, 1);
	assert_int_equal(json_object_object_length(f->store->names), 2);
	mock_stop(&a);
	mock_stop(&b);
}

static void test_full_disk(void **state)
{
	struct fx *f = *state;
	struct fx_image small = {.text = "small"}, big = {.text = "big", .noise = 4 << 20};
	CLEANUP_JSON struct json_object *r = NULL;
	CLEANUP_FREE char *ref = NULL;
	struct error *e = NULL;
	struct mock m = {0};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip(); /* needs CAP_SYS_ADMIN */
	oci_store_free(f->store);
	assert_int_equal(mount("none", f->dir, "tmpfs", 0, "size=2m"), 0);
	f->store = oci_store_open(f->dir, NULL, NULL);
	assert_non_null(f->store);
	serve_image(&m, f, &small);
	assert_pulls(&m);
	fx_make(f, &big);
	m.manifest = big.manifest;
	assert_int_equal(pull(&m, NULL, &e), -1);
	fx_assert_error(e, "No space left on device");
	assert_int_equal(fx_count(f->store->ingest), 0);
	assert_int_equal(fx_count(f->store->blobs), 3); /* the small image's */
	ref = xasprintf("127.0.0.1:%d/r:t", m.port);
	assert_int_equal(oci_resolve(f->store, ref, NULL, &r, NULL), 0);
	assert_string_equal(json_str(r, "manifest", ""), small.manifest);
	mock_stop(&m);
	oci_store_free(f->store);
	f->store = NULL;
	assert_int_equal(umount(f->dir), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_plain),
		T(test_platforms),
		T(test_nested_too_deep),
		T(test_nested_bomb),
		T(test_confused_documents),
		T(test_digest_mismatch),
		T(test_digest_reference),
		T(test_endless_bodies),
		T(test_short_bodies),
		T(test_resume),
		T(test_range_ignored),
		T(test_retries),
		T(test_resume_often),
		T(test_token),
		T(test_bad_auth),
		T(test_redirects),
		T(test_bad_image),
		T(test_nobody_there),
		T(test_cancel),
		T(test_unpacks_along),
		T(test_digest_decides),
		T(test_shared_download),
		T(test_full_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
