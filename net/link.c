/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - bridges and taps by rtnetlink(7) and /dev/net/tun.
 *
 * A bridge of ours has a hardware address of its own: one taken from its ports would change when a
 * container goes, and the guests' neighbour entries for the gateway with it. Neither bridge nor
 * taps get IPv6 link-local addresses of the host's making. It does not listen to IGMP and MLD: a guest that plays the
 * querier would decide which multicast, neighbour discovery among it, the others get.
 */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "net/net.h"
#include "net/netlink.h"

unsigned int if_nametoindex(const char *name); /* <net/if.h> and <linux/if.h> exclude each other */

static int talk(const struct buf *b, struct nl *nl, struct error **err, const char *what,
		const char *name)
{
	return nl_talk(nl, b, 1, NULL, err) < 0 ? error_wrap(err, "%s %s", what, name) : 0;
}

/* link_kind: "bridge", "tun", … of a link, "" when it has none; -1 when there is no such link. */
static int link_kind(struct nl *nl, const char *name, char *kind, size_t size, struct error **err)
{
	struct ifinfomsg ifi = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)};
	CLEANUP_BUF struct buf b = {0};
	CLEANUP_BUF struct buf reply = {0};
	const size_t head = NLMSG_LENGTH(sizeof(ifi));
	const void *info, *k;
	size_t len;

	if (!ifi.ifi_index)
		return error_set(err, ERR_NOT_FOUND, "no link %s", name);
	nl_end(&b, nl_begin(nl, &b, RTM_GETLINK, NLM_F_ACK, &ifi, sizeof(ifi)));
	if (nl_talk(nl, &b, 1, &reply, err) < 0)
		return error_wrap(err, "query link %s", name);
	*kind = 0;
	if (reply.len < head)
		return 0;
	info = nl_find(reply.data + head, reply.len - head, IFLA_LINKINFO, &len);
	k = info ? nl_find(info, len, IFLA_INFO_KIND, &len) : NULL;
	if (k)
		snprintf(kind, size, "%.*s", (int)len, (const char *)k);
	return 0;
}

/* no_link_local: IFLA_AF_SPEC { AF_INET6 { addr_gen_mode none } } */
static void no_link_local(struct buf *b)
{
	size_t spec = nl_nest(b, IFLA_AF_SPEC), v6 = nl_nest(b, AF_INET6);
	uint8_t none = 1; /* IN6_ADDR_GEN_MODE_NONE */

	nl_put(b, IFLA_INET6_ADDR_GEN_MODE, &none, 1);
	nl_nest_end(b, v6);
	nl_nest_end(b, spec);
}

static int bridge_create(struct nl *nl, const char *name, int mtu, struct error **err)
{
	struct ifinfomsg ifi = {.ifi_family = AF_UNSPEC};
	CLEANUP_BUF struct buf b = {0};
	uint8_t mac[6], off = 0;
	size_t msg, info, data;

	random_bytes(mac, sizeof(mac));
	mac[0] = 0x02; /* locally administered, unicast */
	msg = nl_begin(nl, &b, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &ifi,
		       sizeof(ifi));
	nl_put_str(&b, IFLA_IFNAME, name);
	nl_put_u32(&b, IFLA_MTU, (uint32_t)mtu);
	nl_put(&b, IFLA_ADDRESS, mac, sizeof(mac));
	info = nl_nest(&b, IFLA_LINKINFO);
	nl_put_str(&b, IFLA_INFO_KIND, "bridge");
	data = nl_nest(&b, IFLA_INFO_DATA);
	nl_put(&b, IFLA_BR_MCAST_SNOOPING, &off, 1);
	nl_nest_end(&b, data);
	nl_nest_end(&b, info);
	nl_end(&b, msg);
	return talk(&b, nl, err, "create bridge", name);
}

/* link_quiet: before it comes up, or the kernel has made an address already. A host without IPv6
 * refuses this, and needs it not. */
static void link_quiet(struct nl *nl, const char *name)
{
	struct ifinfomsg ifi = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)};
	CLEANUP_BUF struct buf b = {0};
	size_t msg = nl_begin(nl, &b, RTM_NEWLINK, NLM_F_ACK, &ifi, sizeof(ifi));

	no_link_local(&b);
	nl_end(&b, msg);
	nl_talk(nl, &b, 1, NULL, NULL);
}

