/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - images from a tar: an OCI image layout, or what `docker save` writes.
 *
 * The archive is read once, forward, since it may come from a pipe, and what it is shows only at its
 * end. So everything that could be content is spooled into a session below content/ingest, hashed on
 * the way. Then the images are checked and unpacked from the session; when all of them are good, their blobs
 * are published and the names set. A failure anywhere leaves no name, blob or layer behind.
 */
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "oci/store.h"
#include "oci/tar.h"

#define MAX_FILES  65536
#define MAX_LINKS  8 /* followed to a layer */
#define MAX_IMAGES 256
#define COPY_BYTES (256u << 10)

/* An image to be: what its name will point at. */
struct loaded {
	char *name;
	struct oci_desc root;
};

struct load {
	struct oci_op op;
	int fd;
	bool force;
	uint64_t done;
	struct op_item item;
	struct json_object *files; /* path → {digest, size} of what was spooled */
	struct json_object *links; /* path → path, symlinks and hard links */
	struct buf index, manifest, layout;
	struct loaded *images;
	size_t n;
	void *chunk;
};

/* ---- reading the archive ---- */
/* Waits in small steps, so that a caller that gave up is noticed while a pipe is silent. */
static ssize_t input_read(void *arg, void *p, size_t n, struct error **err)
{
	struct load *l = arg;
	struct pollfd pfd = {.fd = l->fd, .events = POLLIN};
	ssize_t got;

	for (;;) {
		if (op_check(&l->op, err) < 0)
			return -1;
		if (poll(&pfd, 1, 100) == 0)
			continue;
		got = read(l->fd, p, n);
		if (got >= 0)
			break;
		if (errno != EINTR && errno != EAGAIN)
			return error_sys(err, errno, "read archive");
	}
	l->done += (uint64_t)got;
	op_item_at(&l->item, l->done);
	return got;
}

static int read_small(struct tar_reader *t, const struct tar_entry *e, struct buf *out,
		      struct error **err)
{
	ssize_t n;

	if (e->size > OCI_MAX_MANIFEST)
		return error_set(err, ERR_INVALID_ARGUMENT, "larger than 4 MiB");
	buf_free(out); /* the last member of a name counts */
	buf_reserve(out, (size_t)e->size + 1);
	while ((n = tar_read(t, out->data + out->len, (size_t)e->size - out->len, err)) > 0)
		out->len += (size_t)n;
	out->data[out->len] = '\0';
	return n < 0 ? -1 : 0;
}

/* The digest a member's path promises, "" when it makes no promise; NULL when it cannot be content. */
static const char *promised(const char *path, char digest[OCI_DIGEST_LEN + 1])
{
	static const char *const suffixes[] = {".tar", ".json", ".tar.gz", ".tgz", ".tar.zst"};
	size_t i;

	if (str_prefix(path, "blobs/sha256/")) {
		if (!digest_hex_check(path + 13))
			return NULL;
		snprintf(digest, OCI_DIGEST_LEN + 1, "sha256:%s", path + 13);
		return digest;
	}
	for (i = 0; i < ARRAY_SIZE(suffixes); i++)
		if (str_suffix(path, suffixes[i]))
			return "";
	return NULL;
}

static int spool(struct load *l, struct tar_reader *t, const struct tar_entry *e, const char *path,
		 const char *want, struct error **err)
{
	CLEANUP_BLOB_WRITER struct blob_writer w = {.fd = -1};
	char digest[OCI_DIGEST_LEN + 1];
	struct json_object *o;
	ssize_t n;

	if (json_object_object_length(l->files) >= MAX_FILES)
		return error_set(err, ERR_INVALID_ARGUMENT, "more than %d files", MAX_FILES);
	if (e->size > (uint64_t)OCI_MAX_BLOB)
		return error_set(err, ERR_INVALID_ARGUMENT, "too large");
	if (blob_writer_open(&w, &l->op, *want ? want : NULL, e->size, err) < 0)
		return -1;
	while ((n = tar_read(t, l->chunk, COPY_BYTES, err)) > 0)
		if (blob_writer_add(&w, l->chunk, (size_t)n, err) < 0)
			return -1;
	if (n < 0 || blob_writer_commit(&w, digest, err) < 0)
		return -1;
	o = json_object_new_object();
	json_set_str(o, "digest", digest);
	json_set_int(o, "size", (int64_t)e->size);
	json_set(l->files, path, o);
	return 0;
}

