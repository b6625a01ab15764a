/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive_extract.c - reading tar streams; see archive.h.
 *
 * A member's directory is reached by opening one name after the other, each without following a link, so a link that
 * an earlier member made leads nowhere. Devices are made only where the caller may make them; elsewhere that is an error.
 * A directory gets its mode and time when the stream has left it: until then it must be one that can be written to.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "core/archive_int.h"
#include "core/path.h"

#define CHUNK        65536
#define PAX_MAX      (1u << 16)
#define SEGMENTS_MAX (1u << 20) /* of a file with holes */

struct member {
	char type;
	char *path, *link; /* cleaned; owned */
	uint64_t size;
	mode_t mode;
	uint64_t uid, gid;
	int64_t mtime;
	unsigned major, minor;
	struct buf attrs; /* "name\0", 32 bits of length, value; … */
	bool sparse;
	uint64_t real_size; /* of a sparse one; size is that of its map and data */
};

/* A directory that was made, to be finished. */
struct made {
	struct made *next;
	int fd;
	char *path; /* below the extraction's directory */
	mode_t mode;
	int64_t mtime;
};

struct extract {
	int in;
	unsigned flags;
	int dir;       /* what members are put below */
	char *top;     /* stands in for the first name of each; NULL: as they are */
	bool contents; /* the stream is of ".": the names come below top */
	bool begun;
	struct made *made; /* each below the next one */
};

/* ---- the stream ---- */

/* 1, or 0 at the end of the stream before the first byte. */
static int get(struct extract *x, void *p, size_t n, struct error **err)
{
	size_t at = 0;

	while (at < n) {
		ssize_t r = RETRY_EINTR(read(x->in, (char *)p + at, n - at));

		if (r < 0)
			return error_sys(err, errno, "read the archive");
		if (!r && !at)
			return 0;
		if (!r)
			return error_set(err, ERR_INTERNAL, "the archive ends in the middle");
		at += (size_t)r;
	}
	return 1;
}

static int need(struct extract *x, void *p, size_t n, struct error **err)
{
	int r = get(x, p, n, err);

	return r > 0 ? 0 : r ? -1 : error_set(err, ERR_INTERNAL, "the archive ends in the middle");
}

static int skip(struct extract *x, uint64_t n, struct error **err)
{
	char chunk[CHUNK];

	while (n) {
		size_t want = (size_t)MIN(n, (uint64_t)sizeof(chunk));

		if (need(x, chunk, want, err))
			return -1;
		n -= want;
	}
	return 0;
}

static uint64_t padded(uint64_t size)
{
	return ALIGN_UP(size, (uint64_t)TAR_BLOCK);
}

/* Octal, or base 256 when the first bit is set. Blanks and NULs around the digits are fine. */
static int number(const char *field, size_t n, uint64_t *out)
{
	uint64_t v = 0;
	size_t i = 0;

	if ((unsigned char)field[0] == 0x80) {
		for (i = 1; i < n; i++) {
			if (v >> 55)
				return -1;
			v = v << 8 | (unsigned char)field[i];
		}
		*out = v;
		return 0;
	}
	while (i < n && field[i] == ' ')
		i++;
	for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) {
		if (v >> 60)
			return -1;
		v = v << 3 | (uint64_t)(field[i] - '0');
	}
	if (i < n && field[i] && field[i] != ' ')
		return -1;
	*out = v;
	return 0;
}

static bool sum_fits(const struct tar_header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	size_t at = offsetof(struct tar_header, sum);
	uint64_t want, sum = 0;

	for (size_t i = 0; i < sizeof(*h); i++)
		sum += i >= at && i < at + sizeof(h->sum) ? ' ' : p[i];
	return !number(h->sum, sizeof(h->sum), &want) && want == sum;
}

/* ---- headers ---- */

static void member_free(struct member *m)
{
	free(m->path);
	free(m->link);
	buf_free(&m->attrs);
	*m = (struct member){0};
}

