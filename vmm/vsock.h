/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h - the host end of the guest's vsock streams (virtio 1.2 §5.10), all in user space.
 *
 * The guest dials the host (CID 2); vsock_listener decides by port. Everything runs on the VM's
 * loop thread. A stream whose owner does not read holds back only itself: its credit is used up and
 * the guest's writer waits.
 */
#ifndef VMM_VSOCK_H
#define VMM_VSOCK_H

#include "core/loop.h"

struct vsock_stream;

struct vsock_stream_ops {
	/* Guest data: returns how many bytes were taken (0..len). The rest stays buffered (bounded
	 * by the credit given); call vsock_stream_resume() when more can be taken. */
	size_t (*data)(void *arg, const void *p, size_t len);
	/* The guest will send no more; called after all data was taken. */
	void (*eof)(void *arg);
	/* There is room to write again after vsock_stream_write() took less than asked. May be
	 * NULL. */
	void (*writable)(void *arg);
	/* The stream is gone (both sides shut down, reset, device reset). The pointer is dead after
	 * this. */
	void (*closed)(void *arg);
};

/* Called for each connection the guest makes. Returns 0 after vsock_stream_set_ops(), or -1 to
 * refuse (RST). */
typedef int (*vsock_accept_fn)(void *arg, uint32_t port, struct vsock_stream *s);

void vsock_stream_set_ops(struct vsock_stream *s, const struct vsock_stream_ops *ops, void *arg);
/* vsock_stream_write: queues up to len bytes for the guest; returns how many were taken. */
size_t vsock_stream_write(struct vsock_stream *s, const void *p, size_t len);
void vsock_stream_resume(struct vsock_stream *s);
/* vsock_stream_shutdown: no more data to the guest after what is queued. */
void vsock_stream_shutdown(struct vsock_stream *s);
/* vsock_stream_reset: drops the stream at once; ops->closed is not called. */
void vsock_stream_reset(struct vsock_stream *s);

/* vsock_stream_to_fd: hands the stream to a socket: returns one end of a socketpair whose bytes are
 * the stream's, both ways, with half-close; -1 on failure. The stream belongs to the pump from then
 * on. */
int vsock_stream_to_fd(struct vsock_stream *s, struct loop *l, struct error **err);

/* vsock_stream_attach: ties the stream to a connected Unix stream socket: bytes both ways, with half-close and each side's backpressure. The
 * stream and fd belong to the pump from then on; over(arg) (may be NULL) is called when both are gone. On failure both stay the
 * caller's. A stream whose data waits is to be resumed afterwards. */
int vsock_stream_attach(struct vsock_stream *s, struct loop *l, int fd, void (*over)(void *arg),
			void *arg, struct error **err);

#endif
