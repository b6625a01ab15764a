/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.c - the CLI role: finds the command in the table, parses its words, runs it, turns the outcome into
 * an exit status.
 *
 * Nothing is set up before it is needed: `container list` reads no configuration and opens one socket.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include "cmd/cli.h"
#include "cmd/roles.h"
#include "cmd/table.h"
#include "core/log.h"
#include "core/version.h"

/* Apple's commands that have nothing behind them here so far. */
static const struct {
	const char *path;
	const char *subs; /* NULL: a command of its own */
} later[] = {
	{"build", NULL},   {"machine", NULL}, {"m", NULL},   {"builder", NULL},
	{"network", NULL}, {"n", NULL},       {"k8s", NULL}, {"system", "dns"},
};

static const struct opt_pos help_pos[] = {{"path", POS_MANY, "The command to explain"}, {0}};
static int run_help(struct cli *c, const struct opt_args *a, struct error **err);
static const struct opt_cmd cmd_help = {.name = "help",
					.summary = "Show help for a command",
					.pos = help_pos,
					.run = run_help};

static const struct opt_cmd *const root_subs[] = {
	&cmd_create,  &cmd_delete,  &cmd_exec,   &cmd_inspect, &cmd_kill,    &cmd_list,
	&cmd_logs,    &cmd_run,     &cmd_start,  &cmd_stop,    &cmd_image,   &cmd_images,
	&cmd_history, &cmd_load,    &cmd_login,  &cmd_logout,  &cmd_pull,    &cmd_registry,
	&cmd_rmi,     &cmd_push,    &cmd_save,   &cmd_tag,     &cmd_system,  &cmd_attach,
	&cmd_pause,   &cmd_port,    &cmd_prune,  &cmd_rename,  &cmd_restart, &cmd_stats,
	&cmd_top,     &cmd_unpause, &cmd_wait,   &cmd_copy,    &cmd_export,  &cmd_events,
	&cmd_update,  &cmd_diff,    &cmd_commit, &cmd_volume,  &cmd_help,    NULL};

static const struct opt opt_root[] = {
	{"generate-completion-script", 0, OPT_VALUE, "shell", GENERATE_SHELLS,
	 "Print the completion script for a shell", 0},
	{0},
};
static const struct opt *const root_opts[] = {opt_root, NULL};

const struct opt_cmd cmd_root = {
	.name = "container",
	.summary = "Run every container in a microVM of its own",
	.opts = root_opts,
	.sub = root_subs,
	.notes = "Each container is an OCI image that runs in a virtual machine of its own, with "
		 "its own "
		 "kernel. Start the services once with `container system start`, then `container "
		 "run`. "
		 "The exit status of run, exec and an attached start is that of the process, 128+n "
		 "when "
		 "signal n ended it, 126 or 127 when its program cannot be run or is not there; "
		 "usage errors "
		 "give 64, all other failures 1.",
};

static void put_version(void)
{
	printf("container CLI version %s (build: %s, commit: %s)\n", version_release, version_build,
	       version_commit);
}

static bool service_is_up(struct cli *c)
{
	CLEANUP_CLOSE int fd = cli_socket(c, NULL);

	return fd >= 0;
}

static void put_help(struct cli *c, const struct opt_cmd *cmd, const char *path)
{
	CLEANUP_BUF struct buf b = {0};

	opt_help(cmd, path, &b);
	if (cmd == &cmd_root && !service_is_up(c))
		buf_puts(&b, "\nPLUGINS: not available, run `container system start`\n");
	fwrite(b.data, 1, b.len, stdout);
}

static bool is_later(const struct opt_cmd *cmd, const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
		if (later[i].subs ? !strcmp(cmd->name, later[i].path) &&
					    opt_names_match(later[i].subs, word)
				  : cmd == &cmd_root && !strcmp(word, later[i].path))
			return true;
	}
	return false;
}

static int refuse_later(struct cli *c, const char *what)
{
	struct error *e = NULL;

	error_set(&e, ERR_UNSUPPORTED, "%s is not supported yet", what);
	cli_report(c, &e);
	return 1;
}

