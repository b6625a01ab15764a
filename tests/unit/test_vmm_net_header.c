// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_net_header.c - the header in front of each frame, and what frames are made of (attack class D): from a driver, offloads that were
 * not agreed on or make no sense; from the other end, frames that the driver does not take; buffers in thousands of pieces.
 */
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>

#include "tests/unit/net_tap.h"
#include "vmm/net_impl.h"

#define N      VRING_DESC_F_NEXT
#define W      VRING_DESC_F_WRITE
#define RX     0
#define TX     1
#define HDR    12
#define TXBUF  DRV_DATA
#define RXB(i) (DRV_DATA + 0x100000 + 0x20000ull * (i))
#define CSUM   VIRTIO_NET_HDR_F_NEEDS_CSUM
#define TCP4   VIRTIO_NET_HDR_GSO_TCPV4
#define UDP    VIRTIO_NET_HDR_GSO_UDP
#define ECN    VIRTIO_NET_HDR_GSO_ECN

/* A frame of 60 bytes, right but for its header h. */
static void transmit(struct drv *t, const struct virtio_net_hdr_v1 *h)
{
	struct nf f = nf_ip4(nf_ip, nf_ip_other, IPPROTO_TCP);
	uint32_t id, n;

	nf_put(&f, NULL, 26);
	nf_len(&f);
	assert_int_equal(gmem_write(&t->m, TXBUF, h, HDR), 0);
	assert_int_equal(gmem_write(&t->m, TXBUF + HDR, f.b, f.n), 0);
	drv_desc(t, TX, 0, TXBUF, HDR + (uint32_t)f.n, 0, 0);
	drv_offer(t, TX, 0);
	drv_kick(t, TX);
	assert_true(drv_wait(t, TX, &id, &n));
}

/* ---- from the guest ---- */

/* Less than a header, a header alone, less than an Ethernet header: nothing of what was there before is sent instead. */
static void test_D_runts(void **state)
{
	struct fix *f = *state;
	static uint8_t b[HDR + 60];
	static const struct virtio_net_hdr_v1 none;
	uint32_t id, n, len;

	transmit(&f->t, &none);
	assert_int_equal(peer_recv(f, b, sizeof(b)), sizeof(b));
	/* The bytes of the good one are still there, in guest memory too. */
	for (len = 0; len < HDR + 14; len++) {
		drv_desc(&f->t, TX, 0, TXBUF, len, 0, 0);
		drv_offer(&f->t, TX, 0);
		drv_kick(&f->t, TX);
		assert_true(drv_wait(&f->t, TX, &id, &n));
		assert_int_equal(n, 0);
		assert_int_equal(virtio_net_dropped(f->t.d, NET_MALFORMED), len + 1);
	}
	/* A writable buffer is no frame. */
	drv_desc(&f->t, TX, 0, TXBUF, HDR + 60, W, 0);
	drv_offer(&f->t, TX, 0);
	drv_kick(&f->t, TX);
	assert_true(drv_wait(&f->t, TX, &id, &n));
	assert_int_equal(virtio_net_dropped(f->t.d, NET_MALFORMED), HDR + 14 + 1);
	assert_int_equal(peer_recv(f, b, sizeof(b)), -1);
	assert_false(f->t.d->broken);
}

/* What has no meaning without an offload does not leave at all: the host's kernel has nothing of the guest's to look at. */
static void test_D_header_without_offload(void **state)
{
	static const struct virtio_net_hdr_v1 odd[] = {
		{.hdr_len = 77, .gso_size = 9, .csum_start = 3, .csum_offset = 4, .num_buffers = 5},
		{.flags = 0xff & ~CSUM, .csum_start = 0xffff, .csum_offset = 0xffff},
	};
	static const uint8_t zero[HDR];
	struct fix *f = *state;
	uint8_t b[HDR + 60];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(odd); i++) {
		transmit(&f->t, &odd[i]);
		assert_int_equal(peer_recv(f, b, sizeof(b)), sizeof(b));
		assert_memory_equal(b, zero, HDR);
	}
}

static void restart(struct drv *t, uint64_t without)
{
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, without), 0);
}

