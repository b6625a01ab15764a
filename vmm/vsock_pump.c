/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_pump.c - a stream as a socket: bytes both ways between a vsock stream and a Unix socket, which may be one end of a socketpair.
 *
 * Nothing is buffered here but the last piece read from the socket that the stream had no room for; while it waits the socket is
 * not read. Half-close goes through both ways. When the other end is closed whole, the stream is finished: what was
 * read from it still goes to the guest, what the guest sends is dropped.
 */
#include <sys/socket.h>

#include "core/filter.h"
#include "core/path.h"
#include "vmm/vsock_impl.h"

#define PIECE 65536

FILTER_RULES = {
	FILTER_ALLOW_ARG(FILTER_MAIN, socketpair, 0, ~0u, AF_UNIX),
	FILTER_ALLOW(FILTER_MAIN, read),
	FILTER_ALLOW(FILTER_MAIN, sendto),
	FILTER_ALLOW(FILTER_MAIN, recvfrom),
	FILTER_ALLOW(FILTER_MAIN, shutdown),
	FILTER_ALLOW(FILTER_MAIN, close),
};

struct pump {
	struct vsock_stream *s;
	int fd;
	struct loop_source *src;
	uint32_t events;
	bool fd_gone; /* nobody at the other end */
	bool read_done;
	void (*over)(void *arg); /* NULL: nobody asks */
	void *arg;
	size_t off, len; /* of piece: what waits for room in the stream */
	uint8_t piece[PIECE];
};

static void watch(struct pump *p, uint32_t set, uint32_t clear)
{
	uint32_t want = (p->events & ~clear) | set;

	if (p->src && want != p->events && !loop_mod_fd(p->src, want))
		p->events = want;
}

/* false: the stream has no room. */
static bool push_piece(struct pump *p)
{
	size_t n = p->len ? vsock_stream_write(p->s, p->piece + p->off, p->len) : 0;

	p->off += n;
	p->len -= n;
	return !p->len;
}

static void end_of_input(struct pump *p)
{
	if (!p->read_done || p->len)
		return;
	if (p->fd_gone)
		vsock_stream_finish(p->s);
	else
		vsock_stream_shutdown(p->s);
}

static void from_socket(struct pump *p)
{
	ssize_t n;

	if (p->read_done || !push_piece(p))
		return;
	n = RETRY_EINTR(recv(p->fd, p->piece, PIECE, MSG_DONTWAIT));
	if (n < 0 && errno == EAGAIN)
		return;
	p->off = 0;
	p->len = n > 0 ? (size_t)n : 0;
	p->read_done = n <= 0;
	if (p->read_done || !push_piece(p))
		watch(p, 0, EPOLLIN);
}

/*
 * A hang-up is reported for ever from now on. What is still in the socket is read as room comes, and what the guest sent goes nowhere: it
 * must not wait for a reader that is gone.
 */
static void hung_up(struct pump *p)
{
	struct vsock_stream *s = p->s;

	p->fd_gone = true;
	loop_source_free(STEAL(p->src));
	s->refs++;
	end_of_input(p);        /* may end p by way of pump_closed, */
	vsock_stream_resume(s); /* and so may this */
	vsock_stream_unref(s);
}

static void on_socket(void *arg, int fd, uint32_t events)
{
	struct pump *p = arg;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		from_socket(p);
	if (events & (EPOLLHUP | EPOLLERR) && (p->read_done || p->len)) {
		hung_up(p);
		return;
	}
	if (events & EPOLLOUT) {
		watch(p, 0, EPOLLOUT);
		vsock_stream_resume(p->s); /* may end p by way of pump_closed */
		return;
	}
	end_of_input(p); /* the same */
}

static size_t pump_data(void *arg, const void *data, size_t len)
{
	struct pump *p = arg;
	ssize_t n;

	if (p->fd_gone)
		return len;
	n = RETRY_EINTR(send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL));
	if (n < 0 && errno != EAGAIN)
		return len;
	if (n < 0)
		n = 0;
	if ((size_t)n < len)
		watch(p, EPOLLOUT, 0);
	return (size_t)n;
}

static void pump_eof(void *arg)
{
	struct pump *p = arg;

	(void)shutdown(p->fd, SHUT_WR);
}

static void pump_writable(void *arg)
{
	struct pump *p = arg;

	if (!push_piece(p))
		return;
	/* Without a source the rest is read here. */
	while (!p->src && !p->read_done && !p->len)
		from_socket(p);
	watch(p, p->read_done ? 0 : EPOLLIN, 0);
	end_of_input(p);
}

static void pump_closed(void *arg)
{
	struct pump *p = arg;

	loop_source_free(p->src);
	close(p->fd);
	if (p->over)
		p->over(p->arg);
	free(p);
}

static const struct vsock_stream_ops pump_ops = {
	.data = pump_data,
	.eof = pump_eof,
	.writable = pump_writable,
	.closed = pump_closed,
};

int vsock_stream_attach(struct vsock_stream *s, struct loop *l, int fd, void (*over)(void *arg),
			void *arg, struct error **err)
{
	struct pump *p = xcalloc(1, sizeof(*p));

	p->s = s;
	p->fd = fd;
	p->events = EPOLLIN;
	p->over = over;
	p->arg = arg;
	if (fd_set_nonblock(fd, true) < 0)
		error_sys(err, errno, "socket");
	else
		p->src = loop_add_fd(l, fd, p->events, on_socket, p, err);
	if (!p->src) {
		free(p);
		return error_wrap(err, "vsock: pump");
	}
	vsock_stream_set_ops(s, &pump_ops, p);
	return 0;
}

int vsock_stream_to_fd(struct vsock_stream *s, struct loop *l, struct error **err)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return error_sys(err, errno, "vsock: socketpair");
	if (vsock_stream_attach(s, l, sv[0], NULL, NULL, err) < 0) {
		close(sv[0]);
		close(sv[1]);
		return -1;
	}
	return sv[1];
}
