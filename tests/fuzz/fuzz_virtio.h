/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_virtio.h - a hostile guest in a few bytes: the input is a program that writes rings and buffers into guest
 * memory, rings doorbells, and resets the device under its own feet.
 *
 * Everything runs on one thread, so that the same input always does the same: kicks are calls, a device that has worker
 * threads is told to do without.
 */
#ifndef TESTS_FUZZ_VIRTIO_H
#define TESTS_FUZZ_VIRTIO_H

#include "core/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/virtio.h"

#define GUEST_LOW      0x20000u /* bytes of memory at 0 … */
#define GUEST_HIGH     0x8000u  /* … and at GUEST_HIGH_GPA */
#define GUEST_HIGH_GPA 0x100000000ull
#define GUEST_DATA     0x10000u
#define GUEST_RING(q)  (0x2000u * ((q) + 1))
#define GUEST_AVAIL(q) (GUEST_RING(q) + 0x800)
#define GUEST_USED(q)  (GUEST_RING(q) + 0x1000)
#define GUEST_OPS      64 /* of one input */

struct guest {
	struct loop *l;
	struct gmem m;
	struct virtio_dev *d;
	uint16_t avail[VIRTIO_MAX_QUEUES];
	uint16_t size[VIRTIO_MAX_QUEUES];
	uint16_t ring; /* entries of a queue, 128 at most, where the input does not choose */
	/* What the host side does meanwhile; may be NULL. */
	void (*host)(struct guest *g, struct fz *f);
};

/* guest_init: memory and loop; the caller makes the device and calls guest_take(). */
static inline void guest_init(struct guest *g)
{
	log_init_stderr("fuzz", LOG_LVL_ERROR + 1);
	g->ring = 16;
	g->l = loop_new(NULL);
	FUZZ_CHECK(g->l);
	FUZZ_CHECK(!gmem_new(GUEST_LOW + GUEST_HIGH, &g->m, NULL));
	g->m.regions[0].size = GUEST_LOW;
	g->m.regions[1] = (struct gmem_region){.gpa = GUEST_HIGH_GPA,
					       .size = GUEST_HIGH,
					       .fd_off = GUEST_LOW,
					       .hva = g->m.regions[0].hva + GUEST_LOW};
	g->m.nregions = 2;
}

static inline void guest_take(struct guest *g, struct virtio_dev *d)
{
	FUZZ_CHECK(d);
	g->d = d;
	d->no_threads = true;
}

static inline void guest_kick(struct guest *g, unsigned q)
{
	struct virtio_dev *d = g->d;
	bool go;

	pthread_mutex_lock(&d->lock);
	go = d->active && !d->broken && d->vq[q].ready;
	if (go && !d->ops->unlocked_kick && !d->nworkers)
		d->ops->queue_kick(d, q);
	pthread_mutex_unlock(&d->lock);
	if (go && (d->ops->unlocked_kick || d->nworkers))
		d->ops->queue_kick(d, q);
}

static inline void guest_start(struct guest *g, struct fz *f)
{
	struct virtio_dev *d = g->d;
	uint32_t drop = fz_u8(f), odd = fz_u8(f);
	uint64_t features = d->features_offered;
	unsigned q;

	/* Bits of `drop` leave out one group of features each; the two of the rings have one of their own. */
	if (drop & 1)
		features &= ~VIRTIO_F(VIRTIO_RING_F_EVENT_IDX);
	if (drop & 2)
		features &= ~VIRTIO_F(VIRTIO_RING_F_INDIRECT_DESC);
	if (drop & 4)
		features &= ~0xffffull;
	if (drop & 8)
		features &= ~0xff0000ull;
	FUZZ_CHECK(!virtio_ack_features(d, features));
	for (q = 0; q < d->nqueues; q++) {
		uint64_t desc = GUEST_RING(q), avail = GUEST_AVAIL(q), used = GUEST_USED(q);

		g->avail[q] = 0;
		g->size[q] = g->ring;
		if (odd & 1u << q) { /* sizes and addresses of the input's choice */
			g->size[q] = (uint16_t)(1u << (fz_u8(f) % 9));
			desc = fz_u32(f) % (GUEST_LOW + 0x100);
			avail = fz_u32(f) % (GUEST_LOW + 0x100);
			used = fz_u32(f) % (GUEST_LOW + 0x100);
			if (odd & 0x80)
				used += GUEST_HIGH_GPA - GUEST_LOW;
		}
		if (virtio_queue_set(d, q, g->size[q], desc, avail, used) < 0)
			g->size[q] = 1;
	}
	(void)virtio_activate(d);
}

