/* SPDX-License-Identifier: Apache-2.0 */
/* version.h - what the Makefile says of this build. */
#ifndef CORE_VERSION_H
#define CORE_VERSION_H

extern const char version_release[]; /* "0.1.0" */
extern const char version_commit[];  /* short hash, "unknown" outside a checkout */
extern const char version_build[];   /* "release" or "debug" */

#endif
