/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtq.c - split virtqueues, device side (virtio 1.2 §2.7).
 *
 * Layout (§2.7): descriptor table 16 * size bytes; available ring {flags, idx, ring[size],
 * used_event}; used ring {flags, idx, {id, len}[size], avail_event}; all 16-bit fields little
 * endian (we run on x86-64 only).
 *
 * Ordering: the driver publishes avail->idx after its entries (we load it with acquire); we publish
 * used->idx with release after our entries. Between publishing and reading the other side's wish
 * for notification (used_event, flags; and the mirror image for avail_event) a full barrier stands,
 * or both sides could miss each other (§2.7.13.4.1).
 */
#include <linux/virtio_ring.h>
#include <stdio.h>

#include "vmm/virtq.h"

_Static_assert(sizeof(struct vring_desc) == 16, "descriptor layout (§2.7.5)");

static uint16_t load16(const uint8_t *ring, size_t off)
{
	return __atomic_load_n((const uint16_t *)(ring + off), __ATOMIC_ACQUIRE);
}

static void store16(uint8_t *ring, size_t off, uint16_t v)
{
	__atomic_store_n((uint16_t *)(ring + off), v, __ATOMIC_RELEASE);
}

#define AVAIL_FLAGS       0
#define AVAIL_IDX         2
#define AVAIL_RING(i)     (4 + 2 * (size_t)(i))
#define USED_FLAGS        0
#define USED_IDX          2
#define USED_RING(i)      (4 + 8 * (size_t)(i))
#define USED_EVENT(size)  AVAIL_RING(size) /* at the end of the available ring */
#define AVAIL_EVENT(size) USED_RING(size)  /* at the end of the used ring */

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){.max_size = q->max_size, .worker = q->worker};
}

int virtq_start(struct virtq *q, const struct gmem *m, uint16_t next_avail)
{
	uint32_t n = q->size;

	if (!n || n > q->max_size || n > VIRTQ_MAX_SIZE || n & (n - 1))
		return -1;
	if (q->desc & 15 || q->avail & 1 || q->used & 3) /* §2.7: alignment */
		return -1;
	q->desc_ring = gmem_ptr(m, q->desc, 16ull * n);
	q->avail_ring = gmem_ptr(m, q->avail, AVAIL_RING(n) + 2);
	q->used_ring = gmem_ptr(m, q->used, USED_RING(n) + 2);
	if (!q->desc_ring || !q->avail_ring || !q->used_ring)
		return -1;
	q->last_avail = next_avail;
	q->used_idx = load16(q->used_ring, USED_IDX);
	q->signalled_valid = false;
	q->ready = true;
	return 0;
}

void virtq_stop(struct virtq *q)
{
	q->ready = false;
	q->desc_ring = NULL;
	q->avail_ring = q->used_ring = NULL;
}

bool virtq_empty(const struct virtq *q)
{
	return !q->ready || load16(q->avail_ring, AVAIL_IDX) == q->last_avail;
}

uint16_t virtq_pending(const struct virtq *q)
{
	return q->ready ? (uint16_t)(load16(q->avail_ring, AVAIL_IDX) - q->last_avail) : 0;
}

void virtq_describe(const struct virtq *q, char *text, size_t size)
{
	if (!q->ready) {
		snprintf(text, size, "not running");
		return;
	}
	snprintf(text, size,
		 "offered %u, taken %u, answered %u, the driver sees %u; kicks after %u (flags "
		 "%u), interrupts after %u (flags %u), last at %u",
		 load16(q->avail_ring, AVAIL_IDX), q->last_avail, q->used_idx,
		 load16(q->used_ring, USED_IDX), load16(q->used_ring, AVAIL_EVENT(q->size)),
		 load16(q->used_ring, USED_FLAGS), load16(q->avail_ring, USED_EVENT(q->size)),
		 load16(q->avail_ring, AVAIL_FLAGS), q->signalled);
}

/* One walk through a table of descriptors, the queue's own or an indirect one. */
struct walk {
	const uint8_t *table;
	uint32_t entries;
	uint32_t budget; /* descriptors this chain may still have: its length is at most the queue's
			    size (§2.7.5.3.1) */
};

static struct vring_desc desc_copy(const struct walk *w, uint32_t i)
{
	struct vring_desc d;

	memcpy(&d, w->table + 16 * (size_t)i, sizeof(d));
	__asm__ volatile("" ::
				 : "memory"); /* d is from now on ours: the compiler may not read
						 the ring again */
	return d;
}

static int chain_add(struct virtq_chain *c, const struct gmem *m, const struct vring_desc *d)
{
	bool writable = d->flags & VRING_DESC_F_WRITE;
	void *p;

	if (!writable && c->nin)
		return -1; /* readable after writable (§2.7.4.2) */
	if (!d->len)
		return 0;
	p = gmem_ptr(m, d->addr, d->len);
	if (!p || d->len > VIRTQ_MAX_BYTES - c->out_len - c->in_len)
		return -1;
	c->iov[c->nout + c->nin] = (struct iovec){.iov_base = p, .iov_len = d->len};
	if (writable) {
		c->nin++;
		c->in_len += d->len;
	} else {
		c->nout++;
		c->out_len += d->len;
	}
	return 0;
}

