/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_copy.c - copy and export: files in and out of a running container as a tar stream.
 *
 * The other end is a task of the guest's agent inside the container; its streams are pipes made here, as with exec.
 * What comes out of a container is extracted by rules that keep it below its destination (core/archive.h).
 */
#include <fcntl.h>
#include <stdio.h>
#include "cmd/cli.h"
#include "core/archive.h"
#include "core/path.h"

#define GROUP       "CONTAINER SUBCOMMANDS"
#define SAID_MAX    4096
#define KILL_SIGNAL 9

/* ---- a task in a container ---- */

struct task {
	const char *id;
	char *process;
	int data, said; /* our ends */
};

static void task_close(struct task *t)
{
	base_close_fd(&t->data);
	base_close_fd(&t->said);
	free(t->process);
}

static struct json_object *task_params(const char *id, const char *verb, const char *path,
				       const char *stream)
{
	struct json_object *p = json_object_new_object(), *process = json_object_new_object();
	struct json_object *args = json_object_new_array(), *streams = json_object_new_array();

	json_add_str(args, verb);
	if (path)
		json_add_str(args, path);
	json_set(process, "args", args);
	json_set_bool(process, "builtin", true);
	json_add_str(streams, stream);
	json_add_str(streams, "stderr");
	json_set_str(p, "id", id);
	json_set(p, "process", process);
	json_set(p, "streams", streams);
	return p;
}

/* input: we write. */
static int task_start(struct cli *c, struct task *t, const char *verb, const char *path, bool input,
		      struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	int data[2], said[2], fds[2], rc;

	if (cli_connect(c, err))
		return -1;
	if (pipe2(data, O_CLOEXEC))
		return error_sys(err, errno, "pipe");
	if (pipe2(said, O_CLOEXEC)) {
		close(data[0]);
		close(data[1]);
		return error_sys(err, errno, "pipe");
	}
	fds[0] = data[input ? 0 : 1];
	fds[1] = said[1];
	t->data = data[input ? 1 : 0];
	t->said = said[0];
	rc = rpc_call(c->conn, "container.exec",
		      task_params(t->id, verb, path, input ? "stdin" : "stdout"), fds, 2, NULL,
		      NULL, -1, &reply, NULL, NULL, err);
	close(fds[0]);
	close(fds[1]);
	if (!rc)
		t->process = xstrdup(json_str(reply, "process", ""));
	return rc;
}

static struct json_object *process_params(const struct task *t)
{
	struct json_object *p = json_object_new_object();

	json_set_str(p, "id", t->id);
	json_set_str(p, "process", t->process);
	return p;
}

/* The end of the task; e (taken) is what went wrong on our side, which may be due to what went wrong on its side. */
static int task_end(struct cli *c, struct task *t, struct error *e, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_FREE char *text = xcalloc(1, SAID_MAX + 1);
	size_t n = 0;
	ssize_t r;

	base_close_fd(&t->data);
	t->data = -1;
	if (e && e->sys != EPIPE) {
		struct json_object *p = process_params(t);

		json_set_int(p, "signal", KILL_SIGNAL);
		cli_call(c, "container.kill", p, NULL, NULL);
	}
	while (n < SAID_MAX && (r = RETRY_EINTR(read(t->said, text + n, SAID_MAX - n))) > 0)
		n += (size_t)r;
	if (cli_call(c, "container.wait", process_params(t), &reply, e ? NULL : err)) {
		return e ? error_move(err, e) : -1;
	}
	if (n && (!e || e->sys == EPIPE || e->code == ERR_EMPTY)) {
		error_free(e);
		return error_set(err, ERR_INVALID_ARGUMENT, "%s: %s", t->id, text);
	}
	if (e)
		return error_move(err, e);
	if (json_int(reply, "exitCode", 255))
		return error_set(err, ERR_INTERRUPTED, "%s: the copying was cut off", t->id);
	return 0;
}

/* ---- where from, where to ---- */

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

/* A container that runs: its full id, owned by the caller. */
static char *running_id(struct cli *c, const char *name, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *one;
	const char *state;

	if (cli_get(c, name, &reply, &one, err))
		return NULL;
	state = json_str(json_obj(one, "status"), "state", "unknown");
	if (!strcmp(state, "running"))
		return xstrdup(json_str(one, "id", name));
	error_set(
		err, ERR_INVALID_STATE,
		"container %s is %s; files of a container that does not run are not supported yet",
		json_str(one, "id", name), state);
	return NULL;
}

static int open_here(int dirfd, const char *path, int flags, mode_t mode, struct error **err)
{
	int fd = openat(dirfd, path, flags | O_CLOEXEC, mode);

	return fd < 0 ? error_sys(err, errno, "open %s", path) : fd;
}