static int pax_attr(struct member *over, const char *name, const char *value, size_t len)
{
	uint32_t n = (uint32_t)len;

	if (!archive_attr_kept(name))
		return 0;
	buf_append(&over->attrs, name, strlen(name) + 1);
	buf_append(&over->attrs, &n, sizeof(n));
	buf_append(&over->attrs, value, len);
	return 0;
}

static int pax_apply(struct member *over, const char *key, const char *value, size_t len)
{
	static const char gnu[] = "GNU.sparse.";

	if (str_prefix(key, ARCHIVE_ATTR))
		return pax_attr(over, key + strlen(ARCHIVE_ATTR), value, len);
	if (strlen(value) != len)
		return -1;
	if (!strcmp(key, "path") || !strcmp(key, "linkpath") || !strcmp(key, "GNU.sparse.name")) {
		char **to = key[0] != 'l' ? &over->path : &over->link;

		free(*to);
		*to = xstrdup(value);
		return 0;
	}
	if (!strcmp(key, "GNU.sparse.realsize")) {
		over->sparse = true;
		return parse_u64(value, &over->real_size);
	}
	/* Of the formats only 1.0 has its map in the data. */
	if (str_prefix(key, gnu) &&
	    strcmp(value, !strcmp(key + sizeof(gnu) - 1, "major") ? "1" : "0"))
		return -1;
	if (!strcmp(key, "size"))
		return parse_u64(value, &over->size);
	if (!strcmp(key, "uid"))
		return parse_u64(value, &over->uid);
	return !strcmp(key, "gid") ? parse_u64(value, &over->gid) : 0;
}

