/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net.c - a network card on a tap descriptor (virtio 1.2 §5.1): one queue pair, no control
 * queue.
 *
 * Frames cross with the 12-byte virtio_net_hdr_v1 in front, on the tap too (TUNSETVNETHDRSZ), so
 * that checksum and segmentation offloads pass through. A frame to the guest is read into a buffer
 * of ours and copied into as many receive buffers as it needs (mergeable, §5.1.6.4); when the guest
 * has none posted, the tap is no longer watched until it posts some, and frames wait in the kernel.
 * From the guest, header and Ethernet header are copied and checked, the rest goes out in place; a
 * source address that is not the card's own is dropped.
 *
 * Besides a tap, a SOCK_SEQPACKET or SOCK_DGRAM socket that carries the same frames is taken; it
 * gets no offloads.
 */
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"
#include "vmm/virtio.h"

#define QUEUE_SIZE 256
#define RX         0
#define TX         1
#define HDR        sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX  (65535 + ETH_HLEN + 4)
#define BATCH      64
#define CONFIG_LEN 12 /* mac, status, max_virtqueue_pairs, mtu */

FILTER_RULES = {
	FILTER_ALLOW(FILTER_MAIN, read),
	FILTER_ALLOW(FILTER_MAIN, writev),
	/* Offloads are switched when the driver is there: on kvm by the vCPU that says so. */
	FILTER_ALLOW_ARG(FILTER_MAIN | FILTER_VCPU, ioctl, 1, ~0u, TUNSETOFFLOAD),
};

_Static_assert(sizeof(struct virtio_net_hdr_v1) == 12, "vnet header (§5.1.6)");

struct net {
	struct virtio_dev dev;
	int fd;
	struct loop_source *src;
	bool armed;
	uint8_t mac[ETH_ALEN];
	uint8_t config[CONFIG_LEN];
	uint64_t dropped_tx, dropped_rx;
	struct virtq_chain chain;
	struct iovec out[VIRTQ_MAX_SIZE + 1];
	size_t pending; /* bytes of frame read from the tap and not yet delivered */
	uint8_t frame[HDR + FRAME_MAX];
};

static void net_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, container_of(dev, struct net, dev)->config + off, len);
}

static void arm(struct net *n, bool on)
{
	if (n->src && n->armed != on && !loop_mod_fd(n->src, on ? EPOLLIN : 0))
		n->armed = on;
}

/* ---- to the guest ---- */

enum deliver { DELIVERED, NO_ROOM, DROPPED };

/* Puts n->frame[0..pending) into receive buffers. Nothing is visible to the driver unless all of it
 * fits. */
static enum deliver deliver(struct net *n)
{
	struct virtio_dev *dev = &n->dev;
	struct virtq *q = &dev->vq[RX];
	uint8_t *first = NULL; /* where the guest put it, aligned or not */
	uint16_t used_idx = q->used_idx;
	size_t done = 0;
	unsigned k = 0;

	while (done < n->pending) {
		/* No more buffers than the ring has: a guest that adds empty ones as fast as they are taken would keep
		 * us here. */
		int rc = k >= q->size || (k && !virtio_has(dev, VIRTIO_NET_F_MRG_RXBUF))
				 ? 0
				 : virtio_pop(dev, RX, &n->chain);
		size_t put;

		if (rc <= 0) {
			bool hopeless =
				k >= q->size || (k && !virtio_has(dev, VIRTIO_NET_F_MRG_RXBUF));

			q->used_idx = used_idx;
			while (k--)
				virtq_unpop(q);
			/* Even a full ring of such buffers cannot take it. */
			return hopeless ? DROPPED : NO_ROOM;
		}
		if (!k) {
			if (n->chain.nin < 1 || n->chain.iov[n->chain.nout].iov_len < HDR) {
				virtio_dev_broken(dev,
						  "receive buffer without room for the header");
				return DROPPED;
			}
			first = n->chain.iov[n->chain.nout].iov_base;
		}
		put = virtq_write_in(&n->chain, 0, n->frame + done, n->pending - done);
		virtq_push(q, n->chain.head, (uint32_t)put);
		done += put;
		k++;
	}
	if (first) {
		uint16_t buffers = (uint16_t)k;

		memcpy(first + offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers,
		       sizeof(buffers));
	}
	virtq_publish(q);
	return DELIVERED;
}

