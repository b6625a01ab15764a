/* SPDX-License-Identifier: Apache-2.0 */
/*
 * erofs.c - merges layer trees and writes the image's metadata as EROFS (Linux
 * fs/erofs/erofs_fs.h).
 *
 * DOC: Layout of the image
 *     meta.erofs                                        | data of layer 0 | data of layer 1 | …
 *     superblock at 1024, inodes with their attributes,
 *     and what is inline; blocks of big directories
 *
 * All inodes are of the extended form: times in nanoseconds and any owner. Files are FLAT_PLAIN,
 * their block addresses lie behind the metadata. Directories and symlinks are inline behind their
 * inode when the whole fits one block, else they have blocks of their own. Inodes come in
 * depth-first order of sorted names, so that the output depends on the layers only and neighbours
 * in the tree are neighbours on disk.
 *
 * Three walks over the tree: place (numbers, sizes, offsets), write the inodes, write the blocks.
 * The last two stream.
 */
#include "oci/oci.h"
#include "oci/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include "core/path.h"

#define EROFS_MAGIC        0xe0f5e1e2u
#define EROFS_SUPER_OFFSET 1024u
#define EROFS_BLOCK_BITS   12u
#define EROFS_BLOCK        (1u << EROFS_BLOCK_BITS)
#define EROFS_SLOT         32u /* an inode's number is its offset in these */
#define EROFS_MAX_XATTR    (4u * (UINT16_MAX - 1))

#define EROFS_COMPAT_SB_CHKSUM 0x1u
#define EROFS_COMPAT_MTIME     0x2u /* inodes carry mtime, not ctime */

#define EROFS_EXTENDED    1u
#define EROFS_FLAT_PLAIN  (0u << 1)
#define EROFS_FLAT_INLINE (2u << 1)

#define OUT_BUFFER (1u << 20)

struct erofs_super {
	uint32_t magic, checksum, feature_compat;
	uint8_t blkszbits, extslots;
	uint16_t root_nid;
	uint64_t inos;
	uint64_t build_time;
	uint32_t build_time_nsec;
	uint32_t blocks;
	uint32_t meta_blkaddr, xattr_blkaddr;
	uint8_t uuid[16], volume_name[16];
	uint32_t feature_incompat;
	uint8_t unused[44];
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_super) == 128, "EROFS superblock");

struct erofs_inode {
	uint16_t format, xattr_icount, mode, reserved;
	uint64_t size;
	uint32_t u; /* block address or device number */
	uint32_t ino, uid, gid;
	uint64_t mtime;
	uint32_t mtime_nsec, nlink;
	uint8_t unused[16];
};
_Static_assert(sizeof(struct erofs_inode) == 64, "EROFS extended inode");

struct erofs_dirent {
	uint64_t nid;
	uint16_t nameoff;
	uint8_t file_type, reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_dirent) == 12, "EROFS dirent");

/* Header of an inode's attributes; the tree files hold what follows it ready made. */
struct erofs_xattr_header {
	uint32_t name_filter;
	uint8_t shared_count, unused[7];
};
_Static_assert(sizeof(struct erofs_xattr_header) == 12, "EROFS xattr header");

/* Mode's type bits and the dirent's file type, by tree_type. */
static const struct {
	uint16_t mode;
	uint8_t ftype;
} types[] = {
	[TREE_DIR] = {S_IFDIR, 2},  [TREE_FILE] = {S_IFREG, 1},  [TREE_SYMLINK] = {S_IFLNK, 7},
	[TREE_CHAR] = {S_IFCHR, 3}, [TREE_BLOCK] = {S_IFBLK, 4}, [TREE_FIFO] = {S_IFIFO, 5},
};

/* A name of a directory, "." and ".." among them. */
struct dent {
	const char *name;
	uint32_t len;
	const struct tree_inode *inode;
};

struct image {
	struct tree *tree;
	struct tree_file *layers;
	uint64_t *base; /* first block of each layer's data, relative to the metadata's end */
	size_t nlayers;
	uint64_t data_blocks;
	uint64_t pos;     /* place: end of the inodes so far */
	uint32_t ninodes; /* place: how many; write: how many are out */
	uint64_t nplain;  /* blocks of big directories and symlinks */
	uint64_t plain_blk, meta_blocks;
	struct dent *dents;
	size_t cap_dents;
	int fd;
	uint8_t *buf;
	size_t buf_len;
	uint64_t buf_off;
};

/* ---- output ---- */

static int out_flush(struct image *im, struct error **err)
{
	if (fd_pwrite_full(im->fd, im->buf, im->buf_len, (off_t)im->buf_off, err) < 0)
		return error_wrap(err, "write the image's metadata");
	im->buf_off += im->buf_len;
	im->buf_len = 0;
	return 0;
}