static int pax_parse(struct member *over, char *text, size_t len)
{
	while (len) {
		char *blank = memchr(text, ' ', MIN(len, (size_t)20)), *eq;
		uint64_t n;

		if (!blank)
			return -1;
		*blank = 0;
		if (parse_u64(text, &n) || n > len || n < (uint64_t)(blank - text) + 4 ||
		    text[n - 1] != '\n')
			return -1;
		text[n - 1] = 0;
		eq = strchr(blank + 1, '=');
		if (!eq)
			return -1;
		*eq = 0;
		if (pax_apply(over, blank + 1, eq + 1, (size_t)(text + n - 1 - (eq + 1))))
			return -1;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A member that says something about the next one: pax or GNU long names. */
static int read_extra(struct extract *x, char type, uint64_t size, struct member *over,
		      struct error **err)
{
	CLEANUP_FREE char *text = NULL;

	if (size > PAX_MAX)
		return error_set(err, ERR_INTERNAL, "the archive has too large a header");
	text = xcalloc(1, (size_t)padded(size) + 1);
	if (need(x, text, (size_t)padded(size), err))
		return -1;
	text[size] = 0;
	if (type == 'g')
		return 0;
	if (type == 'L' || type == 'K') {
		pax_apply(over, type == 'L' ? "path" : "linkpath", text, strlen(text));
		return 0;
	}
	return pax_parse(over, text, (size_t)size)
		       ? error_set(err, ERR_INTERNAL, "the archive has a broken pax header")
		       : 0;
}

/* The name without "/", "." and empty parts; NULL when it has a "..". "" is the top itself. */
static char *clean(const char *name)
{
	CLEANUP_FREE char *copy = xstrdup(name);
	CLEANUP_BUF struct buf b = {0};
	char *rest = copy, *part;

	buf_puts(&b, "");
	while ((part = strsep(&rest, "/"))) {
		if (!strcmp(part, ".."))
			return NULL;
		if (*part && strcmp(part, "."))
			buf_printf(&b, "%s%s", b.len ? "/" : "", part);
	}
	return b.len < TAR_PATH_MAX ? STEAL(b.data) : NULL;
}

static int fill(struct member *m, const struct tar_header *h, struct member *over,
		struct error **err)
{
	CLEANUP_FREE char *base = xstrndup(h->name, sizeof(h->name));
	CLEANUP_FREE char *prefix = xstrndup(h->prefix, sizeof(h->prefix));
	CLEANUP_FREE char *joined = !memcmp(h->magic, "ustar", 6) && *prefix
					    ? xasprintf("%s/%s", prefix, base)
					    : xstrdup(base);
	CLEANUP_FREE char *link = xstrndup(h->link, sizeof(h->link));
	uint64_t mode, mtime, major_no, minor_no;

	if (number(h->mode, sizeof(h->mode), &mode) || number(h->uid, sizeof(h->uid), &m->uid) ||
	    number(h->gid, sizeof(h->gid), &m->gid) || number(h->mtime, sizeof(h->mtime), &mtime) ||
	    number(h->major, sizeof(h->major), &major_no) ||
	    number(h->minor, sizeof(h->minor), &minor_no) || mtime > INT64_MAX)
		return error_set(err, ERR_INTERNAL, "the archive has a broken header");
	m->type = h->type ? h->type : '0';
	m->mode = (mode_t)(mode & 07777);
	m->mtime = (int64_t)mtime;
	m->major = (unsigned)major_no;
	m->minor = (unsigned)minor_no;
	if (over->uid != UINT64_MAX)
		m->uid = over->uid;
	if (over->gid != UINT64_MAX)
		m->gid = over->gid;
	m->path = clean(over->path ? over->path : joined);
	if (!m->path)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the archive has a name that leads out of it");
	m->link = xstrdup(over->link ? over->link : link);
	m->attrs = over->attrs;
	over->attrs = (struct buf){0};
	m->sparse = over->sparse;
	m->real_size = over->real_size;
	return 0;
}

/* The next real member: 1, 0 at the end, -1. */
static int next_member(struct extract *x, struct member *m, struct error **err)
{
	CLEANUP(member_free)
	struct member over = {.size = UINT64_MAX, .uid = UINT64_MAX, .gid = UINT64_MAX};
	struct tar_header h;
	uint64_t size;
	int r;

	for (;;) {
		static const struct tar_header zero;

		r = get(x, &h, sizeof(h), err);
		if (r <= 0)
			return r;
		if (!memcmp(&h, &zero, sizeof(h)))
			return 0;
		if (!sum_fits(&h) || number(h.size, sizeof(h.size), &size))
			return error_set(err, ERR_INVALID_ARGUMENT, "this is no tar archive");
		if (!h.type || !strchr("xgLK", h.type))
			break;
		if (read_extra(x, h.type, size, &over, err))
			return -1;
	}
	if (over.size != UINT64_MAX)
		size = over.size;
	m->size = size;
	if (size > INT64_MAX)
		return error_set(err, ERR_INTERNAL, "the archive has a broken header");
	return fill(m, &h, &over, err) ? -1 : 1;
}

/* ---- files ---- */

/* The directory of `path` below dir, made where it is missing, and *leaf, the last name in it. */
static int open_parent(int dir, const char *path, const char **leaf, struct error **err)
{
	int fd = fcntl(dir, F_DUPFD_CLOEXEC, 3);
	const char *slash;

	while (fd >= 0 && (slash = strchr(path, '/'))) {
		CLEANUP_FREE char *part = xstrndup(path, (size_t)(slash - path));
		int inner = openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (inner < 0 && errno == ENOENT && !mkdirat(fd, part, 0755))
			inner = openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (inner < 0)
			error_sys(err, errno, "open directory %s", part);
		close(fd);
		fd = inner;
		if (fd < 0)
			return -1;
		path = slash + 1;
	}
	*leaf = path;
	return fd < 0 ? error_sys(err, errno, "open directory") : fd;
}

static int write_bytes(struct extract *x, int fd, uint64_t at, uint64_t left, struct error **err)
{
	char chunk[CHUNK];

	while (left) {
		size_t n = (size_t)MIN(left, (uint64_t)sizeof(chunk));

		if (need(x, chunk, n, err) || fd_pwrite_full(fd, chunk, n, (off_t)at, err))
			return -1;
		at += n;
		left -= n;
	}
	return 0;
}

/* The numbers in front of a sparse file's data, read block by block. */
struct map {
	char block[TAR_BLOCK];
	size_t at, len;
	uint64_t taken; /* bytes of the member */
};

static int map_number(struct extract *x, struct map *map, uint64_t *v, struct error **err)
{
	char text[24];
	size_t n = 0;

	for (;;) {
		if (map->at == map->len) {
			if (need(x, map->block, sizeof(map->block), err))
				return -1;
			map->at = 0;
			map->len = sizeof(map->block);
			map->taken += sizeof(map->block);
		}
		text[n] = map->block[map->at++];
		if (text[n] == '\n')
			break;
		if (++n == sizeof(text))
			break;
	}
	if (n < sizeof(text)) {
		text[n] = 0;
		if (!parse_u64(text, v))
			return 0;
	}
	return error_set(err, ERR_INTERNAL, "the archive has a broken map of a sparse file");
}

static int write_sparse(struct extract *x, int fd, const struct member *m, struct error **err)
{
	CLEANUP_FREE uint64_t *v = NULL;
	struct map map = {0};
	uint64_t n, i, end = 0, total;

	if (map_number(x, &map, &n, err))
		return -1;
	if (n > SEGMENTS_MAX || m->real_size > INT64_MAX)
		return error_set(err, ERR_UNSUPPORTED, "%s has too many holes", m->path);
	v = xcalloc(2 * n + 1, sizeof(*v));
	for (i = 0; i < 2 * n; i++)
		if (map_number(x, &map, &v[i], err))
			return -1;
	total = map.taken;
	for (i = 0; i < 2 * n; i += 2) {
		if (v[i] < end || __builtin_add_overflow(v[i], v[i + 1], &end) ||
		    end > m->real_size || __builtin_add_overflow(total, v[i + 1], &total))
			return error_set(err, ERR_INTERNAL,
					 "the archive has a broken map of a sparse file");
	}
	if (total != m->size)
		return error_set(err, ERR_INTERNAL,
				 "the archive has a broken map of a sparse file");
	for (i = 0; i < 2 * n; i += 2)
		if (write_bytes(x, fd, v[i], v[i + 1], err))
			return -1;
	return ftruncate(fd, (off_t)m->real_size) ? error_sys(err, errno, "truncate") : 0;
}

static int write_data(struct extract *x, int fd, const struct member *m, struct error **err)
{
	int rc = m->sparse ? write_sparse(x, fd, m, err) : write_bytes(x, fd, 0, m->size, err);

	if (rc)
		return error_wrap(err, "write %s", m->path);
	return skip(x, padded(m->size) - m->size, err);
}

/* What a file system cannot keep is left out. */
static int put_attrs(int fd, const struct member *m, struct error **err)
{
	size_t at = 0;
	uint32_t len;

	while (at < m->attrs.len) {
		const char *name = m->attrs.data + at, *value;

		at += strlen(name) + 1;
		memcpy(&len, m->attrs.data + at, sizeof(len));
		value = m->attrs.data + at + sizeof(len);
		at += sizeof(len) + len;
		if (fsetxattr(fd, name, value, len, 0) && errno != EOPNOTSUPP)
			return error_sys(err, errno, "attribute %s of %s", name, m->path);
	}
	return 0;
}

/* A file that is there is written over, as it may be mounted there; anything else but a directory makes room. */
static int make_file(int dir, const char *leaf, const struct member *m, struct error **err)
{
	struct stat st;
	int fd = -1;

	if (!fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW)) {
		if (S_ISREG(st.st_mode))
			fd = openat(dir, leaf,
				    O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		else if (unlinkat(dir, leaf, 0))
			return error_sys(err, errno, "replace %s", m->path);
	}
	if (fd < 0)
		fd = openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    m->mode & 0777);
	return fd < 0 ? error_sys(err, errno, "create %s", m->path) : fd;
}

static int put_file(struct extract *x, int dir, const char *leaf, const struct member *m,
		    struct error **err)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = m->mtime}};
	CLEANUP_CLOSE int fd = make_file(dir, leaf, m, err);

	if (fd < 0 || write_data(x, fd, m, err))
		return -1;
	if ((x->flags & ARCHIVE_OWNER) && fchown(fd, (uid_t)m->uid, (gid_t)m->gid))
		return error_sys(err, errno, "owner of %s", m->path);
	/* Set-id bits belong to an owner: without owners they are not taken over. */
	if (fchmod(fd, m->mode & ((x->flags & ARCHIVE_OWNER) ? 07777 : 01777)))
		return error_sys(err, errno, "mode of %s", m->path);
	if ((x->flags & ARCHIVE_OWNER) && put_attrs(fd, m, err))
		return -1;
	futimens(fd, t);
	return 0;
}

