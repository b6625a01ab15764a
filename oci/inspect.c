/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect.c - images as objects: what `image list`, `image inspect` and `create` are told.
 *
 * A name leads to an index or a manifest. The variants of an image are those manifests below it whose
 * blobs are here: a pull of one platform stores the whole index but one manifest.
 */
#include <sys/stat.h>

#include "core/log.h"
#include "oci/store.h"

void variant_free(struct variant *v)
{
	oci_desc_free(&v->desc);
	oci_doc_free(&v->doc);
	oci_config_free(&v->config);
}

void variants_free(struct variants *v)
{
	size_t i;

	for (i = 0; i < v->n; i++)
		variant_free(&v->v[i]);
	free(v->v);
	*v = (struct variants){0};
}

/* Takes doc over when it succeeds. */
static int add_variant(struct oci_store *s, int session_fd, const struct oci_desc *d,
		       struct oci_doc *doc, struct variants *out, struct error **err)
{
	struct variant *v;

	out->v = xreallocarray(out->v, out->n + 1, sizeof(*out->v));
	v = &out->v[out->n];
	*v = (struct variant){0};
	if (oci_total_add(&out->total, doc->config.size, err) < 0 ||
	    blob_read_config(s, session_fd, &doc->config, &v->config, err) < 0)
		return error_wrap(err, "manifest %.19s", d->digest);
	oci_desc_copy(&v->desc, d);
	v->desc.platform = v->config.platform;
	v->desc.has_platform = true;
	v->doc = *doc;
	*doc = (struct oci_doc){0};
	out->n++;
	return 0;
}

static int collect(struct oci_store *s, int session_fd, const struct oci_desc *d, int depth,
		   struct variants *out, struct error **err)
{
	CLEANUP_DOC struct oci_doc doc = {0};
	size_t i;

	if (depth > OCI_MAX_DEPTH)
		return error_set(err, ERR_INVALID_ARGUMENT, "indexes nested deeper than %d",
				 OCI_MAX_DEPTH);
	if (oci_total_add(&out->total, d->size, err) < 0 ||
	    blob_read_doc(s, session_fd, d, &doc, err) < 0)
		return -1;
	if (doc.kind == OCI_DOC_MANIFEST)
		return add_variant(s, session_fd, d, &doc, out, err);
	for (i = 0; i < doc.n; i++) {
		const struct oci_desc *e = &doc.entries[i];

		if (e->attestation || !blob_exists(s, session_fd, e->digest, NULL))
			continue;
		if (!media_is_index(e->media_type) && !media_is_manifest(e->media_type))
			continue;
		if (collect(s, session_fd, e, depth + 1, out, err) < 0)
			return -1;
	}
	return 0;
}

int variants_load(struct oci_store *s, int session_fd, const struct oci_desc *root,
		  struct variants *out, struct error **err)
{
	*out = (struct variants){0};
	if (collect(s, session_fd, root, 0, out, err) == 0)
		return 0;
	variants_free(out);
	return -1;
}

const struct variant *variants_pick(const struct variants *v, const struct oci_platform *want,
				    struct error **err)
{
	CLEANUP_FREE char *name = platform_string(want);
	CLEANUP_BUF struct buf have = {0};
	size_t i;

	for (i = 0; i < v->n; i++) {
		CLEANUP_FREE char *p = NULL;

		if (platform_eq(&v->v[i].desc.platform, want))
			return &v->v[i];
		p = platform_string(&v->v[i].desc.platform);
		buf_printf(&have, "%s%s", have.len ? ", " : "", p);
	}
	error_set(err, ERR_NOT_FOUND, "it has no content for platform %s (available: %s)", name,
		  have.len ? have.data : "none");
	return NULL;
}

