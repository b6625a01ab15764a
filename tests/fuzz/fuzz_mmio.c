// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_mmio.c - virtio-mmio registers. Hostile: every access a vCPU can make to a device's page, in any order, width
 * and value: queues of wrong sizes and addresses, changes after DRIVER_OK, resets in between. What a queue was given
 * must not change while it runs, and the status register never loses a bit but by reset.
 */
#include "tests/fuzz/fuzz_virtio.h"
#include "vmm/mmio.h"

#include <linux/virtio_mmio.h>

static struct guest g;
static struct vmmio t;
static unsigned raised;

static void raise_irq(void *arg)
{
	raised++;
}

static const uint16_t regs[] = {
	VIRTIO_MMIO_STATUS,
	VIRTIO_MMIO_QUEUE_SEL,
	VIRTIO_MMIO_QUEUE_NUM,
	VIRTIO_MMIO_QUEUE_READY,
	VIRTIO_MMIO_QUEUE_NOTIFY,
	VIRTIO_MMIO_QUEUE_DESC_LOW,
	VIRTIO_MMIO_QUEUE_DESC_HIGH,
	VIRTIO_MMIO_QUEUE_AVAIL_LOW,
	VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
	VIRTIO_MMIO_QUEUE_USED_LOW,
	VIRTIO_MMIO_QUEUE_USED_HIGH,
	VIRTIO_MMIO_DRIVER_FEATURES,
	VIRTIO_MMIO_DRIVER_FEATURES_SEL,
	VIRTIO_MMIO_DEVICE_FEATURES_SEL,
	VIRTIO_MMIO_INTERRUPT_ACK,
	0x100,
};

static void put(uint64_t off, uint32_t val)
{
	vmmio_write(&t, off, &val, 4);
}

/* What Linux does to bring a device up. */
static void bring_up(struct fz *f)
{
	uint32_t q, status = 1;

	put(VIRTIO_MMIO_STATUS, 0);
	put(VIRTIO_MMIO_STATUS, status |= 1);
	put(VIRTIO_MMIO_STATUS, status |= 2);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	put(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)g.d->features_offered);
	put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	put(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(g.d->features_offered >> 32));
	put(VIRTIO_MMIO_STATUS, status |= 8);
	for (q = 0; q < g.d->nqueues; q++) {
		put(VIRTIO_MMIO_QUEUE_SEL, q);
		put(VIRTIO_MMIO_QUEUE_NUM, 16);
		put(VIRTIO_MMIO_QUEUE_DESC_LOW, GUEST_RING(q));
		put(VIRTIO_MMIO_QUEUE_AVAIL_LOW, GUEST_AVAIL(q));
		put(VIRTIO_MMIO_QUEUE_USED_LOW, GUEST_USED(q));
		put(VIRTIO_MMIO_QUEUE_READY, 1);
		g.avail[q] = 0;
		g.size[q] = 16;
	}
	put(VIRTIO_MMIO_STATUS, status | 4);
}

static void step(struct fz *f)
{
	uint8_t op = fz_u8(f), bytes[8];
	uint16_t reg = regs[(op >> 4) % ARRAY_SIZE(regs)];
	struct virtq before = g.d->vq[0];
	uint8_t status = g.d->status;
	bool active = g.d->active;
	uint32_t val = fz_u8(f);

	switch (op & 7) {
	case 0:
	case 1:
		put(reg, val);
		break;
	case 2:
		put(reg, val = fz_u32(f));
		break;
	case 3:
		fz_bytes(f, bytes, 8);
		val = 1; /* whatever it was, a reset needs a plain zero */
		vmmio_write(&t, fz_u16(f), bytes, 1u << (op >> 4) % 4);
		return;
	case 4:
		vmmio_read(&t, op & 0x80 ? fz_u64(f) : reg, bytes, 1u << (op >> 4) % 4);
		break;
	case 5:
		bring_up(f);
		return;
	case 6: /* but not what only another transport does */
		if (f->n && (f->p[0] & 15) != 9 && (f->p[0] & 15) != 12)
			guest_step(&g, f);
		return;
	default:
		guest_kick(&g, val % g.d->nqueues);
	}
	if (active && g.d->active && before.ready) {
		const struct virtq *q = &g.d->vq[0];

		FUZZ_CHECK(q->ready && q->desc == before.desc && q->avail == before.avail &&
			   q->used == before.used && q->size == before.size);
	}
	if (reg != VIRTIO_MMIO_STATUS || val)
		FUZZ_CHECK((g.d->status & status) == status);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	guest_init(&g);
	guest_take(&g, virtio_rng_new(g.l, &g.m, NULL));
	vmmio_init(&t, g.d, raise_irq, NULL);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	unsigned n;

	memset(g.m.regions[0].hva, 0, GUEST_LOW + GUEST_HIGH);
	put(VIRTIO_MMIO_STATUS, 0);
	g.size[0] = 16;
	g.avail[0] = 0;
	for (n = 0; f.n && n < GUEST_OPS; n++)
		step(&f);
	put(VIRTIO_MMIO_STATUS, 0);
	(void)loop_turn(g.l, 0, NULL);
	FUZZ_CHECK(!g.d->status && !g.d->active);
	return 0;
}
