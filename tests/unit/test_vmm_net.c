// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_net.c - the network card: frames both ways, receive starvation, spoofing, bad headers (attack class D). Most of it
 * on a SOCK_SEQPACKET pair in a tap's place; one test on a real tap in a network namespace of its own.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>

#include "tests/unit/net_frame.h"
#include "tests/unit/net_tap.h"
#include "tests/unit/vmm_driver.h"
#include "vmm/net_impl.h"

#define N      VRING_DESC_F_NEXT
#define W      VRING_DESC_F_WRITE
#define RX     0
#define TX     1
#define HDR    12
#define TXBUF  DRV_DATA
#define RXB(i) (DRV_DATA + 0x100000 + 0x20000ull * (i))

static int setup_stream(void **state)
{
	return setup_on(state, SOCK_STREAM);
}

static void post(struct drv *t, unsigned i, uint32_t len)
{
	drv_desc(t, RX, i, RXB(i), len, W, 0);
	drv_offer(t, RX, (uint16_t)i);
	drv_kick(t, RX);
}

/* Sends these bytes behind the header h (NULL: zeroes), in two descriptors split at `cut`. */
static void transmit_bytes(struct drv *t, const struct virtio_net_hdr_v1 *h, const void *bytes,
			   uint32_t len, uint32_t cut)
{
	uint8_t *p = gmem_ptr(&t->m, TXBUF, 0x40000);
	uint32_t id, n;

	memset(p, 0, HDR);
	if (h)
		memcpy(p, h, HDR);
	memcpy(p + HDR, bytes, len);
	drv_desc(t, TX, 0, TXBUF, cut, N, 1);
	drv_desc(t, TX, 1, TXBUF + cut, HDR + len - cut, 0, 0);
	drv_offer(t, TX, 0);
	drv_kick(t, TX);
	assert_true(drv_wait(t, TX, &id, &n));
}

/* An IPv4 packet of len bytes with its Ethernet header, from src. */
static void transmit(struct drv *t, const struct virtio_net_hdr_v1 *h, const uint8_t *src,
		     uint32_t len, uint32_t cut)
{
	static uint8_t b[70000];
	struct nf f = nf_ip4(nf_ip, nf_ip_other, IPPROTO_TCP);

	memcpy(f.b + 6, src, 6);
	nf_set16(&f, 16, MIN(len - 14, 65535u));
	memset(b, 0x77, len);
	memcpy(b, f.b, MIN(len, (uint32_t)f.n));
	transmit_bytes(t, h, b, len, cut);
}

static void test_config(void **state)
{
	struct fix *f = *state;
	uint8_t c[12];

	virtio_config_read(f->t.d, 0, c, 12);
	assert_memory_equal(c, nf_mac, 6);
	assert_int_equal(c[10] | c[11] << 8, 1400);
	/* A socket cannot finish checksums for us. */
	assert_false(f->t.d->features_offered & VIRTIO_F(VIRTIO_NET_F_CSUM));
}

static void test_transmit(void **state)
{
	struct fix *f = *state;
	static uint8_t b[70000];

	transmit(&f->t, NULL, nf_mac, 60, 12);
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 60);
	assert_memory_equal(b + HDR, nf_other, 6);
	assert_memory_equal(b + HDR + 6, nf_mac, 6);
	assert_int_equal(b[HDR + 59], 0x77);
	transmit(&f->t, NULL, nf_mac, 1400, 5); /* the header split in two */
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 1400);
	transmit(&f->t, NULL, nf_mac, 60, 20); /* and the Ethernet header */
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 60);
}