static int take_file(struct load *l, struct tar_reader *t, const struct tar_entry *e,
		     const char *path, struct error **err)
{
	char digest[OCI_DIGEST_LEN + 1];
	const char *want;

	if (!strcmp(path, "index.json"))
		return read_small(t, e, &l->index, err);
	if (!strcmp(path, "manifest.json"))
		return read_small(t, e, &l->manifest, err);
	if (!strcmp(path, "oci-layout"))
		return read_small(t, e, &l->layout, err);
	want = promised(path, digest);
	return want ? spool(l, t, e, path, want, err) : 0;
}

static void take_link(struct load *l, const struct tar_entry *e, const char *path)
{
	CLEANUP_FREE char *to = e->type == TAR_SYMLINK ? tar_path_link(path, e->linkname)
						       : tar_path_clean(e->linkname);

	if (to && json_object_object_length(l->links) < MAX_FILES)
		json_set_str(l->links, path, to);
}

static int take_member(struct load *l, struct tar_reader *t, const struct tar_entry *e,
		       struct error **err)
{
	CLEANUP_FREE char *path = tar_path_clean(e->path);

	if (!path) {
		if (!l->force)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "member \"%.200s\" has an unsafe path", e->path);
		op_message(&l->op, "load", "skipped member \"%.200s\": unsafe path", e->path);
		return 0;
	}
	if (e->type == TAR_FILE && take_file(l, t, e, path, err) < 0)
		return error_wrap(err, "%.200s", path);
	if (e->type == TAR_SYMLINK || e->type == TAR_HARDLINK)
		take_link(l, e, path);
	return 0;
}

static int read_members(struct load *l, const struct oci_reader *r, struct error **err)
{
	struct tar_reader *t = tar_open(r, err);
	struct tar_entry e;
	size_t members = 0;
	int rc;

	if (!t)
		return -1;
	while ((rc = tar_next(t, &e, err)) > 0) {
		members++;
		if (take_member(l, t, &e, err) < 0) {
			rc = -1;
			break;
		}
	}
	tar_close(t);
	if (rc == 0 && members == 0)
		return error_set(err, ERR_EMPTY, "it is empty");
	return rc;
}

static int read_archive(struct load *l, struct error **err)
{
	struct window window = {.op = &l->op, .stream = true};
	CLEANUP(decompress_freep) struct decompress *d = NULL;
	struct oci_reader raw = {.read = input_read, .arg = l}, plain;

	d = decompress_new(&raw, err);
	if (!d)
		return -1;
	decompress_windows(d, window_take, &window);
	plain = decompress_reader(d);
	return read_members(l, &plain, err);
}

/* ---- what is in it ---- */
static int add_image(struct load *l, const char *name, const struct oci_desc *root,
		     struct error **err)
{
	CLEANUP_FREE char *fallback = NULL;
	struct oci_ref r;

	if (l->n >= MAX_IMAGES)
		return error_set(err, ERR_INVALID_ARGUMENT, "more than %d images", MAX_IMAGES);
	if (!name)
		name = fallback = xasprintf("untagged@%s", root->digest);
	if (oci_ref_parse(name, l->op.s->default_domain, &r, err) < 0)
		return -1;
	l->images = xreallocarray(l->images, l->n + 1, sizeof(*l->images));
	l->images[l->n].name = oci_ref_string(&r);
	oci_desc_copy(&l->images[l->n].root, root);
	l->n++;
	oci_ref_free(&r);
	return 0;
}

/* What the entry is a view of (save.c), if the archive has it and it says the same: nobody sees another image than who only
 * reads the entry. False for none; the caller frees *out. */
static bool original_of(struct load *l, const struct oci_desc *d, const char *digest,
			struct oci_desc *out)
{
	CLEANUP_PICKED struct picked view = {0};
	bool index = media_is_index(d->media_type);

	*out = (struct oci_desc){0};
	if (!digest || !oci_digest_check(digest))
		return false;
	op_pin(&l->op, KEY_BLOB, digest_hex(digest));
	if (!blob_exists(l->op.s, l->op.session_fd, digest, &out->size))
		return false;
	strcpy(out->digest, digest);
	out->media_type = xstrdup(index ? MEDIA_DOCKER_LIST : MEDIA_DOCKER_MANIFEST);
	if (layout_view(&l->op, out, &view, NULL) == 0 && !strcmp(view.root.digest, d->digest))
		return true;
	oci_desc_free(out);
	return false;
}

