/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network_forward.c - the process that forwards one container's published ports (net/forward.c).
 *
 * Anybody may connect to it and the guest is hostile, so it has nothing but its sockets: no file, no right, a user id of its
 * own, few system calls. The network is the host's: from there it reaches the guest. It ends when the machine does.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "cmd/network.h"
#include "cmd/roles.h"
#include "core/filter.h"
#include "core/str.h"
#include "vmm/jail.h"

#define LIFE_FD   3
#define FIRST_FD  4
#define OTHER_FDS 32 /* standard streams, the loop's */

/* "udp/53-60": a port for each descriptor from *fd on; with f NULL they are only counted. */
static int add_ports(struct net_forward *f, const char *word, int *fd, unsigned *udps,
		     struct error **err)
{
	bool udp = str_prefix(word, "udp/");
	unsigned from, to;
	char end;

	if ((!udp && !str_prefix(word, "tcp/")) ||
	    sscanf(word + 4, "%5u-%5u%c", &from, &to, &end) != 2 || from < 1 || to > 65535)
		return error_set(err, ERR_INVALID_ARGUMENT, "'%s' is no range of ports", word);
	for (; from <= to; from++, (*fd)++) {
		*udps += udp;
		if (f && net_forward_add(f, *fd, udp, (uint16_t)from, err) < 0)
			return -1;
	}
	return 0;
}

static int add_all(struct net_forward *f, const struct opt_args *a, int *fd, unsigned *udps,
		   struct error **err)
{
	size_t n;
	CLEANUP_FREE const char **v = opt_list(a, "port", &n);

	*fd = FIRST_FD;
	*udps = 0;
	for (size_t i = 0; i < n; i++)
		if (add_ports(f, v[i], fd, udps, err) < 0)
			return -1;
	return 0;
}

static int limit(int what, rlim_t max, struct error **err)
{
	struct rlimit r = {max, max};

	return setrlimit(what, &r) ? error_sys(err, errno, "limit %d", what) : 0;
}

static int confine(rlim_t files, struct error **err)
{
	struct roots roots;

	if (roots_init(&roots, NULL, NULL, NULL, NULL, err) < 0 || limit(RLIMIT_CORE, 0, err) < 0 ||
	    limit(RLIMIT_FSIZE, 0, err) < 0 || limit(RLIMIT_NOFILE, files, err) < 0)
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return error_sys(err, errno, "no_new_privs");
	return jail_enter(jail_uid(), roots.run, err) < 0 ? -1 : 0;
}

static int confine_calls(struct error **err)
{
	struct filter f;

	if (SANITIZED)
		return 0;
	if (filter_build(FILTER_FORWARD, &f, err) < 0)
		return -1;
	/* A kernel without filters is no reason not to forward; the jail is there. */
	if (filter_install(&f) && errno != ENOSYS && errno != EINVAL)
		return error_sys(err, errno, "system call filter");
	filter_free(&f);
	return 0;
}

static void on_life(void *arg, int fd, uint32_t events)
{
	loop_stop(arg);
}

static int forward(const struct opt_args *a, struct net_forward_cfg *cfg, struct error **err)
{
	struct loop *l = loop_new(err);
	struct net_forward *f;
	unsigned udps;
	int fds;

	if (!l || add_all(NULL, a, &fds, &udps, err) < 0)
		return -1;
	cfg->max_peers = MIN(MAX(udps, 1) * NET_FORWARD_PEERS, NET_FORWARD_PEERS_MAX);
	prctl(PR_SET_NAME, "forward", 0, 0, 0);
	if (confine((rlim_t)fds + 2 * cfg->max_conns + (udps ? cfg->max_peers : 0) + OTHER_FDS,
		    err) < 0)
		return -1;
	f = net_forward_new(l, cfg);
	if (add_all(f, a, &fds, &udps, err) < 0 ||
	    !loop_add_fd(l, LIFE_FD, EPOLLIN, on_life, l, err) || confine_calls(err) < 0)
		return -1;
	return loop_run(l, err);
}

int network_forward(const struct opt_args *a)
{
	struct net_forward_cfg cfg = {
		.max_conns = NET_FORWARD_CONNS,
		.held_many = NET_FORWARD_HELD,
		.connect_ms = NET_FORWARD_CONNECT_MS,
		.idle_ms = NET_FORWARD_IDLE_MS,
	};
	CLEANUP_ERROR struct error *e = NULL;

	if (inet_pton(AF_INET, opt_str(a, "forward", ""), &cfg.guest) != 1)
		return role_usage(&role_network, "'--forward' is no address of a guest");
	if (!forward(a, &cfg, &e))
		return 0;
	{
		CLEANUP_FREE char *text = error_text(e);

		fprintf(stderr, "container-network-vmnet: forward: %s\n", text);
	}
	return 1;
}
