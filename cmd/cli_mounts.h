/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_mounts.h - from --tmpfs, --mount and -v to the mounts of a configuration.
 *
 * Nothing here talks to a server; the host's file system is asked whether a source is there. All errors name what was given.
 */
#ifndef CMD_CLI_MOUNTS_H
#define CMD_CLI_MOUNTS_H

#include "cmd/opt.h"
#include "core/json.h"

/*
 * mounts_build: sets "mounts" in out: [{type, source, destination, options}], where type has one member: tmpfs, virtiofs, or volume {name,
 * format, cache, sync}. Sources of virtiofs are absolute paths without links; a volume's source is its name, and both are "" for one
 * that has no name yet (an anonymous one). Destinations are absolute, without "." and "//", each is there once. Errors: invalidArgument;
 * notFound for a source that is not there.
 */
int mounts_build(const struct opt_args *a, struct json_object *out, struct error **err);

#endif
