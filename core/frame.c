/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.c - bytes and descriptors of the wire format in rpc.h.
 *
 * The kernel delivers descriptors with the last piece of a read whose start may lie anywhere in
 * what was read, so their place in the stream says little. Instead a frame that carries descriptors
 * says how many
 * ("fds": n), and claims them in order of arrival; they ride on its first byte, so they are there
 * when its last byte is.
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "core/filter.h"
#include "core/rpc_int.h"

FILTER_RULES = {
	FILTER_ALLOW(FILTER_MAIN, sendmsg),
	FILTER_ALLOW(FILTER_MAIN, recvmsg),
	FILTER_ALLOW(FILTER_MAIN, close),
};

void fds_close(struct rpc_fds *fds)
{
	size_t i;

	for (i = 0; i < fds->n; i++)
		if (fds->fd[i] >= 0)
			close(fds->fd[i]);
	free(fds->fd);
	*fds = (struct rpc_fds){0};
}

int rpc_fds_take(struct rpc_fds *fds, size_t i)
{
	return fds && i < fds->n ? steal_fd(&fds->fd[i]) : -1;
}

/* ---- sending ---- */

static void out_free(struct out_frame *f)
{
	struct rpc_fds fds = {.fd = f->fds, .n = f->nfds};

	fds_close(&fds);
	free(f->data);
	free(f);
}

static void drop_out(struct rpc_conn *c)
{
	while (c->out) {
		struct out_frame *f = c->out;

		c->out = f->next;
		out_free(f);
	}
	c->out_tail = &c->out;
	c->queued = 0;
}

void frame_drop_all(struct rpc_conn *c)
{
	struct rpc_fds in = {.fd = STEAL(c->in_fds), .n = c->n_in_fds};

	drop_out(c);
	c->n_in_fds = 0;
	fds_close(&in);
	buf_free(&c->in);
	c->in_off = 0;
}

static ssize_t send_piece(int fd, struct out_frame *f)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * RPC_MAX_FDS)];
		struct cmsghdr align;
	} u;
	struct iovec iov = {.iov_base = f->data + f->off, .iov_len = f->len - f->off};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (f->nfds && !f->off) {
		struct cmsghdr *cm;

		memset(&u, 0, sizeof(u));
		m.msg_control = &u;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * f->nfds);
		cm = CMSG_FIRSTHDR(&m);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * f->nfds);
		memcpy(CMSG_DATA(cm), f->fds, sizeof(int) * f->nfds);
	}
	return RETRY_EINTR(sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT));
}

void frame_flush(struct rpc_conn *c)
{
	struct error *e = NULL;

	while (c->out && !c->broken) {
		struct out_frame *f = c->out;
		ssize_t n = send_piece(c->fd, f);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETOOMANYREFS))
			break;
		if (n < 0) {
			/* What the peer said before it hung up is still to be read; the read ends
			 * it. */
			if (errno == EPIPE || errno == ECONNRESET) {
				drop_out(c);
				break;
			}
			error_sys(&e, errno, "send");
			conn_break(c, e);
			return;
		}
		f->off += (size_t)n;
		c->queued -= (size_t)n;
		if (f->off < f->len)
			continue;
		c->out = f->next;
		if (!c->out)
			c->out_tail = &c->out;
		out_free(f);
	}
	conn_watch(c);
}

static int copy_fds(struct out_frame *f, const int *fds, size_t nfds, struct error **err)
{
	f->fds = nfds ? xcalloc(nfds, sizeof(int)) : NULL;
	for (; f->nfds < nfds; f->nfds++) {
		f->fds[f->nfds] = fcntl(fds[f->nfds], F_DUPFD_CLOEXEC, 3);
		if (f->fds[f->nfds] < 0)
			return error_sys(err, errno, "pass descriptor %d", fds[f->nfds]);
	}
	return 0;
}

static struct out_frame *frame_build(struct json_object *o, const int *fds, size_t nfds,
				     struct error **err)
{
	struct out_frame *f;
	const char *text;
	size_t len, i;

	if (nfds > RPC_MAX_FDS) {
		error_set(err, ERR_INVALID_ARGUMENT, "too many descriptors (%zu)", nfds);
		return NULL;
	}
	if (nfds)
		json_set_int(o, "fds", (int64_t)nfds);
	text = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	if (len > RPC_MAX_FRAME) {
		error_set(err, ERR_INVALID_ARGUMENT, "message of %zu bytes is too large", len);
		return NULL;
	}
	f = xcalloc(1, sizeof(*f));
	if (copy_fds(f, fds, nfds, err)) {
		out_free(f);
		return NULL;
	}
	f->len = len + 4;
	f->data = xmalloc(f->len);
	for (i = 0; i < 4; i++)
		f->data[i] = (char)(len >> (8 * i));
	memcpy(f->data + 4, text, len);
	return f;
}

