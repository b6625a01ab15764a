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
 * All inodes are of the extended form: times in nanoseconds and any owner. Files are FLAT_PLAIN, or
 * COMPRESSED_FULL with their index behind the inode; their block addresses lie behind the metadata.
 * Directories and symlinks are inline behind their inode when the whole fits one block, else they have blocks of their own. Inodes come in
 * depth-first order of sorted names, so that the output depends on the layers only and neighbours
 * in the tree are neighbours on disk.
 *
 * Three walks over the tree: place (numbers, sizes, offsets), write the inodes, write the blocks.
 * The last two stream.
 */
#include "oci/oci.h"
#include "oci/erofs_zip.h"
#include "oci/scratch.h"
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
#define EROFS_COMPRESSED  (1u << 1) /* with full indexes */
#define EROFS_FLAT_INLINE (2u << 1)

/* Compressed data ends at its last block's end; what is compressed together may have several blocks. */
#define EROFS_INCOMPAT_ZERO_PADDING 0x1u
#define EROFS_INCOMPAT_BIG_PCLUSTER 0x2u /* and says that there are parameters for each algorithm */
#define EROFS_ALGORITHM_LZ4         (1u << 0)
#define EROFS_ADVISE_BIG_PCLUSTER   0x2u

#define MAX_DENTS  (EROFS_BLOCK / (sizeof(struct erofs_dirent) + 1)) /* in a block */
#define OUT_BUFFER (256u << 10)

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
	uint16_t algorithms;
	uint8_t unused[42];
} __attribute__((packed));
_Static_assert(sizeof(struct erofs_super) == 128, "EROFS superblock");

/* Behind the superblock when there is compressed data. */
struct erofs_lz4 {
	uint16_t len; /* of what follows */
	uint16_t max_distance, max_blocks;
	uint8_t unused[10];
};
_Static_assert(sizeof(struct erofs_lz4) == 16, "EROFS LZ4 parameters");

/* Between inode and index, at a multiple of 8. */
struct erofs_zip_header {
	uint8_t unused[4];
	uint16_t advise;
	uint8_t algorithm, cluster_bits;
	uint8_t reserved[8]; /* of before there were headers */
};
_Static_assert(sizeof(struct erofs_zip_header) == 16, "EROFS map header");

struct erofs_inode {
	uint16_t format, xattr_icount, mode, reserved;
	uint64_t size;
	uint32_t u; /* block address, number of compressed blocks, or device number */
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
	bool packed;      /* some file is */
	uint64_t nplain;  /* blocks of big directories and symlinks */
	uint64_t plain_blk, meta_blocks;
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

/* The names of a sorted directory in order, "." and ".." among them. */
struct dir_walk {
	struct tree *tree;
	struct dent dots[2];
	size_t dot;
	const struct tree_node *child;
	struct dent at; /* the one that is next; name NULL: none */
};

static void dir_next(struct dir_walk *w)
{
	const struct dent *dot = &w->dots[w->dot];
	const struct tree_node *c = w->child;

	tree_rest(w->tree, 3);
	if (w->dot < 2 && (!c || name_cmp(dot->name, dot->len, c->name, c->name_len) < 0)) {
		w->at = *dot;
		w->dot++;
	} else if (c) {
		w->at = (struct dent){c->name, c->name_len, c->inode};
		w->child = c->next;
	} else {
		w->at = (struct dent){0};
	}
}

static struct dir_walk dir_walk(struct image *im, const struct tree_node *dir)
{
	struct dir_walk w = {.tree = im->tree,
			     .dots = {{".", 1, dir->inode}, {"..", 2, dir->parent->inode}},
			     .child = dir->child};

