/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockets.c - the guest's side of Unix sockets that cross the machine's border (vmm/agent.h).
 *
 * Relays: sockets of the host's, which the container finds at paths of its own. The agent listens, in its own small root, and the
 * container's first process mounts the socket where it belongs: what the image has there is hidden and not touched, and no other file system,
 * shared ones included, ever gets a socket. Each client is a dial of the relay's port.
 *
 * Published sockets are the container's own. For each client of the host's the agent looks the path up, with the container's root as the
 * root, connects to what it found by its descriptor, and dials the port that the host named.
 *
 * Either way two pumps (pump.c) carry the bytes, one for each direction.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "vmm/guest/guest.h"

#define DIR         "/sockets"
#define MAX_SOCKETS 64
#define MAX_CLIENTS 256 /* of all relays at once: the host takes no more */
#define BACKLOG     128

struct relay {
	struct ev ev;
	int fd;
	uint32_t port;
};

/* A connection across the border. */
struct crossing {
	struct ev ev;    /* until the host has answered */
	int host, local; /* the vsock stream, the Unix socket; the pumps' once they run */
	bool relayed;    /* counts as a relay's client */
	struct pump in;  /* from the host */
	struct pump out; /* to the host */
};

static struct relay relays[MAX_SOCKETS];
static size_t nrelays;
static unsigned nclients;
static struct json_object *published; /* paths */

/* ---- crossings ---- */

static void listen_on(bool on)
{
	for (size_t i = 0; i < nrelays; i++)
		ev_mod(&relays[i].ev, on ? EPOLLIN : 0);
}

static void crossing_free(struct crossing *c)
{
	ev_del(&c->ev);
	if (c->in.on_done)
		pump_close(&c->in);
	if (c->out.on_done)
		pump_close(&c->out);
	if (c->host >= 0)
		close(c->host);
	if (c->local >= 0)
		close(c->local);
	if (c->relayed && nclients-- == MAX_CLIENTS)
		listen_on(true);
	free(c);
}

