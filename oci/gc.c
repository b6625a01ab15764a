/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.c - removing names, and then what no name leads to any more.
 *
 * Mark: from every name, and from the manifests that containers use, down through nested indexes to
 * configurations and layers; a configuration's diffIDs mark unpacked layers, a manifest its merged
 * metadata. What a running operation has pinned counts as marked. Sweep: one pass over the three
 * directories, under the store's lock, in which the victims are only renamed; freeing their blocks comes
 * after. A document that cannot be read ends the collection before anything is removed.
 *
 * Names are written before anything goes. Where the disk has not a block left for that, what was unpacked of the victims goes first:
 * until the names are written, it can be made again.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/log.h"
#include "core/path.h"
#include "oci/store.h"

struct collector {
	struct oci_store *s;
	struct json_object *names;  /* those that count */
	struct json_object *marked; /* set of keys */
	struct json_object *only;   /* set of keys, or NULL */
	char trash[64];             /* what the victims' names in ingest begin with */
	uint64_t seq, freed;
};

static void mark(struct collector *c, const char *kind, const char *digest)
{
	char key[KEY_MAX];

	key_make(key, kind, digest_hex(digest));
	json_set_bool(c->marked, key, true);
}

static bool is_marked(struct collector *c, const char *kind, const char *digest)
{
	char key[KEY_MAX];

	key_make(key, kind, digest_hex(digest));
	return json_get(c->marked, key) != NULL;
}

static int mark_config(struct collector *c, const struct oci_desc *d, struct error **err)
{
	CLEANUP_CONFIG struct oci_config config = {0};
	size_t i;

	mark(c, KEY_BLOB, d->digest);
	if (!blob_exists(c->s, -1, d->digest, NULL))
		return 0;
	if (blob_read_config(c->s, -1, d, &config, err) < 0)
		return -1;
	for (i = 0; i < config.n; i++)
		mark(c, KEY_LAYER, config.diff_ids[i]);
	return 0;
}

static int mark_doc(struct collector *c, const struct oci_desc *d, int depth, struct error **err)
{
	CLEANUP_DOC struct oci_doc doc = {0};
	size_t i;

	if (is_marked(c, KEY_BLOB, d->digest) || depth > OCI_MAX_DEPTH)
		return 0;
	mark(c, KEY_BLOB, d->digest);
	if (!blob_exists(c->s, -1, d->digest, NULL))
		return 0;
	if (blob_read_doc(c->s, -1, d, &doc, err) < 0)
		return -1;
	for (i = 0; i < doc.n; i++) {
		const struct oci_desc *e = &doc.entries[i];

		if (doc.kind == OCI_DOC_MANIFEST)
			mark(c, KEY_BLOB, e->digest);
		else if (!e->attestation &&
			 (media_is_index(e->media_type) || media_is_manifest(e->media_type)) &&
			 mark_doc(c, e, depth + 1, err) < 0)
			return -1;
	}
	if (doc.kind == OCI_DOC_INDEX)
		return 0;
	mark(c, KEY_ROOTFS, d->digest);
	return mark_config(c, &doc.config, err);
}

static int mark_names(struct collector *c, struct error **err)
{
	struct json_object_iterator it = json_object_iter_begin(c->names);
	struct json_object_iterator end = json_object_iter_end(c->names);

	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		struct oci_desc d;
		int rc = oci_desc_parse(json_object_iter_peek_value(&it), &d, err);

		if (rc == 0)
			rc = mark_doc(c, &d, 0, err);
		oci_desc_free(&d);
		if (rc < 0)
			return error_wrap(err, "%s", json_object_iter_peek_name(&it));
	}
	return 0;
}

