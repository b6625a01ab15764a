/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mnt.c - mounts made and placed by descriptor (fsopen(2), open_tree(2), move_mount(2); Linux 5.12 and later).
 *
 * A mount's target is opened inside the container's root with openat2 and the mount is moved onto that
 * descriptor: no path is looked up twice, so a symlink in an image never leads a mount elsewhere.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "vmm/guest/guest.h"

#define MAX_TARGET_DEPTH 64

static const struct {
	const char *word;
	uint64_t set, clear;
} words[] = {
	{"ro", MOUNT_ATTR_RDONLY, 0},
	{"rw", 0, MOUNT_ATTR_RDONLY},
	{"nosuid", MOUNT_ATTR_NOSUID, 0},
	{"suid", 0, MOUNT_ATTR_NOSUID},
	{"nodev", MOUNT_ATTR_NODEV, 0},
	{"dev", 0, MOUNT_ATTR_NODEV},
	{"noexec", MOUNT_ATTR_NOEXEC, 0},
	{"exec", 0, MOUNT_ATTR_NOEXEC},
	{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
	{"relatime", 0, MOUNT_ATTR__ATIME},
	{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
	/* Words of mount(8) and of the OCI runtime spec that change nothing in a namespace of one's own. */
	{"defaults", 0, 0},
	{"private", 0, 0},
	{"rprivate", 0, 0},
	{"slave", 0, 0},
	{"rslave", 0, 0},
	{"shared", 0, 0},
	{"rshared", 0, 0},
};

static void parse_word(const char *w, struct mnt_opts *o)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(words[i].word, w))
			continue;
		o->attrs = (o->attrs & ~words[i].clear) | words[i].set;
		return;
	}
	if (!strcmp(w, "bind"))
		o->bind = true;
	else if (!strcmp(w, "rbind"))
		o->bind = o->rbind = true;
	else if (*w)
		strv_add(&o->data, w);
}

void mnt_opts_parse(struct json_object *options, struct mnt_opts *o)
{
	size_t i, n = options ? json_object_array_length(options) : 0;

	for (i = 0; i < n && i < 64; i++) {
		struct json_object *v = json_object_array_get_idx(options, i);

		if (json_object_is_type(v, json_type_string))
			parse_word(json_object_get_string(v), o);
	}
}

void mnt_opts_free(struct mnt_opts *o)
{
	strv_free(&o->data);
}

static int set_option(int fs, const char *text)
{
	CLEANUP_FREE char *key = xstrdup(text);
	char *value = strchr(key, '=');

	if (!value)
		return fsconfig(fs, FSCONFIG_SET_FLAG, key, NULL, 0);
	*value++ = 0;
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0);
}

int mnt_fs(const char *type, const char *source, const struct mnt_opts *o, struct error **err)
{
	CLEANUP_CLOSE int fs = fsopen(type, FSOPEN_CLOEXEC);
	size_t i;
	int mfd;

	if (fs < 0)
		return error_sys(err, errno, "file system %s", type);
	if (source && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0))
		return error_sys(err, errno, "%s: source %s", type, source);
	for (i = 0; o && i < o->data.n; i++)
		if (set_option(fs, o->data.v[i]))
			return error_sys(err, errno, "%s: option %s", type, o->data.v[i]);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return error_sys(err, errno, "make %s", type);
	mfd = fsmount(fs, FSMOUNT_CLOEXEC, o ? (unsigned)o->attrs : 0);
	return mfd < 0 ? error_sys(err, errno, "mount %s", type) : mfd;
}

static int target_at(int rootfd, const char *target, bool file, unsigned depth, struct error **err)
{
	CLEANUP_CLOSE int parent = -1;
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_ERROR struct error *e = NULL;
	char *base;
	size_t n;
	int fd = path_open_inroot(rootfd, target, O_PATH, 0, &e);

	if (fd >= 0)
		return fd;
	if (e->sys != ENOENT || depth > MAX_TARGET_DEPTH)
		return error_move(err, STEAL(e));
	dir = xstrdup(target);
	for (n = strlen(dir); n > 1 && dir[n - 1] == '/'; n--)
		dir[n - 1] = 0;
	base = strrchr(dir, '/');
	if (!base || !base[1])
		return error_move(err, STEAL(e));
	*base++ = 0;
	parent = target_at(rootfd, *dir ? dir : "/", false, depth + 1, err);
	if (parent < 0)
		return -1;
	if (file) {
		fd = openat(parent, base, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    0644);
		if (fd >= 0)
			close(fd);
	} else {
		fd = mkdirat(parent, base, 0755);
	}
	if (fd < 0 && errno != EEXIST)
		return error_sys(err, errno, "create %s", target);
	return path_open_inroot(rootfd, target, O_PATH, 0, err);
}

int mnt_target(int rootfd, const char *target, bool file, struct error **err)
{
	if (*target != '/')
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" is not an absolute path",
				 target);
	return target_at(rootfd, target, file, 0, err);
}

int mnt_attach(int mfd, int rootfd, const char *target, bool file, struct error **err)
{
	CLEANUP_CLOSE int fd = mnt_target(rootfd, target, file, err);

	if (fd < 0)
		return -1;
	if (move_mount(mfd, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		return error_sys(err, errno, "mount on %s", target);
	return 0;
}

int mnt_clone(int fd, bool recursive, struct error **err)
{
	int mfd = open_tree(fd, "",
			    AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
				    (recursive ? AT_RECURSIVE : 0));

	return mfd < 0 ? error_sys(err, errno, "clone a mount") : mfd;
}

int mnt_set_attrs(int mfd, uint64_t set, bool recursive, struct error **err)
{
	struct mount_attr a = {.attr_set = set};

	if (mount_setattr(mfd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a, sizeof(a)))
		return error_sys(err, errno, "change a mount");
	return 0;
}
