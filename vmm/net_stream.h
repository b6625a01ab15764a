/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_stream.h - Ethernet frames on a stream socket, as passt and QEMU's stream netdev speak: each has its length in
 * front, 32 bits, big endian; no virtio header, so no offloads.
 *
 * The peer is less trusted than a kernel: a length that no frame has ends the connection, since nothing behind it can be
 * found again. Nothing is ever dropped here: what a full socket does not take of a frame is kept, and until it is out no
 * further one is taken, so that a slow peer slows the guest's queue.
 *
 * One thread at a time.
 */
#ifndef VMM_NET_STREAM_H
#define VMM_NET_STREAM_H

#include <sys/uio.h>
#include "core/base.h"

#define NET_STREAM_MAX \
	65553 /* the longest frame: 64 KiB of IP behind an Ethernet header and a tag */

struct net_stream;

/* fd is borrowed and must not block. */
struct net_stream *net_stream_new(int fd);
void net_stream_free(struct net_stream *s);
/* net_stream_recv: 1 and a frame, good until the next call; 0: none yet; -1: the connection is over, for good. */
int net_stream_recv(struct net_stream *s, const uint8_t **frame, size_t *len);
/* net_stream_flush: 1 when nothing is kept, 0 when the socket is still full, -1 when the connection is over. */
int net_stream_flush(struct net_stream *s);
/* net_stream_send: a frame of len bytes in iov[1..n); iov[0] is used for its length, and iov is changed. After
 * net_stream_flush() said 1. 0, or -1 when the connection is over. */
int net_stream_send(struct net_stream *s, struct iovec *iov, unsigned n, size_t len);

#endif