static int mark_busy(struct collector *c, struct json_object *busy, struct error **err)
{
	size_t i,
		n = json_object_is_type(busy, json_type_array) ? json_object_array_length(busy) : 0;

	for (i = 0; i < n; i++) {
		const char *digest = json_object_get_string(json_object_array_get_idx(busy, i));
		struct oci_desc d = {0};

		if (!oci_digest_check(digest))
			return error_set(err, ERR_INVALID_ARGUMENT, "busy: not a digest");
		snprintf(d.digest, sizeof(d.digest), "%s", digest);
		if (mark_doc(c, &d, 0, err) < 0)
			return error_wrap(err, "in use: %s", digest);
	}
	return 0;
}

static void trash_name(const struct collector *c, uint64_t i, char out[KEY_MAX])
{
	snprintf(out, KEY_MAX, "%s-%llu", c->trash, (unsigned long long)i);
}

/* Makes nothing, so that it works on a full disk. */
static int condemn(struct collector *c, int dir, const char *name, struct error **err)
{
	char to[KEY_MAX];

	if (!c->trash[0]) {
		CLEANUP_FREE char *uuid = random_uuid();

		snprintf(c->trash, sizeof(c->trash), "trash-%s", uuid);
	}
	c->freed += path_usage(dir, name, 1);
	trash_name(c, c->seq, to);
	if (renameat(dir, name, c->s->ingest, to) < 0)
		return error_sys(err, errno, "collect %s", name);
	c->seq++;
	return 0;
}

static void empty_trash(struct collector *c)
{
	uint64_t i;

	for (i = 0; i < c->seq; i++) {
		CLEANUP_ERROR struct error *why = NULL;
		char name[KEY_MAX];

		trash_name(c, i, name);
		if (path_remove_tree(c->s->ingest, name, &why) < 0)
			log_err(why, "collect");
	}
	c->seq = 0;
}

static int sweep_dir(struct collector *c, int dir, const char *kind, struct error **err)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		error_sys(err, errno, "open %s", kind);
		base_close_fd(&fd);
		return -1;
	}
	while (rc == 0 && (e = readdir(d))) {
		char key[KEY_MAX];

		/* Names that are no digests are not ours to remove. */
		if (!digest_hex_check(e->d_name))
			continue;
		key_make(key, kind, e->d_name);
		if (json_get(c->marked, key) || json_get(c->s->pins, key) ||
		    json_get(c->s->views, key) || (c->only && !json_get(c->only, key)))
			continue;
		rc = condemn(c, dir, e->d_name, err);
	}
	closedir(d);
	return rc;
}

/* From what is derived to what it is derived from. */
static int sweep_unpacked(struct collector *c, struct json_object *busy, struct error **err)
{
	if (mark_names(c, err) < 0 || mark_busy(c, busy, err) < 0 ||
	    sweep_dir(c, c->s->rootfs, KEY_ROOTFS, err) < 0)
		return -1;
	return sweep_dir(c, c->s->layers, KEY_LAYER, err);
}

static int collect_locked(struct collector *c, struct json_object *busy, struct error **err)
{
	return sweep_unpacked(c, busy, err) < 0 ? -1 : sweep_dir(c, c->s->blobs, KEY_BLOB, err);
}

int store_collect(struct oci_store *s, struct json_object *busy, struct json_object *only,
		  uint64_t *reclaimed, struct error **err)
{
	struct collector c = {.s = s, .only = only};
	int rc;

	c.marked = json_object_new_object();
	pthread_mutex_lock(&s->lock);
	c.names = s->names;
	rc = collect_locked(&c, busy, err);
	pthread_mutex_unlock(&s->lock);
	empty_trash(&c);
	json_object_put(c.marked);
	if (reclaimed)
		*reclaimed += c.freed;
	return rc < 0 ? error_wrap(err, "collect unused content") : 0;
}

/* What was unpacked for names that are to go makes room for writing those that stay. */
static int make_room(struct oci_store *s, struct json_object *names, struct json_object *busy,
		     uint64_t *freed)
{
	struct collector c = {.s = s, .names = names, .marked = json_object_new_object()};
	int rc = sweep_unpacked(&c, busy, NULL);

	empty_trash(&c);
	json_object_put(c.marked);
	*freed += c.freed;
	return rc;
}

