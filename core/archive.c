/* SPDX-License-Identifier: Apache-2.0 */
/* archive.c - writing tar streams; see archive.h. Reading them is in archive_extract.c. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "core/archive_int.h"
#include "core/path.h"

#define DEPTH_MAX    256
#define CHUNK        65536
#define SEGMENTS_MAX 65536 /* of a file with holes; one with more is copied with zeros */

/* A file with more than one name, and the first of them that was written. */
struct linked {
	dev_t dev;
	ino_t ino;
	char *name; /* NULL: an empty slot */
};

struct put {
	int out;
	unsigned flags;
	bool shallow;         /* directories without what is in them */
	struct linked *links; /* open addressing, a power of two */
	size_t nlinks, room;
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
static void pax_add_bytes(struct buf *b, const char *key, const void *value, size_t size)
{
	size_t n = strlen(key) + size + 3, len = n, was;
	char text[24];

	do {
		was = len;
		len = n + (size_t)snprintf(text, sizeof(text), "%zu", was);
	} while (len != was);
	buf_printf(b, "%zu %s=", len, key);
	buf_append(b, value, size);
	buf_puts(b, "\n");
}

static void pax_add(struct buf *b, const char *key, const char *value)
{
	pax_add_bytes(b, key, value, strlen(value));
}

static void pax_add_number(struct buf *b, const char *key, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	pax_add(b, key, text);
}

bool archive_attr_kept(const char *name)
{
	return !strcmp(name, "security.capability") || str_prefix(name, "user.") ||
	       str_prefix(name, "system.posix_acl_");
}

/* The extended attributes that mean something elsewhere. A file system without them has none. */
static void pax_add_attrs(struct buf *b, int fd)
{
	char names[ARCHIVE_ATTRS_MAX], value[ARCHIVE_ATTRS_MAX];
	ssize_t n = flistxattr(fd, names, sizeof(names)), size;
	const char *name;

	for (name = names; n > 0 && name < names + n; name += strlen(name) + 1) {
		CLEANUP_FREE char *key = xasprintf(ARCHIVE_ATTR "%s", name);

		size = archive_attr_kept(name) ? fgetxattr(fd, name, value, sizeof(value)) : -1;
		if (size >= 0 && b->len + (size_t)size + strlen(key) < ARCHIVE_ATTRS_MAX)
			pax_add_bytes(b, key, value, (size_t)size);
	}
}

/* extra (may be NULL): pax records of its own. */
static int put_member(struct put *p, const char *name, const char *link, char type, uint64_t size,
		      const struct stat *st, const struct buf *extra, struct error **err)
{
	CLEANUP_BUF struct buf pax = {0};

	if (strlen(name) > sizeof(((struct tar_header *)0)->name))
		pax_add(&pax, "path", name);
	if (strlen(link) > sizeof(((struct tar_header *)0)->link))
		pax_add(&pax, "linkpath", link);
	if (size > TAR_SIZE_MAX)
		pax_add_number(&pax, "size", size);
	if (st->st_uid > TAR_ID_MAX || st->st_gid > TAR_ID_MAX) {
		pax_add_number(&pax, "uid", st->st_uid);
		pax_add_number(&pax, "gid", st->st_gid);
	}
	if (extra && extra->len)
		buf_append(&pax, extra->data, extra->len);
	if (pax.len) {
		struct stat plain = {.st_mode = 0644};

		if (put_header(p, "PaxHeader", "", 'x', pax.len, &plain, err) ||
		    put_raw(p, pax.data, pax.len, err) || put_padding(p, pax.len, err))
			return -1;
	}
	return put_header(p, name, link, type, size, st, err);
}

/* ---- files with several names ---- */

static struct linked *link_slot(struct linked *v, size_t room, dev_t dev, ino_t ino)
{
	size_t at = (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20) & (room - 1);

