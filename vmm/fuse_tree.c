/* SPDX-License-Identifier: Apache-2.0 */
/* fuse_tree.c - requests about names: looking them up, making, moving and removing what they mean. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "core/filter.h"
#include "vmm/fuse_impl.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS, mkdirat),   FILTER_ALLOW(FILTER_FS, mknodat),
	FILTER_ALLOW(FILTER_FS, symlinkat), FILTER_ALLOW(FILTER_FS, unlinkat),
	FILTER_ALLOW(FILTER_FS, linkat),    FILTER_ALLOW(FILTER_FS, renameat2),
};

/* ---- entries ---- */

static int fill(struct fuse *f, uint64_t id, const struct statx *st, struct fuse_entry_out *e)
{
	*e = (struct fuse_entry_out){.nodeid = id, .entry_valid = 1, .attr_valid = 1};
	fuse_attr_of(f, st, &e->attr);
	return 0;
}

int fuse_entry_fill(struct fuse *f, struct fuse_node *parent, const char *name, int fd,
		    const struct statx *st, struct fuse_entry_out *e)
{
	uint64_t id = fuse_node_seen(f, parent, name, fd, st);

	return id ? fill(f, id, st, e) : -ENOMEM;
}

int fuse_entry_look(struct fuse *f, struct fuse_node *parent, const char *name,
		    struct fuse_entry_out *e)
{
	struct statx st;
	int fd = fuse_open_path(parent->fd, name), r;

	if (fd < 0)
		return fd;
	r = fuse_stat(fd, "", &st);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fuse_entry_fill(f, parent, name, fd, &st, e);
}

int fuse_entry_share(struct fuse *f, size_t i, struct fuse_entry_out *e)
{
	struct fuse_node *n = f->share[i].node;
	struct statx st;
	int r = fuse_stat(n->fd, "", &st);

	if (r < 0)
		return r;
	fuse_lock(f);
	n->nlookup++;
	fuse_unlock(f);
	return fill(f, n->id, &st, e);
}

/* The root's entries are numbers without leading zeros. */
static int lookup_share(struct fuse *f, const char *name, struct fuse_entry_out *e)
{
	char want[12];
	unsigned i;

	for (i = 0; i < f->nshares; i++) {
		snprintf(want, sizeof(want), "%u", i);
		if (!strcmp(want, name))
			return fuse_entry_share(f, i, e);
	}
	return -ENOENT;
}

int fuse_op_lookup(struct fuse_call *c)
{
	struct fuse_entry_out e;
	int r = c->node->share ? fuse_entry_look(c->f, c->node, c->name, &e)
			       : lookup_share(c->f, c->name, &e);

	if (r >= 0)
		fuse_reply(c, &e, sizeof(e));
	return r;
}

/* ---- making ---- */

/* The entry of what was made: whatever has that name now. */
static int made(struct fuse_call *c)
{
	struct fuse_entry_out e;
	int r = fuse_entry_look(c->f, c->node, c->name, &e);

	if (r >= 0)
		fuse_reply(c, &e, sizeof(e));
	return r;
}

int fuse_op_symlink(struct fuse_call *c)
{
	CLEANUP_CREDS struct fuse_creds k = {0};
	int r;

	/* The target is only text, which the guest's kernel reads and nobody follows here. */
	if (!c->name2[0])
		return -ENOENT;
	if (strlen(c->name2) >= 4096)
		return -ENAMETOOLONG;
	r = fuse_creds_user(c, &k);
	if (!r && symlinkat(c->name2, c->node->fd, c->name))
		r = -errno;
	fuse_creds_back(&k);
	return r ? r : made(c);
}

static int make_node(struct fuse_call *c, mode_t mode)
{
	CLEANUP_CREDS struct fuse_creds k = {0};
	CLEANUP_CLOSE int fd = -1;
	int r = fuse_creds_user(c, &k);

	if (r)
		return r;
	if (S_ISREG(mode)) {
		fd = fuse_open_new(c->node->fd, c->name, O_RDONLY, mode);
		return fd < 0 ? fd : 0;
	}
	return mknodat(c->node->fd, c->name, mode & (S_IFMT | 07777), 0) ? -errno : 0;
}

int fuse_op_mknod(struct fuse_call *c)
{
	mode_t mode = c->arg.mknod.mode;
	int r;

	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	/* A device node would be one of the host's. */
	if (S_ISCHR(mode) || S_ISBLK(mode))
		return -EPERM;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EINVAL;
	r = make_node(c, mode);
	return r ? r : made(c);
}

int fuse_op_mkdir(struct fuse_call *c)
{
	CLEANUP_CREDS struct fuse_creds k = {0};
	int r = fuse_creds_user(c, &k);

	if (!r && mkdirat(c->node->fd, c->name, c->arg.mkdir.mode & 07777))
		r = -errno;
	fuse_creds_back(&k);
	return r ? r : made(c);
}

/* ---- removing and moving ---- */

int fuse_op_unlink(struct fuse_call *c)
{
	return unlinkat(c->node->fd, c->name, 0) ? -errno : 0;
}

int fuse_op_rmdir(struct fuse_call *c)
{
	return unlinkat(c->node->fd, c->name, AT_REMOVEDIR) ? -errno : 0;
}

/* A second node of a request, held and open. It must be in the same share: two shares are two mounts to the guest. */
static int other_node(struct fuse_call *c, uint64_t id, struct fuse_node **out)
{
	struct fuse_node *n = fuse_node_get(c->f, id);
	int r;

	if (!n)
		return -ESTALE;
	r = n->share != c->node->share ? -EXDEV : fuse_node_open(c->f, n);
	if (r < 0)
		fuse_node_put(c->f, n);
	else
		*out = n;
	return r;
}

static void other_done(struct fuse_call *c, struct fuse_node *n)
{
	fuse_node_close(c->f, n);
	fuse_node_put(c->f, n);
}

static int move(struct fuse_call *c, uint64_t newdir, unsigned flags)
{
	struct fuse_node *to;
	struct statx st;
	int r;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	r = other_node(c, newdir, &to);
	if (r < 0)
		return r;
	/* libc makes another call of it without flags. */
	if (syscall(SYS_renameat2, c->node->fd, c->name, to->fd, c->name2, flags))
		r = -errno;
	else {
		if (!fuse_stat(to->fd, c->name2, &st))
			fuse_node_moved(c->f, to, c->name2, &st);
		if (flags & RENAME_EXCHANGE && !fuse_stat(c->node->fd, c->name, &st))
			fuse_node_moved(c->f, c->node, c->name, &st);
	}
	other_done(c, to);
	return r;
}

int fuse_op_rename(struct fuse_call *c)
{
	return move(c, c->arg.rename.newdir, 0);
}

int fuse_op_rename2(struct fuse_call *c)
{
	return move(c, c->arg.rename2.newdir, c->arg.rename2.flags);
}

int fuse_op_link(struct fuse_call *c)
{
	struct fuse_node *old;
	char fd_name[FUSE_FD_NAME];
	int r = other_node(c, c->arg.link.oldnodeid, &old);

	if (r < 0)
		return r;
	/* Through /proc, as an empty name would want a capability. A node that is itself a link is linked, not followed. */
	fuse_fd_name(old->fd, fd_name);
	if (linkat(c->f->proc, fd_name, c->node->fd, c->name, AT_SYMLINK_FOLLOW))
		r = -errno;
	other_done(c, old);
	return r ? r : made(c);
}
