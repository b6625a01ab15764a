// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_vhost_user.c - the vhost-user back end against front ends good and bad: a small front end drives an entropy
 * device through a ring, then each test breaks one rule and must see the connection closed and nothing else.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "tests/unit/vmm_driver.h"
#include "vmm/vhost_user.h"

#define W    VRING_DESC_F_WRITE
#define USER 0x7f0000000000ull /* where the front end says it maps the memory */

struct msg {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		uint32_t u32[2];
		struct {
			uint32_t n, pad;
			struct {
				uint64_t gpa, size, user, off;
			} r[8];
		} mem;
		struct {
			uint32_t index, flags;
			uint64_t desc, used, avail, log;
		} addr;
		struct {
			uint32_t off, size, flags;
			uint8_t b[256];
		} config;
	} p;
} __attribute__((packed));

struct fix {
	struct drv t;
	struct vhost_user *vu;
	int fd, call;
};

static int make(struct fix *f, struct virtio_dev *d)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	f->fd = sv[0];
	f->t.d = d;
	f->call = -1;
	f->vu = vhost_user_new(f->t.l, sv[1], d, &f->t.m, NULL);
	assert_non_null(f->vu);
	return 0;
}

static int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	drv_init(&f->t);
	*state = f;
	return make(f, virtio_rng_new(f->t.l, &f->t.m, NULL));
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vhost_user_free(f->vu);
	drv_fini(&f->t);
	close(f->fd);
	if (f->call >= 0)
		close(f->call);
	free(f);
	return 0;
}

static void post(struct fix *f, struct msg *m, const int *fds, size_t nfds)
{
	char ctl[CMSG_SPACE(sizeof(int) * 16)] = {0};
	struct iovec iov = {m, 12 + (size_t)MIN(m->size, (uint32_t)sizeof(m->p))};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		struct cmsghdr *c = (struct cmsghdr *)ctl;

		h.msg_control = ctl;
		h.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	assert_true(sendmsg(f->fd, &h, MSG_NOSIGNAL) > 0);
	drv_turns(&f->t, 3);
}

static struct msg msg(uint32_t request, uint32_t size)
{
	return (struct msg){.request = request, .flags = 1, .size = size};
}

static struct msg answer(struct fix *f, uint32_t request)
{
	struct msg m = {0};

	assert_true(recv(f->fd, &m, sizeof(m), MSG_DONTWAIT) >= 12);
	assert_int_equal(m.request, request);
	assert_int_equal(m.flags, 5);
	return m;
}

static void state_msg(struct fix *f, uint32_t request, uint32_t index, uint32_t num)
{
	struct msg m = msg(request, 8);

	m.p.u32[0] = index;
	m.p.u32[1] = num;
	post(f, &m, NULL, 0);
}

static void u64_msg(struct fix *f, uint32_t request, uint64_t v, int fd)
{
	struct msg m = msg(request, 8);

	m.p.u64 = v;
	post(f, &m, &fd, fd >= 0);
}

static bool closed(struct fix *f)
{
	char c;
	ssize_t n = recv(f->fd, &c, 1, MSG_DONTWAIT);

	return !n || (n < 0 && errno == ECONNRESET); /* reset: what was left unread */
}

static void mem_table(struct fix *f, uint64_t gpa, uint64_t size, uint64_t user, uint64_t off,
		      int fd)
{
	struct msg m = msg(5, 8 + 32);

	m.p.mem.n = 1;
	m.p.mem.r[0].gpa = gpa;
	m.p.mem.r[0].size = size;
	m.p.mem.r[0].user = user;
	m.p.mem.r[0].off = off;
	post(f, &m, &fd, 1);
}

static void addr_msg(struct fix *f, uint32_t index, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct msg m = msg(9, 40);

	m.p.addr.index = index;
	m.p.addr.desc = desc;
	m.p.addr.avail = avail;
	m.p.addr.used = used;
	post(f, &m, NULL, 0);
}

