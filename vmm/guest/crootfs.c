/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crootfs.c - what a container finds mounted: the OCI runtime specification's default file systems, a /dev
 * of its own (never the devtmpfs, which shows the disks), then the mounts asked for, then what is masked.
 *
 * Runs in the container's first process, in its new namespaces, before it lets go of the agent's root.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <linux/major.h>

#include "core/hidden.h"
#include "vmm/guest/guest.h"

#define SECURE        (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define SHM_DEFAULT   (64u << 20)
#define KVM_MINOR     232 /* of the misc devices (admin-guide/devices.txt) */
#define MAX_PATHS     256
#define MAX_SYSCTLS   256
#define DEVICES_DEPTH 3 /* of directories in /dev */

static const struct {
	const char *type, *target;
	uint64_t attrs;
	const char *data[3];
} defaults[] = {
	{"proc", "/proc", SECURE, {NULL}},
	{"tmpfs", "/dev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, {"mode=755", "size=65536k"}},
	{"devpts",
	 "/dev/pts",
	 MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
	 {"ptmxmode=0666", "mode=0620", "gid=5"}},
	{"mqueue", "/dev/mqueue", SECURE, {NULL}},
	{"sysfs", "/sys", SECURE | MOUNT_ATTR_RDONLY, {NULL}},
	{"cgroup2", "/sys/fs/cgroup", SECURE | MOUNT_ATTR_RDONLY, {NULL}},
};

static const struct {
	const char *name;
	unsigned major, minor;
} nodes[] = {
	{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
	{"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
};

static const struct {
	const char *name, *to;
} links[] = {
	{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

static int mount_new(int rootfd, const char *type, const char *source, const char *target,
		     const struct mnt_opts *o, struct error **err)
{
	CLEANUP_CLOSE int mfd = mnt_fs(type, source, o, err);

	if (mfd < 0)
		return -1;
	return mnt_attach(mfd, rootfd, target, false, err);
}

static int fill_dev(int rootfd, bool kvm, struct error **err)
{
	CLEANUP_CLOSE int dev = path_open_inroot(rootfd, "/dev", O_RDONLY | O_DIRECTORY, 0, err);
	size_t i;

	if (dev < 0)
		return -1;
	for (i = 0; i < ARRAY_SIZE(nodes); i++)
		if (mknodat(dev, nodes[i].name, S_IFCHR | 0666,
			    makedev(nodes[i].major, nodes[i].minor)))
			return error_sys(err, errno, "make /dev/%s", nodes[i].name);
	if (kvm && mknodat(dev, "kvm", S_IFCHR | 0666, makedev(MISC_MAJOR, KVM_MINOR)))
		return error_sys(err, errno, "make /dev/kvm");
	for (i = 0; i < ARRAY_SIZE(links); i++)
		if (symlinkat(links[i].to, dev, links[i].name))
			return error_sys(err, errno, "make /dev/%s", links[i].name);
	return 0;
}

/* The machine's devices, as they are now, for a privileged container. */
static int copy_devices(int from, int to, unsigned depth, struct error **err)
{
	int copy = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *de;
	struct stat st;

	if (!d)
		return error_sys(err, errno, "read the devices");
	while (!rc && (de = readdir(d))) {
		const char *name = de->d_name;

		if (!strcmp(name, ".") || !strcmp(name, "..") ||
		    fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (S_ISDIR(st.st_mode) && depth && strcmp(name, "pts") && strcmp(name, "shm")) {
			CLEANUP_CLOSE int in =
				openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			CLEANUP_CLOSE int out = -1;

			mkdirat(to, name, 0755);
			out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (in >= 0 && out >= 0)
				rc = copy_devices(in, out, depth - 1, err);
		} else if ((S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) &&
			   !mknodat(to, name, st.st_mode, st.st_rdev) &&
			   fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW)) {
			rc = error_sys(err, errno, "owner of /dev/%s", name);
		}
	}
	closedir(d);
	return rc;
}

/* Names that are there stay: a terminal of the container's own is not the machine's. */
static int fill_privileged(int rootfd, struct error **err)
{
	CLEANUP_CLOSE int to = path_open_inroot(rootfd, "/dev", O_RDONLY | O_DIRECTORY, 0, err);
	CLEANUP_CLOSE int from = to < 0 ? -1 : path_open_dir("/dev", err);

	return from < 0 ? -1 : copy_devices(from, to, DEVICES_DEPTH, err);
}

static int mount_defaults(int rootfd, struct json_object *boot, struct error **err)
{
	bool privileged = json_flag(boot, "privileged", false);
	bool kvm = json_flag(boot, "virtualization", false);
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE(defaults); i++) {
		CLEANUP(mnt_opts_free)
		struct mnt_opts o = {.attrs = defaults[i].attrs &
					      (privileged ? ~(uint64_t)MOUNT_ATTR_RDONLY : ~0ull)};

		for (k = 0; k < ARRAY_SIZE(defaults[i].data) && defaults[i].data[k]; k++)
			strv_add(&o.data, defaults[i].data[k]);
		if (mount_new(rootfd, defaults[i].type, defaults[i].type, defaults[i].target, &o,
			      err))
			return error_wrap(err, "%s", defaults[i].target);
		if (!strcmp(defaults[i].target, "/dev") && fill_dev(rootfd, kvm, err))
			return -1;
	}
	return 0;
}

static int mount_shm(int rootfd, int64_t size, struct error **err)
{
	CLEANUP(mnt_opts_free) struct mnt_opts o = {.attrs = SECURE};

	if (size < 0)
		return error_set(err, ERR_INVALID_ARGUMENT, "shmSize is negative");
	strv_add(&o.data, "mode=1777");
	strv_addf(&o.data, "size=%lld", (long long)size);
	return mount_new(rootfd, "tmpfs", "shm", "/dev/shm", &o, err);
}

static int mount_bind(int rootfd, const char *source, const char *target, const struct mnt_opts *o,
		      struct error **err)
{
	CLEANUP_CLOSE int src = path_open_inroot(rootfd, source, O_PATH, 0, err), mfd = -1;
	struct stat st;

	if (src < 0 || fstat(src, &st))
		return -1;
	mfd = mnt_clone(src, o->rbind, err);
	if (mfd < 0 || (o->attrs && mnt_set_attrs(mfd, o->attrs, o->rbind, err)))
		return -1;
	return mnt_attach(mfd, rootfd, target, !S_ISDIR(st.st_mode), err);
}

/* The source is the name of a share: a number, as we gave it out. What is there is a file or a directory; so is its place. */
static int mount_share(int rootfd, const char *name, const char *target, const struct mnt_opts *o,
		       struct error **err)
{
	CLEANUP_CLOSE int dir = -1, src = -1, mfd = -1;
	struct stat st;

	if (!*name || strspn(name, "0123456789") != strlen(name))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"%s\" is no share", name);
	dir = path_open_dir(GUEST_SHARES, err);
	src = dir < 0 ? -1 : path_open_beneath(dir, name, O_PATH | O_NOFOLLOW, 0, err);
	if (src < 0)
		return -1;
	if (fstat(src, &st))
		return error_sys(err, errno, "share %s", name);
	mfd = mnt_clone(src, false, err);
	if (mfd < 0 || mnt_set_attrs(mfd, o->attrs | MOUNT_ATTR_NODEV, false, err))
		return -1;
	return mnt_attach(mfd, rootfd, target, !S_ISDIR(st.st_mode), err);
}

/* One of the disks that the agent mounted (disks.c). */
static int mount_volume(int rootfd, int64_t number, const char *target, const struct mnt_opts *o,
			struct error **err)
{
	CLEANUP_FREE char *path = xasprintf(GUEST_VOLUMES "/%lld", (long long)number);
	CLEANUP_CLOSE int src = path_open_dir(path, err), mfd = -1;

	if (src < 0)
		return -1;
	mfd = mnt_clone(src, false, err);
	if (mfd < 0 || (o->attrs && mnt_set_attrs(mfd, o->attrs, false, err)))
		return -1;
	return mnt_attach(mfd, rootfd, target, false, err);
}

static int mount_asked(int rootfd, struct json_object *m, struct error **err)
{
	CLEANUP(mnt_opts_free) struct mnt_opts o = {0};
	const char *type = json_str(m, "type", "bind"), *source = json_str(m, "source", type),
		   *target;

	if (json_need_str(m, "destination", &target, err))
		return -1;
	mnt_opts_parse(json_arr(m, "options"), &o);
	if (!strcmp(type, "virtiofs"))
		return mount_share(rootfd, source, target, &o, err);
	if (o.bind || !strcmp(type, "bind")) {
		if (mount_bind(rootfd, source, target, &o, err))
			return error_wrap(err, "bind %s", source);
		return 0;
	}
	if (!strcmp(type, "volume"))
		return mount_volume(rootfd, json_int(m, "volume", -1), target, &o, err);
	if (!strcmp(type, "tmpfs"))
		o.attrs |= MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	return mount_new(rootfd, type, source, target, &o, err);
}

int crootfs_setup(int rootfd, struct json_object *boot, struct error **err)
{
	struct json_object *mounts = json_arr(boot, "mounts");
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;

	if (n > GUEST_MAX_MOUNTS)
		return error_set(err, ERR_INVALID_ARGUMENT, "too many mounts");
	if (mount_defaults(rootfd, boot, err) ||
	    (json_flag(boot, "privileged", false) && fill_privileged(rootfd, err)) ||
	    mount_shm(rootfd, json_int(boot, "shmSize", SHM_DEFAULT), err))
		return -1;
	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);

		if (mount_asked(rootfd, m, err))
			return error_wrap(err, "mount %s", json_str(m, "destination", "?"));
	}
	return sockets_mount(rootfd, boot, err);
}

int crootfs_bind_console(int rootfd, int slave_fd, struct error **err)
{
	CLEANUP_CLOSE int mfd = mnt_clone(slave_fd, false, err);

	if (mfd < 0)
		return error_wrap(err, "console");
	return mnt_attach(mfd, rootfd, "/dev/console", true, err);
}

static bool sysctl_key_ok(const char *key)
{
	const char *p;

	for (p = key; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/",
			    *p))
			return false;
	return p > key && !strstr(key, "..") && *key != '/';
}

