/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_vsock.c - the vsock device (virtio 1.2 §5.10): packets between the virtqueues and the streams.
 *
 * Guest to host: a packet is copied out whole under the lock, given back to the driver, and handled without the lock.
 * Nothing in a header is believed: src_cid must be the guest's own, len must lie inside the chain, credit is
 * enforced. Host to guest: resets first, then one packet of each stream in turn, as receive buffers allow; so neither
 * a busy stream nor a guest that posts few buffers can starve the others.
 *
 * When the guest provokes resets without taking them, its transmit queue is left alone until it does.
 */
#include <stdio.h>

#include "core/log.h"
#include "vmm/vsock_impl.h"

#define QUEUE_SIZE 256
#define RX         0
#define TX         1
#define EVENT      2 /* transport resets (§5.10.6.7): only for migration, never used */
#define BATCH      64
#define HDR        sizeof(struct virtio_vsock_hdr)

_Static_assert(sizeof(struct virtio_vsock_hdr) == 44, "packet header (§5.10.6)");

static void vsock_config_read(struct virtio_dev *dev, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&container_of(dev, struct vsock, dev)->cid + off, len);
}

void vsock_unref(struct vsock *v)
{
	if (!--v->refs)
		free(v);
}

/* ---- host to guest ---- */

void vsock_queue_rst(struct vsock *v, uint64_t src_cid, uint32_t src_port, uint32_t dst_port,
		     uint16_t type)
{
	struct vsock_rst *r;

	if (v->dead || v->rst_n == ARRAY_SIZE(v->rst))
		return;
	r = &v->rst[(v->rst_head + v->rst_n++) % ARRAY_SIZE(v->rst)];
	*r = (struct vsock_rst){.src_cid = src_cid,
				.src_port = src_port,
				.dst_port = dst_port,
				.type = type};
}

static void ready_add(struct vsock_stream *s)
{
	if (s->in_ready || s->v->dead)
		return;
	s->in_ready = true;
	s->refs++;
	s->ready_next = NULL;
	*s->v->ready_tail = s;
	s->v->ready_tail = &s->ready_next;
}

static struct vsock_stream *ready_pop(struct vsock *v)
{
	struct vsock_stream *s = v->ready;

	v->ready = s->ready_next;
	if (!v->ready)
		v->ready_tail = &v->ready;
	s->in_ready = false;
	return s;
}

/* The first stream with something to say; those without are taken off the list. */
static struct vsock_stream *ready_first(struct vsock *v)
{
	while (v->ready) {
		if (vsock_stream_next_op(v->ready))
			return v->ready;
		vsock_stream_unref(ready_pop(v));
	}
	return NULL;
}

static void put_header(struct vsock *v, const struct virtio_vsock_hdr *h, uint32_t len)
{
	virtq_write_in(&v->chain, 0, h, HDR);
	virtq_push(&v->dev.vq[RX], v->chain.head, (uint32_t)HDR + len);
}

static void send_rst(struct vsock *v)
{
	const struct vsock_rst *r = &v->rst[v->rst_head];
	struct virtio_vsock_hdr h = {
		.src_cid = r->src_cid,
		.dst_cid = v->cid,
		.src_port = r->src_port,
		.dst_port = r->dst_port,
		.type = r->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};

	v->rst_head = (v->rst_head + 1) % ARRAY_SIZE(v->rst);
	v->rst_n--;
	put_header(v, &h, 0);
}

static void send_packet(struct vsock *v, struct vsock_stream *s)
{
	uint16_t op = vsock_stream_next_op(s);
	struct virtio_vsock_hdr h = {
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = v->cid,
		.src_port = s->host_port,
		.dst_port = s->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = s->alloc,
		.fwd_cnt = s->fwd_cnt,
	};

	if (op == VIRTIO_VSOCK_OP_RW) {
		uint32_t room = (uint32_t)MIN(v->chain.in_len - HDR, (size_t)VSOCK_MAX_PAYLOAD), n;

		room = MIN(room, vsock_stream_credit(s));
		while (h.len < room) {
			const uint8_t *p = vsock_ring_peek(&s->tx, h.len, &n);

			if (!p)
				break;
			n = MIN(n, room - h.len);
			virtq_write_in(&v->chain, HDR + h.len, p, n);
			h.len += n;
		}
	} else if (op == VIRTIO_VSOCK_OP_SHUTDOWN) {
		h.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
		/* When nothing can come any more either, say so: the guest answers with RST and the port is free. */
		if (s->shut_both || s->peer_eof)
			h.flags |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	}
	put_header(v, &h, h.len);
	vsock_stream_sent(s, op, h.len);
}

/*
 * A batch at most, then false: however small the guest's buffers are and however fast it posts them, the loop has other
 * things to do.
 */
