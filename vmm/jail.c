/* SPDX-License-Identifier: Apache-2.0 */
/* jail.c - the stages of jail.h, each a function. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "core/log.h"
#include "core/path.h"
#include "core/proc.h"
#include "core/str.h"
#include "vmm/jail.h"

#define LAST_CAP 63

/* ---- descriptors ---- */

static bool is_allowed(const int *allowed, size_t n, int fd)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (allowed[i] == fd)
			return true;
	return false;
}

/* Calls fn for each open descriptor; its result is added up. Needs /proc. -1: there is none. */
static int each_fd(bool (*fn)(int fd, void *arg), void *arg)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *de;
	int count = 0;
	uint64_t fd;

	if (!d)
		return -1;
	while ((de = readdir(d)))
		if (!parse_u64(de->d_name, &fd) && (int)fd != dirfd(d))
			count += fn((int)fd, arg);
	closedir(d);
	return count;
}

struct allowed {
	const int *fd;
	size_t n;
};

static bool close_foreign(int fd, void *arg)
{
	struct allowed *a = arg;

	if (is_allowed(a->fd, a->n, fd))
		return false;
	close(fd);
	return true;
}

unsigned jail_audit(const int *allowed, size_t n)
{
	struct allowed a = {allowed, n};
	int max = 2, found = each_fd(close_foreign, &a);
	size_t i;

	/* Without /proc: above the highest that may be there, nothing is. */
	for (i = 0; i < n; i++)
		max = MAX(max, allowed[i]);
	if (syscall(SYS_close_range, (unsigned)max + 1, ~0u, 0) && found < 0)
		log_warn("jail: inherited descriptors could not be looked at");
	return found > 0 ? (unsigned)found : 0;
}

static bool is_dir(int fd, void *arg)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISDIR(st.st_mode))
		return false;
	*(int *)arg = fd;
	return true;
}

static int check_no_dirs(struct error **err)
{
	int fd = -1, n = each_fd(is_dir, &fd);

	if (n > 0)
		return error_set(err, ERR_INTERNAL,
				 "jail: %d directories are still open (descriptor %d)", n, fd);
	if (n < 0)
		log_warn("jail: open descriptors could not be looked at: %s", strerror(errno));
	return 0;
}

/* ---- before the child ---- */

static bool limit(int what, const char *name, rlim_t max)
{
	struct rlimit now, to;

	if (!getrlimit(what, &now)) {
		to.rlim_cur = to.rlim_max = MIN(max, now.rlim_max);
		if (!setrlimit(what, &to))
			return true;
	}
	log_warn("jail: limit on %s: %s", name, strerror(errno));
	return false;
}

/* A user namespace maps us to ourselves, so that our peers' ids stay what they are. */
static bool map_self(uid_t uid, gid_t gid)
{
	CLEANUP_FREE char *u = xasprintf("%u %u 1\n", uid, uid);
	CLEANUP_FREE char *g = xasprintf("%u %u 1\n", gid, gid);
	const char *const file[] = {"/proc/self/setgroups", "/proc/self/gid_map",
				    "/proc/self/uid_map"};
	const char *const text[] = {"deny", g, u};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(file); i++) {
		CLEANUP_CLOSE int fd = open(file[i], O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, text[i], strlen(text[i])) < 0)
			return false;
	}
	return true;
}

/* jail_enter() and an executed child each make a mount namespace for themselves, later. One to leave again would not be for nothing:
 * its end waits for all CPUs (RCU), which on a busy host takes longer than everything else here. */
static bool own_namespaces(bool mounts)
{
	int flags = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | (mounts ? CLONE_NEWNS : 0);
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (!unshare(flags))
		return true;
	/* Not root: a user namespace gives the right to it, where the host allows those. */
	if (errno == EPERM && uid && !unshare(flags | CLONE_NEWUSER)) {
		if (map_self(uid, gid))
			return true;
		log_warn("jail: map user %u: %s", uid, strerror(errno));
		return true;
	}
	log_warn("jail: no namespaces of its own: %s", strerror(errno));
	return false;
}

