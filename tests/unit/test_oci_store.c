// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_store.c - what is kept, what is collected, and what a crash or damage on disk does. */
#include <zstd.h>

#include "core/state.h"
#include "tests/unit/oci_mock.h"

static void load_entries(struct fx *f, const char *entries)
{
	CLEANUP_BUF struct buf tar = {0};
	CLEANUP_CLOSE int fd = -1;
	struct json_object *images = NULL;
	struct error *e = NULL;

	fx_layout_tar(f, entries, &tar);
	tm_end(&tar);
	fd = fx_memfd(&tar);
	if (oci_load(f->store, fd, false, NULL, &images, &e) < 0)
		fail_msg("%s", error_text(e));
	json_object_put(images);
}

static void load_image(struct fx *f, struct fx_image *im, const char *name)
{
	CLEANUP_BUF struct buf entries = {0};

	if (!im->manifest[0])
		fx_make(f, im);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im->manifest, im->manifest_size, NULL, name);
	load_entries(f, entries.data);
}

static int64_t drop(struct fx *f, const char *name, struct json_object *busy)
{
	CLEANUP_JSON struct json_object *out = NULL;
	struct error *e = NULL;

	if (oci_delete(f->store, &name, 1, false, busy, &out, &e) < 0)
		fail_msg("%s", error_text(e));
	return json_int(out, "reclaimed", -1);
}

static void reopen(struct fx *f)
{
	struct error *e = NULL;

	oci_store_free(f->store);
	f->store = oci_store_open(f->dir, NULL, &e);
	if (!f->store)
		fail_msg("%s", error_text(e));
}

static void write_file(struct fx *f, const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = openat(f->store->root, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text), NULL), 0);
}

static void test_lock(void **state)
{
	struct fx *f = *state;
	struct error *e = NULL;

	assert_null(oci_store_open(f->dir, NULL, &e));
	fx_assert_error(e, "another process uses this image store");
}

static void test_sweep(void **state)
{
	struct fx *f = *state;

	write_file(f, "content/ingest/blob-x", "half a blob");
	assert_int_equal(mkdirat(f->store->ingest, "tree-y", 0700), 0);
	write_file(f, "content/ingest/tree-y/data", "half a layer");
	write_file(f, ".images.json.abc", "{");
	write_file(f, "content/.index.json.abc", "{");
	reopen(f);
	fx_assert_empty(f);
	assert_int_equal(faccessat(f->store->root, ".images.json.abc", F_OK, 0), -1);
	assert_int_equal(faccessat(f->store->content, ".index.json.abc", F_OK, 0), -1);
}

static void test_names_survive(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "a"};
	CLEANUP_JSON struct json_object *index = NULL;
	struct json_object *d;

	load_image(f, &im, "a:1");
	load_image(f, &im, "b:2");
	unlinkat(f->store->content, "index.json", 0);
	reopen(f);
	assert_int_equal(json_object_object_length(f->store->names), 2);
	index = state_read(f->store->content, "index.json", NULL);
	assert_int_equal(json_object_array_length(json_arr(index, "manifests")), 2);
	d = json_object_array_get_idx(json_arr(index, "manifests"), 0);
	assert_string_equal(json_str(json_obj(d, "annotations"), ANNOTATION_REF_NAME, ""),
			    "docker.io/library/a:1");
}

static void test_damaged_names(void **state)
{
	static const char *const bad[] = {
		"{", "[]", "{\"x\":1}", "{\"x\":{}}",
		"{\"x\":{\"mediaType\":\"a\",\"digest\":\"../y\",\"size\":1}}"};
	struct fx *f = *state;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error *e = NULL;

		write_file(f, "images.json", bad[i]);
		oci_store_free(f->store);
		f->store = oci_store_open(f->dir, NULL, &e);
		assert_null(f->store);
		fx_assert_error(e, "images.json");
		/* It is kept for whoever repairs it. */
		{
			CLEANUP_FREE char *path = xasprintf("%s/images.json", f->dir);
			CLEANUP_BUF struct buf b = {0};

			assert_int_equal(path_read_all(AT_FDCWD, path, 4096, &b, NULL), 0);
			assert_string_equal(b.data, bad[i]);
			assert_int_equal(unlink(path), 0);
		}
		f->store = oci_store_open(f->dir, NULL, NULL);
		assert_non_null(f->store);
	}
}

