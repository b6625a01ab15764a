/* SPDX-License-Identifier: Apache-2.0 */
/*
 * member.c - one file out of an archive, such as a guest kernel out of a distributor's.
 *
 * The archive is spooled into the operation's session first, from a descriptor or a URL, and hashed on the way: nothing of it is looked
 * at before its digest is right, and a symlink may lead back to what has gone by. Each pass over it looks for one name. What is found
 * goes into a file without a name. Everything else in the archive is read past, and none of its paths touches a file system.
 */
#include <fcntl.h>
#include <unistd.h>

#include "core/path.h"
#include "oci/registry_int.h"
#include "oci/tar.h"

#define MEMBER_HOPS 8            /* links that are followed */
#define MEMBER_MAX  (1ull << 30) /* bytes of the file */
#define COPY_BYTES  (256u << 10)

/* ---- the archive ---- */

static int copy_in(struct oci_op *op, int from, struct blob_writer *w, struct error **err)
{
	struct op_item item = {.op = op, .phase = "copy", .name = "archive"};
	CLEANUP_FREE char *chunk = xmalloc(COPY_BYTES);
	ssize_t n;

	while ((n = RETRY_EINTR(read(from, chunk, COPY_BYTES))) > 0) {
		if (op_check(op, err) < 0 || blob_writer_add(w, chunk, (size_t)n, err) < 0)
			return -1;
		op_item_at(&item, w->size);
	}
	return n < 0 ? error_sys(err, errno, "read archive") : 0;
}

static int fetch(struct oci_op *op, const char *url, struct blob_writer *w, struct error **err)
{
	CLEANUP_FREE char *host = NULL;
	struct op_item item = {.op = op, .phase = "download", .name = "archive"};
	struct http_request q = {.url = url, .blob = w, .item = &item};
	CLEANUP(registry_freep) struct registry *r = NULL;
	CLEANUP(registry_conn_freep) struct registry_conn *c = NULL;
	struct http_result res = {0};
	struct oci_ref ref = {0};
	struct http_origin o;
	int rc;

	if (http_origin_of(url, &o, err) < 0)
		return -1;
	host = xstrdup(strstr(url, "://") + 3);
	host[strcspn(host, "/?#")] = '\0';
	ref.domain = host;
	r = registry_new(op, &ref, o.https ? "https" : "http", err);
	if (!r)
		return -1;
	q.loopback = r->loopback;
	c = registry_conn_new(r);
	rc = registry_request(c, &q, &res, err);
	http_result_free(&res);
	return rc;
}

/* The archive, whole and of the digest that was asked for; -1 on failure. */
static int spool(struct oci_op *op, const struct oci_member *m, struct error **err)
{
	CLEANUP_BLOB_WRITER struct blob_writer w = {.fd = -1};
	char digest[OCI_DIGEST_LEN + 1];

	if (m->digest && !oci_digest_check(m->digest))
		return error_set(err, ERR_INVALID_ARGUMENT, "'%.100s' is no sha256 digest",
				 m->digest);
	if (blob_writer_open(&w, op, m->digest, UINT64_MAX, err) < 0 ||
	    (m->url ? fetch(op, m->url, &w, err) : copy_in(op, m->fd, &w, err)) < 0 ||
	    blob_writer_commit(&w, digest, err) < 0)
		return -1;
	return blob_open(op->s, op->session_fd, digest, err);
}

/* ---- the file in it ---- */

static int copy_out(struct oci_op *op, struct tar_reader *t, const struct tar_entry *e, int *out,
		    struct error **err)
{
	CLEANUP_FREE char *chunk = xmalloc(COPY_BYTES);
	CLEANUP_CLOSE int fd = -1;
	uint64_t at = 0;
	ssize_t n;

