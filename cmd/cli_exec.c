/* SPDX-License-Identifier: Apache-2.0 */
/* cli_exec.c - exec: another process in a running container; what no flag says is as for the init process. */
#include "cmd/cli_attach.h"
#include "cmd/cli_config.h"

static const struct opt opt_exec[] = {
	{"detach", 'd', OPT_FLAG, NULL, NULL,
	 "Start the process, print the container id and return", 0},
	{0},
};
static const struct opt *const exec_opts[] = {opt_exec, opt_process, NULL};
static const struct opt_pos exec_pos[] = {
	{"container-id", POS_ONE, "Container id"},
	{"arguments", POS_SOME,
	 "Command and arguments; everything after the id is passed on untouched"},
	{0},
};

static int get_init(struct cli *c, const char *name, struct json_object **reply, const char **id,
		    struct json_object **init, struct error **err)
{
	struct json_object *one;
	const char *state;

	if (cli_get(c, name, reply, &one, err))
		return -1;
	*id = json_str(one, "id", name);
	state = json_str(json_obj(one, "status"), "state", "");
	if (strcmp(state, "running"))
		return error_set(err, ERR_INVALID_STATE, "container %s is %s", *id,
				 !strcmp(state, "paused") ? "paused" : "not running");
	*init = json_obj(json_obj(one, "configuration"), "initProcess");
	return 0;
}

static int run_exec(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct attach at = {.interactive = opt_has(a, "interactive"),
			    .tty = opt_has(a, "tty"),
			    .timings = c->debug};
	CLEANUP_JSON struct json_object *reply = NULL, *process = NULL;
	CLEANUP_FREE const char **argv = xcalloc(a->npos + 1, sizeof(*argv));
	struct json_object *init = NULL;
	size_t first = !strcmp(a->pos[1], "--") ? 2 : 1;
	int rc;

	if (first >= a->npos)
		return cli_usage(c, "Missing expected argument '<arguments>'");
	memcpy(argv, a->pos + first, (a->npos - first) * sizeof(*argv));
	if (get_init(c, a->pos[0], &reply, &at.id, &init, err) ||
	    process_build(a, init, argv, &process, err))
		return -1;
	at.process = process;
	if (!opt_has(a, "detach"))
		return attach_run(c, &at, err);
	rc = attach_detached(c, &at, err);
	if (rc)
		return rc;
	cli_out(at.id);
	return 0;
}

const struct opt_cmd cmd_exec = {
	.name = "exec",
	.summary = "Run a new command in a running container",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = exec_opts,
	.pos = exec_pos,
	.passthrough = true,
	.notes = "Environment, user, working directory and limits are those of the container's "
		 "init process unless "
		 "a flag says otherwise. The exit status is that of the command; 126 says that it "
		 "cannot be run, 127 "
		 "that there is none of that name.",
	.run = run_exec,
};
