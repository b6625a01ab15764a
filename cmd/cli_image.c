/* SPDX-License-Identifier: Apache-2.0 */
/* cli_image.c - image pull, load, list, inspect, delete, and their short forms at the root. */
#include <fcntl.h>
#include <stdio.h>
#include "cmd/cli_config.h"
#include "cmd/cli_image.h"
#include "cmd/progress.h"
#include "cmd/table.h"
#include "cmd/template.h"

#define GROUP IMAGE_GROUP

const struct opt opt_image_platform[] = {
	{"arch", 'a', OPT_VALUE, "arch", NULL, "Limit to this architecture", 0},
	{"os", 0, OPT_VALUE, "os", NULL, "Limit to this operating system", 0},
	{"platform", 0, OPT_VALUE, "platform", NULL,
	 "Limit to this platform: os/arch[/variant] [environment: CONTAINER_DEFAULT_PLATFORM]", 0},
	{0},
};

/* ---- pull ---- */

static const struct opt opt_pull[] = {
	{"scheme", 0, OPT_VALUE, "scheme", "http|https|auto", "Scheme to use with the registry", 0},
	{"progress", 0, OPT_VALUE, "type", PROGRESS_CHOICES, "How to show progress", 0},
	{"max-concurrent-downloads", 0, OPT_VALUE, "n", NULL,
	 "Parallel downloads, 3 when not given", 0},
	{0},
};
static const struct opt *const pull_opts[] = {opt_pull, opt_image_platform, NULL};
static const struct opt_pos pull_pos[] = {{"reference", POS_ONE, "Image reference"}, {0}};

int image_call(struct cli *c, const struct opt_args *a, const char *what, const char *method,
	       struct json_object *params, const int *fds, size_t nfds, struct json_object **result,
	       struct error **err)
{
	struct progress p;
	int rc;

	if (cli_connect(c, err)) {
		json_object_put(params);
		return -1;
	}
	progress_init(&p, opt_str(a, "progress", "auto"));
	progress_task(&p, 1, 1, what);
	rc = rpc_call(c->conn, method, params, fds, nfds, progress_event, &p, -1, result, NULL,
		      NULL, err);
	progress_end(&p);
	return rc;
}

static int pull_params(const struct opt_args *a, struct json_object *params, struct error **err)
{
	const char *text = opt_str(a, "max-concurrent-downloads", "3");
	CLEANUP_FREE char *platform = NULL;
	bool from_env;
	int64_t n;

	if (parse_i64(text, &n) || n < 1 || n > 1024)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "maximum number of concurrent downloads must be greater than 0");
	if (platform_flags(a, getenv("CONTAINER_DEFAULT_PLATFORM"), true, &platform, &from_env,
			   err))
		return -1;
	if (from_env)
		cli_note("using platform %s from CONTAINER_DEFAULT_PLATFORM", platform);
	json_set_str(params, "reference", a->pos[0]);
	json_set_str(params, "scheme", opt_str(a, "scheme", "auto"));
	json_set_str(params, "platform", platform);
	json_set_bool(params, "allPlatforms", !platform);
	json_set_int(params, "maxConcurrentDownloads", n);
	return 0;
}

const char *image_name(struct json_object *image)
{
	return json_str(json_obj(image, "configuration"), "name", "");
}

static int run_pull(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *result = NULL;
	CLEANUP_JSON struct json_object *params = json_object_new_object();

	if (pull_params(a, params, err) || image_credentials(a->pos[0], params, err) ||
	    image_call(c, a, "Fetching image", "image.pull", STEAL(params), NULL, 0, &result, err))
		return -1;
	cli_out(image_name(json_obj(result, "image")));
	return 0;
}

static const struct opt_cmd cmd_image_pull = {
	.name = "pull",
	.summary = "Pull an image",
	.group = GROUP,
	.opts = pull_opts,
	.pos = pull_pos,
	.notes = "Without a platform all platforms of the image are fetched.",
	.run = run_pull,
};

/* ---- load ---- */

static const struct opt opt_load[] = {
	{"input", 'i', OPT_VALUE, "path", NULL, "Archive to read; standard input when not given",
	 0},
	{"force", 'f', OPT_FLAG, NULL, NULL,
	 "Skip unsafe members with a warning instead of failing", 0},
	{0},
};
static const struct opt *const load_opts[] = {opt_load, NULL};

