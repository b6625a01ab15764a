/* SPDX-License-Identifier: Apache-2.0 */
/* cli_volume.h - volumes that a container's configuration asks for. */
#ifndef CMD_CLI_VOLUME_H
#define CMD_CLI_VOLUME_H

#include "cmd/cli.h"

/* volumes_make: makes the volumes that the mounts of config name and that are not there, with a warning, and one for each mount that names none,
 * whose name is put in. made: the names of those, for volumes_forget(). */
int volumes_make(struct cli *c, struct json_object *config, struct strv *made, struct error **err);
/* volumes_forget: deletes them again when nothing came of the container. */
void volumes_forget(struct cli *c, const struct strv *made);

/* volume_field: a field of a template for one of volume.list's; owned by the caller. */
char *volume_field(struct json_object *o, const char *name);

#endif
