/* SPDX-License-Identifier: Apache-2.0 */
/* cli_df.c - system df. */
#include <stdio.h>
#include "cmd/cli_image.h"
#include "cmd/table.h"
#include "cmd/template.h"

static const struct opt opt_df[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.Type}} {{.Size}}'",
	 OPT_TEMPLATE},
	{0},
};
static const struct opt *const df_opts[] = {opt_df, NULL};

static const struct {
	const char *title, *key;
} rows[] = {{"Images", "images"}, {"Containers", "containers"}, {"Local Volumes", "volumes"}};

/* One row as an object, for the table and for templates. */
static struct json_object *row(const char *title, struct json_object *o)
{
	int64_t size = json_int(o, "sizeInBytes", 0), free_able = json_int(o, "reclaimable", 0);
	CLEANUP_FREE char *all = size_text(size), *part = size_text(free_able);
	int percent = size ? (int)(100.0 * (double)free_able / (double)size) : 0;
	CLEANUP_FREE char *reclaimable = xasprintf("%s (%d%%)", part, percent);
	struct json_object *r = json_object_new_object();

	json_set_str(r, "Type", title);
	json_set_int(r, "TotalCount", json_int(o, "total", 0));
	json_set_int(r, "Active", json_int(o, "active", 0));
	json_set_str(r, "Size", all);
	json_set_str(r, "Reclaimable", reclaimable);
	return r;
}

static char *row_field(struct json_object *r, const char *name)
{
	static const char *const names[] = {"Type", "TotalCount", "Active", "Size", "Reclaimable"};
	struct json_object *v = json_get(r, name);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return xstrdup(v ? json_object_get_string(v) : "");
	return NULL;
}

static int run_df(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"TYPE", "TOTAL",       "ACTIVE",
					     "SIZE", "RECLAIMABLE", NULL};
	const char *format = opt_str(a, "format", NULL);
	enum format f = format_parse(format);
	CLEANUP_JSON struct json_object *reply = NULL, *all = json_object_new_array();
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};

	if (cli_call(c, "system.df", NULL, &reply, err))
		return -1;
	if (f == FORMAT_JSON) {
		format_json(&b, reply, true);
		fwrite(b.data, 1, b.len, stdout);
		return 0;
	}
	if (f != FORMAT_TABLE) {
		format_print(f, reply);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		json_object_array_add(all, row(rows[i].title, json_obj(reply, rows[i].key)));
	if (template_is(format))
		return template_list(format, all, row_field, err);
	table_init(&t, titles);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_object_object_foreach(json_object_array_get_idx(all, i), key, val)
		{
			(void)key;
			table_cell(&t, json_object_get_string(val));
		}
	}
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_system_df = {
	.name = "df",
	.summary = "Show disk use",
	.group = SYSTEM_GROUP,
	.opts = df_opts,
	.notes = "Sizes are allocated blocks. What images share is counted once; reclaimable is "
		 "what no container uses.",
	.run = run_df,
};
