/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netcfg.c - links, addresses and the default route over rtnetlink(7).
 *
 * The guest has one network namespace, the container's. Each request is acknowledged by the kernel before
 * the next is sent; the socket is blocking and the kernel answers at once.
 */
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "vmm/guest/guest.h"

#define MAX_NETWORKS 16
#define MTU_MIN      68
#define MTU_MAX      65535

struct nlreq {
	struct nlmsghdr h;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct rtmsg route;
		char room[256];
	} u;
};

static void nl_init(struct nlreq *r, uint16_t type, uint16_t flags, size_t body)
{
	memset(r, 0, sizeof(*r));
	r->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
	r->h.nlmsg_type = type;
	r->h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
}

static void nl_attr(struct nlreq *r, uint16_t type, const void *p, size_t n)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->h.nlmsg_len));

	if (NLMSG_ALIGN(r->h.nlmsg_len) + RTA_LENGTH(n) > sizeof(*r))
		abort(); /* requests are built from fixed sizes only */
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), p, n);
	r->h.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->h.nlmsg_len) + RTA_LENGTH(n));
}

static int nl_talk(int fd, struct nlreq *r, const char *what, struct error **err)
{
	union {
		struct nlmsghdr h;
		char room[4096];
	} in;
	ssize_t n;

	if (send(fd, r, r->h.nlmsg_len, 0) < 0)
		return error_sys(err, errno, "%s", what);
	do
		n = RETRY_EINTR(recv(fd, &in, sizeof(in), 0));
	while (n >= (ssize_t)sizeof(in.h) && in.h.nlmsg_type != NLMSG_ERROR);
	if (n < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)))
		return error_sys(err, n < 0 ? errno : EPROTO, "%s", what);
	n = ((struct nlmsgerr *)NLMSG_DATA(&in.h))->error;
	return n ? error_sys(err, (int)-n, "%s", what) : 0;
}

static int link_up(int fd, int ifindex, uint32_t mtu, struct error **err)
{
	struct nlreq r;

	nl_init(&r, RTM_NEWLINK, 0, sizeof(r.u.link));
	r.u.link.ifi_index = ifindex;
	r.u.link.ifi_flags = r.u.link.ifi_change = IFF_UP;
	if (mtu)
		nl_attr(&r, IFLA_MTU, &mtu, sizeof(mtu));
	return nl_talk(fd, &r, "set link up", err);
}

/* "192.168.64.3/24" into family, bytes and prefix length. */
static int parse_cidr(const char *s, uint8_t *family, uint8_t addr[16], uint8_t *prefix,
		      struct error **err)
{
	CLEANUP_FREE char *copy = xstrdup(s);
	char *slash = strchr(copy, '/');
	uint64_t bits;

	if (slash)
		*slash++ = 0;
	*family = strchr(copy, ':') ? AF_INET6 : AF_INET;
	bits = *family == AF_INET ? 32 : 128;
	if (slash && (parse_u64(slash, &bits) || bits > (*family == AF_INET ? 32u : 128u)))
		return error_set(err, ERR_INVALID_ARGUMENT, "bad prefix length in %s", s);
	if (inet_pton(*family, copy, addr) != 1)
		return error_set(err, ERR_INVALID_ARGUMENT, "bad address %s", s);
	*prefix = (uint8_t)bits;
	return 0;
}

static int addr_add(int fd, int ifindex, const char *cidr, struct error **err)
{
	uint8_t addr[16];
	struct nlreq r;
	size_t n;

	nl_init(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(r.u.addr));
	if (parse_cidr(cidr, &r.u.addr.ifa_family, addr, &r.u.addr.ifa_prefixlen, err))
		return -1;
	n = r.u.addr.ifa_family == AF_INET ? 4 : 16;
	r.u.addr.ifa_index = (uint32_t)ifindex;
	if (n == 16)
		r.u.addr.ifa_flags = IFA_F_NODAD; /* the host gave it out: it is ours */
	nl_attr(&r, IFA_LOCAL, addr, n);
	nl_attr(&r, IFA_ADDRESS, addr, n);
	if (n == 4 && r.u.addr.ifa_prefixlen < 31) {
		uint32_t bcast;

		memcpy(&bcast, addr, 4);
		bcast |= htonl(UINT32_MAX >> r.u.addr.ifa_prefixlen);
		nl_attr(&r, IFA_BROADCAST, &bcast, 4);
	}
	return nl_talk(fd, &r, "add address", err);
}

static int default_route(int fd, int ifindex, const char *gateway, struct error **err)
{
	uint8_t addr[16], prefix;
	struct nlreq r;

	nl_init(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(r.u.route));
	if (parse_cidr(gateway, &r.u.route.rtm_family, addr, &prefix, err))
		return -1;
	r.u.route.rtm_table = RT_TABLE_MAIN;
	r.u.route.rtm_protocol = RTPROT_BOOT;
	r.u.route.rtm_scope = RT_SCOPE_UNIVERSE;
	r.u.route.rtm_type = RTN_UNICAST;
	nl_attr(&r, RTA_GATEWAY, addr, r.u.route.rtm_family == AF_INET ? 4 : 16);
	nl_attr(&r, RTA_OIF, &ifindex, sizeof(ifindex));
	return nl_talk(fd, &r, "add default route", err);
}

/* The driver took as many pairs of queues as there were CPUs when it came. A card without more, or without the call, is fine. */
static void use_all_queues(const char *name)
{
	CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ethtool_channels c = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq r = {.ifr_data = (void *)&c};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%.15s", name);
	if (fd < 0 || ioctl(fd, SIOCETHTOOL, &r) || c.combined_count >= c.max_combined)
		return;
	c.cmd = ETHTOOL_SCHANNELS;
	c.combined_count = MIN(c.max_combined, (uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
	if (ioctl(fd, SIOCETHTOOL, &r))
		guest_log("%s: %u queues: %s", name, c.combined_count, strerror(errno));
}

static int network_up(int fd, struct json_object *net, struct error **err)
{
	const char *name = json_str(net, "name", "eth0");
	const char *address = json_str(net, "address", ""), *gateway = json_str(net, "gateway", "");
	int64_t mtu = json_int(net, "mtu", 0);
	int ifindex = (int)if_nametoindex(name);

	if (!ifindex)
		return error_set(err, ERR_NOT_FOUND, "network device %.16s is missing", name);
	if (mtu && (mtu < MTU_MIN || mtu > MTU_MAX))
		return error_set(err, ERR_INVALID_ARGUMENT, "MTU %lld is out of range",
				 (long long)mtu);
	if (*address && addr_add(fd, ifindex, address, err))
		return error_wrap(err, "%.16s", name);
	use_all_queues(name);
	if (link_up(fd, ifindex, (uint32_t)mtu, err))
		return error_wrap(err, "%.16s", name);
	if (*gateway && default_route(fd, ifindex, gateway, err))
		return error_wrap(err, "%.16s", name);
	return 0;
}

int netcfg_apply(struct json_object *networks, struct error **err)
{
	CLEANUP_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	size_t i, n = networks ? json_object_array_length(networks) : 0;

	if (fd < 0)
		return error_sys(err, errno, "netlink socket");
	if (link_up(fd, 1, 0, err))
		return error_wrap(err, "lo");
	if (n > MAX_NETWORKS)
		return error_set(err, ERR_INVALID_ARGUMENT, "too many networks");
	for (i = 0; i < n; i++)
		if (network_up(fd, json_object_array_get_idx(networks, i), err))
			return -1;
	return 0;
}