/* Whether the host's side reads no more: it is closed altogether. */
static bool host_gone(int fd)
{
	return send(fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN;
}

static void in_done(struct pump *p)
{
	struct crossing *c = p->arg;

	/* A local socket's peer that hung up would make its partner's writes fail, not only end its reads. */
	if (c->out.done || host_gone(c->out.dst))
		crossing_free(c);
}

static void out_done(struct pump *p)
{
	struct crossing *c = p->arg;

	if (c->in.done)
		crossing_free(c);
}

static int start_pump(struct crossing *c, struct pump *p, int src, int dst,
		      void (*on_done)(struct pump *p), struct error **err)
{
	p->on_done = on_done;
	p->arg = c;
	p->dst_sock = true;
	return pump_start(p, src, dst, err);
}

static int start_pumps(struct crossing *c, struct error **err)
{
	int host = fcntl(c->host, F_DUPFD_CLOEXEC, 3), local = fcntl(c->local, F_DUPFD_CLOEXEC, 3);

	if (host < 0 || local < 0) {
		error_sys(err, errno, "descriptors");
		if (host >= 0)
			close(host);
		return -1;
	}
	c->in.src = c->in.dst = c->out.src = c->out.dst = -1;
	if (start_pump(c, &c->in, steal_fd(&c->host), local, in_done, err)) {
		close(host);
		return -1;
	}
	return start_pump(c, &c->out, steal_fd(&c->local), host, out_done, err);
}

static void host_event(struct ev *ev, uint32_t events)
{
	struct crossing *c = container_of(ev, struct crossing, ev);
	CLEANUP_ERROR struct error *e = NULL;
	socklen_t len = sizeof(int);
	int sys = 0;

	ev_del(ev);
	if (getsockopt(c->host, SOL_SOCKET, SO_ERROR, &sys, &len) || sys)
		error_sys(&e, sys ? sys : errno, "dial");
	else if (!start_pumps(c, &e))
		return;
	guest_log_err(e, "socket");
	crossing_free(c);
}

/* Takes local, also when it fails. */
static int cross(int local, uint32_t port, bool relayed, struct error **err)
{
	struct crossing *c = xcalloc(1, sizeof(*c));

	c->local = local;
	c->relayed = relayed;
	nclients += relayed;
	c->host = guest_dial(port, err);
	if (c->host < 0 || ev_add(&c->ev, c->host, EPOLLOUT, host_event, err)) {
		crossing_free(c);
		return -1;
	}
	return 0;
}

/* ---- relays ---- */

static void on_client(struct ev *ev, uint32_t events)
{
	struct relay *r = container_of(ev, struct relay, ev);
	CLEANUP_ERROR struct error *e = NULL;
	int fd = accept4(r->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (cross(fd, r->port, true, &e))
		guest_log_err(e, "socket");
	else if (nclients == MAX_CLIENTS)
		listen_on(false);
}

static int relay_listen(size_t i, mode_t mode, struct error **err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct relay *r = &relays[i];

	snprintf(sa.sun_path, sizeof(sa.sun_path), DIR "/%zu", i);
	r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->fd < 0 || bind(r->fd, (struct sockaddr *)&sa, sizeof(sa)) ||
	    chmod(sa.sun_path, mode) || listen(r->fd, BACKLOG))
		return error_sys(err, errno, "listen");
	return ev_add(&r->ev, r->fd, EPOLLIN, on_client, err);
}

int sockets_open(struct json_object *boot, struct error **err)
{
	struct json_object *list = json_arr(boot, "relays");
	size_t i, n = list ? json_object_array_length(list) : 0;

	published = json_object_get(json_arr(boot, "sockets"));
	if (n > MAX_SOCKETS)
		return error_set(err, ERR_INVALID_ARGUMENT, "too many sockets");
	if (n && mkdir(DIR, 0700))
		return error_sys(err, errno, "mkdir " DIR);
	for (i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		int64_t mode, port;

		if (json_need_int(o, "mode", 0, 0777, &mode, err) ||
		    json_need_int(o, "port", AGENT_PORT_STDIO_MIN, UINT32_MAX - 1, &port, err))
			return -1;
		relays[i].port = (uint32_t)port;
		nrelays = i + 1;
		if (relay_listen(i, (mode_t)mode, err))
			return error_wrap(err, "socket %s", json_str(o, "path", ""));
	}
	return 0;
}

int sockets_mount(int rootfd, struct json_object *boot, struct error **err)
{
	struct json_object *list = json_arr(boot, "relays");

	for (size_t i = 0; i < nrelays; i++) {
		CLEANUP_FREE char *from = xasprintf(DIR "/%zu", i);
		CLEANUP_CLOSE int at = open(from, O_PATH | O_NOFOLLOW | O_CLOEXEC), mfd = -1;
		const char *path;

		if (at < 0)
			return error_sys(err, errno, "open %s", from);
		if (json_need_str(json_object_array_get_idx(list, i), "path", &path, err))
			return -1;
		mfd = mnt_clone(at, false, err);
		if (mfd < 0 || mnt_attach(mfd, rootfd, path, true, err))
			return error_wrap(err, "socket %s", path);
	}
	return 0;
}

/* ---- published sockets ---- */

/* Connects to the socket at path in the container's root. -1 with *err; errno EAGAIN in it when its backlog is full. */
static int connect_inside(const char *path, struct error **err)
{
	CLEANUP_FREE char *top = xasprintf("/proc/%d/root", (int)proc_init_pid());
	CLEANUP_CLOSE int root = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC), at = -1, fd = -1;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (root < 0)
		return error_sys(err, errno, "the container's root");
	at = path_open_inroot(root, path, O_PATH, 0, err);
	if (at < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_sys(err, errno, "socket");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d", at);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return error_sys(err, errno, "connect to %s", path);
	return steal_fd(&fd);
}

int sockets_connect(struct json_object *params, struct json_object **result, struct error **err)
{
	size_t n = published ? json_object_array_length(published) : 0;
	struct error *e = NULL;
	int64_t i, port;
	int fd;

	if (json_need_int(params, "socket", 0, (int64_t)n - 1, &i, err) ||
	    json_need_int(params, "port", AGENT_PORT_STDIO_MIN, UINT32_MAX - 1, &port, err))
		return -1;
	if (!proc_running())
		return error_set(err, ERR_INVALID_STATE, "the container is not running");
	fd = connect_inside(json_object_get_string(json_object_array_get_idx(published, (size_t)i)),
			    &e);
	if (fd < 0 && e->sys != EAGAIN)
		return error_move(err, e);
	if (fd < 0) {
		error_free(e);
		*result = json_object_new_object();
		json_set_bool(*result, "busy", true);
		return 0;
	}
	return cross(fd, (uint32_t)port, false, err);
}