static void test_D_transmit_bad(void **state)
{
	struct fix *f = *state;
	static uint8_t b[70000];
	static const enum net_verdict whys[] = {NET_MAC, NET_MALFORMED, NET_OFFLOAD};
	static const unsigned counts[] = {1, 3, 4};
	static const struct virtio_net_hdr_v1 bad[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		 .csum_start = 34,
		 .csum_offset = 16}, /* not negotiated */
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000, .flags = 1},
		{.gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 1000, .flags = 1},
		{.gso_type = 0x7f},
	};
	size_t i;

	transmit(&f->t, NULL, nf_other, 60, 12); /* not its own address */
	transmit(&f->t, NULL, nf_mac, 13, 12);   /* runts */
	transmit(&f->t, NULL, nf_mac, 1, 12);
	transmit(&f->t, NULL, nf_mac, 66000, 12); /* giant */
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		transmit(&f->t, &bad[i], nf_mac, 60, 12);
	assert_int_equal(peer_recv(f, b, sizeof(b)), -1);
	for (i = 0; i < ARRAY_SIZE(whys); i++)
		assert_int_equal(virtio_net_dropped(f->t.d, whys[i]), counts[i]);
	/* None of it did harm. */
	transmit(&f->t, NULL, nf_mac, 60, 12);
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 60);
}

static void frame(uint8_t *b, size_t len, uint8_t tag)
{
	memset(b, 0, HDR);
	memset(b + HDR, tag, len);
	memcpy(b + HDR, nf_mac, 6);
}

static void test_D_receive(void **state)
{
	struct fix *f = *state;
	struct virtio_net_hdr_v1 h;
	static uint8_t b[HDR + 5000], got[HDR + 5000];
	uint32_t id = 0, len = 0, sum = 0, i;

	post(&f->t, 0, 2048);
	frame(b, 100, 1);
	assert_int_equal(send(f->peer, b, HDR + 100, 0), HDR + 100);
	assert_true(drv_wait(&f->t, RX, &id, &len));
	assert_int_equal(len, HDR + 100);
	assert_int_equal(gmem_read(&f->t.m, RXB(0), &h, HDR), 0);
	assert_int_equal(h.num_buffers, 1);
	assert_int_equal(gmem_read(&f->t.m, RXB(0) + HDR, got, 100), 0);
	assert_memory_equal(got, b + HDR, 100);

	/* 5000 bytes need three buffers of 2048, and none is used before all three are there. */
	post(&f->t, 0, 2048);
	post(&f->t, 1, 2048);
	drv_turns(&f->t, 2);
	frame(b, 5000, 2);
	assert_int_equal(send(f->peer, b, HDR + 5000, 0), HDR + 5000);
	drv_turns(&f->t, 10);
	assert_false(drv_used(&f->t, RX, &id, &len));
	post(&f->t, 2, 2048);
	for (i = 0; i < 3; i++) {
		assert_true(drv_wait(&f->t, RX, &id, &len));
		assert_int_equal(id, i);
		assert_int_equal(gmem_read(&f->t.m, RXB(id), got + sum, len), 0);
		sum += len;
	}
	assert_int_equal(sum, HDR + 5000);
	memcpy(&h, got, HDR);
	assert_int_equal(h.num_buffers, 3);
	assert_memory_equal(got + HDR, b + HDR, 5000);
}

/* A driver that does not take checksums on trust sees no flags, not even "it is right"; of a frame that has none yet it sees
 * nothing. */
