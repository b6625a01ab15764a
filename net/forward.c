/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward.c - what comes to a published port of the host goes to the guest's; the TCP half.
 *
 * DOC: Theory of operation
 * A connection is accepted first and then made to the guest: whether anybody listens there is not known before. When
 * nobody does, or does not answer in time, the client's is reset. From then on each of the two sides is read from when
 * the other has room, and an end is passed on as an end (shutdown), so either direction may end first; what ends with an
 * error ends the other side with one.
 *
 * Bytes go through one buffer for all. What the other side does not take at once is kept, for that connection, and its
 * source is not read until that is gone: so an idle connection costs no memory and a stalled one what one read brought.
 * Reads become small when much is being held, so that no number of clients that do not read takes much. Moving pages
 * through pipes (splice) was measured beside it: no faster, and six descriptors to a connection instead of two.
 */
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "core/filter.h"
#include "core/str.h"
#include "net/forward_int.h"

#define ACCEPT_TURN 64         /* connections taken before others have their turn */
#define PUMP_TURN   4          /* reads, likewise */
#define CHUNK_SMALL (4u << 10) /* of one read when much is being held */
#define RESUME_MS   100        /* after descriptors or memory ran out */

FILTER_RULES = {
	FILTER_ALLOW(FILTER_FORWARD, accept4),
	FILTER_ALLOW_ARG(FILTER_FORWARD, socket, 0, ~0u, AF_INET),
	FILTER_ALLOW(FILTER_FORWARD, connect),
	FILTER_ALLOW(FILTER_FORWARD, recvfrom),
	FILTER_ALLOW(FILTER_FORWARD, sendto),
	FILTER_ALLOW(FILTER_FORWARD, shutdown),
	FILTER_ALLOW(FILTER_FORWARD, close),
	FILTER_ALLOW_ARG(FILTER_FORWARD, getsockopt, 2, ~0u, SO_ERROR),
	FILTER_ALLOW_ARG(FILTER_FORWARD, setsockopt, 2, ~0u, TCP_NODELAY),
	FILTER_ALLOW_ARG(FILTER_FORWARD, setsockopt, 2, ~0u, SO_LINGER),
};

/* One end of a connection: a socket, and what came from it and is still to go to the other. */
struct side {
	struct conn *c;
	int fd;
	struct loop_source *src;
	uint32_t watched;
	bool ended; /* there is no more to come from it */
	bool told;  /* that there is no more to come for it */
	char *held;
	size_t at, len;
};

struct conn {
	struct net_forward *f;
	struct side client, guest;
	bool connected;
	struct loop_source *timer;
	struct conn *next, **pprev;
};

struct sockaddr_in forward_guest(const struct net_forward *f, uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr = f->cfg.guest};
}

/* ---- accepting, and not ---- */

static void pause_accept(struct net_forward *f, bool pause)
{
	struct listener *ln;

	if (f->paused == pause)
		return;
	f->paused = pause;
	for (ln = f->listeners; ln; ln = ln->next)
		if (!ln->udp)
			loop_mod_fd(ln->src, pause ? 0 : EPOLLIN);
}

static void resume_accept(void *arg)
{
	struct net_forward *f = arg;

	if (f->nconns < f->cfg.max_conns)
		pause_accept(f, false);
}

/* ---- one connection ---- */

