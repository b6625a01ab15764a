/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootfs.c - from blobs to a disk: unpack the layers an image lacks, merge them, open the result.
 *
 * A layer is unpacked once, whatever images share it, into a directory below content/ingest that is renamed
 * to layers/<diffid> only after the uncompressed bytes had that digest. The merged metadata appears the
 * same way. Both may be deleted at any time: they are made again from the blobs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/path.h"
#include "core/state.h"
#include "oci/store.h"

#define UNPACK_THREADS 2
#define MAX_TRAILER    (64u << 20) /* bytes behind the end of a layer's tar */
#define BLOCK          4096

/* Compressed bytes → plain bytes, hashed and counted on the way. */
struct layer_source {
	struct oci_op *op;
	struct fd_reader in;
	struct oci_reader plain;
	struct digest *hash;
	struct op_item item;
};

static ssize_t layer_read(void *arg, void *p, size_t n, struct error **err)
{
	struct layer_source *s = arg;
	ssize_t got;

	if (op_check(s->op, err) < 0)
		return -1;
	got = s->plain.read(s->plain.arg, p, n, err);
	if (got > 0) {
		digest_update(s->hash, p, (size_t)got);
		op_item_at(&s->item, MIN(s->in.done, s->item.total));
	}
	return got;
}

/* The tar ends before its file does: the rest counts for the digest. */
static int drain(const struct oci_reader *r, struct error **err)
{
	CLEANUP_FREE char *p = xmalloc(64u << 10);
	uint64_t total = 0;
	ssize_t n;

	while ((n = r->read(r->arg, p, 64u << 10, err)) > 0) {
		total += (uint64_t)n;
		if (total > MAX_TRAILER)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "more than 64 MiB behind the end of the archive");
	}
	return n < 0 ? -1 : 0;
}

static int unpack_into(struct oci_op *op, int blob, uint64_t size, const char *diff_id, int dir,
		       struct error **err)
{
	CLEANUP_DIGEST struct digest *hash = digest_new();
	CLEANUP(decompress_freep) struct decompress *d = NULL;
	struct layer_source src = {.op = op, .in = {.fd = blob}, .hash = hash};
	struct oci_reader raw = fd_reader_of(&src.in);
	struct oci_reader r = {.read = layer_read, .arg = &src};
	char got[OCI_DIGEST_LEN + 1];

	src.item = op_item_of(op, "unpack", "layer", diff_id, size);
	d = decompress_new(&raw, err);
	if (!d)
		return -1;
	src.plain = decompress_reader(d);
	if (layer_unpack(&r, dir, err) < 0 || drain(&r, err) < 0)
		return -1;
	digest_final(hash, got);
	if (strcmp(got, diff_id))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "diffID mismatch: uncompressed content is %s, not %s", got,
				 diff_id);
	op_item_at(&src.item, size);
	return 0;
}

static int sync_file(int dir, const char *name, struct error **err)
{
	CLEANUP_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fsync(fd) < 0)
		return error_sys(err, errno, "sync %s", name);
	return 0;
}

/* A directory below ingest, at its final place once it is whole. */
struct staging {
	struct oci_store *s;
	char name[64];
	int fd;
};

static int staging_open(struct staging *st, struct oci_store *s, struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();

	*st = (struct staging){.s = s, .fd = -1};
	snprintf(st->name, sizeof(st->name), "tree-%s", uuid);
	if (path_mkdirs_at(s->ingest, st->name, 0700, err) < 0)
		return -1;
	st->fd = path_open_beneath(s->ingest, st->name, O_RDONLY | O_DIRECTORY, 0, err);
	return st->fd < 0 ? -1 : 0;
}

static int staging_move(struct staging *st, int to, const char *hex, struct error **err)
{
	if (fsync(st->fd) < 0)
		return error_sys(err, errno, "sync %s", hex);
	/* What is there is incomplete, or the caller would not be here. */
	if (path_remove_tree(to, hex, err) < 0)
		return -1;
	if (renameat(st->s->ingest, st->name, to, hex) < 0)
		return error_sys(err, errno, "rename %s", hex);
	st->name[0] = '\0';
	if (fsync(to) < 0)
		return error_sys(err, errno, "sync");
	return 0;
}

static void staging_close(struct staging *st)
{
	base_close_fd(&st->fd);
	if (st->s && st->name[0])
		path_remove_tree(st->s->ingest, st->name, NULL);
}

