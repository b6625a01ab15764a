/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.h - opening files below a directory that others may write to, with openat2(2).
 *
 * Paths inside roots are never joined as strings and opened: a symlink planted in between would
 * lead out. These helpers take the root's descriptor. All descriptors are O_CLOEXEC.
 */
#ifndef CORE_PATH_H
#define CORE_PATH_H

#include <sys/stat.h>
#include "core/str.h"

/* path_open_beneath: RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS: ".." and absolute links out fail. */
int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct error **err);

/* path_open_inroot: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: dirfd acts as "/" for links and "..".
 */
int path_open_inroot(int dirfd, const char *path, int flags, mode_t mode, struct error **err);

/* path_open_dir: opens an absolute or cwd-relative directory we own. */
int path_open_dir(const char *path, struct error **err);

/* path_mkdirs: mkdir -p of a path we own; existing directories are fine. */
int path_mkdirs(const char *path, mode_t mode, struct error **err);
int path_mkdirs_at(int dirfd, const char *path, mode_t mode, struct error **err); /* beneath */

/* path_remove_tree: removes name below dirfd with all it holds, never following links; absent is
 * success. */
int path_remove_tree(int dirfd, const char *name, struct error **err);

/* path_unnamed: an empty file below dirfd, a directory we own, for reading and writing, that has no name; the caller's. Also where the file
 * system knows no O_TMPFILE. */
int path_unnamed(int dirfd, struct error **err);

/* path_usage: allocated bytes of name below dirfd and of what is in it, `depth` directories deep at most; links are not followed. What
 * vanishes meanwhile counts as nothing. */
uint64_t path_usage(int dirfd, const char *name, int depth);

/* path_read_all: the whole file, at most max bytes (more is an error). fd version reads from offset
 * 0. */
int path_read_all(int dirfd, const char *path, size_t max, struct buf *out, struct error **err);
int fd_read_all(int fd, size_t max, struct buf *out, struct error **err);

/* Full-length I/O that retries short counts and EINTR. A premature EOF on read is an error. */
int fd_write_full(int fd, const void *p, size_t n, struct error **err);
int fd_pwrite_full(int fd, const void *p, size_t n, off_t off, struct error **err);
int fd_pread_full(int fd, void *p, size_t n, off_t off, struct error **err);

int fd_set_nonblock(int fd, bool on);
int fd_set_cloexec(int fd, bool on);

#endif
