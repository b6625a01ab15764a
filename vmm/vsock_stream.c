/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_stream.c - connections between guest and host: buffers, credit, half-close, and their owners' callbacks.
 *
 * A stream is known to two sides. The guest's side ends with RST (either way) or with the device's reset: the stream
 * leaves the hash table. The owner's side ends with ops->closed, which comes when both directions are finished, or
 * after the guest's side ended and all that was received has been taken. The memory goes when both have ended.
 */
#include "vmm/vsock_impl.h"

/* ---- byte queues ---- */

uint32_t vsock_ring_put(struct vsock_ring *r, const void *p, size_t n, uint32_t max)
{
	uint32_t take = r->len < max ? (uint32_t)MIN(n, (size_t)(max - r->len)) : 0, tail, first;

	if (!take)
		return 0;
	if (r->len + take > r->cap) {
		uint32_t cap = MAX(r->cap, 4096u), first_len;
		uint8_t *q;

		while (cap < r->len + take)
			cap *= 2;
		q = xmalloc(cap);
		first_len = MIN(r->len, r->cap - r->head);
		if (first_len)
			memcpy(q, r->p + r->head, first_len);
		if (r->len > first_len)
			memcpy(q + first_len, r->p, r->len - first_len);
		free(r->p);
		r->p = q;
		r->cap = cap;
		r->head = 0;
	}
	tail = (r->head + r->len) & (r->cap - 1);
	first = MIN(take, r->cap - tail);
	memcpy(r->p + tail, p, first);
	memcpy(r->p, (const uint8_t *)p + first, take - first);
	r->len += take;
	return take;
}

const uint8_t *vsock_ring_peek(const struct vsock_ring *r, uint32_t off, uint32_t *n)
{
	uint32_t at;

	if (off >= r->len) {
		*n = 0;
		return NULL;
	}
	at = (r->head + off) & (r->cap - 1);
	*n = MIN(r->len - off, r->cap - at);
	return r->p + at;
}

void vsock_ring_free(struct vsock_ring *r)
{
	free(r->p);
	*r = (struct vsock_ring){0};
}

void vsock_ring_drop(struct vsock_ring *r, uint32_t n)
{
	r->len -= n;
	r->head = r->len ? (r->head + n) & (r->cap - 1) : 0;
	/* Thousands of idle streams must not each keep the buffer of their busiest moment. */
	if (!r->len && r->cap > 4096)
		vsock_ring_free(r);
}

/* ---- table ---- */

static unsigned hash(uint32_t host_port, uint32_t guest_port)
{
	return ((host_port * 2654435761u) ^ (guest_port * 2246822519u)) >> 8 &
	       (VSOCK_HASH_SIZE - 1);
}

struct vsock_stream *vsock_stream_find(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_stream *s = v->hash[hash(host_port, guest_port)];

	while (s && (s->host_port != host_port || s->guest_port != guest_port))
		s = s->hash_next;
	return s;
}

static void unhash(struct vsock_stream *s)
{
	struct vsock *v = s->v;
	struct vsock_stream **pp;

	if (!s->hashed)
		return;
	for (pp = &v->hash[hash(s->host_port, s->guest_port)]; *pp != s; pp = &(*pp)->hash_next)
		;
	*pp = s->hash_next;
	s->hashed = false;
	v->nstreams--;
	vsock_ring_free(&s->tx);
	vsock_stream_unref(s);
}

void vsock_stream_unref(struct vsock_stream *s)
{
	struct vsock *v = s->v;

	if (--s->refs)
		return;
	*s->all_prev = s->all_next;
	if (s->all_next)
		s->all_next->all_prev = s->all_prev;
	vsock_ring_free(&s->rx);
	vsock_ring_free(&s->tx);
	free_shared(s);
	vsock_unref(v);
}

/* The owner's side ends; with a word to it unless it is the owner who ends it. */
static void disown(struct vsock_stream *s, bool tell)
{
	const struct vsock_stream_ops *ops = STEAL(s->ops);

	if (!ops)
		return;
	vsock_ring_free(&s->rx);
	if (tell && ops->closed)
		ops->closed(s->arg);
	vsock_stream_unref(s);
}

/* ---- to the owner ---- */

