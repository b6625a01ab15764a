/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_impl.h - what the vsock device (virtio_vsock.c) and its streams (vsock_stream.c) share.
 *
 * All of it belongs to the loop's thread; the device's lock is only for the virtqueues. Callbacks into owners run
 * without the lock and may do anything: drop their stream, another one, or free the whole device. Hence references:
 * whoever calls out holds one, and looks again afterwards.
 */
#ifndef VMM_VSOCK_IMPL_H
#define VMM_VSOCK_IMPL_H

#include <linux/virtio_vsock.h>
#include "vmm/virtio.h"
#include "vmm/vsock.h"

#define VSOCK_HOST_CID    2
#define VSOCK_MAX_STREAMS 4096
#define VSOCK_FEW_STREAMS 64           /* up to here each gets the large buffers */
#define VSOCK_BUF_LARGE   (256u << 10) /* per stream and direction */
#define VSOCK_BUF_SMALL   (32u << 10)
#define VSOCK_MAX_PAYLOAD (64u << 10) /* in one packet, as Linux has it */
#define VSOCK_RST_BACKLOG 256         /* unsent resets at which the guest's packets have to wait */
#define VSOCK_HASH_SIZE   1024

/* A byte queue that grows to what it needs, in powers of two. */
struct vsock_ring {
	uint8_t *p;
	uint32_t cap, head, len;
};

enum {
	VSOCK_SEND_RESPONSE = 1,
	VSOCK_SEND_CREDIT = 2,
};

struct vsock_stream {
	struct vsock *v;
	unsigned refs;
	struct vsock_stream *hash_next, *ready_next, *wake_next, *all_next, **all_prev;
	bool hashed;   /* the guest knows this connection */
	bool in_ready; /* on the round-robin list of streams with something to send */
	bool in_wake;  /* ops->writable is due */
	bool delivering;
	uint32_t host_port, guest_port;
	const struct vsock_stream_ops *ops; /* NULL: no owner (refused, or told that it is over) */
	void *arg;
	/* From the guest (credit: §5.10.6.3). */
	struct vsock_ring rx;
	uint32_t alloc;    /* what we promised to buffer */
	uint32_t fwd_cnt;  /* bytes the owner has taken */
	uint32_t told_fwd; /* fwd_cnt in the last packet to the guest */
	bool paused;       /* the owner took less than offered */
	bool peer_eof, eof_told;
	/* To the guest. */
	struct vsock_ring tx;
	uint32_t tx_cnt, peer_alloc, peer_fwd;
	bool blocked;      /* the owner was refused room */
	bool peer_no_recv; /* the guest takes no more: what is written is dropped */
	bool shut_wanted, shut_sent, shut_both;
	unsigned pending; /* VSOCK_SEND_* */
};

struct vsock_rst {
	uint64_t src_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

struct vsock {
	struct virtio_dev dev;
	unsigned refs;
	bool dead;
	bool flush_due;
	bool reset_due; /* set under the lock by any thread */
	uint64_t cid;
	vsock_accept_fn accept;
	void *arg;
	unsigned nstreams; /* hashed ones */
	struct vsock_stream *hash[VSOCK_HASH_SIZE];
	struct vsock_stream *all;
	struct vsock_stream *ready, **ready_tail;
	struct vsock_stream *wake;
	struct vsock_rst rst[VSOCK_RST_BACKLOG + VSOCK_MAX_STREAMS + 1];
	unsigned rst_head, rst_n;
	struct virtq_chain chain;
	uint8_t payload[VSOCK_MAX_PAYLOAD];
};

/* vsock_ring_*: put takes at most max - len bytes and says how many; peek gives the first contiguous piece. */
uint32_t vsock_ring_put(struct vsock_ring *r, const void *p, size_t n, uint32_t max);
const uint8_t *vsock_ring_peek(const struct vsock_ring *r, uint32_t off, uint32_t *n);
void vsock_ring_drop(struct vsock_ring *r, uint32_t n);
void vsock_ring_free(struct vsock_ring *r);

/* ---- streams ---- */
struct vsock_stream *vsock_stream_find(struct vsock *v, uint32_t host_port, uint32_t guest_port);
/* A guest's request: NULL when there are too many, or the owner refused (the caller answers RST). */
struct vsock_stream *vsock_stream_open(struct vsock *v, uint32_t host_port, uint32_t guest_port);
/* Guest data; -1 when it breaks the credit or comes after its end (the caller resets). */
int vsock_stream_input(struct vsock_stream *s, const void *p, uint32_t len);
void vsock_stream_peer_shutdown(struct vsock_stream *s, uint32_t flags);
/* The guest forgot the connection: the owner gets what is buffered, then eof if there was one, then closed. */
void vsock_stream_gone(struct vsock_stream *s);
/* Ends a stream at once, telling the owner. */
void vsock_stream_destroy(struct vsock_stream *s);
/* What the stream has to say next, an op; 0 for nothing. */
uint16_t vsock_stream_next_op(const struct vsock_stream *s);
uint32_t vsock_stream_credit(const struct vsock_stream *s); /* bytes the guest has room for */
void vsock_stream_sent(struct vsock_stream *s, uint16_t op, uint32_t len);
void vsock_stream_run_writable(struct vsock_stream *s);
void vsock_stream_unref(struct vsock_stream *s);
/* vsock_stream_finish: no more data either way once what is queued has gone out. */
void vsock_stream_finish(struct vsock_stream *s);

/* ---- device ---- */
void vsock_ready(
	struct vsock_stream
		*s); /* puts a stream that has something to say on the list, and flushes soon */
void vsock_queue_rst(struct vsock *v, uint64_t src_cid, uint32_t src_port, uint32_t dst_port,
		     uint16_t type);
void vsock_unref(struct vsock *v);

#endif
