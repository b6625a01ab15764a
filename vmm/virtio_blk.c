/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_blk.c - disks made of file segments (virtio 1.2 §5.2).
 *
 * The segments' lengths, each rounded up to a sector, follow each other as one disk; a sector is
 * found by binary search. Data moves between the files and guest memory directly (preadv, pwritev).
 * A worker thread does the I/O, without the device's lock: a slow disk holds up nothing but itself.
 * The status byte is written last, after the data.
 *
 * A read-only disk refuses every request that would change it, whatever the driver negotiated.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <stdio.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/virtio.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_WORKER, preadv),    FILTER_ALLOW(FILTER_WORKER, pwritev),
	FILTER_ALLOW(FILTER_WORKER, pwrite64),  FILTER_ALLOW(FILTER_WORKER, fallocate),
	FILTER_ALLOW(FILTER_WORKER, fdatasync),
};

#define QUEUE_SIZE 256
#define SECTOR     512u
#define RANGES_MAX 16         /* discard / write zeroes ranges in one request */
#define RANGE_MAX  (1u << 21) /* sectors in one range: 1 GiB */
#define HDR_LEN    16
#define CONFIG_LEN 60 /* up to and with write_zeroes_may_unmap and its padding */

struct segment {
	uint64_t start; /* byte of the disk where it begins */
	uint64_t len;   /* bytes in the file */
	uint64_t off;   /* byte of the file where it begins */
	int fd;
};

struct blk {
	struct virtio_dev dev;
	struct segment *segs;
	size_t nsegs;
	uint64_t bytes; /* capacity, whole sectors */
	bool readonly;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct virtio_blk_config cfg;
	/* Under the lock. */
	pthread_cond_t idle;
	bool busy;     /* a request is with the worker */
	unsigned hold; /* someone waits for idle: take no new request */
	/* The worker's own. */
	struct virtq_chain chain;
	struct iovec data[VIRTQ_MAX_SIZE], piece[VIRTQ_MAX_SIZE];
};

static void blk_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&container_of(dev, struct blk, dev)->cfg + off, len);
}

/* The segment that holds byte pos; pos < b->bytes. */
static const struct segment *seg_find(const struct blk *b, uint64_t pos)
{
	size_t lo = 0, hi = b->nsegs;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (b->segs[mid].start <= pos)
			lo = mid;
		else
			hi = mid;
	}
	return &b->segs[lo];
}

static void iov_zero(struct iovec *iov, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
}

/* Moves exactly len bytes between fd at off and iov[0..n), which it consumes. 0 or -1. */
static int io_full(int fd, bool write, struct iovec *iov, unsigned n, uint64_t off, uint64_t len)
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
static int disk_rw(struct blk *b, bool write, uint64_t pos, uint64_t len, const struct iovec *iov,
		   unsigned n)
{
	uint64_t done = 0;

	while (done < len) {
		const struct segment *s = seg_find(b, pos + done);
		uint64_t in = pos + done - s->start, take = 0;
		unsigned k;

		if (in < s->len) {
			take = MIN(s->len - in, len - done);
			k = iov_slice(iov, n, done, take, b->piece);
			if (io_full(s->fd, write, b->piece, k, s->off + in, take) < 0)
				return -1;
		} else { /* the padding of the last sector */
			take = MIN(ALIGN_UP(s->len, (uint64_t)SECTOR) - in, len - done);
			k = iov_slice(iov, n, done, take, b->piece);
			if (write)
				return -1;
			iov_zero(b->piece, k);
		}
		done += take;
	}
	return 0;
}

static bool range_ok(const struct blk *b, uint64_t sector, uint64_t len)
{
	uint64_t pos, end;

	return mul_ok(sector, (uint64_t)SECTOR, &pos) && add_ok(pos, len, &end) && end <= b->bytes;
}

