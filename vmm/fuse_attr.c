/* SPDX-License-Identifier: Apache-2.0 */
/* fuse_attr.c - requests about what a file is, not what is in it. */
#include <fcntl.h>
#include <sys/vfs.h>

#include "core/filter.h"
#include "vmm/fuse_impl.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS, fstatfs),   FILTER_ALLOW(FILTER_FS, fchownat),
	FILTER_ALLOW(FILTER_FS, fchmodat),  FILTER_ALLOW(FILTER_FS, utimensat),
	FILTER_ALLOW(FILTER_FS, ftruncate), FILTER_ALLOW(FILTER_FS, readlinkat),
};

/* ---- attributes ---- */

static uint32_t shown(const struct fuse *f, uint32_t id, uint32_t ours)
{
	return !f->squash ? id : id == ours ? 0 : FUSE_NOBODY;
}

void fuse_attr_of(struct fuse *f, const struct statx *st, struct fuse_attr *a)
{
	uint32_t minor = st->stx_rdev_minor;

	*a = (struct fuse_attr){
		.ino = fuse_ino(f, fuse_stat_dev(st), st->stx_ino),
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = shown(f, st->stx_uid, f->uid),
		.gid = shown(f, st->stx_gid, f->gid),
		/* as the kernel's new_encode_dev() */
		.rdev = (minor & 0xff) | st->stx_rdev_major << 8 | (minor & ~0xffu) << 12,
		.blksize = st->stx_blksize,
	};
}

void fuse_attr_root(struct fuse_attr *a)
{
	*a = (struct fuse_attr){.ino = FUSE_ROOT_INO,
				.mode = S_IFDIR | 0555,
				.nlink = 2,
				.blksize = 4096};
}

static int reply_attr(struct fuse_call *c)
{
	struct fuse_attr_out out = {.attr_valid = 1};
	struct statx st;
	int r = 0;

	if (!c->node->share)
		fuse_attr_root(&out.attr);
	else {
		r = fuse_stat(c->node->fd, "", &st);
		if (!r)
			fuse_attr_of(c->f, &st, &out.attr);
	}
	if (!r)
		fuse_reply(c, &out, sizeof(out));
	return r;
}

int fuse_op_getattr(struct fuse_call *c)
{
	return reply_attr(c);
}

static int set_size(struct fuse_call *c)
{
	const struct fuse_setattr_in *a = &c->arg.setattr;
	CLEANUP_CREDS struct fuse_creds k = {0};
	struct fuse_file *file = NULL;
	CLEANUP_CLOSE int fd = -1;
	int r = 0;

	if (a->size > INT64_MAX)
		return -EFBIG;
	if (!S_ISREG(c->node->ident.type))
		return S_ISDIR(c->node->ident.type) ? -EISDIR : -EINVAL;
	if (a->valid & FATTR_FH) {
		file = fuse_file_get(c->f, a->fh, FUSE_KIND_FILE, c->node);
		if (!file)
			return -EBADF;
	} else {
		fd = fuse_reopen(c->f, c->node, O_WRONLY);
		if (fd < 0)
			return fd;
	}
	fuse_creds_kill(c, &k, c->f->kill_each || a->valid & FATTR_KILL_SUIDGID);
	if (ftruncate(file ? file->fd : fd, (off_t)a->size))
		r = -errno;
	if (file)
		fuse_file_put(c->f, file);
	return r;
}

