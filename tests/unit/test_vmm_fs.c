// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_fs.c - the virtio-fs device between a hostile driver and a server that may lie, hang or be gone. The server is a child
 * of the test's that answers by opcode; what real ones answer is fuse.h's. Letters A, B: attack classes.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/vmm_driver.h"
#include "vmm/fs.h"

#define N     VRING_DESC_F_NEXT
#define W     VRING_DESC_F_WRITE
#define REQ   DRV_DATA
#define REPLY (DRV_DATA + 0x400000ull)
#define FAR   (DRV_DATA + 0x800000ull)
#define HDR   sizeof(struct fuse_in_header)
#define OUT   sizeof(struct fuse_out_header)

/* What the server does with a request, by its opcode. */
enum {
	ECHO = 1,       /* the body comes back */
	SILENT = 2,     /* no reply */
	HANG = 3,       /* as ECHO, once the gate is open */
	FULL = 4,       /* all the room there is */
	LIE_LEN = 5,    /* says that it wrote more than there is */
	LIE_OTHERS = 6, /* says that it answered every slot */
	WORDS = 7,      /* writes to its socket, then as ECHO */
};

struct shared {
	unsigned gate, hanging, let_go; /* atomic */
};

struct fix {
	struct drv t;
	struct fs_channel *ch;
	pid_t server;
	struct shared *s;
};

/* ---- the server ---- */

static struct fix *srv;

/* state, len, max, reply_len of a slot: fs_channel.c's, whose head is 64 bytes. */
static uint32_t *words_of(unsigned slot)
{
	return (uint32_t *)(srv->ch->mem + 64u * slot);
}

static void lie(unsigned slot, uint32_t len)
{
	uint64_t one = 1;

	words_of(slot)[3] = len;
	__atomic_store_n(&words_of(slot)[0], 2, __ATOMIC_RELEASE);
	assert_int_equal(write(srv->ch->done_fd, &one, 8), 8);
}

static size_t echo(const struct fuse_in_header *h, size_t len, void *reply, size_t max)
{
	struct fuse_out_header o = {.len = (uint32_t)(OUT + len - HDR), .unique = h->unique};

	memcpy(reply, &o, MIN(max, OUT));
	if (max > OUT)
		memcpy((char *)reply + OUT, h + 1, MIN(max - OUT, len - HDR));
	return o.len;
}

static size_t fake(void *arg, const void *req, size_t len, void *reply, size_t max)
{
	unsigned slot = (unsigned)(uintptr_t)arg, i;
	const struct fuse_in_header *h = req;

	switch (h->opcode) {
	case SILENT:
		return 0;
	case HANG:
		__atomic_fetch_add(&srv->s->hanging, 1, __ATOMIC_SEQ_CST);
		while (!__atomic_load_n(&srv->s->gate, __ATOMIC_SEQ_CST))
			usleep(1000);
		__atomic_fetch_add(&srv->s->let_go, 1, __ATOMIC_SEQ_CST);
		return echo(h, len, reply, max);
	case FULL:
		memset(reply, 0x5a, max);
		return max;
	case LIE_LEN:
		lie(slot, UINT32_MAX);
		pause();
		return 0;
	case LIE_OTHERS:
		for (i = 0; i < FS_SLOTS; i++)
			if (i != slot)
				lie(i, 64);
		return echo(h, len, reply, max);
	case WORDS:
		if (write(srv->ch->peer, "a word\n", 7) != 7)
			_exit(1);
		return echo(h, len, reply, max);
	default:
		return echo(h, len, reply, max);
	}
}

static void *slot_thread(void *arg)
{
	fs_serve(srv->ch, (unsigned)(uintptr_t)arg, fake, arg);
}

static void serve(struct fix *f)
{
	pthread_t t;
	uintptr_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	srv = f;
	for (i = 0; i < FS_SLOTS; i++)
		if (pthread_create(&t, NULL, slot_thread, (void *)i))
			_exit(1);
	for (;;)
		pause();
}

