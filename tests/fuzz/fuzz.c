/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.c - files and directories for the fuzz targets. */
#include <ftw.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

int fuzz_memfd(const void *p, size_t n)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(!n || pwrite(fd, p, n, 0) == (ssize_t)n);
	return fd;
}

uint64_t fuzz_open_fds(void)
{
	uint64_t set = 0;
	int i;

	for (i = 0; i < 64; i++)
		set |= (uint64_t)(fcntl(i, F_GETFD) >= 0) << i;
	return set;
}

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	return remove(path);
}

static void remove_dir(void)
{
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_dir(void)
{
	if (dir[0])
		return dir;
	snprintf(dir, sizeof(dir), "%s/container-fuzz.XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	FUZZ_CHECK(mkdtemp(dir));
	atexit(remove_dir);
	return dir;
}
