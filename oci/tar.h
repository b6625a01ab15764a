/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar.h - a streaming tar reader: ustar, pax (global and per member), GNU long names, base-256
 * numbers and sparse files.
 *
 * Reads forward only, from any source of bytes, and trusts nothing in it: checksums are verified,
 * sizes that are negative or overflow are refused, names, pax headers and attributes are bounded.
 * Memory is a few MiB whatever the archive. One thread at a time.
 */
#ifndef OCI_TAR_H
#define OCI_TAR_H

#include "oci/oci.h"

#define TAR_MAX_PATH      4096       /* bytes of a path or link name, without the NUL */
#define TAR_MAX_COMPONENT 255        /* bytes between two slashes */
#define TAR_MAX_PAX       (1u << 20) /* bytes of one pax header */
#define TAR_MAX_XATTRS    256        /* per member */
#define TAR_MAX_XATTR \
	(64u << 10) /* bytes of one value; all of a member's together have twice that */
#define TAR_MAX_TRAILER (64u << 20) /* bytes behind the end of the archive */
#define TAR_MAX_SPARSE  65536       /* segments of one sparse file */

enum tar_type {
	TAR_FILE,
	TAR_HARDLINK,
	TAR_SYMLINK,
	TAR_CHAR,
	TAR_BLOCK,
	TAR_DIR,
	TAR_FIFO,
};

struct tar_xattr {
	char *name; /* without the SCHILY.xattr. prefix */
	void *value;
	size_t len;
};

/* A run of data in a sparse file; what lies between runs is zeros. Ascending, not overlapping,
 * below size. */
struct tar_sparse {
	uint64_t offset, len;
};

/* One member. Everything it points to belongs to the reader and lasts until the next tar_next().
 * Paths are as written in the archive ("./a", "/a", "a/../b" are all possible) but bounded; strings
 * hold no NUL. */
struct tar_entry {
	enum tar_type type;
	const char *path;
	const char *linkname; /* hard links and symlinks; else "" */
	uint64_t size; /* logical bytes of a file (a sparse file expanded); 0 for other types */
	uint32_t mode; /* permission bits only, 07777 */
	uint64_t uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t devmajor, devminor;
	const struct tar_xattr *xattrs;
	size_t nxattrs;
	const struct tar_sparse *sparse; /* NULL unless sparse */
	size_t nsparse;
};

struct tar_reader;
/* tar_open: r is copied (its arg is borrowed). Reads nothing yet. NULL only on failure. */
struct tar_reader *tar_open(const struct oci_reader *r, struct error **err);
void tar_close(struct tar_reader *t); /* NULL is fine */

/* tar_next: the next member: 1, 0 at the end of the archive (two zero blocks, or the stream ending
 * between members; what follows has been read to its end), -1 on error. Unread data of the previous
 * member is skipped. Other member types (volume headers and the like) are skipped. An empty stream
 * is an empty archive. */
int tar_next(struct tar_reader *t, struct tar_entry *e, struct error **err);

/* tar_read: up to n bytes of the current file's logical content, 0 at its end. A sparse file's
 * holes come as zeros. */
ssize_t tar_read(struct tar_reader *t, void *p, size_t n, struct error **err);

/* tar_read_run: for sparse-aware callers: as tar_read, but a hole is skipped at once: returns 0
 * with *hole set to its length and nothing stored; 0 with *hole 0 is the end. For dense files the
 * same as tar_read. */
ssize_t tar_read_run(struct tar_reader *t, void *p, size_t n, uint64_t *hole, struct error **err);

/* ---- tar_path.c ---- */
/* tar_path_clean: a member's path without "./" and doubled slashes, owned by the caller; NULL for one that leads out of the archive. */
char *tar_path_clean(const char *path);
/* tar_path_link: where a symlink at `path`, a clean one, leads, as a clean path; owned by the caller. NULL for out of the archive. */
char *tar_path_link(const char *path, const char *target);

#endif
