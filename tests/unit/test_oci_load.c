// links: oci core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_oci_load.c - archives, good and hostile: what loads, and that the rest leaves nothing behind. */
#include <pthread.h>
#include <sys/syscall.h>

#include "tests/unit/oci_fixture.h"

/* How often the file of a name was opened. */
static struct json_object *opened;

int openat(int dir, const char *path, int flags, ...)
{
	va_list ap;
	int fd;

	va_start(ap, flags);
	fd = (int)syscall(SYS_openat, dir, path, flags,
			  flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0);
	va_end(ap);
	if (fd >= 0 && opened)
		json_set_int(opened, path, json_int(opened, path, 0) + 1);
	return fd;
}

static int load(struct fx *f, const struct buf *tar, bool force, struct json_object **images,
		struct error **err)
{
	CLEANUP_CLOSE int fd = fx_memfd(tar);

	*images = NULL;
	return oci_load(f->store, fd, force, NULL, images, err);
}

static void assert_refused(struct fx *f, const struct buf *tar, const char *why)
{
	struct json_object *images;
	struct error *e = NULL;

	assert_int_equal(load(f, tar, false, &images, &e), -1);
	fx_assert_error(e, why);
	fx_assert_empty(f);
}

static const char *name_of(struct json_object *images, size_t i)
{
	struct json_object *conf = json_obj(json_object_array_get_idx(images, i), "configuration");

	return json_str(conf, "name", "");
}

/* The disk of the one image a name leads to starts with EROFS's superblock. */
static void assert_boots(struct fx *f, const char *ref)
{
	CLEANUP_JSON struct json_object *r = NULL;
	unsigned char magic[4];
	size_t i, n;
	int *fds;

	assert_int_equal(oci_resolve(f->store, ref, NULL, &r, NULL), 0);
	assert_string_equal(json_str(json_obj(r, "config"), "User", ""), "1000");
	assert_int_equal(oci_rootfs(f->store, json_str(r, "manifest", ""), &fds, &n, NULL), 0);
	assert_int_equal(fd_pread_full(fds[0], magic, 4, 1024, NULL), 0);
	assert_memory_equal(magic, "\xe2\xe1\xf5\xe0", 4);
	for (i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
}

/* One image, and the layout that holds it. */
static void simple_layout(struct fx *f, struct fx_image *im, const char *name, struct buf *tar)
{
	CLEANUP_BUF struct buf entries = {0};

	fx_make(f, im);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im->manifest, im->manifest_size, NULL, name);
	fx_layout_tar(f, entries.data, tar);
	tm_end(tar);
}

static void test_layout(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_JSON struct json_object *images = NULL, *again = NULL, *list = NULL;
	CLEANUP_BUF struct buf tar = {0}, gz = {0};
	struct json_object *v;

	simple_layout(f, &im, "demo/x:1", &tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
	assert_int_equal(json_object_array_length(images), 1);
	assert_string_equal(name_of(images, 0), "docker.io/demo/x:1");
	assert_boots(f, "demo/x:1");
	assert_int_equal(fx_count(f->store->ingest), 0);
	v = json_object_array_get_idx(json_arr(json_object_array_get_idx(images, 0), "variants"),
				      0);
	assert_string_equal(json_str(v, "digest", ""), im.manifest);
	assert_string_equal(json_str(json_obj(v, "config"), "created", ""), "2024-02-03T04:05:06Z");
	assert_string_equal(json_str(json_object_array_get_idx(images, 0), "id", ""),
			    digest_hex(im.manifest));
	/* Twice, and compressed, is the same. */
	fx_gzip(&tar, &gz);
	assert_int_equal(load(f, &gz, false, &again, NULL), 0);
	assert_int_equal(oci_list(f->store, &list, NULL), 0);
	assert_int_equal(json_object_array_length(list), 1);
	assert_int_equal(fx_count(f->store->blobs), 3);
}

static void test_names(void **state)
{
	struct fx *f = *state;
	struct fx_image a = {.text = "a"}, b = {.text = "b"};
	CLEANUP_JSON struct json_object *images = NULL;
	CLEANUP_BUF struct buf entries = {0}, tar = {0};
	CLEANUP_FREE char *untagged = NULL;

	fx_make(f, &a);
	fx_make(f, &b);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, a.manifest, a.manifest_size, NULL, NULL);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, b.manifest, b.manifest_size, NULL,
		 "localhost:5000/b");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
	untagged = xasprintf("docker.io/library/untagged@%s", a.manifest);
	assert_string_equal(name_of(images, 0), untagged);
	assert_string_equal(name_of(images, 1), "localhost:5000/b:latest");
	assert_boots(f, untagged);
}