/* store_names_write() of fewer names than there are, on a full disk too. Adds to *freed what had to go for that. */
static int write_fewer(struct oci_store *s, struct json_object *names, struct json_object *busy,
		       uint64_t *freed, struct error **err)
{
	struct error *why = NULL;

	if (store_names_write(s, names, &why) == 0)
		return 0;
	if (!error_is_full(why) || make_room(s, names, busy, freed) < 0)
		return error_move(err, why);
	error_free(why);
	return store_names_write(s, names, err);
}

/* ---- prune and usage ---- */
static bool in_list(struct json_object *arr, const char *s)
{
	size_t i, n = json_object_is_type(arr, json_type_array) ? json_object_array_length(arr) : 0;

	for (i = 0; i < n; i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(arr, i)), s))
			return true;
	return false;
}

/* Whether a container uses what name leads to. */
static bool name_is_busy(struct oci_store *s, struct json_object *desc, struct json_object *busy)
{
	CLEANUP_VARIANTS struct variants vs = {0};
	struct oci_desc d;
	bool found = false;
	size_t i;

	if (oci_desc_parse(desc, &d, NULL) == 0 && variants_load(s, -1, &d, &vs, NULL) == 0)
		for (i = 0; i < vs.n && !found; i++)
			found = in_list(busy, vs.v[i].desc.digest);
	oci_desc_free(&d);
	return found;
}

static uint64_t dir_usage(struct collector *c, int dir, const char *kind, bool unmarked_only)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	uint64_t sum = 0;

	if (!d) {
		base_close_fd(&fd);
		return 0;
	}
	while ((e = readdir(d))) {
		char key[KEY_MAX];

		if (!digest_hex_check(e->d_name))
			continue;
		key_make(key, kind, e->d_name);
		if (!unmarked_only || (!json_get(c->marked, key) && !json_get(c->s->pins, key)))
			sum += path_usage(dir, e->d_name, 1);
	}
	closedir(d);
	return sum;
}

static uint64_t store_usage(struct collector *c, bool unmarked_only)
{
	return dir_usage(c, c->s->blobs, KEY_BLOB, unmarked_only) +
	       dir_usage(c, c->s->layers, KEY_LAYER, unmarked_only) +
	       dir_usage(c, c->s->rootfs, KEY_ROOTFS, unmarked_only);
}

/* Marks what the names in use lead to; counts them. */
static int mark_active(struct collector *c, struct json_object *busy, int64_t *active,
		       struct error **err)
{
	struct json_object_iterator it = json_object_iter_begin(c->s->names);
	struct json_object_iterator end = json_object_iter_end(c->s->names);

	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		struct json_object *desc = json_object_iter_peek_value(&it);
		struct oci_desc d;
		int rc;

		if (!name_is_busy(c->s, desc, busy))
			continue;
		++*active;
		rc = oci_desc_parse(desc, &d, err);
		if (rc == 0)
			rc = mark_doc(c, &d, 0, err);
		oci_desc_free(&d);
		if (rc < 0)
			return -1;
	}
	return mark_busy(c, busy, err);
}

int oci_usage(struct oci_store *s, struct json_object *busy, struct json_object **out,
	      struct error **err)
{
	struct collector c = {.s = s};
	int64_t active = 0;
	int rc;

	c.marked = json_object_new_object();
	pthread_mutex_lock(&s->lock);
	rc = mark_active(&c, busy, &active, err);
	if (rc == 0) {
		*out = json_object_new_object();
		json_set_int(*out, "total", json_object_object_length(s->names));
		json_set_int(*out, "active", active);
		json_set_int(*out, "sizeInBytes", (int64_t)store_usage(&c, false));
		json_set_int(*out, "reclaimable", (int64_t)store_usage(&c, true));
	}
	pthread_mutex_unlock(&s->lock);
	json_object_put(c.marked);
	return rc;
}

static bool has_name(struct json_object *list, const char *name)
{
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(list, i)), name))
			return true;
	return false;
}

