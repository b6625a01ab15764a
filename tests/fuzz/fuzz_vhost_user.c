// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_vhost_user.c - the vhost-user back end. Hostile: the front end, a QEMU that its guest took over: messages of any
 * kind, size and order, descriptors of any kind and number with them. Memory that is not the machine's own must never
 * become part of the view, and nothing that was passed may stay open.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "tests/fuzz/fuzz_virtio.h"
#include "vmm/vhost_user.h"

#define USER 0x7f0000000000ull

static struct guest g;
static int other, kick, null_fd;

static void send_msg(int fd, uint32_t *msg, size_t len, unsigned fds, unsigned kind)
{
	union {
		char room[CMSG_SPACE(sizeof(int) * 12)];
		struct cmsghdr align;
	} ctl = {0};
	struct iovec iov = {msg, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	int pass[] = {g.m.fd, kick, other, null_fd}, list[12];
	unsigned i;

	if (!len)
		return;
	for (i = 0; i < fds; i++)
		list[i] = pass[kind % ARRAY_SIZE(pass)];
	if (fds) {
		struct cmsghdr *c = &ctl.align;

		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * fds);
		memcpy(CMSG_DATA(c), list, sizeof(int) * fds);
	}
	(void)sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static uint64_t ring_addr(struct fz *f, uint64_t sane)
{
	uint8_t how = fz_u8(f);

	return how < 200 ? USER + sane : how < 240 ? USER + fz_u32(f) : fz_u64(f);
}

/* A message whose size fits its kind, unless the input says otherwise. */
static void message(int fd, struct fz *f)
{
	uint8_t req = fz_u8(f), how = fz_u8(f), fds = fz_u8(f);
	uint32_t msg[3 + 128] = {req % 28u, 1, 8};
	uint64_t *p = (uint64_t *)(void *)(msg + 3), v[40] = {0};
	unsigned nfds = 0, i, n;

	switch (msg[0]) {
	case 2: /* features */
		v[0] = how & 1 ? fz_u64(f) : g.d->features_offered | 1ull << 30;
		break;
	case 5: /* memory */
		n = how & 1 ? fz_u8(f) % 12 : 1;
		v[0] = n;
		for (i = 0; i < n && i < 8; i++) {
			v[1 + 4 * i] = how & 2 ? fz_u32(f) : 0;
			v[2 + 4 * i] = how & 4 ? fz_u64(f) : GUEST_LOW;
			v[3 + 4 * i] = how & 8 ? fz_u64(f) : USER;
			v[4 + 4 * i] = how & 16 ? fz_u64(f) : 0;
		}
		msg[2] = 8 + 32 * n;
		nfds = MIN(n, 12u);
		break;
	case 9:
		v[0] = how & 1 ? fz_u8(f) : 0;
		v[1] = ring_addr(f, GUEST_RING(0));
		v[2] = ring_addr(f, GUEST_USED(0));
		v[3] = ring_addr(f, GUEST_AVAIL(0));
		msg[2] = 40;
		break;
	case 12:
	case 13:
	case 14:
		v[0] = how & 1 ? fz_u16(f) : 0;
		nfds = 1;
		fds |= 1; /* an eventfd, mostly */
		break;
	case 1:
	case 3:
	case 15:
	case 17:
		msg[2] = 0;
		break;
	case 24:
	case 25:
		v[0] = fz_u8(f) | (uint64_t)(fz_u16(f) % 300) << 32;
		msg[2] = 12 + (uint32_t)(v[0] >> 32);
		break;
	default: /* index and number, or 64 bits */
		v[0] = (how & 1 ? fz_u8(f) : 0) | (uint64_t)(how & 2   ? fz_u32(f)
							     : how & 4 ? 16
								       : 1)
							  << 32;
		if (msg[0] == 16)
			v[0] = how & 1 ? fz_u64(f) : 8;
	}
	if (how & 32)
		msg[1] = fz_u8(f);
	if (how & 64)
		msg[2] = fz_u16(f);
	if (fds & 0x80)
		nfds = fds >> 3 & 7;
	memcpy(p, v, sizeof(v));
	n = MIN(12 + msg[2], (uint32_t)sizeof(msg));
	if (how & 128) { /* in two pieces */
		i = fz_u8(f) % (n + 1);
		send_msg(fd, msg, i, nfds, fds);
		(void)loop_turn(g.l, 0, NULL);
		send_msg(fd, (uint32_t *)(void *)((char *)msg + i), n - i, 0, 0);
	} else {
		send_msg(fd, msg, n, nfds, fds);
	}
}

static void view_check(void)
{
	const struct gmem *m = g.d->mem;
	unsigned i;

	for (i = 0; i < m->nregions; i++) {
		const uint8_t *start = g.m.regions[0].hva, *p = m->regions[i].hva;

		FUZZ_CHECK(p >= start && m->regions[i].size <= GUEST_LOW + GUEST_HIGH &&
			   p + m->regions[i].size <= start + GUEST_LOW + GUEST_HIGH);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	guest_init(&g);
	other = fuzz_memfd("not the machine's", 17);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = {data, size};
	struct vhost_user *vu;
	int sv[2];
	unsigned n;
	char drain[4096];
	uint64_t before = fuzz_open_fds();

	memset(g.m.regions[0].hva, 0, GUEST_LOW + GUEST_HIGH);
	guest_take(&g, virtio_rng_new(g.l, &g.m, NULL));
	g.size[0] = 16;
	g.avail[0] = 0;
	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	vu = vhost_user_new(g.l, sv[1], g.d, &g.m, NULL);
	FUZZ_CHECK(vu);
	for (n = 0; f.n && n < GUEST_OPS; n++) {
		if (f.p[0] >= 0xe0) { /* the guest goes on meanwhile */
			fz_u8(&f);
			guest_step(&g, &f);
		} else {
			message(sv[0], &f);
		}
		(void)loop_turn(g.l, 0, NULL);
		while (recv(sv[0], drain, sizeof(drain), MSG_DONTWAIT) > 0)
			;
		view_check();
	}
	if (size & 1)
		vhost_user_finish(vu);
	vhost_user_free(vu);
	virtio_free(g.d);
	g.d = NULL;
	(void)loop_turn(g.l, 0, NULL);
	close(sv[0]);
	FUZZ_CHECK(fuzz_open_fds() == before);
	return 0;
}