int frame_send(struct rpc_conn *c, struct json_object *o, const int *fds, size_t nfds,
	       struct error **err)
{
	struct out_frame *f;
	struct error *e = NULL;

	if (c->broken)
		return 0;
	f = frame_build(o, fds, nfds, err);
	if (!f)
		return -1;
	*c->out_tail = f;
	c->out_tail = &f->next;
	c->queued += f->len;
	frame_flush(c);
	if (c->queued > RPC_MAX_QUEUED) {
		error_set(&e, ERR_INVALID_STATE, "the peer does not read");
		conn_break(c, e);
	}
	return 0;
}

/* ---- receiving ---- */

static int frame_bad(struct rpc_conn *c, const char *what)
{
	struct error *e = NULL;

	error_set(&e, ERR_INVALID_ARGUMENT, "protocol error: %s", what);
	conn_break(c, e);
	return -1;
}

static int take_control(struct rpc_conn *c, struct msghdr *m)
{
	struct cmsghdr *cm;

	for (cm = CMSG_FIRSTHDR(m); cm; cm = CMSG_NXTHDR(m, cm)) {
		size_t n;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		c->in_fds = xreallocarray(c->in_fds, c->n_in_fds + n, sizeof(int));
		memcpy(c->in_fds + c->n_in_fds, CMSG_DATA(cm), n * sizeof(int));
		c->n_in_fds += n;
	}
	if (m->msg_flags & MSG_CTRUNC)
		return frame_bad(c, "descriptors were lost");
	return 0;
}

int frame_receive(struct rpc_conn *c)
{
	union {
		char space[CMSG_SPACE(sizeof(int) * 256)]; /* the kernel's limit is 253 */
		struct cmsghdr align;
	} u;
	struct iovec iov;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &u,
			   .msg_controllen = sizeof(u)};
	struct error *e = NULL;
	ssize_t n;

	buf_reserve(&c->in, RPC_READ_CHUNK);
	iov.iov_base = c->in.data + c->in.len;
	iov.iov_len = RPC_READ_CHUNK;
	n = RETRY_EINTR(recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT));
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		if (errno != ECONNRESET)
			error_sys(&e, errno, "receive");
		conn_break(c, e);
		return -1;
	}
	if (take_control(c, &m))
		return -1;
	if (!n) {
		if (c->in.len > c->in_off)
			return frame_bad(c, "the stream ends within a frame");
		conn_break(c, NULL);
		return -1;
	}
	c->in.len += (size_t)n;
	return 1;
}

static void in_compact(struct rpc_conn *c)
{
	buf_consume(&c->in, c->in_off);
	c->in_off = 0;
	/* One huge frame should not keep its memory for the connection's life. */
	if (!c->in.len && c->in.cap > 4 * RPC_READ_CHUNK)
		buf_free(&c->in);
}

static int claim_fds(struct rpc_conn *c, struct json_object *o, struct rpc_fds *fds)
{
	struct json_object *v = json_get(o, "fds");
	int64_t n = json_int(o, "fds", 0);

	if ((v && n < 1) || n > RPC_MAX_FDS || (uint64_t)n > c->n_in_fds)
		return frame_bad(c, "wrong count of descriptors");
	if (!n)
		return 0;
	fds->n = (size_t)n;
	fds->fd = xmemdup(c->in_fds, fds->n * sizeof(int));
	c->n_in_fds -= fds->n;
	memmove(c->in_fds, c->in_fds + fds->n, c->n_in_fds * sizeof(int));
	return 0;
}

struct json_object *frame_next(struct rpc_conn *c, struct rpc_fds *fds)
{
	size_t have = c->in.len - c->in_off;
	const unsigned char *p;
	struct error *e = NULL;
	struct json_object *o;
	uint32_t len;

	*fds = (struct rpc_fds){0};
	if (c->broken)
		return NULL;
	if (!have && c->n_in_fds) {
		frame_bad(c, "descriptors without a frame");
		return NULL;
	}
	p = (const unsigned char *)c->in.data + c->in_off;
	len = have < 4 ? 0 : p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
	if (have >= 4 && (!len || len > RPC_MAX_FRAME)) {
		frame_bad(c, "frame length out of range");
		return NULL;
	}
	if (have < 4 || have - 4 < len) {
		in_compact(c);
		if (c->n_in_fds > 2 * RPC_MAX_FDS)
			frame_bad(c, "too many descriptors");
		return NULL;
	}
	o = json_parse((const char *)p + 4, len, &e);
	c->in_off += 4 + (size_t)len;
	if (o && !json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		o = NULL;
		error_set(&e, ERR_INVALID_ARGUMENT, "a frame must be an object");
	}
	if (!o) {
		error_wrap(&e, "protocol error");
		conn_break(c, e);
		return NULL;
	}
	if (claim_fds(c, o, fds)) {
		json_object_put(o);
		return NULL;
	}
	return o;
}
