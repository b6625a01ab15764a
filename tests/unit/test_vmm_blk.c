// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/* test_vmm_blk.c - the disk device: segments, read-only, ranges, hostile requests (attack class C). */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/unit/vmm_driver.h"

#define N      VRING_DESC_F_NEXT
#define W      VRING_DESC_F_WRITE
#define HDR    DRV_DATA
#define STATUS (DRV_DATA + 0x100)
#define BUF    (DRV_DATA + 0x1000)

struct fix {
	struct drv t;
	int fd[2];
};

static int temp(size_t bytes)
{
	int fd = (int)syscall(SYS_memfd_create, "disk", 0);
	size_t i;

	assert_true(fd >= 0);
	for (i = 0; i < bytes; i++) {
		uint8_t b = (uint8_t)(i / 512 + i % 7);

		assert_int_equal(pwrite(fd, &b, 1, (off_t)i), 1);
	}
	return fd;
}

/* Read-only: 3 sectors of file 0 from byte 512, 2 of file 0 from its start, 700 bytes of file 1 (2 sectors). */
static int setup_ro(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));
	struct vm_segment segs[3];
	struct vm_disk d = {.segs = segs,
			    .nsegs = 3,
			    .readonly = true,
			    .serial = "twenty-bytes-exactly"};

	drv_init(&f->t);
	f->fd[0] = temp(4096);
	f->fd[1] = temp(700);
	segs[0] = (struct vm_segment){f->fd[0], 512, 1536};
	segs[1] = (struct vm_segment){f->fd[0], 0, 1024};
	segs[2] = (struct vm_segment){f->fd[1], 0, 700};
	assert_int_equal(drv_start(&f->t, virtio_blk_new(f->t.l, &f->t.m, &d, NULL), 0), 0);
	*state = f;
	return 0;
}

static int setup_rw(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));
	struct vm_segment segs[2];
	struct vm_disk d = {.segs = segs, .nsegs = 2, .serial = "rw"};

	drv_init(&f->t);
	f->fd[0] = temp(8192);
	f->fd[1] = temp(8192);
	segs[0] = (struct vm_segment){f->fd[0], 0, 8192};
	segs[1] = (struct vm_segment){f->fd[1], 4096, 4096};
	assert_int_equal(drv_start(&f->t, virtio_blk_new(f->t.l, &f->t.m, &d, NULL), 0), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_fini(&f->t);
	close(f->fd[0]);
	close(f->fd[1]);
	free(f);
	return 0;
}

/* One request with a data part of len bytes at BUF; returns the status byte, *used the used length. */
static int request(struct drv *t, uint32_t type, uint64_t sector, uint32_t len, bool data_in,
		   uint32_t *used)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};
	uint8_t *status = gmem_ptr(&t->m, STATUS, 1);
	uint32_t id = 0, n = 0;

	*status = 0xee;
	assert_int_equal(gmem_write(&t->m, HDR, &h, sizeof(h)), 0);
	drv_desc(t, 0, 0, HDR, 16, N, len ? 1 : 2);
	if (len)
		drv_desc(t, 0, 1, BUF, len, N | (data_in ? W : 0), 2);
	drv_desc(t, 0, 2, STATUS, 1, W, 0);
	drv_offer(t, 0, 0);
	drv_kick(t, 0);
	assert_true(drv_wait(t, 0, &id, &n));
	assert_int_equal(id, 0);
	if (used)
		*used = n;
	return *status;
}

static uint8_t byte_of(size_t i)
{
	return (uint8_t)(i / 512 + i % 7);
}