/* Finishes the directories that `path` is not in; all of them when it is NULL. */
static int finish_dirs(struct extract *x, const char *path, struct error **err)
{
	struct made *d;
	int rc = 0;

	while ((d = x->made) && !(path && str_prefix(path, d->path) &&
				  (path[strlen(d->path)] == '/' || !*d->path))) {
		struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = d->mtime}};

		x->made = d->next;
		if (!rc && fchmod(d->fd, d->mode))
			rc = error_sys(err, errno, "mode of %s", d->path);
		futimens(d->fd, t);
		close(d->fd);
		free(d->path);
		free(d);
	}
	return rc;
}

static int put_dir(struct extract *x, int dir, const char *leaf, const char *path,
		   const struct member *m, struct error **err)
{
	bool owner = x->flags & ARCHIVE_OWNER;
	struct made *d;
	struct stat st;
	int fd;

	if (mkdirat(dir, leaf, (m->mode & 0777) | 0700)) {
		if (errno != EEXIST || fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) ||
		    !S_ISDIR(st.st_mode))
			return error_sys(err, EEXIST, "create directory %s", m->path);
		return 0;
	}
	fd = openat(dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "open directory %s", m->path);
	d = xcalloc(1, sizeof(*d));
	*d = (struct made){.next = x->made,
			   .fd = fd,
			   .path = xstrdup(path),
			   .mode = m->mode & (owner ? 07777 : 01777),
			   .mtime = m->mtime};
	x->made = d;
	if (owner && fchown(fd, (uid_t)m->uid, (gid_t)m->gid))
		return error_sys(err, errno, "owner of %s", m->path);
	return owner ? put_attrs(fd, m, err) : 0;
}

