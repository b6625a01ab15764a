/* SPDX-License-Identifier: Apache-2.0 */
/* cli_image.h - what the files of the image commands share. */
#ifndef CMD_CLI_IMAGE_H
#define CMD_CLI_IMAGE_H

#include "cmd/cli.h"

#define IMAGE_GROUP "IMAGE SUBCOMMANDS"

extern const struct opt opt_image_platform[]; /* --arch, --os, --platform */
extern const struct opt_cmd cmd_image_prune, cmd_image_push, cmd_image_save,
	cmd_image_tag; /* cli_image_move.c */

/* image_call: a call with progress on stderr; `what` is its headline. params is consumed, *result the caller's. */
int image_call(struct cli *c, const struct opt_args *a, const char *what, const char *method,
	       struct json_object *params, const int *fds, size_t nfds, struct json_object **result,
	       struct error **err);
/* image_references: {"references": positionals}; the caller's. */
struct json_object *image_references(const struct opt_args *a);
/* image_split: "docker.io/library/alpine:latest" to "alpine" and "latest"; the caller owns both. */
void image_split(const char *full, char **name, char **tag);

/* cli_image_list.c */
extern const struct opt_cmd cmd_image_list, cmd_image_inspect;

/* cli_image_show.c */
extern const struct opt_cmd cmd_image_history;
/* image_filter: removes from an array of images what does not fit: of "reference=" one must, of all others each. -1 when a
 * filter is not understood (invalidArgument) or names an unknown image (notFound). */
int image_filter(struct json_object *images, const char *const *filters, struct error **err);
/* image_field: for template_list(). */
char *image_field(struct json_object *image, const char *name);

/* size_text: "12.3 MB"; the caller owns it. */
char *size_text(int64_t bytes);
const char *image_name(struct json_object *image);
/* image_print_deleted: the names in a reply, to stdout. */
void image_print_deleted(struct json_object *reply);

/* image_credentials: puts {"user", "secret"} into the params of a pull or push when the environment or docker's
 * configuration has a login for the reference's registry (cli_credentials.c). */
int image_credentials(const char *reference, struct json_object *params, struct error **err);

#endif
