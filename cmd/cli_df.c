/* SPDX-License-Identifier: Apache-2.0 */
/* cli_df.c - system df. */
#include <stdio.h>
#include "cmd/cli_image.h"
#include "cmd/table.h"

static const struct opt opt_df[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES, "Format of the output", 0},
	{0},
};
static const struct opt *const df_opts[] = {opt_df, NULL};

static void put_row(struct table *t, const char *title, struct json_object *o)
{
	int64_t size = json_int(o, "sizeInBytes", 0), free_able = json_int(o, "reclaimable", 0);
	CLEANUP_FREE char *all = size_text(size), *part = size_text(free_able);

	table_cell(t, title);
	table_cellf(t, "%lld", (long long)json_int(o, "total", 0));
	table_cellf(t, "%lld", (long long)json_int(o, "active", 0));
	table_cell(t, all);
	table_cellf(t, "%s (%d%%)", part,
		    size ? (int)(100.0 * (double)free_able / (double)size) : 0);
}

static int run_df(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"TYPE", "TOTAL",       "ACTIVE",
					     "SIZE", "RECLAIMABLE", NULL};
	enum format f = format_parse(opt_str(a, "format", NULL));
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};

	if (cli_call(c, "system.df", NULL, &reply, err))
		return -1;
	if (f == FORMAT_JSON) {
		format_json(&b, reply, true);
	} else if (f != FORMAT_TABLE) {
		format_print(f, reply);
		return 0;
	} else {
		table_init(&t, titles);
		put_row(&t, "Images", json_obj(reply, "images"));
		put_row(&t, "Containers", json_obj(reply, "containers"));
		put_row(&t, "Local Volumes", json_obj(reply, "volumes"));
		table_render(&t, &b);
	}
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_system_df = {
	.name = "df",
	.summary = "Show disk use",
	.group = "SYSTEM SUBCOMMANDS",
	.opts = df_opts,
	.notes = "Sizes are allocated blocks. What images share is counted once; reclaimable is "
		 "what no container uses.",
	.run = run_df,
};
