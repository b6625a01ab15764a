/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_filter.h - what a guest may send: frames of its own, from its own addresses.
 *
 * DOC: Theory of operation
 * The only frames a guest has a use for on a container network are IPv4, IPv6 and ARP without a VLAN tag, so nothing
 * else passes: bridge protocols and what other switches would unpack stay inside. Of those three the source must be the
 * card's: in the Ethernet header, in the network header, and in what ARP and neighbour discovery claim in their
 * bodies. Words that only a router or a DHCP server says are refused. Fragments that hide what they begin with are
 * refused too (RFC 6980, RFC 7112); later fragments carry nothing of this.
 *
 * The filter judges a copy of the frame's beginning, and that copy is what the caller must send.
 */
#ifndef VMM_NET_FILTER_H
#define VMM_NET_FILTER_H

#include <linux/if_ether.h>
#include "core/base.h"

#define NET_HEAD 256 /* bytes of a frame the filter wants to see */

struct net_ident {
	uint8_t mac[ETH_ALEN];
	uint8_t ip4[4];     /* all zero: none, then no IPv4 but DHCP requests */
	uint8_t ip6[2][16]; /* link-local, assigned */
	bool has_ip6;       /* ip6[1] is valid; the link-local one always is */
};

enum net_verdict {
	NET_PASS,
	NET_MALFORMED, /* runts, giants, headers that end too early */
	NET_OFFLOAD,   /* a virtio header that was not agreed on or would change what was judged */
	NET_TYPE,      /* neither IPv4, IPv6 nor ARP */
	NET_MAC,       /* another's MAC address */
	NET_IP4,       /* another's IPv4 address */
	NET_ARP,       /* claims another's address */
	NET_IP6,       /* another's IPv6 address */
	NET_ND,        /* claims another's address */
	NET_ROUTER,    /* router advertisement, redirect, DHCP server */
	NET_VERDICTS,
};

/* net_ident_init: the addresses of a card; ip4 and ip6 may be NULL. Its link-local address is derived from the MAC
 * address (RFC 4291, appendix A). */
void net_ident_init(struct net_ident *id, const uint8_t mac[ETH_ALEN], const uint8_t *ip4,
		    const uint8_t *ip6);

/*
 * net_filter: judges a frame of len bytes whose first MIN(len, NET_HEAD) are at head. On NET_PASS *end is the first byte
 * that the verdict does not depend on: nothing before it may be changed afterwards. Any thread.
 */
enum net_verdict net_filter(const struct net_ident *id, const uint8_t *head, size_t len,
			    size_t *end);

const char *net_verdict_name(enum net_verdict v);

#endif
