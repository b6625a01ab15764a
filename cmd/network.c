/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.c - the network role: one helper per network, holding its bridge, rules and leases.
 *
 * The bridge and the rules are in the kernel and the leases in a file, so the helper may be killed
 * and started again while containers run: a tap belongs to the runtime helper that holds its
 * descriptor. Rules are put back at each allocation, because a firewall reload on the host may have
 * flushed them.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "cmd/roles.h"
#include "core/log.h"
#include "core/path.h"
#include "core/roots.h"
#include "core/rpc.h"
#include "net/net.h"

#define NETWORK_LISTEN_FD 3
#define NETWORK_MTU       1500

struct network {
	struct loop *loop;
	struct roots roots;
	const char *name;
	struct in_addr subnet, gateway;
	int prefix;
	char bridge[16], table[64];
	int dirfd;
	struct ipam *ipam;
	struct rpc_server *server;
};

static int parse_cidr(const char *s, struct in_addr *addr, int *prefix, struct error **err)
{
	const char *slash = strchr(s, '/');
	CLEANUP_FREE char *ip = slash ? xstrndup(s, (size_t)(slash - s)) : NULL;
	uint64_t n;

	if (!ip || inet_pton(AF_INET, ip, addr) != 1 || parse_u64(slash + 1, &n) < 0 || n > 32)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "'%s' is no IPv4 subnet like 192.168.64.0/24", s);
	*prefix = (int)n;
	return 0;
}

/* network_mac: the same for the same container, so that a restart does not look like another
 * machine. FNV-1a over tag and id. */
