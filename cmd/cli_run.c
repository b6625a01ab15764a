/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_run.c - run, create, start.
 *
 * run = resolve the image (fetching it when it is not here), build the configuration, create, start, wait.
 * What fails after the creation takes the container away again.
 */
#include <fcntl.h>
#include <stdio.h>
#include "cmd/cli_attach.h"
#include "cmd/cli_config.h"
#include "cmd/cli_image.h"
#include "cmd/cli_volume.h"
#include "cmd/progress.h"
#include "core/path.h"

#define RUN_STEPS 1

/* ---- option tables ---- */

const struct opt opt_process[] = {
	{"env", 'e', OPT_LIST, "env", NULL,
	 "Set an environment variable: KEY=VALUE, or KEY alone to pass on the caller's value", 0},
	{"env-file", 0, OPT_LIST, "env-file", NULL,
	 "Read environment variables from a file of KEY=VALUE lines; --env wins over it", 0},
	{"gid", 0, OPT_VALUE, "gid", NULL,
	 "Set the group id of the process; without --uid it is a supplemental group", 0},
	{"interactive", 'i', OPT_FLAG, NULL, NULL, "Keep standard input open and pass it on", 0},
	{"tty", 't', OPT_FLAG, NULL, NULL, "Give the process a terminal", 0},
	{"user", 'u', OPT_VALUE, "user", NULL,
	 "Set the user of the process: name|uid[:group|gid], looked up in the container", 0},
	{"uid", 0, OPT_VALUE, "uid", NULL, "Set the user id of the process", 0},
	{"workdir|cwd", 'w', OPT_VALUE, "dir", NULL, "Set the initial working directory", 0},
	{"ulimit", 0, OPT_LIST, "limit", NULL, "Set a resource limit: <type>=<soft>[:<hard>]", 0},
	{0},
};

static const struct opt opt_resources[] = {
	{"cpus", 'c', OPT_VALUE, "cpus", NULL, "Number of virtual CPUs", 0},
	{"memory", 'm', OPT_VALUE, "memory", NULL,
	 "Memory, with an optional suffix K, M, G, T or P; at least 200M", 0},
	{0},
};

