/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_queue.c - the frames of one pair of queues.
 *
 * To the guest: receive buffers are taken from the ring until the largest possible frame has room, and the kernel reads
 * into them; what the frame did not need stays for the next, and at the end of the turn goes back to the ring. With
 * fewer buffers than that, and from a stream, a frame is read into memory of ours and copied once enough are there
 * (mergeable, virtio 1.2 §5.1.6.4). No frame is taken from the kernel while there is no buffer at all: they wait there.
 *
 * From the guest: the header and the first NET_HEAD bytes are copied and judged, and leave from that copy.
 */
#include <stdio.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/net_impl.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_NET, readv),
	FILTER_ALLOW(FILTER_NET, writev),
};

/* Two slots are the header's and that of what is too long. */
#define HELD_IOV (NET_IOV - 2)

static struct virtq *rx_queue(struct net_pair *p)
{
	return &p->net->dev.vq[2 * p->index];
}

static bool is_broken(const struct net_pair *p)
{
	return __atomic_load_n(&p->net->dev.broken, __ATOMIC_RELAXED);
}

/* ---- receive buffers ---- */

static unsigned buffers_max(struct net_pair *p)
{
	return virtio_has(&p->net->dev, VIRTIO_NET_F_MRG_RXBUF) ? rx_queue(p)->size : 1;
}

/* Takes buffers until `want` bytes are held or no more are to be had. No more than the ring has: a guest that adds empty
 * ones as fast as they are taken would keep us here. */
static void hold(struct net_pair *p, size_t want)
{
	struct virtio_dev *dev = &p->net->dev;
	struct virtq_chain *c = &p->rx_chain;
	unsigned max = buffers_max(p);

	p->full = false;
	while (p->room < want && p->nheld < max) {
		if (virtio_pop(dev, 2 * p->index, c) <= 0)
			return;
		if (p->niov + c->nin > HELD_IOV) {
			virtq_unpop(rx_queue(p));
			if (!p->nheld)
				virtio_dev_broken(dev, "receive buffer in too many pieces");
			p->full = true;
			return;
		}
		memcpy(p->iov + 1 + p->niov, c->iov + c->nout, c->nin * sizeof(c->iov[0]));
		p->held[p->nheld++] = (struct net_held){.head = c->head,
							.niov = (uint16_t)c->nin,
							.len = (uint32_t)c->in_len};
		p->niov += c->nin;
		p->room += c->in_len;
	}
	p->full = p->nheld == max;
}

static void give_back(struct net_pair *p)
{
	while (p->nheld) {
		virtq_unpop(rx_queue(p));
		p->nheld--;
	}
	p->niov = 0;
	p->room = 0;
	p->full = false;
}

/* The header lies in the first buffer's first piece. */
static bool header_fits(struct net_pair *p)
{
	if (p->held[0].niov && p->iov[1].iov_len >= NET_HDR)
		return true;
	virtio_dev_broken(&p->net->dev, "receive buffer without room for the header");
	return false;
}

/* The held buffers begin with a frame, len bytes with its header, which is put there now: the driver gets them. */
static void hand_over(struct net_pair *p, size_t len)
{
	struct virtq *q = rx_queue(p);
	unsigned k = 0, niov = 0;

	while (len) {
		size_t put = MIN(len, p->held[k].len);

		virtq_push(q, p->held[k].head, (uint32_t)put);
		len -= put;
		p->room -= p->held[k].len;
		niov += p->held[k++].niov;
	}
	p->hdr.num_buffers = (uint16_t)k;
	memcpy(p->iov[1].iov_base, &p->hdr, NET_HDR);
	virtq_publish(q);
	p->nheld -= k;
	p->niov -= niov;
	memmove(p->held, p->held + k, p->nheld * sizeof(p->held[0]));
	memmove(p->iov + 1, p->iov + 1 + niov, p->niov * sizeof(p->iov[0]));
}

/* ---- to the guest ---- */

/* Whether the driver takes frames of this kind: an older one, or the one before it, may have agreed to more. What it need not
 * know of one is taken away (§5.1.6.4.1: without GUEST_CSUM there are no flags). */
