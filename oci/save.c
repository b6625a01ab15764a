/* SPDX-License-Identifier: Apache-2.0 */
/*
 * save.c - images to a tar: an OCI image layout, or what `docker save` writes.
 *
 * The tar goes to a descriptor that may be a pipe, so it is written once, forward, and every size is known before its
 * bytes: blobs are copied as they are. docker's format wants layers uncompressed; those are first unpacked into a
 * session, which also checks their diffID. Equal images give equal archives: members have no time and no owner.
 *
 * Many who read layouts know OCI's media types only. What came in docker's is led to by a view in OCI's (layout.c); the
 * documents as they came are there beside it, and load.c prefers them.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/path.h"
#include "oci/store.h"

#define TAR_BLOCK  512
#define COPY_BYTES (256u << 10)

struct saved {
	char *name;
	struct oci_desc root;
	struct picked picked;
	struct picked view; /* of it, for a layout */
};

struct save {
	struct oci_op op;
	int fd;
	size_t step; /* what one write may take */
	struct saved *images;
	size_t n;
	struct json_object *written; /* set of members */
	struct op_item item;
	uint64_t done;
	void *chunk;
};

/* ---- tar ---- */
/* Waits in small steps, so that a caller that gave up is noticed while a pipe is full. */
static int out_write(struct save *s, const void *p, size_t n, struct error **err)
{
	const char *at = p;

	while (n) {
		struct pollfd pfd = {.fd = s->fd, .events = POLLOUT};
		ssize_t k;

		if (op_check(&s->op, err) < 0)
			return -1;
		if (poll(&pfd, 1, 100) == 0)
			continue;
		k = write(s->fd, at, MIN(n, s->step));
		if (k < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (k < 0)
			return error_sys(err, errno, "write archive");
		at += k;
		n -= (size_t)k;
		s->done += (uint64_t)k;
		op_item_at(&s->item, s->done);
	}
	return 0;
}

/* Octal digits, or base 256 for sizes of 8 GiB and more. */
static void put_number(char *field, size_t width, uint64_t v)
{
	size_t i;

	if (v >> (3 * (width - 1)) == 0) {
		snprintf(field, width, "%0*llo", (int)width - 1, (unsigned long long)v);
		return;
	}
	for (i = width; i-- > 0; v >>= 8)
		field[i] = (char)(v & 0xff);
	field[0] |= (char)0x80;
}

/* POSIX ustar; names here are short. */
static int put_header(struct save *s, const char *name, uint64_t size, struct error **err)
{
	char h[TAR_BLOCK] = {0}, sum_text[8];
	unsigned sum = 0;
	size_t i;

	snprintf(h, 100, "%s", name);
	put_number(h + 100, 8, 0444);
	put_number(h + 108, 8, 0);
	put_number(h + 116, 8, 0);
	put_number(h + 124, 12, size);
	put_number(h + 136, 12, 0);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(sum_text, sizeof(sum_text), "%06o", sum & 0777777);
	memcpy(h + 148, sum_text, 7);
	return out_write(s, h, sizeof(h), err);
}

static int put_padding(struct save *s, uint64_t size, struct error **err)
{
	static const char zeros[TAR_BLOCK];
	size_t over = size % TAR_BLOCK;

	return over ? out_write(s, zeros, TAR_BLOCK - over, err) : 0;
}

/* Whether a member of this name is still to be written. */
static bool first_time(struct save *s, const char *name)
{
	if (json_get(s->written, name))
		return false;
	json_set_bool(s->written, name, true);
	return true;
}

static int put_text(struct save *s, const char *name, const char *text, struct error **err)
{
	size_t n = strlen(text);

	if (!first_time(s, name))
		return 0;
	if (put_header(s, name, n, err) < 0 || out_write(s, text, n, err) < 0)
		return -1;
	return put_padding(s, n, err);
}

static int put_json(struct save *s, const char *name, struct json_object *o, struct error **err)
{
	return put_text(s, name,
			json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
								  JSON_C_TO_STRING_NOSLASHESCAPE),
			err);
}

