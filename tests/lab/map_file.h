/* SPDX-License-Identifier: Apache-2.0 */
/* map_file.h - what the tools that start machines by themselves do with files. */
#ifndef TESTS_LAB_MAP_FILE_H
#define TESTS_LAB_MAP_FILE_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "core/error.h"

/* map_file: a whole file, for as long as the process lives. 0 or -1. */
static inline int map_file(const char *path, struct iovec *iov, struct error **err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st))
		return error_sys(err, errno, "open %s", path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return error_sys(err, errno, "map %s", path);
	*iov = (struct iovec){.iov_base = p, .iov_len = (size_t)st.st_size};
	return 0;
}

/* fail: says what went wrong, frees it; returns status. */
static inline int fail(const char *who, struct error *err, int status)
{
	CLEANUP_FREE char *text = error_text(err);

	fprintf(stderr, "%s: %s\n", who, text);
	error_free(err);
	return status;
}

#endif
