/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netlink.h - building netlink requests and waiting for their acknowledgements; for net/ only.
 *
 * A request is built into a struct buf: nl_begin() opens a message, nl_put*() adds attributes,
 * nl_nest()/nl_nest_end() nest them, nl_end() closes it. Several messages may follow each other in
 * one buffer (nfnetlink batches).
 */
#ifndef NET_NETLINK_H
#define NET_NETLINK_H

#include <linux/netlink.h>

#include "core/str.h"

struct nl {
	int fd;
	uint32_t seq;
};

int nl_open(struct nl *nl, int protocol, struct error **err);
void nl_close(struct nl *nl);

/* nl_begin: returns the message's offset for nl_end(). hdr is the family's fixed header. */
size_t nl_begin(struct nl *nl, struct buf *b, uint16_t type, uint16_t flags, const void *hdr,
		size_t len);
void nl_end(struct buf *b, size_t msg);
void nl_put(struct buf *b, uint16_t type, const void *p, size_t n);
void nl_put_str(struct buf *b, uint16_t type, const char *s); /* with its NUL */
void nl_put_u32(struct buf *b, uint16_t type, uint32_t v);    /* host order */
void nl_put_be32(struct buf *b, uint16_t type, uint32_t v);   /* network order, from host order */
size_t nl_nest(struct buf *b, uint16_t type);
void nl_nest_end(struct buf *b, size_t nest);

/* nl_talk: sends all of b and waits (5 s at most) until `acks` messages were acknowledged. The
 * first refusal is the error; its errno is in
 * (*err)->sys. reply, if not NULL, gets the last message that was no acknowledgement. */
int nl_talk(struct nl *nl, const struct buf *b, unsigned acks, struct buf *reply,
	    struct error **err);

/* nl_find: the payload of attribute `type` among attributes p[0..n), its length in *len; NULL if
 * absent. Bounds are checked. */
const void *nl_find(const void *p, size_t n, uint16_t type, size_t *len);

#endif
