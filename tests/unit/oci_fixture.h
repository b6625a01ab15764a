/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci_fixture.h - small images made in memory, archives of them, and a scratch store.
 *
 * An fx holds blobs by digest; a test breaks one of them, or the JSON that names it, before it goes into
 * an archive or a mock registry.
 */
#ifndef TESTS_OCI_FIXTURE_H
#define TESTS_OCI_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <zlib.h>

#include "core/path.h"
#include "oci/store.h"
#include "tests/unit/tar_make.h"

struct fx_blob {
	char digest[OCI_DIGEST_LEN + 1];
	struct buf data;
};

struct fx {
	char dir[64]; /* scratch directory, the store's app root */
	struct oci_store *store;
	struct fx_blob blobs[64];
	size_t n;
};

UNUSED static int fx_setup(void **state)
{
	struct fx *f = xcalloc(1, sizeof(*f));
	struct error *e = NULL;

	strcpy(f->dir, "/tmp/test-oci-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->store = oci_store_open(f->dir, NULL, &e);
	assert_non_null(f->store);
	*state = f;
	return 0;
}

UNUSED static void fx_forget(struct fx *f)
{
	while (f->n)
		buf_free(&f->blobs[--f->n].data);
}

UNUSED static int fx_teardown(void **state)
{
	struct fx *f = *state;

	oci_store_free(f->store);
	path_remove_tree(AT_FDCWD, f->dir, NULL);
	fx_forget(f);
	free(f);
	return 0;
}

UNUSED static const char *fx_put(struct fx *f, const void *p, size_t n)
{
	struct fx_blob *b = &f->blobs[f->n++];

	assert_true(f->n <= ARRAY_SIZE(f->blobs));
	*b = (struct fx_blob){0};
	buf_append(&b->data, p, n);
	digest_of(p, n, b->digest);
	return b->digest;
}

UNUSED static struct fx_blob *fx_get(struct fx *f, const char *digest)
{
	size_t i;

	for (i = 0; i < f->n; i++)
		if (!strcmp(f->blobs[i].digest, digest))
			return &f->blobs[i];
	return NULL;
}

/* ---- archives ---- */
UNUSED static void fx_add(struct buf *out, const char *path, const void *p, size_t n)
{
	tm_put(out, (struct tm_opts){.type = '0', .name = path, .data = p, .len = n});
}

UNUSED static void fx_gzip(const struct buf *in, struct buf *out)
{
	z_stream z = {0};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
	buf_reserve(out, deflateBound(&z, in->len) + 64);
	z.next_in = (unsigned char *)in->data;
	z.avail_in = (unsigned)in->len;
	z.next_out = (unsigned char *)out->data;
	z.avail_out = (unsigned)out->cap - 1;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->len = z.total_out;
	deflateEnd(&z);
}

/* ---- images ---- */
#define FX_LAYER_GZIP MEDIA_OCI_LAYER "+gzip"

/* A manifest with one gzip layer holding `text` at /file (no layer when NULL). Its parts can be overridden. */
struct fx_image {
	const char *arch, *text, *layer_type, *diff_id;
	size_t noise; /* bytes of incompressible data at /noise */
	bool plain;   /* layer not compressed */
	char layer[OCI_DIGEST_LEN + 1], config[OCI_DIGEST_LEN + 1], manifest[OCI_DIGEST_LEN + 1];
	char diff[OCI_DIGEST_LEN + 1];
	size_t manifest_size;
};

UNUSED static size_t fx_size(struct fx *f, const char *digest)
{
	return fx_get(f, digest)->data.len;
}

UNUSED static void fx_make(struct fx *f, struct fx_image *im)
{
	CLEANUP_BUF struct buf tar = {0}, gz = {0}, json = {0};

	if (im->text) {
		fx_add(&tar, "file", im->text, strlen(im->text));
		if (im->noise) {
			CLEANUP_FREE char *noise = xmalloc(im->noise);

			random_bytes(noise, im->noise);
			fx_add(&tar, "noise", noise, im->noise);
		}
		tm_end(&tar);
		digest_of(tar.data, tar.len, im->diff);
		fx_gzip(&tar, &gz);
		strcpy(im->layer,
		       im->plain ? fx_put(f, tar.data, tar.len) : fx_put(f, gz.data, gz.len));
	}
	buf_printf(&json,
		   "{\"architecture\":\"%s\",\"os\":\"linux\",\"created\":\"2024-02-03T04:05:06."
		   "789Z\","
		   "\"config\":{\"Cmd\":[\"/"
		   "file\"],\"User\":\"1000\"},\"rootfs\":{\"type\":\"layers\","
		   "\"diff_ids\":[",
		   im->arch ? im->arch : "amd64");
	if (im->text)
		buf_printf(&json, "\"%s\"", im->diff_id ? im->diff_id : im->diff);
	buf_puts(&json, "]}}");
	strcpy(im->config, fx_put(f, json.data, json.len));
	buf_consume(&json, json.len);
	buf_printf(&json,
		   "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST
		   "\",\"config\":{\"mediaType\":\"%s\","
		   "\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
		   MEDIA_OCI_CONFIG, im->config, fx_size(f, im->config));
	if (im->text)
		buf_printf(&json, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}",
			   im->layer_type ? im->layer_type
			   : im->plain    ? MEDIA_OCI_LAYER
					  : FX_LAYER_GZIP,
			   im->layer, fx_size(f, im->layer));
	buf_puts(&json, "]}");
	strcpy(im->manifest, fx_put(f, json.data, json.len));
	im->manifest_size = json.len;
}