/* An index of two platforms and an attestation, one platform's content left out. */
static void test_index(void **state)
{
	struct fx *f = *state;
	struct fx_image amd = {.text = "amd"}, arm = {.text = "arm", .arch = "arm64"};
	CLEANUP_JSON struct json_object *images = NULL, *r = NULL;
	CLEANUP_BUF struct buf inner = {0}, entries = {0}, tar = {0};
	struct error *e = NULL;
	const char *index;

	fx_make(f, &arm);
	fx_forget(f); /* arm's blobs are not in the archive */
	fx_make(f, &amd);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, arm.manifest, arm.manifest_size, "arm64", NULL);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, amd.manifest, amd.manifest_size, "amd64", NULL);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, arm.manifest, arm.manifest_size, "unknown", NULL);
	index = fx_index(f, inner.data);
	fx_entry(&entries, MEDIA_OCI_INDEX, index, fx_size(f, index), NULL, "multi");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
	assert_boots(f, "multi");
	assert_int_equal(oci_resolve(f->store, "multi", "linux/arm64", &r, &e), -1);
	assert_int_equal(e->code, ERR_NOT_FOUND);
	fx_assert_error(e, "available: linux/amd64");
}

static void test_nested_bomb(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_BUF struct buf entries = {0}, tar = {0};
	const char *bomb;

	fx_make(f, &im);
	bomb = fx_bomb(f, &im);
	fx_entry(&entries, MEDIA_OCI_INDEX, bomb, fx_size(f, bomb), NULL, "bomb");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_refused(f, &tar, "larger than 24 MiB together");
}

/* ---- what came in docker's types ---- */
static void replace(struct buf *b, const char *what, const char *with)
{
	char *at = strstr(b->data, what);
	CLEANUP_FREE char *rest = NULL;

	assert_non_null(at);
	rest = xstrdup(at + strlen(what));
	b->len = (size_t)(at - b->data);
	buf_printf(b, "%s%s", with, rest);
}