static const struct opt opt_management[] = {
	{"arch", 'a', OPT_VALUE, "arch", NULL, "Architecture of the image to use", 0},
	{"cap-add", 0, OPT_LIST, "cap", NULL, "Add a Linux capability, or ALL", 0},
	{"cap-drop", 0, OPT_LIST, "cap", NULL, "Drop a Linux capability, or ALL", 0},
	{"cidfile", 0, OPT_VALUE, "path", NULL, "Write the container id to this file", 0},
	{"detach", 'd', OPT_FLAG, NULL, NULL, "Run in the background and print the container id",
	 0},
	{"dns", 0, OPT_LIST, "ip", NULL, "Nameserver for the container", 0},
	{"dns-domain", 0, OPT_VALUE, "domain", NULL, "DNS domain of the container", 0},
	{"dns-option", 0, OPT_LIST, "option", NULL, "DNS resolver option", 0},
	{"dns-search", 0, OPT_LIST, "domain", NULL, "DNS search domain", 0},
	{"entrypoint", 0, OPT_VALUE, "command", NULL,
	 "Replace the image's entrypoint; the image's command is dropped", 0},
	{"group-add", 0, OPT_LIST, "group", NULL,
	 "Add a group, by name or id, to those of the process", 0},
	{"hostname", 0, OPT_VALUE, "name", NULL,
	 "Host name of the container; the first part of its id when not given", 0},
	{"init", 0, OPT_FLAG, NULL, NULL,
	 "Run a small init as process 1, which passes on signals and reaps orphans", 0},
	{"init-image", 0, OPT_VALUE, "image", NULL, "Use a custom init image", OPT_LATER},
	{"kernel", 'k', OPT_VALUE, "path", NULL, "Use this kernel for the container's microVM", 0},
	{"kernel-arg", 0, OPT_LIST, "word", NULL, "Add a word to the kernel's command line", 0},
	{"label", 'l', OPT_LIST, "label", NULL, "Add a label: key=value", 0},
	{"log-opt", 0, OPT_LIST, "option", NULL,
	 "Bound of the log: max-size=<size of a file>, 16m when not given, or max-file=<files>, 2 "
	 "when not given",
	 0},
	{"masked-path", 0, OPT_LIST, "path", NULL,
	 "Hide a path from the container, besides those hidden as a rule; NONE clears the list", 0},
	{"mount", 0, OPT_LIST, "mount", NULL,
	 "Add a mount: type=bind|virtiofs|tmpfs|volume, source=<>, target=<>, readonly, and for a "
	 "tmpfs size=<> and mode=<>, with commas between",
	 0},
	{"name", 0, OPT_VALUE, "name", NULL, "Name of the container, which is its id too", 0},
	{"network", 0, OPT_LIST, "network", NULL,
	 "Attach to a network: <name>[,mac=XX:XX:XX:XX:XX:XX][,mtu=N], or none", 0},
	{"no-dns", 0, OPT_FLAG, NULL, NULL, "Do not configure DNS in the container", 0},
	{"oom-score-adj", 0, OPT_VALUE, "n", NULL,
	 "How readily the kernel kills the processes when memory is short, -1000 to 1000", 0},
	{"os", 0, OPT_VALUE, "os", NULL, "Operating system of the image to use", 0},
	{"pids-limit", 0, OPT_VALUE, "n", NULL, "Number of processes and threads; -1: no limit", 0},
	{"privileged", 0, OPT_FLAG, NULL, NULL,
	 "All capabilities, devices and system calls of the microVM; nothing hidden or read-only",
	 0},
	{"pull", 0, OPT_VALUE, "when", "missing|always|never",
	 "When to fetch the image: missing (as when not given), always or never", 0},
	{"publish", 'p', OPT_LIST, "spec", NULL,
	 "Publish a port: [host-ip:]host-port[-end]:container-port[-end][/tcp|udp]; without a host "
	 "port a free one",
	 0},
	{"publish-all", 'P', OPT_FLAG, NULL, NULL,
	 "Publish each port that the image exposes at a free port of the host", 0},
	{"platform", 0, OPT_VALUE, "platform", NULL,
	 "Platform of the image: os/arch[/variant] [environment: CONTAINER_DEFAULT_PLATFORM]", 0},
	{"publish-socket", 0, OPT_LIST, "spec", NULL,
	 "Make a Unix socket of the container reachable on the host: host_path:container_path", 0},
	{"read-only", 0, OPT_FLAG, NULL, NULL, "Make the root file system read-only", 0},
	{"read-only-path", 0, OPT_LIST, "path", NULL,
	 "Make a path read-only, besides those that are as a rule; NONE clears the list", 0},
	{"restart", 0, OPT_VALUE, "policy", NULL,
	 "When to start it again after its end: no, on-failure[:n], always or unless-stopped", 0},
	{"rm|remove", 0, OPT_FLAG, NULL, NULL, "Delete the container when it has stopped", 0},
	{"rosetta", 0, OPT_FLAG, NULL, NULL,
	 "Translate programs of another architecture, which is done wherever the image is of one",
	 0},
	{"runtime", 0, OPT_VALUE, "runtime", NULL, "Runtime to use: container-runtime-linux", 0},
	{"security-opt", 0, OPT_LIST, "option", NULL,
	 "no-new-privileges, seccomp=unconfined, seccomp=<profile.json>, systempaths=unconfined",
	 0},
	{"ssh", 0, OPT_FLAG, NULL, NULL,
	 "Forward the caller's SSH agent to the container [environment: SSH_AUTH_SOCK, looked at "
	 "again by each start]",
	 0},
	{"shm-size", 0, OPT_VALUE, "size", NULL, "Size of /dev/shm", 0},
	{"sysctl", 0, OPT_LIST, "name=value", NULL, "Set a kernel parameter of the container", 0},
	{"stop-signal", 0, OPT_VALUE, "signal", NULL,
	 "Signal that stops the container; the image's or TERM when not given", 0},
	{"stop-timeout", 0, OPT_VALUE, "seconds", NULL,
	 "Seconds that stop waits before killing, 5 when not given", 0},
	{"tmpfs", 0, OPT_LIST, "path", NULL, "Mount a tmpfs at this path", 0},
	{"virtualization", 0, OPT_FLAG, NULL, NULL,
	 "Offer hardware virtualization to the container: /dev/kvm", 0},
	{"volume", 'v', OPT_LIST, "volume", NULL,
	 "Mount a directory or file of the host or a volume: <path or name>:<target>[:ro], or "
	 "<target> alone for a new volume",
	 0},
	{0},
};

