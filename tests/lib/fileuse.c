/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fileuse FILE: does with FILE what busybox has no tool for, in a guest. Through a shared mapping each byte becomes its complement; it gets an
 * attribute, which is read and removed again; FILE.copy is a copy made by the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int failed(const char *what)
{
	perror(what);
	return 1;
}

static int complement(int fd, size_t len)
{
	unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	size_t i;

	if (p == MAP_FAILED)
		return failed("mmap");
	for (i = 0; i < len; i++)
		p[i] = (unsigned char)~p[i];
	return msync(p, len, MS_SYNC) ? failed("msync") : 0;
}

static int attribute(int fd)
{
	char value[8] = "", names[64] = "";

	/* Not every file system of a host has them. */
	if (fsetxattr(fd, "user.test", "value", 5, 0))
		return errno == EOPNOTSUPP ? 0 : failed("setxattr");
	if (fgetxattr(fd, "user.test", value, sizeof(value)) != 5 || strcmp(value, "value"))
		return failed("getxattr");
	if (flistxattr(fd, names, sizeof(names)) <= 0 || strcmp(names, "user.test"))
		return failed("listxattr");
	if (fremovexattr(fd, "user.test") || fgetxattr(fd, "user.test", value, 8) >= 0)
		return failed("removexattr");
	return 0;
}

static int copy(int fd, const char *name, size_t len)
{
	char path[4096];
	loff_t from = 0;
	int to;

	snprintf(path, sizeof(path), "%s.copy", name);
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (to < 0)
		return failed(path);
	while ((size_t)from < len)
		if (copy_file_range(fd, &from, to, NULL, len - (size_t)from, 0) <= 0)
			return failed("copy_file_range");
	return 0;
}

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDWR) : -1;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || !st.st_size)
		return failed("open");
	return complement(fd, (size_t)st.st_size) || attribute(fd) ||
	       copy(fd, argv[1], (size_t)st.st_size);
}
