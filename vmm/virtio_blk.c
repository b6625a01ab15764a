/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_blk.c - disks made of file segments (virtio 1.2 §5.2).
 *
 * Each queue has a worker thread that does its I/O: a slow disk holds up nothing but itself. A request that comes alone
 * is served with one system call on the spot; that is how a machine starts and how most of them live. When requests queue
 * up, one that the host's page cache cannot answer at once would hold up the others: so in company a read is first tried
 * without waiting (RWF_NOWAIT), and what would wait, as a sync does, goes to the kernel by io_uring (uring.h), which the
 * queue opens then. Writes end in the page cache and are always done on the spot; through the ring they would only wait
 * for a kernel thread. A host without io_uring, or a ring that fails, means: one after the other, for good. Only reads
 * inside one segment, and the sync of a disk of one segment, go through the ring.
 *
 * A request in the ring points into guest memory. Nobody may reset the queue under it: virtio_pause() has the worker
 * call blk_drain() first, which waits until the kernel has given every request back.
 *
 * A read-only disk refuses every request that would change it, whatever the driver negotiated. The status byte is written
 * last, after the data.
 */
#include <linux/virtio_blk.h>
#include <sched.h>
#include <sys/epoll.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/str.h"
#include "vmm/disk.h"
#include "vmm/uring.h"
#include "vmm/virtio.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_BLK, sched_yield),
};

#define QUEUE_SIZE  256
#define QUEUES_MAX  VIRTIO_MAX_WORKERS
#define RANGES_MAX  16         /* ranges that one request discards */
#define ZEROES_MAX  1          /* and zeroes: it may have to be written, and a reset waits */
#define RANGE_MAX   (1u << 21) /* sectors in one range: 1 GiB */
#define SEGS_MAX    126 /* also right for a transport that halves the queue (vhost-user: 128) */
#define HDR_LEN     16
#define CONFIG_LEN  60 /* up to and with write_zeroes_may_unmap and its padding */
#define SPIN_MIN_US 20u
#define SPIN_MAX_US 200u
#define DEPTH       64           /* requests of one queue in the ring */
#define BATCH       8            /* answers that one interrupt may tell of … */
#define BATCH_BYTES (256u << 10) /* … and bytes moved before it */
#define DEEP        2            /* requests waiting behind one make it company */

/* A request that the ring has. */
struct blk_req {
	struct blk_end {
		uint16_t head;
		uint8_t *status; /* where it goes in guest memory */
		size_t in_len;   /* of the chain */
	} end;
	bool sync;
	int fd;
	uint64_t off;
	uint32_t len;
	unsigned n;
	struct iovec iov[SEGS_MAX + 2];
};

/* Its worker's own. */
struct blk_queue {
	struct virtq_chain chain;
	struct iovec data[VIRTQ_MAX_SIZE], scratch[VIRTQ_MAX_SIZE];
	struct uring *ring;      /* NULL: the host has none, or the files need none */
	bool open, dead;         /* it was opened; it failed, and is only waited for */
	bool waits;              /* the files do not know RWF_NOWAIT */
	struct blk_req *reqs;    /* DEPTH of them, once open */
	uint8_t idle[DEPTH];     /* which are idle; the last used first */
	uint8_t prepared[DEPTH]; /* which wait for uring_enter(), in order */
	unsigned nidle, nprepared;
	unsigned nended; /* answers that the driver was not told of yet */
	size_t nbytes;   /* moved for them */
	uint64_t idle_since;
	unsigned spin_us;
	uint64_t begun, ended; /* requests; written by the worker, read by anyone */
};

static void count(uint64_t *n)
{
	__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED);
}

struct blk {
	struct virtio_dev dev;
	struct disk disk;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct virtio_blk_config cfg;
	struct blk_queue *q;
	bool spins; /* there is a CPU for the driver meanwhile */
};

static void blk_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&container_of(dev, struct blk, dev)->cfg + off, len);
}

/* ---- the end of a request ---- */

static struct blk_end end_of(const struct virtq_chain *c)
{
	const struct iovec *last = &c->iov[c->nout + c->nin - 1];

	return (struct blk_end){.head = c->head,
				.status = (uint8_t *)last->iov_base + last->iov_len - 1,
				.in_len = c->in_len};
}

