/* SPDX-License-Identifier: Apache-2.0 */
/* net_filter.c - see net_filter.h. Offsets are from the frame's first byte; all numbers on the wire are big endian. */
#include <netinet/in.h>
#include <netinet/icmp6.h>

#include "vmm/net_filter.h"

#define IP4       ETH_HLEN
#define IP6       ETH_HLEN
#define IP6_FIXED 40
#define ARP_LEN   28

enum { DHCP4_SERVER = 67, DHCP4_CLIENT = 68, DHCP6_CLIENT = 546, DHCP6_SERVER = 547 };
enum { ND_OPT_SOURCE = 1, ND_OPT_TARGET = 2 };
enum { MLD_REPORT = 131, MLD_DONE = 132, MLD2_REPORT = 143, PROTO_AH = 51 };

struct frame {
	const struct net_ident *id;
	const uint8_t *p;
	size_t n;   /* bytes of p that are there and belong to the packet */
	size_t end; /* of what was looked at */
};

static const uint8_t zero[16];

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return !memcmp(p, zero, n);
}

/* Whether [at, at + len) is there; it counts as looked at. */
static bool see(struct frame *f, size_t at, size_t len)
{
	if (at > f->n || len > f->n - at)
		return false;
	f->end = MAX(f->end, at + len);
	return true;
}

/*
 * What follows the packet is padding: a receiver that puts fragments together takes other bytes for it, so nothing is
 * read there. A length of 0 is that of a segmented packet, which is never fragmented.
 */
static void packet_ends(struct frame *f, size_t end)
{
	f->n = MIN(f->n, end);
}

/* ---- ARP (RFC 826; probes: RFC 5227) ---- */

static enum net_verdict check_arp(struct frame *f)
{
	static const uint8_t ethernet_ip4[] = {0, 1, 8, 0, ETH_ALEN, 4};
	const uint8_t *a = f->p + ETH_HLEN;
	unsigned op;

	if (!see(f, ETH_HLEN, ARP_LEN))
		return NET_MALFORMED;
	op = be16(a + 6);
	if (memcmp(a, ethernet_ip4, sizeof(ethernet_ip4)) || op < 1 || op > 2)
		return NET_ARP;
	if (memcmp(a + 8, f->id->mac, ETH_ALEN))
		return NET_ARP;
	if (op == 1 && is_zero(a + 14, 4))
		return NET_PASS;
	return is_zero(f->id->ip4, 4) || memcmp(a + 14, f->id->ip4, 4) ? NET_ARP : NET_PASS;
}

/* ---- what both IP versions carry ---- */

/* A UDP header at `at`: nobody is a DHCP server here. */
static enum net_verdict check_udp(struct frame *f, size_t at, unsigned server, unsigned client)
{
	if (!see(f, at, 4))
		return NET_MALFORMED;
	return be16(f->p + at) == server || be16(f->p + at + 2) == client ? NET_ROUTER : NET_PASS;
}

/* ---- IPv4 ---- */

static bool is_dhcp_request(const struct frame *f, size_t l4, bool later)
{
	static const uint8_t broadcast[4] = {255, 255, 255, 255};
	const uint8_t *ip = f->p + IP4;

	return ip[9] == IPPROTO_UDP && !later && !memcmp(ip + 16, broadcast, 4) && l4 + 4 <= f->n &&
	       be16(f->p + l4) == DHCP4_CLIENT && be16(f->p + l4 + 2) == DHCP4_SERVER;
}

static enum net_verdict check_ip4(struct frame *f)
{
	const uint8_t *ip = f->p + IP4;
	size_t l4;
	bool later;

	if (!see(f, IP4, 20) || ip[0] >> 4 != 4)
		return NET_MALFORMED;
	packet_ends(f, be16(ip + 2) ? IP4 + (size_t)be16(ip + 2) : SIZE_MAX);
	l4 = IP4 + 4u * (ip[0] & 15);
	if (l4 < IP4 + 20 || !see(f, IP4, l4 - IP4))
		return NET_MALFORMED;
	later = be16(ip + 6) & 0x1fff; /* a fragment that is not the first */
	if (is_zero(ip + 12, 4) ? !is_dhcp_request(f, l4, later) : memcmp(ip + 12, f->id->ip4, 4))
		return NET_IP4;
	if (ip[9] == IPPROTO_UDP && !later)
		return check_udp(f, l4, DHCP4_SERVER, DHCP4_CLIENT);
	return NET_PASS;
}

/* ---- IPv6 ---- */

static bool is_own_ip6(const struct frame *f, const uint8_t *addr)
{
	return !memcmp(addr, f->id->ip6[0], 16) ||
	       (f->id->has_ip6 && !memcmp(addr, f->id->ip6[1], 16));
}

/* Options of a neighbour discovery message (RFC 4861 §4.6): a link-layer address in them is ours. */
static enum net_verdict check_nd_options(struct frame *f, size_t at, size_t end)
{
	while (at < end) {
		size_t len;

		if (end - at < 8 || !see(f, at, 8))
			return NET_MALFORMED;
		len = 8u * f->p[at + 1];
		if (!len || len > end - at || !see(f, at, len))
			return NET_MALFORMED;
		if ((f->p[at] == ND_OPT_SOURCE || f->p[at] == ND_OPT_TARGET) &&
		    (len != 8 || memcmp(f->p + at + 2, f->id->mac, ETH_ALEN)))
			return NET_ND;
		at += len;
	}
	return NET_PASS;
}