/* One entry of index.json. */
static int add_entry(struct load *l, const struct oci_desc *d, struct json_object *json,
		     struct error **err)
{
	const char *original = json_str(json_obj(json, "annotations"), ANNOTATION_ORIGINAL, NULL);
	struct oci_desc root;
	bool is_view;
	int rc;

	if (d->attestation || (!media_is_index(d->media_type) && !media_is_manifest(d->media_type)))
		return 0;
	is_view = original_of(l, d, original, &root);
	rc = add_image(l, d->name, is_view ? &root : d, err);
	oci_desc_free(&root);
	return rc;
}

static int find_in_layout(struct load *l, struct error **err)
{
	CLEANUP_DOC struct oci_doc doc = {0};
	CLEANUP_JSON struct json_object *layout = NULL, *index = NULL;
	size_t i;

	if (l->layout.len) {
		layout = json_parse(l->layout.data, l->layout.len, err);
		if (!layout)
			return error_wrap(err, "oci-layout");
		if (!str_prefix(json_str(layout, "imageLayoutVersion", ""), "1."))
			return error_set(err, ERR_UNSUPPORTED, "layout version is not supported");
	}
	if (oci_doc_parse(l->index.data, l->index.len, NULL, &doc, err) < 0)
		return error_wrap(err, "index.json");
	if (doc.kind != OCI_DOC_INDEX)
		return error_set(err, ERR_INVALID_ARGUMENT, "index.json is not an index");
	index = json_parse(l->index.data, l->index.len, NULL); /* it parsed above */
	for (i = 0; i < doc.n; i++)
		if (add_entry(l, &doc.entries[i],
			      json_object_array_get_idx(json_arr(index, "manifests"), i), err) < 0)
			return -1;
	return 0;
}

/* A path manifest.json names, through links. */
static struct json_object *find_file(struct load *l, const char *path, struct error **err)
{
	CLEANUP_FREE char *at = tar_path_clean(path);
	int i;

	for (i = 0; at && i < MAX_LINKS; i++) {
		struct json_object *f = json_obj(l->files, at);
		const char *to = json_str(l->links, at, NULL);

		if (f)
			return f;
		if (!to)
			break;
		to = xstrdup(to);
		free(at);
		at = (char *)to;
	}
	error_set(err, ERR_INVALID_ARGUMENT, "\"%.200s\" is missing from the archive", path);
	return NULL;
}

static const char *layer_type(struct load *l, const char *digest, struct error **err)
{
	static const char *const types[] = {
		[COMPRESSION_NONE] = MEDIA_OCI_LAYER,
		[COMPRESSION_GZIP] = MEDIA_OCI_LAYER "+gzip",
		[COMPRESSION_ZSTD] = MEDIA_OCI_LAYER "+zstd",
	};
	CLEANUP_CLOSE int fd = blob_open(l->op.s, l->op.session_fd, digest, err);
	struct fd_reader in = {.fd = fd};
	struct oci_reader r = fd_reader_of(&in);
	struct decompress *d = fd < 0 ? NULL : decompress_new(&r, err);
	const char *type = d ? types[decompress_kind(d)] : NULL;

	decompress_free(d);
	return type;
}

static struct json_object *descriptor(const char *type, struct json_object *file)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "mediaType", type);
	json_set_str(o, "digest", json_str(file, "digest", ""));
	json_set_int(o, "size", json_int(file, "size", 0));
	return o;
}

/* The manifest that a docker-archive's entry stands for; its configuration is kept byte for byte. */
static struct json_object *make_manifest(struct load *l, struct json_object *entry,
					 struct error **err)
{
	CLEANUP_JSON struct json_object *m = json_object_new_object();
	struct json_object *config, *paths, *layers = json_object_new_array();
	const char *path;
	size_t i, n;

