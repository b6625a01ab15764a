/* SPDX-License-Identifier: Apache-2.0 */
/* volume.h - what a volume may be called and asked to be. Pure functions, for the CLI and the apiserver. */
#ifndef CMD_VOLUME_H
#define CMD_VOLUME_H

#include "core/json.h"
#include "oci/oci.h"

#define VOLUME_NAME_MAX  255
#define VOLUME_SIZE      (512ull << 30) /* when none is given; sparse */
#define VOLUME_ANONYMOUS "com.apple.container.resource.anonymous"
#define LABEL_KEY_MAX    128
#define LABEL_MAX        4096 /* bytes of key=value */
#define LABELS_MAX       256

/* volume_name_ok: begins with a letter or a digit, goes on with these, '_', '.' and '-'; 1 to VOLUME_NAME_MAX bytes. So it is a file's name,
 * never hidden and never a path. */
bool volume_name_ok(const char *name);

/* volume_options: from the driver's options, an object of strings (NULL: none): size=<size>, journal=ordered|writeback|journal[:<size>]. Others,
 * and what ext4_volume_check() refuses, are invalidArgument. */
int volume_options(struct json_object *options, uint64_t *size, struct ext4_journal *j,
		   struct error **err);

/* labels_check: an object of strings (NULL: none) whose keys are letters, digits, '.', '_', '-' and '/', beginning and ending with a letter or digit,
 * within the bounds above. */
int labels_check(struct json_object *labels, struct error **err);

/* volume_of: the name of the volume that a mount of a configuration mounts; NULL when it mounts none. Borrowed. */
const char *volume_of(struct json_object *mount);

#endif