static void test_D_receive_flags(void **state)
{
	struct fix *f = *state;
	struct virtio_net_hdr_v1 h = {0};
	static uint8_t b[HDR + 100];
	uint32_t id = 0, len = 0;

	post(&f->t, 0, 2048);
	post(&f->t, 1, 2048);
	frame(b, 100, 1);
	b[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	assert_int_equal(send(f->peer, b, sizeof(b), 0), sizeof(b));
	b[0] = VIRTIO_NET_HDR_F_DATA_VALID | VIRTIO_NET_HDR_F_RSC_INFO;
	b[HDR + 99] = 2;
	assert_int_equal(send(f->peer, b, sizeof(b), 0), sizeof(b));
	assert_true(drv_wait(&f->t, RX, &id, &len));
	assert_int_equal(len, sizeof(b));
	assert_int_equal(gmem_read(&f->t.m, RXB(id) + HDR + 99, &h, 1), 0);
	assert_int_equal(h.flags, 2); /* the second one */
	assert_int_equal(gmem_read(&f->t.m, RXB(id), &h, HDR), 0);
	assert_int_equal(h.flags, 0);
	assert_false(drv_used(&f->t, RX, &id, &len));
}

/* No buffers: frames wait where they are, the loop does not spin, and all come when buffers do. */
static void test_D_starvation(void **state)
{
	struct fix *f = *state;
	static uint8_t b[HDR + 100];
	uint32_t id = 0, len = 0, i;
	uint64_t start;

	for (i = 0; i < 10; i++) {
		frame(b, 100, (uint8_t)i);
		assert_int_equal(send(f->peer, b, sizeof(b), 0), sizeof(b));
	}
	drv_turns(&f->t, 5);
	start = time_mono_us();
	(void)loop_turn(f->t.l, 50, NULL);
	assert_true(time_mono_us() - start > 40000);
	for (i = 0; i < 10; i++) {
		uint8_t tag;

		post(&f->t, i, 2048);
		assert_true(drv_wait(&f->t, RX, &id, &len));
		assert_int_equal(len, sizeof(b));
		assert_int_equal(gmem_read(&f->t.m, RXB(id) + HDR + 50, &tag, 1), 0);
		assert_int_equal(tag, i);
	}
}

static void test_D_receive_bad_buffers(void **state)
{
	struct fix *f = *state;
	static uint8_t b[HDR + 5000];
	uint32_t id = 0, len = 0, i;

	/* A ring full of buffers that together cannot take the frame: it is dropped, the next one comes. */
	for (i = 0; i < DRV_SIZE; i++)
		post(&f->t, i, 64);
	frame(b, 5000, 1);
	assert_int_equal(send(f->peer, b, HDR + 5000, 0), HDR + 5000);
	frame(b, 40, 2);
	assert_int_equal(send(f->peer, b, HDR + 40, 0), HDR + 40);
	assert_true(drv_wait(&f->t, RX, &id, &len));
	assert_int_equal(len, HDR + 40);
	/* A buffer too small for the header. */
	virtio_reset(f->t.d);
	assert_int_equal(drv_start(&f->t, f->t.d, 0), 0);
	post(&f->t, 0, 11);
	assert_int_equal(send(f->peer, b, HDR + 40, 0), HDR + 40);
	assert_true(drv_wait_broken(&f->t));
}

/* B: a frame that is written over the available index adds buffers while it is delivered, as another CPU of the guest
 * could. It gets no more of them than the ring has, and is dropped. The header is off any alignment. */
static void test_BD_growing_ring(void **state)
{
	struct fix *f = *state;
	static uint8_t b[HDR + 80];
	unsigned i, at = HDR, used;
	uint32_t id, len;

	drv_desc(&f->t, RX, 0, RXB(0) + 1, HDR, W, 0);
	drv_desc(&f->t, RX, 1, DRV_AVAIL(RX) + 2, 1, W, 0);
	for (i = 0; i < DRV_SIZE; i++)
		drv_offer(&f->t, RX, i ? 1 : 0);
	frame(b, 80, 1);
	for (i = 1; at < sizeof(b); i++) {
		b[at] = (uint8_t)(i + 9);
		at += i % DRV_SIZE ? 1 : HDR;
	}
	assert_int_equal(send(f->peer, b, sizeof(b), 0), sizeof(b));
	drv_kick(&f->t, RX);
	drv_turns(&f->t, 5);
	used = *(uint16_t *)gmem_ptr(&f->t.m, DRV_USED(RX) + 2, 2);
	assert_int_equal(used, 0);
	assert_false(f->t.d->broken);
	/* A small one fits. */
	virtio_reset(f->t.d);
	assert_int_equal(drv_start(&f->t, f->t.d, 0), 0);
	drv_desc(&f->t, RX, 0, RXB(0) + 1, 2048, W, 0);
	drv_offer(&f->t, RX, 0);
	drv_kick(&f->t, RX);
	assert_int_equal(send(f->peer, b, sizeof(b), 0), sizeof(b));
	assert_true(drv_wait(&f->t, RX, &id, &len));
	used = *(uint16_t *)gmem_ptr(&f->t.m, DRV_USED(RX) + 2, 2);
	assert_int_equal(used, 1);
}

static void test_peer_gone(void **state)
{
	struct fix *f = *state;
	uint64_t start;

	post(&f->t, 0, 2048);
	drv_turns(&f->t, 3);
	close(f->peer);
	f->peer = -1;
	drv_turns(&f->t, 5);
	start = time_mono_us();
	(void)loop_turn(f->t.l, 50, NULL);
	assert_true(time_mono_us() - start > 40000); /* no spinning */
}

/* ---- a stream in the tap's place ---- */

static void stream_read(struct fix *f, void *p, size_t n)
{
	uint64_t end = time_mono_us() + DRV_WAIT_MS * 1000ull;
	size_t got = 0;

	while (got < n && time_mono_us() < end) {
		ssize_t r = recv(f->peer, (char *)p + got, n - got, MSG_DONTWAIT);

		if (r > 0)
			got += (size_t)r;
		else
			(void)loop_turn(f->t.l, 1, NULL);
	}
	assert_int_equal(got, n);
}

static void stream_write(struct fix *f, const void *p, size_t n)
{
	assert_int_equal(send(f->peer, p, n, MSG_NOSIGNAL), n);
}

/* Length and frame, as they are on the wire. */
static size_t on_wire(uint8_t *b, uint32_t len, uint8_t tag)
{
	uint32_t be = htonl(len);

	memcpy(b, &be, 4);
	memset(b + 4, tag, len);
	return 4 + (size_t)len;
}

static void expect_frame(struct fix *f, unsigned i, uint32_t len, uint8_t tag)
{
	static const uint8_t no_header[10] = {0};
	uint32_t id = 0, used = 0;
	uint8_t *b;

	assert_true(drv_wait(&f->t, RX, &id, &used));
	assert_int_equal(id, i);
	assert_int_equal(used, HDR + len);
	b = gmem_ptr(&f->t.m, RXB(i), used);
	assert_memory_equal(b, no_header, 10);
	assert_int_equal(b[HDR], tag);
	assert_int_equal(b[HDR + len - 1], tag);
}

static bool link_up(struct fix *f)
{
	uint8_t c[8];

	virtio_config_read(f->t.d, 0, c, 8);
	assert_int_equal(c[6] & VIRTIO_NET_S_LINK_UP, virtio_net_link_up(f->t.d));
	return c[6] & VIRTIO_NET_S_LINK_UP;
}

static void expect_link_down(struct fix *f)
{
	uint64_t end = time_mono_us() + DRV_WAIT_MS * 1000ull;

	while (link_up(f) && time_mono_us() < end)
		(void)loop_turn(f->t.l, 1, NULL);
	assert_false(link_up(f));
	assert_false(f->t.d->broken);
	/* What the guest sends now goes nowhere, and it hears that it is gone. */
	transmit(&f->t, NULL, nf_mac, 60, 12);
}

static void test_D_stream(void **state)
{
	static uint8_t b[3 * 4096];
	struct fix *f = *state;
	size_t n, i;

	assert_true(link_up(f));
	transmit(&f->t, NULL, nf_mac, 100, 12);
	transmit(&f->t, NULL, nf_other, 100, 12);
	transmit(&f->t, NULL, nf_mac, 1400, 7);
	stream_read(f, b, 104);
	assert_int_equal(b[3], 100);
	assert_memory_equal(b + 10, nf_mac, 6);
	stream_read(f, b, 1404); /* not what was another's */
	assert_int_equal(b[2] << 8 | b[3], 1400);

	for (i = 0; i < 8; i++)
		post(&f->t, (unsigned)i, 4096);
	n = on_wire(b, 60, 1);
	for (i = 0; i < n; i++) { /* byte by byte */
		stream_write(f, b + i, 1);
		drv_turns(&f->t, 1);
	}
	expect_frame(f, 0, 60, 1);
	n = on_wire(b, 1, 2);
	n += on_wire(b + n, 1500, 3);
	n += on_wire(b + n, 4000, 4);
	stream_write(f, b, n - 1);
	expect_frame(f, 1, 1, 2);
	expect_frame(f, 2, 1500, 3);
	stream_write(f, b + n - 1, 1);
	expect_frame(f, 3, 4000, 4);
}

static void test_D_stream_long(void **state)
{
	static uint8_t b[4 + 65553];
	struct fix *f = *state;
	uint32_t id = 0, len = 0, sum = 0, i;

	for (i = 0; i < DRV_SIZE; i++)
		post(&f->t, i, 8192);
	(void)on_wire(b, 65553, 7);
	for (i = 0; i < sizeof(b);) {
		ssize_t n = send(f->peer, b + i, sizeof(b) - i, MSG_DONTWAIT);

		if (n > 0)
			i += (uint32_t)n;
		drv_turns(&f->t, 1);
	}
	for (i = 0; sum < HDR + 65553; i++) {
		assert_true(drv_wait(&f->t, RX, &id, &len));
		sum += len;
	}
	assert_int_equal(sum, HDR + 65553);
	assert_int_equal(i, 9);
}

static void test_D_stream_lengths(void **state)
{
	static const uint32_t bad[] = {0, 65554, 0x7fffffff, 0xffffffff};
	struct fix *f = *state;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		uint32_t be = htonl(bad[i]);

		post(&f->t, 0, 2048);
		stream_write(f, &be, 4);
		expect_link_down(f);
		teardown(state);
		setup_stream(state);
		f = *state;
	}
}