/* A blob under a member's name. Its bytes are hashed on the way: an archive never holds what its name denies. */
static int put_blob(struct save *s, const char *name, const char *digest, uint64_t size,
		    struct error **err)
{
	CLEANUP_DIGEST struct digest *hash = NULL;
	CLEANUP_CLOSE int fd = -1;
	char got[OCI_DIGEST_LEN + 1];
	uint64_t left = size;

	if (!first_time(s, name))
		return 0;
	fd = blob_open(s->op.s, s->op.session_fd, digest, err);
	if (fd < 0 || put_header(s, name, size, err) < 0)
		return -1;
	hash = digest_new();
	while (left) {
		size_t n = (size_t)MIN(left, (uint64_t)COPY_BYTES);

		if (fd_pread_full(fd, s->chunk, n, (off_t)(size - left), err) < 0)
			return error_wrap(err, "blob %s", digest);
		digest_update(hash, s->chunk, n);
		if (out_write(s, s->chunk, n, err) < 0)
			return -1;
		left -= n;
	}
	digest_final(hash, got);
	if (strcmp(got, digest))
		return error_set(err, ERR_INTERNAL, "blob %s is damaged on disk", digest);
	return put_padding(s, size, err);
}

static int put_end(struct save *s, struct error **err)
{
	static const char zeros[2 * TAR_BLOCK];

	return out_write(s, zeros, sizeof(zeros), err);
}

/* ---- manifest.json: what docker reads ---- */
/* docker writes names short: "alpine:latest". What has no tag has no name there. */
static void add_repo_tag(struct json_object *tags, const char *name)
{
	static const char *const prefixes[] = {"docker.io/library/", "docker.io/"};
	size_t i;

	if (strchr(name, '@'))
		return;
	for (i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (str_prefix(name, prefixes[i])) {
			name += strlen(prefixes[i]);
			break;
		}
	}
	json_add_str(tags, name);
}

/* The entry of manifest.json for one configuration, which the archive has as `config`; names of one image share it. */
static struct json_object *docker_entry(struct json_object *list, const char *config)
{
	struct json_object *o;
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (str_eq(json_str(o, "Config", ""), config))
			return o;
	}
	o = json_object_new_object();
	json_set_str(o, "Config", config);
	json_set(o, "RepoTags", json_object_new_array());
	json_object_array_add(list, o);
	return o;
}

/* ---- OCI image layout ---- */
static char *layout_path(const char *digest)
{
	return xasprintf("blobs/sha256/%s", digest_hex(digest));
}

static int put_layout_blob(struct save *s, const struct oci_desc *d, struct error **err)
{
	CLEANUP_FREE char *name = layout_path(d->digest);

	return put_blob(s, name, d->digest, d->size, err);
}

/* One image for docker, whose daemon runs one platform; what it could not run anyway is only in the index. */
static void add_docker_view(const struct saved *im, struct json_object *list)
{
	const struct variant *v = picked_variant(&im->picked, NULL);
	struct json_object *entry, *layers;
	CLEANUP_FREE char *config = NULL;

	if (!v || v->doc.n != v->config.n)
		return;
	config = layout_path(v->doc.config.digest);
	entry = docker_entry(list, config);
	add_repo_tag(json_arr(entry, "RepoTags"), im->name);
	if (json_get(entry, "Layers"))
		return;
	layers = json_object_new_array();
	json_set(entry, "Layers", layers);
	for (size_t i = 0; i < v->doc.n; i++) {
		CLEANUP_FREE char *layer = layout_path(v->doc.entries[i].digest);

		json_add_str(layers, layer);
	}
}

/* A manifest.json that points at the layout's blobs, as docker's own `save` writes it since version 25: older ones load nothing else. */
static int put_docker_view(struct save *s, struct error **err)
{
	CLEANUP_JSON struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < s->n; i++)
		add_docker_view(&s->images[i], list);
	return json_object_array_length(list) ? put_json(s, "manifest.json", list, err) : 0;
}

/* What names an image for those who read the archive: the full name, for docker and containerd too. */
static struct json_object *index_entry(const struct saved *im)
{
	struct json_object *d = oci_desc_to_json(&im->view.root), *a = json_object_new_object();

	json_set_str(a, "io.containerd.image.name", im->name);
	json_set_str(a, ANNOTATION_REF_NAME, im->name);
	if (strcmp(im->view.root.digest, im->picked.root.digest))
		json_set_str(a, ANNOTATION_ORIGINAL, im->picked.root.digest);
	json_set(d, "annotations", a);
	return d;
}

