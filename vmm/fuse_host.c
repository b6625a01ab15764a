/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_host.c - how the FUSE server asks the host's kernel: opening without following anything, and as whom.
 *
 * A name from the guest is only ever given to the kernel together with an O_PATH descriptor of the directory it is in, as one component
 * or, for a node that is opened again, as names that were looked up before; RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS hold for all of
 * them. What I/O is done on is opened through /proc/self/fd from the descriptor that was looked at, so its type cannot change between.
 *
 * As root a thread takes on the file system ids of the guest's user while it makes something, so that owner, group of set-group-id
 * directories and quota are right from the first moment. Whether that user may has been decided by the guest's kernel (the mount has
 * default_permissions), which knows its groups; so CAP_DAC_OVERRIDE is kept. Both are a thread's own: by system call, not by libc.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/fuse_impl.h"

#define OPEN_RETRIES 64 /* openat2 gives EAGAIN when a rename races with it */

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS, openat2),  FILTER_ALLOW(FILTER_FS, statx),
	FILTER_ALLOW(FILTER_FS, setfsuid), FILTER_ALLOW(FILTER_FS, setfsgid),
	FILTER_ALLOW(FILTER_FS, capget),   FILTER_ALLOW(FILTER_FS, capset),
};

int fuse_stat(int dir, const char *name, struct statx *st)
{
	return statx(dir, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		     STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, st)
		       ? -errno
		       : 0;
}

uint64_t fuse_stat_dev(const struct statx *st)
{
	return (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;
}

static int open_how(int dir, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
			       .mode = mode,
			       .resolve = resolve};
	int fd, i;

	for (i = 0; i < OPEN_RETRIES; i++) {
		fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

#define BELOW (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

int fuse_open_path(int dir, const char *path)
{
	return open_how(dir, path, O_PATH | O_NOFOLLOW, 0, BELOW);
}

int fuse_open_new(int dir, const char *name, int flags, mode_t mode)
{
	return open_how(dir, name,
			(flags & FUSE_OPEN_FLAGS) | O_CREAT | O_EXCL | O_NOFOLLOW | O_NONBLOCK |
				O_NOCTTY,
			mode & 07777, BELOW);
}

void fuse_fd_name(int fd, char name[FUSE_FD_NAME])
{
	snprintf(name, FUSE_FD_NAME, "%d", fd);
}

int fuse_reopen(struct fuse *f, const struct fuse_node *n, int flags)
{
	bool keep_atime = n->share->readonly;
	char name[FUSE_FD_NAME];
	int fd;

	if (!S_ISREG(n->ident.type) && !S_ISDIR(n->ident.type))
		return -EINVAL;
	flags |= O_NONBLOCK | O_NOCTTY | (S_ISDIR(n->ident.type) ? O_DIRECTORY : 0);
	fuse_fd_name(n->fd, name);
	fd = open_how(f->proc, name, flags | (keep_atime ? O_NOATIME : 0), 0, 0);
	if (fd == -EPERM && keep_atime)
		fd = open_how(f->proc, name, flags, 0, 0);
	return fd;
}

int fuse_path_of(struct fuse *f, int fd)
{
	char name[FUSE_FD_NAME];

	fuse_fd_name(fd, name);
	return open_how(f->proc, name, O_PATH, 0, 0);
}

/* ---- as whom ---- */

/* Puts one capability of this thread into its effective set or takes it from there; false when nothing changed. */
static bool set_effective(unsigned cap, bool on)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3];
	uint32_t bit = CAP_TO_MASK(cap);

	if (syscall(SYS_capget, &h, d) || !(d[CAP_TO_INDEX(cap)].permitted & bit) ||
	    !(d[CAP_TO_INDEX(cap)].effective & bit) == !on)
		return false;
	d[CAP_TO_INDEX(cap)].effective ^= bit;
	return !syscall(SYS_capset, &h, d);
}

/* The call says what the id was, never that it failed: it is asked again with an id that is none. */
static bool set_fsid(long call, uint32_t id)
{
	(void)syscall(call, (long)id);
	return (uint32_t)syscall(call, -1L) == id;
}

int fuse_creds_user(struct fuse_call *c, struct fuse_creds *k)
{
	if (c->f->squash || (c->in.uid == c->f->uid && c->in.gid == c->f->gid))
		return 0;
	*k = (struct fuse_creds){.user = true, .uid = c->f->uid, .gid = c->f->gid};
	if (c->in.uid == UINT32_MAX || c->in.gid == UINT32_MAX ||
	    !set_fsid(SYS_setfsgid, c->in.gid) || !set_fsid(SYS_setfsuid, c->in.uid))
		return -EPERM;
	(void)set_effective(CAP_DAC_OVERRIDE, true);
	return 0;
}

void fuse_creds_kill(struct fuse_call *c, struct fuse_creds *k, bool kill)
{
	if (kill && !c->f->squash)
		k->fsetid = set_effective(CAP_FSETID, false);
}

void fuse_creds_back(struct fuse_creds *k)
{
	/* A thread that stays another user, or without a right that the next request needs, must not go on. */
	if (k->user && (!set_fsid(SYS_setfsuid, k->uid) || !set_fsid(SYS_setfsgid, k->gid))) {
		log_error("fuse: a thread cannot be itself again");
		abort();
	}
	if (k->fsetid)
		(void)set_effective(CAP_FSETID, true);
	*k = (struct fuse_creds){0};
}