static bool fill_rx(struct vsock *v)
{
	struct virtio_dev *dev = &v->dev;
	unsigned batch = BATCH;

	pthread_mutex_lock(&dev->lock);
	while (batch && !v->reset_due && (v->rst_n || ready_first(v))) {
		if (!virtio_next(dev, RX, &v->chain))
			break;
		batch--;
		if (v->chain.in_len <= HDR) {
			virtio_dev_broken(dev, "vsock receive buffer without room for a packet");
			break;
		}
		if (v->rst_n) {
			send_rst(v);
		} else {
			struct vsock_stream *s = ready_pop(v);

			send_packet(v, s);
			if (vsock_stream_next_op(s))
				ready_add(s);
			vsock_stream_unref(s);
		}
	}
	virtq_publish(&dev->vq[RX]);
	virtio_notify(dev, RX);
	pthread_mutex_unlock(&dev->lock);
	return batch;
}

/* Sends what can be sent, then tells owners that they may write again. The caller holds a reference on v. */
static void flush(struct vsock *v)
{
	/* The guest's packets may wait for this: the queues are looked at again, as after a kick. */
	if (!fill_rx(v))
		virtio_wake(&v->dev);
	while (v->wake) {
		struct vsock_stream *s = v->wake;

		v->wake = s->wake_next;
		s->in_wake = false;
		vsock_stream_run_writable(s);
		vsock_stream_unref(s);
	}
}

static void on_flush(void *arg)
{
	struct vsock *v = arg;

	v->flush_due = false;
	if (!v->dead)
		flush(v);
	vsock_unref(v);
}

static void flush_soon(struct vsock *v)
{
	if (v->flush_due || v->dead)
		return;
	v->flush_due = true;
	v->refs++;
	loop_defer(v->dev.loop, on_flush, v);
}

void vsock_ready(struct vsock_stream *s)
{
	ready_add(s);
	flush_soon(s->v);
}

/* ---- guest to host ---- */

static void violation(struct vsock *v, struct vsock_stream *s)
{
	vsock_queue_rst(v, VSOCK_HOST_CID, s->host_port, s->guest_port, VIRTIO_VSOCK_TYPE_STREAM);
	vsock_stream_gone(s);
}

static void stream_packet(struct vsock *v, struct vsock_stream *s, const struct virtio_vsock_hdr *h)
{
	s->peer_alloc = h->buf_alloc;
	s->peer_fwd = h->fwd_cnt;
	if (s->tx.len)
		vsock_ready(s);
	switch (h->op) {
	case VIRTIO_VSOCK_OP_RW:
		if (vsock_stream_input(s, v->payload, h->len) < 0)
			violation(v, s);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		vsock_stream_peer_shutdown(s, h->flags);
		break;
	case VIRTIO_VSOCK_OP_RST:
		vsock_stream_gone(s);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		s->pending |= VSOCK_SEND_CREDIT;
		vsock_ready(s);
		break;
	default:
		violation(v, s);
	}
}

/* have: payload bytes that really are in v->payload. */
static void packet(struct vsock *v, const struct virtio_vsock_hdr *h, size_t have)
{
	struct vsock_stream *s;

	if (h->src_cid != v->cid)
		return; /* a name it does not own: not even worth an answer */
	if (h->dst_cid != VSOCK_HOST_CID || h->type != VIRTIO_VSOCK_TYPE_STREAM) {
		if (h->op != VIRTIO_VSOCK_OP_RST)
			vsock_queue_rst(v, h->dst_cid, h->dst_port, h->src_port, h->type);
		return;
	}
	s = vsock_stream_find(v, h->dst_port, h->src_port);
	if (s && (h->len > have || (h->len && h->op != VIRTIO_VSOCK_OP_RW))) {
		violation(v, s);
	} else if (s) {
		stream_packet(v, s, h);
	} else if (h->op == VIRTIO_VSOCK_OP_REQUEST && !h->len) {
		if (v->nstreams >= VSOCK_MAX_STREAMS)
			vsock_queue_rst(v, VSOCK_HOST_CID, h->dst_port, h->src_port, h->type);
		else if ((s = vsock_stream_open(v, h->dst_port, h->src_port))) {
			s->peer_alloc = h->buf_alloc;
			s->peer_fwd = h->fwd_cnt;
		}
	} else if (h->op != VIRTIO_VSOCK_OP_RST) {
		vsock_queue_rst(v, VSOCK_HOST_CID, h->dst_port, h->src_port, h->type);
	}
}