static void test_D_stream_gone(void **state)
{
	struct fix *f = *state;

	close(f->peer); /* nothing is posted: it is noticed all the same */
	f->peer = -1;
	expect_link_down(f);
}

/* A peer that does not read: the queue stops, and when it reads again every byte is right and in order. */
static void test_D_stream_full(void **state)
{
	enum { FRAME = 1400 };
	struct fix *f = *state;
	struct nf head = nf_ip4(nf_ip, nf_ip_other, IPPROTO_TCP);
	static uint8_t got[4 + FRAME];
	unsigned sent = 0, done = 0, read = 0, i;
	uint32_t id, n;
	int small = 4096;

	setsockopt(f->ours, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (i = 0; i < DRV_SIZE; i++) {
		uint8_t *p = gmem_ptr(&f->t.m, TXBUF + 4096ull * i, 4096);

		memset(p, 0, HDR);
		nf_set16(&head, 16, FRAME - 14);
		memset(p + HDR, (int)i, FRAME);
		memcpy(p + HDR, head.b, head.n);
		drv_desc(&f->t, TX, i, TXBUF + 4096ull * i, HDR + FRAME, 0, 0);
		drv_offer(&f->t, TX, (uint16_t)i);
		sent++;
	}
	drv_kick(&f->t, TX);
	drv_turns(&f->t, 50);
	while (drv_used(&f->t, TX, &id, &n))
		done++;
	assert_true(done && done < sent);
	/* Its own copy is what is sent of a frame that was begun. */
	memset(gmem_ptr(&f->t.m, TXBUF + 4096ull * (done - 1), 4096), 0xee, 4096);
	for (read = 0; read < sent; read++) {
		stream_read(f, got, sizeof(got));
		assert_int_equal(got[2] << 8 | got[3], FRAME);
		assert_memory_equal(got + 4 + 6, nf_mac, 6);
		assert_int_equal(got[4 + 40], read);
		assert_int_equal(got[4 + FRAME - 1], read);
	}
	while (done < sent && drv_wait(&f->t, TX, &id, &n))
		done++;
	assert_int_equal(done, sent);
}

/* ---- a real tap ---- */

static void test_D_tap(void **state)
{
	struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				      .csum_start = 14,
				      .csum_offset = 60};
	struct tap_fix f;
	uint8_t b[2048];
	int i;

	tap_open(&f, 1);
	assert_true(f.t.d->features_offered & VIRTIO_F(VIRTIO_NET_F_HOST_TSO4));
	assert_true(f.t.d->features_offered & VIRTIO_F(VIRTIO_NET_F_GUEST_ECN));
	assert_false(f.t.d->features_offered & VIRTIO_F(VIRTIO_NET_F_MQ));
	/* A checksum outside the frame is refused before the tap sees it; a good frame arrives. */
	transmit(&f.t, &h, nf_mac, 60, 12);
	transmit(&f.t, NULL, nf_mac, 70, 12);
	assert_int_equal(tap_recv(&f, b, sizeof(b)), 70);
	/* And the other way. */
	post(&f.t, 0, 4096);
	memcpy(b, nf_mac, 6);
	memcpy(b + 6, nf_other, 6);
	assert_int_equal(send(f.sock, b, 70, 0), 70);
	for (i = 0; i < 20; i++) {
		uint32_t id = 0, len = 0;

		assert_true(drv_wait(&f.t, RX, &id, &len));
		assert_int_equal(gmem_read(&f.t.m, RXB(id) + HDR, b, 12), 0);
		if (!memcmp(b, nf_mac, 6))
			break;
		post(&f.t, 0, 4096); /* something the kernel sent by itself */
	}
	assert_true(i < 20);
	tap_close(&f);
}

