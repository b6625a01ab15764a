/* SPDX-License-Identifier: Apache-2.0 */
/* cli_container.c - list, inspect, logs, stop, kill, delete. */
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include "cmd/cli.h"
#include "cmd/cli_config.h"
#include "cmd/cli_list.h"
#include "cmd/table.h"
#include "cmd/template.h"
#include "core/path.h"

#define GROUP "CONTAINER SUBCOMMANDS"

static const struct opt_pos ids_pos[] = {{"container-ids", POS_MANY, "Container ids"}, {0}};

/* ---- list ---- */

static const struct opt opt_list_containers[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Show stopped containers as well", 0},
	{"filter", 'f', OPT_LIST, "filter", NULL,
	 "Only those that fit: id=, name=, status=, label= or ancestor= and a value", 0},
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.ID}} {{.Image}}'",
	 OPT_TEMPLATE},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Print only the ids", 0},
	{0},
};
static const struct opt *const list_opts[] = {opt_list_containers, NULL};

static void list_row(struct table *t, struct json_object *o)
{
	struct json_object *config = json_obj(o, "configuration"), *status = json_obj(o, "status");
	struct json_object *platform = json_obj(config, "platform"),
			   *nets = json_arr(status, "networks");
	struct json_object *res = json_obj(config, "resources");
	CLEANUP_BUF struct buf ip = {0};

	for (size_t i = 0; nets && i < json_object_array_length(nets); i++) {
		const char *a = json_str(json_object_array_get_idx(nets, i), "ipv4Address", NULL);

		if (a)
			buf_printf(&ip, "%s%s", ip.len ? "," : "", a);
	}
	table_cell(t, json_str(o, "id", ""));
	table_cell(t, json_str(json_obj(config, "image"), "reference", ""));
	table_cell(t, json_str(platform, "os", ""));
	table_cell(t, json_str(platform, "architecture", ""));
	table_cell(t, json_str(status, "state", "unknown"));
	table_cell(t, ip.data);
	table_cellf(t, "%lld", (long long)json_int(res, "cpus", 0));
	table_cellf(t, "%lld MB", (long long)(json_int(res, "memoryInBytes", 0) >> 20));
	table_cell(t, json_str(status, "startedDate", ""));
}

static int run_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"ID", "IMAGE", "OS",     "ARCH",    "STATE",
					     "IP", "CPUS",  "MEMORY", "STARTED", NULL};
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *params = json_object_new_object(), *list;
	size_t n;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);
	enum format f = format_parse(opt_str(a, "format", NULL));

	if (list_filters_check(filters, err)) {
		json_object_put(params);
		return -1;
	}
	json_set_bool(params, "all", opt_has(a, "all") || list_filters_status(filters));
	if (cli_call(c, "container.list", params, &reply, err) ||
	    json_need_arr(reply, "containers", &list, err))
		return -1;
	for (size_t i = json_object_array_length(list); i-- > 0;)
		if (!list_matches(json_object_array_get_idx(list, i), filters))
			json_object_array_del_idx(list, i, 1);
	if (template_is(opt_str(a, "format", NULL)))
		return template_list(opt_str(a, "format", NULL), list, list_field, err);
	if (f != FORMAT_TABLE) {
		format_print(f, list);
		return 0;
	}
	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (opt_has(a, "quiet"))
			cli_out(json_str(o, "id", ""));
		else
			list_row(&t, o);
	}
	if (opt_has(a, "quiet"))
		return 0;
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_list = {
	.name = "list",
	.aliases = "ls|ps",
	.summary = "List containers",
	.group = GROUP,
	.opts = list_opts,
	.notes = "Filters with the same key are alternatives, labels must all be there. Fields of "
		 "a template: ID, Names, Image, Command, CreatedAt, StartedAt, State, Status, "
		 "ExitCode, Labels, Ports, Networks, IP, OS, Arch, CPUs, Memory; {{json .}} is the "
		 "whole object. A template that begins with 'table ' gives a header.",
	.run = run_list,
};

/* ---- inspect ---- */

static const struct opt_pos inspect_pos[] = {{"container-ids", POS_SOME, "Container ids"}, {0}};