static int zero_by_writing(int fd, uint64_t off, uint64_t len)
{
	static const char zeroes[65536];

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
static int disk_clear(struct blk *b, uint64_t pos, uint64_t len, bool discard, bool unmap)
{
	int mode = FALLOC_FL_KEEP_SIZE |
		   (discard || unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	while (len) {
		const struct segment *s = seg_find(b, pos);
		uint64_t in = pos - s->start,
			 take = MIN(ALIGN_UP(s->len, (uint64_t)SECTOR) - in, len);

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

static uint8_t do_clear(struct blk *b, const struct virtq_chain *c, bool discard)
{
	struct virtio_blk_discard_write_zeroes r[RANGES_MAX];
	size_t len = c->out_len - HDR_LEN, i;

	if (!len || len % sizeof(r[0]) || len > sizeof(r))
		return VIRTIO_BLK_S_IOERR;
	if (virtq_read_out(c, HDR_LEN, r, len) != len)
		return VIRTIO_BLK_S_IOERR;
	for (i = 0; i < len / sizeof(r[0]); i++) {
		if (r[i].flags & ~(discard ? 0u : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			return VIRTIO_BLK_S_UNSUPP; /* §5.2.6.2 */
		if (r[i].num_sectors > RANGE_MAX ||
		    !range_ok(b, r[i].sector, (uint64_t)r[i].num_sectors * SECTOR))
			return VIRTIO_BLK_S_IOERR;
	}
	for (i = 0; i < len / sizeof(r[0]); i++)
		if (disk_clear(b, r[i].sector * SECTOR, (uint64_t)r[i].num_sectors * SECTOR,
			       discard, r[i].flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) < 0)
			return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_rw(struct blk *b, const struct virtq_chain *c, uint64_t sector, bool write,
		     uint32_t *written)
{
	/* The first HDR_LEN readable bytes are the header, the last writable one is the status. */
	size_t len = write ? c->out_len - HDR_LEN : c->in_len - 1;
	unsigned n;

	if (len % SECTOR || !range_ok(b, sector, len))
		return VIRTIO_BLK_S_IOERR;
	if (write)
		n = iov_slice(c->iov, c->nout, HDR_LEN, len, b->data);
	else
		n = iov_slice(c->iov + c->nout, c->nin, 0, len, b->data);
	if (disk_rw(b, write, sector * SECTOR, len, b->data, n) < 0)
		return VIRTIO_BLK_S_IOERR;
	if (!write)
		*written = (uint32_t)len;
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_flush(struct blk *b)
{
	size_t i;

	for (i = 0; i < b->nsegs && !b->readonly; i++)
		if (RETRY_EINTR(fdatasync(b->segs[i].fd)) < 0)
			return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_get_id(struct blk *b, const struct virtq_chain *c, uint32_t *written)
{
	if (c->in_len - 1 < sizeof(b->serial))
		return VIRTIO_BLK_S_IOERR;
	*written = (uint32_t)virtq_write_in(c, 0, b->serial, sizeof(b->serial));
	return VIRTIO_BLK_S_OK;
}

/* Serves a popped chain but for its status byte; *written: bytes put into its writable part. */
static uint8_t serve(struct blk *b, const struct virtq_chain *c, uint32_t *written)
{
	struct virtio_blk_outhdr h;

	if (virtq_read_out(c, 0, &h, HDR_LEN) != HDR_LEN)
		return VIRTIO_BLK_S_IOERR;
	switch (h.type) {
	case VIRTIO_BLK_T_IN:
		return do_rw(b, c, h.sector, false, written);
	case VIRTIO_BLK_T_OUT:
		return b->readonly ? VIRTIO_BLK_S_IOERR : do_rw(b, c, h.sector, true, written);
	case VIRTIO_BLK_T_FLUSH:
		return do_flush(b);
	case VIRTIO_BLK_T_GET_ID:
		return do_get_id(b, c, written);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return b->readonly ? VIRTIO_BLK_S_IOERR
				   : do_clear(b, c, h.type == VIRTIO_BLK_T_DISCARD);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static void blk_kick(struct virtio_dev *dev, unsigned q)
{
	struct blk *b = container_of(dev, struct blk, dev);

	pthread_mutex_lock(&dev->lock);
	while (!b->hold && virtio_next(dev, 0, &b->chain)) {
		uint32_t written = 0;
		uint8_t status;

		if (!b->chain.in_len) {
			virtio_dev_broken(dev, "request without a status byte");
			break;
		}
		b->busy = true;
		pthread_mutex_unlock(&dev->lock);
		status = serve(b, &b->chain, &written);
		virtq_write_in(&b->chain, b->chain.in_len - 1, &status, 1);
		/* Bytes counted are a prefix of the writable part; the status alone counts when
		 * nothing precedes it. */
		if (written + 1 == b->chain.in_len || b->chain.in_len == 1)
			written++;
		pthread_mutex_lock(&dev->lock);
		b->busy = false;
		virtq_push(&dev->vq[0], b->chain.head, written);
		virtq_publish(&dev->vq[0]);
		virtio_notify(dev, 0);
		if (b->hold)
			pthread_cond_broadcast(&b->idle);
	}
	pthread_mutex_unlock(&dev->lock);
}

/* Reset and queue stop wait for the request in flight: afterwards nobody writes to memory the
 * driver takes back. */
static void blk_quiesce(struct virtio_dev *dev)
{
	struct blk *b = container_of(dev, struct blk, dev);

	b->hold++;
	while (b->busy)
		pthread_cond_wait(&b->idle, &dev->lock);
	b->hold--;
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *b = container_of(dev, struct blk, dev);

	virtio_dev_fini(dev);
	pthread_cond_destroy(&b->idle);
	free(b->segs);
	free(b);
}

static const struct virtio_dev_ops blk_ops = {
	.name = "blk",
	.config_read = blk_config_read,
	.queue_kick = blk_kick,
	.quiesce = blk_quiesce,
	.free = blk_free,
	.unlocked_kick = true,
	.worker = true,
};

static int add_segments(struct blk *b, const struct vm_disk *d, struct error **err)
{
	size_t i;

	if (!d->nsegs)
		return error_set(err, ERR_INVALID_ARGUMENT, "disk %s has no segments", d->serial);
	b->segs = xcalloc(d->nsegs, sizeof(*b->segs));
	for (i = 0; i < d->nsegs; i++) {
		const struct vm_segment *s = &d->segs[i];
		uint64_t end;

		/* A writable disk has no room for the bytes that pad its last sector. */
		if (!s->len || (s->len % SECTOR && (i + 1 < d->nsegs || !d->readonly)))
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "disk %s: segment %zu of %llu bytes is not whole sectors",
					 d->serial, i, (unsigned long long)s->len);
		if (!add_ok(s->off, s->len, &end) || end > INT64_MAX || s->len > (1ull << 60) ||
		    b->bytes > (1ull << 60))
			return error_set(err, ERR_INVALID_ARGUMENT, "disk %s is too large",
					 d->serial);
		b->segs[b->nsegs++] = (struct segment){.start = b->bytes,
						       .len = s->len,
						       .off = s->off,
						       .fd = s->fd};
		b->bytes += ALIGN_UP(s->len, (uint64_t)SECTOR);
	}
	return 0;
}

static void fill_config(struct blk *b)
{
	b->cfg.capacity = b->bytes / SECTOR;
	b->cfg.seg_max = QUEUE_SIZE / 2 -
			 2; /* also right for a transport that halves the queue (vhost-user: 128) */
	b->cfg.blk_size = SECTOR;
	b->dev.features_offered = VIRTIO_F(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_F(VIRTIO_BLK_F_BLK_SIZE) |
				  VIRTIO_F(VIRTIO_BLK_F_FLUSH);
	if (b->readonly) {
		b->dev.features_offered |= VIRTIO_F(VIRTIO_BLK_F_RO);
		return;
	}
	b->dev.features_offered |=
		VIRTIO_F(VIRTIO_BLK_F_DISCARD) | VIRTIO_F(VIRTIO_BLK_F_WRITE_ZEROES);
	b->cfg.max_discard_sectors = b->cfg.max_write_zeroes_sectors = RANGE_MAX;
	b->cfg.max_discard_seg = b->cfg.max_write_zeroes_seg = RANGES_MAX;
	b->cfg.discard_sector_alignment = 4096 / SECTOR;
	b->cfg.write_zeroes_may_unmap = 1;
}

struct virtio_dev *virtio_blk_new(struct loop *l, const struct gmem *m, const struct vm_disk *d,
				  struct error **err)
{
	struct blk *b = xcalloc(1, sizeof(*b));

	b->readonly = d->readonly;
	memcpy(b->serial, d->serial, strnlen(d->serial, sizeof(b->serial)));
	pthread_cond_init(&b->idle, NULL);
	if (add_segments(b, d, err) < 0) {
		pthread_cond_destroy(&b->idle);
		free(b->segs);
		free(b);
		return NULL;
	}
	fill_config(b);
	b->dev.nqueues = 1;
	b->dev.config_len = CONFIG_LEN;
	b->dev.vq[0].max_size = QUEUE_SIZE;
	if (virtio_dev_init(&b->dev, &blk_ops, VIRTIO_ID_BLOCK, l, m, err) < 0) {
		blk_free(&b->dev);
		return NULL;
	}
	return &b->dev;
}
