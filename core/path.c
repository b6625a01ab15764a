/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - files below directories that others may write to.
 *
 * The kernel resolves the path in one go (openat2), so there is no window between a check and the
 * use. Removing a tree goes entry by entry through descriptors, never following a link; a tree that
 * is deeper than a fixed number of levels is flattened on the way, so that depth costs no
 * descriptors.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "core/filter.h"
#include "core/path.h"

#define OPEN_RETRIES   64 /* openat2 gives EAGAIN when a rename races with ".." */
#define REMOVE_DEPTH   32
#define REMOVE_RESCANS 100000

FILTER_RULES = {
	/* fd_set_nonblock() */
	FILTER_ALLOW_ARG(FILTER_MAIN, fcntl, 1, ~0u, F_GETFL),
	FILTER_ALLOW_ARG(FILTER_MAIN, fcntl, 1, ~0u, F_SETFL),
};

static int open_resolve(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
		.mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? mode & 07777 : 0,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS,
	};
	int fd, i;

	for (i = 0; i < OPEN_RETRIES; i++) {
		fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd;
}

int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct error **err)
{
	int fd = open_resolve(dirfd, path, flags, mode, RESOLVE_BENEATH);

	if (fd < 0)
		error_sys(err, errno, "open %s", path);
	return fd;
}

int path_open_inroot(int dirfd, const char *path, int flags, mode_t mode, struct error **err)
{
	int fd = open_resolve(dirfd, path, flags, mode, RESOLVE_IN_ROOT);

	if (fd < 0)
		error_sys(err, errno, "open %s", path);
	return fd;
}

int path_open_dir(const char *path, struct error **err)
{
	int fd = RETRY_EINTR(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	if (fd < 0)
		error_sys(err, errno, "open directory %s", path);
	return fd;
}

/* Runs make(prefix) for every prefix of path that ends before a slash, and for path itself. */
static int each_prefix(const char *path, int dirfd, mode_t mode,
		       int (*make)(int dirfd, const char *prefix, mode_t mode))
{
	CLEANUP_FREE char *copy = xstrdup(path);
	char *p;

	for (p = copy; *p; p++) {
		if (*p != '/' || p == copy || p[-1] == '/')
			continue;
		*p = '\0';
		if (make(dirfd, copy, mode))
			return -1;
		*p = '/';
	}
	if (p == copy || p[-1] == '/')
		return 0;
	return make(dirfd, copy, mode);
}

static int mkdir_plain(int dirfd, const char *path, mode_t mode)
{
	struct stat st;

	if (!mkdirat(dirfd, path, mode))
		return 0;
	if (errno != EEXIST && errno != EROFS && errno != EACCES)
		return -1;
	if (!fstatat(dirfd, path, &st, 0)) {
		if (S_ISDIR(st.st_mode))
			return 0;
		errno = ENOTDIR;
	}
	return -1;
}

int path_mkdirs(const char *path, mode_t mode, struct error **err)
{
	if (each_prefix(path, AT_FDCWD, mode, mkdir_plain))
		return error_sys(err, errno, "create directory %s", path);
	return 0;
}

static int mkdir_beneath(int dirfd, const char *path, mode_t mode)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *parent = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
	CLEANUP_CLOSE int pfd = -1;
	CLEANUP_CLOSE int fd = -1;

	pfd = open_resolve(dirfd, parent, O_PATH | O_DIRECTORY, 0, RESOLVE_BENEATH);
	if (pfd < 0)
		return -1;
	if (mkdirat(pfd, slash ? slash + 1 : path, mode) && errno != EEXIST)
		return -1;
	fd = open_resolve(dirfd, path, O_PATH | O_DIRECTORY, 0, RESOLVE_BENEATH);
	return fd < 0 ? -1 : 0;
}

int path_mkdirs_at(int dirfd, const char *path, mode_t mode, struct error **err)
{
	if (*path == '/')
		return error_sys(err, EXDEV, "create directory %s", path);
	if (each_prefix(path, dirfd, mode, mkdir_beneath))
		return error_sys(err, errno, "create directory %s", path);
	return 0;
}

/* Opens a directory of the tree; one without permissions is given them first. */
static int open_subdir(int dirfd, const char *name)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);
	CLEANUP_CLOSE int pfd = -1;
	char proc[40];

	if (fd >= 0 || errno != EACCES)
		return fd;
	pfd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (pfd < 0)
		return -1;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", pfd);
	if (chmod(proc, 0700))
		return -1;
	return openat(dirfd, name, flags);
}

/* Moves a directory that is too deep to the top of the tree, where the next scan finds it. */
static int hoist(int dirfd, const char *name, int topfd)
{
	char to[40], hex[17];
	uint64_t r;

	random_bytes(&r, sizeof(r));
	hex_encode(&r, sizeof(r), hex);
	snprintf(to, sizeof(to), ".removing-%s", hex);
	return renameat(dirfd, name, topfd, to);
}

static int remove_entries(int fd, int topfd, int depth);

