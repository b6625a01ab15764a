/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c - segments as one disk; data moves between the files and guest memory directly (preadv, pwritev). */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "core/filter.h"
#include "vmm/disk.h"
#include "vmm/virtq.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_BLK, preadv),
	FILTER_ALLOW(FILTER_BLK, pwritev),
	FILTER_ALLOW_ARG(FILTER_BLK, preadv2, 5, ~0u, RWF_NOWAIT),
	FILTER_ALLOW(FILTER_BLK, pwrite64),
	FILTER_ALLOW(FILTER_BLK, fallocate),
	FILTER_ALLOW(FILTER_BLK, fdatasync),
};

const struct disk_segment *disk_find(const struct disk *d, uint64_t pos)
{
	size_t lo = 0, hi = d->nsegs;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (d->segs[mid].start <= pos)
			lo = mid;
		else
			hi = mid;
	}
	return &d->segs[lo];
}

static void iov_zero(struct iovec *iov, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
}

/* Moves exactly len bytes between fd at off and iov[0..n), which it consumes. 0 or -1. */
int disk_io(int fd, bool write, struct iovec *iov, unsigned n, uint64_t off, uint64_t len)
{
	while (len) {
		int cnt = (int)MIN(n, 1024u);
		ssize_t done = RETRY_EINTR(write ? pwritev(fd, iov, cnt, (off_t)off)
						 : preadv(fd, iov, cnt, (off_t)off));

		if (done <= 0)
			return -1; /* an error, or the file is shorter than it was */
		off += (uint64_t)done;
		len -= MIN((uint64_t)done, len);
		while (n && (size_t)done >= iov->iov_len) {
			done -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n && done) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

/* Reads or writes len bytes at byte pos of the disk, from and to iov[0..n). Range checked before.
 */
int disk_rw(const struct disk *d, bool write, uint64_t pos, uint64_t len, const struct iovec *iov,
	    unsigned n, struct iovec *piece)
{
	uint64_t done = 0;

	while (done < len) {
		const struct disk_segment *s = disk_find(d, pos + done);
		uint64_t in = pos + done - s->start, take = 0;
		unsigned k;

		if (in < s->len) {
			take = MIN(s->len - in, len - done);
			k = iov_slice(iov, n, done, take, piece);
			if (disk_io(s->fd, write, piece, k, s->off + in, take) < 0)
				return -1;
		} else { /* the padding of the last sector */
			take = MIN(ALIGN_UP(s->len, (uint64_t)DISK_SECTOR) - in, len - done);
			k = iov_slice(iov, n, done, take, piece);
			if (write)
				return -1;
			iov_zero(piece, k);
		}
		done += take;
	}
	return 0;
}

bool disk_read_cached(const struct disk *d, uint64_t pos, uint64_t len, const struct iovec *iov,
		      unsigned n)
{
	const struct disk_segment *s = disk_find(d, pos);

	return n <= 1024 && disk_within(s, pos, len) &&
	       preadv2(s->fd, iov, (int)n, (off_t)(s->off + (pos - s->start)), RWF_NOWAIT) ==
		       (ssize_t)len;
}

bool disk_range(const struct disk *d, uint64_t sector, uint64_t len, uint64_t *pos)
{
	uint64_t end;

	return mul_ok(sector, (uint64_t)DISK_SECTOR, pos) && add_ok(*pos, len, &end) &&
	       end <= d->bytes;
}

static int zero_by_writing(int fd, uint64_t off, uint64_t len)
{
	static char zeroes[65536]; /* not const: so it takes no room in the binary */

	while (len) {
		ssize_t n = RETRY_EINTR(pwrite(fd, zeroes, MIN(len, sizeof(zeroes)), (off_t)off));

		if (n <= 0)
			return -1;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Discards or zeroes a checked range. A discard that the file system cannot do is no error: it is
 * advice. */
int disk_clear(const struct disk *d, uint64_t pos, uint64_t len, bool discard, bool unmap)
{
	int mode = FALLOC_FL_KEEP_SIZE |
		   (discard || unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	while (len) {
		const struct disk_segment *s = disk_find(d, pos);
		uint64_t in = pos - s->start,
			 take = MIN(ALIGN_UP(s->len, (uint64_t)DISK_SECTOR) - in, len);

		if (RETRY_EINTR(fallocate(s->fd, mode, (off_t)(s->off + in), (off_t)take)) < 0) {
			if (errno != EOPNOTSUPP && errno != ENOSYS)
				return -1;
			if (!discard && zero_by_writing(s->fd, s->off + in, take) < 0)
				return -1;
		}
		pos += take;
		len -= take;
	}
	return 0;
}

int disk_flush(const struct disk *d)
{
	size_t i;

	for (i = 0; i < d->nsegs && !d->readonly; i++)
		if (RETRY_EINTR(fdatasync(d->segs[i].fd)) < 0)
			return -1;
	return 0;
}

int disk_init(struct disk *d, const struct vm_disk *from, struct error **err)
{
	size_t i;

	*d = (struct disk){.readonly = from->readonly};
	if (!from->nsegs)
		return error_set(err, ERR_INVALID_ARGUMENT, "disk %s has no segments",
				 from->serial);
	d->segs = xcalloc(from->nsegs, sizeof(*d->segs));
	for (i = 0; i < from->nsegs; i++) {
		const struct vm_segment *s = &from->segs[i];
		uint64_t end;

		/* A writable disk has no room for the bytes that pad its last sector. */
		if (!s->len || (s->len % DISK_SECTOR && (i + 1 < from->nsegs || !from->readonly)))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "disk %s: segment %zu of %llu bytes is not whole sectors",
					 from->serial, i, (unsigned long long)s->len);
		if (!add_ok(s->off, s->len, &end) || end > INT64_MAX || s->len > (1ull << 60) ||
		    d->bytes > (1ull << 60))
			return error_set(err, ERR_INVALID_ARGUMENT, "disk %s is too large",
					 from->serial);
		d->segs[d->nsegs++] = (struct disk_segment){.start = d->bytes,
							    .len = s->len,
							    .off = s->off,
							    .fd = s->fd};
		d->bytes += ALIGN_UP(s->len, (uint64_t)DISK_SECTOR);
	}
	return 0;
}

bool disk_in_memory(const struct disk *d)
{
	struct statfs st;
	size_t i;

	for (i = 0; i < d->nsegs; i++)
		if (fstatfs(d->segs[i].fd, &st) < 0 || st.f_type != TMPFS_MAGIC)
			return false;
	return true;
}

void disk_fini(struct disk *d)
{
	free(d->segs);
	*d = (struct disk){0};
}
