/* SPDX-License-Identifier: Apache-2.0 */
/* cli_container.c - list, inspect, stop, restart, kill, delete. */
#include <stdio.h>
#include "cmd/cli.h"
#include "cmd/cli_config.h"
#include "cmd/cli_list.h"
#include "cmd/table.h"
#include "cmd/template.h"

#define GROUP "CONTAINER SUBCOMMANDS"

/* ---- list ---- */

static const struct opt opt_list_containers[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Show stopped containers as well", 0},
	{"filter", 'f', OPT_LIST, "filter", NULL,
	 "Only those that fit: id=, name=, status=, label=, ancestor=, exited=, health=, network=, "
	 "volume=, before= or since= and a value",
	 0},
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.ID}} {{.Image}}'",
	 OPT_TEMPLATE},
	{"last", 'n', OPT_VALUE, "n", NULL, "Only the n that were created last, in any state", 0},
	{"latest", 'l', OPT_FLAG, NULL, NULL, "Only the one that was created last, in any state",
	 0},
	{"no-trunc", 0, OPT_FLAG, NULL, NULL, "Nothing is ever cut short; for scripts", 0},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Print only the ids", 0},
	{"size", 's', OPT_FLAG, NULL, NULL, "Show what each takes on the disk", 0},
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
	if (strcmp(list_health(o), "none"))
		table_cellf(t, "%s (%s)", json_str(status, "state", "unknown"), list_health(o));
	else
		table_cell(t, json_str(status, "state", "unknown"));
	table_cell(t, ip.data);
	table_cellf(t, "%lld", (long long)json_int(res, "cpus", 0));
	table_cellf(t, "%lld MB", (long long)(json_int(res, "memoryInBytes", 0) >> 20));
	table_cell(t, json_str(status, "startedDate", ""));
}

static bool runs(struct json_object *o)
{
	const char *state = json_str(json_obj(o, "status"), "state", "");

	return strcmp(state, "stopped") != 0;
}

/* What the options leave of all containers; oldest first. */
static int list_choose(const struct opt_args *a, struct json_object *list, int64_t last,
		       struct error **err)
{
	size_t n, i;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);
	bool all = opt_has(a, "all") || last >= 0 || list_filters_status(filters);

	if (list_cut(list, filters, err))
		return -1;
	for (i = json_object_array_length(list); i-- > 0;) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if ((!all && !runs(o)) || !list_matches(o, filters))
			json_object_array_del_idx(list, i, 1);
	}
	n = json_object_array_length(list);
	if (last >= 0 && n > (size_t)last)
		json_object_array_del_idx(list, 0, n - (size_t)last);
	return 0;
}

static void list_table(const struct opt_args *a, struct json_object *list)
{
	static const char *const titles[] = {"ID",   "IMAGE",  "OS",      "ARCH", "STATE", "IP",
					     "CPUS", "MEMORY", "STARTED", "SIZE", NULL};
	const char *shown[ARRAY_SIZE(titles)];
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	bool size = opt_has(a, "size");

	memcpy(shown, titles, sizeof(titles));
	if (!size)
		shown[ARRAY_SIZE(titles) - 2] = NULL;
	table_init(&t, shown);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		CLEANUP_FREE char *bytes = list_size(o);

		list_row(&t, o);
		if (size)
			table_cell(&t, bytes);
	}
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
}

static int run_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	const char *format = opt_str(a, "format", NULL), *text = opt_str(a, "last", NULL);
	CLEANUP_JSON struct json_object *list = NULL;
	struct json_object *params;
	int64_t last = opt_has(a, "latest") ? 1 : -1;
	size_t n;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);

	if (text && (parse_i64(text, &last) || last < 0))
		return cli_usage(c, "The value '%s' is invalid for '-n <n>'", text);
	if (list_filters_check(filters, err))
		return -1;
	params = json_object_new_object();
	json_set_bool(params, "all", n || last >= 0 || opt_has(a, "all"));
	/* Of 1 000 containers it is a megabyte otherwise, and a table shows little of it. */
	json_set_bool(params, "brief",
		      format_parse(format) == FORMAT_TABLE && !template_is(format) &&
			      !list_filters_config(filters));
	if (opt_has(a, "size") || (format && strstr(format, ".Size")))
		json_set_bool(params, "size", true);
	if (cli_containers(c, "container.list", params, &list, err) ||
	    list_choose(a, list, last, err))
		return -1;
	if (template_is(format))
		return template_list(format, list, list_field, err);
	if (format_parse(format) != FORMAT_TABLE) {
		format_print(format_parse(format), list);
	} else if (!opt_has(a, "quiet")) {
		list_table(a, list);
	} else {
		for (size_t i = 0; i < json_object_array_length(list); i++)
			cli_out(json_str(json_object_array_get_idx(list, i), "id", ""));
	}
	return 0;
}

