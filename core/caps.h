/* SPDX-License-Identifier: Apache-2.0 */
/* caps.h - the names of Linux capabilities (capabilities(7)), for the host and the guest alike. */
#ifndef CORE_CAPS_H
#define CORE_CAPS_H

#include "core/base.h"

#define CAPS_ALL   ((1ull << CAPS_COUNT) - 1)
#define CAPS_COUNT 41 /* CAP_CHOWN .. CAP_CHECKPOINT_RESTORE */

/* The OCI runtimes' default set, as a mask of 1 << number. */
extern const uint64_t caps_default;

/* caps_name: "CAP_CHOWN" for 0 …; NULL for a number that is none. */
const char *caps_name(unsigned n);
/* caps_find: the number of "CAP_CHOWN", "chown", … in any case; -1 for no capability. */
int caps_find(const char *name);

#endif