/* Written through the agent's /proc; which namespace's value it is follows from who writes. */
int crootfs_sysctls(struct json_object *boot, struct error **err)
{
	struct json_object *all = json_obj(boot, "sysctls");
	struct json_object_iterator it, end;
	CLEANUP_CLOSE int dir = -1;

	if (!all || !json_object_object_length(all))
		return 0;
	if (json_object_object_length(all) > MAX_SYSCTLS)
		return error_set(err, ERR_INVALID_ARGUMENT, "too many sysctls");
	dir = path_open_dir("/proc/sys", err);
	if (dir < 0)
		return -1;
	end = json_object_iter_end(all);
	for (it = json_object_iter_begin(all); !json_object_iter_equal(&it, &end);
	     json_object_iter_next(&it)) {
		const char *key = json_object_iter_peek_name(&it),
			   *value = json_str(all, key, NULL);
		CLEANUP_FREE char *path = xstrdup(key);
		CLEANUP_CLOSE int fd = -1;
		char *p;

		if (!value || !sysctl_key_ok(key))
			return error_set(err, ERR_INVALID_ARGUMENT, "bad sysctl \"%s\"", key);
		for (p = path; *p; p++)
			if (*p == '.')
				*p = '/';
		fd = path_open_beneath(dir, path, O_WRONLY, 0, err);
		if (fd < 0 || fd_write_full(fd, value, strlen(value), err))
			return error_wrap(err, "sysctl %s", key);
	}
	return 0;
}

