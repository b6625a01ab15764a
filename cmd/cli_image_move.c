/* SPDX-License-Identifier: Apache-2.0 */
/* cli_image_move.c - image tag, push, save and prune. */
#include <fcntl.h>
#include <stdio.h>
#include "cmd/cli_config.h"
#include "cmd/cli_image.h"
#include "cmd/output.h"
#include "cmd/progress.h"

#define GROUP IMAGE_GROUP

/* ---- tag ---- */

static const struct opt_pos tag_pos[] = {{"source", POS_ONE, "Existing reference, or image id"},
					 {"target", POS_ONE, "New reference"},
					 {0}};

static int run_tag(struct cli *c, const struct opt_args *a, struct error **err)
{
	struct json_object *params = json_object_new_object();

	json_set_str(params, "source", a->pos[0]);
	json_set_str(params, "target", a->pos[1]);
	if (cli_call(c, "image.tag", params, NULL, err))
		return -1;
	cli_out(a->pos[1]);
	return 0;
}

const struct opt_cmd cmd_image_tag = {
	.name = "tag",
	.summary = "Give an image another name",
	.group = GROUP,
	.pos = tag_pos,
	.notes = "A name that exists is moved.",
	.run = run_tag,
};

const struct opt_cmd cmd_tag = {
	.name = "tag",
	.summary = "Short for `container image tag`",
	.group = GROUP,
	.pos = tag_pos,
	.run = run_tag,
};

/* ---- push ---- */

static const struct opt opt_push[] = {
	{"scheme", 0, OPT_VALUE, "scheme", "http|https|auto", "Scheme to use with the registry", 0},
	{"progress", 0, OPT_VALUE, "type", PROGRESS_CHOICES, "How to show progress", 0},
	{"quiet", 'q', OPT_FLAG, NULL, NULL, "No progress; as --progress none", 0},
	{0},
};
static const struct opt *const push_opts[] = {opt_push, opt_image_platform, NULL};
static const struct opt_pos push_pos[] = {{"reference", POS_ONE, "Image reference"}, {0}};

/* {"platform"?} from the flags. */
static int put_platform(const struct opt_args *a, struct json_object *params, struct error **err)
{
	CLEANUP_FREE char *platform = NULL;
	bool from_env;

	if (platform_flags(a, getenv("CONTAINER_DEFAULT_PLATFORM"), true, &platform, &from_env,
			   err))
		return -1;
	if (from_env)
		cli_note("using platform %s from CONTAINER_DEFAULT_PLATFORM", platform);
	json_set_str(params, "platform", platform);
	return 0;
}

static int run_push(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *params = json_object_new_object(), *result = NULL;

	json_set_str(params, "reference", a->pos[0]);
	json_set_str(params, "scheme", opt_str(a, "scheme", "auto"));
	if (put_platform(a, params, err) || image_credentials(a->pos[0], params, err) ||
	    image_call(c, a, "Pushing image", "image.push", STEAL(params), NULL, 0, &result, err))
		return -1;
	cli_out(json_str(result, "reference", ""));
	return 0;
}

const struct opt_cmd cmd_image_push = {
	.name = "push",
	.summary = "Push an image",
	.group = GROUP,
	.opts = push_opts,
	.pos = push_pos,
	.notes = "Without a platform all variants in the store are sent. An index that names "
		 "more than is sent is replaced by one that names what is. What the registry has "
		 "is not sent again.",
	.run = run_push,
};

const struct opt_cmd cmd_push = {
	.name = "push",
	.summary = "Short for `container image push`",
	.group = GROUP,
	.opts = push_opts,
	.pos = push_pos,
	.run = run_push,
};

/* ---- save ---- */