	while (v[at].name && (v[at].ino != ino || v[at].dev != dev))
		at = (at + 1) & (room - 1);
	return &v[at];
}

static void links_grow(struct put *p)
{
	size_t room = p->room ? p->room * 2 : 256, i;
	struct linked *v = xcalloc(room, sizeof(*v));

	for (i = 0; i < p->room; i++)
		if (p->links[i].name)
			*link_slot(v, room, p->links[i].dev, p->links[i].ino) = p->links[i];
	free(p->links);
	p->links = v;
	p->room = room;
}

/* The name under which the file was written already; NULL, and it is noted, when this is the first. */
static const char *link_seen(struct put *p, const struct stat *st, const char *name)
{
	struct linked *l;

	if (st->st_nlink < 2)
		return NULL;
	if (2 * p->nlinks >= p->room)
		links_grow(p);
	l = link_slot(p->links, p->room, st->st_dev, st->st_ino);
	if (l->name)
		return l->name;
	*l = (struct linked){.dev = st->st_dev, .ino = st->st_ino, .name = xstrdup(name)};
	p->nlinks++;
	return NULL;
}

static void links_free(struct put *p)
{
	for (size_t i = 0; i < p->room; i++)
		free(p->links[i].name);
	free(p->links);
}

/* ---- files ---- */

/* Exactly `left` bytes from where fd stands, whatever becomes of the file meanwhile. */
static int put_data(struct put *p, int fd, const char *name, uint64_t left, struct error **err)
{
	char chunk[CHUNK];

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
	return 0;
}

struct segment {
	off_t start, len;
};

/* Where the file has data; 0 when there are no holes worth the name, or too many. The caller owns *out. */
static size_t find_segments(int fd, off_t size, struct segment **out)
{
	struct segment *v = NULL;
	off_t at = 0, end;
	size_t n = 0;

	while (at < size && n < SEGMENTS_MAX) {
		at = lseek(fd, at, SEEK_DATA);
		if (at >= size || (at < 0 && errno == ENXIO))
			break; /* a hole to the end */
		end = at < 0 ? -1 : lseek(fd, at, SEEK_HOLE);
		if (end < 0)
			n = SEGMENTS_MAX; /* this file system does not say */
		if (end < 0)
			break;
		end = MIN(end, size);
		v = xreallocarray(v, n + 1, sizeof(*v));
		v[n++] = (struct segment){at, end - at};
		at = end;
	}
	if (n >= SEGMENTS_MAX || (n == 1 && v[0].len == size)) {
		free(v);
		lseek(fd, 0, SEEK_SET);
		return 0;
	}
	if (!n || v[n - 1].start + v[n - 1].len < size) { /* the end is told by an empty one */
		v = xreallocarray(v, n + 1, sizeof(*v));
		v[n++] = (struct segment){size, 0};
	}
	*out = v;
	return n;
}

/* GNU tar's format 1.0: the map in front of the data, padded to a block. */
static int put_sparse(struct put *p, int fd, const char *name, const struct stat *st,
		      const struct segment *v, size_t n, struct buf *pax, struct error **err)
{
	CLEANUP_BUF struct buf map = {0};
	uint64_t size = 0;
	size_t i;

	pax_add(pax, "GNU.sparse.major", "1");
	pax_add(pax, "GNU.sparse.minor", "0");
	pax_add(pax, "GNU.sparse.name", name);
	pax_add_number(pax, "GNU.sparse.realsize", (uint64_t)st->st_size);
	buf_printf(&map, "%zu\n", n);
	for (i = 0; i < n; i++) {
		buf_printf(&map, "%lld\n%lld\n", (long long)v[i].start, (long long)v[i].len);
		size += (uint64_t)v[i].len;
	}
	while (map.len % TAR_BLOCK)
		buf_append(&map, "", 1);
	size += map.len;
	if (put_member(p, name, "", '0', size, st, pax, err) || put_raw(p, map.data, map.len, err))
		return -1;
	for (i = 0; i < n; i++) {
		if (lseek(fd, v[i].start, SEEK_SET) < 0)
			return error_sys(err, errno, "read %s", name);
		if (put_data(p, fd, name, (uint64_t)v[i].len, err))
			return -1;
	}
	return put_padding(p, size, err);
}

static int put_file(struct put *p, int fd, const char *name, const struct stat *st,
		    struct error **err)
{
	const char *first = link_seen(p, st, name);
	CLEANUP_FREE struct segment *holes = NULL;
	CLEANUP_BUF struct buf pax = {0};
	uint64_t size = (uint64_t)st->st_size;
	size_t n = 0;