uid_t jail_uid(void)
{
	uid_t uid = JAIL_UID_BASE + (uid_t)getpid();
	CLEANUP_BUF struct buf b = {0};
	unsigned long in, out, n;
	char *line, *save = NULL;

	if (geteuid() || path_read_all(AT_FDCWD, "/proc/self/uid_map", 65536, &b, NULL))
		return 0;
	for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (sscanf(line, "%lu %lu %lu", &in, &out, &n) == 3 && uid >= in && uid - in < n)
			return uid;
	return 0;
}

/* Every one is tried, whatever became of the others. */
static bool limit_all(uid_t uid, rlim_t descriptors)
{
	bool core = limit(RLIMIT_CORE, "core files", 0);
	bool files = limit(RLIMIT_NOFILE, "descriptors", descriptors);
	bool threads = !uid || limit(RLIMIT_NPROC, "threads", JAIL_NPROC);

	return core && files && threads;
}

static int prepare(uid_t uid, rlim_t descriptors, bool mounts)
{
	int done = 0;

	/* One arena: more would cost threads system calls that their filters need not have. */
	mallopt(M_ARENA_MAX, 1);
	if (limit_all(uid, descriptors))
		done |= JAIL_LIMITS;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		log_warn("jail: no_new_privs: %s", strerror(errno));
	else
		done |= JAIL_NO_NEW_PRIVS;
	if (own_namespaces(mounts))
		done |= JAIL_NAMESPACES;
	return done;
}

int jail_prepare(uid_t uid)
{
	return prepare(uid, JAIL_NOFILE, false);
}

/* ---- rights ---- */

static bool caps_only(uint64_t keep)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {{.effective = (uint32_t)keep,
					       .permitted = (uint32_t)keep},
					      {.effective = (uint32_t)(keep >> 32),
					       .permitted = (uint32_t)(keep >> 32)}};

	return !syscall(SYS_capset, &h, d);
}