/* ---- the driver ---- */

static int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	drv_init(&f->t);
	f->s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f->s, MAP_FAILED);
	f->ch = fs_channel_new(NULL);
	assert_non_null(f->ch);
	f->server = fork();
	if (!f->server) {
		close(f->ch->sock);
		serve(f);
	}
	close(steal_fd(&f->ch->peer));
	(void)fcntl(f->ch->sock, F_SETFL, O_NONBLOCK);
	assert_int_equal(drv_start(&f->t, virtio_fs_new(f->t.l, &f->t.m, f->ch, NULL), 0), 0);
	*state = f;
	return 0;
}

static void kill_server(struct fix *f)
{
	if (f->server <= 0)
		return;
	kill(f->server, SIGKILL);
	assert_int_equal(waitpid(f->server, NULL, 0), f->server);
	f->server = 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_fini(&f->t);
	kill_server(f);
	fs_channel_free(f->ch);
	munmap(f->s, 4096);
	free(f);
	return 0;
}

static void put_header(struct drv *t, uint64_t at, uint32_t opcode, uint64_t unique)
{
	struct fuse_in_header h = {.len = 64, .opcode = opcode, .unique = unique};

	assert_int_equal(gmem_write(&t->m, at, &h, sizeof(h)), 0);
}

/* Offers a request of len bytes (its header first) with room for `room` bytes of reply; descriptor pair n, so that several can wait
 * at once. */
static void offer(struct drv *t, unsigned q, unsigned n, uint32_t opcode, uint32_t len,
		  uint32_t room)
{
	uint64_t at = REQ + n * 0x1000, to = REPLY + n * 0x1000;
	unsigned d = 2 * n;

	put_header(t, at, opcode, 1000 + n);
	drv_desc(t, q, d, at, len, room ? N : 0, (uint16_t)(d + 1));
	if (room) {
		memset(gmem_ptr(&t->m, to, 0x1000), 0xee, 0x1000);
		drv_desc(t, q, d + 1, to, room, W, 0);
	}
	drv_offer(t, q, (uint16_t)d);
	drv_kick(t, q);
}

static struct fuse_out_header reply_at(struct drv *t, unsigned n)
{
	struct fuse_out_header o;

	assert_int_equal(gmem_read(&t->m, REPLY + n * 0x1000, &o, sizeof(o)), 0);
	return o;
}

/* The next answer is to request n, of so many bytes; its error, of what has a header. */
static int expect(struct drv *t, unsigned q, unsigned n, uint32_t want)
{
	uint32_t id = ~0u, len = ~0u;

	assert_true(drv_wait(t, q, &id, &len));
	assert_int_equal(id, 2 * n);
	assert_int_equal(len, want);
	if (want < OUT)
		return 0;
	assert_int_equal(reply_at(t, n).unique, 1000 + n);
	return reply_at(t, n).error;
}

static void expect_none(struct drv *t, unsigned q)
{
	uint32_t id, len;

	drv_turns(t, 30);
	assert_false(drv_used(t, q, &id, &len));
}

/* Until a counter of the server's is at n. */
static void wait_count(const unsigned *counter, unsigned n)
{
	uint64_t end = time_mono_us() + DRV_WAIT_MS * 1000ull;

	while (__atomic_load_n(counter, __ATOMIC_SEQ_CST) < n && time_mono_us() < end)
		usleep(1000);
	assert_int_equal(*counter, n);
}

static void wait_hanging(struct fix *f, unsigned n)
{
	wait_count(&f->s->hanging, n);
}

static void open_gate(struct fix *f, unsigned on)
{
	__atomic_store_n(&f->s->gate, on, __ATOMIC_SEQ_CST);
}

/* ---- tests ---- */

