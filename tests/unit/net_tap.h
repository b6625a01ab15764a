/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_tap.h - network cards for tests: on a socket pair, and on a real tap in a network namespace of the test's own, where a packet socket
 * is what is at its other end.
 */
#ifndef TESTS_NET_TAP_H
#define TESTS_NET_TAP_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "core/path.h"
#include "tests/unit/net_frame.h"
#include "tests/unit/vmm_driver.h"

struct fix {
	struct drv t;
	int peer, ours;
};

static inline int setup_on(void **state, int type)
{
	struct fix *f = xcalloc(1, sizeof(*f));
	struct vm_nic nic = {.mtu = 1400, .nfds = 1};
	int sv[2];

	drv_init(&f->t);
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, sv), 0);
	f->peer = sv[0];
	f->ours = nic.fd[0] = sv[1];
	memcpy(nic.mac, nf_mac, 6);
	memcpy(nic.ip4, nf_ip, 4);
	assert_int_equal(drv_start(&f->t, virtio_net_new(f->t.l, &f->t.m, &nic, NULL), 0), 0);
	*state = f;
	return 0;
}

static inline int setup(void **state)
{
	return setup_on(state, SOCK_SEQPACKET);
}

static inline int teardown(void **state)
{
	struct fix *f = *state;

	drv_fini(&f->t);
	close(f->peer);
	close(f->ours);
	free(f);
	return 0;
}

static inline ssize_t peer_recv(struct fix *f, void *p, size_t len)
{
	return recv(f->peer, p, len, MSG_DONTWAIT);
}

struct tap_fix {
	struct drv t;
	struct vm_nic nic;
	int sock, ctl;
};

/* Skips where that cannot be. */
static inline void tap_open(struct tap_fix *f, unsigned queues)
{
	struct ifreq ifr = {.ifr_name = "t0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	struct sockaddr_ll sll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	CLEANUP_CLOSE int quiet = -1;

	f->nic = (struct vm_nic){.mtu = 1500};
	if (queues > 1)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	if (unshare(CLONE_NEWNET) < 0) {
		print_message("no network namespace here (%s)\n", strerror(errno));
		skip();
	}
	/* What the kernel would say by IPv6 of its own accord takes buffers that the test counts. */
	quiet = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (quiet >= 0)
		assert_int_equal(write(quiet, "1", 1), 1);
	for (; f->nic.nfds < queues; f->nic.nfds++) {
		int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

		if (fd < 0) {
			print_message("no /dev/net/tun here (%s)\n", strerror(errno));
			skip();
		}
		f->nic.fd[f->nic.nfds] = fd;
		assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
	}
	f->ctl = socket(AF_INET, SOCK_DGRAM, 0);
	ifr.ifr_flags = IFF_UP;
	assert_int_equal(ioctl(f->ctl, SIOCSIFFLAGS, &ifr), 0);
	f->sock = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL));
	sll.sll_ifindex = (int)if_nametoindex("t0");
	assert_int_equal(bind(f->sock, (struct sockaddr *)&sll, sizeof(sll)), 0);
	drv_init(&f->t);
	memcpy(f->nic.mac, nf_mac, 6);
	memcpy(f->nic.ip4, nf_ip, 4);
	assert_int_equal(drv_start(&f->t, virtio_net_new(f->t.l, &f->t.m, &f->nic, NULL), 0), 0);
}

static inline void tap_close(struct tap_fix *f)
{
	unsigned i;

	drv_fini(&f->t);
	close(f->sock);
	close(f->ctl);
	for (i = 0; i < f->nic.nfds; i++)
		close(f->nic.fd[i]);
}

/* The length of the next frame that came out of the card, -1 when none comes. */
static inline ssize_t tap_recv(struct tap_fix *f, uint8_t *b, size_t size)
{
	int i;

	for (i = 0; i < 200; i++) {
		ssize_t n = recv(f->sock, b, size, MSG_DONTWAIT);

		if (n > 0 && !memcmp(b + 6, nf_mac, 6))
			return n;
		usleep(1000);
	}
	return -1;
}

#endif
