// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_net.c - the network card: frames both ways, receive starvation, spoofing, bad headers (attack class D). Most of it
 * on a SOCK_SEQPACKET pair in a tap's place; one test on a real tap in a network namespace of its own.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/unit/vmm_driver.h"

#define N      VRING_DESC_F_NEXT
#define W      VRING_DESC_F_WRITE
#define RX     0
#define TX     1
#define HDR    12
#define TXBUF  DRV_DATA
#define RXB(i) (DRV_DATA + 0x100000 + 0x20000ull * (i))

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1}, other[6] = {2, 0, 0, 0, 0, 2};

struct fix {
	struct drv t;
	int peer, ours;
};

static int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));
	struct vm_nic nic = {.mtu = 1400};
	int sv[2];

	drv_init(&f->t);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sv), 0);
	f->peer = sv[0];
	f->ours = nic.tap_fd = sv[1];
	memcpy(nic.mac, mac, 6);
	assert_int_equal(drv_start(&f->t, virtio_net_new(f->t.l, &f->t.m, &nic, NULL), 0), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_fini(&f->t);
	close(f->peer);
	close(f->ours);
	free(f);
	return 0;
}

static void post(struct drv *t, unsigned i, uint32_t len)
{
	drv_desc(t, RX, i, RXB(i), len, W, 0);
	drv_offer(t, RX, (uint16_t)i);
	drv_kick(t, RX);
}

/* Sends a frame of len bytes from src behind the header h (NULL: zeroes), in two descriptors split at `cut`. */
static void transmit(struct drv *t, const struct virtio_net_hdr_v1 *h, const uint8_t *src,
		     uint32_t len, uint32_t cut)
{
	uint8_t *p = gmem_ptr(&t->m, TXBUF, 0x40000);
	uint32_t id, n;

	memset(p, 0, HDR);
	if (h)
		memcpy(p, h, HDR);
	memset(p + HDR, 0x77, len);
	memcpy(p + HDR, other, MIN(len, 6));
	if (len >= 12)
		memcpy(p + HDR + 6, src, 6);
	drv_desc(t, TX, 0, TXBUF, cut, N, 1);
	drv_desc(t, TX, 1, TXBUF + cut, HDR + len - cut, 0, 0);
	drv_offer(t, TX, 0);
	drv_kick(t, TX);
	assert_true(drv_wait(t, TX, &id, &n));
}

static ssize_t peer_recv(struct fix *f, void *p, size_t len)
{
	return recv(f->peer, p, len, MSG_DONTWAIT);
}

static void test_config(void **state)
{
	struct fix *f = *state;
	uint8_t c[12];

	virtio_config_read(f->t.d, 0, c, 12);
	assert_memory_equal(c, mac, 6);
	assert_int_equal(c[10] | c[11] << 8, 1400);
	/* A socket cannot finish checksums for us. */
	assert_false(f->t.d->features_offered & VIRTIO_F(VIRTIO_NET_F_CSUM));
}

static void test_transmit(void **state)
{
	struct fix *f = *state;
	static uint8_t b[70000];

	transmit(&f->t, NULL, mac, 60, 12);
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 60);
	assert_memory_equal(b + HDR, other, 6);
	assert_memory_equal(b + HDR + 6, mac, 6);
	assert_int_equal(b[HDR + 59], 0x77);
	transmit(&f->t, NULL, mac, 1400, 5); /* the header split in two */
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 1400);
	transmit(&f->t, NULL, mac, 60, 20); /* and the Ethernet header */
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 60);
}

