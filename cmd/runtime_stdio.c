/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime_stdio.c - carries bytes between a client's descriptors and the guest's streams.
 *
 * Output: what the client's pipe takes is taken from the guest, nothing more: a client that does
 * not read holds back its own stream through vsock credit and nobody else. When the client is gone
 * the output is still taken, for the log and so that the process does not hang. When the process is
 * over, what waits here goes into the pipe, however slow its reader is. Input: read only
 * when the guest had room for what was read before.
 */
#include "cmd/runtime.h"

#include <fcntl.h>
#include <stdio.h>

#include "core/filter.h"
#include "core/path.h"

#define PIPE_ROOM (512 << 10) /* what a stream holds at most (256 KiB), besides a full pipe */

FILTER_RULES = {
	FILTER_ALLOW_ARG(FILTER_MAIN, fcntl, 1, ~0u, F_SETPIPE_SZ),
};

static const char *const kind_name[RT_STREAMS] = {"stdin", "stdout", "stderr"};

static void stream_detach_fd(struct rt_stream *s)
{
	loop_source_free(s->src);
	s->src = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* ---- guest to client ---- */

static void output_writable(void *arg, int fd, uint32_t events)
{
	struct rt_stream *s = arg;

	if (events & (EPOLLERR | EPOLLHUP))
		stream_detach_fd(s);
	else
		loop_mod_fd(s->src, 0);
	s->full = false;
	if (s->vs)
		vsock_stream_resume(s->vs);
}

static size_t output_data(void *arg, const void *p, size_t len)
{
	struct rt_stream *s = arg;
	size_t took = len;

	if (s->fd >= 0) {
		ssize_t w = RETRY_EINTR(write(s->fd, p, len));

		if (w < 0 && errno == EAGAIN) {
			s->full = true;
			loop_mod_fd(s->src, EPOLLOUT);
			return 0;
		}
		if (w < 0)
			stream_detach_fd(s); /* the client left; the process goes on */
		else
			took = (size_t)w;
	}
	if (s->proc->log)
		stdlog_write(&s->proc->rt->log, s->kind == RT_STDERR, p, took);
	if (s->proc->captures && s->proc->capture.len < RUNTIME_CAPTURE_MAX)
		buf_append(&s->proc->capture, p,
			   MIN(took, RUNTIME_CAPTURE_MAX - s->proc->capture.len));
	s->full = took < len && s->fd >= 0;
	if (s->full)
		loop_mod_fd(s->src, EPOLLOUT);
	return took;
}

static void output_eof(void *arg)
{
	struct rt_stream *s = arg;

	s->done = true;
	stream_detach_fd(s);
	if (s->vs)
		vsock_stream_shutdown(s->vs);
	runtime_process_settle(s->proc);
}

/* ---- client to guest ---- */

static void input_finish(struct rt_stream *s)
{
	s->done = true;
	stream_detach_fd(s);
	if (s->vs)
		vsock_stream_shutdown(s->vs);
}

/* input_flush: true when nothing waits any more. */
static bool input_flush(struct rt_stream *s)
{
	if (s->pending.len > 0 && s->vs)
		buf_consume(&s->pending,
			    vsock_stream_write(s->vs, s->pending.data, s->pending.len));
	return s->pending.len == 0;
}

/* A client that hung up makes its descriptor ready for ever: it is watched only while it may be
 * read. */
static void input_disarm(struct rt_stream *s)
{
	loop_source_free(s->src);
	s->src = NULL;
}

static void input_readable(void *arg, int fd, uint32_t events)
{
	struct rt_stream *s = arg;
	char chunk[32768];
	ssize_t n;

	n = RETRY_EINTR(read(fd, chunk, sizeof(chunk)));
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 && s->keep) {
		stream_detach_fd(s);
		return;
	}
	if (n <= 0) {
		input_finish(s);
		return;
	}
	buf_append(&s->pending, chunk, (size_t)n);
	if (!input_flush(s))
		input_disarm(s);
}

static void input_arm(struct rt_stream *s)
{
	CLEANUP_ERROR struct error *e = NULL;

	if (s->src || s->fd < 0)
		return;
	s->src = loop_add_fd(s->proc->rt->loop, s->fd, EPOLLIN, input_readable, s, &e);
	if (!s->src) {
		log_err(e, "watch stdin");
		input_finish(s);
	}
}

static void input_writable(void *arg)
{
	struct rt_stream *s = arg;

	if (input_flush(s))
		input_arm(s);
}

/* The guest's process closed its standard input: nothing can be delivered any more. */
static void input_eof(void *arg)
{
	struct rt_stream *s = arg;

	if (!s->done)
		input_finish(s);
}

static size_t input_unexpected(void *arg, const void *p, size_t len)
{
	return len; /* a guest that talks on stdin's stream talks to nobody */
}

static void stream_closed(void *arg)
{
	struct rt_stream *s = arg;

	s->vs = NULL;
	if (!s->proc->rt->agent_ready)
		return; /* the machine was reset before anything ran: it will dial again */
	s->done = true;
	stream_detach_fd(s);
	runtime_process_settle(s->proc);
}

static const struct vsock_stream_ops output_ops = {
	.data = output_data,
	.eof = output_eof,
	.closed = stream_closed,
};

static const struct vsock_stream_ops input_ops = {
	.data = input_unexpected,
	.eof = input_eof,
	.writable = input_writable,
	.closed = stream_closed,
};

int runtime_stream_accept(struct rt_stream *s, struct vsock_stream *vs, struct error **err)
{
	if (s->vs || s->done)
		return error_set(err, ERR_INVALID_STATE, "port %u dialled twice", s->port);
	s->vs = vs;
	vsock_stream_set_ops(vs, s->kind == RT_STDIN ? &input_ops : &output_ops, s);
	if (s->kind == RT_STDIN)
		input_arm(s);
	return 0;
}