static bool have_file(int dir, const char *hex, const char *name)
{
	char path[KEY_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", hex, name);
	return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static bool layer_present(struct oci_store *s, const char *diff_id)
{
	return have_file(s->layers, digest_hex(diff_id), "data") &&
	       have_file(s->layers, digest_hex(diff_id), "tree");
}

static int unpack_locked(struct oci_op *op, const struct oci_desc *d, const char *diff_id,
			 struct error **err)
{
	CLEANUP(staging_close) struct staging st = {.fd = -1};
	CLEANUP_CLOSE int blob = -1;

	if (layer_present(op->s, diff_id))
		return 0;
	if (media_layer_check(d->media_type, err) < 0)
		return -1;
	blob = blob_open(op->s, op->session_fd, d->digest, err);
	if (blob < 0 || staging_open(&st, op->s, err) < 0)
		return -1;
	if (unpack_into(op, blob, d->size, diff_id, st.fd, err) < 0)
		return -1;
	if (sync_file(st.fd, "data", err) < 0 || sync_file(st.fd, "tree", err) < 0)
		return -1;
	if (staging_move(&st, op->s->layers, digest_hex(diff_id), err) < 0)
		return -1;
	op_created(op, KEY_LAYER, digest_hex(diff_id));
	return 0;
}

static int unpack_one(struct oci_op *op, const struct oci_desc *d, const char *diff_id,
		      struct error **err)
{
	const char *hex = digest_hex(diff_id);
	int rc;

	op_pin(op, KEY_LAYER, hex);
	if (op_lock_key(op, KEY_LAYER, hex, err) < 0)
		return -1;
	rc = unpack_locked(op, d, diff_id, err);
	op_unlock_key(op, KEY_LAYER, hex);
	return rc < 0 ? error_wrap(err, "unpack layer %.19s", d->digest) : 0;
}

struct unpack_ctx {
	struct oci_op *op;
	const struct oci_doc *doc;
	const struct oci_config *config;
};

static int unpack_job(void *arg, void *worker, size_t i, struct error **err)
{
	struct unpack_ctx *c = arg;

	return unpack_one(c->op, &c->doc->entries[i], c->config->diff_ids[i], err);
}

/* Opens name in each layer's directory (the directory itself for NULL). */
static int open_layers(struct oci_store *s, char (*diff_ids)[OCI_DIGEST_LEN + 1], size_t n,
		       const char *name, int *fds, struct error **err)
{
	size_t i;

	for (i = 0; i < n; i++) {
		char path[KEY_MAX];

		snprintf(path, sizeof(path), "%s%s%s", digest_hex(diff_ids[i]), name ? "/" : "",
			 name ? name : "");
		fds[i] = path_open_beneath(s->layers, path,
					   name ? O_RDONLY | O_NOFOLLOW : O_RDONLY | O_DIRECTORY, 0,
					   err);
		if (fds[i] < 0)
			return error_wrap(err, "layer %.12s", digest_hex(diff_ids[i]));
	}
	return 0;
}

static void close_all(int *fds, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		base_close_fd(&fds[i]);
}

static int write_record(int dir, const int *layers, const struct oci_config *config,
			struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *ids = json_object_new_array(), *blocks = json_object_new_array();
	size_t i;

	json_set(o, "layers", ids);
	json_set(o, "blocks", blocks);
	for (i = 0; i < config->n; i++) {
		struct stat st;

		if (fstatat(layers[i], "data", &st, AT_SYMLINK_NOFOLLOW) < 0)
			return error_sys(err, errno, "layer data");
		json_add_str(ids, digest_hex(config->diff_ids[i]));
		json_object_array_add(blocks, json_object_new_int64(st.st_size / BLOCK));
	}
	return state_write(dir, "rootfs.json", o, err);
}

static int merge(struct oci_op *op, const char *hex, const struct oci_config *config,
		 struct error **err)
{
	CLEANUP(staging_close) struct staging st = {.fd = -1};
	int fds[OCI_MAX_LAYERS];
	int rc = -1;

	memset(fds, -1, sizeof(fds));
	if (staging_open(&st, op->s, err) < 0)
		return -1;
	if (open_layers(op->s, config->diff_ids, config->n, NULL, fds, err) == 0 &&
	    rootfs_merge(fds, config->n, st.fd, err) == 0 &&
	    write_record(st.fd, fds, config, err) == 0 && sync_file(st.fd, "meta.erofs", err) == 0)
		rc = staging_move(&st, op->s->rootfs, hex, err);
	close_all(fds, ARRAY_SIZE(fds));
	if (rc == 0)
		op_created(op, KEY_ROOTFS, hex);
	return rc < 0 ? error_wrap(err, "merge layers") : 0;
}

static int prepare_locked(struct oci_op *op, const struct oci_desc *manifest, struct error **err)
{
	CLEANUP_DOC struct oci_doc doc = {0};
	CLEANUP_CONFIG struct oci_config config = {0};
	struct unpack_ctx ctx = {.op = op, .doc = &doc, .config = &config};
	struct op_jobs jobs = {.threads = UNPACK_THREADS, .run = unpack_job, .arg = &ctx};
	const char *hex = digest_hex(manifest->digest);
	size_t i;

	op_pin(op, KEY_BLOB, hex);
	if (blob_read_doc(op->s, op->session_fd, manifest, &doc, err) < 0)
		return -1;
	if (doc.kind != OCI_DOC_MANIFEST)
		return error_set(err, ERR_INVALID_ARGUMENT, "%s is an index, not a manifest",
				 manifest->digest);
	op_pin(op, KEY_BLOB, digest_hex(doc.config.digest));
	if (blob_read_config(op->s, op->session_fd, &doc.config, &config, err) < 0)
		return -1;
	if (doc.n != config.n)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "manifest has %zu layers, configuration %zu", doc.n, config.n);
	for (i = 0; i < doc.n; i++) {
		op_pin(op, KEY_BLOB, digest_hex(doc.entries[i].digest));
		op_pin(op, KEY_LAYER, digest_hex(config.diff_ids[i]));
	}
	jobs.n = doc.n;
	if (op_parallel(op, &jobs, err) < 0)
		return -1;
	if (have_file(op->s->rootfs, hex, "meta.erofs") &&
	    have_file(op->s->rootfs, hex, "rootfs.json"))
		return 0;
	return merge(op, hex, &config, err);
}

int rootfs_prepare(struct oci_op *op, const struct oci_desc *manifest, struct error **err)
{
	const char *hex = digest_hex(manifest->digest);
	int rc;

	op_pin(op, KEY_ROOTFS, hex);
	if (op_lock_key(op, KEY_ROOTFS, hex, err) < 0)
		return -1;
	rc = prepare_locked(op, manifest, err);
	op_unlock_key(op, KEY_ROOTFS, hex);
	return rc;
}

/* ---- opening ---- */
/* The layers a finished rootfs is made of, from its record. */
static int read_record(struct oci_store *s, const char *hex, char (*ids)[OCI_DIGEST_LEN + 1],
		       size_t *n, struct error **err)
{
	CLEANUP_JSON struct json_object *o = NULL;
	CLEANUP_CLOSE int dir = path_open_beneath(s->rootfs, hex, O_RDONLY | O_DIRECTORY, 0, err);
	struct json_object *arr;
	size_t i;

	if (dir < 0)
		return -1;
	o = state_read(dir, "rootfs.json", err);
	if (!o || json_need_arr(o, "layers", &arr, err) < 0)
		return -1;
	*n = json_object_array_length(arr);
	if (*n > OCI_MAX_LAYERS)
		return error_set(err, ERR_INTERNAL, "rootfs.json is damaged");
	for (i = 0; i < *n; i++) {
		const char *id = json_object_get_string(json_object_array_get_idx(arr, i));

		if (!id || !digest_hex_check(id))
			return error_set(err, ERR_INTERNAL, "rootfs.json is damaged");
		snprintf(ids[i], sizeof(ids[i]), "sha256:%s", id);
	}
	return 0;
}

/* Empty layers take no part in the disk: they are left out. */
static size_t drop_empty(int *fds, size_t n)
{
	struct stat st;
	size_t i, kept = 0;

	for (i = 0; i < n; i++) {
		if (fstat(fds[i], &st) == 0 && st.st_size == 0)
			close(fds[i]);
		else
			fds[kept++] = fds[i];
	}
	return kept;
}

static int open_rootfs(struct oci_store *s, const char *hex, int **fds, size_t *nfds,
		       struct error **err)
{
	char ids[OCI_MAX_LAYERS][OCI_DIGEST_LEN + 1];
	char path[KEY_MAX];
	int *v;
	size_t n;

	if (read_record(s, hex, ids, &n, err) < 0)
		return -1;
	v = xmalloc((n + 1) * sizeof(*v));
	memset(v, -1, (n + 1) * sizeof(*v));
	snprintf(path, sizeof(path), "%s/meta.erofs", hex);
	v[0] = path_open_beneath(s->rootfs, path, O_RDONLY | O_NOFOLLOW, 0, err);
	if (v[0] < 0 || open_layers(s, ids, n, "data", v + 1, err) < 0) {
		close_all(v, n + 1);
		free(v);
		return -1;
	}
	*nfds = 1 + drop_empty(v + 1, n);
	*fds = v;
	return 0;
}

int oci_rootfs(struct oci_store *s, const char *manifest_digest, int **fds, size_t *nfds,
	       struct error **err)
{
	struct oci_desc d = {0};
	struct oci_op op;
	const char *hex;
	int rc;

	if (!oci_digest_check(manifest_digest))
		return error_set(err, ERR_INVALID_ARGUMENT, "not a manifest digest: \"%.80s\"",
				 manifest_digest ? manifest_digest : "");
	snprintf(d.digest, sizeof(d.digest), "%s", manifest_digest);
	hex = digest_hex(d.digest);
	op_begin(&op, s, NULL);
	op_pin(&op, KEY_ROOTFS, hex);
	/* The start of a container takes this path: everything there, nothing to read but the record. */
	rc = open_rootfs(s, hex, fds, nfds, NULL);
	if (rc < 0) {
		rc = rootfs_prepare(&op, &d, err);
		if (rc == 0)
			rc = open_rootfs(s, hex, fds, nfds, err);
	}
	op_end(&op);
	return rc < 0 ? error_wrap(err, "root file system of %.19s", manifest_digest) : 0;
}