static void test_transmit_bad(void **state)
{
	struct fix *f = *state;
	static uint8_t b[70000];
	static const struct virtio_net_hdr_v1 bad[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		 .csum_start = 34,
		 .csum_offset = 16}, /* not negotiated */
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1000, .flags = 1},
		{.gso_type = VIRTIO_NET_HDR_GSO_UDP, .gso_size = 1000, .flags = 1},
		{.gso_type = 0x7f},
	};
	size_t i;

	transmit(&f->t, NULL, other, 60, 12); /* not its own address */
	transmit(&f->t, NULL, mac, 13, 12);   /* runts */
	transmit(&f->t, NULL, mac, 1, 12);
	transmit(&f->t, NULL, mac, 66000, 12); /* giant */
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		transmit(&f->t, &bad[i], mac, 60, 12);
	assert_int_equal(peer_recv(f, b, sizeof(b)), -1);
	/* None of it did harm. */
	transmit(&f->t, NULL, mac, 60, 12);
	assert_int_equal(peer_recv(f, b, sizeof(b)), HDR + 60);
}

static void frame(uint8_t *b, size_t len, uint8_t tag)
{
	memset(b, 0, HDR);
	memset(b + HDR, tag, len);
	memcpy(b + HDR, mac, 6);
}

static void test_receive(void **state)
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

/* No buffers: frames wait where they are, the loop does not spin, and all come when buffers do. */
static void test_starvation(void **state)
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

static void test_receive_bad_buffers(void **state)
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
static void test_growing_ring(void **state)
{
	struct fix *f = *state;
	static uint8_t b[HDR + 80];
	unsigned i, at = HDR, used;

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
	drv_turns(&f->t, 5);
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

static void test_tap(void **state)
{
	struct drv t;
	struct ifreq ifr = {.ifr_name = "t0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	struct sockaddr_ll sll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct vm_nic nic = {.mtu = 1500};
	struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				      .csum_start = 14,
				      .csum_offset = 60};
	uint8_t b[2048];
	int sock, ctl, i;
	ssize_t n = -1;

	if (unshare(CLONE_NEWNET) < 0 ||
	    (nic.tap_fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC)) < 0) {
		print_message("no network namespace or no /dev/net/tun here (%s)\n",
			      strerror(errno));
		skip();
	}
	assert_int_equal(ioctl(nic.tap_fd, TUNSETIFF, &ifr), 0);
	ctl = socket(AF_INET, SOCK_DGRAM, 0);
	ifr.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(ctl, SIOCSIFFLAGS, &ifr), 0);
	sock = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	sll.sll_ifindex = (int)if_nametoindex("t0");
	assert_int_equal(bind(sock, (struct sockaddr *)&sll, sizeof(sll)), 0);
	drv_init(&t);
	memcpy(nic.mac, mac, 6);
	assert_int_equal(drv_start(&t, virtio_net_new(t.l, &t.m, &nic, NULL), 0), 0);
	assert_true(t.d->features_offered & VIRTIO_F(VIRTIO_NET_F_HOST_TSO4));
	/* A checksum outside the frame is refused before the tap sees it; a good frame arrives. */
	transmit(&t, &h, mac, 60, 12);
	transmit(&t, NULL, mac, 70, 12);
	for (i = 0; i < 200; i++) {
		n = recv(sock, b, sizeof(b), MSG_DONTWAIT);
		if (n > 0 && !memcmp(b + 6, mac, 6))
			break;
		usleep(1000);
	}
	assert_int_equal(n, 70);
	/* And the other way. */
	post(&t, 0, 4096);
	memcpy(b, mac, 6);
	memcpy(b + 6, other, 6);
	assert_int_equal(send(sock, b, 70, 0), 70);
	for (i = 0; i < 20; i++) {
		uint32_t id = 0, len = 0;

		assert_true(drv_wait(&t, RX, &id, &len));
		assert_int_equal(gmem_read(&t.m, RXB(id) + HDR, b, 12), 0);
		if (!memcmp(b, mac, 6))
			break;
		post(&t, 0, 4096); /* something the kernel sent by itself */
	}
	assert_true(i < 20);
	drv_fini(&t);
	close(sock);
	close(ctl);
	close(nic.tap_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transmit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transmit_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_receive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_starvation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_receive_bad_buffers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_growing_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_peer_gone, setup, teardown),
		cmocka_unit_test(test_tap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
