// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_net.c - the network card. Hostile: transmitted frames, their vnet headers and addresses, receive buffers of any
 * shape; on a stream also the peer: lengths, pieces, hanging up. A datagram socket stands for the tap, with its offloads
 * or without: then what leaves first gets the checksum that the header asks for, as a tap would do it.
 *
 * Nothing may leave with an address that is not the card's, with an offload that was not agreed on, or with what only
 * routers say; this is looked at here by other code than the card's.
 */
#include <arpa/inet.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>

#include "tests/fuzz/fuzz_virtio.h"
#include "tests/unit/net_frame.h"

enum { PLAIN, OFFLOADS, STREAM, CARDS };

static struct guest cards[CARDS];
static int wire[CARDS], tap[CARDS];
static unsigned now; /* the card of this input */
static uint8_t frame[70000];
static uint8_t held[140000]; /* of the stream */
static size_t nheld;

static unsigned at16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static bool own6(const uint8_t *a)
{
	return !memcmp(a, nf_link_local, 16) || !memcmp(a, nf_ip6, 16);
}

static void look_at_ip4(const uint8_t *ip, size_t n)
{
	static const uint8_t none[4] = {0};
	size_t l4 = 4u * (ip[0] & 15);
	bool udp = n >= 20 && ip[9] == 17 && !(at16(ip + 6) & 0x1fff);

	FUZZ_CHECK(n >= 20 && ip[0] >= 0x45 && ip[0] < 0x50 && n >= l4);
	if (!memcmp(ip + 12, none, 4))
		FUZZ_CHECK(udp && at16(ip + l4) == 68 && at16(ip + l4 + 2) == 67);
	else
		FUZZ_CHECK(!memcmp(ip + 12, nf_ip, 4));
	if (udp)
		FUZZ_CHECK(at16(ip + l4) != 67 && at16(ip + l4 + 2) != 68);
}

static void look_at_nd(const uint8_t *icmp, size_t n)
{
	size_t i;

	FUZZ_CHECK(n && icmp[0] != 134 && icmp[0] != 137);
	if (icmp[0] != 136)
		return;
	FUZZ_CHECK(n >= 24 && own6(icmp + 8));
	for (i = 24; i + 8 <= n && icmp[i + 1]; i += 8u * icmp[i + 1])
		if (icmp[i] == 2)
			FUZZ_CHECK(!memcmp(icmp + i + 2, nf_mac, 6));
}

static void look_at_ip6(const uint8_t *ip, size_t n)
{
	static const uint8_t none[16] = {0};
	size_t at = 40, end;
	unsigned next;

	FUZZ_CHECK(n >= 40 && ip[0] >> 4 == 6);
	FUZZ_CHECK(own6(ip + 8) || !memcmp(ip + 8, none, 16));
	end = at16(ip + 4) ? MIN(n, 40u + at16(ip + 4)) : n;
	next = ip[6];
	while (next == 0 || next == 43 || next == 60 || next == 44 || next == 51) {
		unsigned len = next == 44   ? 8
			       : next == 51 ? 4u * ip[at + 1] + 8
					    : 8u * ip[at + 1] + 8;

		FUZZ_CHECK(at + len <= end);
		if (next == 44 && at16(ip + at + 2) & 0xfff8)
			return;
		next = ip[at];
		at += len;
	}
	if (next == 58)
		look_at_nd(ip + at, end - at);
	else
		FUZZ_CHECK(memcmp(ip + 8, none, 16) != 0);
}

static void look_at_arp(const uint8_t *a, size_t n)
{
	static const uint8_t none[4] = {0};

	FUZZ_CHECK(n >= 28 && !memcmp(a + 8, nf_mac, 6));
	FUZZ_CHECK(!memcmp(a + 14, nf_ip, 4) || (!memcmp(a + 14, none, 4) && a[7] == 1));
}

static void look_at_frame(const uint8_t *f, size_t n)
{
	FUZZ_CHECK(n >= 14 && n <= 65553);
	FUZZ_CHECK(!memcmp(f + 6, nf_mac, 6));
	if (at16(f + 12) == 0x0800)
		look_at_ip4(f + 14, n - 14);
	else if (at16(f + 12) == 0x86dd)
		look_at_ip6(f + 14, n - 14);
	else if (at16(f + 12) == 0x0806)
		look_at_arp(f + 14, n - 14);
	else
		FUZZ_CHECK(!"another kind of frame");
}

static void look_at_packets(void)
{
	struct virtio_net_hdr_v1 h;
	ssize_t n;

	while ((n = recv(wire[now], frame, sizeof(frame), MSG_DONTWAIT)) >= 0) {
		size_t at;

		FUZZ_CHECK(n >= (ssize_t)sizeof(h) + 14);
		memcpy(&h, frame, sizeof(h));
		if (h.flags) {
			FUZZ_CHECK(h.flags == 1 && now == OFFLOADS);
			at = sizeof(h) + h.csum_start + h.csum_offset;
			FUZZ_CHECK(at + 2 <= (size_t)n);
			memset(frame + at, 0x5a, 2);
		}
		if (h.gso_type)
			FUZZ_CHECK(h.flags && h.gso_size && now == OFFLOADS);
		look_at_frame(frame + sizeof(h), (size_t)n - sizeof(h));
	}
}