static void test_config(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	uint8_t c[40], rest[8];
	uint32_t n;

	virtio_config_read(t->d, 0, c, sizeof(c));
	assert_string_equal((char *)c, "container");
	assert_true(mem_is_zero(c + 9, 27));
	memcpy(&n, c + 36, 4);
	assert_int_equal(n, 1);
	virtio_config_read(t->d, 36, rest, sizeof(rest));
	assert_true(mem_is_zero(rest, sizeof(rest)));
	virtio_config_write(t->d, 0, "x", 1);
	virtio_config_read(t->d, 0, c, 1);
	assert_int_equal(c[0], 'c');
	assert_int_equal(t->d->nqueues, 2);
}

/* A request and its reply in pieces of odd sizes. */
static void test_pieces(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	static const uint32_t out[] = {7, 40, 1, 5000}, in[] = {3, 13, 4999, 1, 600};
	uint8_t *p = gmem_ptr(&t->m, REQ, 0x10000), *r = gmem_ptr(&t->m, REPLY, 0x10000);
	uint64_t at = REQ;
	uint32_t id, len, i, d = 0, body = 7 + 40 + 1 + 5000 - HDR;

	put_header(t, REQ, ECHO, 77);
	for (i = HDR; i < HDR + body; i++)
		p[i] = (uint8_t)(i * 7);
	for (i = 0; i < ARRAY_SIZE(out); at += out[i++], d++)
		drv_desc(t, 1, d, at, out[i], N, (uint16_t)(d + 1));
	at = REPLY;
	for (i = 0; i < ARRAY_SIZE(in); at += in[i++], d++)
		drv_desc(t, 1, d, at, in[i], W | (i + 1 < ARRAY_SIZE(in) ? N : 0),
			 (uint16_t)(d + 1));
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_true(drv_wait(t, 1, &id, &len));
	assert_int_equal(len, OUT + body);
	assert_memory_equal(r + OUT, p + HDR, body);
	assert_int_equal(((struct fuse_out_header *)r)->unique, 77);
}

/* As large as they come, and a byte more. */
static void test_large(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	uint8_t *p = gmem_ptr(&t->m, REQ, FUSE_MSG_MAX), *r = gmem_ptr(&t->m, FAR, FUSE_MSG_MAX);
	uint32_t id, len, i;

	put_header(t, REQ, FULL, 1000);
	drv_desc(t, 1, 0, REQ, FUSE_MSG_MAX, N, 1);
	drv_desc(t, 1, 1, FAR, FUSE_MSG_MAX + 4096, W, 0);
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_true(drv_wait(t, 1, &id, &len));
	assert_int_equal(len, FUSE_MSG_MAX);
	for (i = 0; i < FUSE_MSG_MAX; i += 1021)
		assert_int_equal(r[i], 0x5a);
	assert_int_equal(r[FUSE_MSG_MAX - 1], 0x5a);

	put_header(t, REQ, ECHO, 1000);
	for (i = HDR; i < FUSE_MSG_MAX; i += 4)
		memcpy(p + i, &i, 4);
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_true(drv_wait(t, 1, &id, &len));
	assert_int_equal(len, FUSE_MSG_MAX - HDR + OUT);
	assert_memory_equal(r + OUT, p + HDR, FUSE_MSG_MAX - HDR);

	drv_desc(t, 1, 0, REQ, FUSE_MSG_MAX + 1, N, 1);
	drv_desc(t, 1, 1, REPLY, 64, W, 0);
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_int_equal(expect(t, 1, 0, OUT), -EINVAL);
}

