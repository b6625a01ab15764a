// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_console.c - the console device: what a guest writes comes out, in bounded pieces and turns (attack class F). */
#include "tests/unit/vmm_driver.h"

#define W  VRING_DESC_F_WRITE
#define N  VRING_DESC_F_NEXT
#define RX 0
#define TX 1

struct fix {
	struct drv t;
	unsigned calls, more; /* chains to offer from within the call */
	size_t bytes, longest;
	char last[16];
	bool free_it;
};

static void on_output(void *arg, const void *p, size_t len)
{
	struct fix *f = arg;

	f->calls++;
	f->bytes += len;
	f->longest = MAX(f->longest, len);
	memcpy(f->last, p, MIN(len, sizeof(f->last)));
	if (f->more) {
		f->more--;
		drv_offer(&f->t, TX, 0);
	}
	if (f->free_it)
		virtio_free(STEAL(f->t.d));
}

static int setup(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));

	drv_init(&f->t);
	assert_int_equal(drv_start(&f->t, virtio_console_new(f->t.l, &f->t.m, on_output, f, NULL),
				   0),
			 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_fini(&f->t);
	free(f);
	return 0;
}

static void say(struct fix *f, uint32_t len, uint16_t flags)
{
	uint32_t id, n;

	drv_desc(&f->t, TX, 0, DRV_DATA, len, flags, 0);
	drv_offer(&f->t, TX, 0);
	drv_kick(&f->t, TX);
	assert_true(drv_wait(&f->t, TX, &id, &n));
	assert_int_equal(n, 0);
}

static void test_output(void **state)
{
	struct fix *f = *state;

	memcpy(gmem_ptr(&f->t.m, DRV_DATA, 8), "hello\n", 6);
	say(f, 6, 0);
	assert_int_equal(f->bytes, 6);
	assert_memory_equal(f->last, "hello\n", 6);
	/* Nothing, and a buffer to write into, are no output; nothing comes the other way. */
	say(f, 0, 0);
	say(f, 64, W);
	assert_int_equal(f->calls, 1);
	drv_desc(&f->t, RX, 0, DRV_DATA, 64, W, 0);
	drv_offer(&f->t, RX, 0);
	drv_kick(&f->t, RX);
	drv_turns(&f->t, 5);
	assert_false(drv_used(&f->t, RX, &(uint32_t){0}, &(uint32_t){0}));
	assert_false(f->t.d->broken);
}

/* F: of one buffer a bounded part is taken, however long it is. */
static void test_F_piece(void **state)
{
	struct fix *f = *state;
	unsigned i;

	say(f, 32u << 20, 0);
	assert_in_range(f->bytes, 1, 64 << 10);
	f->bytes = 0;
	/* Nor of a chain of them. */
	for (i = 0; i < DRV_SIZE; i++)
		drv_desc(&f->t, TX, i, DRV_DATA, 1u << 20, i + 1 < DRV_SIZE ? N : 0,
			 (uint16_t)(i + 1));
	drv_offer(&f->t, TX, 0);
	drv_kick(&f->t, TX);
	assert_true(drv_wait(&f->t, TX, &(uint32_t){0}, &(uint32_t){0}));
	assert_in_range(f->bytes, 1, 64 << 10);
	assert_in_range(f->longest, 1, 64 << 10);
}

/* F: output without end, for each buffer that is taken another, has its turns like anything else. */
static void test_F_turn(void **state)
{
	struct fix *f = *state;

	f->more = 1000;
	drv_desc(&f->t, TX, 0, DRV_DATA, 64, 0, 0);
	drv_offer(&f->t, TX, 0);
	f->t.d->ops->queue_kick(f->t.d, TX);
	assert_in_range(f->calls, 1, 64);
	drv_turns(&f->t, 100);
	assert_int_equal(f->calls, 1001);
	assert_int_equal(f->bytes, 1001 * 64);
}

/* F: who takes the output may have enough of the machine. */
static void test_F_freed(void **state)
{
	struct fix *f = *state;

	f->free_it = true;
	f->more = 10;
	drv_desc(&f->t, TX, 0, DRV_DATA, 64, 0, 0);
	drv_offer(&f->t, TX, 0);
	drv_kick(&f->t, TX);
	drv_turns(&f->t, 5);
	assert_int_equal(f->calls, 1);
	assert_null(f->t.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_output, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_piece, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_F_freed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
