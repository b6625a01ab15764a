/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_sockets.c - Unix sockets across the machine's border, either way; each connection is a vsock stream of its own.
 *
 * Published: a socket of the container's at a path of the host. The apiserver listens there and hands us the socket (runtime.publish)
 * before the start. For each client the guest is asked to connect to the container's socket (socket.connect) and dials a port
 * that is this client's alone. When it has, stream and client are one (vsock_stream_attach()).
 *
 * Relayed: a socket of the host's at a path of the container. The guest listens there and dials the relay's port for each client. No path of
 * the host can be reached from the jail, so whoever watches is told (event "dial"): the apiserver connects to what the configuration says and
 * hands the connection in by runtime.dialed. What the guest sends meanwhile stays in its stream. Dials that are not answered yet are told
 * again to an apiserver that comes later.
 *
 * Nothing that the guest says is a path: it has ports, the host has numbers. Each direction has at most MAX_LINKS connections: clients of the
 * host wait in the backlog then, the guest is refused.
 */
#include "cmd/runtime.h"

#include <sys/socket.h>

#include "core/filter.h"
#include "core/path.h"

#define MAX_LINKS    256
#define MAX_RELAYS   64
#define DIAL_MS      60000 /* for an apiserver to hand in what was dialled: it may be starting */
#define CONNECT_MS   90000 /* for the guest to dial what it was asked for */
#define BUSY_MS      10000 /* for a listener in the container that takes nobody */
#define BUSY_STEP_MS 20
#define ACCEPT_MS \
	100 /* until those in the backlog are looked at again, without descriptors or memory */

FILTER_RULES = {
	FILTER_ALLOW(FILTER_MAIN, accept4),
	FILTER_ALLOW(FILTER_MAIN, shutdown),
	FILTER_ALLOW(FILTER_MAIN, close),
};

struct published {
	struct runtime *rt;
	int fd;
	size_t index;            /* in the configuration */
	struct loop_source *src; /* NULL before the container runs */
};

struct relay {
	int64_t mount; /* in the configuration's mounts; SOCKETS_SSH */
	uint32_t port;
};

/* One connection across the border. */
struct link {
	struct link *next, **pprev;
	struct runtime *rt;
	bool inward;  /* into the container */
	bool asked;   /* a call to the guest is under way, which names this */
	bool over;    /* and is all that keeps this */
	bool pumping; /* the rest is the pump's */
	bool eof;     /* outward: the guest said its end while it waited */
	size_t index; /* inward: of the published socket */
	uint32_t port;
	uint64_t busy_until;
	int64_t mount; /* outward: of the relay */
	uint32_t id;
	int fd;                  /* inward: the client, until the guest has dialled */
	struct vsock_stream *vs; /* outward: the guest's, until the host has connected */
	struct loop_source *timer;
};

struct sockets {
	struct published published[SOCKETS_PUBLISHED_MAX];
	size_t npublished;
	struct relay relay[MAX_RELAYS];
	size_t nrelays;
	struct link *links;
	unsigned nlinks[2]; /* outward, inward */
	uint32_t next_id;
	struct loop_source *pause;
};

static struct sockets *sockets_of(struct runtime *rt)
{
	if (!rt->sockets)
		rt->sockets = xcalloc(1, sizeof(*rt->sockets));
	return rt->sockets;
}

/* ---- links ---- */

static struct link *link_new(struct runtime *rt, bool inward)
{
	struct sockets *so = rt->sockets;
	struct link *l = xcalloc(1, sizeof(*l));

	*l = (struct link){.rt = rt, .inward = inward, .fd = -1, .next = so->links};
	l->pprev = &so->links;
	if (l->next)
		l->next->pprev = &l->next;
	so->links = l;
	so->nlinks[inward]++;
	return l;
}

static void listen_on(struct sockets *so, bool on)
{
	for (size_t i = 0; i < so->npublished; i++)
		if (so->published[i].src)
			loop_mod_fd(so->published[i].src, on ? EPOLLIN : 0);
}

static void link_end(void *arg)
{
	struct link *l = arg;
	struct sockets *so = l->rt->sockets;

	loop_source_free(STEAL(l->timer));
	if (l->fd >= 0)
		close(steal_fd(&l->fd));
	if (l->vs)
		vsock_stream_reset(STEAL(l->vs));
	*l->pprev = l->next;
	if (l->next)
		l->next->pprev = l->pprev;
	if (so->nlinks[l->inward]-- == MAX_LINKS && l->inward && !so->pause)
		listen_on(so, true);
	l->over = true;
	if (!l->asked)
		free_shared(l);
}

static void link_late(void *arg)
{
	struct link *l = arg;

	log_warn("socket: %s is not there in time", l->inward ? "the guest" : "the host's side");
	link_end(l);
}

/* ---- into the container ---- */

static void ask_guest(void *arg);