static void test_collect_shared(void **state)
{
	struct fx *f = *state;
	struct fx_image a = {.text = "a"}, b = {.text = "b"};

	load_image(f, &a, "a:1");
	load_image(f, &a, "a:2");
	load_image(f, &b, "b");
	assert_int_equal(fx_count(f->store->blobs), 6);
	assert_int_equal(drop(f, "a:1", NULL), 0);
	assert_int_equal(fx_count(f->store->blobs), 6);
	assert_true(drop(f, "a:2", NULL) > 0);
	assert_int_equal(fx_count(f->store->blobs), 3);
	assert_int_equal(fx_count(f->store->layers), 1);
	assert_int_equal(fx_count(f->store->rootfs), 1);
	assert_true(blob_exists(f->store, -1, b.layer, NULL));
	drop(f, "b", NULL);
	fx_assert_empty(f);
}

/* An image of base's layer below one of its own. */
static void make_upon(struct fx *f, const struct fx_image *base, struct fx_image *im)
{
	CLEANUP_BUF struct buf json = {0};

	fx_make(f, im); /* for its layer */
	buf_printf(&json,
		   "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{"
		   "\"type\":\"layers\",\"diff_ids\":[\"%s\",\"%s\"]}}",
		   base->diff, im->diff);
	strcpy(im->config, fx_put(f, json.data, json.len));
	buf_consume(&json, json.len);
	buf_printf(&json,
		   "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST
		   "\",\"config\":{\"mediaType\":\"" MEDIA_OCI_CONFIG
		   "\",\"digest\":\"%s\",\"size\":%zu},\"layers\":["
		   "{\"mediaType\":\"" FX_LAYER_GZIP "\",\"digest\":\"%s\",\"size\":%zu},"
		   "{\"mediaType\":\"" FX_LAYER_GZIP "\",\"digest\":\"%s\",\"size\":%zu}]}",
		   im->config, fx_size(f, im->config), base->layer, fx_size(f, base->layer),
		   im->layer, fx_size(f, im->layer));
	strcpy(im->manifest, fx_put(f, json.data, json.len));
	im->manifest_size = json.len;
}

/* Its root file system can be had, from the caches and, without them, from its blobs. */
static void assert_rootfs(struct fx *f, const struct fx_image *im, size_t layers)
{
	int *fds, round;
	size_t i, n;

	for (round = 0; round < 2; round++) {
		struct error *e = NULL;

		if (oci_rootfs(f->store, im->manifest, &fds, &n, &e) < 0)
			fail_msg("%s", error_text(e));
		assert_int_equal(n, layers + 1);
		for (i = 0; i < n; i++)
			close(fds[i]);
		free(fds);
		path_remove_tree(f->store->rootfs, digest_hex(im->manifest), NULL);
		if (round == 0)
			path_remove_tree(f->store->layers, digest_hex(im->diff), NULL);
	}
}

