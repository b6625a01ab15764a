/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.c - the network role: one helper per network, holding its bridge, rules and leases.
 *
 * The bridge and the rules are in the kernel and the leases in a file, so the helper may be killed
 * and started again while containers run: a tap belongs to the runtime helper that holds its
 * descriptor. Rules are put back at each allocation, because a firewall reload on the host may have
 * flushed them.
 *
 * Without the right to do that (no root, no CAP_NET_ADMIN) each container gets a passt(1) of its own instead. It then
 * reaches whatever the user could, but no other container, and nobody reaches it but through its published ports.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "cmd/network.h"
#include "cmd/roles.h"
#include "core/path.h"

#define NETWORK_LISTEN_FD 3
#define NETWORK_MTU       1500
#define NETWORK_USER_MTU  65520 /* no wire carries these packets: the larger, the fewer */
#define PASST_START_MS    10000

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
static void network_mac(const struct network *n, const char *id, uint8_t mac[6])
{
	uint64_t h = 0xcbf29ce484222325ull;
	const char *s;

	for (s = n->roots.tag; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
	for (s = id; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
	mac[0] = 0xf2;
	for (int i = 1; i < 6; i++)
		mac[i] = (uint8_t)(h >> (64 - 8 * i));
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

		if (sscanf(line, "%63s %63s", word, ip) != 2 || strcmp(word, "nameserver") ||
		    inet_pton(AF_INET, ip, &a) != 1)
			continue;
		if (n->user_mode) { /* passt asks it, and listens at the gateway's address */
			inet_ntop(AF_INET, &n->gateway, ip, sizeof(ip));
			json_add_str(out, ip);
			break;
		}
		if ((ntohl(a.s_addr) >> 24) != 127)
			json_add_str(out, ip);
	}
	return out;
}

/* -1 with user_mode set: it has the capability, but not where it counts (a user namespace, a container). */
static int network_up(struct network *n, struct error **err)
{
	if (net_bridge_ensure(n->bridge, n->gateway, n->prefix, NETWORK_MTU, err) < 0 ||
	    net_nat_ensure(n->table, n->bridge, n->subnet, n->prefix, err) < 0) {
		n->user_mode = *err && ((*err)->sys == EPERM ||
					((*err)->cause && (*err)->cause->sys == EPERM));
		return error_wrap(err, "network %s", n->name);
	}
	return 0;
}

/* What a container is told of its place in the network; params are those of network.allocate, checked. */
static struct json_object *attachment(const struct network *n, const char *id,
				      struct json_object *params, struct in_addr addr, int mtu)
{
	struct json_object *o = json_object_new_object();
	char ip[INET_ADDRSTRLEN], gw[INET_ADDRSTRLEN], mac_str[18];
	uint8_t mac[6];
	CLEANUP_FREE char *cidr = NULL;

	inet_ntop(AF_INET, &addr, ip, sizeof(ip));
	inet_ntop(AF_INET, &n->gateway, gw, sizeof(gw));
	if (mac_parse(json_str(params, "mac", ""), mac))
		network_mac(n, id, mac);
	mac_text(mac, mac_str);
	cidr = xasprintf("%s/%d", ip, n->prefix);
	json_set_str(o, "network", n->name);
	json_set_str(o, "hostname", json_str(params, "hostname", id));
	json_set_str(o, "ipv4Address", cidr);
	json_set_str(o, "ipv4Gateway", gw);
	json_set_str(o, "macAddress", mac_str);
	json_set_int(o, "mtu", mtu);
	json_set(o, "dns", network_dns(n));
	return o;
}

/* ---- one allocation ---- */

static void pending_free(struct pending *p)
{
	loop_source_free(p->child);
	loop_source_free(p->timer);
	loop_source_free(p->again);
	base_close_fd(&p->sock);
	base_close_fd(&p->words);
	ports_close(p);
	free(p->ports);
	json_object_put(p->answer);
	free(p->id);
	free(p);
}

void network_failed(struct pending *p, struct error *e)
{
	error_wrap(&e, "network %s", p->n->name);
	log_err(e, "allocate");
	ipam_release(p->n->ipam, p->id, NULL);
	rpc_reply_error(p->req, e);
	pending_free(p);
}

static void on_passt_started(void *arg, pid_t pid, int status)
{
	struct pending *p = arg;
	CLEANUP_FREE char *why = status ? net_passt_complaint(p->words) : NULL;
	struct error *e = NULL;

	p->child = NULL;
	if (why) {
		error_set(&e, ERR_INTERNAL, "passt: %s", why);
		network_failed(p, e);
		return;
	}
	log_info("%s has a passt", p->id);
	rpc_reply_fds(p->req, STEAL(p->answer), &p->sock, 1);
	pending_free(p);
}

static void on_passt_late(void *arg)
{
	struct pending *p = arg;

	kill(p->pid, SIGKILL); /* its end follows, and with it the answer */
}

static int start_passt(struct pending *p, struct error **err)
{
	struct net_passt cfg = {.addr = p->addr,
				.gateway = p->n->gateway,
				.prefix = p->n->prefix,
				.mtu = p->mtu,
				.ports = p->ports,
				.nports = p->nports};

	ports_close(p); /* they can be bound, which is for passt to do */
	if (net_passt_spawn(&cfg, &p->sock, &p->words, &p->pid, err) < 0)
		return -1;
	p->child = loop_add_child(p->n->loop, p->pid, on_passt_started, p, err);
	if (!p->child) {
		kill(p->pid, SIGKILL);
		return -1;
	}
	p->timer = loop_add_timer(p->n->loop, PASST_START_MS, on_passt_late, p);
	return 0;
}

/* The tap, and when there are ports their forwarder: its descriptor is the last of the answer's. */
static int start_tap(struct pending *p, struct error **err)
{
	struct network *n = p->n;
	CLEANUP_FREE char *name = xasprintf("ct%st%%d", n->roots.tag); /* the kernel numbers them */
	int fds[NET_TAP_QUEUES + 1], r = 0;
	unsigned nfds = p->queues;

	if (net_tap_open(name, n->bridge, p->mtu, nfds, fds, err) < 0)
		return -1;
	if (p->nports && !(r = ports_forward(p, &fds[nfds], err))) {
		json_set_int(p->answer, "keep", 1);
		nfds++;
	}
	if (!r) {
		log_info("%s has %s", p->id, json_str(p->answer, "ipv4Address", ""));
		rpc_reply_fds(p->req, STEAL(p->answer), fds, nfds);
	}
	while (nfds)
		close(fds[--nfds]);
	return r;
}

void network_go(struct pending *p)
{
	struct error *e = NULL;

	if ((p->n->user_mode ? start_passt(p, &e) : start_tap(p, &e)) < 0)
		network_failed(p, e);
	else if (!p->n->user_mode)
		pending_free(p);
}

/* ---- calls ---- */

static int allocate_check(struct json_object *params, const char **id, struct net_publish **ports,
			  size_t *nports, struct error **err)
{
	int64_t mtu = json_int(params, "mtu", NETWORK_MTU);
	int64_t queues = json_int(params, "queues", 1);
	const char *mac = json_str(params, "mac", NULL);
	uint8_t bytes[6];

	if (json_need_str(params, "id", id, err) < 0)
		return -1;
	if (mtu < 1280 || mtu > 65535)
		return error_set(err, ERR_INVALID_ARGUMENT, "mtu %lld is not within 1280 and 65535",
				 (long long)mtu);
	if (queues < 1 || queues > NET_TAP_QUEUES)
		return error_set(err, ERR_INVALID_ARGUMENT, "a tap with %lld queues",
				 (long long)queues);
	if (mac && mac_parse(mac, bytes))
		return error_set(err, ERR_INVALID_ARGUMENT, "'%.32s' is no MAC address for a card",
				 mac);
	return net_publish_read(json_get(params, "publishedPorts"), ports, nports, err);
}

/* Bridge and rules, or the knowledge that there is no right to make them. */
static int network_ready(struct network *n, const struct pending *p, struct error **err)
{
	CLEANUP_ERROR struct error *e = NULL;

	if (!n->user_mode && network_up(n, &e) < 0 && !n->user_mode)
		return error_move(err, STEAL(e));
	if (e)
		log_info("no right to make links: containers get a passt each");
	return n->user_mode ? net_passt_can(p->ports, p->nports, err) : 0;
}

static void on_allocate(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct network *n = ctx;
	struct pending *p = xcalloc(1, sizeof(*p));
	struct error *e = NULL;
	const char *id;

	*p = (struct pending){.n = n, .req = req, .sock = -1, .words = -1};
	if (allocate_check(params, &id, &p->ports, &p->nports, &e) < 0 ||
	    network_ready(n, p, &e) < 0) {
		log_err(e, "allocate");
		rpc_reply_error(req, e);
		pending_free(p);
		return;
	}
	p->id = xstrdup(id);
	p->queues = (unsigned)json_int(params, "queues", 1);
	p->mtu = (int)json_int(params, "mtu", n->user_mode ? NETWORK_USER_MTU : NETWORK_MTU);
	if (ipam_allocate(n->ipam, id, &p->addr, &e) < 0) {
		network_failed(p, e);
		return;
	}
	p->answer = attachment(n, id, params, p->addr, p->mtu);
	if (p->nports)
		ports_bind(p);
	else
		network_go(p);
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

	if (!r)
		ports_released(n, id);
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
	int r = 0;

	if (!n->user_mode)
		r = net_nat_delete(n->table, &e) < 0 ? -1 : net_link_delete(n->bridge, &e);
	answer(req, r, e);
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
	json_set_str(o, "mode", n->user_mode ? "passt" : "nat");
	if (!n->user_mode)
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

static bool may_make_links(void)
{
	cap_flag_value_t v = CAP_CLEAR;
	cap_t c = cap_get_proc();

	if (c) {
		(void)cap_get_flag(c, CAP_NET_ADMIN, CAP_EFFECTIVE, &v);
		cap_free(c);
	}
	return v == CAP_SET;
}

/* Published ports are a socket each. */
static void many_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
}

static int network_open(struct network *n, const char *subnet, bool debug, struct error **err)
{
	CLEANUP_FREE char *dir = NULL, *label = xasprintf("container.network.%s", n->name);

	if (roots_init(&n->roots, NULL, NULL, NULL, NULL, err) < 0 ||
	    log_init_service(n->roots.log, label, debug ? LOG_LVL_DEBUG : LOG_LVL_INFO, err) < 0 ||
	    parse_cidr(subnet, &n->subnet, &n->prefix, err) < 0)
		return -1;
	n->user_mode = !may_make_links();
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

int network_main(int argc, char **argv)
{
	struct network n = {.dirfd = -1};
	CLEANUP_OPTS struct opt_args a = {0};
	CLEANUP_ERROR struct error *e = NULL;
	int status;

	if (!role_parse(&role_network, argc, argv, &a, &status))
		return status;
	if (opt_has(&a, "forward"))
		return network_forward(&a);
	n.name = opt_str(&a, "name", "default");
	if (strchr(n.name, '/') || n.name[0] == '.' || strlen(n.name) > 40)
		return role_usage(&role_network, "'--name' is no name of a network");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	many_files();
	if (network_open(&n, opt_str(&a, "subnet", "192.168.64.0/24"), opt_has(&a, "debug"), &e) <
		    0 ||
	    loop_run(n.loop, &e) < 0) {
		CLEANUP_FREE char *text = error_text(e);

		log_err(e, "network %s", n.name);
		fprintf(stderr, "container-network-vmnet: %s\n", text);
		return 1;
	}
	rpc_server_free(n.server);
	ipam_free(n.ipam);
	return 0;
}