static bool tap_segments(struct tap_fix *f)
{
	struct ethtool_value v = {.cmd = ETHTOOL_GTSO};
	struct ifreq ifr = {.ifr_name = "t0", .ifr_data = (char *)&v};

	assert_int_equal(ioctl(f->ctl, SIOCETHTOOL, &ifr), 0);
	return v.data;
}

/* The tap does for the next driver what that one agreed to, not what the one before did, even of a set that makes no sense. */
static void test_D_offloads_of_next_driver(void **state)
{
	const uint64_t tso = VIRTIO_F(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_F(VIRTIO_NET_F_GUEST_TSO6);
	struct tap_fix f;

	tap_open(&f, 1);
	assert_true(tap_segments(&f));
	virtio_reset(f.t.d);
	assert_int_equal(drv_start(&f.t, f.t.d, tso), 0); /* congestion, but no segments */
	assert_false(tap_segments(&f));
	virtio_reset(f.t.d);
	assert_int_equal(drv_start(&f.t, f.t.d, 0), 0);
	assert_true(tap_segments(&f));
	virtio_reset(f.t.d);
	assert_int_equal(drv_start(&f.t, f.t.d, VIRTIO_F(VIRTIO_NET_F_GUEST_CSUM)), 0);
	assert_false(tap_segments(&f));
	tap_close(&f);
}

/* D: the host puts a checksum where the header says: that must not make another frame of one that was judged. */
static void test_D_checksum_place(void **state)
{
	static const struct {
		uint16_t start, offset;
		bool good;
	} at[] = {
		{34, 16, true},                       /* TCP's own */
		{14, 12, false},                      /* over the source address */
		{0, 28, false},        {0, 6, false}, /* over the source MAC address */
		{14, 19, false},       {33, 0, false},  {34, 0, true},
		{34, 24, true},        {34, 25, false}, /* past the end */
		{65535, 65535, false},
	};
	unsigned i, bad = 0;
	struct tap_fix f;
	uint8_t b[2048];

	tap_open(&f, 1);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					      .csum_start = at[i].start,
					      .csum_offset = at[i].offset};

		transmit(&f.t, &h, nf_mac, 60, 12);
		bad += !at[i].good;
		assert_int_equal(virtio_net_dropped(f.t.d, NET_OFFLOAD), bad);
		if (at[i].good) {
			assert_int_equal(tap_recv(&f, b, sizeof(b)), 60);
			assert_memory_equal(b + 26, nf_ip, 4);
		}
	}
	tap_close(&f);
}