/* ---- objects ---- */
/* "2026-01-02T03:04:05.123456789Z" → without the fraction; NULL for what is no such date. */
static char *plain_date(const char *s)
{
	size_t n = s ? strspn(s, "0123456789-T:") : 0;
	size_t frac;

	if (n != 19 || s[10] != 'T')
		return NULL;
	frac = s[n] == '.' ? 1 + strspn(s + n + 1, "0123456789") : 0;
	return xasprintf("%.19s%s", s, s[n + frac] ? s + n + frac : "Z");
}

static char *creation_date(struct oci_store *s, const struct oci_desc *root,
			   const struct variants *v)
{
	CLEANUP_CLOSE int fd = -1;
	struct stat st = {0};
	size_t i;

	for (i = 0; i < v->n; i++) {
		char *date = plain_date(json_str(v->v[i].config.json, "created", NULL));

		if (date)
			return date;
	}
	fd = blob_open(s, -1, root->digest, NULL);
	if (fd >= 0)
		fstat(fd, &st);
	return time_iso8601(st.st_mtime);
}

static void copy_keys(struct json_object *from, struct json_object *to, const char *const *keys,
		      size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		struct json_object *v = json_get(from, keys[i]), *copy = NULL;

		if (v && json_object_deep_copy(v, &copy, NULL) == 0)
			json_set(to, keys[i], copy);
	}
}

static struct json_object *run_config(struct json_object *config)
{
	static const char *const keys[] = {"User",       "Env",    "Entrypoint", "Cmd",
					   "WorkingDir", "Labels", "StopSignal", "Healthcheck"};
	struct json_object *o = json_object_new_object();

	copy_keys(json_obj(config, "config"), o, keys, ARRAY_SIZE(keys));
	return o;
}

static struct json_object *config_object(struct json_object *config)
{
	static const char *const keys[] = {"author",  "architecture", "os",
					   "variant", "rootfs",       "history"};
	struct json_object *o = json_object_new_object();
	CLEANUP_FREE char *date = plain_date(json_str(config, "created", NULL));

	json_set_str(o, "created", date);
	copy_keys(config, o, keys, ARRAY_SIZE(keys));
	json_set_str(o, "osVersion", json_str(config, "os.version", NULL));
	json_set(o, "config", run_config(config));
	return o;
}

static struct json_object *variant_object(const struct variant *v)
{
	struct json_object *o = json_object_new_object();
	uint64_t size = v->desc.size + v->doc.config.size;
	size_t i;

	for (i = 0; i < v->doc.n; i++)
		size += v->doc.entries[i].size;
	json_set(o, "platform", platform_to_json(&v->desc.platform));
	json_set_str(o, "digest", v->desc.digest);
	json_set_int(o, "size", (int64_t)size);
	json_set(o, "config", config_object(v->config.json));
	return o;
}

static struct json_object *make_object(struct oci_store *s, const char *name,
				       const struct oci_desc *root, const struct variants *v)
{
	struct json_object *o = json_object_new_object();
	struct json_object *conf = json_object_new_object(), *arr = json_object_new_array();
	CLEANUP_FREE char *date = creation_date(s, root, v);
	size_t i;

	json_set_str(o, "id", digest_hex(root->digest));
	json_set_str(conf, "name", name);
	json_set_str(conf, "creationDate", date);
	json_set(conf, "descriptor", oci_desc_to_json(root));
	json_set(o, "configuration", conf);
	for (i = 0; i < v->n; i++)
		json_object_array_add(arr, variant_object(&v->v[i]));
	json_set(o, "variants", arr);
	return o;
}

int image_object(struct oci_store *s, const char *name, const struct oci_desc *root,
		 struct json_object **out, struct error **err)
{
	CLEANUP_VARIANTS struct variants v = {0};

	if (variants_load(s, -1, root, &v, err) < 0)
		return error_wrap(err, "image %s", name);
	*out = make_object(s, name, root, &v);
	return 0;
}

/* One damaged image must not hide the others, nor keep itself from being deleted: it is listed without variants. NULL
 * when it was deleted meanwhile. */
