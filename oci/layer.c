/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.c - unpacks one layer's tar into data and tree.
 *
 * DOC: Files of a layer
 * `data` is the content of the layer's files one after the other, each starting at a multiple of 4
 * KiB, the whole a multiple of 4 KiB: a disk image that EROFS inodes can point into. Long runs of
 * zeros are holes. `tree` says what is where (tree.h). Both are written under temporary names;
 * `tree` is renamed last, so that a layer that has it is complete.
 *
 * Nothing is created on the host under a name that the archive chose, so links, "..", devices and
 * set-uid bits have no effect here. They are still checked: what cannot be said in a tree is
 * refused, rather than changed silently.
 */
#include "oci/tar.h"
#include "oci/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include "core/path.h"

#define LAYER_BUFFER   (1u << 20)
#define LAYER_CHUNK    (64u << 10)  /* zeros become holes in units of this */
#define LAYER_MAX_DATA (4ull << 40) /* logical bytes of one layer, holes included */
#define LAYER_MAX_RESERVE \
	(64ull << 20)              /* left free on the host's disk, or a twentieth of a small one */
#define LAYER_MAX_XATTR UINT16_MAX /* EROFS counts a value's bytes in 16 bits */

struct layer_data {
	int fd;
	uint8_t *buf;
	size_t len;   /* bytes in buf */
	uint64_t off; /* of buf in the file; a multiple of LAYER_CHUNK */
};

struct layer_path {
	char path[TAR_MAX_PATH + 1];
	size_t len;
	const char *base; /* last component, in path */
};

/* ---- data ---- */

static int data_error(struct error **err, int sys)
{
	if (sys == ENOSPC || sys == EDQUOT)
		return error_sys(err, sys, "unpack layer: the image store's disk is full");
	return error_sys(err, sys, "unpack layer: write data");
}

/* Refuses to fill the host's disk to the last block, whatever a layer expands to. */
static int data_check_space(struct layer_data *d, struct error **err)
{
	struct statvfs v;

	if (fstatvfs(d->fd, &v) < 0)
		return error_sys(err, errno, "unpack layer: statvfs");
	uint64_t reserve = MIN(LAYER_MAX_RESERVE, (uint64_t)v.f_blocks * v.f_frsize / 20);

	if ((uint64_t)v.f_bavail * v.f_frsize < reserve + LAYER_BUFFER / 16)
		return data_error(err, ENOSPC);
	return 0;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return !p[0] && memcmp(p, p + 1, n - 1) == 0;
}

static int data_write(struct layer_data *d, size_t from, size_t to, struct error **err)
{
	while (from < to) {
		ssize_t w = RETRY_EINTR(
			pwrite(d->fd, d->buf + from, to - from, (off_t)(d->off + from)));

		if (w < 0)
			return data_error(err, errno);
		from += (size_t)w;
	}
	return 0;
}

/* Writes the buffer out, chunks of zeros left as holes. Unless `all`, an incomplete last chunk
 * stays in the buffer. */
static int data_flush(struct layer_data *d, bool all, struct error **err)
{
	size_t end = all ? d->len : ALIGN_DOWN(d->len, LAYER_CHUNK), from = 0;

	if (!end)
		return 0;
	if (data_check_space(d, err) < 0)
		return -1;
	for (size_t at = 0; at < end; at += LAYER_CHUNK) {
		size_t n = MIN((size_t)LAYER_CHUNK, end - at);

		if (!is_zero(d->buf + at, n))
			continue;
		if (data_write(d, from, at, err) < 0)
			return -1;
		from = at + n;
	}
	if (data_write(d, from, end, err) < 0)
		return -1;
	memmove(d->buf, d->buf + end, d->len - end);
	d->len -= end;
	d->off += end;
	return 0;
}

static int data_check_size(struct layer_data *d, uint64_t more, struct error **err)
{
	if (more > LAYER_MAX_DATA || d->off + d->len > LAYER_MAX_DATA - more)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the layer's files have more than %llu bytes", LAYER_MAX_DATA);
	return 0;
}