/* A descriptor at table + 16 * i. */
static inline void guest_desc(struct guest *g, uint64_t table, unsigned i, struct fz *f)
{
	struct vring_desc d;
	uint8_t how = fz_u8(f);

	/* Mostly sane, or the fuzzer would never see a device work. */
	d.addr = GUEST_DATA + 16ull * fz_u8(f) * (how & 0x10 ? 16 : 1);
	d.len = how & 0x20 ? fz_u16(f) : fz_u8(f);
	d.flags = how & 7;
	d.next = (uint16_t)(how & 0x40 ? fz_u8(f) : i + 1);
	if (how & 0x08) {
		d.addr = how & 0x80 ? fz_u64(f) : GUEST_HIGH_GPA + fz_u16(f);
		d.len = fz_u32(f);
	}
	(void)gmem_write(&g->m, table + 16ull * i, &d, sizeof(d));
}

static inline void guest_offer(struct guest *g, unsigned q, uint16_t head, unsigned jump)
{
	uint16_t idx;

	(void)gmem_write(&g->m, GUEST_AVAIL(q) + 4 + 2u * (g->avail[q] % g->size[q]), &head, 2);
	g->avail[q] = (uint16_t)(g->avail[q] + jump);
	idx = g->avail[q];
	(void)gmem_write(&g->m, GUEST_AVAIL(q) + 2, &idx, 2);
}

/* What the kernel has finished of what queue q's worker handed to it. */
static inline void guest_completions(struct guest *g, unsigned q)
{
	struct virtio_dev *d = g->d;
	uint32_t running = 0;
	unsigned i;

	if (!d->nworkers || !d->ops->worker_fd)
		return;
	for (i = 0; i < d->nqueues && d->active && !d->broken; i++)
		if (d->vq[i].ready && d->vq[i].worker == d->vq[q].worker)
			running |= 1u << i;
	if (running)
		d->ops->worker_fd(d, d->vq[q].worker, running);
}

static inline void guest_step(struct guest *g, struct fz *f)
{
	uint8_t op = fz_u8(f), where[64];
	unsigned q = (op >> 4) % g->d->nqueues, n, i;
	struct fz run;

	switch (op & 15) {
	case 0:
	case 1: /* a chain, offered */
		n = 1 + fz_u8(f) % 6;
		i = fz_u8(f) % 16;
		for (unsigned k = 0; k < n; k++)
			guest_desc(g, GUEST_RING(q), (i + k) % 16, f);
		guest_offer(g, q, (uint16_t)i, 1);
		if (op & 1)
			guest_kick(g, q);
		break;
	case 2:
		guest_kick(g, q);
		break;
	case 3: /* bytes of a request */
		i = GUEST_DATA + 16u * fz_u8(f);
		run = fz_take(f, fz_u8(f));
		(void)gmem_write(&g->m, i, run.p, run.n);
		break;
	case 4: /* bytes anywhere, rings included */
		i = fz_u32(f) % GUEST_LOW;
		run = fz_take(f, fz_u8(f) % 64);
		(void)gmem_write(&g->m, i, run.p, run.n);
		break;
	case 5:
		guest_offer(g, q, fz_u16(f), fz_u8(f));
		break;
	case 6: /* an indirect table */
		n = 1 + fz_u8(f) % 8;
		i = GUEST_DATA + 16u * fz_u8(f);
		for (unsigned k = 0; k < n; k++)
			guest_desc(g, i, k, f);
		break;
	case 7:
		if (g->host)
			g->host(g, f);
		break;
	case 8:
		(void)loop_turn(g->l, 0, NULL);
		break;
	case 9:
		virtio_reset(g->d);
		guest_start(g, f);
		break;
	case 10: {
		uint64_t off = fz_u64(f);

		if (op & 0x10)
			off &= 0xff;
		virtio_config_read(g->d, off, where, fz_u8(f) % sizeof(where));
		break;
	}
	case 11:
		fz_bytes(f, where, sizeof(where));
		virtio_config_write(g->d, fz_u8(f), where, fz_u8(f) % sizeof(where));
		break;
	case 12: { /* one queue alone, as vhost-user does it */
		uint16_t next = virtio_queue_stop(g->d, q);

		(void)virtio_queue_start(g->d, q, op & 0x80 ? fz_u16(f) : next);
		break;
	}
	case 13:
		virtio_drain(g->d);
		guest_completions(g, q);
		break;
	case 14: /* a used index the device did not write */
		run = fz_take(f, 2);
		(void)gmem_write(&g->m, GUEST_USED(q) + 2, run.p, run.n);
		break;
	default:
		break;
	}
}

/* guest_run: one input from a reset device to a reset device. */
static inline void guest_run(struct guest *g, const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	unsigned n;

	memset(g->m.regions[0].hva, 0, gmem_bytes(&g->m));
	guest_start(g, &f);
	for (n = 0; f.n && n < GUEST_OPS; n++)
		guest_step(g, &f);
	for (n = 0; n < g->d->nqueues; n++)
		guest_kick(g, n);
	(void)loop_turn(g->l, 0, NULL);
	virtio_reset(g->d);
	/* What the reset left to the loop. */
	(void)loop_turn(g->l, 0, NULL);
	(void)loop_turn(g->l, 0, NULL);
	FUZZ_CHECK(!g->d->broken && !g->d->active);
}

#endif
