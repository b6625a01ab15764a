/* SPDX-License-Identifier: Apache-2.0 */
/* cli_image_show.c - which images a list shows, what a template can say of one, and image history. */
#include <fnmatch.h>
#include <stdio.h>
#include "cmd/cli_image.h"
#include "cmd/table.h"

/* ---- filters ---- */

/* The value when filter is "key=value", else NULL. */
static const char *value_of(const char *filter, const char *key)
{
	size_t n = strlen(key);

	return !strncmp(filter, key, n) && filter[n] == '=' ? filter + n + 1 : NULL;
}

int image_filters_check(const char *const *filters, struct error **err)
{
	for (; *filters; filters++) {
		const char *dangling = value_of(*filters, "dangling");

		if (dangling && strcmp(dangling, "true") && strcmp(dangling, "false"))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid filter '%s': true or false expected", *filters);
		if (!dangling && !value_of(*filters, "reference") && !value_of(*filters, "label"))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "invalid filter '%s': reference, label or dangling, '=' "
					 "and a value expected",
					 *filters);
	}
	return 0;
}

static struct json_object *first_config(struct json_object *image)
{
	struct json_object *variants = json_arr(image, "variants");

	if (!variants || !json_object_array_length(variants))
		return NULL;
	return json_obj(json_object_array_get_idx(variants, 0), "config");
}

/* "key" or "key=value", of any variant. */
static bool label_matches(struct json_object *image, const char *want)
{
	struct json_object *variants = json_arr(image, "variants");
	const char *eq = strchr(want, '=');
	CLEANUP_FREE char *key = eq ? xstrndup(want, (size_t)(eq - want)) : xstrdup(want);

	for (size_t i = 0; variants && i < json_object_array_length(variants); i++) {
		struct json_object *config =
			json_obj(json_object_array_get_idx(variants, i), "config");
		const char *v = json_str(json_obj(json_obj(config, "config"), "Labels"), key, NULL);

		if (v && (!eq || !strcmp(v, eq + 1)))
			return true;
	}
	return false;
}

static bool reference_matches(struct json_object *image, const char *pattern)
{
	CLEANUP_FREE char *name = NULL, *tag = NULL, *both = NULL;

	image_split(image_name(image), &name, &tag);
	both = xasprintf("%s:%s", name, tag);
	return !fnmatch(pattern, name, FNM_PATHNAME) || !fnmatch(pattern, both, FNM_PATHNAME) ||
	       !fnmatch(pattern, image_name(image), FNM_PATHNAME);
}

bool image_matches(struct json_object *image, const char *const *filters)
{
	bool named = false, asked = false;

	for (; *filters; filters++) {
		const char *v;

		if ((v = value_of(*filters, "reference"))) {
			asked = true;
			named = named || reference_matches(image, v);
		} else if ((v = value_of(*filters, "label"))) {
			if (!label_matches(image, v))
				return false;
		} else if ((v = value_of(*filters, "dangling"))) {
			if (!strcmp(v, "true") != (strchr(image_name(image), '@') != NULL))
				return false;
		}
	}
	return !asked || named;
}

/* ---- fields ---- */

static int64_t total_size(struct json_object *image)
{
	struct json_object *variants = json_arr(image, "variants");
	int64_t sum = 0;

	for (size_t i = 0; variants && i < json_object_array_length(variants); i++)
		sum += json_int(json_object_array_get_idx(variants, i), "size", 0);
	return sum;
}

char *image_field(struct json_object *image, const char *name)
{
	struct json_object *config = json_obj(image, "configuration");
	const char *digest = json_str(json_obj(config, "descriptor"), "digest", "");
	CLEANUP_FREE char *repository = NULL, *tag = NULL;

	image_split(image_name(image), &repository, &tag);
	if (!strcmp(name, "ID"))
		return xasprintf("%.12s", json_str(image, "id", ""));
	if (!strcmp(name, "Repository") || !strcmp(name, "Name"))
		return STEAL(repository);
	if (!strcmp(name, "Tag"))
		return STEAL(tag);
	if (!strcmp(name, "Digest"))
		return xstrdup(digest);
	if (!strcmp(name, "Reference"))
		return xstrdup(image_name(image));
	if (!strcmp(name, "CreatedAt"))
		return xstrdup(json_str(config, "creationDate", ""));
	if (!strcmp(name, "Size"))
		return size_text(total_size(image));
	return NULL;
}

/* ---- history ---- */

static const struct opt opt_history[] = {
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES, "Format of the output", 0},
	{"no-trunc", 0, OPT_FLAG, NULL, NULL, "Do not cut long commands", 0},
	{0},
};
static const struct opt *const history_opts[] = {opt_history, NULL};
static const struct opt_pos history_pos[] = {{"image", POS_ONE, "Image reference, or id"}, {0}};

static void put_history(struct table *t, struct json_object *h, bool whole)
{
	const char *by = json_str(h, "created_by", "");

	table_cellf(t, "%.19s", json_str(h, "created", ""));
	if (whole || strlen(by) <= 60)
		table_cell(t, by);
	else
		table_cellf(t, "%.57s...", by);
	table_cell(t, json_flag(h, "empty_layer", false) ? "no" : "yes");
	table_cell(t, json_str(h, "comment", ""));
}

static int run_history(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const titles[] = {"CREATED", "CREATED BY", "LAYER", "COMMENT", NULL};
	enum format f = format_parse(opt_str(a, "format", NULL));
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *images, *history;

	if (cli_call(c, "image.inspect", image_references(a), &reply, err) ||
	    json_need_arr(reply, "images", &images, err))
		return -1;
	history = json_arr(first_config(json_object_array_get_idx(images, 0)), "history");
	if (f != FORMAT_TABLE) {
		CLEANUP_JSON struct json_object *none = json_object_new_array();

		format_print(f, history ? history : none);
		return 0;
	}
	table_init(&t, titles);
	for (size_t i = history ? json_object_array_length(history) : 0; i-- > 0;)
		put_history(&t, json_object_array_get_idx(history, i), opt_has(a, "no-trunc"));
	table_render(&t, &b);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_image_history = {
	.name = "history",
	.summary = "Show how an image was made, the last step first",
	.group = IMAGE_GROUP,
	.opts = history_opts,
	.pos = history_pos,
	.notes = "What the image's configuration says of itself; LAYER tells whether the step "
		 "made a layer.",
	.run = run_history,
};

const struct opt_cmd cmd_history = {
	.name = "history",
	.summary = "Short for `container image history`",
	.group = IMAGE_GROUP,
	.opts = history_opts,
	.pos = history_pos,
	.run = run_history,
};