static bool wanted(struct net_pair *p)
{
	static const uint8_t bits[][2] = {
		{VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_GUEST_TSO4},
		{VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_GUEST_TSO6},
		{VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_F_GUEST_UFO},
		{NET_HDR_GSO_USO, NET_F_GUEST_USO4},
	};
	const struct virtio_dev *dev = &p->net->dev;
	uint8_t type = p->hdr.gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	size_t i;

	if (p->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !virtio_has(dev, VIRTIO_NET_F_GUEST_CSUM))
		return false;
	p->hdr.flags &= virtio_has(dev, VIRTIO_NET_F_GUEST_CSUM)
				? VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID
				: 0;
	if (p->hdr.gso_type & VIRTIO_NET_HDR_GSO_ECN && !virtio_has(dev, VIRTIO_NET_F_GUEST_ECN))
		return false;
	if (type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	for (i = 0; i < ARRAY_SIZE(bits); i++)
		if (bits[i][0] == type)
			return virtio_has(dev, bits[i][1]);
	return false;
}

static void drop_rx(struct net_pair *p)
{
	__atomic_fetch_add(&p->dropped_rx, 1, __ATOMIC_RELAXED);
}

/* 1: a frame was read, delivered or dropped; 0: there is none. */
static int read_direct(struct net_pair *p)
{
	struct iovec first = p->iov[1];
	ssize_t n;

	if (!header_fits(p))
		return 0;
	p->iov[0] = (struct iovec){&p->hdr, NET_HDR};
	p->iov[1] = (struct iovec){(char *)first.iov_base + NET_HDR, first.iov_len - NET_HDR};
	p->iov[1 + p->niov] = (struct iovec){p->frame, sizeof(p->frame)};
	n = RETRY_EINTR(readv(p->fd, p->iov, (int)p->niov + 2));
	p->iov[1] = first;
	if (n <= 0)
		return 0;
	if ((size_t)n <= NET_HDR || (size_t)n > p->room || !wanted(p))
		drop_rx(p);
	else
		hand_over(p, (size_t)n);
	return 1;
}

/* Reads a frame into our own memory. */
static bool read_pending(struct net_pair *p)
{
	struct iovec iov[2] = {{&p->hdr, NET_HDR}, {p->frame, sizeof(p->frame)}};
	int rc;

	if (p->stream) {
		rc = net_stream_recv(p->stream, &p->pending, &p->pending_len);
		if (rc < 0)
			net_link_lost(p->net);
		memset(&p->hdr, 0, NET_HDR);
		if (rc <= 0)
			p->pending = NULL;
		return rc > 0;
	}
	for (;;) {
		ssize_t n = RETRY_EINTR(readv(p->fd, iov, 2));

		if (n <= 0)
			return false;
		if ((size_t)n <= NET_HDR || !wanted(p)) {
			drop_rx(p);
			continue;
		}
		p->pending = p->frame;
		p->pending_len = (size_t)n - NET_HDR;
		return true;
	}
}

static void copy_pending(struct net_pair *p)
{
	size_t done = 0, skip = NET_HDR;
	unsigned i;

	for (i = 1; done < p->pending_len; i++) {
		size_t part = MIN(p->iov[i].iov_len - skip, p->pending_len - done);

		memcpy((char *)p->iov[i].iov_base + skip, p->pending + done, part);
		done += part;
		skip = 0;
	}
}

/* Delivers the frame in our memory. False: not now, a kick brings us back. */
static bool deliver_pending(struct net_pair *p)
{
	size_t need = NET_HDR + p->pending_len;

	hold(p, need);
	if (is_broken(p) || (p->nheld && !header_fits(p)))
		return false;
	if (p->room >= need) {
		copy_pending(p);
		hand_over(p, need);
	} else if (p->full) {
		drop_rx(p); /* even all buffers a frame may have cannot take it */
	} else {
		give_back(p);
		/* One buffer more than there are now brings us back. */
		return virtq_want_more(rx_queue(p));
	}
	p->pending = NULL;
	return true;
}

static bool rx_one(struct net_pair *p)
{
	if (is_broken(p))
		return false;
	if (!p->pending && !p->stream) {
		if (!p->nheld && virtq_empty(rx_queue(p)) && !virtq_want_kick(rx_queue(p), true))
			return false;
		hold(p, p->rx_want);
		if (is_broken(p))
			return false;
		if (p->room >= p->rx_want)
			return read_direct(p);
	}
	return (p->pending || read_pending(p)) && deliver_pending(p);
}

/* False: there is more than a batch. */
static bool rx_run(struct net_pair *p)
{
	unsigned batch = NET_BATCH;

	while (batch && !virtio_pausing(&p->net->dev) && rx_one(p)) {
		/* At once: while the driver works on this frame the next is read. */
		virtio_notify(&p->net->dev, 2 * p->index);
		batch--;
	}
	give_back(p);
	return batch;
}

/* ---- from the guest ---- */

/*
 * Checks and completes the driver's header (§5.1.6.2). frame is what follows it; before byte `judged` of that no
 * checksum may be put, or it would be another frame that leaves than the one the filter saw.
 */
static bool tx_header_ok(const struct net *n, struct virtio_net_hdr_v1 *h, size_t frame,
			 size_t judged)
{
	static const struct {
		uint8_t type, ecn, feature;
	} kinds[] = {
		{VIRTIO_NET_HDR_GSO_TCPV4, 1, VIRTIO_NET_F_HOST_TSO4},
		{VIRTIO_NET_HDR_GSO_TCPV6, 1, VIRTIO_NET_F_HOST_TSO6},
		{VIRTIO_NET_HDR_GSO_UDP, 0, VIRTIO_NET_F_HOST_UFO},
		{NET_HDR_GSO_USO, 0, NET_F_HOST_USO},
	};
	uint8_t type = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	bool ecn = h->gso_type & VIRTIO_NET_HDR_GSO_ECN;
	size_t i;

	h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->num_buffers = 0;
	if (h->flags) {
		size_t at = (size_t)h->csum_start + h->csum_offset;

		if (!virtio_has(&n->dev, VIRTIO_NET_F_CSUM) || at < judged || at + 2 > frame)
			return false;
	} else {
		h->csum_start = h->csum_offset = 0;
	}
	if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		h->gso_size = h->hdr_len = 0;
		return true;
	}
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].type == type && virtio_has(&n->dev, kinds[i].feature))
			break;
	if (i == ARRAY_SIZE(kinds) ||
	    (ecn && !(kinds[i].ecn && virtio_has(&n->dev, VIRTIO_NET_F_HOST_ECN))))
		return false;
	return h->flags && h->gso_size && h->hdr_len <= frame;
}