static void note_taken(struct vsock_stream *s, uint32_t n)
{
	s->fwd_cnt += n;
	if (s->hashed && s->fwd_cnt - s->told_fwd >= s->alloc / 4) {
		s->pending |= VSOCK_SEND_CREDIT;
		vsock_ready(s);
	}
}

static void deliver_data(struct vsock_stream *s)
{
	while (s->ops && !s->paused && s->rx.len) {
		uint32_t n;
		const uint8_t *p = vsock_ring_peek(&s->rx, 0, &n);
		/* The ring must stand still while its owner reads from it: input waits (delivering). */
		size_t took = s->ops->data ? s->ops->data(s->arg, p, n) : n;

		/* When its owner dropped the stream just now the ring is empty. */
		took = MIN(took, MIN(n, s->rx.len));
		s->paused = took < n;
		vsock_ring_drop(&s->rx, (uint32_t)took);
		note_taken(s, (uint32_t)took);
	}
}

/* Gives the owner what there is, and the news of the end when it is due. The caller holds a reference. */
static void deliver(struct vsock_stream *s)
{
	if (s->delivering)
		return;
	s->delivering = true;
	deliver_data(s);
	if (s->ops && !s->rx.len && s->peer_eof && !s->eof_told) {
		s->eof_told = true;
		if (s->ops->eof)
			s->ops->eof(s->arg);
	}
	s->delivering = false;
	if (s->ops && !s->rx.len && (!s->hashed || (s->eof_told && s->shut_sent)))
		disown(s, true);
}

static void deliver_ref(struct vsock_stream *s)
{
	s->refs++;
	deliver(s);
	vsock_stream_unref(s);
}

void vsock_stream_run_writable(struct vsock_stream *s)
{
	if (s->ops && s->blocked) {
		s->blocked = false;
		if (s->ops->writable)
			s->ops->writable(s->arg);
	}
	/* shut_sent may just have become true. */
	deliver_ref(s);
}

/* ---- from the guest ---- */

struct vsock_stream *vsock_stream_open(struct vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_stream *s, **bucket = &v->hash[hash(host_port, guest_port)];
	int rc;

	if (v->nstreams >= VSOCK_MAX_STREAMS)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->v = v;
	v->refs++;
	s->host_port = host_port;
	s->guest_port = guest_port;
	s->alloc = v->nstreams < VSOCK_FEW_STREAMS ? VSOCK_BUF_LARGE : VSOCK_BUF_SMALL;
	s->pending = VSOCK_SEND_RESPONSE;
	s->refs = 2; /* the table's, ours */
	s->hashed = true;
	s->hash_next = *bucket;
	*bucket = s;
	v->nstreams++;
	s->all_prev = &v->all;
	s->all_next = v->all;
	if (v->all)
		v->all->all_prev = &s->all_next;
	v->all = s;

	rc = v->accept ? v->accept(v->arg, host_port, s) : -1;
	if (rc < 0 || !s->ops || !s->hashed) {
		bool refused = s->hashed;

		disown(s, false);
		unhash(s);
		vsock_stream_unref(s);
		/* When the owner reset it, the RST is queued already. */
		if (refused && !v->dead)
			vsock_queue_rst(v, VSOCK_HOST_CID, host_port, guest_port,
					VIRTIO_VSOCK_TYPE_STREAM);
		return NULL;
	}
	vsock_ready(s);
	vsock_stream_unref(s);
	return s;
}

int vsock_stream_input(struct vsock_stream *s, const void *p, uint32_t len)
{
	/* len is at most VSOCK_MAX_PAYLOAD, rx.len at most alloc. */
	if (s->peer_eof || s->rx.len + len > s->alloc)
		return -1;
	if (!s->ops) {
		note_taken(s, len);
		return 0;
	}
	vsock_ring_put(&s->rx, p, len, s->alloc);
	deliver_ref(s);
	return 0;
}

void vsock_stream_peer_shutdown(struct vsock_stream *s, uint32_t flags)
{
	s->refs++;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
		s->peer_eof = true;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		s->peer_no_recv = true;
		vsock_ring_free(&s->tx);
	}
	if (s->peer_eof && s->peer_no_recv) {
		/* §5.10.6.5: both directions are shut; we have everything, so the connection may go. */
		vsock_queue_rst(s->v, VSOCK_HOST_CID, s->host_port, s->guest_port,
				VIRTIO_VSOCK_TYPE_STREAM);
		unhash(s);
	} else if (s->peer_no_recv) {
		vsock_stream_run_writable(s);
	}
	deliver(s);
	vsock_stream_unref(s);
}