/* link_up: brings a link up, into a bridge when master is not 0. */
static int link_up(struct nl *nl, const char *name, unsigned master, int mtu, struct error **err)
{
	struct ifinfomsg ifi = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = (int)if_nametoindex(name),
		.ifi_flags = IFF_UP,
		.ifi_change = IFF_UP,
	};
	CLEANUP_BUF struct buf b = {0};
	size_t msg;

	link_quiet(nl, name);
	msg = nl_begin(nl, &b, RTM_NEWLINK, NLM_F_ACK, &ifi, sizeof(ifi));
	if (master)
		nl_put_u32(&b, IFLA_MASTER, master);
	if (mtu)
		nl_put_u32(&b, IFLA_MTU, (uint32_t)mtu);
	nl_end(&b, msg);
	return talk(&b, nl, err, "bring up", name);
}

static int addr_add(struct nl *nl, const char *name, struct in_addr addr, int prefix,
		    struct error **err)
{
	struct ifaddrmsg ifa = {
		.ifa_family = AF_INET,
		.ifa_prefixlen = (uint8_t)prefix,
		.ifa_index = if_nametoindex(name),
	};
	struct in_addr brd = {
		.s_addr = addr.s_addr |
			  htonl(prefix ? (uint32_t)((1ull << (32 - prefix)) - 1) : ~0u)};
	CLEANUP_BUF struct buf b = {0};
	size_t msg = nl_begin(nl, &b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, &ifa,
			      sizeof(ifa));

	nl_put(&b, IFA_LOCAL, &addr, sizeof(addr));
	nl_put(&b, IFA_ADDRESS, &addr, sizeof(addr));
	nl_put(&b, IFA_BROADCAST, &brd, sizeof(brd));
	nl_end(&b, msg);
	return talk(&b, nl, err, "address of", name);
}

static void nl_closep(struct nl *nl)
{
	nl_close(nl);
}

int net_bridge_ensure(const char *name, struct in_addr addr, int prefix, int mtu,
		      struct error **err)
{
	CLEANUP(nl_closep) struct nl nl = {.fd = -1};
	char kind[16];

	if (nl_open(&nl, NETLINK_ROUTE, err) < 0)
		return -1;
	if (!if_nametoindex(name)) {
		if (bridge_create(&nl, name, mtu, err) < 0)
			return -1;
	} else {
		if (link_kind(&nl, name, kind, sizeof(kind), err) < 0)
			return -1;
		if (strcmp(kind, "bridge"))
			return error_set(err, ERR_EXISTS, "link %s exists and is no bridge", name);
	}
	if (addr_add(&nl, name, addr, prefix, err) < 0)
		return -1;
	return link_up(&nl, name, 0, 0, err);
}

int net_link_delete(const char *name, struct error **err)
{
	CLEANUP(nl_closep) struct nl nl = {.fd = -1};
	struct ifinfomsg ifi = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)};
	CLEANUP_BUF struct buf b = {0};

	if (!ifi.ifi_index)
		return 0;
	if (nl_open(&nl, NETLINK_ROUTE, err) < 0)
		return -1;
	nl_end(&b, nl_begin(&nl, &b, RTM_DELLINK, NLM_F_ACK, &ifi, sizeof(ifi)));
	return talk(&b, &nl, err, "delete link", name);
}

static int tap_queue(struct ifreq *ifr, struct error **err)
{
	CLEANUP_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return error_sys(err, errno, "open /dev/net/tun (is the tun module loaded?)");
	if (ioctl(fd, TUNSETIFF, ifr) < 0)
		return error_sys(err, errno, "create tap %s", ifr->ifr_name);
	return steal_fd(&fd);
}

int net_tap_open(const char *name, const char *bridge, int mtu, unsigned queues,
		 int fds[NET_TAP_QUEUES], struct error **err)
{
	CLEANUP(nl_closep) struct nl nl = {.fd = -1};
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	unsigned master = if_nametoindex(bridge), n;

	if (!master)
		return error_set(err, ERR_NOT_FOUND, "no bridge %s", bridge);
	if (queues > 1)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	/* The first call gives the tap its name, the others find it by that. */
	for (n = 0; n < queues; n++) {
		fds[n] = tap_queue(&ifr, err);
		if (fds[n] < 0)
			goto fail;
	}
	if (!nl_open(&nl, NETLINK_ROUTE, err) && !link_up(&nl, ifr.ifr_name, master, mtu, err))
		return 0;
	error_wrap(err, "tap into bridge %s", bridge);
fail:
	while (n)
		close(fds[--n]);
	return -1;
}