static void test_B_odd_requests(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	uint32_t id, len;

	/* A header that is not whole. Its unique is, in the second. */
	drv_desc(t, 1, 0, REQ, 7, N, 1);
	drv_desc(t, 1, 1, REPLY, 64, W, 0);
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_true(drv_wait(t, 1, &id, &len));
	assert_int_equal(len, OUT);
	assert_int_equal(reply_at(t, 0).error, -EINVAL);
	offer(t, 1, 0, ECHO, HDR - 1, 64);
	assert_int_equal(expect(t, 1, 0, OUT), -EINVAL);
	/* Nothing to read at all. */
	drv_desc(t, 1, 0, REPLY, 64, W, 0);
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_true(drv_wait(t, 1, &id, &len));
	assert_int_equal(len, OUT);
	/* No room for an answer, for a header, for all of it. */
	offer(t, 1, 0, ECHO, HDR, 0);
	expect(t, 1, 0, 0);
	offer(t, 1, 0, ECHO, HDR - 1, 0);
	expect(t, 1, 0, 0);
	offer(t, 1, 0, ECHO, HDR - 1, OUT - 1);
	expect(t, 1, 0, 0);
	offer(t, 1, 0, FULL, HDR, 5);
	expect(t, 1, 0, 5);
	assert_int_equal(*(uint8_t *)gmem_ptr(&t->m, REPLY + 5, 1), 0xee);
	/* No answer where one was expected; the high-priority queue as the other. */
	offer(t, 1, 0, SILENT, HDR, 64);
	expect(t, 1, 0, 0);
	offer(t, 0, 0, SILENT, HDR, 0);
	expect(t, 0, 0, 0);
	offer(t, 0, 0, ECHO, HDR + 9, 64);
	assert_int_equal(expect(t, 0, 0, OUT + 9), 0);
	/* Well after all that. */
	offer(t, 1, 0, ECHO, HDR, 64);
	assert_int_equal(expect(t, 1, 0, OUT), 0);
}

static void test_B_bad_chain(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;

	drv_desc(t, 1, 0, REQ, 64, N, 0);
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_true(drv_wait_broken(t));
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	offer(t, 1, 0, ECHO, HDR, 64);
	assert_int_equal(expect(t, 1, 0, OUT), 0);
}

/* All workers hang: the next request waits in the ring, a FORGET does not. */
static void test_hanging(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	uint32_t id = 0, len, seen = 0;
	unsigned i;

	for (i = 0; i < FS_WORKERS; i++)
		offer(t, 1, i, HANG, HDR + i, 64);
	wait_hanging(f, FS_WORKERS);
	offer(t, 1, FS_WORKERS, ECHO, HDR, 64);
	offer(t, 0, 7, SILENT, HDR, 0);
	expect(t, 0, 7, 0);
	expect_none(t, 1);
	open_gate(f, 1);
	for (i = 0; i <= FS_WORKERS; i++) {
		assert_true(drv_wait(t, 1, &id, &len));
		assert_int_equal(reply_at(t, id / 2).unique, 1000 + id / 2);
		seen |= 1u << (id / 2);
	}
	assert_int_equal(seen, (1u << (FS_WORKERS + 1)) - 1);
}

/* Nobody waits for a file system that hangs, and its answer goes nowhere. */
static void test_A_reset_in_flight(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	const uint8_t *r = gmem_ptr(&t->m, REPLY, 0x1000);
	uint64_t began;
	unsigned i;

	for (i = 0; i < FS_WORKERS; i++)
		offer(t, 1, i, HANG, HDR, 64);
	wait_hanging(f, FS_WORKERS);
	began = time_mono_us();
	virtio_reset(t->d);
	assert_true(time_mono_us() - began < 1000000);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	/* The slots are still with the server: this one waits for the first that comes back. */
	offer(t, 1, 5, ECHO, HDR, 64);
	expect_none(t, 1);
	open_gate(f, 1);
	assert_int_equal(expect(t, 1, 5, OUT), 0);
	expect_none(t, 1);
	for (i = 0; i < FS_WORKERS; i++)
		assert_int_equal(r[i * 0x1000], 0xee);
	/* All of them are of use again. Nobody must find the gate closed who was to find it open. */
	wait_count(&f->s->let_go, FS_WORKERS);
	open_gate(f, 0);
	for (i = 0; i < FS_WORKERS; i++)
		offer(t, 1, i, HANG, HDR, 64);
	wait_hanging(f, 2 * FS_WORKERS);
	open_gate(f, 1);
	for (i = 0; i < FS_WORKERS; i++) {
		uint32_t id, len;

		assert_true(drv_wait(t, 1, &id, &len));
	}
}

