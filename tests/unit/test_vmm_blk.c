// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vmm_blk.c - the disk device: segments, read-only, ranges, hostile requests (attack class C), and the same through
 * io_uring and on hosts that have none.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <linux/virtio_blk.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "tests/unit/vmm_driver.h"
#include "vmm/uring.c" /* instead of the library's: a test submits what it never would */

#define N      VRING_DESC_F_NEXT
#define W      VRING_DESC_F_WRITE
#define HDR    DRV_DATA
#define STATUS (DRV_DATA + 0x100)
#define BUF    (DRV_DATA + 0x1000)

struct fix {
	struct drv t;
	int fd[2];
};

/* On a disk where that is possible, so that there is a page cache that may not have it. */
static int temp(size_t bytes)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	size_t i;

	if (fd < 0)
		fd = (int)syscall(SYS_memfd_create, "disk", 0);

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

static void test_C_ranges(void **state)
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

static void test_C_readonly(void **state)
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

static void test_BC_odd_requests(void **state)
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
static void test_C_truncated(void **state)
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

/* Counts; the device calls this one. */
static unsigned syncs;

int fdatasync(int fd)
{
	__atomic_add_fetch(&syncs, 1, __ATOMIC_RELAXED);
	return (int)syscall(SYS_fdatasync, fd);
}

/* A driver that never flushes: what it is told of is on the disk. One that does is not held up by each write. */
static void test_without_flush(void **state)
{
	struct drv *t = &((struct fix *)*state)->t;
	struct virtio_blk_discard_write_zeroes r = {.sector = 1, .num_sectors = 1};

	syncs = 0;
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, 2); /* files */
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, VIRTIO_F(VIRTIO_BLK_F_FLUSH)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, 2);
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, 4);
	assert_int_equal(gmem_write(&t->m, BUF, &r, sizeof(r)), 0);
	assert_int_equal(request(t, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false, NULL),
			 VIRTIO_BLK_S_OK);
	assert_int_equal(syncs, 6);
	assert_int_equal(request(t, VIRTIO_BLK_T_OUT, 1 << 20, 512, false, NULL),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(syncs, 6);
}

static void test_C_clear(void **state)
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

/* What one range may cost is bounded, as the driver is told, whatever the disk's size. */
static void test_C_clear_too_long(void **state)
{
	struct vm_segment seg = {.fd = temp(512), .len = 3ull << 30};
	struct vm_disk d = {.segs = &seg, .nsegs = 1, .serial = "long"};
	struct virtio_blk_discard_write_zeroes r = {0};
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	struct virtio_blk_config cfg;
	struct drv t;
	size_t i;

	assert_int_equal(ftruncate(seg.fd, (off_t)seg.len), 0);
	drv_init(&t);
	assert_int_equal(drv_start(&t, virtio_blk_new(t.l, &t.m, &d, NULL), 0), 0);
	virtio_config_read(t.d, 0, &cfg, 60);
	assert_int_equal(cfg.max_discard_sectors, 1u << 21);
	assert_int_equal(cfg.max_write_zeroes_sectors, 1u << 21);
	assert_int_equal(cfg.max_discard_seg, 16);
	assert_int_equal(cfg.max_write_zeroes_seg, 1);
	for (i = 0; i < 16; i++)
		assert_int_equal(gmem_write(&t.m, BUF + i * sizeof(r), &r, sizeof(r)), 0);
	for (i = 1; i <= 17; i++) {
		assert_int_equal(request(&t, VIRTIO_BLK_T_DISCARD, 0, i * sizeof(r), false, NULL),
				 i <= 16 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
		assert_int_equal(request(&t, VIRTIO_BLK_T_WRITE_ZEROES, 0, i * sizeof(r), false,
					 NULL),
				 i == 1 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
	}
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		r.num_sectors = (1u << 21) + 1;
		assert_int_equal(gmem_write(&t.m, BUF, &r, sizeof(r)), 0);
		assert_int_equal(request(&t, types[i], 0, sizeof(r), false, NULL),
				 VIRTIO_BLK_S_IOERR);
	}
	r.num_sectors = 1u << 21;
	assert_int_equal(gmem_write(&t.m, BUF, &r, sizeof(r)), 0);
	assert_int_equal(request(&t, VIRTIO_BLK_T_DISCARD, 0, sizeof(r), false, NULL),
			 VIRTIO_BLK_S_OK);
	drv_fini(&t);
	close(seg.fd);
}

/* Resets while requests are queued: no completion appears afterwards, and the device works again. */
static void test_AC_reset_busy(void **state)
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

/* ---- several queues, and requests in company ---- */

#define QUEUES     4
#define DEEP       5 /* requests of three descriptors each that fit a ring of DRV_SIZE */
#define SLOT(q, i) (DRV_DATA + 0x100000ull * (q) + 0x10000ull * (i))
#define DISK_BYTES (1u << 20)

static int setup_deep(void **state)
{
	struct fix *f = xcalloc(1, sizeof(*f));
	struct vm_segment seg;
	struct vm_disk d = {.segs = &seg, .nsegs = 1, .serial = "deep", .queues = QUEUES};

	drv_init(&f->t);
	f->fd[0] = temp(DISK_BYTES);
	f->fd[1] = -1;
	seg = (struct vm_segment){f->fd[0], 0, DISK_BYTES};
	assert_int_equal(drv_start(&f->t, virtio_blk_new(f->t.l, &f->t.m, &d, NULL), 0), 0);
	*state = f;
	return 0;
}

/* Offers one request without a kick; its status byte is 0xee until it is done. */
static void offer(struct drv *t, unsigned q, unsigned i, uint32_t type, uint64_t sector,
		  uint32_t len)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};
	uint16_t head = (uint16_t)(3 * i);
	uint8_t wait = 0xee;

	assert_int_equal(gmem_write(&t->m, SLOT(q, i), &h, sizeof(h)), 0);
	assert_int_equal(gmem_write(&t->m, SLOT(q, i) + 0x100, &wait, 1), 0);
	drv_desc(t, q, head, SLOT(q, i), 16, N, (uint16_t)(head + (len ? 1 : 2)));
	drv_desc(t, q, head + 1u, SLOT(q, i) + 0x1000, len, N | (type == VIRTIO_BLK_T_IN ? W : 0),
		 (uint16_t)(head + 2));
	drv_desc(t, q, head + 2u, SLOT(q, i) + 0x100, 1, W, 0);
	drv_offer(t, q, head);
}

