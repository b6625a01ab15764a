/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_commit.c - diff and commit: what a container changed of its image, and an image made of that.
 *
 * Both are tasks of the guest's agent, which has the overlay's directories; the host never reads the container's disk. The layer is
 * spooled here before the image helper gets it, so that one that was cut off is never taken for a whole one.
 */
#include <fcntl.h>
#include <stdio.h>
#include "cmd/cli_task.h"
#include "cmd/commit_config.h"
#include "cmd/progress.h"
#include "cmd/table.h"
#include "core/path.h"

#define GROUP    "CONTAINER SUBCOMMANDS"
#define LIST_MAX (256u << 20) /* bytes of names */

/* ---- diff ---- */

static const struct opt opt_diff[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES, "Format of the output", 0},
	{0},
};
static const struct opt *const diff_opts[] = {opt_diff, NULL};

static int read_changes(struct cli *c, const char *id, struct buf *out, struct error **err)
{
	static const char *const words[] = {"changes", NULL};
	CLEANUP(task_close) struct task t = {.id = id, .data = -1, .said = -1};
	struct error *e = NULL;
	char chunk[65536];
	ssize_t n = 0;

	if (task_start(c, &t, words, false, err))
		return -1;
	while (out->len < LIST_MAX && (n = RETRY_EINTR(read(t.data, chunk, sizeof(chunk)))) > 0)
		buf_append(out, chunk, (size_t)n);
	if (n < 0)
		error_sys(&e, errno, "read");
	else if (out->len >= LIST_MAX)
		error_set(&e, ERR_UNSUPPORTED, "container %s changed too much to be listed", id);
	return task_end(c, &t, e, err);
}

static int run_diff(struct cli *c, const struct opt_args *a, struct error **err)
{
	enum format f = format_parse(opt_str(a, "format", NULL));
	CLEANUP_JSON struct json_object *list = json_object_new_array();
	CLEANUP_FREE char *id = cli_full_id(c, a->pos[0], err);
	CLEANUP_BUF struct buf b = {0};
	const char *p;

	if (!id || read_changes(c, id, &b, err))
		return -1;
	/* The guest made it: a letter, a path, a NUL, as often as there is a whole one. */
	for (p = b.data; p && p < b.data + b.len && memchr(p, 0, (size_t)(b.data + b.len - p));
	     p += strlen(p) + 1) {
		CLEANUP_FREE char *path = NULL;
		char kind[2] = {p[0], 0};
		struct json_object *o;

		if (!strchr("ACD", p[0]) || p[1] != '/')
			return error_set(err, ERR_INTERNAL, "the guest's list of changes is none");
		path = utf8_text(p + 1, strlen(p + 1));
		if (f == FORMAT_TABLE) {
			CLEANUP_FREE char *line = xasprintf("%s %s", kind, path);

			cli_out(line);
			continue;
		}
		o = json_object_new_object();
		json_set_str(o, "kind", kind);
		json_set_str(o, "path", path);
		json_object_array_add(list, o);
	}
	if (f != FORMAT_TABLE)
		format_print(f, list);
	return 0;
}

const struct opt_cmd cmd_diff = {
	.name = "diff",
	.summary = "List what a container changed of its image's files",
	.group = GROUP,
	.opts = diff_opts,
	.pos = pos_id,
	.notes = "A line for each path: A for one that was added, C for one that was changed, D "
		 "for one that was deleted. A "
		 "directory is changed when something in it is. What every container has of its "
		 "own, such as "
		 "/etc/hosts, and what is mounted in it are not listed.",
	.run = run_diff,
};

/* ---- commit ---- */

static const struct opt opt_commit[] = {
	{"author", 'a', OPT_VALUE, "author", NULL,
	 "Who made it, such as 'Jane Doe <jane@example.com>'", 0},
	{"change", 'c', OPT_LIST, "instruction", NULL,
	 "Change the image's configuration by an instruction as in a Dockerfile, such as 'CMD "
	 "[\"sh\"]'",
	 0},
	{"message", 'm', OPT_VALUE, "text", NULL, "A comment for the image's history", 0},
	{"no-pause", 0, OPT_FLAG, NULL, NULL,
	 "Let a running container go on meanwhile; files that it writes may be half-written in the "
	 "image",
	 0},
	{"progress", 0, OPT_VALUE, "type", PROGRESS_CHOICES, "How to show progress", 0},
	{0},
};
static const struct opt *const commit_opts[] = {opt_commit, NULL};
static const struct opt_pos commit_pos[] = {
	{"container-id", POS_ONE, "Container id"},
	{"reference", POS_OPTIONAL, "Name of the image; without one it is found by its digest"},
	{0},
};