	if (e->size > MEMBER_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "it is larger than %llu MiB",
				 MEMBER_MAX >> 20);
	fd = path_unnamed(op->session_fd, err);
	if (fd < 0)
		return -1;
	while ((n = tar_read(t, chunk, COPY_BYTES, err)) > 0) {
		if (op_check(op, err) < 0 ||
		    fd_pwrite_full(fd, chunk, (size_t)n, (off_t)at, err) < 0)
			return -1;
		at += (uint64_t)n;
	}
	if (n < 0)
		return -1;
	base_close_fd(out); /* the last member of a name counts */
	*out = fd;
	fd = -1;
	return 0;
}

/* One pass: *out is the file of that name, or *link where its last member leads. Neither: it is not there. */
static int find(struct oci_op *op, struct tar_reader *t, const char *name, int *out, char **link,
		struct error **err)
{
	struct tar_entry e;
	int rc;

	while ((rc = tar_next(t, &e, err)) > 0) {
		CLEANUP_FREE char *path = tar_path_clean(e.path);

		if (op_check(op, err) < 0)
			return -1;
		if (!path || strcmp(path, name))
			continue;
		free_shared(*link);
		if (e.type == TAR_SYMLINK || e.type == TAR_HARDLINK) {
			base_close_fd(out);
			*link = e.type == TAR_SYMLINK ? tar_path_link(path, e.linkname)
						      : tar_path_clean(e.linkname);
			if (!*link)
				return error_set(err, ERR_INVALID_ARGUMENT,
						 "%s: its link leads out of the archive", name);
		} else if (e.type != TAR_FILE) {
			return error_set(err, ERR_INVALID_ARGUMENT, "%s is no file", name);
		} else if (copy_out(op, t, &e, out, err) < 0) {
			return error_wrap(err, "%s", name);
		}
	}
	return rc;
}

static int pass(struct oci_op *op, int archive, const char *name, int *out, char **link,
		struct error **err)
{
	struct window window = {.op = op};
	CLEANUP(decompress_freep) struct decompress *d = NULL;
	struct fd_reader file = {.fd = archive};
	struct oci_reader raw = fd_reader_of(&file), plain;
	struct tar_reader *t;
	int rc;

	if (lseek(archive, 0, SEEK_SET) < 0)
		return error_sys(err, errno, "seek in archive");
	d = decompress_new(&raw, err);
	if (!d)
		return -1;
	decompress_allow_xz(d);
	decompress_windows(d, window_take, &window);
	plain = decompress_reader(d);
	t = tar_open(&plain, err);
	rc = t ? find(op, t, name, out, link, err) : -1;
	tar_close(t);
	return rc;
}

static int extract(struct oci_op *op, int archive, const char *member, char **path,
		   struct error **err)
{
	CLEANUP_FREE char *name = tar_path_clean(member + strspn(member, "/"));
	int out = -1;

	if (!name || !*name)
		return error_set(err, ERR_INVALID_ARGUMENT, "'%.200s' is no path in an archive",
				 member);
	for (int hop = 0; hop < MEMBER_HOPS; hop++) {
		CLEANUP_FREE char *link = NULL;

		if (pass(op, archive, name, &out, &link, err) < 0) {
			base_close_fd(&out);
			return -1;
		}
		if (out >= 0) {
			*path = STEAL(name);
			return out;
		}
		if (!link)
			return error_set(err, ERR_NOT_FOUND, "%s is not in the archive", name);
		free(name);
		name = STEAL(link);
	}
	return error_set(err, ERR_INVALID_ARGUMENT, "%s: too many links", member);
}

int oci_member(struct oci_store *s, const struct oci_member *m, const struct oci_progress *p,
	       char **path, struct error **err)
{
	CLEANUP_CLOSE int archive = -1;
	struct oci_op op;
	int fd = -1;

	op_begin(&op, s, p);
	if (op_session(&op, err) == 0 && (archive = spool(&op, m, err)) >= 0)
		fd = extract(&op, archive, m->member, path, err);
	op_end(&op);
	if (fd < 0)
		error_wrap(err, "archive");
	return fd;
}