	json_set_int(m, "schemaVersion", 2);
	json_set_str(m, "mediaType", MEDIA_OCI_MANIFEST);
	json_set(m, "layers", layers);
	if (json_need_str(entry, "Config", &path, err) < 0)
		return NULL;
	config = find_file(l, path, err);
	if (!config)
		return NULL;
	json_set(m, "config", descriptor(MEDIA_OCI_CONFIG, config));
	paths = json_arr(entry, "Layers");
	n = paths ? json_object_array_length(paths) : 0;
	for (i = 0; i < n && n <= OCI_MAX_LAYERS; i++) {
		struct json_object *p = json_object_array_get_idx(paths, i), *f;
		const char *type = NULL;

		f = json_object_is_type(p, json_type_string)
			    ? find_file(l, json_object_get_string(p), err)
			    : NULL;
		if (f)
			type = layer_type(l, json_str(f, "digest", ""), err);
		else if (!json_object_is_type(p, json_type_string))
			error_set(err, ERR_INVALID_ARGUMENT, "Layers[%zu] is not a string", i);
		if (!type)
			return NULL;
		json_object_array_add(layers, descriptor(type, f));
	}
	if (n > OCI_MAX_LAYERS) {
		error_set(err, ERR_INVALID_ARGUMENT, "%zu layers, at most %d are supported", n,
			  OCI_MAX_LAYERS);
		return NULL;
	}
	return STEAL(m);
}

static int add_docker_image(struct load *l, struct json_object *entry, struct error **err)
{
	CLEANUP_JSON struct json_object *m = make_manifest(l, entry, err);
	struct json_object *tags = json_arr(entry, "RepoTags");
	struct oci_desc d = {.media_type = (char *)MEDIA_OCI_MANIFEST};
	size_t i, n = tags ? json_object_array_length(tags) : 0;
	const char *text;

	if (!m)
		return -1;
	text = json_object_to_json_string_ext(m, JSON_C_TO_STRING_PLAIN |
							 JSON_C_TO_STRING_NOSLASHESCAPE);
	d.size = strlen(text);
	if (blob_put(&l->op, text, d.size, d.digest, err) < 0)
		return -1;
	if (n == 0)
		return add_image(l, NULL, &d, err);
	for (i = 0; i < n; i++) {
		struct json_object *tag = json_object_array_get_idx(tags, i);

		if (!json_object_is_type(tag, json_type_string))
			return error_set(err, ERR_INVALID_ARGUMENT, "RepoTags[%zu] is not a string",
					 i);
		if (add_image(l, json_object_get_string(tag), &d, err) < 0)
			return -1;
	}
	return 0;
}

static int find_in_docker(struct load *l, struct error **err)
{
	CLEANUP_JSON struct json_object *arr = json_parse(l->manifest.data, l->manifest.len, err);
	size_t i, n;

	if (!arr)
		return error_wrap(err, "manifest.json");
	if (!json_object_is_type(arr, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "manifest.json is not an array");
	n = json_object_array_length(arr);
	for (i = 0; i < n; i++)
		if (add_docker_image(l, json_object_array_get_idx(arr, i), err) < 0)
			return error_wrap(err, "manifest.json[%zu]", i);
	return 0;
}

/* ---- checking and publishing ---- */
static int need_blob(struct load *l, const struct oci_desc *d, struct error **err)
{
	uint64_t have;

	op_pin(&l->op, KEY_BLOB, digest_hex(d->digest));
	if (!blob_exists(l->op.s, l->op.session_fd, d->digest, &have))
		return error_set(err, ERR_INVALID_ARGUMENT, "blob %s is missing from the archive",
				 d->digest);
	if (have != d->size)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "blob %s: size mismatch: %llu bytes instead of %llu", d->digest,
				 (unsigned long long)have, (unsigned long long)d->size);
	return 0;
}

static int check_image(struct load *l, const struct loaded *im, struct error **err)
{
	CLEANUP_VARIANTS struct variants vs = {0};
	size_t i, j;

	if (need_blob(l, &im->root, err) < 0 ||
	    variants_load(l->op.s, l->op.session_fd, &im->root, &vs, err) < 0)
		return -1;
	if (vs.n == 0)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the archive holds none of its manifests");
	for (i = 0; i < vs.n; i++) {
		const struct variant *v = &vs.v[i];

		if (need_blob(l, &v->desc, err) < 0 || need_blob(l, &v->doc.config, err) < 0)
			return -1;
		for (j = 0; j < v->doc.n; j++)
			if (need_blob(l, &v->doc.entries[j], err) < 0)
				return -1;
		if (rootfs_prepare(&l->op, &v->desc, err) < 0)
			return -1;
	}
	return 0;
}

