/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtq.h - the device's side of a split virtqueue (virtio 1.2 §2.7) over hostile memory.
 *
 * Addresses and size are frozen when the queue becomes ready; the host pointers are computed once,
 * from the frozen copy. Every descriptor is copied out of guest memory once, then validated, then
 * used. A chain that breaks a rule makes virtq_pop() return -1, and the device is taken out of
 * service (virtio_dev_broken()).
 *
 * All functions run under the device's lock or on the thread that serves the queue (virtio.h).
 */
#ifndef VMM_VIRTQ_H
#define VMM_VIRTQ_H

#include <sys/uio.h>
#include "vmm/gmem.h"

#define VIRTQ_MAX_SIZE  1024           /* largest queue any of our devices offers */
#define VIRTQ_MAX_BYTES (256ull << 20) /* what one chain may describe, both directions together */

struct virtq {
	uint16_t max_size; /* the device's limit, a power of two; 0: no such queue */
	uint8_t worker;    /* which of the device's workers serves it */
	/* What the driver set; no longer changes once ready. */
	uint16_t size;
	uint64_t desc, avail, used; /* guest-physical */
	bool ready;                 /* rings mapped, processing allowed */
	bool event_idx;             /* VIRTIO_F_EVENT_IDX (§2.7.10) was negotiated */
	bool indirect;              /* VIRTIO_F_INDIRECT_DESC (§2.7.5.3) was negotiated */
	/* Host view of the rings, valid while ready. */
	const uint8_t *desc_ring;
	uint8_t *avail_ring, *used_ring;
	uint16_t last_avail; /* next avail entry to read */
	uint16_t used_idx;   /* our copy of used->idx */
	uint16_t signalled;  /* used_idx at the last interrupt */
	bool signalled_valid;
};

/* One request: the readable (driver to device) buffers first, then the writable ones. */
struct virtq_chain {
	uint16_t head;
	unsigned nout, nin; /* iov[0..nout) readable, iov[nout..nout+nin) writable */
	size_t out_len, in_len;
	struct iovec iov[VIRTQ_MAX_SIZE];
};

/* virtq_start: checks size and ring addresses (alignment §2.7, inside RAM) and maps them. -1 when
 * they are bad. next_avail: where reading begins (0 unless migrated); used->idx is taken from
 * memory when it is not 0. */
int virtq_start(struct virtq *q, const struct gmem *m, uint16_t next_avail);
void virtq_stop(struct virtq *q); /* not ready; addresses and indices stay readable */
void virtq_reset(struct virtq *q);

/* virtq_pop: 1 and *c filled, 0 when the ring is empty, -1 when the driver broke the rules. */
int virtq_pop(struct virtq *q, const struct gmem *m, struct virtq_chain *c);
/* virtq_unpop: gives the last popped chain back (nothing was written to it). */
void virtq_unpop(struct virtq *q);
bool virtq_empty(const struct virtq *q);
/* virtq_pending: how many chains the driver says wait behind the last popped one. */
uint16_t virtq_pending(const struct virtq *q);
/* virtq_describe: the indices of both sides, for a log. */
void virtq_describe(const struct virtq *q, char *text, size_t size);
/* virtq_push: returns a chain; len is what was written to its writable part. The driver sees it
 * after virtq_publish(), so that several (mergeable receive buffers) appear at once. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t len);
void virtq_publish(struct virtq *q);
/* virtq_should_notify: whether the driver wants an interrupt for what was published since the last
 * one (§2.7.7); counts as that interrupt. */
bool virtq_should_notify(struct virtq *q);
/* virtq_want_kick: true asks the driver for notifications and says whether something came in
 * meanwhile (then the caller must go on); false asks it to be quiet (§2.7.10). */
bool virtq_want_kick(struct virtq *q, bool on);

/* virtq_want_more: asks for a kick when something comes beyond what the ring holds now; true when it just did. */
bool virtq_want_more(struct virtq *q);

/* Copies between a chain's part and a flat buffer, from byte `off` of that part; return the bytes
 * copied. */
size_t virtq_read_out(const struct virtq_chain *c, size_t off, void *p, size_t len);
size_t virtq_write_in(const struct virtq_chain *c, size_t off, const void *p, size_t len);
/* iov_slice: the pieces of src[0..nsrc) that cover [off, off+len) into dst (room for nsrc); returns
 * their number. */
unsigned iov_slice(const struct iovec *src, unsigned nsrc, size_t off, size_t len,
		   struct iovec *dst);

#endif
