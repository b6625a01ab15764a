/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.c - content/ as an OCI image layout that other tools read.
 *
 * content/index.json repeats the names of images.json. What came in docker's media types is kept as it came, byte for byte, but
 * readers of layouts look for OCI's types only: for them the index leads to a view, the same document said in OCI's types, over
 * the same configuration and layers. Views are blobs like others; the collector keeps those that the index names.
 *
 * All of this is made again whenever the store is opened, so nothing here waits for the disk. A saved archive has views too
 * (save.c), made in the session of the call.
 */
#include <fcntl.h>
#include <stdio.h>

#include "core/log.h"
#include "core/path.h"
#include "core/state.h"
#include "oci/store.h"

/* Writes dir/name by way of a temporary file in tmp_dir. */
static int write_unsynced(int tmp_dir, int dir, const char *name, const char *text,
			  struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();
	CLEANUP_FREE char *tmp = xasprintf(".%s.%s", "index.json", uuid);
	CLEANUP_CLOSE int fd =
		path_open_beneath(tmp_dir, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600, err);

	if (fd < 0)
		return -1;
	if (fd_write_full(fd, text, strlen(text), err) == 0) {
		if (renameat(tmp_dir, tmp, dir, name) == 0)
			return 0;
		error_sys(err, errno, "rename");
	}
	unlinkat(tmp_dir, tmp, 0);
	return error_wrap(err, "write %s", name);
}

static struct json_object *descriptor(const char *type, const struct oci_desc *d)
{
	struct json_object *o = oci_desc_to_json(d);

	json_set_str(o, "mediaType", type);
	if (d->has_platform)
		json_set(o, "platform", platform_to_json(&d->platform));
	return o;
}

static const char *layer_type(const char *type)
{
	if (!str_prefix(type, "application/vnd.docker."))
		return type;
	if (str_suffix(type, ".gzip"))
		return MEDIA_OCI_LAYER "+gzip";
	return str_suffix(type, ".zstd") ? MEDIA_OCI_LAYER "+zstd" : MEDIA_OCI_LAYER;
}

/* Where views are made: in content/, or with op in its session. */
struct viewer {
	struct oci_store *s;
	struct oci_op *op;
	struct picked *out; /* with op: their documents */
	size_t total;       /* oci_total_add() */
};

static int session_of(const struct viewer *v)
{
	return v->op ? v->op->session_fd : -1;
}

static struct json_object *view_of(struct viewer *v, const struct oci_desc *d, int depth,
				   struct error **err);

static struct json_object *view_document(struct viewer *viewer, const struct oci_doc *doc,
					 int depth, struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *arr = json_object_new_array();
	bool index = doc->kind == OCI_DOC_INDEX;
	size_t i;

	json_set_int(o, "schemaVersion", 2);
	json_set_str(o, "mediaType", index ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST);
	if (!index)
		json_set(o, "config", descriptor(MEDIA_OCI_CONFIG, &doc->config));
	json_set(o, index ? "manifests" : "layers", arr);
	for (i = 0; i < doc->n; i++) {
		const struct oci_desc *e = &doc->entries[i];
		struct json_object *v = index ? view_of(viewer, e, depth + 1, err)
					      : descriptor(layer_type(e->media_type), e);

		if (!v)
			return NULL;
		json_object_array_add(arr, v);
	}
	return STEAL(o);
}

static int put_in_content(struct oci_store *s, const struct oci_desc *d, const char *text,
			  struct error **err)
{
	char key[KEY_MAX];

	key_make(key, KEY_BLOB, digest_hex(d->digest));
	json_set_bool(s->views, key, true);
	if (blob_intact(s, -1, d->digest, d->size))
		return 0;
	return write_unsynced(s->ingest, s->blobs, digest_hex(d->digest), text, err);
}

static int put_in_session(const struct viewer *v, struct oci_desc *d, const char *text,
			  struct error **err)
{
	struct picked *out = v->out;

	if (blob_put(v->op, text, d->size, d->digest, err) < 0)
		return -1;
	out->docs = xreallocarray(out->docs, out->n_docs + 1, sizeof(*out->docs));
	oci_desc_copy(&out->docs[out->n_docs++], d);
	return 0;
}