static const struct opt opt_progress[] = {
	{"progress", 0, OPT_VALUE, "type", PROGRESS_CHOICES, "How to show progress", 0},
	{0},
};

static const struct opt opt_fetch[] = {
	{"scheme", 0, OPT_VALUE, "scheme", "http|https|auto", "Scheme to use with the registry", 0},
	{"max-concurrent-downloads", 0, OPT_VALUE, "n", NULL,
	 "Parallel downloads, 3 when not given", 0},
	{0},
};

static const struct opt *const run_opts[] = {opt_process, opt_resources, opt_management,
					     opt_health,  opt_progress,  opt_fetch,
					     NULL};
static const struct opt *const create_opts[] = {opt_process, opt_resources, opt_management,
						opt_health,  opt_fetch,     NULL};

static const struct opt_pos run_pos[] = {
	{"image", POS_ONE, "Image reference"},
	{"arguments", POS_MANY,
	 "Command and arguments; everything after the image is passed on untouched"},
	{0},
};

/* ---- flags that need a look of their own ---- */

/* 0, or the exit status after a usage error. */
static int check_flags(struct cli *c, const struct opt_args *a)
{
	if (opt_has(a, "no-dns") && (opt_has(a, "dns") || opt_has(a, "dns-domain") ||
				     opt_has(a, "dns-option") || opt_has(a, "dns-search")))
		return cli_usage(c, "`--no-dns` cannot be used with other DNS options");
	if (opt_has(a, "rm") && strcmp(opt_str(a, "restart", "no"), "no"))
		return cli_usage(c, "`--rm` cannot be used with `--restart`");
	return 0;
}

static int downloads(const struct opt_args *a, int64_t *out, struct error **err)
{
	const char *text = opt_str(a, "max-concurrent-downloads", "3");

	if (parse_i64(text, out) || *out < 1 || *out > 1024)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "maximum number of concurrent downloads must be greater than 0");
	return 0;
}

static int choose_platform(const struct opt_args *a, char **platform, struct error **err)
{
	bool from_env;

	if (platform_flags(a, getenv("CONTAINER_DEFAULT_PLATFORM"), false, platform, &from_env,
			   err))
		return -1;
	if (from_env)
		cli_note("using platform %s from CONTAINER_DEFAULT_PLATFORM", *platform);
	return 0;
}

/* ---- image ---- */

static int image_pull(struct cli *c, const struct opt_args *a, const char *platform,
		      struct progress *p, struct error **err)
{
	struct json_object *params = json_object_new_object();
	int64_t n = 0;

	json_set_str(params, "reference", a->pos[0]);
	json_set_str(params, "scheme", opt_str(a, "scheme", "auto"));
	json_set_str(params, "platform", platform);
	if (downloads(a, &n, err) || image_credentials(a->pos[0], params, err) ||
	    cli_connect(c, err)) {
		json_object_put(params);
		return -1;
	}
	json_set_int(params, "maxConcurrentDownloads", n);
	return rpc_call(c->conn, "image.pull", params, NULL, 0, progress_event, p, -1, NULL, NULL,
			NULL, err);
}

