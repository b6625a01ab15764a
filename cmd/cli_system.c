/* SPDX-License-Identifier: Apache-2.0 */
/* cli_system.c - system status, version, property list. */
#include <limits.h>
#include <stdio.h>
#include "cmd/cli.h"
#include "cmd/table.h"
#include "core/version.h"

static const struct opt opt_format[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES, "Format of the output", 0},
	{0},
};

static const struct opt *const format_opts[] = {opt_format, NULL};

/* ---- status ---- */

static const struct opt opt_status[] = {
	{"prefix", 'p', OPT_VALUE, "prefix", NULL,
	 "Show only services whose label begins with this", 0},
	{0},
};
static const struct opt *const status_opts[] = {opt_status, opt_format, NULL};

/* Fields of the health check: how the table and how JSON name them. */
static const struct {
	const char *field, *key;
	bool if_known; /* left out when there is nothing to show */
} status_fields[] = {
	{"appRoot", "appRoot", false},
	{"installRoot", "installRoot", false},
	{"logRoot", "logRoot", true},
	{"apiserver.version", "apiServerVersion", false},
	{"apiserver.commit", "apiServerCommit", false},
	{"apiserver.build", "apiServerBuild", false},
	{"apiserver.appName", "apiServerAppName", false},
	{"engine", "engine", false},
	{"engine.reason", "engineReason", true},
	{"kernel", "kernel", false},
};

static void filter_services(struct json_object *status, const char *prefix)
{
	struct json_object *all = json_arr(status, "services"), *kept = json_object_new_array();

	for (size_t i = 0; all && i < json_object_array_length(all); i++) {
		struct json_object *s = json_object_array_get_idx(all, i);

		if (!prefix || str_prefix(json_str(s, "label", ""), prefix))
			json_object_array_add(kept, json_object_get(s));
	}
	json_set(status, "services", kept);
}

/* A member as text, whatever it is. */
static char *text_of(struct json_object *v)
{
	if (!v)
		return xstrdup("");
	return xstrdup(json_object_is_type(v, json_type_string) ? json_object_get_string(v)
								: json_object_to_json_string(v));
}

static void status_table(struct json_object *o)
{
	static const char *const titles[] = {"FIELD", "VALUE", NULL};
	struct json_object *services = json_arr(o, "services");
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};

	table_init(&t, titles);
	table_cell(&t, "status");
	table_cell(&t, json_str(o, "status", ""));
	for (size_t i = 0; i < ARRAY_SIZE(status_fields); i++) {
		CLEANUP_FREE char *text = text_of(json_get(o, status_fields[i].key));

		if (!*text && status_fields[i].if_known)
			continue;
		table_cell(&t, status_fields[i].field);
		table_cell(&t, text);
	}
	for (size_t i = 0; services && i < json_object_array_length(services); i++) {
		struct json_object *s = json_object_array_get_idx(services, i);
		int64_t pid = json_int(s, "pid", 0);

		table_cell(&t, json_str(s, "label", ""));
		if (pid > 0)
			table_cellf(&t, "pid %lld %s", (long long)pid, json_str(s, "state", ""));
		else
			table_cell(&t, json_str(s, "state", ""));
	}
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
}

/* What status says without a server: the same keys, empty. */
static struct json_object *status_down(void)
{
	struct json_object *o = json_object_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(status_fields); i++)
		if (!status_fields[i].if_known)
			json_set_str(o, status_fields[i].key, "");
	return o;
}

static int run_status(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *o = NULL;
	enum format f = format_parse(opt_str(a, "format", NULL));
	struct error *e = NULL;
	int rc = 0;

	if (cli_call(c, "system.status", NULL, &o, &e)) {
		if (!e || e->code != ERR_INVALID_STATE)
			return error_move(err, e);
		o = status_down();
		rc = 1;
	}
	json_set_str(o, "status", rc ? "not running" : "running");
	if (!rc)
		filter_services(o, opt_str(a, "prefix", NULL));
	if (f == FORMAT_TABLE)
		status_table(o);
	else
		format_print(f, o);
	if (e)
		cli_note("%s", e->msg);
	error_free(e);
	return rc;
}

static const struct opt_cmd cmd_status = {
	.name = "status",
	.summary = "Show the status of the container services",
	.group = SYSTEM_GROUP,
	.opts = status_opts,
	.notes = "The exit status is 0 only when the system runs.",
	.run = run_status,
};

/* ---- version ---- */

static void add_version(struct json_object *arr, const char *name, const char *version,
			const char *build, const char *commit)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "appName", name);
	json_set_str(o, "version", version);
	json_set_str(o, "buildType", build);
	json_set_str(o, "commit", commit);
	json_object_array_add(arr, o);
}