static int mask_path(int rootfd, const char *path, struct error **err)
{
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_CLOSE int at = path_open_inroot(rootfd, path, O_PATH, 0, &e), src = -1, mfd = -1;
	struct mnt_opts o = {.attrs = MOUNT_ATTR_RDONLY | SECURE};
	struct stat st;

	if (at < 0)
		return e->sys == ENOENT || e->sys == ENOTDIR ? 0 : error_move(err, STEAL(e));
	if (fstat(at, &st))
		return error_sys(err, errno, "stat %s", path);
	if (S_ISDIR(st.st_mode)) {
		mfd = mnt_fs("tmpfs", "tmpfs", &o, err);
	} else {
		src = path_open_inroot(rootfd, "/dev/null", O_PATH, 0, err);
		mfd = src < 0 ? -1 : mnt_clone(src, false, err);
	}
	if (mfd < 0)
		return -1;
	if (move_mount(mfd, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		return error_sys(err, errno, "mask %s", path);
	return 0;
}

static int readonly_path(int rootfd, const char *path, struct error **err)
{
	CLEANUP_ERROR struct error *e = NULL;
	CLEANUP_CLOSE int at = path_open_inroot(rootfd, path, O_PATH, 0, &e), mfd = -1;

	if (at < 0)
		return e->sys == ENOENT || e->sys == ENOTDIR ? 0 : error_move(err, STEAL(e));
	mfd = mnt_clone(at, true, err);
	if (mfd < 0 || mnt_set_attrs(mfd, MOUNT_ATTR_RDONLY, true, err))
		return error_wrap(err, "%s", path);
	if (move_mount(mfd, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		return error_sys(err, errno, "mount %s read-only", path);
	return 0;
}

/* Calls fn for each path of boot[key], or of the defaults when it is absent. */
static int each_path(int rootfd, struct json_object *boot, const char *key, const char *const *dflt,
		     size_t ndflt, int (*fn)(int, const char *, struct error **),
		     struct error **err)
{
	struct json_object *arr = json_arr(boot, key);
	size_t i, n = arr ? json_object_array_length(arr) : ndflt;

	if (n > MAX_PATHS)
		return error_set(err, ERR_INVALID_ARGUMENT, "too many %s", key);
	for (i = 0; i < n; i++) {
		struct json_object *v = arr ? json_object_array_get_idx(arr, i) : NULL;
		const char *path = dflt && !arr ? dflt[i] : json_object_get_string(v);

		if (!path || *path != '/' || (arr && !json_object_is_type(v, json_type_string)))
			return error_set(err, ERR_INVALID_ARGUMENT, "%s: not an absolute path",
					 key);
		if (fn(rootfd, path, err))
			return -1;
	}
	return 0;
}

int crootfs_restrict(int rootfd, struct json_object *boot, struct error **err)
{
	if (each_path(rootfd, boot, "readonlyPaths", hidden_readonly, ARRAY_SIZE(hidden_readonly),
		      readonly_path, err))
		return -1;
	return each_path(rootfd, boot, "maskedPaths", hidden_masked, ARRAY_SIZE(hidden_masked),
			 mask_path, err);
}

/* The new root goes where the old one was; the old one, put on top of it, is let go with all below. */
int crootfs_pivot(int rootfd, bool readonly, struct error **err)
{
	CLEANUP_CLOSE int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (old < 0 || fchdir(rootfd))
		return error_sys(err, errno, "enter the root");
	if (syscall(SYS_pivot_root, ".", "."))
		return error_sys(err, errno, "pivot_root");
	if (fchdir(old) || umount2(".", MNT_DETACH) || chdir("/"))
		return error_sys(err, errno, "leave the old root");
	if (readonly) {
		struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};

		if (mount_setattr(AT_FDCWD, "/", 0, &a, sizeof(a)))
			return error_sys(err, errno, "make the root read-only");
	}
	return 0;
}
