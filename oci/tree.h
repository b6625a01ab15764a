/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h - what one layer says of each path, on disk; and the tree that several layers make, in
 * memory.
 *
 * DOC: The tree file
 * A header, then one record per tar member in the archive's order, so that writing one needs no
 * memory and the last of several records for a path wins. Whiteouts are records like the others.
 * Host byte order: it is a cache, made and read by one machine. Files of the first version, whose layers have no index, are read
 * too. Extended attributes are stored as
 * EROFS wants them, so that merging copies bytes.
 */
#ifndef OCI_TREE_H
#define OCI_TREE_H

#include "core/str.h"

#define TREE_MAX_ENTRIES (4u << 20) /* records of a layer, and nodes of a merged tree */
#define TREE_MAX_LINKS   40         /* symlinks followed on the way to one path, as Linux */
#define TREE_MAX_DEPTH   4096       /* directories above a node */
#define TREE_ALIGN \
	4096u /* each file's content starts at a multiple of this in the layer's data \
				*/

enum tree_type {
	TREE_DIR = 1,
	TREE_FILE,
	TREE_HARDLINK, /* link: path of the target */
	TREE_SYMLINK,  /* link: the target, verbatim */
	TREE_CHAR,
	TREE_BLOCK,
	TREE_FIFO,
	TREE_WHITEOUT, /* path is gone from the layers below */
	TREE_OPAQUE,   /* the directory's children in the layers below are gone */
};

/* One record. Paths are normal: no leading or doubled slash, no "." or ".."; "" is the root. */
struct tree_entry {
	enum tree_type type;
	const char *path, *link; /* NUL-terminated; link "" where it means nothing */
	size_t path_len, link_len;
	uint32_t mode; /* 07777 */
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint64_t size;     /* of a file */
	uint64_t data_off; /* TREE_FILE: where in the layer's data; not of one that is packed */
	bool packed; /* TREE_FILE: compressed, its parts are where the index says (erofs_zip.h) */
	uint64_t index_off; /* where in the layer's index */
	uint32_t blocks;    /* that its parts take */
	uint32_t rdev;      /* TREE_CHAR, TREE_BLOCK: as the kernel's new_encode_dev() */
	const void *xattrs; /* EROFS inline entries, without the header */
	size_t xattr_len;   /* a multiple of 4 */
};

/* ---- the file (oci/tree.c) ---- */
struct tree_writer;
/* tree_writer_open: creates dirfd/name (truncating). */
struct tree_writer *tree_writer_open(int dirfd, const char *name, struct error **err);
int tree_put(struct tree_writer *w, const struct tree_entry *e, struct error **err);
/* tree_writer_finish: writes the header; the file is on its way to the disk. data_len, index_len: bytes of the layer's data and index. */
int tree_writer_finish(struct tree_writer *w, uint64_t data_len, uint64_t index_len,
		       struct error **err);
int tree_writer_sync(struct tree_writer *w, struct error **err);
void tree_writer_free(struct tree_writer *w); /* NULL is fine */

/* A tree file mapped for reading, and the index beside it. Strings of its entries point into the map. */
struct tree_file {
	const uint8_t *map, *index; /* index: NULL when it is empty */
	size_t len;
	uint64_t count, data_len, index_len;
	size_t first; /* where the records begin */
};
/* tree_file_open: dirfd/name, and dirfd/index. */
int tree_file_open(struct tree_file *f, int dirfd, const char *name, struct error **err);
void tree_file_close(struct tree_file *f); /* of a zeroed struct too */
/* tree_file_next: *pos starts at 0. 1 with an entry whose lengths were checked, 0 at the end, -1
 * when the file is damaged. */
int tree_file_next(const struct tree_file *f, size_t *pos, struct tree_entry *e,
		   struct error **err);

/* ---- the merged tree (oci/merge.c) ---- */
/* What hard links share. Link and attributes point into the tree files, which must outlive the tree. */
struct tree_inode {
	enum tree_type type;
	uint32_t mode, uid, gid, mtime_nsec, rdev, nlink;
	int64_t mtime;
	uint64_t size;     /* directories: set by the image writer */
	uint64_t data_off; /* packed: of its index in the layer's */
	const char *link;
	const void *xattrs;
	uint32_t link_len, xattr_len, layer;
	uint32_t index;
	uint32_t ino; /* 0 until the image writer numbers it */
	uint64_t off; /* of the inode in the image */
	uint32_t blk; /* directories and symlinks with blocks of their own: relative to the first of
			 them */
	uint32_t blocks; /* packed */
	bool packed, plain;
};

struct tree_node {
	const char *name;
	uint32_t name_len, depth;
	uint32_t index; /* numbers the nodes */
	struct tree_inode *inode;
	struct tree_node *parent; /* the root's is itself */
	struct tree_node *child;  /* first */
	struct tree_node *next, *prev;
	uint32_t hash, hash_next, nchildren;
};

struct tree;
struct scratch;
/* tree_new: scratch_dirfd (borrowed) is where a big tree has its unnamed file; -1: all in memory. */
struct tree *tree_new(int scratch_dirfd);
void tree_free(struct tree *t);
struct tree_node *tree_root(struct tree *t);
size_t tree_count(const struct tree *t); /* live nodes */
struct scratch *tree_scratch(struct tree *t);
/* tree_rest: scratch_rest() of the tree's; once per node that a long walk visits. */
void tree_rest(struct tree *t, unsigned places);
/* tree_sort: brings a directory's children into the order of their names' bytes. */
void tree_sort(struct tree *t, struct tree_node *dir);
/* tree_apply: puts a layer on top: first its whiteouts, against what is below only, then its
 * entries in order. Parents that are symlinks are followed inside the tree; parents that are other
 * things become directories. */
int tree_apply(struct tree *t, const struct tree_file *f, uint32_t layer, struct error **err);
/* tree_lookup: a normal path, links not followed; NULL when absent. */
struct tree_node *tree_lookup(struct tree *t, const char *path);

#endif