/* Appends n zero bytes. */
static int data_zeros(struct layer_data *d, uint64_t n, struct error **err)
{
	while (n) {
		size_t k = MIN(n, (uint64_t)(LAYER_BUFFER - d->len));

		memset(d->buf + d->len, 0, k);
		d->len += k;
		n -= k;
		if (d->len == LAYER_BUFFER && data_flush(d, false, err) < 0)
			return -1;
		/* Whole chunks of a long hole need not go through the buffer. */
		if (!d->len) {
			d->off += ALIGN_DOWN(n, LAYER_CHUNK);
			n -= ALIGN_DOWN(n, LAYER_CHUNK);
		}
	}
	return 0;
}

/* Appends the current file of t, padded to TREE_ALIGN. *off: where it starts. */
static int data_file(struct layer_data *d, struct tar_reader *t, uint64_t size, uint64_t *off,
		     struct error **err)
{
	uint64_t left = size, hole;

	*off = 0;
	if (!size)
		return 0;
	if (data_check_size(d, size, err) < 0)
		return -1;
	*off = d->off + d->len;
	while (left) {
		ssize_t n = tar_read_run(t, d->buf + d->len, LAYER_BUFFER - d->len, &hole, err);

		if (n < 0)
			return -1;
		if (!n && !hole)
			return error_set(err, ERR_INTERNAL, "tar: a file is shorter than its size");
		d->len += (size_t)n;
		left -= (uint64_t)n + hole;
		if (d->len == LAYER_BUFFER && data_flush(d, false, err) < 0)
			return -1;
		if (hole && data_zeros(d, hole, err) < 0)
			return -1;
	}
	return data_zeros(d, -size & (TREE_ALIGN - 1), err);
}

static int data_finish(struct layer_data *d, uint64_t *len, struct error **err)
{
	*len = d->off + d->len;
	if (data_flush(d, true, err) < 0)
		return -1;
	if (ftruncate(d->fd, (off_t)*len) < 0 || fsync(d->fd) < 0)
		return data_error(err, errno);
	return 0;
}

/* ---- paths ---- */

/* "./a//b/" → "a/b". ".." is refused anywhere: no packer writes it and no reading of it is safe. */
static int path_normalise(const char *in, struct layer_path *out, struct error **err)
{
	out->len = 0;
	out->base = out->path;
	for (const char *p = in; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "the layer names a path with \"..\": %s", in);
		if (n && !(n == 1 && *p == '.')) {
			if (out->len)
				out->path[out->len++] = '/';
			out->base = out->path + out->len;
			memcpy(out->path + out->len, p, n);
			out->len += n;
		}
		p += n + (p[n] == '/');
	}
	out->path[out->len] = 0;
	return 0;
}

enum marker { MARKER_NONE, MARKER_SKIP, MARKER_WHITEOUT, MARKER_OPAQUE };

/* Recognises the image spec's whiteout names and rewrites the path to the one they speak of. */
static int path_marker(struct layer_path *p, enum marker *m, struct error **err)
{
	static const char prefix[] = ".wh.", meta[] = ".wh..wh.";

	*m = MARKER_NONE;
	for (const char *c = p->path; c < p->base; c += strcspn(c, "/") + 1) {
		if (str_prefix(c, meta)) { /* AUFS's own bookkeeping */
			*m = MARKER_SKIP;
			return 0;
		}
		if (str_prefix(c, prefix))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "the layer has a whiteout for a directory: %s", p->path);
	}
	if (!str_prefix(p->base, prefix))
		return 0;
	if (str_prefix(p->base, meta) && !str_eq(p->base, ".wh..wh..opq")) {
		*m = MARKER_SKIP;
		return 0;
	}
	size_t dir = (size_t)(p->base - p->path);

	if (str_prefix(p->base, meta)) {
		*m = MARKER_OPAQUE;
		p->len = dir ? dir - 1 : 0;
		p->path[p->len] = 0;
		return 0;
	}
	const char *name = p->base + strlen(prefix);

	if (!*name || str_eq(name, ".") || str_eq(name, ".."))
		return error_set(err, ERR_INVALID_ARGUMENT, "the layer has a bad whiteout: %s",
				 p->path);
	*m = MARKER_WHITEOUT;
	p->len -= strlen(prefix);
	memmove(p->path + dir, name, strlen(name) + 1);
	return 0;
}

