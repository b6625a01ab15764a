/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward_udp.c - the UDP half of a forwarder.
 *
 * Each peer that sends to a published port gets a socket of its own to the guest, so the guest tells them apart by our
 * ports, and what it answers goes back to that peer, from the address the peer had written to. UDP has no end: a peer
 * that was silent for a while is forgotten, and when there are too many the one that was silent longest.
 */
#include <sys/socket.h>

#include "core/filter.h"
#include "core/str.h"
#include "net/forward_int.h"

#define DATAGRAM_TURN 64 /* datagrams taken before others have their turn */

FILTER_RULES = {
	FILTER_ALLOW_ARG(FILTER_FORWARD, socket, 0, ~0u, AF_INET),
	FILTER_ALLOW(FILTER_FORWARD, connect),
	FILTER_ALLOW(FILTER_FORWARD, recvmsg),
	FILTER_ALLOW(FILTER_FORWARD, sendmsg),
	FILTER_ALLOW(FILTER_FORWARD, recvfrom),
	FILTER_ALLOW(FILTER_FORWARD, sendto),
	FILTER_ALLOW(FILTER_FORWARD, close),
};

/* Who sent, and what he sent to; compared as bytes, so there is no gap between its members. */
struct key {
	struct listener *ln;
	uint8_t from[16], to[16];
	uint32_t scope; /* IPv6: of from */
	uint32_t link;  /* IPv6: the interface it came by */
	uint64_t port;  /* of from, in network order */
};

struct peer {
	struct net_forward *f;
	struct key key;
	int fd; /* connected to the guest's port */
	struct loop_source *src;
	uint64_t used;              /* microseconds */
	struct peer *same;          /* the next in its bucket */
	struct peer *newer, *older; /* in order of use */
};

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

/* ---- finding, forgetting ---- */

static struct peer **bucket_of(struct net_forward *f, const struct key *k)
{
	const uint8_t *b = (const uint8_t *)k;
	uint32_t h = f->seed ^ 2166136261u;

	for (size_t i = 0; i < sizeof(*k); i++)
		h = (h ^ b[i]) * 16777619u;
	return &f->bucket[(h ^ h >> 16) % FORWARD_BUCKETS];
}

static void order_out(struct net_forward *f, struct peer *p)
{
	*(p->newer ? &p->newer->older : &f->newest) = p->older;
	*(p->older ? &p->older->newer : &f->oldest) = p->newer;
}

static void order_in(struct net_forward *f, struct peer *p)
{
	p->used = time_mono_us();
	p->newer = NULL;
	p->older = f->newest;
	*(p->older ? &p->older->newer : &f->oldest) = p;
	f->newest = p;
}

static void peer_used(struct peer *p)
{
	order_out(p->f, p);
	order_in(p->f, p);
}

static void peer_free(struct peer *p)
{
	struct net_forward *f = p->f;
	struct peer **at = bucket_of(f, &p->key);

	while (*at != p)
		at = &(*at)->same;
	*at = p->same;
	order_out(f, p);
	loop_source_free(p->src);
	if (p->fd >= 0)
		close(p->fd);
	f->npeers--;
	free_shared(p);
}

void forward_peers_free(struct net_forward *f)
{
	while (f->oldest)
		peer_free(f->oldest);
	loop_source_free(STEAL(f->sweep));
}

static void on_sweep(void *arg)
{
	struct net_forward *f = arg;
	uint64_t idle = (uint64_t)f->cfg.idle_ms * 1000, now = time_mono_us();

	while (f->oldest && now - f->oldest->used >= idle)
		peer_free(f->oldest);
	loop_set_timer(f->sweep,
		       f->oldest ? (int64_t)((idle - (now - f->oldest->used)) / 1000) + 1 : -1);
}

/* ---- back from the guest ---- */

static void set_source(struct msghdr *m, const struct key *k, bool v6)
{
	struct cmsghdr *c = m->msg_control;
	struct in6_pktinfo six = {.ipi6_ifindex = k->link};
	struct in_pktinfo four = {0};

	memcpy(&six.ipi6_addr, k->to, sizeof(six.ipi6_addr));
	memcpy(&four.ipi_spec_dst, k->to, sizeof(four.ipi_spec_dst));
	c->cmsg_level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
	c->cmsg_type = v6 ? IPV6_PKTINFO : IP_PKTINFO;
	c->cmsg_len = v6 ? CMSG_LEN(sizeof(six)) : CMSG_LEN(sizeof(four));
	memcpy(CMSG_DATA(c), v6 ? (void *)&six : (void *)&four, v6 ? sizeof(six) : sizeof(four));
	m->msg_controllen = v6 ? CMSG_SPACE(sizeof(six)) : CMSG_SPACE(sizeof(four));
}