/* What two images share goes with the second, whichever that is. */
static void test_collect_shared_layer(void **state)
{
	struct fx *f = *state;
	int first;

	for (first = 0; first < 2; first++) {
		struct fx_image base = {.text = "base"}, upon = {.text = "upon"};
		const char *const names[] = {"base", "upon"};
		struct stat before, after;

		fx_forget(f);
		fx_make(f, &base);
		make_upon(f, &base, &upon);
		load_image(f, &base, "base");
		load_image(f, &upon, "upon");
		assert_int_equal(fx_count(f->store->blobs), 6); /* the layer once */
		assert_int_equal(fx_count(f->store->layers), 2);
		assert_int_equal(fstatat(f->store->layers, digest_hex(base.diff), &before, 0), 0);
		assert_true(drop(f, names[first], NULL) > 0);
		assert_true(blob_exists(f->store, -1, base.layer, NULL));
		assert_int_equal(fstatat(f->store->layers, digest_hex(base.diff), &after, 0), 0);
		assert_int_equal(after.st_ino, before.st_ino);
		assert_int_equal(fx_count(f->store->blobs), first ? 3 : 4);
		assert_int_equal(fx_count(f->store->layers), first ? 1 : 2);
		assert_int_equal(fx_count(f->store->rootfs), 1);
		assert_rootfs(f, first ? &base : &upon, first ? 1 : 2);
		drop(f, names[!first], NULL);
		fx_assert_empty(f);
	}
}

/* What hangs two indexes deep is kept too. */
static void test_collect_nested(void **state)
{
	struct fx *f = *state;
	struct fx_image a = {.text = "a"}, b = {.text = "b"};
	CLEANUP_BUF struct buf inner = {0}, outer = {0}, entries = {0};
	const char *in, *out;

	fx_make(f, &a);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, a.manifest, a.manifest_size, "amd64", NULL);
	in = fx_index(f, inner.data);
	fx_entry(&outer, MEDIA_OCI_INDEX, in, fx_size(f, in), NULL, NULL);
	out = fx_index(f, outer.data);
	fx_entry(&entries, MEDIA_OCI_INDEX, out, fx_size(f, out), NULL, "nested");
	load_entries(f, entries.data);
	load_image(f, &b, "b");
	drop(f, "b", NULL);
	assert_int_equal(fx_count(f->store->blobs), 5);
	assert_int_equal(fx_count(f->store->layers), 1);
	drop(f, "nested", NULL);
	fx_assert_empty(f);
}

static void test_busy(void **state)
{
	struct fx *f = *state;
	struct fx_image a = {.text = "a"};
	CLEANUP_JSON struct json_object *busy = json_object_new_array(),
					*bad = json_object_new_array();
	CLEANUP_JSON struct json_object *out = NULL;
	struct error *e = NULL;
	size_t n;
	int *fds;

	load_image(f, &a, "a");
	json_add_str(busy, a.manifest);
	assert_int_equal(drop(f, "a", busy), 0);
	assert_int_equal(oci_rootfs(f->store, a.manifest, &fds, &n, NULL), 0);
	assert_int_equal(n, 2);
	close(fds[0]);
	close(fds[1]);
	free(fds);
	json_add_str(bad, "../../etc");
	assert_int_equal(oci_delete(f->store, NULL, 0, false, bad, &out, &e), -1);
	fx_assert_error(e, "not a digest");
	assert_int_equal(oci_delete(f->store, NULL, 0, false, NULL, &out, NULL), 0);
	fx_assert_empty(f);
}