static const struct opt opt_save[] = {
	{"output", 'o', OPT_VALUE, "path", NULL, "File to write; standard output when not given",
	 0},
	{"format", 0, OPT_VALUE, "format", "oci-archive|docker-archive",
	 "Format of the archive: an OCI image layout, or what docker save writes", 0},
	{"progress", 0, OPT_VALUE, "type", PROGRESS_CHOICES, "How to show progress", 0},
	{0},
};
static const struct opt *const save_opts[] = {opt_save, opt_image_platform, NULL};
static const struct opt_pos save_pos[] = {{"references", POS_SOME, "Image references"}, {0}};

static int run_save(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *params = image_references(a), *result = NULL;
	CLEANUP(output_close) struct output out;
	struct json_object *names;

	json_set_str(params, "format", opt_str(a, "format", "oci-archive"));
	if (output_open(&out, opt_str(a, "output", NULL), err) || put_platform(a, params, err) ||
	    image_call(c, a, "Saving images", "image.save", STEAL(params), &out.fd, 1, &result,
		       err) ||
	    output_commit(&out, err))
		return -1;
	names = json_arr(result, "names");
	for (size_t i = 0; names && i < json_object_array_length(names); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));

		/* Behind the archive on standard output there must be nothing. */
		if (out.path)
			cli_out(name);
		else
			cli_note("%s", name);
	}
	return 0;
}

const struct opt_cmd cmd_image_save = {
	.name = "save",
	.summary = "Write images to an archive",
	.group = GROUP,
	.opts = save_opts,
	.pos = save_pos,
	.notes = "Without a platform all variants in the store are written. An index that names "
		 "more than is written is replaced by one that names what is. What came in "
		 "docker's media types is written in OCI's too, which is what others read; a load "
		 "here brings back what it was. A docker-archive "
		 "holds one variant: the platform given, else the host's.",
	.run = run_save,
};

const struct opt_cmd cmd_save = {
	.name = "save",
	.summary = "Short for `container image save`",
	.group = GROUP,
	.opts = save_opts,
	.pos = save_pos,
	.run = run_save,
};

/* ---- prune ---- */

static const struct opt opt_prune[] = {
	{"all", 'a', OPT_FLAG, NULL, NULL, "Also tagged images that no container uses", 0},
	{"filter", 0, OPT_LIST, "filter", NULL,
	 "Only those that fit: until= or label= and a value, as with image list", 0},
	{"force", 'f', OPT_FLAG, NULL, NULL, "As without: nothing is asked", OPT_HIDDEN},
	{0},
};
static const struct opt *const prune_opts[] = {opt_prune, NULL};

/* {"only": names} from the filters, if there are any. */
static int put_only(struct cli *c, const struct opt_args *a, struct json_object *params,
		    struct error **err)
{
	CLEANUP_JSON struct json_object *reply = NULL;
	struct json_object *images, *only;
	size_t n;
	CLEANUP_FREE const char **filters = opt_list(a, "filter", &n);

	if (!n)
		return 0;
	if (cli_call(c, "image.list", NULL, &reply, err) ||
	    json_need_arr(reply, "images", &images, err) || image_filter(images, filters, err))
		return -1;
	only = json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(images); i++)
		json_add_str(only, image_name(json_object_array_get_idx(images, i)));
	json_set(params, "only", only);
	return 0;
}

static int run_prune(struct cli *c, const struct opt_args *a, struct error **err)
{
	CLEANUP_JSON struct json_object *params = json_object_new_object(), *reply = NULL;

	json_set_bool(params, "all", opt_has(a, "all"));
	if (put_only(c, a, params, err) || cli_call(c, "image.prune", STEAL(params), &reply, err))
		return -1;
	image_print_deleted(reply);
	cli_reclaimed(json_int(reply, "reclaimed", 0));
	return 0;
}

const struct opt_cmd cmd_image_prune = {
	.name = "prune",
	.summary = "Delete images without a tag, and content that nothing needs",
	.group = GROUP,
	.opts = prune_opts,
	.notes = "An image that a container uses, running or not, stays.",
	.run = run_prune,
};