static void answer(struct peer *p, size_t n)
{
	const struct key *k = &p->key;
	bool v6 = k->ln->v6;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6,
				   .sin6_port = k->port,
				   .sin6_scope_id = k->scope};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = (in_port_t)k->port};
	struct iovec iov = {p->f->buf, n};
	union control control = {0};
	struct msghdr m = {.msg_name = v6 ? (void *)&six : (void *)&four,
			   .msg_namelen = v6 ? sizeof(six) : sizeof(four),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control};

	memcpy(&six.sin6_addr, k->from, sizeof(six.sin6_addr));
	memcpy(&four.sin_addr, k->from, sizeof(four.sin_addr));
	set_source(&m, k, v6);
	/* What there is no room for is lost, as on any wire. */
	(void)sendmsg(k->ln->fd, &m, MSG_NOSIGNAL);
}

/* Also when a datagram of ours was refused: reading takes that error, and the peer stays. */
static void on_answer(void *arg, int fd, uint32_t events)
{
	struct peer *p = arg;

	for (int turn = 0; turn < DATAGRAM_TURN; turn++) {
		ssize_t n = recv(fd, p->f->buf, FORWARD_CHUNK, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			continue;
		answer(p, (size_t)n);
		peer_used(p);
	}
}

/* ---- to the guest ---- */

static struct peer *peer_new(struct net_forward *f, const struct key *k)
{
	struct sockaddr_in to = forward_guest(f, k->ln->port);
	struct peer *p, **at = bucket_of(f, k);
	CLEANUP_CLOSE int fd = -1;

	if (f->npeers >= f->cfg.max_peers)
		peer_free(f->oldest);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return NULL;
	p = xcalloc(1, sizeof(*p));
	*p = (struct peer){.f = f, .key = *k, .fd = steal_fd(&fd)};
	at = bucket_of(f, k); /* the one that was forgotten may have been in it */
	p->same = *at;
	*at = p;
	order_in(f, p);
	f->npeers++;
	p->src = loop_add_fd(f->l, p->fd, EPOLLIN, on_answer, p, NULL);
	if (!p->src) {
		peer_free(p);
		return NULL;
	}
	if (!f->sweep)
		f->sweep = loop_add_timer(f->l, -1, on_sweep, f);
	if (f->npeers == 1)
		loop_set_timer(f->sweep, f->cfg.idle_ms);
	return p;
}

static struct peer *peer_find(struct net_forward *f, const struct key *k)
{
	struct peer *p;

	for (p = *bucket_of(f, k); p; p = p->same)
		if (!memcmp(&p->key, k, sizeof(*k)))
			return p;
	return peer_new(f, k);
}

/* False when the kernel does not say where it came to. */
static bool read_key(struct key *k, const struct sockaddr_in6 *name, struct msghdr *m)
{
	const struct sockaddr_in *four = (const struct sockaddr_in *)name;
	struct cmsghdr *c;

	k->port = k->ln->v6 ? name->sin6_port : four->sin_port;
	if (k->ln->v6) {
		memcpy(k->from, &name->sin6_addr, 16);
		k->scope = name->sin6_scope_id;
	} else {
		memcpy(k->from, &four->sin_addr, 4);
	}
	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct in6_pktinfo six;
		struct in_pktinfo inet;

		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&six, CMSG_DATA(c), sizeof(six));
			memcpy(k->to, &six.ipi6_addr, 16);
			k->link = k->scope ? six.ipi6_ifindex : 0;
			return true;
		}
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&inet, CMSG_DATA(c), sizeof(inet));
			memcpy(k->to, &inet.ipi_spec_dst, 4);
			return true;
		}
	}
	return false;
}

void forward_datagrams(void *arg, int fd, uint32_t events)
{
	struct listener *ln = arg;
	struct net_forward *f = ln->f;

	for (int turn = 0; turn < DATAGRAM_TURN; turn++) {
		struct sockaddr_in6 name = {0}; /* room for either family's */
		union control control = {0};
		struct iovec iov = {f->buf, FORWARD_CHUNK};
		struct msghdr m = {.msg_name = &name,
				   .msg_namelen = sizeof(name),
				   .msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = &control,
				   .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(fd, &m, 0);
		struct key k;
		struct peer *p;

		if (n < 0 && errno == EAGAIN)
			return;
		memset(&k, 0, sizeof(k));
		k.ln = ln;
		if (n < 0 || !read_key(&k, &name, &m))
			continue;
		p = peer_find(f, &k);
		if (!p)
			continue;
		peer_used(p);
		(void)send(p->fd, f->buf, (size_t)n, MSG_NOSIGNAL);
	}
}