static int remove_entry(int dirfd, const char *name, int topfd, int depth)
{
	int fd, ret;

	if (!unlinkat(dirfd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (!unlinkat(dirfd, name, AT_REMOVEDIR) || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES)
		return -1;
	if (depth >= REMOVE_DEPTH)
		return hoist(dirfd, name, topfd);
	fd = open_subdir(dirfd, name);
	if (fd < 0)
		return -1;
	ret = remove_entries(fd, topfd, depth + 1);
	if (!ret && unlinkat(dirfd, name, AT_REMOVEDIR) && errno != ENOENT)
		ret = -1;
	return ret;
}

/* Empties the directory fd (owned). */
static int remove_entries(int fd, int topfd, int depth)
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int ret = 0, saved;

	if (!d) {
		close(fd);
		return -1;
	}
	while (!ret) {
		errno = 0;
		e = readdir(d);
		if (!e) {
			ret = errno ? -1 : 0;
			break;
		}
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		ret = remove_entry(dirfd(d), e->d_name, topfd, depth);
	}
	saved = errno;
	closedir(d);
	errno = saved;
	return ret;
}

int path_remove_tree(int dirfd, const char *name, struct error **err)
{
	CLEANUP_CLOSE int top = -1;
	int i, fd;

	if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || strchr(name, '/'))
		return error_set(err, ERR_INVALID_ARGUMENT, "remove \"%s\": not a plain name",
				 name);
	if (!unlinkat(dirfd, name, 0) || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return error_sys(err, errno, "remove %s", name);
	for (i = 0; i < REMOVE_RESCANS; i++) {
		if (!unlinkat(dirfd, name, AT_REMOVEDIR) || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST)
			break;
		if (top < 0) {
			top = open_subdir(dirfd, name);
			if (top < 0)
				break;
		}
		fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || remove_entries(fd, top, 0))
			break;
	}
	return error_sys(err, errno, "remove %s", name);
}

int path_unnamed(int dirfd, struct error **err)
{
	CLEANUP_FREE char *uuid = NULL, *name = NULL;
	int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		uuid = random_uuid();
		name = xasprintf(".tmp-%s", uuid);
		fd = openat(dirfd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0)
			unlinkat(dirfd, name, 0);
	}
	return fd < 0 ? error_sys(err, errno, "make a file without a name") : fd;
}

uint64_t path_usage(int dirfd, const char *name, int depth)
{
	CLEANUP_CLOSE int fd = -1;
	struct dirent *e;
	struct stat st;
	uint64_t sum;
	DIR *d;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	sum = (uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode) || depth == 0)
		return sum;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return sum;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			sum += path_usage(fd, e->d_name, depth - 1);
	steal_fd(&fd); /* closedir closes it */
	closedir(d);
	return sum;
}

int path_read_all(int dirfd, const char *path, size_t max, struct buf *out, struct error **err)
{
	CLEANUP_CLOSE int fd = RETRY_EINTR(openat(dirfd, path, O_RDONLY | O_CLOEXEC));

	if (fd < 0)
		return error_sys(err, errno, "open %s", path);
	if (fd_read_all(fd, max, out, err))
		return error_wrap(err, "%s", path);
	return 0;
}

int fd_read_all(int fd, size_t max, struct buf *out, struct error **err)
{
	size_t got = 0;
	struct stat st;
	ssize_t n;

	/* The size is a hint only: files of /proc have none, others may grow. */
	if (!fstat(fd, &st) && st.st_size > 0 && (uint64_t)st.st_size <= max)
		buf_reserve(out, (size_t)st.st_size + 1);
	for (;;) {
		buf_reserve(out, 4096);
		n = RETRY_EINTR(
			pread(fd, out->data + out->len, out->cap - out->len - 1, (off_t)got));
		if (n < 0 && errno == ESPIPE)
			n = RETRY_EINTR(read(fd, out->data + out->len, out->cap - out->len - 1));
		if (n < 0)
			return error_sys(err, errno, "read");
		if (!n)
			break;
		out->len += (size_t)n;
		got += (size_t)n;
		if (got > max)
			return error_set(err, ERR_INVALID_ARGUMENT, "larger than %zu bytes", max);
	}
	out->data[out->len] = '\0';
	return 0;
}

int fd_write_full(int fd, const void *p, size_t n, struct error **err)
{
	const char *c = p;

	while (n) {
		ssize_t r = RETRY_EINTR(write(fd, c, n));

		if (r < 0)
			return error_sys(err, errno, "write");
		c += r;
		n -= (size_t)r;
	}
	return 0;
}

int fd_pwrite_full(int fd, const void *p, size_t n, off_t off, struct error **err)
{
	const char *c = p;

	while (n) {
		ssize_t r = RETRY_EINTR(pwrite(fd, c, n, off));

		if (r < 0)
			return error_sys(err, errno, "write");
		c += r;
		off += r;
		n -= (size_t)r;
	}
	return 0;
}

int fd_pread_full(int fd, void *p, size_t n, off_t off, struct error **err)
{
	char *c = p;

	while (n) {
		ssize_t r = RETRY_EINTR(pread(fd, c, n, off));

		if (r < 0)
			return error_sys(err, errno, "read");
		if (!r)
			return error_set(err, ERR_INVALID_ARGUMENT, "read: unexpected end of file");
		c += r;
		off += r;
		n -= (size_t)r;
	}
	return 0;
}

int fd_set_nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0)
		return -1;
	return fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK);
}

int fd_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}