static int put_layout_blobs(struct save *s, const struct oci_desc *v, size_t n, struct error **err)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (put_layout_blob(s, &v[i], err) < 0)
			return -1;
	return 0;
}

static int save_layout(struct save *s, struct error **err)
{
	CLEANUP_JSON struct json_object *index = json_object_new_object();
	struct json_object *arr = json_object_new_array();
	size_t i;

	json_set_int(index, "schemaVersion", 2);
	json_set_str(index, "mediaType", MEDIA_OCI_INDEX);
	json_set(index, "manifests", arr);
	for (i = 0; i < s->n; i++) {
		struct saved *im = &s->images[i];

		if (layout_view(&s->op, &im->picked.root, &im->view, err) < 0)
			return error_wrap(err, "image %s", im->name);
		json_object_array_add(arr, index_entry(im));
	}
	if (put_text(s, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err) < 0 ||
	    put_json(s, "index.json", index, err) < 0 || put_docker_view(s, err) < 0)
		return -1;
	for (i = 0; i < s->n; i++) {
		const struct picked *p = &s->images[i].picked, *v = &s->images[i].view;

		if (put_layout_blobs(s, v->docs, v->n_docs, err) < 0 ||
		    put_layout_blobs(s, p->docs, p->n_docs, err) < 0 ||
		    put_layout_blobs(s, p->blobs, p->n_blobs, err) < 0)
			return -1;
	}
	return put_end(s, err);
}

/* ---- docker-archive ---- */
/* Unpacks a layer into the session, where its name is its diffID. */
static int spool_layer(struct save *s, const char *digest, const char *diff_id, uint64_t *size,
		       struct error **err)
{
	struct window window = {.op = &s->op};
	CLEANUP_BLOB_WRITER struct blob_writer w = {.fd = -1};
	CLEANUP(decompress_freep) struct decompress *d = NULL;
	CLEANUP_CLOSE int fd = blob_open(s->op.s, -1, digest, err);
	struct fd_reader in = {.fd = fd};
	struct oci_reader raw = fd_reader_of(&in), plain;
	char got[OCI_DIGEST_LEN + 1];
	ssize_t n;

	if (fd < 0 || !(d = decompress_new(&raw, err)) ||
	    blob_writer_open(&w, &s->op, diff_id, UINT64_MAX, err) < 0)
		return -1;
	decompress_windows(d, window_take, &window);
	plain = decompress_reader(d);
	while ((n = plain.read(plain.arg, s->chunk, COPY_BYTES, err)) > 0)
		if (op_check(&s->op, err) < 0 || blob_writer_add(&w, s->chunk, (size_t)n, err) < 0)
			return -1;
	*size = w.size;
	return n < 0 ? -1 : blob_writer_commit(&w, got, err);
}

static int put_docker_layer(struct save *s, const char *name, const char *digest,
			    const char *diff_id, struct error **err)
{
	uint64_t size;
	int rc;

	if (json_get(s->written, name))
		return 0;
	if (spool_layer(s, digest, diff_id, &size, err) < 0)
		return error_wrap(err, "layer %.19s", digest);
	rc = put_blob(s, name, diff_id, size, err);
	unlinkat(s->op.session_fd, digest_hex(diff_id), 0);
	return rc;
}

static int save_docker_image(struct save *s, const struct variant *v, struct json_object *entry,
			     struct error **err)
{
	const char *config = json_str(entry, "Config", "");
	struct json_object *layers = json_object_new_array();
	size_t i;

	json_set(entry, "Layers", layers);
	if (v->doc.n != v->config.n)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "manifest has %zu layers, configuration %zu", v->doc.n,
				 v->config.n);
	if (put_blob(s, config, v->doc.config.digest, v->doc.config.size, err) < 0)
		return -1;
	for (i = 0; i < v->doc.n; i++) {
		const char *diff_id = v->config.diff_ids[i];
		CLEANUP_FREE char *name = xasprintf("%s.tar", digest_hex(diff_id));

		json_add_str(layers, name);
		if (put_docker_layer(s, name, v->doc.entries[i].digest, diff_id, err) < 0)
			return -1;
	}
	return 0;
}