static int run_inspect(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_STRV struct strv ids = {0};
	struct json_object *params, *list, *arr;
	struct error *e = NULL;

	if (cli_ids(c, a, "container", NULL, &ids, err))
		return -1;
	params = json_object_new_object();
	arr = json_object_new_array();
	for (size_t i = 0; i < ids.n; i++)
		json_add_str(arr, ids.v[i]);
	json_set(params, "ids", arr);
	if (cli_call(c, "container.get", params, &reply, &e)) {
		if (e && e->code == ERR_NOT_FOUND && e->msg &&
		    !strstr(e->msg, "container not found"))
			error_wrap(&e, "container not found");
		return error_move(err, e);
	}
	if (json_need_arr(reply, "containers", &list, err))
		return -1;
	format_json(&b, list, true);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_inspect = {
	.name = "inspect",
	.summary = "Display information about one or more containers",
	.group = GROUP,
	.pos = inspect_pos,
	.run = run_inspect,
};

/* ---- stop, kill, delete ---- */

static const struct opt opt_stop[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Stop all containers", 0},
	{"signal", 's', OPT_VALUE, "signal", NULL,
	 "First signal to send; the container's stop signal when not given", 0},
	{"time", 't', OPT_VALUE, "seconds", NULL,
	 "Seconds to wait before killing; the container's stop timeout when not given", 0},
	{0},
};
static const struct opt *const stop_opts[] = {opt_stop, NULL};

static int run_stop(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_STRV struct strv ids = {0};
	CLEANUP_JSON struct json_object *extra = json_object_new_object();
	const char *text = opt_str(a, "time", NULL);
	int64_t seconds;
	int signo;

	if (text && (parse_i64(text, &seconds) || seconds < 0 || seconds > INT32_MAX))
		return cli_usage(c, "The value '%s' is invalid for '--time <seconds>'", text);
	if (text)
		json_set_int(extra, "timeout", seconds);
	if (opt_has(a, "signal")) {
		if (signal_parse(opt_str(a, "signal", ""), &signo, err))
			return -1;
		json_set_int(extra, "signal", signo);
	}
	if (cli_ids(c, a, "container", NULL, &ids, err) ||
	    cli_call_each(c, "container.stop", (const char *const *)ids.v, ids.n, extra, err))
		return -1;
	return cli_status(c);
}

const struct opt_cmd cmd_stop = {
	.name = "stop",
	.summary = "Stop one or more running containers",
	.group = GROUP,
	.opts = stop_opts,
	.pos = ids_pos,
	.run = run_stop,
};

static const struct opt opt_kill[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Kill or signal all running containers", 0},
	{"signal", 's', OPT_VALUE, "signal", NULL, "Signal to send, KILL when not given", 0},
	{0},
};
static const struct opt *const kill_opts[] = {opt_kill, NULL};

/* A killed container may be gone, with --rm, by the time it is waited for. */
static int wait_gone(struct cli *c, const char *id, struct error **err)
{
	struct json_object *params = json_object_new_object();
	struct error *e = NULL;

	json_set_str(params, "id", id);
	if (!cli_call(c, "container.wait", params, NULL, &e))
		return 0;
	if (e && (e->code == ERR_NOT_FOUND || e->code == ERR_INVALID_STATE)) {
		error_free(e);
		return 0;
	}
	return error_move(err, e);
}

/* Its id is looked up first: when it is gone, a prefix of it may fit another one. */
static int kill_one(struct cli *c, const char *name, int signo, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *params, *one;
	const char *id;

	if (cli_get(c, name, &reply, &one, err))
		return -1;
	id = json_str(one, "id", name);
	params = json_object_new_object();
	json_set_str(params, "id", id);
	json_set_int(params, "signal", signo);
	if (cli_call(c, "container.kill", params, NULL, err))
		return -1;
	return signo == 9 ? wait_gone(c, id, err) : 0;
}

static int run_kill(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_STRV struct strv ids = {0};
	int signo;

	if (signal_parse(opt_str(a, "signal", "KILL"), &signo, err) ||
	    cli_ids(c, a, "container", "running", &ids, err) || cli_connect(c, err))
		return -1;
	for (size_t i = 0; i < ids.n; i++) {
		struct error *e = NULL;

		if (kill_one(c, ids.v[i], signo, &e))
			cli_report(c, &e);
		else
			cli_out(ids.v[i]);
	}
	return cli_status(c);
}

const struct opt_cmd cmd_kill = {
	.name = "kill",
	.summary = "Kill or signal one or more running containers",
	.group = GROUP,
	.opts = kill_opts,
	.pos = ids_pos,
	.run = run_kill,
};

static const struct opt opt_delete[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL,
	 "Delete all containers, without --force only stopped ones", 0},
	{"force", 'f', OPT_FLAG, NULL, NULL, "Delete running containers too", 0},
	{0},
};
static const struct opt *const delete_opts[] = {opt_delete, NULL};

static int run_delete(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_STRV struct strv ids = {0};
	CLEANUP_JSON struct json_object *extra = json_object_new_object();
	bool force = opt_has(a, "force");

	json_set_bool(extra, "force", force);
	if (cli_ids(c, a, "container", force ? NULL : "stopped", &ids, err) ||
	    cli_call_each(c, "container.delete", (const char *const *)ids.v, ids.n, extra, err))
		return -1;
	return cli_status(c);
}

const struct opt_cmd cmd_delete = {
	.name = "delete",
	.aliases = "rm",
	.summary = "Delete one or more containers",
	.group = GROUP,
	.opts = delete_opts,
	.pos = ids_pos,
	.run = run_delete,
};

