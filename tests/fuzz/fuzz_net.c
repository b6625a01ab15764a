// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_net.c - the network card. Hostile: transmitted frames, their vnet headers and addresses, receive buffers of any
 * shape. What leaves must have the card's own source address and no offload that was not agreed on. A datagram socket
 * stands for the tap; frames of any length come in on it.
 */
#include <linux/virtio_net.h>
#include <sys/socket.h>

#include "tests/fuzz/fuzz_virtio.h"

static struct guest g;
static int wire, tap;
static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
static uint8_t frame[70000];

static void look_at_wire(void)
{
	struct virtio_net_hdr_v1 h;
	ssize_t n;

	while ((n = recv(wire, frame, sizeof(frame), MSG_DONTWAIT)) >= 0) {
		FUZZ_CHECK(n >= (ssize_t)sizeof(h) + 14);
		memcpy(&h, frame, sizeof(h));
		FUZZ_CHECK(!memcmp(frame + sizeof(h) + 6, mac, 6));
		FUZZ_CHECK(!h.flags && !h.gso_type); /* a socket offers no offloads */
	}
}

static void host(struct guest *guest, struct fz *f)
{
	size_t n = fz_u16(f) % 20000;
	struct fz bytes = fz_take(f, 32);

	look_at_wire();
	memset(frame, 0xa5, n);
	memcpy(frame, bytes.p, MIN(bytes.n, n));
	(void)send(wire, frame, n, MSG_DONTWAIT);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct vm_nic nic = {.mtu = 1500};
	int sv[2];

	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	memcpy(nic.mac, mac, 6);
	nic.tap_fd = tap = sv[0];
	wire = sv[1];
	guest_init(&g);
	guest_take(&g, virtio_net_new(g.l, &g.m, &nic, NULL));
	g.host = host;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	guest_run(&g, data, size);
	look_at_wire();
	while (recv(tap, frame, sizeof(frame), MSG_DONTWAIT) >= 0)
		; /* what the card did not take */
	return 0;
}
