/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.c - see netlink.h. The kernel is trusted here, but lengths it sends are checked all the
 * same. */
#include "net/netlink.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>

int nl_open(struct nl *nl, int protocol, struct error **err)
{
	struct sockaddr_nl addr = {.nl_family = AF_NETLINK};
	struct timeval limit = {.tv_sec = 5};

	nl->seq = 1;
	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (nl->fd < 0)
		return error_sys(err, errno, "netlink socket");
	if (bind(nl->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    setsockopt(nl->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0) {
		int saved = errno;

		nl_close(nl);
		return error_sys(err, saved, "netlink socket");
	}
	return 0;
}

void nl_close(struct nl *nl)
{
	if (nl->fd >= 0)
		close(nl->fd);
	nl->fd = -1;
}

static void pad(struct buf *b)
{
	static const char zero[NLMSG_ALIGNTO];

	if (b->len % NLMSG_ALIGNTO)
		buf_append(b, zero, NLMSG_ALIGNTO - b->len % NLMSG_ALIGNTO);
}

size_t nl_begin(struct nl *nl, struct buf *b, uint16_t type, uint16_t flags, const void *hdr,
		size_t len)
{
	struct nlmsghdr h = {
		.nlmsg_type = type,
		.nlmsg_flags = NLM_F_REQUEST | flags,
		.nlmsg_seq = nl->seq++,
	};
	size_t at;

	pad(b);
	at = b->len;
	buf_append(b, &h, sizeof(h));
	buf_append(b, hdr, len);
	pad(b);
	return at;
}

void nl_end(struct buf *b, size_t msg)
{
	uint32_t len = (uint32_t)(b->len - msg);

	memcpy(b->data + msg + offsetof(struct nlmsghdr, nlmsg_len), &len, sizeof(len));
	pad(b);
}

void nl_put(struct buf *b, uint16_t type, const void *p, size_t n)
{
	struct nlattr a = {.nla_len = (uint16_t)(NLA_HDRLEN + n), .nla_type = type};

	buf_append(b, &a, sizeof(a));
	buf_append(b, p, n);
	pad(b);
}

void nl_put_str(struct buf *b, uint16_t type, const char *s)
{
	nl_put(b, type, s, strlen(s) + 1);
}

void nl_put_u32(struct buf *b, uint16_t type, uint32_t v)
{
	nl_put(b, type, &v, sizeof(v));
}

void nl_put_be32(struct buf *b, uint16_t type, uint32_t v)
{
	nl_put_u32(b, type, htonl(v));
}

size_t nl_nest(struct buf *b, uint16_t type)
{
	size_t at = b->len;

	nl_put(b, type | NLA_F_NESTED, NULL, 0);
	return at;
}

void nl_nest_end(struct buf *b, size_t nest)
{
	uint16_t len = (uint16_t)(b->len - nest);

	memcpy(b->data + nest + offsetof(struct nlattr, nla_len), &len, sizeof(len));
}

/* one_message: 1 when h is an acknowledgement, 0 for anything else, -1 for a refusal. */
static int one_message(const struct nlmsghdr *h, struct buf *reply, struct error **err)
{
	struct nlmsgerr e;

	if (h->nlmsg_type != NLMSG_ERROR) {
		if (reply) {
			reply->len = 0;
			buf_append(reply, h, h->nlmsg_len);
		}
		return 0;
	}
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(e)))
		return error_set(err, ERR_INTERNAL, "netlink: short answer");
	memcpy(&e, NLMSG_DATA(h), sizeof(e));
	return e.error ? error_sys(err, -e.error, "netlink") : 1;
}

int nl_talk(struct nl *nl, const struct buf *b, unsigned acks, struct buf *reply,
	    struct error **err)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	_Alignas(struct nlmsghdr) char in[16384];

	if (RETRY_EINTR(sendto(nl->fd, b->data, b->len, 0, (struct sockaddr *)&kernel,
			       sizeof(kernel))) < 0)
		return error_sys(err, errno, "netlink send");
	while (acks > 0) {
		ssize_t n = RETRY_EINTR(recv(nl->fd, in, sizeof(in), 0));
		struct nlmsghdr *h = (struct nlmsghdr *)in;

		if (n < 0)
			return error_sys(err, errno, "netlink receive");
		for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			int r = one_message(h, reply, err);

			if (r < 0)
				return -1;
			if (r > 0 && --acks == 0)
				break;
		}
	}
	return 0;
}

const void *nl_find(const void *p, size_t n, uint16_t type, size_t *len)
{
	const char *at = p;

	while (n >= NLA_HDRLEN) {
		struct nlattr a;

		memcpy(&a, at, sizeof(a));
		if (a.nla_len < NLA_HDRLEN || a.nla_len > n)
			return NULL;
		if ((a.nla_type & NLA_TYPE_MASK) == type) {
			*len = a.nla_len - NLA_HDRLEN;
			return at + NLA_HDRLEN;
		}
		if ((size_t)NLA_ALIGN(a.nla_len) >= n)
			return NULL;
		at += NLA_ALIGN(a.nla_len);
		n -= NLA_ALIGN(a.nla_len);
	}
	return NULL;
}