enum { RX1 = 2, TX1 = 3, CTRL = 4 };

static uint8_t control(struct tap_fix *f, uint8_t class, uint8_t cmd, uint16_t pairs, uint32_t len)
{
	uint8_t *p = gmem_ptr(&f->t.m, DRV_DATA, 4096), in[4] = {class, cmd};
	uint32_t id = 0, n = 0;

	memcpy(in + 2, &pairs, 2);
	memcpy(p, in, 4);
	p[100] = 0xaa;
	drv_desc(&f->t, CTRL, 0, DRV_DATA, len, N, 1);
	drv_desc(&f->t, CTRL, 1, DRV_DATA + 100, 1, W, 0);
	drv_offer(&f->t, CTRL, 0);
	drv_kick(&f->t, CTRL);
	assert_true(drv_wait(&f->t, CTRL, &id, &n));
	assert_int_equal(n, 1);
	return p[100];
}

/* Sends 12 flows to the guest and says how many frames the second pair got; all come. */
static unsigned flows(struct tap_fix *f)
{
	static unsigned round;
	unsigned i, second = 0, seen = 0;
	uint32_t id, len;

	for (i = 0; i < DRV_SIZE; i++) {
		drv_desc(&f->t, RX1, i, RXB(16 + i), 2048, W, 0);
		drv_offer(&f->t, RX1, (uint16_t)i);
		post(&f->t, i, 2048);
	}
	drv_kick(&f->t, RX1);
	round++;
	for (i = 0; i < 12; i++) {
		struct nf p = nf_ip4(nf_ip_other, nf_ip, IPPROTO_UDP);

		memcpy(p.b, nf_mac, 6);
		memcpy(p.b + 6, nf_other, 6);
		nf_udp(&p, 1000 + i * 77, 2000 + round);
		assert_int_equal(send(f->sock, p.b, p.n, 0), p.n);
	}
	for (i = 0; i < 300 && seen < 12; i++) {
		const uint8_t *b;

		while (drv_used(&f->t, RX, &id, &len)) {
			b = gmem_ptr(&f->t.m, RXB(id) + HDR, 64);
			seen += !memcmp(b, nf_mac, 6);
		}
		while (drv_used(&f->t, RX1, &id, &len)) {
			b = gmem_ptr(&f->t.m, RXB(16 + id) + HDR, 64);
			seen += !memcmp(b, nf_mac, 6);
			second += !memcmp(b, nf_mac, 6);
		}
		usleep(1000);
	}
	assert_int_equal(seen, 12);
	return second;
}

