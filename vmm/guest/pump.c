/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pump.c - carries bytes from one descriptor to another through a bounded buffer.
 *
 * Reading stops while the buffer waits for the destination, so a reader who does not read holds back only the
 * process that writes to him. A source that is not read is taken out of epoll altogether: a hang-up is
 * reported whether asked for or not and would spin.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <termios.h>

#include "vmm/guest/guest.h"

#define PUMP_SIZE 65536
#define PUMP_EOT  2 /* room for end-of-input characters */

static void pump_run(struct pump *p);

static void src_event(struct ev *ev, uint32_t events)
{
	pump_run(container_of(ev, struct pump, src_ev));
}

static void pump_finished(struct pump *p)
{
	if (p->done)
		return;
	p->done = true;
	ev_del(&p->src_ev);
	ev_del(&p->dst_ev);
	close(p->src);
	p->src = -1;
	if (p->dst_sock) {
		shutdown(p->dst, SHUT_WR);
	} else {
		close(p->dst);
		p->dst = -1;
	}
	free(STEAL(p->buf));
	p->on_done(p);
}

static void dst_event(struct ev *ev, uint32_t events)
{
	struct pump *p = container_of(ev, struct pump, dst_ev);

	/* Nobody will ever read: the source is closed too, so that the writer learns of it. */
	if (events & (EPOLLERR | EPOLLHUP))
		pump_finished(p);
	else
		pump_run(p);
}

static void watch_src(struct pump *p, bool on)
{
	if (!on)
		ev_del(&p->src_ev);
	else if (!p->src_ev.added && ev_add(&p->src_ev, p->src, EPOLLIN, src_event, NULL))
		p->src_eof = true;
}

/*
 * A terminal has no end of file to pass on: its end-of-input character is typed, twice when a line is
 * unfinished, the first then only ending the line. It is typed in raw mode too: line editors take it for the
 * same thing.
 */
static void type_eof(struct pump *p)
{
	struct termios t;
	char eof = 4;

	if (!tcgetattr(p->dst, &t) && t.c_cc[VEOF])
		eof = (char)t.c_cc[VEOF];
	if (p->last && p->last != '\n' && p->last != '\r')
		p->buf[p->end++] = eof;
	p->buf[p->end++] = eof;
}

/* Returns whether anything was read or the source ended. */
static bool pump_fill(struct pump *p)
{
	ssize_t n;

	if (p->src_eof)
		return false;
	if (p->start == p->end)
		p->start = p->end = 0;
	if (p->end == PUMP_SIZE)
		return false;
	n = RETRY_EINTR(read(p->src, p->buf + p->end, PUMP_SIZE - p->end));
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0) {
		p->end += (size_t)n;
		p->last = p->buf[p->end - 1];
		return true;
	}
	p->src_eof = true; /* end, hang-up of a pty (EIO) or a reset */
	if (p->to_tty)
		type_eof(p);
	return true;
}

/* Returns false when the destination is gone. */
static bool pump_drain(struct pump *p)
{
	while (p->start < p->end) {
		ssize_t n = p->dst_sock ? send(p->dst, p->buf + p->start, p->end - p->start,
					       MSG_NOSIGNAL | MSG_DONTWAIT)
					: write(p->dst, p->buf + p->start, p->end - p->start);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		p->start += (size_t)n;
	}
	return true;
}

static void pump_run(struct pump *p)
{
	/* One buffer a turn: other pumps get theirs. */
	if (p->start == p->end)
		pump_fill(p);
	if (!pump_drain(p) || (p->src_eof && p->start == p->end)) {
		pump_finished(p);
		return;
	}
	watch_src(p, !p->src_eof && p->start == p->end);
	ev_mod(&p->dst_ev, p->start < p->end ? EPOLLOUT : 0);
}

int pump_start(struct pump *p, int src, int dst, struct error **err)
{
	p->src = src;
	p->dst = dst;
	p->buf = xmalloc(PUMP_SIZE + PUMP_EOT);
	if (fd_set_nonblock(src, true) || fd_set_nonblock(dst, true))
		return error_sys(err, errno, "stdio");
	if (ev_add(&p->dst_ev, dst, 0, dst_event, err))
		return -1;
	return ev_add(&p->src_ev, src, EPOLLIN, src_event, err);
}

void pump_finish(struct pump *p)
{
	if (p->done || p->src_eof)
		return;
	while (p->end < PUMP_SIZE && pump_fill(p) && !p->src_eof)
		;
	p->src_eof = true;
	pump_run(p);
}

void pump_close(struct pump *p)
{
	ev_del(&p->src_ev);
	ev_del(&p->dst_ev);
	if (p->src >= 0)
		close(p->src);
	if (p->dst >= 0)
		close(p->dst);
	free(STEAL(p->buf));
	p->src = p->dst = -1;
	p->done = true;
}