static void bring_up(struct fix *f, bool enable)
{
	int kick = eventfd(0, EFD_NONBLOCK);

	f->call = eventfd(0, EFD_NONBLOCK);
	memset(gmem_ptr(&f->t.m, DRV_DESC(0), 0x20000), 0, 0x20000);
	u64_msg(f, 2, f->t.d->features_offered | 1ull << 30, -1);
	mem_table(f, 0, DRV_MEM, USER, 0, f->t.m.fd);
	state_msg(f, 8, 0, DRV_SIZE);
	state_msg(f, 10, 0, 0);
	addr_msg(f, 0, USER + DRV_DESC(0), USER + DRV_AVAIL(0), USER + DRV_USED(0));
	u64_msg(f, 13, 0, f->call);
	u64_msg(f, 12, 0, kick);
	close(kick);
	if (enable)
		state_msg(f, 18, 0, 1);
}

static void test_negotiation(void **state)
{
	struct fix *f = *state;
	struct msg m = msg(1, 0);

	post(f, &m, NULL, 0);
	m = answer(f, 1);
	assert_int_equal(m.p.u64, f->t.d->features_offered | 1ull << 30);
	m = msg(15, 0);
	post(f, &m, NULL, 0);
	m = answer(f, 15);
	assert_true(m.p.u64 & 8); /* REPLY_ACK */
	u64_msg(f, 16, m.p.u64, -1);
	m = msg(17, 0);
	post(f, &m, NULL, 0);
	assert_int_equal(answer(f, 17).p.u64, 1);
	/* Asked for, every message is acknowledged. */
	m = msg(3, 0);
	m.flags |= 8;
	post(f, &m, NULL, 0);
	assert_int_equal(answer(f, 3).p.u64, 0);
	assert_false(closed(f));
}

static void test_ring(void **state)
{
	struct fix *f = *state;
	uint32_t id, len;
	uint64_t n;

	bring_up(f, false);
	drv_desc(&f->t, 0, 0, DRV_DATA, 64, W, 0);
	drv_offer(&f->t, 0, 0);
	drv_kick(&f->t, 0);
	drv_turns(&f->t, 5);
	assert_false(drv_used(&f->t, 0, &id, &len)); /* not enabled yet */
	state_msg(f, 18, 0, 1);
	assert_true(drv_wait(&f->t, 0, &id, &len));
	assert_int_equal(len, 64);
	assert_int_equal(read(f->call, &n, sizeof(n)), sizeof(n));
	/* Stopped, it tells where it was and does no more; started again there, it goes on. */
	state_msg(f, 11, 0, 0);
	assert_int_equal(answer(f, 11).p.u32[1], 1);
	drv_offer(&f->t, 0, 0);
	drv_kick(&f->t, 0);
	drv_turns(&f->t, 5);
	assert_false(drv_used(&f->t, 0, &id, &len));
	assert_false(closed(f));
}

static void test_A_config_space(void **state)
{
	struct fix *f = *state;
	struct msg m = msg(24, 12 + 8);

	vhost_user_free(f->vu);
	virtio_free(f->t.d);
	close(f->fd);
	make(f, virtio_vsock_new(f->t.l, &f->t.m, 99, NULL, NULL, NULL));
	m.p.config.size = 8;
	post(f, &m, NULL, 0);
	m = answer(f, 24);
	assert_int_equal(m.size, 20);
	assert_int_equal(m.p.config.b[0], 99);
	/* Beyond the end: zeroes, as long as asked for. */
	m = msg(24, 12 + 200);
	m.p.config.off = 4;
	m.p.config.size = 200;
	post(f, &m, NULL, 0);
	m = answer(f, 24);
	assert_int_equal(m.p.config.b[0] | m.p.config.b[199], 0);
	/* A size that does not match the message. */
	m = msg(24, 12 + 8);
	m.p.config.size = 256;
	post(f, &m, NULL, 0);
	assert_true(closed(f));
}

/* Each ends the connection; the device is reset and still there. */
static void broken_rule(struct fix *f)
{
	assert_true(closed(f));
	assert_false(f->t.d->active);
	assert_false(f->t.d->vq[0].ready);
}

