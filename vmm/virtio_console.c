/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_console.c - /dev/hvc0 (virtio 1.2 §5.3), output only: one port, no control queues.
 *
 * The receive queue exists because the driver wants it; nothing ever comes on it. What the guest
 * writes is copied out under the lock and handed over without it. The receiver may free the device
 * from its callback, hence `gone`.
 */
#include "vmm/virtio.h"

#define QUEUE_SIZE 64
#define RX         0
#define TX         1
#define PIECE      16384

struct console {
	struct virtio_dev dev;
	void (*fn)(void *arg, const void *p, size_t len);
	void *arg;
	bool calling, dead; /* fn runs; freed meanwhile */
	struct virtq_chain chain;
	uint8_t bytes[PIECE];
};

static void console_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memset(buf, 0, len); /* no size, no ports: neither feature is offered */
}

/* Takes one chain; its bytes, at most PIECE, are in con->bytes. -1 when there is none. */
static ssize_t take(struct console *con)
{
	struct virtio_dev *dev = &con->dev;
	ssize_t n = -1;

	pthread_mutex_lock(&dev->lock);
	if (virtio_next(dev, TX, &con->chain)) {
		n = (ssize_t)virtq_read_out(&con->chain, 0, con->bytes, PIECE);
		virtq_push(&dev->vq[TX], con->chain.head, 0);
		virtq_publish(&dev->vq[TX]);
		virtio_notify(dev, TX);
	}
	pthread_mutex_unlock(&dev->lock);
	return n;
}

static void console_kick(struct virtio_dev *dev, unsigned q)
{
	struct console *con = container_of(dev, struct console, dev);
	unsigned budget = QUEUE_SIZE;
	ssize_t n;

	if (q != TX)
		return;
	while ((n = take(con)) >= 0) {
		con->calling = true;
		if (n > 0 && con->fn)
			con->fn(con->arg, con->bytes, (size_t)n);
		con->calling = false;
		if (con->dead) {
			free(con);
			return;
		}
		if (!--budget) {
			virtio_wake(dev);
			return;
		}
	}
}

static void console_free(struct virtio_dev *dev)
{
	struct console *con = container_of(dev, struct console, dev);

	virtio_dev_fini(dev);
	con->dead = true;
	if (!con->calling)
		free(con);
}

static const struct virtio_dev_ops console_ops = {
	.name = "console",
	.config_read = console_config_read,
	.queue_kick = console_kick,
	.free = console_free,
	.unlocked_kick = true,
};

struct virtio_dev *virtio_console_new(struct loop *l, const struct gmem *m,
				      void (*fn)(void *arg, const void *p, size_t len), void *arg,
				      struct error **err)
{
	struct console *con = xcalloc(1, sizeof(*con));

	con->fn = fn;
	con->arg = arg;
	con->dev.nqueues = 2;
	con->dev.config_len = 12;
	con->dev.vq[RX].max_size = con->dev.vq[TX].max_size = QUEUE_SIZE;
	if (virtio_dev_init(&con->dev, &console_ops, VIRTIO_ID_CONSOLE, l, m, err) < 0) {
		console_free(&con->dev);
		return NULL;
	}
	return &con->dev;
}