static int save_docker(struct save *s, struct error **err)
{
	CLEANUP_JSON struct json_object *list = json_object_new_array();
	size_t i;

	for (i = 0; i < s->n; i++) {
		const struct saved *im = &s->images[i];
		const struct variant *v = picked_variant(&im->picked, err);
		CLEANUP_FREE char *config = NULL;
		struct json_object *entry;

		if (!v)
			return error_wrap(err, "image %s", im->name);
		config = xasprintf("%s.json", digest_hex(v->doc.config.digest));
		entry = docker_entry(list, config);
		if (!json_get(entry, "Layers") && save_docker_image(s, v, entry, err) < 0)
			return error_wrap(err, "image %s", im->name);
		add_repo_tag(json_arr(entry, "RepoTags"), im->name);
	}
	if (put_json(s, "manifest.json", list, err) < 0)
		return -1;
	return put_end(s, err);
}

/* ---- both ---- */
static int find_images(struct save *s, const char *const *refs, size_t n, struct error **err)
{
	CLEANUP_BUF struct buf missing = {0};
	size_t i;

	s->images = xcalloc(n + 1, sizeof(*s->images));
	for (i = 0; i < n; i++) {
		struct saved *im = &s->images[s->n];
		struct error *why = NULL;

		if (store_name_get(s->op.s, refs[i], &im->name, &im->root, &why) == 0) {
			s->n++;
			continue;
		}
		if (why->code != ERR_NOT_FOUND)
			return error_move(err, why);
		error_free(why);
		buf_printf(&missing, "%s%s", missing.len ? ", " : "", refs[i]);
	}
	if (missing.len)
		return error_set(err, ERR_NOT_FOUND, "image not found: %s", missing.data);
	return 0;
}

/* Everything is known to be here before the first byte goes out. */
static int pick_images(struct save *s, const char *platform, struct error **err)
{
	struct oci_platform want;
	size_t i, j;

	if (platform && oci_platform_parse(platform, &want, err) < 0)
		return -1;
	for (i = 0; i < s->n; i++) {
		struct saved *im = &s->images[i];

		if (pick_image(&s->op, &im->root, platform ? &want : NULL, &im->picked, err) < 0)
			return error_wrap(err, "image %s", im->name);
		for (j = 0; j < im->picked.n_blobs; j++)
			s->item.total += im->picked.blobs[j].size;
	}
	return 0;
}

static void save_free(struct save *s)
{
	size_t i;

	for (i = 0; i < s->n; i++) {
		free(s->images[i].name);
		oci_desc_free(&s->images[i].root);
		picked_free(&s->images[i].picked);
		picked_free(&s->images[i].view);
	}
	free(s->images);
	json_object_put(s->written);
	free(s->chunk);
}

static int save_run(struct save *s, const char *const *refs, size_t n,
		    const struct oci_save_opts *o, struct error **err)
{
	if (op_session(&s->op, err) < 0 || find_images(s, refs, n, err) < 0 ||
	    pick_images(s, o->platform, err) < 0)
		return -1;
	if (o->docker)
		s->item.total = 0; /* known only when the layers are unpacked */
	return o->docker ? save_docker(s, err) : save_layout(s, err);
}

int oci_save(struct oci_store *st, const char *const *refs, size_t n, int fd,
	     const struct oci_save_opts *o, const struct oci_progress *p,
	     struct json_object **names, struct error **err)
{
	CLEANUP(save_free) struct save s = {.fd = fd};
	struct stat sb;
	size_t i;
	int rc;

	op_begin(&s.op, st, p);
	/* A pipe that polls writable takes this much without blocking. */
	s.step = fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) ? COPY_BYTES : PIPE_BUF;
	s.item = (struct op_item){.op = &s.op, .phase = "save", .name = "archive"};
	s.written = json_object_new_object();
	s.chunk = xmalloc(COPY_BYTES);
	rc = save_run(&s, refs, n, o, err);
	op_end(&s.op);
	if (rc < 0)
		return error_wrap(err, "save");
	*names = json_object_new_array();
	for (i = 0; i < s.n; i++)
		json_add_str(*names, s.images[i].name);
	return 0;
}