/* The image once more, in docker's types. */
static const char *in_docker_types(struct fx *f, const struct fx_image *im)
{
	CLEANUP_BUF struct buf b = {0};

	buf_puts(&b, fx_get(f, im->manifest)->data.data);
	replace(&b, MEDIA_OCI_MANIFEST, MEDIA_DOCKER_MANIFEST);
	replace(&b, MEDIA_OCI_CONFIG, MEDIA_DOCKER_CONFIG);
	replace(&b, FX_LAYER_GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip");
	return fx_put(f, b.data, b.len);
}

static void assert_is(struct json_object *images, const char *digest)
{
	struct json_object *im = json_object_array_get_idx(images, 0);

	assert_int_equal(json_object_array_length(images), 1);
	assert_string_equal(json_str(im, "id", ""), digest_hex(digest));
	assert_string_equal(name_of(images, 0), "docker.io/demo/d:1");
}

/* A saved archive leads others to a view of it in OCI's types; here it becomes again what it was. */
static void test_docker_types(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_JSON struct json_object *images = NULL, *again = NULL, *names = NULL;
	CLEANUP_BUF struct buf entries = {0}, tar = {0}, none = {0}, text = {0};
	CLEANUP_CLOSE int fd = -1;
	struct oci_save_opts o = {0};
	const char *docker, *ref = "demo/d:1";
	void *other;

	fx_make(f, &im);
	docker = in_docker_types(f, &im);
	fx_entry(&entries, MEDIA_DOCKER_MANIFEST, docker, fx_size(f, docker), NULL, ref);
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
	assert_is(images, docker);
	fd = fx_memfd(&none);
	assert_int_equal(oci_save(f->store, &ref, 1, fd, &o, NULL, &names, NULL), 0);
	fx_setup(&other);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(oci_load(((struct fx *)other)->store, fd, false, NULL, &again, NULL), 0);
	assert_is(again, docker);
	fx_teardown(&other);
	buf_reserve(&text, 4096);
	assert_int_equal(fd_pread_full(fd, text.data, 4096, 0, NULL), 0);
	/* index.json comes behind oci-layout: headers and contents are blocks of 512 bytes. */
	assert_non_null(strstr(text.data + 1536, "\"mediaType\":\"" MEDIA_OCI_MANIFEST "\""));
	assert_null(strstr(text.data + 1536, "vnd.docker"));
}

/* An entry that says to be a view of what it is not counts as what it is. */
static void test_docker_types_lie(void **state)
{
	struct fx_image im = {.text = "hello"}, evil = {.text = "evil"};
	struct fx *f = *state;
	char missing[OCI_DIGEST_LEN + 1];
	const char *lies[4];
	size_t i;

	fx_make(f, &im);
	fx_make(f, &evil);
	digest_of("x", 1, missing);
	lies[0] = in_docker_types(f, &evil);
	lies[1] = evil.manifest;
	lies[2] = missing;
	lies[3] = "../../etc/passwd";
	for (i = 0; i < ARRAY_SIZE(lies); i++) {
		CLEANUP_JSON struct json_object *images = NULL;
		CLEANUP_BUF struct buf entries = {0}, tar = {0};

		fx_entry(&entries, MEDIA_OCI_MANIFEST, im.manifest, im.manifest_size, NULL,
			 "demo/d:1");
		replace(&entries, "\"annotations\":{",
			"\"annotations\":{\"" ANNOTATION_ORIGINAL "\":\"@\",");
		replace(&entries, "@", lies[i]);
		fx_layout_tar(f, entries.data, &tar);
		tm_end(&tar);
		assert_int_equal(load(f, &tar, false, &images, NULL), 0);
		assert_is(images, im.manifest);
		assert_int_equal(fx_count(f->store->ingest), 0);
	}
}

static void test_no_layers(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {0};
	CLEANUP_JSON struct json_object *images = NULL;
	CLEANUP_BUF struct buf tar = {0};

	simple_layout(f, &im, "empty", &tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
	assert_boots(f, "empty");
}

struct dribble {
	int fd;
	const struct buf *tar;
};

static void *feeder(void *arg)
{
	struct dribble *p = arg;
	size_t i;

	/* Odd pieces: whoever reads must not rely on block boundaries. */
	for (i = 0; i < p->tar->len; i += 777)
		if (fd_write_full(p->fd, p->tar->data + i, MIN((size_t)777, p->tar->len - i),
				  NULL) < 0)
			break;
	close(p->fd);
	return NULL;
}

static void test_pipe(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 300000};
	CLEANUP_JSON struct json_object *images = NULL;
	CLEANUP_BUF struct buf tar = {0};
	struct dribble feed = {.tar = &tar};
	pthread_t t;
	int p[2];

	simple_layout(f, &im, "piped", &tar);
	assert_int_equal(pipe(p), 0);
	feed.fd = p[1];
	pthread_create(&t, NULL, feeder, &feed);
	assert_int_equal(oci_load(f->store, p[0], false, NULL, &images, NULL), 0);
	pthread_join(t, NULL);
	close(p[0]);
	assert_boots(f, "piped");
}

static bool always(void *arg)
{
	return true;
}

static void test_cancel(void **state)
{
	struct fx *f = *state;
	struct oci_progress p = {.cancelled = always};
	struct json_object *images;
	struct error *e = NULL;
	int fds[2];

	assert_int_equal(pipe(fds), 0); /* never written to */
	assert_int_equal(oci_load(f->store, fds[0], false, &p, &images, &e), -1);
	assert_int_equal(e->code, ERR_CANCELLED);
	error_free(e);
	close(fds[0]);
	close(fds[1]);
	fx_assert_empty(f);
}

/* Cut at every interesting place. */
static void test_truncated(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .noise = 5000};
	CLEANUP_BUF struct buf tar = {0}, gz = {0};
	size_t cut;

	simple_layout(f, &im, "x", &tar);
	for (cut = 0; cut + 1024 + 512 < tar.len; cut += 256) {
		struct buf part = {.data = tar.data, .len = cut};
		struct json_object *images;
		struct error *e = NULL;

		assert_int_equal(load(f, &part, false, &images, &e), -1);
		error_free(e);
		fx_assert_empty(f);
	}
	fx_gzip(&tar, &gz);
	gz.len -= 9; /* the trailer and a byte */
	assert_refused(f, &gz, "ends too early");
	gz.len += 1;
	assert_refused(f, &gz, "ends too early");
}