/* Appends n bytes (zeros when p is NULL). */
static int out(struct image *im, const void *p, uint64_t n, struct error **err)
{
	while (n) {
		size_t k = MIN(n, (uint64_t)(OUT_BUFFER - im->buf_len));

		if (p) {
			memcpy(im->buf + im->buf_len, p, k);
			p = (const char *)p + k;
		} else {
			memset(im->buf + im->buf_len, 0, k);
		}
		im->buf_len += k;
		n -= k;
		if (im->buf_len == OUT_BUFFER && out_flush(im, err) < 0)
			return -1;
	}
	return 0;
}

static int out_pad_to(struct image *im, uint64_t off, struct error **err)
{
	return out(im, NULL, off - (im->buf_off + im->buf_len), err);
}

/* ---- walking ---- */

static struct tree_node *next_node(struct tree_node *n)
{
	if (n->child)
		return n->child;
	while (!n->next && n->parent != n)
		n = n->parent;
	return n->next;
}

static int name_cmp(const char *a, size_t an, const char *b, size_t bn)
{
	int c = memcmp(a, b, MIN(an, bn));

	return c ? c : (an > bn) - (an < bn);
}

static int node_cmp(const void *a, const void *b)
{
	const struct tree_node *x = *(struct tree_node *const *)a,
			       *y = *(struct tree_node *const *)b;

	return name_cmp(x->name, x->name_len, y->name, y->name_len);
}

static void sort_children(struct tree_node *dir)
{
	CLEANUP_FREE struct tree_node **v = xreallocarray(NULL, dir->nchildren + 1, sizeof(void *));
	size_t n = 0;

	for (struct tree_node *c = dir->child; c; c = c->next)
		v[n++] = c;
	qsort(v, n, sizeof(void *), node_cmp);
	v[n] = NULL;
	dir->child = v[0];
	for (size_t i = 0; i < n; i++) {
		v[i]->prev = i ? v[i - 1] : NULL;
		v[i]->next = v[i + 1];
	}
}

/* Fills im->dents with the names of a sorted directory; returns their number. */
static size_t dir_entries(struct image *im, const struct tree_node *dir)
{
	const struct dent dots[] = {{".", 1, dir->inode}, {"..", 2, dir->parent->inode}};
	size_t n = 0, d = 0;

	if (im->cap_dents < dir->nchildren + 2) {
		im->cap_dents = dir->nchildren * 2 + 64;
		im->dents = xreallocarray(im->dents, im->cap_dents, sizeof(*im->dents));
	}
	for (const struct tree_node *c = dir->child; c; c = c->next) {
		while (d < 2 && name_cmp(dots[d].name, dots[d].len, c->name, c->name_len) < 0)
			im->dents[n++] = dots[d++];
		im->dents[n++] = (struct dent){c->name, c->name_len, c->inode};
	}
	while (d < 2)
		im->dents[n++] = dots[d++];
	return n;
}

/* How many of dents[0..n) fit one block, and the bytes they take in it. */
static size_t dir_block(const struct dent *dents, size_t n, uint32_t *used)
{
	size_t i = 0;

	*used = 0;
	while (i < n && *used + sizeof(struct erofs_dirent) + dents[i].len <= EROFS_BLOCK)
		*used += (uint32_t)sizeof(struct erofs_dirent) + dents[i++].len;
	return i;
}

static uint64_t dir_size(struct image *im, const struct tree_node *dir)
{
	size_t n = dir_entries(im, dir), at = 0;
	uint64_t size = 0;
	uint32_t used;

	for (;;) {
		at += dir_block(im->dents + at, n - at, &used);
		if (at == n)
			return size + used;
		size += EROFS_BLOCK;
	}
}

/* ---- place ---- */

static uint32_t xattr_size(const struct tree_inode *i)
{
	return i->xattr_len ? (uint32_t)sizeof(struct erofs_xattr_header) + i->xattr_len : 0;
}

