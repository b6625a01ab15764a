/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.c - unpacks one layer's tar into data and tree.
 *
 * DOC: Files of a layer
 * `data` is the content of the layer's files one after the other, each starting at a multiple of 4
 * KiB, the whole a multiple of 4 KiB: a disk image that EROFS inodes can point into. Long runs of
 * zeros are holes. Many files are compressed; `index` says where their parts are (pack.c). `tree` says what is where
 * (tree.h). All are written under temporary names; `tree` is renamed last, so that a layer that has it is complete.
 *
 * Nothing is created on the host under a name that the archive chose, so links, "..", devices and
 * set-uid bits have no effect here. They are still checked: what cannot be said in a tree is
 * refused, rather than changed silently.
 */
#include "oci/layer_int.h"
#include "oci/tar.h"
#include "oci/tree.h"

#include <stdio.h>
#include <sys/sysmacros.h>
#include "core/path.h"

#define LAYER_MAX_XATTR UINT16_MAX /* EROFS counts a value's bytes in 16 bits */

struct layer_path {
	char path[TAR_MAX_PATH + 1];
	size_t len;
	const char *base; /* last component, in path */
};

/* A layer in the making. */
struct layer {
	struct layer_data data;
	struct pack *pack;
	struct tree_writer *tree;
	struct tar_reader *tar;
};

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

/* struct vfs_cap_data: the three versions that the kernel takes; a file with any other does not run. */
static bool cap_ok(const uint8_t *v, size_t len)
{
	static const uint8_t sizes[] = {[1] = 12, [2] = 20, [3] = 24};

	return len >= 4 && v[3] >= 1 && v[3] < ARRAY_SIZE(sizes) && len == sizes[v[3]];
}

static bool xattr_ok(uint8_t index, const struct tar_xattr *x)
{
	if (x->len > LAYER_MAX_XATTR)
		return false;
	switch (index) {
	case 2:
	case 3:
		return acl_ok(x->value, x->len);
	case 6:
		return cap_ok(x->value, x->len);
	default:
		return true;
	}
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

		if (!xattr_ok(xattr_names[i].index, x))
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

static int layer_content(struct layer *l, const struct tar_entry *e, struct layer_path *link,
			 struct tree_entry *r, struct error **err)
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
		return pack_file(l->pack, &l->data, l->tar, e, r, err) < 0
			       ? error_wrap(err, "%.200s", e->path)
			       : 0;
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

static int layer_member(struct layer *l, const struct tar_entry *e, struct buf *xattrs,
			struct error **err)
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
		return tree_put(l->tree, &r, err);
	}
	if (!path.len && e->type != TAR_DIR)
		return error_set(err, ERR_INVALID_ARGUMENT, "the layer's root is not a directory");
	if (layer_attrs(e, &r, xattrs, err) < 0 || layer_content(l, e, &link, &r, err) < 0)
		return -1;
	return tree_put(l->tree, &r, err);
}

static int layer_write(struct layer *l, struct error **err)
{
	CLEANUP_BUF struct buf xattrs = {0};
	struct tar_entry e;
	uint64_t data_len, index_len;
	int r;

	while ((r = tar_next(l->tar, &e, err)) == 1)
		if (layer_member(l, &e, &xattrs, err) < 0)
			return -1;
	if (r < 0 || data_finish(&l->data, &data_len, err) < 0 ||
	    pack_finish(l->pack, &index_len, err) < 0 ||
	    tree_writer_finish(l->tree, data_len, index_len, err) < 0)
		return -1;
	/* The others are on their way to the disk already, so that one commit of the file system's journal serves all. */
	if (data_sync(&l->data, err) < 0 || pack_sync(l->pack, err) < 0)
		return -1;
	return tree_writer_sync(l->tree, err);
}

static int layer_commit(int dirfd, struct error **err)
{
	if (renameat(dirfd, "data.tmp", dirfd, "data") < 0 ||
	    renameat(dirfd, "index.tmp", dirfd, "index") < 0 ||
	    renameat(dirfd, "tree.tmp", dirfd, "tree") < 0)
		return error_sys(err, errno, "unpack layer: rename");
	return 0;
}

static int layer_open(struct layer *l, const struct oci_reader *r, int dirfd, struct error **err)
{
	if (data_open(&l->data, dirfd, "data.tmp", err) < 0)
		return -1;
	l->pack = pack_open(dirfd, "index.tmp", err);
	l->tree = l->pack ? tree_writer_open(dirfd, "tree.tmp", err) : NULL;
	l->tar = l->tree ? tar_open(r, err) : NULL;
	return l->tar ? 0 : -1;
}

int layer_unpack(const struct oci_reader *r, int layer_dirfd, struct error **err)
{
	static const char *const tmp[] = {"data.tmp", "index.tmp", "tree.tmp"};
	struct layer l = {.data.fd = -1};
	int rc = layer_open(&l, r, layer_dirfd, err);

	if (rc == 0)
		rc = layer_write(&l, err);
	if (rc == 0)
		rc = layer_commit(layer_dirfd, err);
	for (size_t i = 0; rc < 0 && i < ARRAY_SIZE(tmp); i++)
		unlinkat(layer_dirfd, tmp[i], 0);
	tar_close(l.tar);
	tree_writer_free(l.tree);
	pack_close(l.pack);
	data_close(&l.data);
	return rc;
}
