/* SPDX-License-Identifier: Apache-2.0 */
/* cli_volume.c - volume create, delete, list, inspect and prune, and the volumes that run and create make on their way. */
#include "cmd/cli_volume.h"

#include <stdio.h>

#include "cmd/filters.h"
#include "cmd/table.h"
#include "cmd/template.h"
#include "cmd/volume.h"

#define GROUP "SUBCOMMANDS"

static struct json_object *config_of(struct json_object *o)
{
	return json_obj(o, "configuration");
}

static const char *type_of(struct json_object *o)
{
	return json_get(json_obj(config_of(o), "labels"), VOLUME_ANONYMOUS) ? "anonymous" : "named";
}

/* "a=1,b=2": labels, options. */
static char *pairs(struct json_object *o)
{
	struct buf b = {0};

	buf_puts(&b, "");
	if (!o)
		return b.data;
	json_object_object_foreach(o, key, value)
	{
		buf_printf(&b, "%s%s=%s", b.len ? "," : "", key, json_object_get_string(value));
	}
	return b.data;
}

/* ---- create ---- */

static const struct opt opt_create[] = {
	{"driver", 'd', OPT_VALUE, "driver", NULL, "Driver of the volume: local", 0},
	{"label", 0, OPT_LIST, "key=value", NULL, "Add a label", 0},
	{"opt", 'o', OPT_LIST, "key=value", NULL,
	 "Set an option of the driver: size=<size> or journal=ordered|writeback|journal[:<size>]",
	 0},
	{"size", 's', OPT_VALUE, "size", NULL,
	 "Size of the volume, with an optional suffix K, M, G, T or P; at least 1M, 512G when not "
	 "given. What is not used takes no room on the host",
	 0},
	{0},
};
static const struct opt *const create_opts[] = {opt_create, NULL};
static const struct opt_pos create_pos[] = {{"name", POS_ONE, "Name of the volume"}, {0}};

/* "key=value" words to an object; a word without '=' has an empty value. */
static int put_pairs(const struct opt_args *a, const char *key, struct json_object *to,
		     struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, key, &n);

	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *name = xstrndup(v[i], strcspn(v[i], "="));

		if (!*name)
			return error_set(err, ERR_INVALID_ARGUMENT, "invalid %s '%s'",
					 !strcmp(key, "opt") ? "option" : key, v[i]);
		json_set_str(to, name, v[i][strlen(name)] ? v[i] + strlen(name) + 1 : "");
	}
	return 0;
}

static int run_create(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *params = json_object_new_object(), *reply = NULL;
	struct json_object *labels = json_object_new_object(), *options = json_object_new_object();
	const char *driver = opt_str(a, "driver", "local");

	json_set_str(params, "name", a->pos[0]);
	json_set(params, "labels", labels);
	json_set(params, "options", options);
	if (strcmp(driver, "local"))
		return error_set(err, ERR_UNSUPPORTED, "there is no volume driver '%s', only local",
				 driver);
	if (put_pairs(a, "label", labels, err) || put_pairs(a, "opt", options, err))
		return -1;
	if (opt_has(a, "size"))
		json_set_str(options, "size", opt_str(a, "size", ""));
	if (cli_call(c, "volume.create", STEAL(params), &reply, err))
		return -1;
	cli_out(json_str(json_obj(reply, "volume"), "id", a->pos[0]));
	return 0;
}

static const struct opt_cmd cmd_volume_create = {
	.name = "create",
	.summary = "Create a volume",
	.group = GROUP,
	.opts = create_opts,
	.pos = create_pos,
	.notes = "A volume is a disk of its own: an ext4 file system in a sparse file. One running "
		 "container can write to "
		 "it at a time, or several read it. --size wins over --opt size=.",
	.run = run_create,
};

/* ---- delete ---- */

static const struct opt opt_delete[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Delete all volumes", 0},
	{0},
};
static const struct opt *const delete_opts[] = {opt_delete, NULL};
static const struct opt_pos delete_pos[] = {{"names", POS_MANY, "Volume names"}, {0}};

static int list(struct cli *c, struct json_object **reply, struct json_object **volumes,
		struct error **err)
{
	return cli_call(c, "volume.list", NULL, reply, err)
		       ? -1
		       : json_need_arr(*reply, "volumes", volumes, err);
}

static bool has(const struct strv *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (!strcmp(names->v[i], name))
			return true;
	return false;
}

