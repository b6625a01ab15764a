// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_virtq.c - guest memory, and split queues against drivers that break the rules (attack classes A and B). */
#include <fcntl.h>
#include <pthread.h>

#include "tests/unit/vmm_driver.h"

#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT

static int setup(void **state)
{
	struct drv *t = xcalloc(1, sizeof(*t));

	drv_init(t);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct drv *t = *state;

	drv_fini(t);
	free(t);
	return 0;
}

static void test_B_gmem(void **state)
{
	struct drv *t = *state;
	struct gmem big;

	assert_non_null(gmem_ptr(&t->m, 0, DRV_MEM));
	assert_null(gmem_ptr(&t->m, 0, DRV_MEM + 1));
	assert_null(gmem_ptr(&t->m, 0, 0));
	assert_null(gmem_ptr(&t->m, DRV_MEM, 1));
	assert_null(gmem_ptr(&t->m, DRV_MEM - 1, 2));
	assert_null(gmem_ptr(&t->m, UINT64_MAX, 1));
	assert_null(gmem_ptr(&t->m, 1, UINT64_MAX));
	assert_null(gmem_ptr(&t->m, UINT64_MAX - 7, 16));
	assert_int_equal(gmem_write(&t->m, DRV_MEM - 1, "ab", 2), -1);

	/* Memory over 3 GiB continues at 4 GiB, and the hole is no memory. */
	assert_int_equal(gmem_new(5ull << 30, &big, NULL), 0);
	assert_int_equal(big.nregions, 2);
	assert_non_null(gmem_ptr(&big, GMEM_LOW_END - 1, 1));
	assert_null(gmem_ptr(&big, GMEM_LOW_END, 1));
	assert_null(gmem_ptr(&big, GMEM_LOW_END - 1, 2));
	assert_null(gmem_ptr(&big, GMEM_HIGH_START - 1, 2));
	assert_non_null(gmem_ptr(&big, GMEM_HIGH_START, 2ull << 30));
	assert_null(gmem_ptr(&big, GMEM_HIGH_START, (2ull << 30) + 1));
	/* Whoever else has its file can neither cut it short under us nor make it grow, nor take that back; a hole is what a balloon makes. */
	assert_int_equal(ftruncate(big.fd, 0), -1);
	assert_int_equal(ftruncate(big.fd, 6ll << 30), -1);
	assert_int_equal(fallocate(big.fd, 0, 5ll << 30, 4096), -1);
	assert_int_equal(fcntl(big.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(fallocate(big.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	gmem_free(&big);
	assert_int_equal(gmem_new(0, &big, NULL), -1);
	assert_int_equal(gmem_new(4095, &big, NULL), -1);
}

static struct virtq queue(uint32_t size)
{
	return (struct virtq){.max_size = 256,
			      .size = (uint16_t)size,
			      .desc = DRV_DESC(0),
			      .avail = DRV_AVAIL(0),
			      .used = DRV_USED(0),
			      .indirect = true};
}

static void test_A_ring_addresses(void **state)
{
	struct drv *t = *state;
	struct virtq q;
	static const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} bad[] = {
		{0, 0x1000, 0x2000, 0x3000},
		{3, 0x1000, 0x2000, 0x3000},
		{512, 0x1000, 0x2000, 0x3000}, /* above max_size */
		{16, 0x1008, 0x2000, 0x3000},  /* alignment of each */
		{16, 0x1000, 0x2001, 0x3000},
		{16, 0x1000, 0x2000, 0x3002},
		{16, DRV_MEM, 0x2000, 0x3000},      /* outside */
		{16, DRV_MEM - 16, 0x2000, 0x3000}, /* crossing the end */
		{16, 0x1000, DRV_MEM - 2, 0x3000},
		{16, 0x1000, 0x2000, DRV_MEM - 4},
		{16, DRV_MEM - 16 * 15, 0x2000, 0x3000}, /* but for the last entry */
		{16, 0x1000, DRV_MEM - 4, 0x3000},       /* but for the entries */
		{16, 0x1000, DRV_MEM - 36, 0x3000}, /* but for the last word, the event index */
		{16, 0x1000, 0x2000, DRV_MEM - 132},
		{16, UINT64_MAX & ~15ull, 0x2000, 0x3000}, /* wrapping */
		{16, 0x1000, UINT64_MAX & ~1ull, 0x3000},
		{16, 0x1000, 0x2000, UINT64_MAX & ~3ull},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		q = queue(bad[i].size);
		q.desc = bad[i].desc;
		q.avail = bad[i].avail;
		q.used = bad[i].used;
		assert_int_equal(virtq_start(&q, &t->m, 0), -1);
		assert_false(q.ready);
	}
	q = queue(16);
	assert_int_equal(virtq_start(&q, &t->m, 0), 0);
	/* Exactly at the end of memory is fine. */
	q.desc = DRV_MEM - 16 * 16;
	assert_int_equal(virtq_start(&q, &t->m, 0), 0);
	q.avail = DRV_MEM - 38;
	assert_int_equal(virtq_start(&q, &t->m, 0), 0);
	q.used = DRV_MEM - 136;
	assert_int_equal(virtq_start(&q, &t->m, 0), 0);
}

static void test_A_frozen(void **state)
{
	struct drv *t = *state;
	struct virtio_dev *d = virtio_rng_new(t->l, &t->m, NULL);

	assert_int_equal(virtio_queue_set(d, 0, 0, 0, 0, 0), -1);
	assert_int_equal(virtio_queue_set(d, 0, 48, 0, 0, 0), -1);
	assert_int_equal(virtio_queue_set(d, 0, 65536 + 16, 0, 0, 0), -1);
	assert_int_equal(virtio_queue_set(d, 1, 16, 0, 0, 0), -1);
	assert_int_equal(virtio_queue_set(d, UINT32_MAX, 16, 0, 0, 0), -1);
	assert_int_equal(virtio_kick_fd(d, 7), -1);
	assert_int_equal(virtio_ack_features(d, VIRTIO_F(63)), -1);
	assert_int_equal(drv_start(t, d, 0), 0);
	/* After DRIVER_OK neither rings nor features change. */
	assert_int_equal(virtio_queue_set(d, 0, 8, 0x1000, 0x2000, 0x3000), -1);
	assert_int_equal(d->vq[0].desc, DRV_DESC(0));
	assert_int_equal(d->vq[0].size, DRV_SIZE);
	assert_int_equal(virtio_ack_features(d, 0), -1);
	virtio_reset(d);
	assert_int_equal(d->vq[0].size, 0);
	/* Activating with rings outside memory breaks the device, until it is reset. */
	assert_int_equal(virtio_queue_set(d, 0, 16, DRV_MEM, DRV_AVAIL(0), DRV_USED(0)), 0);
	assert_int_equal(virtio_activate(d), -1);
	assert_true(d->broken && d->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	virtio_reset(d);
	assert_false(d->broken || d->status);
	assert_int_equal(drv_start(t, d, 0), 0);
}

static void test_A_config_bounds(void **state)
{
	struct drv *t = *state;
	struct virtio_dev *d = virtio_vsock_new(t->l, &t->m, 77, NULL, NULL, NULL);
	uint8_t b[16];

	t->d = d;
	virtio_config_read(d, 0, b, 8);
	assert_int_equal(b[0], 77);
	memset(b, 0xff, sizeof(b));
	virtio_config_read(d, 4, b, 8); /* past the end: zeroes */
	assert_int_equal(b[0] | b[7], 0);
	memset(b, 0xff, sizeof(b));
	virtio_config_read(d, UINT64_MAX - 3, b, 8); /* wraps */
	assert_int_equal(b[0] | b[7], 0);
	virtio_config_write(d, UINT64_MAX - 3, b, 8);
	virtio_config_write(d, 0, b, 8);
	virtio_config_read(d, 0, b, 8);
	assert_int_equal(b[0], 77);
}

/* Offers the one chain at head and pops it. */
static int pop(struct drv *t, struct virtq *q, struct virtq_chain *c, uint16_t head)
{
	memset(gmem_ptr(&t->m, DRV_AVAIL(0), 64), 0, 64);
	memset(gmem_ptr(&t->m, DRV_USED(0), 256), 0, 256);
	t->avail[0] = 0;
	assert_int_equal(virtq_start(q, &t->m, 0), 0);
	drv_offer(t, 0, head);
	return virtq_pop(q, &t->m, c);
}

static void test_B_chain_good(void **state)
{
	struct drv *t = *state;
	struct virtq q = queue(DRV_SIZE);
	static struct virtq_chain c;
	char buf[8];

	drv_desc(t, 0, 3, DRV_DATA, 10, N, 5);
	drv_desc(t, 0, 5, DRV_DATA + 100, 0, N, 1); /* empty: allowed, carries nothing */
	drv_desc(t, 0, 1, DRV_DATA + 200, 6, N, 2);
	drv_desc(t, 0, 2, DRV_DATA + 300, 5, W, 99);
	assert_int_equal(pop(t, &q, &c, 3), 1);
	assert_int_equal(c.head, 3);
	assert_int_equal(c.nout, 2);
	assert_int_equal(c.nin, 1);
	assert_int_equal(c.out_len, 16);
	assert_int_equal(c.in_len, 5);
	memcpy(gmem_ptr(&t->m, DRV_DATA, 10), "0123456789", 10);
	memcpy(gmem_ptr(&t->m, DRV_DATA + 200, 6), "abcdef", 6);
	assert_int_equal(virtq_read_out(&c, 8, buf, 8), 8);
	assert_memory_equal(buf, "89abcdef", 8);
	assert_int_equal(virtq_read_out(&c, 12, buf, 8), 4);
	assert_int_equal(virtq_read_out(&c, 16, buf, 8), 0);
	assert_int_equal(virtq_write_in(&c, 3, "xyz", 3), 2);
	assert_memory_equal(gmem_ptr(&t->m, DRV_DATA + 303, 2), "xy", 2);
	assert_int_equal(virtq_pop(&q, &t->m, &c), 0);

	/* The same through an indirect table. */
	drv_desc_at(t, DRV_DATA + 0x1000, 0, DRV_DATA, 10, N, 1);
	drv_desc_at(t, DRV_DATA + 0x1000, 1, DRV_DATA + 300, 5, W, 0);
	drv_desc(t, 0, 0, DRV_DATA + 0x1000, 32, I, 0);
	assert_int_equal(pop(t, &q, &c, 0), 1);
	assert_int_equal(c.out_len, 10);
	assert_int_equal(c.in_len, 5);

	/* A chain of exactly the queue's size. */
	for (unsigned i = 0; i < DRV_SIZE; i++)
		drv_desc(t, 0, i, DRV_DATA + i, 1, i + 1 < DRV_SIZE ? N : 0, (uint16_t)(i + 1));
	assert_int_equal(pop(t, &q, &c, 0), 1);
	assert_int_equal(c.nout, DRV_SIZE);
}

static void test_B_chain_bad(void **state)
{
	struct drv *t = *state;
	struct virtq q = queue(DRV_SIZE);
	static struct virtq_chain c;
	unsigned i;
	static const struct {
		const char *what;
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} one[] = {
		{"next outside the table", DRV_DATA, 4, N, DRV_SIZE},
		{"next far outside", DRV_DATA, 4, N, 65535},
		{"loop to itself", DRV_DATA, 4, N, 0},
		{"outside memory", DRV_MEM, 4, 0, 0},
		{"crossing the end", DRV_MEM - 2, 4, 0, 0},
		{"wrapping", UINT64_MAX - 1, 4, 0, 0},
		{"length of 4 GiB", DRV_DATA, UINT32_MAX, 0, 0},
		{"indirect, empty", DRV_DATA, 0, I, 0},
		{"indirect, not whole entries", DRV_DATA, 24, I, 0},
		{"indirect, outside", DRV_MEM, 32, I, 0},
		{"indirect, huge", DRV_DATA, 0xfffffff0, I, 0},
		{"indirect and next", DRV_DATA + 0x1000, 32, I | N, 1},
	};

	for (i = 0; i < ARRAY_SIZE(one); i++) {
		drv_desc(t, 0, 0, one[i].addr, one[i].len, one[i].flags, one[i].next);
		if (pop(t, &q, &c, 0) != -1)
			fail_msg("accepted: %s", one[i].what);
	}
	assert_int_equal(pop(t, &q, &c, DRV_SIZE), -1); /* head outside */
	assert_int_equal(pop(t, &q, &c, 65535), -1);

	/* A loop of two. */
	drv_desc(t, 0, 0, DRV_DATA, 4, N, 1);
	drv_desc(t, 0, 1, DRV_DATA, 4, N, 0);
	assert_int_equal(pop(t, &q, &c, 0), -1);
	/* Readable after writable. */
	drv_desc(t, 0, 0, DRV_DATA, 4, N | W, 1);
	drv_desc(t, 0, 1, DRV_DATA, 4, 0, 0);
	assert_int_equal(pop(t, &q, &c, 0), -1);
	/* Nested indirect tables. */
	drv_desc_at(t, DRV_DATA + 0x1000, 0, DRV_DATA + 0x2000, 16, I, 0);
	drv_desc_at(t, DRV_DATA + 0x2000, 0, DRV_DATA, 4, 0, 0);
	drv_desc(t, 0, 0, DRV_DATA + 0x1000, 16, I, 0);
	assert_int_equal(pop(t, &q, &c, 0), -1);
	/* An indirect chain longer than the queue, and one that leaves its table. */
	for (i = 0; i < 2 * DRV_SIZE; i++)
		drv_desc_at(t, DRV_DATA + 0x1000, i, DRV_DATA, 4, i + 1 < 2 * DRV_SIZE ? N : 0,
			    (uint16_t)(i + 1));
	drv_desc(t, 0, 0, DRV_DATA + 0x1000, 16 * 2 * DRV_SIZE, I, 0);
	assert_int_equal(pop(t, &q, &c, 0), -1);
	drv_desc(t, 0, 0, DRV_DATA + 0x1000, 16 * 4, I, 0);
	assert_int_equal(pop(t, &q, &c, 0), -1);
	/* Indirect without having negotiated it. */
	q.indirect = false;
	drv_desc_at(t, DRV_DATA + 0x1000, 0, DRV_DATA, 4, 0, 0);
	drv_desc(t, 0, 0, DRV_DATA + 0x1000, 16, I, 0);
	assert_int_equal(pop(t, &q, &c, 0), -1);
	q.indirect = true;
	assert_int_equal(pop(t, &q, &c, 0), 1);
	/* More than VIRTQ_MAX_BYTES, all of it the same memory. */
	for (i = 0; i < 9; i++)
		drv_desc(t, 0, i, 0, (uint32_t)DRV_MEM, i < 8 ? N : 0, (uint16_t)(i + 1));
	assert_int_equal(pop(t, &q, &c, 0), -1);
	/* avail->idx further ahead than the queue is long. */
	drv_desc(t, 0, 0, DRV_DATA, 4, 0, 0);
	t->avail[0] = DRV_SIZE;
	q.last_avail = 0;
	drv_offer(t, 0, 0);
	assert_int_equal(virtq_pop(&q, &t->m, &c), -1);
}

/* A buffer that is the ring itself: nonsense, but only the driver's own. */
static void test_B_alias(void **state)
{
	struct drv *t = *state;
	struct virtq q = queue(DRV_SIZE);
	static struct virtq_chain c;
	static uint8_t junk[4096];

	memset(junk, 0xa5, sizeof(junk));
	drv_desc(t, 0, 0, DRV_DESC(0), sizeof(junk), W, 0);
	assert_int_equal(pop(t, &q, &c, 0), 1);
	virtq_write_in(&c, 0, junk, sizeof(junk));
	virtq_push(&q, c.head, sizeof(junk));
	virtq_publish(&q);
	drv_offer(t, 0, 1);
	assert_int_equal(virtq_pop(&q, &t->m, &c), -1);
}

struct flip {
	struct drv *t;
	bool stop;
};

static void *flipper(void *arg)
{
	struct flip *f = arg;
	uint64_t *d = gmem_ptr(&f->t->m, DRV_DESC(0), 16);

	while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED)) {
		__atomic_store_n(&d[0], DRV_DATA, __ATOMIC_RELAXED);
		__atomic_store_n(&d[1], 64, __ATOMIC_RELAXED);
		__atomic_store_n(&d[0], DRV_MEM - 8, __ATOMIC_RELAXED);
		__atomic_store_n(&d[1], 64 | (uint64_t)W << 32, __ATOMIC_RELAXED);
		__atomic_store_n(&d[0], UINT64_MAX, __ATOMIC_RELAXED);
		__atomic_store_n(&d[1], 0xffffffff, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* A descriptor rewritten while it is read: whatever comes out lies inside memory. */
static void test_B_race(void **state)
{
	struct drv *t = *state;
	struct virtq q = queue(DRV_SIZE);
	static struct virtq_chain c;
	struct flip f = {.t = t};
	unsigned i, good = 0, bad = 0;
	pthread_t th;

	drv_desc(t, 0, 0, DRV_DATA, 64, 0, 0);
	assert_int_equal(pop(t, &q, &c, 0), 1);
	assert_int_equal(pthread_create(&th, NULL, flipper, &f), 0);
	for (i = 0; i < 300000; i++) {
		q.last_avail = 0;
		if (virtq_pop(&q, &t->m, &c) < 0) {
			bad++;
			continue;
		}
		good++;
		if (c.nout + c.nin) {
			const uint8_t *p = c.iov[0].iov_base, *base = t->m.regions[0].hva;

			assert_true(p >= base && p + c.iov[0].iov_len <= base + DRV_MEM);
		}
	}
	__atomic_store_n(&f.stop, true, __ATOMIC_RELAXED);
	pthread_join(th, NULL);
	assert_int_equal(good + bad, 300000);
}

static void test_notify(void **state)
{
	struct drv *t = *state;
	struct virtq q = queue(DRV_SIZE);
	static struct virtq_chain c;
	uint16_t *avail = gmem_ptr(&t->m, DRV_AVAIL(0), 64),
		 *used = gmem_ptr(&t->m, DRV_USED(0), 256);

	drv_desc(t, 0, 0, DRV_DATA, 4, 0, 0);
	assert_int_equal(pop(t, &q, &c, 0), 1);
	virtq_push(&q, 0, 0);
	assert_int_equal(used[1], 0); /* not before it is published */
	virtq_publish(&q);
	assert_int_equal(used[1], 1);
	assert_true(virtq_should_notify(&q));
	avail[0] = VRING_AVAIL_F_NO_INTERRUPT;
	assert_false(virtq_should_notify(&q));

	/* With event indices: an interrupt when used passes used_event, and then not again. */
	q.event_idx = true;
	assert_int_equal(pop(t, &q, &c, 0), 1);
	avail[2 + DRV_SIZE] = 2;
	virtq_push(&q, 0, 0);
	virtq_publish(&q);
	assert_true(virtq_should_notify(&q)); /* the first one always */
	virtq_push(&q, 0, 0);
	virtq_publish(&q);
	assert_false(virtq_should_notify(&q));
	virtq_push(&q, 0, 0);
	virtq_publish(&q);
	assert_true(virtq_should_notify(&q));
	assert_false(virtq_should_notify(&q));

	/* And asking for kicks sees what came in meanwhile. */
	assert_false(virtq_want_kick(&q, true));
	assert_int_equal(used[2 + 4 * DRV_SIZE], 1);
	drv_offer(t, 0, 0);
	assert_true(virtq_want_kick(&q, true));
}

static void test_F_rng(void **state)
{
	struct drv *t = *state;
	uint32_t id, len, i;
	uint8_t *p = gmem_ptr(&t->m, DRV_DATA, 8192), sum = 0;

	assert_int_equal(drv_start(t, virtio_rng_new(t->l, &t->m, NULL), 0), 0);
	drv_desc(t, 0, 4, DRV_DATA, 8192, W, 0);
	drv_offer(t, 0, 4);
	drv_kick(t, 0);
	assert_true(drv_wait(t, 0, &id, &len));
	assert_int_equal(id, 4);
	assert_int_equal(len, 4096); /* a request's cost is bounded */
	for (i = 0; i < 4096; i++)
		sum |= p[i];
	assert_int_equal(sum, 0xff);
	assert_int_equal(p[4096], 0);
	/* A bad chain takes it out of service; a reset brings it back. */
	drv_desc(t, 0, 5, DRV_MEM, 16, W, 0);
	drv_offer(t, 0, 5);
	drv_kick(t, 0);
	assert_true(drv_wait_broken(t));
	drv_offer(t, 0, 4);
	drv_kick(t, 0);
	drv_turns(t, 5);
	assert_false(drv_used(t, 0, &id, &len));
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	drv_desc(t, 0, 4, DRV_DATA, 16, W, 0);
	drv_offer(t, 0, 4);
	drv_kick(t, 0);
	assert_true(drv_wait(t, 0, &id, &len));
}

/* Nor does a ring full of requests keep the loop: some are served, then it is others' turn, then the rest. */
static void test_F_rng_turn(void **state)
{
	struct drv *t = *state;
	struct virtio_dev *d = virtio_rng_new(t->l, &t->m, NULL);
	uint16_t *avail = gmem_ptr(&t->m, DRV_AVAIL(0), 4 + 2 * 64), *used;

	assert_non_null(d);
	t->d = d;
	assert_int_equal(virtio_ack_features(d, d->features_offered), 0);
	assert_int_equal(virtio_queue_set(d, 0, 64, DRV_DESC(0), DRV_AVAIL(0), DRV_USED(0)), 0);
	assert_int_equal(virtio_activate(d), 0);
	drv_desc(t, 0, 0, DRV_DATA, 16, W, 0);
	avail[1] = 64; /* each of them is the one at 0 */
	d->ops->queue_kick(d, 0);
	used = gmem_ptr(&t->m, DRV_USED(0), 4);
	assert_in_range(used[1], 1, 32);
	drv_turns(t, 10);
	assert_int_equal(used[1], 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_B_gmem, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_ring_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_frozen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_A_config_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_chain_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_chain_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_alias, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notify, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_rng, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_rng_turn, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
