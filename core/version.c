/* SPDX-License-Identifier: Apache-2.0 */
/* version.c - the Makefile passes these for this file only, so a new commit rebuilds little. */
#include "core/version.h"

const char version_release[] = RELEASE;
const char version_commit[] = COMMIT;
const char version_build[] = BUILDTYPE;
