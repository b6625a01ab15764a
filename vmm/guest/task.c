/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.c - tasks of the agent with the container's files: tar streams of them, in and out.
 *
 * Runs in a child whose root is the container's, with what is mounted in there or (export, and any task while the
 * container is stopped) as it is on the disk; nothing of the container's is executed. The container may change
 * paths while they are walked: they are opened in-root and without magic links, so that nothing leads to a
 * descriptor of the agent's that /proc shows, and anything else they lead to is the container's own.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>

#include "core/archive.h"
#include "core/changes.h"
#include "vmm/guest/guest.h"

#define TASK_FOLLOW 0x100u /* besides ARCHIVE_*: what the path leads to */

static const char *arg(const struct spec *s, size_t i)
{
	struct json_object *v = json_object_array_get_idx(s->args, i);

	return v ? json_object_get_string(v) : NULL;
}

bool task_inside(const struct spec *s)
{
	return str_eq(arg(s, 0), "put") || str_eq(arg(s, 0), "get");
}

bool task_freezes(const struct spec *s)
{
	return s->builtin && str_eq(arg(s, 0), "layer") && str_eq(arg(s, 1), "freeze");
}

/* The path's directory is followed wherever it leads in the container; the last name is taken as it is, but for what
 * stands behind a slash, and with `follow`. "/." at the end means the contents of the directory. */
static int task_put(int rootfd, const char *path, bool follow, unsigned flags, struct error **err)
{
	size_t n = strlen(path), at;
	CLEANUP_FREE char *dir = NULL, *leaf = NULL;
	CLEANUP_CLOSE int fd = -1;
	bool slash = n > 1 && path[n - 1] == '/';
	int rc;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (at = n; at > 0 && path[at - 1] != '/'; at--)
		;
	leaf = xstrndup(path + at, n - at);
	dir = xstrndup(path, at);
	if (*path != '/' || !*leaf || !strcmp(leaf, ".."))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "%s: an absolute path with a name expected", path);
	if (slash || follow) {
		fd = path_open_inroot(rootfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
		rc = fd < 0 ? -1 : archive_put_open(STDOUT_FILENO, fd, leaf, flags, err);
	} else {
		fd = path_open_inroot(rootfd, dir, O_RDONLY | O_DIRECTORY, 0, err);
		rc = fd < 0 ? -1 : archive_put(STDOUT_FILENO, fd, leaf, leaf, flags, err);
	}
	return rc ? -1 : archive_finish(STDOUT_FILENO, err);
}

static int task_export(int rootfd, struct error **err)
{
	if (archive_put(STDOUT_FILENO, rootfd, ".", "", ARCHIVE_OWNER, err))
		return -1;
	return archive_finish(STDOUT_FILENO, err);
}

/* What came is on the disk when a machine that serves nothing but files says so. */
static int task_get(int rootfd, const char *path, unsigned flags, struct error **err)
{
	if (archive_extract(STDIN_FILENO, rootfd, path, path_open_inroot, flags, err))
		return -1;
	if (proc_no_init && syncfs(rootfd))
		return error_sys(err, errno, "sync");
	return 0;
}

static const struct {
	const char *word;
	unsigned flag;
} how[] = {
	{"owner", ARCHIVE_OWNER},
	{"as-is", ARCHIVE_AS_IS},
	{"sparse", ARCHIVE_SPARSE},
	{"follow", TASK_FOLLOW},
};

/* The words behind a task's path. */
static int task_flags(const struct spec *s, unsigned *flags, struct error **err)
{
	const char *word;
	size_t i, k;

	*flags = 0;
	for (i = 2; (word = arg(s, i)); i++) {
		for (k = 0; k < ARRAY_SIZE(how) && strcmp(how[k].word, word); k++)
			;
		if (k == ARRAY_SIZE(how))
			return error_set(err, ERR_UNSUPPORTED,
					 "the guest knows no task's \"%.32s\"", word);
		*flags |= how[k].flag;
	}
	return 0;
}

static int task_run(const struct spec *s, struct error **err)
{
	CLEANUP_CLOSE int rootfd = path_open_dir("/", err);
	const char *verb = arg(s, 0), *path = arg(s, 1);
	unsigned flags;

	if (!strcmp(verb, "changes"))
		return changes_list(STDOUT_FILENO, TASK_CHANGES, TASK_IMAGE, err);
	if (!strcmp(verb, "layer"))
		return changes_layer(STDOUT_FILENO, TASK_CHANGES, TASK_IMAGE, err);
	if (rootfd < 0 || task_flags(s, &flags, err))
		return -1;
	if (!strcmp(verb, "export"))
		return task_export(rootfd, err);
	if (path && !strcmp(verb, "put"))
		return task_put(rootfd, path, flags & TASK_FOLLOW, flags & ~TASK_FOLLOW, err);
	if (path && !strcmp(verb, "get"))
		return task_get(rootfd, path, flags & ~TASK_FOLLOW, err);
	return error_set(err, ERR_UNSUPPORTED, "the guest knows no task %.32s", verb);
}

void task_main(const struct spec *s, const int stdio[3], const int layers[2])
{
	CLEANUP_ERROR struct error *e = NULL;
	int i;

	setsid();
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < 3; i++)
		if (stdio[i] < 0 || dup2(stdio[i], i) < 0)
			_exit(1);
	if ((layers[0] >= 0 && dup2(layers[0], TASK_CHANGES) < 0) ||
	    (layers[1] >= 0 && dup2(layers[1], TASK_IMAGE) < 0))
		_exit(1);
	/* The agent's descriptors, which an exec would close. */
	close_range(layers[0] >= 0 ? TASK_IMAGE + 1 : TASK_CHANGES, ~0u, 0);
	umask(0);
	if (task_run(s, &e)) {
		CLEANUP_FREE char *text = error_text(e);

		dprintf(STDERR_FILENO, "%s", text);
		_exit(1);
	}
	_exit(0);
}
