/* SPDX-License-Identifier: Apache-2.0 */
/* cli_image_list.c - image list and inspect: names, tables, objects. */
#include <stdio.h>
#include "cmd/cli_image.h"
#include "cmd/table.h"
#include "cmd/template.h"

#define GROUP IMAGE_GROUP

/* ---- list ---- */

static const struct opt opt_image_list[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "As without: nothing is hidden", OPT_HIDDEN},
	{"digests", 0, OPT_FLAG, NULL, NULL, "As without: digests are always there", OPT_HIDDEN},
	{"filter", 'f', OPT_LIST, "filter", NULL,
	 "Only those that fit: reference=, label=, dangling=, before=, since= or until= and a "
	 "value",
	 0},
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.Repository}}:{{.Tag}}'",
	 OPT_TEMPLATE},
	{"no-trunc", 0, OPT_FLAG, NULL, NULL, "Print digests whole", 0},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Print only the references", 0},
	{"verbose", 'v', OPT_FLAG, NULL, NULL, "Print one row per platform, with sizes", 0},
	{0},
};
static const struct opt *const image_list_opts[] = {opt_image_list, NULL};
static const struct opt_pos image_list_pos[] = {{"name", POS_OPTIONAL,
						 "Only images of this name, or name:tag"},
						{0}};

/* "docker.io/library/alpine:latest" to "alpine" and "latest"; what a digest names has no tag. */
void image_split(const char *full, char **name, char **tag)
{
	static const char *const prefixes[] = {"docker.io/library/", "docker.io/"};
	const char *at, *slash, *colon;

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (str_prefix(full, prefixes[i])) {
			full += strlen(prefixes[i]);
			break;
		}
	}
	at = strchr(full, '@');
	slash = strrchr(full, '/');
	colon = strchr(slash ? slash : full, ':');
	if (at && (!colon || colon > at))
		colon = NULL;
	*name = xstrndup(full, (size_t)((colon ? colon : at ? at : full + strlen(full)) - full));
	*tag = colon ? xstrndup(colon + 1, strcspn(colon + 1, "@")) : xstrdup("<none>");
}

static void put_digest(struct table *t, const char *digest, bool whole)
{
	const char *hex = strchr(digest, ':');

	if (whole)
		table_cell(t, digest);
	else
		table_cellf(t, "%.12s", hex ? hex + 1 : digest);
}

char *size_text(int64_t bytes)
{
	static const char *const units[] = {"KB", "MB", "GB", "TB"};
	double v = (double)bytes / 1000;
	size_t u = 0;

	while (v >= 1000 && u + 1 < ARRAY_SIZE(units)) {
		v /= 1000;
		u++;
	}
	return xasprintf("%.1f %s", v, units[u]);
}

static void put_size(struct table *t, int64_t bytes)
{
	CLEANUP_FREE char *text = size_text(bytes);

	table_cell(t, text);
}

static bool is_attestation(struct json_object *variant)
{
	return str_eq(json_str(json_obj(variant, "platform"), "os", ""), "unknown");
}

static void list_verbose(struct table *t, struct json_object *image, bool whole)
{
	struct json_object *variants = json_arr(image, "variants"),
			   *config = json_obj(image, "configuration");
	CLEANUP_FREE char *name = NULL, *tag = NULL;

	image_split(image_name(image), &name, &tag);
	for (size_t i = 0; variants && i < json_object_array_length(variants); i++) {
		struct json_object *v = json_object_array_get_idx(variants, i);
		struct json_object *platform = json_obj(v, "platform");

		if (is_attestation(v))
			continue;
		table_cell(t, name);
		table_cell(t, tag);
		put_digest(t, json_str(json_obj(config, "descriptor"), "digest", ""), whole);
		table_cell(t, json_str(platform, "os", ""));
		table_cell(t, json_str(platform, "architecture", ""));
		table_cell(t, json_str(platform, "variant", ""));
		put_size(t, json_int(v, "size", 0));
		table_cell(t, json_str(json_obj(v, "config"), "created", ""));
		put_digest(t, json_str(v, "digest", ""), whole);
	}
}

static void list_plain(struct table *t, struct json_object *image, bool whole)
{
	struct json_object *config = json_obj(image, "configuration");
	CLEANUP_FREE char *name = NULL, *tag = NULL;

	image_split(image_name(image), &name, &tag);
	table_cell(t, name);
	table_cell(t, tag);
	put_digest(t, json_str(json_obj(config, "descriptor"), "digest", ""), whole);
}

static void list_quiet(struct json_object *image)
{
	CLEANUP_FREE char *name = NULL, *tag = NULL, *line = NULL;
	const char *at = strchr(image_name(image), '@');

	image_split(image_name(image), &name, &tag);
	line = at ? xasprintf("%s%s", name, at) : xasprintf("%s:%s", name, tag);
	cli_out(line);
}