/* written: bytes put into the chain's writable part, which are a prefix of it; the status counts when nothing is left out
 * before it. */
static void finish(struct blk *b, unsigned q, const struct blk_end *d, uint8_t status,
		   uint32_t written)
{
	__atomic_store_n(d->status, status, __ATOMIC_RELAXED);
	if (written + 1 == d->in_len || d->in_len == 1)
		written++;
	virtq_push(&b->dev.vq[q], d->head, written);
	virtq_publish(&b->dev.vq[q]);
	b->q[q].nended++;
	count(&b->q[q].ended);
}

/* The driver sees an answer at once, and picks it up while it is at others; it is interrupted for several together. */
static void tell(struct blk *b, unsigned q)
{
	if (!b->q[q].nended)
		return;
	b->q[q].nended = 0;
	b->q[q].nbytes = 0;
	virtio_notify(&b->dev, q);
}

/* ---- in company: through the ring ---- */

static bool ring_ready(struct blk *b, unsigned q)
{
	struct blk_queue *bq = &b->q[q];
	unsigned i;

	if (!bq->ring || bq->open)
		return bq->ring && !bq->dead;
	bq->open = true;
	if (uring_open(bq->ring) < 0) {
		log_debug("virtio-blk: io_uring: %s; does without", strerror(errno));
		bq->dead = true;
		return false;
	}
	bq->reqs = xcalloc(DEPTH, sizeof(*bq->reqs));
	for (i = 0; i < DEPTH; i++)
		bq->idle[bq->nidle++] = (uint8_t)(DEPTH - 1 - i);
	return true;
}

/* One after the other, what the ring would have done at once: its rest after `done` bytes. */
static uint8_t serve_rest(struct blk *b, struct blk_req *r, uint32_t done, struct iovec *scratch)
{
	unsigned n;

	if (r->sync)
		return disk_flush(&b->disk) < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
	n = iov_slice(r->iov, r->n, done, r->len - done, scratch);
	return disk_io(r->fd, false, scratch, n, r->off + done, r->len - done) < 0
		       ? VIRTIO_BLK_S_IOERR
		       : VIRTIO_BLK_S_OK;
}

static void req_end(struct blk *b, unsigned q, uint8_t slot, uint8_t status)
{
	struct blk_queue *bq = &b->q[q];
	const struct blk_req *r = &bq->reqs[slot];

	finish(b, q, &r->end, status, status == VIRTIO_BLK_S_OK ? r->len : 0);
	bq->idle[bq->nidle++] = slot;
}

/* A result of the ring: a read that is short or failed is gone into once more the plain way. */
static void req_result(struct blk *b, unsigned q, uint8_t slot, int res)
{
	struct blk_queue *bq = &b->q[q];
	struct blk_req *r = &bq->reqs[slot];
	uint8_t status = VIRTIO_BLK_S_OK;

	b->dev.worker[q].in_flight--;
	if (r->sync)
		status = res < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
	else if (res < 0 || (uint32_t)res < r->len)
		status = serve_rest(b, r, res < 0 ? 0 : (uint32_t)res, bq->scratch);
	req_end(b, q, slot, status);
}

static bool reap(struct blk *b, unsigned q)
{
	struct blk_queue *bq = &b->q[q];
	bool any = false;
	uint64_t tag;
	int res;

	while (uring_next(bq->ring, &tag, &res)) {
		req_result(b, q, (uint8_t)tag, res);
		any = true;
	}
	tell(b, q);
	return any;
}

/* The kernel does not take what is prepared: it is served here, and the ring is not used again. */
static void ring_failed(struct blk *b, unsigned q)
{
	struct blk_queue *bq = &b->q[q];
	unsigned i;

	log_debug("virtio-blk: io_uring: %s; does without", strerror(errno));
	uring_unprepare(bq->ring);
	for (i = 0; i < bq->nprepared; i++) {
		struct blk_req *r = &bq->reqs[bq->prepared[i]];

		req_end(b, q, bq->prepared[i], serve_rest(b, r, 0, bq->scratch));
	}
	bq->nprepared = 0;
	bq->dead = true;
	tell(b, q);
}

