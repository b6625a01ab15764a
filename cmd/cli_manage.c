/* SPDX-License-Identifier: Apache-2.0 */
/* cli_manage.c - wait, rename, prune, pause, unpause, port, top, attach. */
#include <stdio.h>
#include "cmd/cli_attach.h"
#include "cmd/cli_config.h"
#include "cmd/cli_list.h"
#include "cmd/table.h"

#define GROUP "CONTAINER SUBCOMMANDS"

/* ---- wait ---- */

static int run_wait(struct cli *c, const struct opt_args *a, struct error **err)
{
	if (cli_connect(c, err))
		return -1;
	for (size_t i = 0; i < a->npos; i++) {
		CLEANUP_JSON struct json_object *reply = NULL;
		struct json_object *params = json_object_new_object();
		struct error *e = NULL;

		json_set_str(params, "id", a->pos[i]);
		if (cli_call(c, "container.wait", params, &reply, &e))
			cli_report(c, &e);
		else
			printf("%lld\n", (long long)json_int(reply, "exitCode", 255));
		fflush(stdout);
	}
	return cli_status(c);
}

const struct opt_cmd cmd_wait = {
	.name = "wait",
	.summary = "Wait for containers to stop and print their exit codes",
	.group = GROUP,
	.pos = pos_some_ids,
	.notes = "The exit code of a container that has stopped already is printed at once.",
	.run = run_wait,
};

/* ---- rename ---- */

static const struct opt_pos rename_pos[] = {
	{"container-id", POS_ONE, "Container id"},
	{"new-name", POS_ONE, "New name, which is the id from then on"},
	{0},
};

static int run_rename(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct json_object *params = json_object_new_object();

	json_set_str(params, "id", a->pos[0]);
	json_set_str(params, "name", a->pos[1]);
	if (cli_call(c, "container.rename", params, NULL, err))
		return -1;
	cli_out(a->pos[1]);
	return 0;
}

const struct opt_cmd cmd_rename = {
	.name = "rename",
	.summary = "Give a stopped container another name",
	.group = GROUP,
	.pos = rename_pos,
	.run = run_rename,
};

/* ---- prune ---- */

static int run_prune(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *ids;

	if (cli_call(c, "container.prune", NULL, &reply, err) ||
	    json_need_arr(reply, "deleted", &ids, err))
		return -1;
	for (size_t i = 0; i < json_object_array_length(ids); i++)
		cli_out(json_object_get_string(json_object_array_get_idx(ids, i)));
	cli_reclaimed(json_int(reply, "reclaimed", 0));
	return 0;
}

const struct opt_cmd cmd_prune = {
	.name = "prune",
	.summary = "Delete all stopped containers",
	.group = GROUP,
	.notes = "Prints the ids of the containers that were deleted.",
	.run = run_prune,
};

/* ---- pause, unpause ---- */

static int run_pause(struct cli *c, const struct opt_args *a, struct error **err)
{
	return cli_each(c, a, "container.pause", NULL, NULL, err);
}

static int run_unpause(struct cli *c, const struct opt_args *a, struct error **err)
{
	return cli_each(c, a, "container.unpause", NULL, NULL, err);
}

const struct opt_cmd cmd_pause = {
	.name = "pause",
	.summary = "Halt the virtual CPUs of containers",
	.group = GROUP,
	.pos = pos_some_ids,
	.notes = "Nothing runs in a paused container until unpause; stop, kill and delete work.",
	.run = run_pause,
};

const struct opt_cmd cmd_unpause = {
	.name = "unpause",
	.summary = "Let paused containers go on",
	.group = GROUP,
	.pos = pos_some_ids,
	.run = run_unpause,
};

/* ---- port ---- */

static const struct opt_pos port_pos[] = {
	{"container-id", POS_ONE, "Container id"},
	{"port", POS_OPTIONAL, "Only this port of the container: port[/protocol]"},
	{0},
};

static int run_port(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	const char *to = a->npos > 1 ? a->pos[1] : NULL;
	CLEANUP_BUF struct buf b = {0};
	struct json_object *one;

	if (cli_get(c, a->pos[0], &reply, &one, err))
		return -1;
	if (!list_ports(json_obj(one, "configuration"), to, true, &b) && to)
		return error_set(err, ERR_NOT_FOUND, "container %s publishes no port %s",
				 json_str(one, "id", ""), to);
	if (b.len)
		fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_port = {
	.name = "port",
	.summary = "List the published ports of a container",
	.group = GROUP,
	.pos = port_pos,
	.run = run_port,
};

/* ---- top ---- */

static int pid_cmp(const void *x, const void *y)
{
	int64_t a = json_int(*(struct json_object *const *)x, "pid", 0);
	int64_t b = json_int(*(struct json_object *const *)y, "pid", 0);

	return a < b ? -1 : a > b;
}

static void top_row(struct table *t, struct json_object *p)
{
	long long s = json_int(p, "timeMs", 0) / 1000, uid = json_int(p, "uid", 0);

	table_cellf(t, "%lld", (long long)json_int(p, "pid", 0));
	if (uid)
		table_cellf(t, "%lld", uid);
	else
		table_cell(t, "root");
	table_cellf(t, "%02lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
	table_cell(t, json_str(p, "command", ""));
}

static int run_top(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"PID", "USER", "TIME", "COMMAND", NULL};
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *params = json_object_new_object(), *list;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};

	json_set_str(params, "id", a->pos[0]);
	if (cli_call(c, "container.top", params, &reply, err) ||
	    json_need_arr(reply, "processes", &list, err))
		return -1;
	json_object_array_sort(list, pid_cmp);
	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(list); i++)
		top_row(&t, json_object_array_get_idx(list, i));
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_top = {
	.name = "top",
	.summary = "List the processes of a running container",
	.group = GROUP,
	.pos = pos_id,
	.notes = "Process ids are those inside the container. TIME is the CPU time used so far.",
	.run = run_top,
};

/* ---- attach ---- */

static const struct opt opt_attach[] = {
	{"no-stdin", 0, OPT_FLAG, NULL, NULL, "Do not attach standard input", 0},
	{0},
};
static const struct opt *const attach_opts[] = {opt_attach, NULL};

static int run_attach(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct attach at = {.running = true, .interactive = !opt_has(a, "no-stdin")};
	struct json_object *one;
	const char *state;

	if (cli_get(c, a->pos[0], &reply, &one, err))
		return -1;
	at.id = json_str(one, "id", a->pos[0]);
	state = json_str(json_obj(one, "status"), "state", "unknown");
	if (strcmp(state, "running"))
		return error_set(err, ERR_INVALID_STATE, "container %s is %s", at.id, state);
	at.tty = json_flag(json_obj(json_obj(one, "configuration"), "initProcess"), "terminal",
			   false);
	return attach_run(c, &at, err);
}

const struct opt_cmd cmd_attach = {
	.name = "attach",
	.summary = "Attach to the init process of a running container",
	.group = GROUP,
	.opts = attach_opts,
	.pos = pos_id,
	.notes = "One client at a time can be attached. Standard input is there when the container "
		 "was started with --detach and --interactive, and stays open when the client "
		 "leaves. With a terminal, Ctrl-P Ctrl-Q leaves the container running; without "
		 "one, signals are passed on to the process. The exit status is that of the "
		 "process, 0 after leaving.",
	.run = run_attach,
};