	if (first)
		return put_member(p, name, first, '1', 0, st, NULL, err);
	if (p->flags & ARCHIVE_OWNER)
		pax_add_attrs(&pax, fd);
	if (p->flags & ARCHIVE_SPARSE && st->st_blocks < st->st_size / TAR_BLOCK)
		n = find_segments(fd, st->st_size, &holes);
	if (n)
		return put_sparse(p, fd, name, st, holes, n, &pax, err);
	if (put_member(p, name, "", '0', size, st, &pax, err) || put_data(p, fd, name, size, err))
		return -1;
	return put_padding(p, size, err);
}

static int put_any(struct put *p, int dirfd, const char *path, const char *name, unsigned depth,
		   struct error **err);

static int put_dir(struct put *p, int fd, const char *name, const struct stat *st, unsigned depth,
		   struct error **err)
{
	CLEANUP_FREE char *slashed = xasprintf("%s/", name);
	CLEANUP_BUF struct buf pax = {0};
	int copy, rc = 0;
	struct dirent *de;
	DIR *d;

	if (p->flags & ARCHIVE_OWNER)
		pax_add_attrs(&pax, fd);
	if (*name && put_member(p, slashed, "", '5', 0, st, &pax, err))
		return -1;
	if (p->shallow)
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
	return put_member(p, name, target, '2', 0, st, NULL, err);
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
		return put_member(p, name, "", '6', 0, &st, NULL, err);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		return put_member(p, name, "", S_ISCHR(st.st_mode) ? '3' : '4', 0, &st, NULL, err);
	if (S_ISSOCK(st.st_mode))
		return 0;
	/* It may have become something else: NONBLOCK keeps a FIFO from holding us up, fstat says what is open. */
	fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return depth && errno == ENOENT ? 0 : error_sys(err, errno, "open %s", name);
	if (S_ISDIR(st.st_mode))
		return put_dir(p, fd, name, &st, depth, err);
	return S_ISREG(st.st_mode) ? put_file(p, fd, name, &st, err) : 0;
}

int archive_put(int out, int dirfd, const char *path, const char *name, unsigned flags,
		struct error **err)
{
	struct put p = {.out = out, .flags = flags};
	int rc = put_any(&p, dirfd, path, name, 0, err);

	links_free(&p);
	return rc;
}

int archive_put_open(int out, int fd, const char *name, unsigned flags, struct error **err)
{
	struct put p = {.out = out, .flags = flags};
	struct stat st;
	int rc;

	if (fstat(fd, &st))
		return error_sys(err, errno, "%s", name);
	if (S_ISDIR(st.st_mode))
		rc = put_dir(&p, fd, name, &st, 0, err);
	else if (S_ISREG(st.st_mode))
		rc = put_file(&p, fd, name, &st, err);
	else
		rc = error_set(err, ERR_UNSUPPORTED, "%s is neither a file nor a directory", name);
	links_free(&p);
	return rc;
}

int archive_finish(int out, struct error **err)
{
	static const char zero[2 * TAR_BLOCK];

	return fd_write_full(out, zero, sizeof(zero), err);
}

/* ---- piece by piece ---- */

struct archive {
	struct put p;
};

struct archive *archive_begin(int out, unsigned flags)
{
	struct archive *a = xcalloc(1, sizeof(*a));

	a->p = (struct put){.out = out, .flags = flags, .shallow = true};
	return a;
}

int archive_add(struct archive *a, int dirfd, const char *path, const char *name,
		struct error **err)
{
	return put_any(&a->p, dirfd, path, name, 1, err);
}

int archive_add_mark(struct archive *a, const char *name, struct error **err)
{
	static const struct stat plain = {.st_mode = 0600};

	return put_member(&a->p, name, "", '0', 0, &plain, NULL, err);
}

void archive_end(struct archive *a)
{
	if (!a)
		return;
	links_free(&a->p);
	free(a);
}
