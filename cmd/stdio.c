/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stdio.c - a pump: one buffer, two descriptors.
 *
 * A step reads when the buffer is empty and writes when it is not, until one side has to wait; then that
 * side alone is watched.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include "cmd/stdio.h"
#include "core/path.h"

static void pump_step(struct pump *p);

static void pump_ready(void *arg, int fd, uint32_t events)
{
	pump_step(arg);
}

static bool poll_now(int fd, short events)
{
	struct pollfd pf = {.fd = fd, .events = events};

	return RETRY_EINTR(poll(&pf, 1, 0)) > 0;
}

static void pump_close(struct pump *p)
{
	loop_source_free(STEAL(p->src_in));
	loop_source_free(STEAL(p->src_out));
	if (p->in >= 0 && !p->user_in)
		close(p->in);
	if (p->out >= 0 && !p->user_out)
		close(p->out);
	p->in = p->out = -1;
}

static void pump_end(struct pump *p)
{
	if (p->done)
		return;
	p->done = true;
	pump_close(p);
	if (p->on_done)
		p->on_done(p->arg, p);
}

/* 1: bytes are in the buffer, 0: has to wait, -1: the end. */
static int pump_read(struct pump *p)
{
	ssize_t n;

	if (p->user_in && !p->in_file && !poll_now(p->in, POLLIN))
		return 0;
	n = RETRY_EINTR(read(p->in, p->buf, sizeof(p->buf)));
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return -1;
	if (p->on_input && !p->on_input(p->arg, p->buf, (size_t)n))
		return -1;
	p->at = 0;
	p->len = (size_t)n;
	if (!p->total && p->on_first)
		p->on_first(p->arg);
	p->total += (uint64_t)n;
	return 1;
}

/* 1: something was written, 0: has to wait, -1: nobody reads any more. */
static int pump_write(struct pump *p)
{
	ssize_t n;

	if (p->user_out && !p->out_file && !poll_now(p->out, POLLOUT))
		return 0;
	n = RETRY_EINTR(write(p->out, p->buf + p->at, MIN(p->len, p->chunk)));
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		return -1;
	p->at += (size_t)n;
	p->len -= (size_t)n;
	if (n)
		p->last = p->buf[p->at - 1];
	return 1;
}

/* Watches the side that has to wait. A file cannot be watched and never has to wait. */
static void pump_watch(struct pump *p, bool reading)
{
	struct loop_source **want = reading ? &p->src_in : &p->src_out;
	struct loop_source **other = reading ? &p->src_out : &p->src_in;
	uint32_t events = reading ? EPOLLIN : EPOLLOUT;

	loop_source_free(STEAL(*other));
	if (!*want)
		*want = loop_add_fd(p->loop, reading ? p->in : p->out, events, pump_ready, p, NULL);
	if (!*want)
		pump_end(p);
}

static void pump_again(void *arg)
{
	struct pump *p = arg;

	if (!p->done)
		pump_step(p);
}

static void pump_step(struct pump *p)
{
	for (int turns = 0; turns < 16; turns++) {
		bool reading = !p->len;
		int rc = reading ? pump_read(p) : pump_write(p);

		if (rc < 0) {
			p->out_errno = reading ? 0 : errno;
			pump_end(p);
			return;
		}
		if (!rc) {
			pump_watch(p, reading);
			return;
		}
	}
	/* Others' turn; a file's readiness is nothing epoll could tell. */
	if ((p->len ? p->out_file : p->in_file))
		loop_post(p->loop, pump_again, p);
	else
		pump_watch(p, !p->len);
}

static bool is_file(int fd)
{
	struct stat st;

	return !fstat(fd, &st) &&
	       (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode));
}

/* /dev/null and its like are devices that epoll refuses and that never block. */
static bool is_unwatchable(struct loop *l, int fd)
{
	struct loop_source *s;

	if (is_file(fd))
		return true;
	s = loop_add_fd(l, fd, 0, pump_ready, NULL, NULL);
	loop_source_free(s);
	return !s;
}

static int pump_start(struct pump *p, struct loop *l, int in, int out)
{
	p->loop = l;
	p->in = in;
	p->out = out;
	p->chunk = p->user_out && !p->out_file ? PIPE_BUF : sizeof(p->buf);
	loop_post(l, pump_again, p);
	return 0;
}

int pump_start_input(struct pump *p, struct loop *l, int user_fd, int ours, struct error **err)
{
	p->user_in = true;
	p->in_file = is_unwatchable(l, user_fd);
	if (fd_set_nonblock(ours, true))
		return error_sys(err, errno, "standard input");
	return pump_start(p, l, user_fd, ours);
}

int pump_start_output(struct pump *p, struct loop *l, int ours, int user_fd, struct error **err)
{
	p->user_out = true;
	p->out_file = is_unwatchable(l, user_fd);
	if (fd_set_nonblock(ours, true))
		return error_sys(err, errno, "standard output");
	return pump_start(p, l, ours, user_fd);
}

void pump_stop(struct pump *p)
{
	if (!p->loop || p->done)
		return;
	p->done = true;
	pump_close(p);
}