static bool next_frame(struct net *n)
{
	ssize_t r = RETRY_EINTR(read(n->fd, n->frame, sizeof(n->frame)));

	if (r < 0 && errno != EAGAIN)
		log_debug("net: read from the tap: %s", strerror(errno));
	if (r <= 0)
		return false;
	n->pending = (size_t)r > HDR ? (size_t)r : 0;
	return true;
}

static void rx_run(struct net *n)
{
	struct virtio_dev *dev = &n->dev;
	unsigned batch = BATCH;

	arm(n, true);
	while (batch--) {
		enum deliver d;

		/* A frame is only taken off the tap when some buffer is there. */
		if (virtq_empty(&dev->vq[RX]) && !virtq_want_kick(&dev->vq[RX], true)) {
			arm(n, false);
			break;
		}
		if (!n->pending && !next_frame(n))
			break;
		if (!n->pending)
			continue;
		d = deliver(n);
		if (dev->broken)
			break;
		if (d == NO_ROOM) {
			/* One buffer more than there are now brings us back. */
			if (virtq_want_more(&dev->vq[RX]))
				continue;
			arm(n, false);
			break;
		}
		if (d == DROPPED)
			n->dropped_rx++;
		n->pending = 0;
	}
	virtio_notify(dev, RX);
}

static void on_tap(void *arg, int fd, uint32_t events)
{
	struct net *n = arg;

	pthread_mutex_lock(&n->dev.lock);
	if (events & (EPOLLERR | EPOLLHUP) && !next_frame(n)) {
		/* The tap was taken away: that would be reported for ever. */
		loop_source_free(STEAL(n->src));
	} else if (n->dev.active && !n->dev.broken && n->dev.vq[RX].ready)
		rx_run(n);
	else
		arm(n, false);
	pthread_mutex_unlock(&n->dev.lock);
}

/* ---- from the guest ---- */

/* Checks and completes the driver's header (§5.1.6.2); frame is what follows it. */
static bool tx_header_ok(const struct net *n, struct virtio_net_hdr_v1 *h, size_t frame)
{
	size_t end;

	h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->num_buffers = 0;
	if (h->flags) {
		if (!virtio_has(&n->dev, VIRTIO_NET_F_CSUM))
			return false;
		end = (size_t)h->csum_start + h->csum_offset + 2;
		if (end > frame)
			return false;
	}
	switch (h->gso_type) {
	case VIRTIO_NET_HDR_GSO_NONE:
		h->gso_size = h->hdr_len = 0;
		return true;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		if (!virtio_has(&n->dev, VIRTIO_NET_F_HOST_TSO4))
			return false;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		if (!virtio_has(&n->dev, VIRTIO_NET_F_HOST_TSO6))
			return false;
		break;
	default:
		return false;
	}
	return h->flags && h->gso_size && h->hdr_len <= frame;
}

/* The head of the frame leaves from our copy: what was checked is what is sent. */
static bool tx_send(struct net *n, const struct virtq_chain *c)
{
	struct {
		struct virtio_net_hdr_v1 h;
		uint8_t eth[ETH_HLEN];
	} __attribute__((packed)) head;
	struct virtio_net_hdr_v1 h;
	unsigned k;

	if (c->out_len < sizeof(head) || c->out_len > HDR + FRAME_MAX)
		return false;
	if (virtq_read_out(c, 0, &head, sizeof(head)) != sizeof(head))
		return false;
	h = head.h;
	if (!tx_header_ok(n, &h, c->out_len - HDR))
		return false;
	head.h = h;
	if (memcmp(head.eth + ETH_ALEN, n->mac, ETH_ALEN))
		return false;
	n->out[0] = (struct iovec){.iov_base = &head, .iov_len = sizeof(head)};
	k = iov_slice(c->iov, c->nout, sizeof(head), c->out_len - sizeof(head), n->out + 1);
	if (k + 1 > 1024)
		return false;
	/* A full tap drops the frame, as a wire does. */
	return RETRY_EINTR(writev(n->fd, n->out, (int)k + 1)) > 0;
}

static void tx_run(struct net *n)
{
	struct virtio_dev *dev = &n->dev;
	unsigned batch = BATCH;

	while (batch && virtio_next(dev, TX, &n->chain)) {
		if (!tx_send(n, &n->chain))
			n->dropped_tx++;
		virtq_push(&dev->vq[TX], n->chain.head, 0);
		virtq_publish(&dev->vq[TX]);
		batch--;
	}
	virtio_notify(dev, TX);
	if (!batch)
		virtio_wake(dev);
}

