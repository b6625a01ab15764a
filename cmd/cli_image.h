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

/* cli_image_show.c */
extern const struct opt_cmd cmd_image_history;
/* image_filters_check: each "key=value" is a filter that is known; else -1 and invalidArgument. */
int image_filters_check(const char *const *filters, struct error **err);
/* image_matches: references are alternatives, all others must agree. */
bool image_matches(struct json_object *image, const char *const *filters);
/* image_field: for template_list(). */
char *image_field(struct json_object *image, const char *name);

/* size_text: "12.3 MB"; the caller owns it. */
char *size_text(int64_t bytes);
const char *image_name(struct json_object *image);
/* image_print_deleted: names to stdout, what it freed to stderr. */
void image_print_deleted(struct json_object *reply);

/* image_credentials: puts {"user", "secret"} into the params of a pull or push when the environment or docker's
 * configuration has a login for the reference's registry (cli_credentials.c). */
int image_credentials(const char *reference, struct json_object *params, struct error **err);

#endif
