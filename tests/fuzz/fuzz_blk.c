// links: vmm core
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_blk.c - the disk. Hostile: request headers, sectors, ranges to discard, where the status byte goes. Two disks of
 * several queues take turns: one of three read-only segments, of which no byte may ever change, and a writable one. What is
 * offered in company goes through io_uring; once a queue is reset nothing may be in flight.
 */
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "tests/fuzz/fuzz_virtio.h"

/* Nothing is in the page cache, and no file is in memory: every read in company goes through the ring. */
static ssize_t not_cached(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	errno = EAGAIN;
	return -1;
}
static int not_known(int fd, struct statfs *st)
{
	return -1;
}
#define preadv2 not_cached
#define fstatfs not_known
#include "vmm/disk.c"

#define RO_BYTES 4096u
#define RW_BYTES 65536u
#define QUEUES   3

static struct guest ro, rw;
static const uint8_t *ro_map;
static uint8_t ro_was[RO_BYTES];

static void make(struct guest *g, int fd, bool readonly)
{
	struct vm_segment segs[3] = {{.fd = fd, .off = 0, .len = 1024},
				     {.fd = fd, .off = 2048, .len = 512},
				     {.fd = fd, .off = 3072, .len = 100}};
	struct vm_segment whole = {.fd = fd, .off = 0, .len = RW_BYTES};
	struct vm_disk d = {.segs = readonly ? segs : &whole,
			    .nsegs = readonly ? 3 : 1,
			    .readonly = readonly,
			    .queues = QUEUES,
			    .serial = "fuzz"};

	guest_init(g);
	guest_take(g, virtio_blk_new(g->l, &g->m, &d, NULL));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int fd;

	memset(ro_was, 0x5a, sizeof(ro_was));
	fd = fuzz_memfd(ro_was, sizeof(ro_was));
	ro_map = mmap(NULL, RO_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	FUZZ_CHECK(ro_map != MAP_FAILED);
	make(&ro, fd, true);
	fd = fuzz_memfd(NULL, 0);
	FUZZ_CHECK(!ftruncate(fd, RW_BYTES));
	make(&rw, fd, false);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest *g = size && data[0] & 1 ? &ro : &rw;
	unsigned w;

	if (!size)
		return 0;
	guest_run(g, data + 1, size - 1);
	for (w = 0; w < QUEUES; w++)
		FUZZ_CHECK(!g->d->worker[w].in_flight);
	FUZZ_CHECK(!memcmp(ro_map, ro_was, RO_BYTES));
	return 0;
}