static void test_stop_in_flight(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;

	offer(t, 1, 0, HANG, HDR, 64);
	offer(t, 0, 1, HANG, HDR, 64);
	wait_hanging(f, 2);
	assert_int_equal(virtio_queue_stop(t->d, 1), 1);
	assert_int_equal(virtio_queue_start(t->d, 1, 1), 0);
	open_gate(f, 1);
	/* The other queue's answer comes; that of the one that was stopped does not, though it runs again. */
	assert_int_equal(expect(t, 0, 1, OUT), 0);
	expect_none(t, 1);
	offer(t, 1, 2, ECHO, HDR, 64);
	assert_int_equal(expect(t, 1, 2, OUT), 0);
}

static void test_freed_in_flight(void **state)
{
	struct fix *f = *state;

	offer(&f->t, 1, 0, HANG, HDR, 64);
	wait_hanging(f, 1);
}

/* The server goes: what it had and all that follows fails, and a FORGET is taken back. */
static void test_server_gone(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;

	offer(t, 1, 0, HANG, HDR, 64);
	offer(t, 0, 1, HANG, HDR, 0);
	wait_hanging(f, 2);
	kill_server(f);
	assert_int_equal(expect(t, 1, 0, OUT), -EIO);
	expect(t, 0, 1, 0);
	offer(t, 1, 2, ECHO, HDR, 64);
	assert_int_equal(expect(t, 1, 2, OUT), -EIO);
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	offer(t, 1, 3, ECHO, HDR, 64);
	assert_int_equal(expect(t, 1, 3, OUT), -EIO);
	assert_false(t->d->broken);
}

static void test_server_lies(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	uint32_t id, len;

	/* Answers to what was never asked. */
	offer(t, 1, 2, LIE_OTHERS, HDR, 64);
	assert_int_equal(expect(t, 1, 2, OUT), 0);
	expect_none(t, 1);
	expect_none(t, 0);
	offer(t, 1, 3, WORDS, HDR, 64);
	assert_int_equal(expect(t, 1, 3, OUT), 0);
	/* Longer than the slot: bounded, and then there is no room for it. */
	offer(t, 1, 0, LIE_LEN, HDR, 64);
	expect(t, 1, 0, 0);
	/* Room for all of it: what is behind the slot is not in it. By the other queue: that slot is lost. */
	put_header(t, REQ, LIE_LEN, 1000);
	drv_desc(t, 0, 0, REQ, HDR, N, 1);
	drv_desc(t, 0, 1, FAR, FUSE_MSG_MAX + 8192, W, 0);
	*(uint8_t *)gmem_ptr(&t->m, FAR + FUSE_MSG_MAX, 1) = 0xee;
	drv_offer(t, 0, 0);
	drv_kick(t, 0);
	assert_true(drv_wait(t, 0, &id, &len));
	assert_int_equal(len, FUSE_MSG_MAX);
	assert_int_equal(*(uint8_t *)gmem_ptr(&t->m, FAR + FUSE_MSG_MAX, 1), 0xee);
	/* The memory cannot be taken away under us. */
	assert_int_equal(ftruncate(f->ch->mem_fd, 0), -1);
	assert_int_equal(ftruncate(f->ch->mem_fd, 1ll << 30), -1);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_config),
		T(test_pieces),
		T(test_large),
		T(test_B_odd_requests),
		T(test_B_bad_chain),
		T(test_hanging),
		T(test_A_reset_in_flight),
		T(test_stop_in_flight),
		T(test_freed_in_flight),
		T(test_server_gone),
		T(test_server_lies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