/* Removes the names to go from `names`, telling them in `deleted`. */
static void prune_names(struct oci_store *s, struct json_object *names, bool all,
			struct json_object *only, struct json_object *busy,
			struct json_object *deleted)
{
	struct json_object_iterator it = json_object_iter_begin(s->names);
	struct json_object_iterator end = json_object_iter_end(s->names);

	for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
		const char *name = json_object_iter_peek_name(&it);

		if ((!all && !strchr(name, '@')) || (only && !has_name(only, name)) ||
		    name_is_busy(s, json_object_iter_peek_value(&it), busy))
			continue;
		json_object_object_del(names, name);
		json_add_str(deleted, name);
	}
}

int oci_prune(struct oci_store *s, bool all, struct json_object *only, struct json_object *busy,
	      struct json_object **out, struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *deleted = json_object_new_array(), *names = NULL;
	uint64_t reclaimed = 0;
	int rc = 0;

	json_set(o, "deleted", deleted);
	pthread_mutex_lock(&s->lock);
	if (json_object_deep_copy(s->names, &names, NULL) < 0)
		abort(); /* out of memory */
	prune_names(s, names, all, only, busy, deleted);
	if (json_object_array_length(deleted))
		rc = write_fewer(s, names, busy, &reclaimed, err);
	json_object_put(names);
	pthread_mutex_unlock(&s->lock);
	if (rc < 0 || store_collect(s, busy, NULL, &reclaimed, err) < 0)
		return -1;
	json_set_int(o, "reclaimed", (int64_t)reclaimed);
	*out = STEAL(o);
	return 0;
}

/* ---- delete ---- */
/* An id stands for all names of its image only when there is one, or with force. */
static int drop_name(struct oci_store *s, struct json_object *names, const char *ref, bool force,
		     struct json_object *deleted, struct buf *missing, struct error **err)
{
	CLEANUP_STRV struct strv found = {0};
	size_t i;

	if (store_names_find(s, names, ref, &found, err) < 0)
		return -1;
	if (found.n > 1 && !force)
		return error_set(err, ERR_INVALID_STATE,
				 "image %s has %zu names; delete them by name or use --force", ref,
				 found.n);
	if (found.n == 0)
		buf_printf(missing, "%s%s", missing->len ? ", " : "", ref);
	for (i = 0; i < found.n; i++) {
		json_object_object_del(names, found.v[i]);
		json_add_str(deleted, found.v[i]);
	}
	return 0;
}

static int drop_names(struct oci_store *s, const char *const *refs, size_t n, bool force,
		      struct json_object *busy, struct json_object *deleted, struct buf *missing,
		      uint64_t *reclaimed, struct error **err)
{
	struct json_object *names = NULL;
	int rc = 0;
	size_t i;

	pthread_mutex_lock(&s->lock);
	if (json_object_deep_copy(s->names, &names, NULL) < 0)
		abort(); /* out of memory */
	for (i = 0; i < n && rc == 0; i++)
		rc = drop_name(s, names, refs[i], force, deleted, missing, err);
	if (rc == 0 && json_object_array_length(deleted))
		rc = write_fewer(s, names, busy, reclaimed, err);
	json_object_put(names);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int oci_delete(struct oci_store *s, const char *const *refs, size_t n, bool force,
	       struct json_object *busy, struct json_object **out, struct error **err)
{
	struct json_object *deleted = json_object_new_array(), *o;
	CLEANUP_BUF struct buf missing = {0};
	uint64_t reclaimed = 0;

	if (drop_names(s, refs, n, force, busy, deleted, &missing, &reclaimed, err) < 0 ||
	    store_collect(s, busy, NULL, &reclaimed, err) < 0) {
		json_object_put(deleted);
		return -1;
	}
	o = json_object_new_object();
	json_set(o, "deleted", deleted);
	json_set_int(o, "reclaimed", (int64_t)reclaimed);
	*out = o;
	if (missing.len && !force)
		return error_set(err, ERR_NOT_FOUND, "image not found: %s", missing.data);
	return 0;
}