/* chown to what it is shown as is nothing; with squash everything else is refused, as for a user on the host. */
static int set_owner(struct fuse_call *c)
{
	const struct fuse_setattr_in *a = &c->arg.setattr;
	bool uid = a->valid & FATTR_UID, gid = a->valid & FATTR_GID;
	struct statx st;
	int r;

	if ((uid && a->uid == UINT32_MAX) || (gid && a->gid == UINT32_MAX))
		return -EINVAL;
	if (!c->f->squash)
		return fchownat(c->node->fd, "", uid ? a->uid : UINT32_MAX,
				gid ? a->gid : UINT32_MAX, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)
			       ? -errno
			       : 0;
	r = fuse_stat(c->node->fd, "", &st);
	if (r < 0)
		return r;
	return (uid && a->uid != shown(c->f, st.stx_uid, c->f->uid)) ||
			       (gid && a->gid != shown(c->f, st.stx_gid, c->f->gid))
		       ? -EPERM
		       : 0;
}

static int set_mode(struct fuse_call *c)
{
	char name[FUSE_FD_NAME];

	if (S_ISLNK(c->node->ident.type))
		return -EOPNOTSUPP;
	fuse_fd_name(c->node->fd, name);
	return fchmodat(c->f->proc, name, c->arg.setattr.mode & 07777, 0) ? -errno : 0;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t now, uint64_t sec,
			       uint32_t nsec)
{
	struct timespec t = {.tv_sec = (time_t)sec, .tv_nsec = nsec};

	if (!(valid & set))
		t.tv_nsec = UTIME_OMIT;
	else if (valid & now)
		t.tv_nsec = UTIME_NOW;
	return t;
}

static int set_times(struct fuse_call *c)
{
	const struct fuse_setattr_in *a = &c->arg.setattr;
	struct timespec t[2] = {
		time_of(a->valid, FATTR_ATIME, FATTR_ATIME_NOW, a->atime, a->atimensec),
		time_of(a->valid, FATTR_MTIME, FATTR_MTIME_NOW, a->mtime, a->mtimensec),
	};

	if ((a->valid & FATTR_ATIME && !(a->valid & FATTR_ATIME_NOW) && a->atimensec > 999999999) ||
	    (a->valid & FATTR_MTIME && !(a->valid & FATTR_MTIME_NOW) && a->mtimensec > 999999999))
		return -EINVAL;
	return utimensat(c->node->fd, "", t, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

int fuse_op_setattr(struct fuse_call *c)
{
	uint32_t valid = c->arg.setattr.valid;
	int r = 0;

	/* A new owner takes set-user-id bits away, so the mode comes after it. */
	if (valid & (FATTR_UID | FATTR_GID))
		r = set_owner(c);
	if (!r && valid & FATTR_SIZE)
		r = set_size(c);
	if (!r && valid & FATTR_MODE)
		r = set_mode(c);
	if (!r && valid & (FATTR_ATIME | FATTR_MTIME))
		r = set_times(c);
	return r ? r : reply_attr(c);
}

/* ---- the rest ---- */

int fuse_op_readlink(struct fuse_call *c)
{
	char target[4096];
	ssize_t n;

	if (!S_ISLNK(c->node->ident.type))
		return -EINVAL;
	n = readlinkat(c->node->fd, "", target, sizeof(target));
	if (n < 0)
		return -errno;
	if ((size_t)n > c->room)
		return -ENAMETOOLONG;
	fuse_reply(c, target, (size_t)n);
	return 0;
}

int fuse_op_statfs(struct fuse_call *c)
{
	struct fuse_statfs_out out = {
		.st = {.bsize = 4096, .frsize = 4096, .namelen = FUSE_NAME_MAX}};
	struct statfs st;

	if (c->node->share) {
		if (fstatfs(c->node->fd, &st))
			return -errno;
		out.st = (struct fuse_kstatfs){
			.blocks = st.f_blocks,
			.bfree = st.f_bfree,
			.bavail = st.f_bavail,
			.files = st.f_files,
			.ffree = st.f_ffree,
			.bsize = (uint32_t)st.f_bsize,
			.frsize = (uint32_t)st.f_frsize,
			.namelen = (uint32_t)MIN((uint64_t)st.f_namelen, FUSE_NAME_MAX),
		};
	}
	fuse_reply(c, &out, sizeof(out));
	return 0;
}
