/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - a container network on this host: bridge, taps, NAT, addresses, published ports. Links and
 * rules go through rtnetlink and nfnetlink sockets, in the network namespace of the calling process.
 * No helper program is run but passt(1), where there is no right to make links.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <netinet/in.h>
#include "core/json.h"
#include "core/loop.h"

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

/* ---- published ports (net/publish.c) ---- */
#define NET_PUBLISH_SPECS 64
#define NET_PUBLISH_PORTS 4096 /* of one container: each is a socket */
#define NET_PUBLISH_TEXT  64

/* One entry of "publishedPorts": `count` ports from host_port on to as many of the guest's from guest_port on. */
struct net_publish {
	uint8_t addr[16]; /* of the host: IPv6, or IPv4 in the first four bytes */
	bool v6, udp;
	uint16_t host_port, guest_port;
	unsigned count;
};

/* net_publish_read: the entries of an array of {hostAddress, hostPort, containerPort, proto, count}; *out is owned by the
 * caller. NULL is an empty array. invalidArgument for what is no address, port or range, and when two entries want the
 * same port of the host. */
int net_publish_read(struct json_object *arr, struct net_publish **out, size_t *n,
		     struct error **err);
/* net_publish_clash: the first port of a's (its index) that b wants too, on the same address or on one of the two's any
 * address; -1: there is none. */
int net_publish_clash(const struct net_publish *a, const struct net_publish *b);
/* net_publish_text: "0.0.0.0:8080/tcp", "[::1]:53/udp": the i-th port of the host's. */
void net_publish_text(const struct net_publish *p, unsigned i, char out[NET_PUBLISH_TEXT]);
/* net_publish_bind: a socket for the i-th port, non-blocking, which listens when it is TCP's; the caller owns it. The
 * error's sys is EADDRINUSE when somebody else has it; below 1024 the error says what right is missing. */
int net_publish_bind(const struct net_publish *p, unsigned i, struct error **err);

/* ---- forwarding to them (net/forward.c, net/forward_udp.c) ---- */
struct net_forward;
struct net_forward_cfg {
	struct in_addr guest;
	unsigned max_conns; /* TCP; what comes beyond waits in the kernel's queue */
	size_t held_many; /* bytes read and not yet passed on, from where on little is read at once */
	unsigned max_peers; /* UDP; beyond, the one that was silent longest is forgotten */
	int64_t connect_ms; /* for the guest to answer a TCP connection */
	int64_t idle_ms;    /* after which a silent UDP peer is forgotten */
};
#define NET_FORWARD_CONNS      4096
#define NET_FORWARD_HELD       (32u << 20)
#define NET_FORWARD_PEERS      256 /* for each UDP port */
#define NET_FORWARD_PEERS_MAX  4096
#define NET_FORWARD_CONNECT_MS 10000
#define NET_FORWARD_IDLE_MS    90000

/* net_forward_new: forwards on loop l, whose thread everything here belongs to. */
struct net_forward *net_forward_new(struct loop *l, const struct net_forward_cfg *cfg);
/* net_forward_add: what arrives at fd, from net_publish_bind() (owned from now on), goes to this port of the guest's. */
int net_forward_add(struct net_forward *f, int fd, bool udp, uint16_t port, struct error **err);
/* net_forward_count: TCP connections and UDP peers there are; net_forward_held: bytes read and not yet passed on. */
void net_forward_count(const struct net_forward *f, unsigned *conns, unsigned *peers);
size_t net_forward_held(const struct net_forward *f);
void net_forward_free(struct net_forward *f); /* connections are reset */

/* ---- user mode (net/passt.c) ---- */
struct net_passt {
	struct in_addr addr, gateway; /* the guest's; the gateway also answers DNS */
	int prefix, mtu;
	const struct net_publish *ports; /* IPv4 only */
	size_t nports;
};
/* net_passt_can: unsupported for what passt cannot publish: IPv6 addresses, one port number to two of the guest's. */
int net_passt_can(const struct net_publish *ports, size_t n, struct error **err);
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