static uint8_t status_of(struct drv *t, unsigned q, unsigned i)
{
	return *(volatile uint8_t *)gmem_ptr(&t->m, SLOT(q, i) + 0x100, 1);
}

static uint8_t *data_of(struct drv *t, unsigned q, unsigned i)
{
	return gmem_ptr(&t->m, SLOT(q, i) + 0x1000, 0x8000);
}

static void take_all(struct drv *t, unsigned q, unsigned n)
{
	uint32_t id, len;

	while (n--)
		assert_true(drv_wait(t, q, &id, &len));
}

/* How often /proc/self/<what> names an io_uring: descriptors of rings that were made, mappings of those in use. */
static unsigned rings(const char *what)
{
	CLEANUP_FREE char *cmd = xasprintf("/proc/self/%s", what), *line = NULL;
	size_t room = 0;
	unsigned n = 0;
	FILE *f = fopen(cmd, "r");

	assert_non_null(f);
	while (getline(&line, &room, f) > 0)
		n += strstr(line, "[io_uring]") != NULL;
	fclose(f);
	return n;
}

/* Reads, writes and flushes in company on all queues; what they do is what they would do alone. */
static void deep_work(struct fix *f, bool expect_ring)
{
	struct drv *t = &f->t;
	uint8_t got[4096];
	unsigned q, i, k;

	assert_int_equal(rings("maps"), 0); /* none before it is needed */
	/* Not in the page cache, if the file system can be talked into that. */
	(void)fdatasync(f->fd[0]);
	(void)posix_fadvise(f->fd[0], 0, 0, POSIX_FADV_DONTNEED);
	/* All at once: a worker that is still awake would find the first of them alone. */
	virtio_pause(t->d);
	for (q = 0; q < QUEUES; q++) {
		for (i = 0; i < DEEP; i++) {
			memset(data_of(t, q, i), 0xaa, 8192);
			offer(t, q, i, VIRTIO_BLK_T_IN, 64 * q + 8 * i, 4096);
		}
	}
	virtio_resume(t->d);
	for (q = 0; q < QUEUES; q++)
		drv_kick(t, q);
	for (q = 0; q < QUEUES; q++) {
		take_all(t, q, DEEP);
		for (i = 0; i < DEEP; i++) {
			assert_int_equal(status_of(t, q, i), VIRTIO_BLK_S_OK);
			for (k = 0; k < 4096; k++)
				assert_int_equal(data_of(t, q, i)[k],
						 byte_of((64 * q + 8 * i) * 512 + k));
			assert_int_equal(data_of(t, q, i)[4096], 0xaa);
		}
	}

	/* The sync, first of many, is what surely has to wait. */
	virtio_pause(t->d);
	for (q = 0; q < QUEUES; q++) {
		offer(t, q, 0, VIRTIO_BLK_T_FLUSH, 0, 0);
		for (i = 1; i < DEEP; i++) {
			memset(data_of(t, q, i), (int)(16 * q + i), 4096);
			offer(t, q, i, VIRTIO_BLK_T_OUT, 1024 + 64 * q + 8 * i, 4096);
		}
	}
	virtio_resume(t->d);
	for (q = 0; q < QUEUES; q++)
		drv_kick(t, q);
	for (q = 0; q < QUEUES; q++) {
		take_all(t, q, DEEP);
		for (i = 0; i < DEEP; i++)
			assert_int_equal(status_of(t, q, i), VIRTIO_BLK_S_OK);
		for (i = 1; i < DEEP; i++) {
			assert_int_equal(pread(f->fd[0], got, 4096, (1024 + 64 * q + 8 * i) * 512),
					 4096);
			for (k = 0; k < 4096; k++)
				assert_int_equal(got[k], 16 * q + i);
		}
	}
	assert_int_equal(rings("maps") > 0, expect_ring);
}