/* Refused without CAP_SETPCAP, and then there is nothing that could come back. */
static void caps_bound(void)
{
	int cap;

	for (cap = 0; cap <= LAST_CAP; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

/* System calls only. */
static int jail_drop(uid_t uid)
{
	caps_bound();
	/* The bare calls: the C library's would look for other threads, which a forked child does not have. */
	if (uid && (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, uid, uid, uid) ||
		    syscall(SYS_setresuid, uid, uid, uid)))
		return -1;
	return caps_only(0) ? 0 : -1;
}

/* ---- roots ---- */

#define CUT_OFF (OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)

/* A tmpfs at place becomes the current directory; own: in a mount namespace that is made for it. NULL, or what failed. */
static const char *new_root(const char *place, const char *options, bool own)
{
	if (own && unshare(CLONE_NEWNS))
		return "unshare";
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "make mounts private";
	if (mount("jail", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options))
		return "mount";
	return chdir(place) ? "chdir" : NULL;
}

/*
 * The current directory becomes the root; the old tree is let go of. The initial ramfs of a machine that never left it cannot be
 * pivoted away from: there the new root is moved on top of it.
 */
static const char *swap_root(bool *hidden)
{
	*hidden = false;
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", MNT_DETACH) || chdir("/") ? "detach" : NULL;
	*hidden = true;
	if (mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return "pivot_root";
	return NULL;
}

/* In the new root, the working directory: /proc/self/fd and no more of /proc. From there ".." leads to empty directories. */
static const char *place_fds(int fds)
{
	if (mkdir("proc", 0555) || mkdir("proc/self", 0555) || mkdir("proc/self/fd", 0555))
		return "make /proc/self/fd";
	if (move_mount(fds, "", AT_FDCWD, "proc/self/fd", MOVE_MOUNT_F_EMPTY_PATH))
		return "mount /proc/self/fd";
	return NULL;
}

/* An empty tmpfs becomes the root. fds: what is to be /proc/self/fd there, in a mount namespace that is there already; -1: nothing. */
static const char *empty_root(const char *place, int fds)
{
	const char *failed = new_root(place,
				      fds < 0 ? "size=4k,nr_inodes=1,mode=0555"
					      : "size=16k,nr_inodes=4,mode=0555",
				      fds < 0);
	bool hidden;

	if (!failed && fds >= 0)
		failed = place_fds(fds);
	if (failed)
		return failed;
	if (mount(NULL, ".", NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return "make read-only";
	failed = swap_root(&hidden);
	if (!failed && hidden)
		log_warn("jail: the old root is hidden, not gone (initial ramfs)");
	return failed;
}

/* ---- what an executed child keeps of the host's files ---- */

#define TREE_OPTIONS "size=64k,nr_inodes=128,mode=0555"

static bool in_tree(const struct jail_tree *t, const char *path)
{
	size_t i;

	for (i = 0; i < t->n; i++) {
		size_t len = strlen(t->v[i].path);

		if (!strncmp(path, t->v[i].path, len) && (path[len] == '/' || !path[len]))
			return true;
	}
	return false;
}

void jail_tree_add(struct jail_tree *t, const char *path)
{
	struct jail_path p = {0};
	char link[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) || strlen(path) >= PATH_MAX || in_tree(t, path))
		return;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, link, sizeof(link) - 1);
		if (n < 0)
			return;
		p.link = xstrndup(link, (size_t)n);
	} else if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		return;
	}
	p.path = xstrdup(path);
	p.dir = S_ISDIR(st.st_mode);
	t->v = xreallocarray(t->v, t->n + 1, sizeof(*t->v));
	t->v[t->n++] = p;
}

void jail_tree_free(struct jail_tree *t)
{
	while (t->n) {
		free(t->v[--t->n].path);
		free(t->v[t->n].link);
	}
	free(t->v);
	t->v = NULL;
}

/* The directories above path, below the current one. */
static int make_parents(const char *path)
{
	char part[PATH_MAX];
	size_t i;

	for (i = 1; path[i]; i++) {
		if (path[i] != '/')
			continue;
		memcpy(part, path + 1, i - 1);
		part[i - 1] = 0;
		if (mkdir(part, 0555) && errno != EEXIST)
			return -1;
	}
	return 0;
}

static int place_path(const struct jail_path *p)
{
	const char *at = p->path + 1;

	if (make_parents(p->path))
		return -1;
	if (p->link)
		return symlink(p->link, at);
	if (p->dir ? mkdir(at, 0555) : mknod(at, S_IFREG | 0444, 0))
		return -1;
	return mount(p->path, at, NULL, MS_BIND | MS_REC, NULL);
}

/* Of /proc nothing but what it is itself: its descriptors have their names there. */
static const char *fill_root(const struct jail_tree *t)
{
	struct mount_attr ro = {.attr_set =
					MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	size_t i;

	for (i = 0; i < t->n; i++)
		if (place_path(&t->v[i]))
			return t->v[i].path;
	if (mkdir("proc", 0555) || mkdir("proc/self", 0555) ||
	    mount("/proc/self", "proc/self", NULL, MS_BIND | MS_REC, NULL))
		return "/proc/self";
	/* All of it at once, and for good: who has no rights cannot undo it. */
	return mount_setattr(AT_FDCWD, ".", AT_RECURSIVE, &ro, sizeof(ro)) ? "read-only" : NULL;
}

/*
 * The file behind fd once more, through a mount of its own that is read-only for all times to come. By its name, as mounts from before
 * the namespace cannot be cloned in it.
 */
static const char *seal(int fd)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	char link[32], path[PATH_MAX];
	struct stat before, after;
	int tree, file = -1;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0 || fstat(fd, &before))
		return "its name";
	path[n] = 0;
	tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", tree);
	if (tree >= 0 && !mount_setattr(tree, "", AT_EMPTY_PATH, &ro, sizeof(ro)))
		file = open(link, O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &after) || after.st_dev != before.st_dev ||
	    after.st_ino != before.st_ino || dup2(file, fd) < 0)
		return "mount";
	close(file);
	close(tree);
	return NULL;
}

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return; /* nobody listens */
}