/* ---- attributes ---- */

/* The kernel's prefixes that EROFS knows by number (erofs_fs.h). An exact name has no rest. */
static const struct {
	const char *prefix;
	uint8_t index;
	bool exact;
} xattr_names[] = {
	{"user.overlay.", 0, false}, /* overlayfs's own marks would change what the guest sees */
	{"trusted.overlay.", 0, false},
	{"user.", 1, false},
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"trusted.", 4, false},
	{"security.capability", 6, true},
};

static bool acl_ok(const uint8_t *v, size_t len)
{
	/* struct posix_acl_xattr_header and 8-byte entries, version 2 */
	return len >= 4 && len % 8 == 4 && v[0] == 2 && !v[1] && !v[2] && !v[3];
}

/* Appends one attribute as struct erofs_xattr_entry, name rest, value. Attributes of other kinds
 * say nothing in a container's root (labels of the packer's host) and are left out. */
static int xattr_encode(struct buf *b, const struct tar_xattr *x, struct error **err)
{
	static const char zeros[4];

	for (size_t i = 0; i < ARRAY_SIZE(xattr_names); i++) {
		const char *prefix = xattr_names[i].prefix, *rest = x->name + strlen(prefix);

		if (!str_prefix(x->name, prefix) || (xattr_names[i].exact && *rest))
			continue;
		if (!xattr_names[i].index)
			return 0;
		bool acl = xattr_names[i].index == 2 || xattr_names[i].index == 3;

		if (x->len > LAYER_MAX_XATTR || (acl && !acl_ok(x->value, x->len)))
			return error_set(err, ERR_INVALID_ARGUMENT, "bad extended attribute %s",
					 x->name);
		if (xattr_names[i].index == 6)
			rest = x->name + strlen("security.");
		else if (!acl && !*rest)
			return 0;
		uint8_t h[4] = {(uint8_t)strlen(rest), xattr_names[i].index, (uint8_t)x->len,
				(uint8_t)(x->len >> 8)};

		buf_append(b, h, sizeof(h));
		buf_append(b, rest, strlen(rest));
		buf_append(b, x->value, x->len);
		buf_append(b, zeros, -b->len & 3);
		return 0;
	}
	return 0;
}

/* ---- members ---- */

static uint32_t encode_dev(uint32_t maj, uint32_t min)
{
	return (min & 0xff) | maj << 8 | (min & ~0xffu) << 12;
}

static int layer_attrs(const struct tar_entry *e, struct tree_entry *r, struct buf *xattrs,
		       struct error **err)
{
	/* UINT32_MAX means "no change" to chown(2) and is nobody's id. */
	if (e->uid >= UINT32_MAX || e->gid >= UINT32_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "%s: owner id out of range", e->path);
	r->mode = e->mode;
	r->uid = (uint32_t)e->uid;
	r->gid = (uint32_t)e->gid;
	r->mtime = e->mtime;
	r->mtime_nsec = e->mtime_nsec;
	xattrs->len = 0;
	for (size_t i = 0; i < e->nxattrs; i++)
		if (xattr_encode(xattrs, &e->xattrs[i], err) < 0)
			return error_wrap(err, "%s", e->path);
	r->xattrs = xattrs->data;
	r->xattr_len = xattrs->len;
	return 0;
}

static int layer_content(struct tar_reader *t, const struct tar_entry *e, struct layer_data *d,
			 struct layer_path *link, struct tree_entry *r, struct error **err)
{
	static const enum tree_type types[] = {
		[TAR_FILE] = TREE_FILE,       [TAR_HARDLINK] = TREE_HARDLINK,
		[TAR_SYMLINK] = TREE_SYMLINK, [TAR_CHAR] = TREE_CHAR,
		[TAR_BLOCK] = TREE_BLOCK,     [TAR_DIR] = TREE_DIR,
		[TAR_FIFO] = TREE_FIFO,
	};