static void test_nothing(void **state)
{
	struct fx *f = *state;
	CLEANUP_BUF struct buf b = {0};
	char zeros[2048] = {0};

	assert_refused(f, &b, "empty");
	buf_append(&b, zeros, sizeof(zeros));
	assert_refused(f, &b, "empty");
	b.len = 0;
	fx_add(&b, "README", "x", 1);
	tm_end(&b);
	assert_refused(f, &b, "neither an OCI image layout nor a docker archive");
	b.len = 0;
	fx_add(&b, "index.json", "{\"schemaVersion\":2,\"manifests\":[]}", 34);
	tm_end(&b);
	assert_refused(f, &b, "no image");
	b.len = 0;
	memset(zeros, 'z', sizeof(zeros));
	buf_append(&b, zeros, sizeof(zeros));
	assert_refused(f, &b, "tar");
}

static void test_unsafe_paths(void **state)
{
	static const char *const bad[] = {"/etc/cron.d/x", "../x", "a/../../x",
					  "blobs/sha256/../../x", ".."};
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	size_t i;

	fx_make(f, &im);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		CLEANUP_BUF struct buf tar = {0}, entries = {0};
		CLEANUP_JSON struct json_object *images = NULL, *out = NULL;
		const char *name = "forced";

		fx_entry(&entries, MEDIA_OCI_MANIFEST, im.manifest, im.manifest_size, NULL, name);
		fx_add(&tar, bad[i], "x", 1);
		fx_layout_tar(f, entries.data, &tar);
		tm_end(&tar);
		assert_refused(f, &tar, "unsafe path");
		assert_int_equal(load(f, &tar, true, &images, NULL), 0);
		assert_boots(f, name);
		assert_int_equal(oci_delete(f->store, &name, 1, false, NULL, &out, NULL), 0);
		fx_assert_empty(f);
	}
}

/* Links in a layout are not followed; unknown members and odd names do no harm. */
static void test_odd_members(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_BUF struct buf tar = {0};
	CLEANUP_JSON struct json_object *images = NULL;

	tm_link(&tar, '2', "blobs/sha256/link", "/etc/passwd");
	tm_link(&tar, '2', "oci-layout", "/etc/passwd");
	tm_dir(&tar, "blobs/");
	tm_put(&tar, (struct tm_opts){.type = '6', .name = "fifo"});
	fx_add(&tar, "blobs/sha256/nothex", "x", 1);
	fx_add(&tar, "unknown.bin", "x", 1);
	simple_layout(f, &im, "odd", &tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
	assert_boots(f, "odd");
	assert_int_equal(fx_count(f->store->blobs), 3);
}

static void test_blob_mismatch(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_BUF struct buf tar = {0}, entries = {0};

	fx_make(f, &im);
	fx_get(f, im.layer)->data.data[20] ^= 1;
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im.manifest, im.manifest_size, NULL, "x");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_refused(f, &tar, "digest mismatch");
}

static void test_missing_blob(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_BUF struct buf tar = {0}, entries = {0};

	fx_make(f, &im);
	buf_free(&f->blobs[0].data); /* the layer, made first */
	f->blobs[0] = f->blobs[--f->n];
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im.manifest, im.manifest_size, NULL, "x");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_refused(f, &tar, "missing from the archive");
}

static void test_diff_id_mismatch(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {
		.text = "hello",
		.diff_id =
			"sha256:1111111111111111111111111111111111111111111111111111111111111111"};
	CLEANUP_BUF struct buf tar = {0};

	simple_layout(f, &im, "x", &tar);
	assert_refused(f, &tar, "diffID mismatch");
}

static void test_wrong_size(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello"};
	CLEANUP_BUF struct buf tar = {0}, entries = {0};

	fx_make(f, &im);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, im.manifest, im.manifest_size + 1, NULL, "x");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_refused(f, &tar, "size mismatch");
}

static void test_foreign_layer(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello",
			      .layer_type =
				      "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"};
	CLEANUP_BUF struct buf tar = {0};

	simple_layout(f, &im, "x", &tar);
	assert_refused(f, &tar, "not supported");
}

/* One good and one bad image: neither comes in. */
static void test_all_or_nothing(void **state)
{
	struct fx *f = *state;
	struct fx_image good = {.text = "good"};
	struct fx_image bad = {
		.text = "bad",
		.diff_id =
			"sha256:1111111111111111111111111111111111111111111111111111111111111111"};
	CLEANUP_BUF struct buf tar = {0}, entries = {0};

	fx_make(f, &good);
	fx_make(f, &bad);
	fx_entry(&entries, MEDIA_OCI_MANIFEST, good.manifest, good.manifest_size, NULL, "good");
	fx_entry(&entries, MEDIA_OCI_MANIFEST, bad.manifest, bad.manifest_size, NULL, "bad");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_refused(f, &tar, "diffID mismatch");
}

