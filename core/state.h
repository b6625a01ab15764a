/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - JSON files that survive a crash at any point: written to a temporary name in the same
 * directory, fsynced, renamed, and the directory fsynced.
 */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include "core/json.h"

#define STATE_MAX_BYTES (16u << 20)

/* state_write: o stays the caller's. Mode 0600. */
int state_write(int dirfd, const char *name, struct json_object *o, struct error **err);
/* state_write_text: the same for raw bytes. */
int state_write_text(int dirfd, const char *name, const void *p, size_t n, mode_t mode,
		     struct error **err);
/* state_read: NULL and notFound when absent; NULL and internalError when it does not parse. */
struct json_object *state_read(int dirfd, const char *name, struct error **err);

#endif