/* Copies the next packet out. -1: none, or it has to wait. */
static ssize_t take(struct vsock *v, struct virtio_vsock_hdr *h)
{
	struct virtio_dev *dev = &v->dev;
	ssize_t have = -1;

	pthread_mutex_lock(&dev->lock);
	if (!v->reset_due && v->rst_n < VSOCK_RST_BACKLOG && virtio_next(dev, TX, &v->chain)) {
		size_t n = virtq_read_out(&v->chain, 0, h, HDR);

		if (n == HDR)
			have = (ssize_t)virtq_read_out(&v->chain, HDR, v->payload,
						       MIN(h->len, VSOCK_MAX_PAYLOAD));
		else
			virtio_dev_broken(dev, "vsock packet shorter than its header");
		virtq_push(&dev->vq[TX], v->chain.head, 0);
		virtq_publish(&dev->vq[TX]);
		virtio_notify(dev, TX);
	}
	pthread_mutex_unlock(&dev->lock);
	return have;
}

/* The driver reset the device: to it, no connection exists any more. */
static void run_reset(struct vsock *v)
{
	bool due;

	pthread_mutex_lock(&v->dev.lock);
	due = v->reset_due;
	v->reset_due = false;
	pthread_mutex_unlock(&v->dev.lock);
	if (!due)
		return;
	v->rst_n = v->rst_head = 0;
	while (v->nstreams && !v->dead) {
		unsigned i;

		for (i = 0; i < VSOCK_HASH_SIZE; i++)
			while (!v->dead && v->hash[i])
				vsock_stream_gone(v->hash[i]);
	}
}

static void vsock_work(struct virtio_dev *dev)
{
	struct vsock *v = container_of(dev, struct vsock, dev);

	v->refs++;
	run_reset(v);
	vsock_unref(v);
}

static void vsock_kick(struct virtio_dev *dev, unsigned q)
{
	struct vsock *v = container_of(dev, struct vsock, dev);
	struct virtio_vsock_hdr h;
	unsigned batch = BATCH;
	ssize_t have = 0;

	if (q == EVENT)
		return;
	v->refs++;
	run_reset(v);
	/* A receive buffer may also be what stalled packets wait for. */
	if (q == RX && !v->dead)
		flush(v);
	while (batch && !v->dead && (have = take(v, &h)) >= 0) {
		packet(v, &h, (size_t)have);
		batch--;
	}
	if (!v->dead)
		flush(v);
	if (!v->dead && !batch)
		virtio_wake(dev);
	vsock_unref(v);
}

static void vsock_reset(struct virtio_dev *dev)
{
	container_of(dev, struct vsock, dev)->reset_due = true;
}

static void vsock_free(struct virtio_dev *dev)
{
	struct vsock *v = container_of(dev, struct vsock, dev);

	v->dead = true;
	while (v->ready)
		vsock_stream_unref(ready_pop(v));
	while (v->wake) {
		struct vsock_stream *s = v->wake;

		v->wake = s->wake_next;
		s->in_wake = false;
		vsock_stream_unref(s);
	}
	/* Every stream with an owner is told; the last reference takes it off this list. */
	while (v->all) {
		struct vsock_stream *s = v->all;

		s->refs++;
		vsock_stream_destroy(s);
		if (v->all == s) {
			/* Somebody up the stack still holds it. */
			v->all = s->all_next;
			if (v->all)
				v->all->all_prev = &v->all;
			s->all_next = NULL;
			s->all_prev = &s->all_next;
		}
		vsock_stream_unref(s);
	}
	virtio_dev_fini(dev);
	vsock_unref(v);
}

static const struct virtio_dev_ops vsock_ops = {
	.name = "vsock",
	.config_read = vsock_config_read,
	.reset = vsock_reset,
	.queue_kick = vsock_kick,
	.work = vsock_work,
	.free = vsock_free,
	.unlocked_kick = true,
};

struct virtio_dev *virtio_vsock_new(struct loop *l, const struct gmem *m, uint64_t cid,
				    vsock_accept_fn accept, void *arg, struct error **err)
{
	struct vsock *v;

	if (cid <= VSOCK_HOST_CID || cid >= UINT32_MAX) {
		error_set(err, ERR_INVALID_ARGUMENT, "vsock: %llu is not a guest's CID",
			  (unsigned long long)cid);
		return NULL;
	}
	v = xcalloc(1, sizeof(*v));
	v->refs = 1;
	v->cid = cid;
	v->accept = accept;
	v->arg = arg;
	v->ready_tail = &v->ready;
	v->dev.nqueues = 3;
	v->dev.config_len = sizeof(v->cid);
	v->dev.vq[RX].max_size = v->dev.vq[TX].max_size = v->dev.vq[EVENT].max_size = QUEUE_SIZE;
	if (virtio_dev_init(&v->dev, &vsock_ops, VIRTIO_ID_VSOCK, l, m, err) < 0) {
		vsock_free(&v->dev);
		return NULL;
	}
	return &v->dev;
}