/* ---- docker archives ---- */
static void docker_tar(struct fx *f, struct fx_image *im, const char *manifest, struct buf *tar)
{
	struct fx_blob *layer = fx_get(f, im->layer), *config = fx_get(f, im->config);

	fx_add(tar, "abc/VERSION", "1.0", 3);
	tm_link(tar, '2', "abc/layer.tar", "../layers/one.tar");
	tm_link(tar, '2', "evil/layer.tar", "../../../etc/passwd");
	tm_link(tar, '2', "loop.tar", "loop.tar");
	fx_add(tar, "layers/one.tar", layer->data.data, layer->data.len);
	fx_add(tar, "config.json", config->data.data, config->data.len);
	fx_add(tar, "manifest.json", manifest, strlen(manifest));
	tm_end(tar);
}

static void test_docker_archive(void **state)
{
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .plain = true};
	CLEANUP_BUF struct buf tar = {0}, back = {0};
	CLEANUP_JSON struct json_object *images = NULL;

	fx_make(f, &im);
	docker_tar(f, &im,
		   "[{\"Config\":\"config.json\",\"RepoTags\":[\"a:1\",\"b:2\"],"
		   "\"Layers\":[\"abc/layer.tar\"]}]",
		   &tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
	assert_string_equal(name_of(images, 0), "docker.io/library/a:1");
	assert_string_equal(name_of(images, 1), "docker.io/library/b:2");
	assert_boots(f, "a:1");
	assert_boots(f, "b:2");
	/* The configuration is kept byte for byte, the layer as it is. */
	assert_int_equal(blob_read(f->store, -1, im.config, 65536, &back, NULL), 0);
	assert_int_equal(back.len, fx_size(f, im.config));
	assert_true(blob_exists(f->store, -1, im.diff, NULL));
}

static void test_docker_bad(void **state)
{
	static const char *const t[][2] = {
		{"[{\"Config\":\"config.json\",\"Layers\":[\"evil/layer.tar\"]}]",
		 "missing from the archive"},
		{"[{\"Config\":\"config.json\",\"Layers\":[\"loop.tar\"]}]",
		 "missing from the archive"},
		{"[{\"Config\":\"config.json\",\"Layers\":[\"../layers/one.tar\"]}]", "missing"},
		{"[{\"Config\":\"nope.json\",\"Layers\":[]}]", "missing from the archive"},
		{"[{\"Config\":\"layers/one.tar\",\"Layers\":[]}]", "configuration"},
		{"[{\"Config\":\"config.json\",\"Layers\":[]}]", "layers"},
		{"[{\"Config\":\"config.json\",\"Layers\":[1]}]", "not a string"},
		{"[{\"Config\":\"config.json\",\"RepoTags\":[\"../../x\"],\"Layers\":[\"layers/"
		 "one.tar\"]}]",
		 "invalid image reference"},
		{"[{\"Config\":\"config.json\",\"RepoTags\":[7],\"Layers\":[\"layers/one.tar\"]}]",
		 "not a string"},
		{"[{}]", "Config"},
		{"[]", "no image"},
		{"{}", "not an array"},
		{"[{\"Config\":\"config.json\",\"Layers\":[\"layers/one.tar\",\"layers/"
		 "one.tar\"]}]",
		 "layers"},
	};
	struct fx *f = *state;
	struct fx_image im = {.text = "hello", .plain = true};
	size_t i;

	fx_make(f, &im);
	for (i = 0; i < ARRAY_SIZE(t); i++) {
		CLEANUP_BUF struct buf tar = {0};

		docker_tar(f, &im, t[i][0], &tar);
		assert_refused(f, &tar, t[i][1]);
	}
}

/* ---- and out again ---- */
/* Two platforms; what is not asked for is there as well. */
static void load_both(struct fx *f, struct fx_image *amd, struct fx_image *arm)
{
	CLEANUP_JSON struct json_object *images = NULL;
	CLEANUP_BUF struct buf inner = {0}, entries = {0}, tar = {0};
	const char *index;

	fx_make(f, arm);
	fx_make(f, amd);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, arm->manifest, arm->manifest_size, "arm64", NULL);
	fx_entry(&inner, MEDIA_OCI_MANIFEST, amd->manifest, amd->manifest_size, "amd64", NULL);
	index = fx_index(f, inner.data);
	fx_entry(&entries, MEDIA_OCI_INDEX, index, fx_size(f, index), NULL, "multi");
	fx_layout_tar(f, entries.data, &tar);
	tm_end(&tar);
	assert_int_equal(load(f, &tar, false, &images, NULL), 0);
}