	dir_next(&w);
	return w;
}

/* Takes what fits one block off the walk; dents (may be NULL) has room for MAX_DENTS. Returns their number. */
static size_t dir_block(struct dir_walk *w, struct dent *dents, uint32_t *used)
{
	size_t n = 0;

	*used = 0;
	while (w->at.name && *used + sizeof(struct erofs_dirent) + w->at.len <= EROFS_BLOCK) {
		*used += (uint32_t)sizeof(struct erofs_dirent) + w->at.len;
		if (dents)
			dents[n] = w->at;
		n++;
		dir_next(w);
	}
	return n;
}

static uint64_t dir_size(struct image *im, const struct tree_node *dir)
{
	struct dir_walk w = dir_walk(im, dir);
	uint64_t size = 0;
	uint32_t used;

	for (;;) {
		dir_block(&w, NULL, &used);
		if (!w.at.name)
			return size + used;
		size += EROFS_BLOCK;
	}
}

/* ---- place ---- */

static uint32_t xattr_size(const struct tree_inode *i)
{
	return i->xattr_len ? (uint32_t)sizeof(struct erofs_xattr_header) + i->xattr_len : 0;
}

/* From a packed inode to its index's header; inodes are at multiples of 32. */
static uint64_t zip_offset(const struct tree_inode *i)
{
	return ALIGN_UP(sizeof(struct erofs_inode) + xattr_size(i), 8);
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
		tree_sort(im->tree, n);
		i->size = dir_size(im, n);
	}
	if (i->type == TREE_DIR || i->type == TREE_SYMLINK)
		tail = i->size;
	if (i->packed) {
		total = zip_offset(i) + sizeof(struct erofs_zip_header) +
			zip_clusters(i->size) * sizeof(struct zip_index);
		im->packed = true;
	}
	i->plain = tail && total + tail > EROFS_BLOCK;
	if (!i->plain)
		total += tail;
	else
		i->blk = (uint32_t)im->nplain;
	if (i->plain)
		im->nplain += ALIGN_UP(tail, EROFS_BLOCK) / EROFS_BLOCK;
	/* The core, and what is inline, may not cross a block; attributes and index may. */
	uint64_t whole = total > EROFS_BLOCK || i->packed ? sizeof(struct erofs_inode) : total;

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
	im->pos = EROFS_SUPER_OFFSET + sizeof(struct erofs_super) + sizeof(struct erofs_lz4);
	for (struct tree_node *n = tree_root(im->tree); n; n = next_node(n)) {
		tree_rest(im->tree, 2);
		if (place_inode(im, n, err) < 0)
			return -1;
	}
	im->plain_blk = ALIGN_UP(im->pos, EROFS_BLOCK) / EROFS_BLOCK;
	im->meta_blocks = im->plain_blk + im->nplain;
	if (im->meta_blocks + im->data_blocks > UINT32_MAX)
		return error_set(err, ERR_INVALID_ARGUMENT, "the image is larger than 16 TiB");
	return 0;
}

/* ---- write ---- */

