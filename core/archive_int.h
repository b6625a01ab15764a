/* SPDX-License-Identifier: Apache-2.0 */
/* archive_int.h - the ustar header (POSIX.1-2017, pax Interchange Format), for both directions. */
#ifndef CORE_ARCHIVE_INT_H
#define CORE_ARCHIVE_INT_H

#include "core/archive.h"
#include "core/str.h"

#define TAR_BLOCK    512
#define TAR_PATH_MAX 4096
#define TAR_SIZE_MAX 077777777777ull /* 11 octal digits */
#define TAR_ID_MAX   07777777u       /* 7 of them */

#define ARCHIVE_ATTR      "SCHILY.xattr." /* how pax archives name extended attributes */
#define ARCHIVE_ATTRS_MAX 32768u          /* of one file, all together */

/* archive_attr_kept: capabilities, ACLs and what users made; not labels, and not a file system's own. */
bool archive_attr_kept(const char *name);

struct tar_header {
	char name[100];
	char mode[8], uid[8], gid[8], size[12], mtime[12], sum[8];
	char type;
	char link[100];
	char magic[6], version[2];
	char uname[32], gname[32];
	char major[8], minor[8];
	char prefix[155];
	char pad[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a tar header is one block");

#endif