static void test_A_bad_messages(void **state)
{
	struct fix *f = *state;
	static const struct {
		uint32_t request, flags, size;
	} bad[] = {
		{0, 1, 0},  {26, 1, 0},         {4, 1, 0},
		{6, 1, 8},  {UINT32_MAX, 1, 0},            /* not supported */
		{1, 0, 0},  {1, 2, 0},          {1, 5, 0}, /* version, reply */
		{1, 1, 8},  {2, 1, 0},          {2, 1, 16},
		{5, 1, 0},  {5, 1, 272},        {5, 1, UINT32_MAX},
		{9, 1, 39}, {24, 1, 11},        {24, 1, 269}, /* sizes */
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct msg m = {.request = bad[i].request,
				.flags = bad[i].flags,
				.size = bad[i].size};

		post(f, &m, NULL, 0);
		broken_rule(f);
		vhost_user_free(f->vu);
		close(f->fd);
		make(f, f->t.d);
	}
}

enum rule {
	FOREIGN_MEMORY,
	REGION_BEYOND,
	REGION_WRAPS,
	OFFSET_WRAPS,
	NO_FD,
	TOO_MANY_REGIONS,
	TOO_MANY_FDS,
	RING_INDEX,
	RING_OUTSIDE,
	RING_SIZE,
	FEATURES,
	KICK_MISSING,
	REGION_EMPTY,
	USER_WRAPS,
	TABLE_SHORT,
	FDS_SPARE,
	BASE_LARGE,
	KICK_POLLED,
	CALL_SPARE,
	PROTOCOL_FEATURES,
	RING_BELOW,
	RULES
};

static void break_rule(struct fix *f, enum rule r)
{
	int other = (int)syscall(SYS_memfd_create, "other", 0), fds[12];
	struct msg m = msg(5, 8 + 32);
	size_t i;

	assert_int_equal(ftruncate(other, DRV_MEM), 0);
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = f->t.m.fd;
	switch (r) {
	case FOREIGN_MEMORY:
		mem_table(f, 0, DRV_MEM, USER, 0, other);
		break;
	case REGION_BEYOND:
		mem_table(f, 0, DRV_MEM, USER, 4096, f->t.m.fd);
		break;
	case REGION_WRAPS:
		mem_table(f, UINT64_MAX - 4095, 8192, USER, 0, f->t.m.fd);
		break;
	case OFFSET_WRAPS:
		mem_table(f, 0, 8192, USER, UINT64_MAX - 4095, f->t.m.fd);
		break;
	case NO_FD:
		m.p.mem.n = 1;
		post(f, &m, NULL, 0);
		break;
	case TOO_MANY_REGIONS:
		m.p.mem.n = 9;
		post(f, &m, fds, 1);
		break;
	case TOO_MANY_FDS:
		m.p.mem.n = 1;
		m.p.mem.r[0].size = 4096;
		post(f, &m, fds, 12);
		break;
	case RING_INDEX:
		state_msg(f, 8, 1, 16);
		break;
	case RING_OUTSIDE:
		bring_up(f, false);
		addr_msg(f, 0, USER + DRV_MEM, USER + DRV_AVAIL(0), USER + DRV_USED(0));
		state_msg(f, 18, 0, 1);
		break;
	case RING_SIZE:
		bring_up(f, false);
		state_msg(f, 8, 0, 48);
		state_msg(f, 18, 0, 1);
		break;
	case FEATURES:
		u64_msg(f, 2, 1ull << 63, -1);
		break;
	case REGION_EMPTY:
		mem_table(f, 0, 0, USER, 0, f->t.m.fd);
		break;
	case USER_WRAPS:
		mem_table(f, 0, 8192, UINT64_MAX - 4095, 0, f->t.m.fd);
		break;
	case TABLE_SHORT: /* two regions, room for one */
		m.p.mem.n = 2;
		m.p.mem.r[0].size = m.p.mem.r[1].size = 4096;
		post(f, &m, fds, 2);
		break;
	case FDS_SPARE:
		m.p.mem.n = 1;
		m.p.mem.r[0].size = 4096;
		post(f, &m, fds, 2);
		break;
	case BASE_LARGE:
		state_msg(f, 10, 0, 65536);
		break;
	case KICK_POLLED:
		u64_msg(f, 12, 0x100, -1);
		break;
	case CALL_SPARE: /* none is said, one comes */
		u64_msg(f, 13, 0x100, f->t.m.fd);
		break;
	case PROTOCOL_FEATURES:
		u64_msg(f, 16, 1ull << 63, -1);
		break;
	case RING_BELOW:
		bring_up(f, false);
		addr_msg(f, 0, USER - 16, USER + DRV_AVAIL(0), USER + DRV_USED(0));
		state_msg(f, 18, 0, 1);
		break;
	default:
		u64_msg(f, 12, 0, -1);
		break;
	}
	close(other);
}

