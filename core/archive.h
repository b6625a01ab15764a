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

#define ARCHIVE_SPARSE \
	1u /* put: holes stay holes (GNU's sparse format 1.0, which is read always) */
#define ARCHIVE_OWNER \
	2u /* extract: with the owners, set-id bits and attributes in the stream; put: with attributes */
#define ARCHIVE_AS_IS \
	4u /* extract: the destination is a directory that takes all members as they are named */

/* archive_put: writes `path` below dirfd (not followed when it is a link) with all it holds as members that begin
 * with `name` ("" for the contents of a directory alone, "." to be extracted as such). A file with several names in the
 * tree is one member and links to it. Sockets are left out. */
int archive_put(int out, int dirfd, const char *path, const char *name, unsigned flags,
		struct error **err);
/* archive_put_open: the same of a file or directory that is open for reading. */
int archive_put_open(int out, int fd, const char *name, unsigned flags, struct error **err);
/* An archive that is put together of single things. archive_add: `path` below dirfd as member `name`, of a directory the entry alone;
 * one that is gone by now is left out. archive_add_mark: an empty file of root's. */
struct archive;
struct archive *archive_begin(int out, unsigned flags);
int archive_add(struct archive *a, int dirfd, const char *path, const char *name,
		struct error **err);
int archive_add_mark(struct archive *a, const char *name, struct error **err);
void archive_end(struct archive *a);
/* archive_finish: the end of the archive. */
int archive_finish(int out, struct error **err);

/* How the destination's path is opened: path_open_inroot for a container's root, open(2) with dirfd AT_FDCWD. */
typedef int (*archive_open_fn)(int dirfd, const char *path, int flags, mode_t mode,
			       struct error **err);

/*
 * archive_extract: reads a stream to its end and puts what it holds to `dest`, by these rules: into a directory that
 * exists, under the name it has, or, of a stream of ".", all that is in it; to any other name, as that name; a directory
 * onto a file is an error, and so is a file to a missing name with a slash at its end. `dest` is opened through `open`, relative to dirfd.
 */
int archive_extract(int in, int dirfd, const char *dest, archive_open_fn open_fn, unsigned flags,
		    struct error **err);

#endif
