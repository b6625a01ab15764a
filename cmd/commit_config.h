/* SPDX-License-Identifier: Apache-2.0 */
/* commit_config.h - what containers of a committed image run with. Pure functions. */
#ifndef CMD_COMMIT_CONFIG_H
#define CMD_COMMIT_CONFIG_H

#include "core/json.h"

/* commit_config: the "config" of an image made of a container: that of its image (`base`, the whole document), with what the container was
 * created with. The caller owns it. */
struct json_object *commit_config(struct json_object *base, struct json_object *container);

/* commit_change: applies an instruction as in a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER,
 * VOLUME or WORKDIR. -1 and invalidArgument for anything else. */
int commit_change(struct json_object *config, const char *text, struct error **err);

#endif