static void test_D_offloads(void **state)
{
	static const struct {
		const char *what;
		uint8_t flags, gso;
		uint16_t hdr_len, gso_size;
		uint64_t without; /* what is not agreed on */
		bool good;
	} cases[] = {
		{"segments", CSUM, TCP4, 54, 100, 0, true},
		{"a header as long as the frame", CSUM, TCP4, 60, 100, 0, true},
		{"longer", CSUM, TCP4, 61, 100, 0, false},
		{"as long as can be said", CSUM, TCP4, 0xffff, 100, 0, false},
		{"segments of nothing", CSUM, TCP4, 54, 0, 0, false},
		{"segments without a checksum", 0, TCP4, 54, 100, 0, false},
		{"with congestion", CSUM, TCP4 | ECN, 54, 100, 0, true},
		{"congestion alone", CSUM, ECN, 54, 100, 0, false},
		{"congestion of UDP", CSUM, UDP | ECN, 54, 100, 0, false},
		{"no kind", CSUM, 2, 54, 100, 0, false},
		{"no kind either", CSUM, 0x7f, 54, 100, 0, false},
		{"not agreed on", CSUM, TCP4, 54, 100, VIRTIO_F(VIRTIO_NET_F_HOST_TSO4), false},
		{"nor congestion", CSUM, TCP4 | ECN, 54, 100, VIRTIO_F(VIRTIO_NET_F_HOST_ECN),
		 false},
		{"nor checksums", CSUM, 0, 0, 0, VIRTIO_F(VIRTIO_NET_F_CSUM), false},
	};
	unsigned i, bad = 0;
	struct tap_fix f;

	tap_open(&f, 1);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct virtio_net_hdr_v1 h = {.flags = cases[i].flags,
					      .gso_type = cases[i].gso,
					      .hdr_len = cases[i].hdr_len,
					      .gso_size = cases[i].gso_size,
					      .csum_start = 34,
					      .csum_offset = 16};

		if (cases[i].without)
			restart(&f.t, cases[i].without);
		transmit(&f.t, &h);
		bad += !cases[i].good;
		if (virtio_net_dropped(f.t.d, NET_OFFLOAD) != bad)
			fail_msg("%s: %s", cases[i].what, cases[i].good ? "dropped" : "taken");
	}
	tap_close(&f);
}

/* ---- to the guest ---- */

static unsigned segments(const struct tap_fix *f)
{
	struct ethtool_value v = {.cmd = ETHTOOL_GTSO};
	struct ifreq ifr = {.ifr_name = "t0", .ifr_data = (char *)&v};

	assert_int_equal(ioctl(f->ctl, SIOCETHTOOL, &ifr), 0);
	return v.data;
}

