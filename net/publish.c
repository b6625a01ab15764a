/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c - the ports of the host that a container has: what its configuration may say of them, and their sockets.
 *
 * Two ports clash when the kernel would refuse the second: same protocol and number, on the same address or when one of
 * them is on any address of the family. IPv6 sockets take IPv6 only, so the families never clash.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "core/str.h"
#include "net/net.h"

#define BACKLOG         1024
#define PRIVILEGED_PORT 1024

/* ---- reading ---- */

static int read_address(const char *text, struct net_publish *p, struct error **err)
{
	p->v6 = strchr(text, ':') != NULL;
	if (inet_pton(p->v6 ? AF_INET6 : AF_INET, text, p->addr) == 1)
		return 0;
	return error_set(err, ERR_INVALID_ARGUMENT,
			 "invalid host address '%.64s' of a published port", text);
}

static int read_one(struct json_object *o, struct net_publish *p, struct error **err)
{
	const char *proto = json_str(o, "proto", "tcp");
	int64_t host, guest, count = 1;

	*p = (struct net_publish){.udp = !strcmp(proto, "udp")};
	if (!p->udp && strcmp(proto, "tcp"))
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"invalid protocol '%.32s' of a published port: tcp or udp expected", proto);
	if (json_need_int(o, "hostPort", 1, 65535, &host, err) < 0 ||
	    json_need_int(o, "containerPort", 1, 65535, &guest, err) < 0 ||
	    (json_get(o, "count") && json_need_int(o, "count", 1, 65535, &count, err) < 0) ||
	    read_address(json_str(o, "hostAddress", "0.0.0.0"), p, err) < 0)
		return -1;
	if (MAX(host, guest) + count - 1 > 65535)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "%lld published ports from %lld on reach beyond 65535",
				 (long long)count, (long long)MAX(host, guest));
	p->host_port = (uint16_t)host;
	p->guest_port = (uint16_t)guest;
	p->count = (unsigned)count;
	return 0;
}

static int check_clashes(const struct net_publish *p, size_t n, struct error **err)
{
	char text[NET_PUBLISH_TEXT];

	for (size_t i = 1; i < n; i++)
		for (size_t k = 0; k < i; k++) {
			int at = net_publish_clash(&p[i], &p[k]);

			if (at < 0)
				continue;
			net_publish_text(&p[i], (unsigned)at, text);
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "host port %s is published more than once", text);
		}
	return 0;
}

int net_publish_read(struct json_object *arr, struct net_publish **out, size_t *n,
		     struct error **err)
{
	size_t len = 0, total = 0, i;
	CLEANUP_FREE struct net_publish *p = NULL;

	if (arr && !json_object_is_type(arr, json_type_array))
		return error_set(err, ERR_INVALID_ARGUMENT, "\"publishedPorts\" must be an array");
	len = arr ? json_object_array_length(arr) : 0;
	if (len > NET_PUBLISH_SPECS)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "%zu published ports: at most %d are possible, ranges count once",
				 len, NET_PUBLISH_SPECS);
	p = len ? xcalloc(len, sizeof(*p)) : NULL;
	for (i = 0; i < len; i++) {
		if (read_one(json_object_array_get_idx(arr, i), &p[i], err) < 0)
			return -1;
		total += p[i].count;
	}
	if (total > NET_PUBLISH_PORTS)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "%zu published ports: at most %d are possible with all ranges",
				 total, NET_PUBLISH_PORTS);
	if (check_clashes(p, len, err) < 0)
		return -1;
	*out = STEAL(p);
	*n = len;
	return 0;
}

/* ---- comparing, printing ---- */

int net_publish_clash(const struct net_publish *a, const struct net_publish *b)
{
	static const uint8_t any[16];
	size_t len = a->v6 ? 16 : 4;
	int first = MAX(a->host_port, b->host_port);

	if (a->v6 != b->v6 || a->udp != b->udp ||
	    (memcmp(a->addr, b->addr, len) && memcmp(a->addr, any, len) &&
	     memcmp(b->addr, any, len)))
		return -1;
	if (first >= a->host_port + (int)a->count || first >= b->host_port + (int)b->count)
		return -1;
	return first - a->host_port;
}

void net_publish_text(const struct net_publish *p, unsigned i, char out[NET_PUBLISH_TEXT])
{
	char addr[INET6_ADDRSTRLEN];

	inet_ntop(p->v6 ? AF_INET6 : AF_INET, p->addr, addr, sizeof(addr));
	snprintf(out, NET_PUBLISH_TEXT, p->v6 ? "[%s]:%u/%s" : "%s:%u/%s", addr, p->host_port + i,
		 p->udp ? "udp" : "tcp");
}

/* ---- sockets ---- */

static int set_one(int fd, int level, int option)
{
	int one = 1;

	return setsockopt(fd, level, option, &one, sizeof(one));
}

/* UDP's are not to be shared, and say which address of ours a datagram came to. */
static int set_options(int fd, const struct net_publish *p)
{
	if (p->v6 && set_one(fd, IPPROTO_IPV6, IPV6_V6ONLY))
		return -1;
	if (p->udp)
		return p->v6 ? set_one(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO)
			     : set_one(fd, IPPROTO_IP, IP_PKTINFO);
	/* What is accepted has these two too: a client that vanished is found out by and by. */
	return set_one(fd, SOL_SOCKET, SO_REUSEADDR) || set_one(fd, SOL_SOCKET, SO_KEEPALIVE) ||
	       set_one(fd, IPPROTO_TCP, TCP_NODELAY);
}

static int bind_port(int fd, const struct net_publish *p, uint16_t port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};

	memcpy(&six.sin6_addr, p->addr, sizeof(six.sin6_addr));
	memcpy(&four.sin_addr, p->addr, sizeof(four.sin_addr));
	if (p->v6)
		return bind(fd, (struct sockaddr *)&six, sizeof(six));
	return bind(fd, (struct sockaddr *)&four, sizeof(four));
}

int net_publish_bind(const struct net_publish *p, unsigned i, struct error **err)
{
	uint16_t port = (uint16_t)(p->host_port + i);
	int type = (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
	CLEANUP_CLOSE int fd = socket(p->v6 ? AF_INET6 : AF_INET, type, 0);
	char text[NET_PUBLISH_TEXT];
	int sys;

	net_publish_text(p, i, text);
	if (fd >= 0 && !set_options(fd, p) && !bind_port(fd, p, port) &&
	    (p->udp || !listen(fd, BACKLOG)))
		return steal_fd(&fd);
	sys = errno;
	if ((sys == EACCES || sys == EPERM) && port < PRIVILEGED_PORT) {
		error_set(err, ERR_INVALID_ARGUMENT,
			  "permission denied while binding to host port %u (%s): ports below %d "
			  "require root privileges",
			  port, text, PRIVILEGED_PORT);
		return -1;
	}
	error_sys(err, sys, "publish port %s", text);
	return -1;
}