/* {"schemaVersion":2,"manifests":[…]} around the given descriptors' text. */
UNUSED static const char *fx_index(struct fx *f, const char *entries)
{
	CLEANUP_BUF struct buf json = {0};

	buf_printf(&json,
		   "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":[%s]}",
		   entries);
	return fx_put(f, json.data, json.len);
}

UNUSED static void fx_entry(struct buf *out, const char *type, const char *digest, size_t size,
			    const char *arch, const char *name)
{
	buf_printf(out, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu",
		   out->len ? "," : "", type, digest, size);
	if (arch)
		buf_printf(out, ",\"platform\":{\"os\":\"%s\",\"architecture\":\"%s\"}",
			   strcmp(arch, "unknown") ? "linux" : "unknown", arch);
	if (name)
		buf_printf(out, ",\"annotations\":{\"" ANNOTATION_REF_NAME "\":\"%s\"}", name);
	buf_puts(out, "}");
}

/* An index that names another a thousand times, and that one a manifest as often: a million documents in three. */
UNUSED static const char *fx_bomb(struct fx *f, const struct fx_image *im)
{
	CLEANUP_BUF struct buf inner = {0}, outer = {0};
	const char *digest;
	int i;

	for (i = 0; i < 1000; i++)
		fx_entry(&inner, MEDIA_OCI_MANIFEST, im->manifest, im->manifest_size, "amd64",
			 NULL);
	digest = fx_index(f, inner.data);
	for (i = 0; i < 1000; i++)
		fx_entry(&outer, MEDIA_OCI_INDEX, digest, fx_size(f, digest), NULL, NULL);
	return fx_index(f, outer.data);
}

/* Every blob under its digest, then the layout's two files. */
UNUSED static void fx_layout_tar(struct fx *f, const char *entries, struct buf *out)
{
	CLEANUP_BUF struct buf index = {0};
	const char *layout = "{\"imageLayoutVersion\":\"1.0.0\"}";
	size_t i;

	for (i = 0; i < f->n; i++) {
		CLEANUP_FREE char *path =
			xasprintf("blobs/sha256/%s", digest_hex(f->blobs[i].digest));

		fx_add(out, path, f->blobs[i].data.data, f->blobs[i].data.len);
	}
	buf_printf(&index, "{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
	fx_add(out, "oci-layout", layout, strlen(layout));
	fx_add(out, "index.json", index.data, index.len);
}

/* ---- looking at a store ---- */
UNUSED static size_t fx_count(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fdopendir(fd);
	struct dirent *e;
	size_t n = 0;

	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* Nothing came in: no blob, layer, root file system, name or leftover. */
UNUSED static void fx_assert_empty(struct fx *f)
{
	assert_int_equal(fx_count(f->store->ingest), 0);
	assert_int_equal(fx_count(f->store->blobs), 0);
	assert_int_equal(fx_count(f->store->layers), 0);
	assert_int_equal(fx_count(f->store->rootfs), 0);
	assert_int_equal(json_object_object_length(f->store->names), 0);
}

UNUSED static int fx_memfd(const struct buf *b)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, b->data ? b->data : "", b->len, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* The error's whole text holds `part`; frees it. */
UNUSED static void fx_assert_error(struct error *e, const char *part)
{
	CLEANUP_FREE char *text = NULL;

	assert_non_null(e);
	text = error_text(e);
	if (!strstr(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
	error_free(e);
}

#endif
