// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_commit.c - images with one more layer: what they are made of, and layers that nobody should believe (attack class L). */
#include "tests/unit/oci_fixture.h"

/* An image "base:1" in the store; its manifest's digest. */
static void base_image(struct fx *f, struct fx_image *im)
{
	CLEANUP_JSON struct json_object *images = NULL;
	CLEANUP_BUF struct buf entries = {0}, tar = {0};
	CLEANUP_CLOSE int fd = -1;

	fx_make(f, im);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im->manifest, im->manifest_size, NULL, "base:1");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	fd = fx_memfd(&tar);
	assert_int_equal(oci_load(f->store, fd, false, NULL, &images, NULL), 0);
}

static int commit(struct fx *f, const struct oci_commit *c, const struct buf *layer,
		  struct json_object **image, struct error **err)
{
	CLEANUP_CLOSE int fd = fx_memfd(layer);

	*image = NULL;
	return oci_commit(f->store, c, fd, NULL, image, err);
}

static void test_commit(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_JSON struct json_object *image = NULL, *config = NULL, *r = NULL, *run = NULL;
	CLEANUP_BUF struct buf tar = {0};
	struct json_object *history, *ids;
	char diff[OCI_DIGEST_LEN + 1];
	size_t n;
	int *fds;

	base_image(f, &im);
	fx_add(&tar, "new", "text", 4);
	fx_add(&tar, ".wh.file", "", 0);
	tm_end(&tar);
	digest_of(tar.data, tar.len, diff);
	run = json_object_new_object();
	json_set_str(run, "User", "7");
	assert_int_equal(commit(f,
				&(struct oci_commit){.manifest = im.manifest,
						     .reference = "made",
						     .author = "me",
						     .message = "why",
						     .config = run},
				&tar, &image, NULL),
			 0);
	assert_string_equal(json_str(json_obj(image, "configuration"), "name", ""),
			    "docker.io/library/made:latest");
	assert_int_equal(oci_resolve(f->store, "made", NULL, &r, NULL), 0);
	assert_string_equal(json_str(json_obj(r, "config"), "User", ""), "7");
	assert_int_equal(oci_config(f->store, json_str(r, "manifest", ""), &config, NULL), 0);
	assert_string_equal(json_str(config, "author", ""), "me");
	history = json_arr(config, "history");
	assert_string_equal(json_str(json_object_array_get_idx(history, 0), "comment", ""), "why");
	ids = json_arr(json_obj(config, "rootfs"), "diff_ids");
	assert_int_equal(json_object_array_length(ids), 2);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(ids, 0)), im.diff);
	assert_string_equal(json_object_get_string(json_object_array_get_idx(ids, 1)), diff);
	assert_int_equal(oci_rootfs(f->store, json_str(r, "manifest", ""), &fds, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
	assert_int_equal(fx_count(f->store->ingest), 0);
}

/* Without a name it is there too, and its configuration is the base's when none is given. */
static void test_untagged(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_JSON struct json_object *image = NULL, *list = NULL;
	CLEANUP_BUF struct buf tar = {0};

	base_image(f, &im);
	tm_end(&tar);
	assert_int_equal(commit(f, &(struct oci_commit){.manifest = im.manifest}, &tar, &image,
				NULL),
			 0);
	assert_int_equal(oci_list(f->store, &list, NULL), 0);
	assert_int_equal(json_object_array_length(list), 2);
}

/* A refused layer leaves no name, blob or layer behind. */
static void test_refused(void **state)
{
	static const char *const names[] = {"../out", "/etc/../../x", "a/../../b"};
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	struct oci_commit c = {.reference = "bad"};
	size_t blobs, layers;

	base_image(f, &im);
	c.manifest = im.manifest;
	blobs = fx_count(f->store->blobs);
	layers = fx_count(f->store->layers);
	for (size_t i = 0; i < ARRAY_SIZE(names) + 2; i++) {
		CLEANUP_ERROR struct error *e = NULL;
		CLEANUP_BUF struct buf tar = {0};
		struct json_object *image;

		if (i < ARRAY_SIZE(names)) {
			fx_add(&tar, names[i], "x", 1);
			tm_end(&tar);
		} else if (i == ARRAY_SIZE(names)) {
			fx_add(&tar, "cut", "0123456789", 10);
			tar.len = 517; /* in the midst of the file */
		} else {
			buf_puts(&tar, "this is no archive at all");
		}
		assert_int_equal(commit(f, &c, &tar, &image, &e), -1);
		assert_non_null(e);
		assert_int_equal(fx_count(f->store->blobs), blobs);
		assert_int_equal(fx_count(f->store->layers), layers);
		assert_int_equal(fx_count(f->store->ingest), 0);
		assert_int_equal(oci_resolve(f->store, "bad", NULL, &image, NULL), -1);
	}
}

static void test_bad_base(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_BUF struct buf tar = {0};
	struct json_object *image;
	static const char *const digests[] = {
		"sha256:0000000000000000000000000000000000000000000000000000000000000000", "../x",
		""};

	base_image(f, &im);
	tm_end(&tar);
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++)
		assert_int_equal(commit(f, &(struct oci_commit){.manifest = digests[i]}, &tar,
					&image, NULL),
				 -1);
	/* A configuration is no manifest. */
	assert_int_equal(commit(f, &(struct oci_commit){.manifest = im.config}, &tar, &image, NULL),
			 -1);
	assert_int_equal(
		commit(f, &(struct oci_commit){.manifest = im.manifest, .reference = "../../x"},
		       &tar, &image, NULL),
		-1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_commit),
		T(test_untagged),
		T(test_refused),
		T(test_bad_base),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
