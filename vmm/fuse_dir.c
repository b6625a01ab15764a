/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_dir.c - reading directories.
 *
 * Positions are the host's own (d_off). A reply's last entry says where the next request goes on; the block of entries that it came from is
 * kept until then.
 *
 * READDIRPLUS tells the guest of a node with each entry. Those are made by one statx() and have no descriptor until they are needed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "core/filter.h"
#include "vmm/fuse_impl.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS, getdents64),
};

#define DENTS \
	8192u /* bytes of a block of entries: each open directory that is being read has one */

/* linux_dirent64 of getdents64(2). */
struct host_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
} __attribute__((packed));

int fuse_op_opendir(struct fuse_call *c)
{
	struct fuse_open_out out = {0};
	int fd = -1, r;

	if (c->node->share) {
		if (!S_ISDIR(c->node->ident.type))
			return -ENOTDIR;
		fd = fuse_reopen(c->f, c->node, O_RDONLY);
		if (fd < 0)
			return fd;
	}
	r = fuse_file_new(c->f, FUSE_KIND_DIR, fd, c->node, &out.fh);
	if (!r)
		fuse_reply(c, &out, sizeof(out));
	return r;
}

/* ---- what goes into a reply ---- */

struct listing {
	struct fuse_call *c;
	size_t room;
	bool plus;
};

static size_t entry_size(const struct listing *l, size_t namelen)
{
	return (l->plus ? sizeof(struct fuse_entry_out) : 0) +
	       FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + namelen);
}

static bool fits(const struct listing *l, const char *name)
{
	return entry_size(l, strlen(name)) <= l->room - l->c->outlen;
}

/* e: with plus; NULL tells of no node. */
static void emit(struct listing *l, const char *name, uint64_t ino, uint64_t off, uint32_t type,
		 const struct fuse_entry_out *e)
{
	struct fuse_dirent d = {.ino = ino,
				.off = off,
				.namelen = (uint32_t)strlen(name),
				.type = type};
	struct fuse_entry_out none = {.attr = {.ino = ino, .mode = type << 12}};
	uint8_t *p = l->c->out + l->c->outlen;
	size_t n = entry_size(l, d.namelen);

	memset(p, 0, n);
	l->c->outlen += n;
	if (l->plus) {
		memcpy(p, e ? e : &none, sizeof(none));
		p += sizeof(none);
	}
	memcpy(p, &d, FUSE_NAME_OFFSET);
	memcpy(p + FUSE_NAME_OFFSET, name, d.namelen);
}

static bool is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* ---- the root ---- */

static void list_root(struct listing *l, uint64_t off)
{
	struct fuse *f = l->c->f;
	struct fuse_entry_out e;
	char name[12];
	uint64_t i;

	for (i = off; i < f->nshares + 2; i++) {
		bool share = i >= 2;

		snprintf(name, sizeof(name), "%s", i ? ".." : ".");
		if (share)
			snprintf(name, sizeof(name), "%u", (unsigned)(i - 2));
		if (!fits(l, name))
			return;
		if (!share) {
			emit(l, name, FUSE_ROOT_INO, i + 1, DT_DIR, NULL);
			continue;
		}
		if (l->plus && fuse_entry_share(f, i - 2, &e) < 0)
			continue;
		emit(l, name,
		     fuse_ino(f, f->share[i - 2].node->ident.dev, f->share[i - 2].node->ident.ino),
		     i + 1, f->share[i - 2].node->ident.type >> 12, l->plus ? &e : NULL);
	}
}

/* ---- the host's ---- */

static int entry_plus(struct fuse_call *c, const char *name, struct fuse_entry_out *e)
{
	struct statx st;
	int r = fuse_stat(c->node->fd, name, &st);

	return r < 0 ? r : fuse_entry_fill(c->f, c->node, name, -1, &st, e);
}

/* False when the reply is full. */
static bool list_one(struct listing *l, const struct host_dirent *d)
{
	struct fuse_call *c = l->c;
	struct fuse_entry_out e;
	uint64_t ino = fuse_ino(c->f, c->node->ident.dev, d->ino);
	bool plus = l->plus && !is_dot(d->name);

	/* What the guest could not name it does not see. */
	if (!is_dot(d->name) && !fuse_name_ok(d->name))
		return true;
	if (!fits(l, d->name))
		return false;
	/* What is above a share is none of the guest's business, not even as a number. */
	if (!strcmp(d->name, "..") && c->node->share->node == c->node)
		ino = FUSE_ROOT_INO;
	/* Gone since: it is named, and a lookup will say so. */
	if (plus && entry_plus(c, d->name, &e) < 0)
		plus = false;
	emit(l, d->name, plus ? e.attr.ino : ino, (uint64_t)d->off, d->type, plus ? &e : NULL);
	return true;
}

/*
 * Where in the block that is there the entry at position off begins; false when it is not in there nor right behind. The host is
 * not asked to go back to a position that it gave out: on some file systems (tmpfs before Linux 6.6) a position is a count of entries, and
 * who removes while he reads would miss some.
 */
static bool find_entry(const struct fuse_file *f, uint64_t off, size_t *at)
{
	*at = 0;
	if (!off || !f->dents)
		return false;
	if (off == (uint64_t)f->dents_off)
		return true;
	while (*at < f->ndents) {
		const struct host_dirent *d = (const void *)(f->dents + *at);

		*at += d->reclen;
		if ((uint64_t)d->off == off)
			return true;
	}
	return false;
}

static long next_block(struct fuse_file *f, uint64_t off)
{
	long n;

	if (!f->dents)
		f->dents = xmalloc(DENTS);
	f->dents_off = (int64_t)off;
	n = syscall(SYS_getdents64, f->fd, f->dents, DENTS);
	f->ndents = n > 0 ? (size_t)n : 0;
	if (n <= 0)
		free(STEAL(f->dents));
	return n < 0 ? -errno : n;
}

/* A reply's entries are of one block, so that the next request, wherever in them the guest stopped, finds its position there. */
static int list_host(struct listing *l, struct fuse_file *f, uint64_t off)
{
	bool here;
	size_t at;
	long n;

	if (off > INT64_MAX)
		return -EINVAL;
	here = find_entry(f, off, &at);
	if (!here && lseek(f->fd, (off_t)off, SEEK_SET) < 0)
		return -EINVAL;
	do {
		if (!here || at == f->ndents) {
			n = next_block(f, off);
			if (n <= 0)
				return (int)n;
			at = 0;
		}
		for (here = true; at < f->ndents;) {
			const struct host_dirent *d = (const void *)(f->dents + at);

			if (!list_one(l, d))
				return 0;
			at += d->reclen;
			off = (uint64_t)d->off;
		}
	} while (!l->c->outlen); /* of which nothing could be named */
	return 0;
}

static int list(struct fuse_call *c, bool plus)
{
	struct listing l = {.c = c, .room = MIN(c->arg.read.size, c->room), .plus = plus};
	int r = 0;

	if (!c->node->share) {
		list_root(&l, c->arg.read.offset);
		return 0;
	}
	/* The position is the descriptor's. */
	pthread_mutex_lock(&c->file->pos);
	r = list_host(&l, c->file, c->arg.read.offset);
	pthread_mutex_unlock(&c->file->pos);
	return r;
}

int fuse_op_readdir(struct fuse_call *c)
{
	return list(c, false);
}

int fuse_op_readdirplus(struct fuse_call *c)
{
	return list(c, true);
}