void vsock_stream_gone(struct vsock_stream *s)
{
	s->refs++;
	unhash(s);
	deliver(s);
	vsock_stream_unref(s);
}

void vsock_stream_destroy(struct vsock_stream *s)
{
	s->refs++;
	unhash(s);
	disown(s, true);
	vsock_stream_unref(s);
}

/* ---- to the guest ---- */

uint32_t vsock_stream_credit(const struct vsock_stream *s)
{
	uint32_t in_flight = s->tx_cnt - s->peer_fwd;

	/* A guest that claims to have taken more than it was sent gets nothing. */
	return in_flight < s->peer_alloc ? s->peer_alloc - in_flight : 0;
}

uint16_t vsock_stream_next_op(const struct vsock_stream *s)
{
	if (!s->hashed)
		return 0;
	if (s->pending & VSOCK_SEND_RESPONSE)
		return VIRTIO_VSOCK_OP_RESPONSE;
	if (s->tx.len && vsock_stream_credit(s))
		return VIRTIO_VSOCK_OP_RW;
	if (s->shut_wanted && !s->shut_sent && !s->tx.len)
		return VIRTIO_VSOCK_OP_SHUTDOWN;
	if (s->pending & VSOCK_SEND_CREDIT)
		return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	return 0;
}

/* A packet is in the guest's hands; it carried our credit, whatever it was. len: payload bytes. */
void vsock_stream_sent(struct vsock_stream *s, uint16_t op, uint32_t len)
{
	struct vsock *v = s->v;

	s->told_fwd = s->fwd_cnt;
	s->pending &= ~VSOCK_SEND_CREDIT;
	if (op == VIRTIO_VSOCK_OP_RESPONSE)
		s->pending &= ~VSOCK_SEND_RESPONSE;
	if (op == VIRTIO_VSOCK_OP_SHUTDOWN)
		s->shut_sent = true;
	s->tx_cnt += len;
	vsock_ring_drop(&s->tx, len);
	if (!s->in_wake && (s->shut_sent || (s->blocked && s->tx.len <= s->alloc / 2))) {
		s->in_wake = true;
		s->refs++;
		s->wake_next = v->wake;
		v->wake = s;
	}
}

/* ---- vsock.h ---- */

void vsock_stream_set_ops(struct vsock_stream *s, const struct vsock_stream_ops *ops, void *arg)
{
	if (!s->ops)
		s->refs++; /* the owner's */
	s->ops = ops;
	s->arg = arg;
}

size_t vsock_stream_write(struct vsock_stream *s, const void *p, size_t len)
{
	uint32_t took;

	if (!s->hashed || s->peer_no_recv)
		return len;
	if (s->shut_wanted)
		return 0;
	took = vsock_ring_put(&s->tx, p, len, s->alloc);
	s->blocked = took < len;
	if (took)
		vsock_ready(s);
	return took;
}

void vsock_stream_resume(struct vsock_stream *s)
{
	s->paused = false;
	deliver_ref(s);
}

static void shut(struct vsock_stream *s, bool both)
{
	if (s->shut_sent && !(both && !s->shut_both))
		return;
	s->shut_wanted = true;
	s->shut_both |= both;
	/* That no more comes need not be said to a guest that takes no more; that nothing is taken has to be, or it writes on. */
	s->shut_sent = !s->hashed || (s->peer_no_recv && !(both && !s->peer_eof));
	if (!s->shut_sent)
		vsock_ready(s);
}

void vsock_stream_shutdown(struct vsock_stream *s)
{
	shut(s, false);
	deliver_ref(s);
}

void vsock_stream_finish(struct vsock_stream *s)
{
	shut(s, true);
	deliver_ref(s);
}

void vsock_stream_reset(struct vsock_stream *s)
{
	s->refs++;
	if (s->hashed) {
		vsock_queue_rst(s->v, VSOCK_HOST_CID, s->host_port, s->guest_port,
				VIRTIO_VSOCK_TYPE_STREAM);
		vsock_ready(
			s); /* nothing of the guest's need be on its way that would have it sent */
	}
	unhash(s);
	disown(s, false);
	vsock_stream_unref(s);
}
