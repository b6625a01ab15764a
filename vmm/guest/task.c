/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.c - tasks of the agent inside the container: tar streams of its files, in and out.
 *
 * Runs in a child that has entered the container's mounts and is about to exec otherwise. The container may change
 * paths while they are walked: they are opened in-root and without magic links, so that nothing leads to a
 * descriptor of the agent's that /proc shows, and anything else they lead to is the container's own.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>

#include "core/archive.h"
#include "vmm/guest/guest.h"

#define WORD_MAX 32

static const char *arg(const struct spec *s, size_t i)
{
	struct json_object *v = json_object_array_get_idx(s->args, i);

	return v ? json_object_get_string(v) : NULL;
}

/* The path's directory is followed wherever it leads in the container; the last name is taken as it is. */
static int task_put(int rootfd, const char *path, struct error **err)
{
	size_t n = strlen(path), at;
	CLEANUP_FREE char *dir = NULL, *leaf = NULL;
	CLEANUP_CLOSE int fd = -1;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (at = n; at > 0 && path[at - 1] != '/'; at--)
		;
	leaf = xstrndup(path + at, n - at);
	dir = xstrndup(path, at);
	if (*path != '/' || !*leaf || !strcmp(leaf, ".") || !strcmp(leaf, ".."))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "%s: an absolute path with a name expected", path);
	fd = path_open_inroot(rootfd, dir, O_RDONLY | O_DIRECTORY, 0, err);
	if (fd < 0 || archive_put(STDOUT_FILENO, fd, leaf, leaf, 0, err))
		return -1;
	return archive_finish(STDOUT_FILENO, err);
}

static int task_export(int rootfd, struct error **err)
{
	if (archive_put(STDOUT_FILENO, rootfd, ".", "", ARCHIVE_ONE_FS, err))
		return -1;
	return archive_finish(STDOUT_FILENO, err);
}

static int task_run(const struct spec *s, struct error **err)
{
	CLEANUP_CLOSE int rootfd = path_open_dir("/", err);
	const char *word = arg(s, 0), *path = arg(s, 1);
	CLEANUP_FREE char *verb = xstrndup(word, MIN(strlen(word), (size_t)WORD_MAX));
	unsigned flags = 0;

	if (rootfd < 0)
		return -1;
	if (str_suffix(verb, "-owner")) {
		verb[strlen(verb) - 6] = 0;
		flags |= ARCHIVE_OWNER;
	}
	if (str_suffix(verb, "-as-is")) {
		verb[strlen(verb) - 6] = 0;
		flags |= ARCHIVE_AS_IS;
	}
	if (!strcmp(verb, "export"))
		return task_export(rootfd, err);
	if (path && !strcmp(verb, "put"))
		return task_put(rootfd, path, err);
	if (path && !strcmp(verb, "get"))
		return archive_extract(STDIN_FILENO, rootfd, path, path_open_inroot, flags, err);
	return error_set(err, ERR_UNSUPPORTED, "the guest knows no task %s", verb);
}

void task_main(const struct spec *s, const int stdio[3])
{
	CLEANUP_ERROR struct error *e = NULL;
	int i;

	setsid();
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < 3; i++)
		if (stdio[i] < 0 || dup2(stdio[i], i) < 0)
			_exit(1);
	/* The agent's descriptors, which an exec would close. */
	close_range(3, ~0u, 0);
	umask(0);
	if (task_run(s, &e)) {
		CLEANUP_FREE char *text = error_text(e);

		dprintf(STDERR_FILENO, "%s", text);
		_exit(1);
	}
	_exit(0);
}
