/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - a container network on this host: bridge, taps, NAT, addresses. Everything goes through
 * rtnetlink and nfnetlink sockets, in the network namespace of the calling process. No helper
 * program is run.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <netinet/in.h>
#include "core/json.h"

/* ---- links (net/link.c, net/netlink.c) ---- */
/* net_bridge_ensure: bridge `name` exists, is up and has address/prefix; idempotent. */
int net_bridge_ensure(const char *name, struct in_addr addr, int prefix, int mtu,
		      struct error **err);
int net_link_delete(const char *name, struct error **err); /* absent is success */
#define NET_TAP_QUEUES 8
/* net_tap_open: creates a non-persistent tap (IFF_TAP|IFF_NO_PI|IFF_VNET_HDR, IFF_MULTI_QUEUE when
 * queues > 1), puts it into the bridge, up. fds gets a descriptor for each queue: the tap lives as
 * long as they. */
int net_tap_open(const char *name, const char *bridge, int mtu, unsigned queues,
		 int fds[NET_TAP_QUEUES], struct error **err);

/* ---- user mode (net/passt.c) ---- */
struct net_passt {
	struct in_addr addr, gateway; /* the guest's; the gateway also answers DNS */
	int prefix, mtu;
};
/* net_passt_spawn: starts passt for one guest. *pid ends with status 0 once *sock (owned, a stream
 * of frames) is served, or else with its reasons in *words (owned). notFound names the package. */
int net_passt_spawn(const struct net_passt *p, int *sock, int *words, pid_t *pid,
		    struct error **err);
char *net_passt_complaint(int words); /* owned by the caller */

/* ---- NAT (net/nft.c): one nftables table per network, named for the system's tag ---- */
int net_nat_ensure(const char *table, const char *bridge, struct in_addr subnet, int prefix,
		   struct error **err); /* + ip_forward */
/* net_nft_check: can this process speak to nftables? Changes nothing. */
int net_nft_check(struct error **err);
int net_nat_delete(const char *table, struct error **err);

/* ---- addresses (net/ipam.c) ---- */
/* Leases of one network, kept in dirfd/leases.json; handed out in rotation from .2; gateway is .1.
 */
struct ipam;
struct ipam *ipam_open(int dirfd, struct in_addr subnet, int prefix, struct error **err);
int ipam_allocate(struct ipam *p, const char *id, struct in_addr *out,
		  struct error **err); /* same id, same address */
int ipam_release(struct ipam *p, const char *id, struct error **err);
/* ipam_reconcile: keeps the leases of `ids` (array of strings) and gives all others back. */
int ipam_reconcile(struct ipam *p, struct json_object *ids, struct error **err);
void ipam_free(struct ipam *p);

#endif
