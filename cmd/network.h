/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.h - inside the network role.
 *
 * DOC: Published ports
 * The network helper binds the sockets, because it has the right to and its error is the answer to the start; a process for each
 * container that publishes something takes them over and passes on what comes (network_forward.c), in a jail of its own. It
 * outlives this helper and the apiserver as the container does: what ends it is the end of a pipe whose other end goes with
 * the taps to the runtime helper. A container that was stopped just now may leave a forwarder that is about to end, so a
 * port that is taken is tried again for a moment (network_ports.c). passt binds its ports itself; whether it will be able
 * to is found out in the same way before, so the errors are the same.
 */
#ifndef CMD_NETWORK_H
#define CMD_NETWORK_H

#include "cmd/opt.h"
#include "core/log.h"
#include "core/roots.h"
#include "core/rpc.h"
#include "net/net.h"

/* A process that forwards a container's ports, as long as we are its parent. */
struct forwarder {
	struct network *n;
	char *id;
	struct loop_source *child;
	bool released; /* the container ended, so this will */
	struct forwarder *next;
};

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
	bool user_mode;
	struct forwarder *forwarders;
};

/* A container that waits for its place in the network. */
struct pending {
	struct network *n;
	struct rpc_req *req;
	struct json_object *answer;
	char *id;
	struct in_addr addr;
	int mtu;
	unsigned queues;
	/* user mode: its passt */
	int sock, words;
	pid_t pid;
	struct loop_source *child, *timer;
	/* published ports */
	struct net_publish *ports;
	size_t nports;
	int *socks; /* bound, one for each port; NULL: none yet */
	size_t nsocks;
	struct loop_source *again;
	uint64_t since; /* microseconds: the first try */
};

/* network.c */
/* network_go: the ports are p's, or there are none: the rest of the allocation, and the answer. Takes p. */
void network_go(struct pending *p);
/* network_failed: gives back what p got so far and answers with e (taken). Takes p. */
void network_failed(struct pending *p, struct error *e);

/* network_ports.c */
/* ports_bind: sockets for the ports of p, now or in a moment; then network_go() or network_failed(). */
void ports_bind(struct pending *p);
/* ports_close: closes those that were bound. */
void ports_close(struct pending *p);
/* ports_forward: starts p's forwarder, which takes the sockets; *life is what keeps it alive, owned by the caller. */
int ports_forward(struct pending *p, int *life, struct error **err);
/* ports_released: the container with that id ended. */
void ports_released(struct network *n, const char *id);

/* network_forward.c */
/* network_forward: the role with --forward: descriptor 3 is the pipe whose end ends us, from 4 on there are the sockets. The exit status. */
int network_forward(const struct opt_args *a);

#endif