/* The names given, each once, or all there are. */
static int names_of(struct cli *c, const struct opt_args *a, struct strv *names, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *volumes;

	if (opt_has(a, "all") && a->npos)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "explicitly supplied volume name(s) conflict with the --all flag");
	if (!opt_has(a, "all") && !a->npos)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "no volumes specified and --all not supplied");
	for (size_t i = 0; i < a->npos; i++)
		if (!has(names, a->pos[i]))
			strv_add(names, a->pos[i]);
	if (a->npos)
		return 0;
	if (list(c, &reply, &volumes, err))
		return -1;
	for (size_t i = 0; i < json_object_array_length(volumes); i++)
		strv_add(names, json_str(json_object_array_get_idx(volumes, i), "id", ""));
	return 0;
}

static int delete_one(struct cli *c, const char *name, struct error **err)
{
	struct json_object *params = json_object_new_object();

	json_set_str(params, "name", name);
	return cli_call(c, "volume.delete", params, NULL, err);
}

static int run_delete(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_STRV struct strv names = {0};

	if (names_of(c, a, &names, err))
		return -1;
	for (size_t i = 0; i < names.n; i++) {
		struct error *e = NULL;

		if (delete_one(c, names.v[i], &e))
			cli_report(c, &e);
		else
			cli_out(names.v[i]);
	}
	return cli_status(c);
}

static const struct opt_cmd cmd_volume_delete = {
	.name = "delete",
	.aliases = "rm",
	.summary = "Delete volumes",
	.group = GROUP,
	.opts = delete_opts,
	.pos = delete_pos,
	.notes = "A volume that a container has, running or not, is not deleted.",
	.run = run_delete,
};

/* ---- list ---- */

static const struct opt opt_volume_list[] = {
	{"filter", 'f', OPT_LIST, "filter", NULL,
	 "Only those that fit: name=, label= or driver= and a value", 0},
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.Name}} {{.Type}}'",
	 OPT_TEMPLATE},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Print only the names", 0},
	{0},
};
static const struct opt *const list_opts[] = {opt_volume_list, NULL};

static const char *const filter_keys[] = {"name", "label", "driver", NULL};

static bool fits(struct json_object *o, const char *key, const char *want)
{
	if (!strcmp(key, "name"))
		return strstr(json_str(o, "id", ""), want);
	if (!strcmp(key, "driver"))
		return !strcmp(json_str(config_of(o), "driver", ""), want);
	return filter_label(json_obj(config_of(o), "labels"), want);
}

char *volume_field(struct json_object *o, const char *name)
{
	static const struct {
		const char *field, *key;
	} plain[] = {
		{"Name", "name"},         {"Driver", "driver"},          {"Format", "format"},
		{"Mountpoint", "source"}, {"CreatedAt", "creationDate"},
	};
	struct json_object *config = config_of(o);

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		if (!strcmp(name, plain[i].field))
			return xstrdup(json_str(config, plain[i].key, ""));
	if (!strcmp(name, "Type"))
		return xstrdup(type_of(o));
	if (!strcmp(name, "Scope"))
		return xstrdup("local");
	if (!strcmp(name, "Size"))
		return xasprintf("%lld", (long long)json_int(config, "sizeInBytes", 0));
	if (!strcmp(name, "Labels") || !strcmp(name, "Options"))
		return pairs(json_obj(config, *name == 'L' ? "labels" : "options"));
	return NULL;
}

static void put_row(struct table *t, struct json_object *o)
{
	CLEANUP_FREE char *options = pairs(json_obj(config_of(o), "options"));

	table_cell(t, json_str(o, "id", ""));
	table_cell(t, type_of(o));
	table_cell(t, json_str(config_of(o), "driver", ""));
	table_cell(t, options);
}

static int list_filtered(struct cli *c, const struct opt_args *a, struct json_object **reply,
			 struct json_object **volumes, struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);

	if (filters_check(filters, filter_keys, err) || list(c, reply, volumes, err))
		return -1;
	for (size_t i = json_object_array_length(*volumes); i-- > 0;)
		if (!filters_match(json_object_array_get_idx(*volumes, i), filters, filter_keys,
				   fits))
			json_object_array_del_idx(*volumes, i, 1);
	return 0;
}

static int run_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"NAME", "TYPE", "DRIVER", "OPTIONS", NULL};
	const char *format = opt_str(a, "format", NULL);
	enum format f = format_parse(format);
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *volumes;

	if (list_filtered(c, a, &reply, &volumes, err))
		return -1;
	if (template_is(format))
		return template_list(format, volumes, volume_field, err);
	if (f != FORMAT_TABLE) {
		format_print(f, volumes);
		return 0;
	}
	table_init(&t, titles);
	for (size_t i = 0; i < json_object_array_length(volumes); i++) {
		struct json_object *o = json_object_array_get_idx(volumes, i);

		if (opt_has(a, "quiet"))
			cli_out(json_str(o, "id", ""));
		else
			put_row(&t, o);
	}
	if (!opt_has(a, "quiet")) {
		table_render(&t, &b);
		fwrite(b.data, 1, b.len, stdout);
	}
	return 0;
}

