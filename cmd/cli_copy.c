/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_copy.c - copy and export: files in and out of a container as a tar stream, whether it runs or not.
 *
 * The other end is a task of the guest's agent inside the container; its streams are pipes made here, as with exec.
 * What comes out of a container is extracted by rules that keep it below its destination (core/archive.h).
 */
#include <fcntl.h>
#include <stdio.h>
#include "cmd/cli_task.h"
#include "cmd/output.h"
#include "core/archive.h"
#include "core/path.h"

#define GROUP "CONTAINER SUBCOMMANDS"

/* ---- where from, where to ---- */

struct how {
	bool archive, follow;
};

struct place {
	char *id; /* NULL: here */
	const char *path;
};

static int place_parse(const char *text, struct place *p, struct error **err)
{
	const char *colon = strchr(text, ':');

	*p = (struct place){.path = text};
	if (!colon || colon == text || memchr(text, '/', (size_t)(colon - text)))
		return 0;
	if (colon[1] != '/')
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "'%s': the path in a container must be absolute", text);
	p->id = xstrndup(text, (size_t)(colon - text));
	p->path = colon + 1;
	return 0;
}

static int open_here(int dirfd, const char *path, int flags, mode_t mode, struct error **err)
{
	int fd = openat(dirfd, path, flags | O_CLOEXEC, mode);

	return fd < 0 ? error_sys(err, errno, "open %s", path) : fd;
}

/* The name a path has when it arrives elsewhere. */
static char *name_of(const char *path, struct error **err)
{
	CLEANUP_FREE char *real = NULL;
	size_t n = strlen(path), at;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (at = n; at > 0 && path[at - 1] != '/'; at--)
		;
	if (n > at && strncmp(path + at, ".", n - at) && strncmp(path + at, "..", n - at))
		return xstrndup(path + at, n - at);
	real = realpath(path, NULL);
	if (!real) {
		error_sys(err, errno, "%s", path);
		return NULL;
	}
	return xstrdup(strcmp(real, "/") ? strrchr(real, '/') + 1 : "root");
}