/* The member's name below x->dir; the caller owns it. */
static char *placed(const struct extract *x, const char *path)
{
	const char *slash = strchr(path, '/');

	if (!x->top)
		return xstrdup(path);
	if (x->contents)
		return *path ? xasprintf("%s/%s", x->top, path) : xstrdup(x->top);
	return slash ? xasprintf("%s%s", x->top, slash) : xstrdup(x->top);
}

static int put_hardlink(struct extract *x, int dir, const char *leaf, const struct member *m,
			struct error **err)
{
	CLEANUP_FREE char *name = clean(m->link);
	CLEANUP_FREE char *target = name && *name ? placed(x, name) : NULL;
	CLEANUP_CLOSE int from = -1;
	const char *last;

	if (!target)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "the archive has a link that leads out of it");
	from = open_parent(x->dir, target, &last, err);
	if (from < 0)
		return -1;
	if (linkat(from, last, dir, leaf, 0))
		return error_sys(err, errno, "link %s", m->path);
	return 0;
}

static int put_special(struct extract *x, int dir, const char *leaf, const struct member *m,
		       struct error **err)
{
	mode_t type = m->type == '3' ? S_IFCHR : m->type == '4' ? S_IFBLK : S_IFIFO;
	int rc;

	if (unlinkat(dir, leaf, 0) && errno != ENOENT)
		return error_sys(err, errno, "replace %s", m->path);
	if (m->type == '1')
		return put_hardlink(x, dir, leaf, m, err);
	if (m->type == '2')
		rc = symlinkat(m->link, dir, leaf);
	else
		rc = mknodat(dir, leaf, type | (m->mode & 0777), makedev(m->major, m->minor));
	if (rc)
		return error_sys(err, errno, "create %s", m->path);
	if ((x->flags & ARCHIVE_OWNER) &&
	    fchownat(dir, leaf, (uid_t)m->uid, (gid_t)m->gid, AT_SYMLINK_NOFOLLOW))
		return error_sys(err, errno, "owner of %s", m->path);
	return 0;
}

