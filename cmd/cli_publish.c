/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_publish.c - the ports that a container publishes, from flags: [host-ip:]host-port[-end]:container-port[-end][/tcp|udp].
 *
 * Without a host port, as docker has it, one that is free now is chosen and stays the container's; so it does for each port
 * that the image exposes, with --publish-all.
 */
#include <arpa/inet.h>
#include <strings.h>
#include <sys/socket.h>
#include "cmd/cli_config.h"
#include "net/net.h"

struct range {
	uint64_t from, to;
};

/* The ports chosen so far: their sockets keep them from being chosen twice. */
struct chosen {
	int fd[NET_PUBLISH_SPECS];
	size_t n;
};

static void chosen_close(struct chosen *c)
{
	while (c->n)
		close(c->fd[--c->n]);
}

/* "80" or "80-90". */
static int range_parse(const char *s, struct range *r)
{
	size_t len = strcspn(s, "-");
	CLEANUP_FREE char *from = xstrndup(s, len);

	if (parse_u64(from, &r->from) || parse_u64(s[len] ? s + len + 1 : from, &r->to))
		return -1;
	return r->from < 1 || r->to > 65535 || r->from > r->to ? -1 : 0;
}

/* Cuts "[ip]:port", "ip:port", "port", "ip:" or "" in two; *ip is NULL when there is none. */
static int host_cut(char *s, char **ip, char **port)
{
	char *colon = strrchr(s, ':');

	*ip = NULL;
	*port = s;
	if (*s == '[') {
		if (!colon || colon[-1] != ']')
			return -1;
		*ip = s + 1;
		colon[-1] = 0;
		*port = colon + 1;
		return strchr(*ip, ':') ? 0 : -1;
	}
	if (!colon)
		return 0;
	*colon = 0;
	*ip = s;
	*port = colon + 1;
	return **ip && !strchr(*ip, ':') ? 0 : -1;
}

static struct json_object *entry(struct json_object *arr, const char *ip, uint64_t host,
				 uint64_t guest, bool udp, uint64_t count)
{
	struct json_object *o = json_object_new_object();

	json_set_str(o, "hostAddress", ip);
	json_set_int(o, "hostPort", (int64_t)host);
	json_set_int(o, "containerPort", (int64_t)guest);
	json_set_str(o, "proto", udp ? "udp" : "tcp");
	json_set_int(o, "count", (int64_t)count);
	json_object_array_add(arr, o);
	return o;
}

static int choose_one(const char *ip, bool udp, struct chosen *c, uint64_t *port,
		      struct error **err)
{
	struct net_publish p = {.udp = udp, .v6 = strchr(ip, ':') != NULL, .count = 1};
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} own = {0};
	socklen_t len = sizeof(own);
	int fd;

	if (c->n == NET_PUBLISH_SPECS)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "at most %d published ports are possible", NET_PUBLISH_SPECS);
	if (inet_pton(p.v6 ? AF_INET6 : AF_INET, ip, p.addr) != 1)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid host address '%.64s' of a published port", ip);
	fd = net_publish_bind(&p, 0, err);
	if (fd < 0)
		return -1;
	c->fd[c->n++] = fd;
	if (getsockname(fd, &own.any, &len))
		return error_sys(err, errno, "choose a port");
	*port = ntohs(p.v6 ? own.six.sin6_port : own.four.sin_port);
	return 0;
}

static int choose(struct json_object *arr, const char *ip, const struct range *guest, bool udp,
		  struct chosen *c, struct error **err)
{
	uint64_t host = 0;

	for (uint64_t p = guest->from; p <= guest->to; p++) {
		if (choose_one(ip, udp, c, &host, err))
			return -1;
		entry(arr, ip, host, p, udp, 1);
	}
	return 0;
}

/* proto: what follows the '/', cut off already; NULL: nothing. */
static int proto_parse(const char *proto, bool *udp)
{
	*udp = proto && !strcasecmp(proto, "udp");
	return !proto || *udp || !strcasecmp(proto, "tcp") ? 0 : -1;
}

static int publish_one(struct json_object *arr, const char *spec, struct chosen *c,
		       struct error **err)
{
	CLEANUP_FREE char *copy = xstrdup(spec);
	char none[] = "", *proto = strchr(copy, '/'), *colon, *inner = copy, *ip, *outer;
	struct range host, guest;
	bool udp;

	if (proto)
		*proto++ = 0;
	colon = strrchr(copy, ':');
	if (colon) {
		*colon = 0;
		inner = colon + 1;
	}
	if (proto_parse(proto, &udp) || range_parse(inner, &guest) ||
	    host_cut(colon ? copy : none, &ip, &outer) || (colon && !ip && !*outer) ||
	    (*outer && range_parse(outer, &host)))
		return error_set(
			err, ERR_INVALID_ARGUMENT,
			"invalid published port '%s': "
			"[host-ip:]host-port[-end]:container-port[-end][/tcp|udp] expected",
			spec);
	if (!ip)
		ip = (char *)"0.0.0.0";
	if (!*outer)
		return choose(arr, ip, &guest, udp, c, err);
	if (host.to - host.from != guest.to - guest.from)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "invalid published port '%s': the ranges differ in length", spec);
	entry(arr, ip, host.from, guest.from, udp, host.to - host.from + 1);
	return 0;
}

/* "80/tcp": {} of an image's configuration, unless a flag publishes it already. */
static int publish_exposed(struct json_object *arr, const char *spec, struct chosen *c,
			   struct error **err)
{
	struct range guest;
	CLEANUP_FREE char *port = xstrndup(spec, strcspn(spec, "/"));
	bool udp;

	if (proto_parse(spec[strlen(port)] ? spec + strlen(port) + 1 : NULL, &udp) ||
	    range_parse(port, &guest))
		return 0; /* sctp, or what an image should not have */
	for (size_t i = 0; i < json_object_array_length(arr); i++) {
		struct json_object *o = json_object_array_get_idx(arr, i);
		uint64_t from = (uint64_t)json_int(o, "containerPort", 0);

		if (guest.from >= from && guest.to < from + (uint64_t)json_int(o, "count", 1) &&
		    udp == !strcmp(json_str(o, "proto", ""), "udp"))
			return 0;
	}
	return choose(arr, "0.0.0.0", &guest, udp, c, err);
}

int publish_parse(const char *const *v, struct json_object *exposed, struct json_object **out,
		  struct error **err)
{
	CLEANUP_JSON struct json_object *arr = json_object_new_array();
	CLEANUP_FREE struct net_publish *read = NULL;
	CLEANUP(chosen_close) struct chosen c = {.n = 0};
	size_t n;

	for (; v && *v; v++)
		if (publish_one(arr, *v, &c, err))
			return -1;
	if (exposed) {
		json_object_object_foreach(exposed, spec, unused)
		{
			(void)unused;
			if (publish_exposed(arr, spec, &c, err))
				return -1;
		}
	}
	if (net_publish_read(arr, &read, &n, err))
		return -1;
	*out = STEAL(arr);
	return 0;
}