static void look_at_stream(void)
{
	for (;;) {
		ssize_t n = recv(wire[now], held + nheld, sizeof(held) - nheld, MSG_DONTWAIT);
		uint32_t len;

		if (n <= 0)
			return;
		nheld += (size_t)n;
		while (nheld >= 4) {
			memcpy(&len, held, 4);
			len = ntohl(len);
			FUZZ_CHECK(len >= 14 && len <= 65553);
			if (nheld < 4 + (size_t)len)
				break;
			look_at_frame(held + 4, len);
			nheld -= 4 + (size_t)len;
			memmove(held, held + 4 + len, nheld);
		}
	}
}

static void look_at_wire(void)
{
	if (now == STREAM)
		look_at_stream();
	else
		look_at_packets();
}

/* A right frame in guest memory, behind a header, with a few bytes of the input's in it. */
static void put_frame(struct guest *g, struct fz *f)
{
	unsigned kind = fz_u8(f), n = fz_u8(f) % 8, i;
	uint64_t gpa = GUEST_DATA + 16ull * fz_u8(f);
	struct nf p;

	switch (kind % 6) {
	case 0:
		p = nf_arp(1 + (kind >> 7), nf_mac, nf_ip);
		break;
	case 1:
		p = nf_ip4(nf_ip, nf_ip_other, 17);
		nf_udp(&p, 1000, 53);
		break;
	case 2:
		p = nf_6(nf_link_local, 58);
		nf_nd(&p, 135 + (kind >> 7), nf_link_local, 1 + (kind >> 7), nf_mac);
		break;
	case 3:
		p = nf_6(nf_ip6, kind & 0x80 ? 44 : 60);
		nf_put(&p, "\x3a\0\0\1\0\0\0\0", 8);
		nf_nd(&p, 128 + (kind >> 3) % 16, nf_ip6, 2, nf_mac);
		break;
	case 4:
		p = nf_6(nf_ip6, 17);
		nf_udp(&p, 1000, 53);
		break;
	default:
		p = nf_ip4(nf_ip, nf_ip_other, 6);
		nf_put(&p, NULL, 60);
		nf_len(&p);
		break;
	}
	for (i = 0; i < n; i++)
		p.b[fz_u8(f) % p.n] = fz_u8(f);
	(void)gmem_write(&g->m, gpa + sizeof(struct virtio_net_hdr_v1), p.b, p.n);
}

static void peer_writes(struct fz *f)
{
	size_t n = fz_u16(f) % 20000;
	struct fz bytes = fz_take(f, 32);
	uint32_t len = htonl((uint32_t)n);

	memset(frame, 0xa5, n + 4);
	memcpy(frame, bytes.p, MIN(bytes.n, n));
	if (now == STREAM && n & 1) { /* honest */
		memmove(frame + 4, frame, n);
		memcpy(frame, &len, 4);
		n += 4;
	}
	(void)send(wire[now], frame, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void host(struct guest *g, struct fz *f)
{
	uint8_t what = fz_u8(f);

	if (what & 1)
		put_frame(g, f);
	if (what & 2)
		look_at_wire();
	if (what & 4)
		peer_writes(f);
	if (what == 0xff && now == STREAM)
		shutdown(wire[now], SHUT_WR);
	if (what & 8 && g->d->active && !g->d->broken)
		g->d->ops->worker_fd(g->d, 0,
				     (uint32_t)(g->d->vq[0].ready | g->d->vq[1].ready << 1));
}

static void card_new(unsigned which)
{
	struct vm_nic nic = {.mtu = 1500, .nfds = 1, .has_ip6 = true};
	struct guest *g = &cards[which];
	int sv[2];

	FUZZ_CHECK(!socketpair(AF_UNIX, which == STREAM ? SOCK_STREAM : SOCK_DGRAM, 0, sv));
	memcpy(nic.mac, nf_mac, 6);
	memcpy(nic.ip4, nf_ip, 4);
	memcpy(nic.ip6, nf_ip6, 16);
	nic.fd[0] = tap[which] = sv[0];
	wire[which] = sv[1];
	guest_take(g, virtio_net_new(g->l, &g->m, &nic, NULL));
	if (which == OFFLOADS)
		g->d->features_offered |=
			VIRTIO_F(VIRTIO_NET_F_CSUM) | VIRTIO_F(VIRTIO_NET_F_HOST_TSO4) |
			VIRTIO_F(VIRTIO_NET_F_HOST_TSO6) | VIRTIO_F(VIRTIO_NET_F_HOST_ECN) |
			VIRTIO_F(VIRTIO_NET_F_HOST_UFO);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	unsigned i;

	for (i = 0; i < CARDS; i++) {
		guest_init(&cards[i]);
		cards[i].host = host;
		if (i != STREAM)
			card_new(i);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	now = data[0] % CARDS;
	/* A stream that is over is over for good: each input gets one of its own. */
	if (now == STREAM)
		card_new(now);
	nheld = 0;
	guest_run(&cards[now], data + 1, size - 1);
	look_at_wire();
	if (now == STREAM) {
		virtio_free(cards[now].d);
		close(wire[now]);
		close(tap[now]);
		return 0;
	}
	while (recv(tap[now], frame, sizeof(frame), MSG_DONTWAIT) >= 0)
		; /* what the card did not take */
	return 0;
}