/* A file without a name, next to the data of the system. */
static int spool_open(struct cli *c, struct error **err)
{
	CLEANUP_JSON struct json_object *ping = NULL;
	CLEANUP_CLOSE int dir = -1;
	const char *root;
	int fd;

	if (cli_call(c, "ping", NULL, &ping, err) || json_need_str(ping, "appRoot", &root, err))
		return -1;
	dir = path_open_dir(root, err);
	fd = dir < 0 ? -1 : path_unnamed(dir, err);
	return fd < 0 ? error_wrap(err, "in %s", root) : fd;
}

static int take_layer(struct cli *c, const char *id, bool freeze, int to, struct error **err)
{
	const char *words[] = {"layer", freeze ? "freeze" : NULL, NULL};
	CLEANUP(task_close) struct task t = {.id = id, .data = -1, .said = -1};
	struct error *e = NULL;

	if (task_start(c, &t, words, false, err))
		return -1;
	task_pass(t.data, to, &e);
	if (task_end(c, &t, e, err))
		return -1;
	return lseek(to, 0, SEEK_SET) < 0 ? error_sys(err, errno, "rewind the layer") : 0;
}

static int new_config(struct cli *c, const struct opt_args *a, struct json_object *container,
		      struct json_object *params, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *ask = json_object_new_object(), *base, *config;
	size_t n;
	CLEANUP_FREE const char **changes = opt_list(a, "change", &n);

	json_set_str(ask, "manifest", json_str(json_obj(container, "image"), "manifest", ""));
	if (cli_call(c, "image.config", ask, &reply, err) ||
	    json_need_obj(reply, "config", &base, err))
		return -1;
	config = commit_config(base, container);
	json_set(params, "config", config);
	for (size_t i = 0; i < n; i++)
		if (commit_change(config, changes[i], err))
			return -1;
	return 0;
}

static struct json_object *commit_params(const struct opt_args *a, const char *id,
					 struct json_object *container)
{
	struct json_object *p = json_object_new_object();

	json_set_str(p, "container", id);
	json_set_str(p, "manifest", json_str(json_obj(container, "image"), "manifest", ""));
	json_set_str(p, "reference", a->npos > 1 ? a->pos[1] : NULL);
	json_set_str(p, "author", opt_str(a, "author", NULL));
	json_set_str(p, "message", opt_str(a, "message", NULL));
	json_set_str(p, "createdBy",
		     json_str(json_obj(container, "initProcess"), "executable", NULL));
	return p;
}

static int run_commit(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *found = NULL, *params = NULL, *reply = NULL;
	struct json_object *one, *container;
	CLEANUP_CLOSE int spool = -1;
	struct progress p;
	const char *id;
	bool runs;
	int rc;

	if (cli_get(c, a->pos[0], &found, &one, err))
		return -1;
	id = json_str(one, "id", a->pos[0]);
	container = json_obj(one, "configuration");
	runs = strcmp(json_str(json_obj(one, "status"), "state", ""), "stopped") != 0;
	params = commit_params(a, id, container);
	if (new_config(c, a, container, params, err))
		return -1;
	spool = spool_open(c, err);
	if (spool < 0 || take_layer(c, id, runs && !opt_has(a, "no-pause"), spool, err))
		return -1;
	progress_init(&p, opt_str(a, "progress", "auto"));
	rc = rpc_call(c->conn, "image.commit", STEAL(params), &spool, 1, progress_event, &p, -1,
		      &reply, NULL, NULL, err);
	progress_end(&p);
	if (rc)
		return -1;
	cli_out(json_str(json_obj(json_obj(json_obj(reply, "image"), "configuration"),
				  "descriptor"),
			 "digest", ""));
	return 0;
}

const struct opt_cmd cmd_commit = {
	.name = "commit",
	.summary = "Make an image of what a container changed",
	.group = GROUP,
	.opts = commit_opts,
	.pos = commit_pos,
	.notes = "The image is that of the container and one more layer with what diff lists. What "
		 "containers of it run, in "
		 "which environment and as whom, is as with this container, but for --change, "
		 "which may be given more "
		 "than once: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, "
		 "STOPSIGNAL, USER, VOLUME "
		 "and WORKDIR. A running container stands still meanwhile. Prints the image's "
		 "digest.",
	.run = run_commit,
};
