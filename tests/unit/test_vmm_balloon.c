// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_balloon.c - the balloon device, as its driver uses it and as a hostile one would: what the memory's file holds tells. */
#include <fcntl.h>
#include <linux/virtio_balloon.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/unit/vmm_driver.h"

#define N      VRING_DESC_F_NEXT
#define W      VRING_DESC_F_WRITE
#define REPORT 2 /* where Linux 6.1 finds the queue; 4 is the specification's */
#define PAGE   4096u
#define BLOCK  (2u << 20)
#define DATA   (DRV_DATA + (1u << 20))

static int setup(void **state)
{
	struct drv *t = xcalloc(1, sizeof(*t));

	drv_init(t);
	*state = t;
	assert_int_equal(drv_start(t, virtio_balloon_new(t->l, &t->m, NULL), 0), 0);
	return 0;
}

static int teardown(void **state)
{
	drv_fini(*state);
	free(*state);
	return 0;
}

static uint64_t held(const struct drv *t)
{
	struct stat st;

	assert_int_equal(fstat(t->m.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void fill(struct drv *t, uint64_t gpa, uint64_t len)
{
	memset(gmem_ptr(&t->m, gpa, len), 0x5a, len);
}

static uint8_t byte_at(struct drv *t, uint64_t gpa)
{
	return *(volatile uint8_t *)gmem_ptr(&t->m, gpa, 1);
}

static void answered(struct drv *t, unsigned q, uint16_t head)
{
	uint32_t id, len;

	drv_offer(t, q, head);
	drv_kick(t, q);
	assert_true(drv_wait(t, q, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 0);
}

/* A report of two blocks: their pages are the host's again, their neighbours stay. */
static void test_report(void **state)
{
	struct drv *t = *state;
	uint64_t before = held(t);

	fill(t, DATA, 4 * BLOCK);
	assert_true(held(t) >= before + 4 * BLOCK);
	drv_desc(t, REPORT, 0, DATA, BLOCK, N | W, 1);
	drv_desc(t, REPORT, 1, DATA + 2 * BLOCK, BLOCK, W, 0);
	answered(t, REPORT, 0);
	assert_in_range(held(t), before + 2 * BLOCK, before + 2 * BLOCK + 16 * PAGE);
	assert_int_equal(byte_at(t, DATA), 0);
	assert_int_equal(byte_at(t, DATA + BLOCK - 1), 0);
	assert_int_equal(byte_at(t, DATA + BLOCK), 0x5a);
	assert_int_equal(byte_at(t, DATA + 2 * BLOCK), 0);
	assert_int_equal(byte_at(t, DATA + 3 * BLOCK), 0x5a);
	/* The guest may use it again without asking. */
	fill(t, DATA, BLOCK);
	assert_int_equal(byte_at(t, DATA + 5), 0x5a);
	/* And by the number that the specification gives the queue. */
	drv_desc(t, 4, 0, DATA, BLOCK, W, 0);
	answered(t, 4, 0);
	assert_int_equal(byte_at(t, DATA + 5), 0);
}

/* Pages that are mapped from the kernel's file go back to it: its bytes, not the guest's. */
static void test_kernel_pages(void **state)
{
	struct drv *t = *state;
	CLEANUP_CLOSE int fd = memfd_create("kernel", MFD_CLOEXEC);
	uint8_t page[PAGE], *at = gmem_ptr(&t->m, DATA, 4 * PAGE);

	memset(page, 'k', sizeof(page));
	assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	assert_ptr_equal(mmap(at + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
			      0),
			 at + PAGE);
	fill(t, DATA, 4 * PAGE);
	drv_desc(t, REPORT, 0, DATA, 3 * PAGE, W, 0);
	answered(t, REPORT, 0);
	assert_int_equal(byte_at(t, DATA), 0);
	assert_int_equal(byte_at(t, DATA + PAGE), 'k');
	assert_int_equal(byte_at(t, DATA + 2 * PAGE), 0);
	assert_int_equal(byte_at(t, DATA + 3 * PAGE), 0x5a);
	/* The file is the host's: nothing of the guest's ever came there. */
	assert_int_equal(pread(fd, page, 1, 0), 1);
	assert_int_equal(page[0], 'k');
}

/* Pieces of pages stay whole; a report without the feature is only taken back. */
static void test_B_report_edges(void **state)
{
	struct drv *t = *state;

	fill(t, DATA, 4 * PAGE);
	drv_desc(t, REPORT, 0, DATA + 1, 2 * PAGE, W, 0);
	answered(t, REPORT, 0);
	assert_int_equal(byte_at(t, DATA), 0x5a);
	assert_int_equal(byte_at(t, DATA + PAGE), 0);
	assert_int_equal(byte_at(t, DATA + 2 * PAGE), 0x5a);
	drv_desc(t, REPORT, 0, DATA, PAGE - 1, W, 0);
	answered(t, REPORT, 0);
	assert_int_equal(byte_at(t, DATA), 0x5a);
	/* In a readable buffer there is nothing to give. */
	drv_desc(t, REPORT, 0, DATA, PAGE, 0, 0);
	answered(t, REPORT, 0);
	assert_int_equal(byte_at(t, DATA), 0x5a);

	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, VIRTIO_F(VIRTIO_BALLOON_F_REPORTING)), 0);
	drv_desc(t, REPORT, 0, DATA, PAGE, W, 0);
	answered(t, REPORT, 0);
	assert_int_equal(byte_at(t, DATA), 0x5a);
}

/* The ring itself, reported: nonsense, but only the driver's own. The device sees an empty ring afterwards. */
static void test_B_report_ring(void **state)
{
	struct drv *t = *state;
	uint32_t id, len;

	drv_desc(t, REPORT, 0, DRV_DESC(REPORT), 0x20000, W, 0);
	drv_offer(t, REPORT, 0);
	drv_kick(t, REPORT);
	drv_turns(t, 5);
	(void)drv_used(t, REPORT, &id, &len);
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	test_report(state);
}

/* A large report is taken in pieces, so that the loop gets its turns; meanwhile other queues wait, and a reset ends it. */
static void test_B_report_long(void **state)
{
	struct drv *t = *state;
	const uint64_t bytes = 24u << 20;
	uint64_t before;
	uint32_t id, len;

	fill(t, DATA, bytes);
	drv_desc(t, REPORT, 0, DATA + 1, (uint32_t)bytes - 1, W, 0);
	drv_desc(t, 1, 0, DATA, 4, 0, 0);
	drv_turns(t, 3);
	before = held(t);
	drv_offer(t, REPORT, 0);
	drv_kick(t, REPORT);
	(void)loop_turn(t->l, 0, NULL);
	assert_in_range(before - held(t), PAGE, 4u << 20);
	assert_false(drv_used(t, REPORT, &id, &len));
	drv_offer(t, 1, 0);
	drv_kick(t, 1);
	assert_true(drv_wait(t, REPORT, &id, &len));
	assert_int_equal(before - held(t), bytes - PAGE);
	assert_true(drv_wait(t, 1, &id, &len));

	fill(t, DATA, bytes);
	drv_offer(t, REPORT, 0);
	drv_kick(t, REPORT);
	(void)loop_turn(t->l, 0, NULL);
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	drv_turns(t, 20);
	assert_false(drv_used(t, REPORT, &id, &len));
	assert_int_equal(byte_at(t, DATA + bytes - 1), 0x5a);
	drv_desc(t, REPORT, 0, DATA + bytes - PAGE, PAGE, W, 0);
	answered(t, REPORT, 0);
	assert_int_equal(byte_at(t, DATA + bytes - 1), 0);
	assert_int_equal(byte_at(t, DATA + bytes - PAGE - 1), 0x5a);
}

static void pfns(struct drv *t, const uint32_t *list, size_t n)
{
	assert_int_equal(gmem_write(&t->m, DRV_DATA, list, 4 * n), 0);
	drv_desc(t, 0, 0, DRV_DATA, (uint32_t)(4 * n), 0, 0);
	answered(t, 0, 0);
}

static void test_B_inflate(void **state)
{
	struct drv *t = *state;
	const uint32_t p = (uint32_t)(DATA / PAGE);
	const uint32_t list[] = {p + 3, p + 2, p + 1, p + 4, p + 9, p + 9, p + 7, p + 8};
	/* Outside memory, at the ends of what can be said, in rows that leave memory. */
	const uint32_t bad[] = {UINT32_MAX,
				0x80000000,
				(uint32_t)(DRV_MEM / PAGE),
				(uint32_t)(DRV_MEM / PAGE) - 1,
				(uint32_t)(DRV_MEM / PAGE),
				UINT32_MAX,
				0,
				p + 5};
	uint64_t before;
	unsigned i;

	fill(t, DATA, 16 * PAGE);
	before = held(t);
	pfns(t, list, ARRAY_SIZE(list));
	assert_int_equal(held(t), before + PAGE - 7 * PAGE); /* and the list's own */
	for (i = 0; i < 16; i++)
		assert_int_equal(byte_at(t, DATA + i * PAGE),
				 i == 0 || i == 5 || i == 6 || i > 9 ? 0x5a : 0);
	fill(t, 0, PAGE);
	pfns(t, bad, ARRAY_SIZE(bad));
	assert_false(t->d->broken);
	assert_int_equal(byte_at(t, DATA + 5 * PAGE), 0);
	/* Giving pages back asks for nothing. */
	drv_desc(t, 1, 0, DRV_DATA, sizeof(list), 0, 0);
	answered(t, 1, 0);
	/* Lists of odd lengths, and without any number. */
	for (i = 0; i < 8; i++) {
		drv_desc(t, 0, 0, DRV_DATA, i, 0, 0);
		answered(t, 0, 0);
	}
	drv_desc(t, 0, 0, DRV_DATA, 64, W, 0);
	answered(t, 0, 0);
}

/* However long a list is, what it costs is bounded: the loop has other things to do. */
static void test_B_inflate_endless(void **state)
{
	struct drv *t = *state;
	uint32_t *list = gmem_ptr(&t->m, DATA, 8u << 20), i;
	const uint32_t p = (uint32_t)((DATA + (8u << 20)) / PAGE);

	fill(t, DATA + (8u << 20), 2 * PAGE);
	for (i = 0; i < (8u << 20) / 4; i++)
		list[i] = UINT32_MAX;
	list[0] = p;
	list[4096] = p + 1;
	for (i = 0; i < 15; i++)
		drv_desc(t, 0, i, DATA, 8u << 20, i < 14 ? N : 0, (uint16_t)(i + 1));
	/* Nor is it done in one turn. */
	drv_turns(t, 3);
	drv_offer(t, 0, 0);
	drv_kick(t, 0);
	(void)loop_turn(t->l, 0, NULL);
	assert_int_equal(t->d->vq[0].used_idx, 0);
	assert_true(drv_wait(t, 0, &i, &i));
	assert_int_equal(byte_at(t, DATA + (8u << 20)), 0);
	fill(t, DATA + (8u << 20), PAGE);
	answered(t, 0, 0);
	assert_int_equal(byte_at(t, DATA + (8u << 20)), 0);
	assert_int_equal(byte_at(t, DATA + (8u << 20) + PAGE), 0x5a);
}

static void test_want(void **state)
{
	struct drv *t = *state;
	uint32_t v = 0, gen = t->d->config_gen;
	uint64_t wide;

	virtio_balloon_want(t->d, 5u << 20);
	assert_int_not_equal(t->d->config_gen, gen);
	virtio_config_read(t->d, 0, &v, 4);
	assert_int_equal(v, (5u << 20) / PAGE);
	v = 7;
	virtio_config_write(t->d, 4, &v, 4);
	assert_int_equal(virtio_balloon_given(t->d), 7 * PAGE);
	/* The wish is not the driver's to change, nor is anything behind the two numbers there. */
	virtio_config_write(t->d, 0, &v, 4);
	virtio_config_write(t->d, 1, &v, 4);
	virtio_config_write(t->d, 6, &v, 4);
	virtio_config_read(t->d, 0, &wide, 8);
	assert_int_equal(wide, 7ull << 32 | (5u << 20) / PAGE);
	virtio_config_read(t->d, 4, &wide, 8);
	assert_int_equal(wide, 0);
	virtio_balloon_want(t->d, UINT64_MAX);
	virtio_config_read(t->d, 0, &v, 4);
	assert_int_equal(v, UINT32_MAX);
	virtio_reset(t->d);
	assert_int_equal(virtio_balloon_given(t->d), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_report, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kernel_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_report_edges, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_report_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_report_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_inflate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_B_inflate_endless, setup, teardown),
		cmocka_unit_test_setup_teardown(test_want, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