static int image_resolve(struct cli *c, const char *ref, const char *platform,
			 struct json_object **image, struct error **err)
{
	struct json_object *params = json_object_new_object();

	json_set_str(params, "reference", ref);
	json_set_str(params, "platform", platform);
	return cli_call(c, "image.resolve", params, image, err);
}

static int image_get(struct cli *c, const struct opt_args *a, struct progress *p,
		     struct json_object **image, struct error **err)
{
	const char *pull = opt_str(a, "pull", "missing");
	CLEANUP_FREE char *platform = NULL;
	struct error *e = NULL;
	int64_t n;

	if (downloads(a, &n, err) || choose_platform(a, &platform, err))
		return -1;
	if (strcmp(pull, "always")) {
		if (!image_resolve(c, a->pos[0], platform, image, &e))
			return 0;
		if (!e || e->code != ERR_NOT_FOUND || !strcmp(pull, "never"))
			return error_move(err, e);
		error_free(e);
	}
	progress_task(p, 1, RUN_STEPS, "Fetching image");
	if (image_pull(c, a, platform, p, err))
		return -1;
	return image_resolve(c, a->pos[0], platform, image, err);
}

/* ---- create ---- */

static int write_cidfile(const char *path, const char *id, struct error **err)
{
	CLEANUP_CLOSE int fd = -1;

	if (!path || !*path)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_sys(err, errno, "open cidfile %s", path);
	if (fd_write_full(fd, id, strlen(id), err))
		return error_wrap(err, "write cidfile %s", path);
	return 0;
}

static void delete_quietly(struct cli *c, const char *id)
{
	struct json_object *params = json_object_new_object();

	json_set_str(params, "id", id);
	json_set_bool(params, "force", true);
	cli_call(c, "container.delete", params, NULL, NULL);
}

static int build(const struct opt_args *a, struct json_object *image, const char *id,
		 struct json_object **out, struct error **err)
{
	struct config *cfg = config_load(err);
	struct config_defaults d = {0};
	int rc;

	if (!cfg)
		return -1;
	d.cpus = config_int(cfg, "container.cpus");
	d.memory = config_str(cfg, "container.memory");
	d.dns_domain = config_str(cfg, "dns.domain");
	d.log_size = config_str(cfg, "container.logSize");
	d.log_files = config_int(cfg, "container.logFiles");
	rc = config_build(a, image, &d, id, out, err);
	config_free(cfg);
	return rc;
}

/* Everything up to a container that exists; *id is owned by the caller. made: volumes that there were not. */
static int create(struct cli *c, const struct opt_args *a, struct progress *p, char **id,
		  struct strv *made, struct error **err)
{
	CLEANUP_JSON struct json_object *image = NULL;
	struct json_object *config = NULL, *params, *options;
	CLEANUP_FREE char *name =
		opt_has(a, "name") ? xstrdup(opt_str(a, "name", "")) : random_uuid();

	if (container_id_check(name, err) || image_get(c, a, p, &image, err) ||
	    build(a, image, name, &config, err))
		return -1;
	if (volumes_make(c, config, made, err)) {
		json_object_put(config);
		return -1;
	}
	params = json_object_new_object();
	options = json_object_new_object();
	json_set_bool(options, "autoRemove", opt_has(a, "rm"));
	json_set(params, "configuration", config);
	json_set(params, "options", options);
	if (cli_call(c, "container.create", params, NULL, err)) {
		volumes_forget(c, made);
		return -1;
	}
	if (write_cidfile(opt_str(a, "cidfile", NULL), name, err)) {
		delete_quietly(c, name);
		volumes_forget(c, made);
		return -1;
	}
	*id = STEAL(name);
	return 0;
}