/* Hands over what is prepared and takes what is done. False: neither was possible now. */
static bool ring_run(struct blk *b, unsigned q, unsigned wait)
{
	struct blk_queue *bq = &b->q[q];
	unsigned *in_flight = &b->dev.worker[q].in_flight;
	int n = uring_enter(bq->ring, wait);

	if (n > 0) {
		*in_flight += (unsigned)n;
		bq->nprepared -= (unsigned)n;
		memmove(bq->prepared, bq->prepared + n, bq->nprepared);
	} else if (bq->nprepared && !(n < 0 && *in_flight && (errno == EAGAIN || errno == EBUSY))) {
		/* No more room, while others are on their way, is what passes. */
		ring_failed(b, q);
		n = 1;
	}
	return reap(b, q) || n > 0;
}

/* Puts the popped request into the ring: a read of data[0..n), len bytes, or (n is 0) a sync. False: it has to be served on
 * the spot. */
static bool ring_take(struct blk *b, unsigned q, uint64_t pos, uint32_t len, unsigned n)
{
	struct blk_queue *bq = &b->q[q];
	const struct disk_segment *s = disk_find(&b->disk, pos);
	struct blk_req *r;
	uint8_t slot;

	if (n > ARRAY_SIZE(r->iov) || !disk_within(s, pos, len) || !ring_ready(b, q) || !bq->nidle)
		return false;
	slot = bq->idle[bq->nidle - 1];
	r = &bq->reqs[slot];
	r->end = end_of(&bq->chain);
	r->sync = !n;
	r->fd = s->fd;
	r->off = s->off + (pos - s->start);
	r->len = len;
	r->n = n;
	memcpy(r->iov, bq->data, n * sizeof(r->iov[0]));
	if (!uring_prepare(bq->ring, r->sync ? URING_DATASYNC : URING_READ,
			   (unsigned)(s - b->disk.segs), n ? r->iov : NULL, n, n ? r->off : 0,
			   slot))
		return false;
	bq->nidle--;
	bq->prepared[bq->nprepared++] = slot;
	return true;
}

static bool in_company(const struct blk *b, unsigned q)
{
	return b->dev.worker[q].in_flight || b->q[q].nprepared || virtq_pending(&b->dev.vq[q]);
}

/* Whether requests that would make the worker wait may go through the ring, which the first deep queue opens. */
static bool ring_wanted(const struct blk *b, unsigned q)
{
	const struct blk_queue *bq = &b->q[q];

	return bq->open ? !bq->dead : bq->ring && virtq_pending(&b->dev.vq[q]) >= DEEP;
}

/* ---- requests ---- */

/* What serve() makes of a request. */
#define IN_RING 0xff