static int write_dir(struct image *im, const struct tree_node *dir, struct error **err)
{
	struct dir_walk w = dir_walk(im, dir);
	struct dent dents[MAX_DENTS];
	uint8_t block[EROFS_BLOCK];

	while (w.at.name) {
		uint32_t used;
		size_t k = dir_block(&w, dents, &used);
		size_t nameoff = k * sizeof(struct erofs_dirent);

		memset(block, 0, sizeof(block));
		for (size_t j = 0; j < k; j++) {
			const struct dent *d = &dents[j];

			tree_rest(im->tree, 2);
			struct erofs_dirent de = {
				.nid = d->inode->off / EROFS_SLOT,
				.nameoff = (uint16_t)nameoff,
				.file_type = types[d->inode->type].ftype,
			};

			memcpy(block + j * sizeof(de), &de, sizeof(de));
			memcpy(block + nameoff, d->name, d->len);
			nameoff += d->len;
		}
		if (out(im, block, w.at.name ? EROFS_BLOCK : used, err) < 0)
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

/* The file's index, with addresses of the image instead of the layer. */
static int write_index(struct image *im, const struct tree_inode *i, struct error **err)
{
	static const struct erofs_zip_header header = {.advise = EROFS_ADVISE_BIG_PCLUSTER};
	const struct tree_file *f = &im->layers[i->layer];
	uint64_t base = im->meta_blocks + im->base[i->layer], n = zip_clusters(i->size);

	if (out_pad_to(im, i->off + zip_offset(i), err) < 0 ||
	    out(im, &header, sizeof(header), err) < 0)
		return -1;
	for (uint64_t k = 0; k < n; k++) {
		struct zip_index e;

		if (k % 512 == 0)
			tree_rest(im->tree, SCRATCH_LENT);
		memcpy(&e, f->index + i->data_off + k * sizeof(e), sizeof(e));
		if ((e.advise & ZIP_TYPE) != ZIP_NONHEAD) {
			if (e.blkaddr >= f->data_len / EROFS_BLOCK)
				return error_set(err, ERR_INTERNAL, "the layer's index is damaged");
			e.blkaddr += (uint32_t)base;
		}
		if (out(im, &e, sizeof(e), err) < 0)
			return -1;
	}
	return 0;
}

static uint32_t inode_address(const struct image *im, const struct tree_inode *i)
{
	switch (i->type) {
	case TREE_FILE:
		if (i->packed)
			return i->blocks;
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
		.format = EROFS_EXTENDED | (tail        ? EROFS_FLAT_INLINE
					    : i->packed ? EROFS_COMPRESSED
							: EROFS_FLAT_PLAIN),
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
	if (i->xattr_len || i->type == TREE_SYMLINK)
		tree_rest(im->tree, SCRATCH_LENT);
	if (i->xattr_len && (out(im, &header, sizeof(header), err) < 0 ||
			     out(im, i->xattrs, i->xattr_len, err) < 0))
		return -1;
	if (i->packed)
		return write_index(im, i, err);
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

	static const struct erofs_lz4 lz4 = {
		.len = sizeof(lz4) - sizeof(lz4.len),
		.max_distance = UINT16_MAX,
		.max_blocks = ZIP_RUN,
	};

	if (fd_pread_full(im->fd, block, sizeof(block), 0, err) < 0)
		return -1;
	/* A kernel without LZ4 reads images that do without. */
	if (im->packed) {
		sb.feature_incompat = EROFS_INCOMPAT_ZERO_PADDING | EROFS_INCOMPAT_BIG_PCLUSTER;
		sb.algorithms = EROFS_ALGORITHM_LZ4;
		memcpy(block + EROFS_SUPER_OFFSET + sizeof(sb), &lz4, sizeof(lz4));
	}
	memcpy(block + EROFS_SUPER_OFFSET, &sb, sizeof(sb));
	sb.checksum =
		crc32c(UINT32_MAX, block + EROFS_SUPER_OFFSET, EROFS_BLOCK - EROFS_SUPER_OFFSET);
	memcpy(block + EROFS_SUPER_OFFSET, &sb, sizeof(sb));
	return fd_pwrite_full(im->fd, block + EROFS_SUPER_OFFSET, sizeof(sb) + sizeof(lz4),
			      EROFS_SUPER_OFFSET, err);
}

static int write_image(struct image *im, struct error **err)
{
	struct tree_node *root = tree_root(im->tree);

	im->ninodes = 0;
	for (struct tree_node *n = root; n; n = next_node(n)) {
		tree_rest(im->tree, 2);
		if (write_inode(im, n, err) < 0)
			return -1;
	}
	for (struct tree_node *n = root; im->nplain && n; n = next_node(n)) {
		tree_rest(im->tree, 2);
		if (write_plain(im, n, err) < 0)
			return -1;
	}
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
	if (renameat(out_dirfd, "meta.erofs.tmp", out_dirfd, "meta.erofs") < 0)
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
	im.tree = tree_new(out_dirfd);
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
	free(im.buf);
	close(im.fd);
	return rc;
}
