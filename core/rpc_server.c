/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_server.c - accepting: who may connect, how long a hello may take, what to do without
 * descriptors. */
#include <sys/socket.h>

#include "core/filter.h"
#include "core/log.h"
#include "core/path.h"
#include "core/rpc_int.h"

#define ACCEPT_A_TURN   16
#define ACCEPT_PAUSE_MS 100

FILTER_RULES = {
	FILTER_ALLOW(FILTER_MAIN, accept4),
	FILTER_ALLOW(FILTER_MAIN, geteuid),
	FILTER_ALLOW(FILTER_MAIN, close),
	FILTER_ALLOW_ARG(FILTER_MAIN, getsockopt, 2, ~0u, SO_PEERCRED),
};

struct rpc_server {
	struct loop *l;
	int fd;
	struct loop_source *src, *pause;
	const struct rpc_handler *h;
	void *ctx;
	struct rpc_conn *conns;
};

static bool peer_allowed(int fd)
{
	struct ucred cr;
	socklen_t len = sizeof(cr);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cr, &len))
		return false;
	return cr.uid == geteuid() || cr.uid == 0;
}

static void hello_late(void *arg)
{
	struct error *e = NULL;

	error_set(&e, ERR_TIMEOUT, "no hello in time");
	conn_break(arg, e);
}

void server_conn_open(struct rpc_conn *c)
{
	if (c->h && c->h->on_open)
		c->h->on_open(c->ctx, c);
}

void server_conn_gone(struct rpc_conn *c)
{
	if (!c->server)
		return;
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	c->next = NULL;
	c->pprev = NULL;
	c->server = NULL;
}

static void server_take(struct rpc_server *s, int fd)
{
	struct rpc_conn *c;

	if (!peer_allowed(fd)) {
		log_warn("refused a connection of another user");
		close(fd);
		return;
	}
	c = rpc_conn_new(s->l, fd, s->h, s->ctx);
	c->server = s;
	c->next = s->conns;
	c->pprev = &s->conns;
	if (c->next)
		c->next->pprev = &c->next;
	s->conns = c;
	c->hello_timer = loop_add_timer(s->l, RPC_HELLO_MS, hello_late, c);
}

static void server_resume(void *arg)
{
	struct rpc_server *s = arg;

	loop_source_free(STEAL(s->pause));
	loop_mod_fd(s->src, EPOLLIN);
}

static void server_accept(void *arg, int fd, uint32_t events)
{
	struct rpc_server *s = arg;
	int i, peer;

	for (i = 0; i < ACCEPT_A_TURN; i++) {
		peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (peer >= 0) {
			server_take(s, peer);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		/* Out of descriptors or memory: those waiting stay in the backlog for a while. */
		log_warn("accept: %s", strerror(errno));
		loop_mod_fd(s->src, 0);
		if (!s->pause)
			s->pause = loop_add_timer(s->l, ACCEPT_PAUSE_MS, server_resume, s);
		return;
	}
}

struct rpc_server *rpc_server_new(struct loop *l, int listen_fd, const struct rpc_handler *h,
				  void *ctx, struct error **err)
{
	struct rpc_server *s = xcalloc(1, sizeof(*s));

	/* Whoever opened it (socket activation, a shell) may have left it blocking: accept must not wait. */
	fd_set_nonblock(listen_fd, true);
	*s = (struct rpc_server){.l = l, .fd = listen_fd, .h = h, .ctx = ctx};
	s->src = loop_add_fd(l, listen_fd, EPOLLIN, server_accept, s, err);
	if (!s->src) {
		close(listen_fd);
		free(s);
		return NULL;
	}
	return s;
}

bool rpc_server_idle(const struct rpc_server *s)
{
	struct rpc_conn *c;

	for (c = s ? s->conns : NULL; c; c = c->next)
		if (!rpc_conn_idle(c))
			return false;
	return true;
}

void rpc_server_free(struct rpc_server *s)
{
	if (!s)
		return;
	while (s->conns)
		rpc_conn_free(s->conns);
	loop_source_free(s->src);
	loop_source_free(s->pause);
	close(s->fd);
	free(s);
}