static void guest_answered(void *arg, struct json_object *result, struct rpc_fds *fds,
			   const struct error *e)
{
	struct link *l = arg;

	l->asked = false;
	if (l->over) {
		free_shared(l);
	} else if (e) {
		log_debug("socket: %s", e->msg);
		if (!l->pumping)
			link_end(l);
	} else if (json_flag(result, "busy", false) && !l->pumping) {
		loop_source_free(STEAL(l->timer));
		if (time_mono_us() < l->busy_until)
			l->timer = loop_add_timer(l->rt->loop, BUSY_STEP_MS, ask_guest, l);
		else
			link_end(l);
	}
}

static void ask_guest(void *arg)
{
	struct link *l = arg;
	struct json_object *p;

	if (!l->rt->agent) {
		link_end(l);
		return;
	}
	loop_source_free(l->timer);
	l->timer = loop_add_timer(l->rt->loop, CONNECT_MS, link_late, l);
	p = json_object_new_object();
	json_set_int(p, "socket", (int64_t)l->index);
	json_set_int(p, "port", l->port);
	l->asked = true;
	rpc_call_async(l->rt->agent, "socket.connect", p, NULL, 0, guest_answered, NULL, l);
}

static void accept_again(void *arg)
{
	struct sockets *so = arg;

	loop_source_free(STEAL(so->pause));
	listen_on(so, so->nlinks[true] < MAX_LINKS);
}