/* Children first, so that what is visible in the store is whole. Manifests that are not here stay away. */
static int publish(struct load *l, const struct oci_desc *d, int depth, struct error **err)
{
	CLEANUP_DOC struct oci_doc doc = {0};
	size_t i;

	op_pin(&l->op, KEY_BLOB, digest_hex(d->digest));
	if (depth > OCI_MAX_DEPTH || !blob_exists(l->op.s, l->op.session_fd, d->digest, NULL))
		return 0;
	if (blob_read_doc(l->op.s, l->op.session_fd, d, &doc, err) < 0)
		return -1;
	for (i = 0; i < doc.n; i++) {
		const struct oci_desc *e = &doc.entries[i];
		int rc = 0;

		if (doc.kind == OCI_DOC_MANIFEST)
			rc = blob_publish(&l->op, e->digest, err);
		else if (!e->attestation &&
			 (media_is_index(e->media_type) || media_is_manifest(e->media_type)))
			rc = publish(l, e, depth + 1, err);
		if (rc < 0)
			return -1;
	}
	if (doc.kind == OCI_DOC_MANIFEST && blob_publish(&l->op, doc.config.digest, err) < 0)
		return -1;
	return blob_publish(&l->op, d->digest, err);
}

static int name_all(struct load *l, struct error **err)
{
	struct oci_store *s = l->op.s;
	struct json_object *names = NULL;
	size_t i;
	int rc;

	pthread_mutex_lock(&s->lock);
	if (json_object_deep_copy(s->names, &names, NULL) < 0)
		abort(); /* out of memory */
	for (i = 0; i < l->n; i++)
		json_set(names, l->images[i].name, oci_desc_to_json(&l->images[i].root));
	rc = store_names_write(s, names, err);
	json_object_put(names);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static int load_run(struct load *l, struct error **err)
{
	size_t i;

	if (op_session(&l->op, err) < 0 || read_archive(l, err) < 0)
		return -1;
	if (!l->index.len && !l->manifest.len)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "neither an OCI image layout nor a docker archive");
	if ((l->index.len ? find_in_layout : find_in_docker)(l, err) < 0)
		return -1;
	if (l->n == 0)
		return error_set(err, ERR_EMPTY, "it holds no image");
	for (i = 0; i < l->n; i++)
		if (check_image(l, &l->images[i], err) < 0)
			return error_wrap(err, "%s", l->images[i].name);
	for (i = 0; i < l->n; i++)
		if (publish(l, &l->images[i].root, 0, err) < 0)
			return error_wrap(err, "%s", l->images[i].name);
	if (op_settle(&l->op, err) < 0)
		return -1;
	return name_all(l, err);
}

static int result(struct load *l, struct json_object **images, struct error **err)
{
	CLEANUP_JSON struct json_object *arr = json_object_new_array();
	size_t i;

	for (i = 0; i < l->n; i++) {
		struct json_object *o;

		if (image_object(l->op.s, l->images[i].name, &l->images[i].root, &o, err) < 0)
			return -1;
		json_object_array_add(arr, o);
	}
	*images = STEAL(arr);
	return 0;
}

static void load_free(struct load *l)
{
	size_t i;

	for (i = 0; i < l->n; i++) {
		free(l->images[i].name);
		oci_desc_free(&l->images[i].root);
	}
	free(l->images);
	json_object_put(l->files);
	json_object_put(l->links);
	buf_free(&l->index);
	buf_free(&l->manifest);
	buf_free(&l->layout);
	free(l->chunk);
}

int oci_load(struct oci_store *s, int fd, bool force, const struct oci_progress *p,
	     struct json_object **images, struct error **err)
{
	CLEANUP(load_free) struct load l = {.fd = fd, .force = force};
	CLEANUP_JSON struct json_object *created = NULL;
	struct stat st;
	int rc;

	op_begin(&l.op, s, p);
	l.files = json_object_new_object();
	l.links = json_object_new_object();
	l.chunk = xmalloc(COPY_BYTES);
	l.item = (struct op_item){.op = &l.op, .phase = "load", .name = "archive"};
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		l.item.total = (uint64_t)st.st_size;
	rc = load_run(&l, err);
	if (rc == 0)
		rc = result(&l, images, err);
	created = json_object_get(l.op.created);
	op_end(&l.op);
	if (rc < 0) {
		store_collect(s, NULL, created, NULL, NULL);
		return error_wrap(err, "load archive");
	}
	return 0;
}