static const struct opt_cmd cmd_volume_list = {
	.name = "list",
	.aliases = "ls",
	.summary = "List volumes",
	.group = GROUP,
	.opts = list_opts,
	.notes = "TYPE is anonymous for a volume that was made for a container without a name. "
		 "Fields of a template: Name, Type, "
		 "Driver, Scope, Format, Mountpoint, Size, Labels, Options, CreatedAt; {{json .}} "
		 "is the whole object.",
	.run = run_list,
};

/* ---- inspect ---- */

static const struct opt opt_inspect[] = {
	{"format", 'f', OPT_VALUE, "format", "json",
	 "A template of fields such as '{{.Mountpoint}}' instead of JSON", OPT_TEMPLATE},
	{0},
};
static const struct opt *const inspect_opts[] = {opt_inspect, NULL};
static const struct opt_pos inspect_pos[] = {{"names", POS_SOME, "Volume names"}, {0}};

static int run_inspect(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct json_object *params = json_object_new_object(), *names = json_object_new_array();
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_BUF struct buf b = {0};
	struct json_object *volumes;

	json_set(params, "names", names);
	for (size_t i = 0; i < a->npos; i++)
		json_add_str(names, a->pos[i]);
	if (cli_call(c, "volume.inspect", params, &reply, err) ||
	    json_need_arr(reply, "volumes", &volumes, err))
		return -1;
	if (template_is(opt_str(a, "format", NULL)))
		return template_list(opt_str(a, "format", NULL), volumes, volume_field, err);
	format_json(&b, volumes, true);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

static const struct opt_cmd cmd_volume_inspect = {
	.name = "inspect",
	.summary = "Display information about one or more volumes",
	.group = GROUP,
	.opts = inspect_opts,
	.pos = inspect_pos,
	.run = run_inspect,
};

/* ---- prune ---- */

static int run_prune(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *deleted;

	if (cli_call(c, "volume.prune", NULL, &reply, err) ||
	    json_need_arr(reply, "deleted", &deleted, err))
		return -1;
	for (size_t i = 0; i < json_object_array_length(deleted); i++)
		cli_out(json_object_get_string(json_object_array_get_idx(deleted, i)));
	cli_reclaimed(json_int(reply, "reclaimed", 0));
	return 0;
}

static const struct opt_cmd cmd_volume_prune = {
	.name = "prune",
	.summary = "Delete all volumes that no container has",
	.group = GROUP,
	.notes = "Prints the names of the volumes that were deleted, named and anonymous ones; "
		 "what containers have, running or not, "
		 "stays.",
	.run = run_prune,
};

/* ---- the group ---- */

static const struct opt_cmd *const volume_subs[] = {&cmd_volume_create,  &cmd_volume_delete,
						    &cmd_volume_inspect, &cmd_volume_list,
						    &cmd_volume_prune,   NULL};

const struct opt_cmd cmd_volume = {
	.name = "volume",
	.aliases = "v",
	.summary = "Manage volumes",
	.group = "VOLUME SUBCOMMANDS",
	.sub = volume_subs,
};

/* ---- on the way to a container ---- */

static int make_one(struct cli *c, struct json_object *mount, struct strv *made, struct error **err)
{
	struct json_object *params = json_object_new_object();
	CLEANUP_JSON struct json_object *reply = NULL;
	const char *name = volume_of(mount), *id;

	if (*name)
		json_set_str(params, "name", name);
	json_set_bool(params, "missing", true);
	if (cli_call(c, "volume.create", params, &reply, err))
		return -1;
	id = json_str(json_obj(reply, "volume"), "id", "");
	if (json_flag(reply, "created", false)) {
		strv_add(made, id);
		if (*name)
			cli_note("Warning: there was no volume %s: it has been created", id);
	}
	if (!*name)
		json_set_str(json_obj(json_obj(mount, "type"), "volume"), "name", id);
	return 0;
}

int volumes_make(struct cli *c, struct json_object *config, struct strv *made, struct error **err)
{
	struct json_object *mounts = json_arr(config, "mounts");
	size_t i, n = mounts ? json_object_array_length(mounts) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);

		if (volume_of(m) && make_one(c, m, made, err)) {
			volumes_forget(c, made);
			return -1;
		}
	}
	return 0;
}

void volumes_forget(struct cli *c, const struct strv *made)
{
	for (size_t i = 0; i < made->n; i++)
		delete_one(c, made->v[i], NULL);
}
