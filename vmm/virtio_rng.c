/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_rng.c - entropy for the guest (virtio 1.2 §5.4): one queue of writable buffers, filled
 * from getrandom(2).
 *
 * What one kick may cost is bounded: a chain gets at most CHAIN_MAX bytes (a short answer is
 * allowed), and after BATCH chains the queue goes to the back of the loop.
 */
#include <sys/random.h>

#include "core/filter.h"
#include "vmm/virtio.h"

#define QUEUE_SIZE 64
#define CHAIN_MAX  4096u
#define BATCH      32

FILTER_RULES = {
	FILTER_ALLOW(FILTER_MAIN, getrandom),
};

struct rng {
	struct virtio_dev dev;
	struct virtq_chain chain;
};

static void rng_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len);
}

static size_t fill(const struct virtq_chain *c)
{
	size_t want = MIN(c->in_len, CHAIN_MAX), done = 0;
	uint8_t bytes[256];

	while (done < want) {
		ssize_t n = RETRY_EINTR(getrandom(bytes, MIN(sizeof(bytes), want - done), 0));

		if (n <= 0)
			break;
		done += virtq_write_in(c, done, bytes, (size_t)n);
	}
	return done;
}

static void rng_kick(struct virtio_dev *dev, unsigned q)
{
	struct rng *r = container_of(dev, struct rng, dev);
	unsigned n;

	for (n = 0; n < BATCH; n++) {
		if (!virtio_next(dev, q, &r->chain))
			break;
		virtq_push(&dev->vq[q], r->chain.head, (uint32_t)fill(&r->chain));
		virtq_publish(&dev->vq[q]);
	}
	if (n == BATCH)
		virtio_wake(dev);
	virtio_notify(dev, q);
}

static void rng_free(struct virtio_dev *dev)
{
	virtio_dev_fini(dev);
	free(container_of(dev, struct rng, dev));
}

static const struct virtio_dev_ops rng_ops = {
	.name = "rng",
	.config_read = rng_config_read,
	.queue_kick = rng_kick,
	.free = rng_free,
};

struct virtio_dev *virtio_rng_new(struct loop *l, const struct gmem *m, struct error **err)
{
	struct rng *r = xcalloc(1, sizeof(*r));

	r->dev.nqueues = 1;
	r->dev.vq[0].max_size = QUEUE_SIZE;
	if (virtio_dev_init(&r->dev, &rng_ops, VIRTIO_ID_RNG, l, m, err) < 0) {
		rng_free(&r->dev);
		return NULL;
	}
	return &r->dev;
}
