/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_xattr.c - extended attributes: those of users, and no others.
 *
 * What the others say is meant for this host's kernel (capabilities, access lists, labels): a guest must neither set nor rely on it.
 * Only regular files and directories have user attributes, so they are opened for it as for reading.
 */
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/xattr.h>

#include "core/filter.h"
#include "vmm/fuse_impl.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FS, fgetxattr),
	FILTER_ALLOW(FILTER_FS, fsetxattr),
	FILTER_ALLOW(FILTER_FS, flistxattr),
	FILTER_ALLOW(FILTER_FS, fremovexattr),
};

static bool users(const char *name)
{
	return !strncmp(name, "user.", 5) && name[5];
}

static int open_for(struct fuse_call *c)
{
	return fuse_reopen(c->f, c->node, O_RDONLY);
}

int fuse_op_setxattr(struct fuse_call *c)
{
	const struct fuse_setxattr_in *a = &c->arg.setxattr;
	CLEANUP_CLOSE int fd = -1;

	if (!users(c->name))
		return -EOPNOTSUPP;
	if (a->size != c->len)
		return -EINVAL;
	if (a->size > XATTR_SIZE_MAX)
		return -E2BIG;
	if (a->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	fd = open_for(c);
	if (fd < 0)
		return fd == -EINVAL ? -EPERM : fd;
	return fsetxattr(fd, c->name, c->data, a->size, (int)a->flags) ? -errno : 0;
}

/* n bytes of a value or a list, or only how many they are when the guest asked for that. */
static int answer(struct fuse_call *c, const void *p, size_t n)
{
	struct fuse_getxattr_out out = {.size = (uint32_t)n};

	if (!c->arg.getxattr.size) {
		if (c->room < sizeof(out))
			return -EINVAL;
		fuse_reply(c, &out, sizeof(out));
		return 0;
	}
	if (n > c->arg.getxattr.size || n > c->room)
		return -ERANGE;
	fuse_reply(c, p, n);
	return 0;
}

int fuse_op_getxattr(struct fuse_call *c)
{
	CLEANUP_FREE char *value = NULL;
	CLEANUP_CLOSE int fd = -1;
	ssize_t n;

	if (!users(c->name))
		return -EOPNOTSUPP;
	fd = open_for(c);
	if (fd < 0)
		return fd == -EINVAL ? -ENODATA : fd;
	value = xmalloc(XATTR_SIZE_MAX);
	n = fgetxattr(fd, c->name, value, XATTR_SIZE_MAX);
	return n < 0 ? -errno : answer(c, value, (size_t)n);
}

int fuse_op_listxattr(struct fuse_call *c)
{
	CLEANUP_FREE char *list = NULL;
	CLEANUP_CLOSE int fd = open_for(c);
	size_t at, len, kept = 0;
	ssize_t n;

	if (fd < 0)
		return fd == -EINVAL ? answer(c, "", 0) : fd;
	list = xmalloc(XATTR_LIST_MAX);
	n = flistxattr(fd, list, XATTR_LIST_MAX);
	if (n < 0)
		return errno == EOPNOTSUPP ? answer(c, "", 0) : -errno;
	for (at = 0; at < (size_t)n; at += len) {
		len = strnlen(list + at, (size_t)n - at) + 1;
		if (at + len > (size_t)n)
			break;
		if (!users(list + at))
			continue;
		memmove(list + kept, list + at, len);
		kept += len;
	}
	return answer(c, list, kept);
}

int fuse_op_removexattr(struct fuse_call *c)
{
	CLEANUP_CLOSE int fd = -1;

	if (!users(c->name))
		return -EOPNOTSUPP;
	fd = open_for(c);
	if (fd < 0)
		return fd == -EINVAL ? -ENODATA : fd;
	return fremovexattr(fd, c->name) ? -errno : 0;
}