static int chain_walk(struct virtq_chain *c, const struct virtq *q, const struct gmem *m,
		      struct walk *w, uint32_t i, bool nested)
{
	for (;;) {
		struct vring_desc d;

		/* Every step costs budget, so a loop ends here too. */
		if (i >= w->entries || !w->budget)
			return -1;
		w->budget--;
		d = desc_copy(w, i);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			struct walk in = {.entries = d.len / 16, .budget = w->budget + 1};

			/* §2.7.5.3.1: one level, whole entries, and it ends the chain. */
			if (nested || !q->indirect || d.flags & VRING_DESC_F_NEXT || !d.len ||
			    d.len % 16)
				return -1;
			in.table = gmem_ptr(m, d.addr, d.len);
			return in.table ? chain_walk(c, q, m, &in, 0, true) : -1;
		}
		if (chain_add(c, m, &d) < 0)
			return -1;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

int virtq_pop(struct virtq *q, const struct gmem *m, struct virtq_chain *c)
{
	struct walk w = {.table = q->desc_ring, .entries = q->size, .budget = q->size};
	uint16_t avail, pending;

	if (!q->ready)
		return 0;
	avail = load16(q->avail_ring, AVAIL_IDX);
	pending = (uint16_t)(avail - q->last_avail);
	if (!pending)
		return 0;
	if (pending > q->size)
		return -1;
	c->head = load16(q->avail_ring, AVAIL_RING(q->last_avail & (q->size - 1)));
	c->nout = c->nin = 0;
	c->out_len = c->in_len = 0;
	if (chain_walk(c, q, m, &w, c->head, false) < 0)
		return -1;
	q->last_avail++;
	return 1;
}

void virtq_unpop(struct virtq *q)
{
	q->last_avail--;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t len)
{
	struct vring_used_elem e = {.id = head, .len = len};

	if (!q->ready)
		return;
	memcpy(q->used_ring + USED_RING(q->used_idx & (q->size - 1)), &e, sizeof(e));
	q->used_idx++;
}

void virtq_publish(struct virtq *q)
{
	if (q->ready)
		store16(q->used_ring, USED_IDX, q->used_idx);
}

bool virtq_should_notify(struct virtq *q)
{
	uint16_t new = q->used_idx, old = q->signalled, event;
	bool first = !q->signalled_valid;

	if (!q->ready)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->event_idx)
		return !(load16(q->avail_ring, AVAIL_FLAGS) & VRING_AVAIL_F_NO_INTERRUPT);
	q->signalled = new;
	q->signalled_valid = true;
	event = load16(q->avail_ring, USED_EVENT(q->size));
	return first || vring_need_event(event, new, old);
}

bool virtq_want_kick(struct virtq *q, bool on)
{
	if (!q->ready)
		return false;
	if (!on) {
		/* With event indices the stale avail_event does the same. */
		if (!q->event_idx)
			store16(q->used_ring, USED_FLAGS, VRING_USED_F_NO_NOTIFY);
		return false;
	}
	if (q->event_idx)
		store16(q->used_ring, AVAIL_EVENT(q->size), q->last_avail);
	else
		store16(q->used_ring, USED_FLAGS, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !virtq_empty(q);
}

bool virtq_want_more(struct virtq *q)
{
	uint16_t seen;

	if (!q->ready)
		return false;
	seen = load16(q->avail_ring, AVAIL_IDX);
	if (q->event_idx)
		store16(q->used_ring, AVAIL_EVENT(q->size), seen);
	else
		store16(q->used_ring, USED_FLAGS, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(q->avail_ring, AVAIL_IDX) != seen;
}

unsigned iov_slice(const struct iovec *src, unsigned nsrc, size_t off, size_t len,
		   struct iovec *dst)
{
	unsigned i, n = 0;

	for (i = 0; i < nsrc && len; i++) {
		size_t have = src[i].iov_len;

		if (off >= have) {
			off -= have;
			continue;
		}
		have = MIN(have - off, len);
		dst[n++] =
			(struct iovec){.iov_base = (char *)src[i].iov_base + off, .iov_len = have};
		off = 0;
		len -= have;
	}
	return n;
}

static size_t iov_copy(const struct iovec *iov, unsigned n, size_t off, void *flat, size_t len,
		       bool to_iov)
{
	size_t done = 0;
	unsigned i;

	for (i = 0; i < n && done < len; i++) {
		size_t have = iov[i].iov_len;
		char *p = iov[i].iov_base;

		if (off >= have) {
			off -= have;
			continue;
		}
		have = MIN(have - off, len - done);
		if (to_iov)
			memcpy(p + off, (char *)flat + done, have);
		else
			memcpy((char *)flat + done, p + off, have);
		off = 0;
		done += have;
	}
	__asm__ volatile("" ::: "memory");
	return done;
}

size_t virtq_read_out(const struct virtq_chain *c, size_t off, void *p, size_t len)
{
	return iov_copy(c->iov, c->nout, off, p, len, false);
}

size_t virtq_write_in(const struct virtq_chain *c, size_t off, const void *p, size_t len)
{
	return iov_copy(c->iov + c->nout, c->nin, off, (void *)(uintptr_t)p, len, true);
}