static int run_load(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *result = NULL;
	CLEANUP_CLOSE int file = -1;
	const char *path = opt_str(a, "input", NULL);
	struct json_object *params, *images;
	int fd = STDIN_FILENO;

	if (path && strcmp(path, "-")) {
		file = fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_sys(err, errno, "open %s", path);
	}
	params = json_object_new_object();
	json_set_bool(params, "force", opt_has(a, "force"));
	if (image_call(c, a, "Loading images", "image.load", params, &fd, 1, &result, err))
		return -1;
	images = json_arr(result, "images");
	for (size_t i = 0; images && i < json_object_array_length(images); i++)
		cli_out(image_name(json_object_array_get_idx(images, i)));
	return 0;
}

static const struct opt_cmd cmd_image_load = {
	.name = "load",
	.summary = "Load images from an OCI or Docker archive",
	.group = GROUP,
	.opts = load_opts,
	.run = run_load,
};

/* ---- list ---- */

static const struct opt opt_image_list[] = {
	{"filter", 'f', OPT_LIST, "filter", NULL,
	 "Only those that fit: reference=, label= or dangling= and a value", 0},
	{"format", 0, OPT_VALUE, "format", FORMAT_CHOICES,
	 "Format of the output; also a template of fields such as '{{.Repository}}:{{.Tag}}'",
	 OPT_TEMPLATE},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "Print only the references", 0},
	{"verbose", 'v', OPT_FLAG, NULL, NULL, "Print one row per platform, with sizes", 0},
	{0},
};
static const struct opt *const image_list_opts[] = {opt_image_list, NULL};

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

static void put_digest(struct table *t, const char *digest)
{
	const char *hex = strchr(digest, ':');

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

static void list_verbose(struct table *t, struct json_object *image)
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
		put_digest(t, json_str(json_obj(config, "descriptor"), "digest", ""));
		table_cell(t, json_str(platform, "os", ""));
		table_cell(t, json_str(platform, "architecture", ""));
		table_cell(t, json_str(platform, "variant", ""));
		put_size(t, json_int(v, "size", 0));
		table_cell(t, json_str(json_obj(v, "config"), "created", ""));
		put_digest(t, json_str(v, "digest", ""));
	}
}

static void list_plain(struct table *t, struct json_object *image)
{
	struct json_object *config = json_obj(image, "configuration");
	CLEANUP_FREE char *name = NULL, *tag = NULL;

	image_split(image_name(image), &name, &tag);
	table_cell(t, name);
	table_cell(t, tag);
	put_digest(t, json_str(json_obj(config, "descriptor"), "digest", ""));
}

static void list_quiet(struct json_object *image)
{
	CLEANUP_FREE char *name = NULL, *tag = NULL, *line = NULL;
	const char *at = strchr(image_name(image), '@');

	image_split(image_name(image), &name, &tag);
	line = at ? xasprintf("%s%s", name, at) : xasprintf("%s:%s", name, tag);
	cli_out(line);
}

static int run_image_list(struct cli *c, const struct opt_args *a, struct error **err)
{
	static const char *const plain[] = {"NAME", "TAG", "DIGEST", NULL};
	static const char *const verbose[] = {"NAME",      "TAG",     "INDEX DIGEST",
					      "OS",        "ARCH",    "VARIANT",
					      "FULL SIZE", "CREATED", "MANIFEST DIGEST",
					      NULL};
	bool quiet = opt_has(a, "quiet"), wide = opt_has(a, "verbose");
	const char *format = opt_str(a, "format", NULL);
	enum format f = format_parse(format);
	CLEANUP_JSON struct json_object *reply = NULL;
	CLEANUP_TABLE struct table t = {0};
	CLEANUP_BUF struct buf b = {0};
	struct json_object *images;
	size_t n;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);

	if (quiet && wide)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "cannot use flag --quiet and --verbose together");
	if (image_filters_check(filters, err))
		return -1;
	if (wide && (f != FORMAT_TABLE || template_is(format)))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "--verbose is for the table format only");
	if (cli_call(c, "image.list", NULL, &reply, err) ||
	    json_need_arr(reply, "images", &images, err))
		return -1;
	for (size_t i = json_object_array_length(images); i-- > 0;)
		if (!image_matches(json_object_array_get_idx(images, i), filters))
			json_object_array_del_idx(images, i, 1);
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
			list_verbose(&t, o);
		else
			list_plain(&t, o);
	}
	if (!quiet) {
		table_render(&t, &b);
		fwrite(b.data, 1, b.len, stdout);
	}
	return 0;
}