const struct opt_cmd cmd_list = {
	.name = "list",
	.aliases = "ls|ps",
	.summary = "List containers",
	.group = GROUP,
	.opts = list_opts,
	.notes = "Filters with the same key are alternatives, labels must all be there. Fields of "
		 "a template: ID, Names, Image, Command, CreatedAt, RunningFor, StartedAt, State, "
		 "Status, "
		 "Health, ExitCode, Labels, Label \"<key>\", Ports, Mounts, Networks, IP, OS, "
		 "Arch, CPUs, Memory, "
		 "Size; {{json .}} is the whole object. A template that begins with 'table ' gives "
		 "a header.",
	.run = run_list,
};

/* ---- inspect ---- */

static int run_inspect(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *list = NULL;
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_STRV struct strv ids = {0};
	struct json_object *params, *arr;
	struct error *e = NULL;

	if (cli_ids(c, a, "container", NULL, &ids, err))
		return -1;
	params = json_object_new_object();
	arr = json_object_new_array();
	for (size_t i = 0; i < ids.n; i++)
		json_add_str(arr, ids.v[i]);
	json_set(params, "ids", arr);
	if (cli_containers(c, "container.get", params, &list, &e)) {
		if (e && e->code == ERR_NOT_FOUND && e->msg &&
		    !strstr(e->msg, "container not found"))
			error_wrap(&e, "container not found");
		return error_move(err, e);
	}
	format_json(&b, list, true);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_inspect = {
	.name = "inspect",
	.summary = "Display information about one or more containers",
	.group = GROUP,
	.pos = pos_some_ids,
	.run = run_inspect,
};

/* ---- stop, restart, kill, delete ---- */

static const struct opt opt_stop_all[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Stop all containers", 0},
	{0},
};
static const struct opt opt_restart_all[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Restart all running containers", 0},
	{0},
};
static const struct opt opt_stop[] = {
	{"signal", 's', OPT_VALUE, "signal", NULL,
	 "First signal to send; the container's stop signal when not given", 0},
	{"time", 't', OPT_VALUE, "seconds", NULL,
	 "Seconds to wait before killing; the container's stop timeout when not given", 0},
	{0},
};
static const struct opt *const stop_opts[] = {opt_stop_all, opt_stop, NULL};
static const struct opt *const restart_opts[] = {opt_restart_all, opt_stop, NULL};

static int stop_each(struct cli *c, const struct opt_args *a, const char *method, const char *state,
		     struct error **err)
{
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
	return cli_each(c, a, method, state, extra, err);
}

static int run_stop(struct cli *c, const struct opt_args *a, struct error **err)
{
	return stop_each(c, a, "container.stop", NULL, err);
}

const struct opt_cmd cmd_stop = {
	.name = "stop",
	.summary = "Stop one or more running containers",
	.group = GROUP,
	.opts = stop_opts,
	.pos = pos_ids,
	.run = run_stop,
};

static int run_restart(struct cli *c, const struct opt_args *a, struct error **err)
{
	return stop_each(c, a, "container.restart", "running", err);
}

const struct opt_cmd cmd_restart = {
	.name = "restart",
	.summary = "Restart one or more containers",
	.group = GROUP,
	.opts = restart_opts,
	.pos = pos_ids,
	.notes = "A container that is stopped is started. One that was run with --rm is not "
		 "deleted in between.",
	.run = run_restart,
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
	.pos = pos_ids,
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
	CLEANUP_JSON struct json_object *extra = json_object_new_object();
	bool force = opt_has(a, "force");

	json_set_bool(extra, "force", force);
	return cli_each(c, a, "container.delete", force ? NULL : "stopped", extra, err);
}

const struct opt_cmd cmd_delete = {
	.name = "delete",
	.aliases = "rm",
	.summary = "Delete one or more containers",
	.group = GROUP,
	.opts = delete_opts,
	.pos = pos_ids,
	.run = run_delete,
};
