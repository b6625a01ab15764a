/* SPDX-License-Identifier: Apache-2.0 */
/*
 * changes.c - see changes.h.
 *
 * Of overlayfs (Documentation/filesystems/overlayfs.rst) the upper directory has: files as they are now; a character device 0/0
 * where one below is deleted; and directories, which show through to the same one below unless they carry the attribute
 * trusted.overlay.opaque = "y". A directory is copied up for what happens in it, so that it is there says nothing: it is told when
 * something in it is, or its mode or owner is another one.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "core/archive.h"
#include "core/changes.h"
#include "core/path.h"

#define DEPTH_MAX    256
#define ENTRIES_MAX  (4u << 20) /* names in one directory */
#define ATTR_OPAQUE  "trusted.overlay.opaque"
#define WHITEOUT     ".wh."
#define WHITEOUT_ALL ".wh..wh..opq"

/* A directory on the way; told once something in it is. */
struct dir {
	struct dir *up;
	const char *path; /* "etc/apt", "" for the root */
	int fd;
	bool told;
	bool is_new; /* below there is no directory of that name */
	bool opaque; /* what is below does not show */
};

struct walk {
	int out;
	struct archive *tar; /* NULL: a list */
	unsigned depth;
};

/* Not the container's own: paths, with what is in them. */
static bool left_out(const char *path)
{
	static const char *const ours[] = {"dev",       "proc",         "sys",
					   "etc/hosts", "etc/hostname", "etc/resolv.conf"};

	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (!strcmp(path, ours[i]))
			return true;
	return false;
}

/* ---- telling ---- */

static int tell(struct walk *w, char kind, const char *path, struct error **err)
{
	CLEANUP_FREE char *text = xasprintf("%c/%s", kind, path);

	return fd_write_full(w->out, text, strlen(text) + 1, err);
}

static int tell_dir(struct walk *w, struct dir *d, struct error **err)
{
	if (d->told || !d->up)
		return 0;
	if (tell_dir(w, d->up, err))
		return -1;
	d->told = true;
	if (!w->tar)
		return tell(w, d->is_new ? 'A' : 'C', d->path, err);
	if (archive_add(w->tar, d->fd, ".", d->path, err))
		return -1;
	if (d->opaque && !d->up->opaque && !d->is_new) {
		CLEANUP_FREE char *mark = xasprintf("%s/" WHITEOUT_ALL, d->path);

		return archive_add_mark(w->tar, mark, err);
	}
	return 0;
}

static int tell_deleted(struct walk *w, struct dir *d, const char *name, const char *path,
			struct error **err)
{
	CLEANUP_FREE char *mark = NULL;

	if (tell_dir(w, d, err))
		return -1;
	if (!w->tar)
		return tell(w, 'D', path, err);
	mark = xasprintf("%s%s" WHITEOUT "%s", d->path, *d->path ? "/" : "", name);
	return archive_add_mark(w->tar, mark, err);
}

static int tell_file(struct walk *w, struct dir *d, const char *name, const char *path, bool is_new,
		     struct error **err)
{
	if (tell_dir(w, d, err))
		return -1;
	if (!w->tar)
		return tell(w, is_new ? 'A' : 'C', path, err);
	return archive_add(w->tar, d->fd, name, path, err);
}

/* ---- the walk ---- */

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(int fd, struct strv *names, struct error **err)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *de;

	if (!d) {
		base_close_fd(&copy);
		return error_sys(err, errno, "read directory");
	}
	while ((errno = 0, de = readdir(d)) && names->n < ENTRIES_MAX)
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			strv_add(names, de->d_name);
	closedir(d);
	if (names->n)
		qsort(names->v, names->n, sizeof(*names->v), name_cmp);
	return 0;
}

static bool has_name(const struct strv *names, const char *name)
{
	return names->n && bsearch(&name, names->v, names->n, sizeof(*names->v), name_cmp) != NULL;
}