static const struct opt_cmd cmd_image_list = {
	.name = "list",
	.aliases = "ls",
	.summary = "List images",
	.group = GROUP,
	.opts = image_list_opts,
	.notes =
		"A reference filter is a pattern such as 'alpine:3.*'; those are alternatives, all "
		"others must fit. A dangling image has no tag. Fields of a template: ID, "
		"Repository, Tag, Reference, Digest, CreatedAt, Size; {{json .}} is the whole "
		"object. A template that begins with 'table ' gives a header.",
	.run = run_image_list,
};

/* ---- inspect ---- */

static const struct opt_pos image_inspect_pos[] = {{"images", POS_SOME, "Image references"}, {0}};

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
	format_json(&b, images, true);
	fwrite(b.data, 1, b.len, stdout);
	return 0;
}

static const struct opt_cmd cmd_image_inspect = {
	.name = "inspect",
	.summary = "Display information about one or more images",
	.group = GROUP,
	.pos = image_inspect_pos,
	.run = run_image_inspect,
};

/* ---- delete ---- */

static const struct opt opt_image_delete[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Delete all images", 0},
	{"force", 'f', OPT_FLAG, NULL, NULL, "Ignore images that are not found", 0},
	{0},
};
static const struct opt *const image_delete_opts[] = {opt_image_delete, NULL};
static const struct opt_pos image_delete_pos[] = {{"images", POS_MANY, "Image references"}, {0}};

static int all_references(struct cli *c, struct json_object **params, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *images, *refs = json_object_new_array();

	*params = json_object_new_object();
	json_set(*params, "references", refs);
	if (cli_call(c, "image.list", NULL, &reply, err) ||
	    json_need_arr(reply, "images", &images, err))
		return -1;
	for (size_t i = 0; i < json_object_array_length(images); i++)
		json_add_str(refs, image_name(json_object_array_get_idx(images, i)));
	return 0;
}

void image_print_deleted(struct json_object *reply)
{
	struct json_object *gone = json_arr(reply, "deleted");
	int64_t reclaimed = json_int(reply, "reclaimed", 0);

	for (size_t i = 0; gone && i < json_object_array_length(gone); i++)
		cli_out(json_object_get_string(json_object_array_get_idx(gone, i)));
	if (reclaimed > 0)
		cli_note("Reclaimed %.1f MB in disk space", (double)reclaimed / 1e6);
}

static int run_image_delete(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL, *params = NULL;

	if (opt_has(a, "all") && a->npos)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "explicitly supplied image(s) conflict with the --all flag");
	if (!opt_has(a, "all") && !a->npos)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "no images specified and --all not supplied");
	if (opt_has(a, "all")) {
		if (all_references(c, &params, err))
			return -1;
	} else {
		params = image_references(a);
	}
	json_set_bool(params, "force", opt_has(a, "force"));
	if (cli_call(c, "image.delete", STEAL(params), &reply, err))
		return -1;
	image_print_deleted(reply);
	return 0;
}

static const struct opt_cmd cmd_image_delete = {
	.name = "delete",
	.aliases = "rm",
	.summary = "Delete one or more images",
	.group = GROUP,
	.opts = image_delete_opts,
	.pos = image_delete_pos,
	.run = run_image_delete,
};

/* ---- the group and the short forms ---- */

static const struct opt_cmd *const image_subs[] = {&cmd_image_delete,
						   &cmd_image_history,
						   &cmd_image_inspect,
						   &cmd_image_list,
						   &cmd_image_load,
						   &cmd_image_prune,
						   &cmd_image_pull,
						   &cmd_image_push,
						   &cmd_image_save,
						   &cmd_image_tag,
						   NULL};

const struct opt_cmd cmd_image = {
	.name = "image",
	.aliases = "i",
	.summary = "Manage images",
	.group = GROUP,
	.sub = image_subs,
};

const struct opt_cmd cmd_pull = {
	.name = "pull",
	.summary = "Short for `container image pull`",
	.group = GROUP,
	.opts = pull_opts,
	.pos = pull_pos,
	.run = run_pull,
};

const struct opt_cmd cmd_images = {
	.name = "images",
	.summary = "Short for `container image list`",
	.group = GROUP,
	.opts = image_list_opts,
	.run = run_image_list,
};

const struct opt_cmd cmd_rmi = {
	.name = "rmi",
	.summary = "Short for `container image delete`",
	.group = GROUP,
	.opts = image_delete_opts,
	.pos = image_delete_pos,
	.run = run_image_delete,
};

const struct opt_cmd cmd_load = {
	.name = "load",
	.summary = "Short for `container image load`",
	.group = GROUP,
	.opts = load_opts,
	.run = run_load,
};
