/* SPDX-License-Identifier: Apache-2.0 */
/* net_frame.h - Ethernet frames for tests, field by field: right ones, from which a test makes wrong ones. */
#ifndef TESTS_NET_FRAME_H
#define TESTS_NET_FRAME_H

#include <stdint.h>
#include <string.h>

static const uint8_t nf_mac[6] = {2, 0, 0, 0, 0, 1}, nf_other[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t nf_ip[4] = {10, 0, 0, 2}, nf_ip_other[4] = {10, 0, 0, 3};
static const uint8_t nf_ip6[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
static const uint8_t nf_ip6_other[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3};
/* nf_mac's (RFC 4291, appendix A): the universal bit is turned over. */
static const uint8_t nf_link_local[16] = {0xfe, 0x80, 0, 0,    0,    0, 0, 0,
					  0,    0,    0, 0xff, 0xfe, 0, 0, 1};

struct nf {
	uint8_t b[2048];
	size_t n;
};

static inline size_t nf_put(struct nf *f, const void *p, size_t n)
{
	size_t at = f->n;

	if (p)
		memcpy(f->b + f->n, p, n);
	else
		memset(f->b + f->n, 0, n);
	f->n += n;
	return at;
}

static inline void nf_put16(struct nf *f, unsigned v)
{
	f->b[f->n++] = (uint8_t)(v >> 8);
	f->b[f->n++] = (uint8_t)v;
}

static inline void nf_set16(struct nf *f, size_t at, unsigned v)
{
	f->b[at] = (uint8_t)(v >> 8);
	f->b[at + 1] = (uint8_t)v;
}

static inline struct nf nf_eth(unsigned type)
{
	struct nf f = {.n = 0};

	nf_put(&f, nf_other, 6);
	nf_put(&f, nf_mac, 6);
	nf_put16(&f, type);
	return f;
}

static inline struct nf nf_arp(unsigned op, const uint8_t *sha, const uint8_t *spa)
{
	static const uint8_t kind[] = {0, 1, 8, 0, 6, 4};
	struct nf f = nf_eth(0x0806);

	nf_put(&f, kind, sizeof(kind));
	nf_put16(&f, op);
	nf_put(&f, sha, 6);
	nf_put(&f, spa, 4);
	nf_put(&f, NULL, 6);
	nf_put(&f, nf_ip_other, 4);
	return f;
}

/* An IPv4 header without options; the payload follows, nf_len() then sets the length. */
static inline struct nf nf_ip4(const uint8_t *src, const uint8_t *dst, unsigned proto)
{
	struct nf f = nf_eth(0x0800);

	nf_put16(&f, 0x4500);
	nf_put(&f, NULL, 6);
	f.b[f.n++] = 64;
	f.b[f.n++] = (uint8_t)proto;
	nf_put(&f, NULL, 2);
	nf_put(&f, src, 4);
	nf_put(&f, dst, 4);
	return f;
}

static inline struct nf nf_6(const uint8_t *src, unsigned next)
{
	static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1};
	struct nf f = nf_eth(0x86dd);

	nf_put16(&f, 0x6000);
	nf_put(&f, NULL, 4);
	f.b[f.n++] = (uint8_t)next;
	f.b[f.n++] = 255;
	nf_put(&f, src, 16);
	nf_put(&f, all_nodes, 16);
	return f;
}

static inline struct nf *nf_len(struct nf *f)
{
	if (f->b[13] == 0xdd)
		nf_set16(f, 18, (unsigned)(f->n - 54));
	else
		nf_set16(f, 16, (unsigned)(f->n - 14));
	return f;
}

static inline void nf_udp(struct nf *f, unsigned sport, unsigned dport)
{
	nf_put16(f, sport);
	nf_put16(f, dport);
	nf_put16(f, 16);
	nf_put(f, NULL, 10);
	nf_len(f);
}

/* A neighbour solicitation (135) or advertisement (136) with one link-layer address option. */
static inline void nf_nd(struct nf *f, unsigned type, const uint8_t *target, unsigned opt,
			 const uint8_t *mac)
{
	f->b[f->n++] = (uint8_t)type;
	nf_put(f, NULL, 7);
	nf_put(f, target, 16);
	if (opt) {
		f->b[f->n++] = (uint8_t)opt;
		f->b[f->n++] = 1;
		nf_put(f, mac, 6);
	}
	nf_len(f);
}

#endif