/* ---- set-up and tear-down ---- */

static int stream_attach(struct rt_stream *s, int fd, struct error **err)
{
	s->fd = fd;
	if (fd_set_nonblock(fd, true) < 0)
		return error_sys(err, errno, "%s descriptor", kind_name[s->kind]);
	if (s->kind == RT_STDIN)
		return 0; /* watched once the guest can take it */
	s->src = loop_add_fd(s->proc->rt->loop, fd, 0, output_writable, s, err);
	return s->src ? 0 : error_wrap(err, "watch %s", kind_name[s->kind]);
}

static int stream_kind(const char *name)
{
	int k;

	for (k = 0; k < RT_STREAMS; k++)
		if (str_eq(name, kind_name[k]))
			return k;
	return -1;
}

int runtime_streams_open(struct rt_process *proc, struct json_object *streams, struct rpc_fds *fds,
			 size_t first, bool tty, struct error **err)
{
	size_t i, n = streams ? json_object_array_length(streams) : 0;
	int k;

	for (k = 0; k < RT_STREAMS; k++) {
		proc->stream[k].proc = proc;
		proc->stream[k].kind = k;
		proc->stream[k].fd = -1;
	}
	for (i = 0; i < n; i++) {
		int fd;

		k = stream_kind(json_object_get_string(json_object_array_get_idx(streams, i)));
		if (k < 0 || proc->stream[k].port)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "stream %zu is unknown or named twice", i);
		if (tty && k == RT_STDERR)
			return error_set(err, ERR_INVALID_ARGUMENT,
					 "a terminal has no stderr of its own");
		fd = rpc_fds_take(fds, first + i);
		if (fd < 0)
			return error_set(err, ERR_INVALID_ARGUMENT, "%s came without a descriptor",
					 kind_name[k]);
		proc->stream[k].port = runtime_port_new(proc->rt);
		if (stream_attach(&proc->stream[k], fd, err) < 0)
			return -1;
	}
	for (k = RT_STDOUT; proc->log && k <= (tty ? RT_STDOUT : RT_STDERR); k++)
		if (!proc->stream[k].port)
			proc->stream[k].port = runtime_port_new(proc->rt);
	return 0;
}

void runtime_streams_capture(struct rt_process *proc)
{
	proc->captures = true;
	for (int k = RT_STDOUT; k <= RT_STDERR; k++)
		proc->stream[k].port = runtime_port_new(proc->rt);
}

void runtime_stdin_keep(struct rt_process *proc)
{
	struct rt_stream *s = &proc->stream[RT_STDIN];

	s->keep = true;
	if (!s->port)
		s->port = runtime_port_new(proc->rt);
}

int runtime_streams_attach(struct rt_process *proc, struct json_object *streams,
			   struct rpc_fds *fds, struct error **err)
{
	size_t i, n = streams ? json_object_array_length(streams) : 0;
	struct rt_stream *to[RT_STREAMS] = {NULL};
	int k;

	if (n > RT_STREAMS || n != fds->n)
		return error_set(err, ERR_INVALID_ARGUMENT,
				 "streams and descriptors differ in number");
	for (i = 0; i < n; i++) {
		k = stream_kind(json_object_get_string(json_object_array_get_idx(streams, i)));
		if (k < 0)
			return error_set(err, ERR_INVALID_ARGUMENT, "stream %zu is unknown", i);
		to[i] = &proc->stream[k];
		if (to[i]->port && !to[i]->done && to[i]->fd >= 0)
			return error_set(err, ERR_INVALID_STATE,
					 "another client is attached to %s of container %s",
					 kind_name[k], proc->rt->id);
	}
	for (i = 0; i < n; i++) {
		struct rt_stream *s = to[i];

		if (!s->port || s->done)
			continue; /* its descriptor is closed with the request: the end, for the client */
		stream_detach_fd(s);
		if (stream_attach(s, rpc_fds_take(fds, i), err) < 0)
			return -1;
		if (s->kind == RT_STDIN && s->vs && !s->pending.len)
			input_arm(s);
		else if (s->kind != RT_STDIN && s->vs)
			vsock_stream_resume(s->vs);
	}
	return 0;
}

void runtime_streams_ports(struct rt_process *proc, struct json_object *process)
{
	int k;

	for (k = 0; k < RT_STREAMS; k++)
		json_set_int(process, kind_name[k], proc->stream[k].port);
}

bool runtime_streams_drained(const struct rt_process *proc)
{
	int k;

	for (k = RT_STDOUT; k <= RT_STDERR; k++)
		if (proc->stream[k].vs && !proc->stream[k].done)
			return false;
	return true;
}

void runtime_streams_room(struct rt_process *proc)
{
	for (int k = RT_STDOUT; k <= RT_STDERR; k++) {
		struct rt_stream *s = &proc->stream[k];

		/* Where a pipe can have no more, its reader has as long as the process's end waits. */
		if (s->full && s->fd >= 0 && s->vs && fcntl(s->fd, F_SETPIPE_SZ, PIPE_ROOM) >= 0)
			vsock_stream_resume(s->vs);
	}
}

void runtime_streams_close(struct rt_process *proc)
{
	int k;

	for (k = 0; k < RT_STREAMS; k++) {
		struct rt_stream *s = &proc->stream[k];

		if (s->vs)
			vsock_stream_reset(s->vs);
		s->vs = NULL;
		s->done = true;
		stream_detach_fd(s);
		buf_free(&s->pending);
	}
}