static int place_inode(struct image *im, struct tree_node *n, struct error **err)
{
	struct tree_inode *i = n->inode;
	uint64_t tail = 0, total = sizeof(struct erofs_inode) + xattr_size(i);

	if (i->ino)
		return 0;
	if (i->xattr_len > EROFS_MAX_XATTR)
		return error_set(err, ERR_INTERNAL, "too many extended attributes on one file");
	if (i->type == TREE_DIR) {
		sort_children(n);
		i->size = dir_size(im, n);
	}
	if (i->type == TREE_DIR || i->type == TREE_SYMLINK)
		tail = i->size;
	i->plain = total + tail > EROFS_BLOCK;
	if (!i->plain)
		total += tail;
	else
		i->blk = (uint32_t)im->nplain;
	if (i->plain)
		im->nplain += ALIGN_UP(tail, EROFS_BLOCK) / EROFS_BLOCK;
	/* The core, and what is inline, may not cross a block; attributes may. */
	uint64_t whole = total > EROFS_BLOCK ? sizeof(struct erofs_inode) : total;

	im->pos = ALIGN_UP(im->pos, EROFS_SLOT);
	if (im->pos % EROFS_BLOCK + whole > EROFS_BLOCK)
		im->pos = ALIGN_UP(im->pos, EROFS_BLOCK);
	i->off = im->pos;
	i->ino = ++im->ninodes;
	im->pos += total;
	return 0;
}

static int place(struct image *im, struct error **err)
{
	im->pos = EROFS_SUPER_OFFSET + sizeof(struct erofs_super);
	for (struct tree_node *n = tree_root(im->tree); n; n = next_node(n))
		if (place_inode(im, n, err) < 0)
			return -1;
	im->plain_blk = ALIGN_UP(im->pos, EROFS_BLOCK) / EROFS_BLOCK;
	im->meta_blocks = im->plain_blk + im->nplain;
	if (im->meta_blocks + im->data_blocks > UINT32_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "the image is larger than 16 TiB");
	return 0;
}

/* ---- write ---- */

static int write_dir(struct image *im, const struct tree_node *dir, struct error **err)
{
	size_t n = dir_entries(im, dir), at = 0;
	uint8_t block[EROFS_BLOCK];

	while (at < n) {
		uint32_t used;
		size_t k = dir_block(im->dents + at, n - at, &used);
		size_t nameoff = k * sizeof(struct erofs_dirent);

		memset(block, 0, sizeof(block));
		for (size_t j = 0; j < k; j++) {
			const struct dent *d = &im->dents[at + j];
			struct erofs_dirent de = {
				.nid = d->inode->off / EROFS_SLOT,
				.nameoff = (uint16_t)nameoff,
				.file_type = types[d->inode->type].ftype,
			};

			memcpy(block + j * sizeof(de), &de, sizeof(de));
			memcpy(block + nameoff, d->name, d->len);
			nameoff += d->len;
		}
		at += k;
		if (out(im, block, at == n ? used : EROFS_BLOCK, err) < 0)
			return -1;
	}
	return 0;
}

static int write_tail(struct image *im, const struct tree_node *n, struct error **err)
{
	if (n->inode->type == TREE_DIR)
		return write_dir(im, n, err);
	if (n->inode->type == TREE_SYMLINK)
		return out(im, n->inode->link, n->inode->link_len, err);
	return 0;
}

static uint32_t inode_address(const struct image *im, const struct tree_inode *i)
{
	switch (i->type) {
	case TREE_FILE:
		return i->size ? (uint32_t)(im->meta_blocks + im->base[i->layer] +
					    i->data_off / EROFS_BLOCK)
			       : 0;
	case TREE_CHAR:
	case TREE_BLOCK:
		return i->rdev;
	default:
		return i->plain ? (uint32_t)(im->plain_blk + i->blk) : 0;
	}
}

static int write_inode(struct image *im, const struct tree_node *n, struct error **err)
{
	const struct tree_inode *i = n->inode;
	bool tail = (i->type == TREE_DIR || i->type == TREE_SYMLINK) && !i->plain;
	struct erofs_inode core = {
		.format = EROFS_EXTENDED | (tail ? EROFS_FLAT_INLINE : EROFS_FLAT_PLAIN),
		.xattr_icount = (uint16_t)(i->xattr_len ? i->xattr_len / 4 + 1 : 0),
		.mode = (uint16_t)(types[i->type].mode | i->mode),
		.size = i->size,
		.u = inode_address(im, i),
		.ino = i->ino,
		.uid = i->uid,
		.gid = i->gid,
		.mtime = (uint64_t)i->mtime,
		.mtime_nsec = i->mtime_nsec,
		.nlink = i->nlink,
	};
	static const struct erofs_xattr_header header;

	if (i->ino != im->ninodes + 1)
		return 0; /* another name of an inode that is out already */
	im->ninodes++;
	if (out_pad_to(im, i->off, err) < 0 || out(im, &core, sizeof(core), err) < 0)
		return -1;
	if (i->xattr_len && (out(im, &header, sizeof(header), err) < 0 ||
			     out(im, i->xattrs, i->xattr_len, err) < 0))
		return -1;
	return tail ? write_tail(im, n, err) : 0;
}