static int run_version(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"COMPONENT", "VERSION", "BUILD", "COMMIT", NULL};
	static const char *const keys[] = {"appName", "version", "buildType", "commit"};
	enum format f = format_parse(opt_str(a, "format", NULL));
	CLEANUP_JSON struct json_object *arr = json_object_new_array(), *server = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};

	add_version(arr, "container", version_release, version_build, version_commit);
	if (!cli_call(c, "ping", NULL, &server, NULL))
		add_version(arr, json_str(server, "apiServerAppName", CLI_SERVER_NAME),
			    json_str(server, "apiServerVersion", ""),
			    json_str(server, "apiServerBuild", ""),
			    json_str(server, "apiServerCommit", ""));
	if (f != FORMAT_TABLE) {
		format_print(f, arr);
		return 0;
	}
	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(arr); i++)
		for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
			table_cell(&t, json_str(json_object_array_get_idx(arr, i), keys[k], ""));
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

static const struct opt_cmd cmd_version = {
	.name = "version",
	.summary = "Show the versions of the command and of the services",
	.group = SYSTEM_GROUP,
	.opts = format_opts,
	.run = run_version,
};

/* ---- property ---- */

static const struct opt opt_property[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES, "Format of the output", 0},
	{0},
};
static const struct opt *const property_opts[] = {opt_property, NULL};

/* The keys as sections, "a.b" being b in a: what the configuration file looks like. */
static struct json_object *property_sections(struct json_object *list)
{
	struct json_object *root = json_object_new_object();

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i), *at = root;
		struct json_object *value = json_get(o, "value");
		CLEANUP_FREE char *copy = xstrdup(json_str(o, "key", ""));
		char *rest = copy, *word = strsep(&rest, ".");

		for (; value && rest; word = strsep(&rest, ".")) {
			struct json_object *sub = json_obj(at, word);

			if (!sub) {
				sub = json_object_new_object();
				json_set(at, word, sub);
			}
			at = sub;
		}
		if (value)
			json_set(at, word, json_object_get(value));
	}
	return root;
}

static int run_property_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"KEY", "VALUE", "SOURCE", NULL};
	enum format f = format_parse(opt_str(a, "format", NULL));
	CLEANUP_JSON struct json_object *list = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct config *cfg = config_load(err);

	if (!cfg)
		return -1;
	list = config_list(cfg);
	config_free(cfg);
	if (f != FORMAT_TABLE) {
		CLEANUP_JSON struct json_object *sections = property_sections(list);

		format_print(f, sections);
		return 0;
	}
	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		CLEANUP_FREE char *value = text_of(json_get(o, "value"));

		table_cell(&t, json_str(o, "key", ""));
		table_cell(&t, value);
		table_cell(&t, json_str(o, "source", ""));
	}
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

static const struct opt_cmd cmd_property_list = {
	.name = "list",
	.aliases = "ls",
	.summary = "Show the effective configuration, and where each value comes from",
	.group = "SUBCOMMANDS",
	.opts = property_opts,
	.notes =
		"The configuration is a file of JSON, which may have comments; CONTAINER_CONFIG "
		"names another. container.cpus and container.memory are what run and create give "
		"when not told, "
		"container.logSize and container.logFiles the bounds of a container's log; "
		"dns.domain is the "
		"domain of containers, network.subnet the network they get addresses of; engine is "
		"auto, kvm "
		"or qemu, qemu.path the QEMU to use; kernel.path is the kernel that `container "
		"system kernel "
		"set --recommended` takes instead of the one it would choose, and needs no "
		"modules; "
		"emulator.dir is where the host has the static emulators for images of other "
		"architectures; "
		"log.level is debug, info, warning or error. registry.*: see "
		"container-registry(1). "
		"The "
		"services read the file when they start.",
	.run = run_property_list,
};

static const struct opt_cmd *const property_subs[] = {&cmd_property_list, NULL};
static const struct opt_cmd cmd_property = {
	.name = "property",
	.summary = "Show the configuration",
	.group = SYSTEM_GROUP,
	.sub = property_subs,
};

/* ---- the group ---- */

static const struct opt_cmd *const system_subs[] = {&cmd_system_df, &cmd_system_doctor,
						    &cmd_kernel,    &cmd_system_logs,
						    &cmd_property,  &cmd_system_start,
						    &cmd_status,    &cmd_system_stop,
						    &cmd_version,   NULL};

const struct opt_cmd cmd_system = {
	.name = "system",
	.aliases = "s",
	.summary = "Manage the container services",
	.group = "OTHER SUBCOMMANDS",
	.sub = system_subs,
};