/* Those that the name and the filters leave; *images borrows from *reply. */
static int list_images(struct cli *c, const struct opt_args *a, struct json_object **reply,
		       struct json_object **images, struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);
	CLEANUP_FREE char *name = a->npos ? xasprintf("reference=%s", a->pos[0]) : NULL;
	const char *named[] = {name, NULL};

	if (cli_call(c, "image.list", NULL, reply, err) ||
	    json_need_arr(*reply, "images", images, err) || image_filter(*images, filters, err))
		return -1;
	return name ? image_filter(*images, named, err) : 0;
}

static int run_image_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const plain[] = {"NAME", "TAG", "DIGEST", NULL};
	static const char *const verbose[] = {"NAME",      "TAG",     "INDEX DIGEST",
					      "OS",        "ARCH",    "VARIANT",
					      "FULL SIZE", "CREATED", "MANIFEST DIGEST",
					      NULL};
	bool quiet = opt_has(a, "quiet"), wide = opt_has(a, "verbose"),
	     whole = opt_has(a, "no-trunc");
	const char *format = opt_str(a, "format", NULL);
	enum format f = format_parse(format);
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *images;

	if (quiet && wide)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "cannot use flag --quiet and --verbose together");
	if (wide && (f != FORMAT_TABLE || template_is(format)))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "--verbose is for the table format only");
	if (list_images(c, a, &reply, &images, err))
		return -1;
	if (template_is(format))
		return template_list(format, images, image_field, err);
	if (f != FORMAT_TABLE) {
		format_print(f, images);
		return 0;
	}
	table_init(&t, wide ? verbose : plain);
	for (size_t i = 0; i < json_object_array_length(images); i++) {
		struct json_object *o = json_object_array_get_idx(images, i);

		if (quiet)
			list_quiet(o);
		else if (wide)
			list_verbose(&t, o, whole);
		else
			list_plain(&t, o, whole);
	}
	if (!quiet) {
		table_render(&t, &b);
		fwrite(b.data, 1, b.len, stdout);
	}
	return 0;
}

const struct opt_cmd cmd_image_list = {
	.name = "list",
	.aliases = "ls",
	.summary = "List images",
	.group = GROUP,
	.opts = image_list_opts,
	.pos = image_list_pos,
	.notes =
		"A reference filter is a pattern such as 'alpine:3.*'; those are alternatives, all "
		"others must fit. A dangling image has no tag; before= and since= name another "
		"image, "
		"until= a date or a time such as 24h ago. Fields of a template: ID, Repository, "
		"Tag, Reference, Digest, CreatedAt, Size, Os, Architecture, Config.Cmd and its "
		"like; {{json .}} is the whole object. A template that begins with 'table ' gives "
		"a header.",
	.run = run_image_list,
};

/* ---- inspect ---- */

static const struct opt opt_image_inspect[] = {
	{"format", 'f', OPT_VALUE, "format", "json",
	 "A template of fields such as '{{.Id}}' or '{{.Config.Cmd}}' instead of JSON",
	 OPT_TEMPLATE},
	{0},
};
static const struct opt *const image_inspect_opts[] = {opt_image_inspect, NULL};
static const struct opt_pos image_inspect_pos[] = {{"images", POS_SOME,
						    "Image references, or the beginnings of ids"},
						   {0}};

struct json_object *image_references(const struct opt_args *a)
{
	struct json_object *params = json_object_new_object(), *refs = json_object_new_array();

	for (size_t i = 0; i < a->npos; i++)
		json_add_str(refs, a->pos[i]);
	json_set(params, "references", refs);
	return params;
}

static int run_image_inspect(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_BUF struct buf b = {0};
	struct error *e = NULL;
	struct json_object *images;

	if (cli_call(c, "image.inspect", image_references(a), &reply, &e)) {
		if (e && e->code == ERR_NOT_FOUND && e->msg && !strstr(e->msg, "image not found"))
			error_wrap(&e, "image not found");
		return error_move(err, e);
	}
	if (json_need_arr(reply, "images", &images, err))
		return -1;
	if (template_is(opt_str(a, "format", NULL)))
		return template_list(opt_str(a, "format", NULL), images, image_field, err);
	format_json(&b, images, true);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

const struct opt_cmd cmd_image_inspect = {
	.name = "inspect",
	.summary = "Display information about one or more images",
	.group = GROUP,
	.opts = image_inspect_opts,
	.pos = image_inspect_pos,
	.run = run_image_inspect,
};

const struct opt_cmd cmd_images = {
	.name = "images",
	.summary = "Short for `container image list`",
	.group = GROUP,
	.opts = image_list_opts,
	.pos = image_list_pos,
	.run = run_image_list,
};
