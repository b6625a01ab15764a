/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive.h - file trees as tar streams (POSIX ustar with pax paths and sizes), for copying in and out of containers.
 *
 * The stream may come from a container, so nothing in it is believed: names are taken apart and walked one by one
 * without following links, ".." is refused, and what is extracted stays below the one name it was copied to.
 * Everything blocks; one stream at a time in a thread.
 */
#ifndef CORE_ARCHIVE_H
#define CORE_ARCHIVE_H

#include <sys/types.h>
#include "core/error.h"

#define ARCHIVE_ONE_FS 1u /* put: what is mounted inside is an empty directory */
#define ARCHIVE_OWNER  2u /* extract: with the owners in the stream */
#define ARCHIVE_AS_IS \
	4u /* extract: the destination is a directory that takes all members as they are named */

/* archive_put: writes `path` below dirfd (not followed when it is a link) with all it holds as members that begin
 * with `name` ("" for the contents of a directory alone). Sockets are left out. */
int archive_put(int out, int dirfd, const char *path, const char *name, unsigned flags,
		struct error **err);
/* archive_finish: the end of the archive. */
int archive_finish(int out, struct error **err);

/* How the destination's path is opened: path_open_inroot for a container's root, open(2) with dirfd AT_FDCWD. */
typedef int (*archive_open_fn)(int dirfd, const char *path, int flags, mode_t mode,
			       struct error **err);

/*
 * archive_extract: reads a stream to its end and puts what it holds to `dest`, by these rules: into a directory that
 * exists, under the name it has; to any other name, as that name; a directory onto a file is an error, and so is a
 * file to a missing name with a slash at its end. `dest` is opened through `open`, relative to dirfd.
 */
int archive_extract(int in, int dirfd, const char *dest, archive_open_fn open_fn, unsigned flags,
		    struct error **err);

#endif
