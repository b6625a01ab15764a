/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpio.c - newc archives in memory, the format of the kernel's initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * Every header is 110 bytes of ASCII: a magic and thirteen 8-digit hexadecimal fields; the name
 * (with its NUL) and the data are each padded to four bytes. Archives may be concatenated: the
 * kernel skips the zeroes after a trailer, so each piece is padded to 512 and made once.
 *
 * Inode numbers matter only to hard links, which are recognised by nlink > 1; all entries here have
 * one link (directories two, which the kernel ignores for them), so the number is always 0.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "vmm/kernel.h"

#define CPIO_MAX_FILE UINT32_MAX

static void cpio_pad(struct buf *out, size_t align)
{
	static const char zeroes[512];
	size_t over = out->len % align;

	if (over)
		buf_append(out, zeroes, align - over);
}

static void cpio_entry(struct buf *out, const char *path, uint32_t mode, unsigned nlink,
		       uint32_t major, uint32_t minor, const void *p, uint32_t n)
{
	while (*path == '/')
		path++;
	cpio_pad(out, 4);
	buf_printf(out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 0u, mode, 0u,
		   0u, nlink, 0u, n, 0u, 0u, major, minor, (unsigned)strlen(path) + 1, 0u);
	buf_append(out, path, strlen(path) + 1);
	cpio_pad(out, 4);
	if (n)
		buf_append(out, p, n);
	cpio_pad(out, 4);
}

void cpio_file(struct buf *out, const char *path, uint32_t mode, const void *p, size_t n)
{
	if (n > CPIO_MAX_FILE)
		abort(); /* callers bound what they pack far below */
	cpio_entry(out, path, S_IFREG | (mode & 07777), 1, 0, 0, p, (uint32_t)n);
}

void cpio_dir(struct buf *out, const char *path, uint32_t mode)
{
	cpio_entry(out, path, S_IFDIR | (mode & 07777), 2, 0, 0, NULL, 0);
}

void cpio_node(struct buf *out, const char *path, uint32_t mode, uint32_t major, uint32_t minor)
{
	uint32_t type = mode & S_IFMT;

	cpio_entry(out, path, (type ? type : S_IFCHR) | (mode & 07777), 1, major, minor, NULL, 0);
}

void cpio_end(struct buf *out)
{
	cpio_entry(out, "TRAILER!!!", 0, 1, 0, 0, NULL, 0);
	cpio_pad(out, 512);
}