static uint8_t do_clear(struct blk *b, unsigned q, bool discard)
{
	const struct virtq_chain *c = &b->q[q].chain;
	struct virtio_blk_discard_write_zeroes r[RANGES_MAX];
	size_t len = c->out_len - HDR_LEN, i;
	uint64_t pos[RANGES_MAX];

	if (!len || len % sizeof(r[0]) || len / sizeof(r[0]) > (discard ? RANGES_MAX : ZEROES_MAX))
		return VIRTIO_BLK_S_IOERR;
	if (virtq_read_out(c, HDR_LEN, r, len) != len)
		return VIRTIO_BLK_S_IOERR;
	for (i = 0; i < len / sizeof(r[0]); i++) {
		if (r[i].flags & ~(discard ? 0u : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			return VIRTIO_BLK_S_UNSUPP; /* §5.2.6.2 */
		if (r[i].num_sectors > RANGE_MAX ||
		    !disk_range(&b->disk, r[i].sector, (uint64_t)r[i].num_sectors * DISK_SECTOR,
				&pos[i]))
			return VIRTIO_BLK_S_IOERR;
	}
	tell(b, q);
	for (i = 0; i < len / sizeof(r[0]); i++)
		if (disk_clear(&b->disk, pos[i], (uint64_t)r[i].num_sectors * DISK_SECTOR, discard,
			       r[i].flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) < 0)
			return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_rw(struct blk *b, unsigned q, uint64_t sector, bool write, uint32_t *written)
{
	struct blk_queue *bq = &b->q[q];
	const struct virtq_chain *c = &bq->chain;
	/* The first HDR_LEN readable bytes are the header, the last writable one is the status. */
	size_t len = write ? c->out_len - HDR_LEN : c->in_len - 1;
	uint64_t pos;
	unsigned n;

	if (len % DISK_SECTOR || !disk_range(&b->disk, sector, len, &pos))
		return VIRTIO_BLK_S_IOERR;
	if (!len)
		return VIRTIO_BLK_S_OK;
	if (write)
		n = iov_slice(c->iov, c->nout, HDR_LEN, len, bq->data);
	else
		n = iov_slice(c->iov + c->nout, c->nin, 0, len, bq->data);
	if (!write && ring_wanted(b, q)) {
		bool cached = !bq->waits && disk_read_cached(&b->disk, pos, len, bq->data, n);

		/* Not every file system can tell. */
		bq->waits |= !cached && errno == EOPNOTSUPP;
		if (!cached && (!bq->waits || in_company(b, q)) &&
		    ring_take(b, q, pos, (uint32_t)len, n))
			return IN_RING;
		if (cached) {
			bq->nbytes += len;
			*written = (uint32_t)len;
			return VIRTIO_BLK_S_OK;
		}
		tell(b, q);
	}
	bq->nbytes += len;
	if (disk_rw(&b->disk, write, pos, len, bq->data, n, bq->scratch) < 0)
		return VIRTIO_BLK_S_IOERR;
	if (!write)
		*written = (uint32_t)len;
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_flush(struct blk *b, unsigned q)
{
	if (!b->disk.readonly && b->disk.nsegs == 1 && ring_wanted(b, q) && in_company(b, q) &&
	    ring_take(b, q, 0, 0, 0))
		return IN_RING;
	tell(b, q);
	return disk_flush(&b->disk) < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static uint8_t do_get_id(const struct blk *b, const struct virtq_chain *c, uint32_t *written)
{
	if (c->in_len - 1 < sizeof(b->serial))
		return VIRTIO_BLK_S_IOERR;
	*written = (uint32_t)virtq_write_in(c, 0, b->serial, sizeof(b->serial));
	return VIRTIO_BLK_S_OK;
}

/* What a driver changes that does not know flushes is on the disk when it hears of it (§5.2.6.2). */
static uint8_t settle(struct blk *b, unsigned q, uint8_t status)
{
	if (status != VIRTIO_BLK_S_OK || b->dev.features_acked & VIRTIO_F(VIRTIO_BLK_F_FLUSH))
		return status;
	tell(b, q);
	return disk_flush(&b->disk) < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static uint8_t do_change(struct blk *b, unsigned q, const struct virtio_blk_outhdr *h,
			 uint32_t *written)
{
	if (b->disk.readonly)
		return VIRTIO_BLK_S_IOERR;
	if (h->type == VIRTIO_BLK_T_OUT)
		return settle(b, q, do_rw(b, q, h->sector, true, written));
	return settle(b, q, do_clear(b, q, h->type == VIRTIO_BLK_T_DISCARD));
}

/* Serves a popped chain but for its status byte; *written: bytes put into its writable part. */
static uint8_t serve(struct blk *b, unsigned q, uint32_t *written)
{
	const struct virtq_chain *c = &b->q[q].chain;
	struct virtio_blk_outhdr h;

	if (virtq_read_out(c, 0, &h, HDR_LEN) != HDR_LEN)
		return VIRTIO_BLK_S_IOERR;
	switch (h.type) {
	case VIRTIO_BLK_T_IN:
		return do_rw(b, q, h.sector, false, written);
	case VIRTIO_BLK_T_OUT:
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return do_change(b, q, &h, written);
	case VIRTIO_BLK_T_FLUSH:
		return do_flush(b, q);
	case VIRTIO_BLK_T_GET_ID:
		return do_get_id(b, c, written);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* ---- the queue ---- */

static bool full(const struct blk_queue *bq)
{
	return bq->open && !bq->dead && !bq->nidle;
}

/*
 * A driver with one request at a time sends the next one soon after it got its answer. Waking up for it costs more than
 * the request itself, so the worker first looks for a while: as long as it lately would have been worth it, like KVM
 * does for a vCPU that halts. It does not sleep meanwhile, but neither does the driver have to notify. Between two looks
 * it offers its CPU: with vhost-user an answer goes through two more threads, QEMU's main one and then the vCPU's, and a
 * small host has not a CPU for each.
 */
static void spin(struct blk *b, unsigned q)
{
	struct blk_queue *bq = &b->q[q];

	bq->idle_since = time_mono_us();
	if (!bq->spin_us || b->dev.worker[q].in_flight)
		return;
	while (virtq_empty(&b->dev.vq[q]) && !virtio_pausing(&b->dev) &&
	       time_mono_us() - bq->idle_since < bq->spin_us)
		sched_yield();
}

/* A kick ended a sleep: would spinning for SPIN_MAX_US have met it? The first one says nothing. */
static void spin_adapt(struct blk_queue *bq)
{
	if (!bq->idle_since)
		bq->spin_us = SPIN_MIN_US;
	else if (time_mono_us() - bq->idle_since < SPIN_MAX_US)
		bq->spin_us = MIN(MAX(2 * bq->spin_us, SPIN_MIN_US), SPIN_MAX_US);
	else
		bq->spin_us = bq->spin_us > SPIN_MIN_US ? bq->spin_us / 2 : 0;
}

/* The next request. Before the driver is asked to tell of more, it is told of what is done. */
static bool next(struct blk *b, unsigned q)
{
	if (virtq_empty(&b->dev.vq[q])) {
		tell(b, q);
		if (b->spins)
			spin(b, q);
	}
	return virtio_next(&b->dev, q, &b->q[q].chain);
}

/*
 * Takes requests until there are no more, or enough to hand to the kernel. The driver hears of answers before all are there: with
 * vhost-user too, where an interrupt is two changes of threads, as otherwise it and we work one after the other and not side by side.
 */
static void take(struct blk *b, unsigned q)
{
	struct virtio_dev *dev = &b->dev;
	struct blk_queue *bq = &b->q[q];
	while (!full(bq) && bq->nprepared < BATCH && !virtio_pausing(dev) && next(b, q)) {
		struct blk_end d;
		uint32_t written = 0;
		uint8_t status;

		if (!bq->chain.in_len) {
			virtio_dev_broken(dev, "request without a status byte");
			break;
		}
		d = end_of(&bq->chain);
		count(&bq->begun);
		status = serve(b, q, &written);
		if (status == IN_RING)
			continue;
		finish(b, q, &d, status, written);
		if (bq->nended >= BATCH || bq->nbytes >= BATCH_BYTES)
			tell(b, q);
	}
	tell(b, q);
}

static void blk_kick(struct virtio_dev *dev, unsigned q)
{
	struct blk *b = container_of(dev, struct blk, dev);

	if (b->spins)
		spin_adapt(&b->q[q]);
	do
		take(b, q);
	while (b->q[q].nprepared && ring_run(b, q, 0));
}

/* Completions. Requests may have waited for room in the ring. */
static void blk_worker_fd(struct virtio_dev *dev, unsigned w, uint32_t running)
{
	struct blk *b = container_of(dev, struct blk, dev);

	if (dev->worker[w].in_flight)
		(void)reap(b, w);
	if (running & 1u << w)
		blk_kick(dev, w);
}

/* What the kernel has, it is waited for: while it may still write, the memory is not the driver's. */
static void blk_drain(struct virtio_dev *dev, unsigned w)
{
	struct blk *b = container_of(dev, struct blk, dev);

	while (dev->worker[w].in_flight || b->q[w].nprepared)
		(void)ring_run(b, w, dev->worker[w].in_flight ? 1 : 0);
}

/* ---- the device ---- */

uint64_t virtio_blk_work(const struct virtio_dev *dev, bool *now)
{
	const struct blk *b = container_of(dev, const struct blk, dev);
	uint64_t all = 0;
	unsigned q;

	for (q = 0; q < dev->nqueues; q++) {
		uint64_t ended = __atomic_load_n(&b->q[q].ended, __ATOMIC_RELAXED);

		*now |= __atomic_load_n(&b->q[q].begun, __ATOMIC_RELAXED) != ended;
		all += ended;
	}
	return all;
}

static void blk_free(struct virtio_dev *dev)
{
	struct blk *b = container_of(dev, struct blk, dev);
	unsigned q;

	virtio_dev_fini(dev);
	for (q = 0; q < dev->nqueues; q++) {
		uring_free(b->q[q].ring);
		free(b->q[q].reqs);
	}
	disk_fini(&b->disk);
	free(b->q);
	free(b);
}

static const struct virtio_dev_ops blk_ops = {
	.name = "blk",
	.filter = FILTER_BLK,
	.config_read = blk_config_read,
	.queue_kick = blk_kick,
	.drain = blk_drain,
	.worker_fd = blk_worker_fd,
	.free = blk_free,
};

static void fill_config(struct blk *b)
{
	struct virtio_dev *dev = &b->dev;

	b->cfg.capacity = b->disk.bytes / DISK_SECTOR;
	b->cfg.seg_max = SEGS_MAX;
	b->cfg.blk_size = DISK_SECTOR;
	b->cfg.num_queues = dev->nqueues;
	dev->features_offered = VIRTIO_F(VIRTIO_BLK_F_SEG_MAX) | VIRTIO_F(VIRTIO_BLK_F_BLK_SIZE) |
				VIRTIO_F(VIRTIO_BLK_F_FLUSH);
	if (dev->nqueues > 1)
		dev->features_offered |= VIRTIO_F(VIRTIO_BLK_F_MQ);
	if (b->disk.readonly) {
		dev->features_offered |= VIRTIO_F(VIRTIO_BLK_F_RO);
		return;
	}
	dev->features_offered |=
		VIRTIO_F(VIRTIO_BLK_F_DISCARD) | VIRTIO_F(VIRTIO_BLK_F_WRITE_ZEROES);
	b->cfg.max_discard_sectors = b->cfg.max_write_zeroes_sectors = RANGE_MAX;
	b->cfg.max_discard_seg = RANGES_MAX;
	b->cfg.max_write_zeroes_seg = ZEROES_MAX;
	b->cfg.discard_sector_alignment = 4096 / DISK_SECTOR;
	b->cfg.write_zeroes_may_unmap = 1;
}

/* Now, for in the jail nobody may make one, and no worker watch one. */
static void make_rings(struct blk *b)
{
	CLEANUP_FREE int *fds = xcalloc(b->disk.nsegs, sizeof(*fds));
	unsigned q;
	size_t i;

	if (disk_in_memory(&b->disk))
		return;
	for (i = 0; i < b->disk.nsegs; i++)
		fds[i] = b->disk.segs[i].fd;
	for (q = 0; q < b->dev.nqueues; q++) {
		struct uring *u = uring_new(DEPTH, fds, (unsigned)b->disk.nsegs, !b->disk.readonly);

		/* It is quiet until it is opened. */
		if (!u || virtio_worker_watch(&b->dev, q, uring_fd(u), EPOLLIN) < 0) {
			uring_free(u);
			break;
		}
		b->q[q].ring = u;
	}
}

struct virtio_dev *virtio_blk_new(struct loop *l, const struct gmem *m, const struct vm_disk *d,
				  struct error **err)
{
	struct blk *b = xcalloc(1, sizeof(*b));
	unsigned q;

	memcpy(b->serial, d->serial, strnlen(d->serial, sizeof(b->serial)));
	if (disk_init(&b->disk, d, err) < 0) {
		disk_fini(&b->disk);
		free(b);
		return NULL;
	}
	b->dev.nqueues = b->dev.nworkers = (uint8_t)MIN(MAX(d->queues, 1u), QUEUES_MAX);
	b->q = xcalloc(b->dev.nqueues, sizeof(*b->q));
	b->spins = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	fill_config(b);
	b->dev.config_len = CONFIG_LEN;
	for (q = 0; q < b->dev.nqueues; q++) {
		b->dev.vq[q].max_size = QUEUE_SIZE;
		b->dev.vq[q].worker = (uint8_t)q;
	}
	if (virtio_dev_init(&b->dev, &blk_ops, VIRTIO_ID_BLOCK, l, m, err) < 0) {
		blk_free(&b->dev);
		return NULL;
	}
	make_rings(b);
	return &b->dev;
}