/* ICMPv6 at `at`, up to `end`; `unspecified`: the source address is ::. */
static enum net_verdict check_icmp6(struct frame *f, size_t at, size_t end, bool unspecified,
				    bool fragment)
{
	size_t options = at + 24;
	unsigned type;

	if (!see(f, at, 4))
		return NET_MALFORMED;
	type = f->p[at];
	switch (type) {
	case ND_ROUTER_ADVERT:
	case ND_REDIRECT:
		return NET_ROUTER;
	case ND_ROUTER_SOLICIT:
		options = at + 8;
		break;
	case ND_NEIGHBOR_SOLICIT:
	case ND_NEIGHBOR_ADVERT:
		break;
	case MLD_REPORT:
	case MLD_DONE:
	case MLD2_REPORT:
		return NET_PASS;
	default:
		return unspecified ? NET_IP6 : NET_PASS;
	}
	if (fragment) /* RFC 6980 */
		return NET_ND;
	if (options > end || !see(f, at, options - at))
		return NET_MALFORMED;
	/* A solicitation from :: asks whether an address is free: only its owner-to-be does. */
	if ((type == ND_NEIGHBOR_ADVERT || (type == ND_NEIGHBOR_SOLICIT && unspecified)) &&
	    !is_own_ip6(f, f->p + at + 8))
		return NET_ND;
	return check_nd_options(f, options, end);
}

/* Walks to the upper-layer header. *next is its number, *later whether it is in another fragment. */
static enum net_verdict skip_extensions(struct frame *f, size_t *at, unsigned *next, bool *fragment,
					bool *later)
{
	for (;;) {
		const uint8_t *h = f->p + *at;
		size_t len;

		switch (*next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case PROTO_AH:
			if (!see(f, *at, 8))
				return NET_MALFORMED;
			len = *next == PROTO_AH ? 4u * h[1] + 8 : 8u * h[1] + 8;
			if (!see(f, *at, len))
				return NET_MALFORMED;
			break;
		case IPPROTO_FRAGMENT:
			len = 8;
			if (!see(f, *at, len))
				return NET_MALFORMED;
			*fragment = true;
			*later = be16(h + 2) & 0xfff8;
			break;
		default:
			return NET_PASS;
		}
		*next = h[0];
		*at += len;
		if (*later)
			return NET_PASS;
	}
}

static enum net_verdict check_ip6(struct frame *f, size_t len)
{
	const uint8_t *ip = f->p + IP6;
	size_t at = IP6 + IP6_FIXED, end;
	bool fragment = false, later = false, unspecified;
	enum net_verdict v;
	unsigned next;

	if (!see(f, IP6, IP6_FIXED) || ip[0] >> 4 != 6)
		return NET_MALFORMED;
	unspecified = is_zero(ip + 8, 16);
	if (!unspecified && !is_own_ip6(f, ip + 8))
		return NET_IP6;
	end = MIN(len, be16(ip + 4) ? at + be16(ip + 4) : SIZE_MAX);
	packet_ends(f, end);
	next = ip[6];
	v = skip_extensions(f, &at, &next, &fragment, &later);
	if (v)
		return v;
	if (next == IPPROTO_ICMPV6 && !later)
		return check_icmp6(f, at, end, unspecified, fragment);
	if (unspecified)
		return NET_IP6;
	if (next == IPPROTO_UDP && !later)
		return check_udp(f, at, DHCP6_SERVER, DHCP6_CLIENT);
	return NET_PASS;
}

/* ---- net_filter.h ---- */

enum net_verdict net_filter(const struct net_ident *id, const uint8_t *head, size_t len,
			    size_t *end)
{
	struct frame f = {.id = id, .p = head, .n = MIN(len, NET_HEAD)};
	enum net_verdict v;

	if (!see(&f, 0, ETH_HLEN))
		return NET_MALFORMED;
	if (memcmp(head + ETH_ALEN, id->mac, ETH_ALEN))
		return NET_MAC;
	switch (be16(head + 2 * ETH_ALEN)) {
	case ETH_P_IP:
		v = check_ip4(&f);
		break;
	case ETH_P_IPV6:
		v = check_ip6(&f, len);
		break;
	case ETH_P_ARP:
		v = check_arp(&f);
		break;
	default:
		return NET_TYPE;
	}
	*end = f.end;
	return v;
}

void net_ident_init(struct net_ident *id, const uint8_t mac[ETH_ALEN], const uint8_t *ip4,
		    const uint8_t *ip6)
{
	*id = (struct net_ident){.has_ip6 = ip6 != NULL};
	memcpy(id->mac, mac, ETH_ALEN);
	if (ip4)
		memcpy(id->ip4, ip4, 4);
	if (ip6)
		memcpy(id->ip6[1], ip6, 16);
	id->ip6[0][0] = 0xfe;
	id->ip6[0][1] = 0x80;
	memcpy(id->ip6[0] + 8, mac, 3);
	id->ip6[0][8] ^= 2;
	id->ip6[0][11] = 0xff;
	id->ip6[0][12] = 0xfe;
	memcpy(id->ip6[0] + 13, mac + 3, 3);
}

const char *net_verdict_name(enum net_verdict v)
{
	static const char *const names[NET_VERDICTS] = {
		[NET_PASS] = "passed",
		[NET_MALFORMED] = "malformed",
		[NET_OFFLOAD] = "offload that was not agreed on",
		[NET_TYPE] = "neither IPv4, IPv6 nor ARP",
		[NET_MAC] = "foreign MAC address",
		[NET_IP4] = "foreign IPv4 address",
		[NET_ARP] = "ARP for a foreign address",
		[NET_IP6] = "foreign IPv6 address",
		[NET_ND] = "neighbour discovery for a foreign address",
		[NET_ROUTER] = "a router's or DHCP server's words",
	};

	return names[v];
}