/* create() with its flags checked and its progress shown: 0, the exit status after a usage error, or -1. */
static int make(struct cli *c, const struct opt_args *a, char **id, struct strv *made,
		struct error **err)
{
	struct progress p;
	int rc = check_flags(c, a);

	if (rc)
		return rc;
	progress_init(&p, opt_str(a, "progress", "auto"));
	rc = create(c, a, &p, id, made, err);
	progress_end(&p);
	return rc;
}

static int run_create(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_STRV struct strv made = {0};
	CLEANUP_FREE char *id = NULL;
	int rc = make(c, a, &id, &made, err);

	if (!rc)
		cli_out(id);
	return rc;
}

static int run_run(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct attach at = {.interactive = opt_has(a, "interactive"),
			    .tty = opt_has(a, "tty"),
			    .timings = c->debug};
	CLEANUP_STRV struct strv made = {0};
	CLEANUP_FREE char *id = NULL, *ssh = NULL;
	int rc = make(c, a, &id, &made, err);

	if (rc)
		return rc;
	at.id = id;
	at.ssh = ssh = ssh_agent(opt_has(a, "ssh"));
	rc = opt_has(a, "detach") ? attach_detached(c, &at, err) : attach_run(c, &at, err);
	if (rc < 0 && !at.started) {
		delete_quietly(c, id);
		volumes_forget(c, &made);
	}
	if (rc >= 0 && opt_has(a, "detach"))
		cli_out(id);
	return rc;
}

const struct opt_cmd cmd_run = {
	.name = "run",
	.summary = "Run a container",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = run_opts,
	.pos = run_pos,
	.passthrough = true,
	.notes = "Creates a container from an image and starts it. Unless --detach is given the "
		 "command stays "
		 "attached and ends with the exit status of the process; 126 says that the "
		 "program cannot be run, 127 that there is none of that name. Signals to the "
		 "command are passed on to the process, except from a terminal that is the "
		 "process's own; the third SIGINT or SIGTERM ends the command alone.",
	.run = run_run,
};

const struct opt_cmd cmd_create = {
	.name = "create",
	.summary = "Create a new container",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = create_opts,
	.pos = run_pos,
	.passthrough = true,
	.notes = "Creates a container without starting it and prints its id.",
	.run = run_create,
};

/* ---- start ---- */

static const struct opt opt_start[] = {
	{"attach", 'a', OPT_FLAG, NULL, NULL, "Attach standard output and error", 0},
	{"interactive", 'i', OPT_FLAG, NULL, NULL, "Attach standard input too", 0},
	{0},
};
static const struct opt *const start_opts[] = {opt_start, NULL};

static int run_start(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct attach at = {.timings = c->debug};
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_FREE char *ssh = NULL;
	struct json_object *one;
	bool attached = opt_has(a, "attach") || opt_has(a, "interactive");
	int rc;

	if (cli_get(c, a->pos[0], &reply, &one, err))
		return -1;
	at.id = json_str(one, "id", a->pos[0]);
	if (str_eq(json_str(json_obj(one, "status"), "state", NULL), "running")) {
		if (attached)
			return error_set(
				err, ERR_INVALID_ARGUMENT,
				"attach is currently unsupported on already running containers");
		cli_out(a->pos[0]);
		return 0;
	}
	at.interactive = opt_has(a, "interactive");
	at.tty = json_flag(json_obj(json_obj(one, "configuration"), "initProcess"), "terminal",
			   false);
	at.ssh = ssh = ssh_agent(json_flag(json_obj(one, "configuration"), "ssh", false));
	rc = attached ? attach_run(c, &at, err) : attach_detached(c, &at, err);
	if (!rc && !attached)
		cli_out(a->pos[0]);
	return rc;
}

const struct opt_cmd cmd_start = {
	.name = "start",
	.summary = "Start a container",
	.group = "CONTAINER SUBCOMMANDS",
	.opts = start_opts,
	.pos = pos_id,
	.notes = "Starting a container that runs already succeeds, unless it is to be attached.",
	.run = run_start,
};
