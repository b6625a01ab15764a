/* SPDX-License-Identifier: Apache-2.0 */
/* forward_int.h - what the TCP and the UDP half of a forwarder share. */
#ifndef NET_FORWARD_INT_H
#define NET_FORWARD_INT_H

#include "net/net.h"

#define FORWARD_CHUNK   (256u << 10) /* bytes of one read */
#define FORWARD_BUCKETS 1024

/* A published port. */
struct listener {
	struct net_forward *f;
	int fd;
	bool udp, v6;
	uint16_t port; /* of the guest's */
	struct loop_source *src;
	struct listener *next;
};

struct conn;
struct peer;

struct net_forward {
	struct loop *l;
	struct net_forward_cfg cfg;
	struct listener *listeners;
	char *buf; /* FORWARD_CHUNK bytes for whatever is passed on at once */

	/* TCP */
	struct conn *conns;
	unsigned nconns;
	size_t held; /* bytes read that the other side had no room for */
	bool paused; /* nothing is accepted */
	struct loop_source *resume;

	/* UDP: by address, and in the order of use */
	uint32_t seed;
	struct peer *bucket[FORWARD_BUCKETS];
	struct peer *newest, *oldest;
	unsigned npeers;
	struct loop_source *sweep;
};

/* forward_guest: the address of that port of the guest's. */
struct sockaddr_in forward_guest(const struct net_forward *f, uint16_t port);

/* forward_udp.c */
void forward_datagrams(void *arg, int fd, uint32_t events); /* arg: the listener */
void forward_peers_free(struct net_forward *f);

#endif