/* Puts a view's document among the blobs; the descriptor that leads to it. */
static struct json_object *put_view(const struct viewer *v, const struct oci_desc *from,
				    struct json_object *doc, struct error **err)
{
	const char *text =
		json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN |
							    JSON_C_TO_STRING_NOSLASHESCAPE);
	struct oci_desc d = *from;

	d.size = strlen(text);
	digest_of(text, d.size, d.digest);
	if ((v->op ? put_in_session(v, &d, text, err) : put_in_content(v->s, &d, text, err)) < 0)
		return NULL;
	return descriptor(json_str(doc, "mediaType", ""), &d);
}

/* The descriptor that a layout's index has for d: d itself, or its view. What is not here has none. */
static struct json_object *view_of(struct viewer *v, const struct oci_desc *d, int depth,
				   struct error **err)
{
	CLEANUP_JSON struct json_object *view = NULL;
	CLEANUP_DOC struct oci_doc doc = {0};

	if ((strcmp(d->media_type, MEDIA_DOCKER_LIST) &&
	     strcmp(d->media_type, MEDIA_DOCKER_MANIFEST)) ||
	    depth > OCI_MAX_DEPTH || !blob_exists(v->s, session_of(v), d->digest, NULL))
		return descriptor(d->media_type, d);
	if (oci_total_add(&v->total, d->size, err) < 0 ||
	    blob_read_doc(v->s, session_of(v), d, &doc, err) < 0)
		return NULL;
	view = view_document(v, &doc, depth, err);
	return view ? put_view(v, d, view, err) : NULL;
}

int layout_view(struct oci_op *op, const struct oci_desc *d, struct picked *out, struct error **err)
{
	struct viewer v = {.s = op->s, .op = op, .out = out};
	CLEANUP_JSON struct json_object *root = NULL;

	*out = (struct picked){0};
	root = view_of(&v, d, 0, err);
	if (root && oci_desc_parse(root, &out->root, err) == 0)
		return 0;
	picked_free(out);
	return -1;
}

static int add_name(struct oci_store *s, struct json_object *arr, const char *name,
		    struct json_object *from, struct error **err)
{
	struct json_object *a = json_object_new_object(), *v = NULL;
	struct viewer content = {.s = s};
	struct oci_desc d;

	json_set_str(a, ANNOTATION_REF_NAME, name);
	if (oci_desc_parse(from, &d, err) == 0)
		v = view_of(&content, &d, 0, err);
	oci_desc_free(&d);
	if (!v) {
		json_object_put(a);
		return error_wrap(err, "%s", name);
	}
	json_set(v, "annotations", a);
	json_object_array_add(arr, v);
	return 0;
}

int layout_write(struct oci_store *s, struct error **err)
{
	CLEANUP_JSON struct json_object *index = json_object_new_object();
	struct json_object *arr = json_object_new_array();
	struct json_object_iterator it = json_object_iter_begin(s->names);
	struct json_object_iterator end = json_object_iter_end(s->names);

	json_object_put(s->views);
	s->views = json_object_new_object();
	json_set_int(index, "schemaVersion", 2);
	json_set_str(index, "mediaType", MEDIA_OCI_INDEX);
	json_set(index, "manifests", arr);
	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		CLEANUP_ERROR struct error *why = NULL;

		/* A damaged image is not for others to see; it does not hide the rest. */
		if (add_name(s, arr, json_object_iter_peek_name(&it),
			     json_object_iter_peek_value(&it), &why) < 0)
			log_err(why, "index.json");
	}
	return write_unsynced(
		s->content, s->content, "index.json",
		json_object_to_json_string_ext(index, JSON_C_TO_STRING_PRETTY |
							      JSON_C_TO_STRING_NOSLASHESCAPE),
		err);
}

int layout_begin(struct oci_store *s, struct error **err)
{
	static const char text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	CLEANUP_CLOSE int blobs = -1;

	if (faccessat(s->content, "oci-layout", F_OK, 0) == 0)
		return 0;
	/* A new store: the directory of digests has a name that lasts, too. What is above is synced with this file and the first name. */
	blobs = path_open_beneath(s->content, "blobs", O_RDONLY | O_DIRECTORY, 0, err);
	if (blobs < 0)
		return -1;
	if (fsync(blobs) < 0)
		return error_sys(err, errno, "sync blobs");
	return state_write_text(s->content, "oci-layout", text, sizeof(text) - 1, 0600, err);
}