static int save(struct fx *f, const struct oci_save_opts *o, struct buf *out, struct error **err)
{
	CLEANUP_CLOSE int fd = memfd_create("saved", MFD_CLOEXEC);
	CLEANUP_JSON struct json_object *names = NULL;
	const char *refs[] = {"multi"};

	if (oci_save(f->store, refs, 1, fd, o, NULL, &names, err) < 0)
		return -1;
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd_read_all(fd, 64u << 20, out, err);
}

/* manifest.json names that image, and not the other. */
static void assert_docker_has(const struct buf *tar, const struct fx_image *it,
			      const struct fx_image * not )
{
	const char *at = memmem(tar->data, tar->len, "[{\"Config\":", 11);
	CLEANUP_FREE char *line = NULL;

	assert_non_null(at);
	line = xstrndup(at, strcspn(at, "]"));
	assert_non_null(strstr(line, digest_hex(it->config)));
	assert_null(strstr(line, digest_hex(not ->config)));
}

/* A document is read once, however many ways the archive tells of it; copying it is the second time it is opened. */
static void assert_read_once(const struct fx_image *im, int manifest)
{
	assert_int_equal(json_int(opened, digest_hex(im->manifest), 0), manifest);
	assert_int_equal(json_int(opened, digest_hex(im->config), 0), 2);
}

static void test_save_reads_once(void **state)
{
	struct fx *f = *state;
	struct fx_image amd = {.text = "amd"}, arm = {.text = "arm", .arch = "arm64"};
	struct oci_save_opts all = {0}, docker = {.docker = true},
			     one = {.docker = true, .platform = "linux/arm64"},
			     none = {.docker = true, .platform = "linux/s390x"};
	CLEANUP_BUF struct buf a = {0}, b = {0}, c = {0}, d = {0};
	struct error *e = NULL;

	load_both(f, &amd, &arm);
	opened = json_object_new_object();
	assert_int_equal(save(f, &all, &a, NULL), 0);
	assert_read_once(&amd, 2);
	assert_read_once(&arm, 2);
	assert_docker_has(&a, &amd, &arm);
	json_object_put(opened);
	opened = json_object_new_object();
	assert_int_equal(save(f, &docker, &b, NULL), 0);
	assert_read_once(&amd, 1);
	assert_docker_has(&b, &amd, &arm);
	json_object_put(STEAL(opened));
	assert_int_equal(save(f, &one, &c, NULL), 0);
	assert_docker_has(&c, &arm, &amd);
	assert_int_equal(save(f, &none, &d, &e), -1);
	fx_assert_error(e, "available: linux/arm64, linux/amd64");
	assert_int_equal(fx_count(f->store->ingest), 0);
}

/* An image for two other hosts: docker, which runs one platform, is told to choose; the layout has both. */
static void test_save_for_others(void **state)
{
	struct fx *f = *state;
	struct fx_image a = {.text = "a", .arch = "s390x"}, b = {.text = "b", .arch = "ppc64le"};
	struct oci_save_opts layout = {0}, docker = {.docker = true};
	CLEANUP_BUF struct buf tar = {0}, none = {0};
	struct error *e = NULL;

	load_both(f, &a, &b);
	assert_int_equal(save(f, &docker, &none, &e), -1);
	fx_assert_error(e, "no content for platform linux/amd64 (available: linux/ppc64le, "
			   "linux/s390x)");
	assert_int_equal(save(f, &layout, &tar, NULL), 0);
	assert_null(memmem(tar.data, tar.len, "manifest.json", 13));
	assert_non_null(memmem(tar.data, tar.len, digest_hex(a.layer), OCI_HEX_LEN));
	assert_non_null(memmem(tar.data, tar.len, digest_hex(b.layer), OCI_HEX_LEN));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_layout),          T(test_names),
		T(test_index),           T(test_nested_bomb),
		T(test_docker_types),    T(test_docker_types_lie),
		T(test_no_layers),       T(test_pipe),
		T(test_cancel),          T(test_truncated),
		T(test_nothing),         T(test_unsafe_paths),
		T(test_odd_members),     T(test_blob_mismatch),
		T(test_missing_blob),    T(test_diff_id_mismatch),
		T(test_wrong_size),      T(test_foreign_layer),
		T(test_all_or_nothing),  T(test_docker_archive),
		T(test_docker_bad),      T(test_save_reads_once),
		T(test_save_for_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
