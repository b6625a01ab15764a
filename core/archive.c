/* SPDX-License-Identifier: Apache-2.0 */
/* archive.c - writing tar streams; see archive.h. Reading them is in archive_extract.c. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/archive_int.h"
#include "core/path.h"

#define DEPTH_MAX 256
#define CHUNK     65536

struct put {
	int out;
	unsigned flags;
	dev_t dev;
};

static int put_raw(struct put *p, const void *data, size_t n, struct error **err)
{
	return fd_write_full(p->out, data, n, err);
}

static int put_padding(struct put *p, uint64_t size, struct error **err)
{
	static const char zero[TAR_BLOCK];
	size_t rest = (size_t)(size % TAR_BLOCK);

	return rest ? put_raw(p, zero, TAR_BLOCK - rest, err) : 0;
}

static void octal(char *field, size_t n, uint64_t v)
{
	for (size_t i = n - 1; i-- > 0; v >>= 3)
		field[i] = (char)('0' + (v & 7));
}

static int put_header(struct put *p, const char *name, const char *link, char type, uint64_t size,
		      const struct stat *st, struct error **err)
{
	struct tar_header h = {.magic = "ustar", .version = {'0', '0'}, .type = type};
	unsigned sum = 0;

	memcpy(h.name, name, MIN(strlen(name), sizeof(h.name)));
	memcpy(h.link, link, MIN(strlen(link), sizeof(h.link)));
	octal(h.mode, sizeof(h.mode), st->st_mode & 07777);
	octal(h.uid, sizeof(h.uid), st->st_uid);
	octal(h.gid, sizeof(h.gid), st->st_gid);
	octal(h.size, sizeof(h.size), size);
	octal(h.mtime, sizeof(h.mtime), (uint64_t)MAX(st->st_mtime, 0));
	if (type == '3' || type == '4') {
		octal(h.major, sizeof(h.major), major(st->st_rdev));
		octal(h.minor, sizeof(h.minor), minor(st->st_rdev));
	}
	memset(h.sum, ' ', sizeof(h.sum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += ((unsigned char *)&h)[i];
	octal(h.sum, 7, sum);
	return put_raw(p, &h, sizeof(h), err);
}

/* "length key=value\n", where the length counts itself. */
static void pax_add(struct buf *b, const char *key, const char *value)
{
	size_t n = strlen(key) + strlen(value) + 3, len = n, was;
	char text[24];

	do {
		was = len;
		len = n + (size_t)snprintf(text, sizeof(text), "%zu", was);
	} while (len != was);
	buf_printf(b, "%zu %s=%s\n", len, key, value);
}

static int put_member(struct put *p, const char *name, const char *link, char type, uint64_t size,
		      const struct stat *st, struct error **err)
{
	CLEANUP_BUF struct buf pax = {0};
	char text[24];

	if (strlen(name) > sizeof(((struct tar_header *)0)->name))
		pax_add(&pax, "path", name);
	if (strlen(link) > sizeof(((struct tar_header *)0)->link))
		pax_add(&pax, "linkpath", link);
	if (size > TAR_SIZE_MAX) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
		pax_add(&pax, "size", text);
	}
	if (st->st_uid > TAR_ID_MAX || st->st_gid > TAR_ID_MAX) {
		snprintf(text, sizeof(text), "%u", st->st_uid);
		pax_add(&pax, "uid", text);
		snprintf(text, sizeof(text), "%u", st->st_gid);
		pax_add(&pax, "gid", text);
	}
	if (pax.len) {
		struct stat plain = {.st_mode = 0644};

		if (put_header(p, "PaxHeader", "", 'x', pax.len, &plain, err) ||
		    put_raw(p, pax.data, pax.len, err) || put_padding(p, pax.len, err))
			return -1;
	}
	return put_header(p, name, link, type, size, st, err);
}

