/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.c - the groups of cgroup.h: where they can be, what goes into their files, and their end. */
#include "cmd/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>

#include "core/log.h"
#include "core/path.h"
#include "core/str.h"

#define MAX_MOUNTS (4u << 20)
#define MAX_FILE   4096u
#define PERIOD_US  100000u

static const char *const controllers[] = {"cpu", "memory", "pids"};

/* ---- where ---- */

/* The word'th of a line, from 0; NULL when there are fewer. Owned by the caller. */
static char *word_of(const char *line, unsigned word)
{
	while (word--) {
		line += strcspn(line, " \n");
		if (*line != ' ')
			return NULL;
		line++;
	}
	return xstrndup(line, strcspn(line, " \n"));
}

/* Where cgroup v2 is mounted. */
static char *find_mount(struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	char *line, *save = NULL;

	if (path_read_all(AT_FDCWD, "/proc/self/mountinfo", MAX_MOUNTS, &b, err))
		return NULL;
	for (line = b.len ? strtok_r(b.data, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save))
		if (strstr(line, " - cgroup2 "))
			return word_of(line, 4);
	error_set(err, ERR_UNSUPPORTED, "no cgroup v2 is mounted");
	return NULL;
}

/* Our own group, as the hierarchy calls it. */
static char *own_group(struct error **err)
{
	CLEANUP_BUF struct buf b = {0};
	const char *p;

	if (path_read_all(AT_FDCWD, "/proc/self/cgroup", MAX_MOUNTS, &b, err))
		return NULL;
	for (p = b.data; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (!strncmp(p, "0::/", 4))
			return xstrndup(p + 3, strcspn(p + 3, "\n"));
	error_set(err, ERR_UNSUPPORTED, "this process is in no cgroup of v2");
	return NULL;
}

/* Opens the directory in which container.<tag> is. */
static int open_parent(struct error **err)
{
	CLEANUP_FREE char *top = find_mount(err), *own = NULL;
	CLEANUP_CLOSE int fd = -1;

	if (!top)
		return -1;
	if (geteuid()) {
		own = own_group(err);
		if (!own)
			return -1;
		*strrchr(own, '/') = 0;
		top = xasprintf("%s%s", STEAL(top), own);
	}
	fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "open %s", top);
	return steal_fd(&fd);
}

/* ---- files ---- */

static int put(int dir, const char *file, const char *text)
{
	CLEANUP_CLOSE int fd = openat(dir, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

/* Hands the controllers on to the groups below dir; true when one was. */
static bool pass_on(int dir)
{
	CLEANUP_BUF struct buf have = {0};
	bool any = false;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(controllers); i++) {
		CLEANUP_FREE char *text = xasprintf("+%s", controllers[i]);

		(void)put(dir, "cgroup.subtree_control", text);
	}
	if (path_read_all(dir, "cgroup.subtree_control", MAX_FILE, &have, NULL) || !have.len)
		return false;
	for (i = 0; i < ARRAY_SIZE(controllers); i++)
		any |= strstr(have.data, controllers[i]) != NULL;
	return any;
}

static int open_group(int dir, const char *name, struct error **err)
{
	CLEANUP_CLOSE int fd = -1;
	struct statfs fs;

	if (mkdirat(dir, name, 0755) && errno != EEXIST)
		return error_sys(err, errno, "make cgroup %s", name);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstatfs(fd, &fs))
		return error_sys(err, errno, "open cgroup %s", name);
	if (fs.f_type != CGROUP2_SUPER_MAGIC)
		return error_set(err, ERR_UNSUPPORTED, "%s is no cgroup", name);
	return steal_fd(&fd);
}

static void limit(int group, const char *file, const char *value)
{
	if (put(group, file, value))
		log_info("cgroup: %s: %s", file, strerror(errno));
}

static void limit_cpus(int group, unsigned cpus)
{
	char text[64];

	snprintf(text, sizeof(text), "%llu %u", (unsigned long long)cpus * PERIOD_US, PERIOD_US);
	limit(group, "cpu.max", text);
}

static void set_limits(int group, const struct cgroup_limits *l)
{
	char text[64];

	limit_cpus(group, l->cpus);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)l->memory);
	limit(group, "memory.max", text);
	/* A machine that lost a part of itself is worth nothing. */
	limit(group, "memory.oom.group", "1");
	snprintf(text, sizeof(text), "%u", l->tasks);
	limit(group, "pids.max", text);
}

int cgroup_make(const char *tag, const char *id, const struct cgroup_limits *l, struct error **err)
{
	CLEANUP_FREE char *ours = xasprintf("container.%s", tag);
	CLEANUP_CLOSE int parent = open_parent(err);
	CLEANUP_CLOSE int system = -1;
	CLEANUP_CLOSE int group = -1;

	if (parent < 0)
		return -1;
	if (!pass_on(parent))
		return error_set(err, ERR_UNSUPPORTED, "no controllers of cgroup v2 for us");
	system = open_group(parent, ours, err);
	if (system < 0)
		return -1;
	(void)pass_on(system);
	group = open_group(system, id, err);
	if (group < 0)
		return -1;
	set_limits(group, l);
	return steal_fd(&group);
}

void cgroup_cpus(const char *tag, const char *id, unsigned cpus)
{
	CLEANUP_FREE char *name = xasprintf("container.%s/%s", tag, id);
	CLEANUP_CLOSE int parent = open_parent(NULL);
	CLEANUP_CLOSE int group = -1;

	if (parent >= 0)
		group = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (group >= 0)
		limit_cpus(group, cpus);
}

/* ---- the end ---- */

static void kill_all(int system, const char *id)
{
	CLEANUP_CLOSE int group =
		openat(system, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (group >= 0)
		(void)put(group, "cgroup.kill", "1"); /* Linux 5.14 */
}

bool cgroup_sweep(const char *tag, const char *id)
{
	CLEANUP_FREE char *ours = xasprintf("container.%s", tag);
	CLEANUP_CLOSE int parent = open_parent(NULL);
	struct dirent *de;
	int system;
	bool gone;
	DIR *d;

	system = parent < 0 ? -1
			    : openat(parent, ours, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (system < 0)
		return true;
	if (id)
		kill_all(system, id);
	d = fdopendir(system);
	if (!d) {
		close(system);
		return false;
	}
	/* One that somebody is in cannot be removed. */
	while ((de = readdir(d)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.')
			(void)unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR);
	gone = !id || (faccessat(dirfd(d), id, F_OK, 0) && errno == ENOENT);
	closedir(d);
	(void)unlinkat(parent, ours, AT_REMOVEDIR);
	return gone;
}