static int write_plain(struct image *im, const struct tree_node *n, struct error **err)
{
	const struct tree_inode *i = n->inode;
	uint64_t off = (im->plain_blk + i->blk) * EROFS_BLOCK;

	if (!i->plain || off < im->buf_off + im->buf_len)
		return 0;
	return out_pad_to(im, off, err) < 0 ? -1 : write_tail(im, n, err);
}

static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
	while (n--) {
		crc ^= *p++;
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return crc;
}

/* The superblock goes in last: its checksum covers the rest of the first block. */
static int write_super(struct image *im, struct error **err)
{
	uint8_t block[EROFS_BLOCK];
	struct erofs_super sb = {
		.magic = EROFS_MAGIC,
		.feature_compat = EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME,
		.blkszbits = EROFS_BLOCK_BITS,
		.root_nid = (uint16_t)(tree_root(im->tree)->inode->off / EROFS_SLOT),
		.inos = im->ninodes,
		.blocks = (uint32_t)(im->meta_blocks + im->data_blocks),
	};

	if (fd_pread_full(im->fd, block, sizeof(block), 0, err) < 0)
		return -1;
	memcpy(block + EROFS_SUPER_OFFSET, &sb, sizeof(sb));
	sb.checksum =
		crc32c(UINT32_MAX, block + EROFS_SUPER_OFFSET, EROFS_BLOCK - EROFS_SUPER_OFFSET);
	return fd_pwrite_full(im->fd, &sb, sizeof(sb), EROFS_SUPER_OFFSET, err);
}

static int write_image(struct image *im, struct error **err)
{
	struct tree_node *root = tree_root(im->tree);

	im->ninodes = 0;
	for (struct tree_node *n = root; n; n = next_node(n))
		if (write_inode(im, n, err) < 0)
			return -1;
	for (struct tree_node *n = root; im->nplain && n; n = next_node(n))
		if (write_plain(im, n, err) < 0)
			return -1;
	if (out_pad_to(im, im->meta_blocks * EROFS_BLOCK, err) < 0 || out_flush(im, err) < 0 ||
	    write_super(im, err) < 0)
		return -1;
	if (fsync(im->fd) < 0)
		return error_sys(err, errno, "fsync the image's metadata");
	return 0;
}

/* ---- layers ---- */

static int load_layer(struct image *im, size_t k, int dirfd, struct error **err)
{
	struct tree_file *f = &im->layers[k];
	struct stat st;

	if (tree_file_open(f, dirfd, "tree", err) < 0)
		return -1;
	if (fstatat(dirfd, "data", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_sys(err, errno, "stat data");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->data_len)
		return error_set(err, ERR_INTERNAL, "data and tree do not belong together");
	im->base[k] = im->data_blocks;
	im->data_blocks += f->data_len / EROFS_BLOCK;
	if (im->data_blocks > UINT32_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "the image is larger than 16 TiB");
	return tree_apply(im->tree, f, (uint32_t)k, err);
}

static int merge_into(struct image *im, const int *layer_dirfds, int out_dirfd, struct error **err)
{
	for (size_t k = 0; k < im->nlayers; k++)
		if (load_layer(im, k, layer_dirfds[k], err) < 0)
			return error_wrap(err, "layer %zu", k + 1);
	if (place(im, err) < 0 || write_image(im, err) < 0)
		return -1;
	if (renameat(out_dirfd, "meta.erofs.tmp", out_dirfd, "meta.erofs") < 0 ||
	    fsync(out_dirfd) < 0)
		return error_sys(err, errno, "rename meta.erofs");
	return 0;
}

int rootfs_merge(const int *layer_dirfds, size_t n, int out_dirfd, struct error **err)
{
	struct image im = {.nlayers = n};
	int rc;

	im.fd = openat(out_dirfd, "meta.erofs.tmp",
		       O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (im.fd < 0)
		return error_sys(err, errno, "create meta.erofs");
	im.tree = tree_new();
	im.layers = xcalloc(n + 1, sizeof(*im.layers));
	im.base = xcalloc(n + 1, sizeof(*im.base));
	im.buf = xmalloc(OUT_BUFFER);
	rc = merge_into(&im, layer_dirfds, out_dirfd, err);
	if (rc < 0)
		unlinkat(out_dirfd, "meta.erofs.tmp", 0);
	tree_free(im.tree);
	for (size_t k = 0; k < n; k++)
		tree_file_close(&im.layers[k]);
	free(im.layers);
	free(im.base);
	free(im.dents);
	free(im.buf);
	close(im.fd);
	return rc;
}