/* The tap is told what this driver takes, which is not what the one before it took. */
static void test_D_tap_is_told(void **state)
{
	struct tap_fix f;

	tap_open(&f, 1);
	assert_int_equal(segments(&f), 1);
	restart(&f.t, VIRTIO_F(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_F(VIRTIO_NET_F_GUEST_TSO6) |
			      VIRTIO_F(VIRTIO_NET_F_GUEST_ECN));
	assert_int_equal(segments(&f), 0);
	restart(&f.t, 0);
	assert_int_equal(segments(&f), 1);
	restart(&f.t, VIRTIO_F(VIRTIO_NET_F_GUEST_CSUM));
	assert_int_equal(segments(&f), 0);
	tap_close(&f);
}

static void post(struct drv *t, unsigned i, uint32_t len)
{
	drv_desc(t, RX, i, RXB(i), len, W, 0);
	drv_offer(t, RX, (uint16_t)i);
}

static void send_frame(struct fix *f, const struct virtio_net_hdr_v1 *h, size_t len)
{
	static uint8_t b[HDR + 80000];

	memset(b, 0x11, sizeof(b));
	memcpy(b, h, HDR);
	memcpy(b + HDR, nf_mac, 6);
	assert_int_equal(send(f->peer, b, len, 0), len);
}

/* Only this one comes: those before it were dropped. */
static void expect_only(struct fix *f, size_t len)
{
	uint32_t id = 0, n = 0;

	assert_true(drv_wait(&f->t, RX, &id, &n));
	assert_int_equal(n, len);
	drv_turns(&f->t, 5);
	assert_false(drv_used(&f->t, RX, &id, &n));
}

static void unwanted(struct fix *f, unsigned buffers)
{
	static const struct virtio_net_hdr_v1 none,
		bad[] = {
			{.flags = CSUM, .csum_start = 34, .csum_offset = 16},
			{.gso_type = TCP4, .gso_size = 100},
			{.gso_type = VIRTIO_NET_HDR_GSO_TCPV6, .gso_size = 100},
			{.gso_type = UDP, .gso_size = 100},
			{.gso_type = NET_HDR_GSO_USO, .gso_size = 100},
			{.gso_type = ECN},
			{.gso_type = 0x7f},
		};
	unsigned i;

	for (i = 0; i < buffers; i++)
		post(&f->t, i, 8192);
	drv_kick(&f->t, RX);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		send_frame(f, &bad[i], HDR + 100);
	/* No frame at all behind its header, less than a header. */
	send_frame(f, &none, HDR);
	send_frame(f, &none, HDR - 1);
	send_frame(f, &none, 1);
	send_frame(f, &none, HDR + 77);
	expect_only(f, HDR + 77);
}

/* The other end sends what this driver has not agreed to: once read straight into its buffers, once by way of ours. */
static void test_D_receive_unwanted(void **state)
{
	unwanted(*state, DRV_SIZE);
	restart(&((struct fix *)*state)->t, 0);
	unwanted(*state, 2);
}

/* Longer than any frame, into buffers that hold just the longest. */
static void test_D_receive_too_long(void **state)
{
	static const struct virtio_net_hdr_v1 none;
	struct fix *f = *state;
	uint32_t left = HDR + NET_FRAME_MAX;
	unsigned i;

	for (i = 0; left; i++) {
		uint32_t len = MIN(left, 16384u);

		post(&f->t, i, len);
		left -= len;
	}
	drv_kick(&f->t, RX);
	send_frame(f, &none, HDR + NET_FRAME_MAX + 1000);
	send_frame(f, &none, HDR + NET_FRAME_MAX + 1);
	send_frame(f, &none, HDR + 50);
	expect_only(f, HDR + 50);
}

/* A ring as large as QEMU lets a driver have, all of it one chain of so many bytes' pieces. */
static void one_chain(struct fix *f, uint32_t size, uint32_t piece)
{
	struct virtio_dev *d = f->t.d;
	uint32_t i;

	virtio_reset(d);
	assert_int_equal(virtio_ack_features(d, d->features_offered), 0);
	d->vq[RX].max_size = VIRTQ_MAX_SIZE;
	memset(gmem_ptr(&f->t.m, DRV_DESC(RX), 0x20000), 0, 0x20000);
	for (i = 0; i < size; i++)
		drv_desc(&f->t, RX, i, RXB(0) + (uint64_t)i * piece, piece,
			 (uint16_t)(W | (i + 1 < size ? N : 0)), (uint16_t)(i + 1));
	assert_int_equal(virtio_queue_set(d, RX, size, DRV_DESC(RX), DRV_AVAIL(RX), DRV_USED(RX)),
			 0);
	assert_int_equal(virtio_activate(d), 0);
	f->t.used[RX] = 0;
}

static void offer_often(struct fix *f, uint16_t times)
{
	uint16_t *avail = gmem_ptr(&f->t.m, DRV_AVAIL(RX), 4);

	__atomic_store_n(&avail[1], times, __ATOMIC_RELEASE);
	drv_kick(&f->t, RX);
}

static void test_D_receive_pieces(void **state)
{
	static const struct virtio_net_hdr_v1 none;
	struct fix *f = *state;
	uint32_t id, len;

	/* Five times the chain of 256 pieces is more than one call to the kernel takes: a frame gets no more than that, and is dropped. */
	one_chain(f, 256, 12);
	offer_often(f, 5);
	send_frame(f, &none, HDR + 10000);
	send_frame(f, &none, HDR + 50);
	assert_true(drv_wait(&f->t, RX, &id, &len));
	assert_int_equal(len, HDR + 50);
	assert_false(f->t.d->broken);
	/* One buffer of more pieces than that is of no use to anybody. */
	one_chain(f, VIRTQ_MAX_SIZE, 12);
	offer_often(f, 1);
	send_frame(f, &none, HDR + 50);
	assert_true(drv_wait_broken(&f->t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_D_runts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_header_without_offload, setup, teardown),
		cmocka_unit_test(test_D_offloads),
		cmocka_unit_test(test_D_tap_is_told),
		cmocka_unit_test_setup_teardown(test_D_receive_unwanted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_receive_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_D_receive_pieces, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