static bool have_ring;

static void need_ring(void)
{
	if (have_ring)
		return;
	print_message("this host has no io_uring, or no disk below this directory\n");
	skip();
}

static void test_deep(void **state)
{
	struct virtio_blk_config cfg;
	struct fix *f = *state;

	virtio_config_read(f->t.d, 0, &cfg, 60);
	assert_int_equal(cfg.num_queues, QUEUES);
	assert_true(f->t.d->features_offered & VIRTIO_F(VIRTIO_BLK_F_MQ));
	assert_int_equal(f->t.d->nqueues, QUEUES);
	deep_work(f, have_ring);
}

/* Bad requests among good ones, and a file that ends early. */
static void test_C_deep_bad(void **state)
{
	struct fix *f = *state;
	struct drv *t = &f->t;
	unsigned i;

	assert_int_equal(ftruncate(f->fd[0], 4096 + 512), 0);
	offer(t, 0, 0, VIRTIO_BLK_T_IN, 0, 4096);
	offer(t, 0, 1, VIRTIO_BLK_T_IN, DISK_BYTES / 512, 512);
	offer(t, 0, 2, VIRTIO_BLK_T_IN, 8, 4096); /* the file's last 512 bytes, and no more */
	offer(t, 0, 3, VIRTIO_BLK_T_IN, 16, 4096);
	offer(t, 0, 4, 77, 0, 512);
	drv_kick(t, 0);
	take_all(t, 0, 5);
	assert_int_equal(status_of(t, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(status_of(t, 0, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(t, 0, 2), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(t, 0, 3), VIRTIO_BLK_S_IOERR);
	assert_int_equal(status_of(t, 0, 4), VIRTIO_BLK_S_UNSUPP);
	/* No place for a status in the middle of good ones: broken; after a reset all is well. */
	for (i = 0; i < 4; i++)
		offer(t, 0, i, VIRTIO_BLK_T_IN, 0, 4096);
	drv_desc(t, 0, 6, SLOT(0, 2), 16, 0, 0);
	drv_kick(t, 0);
	assert_true(drv_wait_broken(t));
	virtio_reset(t->d);
	assert_int_equal(drv_start(t, t->d, 0), 0);
	for (i = 0; i < DEEP; i++)
		offer(t, 0, i, VIRTIO_BLK_T_IN, 0, 4096);
	drv_kick(t, 0);
	take_all(t, 0, DEEP);
	for (i = 0; i < DEEP; i++)
		assert_int_equal(status_of(t, 0, i), VIRTIO_BLK_S_OK);
}

/* ---- completions after the end ---- */

struct ending {
	struct virtio_dev *d;
	void (*how)(struct virtio_dev *d);
	bool over;
};

static void *end_it(void *arg)
{
	struct ending *e = arg;

	e->how(e->d);
	__atomic_store_n(&e->over, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void stop_queue(struct virtio_dev *d)
{
	(void)virtio_queue_stop(d, 0);
}

/*
 * A disk that is a pipe: io_uring reads from it wait until somebody writes. Whatever ends the queue meanwhile must not
 * return before the kernel has given the buffers back, and nothing may be written to guest memory from then on.
 */
static void hold_and_end(void (*how)(struct virtio_dev *d))
{
	struct vm_segment seg = {.len = DISK_BYTES};
	struct vm_disk d = {.segs = &seg, .nsegs = 1, .serial = "pipe", .readonly = true};
	static uint8_t bytes[3 * 4096];
	struct ending e = {.how = how};
	struct drv t;
	pthread_t th;
	unsigned i;
	int p[2];

	need_ring();
	assert_int_equal(pipe(p), 0);
	seg.fd = p[0];
	drv_init(&t);
	assert_int_equal(drv_start(&t, virtio_blk_new(t.l, &t.m, &d, NULL), 0), 0);
	e.d = t.d;
	virtio_pause(t.d);
	for (i = 0; i < 3; i++)
		offer(&t, 0, i, VIRTIO_BLK_T_IN, 8 * i, 4096);
	virtio_resume(t.d);
	/* The last of them has no company but those before it, which are in the ring. */
	drv_kick(&t, 0);
	for (i = 0; i < 3000 && __atomic_load_n(&t.d->worker[0].in_flight, __ATOMIC_SEQ_CST) < 3;
	     i++)
		drv_turns(&t, 1);
	assert_int_equal(t.d->worker[0].in_flight, 3);
	assert_int_equal(pthread_create(&th, NULL, end_it, &e), 0);
	for (i = 0; i < 50; i++) {
		drv_turns(&t, 1);
		assert_false(__atomic_load_n(&e.over, __ATOMIC_SEQ_CST));
	}
	memset(bytes, 0x33, sizeof(bytes));
	assert_int_equal(write(p[1], bytes, sizeof(bytes)), sizeof(bytes));
	pthread_join(th, NULL);
	/* From here on the memory is the driver's. */
	memset(gmem_ptr(&t.m, DRV_USED(0), 0x1000), 0xa5, 0x1000);
	for (i = 0; i < 3; i++) {
		assert_int_equal(status_of(&t, 0, i), VIRTIO_BLK_S_OK);
		memset(data_of(&t, 0, i), 0x5a, 4096);
	}
	(void)!write(p[1], bytes, sizeof(bytes));
	drv_turns(&t, 30);
	for (i = 0; i < 0x1000; i++)
		assert_int_equal(*(uint8_t *)gmem_ptr(&t.m, DRV_USED(0) + i, 1), 0xa5);
	for (i = 0; i < 3; i++)
		assert_int_equal(data_of(&t, 0, i)[0], 0x5a);
	if (how == virtio_free)
		t.d = NULL;
	drv_fini(&t);
	close(p[0]);
	close(p[1]);
}

static void test_C_reset_in_flight(void **state)
{
	hold_and_end(virtio_reset);
}

static void test_C_stop_in_flight(void **state)
{
	hold_and_end(stop_queue);
}

static void test_C_close_in_flight(void **state)
{
	hold_and_end(virtio_free);
}

/* ---- hosts without io_uring ---- */

/* From now on this system call, with this second argument unless it is ~0, fails in this process. */
static void refuse(long nr, uint32_t arg1, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arg1, 0, arg1 == ~0u ? 0 : 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {ARRAY_SIZE(code), code};

	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p), 0);
}

static const struct refusal {
	const char *what;
	long nr;
	uint32_t arg1;
	int err;
} refusals[] = {
	{"an old kernel", SYS_io_uring_setup, ~0u, ENOSYS},
	{"kernel.io_uring_disabled, a container's seccomp", SYS_io_uring_setup, ~0u, EPERM},
	{"locked memory is used up", SYS_io_uring_setup, ~0u, ENOMEM},
	{"no restrictions", SYS_io_uring_register, IORING_REGISTER_RESTRICTIONS, EINVAL},
	{"no files", SYS_io_uring_register, IORING_REGISTER_FILES, EMFILE},
	{"refused when it is opened", SYS_io_uring_register, IORING_REGISTER_ENABLE_RINGS, EPERM},
	{"refused when it is used", SYS_io_uring_enter, ~0u, EPERM},
	{"and no room", SYS_io_uring_enter, ~0u, EAGAIN},
};

static void without(const struct refusal *r)
{
	void *state = NULL;

	refuse(r->nr, r->arg1, r->err);
	setup_deep(&state);
	/* Mapped before it is refused. */
	deep_work(state, r->nr == SYS_io_uring_enter || r->arg1 == IORING_REGISTER_ENABLE_RINGS);
	teardown(&state);
}

static void test_C_without_io_uring(void **state)
{
	size_t i;

	need_ring(); /* then the other tests show the same */
	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		int status;
		pid_t pid = fork();

		if (!pid) {
			without(&refusals[i]);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status)
			fail_msg("with io_uring refused (%s): status %x", refusals[i].what, status);
	}
}

/* What the ring itself refuses, whoever may submit to it. */
static void test_C_ring_restricted(void **state)
{
	struct fix *f = *state;
	struct iovec iov = {gmem_ptr(&f->t.m, BUF, 512), 512};
	struct uring *u = uring_new(8, &f->fd[0], 1, false);
	static const uint8_t never[] = {IORING_OP_WRITEV,  IORING_OP_OPENAT,     IORING_OP_CONNECT,
					IORING_OP_SENDMSG, IORING_OP_READ_FIXED, IORING_OP_NOP};
	struct io_uring_restriction r = {.opcode = IORING_RESTRICTION_SQE_OP};
	uint64_t tag;
	size_t i;
	int res;

	need_ring();
	assert_non_null(u);
	assert_int_equal(uring_open(u), 0);
	assert_true(uring_prepare(u, URING_READ, 0, &iov, 1, 0, 1));
	assert_int_equal(uring_enter(u, 1), 1);
	assert_true(uring_next(u, &tag, &res));
	assert_int_equal(tag, 1);
	assert_int_equal(res, 512);
	/* No syncs on a ring for reading; nothing else on any, such as writing or opening; no file but those named. */
	assert_true(uring_prepare(u, URING_DATASYNC, 0, NULL, 0, 0, 3));
	assert_int_equal(uring_enter(u, 1), 1);
	assert_true(uring_next(u, &tag, &res));
	assert_int_equal(res, -EACCES);
	for (i = 0; i < ARRAY_SIZE(never); i++) {
		assert_true(uring_prepare(u, URING_READ, 0, &iov, 1, 0, 5));
		u->sqes[(u->tail - 1) & (u->p.sq_entries - 1)].opcode = never[i];
		assert_int_equal(uring_enter(u, 1), 1);
		assert_true(uring_next(u, &tag, &res));
		assert_int_equal(res, -EACCES);
	}
	assert_true(uring_prepare(u, URING_READ, 0, &iov, 1, 0, 6));
	u->sqes[(u->tail - 1) & (u->p.sq_entries - 1)].flags =
		0; /* a descriptor of the process's */
	assert_int_equal(uring_enter(u, 1), 1);
	assert_true(uring_next(u, &tag, &res));
	assert_int_equal(res, -EACCES);
	assert_true(uring_prepare(u, URING_READ, 1, &iov, 1, 0, 4));
	assert_int_equal(uring_enter(u, 1), 1);
	assert_true(uring_next(u, &tag, &res));
	assert_int_equal(res, -EBADF);
	/* Nothing about it can be changed. */
	assert_int_equal(syscall(SYS_io_uring_register, uring_fd(u), IORING_REGISTER_RESTRICTIONS,
				 &r, 1),
			 -1);
	assert_int_equal(syscall(SYS_io_uring_register, uring_fd(u), IORING_REGISTER_FILES_UPDATE,
				 NULL, 0),
			 -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(syscall(SYS_io_uring_register, uring_fd(u), IORING_UNREGISTER_FILES, NULL,
				 0),
			 -1);
	assert_false(uring_next(u, &tag, &res));
	uring_free(u);
	uring_free(NULL);
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
		cmocka_unit_test_setup_teardown(test_C_ranges, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_C_readonly, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_BC_odd_requests, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_C_truncated, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup_rw, teardown),
		cmocka_unit_test_setup_teardown(test_without_flush, setup_rw, teardown),
		cmocka_unit_test_setup_teardown(test_C_clear, setup_rw, teardown),
		cmocka_unit_test(test_C_clear_too_long),
		cmocka_unit_test_setup_teardown(test_AC_reset_busy, setup_rw, teardown),
		cmocka_unit_test_setup_teardown(test_bad_config, setup_ro, teardown),
		cmocka_unit_test_setup_teardown(test_deep, setup_deep, teardown),
		cmocka_unit_test_setup_teardown(test_C_deep_bad, setup_deep, teardown),
		cmocka_unit_test(test_C_reset_in_flight),
		cmocka_unit_test(test_C_stop_in_flight),
		cmocka_unit_test(test_C_close_in_flight),
		cmocka_unit_test(test_C_without_io_uring),
		cmocka_unit_test_setup_teardown(test_C_ring_restricted, setup_rw, teardown),
	};
	int fd = temp(512);
	struct uring *u = uring_new(8, &fd, 1, true);
	struct statfs st;

	have_ring = u && !fstatfs(fd, &st) && st.f_type != TMPFS_MAGIC;
	uring_free(u);
	close(fd);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
