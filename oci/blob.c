/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob.c - blobs in and out of the store.
 *
 * A blob is hashed while it is written to a temporary file, and gets its name, which is its digest, only
 * when digest and size are what was promised. Small ones are verified again when they are read; layers
 * are, by their diffID, when they are unpacked.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/path.h"
#include "oci/store.h"

#define SYNC_NOW (1u << 20) /* bytes from which on a blob is synced before it has its name */
#define WRITEBACK \
	(8u       \
	 << 20) /* started in steps of this, so that the sync in the end has little to wait for */

static int target_dir(const struct oci_op *op)
{
	return op->session_fd >= 0 ? op->session_fd : op->s->blobs;
}

int blob_writer_open(struct blob_writer *w, struct oci_op *op, const char *want, uint64_t expect,
		     struct error **err)
{
	CLEANUP_FREE char *uuid = random_uuid();

	*w = (struct blob_writer){.op = op, .fd = -1, .expect = expect};
	if (want)
		snprintf(w->want, sizeof(w->want), "%s", want);
	snprintf(w->tmp, sizeof(w->tmp), "blob-%s", uuid);
	w->fd = path_open_beneath(op->s->ingest, w->tmp, O_RDWR | O_CREAT | O_EXCL, 0600, err);
	if (w->fd < 0)
		return -1;
	w->hash = digest_new();
	return 0;
}

int blob_writer_add(struct blob_writer *w, const void *p, size_t n, struct error **err)
{
	if (n > w->expect - w->size)
		return error_set(err, ERR_INVALID_ARGUMENT, "more than the %llu bytes announced",
				 (unsigned long long)w->expect);
	if (w->feed && atomic_load(&w->feed->abandoned))
		return error_set(err, ERR_CANCELLED, "given up");
	if (fd_write_full(w->fd, p, n, err) < 0)
		return error_wrap(err, "write blob");
	w->size += n;
	if (w->feed)
		feed_grow(w->feed, w->size);
	digest_update(w->hash, p, n);
	if (w->size - w->started >= WRITEBACK && w->op->session_fd < 0) {
		sync_file_range(w->fd, (off_t)w->started, (off_t)(w->size - w->started),
				SYNC_FILE_RANGE_WRITE);
		w->started = w->size;
	}
	return 0;
}

int blob_writer_restart(struct blob_writer *w, struct error **err)
{
	if (ftruncate(w->fd, 0) < 0 || lseek(w->fd, 0, SEEK_SET) < 0)
		return error_sys(err, errno, "truncate blob");
	digest_reset(w->hash);
	w->size = w->started = 0;
	if (w->feed)
		feed_grow(w->feed, 0);
	return 0;
}

static int verify(struct blob_writer *w, char digest[OCI_DIGEST_LEN + 1], struct error **err)
{
	if (w->expect != UINT64_MAX && w->size != w->expect)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "size mismatch: %llu bytes instead of %llu",
				 (unsigned long long)w->size, (unsigned long long)w->expect);
	digest_final(w->hash, digest);
	if (w->want[0] && strcmp(w->want, digest))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "digest mismatch: content is %s, not %s", digest, w->want);
	return 0;
}

int blob_writer_commit(struct blob_writer *w, char digest[OCI_DIGEST_LEN + 1], struct error **err)
{
	int dir = target_dir(w->op);

	if (verify(w, digest, err) < 0)
		return -1;
	if (w->feed)
		feed_end(w->feed, true);
	/* A session's blobs are synced when they are published, most never are. */
	if (w->op->session_fd < 0 && w->size >= SYNC_NOW && fsync(w->fd) < 0)
		return error_sys(err, errno, "sync blob");
	if (renameat(w->op->s->ingest, w->tmp, dir, digest_hex(digest)) < 0)
		return error_sys(err, errno, "rename blob");
	w->tmp[0] = '\0';
	if (w->op->session_fd >= 0)
		return 0;
	op_created(w->op, KEY_BLOB, digest_hex(digest));
	if (w->size < SYNC_NOW)
		op_sync_later(w->op, w->fd);
	return 0;
}

