// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_nested.c - indexes in indexes, pushed, saved and loaded; and mirrors, who learn nothing of who asks (attack class K). */
#include "tests/unit/oci_mock_push.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nested, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_nested_platform, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_nested_save, fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(test_k_mirror, fx_setup, fx_teardown),
	};
	int rc;

	alarm(120);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	reg_reset();
	return rc;
}