static void test_delete_unknown(void **state)
{
	static const char *const refs[] = {"a", "nope", "neither"};
	struct fx *f = *state;
	struct fx_image a = {.text = "a"};
	struct json_object *out = NULL;
	struct error *e = NULL;

	load_image(f, &a, "a");
	assert_int_equal(oci_delete(f->store, refs, 3, false, NULL, &out, &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	fx_assert_error(e, "nope, neither");
	assert_int_equal(json_object_array_length(json_arr(out, "deleted")), 1);
	json_object_put(out);
	assert_int_equal(oci_delete(f->store, refs, 3, true, NULL, &out, NULL), 0);
	assert_int_equal(json_object_array_length(json_arr(out, "deleted")), 0);
	json_object_put(out);
	e = NULL;
	assert_int_equal(oci_inspect(f->store, refs, 3, &out, &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	fx_assert_error(e, "a, nope, neither");
}

/* A pinned thing outlives a collection that runs beside the operation. */
static void test_pins(void **state)
{
	struct fx *f = *state;
	char digest[OCI_DIGEST_LEN + 1];
	struct oci_op op;

	op_begin(&op, f->store, NULL);
	assert_int_equal(blob_put(&op, "x", 1, digest, NULL), 0);
	assert_int_equal(store_collect(f->store, NULL, NULL, NULL, NULL), 0);
	assert_true(blob_exists(f->store, -1, digest, NULL));
	op_end(&op);
	assert_int_equal(json_object_object_length(f->store->pins), 0);
	assert_int_equal(store_collect(f->store, NULL, NULL, NULL, NULL), 0);
	assert_false(blob_exists(f->store, -1, digest, NULL));
}

static void damage(struct fx *f, const char *digest)
{
	CLEANUP_CLOSE int fd = openat(f->store->blobs, digest_hex(digest), O_WRONLY);

	assert_int_equal(fd_pwrite_full(fd, "#", 1, 3, NULL), 0);
}

static void test_damaged_blob(void **state)
{
	static const char *const refs[] = {"a"};
	struct fx *f = *state;
	struct fx_image a = {.text = "a"}, b = {.text = "b"}, c = {.text = "c"};
	CLEANUP_JSON struct json_object *list = NULL;
	struct json_object *out = NULL;
	const char *name = "c";
	struct error *e = NULL;

	load_image(f, &a, "a");
	load_image(f, &b, "b");
	load_image(f, &c, "c");
	damage(f, a.manifest);
	assert_int_equal(oci_inspect(f->store, refs, 1, &out, &e), -1);
	fx_assert_error(e, "damaged on disk");
	assert_int_equal(oci_list(f->store, &list, NULL), 0);
	assert_int_equal(json_object_array_length(list), 3);
	/* Nothing is collected while it is unknown what the damaged one refers to. */
	e = NULL;
	assert_int_equal(oci_delete(f->store, &name, 1, false, NULL, &out, &e), -1);
	fx_assert_error(e, "damaged on disk");
	assert_int_equal(fx_count(f->store->blobs), 9);
	/* It can be deleted, and everything goes on. */
	drop(f, "a", NULL);
	assert_int_equal(fx_count(f->store->blobs), 3);
	drop(f, "b", NULL);
	fx_assert_empty(f);
}

/* layers/ and rootfs/ are caches: gone, they are made again; half gone too. */
static void test_rootfs_again(void **state)
{
	struct fx *f = *state;
	struct fx_image a = {.text = "a"};
	int *fds, round;
	size_t i, n;

	load_image(f, &a, "a");
	for (round = 0; round < 3; round++) {
		if (round != 1)
			path_remove_tree(f->store->layers, digest_hex(a.diff), NULL);
		if (round != 2)
			path_remove_tree(f->store->rootfs, digest_hex(a.manifest), NULL);
		assert_int_equal(oci_rootfs(f->store, a.manifest, &fds, &n, NULL), 0);
		for (i = 0; i < n; i++)
			close(fds[i]);
		free(fds);
	}
	assert_int_equal(oci_rootfs(f->store, "sha256:zz", &fds, &n, NULL), -1);
	assert_int_equal(oci_rootfs(f->store, a.config, &fds, &n, NULL), -1);
	assert_int_equal(oci_rootfs(f->store, a.diff, &fds, &n, NULL), -1);
}

struct racer {
	struct mock *m;
	int rc;
};

static void *race(void *arg)
{
	struct racer *r = arg;
	CLEANUP_FREE char *ref = xasprintf("127.0.0.1:%d/r:t", r->m->port);
	struct oci_pull_opts o = {.scheme = "auto"};
	struct json_object *image = NULL;

	r->rc = oci_pull(r->m->f->store, ref, &o, NULL, &image, NULL);
	json_object_put(image);
	return NULL;
}

static bool count_layer(struct mock *m, struct mock_request *r)
{
	m->count += mock_is(r, m->f->blobs[0].digest);
	return false;
}

/* Four pulls of one image at once, with collections in between: each blob comes over the wire once. */
static void test_concurrent_pulls(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 2 << 20};
	struct mock m = {.hook = count_layer, .type = MEDIA_OCI_MANIFEST};
	struct racer r[4];
	pthread_t t[4];
	size_t i;

	fx_make(f, &im);
	m.manifest = im.manifest;
	mock_start(&m, f);
	for (i = 0; i < 4; i++) {
		r[i] = (struct racer){.m = &m, .rc = -1};
		pthread_create(&t[i], NULL, race, &r[i]);
	}
	for (i = 0; i < 50; i++)
		assert_int_equal(store_collect(f->store, NULL, NULL, NULL, NULL), 0);
	for (i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(r[i].rc, 0);
	}
	mock_stop(&m);
	assert_int_equal(m.count, 1);
	assert_int_equal(fx_count(f->store->blobs), 3);
	assert_int_equal(fx_count(f->store->layers), 1);
	assert_int_equal(fx_count(f->store->ingest), 0);
}

/* ---- decompression ---- */
static int inflate_all(const void *p, size_t n, size_t step, struct buf *out, struct error **err)
{
	struct tm_source src = {.p = p, .len = n, .step = step};
	struct oci_reader r = {.read = tm_read, .arg = &src}, plain;
	CLEANUP(decompress_freep) struct decompress *d = decompress_new(&r, err);
	char chunk[1000];
	ssize_t got;

	if (!d)
		return -1;
	plain = decompress_reader(d);
	while ((got = plain.read(plain.arg, chunk, sizeof(chunk), err)) > 0)
		buf_append(out, chunk, (size_t)got);
	return (int)got;
}

static void test_decompress(void **state)
{
	static const size_t steps[] = {1, 3, 4096, 1 << 20};
	CLEANUP_BUF struct buf text = {0}, gz = {0}, two = {0}, z = {0};
	size_t i;

	for (i = 0; i < 5000; i++)
		buf_printf(&text, "line %zu\n", i * i);
	fx_gzip(&text, &gz);
	buf_append(&two, gz.data, gz.len);
	buf_append(&two, gz.data, gz.len);
	buf_append(&two, "\0\0\0\0", 4); /* padding */
	buf_reserve(&z, ZSTD_compressBound(text.len));
	z.len = ZSTD_compress(z.data, z.cap, text.data, text.len, 3);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		CLEANUP_BUF struct buf a = {0}, b = {0}, c = {0}, d = {0};

		assert_int_equal(inflate_all(text.data, text.len, steps[i], &a, NULL), 0);
		assert_int_equal(a.len, text.len);
		assert_int_equal(inflate_all(two.data, two.len, steps[i], &b, NULL), 0);
		assert_int_equal(b.len, 2 * text.len);
		assert_memory_equal(b.data + text.len, text.data, text.len);
		assert_int_equal(inflate_all(z.data, z.len, steps[i], &c, NULL), 0);
		assert_int_equal(c.len, text.len);
		assert_int_equal(inflate_all("", 0, steps[i], &d, NULL), 0);
		assert_int_equal(d.len, 0);
	}
	/* Cut anywhere, or followed by something else, it is an error. */
	for (i = 2; i < gz.len; i += 97) {
		CLEANUP_BUF struct buf out = {0};

		assert_int_equal(inflate_all(gz.data, i, 4096, &out, NULL), -1);
	}
	for (i = 4; i < z.len; i += 97) {
		CLEANUP_BUF struct buf out = {0};

		assert_int_equal(inflate_all(z.data, i, 4096, &out, NULL), -1);
	}
	buf_append(&two, "x", 1);
	text.len = 0;
	assert_int_equal(inflate_all(two.data, two.len, 4096, &text, NULL), -1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_lock),
		T(test_sweep),
		T(test_names_survive),
		T(test_damaged_names),
		T(test_collect_shared),
		T(test_collect_shared_layer),
		T(test_collect_nested),
		T(test_busy),
		T(test_delete_unknown),
		T(test_pins),
		T(test_damaged_blob),
		T(test_rootfs_again),
		T(test_concurrent_pulls),
		cmocka_unit_test(test_decompress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