/* ---- logs ---- */

static const struct opt opt_logs[] = {
	{"boot", 0, OPT_FLAG, NULL, NULL, "Show the boot log of the microVM instead", 0},
	{"follow", 'f', OPT_FLAG, NULL, NULL, "Keep printing what is added", 0},
	{"lines", 'n', OPT_VALUE, "n", NULL, "Only the last n lines that are not empty", 0},
	{0},
};
static const struct opt *const logs_opts[] = {opt_logs, NULL};
static const struct opt_pos logs_pos[] = {{"container-id", POS_ONE, "Container id"}, {0}};

/* The offset where the last n lines that are not empty begin; everything when n < 0. */
static int tail_offset(int fd, int64_t n, off_t *out, struct error **err)
{
	char chunk[65536];
	bool in_line = false;
	struct stat st;
	off_t pos;

	*out = 0;
	if (n < 0)
		return 0;
	if (fstat(fd, &st))
		return error_sys(err, errno, "log");
	if (n == 0)
		*out = st.st_size;
	for (pos = st.st_size; pos > 0 && n > 0;) {
		size_t len = (size_t)MIN(pos, (off_t)sizeof(chunk));

		if (fd_pread_full(fd, chunk, len, pos - (off_t)len, err))
			return -1;
		for (size_t i = len; i-- > 0; pos--) {
			if (chunk[i] == '\n' && in_line && --n == 0) {
				*out = pos;
				return 0;
			}
			in_line = chunk[i] != '\n';
		}
	}
	return 0;
}

/* Copies from *pos to the end. Raw bytes, as the process wrote them. */
static int copy_rest(int fd, off_t *pos, struct error **err)
{
	char chunk[65536];
	ssize_t n;

	while ((n = RETRY_EINTR(pread(fd, chunk, sizeof(chunk), *pos))) > 0) {
		*pos += n;
		if (fd_write_full(STDOUT_FILENO, chunk, (size_t)n, err))
			return -1;
	}
	if (n < 0)
		return error_sys(err, errno, "read the log");
	return 0;
}

/* Never ends by itself. A log is cut at each start of its container: then it is read from its beginning. */
static int follow(int fd, off_t pos, struct error **err)
{
	CLEANUP_CLOSE int watch = inotify_init1(IN_CLOEXEC);
	char link[40], events[4096];
	struct stat st;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (watch < 0 || inotify_add_watch(watch, link, IN_MODIFY) < 0)
		return error_sys(err, errno, "watch the log");
	for (;;) {
		if (!fstat(fd, &st) && st.st_size < pos)
			pos = 0;
		if (copy_rest(fd, &pos, err))
			return -1;
		if (RETRY_EINTR(read(watch, events, sizeof(events))) < 0)
			return error_sys(err, errno, "watch the log");
	}
}

static int show_log(const struct opt_args *a, int fd, int64_t lines, struct error **err)
{
	struct error *e = NULL;
	off_t pos;
	int rc;

	if (fd < 0)
		return error_set(err, ERR_INTERNAL, "the apiserver sent no log");
	rc = tail_offset(fd, lines, &pos, err);
	if (rc)
		return rc;
	rc = copy_rest(fd, &pos, &e);
	if (!rc && opt_has(a, "follow"))
		rc = follow(fd, pos, &e);
	if (e && e->sys == EPIPE) {
		error_free(e);
		return 128 + 13;
	}
	return rc ? error_move(err, e) : 0;
}

static int run_logs(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct json_object *params = json_object_new_object();
	const char *text = opt_str(a, "lines", NULL);
	int fds[2] = {-1, -1}, rc;
	int64_t lines = -1;
	size_t n = ARRAY_SIZE(fds);

	json_set_str(params, "id", a->pos[0]);
	if (text && (parse_i64(text, &lines) || lines < 0)) {
		json_object_put(params);
		return cli_usage(c, "The value '%s' is invalid for '-n <n>'", text);
	}
	if (cli_connect(c, err)) {
		json_object_put(params);
		return -1;
	}
	if (rpc_call(c->conn, "container.logs", params, NULL, 0, NULL, NULL, CLI_CONNECT_MS, NULL,
		     fds, &n, err))
		return -1;
	rc = show_log(a, fds[opt_has(a, "boot") ? 1 : 0], lines, err);
	base_close_fd(&fds[0]);
	base_close_fd(&fds[1]);
	return rc;
}

const struct opt_cmd cmd_logs = {
	.name = "logs",
	.summary = "Fetch the logs of a container",
	.group = GROUP,
	.opts = logs_opts,
	.pos = logs_pos,
	.notes = "Prints what the init process wrote to standard output and error, in the order of "
		 "arrival. What "
		 "exec started is not recorded. A container's log begins anew with each start.",
	.run = run_logs,
};
