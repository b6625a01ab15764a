/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blkclear.c DEVICE DIR - in a privileged container: has its kernel clear parts of a disk in each way there is, and says where.
 *
 * The parts belong to files in DIR made for it, a way each, so that the file system on the disk is none the worse. What is on the disk
 * then is read past the page cache. Lines: <way> <offset on the disk> <bytes>; "zeroes" or "data" is what a file has afterwards.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BYTES   (1u << 20)
#define EXTENTS 64

static int must(const char *what, int rc)
{
	if (rc >= 0)
		return rc;
	perror(what);
	exit(1);
}

static int zeroout(int dev, uint64_t off, uint64_t len)
{
	uint64_t r[2] = {off, len};

	return ioctl(dev, BLKZEROOUT, r);
}

static int punch(int dev, uint64_t off, uint64_t len)
{
	return fallocate(dev, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
}

static int discard(int dev, uint64_t off, uint64_t len)
{
	uint64_t r[2] = {off, len};

	return ioctl(dev, BLKDISCARD, r);
}

static const struct {
	const char *name;
	int (*clear)(int dev, uint64_t off, uint64_t len);
} ways[] = {{"zeroout", zeroout}, {"punch", punch}, {"discard", discard}};

static int make_file(const char *dir, const char *name, char *buf)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = must(path, open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));
	memset(buf, 0xa5, BYTES);
	if (write(fd, buf, BYTES) != BYTES)
		must("write", -1);
	must("fsync", fsync(fd));
	return fd;
}

static void clear_file(int dev, int fd, unsigned way)
{
	struct fiemap *m = calloc(1, sizeof(*m) + EXTENTS * sizeof(struct fiemap_extent));
	unsigned i;

	m->fm_length = BYTES;
	m->fm_flags = FIEMAP_FLAG_SYNC;
	m->fm_extent_count = EXTENTS;
	must("FIEMAP", ioctl(fd, FS_IOC_FIEMAP, m));
	for (i = 0; i < m->fm_mapped_extents; i++) {
		const struct fiemap_extent *e = &m->fm_extents[i];

		if (e->fe_flags & ~FIEMAP_EXTENT_LAST)
			exit(printf("extent flags %#x\n", e->fe_flags));
		must(ways[way].name, ways[way].clear(dev, e->fe_physical, e->fe_length));
		printf("%s %llu %llu\n", ways[way].name, (unsigned long long)e->fe_physical,
		       (unsigned long long)e->fe_length);
	}
	free(m);
}

static const char *content(int fd, char *buf)
{
	uint32_t i;

	must("fadvise", -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	if (pread(fd, buf, BYTES, 0) != BYTES)
		must("read", -1);
	for (i = 0; i < BYTES; i++)
		if (buf[i])
			return "data";
	return "zeroes";
}

int main(int argc, char **argv)
{
	int dev = must(argv[1], open(argv[1], O_RDWR));
	char *buf = malloc(BYTES);
	unsigned i;

	for (i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		int fd = make_file(argv[2], ways[i].name, buf);

		clear_file(dev, fd, i);
		puts(content(fd, buf));
		close(fd);
	}
	return argc != 3;
}