static struct json_object *list_object(struct oci_store *s, const char *name,
				       const struct oci_desc *root)
{
	CLEANUP_ERROR struct error *why = NULL;
	struct variants none = {0};
	struct json_object *o = NULL;
	bool gone;

	if (image_object(s, name, root, &o, &why) == 0)
		return o;
	pthread_mutex_lock(&s->lock);
	gone = json_get(s->names, name) == NULL;
	pthread_mutex_unlock(&s->lock);
	if (gone)
		return NULL;
	log_err(why, "list images");
	return make_object(s, name, root, &none);
}

int oci_list(struct oci_store *s, struct json_object **images, struct error **err)
{
	CLEANUP_JSON struct json_object *names = NULL;
	struct json_object *arr;
	struct json_object_iterator it, end;

	pthread_mutex_lock(&s->lock);
	if (json_object_deep_copy(s->names, &names, NULL) < 0)
		abort(); /* out of memory */
	pthread_mutex_unlock(&s->lock);
	arr = json_object_new_array();
	it = json_object_iter_begin(names);
	end = json_object_iter_end(names);
	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		struct json_object *o = NULL;
		struct oci_desc d;
		int rc = oci_desc_parse(json_object_iter_peek_value(&it), &d, err);

		if (rc == 0)
			o = list_object(s, json_object_iter_peek_name(&it), &d);
		oci_desc_free(&d);
		if (rc < 0) {
			json_object_put(arr);
			return -1;
		}
		if (o)
			json_object_array_add(arr, o);
	}
	*images = arr;
	return 0;
}

int oci_inspect(struct oci_store *s, const char *const *refs, size_t n, struct json_object **images,
		struct error **err)
{
	struct json_object *arr = json_object_new_array();
	CLEANUP_BUF struct buf missing = {0};
	size_t i;

	for (i = 0; i < n; i++) {
		CLEANUP_ERROR struct error *why = NULL;
		CLEANUP_FREE char *name = NULL;
		struct json_object *o = NULL;
		struct oci_desc d = {0};
		int rc = store_name_get(s, refs[i], &name, &d, &why);

		if (rc < 0 && why->code == ERR_NOT_FOUND) {
			buf_printf(&missing, "%s%s", missing.len ? ", " : "", refs[i]);
			continue;
		}
		if (rc == 0)
			rc = image_object(s, name, &d, &o, &why);
		oci_desc_free(&d);
		if (rc < 0) {
			json_object_put(arr);
			return error_move(err, STEAL(why));
		}
		json_object_array_add(arr, o);
	}
	if (missing.len) {
		json_object_put(arr);
		return error_set(err, ERR_NOT_FOUND, "image not found: %s", missing.data);
	}
	*images = arr;
	return 0;
}

int oci_resolve(struct oci_store *s, const char *reference, const char *platform,
		struct json_object **out, struct error **err)
{
	CLEANUP_VARIANTS struct variants vs = {0};
	CLEANUP_FREE char *name = NULL;
	const struct variant *v;
	struct oci_platform want;
	struct oci_desc d = {0};
	struct json_object *o;

	oci_platform_host(&want);
	if (platform && oci_platform_parse(platform, &want, err) < 0)
		return -1;
	if (store_name_get(s, reference, &name, &d, err) < 0)
		return -1;
	v = variants_load(s, -1, &d, &vs, err) < 0 ? NULL : variants_pick(&vs, &want, err);
	if (!v) {
		oci_desc_free(&d);
		return error_wrap(err, "image %s", name);
	}
	o = json_object_new_object();
	json_set_str(o, "reference", name);
	json_set(o, "descriptor", oci_desc_to_json(&d));
	json_set_str(o, "manifest", v->desc.digest);
	json_set(o, "platform", platform_to_json(&v->desc.platform));
	json_set(o, "config", run_config(v->config.json));
	oci_desc_free(&d);
	*out = o;
	return 0;
}