static int put_member(struct extract *x, const struct member *m, struct error **err)
{
	CLEANUP_FREE char *path = placed(x, m->path);
	CLEANUP_CLOSE int dir = -1;
	const char *leaf;

	if (finish_dirs(x, path, err))
		return -1;
	dir = open_parent(x->dir, path, &leaf, err);
	if (dir < 0)
		return -1;
	switch (m->type) {
	case '0':
	case '7':
		return put_file(x, dir, leaf, m, err);
	case '5':
		return put_dir(x, dir, leaf, path, m, err);
	case '1':
	case '2':
	case '3':
	case '4':
	case '6':
		return put_special(x, dir, leaf, m, err);
	default:
		return error_set(err, ERR_UNSUPPORTED,
				 "the archive's members of type '%c' are not supported", m->type);
	}
}

/* ---- where it goes ---- */

/* `dest` without slashes at its end, split: the directory (".", "/" or a path) and the last name. */
static void split(const char *dest, char **dir, char **leaf)
{
	size_t n = strlen(dest), at;

	while (n > 1 && dest[n - 1] == '/')
		n--;
	for (at = n; at > 0 && dest[at - 1] != '/'; at--)
		;
	*leaf = xstrndup(dest + at, n - at);
	*dir = at ? xstrndup(dest, at) : xstrdup(".");
}

static int place(struct extract *x, int dirfd, const char *dest, archive_open_fn open_fn,
		 bool is_dir, struct error **err)
{
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_FREE char *dir = NULL, *leaf = NULL;
	size_t n = strlen(dest);
	bool slash = n && dest[n - 1] == '/';
	struct stat st;

	x->dir = open_fn(dirfd, dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, &e);
	if (x->dir >= 0)
		return 0;
	if (x->flags & ARCHIVE_AS_IS)
		return error_move(err, STEAL(e));
	split(dest, &dir, &leaf);
	x->dir = open_fn(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, err);
	if (x->dir < 0)
		return -1;
	if (!*leaf || !strcmp(leaf, ".") || !strcmp(leaf, ".."))
		return error_move(err, STEAL(e));
	if (!fstatat(x->dir, leaf, &st, AT_SYMLINK_NOFOLLOW)) {
		if (is_dir || slash)
			return error_set(err, ERR_INVALID_ARGUMENT, "%s is not a directory", dest);
	} else if (slash && !is_dir) {
		return error_set(err, ERR_NOT_FOUND, "directory %s does not exist", dest);
	}
	x->top = STEAL(leaf);
	return 0;
}

int archive_extract(int in, int dirfd, const char *dest, archive_open_fn open_fn, unsigned flags,
		    struct error **err)
{
	struct extract x = {.in = in, .flags = flags, .dir = -1};
	char rest[4096];
	int r;

	for (;;) {
		CLEANUP(member_free) struct member m = {0};

		r = next_member(&x, &m, err);
		if (r <= 0)
			break;
		if (!x.begun) {
			x.contents = !*m.path;
			r = place(&x, dirfd, dest, open_fn, m.type == '5', err);
		}
		x.begun = true;
		/* The top of an archive that was made of "." is there already. */
		if (r >= 0 && (*m.path || x.top))
			r = put_member(&x, &m, err);
		if (r < 0)
			break;
		if (m.type != '0' && m.type != '7' && m.size && skip(&x, padded(m.size), err)) {
			r = -1;
			break;
		}
	}
	if (finish_dirs(&x, NULL, r < 0 ? NULL : err))
		r = -1;
	if (!r && !x.begun)
		r = error_set(err, ERR_EMPTY, "nothing came to be copied");
	/* Whoever writes is not cut off in the padding of the last block. */
	while (!r && RETRY_EINTR(read(in, rest, sizeof(rest))) > 0)
		;
	if (x.dir >= 0)
		close(x.dir);
	free(x.top);
	return r < 0 ? -1 : 0;
}