static void complain(const char *what, const char *failed)
{
	say(what);
	say(failed);
	say("\n");
}

int jail_child(uid_t uid, const struct jail_tree *t)
{
	const char *failed = new_root(t->place, TREE_OPTIONS, true);
	mode_t mask = umask(0); /* its directories are for uid too */
	const char *refused;
	bool hidden;

	if (!failed && t->sealed) {
		refused = seal(t->sealed);
		if (refused)
			complain("jail: a file can be opened for writing: ", refused);
	}
	if (!failed)
		failed = fill_root(t);
	umask(mask);
	if (!failed)
		failed = swap_root(&hidden);
	if (failed) {
		complain("jail: no file tree of its own: ", failed);
		if (chdir("/"))
			return -1;
	}
	return jail_drop(uid);
}

/* ---- after the child ---- */

static int drop_all(uid_t uid)
{
	if (!jail_drop(uid))
		return JAIL_CAPABILITIES | (uid ? JAIL_UID : 0);
	log_warn("jail: user id %u: %s", uid, strerror(errno));
	if (!uid || jail_drop(0))
		return 0;
	return JAIL_CAPABILITIES;
}

static int hide(void)
{
	if (!prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return JAIL_NOT_DUMPABLE;
	log_warn("jail: not dumpable: %s", strerror(errno));
	return 0;
}

int jail_enter(uid_t uid, const char *place, struct error **err)
{
	const char *failed;
	int done = 0;

	if (check_no_dirs(err))
		return -1;
	failed = empty_root(place, -1);
	if (failed)
		log_warn("jail: no empty root: %s: %s", failed, strerror(errno));
	else
		done |= JAIL_ROOT;
	done |= drop_all(uid);
	done |= hide();
	if (!uid && !(done & JAIL_UID))
		log_info("jail: user id stays %u", geteuid());
	return done;
}

/* ---- a server of files ---- */

int jail_files_prepare(void)
{
	return prepare(0, RLIM_INFINITY, true);
}

int jail_share(const char *path, bool readonly, struct error **err)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID |
					   (readonly ? MOUNT_ATTR_RDONLY : 0)};
	CLEANUP_CLOSE int fd = -1;

	/* Private first: what is mounted on the host later is no business of the copy, nor the other way round. */
	if (!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		fd = open_tree(AT_FDCWD, path, CUT_OFF);
	if (fd >= 0 && mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a)) < 0)
		return error_sys(err, errno, "share %s", path);
	if (fd >= 0)
		return steal_fd(&fd);
	log_warn("jail: %s is not cut off from what is around it: %s", path, strerror(errno));
	fd = open(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? error_sys(err, errno, "share %s", path) : steal_fd(&fd);
}

int jail_files_enter(const char *place)
{
	CLEANUP_CLOSE int fds = open_tree(AT_FDCWD, "/proc/self/fd", CUT_OFF);
	const char *failed = fds < 0 ? "clone /proc/self/fd" : empty_root(place, fds);

	if (!failed)
		return JAIL_ROOT;
	log_warn("jail: no empty root: %s: %s", failed, strerror(errno));
	return 0;
}

int jail_files_drop(uint64_t keep)
{
	int done = hide();

	(void)umount2("/proc/self/fd", MNT_DETACH);
	caps_bound();
	if (caps_only(keep))
		done |= JAIL_CAPABILITIES;
	else
		log_warn("jail: capabilities: %s", strerror(errno));
	return done;
}
