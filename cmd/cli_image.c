/* SPDX-License-Identifier: Apache-2.0 */
/* cli_image.c - image pull, load and delete, their short forms at the root, and the group. */
#include <fcntl.h>
#include <stdio.h>
#include "cmd/cli_config.h"
#include "cmd/cli_image.h"
#include "cmd/progress.h"

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
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "No progress; as --progress none", 0},
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
	progress_init(&p, opt_has(a, "quiet") ? "none" : opt_str(a, "progress", "auto"));
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
	{"progress", 0, OPT_VALUE, "type", PROGRESS_CHOICES, "How to show progress", 0},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "No progress; as --progress none", 0},
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

/* ---- delete ---- */

static const struct opt opt_image_delete[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Delete all images", 0},
	{"force", 'f', OPT_FLAG, NULL, NULL,
	 "Ignore images that are not found; delete all names of an image given by id", 0},
	{0},
};
static const struct opt *const image_delete_opts[] = {opt_image_delete, NULL};
static const struct opt_pos image_delete_pos[] = {{"images", POS_MANY,
						   "Image references, or the beginnings of ids"},
						  {0}};

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

	for (size_t i = 0; gone && i < json_object_array_length(gone); i++)
		cli_out(json_object_get_string(json_object_array_get_idx(gone, i)));
}

/* What went before the call failed comes as an event. */
static void on_delete_event(void *arg, struct json_object *ev)
{
	image_print_deleted(ev);
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
	if (cli_connect(c, err) || rpc_call(c->conn, "image.delete", STEAL(params), NULL, 0,
					    on_delete_event, NULL, -1, &reply, NULL, NULL, err))
		return -1;
	image_print_deleted(reply);
	if (json_int(reply, "reclaimed", 0) > 0)
		cli_reclaimed(json_int(reply, "reclaimed", 0));
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