static enum net_verdict tx_one(struct net_pair *p)
{
	struct {
		struct virtio_net_hdr_v1 h;
		uint8_t frame[NET_HEAD];
	} __attribute__((packed)) head;
	const struct virtq_chain *c = &p->chain;
	struct virtio_net_hdr_v1 h;
	enum net_verdict v;
	size_t len, n, judged = 0;
	unsigned k;

	if (c->out_len < NET_HDR || c->out_len > NET_HDR + NET_FRAME_MAX)
		return NET_MALFORMED;
	len = c->out_len - NET_HDR;
	n = MIN(len, (size_t)NET_HEAD);
	(void)virtq_read_out(c, 0, &head, NET_HDR + n);
	v = net_filter(&p->net->id, head.frame, len, &judged);
	if (v)
		return v;
	h = head.h;
	if (!tx_header_ok(p->net, &h, len, judged))
		return NET_OFFLOAD;
	head.h = h;
	/* Slot 0 is the stream's length. */
	p->out[1] = p->stream ? (struct iovec){head.frame, n} : (struct iovec){&head, NET_HDR + n};
	k = 2 + iov_slice(c->iov, c->nout, NET_HDR + n, len - n, p->out + 2);
	if (k > NET_IOV)
		return NET_MALFORMED;
	if (p->stream ? net_stream_send(p->stream, p->out, k, len)
		      : RETRY_EINTR(writev(p->fd, p->out + 1, (int)k - 1)) < 0)
		__atomic_fetch_add(&p->lost, 1, __ATOMIC_RELAXED); /* as a wire does */
	return NET_PASS;
}

static void drop_tx(struct net_pair *p, enum net_verdict v)
{
	if (!__atomic_fetch_add(&p->dropped[v], 1, __ATOMIC_RELAXED))
		log_info("net: dropped a frame of the guest's: %s; further ones are counted",
			 net_verdict_name(v));
}

/* A full stream says when it no longer is. One that is over takes all there is. */
static bool can_send(struct net_pair *p)
{
	int rc = p->stream ? net_stream_flush(p->stream) : 1;

	if (rc < 0)
		net_link_lost(p->net);
	return rc != 0;
}

static bool tx_run(struct net_pair *p)
{
	struct virtio_dev *dev = &p->net->dev;
	unsigned q = 2 * p->index + 1, batch = NET_BATCH;

	while (batch && !virtio_pausing(dev)) {
		enum net_verdict v;

		if (!can_send(p) || !virtio_next(dev, q, &p->chain))
			break;
		v = tx_one(p);
		if (v)
			drop_tx(p, v);
		virtq_push(&dev->vq[q], p->chain.head, 0);
		virtq_publish(&dev->vq[q]);
		batch--;
	}
	return batch;
}

void net_pair_serve(struct net_pair *p, bool rx, bool tx)
{
	struct virtio_dev *dev = &p->net->dev;
	bool done = true;

	if (tx)
		done &= tx_run(p);
	/* What was sent is often answered by now: one interrupt for both. */
	if (rx)
		done &= rx_run(p);
	if (tx)
		virtio_notify(dev, 2 * p->index + 1);
	if (rx)
		virtio_notify(dev, 2 * p->index);
	if (!done)
		virtio_worker_wake(dev, p->index);
}
