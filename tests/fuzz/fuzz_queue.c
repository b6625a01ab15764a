// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_queue.c - split rings, several of them on workers. Hostile: ring addresses and sizes, descriptors (loops, lengths, directions, indirect
 * tables), the available index, and where the driver left the used index. A chain that is handed out must lie in guest
 * memory, byte for byte, and within the limits virtq.h promises.
 */
#include "tests/fuzz/fuzz_virtio.h"

#define QUEUES  6
#define WORKERS 3
#define HELD    8

static struct guest g;
static struct virtq_chain chain;
/* Chains that a worker keeps until it is drained. */
static struct {
	uint8_t q[HELD];
	uint16_t head[HELD];
	unsigned n;
} held[WORKERS];

static void chain_check(const struct virtq_chain *c, const struct virtq *q)
{
	size_t out = 0, in = 0;
	unsigned i;

	FUZZ_CHECK(c->nout + c->nin <= q->size);
	for (i = 0; i < c->nout + c->nin; i++) {
		const uint8_t *p = c->iov[i].iov_base, *start = g.m.regions[0].hva;
		size_t len = c->iov[i].iov_len;

		FUZZ_CHECK(len && p >= start && len <= GUEST_LOW + GUEST_HIGH);
		FUZZ_CHECK(p + len <=
			   start + (p < start + GUEST_LOW ? GUEST_LOW : GUEST_LOW + GUEST_HIGH));
		*(i < c->nout ? &out : &in) += len;
	}
	FUZZ_CHECK(out == c->out_len && in == c->in_len && out + in <= VIRTQ_MAX_BYTES);
}

static void null_kick(struct virtio_dev *dev, unsigned q)
{
	static uint8_t flat[4096];
	unsigned budget = 300, w = dev->vq[q].worker;

	while (budget-- && virtio_next(dev, q, &chain)) {
		static struct iovec part[VIRTQ_MAX_SIZE];
		size_t got, put;

		chain_check(&chain, &dev->vq[q]);
		got = virtq_read_out(&chain, chain.out_len / 2, flat, sizeof(flat));
		FUZZ_CHECK(got <= chain.out_len - chain.out_len / 2);
		FUZZ_CHECK(iov_slice(chain.iov, chain.nout, 1, SIZE_MAX, part) <= chain.nout);
		if (got == 7 && !(budget % 4)) {
			virtq_unpop(&dev->vq[q]);
			break;
		}
		if (got == 5 && held[w].n < HELD) {
			held[w].q[held[w].n] = (uint8_t)q;
			held[w].head[held[w].n++] = chain.head;
			dev->worker[w].in_flight++;
			continue;
		}
		put = virtq_write_in(&chain, 0, flat, sizeof(flat));
		FUZZ_CHECK(put <= chain.in_len);
		virtq_push(&dev->vq[q], chain.head, (uint32_t)put);
		if (budget % 3)
			virtq_publish(&dev->vq[q]);
	}
	virtq_publish(&dev->vq[q]);
	virtio_notify(dev, q);
	(void)virtq_want_more(&dev->vq[q]);
	(void)virtq_want_kick(&dev->vq[q], false);
}

static void null_drain(struct virtio_dev *dev, unsigned w)
{
	FUZZ_CHECK(dev->worker[w].in_flight == held[w].n);
	while (held[w].n) {
		unsigned i = --held[w].n;

		virtq_push(&dev->vq[held[w].q[i]], held[w].head[i], 1);
		virtq_publish(&dev->vq[held[w].q[i]]);
		virtio_notify(dev, held[w].q[i]);
	}
	dev->worker[w].in_flight = 0;
}

static void null_reset(struct virtio_dev *dev)
{
	unsigned w;

	for (w = 0; w < WORKERS; w++)
		FUZZ_CHECK(!held[w].n);
}

static void null_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	FUZZ_CHECK((uint64_t)off + len <= dev->config_len);
	memset(buf, 0, len);
}

static void null_config_write(struct virtio_dev *dev, uint32_t off, const void *buf, uint32_t len)
{
	FUZZ_CHECK((uint64_t)off + len <= dev->config_len);
}

static void null_free(struct virtio_dev *dev)
{
	virtio_dev_fini(dev);
}

static const struct virtio_dev_ops null_ops = {
	.name = "null",
	.config_read = null_config_read,
	.config_write = null_config_write,
	.queue_kick = null_kick,
	.drain = null_drain,
	.reset = null_reset,
	.free = null_free,
};

static struct virtio_dev null_dev;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	unsigned q;

	guest_init(&g);
	null_dev.nqueues = QUEUES;
	null_dev.nworkers = WORKERS;
	for (q = 0; q < QUEUES; q++) {
		null_dev.vq[q].max_size = q ? 64 : 256;
		null_dev.vq[q].worker = (uint8_t)(q % WORKERS);
	}
	null_dev.config_len = 24;
	FUZZ_CHECK(!virtio_dev_init(&null_dev, &null_ops, 42, g.l, &g.m, NULL));
	guest_take(&g, &null_dev);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	guest_run(&g, data, size);
	return 0;
}
