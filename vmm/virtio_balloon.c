/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_balloon.c - memory that the guest has no use for goes back to the host (virtio 1.2 §5.5).
 *
 * Two ways lead there. Free page reporting (§5.5.6.7): a guest's kernel names blocks that lie in its free lists, on its own
 * and all the time; it may take them again without a word, so giving them up is only a hint about their contents. And
 * the balloon proper: the host wishes for a number of pages (virtio_balloon_want), the driver takes as many out of use and
 * names each; it may take them back when it runs out of memory (DEFLATE_ON_OOM) or when the wish shrinks.
 *
 * Both end in gmem_discard(). What is touched afterwards is there again: zeroes, or the kernel file's bytes where that is
 * mapped. Hence no PAGE_POISON: a guest that counts on what it left in free pages reports none, says Linux.
 *
 * Which queue reports come on: the specification numbers it 4; drivers before Linux 6.11 number only the queues that
 * there are, and so come to 2. Without the features of queues 2 and 3 nothing else can be meant by any of the three.
 *
 * Discarding what a chain names takes a tenth of a second when all of it was in use, so a turn of the loop does a piece of
 * it (TURN_BYTES, PFNS), and one chain after the other is served, whichever queue it came on.
 */
#include <linux/virtio_balloon.h>

#include "vmm/virtio.h"

#define QUEUE_SIZE   128 /* Linux wants at least 32 entries for reports */
#define INFLATE      0
#define DEFLATE      1
#define REPORT_FIRST 2
#define QUEUES       5
#define PFN_SHIFT    VIRTIO_BALLOON_PFN_SHIFT
#define PFNS         256  /* done in a turn, as many as Linux sends */
#define CHAIN_PFNS   4096 /* of one chain */
#define PAGE         4096u
#define TURN_BYTES   (2u << 20) /* of a report, in a turn; less than twice that with the last piece */

struct balloon {
	struct virtio_dev dev;
	struct virtio_balloon_config config; /* both numbers are little-endian, as we are */
	struct virtq_chain chain;
	bool busy; /* with `chain`, which came on queue q */
	unsigned q;
	unsigned at; /* where in it: its buffer (of a report), */
	size_t off;  /* and the byte of that, or of the list */
};

/* What of the configuration exists without the features we do not offer (§5.5.4). */
#define CONFIG_LEN offsetof(struct virtio_balloon_config, free_page_hint_cmd_id)

static struct balloon *balloon_of(struct virtio_dev *dev)
{
	return container_of(dev, struct balloon, dev);
}

static void balloon_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&balloon_of(dev)->config + off, len);
}

/* The driver says how much it gave; nothing here depends on it. */
static void balloon_config_write(struct virtio_dev *dev, uint32_t off, const void *buf,
				 uint32_t len)
{
	const uint32_t at = offsetof(struct virtio_balloon_config, actual);

	if (off == at && len == sizeof(uint32_t))
		memcpy(&balloon_of(dev)->config.actual, buf, len);
}

/* Neighbours go together, whichever way the driver counts. */
static void discard_pfns(struct virtio_dev *dev, const uint32_t *pfn, size_t n)
{
	size_t i, k;

	for (i = 0; i < n; i += k) {
		uint32_t low = pfn[i];

		for (k = 1; i + k < n; k++) {
			if (pfn[i + k] == low - 1 && low)
				low--;
			else if (pfn[i + k] != low + k)
				break;
		}
		/* One that is no memory is no reason to stop: a driver may well name a page twice, or a hole. */
		gmem_discard(dev->mem, (uint64_t)low << PFN_SHIFT, k << PFN_SHIFT);
	}
}

/* Pages beyond the bound stay where they are: the guest does without them, and the host does not gain. True: all is done. */
static bool inflate(struct balloon *b)
{
	uint32_t pfn[PFNS];
	size_t n = virtq_read_out(&b->chain, b->off, pfn, sizeof(pfn)) / sizeof(pfn[0]);

	discard_pfns(&b->dev, pfn, n);
	b->off += sizeof(pfn);
	return n < PFNS || b->off == CHAIN_PFNS * sizeof(pfn[0]);
}