/* What of it, by how its name ends: "/." is what is in it, a slash what it leads to. */
static int put_here(int out, const char *from, bool follow, unsigned flags, struct error **err)
{
	CLEANUP_FREE char *name = name_of(from, err);
	bool contents = !strcmp(from, ".") || str_suffix(from, "/.");
	CLEANUP_CLOSE int fd = -1;

	if (!name)
		return -1;
	if (!follow && !contents && !str_suffix(from, "/"))
		return archive_put(out, AT_FDCWD, from, name, flags, err);
	fd = open_here(AT_FDCWD, from, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
	return fd < 0 ? -1 : archive_put_open(out, fd, contents ? "." : name, flags, err);
}

static int copy_in(struct cli *c, struct task *t, const char *from, const char *to,
		   const struct how *how, struct error **err)
{
	bool raw = !strcmp(from, "-");
	const char *words[6] = {"get", to};
	struct error *e = NULL;
	struct stat st;
	size_t n = 2;

	if (!raw && (how->follow ? stat(from, &st) : lstat(from, &st)))
		return error_sys(err, errno, "%s", from);
	if (raw)
		words[n++] = "as-is";
	if (how->archive)
		words[n++] = "owner";
	if (task_start(c, t, words, true, err))
		return -1;
	if (raw)
		task_pass(STDIN_FILENO, t->data, &e);
	else if (!put_here(t->data, from, how->follow,
			   ARCHIVE_SPARSE | (how->archive ? ARCHIVE_OWNER : 0), &e))
		archive_finish(t->data, &e);
	return task_end(c, t, e, err);
}

static int copy_out(struct cli *c, struct task *t, const char *from, const char *to,
		    const struct how *how, struct error **err)
{
	bool raw = !strcmp(to, "-");
	const char *words[6] = {"put", from};
	struct error *e = NULL;
	size_t n = 2;

	if (raw || how->archive)
		words[n++] = "owner";
	if (!raw)
		words[n++] = "sparse";
	if (how->follow)
		words[n++] = "follow";
	if (task_start(c, t, words, false, err))
		return -1;
	if (raw)
		task_pass(t->data, STDOUT_FILENO, &e);
	else
		archive_extract(t->data, AT_FDCWD, to, open_here, how->archive ? ARCHIVE_OWNER : 0,
				&e);
	return task_end(c, t, e, err);
}

static const struct opt opt_copy[] = {
	{"archive", 'a', OPT_FLAG, NULL, NULL,
	 "Keep owners, set-id bits and attributes; files belong to root inside and to you outside "
	 "otherwise",
	 0},
	{"follow-link", 'L', OPT_FLAG, NULL, NULL,
	 "Copy what the source leads to when it is a link, not the link", 0},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Do not print the destination", 0},
	{0},
};
static const struct opt *const copy_opts[] = {opt_copy, NULL};
static const struct opt_pos copy_pos[] = {
	{"source", POS_ONE, "Path, container-id:/path, or - for a tar stream on standard input"},
	{"destination", POS_ONE,
	 "Path, container-id:/path, or - for a tar stream on standard output"},
	{0},
};

static int run_copy(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct place from, to = {0};
	CLEANUP(task_close) struct task t = {.data = -1, .said = -1};
	CLEANUP_FREE char *from_id = NULL, *to_id = NULL, *id = NULL;
	struct how how = {.archive = opt_has(a, "archive"), .follow = opt_has(a, "follow-link")};
	int rc;

	rc = place_parse(a->pos[0], &from, err) || place_parse(a->pos[1], &to, err);
	from_id = from.id;
	to_id = to.id;
	if (rc)
		return -1;
	if (!from_id == !to_id)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "exactly one of source and destination must be in a container: "
				 "container-id:/path");
	id = cli_full_id(c, from_id ? from_id : to_id, err);
	if (!id)
		return -1;
	t.id = id;
	rc = from_id ? copy_out(c, &t, from.path, to.path, &how, err)
		     : copy_in(c, &t, from.path, to.path, &how, err);
	if (!rc && strcmp(a->pos[1], "-") && !opt_has(a, "quiet"))
		cli_out(a->pos[1]);
	return rc;
}

const struct opt_cmd cmd_copy = {
	.name = "copy",
	.aliases = "cp",
	.summary = "Copy files between a container and the host",
	.group = GROUP,
	.opts = copy_opts,
	.pos = copy_pos,
	.notes = "Into a directory that exists things go under the name they have; any other "
		 "destination is the new name, and with a slash at its end a directory to be made "
		 "of "
		 "a directory. Behind a source that is a directory, /. means all that is in it. "
		 "Links are "
		 "copied as links, and none that is in the way is followed where it would lead "
		 "out. With "
		 "- a tar stream is extracted in, or is what comes of, the path in the container.",
	.run = run_copy,
};

/* ---- export ---- */

static const struct opt opt_export[] = {
	{"output", 'o', OPT_VALUE, "file", NULL,
	 "Write to this file; standard output when not given", 0},
	{0},
};
static const struct opt *const export_opts[] = {opt_export, NULL};

static int run_export(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP(task_close) struct task t = {.data = -1, .said = -1};
	CLEANUP(output_close) struct output out = {.fd = -1};
	static const char *const words[] = {"export", NULL};
	CLEANUP_FREE char *id = NULL;
	struct error *e = NULL;

	id = cli_full_id(c, a->pos[0], err);
	if (!id || output_open(&out, opt_str(a, "output", NULL), err))
		return -1;
	t.id = id;
	if (task_start(c, &t, words, false, err))
		return -1;
	task_pass(t.data, out.fd, &e);
	return task_end(c, &t, e, err) ? -1 : output_commit(&out, err);
}

const struct opt_cmd cmd_export = {
	.name = "export",
	.summary = "Export the file system of a container as a tar archive",
	.group = GROUP,
	.opts = export_opts,
	.pos = pos_id,
	.notes = "What is mounted in the container is not part of it.",
	.run = run_export,
};