/* Bytes as they are, from one descriptor to the other. */
static int pass(int from, int to, struct error **err)
{
	char chunk[65536];
	ssize_t n;

	while ((n = RETRY_EINTR(read(from, chunk, sizeof(chunk)))) > 0)
		if (fd_write_full(to, chunk, (size_t)n, err))
			return -1;
	return n < 0 ? error_sys(err, errno, "read") : 0;
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

static int copy_in(struct cli *c, struct task *t, const char *from, const char *to, bool owner,
		   struct error **err)
{
	bool raw = !strcmp(from, "-");
	CLEANUP_FREE char *name = raw ? NULL : name_of(from, err), *bare = NULL;
	CLEANUP_FREE char *verb = xasprintf("get%s%s", raw ? "-as-is" : "", owner ? "-owner" : "");
	struct error *e = NULL;
	struct stat st;
	size_t n = strlen(from);

	if (!raw && !name)
		return -1;
	if (!raw && lstat(from, &st))
		return error_sys(err, errno, "%s", from);
	while (n > 1 && from[n - 1] == '/')
		n--;
	bare = xstrndup(from, n);
	if (task_start(c, t, verb, to, true, err))
		return -1;
	if (raw)
		pass(STDIN_FILENO, t->data, &e);
	else if (!archive_put(t->data, AT_FDCWD, bare, name, 0, &e))
		archive_finish(t->data, &e);
	return task_end(c, t, e, err);
}

static int copy_out(struct cli *c, struct task *t, const char *from, const char *to, bool owner,
		    struct error **err)
{
	struct error *e = NULL;

	if (task_start(c, t, "put", from, false, err))
		return -1;
	if (!strcmp(to, "-"))
		pass(t->data, STDOUT_FILENO, &e);
	else
		archive_extract(t->data, AT_FDCWD, to, open_here, owner ? ARCHIVE_OWNER : 0, &e);
	return task_end(c, t, e, err);
}

static const struct opt opt_copy[] = {
	{"archive", 'a', OPT_FLAG, NULL, NULL,
	 "Keep owners and set-id bits; files belong to root inside and to you outside otherwise",
	 0},
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
	bool owner = opt_has(a, "archive");
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
	id = running_id(c, from_id ? from_id : to_id, err);
	if (!id)
		return -1;
	t.id = id;
	rc = from_id ? copy_out(c, &t, from.path, to.path, owner, err)
		     : copy_in(c, &t, from.path, to.path, owner, err);
	if (!rc && strcmp(a->pos[1], "-"))
		cli_out(a->pos[1]);
	return rc;
}

const struct opt_cmd cmd_copy = {
	.name = "copy",
	.aliases = "cp",
	.summary = "Copy files between a running container and the host",
	.group = GROUP,
	.opts = copy_opts,
	.pos = copy_pos,
	.notes = "Into a directory that exists things go under the name they have; any other "
		 "destination is the new name, and with a slash at its end a directory to be made "
		 "of "
		 "a directory. Links are copied as links. With - a tar stream is extracted in, or "
		 "is what comes of, the path in the container.",
	.run = run_copy,
};

/* ---- export ---- */

static const struct opt opt_export[] = {
	{"output", 'o', OPT_VALUE, "file", NULL,
	 "Write to this file; standard output when not given", 0},
	{0},
};
static const struct opt *const export_opts[] = {opt_export, NULL};
static const struct opt_pos export_pos[] = {{"container-id", POS_ONE, "Container id"}, {0}};

static int run_export(struct cli *c, const struct opt_args *a, struct error **err)
{
	const char *path = opt_str(a, "output", NULL);
	CLEANUP(task_close) struct task t = {.data = -1, .said = -1};
	CLEANUP_FREE char *id = NULL, *tmp = NULL;
	CLEANUP_CLOSE int file = -1;
	struct error *e = NULL;

	if (!path && isatty(STDOUT_FILENO))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "a tar stream is not written to a terminal; use --output");
	id = running_id(c, a->pos[0], err);
	if (!id)
		return -1;
	t.id = id;
	if (path) {
		tmp = xasprintf("%s.part", path);
		file = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (file < 0)
			return error_sys(err, errno, "open %s", tmp);
	}
	if (task_start(c, &t, "export", NULL, false, err) == 0) {
		pass(t.data, path ? file : STDOUT_FILENO, &e);
		if (!task_end(c, &t, e, err)) {
			if (path && rename(tmp, path))
				return error_sys(err, errno, "rename %s", tmp);
			return 0;
		}
	}
	if (path)
		unlink(tmp);
	return -1;
}

const struct opt_cmd cmd_export = {
	.name = "export",
	.summary = "Export the file system of a running container as a tar archive",
	.group = GROUP,
	.opts = export_opts,
	.pos = export_pos,
	.notes = "What is mounted in the container is not part of it.",
	.run = run_export,
};
