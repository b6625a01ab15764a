/* SPDX-License-Identifier: Apache-2.0 */
/* volume.h - what a volume may be called. Pure functions, for the CLI and the apiserver. */
#ifndef CMD_VOLUME_H
#define CMD_VOLUME_H

#include "core/str.h"

#define VOLUME_NAME_MAX 255

/* volume_name_ok: begins with a letter or a digit, goes on with these, '_', '.' and '-'; 1 to VOLUME_NAME_MAX bytes. So it is a file's name,
 * never hidden and never a path. */
bool volume_name_ok(const char *name);

#endif