void blob_writer_close(struct blob_writer *w)
{
	if (!w->op)
		return;
	base_close_fd(&w->fd);
	if (w->tmp[0])
		unlinkat(w->op->s->ingest, w->tmp, 0);
	digest_free(w->hash);
	*w = (struct blob_writer){.fd = -1};
}

bool blob_intact(struct oci_store *s, int session_fd, const char *digest, uint64_t size)
{
	CLEANUP_BUF struct buf b = {0};
	uint64_t have;

	if (!blob_exists(s, session_fd, digest, &have) || have != size)
		return false;
	return size >= SYNC_NOW || blob_read(s, session_fd, digest, SYNC_NOW, &b, NULL) == 0;
}

int blob_put(struct oci_op *op, const void *p, size_t n, char digest[OCI_DIGEST_LEN + 1],
	     struct error **err)
{
	CLEANUP_BLOB_WRITER struct blob_writer w = {.fd = -1};

	digest_of(p, n, digest);
	op_pin(op, KEY_BLOB, digest_hex(digest));
	if (blob_intact(op->s, op->session_fd, digest, n))
		return 0;
	if (blob_writer_open(&w, op, digest, n, err) < 0 || blob_writer_add(&w, p, n, err) < 0)
		return -1;
	return blob_writer_commit(&w, digest, err);
}

bool blob_exists(struct oci_store *s, int session_fd, const char *digest, uint64_t *size)
{
	int dirs[] = {session_fd, s->blobs};
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (dirs[i] < 0 ||
		    fstatat(dirs[i], digest_hex(digest), &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		if (size)
			*size = (uint64_t)st.st_size;
		return true;
	}
	return false;
}

int blob_open(struct oci_store *s, int session_fd, const char *digest, struct error **err)
{
	int fd = -1;

	if (session_fd >= 0)
		fd = openat(session_fd, digest_hex(digest), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		fd = openat(s->blobs, digest_hex(digest), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_sys(err, errno, "blob %s", digest);
	return fd;
}

int blob_read(struct oci_store *s, int session_fd, const char *digest, size_t max, struct buf *out,
	      struct error **err)
{
	CLEANUP_CLOSE int fd = blob_open(s, session_fd, digest, err);
	char got[OCI_DIGEST_LEN + 1];

	if (fd < 0)
		return -1;
	if (fd_read_all(fd, max, out, err) < 0)
		return error_wrap(err, "blob %s", digest);
	digest_of(out->data ? out->data : "", out->len, got);
	if (strcmp(got, digest))
		return error_set(err, ERR_INTERNAL, "blob %s is damaged on disk: its content is %s",
				 digest, got);
	return 0;
}

int blob_read_doc(struct oci_store *s, int session_fd, const struct oci_desc *d,
		  struct oci_doc *out, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};

	if (blob_read(s, session_fd, d->digest, OCI_MAX_MANIFEST, &b, err) < 0)
		return -1;
	if (oci_doc_parse(b.data ? b.data : "", b.len, d->media_type, out, err) < 0)
		return error_wrap(err, "%s", d->digest);
	return 0;
}

int blob_read_config(struct oci_store *s, int session_fd, const struct oci_desc *d,
		     struct oci_config *out, struct error **err)
{
	CLEANUP_BUF struct buf b = {0};

	if (blob_read(s, session_fd, d->digest, OCI_MAX_CONFIG, &b, err) < 0)
		return -1;
	return oci_config_parse(b.data ? b.data : "", b.len, out, err);
}

int blob_publish(struct oci_op *op, const char *digest, struct error **err)
{
	const char *hex = digest_hex(digest);
	CLEANUP_CLOSE int fd = -1;

	op_pin(op, KEY_BLOB, hex);
	if (op->session_fd < 0 || blob_exists(op->s, -1, digest, NULL))
		return 0;
	fd = openat(op->session_fd, hex, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_sys(err, errno, "publish blob %s", digest);
	op_sync_later(op, fd);
	if (renameat(op->session_fd, hex, op->s->blobs, hex) < 0)
		return error_sys(err, errno, "publish blob %s", digest);
	op_created(op, KEY_BLOB, hex);
	return 0;
}
