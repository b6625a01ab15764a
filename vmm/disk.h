/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk.h - a disk made of pieces of files, and the plain system calls that read and change it.
 *
 * The segments' lengths, each rounded up to a sector, follow each other; a byte is found by binary search. Read-only is
 * not enforced here but by who calls. Any thread; nothing changes after disk_init().
 */
#ifndef VMM_DISK_H
#define VMM_DISK_H

#include "vmm/vm.h"

#define DISK_SECTOR 512u

struct disk_segment {
	uint64_t start; /* byte of the disk where it begins */
	uint64_t len;   /* bytes in the file */
	uint64_t off;   /* byte of the file where it begins */
	int fd;         /* borrowed */
};

struct disk {
	struct disk_segment *segs;
	size_t nsegs;
	uint64_t bytes; /* capacity, whole sectors */
	bool readonly;
};

int disk_init(struct disk *d, const struct vm_disk *from, struct error **err);
void disk_fini(struct disk *d);

/* disk_range: whether len bytes from this sector on lie inside; *pos is the first one's number. */
bool disk_range(const struct disk *d, uint64_t sector, uint64_t len, uint64_t *pos);
/* disk_find: the segment that holds byte pos (which is inside). */
const struct disk_segment *disk_find(const struct disk *d, uint64_t pos);

/* disk_in_memory: whether its files are of a file system that has no disk below: nothing about them ever waits. */
bool disk_in_memory(const struct disk *d);
/* disk_within: whether [pos, pos + len) lies in this segment's file bytes. */
static inline bool disk_within(const struct disk_segment *s, uint64_t pos, uint64_t len)
{
	return pos >= s->start && pos - s->start <= s->len && len <= s->len - (pos - s->start);
}

/* disk_read_cached: a checked range, when it lies in one segment and the page cache holds all of it: true and the bytes are
 * there. False: they are not, or not all. */
bool disk_read_cached(const struct disk *d, uint64_t pos, uint64_t len, const struct iovec *iov,
		      unsigned n);
/* disk_rw: len bytes of a checked range from or to iov[0..n), whose sum they are; scratch has room for n. 0 or -1. */
int disk_rw(const struct disk *d, bool write, uint64_t pos, uint64_t len, const struct iovec *iov,
	    unsigned n, struct iovec *scratch);
/* disk_io: exactly len bytes between fd at off and iov[0..n), which it consumes. 0 or -1. */
int disk_io(int fd, bool write, struct iovec *iov, unsigned n, uint64_t off, uint64_t len);
/* disk_clear: discards (which may come to nothing) or zeroes a checked range; unmap: holes are as good as zeroes. */
int disk_clear(const struct disk *d, uint64_t pos, uint64_t len, bool discard, bool unmap);
int disk_flush(const struct disk *d);

#endif