static int open_dir(int dirfd, const char *name)
{
	return dirfd < 0 ? -1
			 : openat(dirfd, name,
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

static bool is_opaque(int fd)
{
	char v[4];

	return fgetxattr(fd, ATTR_OPAQUE, v, sizeof(v)) >= 1 && v[0] == 'y';
}

/* What such an attribute says is not written here: overlays of ours are not mounted so. */
static int check_attrs(int fd, const char *path, struct error **err)
{
	static const char *const unknown[] = {"trusted.overlay.redirect",
					      "trusted.overlay.metacopy"};
	char v[1];

	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
		if (fgetxattr(fd, unknown[i], v, sizeof(v)) >= 0 || errno == ERANGE)
			return error_set(err, ERR_UNSUPPORTED, "/%s has the attribute %s", path,
					 unknown[i]);
	return 0;
}

static int walk_dir(struct walk *w, struct dir *d, int lower, struct error **err);

static int walk_subdir(struct walk *w, struct dir *up, int lower, const char *name,
		       const char *path, const struct stat *st, struct error **err)
{
	CLEANUP_CLOSE int below = open_dir(lower, name), fd = open_dir(up->fd, name);
	struct dir d = {.up = up, .path = path, .fd = fd, .is_new = below < 0};
	struct stat was;

	if (fd < 0) /* it may be gone, or be something else by now */
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
			       ? 0
			       : error_sys(err, errno, "open /%s", path);
	if (check_attrs(fd, path, err))
		return -1;
	d.opaque = up->opaque || is_opaque(fd);
	if (d.is_new || d.opaque || fstat(below, &was) || was.st_mode != st->st_mode ||
	    was.st_uid != st->st_uid || was.st_gid != st->st_gid)
		if (tell_dir(w, &d, err))
			return -1;
	return walk_dir(w, &d, below, err);
}

static int walk_entry(struct walk *w, struct dir *d, int lower, const char *name,
		      struct error **err)
{
	CLEANUP_FREE char *path = xasprintf("%s%s%s", d->path, *d->path ? "/" : "", name);
	struct stat st, was;
	bool below = lower >= 0 && !fstatat(lower, name, &was, AT_SYMLINK_NOFOLLOW);

	if (left_out(path))
		return 0;
	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : error_sys(err, errno, "/%s", path);
	if (S_ISCHR(st.st_mode) && !st.st_rdev)
		return below && !d->opaque ? tell_deleted(w, d, name, path, err) : 0;
	if (S_ISDIR(st.st_mode))
		return walk_subdir(w, d, lower, name, path, &st, err);
	return S_ISSOCK(st.st_mode) ? 0 : tell_file(w, d, name, path, !below, err);
}

/* In a list what an opaque directory hides is deleted; in a layer its mark says so. */
static int walk_hidden(struct walk *w, struct dir *d, const struct strv *now, int lower,
		       struct error **err)
{
	CLEANUP_STRV struct strv was = {0};

	if (w->tar || !d->opaque || lower < 0)
		return 0;
	if (read_names(lower, &was, err))
		return -1;
	for (size_t i = 0; i < was.n; i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s", d->path, was.v[i]);

		if (!has_name(now, was.v[i]) && !left_out(path) &&
		    tell_deleted(w, d, was.v[i], path, err))
			return -1;
	}
	return 0;
}

static int walk_dir(struct walk *w, struct dir *d, int lower, struct error **err)
{
	CLEANUP_STRV struct strv names = {0};
	int rc = 0;

	if (++w->depth > DEPTH_MAX)
		return error_set(err, ERR_UNSUPPORTED, "/%s: directories too deep", d->path);
	if (read_names(d->fd, &names, err) || walk_hidden(w, d, &names, lower, err))
		return -1;
	for (size_t i = 0; i < names.n && !rc; i++)
		rc = walk_entry(w, d, lower, names.v[i], err);
	w->depth--;
	return rc;
}

int changes_list(int out, int upper, int lower, struct error **err)
{
	struct walk w = {.out = out};
	struct dir root = {.path = "", .fd = upper};

	return walk_dir(&w, &root, lower, err);
}

int changes_layer(int out, int upper, int lower, struct error **err)
{
	struct walk w = {.out = out, .tar = archive_begin(out, ARCHIVE_OWNER)};
	struct dir root = {.path = "", .fd = upper};
	int rc = walk_dir(&w, &root, lower, err);

	if (!rc)
		rc = archive_finish(out, err);
	archive_end(w.tar);
	return rc;
}