static void restart(struct tap_fix *f)
{
	virtio_reset(f->t.d);
	assert_int_equal(drv_start(&f->t, f->t.d, 0), 0);
}

/* The pair's own thread attaches it, some time after the driver has its answer. */
static void wait_attached(struct tap_fix *f)
{
	struct net_pair *p = container_of(f->t.d, struct net, dev)->pair[1];
	unsigned i;

	for (i = 0; i < 10000 && !__atomic_load_n(&p->attached, __ATOMIC_RELAXED); i++)
		usleep(1000);
}

static void test_D_multiqueue(void **state)
{
	struct tap_fix f;
	uint8_t c[12];

	tap_open(&f, 2);
	assert_int_equal(f.t.d->nqueues, 5);
	virtio_config_read(f.t.d, 0, c, 12);
	assert_int_equal(c[8] | c[9] << 8, 2);
	/* One pair until the driver says otherwise. */
	assert_int_equal(flows(&f), 0);
	restart(&f);
	assert_int_equal(control(&f, VIRTIO_NET_CTRL_MQ, 0, 0, 4), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, VIRTIO_NET_CTRL_MQ, 0, 3, 4), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, VIRTIO_NET_CTRL_MQ, 0, 65535, 4), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, VIRTIO_NET_CTRL_MQ, 0, 2, 3), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, VIRTIO_NET_CTRL_MQ, 1, 2, 4), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, VIRTIO_NET_CTRL_RX, 0, 2, 4), VIRTIO_NET_ERR);
	assert_int_equal(control(&f, VIRTIO_NET_CTRL_MQ, 0, 2, 4), VIRTIO_NET_OK);
	wait_attached(&f);
	assert_in_range(flows(&f), 1, 11);
	/* And with the reset one again. */
	restart(&f);
	assert_int_equal(flows(&f), 0);
	tap_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transmit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_transmit_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_receive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_receive_flags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_starvation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_receive_bad_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_BD_growing_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_stream, setup_stream, teardown),
		cmocka_unit_test_setup_teardown(test_D_stream_long, setup_stream, teardown),
		cmocka_unit_test_setup_teardown(test_D_stream_lengths, setup_stream, teardown),
		cmocka_unit_test_setup_teardown(test_D_stream_gone, setup_stream, teardown),
		cmocka_unit_test_setup_teardown(test_D_stream_full, setup_stream, teardown),
		cmocka_unit_test(test_D_tap),
		cmocka_unit_test(test_D_offloads_of_next_driver),
		cmocka_unit_test(test_D_checksum_place),
		cmocka_unit_test(test_D_multiqueue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
