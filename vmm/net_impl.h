/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_impl.h - inside the network card: virtio_net.c is the device, net_queue.c a pair of its queues, net_stream.c the
 * socket in a tap's place.
 *
 * A pair is served by one worker: frames to the guest are read straight into its receive buffers where it has posted
 * enough, frames from it leave in place behind a copy of their head, which is what the filter judged.
 */
#ifndef VMM_NET_IMPL_H
#define VMM_NET_IMPL_H

#include <linux/virtio_net.h>

#include "vmm/net_filter.h"
#include "vmm/net_stream.h"
#include "vmm/virtio.h"

/* Newer than the headers of the distribution this is built on. */
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO   56
#define NET_HDR_GSO_USO  5 /* VIRTIO_NET_HDR_GSO_UDP_L4 */
#define NET_TUN_F_USO4   0x20
#define NET_TUN_F_USO6   0x40

#define NET_HDR       sizeof(struct virtio_net_hdr_v1)
#define NET_FRAME_MAX NET_STREAM_MAX
#define NET_IOV       1024 /* the kernel's limit (UIO_MAXIOV) */
#define NET_BATCH     64   /* frames one way before the other gets its turn */

/* A receive buffer taken from the ring and not used yet. */
struct net_held {
	uint16_t head, niov;
	uint32_t len;
};

struct net;

struct net_pair {
	struct net *net;
	unsigned index; /* queues 2 * index (to the guest) and 2 * index + 1 (from it) */
	int fd;         /* a tap's queue, a packet socket; -1 with a stream */
	bool attached;  /* atomic: the tap hands frames to this queue */
	struct net_stream *stream;
	/* To the guest. */
	size_t rx_want; /* the longest frame that may come, with its header */
	struct virtq_chain rx_chain;
	struct net_held held[VIRTQ_MAX_SIZE];
	struct iovec iov[NET_IOV]; /* a header, what is held, and room for what is too long */
	unsigned nheld, niov;
	size_t room; /* bytes held */
	bool full;   /* a frame may have no more buffers */
	struct virtio_net_hdr_v1 hdr;
	const uint8_t *pending; /* a frame read and not delivered, NULL: none */
	size_t pending_len;
	uint8_t frame[NET_FRAME_MAX];
	/* From the guest. */
	struct virtq_chain chain;
	struct iovec out[2 + VIRTQ_MAX_SIZE];
	/* Atomic: frames refused, frames no buffer took, frames the host did not take. */
	uint64_t dropped[NET_VERDICTS], dropped_rx, lost;
};

struct net {
	struct virtio_dev dev;
	struct net_ident id;
	struct virtio_net_config config;
	bool tap;
	unsigned offloads; /* TUN_F_* that the tap has */
	unsigned npairs;
	unsigned active; /* pairs in use as the driver said on the control queue; atomic */
	struct virtq_chain ctrl;
	struct net_pair *pair[VM_NIC_QUEUES];
};

/* net_pair_serve: serves the directions asked for until there is nothing to do, a batch is full (then the worker is woken
 * for more), or somebody wants the device for himself. Only with queues that run. The pair's worker. */
void net_pair_serve(struct net_pair *p, bool rx, bool tx);
/* net_link_lost: the other end of the stream is gone. Any thread. */
void net_link_lost(struct net *n);

#endif