static void network_mac(const struct network *n, const char *id, char out[18])
{
	uint64_t h = 0xcbf29ce484222325ull;
	const char *s;

	for (s = n->roots.tag; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
	for (s = id; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
	snprintf(out, 18, "f2:%02x:%02x:%02x:%02x:%02x", (unsigned)(h >> 56) & 255,
		 (unsigned)(h >> 48) & 255, (unsigned)(h >> 40) & 255, (unsigned)(h >> 32) & 255,
		 (unsigned)(h >> 24) & 255);
}

/* network_dns: the host's name servers that a guest can reach too. */
static struct json_object *network_dns(const struct network *n)
{
	struct json_object *out = json_object_new_array();
	CLEANUP_BUF struct buf text = {0};
	char *line, *save = NULL;

	if (path_read_all(AT_FDCWD, "/etc/resolv.conf", 64 << 10, &text, NULL) < 0 || !text.data)
		return out;
	for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char word[64], ip[64];
		struct in_addr a;

		if (sscanf(line, "%63s %63s", word, ip) == 2 && !strcmp(word, "nameserver") &&
		    inet_pton(AF_INET, ip, &a) == 1 && (ntohl(a.s_addr) >> 24) != 127)
			json_add_str(out, ip);
	}
	return out;
}

static int network_up(struct network *n, struct error **err)
{
	if (net_bridge_ensure(n->bridge, n->gateway, n->prefix, NETWORK_MTU, err) < 0 ||
	    net_nat_ensure(n->table, n->bridge, n->subnet, n->prefix, err) < 0) {
		bool denied = *err && ((*err)->sys == EPERM ||
				       ((*err)->cause && (*err)->cause->sys == EPERM));

		return denied ? error_wrap(err,
					   "network %s needs root; without it only --network none "
					   "is supported "
					   "yet",
					   n->name)
			      : error_wrap(err, "network %s", n->name);
	}
	return 0;
}

static struct json_object *attachment(const struct network *n, const char *id, const char *hostname,
				      struct in_addr addr, int mtu)
{
	struct json_object *o = json_object_new_object();
	char ip[INET_ADDRSTRLEN], gw[INET_ADDRSTRLEN], mac[18];
	CLEANUP_FREE char *cidr = NULL;

	inet_ntop(AF_INET, &addr, ip, sizeof(ip));
	inet_ntop(AF_INET, &n->gateway, gw, sizeof(gw));
	network_mac(n, id, mac);
	cidr = xasprintf("%s/%d", ip, n->prefix);
	json_set_str(o, "network", n->name);
	json_set_str(o, "hostname", hostname);
	json_set_str(o, "ipv4Address", cidr);
	json_set_str(o, "ipv4Gateway", gw);
	json_set_str(o, "macAddress", mac);
	json_set_int(o, "mtu", mtu);
	json_set(o, "dns", network_dns(n));
	return o;
}

static void on_allocate(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct network *n = ctx;
	CLEANUP_FREE char *tap_name =
		xasprintf("ct%st%%d", n->roots.tag); /* the kernel numbers them */
	CLEANUP_CLOSE int tap = -1;
	struct json_object *o;
	struct error *e = NULL;
	struct in_addr addr;
	const char *id;
	int mtu = (int)json_int(params, "mtu", NETWORK_MTU);

	if (json_need_str(params, "id", &id, &e) < 0)
		goto fail;
	if (mtu < 1280 || mtu > 65535) {
		error_set(&e, ERR_INVALID_ARGUMENT, "mtu %d is not within 1280 and 65535", mtu);
		goto fail;
	}
	if (json_get(params, "mac")) {
		error_set(&e, ERR_UNSUPPORTED, "a chosen MAC address is not supported yet");
		goto fail;
	}
	if (network_up(n, &e) < 0 || ipam_allocate(n->ipam, id, &addr, &e) < 0)
		goto fail;
	tap = net_tap_open(tap_name, n->bridge, mtu, &e);
	if (tap < 0) {
		ipam_release(n->ipam, id, NULL);
		goto fail;
	}
	o = attachment(n, id, json_str(params, "hostname", id), addr, mtu);
	log_info("%s has %s", id, json_str(o, "ipv4Address", ""));
	rpc_reply_fds(req, o, &tap, 1);
	return;
fail:
	log_err(e, "allocate");
	rpc_reply_error(req, e);
}

static void answer(struct rpc_req *req, int r, struct error *e)
{
	if (r < 0)
		rpc_reply_error(req, e);
	else
		rpc_reply(req, NULL);
}

static void on_release(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct network *n = ctx;
	struct error *e = NULL;
	const char *id;
	int r = json_need_str(params, "id", &id, &e);

	answer(req, r < 0 ? r : ipam_release(n->ipam, id, &e), e);
}

static void on_reconcile(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct network *n = ctx;
	struct json_object *ids;
	struct error *e = NULL;
	int r = json_need_arr(params, "ids", &ids, &e);

	answer(req, r < 0 ? r : ipam_reconcile(n->ipam, ids, &e), e);
}

/* network.teardown: the system is stopping: the bridge and the rules go. */
static void on_teardown(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct network *n = ctx;
	struct error *e = NULL;
	int r = net_nat_delete(n->table, &e);

	answer(req, r < 0 ? r : net_link_delete(n->bridge, &e), e);
}

static void on_status(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct network *n = ctx;
	struct json_object *o = json_object_new_object();
	char net[INET_ADDRSTRLEN], gw[INET_ADDRSTRLEN];
	CLEANUP_FREE char *cidr = NULL;

	inet_ntop(AF_INET, &n->subnet, net, sizeof(net));
	inet_ntop(AF_INET, &n->gateway, gw, sizeof(gw));
	cidr = xasprintf("%s/%d", net, n->prefix);
	json_set_str(o, "network", n->name);
	json_set_str(o, "ipv4Subnet", cidr);
	json_set_str(o, "ipv4Gateway", gw);
	json_set_str(o, "bridge", n->bridge);
	rpc_reply(req, o);
}

static const struct rpc_route routes[] = {
	{"network.allocate", on_allocate},   {"network.release", on_release},
	{"network.reconcile", on_reconcile}, {"network.teardown", on_teardown},
	{"network.status", on_status},       {NULL, NULL},
};

static const struct rpc_handler handler = {.service = "container.network", .routes = routes};

static void on_signal(void *arg, int signo)
{
	loop_stop(((struct network *)arg)->loop);
}

static int network_open(struct network *n, const char *subnet, struct error **err)
{
	CLEANUP_FREE char *dir = NULL, *label = xasprintf("container.network.%s", n->name);

	if (roots_init(&n->roots, NULL, NULL, NULL, NULL, err) < 0 ||
	    log_init_service(n->roots.log, label, LOG_LVL_INFO, err) < 0 ||
	    parse_cidr(subnet, &n->subnet, &n->prefix, err) < 0)
		return -1;
	n->subnet.s_addr &= htonl(n->prefix ? ~0u << (32 - n->prefix) : 0);
	n->gateway.s_addr = htonl(ntohl(n->subnet.s_addr) + 1);
	snprintf(n->bridge, sizeof(n->bridge), "ct%s-0", n->roots.tag);
	snprintf(n->table, sizeof(n->table), "container_%s_%s", n->roots.tag, n->name);
	dir = xasprintf("%s/networks/%s", n->roots.app, n->name);
	if (path_mkdirs(dir, 0700, err) < 0)
		return -1;
	n->dirfd = path_open_dir(dir, err);
	n->ipam = n->dirfd < 0 ? NULL : ipam_open(n->dirfd, n->subnet, n->prefix, err);
	n->loop = n->ipam ? loop_new(err) : NULL;
	if (!n->loop || !loop_add_signal(n->loop, SIGTERM, on_signal, n, err))
		return -1;
	n->server = rpc_server_new(n->loop, NETWORK_LISTEN_FD, &handler, n, err);
	return n->server ? 0 : -1;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: container-network-vmnet start --name NAME [--subnet CIDR]\n"
		"       (started by the apiserver, with a listening socket at descriptor 3)\n");
	return 64;
}

int network_main(int argc, char **argv)
{
	struct network n = {.dirfd = -1, .name = "default"};
	const char *subnet = "192.168.64.0/24";
	CLEANUP_ERROR struct error *e = NULL;

	if (argc < 2 || strcmp(argv[1], "start"))
		return usage();
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "--name") && i + 1 < argc)
			n.name = argv[++i];
		else if (!strcmp(argv[i], "--subnet") && i + 1 < argc)
			subnet = argv[++i];
		else if (strcmp(argv[i], "--debug"))
			return usage();
	}
	if (strchr(n.name, '/') || n.name[0] == '.' || strlen(n.name) > 40)
		return usage();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (network_open(&n, subnet, &e) < 0 || loop_run(n.loop, &e) < 0) {
		CLEANUP_FREE char *text = error_text(e);

		log_err(e, "network %s", n.name);
		fprintf(stderr, "container-network-vmnet: %s\n", text);
		return 1;
	}
	rpc_server_free(n.server);
	ipam_free(n.ipam);
	return 0;
}
