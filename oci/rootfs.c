/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rootfs.c - from blobs to a disk: unpack the layers an image lacks (unpack.c), merge them, open the result.
 *
 * Unpacked layers and merged metadata may be deleted at any time: they are made again from the blobs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/path.h"
#include "core/state.h"
#include "oci/store.h"

#define UNPACK_THREADS 2
#define BLOCK          4096

struct unpack_ctx {
	struct oci_op *op;
	const struct oci_doc *doc;
	const struct oci_config *config;
};

static int unpack_job(void *arg, void *worker, size_t i, struct error **err)
{
	struct unpack_ctx *c = arg;

	return layer_prepare(c->op, &c->doc->entries[i], c->config->diff_ids[i], NULL, err);
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

static int write_record(struct oci_op *op, int dir, const int *layers,
			const struct oci_config *config, struct error **err)
{
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *ids = json_object_new_array(), *blocks = json_object_new_array();
	CLEANUP_CLOSE int fd = -1;
	const char *text;
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
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	fd = path_open_beneath(dir, "rootfs.json", O_WRONLY | O_CREAT | O_EXCL, 0600, err);
	if (fd < 0 || fd_write_full(fd, text, strlen(text), err) < 0)
		return error_wrap(err, "rootfs.json");
	op_sync_later(op, fd);
	return 0;
}

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

static bool rootfs_present(struct oci_store *s, const char *hex)
{
	char ids[OCI_MAX_LAYERS][OCI_DIGEST_LEN + 1];
	size_t n;

	return store_has_file(s->rootfs, hex, "meta.erofs") &&
	       read_record(s, hex, ids, &n, NULL) == 0;
}

/* Several merges at once would not be faster, but larger. */
static int merge_alone(struct oci_op *op, const int *layers, size_t n, int out, struct error **err)
{
	int rc;

	if (memory_take(op, MEMORY_MERGE, 0, NULL, err) < 0)
		return -1;
	rc = rootfs_merge(layers, n, out, err);
	memory_give(op, MEMORY_MERGE, 0);
	return rc;
}

static int merge(struct oci_op *op, const char *hex, const struct oci_config *config,
		 struct error **err)
{
	CLEANUP_STAGING struct staging st = {.fd = -1};
	int fds[OCI_MAX_LAYERS];
	int rc = -1;

	memset(fds, -1, sizeof(fds));
	if (staging_open(&st, op->s, err) < 0)
		return -1;
	if (open_layers(op->s, config->diff_ids, config->n, NULL, fds, err) == 0 &&
	    merge_alone(op, fds, config->n, st.fd, err) == 0 &&
	    write_record(op, st.fd, fds, config, err) == 0)
		rc = staging_move(&st, op, op->s->rootfs, hex, err);
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
	if (rootfs_present(op->s, hex))
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