/* Exactly st_size bytes, whatever becomes of the file meanwhile. */
static int put_file(struct put *p, int fd, const char *name, const struct stat *st,
		    struct error **err)
{
	uint64_t size = (uint64_t)st->st_size, left = size;
	char chunk[CHUNK];

	if (put_member(p, name, "", '0', size, st, err))
		return -1;
	while (left) {
		size_t want = (size_t)MIN(left, (uint64_t)sizeof(chunk));
		ssize_t n = RETRY_EINTR(read(fd, chunk, want));

		if (n < 0)
			return error_sys(err, errno, "read %s", name);
		if (!n) {
			memset(chunk, 0, want);
			n = (ssize_t)want;
		}
		if (put_raw(p, chunk, (size_t)n, err))
			return -1;
		left -= (uint64_t)n;
	}
	return put_padding(p, size, err);
}

static int put_any(struct put *p, int dirfd, const char *path, const char *name, unsigned depth,
		   struct error **err);

static int put_dir(struct put *p, int fd, const char *name, const struct stat *st, unsigned depth,
		   struct error **err)
{
	CLEANUP_FREE char *slashed = xasprintf("%s/", name);
	int copy, rc = 0;
	struct dirent *de;
	DIR *d;

	if (*name && put_member(p, slashed, "", '5', 0, st, err))
		return -1;
	if ((p->flags & ARCHIVE_ONE_FS) && st->st_dev != p->dev)
		return 0;
	if (depth > DEPTH_MAX)
		return error_set(err, ERR_UNSUPPORTED, "%s: directories too deep", name);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	d = copy < 0 ? NULL : fdopendir(copy);
	if (!d) {
		if (copy >= 0)
			close(copy);
		return error_sys(err, errno, "read %s", name);
	}
	while (!rc && (errno = 0, de = readdir(d))) {
		CLEANUP_FREE char *inner =
			*name ? xasprintf("%s/%s", name, de->d_name) : xstrdup(de->d_name);

		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			rc = put_any(p, fd, de->d_name, inner, depth + 1, err);
	}
	closedir(d);
	return rc;
}

static int put_link(struct put *p, int dirfd, const char *path, const char *name,
		    const struct stat *st, struct error **err)
{
	char target[TAR_PATH_MAX];
	ssize_t n = readlinkat(dirfd, path, target, sizeof(target) - 1);

	if (n < 0)
		return error_sys(err, errno, "read link %s", name);
	target[n] = 0;
	return put_member(p, name, target, '2', 0, st, err);
}

static int put_any(struct put *p, int dirfd, const char *path, const char *name, unsigned depth,
		   struct error **err)
{
	CLEANUP_CLOSE int fd = -1;
	struct stat st;

	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW))
		return depth && errno == ENOENT ? 0 : error_sys(err, errno, "%s", path);
	if (S_ISLNK(st.st_mode))
		return put_link(p, dirfd, path, name, &st, err);
	if (S_ISFIFO(st.st_mode))
		return put_member(p, name, "", '6', 0, &st, err);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		return put_member(p, name, "", S_ISCHR(st.st_mode) ? '3' : '4', 0, &st, err);
	if (S_ISSOCK(st.st_mode))
		return 0;
	/* It may have become something else: NONBLOCK keeps a FIFO from holding us up, fstat says what is open. */
	fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return depth && errno == ENOENT ? 0 : error_sys(err, errno, "open %s", name);
	if (!depth)
		p->dev = st.st_dev;
	if (S_ISDIR(st.st_mode))
		return put_dir(p, fd, name, &st, depth, err);
	return S_ISREG(st.st_mode) ? put_file(p, fd, name, &st, err) : 0;
}

int archive_put(int out, int dirfd, const char *path, const char *name, unsigned flags,
		struct error **err)
{
	struct put p = {.out = out, .flags = flags};

	return put_any(&p, dirfd, path, name, 0, err);
}

int archive_finish(int out, struct error **err)
{
	static const char zero[2 * TAR_BLOCK];

	return fd_write_full(out, zero, sizeof(zero), err);
}