	r->type = types[e->type];
	switch (e->type) {
	case TAR_FILE:
		r->size = e->size;
		return data_file(d, t, e->size, &r->data_off, err);
	case TAR_HARDLINK:
		if (path_normalise(e->linkname, link, err) < 0)
			return -1;
		if (!link->len)
			return error_set(err, ERR_INVALID_ARGUMENT, "%s: a hard link to the root",
					 e->path);
		r->link = link->path;
		r->link_len = link->len;
		return 0;
	case TAR_SYMLINK:
		r->link = e->linkname;
		r->link_len = strlen(e->linkname);
		return 0;
	case TAR_CHAR:
	case TAR_BLOCK:
		r->rdev = encode_dev(e->devmajor, e->devminor);
		return 0;
	default:
		return 0;
	}
}

static int layer_member(struct tar_reader *t, const struct tar_entry *e, struct layer_data *d,
			struct tree_writer *w, struct buf *xattrs, struct error **err)
{
	struct layer_path path = {.len = 0}, link;
	struct tree_entry r = {0};
	enum marker m;

	if (path_normalise(e->path, &path, err) < 0 || path_marker(&path, &m, err) < 0)
		return -1;
	if (m == MARKER_SKIP)
		return 0;
	r.path = path.path;
	r.path_len = path.len;
	if (m != MARKER_NONE) {
		r.type = m == MARKER_OPAQUE ? TREE_OPAQUE : TREE_WHITEOUT;
		return tree_put(w, &r, err);
	}
	if (!path.len && e->type != TAR_DIR)
		return error_set(err, ERR_INVALID_ARGUMENT, "the layer's root is not a directory");
	if (layer_attrs(e, &r, xattrs, err) < 0 || layer_content(t, e, d, &link, &r, err) < 0)
		return -1;
	return tree_put(w, &r, err);
}

static int layer_write(struct tar_reader *t, struct layer_data *d, struct tree_writer *w,
		       struct error **err)
{
	CLEANUP_BUF struct buf xattrs = {0};
	struct tar_entry e;
	uint64_t len;
	int r;

	while ((r = tar_next(t, &e, err)) == 1)
		if (layer_member(t, &e, d, w, &xattrs, err) < 0)
			return -1;
	if (r < 0 || data_finish(d, &len, err) < 0)
		return -1;
	return tree_writer_finish(w, len, err);
}

static int layer_commit(int dirfd, struct error **err)
{
	if (renameat(dirfd, "data.tmp", dirfd, "data") < 0 ||
	    renameat(dirfd, "tree.tmp", dirfd, "tree") < 0)
		return error_sys(err, errno, "unpack layer: rename");
	if (fsync(dirfd) < 0)
		return error_sys(err, errno, "unpack layer: fsync directory");
	return 0;
}

int layer_unpack(const struct oci_reader *r, int layer_dirfd, struct error **err)
{
	struct layer_data d = {.fd = -1};
	struct tree_writer *w = NULL;
	struct tar_reader *t = NULL;
	int rc = -1;

	d.fd = openat(layer_dirfd, "data.tmp",
		      O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d.fd < 0)
		return error_sys(err, errno, "unpack layer: create data");
	d.buf = xmalloc(LAYER_BUFFER);
	w = tree_writer_open(layer_dirfd, "tree.tmp", err);
	t = w ? tar_open(r, err) : NULL;
	if (t)
		rc = layer_write(t, &d, w, err);
	if (rc == 0)
		rc = layer_commit(layer_dirfd, err);
	if (rc < 0) {
		unlinkat(layer_dirfd, "data.tmp", 0);
		unlinkat(layer_dirfd, "tree.tmp", 0);
	}
	tar_close(t);
	tree_writer_free(w);
	free(d.buf);
	close(d.fd);
	return rc;
}