static void on_client(void *arg, int fd, uint32_t events)
{
	struct published *p = arg;
	struct sockets *so = p->rt->sockets;
	struct link *l;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (client < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (client < 0) {
		log_warn("socket: accept: %s", strerror(errno));
		listen_on(so, false);
		if (!so->pause)
			so->pause = loop_add_timer(p->rt->loop, ACCEPT_MS, accept_again, so);
		return;
	}
	l = link_new(p->rt, true);
	l->fd = client;
	l->index = p->index;
	l->port = runtime_port_new(p->rt);
	l->busy_until = time_mono_us() + BUSY_MS * 1000ull;
	if (so->nlinks[true] == MAX_LINKS)
		listen_on(so, false);
	ask_guest(l);
}

void runtime_on_publish(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct rpc_fds *fds = rpc_req_fds(req);
	struct sockets *so = sockets_of(rt);
	struct error *e = NULL;

	if (rt->state != RT_CREATED || so->npublished || fds->n > SOCKETS_PUBLISHED_MAX) {
		error_set(&e, ERR_INVALID_STATE, "container %s takes no sockets", rt->id);
		rpc_reply_error(req, e);
		return;
	}
	for (size_t i = 0; i < fds->n; i++)
		so->published[so->npublished++] =
			(struct published){.rt = rt, .fd = rpc_fds_take(fds, i), .index = i};
	rpc_reply(req, NULL);
}

void runtime_sockets_begin(struct runtime *rt)
{
	struct sockets *so = rt->sockets;
	CLEANUP_ERROR struct error *e = NULL;

	for (size_t i = 0; so && i < so->npublished && !e; i++) {
		struct published *p = &so->published[i];

		if (p->fd < 0 || fd_set_nonblock(p->fd, true) < 0)
			error_set(&e, ERR_INTERNAL, "a published socket is none");
		else
			p->src = loop_add_fd(rt->loop, p->fd, EPOLLIN, on_client, p, &e);
	}
	if (e)
		log_err(e, "sockets");
}

/* ---- out of the container ---- */

static size_t early_data(void *arg, const void *p, size_t len)
{
	return 0; /* it waits in the stream */
}

static void early_eof(void *arg)
{
	struct link *l = arg;

	l->eof = true;
}

static void early_closed(void *arg)
{
	struct link *l = arg;

	l->vs = NULL;
	link_end(l);
}

static void tell_dial(struct link *l)
{
	struct json_object *o = json_object_new_object();

	json_set_int(o, "id", l->id);
	json_set_int(o, "mount", l->mount);
	runtime_notice(l->rt, "dial", o);
}

static int relay_accept(struct runtime *rt, const struct relay *r, struct vsock_stream *vs)
{
	static const struct vsock_stream_ops ops = {
		.data = early_data,
		.eof = early_eof,
		.closed = early_closed,
	};
	struct sockets *so = rt->sockets;
	struct link *l;

	if (so->nlinks[false] == MAX_LINKS)
		return -1;
	l = link_new(rt, false);
	l->vs = vs;
	l->mount = r->mount;
	l->id = ++so->next_id;
	l->timer = loop_add_timer(rt->loop, DIAL_MS, link_late, l);
	vsock_stream_set_ops(vs, &ops, l);
	tell_dial(l);
	return 0;
}

void runtime_sockets_watched(struct runtime *rt)
{
	struct link *l;

	for (l = rt->sockets ? rt->sockets->links : NULL; l; l = l->next)
		if (!l->inward && !l->pumping)
			tell_dial(l);
}

static struct link *find_dial(struct sockets *so, int64_t id)
{
	struct link *l;

	for (l = so ? so->links : NULL; l; l = l->next)
		if (!l->inward && !l->pumping && l->id == id)
			return l;
	return NULL;
}

/* The guest's bytes that waited go on their way, which may be the end of it all. */
static void connect_link(struct link *l, int fd)
{
	struct vsock_stream *vs = l->vs;
	CLEANUP_ERROR struct error *e = NULL;

	if (vsock_stream_attach(vs, l->rt->loop, fd, link_end, l, &e) < 0) {
		log_err(e, "socket");
		close(fd);
		link_end(l);
		return;
	}
	l->vs = NULL;
	l->pumping = true;
	loop_source_free(STEAL(l->timer));
	if (l->eof)
		(void)shutdown(fd, SHUT_WR);
	vsock_stream_resume(vs);
}

void runtime_on_dialed(void *ctx, struct rpc_req *req, struct json_object *params)
{
	struct runtime *rt = ctx;
	struct link *l = find_dial(rt->sockets, json_int(params, "id", 0));
	struct error *e = NULL;
	int fd;

	if (!l) {
		error_set(&e, ERR_NOT_FOUND, "nobody waits for it any more");
		rpc_reply_error(req, e);
		return;
	}
	fd = rpc_fds_take(rpc_req_fds(req), 0);
	if (fd >= 0)
		connect_link(l, fd);
	else
		link_end(l);
	rpc_reply(req, NULL);
}

/* ---- the guest dials ---- */

bool runtime_sockets_port(const struct runtime *rt, uint32_t port)
{
	const struct sockets *so = rt->sockets;

	for (size_t i = 0; so && i < so->nrelays; i++)
		if (so->relay[i].port == port)
			return true;
	for (const struct link *l = so ? so->links : NULL; l; l = l->next)
		if (l->port == port)
			return true;
	return false;
}

int runtime_sockets_accept(struct runtime *rt, uint32_t port, struct vsock_stream *s)
{
	struct sockets *so = rt->sockets;
	CLEANUP_ERROR struct error *e = NULL;
	struct link *l;

	for (size_t i = 0; so && i < so->nrelays; i++)
		if (so->relay[i].port == port)
			return relay_accept(rt, &so->relay[i], s);
	for (l = so ? so->links : NULL; l; l = l->next)
		if (l->inward && !l->pumping && l->port == port)
			break;
	if (!l)
		return 1;
	if (vsock_stream_attach(s, rt->loop, l->fd, link_end, l, &e) < 0) {
		log_err(e, "socket");
		return -1;
	}
	l->fd = -1;
	l->pumping = true;
	loop_source_free(STEAL(l->timer));
	return 0;
}

/* ---- what the guest is to know of them ---- */

static int boot_relays(struct runtime *rt, struct json_object *in, struct json_object *out,
		       struct error **err)
{
	size_t i, n = in ? json_object_array_length(in) : 0;
	struct sockets *so = n ? sockets_of(rt) : NULL;

	if (n > MAX_RELAYS)
		return error_set(err, ERR_INVALID_ARGUMENT, "too many sockets");
	for (i = 0; i < n; i++) {
		struct json_object *from = json_object_array_get_idx(in, i),
				   *to = json_object_new_object();
		const char *path;
		int64_t mode;

		json_object_array_add(out, to);
		if (json_need_str(from, "path", &path, err) ||
		    json_need_int(from, "mode", 0, 0777, &mode, err) ||
		    json_need_int(from, "mount", SOCKETS_SSH, INT32_MAX, &so->relay[i].mount, err))
			return -1;
		so->relay[i].port = runtime_port_new(rt);
		so->nrelays++;
		json_set_str(to, "path", path);
		json_set_int(to, "mode", mode);
		json_set_int(to, "port", so->relay[i].port);
	}
	return 0;
}

int runtime_sockets_boot(struct runtime *rt, struct json_object *params, struct json_object *boot,
			 struct error **err)
{
	struct json_object *in = json_arr(rt->config, "publishedSockets"),
			   *relays = json_object_new_array(), *paths = json_object_new_array();
	size_t i, n = in ? json_object_array_length(in) : 0;

	json_set(boot, "relays", relays);
	json_set(boot, "sockets", paths);
	if (n != (rt->sockets ? rt->sockets->npublished : 0))
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "published sockets and descriptors differ in number");
	for (i = 0; i < n; i++) {
		const char *path;

		if (json_need_str(json_object_array_get_idx(in, i), "containerPath", &path, err))
			return -1;
		json_add_str(paths, path);
	}
	return boot_relays(rt, json_arr(params, "relays"), relays, err);
}

void runtime_sockets_free(struct runtime *rt)
{
	struct sockets *so;

	while (rt->sockets && rt->sockets->links)
		link_end(rt->sockets->links);
	so = STEAL(rt->sockets);
	for (size_t i = 0; so && i < so->npublished; i++) {
		loop_source_free(so->published[i].src);
		if (so->published[i].fd >= 0)
			close(so->published[i].fd);
	}
	free(so);
}