static void side_close(struct side *s, bool reset)
{
	struct linger now = {.l_onoff = 1};

	loop_source_free(s->src);
	if (s->fd >= 0) {
		if (reset)
			(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(s->fd);
	}
	s->c->f->held -= s->len - s->at;
	free_shared(s->held);
}

static void conn_free(struct conn *c, bool reset)
{
	struct net_forward *f = c->f;

	loop_source_free(c->timer);
	side_close(&c->client, reset);
	side_close(&c->guest, reset);
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	free_shared(c);
	f->nconns--;
	resume_accept(f);
}

/* What `from` was read of goes on to `to`; -1: the connection is broken. */
static int pass_held(struct net_forward *f, struct side *from, struct side *to)
{
	ssize_t n;

	while (from->at < from->len) {
		n = send(to->fd, from->held + from->at, from->len - from->at, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN ? 0 : errno == EINTR ? 0 : -1;
		from->at += (size_t)n;
		f->held -= (size_t)n;
	}
	free(STEAL(from->held));
	from->at = from->len = 0;
	return 0;
}

/* Sends n bytes of the shared buffer; what there is no room for is kept. */
static int pass_on(struct net_forward *f, struct side *from, struct side *to, size_t n)
{
	ssize_t sent = send(to->fd, f->buf, n, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return -1;
	sent = MAX(sent, 0);
	if ((size_t)sent == n)
		return 0;
	from->len = n - (size_t)sent;
	from->at = 0;
	from->held = xmemdup(f->buf + sent, from->len);
	f->held += from->len;
	return 0;
}

static int pump(struct net_forward *f, struct side *from, struct side *to)
{
	size_t chunk = f->held > f->cfg.held_many ? CHUNK_SMALL : FORWARD_CHUNK;
	ssize_t n;
	int turn;

	if (from->len && pass_held(f, from, to) < 0)
		return -1;
	for (turn = 0; turn < PUMP_TURN && !from->len && !from->ended; turn++) {
		n = recv(from->fd, f->buf, chunk, 0);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		if (!n)
			from->ended = true;
		else if (pass_on(f, from, to, (size_t)n) < 0)
			return -1;
		if ((size_t)n < chunk / 2)
			break;
	}
	if (from->ended && !from->len && !to->told) {
		to->told = true;
		/* One that was reset meanwhile has nobody to tell. */
		if (shutdown(to->fd, SHUT_WR) && errno != ENOTCONN)
			return -1;
	}
	return 0;
}

static void on_side(void *arg, int fd, uint32_t events);

/* -1: no memory for it. */
static int watch(struct side *s, const struct side *other)
{
	uint32_t events = (s->ended || s->len ? 0 : EPOLLIN) | (other->len ? EPOLLOUT : 0);

	if (events == s->watched)
		return 0;
	s->watched = events;
	/* Shut down by both it would wake us all the time while it waits for the other side. */
	if (!events && s->told) {
		loop_source_free(STEAL(s->src));
		return 0;
	}
	if (s->src)
		return loop_mod_fd(s->src, events);
	s->src = loop_add_fd(s->c->f->l, s->fd, events, on_side, s, NULL);
	return s->src ? 0 : -1;
}

static void conn_go(struct conn *c)
{
	if (pump(c->f, &c->client, &c->guest) < 0 || pump(c->f, &c->guest, &c->client) < 0)
		conn_free(c, true);
	else if (c->client.told && c->guest.told)
		conn_free(c, false);
	else if (watch(&c->client, &c->guest) < 0 || watch(&c->guest, &c->client) < 0)
		conn_free(c, true);
}

/* The answer to our connecting. */
static void guest_answered(struct conn *c)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(c->guest.fd, SOL_SOCKET, SO_ERROR, &error, &len) || error) {
		conn_free(c, true);
		return;
	}
	c->connected = true;
	loop_source_free(STEAL(c->timer));
	conn_go(c);
}

static void on_side(void *arg, int fd, uint32_t events)
{
	struct side *s = arg;
	struct conn *c = s->c;

	if (!c->connected && s == &c->guest)
		guest_answered(c);
	else if (events & EPOLLERR || !c->connected)
		conn_free(c,
			  true); /* before the guest answered nothing else is watched of a client */
	else
		conn_go(c);
}

static void on_late(void *arg)
{
	conn_free(arg, true);
}

static void side_init(struct side *s, struct conn *c, int fd)
{
	*s = (struct side){.c = c, .fd = fd};
}

/* 0, or -1 with errno when sockets or memory ran out; fd is taken either way. */
static int conn_new(struct listener *ln, int fd)
{
	struct net_forward *f = ln->f;
	struct sockaddr_in to = forward_guest(f, ln->port);
	struct conn *c = xcalloc(1, sizeof(*c));
	int one = 1;

	c->f = f;
	c->next = f->conns;
	c->pprev = &f->conns;
	if (c->next)
		c->next->pprev = &c->next;
	f->conns = c;
	f->nconns++;
	side_init(&c->client, c, fd);
	side_init(&c->guest, c, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (c->guest.fd < 0)
		goto fail;
	(void)setsockopt(c->guest.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->guest.fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS) {
		conn_free(c, true); /* nobody there, or no way to him */
		return 0;
	}
	c->guest.watched = EPOLLOUT;
	c->guest.src = loop_add_fd(f->l, c->guest.fd, EPOLLOUT, on_side, &c->guest, NULL);
	c->client.src = loop_add_fd(f->l, fd, 0, on_side, &c->client, NULL);
	if (!c->guest.src || !c->client.src)
		goto fail;
	c->timer = loop_add_timer(f->l, f->cfg.connect_ms, on_late, c);
	return 0;
fail:
	conn_free(c, true);
	return -1;
}

static bool is_passing(int error)
{
	return error == EINTR || error == ECONNABORTED || error == EPROTO || error == ENETDOWN ||
	       error == EHOSTDOWN || error == EHOSTUNREACH || error == ENETUNREACH ||
	       error == ENONET || error == EOPNOTSUPP;
}

static void on_connection(void *arg, int listen_fd, uint32_t events)
{
	struct listener *ln = arg;
	struct net_forward *f = ln->f;
	int turn, fd;

	for (turn = 0; turn < ACCEPT_TURN && !f->paused; turn++) {
		if (f->nconns >= f->cfg.max_conns) {
			pause_accept(f, true);
			return;
		}
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0 && is_passing(errno))
			continue;
		if (fd < 0 || conn_new(ln, fd) < 0) {
			pause_accept(f, true);
			loop_set_timer(f->resume, RESUME_MS);
			return;
		}
	}
}

/* ---- the forwarder ---- */

struct net_forward *net_forward_new(struct loop *l, const struct net_forward_cfg *cfg)
{
	struct net_forward *f = xcalloc(1, sizeof(*f));

	f->l = l;
	f->cfg = *cfg;
	f->buf = xmalloc(FORWARD_CHUNK);
	random_bytes(&f->seed, sizeof(f->seed));
	f->resume = loop_add_timer(l, -1, resume_accept, f);
	return f;
}

int net_forward_add(struct net_forward *f, int fd, bool udp, uint16_t port, struct error **err)
{
	struct listener *ln = xcalloc(1, sizeof(*ln));
	struct sockaddr_storage own = {0};
	socklen_t len = sizeof(own);

	*ln = (struct listener){.f = f, .fd = fd, .udp = udp, .port = port, .next = f->listeners};
	ln->v6 = !getsockname(fd, (struct sockaddr *)&own, &len) && own.ss_family == AF_INET6;
	f->listeners = ln;
	ln->src = loop_add_fd(f->l, fd, EPOLLIN, udp ? forward_datagrams : on_connection, ln, err);
	return ln->src ? 0 : -1;
}

void net_forward_count(const struct net_forward *f, unsigned *conns, unsigned *peers)
{
	*conns = f->nconns;
	*peers = f->npeers;
}

size_t net_forward_held(const struct net_forward *f)
{
	return f->held;
}

void net_forward_free(struct net_forward *f)
{
	struct listener *ln;

	f->paused = true;
	f->cfg.max_conns = 0; /* nothing is resumed */
	while (f->conns)
		conn_free(f->conns, true);
	forward_peers_free(f);
	while ((ln = f->listeners)) {
		f->listeners = ln->next;
		loop_source_free(ln->src);
		close(ln->fd);
		free_shared(ln);
	}
	loop_source_free(f->resume);
	free(f->buf);
	free(f);
}