static void test_A_bad_tables(void **state)
{
	struct fix *f = *state;
	enum rule r;

	for (r = 0; r < RULES; r++) {
		break_rule(f, r);
		if (!closed(f))
			fail_msg("rule %d was not enforced", (int)r);
		broken_rule(f);
		vhost_user_free(f->vu);
		close(f->fd);
		if (f->call >= 0)
			close(f->call);
		make(f, f->t.d);
	}
}

/* A front end that breaks a rule, or goes, while its ring runs: nothing of the guest's is touched any more, and the next one finds a new device. */
static void test_A_ends_while_it_runs(void **state)
{
	struct fix *f = *state;
	unsigned i;

	for (i = 0; i < 2; i++) {
		uint32_t id, len;

		bring_up(f, true);
		drv_desc(&f->t, 0, 0, DRV_DATA, 64, W, 0);
		f->t.avail[0] = f->t.used[0] = 0;
		drv_offer(&f->t, 0, 0);
		drv_kick(&f->t, 0);
		assert_true(drv_wait(&f->t, 0, &id, &len));
		if (i) {
			shutdown(f->fd, SHUT_RDWR);
			drv_turns(&f->t, 3);
		} else {
			u64_msg(f, 2, 1ull << 63, -1);
		}
		broken_rule(f);
		assert_int_equal(f->t.d->features_acked, 0);
		drv_offer(&f->t, 0, 0);
		drv_kick(&f->t, 0);
		drv_turns(&f->t, 3);
		assert_false(drv_used(&f->t, 0, &id, &len));
		vhost_user_free(f->vu);
		close(f->fd);
		close(f->call);
		make(f, f->t.d);
	}
}

/* A ring inside the table but not inside memory's end: the guest's fault; the connection stays, the device rests. */
static void test_A_guest_fault(void **state)
{
	struct fix *f = *state;

	bring_up(f, false);
	addr_msg(f, 0, USER + DRV_MEM - 16, USER + DRV_AVAIL(0), USER + DRV_USED(0));
	state_msg(f, 18, 0, 1);
	assert_false(closed(f));
	assert_true(f->t.d->broken);
	assert_false(f->t.d->vq[0].ready);
}

/* Messages in single bytes are messages all the same. */
static void test_A_trickle(void **state)
{
	struct fix *f = *state;
	struct msg m = msg(2, 8);
	const char *p = (const char *)&m;
	size_t i;

	m.p.u64 = f->t.d->features_offered;
	for (i = 0; i < 20; i++) {
		assert_int_equal(send(f->fd, p + i, 1, 0), 1);
		drv_turns(&f->t, 1);
	}
	assert_int_equal(f->t.d->features_acked, f->t.d->features_offered);
}

/* However much a front end says at once, a turn of the loop is over soon; in the end all of it is answered. */
static void test_A_flood(void **state)
{
	struct fix *f = *state;
	struct msg m = msg(1, 0), in;
	unsigned sent = 0, got = 0, i;

	while (sent < 200 && send(f->fd, &m, 12, MSG_DONTWAIT | MSG_NOSIGNAL) == 12)
		sent++;
	assert_true(sent > 100);
	drv_turns(&f->t, 1);
	while (recv(f->fd, &in, 20, MSG_DONTWAIT) == 20)
		got++;
	assert_in_range(got, 1, 64);
	for (i = 0; i < 20; i++) {
		drv_turns(&f->t, 1);
		while (recv(f->fd, &in, 20, MSG_DONTWAIT) == 20)
			got++;
	}
	assert_int_equal(got, sent);
	assert_false(closed(f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_negotiation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_config_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_bad_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_bad_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_ends_while_it_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_guest_fault, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_trickle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_flood, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