static int unknown_command(struct cli *c, const struct opt_cmd *cmd, const char *word)
{
	CLEANUP_FREE char *shown = text_printable(word, false);
	CLEANUP_FREE char *full = xasprintf("%s %s", c->path, shown);

	if (is_later(cmd, word))
		return refuse_later(c, full);
	if (cmd != &cmd_root)
		return cli_usage(c, "Unexpected argument '%s'", word);
	fprintf(stderr,
		"Error: Plugin 'container-%s' not found.\n"
		"- If the system services are not running, start them with: container system "
		"start\n"
		"- If the plugin is not installed, put it into one of:\n",
		shown);
	if (!cli_roots(c, NULL))
		fprintf(stderr,
			"    %s/libexec/container-plugins/%s\n    "
			"%s/libexec/container/plugins/%s\n",
			c->roots.install, shown, c->roots.install, shown);
	fprintf(stderr, "See 'container --help' for the commands.\n");
	return CLI_EXIT_USAGE;
}

static int run_help(struct cli *c, const struct opt_args *a, struct error **err)
{
	const struct opt_cmd *cmd = &cmd_root;
	CLEANUP_BUF struct buf path = {0};

	buf_puts(&path, cmd->name);
	for (size_t i = 0; i < a->npos; i++) {
		const struct opt_cmd *sub = opt_find_sub(cmd, a->pos[i]);

		if (!sub)
			return unknown_command(c, cmd, a->pos[i]);
		cmd = sub;
		buf_printf(&path, " %s", cmd->name);
	}
	put_help(c, cmd, path.data);
	return 0;
}

/* A leaf with its options parsed. */
static int run_leaf(struct cli *c, const struct opt_args *a)
{
	const struct opt *o = opt_later(a);
	struct error *e = NULL;
	int rc;

	if (o) {
		CLEANUP_FREE char *key = opt_key(o->names);
		CLEANUP_FREE char *text = xasprintf("option --%s", key);

		return refuse_later(c, text);
	}
	if (c->debug)
		log_init_stderr("container", LOG_LVL_DEBUG);
	rc = c->cmd->run(c, a, &e);
	if (rc < 0) {
		rc = e && e->status ? e->status : 1;
		cli_report(c, &e);
	}
	return rc;
}

/* Walks down the tree: the words of c->cmd are argv[0..argc). */
static int dispatch(struct cli *c, int argc, char **argv)
{
	for (;;) {
		CLEANUP_OPTS struct opt_args a = {0};
		CLEANUP_ERROR struct error *e = NULL;
		const struct opt_cmd *sub;

		if (opt_parse(c->cmd, argc, argv, &a, &e))
			return cli_usage(c, "%s", e->msg);
		c->debug = c->debug || opt_has(&a, "debug");
		if (c->cmd == &cmd_root && opt_has(&a, "generate-completion-script")) {
			cli_completion(opt_str(&a, "generate-completion-script", ""));
			return 0;
		}
		if (opt_has(&a, "help") || (c->cmd->sub && !a.npos && !opt_has(&a, "version"))) {
			put_help(c, c->cmd, c->path);
			return 0;
		}
		if (opt_has(&a, "version")) {
			put_version();
			return 0;
		}
		if (c->cmd->run)
			return run_leaf(c, &a);
		sub = opt_find_sub(c->cmd, a.pos[0]);
		if (!sub)
			return unknown_command(c, c->cmd, a.pos[0]);
		argv += argc - (int)a.npos + 1;
		argc = (int)a.npos - 1;
		c->cmd = sub;
		strncat(c->path, " ", sizeof(c->path) - strlen(c->path) - 1);
		strncat(c->path, sub->name, sizeof(c->path) - strlen(c->path) - 1);
	}
}

/* A closed standard descriptor would be taken by the next thing that is opened. */
static void open_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			_exit(1);
}

int cli_main(int argc, char **argv)
{
	struct cli c = {.cmd = &cmd_root,
			.path = "container",
			.debug = getenv("CONTAINER_DEBUG") != NULL};
	int status;

	c.t0 = time_mono_us();
	open_standard_fds();
	signal(SIGPIPE, SIG_IGN);
	if (argc == 4 && !strcmp(argv[1], "--generate")) {
		struct error *e = NULL;

		status = cli_generate(argv[2], argv[3], &e);
		if (status < 0) {
			cli_report(&c, &e);
			status = 1;
		}
	} else {
		status = dispatch(&c, MAX(argc - 1, 0), argv + (argc > 0));
	}
	status = cli_flush(status);
	if (c.conn)
		rpc_conn_free(c.conn);
	if (c.have_roots)
		roots_free(&c.roots);
	return status;
}