static void test_read_segments(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	struct virtio_blk_config cfg;
	uint8_t *p = gmem_ptr(&t->m, BUF, 8192);
	uint32_t used, i;

	virtio_config_read(t->d, 0, &cfg, 60);
	assert_int_equal(cfg.capacity, 7);
	assert_int_equal(cfg.blk_size, 512);
	assert_true(t->d->features_offered & VIRTIO_F(VIRTIO_BLK_F_RO));
	memset(p, 0xaa, 8192);
	assert_int_equal(request(t, VIRTIO_BLK_T_IN, 0, 7 * 512, true, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 7 * 512 + 1);
	for (i = 0; i < 1536; i++)
		assert_int_equal(p[i], byte_of(i + 512));
	for (i = 0; i < 1024; i++)
		assert_int_equal(p[1536 + i], byte_of(i));
	for (i = 0; i < 700; i++)
		assert_int_equal(p[2560 + i], byte_of(i));
	for (i = 700; i < 1024; i++)
		assert_int_equal(p[2560 + i], 0); /* padding of the last sector */
	assert_int_equal(p[7 * 512], 0xaa);

	/* One sector in the middle of the second segment. */
	assert_int_equal(request(t, VIRTIO_BLK_T_IN, 4, 512, true, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(p[0], byte_of(512));
}

static void test_ranges(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	static const struct {
		uint64_t sector;
		uint32_t len;
	} bad[] = {
		{7, 512},
		{6, 1024},
		{UINT64_MAX, 512},
		{UINT64_MAX / 512, 512},
		{UINT64_MAX / 512 + 1, 512},
		{1ull << 55, 512},
		{0, 511},
		{0, 8 * 512},
		{0, 1},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(request(t, VIRTIO_BLK_T_IN, bad[i].sector, bad[i].len, true, NULL),
				 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_IN, 6, 512, true, NULL), VIRTIO_BLK_S_OK);
}

static void test_readonly(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	struct virtio_blk_discard_write_zeroes r = {.num_sectors = 1};
	uint8_t before[4096], after[4096];

	assert_int_equal(pread(f->fd[0], before, 4096, 0), 4096);
	assert_int_equal(gmem_write(&t->m, BUF, &r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_DISCARD, 0, sizeof(r), false, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof(r), false, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	/* Not even when the driver did not take the RO feature. */
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, VIRTIO_F(VIRTIO_BLK_F_RO)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(pread(f->fd[0], after, 4096, 0), 4096);
	assert_memory_equal(before, after, 4096);
}

static void test_odd_requests(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	uint8_t *p = gmem_ptr(&t->m, BUF, 64), *status = gmem_ptr(&t->m, STATUS, 1);
	uint32_t id, len;

	assert_int_equal(request(t, 77, 0, 512, true, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(t, VIRTIO_BLK_T_GET_ID, 0, 20, true, &len), VIRTIO_BLK_S_OK);
	assert_int_equal(len, 21);
	assert_memory_equal(p, "twenty-bytes-exactly", 20);
	assert_int_equal(request(t, VIRTIO_BLK_T_GET_ID, 0, 19, true, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_IN, 0, 0, true, NULL), VIRTIO_BLK_S_OK);
	/* A header of 15 bytes. */
	drv_desc(t, 0, 0, HDR, 15, N, 2);
	drv_desc(t, 0, 2, STATUS, 1, W, 0);
	drv_offer(t, 0, 0);
	drv_kick(t, 0);
	assert_true(drv_wait(t, 0, &id, &len));
	assert_int_equal(*status, VIRTIO_BLK_S_IOERR);
	/* No place for the status: nothing can be answered. */
	drv_desc(t, 0, 0, HDR, 16, 0, 0);
	drv_offer(t, 0, 0);
	drv_kick(t, 0);
	assert_true(drv_wait_broken(t));
}

/* The file shrinks under us: an error, not a hang or old memory. */
static void test_truncated(void **state)
{
	struct fix *f = *state;

	assert_int_equal(ftruncate(f->fd[0], 600), 0);
	assert_int_equal(request(&f->t, VIRTIO_BLK_T_IN, 0, 1024, true, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&f->t, VIRTIO_BLK_T_IN, 5, 1024, true, NULL), VIRTIO_BLK_S_OK);
}

static void test_write(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	uint8_t *p = gmem_ptr(&t->m, BUF, 8192), got[4096];

	memset(p, 0x5a, 8192);
	/* Across the boundary of the segments: sectors 15 and 16. */
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 15, 1024, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(request(t, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd[0], got, 512, 7680), 512);
	assert_memory_equal(got, p, 512);
	assert_int_equal(pread(f->fd[1], got, 1024, 4096 - 512), 1024);
	assert_int_equal(got[511], byte_of(4095)); /* before the segment: untouched */
	assert_memory_equal(got + 512, p, 512);
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 23, 1024, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 24, 512, false, NULL), VIRTIO_BLK_S_IOERR);
}

static void test_clear(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	struct virtio_blk_discard_write_zeroes r[17] = {{.sector = 8, .num_sectors = 16}};
	uint8_t got[8192], zero[4096] = {0};
	struct stat st;

	assert_int_equal(gmem_write(&t->m, BUF, r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd[0], got, 8192, 0), 8192);
	assert_memory_equal(got + 4096, zero, 4096);
	assert_int_equal(got[4095], byte_of(4095));
	assert_int_equal(pread(f->fd[1], got, 8192, 0), 8192);
	assert_memory_equal(got + 4096, zero, 4096);
	assert_int_equal(got[4095], byte_of(4095));
	assert_int_equal(fstat(f->fd[1], &st), 0);
	assert_int_equal(st.st_size, 8192);

	r[0] = (struct virtio_blk_discard_write_zeroes){.sector = 1, .num_sectors = 2};
	assert_int_equal(gmem_write(&t->m, BUF, r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->fd[0], got, 4096, 0), 4096);
	assert_memory_equal(got + 512, zero, 1024);
	assert_int_equal(got[511], byte_of(511));
	assert_int_equal(got[1536], byte_of(1536));

	/* Beyond the end, wrapping, unknown flags, part of a range, too many ranges, none. */
	r[0] = (struct virtio_blk_discard_write_zeroes){.sector = 23, .num_sectors = 2};
	assert_int_equal(gmem_write(&t->m, BUF, r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_IOERR);
	r[0] = (struct virtio_blk_discard_write_zeroes){.sector = UINT64_MAX, .num_sectors = 2};
	assert_int_equal(gmem_write(&t->m, BUF, r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL),
			 VIRTIO_BLK_S_IOERR);
	r[0] = (struct virtio_blk_discard_write_zeroes){.sector = 0, .num_sectors = UINT32_MAX};
	assert_int_equal(gmem_write(&t->m, BUF, r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL),
			 VIRTIO_BLK_S_IOERR);
	r[0] = (struct virtio_blk_discard_write_zeroes){.sector = 0, .num_sectors = 1, .flags = 1};
	assert_int_equal(gmem_write(&t->m, BUF, r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_DISCARD, 0, 16, false, NULL), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(t, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(request(t, VIRTIO_BLK_T_DISCARD, 0, 15, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_DISCARD, 0, 16 * 17, false, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(t, VIRTIO_BLK_T_DISCARD, 0, 0, false, NULL), VIRTIO_BLK_S_IOERR);
}

/* Resets while requests are queued: no completion appears afterwards, and the device works again. */
static void test_reset_busy(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	struct virtio_blk_outhdr h = {.type = VIRTIO_BLK_T_IN};
	uint32_t id, len;
	unsigned i, k;

	for (i = 0; i < 200; i++) {
		assert_int_equal(gmem_write(&t->m, HDR, &h, sizeof(h)), 0);
		drv_desc(t, 0, 0, HDR, 16, N, 1);
		drv_desc(t, 0, 1, BUF, 4096, N | W, 2);
		drv_desc(t, 0, 2, STATUS, 1, W, 0);
		for (k = 0; k < DRV_SIZE; k++)
			drv_offer(t, 0, 0);
		drv_kick(t, 0);
		virtio_reset(t->d);
		memset(gmem_ptr(&t->m, DRV_USED(0), 256), 0, 256);
		assert_int_equal(drv_start(t, t->d, 0), 0);
		assert_false(drv_used(t, 0, &id, &len));
	}
	assert_int_equal(request(t, VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_OK);
}

static void test_bad_config(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	struct vm_segment odd[2] = {{0, 0, 700}, {0, 0, 512}}, wrap = {0, UINT64_MAX - 100, 512};
	struct vm_disk d = {.segs = odd, .nsegs = 2, .readonly = true};

	assert_null(virtio_blk_new(t->l, &t->m, &d, NULL)); /* padding inside the disk */
	d.nsegs = 1;
	d.readonly = false;
	assert_null(virtio_blk_new(t->l, &t->m, &d, NULL)); /* writable padding */
	d.segs = &wrap;
	assert_null(virtio_blk_new(t->l, &t->m, &d, NULL));
	d.nsegs = 0;
	assert_null(virtio_blk_new(t->l, &t->m, &d, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read_segments, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_ranges, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_readonly, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_odd_requests, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup_rw, teardown),
		cmocka_unit_test_setup_teardown(test_clear, setup_rw, teardown),
		cmocka_unit_test_setup_teardown(test_reset_busy, setup_rw, teardown),
		cmocka_unit_test_setup_teardown(test_bad_config, setup_ro, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