static void net_kick(struct virtio_dev *dev, unsigned q)
{
	struct net *n = container_of(dev, struct net, dev);

	if (q == RX)
		rx_run(n);
	else
		tx_run(n);
}

/* Tells the tap which offloads the driver takes (GUEST_*): nothing else may come. */
static int net_activate(struct virtio_dev *dev)
{
	struct net *n = container_of(dev, struct net, dev);
	unsigned off = 0;

	if (virtio_has(dev, VIRTIO_NET_F_GUEST_CSUM))
		off |= TUN_F_CSUM;
	if (off && virtio_has(dev, VIRTIO_NET_F_GUEST_TSO4))
		off |= TUN_F_TSO4;
	if (off && virtio_has(dev, VIRTIO_NET_F_GUEST_TSO6))
		off |= TUN_F_TSO6;
	if (dev->features_offered & VIRTIO_F(VIRTIO_NET_F_CSUM) &&
	    ioctl(n->fd, TUNSETOFFLOAD, off) < 0)
		log_warn("net: TUNSETOFFLOAD: %s", strerror(errno));
	return 0;
}

static void net_reset(struct virtio_dev *dev)
{
	container_of(dev, struct net, dev)->pending = 0;
}

static void net_free(struct virtio_dev *dev)
{
	struct net *n = container_of(dev, struct net, dev);

	loop_source_free(n->src);
	virtio_dev_fini(dev);
	free(n);
}

static const struct virtio_dev_ops net_ops = {
	.name = "net",
	.config_read = net_config_read,
	.activate = net_activate,
	.reset = net_reset,
	.queue_kick = net_kick,
	.free = net_free,
};

/* Prepares the descriptor; *tap says whether offloads are to be had. */
static int open_backend(int fd, bool *tap, struct error **err)
{
	int sz = (int)HDR, type = 0;
	socklen_t len = sizeof(type);

	*tap = false;
	if (fd_set_nonblock(fd, true) < 0)
		return error_sys(err, errno, "network descriptor");
	if (!getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len)) {
		if (type == SOCK_SEQPACKET || type == SOCK_DGRAM)
			return 0;
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "network descriptor is a stream socket");
	}
	if (ioctl(fd, TUNSETVNETHDRSZ, &sz) < 0)
		return error_sys(err, errno, "tap: header size");
	if (ioctl(fd, TUNSETOFFLOAD, 0) < 0)
		return error_sys(err, errno, "tap: offloads");
	*tap = true;
	return 0;
}

struct virtio_dev *virtio_net_new(struct loop *l, const struct gmem *m, const struct vm_nic *nic,
				  struct error **err)
{
	struct net *n;
	uint16_t mtu = nic->mtu;
	bool tap;

	if (open_backend(nic->tap_fd, &tap, err) < 0)
		return NULL;
	n = xcalloc(1, sizeof(*n));
	n->fd = nic->tap_fd;
	memcpy(n->mac, nic->mac, ETH_ALEN);
	memcpy(n->config, nic->mac, ETH_ALEN);
	n->config[8] = 1; /* max_virtqueue_pairs */
	memcpy(n->config + 10, &mtu, sizeof(mtu));
	n->dev.config_len = CONFIG_LEN;
	n->dev.features_offered = VIRTIO_F(VIRTIO_NET_F_MAC) | VIRTIO_F(VIRTIO_NET_F_MRG_RXBUF);
	if (mtu)
		n->dev.features_offered |= VIRTIO_F(VIRTIO_NET_F_MTU);
	if (tap)
		n->dev.features_offered |=
			VIRTIO_F(VIRTIO_NET_F_CSUM) | VIRTIO_F(VIRTIO_NET_F_GUEST_CSUM) |
			VIRTIO_F(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_F(VIRTIO_NET_F_GUEST_TSO6) |
			VIRTIO_F(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_F(VIRTIO_NET_F_HOST_TSO6);
	n->dev.nqueues = 2;
	n->dev.vq[RX].max_size = n->dev.vq[TX].max_size = QUEUE_SIZE;
	if (virtio_dev_init(&n->dev, &net_ops, VIRTIO_ID_NET, l, m, err) < 0)
		goto fail;
	n->src = loop_add_fd(l, n->fd, 0, on_tap, n, err);
	if (!n->src)
		goto fail;
	return &n->dev;
fail:
	net_free(&n->dev);
	return NULL;
}