static bool report(struct balloon *b)
{
	const struct virtq_chain *c = &b->chain;
	size_t done = 0;

	while (b->at < c->nin && done < TURN_BYTES) {
		const struct iovec *v = &c->iov[c->nout + b->at];
		uint8_t *p = (uint8_t *)v->iov_base + b->off;
		/* Where it is cut lies between two pages, or the one would never go. */
		size_t n = MIN(v->iov_len - b->off, TURN_BYTES - (uintptr_t)p % PAGE);

		gmem_discard_at(b->dev.mem, p, n);
		done += n;
		b->off += n;
		if (b->off == v->iov_len) {
			b->at++;
			b->off = 0;
		}
	}
	return b->at == c->nin;
}

static bool serve(struct balloon *b)
{
	if (b->q == INFLATE)
		return inflate(b);
	if (b->q >= REPORT_FIRST && virtio_has(&b->dev, VIRTIO_BALLOON_F_REPORTING))
		return report(b);
	return true;
}

static void balloon_kick(struct virtio_dev *dev, unsigned q)
{
	struct balloon *b = balloon_of(dev);

	if (b->busy && q != b->q)
		return; /* until that is done */
	if (!b->busy) {
		if (!virtio_next(dev, q, &b->chain))
			return;
		b->busy = true;
		b->q = q;
		b->at = 0;
		b->off = 0;
	}
	if (!serve(b)) {
		virtio_again(dev, q);
		return;
	}
	b->busy = false;
	virtq_push(&dev->vq[q], b->chain.head, 0);
	virtq_publish(&dev->vq[q]);
	virtio_notify(dev, q);
	virtio_wake(dev); /* all queues: others may have waited */
}

static void balloon_reset(struct virtio_dev *dev)
{
	balloon_of(dev)->config.actual = 0;
	balloon_of(dev)->busy = false;
}

static void balloon_free(struct virtio_dev *dev)
{
	virtio_dev_fini(dev);
	free(balloon_of(dev));
}

static const struct virtio_dev_ops balloon_ops = {
	.name = "balloon",
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.reset = balloon_reset,
	.queue_kick = balloon_kick,
	.free = balloon_free,
};

void virtio_balloon_want(struct virtio_dev *dev, uint64_t bytes)
{
	struct balloon *b = balloon_of(dev);

	pthread_mutex_lock(&dev->lock);
	b->config.num_pages = (uint32_t)MIN(bytes >> PFN_SHIFT, (uint64_t)UINT32_MAX);
	virtio_config_changed(dev);
	pthread_mutex_unlock(&dev->lock);
}

uint64_t virtio_balloon_given(struct virtio_dev *dev)
{
	uint64_t pages;

	pthread_mutex_lock(&dev->lock);
	pages = balloon_of(dev)->config.actual;
	pthread_mutex_unlock(&dev->lock);
	return pages << PFN_SHIFT;
}

struct virtio_dev *virtio_balloon_new(struct loop *l, const struct gmem *m, struct error **err)
{
	struct balloon *b = xcalloc(1, sizeof(*b));
	unsigned q;

	b->dev.nqueues = QUEUES;
	b->dev.config_len = CONFIG_LEN;
	b->dev.features_offered =
		VIRTIO_F(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | VIRTIO_F(VIRTIO_BALLOON_F_REPORTING);
	for (q = 0; q < QUEUES; q++)
		b->dev.vq[q].max_size = QUEUE_SIZE;
	if (virtio_dev_init(&b->dev, &balloon_ops, VIRTIO_ID_BALLOON, l, m, err) < 0) {
		balloon_free(&b->dev);
		return NULL;
	}
	return &b->dev;
}
