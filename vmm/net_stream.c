/* SPDX-License-Identifier: Apache-2.0 */
/* net_stream.c - see net_stream.h. */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "core/filter.h"
#include "core/log.h"
#include "vmm/net_stream.h"

#define PREFIX 4

FILTER_RULES = {
	FILTER_ALLOW(FILTER_NET, recvfrom),
	FILTER_ALLOW(FILTER_NET, sendmsg),
};

struct net_stream {
	int fd;
	bool over;
	uint32_t prefix; /* of the frame being sent */
	size_t in_at, in_len;
	size_t out_at, out_len;
	uint8_t in[2 * (PREFIX + NET_STREAM_MAX)];
	uint8_t out[PREFIX + NET_STREAM_MAX];
};

struct net_stream *net_stream_new(int fd)
{
	struct net_stream *s = xmalloc(sizeof(*s));

	/* Not zeroed: most of it is buffers, whose pages come when they are used. */
	s->fd = fd;
	s->over = false;
	s->in_at = s->in_len = s->out_at = s->out_len = 0;
	return s;
}

void net_stream_free(struct net_stream *s)
{
	free(s);
}

static int over(struct net_stream *s, const char *why)
{
	if (!s->over)
		log_warn("net: %s; the link is down", why);
	s->over = true;
	return -1;
}

/* 1: something came. */
static int fill(struct net_stream *s)
{
	ssize_t n;

	memmove(s->in, s->in + s->in_at, s->in_len);
	s->in_at = 0;
	n = RETRY_EINTR(recv(s->fd, s->in + s->in_len, sizeof(s->in) - s->in_len, MSG_DONTWAIT));
	if (n > 0) {
		s->in_len += (size_t)n;
		return 1;
	}
	if (n < 0 && errno == EAGAIN)
		return 0;
	return over(s, n ? strerror(errno) : "the peer has hung up");
}

int net_stream_recv(struct net_stream *s, const uint8_t **frame, size_t *len)
{
	while (!s->over) {
		uint32_t be = 0;
		int rc;

		if (s->in_len >= PREFIX) {
			memcpy(&be, s->in + s->in_at, PREFIX);
			*len = ntohl(be);
			if (!*len || *len > NET_STREAM_MAX)
				return over(s, "the peer sent a frame of impossible length");
			if (s->in_len >= PREFIX + *len) {
				*frame = s->in + s->in_at + PREFIX;
				s->in_at += PREFIX + *len;
				s->in_len -= PREFIX + *len;
				return 1;
			}
		}
		rc = fill(s);
		if (rc <= 0)
			return rc;
	}
	return -1;
}

/* Bytes that went out, 0 when the socket is full, -1. */
static ssize_t put(struct net_stream *s, struct iovec *iov, unsigned n)
{
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t sent = RETRY_EINTR(sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL));

	if (sent >= 0 || errno == EAGAIN)
		return MAX(sent, 0);
	return over(s, strerror(errno));
}

int net_stream_flush(struct net_stream *s)
{
	while (!s->over && s->out_len) {
		struct iovec iov = {s->out + s->out_at, s->out_len};
		ssize_t n = put(s, &iov, 1);

		if (n <= 0)
			return (int)n;
		s->out_at += (size_t)n;
		s->out_len -= (size_t)n;
	}
	return s->over ? -1 : 1;
}

int net_stream_send(struct net_stream *s, struct iovec *iov, unsigned n, size_t len)
{
	ssize_t sent;
	unsigned i;

	if (s->over)
		return -1;
	s->prefix = htonl((uint32_t)len);
	iov[0] = (struct iovec){&s->prefix, PREFIX};
	sent = put(s, iov, n);
	if (sent < 0)
		return -1;
	/* The rest of a frame that was begun: it comes from our copy, whatever the guest makes of its own meanwhile. */
	s->out_at = s->out_len = 0;
	for (i = 0; i < n; i++) {
		size_t gone = MIN((size_t)sent, iov[i].iov_len);

		memcpy(s->out + s->out_len, (char *)iov[i].iov_base + gone, iov[i].iov_len - gone);
		s->out_len += iov[i].iov_len - gone;
		sent -= (ssize_t)gone;
	}
	return 0;
}
